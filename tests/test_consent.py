"""What persons' decisions amount to: each counts once, and only for what it was about."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from reconciler.consent import (
    RELEASE_LASTS,
    agree,
    agree_once,
    drop_what_is_not_due,
    given,
    prolong,
    prolong_cut_off,
    window,
)
from reconciler.plan import Effect, Kind, Operation, Plan, Rule, Scope
from reconciler.policy import Limit, Limits, TeamPolicy
from reconciler.rows import LOCKED_BEFORE, State
from reconciler.safety import Allowance, Consent, Release, judge
from reconciler.store import Store
from tests.operations import op, ref, team_op
from tests.world import NOW, SOURCE, account, group, snapshot, user

ADA, EVE = user(1), user(2)
LOCK, OTHER = op(Kind.DEACTIVATE_USER, ADA), op(Kind.DEACTIVATE_USER, EVE)
ENG, SALES = ref(group(9)), ref(group(8))
DAY = timedelta(days=1)
AGO = NOW - timedelta(minutes=30)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "reconciler.db", write=True) as opened:
        yield opened


def effects_of(operations: Iterable[Operation]) -> frozenset[Effect]:
    return frozenset(effect for one in operations for effect in one.effects())


def release(store: Store, *operations: Operation) -> str:
    agree(store, "plan", effects_of(operations), by="root", at=AGO, reason="")
    store.begin_durations(AGO, None)
    return f"release:{store.open_requests(AGO, 'release')[-1].id}"


def was(store: Store, state: State, one: Operation, decision: str = "", outcome: str = "", at: datetime = AGO) -> None:
    """An operation of a former run that has come to this."""
    (number,) = store.write_ahead(store.begin_run("cycle", at, by="root", reason=""), [one], {0: decision}, at)
    store.mark_sent(number, at, one)
    if state is not State.SENT:
        store.record(number, state, at, outcome, "")


def consent(store: Store, person: str = "") -> Consent:
    return given(store, window(store, NOW - DAY, DAY), person, NOW, NOW - DAY)


def due(store: Store, *operations: Operation, unread: Iterable[Operation] = ()) -> None:
    """A cycle finds that just these operations are due; it does not tell of those that are `unread`."""
    open_still = effects_of(unread)
    drop_what_is_not_due(store, effects_of(operations), lambda effect: effect not in open_still, NOW)


# -- what of the window counts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.SENT, State.DONE, State.UNKNOWN])
def test_what_may_have_arrived_fills_the_window(store: Store, state: State) -> None:
    was(store, state, LOCK)
    assert [(past.operation, past.counts) for past in window(store, NOW - DAY, DAY)] == [(LOCK, True)]


@pytest.mark.parametrize("state", [State.FAILED, State.PUT_OFF])
def test_what_did_not_arrive_does_not_fill_the_window(store: Store, state: State) -> None:
    was(store, state, LOCK)
    assert window(store, NOW - DAY, DAY) == []


def test_a_lock_that_was_not_needed_fills_neither_window_nor_announcement(store: Store) -> None:
    number = store.add_request("allow", {"deactivations": 3}, by="root", at=AGO, reason="", until=NOW + DAY)
    was(store, State.DONE, LOCK, f"allow:{number}", LOCKED_BEFORE)
    assert window(store, NOW - DAY, DAY) == []
    assert consent(store).allowances == (Allowance(f"allow:{number}", 3, NOW + DAY),)


@pytest.mark.parametrize("perhaps", [op(Kind.UPDATE_USER, ADA, remove=(ENG,)), op(Kind.REACTIVATE_USER, ADA)])
def test_what_nobody_can_tell_the_outcome_of_fills_the_window(store: Store, perhaps: Operation) -> None:
    was(store, State.PUT_OFF, perhaps, outcome="settled")
    assert [past.operation for past in window(store, NOW - DAY, DAY)] == [perhaps]


def test_an_unlock_that_undid_a_recent_lock_does_not_begin_to_count_when_that_lock_is_old(store: Store) -> None:
    back = op(Kind.REACTIVATE_USER, ADA)
    was(store, State.DONE, LOCK, at=NOW - timedelta(hours=30))
    was(store, State.DONE, back, at=NOW - timedelta(hours=20))
    (past,) = window(store, NOW - DAY, DAY)
    assert (past.operation, past.undoes, set(past.gave_access)) == (back, True, {True})


def test_an_account_that_somebody_else_deleted_and_that_is_made_anew_undoes_no_lock_of_ours(store: Store) -> None:
    back = replace(op(Kind.CREATE_USER, ADA), rule=Rule.RETURNED)
    was(store, State.DONE, back, at=NOW - timedelta(hours=3))
    was(store, State.DONE, LOCK, at=NOW - timedelta(hours=2))
    was(store, State.DONE, back, at=NOW - timedelta(hours=1))
    found = window(store, NOW - DAY, DAY)
    assert [(past.undoes, set(past.gave_access)) for past in found] == [
        (False, set()),
        (False, {False}),
        (True, {True}),  # this one does undo our own
    ]


def test_an_unlock_counts_whose_lock_was_older_than_the_window(store: Store) -> None:
    back = op(Kind.REACTIVATE_USER, ADA)
    was(store, State.DONE, LOCK, at=NOW - timedelta(hours=45))
    was(store, State.FAILED, LOCK, at=NOW - timedelta(hours=21))  # never arrived
    was(store, State.DONE, back, at=NOW - timedelta(hours=20))
    assert [past.undoes for past in window(store, NOW - DAY, DAY)] == [False]


def test_in_doubt_about_the_time_a_window_is_longer_than_what_is_certainly_recent(store: Store) -> None:
    was(store, State.DONE, LOCK, at=NOW - 2 * DAY)
    was(store, State.DONE, LOCK, at=NOW - DAY / 2)
    found = window(store, NOW - 30 * DAY, DAY, NOW - DAY)
    assert [past.recent for past in found] == [False, True]


def test_what_was_released_or_announced_does_not_fill_the_window(store: Store) -> None:
    was(store, State.DONE, LOCK, release(store, LOCK))
    was(store, State.DONE, OTHER, "allow:9")
    assert [past.counts for past in window(store, NOW - DAY, DAY)] == [False, False]


def test_what_a_long_release_let_through_does_not_fill_a_short_window(store: Store) -> None:
    number, late = release(store, LOCK, OTHER), AGO + timedelta(hours=6)
    was(store, State.DONE, LOCK, number, at=late)
    assert [past.counts for past in window(store, late - timedelta(minutes=30), timedelta(hours=1))] == [False]


def test_of_what_was_released_in_part_the_rest_counts(store: Store) -> None:
    both = op(Kind.UPDATE_USER, ADA, remove=(ENG, SALES))
    was(store, State.DONE, both, release(store, op(Kind.UPDATE_USER, ADA, remove=(ENG,))))
    (past,) = window(store, NOW - DAY, DAY)
    assert past.counts and past.operation.remove == (SALES,)


def test_what_a_release_let_through_once_counts_when_it_is_done_again(store: Store) -> None:
    was(store, State.DONE, LOCK, release(store, LOCK))
    was(store, State.DONE, LOCK)
    assert [past.counts for past in window(store, NOW - DAY, DAY)] == [False, True]


@pytest.mark.parametrize("state", [State.SENT, State.UNKNOWN])
def test_an_unlock_without_a_known_outcome_leaves_the_lock_to_be_undone(store: Store, state: State) -> None:
    back = op(Kind.REACTIVATE_USER, ADA)
    was(store, State.DONE, LOCK, at=NOW - timedelta(hours=25))
    was(store, state, back, at=NOW - timedelta(hours=4))
    assert held(store, back) == []
    was(store, State.UNKNOWN, back, at=NOW - timedelta(hours=3))
    assert [past.undoes for past in window(store, NOW - DAY, DAY)] == [True, True]
    assert held(store, back) == []
    was(store, State.DONE, back, at=NOW - timedelta(hours=2))
    assert held(store, back) == ["max_reactivations"]  # no lock of ours is left to be undone


def test_a_lock_without_a_known_outcome_leaves_the_unlock_to_be_taken_back(store: Store) -> None:
    was(store, State.DONE, op(Kind.REACTIVATE_USER, ADA))
    was(store, State.UNKNOWN, LOCK)
    assert held(store, LOCK) == []
    was(store, State.DONE, LOCK)
    assert held(store, LOCK) == ["max_deactivations"]


def test_an_unlock_undoes_a_lock_that_was_set_before_the_owner_of_the_account_was_known(store: Store) -> None:
    back = op(Kind.REACTIVATE_USER, ADA)
    alone = replace(LOCK, subject=replace(LOCK.subject, jumpcloud_id=""))
    was(store, State.DONE, alone)
    assert held(store, back) == []
    was(store, State.DONE, back)
    assert [past.undoes for past in window(store, NOW - DAY, DAY)] == [False, True]


def held(store: Store, operation: Operation) -> list[str]:
    """The limits that hold an operation if they allow nobody."""
    none = Limit(count=0)
    limits = Limits(max_deactivations=none, max_reactivations=none)
    plan = Plan("cycle", NOW, SOURCE, Scope(1, 0, 0), (operation,))
    past = window(store, NOW - DAY, DAY)
    known = snapshot([account(ADA)])
    return [one.limit for one in judge(plan, known, past, limits, TeamPolicy(), consent(store)).plan.held]


# -- releases -------------------------------------------------------------------------------------------------------


def test_a_release_lets_through_what_it_is_about_for_four_hours(store: Store) -> None:
    number = release(store, LOCK)
    assert consent(store).releases == (Release(number, LOCK.effects()),)
    assert given(store, [], "", AGO + RELEASE_LASTS, AGO).releases == ()


def test_a_release_lasts_from_the_first_run_on_whatever_the_clock_was_when_it_was_given(store: Store) -> None:
    agree(store, "plan", LOCK.effects(), by="root", at=AGO - DAY, reason="")
    assert consent(store).releases == (Release("release:1", LOCK.effects()),)
    store.begin_durations(NOW, AGO)
    [found] = store.open_requests(NOW)
    assert (found.at, found.until) == (AGO, NOW + RELEASE_LASTS)  # given since the last run, so not before it
    store.begin_durations(NOW + DAY, NOW)
    assert store.open_requests(NOW) == [found]


def test_what_is_done_is_used_up_and_what_failed_is_not(store: Store) -> None:
    number = release(store, LOCK, OTHER)
    was(store, State.DONE, LOCK, number)
    was(store, State.FAILED, OTHER, number)
    assert consent(store).releases == (Release(number, OTHER.effects()),)


def test_a_release_of_which_a_cycle_has_sent_a_part_outlasts_that_cycle(store: Store) -> None:
    """It ran out while the cycle was sending, and the rest was put off for time."""
    number = release(store, LOCK, OTHER)
    store.begin_durations(AGO, None)
    was(store, State.DONE, LOCK, number)
    late = AGO + RELEASE_LASTS + timedelta(minutes=4)
    prolong(store, {number, "", "allow:1"}, late)
    assert given(store, [], "", late + timedelta(minutes=1), AGO).releases == (Release(number, OTHER.effects()),)
    store.close_request(number.removeprefix("release:"), "done", late)
    prolong(store, {number}, late + timedelta(hours=1))
    assert store.decisions("release", AGO)[0].until == late + RELEASE_LASTS


def older(store: Store, *operations: Operation) -> str:
    """A release that ends a minute after `AGO`."""
    begun = AGO - RELEASE_LASTS + timedelta(minutes=1)
    agree(store, "plan", effects_of(operations), by="root", at=begun, reason="")
    store.begin_durations(begun, None)
    return f"release:{store.open_requests(begun, 'release')[-1].id}"


@pytest.mark.parametrize("state", [State.SENT, State.DONE])
def test_a_release_of_which_a_cycle_that_was_cut_off_has_sent_a_part_goes_on(store: Store, state: State) -> None:
    number = older(store, LOCK, OTHER)
    was(store, state, LOCK, number)
    prolong_cut_off(store, NOW)
    assert store.decisions("release", AGO - DAY)[0].until == AGO + RELEASE_LASTS
    was(store, State.PUT_OFF, OTHER, number, at=NOW)
    prolong_cut_off(store, NOW)
    assert store.decisions("release", AGO - DAY)[0].until == AGO + RELEASE_LASTS


def test_what_undoes_a_refused_creation_prolongs_no_release(store: Store) -> None:
    number = older(store, LOCK, OTHER)
    was(store, State.DONE, replace(OTHER, kind=Kind.UPDATE_USER, rule=Rule.UNDONE), number)
    prolong_cut_off(store, NOW)
    assert store.decisions("release", AGO - DAY)[0].until == AGO + timedelta(minutes=1)


def test_what_a_release_has_used_up_is_let_through_once_more_by_a_saved_plan(store: Store) -> None:
    number = release(store, LOCK, OTHER)
    was(store, State.DONE, LOCK, number, at=AGO + timedelta(minutes=1))
    agree_once(store, "saved", effects_of([LOCK, OTHER]), by="root", at=NOW, reason="")
    assert [one.effects for one in consent(store).releases] == [OTHER.effects(), LOCK.effects()]


@pytest.mark.parametrize("saved", [False, True])
def test_what_two_releases_let_through_together_fills_no_window(store: Store, saved: bool) -> None:
    both = op(Kind.UPDATE_USER, ADA, add=(ENG, SALES))
    release(store, op(Kind.UPDATE_USER, ADA, add=(ENG,)))
    if saved:
        agree_once(store, "saved", both.effects(), by="root", at=AGO, reason="")
    else:
        release(store, both)
    plan = Plan("cycle", NOW, SOURCE, Scope(1, 2, 2), (both,))
    judged = judge(plan, snapshot([account(ADA)]), [], Limits(), TeamPolicy(), consent(store))
    was(store, State.DONE, both, judged.decisions[0])
    assert [past.counts for past in window(store, NOW - DAY, DAY)] == [False]
    assert not any(one.effects for one in consent(store).releases)


def test_what_a_crash_left_undone_is_still_released_but_for_a_team_that_may_be_queued(store: Store) -> None:
    queued = team_op(Kind.QUEUE_TEAM, group(9))
    number = release(store, LOCK, queued)
    was(store, State.SENT, LOCK, number)
    was(store, State.SENT, queued, number)
    assert consent(store).releases == (Release(number, LOCK.effects()),)


def test_what_is_no_longer_due_is_dropped_from_a_release(store: Store) -> None:
    number = release(store, LOCK, OTHER)
    due(store, OTHER)
    due(store, LOCK, OTHER)  # the same mistake again
    assert consent(store).releases == (Release(number, OTHER.effects()),)


def test_what_a_read_does_not_tell_of_stays_in_a_release(store: Store) -> None:
    number = release(store, LOCK, OTHER)
    due(store, unread=[LOCK])
    assert consent(store).releases == (Release(number, LOCK.effects()),)
    due(store, unread=[LOCK, OTHER])
    due(store)
    assert store.open_requests(NOW, "release") == []


def test_a_release_is_closed_once_it_is_used_up_or_nothing_of_it_is_due(store: Store) -> None:
    number = release(store, LOCK)
    was(store, State.DONE, LOCK, number)
    release(store, OTHER)
    due(store, LOCK)
    assert store.open_requests(NOW, "release") == []


def test_what_is_used_up_stays_on_record_while_the_rest_of_the_release_is_due(store: Store) -> None:
    number = release(store, LOCK, OTHER)
    was(store, State.DONE, LOCK, number)
    due(store, OTHER)
    assert [past.counts for past in window(store, NOW - DAY, DAY)] == [False]
    assert consent(store).releases == (Release(number, OTHER.effects()),)


def test_a_release_stays_open_as_it_is_while_all_of_it_is_due(store: Store) -> None:
    number = release(store, LOCK)
    due(store, LOCK, OTHER)
    assert consent(store).releases == (Release(number, LOCK.effects()),)


# -- announcements, and one person ----------------------------------------------------------------------------------


def test_an_announced_lay_off_is_used_up_by_what_may_have_arrived(store: Store) -> None:
    number = store.add_request("allow", {"deactivations": 3}, by="root", at=AGO, reason="", until=NOW + DAY)
    was(store, State.DONE, LOCK, f"allow:{number}")
    was(store, State.UNKNOWN, OTHER, f"allow:{number}")
    was(store, State.FAILED, op(Kind.DEACTIVATE_USER, user(3)), f"allow:{number}")
    was(store, State.DONE, op(Kind.DEACTIVATE_USER, user(4)))
    assert consent(store).allowances == (Allowance(f"allow:{number}", 1, NOW + DAY, frozenset({EVE.id})),)


def test_an_announced_lock_that_another_run_is_about_to_send_uses_up_the_announcement(store: Store) -> None:
    number = store.add_request("allow", {"deactivations": 1}, by="root", at=AGO, reason="", until=NOW + DAY)
    run = store.begin_run("cycle", NOW, by="root", reason="")
    (row,) = store.write_ahead(run, [LOCK], {0: f"allow:{number}"}, NOW)
    assert consent(store).allowances == (Allowance(f"allow:{number}", 0, NOW + DAY, frozenset({ADA.id})),)
    store.record(row, State.PUT_OFF, NOW, "put_off")
    assert consent(store).allowances == (Allowance(f"allow:{number}", 1, NOW + DAY),)


def test_an_announced_lock_that_is_asked_for_again_is_one_lock(store: Store) -> None:
    number = store.add_request("allow", {"deactivations": 2}, by="root", at=AGO, reason="", until=NOW + DAY)
    was(store, State.DONE, OTHER, f"allow:{number}")
    was(store, State.UNKNOWN, LOCK, f"allow:{number}")
    assert held(store, LOCK) == []
    was(store, State.UNKNOWN, LOCK, f"allow:{number}")
    assert held(store, LOCK) == []
    assert held(store, op(Kind.DEACTIVATE_USER, user(3))) == ["max_deactivations"]
    was(store, State.DONE, LOCK, f"allow:{number}")
    assert held(store, LOCK) == ["max_deactivations"]


def test_an_announcement_never_becomes_less_than_nothing(store: Store) -> None:
    number = store.add_request("allow", {"deactivations": 1}, by="root", at=AGO, reason="", until=NOW + DAY)
    for one in (LOCK, OTHER):
        was(store, State.DONE, one, f"allow:{number}")
    assert consent(store).allowances == (Allowance(f"allow:{number}", 0, NOW + DAY),)


def test_for_whom_resync_was_used_within_the_window_is_known(store: Store) -> None:
    was(store, State.DONE, LOCK, "person:u1@example.com")
    was(store, State.DONE, OTHER)
    assert consent(store, "U2@Example.com").persons_before == {ADA.id}
    assert consent(store, "U2@Example.com").person == "person:u2@example.com" and consent(store).person == ""
