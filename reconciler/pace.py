"""The pace of all workers of one service, which finds its level."""

import asyncio
import math
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

PACE_FLOOR = 0.5
URGENT_PLACES = 2
"""Requests that may be under way beyond the limit if they are urgent: all others may wait for a service that hangs."""
ANSWERED = 5
"""So many answers to others, for each request that is throttled, say that the service as such does not ask to wait."""
PACE_GROWTH = 0.1
"""Requests a second gained by every second of answered requests at full pace."""


def boottime() -> float:
    """Seconds since the machine was started, the time that it slept included (clock_gettime(2), CLOCK_BOOTTIME).

    Where there is no such clock it is CLOCK_MONOTONIC, which counts sleep on some systems only.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance, to be replaced in tests. Seconds throughout; `random` gives 0 up to 1."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random
    boottime: Callable[[], float] = boottime


_URGENT: ContextVar[bool] = ContextVar("urgent", default=False)


@contextmanager
def urgent() -> Iterator[None]:
    """Let the requests made inside start before all that are not urgent, in tasks that are created inside too.

    Each of the two groups keeps its order. Nothing else is kept for those that are not urgent: they wait as long as
    urgent ones come, so this is for the few requests about one person, or about the leavers of a minute.
    """
    token = _URGENT.set(True)
    try:
        yield
    finally:
        _URGENT.reset(token)


def is_urgent() -> bool:
    """Whether requests that are made here are urgent."""
    return _URGENT.get()


class NoTurn(Exception):
    """The request may not start any more once its turn comes."""


def no_end() -> float:
    """The seconds that are left where no moment is the last."""
    return math.inf


class Pace:
    """One pace for all workers of one service, in requests a second, finding its level below `ceiling`.

    It halves when the service throttles, once for all requests that were under way by then, and grows slowly
    with every answer. Neither service publishes its rates, so a start well below the ceiling is advisable. At most
    `in_flight` requests are under way at once. What is throttled again when it is asked for again, though others were
    answered since and no other began to be throttled, speaks for itself: one record that always asks to wait must not
    stop everybody. `asked` stands for all that a request asks for.
    """

    def __init__(self, start: float, ceiling: float, *, clock: Clock | None = None) -> None:
        self.rate = start
        self._ceiling = ceiling
        self._top = ceiling
        self._clock = clock or Clock()
        self._next = -math.inf
        self._resume = -math.inf
        self._halved = -math.inf
        self._free = math.inf
        self._throttled: set[Hashable] = set()
        """Requests that were throttled and had no answer since."""
        self._others_answered = 0
        """How many requests were answered, of those that began outside a wait, since another one joined these."""
        self._urgent: OrderedDict[asyncio.Event, None] = OrderedDict()
        self._others: OrderedDict[asyncio.Event, None] = OrderedDict()

    def lift(self) -> None:
        """Set no pace until throttled, and again once the ceiling is regained: for loopback addresses."""
        self.rate = self._top = math.inf

    def limit(self, in_flight: int) -> None:
        """Let at most so many requests be under way at once, and `URGENT_PLACES` more that are urgent.

        Without this it is any number.
        """
        self._free = in_flight

    async def turn(self, time_left: Callable[[], float] = no_end) -> float:
        """Wait until the next request may start, urgent ones first; returns the time of the start.

        It is under way until `done`. `time_left` tells the seconds within which it has to start. Raises NoTurn, at
        once where the pace alone is known to take longer.
        """
        woken = asyncio.Event()
        line = self._urgent if is_urgent() else self._others
        ahead = len(self._urgent) + (len(self._others) if line is self._others else 0)
        line[woken] = None
        try:
            if self._wait() + ahead / self.rate > time_left():
                raise NoTurn
            while True:
                wait, left = self._wait(), time_left()
                if left < wait:
                    raise NoTurn
                if self._first() is not woken or self._free + (URGENT_PLACES if line is self._urgent else 0) < 1:
                    woken.clear()
                    try:
                        async with asyncio.timeout(None if left == math.inf else left):
                            await woken.wait()
                    except TimeoutError:
                        raise NoTurn from None
                elif wait > 0:
                    await self._clock.sleep(wait)
                else:
                    break
            now = self._clock.monotonic()
            self._free -= 1
            self._next = now + 1 / self.rate
            return now
        finally:
            # Nothing is awaited from here on: a cancelled request leaves the line, and takes no place with it.
            del line[woken]
            self._wake()

    def done(self) -> None:
        """A request that had its turn is not under way any more, whatever became of it."""
        self._free += 1
        self._wake()

    async def calm(self) -> None:
        """Wait as long as the service has asked everybody to wait."""
        while (wait := self._resume - self._clock.monotonic()) > 0:
            await self._clock.sleep(wait)

    def answered(self, asked: Hashable, began: float) -> None:
        """A request begun then was answered and not throttled: grow a little."""
        self._throttled.discard(asked)
        self._others_answered += began >= self._resume
        if self.rate < self._ceiling:
            self.rate += PACE_GROWTH / self.rate
        if self.rate >= self._ceiling:
            self.rate = self._top

    def throttles_all(self, asked: Hashable) -> bool:
        """Whether what is throttled speaks for the service, so that everybody has to wait."""
        return asked not in self._throttled or self._others_answered < ANSWERED * len(self._throttled)

    def throttled(self, asked: Hashable, began: float, wait: float) -> bool:
        """A request begun then was throttled: nobody starts for `wait` seconds. True where it halved."""
        now = self._clock.monotonic()
        self._resume = max(self._resume, now + wait)
        if asked not in self._throttled:
            self._throttled.add(asked)
            self._others_answered = 0
        if began <= self._halved:
            return False
        self._halved = now
        self.rate = max(PACE_FLOOR, min(self.rate, self._ceiling) / 2)
        return True

    def _wait(self) -> float:
        """Seconds until the first in line may start."""
        return max(0.0, max(self._next, self._resume) - self._clock.monotonic())

    def _first(self) -> asyncio.Event | None:
        """The one whose turn is next."""
        return next(iter(self._urgent or self._others), None)

    def _wake(self) -> None:
        if (first := self._first()) is not None:
            first.set()
