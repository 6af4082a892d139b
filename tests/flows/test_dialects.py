"""Where Keeper's documentation leaves two readings, the outcome is right under both."""

import pytest

from reconciler.cycle import Order
from reconciler.plan import NoticeKind
from tests.inside import Inside, accept, fill
from tests.stage import World

READINGS: dict[str, dict[str, object]] = {
    "as_is": {},
    "hidden_queue": {"shows_queued_teams": False, "gets_hidden_teams": False},
    "hidden_members": {"shows_pending_memberships": False},
    "every_membership_waits": {"queues_every_membership": True, "shows_pending_memberships": False},
    "ignores_external_id": {"ignored_attributes": ["externalId"]},
    "ignores_names": {"ignored_attributes": ["displayName", "name.givenName", "name.familyName"]},
    "trims_and_lowers": {"trims_names": True, "lowercases_usernames": True},
    "no_patch_body": {"patch_reply": "none"},
    "unique_names": {"unique_group_names": True},
    "strict_memberships": {"refuses_duplicate_membership": True, "refuses_absent_membership": True},
}


@pytest.mark.parametrize("reading", READINGS)
def test_a_history_under_every_reading(world: World, reading: str) -> None:
    world.keeper.set_dialect(**READINGS[reading])
    engineering, sales = world.group("Engineering"), world.group("Sales")
    people = [world.person(f"p{n}", engineering if n % 2 else sales) for n in range(9)]
    world.run("apply")
    settled = world.writes()
    for arguments in (("apply",), ("apply", "--resync"), ("apply", "--resync")):
        world.run(*arguments)
    assert world.writes() == settled, "asked for again what was asked for"
    for account in world.keeper.accounts().values():
        world.keeper.accept_invitation(account.id)
    world.keeper.approve_all()
    world.run("apply", "--resync")
    assert world.writes() == settled
    world.jumpcloud.suspend(people[0])
    world.jumpcloud.remove_member(engineering, people[1])
    world.jumpcloud.add_member(sales, people[1])
    world.jumpcloud.rename_group(sales, "Sales EMEA")
    world.jumpcloud.settle_graph()
    world.run("apply")
    world.run("apply", "--resync")
    by_address = {a.email.casefold(): a for a in world.keeper.accounts().values()}
    names = {t.id: t.name for t in world.keeper.teams().values()}
    assert sorted(names.values()) == ["Engineering", "Sales EMEA"]
    assert not by_address["p0@example.com"].active
    moved = by_address["p1@example.com"]
    assert [names[t] for t in (*moved.teams, *moved.pending_teams)] == ["Sales EMEA"]
    world.jumpcloud.activate(people[0])
    world.run("apply")
    by_address = {a.email.casefold(): a for a in world.keeper.accounts().values()}
    assert by_address["p0@example.com"].active
    assert len(by_address) == 9


def test_a_name_that_a_rename_frees_goes_to_the_new_group_in_one_cycle(world: World) -> None:
    world.keeper.set_dialect(unique_group_names=True)
    sales = world.group("Sales")
    people = [world.person(f"p{n}", sales) for n in range(4)]
    world.run("apply")
    for account in world.keeper.accounts().values():
        world.keeper.accept_invitation(account.id)
    world.keeper.approve_all()
    world.run("apply", "--resync")
    world.jumpcloud.rename_group(sales, "Sales EMEA")
    new = world.group("Sales")
    world.jumpcloud.add_member(new, people[0])
    world.jumpcloud.settle_graph()
    world.run("apply")
    teams = {team.name: team.external_id for team in world.keeper.teams().values()}
    assert teams == {"Sales EMEA": sales, "Sales": new}
    world.keeper.approve_all()
    world.run("apply", "--resync")
    assert world.differences() == []


def renamed_teams(world: World) -> tuple[Inside, list[str]]:
    """Two groups in a node that takes no second team of a name; and a clock that is past every pause."""
    world.safety |= {"max_removals": "100", "max_grants": "100"}
    world.write_settings()
    world.keeper.set_dialect(unique_group_names=True)
    groups, _ = fill(world)
    inside = Inside(world)
    inside.run()
    accept(world)
    world.keeper.approve_all()
    inside.later(hours=2)
    inside.run(Order(resync=True))
    return inside, groups


def names(world: World) -> dict[str | None, str]:
    return {one.external_id: one.name for one in world.keeper.teams().values()}


def test_two_groups_that_swap_names_get_their_teams_renamed_by_way_of_a_third(world: World) -> None:
    inside, (one, two) = renamed_teams(world)
    for group, name in ((one, "Between"), (two, "Engineering"), (one, "Sales")):
        world.jumpcloud.rename_group(group, name)
    for _ in range(4):
        inside.later(hours=2)
        inside.run()
    assert names(world) == {one: "Sales", two: "Engineering"}
    assert inside.run().plan.operations == ()


def test_a_name_that_the_team_of_a_former_group_has_is_told_with_that_team(world: World) -> None:
    inside, (one, two) = renamed_teams(world)
    for number in range(6):
        world.jumpcloud.add_member(two, world.jumpcloud.find_user(f"p{number}@example.com"))
    world.jumpcloud.delete_group(one)
    world.jumpcloud.rename_group(two, "Engineering")
    world.jumpcloud.settle_graph()
    for _ in range(2):
        inside.later(hours=2)
        outcome = inside.run()
    [told] = [n.message for n in outcome.plan.notices if n.kind is NoticeKind.CONFLICT]
    [old] = [key for key, team in world.keeper.teams().items() if team.external_id == one]
    assert old in told and "not in scope any more" in told and "Admin Console" in told
    world.keeper.delete_team(old)
    for _ in range(3):
        inside.later(hours=2)
        inside.run(Order(resync=True))
    assert names(world) == {two: "Engineering"}
