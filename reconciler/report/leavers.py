"""The report of `leavers`: for each person who lost access, when we first saw that they left, and when Keeper had
locked them. When JumpCloud began to say so is not known: nobody may have read it for days.

The evidence is the journal's; who has left and is still active comes from the snapshot. A lock that Keeper answered
with 404 or 410 is no evidence: it says that the account is not in this node, and nothing about access elsewhere.
"""

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import takewhile
from typing import Any

from reconciler import promise, standing
from reconciler.addresses import alike_key
from reconciler.counting import count, times
from reconciler.history import Entry, Wanted
from reconciler.keeper_quarantine import hides_lock
from reconciler.model import Account, Snapshot, typed
from reconciler.pilot import left_outside
from reconciler.plan import Cause, Kind, Subject
from reconciler.policy import Drift, Mode, OutOfScope, Policy
from reconciler.promise import REMOVED, WITHDRAWN, WITHDRAWN_OR_DELETED
from reconciler.report.last_cycle import passed_over
from reconciler.report.terminal import clean, spoken, stamp, styled, wrapped
from reconciler.rows import GONE, INVITED, LOCKED_BEFORE, VANISHED, JournalRow, Request, time_of
from reconciler.store import State, Store

MOST = 100_000
"""Locks that are looked at."""
UNREAD = "more than a week ago, or never; who left since then may be missing"
"""Words for a read of JumpCloud that is not on record any more."""
ANOTHER = "another_account"
"""The state of a leaver whose address opens an account that is not the one we locked."""
FORMER = "former"
"""The state of a lock of before the state file was bound anew, of which the node of today tells nothing."""
_NEXT = "with the next cycle"
"""When a lock that is due is sent, where nothing else is known to be in its way."""
_BACK_LOCKED = (
    "the lock had no clear answer, and the account was not in this node for a while: it is locked by now, and nothing "
    "tells whether by that lock"
)
_UNSHOWN = "as last read: by now Keeper's record of the account does not show whether it is locked"
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
    "left_before",
    "access",
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
    snapshot, former = store.snapshot(), store.former()
    locks = store.history(Wanted(kind=Kind.DEACTIVATE_USER, since=since), MOST)
    # In the order of sending: what became of an earlier lock may be known later. What was not sent is no attempt.
    sent = [entry for entry in locks.entries if entry.row.outcome != LOCKED_BEFORE]
    departures = _departures(sorted(sent, key=lambda entry: entry.row.id, reverse=True))
    held = _held(store)
    stands = standing.from_json(store.meta(standing.KEY))
    done = [entries for entries in departures if _verified(entries[0])]
    newest = {_departure(entries[0])[0]: entries for entries in reversed(done)}
    here = {a.jumpcloud_id: a for a in snapshot.accounts.values() if a.managed and a.jumpcloud_id and not a.gone}
    found = [_done(entries, snapshot, here, newest[_departure(entries[0])[0]] is entries, former) for entries in done]
    unmanaged = {alike_key(a.email) for a in snapshot.accounts.values() if a.active and not (a.managed or a.gone)}
    found = [_beside_another(entry, unmanaged) for entry in found]
    attempts = {_departure(entries[0]): entries for entries in reversed(departures)}
    open_now, back = promise.leavers(snapshot), promise.invited_again(snapshot)
    when, way = _turn(store, snapshot)
    for account in open_now:
        tried = [entry for entry in _attempts_of(account, attempts) if not _verified(entry)]
        if account.gone:
            found.append(_not_verifiable(account, tried, snapshot, again=account.keeper_id in back))
        else:
            access = promise.access_words(snapshot, account, failing=stands.failing is not None)
            # What failed before, or was put off, is not tried again for whom the settings spare.
            again = [] if promise.spared(account, policy, stands.merely_left) else tried
            entry = _not_yet(account, tried, snapshot, policy, held, again, now, when=when, way=way)
            if entry["because"] == f"due {_NEXT}":
                entry |= _passed_over(store, account, policy)
            found.append(entry | {"access": access})
    closed = _closed(store.decisions("disown", since), departures)
    ours, told = {_departure(entries[0]) for entries in done}, {account.keeper_id for account in open_now}
    others = {
        departure: account
        for keeper_id, account in snapshot.accounts.items()
        if keeper_id not in told
        and _locked_by_others(account, since)
        and (departure := (keeper_id, account.left_at)) not in ours
    }
    found += [
        _entry(account, attempts.get(departure, []), account.left_at)
        | {"state": "locked_by_others", "because": "not in this node any more" if account.gone else None}
        for departure, account in others.items()
    ]
    for entries in departures:
        departure = _departure(entries[0])
        if _not_here(entries[0]) and departure[0] not in told and departure not in others:
            found.append(_answered(entries, snapshot, here, closed, former))
    found.sort(key=lambda entry: (entry["confirmed_at"] or "", entry["email"]), reverse=True)
    found.sort(key=lambda entry: ("~",) if entry["confirmed_at"] else (entry["first_seen_at"] or "", entry["email"]))
    states = Counter(entry["state"] for entry in found)
    confirmed = [entry["minutes_to_confirm"] for entry in found if entry["minutes_to_confirm"] is not None]
    return {
        "asked_at": stamp(now),
        "since": stamp(since),
        "jumpcloud_read_at": stamp(store.last_whole_read()),
        "keeper_read_at": stamp(snapshot.read_at),
        "first_plan_reviewed": snapshot.reviewed,
        "held": len(held),
        "done": sum(entry["confirmed_at"] is not None and entry["state"] != ANOTHER for entry in found),
        "not_yet": states["not_yet"],
        "not_verifiable": states["not_verifiable"] + states[ANOTHER],
        "locked_by_others": states["locked_by_others"],
        "longest_minutes": max(confirmed, default=None),
        "leavers": found,
    }


def _locked_by_others(account: Account, since: datetime) -> bool:
    """Whether one of our people left since then and somebody else was faster: there is no lock of ours to show."""
    if not account.managed or account.left_at is None or account.left_at < since:
        return False
    return account.locked_by_others


_Departure = tuple[str, datetime | None]
"""A departure: the Keeper id of the account, and when its owner was first seen out of scope."""


def _departure(entry: Entry) -> _Departure:
    return entry.row.operation.subject.keeper_id, entry.row.left_at


def _departures(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Return the attempts of each departure, the newest first. A lock before which an earlier one was done is a
    departure of its own: somebody had unlocked the person, or they had come back."""
    found: list[list[Entry]] = []
    newest: dict[_Departure, list[Entry]] = {}
    for entry in entries:
        key = _departure(entry)
        if key in newest and not _verified(entry):
            newest[key].append(entry)
        else:
            newest[key] = [entry]
            found.append(newest[key])
    return found


def _attempts_of(account: Account, attempts: Mapping[_Departure, list[Entry]]) -> list[Entry]:
    """The attempts at the lock that is due now; the journal does not say since when whoever left before the first plan
    is out of scope."""
    found = attempts.get((account.keeper_id, account.left_at)) or attempts.get((account.keeper_id, None), [])
    return [] if found and _came_back(found[0].row, account.left_at) else found


def _closed(requests: Iterable[Request], departures: Iterable[list[Entry]]) -> dict[_Departure, Request]:
    """The decisions that closed the question of a departure: of an account's newest one by then. Those of former
    versions do not say since when its person had left; of one without a lock there is nothing to tell."""
    by_account: dict[str, list[JournalRow]] = defaultdict(list)
    for entries in departures:
        by_account[_departure(entries[0])[0]].append(entries[0].row)
    found = {}
    for request in requests:
        closed = request.arguments.get("closed", ())
        for account in closed:
            left = time_of(closed[account]) if isinstance(closed, dict) else None
            before = (row for row in by_account[account] if row.planned_at <= request.at)
            if newest := next((row for row in before if left is None or not _came_back(row, left)), None):
                found[account, newest.left_at] = request
    return found


def _verified(entry: Entry) -> bool:
    """Whether Keeper carried the lock out, and did not merely lack the account."""
    return entry.row.state is State.DONE and not _not_here(entry)


def _has_failed(entry: Entry) -> bool:
    return entry.row.state is State.FAILED


def _not_here(entry: Entry) -> bool:
    """Whether the lock was settled by the account not being in this node, in the words of any version."""
    return entry.row.state is State.DONE and promise.not_here(entry.row.error)


def _minutes(first: datetime | None, last: datetime | None) -> float | None:
    return round((last - first).total_seconds() / 60, 1) if first and last else None


def _entry(account: Account | None, tried: list[Entry], since: datetime | None) -> dict[str, Any]:
    last = tried[0] if tried else None
    subject = last.row.operation.subject if last else None
    sent = [entry.row.sent_at for entry in tried if entry.row.sent_at]
    sent_at = sent[0] if sent else None
    return {
        "email": account.email if account and account.email else subject.name if subject else "",
        "jumpcloud_id": (subject.jumpcloud_id if subject else account.jumpcloud_id if account else "") or None,
        "keeper_id": subject.keeper_id if subject else account.keeper_id if account else None,
        "reason": last.row.operation.reason if last else None,
        "first_seen_at": stamp(since),
        "sent_at": stamp(sent_at),
        "confirmed_at": None,
        "minutes_to_send": _minutes(since, sent_at),
        "minutes_to_confirm": None,
        "attempts": len(sent),
        "decided_by": (last.decided_by if last else "") or None,
        "left_before": False,
        "access": None,
        "because": None,
        "left_to_do": None,
        "command": None,
    }


def _done(
    tried: list[Entry], snapshot: Snapshot, here: Mapping[str, Account], newest: bool, former: int
) -> dict[str, Any]:
    """A lock that Keeper carried out; `newest`: the account had none since; `former`: see `Store.former`."""
    row = tried[0].row
    account = snapshot.accounts.get(row.operation.subject.keeper_id)
    # When somebody's lock was undone in Keeper, it was not JumpCloud that said so last.
    since = None if row.operation.cause is Cause.DRIFT else row.left_at
    found = _entry(account, tried, since)
    found |= {
        "confirmed_at": stamp(row.finished_at),
        "minutes_to_confirm": _minutes(since, row.finished_at),
        "left_before": row.operation.cause is not Cause.DRIFT and row.left_at is None,
    }
    let_in = account is not None and (account.active or account.keeper_id in snapshot.open_unlocks)
    still_locked = newest and account is not None and account.locked_by_us and not let_in
    if row.id <= former and not _tells_of(account, still_locked=still_locked):
        return found | {"state": FORMER}
    other = _other_account(row.operation.subject, here)
    if (account is None or account.gone) and other is not None and _is_back(row, other):
        return found | {"state": "came_back"}
    if row.outcome == VANISHED:
        return found | {"state": "gone", "because": REMOVED}
    if row.outcome in (GONE, INVITED):
        return found | {"state": "gone", "because": WITHDRAWN if row.error == WITHDRAWN else WITHDRAWN_OR_DELETED}
    if account is None or account.gone:
        return found | {"state": "gone", "because": row.error or None}
    if _anothers(account, row):
        return found | {"state": "given"}
    # Who was back in scope and left again before they were unlocked has been locked all the time.
    if _came_back(row, account.left_at) and not (account.left_at and still_locked):
        return found | {"state": "came_back"}
    if account.active:
        return found | {"state": "unlocked_again"}
    return found | _locked(account) | {"because": _UNSHOWN if hides_lock(snapshot, account.keeper_id) else None}


def _locked(account: Account) -> dict[str, Any]:
    """The end of an entry for an account that shows as locked."""
    return {
        "state": "locked",
        "left_to_do": "their seat is held, and the vault kept, until it is transferred (Keeper Commander)",
        "command": f"transfer-user {typed(account.email)} --target-user HEIR",
    }


def _tells_of(account: Account | None, *, still_locked: bool) -> bool:
    """Whether an account of the node of today tells what became of a lock in one that the file was bound to before:
    when the person left is not known from then, nor who is managed before the first plan."""
    return account is not None and account.managed and not account.gone and (account.left_at is None or still_locked)


def _anothers(account: Account, row: JournalRow) -> bool:
    """Whether the account is another JumpCloud user's by now, so that it says nothing more of whoever left."""
    owner = row.operation.subject.jumpcloud_id
    return account.managed and bool(owner and account.jumpcloud_id) and account.jumpcloud_id != owner


def _came_back(row: JournalRow, left_at: datetime | None) -> bool:
    """Whether the person of a lock was in scope since: they are out of scope since another time, if at all. Who had
    left before they were managed left, as far as we know, no later than the lock was planned."""
    if left_at is None:
        return True
    return left_at != row.left_at if row.left_at else left_at > row.planned_at


def _other_account(subject: Subject, here: Mapping[str, Account]) -> Account | None:
    """The account that somebody whose account is gone has since; `here` are those that are there, by the owner's
    JumpCloud id."""
    other = here.get(subject.jumpcloud_id)
    return other if other is not None and other.keeper_id != subject.keeper_id else None


def _is_back(row: JournalRow, other: Account) -> bool:
    """Whether somebody whose account is gone was let in since by the other one. One that was taken over since they
    left is no return."""
    return other.left_at is None or other.left_at != row.left_at


def _beside_another(entry: dict[str, Any], unmanaged: Collection[str]) -> dict[str, Any]:
    """The entry of a lock that was carried out, where an account that nobody manages has the leaver's address: somebody
    may have made it again in the Admin Console, and that it is a leaver's we do not know."""
    if entry["state"] not in ("locked", "gone") or alike_key(entry["email"]) not in unmanaged:
        return entry
    return entry | {
        "state": ANOTHER,
        "because": "the account that was locked is not the one that has this address now; nobody manages that one",
        "left_to_do": "if it is theirs, have it locked by us",
        "command": f"reconciler adopt {typed(entry['email'])}",
    }


def _not_verifiable(account: Account, tried: list[Entry], snapshot: Snapshot, *, again: bool) -> dict[str, Any]:
    todo = "look for the account in the Admin Console (Admin > Users, all nodes); if it is shut, close this"
    command = "disown"
    if again:
        todo, command = "if the new Keeper user is theirs, have it managed, so that it is locked", "adopt"
    return _entry(account, tried, account.left_at) | {
        "state": "not_verifiable",
        "left_before": account.review_lock,
        "because": promise.whereabouts(snapshot, account, again=again),
        "left_to_do": todo,
        "command": f"reconciler {command} {typed(account.email)}",
    }


def _answered(
    tried: list[Entry],
    snapshot: Snapshot,
    here: Mapping[str, Account],
    closed: Mapping[_Departure, Request],
    former: int,
) -> dict[str, Any]:
    """A lock that was answered with 404, where the question is not open any more."""
    row = tried[0].row
    account = snapshot.accounts.get(row.operation.subject.keeper_id)
    found = _entry(account, tried, row.left_at) | {"because": f"not verifiable: {row.error}"}
    if request := closed.get(_departure(tried[0])):
        by = f"closed by {request.by} on {spoken(stamp(request.at))}"
        return found | {"state": "closed", "because": f"{by}: {request.reason}" if request.reason else by}
    if row.id <= former and not _tells_of(account, still_locked=False):
        return found | {"state": FORMER, "because": "not verifiable: the account was not in the node of then"}
    if (other := _other_account(row.operation.subject, here)) is not None:
        return found | {"state": "came_back" if _is_back(row, other) else "replaced"}
    if account is None:
        return found | {"state": "not_verifiable"}
    if _anothers(account, row):
        return found | {"state": "given"}
    if _came_back(row, account.left_at):
        return found | {"state": "came_back"}
    if not account.gone:
        return found | _locked(account) | {"because": _BACK_LOCKED}
    inventory = snapshot.inventory
    read = f" on {spoken(stamp(inventory.read_at))}" if inventory else ""
    return found | {"state": "answered", "because": f"Keeper's inventory{read} shows the account locked, or nowhere"}


def _not_yet(
    account: Account,
    tried: list[Entry],
    snapshot: Snapshot,
    policy: Policy,
    held: Mapping[str, tuple[str, str]],
    again: list[Entry],
    now: datetime,
    *,
    when: str,
    way: str | None,
) -> dict[str, Any]:
    found = _entry(account, tried, account.left_at) | {"left_before": account.review_lock}
    if policy.mode is Mode.OBSERVE and not account.protected_as:
        # No command sends anything then, and neither what was held nor what failed before goes on.
        return found | {"state": "not_yet", "because": "nothing is sent: the mode is observe (policy.mode)"}
    key = account.jumpcloud_id or account.keeper_id
    because, command = held.get(key) or (_why_not_yet(account, tried, snapshot, policy, again, now, when), None)
    if again and _has_failed(again[0]) and command is None:
        command = f"reconciler resync {typed(account.email)}"
    elif command is None and when in because:
        command = way
    return found | {"state": "not_yet", "because": because, "command": command}


def _why_not_yet(
    account: Account,
    tried: list[Entry],
    snapshot: Snapshot,
    policy: Policy,
    again: list[Entry],
    now: datetime,
    when: str,
) -> str:
    failed = list(takewhile(_has_failed, again))
    if account.protected_as:
        return "protected (policy.protect)"
    if account.keeper_id in snapshot.open_unlocks:
        return "they were let in before they left, and the unlock had no clear answer from Keeper, which is asked again"
    if account.locked_by_us and policy.drift is Drift.REPORT:
        return "unlocked in Keeper by somebody else, and not locked again (policy.drift)"
    if failed:
        return f"failed {times(len(failed))}, tried again {when}: {failed[0].row.error}"
    if account.keeper_id in snapshot.own_locks | snapshot.open_locks:
        error = f": {tried[0].row.error}" if tried and tried[0].row.state is State.UNKNOWN else ""
        return f"the last lock had no clear answer from Keeper, which is asked again{error}"
    if left_outside(policy, account):
        return "outside the pilot (policy.only)"
    if again and again[0].row.state is State.PUT_OFF and again[0].row.error:
        # It was due: either grace had ended, or there is none.
        return f"put off, due again {when}: {again[0].row.error}"
    if policy.out_of_scope is OutOfScope.KEEP:
        return "kept, unless suspended or deleted (policy.out_of_scope)"
    assert account.left_at is not None
    if now < account.left_at + policy.grace and not account.review_lock:
        return f"in grace until {spoken(stamp(account.left_at + policy.grace))}, unless suspended or deleted"
    return f"due {when}"


def _turn(store: Store, snapshot: Snapshot) -> tuple[str, str | None]:
    """When a lock that is due is sent, and the command that has to come first, if any."""
    if store.pause() is not None:
        return "once writes are resumed", "reconciler resume"
    if not snapshot.reviewed:
        return "with the first plan for this Keeper node", "reconciler plan"
    return _NEXT, None


def _passed_over(store: Store, account: Account, policy: Policy) -> dict[str, Any]:
    """Why a lock that is due may not follow with the next cycle, as the newest one tells; empty where it tells nothing
    of that."""
    assert account.left_at is not None
    due_since = account.left_at if account.review_lock else account.left_at + policy.grace
    passed = passed_over(store, Kind.DEACTIVATE_USER, account.keeper_id, due_since)
    if passed is None:
        return {}
    why = f": {passed.why}" if passed.why else ""
    command = f"reconciler explain {typed(account.email)}"
    return {"because": f"not locked by the newest cycle, on {spoken(stamp(passed.at))}{why}", "command": command}


def _held(store: Store) -> dict[str, tuple[str, str]]:
    """By the person's key, why a lock is held, and the command that lets it through."""
    found = store.held_now()
    if found is None:
        return {}
    run, since = found
    plan = json.loads(store.held_document(run) or "{}")
    limits: dict[str, list[str]] = {}
    for hold in plan.get("held", []):
        for op in (plan["operations"][number] for number in hold["operations"]):
            if op["kind"] == Kind.DEACTIVATE_USER.value:
                limits.setdefault(op["subject"]["jumpcloud_id"] or op["subject"]["keeper_id"], []).append(hold["limit"])
    return {
        key: (
            f"held since {spoken(stamp(since))} [{', '.join(by)}]",
            # No release ends a pause: that comes first.
            "reconciler resume" if "paused" in by else f"reconciler release {run.plan_id}",
        )
        for key, by in limits.items()
    }


# -- the forms --------------------------------------------------------------------------------------------------------


def render(found: dict[str, Any], *, width: int, colour: bool) -> str:
    """The document for a person."""
    longest = found["longest_minutes"]
    took = f", the slowest {_span(longest)} after they were first seen out of scope" if longest is not None else ""
    done = (one for one in found["leavers"] if one["confirmed_at"] and one["state"] != ANOTHER)
    people = {one["jumpcloud_id"] or one["keeper_id"] for one in done}
    lost = f"{count(len(people), 'person')} lost access{took}"
    unsure = f"; {found['not_verifiable']} not verifiable" if found["not_verifiable"] else ""
    # Before the first plan is reviewed nobody is known whom a lock is due for: none is no finding.
    not_yet = f"; {found['not_yet']} not yet" if found["not_yet"] or found["first_plan_reviewed"] else ""
    others = f"; {found['locked_by_others']} locked by somebody else" if found["locked_by_others"] else ""
    head = f"Since {spoken(found['since'])}: {lost}{not_yet}{unsure}{others}."
    lines = [styled(line, colour, bold=True) for line in wrapped(head, width)]
    lines += wrapped(_as_of(found["jumpcloud_read_at"], found["keeper_read_at"]), width)
    if not found["first_plan_reviewed"]:
        waits = found["held"]
        names = f" It would lock {count(waits, 'person')}." if waits else ""
        words = "The first plan for this Keeper node is not reviewed yet, so who else left is not known here."
        lines += [*wrapped(f"{words}{names} To see it:", width), "  reconciler plan"]
    said: set[str] = set()
    for entry in found["leavers"]:
        for number, words in enumerate(_words(entry)):
            lines += wrapped(words, width, "  " if number else "")
        if entry["command"] and entry["command"] not in said:
            lines.append(f"    {clean(entry['command'], 300)}")
            said.add(entry["command"])
    return "\n".join(lines)


def _as_of(jumpcloud: str | None, keeper: str | None) -> str:
    """How far it goes: who left, and what became of it, is known only as far as it was read."""
    if keeper is None:
        return "Keeper was not read since the state file was made or restored."
    left = f"on {spoken(jumpcloud)}; who left since then may be missing" if jumpcloud else UNREAD
    return f"As last read: JumpCloud as a whole {left}. Keeper's list on {spoken(keeper)}."


_STATES = {
    "locked": "locked",
    "gone": "gone from this Keeper node",
    "not_verifiable": "NOT VERIFIABLE: not in this node",
    ANOTHER: "NOT VERIFIABLE: another account with this address is active in this node",
    "closed": "not verifiable, and closed by a person",
    "answered": "not in this node, and answered by the inventory",
    FORMER: "sent before the state file was bound anew (resync --rebind); how it stands there is not known",
    "came_back": "has come back",
    "replaced": "not in this node any more; they have another Keeper user, which is reported by itself",
    "given": "the account is another JumpCloud user's now",
    "unlocked_again": "was locked, and unlocked again by somebody else",
    "locked_by_others": "locked by somebody else, not by us",
    "not_yet": "NOT YET",
}


def _words(entry: dict[str, Any]) -> Iterator[str]:
    why = f" ({clean(entry['reason'])})" if entry["reason"] else ""
    access = f": {entry['access']}" if entry["access"] else ""
    yield f"{clean(entry['email'], 80)}: {_STATES[entry['state']]}{access}{why}"
    facts = ["the lock before had been undone in Keeper, nobody knows when"]
    if entry["first_seen_at"]:
        facts = [f"first seen out of scope {spoken(entry['first_seen_at'])}"]
    if entry["left_before"]:
        facts = ["had left before the first plan, or before they were adopted"]
    facts += [f"sent {spoken(entry['sent_at'])}"] if entry["sent_at"] else []
    facts += [f"confirmed {spoken(entry['confirmed_at'])}"] if entry["confirmed_at"] else []
    facts += [f"{_span(entry['minutes_to_confirm'])} in all"] if entry["minutes_to_confirm"] is not None else []
    facts += [f"{entry['attempts']} attempts"] if entry["attempts"] > 1 else []
    facts += [f"let through by {clean(entry['decided_by'], 40)}"] if entry["decided_by"] else []
    yield ", ".join(facts)
    if entry["because"]:
        yield clean(entry["because"], 400)
    if entry["left_to_do"]:
        yield f"left to do: {entry['left_to_do']}"


def _span(minutes: float) -> str:
    if minutes < 1:
        return "less than a minute"
    shown = int(minutes) if minutes == int(minutes) else minutes
    return count(shown, "minute") if minutes < 120 else f"{minutes / 60:.1f} hours"


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
