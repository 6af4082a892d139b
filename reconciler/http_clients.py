"""The connections of one service: kept after a reply that came to its end, thrown away after anything else."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import httpx

CLOSING = 5.0
"""Seconds that connections get to be closed at the end."""


class Resource(Protocol):
    """A client or a socket: something that can be closed, also when it is closed already."""

    async def aclose(self) -> None:
        """Close it."""
        ...


class Loan:
    """One client, lent for one attempt. `clean`: its connection may serve the next request."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.clean = True
        self.opened: list[Resource] = []

    async def trace(self, event: str, told: Mapping[str, Any]) -> None:
        """Keep the sockets that are opened: the `trace` extension of the request that is sent.

        Cancelled during the TLS handshake, httpcore forgets its socket and leaves it open.
        """
        if event.endswith(".connect_tcp.complete"):
            self.opened.append(told["return_value"])


class Clients:
    """Clients of one connection each, made by `make` as they are needed.

    The pool of a client whose request was cancelled, or ended in an exception, may count its connection as taken
    for ever (encode/httpcore#1093, encode/httpcore#830). So only a client with a clean end is used again.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self._make = make
        # What can't be made is told at the start, not by the first request.
        self._idle = [make()]
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    @contextmanager
    def lend(self) -> Iterator[Loan]:
        """Lend a client for one attempt; the one used last comes first since its connection is still open.

        The borrower sets `clean` to False before it sends, and to True once the reply was read to its end.
        """
        loan = Loan(self._idle.pop() if self._idle else self._make())
        try:
            yield loan
        finally:
            if loan.clean and not self._closed:
                self._idle.append(loan.client)
            else:
                self._throw_away(loan.client, loan.opened)

    async def close(self) -> None:
        """Close what is idle and await what is being closed; clients that are lent are closed once given back.

        Takes five seconds at most, and can be cancelled: what is being closed by then goes on.
        """
        self._closed = True
        while self._idle:
            self._throw_away(self._idle.pop())
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSING)

    def _throw_away(self, client: httpx.AsyncClient, opened: Iterable[Resource] = ()) -> None:
        """Close a client in a task of its own: whoever used it may be cancelled, and is not to wait for it."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # the loop has ended, and with it every connection
        task = loop.create_task(_close(client, *opened))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _close(*resources: Resource) -> None:
    for resource in resources:
        with suppress(Exception):
            await resource.aclose()
