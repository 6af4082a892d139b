"""One subject, one hand: what keeps two cycles from working on one user or team at the same time.

A whole cycle, the leaver lane and a `resync EMAIL` run beside each other in one process. Each holds a subject from the
confirming read until the outcome is recorded. Whoever planned before the subject was changed plans anew.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar

_held: ContextVar[frozenset[str]] = ContextVar("held", default=frozenset())


class Hands:
    """The subjects that are held now, and when each was changed last. One object for each open state file."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._waiting: dict[str, int] = {}
        self._changed: dict[str, int] = {}
        self._changes = 0
        self.canaries: dict[str, asyncio.Event] = {}
        """By kind of operations, the canary that is under way: the event is its end."""
        self.deciding = asyncio.Lock()
        """Held from the judgement of a plan until its operations are in the journal, so that limits count both."""
        self._beside = 0
        self._nobody_beside = asyncio.Event()
        self._nobody_beside.set()
        self._alone = asyncio.Lock()

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        """Run a partial cycle, from its first read on."""
        async with self._alone:
            self._beside += 1
            self._nobody_beside.clear()
        try:
            yield
        finally:
            self._beside -= 1
            if not self._beside:
                self._nobody_beside.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Wait until no partial cycle runs, and let none begin: the state file is about to be bound to another node."""
        async with self._alone:
            await self._nobody_beside.wait()
            yield

    @asynccontextmanager
    async def hold(self, keys: Iterable[str]) -> AsyncIterator[None]:
        """Hold these subjects (see `plan.Subject.key`); whatever the present task holds already is not waited for.

        Whoever holds one must not ask for more: the order of the keys is all that prevents a deadlock.
        """
        mine = _held.get()
        wanted = sorted(set(keys) - mine - {""})
        async with AsyncExitStack() as stack:
            for key in wanted:
                await stack.enter_async_context(self._one(key))
            token = _held.set(mine.union(wanted))
            try:
                yield
            finally:
                _held.reset(token)

    @asynccontextmanager
    async def _one(self, key: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._waiting[key] = self._waiting.get(key, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key], self._locks[key]

    def free(self, key: str) -> bool:
        """Whether nobody else holds this subject or waits for it: to hold it now takes no waiting."""
        return key in _held.get() or key not in self._locks

    async def until_free(self, key: str) -> None:
        """Wait until this subject was free. Whoever waits must not hold a canary or a worker."""
        async with self.hold([key]):
            pass

    def mark(self) -> int:
        """The moment at which a snapshot is read, for `changed_since`."""
        return self._changes

    def changed(self, ids: Iterable[str]) -> int:
        """Note that an operation on the subject with these ids begins: what others planned about it is void.

        Returns the mark by which whoever notes it goes on planning.
        """
        self._changes += 1
        self._changed |= dict.fromkeys(filter(None, ids), self._changes)
        return self._changes

    def changed_since(self, mark: int, one: str) -> bool:
        """Whether an operation on the subject with this id has begun since the mark."""
        return self._changed.get(one, 0) > mark
