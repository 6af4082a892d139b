"""The pilot (`policy.only`): the people for whom operations are sent. Pure.

A person who left the scope is in the pilot if one of its entries named them when they were last in scope, or while they
were suspended and still bound, and stands in the settings still. So a leaver of the pilot is locked, and another pilot
later is not about those of the first. With the name of a group its id is kept: a group that is renamed after its member
left is the same entry under a new name. Whom the settings name by an address is meant under their next one too, until
somebody else has it.
Nor does a pilot keep our own lock of one of its people who is back in scope outside of it. While the settings name a
pilot that may be another one than was meant, that goes for the people of any pilot. For whoever was never in it nothing
is sent: whom our own lock keeps out then is told with the way out, as long as it lasts.
"""

from reconciler.addresses import alike_key
from reconciler.model import GROUP_NAMES, GROUPS, Account, Directory, User
from reconciler.pairs import Match
from reconciler.policy import Pilot, Policy

KEPT_LOCKED = (
    "in scope, but our own lock keeps them out of Keeper: they are outside the pilot (policy.only), so letting them in "
    "is planned, not sent. To let them in, add their address to policy.only, or end the pilot"
)
"""The words for whom `kept_locked` is about."""


def entries_for(policy: Policy, directory: Directory, user: User | None, account: Account | None) -> frozenset[str]:
    """List the entries of the pilot that name a user who is bound, as they are stored (`group:NAME` with `id:GROUP`,
    `user:ADDRESS`); none without a pilot. `account`: theirs, which knows by what address they were named before."""
    only = policy.only
    if only is None or user is None or not user.bound:
        return frozenset()
    groups = [directory.groups[group] for group in user.groups if group in directory.groups]
    named = [group for group in groups if group.name in only.groups]
    found = {f"group:{group.name}" for group in named} | {f"id:{group.id}" for group in named}
    address = alike_key(user.email)
    if address in only.users:
        found.add(f"user:{address}")
    return frozenset(found) | _former_address(only, directory, account, address)


def remembered(
    policy: Policy, directory: Directory, user: User | None, account: Account, *, misnamed: bool
) -> frozenset[str]:
    """Return the entries to store for an account: those of now for a user in scope, else those of when last in scope,
    and those of now of whoever is suspended and bound still.

    What JumpCloud does not say clearly takes none away, nor does a pilot that is `misnamed`, nor anything while our own
    lock lasts: whoever was locked as one of the pilot is unlocked as one of it.
    """
    now = entries_for(policy, directory, user, account)
    if user is None or not user.belongs:
        ids = {entry.removeprefix("id:") for entry in account.pilot} & directory.groups.keys()
        return account.pilot | now | {f"group:{directory.groups[group].name}" for group in ids}
    if _unclear(directory, user) or _locked(account):
        return account.pilot | now
    return now | _of_no_group_here(account.pilot, directory, user) if misnamed else now


def _former_address(only: Pilot, directory: Directory, account: Account | None, address: str) -> frozenset[str]:
    """The entries of the pilot that name a person by an address before this one, which nobody has now."""
    if account is None:
        return frozenset()
    named = {entry.removeprefix("user:") for entry in account.pilot if entry.startswith("user:")} & only.users
    if named := named - {address}:
        named -= {alike_key(user.email) for user in directory.users.values()}
    return frozenset(f"user:{address}" for address in named)


def _of_no_group_here(entries: frozenset[str], directory: Directory, user: User) -> frozenset[str]:
    """The entries of groups that are not in scope under the name that was remembered: these the user may be in still.
    That somebody left a group which is in scope is plain, whatever the pilot is called."""
    ids = {entry.removeprefix("id:") for entry in entries if entry.startswith("id:")}
    if ids and not ids & user.groups and ids <= directory.groups.keys():
        return frozenset()
    here = {f"group:{group.name}" for group in directory.groups.values()}
    return entries - here - {f"id:{group}" for group in directory.groups.keys() - user.groups}


def in_pilot(
    policy: Policy, directory: Directory, user: User | None, account: Account | None, *, misnamed: bool = False
) -> bool:
    """Whether operations on this person are sent: everybody without a pilot, else whoever is in it now, or was when
    last in scope. `misnamed`: see there."""
    if policy.only is None or entries_for(policy, directory, user, account):
        return True
    if user is not None and user.belongs and not (_unclear(directory, user) or _locked(account)):
        return False
    if user is not None and alike_key(user.email) in policy.only.users:
        return True
    if account is None:
        return False
    back = user is not None and user.belongs and _locked(account)
    return not left_outside(policy, account) or (misnamed and back and bool(account.pilot))


def left_outside(policy: Policy, account: Account) -> bool:
    """Whether a person who left the scope is outside the pilot, by the account alone."""
    if policy.only is None:
        return False
    return alike_key(account.email) not in policy.only.users and not account.pilot & _entries(policy.only)


def kept_locked(policy: Policy, account: Account) -> bool:
    """Whether our lock keeps a person out who is in scope, and whom the pilot gives nothing, by the account alone: one
    who was never in it. What our lock has taken out of the node counts too, as it does with an invitation."""
    shut = account.managed and account.locked_by_us and (account.gone or not account.active)
    # A protected person is not created anew in any case.
    spared = account.gone and bool(account.protected_as)
    return shut and account.left_at is None and not spared and left_outside(policy, account)


def names_nobody(policy: Policy, directory: Directory, matched: Match | None = None) -> bool:
    """Whether there is a pilot and nobody in scope is in it. Without the accounts that are `matched`, addresses count
    as they are now only."""
    return policy.only is not None and not any(
        user.in_scope and entries_for(policy, directory, user, matched.account(user.id) if matched else None)
        for user in directory.users.values()
    )


def misnamed(policy: Policy, directory: Directory, matched: Match, *, whole: bool = True) -> bool:
    """Whether the pilot may be another one than was meant: a group of it was renamed, or an entry is misspelt.

    An address that nobody in scope has is mostly that of a leaver. It counts only where the pilot names nobody, as a
    read of the `whole` scope tells.
    """
    groups, users = _unmatched(policy, directory)
    return bool(groups) or (whole and bool(users) and names_nobody(policy, directory, matched))


def unmatched(policy: Policy, directory: Directory) -> str:
    """Say which entries of the pilot name no group in scope, or no user; "" if each names one."""
    groups, users = _unmatched(policy, directory)
    said = [f"no group in scope is named {name}" for name in sorted(groups)]
    return ", ".join([*said, *(f"nobody in scope has the address {address}" for address in sorted(users))])


def may_be_unread(policy: Policy, directory: Directory) -> bool:
    """Whether a group that can't be read now may be one which the pilot names."""
    groups, _ = _unmatched(policy, directory)
    lists = {GROUPS, GROUP_NAMES}.intersection(directory.unread)
    return bool(groups and (directory.unclear_groups or lists))


def _unmatched(policy: Policy, directory: Directory) -> tuple[frozenset[str], frozenset[str]]:
    """The names of groups and the addresses in the pilot that are nobody's in scope."""
    if policy.only is None:
        return frozenset(), frozenset()
    groups = policy.only.groups - {group.name for group in directory.groups.values()}
    return groups, policy.only.users - {alike_key(user.email) for user in directory.users.values()}


def _unclear(directory: Directory, user: User) -> bool:
    """Whether it is not known in which groups in scope a user is, or how these are called."""
    return user.teams_unknown or user.unsure or not directory.unclear_groups.isdisjoint(user.groups)


def _locked(account: Account | None) -> bool:
    """Whether our own lock lasts."""
    return account is not None and account.locked_by_us and not account.active


def _entries(pilot: Pilot) -> frozenset[str]:
    return frozenset({f"group:{name}" for name in pilot.groups} | {f"user:{address}" for address in pilot.users})
