"""What follows every real run, of the daemon and of a plain command alike: telling people, approval, metrics.

It takes a bounded time, can be cancelled at any moment, and never makes a cycle fail.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from time import monotonic
from typing import Any, TypeVar

from loguru import logger

from reconciler import approval, clocks, exits, hooks, metrics, notify, standing
from reconciler.alerts import HISTORY, TOLD_WHEN_DONE, Key, Situation, merely_left
from reconciler.config import Settings
from reconciler.cycle import Order, Outcome
from reconciler.http import Counters
from reconciler.model import Snapshot
from reconciler.plan import Kind, Notice, NoticeKind
from reconciler.promise import Lack, failing
from reconciler.reading import NobodyThere, Stopped
from reconciler.safety import OF_TEAMS
from reconciler.standing import Standing
from reconciler.store import State, StateError, Store
from reconciler.store.times import corrected_text

T = TypeVar("T")

READY_FOR = 3
"""So many intervals the last good cycle may be old before the daemon is not ready."""
_OF_ACCESS = frozenset({Lack.LOCKED, Lack.NO_ACCOUNT, Lack.ACTIVE})
"""The lacks of people that no list of groups bears on."""


class After:
    """What follows the runs on one state file. A daemon keeps one for its life, a command makes one.

    `standing` is how it stood after the last run. `lane`: whoever makes partial runs does not wait for what follows
    them, which `aclose` breaks off: the next suspended person must not wait for a webhook that never answers.
    """

    def __init__(self, store: Store, *, lane: bool = False) -> None:
        self.store = store
        self.standing = standing.from_json(store.meta(standing.KEY))
        self._unsaved: dict[str, dict[Key, datetime]] = {}
        self._measured = metrics.Measured()
        self._following = asyncio.Lock()
        self._lane = lane
        self._behind: set[asyncio.Task[object]] = set()

    async def aclose(self) -> None:
        """Break off what nobody waits for."""
        for task in self._behind:
            task.cancel()
        await asyncio.gather(*self._behind, return_exceptions=True)

    async def follow(
        self,
        settings: Settings,
        order: Order,
        clock: Callable[[], datetime],
        work: Callable[[], Awaitable[Outcome]],
        traffic: Iterable[tuple[str, Counters]] = (),
        stopping: asyncio.Event | None = None,
    ) -> Outcome:
        """Do the work of one run, and then what follows it, also where it raises: `work` is `cycle.run` with its
        arguments, `traffic` is `Services.traffic`. Gives what the work gave, or raises what it raised. Once
        `stopping` is set, what follows is broken off, and made up for after the next run."""
        stopping = stopping or asyncio.Event()
        began = monotonic()
        try:
            outcome = await work()
        except Exception as error:
            if not isinstance(error, NobodyThere | Stopped):
                seconds = monotonic() - began
                failed = self.failed(settings, order, words_of(error), clock(), seconds, traffic)
                await self._follow_up(order, stopping, failed)
            raise
        seconds = monotonic() - began
        ran = self.ran(settings, order, outcome, clock(), seconds, traffic)
        notices = await self._follow_up(order, stopping, ran)
        outcome.plan = replace(outcome.plan, notices=(*outcome.plan.notices, *(notices or ())))
        return outcome

    async def _follow_up(self, order: Order, stopping: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of what follows a run; None where it was broken off, or nobody waits for it."""
        following = _unless(stopping, self._one_by_one(work))
        if not (self._lane and order.partial):
            return await following
        task: asyncio.Task[object] = asyncio.create_task(following)
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)
        return None

    async def _one_by_one(self, work: Coroutine[Any, Any, T]) -> T:
        """Follow one run at a time: a partial cycle may end while a whole one is followed."""
        try:
            async with self._following:
                return await work
        finally:
            work.close()

    async def ran(
        self,
        settings: Settings,
        order: Order,
        outcome: Outcome,
        now: datetime,
        seconds: float,
        traffic: Iterable[tuple[str, Counters]] = (),
    ) -> list[Notice]:
        """After a run that came to an outcome; gives the notices of what followed it. Seconds: how long it took."""
        self._begin(settings, now)
        began = outcome.began or outcome.plan.generated_at
        whole = not order.partial
        # A cycle without anything to send does not show that all writes are paused.
        good = whole and outcome.good and self.store.pause() is None
        after = self.standing.counted(outcome.result, seconds, outcome.results.values(), traffic)
        resync = outcome.plan.kind == "resync"
        if whole and (outcome.result == "failed" or outcome.fallback):
            words = outcome.stopped or outcome.fallback
            after = after.failed(words, now, resync=resync or bool(outcome.fallback))
        elif whole:
            alarms = {n.subject.name for n in outcome.plan.notices if n.kind is NoticeKind.WILL_BE_HELD}
            if outcome.lack:
                alarms |= after.will_be_held & OF_TEAMS if outcome.tells_of_people else after.will_be_held
            last_good = now if good else after.last_good
            after = replace(after.succeeded(resync=resync), last_good=last_good, will_be_held=frozenset(alarms))
        lacks = failing(outcome.plan, {number: result.state.value for number, result in outcome.results.items()})
        others: dict[str, str] = {}
        if not whole or outcome.lack:
            spoken_of = {op.subject.key for op in outcome.plan.operations}.union(outcome.plan.focus or ())
            over = _OF_ACCESS if whole and outcome.tells_of_people else ()
            others = {key: lack for key, lack in after.lacks.items() if key not in spoken_of and lack not in over}
        after = replace(after, merely_left=merely_left(outcome.plan, after.merely_left), lacks={**others, **lacks})
        snapshot = self._snapshot(settings)
        self._keep(_inventoried(after, outcome, snapshot, began))
        await self._tell(settings, order, snapshot, outcome, began=began, now=now)
        if good and (problem := await notify.heartbeat(settings)) is not None:
            self._called({"heartbeat": problem}, now)
        notices = await self._approve(settings, snapshot, outcome, now, whole=whole)
        self._measure(settings, snapshot, now)
        return notices

    async def failed(
        self,
        settings: Settings,
        order: Order,
        words: str,
        now: datetime,
        seconds: float,
        traffic: Iterable[tuple[str, Counters]] = (),
    ) -> None:
        """After a run that raised; `words` tell a person why (see `words_of`)."""
        self._begin(settings, now)
        after = self.standing.counted("failed", seconds, (), traffic)
        self._keep(after if order.partial else after.failed(words, now, resync=order.resync))
        snapshot = self._snapshot(settings)
        await self._tell(settings, order, snapshot, None, began=now, now=now)
        self._measure(settings, snapshot, now)

    def _begin(self, settings: Settings, now: datetime) -> None:
        """Do to what is in memory what the run did to the state file, should a clock have been wrong before, and forget
        what went wrong with a receiver or program that the settings do not name any more."""
        text, number = corrected_text(standing.to_json(self.standing), now, now)
        stands = standing.from_json(text) if number else self.standing
        receivers, programs = notify.names(settings), hooks.names(settings)
        self.standing = replace(
            stands,
            untold={name: problem for name, problem in stands.untold.items() if name in receivers},
            hooks={name: problem for name, problem in stands.hooks.items() if name in programs},
        )

    def ready(self, settings: Settings, now: datetime) -> bool:
        """Whether the last good cycle is younger than three intervals."""
        last = self.standing.last_good
        return last is not None and now - last < READY_FOR * settings.schedule.interval

    def metrics(self, now: datetime) -> bytes:
        """The metrics as Prometheus reads them, with ages as of now."""
        return metrics.render(self._measured, now)

    def measure(self, settings: Settings, snapshot: Snapshot | None = None) -> None:
        """Measure anew what the state file holds; a daemon does it once before its first run. Raises StateError."""
        found = self.store.held_now()
        snapshot = snapshot or self.store.snapshot()
        held = found[0].held if found else 0
        self._measured = metrics.measure(settings.tenant, snapshot, self.standing, settings.policy(), held)

    def _snapshot(self, settings: Settings) -> Snapshot | None:
        """What the state file holds after the run, read once; None where nobody asks or it can't be read."""
        programs = settings.teams.approve_command or settings.keeper.inventory_command
        if not (notify.receivers(settings) or programs or _measures(settings)):
            return None
        try:
            return self.store.snapshot()
        except StateError as error:
            logger.warning("What follows a run had to be left out: {}", error)
            return None

    async def _tell(
        self,
        settings: Settings,
        order: Order,
        snapshot: Snapshot | None,
        outcome: Outcome | None,
        *,
        began: datetime,
        now: datetime,
    ) -> None:
        if snapshot is None or not notify.receivers(settings):
            return
        whole = not order.partial
        try:
            # After a jump forward, too, what was told is not forgotten: else it would be told again.
            lately = min(now, clocks.known(self.store).before or now) - HISTORY
            situation = Situation(
                at=now,
                snapshot=snapshot,
                policy=settings.policy(),
                queue_age=settings.teams.queue_age,
                plan=outcome.plan if outcome else None,
                whole=whole,
                complete=outcome is None or not outcome.lack,
                people=outcome is None or outcome.tells_of_people,
                decides=whole or bool(order.leavers),
                results=list(outcome.results.values()) if outcome else (),
                stopped_kinds=outcome.stopped_kinds if outcome else {},
                done=self.store.done_since(lately, TOLD_WHEN_DONE),
                passed=self.store.open_kinds(now),
                failing=self.standing.failing,
                merely_left=self.standing.merely_left,
                hooks=self.standing.hooks,
            )
            known = self.standing.refused
            reports = await notify.tell(settings, self.store, situation, began, self._unsaved, known)
            refused = {name: report.refused for name, report in reports.items() if report.refused}
            if refused != known:
                self._keep(replace(self.standing, refused=refused))
            self._called({name: report.problem for name, report in reports.items() if report.called}, now)
        except StateError as error:
            logger.warning("Nobody could be told how it stands: {}", error)

    def _called(self, problems: Mapping[str, str], now: datetime) -> None:
        """After receivers were called, with what went wrong with each; the log has what is new about that."""
        for name, problem in problems.items():
            _, known = self.standing.untold.get(name, (now, ""))
            if problem and problem != known:
                logger.warning("The {} did not take what it was sent, and is tried again: {}", name, problem)
            elif known and not problem:
                logger.info("The {} takes what it is sent again", name)
        after = self.standing.told(problems, now)
        if after != self.standing:
            self._keep(after)

    async def _approve(
        self, settings: Settings, snapshot: Snapshot | None, outcome: Outcome, now: datetime, *, whole: bool
    ) -> list[Notice]:
        """Have what was queued approved, where the settings name who does that. A partial run does not know whom
        JumpCloud wants in a team still: what it queued is approved after the next whole one."""
        if snapshot is None or approval.APPROVE not in hooks.names(settings):
            return []
        if self.store.pause() is not None or outcome.plan.first_held:
            return []
        if not whole:
            if _queued(outcome):
                self._keep(replace(self.standing, approvals=None))
            return []
        # Nothing more is given to whoever is in a conflict: it may be somebody else's account.
        doubtful = {n.subject.key for n in outcome.plan.notices if n.kind is NoticeKind.CONFLICT}
        teams, directory = settings.policy().teams, outcome.directory
        members = approval.wanted_members(directory, teams) if directory else {}
        wanted = {group_id: people - doubtful for group_id, people in members.items()}
        waits = approval.approvable(snapshot, teams, wanted)
        attempt = approval.approval_due(_queued(outcome), waits, self.standing.approvals, now)
        if attempt is None:
            over = not (waits or (directory and approval.untold(snapshot, teams, directory)))
            if over and (self.standing.approvals or approval.APPROVE in self.standing.hooks):
                self._keep(replace(self.standing, approvals=None).hook(approval.APPROVE, ""))
            return []
        self._keep(replace(self.standing, approvals=attempt))
        problem = await hooks.approve(settings, waits)
        notices = [approval.hook_failed(approval.APPROVE, problem)] if problem else []
        self._keep(self.standing.hook(approval.APPROVE, notices[0].message if notices else ""))
        return notices

    def _measure(self, settings: Settings, snapshot: Snapshot | None, now: datetime) -> None:
        if snapshot is None or not _measures(settings):
            return
        try:
            self.measure(settings, snapshot)
            if settings.metrics.textfile is not None:
                metrics.write_textfile(settings.metrics.textfile, self.metrics(now))
        except StateError as error:
            logger.warning("What the metrics tell could not be read: {}", error)
        except OSError as error:
            logger.warning("The metrics could not be written to {}: {}", settings.metrics.textfile, error.strerror)

    def _keep(self, after: Standing) -> None:
        """In the state file too, where it can be written; what is in memory counts as long as this process lives."""
        self.standing = after
        try:
            self.store.set_meta(standing.KEY, standing.to_json(after))
        except StateError as error:
            logger.warning("How it stands could not be kept: {}", error)


def _inventoried(after: Standing, outcome: Outcome, snapshot: Snapshot | None, began: datetime) -> Standing:
    """How it stands with the inventory command: it is not asked in every cycle, and is well only once it answered."""
    failed = [
        notice.message
        for notice in outcome.plan.notices
        if notice.kind is NoticeKind.HOOK_FAILED and notice.subject.name == approval.INVENTORY
    ]
    if failed:
        return after.hook(approval.INVENTORY, failed[0])
    inventory = snapshot.inventory if snapshot else None
    answered = inventory is not None and inventory.read_at >= began
    return after.hook(approval.INVENTORY, "") if answered else after


def _measures(settings: Settings) -> bool:
    return settings.metrics.listen is not None or settings.metrics.textfile is not None


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of the work; None, and the work broken off at its next wait, as soon as the event is set. Whatever
    goes wrong in it is logged: the run itself is over and on record."""
    task, stop = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    except Exception as error:
        logger.opt(exception=error).error("What follows a run has failed: {}", type(error).__name__)
        return None
    finally:
        for one in (task, stop):
            one.cancel()
        await asyncio.gather(task, stop, return_exceptions=True)


def words_of(error: Exception) -> str:
    """Why a cycle failed, for a person: the words of an error that can be expected, else only what it is."""
    found = exits.explained(error)
    return found[1].splitlines()[0] if found else f"{type(error).__name__}; the log has more"


def _queued(outcome: Outcome) -> bool:
    """Whether the run asked for anything that needs an approval."""
    return any(
        result.state is State.DONE and (result.operation.kind is Kind.QUEUE_TEAM or result.operation.add)
        for result in outcome.results.values()
    )
