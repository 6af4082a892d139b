"""Keeper answers in part: odd records, lists that are down or cut short, single refusals. Others are served."""

import json

import pytest

from reconciler.simulator.faults import throttle
from tests.inside import Inside
from tests.stage import World


def managed(world: World) -> tuple[str, str, str, str]:
    """A group with two people who are in Keeper: its id, their JumpCloud ids, and the Keeper id of the first."""
    sales = world.group("Sales")
    ada, bob = world.person("ada", sales), world.person("bob", sales)
    world.run("apply")
    return sales, ada, bob, account(world, "ada")


def account(world: World, name: str) -> str:
    return next((id for id, one in world.keeper.accounts().items() if one.email == f"{name}@example.com"), "")


@pytest.mark.parametrize("down", ["Groups", "Users"])
def test_without_one_list_a_leaver_is_locked_and_nobody_created(world: World, down: str) -> None:
    sales, person, _, ada = managed(world)
    world.keeper.accept_invitation(ada)
    world.jumpcloud.suspend(person)
    world.person("zoe", sales)
    world.keeper.refuse(down)
    done = world.run("apply", "--resync", expect=5)
    assert world.keeper.account(ada).locked
    assert not account(world, "zoe")
    world.run("plan", "--resync", "--detailed-exitcode", expect=5)
    assert f"Keeper's list of {'teams' if down == 'Groups' else 'users'} was not read" in done.stdout + done.stderr
    assert "nobody was created or adopted" in " ".join(done.stdout.split())
    world.run("apply", "--resync", expect=1)
    world.keeper.refuse(down, None)
    world.run("apply", "--resync")
    assert account(world, "zoe") and world.differences() == []


def test_without_a_list_there_is_no_first_plan(world: World) -> None:
    world.person("ada", world.group("Sales"))
    world.keeper.refuse("Groups")
    assert "Keeper's list of teams was not read" in world.run("apply", expect=1).stderr
    assert world.writes() == 0


@pytest.mark.parametrize(
    ("fields", "missing"),
    [({"active": None}, []), ({"active": 7}, []), ({}, ["active"]), ({"groups": "x"}, []), ({"id": None}, [])],
)
def test_the_odd_record_of_a_stranger_stops_nothing_and_is_told(
    world: World, fields: dict[str, object], missing: list[str]
) -> None:
    sales, *_ = managed(world)
    stranger = world.keeper.add_user("stranger@example.com")
    world.keeper.show_oddly(stranger, fields, missing)
    world.person("zoe", sales)
    world.run("apply", "--resync")
    assert account(world, "zoe")
    document = json.loads(world.run("plan", "--format", "json").stdout)
    (told,) = [one for one in document["notices"] if one["kind"] == "quarantined"]
    assert told["subject"]["name"] == "stranger@example.com"
    assert [*fields, *missing][0] in told["message"] and "Admin Console" in told["message"]
    assert not document["operations"]


def test_an_odd_account_is_not_taken_over(world: World) -> None:
    sales, *_ = managed(world)
    zoe = world.keeper.add_user("zoe@example.com")
    world.keeper.show_oddly(zoe, {"active": "maybe"})
    world.person("zoe", sales)
    before = world.writes()
    world.run("apply", "--resync")
    assert world.writes() == before
    assert "cannot be read (active)" in " ".join(world.run("plan").stdout.split())
    world.keeper.show_oddly(zoe)
    world.run("apply", "--resync")
    assert world.differences() == []


def test_a_managed_record_that_turns_odd_changes_nothing_but_its_lock_goes_out(world: World) -> None:
    _, person, _, ada = managed(world)
    world.keeper.accept_invitation(ada)
    world.keeper.show_oddly(ada, {"active": None, "groups": 5, "displayName": [], "externalId": 1})
    before = world.writes()
    world.run("apply", "--resync")
    assert world.writes() == before
    world.jumpcloud.suspend(person)
    world.run("apply", expect=5)
    assert world.keeper.account(ada).locked
    world.keeper.show_oddly(ada)
    world.run("apply")
    assert world.differences() == []


def test_whoever_is_back_is_let_in_although_keeper_does_not_show_whether_they_were_locked(world: World) -> None:
    _, person, _, ada = managed(world)
    world.keeper.accept_invitation(ada)
    world.keeper.show_oddly(ada, {"active": None})
    world.jumpcloud.suspend(person)
    inside = Inside(world)
    assert inside.run().result == "partial" and world.keeper.account(ada).locked
    world.jumpcloud.activate(person)
    inside.run()
    assert world.keeper.account(ada).locked, "the lock may still be on its way"
    inside.later(minutes=3)
    world.policy["protect"] = '["ada@example.com"]'
    world.write_settings()
    assert "perhaps locked in Keeper by us" in world.run("explain", "ada@example.com").stdout
    inside.run()
    assert not world.keeper.account(ada).locked


@pytest.mark.parametrize("totals", ["page", "none"])
def test_short_pages_that_announce_no_more_than_themselves_lose_nobody(world: World, totals: str) -> None:
    world.keeper.set_dialect(totals=totals, page_cap=3)
    sales = world.group("Sales")
    for n in range(8):
        world.person(f"u{n}", sales)
    world.run("apply")
    before = world.writes()
    world.run("apply", "--resync")
    assert world.writes() == before and world.differences() == []


def test_a_refusal_for_one_person_is_theirs_alone(world: World) -> None:
    sales, first, second, ada = managed(world)
    world.jumpcloud.update_user(first, firstname="Augusta")
    world.jumpcloud.update_user(second, firstname="Robert")
    world.person("zoe", sales)
    world.keeper.refuse(ada)
    world.run("apply", "--resync", expect=5)
    assert account(world, "zoe")
    assert world.keeper.account(account(world, "bob")).given_name == "Robert"


def test_a_user_who_is_gone_by_410_is_gone(world: World) -> None:
    *_, ada = managed(world)
    world.keeper.set_dialect(missing_status=410, gone_status=410)
    world.keeper.delete_user(ada)
    world.run("apply", "--resync")
    assert account(world, "ada") not in ("", ada)
    assert world.differences() == []


def test_an_apply_that_gets_nowhere_ends(world: World) -> None:
    """Keeper asks to wait for longer than a confirmation lasts, again and again: another cycle would be no better."""
    _, person, _, ada = managed(world)
    world.keeper.accept_invitation(ada)
    world.jumpcloud.suspend(person)
    world.back.faults.add(throttle("60"), method="PATCH")
    sent = len(world.back.requests)
    done = world.run("apply", expect=5)
    assert "ada@example.com" in done.stdout
    assert [one.method for one in list(world.back.requests)[sent:]].count("PATCH") == 1
