"""Faults of what persons decide, and of when that meets a cycle, each as a short history."""

from reconciler import decisions
from tests.campaign.scenes import cycle, joined
from tests.campaign.world import World


def test_whoever_is_given_up_while_they_are_resynced_is_not_created_anew(world: World) -> None:
    joined(world, "bob")
    _, ada = joined(world, "ada")
    world.keeper.delete_user(ada)
    world.admin_changed(ada)

    def disowned() -> str:
        assert world.store is not None
        return decisions.disown(world.store, world.time.now(), "root", "", "ada@example.com")

    world.interludes = [(9, disowned)]  # Keeper has answered that her account is gone, and is listed
    cycle(world, resync=True, person="ada@example.com")
    for resync in (False, True):
        cycle(world, resync=resync)
    assert [one.email for one in world.keeper.accounts().values()] == ["bob@example.com"]
