"""The reports on teams and leavers, from what the state file holds."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler import decisions, model, standing
from reconciler.alerts import Failing
from reconciler.history import Wanted
from reconciler.model import Failure, Inventory, InventoryTeam, Membership, OddRecord, Snapshot
from reconciler.plan import Cause, Kind, Operation, Rule, Subject
from reconciler.policy import OutOfScope, Pilot, Policy, TeamPolicy
from reconciler.promise import NOT_HERE, WITHDRAWN, WITHDRAWN_OR_DELETED
from reconciler.report import leavers, teams
from reconciler.report.last_cycle import Passed, last_attempt
from reconciler.standing import Standing
from reconciler.store import Binding, State, Store
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


def test_a_member_whom_keeper_lists_and_the_inventory_shows_as_queued_is_said_to_be_queued() -> None:
    shown = InventoryTeam("t0009", "Sales", "", False, pending=frozenset({"u1@example.com"}), members=frozenset())
    listed = replace(held(), inventory=Inventory(NOW, {"t0009": shown}))
    found = teams.document(listed, TeamPolicy(), NOW)
    states = {m["email"]: m["state"] for one in found["teams"] if one["name"] == "Sales" for m in one["members"]}
    assert (states["u1@example.com"], states["u3@example.com"]) == ("queued", "missing")
    text = " ".join(teams.render(found, width=140, colour=False).split())
    assert "1 queued in Keeper, as its inventory shows: u1@example.com" in text
    unsure = " ".join(teams.render(teams.document(held(), TeamPolicy(), NOW), width=140, colour=False).split())
    assert "1 listed by Keeper as members: u1@example.com" in unsure, "which is no approval"


@pytest.mark.parametrize("width", [40, 80, 140])
def test_teams_fit_the_terminal_and_names_are_harmless(width: int) -> None:
    text = teams.render(teams.document(held(), TeamPolicy(), NOW), width=width, colour=False)
    assert all(len(line) <= width for line in text.splitlines())
    assert "\x1b" not in text
    assert "(locked)" in text


# -- leavers ----------------------------------------------------------------------------------------------------------

LEFT = NOW - 10 * MINUTE
GONE_SINCE = {"left_at": LEFT}


def lock(
    store: Store,
    person: int,
    state: State = State.DONE,
    cause: Cause = Cause.JUMPCLOUD,
    after: int = 2,
    left: datetime | None = LEFT,
) -> None:
    """A lock that was sent and answered so many minutes after the person had left."""
    one = account(user(person))
    op = Operation(
        Kind.DEACTIVATE_USER, Subject("user", one.email, one.jumpcloud_id, one.keeper_id), cause, Rule.LEFT, "left"
    )
    run = store.begin_run("cycle", LEFT, by="", reason="")
    (number,) = store.write_ahead(run, [op], {}, LEFT, {one.keeper_id: left} if left else {})
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
        ({"active": False, "left_at": NOW, "locked_by_us": True}, "locked"),
        ({"active": False, "left_at": None, "locked_by_us": True}, "came_back"),
        ({"active": False, **GONE_SINCE, "gone": True}, "gone"),
        ({"active": True, "jumpcloud_id": user(2).id}, "given"),
        ({"active": False, "left_at": NOW, "locked_by_us": True, "jumpcloud_id": user(2).id}, "given"),
    ],
)
def test_what_became_of_who_was_locked(store: Store, values: dict[str, Any], state: str) -> None:
    store.save(snapshot([account(user(1), **values)]), Snapshot())
    lock(store, 1)
    assert evidence(store)[-1]["state"] == state


def test_a_lock_is_as_last_read_whose_record_does_not_show_it_any_more(store: Store) -> None:
    locked = account(user(1), active=False, locked_by_us=True, **GONE_SINCE)
    lock(store, 1)
    for odd, because in (
        ((), None),
        ((OddRecord("user", locked.email, locked.keeper_id, fields=("active",)),), "as last"),
    ):
        store.save(snapshot([locked], odd=odd), store.snapshot())
        (found,) = evidence(store)
        assert found["state"] == "locked" and str(found["because"]).startswith(str(because))


def test_a_lock_that_was_put_off_is_not_in_grace(store: Store) -> None:
    """A suspended person whose lock Keeper had put off was said to be in grace."""
    store.save(snapshot([account(user(1), **GONE_SINCE)]), Snapshot())
    lock(store, 1, State.PUT_OFF)
    newest = store.history(Wanted(kind=Kind.DEACTIVATE_USER), 1).entries[0].row
    store.record(newest.id, State.PUT_OFF, NOW, "put_off", "the service asks to wait")
    (found,) = evidence(store, Policy(grace=timedelta(minutes=30)))
    assert found["because"] == "put off, due again with the next cycle: the service asks to wait"


@pytest.mark.parametrize("merely", [True, False])
def test_a_lock_that_was_put_off_is_due_again_unless_the_person_is_kept_by_now(store: Store, merely: bool) -> None:
    """A suspended person was said to be kept."""
    one = account(user(1), **GONE_SINCE)
    store.save(snapshot([one]), Snapshot())
    lock(store, 1, State.PUT_OFF)
    newest = store.history(Wanted(kind=Kind.DEACTIVATE_USER), 1).entries[0].row
    store.record(newest.id, State.PUT_OFF, NOW, "put_off", "the service asks to wait")
    known = Standing(merely_left=frozenset({one.keeper_id} if merely else ()))
    store.set_meta(standing.KEY, standing.to_json(known))
    (found,) = evidence(store, Policy(out_of_scope=OutOfScope.KEEP))
    assert found["because"].startswith("kept" if merely else "put off, due again")


def test_what_was_sent_before_the_file_was_bound_anew_is_no_return(store: Store) -> None:
    """The snapshot of then is forgotten: everybody who was locked in the former node "has come back"."""
    for person in (1, 2, 3):
        lock(store, person)
    missing(store, 4)
    store.bind(Binding("o", "a", "k1"))
    store.rebind(Binding("o", "a", "k2"), NOW)
    found = [account(user(1), active=True, standing=model.Standing.UNMANAGED)]
    found += [account(user(2), active=True, left_at=NOW), account(user(4), active=True, left_at=NOW)]
    store.put(found)
    states = {(one["email"], one["state"]) for one in evidence(store)}
    left = {(f"u{person}@example.com", leavers.FORMER) for person in (1, 2, 3)}
    assert states == left | {("u2@example.com", "not_yet"), ("u4@example.com", "not_yet")}
    store.put([account(user(1), active=False, locked_by_us=True, left_at=NOW), account(user(2), active=True)])
    states = {(one["email"], one["state"]) for one in evidence(store)}
    assert {("u1@example.com", "locked"), ("u2@example.com", "came_back")} < states


def test_who_got_the_account_of_a_leaver_is_not_the_leaver_who_has_come_back(store: Store) -> None:
    lock(store, 1)
    store.put([account(user(1), jumpcloud_id=user(2).id)])
    found = leavers.document(store, Policy(), NOW - DAY, NOW)
    said = leavers.render(found, width=200, colour=False)
    assert "u1@example.com: the account is another JumpCloud user's now" in said and "come back" not in said


def test_a_leaver_whom_somebody_else_has_locked_is_no_lock_of_ours_and_is_not_left_out(store: Store) -> None:
    before = account(user(2), active=False, left_at=NOW - 2 * DAY)
    store.save(snapshot([account(user(1), active=False, **GONE_SINCE), before, account(user(3))]), Snapshot())
    found = leavers.document(store, Policy(), NOW - DAY, NOW)
    assert [(one["email"], one["state"]) for one in found["leavers"]] == [("u1@example.com", "locked_by_others")]
    assert (found["done"], found["locked_by_others"], found["longest_minutes"]) == (0, 1, None)
    text = " ".join(leavers.render(found, width=200, colour=False).split())
    assert "0 people lost access; 0 not yet; 1 locked by somebody else." in text
    assert "u1@example.com: locked by somebody else, not by us first seen out of scope" in text
    lock(store, 1, State.FAILED)
    assert [(one["state"], one["attempts"]) for one in evidence(store)] == [("locked_by_others", 1)]
    lock(store, 1)
    store.put([account(user(1), active=False, locked_by_us=True, **GONE_SINCE)])
    assert [one["state"] for one in evidence(store)] == ["locked"]


def test_who_came_back_and_was_locked_anew_has_come_back_from_the_first_departure(store: Store) -> None:
    lock(store, 1, left=LEFT - DAY)
    lock(store, 1, after=5)
    store.put([account(user(1), active=False, locked_by_us=True, **GONE_SINCE)])
    assert [entry["state"] for entry in evidence(store)] == ["locked", "came_back"]


def missing(store: Store, person: int, words: str = NOT_HERE) -> None:
    """A lock that Keeper answered with 404, after which a list of the node lacks the account."""
    lock(store, person)
    newest = store.history(Wanted(kind=Kind.DEACTIVATE_USER), 1).entries[0].row
    store.record(newest.id, State.DONE, LEFT + 3 * MINUTE, "settled", words)


@pytest.mark.parametrize("words", [NOT_HERE, "not in this Keeper node any more: withdrawn by it, deleted or moved"])
def test_a_lock_that_was_answered_with_404_is_no_evidence(store: Store, words: str) -> None:
    moved = account(user(1), active=False, gone=True, **GONE_SINCE)
    never = account(user(2), active=False, gone=True, left_at=NOW - 5 * MINUTE)
    store.save(snapshot([moved, never, account(user(3))]), Snapshot())
    missing(store, 1, words)
    found = leavers.document(store, Policy(), NOW - DAY, NOW)
    assert (found["done"], found["not_yet"], found["not_verifiable"], found["longest_minutes"]) == (0, 0, 2, None)
    for entry in found["leavers"]:
        assert (entry["state"], entry["confirmed_at"], entry["minutes_to_confirm"]) == ("not_verifiable", None, None)
        assert entry["because"] == "not verifiable: not in this node"
        assert entry["command"] == f"reconciler disown {entry['email']}"
    assert [entry["attempts"] for entry in found["leavers"]] == [1, 0]
    text = " ".join(leavers.render(found, width=110, colour=False).split())
    assert "0 people lost access; 0 not yet; 2 not verifiable." in text
    assert "u1@example.com: NOT VERIFIABLE: not in this node (left)" in text
    assert "in all" not in text
    [first, _] = csv.DictReader(leavers.to_csv(found).splitlines())
    assert (first["state"], first["minutes_to_confirm"]) == ("not_verifiable", "")


def test_an_attempt_of_a_departure_that_is_over_is_none_of_the_next(store: Store) -> None:
    """They had left before the first plan, so that the journal does not say since when."""
    store.save(snapshot([account(user(1), left_at=NOW - MINUTE)]), Snapshot())
    lock(store, 1, State.FAILED, left=None)
    (entry,) = evidence(store)
    assert (entry["state"], entry["attempts"], entry["because"]) == ("not_yet", 0, "due with the next cycle")


@pytest.mark.parametrize("ours", [False, True])
def test_no_inventory_is_said_to_have_answered_for_an_account_that_is_back_and_locked(store: Store, ours: bool) -> None:
    store.save(snapshot([account(user(1), active=False, locked_by_us=ours, **GONE_SINCE)]), Snapshot())
    missing(store, 1)
    (entry,) = evidence(store)
    assert (entry["state"], entry["attempts"]) == ("locked" if ours else "locked_by_others", 1)
    assert ours is ("nothing tells whether by that lock" in (entry["because"] or ""))


def test_the_question_is_closed_by_a_person_or_by_an_inventory(store: Store) -> None:
    moved = account(user(1), active=False, gone=True, **GONE_SINCE)
    store.save(snapshot([moved, account(user(2))]), Snapshot())
    missing(store, 1)
    store.keep_inventory(Inventory(NOW, users={"u1@example.com": "Locked"}))
    (entry,) = evidence(store)
    assert (entry["state"], entry["minutes_to_confirm"]) == ("answered", None)
    assert entry["because"] == "Keeper's inventory on 2026-11-24 12:00 UTC shows the account locked, or nowhere"
    store.keep_inventory(None)
    assert "question" in decisions.disown(store, NOW, "ada", "deleted by hand", "u1@example.com")
    assert store.snapshot().accounts["k0001"].bygone, "should they come back, they are created anew"
    (entry,) = evidence(store)
    assert (entry["state"], entry["confirmed_at"]) == ("closed", None)
    assert entry["because"] == "closed by ada on 2026-11-24 12:00 UTC: deleted by hand"


def test_who_is_found_active_again_and_locked_then_has_the_404_as_an_attempt(store: Store) -> None:
    store.save(snapshot([account(user(1), active=False, locked_by_us=True, **GONE_SINCE)]), Snapshot())
    missing(store, 1)
    lock(store, 1, after=6)
    (entry,) = evidence(store)
    assert (entry["state"], entry["attempts"], entry["minutes_to_confirm"]) == ("locked", 2, 7.0)


def test_who_was_seen_locked_and_is_gone_since_lost_access(store: Store) -> None:
    store.save(snapshot([account(user(1), active=False, gone=True, locked_by_us=True, **GONE_SINCE)]), Snapshot())
    lock(store, 1)
    (entry,) = evidence(store)
    assert (entry["state"], entry["minutes_to_confirm"], entry["because"]) == ("gone", 3.0, None)


@pytest.mark.parametrize(
    ("outcome", "words", "because"),
    [
        ("gone", "only invited: withdrawn by the lock", WITHDRAWN_OR_DELETED),
        ("gone", WITHDRAWN, WITHDRAWN),
        ("invited", WITHDRAWN, WITHDRAWN),
    ],
)
def test_that_somebody_was_only_invited_is_not_inferred_from_one_404(
    store: Store, outcome: str, words: str, because: str
) -> None:
    store.save(snapshot([account(user(1), active=False, gone=True, locked_by_us=True, **GONE_SINCE)]), Snapshot())
    lock(store, 1)
    newest = store.history(Wanted(), 1).entries[0].row
    store.record(newest.id, State.DONE, NOW, outcome, words)
    assert evidence(store)[0]["because"] == because


@pytest.mark.parametrize("left_at", [None, NOW])
def test_who_was_created_anew_is_not_gone(store: Store, left_at: datetime | None) -> None:
    former = account(user(1), active=False, gone=True, standing=model.Standing.UNMANAGED)
    store.save(snapshot([former, account(user(1), keeper_id="k9001", left_at=left_at)]), Snapshot())
    lock(store, 1)
    newest = store.history(Wanted(), 1).entries[0].row
    for outcome, words in (("gone", WITHDRAWN), ("vanished", ""), ("settled", NOT_HERE)):
        store.record(newest.id, State.DONE, NOW, outcome, words)
        states = [one["state"] for one in evidence(store) if one["keeper_id"] == "k0001"]
        assert states == ["came_back"], outcome


def test_old_leavers_whom_a_first_plan_finds_are_no_fast_locks(store: Store) -> None:
    locked = account(user(1), active=False, locked_by_us=True, **GONE_SINCE)
    store.save(snapshot([locked, account(user(2), review_lock=True, **GONE_SINCE)]), Snapshot())
    lock(store, 1, left=None)
    lock(store, 2, State.FAILED, left=None)
    found = leavers.document(store, Policy(), NOW - DAY, NOW)
    assert (found["done"], found["longest_minutes"]) == (1, None)
    assert [(entry["state"], entry["left_before"]) for entry in found["leavers"]] == [
        ("not_yet", True),
        ("locked", True),
    ]
    assert [entry["attempts"] for entry in found["leavers"]] == [1, 1]
    text = leavers.render(found, width=200, colour=False)
    assert text.count("had left before the first plan") == 2
    assert "first seen" not in text


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


@pytest.mark.parametrize(
    ("reviewed", "paused", "when", "command"),
    [
        (False, False, "with the first plan for this Keeper node", "reconciler plan"),
        (True, True, "once writes are resumed", "reconciler resume"),
        (False, True, "once writes are resumed", "reconciler resume"),
    ],
)
def test_no_lock_is_due_with_a_cycle_that_sends_nothing(
    store: Store, reviewed: bool, paused: bool, when: str, command: str
) -> None:
    """As after a restore, or a pause that no cycle has seen yet."""
    people = [account(user(number), **GONE_SINCE) for number in (1, 2, 3)]
    store.save(snapshot(people, reviewed=reviewed), Snapshot())
    lock(store, 2, State.PUT_OFF)
    newest = store.history(Wanted(kind=Kind.DEACTIVATE_USER), 1).entries[0].row
    store.record(newest.id, State.PUT_OFF, NOW, "put_off", "no")
    lock(store, 3, State.FAILED)
    if paused:
        store.add_request("pause", {}, by="root", at=NOW, reason="")
    found = {entry["email"][:2]: (entry["because"], entry["command"]) for entry in evidence(store)}
    assert found == {
        "u1": (f"due {when}", command),
        "u2": (f"put off, due again {when}: no", command),
        "u3": (f"failed once, tried again {when}: no", "reconciler resync u3@example.com"),
    }


def test_who_fails_is_not_yet_locked_and_says_why(store: Store) -> None:
    store.save(snapshot([account(user(1), **GONE_SINCE)]), Snapshot())
    lock(store, 1, State.FAILED, after=9)
    (entry,) = evidence(store)
    assert entry["because"] == "failed once, tried again with the next cycle: no"
    assert entry["command"] == "reconciler resync u1@example.com"
    assert Failure(1, NOW, "no") in store.snapshot().failures.values()


def test_an_attempt_is_of_when_it_was_sent_and_of_this_node(store: Store) -> None:
    lock(store, 1, State.UNKNOWN)
    row = store.history(Wanted(), 1).entries[0].row
    store.record(row.id, State.UNKNOWN, NOW, "settled", "a list does not show it")
    assert last_attempt(store, Kind.DEACTIVATE_USER, user(1).id) == Passed(
        LEFT + 2 * MINUTE, "a list does not show it", put_off=False
    )
    store.rebind(Binding("org", "app", "https://keeper.example/2"), NOW)
    assert last_attempt(store, Kind.DEACTIVATE_USER, user(1).id) is None


def test_how_far_it_is_known_that_somebody_is_active(store: Store) -> None:
    store.save(snapshot([account(user(1), **GONE_SINCE)]), Snapshot())

    def said() -> str:
        found = leavers.document(store, Policy(grace=timedelta(0)), NOW - DAY, NOW)
        return leavers.render(found, width=200, colour=False)

    assert "u1@example.com: NOT YET: still active\n" in said()
    store.set_meta("read_at", "")  # as in a state file that was restored
    assert "u1@example.com: NOT YET: active when last read\n" in said()
    store.set_meta("read_at", NOW.isoformat())
    store.set_meta(standing.KEY, standing.to_json(Standing(failing=Failing(1, NOW, "JumpCloud is down"))))
    assert "u1@example.com: NOT YET: active when last read\n" in said()
    lock(store, 1, State.UNKNOWN)
    assert "u1@example.com: NOT YET: not known to be locked (left)\n" in said()
    assert "the last lock had no clear answer from Keeper, which is asked again" in said()


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
    assert "the slowest 3 minutes after they were first seen out of scope;" in " ".join(text.split())
    assert text.index("NOT YET") < text.index("u1@example.com: locked")
    assert "\x1b" not in text
    assert all(len(line) <= 60 for line in text.splitlines())
