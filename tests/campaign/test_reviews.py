"""Faults that reviews of the code have found, each as a short history."""

from typing import Any

import pytest

from reconciler.alerts import HISTORY, TOLD_WHEN_DONE, AlertKind, Fact, Situation, facts
from reconciler.report import status
from tests.campaign import decisions as campaign_decisions
from tests.campaign.scenes import SCIM, cycle, group, joined, person, suspend, teams_of
from tests.campaign.seams import Weather
from tests.campaign.world import World


def shown(world: World) -> dict[str, Any]:
    """The document of `status`."""
    with world.open() as store:
        found = status.document(store, world.rules.settings(world.folder), world.time.now())
    world.store = None
    return found


def held(world: World) -> list[str]:
    """The limits that hold the last plan."""
    assert world.plan is not None
    return [hold.limit for hold in world.plan.held]


def told(world: World, kind: AlertKind, *, whole: bool = True) -> list[Fact]:
    """The facts of one kind that an alert after the last cycle tells."""
    with world.open() as store:
        settings, now = world.rules.settings(world.folder), world.time.now()
        situation = Situation(
            now,
            store.snapshot(),
            settings.policy(),
            settings.teams.queue_age,
            world.plan,
            whole=whole,
            done=store.done_since(now - HISTORY, TOLD_WHEN_DONE),
            passed=store.open_kinds(now),
        )
    world.store = None
    return [fact for fact in facts(situation) if fact.kind is kind]


def test_undone_links_are_no_team_loss(world: World) -> None:
    world.keeper.set_dialect(links_aliases=True)
    world.rules.safety = {"max_team_loss": "25%"}
    sales = group(world, "Sales")
    names = ("ada", "bob", "cy", "dan", "eve", "fay")
    people = {n: person(world, n, sales) for n in names}
    cycle(world)
    for n in names:
        world.keeper.accept_invitation(f"{n}@example.com")
    world.keeper.approve_all()
    for n in ("g", "h"):
        acc = world.keeper.add_user(f"{n}@example.com")
        world.keeper.accept_invitation(acc)
        world.keeper.change_email(acc, f"x{n}@example.com", keep_alias=True)
        world.admin_changed(acc)
    cycle(world, resync=True)
    for n in ("g", "h"):
        person(world, n, sales)
        cycle(world)
    world.jumpcloud.bind_user(world.application, people["ada"])
    world.jumpcloud.remove_member(sales, people["ada"])
    world.admin_changed()
    assert "max_team_loss" not in cycle(world)


@pytest.mark.parametrize("keeper", [True, False])
def test_a_hold_that_was_released_and_done_is_over_while_a_list_is_down(world: World, keeper: bool) -> None:
    world.rules.safety = {"max_deactivations": 0, "always_allow": 0}
    sales = group(world, "Sales")
    people = [person(world, n, sales) for n in ("ada", "bob", "cy")]
    cycle(world)
    suspend(world, people[0])
    if keeper:
        world.keeper.refuse("Users", 503)
    else:
        world.jumpcloud.oddities.take_down("/api/v2/applications/[^/]+/usergroups", 403)
    cycle(world, resync=True)
    assert shown(world)["held"]
    campaign_decisions.consent_to_held(world)
    for _ in range(4):
        cycle(world, resync=True)
    assert shown(world)["held"] is None


def test_a_refused_removal_is_no_lost_team(world: World) -> None:
    sales, legal = group(world, "Sales"), group(world, "Legal")
    ada, account = joined(world, "ada", sales)
    cycle(world)
    world.jumpcloud.add_member(legal, ada)
    world.jumpcloud.remove_member(sales, ada)
    world.admin_changed(account)
    patch = f"PATCH {SCIM}/Users/{account}"
    cycle(world, {f"{patch}#1": "refused", f"{patch}#2": "refused", f"{patch}#3": ""})
    assert teams_of(world, "ada") == {"Sales", "Legal"}
    assert not told(world, AlertKind.LOST_TEAM)


def test_nobody_is_stuck_for_whom_nothing_is_due(world: World) -> None:
    person(world, "ada")
    bob, _ = joined(world, "bob")
    world.keeper.set_seats(2)
    cy = person(world, "cy")
    for _ in range(5):
        world.time.elapsed += 3600
        cycle(world)
    assert told(world, AlertKind.STUCK)
    world.jumpcloud.delete_user(cy)
    world.admin_changed()
    cycle(world)
    assert not told(world, AlertKind.STUCK)
    suspend(world, bob)
    world.time.elapsed += 60
    world.lane(Weather(0))
    assert not told(world, AlertKind.STUCK, whole=False)


def test_what_waits_once_more_beside_an_open_release_is_held(world: World) -> None:
    world.rules.teams = {"review": ["IT"]}
    world.rules.safety = {"max_creations": 0, "always_allow": 0}
    it = group(world, "IT")
    ada = person(world, "ada")
    person(world, "zoe", it)
    cycle(world)
    world.keeper.accept_invitation("ada@example.com")
    world.keeper.accept_invitation("zoe@example.com")
    world.keeper.approve_all()
    world.time.elapsed += 30 * 3600
    cycle(world, resync=True)
    world.jumpcloud.add_member(it, ada)
    person(world, "cy")
    world.keeper.set_seats(2)
    world.admin_changed()
    cycle(world)
    assert held(world) == ["teams.review", "max_creations"]
    campaign_decisions.consent_to_held(world)
    cycle(world)
    account = world.keeper.account("ada@example.com")
    cycle(world, resync=True)
    world.keeper.remove_member(account.id, account.teams[0])
    world.admin_changed(account.id)
    cycle(world, resync=True)
    assert held(world) == ["teams.review"]
    assert shown(world)["held"]
