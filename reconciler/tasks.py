"""Work that is done at the same time and fails as one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

V = TypeVar("V")


@asynccontextmanager
async def siblings() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group whose first failure ends the other tasks and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failed:
        first = failed.exceptions[0]
    else:
        return
    raise first


async def together(work: Iterable[Awaitable[V]]) -> list[V]:
    """The results of all, in order; the first failure ends the others and is raised."""

    async def result(one: Awaitable[V]) -> V:
        return await one

    async with siblings() as group:
        tasks = [group.create_task(result(one)) for one in work]
    return [task.result() for task in tasks]
