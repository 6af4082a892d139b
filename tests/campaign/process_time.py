"""Time that passes faster, for a reconciler that is a process of its own: its waits are real, but short.

Everything is hurried alike: waits and time-outs of both sides by their event loops, and the clock that the reconciler
tells the time from. Its time begins where the history has come to, and can be put forward and back while it runs.
"""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from reconciler import pace

HURRY = 30.0
"""So many seconds pass in one: a request that is never answered, given up after 60 s, costs two."""

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(None if timeout is None else timeout / HURRY)


class Loop(asyncio.SelectorEventLoop):
    """An event loop with real sockets and hurried time."""

    def __init__(self) -> None:
        super().__init__(_Selector())

    def time(self) -> float:
        return super().time() * HURRY


def run(work: Coroutine[Any, Any, T]) -> T:
    """What `asyncio.run` does, in hurried time."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(work)


@dataclass(frozen=True, slots=True)
class Clock(pace.Clock):
    """The clock of the HTTP clients."""

    monotonic: Callable[[], float] = lambda: time.monotonic() * HURRY
    boottime: Callable[[], float] = lambda: pace.boottime() * HURRY


def put(path: Path, wall: float) -> None:
    """Put the clock of all processes that read this file."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(f"{time.monotonic()} {wall}", encoding="ascii")
    fresh.rename(path)


def now(path: Path) -> datetime:
    """The time by the clock in this file."""
    since, wall = map(float, path.read_text(encoding="ascii").split())
    return datetime.fromtimestamp(wall + (time.monotonic() - since) * HURRY, UTC)
