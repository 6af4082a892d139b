"""Work that is done at the same time and fails as one."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

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


async def together(work: Iterable[Coroutine[Any, Any, V]]) -> list[V]:
    """The results of all, in order; the first failure ends the others and is raised."""
    async with siblings() as group:
        tasks = [group.create_task(one) for one in work]
    return [task.result() for task in tasks]
