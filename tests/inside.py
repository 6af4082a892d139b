"""Cycles in this process, with a clock of their own, and an organisation that they start with."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler import cycle
from reconciler.config import load
from reconciler.simulator.keeper_records import Account
from reconciler.store import Store
from reconciler.wiring import services
from tests.stage import World


class Inside:
    def __init__(self, world: World) -> None:
        self.world = world
        self.now = datetime.now(UTC)

    def run(self, order: cycle.Order | None = None, **more: Any) -> cycle.Outcome:
        settings = load(self.world.folder / "config.toml")

        async def go() -> cycle.Outcome:
            async with services(settings) as both:
                with Store.open(settings.state_path(), write=True) as store:
                    return await cycle.run(settings, both, store, order or cycle.Order(), lambda: self.now, **more)

        return asyncio.run(go())

    def later(self, **delta: float) -> None:
        self.now += timedelta(**delta)

    @contextmanager
    def store(self, write: bool = False) -> Iterator[Store]:
        with Store.open(load(self.world.folder / "config.toml").state_path(), write=write) as store:
            yield store


def fill(world: World, people: int = 6) -> tuple[list[str], list[str]]:
    groups = [world.group("Engineering"), world.group("Sales")]
    return groups, [world.person(f"p{n}", groups[n % 2]) for n in range(people)]


def accept(world: World) -> None:
    for one in world.keeper.accounts().values():
        world.keeper.accept_invitation(one.id)


def account(world: World, jc: str) -> Account:
    return next(one for one in world.keeper.accounts().values() if one.external_id == jc)
