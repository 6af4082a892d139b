"""The straight line: read, diff, limit, confirm, apply, record. The one place where it stands as a line.

A dry run is the same line without its last two steps: it takes no lock and writes nothing.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from reconciler import apply as executor
from reconciler.config import Settings
from reconciler.confirm import confirm
from reconciler.diff import Decision, diff
from reconciler.jumpcloud import JumpCloud
from reconciler.keeper import Keeper, KeeperError
from reconciler.model import EXTERNAL_ID, Application, Directory, Listing, Snapshot, Standing, fold
from reconciler.plan import Effect, Kind, Operation, Plan, Source
from reconciler.policy import Mode
from reconciler.report.document import SavedPlan, to_json
from reconciler.safety import Allowance, Consent, Judged, Past, Release, judge
from reconciler.settle import Settled, settle
from reconciler.snapshot import observed
from reconciler.store import Binding, JournalRow, State, Store

RELEASE_LASTS = timedelta(hours=4)
STALE = timedelta(days=1)
"""A snapshot whose newest run is older than this is rebuilt from Keeper first."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Services:
    """The clients of both services."""

    jumpcloud: JumpCloud
    keeper: Keeper
    scim_url: str


@dataclass(frozen=True, slots=True)
class Order:
    """What a person or the schedule asks of a cycle.

    `person` is the address that a `resync EMAIL` is about. `reviewed` is asked with the first plan where a person sits
    at a terminal; it returns whether that person agreed.
    """

    resync: bool = False
    person: str = ""
    unlock: bool = False
    rebind: bool = False
    saved: SavedPlan | None = None
    reviewed: Callable[[Plan], bool] | None = None
    by: str = ""
    reason: str = ""


@dataclass(slots=True)
class Outcome:
    """What a cycle came to. `result` is done, nothing, held, partial, failed or observed."""

    plan: Plan
    result: str = "planned"
    results: Mapping[int, executor.Result] = field(default_factory=dict)
    not_due: frozenset[Effect] = frozenset()
    stopped: str = ""


class NobodyThere(Exception):
    """A `resync EMAIL` for an address that neither service knows; the text is for the administrator."""


@dataclass(frozen=True, slots=True)
class _Read:
    """Both sides as read. `snapshot` is rebuilt from Keeper where this is a resync, and says what became of `unknown`,
    the operations of former runs without a known outcome; `outcomes` has that by journal id."""

    directory: Directory
    snapshot: Snapshot
    kind: str
    focus: str = ""
    unknown: Sequence[JournalRow] = ()
    outcomes: Mapping[int, Settled] = field(default_factory=dict)


async def plan(
    settings: Settings, services: Services, store: Store, order: Order, now: datetime, progress: Progress | None = None
) -> Plan:
    """A dry run: what the next cycle would do, in full even when it is held. Writes nothing."""
    read = await _read(settings, services, store, order, now, progress)
    decision = _decide(settings, services, store, read, order, now)
    judged = await _limit(settings, services, store, read, decision, order, now)
    return judged.plan


async def run(
    settings: Settings,
    services: Services,
    store: Store,
    order: Order,
    clock: Callable[[], datetime],
    *,
    progress: Progress | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Outcome:
    """One cycle. The store is open for writing. Raises what the clients and the store raise; whatever was applied
    until then is in the journal."""
    now = clock()
    enforced = settings.policy().mode is Mode.ENFORCE
    read = await _read(settings, services, store, order, now, progress)
    before = store.snapshot()
    _note_unknown(store, read, now)
    decision = _decide(settings, services, store, read, order, now)
    if order.saved is not None:
        why = order.reason or f"the saved plan {order.saved.id} was applied"
        agree(store, order.saved.id, order.saved.effects, by=order.by, at=now, reason=why)
    judged = await _limit(settings, services, store, read, decision, order, now)
    if _first_held(judged.plan) and order.reviewed is not None and order.reviewed(judged.plan):
        why = order.reason or "the first plan was reviewed"
        agree(store, judged.plan.id, judged.plan.effects, by=order.by, at=now, reason=why)
        judged = await _limit(settings, services, store, read, decision, order, now)

    first_held = _first_held(judged.plan)
    if enforced and not before.reviewed and not first_held and not order.person and order.saved is None:
        # The limits on giving do not count for a first plan: neither for what a crash leaves undone of it, nor does it
        # fill their window.
        sent_now = {effect for op in judged.plan.operations if op.sent for effect in op.effects()}
        why = order.reason or "safety.first_run is apply"
        agree(store, judged.plan.id, sent_now, by=order.by, at=now, reason=why)
        judged = await _limit(settings, services, store, read, decision, order, now)
    learnt = decision.snapshot
    if first_held or not enforced:
        # Nothing is linked yet. What was read of one person is no whole snapshot, and must not be saved as one.
        learnt = before if order.person else read.snapshot
    reviewed = before.reviewed or (enforced and not first_held and not order.person)
    store.save(replace(learnt, reviewed=reviewed), before)
    run_id = store.begin_run("person" if order.person else judged.plan.kind, now, by=order.by, reason=order.reason)
    sent = [(number, op) for number, op in enumerate(judged.plan.operations) if op.sent]
    ids = store.write_ahead(
        run_id,
        [op for _, op in sent],
        {place: judged.decisions.get(number, "") for place, (number, _) in enumerate(sent)},
        now,
    )
    applied = await executor.apply(
        [(journal_id, op) for journal_id, (_, op) in zip(ids, sent, strict=True)],
        learnt,
        services.keeper,
        store,
        clock=clock,
        in_flight=settings.keeper.in_flight,
        progress=(lambda done, total: progress("Keeper", done, total)) if progress else None,
        stopping=stopping,
    )
    await _settle_now(services, store, applied, clock)
    final = replace(judged.plan, notices=(*judged.plan.notices, *applied.notices))
    outcome = Outcome(
        final,
        _result(settings, final, applied),
        {number: applied.results[journal_id] for journal_id, (number, _) in zip(ids, sent, strict=True)},
        order.saved.effects - final.effects if order.saved else frozenset(),
        applied.stopped,
    )
    keep = bool(final.held or sent)
    store.finish_run(
        run_id,
        clock(),
        outcome.result,
        plan_id=final.id,
        held=len(final.held_indices),
        counts=executor.counts(applied.results),
        document=to_json(final) if keep else None,
    )
    return outcome


def _result(settings: Settings, plan: Plan, applied: executor.Applied) -> str:
    if settings.policy().mode is Mode.OBSERVE:
        return "observed"
    if any(result.state is not State.DONE for result in applied.results.values()):
        return "failed" if applied.stopped and not applied.done else "partial"
    if plan.held:
        return "held"
    return "done" if applied.results else "nothing"


# -- read -----------------------------------------------------------------------------------------------------------


async def _read(
    settings: Settings, services: Services, store: Store, order: Order, now: datetime, progress: Progress | None
) -> _Read:
    snapshot = store.snapshot()
    organization, application = await services.jumpcloud.application()
    bound_to = Binding(organization, application.id, services.scim_url)
    if order.rebind and store.writable:
        store.rebind(bound_to, now)
        snapshot = store.snapshot()
    store.check(bound_to)
    if store.writable:
        store.bind(bound_to)
    unknown = store.unfinished()
    if order.person:
        # What became of others can't be told from this one person: it stays open until the next whole cycle.
        return await _read_person(services, snapshot, organization, application, order, now)
    last = store.last_run()
    resync = (
        order.resync
        or settings.policy().mode is Mode.OBSERVE
        or not snapshot.reviewed
        or snapshot.read_at is None
        or any(row.state is not State.UNKNOWN or row.operation.kind is not Kind.QUEUE_TEAM for row in unknown)
        or last is None
        or now - last.started_at > STALE
    )
    scope, listing = await asyncio.gather(
        services.jumpcloud.read_scope(progress),
        _list(services.keeper, snapshot, progress) if resync else _nothing(),
    )
    if listing is not None:
        snapshot = observed(snapshot, listing, now)
    directory = await services.jumpcloud.read_directory(scope, _ids_of_interest(snapshot), progress)
    open_rows = ((row.id, row.operation) for row in unknown if row.state is not State.PLANNED)
    outcomes, snapshot = settle(open_rows, snapshot)
    return _Read(directory, snapshot, "resync" if resync else "cycle", "", unknown, outcomes)


async def _nothing() -> None:
    return None


async def _list(keeper: Keeper, snapshot: Snapshot, progress: Progress | None) -> Listing:
    return await keeper.listing(
        [
            k
            for k, account in snapshot.accounts.items()
            if account.standing is not Standing.UNMANAGED and not account.gone
        ],
        [k for k, team in snapshot.teams.items() if team.managed and not team.gone],
        progress,
    )


def _ids_of_interest(snapshot: Snapshot) -> Collection[str]:
    """JumpCloud ids of whom we manage, and of whom Keeper says that JumpCloud made them."""
    ids = {account.jumpcloud_id for account in snapshot.accounts.values()}
    ids |= {account.shown.get(EXTERNAL_ID, "") for account in snapshot.accounts.values()}
    return ids


async def _read_person(
    services: Services, snapshot: Snapshot, organization: str, application: Application, order: Order, now: datetime
) -> _Read:
    """One person by point reads; Keeper is listed as a whole only where the snapshot does not know them."""
    address = fold(order.person)
    known = [a for a in snapshot.accounts.values() if fold(a.email) == address and not a.gone]
    person = await services.jumpcloud.person(email=order.person)
    if person is None and len(known) == 1 and known[0].jumpcloud_id:
        person = await services.jumpcloud.person(id=known[0].jumpcloud_id)
    if person is not None:
        known += [a for a in snapshot.accounts.values() if a.jumpcloud_id == person.user.id and a not in known]
    if known:
        users = await asyncio.gather(*(services.keeper.user(a.keeper_id) for a in known if not a.gone))
        shown = {user.id: user for user in users if user is not None}
        absent = {a.keeper_id for a in known if not a.gone} - shown.keys()
        only = replace(snapshot, accounts={a.keeper_id: a for a in known})
        seen = observed(only, Listing(shown, {}, frozenset(absent)), now)
        # The teams were not listed: they stand as they were.
        narrowed = replace(seen, teams=snapshot.teams)
    else:
        narrowed = observed(snapshot, await _list(services.keeper, snapshot, None), now)
    if person is None and not any(fold(a.email) == address for a in narrowed.accounts.values()):
        raise NobodyThere(
            f"{order.person} is neither a user in JumpCloud nor in this Keeper node; nothing was changed. "
            "Check the address"
        )
    groups = await services.jumpcloud.groups_in_scope()
    users_of = {person.user.id: person.user} if person is not None else {}
    directory = Directory(organization, application, users_of, groups)
    key = person.user.id if person is not None else ""
    if not key:
        account = next(a for a in narrowed.accounts.values() if fold(a.email) == address)
        key = account.jumpcloud_id or account.keeper_id
    wanted = {
        k: a
        for k, a in narrowed.accounts.items()
        if key in (a.jumpcloud_id, k)
        or fold(a.email) == address
        or (person is not None and a.shown.get(EXTERNAL_ID) == person.user.id)
    }
    return _Read(directory, replace(narrowed, accounts=wanted), "resync", key)


# -- decide ---------------------------------------------------------------------------------------------------------


def _decide(
    settings: Settings,
    services: Services,
    store: Store,
    read: _Read,
    order: Order,
    now: datetime,
) -> Decision:
    source = Source(
        read.directory.organization,
        read.directory.application.id,
        read.directory.application.label,
        services.scim_url,
    )
    unlock = frozenset({read.focus}) if order.unlock and read.focus else frozenset()
    decision = diff(
        read.directory,
        read.snapshot,
        settings.policy(),
        now,
        kind=read.kind,
        source=source,
        focus=read.focus,
        unlock=unlock,
    )
    if not read.focus:
        return decision
    whole = store.snapshot()
    kept = {k: a for k, a in whole.accounts.items() if k not in read.snapshot.accounts}
    return Decision(decision.plan, replace(whole, accounts={**kept, **decision.snapshot.accounts}))


async def _limit(
    settings: Settings,
    services: Services,
    store: Store,
    read: _Read,
    decision: Decision,
    order: Order,
    now: datetime,
) -> Judged:
    """The limits, then the confirming reads."""
    past = _past(store, now - settings.limits().window)
    consent = _consent(store, past, order, now)
    judged = judge(decision.plan, decision.snapshot, past, settings.limits(), settings.policy().teams, consent)
    if order.saved is not None:
        effects = order.saved.effects
        operations = tuple(op if op.effects() <= effects else replace(op, sent=False) for op in judged.plan.operations)
        judged = replace(judged, plan=replace(judged.plan, operations=operations))
    return await confirm(judged, services.jumpcloud, read.directory.groups)


def _past(store: Store, since: datetime) -> list[Past]:
    return [
        Past(row.operation, row.decision, counts=not row.decision.startswith(("release:", "allow:")))
        for row in store.journal(since)
        if row.state in (State.SENT, State.DONE, State.UNKNOWN)
    ]


def _consent(store: Store, past: list[Past], order: Order, now: datetime) -> Consent:
    releases = []
    for request in store.open_requests(now, "release"):
        decision = f"release:{request.id}"
        used = {
            effect
            for row in store.journal(request.at)
            if row.decision == decision and row.state is State.DONE
            for effect in row.operation.effects()
        }
        effects = frozenset(tuple(effect) for effect in request.arguments["effects"])
        releases.append(Release(decision, effects - used))
    allowances = [
        Allowance(f"allow:{request.id}", int(request.arguments["deactivations"]))
        for request in store.open_requests(now, "allow")
    ]
    before = {entry.operation.subject.key for entry in past if entry.decision.startswith("person:")}
    person = f"person:{fold(order.person)}" if order.person else ""
    return Consent(tuple(releases), tuple(allowances), person, frozenset(before))


def _first_held(plan: Plan) -> bool:
    return any(held.limit == "first_run" for held in plan.held)


def agree(store: Store, plan_id: str, effects: Collection[Effect], *, by: str, at: datetime, reason: str) -> None:
    """Put on record that a person lets these effects of a plan through, for four hours."""
    arguments = {"plan": plan_id, "effects": sorted(list(effect) for effect in effects)}
    store.add_request("release", arguments, by=by, at=at, reason=reason, until=at + RELEASE_LASTS)


# -- settle ---------------------------------------------------------------------------------------------------------


def _note_unknown(store: Store, read: _Read, now: datetime) -> None:
    """Close the journal of a run that was cut off: what was never sent is put off, of the rest Keeper has told."""
    outcomes = read.outcomes
    for row in read.unknown:
        if row.state is State.PLANNED:
            store.record(row.id, State.PUT_OFF, now, "put_off", "the run was cut off before it was sent")
        elif row.id in outcomes and (row.state is not State.UNKNOWN or outcomes[row.id].state is not State.UNKNOWN):
            state = outcomes[row.id].state
            if state is State.FAILED and row.state is State.SENT:
                state = State.PUT_OFF  # our end broke off, not the subject's fault: no pause follows
            store.record(row.id, state, now, "settled", outcomes[row.id].words)


async def _settle_now(
    services: Services, store: Store, applied: executor.Applied, clock: Callable[[], datetime]
) -> None:
    """Ask Keeper once what became of what had no clear answer, or of addresses that it says are taken."""
    unknown: list[tuple[int, Operation]] = [
        (number, result.operation) for number, result in applied.results.items() if result.state is State.UNKNOWN
    ]
    taken = any(result.outcome == "address_taken" for result in applied.results.values())
    if not unknown and not taken:
        return
    now = clock()
    before = store.snapshot()
    try:
        listing = await _list(services.keeper, before, None)
    except KeeperError:
        # The journal says unknown, and the next cycle begins by asking.
        return
    outcomes, snapshot = settle(unknown, observed(before, listing, now))
    store.save(snapshot, before)
    for number, outcome in outcomes.items():
        store.record(number, outcome.state, now, "settled", outcome.words)
        applied.results[number] = replace(applied.results[number], state=outcome.state, error=outcome.words)
