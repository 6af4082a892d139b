"""The age of what a change rests on, and the last moment at which that change may be sent.

Evidence gets old also while the machine sleeps, or while its wall clock is put, so its age is the larger of what
two clocks say.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Self

from reconciler.pace import Clock

MAX_AGE = 30.0
"""Seconds after its confirmation within which the attempts to send a change may begin."""

GLANCE = 10.0
"""Seconds, retries included, for a look that the work can do without: evidence grows old meanwhile, and others wait."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """The moment of a confirmation, by boot time and by the wall clock; and by the clock that stands still while the
    machine sleeps."""

    boot: float
    wall: float
    awake: float

    @classmethod
    def now(cls, clock: Clock) -> Self:
        """The present moment."""
        return cls(clock.boottime(), clock.wall(), clock.monotonic())

    def age(self, clock: Clock) -> float:
        """Seconds since then, the time that the machine slept included.

        The larger of boot time and wall clock counts: a wall clock that was put back makes nothing younger.
        """
        return max(clock.boottime() - self.boot, clock.wall() - self.wall)

    def asleep(self, clock: Clock) -> float:
        """Seconds that the machine slept since then, as far as its clocks show."""
        return self.age(clock) - (clock.monotonic() - self.awake)


_READ: ContextVar[list[Stamp] | None] = ContextVar("read", default=None)


@contextmanager
def reading() -> Iterator[list[Stamp]]:
    """Collect the moments at which the attempts began that brought an answer, for all that is read inside.

    What an attempt tells is no older than its beginning, however long others before it were refused or made to wait.
    """
    stamps: list[Stamp] = []
    token = _READ.set(stamps)
    try:
        yield stamps
    finally:
        _READ.reset(token)


def answered(began: Stamp) -> None:
    """Note an attempt that brought an answer."""
    stamps = _READ.get()
    if stamps is not None:
        stamps.append(began)


def oldest(stamps: list[Stamp], clock: Clock) -> Stamp | None:
    """The oldest of these moments, None for none."""
    return max(stamps, key=lambda stamp: stamp.age(clock), default=None)


_CONFIRMED: ContextVar[Stamp | None] = ContextVar("confirmed", default=None)


@contextmanager
def last_moment(confirmed: Stamp) -> Iterator[None]:
    """Begin no attempt of a change more than `MAX_AGE` seconds after `confirmed`: for all that is sent inside.

    It holds for retries too, and in tasks that are created inside; requests that only read go on. Of two that are
    nested, the inner one holds.
    """
    token = _CONFIRMED.set(confirmed)
    try:
        yield
    finally:
        _CONFIRMED.reset(token)


def time_left(clock: Clock) -> float:
    """Seconds until the last moment of the change that is being sent; infinite where none was set."""
    confirmed = _CONFIRMED.get()
    return math.inf if confirmed is None else MAX_AGE - confirmed.age(clock)
