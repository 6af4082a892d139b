"""What persons have let through, as it is on record: releases, announced lay-offs, `resync EMAIL`, and how much of each
is used up. What it means for a plan is said in `safety`."""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler.addresses import alike_key
from reconciler.model import Snapshot, Takeover
from reconciler.plan import Effect, Kind, Operation, Rule, Subject
from reconciler.rows import GONE, LOCKED_BEFORE, MAY_BE_DONE, SETTLED, VANISHED
from reconciler.safety import Allowance, Consent, Past, Release, Vanished
from reconciler.store import JournalRow, Request, State, Store
from reconciler.undoing import undoing

RELEASE_LASTS = timedelta(hours=4)
_EVER = datetime.min.replace(tzinfo=UTC)


def first_plan_released(store: Store, effects: Collection[Effect], now: datetime) -> bool:
    """Whether an open release that is about some of these effects let a first plan through as a whole."""
    for request in store.open_requests(now, "release"):
        run = None if request.effects.isdisjoint(effects) else store.held_run(str(request.arguments["plan"]))
        if run is not None and "first_run" in store.held_by(run):
            return True
    return False


def agree(store: Store, plan_id: str, effects: Collection[Effect], *, by: str, at: datetime, reason: str) -> str:
    """Put on record that a person lets these effects of a plan through, for four hours from the next run on; returns
    the id of the release."""
    return store.add_request("release", _agreement(plan_id, effects), by=by, at=at, reason=reason, lasts=RELEASE_LASTS)


def agree_once(store: Store, plan_id: str, effects: Collection[Effect], *, by: str, at: datetime, reason: str) -> None:
    """The same within a run, whose time is known, and without those of whom open releases let through all already."""
    agreed = {effect for one in store.open_requests(at, "release") for effect in one.effects - store.used_up(one)}
    subjects = {effect[1] for effect in frozenset(effects) - agreed}
    if news := {effect for effect in effects if effect[1] in subjects}:
        arguments, until = _agreement(plan_id, news), at + RELEASE_LASTS
        store.add_request("release", arguments, by=by, at=at, reason=reason, until=until, lasts=RELEASE_LASTS)


def asked_once(store: Store, effects: Collection[Effect], since: datetime) -> frozenset[Effect]:
    """The effects of a plan of then that a person lets through, without the teams that were asked for since and may
    wait for approval: whoever looked at that plan did not agree to a second request for them."""
    queued = (row for row in store.unfinished() if row.operation.kind is Kind.QUEUE_TEAM)
    sent = [row for row in queued if row.sent_at is not None and row.sent_at >= since]
    return frozenset(effects) - {effect for row in sent for effect in row.operation.effects()}


def _agreement(plan_id: str, effects: Collection[Effect]) -> dict[str, Any]:
    return {"plan": plan_id, "effects": sorted(list(effect) for effect in effects)}


def drop_what_is_not_due(store: Store, due: frozenset[Effect], tells: Callable[[Effect], bool], now: datetime) -> None:
    """Narrow the releases to what is `due` now: the same mistake made again later is a person's to look at again.

    `tells`: see `_Line.tells`. Nothing is planned for somebody who could not be read; it may be due all the same.
    """
    for request in store.open_requests(now, "release"):
        effects, used = request.effects, store.used_up(request)
        kept = effects & (due | used | undecided(store, effects, tells))
        if kept <= used:
            store.close_request(request.id, "done", now)
        elif kept != effects:
            store.narrow(request.id, {**request.arguments, "effects": sorted(map(list, kept))})


def undecided(store: Store, effects: Collection[Effect], tells: Callable[[Effect], bool]) -> frozenset[Effect]:
    """Those of these effects that may be due though a plan lacks them: nor is anything planned for somebody, or with a
    team, whose last change has no known outcome yet."""
    open_keys = store.open_keys()
    return frozenset(effect for effect in effects if not (tells(effect) and open_keys.isdisjoint(effect[1:])))


def drop_all(store: Store, now: datetime) -> None:
    """End the releases of before we observed: what follows is a first plan, and a person's to look at."""
    for request in store.open_requests(now, "release"):
        store.close_request(request.id, "lapsed", now)


def prolong(store: Store, decisions: Collection[str], now: datetime) -> None:
    """Give the releases of which a cycle has sent a part four more hours for the rest, also where one ran out
    meanwhile."""
    for decision in decisions:
        request = _release(store, decision)
        if request is not None and request.state == "open":
            store.prolong(request.id, now + RELEASE_LASTS)


def prolong_cut_off(store: Store, now: datetime) -> None:
    """Do the same for a cycle that was cut off before it came to that: four hours from what it sent last."""
    for request in store.open_requests(now - RELEASE_LASTS, "release"):
        rows = [row for row in store.journal_after(request) if row.decision == f"release:{request.id}"]
        # What undoes a refused creation is no part of what was let through.
        rows = [row for row in rows if row.operation.rule is not Rule.UNDONE]
        sent = [row.sent_at for row in rows if row.sent_at and row.state in (State.SENT, State.DONE)]
        if sent and request.until is not None and max(sent) + RELEASE_LASTS > request.until:
            store.prolong(request.id, max(sent) + RELEASE_LASTS)


def _release(store: Store, decision: str) -> Request | None:
    """The release that let an operation through, None where another decision did, or none."""
    kind, _, number = decision.partition(":")
    return store.request(number) if kind == "release" else None


def window(store: Store, since: datetime, length: timedelta, certain: datetime | None = None) -> list[Past]:
    """List what of the window that began then counts for the limits: without what a person had let through by then.

    What was sent after `certain` is recent whichever clock is right; without it, all of the window is. What another run
    of this process is about to send counts as sent.
    """
    # What undid a change counted for nothing then, and does not begin to count when that change leaves the window.
    sent = _sent(store, since - length)
    # By what is on record of each, not by its time: a release that is sent in parts lasts longer than it first did.
    decisions = {row.decision for at, row in sent if at >= since}
    releases = {decision: one.effects for decision in decisions if (one := _release(store, decision)) is not None}
    past = []
    undid = undoing([(at, row.operation, row.state is State.DONE) for at, row in sent], length)
    for (at, row), (undoes, gave) in zip(sent, undid, strict=True):
        if at < since:
            continue
        # Only what let this very operation through: what it let through once counts when it is done again.
        released = releases.get(row.decision)
        _, rest = row.operation.split(released) if released else (None, row.operation)
        counts = rest is not None and not row.decision.startswith("allow:")
        past.append(Past(rest or row.operation, row.decision, counts, undoes, gave, at, at >= (certain or since)))
    return past


def queued(store: Store, since: datetime, length: timedelta) -> list[tuple[datetime, Subject]]:
    """List the teams that were queued since then, in a window of this length, each with the time."""
    return [(at, row.operation.subject) for at, row in _sent(store, since - length, Kind.QUEUE_TEAM) if at >= since]


def _sent(store: Store, since: datetime, kind: Kind | None = None) -> list[tuple[datetime, JournalRow]]:
    """List what may have arrived in this node, the oldest first, with the time when it was sent."""
    in_hand, former = {row.id for row in store.in_hand()}, store.former()
    found = []
    for row in sorted((row for row in store.journal(since, kind) if row.id > former), key=lambda row: row.id):
        # Of a settled change that is put off nobody can tell whether it arrived.
        settled = (row.state, row.outcome) == (State.PUT_OFF, SETTLED)
        perhaps = settled and row.operation.kind in (Kind.UPDATE_USER, Kind.REACTIVATE_USER)
        # What was sent before and settled only now was done when it was sent.
        if perhaps or _may_be_done(row) or row.id in in_hand:
            found.append((row.sent_at or row.planned_at, row))
    return found


def given(store: Store, past: list[Past], person: str, now: datetime, since: datetime) -> Consent:
    """What still counts of what persons let through. `person` is the address of a `resync EMAIL`, "" for all other
    cycles. `since` is when the window began."""
    releases = [
        Release(f"release:{request.id}", request.effects - store.used_up(request))
        for request in store.open_requests(now, "release")
    ]
    allowances = tuple(allowance(store, request) for request in store.open_requests(now, "allow"))
    before = {entry.operation.subject.key for entry in past if entry.decision.startswith("person:")}
    return Consent(
        tuple(releases),
        allowances,
        f"person:{alike_key(person)}" if person else "",
        frozenset(before),
        vanished(store, since),
    )


def who_is_managed(store: Store, before: Snapshot, operations: Mapping[int, Operation]) -> dict[int, str]:
    """By index, the `adopt` or `disown` from which one of these operations follows, as the journal names a decision.

    It does if it is due in the cycle that takes the decision up, or is the next attempt at what was sent by it then.
    """
    asked: dict[str, Request] = {}
    for request in sorted((r for k in ("adopt", "disown") for r in store.decisions(k, _EVER)), key=lambda r: int(r.id)):
        about = request.arguments
        asked |= dict.fromkeys((*about.get("accounts", ()), *about.get("people", ()), about.get("team", "")), request)
    found = {}
    for number, op in operations.items():
        by = asked.get(op.subject.keeper_id or op.subject.jumpcloud_id)
        if by is not None and _follows(store, before, op, by):
            found[number] = _named(by)
    return found


def _follows(store: Store, before: Snapshot, op: Operation, request: Request) -> bool:
    if request.kind == "disown":
        return op.rule is Rule.DISOWNED
    account, team = before.accounts.get(op.subject.keeper_id), before.teams.get(op.subject.keeper_id)
    birth = before.refused_births.get(op.subject.jumpcloud_id) if op.kind is Kind.CREATE_USER else None
    # Of an account that is managed already, it is what another owner gets.
    asked = account is not None and account.takeover is not Takeover.NONE
    theirs = account is not None and account.managed and account.jumpcloud_id == op.subject.jumpcloud_id
    if (asked and not theirs) or (team and team.takeover) or (birth and birth.agreed):
        return True
    newest = next(iter(store.journal_of(op.subject.key, 1)), None)
    return newest is not None and newest.decision == _named(request) and newest.state is not State.DONE


def _named(request: Request) -> str:
    return f"{request.kind}:{request.id}"


def vanished(store: Store, since: datetime) -> Vanished:
    """Count the accounts that were gone after their lock since then."""
    found = store.outcomes_of_locks(since)
    number = found.get(GONE, 0)
    seen = store.seen_locked() if number else frozenset()
    return Vanished(number, VANISHED in found, seen)


def allowance(store: Store, request: Request) -> Allowance:
    """Return the rest of an announced lay-off. A lock that may have arrived uses it up, and so does one that another
    run is about to send; one that failed does not."""
    decision = f"allow:{request.id}"
    in_hand = {row.id for row in store.in_hand()}
    mine = (row for row in store.journal_after(request) if row.decision == decision)
    locks = [row for row in mine if _may_be_done(row) or row.id in in_hand]
    done = [row.operation.subject.key for row in locks if row.state is State.DONE]
    in_doubt = frozenset(row.operation.subject.key for row in locks) - {*done}
    left = int(request.arguments["deactivations"]) - len(done) - len(in_doubt)
    return Allowance(decision, max(0, left), request.until, in_doubt)


def _may_be_done(row: JournalRow) -> bool:
    """Whether Keeper may have carried an operation out. A lock that was not needed was never sent."""
    return row.state in MAY_BE_DONE and row.outcome != LOCKED_BEFORE
