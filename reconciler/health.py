"""A small HTTP server in the daemon's own loop: `/metrics`, `/healthz`, `/readyz`.

It only tells, takes no orders, and is bounded: so many connections, so many bytes, so many seconds. That it answers
at all says that the loop lives; `silent` says whether it does what it is there for.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

from loguru import logger

from reconciler.http import Counters
from reconciler.settings_fields import Listen

MOST_CONNECTIONS = 16
MOST_BYTES = 8192
"""Of one request; scrapers send some hundred."""
PATIENCE = 5.0
"""Seconds for a request to arrive, and again for the answer to be taken."""

INTERVALS = 3
"""Intervals for which requests may be due while no connection is attempted or answered."""
SHORTEST_SILENCE = 600.0
"""Seconds of silence that are no sign of anything, however short the interval: a service may ask for a pause of five
minutes, and a program that approves teams may take two."""

_TEXT = "text/plain; charset=utf-8"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Told:
    """The answers of the server, made anew for each request: the metrics, whether it works, whether it is ready."""

    metrics: Callable[[], bytes]
    alive: Callable[[], bool]
    ready: Callable[[], bool]


def silent(now: float, due: float, interval: float, traffic: Iterable[Counters]) -> bool:
    """Whether requests have been due for three intervals while no connection was attempted or answered.

    They are due from `due` on, when a cycle should have begun, and at a service as soon as one waits there; which ones
    count: see `Counters`. A failed attempt is a sign of life like any other: an outage of a service makes nothing
    silent. `now` and `due` are monotonic times, all in seconds.
    """
    patience = max(INTERVALS * interval, SHORTEST_SILENCE)
    counters = list(traffic)
    stuck = any(one.waiting and now - one.sign > patience for one in counters)
    return stuck or now - max(due, *(one.sign for one in counters)) > patience


@contextlib.asynccontextmanager
async def serving(listen: Listen, told: Told) -> AsyncIterator[int]:
    """Serve as long as the context lasts; gives the port. Raises OSError where the address can't be had."""
    open_now: set[asyncio.Task[None]] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(open_now) < MOST_CONNECTIONS:
                open_now.add(task)
                await _serve(reader, writer, told)
        finally:
            open_now.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(connection, listen.host, listen.port, limit=MOST_BYTES)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, told: Told) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
    except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
        return
    method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    status, kind, body = _answer(method, path, told)
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(PATIENCE):
            writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if method == "HEAD" else body))
            await writer.drain()


def _answer(method: str, path: str, told: Told) -> tuple[str, str, bytes]:
    if method not in ("GET", "HEAD"):
        return "405 Method Not Allowed\r\nAllow: GET, HEAD", _TEXT, b"only GET\n"
    try:
        if path == "/metrics":
            return "200 OK", _METRICS, told.metrics()
        if path == "/healthz":
            return ("200 OK", _TEXT, b"alive\n") if told.alive() else ("503 Service Unavailable", _TEXT, b"not alive\n")
        if path == "/readyz":
            return ("200 OK", _TEXT, b"ready\n") if told.ready() else ("503 Service Unavailable", _TEXT, b"not ready\n")
    except Exception as error:
        logger.warning("{} could not be answered: {}", path, type(error).__name__)
        return "500 Internal Server Error", _TEXT, b"the log has more\n"
    return "404 Not Found", _TEXT, b"/metrics, /healthz, /readyz\n"
