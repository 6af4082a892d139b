"""The straight line: read, diff, limit, confirm, apply, record. The one place where it stands as a line.

A dry run is the same line without its last two steps: it takes no lock and writes nothing.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Set
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from loguru import logger

from reconciler import addresses, consent, exits, pace
from reconciler import apply as executor
from reconciler.births import ACTIVE, LINKED, UNDO_DUE, UNDO_WORDS, beside, tying_address
from reconciler.canary import seen_later
from reconciler.clocks import Timekeeper
from reconciler.config import Settings
from reconciler.confirm import Confirmation, locks_ghost, preview, unconfirmed_links, unconfirmed_locks
from reconciler.diff import Decision, diff
from reconciler.diff_quarantine import unread_words
from reconciler.diff_teams import listed
from reconciler.evidence_age import Stamp, beating
from reconciler.fallback import not_made
from reconciler.foresight import foresee
from reconciler.jumpcloud import JumpCloudError, Person, PersonAmbiguous
from reconciler.keeper import BadToken, KeeperError, Progress
from reconciler.match import protection
from reconciler.model import (
    EXTERNAL_ID,
    GROUP_NAMES,
    GROUPS,
    USERS,
    Account,
    Application,
    Directory,
    Group,
    Listing,
    Snapshot,
    Standing,
    Team,
    User,
)
from reconciler.pairs import retied, without_teams
from reconciler.person import in_jumpcloud, in_keeper, in_snapshot
from reconciler.pilot import left_outside
from reconciler.plan import SCHEDULE, Effect, Kind, Notice, NoticeKind, Operation, Plan, Rule, Source, Subject, Upcoming
from reconciler.policy import FirstRun, Mode, TeamAdoption
from reconciler.reading import Read, Reader, Services, Stopped, as_resync, listing
from reconciler.report.document import SavedPlan, held_effects, to_json
from reconciler.rows import DENIED, DISAGREES, GONE, INVITED, LEAVERS, LOCKED_BEFORE, OVERTAKEN, PERSON, VANISHED
from reconciler.safety import HOLDS_ALL, Judged, judge, new_teams, only, paused, place
from reconciler.settle import (
    NEVER,
    REPEATED,
    TOO_EARLY,
    Settled,
    as_answered,
    as_repeated,
    denied_once,
    found_out,
    outcome_name,
    settle,
    with_own_locks,
)
from reconciler.snapshot import found_for, observed
from reconciler.store import Binding, State, StateError, Store

LANE_HOLD = "lane_hold"
"""Under which the state file keeps the id of the plan that the leaver lane held last."""
HOLD_AGAIN = timedelta(minutes=15)
"""How long what the lane holds stays as it was judged: whoever could not be told of it is told then."""
LOCK_AGAIN = timedelta(minutes=5)
"""After so long the lane sends a lock once more of which Keeper's record tells nothing."""
SETTLING = 30.0
"""Seconds in which the leaver lane asks what became of locks: people wait for its next look, and whole cycles ask."""
_GIVING = frozenset({Kind.CREATE_USER.value, Kind.REACTIVATE_USER.value, "add"})

_MAKING = frozenset({Kind.CREATE_USER, Kind.QUEUE_TEAM})
_NOT_GOOD = frozenset({NoticeKind.UNCONFIRMED, NoticeKind.WILL_BE_HELD})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Order:
    """What a person or the schedule asks of a cycle.

    `person` is the address that a `resync EMAIL` is about; `leavers` are the JumpCloud ids of the suspended people whom
    the leaver lane has found. Either makes it a partial cycle. `already` is what earlier cycles have done of the
    `saved` plan. `reviewed` is asked with the first plan where a person sits at a terminal; it returns whether that
    person agreed.
    """

    resync: bool = False
    person: str = ""
    leavers: frozenset[str] = frozenset()
    unlock: bool = False
    rebind: bool = False
    saved: SavedPlan | None = None
    reviewed: Callable[[Plan], bool] | None = None
    by: str = ""
    reason: str = ""
    already: frozenset[Effect] = frozenset()

    @property
    def partial(self) -> bool:
        """Whether it is about a few people only."""
        return bool(self.person or self.leavers)

    @property
    def kind(self) -> str:
        """The kind of its run; "" for one about everybody, which turns out to be a cycle or a resync."""
        return PERSON if self.person else LEAVERS if self.leavers else ""


@dataclass(slots=True)
class Outcome:
    """The result of a cycle. `result` is done, nothing, held, partial, failed or observed.

    `unfinished`: something was put off only because the time was up or another run was faster. `fallback`: why Keeper
    could not be listed, so that the cycle went on from the snapshot, without creations and adoptions. `stopped_kinds`:
    those that Keeper does not carry out as expected, with the words for it. `late`: the plan was too old already when
    it was to be applied, since somebody looked at it for long, or the process was stopped meanwhile. `began`: when the
    run did. `to_review`: there was nothing in the plan to look at, and the first plan for this node still is a
    person's to review, so that nobody was adopted. `directory`: what the run read of JumpCloud. `not_due` is the part
    of a saved plan that is no longer due, and `untold` the part of which the run could not tell.
    """

    run_id: int
    plan: Plan
    result: str
    results: Mapping[int, executor.Result] = field(default_factory=dict)
    not_due: frozenset[Effect] = frozenset()
    stopped: str = ""
    unfinished: bool = False
    fallback: str = ""
    stopped_kinds: Mapping[Kind, str] = field(default_factory=dict)
    late: bool = False
    began: datetime | None = None
    to_review: bool = False
    directory: Directory | None = None
    untold: frozenset[Effect] = frozenset()

    @property
    def done(self) -> frozenset[Effect]:
        """The effects that Keeper has carried out."""
        done = [result.operation for result in self.results.values() if result.state is State.DONE]
        return frozenset(effect for op in done for effect in op.effects())

    @property
    def lack(self) -> str:
        """Why something that is due may be missing in the plan, "" where everything was read."""
        unread = self.plan.scope.unread
        if names := not_made(self.plan.notices):
            return f"not made: {listed(names, 5)}. {self.fallback}"
        return self.fallback or (f"{unread_words(unread)} could not be read" if unread else "")

    @property
    def tells_of_people(self) -> bool:
        """Whether all was read that bears on who has access. A list of groups may be refused for good: who has left,
        and whose access is to be changed, is known without it."""
        return not (self.fallback or USERS in self.plan.scope.unread)

    @property
    def goes_on(self) -> bool:
        """Whether the next cycle should follow at once: something is unfinished, and somebody got on meanwhile, or
        nobody could since the plan was `late`.

        Where nobody did otherwise, since Keeper keeps throttling for instance, another cycle would not either.
        """
        return self.unfinished and (self.late or _got_on(self.results.values()))

    @property
    def good(self) -> bool:
        """Whether this was a good cycle, once it has run: everything read, nothing held, paused or stopped, nothing
        attempted failed or was put off, and no limit will hold the plan when grace ends. Subjects in their failure
        pause and `teams.review` don't count, nor does what was put off for time while somebody got on."""
        return (
            self.result in ("done", "nothing", "observed", "held")
            and (self.goes_on or not self.unfinished)
            and not self.lack
            and all(held.limit == "teams.review" for held in self.plan.held)
            and not any(notice.kind in _NOT_GOOD for notice in self.plan.notices)
        )


async def plan(
    settings: Settings, services: Services, store: Store, order: Order, now: datetime, progress: Progress | None = None
) -> Plan:
    """A dry run: what the next cycle would do, in full even when it is held. Writes nothing.

    `now` is the time by this machine's clock.
    """
    line = _Line(settings, services, store, order, Timekeeper(store, lambda: now), progress)
    found = await line.found()
    read, decision = await line.considered(found)
    return (await line.previewed(line.limited(decision), read)).plan


@dataclass(frozen=True, slots=True)
class Look:
    """One person as both services show them, and what the next cycle would do about them.

    `user` and the `groups` in scope are JumpCloud's, `snapshot` is what bears on the person, `key` their name in it.
    What could not be read is in `unread` by service, with the reason; then `user` is not known, or the accounts are as
    they were when last read. `plan` is None where JumpCloud could not be read, or where there is nobody; `upcoming` is
    what follows once grace ends. `ambiguous`: JumpCloud has several users with the address.
    """

    user: User | None
    groups: Mapping[str, Group]
    snapshot: Snapshot
    key: str
    plan: Plan | None
    unread: Mapping[str, str]
    ambiguous: bool = False
    upcoming: tuple[Upcoming, ...] = ()


NOT_ASKED = "not asked (--offline)"


def look_back(store: Store, address: str) -> Look:
    """One person as the snapshot knows them; neither service is asked."""
    held = in_snapshot(store.snapshot(), address, None)
    return Look(None, {}, held.there, held.key, None, {"jumpcloud": NOT_ASKED, "keeper": NOT_ASKED})


async def look(settings: Settings, services: Services, store: Store, address: str, now: datetime) -> Look:
    """One person by a few requests, and what a cycle that began now would do about them; writes nothing.

    `now` is the time by this machine's clock. Raises WrongBinding, and what the store raises; a service that gives no
    answer is in the result.
    """
    snapshot = store.snapshot()
    line = _Line(settings, services, store, Order(), Timekeeper(store, lambda: now), None)
    now = line.now
    unread: dict[str, str] = {}
    person = found = made = None
    ambiguous = False
    try:
        found = await line.application()
        store.check(Binding(found[0], found[1].id, services.scim_url))
        person = await in_jumpcloud(services.jumpcloud, snapshot, address)
    except JumpCloudError as error:
        unread["jumpcloud"] = str(error)
        ambiguous = isinstance(error, PersonAmbiguous)
    user = person.user if person else None
    held = in_snapshot(snapshot, address, user)
    try:
        if held.there.accounts:
            held = await in_keeper(services.keeper, snapshot, address, user, now)
        elif snapshot.read_at is None:
            listed = await listing(services.keeper, snapshot, None)
            held = in_snapshot(observed(snapshot, listed, now), address, user)
    except KeeperError as error:
        unread["keeper"] = str(error)
    # A lock of ours may have had no answer: the next cycle tells that it is ours.
    held = replace(held, snapshot=with_own_locks(held.snapshot))
    groups: Mapping[str, Group] = {}
    upcoming: tuple[Upcoming, ...] = ()
    try:
        if found is not None and "jumpcloud" not in unread:
            read = await Reader(services, *found, snapshot, store.unfinished(), now).around(person, held, address)
            groups = read.directory.groups
            if held.key:
                decision = line.decided(read)
                made, upcoming = (await line.previewed(line.limited(decision), read)).plan, decision.upcoming
    except JumpCloudError as error:
        unread["jumpcloud"] = str(error)
    return Look(user, groups, held.there, held.key, made, unread, ambiguous, upcoming)


async def run(
    settings: Settings,
    services: Services,
    store: Store,
    order: Order,
    clock: Callable[[], datetime],
    *,
    progress: Progress | None = None,
    stopping: asyncio.Event | None = None,
    begun: Callable[[int], None] | None = None,
) -> Outcome:
    """One cycle, on record from its beginning to its end. The store is open for writing.

    `begun` is told the id of its run as soon as there is one.

    `clock` is this machine's. What is decided and recorded goes by the time that the services' clocks confirm.
    Once `stopping` is set, a read is given up (`Stopped`), and no further operation is begun. Raises what the clients
    and the store raise; whatever was applied until then is in the journal.
    """
    stopping = stopping or asyncio.Event()
    time = Timekeeper(store, clock, services.keeper.clock.boottime)
    line = _Line(settings, services, store, order, time, progress)
    run_id = store.begin_run(order.kind or "cycle", time.now, by=order.by, reason=order.reason)
    if begun is not None:
        begun(run_id)
    async with AsyncExitStack() as stack:
        stack.enter_context(logger.contextualize(run=run_id))
        if order.partial:
            stack.enter_context(pace.urgent())
            await stack.enter_async_context(store.hands.beside())
        try:
            # The application first: what its replies say of the time need not be asked for.
            found = await unless(stopping, line.found())
            await unless(stopping, time.settle(services, run_id, ask=not order.leavers))
            consent.prolong_cut_off(store, time.now)
            # By this task, which everything below is a part of: what a subtask holds, only that one holds.
            await stack.enter_async_context(store.hands.hold(found.keys))
            began = Stamp.now(services.keeper.clock)
            with beating(services.keeper.clock) as heart:
                read, decision = await unless(stopping, line.considered(found))
                # Whoever stood still in a read has read some of it before.
                stood = heart.stood() > executor.TIME_BOX
            read_at = began if stood else Stamp.now(services.keeper.clock)
            await stack.enter_async_context(deciding := AsyncExitStack())
            await deciding.enter_async_context(store.hands.deciding)
            decision, judged = line.agreed(decision, read)
            learnt = line.learnt(decision, judged.plan, read)
            judged, learnt = await unless(stopping, line.own_locks(judged, learnt, read))
            learnt, unlinked = await unless(stopping, line.linked(learnt, read))
            read = _untouched(read, store)
            # In one step: had we closed the journal before and died, whose lock was ours would be forgotten; had we
            # died in between, nobody would know what a linked account was before.
            with store.together():
                store.save(learnt, read.before, read.mark, found_out(read.outcomes))
                if not order.partial and read.snapshot.inventory != read.before.inventory:
                    store.keep_inventory(read.snapshot.inventory)
                if not (order.partial or judged.plan.scope.unread):
                    store.note_whole_read(time.now)
                if order.resync and read.kind == "resync" and not order.partial:
                    store.forget_links(tuple(Kind))
                _note_unknown(store, read, time.now)
                _found_again(store, read.before, read.snapshot)
                if read.kind == "resync" and not order.partial:
                    _back_to_canary(store, read)
            planned = line.written_ahead(run_id, judged, learnt, read.before)
            await deciding.aclose()
            return await line.applied(run_id, judged, learnt, planned, read, unlinked, time.clock, stopping, read_at)
        except Exception as error:
            with suppress(StateError):
                result = "stopped" if isinstance(error, Stopped) else "failed"
                store.finish_run(run_id, time.clock(), result, error=exits.recorded(error))
            raise


async def leavers(settings: Settings, services: Services, store: Store, now: datetime) -> Order | None:
    """Look for suspended people who are still active in Keeper; writes nothing but the end of a hold.

    `now` is the time by this machine's clock. Returns the order of the partial cycle that locks them. None where there
    are none, where nothing may be sent, or where all of them wait as they did when the lane ran last, for a while.
    Raises JumpCloudError and what the store raises.
    """
    if settings.policy().mode is not Mode.ENFORCE or not store.reviewed() or store.pause() is not None:
        return None
    time = Timekeeper(store, lambda: now)
    active = store.active_ids()
    with pace.urgent():
        found = active & await services.jumpcloud.suspended(active, store.suspended_ids())
        # Many are looked at by turns: whose lock is held is not over because it is the turn of others.
        found |= await services.jumpcloud.suspended_by_record(_held_by_lane(store) & active - found)
        policy = settings.policy()
        # Whom no cycle, or none but a whole one, may lock need not be read each time.
        there = store.active_accounts(found)
        spared = (a for a in there if a.merely_found or left_outside(policy, a) or protection(policy, None, a))
        found -= {account.jumpcloud_id for account in spared}
        # Nor whose lock was sent just now and whose record does not tell what became of it.
        untold = store.hidden_locks(time.now - LOCK_AGAIN) if found else frozenset()
        found -= {account.jumpcloud_id for account in store.active_accounts(found) if account.keeper_id in untold}
        if not found:
            _end_hold(store, time.now)
            return None
        order = Order(leavers=found, by=SCHEDULE, reason="suspended in JumpCloud")
        line = _Line(settings, services, store, order, time, None)
        _, decision = await line.considered(await line.found())
    plan = line.limited(decision).plan
    if any(op.sent for op in plan.operations) or _hold_of(plan) != (store.meta(LANE_HOLD) or ""):
        return order
    if not plan.held:
        return None
    run = store.held_run(plan.id)
    return order if run is None or time.now - run.started_at > HOLD_AGAIN else None


def _end_hold(store: Store, now: datetime) -> None:
    """Put on record that what the lane has held is not due any more."""
    if store.meta(LANE_HOLD):
        run_id = store.begin_run(LEAVERS, now, by=SCHEDULE, reason="what was held is not due any more")
        store.finish_run(run_id, now, "nothing")
        store.set_meta(LANE_HOLD, "")


def _held_by_lane(store: Store) -> frozenset[str]:
    """The JumpCloud ids of the people whose locks the lane has held last."""
    plan_id = store.meta(LANE_HOLD)
    run = store.held_run(plan_id) if plan_id else None
    return frozenset(effect[1] for effect in held_effects(store.document(run.id) if run is not None else None))


def _hold_of(plan: Plan) -> str:
    return plan.id if plan.held else ""


@dataclass(frozen=True, slots=True)
class _Found:
    """The application and its organisation; of a partial cycle the keys of its people too, and of a `resync EMAIL` what
    JumpCloud shows."""

    organization: str
    application: Application
    keys: frozenset[str] = frozenset()
    person: Person | None = None


async def unless(stopping: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work; raises `Stopped` as soon as the event is set."""
    task, stop = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Stopped("stopped while it was reading; nothing was sent")
        return task.result()
    finally:
        for one in (task, stop):
            one.cancel()
        await asyncio.gather(task, stop, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class _Line:
    """The steps of one cycle, in the order in which they are taken."""

    settings: Settings
    services: Services
    store: Store
    order: Order
    time: Timekeeper
    progress: Progress | None

    @property
    def now(self) -> datetime:
        """The moment at which all is decided."""
        return self.time.now

    # -- read -------------------------------------------------------------------------------------------------------

    async def found(self) -> _Found:
        """The application, and the people whom a partial cycle is about; nobody for all other cycles."""
        organization, application = await self.application()
        order, before = self.order, self.store.snapshot() if self.order.person else Snapshot()
        if not order.person:
            # Whoever is in another run's hand now may stay there for long: the others do not wait for that.
            free = frozenset(filter(self.store.hands.free, order.leavers))
            return _Found(organization, application, free)
        person = await in_jumpcloud(self.services.jumpcloud, before, order.person)
        held = in_snapshot(before, order.person, person.user if person else None)
        keys = {a.jumpcloud_id or k for k, a in held.snapshot.accounts.items()}
        return _Found(organization, application, frozenset(keys | {held.key} - {""}), person)

    async def application(self) -> tuple[str, Application]:
        """The organisation and the application.

        For the leaver lane those that the state file is bound to: it locks people of ours whose own records say
        suspended, and must not wait for a read that this does not need.
        """
        bound = self.store.binding()
        if self.order.leavers and bound is not None:
            return bound.organization, Application(bound.application_id, self.settings.jumpcloud.application)
        on_record = None if bound is None or self.order.rebind else (bound.organization, bound.application_id)
        return await self.services.jumpcloud.application(on_record)

    async def read(self, found: _Found) -> Read:
        order, store, policy = self.order, self.store, self.settings.policy()
        organization, application = found.organization, found.application
        bound_to = Binding(organization, application.id, self.services.scim_url)
        if order.rebind and store.writable:
            async with store.hands.alone():
                store.rebind(bound_to, self.now)
        mark, before = store.hands.mark(), store.snapshot()
        store.check(bound_to)
        if order.saved is not None:
            order.saved.check(organization, application.id, self.services.scim_url)
        if store.writable and store.binding() is None:
            store.bind(bound_to)
        reader = Reader(
            self.services, organization, application, before, store.unfinished(), self.now, self.progress, mark
        )
        if order.person:
            return await reader.one(order.person, found.person)
        if order.leavers:
            return await reader.suspended(found.keys)
        # Whoever enforces after observing begins with a plan that a person reviews.
        reviewed = before.reviewed and policy.mode is Mode.ENFORCE
        resync = order.resync or not reviewed or reader.asks_keeper(store.last_good_read())
        # A saved plan is carried out as it was seen, or not at all.
        return await reader.everybody(policy.teams, reviewed=reviewed, resync=resync, may_fall_back=order.saved is None)

    # -- decide -----------------------------------------------------------------------------------------------------

    async def considered(self, found: _Found) -> tuple[Read, Decision]:
        """Read both sides, and decide what is to be done.

        Keeper links a creation to whatever account has the address, and takes a second team of one name; an account or
        team may have another address, name or owner than the last list showed. So before anybody is created, a team
        queued or anything taken over, Keeper is listed, if that was not done anyway.
        """
        read = await self.read(found)
        decision = self.decided(read)
        makes = any(op.sent and op.kind in _MAKING for op in decision.plan.operations)
        learnt = _without_unsent_teams(decision.plan, decision.snapshot, read)
        if read.kind != "cycle" or not (makes or _takes_over(read.snapshot, learnt)):
            return read, decision
        try:
            read = await as_resync(self.services.keeper, read, self.now, self.progress)
        except KeeperError as error:
            if isinstance(error, BadToken) or self.order.saved is not None:
                raise
            read = read.without_list(error)
        return read, self.decided(read)

    def decided(self, read: Read) -> Decision:
        self.time.go_on()
        application = read.directory.application
        decision = diff(
            read.directory,
            read.snapshot,
            self.settings.policy(),
            self.now,
            kind=read.kind,
            source=Source(read.directory.organization, application.id, application.label, self.services.scim_url),
            focus=read.focus,
            pausing=not self.order.partial,
            unlock=read.focus if self.order.unlock and read.focus else frozenset(),
            certain=self.time.certain,
            from_list=not read.fallback,
            uncertain=read.uncertain,
        )
        notices = (*self.time.notices, *read.notices, *decision.plan.notices)
        decision = replace(decision, plan=replace(decision.plan, notices=notices))
        if read.focus is None:
            return decision
        kept = {k: a for k, a in read.before.accounts.items() if k not in read.snapshot.accounts}
        return replace(decision, snapshot=replace(read.before, accounts={**kept, **decision.snapshot.accounts}))

    def limited(self, decision: Decision) -> Judged:
        """The plan with the limits, and with what persons have decided."""
        settings, order = self.settings, self.order
        length = settings.limits().window
        since = self.time.window(length)
        past = consent.window(self.store, since, length, self.time.certainly(length))
        # The read may have taken hours, if the process was stopped meanwhile: what ran out by now counts no more.
        given = consent.given(self.store, past, order.person, self.time.clock(), since)
        limits, teams = settings.limits(), settings.policy().teams
        judged = judge(decision.plan, decision.snapshot, past, limits, teams, given)
        judged = foresee(judged, decision.upcoming, decision.snapshot, past, limits, teams, given)
        if order.saved is not None:
            judged = only(judged, order.saved.effects)
        pause = self.store.pause()
        if pause is not None and not order.person:
            return paused(judged, pause.by, pause.at, pause.reason)
        return judged

    def tells(self, read: Read) -> Callable[[Effect], bool]:
        """Return the test whether the plan tells if an effect is due (see `Read.tells`): while the time is not certain,
        what waits for the end of a grace is not planned."""
        return read.tells() if self.time.certain else lambda _: False

    def agreed(self, decision: Decision, read: Read) -> tuple[Decision, Judged]:
        """The plan with the limits, once a saved plan or a first plan that was reviewed is on record as agreed to."""
        order = self.order
        if self.settings.policy().mode is Mode.OBSERVE:
            consent.drop_all(self.store, self.now)
        if order.saved is not None:
            # What earlier cycles for it have done is let through once.
            effects = consent.asked_once(self.store, order.saved.effects - order.already, order.saved.generated_at)
            self._agree(order.saved.id, effects, f"the saved plan {order.saved.id} was applied")
        if not order.partial:
            consent.drop_what_is_not_due(self.store, decision.plan.effects, self.tells(read), self.now)
        judged = self.limited(decision)
        if judged.plan.first_held and order.reviewed is not None and order.reviewed(judged.plan):
            self._agree(judged.plan.id, judged.plan.agreed_effects, "the first plan was reviewed")
            judged = self.limited(decision)
        if self._is_review(judged.plan, decision) and not decision.snapshot.reviewed:
            # The limits on giving do not count for a first plan: neither for what a crash leaves undone of it, nor
            # does it fill their window.
            given = {
                effect for op in judged.plan.operations if op.sent for effect in op.effects() if effect[0] in _GIVING
            }
            self._agree(judged.plan.id, given, "safety.first_run is apply")
            judged = self.limited(decision)
        if judged.plan.first_held and self._is_review_but_for_news(judged.plan):
            decision = _reviewed(decision, judged.plan)
            judged = self.limited(decision)
        return decision, judged

    def _is_review_but_for_news(self, plan: Plan) -> bool:
        """Whether a person let a first plan through, and what waits of this one is new since then.

        That is judged by itself: else nobody could review the first plan of a node where there is always something new.
        """
        sent = {effect for op in plan.operations if op.sent for effect in op.effects()}
        if not sent or self.order.partial or USERS in plan.scope.unread:
            return False
        if self.order.saved is not None:
            return self.order.saved.first
        return consent.first_plan_released(self.store, sent, self.time.clock())

    def _agree(self, plan_id: str, effects: Collection[Effect], why: str) -> None:
        order = self.order
        # A person may have looked at the plan for hours.
        at = self.time.clock()
        consent.agree_once(self.store, plan_id, effects, by=order.by, at=at, reason=order.reason or why)

    def _is_review(self, plan: Plan, decision: Decision) -> bool:
        """Whether this cycle, once it is through, was the review of the first plan for this node.

        Of a plan that waits for a person, only what a person let through is sent. With `first_run = "apply"`, a plan
        for nobody was no first plan: an empty scope, or a pilot that names nobody. A plan without the list of users
        lacks people, of whom nobody could judge. One without a list of groups lacks teams, which are looked at later
        (see `Snapshot.teams_open`): a role may lack the right to it for good, and leavers would wait for that.
        """
        if self.settings.policy().mode is not Mode.ENFORCE or self.order.partial or USERS in plan.scope.unread:
            return False
        if any(held.limit in HOLDS_ALL for held in plan.held):
            return False
        if self.settings.limits().first_run is FirstRun.REVIEW:
            seen = self.order.saved is None or self.order.saved.first
            return seen and any(op.sent for op in plan.operations)
        return plan.scope.users > 0 and not decision.pilot_names_nobody

    async def previewed(self, judged: Judged, read: Read) -> Judged:
        """The plan of a dry run, with what its confirming reads told."""
        return await preview(judged, self.confirmation(judged.plan, read, {}))

    def confirmation(self, plan: Plan, read: Read, unlinked: Mapping[str, str]) -> Confirmation:
        """Confirm what this plan does."""
        teams = self.settings.policy().teams
        length = self.settings.limits().window
        # A quiet cycle has nothing to confirm.
        queued = consent.queued(self.store, self.time.certainly(length), length) if plan.operations else []
        lately = new_teams(plan, queued, read.snapshot.teams, teams)
        ghosts = [op.subject.name for op in plan.operations if op.sent and locks_ghost(op)]
        held = self.store.snapshot().accounts.values() if ghosts else ()
        return Confirmation(
            self.services.jumpcloud,
            read.directory.groups,
            read.snapshot.teams,
            lately,
            [op.subject.jumpcloud_id for op in plan.operations if op.sent and _gives(op, lately)],
            unlinked,
            ghosts,
            {account.jumpcloud_id for account in held if account.managed and not account.gone},
            self.services.keeper.clock,
            self.settings.jumpcloud.in_flight,
            self.order.person,
        )

    async def own_locks(self, judged: Judged, learnt: Snapshot, read: Read) -> tuple[Judged, Snapshot]:
        """What a lock that is newly taken for ours rests on is confirmed: on somebody's return it would be undone."""
        both = (read.before.accounts, read.snapshot.accounts)
        known = {k for accounts in both for k, a in accounts.items() if a.locked_by_us}
        fresh = [a for k, a in learnt.accounts.items() if a.locked_by_us and not (k in known or a.gone)]
        leavers = [Subject("user", a.email, a.jumpcloud_id, a.keeper_id) for a in fresh]
        doubts = await unconfirmed_locks(leavers, read.directory.users, self.services.jumpcloud)
        if not doubts:
            return judged, learnt
        others = {
            n.subject.keeper_id: replace(learnt.accounts[n.subject.keeper_id], locked_by_us=False) for n in doubts
        }
        plan = replace(judged.plan, notices=(*judged.plan.notices, *doubts))
        return replace(judged, plan=plan), replace(learnt, accounts={**learnt.accounts, **others})

    async def linked(self, learnt: Snapshot, read: Read) -> tuple[Snapshot, dict[str, str]]:
        """Confirm the addresses that newly tie people to accounts, and take back the ties that are in doubt.

        Returns, by JumpCloud id, why. The leaver lane has read everybody's own record just now; whoever a `resync
        EMAIL` is about was found by a list or a search, which may be behind, and may have waited for another run since.
        """
        if self.order.leavers:
            return learnt, {}
        before, people = read.snapshot.accounts, read.directory.users
        changed = {k: a for k, a in retied(before, learnt.accounts).items() if k in learnt.accounts}
        links = [
            Subject("user", a.email, a.jumpcloud_id, key)
            for key, a in ((key, learnt.accounts[key]) for key in changed)
            if a.managed and a.jumpcloud_id in people and a.jumpcloud_id != before[key].jumpcloud_id
            # An id that Keeper shows, or a person who named the account, ties them whatever their address.
            if a.shown.get(EXTERNAL_ID) != a.jumpcloud_id and addresses.same(people[a.jumpcloud_id].email, a.email)
        ]
        doubts = await unconfirmed_links(links, self.services.jumpcloud)
        if not doubts:
            return learnt, doubts
        back = {
            key: former
            for key, former in changed.items()
            if not doubts.keys().isdisjoint({learnt.accounts[key].jumpcloud_id, former.jumpcloud_id})
        }
        return replace(learnt, accounts={**learnt.accounts, **back}), doubts

    def learnt(self, decision: Decision, plan: Plan, read: Read) -> Snapshot:
        """What is known of Keeper before anything is sent."""
        enforced = self.settings.policy().mode is Mode.ENFORCE
        before, learnt = read.before, decision.snapshot
        reviewed = learnt.reviewed or self._is_review(plan, decision)
        held = any(hold.limit in HOLDS_ALL for hold in plan.held)
        unreviewed = not (reviewed or self.order.partial)
        if plan.first_held or not enforced or unreviewed:
            # Nothing is linked yet. What was read of one person is no whole snapshot, and must not be saved as one.
            seen = replace(before, accounts={**before.accounts, **read.snapshot.accounts})
            seen = _remembered(seen if self.order.partial else read.snapshot, learnt)
            # A lock that was there when we first saw the account stays apart from one that somebody sets from now on.
            found = [k for k in read.snapshot.fresh if k in learnt.accounts and learnt.accounts[k].locked_by_us]
            locked = {k: replace(seen.accounts[k], locked_by_us=True) for k in found}
            seen = replace(seen, accounts={**seen.accounts, **locked})
            # But whoever something is sent for all the same, since a person let that through, is linked.
            concerned = {op.subject.keeper_id for op in plan.operations if op.sent}
            learnt = replace(
                seen,
                accounts={**seen.accounts, **{k: a for k, a in learnt.accounts.items() if k in concerned}},
                teams={**seen.teams, **{k: t for k, t in learnt.teams.items() if k in concerned}},
                unclear=learnt.unclear,
            )
        if reviewed and not learnt.reviewed and self._reviews_teams:
            learnt = replace(learnt, named_teams=_unsent_by_name(plan))
        if self.order.partial:
            # What is sent now is told by its answer, and what became of a request without one by the look.
            asked = [op for op in plan.operations if op.sent] + [row.operation for row in read.unknown]
            learnt = _locked_as_before(learnt, before, read.snapshot.accounts.keys() - _turned(asked))
        tied = learnt.named_teams
        learnt = _without_unsent_teams(plan, learnt, read)
        lacks = {GROUPS, GROUP_NAMES}.intersection(plan.scope.unread) if self.settings.policy().teams.manage else set()
        # That ends with the first plan that has everything, and keeps no team waiting.
        waits = held or tied != learnt.named_teams
        still = bool(lacks) or waits or bool(read.fallback) or self.order.partial
        lacked = (before.teams_open and still) if before.reviewed else bool(lacks) or tied != learnt.named_teams
        return replace(learnt, reviewed=enforced and reviewed, teams_open=enforced and reviewed and lacked)

    @property
    def _reviews_teams(self) -> bool:
        """Whether a person agrees to each takeover of a team by its name."""
        adopt, first_run = self.settings.policy().teams.adopt, self.settings.limits().first_run
        return adopt is TeamAdoption.FIRST_RUN and first_run is FirstRun.REVIEW

    # -- apply ------------------------------------------------------------------------------------------------------

    def written_ahead(self, run_id: int, judged: Judged, learnt: Snapshot, before: Snapshot) -> dict[int, int]:
        """Write what is to be sent to the journal, with what persons have decided about it; returns the journal ids by
        the index in the plan. `before`: what was known of Keeper when the run began."""
        sent = [(number, op) for number, op in enumerate(judged.plan.operations) if op.sent]
        managed = consent.who_is_managed(self.store, before, dict(sent))
        decisions = {n: judged.decisions.get(number) or managed.get(number, "") for n, (number, _) in enumerate(sent)}
        # Who had left before we came was first seen by us then: that says nothing of when they left.
        left = {keeper_id: a.left_at for keeper_id, a in learnt.accounts.items() if a.left_at and not a.review_lock}
        ids = self.store.write_ahead(run_id, [op for _, op in sent], decisions, self.now, left)
        return {number: journal_id for (number, _), journal_id in zip(sent, ids, strict=True)}

    async def applied(
        self,
        run_id: int,
        judged: Judged,
        learnt: Snapshot,
        planned: Mapping[int, int],
        read: Read,
        unlinked: Mapping[str, str],
        clock: Callable[[], datetime],
        stopping: asyncio.Event,
        read_at: Stamp,
    ) -> Outcome:
        settings, store, progress = self.settings, self.store, self.progress
        late = read_at.age(self.services.keeper.clock) > executor.TIME_BOX
        applied = await executor.apply(
            [(journal_id, judged.plan.operations[number]) for number, journal_id in planned.items()],
            learnt,
            self.services.keeper,
            store,
            clock=clock,
            in_flight=settings.keeper.in_flight,
            confirmation=self.confirmation(judged.plan, read, unlinked),
            mark=read.mark,
            agreed=frozenset(j for n, j in planned.items() if judged.decisions.get(n)),
            vanished=consent.vanished(store, self.time.window(settings.limits().window)).number if planned else 0,
            progress=(lambda done, total: progress("Keeper", done, total)) if progress else None,
            stopping=lambda: self._why_stop(stopping),
            paused=self._why_paused,
            read_at=read_at,
        )
        limit = SETTLING if self.order.leavers else None
        whole = not self.order.person
        await _settle_now(self.services, store, run_id, applied, clock, whole=whole, limit=limit)
        tells = self.tells(read)
        if not self.order.partial:
            consent.drop_what_is_not_due(store, judged.plan.effects, tells, self.now)  # what is used up by now
        consent.prolong(store, {judged.decisions.get(n, "") for n, j in planned.items() if _done(applied, j)}, clock())
        final = replace(judged.plan, notices=(*judged.plan.notices, *applied.notices))
        saved = self.order.saved
        not_planned = saved.effects - final.effects - self.order.already if saved else frozenset[Effect]()
        untold = consent.undecided(store, not_planned, tells)
        to_review = not (learnt.reviewed or final.operations or self.order.partial)
        to_review = to_review and settings.policy().mode is Mode.ENFORCE
        if to_review:
            final = replace(final, adopts=())
        outcome = Outcome(
            run_id,
            final,
            _result(settings, final, applied, read.fallback, late=late),
            {number: applied.results[journal_id] for number, journal_id in planned.items()},
            not_planned - untold,
            applied.stopped,
            applied.unfinished,
            read.fallback,
            applied.stopped_kinds,
            late,
            self.time.began,
            to_review,
            read.directory,
            untold,
        )
        if self.order.leavers:
            store.set_meta(LANE_HOLD, _hold_of(final))
        store.finish_run(
            run_id,
            clock(),
            outcome.result,
            kind=self.order.kind or final.kind,
            plan_id=final.id,
            held=len(final.held_indices),
            counts=executor.counts(applied.results),
            error=outcome.lack,
            document=to_json(final) if final.held or planned else None,
        )
        return outcome

    def _why_stop(self, stopping: asyncio.Event) -> str:
        if stopping.is_set():
            return "the reconciler was asked to stop"
        return self._why_paused()

    def _why_paused(self) -> str:
        pause = None if self.order.person else self.store.pause()
        return f"all writes were paused by {pause.by}" if pause else ""


def _got_on(results: Iterable[executor.Result]) -> bool:
    """Whether somebody got on in a run: something was done, or another run was faster."""
    return any(result.state is State.DONE or result.outcome == OVERTAKEN for result in results)


def _result(settings: Settings, plan: Plan, applied: executor.Applied, fallback: str, *, late: bool) -> str:
    if settings.policy().mode is Mode.OBSERVE:
        return "observed"
    missed = [r for r in applied.results.values() if r.state is not State.DONE and r.outcome not in executor.NO_FAULT]
    if missed:
        return "failed" if applied.stopped and not applied.done else "partial"
    unconfirmed = any(notice.kind is NoticeKind.UNCONFIRMED for notice in plan.notices)
    if unconfirmed or applied.stopped_kinds:
        return "partial"
    if plan.held:
        return "held"
    if plan.scope.unread:
        return "partial"
    if fallback:
        return "partial" if applied.results else "failed"
    if applied.results and not (late or _got_on(applied.results.values())):
        return "partial"
    return "done" if applied.results else "nothing"


def _reviewed(decision: Decision, plan: Plan) -> Decision:
    """The decision once the first plan counts as reviewed; a team that only this plan takes over waits for a person."""
    snapshot = replace(decision.snapshot, reviewed=True, named_teams=_unsent_by_name(plan))
    return replace(decision, snapshot=snapshot)


def _unsent_by_name(plan: Plan) -> frozenset[str]:
    """The Keeper ids of the teams that a first plan takes over by their names and does not send: nobody has agreed to
    that."""
    adopted = (op for op in plan.operations if op.kind is Kind.RENAME_TEAM and op.rule is Rule.ADOPTED)
    return frozenset(op.subject.keeper_id for op in adopted if not op.sent)


def _without_unsent_teams(plan: Plan, learnt: Snapshot, read: Read) -> Snapshot:
    """The snapshot without the ties to teams that are taken over by their names since the first plan, as long as
    nothing is sent for them: a person has to agree, or the pilot is not about them."""
    sent = [op for op in plan.operations if op.sent]
    agreed = {op.subject.keeper_id for op in sent} | {team.keeper_id for op in sent for team in op.add}
    waiting = learnt.named_teams - agreed
    if not waiting:
        return learnt
    teams = {k: read.snapshot.teams[k] if k in waiting else team for k, team in learnt.teams.items()}
    accounts = without_teams(learnt.accounts, read.snapshot.accounts, waiting)
    return replace(learnt, teams=teams, accounts=accounts, named_teams=learnt.named_teams - waiting)


def _turned(operations: Iterable[Operation]) -> Set[str]:
    """The Keeper ids of the accounts that these operations lock or unlock, be it to undo a link."""
    return {op.subject.keeper_id for op in operations for change in op.changes if change.attribute == ACTIVE}


def _locked_as_before(learnt: Snapshot, before: Snapshot, in_doubt: Set[str]) -> Snapshot:
    """The snapshot, with the locks of these accounts (Keeper ids) as they were: what was read of them may be behind.

    It decides what is sent now, and a later list tells the rest. What is behind our lock shows none, and the next list
    would show ours as one by another hand, which nobody undoes; what is behind our unlock shows a leaver as locked.
    """
    back: dict[str, Account] = {}
    for keeper_id in (in_doubt - before.own_locks) & learnt.accounts.keys() & before.accounts.keys():
        account, former = learnt.accounts[keeper_id], before.accounts[keeper_id]
        # Where somebody else had locked the account, no read is behind a change of ours.
        there = not (account.gone or former.gone or former.locked_by_others)
        if there and account.standing is former.standing and account.active is not former.active:
            back[keeper_id] = replace(account, active=former.active, locked_by_us=former.locked_by_us)
    return replace(learnt, accounts={**learnt.accounts, **back}) if back else learnt


def _remembered(seen: Snapshot, learnt: Snapshot) -> Snapshot:
    """The snapshot with what a plan that nobody has reviewed teaches without linking anybody: all that is known of
    those whom we manage, since when teams are out of scope, else no grace would ever end, and whose the accounts are
    that it finds for people in scope: whoever is deleted in JumpCloud before the review would be told from nobody.
    Of places in teams only those that are sure to be a group's.
    """
    tied = {k for k, team in learnt.teams.items() if team.managed and _is_tied(team, seen.teams.get(k))}
    accounts = dict(seen.accounts)
    for keeper_id, account in learnt.accounts.items():
        now = seen.accounts.get(keeper_id)
        if now is None or not account.managed:
            continue
        if now.managed and now.jumpcloud_id == account.jumpcloud_id:
            places = {t: m for t, m in account.memberships.items() if t in tied and t in now.memberships}
            memberships = {**now.memberships, **places}
            accounts[keeper_id] = replace(account, takeover=now.takeover, memberships=memberships)
        elif now.standing is Standing.UNMANAGED:
            accounts[keeper_id] = found_for(now, account, tied)
    teams = {
        k: replace(t, left_at=learnt.teams[k].left_at) if t.managed and k in learnt.teams else t
        for k, t in seen.teams.items()
    }
    return replace(seen, accounts=accounts, teams=teams)


def _is_tied(team: Team, before: Team | None) -> bool:
    """Whether a managed team was that of its group before, or shows its id."""
    managed = before is not None and before.managed and before.jumpcloud_id == team.jumpcloud_id
    return managed or team.shown.get(EXTERNAL_ID) == team.jumpcloud_id


def _takes_over(before: Snapshot, learnt: Snapshot) -> bool:
    """Whether an account or a team gets another owner."""
    return bool(retied(before.accounts, learnt.accounts) or retied(before.teams, learnt.teams))


def _gives(op: Operation, queued_lately: Collection[str]) -> bool:
    """Whether an operation is confirmed by the person's record: it creates them, sends a new address, or adds them to a
    team that was there."""
    added = op.kind is Kind.UPDATE_USER and any(place(team) not in queued_lately for team in op.add)
    return added or bool(tying_address(op))


def _done(applied: executor.Applied, journal_id: int) -> bool:
    return applied.results[journal_id].state is State.DONE


# -- settle ---------------------------------------------------------------------------------------------------------


def _touched(store: Store, mark: int, subject: Subject) -> bool:
    """Whether another run has begun to change the subject since the mark: how its access stands is kept from that run,
    and what became of an older request is for the next list to tell."""
    return any(store.hands.changed_since(mark, one) for one in (subject.jumpcloud_id, subject.keeper_id))


def _untouched(read: Read, store: Store) -> Read:
    """The read, without what it tells of requests about subjects that are touched."""
    touched = {row.id for row in read.unknown if _touched(store, read.mark, row.operation.subject)}
    return replace(read, outcomes={n: outcome for n, outcome in read.outcomes.items() if n not in touched})


def _note_unknown(store: Store, read: Read, now: datetime) -> None:
    """Close the journal of a run that was cut off: what was never sent is put off, of the rest Keeper has told."""
    outcomes = read.outcomes
    # A partial cycle may have found out meanwhile.
    open_still = {(row.id, row.state) for row in store.unfinished()}
    for row in read.unknown:
        if (row.id, row.state) not in open_still:
            continue
        if row.state is State.PLANNED:
            store.record(row.id, State.PUT_OFF, now, "put_off", "the run was cut off before it was sent")
        elif row.id in outcomes and denied_once(outcomes[row.id], row.outcome):
            store.record(row.id, State.UNKNOWN, now, outcome_name(NEVER, State.UNKNOWN, row.outcome), _LOOKED_ONCE)
        elif row.id in outcomes and outcomes[row.id] == TOO_EARLY:
            if row.state is State.SENT:
                store.record(row.id, State.UNKNOWN, now, "unanswered", TOO_EARLY.words)
        elif row.id in outcomes and (linked := outcomes[row.id]).linked:
            store.record_refused(row.id, now, linked.words, linked.linked, linked.undo, sent=False)
        elif row.id in outcomes and (row.state is not State.UNKNOWN or outcomes[row.id].state is not State.UNKNOWN):
            state = outcomes[row.id].state
            _keep_rest(store, row.id, row.operation, outcomes[row.id], now)
            if state is State.FAILED and row.state is State.SENT and row.operation.kind is Kind.QUEUE_TEAM:
                state = State.PUT_OFF  # our end broke off, not the subject's fault: no pause follows
            store.record(row.id, state, now, outcome_name(outcomes[row.id], state, row.outcome), outcomes[row.id].words)
            if row.outcome in (DISAGREES, DENIED) and state is State.DONE:
                _open_by_list(store, row.operation.kind, now)


def _keep_rest(store: Store, number: int, op: Operation, outcome: Settled, now: datetime) -> int:
    """Keep what is left of an undo that a list shows in part, in a row of its own; returns its journal id, else 0."""
    shown = beside(op, outcome.undo) if outcome.undo is not None else None
    return store.mark_narrowed(number, now, shown, outcome.undo) if shown is not None else 0


def _tell_refused(applied: executor.Applied, number: int, part: int, outcome: Settled) -> None:
    """Tell of a creation that Keeper linked to an account which is not new."""
    refused = replace(applied.results[number], state=State.FAILED, outcome=LINKED, error=outcome.words)
    applied.results[number] = refused
    applied.notices.append(Notice(NoticeKind.CONFLICT, refused.operation.subject, outcome.words))
    if outcome.undo is not None:
        applied.results[part] = executor.Result(outcome.undo, State.PUT_OFF, UNDO_DUE, UNDO_WORDS)


def _found_again(store: Store, before: Snapshot, seen: Snapshot) -> None:
    """Correct the journal where an account shows again that was not to be seen after its lock."""
    former = (seen.accounts.get(key) for key, account in before.accounts.items() if account.gone)
    found = {account.keeper_id: account.active for account in former if account is not None and not account.gone}
    if found:
        store.found_again(found)


def _open_by_list(store: Store, kind: Kind, now: datetime) -> None:
    """Open the kind of a canary that a list bears out. That nothing was replaced beside it a list does not show."""
    if kind not in store.suspected_kinds():
        store.open_kind(kind, now)


def _back_to_canary(store: Store, read: Read) -> None:
    """Send the kinds back to their canaries after which the list of Keeper shows an effect that nobody asked for."""
    before, now = read.before, read.snapshot.accounts
    for row in store.journal(before.read_at) if before.read_at is not None else ():
        op, key = row.operation, row.operation.subject.keeper_id
        if row.state is not State.DONE or key not in before.accounts or key not in now or now[key].gone:
            continue
        if seen_later(op, before.accounts[key], now[key], [team.keeper_id for team in op.remove]):
            store.close_kind(op.kind)


_LOOKED_ONCE = "Keeper does not show it; it is asked once more before this is given up"
_TELLING = ("address_taken", LINKED, "not_found")
"""Outcomes that say of Keeper what the snapshot does not know yet."""


async def _settle_now(
    services: Services,
    store: Store,
    run_id: int,
    applied: executor.Applied,
    clock: Callable[[], datetime],
    *,
    whole: bool,
    limit: float | None,
) -> None:
    """Ask Keeper once what became of what had no clear answer, or of what its answers told of others.

    Whether an account is gone since its lock is for the list to say, since a read by its id may be wrong.
    """
    open_now = {number for number, result in applied.results.items() if result.state is State.UNKNOWN}
    told = any(result.outcome in _TELLING for result in applied.results.values())
    # The whole node is not listed for one person: a later list corrects what was recorded.
    gone = {n for n, result in applied.results.items() if result.outcome in (GONE, VANISHED, INVITED)}
    vanished = gone if whole else set[int]()
    if not (open_now or told or vanished):
        return
    now = clock()
    # As the journal has them: what was sent without its teams in the end is so there.
    rows_open = [row for row in store.unfinished(run_id) if row.id in open_now]
    unknown = {row.id: row.operation for row in rows_open}
    mark, before = store.hands.mark(), store.snapshot()
    try:
        async with asyncio.timeout(limit):
            listed = await listing(services.keeper, before, None)
    except (KeeperError, TimeoutError):
        # The journal says unknown, and the next cycle begins by asking.
        return
    unknown |= {n: op for n in vanished if (op := applied.results[n].operation).subject.keeper_id in listed.users}
    unknown = {n: op for n, op in unknown.items() if not _touched(store, mark, op.subject)}
    rows = ((number, op, now) for number, op in unknown.items())
    recorded = {number: applied.results[number].outcome for number in unknown}
    outcomes, snapshot = settle(rows, observed(before, listed, now), before, now, recorded)
    outcomes |= {row.id: as_repeated(outcomes[row.id], row) for row in rows_open if row.id in unknown}
    if not before.reviewed:
        # Whose lock is on an account that is new to us is for the first plan to say, and it has to be new to that too.
        known = {k: a for k, a in snapshot.accounts.items() if a.managed or k not in snapshot.fresh}
        snapshot = replace(snapshot, accounts=known)
    # What became of older queueings is for a whole read to tell: a team that is new to us may be that of one.
    snapshot = replace(snapshot, teams={k: t for k, t in snapshot.teams.items() if t.managed or k in before.teams})
    # What was sent, answered and read back is newer than a list that is behind.
    done = [one for one in applied.results.values() if one.state is State.DONE and one.outcome != LOCKED_BEFORE]
    turned = _turned(one.operation for one in done) - _turned(unknown.values())
    snapshot = _locked_as_before(snapshot, before, turned)
    with store.together():
        store.save(snapshot, before, mark, found_out(outcomes) | _older_births(store, unknown, outcomes))
        for number in vanished & unknown.keys():
            # From here on it is a lock without a clear answer.
            store.record(number, State.UNKNOWN, now, "unanswered", TOO_EARLY.words)
            applied.results[number] = replace(applied.results[number], state=State.UNKNOWN, outcome="unanswered")
        _take_back(applied, {unknown[number].subject for number in vanished & unknown.keys()})
        _record_settled(store, applied, unknown, outcomes, listed, now)
        _found_again(store, before, snapshot)


def _older_births(store: Store, unknown: Mapping[int, Operation], outcomes: Mapping[int, Settled]) -> set[int]:
    """The journal ids of earlier requests for what is found to be made by now; those stay without an answer."""
    births = {Kind.CREATE_USER, Kind.QUEUE_TEAM}
    found = (op for n, op in unknown.items() if outcomes[n].state is State.DONE and op.kind in births)
    keys = {op.subject.key for op in found}
    rows = store.unfinished() if keys else []
    return {row.id for row in rows if row.operation.kind in births and row.operation.subject.key in keys}


def _take_back(applied: executor.Applied, subjects: Collection[Subject]) -> None:
    """Take back that Keeper did not do as expected with these."""
    untrue = [n for n in applied.notices if n.kind is NoticeKind.KEEPER_DISAGREES and n.subject in subjects]
    applied.notices = [notice for notice in applied.notices if notice not in untrue]
    words = {notice.message for notice in untrue}
    applied.stopped_kinds = {kind: why for kind, why in applied.stopped_kinds.items() if why not in words}


def _record_settled(
    store: Store,
    applied: executor.Applied,
    unknown: Mapping[int, Operation],
    outcomes: Mapping[int, Settled],
    listed: Listing,
    now: datetime,
) -> None:
    """Record what the list tells of operations that this apply left open."""
    for number, outcome in outcomes.items():
        if unknown[number].kind is Kind.DEACTIVATE_USER and unknown[number].subject.keeper_id in listed.absent:
            words = "was to be locked, but is not in this Keeper node any more"
            applied.notices.append(Notice(NoticeKind.GONE, unknown[number].subject, words))
        if outcome == TOO_EARLY:
            continue
        recorded = applied.results[number].outcome
        outcome = as_answered(outcome, recorded)
        if outcome.linked:
            part = store.record_refused(number, now, outcome.words, outcome.linked, outcome.undo, sent=False)
            _tell_refused(applied, number, part, outcome)
            continue
        state, words = outcome.state, outcome.words
        if outcome == NEVER:
            state, words = State.UNKNOWN, _LOOKED_ONCE
        store.record(number, state, now, outcome_name(outcome, state, recorded), words)
        if outcome.undo is not None and (part := _keep_rest(store, number, unknown[number], outcome, now)):
            applied.results[part] = executor.Result(outcome.undo, State.PUT_OFF, UNDO_DUE, UNDO_WORDS)
        if recorded == DISAGREES and state is State.DONE:
            _open_by_list(store, unknown[number].kind, now)
        name = OVERTAKEN if outcome == REPEATED else recorded
        applied.results[number] = replace(applied.results[number], state=state, outcome=name, error=words)
