"""Time that costs nothing: an event loop whose clock jumps to the next timer, and a wall clock that can be set."""

import asyncio
from collections.abc import Awaitable, Generator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")

BEGINNING = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
LONGEST = 2 * 86400.0
"""Seconds that one piece of work may take. Whatever beats while it waits would go on for ever."""


class Hanging(Exception):
    """Everybody waits, and nothing is left that could wake anybody."""


class Time:
    """One history's time in seconds since its beginning. `offset` is the error of the machine's clock, `passing` the
    part of it that is over after the next cycle."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.offset = 0.0
        self.passing = 0.0
        self.right = True
        """Whether the machine's clock has never been wrong."""

    def monotonic(self) -> float:
        return self.elapsed

    def wall(self) -> float:
        return BEGINNING.timestamp() + self.elapsed + self.offset

    def true(self) -> datetime:
        """The time as the services have it."""
        return BEGINNING + timedelta(seconds=self.elapsed)

    def pass_by(self) -> None:
        """End the part of the error that was to pass."""
        self.offset -= self.passing
        self.passing = 0.0

    def now(self) -> datetime:
        """The time as the reconciler's machine has it."""
        return BEGINNING + timedelta(seconds=self.elapsed + self.offset)


class _Selector:
    """Stands where the loop would wait for sockets; there are none, so it moves the clock on instead."""

    def __init__(self, time: Time) -> None:
        self._time = time
        self.since = time.elapsed

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None or self._time.elapsed - self.since > LONGEST:
            raise Hanging
        self._time.elapsed += timeout
        return []


class Loop(asyncio.BaseEventLoop):
    """An event loop without sockets in virtual time: the same calls run in the same order on every machine."""

    def __init__(self, time: Time) -> None:
        super().__init__()
        self._time = time
        self._selector = _Selector(time)
        self._clock_resolution = 1e-9
        self.set_exception_handler(lambda _loop, _context: None)  # a killed process leaves tasks behind

    def time(self) -> float:
        return self._time.elapsed

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """As of its base class; what it may take begins now."""
        self._selector.since = self._time.elapsed
        return super().run_until_complete(future)

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """There is no other thread that would have to wake the loop."""
