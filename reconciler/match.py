"""Who is whom: pairs JumpCloud's users and groups with Keeper's users and teams. Pure.

A match by id beats one by `externalId`, which beats one by address (users) or by name (teams). What cannot be paired
without giving one person another's vault is a conflict: it is reported and waits for a person.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from reconciler.match_teams import match_teams, wanted_team_attributes
from reconciler.model import (
    DISPLAY_NAME,
    EXTERNAL_ID,
    USER_NAME,
    Account,
    Directory,
    Membership,
    Snapshot,
    Standing,
    Status,
    Takeover,
    Team,
    User,
    fold,
    normal,
    same_address,
    typed,
)
from reconciler.pairs import Match, tied_to_another
from reconciler.policy import Policy


def protection(policy: Policy, user: User | None, account: Account | None) -> str:
    """The entry of `policy.protect` that covers this person, or "". It sticks to the account while it is listed."""
    addresses = [fold(user.email)] if user and user.email else []
    if account:
        addresses += [fold(account.email), account.protected_as]
    return next((address for address in addresses if address and address in policy.protect), "")


def in_pilot(policy: Policy, directory: Directory, user: User | None, account: Account | None) -> bool:
    """Whether operations on this person are sent: everybody without a pilot, else whoever is in it now, or was when
    last in scope."""
    if policy.only is None:
        return True
    was = account is not None and account.pilot
    if user is None or not user.bound:
        return was
    if was and (user.teams_unknown or not directory.unclear_groups.isdisjoint(user.groups)):
        return True
    names = {directory.groups[group].name for group in user.groups if group in directory.groups}
    return bool(names & policy.only.groups) or fold(user.email) in policy.only.users


def wanted_attributes(user: User) -> dict[str, str]:
    """The SCIM attributes that a user should have; an empty value is one that JumpCloud says nothing about."""
    both = bool(user.given_name and user.family_name)
    return {
        USER_NAME: user.email,
        EXTERNAL_ID: user.id,
        DISPLAY_NAME: user.display_name or (f"{user.given_name} {user.family_name}" if both else ""),
        "name.givenName": user.given_name,
        "name.familyName": user.family_name,
    }


def same(attribute: str, left: str, right: str) -> bool:
    """Whether two values of an attribute are the same: addresses case-folded, everything else in NFC."""
    return fold(left) == fold(right) if attribute == USER_NAME else normal(left) == normal(right)


def match(directory: Directory, snapshot: Snapshot, policy: Policy, now: datetime) -> Match:
    """Pair both sides. The accounts and teams in the result also carry what every completed read teaches: since when
    somebody is out of scope, who is protected or in the pilot, and which memberships are JumpCloud's wish."""
    result = Match(dict(snapshot.accounts), dict(snapshot.teams))
    _match_users(result, directory, snapshot, policy, now)
    match_teams(result, directory, snapshot, policy)
    _remember(result, directory, snapshot, policy, now)
    return result


def _match_users(result: Match, directory: Directory, snapshot: Snapshot, policy: Policy, now: datetime) -> None:
    known = {
        a.jumpcloud_id: a for a in snapshot.accounts.values() if a.jumpcloud_id and a.standing is not Standing.UNMANAGED
    }
    live = [a for _, a in sorted(snapshot.accounts.items()) if not a.gone]
    by_external: dict[str, list[Account]] = defaultdict(list)
    by_address: dict[str, list[Account]] = defaultdict(list)
    for account in live:
        if account.standing is Standing.UNMANAGED and account.shown.get(EXTERNAL_ID):
            by_external[account.shown[EXTERNAL_ID]].append(account)
        by_address[fold(account.email)].append(account)
    for account in snapshot.accounts.values():
        if account.gone and account.standing is Standing.DISOWNED:
            by_address[fold(account.email)].append(account)

    users = [directory.users[user_id] for user_id in sorted(directory.users)]
    claims = Counter(fold(user.email) for user in users if user.in_scope and user.email)
    taken: set[str] = set()
    open_users: list[User] = []
    for user in users:
        account_known = known.get(user.id)
        if account_known is None or (account_known.managed and account_known.gone):
            open_users.append(user)
            continue
        taken.add(account_known.keeper_id)
        if account_known.managed:
            result.account_of[user.id] = account_known.keeper_id
        else:
            result.disowned[user.id] = account_known.keeper_id

    rest: list[User] = []
    for user in open_users:
        found = [a for a in by_external.get(user.id, ()) if a.keeper_id not in taken]
        if len(found) > 1:
            found = [a for a in found if fold(a.email) == fold(user.email)] or found
        # Whoever left before we came is adopted in the reviewed first plan only: it leads to their lock.
        adoptable = user.in_scope or (not snapshot.reviewed and has_left(user))
        if len(found) == 1 and adoptable:
            taken.add(found[0].keeper_id)
            _adopt(result, user, found[0], known.get(user.id), policy, now)
        elif len(found) > 1 and user.in_scope:
            result.conflicts[user.id] = (
                f"{len(found)} Keeper users carry this person's JumpCloud id; nothing was linked, created or given. "
                "Delete the wrong one in Keeper's Admin Console, then run a resync"
            )
        else:
            rest.append(user)

    for user in rest:
        gone = known.get(user.id)
        if user.in_scope and user.email:
            _match_by_address(result, directory, user, by_address, claims, taken, gone, policy, now)
        if user.id not in result.account_of and gone is not None and gone.managed:
            result.account_of[user.id] = gone.keeper_id
    _adopt_again(result, directory, live, taken, known, policy, now)

    for user_id, keeper_id in result.account_of.items():
        user = directory.users[user_id]
        if not (user.in_scope and user.email) or user_id in result.conflicts:
            continue
        account = result.accounts[keeper_id]
        others = [a for a in by_address.get(fold(user.email), ()) if a.keeper_id != keeper_id and not a.gone]
        if fold(account.email) != fold(user.email) and others:
            result.conflicts[user_id] = (
                f"the new JumpCloud address {user.email} belongs to another Keeper user, whose vault that log-in would "
                f"open; {account.email} gets nothing more until the addresses are sorted out in JumpCloud or Keeper"
            )

    _take_over(result, directory, live, known, taken, policy, now)


def has_left(user: User) -> bool:
    """Whether JumpCloud says that this user should not be able to use Keeper; of a staged user or a state that we
    don't know, it says nothing."""
    return user.status is Status.SUSPENDED or (not user.bound and user.status is Status.ACTIVE)


def _match_by_address(
    result: Match,
    directory: Directory,
    user: User,
    by_address: Mapping[str, list[Account]],
    claims: Mapping[str, int],
    taken: set[str],
    gone: Account | None,
    policy: Policy,
    now: datetime,
) -> None:
    found = by_address.get(fold(user.email), [])
    if claims[fold(user.email)] > 1:
        result.conflicts[user.id] = (
            f"more than one JumpCloud user in scope has the address {user.email}; nobody was created or linked "
            "for it. Give each a different address in JumpCloud"
        )
        return
    if not found:
        return
    found = [account for account in found if not account.gone] or found
    if len(found) > 1:
        result.conflicts[user.id] = (
            f"{len(found)} Keeper users have the address {user.email}; nothing was linked or created"
        )
        return
    account = found[0]
    if not same_address(account.email, user.email):
        result.conflicts[user.id] = (
            f"the address {user.email} differs from {account.email} in Keeper by letters that only count as the same "
            "(ß and ss): nothing was linked or created. Correct the address in JumpCloud"
        )
        return
    if account.standing is Standing.DISOWNED:
        result.disowned[user.id] = account.keeper_id
        return
    in_use = any(
        keeper_id == account.keeper_id and other != user.id and directory.users[other].in_scope
        for other, keeper_id in result.account_of.items()
    )
    consented = account.takeover is Takeover.BY_ADDRESS and not in_use
    tied = not consented and (account.keeper_id in taken or tied_to_another(account, user.id))
    if tied:
        result.conflicts[user.id] = (
            f"the address {user.email} belongs to a Keeper user who is tied to another JumpCloud id (a recycled "
            "address, or somebody who came back under a new JumpCloud user); linking them would open that vault to "
            f"this log-in, so nothing was linked or created. If they are the same person: "
            f"reconciler adopt {typed(user.email)}"
        )
        return
    taken.add(account.keeper_id)
    for other, keeper_id in list(result.account_of.items()):
        if keeper_id == account.keeper_id:
            del result.account_of[other]
    _adopt(result, user, account, gone, policy, now)


def _adopt(result: Match, user: User, account: Account, gone: Account | None, policy: Policy, now: datetime) -> None:
    if entry := protection(policy, user, account):
        result.shielded.add(user.id)
        result.accounts[account.keeper_id] = replace(account, protected_as=entry)
        return
    external = account.shown.get(EXTERNAL_ID, "")
    result.accounts[account.keeper_id] = replace(
        account,
        standing=Standing.MANAGED,
        jumpcloud_id=user.id,
        former_external_id=account.former_external_id or (external if external != user.id else ""),
        asked={},
        settled={},
        takeover=Takeover.NONE,
        # An administrator's lock on somebody who should be locked anyway is as good as ours: it ends on return.
        locked_by_us=account.locked_by_us or (not account.active and has_left(user)),
        left_at=now if has_left(user) else None,
        review_lock=has_left(user),
    )
    if gone is not None:
        result.accounts.pop(gone.keeper_id, None)
    result.account_of[user.id] = account.keeper_id
    result.adopted.append(account.keeper_id)


def _adopt_again(
    result: Match,
    directory: Directory,
    live: list[Account],
    taken: set[str],
    known: Mapping[str, Account],
    policy: Policy,
    now: datetime,
) -> None:
    """Who has another address since their account was given up has that account again once it is adopted."""
    for account in live:
        user = directory.users.get(account.jumpcloud_id)
        if account.managed or account.takeover is Takeover.NONE or account.keeper_id in taken:
            continue
        if user is None or not user.in_scope or user.id in result.account_of or user.id in result.conflicts:
            continue
        taken.add(account.keeper_id)
        _adopt(result, user, account, known.get(user.id), policy, now)


def _take_over(
    result: Match,
    directory: Directory,
    live: Iterable[Account],
    known: Mapping[str, Account],
    taken: set[str],
    policy: Policy,
    now: datetime,
) -> None:
    """What a person asked for with `adopt`: whoever is nobody's is out of scope. Whose user is bound, but not active
    yet, is linked to that user: JumpCloud does not say that they have left."""
    belongs: dict[str, set[str]] = defaultdict(set)
    for user in directory.users.values():
        if user.belongs:
            belongs[fold(user.email)].add(user.id)
            belongs[user.id].add(user.id)
    belongs.pop("", None)
    asked = [a for a in live if a.takeover is not Takeover.NONE and not a.managed and a.keeper_id not in taken]
    for account in sorted(asked, key=lambda a: a.shown.get(EXTERNAL_ID, "") not in directory.users):
        former = "" if account.jumpcloud_id in result.account_of else account.jumpcloud_id
        keys = (fold(account.email), account.shown.get(EXTERNAL_ID, ""), former)
        owners = {one for key in keys for one in belongs.get(key, ())}
        if len(owners) == 1:
            _take_over_for(result, directory.users[min(owners)], account, policy, now)
        # What belongs to several could be linked to none of them: that waits for a person.
        if owners:
            continue
        found_over = _taken_over(account, directory, {*known, *result.account_of}, now)
        if not protection(policy, directory.users.get(found_over.jumpcloud_id), account):
            result.accounts[account.keeper_id] = found_over
            result.adopted.append(account.keeper_id)
            if found_over.jumpcloud_id in directory.users:
                result.account_of[found_over.jumpcloud_id] = account.keeper_id


def _take_over_for(result: Match, user: User, account: Account, policy: Policy, now: datetime) -> None:
    # What belongs to somebody in scope was linked by now, or is a conflict that waits for a person.
    if user.in_scope or user.id in result.disowned:
        return
    current = result.accounts.get(result.account_of.get(user.id, ""))
    bears = user.id in (account.shown.get(EXTERNAL_ID), account.jumpcloud_id)
    alike = bears or same_address(account.email, user.email)
    tied = account.takeover is not Takeover.BY_ADDRESS and tied_to_another(account, user.id)
    if alike and not tied and (current is None or current.gone):
        _adopt(result, user, account, current, policy, now)


def _taken_over(account: Account, directory: Directory, known: Collection[str], now: datetime) -> Account:
    """A ghost that a person asked us to manage: out of scope, so it will be locked once that has been reviewed."""
    external = account.shown.get(EXTERNAL_ID, "")
    owners = (one for one in (external, account.jumpcloud_id) if one in directory.users and one not in known)
    owner = next(owners, "")
    return replace(
        account,
        standing=Standing.MANAGED,
        jumpcloud_id=owner,
        former_external_id=account.former_external_id or (external if external != owner else ""),
        takeover=Takeover.NONE,
        locked_by_us=account.locked_by_us or not account.active,
        left_at=account.left_at or now,
        review_lock=True,
    )


def _remember(result: Match, directory: Directory, snapshot: Snapshot, policy: Policy, now: datetime) -> None:
    user_of = {keeper_id: user_id for user_id, keeper_id in result.account_of.items()}
    for keeper_id, account in result.accounts.items():
        user = directory.users.get(user_of.get(keeper_id, account.jumpcloud_id))
        protected_as = protection(policy, user, account)
        if not account.managed:
            owner = account.jumpcloud_id if account.standing is Standing.DISOWNED else ""
            learnt = replace(account, protected_as=protected_as, takeover=Takeover.NONE, jumpcloud_id=owner)
            if learnt != account:
                result.accounts[keeper_id] = learnt
            continue
        belongs = user is not None and user.belongs
        in_scope = user is not None and user.in_scope
        learnt = replace(
            account,
            left_at=account.left_at
            if user is not None and user.unsure
            else None
            if belongs
            else account.left_at or now,
            protected_as=protected_as,
            takeover=Takeover.NONE,
            pilot=in_pilot(policy, directory, user, account) if policy.only else account.pilot,
            # Before the first plan is through, a leaver's lock is taken for ours: we may have forgotten it.
            locked_by_us=(account.locked_by_us and not (in_scope and account.active))
            or (not snapshot.reviewed and not account.active and not account.gone and (user is None or has_left(user)))
            # Who left, went out of this node and is back is created anew like anybody whom we had locked.
            or (account.gone and account.left_at is not None and belongs),
            review_lock=account.review_lock and not belongs,
        )
        if in_scope and account.active and not account.gone:
            assert user is not None
            asked, settled = _agreed(learnt, wanted_attributes(user))
            memberships = _wanted_are_ours(learnt.memberships, user, result.team_of)
            learnt = replace(learnt, memberships=memberships, asked=asked, settled=settled)
        if learnt != account:
            result.accounts[keeper_id] = learnt
    for group_id, team_id in result.team_of.items():
        team = result.teams[team_id]
        if not team.gone:
            asked, settled = _agreed(team, wanted_team_attributes(directory.groups[group_id]))
            result.teams[team_id] = replace(team, asked=asked, settled=settled)


def _wanted_are_ours(
    memberships: Mapping[str, Membership], user: User, team_of: Mapping[str, str]
) -> Mapping[str, Membership]:
    wanted = {team_of[group] for group in user.groups if group in team_of}
    found = {t: m for t, m in memberships.items() if t in wanted and m.shown and not m.ours}
    return {**memberships, **{t: replace(m, ours=True) for t, m in found.items()}} if found else memberships


def _agreed(row: Account | Team, wanted: Mapping[str, str]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """What both sides already agree on counts as asked for, so that a later change in Keeper shows as drift."""
    fresh = {
        attribute: value
        for attribute, value in wanted.items()
        if value and same(attribute, value, row.shown.get(attribute, "")) and row.asked.get(attribute) != value
    }
    if not fresh:
        return row.asked, row.settled
    shown = {attribute: row.shown[attribute] for attribute in fresh}
    return {**row.asked, **fresh}, {**row.settled, **shown}
