"""What became of operations whose outcome is unknown: read from what Keeper shows, never guessed."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.births import refused_words
from reconciler.model import Group, Inventory, InventoryTeam, KeeperUser, Snapshot, Standing
from reconciler.plan import Change, Kind, Operation
from reconciler.promise import NOT_HERE
from reconciler.rows import DENIED, DISAGREES, GONE, SETTLED, UNASKED, State
from reconciler.settle import NEVER, TOO_EARLY, Settled, as_answered, denied_once, outcome_name, settle
from reconciler.snapshot import after_user, observed
from tests.operations import op, ref, shown, shown_team, team_op
from tests.world import MEMBER, NOW, account, decide, directory, group, listing, snapshot, team, user

ADA, EVE = user(1, 9), user(2)
ENG, SALES = group(9), group(8)
T9, T8 = team(ENG).keeper_id, team(SALES).keeper_id
SENT = NOW - timedelta(minutes=5)


def settled(one: Operation, held: Snapshot, former: Snapshot | None = None) -> tuple[Settled, Snapshot]:
    outcomes, after = settle([(7, one, SENT)], held, former or snapshot([]), NOW)
    return outcomes[7], after


def stranger(**values: object) -> Snapshot:
    """Keeper shows an account that we know nothing of."""
    return snapshot([account(ADA, standing=Standing.UNMANAGED, jumpcloud_id="", asked={}, settled={}, **values)])


# -- people ---------------------------------------------------------------------------------------------------------


def test_a_lock_that_is_found_is_ours_so_that_we_may_undo_it() -> None:
    outcome, after = settled(op(Kind.DEACTIVATE_USER, ADA), snapshot([account(ADA, active=False)]))
    assert outcome.state is State.DONE and after.accounts["k0001"].locked_by_us


def test_who_is_still_active_was_not_locked_and_nothing_is_concluded() -> None:
    held = snapshot([account(ADA)])
    outcome, after = settled(op(Kind.DEACTIVATE_USER, ADA), held)
    assert outcome.state is State.FAILED and after == held


def test_who_is_active_again_was_unlocked_and_the_lock_is_ours_no_more() -> None:
    locked = account(ADA, locked_by_us=True, left_at=NOW)
    outcome, after = settled(op(Kind.REACTIVATE_USER, ADA), snapshot([locked]))
    assert outcome.state is State.DONE and after.accounts["k0001"] == account(ADA, left_at=NOW), "they left since then"
    still, _ = settled(op(Kind.REACTIVATE_USER, ADA), snapshot([replace(locked, active=False)]))
    assert still.state is State.FAILED


def test_a_lock_without_an_answer_says_nothing_of_one_that_was_seen_before_the_account_was_gone() -> None:
    seen = account(ADA, active=False, gone=True, locked_by_us=True, left_at=NOW)
    _, after = settled(op(Kind.DEACTIVATE_USER, ADA), snapshot([seen]))
    assert after.accounts["k0001"].locked_by_us


def test_a_lock_that_met_no_account_does_not_hide_that_its_owner_is_back() -> None:
    """Else they would count as deleted in Keeper, and not be created anew where drift is only reported."""
    back = account(ADA, active=True, gone=True)
    outcome, after = settled(op(Kind.DEACTIVATE_USER, ADA), snapshot([back]))
    assert outcome.words == NOT_HERE and after.accounts["k0001"] == back


def test_a_leaver_who_is_gone_is_done_and_whatever_else_was_asked_for_them_is_not() -> None:
    held = snapshot([account(ADA, gone=True, active=False)])
    outcome, after = settled(op(Kind.DEACTIVATE_USER, ADA), held)
    assert outcome.state is State.DONE and "not in this Keeper node" in outcome.words
    assert not after.accounts["k0001"].locked_by_us, "a 404 is no evidence of a lock"
    for other in (op(Kind.REACTIVATE_USER, ADA), op(Kind.UPDATE_USER, ADA, remove=(ref(ENG),))):
        outcome, _ = settled(other, held)
        assert outcome.state is State.PUT_OFF and "nothing tells" in outcome.words, "it may have arrived, and counts so"
    just_sent, _ = settle([(7, op(Kind.REACTIVATE_USER, ADA), NOW)], held, held, NOW)
    assert just_sent[7] == TOO_EARLY


def test_an_account_that_nobody_manages_and_that_is_gone_after_our_lock_was_locked_by_nobody_else() -> None:
    """Else nobody would be created under its address any more."""
    memory = replace(account(ADA), standing=Standing.UNMANAGED, jumpcloud_id="", gone=True)
    outcome, after = settled(op(Kind.DEACTIVATE_USER, ADA), snapshot([memory]))
    assert outcome.state is State.DONE and not after.accounts["k0001"].locked_by_others


def test_an_update_has_arrived_when_all_of_it_is_shown() -> None:
    wanted = op(Kind.UPDATE_USER, ADA, changes=(Change("displayName", ADA.display_name, "Ada"),), add=(ref(ENG),))
    named = account(ADA, shown={**account(ADA).shown, "displayName": "Ada"})
    both = replace(named, memberships={T9: replace(MEMBER, ours=False)})
    assert settled(wanted, snapshot([both], [team(ENG)]))[0].state is State.DONE
    waits, after = settled(wanted, snapshot([named], [team(ENG)]))
    assert waits.state is State.DONE, "one request arrives as a whole: the membership waits for approval"
    assert after.accounts["k0001"].memberships[T9].ours and not after.accounts["k0001"].memberships[T9].seen
    assert settled(wanted, snapshot([account(ADA, memberships=both.memberships)], [team(ENG)]))[0].state is State.FAILED


def test_an_address_has_arrived_whatever_keeper_makes_of_its_case() -> None:
    wanted = op(Kind.UPDATE_USER, ADA, changes=(Change("userName", ADA.email, "Ada@Example.com"),))
    held = snapshot([account(ADA, shown={**account(ADA).shown, "userName": "ada@example.com"})])
    assert settled(wanted, held)[0].state is State.DONE


def test_what_arrived_in_part_is_ours_also_where_the_rest_is_asked_for_again() -> None:
    wanted = op(Kind.UPDATE_USER, ADA, add=(ref(SALES), ref(ENG)))
    by_hand = replace(MEMBER, ours=False)
    outcome, after = settled(wanted, snapshot([account(ADA, memberships={T9: by_hand})], [team(ENG), team(SALES)]))
    assert outcome.state is State.DONE and "in part" in outcome.words
    assert after.accounts["k0001"].memberships == {T9: replace(MEMBER, asked_at=SENT)}
    names = (Change("displayName", "", "Ada"), Change("name.givenName", "", "A"))
    named = account(ADA, shown={**account(ADA).shown, "displayName": "Ada"})
    outcome, after = settled(op(Kind.UPDATE_USER, ADA, changes=names), snapshot([named]))
    assert outcome.state is State.DONE and after.accounts["k0001"] == named, "Keeper made something else of the rest"


def test_that_a_waiting_member_is_not_shown_proves_nothing_of_the_removal() -> None:
    waits = account(ADA, memberships={T9: replace(MEMBER, seen=False, shown=False)})
    held = snapshot([waits], [team(ENG), team(SALES)])
    outcome, after = settled(op(Kind.UPDATE_USER, ADA, remove=(ref(ENG),)), held)
    assert outcome.state is State.PUT_OFF and "whether it arrived or not" in outcome.words and after == held
    outcome, after = settled(op(Kind.UPDATE_USER, ADA, add=(ref(SALES),), remove=(ref(ENG),)), held)
    assert outcome.state is State.PUT_OFF and after == held, "nor of what was asked for with it"
    named = snapshot([replace(waits, shown={**waits.shown, "displayName": "Ada"})], [team(ENG)])
    both = op(Kind.UPDATE_USER, ADA, changes=(Change("displayName", "", "Ada"),), remove=(ref(ENG),))
    outcome, after = settled(both, named)
    assert outcome.state is State.DONE and after.accounts["k0001"].memberships == {}


def test_an_addition_that_does_not_show_may_have_replaced_the_team_that_is_missing() -> None:
    adds = op(Kind.UPDATE_USER, ADA, add=(ref(SALES),))
    teams = [team(ENG), team(SALES)]
    former = snapshot([account(ADA, memberships={T9: MEMBER})], teams)
    lost = snapshot([account(ADA, memberships={T9: replace(MEMBER, shown=False)})], teams)
    outcome, after = settled(adds, lost, former)
    assert outcome.state is State.PUT_OFF and "whether it arrived or not" in outcome.words and after == lost
    assert as_answered(outcome, UNASKED).words.startswith("Keeper took it"), "a read-back has shown what it replaced"
    none = settled(adds, former, former)[0]
    assert none == NEVER and "shows that" not in none.words, "no team is missing, and it may wait unseen all the same"
    assert settled(adds, lost, lost)[0].state is State.FAILED, "it was missing before"
    moves = op(Kind.UPDATE_USER, ADA, add=(ref(SALES),), remove=(ref(ENG),))
    assert settled(moves, lost, former)[0].state is State.DONE, "its removal was asked for"
    deleted = snapshot([*lost.accounts.values()], [team(ENG, gone=True), team(SALES)])
    assert settled(adds, deleted, former)[0].state is State.FAILED, "its team was deleted"


def test_a_waiting_member_of_whose_removal_nothing_is_known_is_not_counted_on() -> None:
    """Their group may come back, and they would wait for an approval of what is not there any more."""
    waits = account(ADA, memberships={T9: replace(MEMBER, seen=False, shown=False, asked_at=SENT)})
    held = snapshot([waits], [team(ENG)])
    for one in (
        op(Kind.UPDATE_USER, ADA, remove=(ref(ENG),)),
        op(Kind.UPDATE_USER, ADA, changes=(Change("displayName", "", "Ada"),), remove=(ref(ENG),)),
        op(Kind.REACTIVATE_USER, ADA, remove=(ref(ENG),)),
    ):
        assert settled(one, held)[1].accounts["k0001"].memberships[T9].doubtful


def test_a_team_that_had_no_id_yet_was_left_out_of_what_arrived() -> None:
    wanted = op(Kind.UPDATE_USER, ADA, add=(ref(SALES, ""), ref(ENG)))
    held = snapshot([account(ADA, memberships={T9: MEMBER})], [team(ENG), team(SALES)])
    outcome, after = settled(wanted, held)
    assert outcome.state is State.DONE and set(after.accounts["k0001"].memberships) == {T9}
    nothing = op(Kind.UPDATE_USER, ADA, add=(ref(SALES, ""),))
    assert settled(nothing, held)[0].state is State.FAILED


def test_that_one_team_changed_proves_nothing_of_another_which_may_have_gone_by_itself() -> None:
    """Keeper refused them together, and the reconciler ended in between."""
    moves = op(Kind.UPDATE_USER, ADA, add=(ref(SALES),), remove=(ref(ENG),))
    left = account(ADA, memberships={T9: replace(MEMBER, shown=False)})
    outcome, after = settled(moves, snapshot([left], [team(ENG), team(SALES)]))
    assert outcome.state is State.DONE and "in part" in outcome.words and not after.accounts["k0001"].memberships
    waits = replace(MEMBER, seen=False, shown=False)
    both = op(Kind.UPDATE_USER, ADA, remove=(ref(SALES), ref(ENG)))
    outcome, after = settled(
        both, snapshot([replace(left, memberships={**left.memberships, T8: waits})], [team(ENG), team(SALES)])
    )
    assert outcome.state is State.DONE and "in part" in outcome.words
    assert after.accounts["k0001"].memberships == {T8: waits}


def test_a_place_that_was_shown_and_is_taken_away_before_its_request_is_settled_does_not_wait() -> None:
    """The names of the request show, and another request of ours has replaced what it had added."""
    wanted = op(Kind.UPDATE_USER, ADA, changes=(Change("displayName", "", "Ada"),), add=(ref(ENG),))
    named = {**account(ADA).shown, "displayName": "Ada"}
    for membership, waits in ((replace(MEMBER, shown=False), False), (None, True)):
        memberships = {T9: membership} if membership else {}
        outcome, after = settled(wanted, snapshot([account(ADA, shown=named, memberships=memberships)], [team(ENG)]))
        assert outcome.state is State.DONE
        assert after.accounts["k0001"].memberships[T9].waiting is waits


def test_a_removal_has_arrived_when_the_member_is_not_shown() -> None:
    wanted = op(Kind.UPDATE_USER, ADA, remove=(ref(ENG),))
    missing = account(ADA, memberships={T9: replace(MEMBER, shown=False)})
    outcome, after = settled(wanted, snapshot([missing], [team(ENG)]))
    assert outcome.state is State.DONE and after.accounts["k0001"] == account(ADA)
    there = account(ADA, memberships={T9: MEMBER})
    assert settled(wanted, snapshot([there], [team(ENG)])) == (NEVER, snapshot([there], [team(ENG)]))


def test_a_removal_that_shows_is_done_though_keeper_ignores_the_names_beside_it() -> None:
    """Somebody has lost a team, and is told of; a team that shows may have been given by somebody else."""
    names = (Change("displayName", ADA.display_name, "Ada"),)
    wanted = op(Kind.UPDATE_USER, ADA, changes=names, remove=(ref(ENG),))
    held = snapshot([account(ADA, memberships={T9: replace(MEMBER, shown=False)})], [team(ENG)])
    outcome, after = settled(wanted, held)
    assert outcome.state is State.DONE and "in part" in outcome.words
    assert after.accounts["k0001"] == account(ADA)


def test_a_creation_is_found_by_our_id_else_by_the_address() -> None:
    for held in (
        stranger(),
        stranger(shown={"userName": ADA.email.upper()}),
    ):
        outcome, after = settled(op(Kind.CREATE_USER, ADA), held)
        made = after.accounts["k0001"]
        assert outcome.state is State.DONE and made.managed and made.jumpcloud_id == ADA.id


def test_who_was_given_up_while_their_creation_was_on_its_way_is_given_up_with_their_new_account() -> None:
    gone = account(ADA, keeper_id="k0099", gone=True, active=False, standing=Standing.DISOWNED)
    born = account(ADA, standing=Standing.UNMANAGED, jumpcloud_id="", asked={}, settled={})
    outcome, after = settled(op(Kind.CREATE_USER, ADA), snapshot([gone, born]), snapshot([gone]))
    assert outcome.state is State.DONE
    assert (after.accounts["k0001"].standing, after.accounts["k0001"].jumpcloud_id) == (Standing.DISOWNED, ADA.id)


def test_an_account_that_is_somebody_elses_is_not_what_we_created() -> None:
    for held in (
        snapshot([account(EVE, shown={**account(EVE).shown, "userName": ADA.email})]),
        stranger(shown={"userName": ADA.email, "externalId": EVE.id}),
        stranger(gone=True),
    ):
        outcome, after = settled(op(Kind.CREATE_USER, ADA), held)
        assert outcome.state is State.FAILED and after == held


def test_a_creation_that_met_somebody_elses_account_was_linked_to_it() -> None:
    former = snapshot([account(EVE)])
    held = snapshot([account(EVE, shown={**account(EVE).shown, "userName": ADA.email, "externalId": ADA.id})])
    outcome, after = settled(op(Kind.CREATE_USER, ADA), held, former)
    assert (outcome.state, outcome.linked) == (State.FAILED, "k0002")
    assert outcome.words == refused_words(ADA.email, ADA.email, managed=True, undone=None)
    assert outcome.undo is not None and outcome.undo.subject.key == EVE.id
    assert outcome.undo.changes == (Change("externalId", ADA.id, EVE.id),)
    assert after.accounts == held.accounts and after.refused_births[ADA.id].undo == outcome.undo


def test_what_was_asked_for_the_owner_of_a_linked_account_is_not_undone_with_the_link() -> None:
    """Their own unlock had no answer either: the account is open by that, or by the link."""
    former = snapshot([account(EVE, active=False, locked_by_us=True)])
    held = snapshot([account(EVE, shown={**account(EVE).shown, "externalId": ADA.id})])
    creation, unlock = op(Kind.CREATE_USER, ADA), op(Kind.REACTIVATE_USER, EVE)
    unlock = replace(unlock, subject=replace(unlock.subject, keeper_id="k0002"))
    outcomes, _ = settle([(7, creation, SENT), (8, unlock, SENT)], held, former, NOW)
    undo = outcomes[7].undo
    assert undo is not None and [change.attribute for change in undo.changes] == ["externalId"]
    alone, _ = settled(creation, held, former)
    assert alone.undo is not None and [c.attribute for c in alone.undo.changes] == ["externalId", "active"]


@pytest.mark.parametrize("creation", [7, 9])
def test_a_link_that_shows_in_the_place_of_what_was_asked_for_does_not_deny_that(creation: int) -> None:
    """The names of the owner may have been there before the link replaced them."""
    former = snapshot([account(EVE)])
    held = snapshot([account(EVE, shown={**account(EVE).shown, "displayName": "Ada", "externalId": ADA.id})])
    named = op(Kind.UPDATE_USER, EVE, changes=(Change("displayName", EVE.display_name, "Eve"),), add=(ref(ENG),))
    named = replace(named, subject=replace(named.subject, keeper_id="k0002"))
    born = op(Kind.CREATE_USER, ADA)
    outcomes, _ = settle([(8, named, SENT), (creation, born, SENT)], held, former, NOW)
    assert outcomes[creation].linked == "k0002"
    assert outcomes[8].state is State.PUT_OFF and "nothing tells" in outcomes[8].words
    assert as_answered(outcomes[8], "unanswered") == outcomes[8]
    assert as_answered(outcomes[8], DISAGREES) == NEVER, "Keeper took it, and a read did not show the team"
    assert settled(named, former)[0] == NEVER, "what was there before still shows"


@pytest.mark.parametrize("standing", [Standing.MANAGED, Standing.UNMANAGED])
def test_a_link_that_was_listed_before_it_is_settled_is_undone_all_the_same(standing: Standing) -> None:
    shown = {**account(ADA).shown, "userName": EVE.email}
    linked = account(EVE, shown=shown, standing=standing, jumpcloud_id=EVE.id if standing is Standing.MANAGED else "")
    outcome, _ = settled(op(Kind.CREATE_USER, ADA), snapshot([linked]), snapshot([linked]))
    assert (outcome.state, outcome.linked) == (State.FAILED, "k0002") and outcome.undo is not None
    owner = EVE.id if standing is Standing.MANAGED else ""
    assert outcome.undo.changes == (Change("externalId", ADA.id, owner),)


def test_where_keeper_keeps_no_ids_the_names_show_which_account_a_creation_was_linked_to() -> None:
    sent = op(Kind.CREATE_USER, ADA, add=(ref(ENG),))
    names = {key: value for key, value in account(ADA).shown.items() if key != "externalId"}
    before = account(EVE, shown={**account(EVE).shown, "externalId": ""})
    linked = replace(before, shown={**names, "userName": EVE.email}, memberships={T9: MEMBER})
    there = [team(ENG, shown={"displayName": ENG.name})]
    outcome, after = settled(sent, snapshot([linked], there), snapshot([before], there))
    assert (outcome.state, outcome.linked) == (State.FAILED, "k0002") and outcome.undo is not None
    assert {change.attribute: change.after for change in outcome.undo.changes} == {
        "displayName": EVE.display_name,
        "name.familyName": EVE.family_name,
    }
    assert [team.keeper_id for team in outcome.undo.remove] == [T9]
    assert after.refused_births[ADA.id].keeper_id == "k0002"
    # A namesake whose names were the same before, and an account that another request may have changed, show nothing.
    namesake = replace(linked, memberships={})
    assert settled(sent, snapshot([linked]), snapshot([namesake]))[0].linked == ""
    renamed = op(Kind.UPDATE_USER, EVE, changes=(Change("displayName", EVE.display_name, ADA.display_name),))
    both = [(7, sent, SENT), (8, renamed, SENT)]
    assert settle(both, snapshot([linked]), snapshot([before]), NOW)[0][7].linked == ""


def test_an_address_that_only_folds_to_ours_is_not_what_we_created() -> None:
    stephen = user(1, email="stephen@example.com")
    held = stranger(shown={"userName": "\u017ftephen@example.com"})
    outcome, after = settled(op(Kind.CREATE_USER, stephen), held)
    assert outcome.state is State.FAILED and after == held


def test_who_was_created_anew_has_one_account_and_not_the_former_one_too() -> None:
    former = account(ADA, keeper_id="old", gone=True, active=False)
    found = stranger().accounts
    _, after = settled(op(Kind.CREATE_USER, ADA), replace(stranger(), accounts={"old": former, **found}))
    assert [key for key, one in after.accounts.items() if one.managed] == ["k0001"]
    assert after.accounts["old"].bygone and after.accounts["old"].owned_once == ADA.id


@pytest.mark.parametrize("former", [{"gone": True, "active": False}, {}])
def test_another_account_of_the_person_tells_nothing_of_an_unlock(former: dict[str, bool]) -> None:
    """The account was deleted before Keeper could open it, and a new one was created, which is open."""
    old = account(ADA, keeper_id="old", standing=Standing.UNMANAGED, jumpcloud_id="", **former)
    unlock = op(Kind.REACTIVATE_USER, ADA)
    unlock = replace(unlock, subject=replace(unlock.subject, keeper_id="old"))
    held = snapshot([account(ADA), old])
    outcome, after = settled(unlock, held)
    assert outcome.state is State.PUT_OFF and after == held


def test_who_is_found_as_they_were_created_perhaps_has_the_teams_that_do_not_show() -> None:
    """Who leaves the group before they show would else keep them, as given by hand; but an earlier creation, of which a
    lost state file knew, may have made the account without them."""
    wanted = op(Kind.CREATE_USER, ADA, changes=(Change("userName", "", ADA.email),), add=(ref(ENG),))
    queued = op(Kind.CREATE_USER, ADA, changes=wanted.changes, add=(ref(ENG, ""),))
    held = replace(stranger(), teams={T9: team(ENG)})
    _, after = settled(wanted, held)
    assert after.accounts["k0001"].memberships[T9].doubtful
    _, late = settled(queued, held)
    named = replace(wanted, changes=(Change("displayName", "", "Ada"),))
    _, linked = settled(named, replace(stranger(), teams={T9: team(ENG)}))
    for held in (late, linked):
        assert not held.accounts["k0001"].memberships, "whether they were asked for, or given, is not known"


def test_a_team_is_the_one_that_was_sent_also_where_another_group_has_it_by_now() -> None:
    taken = replace(team(ENG), jumpcloud_id=SALES.id)
    wanted = op(Kind.CREATE_USER, ADA, changes=(Change("userName", "", ADA.email),), add=(ref(ENG),))
    there = {T9: replace(MEMBER, ours=False)}
    for held in (stranger(memberships=there), snapshot([account(ADA, memberships=there)])):
        _, after = settled(wanted, replace(held, teams={T9: taken}))
        assert after.accounts["k0001"].memberships[T9].ours


def test_what_a_later_creation_found_with_other_names_keeps_the_teams_that_were_given_by_hand() -> None:
    wanted = op(Kind.CREATE_USER, ADA, changes=(Change("displayName", "", "Ada"),), add=(ref(ENG),))
    there = account(
        ADA, shown={**account(ADA).shown, "displayName": "Ada"}, memberships={T9: replace(MEMBER, ours=False)}
    )
    _, after = settled(wanted, snapshot([there], [team(ENG)]))
    assert after.accounts["k0001"].memberships[T9].ours
    linked = snapshot([replace(there, shown={**there.shown, "displayName": "Somebody"})], [team(ENG)])
    assert settled(wanted, linked)[1] == linked
    late, without = snapshot([there], [team(ENG, queued_at=NOW)]), replace(wanted, add=(ref(ENG, ""),))
    assert settled(without, late)[1] == late, "a team that had no id yet was left out of the request"


def test_who_was_created_and_locked_by_somebody_is_still_locked() -> None:
    _, after = settled(op(Kind.CREATE_USER, ADA), stranger(active=False))
    assert not after.accounts["k0001"].active and not after.accounts["k0001"].locked_by_us


# -- teams ----------------------------------------------------------------------------------------------------------


def test_a_team_that_is_not_shown_may_be_queued_and_stays_unknown() -> None:
    held = snapshot([], unsettled_teams={ENG.id: SENT})
    outcome, after = settled(team_op(Kind.QUEUE_TEAM, ENG), held)
    assert outcome.state is State.UNKNOWN and after == held


def test_a_team_that_bears_our_id_is_the_one_that_we_queued() -> None:
    found = team(ENG, standing=Standing.UNMANAGED, jumpcloud_id="", queued_at=None, asked={}, settled={})
    held = snapshot([], [found], unsettled_teams={ENG.id: SENT})
    outcome, after = settled(team_op(Kind.QUEUE_TEAM, ENG), held)
    assert outcome.state is State.DONE and not after.unsettled_teams
    assert after.teams[T9].managed and after.teams[T9].queued_at == SENT and after.teams[T9].seen


@pytest.mark.parametrize("arrived", [0, 1])
def test_of_two_queueings_of_one_team_the_one_arrived_whose_name_shows(arrived: int) -> None:
    """Else what Keeper made of the one name would count as what it made of the other."""
    asked = [team_op(Kind.QUEUE_TEAM, group(9, name)) for name in ("Sales", "Legal")]
    name = ("Sales", "Legal")[arrived]
    found = team(group(9, name), standing=Standing.UNMANAGED, jumpcloud_id="", asked={}, settled={})
    rows = [(number, op, NOW) for number, op in enumerate(asked, 1)]
    _, after = settle(rows, snapshot([], [found]), snapshot([]), NOW)
    assert after.teams[found.keeper_id].asked["displayName"] == name


def test_a_queued_team_that_keeper_shows_under_another_name_is_renamed() -> None:
    """It may be older than the request, by a state file that was lost, and its group renamed since."""
    former = group(9, "Former")
    found = team(former, standing=Standing.UNMANAGED, jumpcloud_id="", queued_at=None, asked={}, settled={})
    outcome, after = settled(team_op(Kind.QUEUE_TEAM, ENG), snapshot([], [found], unsettled_teams={ENG.id: SENT}))
    assert outcome.state is State.DONE and after.teams[T9].managed and after.teams[T9].name == "Former"
    (rename,) = decide(directory([], [ENG]), after).plan.operations
    assert rename.kind is Kind.RENAME_TEAM and rename.changes == (Change("displayName", "Former", ENG.name),)


def test_a_team_that_the_group_took_over_is_not_what_its_queueing_made() -> None:
    over = team(SALES, jumpcloud_id=ENG.id)
    held = snapshot([], [over], unsettled_teams={ENG.id: SENT})
    outcome, after = settled(team_op(Kind.QUEUE_TEAM, ENG), held)
    assert outcome.state is State.DONE and not after.unsettled_teams
    assert after.teams == held.teams, "it bears another group's id still, which is to be changed"


def test_a_name_alone_tells_only_where_keeper_is_known_to_keep_no_ids() -> None:
    names = {"displayName": ENG.name}
    nameless = team(ENG, standing=Standing.UNMANAGED, jumpcloud_id="", shown=names, asked={}, queued_at=None)
    without_id = team(SALES, shown={"displayName": SALES.name})
    for people in ([], [account(ADA)]):  # whose ids it may keep all the same
        held = snapshot(people, [nameless, without_id])
        assert settled(team_op(Kind.QUEUE_TEAM, ENG), held)[0].state is State.DONE
    # One that only the inventory has shown is in no list, which would have the id.
    hidden = team(SALES, shown={}, seen=False)
    for people in ([], [account(ADA)]):
        for others in ([], [team(SALES)], [hidden]):
            held = snapshot(people, [nameless, *others])
            assert settled(team_op(Kind.QUEUE_TEAM, ENG), held)[0].state is State.UNKNOWN


def test_whoever_was_given_up_tells_nothing_of_what_keeper_does_with_ids() -> None:
    given_up = account(EVE, standing=Standing.DISOWNED, shown={**account(EVE).shown, "externalId": ""})
    nameless = team(ENG, standing=Standing.UNMANAGED, jumpcloud_id="", shown={"displayName": ENG.name}, asked={})
    assert settled(team_op(Kind.QUEUE_TEAM, ENG), snapshot([given_up], [nameless]))[0].state is State.UNKNOWN


def test_a_queued_team_that_no_list_has_shown_does_not_tell_that_keeper_keeps_ids() -> None:
    """It shows what was asked for."""
    nameless = team(ENG, standing=Standing.UNMANAGED, jumpcloud_id="", shown={"displayName": ENG.name}, asked={})
    without_id = team(SALES, shown={"displayName": SALES.name})
    queued = team(group(7), seen=False)
    held = snapshot([], [nameless, without_id, queued])
    assert settled(team_op(Kind.QUEUE_TEAM, ENG), held)[0].state is State.DONE


def test_the_inventory_tells_of_a_team_that_scim_does_not_show() -> None:
    def told(*teams: InventoryTeam) -> tuple[Settled, Snapshot]:
        shown = {one.id: one for one in (InventoryTeam(T8, SALES.name, "node", queued=False), *teams)}
        held = snapshot([], [team(SALES)], unsettled_teams={ENG.id: SENT}, inventory=Inventory(NOW, shown))
        return settled(team_op(Kind.QUEUE_TEAM, ENG), held)

    outcome, after = told(InventoryTeam("q", ENG.name, "node", queued=True))
    assert outcome.state is State.DONE and after.teams["q"].managed and not after.unsettled_teams
    outcome, after = told()
    assert outcome.state is State.FAILED and not after.unsettled_teams


def test_an_older_request_does_not_close_what_a_newer_one_has_left_open() -> None:
    inventory = Inventory(NOW, {T8: InventoryTeam(T8, SALES.name, "node", queued=False)})
    held = snapshot([], [team(SALES)], unsettled_teams={ENG.id: NOW}, inventory=inventory)
    outcome, after = settled(team_op(Kind.QUEUE_TEAM, ENG), held)
    assert outcome.state is State.UNKNOWN and ENG.id in after.unsettled_teams


def test_a_rename_has_arrived_when_the_name_is_shown() -> None:
    new = group(9, "New")
    renamed = team(ENG, shown={**team(ENG).shown, "displayName": "New"})
    outcome, after = settled(team_op(Kind.RENAME_TEAM, new), snapshot([], [renamed]))
    assert outcome.state is State.DONE and after.teams[T9] == team(new)
    assert settled(team_op(Kind.RENAME_TEAM, new), snapshot([], [team(ENG)]))[0].state is State.FAILED
    for gone, state in ((False, State.UNKNOWN), (True, State.PUT_OFF)):
        lost = snapshot([], [team(ENG, missed_at=NOW, gone=gone)])
        outcome, _ = settled(team_op(Kind.RENAME_TEAM, new), lost)
        assert outcome.state is state, "it may have had the name before it was deleted"


def test_a_deletion_has_arrived_when_the_team_is_gone() -> None:
    deletion = team_op(Kind.DELETE_TEAM, ENG)
    assert settled(deletion, snapshot([]))[0].state is State.DONE
    outcome, after = settled(deletion, snapshot([], [team(ENG, gone=True), team(SALES)]))
    assert outcome.state is State.DONE and [*after.teams] == [T8], "as after an answer: nobody else has deleted it"
    assert settled(deletion, snapshot([], [team(ENG)]))[0].state is State.FAILED
    assert settled(deletion, snapshot([], [team(ENG, missed_at=NOW)]))[0].state is State.UNKNOWN


@pytest.mark.parametrize(("kind", "wanted"), [(Kind.DELETE_TEAM, ENG), (Kind.RENAME_TEAM, group(9, "New"))])
def test_nobody_says_what_became_of_a_change_of_a_team_that_never_showed(kind: Kind, wanted: Group) -> None:
    outcome, _ = settled(team_op(kind, wanted), snapshot([], [team(ENG, seen=False)]))
    assert outcome.state is State.PUT_OFF and "whether it arrived or not" in outcome.words


# -- laws -----------------------------------------------------------------------------------------------------------

GROUPS = [group(number) for number in (5, 6, 7)]
IDS = {of.id: team(of).keeper_id for of in GROUPS}
NAMES = st.sampled_from(["Ada", "É", "Zoë"])
SOME = st.sets(st.sampled_from(GROUPS), max_size=3)


@st.composite
def taken(draw: st.DrawFn) -> tuple[Snapshot, Operation, KeeperUser]:
    """A snapshot, an operation on a user in it, and the user as Keeper shows them when it has done all of it."""
    member_of = draw(SOME)
    kind = draw(st.sampled_from([Kind.CREATE_USER, Kind.UPDATE_USER, Kind.REACTIVATE_USER, Kind.DEACTIVATE_USER]))
    before = account(
        ADA,
        active=kind is not Kind.REACTIVATE_USER,
        locked_by_us=kind is Kind.REACTIVATE_USER,
        left_at=draw(st.sampled_from([None, NOW])),
        protected_as=draw(st.sampled_from(["", ADA.email])),
        memberships={team(of).keeper_id: MEMBER for of in member_of},
    )
    one = op(kind, ADA)
    if kind is not Kind.DEACTIVATE_USER:
        add = draw(st.sets(st.sampled_from(GROUPS))) - member_of
        one = replace(one, add=tuple(ref(of) for of in sorted(add, key=str)))
    if kind in (Kind.UPDATE_USER, Kind.REACTIVATE_USER):
        remove = draw(SOME) & member_of
        named = Change("displayName", "", draw(NAMES))
        one = replace(one, changes=(*one.changes, named), remove=tuple(ref(of) for of in sorted(remove, key=str)))
    values = {change.attribute: change.after for change in one.changes}
    active = values.pop("active", "true") == "true"
    teams = (set() if kind is Kind.CREATE_USER else set(before.memberships)) | {t.keeper_id for t in one.add}
    reply = shown(before, attributes={**before.shown, **values}, active=active)
    reply = replace(reply, teams=frozenset(teams - {t.keeper_id for t in one.remove}))
    known = [] if kind is Kind.CREATE_USER else [before]
    return snapshot(known, [team(of) for of in GROUPS]), one, reply


@given(taken())
def test_settling_what_arrived_gives_the_account_that_the_answer_would_have_given(
    case: tuple[Snapshot, Operation, KeeperUser],
) -> None:
    held, one, reply = case
    answered = after_user(held.accounts.get(one.subject.keeper_id), one, IDS, reply, SENT)
    outcome, after = settled(one, observed(held, listing([reply], [shown_team(of) for of in GROUPS]), NOW))
    assert outcome.state is State.DONE
    assert after.accounts == {reply.id: answered}


@given(taken())
def test_settling_twice_is_settling_once(case: tuple[Snapshot, Operation, KeeperUser]) -> None:
    held, one, reply = case
    outcome, after = settled(one, observed(held, listing([reply], [shown_team(of) for of in GROUPS]), NOW))
    assert settled(one, after) == (outcome, after)


@given(taken())
def test_settling_what_never_arrived_leaves_the_snapshot_as_it_was(
    case: tuple[Snapshot, Operation, KeeperUser],
) -> None:
    held, one, _ = case
    never = Change("displayName", ADA.display_name, "other")
    outcome, after = settled(replace(one, changes=(never,)), held)
    if one.kind is Kind.UPDATE_USER:
        assert outcome.state is State.FAILED and after == held


# -- what the journal remembers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("answered", ["unanswered", DISAGREES, UNASKED])
def test_a_record_that_cannot_be_read_leaves_what_the_answer_told(answered: str) -> None:
    unreadable = Settled(State.UNKNOWN, "cannot be read")
    assert outcome_name(unreadable, State.UNKNOWN, answered) == answered
    assert as_answered(NEVER, UNASKED).state is State.PUT_OFF, "nobody says that it did not arrive"
    assert outcome_name(as_answered(NEVER, answered), State.FAILED, answered) == SETTLED


@pytest.mark.parametrize(("answered", "name"), [("unanswered", SETTLED), (DISAGREES, DENIED)])
def test_one_list_that_denies_it_is_remembered_beside_what_the_answer_told(answered: str, name: str) -> None:
    assert denied_once(NEVER, answered) and not denied_once(NEVER, name)
    assert outcome_name(NEVER, State.UNKNOWN, answered) == outcome_name(NEVER, State.UNKNOWN, name) == name


@pytest.mark.parametrize(("answered", "name"), [("unanswered", GONE), ("", GONE), ("not_found", SETTLED)])
def test_an_account_that_is_gone_after_a_lock_may_be_so_by_it_unless_keeper_lacked_it_before(
    answered: str, name: str
) -> None:
    assert outcome_name(Settled(State.DONE, NOT_HERE), State.DONE, answered) == name


def test_what_keeper_took_and_no_list_shows_may_have_been_undone_by_somebody() -> None:
    assert as_answered(NEVER, DISAGREES) == as_answered(NEVER, SETTLED) == NEVER
    given_up = as_answered(NEVER, DENIED)
    assert given_up.state is State.FAILED and "somebody undid it" in given_up.words
