"""What the campaign has found, each as the shortest history that shows it, in words that can be read."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.cycle import Order
from reconciler.plan import Plan
from tests.campaign.seams import Weather
from tests.campaign.world import World, silent

SCIM = "/api/rest/scim/v2/123456789"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    hook = sys.unraisablehook
    made = World(tmp_path)
    silent(made)
    yield made
    made.restart()
    sys.unraisablehook = hook
    assert made.observer.violations == [], "\n".join(made.lines)


def cycle(world: World, faults: dict[str, str] | None = None, **order: Any) -> str:
    """A cycle in which requests that begin so go wrong so; a first plan is agreed to."""
    world.time.elapsed += 600

    def agrees(plan: Plan) -> bool:
        world.observer.agreed(plan.effects)
        return True

    weather = Weather(1, script={f"Keeper {beginning}": kind for beginning, kind in (faults or {}).items()})
    asked = Order(by="root", reviewed=agrees, **order)
    text = world.cycle(asked, weather)
    world.say(text)
    return text


def group(world: World, name: str) -> str:
    one = world.jumpcloud.add_group(name)
    world.jumpcloud.bind_group(world.application, one)
    world.admin_changed()
    return one


def person(world: World, name: str, *groups: str) -> str:
    one = world.jumpcloud.add_user(f"{name}@example.com", state="ACTIVATED", firstname=name, lastname="Test")
    for each in groups:
        world.jumpcloud.add_member(each, one)
    if not groups:
        world.jumpcloud.bind_user(world.application, one)
    world.admin_changed()
    return one


def teams_of(world: World, name: str) -> set[str]:
    account = world.keeper.account(f"{name}@example.com")
    return {world.keeper.teams()[team].name for team in (*account.teams, *account.pending_teams)}


def test_a_team_that_only_changes_its_group_is_settled_by_what_it_bears(world: World) -> None:
    former = group(world, "IT")
    cycle(world)
    world.jumpcloud.delete_group(former)
    new = group(world, "IT")
    cycle(world, {f"PATCH {SCIM}/Groups": "timeout"})
    cycle(world)
    cycle(world)
    assert [team.external_id for team in world.keeper.teams().values()] == [new]


def test_a_creation_that_one_list_does_not_show_is_not_given_up(world: World) -> None:
    person(world, "ada")
    cycle(world)
    bob = person(world, "bob")
    cycle(world, {f"POST {SCIM}/Users": "late_error", f"GET {SCIM}/Users?": "stale"})
    world.jumpcloud.suspend(bob)
    world.admin_changed()
    cycle(world)
    assert [account.email for account in world.keeper.accounts().values() if account.active] == ["ada@example.com"]


def test_a_team_that_keeper_refuses_keeps_nobody_in_another(world: World) -> None:
    world.keeper.set_dialect(shows_queued_teams=False)
    sales, legal = group(world, "Sales"), group(world, "Legal")
    ada = person(world, "ada", sales)
    cycle(world)
    world.keeper.delete_team("Legal")
    world.keeper.approve_all()
    world.jumpcloud.add_member(legal, ada)
    world.jumpcloud.remove_member(sales, ada)
    world.admin_changed()
    cycle(world)
    assert teams_of(world, "ada") == set()


def test_a_queueing_without_an_answer_takes_no_team_that_somebody_made_by_hand(world: World) -> None:
    person(world, "ada", group(world, "Sales"), group(world, "Legal"))
    cycle(world, {f"POST {SCIM}/Groups#2": "timeout", f"POST {SCIM}/Groups#1": ""})
    queued = {team.name for team in world.keeper.teams().values()}
    assert len(queued) == 1
    (missing,) = {"Sales", "Legal"} - queued
    by_hand = world.keeper.add_team(missing)
    world.admin_changed(by_hand)
    cycle(world, resync=True)
    cycle(world)
    assert world.keeper.teams()[by_hand].external_id is None
    assert by_hand not in world.keeper.account("ada@example.com").pending_teams


def test_what_a_review_let_through_once_counts_when_it_is_done_again(world: World) -> None:
    people = [person(world, f"p{number}") for number in range(9)]
    cycle(world)
    world.jumpcloud.suspend(people[0])
    world.admin_changed()
    cycle(world)
    world.jumpcloud.activate(people[0])
    world.admin_changed()
    cycle(world)
    for number in range(3):
        person(world, f"late{number}")
        cycle(world)
    created = {account.email for account in world.keeper.accounts().values()}
    assert "p0@example.com" in created and "late2@example.com" not in created


def test_a_lock_that_one_list_does_not_show_is_not_given_up(world: World) -> None:
    ada = person(world, "ada")
    cycle(world)
    account = world.keeper.account("ada@example.com").id
    world.keeper.accept_invitation(account)
    for _ in range(5):
        cycle(world, resync=True)  # what a list that is behind shows is one of these
    world.jumpcloud.suspend(ada)
    world.admin_changed()
    cycle(world, {f"GET {SCIM}/Users/": "refused", f"GET {SCIM}/Users?": "stale"})
    cycle(world)
    world.jumpcloud.activate(ada)
    world.admin_changed()
    cycle(world, resync=True)
    assert world.keeper.account(account).active
    locks = [row for row in world.open().journal_rows() if row["kind"] == "deactivate_user"]
    world.close()
    assert {row["state"] for row in locks} == {"done"}
