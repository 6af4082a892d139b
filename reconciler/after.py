"""What follows every real run, of the daemon and of a plain command alike: telling people, approval, metrics.

It takes a bounded time, can be cancelled at any moment, and never makes a cycle fail.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import replace
from datetime import datetime
from time import monotonic
from typing import Any, TypeVar

from loguru import logger

from reconciler import approval, exits, hooks, metrics, notify, standing
from reconciler.alerts import HISTORY, Key, Situation
from reconciler.config import Settings
from reconciler.cycle import NobodyThere, Order, Outcome, Stopped
from reconciler.http import Counters
from reconciler.model import Snapshot
from reconciler.plan import Kind, Notice
from reconciler.policy import Mode
from reconciler.standing import Standing
from reconciler.store import State, StateError, Store

T = TypeVar("T")

READY_FOR = 3
"""So many intervals the last good cycle may be old before the daemon is not ready."""
_STANDING = "standing"
_NEWEST = 20
"""Runs among which the newest of everybody is looked for."""


class After:
    """What follows the runs on one state file. A daemon keeps one for its life, a command makes one.

    `standing` is how it stood after the last run.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.standing = standing.from_json(store.meta(_STANDING))
        self._unsaved: dict[str, dict[Key, datetime]] = {}
        self._measured = metrics.Measured()

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
        began, at = monotonic(), clock()
        try:
            outcome = await work()
        except Exception as error:
            if not isinstance(error, NobodyThere | Stopped):
                seconds = monotonic() - began
                await _unless(stopping, self.failed(settings, order, words_of(error), clock(), seconds, traffic))
            raise
        seconds = monotonic() - began
        notices = await _unless(stopping, self.ran(settings, order, outcome, at, clock(), seconds, traffic))
        outcome.plan = replace(outcome.plan, notices=(*outcome.plan.notices, *(notices or ())))
        return outcome

    async def ran(
        self,
        settings: Settings,
        order: Order,
        outcome: Outcome,
        began: datetime,
        now: datetime,
        seconds: float,
        traffic: Iterable[tuple[str, Counters]] = (),
    ) -> list[Notice]:
        """After a run that came to an outcome; gives the notices of what followed it. Seconds: how long it took."""
        whole = not order.person
        # A cycle without anything to send does not show that all writes are paused.
        good = whole and outcome.good and self.store.pause() is None
        after = self.standing.counted(outcome.result, seconds, outcome.results.values(), traffic)
        if whole and outcome.result == "failed":
            after = after.failed(outcome.stopped, now)
        elif whole:
            after = replace(after, failing=None, last_good=now if good else after.last_good)
        self._keep(after)
        snapshot = self._snapshot(settings)
        await self._tell(settings, snapshot, outcome, whole=whole, began=began, now=now)
        if good:
            await notify.heartbeat(settings)
        notices = await self._approve(settings, snapshot, outcome, now)
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
        after = self.standing.counted("failed", seconds, (), traffic)
        self._keep(after if order.person else after.failed(words, now))
        snapshot = self._snapshot(settings)
        await self._tell(settings, snapshot, None, whole=not order.person, began=now, now=now)
        self._measure(settings, snapshot, now)

    def ready(self, settings: Settings, now: datetime) -> bool:
        """Whether the last good cycle is younger than three intervals."""
        last = self.standing.last_good
        return last is not None and now - last < READY_FOR * settings.schedule.interval

    def metrics(self, now: datetime) -> bytes:
        """The metrics as Prometheus reads them, with ages as of now."""
        return metrics.render(self._measured, now)

    def measure(self, settings: Settings, snapshot: Snapshot | None = None) -> None:
        """Measure anew what the state file holds; a daemon does it once before its first run. Raises StateError."""
        newest = next((run for run in self.store.runs(_NEWEST) if run.plan_id and run.kind != "person"), None)
        snapshot = snapshot or self.store.snapshot()
        held = newest.held if newest else 0
        self._measured = metrics.measure(settings.tenant, snapshot, self.standing, settings.policy(), held)

    def _snapshot(self, settings: Settings) -> Snapshot | None:
        """What the state file holds after the run, read once; None where nobody asks or it can't be read."""
        if not (notify.receivers(settings) or settings.teams.approve_command or _measures(settings)):
            return None
        try:
            return self.store.snapshot()
        except StateError as error:
            logger.warning("What follows a run had to be left out: {}", error)
            return None

    async def _tell(
        self,
        settings: Settings,
        snapshot: Snapshot | None,
        outcome: Outcome | None,
        *,
        whole: bool,
        began: datetime,
        now: datetime,
    ) -> None:
        if snapshot is None or not notify.receivers(settings):
            return
        try:
            situation = Situation(
                at=now,
                snapshot=snapshot,
                policy=settings.policy(),
                queue_age=settings.teams.queue_age,
                plan=outcome.plan if outcome else None,
                whole=whole,
                results=list(outcome.results.values()) if outcome else (),
                done=self.store.tellable(now - HISTORY),
                passed=self.store.passed_canaries(),
                failing=self.standing.failing,
                approving=self.standing.approving,
            )
            await notify.tell(settings, self.store, situation, began, self._unsaved)
        except StateError as error:
            logger.warning("Nobody could be told how it stands: {}", error)

    async def _approve(
        self, settings: Settings, snapshot: Snapshot | None, outcome: Outcome, now: datetime
    ) -> list[Notice]:
        """Have what was queued approved, where the settings name who does that."""
        if snapshot is None or not settings.teams.approve_command or settings.policy().mode is Mode.OBSERVE:
            return []
        if self.store.pause() is not None:
            return []
        waits = approval.approvable(snapshot, settings.policy().teams)
        attempt = approval.approval_due(_queued(outcome), waits, self.standing.approvals, now)
        if attempt is None:
            if not waits and (self.standing.approvals or self.standing.approving):
                self._keep(replace(self.standing, approvals=None, approving=""))
            return []
        self._keep(replace(self.standing, approvals=attempt))
        problem = await hooks.approve(settings, waits)
        self._keep(replace(self.standing, approving=problem))
        return [approval.hook_failed(approval.APPROVE, problem)] if problem else []

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
            self.store.set_meta(_STANDING, standing.to_json(after))
        except StateError as error:
            logger.warning("How it stands could not be kept: {}", error)


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
