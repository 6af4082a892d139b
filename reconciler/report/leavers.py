"""What `leavers` shows: for each person who lost access, when JumpCloud said so, and when Keeper had done it.

The evidence is the journal's; who has left and is still active comes from the snapshot.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from reconciler.history import Entry, Wanted
from reconciler.model import Account, Snapshot, typed
from reconciler.pilot import left_outside
from reconciler.plan import Cause, Kind
from reconciler.policy import OutOfScope, Policy
from reconciler.report.terminal import clean, spoken, stamp, styled, wrapped
from reconciler.store import State, Store

MOST = 100_000
"""Locks that are looked at."""
COLUMNS = (
    "email",
    "state",
    "reason",
    "first_seen_at",
    "sent_at",
    "confirmed_at",
    "minutes_to_send",
    "minutes_to_confirm",
    "attempts",
    "decided_by",
    "because",
    "left_to_do",
    "command",
    "jumpcloud_id",
    "keeper_id",
)
"""The columns of the CSV form, which are the keys of the document."""

# A spreadsheet takes what begins like this for a formula, the full-width forms too (OWASP, "CSV Injection").
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def document(store: Store, policy: Policy, since: datetime, now: datetime) -> dict[str, Any]:
    """The departures since a time as one JSON document: who is still active first, then the newest."""
    snapshot = store.snapshot()
    locks = store.history(Wanted(kind=Kind.DEACTIVATE_USER, since=since), MOST)
    departures = _departures(locks.entries)
    held = _held(store)
    found = [_done(entries, snapshot) for entries in departures if entries[0].row.state is State.DONE]
    active = [a for a in snapshot.accounts.values() if a.managed and not a.gone and a.active and a.left_at]
    attempts = {_departure(entries[0]): entries for entries in reversed(departures)}
    for account in active:
        tried = attempts.get((account.keeper_id, account.left_at), [])
        found.append(_not_yet(account, tried, snapshot, policy, held, now))
    found.sort(key=lambda entry: (entry["confirmed_at"] or "", entry["email"]), reverse=True)
    found.sort(key=lambda entry: ("~",) if entry["confirmed_at"] else (entry["first_seen_at"], entry["email"]))
    confirmed = [entry["minutes_to_confirm"] for entry in found if entry["minutes_to_confirm"] is not None]
    return {
        "asked_at": stamp(now),
        "since": stamp(since),
        "done": sum(entry["confirmed_at"] is not None for entry in found),
        "not_yet": len(active),
        "longest_minutes": max(confirmed, default=None),
        "leavers": found,
    }


def _departure(entry: Entry) -> tuple[str, datetime | None]:
    return entry.row.operation.subject.keeper_id, entry.row.left_at


def _departures(entries: Iterable[Entry]) -> list[list[Entry]]:
    """The attempts of each departure, the newest first. A lock before which an earlier one was done is a departure of
    its own: somebody had unlocked the person, or they had come back."""
    found: list[list[Entry]] = []
    newest: dict[tuple[str, datetime | None], list[Entry]] = {}
    for entry in entries:
        key = _departure(entry)
        if key in newest and entry.row.state is not State.DONE:
            newest[key].append(entry)
        else:
            newest[key] = [entry]
            found.append(newest[key])
    return found


def _minutes(first: datetime | None, last: datetime | None) -> float | None:
    return round((last - first).total_seconds() / 60, 1) if first and last else None


def _entry(account: Account | None, tried: list[Entry], since: datetime | None) -> dict[str, Any]:
    last = tried[0] if tried else None
    subject = last.row.operation.subject if last else None
    return {
        "email": account.email if account and account.email else subject.name if subject else "",
        "jumpcloud_id": (subject.jumpcloud_id if subject else account.jumpcloud_id if account else "") or None,
        "keeper_id": subject.keeper_id if subject else account.keeper_id if account else None,
        "reason": last.row.operation.reason if last else None,
        "first_seen_at": stamp(since),
        "sent_at": stamp(last.row.sent_at) if last else None,
        "confirmed_at": None,
        "minutes_to_send": _minutes(since, last.row.sent_at) if last else None,
        "minutes_to_confirm": None,
        "attempts": len(tried),
        "decided_by": (last.decided_by if last else "") or None,
        "because": None,
        "left_to_do": None,
        "command": None,
    }


def _done(tried: list[Entry], snapshot: Snapshot) -> dict[str, Any]:
    row = tried[0].row
    account = snapshot.accounts.get(row.operation.subject.keeper_id)
    # When somebody's lock was undone in Keeper, it was not JumpCloud that said so last.
    since = None if row.operation.cause is Cause.DRIFT else row.left_at
    found = _entry(account, tried, since)
    found |= {"confirmed_at": stamp(row.finished_at), "minutes_to_confirm": _minutes(since, row.finished_at)}
    if row.outcome == "gone" or account is None or account.gone:
        return found | {"state": "gone", "because": row.error or None}
    if account.left_at is None or (row.left_at and account.left_at != row.left_at):
        return found | {"state": "came_back"}
    if account.active:
        return found | {"state": "unlocked_again"}
    return found | {
        "state": "locked",
        "left_to_do": "their seat is held, and the vault kept, until it is transferred (Keeper Commander)",
        "command": f"transfer-user {typed(account.email)} --target-user HEIR",
    }


def _not_yet(
    account: Account,
    tried: list[Entry],
    snapshot: Snapshot,
    policy: Policy,
    held: Mapping[str, tuple[str, str]],
    now: datetime,
) -> dict[str, Any]:
    found = _entry(account, [entry for entry in tried if entry.row.state is not State.DONE], account.left_at)
    key = account.jumpcloud_id or account.keeper_id
    because, command = held.get(key) or (_why_not_yet(account, key, snapshot, policy, now), None)
    if key in snapshot.failures and command is None:
        command = f"reconciler resync {typed(account.email)}"
    return found | {"state": "not_yet", "because": because, "command": command}


def _why_not_yet(account: Account, key: str, snapshot: Snapshot, policy: Policy, now: datetime) -> str:
    failure = snapshot.failures.get(key)
    if account.protected_as:
        return "protected (policy.protect)"
    if failure:
        return f"failed {failure.count} times, tried again with the next cycle: {failure.error}"
    if left_outside(policy, account):
        return "outside the pilot (policy.only)"
    if policy.out_of_scope is OutOfScope.KEEP:
        return "kept, unless suspended or deleted (policy.out_of_scope)"
    assert account.left_at is not None
    if now < account.left_at + policy.grace and not account.review_lock:
        return f"in grace until {spoken(stamp(account.left_at + policy.grace))}, unless suspended or deleted"
    return "due with the next cycle"


def _held(store: Store) -> dict[str, tuple[str, str]]:
    """By the person's key, why a lock is held, and the command that lets it through."""
    found = store.held_now()
    if found is None:
        return {}
    run, since = found
    plan = json.loads(store.document(run.id) or "{}")
    return {
        op["subject"]["jumpcloud_id"] or op["subject"]["keeper_id"]: (
            f"held since {spoken(stamp(since))} [{hold['limit']}]",
            "reconciler resume" if hold["limit"] == "paused" else f"reconciler release {run.plan_id}",
        )
        for hold in plan.get("held", [])
        for op in (plan["operations"][number] for number in hold["operations"])
        if op["kind"] == Kind.DEACTIVATE_USER.value
    }


# -- the forms --------------------------------------------------------------------------------------------------------


def render(found: dict[str, Any], *, width: int, colour: bool) -> str:
    """The document for a person."""
    longest = found["longest_minutes"]
    took = f", the slowest {_span(longest)} after JumpCloud had said so" if longest is not None else ""
    lost = f"{found['done']} {'person' if found['done'] == 1 else 'people'} lost access{took}"
    head = f"Since {spoken(found['since'])}: {lost}; {found['not_yet']} not yet."
    lines = [styled(line, colour, bold=True) for line in wrapped(head, width)]
    said: set[str] = set()
    for entry in found["leavers"]:
        for number, words in enumerate(_words(entry)):
            lines += wrapped(words, width, "  " if number else "")
        if entry["command"] and entry["command"] not in said:
            lines.append(f"    {clean(entry['command'], 300)}")
            said.add(entry["command"])
    return "\n".join(lines)


_STATES = {
    "locked": "locked",
    "gone": "gone from Keeper",
    "came_back": "was locked, and has come back",
    "unlocked_again": "was locked, and unlocked again by somebody else",
    "not_yet": "NOT YET: still active",
}


def _words(entry: dict[str, Any]) -> Iterator[str]:
    why = f" ({clean(entry['reason'])})" if entry["reason"] else ""
    yield f"{clean(entry['email'], 80)}: {_STATES[entry['state']]}{why}"
    first = spoken(entry["first_seen_at"]) if entry["first_seen_at"] else "at a time that was not recorded"
    times = [f"first seen out of scope {first}"]
    times += [f"sent {spoken(entry['sent_at'])}"] if entry["sent_at"] else []
    times += [f"confirmed {spoken(entry['confirmed_at'])}"] if entry["confirmed_at"] else []
    times += [f"{_span(entry['minutes_to_confirm'])} in all"] if entry["minutes_to_confirm"] is not None else []
    times += [f"{entry['attempts']} attempts"] if entry["attempts"] > 1 else []
    times += [f"let through by {clean(entry['decided_by'], 40)}"] if entry["decided_by"] else []
    yield ", ".join(times)
    if entry["because"]:
        yield clean(entry["because"], 400)
    if entry["left_to_do"]:
        yield f"left to do: {entry['left_to_do']}"


def _span(minutes: float) -> str:
    if minutes < 1:
        return "less than a minute"
    return f"{minutes:g} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def to_csv(found: dict[str, Any]) -> str:
    """The document as CSV for a spreadsheet, with nothing in it that a spreadsheet would take for a formula."""
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(COLUMNS)
    for entry in found["leavers"]:
        rows.writerow([_cell(entry[column]) for column in COLUMNS])
    return out.getvalue()


def _cell(value: object) -> object:
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    # Where semicolons divide, what follows one is a cell of its own.
    cells = [f"'{cell}" if cell.lstrip().startswith(_FORMULA) else cell for cell in clean(value, 1000).split(";")]
    return ";".join(cells)
