"""Records of Keeper that cannot be read in full: what is kept, what is not done about them, what is told. Pure.

A record with a row in the snapshot counts as it was last read. One without a row counts for nothing but its address,
its name and its externalId: nobody is created, adopted or linked there.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from reconciler.addresses import alike_key
from reconciler.model import (
    DISPLAY_NAME,
    EXTERNAL_ID,
    USER_NAME,
    Account,
    Directory,
    KeeperTeam,
    KeeperUser,
    Listing,
    OddRecord,
    Snapshot,
    normal,
)
from reconciler.plan import Notice, NoticeKind, Subject

_NEEDED = frozenset({USER_NAME, EXTERNAL_ID, "active", "groups"})
"""The fields of a user without which there is no row for it; of a team, every field is needed."""


def lacks_row(record: KeeperUser | KeeperTeam) -> bool:
    """Whether too little of a new record can be read to make a row of it."""
    if isinstance(record, KeeperTeam):
        return bool(record.unreadable)
    return not _NEEDED.isdisjoint(record.unreadable)


def odd_records(listing: Listing) -> tuple[OddRecord, ...]:
    """Collect the records that a listing could not read in full."""
    found = [
        *listing.unread,
        *(_user(one) for one in listing.users.values() if one.unreadable),
        *(_record("team", one, DISPLAY_NAME) for one in listing.teams.values() if one.unreadable),
    ]
    return tuple(sorted(found, key=lambda one: (one.type, one.keeper_id, one.name)))


def _record(type: str, one: KeeperUser | KeeperTeam, name: str) -> OddRecord:
    attributes = one.attributes
    return OddRecord(type, attributes.get(name, ""), one.id, attributes.get(EXTERNAL_ID, ""), one.unreadable)


def _user(one: KeeperUser) -> OddRecord:
    shown = {name: value for name, value in one.attributes.items() if name not in one.unreadable}
    teams = None if one.teams is None else tuple(sorted(one.teams))
    return replace(_record("user", one, USER_NAME), shown=shown, active=one.active, teams=teams)


def blocked_users(directory: Directory, snapshot: Snapshot) -> dict[str, str]:
    """By JumpCloud id, the people in scope whose address or id a record without a row has, with words that say so."""
    alone = [one for one in snapshot.odd if one.type == "user" and _row(snapshot, one) is None]
    if not alone:
        return {}
    by_address = {alike_key(one.name): one for one in alone if one.name}
    by_id = {one.external_id: one for one in alone if one.external_id}
    blocked: dict[str, str] = {}
    for user in directory.users.values():
        by = "JumpCloud id" if user.id in by_id else "address"
        one = by_id.get(user.id) or by_address.get(alike_key(user.email))
        if user.in_scope and one is not None:
            blocked[user.id] = (
                f"Keeper has a user with this {by} whose record cannot be read ({_problem(one)}): nobody was created "
                f"or linked. {_LOOK['user']}"
            )
    return blocked


def _row(snapshot: Snapshot, one: OddRecord) -> Account | None:
    """The row of a user whose record can't be read in full. A mere memory is none: what it was is not what it is."""
    account = snapshot.accounts.get(one.keeper_id)
    return None if account is None or account.bygone else account


def blocked_groups(directory: Directory, snapshot: Snapshot) -> dict[str, str]:
    """By JumpCloud id, the groups whose name or id a team without a row has, with words that say so."""
    alone = [one for one in snapshot.odd if one.type == "team" and one.keeper_id not in snapshot.teams]
    if not alone:
        return {}
    by_name = {normal(one.name): one for one in alone if one.name}
    by_id = {one.external_id: one for one in alone if one.external_id}
    return {
        group.id: f"Keeper has a team with this {'id' if group.id in by_id else 'name'} that cannot be read "
        f"({_problem(one)}): nothing was queued or linked. {_LOOK['team']}"
        for group in directory.groups.values()
        if (one := by_id.get(group.id) or by_name.get(normal(group.name)))
    }


def may_be(one: OddRecord, key: str, address: str) -> bool:
    """Whether a quarantined user may be the account that was created for this JumpCloud id and address."""
    return one.type == "user" and (one.external_id == key or alike_key(one.name) == alike_key(address))


def hides_lock(snapshot: Snapshot, keeper_id: str) -> bool:
    """Whether the record of this user does not tell if the user is locked."""
    return keeper_id in with_hidden_locks(snapshot.odd)


def with_hidden_locks(odd: Iterable[OddRecord]) -> frozenset[str]:
    """The Keeper ids of users whose record does not tell if they are locked."""
    users = (one for one in odd if one.type == "user")
    return frozenset(one.keeper_id for one in users if not one.fields or "active" in one.fields)


def may_be_locked(snapshot: Snapshot, account: Account) -> bool:
    """Whether a lock of ours without a clear answer may have taken effect on an account that counts as active, since
    its record does not tell."""
    doubtful = account.active and not account.gone and account.keeper_id in snapshot.own_locks
    return doubtful and hides_lock(snapshot, account.keeper_id)


def notices(snapshot: Snapshot) -> Iterator[tuple[str, Notice]]:
    """A notice for each record, with what identifies the record over time.

    It says which fields cannot be read, what was not done, and what to do.
    """
    for one in snapshot.odd:
        row = _row(snapshot, one) if one.type == "user" else snapshot.teams.get(one.keeper_id)
        jumpcloud_id = row.jumpcloud_id if row else ""
        name = (one.name or (row.shown.get(_NAME_OF[one.type], "") if row else "")) or one.keeper_id
        if row is not None:
            rest = "it counts as it was last read, and no change in Keeper is seen until it can be read again"
        elif one.fields == ("id",):
            rest = "the row was skipped, and nobody is created or linked under its name or address"
        else:
            rest = "nothing is created, linked or changed there"
        words = f"Keeper's record cannot be read ({_problem(one)}): {rest}. {_LOOK[one.type]}"
        key = f"keeper {one.type} {one.keeper_id or name}"
        yield key, Notice(NoticeKind.QUARANTINED, Subject(one.type, name, jumpcloud_id, one.keeper_id), words)


_NAME_OF = {"user": USER_NAME, "team": DISPLAY_NAME}
_LOOK: Mapping[str, str] = {
    "user": "Look at the user in the Admin Console (Admin > Users); if it stays so, ask Keeper support",
    "team": "Look at the team in the Admin Console (Admin > Teams); if it stays so, ask Keeper support",
}


def _problem(one: OddRecord) -> str:
    return one.problem.rstrip(". ") or ", ".join(one.fields)


def to_json(odd: Iterable[OddRecord]) -> str:
    """The records for the state file."""
    return json.dumps([asdict(one) for one in odd], ensure_ascii=False, separators=(",", ":"))


def from_json(text: str) -> tuple[OddRecord, ...]:
    """The records from the state file."""
    return tuple(_from_json(one) for one in json.loads(text))


def _from_json(one: dict[str, Any]) -> OddRecord:
    teams = one.get("teams")
    return OddRecord(**{**one, "fields": tuple(one["fields"]), "teams": None if teams is None else tuple(teams)})
