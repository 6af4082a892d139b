"""The state of one tenant: what is kept of the snapshot, the runs, the journal and the requests."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from reconciler import consent
from reconciler.history import Wanted
from reconciler.model import Account, Failure, Membership, Snapshot, Standing, Takeover, Team
from reconciler.plan import Cause, Change, Kind, Operation, Rule, Subject, TeamRef
from reconciler.store import Binding, Damaged, State, Store, Unusable, WrongBinding

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 11, 24, 10, 0, 0, 123456, UTC)
MINUTE = timedelta(minutes=1)
BINDING = Binding("org1", "app1", "https://keeper.example/scim/v2/1")
ADA = Account(
    "k-ada",
    Standing.MANAGED,
    active=True,
    jumpcloud_id="j-ada",
    shown={"userName": "Ada@example.com", "displayName": "Ada Łovelace"},
    asked={"userName": "ada@example.com"},
    settled={"userName": "Ada@example.com"},
    memberships={
        "t-eng": Membership(ours=True, seen=True, shown=False, asked_at=NOW),
        "t-ops": Membership(ours=False, seen=True, shown=True),
    },
    locked_by_us=True,
    left_at=NOW - MINUTE,
    protected_as="ada@*",
    pilot=frozenset({"group:IT", "user:ada@example.com"}),
    former_external_id="was",
)
BOB = Account("k-bob", Standing.UNMANAGED, active=False, gone=True, takeover=Takeover.AS_GHOST, review_lock=True)
ENG = Team(
    "t-eng",
    Standing.MANAGED,
    "g-eng",
    shown={"displayName": "Engineering"},
    asked={"displayName": "Engineering"},
    settled={"displayName": "engineering"},
    queued_at=NOW,
    seen=True,
    takeover=True,
    left_at=NOW,
)
OPS = Team("t-ops", Standing.DISOWNED, gone=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reconciler.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(path, write=True) as opened:
        yield opened


def accounts(*of: Account) -> dict[str, Account]:
    return {account.keeper_id: account for account in of}


def operation(kind: Kind = Kind.UPDATE_USER, key: str = "j-ada") -> Operation:
    subject = Subject("team" if "team" in kind else "user", f"name of {key}", key, f"k-{key}")
    return Operation(kind, subject, Cause.JUMPCLOUD, Rule.CHANGED, "because")


def journalled(store: Store, *operations: Operation, at: datetime = NOW) -> list[int]:
    return store.write_ahead(store.begin_run("cycle", at, by="root", reason=""), operations, {}, at)


# -- snapshot -------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_read_back_as_it_was_saved_also_after_reopening(path: Path) -> None:
    snapshot = Snapshot(accounts(ADA, BOB), {"t-eng": ENG, "t-ops": OPS}, reviewed=True, read_at=NOW)
    with Store.open(path, write=True) as store:
        store.save(snapshot, store.snapshot())
        assert store.snapshot() == snapshot
    with Store.open(path, write=False) as store:
        assert store.snapshot() == snapshot


def test_saving_adds_changes_and_removes_accounts_memberships_and_teams(store: Store) -> None:
    before = Snapshot(accounts(ADA, BOB), {"t-eng": ENG, "t-ops": OPS}, reviewed=True, read_at=NOW)
    store.save(before, Snapshot())
    eve = replace(ADA, keeper_id="k-eve", memberships={"t-new": Membership(True, False, False, NOW)})
    eng_left = {"t-ops": replace(ADA.memberships["t-ops"], shown=False), "t-new": Membership(True, False, False)}
    after = Snapshot(
        accounts(replace(ADA, memberships=eng_left), eve),
        {"t-eng": replace(ENG, shown={"displayName": "Platform"}), "t-new": Team("t-new", Standing.MANAGED)},
        reviewed=False,
        read_at=NOW + MINUTE,
    )
    store.save(after, before)
    assert store.snapshot() == after


def test_what_a_creation_under_way_may_have_been_linked_to_stays_as_it_was_until_that_is_settled(store: Store) -> None:
    before = Snapshot(accounts(ADA), {"t-eng": ENG})
    store.save(before, Snapshot())
    asked = [operation(Kind.CREATE_USER, "j-new"), operation(Kind.QUEUE_TEAM, "g-new")]
    numbers = journalled(store, *asked)
    for number, op in zip(numbers, asked, strict=True):
        store.mark_sent(number, NOW, op, None, "")
    ada = replace(ADA, shown={**ADA.shown, "externalId": "j-new"}, memberships={})
    eng = replace(ENG, shown={**ENG.shown, "externalId": "g-new"})
    linked = Snapshot(accounts(ada, BOB), {"t-eng": eng})
    store.save(linked, before)
    assert (store.snapshot().accounts, store.snapshot().teams) == (accounts(ADA, BOB), {"t-eng": ENG})
    store.save(linked, before, settled=numbers)
    assert (store.snapshot().accounts, store.snapshot().teams) == (linked.accounts, linked.teams)


def test_an_account_that_comes_back_has_none_of_its_former_memberships(store: Store) -> None:
    store.save(Snapshot(accounts(ADA)), Snapshot())
    store.save(Snapshot(), Snapshot(accounts(ADA)))
    store.save(Snapshot(accounts(replace(ADA, memberships={}))), Snapshot())
    assert store.snapshot().accounts["k-ada"].memberships == {}


def test_put_writes_single_rows_and_leaves_the_rest(store: Store) -> None:
    store.save(Snapshot(accounts(ADA, BOB), {"t-eng": ENG, "t-ops": OPS}), Snapshot())
    ada = replace(ADA, active=False, memberships={"t-eng": Membership(True, True, True)})
    store.put(accounts=[ada], teams=[replace(ENG, gone=True)], drop_accounts=["k-bob"], drop_teams=["t-ops"])
    found = store.snapshot()
    assert found.accounts == accounts(ada)
    assert found.teams == {"t-eng": replace(ENG, gone=True)}


def test_what_fails_halfway_is_not_kept_at_all(store: Store) -> None:
    store.save(Snapshot(accounts(ADA)), Snapshot())

    def interrupted() -> Iterator[Team]:
        yield ENG
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put(accounts=[BOB], teams=interrupted(), drop_accounts=["k-ada"])
    assert store.snapshot() == Snapshot(accounts(ADA))
    store.put(accounts=[BOB])  # and the next transaction is none the worse for it
    assert store.snapshot().accounts == accounts(ADA, BOB)


def test_a_process_killed_in_the_middle_of_a_transaction_leaves_the_former_state(path: Path) -> None:
    with Store.open(path, write=True) as store:
        store.save(Snapshot(accounts(ADA)), Snapshot())
    script = """
import os, signal, sys
from reconciler.model import Account, Standing
from reconciler.store import Store

def killed():
    size = os.path.getsize(sys.argv[1] + "-wal")
    print("in the WAL:", size > 100_000, flush=True)  # the transaction has spilled to the disk
    os.kill(os.getpid(), signal.SIGKILL)
    yield

store = Store.open(sys.argv[1], write=True)
many = [Account(f"k{n}", Standing.MANAGED, True, protected_as="x" * 200) for n in range(20_000)]
store.put(accounts=many, teams=killed(), drop_accounts=["k-ada"])
"""
    died = subprocess.run(
        [sys.executable, "-c", script, path],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (died.returncode, died.stdout.strip()) == (-signal.SIGKILL, "in the WAL: True"), died.stderr
    with Store.open(path, write=False) as store:
        assert store.snapshot() == Snapshot(accounts(ADA))
    with Store.open(path, write=True) as store:
        assert store.snapshot() == Snapshot(accounts(ADA))


def test_a_reader_can_not_write(path: Path, tmp_path: Path) -> None:
    Store.open(path, write=True).close()
    for readable in (path, tmp_path / "missing.db"):
        with Store.open(readable, write=False) as reader:
            assert not reader.writable
            with pytest.raises(Unusable, match="readonly"):
                reader.put(accounts=[ADA])


# -- binding --------------------------------------------------------------------------------------------------------


def test_a_file_is_bound_once_and_says_what_differs(store: Store) -> None:
    store.check(BINDING)  # unbound: anything passes
    assert store.binding() is None
    store.bind(BINDING)
    store.bind(BINDING)
    assert store.binding() == BINDING
    other = replace(BINDING, keeper="https://keeper.example/scim/v2/2")
    with pytest.raises(WrongBinding) as caught:
        store.check(other)
    text = str(caught.value)
    assert "Keeper node https://keeper.example/scim/v2/1" in text
    assert "https://keeper.example/scim/v2/2" in text
    assert "org1" not in text
    assert "resync --rebind" in text
    with pytest.raises(WrongBinding):
        store.bind(other)
    assert store.binding() == BINDING


def test_rebinding_forgets_the_node_and_keeps_the_history(store: Store) -> None:
    store.bind(BINDING)
    store.save(Snapshot(accounts(ADA), {"t-eng": ENG}, reviewed=True, read_at=NOW), Snapshot())
    store.open_kind(Kind.CREATE_USER, NOW)
    failed, queued, _, sent = journalled(
        store, operation(), operation(Kind.QUEUE_TEAM, "g1"), operation(key="j2"), operation(key="j3")
    )
    store.record(failed, State.FAILED, NOW, "failed", "no")
    store.record(queued, State.UNKNOWN, NOW, "timeout")
    store.mark_sent(sent, NOW, operation())
    release = store.add_request("release", {"effects": []}, "ada", NOW, "", NOW + MINUTE)
    pause = store.add_request("pause", {}, "ada", NOW, "")

    other = replace(BINDING, organization="org2")
    store.rebind(other, NOW + MINUTE)

    assert store.binding() == other
    assert store.snapshot() == Snapshot()
    assert store.open_kinds(NOW) == frozenset()
    assert store.unfinished() == []
    assert [row.state for row in store.journal(NOW)] == [State.FAILED, State.UNKNOWN, State.PUT_OFF, State.UNKNOWN]
    assert [request.id for request in store.open_requests(NOW)] == [pause]
    lapsed = store.request(release)
    assert lapsed is not None
    assert lapsed.state == "lapsed"
    # What fails from now on counts again.
    (failed,) = journalled(store, operation())
    store.record(failed, State.FAILED, NOW, "failed", "again")
    assert store.snapshot().failures == {"j-ada": Failure(1, NOW, "again")}


def test_passed_canaries_are_remembered(store: Store, path: Path) -> None:
    store.open_kind(Kind.UPDATE_USER, NOW)
    store.open_kind(Kind.CREATE_USER, NOW)
    store.open_kind(Kind.CREATE_USER, NOW)
    with Store.open(path, write=False) as reader:
        assert reader.open_kinds(NOW) == {Kind.CREATE_USER, Kind.UPDATE_USER}


def test_small_values_are_kept_by_key(store: Store) -> None:
    assert store.meta("mode") is None
    store.set_meta("mode", "observe")
    store.set_meta("mode", "enforce")
    assert store.meta("mode") == "enforce"


# -- journal --------------------------------------------------------------------------------------------------------


def test_an_operation_goes_through_the_journal_as_it_is(store: Store) -> None:
    whole = Operation(
        Kind.UPDATE_USER,
        Subject("user", "ada@example.com", "j-ada", "k-ada"),
        Cause.DRIFT,
        Rule.RESTORED,
        "Keeper lacks it",
        (Change("name.givenName", "", "Ada"), Change("displayName", "A", "Ž")),
        (TeamRef("Engineering", "g-eng"),),
        (TeamRef("Ops", "g-ops", "t-ops"),),
        sent=False,
    )
    run = store.begin_run("cycle", NOW, by="root", reason="asked")
    bare, full = store.write_ahead(run, [operation(Kind.QUEUE_TEAM, "g1"), whole], {1: "release:7"}, NOW)
    store.mark_sent(full, NOW + MINUTE, whole)
    store.record(full, State.FAILED, NOW + 2 * MINUTE, "refused", "Keeper says no")
    first, second = store.journal(NOW)
    assert (first.id, first.run_id, first.state, first.decision) == (bare, run, State.PLANNED, "")
    assert (first.operation, first.at, first.sent_at) == (operation(Kind.QUEUE_TEAM, "g1"), NOW, None)
    assert (second.id, second.operation, second.decision) == (full, whole, "release:7")
    assert (second.planned_at, second.sent_at, second.finished_at) == (NOW, NOW + MINUTE, NOW + 2 * MINUTE)
    assert (second.state, second.outcome, second.error) == (State.FAILED, "refused", "Keeper says no")


def test_an_outcome_and_its_effect_are_recorded_together_or_not_at_all(store: Store) -> None:
    done, broken = journalled(store, operation(), operation(key="j2"))
    store.record(done, State.DONE, NOW, "done", accounts=[ADA], teams=[ENG])
    assert store.snapshot().accounts == accounts(ADA)

    def interrupted() -> Iterator[Team]:
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        store.record(broken, State.DONE, NOW, "done", accounts=[BOB], teams=interrupted())
    assert store.snapshot().accounts == accounts(ADA)
    assert [row.id for row in store.unfinished(1)] == [broken]


def test_the_window_holds_what_changed_within_it_oldest_first(store: Store) -> None:
    early, late, fresh = journalled(store, *(operation(key=key) for key in ("a", "b", "c")), at=NOW - 10 * MINUTE)
    store.record(early, State.DONE, NOW - 5 * MINUTE, "done")
    store.record(late, State.DONE, NOW, "done")
    store.mark_sent(fresh, NOW - MINUTE, operation())
    assert [row.id for row in store.journal(NOW - MINUTE)] == [fresh, late]
    assert [row.id for row in store.journal(NOW - 6 * MINUTE)] == [early, fresh, late]


def test_what_a_decision_let_through_is_known_with_a_clock_that_was_set_back(store: Store) -> None:
    number = store.add_request("allow", {"deactivations": 1}, by="ada", at=NOW, reason="lay-off")
    request = store.request(number)
    assert request is not None
    back = NOW - timedelta(days=30)
    (before,) = journalled(store, operation(key="a"), at=back)
    run = store.begin_run("cycle", back, by="", reason="")
    (used,) = store.write_ahead(run, [operation(key="b")], {0: f"allow:{number}"}, back)
    (after,) = journalled(store, operation(key="c"), at=NOW + MINUTE)
    assert [row.id for row in store.journal_after(request)] == [used, after]
    assert before


def test_of_what_was_done_whoever_joined_is_not_told(store: Store) -> None:
    """That may be everybody."""
    new = replace(operation(Kind.CREATE_USER), rule=Rule.JOINED)
    for number in journalled(store, new, replace(new, rule=Rule.RETURNED)):
        store.record(number, State.DONE, NOW, "done")
    [row] = store.done_since(NOW - MINUTE, [Kind.CREATE_USER])
    assert row.operation.rule is Rule.RETURNED


def test_times_of_other_zones_are_kept_as_the_same_moments(store: Store) -> None:
    there = timezone(timedelta(hours=5))
    (number,) = journalled(store, operation(), at=NOW.astimezone(there))
    store.record(number, State.DONE, (NOW + MINUTE).astimezone(there), "done")
    (row,) = store.journal(NOW + MINUTE)
    assert (row.planned_at, row.at) == (NOW, NOW + MINUTE)


def test_the_history_of_one_subject_is_newest_first(store: Store) -> None:
    first, _, third, fourth = journalled(store, *(operation(key=key) for key in ("a", "b", "a", "a")))
    assert [row.id for row in store.journal_of("a", 2)] == [fourth, third]
    assert [row.id for row in store.journal_of("a", 9)] == [fourth, third, first]


def test_unfinished_is_what_has_no_known_outcome(store: Store) -> None:
    states = (State.DONE, State.FAILED, State.PUT_OFF, State.UNKNOWN)
    planned, sent, *others = journalled(store, *(operation(key=str(n)) for n in range(6)))
    store.mark_sent(sent, NOW, operation())
    for number, state in zip(others, states, strict=True):
        store.record(number, state, NOW, "")
    assert [row.id for row in store.unfinished(1)] == [planned, sent, others[3]]


def test_of_what_has_no_known_outcome_it_is_known_whether_it_was_asked_for_again(store: Store) -> None:
    named = replace(operation(key="ada"), changes=(Change("displayName", "", "Ada"),))
    first, other, again = journalled(store, named, operation(key="bob"), named)
    store.record(first, State.UNKNOWN, NOW, "unanswered")
    store.record(other, State.UNKNOWN, NOW, "unanswered")
    assert not any(row.repeated for row in store.unfinished())
    store.mark_sent(again, NOW, named)
    assert [row.id for row in store.unfinished(1) if row.repeated] == [first]
    store.record(again, State.DONE, NOW, "done")
    assert [row.id for row in store.unfinished(1) if row.repeated] == [first]


def test_a_later_addition_to_a_team_does_not_ask_for_the_same_again(store: Store) -> None:
    first, later = journalled(store, operation(key="ada"), operation(key="ada"))
    store.record(first, State.UNKNOWN, NOW, "unanswered")
    store.record(later, State.DONE, NOW, "done")
    assert not any(row.repeated for row in store.unfinished())


def test_what_is_found_to_have_failed_has_failed_when_it_was_sent(store: Store) -> None:
    """Else whoever waited for two looks at Keeper would wait for the pause after a failure too."""
    (lost,) = journalled(store, operation(key="ada"))
    store.mark_sent(lost, NOW, operation(key="ada"))
    store.record(lost, State.FAILED, NOW + timedelta(minutes=10), "settled", "it did not arrive")
    assert store.snapshot().failures["ada"].last_at == NOW


def test_failures_count_since_the_last_success_of_the_subject(store: Store) -> None:
    outcomes = [
        ("ada", State.FAILED, "old"),
        ("ada", State.DONE, ""),
        ("ada", State.FAILED, "first"),
        ("bob", State.FAILED, "bob's"),
        ("ada", State.PUT_OFF, "not tried"),
        ("ada", State.FAILED, "second"),
        ("eve", State.FAILED, "eve's"),
        ("eve", State.DONE, ""),
    ]
    for minutes, (key, state, error) in enumerate(outcomes):
        (number,) = journalled(store, operation(key=key))
        store.record(number, state, NOW + minutes * MINUTE, "", error)
    assert store.snapshot().failures == {
        "ada": Failure(2, NOW + 5 * MINUTE, "second"),
        "bob": Failure(1, NOW + 3 * MINUTE, "bob's"),
    }


def test_a_team_is_unsettled_while_its_newest_queueing_has_no_known_outcome(store: Store) -> None:
    def queue(key: str, *states: State) -> None:
        for state in states:
            (number,) = journalled(store, operation(Kind.QUEUE_TEAM, key))
            if state is not State.PLANNED:
                store.mark_sent(number, NOW + MINUTE, operation())
            if state not in (State.PLANNED, State.SENT):
                store.record(number, state, NOW + 2 * MINUTE, "")

    queue("planned", State.PLANNED)
    queue("sent", State.SENT)
    queue("unknown", State.DONE, State.UNKNOWN)
    queue("not tried again", State.UNKNOWN, State.PUT_OFF)
    queue("done", State.UNKNOWN, State.DONE)
    (other,) = journalled(store, operation(Kind.RENAME_TEAM, "renamed"))
    store.record(other, State.UNKNOWN, NOW, "")
    assert store.snapshot().unsettled_teams == {
        "sent": NOW + MINUTE,
        "unknown": NOW + MINUTE,
        "not tried again": NOW + MINUTE,
    }


# -- runs -----------------------------------------------------------------------------------------------------------


def test_runs_are_recorded_from_begin_to_end(store: Store) -> None:
    assert store.last_good_read() is None
    first = store.begin_run("resync", NOW, by="ada", reason="asked")
    store.finish_run(first, NOW + MINUTE, "held", plan_id="p1", held=3, counts={"done": 2}, document='{"id": "p1"}')
    second = store.begin_run("cycle", NOW + MINUTE, by="", reason="")
    running, finished = store.runs(10)
    assert (running.id, running.finished_at, running.result, running.held) == (second, None, "", 0)
    assert (finished.id, finished.kind, finished.started_at, finished.finished_at) == (
        first,
        "resync",
        NOW,
        NOW + MINUTE,
    )
    assert (finished.by, finished.reason, finished.result, finished.plan_id) == ("ada", "asked", "held", "p1")
    assert (finished.held, finished.counts) == (3, {"done": 2})
    assert store.document(first) == '{"id": "p1"}'
    assert store.document(second) is None
    assert [run.id for run in store.runs(1)] == [second]
    assert store.last_good_read() == NOW
    store.finish_run(second, NOW + MINUTE, "failed", error="no connection")
    assert store.last_good_read() == NOW
    assert store.runs(1)[0].error == "no connection"


def test_the_held_plan_is_the_newest_that_was_held_and_is_kept_once(store: Store) -> None:
    runs = []
    for plan_id, held in (("p1", 2), ("p2", 1), ("p1", 2)):
        run = store.begin_run("cycle", NOW, by="", reason="")
        store.finish_run(run, NOW, "held", plan_id=plan_id, held=held, document=f"{plan_id} of {run}")
        runs.append(run)
    for kind, result in (("person", "done"), ("cycle", "failed")):
        store.finish_run(store.begin_run(kind, NOW, by="", reason=""), NOW, result)
    newest, of_p2 = store.held_run(), store.held_run("p2")
    assert newest is not None
    assert of_p2 is not None
    assert (newest.id, of_p2.id) == (runs[2], runs[1])
    assert store.held_run("p3") is None
    newest_of_each = [f"p1 of {runs[2]}", f"p2 of {runs[1]}", f"p1 of {runs[2]}"]
    assert [store.document(run) for run in runs] == newest_of_each
    released = store.begin_run("cycle", NOW, by="", reason="")
    store.finish_run(released, NOW, "failed", plan_id="p1", document="nothing held in it")
    assert store.document(runs[2]) == f"p1 of {runs[2]}"
    store.finish_run(store.begin_run("cycle", NOW, by="", reason=""), NOW, "nothing")
    assert store.held_run() is None
    assert store.held_run("p1") is None


def test_a_run_that_could_not_read_everything_ends_no_hold(store: Store) -> None:
    def ran(result: str, held: int = 0, error: str = "", at: datetime = NOW) -> int:
        run = store.begin_run("cycle", at, by="", reason="")
        plan_id = "p1" if held else "p0"
        store.finish_run(run, at, result, plan_id=plan_id, held=held, document="{}", error=error)
        return run

    held = ran("held", 4)
    ran("partial", error="the users could not be read", at=NOW + MINUTE)
    for found in (store.held_run(), store.held_run("p1")):
        assert found is not None and found.id == held
    again = ran("partial", 1, error="the users could not be read", at=NOW + 2 * MINUTE)
    now = store.held_now()
    assert now is not None and (now[0].id, now[1]) == (again, NOW)
    ran("partial")
    assert store.held_run() is None


def test_what_the_leaver_lane_holds_can_be_released_until_a_whole_cycle_says_more(store: Store) -> None:
    """While whole cycles fail, nothing else tells of it."""

    def ran(kind: str, result: str, plan_id: str = "", held: int = 0) -> int:
        run = store.begin_run(kind, NOW, by="", reason="")
        document = f'{{"id": "{plan_id}"}}' if held else None
        store.finish_run(run, NOW, result, plan_id=plan_id, held=held, document=document)
        return run

    ran("cycle", "nothing")
    lane = ran("leavers", "held", "p1", 4)
    ran("person", "held", "p2", 1)
    ran("cycle", "failed")
    found, by_name, now = store.held_run(), store.held_run("p1"), store.held_now()
    assert found is not None and by_name is not None and now is not None
    assert {found.id, by_name.id, now[0].id} == {lane}
    assert store.document(lane) == '{"id": "p1"}'
    assert store.held_run("p2") is None
    assert store.last_good_read() == NOW
    ran("leavers", "held", "p0", 5)
    found = store.held_run("p1")
    assert found is not None and found.id == lane, "the alert that names it was told"
    ran("leavers", "done")
    assert store.held_run() is None
    whole = ran("cycle", "held", "p1", 4)
    for plan_id in ("p1", "p0"):  # the first takes the document over, the second holds something else
        ran("leavers", "held", plan_id, 4)
        found = store.held_run()
        assert found is not None and found.id == whole and store.document(whole) == '{"id": "p1"}'
    whole, lane = (store.begin_run(kind, NOW, by="", reason="") for kind in ("cycle", "leavers"))
    for run in (lane, whole):  # the lane began later, and ended earlier
        store.finish_run(run, NOW, "held", plan_id="p2", held=1, document="p2")
    found = store.held_run()
    assert found is not None and found.id == whole and store.document(whole) == "p2"
    ran("cycle", "nothing")
    assert store.held_run() is None


def test_forgetting_deletes_old_history_but_nothing_open(store: Store) -> None:
    old, recent = NOW - timedelta(days=400), NOW
    done, unknown = journalled(store, operation(), operation(Kind.QUEUE_TEAM, "g1"), at=old)
    store.record(done, State.DONE, old, "done")
    store.record(unknown, State.UNKNOWN, old, "")
    empty = store.begin_run("cycle", old, by="", reason="")
    (kept,) = journalled(store, operation(), at=recent)
    closed = store.add_request("allow", {}, "ada", old, "")
    store.close_request(closed, "done", old)
    ran_out = store.add_request("release", {}, "ada", old, "", old + MINUTE)
    still_open = store.add_request("pause", {}, "ada", old, "")

    store.forget(NOW - timedelta(days=100))

    assert [row.id for row in store.journal(old)] == [unknown, kept]
    assert empty not in [run.id for run in store.runs(10)]
    assert [store.request(number) is not None for number in (closed, ran_out, still_open)] == [False, False, True]


def test_an_operation_never_gets_the_number_of_a_forgotten_one(store: Store) -> None:
    numbers = journalled(store, operation(), operation())
    for number in numbers:
        store.record(number, State.DONE, NOW, "done")
    store.forget(NOW + MINUTE)
    assert min(journalled(store, operation())) > max(numbers)


def test_a_request_never_gets_the_number_of_a_forgotten_one(store: Store) -> None:
    """The locks of a lay-off, which stay on record, would use up the one that is announced next."""
    before = store.add_request("allow", {"deactivations": 1}, "ada", NOW, "", NOW + MINUTE)
    run = store.begin_run("cycle", NOW, by="root", reason="")
    (lock,) = store.write_ahead(run, [operation(Kind.DEACTIVATE_USER)], {0: f"allow:{before}"}, NOW)
    store.record(lock, State.DONE, NOW, "done")
    later = NOW + timedelta(days=800)
    store.forget(later - timedelta(days=400))
    after = store.add_request("allow", {"deactivations": 1}, "ada", later, "", later + MINUTE)
    request = store.request(after)
    assert request is not None and consent.allowance(store, request).deactivations == 1


# -- requests -------------------------------------------------------------------------------------------------------


def test_a_request_is_open_until_it_is_closed_or_has_run_out(store: Store) -> None:
    arguments = {"effects": [["add", "j-ada", "g-eng"]], "plan": "p1"}
    release = store.add_request("release", arguments, by="ada", at=NOW, reason="agreed", until=NOW + 2 * MINUTE)
    pause = store.add_request("pause", {}, by="bob", at=NOW, reason="maintenance")
    assert [request.id for request in store.open_requests(NOW)] == [release, pause]
    (found,) = store.open_requests(NOW + MINUTE, "release")
    assert (found.id, found.kind, found.arguments, found.by) == (release, "release", arguments, "ada")
    assert (found.at, found.reason, found.until, found.state) == (NOW, "agreed", NOW + 2 * MINUTE, "open")
    assert store.open_requests(NOW + 2 * MINUTE, "release") == []

    store.close_request(pause, "done", NOW + MINUTE, "resumed")
    assert store.open_requests(NOW + MINUTE, "pause") == []
    closed = store.request(pause)
    assert closed is not None
    assert (closed.state, closed.closed_at, closed.result) == ("done", NOW + MINUTE, "resumed")
    assert store.request("99") is None


def test_a_request_can_be_filed_beside_the_writer(store: Store, path: Path) -> None:
    with Store.beside(path) as beside:
        number = beside.add_request("release", {"effects": []}, "ada", NOW, "agreed", NOW + MINUTE)
    assert [request.id for request in store.open_requests(NOW)] == [number]
    store.put(accounts=[ADA])
    assert store.snapshot().accounts == accounts(ADA)


def test_a_request_needs_a_state_file(path: Path) -> None:
    with pytest.raises(Unusable, match="does not exist"):
        Store.beside(path)
    assert not path.exists()


# -- beside each other ----------------------------------------------------------------------------------------------


def test_readers_see_what_is_committed_while_the_writer_works(store: Store, path: Path) -> None:
    store.put(accounts=[ADA])
    with Store.open(path, write=False) as reader:
        seen: list[Snapshot] = []

        def teams() -> Iterator[Team]:
            seen.append(reader.snapshot())
            yield ENG

        store.put(accounts=[BOB], teams=teams())
        seen.append(reader.snapshot())
    assert [set(snapshot.accounts) for snapshot in seen] == [{"k-ada"}, {"k-ada", "k-bob"}]


def test_a_parameter_that_can_not_be_encoded_is_no_damage(store: Store) -> None:
    with pytest.raises(UnicodeEncodeError):
        store.history(Wanted("zo\udceb@example.com"), 10)
    with pytest.raises(UnicodeEncodeError):
        store.told("\udceb")
    assert store.runs(1) == []


@pytest.mark.parametrize(
    "sabotage",
    ["UPDATE users SET shown = 'no json'", "UPDATE users SET standing = 'elsewhere'", "DROP TABLE users"],
)
def test_rows_that_make_no_sense_are_damage(path: Path, sabotage: str) -> None:
    with Store.open(path, write=True) as store:
        store.put(accounts=[ADA])
    with sqlite3.connect(path) as connection:
        connection.execute(sabotage)
    connection.close()
    with Store.open(path, write=False) as reader, pytest.raises(Damaged, match="copy"):
        reader.snapshot()
