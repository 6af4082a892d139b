"""Releases, allowances, saved plans, resync EMAIL, rebind, observe."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from reconciler import consent, cycle
from reconciler.simulator.faults import close
from tests.inside import Inside, accept, account, fill
from tests.stage import World


def test_release_without_anything_held_now_arms_nothing(world: World) -> None:
    groups, _people = fill(world, 8)
    world.run("apply")
    accept(world)
    for g in groups:
        world.jumpcloud.unbind_group(world.application, g)
    world.jumpcloud.settle_graph()
    world.run("apply", expect=4)
    for g in groups:
        world.jumpcloud.bind_group(world.application, g)
    world.jumpcloud.settle_graph()
    world.run("apply", expect=0)  # repaired: nothing is held any more
    world.run("release", expect=None)
    for g in groups:  # the same accident again, within four hours
        world.jumpcloud.unbind_group(world.application, g)
    world.jumpcloud.settle_graph()
    world.run("apply", expect=None)
    locked = [a.email for a in world.keeper.accounts().values() if not a.active]
    assert not locked


def test_the_review_of_a_first_plan_releases_once(world: World) -> None:
    world.safety.clear()
    world.write_settings()
    fill(world, 4)
    world.run("apply", expect=4)
    world.run("release")
    inside = Inside(world)
    with inside.store() as store:
        given = consent.given(store, [], "", datetime.now(UTC), datetime.now(UTC))
    left = {r.id: len(r.effects) for r in given.releases}
    assert not any(left.values()), left


def test_an_allowance_is_for_so_many_in_all(world: World) -> None:
    world.safety |= {"max_deactivations": "0", "always_allow": "1"}
    world.write_settings()
    _groups, people = fill(world, 12)
    inside = Inside(world)
    inside.run()
    accept(world)
    with inside.store(write=True) as store:
        store.add_request(
            "allow", {"deactivations": 2}, by="x", at=inside.now, reason="r", until=inside.now + timedelta(days=5)
        )
    for one in people[:2]:
        world.jumpcloud.suspend(one)
    inside.run()
    assert sum(not a.active for a in world.keeper.accounts().values()) == 2
    inside.later(hours=25)
    for one in people[2:4]:
        world.jumpcloud.suspend(one)
    inside.run()
    assert sum(not a.active for a in world.keeper.accounts().values()) == 2


def test_a_saved_plan_is_applied_in_part_where_a_person_changed_since(world: World) -> None:
    groups, people = fill(world)
    world.run("apply")
    accept(world)
    world.jumpcloud.add_member(groups[1], people[0])
    world.jumpcloud.settle_graph()
    world.run("plan", "--save", "p.json")
    world.jumpcloud.update_user(people[0], displayname="Another Name")
    before = world.writes()
    done = world.run("apply", "--plan", "p.json", expect=None)
    assert world.writes() == before + 1 or done.returncode != 0


def test_a_plan_saved_for_another_node_is_no_review_of_this_one(world: World) -> None:
    from reconciler.simulator.keeper import Keeper
    from reconciler.simulator.server import Server

    world.safety.clear()
    world.write_settings()
    fill(world)
    world.run("plan", "--save", "p.json")
    other = Keeper(("987654321",))
    world.keeper = other
    with Server(other) as back:
        world.back = back
        world.write_settings()
        world.run("apply", "--plan", "p.json", expect=None)
        assert world.writes() == 0


@pytest.mark.parametrize("how", ["saved", "release"])
@pytest.mark.parametrize("news", ["joins", "leaves", "team"])
def test_what_is_new_since_the_first_plan_was_looked_at_is_judged_by_itself(world: World, how: str, news: str) -> None:
    """It kept the node unreviewed before: leavers stayed active until a person had looked at every change."""
    world.safety.clear()
    world.write_settings()
    groups, people = fill(world)
    old = world.keeper.add_user("p3@example.com", external_id=people[3])
    world.keeper.accept_invitation(old)
    by_hand = world.keeper.add_team("Later")
    world.run("apply", expect=4)
    world.run("plan", "--save", "first.json")
    late = world.person("late", groups[0])
    if news == "leaves":
        world.jumpcloud.suspend(people[3])
    elif news == "team":
        world.jumpcloud.add_member(world.group("Later"), late)
        world.jumpcloud.settle_graph()
    through = ("apply", "--plan", "first.json") if how == "saved" else ("release", "--reason", "looked at")
    out = world.run(*through, expect=None)
    assert "first_run" not in out.stdout
    found = json.loads(world.run("status", "--json").stdout)
    assert found["first_plan_reviewed"] and found["first_plan_lacked_teams"] == (news == "team")
    world.run("apply", expect=4 if news != "joins" else 0)
    assert world.keeper.account("late@example.com").external_id == late
    held = json.loads(world.run("status", "--json").stdout)["held"]
    limits = {"joins": [], "leaves": ["adopted"], "team": ["adopted_teams"]}[news]
    assert [hold["limit"] for hold in (held or {"reasons": []})["reasons"]] == limits
    assert not world.keeper.members(by_hand) and not world.keeper.pending_members(by_hand)
    if news != "joins":
        world.run("release", "--reason", "this too")
    assert world.differences() == []


def test_resync_of_one_person_adopts_no_team_before_the_review(world: World) -> None:
    world.safety.clear()
    world.write_settings()
    fill(world)
    by_hand = world.keeper.add_team("Engineering")
    world.run("resync", "p0@example.com", expect=None)
    assert not world.keeper.members(by_hand) and not world.keeper.pending_members(by_hand)


def test_resync_of_one_person_gives_nobody_the_vault_of_another_in_scope(world: World) -> None:
    groups, people = fill(world)
    world.run("apply")
    accept(world)
    vault = account(world, people[0]).id
    world.jumpcloud.update_user(people[0], email="p0.new@example.com")
    newcomer = world.jumpcloud.add_user("p0@example.com", firstname="New", lastname="Comer", state="ACTIVATED")
    world.jumpcloud.add_member(groups[0], newcomer)
    world.jumpcloud.settle_graph()
    world.run("apply", expect=None)
    world.run("adopt", "p0@example.com", expect=1)
    world.run("apply", expect=None)
    assert world.keeper.account(vault).external_id == people[0]
    world.run("resync", "p0@example.com", expect=None)
    assert world.keeper.account(vault).external_id == people[0]


def test_adopt_ghosts_links_no_recycled_address(world: World) -> None:
    groups, _people = fill(world)
    old = world.keeper.add_user("bob@example.com", external_id="f" * 24)
    world.keeper.accept_invitation(old)
    world.person("bob", groups[0])
    world.run("apply")
    assert world.keeper.account(old).external_id == "f" * 24
    world.run("adopt", "--ghosts")
    world.run("apply", expect=None)
    assert world.keeper.account(old).external_id == "f" * 24


def test_a_leavers_resync_within_the_limits_is_not_an_empty_scope(world: World) -> None:
    world.safety |= {"max_deactivations": '"50%"'}
    world.write_settings()
    groups, people = fill(world, 12)
    world.run("apply")
    accept(world)
    world.run("apply", "--resync")
    for one in people[:4]:
        world.jumpcloud.remove_member(groups[people.index(one) % 2], one)
    world.jumpcloud.settle_graph()
    for n in range(3):
        world.run("resync", f"p{n}@example.com")
    world.run("resync", "p3@example.com")


def test_a_switch_back_from_observe_is_reviewed(world: World) -> None:
    world.safety.clear()
    world.policy["mode"] = '"enforce"'
    world.write_settings()
    _groups, people = fill(world)
    world.run("plan", "--save", "p.json")
    world.run("apply", "--plan", "p.json")
    accept(world)
    world.policy["mode"] = '"observe"'
    world.write_settings()
    inside = Inside(world)
    inside.run()
    world.policy["mode"] = '"enforce"'
    world.write_settings()
    world.jumpcloud.suspend(people[0])
    assert inside.run().result == "held"


def test_a_released_grant_goes_though_the_name_changed_too(world: World) -> None:
    world.safety |= {"max_grants": "0", "always_allow": "0"}
    world.write_settings()
    groups, people = fill(world)
    inside = Inside(world)
    inside.run()
    accept(world)
    inside.later(hours=30)
    world.jumpcloud.add_member(groups[1], people[0])
    world.jumpcloud.settle_graph()
    held = inside.run()
    assert held.result == "held", held
    with inside.store(write=True) as store:
        consent.agree(store, held.plan.id, held.plan.effects, by="x", at=inside.now, reason="r")
    world.jumpcloud.update_user(people[0], displayname="Another Name")
    inside.run()
    a = account(world, people[0])
    assert len((*a.teams, *a.pending_teams)) == 2


def test_two_operations_on_one_person_lose_nothing(world: World) -> None:
    """A released addition and an unreleased removal for one person go as two operations at once."""
    world.safety |= {"max_grants": "0", "max_removals": '"100%"', "max_team_loss": '"100%"'}
    world.write_settings()
    groups, people = fill(world)
    third = world.group("Support")
    world.jumpcloud.add_member(third, people[0])
    world.jumpcloud.settle_graph()
    inside = Inside(world)
    inside.run()
    accept(world)
    world.keeper.approve_all()
    inside.later(hours=1)
    inside.run(cycle.Order(resync=True))
    inside.later(hours=30)
    # open the canary of updates with somebody else
    world.jumpcloud.update_user(people[5], displayname="Canary")
    inside.run()
    world.jumpcloud.add_member(groups[1], people[0])
    world.jumpcloud.settle_graph()
    held = inside.run()
    assert held.result == "held", held
    with inside.store(write=True) as store:
        consent.agree(store, held.plan.id, held.plan.effects, by="x", at=inside.now, reason="r")
    world.jumpcloud.remove_member(third, people[0])
    world.jumpcloud.settle_graph()
    outcome = inside.run()
    again = inside.run()
    assert len([o for o in outcome.plan.operations if o.sent]) == 1 or not again.plan.operations
    assert not again.plan.operations


def test_a_plan_that_is_released_again_queues_no_team_twice(world: World) -> None:
    world.safety.clear()
    world.write_settings()
    world.keeper.set_dialect(shows_queued_teams=False, gets_hidden_teams=True)
    world.person("eve", world.group("Sales"))
    world.run("apply", expect=4)
    plan = json.loads(world.run("status", "--json").stdout)["held"]["plan"]
    world.back.faults.add(close(effect=True), method="POST", target="/Groups")
    world.run("release", plan, expect=5)
    world.back.faults.clear()
    world.run("apply", expect=4)
    world.run("release", plan, expect=None)
    assert len(world.keeper.teams()) == 1
