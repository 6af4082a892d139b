"""The pilot (`policy.only`): the people for whom operations are sent. Pure.

A person who left the scope is in the pilot if one of its entries named them when they were last in scope, and stands in
the settings still. So a leaver of the pilot is locked, and another pilot later is not about those of the first.
"""

from reconciler.addresses import alike_key
from reconciler.model import Account, Directory, User
from reconciler.policy import Pilot, Policy


def entries_for(policy: Policy, directory: Directory, user: User | None) -> frozenset[str]:
    """List the entries of the pilot that name a user who is bound, as they are stored (`group:NAME`, `user:ADDRESS`);
    none without a pilot."""
    if policy.only is None or user is None or not user.bound:
        return frozenset()
    names = {directory.groups[group].name for group in user.groups if group in directory.groups}
    found = {f"group:{name}" for name in names}
    return frozenset(found | {f"user:{alike_key(user.email)}"}) & _entries(policy.only)


def remembered(policy: Policy, directory: Directory, user: User | None, account: Account) -> frozenset[str]:
    """Return the entries to store for an account: those of now for a user in scope, else those of when last in scope.
    What JumpCloud does not say clearly takes none away."""
    if user is None or not user.belongs:
        return account.pilot
    now = entries_for(policy, directory, user)
    return account.pilot | now if _unclear(directory, user) else now


def in_pilot(policy: Policy, directory: Directory, user: User | None, account: Account | None) -> bool:
    """Whether operations on this person are sent: everybody without a pilot, else whoever is in it now, or was when
    last in scope."""
    if policy.only is None or entries_for(policy, directory, user):
        return True
    if user is not None and user.belongs and not _unclear(directory, user):
        return False
    listed = user is not None and alike_key(user.email) in policy.only.users
    return listed or (account is not None and not left_outside(policy, account))


def left_outside(policy: Policy, account: Account) -> bool:
    """Whether a person who left the scope is outside the pilot, by the account alone."""
    if policy.only is None:
        return False
    return alike_key(account.email) not in policy.only.users and not account.pilot & _entries(policy.only)


def names_nobody(policy: Policy, directory: Directory) -> bool:
    """Whether there is a pilot and nobody in scope is in it."""
    return policy.only is not None and not any(
        user.in_scope and entries_for(policy, directory, user) for user in directory.users.values()
    )


def unmatched(policy: Policy, directory: Directory) -> str:
    """Say which entries of the pilot name no group in scope, or no user; "" if each names one."""
    if policy.only is None:
        return ""
    groups = policy.only.groups - {group.name for group in directory.groups.values()}
    users = policy.only.users - {alike_key(user.email) for user in directory.users.values()}
    said = [f"no group in scope is named {name}" for name in sorted(groups)]
    return ", ".join([*said, *(f"nobody in scope has the address {address}" for address in sorted(users))])


def _unclear(directory: Directory, user: User) -> bool:
    """Whether it is not known in which groups in scope a user is, or how these are called."""
    return user.teams_unknown or user.unsure or not directory.unclear_groups.isdisjoint(user.groups)


def _entries(pilot: Pilot) -> frozenset[str]:
    return frozenset({f"group:{name}" for name in pilot.groups} | {f"user:{address}" for address in pilot.users})
