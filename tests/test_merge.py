"""Rows that several cycles write: nothing newer is lost to an older copy."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from reconciler.merge import merged
from reconciler.model import Account, Membership, Standing
from reconciler.snapshot import superseded
from tests.world import MEMBER, NOW, account, user

IT = frozenset({"group:IT"})
BEFORE = account(user(1), memberships={"t1": MEMBER})


def test_a_row_that_nobody_changed_meanwhile_is_written_as_it_is() -> None:
    wanted = replace(BEFORE, left_at=NOW)
    assert merged(wanted, BEFORE, BEFORE) == wanted
    assert merged(BEFORE, None, None) == BEFORE


def test_a_lock_by_the_lane_outlives_the_copy_of_a_whole_cycle() -> None:
    locked = replace(BEFORE, active=False, locked_by_us=True)
    wanted = replace(BEFORE, pilot=IT, shown={**BEFORE.shown, "displayName": "New"})
    assert merged(wanted, BEFORE, locked) == replace(wanted, active=False, locked_by_us=True)


def test_a_lock_that_a_cycle_beside_set_again_stays_ours() -> None:
    """Somebody had undone our lock, a whole cycle lists the account as active, and the lane locks it once more: the row
    is then what it was before."""
    before = replace(BEFORE, active=False, locked_by_us=True)
    listed = replace(before, active=True, locked_by_us=False, shown={**BEFORE.shown, "displayName": "New"})
    found = merged(listed, before, before, touched=True)
    assert found == replace(listed, active=False, locked_by_us=True)
    assert merged(listed, before, before) == listed


def test_access_goes_with_the_standing_that_explains_it() -> None:
    """Somebody vanished, and a cycle beside this one gave them another account: this one's memory stands as last
    shown, active, whichever of the two is written last."""
    vanished = replace(BEFORE, active=False, gone=True, missed_at=NOW)
    memory = superseded(vanished, NOW)
    assert not memory.was_locked
    for wanted, current in ((vanished, memory), (memory, vanished)):
        found = merged(wanted, BEFORE, current)
        assert found is not None and not found.was_locked and found.standing is Standing.UNMANAGED


def test_memberships_and_names_are_merged_entry_by_entry() -> None:
    other = Membership(ours=True, seen=False, shown=False, asked_at=NOW)
    wanted = replace(BEFORE, memberships={"t1": MEMBER, "t2": other})
    current = replace(BEFORE, memberships={"t3": other})  # t1 taken away, t3 given
    found = merged(wanted, BEFORE, current)
    assert found is not None and found.memberships == {"t2": other, "t3": other}


def test_a_row_that_was_deleted_meanwhile_stays_so_and_one_that_came_stays() -> None:
    assert merged(replace(BEFORE, pilot=IT), BEFORE, None) is None
    came = replace(BEFORE, active=False)
    assert merged(BEFORE, None, came) == came


def test_of_two_new_rows_the_adopted_one_stays_whichever_is_written_last() -> None:
    listed = replace(BEFORE, standing=Standing.UNMANAGED, jumpcloud_id="")
    assert merged(BEFORE, None, listed) == BEFORE
    assert merged(listed, None, BEFORE) == BEFORE


rows = st.builds(
    lambda active, pilot, left, teams: replace(
        BEFORE,
        active=active,
        pilot=IT if pilot else frozenset(),
        left_at=NOW if left else None,
        memberships=dict.fromkeys(teams, MEMBER),
    ),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.frozensets(st.sampled_from(["t1", "t2", "t3"])),
)


@given(rows, rows, rows)
def test_what_changed_since_is_kept_and_the_rest_is_as_wanted(
    wanted: Account, before: Account, current: Account
) -> None:
    found = merged(wanted, before, current)
    assert found is not None
    for name in ("active", "pilot", "left_at"):
        new, old, now = (getattr(row, name) for row in (wanted, before, current))
        assert getattr(found, name) == (new if now == old else now)
    for team in ("t1", "t2", "t3"):
        new, old, now = (row.memberships.get(team) for row in (wanted, before, current))
        assert found.memberships.get(team) == (new if now == old else now)
