"""Faults of the bond between people and accounts that reviews have found, each as a short history."""

import random
from dataclasses import replace

import pytest

from reconciler.cycle import Order
from reconciler.report import leavers
from reconciler.simulator.service import Request, Response
from reconciler.store import Store
from tests.campaign import claims, decisions
from tests.campaign.decisions import consent_to_held, put_back
from tests.campaign.ending import ending
from tests.campaign.rules import NODES
from tests.campaign.scenes import (
    SCIM,
    _Chosen,
    activate,
    adopt,
    cycle,
    disown,
    gets_alias,
    given_beside_a_staged_one,
    group,
    joined,
    moves,
    person,
    suspend,
    teams_of,
    ten_minutes,
)
from tests.campaign.seams import Weather
from tests.campaign.world import World


def unreviewed(world: World) -> None:
    """A scheduled cycle, whose first plan nobody reviews."""
    world.time.elapsed += 600
    world.say(world.cycle(Order(resync=True, by="schedule"), Weather(1)))


def found_unreviewed(world: World) -> tuple[str, str]:
    """Bob and Ada in scope, and an account with her address that a first plan found, which nobody reviewed: both ids
    of her."""
    person(world, "bob")
    ada = person(world, "ada")
    account = world.keeper.add_user("ada@example.com")
    world.admin_changed(account)
    unreviewed(world)
    return ada, account


def test_an_account_that_a_first_plan_found_is_no_leavers_once_they_were_invited(world: World) -> None:
    ada, old = found_unreviewed(world)
    # The account is a contractor's by now, who is not in JumpCloud.
    world.keeper.change_email(old, "contractor@example.com", keep_alias=False)
    world.admin_changed(old)
    cycle(world)  # reviewed: ada is invited
    assert world.keeper.account("ada@example.com").id != old
    suspend(world, ada)
    cycle(world)  # our lock withdraws the invitation
    cycle(world, resync=True)
    cycle(world)
    assert not world.keeper.accounts()[old].locked


def test_an_account_that_a_first_plan_found_is_no_leavers_once_another_was_found(world: World) -> None:
    for name in ("x", "y", "z"):  # Of two accounts the lower id is looked at first.
        world.admin_changed(world.keeper.add_user(f"{name}@example.com"))
    ada, old = found_unreviewed(world)
    # The account is a contractor's by now, and ada has another one.
    world.keeper.change_email(old, "contractor@example.com", keep_alias=False)
    new = world.keeper.add_user("ada@example.com", external_id=ada)
    world.admin_changed(old, new)
    unreviewed(world)
    unreviewed(world)
    suspend(world, ada)
    cycle(world, resync=True)
    ending(world, random.Random(1))
    assert not world.keeper.accounts()[old].locked
    assert world.keeper.accounts()[new].locked


@pytest.mark.parametrize("partial", [True, False])
def test_each_of_two_links_to_one_account_is_undone(world: World, partial: bool) -> None:
    world.rules.safety = {"max_creations": 50}
    world.keeper.set_dialect(links_aliases=True)
    sales, legal = group(world, "Sales"), group(world, "Legal")
    joined(world, "bob", sales)
    joined(world, "cleo", legal)
    _, ada = joined(world, "ada")
    for address in ("nils@example.com", "rita@example.com", "ada@example.com"):
        world.keeper.change_email(ada, address, keep_alias=True)
    world.admin_changed(ada)
    cycle(world, resync=True)
    person(world, "nils", sales)
    cycle(world, {f"PATCH {SCIM}/Users/{ada}": "refused"})
    person(world, "rita", legal)
    if partial:
        cycle(world, resync=True, person="rita@example.com")
    else:
        world.time.elapsed -= 480
        cycle(world)
    for _ in range(3):
        cycle(world, resync=True)
    account = world.keeper.account("ada@example.com")
    assert (account.given_name, account.teams, account.pending_teams) == ("ada", (), ())


@pytest.mark.parametrize("second", [True, False])
def test_a_second_link_hides_no_lock_that_the_first_has_undone(world: World, second: bool) -> None:
    world.rules.safety = {"max_creations": 50}
    world.keeper.set_dialect(links_aliases=True, link_unlocks=True)
    joined(world, "bob")
    joined(world, "cleo")
    _, ada = joined(world, "ada")
    for address in ("nils@example.com", "rita@example.com", "ada@example.com"):
        world.keeper.change_email(ada, address, keep_alias=True)
    world.keeper.lock(ada)
    world.admin_changed(ada)
    cycle(world, resync=True)
    person(world, "nils")
    cycle(world, {f"PATCH {SCIM}/Users/{ada}": "refused"})
    if second:
        person(world, "rita")
        cycle(world, resync=True, person="rita@example.com")
    for _ in range(3):
        cycle(world, resync=True)
    assert world.keeper.accounts()[ada].locked


def test_the_lane_locks_nobody_to_whom_an_account_was_given_since_an_old_copy(world: World) -> None:
    person(world, "bob")
    cycle(world)
    account = world.keeper.add_user("ada@example.com")
    world.admin_changed(account)
    former = person(world, "ada")
    cycle(world, {f"PATCH {SCIM}/Users": "refused"}, resync=True)
    copy = world.path.read_bytes(), world.observer.remembered()
    cycle(world)
    suspend(world, former)
    world.jumpcloud.update_user(former, email="ada.alt@example.com")
    world.admin_changed()
    cycle(world)
    heir = person(world, "ada")
    cycle(world)
    adopt(world, "ada@example.com")
    cycle(world)
    cycle(world)
    assert world.keeper.account("ada@example.com").external_id == heir
    put_back(world, *copy, by_command=False)
    world.time.elapsed += 60
    world.say(world.lane(Weather(1)))
    assert not world.keeper.accounts()[account].locked


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("by_command", [False, True])
@pytest.mark.parametrize("by_lane", [False, True])
def test_who_was_given_an_account_and_a_new_address_since_an_old_copy_is_not_locked(
    world: World, by_command: bool, by_lane: bool, back: bool
) -> None:
    """Their former owner may be back, with an account of their own."""
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    former, account = joined(world, "ada")
    copy = world.path.read_bytes(), world.observer.remembered()
    suspend(world, former)
    cycle(world)
    world.jumpcloud.update_user(former, email="ada.alt@example.com")
    heir = person(world, "ada")
    cycle(world)
    adopt(world, "ada@example.com")
    cycle(world)
    world.jumpcloud.update_user(heir, email="adele@example.com")
    if back:
        world.jumpcloud.activate(former)
    world.admin_changed()
    cycle(world)
    there = world.keeper.accounts()
    put_back(world, *copy, by_command=by_command)
    if by_lane:
        cycle(world, resync=True, person="adele@example.com")
        world.say(world.lane(Weather(1)))
    ending(world, random.Random(1))
    assert world.keeper.accounts() == there, "nor are they given a second one, nor is the first one made another's"
    if back:
        return
    world.keeper.change_email(account, "adele@example.com")  # as the conflicts advise
    world.admin_changed(account)
    person(world, "cy")  # so that there is something to review
    cycle(world, resync=True)
    adopt(world, "adele@example.com")
    ending(world, random.Random(1))
    with world.open() as store:
        assert store.snapshot().accounts[account].jumpcloud_id == heir


@pytest.mark.parametrize("by_command", [False, True])
@pytest.mark.parametrize("unreadable", [True, False])
def test_an_account_that_was_given_to_somebody_without_a_readable_address_is_not_locked(
    world: World, unreadable: bool, by_command: bool
) -> None:
    sales = group(world, "Sales")
    person(world, "bob", sales)
    former, account = joined(world, "ada", sales)
    copy = world.path.read_bytes(), world.observer.remembered()
    suspend(world, former)
    world.jumpcloud.update_user(former, email="ada.alt@example.com")
    world.admin_changed()
    cycle(world)
    heir = person(world, "ada", sales)
    cycle(world)
    adopt(world, "ada@example.com")
    cycle(world)
    cycle(world)
    assert world.keeper.account("ada@example.com").external_id == heir
    if unreadable:
        world.jumpcloud.oddities.spoil(heir, email=7)
    put_back(world, *copy, by_command=by_command)
    world.rules.safety = {"max_creations": 50}
    cycle(world)
    cycle(world, resync=True)
    assert not world.keeper.accounts()[account].locked


def test_a_resync_of_a_ghost_ties_it_to_nobody_whose_creation_was_linked_to_it(world: World) -> None:
    world.keeper.set_dialect(links_aliases=True)
    sales = group(world, "Sales")
    joined(world, "bob", sales)
    ghost = world.keeper.add_user("former@example.com")
    gets_alias(world, ghost, "ada@example.com")
    world.admin_changed(ghost)
    cycle(world, resync=True)
    ada = person(world, "ada", sales)
    cycle(world, {f"POST {SCIM}/Users#1": "death_after"})
    adopt(world, "former@example.com")
    cycle(world, person="former@example.com", resync=True)
    cycle(world)
    cycle(world, resync=True)
    with world.open() as store:
        row = store.snapshot().accounts[ghost]
    world.store = None
    assert row.jumpcloud_id != ada


@pytest.mark.parametrize("odd", [True, False])
def test_a_leaver_whose_account_is_back_with_an_unreadable_state_is_locked(world: World, odd: bool) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    world.keeper.move_user_to_other_node(account, NODES[1])
    suspend(world, ada)
    world.admin_changed(account)
    cycle(world, resync=True)
    cycle(world, resync=True)
    world.keeper.move_user_to_other_node(account, NODES[0])
    world.admin_changed(account)
    if odd:
        world.keeper.show_oddly(account, {}, ("active",))
    for _ in range(4):
        cycle(world, resync=True)
        world.say(world.lane(Weather(1)))
    with world.open() as store:
        told = leavers.document(store, world.rules.settings(world.folder).policy(), claims.ALWAYS, world.time.now())
    world.store = None
    assert not [one for one in told["leavers"] if one["state"] == "locked_by_others"]
    assert not world.keeper.accounts()[account].active


def test_an_account_that_is_back_with_an_unreadable_state_was_locked_by_nobody(world: World) -> None:
    joined(world, "bob")
    _, account = joined(world, "ada")
    world.rules.safety = {"max_creations": 0, "always_allow": 0}
    world.keeper.move_user_to_other_node(account, NODES[1])
    world.admin_changed(account)
    cycle(world, resync=True)
    cycle(world, resync=True)
    world.keeper.move_user_to_other_node(account, NODES[0])
    world.admin_changed(account)
    world.keeper.show_oddly(account, {}, ("active",))
    for _ in range(2):
        cycle(world, resync=True)
    assert world.plan is not None
    assert not [n for n in world.plan.notices if n.kind.value == "locked_in_keeper"]


@pytest.mark.parametrize(("field", "remembered"), [("active", False), ("active", True), ("name", False)])
def test_a_link_without_an_answer_to_an_odd_record_is_undone_once_that_can_be_read(
    world: World, field: str, remembered: bool
) -> None:
    world.keeper.set_dialect(links_aliases=True)
    sales = group(world, "Sales")
    joined(world, "bob", sales)
    ghost = world.keeper.add_user("ghost@example.com")
    for address in ("nils@example.com", "ghost@example.com"):
        world.keeper.change_email(ghost, address)
    world.admin_changed(ghost)
    if remembered:
        cycle(world, resync=True)
        for node in (NODES[1], NODES[0]):
            world.keeper.move_user_to_other_node(ghost, node)
            world.admin_changed(ghost)
            if node == NODES[1]:
                cycle(world, resync=True)
    world.keeper.show_oddly(ghost, {"active": "perhaps"} if field == "active" else {"name": 3}, ())
    cycle(world, resync=True)
    person(world, "nils", sales)
    cycle(world, {f"POST {SCIM}/Users#1": "death_after"})
    cycle(world)
    cycle(world)
    world.keeper.show_oddly(ghost)
    cycle(world)
    ending(world, random.Random(1))
    found = world.keeper.account(ghost)
    assert (found.external_id, found.teams, found.pending_teams) == (None, (), ())


@pytest.mark.parametrize(("odd", "leaves"), [(0, False), (1, False), (3, True)])
@pytest.mark.parametrize("managed", [True, False])
def test_a_link_without_an_answer_is_undone_also_where_its_id_cannot_be_read(
    world: World, odd: int, leaves: bool, managed: bool
) -> None:
    world.rules.safety = {"max_creations": 50}
    world.keeper.set_dialect(links_aliases=True)
    sales = group(world, "Sales")
    joined(world, "bob", sales)
    if managed:
        _, ada = joined(world, "ada")
    else:
        ada = world.keeper.add_user("ada@example.com")
    gets_alias(world, ada, "nils@example.com")
    world.admin_changed(ada)
    cycle(world, resync=True)
    before = world.keeper.account(ada)
    nils = person(world, "nils", sales)
    cycle(world, {f"POST {SCIM}/Users#1": "death_after"})
    if leaves:
        suspend(world, nils)
    for _ in range(odd):
        world.keeper.show_oddly(ada, {"externalId": 5})
        cycle(world)
    world.keeper.show_oddly(ada)
    cycle(world)
    cycle(world)
    cycle(world)
    ending(world, random.Random(1))
    account = world.keeper.account(ada)
    assert (account.given_name or "", account.external_id) == (before.given_name or "", before.external_id)
    assert (account.teams, account.pending_teams) == ((), ())


def test_an_undo_leaves_an_id_that_the_list_could_not_show(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.keeper.set_dialect(links_aliases=True, link_updates=False)
    joined(world, "bob")
    other = world.keeper.add_user("ghost@example.com", external_id="hr-4711")
    gets_alias(world, other, "nils@example.com")
    world.admin_changed(other)
    world.keeper.show_oddly(other, {"externalId": 5})
    person(world, "nils")
    handle = world.keeper.handle

    def healed(asked: Request) -> Response:
        if asked.method == "POST":
            world.keeper.show_oddly(other)
        return handle(asked)

    monkeypatch.setattr(world.keeper, "handle", healed)
    cycle(world, resync=True)
    assert world.keeper.accounts()[other].external_id == "hr-4711"


@pytest.mark.parametrize("between", ["lane", "resync", "nothing"])
def test_a_partial_cycle_about_the_former_owner_leaves_whom_a_person_has_named(world: World, between: str) -> None:
    world.rules.policy["grace"] = "24h"
    person(world, "bob")
    former, _ = joined(world, "ada")
    world.jumpcloud.update_user(former, email="ada.alt@example.com")
    world.jumpcloud.unbind_user(world.application, former)
    world.admin_changed()
    cycle(world)
    heir = person(world, "ada")
    cycle(world)
    adopt(world, "ada@example.com")
    if between == "lane":
        suspend(world, former)
        world.time.elapsed += 60
        world.say(world.lane(Weather(1)))
    if between == "resync":
        cycle(world, resync=True, person="ada.alt@example.com")
    cycle(world)
    cycle(world)
    assert world.keeper.account("ada@example.com").external_id == heir


@pytest.mark.parametrize("open_", [False, True])
def test_an_odd_record_shows_its_address_while_a_creation_is_open(world: World, open_: bool) -> None:
    world.rules.safety = {"max_creations": 50}
    sales = group(world, "Sales")
    joined(world, "bob", sales)
    ghost = world.keeper.add_user("old@example.com")
    world.admin_changed(ghost)
    cycle(world, resync=True)
    person(world, "nils")
    cycle(world, {f"POST {SCIM}/Users#1": "death_before"} if open_ else {})
    # The account is a contractor's by now, whose id cannot be read; the address is given to somebody new.
    world.keeper.change_email(ghost, "contractor@example.com", keep_alias=False)
    world.keeper.show_oddly(ghost, {"externalId": 5})
    world.admin_changed(ghost)
    person(world, "old", sales)
    cycle(world, resync=True)
    found = world.keeper.accounts()[ghost]
    assert (found.external_id, found.teams, found.pending_teams) == (None, (), ())


@pytest.mark.parametrize("taken", [True, False])
def test_the_lane_locks_whose_account_has_kept_the_id_of_their_former_user(world: World, taken: bool) -> None:
    world.rules.policy["out_of_scope"] = "keep"
    person(world, "bob")
    old, account = joined(world, "ada")
    world.jumpcloud.unbind_user(world.application, old)
    world.admin_changed()
    cycle(world)
    new = person(world, "ada")  # made again in JumpCloud; the account is still open
    cycle(world, resync=True)
    adopt(world, "ada@example.com")
    refused = {} if taken else {f"PATCH {SCIM}/Users/{account}": "refused"}
    cycle(world, refused)
    cycle(world, refused)
    suspend(world, new)
    world.jumpcloud.oddities.take_down("/api/v2/applications/[^/]+/users", 500)
    ten_minutes(world)
    assert world.keeper.accounts()[account].locked


@pytest.mark.parametrize("paths", [True, False])
def test_the_lane_locks_no_account_with_the_id_and_the_address_of_somebody_in_scope(world: World, paths: bool) -> None:
    """A person adopted it for the other one who has the address, while its own was staged."""
    _, other, account = given_beside_a_staged_one(world)
    cycle(world)
    suspend(world, other)
    if not paths:
        world.jumpcloud.oddities.take_down("/api/v2/users/[^/]+/applications", 500)
    world.time.elapsed += 60
    world.lane(Weather(0))
    assert not world.keeper.account(account).locked and not world.observer.violations


@pytest.mark.parametrize("renamed", [False, True])
def test_the_account_that_a_first_plan_found_is_theirs_under_a_new_address(world: World, renamed: bool) -> None:
    ada, old = found_unreviewed(world)
    if renamed:
        world.jumpcloud.update_user(ada, email="ada.new@example.com")
        world.admin_changed()
        unreviewed(world)
    suspend(world, ada)
    unreviewed(world)
    cycle(world)
    cycle(world, resync=True)
    ending(world, random.Random(1))
    assert world.keeper.accounts()[old].locked


def test_a_look_at_one_person_before_the_review_ties_no_account_to_who_has_left(world: World) -> None:
    former, account = found_unreviewed(world)
    world.jumpcloud.delete_user(former)
    world.admin_changed()
    cycle(world, person="ada@example.com", resync=True)
    heir = person(world, "ada")
    ending(world, random.Random(1))
    found = world.keeper.accounts()[account]
    assert (found.external_id, found.locked) == (heir, False)


def test_an_account_that_a_first_plan_found_is_not_locked_once_its_address_is_somebody_elses(world: World) -> None:
    ada, account = found_unreviewed(world)
    world.jumpcloud.update_user(ada, email="kim@example.com")
    world.admin_changed()
    cycle(world)  # ada is invited under the new address
    suspend(world, ada)
    cycle(world)  # our lock withdraws the invitation
    cycle(world)  # the account is taken for ada's, and its lock waits for consent
    with world.open() as store:
        assert store.snapshot().accounts[account].jumpcloud_id == ada
    # The lane, which never locks it, does not read it each minute either.
    weather = Weather(0)
    world.lane(weather)
    assert not any(ada in name or account in name for name in weather.seen)
    person(world, "ada")
    ending(world, random.Random(1))
    assert not world.keeper.accounts()[account].locked


def test_nobodys_account_is_locked_once_who_has_left_with_its_address_is_known(world: World) -> None:
    joined(world, "bob")
    world.jumpcloud.update_user(person(world, "cy"), email="")
    ada = world.jumpcloud.add_user("ada@example.com", state="SUSPENDED", firstname="Ada", lastname="Test")
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    adopt(world, "ada@example.com")
    cycle(world)
    world.jumpcloud.bind_user(world.application, ada)  # nobody has read her before
    world.admin_changed()
    ending(world, random.Random(1))
    assert world.keeper.accounts()[account].locked


@pytest.mark.parametrize("leaves", [False, True])
def test_a_look_at_who_has_the_id_of_an_account_takes_it_from_nobody_with_its_address(
    world: World, leaves: bool
) -> None:
    joined(world, "cy")
    ada = person(world, "ada")
    account = world.keeper.add_user("bob@example.com", external_id=ada)
    world.keeper.accept_invitation(account)
    if leaves:
        suspend(world, ada)
    world.admin_changed(account)
    cycle(world, resync=True)
    adopt(world, "bob@example.com")
    bob = person(world, "bob")
    cycle(world, person="ada@example.com", resync=True)
    cycle(world)
    assert world.keeper.accounts()[account].external_id == bob


def test_a_look_at_one_person_gives_nobody_the_address_of_another(world: World) -> None:
    world.rules.policy["address_change"] = "send"
    ada, account = joined(world, "ada")
    world.jumpcloud.update_user(person(world, "bob"), email="new@example.com")
    world.jumpcloud.update_user(ada, email="new@example.com")
    world.admin_changed()
    cycle(world, person="ada@example.com", resync=True)
    assert world.keeper.accounts()[account].email == "ada@example.com"


def test_a_look_at_an_account_with_the_id_of_another_one_gives_that_one_no_second(world: World) -> None:
    bob, account = joined(world, "bob")
    second = world.keeper.add_user("second@example.com", external_id=bob)
    world.admin_changed(second)
    cycle(world, resync=True)
    adopt(world, "second@example.com")
    cycle(world, person="second@example.com", resync=True)
    with world.open() as store:
        rows = store.snapshot().accounts
    world.store = None
    assert [key for key, row in rows.items() if row.jumpcloud_id == bob] == [account]


def test_a_look_at_an_account_that_is_nobodys_takes_it_from_nobody_without_an_address(world: World) -> None:
    joined(world, "bob")
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    adopt(world, "ada@example.com")
    cycle(world)
    consent_to_held(world)
    world.jumpcloud.update_user(person(world, "cy"), email="")
    cycle(world, person="ada@example.com", resync=True)
    assert not world.keeper.accounts()[account].locked


def test_whoever_comes_back_is_not_locked_for_a_lock_that_a_link_had_undone_long_ago(world: World) -> None:
    """Nothing but the lock shows of a link where Keeper takes no id and no names."""
    names = frozenset({"externalId", "displayName", "name.givenName", "name.familyName"})
    world.keeper.set_dialect(links_aliases=True, link_unlocks=True, ignored_attributes=names)
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    joined(world, "eve")
    ada, account = joined(world, "ada")
    world.keeper.change_email(account, "old@example.com", keep_alias=True)
    suspend(world, ada)
    cycle(world, resync=True)
    world.jumpcloud.update_user(ada, email="ada.alt@example.com")
    person(world, "ada")
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "error"})  # the link is not undone at once
    assert not world.keeper.accounts()[account].locked
    cycle(world)
    assert world.keeper.accounts()[account].locked
    activate(world, ada)
    for _ in range(3):
        cycle(world, resync=True)
    assert not world.keeper.accounts()[account].locked


def test_a_link_is_undone_though_no_read_bears_out_the_lock_of_its_owner(world: World) -> None:
    world.keeper.set_dialect(links_aliases=True, link_unlocks=True)
    world.rules.safety = {"max_creations": 50}
    world.rules.policy["grace"] = "0s"
    joined(world, "bob")
    joined(world, "eve")
    ada, account = joined(world, "ada")
    world.keeper.change_email(account, "old@example.com", keep_alias=True)
    world.jumpcloud.unbind_user(world.application, ada)
    world.admin_changed()
    cycle(world, resync=True)
    world.jumpcloud.update_user(ada, email="ada.alt@example.com")
    person(world, "ada")
    cycle(world, {f"POST {SCIM}/Users": "late_timeout"})
    assert not world.keeper.accounts()[account].locked
    world.jumpcloud.oddities.take_down(f"/api/v2/users/{ada}/.*", 403)
    cycle(world)
    assert world.keeper.accounts()[account].external_id == ada
    assert world.keeper.accounts()[account].locked


def test_a_lock_without_an_answer_was_of_the_account_for_which_it_was_sent(world: World) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "timeout"})
    activate(world, ada)
    for _ in range(2):
        cycle(world, resync=True)
    world.keeper.delete_user(account)
    new = world.keeper.add_user("ada@example.com", locked=True)
    world.admin_changed(account, new)
    for _ in range(3):
        cycle(world, resync=True)
    assert world.keeper.accounts()[new].locked
    ending(world, random.Random(1))


def test_a_lock_of_a_former_account_is_none_on_the_one_that_was_away(world: World) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world)
    activate(world, ada)
    world.keeper.delete_user(account)
    new = world.keeper.add_user("ada@example.com")
    world.admin_changed(account, new)
    cycle(world, resync=True)
    world.keeper.move_user_to_other_node(new, NODES[1])
    world.admin_changed(new)
    cycle(world, resync=True)
    for changes in (suspend, activate):
        changes(world, ada)
        cycle(world, resync=True)
    world.keeper.lock(new)  # perhaps to transfer the vault
    world.keeper.move_user_to_other_node(new, NODES[0])
    world.admin_changed(new)
    for _ in range(2):
        cycle(world, resync=True)
    assert world.keeper.accounts()[new].locked
    ending(world, random.Random(1))


@pytest.mark.parametrize("answered", [True, False])
def test_a_lock_of_a_former_account_is_none_on_the_one_that_a_creation_meets(world: World, answered: bool) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world)
    world.keeper.delete_user(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    activate(world, ada)

    def made() -> None:
        tied = None if answered else ada
        world.admin_changed(world.keeper.add_user("ada@example.com", locked=True, external_id=tied))

    sky = Weather(1, script={f"Keeper POST {SCIM}/Users": "slow" if answered else "timeout"})
    sky.then = made if answered else None
    world.time.elapsed += 600
    world.cycle(Order(resync=True, by="root"), sky)
    if not answered:
        made()
    for _ in range(2):
        cycle(world, resync=True)
    assert world.keeper.account("ada@example.com").locked
    ending(world, random.Random(1))


def test_an_account_that_two_people_of_one_address_claim_is_left_as_it_is(world: World) -> None:
    """A person has given it to one of them, while the one whose id it bears was only staged."""
    given_beside_a_staged_one(world)
    ending(world, random.Random(1))


def left_in_another_node(world: World) -> tuple[str, str]:
    """Ada, who has another account and address since hers was moved to another node: her id and that of the first."""
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    joined(world, "cy")
    ada, first = joined(world, "ada")
    world.keeper.move_user_to_other_node(first, NODES[1])
    world.jumpcloud.update_user(ada, email="ada.new@example.com")
    world.admin_changed(first)
    cycle(world, resync=True)
    return ada, first


def back_oddly(world: World, account: str, field: str) -> None:
    """The account is back in the node, and one list shows it without this field."""
    world.keeper.move_user_to_other_node(account, NODES[0])
    world.admin_changed(account)
    world.keeper.show_oddly(account, {} if field == "active" else {field: 5}, ("active",) if field == "active" else ())
    cycle(world, resync=True)


@pytest.mark.parametrize("field", ["active", "userName", "externalId"])
def test_a_record_that_is_odd_once_does_not_hide_whose_the_former_account_of_a_leaver_was(
    world: World, field: str
) -> None:
    ada, first = left_in_another_node(world)
    suspend(world, ada)
    cycle(world)  # our lock withdraws her new invitation
    cycle(world, resync=True)
    back_oddly(world, first, field)
    world.keeper.show_oddly(first)
    ending(world, random.Random(1))
    assert world.keeper.accounts()[first].locked


@pytest.mark.parametrize("when", ["before", "while", "partial", "after"])
def test_a_record_that_is_odd_once_gives_nobody_the_former_account_of_another(world: World, when: str) -> None:
    """Keeper keeps no ids, so that nothing but our memory says whose it was."""
    world.keeper.set_dialect(ignored_attributes=["externalId"])
    _, first = left_in_another_node(world)
    heir = person(world, "ada") if when == "before" else ""
    back_oddly(world, first, "active")
    if when in ("while", "partial"):
        heir = person(world, "ada")
        cycle(world, resync=True, person="ada@example.com" if when == "partial" else "")
    before = world.keeper.accounts()[first]
    world.keeper.show_oddly(first)
    heir = heir or person(world, "ada")
    for _ in range(2):
        cycle(world, resync=True)
    with world.open() as store:
        assert store.snapshot().accounts[first].jumpcloud_id != heir
    world.store = None
    assert world.keeper.accounts()[first] == before


@pytest.mark.parametrize("was", ["a leaver's", "nobody's", "given up"])
def test_an_adoption_waits_for_the_list_of_users(world: World, was: str) -> None:
    """Without it, nobody could be meant: what a person has decided was spent on that, or the account was nobody's."""
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    joined(world, "cy")
    ada, account = joined(world, "ada")
    if was == "given up":
        disown(world, "ada@example.com")
        cycle(world)
    elif was == "nobody's":
        suspend(world, ada)
        cycle(world)
        world.keeper.delete_user(account)
        account = world.keeper.add_user("ada@example.com", external_id=ada)
        world.keeper.accept_invitation(account)
        world.admin_changed(account)
    world.jumpcloud.update_user(ada, email="ada.alt@example.com")
    if was != "given up":
        suspend(world, ada)
        cycle(world, resync=True)
        ada = person(world, "ada")
    world.admin_changed()
    cycle(world)
    adopt(world, "ada@example.com")
    lists = ("/api/systemusers", "/api/search/systemusers")
    for route in lists:
        world.jumpcloud.oddities.take_down(route, 500)
    for _ in range(2):
        cycle(world)
    for route in lists:
        world.jumpcloud.oddities.put_up(route)
    ending(world, random.Random(1))
    with world.open() as store:
        assert store.snapshot().accounts[account].jumpcloud_id == ada
    world.store = None
    found = world.keeper.accounts()[account]
    assert (found.external_id, found.locked) == (ada, False)


def test_a_look_at_the_account_that_a_first_plan_found_for_somebody_deleted_gives_them_no_second(world: World) -> None:
    """They have another account under another address; the one that was found may be anybody's."""
    world.rules.safety = {"max_creations": 50}
    ada, old = found_unreviewed(world)
    world.keeper.accept_invitation(old)
    world.jumpcloud.update_user(ada, email="ada.new@example.com")
    world.admin_changed(old)
    cycle(world)
    new = world.keeper.account("ada.new@example.com").id
    world.keeper.accept_invitation(new)
    world.jumpcloud.delete_user(ada)
    world.admin_changed(new)
    cycle(world, person="ada@example.com", resync=True)
    with world.open() as store:
        rows = store.snapshot().accounts
    world.store = None
    assert [key for key, row in rows.items() if row.jumpcloud_id == ada] == [new]
    ending(world, random.Random(1))
    found = world.keeper.accounts()
    assert (found[old].locked, found[new].locked) == (False, True)


@pytest.mark.parametrize("answered", [True, False])
def test_whoever_gets_a_former_account_back_by_a_creation_is_given_up_with_the_id_of_before(
    world: World, answered: bool
) -> None:
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    account = world.keeper.add_user("ada@example.com", external_id="hr-4711")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    ada = person(world, "ada")
    cycle(world, resync=True)
    world.keeper.move_user_to_other_node(account, NODES[1])
    world.jumpcloud.update_user(ada, email="ada.new@example.com")
    world.admin_changed(account)
    cycle(world, resync=True)
    second = world.keeper.account("ada.new@example.com").id
    world.keeper.delete_user(second)
    world.jumpcloud.update_user(ada, email="ada@example.com")
    world.admin_changed(second)

    def back() -> None:
        world.keeper.move_user_to_other_node(account, NODES[0])
        world.admin_changed(account)

    sky = Weather(1, script={f"Keeper POST {SCIM}/Users": "slow" if answered else "late_timeout"}, then=back)
    world.time.elapsed += 600
    world.say(world.cycle(Order(resync=True, by="root"), sky))
    cycle(world, resync=True)
    assert world.keeper.accounts()[account].external_id == ada
    disown(world, "ada@example.com")
    cycle(world)
    assert world.keeper.accounts()[account].external_id == "hr-4711"


@pytest.mark.parametrize("between", ["nothing", "observe", "restore"])
def test_a_plan_that_nobody_reviewed_does_not_hide_whose_the_former_account_of_a_leaver_was(
    world: World, between: str
) -> None:
    """Somebody in scope has its address by now, so that a person agrees to the lock."""
    ada, first = left_in_another_node(world)
    suspend(world, ada)
    cycle(world)  # our lock withdraws her new invitation
    cycle(world, resync=True)
    person(world, "ada")
    world.keeper.move_user_to_other_node(first, NODES[0])
    world.admin_changed(first)
    if between == "observe":
        world.rules.policy["mode"] = "observe"
    elif between == "restore":
        copy = world.folder / "copy"
        copy.write_bytes(world.path.read_bytes())
        known = world.observer.remembered()
        Store.restore(world.path, copy)
        world.observer.remembers(known, by_command=True)
    if between != "nothing":
        unreviewed(world)
    world.rules.policy.pop("mode", None)
    ending(world, random.Random(1))
    assert world.keeper.accounts()[first].locked


@pytest.mark.parametrize("managed", [True, False])
def test_a_link_is_undone_once_its_account_is_back_though_the_person_was_created_under_another_address(
    world: World, managed: bool
) -> None:
    """Keeper had refused the undo, and the account was in another node when its person got one of their own."""
    world.rules.safety = {"max_creations": 50}
    world.keeper.set_dialect(links_aliases=True)
    sales = group(world, "Sales")
    joined(world, "bob", sales)
    ada = joined(world, "ada")[1] if managed else world.keeper.add_user("ada@example.com")
    gets_alias(world, ada, "nils@example.com")
    world.admin_changed(ada)
    cycle(world, resync=True)
    before = world.keeper.accounts()[ada]
    nils = person(world, "nils", sales)
    cycle(world, {f"PATCH {SCIM}/Users/{ada}": "refused"})
    assert world.keeper.accounts()[ada].external_id == nils
    world.jumpcloud.update_user(nils, email="nils.new@example.com")
    for node in (NODES[1], NODES[0]):
        world.keeper.move_user_to_other_node(ada, node)
        world.admin_changed(ada)
        cycle(world, resync=True)
    assert world.keeper.account("nils.new@example.com").external_id == nils
    cycle(world, resync=True)
    found = world.keeper.accounts()[ada]
    assert (found.external_id, found.teams, found.pending_teams) == (before.external_id, (), ())
    ending(world, random.Random(1))


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("ours", [True, False])
def test_whose_lock_a_creation_meets_on_the_former_account_is_told_by_that_account(
    world: World, ours: bool, answered: bool
) -> None:
    """The journal does not have a lock that was there when we came, nor tell whether the last one there is undone."""
    world.rules.safety = {"max_creations": "100%"}
    person(world, "zoe")
    if ours:
        ada = person(world, "ada")
        suspend(world, ada)
        account = world.keeper.add_user("ada@example.com", external_id=ada, locked=True)
        world.admin_changed(account)
        cycle(world)
    else:
        ada, account = joined(world, "ada")
        suspend(world, ada)
        cycle(world)
        world.keeper.unlock(account)
        world.admin_changed(account)
    activate(world, ada)
    if not ours:
        cycle(world, resync=True)
    moves(world, account)
    cycle(world, {f"POST {SCIM}/Users": "refused"}, resync=True)
    world.keeper.lock(account)
    world.admin_changed(account)
    kind = "slow" if answered else "late_timeout"
    back = Weather(1, script={f"Keeper POST {SCIM}/Users": kind}, then=lambda: moves(world, account, back=True))
    world.time.elapsed += 600
    world.say(world.cycle(Order(by="root", person="ada@example.com"), back))
    cycle(world, resync=True)
    cycle(world, resync=True)
    assert world.keeper.account(account).active is ours


def test_a_look_at_a_link_that_stands_forgets_no_lock_that_it_has_undone(world: World) -> None:
    """The undo was refused, and nothing could be listed; the undo after the look is refused, too."""
    world.rules.safety = {"max_creations": "100%"}
    world.keeper.set_dialect(links_aliases=True, link_unlocks=True)
    person(world, "zoe")
    _, account = joined(world, "ada")
    gets_alias(world, account, "bob@example.com")
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    person(world, "bob")

    def unread(reply: Response) -> Response:
        return reply if world.keeper.account(account).locked else Response.of_json(500, {})

    refused = {f"Keeper PATCH {SCIM}/Users/{account}": "refused"}
    world.time.elapsed += 600
    world.say(world.cycle(Order(by="root"), Weather(1, script=refused, edits={f"Keeper GET {SCIM}/Users": unread})))
    assert not world.keeper.account(account).locked
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "refused"}, person="ada@example.com", resync=True)
    cycle(world)
    cycle(world, resync=True)
    assert world.keeper.account(account).locked


def addresses_behind(reply: Response) -> Response:
    """Ada still has the address that Bob has by now, and he the one before."""
    return Response(reply.status, reply.headers, reply.body.replace(b'"ada@', b'"bob@').replace(b'"ada.new@', b'"ada@'))


SEARCHES_BEHIND = dict.fromkeys(
    ("JumpCloud GET /api/systemusers?", "JumpCloud POST /api/search/systemusers"), addresses_behind
)


def test_a_look_by_a_list_that_is_behind_ties_nobody_to_the_account_of_another(world: World) -> None:
    """Bob has just got the address that Ada had, and an account under it by hand."""
    joined(world, "zoe")
    ada, bob = person(world, "ada.new"), person(world, "ada")
    account = world.keeper.add_user("ada@example.com")
    world.admin_changed(account)
    order = Order(resync=True, person="ada@example.com", by="root")
    world.say(world.cycle(order, Weather(1, edits=SEARCHES_BEHIND)))
    assert world.keeper.accounts()[account].external_id is None
    cycle(world)
    assert world.keeper.accounts()[account].external_id == bob
    assert world.keeper.account("ada.new@example.com").external_id == ada


def test_to_unlock_whoever_has_an_address_unlocks_nobody_who_had_it_by_a_list_that_is_behind(world: World) -> None:
    """Ada has another address by now, in Keeper too, and an administrator has locked her account."""
    joined(world, "zoe")
    ada, account = joined(world, "ada")
    world.keeper.change_email(account, "ada.new@example.com", keep_alias=False)
    world.keeper.lock(account)
    world.jumpcloud.update_user(ada, email="ada.new@example.com")
    world.admin_changed(account)
    cycle(world, resync=True)
    order = Order(resync=True, person="ada@example.com", unlock=True, by="root")
    world.say(world.cycle(order, Weather(1, edits=SEARCHES_BEHIND)))
    assert world.keeper.accounts()[account].locked
    cycle(world, person="ada.new@example.com", unlock=True)
    assert world.keeper.accounts()[account].active


def test_a_link_to_an_account_that_the_same_apply_has_changed_is_undone_by_the_next_cycle(world: World) -> None:
    """The apply was told of the account before the list showed the link."""
    world.rules.safety = {"max_creations": 50}
    world.keeper.set_dialect(links_aliases=True)
    sales = group(world, "Sales")
    joined(world, "zoe", sales)
    ada, account = joined(world, "ada")
    world.keeper.change_email(account, "ada.new@example.com", keep_alias=True)
    world.jumpcloud.update_user(ada, email="ada.new@example.com", firstname="Augusta")
    world.admin_changed(account)
    cycle(world, resync=True)
    world.jumpcloud.update_user(ada, firstname="Ada")
    world.jumpcloud.update_user(person(world, "bob", sales), email="ada@example.com")
    world.admin_changed()
    cycle(world, {f"POST {SCIM}/Users": "late_timeout"})
    world.time.elapsed += 30
    world.say(world.cycle(Order(by="schedule"), Weather(1)))
    assert world.keeper.accounts()[account].external_id == ada
    assert not world.keeper.accounts()[account].teams


def test_an_account_that_was_adopted_as_nobodys_is_not_locked_while_somebody_in_scope_has_its_id(world: World) -> None:
    """She has another one by now, which had left the node when a person adopted this one."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world)
    moves(world, account)
    cycle(world, resync=True)
    other = world.keeper.add_user("x@example.com", external_id=ada)
    world.keeper.accept_invitation(other)
    world.admin_changed(other)
    cycle(world, resync=True)
    adopt(world, "x@example.com")
    world.time.elapsed += 5 * 3600  # the review of the first plan lets nothing through any more
    cycle(world)
    moves(world, account, back=True)
    activate(world, ada)
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.keeper.account(account).active and world.keeper.account(other).active
    suspend(world, ada)
    ending(world, random.Random(1))
    assert world.keeper.account(account).locked and world.keeper.account(other).locked


@pytest.mark.parametrize("partial", [True, False])
def test_a_leaver_gets_no_account_that_may_be_of_somebody_whose_address_cannot_be_read(
    world: World, partial: bool
) -> None:
    """It carries the leaver's id, and another address than theirs."""
    person(world, "zoe")
    ada, bob = person(world, "ada"), person(world, "bob")
    suspend(world, ada)
    account = world.keeper.add_user("bob@example.com", external_id=ada)
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    if partial:
        unreviewed(world)
    world.jumpcloud.oddities.spoil(bob, email=7)
    cycle(world, resync=True, person="ada@example.com" if partial else "")
    world.jumpcloud.oddities.heal(bob)
    ending(world, random.Random(1))
    assert not world.keeper.accounts()[account].locked


@pytest.mark.parametrize("how", ["odd", "hidden", "readable"])
def test_what_a_person_adopts_goes_to_nobody_else_by_its_id_while_an_address_cannot_be_read(
    world: World, how: str
) -> None:
    world.rules.safety = {"max_creations": 50}
    joined(world, "zoe")
    ada, bob = person(world, "ada"), person(world, "bob")
    account = world.keeper.add_user("bob@example.com", external_id=ada)
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    adopt(world, "bob@example.com")  # as the conflict advises, for bob
    if how == "odd":
        world.jumpcloud.oddities.spoil(bob, email=7)
    elif how == "hidden":
        world.jumpcloud.hide_user(bob)
    cycle(world, resync=True)
    if how != "readable":
        assert world.plan is not None
        assert [one for one in world.plan.notices if f"record of {bob} can be read" in one.message]
        world.jumpcloud.oddities.heal(bob)
        world.jumpcloud.show_user(bob)
        world.admin_changed()
        cycle(world, resync=True)
        assert world.keeper.accounts()[account].external_id == ada
        adopt(world, "bob@example.com")
        cycle(world, resync=True)
    assert world.keeper.accounts()[account].external_id == bob


@pytest.mark.parametrize("partial", [True, False])
def test_nobody_is_let_in_to_an_account_that_may_be_of_somebody_whose_address_cannot_be_read(
    world: World, partial: bool
) -> None:
    """A first plan had adopted it for a leaver by their id alone."""
    world.rules.safety = {"max_creations": 50}
    person(world, "zoe")
    ada = person(world, "ada")
    suspend(world, ada)
    account = world.keeper.add_user("bob@example.com", external_id=ada)
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    bob = person(world, "bob")
    cycle(world)
    activate(world, ada)
    cycle(world)
    world.jumpcloud.oddities.spoil(bob, email=7)
    cycle(world, resync=True, person="ada@example.com" if partial else "")
    assert world.keeper.accounts()[account].locked
    assert world.plan is not None
    shows = "a whole cycle has read everybody" if partial else f"JumpCloud's record of {bob} can be read"
    assert [one for one in world.plan.notices if f"who has its address shows once {shows}" in one.message]
    world.jumpcloud.oddities.heal(bob)
    ending(world, random.Random(1))


def test_an_account_that_a_first_plan_found_is_not_locked_while_an_address_cannot_be_read(world: World) -> None:
    """Its address is that of somebody who has joined since; a person has let the lock through."""
    ada, account = found_unreviewed(world)
    world.jumpcloud.update_user(ada, email="kim@example.com")
    world.admin_changed()
    cycle(world)
    suspend(world, ada)
    for _ in range(2):
        cycle(world)
    heir = person(world, "ada")
    world.jumpcloud.oddities.spoil(heir, email=7)
    assert consent_to_held(world)
    cycle(world)
    assert not world.keeper.accounts()[account].locked
    world.jumpcloud.oddities.heal(heir)
    ending(world, random.Random(1))
    assert not world.keeper.accounts()[account].locked


@pytest.mark.parametrize("unlocked", [False, True])
def test_whom_our_lock_keeps_out_is_created_anew_though_somebody_locked_an_older_account_of_theirs(
    world: World, unlocked: bool
) -> None:
    """The vault of the older one was transferred; since then Keeper has had another account under the address."""
    ada, former = joined(world, "ada")
    joined(world, "bob")
    world.keeper.lock(former)
    world.admin_changed(former)
    cycle(world, resync=True)
    world.keeper.delete_user(former)
    world.admin_changed(former)
    assert "locked_in_keeper" in cycle(world, resync=True)
    if unlocked:
        cycle(world, person="ada@example.com", unlock=True)
    else:
        world.admin_changed(world.keeper.add_user("ada@example.com", state="invited"))
    cycle(world, resync=True)
    suspend(world, ada)
    cycle(world)  # withdraws the invitation
    cycle(world, resync=True)
    assert [one.email for one in world.keeper.accounts().values()] == ["bob@example.com"]
    activate(world, ada)
    cycle(world)
    assert world.keeper.account("ada@example.com").active


def test_an_older_account_under_the_address_lets_no_lock_of_somebody_else_be_undone(world: World) -> None:
    ada = person(world, "ada")
    joined(world, "bob")
    suspend(world, ada)
    cycle(world)  # withdraws the invitation
    cycle(world, resync=True)
    activate(world, ada)
    cycle(world)
    account = world.keeper.account("ada@example.com").id
    world.keeper.accept_invitation(account)
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    moves(world, account)
    assert "locked_in_keeper" in cycle(world, resync=True)
    suspend(world, ada)
    cycle(world)
    closed = decisions.disowns(world, _Chosen(world.keeper.account(account)))
    assert "is closed" in closed, closed
    activate(world, ada)
    assert "locked_in_keeper" in cycle(world)
    moves(world, account, back=True)
    cycle(world, resync=True)
    assert world.keeper.account(account).locked


def who_has_an_alias(world: World, name: str, **names: str) -> tuple[str, str]:
    """Somebody with these names in JumpCloud, and with the address of Nils as an alias: both ids."""
    one = world.jumpcloud.add_user(f"{name}@example.com", state="ACTIVATED", **names)
    world.jumpcloud.bind_user(world.application, one)
    account = world.keeper.add_user(f"{name}@example.com", given_name=name)
    gets_alias(world, account, "nils@example.com")
    world.admin_changed(account)
    return one, account


def test_an_answer_does_not_hide_what_was_there_before_a_link_without_one(world: World) -> None:
    """Ada's change is answered with the names of Nils, whose creation has no answer yet. Where JumpCloud says nothing
    of a name, nothing else would give hers back."""
    world.keeper.set_dialect(links_aliases=True)
    joined(world, "bob")
    ada, account = who_has_an_alias(world, "ada", lastname="Test")
    cycle(world, resync=True)
    world.jumpcloud.update_user(ada, lastname="Lovelace")
    person(world, "nils")
    cycle(world, {f"POST {SCIM}/Users": "late_timeout", f"PATCH {SCIM}/Users/{account}#1": "slow"})
    cycle(world, resync=True)
    cycle(world, resync=True)
    there = world.keeper.account(account)
    assert (there.given_name, there.family_name, there.external_id) == ("ada", "Lovelace", ada)


def test_the_look_before_a_lock_does_not_hide_what_was_there_before_a_link_without_an_answer(world: World) -> None:
    """The reads of the lane before that look are a minute behind, and do not show the link yet."""
    world.keeper.set_dialect(links_aliases=True)
    joined(world, "bob")
    ada, account = who_has_an_alias(world, "ada", firstname="ada", lastname="Test")
    cycle(world, resync=True)
    nils = person(world, "nils")
    cycle(world, {f"POST {SCIM}/Users": "death_after"})
    suspend(world, ada)

    def behind(reply: Response) -> Response:
        body = reply.body.replace(nils.encode(), ada.encode()).replace(b"nils", b"ada")
        return Response(reply.status, reply.headers, body)

    world.say(world.lane(Weather(1, edits={f"Keeper GET {SCIM}/Users/{account}#{n}": behind for n in (1, 2)})))
    for _ in range(3):
        cycle(world, resync=True)
    there = world.keeper.account(account)
    assert there.locked
    assert (there.given_name, there.external_id) == ("ada", ada)


def test_a_link_stands_whose_undo_never_arrived(world: World) -> None:
    """A place in a team that Keeper does not show before it is approved does not prove the undo."""
    world.keeper.set_dialect(links_aliases=True, queues_every_membership=True, shows_pending_memberships=False)
    sales = group(world, "Sales")
    joined(world, "bob", sales)
    account = world.keeper.add_user("ada@example.com", given_name="ada")
    gets_alias(world, account, "nils@example.com")
    world.admin_changed(account)
    cycle(world, resync=True)
    person(world, "nils", sales)
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "timeout"})
    cycle(world, resync=True)
    there = world.keeper.account(account)
    assert (there.given_name, there.teams, there.pending_teams, there.external_id) == ("ada", (), (), None)


@pytest.mark.parametrize("refused", [True, False])
def test_of_a_link_that_keeper_undoes_in_part_the_rest_is_undone_later(
    world: World, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    """Keeper refuses one of two teams, or both together; then the answer to the first is lost."""
    world.keeper.set_dialect(links_aliases=True)
    sales, legal = group(world, "Sales"), group(world, "Legal")
    joined(world, "bob", sales, legal)
    account = world.keeper.add_user("ada@example.com")
    gets_alias(world, account, "nils@example.com")
    world.admin_changed(account)
    cycle(world, resync=True)
    teams = [team.id.encode() for team in world.keeper.teams().values() if team.name == "Legal" or not refused]
    handle = world.keeper.handle

    def refusing(asked: Request) -> Response:
        if asked.method == "PATCH" and all(team in asked.body for team in teams):
            return Response.of_json(400, {"message": "not so"})
        return handle(asked)

    monkeypatch.setattr(world.keeper, "handle", refusing)
    person(world, "nils", sales, legal)
    cycle(world)
    cycle(world, {} if refused else {f"PATCH {SCIM}/Users/{account}#2": "late_timeout"})
    assert len(teams_of(world, "ada")) == 1
    monkeypatch.undo()
    cycle(world, resync=True)
    assert teams_of(world, "ada") == set()


def test_a_lock_of_ours_that_an_undo_without_an_answer_sets_again_is_ours(world: World) -> None:
    """Else whoever comes back would stay locked out. By the settings nobody is locked again whom somebody else has let
    in, so that the undo alone does it."""
    world.rules.safety = {"max_creations": 50}
    world.keeper.set_dialect(links_aliases=True, link_unlocks=True)
    joined(world, "bob")
    ada, account = joined(world, "ada")
    gets_alias(world, account, "nils@example.com")
    world.admin_changed(account)
    suspend(world, ada)
    cycle(world, resync=True)
    world.rules.policy["drift"] = "report"
    person(world, "nils")
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "refused"})
    assert world.keeper.account(account).active
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "late_timeout"})
    assert world.keeper.account(account).locked
    activate(world, ada)
    cycle(world, resync=True)
    assert world.keeper.account(account).active


def test_an_undo_is_not_done_whose_answer_shows_what_it_was_to_take_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.keeper.set_dialect(links_aliases=True)
    sales = group(world, "Sales")
    joined(world, "bob", sales)
    account = world.keeper.add_user("ada@example.com")
    gets_alias(world, account, "nils@example.com")
    world.admin_changed(account)
    cycle(world, resync=True)
    handle = world.keeper.handle

    def deaf(asked: Request) -> Response:
        body = asked.body.replace(b'"remove"', b'"add"') if asked.method == "PATCH" else asked.body
        return handle(replace(asked, body=body))

    monkeypatch.setattr(world.keeper, "handle", deaf)
    person(world, "nils", sales)
    cycle(world)
    monkeypatch.undo()
    cycle(world, resync=True)
    assert teams_of(world, "ada") == set()


def test_a_place_that_an_undo_could_not_take_back_is_taken_back_once_it_shows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keeper refuses the undo with the team. That it does not show the place before it is approved proves nothing."""
    world.keeper.set_dialect(links_aliases=True, queues_every_membership=True, shows_pending_memberships=False)
    sales = group(world, "Sales")
    joined(world, "bob", sales)
    account = world.keeper.add_user("ada@example.com")
    gets_alias(world, account, "nils@example.com")
    world.admin_changed(account)
    cycle(world, resync=True)
    (team,) = world.keeper.teams()
    handle = world.keeper.handle

    def refusing(asked: Request) -> Response:
        refused = asked.method == "PATCH" and team.encode() in asked.body
        return Response.of_json(400, {"message": "not so"}) if refused else handle(asked)

    monkeypatch.setattr(world.keeper, "handle", refusing)
    person(world, "nils", sales)
    cycle(world)
    monkeypatch.undo()
    world.keeper.approve_all()
    world.admin_changed(account)
    cycle(world, resync=True)
    assert teams_of(world, "ada") == set()


@pytest.mark.parametrize("fault", ["late_timeout", "late_garbage"])
def test_a_team_that_a_link_gave_is_taken_though_it_was_unclear_at_first_whether_its_owner_is_in_it(
    world: World, fault: str
) -> None:
    world.rules.safety = {"max_creations": 50}
    world.keeper.set_dialect(links_aliases=True)
    sales = group(world, "Sales")
    for name in ("bob", "cy"):
        joined(world, name, sales)
    ada, account = joined(world, "ada")
    cycle(world, resync=True)
    world.keeper.change_email(account, "new@example.com", keep_alias=True)
    world.keeper.change_email(account, "ada@example.com", keep_alias=True)
    world.admin_changed(account)
    person(world, "new", sales)
    world.jumpcloud.oddities.spoil_node(ada, paths=7)
    cycle(world, {f"POST {SCIM}/Users": fault})
    cycle(world)
    assert world.keeper.accounts()[account].external_id == ada
    assert world.keeper.accounts()[account].teams
    world.jumpcloud.oddities.heal(ada)
    cycle(world)
    assert not world.keeper.accounts()[account].teams
