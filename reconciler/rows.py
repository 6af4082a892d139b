"""The rows of the state file, read into and written from the types that the rest of the package works with. Pure."""

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import chain, islice
from typing import Any

from reconciler.model import Account, Membership, Standing, Takeover, Team
from reconciler.plan import Cause, Change, Effect, Kind, Operation, Rule, Subject, TeamRef

Row = sqlite3.Row

ACCOUNT_COLUMNS = (
    "keeper_id, standing, active, jumpcloud_id, shown, asked, settled, gone, locked_by_us, left_at, protected_as, "
    "pilot_entries, former_external_id, takeover, review_lock, missed_at, others_lock, found_for"
)
"""The columns of `users`, in the order in which `accounts_of` takes them."""
_BATCH = 2000
_ID = re.compile(r"(?!\.+$)[A-Za-z0-9_.-]{1,128}")
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)


PERSON = "person"
LEAVERS = "leavers"
PARTIAL = (PERSON, LEAVERS)
"""The kinds of runs that are not about everybody: those of `resync EMAIL` and of the leaver lane."""
GONE = "gone"
"""The outcome of a lock after which the account was not there: perhaps an invitation, which a lock withdraws."""
VANISHED = "vanished"
"""The outcome of a lock after which an account was not there that had been no invitation."""
INVITED = "invited"
"""The outcome of a lock after which an account was not there that was only invited, as the inventory shows."""
LOCKED_BEFORE = "locked_before"
"""The outcome of a lock that was not sent: the account was locked already, and not by us."""
LACKED = "lacked"
"""The outcome of a lock without an answer, where a look before it told that Keeper lacked the account."""
TIME = "time"
"""The outcome of what a run had no time left for."""
OVERTAKEN = "overtaken"
"""The outcome of what somebody else changed, or asked for again, before it was done."""
UNCONFIRMED = "unconfirmed"
"""The outcome of an operation that a confirming read did not bear out."""
SETTLED = "settled"
"""The outcome of an operation of which a list told what became of it, or which a first list does not show."""
DISAGREES = "keeper_disagrees"
"""The outcome of an operation that a read-back did not show. Once a list shows it, its kind is open again."""
DENIED = "keeper_disagrees_still"
"""The outcome of such an operation after a list did not show it either; one more list decides."""
UNASKED = "unasked_effect"
"""The outcome of an operation after which a read-back showed an effect that nobody asked for. That a list shows what
was asked for does not open its kind."""


class State(StrEnum):
    """How far an operation in the journal has come; the last four are outcomes."""

    PLANNED = "planned"
    SENT = "sent"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"
    PUT_OFF = "put_off"


MAY_BE_DONE = frozenset({State.SENT, State.DONE, State.UNKNOWN})
"""The states of what Keeper may have carried out."""


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One operation in the journal. `decision` names what a person decided to let it through, or is empty. `left_at`
    is, of a lock, since when the person was known to be out of scope. `repeated`, of an operation without a known
    outcome: a later one of its kind on the same subject, with changes of names, has been sent. `undone`, of a lock
    or an unlock without one: a later one of the other kind has been sent for the account."""

    id: int
    run_id: int
    state: State
    operation: Operation
    decision: str
    planned_at: datetime
    sent_at: datetime | None
    finished_at: datetime | None
    outcome: str
    error: str
    left_at: datetime | None = None
    repeated: bool = False
    undone: bool = False

    @property
    def at(self) -> datetime:
        """When the state last changed."""
        return self.finished_at or self.sent_at or self.planned_at


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a cycle, with the number of operations that it held and the counts of what became of the others.

    `finished_at` is None while it lasts, and for ever if it was cut off. `error` says why it failed.
    """

    id: int
    kind: str
    started_at: datetime
    by: str
    reason: str
    finished_at: datetime | None
    result: str
    plan_id: str
    held: int
    counts: Mapping[str, int]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for. A decision (release, allow, pause) is `open` as long as it counts; an order for the
    daemon (apply, resync, adopt, ...) is `filed`, then `taken`, then `done` or `failed`; or it was `withdrawn`, or has
    `lapsed`, and was not carried out.

    `lasts` is for how long a decision counts, None for as long as it is open. The first run that sees it sets `until`.
    """

    id: str
    kind: str
    arguments: Mapping[str, Any]
    by: str
    at: datetime
    reason: str
    until: datetime | None
    state: str
    closed_at: datetime | None
    result: str
    lasts: timedelta | None = None

    @property
    def effects(self) -> frozenset[Effect]:
        """The effects that a release lets through."""
        return frozenset(tuple(effect) for effect in self.arguments["effects"])


def json_text(value: Any) -> str:
    """Canonical JSON: the same value is the same text."""
    return _ENCODER.encode(value)


def time_text(at: datetime) -> str:
    """A time as the state file has it: UTC, of fixed width, so that texts sort like times."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def time_of(text: str | None) -> datetime | None:
    """A time from the state file; raises ValueError or TypeError for what is none."""
    return _time(text) if text else None


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"a time without its zone: {text}")
    return at


def _keeper_id(text: str) -> str:
    """An id as it may stand in the path of a request."""
    if not _ID.fullmatch(text):
        raise ValueError("not an id")
    return text


def _texts(values: Iterable[Any]) -> None:
    """Raise TypeError unless all of them are texts: JSON can hold anything."""
    if set(map(type, values)) - {str}:
        raise TypeError("not a text")


def account_row(account: Account) -> dict[str, Any]:
    """An account, without its memberships."""
    shown = json_text(dict(account.shown))
    return {
        "keeper_id": account.keeper_id,
        "standing": account.standing.value,
        "active": int(account.active),
        "jumpcloud_id": account.jumpcloud_id,
        # Mostly Keeper shows just what was asked for, and encoding is what takes the time.
        "shown": shown,
        "asked": shown if account.asked == account.shown else json_text(dict(account.asked)),
        "settled": shown if account.settled == account.shown else json_text(dict(account.settled)),
        "gone": int(account.gone),
        "missed_at": time_text(account.missed_at) if account.missed_at else None,
        "locked_by_us": int(account.locked_by_us),
        "left_at": time_text(account.left_at) if account.left_at else None,
        "protected_as": account.protected_as,
        "pilot_entries": json_text(sorted(account.pilot)) if account.pilot else "",
        "former_external_id": account.former_external_id,
        "takeover": int(account.takeover),
        "review_lock": int(account.review_lock),
        "others_lock": int(account.others_lock),
        "found_for": account.found_for,
    }


def own_lock_of(row: Row) -> Account:
    """An account that we have locked, from what is needed of its row, as one that nobody manages."""
    shown, asked = _mapping(row["shown"]), _mapping(row["asked"])
    keeper_id = _keeper_id(row["keeper_id"])
    return Account(keeper_id, Standing.UNMANAGED, active=False, shown=shown, asked=asked, locked_by_us=True)


def membership_row(user: str, team: str, membership: Membership) -> dict[str, Any]:
    """One membership of one account."""
    return {
        "user": user,
        "team": team,
        "ours": int(membership.ours),
        "seen": int(membership.seen),
        "shown": int(membership.shown),
        "asked_at": time_text(membership.asked_at) if membership.asked_at else None,
        "found": int(membership.found),
    }


def accounts_of(users: Iterable[tuple[Any, ...]], memberships: Iterable[tuple[Any, ...]]) -> dict[str, Account]:
    """All accounts by their Keeper ids, from rows of `ACCOUNT_COLUMNS` and of (user, team, and the five values).

    Written for 100,000 accounts: JSON is parsed in batches, and alike memberships are one object.
    """
    by_user: dict[str, dict[str, Membership]] = {}
    pilots: dict[str, frozenset[str]] = {"": frozenset()}
    alike: dict[tuple[Any, ...], Membership] = {}
    for user, team, ours, seen, shown, asked_at, found_there in memberships:
        key = (ours, seen, shown, asked_at, found_there)
        membership = alike.get(key)
        if membership is None:
            membership = alike[key] = Membership(
                bool(ours), bool(seen), bool(shown), time_of(asked_at), bool(found_there)
            )
        found = by_user.get(user)
        if found is None:
            by_user[user] = {team: membership}
        else:
            found[team] = membership
    standings = {standing.value: standing for standing in Standing}
    accounts: dict[str, Account] = {}
    rows = iter(users)
    while batch := list(islice(rows, _BATCH)):
        values = _parsed(batch)
        for row in batch:
            if row[11] not in pilots:
                pilots[row[11]] = frozenset(_text_list(row[11]))
            accounts[row[0]] = Account(
                _keeper_id(row[0]),
                standings[row[1]],
                row[2] == 1,
                row[3],
                values[row[4]],
                values[row[5]],
                values[row[6]],
                by_user.get(row[0]) or {},
                row[7] == 1,
                time_of(row[15]),
                row[8] == 1,
                time_of(row[9]),
                row[10],
                pilots[row[11]],
                row[12],
                Takeover(row[13]),
                row[14] == 1,
                row[16] == 1,
                row[17],
            )
    return accounts


def _parsed(batch: list[tuple[Any, ...]]) -> dict[str, dict[str, str]]:
    """What is shown, asked and settled, by its text: mostly the same text, and then one object."""
    texts = list({text for row in batch for text in row[4:7]})
    found: list[dict[str, str]] = json.loads(f"[{','.join(texts)}]")
    _texts(chain.from_iterable(map(dict.values, found)))
    return dict(zip(texts, found, strict=True))


def _mapping(text: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(text)
    _texts(found.values())
    return found


def team_row(team: Team) -> dict[str, Any]:
    """A team."""
    return {
        "keeper_id": team.keeper_id,
        "standing": team.standing.value,
        "jumpcloud_id": team.jumpcloud_id,
        "shown": json_text(dict(team.shown)),
        "asked": json_text(dict(team.asked)),
        "settled": json_text(dict(team.settled)),
        "queued_at": time_text(team.queued_at) if team.queued_at else None,
        "seen": int(team.seen),
        "gone": int(team.gone),
        "missed_at": time_text(team.missed_at) if team.missed_at else None,
        "takeover": int(team.takeover),
        "left_at": time_text(team.left_at) if team.left_at else None,
    }


def team_of(row: Row) -> Team:
    """A team from its row."""
    return Team(
        keeper_id=_keeper_id(row["keeper_id"]),
        standing=Standing(row["standing"]),
        jumpcloud_id=row["jumpcloud_id"],
        shown=_mapping(row["shown"]),
        asked=_mapping(row["asked"]),
        settled=_mapping(row["settled"]),
        queued_at=time_of(row["queued_at"]),
        seen=bool(row["seen"]),
        gone=bool(row["gone"]),
        missed_at=time_of(row["missed_at"]),
        takeover=bool(row["takeover"]),
        left_at=time_of(row["left_at"]),
    )


def operation_row(operation: Operation) -> dict[str, Any]:
    """The columns of an operation that say what it is."""
    subject = operation.subject
    return {
        "kind": operation.kind.value,
        "subject_key": subject.key,
        "subject_type": subject.type,
        "subject_name": subject.name,
        "jumpcloud_id": subject.jumpcloud_id,
        "keeper_id": subject.keeper_id,
        "cause": operation.cause.value,
        "rule": operation.rule.value,
        "reason": operation.reason,
        "changes": json_text([[change.attribute, change.before, change.after] for change in operation.changes]),
        "teams_add": teams_text(operation.add),
        "teams_remove": teams_text(operation.remove),
        "due": int(operation.sent),
        "pilot_entries": json_text(list(operation.pilot)) if operation.pilot else "",
    }


def teams_text(teams: Iterable[TeamRef]) -> str:
    """Teams as the journal has them."""
    return json_text([[team.name, team.jumpcloud_id, team.keeper_id] for team in teams])


def _text_list(text: str) -> list[str]:
    found: list[str] = json.loads(text)
    _texts(found)
    return found


def _lists(text: str) -> list[list[str]]:
    if text == "[]":
        return []
    found: list[list[str]] = json.loads(text)
    for one in found:
        _texts(one)
    return found


def _operation_of(row: Row) -> Operation:
    return Operation(
        kind=Kind(row["kind"]),
        subject=Subject(row["subject_type"], row["subject_name"], row["jumpcloud_id"], row["keeper_id"]),
        cause=Cause(row["cause"]),
        rule=Rule(row["rule"]),
        reason=row["reason"],
        changes=tuple(Change(*change) for change in _lists(row["changes"])),
        add=tuple(TeamRef(*team) for team in _lists(row["teams_add"])),
        remove=tuple(TeamRef(*team) for team in _lists(row["teams_remove"])),
        sent=bool(row["due"]),
        pilot=tuple(_text_list(row["pilot_entries"])) if row["pilot_entries"] else (),
    )


def journal_row(row: Row) -> JournalRow:
    """An operation in the journal from its row."""
    return JournalRow(
        id=row["id"],
        run_id=row["run_id"],
        state=State(row["state"]),
        operation=_operation_of(row),
        decision=row["decision"],
        planned_at=_time(row["planned_at"]),
        sent_at=time_of(row["sent_at"]),
        finished_at=time_of(row["finished_at"]),
        outcome=row["outcome"],
        error=row["error"],
        left_at=time_of(row["left_at"]),
    )


def run_of(row: Row) -> Run:
    """A run from its row."""
    return Run(
        id=row["id"],
        kind=row["kind"],
        started_at=_time(row["started_at"]),
        by=row["started_by"],
        reason=row["reason"],
        finished_at=time_of(row["finished_at"]),
        result=row["result"],
        plan_id=row["plan_id"],
        held=row["held"],
        counts=json.loads(row["counts"]),
        error=row["error"],
    )


def _arguments(kind: str, text: str) -> Mapping[str, Any]:
    """What a request is about, as far as the cycle relies on it."""
    found: dict[str, Any] = json.loads(text)
    if kind == "release":
        for effect in found["effects"]:
            _texts(effect)
    if kind == "allow" and type(found["deactivations"]) is not int:
        raise TypeError("not a number")
    return dict(found)


def request_of(row: Row) -> Request:
    """A request from its row."""
    return Request(
        id=str(row["id"]),
        kind=row["kind"],
        arguments=_arguments(row["kind"], row["arguments"]),
        by=row["requested_by"],
        at=_time(row["at"]),
        reason=row["reason"],
        until=time_of(row["until"]),
        state=row["state"],
        closed_at=time_of(row["closed_at"]),
        result=row["result"],
        lasts=None if row["lasts"] is None else timedelta(seconds=row["lasts"]),
    )
