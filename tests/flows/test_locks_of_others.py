"""A lock that an administrator has set stays until a person asks for its end, through the real command line."""

import pytest

from tests.flows.hidden import hide
from tests.stage import World


def in_keeper(world: World, name: str, jumpcloud_id: str) -> str:
    account = world.keeper.add_user(f"{name}@example.com", external_id=jumpcloud_id)
    world.keeper.accept_invitation(account)
    return account


def joins(world: World, group: str, person: str) -> None:
    world.jumpcloud.add_member(group, person)
    world.jumpcloud.settle_graph()


def leaves(world: World, group: str, person: str) -> None:
    world.jumpcloud.remove_member(group, person)
    world.jumpcloud.settle_graph()


def test_adopt_takes_no_lock_of_an_administrator_for_ours(world: World) -> None:
    group = world.group("Engineering")
    for number in range(4):
        world.person(f"p{number}", group)
    world.run("apply")
    eve = world.person("eve")
    account = in_keeper(world, "eve", eve)
    world.keeper.lock(account)
    world.run("apply", "--resync")
    world.run("adopt", "eve@example.com")
    world.run("apply")
    joins(world, group, eve)
    out = world.run("apply", "--resync").stdout
    assert "reconciler resync eve@example.com --unlock" in out
    assert not world.keeper.account(account).active
    world.run("resync", "eve@example.com", "--unlock")
    assert world.keeper.account(account).active


def test_a_lock_that_came_after_disown_is_not_ours_once_the_person_is_adopted_again(world: World) -> None:
    group = world.group("Engineering")
    for number in range(4):
        world.person(f"p{number}", group)
    xena = world.person("xena", group)
    world.run("apply")
    account = world.keeper.account("xena@example.com").id
    world.keeper.accept_invitation(account)
    leaves(world, group, xena)
    world.run("apply")
    assert not world.keeper.account(account).active
    world.run("disown", "xena@example.com")
    world.keeper.unlock(account)
    world.run("apply", "--resync")
    world.keeper.lock(account)
    world.run("apply", "--resync")
    joins(world, group, xena)
    world.run("adopt", "xena@example.com")
    out = world.run("apply", "--resync").stdout
    assert "reconciler resync xena@example.com --unlock" in out
    assert not world.keeper.account(account).active


def test_our_own_lock_outlives_disown_and_adopt(world: World) -> None:
    group = world.group("Engineering")
    for number in range(4):
        world.person(f"p{number}", group)
    xena = world.person("xena", group)
    world.run("apply")
    account = world.keeper.account("xena@example.com").id
    world.keeper.accept_invitation(account)
    leaves(world, group, xena)
    world.run("apply")
    world.run("disown", "xena@example.com")
    world.run("apply", "--resync")
    joins(world, group, xena)
    world.run("adopt", "xena@example.com")
    world.run("apply", "--resync")
    assert world.keeper.account(account).active


def test_a_lock_that_follows_an_unlock_which_we_only_reported_is_not_ours(world: World) -> None:
    world.policy["drift"] = '"report"'
    world.write_settings()
    group = world.group("Engineering")
    for number in range(4):
        world.person(f"p{number}", group)
    xena = world.person("xena", group)
    world.run("apply")
    account = world.keeper.account("xena@example.com").id
    world.keeper.accept_invitation(account)
    leaves(world, group, xena)
    world.run("apply")
    world.keeper.unlock(account)
    assert "unlocked in Keeper by somebody else" in " ".join(world.run("apply", "--resync").stdout.split())
    world.keeper.lock(account)
    world.run("apply", "--resync")
    joins(world, group, xena)
    assert "reconciler resync xena@example.com --unlock" in world.run("apply", "--resync").stdout
    assert not world.keeper.account(account).active


@pytest.mark.parametrize("whose", ["managed", "nobody's"])
def test_a_lock_outlives_a_cycle_that_does_not_see_the_account(world: World, whose: str) -> None:
    world.keeper.set_dialect(link_unlocks=True)
    group = world.group("Engineering")
    for number in range(4):
        world.person(f"p{number}", group)
    xena = world.person("xena", *([group] if whose == "managed" else []))
    if whose == "nobody's":
        in_keeper(world, "xena", "")
    world.run("apply")
    account = world.keeper.account("xena@example.com").id
    world.keeper.accept_invitation(account)
    world.keeper.lock(account)
    world.run("apply", "--resync")
    if whose == "nobody's":
        joins(world, group, xena)
    hide(world, account)
    for arguments in (["apply", "--resync"], ["apply"]):
        out = " ".join(world.run(*arguments, expect=None).stdout.split())
        assert "locked in Keeper by somebody else" in out and "reconciler resync xena@example.com --unlock" in out
    world.back.faults.clear()
    world.run("apply", "--resync")
    assert "reconciler resync xena@example.com --unlock" in world.run("apply").stdout
    assert not world.keeper.account(account).active
    world.run("resync", "xena@example.com", "--unlock")
    assert world.keeper.account(account).active


@pytest.mark.parametrize("way", ["suspended", "unbound"])
def test_explain_says_how_a_leaver_whom_somebody_else_locked_gets_access(world: World, way: str) -> None:
    """It named `resync EMAIL`, by which the lock stays."""
    group = world.group("Engineering")
    people = [world.person(f"p{number}", group) for number in range(6)]
    world.run("apply")
    account = world.keeper.account("p0@example.com").id
    world.keeper.accept_invitation(account)
    world.keeper.lock(account)
    if way == "suspended":
        world.jumpcloud.suspend(people[0])
    else:
        leaves(world, group, people[0])
    world.run("resync")
    out = world.run("explain", "p0@example.com").stdout
    command = next(line for line in out.splitlines() if "reconciler resync" in line).split()
    assert "if nobody needs the lock" in " ".join(out.split())
    if way == "suspended":
        world.jumpcloud.activate(people[0])
    else:
        joins(world, group, people[0])
    world.run(*command[1:])
    assert world.keeper.account(account).active
