"""The rules of quarantine: which unreadable parts matter to whom, what is not done for them, and since when. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Set
from datetime import datetime, timedelta

from reconciler.model import (
    GROUP_NAMES,
    GROUPS,
    HIDDEN,
    UNREAD,
    USERS,
    Account,
    Directory,
    Quarantined,
    Status,
    Unclear,
    by_group,
)
from reconciler.pairs import Match
from reconciler.plan import Notice, NoticeKind, Subject
from reconciler.policy import TeamPolicy

HIDDEN_FOR = timedelta(days=1)
"""After this time the lock of somebody whose record is missing, and whom the application lists, waits for a person."""

_CORRECT = "Correct the record in JumpCloud"
_ROLE = "Let the administrator's role read all users and groups, or look at the record in JumpCloud"
_AGAIN = "The next cycle reads again; look in JumpCloud if it lasts"
_EFFECTS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("user", "email"): ("it counts as none, so nobody is created under it and Keeper's is left as it is", _CORRECT),
    ("user", "state"): ("nothing about their access is changed", _CORRECT),
    ("user", "suspended"): ("nothing about their access is changed", _CORRECT),
    ("user", "paths"): ("their teams stay as they are", _AGAIN),
    ("user", "scope"): ("nothing about their access is changed", _AGAIN),
    ("user", HIDDEN): (
        "nothing about their access is changed. If that lasts for a day, their lock waits for a person",
        _ROLE,
    ),
    ("user", UNREAD): ("nothing about their access is changed", _ROLE),
    ("team", "name"): ("its team and its members' places in it stay as they are", _CORRECT + ", or unbind the group"),
    ("list", "id"): ("whoever they are about may be missing; nobody loses anything without being read alone", _AGAIN),
    (GROUPS, "list"): (
        "groups without members get no team, and the teams of groups that nobody is in stay as they are",
        _AGAIN,
    ),
    (GROUP_NAMES, "list"): ("all teams and everybody's places in them stay as they are", _AGAIN),
    (USERS, "list"): (
        "nothing about the access of those is changed who could not be read otherwise; nobody is created without a "
        "record",
        _AGAIN,
    ),
}
_NAMES = ("Keeper keeps the value that it has", _CORRECT)


def relevant(directory: Directory, match: Match, teams: TeamPolicy) -> Iterator[tuple[Quarantined, Subject]]:
    """Select the quarantined parts about people in scope, managed accounts, groups that may have a team, and lists."""
    for one in directory.quarantined:
        if one.type == "list":
            yield one, Subject("list", one.id)
        elif one.type == "user":
            account_id = match.account_of.get(one.id)
            account = match.accounts[account_id] if account_id else None
            user = directory.users.get(one.id)
            if (user is not None and user.belongs) or (account is not None and not account.gone):
                yield one, Subject("user", _name(directory, account, one.id), one.id, account_id or "")
        else:
            team = by_group(match.teams.values()).get(one.id)
            if teams.manage and (team is None or teams.manages(team.name)):
                yield one, Subject("team", team.name if team else one.id, one.id, team.keeper_id if team else "")


def _name(directory: Directory, account: Account | None, user_id: str) -> str:
    user = directory.users.get(user_id)
    found = ((account.email if account else ""), user.email if user else "", user.display_name if user else "")
    return next(filter(None, found), user_id)


def notice(one: Quarantined, subject: Subject) -> Notice:
    """Say what could not be read, what is not done because of it, and what to do."""
    effect, way = _EFFECTS.get((one.type, one.field)) or _EFFECTS.get((one.id, one.field)) or _NAMES
    return Notice(NoticeKind.QUARANTINED, subject, f"{one.problem}: {effect}. {way}")


def remembered(
    directory: Directory, before: Mapping[str, Unclear], found: Mapping[str, Notice], now: datetime
) -> Mapping[str, Unclear]:
    """Map what is in quarantine now, by `Quarantined.key`, to when it began; what is over is forgotten. What is wrong
    with somebody's record, or that it is missing, is not over while it is not read: many are asked for by turns."""
    unread = {one.id for one in directory.quarantined if (one.type, one.field) == ("user", UNREAD)}
    if USERS in directory.unread:
        # Whom a search has found has a record, though its state may be odd.
        unfound = (user for user in directory.users.values() if user.status is Status.UNKNOWN and not user.email)
        unread |= {user.id for user in unfound if user.bound}
    kept = {key: one for key, one in before.items() if key not in found and _is_of_record(key, unread)}
    missing = {user_id for user_id in unread if Quarantined("user", user_id, HIDDEN, "").key in kept}
    told = found.keys() - {Quarantined("user", user_id, UNREAD, "").key for user_id in missing}
    fresh = {
        key: Unclear(before[key].since if key in before else now, found[key].subject.name, found[key].message)
        for key in told
    }
    return dict(sorted({**fresh, **kept}.items()))


def _is_of_record(key: str, users: Set[str]) -> bool:
    """Whether such a key is about the own record of one of these users, or a field of it."""
    user_id, _, field = key.partition(" ")
    return user_id in users and field not in ("paths", "scope", UNREAD)


def hidden_since(directory: Directory, before: Mapping[str, Unclear], now: datetime) -> dict[str, datetime]:
    """By JumpCloud id, since when the record of somebody is missing whom the application lists."""
    return {
        one.id: before[one.key].since if one.key in before else now
        for one in directory.quarantined
        if one.type == "user" and one.field == HIDDEN
    }


def unread_words(lists: Iterable[str]) -> str:
    """Name the lists of JumpCloud that could not be had, for a sentence."""
    return f"JumpCloud's {' and '.join(f'list of {name}' for name in lists)}"
