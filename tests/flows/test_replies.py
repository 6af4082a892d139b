import pytest

from reconciler import apply, cycle
from reconciler.consent import agree
from reconciler.simulator.faults import status
from tests.inside import Inside, accept, account, fill
from tests.stage import World


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeper shows late whatever it will show: what is read back is read again at once."""
    monkeypatch.setattr(apply, "LOOK_AGAIN", (0.01, 0.01, 0.01))


@pytest.mark.usefixtures("at_once")
def test_a_reactivation_that_keepers_answer_denies_is_not_done(world: World) -> None:
    _groups, people = fill(world)
    world.run("apply")
    accept(world)
    world.jumpcloud.suspend(people[0])
    world.jumpcloud.suspend(people[1])
    world.run("apply")
    world.jumpcloud.activate(people[0])
    world.run("apply")  # the canary of reactivations passes
    world.keeper.set_dialect(ignored_attributes=["active"])
    world.jumpcloud.activate(people[1])
    inside = Inside(world)
    inside.run()
    world.keeper.set_dialect(ignored_attributes=[])
    for _ in range(3):
        inside.later(hours=2)
        inside.run(cycle.Order(resync=True))
    assert account(world, people[1]).active


@pytest.mark.usefixtures("at_once")
def test_a_removal_that_keepers_answer_denies_is_not_done(world: World) -> None:
    world.safety |= {"max_removals": '"100%"', "max_team_loss": '"100%"'}
    world.write_settings()
    groups, people = fill(world)
    for one in people[:2]:
        for g in groups:
            world.jumpcloud.add_member(g, one)
    world.jumpcloud.settle_graph()
    world.run("apply")
    accept(world)
    world.keeper.approve_all()
    world.run("apply", "--resync")
    world.jumpcloud.remove_member(groups[0], people[0])
    world.jumpcloud.settle_graph()
    world.run("apply")  # canary
    world.keeper.set_dialect(ignored_attributes=["groups"])
    world.jumpcloud.remove_member(groups[0], people[1])
    world.jumpcloud.settle_graph()
    inside = Inside(world)
    inside.run()
    world.keeper.set_dialect(ignored_attributes=[])
    for _ in range(3):
        inside.later(hours=2)
        inside.run(cycle.Order(resync=True))
    assert len(account(world, people[1]).teams) == 1


def test_a_canary_whose_second_look_fails_was_done(world: World) -> None:
    world.keeper.set_dialect(patch_reply="none")
    _groups, people = fill(world)
    world.run("apply")
    accept(world)
    world.jumpcloud.update_user(people[0], displayname="Another Name")
    world.back.faults.add(status(400), method="GET", target=r"/Users/\d+")
    done = world.run("apply", expect=None)
    assert done.returncode == 0


def test_the_canary_of_a_rename_is_read_back(world: World) -> None:
    groups, _people = fill(world)
    world.run("apply")
    world.keeper.set_dialect(ignored_group_attributes=["displayName"], patch_reply="none")
    world.jumpcloud.rename_group(groups[0], "Platform")
    world.back.requests.clear()
    world.run("apply", expect=None)
    asked = [str(r) for r in world.back.requests]
    assert any("GET" in r and "/Groups/" in r for r in asked)


def test_a_released_creation_and_a_new_team_for_the_same_person(world: World) -> None:
    world.safety |= {"max_creations": "0"}
    world.write_settings()
    groups, _people = fill(world)
    inside = Inside(world)
    inside.run()
    accept(world)
    inside.later(hours=30)
    late = world.person("late", groups[0])
    held = inside.run()
    assert held.result == "held"
    with inside.store(write=True) as store:
        agree(store, held.plan.id, held.plan.effects, by="x", at=inside.now, reason="r")
    world.jumpcloud.add_member(groups[1], late)
    world.jumpcloud.settle_graph()
    outcome = inside.run()
    assert outcome.result == "done"


def test_resync_of_a_person_settles_what_a_crash_left_of_them(world: World) -> None:
    _groups, people = fill(world)
    world.run("apply")
    accept(world)
    world.jumpcloud.suspend(people[0])
    world.kill_after(1, "apply")
    world.jumpcloud.activate(people[0])
    world.run("resync", "p0@example.com", expect=None)
    assert account(world, people[0]).active


def test_release_in_observe_mode_records_nothing(world: World) -> None:
    _groups, people = fill(world, 8)
    world.run("apply")
    accept(world)
    for one in people[:6]:
        world.jumpcloud.suspend(one)
    world.run("apply", expect=4)
    world.policy["mode"] = '"observe"'
    world.write_settings()
    world.run("release", expect=2)
    world.policy["mode"] = '"enforce"'
    world.write_settings()
    world.run("apply", expect=4)
    assert all(a.active for a in world.keeper.accounts().values())
