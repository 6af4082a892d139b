"""Both sides are read at the same time."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from reconciler.jumpcloud import UnexpectedReply
from reconciler.model import Application, Snapshot
from reconciler.policy import TeamPolicy
from reconciler.reading import Reader
from tests.world import NOW


def test_a_read_that_fails_ends_the_others_and_is_the_one_error() -> None:
    """Else Keeper would be asked on, page after page, in the pause that follows a failed cycle."""
    ended: list[str] = []

    async def listing(*_: object, **__: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("the list of Keeper")

    async def read_scope(_: object) -> None:
        raise UnexpectedReply("JumpCloud: the scope can't be read")

    services: Any = SimpleNamespace(
        jumpcloud=SimpleNamespace(read_scope=read_scope),
        keeper=SimpleNamespace(listing=listing),
        scim_url="https://keeper.example/1",
        inventory=None,
    )
    reader = Reader(services, "o" * 24, Application("a" * 24, "Keeper"), Snapshot(), (), NOW)

    async def read() -> None:
        with pytest.raises(UnexpectedReply, match="the scope can't be read"):
            await reader.everybody(TeamPolicy(), reviewed=True, resync=True)
        assert ended == ["the list of Keeper"]

    asyncio.run(read())
