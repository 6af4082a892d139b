"""The clocks of a run: this machine's and the services', and the stored times that a wrong one left behind.

What the clocks mean is decided in `timekeeping`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from loguru import logger

from reconciler.counting import count
from reconciler.keeper_errors import KeeperError
from reconciler.plan import Notice, NoticeKind, Subject
from reconciler.statefile_errors import StateError
from reconciler.timekeeping import APART, KEY, Known, Now, estimate, following, from_json, judge, to_json

if TYPE_CHECKING:
    from reconciler.reading import Services
    from reconciler.store import Store

Clock = Callable[[], datetime]

ATTEMPTS = 3
"""How often a service is asked for its clock: so many replies have to agree (see `http_clock.REPLIES`)."""
_CLOCK = Subject("machine", "clock")
_TIMES = Subject("machine", "stored times")
_WORDS = {
    "users": "people who left",
    "teams": "teams",
    "memberships": "memberships",
    "runs": "runs",
    "operations": "operations in the journal",
    "requests": "decisions and orders",
    "alerts": "alerts",
    "meta": "other values",
}


def known(store: "Store") -> Known:
    """The findings of the last run about the time. Raises StateError."""
    return from_json(store.meta(KEY))


def corrected(store: "Store", machine: Clock) -> Clock:
    """The clock for all that is no run, such as `status`: this machine's with the offset that the last run found, or
    without it where the state file can't be read."""

    def now() -> datetime:
        at = machine()
        try:
            return estimate(at, known(store))
        except StateError:
            return at

    return now


@dataclass(slots=True)
class ServiceTime:
    """The clock of one service. `offset`: see `Http.clock_offset`; `ask` sends it a harmless request."""

    offset: Callable[[], float | None] = lambda: None
    ask: Callable[[], Awaitable[object]] | None = None
    _in_vain: bool = field(default=False, init=False)

    async def learn(self) -> float | None:
        """The seconds by which it is ahead of this machine's wall clock, None where its replies do not tell.

        The service is asked up to three times where that is not known yet, but not again once that was in vain. Raises
        what asking raises.
        """
        if self.ask is not None and self.offset() is None and not self._in_vain:
            for _ in range(ATTEMPTS):
                await self.ask()
                if self.offset() is not None:
                    break
            else:
                self._in_vain = True
        return self.offset()


class Timekeeper:
    """The time of one run. `now` is the moment at which it is decided, an estimate until `settle` has been called.

    `began` is when the run did. `steady` tells seconds that go on whatever happens to the machine's clock.
    """

    def __init__(self, store: "Store", machine: Clock, steady: Callable[[], float] = lambda: 0.0) -> None:
        self._store = store
        self._machine = machine
        self._steady = steady
        self._since = steady()
        self._known = known(store)
        at = machine()
        self.now = self.began = estimate(at, self._known)
        self._offset = self.now - at
        self._earliest = self._latest = self._furthest = self.now
        self.certain = self._known.certain
        self.notices: tuple[Notice, ...] = ()

    def clock(self) -> datetime:
        """The time that goes on from `now`: for what is recorded while the run lasts.

        It never goes back, whatever happens to the machine's clock: nothing corrects a time that was recorded too
        early.
        """
        self._latest = max(self._latest, self._machine() + self._offset)
        return self._latest

    def go_on(self) -> None:
        """Decide by the present moment what a long read has shown: who left during it has not been away since it began.

        It goes by the steady seconds: nobody's grace may end since the machine's clock was put meanwhile.
        """
        passed = timedelta(seconds=self._steady() - self._since)
        if passed > APART:
            self._since = self._steady()
            self.now += passed
            self._furthest += passed
            self._latest = max(self._latest, self.now)

    def window(self, length: timedelta) -> datetime:
        """The beginning of a window that ends now. In doubt about the time it begins earlier: nothing leaves it."""
        return self._earliest - length

    def certainly(self, length: timedelta) -> datetime:
        """The beginning of a window that ends now, for what is let through because it is recent. In doubt about the
        time it begins later: by the clock that is furthest ahead."""
        return self._furthest - length

    async def settle(self, services: "Services", run_id: int, *, ask: bool = True) -> None:
        """Determine the time, date the run by it, and correct the stored times that lie in the future.

        Durations that persons have given since the last run begin now. Without `ask` only what is known already is
        used. Raises JumpCloudError, StateError.
        """
        offsets = await self._ask(services) if ask else _known_offsets(services)
        now = judge(self._machine(), offsets, self._known)
        with self._store.together():
            self._store.date_run(run_id, now.at)
            counts = self._store.correct_times(now.at, now.correct_to) if now.correct_to is not None else {}
            self._store.begin_durations(now.at, self._known.at)
            self._known = following(self._known, now)
            self._store.set_meta(KEY, to_json(self._known))
        self.now, self._offset, self._earliest, self.certain = now.at, now.offset, now.earliest, now.certain
        self._since = self._steady()
        self.began = self._latest = now.at
        ahead = max(timedelta(seconds=seconds) for seconds in (0.0, *offsets.values()))
        self._furthest = now.at if now.certain else max(now.at, self._machine() + ahead)
        self.notices = (*_problem(now), *_corrected(counts, now.correct_to))
        for notice in self.notices:
            logger.warning("{}", notice.message)

    async def _ask(self, services: "Services") -> dict[str, float]:
        """The offsets of the services. Keeper, whom a plain cycle has no need to ask, is asked where it has to decide
        between two clocks."""
        offsets = {"JumpCloud": await services.jumpcloud_time.learn(), "Keeper": services.keeper_time.offset()}
        first = offsets["JumpCloud"]
        back = self._known.at is not None and self._machine() < self._known.at - APART
        in_doubt = back or bool(self._known.found)
        if offsets["Keeper"] is None and (in_doubt if first is None else abs(first) > APART.total_seconds()):
            try:
                offsets["Keeper"] = await services.keeper_time.learn()
            except KeeperError as error:
                logger.warning("Keeper could not be asked for the time, which two clocks disagree about: {}", error)
        return {name: offset for name, offset in offsets.items() if offset is not None}


def _known_offsets(services: "Services") -> dict[str, float]:
    offsets = {"JumpCloud": services.jumpcloud_time.offset(), "Keeper": services.keeper_time.offset()}
    return {name: offset for name, offset in offsets.items() if offset is not None}


def _problem(now: Now) -> list[Notice]:
    return [Notice(NoticeKind.CLOCK, _CLOCK, now.problem)] if now.problem else []


def _corrected(counts: "dict[str, int]", to: datetime | None) -> list[Notice]:
    if not counts:
        return []
    what = ", ".join(f"{_WORDS.get(table, table)} ({number})" for table, number in counts.items())
    words = (
        f"{count(sum(counts.values()), 'stored time')} lay in the future, since a clock was wrong at the time; now "
        f"set to {to:%Y-%m-%d %H:%M} UTC: {what}. Periods that count from there begin then, nothing has to be done"
    )
    return [Notice(NoticeKind.CLOCK, _TIMES, words)]
