"""What the campaign has found, each as the shortest history that shows it, in words that can be read."""

import random
from dataclasses import replace
from typing import NoReturn

import pytest

from reconciler import decisions
from reconciler.cycle import Order
from reconciler.plan import Plan
from reconciler.simulator.service import Request, Response
from tests.campaign import decisions as campaign_decisions
from tests.campaign import ending as campaign_ending
from tests.campaign import organisation, troubles
from tests.campaign.decisions import put_back
from tests.campaign.ending import ending
from tests.campaign.rules import NODES
from tests.campaign.scenes import (
    SCIM,
    activate,
    adopt,
    cycle,
    disown,
    gets_alias,
    group,
    joined,
    person,
    suspend,
    teams_of,
    unreviewed,
)
from tests.campaign.seams import CampaignStore, Died, Weather
from tests.campaign.world import Spared, Trouble, World


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


@pytest.mark.parametrize("faults", [{"#2": "", "#3": "death_before"}, {"": "late_timeout"}])
def test_what_was_sent_team_by_team_proves_nothing_of_the_team_that_was_not_sent(
    world: World, faults: dict[str, str]
) -> None:
    """Else it would be waited for, for ever."""
    world.keeper.set_dialect(queues_every_membership=True, shows_pending_memberships=False)
    sales, legal = group(world, "Sales"), group(world, "Legal")
    ada = person(world, "ada", sales)
    cycle(world)
    account = world.keeper.account("ada@example.com").id
    world.keeper.accept_invitation(account)
    world.keeper.approve_all()
    world.jumpcloud.add_member(legal, ada)
    world.jumpcloud.remove_member(sales, ada)
    world.admin_changed(account)
    patch = f"PATCH {SCIM}/Users/{account}"
    cycle(world, {f"{patch}#1": "refused", **{patch + which: fault for which, fault in faults.items()}}, resync=True)
    assert teams_of(world, "ada") == set()
    cycle(world)
    cycle(world)
    assert teams_of(world, "ada") == {"Legal"}


@pytest.mark.parametrize("fault", ["refused", "timeout"])
def test_a_membership_that_waits_unseen_is_not_gone_since_nothing_shows_it(world: World, fault: str) -> None:
    world.keeper.set_dialect(queues_every_membership=True, shows_pending_memberships=False)
    sales = group(world, "Sales")
    ada = person(world, "ada", sales)
    person(world, "bob", sales)
    cycle(world)
    world.jumpcloud.remove_member(sales, ada)
    world.jumpcloud.bind_user(world.application, ada)
    world.admin_changed()
    patch = f"PATCH {SCIM}/Users/{world.keeper.account('ada@example.com').id}"
    cycle(world, {f"{patch}#1" if fault == "refused" else patch: fault})
    assert "refused" in world.lines[-1] or "timeout" in world.lines[-1]
    cycle(world)
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
    for number in range(9):
        person(world, f"p{number}")
    cycle(world)
    world.keeper.delete_user(world.keeper.account("p0@example.com").id)
    world.admin_changed()
    cycle(world, resync=True)
    for number in range(3):
        person(world, f"late{number}")
        cycle(world)
    created = {account.email for account in world.keeper.accounts().values()}
    assert "p0@example.com" in created and "late2@example.com" not in created


def test_who_was_locked_as_an_invitation_and_is_back_within_the_window_does_not_count(world: World) -> None:
    people = [person(world, f"p{number}") for number in range(9)]
    cycle(world)
    suspend(world, *people[:2])
    cycle(world)
    assert "p0@example.com" not in {account.email for account in world.keeper.accounts().values()}
    for number in range(2):
        person(world, f"late{number}")
        cycle(world)
    activate(world, *people[:2])
    cycle(world)
    created = {account.email for account in world.keeper.accounts().values()}
    assert created == {f"{name}@example.com" for name in [*(f"p{n}" for n in range(9)), "late0", "late1"]}


def _without_keepers_list(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the end of a history break Keeper's list of users, and let whoever is suspended be active again."""

    def refuses(world: World, _draw: random.Random) -> Trouble:
        world.keeper.refuse("Users", 500)
        return Trouble("Keeper's list of users", lambda: world.keeper.refuse("Users", None), Spared(newcomers=True))

    monkeypatch.setattr(organisation, "suspended", lambda *_: "nobody is suspended")
    monkeypatch.setattr(troubles, "trouble", refuses)
    campaign_ending.one_thing_broken(world, random.Random(1))


def test_an_account_that_is_nobodys_waits_for_the_list_of_users_and_a_leaver_does_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    ghost = world.keeper.add_user("ghost@example.com")
    world.admin_changed(ghost)
    cycle(world, resync=True)
    adopt(world, "ghost@example.com")

    def down(world: World, draw: random.Random) -> Trouble:
        world.jumpcloud.delete_user(ada)
        world.admin_changed()
        monkeypatch.setattr(draw, "choice", lambda found: 403 if 403 in found else "/api/systemusers")
        return troubles.list_down(world, draw)

    monkeypatch.setattr(troubles, "trouble", down)
    campaign_ending.one_thing_broken(world, random.Random(1))
    assert not world.observer.violations
    found = world.keeper.accounts()
    assert (found[account].locked, found[ghost].locked) == (True, False)


def test_who_had_a_protected_account_that_the_state_file_never_knew_waits_until_keeper_is_listed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined(world, "bob")
    ada = person(world, "ada")
    account = world.keeper.add_user("ada@example.com", external_id=ada)
    world.keeper.move_user_to_other_node(account, NODES[1])
    world.jumpcloud.suspend(ada)
    world.jumpcloud.update_user(ada, email="eve@example.com")
    world.admin_changed(account)
    world.rules.policy["protect"] = ["ada@example.com"]
    cycle(world)
    _without_keepers_list(world, monkeypatch)
    assert not world.observer.violations
    cycle(world, resync=True)
    assert world.keeper.account("eve@example.com").external_id == ada


def test_a_protected_person_whose_invitation_our_lock_withdrew_waits_until_keeper_is_listed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = person(world, "ada")
    joined(world, "bob")
    suspend(world, ada)
    cycle(world)
    world.rules.policy["protect"] = ["ada@example.com"]
    cycle(world)

    _without_keepers_list(world, monkeypatch)  # ada is active again
    assert "ada@example.com" not in {account.email for account in world.keeper.accounts().values()}
    assert not world.observer.violations
    cycle(world, resync=True)
    assert world.keeper.account("ada@example.com").external_id == ada


def test_a_protected_person_who_left_while_their_account_was_gone_is_not_created_anew(world: World) -> None:
    ada, bob = person(world, "ada"), person(world, "bob")
    account = world.keeper.add_user("ada@example.com")
    world.admin_changed(account)
    cycle(world)
    world.rules.policy["protect"] = ["ada@example.com"]
    world.keeper.delete_user(account)
    world.admin_changed(account)
    for change in (suspend, activate):
        cycle(world, resync=True)
        change(world, ada, bob)
    for _ in range(3):
        cycle(world, resync=True)
    assert {one.email: one.active for one in world.keeper.accounts().values()} == {"bob@example.com": True}
    assert not world.observer.violations


def suspended(world: World) -> tuple[str, str]:
    """A person who was just suspended, and their account, which any list that is behind shows as active."""
    ada = person(world, "ada")
    cycle(world)
    account = world.keeper.account("ada@example.com").id
    world.keeper.accept_invitation(account)
    for _ in range(5):
        cycle(world, resync=True)  # what a list that is behind shows is one of these
    world.jumpcloud.suspend(ada)
    world.admin_changed()
    return ada, account


def test_a_lock_that_one_list_does_not_show_is_not_given_up(world: World) -> None:
    ada, account = suspended(world)
    cycle(world, {f"GET {SCIM}/Users/": "refused", f"GET {SCIM}/Users?": "stale"})
    cycle(world)
    world.jumpcloud.activate(ada)
    world.admin_changed()
    cycle(world, resync=True)
    assert world.keeper.account(account).active
    locks = [row for row in world.open().journal_rows() if row["kind"] == "deactivate_user"]
    world.close()
    assert {row["state"] for row in locks} == {"done"}


def settled_by_hand(world: World, name: str) -> str:
    """Somebody makes the account of a person by hand; it bears no names."""
    account = world.keeper.add_user(f"{name}@example.com")
    world.admin_changed(account)
    return account


def test_names_that_never_arrived_are_asked_for_although_somebody_made_the_account(world: World) -> None:
    person(world, "ada")
    cycle(world)
    person(world, "bob")
    cycle(world, {f"POST {SCIM}/Users": "timeout"})
    settled_by_hand(world, "bob")
    cycle(world, resync=True)
    cycle(world)
    assert world.keeper.account("bob@example.com").given_name == "bob"


def test_an_old_creation_does_not_say_what_a_newer_one_asked_for(world: World) -> None:
    person(world, "ada")
    cycle(world)
    person(world, "bob")
    cycle(world, {f"POST {SCIM}/Users": "death_before"})
    cycle(world)
    account = world.keeper.account("bob@example.com").id
    world.keeper.rename_user(account, given_name="Zed")
    world.admin_changed(account)
    cycle(world, resync=True)
    assert world.keeper.account("bob@example.com").given_name == "bob"


def test_a_person_who_has_no_address_keeps_no_ghost_from_being_taken_over(world: World) -> None:
    person(world, "ada")
    world.jumpcloud.update_user(person(world, "bob"), email="")
    world.admin_changed()
    ghost = settled_by_hand(world, "former")
    cycle(world)
    with world.open() as store:
        decisions.adopt(store, world.time.now(), "root", "", email="former@example.com")
    world.store = None
    world.observer.ledger.ours.add(ghost)
    cycle(world)
    with world.open() as store:
        managed = store.snapshot().accounts[ghost].managed
    world.store = None
    assert managed


def test_nobody_is_created_by_what_a_list_of_an_hour_ago_said(world: World) -> None:
    leaver = person(world, "ada")
    cycle(world)
    world.jumpcloud.delete_user(leaver)
    world.admin_changed()
    cycle(world)
    other = world.keeper.add_user("bob@example.com", external_id=leaver)
    world.admin_changed(other)
    person(world, "bob")
    text = cycle(world)
    assert "conflict" in text
    assert world.keeper.account("bob@example.com").external_id == leaver


def test_a_lock_that_a_list_alone_calls_a_leavers_stays_its_administrators(world: World) -> None:
    person(world, "ada")
    away = person(world, "bob")
    world.admin_changed(world.keeper.add_user("bob@example.com", external_id=away, locked=True))
    cycle(world)
    for seed in range(8):
        # In some of these first plans the scope lacks bob.
        lacking = Weather(seed, script={"JumpCloud GET /api/v2/applications/": "shortened"})
        world.cycle(Order(resync=True, rebind=True, by="root", reviewed=lambda _: True), lacking)
        cycle(world, resync=True)
    assert not world.keeper.account("bob@example.com").active


def test_a_look_at_one_person_leaves_what_was_held_to_be_released(world: World) -> None:
    world.rules.safety = {"max_deactivations": 0, "always_allow": 0}
    world.rules.policy["grace"] = "0s"
    leaver = person(world, "ada")
    person(world, "bob")
    cycle(world)
    world.jumpcloud.suspend(leaver)
    world.admin_changed()
    assert "max_deactivations" in cycle(world)
    assert "max_deactivations" in cycle(world, person="ada@example.com", resync=True)
    with world.open() as store:
        run = store.held_run()
        assert run is not None and store.document(run.id)
    world.store = None


def test_first_run_apply_is_no_consent_to_locks(world: World) -> None:
    world.rules.safety = {"first_run": "apply", "max_deactivations": 1}
    world.rules.policy["grace"] = "0s"
    people = [person(world, f"p{number}") for number in range(6)]
    for one in people:
        world.keeper.add_user(world.truth.address(one), external_id=one)
    world.admin_changed()
    world.jumpcloud.suspend(people[0])
    world.admin_changed()
    world.cycle(Order(by="root"), Weather(0))
    world.jumpcloud.suspend(people[1])
    world.admin_changed()
    assert "max_deactivations" in world.cycle(Order(by="root"), Weather(0))


def test_an_account_under_the_new_address_of_somebody_is_the_other_one(world: World) -> None:
    ada = person(world, "ada")
    cycle(world)
    world.jumpcloud.update_user(ada, email="eve@example.com")
    world.admin_changed()
    world.admin_changed(world.keeper.add_user("eve@example.com", external_id=ada))
    assert "conflict" in cycle(world, resync=True)
    ending(world, random.Random(0))


@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize("fault", ["", "late_timeout"])
def test_a_creation_that_meets_somebody_elses_account_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: str, locked: bool
) -> None:
    """The account of who had the address before comes back from another node just before the request (excuse 4)."""
    world.rules.policy["grace"] = "0s"
    former = person(world, "ada")
    person(world, "bob")
    cycle(world)
    account = world.keeper.account("ada@example.com").id
    world.keeper.accept_invitation(account)
    world.jumpcloud.delete_user(former)
    world.admin_changed()
    if locked:
        cycle(world)
    world.keeper.move_user_to_other_node(account, NODES[1])
    world.admin_changed(account)
    cycle(world, resync=True)
    person(world, "ada")
    handle = world.keeper.handle

    def comes_back(asked: Request) -> Response:
        if asked.method == "POST" and world.keeper.accounts()[account].node != NODES[0]:
            world.keeper.move_user_to_other_node(account, NODES[0])
            world.admin_changed(account)
            world.observer.ledger.known[account] = world.observer.tick
        return handle(asked)

    monkeypatch.setattr(world.keeper, "handle", comes_back)
    cycle(world, {f"POST {SCIM}/Users": fault} if fault else {})
    ending(world, random.Random(0))
    row = next(row for row in world.open().journal_rows() if row["kind"] == "create_user")
    world.close()
    assert row["state"] == "failed" and "The creation of ada@example.com led to" in row["error"]
    assert world.observer.excused[4]
    assert world.keeper.accounts()[account].locked


def test_a_team_that_an_old_copy_of_the_state_file_knows_gives_way_to_the_one_that_is_there(world: World) -> None:
    person(world, "ada", group(world, "Sales"))
    cycle(world)
    copy = world.path.read_bytes()
    (queued,) = world.keeper.teams()
    cycle(world, resync=True)
    world.keeper.delete_team(queued)
    world.admin_changed(queued)
    cycle(world, resync=True)
    cycle(world)  # which lists Keeper again, since the team was missing
    world.path.write_bytes(copy)
    world.observer.forgot()
    world.observer.ledger.reviewed = True  # as the copy knows
    person(world, "bob", *world.truth.groups)
    cycle(world, resync=True)
    assert teams_of(world, "ada") == teams_of(world, "bob") == {"Sales"}


def test_an_address_that_two_people_had_ties_the_account_to_neither(world: World) -> None:
    world.rules.safety = {"max_creations": 2}
    people = {name: person(world, name) for name in ("ada", "bob")}
    for one in people.values():
        world.jumpcloud.update_user(one, email="cleo@example.com")
    world.admin_changed(world.keeper.add_user("cleo@example.com", locked=True))
    cycle(world)
    for name, one in people.items():
        world.jumpcloud.update_user(one, email=f"{name}@example.com")
    world.admin_changed()
    cycle(world)
    for name in people:
        account = world.keeper.account(f"{name}@example.com").id
        world.keeper.move_user_to_other_node(account, NODES[1])
        world.admin_changed(account)
    ending(world, random.Random(1))


def test_a_conflict_about_a_persons_address_leaves_them_their_account(world: World) -> None:
    ada = person(world, "ada")
    bob = person(world, "bob")
    cycle(world)
    world.jumpcloud.update_user(ada, email="cleo@example.com")
    world.jumpcloud.update_user(bob, email="ada@example.com")
    world.admin_changed()
    world.admin_changed(world.keeper.add_user("cleo@example.com", external_id=ada))
    ending(world, random.Random(1))


def test_an_adoption_hides_no_link_of_a_creation_that_was_not_answered(world: World) -> None:
    """Else whose account it is would keep the teams of whom it was linked to."""
    world.keeper.set_dialect(links_aliases=True)
    sales = group(world, "Sales")
    person(world, "ada")
    account = world.keeper.add_user("ada@example.com")
    for address in ("bob@example.com", "ada@example.com"):
        world.keeper.change_email(account, address)
    world.admin_changed(account)
    person(world, "bob", sales)
    cycle(world, {f"POST {SCIM}/Users": "late_timeout"}, resync=True)
    assert teams_of(world, "ada") == {"Sales"}
    ending(world, random.Random(1))
    assert teams_of(world, "ada") == set()
    assert not world.observer.violations


def test_a_resync_of_one_person_ties_nobody_else_to_an_account(world: World) -> None:
    person(world, "ada")
    person(world, "bob")
    other = world.keeper.add_user("bob@example.com")
    world.admin_changed(other)
    cycle(world, person="ada@example.com", resync=True)
    world.keeper.change_email(other, "cleo@example.com", keep_alias=True)
    world.admin_changed(other)
    ending(world, random.Random(1))


def test_an_account_that_came_after_the_last_list_is_known_to_nobody(world: World) -> None:
    ada = person(world, "ada")
    world.admin_changed(world.keeper.add_user("ada@example.com"))
    cycle(world, {f"PATCH {SCIM}/Users": "refused"})
    world.jumpcloud.update_user(ada, email="bob@example.com")
    world.admin_changed()
    world.admin_changed(world.keeper.add_user("bob@example.com", external_id=ada))
    cycle(world)
    assert world.keeper.account("ada@example.com").external_id == ada
    assert "conflict" in cycle(world, resync=True)


def test_who_is_added_before_keeper_is_listed_counts_in_the_percentages(world: World) -> None:
    people = [person(world, name) for name in ("ada", "bob", "cy", "dan", "eve")]
    cycle(world)
    person(world, "fay")

    def added() -> str:
        world.admin_changed(world.keeper.add_user("fay@example.com"))
        return "fay is added in Keeper"

    world.interludes = [(1, added)]
    suspend(world, *people[:2])
    cycle(world, resync=True)
    left = {account.email for account in world.keeper.accounts().values() if account.active}
    assert not left & {"ada@example.com", "bob@example.com"} and "fay@example.com" in left


def test_the_former_account_of_a_leaver_is_locked_once_it_is_back_in_the_node(world: World) -> None:
    cleo = person(world, "cleo")
    person(world, "bob")
    cycle(world)
    account = world.keeper.account("cleo@example.com").id
    world.keeper.move_user_to_other_node(account, NODES[1])
    world.admin_changed(account)
    world.jumpcloud.update_user(cleo, email="hugo@example.com")
    world.admin_changed()
    cycle(world, resync=True)
    world.jumpcloud.delete_user(cleo)
    world.admin_changed()
    cycle(world)
    world.keeper.move_user_to_other_node(account, NODES[0])
    world.admin_changed(account)
    ending(world, random.Random(1))
    back = world.keeper.accounts().get(account)
    assert back is None or not back.active


def readdressed_by_hand(world: World, account: str, name: str) -> None:
    world.keeper.change_email(account, f"{name}@example.com", keep_alias=False)
    world.admin_changed(account)


def test_who_was_linked_by_a_list_that_is_behind_stays_the_owner_under_whatever_address(world: World) -> None:
    group(world, "Sales")
    leaver = person(world, "bob")
    account = settled_by_hand(world, "bob")
    world.keeper.accept_invitation(account)
    world.cycle(Order(by="root"), Weather(0))  # the first plan waits
    world.jumpcloud.suspend(leaver)
    world.admin_changed()
    script = {"JumpCloud GET /api/systemusers?": "stale", f"Keeper POST {SCIM}/Groups": "death_after"}
    world.observer.ledger.reviewed = True
    world.cycle(Order(by="root", reviewed=lambda _: True), Weather(1, script=script))
    person(world, "lars")
    readdressed_by_hand(world, account, "lars")
    cycle(world, resync=True, person="lars@example.com")
    cycle(world, resync=True)
    assert world.keeper.accounts()[account].locked


def test_who_was_linked_before_the_first_plan_was_reviewed_stays_the_owner(world: World) -> None:
    world.keeper.set_dialect(ignored_attributes=frozenset({"externalId"}))
    leaver = person(world, "bob")
    account = settled_by_hand(world, "bob")
    world.keeper.accept_invitation(account)
    world.cycle(Order(by="root"), Weather(0))
    campaign_decisions.consent_to_held(world)
    person(world, "zoe")
    text = world.cycle(Order(by="root"), Weather(1, script={f"Keeper PATCH {SCIM}/Users/": "death_after"}))
    assert "died" in text
    person(world, "lars")
    readdressed_by_hand(world, account, "lars")
    world.jumpcloud.suspend(leaver)
    world.admin_changed()
    cycle(world)
    assert world.keeper.accounts()[account].locked


def test_a_group_that_is_back_in_scope_has_the_team_that_its_namesake_was_to_get(world: World) -> None:
    world.rules.safety = {"max_removals": 0}
    world.rules.policy["grace"] = "0s"
    former = group(world, "Sales")
    ada = person(world, "ada", former)
    cycle(world)
    world.jumpcloud.bind_user(world.application, ada)
    world.jumpcloud.unbind_group(world.application, former)
    group(world, "Sales")
    assert "max_removals" in cycle(world)
    world.jumpcloud.bind_group(world.application, former)
    world.admin_changed()
    cycle(world, person="ada@example.com", resync=True)
    assert teams_of(world, "ada") == {"Sales"}


def test_who_was_given_up_and_is_adopted_again_gets_no_second_account_under_a_new_address(world: World) -> None:
    ada = person(world, "ada")
    cycle(world)
    account = world.keeper.account("ada@example.com").id
    with world.open() as store:
        decisions.disown(store, world.time.now(), "root", "", "ada@example.com")
    world.observer.ledger.disowned.add(account)
    world.jumpcloud.update_user(ada, email="zoe@example.com")
    world.admin_changed()
    cycle(world)
    with world.open() as store:
        decisions.adopt(store, world.time.now(), "root", "", email="ada@example.com")
    world.store = None
    world.observer.ledger.disowned.discard(account)
    cycle(world, resync=True)
    assert [one.external_id for one in world.keeper.accounts().values()] == [ada]


def test_a_list_that_is_behind_does_not_make_our_lock_somebody_elses(world: World) -> None:
    ada, account = suspended(world)
    cycle(world)
    assert world.keeper.account(account).locked
    world.jumpcloud.activate(ada)
    world.admin_changed()
    cycle(world, {f"GET {SCIM}/Users?": "stale"}, resync=True)
    cycle(world, resync=True)
    assert world.keeper.account(account).active


def test_of_two_teams_that_were_queued_for_a_group_one_is_its_own_and_no_third_is_queued(world: World) -> None:
    world.keeper.set_dialect(shows_queued_teams=False)
    sales = group(world, "Sales")
    person(world, "ada", sales)
    cycle(world)
    campaign_decisions.lost(world, random.Random(1))
    cycle(world, resync=True)
    world.keeper.approve_all()
    world.admin_changed()
    assert len(world.keeper.teams()) == 2
    campaign_decisions.lost(world, random.Random(1))
    person(world, "bob", sales)
    cycle(world, resync=True)
    assert teams_of(world, "bob") == {"Sales"} and len(world.keeper.teams()) == 2
    account = world.keeper.account("bob@example.com")
    (mine,) = {*account.teams, *account.pending_teams}
    world.keeper.delete_team(mine)
    world.admin_changed(mine)
    cycle(world, resync=True)
    cycle(world)  # which lists Keeper again, since the team was missing
    assert teams_of(world, "bob") == {"Sales"} and len(world.keeper.teams()) == 1


def test_who_was_linked_before_the_process_died_over_its_first_request_keeps_the_account(world: World) -> None:
    ada, bob = person(world, "ada"), person(world, "bob")
    world.admin_changed(world.keeper.add_user("ada@example.com", locked=True))
    world.admin_changed(world.keeper.add_user("bob@example.com"))
    cycle(world, {f"PATCH {SCIM}/Users": "death_before"})
    world.jumpcloud.update_user(ada, email="cleo@example.com")
    world.jumpcloud.update_user(bob, email="ada@example.com")
    world.admin_changed()
    ending(world, random.Random(1))


@pytest.mark.parametrize("by_command", [True, False])
def test_what_waits_unseen_and_an_old_copy_does_not_know_as_taken_back(world: World, by_command: bool) -> None:
    """After `restore` it is asked for once more. If the copy was put there by hand, nothing can show it (excuse 1)."""
    world.keeper.set_dialect(queues_every_membership=True, shows_pending_memberships=False)
    world.rules.policy["grace"] = "0s"
    sales = group(world, "Sales")
    ada, account = joined(world, "ada")
    world.jumpcloud.add_member(sales, ada)
    world.admin_changed()
    cycle(world)
    campaign_decisions.copied(world, random.Random(1))
    world.jumpcloud.remove_member(sales, ada)
    world.admin_changed()
    cycle(world)
    assert not world.keeper.account(account).pending_teams
    world.jumpcloud.add_member(sales, ada)
    world.admin_changed()
    campaign_decisions.put_back(world, *world.copies[0], by_command=by_command)
    assert ending(world, random.Random(1))
    assert bool(world.keeper.account(account).pending_teams) is by_command
    assert bool(world.observer.excused[1]) is not by_command


def test_who_was_never_created_is_created_under_another_address_once_two_lists_have_denied_it(world: World) -> None:
    group(world, "Sales")
    cycle(world)
    ada = person(world, "ada")
    cycle(world, {f"POST {SCIM}/Users": "timeout"})
    world.jumpcloud.update_user(ada, email="ada.berg@example.com")
    world.admin_changed()
    cycle(world)
    assert not world.keeper.accounts()
    cycle(world)
    assert [account.email for account in world.keeper.accounts().values()] == ["ada.berg@example.com"]


def test_the_leaver_lane_beside_a_cycle_whose_first_lock_goes_alone(world: World) -> None:
    """A partial cycle holds its people; a canary must not wait for one of them in whose turn the lane waits."""
    world.rules.safety = {"max_deactivations": "100%", "max_reactivations": "100%"}
    world.rules.policy["grace"] = "0s"
    people = [person(world, f"p{number}") for number in range(6)]
    cycle(world)
    world.keeper.accept_invitation("p0@example.com")
    for number in range(10):
        world.time.elapsed += 8 * 86400  # canaries are remembered for a week
        for one in people[:4]:
            world.jumpcloud.suspend(one)
        world.admin_changed()
        world.say(world.cycle(Order(by="root"), Weather(number), [(number / 5, None)]))
        assert all(not account.active for account in world.keeper.accounts().values() if account.email[1] in "0123")
        for one in people[:4]:
            world.jumpcloud.activate(one)
        world.admin_changed()
        cycle(world)


def test_who_is_created_last_is_given_the_teams_beside_one_that_was_rejected_unseen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keeper refuses all teams of a creation for the one, so that the others follow with the next cycle. That is well,
    however late the person could be created."""
    it, sales = group(world, "IT"), group(world, "Sales")
    cycle(world)
    (team,) = (one.id for one in world.keeper.teams().values() if one.name == "IT")
    world.keeper.delete_team(team)
    world.admin_changed(team, it)
    released, cycles = campaign_ending._released, list[Order]()

    def late(world: World, order: Order) -> tuple[Plan | None, bool]:
        cycles.append(order)
        if len(cycles) == 3:
            person(world, "nora", it, sales)
        return released(world, order)

    monkeypatch.setattr(campaign_ending, "_released", late)
    assert campaign_ending.ending(world, random.Random(1))
    assert teams_of(world, "nora") == {"Sales"}


@pytest.mark.parametrize("there", [False, True], ids=["created", "adopted"])
def test_nobody_gets_the_account_of_an_address_that_only_a_list_which_is_behind_shows(
    world: World, there: bool
) -> None:
    joined(world, "bob")
    ada = person(world, "ada")
    cycle(world, {f"POST {SCIM}/Users": "refused"})
    world.jumpcloud.update_user(ada, email="zoe@example.com")
    if there:
        world.keeper.add_user("ada@example.com")
    world.admin_changed()
    world.time.elapsed += 2 * 3600

    def behind(response: Response) -> Response:
        return replace(response, body=response.body.replace(b"zoe@", b"ada@"))

    world.say(world.cycle(Order(by="root"), Weather(1, edits={"JumpCloud GET /api/systemusers?": behind})))
    assert ada not in {one.external_id for one in world.keeper.accounts().values()}
    for _ in range(3):
        world.time.elapsed += 2 * 3600
        cycle(world)
    assert world.keeper.account("zoe@example.com").external_id == ada


@pytest.mark.parametrize("person_only", ["", "bob@example.com"])
def test_no_group_gets_a_team_that_an_old_copy_of_the_state_file_does_not_know_as_given_to_another(
    world: World, person_only: str
) -> None:
    sales, former = group(world, "Sales"), group(world, "Design")
    people = [person(world, name, sales) for name in ("ada", "bob")]
    cycle(world)
    copy = world.path.read_bytes(), world.observer.remembered()
    world.jumpcloud.delete_group(former)
    owner = group(world, "Design")
    cycle(world)
    world.jumpcloud.unbind_group(world.application, owner)
    world.jumpcloud.add_member(group(world, "Design"), people[1])
    world.admin_changed()
    put_back(world, *copy, by_command=False)
    cycle(world, person=person_only)
    (design,) = (team for team in world.keeper.teams().values() if team.name == "Design")
    assert design.external_id == owner
    assert teams_of(world, "bob") == {"Sales"}


def test_who_was_locked_in_the_list_of_a_cycle_that_broke_off_was_locked_when_keeper_showed_them_last(
    world: World,
) -> None:
    _, account = joined(world, "ada")
    world.keeper.lock(account)
    world.admin_changed(account)
    person(world, "bob")
    cycle(world, {f"POST {SCIM}/Users": "death_before"}, resync=True)
    world.keeper.unlock(account)
    world.admin_changed(account)
    world.keeper.delete_user(account)
    world.admin_changed(account)
    cycle(world)
    assert ending(world, random.Random(1))


def test_who_was_unlocked_in_the_list_of_a_resync_of_somebody_else_was_locked_when_a_cycle_saw_them_last(
    world: World,
) -> None:
    _, account = joined(world, "ada")
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    world.keeper.unlock(account)
    world.admin_changed(account)
    person(world, "bob")
    cycle(world, person="bob@example.com", resync=True)
    world.keeper.move_user_to_other_node(account, NODES[1])
    world.admin_changed(account)
    assert ending(world, random.Random(1))


@pytest.mark.parametrize("beside", [False, True])
def test_a_link_without_an_answer_is_undone_though_the_owner_of_the_account_is_resynced_first(
    world: World, beside: bool
) -> None:
    sales = group(world, "Sales")
    _, ada = joined(world, "ada")
    world.keeper.set_dialect(links_aliases=True)
    gets_alias(world, ada, "nils@example.com")
    person(world, "nils", sales)
    about_ada = Order(resync=True, person="ada@example.com", by="root")
    if beside:
        weather = Weather(1, script={f"Keeper POST {SCIM}/Users#1": "late_timeout"})
        world.time.elapsed += 600
        world.say(world.cycle(Order(by="root"), weather, [(after, about_ada) for after in range(2, 30, 2)]))
    else:
        cycle(world, {f"POST {SCIM}/Users#1": "death_after"})
        cycle(world, person="ada@example.com", resync=True)
    for _ in range(2):
        cycle(world)
    account = world.keeper.account("ada@example.com")
    assert (account.given_name, account.teams, account.pending_teams) == ("ada", (), ())
    assert not world.observer.violations


def test_a_lock_on_whom_we_never_locked_and_who_left_while_elsewhere_is_not_undone(world: World) -> None:
    ada = person(world, "ada")
    account = world.keeper.add_user("ada@example.com")
    world.admin_changed(account)
    cycle(world)
    world.keeper.move_user_to_other_node(account, NODES[1])
    world.admin_changed(account)
    for change in (suspend, activate):
        cycle(world, resync=True)
        change(world, ada)
    cycle(world)
    world.keeper.move_user_to_other_node(account, NODES[0])
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    assert world.keeper.account("ada@example.com").locked
    assert not world.observer.violations


def test_no_read_of_one_account_tells_that_a_creation_never_arrived(world: World) -> None:
    sales = group(world, "Sales")
    _, ada = joined(world, "ada")
    nils, account = joined(world, "nils", sales)
    world.keeper.set_dialect(links_aliases=True)
    world.keeper.delete_user(account)
    gets_alias(world, ada, "nils@example.com")
    world.admin_changed(ada, account)
    cycle(world, {f"POST {SCIM}/Users#1": "death_after"}, resync=True)
    assert world.keeper.account("ada@example.com").external_id == nils
    suspend(world, nils)
    for _ in range(2):
        cycle(world, resync=True, person="nils@example.com")
    cycle(world)
    assert not teams_of(world, "ada")
    assert not world.observer.violations


def test_a_team_that_was_adopted_by_its_name_is_its_groups_though_the_id_never_arrived(world: World) -> None:
    former = group(world, "IT")
    team = world.keeper.add_team("IT")
    world.admin_changed(team)
    cycle(world, {f"PATCH {SCIM}/Groups": "death_before"})
    world.jumpcloud.unbind_group(world.application, former)
    group(world, "IT")
    world.keeper.rename_team(team, "Sales")
    world.admin_changed(team)
    assert ending(world, random.Random(1))
    assert [one.name for one in world.keeper.teams().values()] == ["Sales"]


def test_the_deletion_of_a_team_that_never_showed_is_asked_for_again_without_an_answer(world: World) -> None:
    world.keeper.set_dialect(shows_queued_teams=False)
    world.rules.policy["grace"] = "0s"
    world.rules.teams = {"out_of_scope": "delete"}
    person(world, "ada")
    sales = group(world, "Sales")
    cycle(world)
    world.jumpcloud.unbind_group(world.application, sales)
    world.admin_changed()
    assert "delete_team" in cycle(world)
    campaign_decisions.consent_to_held(world)
    cycle(world, {f"DELETE {SCIM}/Groups": "late_timeout"})
    cycle(world)
    assert not world.keeper.teams()
    assert ending(world, random.Random(1))


def test_a_resync_of_one_person_creates_nobody_before_keeper_is_listed(world: World) -> None:
    """Else it would undo the lock of an account that somebody has made in place of the withdrawn invitation."""
    world.keeper.set_dialect(link_unlocks=True)
    person(world, "bob")
    ada = person(world, "ada")
    cycle(world)
    suspend(world, ada)
    cycle(world)
    activate(world, ada)
    account = world.keeper.add_user("ada@example.com", external_id=ada, locked=True)
    world.admin_changed(account)
    cycle(world, person="ada@example.com")
    assert world.keeper.account(account).locked
    assert not world.observer.violations


@pytest.mark.parametrize("by_command", [False, True])
@pytest.mark.parametrize("lane", [False, True])
@pytest.mark.parametrize("deleted", [False, True])
def test_an_old_copy_of_the_state_file_does_not_lock_whoever_the_account_was_given_to_since(
    world: World, by_command: bool, lane: bool, deleted: bool
) -> None:
    sales = group(world, "Sales")
    person(world, "bob", sales)
    former, account = joined(world, "ada", sales)
    copy = world.path.read_bytes(), world.observer.remembered()
    if deleted:
        world.jumpcloud.delete_user(former)
    else:
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
    put_back(world, *copy, by_command=by_command)
    if lane:
        world.time.elapsed += 60
        world.say(world.lane(Weather(1)))
    cycle(world)
    cycle(world, resync=True)
    assert not world.keeper.accounts()[account].locked


@pytest.mark.parametrize("observe", [False, True])
@pytest.mark.parametrize("deleted", [False, True])
def test_who_leaves_between_an_unreviewed_first_plan_with_nothing_to_send_and_the_next_is_locked_by_the_review(
    world: World, observe: bool, deleted: bool
) -> None:
    sales = group(world, "Sales")
    person(world, "bob", sales)
    ada, account = joined(world, "ada", sales)
    campaign_decisions.lost(world, random.Random(1))
    world.rules.policy["mode"] = "observe" if observe else "enforce"
    world.time.elapsed += 600
    for _ in range(2):
        world.say(world.cycle(Order(by="schedule"), Weather(1)))
    if deleted:
        world.jumpcloud.delete_user(ada)
    else:
        world.jumpcloud.remove_member(sales, ada)
    world.admin_changed()
    world.rules.policy["mode"] = "enforce"
    unreviewed(world)
    assert world.keeper.account(account).active, "a person has not looked at the plan"
    cycle(world)
    assert world.keeper.account(account).locked
    assert ending(world, random.Random(1))


def test_who_leaves_a_group_before_the_first_plan_is_reviewed_loses_its_team_by_the_review(world: World) -> None:
    sales, legal = group(world, "Sales"), group(world, "Legal")
    ada, _ = joined(world, "ada", sales, legal)
    campaign_decisions.lost(world, random.Random(1))
    unreviewed(world)
    world.jumpcloud.remove_member(sales, ada)
    world.admin_changed()
    cycle(world)
    assert teams_of(world, "ada") == {"Legal"}


def test_the_account_of_whoever_left_before_the_first_plan_was_reviewed_is_not_that_of_who_comes_back_anew(
    world: World,
) -> None:
    person(world, "bob")
    former = person(world, "ada")
    account = world.keeper.add_user("ada@example.com")
    world.admin_changed(account)
    unreviewed(world)
    world.jumpcloud.delete_user(former)
    world.admin_changed()

    def looks(plan: Plan) -> bool:
        person(world, "ada")
        world.time.elapsed += 120
        world.observer.agreed(plan.effects)
        return True

    world.time.elapsed += 600
    world.say(world.cycle(Order(by="root", reviewed=looks), Weather(1)))
    assert world.keeper.account(account).locked
    assert ending(world, random.Random(1))


def test_a_team_that_was_asked_for_twice_and_found_is_known_from_then_on(world: World) -> None:
    person(world, "ada", group(world, "Sales"))
    group(world, "IT")
    cycle(world, {f"POST {SCIM}/Groups#1": "cut"})
    cycle(world)
    assert campaign_decisions.consent_to_held(world)
    cycle(world, {f"POST {SCIM}/Groups": "late_cut"})
    with world.open() as store:
        assert sorted(team.name for team in store.snapshot().teams.values() if team.managed) == ["IT", "Sales"]


def test_teams_that_a_link_gave_to_an_odd_record_are_taken_back(world: World) -> None:
    world.keeper.set_dialect(links_aliases=True)
    sales = group(world, "Sales")
    _, account = joined(world, "ada")
    campaign_decisions.lost(world, random.Random(1))
    world.keeper.show_oddly(account, {"active": "perhaps"}, ())
    world.keeper.change_email(account, "bob@example.com")
    world.keeper.change_email(account, "ada@example.com")
    world.admin_changed(account)
    person(world, "bob", sales)
    cycle(world, resync=True)
    found = world.keeper.account(account)
    assert (found.display_name, found.teams, found.pending_teams) == ("ada Test", (), ())


def test_whose_account_it_is_stays_on_record_when_the_process_dies_before_it_sends_anything(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    person(world, "kim")
    bela = person(world, "bela")
    account = world.keeper.add_user("bela@example.com")
    world.admin_changed(account)
    world.cycle(Order(by="schedule"), Weather(1))
    monkeypatch.setattr(random.Random, "random", lambda _: 0.1)
    assert "--ghosts" in campaign_decisions.adopts(world, random.Random(1))
    monkeypatch.undo()

    def dies(*_: object) -> NoReturn:
        raise Died("nothing is marked as sent")

    with monkeypatch.context() as patch:
        patch.setattr(CampaignStore, "mark_sent", dies)
        assert cycle(world).startswith("died")
    world.keeper.change_email(account, "kim@example.com", keep_alias=False)
    world.admin_changed(account)
    ending(world, random.Random(1))
    assert world.keeper.account(account).external_id == bela


def test_a_release_of_which_something_may_have_been_sent_has_four_more_hours(world: World) -> None:
    world.rules.safety = {"max_deactivations": 0, "always_allow": 0}
    world.rules.policy["grace"] = "0s"
    leavers = [person(world, name) for name in ("ada", "bob")]
    cycle(world)
    suspend(world, *leavers)
    cycle(world)
    campaign_decisions.consent_to_held(world)
    cycle(world, {"": "unreachable"})
    world.time.elapsed += 3 * 3600
    assert cycle(world, {f"PATCH {SCIM}/Users": "death_before"}).startswith("died")
    world.time.elapsed += 2 * 3600
    cycle(world)
    assert not any(account.active for account in world.keeper.accounts().values())
    assert not world.observer.violations


def test_who_is_activated_after_the_first_plan_was_made_is_no_leaver_whom_it_took_over(world: World) -> None:
    """Keeper has an account with their id, and they are suspended before the next cycle."""
    person(world, "bob")
    ada = world.jumpcloud.add_user("ada@example.com", state="STAGED")
    world.jumpcloud.bind_user(world.application, ada)
    account = world.keeper.add_user("ada@example.com", external_id=ada)
    world.keeper.accept_invitation(account)
    world.admin_changed(account)

    def looks(plan: Plan) -> bool:
        world.observer.agreed(plan.effects)
        activate(world, ada)
        return True

    world.time.elapsed += 600
    world.say(world.cycle(Order(by="root", reviewed=looks), Weather(1)))
    suspend(world, ada)
    assert ending(world, random.Random(1))


@pytest.mark.parametrize("taken", [False, True])
def test_whose_account_a_first_plan_had_found_and_a_person_gave_up_under_another_address_gets_no_other(
    world: World, taken: bool
) -> None:
    """They left before that plan was reviewed, and come back. Somebody else may have that address by then."""
    person(world, "bob")
    ada = person(world, "ada")
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    unreviewed(world)
    suspend(world, ada)
    world.rules.policy["only"] = {"users": ["bob@example.com"]}  # their lock is not sent
    cycle(world)
    world.keeper.change_email(account, "rike@example.com", keep_alias=False)
    world.admin_changed(account)
    if taken:
        person(world, "rike")
    cycle(world, resync=True)
    disown(world, "rike@example.com")
    activate(world, ada)
    assert ending(world, random.Random(1))


@pytest.mark.parametrize("read_back", [True, False])
def test_whose_invitation_a_lock_before_the_review_has_withdrawn_is_invited_again_without_a_release(
    world: World, read_back: bool
) -> None:
    person(world, "bob")
    ada = person(world, "ada")
    account = world.keeper.add_user("ada@example.com", external_id=ada, state="invited")
    world.admin_changed(account)
    unreviewed(world)
    suspend(world, ada)
    faults = {} if read_back else {f"GET {SCIM}/Users/{account}#2": "throttled_long"}
    cycle(world, faults, person="ada@example.com", resync=True)
    cycle(world)
    world.rules.safety["max_creations"] = 0
    activate(world, ada)
    cycle(world, resync=True)
    assert world.keeper.account("ada@example.com").active
    assert ending(world, random.Random(1))


def test_an_address_that_was_given_up_and_taken_back_before_a_list_showed_its_new_account_is_managed(
    world: World,
) -> None:
    joined(world, "bob")
    _, account = joined(world, "ada")
    world.keeper.delete_user(account)
    new = world.keeper.add_user("ada@example.com")
    world.admin_changed(account, new)
    world.observer.ledger.ours.add(new)  # as an adoption would, of which an old copy of the state file knows nothing
    disown(world, "ada@example.com")
    adopt(world, "ada@example.com")
    ending(world, random.Random(1))
    assert world.keeper.accounts()[new].external_id


@pytest.mark.parametrize("locked", [True, False])
def test_who_was_adopted_as_a_leaver_by_the_address_has_the_account_when_somebody_else_gets_that(
    world: World, locked: bool
) -> None:
    """A lock of ours ends, one of an administrator's stays; nobody says that the account bears an id."""
    eve, _ = joined(world, "eve")
    bob = person(world, "bob")
    suspend(world, bob)
    account = world.keeper.add_user("bob@example.com", locked=locked)
    world.admin_changed(account)
    cycle(world, resync=True)
    adopt(world, "bob@example.com")
    cycle(world)
    campaign_decisions.consent_to_held(world)
    cycle(world)
    assert world.keeper.accounts()[account].locked
    world.jumpcloud.update_user(bob, email="jan@example.com")
    world.jumpcloud.update_user(eve, email="bob@example.com")
    activate(world, bob)
    assert ending(world, random.Random(1))
    assert world.keeper.accounts()[account].locked is locked
    assert world.plan is not None
    told = [notice for notice in world.plan.notices if notice.subject.jumpcloud_id == bob]
    assert told and not any("carries this person's JumpCloud id" in notice.message for notice in told)
    assert not world.observer.excused
