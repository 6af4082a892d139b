"""Faults of what limits hold and let through, each as a short history."""

import json
from dataclasses import replace

import pytest

from reconciler.alerts import AlertKind
from reconciler.cycle import Order
from reconciler.report.document import SavedPlan, read_saved, to_json
from reconciler.simulator.service import Response
from reconciler.timekeeping import judge
from tests.campaign.decisions import consent_to_held
from tests.campaign.scenes import SCIM, cycle, group, joined, person, suspend, teams_of
from tests.campaign.seams import Weather
from tests.campaign.test_reviews import told
from tests.campaign.world import World


def test_a_link_that_opened_a_leavers_account_is_undone_beside_a_hold(world: World) -> None:
    world.keeper.set_dialect(links_aliases=True, link_unlocks=True)
    world.rules.safety = {"max_creations": 50}
    people = [joined(world, name)[0] for name in ("bob", "cy", "dan", "eve")]
    zoe, account = joined(world, "zoe")
    world.keeper.change_email(account, "z@example.com", keep_alias=True)
    suspend(world, zoe)
    cycle(world, resync=True)
    assert world.keeper.accounts()[account].locked
    world.jumpcloud.delete_user(zoe)
    person(world, "zoe")  # somebody else of that name
    cycle(world, {f"POST {SCIM}/Users": "late_timeout"})
    assert not world.keeper.accounts()[account].locked
    world.rules.safety |= {"max_deactivations": 0, "always_allow": 0}
    for one in people[:3]:
        world.jumpcloud.delete_user(one)
    world.admin_changed()
    assert "max_deactivations 4" in cycle(world)
    assert world.keeper.accounts()[account].locked


def test_who_joined_a_new_team_does_not_begin_to_count_when_the_team_is_a_day_old(world: World) -> None:
    world.rules.safety = {"max_creations": 50, "max_grants": 2}
    old = group(world, "Old")
    people = [joined(world, name)[0] for name in ("ada", "bob", "cy", "dan", "eve")]
    new = group(world, "New")
    cycle(world)
    world.keeper.approve_all()
    world.time.elapsed += 5 * 3600
    for one in people[:4]:
        world.jumpcloud.add_member(new, one)
    world.admin_changed()
    cycle(world)
    world.keeper.approve_all()
    world.time.elapsed += 19.5 * 3600
    world.jumpcloud.add_member(old, people[4])
    world.admin_changed()
    assert "max_grants" not in cycle(world)
    assert teams_of(world, "eve") == {"Old"}


def test_what_a_link_gave_to_another_account_is_not_told_as_a_lost_team(world: World) -> None:
    world.keeper.set_dialect(links_aliases=True)
    sales = group(world, "Sales")
    joined(world, "bob", sales)
    other = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(other)
    world.keeper.change_email(other, "old@example.com", keep_alias=True)
    world.admin_changed(other)
    cycle(world, resync=True)
    person(world, "ada", sales)
    cycle(world)
    assert not world.keeper.accounts()[other].teams
    assert not told(world, AlertKind.LOST_TEAM)


def test_a_team_that_was_taken_once_is_told_once(world: World) -> None:
    sales, legal = group(world, "Sales"), group(world, "Legal")
    ada, account = joined(world, "ada", sales, legal)
    joined(world, "bob", sales, legal)
    cycle(world, resync=True)
    world.jumpcloud.remove_member(sales, ada)
    world.admin_changed()
    lists = (f"GET {SCIM}/Users?", f"GET {SCIM}/Groups?")
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "late_timeout"} | dict.fromkeys(lists, "error"))
    cycle(world, dict.fromkeys(lists, "stale"))  # it seems not to have arrived, and is sent once more
    for _ in range(2):
        cycle(world)
    assert [(fact.name, fact.text) for fact in told(world, AlertKind.LOST_TEAM)] == [
        ("ada@example.com", "lost Sales: changed in JumpCloud")
    ]
    world.jumpcloud.add_member(sales, ada)
    world.admin_changed()
    cycle(world)
    world.jumpcloud.remove_member(sales, ada)
    world.admin_changed()
    cycle(world)
    assert len(told(world, AlertKind.LOST_TEAM)) == 2


def five_people(world: World) -> list[str]:
    world.rules.teams, world.rules.safety = {"review": ["Sec*"]}, {"max_creations": 50}
    return [joined(world, name)[0] for name in ("ada", "bob", "cy", "dan", "eve")]


def test_who_was_let_into_a_team_whose_queueing_had_no_answer_is_in_it_once_it_shows(world: World) -> None:
    world.keeper.set_dialect(shows_queued_teams=False, gets_hidden_teams=True)
    ada, *_ = five_people(world)
    world.jumpcloud.add_member(group(world, "Sec"), ada)
    world.admin_changed()
    assert "teams.review 1" in cycle(world, {f"POST {SCIM}/Groups": "late_timeout"})
    assert consent_to_held(world)
    assert "unsettled 1" in cycle(world)
    world.keeper.approve_all()
    world.admin_changed()
    assert "held" not in cycle(world)
    assert teams_of(world, "ada") == {"Sec"}


def test_who_was_let_into_a_team_that_a_list_lacks_once_is_in_it_once_it_shows_again(world: World) -> None:
    ada, *_ = five_people(world)
    sec = group(world, "Sec")
    cycle(world)
    world.keeper.approve_all()
    world.admin_changed()
    cycle(world, resync=True)
    world.jumpcloud.add_member(sec, ada)
    world.admin_changed()
    assert "teams.review 1" in cycle(world)
    assert consent_to_held(world)
    none = {"totalResults": 0, "startIndex": 1, "itemsPerPage": 0, "Resources": []}
    edits = {f"Keeper GET {SCIM}/Groups?": lambda _: Response.of_json(200, none)}
    edits[f"Keeper GET {SCIM}/Groups/"] = lambda _: Response.of_json(404, {})
    world.time.elapsed += 600
    assert "drift" in world.cycle(Order(by="schedule", resync=True), Weather(1, edits=edits))
    assert "held" not in cycle(world)
    assert teams_of(world, "ada") == {"Sec"}


def test_a_lock_that_was_let_through_outlasts_a_doubt_about_the_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody's grace ends meanwhile, so the lock is not planned; it is due all the same."""
    world.rules.safety = {"max_deactivations": 0, "always_allow": 0, "max_creations": 50}
    for name in ("bob", "cy", "dan"):
        joined(world, name)
    ada, account = joined(world, "ada")
    world.jumpcloud.unbind_user(world.application, ada)
    world.admin_changed()
    for _ in range(5):
        text = cycle(world)
    assert "max_deactivations 1" in text
    assert consent_to_held(world)
    with monkeypatch.context() as doubt:
        doubt.setattr("reconciler.clocks.judge", lambda *about: replace(judge(*about), certain=False, correct_to=None))
        cycle(world)
    assert not world.keeper.accounts()[account].locked
    cycle(world)
    assert world.keeper.accounts()[account].locked


def saved_plan(world: World) -> SavedPlan:
    """A person saves the plan of now, and agrees to it."""
    made = world.dry_run(Weather(1), resync=False)
    assert made is not None
    world.observer.agreed(made.effects)
    return read_saved(to_json(made).encode(), "plan.json")


@pytest.mark.parametrize("again", [False, True])
def test_a_saved_plan_that_is_applied_again_queues_no_team_twice(world: World, again: bool) -> None:
    """The first request had no answer, and the team waits for approval; so it does where that was a second one."""
    world.keeper.set_dialect(shows_queued_teams=False, gets_hidden_teams=True)
    person(world, "ada")
    cycle(world)
    group(world, "Sales")
    lost = {f"POST {SCIM}/Groups": "timeout"}
    if again:
        assert "partial" in cycle(world, lost)
        assert "unsettled 1" in cycle(world)
    saved = saved_plan(world)
    assert "partial" in cycle(world, {f"POST {SCIM}/Groups": "late_timeout"}, saved=saved)
    assert "unsettled 1" in cycle(world, saved=saved)
    assert len(world.keeper.teams()) == 1


def test_a_newcomer_who_was_let_through_outlasts_a_row_that_cannot_be_read(world: World) -> None:
    world.rules.safety = {"max_creations": 0, "always_allow": 0}
    for name in ("ada", "bob", "cy"):
        person(world, name)
    cycle(world)
    zoe = person(world, "zoe")
    assert "max_creations 1" in cycle(world)
    assert consent_to_held(world)

    def odd(reply: Response) -> Response:
        rows = [row | {"id": 7} if row["id"] == zoe else row for row in json.loads(reply.body)]
        return Response.of_json(200, rows, reply.headers)

    edits = {f"JumpCloud GET /api/v2/applications/{world.application}/users": odd}
    world.time.elapsed += 600
    assert "quarantined" in world.cycle(Order(by="schedule"), Weather(1, edits=edits))
    assert "held" not in cycle(world)
    assert world.keeper.account("zoe@example.com")
