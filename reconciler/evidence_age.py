"""The age of what a change rests on, and the last moment at which that change may be sent.

Evidence gets old also while the machine sleeps, or while its wall clock is put, so its age is the larger of what
two clocks say.
"""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from reconciler.pace import Clock

MAX_AGE = 30.0
"""Seconds after its confirmation within which the attempts to send a change may begin."""

BEAT = 5.0
"""Seconds between two beats by which a process knows that it goes on."""
STOOD = 30.0
"""Seconds by which a beat has to be late for the process to have stood still: work takes less."""

GLANCE = 10.0
"""Seconds, retries included, for a look that the work can do without: evidence grows old meanwhile, and others wait."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """The moment of a confirmation, by boot time and by the wall clock."""

    boot: float
    wall: float

    @classmethod
    def now(cls, clock: Clock) -> Self:
        """The present moment."""
        return cls(clock.boottime(), clock.wall())

    def age(self, clock: Clock) -> float:
        """Seconds since then, the time that the machine slept included.

        The larger of boot time and wall clock counts: a wall clock that was put back makes nothing younger.
        """
        return max(clock.boottime() - self.boot, clock.wall() - self.wall)


class Heart:
    """Beats while the process goes on, and so knows how long it stood still: since the machine slept, or since the
    process itself was stopped, which no clock shows (SIGSTOP, Ctrl-Z, a frozen container, a terminal that takes no
    more)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stood = 0.0
        self._begin()

    def _begin(self) -> None:
        self._last = Stamp.now(self._clock)
        self._next = asyncio.get_running_loop().call_later(BEAT, self._beat)

    def _beat(self) -> None:
        self._stood = self.stood()
        self._begin()

    def stood(self) -> float:
        """Seconds that it stood still by now."""
        late = self._last.age(self._clock) - BEAT
        return self._stood + (late if late > STOOD else 0.0)

    def stop(self) -> None:
        """Beat no more."""
        self._next.cancel()


@contextmanager
def beating(clock: Clock) -> Iterator[Heart]:
    """A heart that beats inside."""
    heart = Heart(clock)
    try:
        yield heart
    finally:
        heart.stop()


V = TypeVar("V")


@contextmanager
def _inside(variable: ContextVar[Any], value: V) -> Iterator[V]:
    """Give the variable this value inside, in tasks that are created there too."""
    token = variable.set(value)
    try:
        yield value
    finally:
        variable.reset(token)


def _note(variable: ContextVar[list[Stamp] | None], began: Stamp) -> None:
    stamps = variable.get()
    if stamps is not None:
        stamps.append(began)


_READ: ContextVar[list[Stamp] | None] = ContextVar("read", default=None)


def reading() -> AbstractContextManager[list[Stamp]]:
    """Collect the moments at which the attempts began that brought an answer, for all that is read inside.

    What an attempt tells is no older than its beginning, however long others before it were refused or made to wait.
    """
    return _inside(_READ, [])


def answered(began: Stamp) -> None:
    """Note an attempt that brought an answer."""
    _note(_READ, began)


def oldest(stamps: list[Stamp], clock: Clock) -> Stamp | None:
    """The oldest of these moments, None for none."""
    return max(stamps, key=lambda stamp: stamp.age(clock), default=None)


_OTHERS_WAIT: ContextVar[bool] = ContextVar("others_wait", default=False)


def others_wait() -> AbstractContextManager[bool]:
    """Read for others who wait for it: what was lost after more than `MAX_AGE` seconds is not tried again, for all that
    is read inside. One record whose reads hang must not take everybody's time."""
    return _inside(_OTHERS_WAIT, True)


def patience() -> float:
    """Seconds after the first attempt within which one that was lost is tried again."""
    return MAX_AGE if _OTHERS_WAIT.get() else math.inf


_ATTEMPTS: ContextVar[list[Stamp] | None] = ContextVar("attempts", default=None)


def changing() -> AbstractContextManager[list[Stamp]]:
    """Collect the attempts of changes that may have reached a service, for all that is sent inside: when each began."""
    return _inside(_ATTEMPTS, [])


def attempted(began: Stamp) -> None:
    """Note an attempt of a change that may have reached its service."""
    _note(_ATTEMPTS, began)


def _stands() -> str:
    """No words, for what nothing overrules."""
    return ""


_CONFIRMED: ContextVar[tuple[Stamp | None, Callable[[], str]]] = ContextVar("confirmed", default=(None, _stands))


def last_moment(confirmed: Stamp, overruled: Callable[[], str] = _stands) -> AbstractContextManager[object]:
    """Begin no attempt of a change more than `MAX_AGE` seconds after `confirmed`, and none once it is `overruled`, by a
    decision for instance, which gives words for that: for all that is sent inside.

    It holds for retries too, and in tasks that are created inside; requests that only read go on. Of two that are
    nested, the inner one holds.
    """
    return _inside(_CONFIRMED, (confirmed, overruled))


def time_left(clock: Clock) -> float:
    """Seconds until the last moment of the change that is being sent; infinite where none was set, and negative once it
    is overruled."""
    confirmed, _ = _CONFIRMED.get()
    if overruled():
        return -math.inf
    return math.inf if confirmed is None else MAX_AGE - confirmed.age(clock)


def overruled() -> str:
    """By what the change that is being sent is overruled, in words; "" where it stands."""
    _, words = _CONFIRMED.get()
    return words()
