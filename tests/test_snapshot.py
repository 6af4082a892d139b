"""How the snapshot moves: with a listing of Keeper, and with each operation that Keeper took."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from reconciler.model import Membership, Standing, Takeover
from reconciler.plan import Change, Kind
from reconciler.snapshot import BEHIND, after_team, after_user, gone, observed
from tests.operations import op, ref, shown, shown_team, team_op
from tests.world import MEMBER, NOW, account, decide, directory, group, listing, snapshot, team, user

ADA = user(1, 9)
ENG = group(9)
T9 = team(ENG).keeper_id
IDS = {ENG.id: T9}
ASKED = Membership(ours=True, seen=False, shown=False, asked_at=NOW)

# -- a listing of Keeper --------------------------------------------------------------------------------------------


def test_what_a_person_adopts_by_its_address_is_given_to_nobody_once_it_has_another() -> None:
    """Under another one it may be meant for somebody else, whose log-in would open that vault."""
    bob = user(2, direct=True)
    asked = account(ADA, standing=Standing.UNMANAGED, jumpcloud_id="", takeover=Takeover.BY_ADDRESS)
    moved = {**asked.shown, "userName": bob.email}
    held = observed(snapshot([asked]), listing([replace(shown(asked), attributes=moved)]), NOW)
    plan = decide(directory([ADA, bob], [ENG]), held)
    assert plan.snapshot.accounts["k0001"].standing is Standing.UNMANAGED
    assert {ADA.id, bob.id} <= {notice.subject.jumpcloud_id for notice in plan.plan.notices}
    upper = {**asked.shown, "userName": ADA.email.upper()}
    same = observed(snapshot([asked]), listing([replace(shown(asked), attributes=upper)]), NOW)
    assert same.accounts["k0001"].takeover is Takeover.BY_ADDRESS


def test_a_list_that_lacks_somebody_is_no_proof_that_they_are_gone() -> None:
    held = snapshot([account(ADA)])
    assert observed(held, listing([]), NOW).accounts == held.accounts


def test_only_an_id_that_was_answered_with_404_is_gone() -> None:
    held = snapshot([account(ADA, memberships={T9: MEMBER})], [team(ENG)])
    seen = observed(held, listing([], absent=("k0001", T9)), NOW)
    assert seen.accounts["k0001"].gone and not seen.accounts["k0001"].active
    assert seen.accounts["k0001"].memberships == {T9: Membership(ours=True, seen=False, shown=False)}
    assert seen.teams[T9].missing


def test_a_team_of_ours_is_gone_once_a_later_reading_says_so_too() -> None:
    absent, later = listing([], absent=(T9,)), NOW + BEHIND
    first = observed(snapshot([account(ADA, memberships={T9: MEMBER})], [team(ENG)]), absent, NOW)
    assert first.teams == {T9: team(ENG, missed_at=NOW)} and first.teams[T9].missing
    soon = later - timedelta(seconds=1)
    assert observed(first, absent, soon).teams == first.teams, "either may be from before it was made"
    assert observed(first, listing([]), later).teams == first.teams, "a list alone proves nothing"
    second = observed(first, absent, later)
    assert second.teams == {T9: team(ENG, missed_at=NOW, gone=True)} and not second.teams[T9].missing
    assert second.accounts["k0001"].memberships[T9].ours
    for held in (first, second):
        assert observed(held, listing([], [shown_team(ENG)]), later).teams == {T9: team(ENG)}


def test_who_comes_back_under_the_same_id_is_not_gone_any_more() -> None:
    held = snapshot([account(ADA, gone=True, active=False)], [team(ENG, gone=True)])
    seen = observed(held, listing([shown(account(ADA))], [shown_team(ENG)]), NOW)
    assert seen.accounts["k0001"] == account(ADA) and seen.teams[T9] == team(ENG)


def test_who_or_what_is_unmanaged_is_remembered_once_keeper_denies_it() -> None:
    seen = observed(snapshot([]), listing([shown(account(ADA))], [shown_team(ENG)]), NOW)
    assert seen.accounts["k0001"].standing is Standing.UNMANAGED and seen.teams[T9].standing is Standing.UNMANAGED
    again = observed(seen, listing([]), NOW)
    assert (again.accounts, again.teams) == (seen.accounts, seen.teams), "a list alone proves nothing"
    denied = listing([], absent=("k0001", T9))
    lost = observed(seen, denied, NOW)
    assert lost.teams == {T9: replace(seen.teams[T9], gone=True, missed_at=NOW)}
    assert lost.accounts == {"k0001": replace(seen.accounts["k0001"], gone=True, missed_at=NOW)}
    assert lost.accounts["k0001"].bygone and lost.teams[T9].bygone
    later = observed(lost, denied, NOW + timedelta(days=1))
    assert (later.accounts, later.teams) == (lost.accounts, lost.teams)
    back = observed(lost, listing([shown(account(ADA))], [shown_team(ENG)]), NOW)
    assert (back.accounts, back.teams) == (seen.accounts, seen.teams)
    assert back.fresh == seen.fresh, "it was listed before"


def test_what_is_back_under_a_record_that_cannot_be_read_is_a_memory_at_most_and_is_quarantined() -> None:
    lost = snapshot(
        [account(ADA, standing=Standing.UNMANAGED, jumpcloud_id="", gone=True)],
        [team(ENG, standing=Standing.UNMANAGED, jumpcloud_id="", gone=True)],
    )
    odd = (
        shown(account(ADA), active=None, unreadable=("active",)),
        shown_team(ENG, members=None, unreadable=("members",)),
    )
    back = observed(lost, listing([odd[0]], [odd[1]]), NOW)
    assert back.accounts == lost.accounts and not back.teams
    assert {one.keeper_id for one in back.odd} == {"k0001", T9}


@pytest.mark.parametrize("left", [None, NOW])
@pytest.mark.parametrize("ours", [True, False])
def test_whose_lock_it_was_is_remembered_of_an_account_that_is_gone(left: datetime | None, ours: bool) -> None:
    held = account(ADA, active=False, locked_by_us=ours, left_at=left)
    lost = observed(snapshot([held]), listing([], absent=("k0001",)), NOW).accounts["k0001"]
    assert (lost.others_lock, lost.locked_by_others, lost.was_locked) == (not ours, not ours, True)
    assert observed(snapshot([lost]), listing([], absent=("k0001",)), NOW).accounts["k0001"] == lost
    assert observed(snapshot([lost]), listing([shown(held)]), NOW).accounts["k0001"] == held
    active = observed(snapshot([account(ADA)]), listing([], absent=("k0001",)), NOW).accounts["k0001"]
    assert not active.others_lock and not active.was_locked


def test_a_lock_after_which_the_account_was_gone_is_not_ours_where_it_shows_as_active() -> None:
    lost = gone(account(ADA, left_at=NOW), NOW)
    for active in (True, False):
        back = observed(snapshot([lost]), listing([shown(account(ADA), active=active)]), NOW).accounts["k0001"]
        assert (back.gone, back.active, back.locked_by_us) == (False, active, not active)


def test_a_disowned_account_is_remembered_whatever_keeper_lists() -> None:
    held = snapshot([account(ADA, standing=Standing.DISOWNED)])
    assert observed(held, listing([]), NOW).accounts == held.accounts


def test_a_team_that_was_never_shown_waits_also_when_keeper_answers_404() -> None:
    queued = team(ENG, seen=False)
    assert observed(snapshot([], [queued]), listing([], absent=(T9,)), NOW).teams[T9] == queued


def test_a_team_that_is_shown_for_the_first_time_waits_no_more() -> None:
    seen = observed(snapshot([], [team(ENG, seen=False)]), listing([], [shown_team(ENG)]), NOW)
    assert seen.teams[T9].seen and not seen.teams[T9].waiting


def test_a_membership_that_was_never_shown_is_waiting_and_one_that_was_is_missing() -> None:
    for before, waiting in ((ASKED, True), (MEMBER, False)):
        held = snapshot([account(ADA, memberships={T9: before})], [team(ENG)])
        after = observed(held, listing([shown(account(ADA))], [shown_team(ENG)]), NOW).accounts["k0001"].memberships[T9]
        assert after.ours and not after.shown and after.waiting is waiting


def test_a_membership_given_by_hand_is_not_ours_and_is_forgotten_with_its_end() -> None:
    held = observed(snapshot([account(ADA)], [team(ENG)]), listing([shown(account(ADA), ENG)], [shown_team(ENG)]), NOW)
    assert held.accounts["k0001"].memberships == {T9: Membership(ours=False, seen=True, shown=True)}
    ended = observed(held, listing([shown(account(ADA))], [shown_team(ENG)]), NOW)
    assert not ended.accounts["k0001"].memberships


def test_what_keeper_first_made_of_an_attribute_stays_on_record_when_it_moves_later() -> None:
    name = "displayName"
    unseen = account(ADA, settled={})
    first = shown(unseen, attributes={**unseen.shown, name: "USER 1"})
    held = observed(snapshot([unseen]), listing([first]), NOW)
    moved = observed(held, listing([replace(first, attributes={**first.attributes, name: "Eve"})]), NOW)
    assert moved.accounts["k0001"].settled[name] == "USER 1" and moved.accounts["k0001"].shown[name] == "Eve"


def test_what_we_decided_is_kept_over_a_listing() -> None:
    mine = account(
        ADA, locked_by_us=True, left_at=NOW, protected_as="ada", pilot=frozenset({"group:IT"}), former_external_id="x"
    )
    assert observed(snapshot([mine]), listing([shown(mine)]), NOW).accounts["k0001"] == mine


# -- operations that Keeper took ------------------------------------------------------------------------------------


def test_a_created_user_is_managed_and_has_the_id_that_keeper_gave() -> None:
    made = after_user(None, op(Kind.CREATE_USER, ADA, add=(ref(ENG),)), IDS, shown(account(ADA), id="k77"), NOW)
    assert (made.keeper_id, made.managed, made.jumpcloud_id, made.pilot) == ("k77", True, ADA.id, frozenset())
    assert made.asked == made.settled == made.shown == account(ADA).shown
    assert made.memberships == {T9: ASKED}


def test_without_a_reply_nobody_knows_the_id_of_what_was_created_or_queued() -> None:
    with pytest.raises(ValueError, match="no id"):
        after_user(None, op(Kind.CREATE_USER, ADA), {}, None, NOW)
    with pytest.raises(ValueError, match="no id"):
        after_team(None, team_op(Kind.QUEUE_TEAM, ENG), None, NOW)


def test_what_is_not_a_creation_needs_an_account_or_a_team() -> None:
    with pytest.raises(ValueError, match="only a creation"):
        after_user(None, op(Kind.UPDATE_USER, ADA), {}, None, NOW)
    with pytest.raises(ValueError, match="only a queued team"):
        after_team(None, team_op(Kind.RENAME_TEAM, ENG), None, NOW)


def test_a_lock_of_ours_may_be_undone_by_us_and_is_forgotten_then() -> None:
    locked = after_user(account(ADA, review_lock=True), op(Kind.DEACTIVATE_USER, ADA), {}, None, NOW)
    assert not locked.active and locked.locked_by_us and not locked.review_lock
    back = after_user(replace(locked, left_at=NOW), op(Kind.REACTIVATE_USER, ADA), {}, None, NOW)
    assert back == account(ADA, left_at=NOW), "whether they have left is for JumpCloud to say"


def test_a_lock_changes_nothing_but_the_lock() -> None:
    before = account(ADA, memberships={T9: MEMBER})
    locked = after_user(before, op(Kind.DEACTIVATE_USER, ADA), {}, None, NOW)
    assert replace(locked, active=True, locked_by_us=False) == before


def test_what_was_asked_and_what_keeper_made_of_it_are_kept_apart() -> None:
    renamed = op(Kind.UPDATE_USER, ADA, changes=(Change("displayName", "User 1", "Ada "),))
    after = after_user(
        account(ADA), renamed, {}, shown(account(ADA), attributes={**account(ADA).shown, "displayName": "Ada"}), NOW
    )
    assert [d["displayName"] for d in (after.asked, after.settled, after.shown)] == ["Ada ", "Ada", "Ada"]


def test_what_keeper_makes_of_a_change_without_a_reply_is_learnt_from_the_next_listing() -> None:
    renamed = op(Kind.UPDATE_USER, ADA, changes=(Change("displayName", "User 1", "Ada"),))
    after = after_user(account(ADA), renamed, {}, None, NOW)
    assert after.shown["displayName"] == "Ada" and "displayName" not in after.settled


def test_an_empty_value_in_a_reply_never_wipes_out_what_is_known() -> None:
    blank = shown(account(ADA), attributes=dict.fromkeys(account(ADA).shown, ""))
    assert after_user(account(ADA), op(Kind.UPDATE_USER, ADA), {}, blank, NOW) == account(ADA)


def test_an_added_team_waits_until_it_is_shown_and_a_removed_one_is_forgotten() -> None:
    added = op(Kind.UPDATE_USER, ADA, add=(ref(ENG),))
    assert after_user(account(ADA), added, IDS, None, NOW).memberships == {T9: ASKED}
    at_once = after_user(account(ADA), added, IDS, shown(account(ADA), ENG), NOW)
    assert at_once.memberships == {T9: replace(ASKED, seen=True, shown=True)}
    assert after_user(at_once, op(Kind.UPDATE_USER, ADA, remove=(ref(ENG),)), IDS, None, NOW) == account(ADA)


def test_a_withdrawn_invitation_leaves_a_lock_of_ours_and_which_memberships_are() -> None:
    """The account may have gone to another node, and come back."""
    by_hand = replace(MEMBER, ours=False)
    after = gone(account(ADA, memberships={T9: MEMBER, "t0008": by_hand}, review_lock=True), NOW)
    assert after.gone and not after.active and after.locked_by_us and not after.review_lock
    assert after.memberships == {T9: Membership(ours=True, seen=False, shown=False)}


def test_a_queued_team_waits_from_now_on_and_a_renamed_one_goes_on_as_it_was() -> None:
    queued = after_team(None, team_op(Kind.QUEUE_TEAM, ENG), shown_team(ENG), NOW)
    assert queued.managed and queued.waiting and queued.queued_at == NOW and queued.jumpcloud_id == ENG.id
    renamed = after_team(team(ENG), team_op(Kind.RENAME_TEAM, group(9, "New")), None, NOW + timedelta(1))
    assert renamed.name == renamed.asked["displayName"] == "New" and renamed.queued_at == team(ENG).queued_at
