"""The search in the journal."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.history import Wanted
from reconciler.model import Account, Snapshot, Standing
from reconciler.plan import Cause, Kind, Operation, Rule, Subject, TeamRef
from reconciler.store import State, Store

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "reconciler.db", write=True) as opened:
        yield opened


def operation(name: str, key: str, kind: Kind = Kind.UPDATE_USER, *teams: str) -> Operation:
    subject = Subject("team" if "team" in kind else "user", name, f"j-{key}", f"k-{key}")
    add = tuple(TeamRef(team, f"j-{team}") for team in teams)
    return Operation(kind, subject, Cause.JUMPCLOUD, Rule.CHANGED, "because", add=add)


def done(store: Store, *operations: Operation, by: str = "", decision: str = "", at: datetime = NOW) -> None:
    run = store.begin_run("cycle", at, by=by, reason=f"asked by {by}")
    for number in store.write_ahead(run, operations, dict.fromkeys(range(len(operations)), decision), at):
        store.record(number, State.DONE, at, "done")


def found(store: Store, wanted: Wanted) -> list[str]:
    return [entry.row.operation.subject.name for entry in store.history(wanted, 100).entries]


def test_a_person_is_found_under_every_address_that_they_had(store: Store) -> None:
    done(store, operation("old@example.com", "1"), operation("ada@example.com", "2"))
    done(store, operation("New@example.com", "1"), at=NOW + HOUR)
    account = Account("k-1", Standing.MANAGED, True, "j-1", shown={"userName": "Third@example.com"})
    store.save(Snapshot({"k-1": account}), Snapshot())
    for address in ("OLD@example.com", "new@example.com", "third@example.com"):
        assert found(store, Wanted(person=address)) == ["New@example.com", "old@example.com"]


def test_a_ghost_is_found_after_it_was_linked(store: Store) -> None:
    ghost = Subject("user", "g@example.com", "", "k-1")
    done(store, Operation(Kind.DEACTIVATE_USER, ghost, Cause.JUMPCLOUD, Rule.DELETED, "because"))
    done(store, operation("g@example.com", "1"), at=NOW + HOUR)
    assert len(found(store, Wanted(person="g@example.com"))) == 2


def test_a_team_is_found_with_those_who_joined_it_also_under_a_former_name(store: Store) -> None:
    done(store, operation("Sales", "Sales", Kind.QUEUE_TEAM), operation("Support", "Support", Kind.QUEUE_TEAM))
    done(store, operation("ada@example.com", "1", Kind.CREATE_USER, "Sales", "Support"), at=NOW + HOUR)
    done(store, operation("bob@example.com", "2", Kind.CREATE_USER, "Support"), at=NOW + HOUR)
    done(store, operation("Sellers", "Sales", Kind.RENAME_TEAM), at=NOW + 2 * HOUR)
    expected = ["Sellers", "ada@example.com", "Sales"]
    assert found(store, Wanted(team="sales")) == expected
    assert found(store, Wanted(team="Sellers")) == expected


def test_who_decided_is_who_released_or_else_who_asked_for_the_one_person(store: Store) -> None:
    release = store.add_request("release", {"effects": []}, by="ada", at=NOW, reason="they left")
    allow = store.add_request("allow", {"deactivations": 1}, by="eve", at=NOW, reason="lay-off")
    done(store, operation("released", "1"), by="bob", decision=f"release:{release}")
    done(store, operation("allowed", "2"), decision=f"allow:{allow}")
    done(store, operation("asked", "3"), by="bob", decision="person:asked")
    done(store, operation("by itself", "4"), by="bob")
    entries = {e.row.operation.subject.name: e for e in store.history(Wanted(), 100).entries}
    decided = {name: entry.decided_by for name, entry in entries.items()}
    assert decided == {"released": "ada", "allowed": "eve", "asked": "bob", "by itself": ""}
    request = entries["released"].request
    assert request is not None
    assert request.reason == "they left"
    assert found(store, Wanted(by="ada")) == ["released"]
    assert found(store, Wanted(by="eve")) == ["allowed"]
    assert set(found(store, Wanted(by="bob"))) == {"released", "asked", "by itself"}


def test_kind_result_and_time(store: Store) -> None:
    done(store, operation("ada", "1", Kind.CREATE_USER), operation("bob", "2"))
    run = store.begin_run("cycle", NOW, by="", reason="")
    (number,) = store.write_ahead(run, [operation("eve", "3")], {}, NOW + HOUR)
    store.record(number, State.FAILED, NOW + HOUR, "refused")
    assert found(store, Wanted(kind=Kind.CREATE_USER)) == ["ada"]
    assert found(store, Wanted(result=State.FAILED)) == ["eve"]
    assert found(store, Wanted(since=NOW + HOUR)) == ["eve"]
    assert found(store, Wanted(kind=Kind.UPDATE_USER, since=NOW)) == ["eve", "bob"]


def test_the_newest_first_and_how_many_there_are(store: Store) -> None:
    for hours in range(5):
        done(store, operation(str(hours), str(hours)), at=NOW + hours * HOUR)
    result = store.history(Wanted(), 2)
    assert [entry.row.operation.subject.name for entry in result.entries] == ["4", "3"]
    assert result.total == 5
