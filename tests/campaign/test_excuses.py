"""Each excuse of docs/campaign-excuses.md, as the shortest history that needs it."""

import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler import apply, decisions
from reconciler.canary import Canaries
from reconciler.cycle import Order
from reconciler.simulator.service import Request, Response
from tests.campaign import decisions as campaign_decisions
from tests.campaign import meddling, organisation, troubles
from tests.campaign.ending import ending, one_thing_broken
from tests.campaign.rules import NODES
from tests.campaign.scenes import (
    SCIM,
    activate,
    adopt,
    cycle,
    disown,
    gets_alias,
    given_up_since_a_copy,
    group,
    joined,
    moves,
    person,
    replaced_unseen,
    suspend,
    teams_of,
)
from tests.campaign.seams import Weather
from tests.campaign.world import Spared, Trouble, World

HERE = Path(__file__).parent
LIST = HERE.parents[1] / "docs" / "campaign-excuses.md"


def test_every_excuse_is_in_the_code_and_has_a_test() -> None:
    numbers = {int(number) for number in re.findall(r"^(\d+)\. ", LIST.read_text(encoding="utf-8"), re.MULTILINE)}
    code = "".join((HERE / name).read_text(encoding="utf-8") for name in ("observer.py", "ending.py"))
    tests = "".join((HERE / f"test_{name}.py").read_text(encoding="utf-8") for name in ("excuses", "regressions"))
    assert numbers == {int(number) for number in re.findall(r"excuse\((\d+)\)", code)}
    assert numbers == {int(number) for number in re.findall(r"excused\[(\d+)\]", tests)}


def test_a_membership_that_is_taken_away_by_hand_before_it_ever_shows_waits_for_ever(world: World) -> None:
    world.keeper.set_dialect(queues_every_membership=True, shows_pending_memberships=False)
    sales = group(world, "Sales")
    ada, account = joined(world, "ada")
    world.jumpcloud.add_member(sales, ada)
    world.admin_changed()
    cycle(world)
    (team,) = world.keeper.account(account).pending_teams
    world.keeper.remove_member(account, team)
    world.admin_changed(account, team)
    ending(world, random.Random(1))
    assert world.observer.excused[1]


def test_what_waits_unseen_and_had_no_answer_is_not_known_to_have_arrived(world: World) -> None:
    world.keeper.set_dialect(queues_every_membership=True, shows_pending_memberships=False)
    sales = group(world, "Sales")
    ada, account = joined(world, "ada")
    world.jumpcloud.add_member(sales, ada)
    world.admin_changed()
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "late_timeout"})
    ending(world, random.Random(1))
    assert world.observer.excused[2]


def test_names_that_a_link_has_replaced_before_they_showed_are_not_denied(world: World) -> None:
    """Their owner is suspended then, so that nothing is asked for again."""
    ada, account = joined(world, "ada")
    world.keeper.set_dialect(links_aliases=True)
    gets_alias(world, account, "nils@example.com")
    world.jumpcloud.update_user(ada, firstname="Augusta", lastname="King")
    world.admin_changed(account)
    person(world, "nils")
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "late_garbage", f"POST {SCIM}/Users": "late_error"})
    suspend(world, ada)
    ending(world, random.Random(1))
    assert world.observer.excused[2] and not world.observer.violations


@pytest.mark.parametrize("shown", [True, False])
def test_a_team_that_never_showed_may_be_deleted_when_its_group_is_back(world: World, shown: bool) -> None:
    world.keeper.set_dialect(shows_queued_teams=shown, gets_hidden_teams=False)
    world.rules.policy["grace"] = "0s"
    world.rules.teams = {"out_of_scope": "delete"}
    person(world, "ada")
    sales = group(world, "Sales")
    cycle(world)
    world.jumpcloud.unbind_group(world.application, sales)
    world.admin_changed()
    cycle(world)
    campaign_decisions.consent_to_held(world)
    cycle(world, {f"DELETE {SCIM}/Groups": "late_timeout"})
    world.jumpcloud.bind_group(world.application, sales)
    world.admin_changed()
    ending(world, random.Random(1))
    assert world.observer.excused[2] and not world.observer.violations


def test_what_two_lists_in_a_row_deny_did_not_arrive(world: World) -> None:
    ada, _ = joined(world, "ada")
    for _ in range(5):
        cycle(world, resync=True)  # what a list that is behind shows is one of these
    world.jumpcloud.update_user(ada, lastname="Berg")
    world.admin_changed()
    behind = {f"GET {SCIM}/Users/": "refused", f"GET {SCIM}/Users?": "stale"}
    cycle(world, {f"PATCH {SCIM}/Users": "late_error", **behind})
    cycle(world, {f"PATCH {SCIM}/Users": "refused", **behind}, resync=True)
    ending(world, random.Random(1))
    assert world.observer.excused[3]


def test_a_lock_that_two_lists_denied_is_somebody_elses_a_day_later(world: World) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    for _ in range(5):
        cycle(world, resync=True)  # what a list that is behind shows is one of these
    suspend(world, ada)
    cycle(world, {f"PATCH {SCIM}/Users": "late_timeout", f"GET {SCIM}/Users?": "refused"})
    activate(world, ada)
    for _ in range(2):
        cycle(world, {f"GET {SCIM}/Users?": "stale"}, resync=True)
    world.time.elapsed += 27 * 3600
    assert "locked_in_keeper" in cycle(world, resync=True)
    ending(world, random.Random(1))
    assert world.keeper.account(account).locked
    assert world.observer.excused[3] and not world.observer.violations


def test_a_lock_of_ours_that_the_state_file_can_not_know_is_somebody_elses(world: World) -> None:
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world)
    activate(world, ada)
    campaign_decisions.lost(world, random.Random(1))
    cycle(world)
    ending(world, random.Random(1))
    assert world.keeper.account(account).locked
    assert world.observer.excused[5]


@pytest.mark.parametrize("by_command", [True, False])
def test_a_copy_of_the_state_file_knows_whom_a_person_had_given_up(world: World, by_command: bool) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    disown(world, "ada@example.com")
    cycle(world)
    campaign_decisions.copied(world, random.Random(1))
    adopt(world, "ada@example.com")
    cycle(world)
    campaign_decisions.put_back(world, *world.copies[0], by_command=by_command)
    world.keeper.delete_user(account)
    world.admin_changed(account)
    assert ending(world, random.Random(1)), world.observer.violations
    assert not any(one.external_id == ada for one in world.keeper.accounts().values())


@pytest.mark.parametrize("by_command", [True, False])
def test_a_copy_of_the_state_file_knows_the_owner_of_an_account_whose_address_is_anothers_by_now(
    world: World, by_command: bool
) -> None:
    """It bears nobody's id, since Keeper had refused that."""
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    ada = person(world, "ada")
    cycle(world, {f"PATCH {SCIM}/Users": "refused"})
    campaign_decisions.copied(world, random.Random(1))
    suspend(world, ada)
    world.jumpcloud.update_user(ada, email="old@example.com")
    world.jumpcloud.update_user(person(world, "eve"), email="ada@example.com")
    world.admin_changed()
    campaign_decisions.put_back(world, *world.copies[0], by_command=by_command)
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.keeper.account(account).locked


def test_a_copy_of_the_state_file_does_not_know_that_a_membership_which_it_had_not_seen_was_taken_away(
    world: World,
) -> None:
    world.keeper.set_dialect(queues_every_membership=True, shows_pending_memberships=False)
    joined(world, "bob")
    sales = group(world, "Sales")
    ada, _ = joined(world, "ada", sales)
    campaign_decisions.copied(world, random.Random(1))
    world.jumpcloud.remove_member(sales, ada)
    world.jumpcloud.bind_user(world.application, ada)
    world.admin_changed()
    cycle(world)  # lists it first
    world.jumpcloud.add_member(sales, ada)
    world.admin_changed()
    campaign_decisions.put_back(world, *world.copies[0], by_command=False)
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.observer.excused[1]


def test_whose_lock_it_is_when_two_lock_at_once_nobody_can_tell(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, account = joined(world, "ada")
    suspend(world, ada)
    handle = world.keeper.handle

    def locks(asked: Request) -> Response:
        if asked.method == "PATCH" and not world.keeper.account(account).locked:
            world.keeper.lock(account)
            world.admin_changed(account)
        return handle(asked)

    monkeypatch.setattr(world.keeper, "handle", locks)
    cycle(world)
    activate(world, ada)
    cycle(world)
    assert world.keeper.account(account).active
    assert world.observer.excused[6]


def test_whoever_gets_the_address_of_nobodys_account_as_it_is_locked_was_not_locked(world: World) -> None:
    """A person had it taken over, and nothing but the address ties anybody to it: nobody had that before the look."""
    zoe, _ = joined(world, "zoe")
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    adopt(world, "ada@example.com")
    cycle(world, resync=True)
    campaign_decisions.consent_to_held(world)

    def readdressed() -> None:
        world.jumpcloud.update_user(zoe, email="ada@example.com")
        world.admin_changed()

    world.time.elapsed += 3600
    late = Weather(1, script={f"Keeper PATCH {SCIM}/Users/{account}": "slow"}, then=readdressed)
    world.cycle(Order(by="root"), late)
    assert world.keeper.account(account).locked and not world.observer.violations


def test_a_lock_that_was_there_when_we_looked_is_somebody_elses(world: World) -> None:
    ada, account = joined(world, "ada")
    cycle(world)
    suspend(world, ada)
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world)
    activate(world, ada)
    cycle(world)
    assert world.keeper.account(account).locked
    assert not world.observer.excused[6] and not world.observer.violations


def test_a_lock_on_top_of_one_that_was_shown_is_no_excuse(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, account = joined(world, "ada")
    cycle(world)
    suspend(world, ada)
    world.keeper.lock(account)
    world.admin_changed(account)
    monkeypatch.setattr(apply._Run, "_tells_locks", lambda *_: False)
    monkeypatch.setattr(Canaries, "_goes_alone", lambda *_: True)
    cycle(world)
    assert [one.letter for one in world.observer.violations] == ["b"]
    world.observer.violations.clear()


def test_a_lock_that_is_found_after_a_request_without_a_clear_answer_counts_as_ours(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, account = joined(world, "ada")
    cycle(world)
    suspend(world, ada)
    handle = world.keeper.handle

    def locks_and_fails(asked: Request) -> Response:
        if asked.method != "PATCH":
            return handle(asked)
        world.keeper.lock(account)
        world.admin_changed(account)
        return Response(503, {}, b"")

    monkeypatch.setattr(world.keeper, "handle", locks_and_fails)
    cycle(world)
    monkeypatch.undo()
    activate(world, ada)
    for _ in range(2):
        cycle(world, resync=True)
    assert world.keeper.account(account).active
    assert world.observer.excused[6] and not world.observer.violations


def test_a_lock_that_follows_one_of_ours_which_two_lists_denied_counts_as_ours(world: World) -> None:
    ada, account = joined(world, "ada")
    cycle(world)
    suspend(world, ada)
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "timeout"})
    world.rules.safety = {"max_deactivations": 0}
    cycle(world, resync=True)
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    activate(world, ada)
    cycle(world, resync=True)
    assert world.keeper.account(account).active
    assert world.observer.excused[6] and not world.observer.violations


def test_a_lock_counts_as_ours_for_a_day_after_the_denial_of_ours_however_long_that_took(world: World) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "timeout"})
    activate(world, ada)
    cycle(world, {f"GET {SCIM}/Users?": "error"})
    world.time.elapsed += 50 * 3600
    cycle(world, resync=True)
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    assert world.keeper.account(account).active
    assert world.observer.excused[6] and not world.observer.violations


@pytest.mark.parametrize("denied", [True, False])
def test_a_copy_of_the_state_file_knows_a_lock_of_ours_that_never_arrived(world: World, denied: bool) -> None:
    ada, account = joined(world, "ada")
    cycle(world)
    suspend(world, ada)
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "timeout"})
    if denied:
        world.rules.safety = {"max_deactivations": 0}
        cycle(world, resync=True)
    campaign_decisions.copied(world, random.Random(1))
    campaign_decisions.put_back(world, *world.copies[0], by_command=False)
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    activate(world, ada)
    cycle(world, resync=True)
    assert world.keeper.account(account).active
    assert world.observer.excused[6] and not world.observer.violations


def test_a_lock_of_ours_on_top_of_a_link_of_which_a_copy_does_not_know_is_no_undo(world: World) -> None:
    """The link had undone somebody else's lock, and our own sets no more than that again."""
    world.rules.safety = {"max_creations": 50}
    world.keeper.set_dialect(links_aliases=True, link_unlocks=True)
    joined(world, "bob")
    ada, account = joined(world, "ada")
    gets_alias(world, account, "nils@example.com")
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    campaign_decisions.copied(world, random.Random(1))
    person(world, "nils")
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "refused"})
    campaign_decisions.put_back(world, *world.copies[0], by_command=False)
    cycle(world, resync=True)
    suspend(world, ada)
    cycle(world)
    assert world.keeper.account(account).locked
    activate(world, ada)
    cycle(world)
    assert world.keeper.account(account).active
    assert not world.observer.violations


def test_our_unlock_on_top_of_a_link_of_which_a_copy_does_not_know_is_no_undo(world: World) -> None:
    """To lock them once more restores our own lock, and counts for no limit."""
    world.rules.safety = {"max_creations": 50}
    world.keeper.set_dialect(links_aliases=True)
    bob, _ = joined(world, "bob")
    account = world.keeper.add_user("fay@example.com")
    world.keeper.accept_invitation(account)
    gets_alias(world, account, "nils@example.com")
    world.admin_changed(account)
    cycle(world, resync=True)
    campaign_decisions.copied(world, random.Random(1))
    nils = person(world, "nils")
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "refused"})
    campaign_decisions.put_back(world, *world.copies[0], by_command=True)
    suspend(world, nils)
    cycle(world)
    activate(world, nils)
    cycle(world)
    cycle(world, resync=True)
    suspend(world, nils)
    cycle(world)
    suspend(world, bob)
    cycle(world)
    assert all(one.locked for one in world.keeper.accounts().values())
    assert not world.observer.violations


def test_who_had_left_the_node_when_a_copy_came_that_was_to_take_them_over_is_a_ghost_again(world: World) -> None:
    joined(world, "bob")
    account = world.keeper.add_user("eva@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    adopt(world, "eva@example.com")
    campaign_decisions.copied(world, random.Random(1))
    moves(world, account)
    campaign_decisions.put_back(world, *world.copies[0], by_command=False)
    cycle(world, resync=True)
    moves(world, account, back=True)
    ending(world, random.Random(1))
    assert world.keeper.account(account).active
    assert not world.observer.violations


@pytest.mark.parametrize("lists", [1, 2])
def test_a_lock_that_follows_one_of_ours_which_was_undone_before_it_showed_counts_as_ours(
    world: World, lists: int
) -> None:
    ada, account = joined(world, "ada")
    cycle(world)
    suspend(world, ada)
    cycle(world, {f"PATCH {SCIM}/Users/": "late_timeout", f"GET {SCIM}/Users?": "error"})
    world.keeper.unlock(account)
    world.admin_changed(account)
    activate(world, ada)
    for _ in range(lists):  # those that deny it may be behind
        cycle(world, resync=True)
    world.keeper.lock(account)
    world.admin_changed(account)
    for _ in range(2):
        cycle(world, resync=True)
    assert world.keeper.account(account).active
    assert world.observer.excused[6] and not world.observer.violations


def test_a_lock_that_follows_one_of_ours_without_an_answer_whose_account_was_elsewhere_counts_as_ours(
    world: World,
) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    cycle(world)
    suspend(world, ada)
    cycle(world, {f"PATCH {SCIM}/Users/": "late_error", f"GET {SCIM}/Users": "error"})
    world.keeper.unlock(account)
    moves(world, account)
    activate(world, ada)
    for _ in range(2):
        cycle(world, resync=True)
    world.keeper.lock(account)
    moves(world, account, back=True)
    cycle(world, resync=True)
    assert world.keeper.account(account).active
    assert world.observer.excused[6] and not world.observer.violations


@pytest.mark.parametrize("by_command", [False, True])
@pytest.mark.parametrize("unlocks", [False, True])
def test_a_lock_that_follows_an_old_copy_in_which_ours_has_no_answer_counts_as_ours(
    world: World, unlocks: bool, by_command: bool
) -> None:
    person(world, "bob")
    ada, account = joined(world, "ada")
    cycle(world)
    suspend(world, ada)
    fault = "late_timeout" if unlocks else "timeout"
    if unlocks:
        cycle(world)
        activate(world, ada)
    cycle(world, {f"PATCH {SCIM}/Users": fault, f"GET {SCIM}/Users?": "error"})
    campaign_decisions.copied(world, random.Random(1))
    if not unlocks:
        cycle(world, resync=True)
        activate(world, ada)
    cycle(world, resync=True)
    world.keeper.lock(account)
    world.admin_changed(account)
    campaign_decisions.put_back(world, *world.copies[0], by_command=by_command)
    cycle(world, resync=True)
    assert world.keeper.account(account).active or by_command
    assert world.observer.excused[6] and not world.observer.violations


def test_to_undo_a_lock_that_was_undone_before_it_showed_and_is_set_anew_by_hand_may_wait(world: World) -> None:
    ada, account = joined(world, "ada")
    cycle(world)
    suspend(world, ada)
    cycle(world, {f"PATCH {SCIM}/Users/": "late_timeout", f"GET {SCIM}/Users?": "error"})
    world.keeper.unlock(account)
    world.admin_changed(account)
    activate(world, ada)
    for _ in range(2):
        cycle(world, resync=True)
    world.keeper.lock(account)
    world.admin_changed(account)
    world.time.elapsed += 5 * 3600  # the review of the first plan lets nothing through any more
    world.rules.safety = {"max_reactivations": 0, "always_allow": 0}
    assert "held [max_reactivations 1]" in cycle(world, resync=True)
    assert world.observer.excused[12] and not world.observer.violations


@pytest.mark.parametrize("page", ["", "startIndex=2"])
@pytest.mark.parametrize("answers", [False, True])
def test_a_lock_that_follows_our_unlock_before_anything_showed_that_is_undone_with_ours(
    world: World, answers: bool, page: str
) -> None:
    ada, account = joined(world, "ada")
    cycle(world)
    suspend(world, ada)
    cycle(world)
    activate(world, ada)
    lost = {} if answers else {f"PATCH {SCIM}/Users/": "late_timeout"}
    cycle(world, {f"GET {SCIM}/Users?{page}": "error"} | lost)  # a list that is not read to its end shows nothing
    world.keeper.lock(account)
    world.admin_changed(account)
    for _ in range(2):
        cycle(world, resync=True)
    assert world.keeper.account(account).active is not answers
    assert bool(world.observer.excused[6]) is not answers and not world.observer.violations


def test_to_undo_a_lock_that_an_administrator_was_faster_to_set_counts_for_no_limit(world: World) -> None:
    ada, account = joined(world, "ada")
    cycle(world)
    suspend(world, ada)

    def lock() -> None:
        world.keeper.lock(account)
        world.admin_changed(account)

    world.cycle(Order(by="root"), Weather(1, script={f"Keeper PATCH {SCIM}/Users/{account}": "slow"}, then=lock))
    world.time.elapsed += 5 * 3600  # the review of the first plan lets nothing through any more
    world.rules.safety = {"max_reactivations": 0, "always_allow": 0}
    activate(world, ada)
    cycle(world, resync=True)
    assert world.keeper.account(account).active
    assert world.observer.excused[12] and not world.observer.violations


def test_to_undo_an_unlock_that_an_administrator_made_in_its_place_counts_for_no_limit(world: World) -> None:
    ada, account = joined(world, "ada")
    cycle(world)
    suspend(world, ada)
    cycle(world)
    world.time.elapsed += 48 * 3600
    activate(world, ada)
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "timeout"}, resync=True)
    world.keeper.unlock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    world.time.elapsed += 5 * 3600
    world.rules.safety = {"max_deactivations": 0, "always_allow": 0}
    suspend(world, ada)
    cycle(world)
    assert world.keeper.account(account).locked
    assert world.observer.excused[12] and not world.observer.violations


def test_an_invitation_that_is_gone_after_a_lock_without_a_clear_answer_counts_as_withdrawn_by_us(world: World) -> None:
    """The new account undoes that, though an administrator had withdrawn the invitation (seed 12003493)."""
    people = [person(world, f"p{number}") for number in range(9)]
    cycle(world)
    world.time.elapsed += 5 * 3600  # the review of the first plan lets nothing through any more
    suspend(world, *people[:2])
    cycle(world, {f"PATCH {SCIM}/Users": "timeout"})
    for name in ("p0", "p1"):
        account = world.keeper.account(f"{name}@example.com").id
        world.keeper.lock(account)
        world.admin_changed(account)
    for _ in range(2):
        cycle(world, resync=True)
    for number in range(2):
        person(world, f"late{number}")
        cycle(world)
    activate(world, *people[:2])
    for _ in range(2):
        cycle(world)
    created = {account.email for account in world.keeper.accounts().values()}
    assert created == {f"{name}@example.com" for name in [*(f"p{n}" for n in range(9)), "late0", "late1"]}
    assert not world.observer.violations


def test_who_is_linked_by_a_page_that_is_behind_is_the_owner(world: World) -> None:
    group(world, "Sales")
    leaver = person(world, "bob")
    account = world.keeper.add_user("bob@example.com")
    world.admin_changed(account)
    world.keeper.accept_invitation(account)
    world.cycle(Order(by="root"), Weather(0))  # the first plan waits
    suspend(world, leaver)
    script = {"JumpCloud GET /api/systemusers?": "stale", f"Keeper POST {SCIM}/Groups": "death_after"}
    world.observer.ledger.reviewed = True
    world.cycle(Order(by="root", reviewed=lambda _: True), Weather(1, script=script))
    ending(world, random.Random(1))
    assert world.observer.excused[7]


def test_who_is_protected_by_a_page_that_is_behind_stays_so(world: World) -> None:
    ada, _ = joined(world, "ada", group(world, "Sales"))
    legal = group(world, "Legal")
    world.jumpcloud.update_user(ada, email="bob@example.com")
    world.admin_changed()
    world.keeper.change_email(world.keeper.account("ada@example.com").id, "bob@example.com", keep_alias=False)
    world.admin_changed(world.keeper.account("bob@example.com").id)
    world.rules.policy["protect"] = ["ada@example.com"]
    world.say(world.cycle(Order(by="root"), Weather(1, script={"JumpCloud GET /api/systemusers?": "stale"})))
    world.jumpcloud.add_member(legal, ada)
    world.admin_changed()
    ending(world, random.Random(1))
    assert world.observer.excused[7] and not world.observer.violations
    assert teams_of(world, "bob") == {"Sales"}


def test_a_name_that_is_changed_by_hand_before_it_showed_is_what_keeper_made_of_it(world: World) -> None:
    world.keeper.set_dialect(patch_reply="none")
    ada, account = joined(world, "ada")
    for name in ("Berg", "Holm"):
        cycle(world, resync=True)
        world.jumpcloud.update_user(ada, lastname=name)
        world.admin_changed()
        cycle(world)
    world.keeper.rename_user(account, family_name="Boss")
    world.admin_changed(account)
    ending(world, random.Random(1))
    assert world.observer.excused[8]


@pytest.mark.parametrize("name", [{"given_name": "Boss"}, {"display_name": ""}])
def test_a_name_that_is_changed_by_hand_twice_to_the_same_is_what_keeper_makes_of_it(
    world: World, name: dict[str, str]
) -> None:
    ada, account = joined(world, "ada")
    world.jumpcloud.update_user(ada, displayname="Ada")
    world.admin_changed()
    for _ in range(2):
        cycle(world, resync=True)
        world.keeper.rename_user(account, **name)
        world.admin_changed(account)
    ending(world, random.Random(1))
    assert world.observer.excused[8] and not world.observer.violations


def test_a_copy_of_the_state_file_does_not_know_a_list_that_showed_a_name_since(world: World) -> None:
    _, account = joined(world, "ada")
    for _ in range(2):
        world.keeper.rename_user(account, given_name="Boss")
        world.admin_changed(account)
        if world.copies:
            campaign_decisions.put_back(world, *world.copies[0], by_command=False)
        else:
            cycle(world, resync=True)
            campaign_decisions.copied(world, random.Random(1))
            cycle(world, resync=True)
    ending(world, random.Random(1))
    assert world.observer.excused[8] and not world.observer.violations


def test_an_account_without_the_id_and_the_address_of_its_owner_is_nobodys_once_the_file_is_lost(world: World) -> None:
    world.keeper.set_dialect(ignored_attributes=frozenset({"externalId"}))
    _, account = joined(world, "ada")
    world.keeper.change_email(account, "eva@example.com", keep_alias=False)
    world.admin_changed(account)
    campaign_decisions.lost(world, random.Random(1))
    cycle(world)
    assert {one.email for one in world.keeper.accounts().values()} == {"ada@example.com", "eva@example.com"}
    assert world.observer.excused[9]


def test_an_old_copy_does_not_know_that_a_link_has_left_the_id_of_somebody_on_an_account(world: World) -> None:
    world.rules.safety = {"max_creations": 50}
    world.keeper.set_dialect(links_aliases=True)
    joined(world, "bob")
    ada, account = joined(world, "ada")
    gets_alias(world, account, "nils@example.com")
    world.admin_changed(account)
    cycle(world, resync=True)
    copy = world.path.read_bytes(), world.observer.remembered()
    person(world, "nils")
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "refused"})
    campaign_decisions.put_back(world, *copy, by_command=True)
    world.jumpcloud.delete_user(ada)
    world.admin_changed()
    ending(world, random.Random(1))
    assert world.observer.excused[9]
    world.keeper.lock(account)  # as the conflict advises
    world.admin_changed(account)
    ending(world, random.Random(1))


@pytest.mark.parametrize("whose", ["the creation", "the account"])
def test_an_old_copy_does_not_know_of_a_link_of_which_either_gets_another_address(world: World, whose: str) -> None:
    world.keeper.set_dialect(links_aliases=True)
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    eve, account = joined(world, "eve")
    if whose == "the creation":
        suspend(world, eve)
    cycle(world, resync=True)
    campaign_decisions.copied(world, random.Random(1))
    gets_alias(world, account, "ada@example.com")
    world.admin_changed(account)
    ada = person(world, "ada")
    cycle(world, {f"POST {SCIM}/Users": "late_timeout"})
    world.jumpcloud.update_user(ada if whose == "the creation" else eve, email="new@example.com")
    world.admin_changed()
    campaign_decisions.put_back(world, *world.copies[0], by_command=False)
    ending(world, random.Random(1))
    assert world.observer.excused[9] and not world.observer.violations


def test_whom_a_link_has_left_an_account_with_their_id_and_address_has_it_once_the_file_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.rules.safety = {"max_creations": "100%"}
    ada, account = joined(world, "ada")
    cleo = person(world, "cleo")
    _readdressed_before_a_creation(world, monkeypatch, account, "cleo@example.com")
    cycle(world, {f"POST {SCIM}/Users": "late_cut", f"PATCH {SCIM}/Users": "refused"})
    monkeypatch.undo()
    campaign_decisions.lost(world, random.Random(1))
    world.jumpcloud.unbind_user(world.application, ada)
    world.jumpcloud.add_member(group(world, "Design"), cleo)
    world.admin_changed()
    ending(world, random.Random(1))
    assert world.keeper.account(account).external_id == cleo and teams_of(world, "cleo") == {"Design"}
    assert world.observer.excused[9] and not world.observer.violations


def test_what_a_person_adopts_is_not_taken_over_once_it_is_in_doubt(world: World) -> None:
    person(world, "ada")
    cycle(world)
    ghost = world.keeper.add_user("former@example.com")
    world.admin_changed(ghost)
    cycle(world, resync=True)
    adopt(world, "former@example.com")
    for name in ("bob", "eve"):
        world.jumpcloud.update_user(person(world, name), email="former@example.com")
    world.admin_changed()
    ending(world, random.Random(1))
    assert world.observer.excused[10]


def test_what_a_person_adopts_is_not_taken_over_while_it_is_protected(world: World) -> None:
    person(world, "ada")
    cycle(world)
    ghost = world.keeper.add_user("former@example.com")
    world.admin_changed(ghost)
    world.rules.policy["protect"] = ["former@example.com"]
    cycle(world, resync=True)
    adopt(world, "former@example.com")
    cycle(world)
    world.rules.policy["protect"] = []
    ending(world, random.Random(1))
    assert world.observer.excused[10] and not world.observer.violations


def test_what_a_person_adopts_is_not_taken_over_once_it_has_another_address(world: World) -> None:
    """A creation that meets it by the alias that stays is undone (seed 10000452)."""
    world.keeper.set_dialect(links_aliases=True)
    sales = group(world, "Sales")
    person(world, "ada")
    cycle(world)
    ghost = world.keeper.add_user("former@example.com")
    world.admin_changed(ghost)
    cycle(world, resync=True)
    adopt(world, "former@example.com")
    world.keeper.change_email(ghost, "other@example.com", keep_alias=True)
    world.admin_changed(ghost)
    person(world, "former", sales)
    ending(world, random.Random(1))
    assert world.keeper.account("other@example.com").external_id in (None, "")
    assert world.observer.excused[10] and not world.observer.violations


def test_what_a_person_gave_up_and_adopted_is_nobodys_if_another_bears_the_id_and_address_of_its_owner(
    world: World,
) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    cycle(world)
    disown(world, "ada@example.com")
    cycle(world)
    other = world.keeper.add_user("new@example.com", external_id=ada)
    world.jumpcloud.update_user(ada, email="new@example.com")
    world.admin_changed(other)
    adopt(world, "ada@example.com")
    ending(world, random.Random(1))
    assert world.keeper.account(account).locked
    assert world.observer.excused[10] and not world.observer.violations


def test_what_a_person_gave_up_and_adopted_is_nobodys_once_it_has_left_the_node(world: World) -> None:
    joined(world, "bob")
    _, account = joined(world, "ada")
    cycle(world)
    disown(world, "ada@example.com")
    cycle(world)
    adopt(world, "ada@example.com")
    moves(world, account)
    cycle(world, resync=True)
    world.keeper.change_email(account, "cleo@example.com", keep_alias=True)
    moves(world, account, back=True)
    ending(world, random.Random(1))
    assert world.observer.excused[10] and not world.observer.violations


def test_whose_account_a_person_gave_to_the_new_bearer_of_its_address_gets_one_of_their_own(world: World) -> None:
    person(world, "ada")
    former = person(world, "former")
    world.jumpcloud.update_user(former, state="STAGED")
    account = world.keeper.add_user("former@example.com", external_id=former)
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    cycle(world)
    world.keeper.lock(account)
    world.jumpcloud.update_user(former, email="other@example.com")
    world.jumpcloud.update_user(person(world, "new"), email="former@example.com")
    world.admin_changed(account)
    adopt(world, "former@example.com")
    world.jumpcloud.update_user(former, state="ACTIVATED")
    world.admin_changed()
    ending(world, random.Random(1))
    assert {"former@example.com", "other@example.com"} <= {one.email for one in world.keeper.accounts().values()}
    assert world.observer.excused[10] and not world.observer.violations


def test_whose_id_an_account_keeps_that_a_person_gave_to_its_new_bearer_is_linked_to_one_of_their_own(
    world: World,
) -> None:
    """Somebody has locked it, so that it gets nothing, and the other account was made by hand."""
    joined(world, "ada")
    bob = person(world, "bob")
    suspend(world, bob)
    account = world.keeper.add_user("cora@example.com", external_id=bob, locked=True)
    cora = world.jumpcloud.add_user("cora@example.com", state="STAGED")
    world.jumpcloud.bind_user(world.application, cora)
    world.admin_changed(account)
    cycle(world, resync=True)
    adopt(world, "cora@example.com")
    cycle(world)
    activate(world, bob)
    own = world.keeper.add_user("bob@example.com")
    world.admin_changed(own)
    ending(world, random.Random(1))
    assert world.observer.excused[10] and not world.observer.violations
    assert world.keeper.account(own).external_id == bob


@pytest.mark.parametrize("by_command", [True, False])
@pytest.mark.parametrize("address", ["ada@example.com", "eve@example.com"])
def test_whose_account_was_given_to_somebody_else_has_none_where_a_copy_does_not_know_that(
    world: World, address: str, by_command: bool
) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world)
    campaign_decisions.copied(world, random.Random(1))
    eve = person(world, "eve")
    world.jumpcloud.update_user(ada, email="former@example.com")
    world.jumpcloud.update_user(eve, email="ada@example.com")
    world.admin_changed()
    cycle(world)
    adopt(world, "ada@example.com")
    cycle(world)
    assert world.keeper.account(account).external_id == eve
    world.jumpcloud.update_user(eve, email=address)
    activate(world, ada)
    campaign_decisions.put_back(world, *world.copies[0], by_command=by_command)
    ending(world, random.Random(1))
    assert world.observer.excused[10] and not world.observer.violations


@pytest.mark.parametrize("happens", ["locked", "renamed", "refused"])
def test_an_account_that_was_given_away_is_the_former_owners_for_an_old_copy(
    world: World, monkeypatch: pytest.MonkeyPatch, happens: str
) -> None:
    """A lock or a name by hand is told as the conflict; while Keeper refuses the account its former owner has none."""
    joined(world, "bob")
    former, account = joined(world, "ada")
    copy = world.path.read_bytes(), world.observer.remembered()
    suspend(world, former)
    world.jumpcloud.update_user(former, email="ada.alt@example.com")
    world.admin_changed()
    cycle(world)
    heir = person(world, "ada")
    cycle(world)
    adopt(world, "ada@example.com")
    cycle(world)
    cycle(world)
    campaign_decisions.put_back(world, *copy, by_command=False)
    if happens == "locked":
        world.keeper.lock(account)
    if happens == "renamed":
        world.keeper.rename_user(account, given_name="Zed")
    world.admin_changed(account)
    ending(world, random.Random(1))
    assert world.observer.excused[10]
    if happens == "refused":
        activate(world, former)
        world.jumpcloud.unbind_user(world.application, heir)
        world.admin_changed()
        _refused(world, account, monkeypatch)
    assert not world.observer.violations


def test_whose_account_was_elsewhere_and_is_a_leavers_by_an_old_copy_gets_another(world: World) -> None:
    """Its owner has another address by now, and the account that they got meanwhile."""
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
    world.admin_changed()
    cycle(world)
    campaign_decisions.put_back(world, *copy, by_command=True)
    moves(world, account)
    cycle(world, resync=True)
    moves(world, account, back=True)
    ending(world, random.Random(1))
    assert world.keeper.accounts()[account].locked and world.keeper.account("adele@example.com").active
    assert world.observer.excused[10] and not world.observer.violations


def test_an_account_that_is_adopted_while_it_is_elsewhere_may_be_given_to_whoever_has_its_address(
    world: World,
) -> None:
    """The state file does not know yet that it was away, and never learns that."""
    joined(world, "bob")
    former, account = joined(world, "ada")
    suspend(world, former)
    cycle(world)
    world.jumpcloud.update_user(former, email="ada.alt@example.com")
    heir = person(world, "ada")
    cycle(world)
    moves(world, account)
    adopt(world, "ada@example.com")
    moves(world, account, back=True)
    ending(world, random.Random(1))
    assert world.keeper.account(account).external_id == heir
    assert not world.observer.violations


def test_while_keeper_refuses_an_account_whom_a_first_plan_found_it_for_has_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    person(world, "bob")
    ada = person(world, "ada")
    account = world.keeper.add_user("ada@example.com")
    world.admin_changed(account)
    world.cycle(Order(resync=True, by="schedule"), Weather(1))
    world.jumpcloud.update_user(ada, email="ada.new@example.com")
    suspend(world, ada)
    cycle(world)
    cycle(world, resync=True)
    assert world.keeper.accounts()[account].locked
    activate(world, ada)
    _refused(world, account, monkeypatch)
    assert not world.observer.violations


def _refused(world: World, account: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeper refuses whatever is asked about this account, and nothing else happens."""

    class ThatOne(random.Random):
        def choice(self, seq: Any) -> Any:
            return account if account in seq else seq[0]

    for step in ("join", "returned", "moved", "suspended"):
        monkeypatch.setattr(organisation, step, lambda *_: "nothing happens")
    monkeypatch.setattr(troubles, "trouble", lambda *_: troubles.refused_account(world, ThatOne(1)))
    one_thing_broken(world, random.Random(1))


@pytest.mark.parametrize("has_address", [True, False])
def test_nobodys_account_stays_while_somebody_in_scope_has_its_address_or_none(world: World, has_address: bool) -> None:
    ada = person(world, "ada")
    world.jumpcloud.delete_user(ada)
    world.admin_changed()
    person(world, "bob")
    cycle(world)
    account = world.keeper.add_user("ada@example.com", external_id=ada)
    world.admin_changed(account)
    cycle(world, resync=True)
    adopt(world, "ada@example.com")
    cycle(world)
    eve = person(world, "ada")
    if not has_address:
        world.jumpcloud.update_user(eve, email="")
    world.admin_changed()
    ending(world, random.Random(1))
    assert world.observer.excused[11] and not world.observer.violations


@pytest.mark.parametrize("bound", [False, True])
def test_nobodys_account_may_be_theirs_who_has_no_address_though_somebody_unbound_has_its(
    world: World, bound: bool
) -> None:
    """Whoever has no address may have had it before. A leaver who is bound is tied to the account by it."""
    world.jumpcloud.update_user(person(world, "bob"), email="")
    ada = world.jumpcloud.add_user("ada@example.com", state="SUSPENDED", firstname="Ada", lastname="Test")
    if bound:
        world.jumpcloud.bind_user(world.application, ada)
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    cycle(world)
    adopt(world, "ada@example.com")
    ending(world, random.Random(1))
    assert not world.observer.violations
    assert bool(world.observer.excused[11]) != bound and world.keeper.account(account).active != bound


def test_what_a_person_released_and_somebody_undid_is_let_through_still(world: World) -> None:
    world.rules.policy["grace"] = "0s"
    person(world, "bob")
    ada, account = joined(world, "ada")
    world.rules.safety = {"max_deactivations": 0, "always_allow": 0}
    suspend(world, ada)
    assert "max_deactivations" in cycle(world)
    campaign_decisions.consent_to_held(world)
    cycle(world)
    world.keeper.unlock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    assert world.keeper.account(account).locked
    assert world.observer.excused[12]


def test_a_lock_that_somebody_undid_before_it_showed_counts_for_no_limit(world: World) -> None:
    (ada, account), (bob, other) = joined(world, "ada"), joined(world, "bob")
    world.rules.safety = {"max_deactivations": 1}
    suspend(world, ada)

    def undone() -> None:
        world.keeper.unlock(account)
        world.admin_changed(account)

    world.cycle(Order(), Weather(1, script={f"Keeper GET {SCIM}/Users/{account}#2": ""}, then=undone))
    activate(world, ada)
    cycle(world, resync=True)
    cycle(world, resync=True)
    suspend(world, bob)
    cycle(world)
    assert world.keeper.account(other).locked and not world.keeper.account(account).locked
    assert world.observer.excused[12]


@pytest.mark.parametrize("known", [False, True])
def test_whoever_may_not_have_been_unlocked_before_their_account_was_deleted_is_let_in_anew(
    world: World, known: bool
) -> None:
    """A creation counts for the limit only where the answer to the unlock told that our lock was undone by then."""
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world)
    activate(world, ada)
    lost = {f"PATCH {SCIM}/Users/{account}": "late_timeout", f"GET {SCIM}/Users?": "refused"}
    cycle(world, {} if known else lost)
    assert world.keeper.account(account).active
    world.keeper.delete_user(account)
    world.admin_changed(account)
    person(world, "bob")
    world.rules.safety = {"max_creations": 1}
    before = world.observer.excused[12]
    held = cycle(world, resync=True)
    assert ("max_creations" in held) == known and not world.observer.violations
    assert (world.observer.excused[12] > before) != known


def test_a_path_that_is_behind_creates_somebody_and_the_next_cycle_undoes_it(world: World) -> None:
    person(world, "ada")
    cycle(world)
    world.rules.safety = {"max_creations": 0, "always_allow": 0}
    bob = person(world, "bob")
    assert "max_creations" in cycle(world)
    world.jumpcloud.unbind_user(world.application, bob)
    world.admin_changed()
    world.rules.safety, world.rules.policy["grace"] = {}, "0s"
    script = {f"JumpCloud GET /api/v2/applications/{world.application}/users?": "stale"}
    for seed in range(9):  # which of the pages of before is shown is drawn
        world.say(world.cycle(Order(by="root"), Weather(seed, script=script)))
    cycle(world)
    assert [one.email for one in world.keeper.accounts().values()] == ["ada@example.com"]
    assert world.observer.excused[13]


@pytest.mark.parametrize("contested", [False, True])
def test_where_all_of_jumpcloud_is_behind_somebody_is_wronged_for_two_cycles_at_most(
    world: World, contested: bool
) -> None:
    """Longer only whose new address is that of somebody else's account by then."""
    person(world, "bob")
    ada, _ = joined(world, "ada")
    for seed in range(30):
        suspend(world, ada)
        for _ in range(3):
            cycle(world)
        world.jumpcloud.update_user(ada, email="ada@example.com")
        activate(world, ada)
        cycle(world)
        if contested:
            world.jumpcloud.update_user(ada, email="bob@example.com")
            world.admin_changed()
        world.say(world.cycle(Order(by="root"), Weather(seed, liars="both")))
        campaign_decisions.repaired(world)
        if world.observer.excused[14]:
            break
    assert world.observer.excused[14]


def _locked_as_all_reads_are_behind(world: World, ada: str, account: str) -> None:
    """She was suspended, Keeper refused the lock, and all that shows her as active again is behind."""
    for _ in range(5):
        cycle(world, {f"PATCH {SCIM}/Users/{account}": "refused"})
    activate(world, ada)
    for seed in range(30):
        if world.observer.wronged:
            break
        cycle(world)
        world.say(world.cycle(Order(by="root"), Weather(seed, liars="both")))
        suspend(world, ada)
        cycle(world, {f"PATCH {SCIM}/Users/{account}": "refused"})
        activate(world, ada)
    assert world.keeper.accounts()[account].locked


def test_whom_a_person_gives_up_meanwhile_nobody_unlocks(world: World) -> None:
    ada, account = joined(world, "ada")
    suspend(world, ada)
    _locked_as_all_reads_are_behind(world, ada, account)
    disown(world, "ada@example.com")
    campaign_decisions.repaired(world)
    assert world.observer.excused[14] and world.keeper.accounts()[account].locked


def test_an_account_that_was_found_by_its_id_is_not_unlocked_while_it_has_the_address_of_somebody_else(
    world: World,
) -> None:
    world.rules.policy["grace"] = "0s"
    ada = person(world, "ada")
    account = world.keeper.add_user("zoe@example.com", external_id=ada)
    world.keeper.accept_invitation(account)
    suspend(world, ada)
    world.admin_changed(account)
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "refused"})
    person(world, "zoe")
    _locked_as_all_reads_are_behind(world, ada, account)
    campaign_decisions.repaired(world)
    assert world.observer.excused[14] and world.keeper.accounts()[account].locked


def test_a_keeper_that_behaves_anew_does_so_to_a_few(world: World) -> None:
    sales, legal = group(world, "Sales"), group(world, "Legal")
    people = [person(world, f"p{number}", sales) for number in range(9)]
    joined(world, "ada")
    world.jumpcloud.add_member(legal, people[0])
    world.admin_changed()
    cycle(world, resync=True)
    world.rules.safety = {"max_grants": "100%"}
    world.keeper.set_dialect(add_replaces_groups=True)
    for one in people:
        world.jumpcloud.add_member(legal, one)
    world.admin_changed()
    cycle(world)
    assert 1 <= world.observer.excused[15] <= 4
    meddling.behaves(world, random.Random(1))
    ending(world, random.Random(1))


@pytest.mark.parametrize("answer", ["", "late_timeout"])
def test_an_addition_that_replaced_and_waits_unseen_may_be_said_to_show_nowhere(world: World, answer: str) -> None:
    """The person leaves before it is asked for again, and Keeper behaves by the time that the journal is judged."""
    ada = replaced_unseen(world, answer)
    suspend(world, ada)
    excused = world.observer.excused[15]
    ending(world, random.Random(1))
    assert world.observer.excused[15] > excused


def test_a_membership_that_waits_unseen_goes_with_the_one_that_a_link_by_an_alias_has_added(world: World) -> None:
    world.keeper.set_dialect(links_aliases=True, queues_every_membership=True, shows_pending_memberships=False)
    sales = group(world, "Sales")
    ada, _ = joined(world, "ada")
    world.jumpcloud.add_member(sales, ada)
    world.admin_changed()
    cycle(world)
    stranger = world.keeper.add_user("stranger@example.com", state="invited")
    (team,) = world.keeper.teams()
    world.keeper.add_member(stranger, team)
    for address in ("bob@example.com", "stranger@example.com"):
        world.keeper.change_email(stranger, address)
    world.admin_changed(stranger)
    bob = person(world, "bob")
    world.jumpcloud.add_member(sales, bob)
    world.admin_changed()
    cycle(world, resync=True)
    ending(world, random.Random(1))
    assert world.keeper.account(stranger).external_id in (None, "")
    assert world.observer.excused[16] and not world.observer.violations


@pytest.mark.parametrize("dies", [False, True])
def test_a_membership_that_somebody_gave_between_the_list_and_a_link_is_taken_back_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    world.keeper.set_dialect(links_aliases=True)
    sales = group(world, "Sales")
    joined(world, "ada", sales)
    (team,) = world.keeper.teams()
    ghost = world.keeper.add_user("fay@example.com")
    world.keeper.accept_invitation(ghost)
    gets_alias(world, ghost, "nils@example.com")
    world.admin_changed(ghost)
    cycle(world, resync=True)
    person(world, "nils", sales)
    handle = world.keeper.handle

    def given(asked: Request) -> Response:
        if asked.method == "POST":
            world.keeper.add_member(ghost, team)
            world.admin_changed(ghost, team)
        return handle(asked)

    monkeypatch.setattr(world.keeper, "handle", given)
    cycle(world, {f"POST {SCIM}/Users": "death_after"} if dies else {}, resync=True)
    monkeypatch.undo()
    cycle(world, resync=True)
    assert not world.keeper.account(ghost).teams
    assert world.observer.excused[16] and not world.observer.violations


def _readdressed_before_a_creation(world: World, monkeypatch: pytest.MonkeyPatch, account: str, address: str) -> None:
    """An administrator gives the account this address right before Keeper gets the first creation."""
    handle = world.keeper.handle

    def readdresses(asked: Request) -> Response:
        if asked.method == "POST" and world.keeper.account(account).email != address:
            world.keeper.change_email(account, address, keep_alias=False)
            world.admin_changed(account)
        return handle(asked)

    monkeypatch.setattr(world.keeper, "handle", readdresses)


@pytest.mark.parametrize("locked", [False, True])
def test_whoever_gets_an_address_after_the_list_loses_what_the_creation_that_met_them_gave(
    world: World, monkeypatch: pytest.MonkeyPatch, locked: bool
) -> None:
    """The lock of an administrator that the creation has undone is set again."""
    world.keeper.dialect = replace(world.keeper.dialect, link_unlocks=True)
    ghost = world.keeper.add_user("fay@example.com")
    world.keeper.accept_invitation(ghost)
    if locked:
        world.keeper.lock(ghost)
    world.admin_changed(ghost)
    sales = group(world, "Sales")
    joined(world, "ada", sales)
    person(world, "nils", sales)
    _readdressed_before_a_creation(world, monkeypatch, ghost, "nils@example.com")
    cycle(world)
    assert world.keeper.account(ghost).locked is locked
    assert world.observer.excused[4] and not world.observer.violations
    assert not teams_of(world, "nils")


def test_a_team_that_was_given_without_an_answer_counts_as_by_hand_once_its_account_was_elsewhere(world: World) -> None:
    sales = group(world, "Sales")
    joined(world, "bob", sales)
    ada, account = joined(world, "ada")
    cycle(world, resync=True)
    world.jumpcloud.add_member(sales, ada)
    world.admin_changed()
    cycle(world, {f"PATCH {SCIM}/Users/": "death_after"})
    world.jumpcloud.remove_member(sales, ada)
    moves(world, account)
    cycle(world)
    moves(world, account, back=True)
    ending(world, random.Random(1))
    assert teams_of(world, "ada") == {"Sales"}
    assert world.observer.excused[2] and not world.observer.violations


def test_a_team_that_a_lost_state_file_knew_is_new_to_the_next_one(world: World) -> None:
    """Nothing is shared with a team that was asked for within the window: who joins it counts for no limit."""
    world.keeper.set_dialect(shows_queued_teams=False, gets_hidden_teams=False)
    sales, bob = group(world, "Sales"), person(world, "bob")
    cycle(world)
    campaign_decisions.lost(world, random.Random(1))
    world.time.elapsed += 25 * 3600
    cycle(world, {f"POST {SCIM}/Groups": "timeout"})
    world.keeper.approve_all()
    world.rules.safety = {"max_grants": 0}
    world.jumpcloud.add_member(sales, bob)
    world.admin_changed()
    cycle(world, resync=True)
    assert teams_of(world, "bob") == {"Sales"}
    assert not world.observer.violations


def test_a_lock_that_somebody_undid_before_a_link_is_set_again_with_its_undo(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.keeper.set_dialect(links_aliases=True, link_unlocks=True)
    joined(world, "ada")
    ghost = world.keeper.add_user("fay@example.com")
    world.keeper.accept_invitation(ghost)
    gets_alias(world, ghost, "nils@example.com")
    world.keeper.lock(ghost)
    world.admin_changed(ghost)
    person(world, "nils")
    handle = world.keeper.handle

    def unlocked(asked: Request) -> Response:
        if asked.method == "POST":
            world.keeper.unlock(ghost)
            world.admin_changed(ghost)
        return handle(asked)

    monkeypatch.setattr(world.keeper, "handle", unlocked)
    cycle(world, resync=True)
    assert world.keeper.account(ghost).locked
    assert world.observer.excused[12] and not world.observer.violations


def test_whoever_of_ours_gets_an_address_after_the_list_is_added_to_its_teams_until_that_is_undone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, account = joined(world, "ula")
    sales = group(world, "Sales")
    cycle(world)
    world.time.elapsed += 2 * 86400
    person(world, "nils", sales)
    _readdressed_before_a_creation(world, monkeypatch, account, "nils@example.com")
    cycle(world)
    assert world.observer.excused[4] and not world.observer.violations
    assert not teams_of(world, "nils")


def test_whoever_gets_a_protected_address_after_the_last_list_is_changed_until_one_shows_that(world: World) -> None:
    world.rules.policy["protect"] = ["nils@example.com"]
    ada, account = joined(world, "ada", group(world, "Sales"))
    cycle(world, resync=True)
    world.jumpcloud.add_member(group(world, "Legal"), ada)
    world.admin_changed()
    cycle(world)
    world.keeper.change_email(account, "nils@example.com", keep_alias=True)
    world.jumpcloud.update_user(ada, lastname="Berg")
    world.admin_changed(account)
    cycle(world)
    assert world.observer.excused[4] and not world.observer.violations
    world.jumpcloud.update_user(ada, lastname="Holm")
    world.admin_changed()
    cycle(world, resync=True)
    assert world.keeper.account(account).family_name == "Berg" and not world.observer.violations


def test_whoever_was_created_without_an_answer_and_readdressed_is_nobody_we_made(world: World) -> None:
    sales = group(world, "Sales")
    joined(world, "ada", sales)
    person(world, "bob", sales)
    cycle(world, {f"POST {SCIM}/Users": "death_after"})
    account = world.keeper.account("bob@example.com").id
    world.keeper.accept_invitation(account)
    world.keeper.change_email(account, "cora@example.com", keep_alias=True)
    world.admin_changed(account)
    cora = person(world, "cora")
    cycle(world, person="ada@example.com")
    for _ in range(3):
        cycle(world, resync=True)
    assert world.observer.excused[4] and not world.observer.violations
    assert world.keeper.account(account).external_id == cora


def test_what_a_creation_without_an_answer_gave_counts_for_no_limit_when_it_is_taken_back(world: World) -> None:
    test_whoever_was_created_without_an_answer_and_readdressed_is_nobody_we_made(world)
    cora = next(one for one in world.truth.people if world.truth.address(one) == "cora@example.com")
    legal = group(world, "Legal")
    world.jumpcloud.add_member(legal, cora)
    world.admin_changed()
    cycle(world)
    world.keeper.approve_all()
    world.admin_changed()
    cycle(world, resync=True)
    world.jumpcloud.remove_member(legal, cora)
    world.admin_changed()
    cycle(world)
    assert "Legal" not in teams_of(world, "cora") and not world.observer.violations


def test_whose_account_was_readdressed_before_it_showed_has_none_until_a_person_decides(world: World) -> None:
    """It passes for an account to which Keeper linked the creation, and is that of whoever has its address."""
    joined(world, "ada")
    bob = person(world, "bob")
    cycle(world, {f"POST {SCIM}/Users": "death_after"})
    account = world.keeper.account("bob@example.com").id
    world.keeper.change_email(account, "cora@example.com", keep_alias=False)
    world.admin_changed(account)
    cora = person(world, "cora")
    ending(world, random.Random(1))
    assert world.observer.excused[4] and not world.observer.violations
    assert world.keeper.account(account).external_id == cora
    with world.open() as store:
        decisions.adopt(store, world.time.now(), "root", "", email="bob@example.com")
    world.store = None
    cycle(world)
    assert world.keeper.account("bob@example.com").external_id == bob


def test_an_account_that_passes_for_linked_and_is_adopted_as_nobodys_is_locked(world: World) -> None:
    joined(world, "ada")
    person(world, "bob")
    cycle(world, {f"POST {SCIM}/Users": "death_after"})
    account = world.keeper.account("bob@example.com").id
    world.keeper.accept_invitation(account)
    world.keeper.change_email(account, "cora@example.com", keep_alias=False)
    world.admin_changed(account)
    cycle(world)
    adopt(world, "cora@example.com")
    ending(world, random.Random(1))
    assert world.observer.excused[4] and not world.observer.violations
    assert world.keeper.account(account).locked


@pytest.mark.parametrize("away", [False, True])
def test_an_account_that_somebody_made_with_the_id_of_a_person_whose_creation_had_no_answer_passes_for_linked(
    world: World, away: bool
) -> None:
    """It has another address, and loses the id, also where it was in another node while they were created."""
    joined(world, "ada")
    cycle(world)
    bob = person(world, "bob")
    account = ""
    if away:
        account = world.keeper.add_user("cora@example.com", external_id=bob)
        world.admin_changed(account)
        cycle(world, resync=True)
        moves(world, account)
    cycle(world, {f"POST {SCIM}/Users": "error"}, resync=True)
    if away:
        moves(world, account, back=True)
    account = account or world.keeper.add_user("cora@example.com", external_id=bob)
    world.admin_changed(account)
    ending(world, random.Random(1))
    assert world.observer.excused[4] and not world.observer.violations
    assert not world.keeper.account(account).external_id


def test_an_account_that_comes_back_after_its_owners_creation_died_passes_for_one_that_was_linked(world: World) -> None:
    """The state file that knew it is lost, and its owner has another address (seed 12002217)."""
    sales = group(world, "Sales")
    ada, account = joined(world, "ada", sales)
    cycle(world)
    world.keeper.move_user_to_other_node(account, NODES[1])
    world.admin_changed(account)
    world.jumpcloud.update_user(ada, email="zoe@example.com")
    world.admin_changed()
    campaign_decisions.lost(world, random.Random(1))
    cycle(world, {f"POST {SCIM}/Users": "death_before"})
    world.keeper.move_user_to_other_node(account, NODES[0])
    world.admin_changed(account)
    cycle(world, resync=True)
    assert not teams_of(world, "ada")
    new = person(world, "ada")
    ending(world, random.Random(1))
    assert world.keeper.account(account).external_id == new
    assert world.observer.excused[4] and not world.observer.violations


def test_a_link_without_an_answer_that_another_link_has_replaced_is_not_known_to_have_been(world: World) -> None:
    world.keeper.set_dialect(links_aliases=True)
    _, quin = joined(world, "quin")
    cycle(world)
    for alias in ("dan", "mia"):
        world.keeper.change_email(quin, f"{alias}@example.com")
        world.keeper.change_email(quin, "quin@example.com")
        person(world, alias)
    world.admin_changed(quin)
    cycle(world, {f"POST {SCIM}/Users#1": "late_timeout"})
    ending(world, random.Random(1))
    assert world.observer.excused[2] and not world.observer.violations


def test_an_account_that_comes_back_after_its_owner_was_given_another_is_told(world: World) -> None:
    ada, account = joined(world, "ada")
    cycle(world)
    world.keeper.move_user_to_other_node(account, NODES[1])
    world.admin_changed(account)
    cycle(world, resync=True)
    world.jumpcloud.update_user(ada, email="zoe@example.com")
    world.admin_changed()
    for _ in range(2):
        cycle(world, resync=True)
    assert world.keeper.account("zoe@example.com").external_id == ada
    world.keeper.accept_invitation(world.keeper.account("zoe@example.com").id)
    world.keeper.move_user_to_other_node(account, NODES[0])
    world.admin_changed(account)
    suspend(world, ada)
    for _ in range(2):
        cycle(world, resync=True)
    ending(world, random.Random(1))
    assert world.observer.excused[11] and not world.observer.violations


def test_who_comes_into_scope_once_an_account_was_listed_with_their_address_is_its_owner(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It got another address before they were in scope, and both after Keeper was listed (seed 10022458)."""
    zoe = world.jumpcloud.add_user("zoe@example.com", state="STAGED", firstname="Zoe", lastname="Test")
    world.jumpcloud.bind_user(world.application, zoe)
    account = world.keeper.add_user("zoe@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    person(world, "ada")
    handle = world.jumpcloud.handle

    def moves(asked: Request) -> Response:
        if world.observer.latest.users_shown and world.keeper.account(account).email == "zoe@example.com":
            world.keeper.change_email(account, "bela@example.com", keep_alias=False)
            world.admin_changed(account)
            activate(world, zoe)
        return handle(asked)

    monkeypatch.setattr(world.jumpcloud, "handle", moves)
    cycle(world)
    monkeypatch.undo()
    assert world.keeper.account(account).external_id == zoe
    assert world.observer.excused[4] and not world.observer.violations
    ending(world, random.Random(1))


def test_an_account_that_somebody_made_with_the_id_of_a_person_who_has_another_is_told(world: World) -> None:
    """Their own is locked by somebody else, and so never got the id (seed 21102112 of denser histories)."""
    person(world, "bob")
    cycle(world)
    ada, own = person(world, "ada"), world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(own)
    world.keeper.lock(own)
    world.admin_changed(own)
    cycle(world, resync=True)
    world.jumpcloud.update_user(ada, email="zoe@example.com")
    other = world.keeper.add_user("zoe@example.com", external_id=ada)
    world.keeper.accept_invitation(other)
    world.admin_changed(other)
    cycle(world, resync=True)
    suspend(world, ada)
    ending(world, random.Random(1))
    assert world.observer.excused[11] and not world.observer.violations


def _with_a_list_down(world: World, monkeypatch: pytest.MonkeyPatch, path: str, spared: Spared, *leavers: str) -> None:
    """Suspend these while a list of JumpCloud is down, as at the end of a history."""

    def down(world: World, _draw: random.Random) -> Trouble:
        suspend(world, *leavers)
        world.jumpcloud.oddities.take_down(path, 503)
        return Trouble(path, lambda: world.jumpcloud.oddities.put_up(path), spared)

    for step in ("join", "returned", "moved", "suspended"):
        monkeypatch.setattr(organisation, step, lambda *_: "nothing happens")
    monkeypatch.setattr(troubles, "trouble", down)
    one_thing_broken(world, random.Random(1))


def _without_the_bound(world: World, monkeypatch: pytest.MonkeyPatch, *leavers: str) -> None:
    """No cycle comes to its end, and the leaver lane alone locks."""
    bound = f"/api/v2/applications/{world.application}/users"
    _with_a_list_down(world, monkeypatch, bound, Spared(all_but_suspended=True), *leavers)


def test_what_was_told_of_an_account_stands_while_cycles_fail(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    test_an_account_that_comes_back_after_its_owner_was_given_another_is_told(world)
    _without_the_bound(world, monkeypatch)
    assert not world.observer.violations


@pytest.mark.parametrize("all_leave", [False, True])
def test_an_account_given_to_a_leaver_waits_where_a_copy_does_not_know_that_and_cycles_fail(
    world: World, monkeypatch: pytest.MonkeyPatch, all_leave: bool
) -> None:
    """The lane can't tell whose it is; and what it holds, it holds whatever it could not confirm beside that."""
    test_whose_account_was_given_to_somebody_else_has_none_where_a_copy_does_not_know_that(
        world, "ada@example.com", False
    )
    (eve,) = (one for one in world.truth.people if world.truth.people[one].email == "ada@example.com")
    _without_the_bound(world, monkeypatch, *(world.truth.people if all_leave else (eve,)))
    assert not world.observer.violations


def _given_since_a_copy(world: World) -> str:
    """The account of somebody who is deleted is given to the new bearer of its address, of which a copy does not know:
    that one's JumpCloud id."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    campaign_decisions.copied(world, random.Random(1))
    world.jumpcloud.delete_user(ada)
    world.admin_changed()
    cycle(world)
    heir = person(world, "ada")
    cycle(world)
    adopt(world, "ada@example.com")
    cycle(world)
    assert world.keeper.account(account).external_id == heir and not world.keeper.account(account).locked
    campaign_decisions.put_back(world, *world.copies[0], by_command=False)
    return heir


def test_an_account_that_was_given_to_the_heir_of_somebody_deleted_waits_where_a_copy_does_not_know_that(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lane can't tell whose it is, once the heir is suspended."""
    sales = group(world, "Sales")
    person(world, "bob", sales)
    ada, account = joined(world, "ada", sales)
    campaign_decisions.copied(world, random.Random(1))
    world.jumpcloud.delete_user(ada)
    world.admin_changed()
    cycle(world)
    heir = person(world, "ada", sales)
    cycle(world)
    adopt(world, "ada@example.com")
    for _ in range(2):
        cycle(world)
    campaign_decisions.put_back(world, *world.copies[0], by_command=False)
    assert ending(world, random.Random(1))
    _without_the_bound(world, monkeypatch, heir)
    assert not world.observer.violations and world.observer.excused[10]
    for _ in range(2):
        cycle(world, resync=True)
    assert world.keeper.account(account).locked


@pytest.mark.parametrize("locked", [False, True])
def test_nothing_is_changed_about_an_account_that_was_given_to_somebody_since_a_copy_was_made(
    world: World, locked: bool
) -> None:
    heir = _given_since_a_copy(world)
    if locked:  # and they come back
        for state in (suspend, activate):
            cycle(world)
            cycle(world)
            state(world, heir)
    world.jumpcloud.update_user(heir, firstname="Ada", lastname="Berg")
    world.jumpcloud.add_member(group(world, "Sales"), heir)
    world.admin_changed()
    ending(world, random.Random(1))
    assert world.observer.excused[10] and not world.observer.violations


def test_the_account_of_a_deleted_person_given_to_a_leaver_waits_where_a_copy_does_not_know_that_and_cycles_fail(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    heir = _given_since_a_copy(world)
    ending(world, random.Random(1))
    _without_the_bound(world, monkeypatch, heir)
    assert world.observer.excused[10] and not world.observer.violations


def test_an_account_given_since_a_copy_was_made_is_that_of_a_leaver_who_has_its_address_again(world: World) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    campaign_decisions.copied(world, random.Random(1))
    suspend(world, ada)
    world.jumpcloud.update_user(ada, email="ada.alt@example.com")
    world.admin_changed()
    cycle(world)
    heir = person(world, "ada")
    cycle(world)
    adopt(world, "ada@example.com")
    cycle(world)
    assert world.keeper.account(account).external_id == heir
    world.jumpcloud.update_user(heir, email="eve@example.com")
    world.jumpcloud.update_user(ada, email="ada@example.com")
    world.admin_changed()
    campaign_decisions.put_back(world, *world.copies[0], by_command=False)
    ending(world, random.Random(1))
    assert world.keeper.account(account).locked and world.keeper.account("eve@example.com").active
    assert world.observer.excused[10] and not world.observer.violations


def test_a_membership_that_nothing_had_shown_when_an_addition_replaced_it_passes_for_one_that_waits(
    world: World,
) -> None:
    """No answer shows what an addition does, and nobody is in a team of which the first could lose them."""
    world.rules.safety = dict.fromkeys(("max_creations", "max_grants"), "100%")
    world.keeper.set_dialect(patch_reply="none")
    sales, design = group(world, "Sales"), group(world, "Design")
    people = [person(world, "zoe"), *(person(world, f"p{n}") for n in range(4))]
    cycle(world)
    for account in world.keeper.accounts():
        world.keeper.accept_invitation(account)
    world.keeper.approve_all()
    world.admin_changed()
    cycle(world, resync=True)
    world.keeper.set_dialect(add_replaces_groups=True)
    for one in people:
        world.jumpcloud.bind_user(world.application, one)
    for team in (sales, design):
        for one in people:
            world.jumpcloud.add_member(team, one)
        world.admin_changed()
        cycle(world)
    ending(world, random.Random(1))
    assert world.observer.excused[1] and not world.observer.violations


def test_nobodys_account_that_bears_the_id_of_somebody_deleted_waits_for_the_whole_list(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has its address any more but somebody who is suspended by then."""
    test_nobodys_account_stays_while_somebody_in_scope_has_its_address_or_none(world, True)
    (eve,) = (one for one in world.truth.people if world.truth.people[one].email == "ada@example.com")
    _with_a_list_down(world, monkeypatch, "/api/systemusers", Spared(nobodys=True), eve)
    assert not world.observer.violations


def test_an_account_that_comes_back_after_a_person_adopted_another_for_its_owner_is_told(world: World) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    other = world.keeper.add_user("x@example.com", external_id=ada)
    world.admin_changed(other)
    cycle(world, resync=True)
    adopt(world, "x@example.com")
    moves(world, account)
    cycle(world, resync=True)
    suspend(world, ada)
    cycle(world)
    moves(world, account, back=True)
    ending(world, random.Random(1))
    assert world.observer.excused[11] and not world.observer.violations


def test_a_lock_whose_look_had_no_answer_counts_as_ours_though_another_look_beside_it_showed_it(world: World) -> None:
    ada, account = joined(world, "ada")
    cycle(world)
    suspend(world, ada)
    world.keeper.lock(account)
    world.admin_changed(account)

    def looked() -> None:
        read = Request("GET", f"{SCIM}/Users/{account}", {}, b"")
        world.observer.answered(read, Response.of_json(200, {"active": False}))

    weather = Weather(1, script={f"Keeper GET {SCIM}/Users/{account}": "timeout"})
    weather.then = looked
    world.time.elapsed += 600
    world.cycle(Order(by="root"), weather)
    assert world.observer.excused[6] and not world.observer.violations


def test_an_adoption_lapses_while_the_account_is_linked_by_an_alias(world: World) -> None:
    """It bears the id of somebody in scope under another address until that is undone."""
    world.keeper.set_dialect(links_aliases=True)
    joined(world, "bob")
    former = world.keeper.add_user("former@example.com")
    gets_alias(world, former, "ada@example.com")
    world.admin_changed(former)
    cycle(world, resync=True)
    person(world, "ada")
    cycle(world, {f"POST {SCIM}/Users": "death_after"})
    adopt(world, "former@example.com")
    cycle(world)
    ending(world, random.Random(1))
    assert world.keeper.accounts()[former].active
    assert world.observer.excused[10] and not world.observer.violations


def test_a_first_plan_finds_the_account_of_somebody_whom_a_list_that_is_behind_shows_as_active(world: World) -> None:
    """They are locked with the plan that is reviewed at last."""
    unreviewed = Order(by="schedule", resync=True)
    person(world, "bob")
    ines = person(world, "ines")
    for _ in range(6):  # until nothing that is remembered is older
        world.cycle(unreviewed, Weather(0))
    suspend(world, ines)
    account = world.keeper.add_user("ines@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    world.cycle(unreviewed, Weather(1, script={"JumpCloud GET /api/": "stale"}))
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.keeper.accounts()[account].locked and world.observer.excused[7]


def test_of_two_people_with_one_address_one_is_created_while_a_list_that_breaks_off_hides_the_other(
    world: World,
) -> None:
    world.jumpcloud.assumptions = replace(world.jumpcloud.assumptions, page_rows=2)
    joined(world, "bob")
    for name in ("ada", "zoe"):
        person(world, name)
    other = world.jumpcloud.add_user("ADA@example.com", state="ACTIVATED", firstname="Ada", lastname="Test")
    world.jumpcloud.bind_user(world.application, other)
    world.admin_changed()
    fields = "email+firstname+lastname+displayname+state+suspended"
    listed = f"JumpCloud GET /api/systemusers?fields={fields}&sort=_id&limit=100&skip=4"
    script = {listed: "garbage", "JumpCloud POST /api/search/systemusers": "redirected"}
    world.cycle(Order(by="root"), Weather(1, script=script))
    assert world.observer.excused[7] and not world.observer.violations


@pytest.mark.parametrize("released", [False, True])
def test_a_lock_without_an_answer_that_a_person_lets_through_once_more_counts_for_no_limit(
    world: World, released: bool
) -> None:
    """The second one never arrives."""
    world.rules.safety = {"max_creations": 50}
    people = {name: joined(world, name) for name in ("ada", "bob", "cleo", "dora", "eve")}
    ada, account = people["ada"]
    suspend(world, ada)
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "interrupted"})
    unread = {f"GET {SCIM}/Users": "refused"}
    if released:
        world.rules.safety |= {"max_deactivations": 0, "always_allow": 0}
        assert "max_deactivations" in cycle(world, unread)
        campaign_decisions.consent_to_held(world)
    else:
        campaign_decisions.allows(world, random.Random(1))
    cycle(world, {**unread, f"PATCH {SCIM}/Users/{account}": "death_before"})
    world.rules.safety = {"max_creations": 50}
    cycle(world, resync=True)
    world.time.elapsed += 5 * 3600  # it has lapsed by then
    suspend(world, *(people[name][0] for name in ("bob", "cleo", "dora")))
    cycle(world)
    assert world.observer.excused[12] and not world.observer.violations


def test_a_lock_that_nothing_has_shown_and_an_unlock_undid_counts_for_no_limit(world: World) -> None:
    world.rules.safety = {"max_deactivations": 1}
    cy, _ = joined(world, "cy")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    world.keeper.show_oddly(account, {"active": "perhaps"})
    cycle(world, {f"PATCH {SCIM}/Users": "late_timeout"})
    activate(world, ada)
    cycle(world)
    world.keeper.show_oddly(account, {})
    cycle(world, resync=True)
    suspend(world, cy)
    assert "[" not in cycle(world)
    assert world.observer.excused[12] and not world.observer.violations


def test_who_was_given_up_since_a_copy_was_made_and_has_another_account_by_then_is_a_ghost(world: World) -> None:
    """The first shows neither their id nor their address."""
    ada, account, _ = given_up_since_a_copy(world)
    cycle(world, resync=True)
    suspend(world, ada)
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.observer.excused[11] and world.keeper.account(account).active


def test_an_account_that_was_given_and_given_up_since_a_copy_was_made_is_its_former_owners(world: World) -> None:
    """It bears their id again, and the copy knows it as theirs: it is locked as a leaver's."""
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    former, account = joined(world, "ada")
    campaign_decisions.copied(world, random.Random(1))
    suspend(world, former)
    world.jumpcloud.update_user(former, email="ada.alt@example.com")
    world.admin_changed()
    cycle(world)
    person(world, "ada")
    cycle(world)
    adopt(world, "ada@example.com")
    cycle(world)
    disown(world, "ada@example.com")
    cycle(world)
    assert world.keeper.accounts()[account].active and world.keeper.accounts()[account].external_id == former
    campaign_decisions.put_back(world, *world.copies[0], by_command=False)
    cycle(world)
    ending(world, random.Random(1))
    assert world.keeper.accounts()[account].locked
    assert world.observer.excused[10] and not world.observer.violations


def test_a_protected_account_that_passes_for_linked_loses_its_id(world: World) -> None:
    """It was in another node while the person whose id it bears was created, and that had no answer."""
    joined(world, "ada")
    cycle(world)
    bob = person(world, "bob")
    account = world.keeper.add_user("cora@example.com", external_id=bob)
    world.admin_changed(account)
    cycle(world, resync=True)
    moves(world, account)
    world.rules.policy["protect"] = ["cora@example.com"]
    cycle(world, {f"POST {SCIM}/Users": "error"}, resync=True)
    moves(world, account, back=True)
    ending(world, random.Random(1))
    assert not world.keeper.account(account).external_id
    assert world.observer.excused[4] and not world.observer.violations


def test_a_team_that_never_showed_may_be_deleted_since_a_copy_was_made(world: World) -> None:
    world.keeper.set_dialect(shows_queued_teams=False, gets_hidden_teams=False)
    world.rules.policy["grace"] = "0s"
    world.rules.teams = {"out_of_scope": "delete"}
    person(world, "ada")
    sales = group(world, "Sales")
    cycle(world)
    campaign_decisions.copied(world, random.Random(1))
    world.jumpcloud.unbind_group(world.application, sales)
    world.admin_changed()
    cycle(world)
    campaign_decisions.consent_to_held(world)
    cycle(world)
    assert not world.keeper.teams()
    campaign_decisions.put_back(world, *world.copies[0], by_command=False)
    world.jumpcloud.bind_group(world.application, sales)
    world.admin_changed()
    ending(world, random.Random(1))
    assert not world.observer.violations


def test_an_adoption_of_an_account_to_which_keeper_has_just_linked_a_creation_is_in_doubt(world: World) -> None:
    """The process died then, and whatever the link did is undone by the cycle that was to take the account over."""
    world.keeper.set_dialect(links_aliases=True)
    joined(world, "bob")
    ghost = world.keeper.add_user("former@example.com")
    gets_alias(world, ghost, "ada@example.com")
    world.admin_changed(ghost)
    cycle(world, resync=True)
    person(world, "ada")
    cycle(world, {f"POST {SCIM}/Users": "death_after"})
    adopt(world, "former@example.com")
    cycle(world)
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.observer.excused[10] and world.keeper.account(ghost).active


def test_an_adoption_of_an_account_whose_owner_has_another_with_their_id_and_address_is_in_doubt(world: World) -> None:
    """They have left by the end, and it is told as a ghost."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    cycle(world)
    disown(world, "ada@example.com")
    other = world.keeper.add_user("new@example.com", external_id=ada)
    world.jumpcloud.update_user(ada, email="new@example.com")
    world.admin_changed(other)
    adopt(world, "ada@example.com")
    assert "conflict" in cycle(world, resync=True)
    suspend(world, ada)
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.observer.excused[10] and world.keeper.account(account).active


def test_a_lock_that_a_record_hid_until_we_undid_it_counts_for_no_limit(world: World) -> None:
    bob, _ = joined(world, "bob")
    ada, account = joined(world, "ada")
    cycle(world)
    suspend(world, ada)
    world.keeper.show_oddly(account, {"active": "perhaps"})
    cycle(world, {f"PATCH {SCIM}/Users": "late_timeout"})
    activate(world, ada)
    cycle(world)
    world.keeper.show_oddly(account)
    for _ in range(2):
        cycle(world, resync=True)
    suspend(world, bob)
    cycle(world)
    assert not world.keeper.account(account).locked and world.keeper.account("bob@example.com").locked
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.observer.excused[12]


def test_a_lock_that_follows_one_whose_refusal_was_lost_counts_as_ours(world: World) -> None:
    """The account was in another node then, and no list has shown that."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    moves(world, account)
    suspend(world, ada)
    cycle(world, {f"GET {SCIM}/Users?": "error", f"PATCH {SCIM}/Users/{account}": "late_timeout"})
    moves(world, account, back=True)
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    activate(world, ada)
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.observer.excused[6] and world.keeper.account(account).active


def test_a_creation_that_was_marked_as_sent_when_the_process_died_may_have_met_an_account(world: World) -> None:
    """Somebody makes it later, with the id of whoever was to be created."""
    ada = person(world, "ada")
    world.time.elapsed += 600
    world.rules.safety = {"first_run": "apply"}
    assert "death_written write#13" in world.cycle(Order(by="root"), Weather(219, writes=0.1))
    world.jumpcloud.delete_user(ada)
    world.admin_changed()
    cycle(world, {f"GET {SCIM}/Users?": "refused"})
    account = world.keeper.add_user("bob@example.com", external_id=ada)
    world.admin_changed(account)
    person(world, "bob")
    cycle(world)
    assert world.observer.excused[4] and not world.observer.violations
