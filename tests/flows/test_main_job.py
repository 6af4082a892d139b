"""The main job, through the real command line."""

import json

import pytest

from reconciler.simulator.faults import close, throttle
from reconciler.simulator.sample import API_KEY, organisation
from tests.inside import Inside
from tests.stage import World


def fill(world: World, people: int = 12) -> list[str]:
    groups = [world.group("Engineering"), world.group("Sales")]
    return [world.person(f"p{n}", groups[n % 2]) for n in range(people)]


def test_a_thousand_people_with_one_write_each_and_a_second_apply_sends_nothing(world: World) -> None:
    world.jumpcloud.load(organisation(1000, 50))
    world.jumpcloud.add_api_key("jca_" + "5" * 40)
    world.application = next(
        a.id for a in world.jumpcloud.organization().applications.values() if a.displayLabel == "Keeper"
    )
    world.run("apply")
    assert world.differences() == []
    scope = world.jumpcloud.in_scope(world.application)
    active = [u for u in scope if (p := world.jumpcloud.user(u)).state == "ACTIVATED" and not p.suspended]
    teams = world.jumpcloud.groups_in_scope(world.application)
    assert world.writes() == len(active) + len(teams)
    assert API_KEY
    world.run("apply")
    assert world.writes() == len(active) + len(teams)


def test_changes_arrive_one_request_a_person(world: World) -> None:
    people = fill(world)
    world.run("apply")
    before = world.writes()
    ids = {name: group for group, name in world.jumpcloud.groups_in_scope(world.application).items()}
    engineering, sales = ids["Engineering"], ids["Sales"]
    world.jumpcloud.suspend(people[0])
    world.jumpcloud.remove_member(sales, people[1])
    world.jumpcloud.update_user(people[2], firstname="Ada", displayname="Ada Test")
    world.jumpcloud.remove_member(sales, people[3])
    world.jumpcloud.add_member(engineering, people[3])
    world.person("joiner", sales)
    assert world.run("plan", "--detailed-exitcode", expect=3).stdout
    assert world.writes() == before
    world.run("apply")
    assert world.writes() == before + 5
    assert world.differences() == []


def test_who_comes_back_is_unlocked_unless_somebody_else_locked_them(world: World) -> None:
    people = fill(world)
    world.run("apply")
    for account in world.keeper.accounts().values():
        world.keeper.accept_invitation(account.id)
    world.jumpcloud.suspend(people[0])
    world.run("apply")
    world.jumpcloud.activate(people[0])
    world.run("apply")
    assert world.differences() == []
    account = next(a for a in world.keeper.accounts().values() if a.external_id == people[1])
    world.keeper.lock(account.id)
    out = world.run("apply", "--resync").stdout
    assert not world.keeper.account(account.id).active
    assert "p1@example.com" in out
    world.run("resync", "p1@example.com", "--unlock")
    assert world.keeper.account(account.id).active


def test_an_accident_is_held_and_released_by_a_person(world: World) -> None:
    people = fill(world)
    world.run("apply")
    before = world.writes()
    for one in people[:7]:
        world.jumpcloud.delete_user(one)
    world.jumpcloud.settle_graph()
    held = world.run("apply", expect=4)
    assert "reconciler release" in held.stdout
    assert world.writes() == before
    world.run("status")
    world.run("release", "--reason", "they really left")
    assert world.differences() == []
    assert world.run("release", expect=2).stderr


def test_an_empty_scope_is_held(world: World) -> None:
    fill(world, 3)
    world.run("apply")
    before = world.writes()
    for group in list(world.jumpcloud.groups_in_scope(world.application)):
        world.jumpcloud.unbind_group(world.application, group)
    world.jumpcloud.settle_graph()
    world.run("apply", expect=4)
    assert world.writes() == before


def test_an_announced_lay_off_passes(world: World) -> None:
    people = fill(world)
    world.run("apply")
    for one in people[:6]:
        world.jumpcloud.suspend(one)
    world.run("allow", "--deactivations", "6", "--reason", "reorganisation")
    world.run("apply")
    assert world.differences() == []


def test_the_first_plan_is_a_persons_to_review(world: World) -> None:
    world.safety.clear()
    world.write_settings()
    fill(world)
    world.run("apply", "--yes", expect=4)
    assert world.writes() == 0
    world.run("plan", "--save", "p.json")
    world.run("apply", "--plan", "p.json")
    assert world.differences() == []
    before = world.writes()
    world.run("apply")
    assert world.writes() == before


def test_a_saved_plan_that_no_longer_holds_applies_what_is_due(world: World) -> None:
    people = fill(world)
    world.run("apply")
    world.jumpcloud.suspend(people[0])
    world.jumpcloud.suspend(people[1])
    world.run("plan", "--save", "p.json")
    world.jumpcloud.activate(people[0])
    world.run("apply", "--plan", "p.json", expect=3)
    assert world.differences() == []
    text = (world.folder / "p.json").read_text()
    (world.folder / "p.json").write_text(text.replace(people[1], people[2]))
    before = world.writes()
    world.run("apply", "--plan", "p.json", expect=2)
    assert world.writes() == before


def test_drift_in_keeper_is_put_right_by_a_resync(world: World) -> None:
    people = fill(world)
    world.run("apply")
    for account in world.keeper.accounts().values():
        world.keeper.accept_invitation(account.id)
    world.keeper.approve_all()
    world.run("resync")
    accounts = {a.external_id: a for a in world.keeper.accounts().values()}
    world.keeper.remove_member(accounts[people[0]].id, accounts[people[0]].teams[0])
    world.keeper.delete_user(accounts[people[1]].id)
    world.keeper.rename_team(next(iter(world.keeper.teams())), "By hand")
    document = json.loads(world.run("plan", "--resync", "--format", "json").stdout)
    assert {op["cause"] for op in document["operations"]} == {"drift"}
    world.run("resync")
    assert world.differences() == []
    assert "By hand" not in {t.name for t in world.keeper.teams().values()}


def test_one_person_is_resynced_with_a_handful_of_requests(world: World) -> None:
    people = fill(world, 30)
    world.run("apply")
    world.jumpcloud.suspend(people[4])
    world.front.requests.clear()
    world.back.requests.clear()
    world.run("resync", "p4@example.com")
    assert world.differences() == []
    assert len(world.front.requests) + len(world.back.requests) <= 15
    world.run("resync", "nobody@example.com", expect=1)


def test_adopt_and_disown(world: World) -> None:
    people = fill(world, 4)
    world.run("apply")
    ghost = world.keeper.add_user("ghost@example.com")
    world.run("resync")
    world.run("adopt", "ghost@example.com")
    world.run("apply", expect=4)
    assert world.keeper.account(ghost).active
    world.run("release")
    assert not world.keeper.account(ghost).active
    world.run("disown", "p1@example.com")
    world.jumpcloud.suspend(people[1])
    world.run("apply")
    account = next(a for a in world.keeper.accounts().values() if a.email == "p1@example.com")
    assert account.active and account.external_id != people[1]


@pytest.mark.parametrize("changes", [1, 4, 9])
def test_a_kill_at_any_moment_loses_and_repeats_nothing(world: World, changes: int) -> None:
    fill(world)
    world.kill_after(changes, "apply")
    world.run("apply", expect=None)
    # A change of access without an answer may take effect late: Keeper is asked again after two minutes.
    world.front.clock = world.back.clock = None
    # What two looks do not show is sent again.
    inside = Inside(world)
    for _ in range(2):
        inside.later(minutes=6)
        inside.run()
    assert world.differences() == []


def test_a_lost_answer_is_settled_by_asking(world: World) -> None:
    fill(world, 6)
    world.back.faults.add(close(effect=True), method="POST", target="/Users", skip=2, times=2)
    world.run("apply")
    before = world.writes()
    world.run("apply")
    assert world.writes() == before
    assert world.differences() == []


def test_throttling_only_slows_down(world: World) -> None:
    fill(world, 6)
    world.back.faults.add(throttle("0"), skip=3, times=2)
    world.front.faults.add(throttle("0"), skip=1, times=1)
    world.run("apply")
    assert world.differences() == []


def test_taking_away_is_confirmed_person_by_person(world: World) -> None:
    from reconciler.simulator.faults import Rewrite

    people = fill(world)
    world.run("apply")
    before = world.writes()
    world.front.faults.add(Rewrite(drop=[people[3]], total=len(people) - 1), target=r"/applications/[0-9a-f]+/users")
    done = world.run("apply", expect=None)
    assert world.writes() == before
    assert "p3@example.com" in done.stdout


def test_paths_that_are_cut_cost_nobody_a_team(world: World) -> None:
    from dataclasses import replace

    groups = [world.group("Engineering"), world.group("Sales"), world.group("Support")]
    for n in range(6):
        world.person(f"p{n}", *groups)
    world.safety |= {"max_removals": '"100%"', "max_team_loss": '"100%"'}
    world.write_settings()
    world.run("apply")
    before = world.writes()
    world.jumpcloud.assumptions = replace(world.jumpcloud.assumptions, paths_limit=1)
    world.run("apply", expect=None)
    assert world.writes() == before


def test_a_person_is_resynced_between_a_crash_and_its_settlement(world: World) -> None:
    people = fill(world)
    world.run("apply")
    for account in world.keeper.accounts().values():
        world.keeper.accept_invitation(account.id)
    world.jumpcloud.suspend(people[0])
    world.kill_after(1, "apply")
    world.run("resync", "p5@example.com", expect=None)
    world.jumpcloud.activate(people[0])
    world.run("apply")
    assert world.differences() == []


def test_a_held_resync_of_one_person_forgets_nobody(world: World) -> None:
    world.safety.clear()
    world.write_settings()
    fill(world, 4)
    world.run("resync", "p0@example.com")
    world.run("resync", "p1@example.com", expect=4)  # one person a window, as long as nobody else is managed
    assert json.loads(world.run("status", "--json").stdout)["users"]["managed"] == 1
