"""Faults of reading that reviews have found, each as a short history."""

import pytest

from reconciler.cycle import Order
from tests.campaign.scenes import cycle, person
from tests.campaign.seams import Weather
from tests.campaign.world import World


def active(world: World, name: str) -> bool:
    return any(one.email == f"{name}@example.com" and one.active for one in world.keeper.accounts().values())


@pytest.mark.parametrize("number", [1, 10])
def test_leavers_whose_reads_hang_keep_nobody_else_waiting(world: World, number: int) -> None:
    world.rules.safety = {"max_deactivations": 50, "max_creations": 50}
    people = [person(world, f"p{n:02}") for n in range(24)]
    cycle(world)
    cycle(world, resync=True)
    for one in people[:number]:
        world.jumpcloud.unbind_user(world.application, one)
    world.admin_changed()
    cycle(world)
    person(world, "new")
    script = {f"JumpCloud GET /api/v2/users/{one}/applications": "timeout" for one in people[:number]}
    world.time.elapsed += 3600  # grace is over
    for _ in range(6):
        world.say(world.cycle(Order(by="schedule"), Weather(1, script=script))[:100])
    assert active(world, "new")
