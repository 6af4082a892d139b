"""The daemon: cycles on schedule, orders at once, and a word to systemd, until it is told to stop.

APScheduler is the clock and nothing else: it says what is due. One worker does what is due, so that two cycles never
run at once and what became due several times is done once. A failed cycle never ends the daemon.
"""

import asyncio
import hashlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from datetime import UTC, datetime, timedelta, tzinfo
from datetime import time as time_of_day

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from loguru import logger
from tzlocal import get_localzone

from reconciler import apply as executor
from reconciler import cycle, exits, log, orders, promise, systemd, wiring
from reconciler.after import After
from reconciler.clocks import corrected
from reconciler.config import Settings, SettingsError, load, same_file
from reconciler.counting import count
from reconciler.diff_quarantine import unread_words
from reconciler.health import INTERVALS, Told, serving, silent
from reconciler.http import HttpError
from reconciler.orders import DECISIONS, Answer, Ask, Setting
from reconciler.plan import SCHEDULE
from reconciler.reading import Services, Stopped
from reconciler.report.words import in_line, reasons, warnings
from reconciler.rows import Request
from reconciler.secrets import SecretError
from reconciler.settings_fields import Listen
from reconciler.store import InUse, NoRoom, Replaced, StateError, Store

LANE = 60.0
"""Seconds between two looks for suspended people who are still active in Keeper."""
LANE_SHARE = 10
"""So many times as long as its last look took the leaver lane rests at least, see `lane_rest`."""
PULSE = 0.5
"""Seconds between two looks for orders, and between two words to the watchdog."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""The origin of the times of resyncs: reading the settings again moves none. No clock is before it."""
LONGEST_PAUSE = timedelta(minutes=15)
"""How long at most nothing is tried after a cycle that failed."""
STOP_PATIENCE = 60.0
"""Seconds that requests on their way have to be finished once the daemon is to stop; the unit grants more."""
JUMP = 30.0
"""Seconds by which the clock may differ from what has passed before it counts as put forward or back."""
LOOK_AGAIN = 1.0
"""Seconds between two looks whether the state file is free."""
WIDTH = 100
"""Columns of the answers to orders."""


class Daemon:
    """One daemon on one state file, which is open for writing and takes requests."""

    def __init__(self, settings: Settings, store: Store, clock: Callable[[], datetime]) -> None:
        self.settings = settings
        self.store = store
        self.clock = clock
        self._now = corrected(store, clock)
        self.stopping = asyncio.Event()
        self._due: set[str] = set()
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._partial = asyncio.Lock()
        """Held while a partial cycle runs, beside a whole one: neither settings nor clients change under it."""
        self._lane_failed = ""
        self._lane_due = False
        self._look_at = 0.0
        """When the lane looks next, by the clock of the event loop."""
        self._reload = False
        self._failures = Failures()
        self._cycle_over = time.monotonic()
        self._silent = False
        self._after = After(store, lane=True)
        self._scheduler = AsyncIOScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        self._last = ""
        self._held = ""
        self._alarms: set[str] = set()
        self._refused = ""
        self._unlisted = ""
        self._services: Services
        self._clients = AsyncExitStack()
        self._server = AsyncExitStack()
        self._listening: Listen | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._next_cycle: datetime | None = None
        self._answers: list[tuple[Request, Answer]] = []

    async def run(self, asked: Sequence[int] = ()) -> None:
        """Serve until SIGTERM or SIGINT. `asked` are the SIGHUPs up to now. Raises SecretError where a secret can't be
        had at the start, and `Replaced` once the state file is not in its place any more."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._ask_to_reload)
        self._reload = bool(asked)
        try:
            self._services = await self._clients.enter_async_context(wiring.services(self.settings))
            self._schedule()
            self._scheduler.start()
            work = (self._work(), self._pulse(), self._work_urgently())
            self._tasks = [asyncio.create_task(one) for one in work]
            workers = {self._tasks[0], self._tasks[2]}
            await self._serve_metrics()
            self._note_settings()
            systemd.notify(READY="1")
            try:
                stop = asyncio.create_task(self.stopping.wait())
                await asyncio.wait({*self._tasks, stop}, return_when="FIRST_COMPLETED")
                systemd.notify(STOPPING="1", STATUS="finishing the requests that are on their way")
                with suppress(StateError):
                    self.store.take_no_more_requests()
                # Not before it was told to: a worker that has ended by itself has failed.
                if self.stopping.is_set():
                    await asyncio.wait(workers, timeout=STOP_PATIENCE)
            finally:
                self._scheduler.shutdown(wait=False)
                for task in self._tasks:
                    task.cancel()
                ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            await self._after.aclose()
            await self._server.aclose()
            await self._clients.aclose()
        for error in ended:
            if isinstance(error, Exception):
                raise error
        with suppress(StateError):
            self.store.set_meta("next_cycle", "")
            self.store.set_meta("settings", "")
        logger.info("stopped")

    async def _serve_metrics(self) -> None:
        """Serve metrics and health where the settings have them now; that they can't be served stops nothing else."""
        listen = self.settings.metrics.listen
        if listen == self._listening:
            return
        await self._server.aclose()
        self._listening = None
        if listen is None:
            return
        told = Told(
            lambda: self._after.metrics(self._now()),
            self._alive,
            lambda: self._after.ready(self.settings, self._now()),
        )
        try:
            self._after.measure(self.settings)
            port = await self._server.enter_async_context(serving(listen, told))
        except (OSError, UnicodeError, StateError) as error:
            logger.error("Metrics can't be served at {}:{}: {}. All else goes on.", *listen, error)
            return
        self._listening = listen
        logger.info("metrics and health at http://{}:{}", listen.host, port)

    def _alive(self) -> bool:
        """Whether the workers live, and make requests when some are due."""
        schedule = self.settings.schedule
        interval = schedule.interval.total_seconds()
        # The scheduler is not asked: that it has come to a standstill is to be seen too.
        due = max(self._cycle_over + interval + schedule.jitter.total_seconds(), self._failures.until)
        silence = silent(time.monotonic(), due, interval, (counters for _, counters in self._services.traffic))
        if silence and not self._silent:
            logger.error("No request was made for {} intervals, though some were due. Restart the service.", INTERVALS)
        self._silent = silence
        return not silence and not any(task.done() for task in self._tasks)

    def stop(self) -> None:
        """Begin no new operation; what is on its way is finished and recorded."""
        logger.info("told to stop")
        self.stopping.set()
        self._wake.set()
        self._hurry.set()

    # -- what is due ------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        schedule = self.settings.schedule
        self._scheduler.remove_all_jobs()
        jitter = schedule.jitter.total_seconds()
        every = schedule.interval.total_seconds()
        self._scheduler.add_job(
            self._on_time, IntervalTrigger(seconds=every, jitter=jitter or None, timezone=UTC), ["cycle"], id="cycle"
        )
        trigger: CronTrigger | IntervalTrigger
        if isinstance(schedule.resync, time_of_day):
            at = schedule.resync
            trigger = CronTrigger(hour=at.hour, minute=at.minute, second=at.second, timezone=_local_zone())
        else:
            # Many instances that were started together must not all list Keeper at the same time.
            seconds = schedule.resync.total_seconds()
            begin = EPOCH + timedelta(seconds=seconds * _share(self.settings))
            trigger = IntervalTrigger(seconds=seconds, start_date=begin, timezone=UTC)
        self._scheduler.add_job(self._on_time, trigger, ["resync"], id="resync")

    async def _on_time(self, what: str) -> None:
        """What APScheduler calls: a coroutine, as it runs plain functions in other threads."""
        self._tick(what)

    def _tick(self, what: str) -> None:
        self._due.add(what)
        self._wake.set()

    async def _pulse(self) -> None:
        """Feed the watchdog, find orders, notice a clock that was put forward or back: all that shows that the loop
        lives. Raises `Replaced`, which ends the daemon."""
        watched = systemd.watchdog_seconds() is not None
        version, wall, steady = -1, time.time(), time.monotonic()
        while True:
            if watched:
                systemd.notify(WATCHDOG="1")
            try:
                self.store.make_sure_of_place()
                found = self.store.data_version()
                if found != version:
                    version = found
                    await self._decide()
                    self._wake.set()
                    self._hurry.set()
            except Replaced:
                raise
            except StateError:
                pass  # the workers tell it
            passed, now = time.monotonic() - steady, time.time()
            if abs(now - wall - passed) > JUMP:
                logger.info("the clock was put by {:.0f} s, or the machine slept: a cycle is due", now - wall - passed)
                # What was due meanwhile would not be made up for: a machine that sleeps each night never saw 03:00.
                if (at := self._scheduler.get_job("resync").next_run_time) is not None and at <= self.clock():
                    self._tick("resync")
                self._schedule()
                self._failures.again()
                self._tick("cycle")
            wall, steady = now, time.monotonic()
            await asyncio.sleep(PULSE)

    # -- the worker -------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        self._tick("cycle")
        while not self.stopping.is_set():
            self._tell_next()
            await self._wake.wait()
            self._wake.clear()
            self._answer()
            if self._reload:
                await self._read_settings()
            for request in self._orders(urgent=False):
                if self.stopping.is_set():
                    return
                await self._serve(request)
                if request.arguments.get("agreed"):
                    # It may be about what the lane holds, and the cycle may have failed.
                    self._lane_due = True
                    self._hurry.set()
            if self._due and not self.stopping.is_set() and not self._failures.resting():
                due, self._due = self._due, set()
                # A resync that could not list Keeper is made up for by the next cycle, which goes on all the same.
                succeeded = await self._cycle(resync="resync" in due or bool(self._unlisted))
                self._cycle_over = time.monotonic()
                if not succeeded:
                    # What failed is made up for, a resync by a resync, once the pause is over.
                    self._due |= due
                    asyncio.get_running_loop().call_later(self._failures.rest(), self._wake.set)
            self._tell("; ".join(filter(None, ["waiting", self._refused, self._last])))

    async def _work_urgently(self) -> None:
        """Carry out partial cycles, whatever whole cycles do: those that people order, and the leaver lane."""
        while not self.stopping.is_set():
            self._hurry.clear()
            await self._decide()
            for request in self._orders(urgent=True):
                # Many orders must not keep the lane waiting for all of them.
                await self._lock_leavers_if_due()
                async with self._partial:
                    # Other settings may be in force by now, and to read them again takes the very lock.
                    if self._is_urgent(request):
                        await self._serve(request)
                if self.stopping.is_set():
                    return
            await self._lock_leavers_if_due()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._look_at):
                    await self._hurry.wait()

    async def _decide(self) -> None:
        """Carry out decisions, whatever runs: they ask neither service, and whoever is given up is not changed by it.
        What a person orders after them relies on them."""
        for request in self._orders(urgent=False):
            if request.kind in DECISIONS:
                await self._serve(request)

    async def _lock_leavers_if_due(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._look_at and not self._lane_due:
            return
        self._lane_due = False
        async with self._partial:
            await self._lock_leavers()

    async def _lock_leavers(self) -> None:
        """Lock who is suspended in JumpCloud, at once."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            try:
                look = cycle.leavers(self.settings, self._services, self.store, self.clock())
                order = await cycle.unless(self.stopping, look)
            finally:
                # What a lock and the news of it take is no reason to look more rarely for other people.
                self._look_at = loop.time() + lane_rest(loop.time() - began)
            if order is not None and not self.stopping.is_set():
                outcome = await orders.run(order, self._where())
                logger.info("suspended people: {}", _summary(outcome))
            self._lane_failed = ""
        except Stopped:
            return
        except Replaced:
            raise
        except Exception as error:
            words = _words(error, "")[1].strip()  # no cycle has failed
            if words != self._lane_failed:
                logger.warning("The look for suspended people failed; it is repeated every minute. {}", words)
            self._lane_failed = words

    def _tell_next(self) -> None:
        """Keep for `status` when the next cycle is due: on schedule, or once the pause after a failure is over."""
        machine = self.clock()
        if self._due:
            due = machine + timedelta(seconds=self._failures.rest())
        else:
            # The scheduler goes by this machine's clock.
            due = min((job.next_run_time for job in self._scheduler.get_jobs()), default=machine).astimezone(UTC)
        with suppress(StateError):
            due += self._now() - machine
            if self._next_cycle is None or abs(due - self._next_cycle) > timedelta(seconds=1):
                self.store.set_meta("next_cycle", due.isoformat())
                self._next_cycle = due

    async def _cycle(self, *, resync: bool) -> bool:
        """One cycle; returns whether it came to an end that was no failure."""
        self._tell("a resync" if resync else "a cycle")
        where = self._where()
        try:
            outcome = await orders.run(cycle.Order(resync=resync, by=SCHEDULE), where)
        except Stopped:
            return True
        except Replaced:
            raise
        except Exception as error:
            with orders.lines_of_run(where.begun):
                self._failed(error)
            return False
        with orders.lines_of_run(where.begun):
            self._ended(outcome)
        return outcome.result != "failed" or bool(outcome.fallback)

    def _ended(self, outcome: cycle.Outcome) -> None:
        if outcome.fallback and outcome.fallback != self._unlisted:
            logger.error("{} The cycle went on from the snapshot, without creations and adoptions.", outcome.fallback)
        self._unlisted = outcome.fallback
        if outcome.result == "failed" and not outcome.fallback:
            if self._failures.add(self.settings.schedule.interval, outcome.stopped):
                logger.error("the cycle has failed: {}", outcome.stopped)
        else:
            self._recovered()
        if outcome.goes_on:
            self._tick("cycle")
        self._last = f"last {outcome.plan.kind} {self._now():%Y-%m-%d %H:%M} UTC: {_summary(outcome)}"
        held = outcome.plan.id if outcome.plan.held else ""
        alarms = warnings(outcome.plan)
        failing = promise.failing(outcome.plan, orders.states_of(outcome))
        worse = outcome.result in ("partial", "failed") or failing or set(alarms) - self._alarms
        news = worse or held not in ("", self._held)
        self._held, self._alarms = held, set(alarms)
        logger.bind(result=outcome.result).log("WARNING" if news else "INFO", "{}", _summary(outcome))

    def _failed(self, error: Exception) -> None:
        """One message for a failure that lasts, whatever the number of cycles."""
        _, words = _words(error)
        self._last = f"the last cycle failed at {self._now():%Y-%m-%d %H:%M} UTC: {words.splitlines()[0][:300]}"
        if self._failures.add(self.settings.schedule.interval, words):
            where = error if exits.explained(error) is None else None
            logger.opt(exception=where).error("{} Tried again with growing pauses; nothing is lost.", words)
        else:
            logger.debug("it still fails: {}", words)

    def _recovered(self) -> None:
        over, self._failures = self._failures, Failures()
        if over.since is not None:
            logger.info(
                "the cycles succeed again, after {} that failed since {:%Y-%m-%d %H:%M} UTC", over.count, over.since
            )

    # -- orders -----------------------------------------------------------------------------------------------------

    def _orders(self, *, urgent: bool) -> list[Request]:
        """The orders that wait for this worker: a `resync EMAIL` does not wait for an apply to end. One whose answer
        could not be recorded yet, on a full disk for instance, is not carried out once more."""
        answered = {request.id for request, _ in self._answers}
        try:
            waiting = [request for request in self.store.orders() if request.id not in answered]
            return [request for request in waiting if self._is_urgent(request) is urgent]
        except StateError as error:
            self._failed(error)
            return []

    def _is_urgent(self, request: Request) -> bool:
        ask = orders.filed(request)
        # Settings are read again by the worker of the whole cycles only.
        return bool(ask.arguments.get("person")) and ask.settings == self.settings.digest

    async def _serve(self, request: Request) -> None:
        """Carry out an order that was filed, once, and leave the answer for whoever waits for it."""
        ask, begun = orders.filed(request), list[int]()
        try:
            if not self.store.take(request.id):
                return  # withdrawn meanwhile
            self._tell(f"{ask.kind} {ask.arguments.get('person', '')}, ordered by {ask.by}")
            logger.info("{} ordered by {}{}", ask.kind, ask.by, f": {ask.reason}" if ask.reason else "")
            answer = await self._other_settings(ask) or await orders.carry_out(ask, self._where(begun))
            if ask.kind in DECISIONS and answer.error:  # it leaves no run that `status` could show
                logger.warning("{}: {}", ask.kind, answer.error)
        except Stopped:
            with suppress(StateError):
                self.store.put_back(request.id)
            return
        except Replaced:
            raise
        except Exception as error:
            code, words = _words(error)
            with orders.lines_of_run(begun):
                logger.error("{}", words)
            answer = Answer(code, error=words)
        if ask.kind not in DECISIONS and answer.code not in (exits.FAILED, exits.USAGE, exits.STATE):
            self._failures.again()
        self._answers.append((request, answer))
        self._answer()
        self._wake.set()

    def _answer(self) -> None:
        """Record what came of orders; what can't be recorded now, on a full disk for instance, is tried again."""
        with suppress(StateError):
            while self._answers:
                orders.close(self.store, *self._answers[0], self._now())
                del self._answers[0]

    async def _other_settings(self, ask: Ask) -> Answer | None:
        """Why an order is refused that was given with other settings in view than those that are in force, or that the
        file has by now. Whoever has just protected somebody relies on it."""
        if ask.kind in DECISIONS or ask.settings == self.settings.digest:
            return None
        try:
            theirs = load(self.settings.file).digest == ask.settings
            problem = await self._read_settings() if theirs else ""
        except SettingsError as error:
            problem = str(error)
        if ask.settings == self.settings.digest:
            return None
        answer = _refused(problem, self.settings)
        logger.warning("the order is refused. {}", answer.error)
        return answer

    def _where(self, begun: list[int] | None = None) -> Setting:
        return Setting(
            self.settings,
            self._services,
            self.store,
            self.clock,
            self.stopping,
            self._after,
            width=WIDTH,
            begun=[] if begun is None else begun,
        )

    # -- settings ---------------------------------------------------------------------------------------------------

    def _ask_to_reload(self) -> None:
        self._reload = True
        self._wake.set()

    async def _read_settings(self) -> str:
        """Take the settings anew where they are good, and the clients with them; else go on with the old ones, and
        return why."""
        self._reload = False
        systemd.reloading()
        clients, problem = AsyncExitStack(), ""
        try:
            settings = load(self.settings.file)
            services = await clients.enter_async_context(wiring.services(settings))
            if not same_file(settings.state_path(), self.store.path):
                problem = "state.path can't be changed while the service runs: restart it."
        except (SettingsError, SecretError, HttpError) as error:
            problem = str(error)
        if problem:
            await clients.aclose()
            self._refused = "the new settings can't be used, the old ones are in force (see the log)"
            logger.error("The settings can't be used; the old ones are kept.\n{}", problem)
        else:
            async with self._partial:
                await self._clients.aclose()
                self._clients, self._services, self.settings = clients, services, settings
            self._refused = ""
            self._note_settings()
            log.to_stderr(settings, service=True)
            await self._serve_metrics()
            self._schedule()
            self._tick("cycle")
            self._failures.again()
            logger.info("the settings were read again")
        systemd.notify(READY="1")
        return problem

    def _note_settings(self) -> None:
        """Keep for `status` and `plan` which settings are in force."""
        with suppress(StateError):
            self.store.set_meta("settings", self.settings.digest)

    def _tell(self, doing: str) -> None:
        systemd.notify(STATUS=doing)


class Failures:
    """The cycles that failed in a row: how many, since when, with what words, and until when nothing is tried."""

    def __init__(self) -> None:
        self.count = 0
        self.since: datetime | None = None
        self._words: str | None = None
        self._pause = timedelta(0)
        self._until = 0.0

    @property
    def until(self) -> float:
        """The monotonic time at which the pause ends, or ended."""
        return self._until

    def add(self, interval: timedelta, words: str = "") -> bool:
        """One more; returns whether these words are new. The pauses double, up to `LONGEST_PAUSE`."""
        self.count += 1
        self.since = self.since or datetime.now(UTC)
        self._pause = min(LONGEST_PAUSE, self._pause * 2 or interval)
        self._until = time.monotonic() + self._pause.total_seconds()
        new = words != self._words
        self._words = words
        return new

    def again(self) -> None:
        """End the pause, since things have changed; what fails all the same is told."""
        self._pause, self._until, self._words = timedelta(0), 0.0, None

    def resting(self) -> bool:
        """Whether it is too early to try again."""
        return self.rest() > 0

    def rest(self) -> float:
        """Seconds until it is time to try again."""
        return max(0.0, self._until - time.monotonic())


def _refused(problem: str, settings: Settings) -> Answer:
    if problem:
        words = f"the service can't use the settings as they are now, and goes on with its former ones:\n{problem}"
    else:
        words = (
            f"the service has the settings in {os.path.abspath(settings.file)}, and this was ordered with others. Name "
            "that file with --config. If you did, it was changed meanwhile: order it again."
        )
    return Answer(exits.USAGE, error=f"Nothing was done: {words}")


def _words(error: Exception, *failed: str) -> tuple[int, str]:
    return exits.explained(error, *failed) or (exits.FAILED, exits.unforeseen(error))


def _summary(outcome: cycle.Outcome) -> str:
    alarms = " ".join(warnings(outcome.plan))
    summary = _work(outcome)
    return f"WILL BE HELD when grace ends: {alarms} Now: {summary}" if alarms else summary


def _work(outcome: cycle.Outcome) -> str:
    plan = outcome.plan
    failing = promise.failing_words(promise.failing(plan, orders.states_of(outcome)).values())
    if outcome.result == "nothing" and failing:
        return f"FAILING for {failing}; nothing was sent this time. Who and why: reconciler status"
    if outcome.result == "nothing":
        return f"nothing to do: {in_line(plan)}"
    parts = [f"FAILING for {failing}"] if failing else []
    parts += [f"NOT READ: {unread_words(plan.scope.unread)}"] if plan.scope.unread else []
    parts += [
        f"{number} {state.replace('_', ' ')}" for state, number in sorted(executor.counts(outcome.results).items())
    ]
    if plan.held:
        first = reasons(plan)[0]
        paused = first.limit == "paused"
        way = "to go on: reconciler resume" if paused else f"to let them through: reconciler release {plan.id}"
        parts.append(f"{len(plan.held_indices)} held ({first.reason}); {way}")
    if outcome.result == "observed":
        parts.append(f"observed: {count(len(plan.operations), 'operation')} would be due")
    return ", ".join(parts) or outcome.result


def lane_rest(took: float) -> float:
    """Seconds until the next look for suspended people, by how many the last one took.

    One that took long since nobody answered, or since the process was stopped meanwhile, was no work, so the rest is
    never longer than after a cycle that failed.
    """
    return max(LANE, min(LANE_SHARE * took, LONGEST_PAUSE.total_seconds()))


def _share(settings: Settings) -> float:
    """A number from 0 to 1 that differs between instances and stays the same for each."""
    of = f"{settings.jumpcloud.application}\n{settings.keeper.scim_url}\n{settings.tenant}"
    return int.from_bytes(hashlib.sha256(of.encode()).digest()[:4]) / 2**32


def serve(settings: Settings, clock: Callable[[], datetime]) -> None:
    """Run the daemon in this process. Raises StateError, SecretError where it can't start, and `Replaced`."""
    log.to_stderr(settings, service=True)
    # To be asked to read the settings again while it waits for the state file must not end it.
    asked: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: asked.append(number))
    with _opened(settings, clock) as store:
        logger.info("started as process {} with {}", os.getpid(), settings.file)
        asyncio.run(Daemon(settings, store, clock).run(asked))


def _opened(settings: Settings, clock: Callable[[], datetime]) -> Store:
    """The state file, once it can be had, and what lapsed before is answered: a command that has it, or a daemon that
    is ending, gives it back, and on a full disk somebody makes room."""
    said = ""
    while True:
        try:
            with ExitStack() as unless_good:
                store = unless_good.enter_context(Store.open(settings.state_path(), write=True, takes_requests=True))
                orders.lapse(store, corrected(store, clock)())
                unless_good.pop_all()
                return store
        except (InUse, NoRoom) as error:
            if isinstance(error, InUse) and error.takes_requests:
                raise
            waits = f"waiting for the state file: {error.problem if isinstance(error, InUse) else error}"
            if not said:
                logger.log("WARNING" if isinstance(error, InUse) else "ERROR", "{}", waits)
            if waits != said:
                systemd.notify(STATUS=waits)
            said = waits
        time.sleep(LOOK_AGAIN)


def _local_zone() -> tzinfo:
    """The time zone of this machine. One that has no name, as tzset(3) allows, counts with its present offset."""
    try:
        return get_localzone()
    except (ValueError, LookupError):
        zone = datetime.now().astimezone().tzinfo
        assert zone is not None
        logger.warning("The time zone of this machine has no name: schedule.resync goes by {}, also in summer", zone)
        return zone
