"""What somebody changed in Keeper by hand, told apart from what changed in JumpCloud, through the real command line."""

import json
from typing import Any

import pytest

from tests.flows.hidden import hide, two_minutes_after
from tests.flows.test_limits import age_the_journal
from tests.stage import World


@pytest.fixture
def people(world: World) -> list[str]:
    groups = [world.group(name) for name in ("Engineering", "Sales", "Support", "Legal")]
    ids = [world.person(f"p{n}", groups[n % 4], displayname=f"P {n}") for n in range(16)]
    world.run("apply")
    for account in world.keeper.accounts().values():
        world.keeper.accept_invitation(account.id)
    world.keeper.approve_all()
    world.jumpcloud.suspend(ids[12])
    world.run("apply", "--resync")
    world.run("plan", "--resync", "--detailed-exitcode")
    return ids


def account(world: World, jumpcloud_id: str) -> str:
    return next(a.id for a in world.keeper.accounts().values() if a.external_id == jumpcloud_id)


def team(world: World, name: str) -> str:
    return next(t.id for t in world.keeper.teams().values() if t.name == name)


def found(world: World, expect: int = 3) -> dict[str, Any]:
    made = world.run("plan", "--resync", "--detailed-exitcode", "--format", "json", expect=expect)
    document: dict[str, Any] = json.loads(made.stdout)
    return document


def operations(document: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {op["subject"]["name"]: (op["kind"], op["cause"]) for op in document["operations"]}


def notices(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(notice["subject"]["name"], notice["kind"]) for notice in document["notices"]}


def test_what_was_done_to_people_by_hand(world: World, people: list[str]) -> None:
    keeper = world.keeper
    keeper.lock(account(world, people[0]))
    keeper.unlock(account(world, people[12]))
    keeper.add_member(account(world, people[1]), team(world, "Engineering"))
    keeper.remove_member(account(world, people[2]), team(world, "Support"))
    keeper.delete_user(account(world, people[3]))
    keeper.rename_user(account(world, people[4]), display_name="By hand")
    keeper.change_email(account(world, people[5]), "by.hand@example.com")
    document = found(world)
    assert operations(document) == {
        "p12@example.com": ("deactivate_user", "drift"),
        "p2@example.com": ("update_user", "drift"),
        "p3@example.com": ("create_user", "drift"),
        "p4@example.com": ("update_user", "drift"),
    }
    assert notices(document) == {
        ("p0@example.com", "locked_in_keeper"),
        ("p1@example.com", "given_by_hand"),
        ("by.hand@example.com", "drift"),
    }
    world.run("resync")
    assert operations(found(world)) == {}  # exit 3: what is only reported is drift all the same


def test_what_was_done_to_teams_by_hand(world: World, people: list[str]) -> None:
    world.keeper.delete_team(team(world, "Sales"))
    for document in (found(world), json.loads(world.run("plan", "--resync", "--format", "json").stdout)):
        assert operations(document) == {} and notices(document) == {("Sales", "drift")}
    before = world.writes()
    for _ in range(2):
        words = " ".join(world.run("resync").stdout.split())
        assert "queued again if a cycle at least two minutes later does not find it either" in words
        assert world.writes() == before
    two_minutes_after(world)
    world.keeper.rename_team(team(world, "Engineering"), "By hand")
    document = found(world)
    members = {f"p{n}@example.com": ("update_user", "drift") for n in (1, 5, 9, 13)}
    assert operations(document) == {
        "Engineering": ("rename_team", "drift"),
        "Sales": ("queue_team", "drift"),
        **members,
    }
    assert notices(document) == set()
    world.run("resync")
    assert world.differences() == []
    assert people


def test_what_jumpcloud_changed_meanwhile_is_no_drift(world: World, people: list[str]) -> None:
    ids = {name: group for group, name in world.jumpcloud.groups_in_scope(world.application).items()}
    world.jumpcloud.update_user(people[0], displayname="By JumpCloud")
    world.jumpcloud.remove_member(ids["Sales"], people[1])
    world.jumpcloud.add_member(ids["Support"], people[1])
    world.jumpcloud.update_user(people[2], displayname="By JumpCloud")
    world.jumpcloud.settle_graph()
    world.keeper.remove_member(account(world, people[2]), team(world, "Support"))
    world.keeper.rename_user(account(world, people[3]), display_name="By hand")
    document = found(world)
    assert operations(document) == {
        "p0@example.com": ("update_user", "jumpcloud"),
        "p1@example.com": ("update_user", "jumpcloud"),
        "p2@example.com": ("update_user", "jumpcloud"),
        "p3@example.com": ("update_user", "drift"),
    }
    (both,) = document["notices"]
    assert (both["subject"]["name"], both["kind"]) == ("p2@example.com", "drift")
    assert both["message"] == "also changed in Keeper behind our back, and put right by the same request: team Support"
    assert "changed in Keeper behind our back" in world.run("plan", "--resync").stdout


def test_drift_that_is_only_reported(world: World, people: list[str]) -> None:
    world.policy["drift"] = '"report"'
    world.write_settings()
    keeper = world.keeper
    keeper.unlock(account(world, people[12]))
    keeper.remove_member(account(world, people[2]), team(world, "Support"))
    keeper.delete_user(account(world, people[3]))
    keeper.rename_user(account(world, people[4]), display_name="By hand")
    keeper.rename_team(team(world, "Engineering"), "By hand")
    keeper.delete_team(team(world, "Sales"))
    document = found(world)
    assert operations(document) == {}
    drifted = {name for name, kind in notices(document) if kind == "drift"}
    assert drifted == {*(f"p{n}@example.com" for n in (12, 2, 3, 4)), "Engineering", "Sales"}


def test_drift_that_is_repaired(world: World, people: list[str]) -> None:
    world.policy["drift"] = '"repair"'
    world.write_settings()
    world.keeper.add_member(account(world, people[1]), team(world, "Engineering"))
    document = found(world)
    assert operations(document) == {"p1@example.com": ("update_user", "drift")}


@pytest.mark.parametrize("cycles", [1, 2])
def test_a_team_that_shows_again_keeps_nobody_who_left_its_group(world: World, people: list[str], cycles: int) -> None:
    """After one cycle that did not see it, nothing has happened; after two, another one was queued in its place."""
    sales, teams = team(world, "Sales"), set(world.keeper.teams())
    hide(world, sales, "Groups")
    for _ in range(cycles):
        world.run("resync")
        two_minutes_after(world)
    assert len(world.keeper.teams()) == len(teams) + cycles - 1
    world.keeper.approve_all()
    if cycles > 1:
        world.run("resync")
    world.back.faults.clear()
    world.run("resync", expect=None)
    ids = {name: group for group, name in world.jumpcloud.groups_in_scope(world.application).items()}
    world.jumpcloud.remove_member(ids["Sales"], people[1])
    world.jumpcloud.add_member(ids["Legal"], people[1])
    world.jumpcloud.settle_graph()
    world.run("apply")
    newer = set(world.keeper.teams()) - teams
    for one in (sales, *newer):
        members = world.keeper.members(one)
        assert account(world, people[1]) not in members and account(world, people[5]) in members


def test_who_joins_a_team_that_shows_again_counts_though_another_was_queued(world: World, people: list[str]) -> None:
    """The folders of the first one are shared still, so that the limit counts whoever gains it."""
    sales = team(world, "Sales")
    age_the_journal(world)
    hide(world, sales, "Groups")
    for _ in range(2):
        world.run("resync")
        two_minutes_after(world)
    world.back.faults.clear()
    world.run("resync")
    members = len({*world.keeper.members(sales), *world.keeper.pending_members(sales)})
    ids = {name: group for group, name in world.jumpcloud.groups_in_scope(world.application).items()}
    for person in people:
        world.jumpcloud.add_member(ids["Sales"], person)
    world.jumpcloud.settle_graph()
    world.safety["max_grants"] = "1"
    world.write_settings()
    assert "would be added to an existing team" in " ".join(world.run("apply", expect=4).stdout.split())
    assert len({*world.keeper.members(sales), *world.keeper.pending_members(sales)}) == members
