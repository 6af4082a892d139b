"""The time: the median of the clocks, what a contradiction means, and the estimate where nobody is asked."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.timekeeping import APART, Known, estimate, following, from_json, judge, spoken, to_json
from tests.world import NOW

MINUTE, HOUR, DAY, YEAR = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1), timedelta(days=365)
LAST = Known(at=NOW - 5 * MINUTE, before=NOW - 10 * MINUTE)


def clocks(*seconds: float) -> dict[str, float]:
    return dict(zip(("JumpCloud", "Keeper"), seconds, strict=False))


@pytest.mark.parametrize("wrong", [YEAR, -YEAR, 9 * HOUR, -9 * HOUR, 3 * MINUTE])
def test_two_services_that_agree_correct_this_machine(wrong: timedelta) -> None:
    found = judge(NOW + wrong, clocks(-wrong.total_seconds(), -wrong.total_seconds() + 1), LAST)
    assert abs(found.at - NOW) <= timedelta(seconds=1)
    assert found.certain
    assert found.correct_to == found.at
    assert "Set the clock of this machine right" in found.problem
    assert ("behind" in found.problem) is (wrong < timedelta())


@pytest.mark.parametrize("wrong", [YEAR, -YEAR])
def test_one_service_that_is_wrong_changes_nothing(wrong: timedelta) -> None:
    for services in (clocks(wrong.total_seconds(), 0.4), clocks(0.4, wrong.total_seconds())):
        found = judge(NOW, services, LAST)
        assert (found.at, found.certain, found.problem) == (NOW, True, "")


@pytest.mark.parametrize("services", [clocks(), clocks(119), clocks(-119, 3), clocks(-90, 90)])
def test_a_small_difference_is_not_worth_a_correction(services: dict[str, float]) -> None:
    found = judge(NOW, services, LAST)
    assert (found.at, found.certain, found.problem) == (NOW, True, "")


def test_an_offset_does_not_move_by_the_fractions_of_seconds_that_the_services_leave_out() -> None:
    first = judge(NOW, clocks(3600.2, 3600.9), LAST)
    again = judge(NOW + MINUTE, clocks(3602.4, 3601.9), following(LAST, first))
    assert again.at - first.at == MINUTE


@pytest.mark.parametrize("wrong", [YEAR, -YEAR, timedelta(seconds=121), timedelta(seconds=-121)])
def test_two_clocks_that_contradict_each_other_are_uncertain(wrong: timedelta) -> None:
    found = judge(NOW, clocks(wrong.total_seconds()), LAST)
    assert not found.certain
    assert found.at == max(NOW, NOW + wrong)  # too late can be corrected later, too early can't
    assert found.earliest <= min(NOW, NOW + wrong)
    assert found.correct_to is None
    assert "Nobody's grace ends" in found.problem
    after = following(LAST, found)
    assert (after.at, after.before, after.certain) == (LAST.at, LAST.before, False)
    assert after.prunes_by(NOW) is None


def test_a_clock_that_was_ahead_in_one_run_only_is_right_at_once() -> None:
    found = judge(NOW, {}, Known(at=NOW + YEAR, before=NOW - MINUTE))
    assert (found.at, found.certain, found.correct_to) == (NOW, True, NOW)


def test_a_clock_that_went_back_without_a_witness_is_uncertain_until_the_next_run() -> None:
    ahead = Known(at=NOW + YEAR, before=NOW + YEAR - MINUTE)
    first = judge(NOW, {}, ahead)
    assert not first.certain
    assert "neither service tells the time" in first.problem
    assert (first.at, first.correct_to) == (NOW + YEAR, None)
    assert first.earliest == NOW
    again = judge(NOW + 5 * MINUTE, {}, following(ahead, first))
    assert again.certain
    assert (again.at, again.correct_to) == (NOW + 5 * MINUTE, NOW)  # when it was first right again


def test_a_clock_that_was_behind_for_one_run_and_is_right_again_has_changed_nothing() -> None:
    behind = judge(NOW - YEAR, {}, LAST)
    assert not behind.certain
    assert behind.at == LAST.at
    after = following(LAST, behind)
    right = judge(NOW, {}, after)
    assert right.certain
    assert right.at == right.correct_to == NOW
    assert following(after, right).before == LAST.at


@pytest.mark.parametrize("wrong", [-YEAR, -9 * HOUR])
def test_a_clock_that_was_found_behind_is_corrected_while_neither_service_tells_the_time(wrong: timedelta) -> None:
    known = following(LAST, judge(NOW + wrong, clocks(*[-wrong.total_seconds()] * 2), LAST))
    for minutes in (5, 10, 15):
        found = judge(NOW + wrong + minutes * MINUTE, {}, known)
        assert (found.at, found.certain, found.correct_to) == (NOW + minutes * MINUTE, True, found.at)
        assert "behind" in found.problem
        known = following(known, found)


@pytest.mark.parametrize("wrong", [YEAR, 9 * HOUR])
def test_a_clock_that_was_found_ahead_is_in_doubt_while_neither_service_tells_the_time(wrong: timedelta) -> None:
    """It may have been set right since then, at most so long ago: only the services can tell."""
    known = following(LAST, judge(NOW + wrong, clocks(*[-wrong.total_seconds()] * 2), LAST))
    for services in ({}, clocks(-wrong.total_seconds()), {}):  # one clock alone decides nothing either
        found = judge(NOW + wrong + 5 * MINUTE, services, known)
        assert (found.certain, found.correct_to) == (False, None)
        assert found.at == NOW + wrong + 5 * MINUTE
        assert found.earliest <= NOW + 5 * MINUTE
        known = following(known, found)
    assert judge(NOW + 5 * MINUTE, {}, known).certain  # set right since
    right = judge(NOW + wrong + 5 * MINUTE, clocks(0.5, 0.5), known)
    assert right.certain
    assert not following(known, right).found


def test_a_clock_that_was_found_behind_may_be_right_after_as_long() -> None:
    known = following(LAST, judge(NOW - HOUR, clocks(3600, 3600), LAST))
    found = judge(NOW + 5 * HOUR, {}, known)
    assert (found.at, found.earliest, found.certain) == (NOW + 6 * HOUR, NOW + 5 * HOUR, False)


def test_the_first_run_after_a_jump_forward_prunes_by_the_time_of_the_run_before_it() -> None:
    jumped = following(LAST, judge(NOW + YEAR, {}, LAST))
    assert jumped.prunes_by(NOW + YEAR) == LAST.at
    assert Known().prunes_by(NOW) == NOW
    assert following(Known(), judge(NOW, {}, Known())).prunes_by(NOW) is None


@pytest.mark.parametrize(
    ("machine", "offset", "expected"),
    [
        (NOW, timedelta(), NOW),
        (NOW + YEAR, -YEAR, NOW),
        (NOW, -YEAR, NOW),  # set right since the last run
        (NOW - 9 * HOUR, 9 * HOUR, NOW),
        (NOW, 9 * HOUR, NOW),  # likewise
        (NOW - YEAR, timedelta(), NOW - YEAR),  # nothing else is known
    ],
)
def test_commands_estimate_the_time(machine: object, offset: timedelta, expected: object) -> None:
    assert estimate(machine, Known(offset, at=LAST.at)) == expected  # type: ignore[arg-type]


def test_what_the_last_run_found_arrives_and_what_can_t_be_read_is_nothing() -> None:
    known = Known(-YEAR, NOW, NOW - MINUTE, NOW - DAY, certain=False, found=-YEAR)
    assert from_json(to_json(known)) == known
    for text in (None, "", "[]", "null", "{", '{"at": "2026-01-01"}', '{"offset": 1e300}', '{"at": 7}'):
        assert from_json(text) == Known()


def test_lengths_are_spoken() -> None:
    assert [spoken(t) for t in (YEAR, -9 * HOUR, 3 * MINUTE, timedelta(seconds=9))] == [
        "365 days", "9 hours", "3 minutes", "9 seconds",
    ]  # fmt: skip


seconds = st.floats(-1e8, 1e8)


@given(seconds, seconds, seconds)
def test_of_three_clocks_one_wrong_one_never_decides(good: float, wrong: float, third: float) -> None:
    """Two clocks that agree are never overruled, whichever is the wrong one."""
    jitter = third % 1
    for services, true in (
        (clocks(good, good + jitter), NOW + timedelta(seconds=good)),  # the machine is wrong
        (clocks(wrong, jitter), NOW),
        (clocks(jitter, wrong), NOW),
    ):
        found = judge(NOW, services, Known())
        assert found.certain
        assert abs(found.at - true) <= APART


@given(st.lists(seconds, max_size=1), seconds)
def test_in_doubt_the_recorded_time_is_the_latest_and_the_window_begins_with_the_earliest(
    services: list[float], last: float
) -> None:
    known = Known(at=NOW + timedelta(seconds=last))
    found = judge(NOW, clocks(*services), known)
    times = [NOW, *(NOW + timedelta(seconds=s) for s in services)]
    assert found.earliest <= found.at
    if not found.certain:
        assert found.at >= max(times)
        assert found.earliest <= min(times)


steps = st.lists(
    st.tuples(
        st.sampled_from([5 * MINUTE, 3 * HOUR, 2 * DAY]),
        st.sampled_from([clocks(0, 0.3), clocks(0), clocks()]),
        st.sampled_from([None, timedelta(), 3 * MINUTE, -3 * MINUTE, 9 * HOUR, -9 * HOUR, YEAR, -YEAR]),
    ),
    max_size=8,
)


@given(steps)
def test_a_jump_that_a_service_has_seen_deceives_no_later_run_whoever_tells_the_time(steps: object) -> None:
    true, wrong, known = NOW, timedelta(), Known()
    for later, telling, jump in steps:  # type: ignore[attr-defined]
        true += later
        wrong = jump if telling and jump is not None else wrong
        found = judge(true + wrong, {name: ahead - wrong.total_seconds() for name, ahead in telling.items()}, known)
        if found.certain:
            assert abs(found.at - true) <= APART
        else:
            assert found.earliest <= true + APART
            assert found.at >= true - APART
            assert found.correct_to is None
        known = following(known, found)
