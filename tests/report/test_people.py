"""The reports on teams and leavers, from what the state file holds."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.model import Failure, Membership, Snapshot
from reconciler.plan import Cause, Kind, Operation, Rule, Subject
from reconciler.policy import OutOfScope, Pilot, Policy, TeamPolicy
from reconciler.report import leavers, teams
from reconciler.store import State, Store
from tests.world import MEMBER, NOW, account, group, snapshot, team, user

HOSTILE = '\x1b[31m=cmd|"!A1"\u202e\n,'
ASKED = Membership(ours=True, seen=False, shown=False, asked_at=NOW - timedelta(hours=2))
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "reconciler.db", write=True) as opened:
        yield opened


# -- teams ------------------------------------------------------------------------------------------------------------


def held() -> Snapshot:
    waiting = team(group(8, HOSTILE), seen=False, queued_at=NOW - DAY)
    return snapshot(
        [
            account(user(1), memberships={"t0008": ASKED, "t0009": MEMBER}),
            account(user(2), memberships={"t0008": replace(ASKED, asked_at=NOW)}, active=False),
            account(user(3), memberships={"t0009": replace(MEMBER, shown=False)}),
            account(user(4), memberships={"t0009": replace(MEMBER, ours=False)}),
            account(user(5), memberships={"t0009": replace(MEMBER, ours=False, found=True)}),
            account(user(6), memberships={"t0008": ASKED}, gone=True),
        ],
        [waiting, team(group(9, "Sales"))],
    )


def test_what_waits_is_the_team_and_its_members_since_the_oldest() -> None:
    waiting, sales = teams.waiting(held(), TeamPolicy())
    since = (NOW - DAY).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert waiting == {"team": HOSTILE, "queued": True, "members": 1, "since": since, "certain": False, "listed": False}
    assert (sales["team"], sales["listed"]) == ("Sales", True), "being listed is no approval"
    assert [entry["team"] for entry in teams.waiting(held(), TeamPolicy(role_prefix="\x1b"))] == ["Sales"]


def test_each_member_with_what_is_known_of_them() -> None:
    found = {one["name"]: one for one in teams.document(held(), TeamPolicy(), NOW)["teams"]}
    states = {member["email"]: member["state"] for member in found["Sales"]["members"]}
    assert states == {
        "u1@example.com": "member",
        "u3@example.com": "missing",
        "u4@example.com": "by_hand",
        "u5@example.com": "found",
    }


@pytest.mark.parametrize("width", [40, 80, 140])
def test_teams_fit_the_terminal_and_names_are_harmless(width: int) -> None:
    text = teams.render(teams.document(held(), TeamPolicy(), NOW), width=width, colour=False)
    assert all(len(line) <= width for line in text.splitlines())
    assert "\x1b" not in text
    assert "(locked)" in text


# -- leavers ----------------------------------------------------------------------------------------------------------

LEFT = NOW - 10 * MINUTE
GONE_SINCE = {"left_at": LEFT}


def lock(store: Store, person: int, state: State = State.DONE, cause: Cause = Cause.JUMPCLOUD, after: int = 2) -> None:
    """A lock that was sent and answered so many minutes after the person had left."""
    one = account(user(person))
    op = Operation(
        Kind.DEACTIVATE_USER, Subject("user", one.email, one.jumpcloud_id, one.keeper_id), cause, Rule.LEFT, "left"
    )
    run = store.begin_run("cycle", LEFT, by="", reason="")
    (number,) = store.write_ahead(run, [op], {}, LEFT, {one.keeper_id: LEFT})
    store.mark_sent(number, LEFT + after * MINUTE, op)
    store.record(number, state, LEFT + (after + 1) * MINUTE, state.value, "no" if state is State.FAILED else "")


def evidence(store: Store, policy: Policy | None = None) -> list[dict[str, Any]]:
    found = leavers.document(store, policy or Policy(grace=timedelta(0)), NOW - DAY, NOW)["leavers"]
    assert isinstance(found, list)
    return found


def test_minutes_count_from_when_jumpcloud_said_so_and_attempts_from_the_first(store: Store) -> None:
    store.save(snapshot([account(user(1), active=False, locked_by_us=True, **GONE_SINCE)]), Snapshot())
    lock(store, 1, State.FAILED, after=1)
    lock(store, 1, after=6)
    (entry,) = evidence(store)
    assert (entry["state"], entry["attempts"]) == ("locked", 2)
    assert (entry["minutes_to_send"], entry["minutes_to_confirm"]) == (6.0, 7.0)


def test_a_lock_that_somebody_undid_counts_once_more_without_minutes(store: Store) -> None:
    store.save(snapshot([account(user(1), active=False, locked_by_us=True, **GONE_SINCE)]), Snapshot())
    lock(store, 1)
    lock(store, 1, cause=Cause.DRIFT, after=5)
    again, first = evidence(store)
    assert (first["minutes_to_confirm"], again["minutes_to_confirm"]) == (3.0, None)


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({"active": True}, "came_back"),
        ({"active": True, **GONE_SINCE, "locked_by_us": True}, "unlocked_again"),
        ({"active": False, **GONE_SINCE}, "locked"),
        ({"active": False, "left_at": NOW}, "came_back"),
        ({"active": False, **GONE_SINCE, "gone": True}, "gone"),
    ],
)
def test_what_became_of_who_was_locked(store: Store, values: dict[str, Any], state: str) -> None:
    store.save(snapshot([account(user(1), **values)]), Snapshot())
    lock(store, 1)
    assert evidence(store)[-1]["state"] == state


@pytest.mark.parametrize(
    ("values", "policy", "words"),
    [
        ({}, Policy(grace=timedelta(0)), "due with the next cycle"),
        ({}, Policy(grace=timedelta(hours=1)), "in grace until 2026-11-24 12:50 UTC"),
        ({"protected_as": "u1@example.com"}, Policy(), "protected"),
        ({}, Policy(only=Pilot(groups=frozenset({"IT"}))), "outside the pilot"),
        ({}, Policy(out_of_scope=OutOfScope.KEEP), "kept"),
    ],
)
def test_why_somebody_is_still_active(store: Store, values: dict[str, Any], policy: Policy, words: str) -> None:
    store.save(snapshot([account(user(1), **GONE_SINCE, **values)]), Snapshot())
    (entry,) = evidence(store, policy)
    assert entry["state"] == "not_yet"
    assert entry["because"].startswith(words)


def test_who_fails_is_not_yet_locked_and_says_why(store: Store) -> None:
    store.save(snapshot([account(user(1), **GONE_SINCE)]), Snapshot())
    lock(store, 1, State.FAILED, after=9)
    (entry,) = evidence(store)
    assert entry["because"] == "failed 1 times, tried again with the next cycle: no"
    assert entry["command"] == "reconciler resync u1@example.com"
    assert Failure(1, NOW, "no") in store.snapshot().failures.values()


def test_who_left_before_the_time_asked_for_is_left_out_but_not_who_is_still_active(store: Store) -> None:
    locked = account(user(1), active=False, locked_by_us=True, **GONE_SINCE)
    store.save(snapshot([locked, account(user(2), **GONE_SINCE)]), Snapshot())
    lock(store, 1)
    found = leavers.document(store, Policy(), NOW - MINUTE, NOW)
    assert [entry["email"] for entry in found["leavers"]] == ["u2@example.com"]
    assert (found["done"], found["not_yet"]) == (0, 1)


def test_nothing_in_the_csv_is_a_formula(store: Store) -> None:
    names = ["=1+1@example.com", "+49@example.com", "-2@example.com", "@SUM@example.com", "\t=1@example.com", HOSTILE]
    people = [account(user(n), shown={"userName": name}, **GONE_SINCE) for n, name in enumerate(names, 1)]
    store.save(snapshot([*people, account(user(9), shown={"userName": "\uff1d1@x"}, **GONE_SINCE)]), Snapshot())
    text = leavers.to_csv(leavers.document(store, Policy(), NOW - DAY, NOW))
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 7
    assert "\x1b" not in text
    for row in rows:
        assert all(not value.lstrip().startswith(tuple("=+-@\uff1d")) for value in row.values())
    assert "'=1+1@example.com" in {row["email"] for row in rows}


def test_the_text_names_who_is_still_active_first_and_fits(store: Store) -> None:
    locked = account(user(1), active=False, locked_by_us=True, **GONE_SINCE)
    active = account(user(2), shown={"userName": HOSTILE}, **GONE_SINCE)
    store.save(snapshot([locked, active]), Snapshot())
    lock(store, 1)
    text = leavers.render(leavers.document(store, Policy(), NOW - DAY, NOW), width=60, colour=False)
    assert "1 person lost access, the slowest 3 minutes after" in " ".join(text.split())
    assert text.index("NOT YET") < text.index("u1@example.com: locked")
    assert "\x1b" not in text
    assert all(len(line) <= 60 for line in text.splitlines())
