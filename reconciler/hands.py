"""One subject, one hand: what keeps two cycles from working on one user or team at the same time.

A whole cycle, the leaver lane and a `resync EMAIL` run beside each other in one process. Each holds a subject from the
confirming read until the outcome is recorded. Whoever planned before the subject was changed plans anew.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar

_held: ContextVar[frozenset[str]] = ContextVar("held", default=frozenset())


class Vanishing:
    """The accounts that were `gone` after their lock, and the locks under way after which one more may be: that shows
    only after the lock, so both are few together."""

    def __init__(self, gone: int, most: int) -> None:
        self.gone = gone
        self._most = most
        self._under_way = 0
        self._left = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether so many are gone that a person has to agree to any more."""
        return self.gone >= self._most

    @property
    def free(self) -> bool:
        """Whether one more lock may go now, or finds that it has to wait for a person."""
        return self.over or self.gone + self._under_way < self._most

    async def until_free(self) -> None:
        """Wait until one more may go. Whoever waits must not hold a subject, a canary or a worker."""
        while not self.free:
            self._left.clear()
            await self._left.wait()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Count a lock as under way."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            self._left.set()


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
        self._vanishing = Vanishing(0, 0)
        self._counting = 0
        self._beside = 0
        self._nobody_beside = asyncio.Event()
        self._nobody_beside.set()
        self._alone = asyncio.Lock()

    @contextmanager
    def vanishing(self, gone: int, most: int) -> Iterator[Vanishing]:
        """Share the count of vanished accounts with all runs that are under way; the first begins it with `gone`."""
        if not self._counting:
            self._vanishing = Vanishing(gone, most)
        self._counting += 1
        try:
            yield self._vanishing
        finally:
            self._counting -= 1

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
