"""The pace of all workers of one service, which finds its level."""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

PACE_FLOOR = 0.5
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


class Pace:
    """One pace for all workers of one service, in requests a second, finding its level below `ceiling`.

    It halves when the service throttles, once for all requests that were under way by then, and grows slowly
    with every answer. Neither service publishes its rates, so a start well below the ceiling is advisable.
    """

    def __init__(self, start: float, ceiling: float, *, clock: Clock | None = None) -> None:
        self.rate = start
        self._ceiling = ceiling
        self._top = ceiling
        self._clock = clock or Clock()
        self._next = -math.inf
        self._resume = -math.inf
        self._halved = -math.inf
        self._turn = asyncio.Lock()

    def lift(self) -> None:
        """Set no pace until throttled, and again once the ceiling is regained: for loopback addresses."""
        self.rate = self._top = math.inf

    async def turn(self) -> float:
        """Wait until the next request may start; returns the time of the start."""
        async with self._turn:
            while (wait := max(self._next, self._resume) - self._clock.monotonic()) > 0:
                await self._clock.sleep(wait)
            now = self._clock.monotonic()
            self._next = now + 1 / self.rate
            return now

    def answered(self) -> None:
        """A request was answered and not throttled: grow a little."""
        if self.rate < self._ceiling:
            self.rate += PACE_GROWTH / self.rate
        if self.rate >= self._ceiling:
            self.rate = self._top

    def throttled(self, began: float, wait: float) -> bool:
        """A request begun then was throttled: nobody starts for `wait` seconds. True where it halved."""
        now = self._clock.monotonic()
        self._resume = max(self._resume, now + wait)
        if began <= self._halved:
            return False
        self._halved = now
        self.rate = max(PACE_FLOOR, min(self.rate, self._ceiling) / 2)
        return True
