"""An account that is not in this node any more is no evidence of a lock, whatever happened before."""

import json
from datetime import UTC, datetime

import pytest

from reconciler.simulator.faults import status
from reconciler.simulator.keeper import Keeper
from tests.flows.hidden import hide
from tests.inside import accept, account, fill
from tests.stage import World

OTHER = "987654321"
BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def moved(world: World) -> tuple[World, str, str]:
    """A person who is suspended, and whose account an administrator moved to another node."""
    fresh = Keeper(nodes=("123456789", OTHER))
    world.keeper.load(fresh.dump())
    world.write_settings()
    group = world.group("Engineering")
    for number in range(5):
        world.person(f"p{number}", group)
    eve = world.person("eve", group)
    world.run("apply")
    account = world.keeper.account("eve@example.com").id
    world.keeper.accept_invitation(account)
    world.keeper.move_user_to_other_node(account, OTHER)
    world.jumpcloud.suspend(eve)
    return world, eve, account


def test_a_lock_of_an_account_that_is_elsewhere_is_nowhere_called_done(moved: tuple[World, str, str]) -> None:
    world, _, account = moved
    out = world.run("apply").stdout
    assert out.startswith("Not verifiable: 1 operation.") and "[not verifiable] eve@example.com" in out
    for command in (["history", "eve@example.com"], ["explain", "eve@example.com"]):
        said = " ".join(world.run(*command).stdout.split())
        assert "to be locked: suspended in JumpCloud" in said and "not in this Keeper node any more" in said
        assert "no access" not in said
    assert "whether access ended is not verifiable" in said and "reconciler disown eve@example.com" in said
    told = world.run("status").stdout
    assert told.startswith("Last run: nothing done, ") and "cycle: nothing done, 1 not verifiable" in told
    assert world.keeper.account(account).active


def test_who_came_back_and_left_again_is_still_not_verifiable(moved: tuple[World, str, str]) -> None:
    world, eve, _ = moved
    world.run("apply")
    world.jumpcloud.activate(eve)
    world.run("apply", expect=5)  # the address is taken in the other node
    world.jumpcloud.suspend(eve)
    for _ in range(2):
        world.run("apply", expect=None)
        assert "NOT VERIFIABLE" in world.run("leavers").stdout
        assert "not verifiable" in " ".join(world.run("status").stdout.split())


@pytest.mark.parametrize("whose", ["ours", "an administrator's"])
def test_a_lock_that_an_account_brings_back_is_ours_only_if_we_had_set_it(
    moved: tuple[World, str, str], whose: str
) -> None:
    world, eve, account = moved
    if whose == "ours":
        world.keeper.move_user_to_other_node(account, "123456789")
        world.run("apply")
        world.keeper.move_user_to_other_node(account, OTHER)
        world.run("apply", "--resync")
    else:
        world.run("apply")
        world.keeper.lock(account)
    world.jumpcloud.activate(eve)
    world.run("apply", expect=5)  # the address is taken in the other node
    world.keeper.move_user_to_other_node(account, "123456789")
    world.run("apply", "--resync", expect=None)
    out = world.run("resync", "eve@example.com").stdout
    assert world.keeper.account(account).active is (whose == "ours"), out
    assert ("--unlock" in out) is (whose != "ours")


@pytest.mark.parametrize("known", [False, True])
def test_a_read_that_denies_accounts_which_the_list_shows_is_no_end_of_them(world: World, known: bool) -> None:
    """`known`: the accounts were seen locked before, so that one which is gone would have been removed by its lock."""
    world.safety |= dict.fromkeys(("max_deactivations", "max_reactivations"), "1000")
    world.write_settings()
    _, ids = fill(world, 12)
    world.run("apply")
    accept(world)
    world.run("resync")
    leavers = ids[1:6]
    for one in leavers if known else ():
        world.jumpcloud.suspend(one)
    if known:
        world.run("apply")
        for one in leavers:
            world.jumpcloud.activate(one)
        world.run("apply")
    for one in leavers:
        world.jumpcloud.suspend(one)
    world.back.faults.add(status(404), target="/Users/", method="GET")
    for _ in range(len(leavers)):
        out = world.run("apply", expect=None).stdout
        assert "until this is understood" not in out and "after their lock" not in world.run("status").stdout
    assert not any(account(world, one).active for one in leavers)
    assert "gone from this Keeper node" not in world.run("leavers").stdout
    assert "not known which" not in " ".join(world.run("history", "p1@example.com").stdout.split())


@pytest.mark.parametrize("unlocked", [False, True])
def test_an_account_that_a_later_list_shows_was_not_removed_by_its_lock(world: World, unlocked: bool) -> None:
    _, ids = fill(world)
    world.run("apply")
    accept(world)
    world.run("resync")
    account_id = account(world, ids[1]).id
    world.jumpcloud.suspend(ids[1])
    hide(world, account_id)
    world.run("apply")
    assert "gone from this Keeper node" in world.run("leavers").stdout
    world.back.faults.clear()
    if unlocked:
        world.keeper.unlock(account_id)
    world.run("resync")
    assert "gone from this Keeper node" not in world.run("leavers").stdout
    assert not world.keeper.account(account_id).active
    with world.state() as store:
        assert not {"gone", "vanished"} & store.outcomes_of_locks(BEGINNING).keys()
        assert bool(store.seen_locked(account_id))


@pytest.mark.parametrize("shown", [True, False], ids=["the list shows them", "gone"])
def test_a_lock_that_removes_a_member_is_alerted_where_the_list_bears_it_out(world: World, shown: bool) -> None:
    """Though the kind's canary had passed, and nothing failed."""
    told = world.folder / "told.json"
    world.safety |= dict.fromkeys(("max_deactivations", "max_reactivations"), "1000")
    world.write_settings(notify=f'[notify]\ncommand = ["/bin/sh", "-c", "cat >> {told}"]\n')
    _, ids = fill(world, 12)
    world.run("apply")
    accept(world)
    world.run("resync")
    for change in (world.jumpcloud.suspend, world.jumpcloud.activate):
        change(ids[1])
        world.run("apply")
    world.jumpcloud.suspend(ids[1])
    key = account(world, ids[1]).id
    if shown:
        world.back.faults.add(status(404), target=f"/Users/{key}", method="GET")
    else:
        hide(world, key)
    world.run("apply", expect=None)
    assert ("kind_stopped" in told.read_text()) is not shown


def test_the_creation_that_failed_while_an_account_was_elsewhere_delays_no_unlocking_once_it_is_back(
    moved: tuple[World, str, str],
) -> None:
    world, eve, account = moved
    world.keeper.move_user_to_other_node(account, "123456789")
    world.run("apply")
    world.keeper.move_user_to_other_node(account, OTHER)
    world.run("apply", "--resync")
    world.jumpcloud.activate(eve)
    world.run("apply", expect=5)  # the address is taken in the other node
    world.keeper.move_user_to_other_node(account, "123456789")
    world.run("apply", "--resync", expect=None)
    world.run("apply")
    assert world.keeper.account(account).active
    assert "FAILING" not in world.run("status").stdout


def test_no_inventory_closes_the_question_about_an_account_that_has_another_address(
    moved: tuple[World, str, str],
) -> None:
    world, _, account = moved
    world.keeper.change_email(account, "eve.adams@example.com")
    shown = world.folder / "inventory.json"
    shown.write_text(json.dumps(world.keeper.inventory()))
    settings = world.folder / "config.toml"
    command = f'[keeper]\ninventory_command = ["/bin/cat", "{shown}"]\n'
    settings.write_text(settings.read_text().replace("[keeper]\n", command))
    for more in ([], ["--resync"]):
        world.run("apply", *more, expect=None)
        said = " ".join(world.run("leavers").stdout.split())
        assert "eve@example.com: NOT VERIFIABLE" in said and "shows them as active outside this node" in said
        assert "not verifiable" in " ".join(world.run("status").stdout.split())
    world.keeper.delete_user(account)
    shown.write_text(json.dumps(world.keeper.inventory()))
    world.run("apply", "--resync")
    assert "answered by the inventory" in " ".join(world.run("leavers").stdout.split())
