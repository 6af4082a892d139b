"""Faults of what persons decide, and of when that meets a cycle, each as a short history."""

import random

import pytest

from reconciler import decisions
from reconciler.cycle import Order
from reconciler.report import status
from reconciler.report.document import read_saved, to_json
from tests.campaign import decisions as campaign_decisions
from tests.campaign.decisions import put_back
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
    group,
    joined,
    person,
    suspend,
    teams_of,
)
from tests.campaign.seams import Weather
from tests.campaign.world import World


def adopts(world: World, email: str) -> str:
    """As `reconciler adopt EMAIL` does it; returns its words."""
    return campaign_decisions._decide(
        world, lambda store: decisions.adopt(store, world.time.now(), "root", "", email=email)
    )


def test_whoever_is_given_up_while_they_are_resynced_is_not_created_anew(world: World) -> None:
    joined(world, "bob")
    _, ada = joined(world, "ada")
    world.keeper.delete_user(ada)
    world.admin_changed(ada)

    def disowned() -> str:
        assert world.store is not None
        return decisions.disown(world.store, world.time.now(), "root", "", "ada@example.com")

    world.interludes = [(9, disowned)]  # Keeper has answered that her account is gone, and is listed
    cycle(world, resync=True, person="ada@example.com")
    for resync in (False, True):
        cycle(world, resync=resync)
    assert [one.email for one in world.keeper.accounts().values()] == ["bob@example.com"]


def test_to_adopt_whose_invitation_our_lock_withdrew_leaves_it_known_as_our_lock(world: World) -> None:
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    ada = person(world, "ada")
    cycle(world)
    suspend(world, ada)
    for resync in (False, True):
        cycle(world, resync=resync)
    assert "nothing was changed" in adopts(world, "ada@example.com")
    activate(world, ada)
    world.rules.safety = {"max_creations": 0, "always_allow": 0}
    cycle(world, {f"POST {SCIM}/Users": "refused"})
    cycle(world)
    assert world.keeper.account("ada@example.com").invited


def test_whose_account_is_gone_and_whose_creation_was_linked_to_another_has_it_once_a_person_agrees(
    world: World,
) -> None:
    world.keeper.set_dialect(links_aliases=True)
    joined(world, "bob")
    ada, former = joined(world, "ada")
    world.keeper.delete_user(former)
    other = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(other)
    world.keeper.change_email(other, "old@example.com", keep_alias=True)
    world.admin_changed(former, other)
    for _ in range(2):
        cycle(world, resync=True)
    assert "will be created with the next plan" in adopts(world, "ada@example.com")
    cycle(world)
    assert world.keeper.accounts()[other].external_id == ada


def test_whoever_has_the_address_of_a_leaver_whose_question_is_closed_gets_no_vault_of_theirs(world: World) -> None:
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    ada, account = joined(world, "ada")
    world.keeper.move_user_to_other_node(account, NODES[1])
    world.jumpcloud.delete_user(ada)
    world.admin_changed(account)
    for _ in range(2):
        cycle(world, resync=True)
    said = campaign_decisions.disowns(world, _Chosen(world.keeper.account(account)))
    assert "whether access ended is closed" in said
    person(world, "ada")  # somebody else of that name

    def back() -> str:
        world.keeper.move_user_to_other_node(account, NODES[0])
        world.admin_changed(account)
        return "the account is moved back"

    world.interludes = [(10, back)]  # Keeper was listed, and she is about to be created
    cycle(world)
    cycle(world, resync=True)
    assert world.keeper.accounts()[account].external_id == ada
    assert world.plan is not None
    assert "conflict" in {notice.kind.value for notice in world.plan.notices}


def test_an_account_of_the_pilot_that_is_given_to_somebody_outside_of_it_stays_locked(world: World) -> None:
    it = group(world, "IT")
    world.rules.policy = {"protect": [], "only": {"groups": ["IT"]}}
    joined(world, "bob", it)
    former, account = joined(world, "ada", it)
    suspend(world, former)
    cycle(world)
    world.jumpcloud.update_user(former, email="ada.alt@example.com")
    person(world, "ada")
    cycle(world)
    adopt(world, "ada@example.com")
    for _ in range(2):
        cycle(world)
    assert world.keeper.accounts()[account].locked
    world.rules.policy = {"protect": []}
    cycle(world)
    assert not world.keeper.accounts()[account].locked


def unreviewed(world: World) -> None:
    """A scheduled cycle, whose first plan nobody reviews."""
    world.time.elapsed += 600
    world.say(world.cycle(Order(resync=True, by="schedule"), Weather(1)))


def found_and_left(world: World) -> tuple[str, str]:
    """Ada, whose account a first plan found by its address, and who has left since: both ids."""
    ada = person(world, "ada")
    person(world, "bob")
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    unreviewed(world)
    suspend(world, ada)
    assert campaign_decisions.consent_to_held(world)
    unreviewed(world)
    return ada, account


@pytest.mark.parametrize("observing", [True, False])
def test_who_leaves_a_group_of_an_account_of_ours_before_the_first_plan_is_reviewed_loses_its_team(
    world: World, observing: bool
) -> None:
    world.rules.safety = {"max_creations": 50}
    sales, legal = group(world, "Sales"), group(world, "Legal")
    joined(world, "bob", sales)
    ada, account = joined(world, "ada", legal)
    cycle(world, resync=True)
    copy = world.path.read_bytes(), world.observer.remembered()
    world.jumpcloud.add_member(sales, ada)
    if observing:
        world.rules.policy["mode"] = "observe"
        team = next(one.id for one in world.keeper.teams().values() if one.name == "Sales")
        world.keeper.add_member(account, team)  # as the push does it
        world.admin_changed(account, team)
        unreviewed(world)
        del world.rules.policy["mode"]
    else:
        world.admin_changed()
        cycle(world)
        world.keeper.approve_all()
        put_back(world, *copy, by_command=True)
        unreviewed(world)
    world.jumpcloud.remove_member(sales, ada)
    world.admin_changed()
    for _ in range(2):
        cycle(world)
    assert teams_of(world, "ada") == {"Legal"}


def test_whose_account_went_while_they_were_away_is_created_anew_after_observing(world: World) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    world.rules.policy |= {"mode": "observe", "drift": "report"}
    suspend(world, ada)
    unreviewed(world)
    world.keeper.delete_user(account)
    world.admin_changed(account)
    unreviewed(world)
    activate(world, ada)
    unreviewed(world)
    del world.rules.policy["mode"]
    for _ in range(2):
        cycle(world)
    assert world.keeper.account("ada@example.com").id != account


def reviewed(world: World) -> bool:
    with world.open() as store:
        found = store.reviewed()
    world.store = None
    return found


def test_what_was_released_before_we_observed_is_no_review_of_the_first_plan_after_it(world: World) -> None:
    world.rules.safety = {"max_deactivations": 0, "always_allow": 0, "max_creations": 50}
    joined(world, "bob")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world)
    assert campaign_decisions.consent_to_held(world)
    for mode in ("observe", "enforce"):
        world.rules.policy["mode"] = mode
        unreviewed(world)
    assert not reviewed(world)
    assert not world.keeper.accounts()[account].locked
    cycle(world)
    assert reviewed(world)
    assert world.keeper.accounts()[account].locked


def test_a_plan_that_was_saved_before_and_has_all_that_is_due_is_no_review_of_the_first_one(world: World) -> None:
    person(world, "ada")
    cycle(world)
    person(world, "zoe")
    made = world.dry_run(Weather(0), resync=False)
    assert made is not None
    campaign_decisions.lost(world, random.Random(1))
    world.observer.agreed(made.effects)
    saved = read_saved(to_json(made).encode(), "the saved plan")
    world.cycle(Order(by="root", saved=saved), Weather(0))
    assert world.keeper.account("zoe@example.com").invited
    assert not reviewed(world)


def test_an_account_that_is_named_and_protected_is_told_as_not_taken_over(world: World) -> None:
    joined(world, "bob")
    ghost = world.keeper.add_user("ghost@example.com")
    world.admin_changed(ghost)
    cycle(world, resync=True)
    world.rules.policy["protect"] = ["ghost@example.com"]
    assert "will be taken over" in adopts(world, "ghost@example.com")
    cycle(world)
    assert world.plan is not None
    assert [(one.kind.value, one.subject.keeper_id) for one in world.plan.notices] == [("protected", ghost)]


def renamed_since(world: World) -> tuple[str, str]:
    """A pilot that names somebody by an address which they do not have any more; returns both ids."""
    world.rules.safety = {"max_creations": 50, "max_deactivations": 50}
    joined(world, "bob")
    ada, account = joined(world, "ada")
    world.rules.policy = {"protect": [], "only": {"users": ["ada@example.com"]}}
    cycle(world)
    world.jumpcloud.update_user(ada, email="new@example.com")
    world.admin_changed()
    return ada, account


def test_who_is_in_the_pilot_by_a_former_address_gets_a_team_that_is_new(world: World) -> None:
    ada, _ = renamed_since(world)
    world.jumpcloud.add_member(group(world, "New"), ada)
    world.admin_changed()
    cycle(world)
    assert teams_of(world, "ada") == {"New"}
    assert world.plan is not None
    assert not [one.message for one in world.plan.notices if "names nobody" in one.message]


def test_who_is_in_the_pilot_by_a_former_address_is_so_with_a_new_account(world: World) -> None:
    ada, account = renamed_since(world)
    world.keeper.delete_user(account)
    world.admin_changed(account)
    for _ in range(2):
        cycle(world, resync=True)
    world.keeper.accept_invitation(world.keeper.account("new@example.com").id)
    world.admin_changed()
    cycle(world)
    suspend(world, ada)
    cycle(world)
    assert world.keeper.account("new@example.com").locked


def invited_by_hand_anew(world: World, former: str, email: str) -> str:
    """Somebody deletes the account and makes another; returns its id."""
    world.keeper.delete_user(former)
    account = world.keeper.add_user(email)
    world.keeper.accept_invitation(account)
    world.admin_changed(former, account)
    for _ in range(2):
        cycle(world, resync=True)
    return account


def test_who_is_in_the_pilot_by_a_former_address_is_so_with_an_account_made_by_hand(world: World) -> None:
    ada, former = renamed_since(world)
    cycle(world)
    account = invited_by_hand_anew(world, former, "new@example.com")
    suspend(world, ada)
    cycle(world)
    assert world.keeper.accounts()[account].locked


@pytest.mark.parametrize("deleted", [True, False])
def test_an_account_that_is_adopted_for_a_leaver_of_the_pilot_is_locked(world: World, deleted: bool) -> None:
    world.rules.safety = {"max_creations": 50, "max_deactivations": 50}
    it = group(world, "IT")
    joined(world, "bob", it)
    world.rules.policy = {"protect": [], "only": {"groups": ["IT"]}}
    ada, former = joined(world, "ada", it)
    cycle(world)
    if deleted:
        world.jumpcloud.delete_user(ada)
    else:
        world.jumpcloud.remove_member(it, ada)
    account = invited_by_hand_anew(world, former, "ada@example.com")
    adopt(world, "ada@example.com")
    cycle(world)
    campaign_decisions.consent_to_held(world)
    cycle(world)
    assert world.keeper.accounts()[account].locked


@pytest.mark.parametrize("who", ["ada", "bob"])
def test_a_team_of_the_pilot_takes_no_third_name_for_one_outside_of_it(world: World, who: str) -> None:
    world.keeper.set_dialect(unique_group_names=True)
    one, other = group(world, "A"), group(world, "B")
    joined(world, "ada", one)
    joined(world, "bob", other)
    cycle(world, resync=True)
    world.rules.policy = {"protect": [], "only": {"users": [f"{who}@example.com"]}}
    for each, name in ((one, "C"), (other, "A"), (one, "B")):
        world.jumpcloud.rename_group(each, name)
    world.admin_changed()
    for _ in range(3):
        world.time.elapsed += 3600
        cycle(world)
    assert {team.name for team in world.keeper.teams().values()} == {"A", "B"}
    assert world.plan is not None
    assert [one.subject.name for one in world.plan.notices if "takes no second one" in one.message]


@pytest.mark.parametrize("what", ["suspended", "renamed"])
def test_what_a_link_gave_to_somebody_outside_the_pilot_is_undone_and_nothing_else(world: World, what: str) -> None:
    world.rules.safety = {"max_creations": 50}
    world.keeper.set_dialect(links_aliases=True)
    joined(world, "bob")
    zoe, account = joined(world, "zoe")
    world.keeper.change_email(account, "ada@example.com")
    world.keeper.change_email(account, "zoe@example.com", keep_alias=True)
    world.admin_changed(account)
    world.rules.policy = {"protect": [], "only": {"users": ["ada@example.com", "bob@example.com"]}}
    person(world, "ada")
    cycle(world, {f"POST {SCIM}/Users": "late_timeout"})
    assert world.keeper.accounts()[account].given_name == "ada"
    if what == "suspended":
        suspend(world, zoe)
    else:
        world.jumpcloud.update_user(zoe, firstname="Zora")
        world.admin_changed()
    for _ in range(2):
        cycle(world)
    found = world.keeper.accounts()[account]
    assert (found.external_id, found.given_name, found.active) == (zoe, "zoe", True)


def test_a_team_outside_the_pilot_of_the_first_plan_is_not_taken_over_without_a_person(world: World) -> None:
    world.rules.safety = {"max_creations": 50}
    sales, legal = group(world, "Sales"), group(world, "Legal")
    team = world.keeper.add_team("Legal")
    world.admin_changed(team)
    world.rules.policy = {"protect": [], "only": {"groups": ["Sales"]}}
    person(world, "ada", sales)
    person(world, "zoe", legal)
    cycle(world)
    assert reviewed(world)
    world.rules.policy = {"protect": []}
    unreviewed(world)
    assert world.keeper.account("zoe@example.com").invited
    assert not teams_of(world, "zoe")
    assert campaign_decisions.consent_to_held(world)
    unreviewed(world)
    assert teams_of(world, "zoe") == {"Legal"}
    assert world.keeper.teams()[team].external_id == legal


def test_a_look_at_one_person_takes_no_pilot_for_one_that_names_nobody(world: World) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    world.rules.policy = {"protect": [], "only": {"users": ["ada@example.com", "bob@example.com"]}}
    cycle(world)
    suspend(world, ada)
    cycle(world)
    world.rules.policy = {"protect": [], "only": {"users": ["bob@example.com"]}}
    activate(world, ada)
    for one in ("", "ada@example.com"):
        cycle(world, person=one)
        assert world.keeper.accounts()[account].locked
        assert world.plan is not None
        assert [op.sent for op in world.plan.operations] == [False]


def test_who_comes_into_the_pilot_while_suspended_is_one_of_it_from_then_on(world: World) -> None:
    it, sales, legal = group(world, "IT"), group(world, "Sales"), group(world, "Legal")
    joined(world, "bob", it)
    ada, account = joined(world, "ada", sales)
    world.rules.policy = {"protect": [], "only": {"groups": ["IT"]}}
    suspend(world, ada)
    cycle(world)
    world.rules.policy["only"] = {"groups": ["IT", "Sales"]}
    cycle(world, {f"PATCH {SCIM}/Users": "refused"})
    with world.open() as store:
        told = status.document(store, world.rules.settings(world.folder), world.time.now())["users"]
    world.store = None
    assert (told["leaving"], told["outside_pilot"]) == (1, 0)
    cycle(world)
    assert world.keeper.accounts()[account].locked
    world.jumpcloud.remove_member(sales, ada)
    world.jumpcloud.add_member(legal, ada)
    activate(world, ada)
    cycle(world)
    assert world.keeper.accounts()[account].active


def test_an_account_whose_question_was_closed_after_its_return_is_left_alone(world: World) -> None:
    """Neither the person who decides nor the state file knew that it had come back."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    world.keeper.move_user_to_other_node(account, NODES[1])
    suspend(world, ada)
    world.admin_changed(account)
    cycle(world, resync=True)
    world.keeper.move_user_to_other_node(account, NODES[0])
    world.admin_changed(account)
    said = campaign_decisions.disowns(world, _Chosen(world.keeper.account(account)))
    assert "whether access ended is closed" in said
    ending(world, random.Random(1))
    assert world.keeper.accounts()[account].active


@pytest.mark.parametrize(("request_", "fault"), [("GET", ""), ("PATCH", "unreachable")])
@pytest.mark.parametrize("decision", ["disown", "pause"])
def test_what_a_person_decides_before_a_request_leaves_holds_for_what_is_marked_as_sent(
    world: World, request_: str, fault: str, decision: str
) -> None:
    """A look may come before the request, and attempts that reach nobody."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    world.jumpcloud.update_user(ada, lastname="Lovelace")
    world.admin_changed()

    def update() -> tuple[str, str, str | None]:
        assert world.store is not None
        row = next(row for row in world.store.journal_rows() if row["kind"] == "update_user")
        return row["state"], row["error"], row["sent_at"]

    def decides() -> None:
        assert update()[0] == "sent"
        assert world.store is not None
        if decision == "disown":
            decisions.disown(world.store, world.time.now(), "root", "", "ada@example.com")
        else:
            world.store.add_request("pause", {}, "root", world.time.now(), "a vault is moved")

    script = {f"Keeper {request_} {SCIM}/Users/{account}#1": fault}
    weather = Weather(1, script=script, then=decides)
    world.cycle(Order(by="root"), weather)
    assert weather.then is None
    assert world.keeper.account(account).display_name == "ada Test"
    store = world.open()
    state, words, sent_at = update()
    assert (state, sent_at) == ("put_off", None)
    assert ("paused by root" if decision == "pause" else "a decision has changed this user") in words
    assert store.resume("root", world.time.now(), "") is (decision == "pause")
    world.close()
    cycle(world)
    expected = "ada Lovelace" if decision == "pause" else "ada Test"
    assert world.keeper.account(account).display_name == expected


@pytest.mark.parametrize("answered", [True, False])
def test_an_account_that_a_person_agreed_to_is_given_up_with_the_id_of_before(world: World, answered: bool) -> None:
    """Keeper links their creation to it once more."""
    world.keeper.set_dialect(links_aliases=True)
    joined(world, "bob")
    account = world.keeper.add_user("ghost@example.com", external_id="hr-4711")
    world.keeper.accept_invitation(account)
    gets_alias(world, account, "nils@example.com")
    world.admin_changed(account)
    cycle(world, resync=True)
    nils = person(world, "nils")
    cycle(world)
    assert "will be created" in adopts(world, "nils@example.com")
    cycle(world, {} if answered else {f"POST {SCIM}/Users": "late_timeout"})
    cycle(world, resync=True)
    assert world.keeper.accounts()[account].external_id == nils
    disown(world, "ghost@example.com")
    cycle(world)
    assert world.keeper.accounts()[account].external_id == "hr-4711"


@pytest.mark.parametrize("by_lane", [True, False])
def test_the_lock_of_a_leaver_does_not_follow_from_the_adoption_of_their_account_for_somebody_else(
    world: World, by_lane: bool
) -> None:
    """They are suspended while they are in grace, and before a cycle has carried the adoption out."""
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    ada, account = joined(world, "ada")
    world.jumpcloud.update_user(ada, email="ada.alt@example.com")
    world.jumpcloud.unbind_user(world.application, ada)
    world.admin_changed()
    cycle(world, resync=True)
    heir = person(world, "ada")
    cycle(world)
    adopt(world, "ada@example.com")
    suspend(world, ada)
    world.jumpcloud.oddities.spoil(heir, email=7)
    world.time.elapsed += 60
    world.say(world.lane(Weather(0)) if by_lane else world.cycle(Order(by="schedule"), Weather(0)))
    assert world.keeper.accounts()[account].locked
    with world.open() as store:
        decided = {row["decision"] for row in store.journal_rows() if row["kind"] == "deactivate_user"}
    world.store = None
    assert decided == {""}


def test_a_pause_holds_for_the_undo_of_a_link_too(world: World) -> None:
    """It is asked for while a creation is on its way, which Keeper answers with an account that is there."""
    world.rules.safety = {"max_creations": 50}
    world.keeper.set_dialect(links_aliases=True)
    joined(world, "bob")
    _, ada = joined(world, "ada")
    gets_alias(world, ada, "nils@example.com")
    world.admin_changed(ada)
    cycle(world, resync=True)
    before = world.keeper.account(ada)
    person(world, "nils")

    def pauses() -> None:
        assert world.store is not None
        world.store.add_request("pause", {}, "root", world.time.now(), "a vault is moved")

    world.time.elapsed += 600
    world.say(world.cycle(Order(by="root"), Weather(1, script={f"Keeper POST {SCIM}/Users": ""}, then=pauses)))
    assert world.keeper.account(ada).display_name == "nils Test", "not given back yet"
    assert world.open().resume("root", world.time.now(), "")
    world.close()
    cycle(world)
    assert world.keeper.account(ada) == before


@pytest.mark.parametrize("first_run", ["review", "apply"])
def test_a_pause_holds_the_takeovers_of_a_first_plan_too(world: World, first_run: str) -> None:
    """A person lets a first plan through, and pauses since it takes over the wrong account: they are shown it again."""
    world.rules.safety = {"first_run": first_run}
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    person(world, "ada")
    person(world, "bob")
    if first_run == "review":
        unreviewed(world)
        assert campaign_decisions.consent_to_held(world)
    world.open().add_request("pause", {}, "root", world.time.now(), "that is somebody else's")
    world.close()
    unreviewed(world)
    assert world.open().resume("root", world.time.now(), "")
    world.close()
    world.time.elapsed += 5 * 3600
    unreviewed(world)
    assert world.plan is not None
    assert [one.name for one in world.plan.adopts] == ["ada@example.com"]


def locks_withdrawn_invitation(world: World) -> str:
    """Ada, whose invitation our lock has withdrawn: her id."""
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    ada = person(world, "ada")
    cycle(world)
    suspend(world, ada)
    cycle(world)
    cycle(world, resync=True)
    world.rules.policy["protect"] = ["ada@example.com"]
    return ada


def test_whoever_is_protected_under_a_former_address_is_so_with_an_account_made_by_hand(world: World) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    world.rules.policy["protect"] = ["ada@example.com"]
    cycle(world, resync=True)
    world.jumpcloud.update_user(ada, email="ada.new@example.com")
    world.keeper.delete_user(account)
    new = world.keeper.add_user("ada.new@example.com")
    world.keeper.accept_invitation(new)
    world.admin_changed(account, new)
    before = world.keeper.accounts()[new]
    cycle(world, resync=True)
    suspend(world, ada)
    for _ in range(2):
        cycle(world, resync=True)
    assert world.keeper.accounts()[new] == before
    ending(world, random.Random(1))


@pytest.mark.parametrize("answered", [True, False])
def test_whoever_is_protected_under_a_former_address_is_so_once_they_are_created_anew(
    world: World, answered: bool
) -> None:
    ada = locks_withdrawn_invitation(world)
    cycle(world, resync=True)
    world.jumpcloud.update_user(ada, email="ada.new@example.com")
    activate(world, ada)
    for faults in ({} if answered else {f"POST {SCIM}/Users": "late_timeout"}, {}):
        cycle(world, faults, resync=True)
    account = world.keeper.account("ada.new@example.com").id
    world.keeper.accept_invitation(account)
    suspend(world, ada)
    for _ in range(2):
        cycle(world, resync=True)
    assert not world.keeper.accounts()[account].locked


def test_no_creation_meets_the_account_that_somebody_has_made_for_whoever_is_protected(world: World) -> None:
    """Our lock had withdrawn their invitation: they are let in, as far as we know."""
    ada = locks_withdrawn_invitation(world)
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    activate(world, ada)
    before = world.keeper.accounts()[account]
    for _ in range(2):
        cycle(world, resync=True)
    assert world.keeper.accounts()[account] == before
    ending(world, random.Random(1))


@pytest.mark.parametrize("cause", ["claimed", "partial", "moved", "protected"])
def test_whoever_was_given_up_and_could_not_be_taken_back_gets_no_second_account(world: World, cause: str) -> None:
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    ada, account = joined(world, "ada")
    disown(world, "ada@example.com")
    cycle(world)
    world.jumpcloud.update_user(ada, email="ada.new@example.com")
    world.admin_changed()
    cycle(world)
    world.rules.policy["protect"] = ["ada@example.com"] if cause == "protected" else []
    adopts(world, "ada@example.com") if cause == "protected" else adopt(world, "ada@example.com")
    other = person(world, "cy")
    if cause in ("claimed", "partial"):
        world.jumpcloud.update_user(other, email="ada.new@example.com")
    elif cause == "moved":
        world.keeper.change_email(account, "ada.married@example.com", keep_alias=False)
    world.admin_changed(account)
    cycle(world, resync=True, person="ada@example.com" if cause == "partial" else "")
    world.jumpcloud.update_user(other, email="cy@example.com")
    world.admin_changed()
    world.rules.policy["protect"] = []
    cycle(world, resync=True)
    with world.open() as store:
        managed = store.snapshot().accounts[account].managed
    world.store = None
    assert managed is (cause == "partial"), "which has not read whom else a person may have meant"
    now = world.keeper.account(account).email
    if not managed:
        assert world.plan is not None
        assert [one for one in world.plan.notices if one.message.endswith(f"reconciler adopt {now}")]
    ending(world, random.Random(1))
    assert [one.email for one in world.keeper.accounts().values() if one.email.startswith("ada")] == [now]
    if not managed:
        adopt(world, now)
        cycle(world, resync=True)
    assert world.keeper.accounts()[account].external_id == ada


def test_whose_account_is_protected_is_not_said_to_be_deleted_when_somebody_else_was_to_have_it(world: World) -> None:
    joined(world, "bob")
    ada, _ = joined(world, "ada")
    world.rules.policy["protect"] = ["ada@example.com"]
    cycle(world)
    world.jumpcloud.update_user(ada, email="ada.alt@example.com")
    suspend(world, ada)
    cycle(world)
    person(world, "ada")
    cycle(world)
    assert "Nobody will be taken over" in adopts(world, "ada@example.com")
    cycle(world)
    assert world.plan is not None
    told = {one.message for one in world.plan.notices if one.kind.value == "protected"}
    assert "protected (policy.protect): not locked, although suspended in JumpCloud as ada.alt@example.com" in told
    assert not [words for words in told if "deleted" in words]


@pytest.mark.parametrize("left", [True, False])
def test_no_consent_gives_the_account_of_whoever_was_given_up_to_somebody_else_before_they_have_left(
    world: World, left: bool
) -> None:
    """By an alias of theirs, as by their address."""
    world.rules.safety = {"max_creations": 50}
    world.keeper.set_dialect(links_aliases=True)
    joined(world, "bob")
    ada, account = joined(world, "ada")
    gets_alias(world, account, "nils@example.com")
    world.admin_changed(account)
    cycle(world, resync=True)
    disown(world, "ada@example.com")
    cycle(world)
    if left:
        suspend(world, ada)
    before = world.keeper.account(account)
    nils = person(world, "nils")
    for agreed in (False, True):
        if agreed:
            assert "will be created with the next plan" in adopts(world, "nils@example.com")
        for _ in range(2):
            cycle(world)
        assert world.plan is not None
        told = [one.message for one in world.plan.notices if one.message.startswith("The creation of nils")]
        assert bool(told) is not (left and agreed)
        assert all(("another JumpCloud user's account" in words) is not left for words in told)
    if left:
        assert world.keeper.account(account).external_id == nils
        return
    assert world.keeper.account(account) == before
    world.keeper.change_email(account, "nils@example.com", keep_alias=True)
    world.keeper.change_email(account, "ada@example.com", keep_alias=False)  # the alias is removed
    world.admin_changed(account)
    adopts(world, "nils@example.com")
    cycle(world, resync=True)
    assert world.keeper.account("nils@example.com").external_id == nils


@pytest.mark.parametrize("claimed", [True, False])
def test_no_consent_by_an_alias_gives_anybody_the_account_with_the_address_of_another(
    world: World, claimed: bool
) -> None:
    """Whoever has the address of an account that was a leaver's waits for a person to say whose it is."""
    world.rules.safety = {"max_creations": 50}
    world.keeper.set_dialect(links_aliases=True)
    joined(world, "bob")
    former = world.jumpcloud.add_user("old@example.com", state="SUSPENDED", firstname="Old", lastname="Test")
    account = world.keeper.add_user("ada@example.com", external_id=former)
    world.keeper.accept_invitation(account)
    gets_alias(world, account, "nils@example.com")
    world.admin_changed(account)
    cycle(world, resync=True)
    if claimed:
        person(world, "ada")
    nils = person(world, "nils")
    cycle(world)
    assert "will be created with the next plan" in adopts(world, "nils@example.com")
    for _ in range(2):
        cycle(world)
    assert world.keeper.account(account).external_id == (former if claimed else nils)


def test_an_account_that_a_person_gave_to_its_new_owner_is_not_locked_while_keeper_cannot_be_listed(
    world: World,
) -> None:
    ada, account = joined(world, "ada")
    joined(world, "bob")
    world.jumpcloud.unbind_user(world.application, ada)
    world.admin_changed()
    assert "in_grace" in cycle(world)
    world.jumpcloud.delete_user(ada)
    person(world, "ada")  # hired again
    adopt(world, "ada@example.com")
    for _ in range(3):
        cycle(world, {f"GET {SCIM}/Users?": "error"}, resync=True)
        assert world.keeper.account(account).active
    cycle(world, resync=True)
    assert world.keeper.account(account).active
    assert world.plan is not None and not world.plan.notices


@pytest.mark.parametrize("state", ["ACTIVATED", "STAGED"])
def test_who_comes_back_gets_no_tie_to_an_account_that_was_merely_found_and_has_anothers_address(
    world: World, state: str
) -> None:
    """Once they leave again, its lock would keep out whoever it may belong to."""
    ada, account = found_and_left(world)
    world.jumpcloud.update_user(ada, email="kim@example.com")
    person(world, "ada")
    cycle(world)
    world.jumpcloud.update_user(ada, state=state, suspended=False)
    world.admin_changed()
    for resync in (False, True):
        cycle(world, person="kim@example.com" if resync else "", resync=resync)
        assert world.keeper.accounts()[account].external_id is None
    suspend(world, ada)
    for _ in range(3):
        cycle(world, resync=True)
    assert not world.keeper.accounts()[account].locked


def test_whom_a_staged_persons_address_keeps_from_an_account_that_was_found_for_them_is_told(world: World) -> None:
    ada, _ = found_and_left(world)
    world.jumpcloud.update_user(ada, email="kim@example.com")
    world.jumpcloud.update_user(person(world, "ada"), state="STAGED")
    activate(world, ada)
    assert ending(world, random.Random(1))
    assert world.plan is not None
    told = [one.message for one in world.plan.notices if one.subject.jumpcloud_id == ada]
    assert len(told) == 1 and "it is not unlocked, and given nothing" in told[0]
