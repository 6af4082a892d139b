"""The consent given with a plan: it covers what the plan sends or holds, and nothing that it says is not sent."""

from tests.inside import fill
from tests.stage import World


def test_a_saved_plan_lets_nobody_outside_the_pilot_through(world: World) -> None:
    world.safety.clear()
    world.policy["only"] = '{ groups = ["No such group"] }'
    world.write_settings()
    fill(world)
    world.run("plan", "--save", "plan.json")
    world.run("apply", "--plan", "plan.json", expect=None)
    del world.policy["only"]
    world.write_settings()
    out = world.run("apply", expect=4).stdout
    assert "first_run" in out
    assert world.writes() == 0


def test_a_saved_first_plan_of_a_pilot_releases_the_pilot_only(world: World) -> None:
    world.safety.clear()
    world.policy["only"] = '{ groups = ["Engineering"] }'
    world.write_settings()
    fill(world, 12)
    world.run("plan", "--save", "plan.json")
    world.run("apply", "--plan", "plan.json")
    assert len(world.keeper.accounts()) == 6
    del world.policy["only"]
    world.write_settings()
    out = world.run("apply", expect=4).stdout
    assert "max_creations" in out
    assert len(world.keeper.accounts()) == 6


def test_a_plan_that_was_saved_while_observing_lets_nothing_through(world: World) -> None:
    world.safety.clear()
    world.policy["mode"] = '"observe"'
    world.write_settings()
    fill(world)
    world.run("plan", "--save", "plan.json")
    world.policy["mode"] = '"enforce"'
    world.write_settings()
    world.run("apply", "--plan", "plan.json", expect=None)
    world.run("apply", expect=4)
    assert world.writes() == 0
