"""An account that is not in this node any more is no evidence of a lock, whatever happened before."""

import pytest

from reconciler.simulator.keeper import Keeper
from tests.stage import World

OTHER = "987654321"


@pytest.fixture
def moved(world: World) -> tuple[World, str, str]:
    """A person who is suspended, and whose account an administrator moved to another node."""
    fresh = Keeper(nodes=("123456789", OTHER))
    world.keeper.load(fresh.dump())
    world.write_settings()
    group = world.group("Engineering")
    for number in range(5):
        world.person(f"p{number}", group)
    eve = world.person("eve", group)
    world.run("apply")
    account = world.keeper.account("eve@example.com").id
    world.keeper.accept_invitation(account)
    world.keeper.move_user_to_other_node(account, OTHER)
    world.jumpcloud.suspend(eve)
    return world, eve, account


def test_a_lock_of_an_account_that_is_elsewhere_is_nowhere_called_done(moved: tuple[World, str, str]) -> None:
    world, _, account = moved
    out = world.run("apply").stdout
    assert "[not verifiable] eve@example.com" in out
    for command in (["history", "eve@example.com"], ["explain", "eve@example.com"]):
        said = " ".join(world.run(*command).stdout.split())
        assert "to be locked: suspended in JumpCloud" in said and "not in this Keeper node any more" in said
        assert "no access" not in said
    assert "whether access ended is not verifiable" in said and "reconciler disown eve@example.com" in said
    assert world.keeper.account(account).active


def test_who_came_back_and_left_again_is_still_not_verifiable(moved: tuple[World, str, str]) -> None:
    world, eve, _ = moved
    world.run("apply")
    world.jumpcloud.activate(eve)
    world.run("apply", expect=5)  # the address is taken in the other node
    world.jumpcloud.suspend(eve)
    for _ in range(2):
        world.run("apply", expect=None)
        assert "NOT VERIFIABLE" in world.run("leavers").stdout
        assert "not verifiable" in " ".join(world.run("status").stdout.split())
