"""Faults of lost, restored and newly bound state files, each as a short history."""

import random

from tests.campaign import decisions as campaign_decisions
from tests.campaign.scenes import cycle, group, person, teams_of
from tests.campaign.world import World


def test_after_a_restore_each_kind_begins_with_a_canary(world: World) -> None:
    """Since the copy was made, Keeper may have begun to do what nobody asks for."""
    world.rules.safety = {"max_grants": "100%"}
    world.keeper.set_dialect(patch_reply="none")
    legal, sales = group(world, "Legal"), group(world, "Sales")
    people = {name: person(world, name, legal) for name in (f"p{n}" for n in range(12))}
    cycle(world)
    for name in people:
        world.keeper.accept_invitation(f"{name}@example.com")
    world.keeper.approve_all()
    world.jumpcloud.add_member(sales, people["p0"])
    world.admin_changed()
    cycle(world, resync=True)
    campaign_decisions.copied(world, random.Random(1))
    world.keeper.set_dialect(add_replaces_groups=True)
    campaign_decisions.put_back(world, *world.copies[0], by_command=True)
    for one in people.values():
        world.jumpcloud.add_member(sales, one)
    world.admin_changed()
    cycle(world)
    assert sum("Legal" not in teams_of(world, name) for name in people) == 1
