"""The stored times: whatever lies in the future is corrected, wherever it is."""

import json
import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler import migrations, standing
from reconciler.alerts import Failing, Refusal
from reconciler.approval import Attempts
from reconciler.model import Inventory, Membership
from reconciler.plan import Cause, Kind, Operation, Rule, Subject
from reconciler.standing import Standing
from reconciler.store import State, Store
from reconciler.store.times import COLUMNS, IN_FUTURE, corrected_text
from tests import world as w
from tests.inside import Inside, fill
from tests.stage import World
from tests.world import NOW

LATER, SOON = NOW + timedelta(days=365), NOW + timedelta(seconds=1)
BEFORE = NOW - timedelta(hours=1)
LOCK = Operation(Kind.DEACTIVATE_USER, Subject("user", "ada", "j", "k"), Cause.JUMPCLOUD, Rule.LEFT, "left the scope")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d.*")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "reconciler.db", write=True) as opened:
        yield opened


def everything(store: Store, at: datetime) -> None:
    """Something of each kind that has a time, recorded at this time."""
    ada = w.account(w.user(1), left_at=at, missed_at=at, memberships={"t": Membership(True, False, False, asked_at=at)})
    store.put([ada], [w.team(w.group(1), queued_at=at, left_at=at, missed_at=at)])
    store.save(w.snapshot([], read_at=at), w.snapshot([], read_at=None))
    run = store.begin_run("cycle", at, by="root", reason="")
    [number] = store.write_ahead(run, [LOCK], {}, at, {"k": at})
    store.mark_sent(number, at, LOCK)
    store.record(number, State.DONE, at, "done")
    store.finish_run(run, at, "done")
    request = store.add_request("pause", {}, by="root", at=at, reason="")
    store.close_request(request, "ended", at)
    store.tell("webhook", at, [("held", "first_run")])
    store.keep_house(at, timedelta(days=400))
    store.keep_inventory(Inventory(at))
    kept = Standing(at, Failing(2, at, "no"), frozenset(), Attempts(1, at), untold={"webhook": (at, "no")})
    kept = Standing(**{**vars_of(kept), "refused": {"webhook": {("held", "x"): Refusal(at, at)}}})
    store.set_meta(standing.KEY, standing.to_json(kept))


def vars_of(one: Standing) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Standing.__dataclass_fields__}


def times(path: Path) -> dict[tuple[str, str], list[str]]:
    """Whatever looks like a time in the file, by table and column, or key of `meta`. Not read by the store."""
    found: dict[tuple[str, str], list[str]] = {}
    connection = sqlite3.connect(path)
    for table, columns in migrations.TABLES.items():
        for row in connection.execute(
            f"SELECT {', '.join(f'''{c!r}''' for c in columns.split())} FROM {table}".replace("'", '"')
        ):
            for column, value in zip(columns.split(), row, strict=True):
                place = (table, row[0] if table == "meta" and column == "value" else column)
                for text in re.findall(r'\d{4}-\d\d-\d\dT\d\d:\d\d[^"]*', value) if isinstance(value, str) else ():
                    found.setdefault(place, []).append(text)
    connection.close()
    return found


def test_all_that_lies_in_the_future_is_set_to_now(store: Store) -> None:
    everything(store, LATER)
    before = times(store.path)
    assert {place for place, _ in before.items() if place[0] != "meta"} == {
        (table, column) for table, columns in COLUMNS.items() for column in columns
    }
    counts = store.correct_times(NOW, NOW)
    after = times(store.path)
    assert {datetime.fromisoformat(text) for texts in after.values() for text in texts} == {NOW}
    assert sum(counts.values()) == sum(map(len, before.values()))
    assert store.snapshot().accounts["k0001"].left_at == NOW
    assert store.correct_times(NOW, NOW) == {}


@pytest.mark.parametrize("at", [BEFORE, NOW, SOON])
def test_what_is_past_stays_and_so_does_what_is_within_the_tolerance(store: Store, at: datetime) -> None:
    everything(store, at)
    before = times(store.path)
    assert store.correct_times(NOW, NOW) == {}
    assert times(store.path) == before


def test_no_time_of_a_real_state_file_is_forgotten(world: World) -> None:
    """A column or value with a time that nobody put in the list is seen here, in what real runs have written."""
    _groups, people = fill(world, 4)
    inside = Inside(world)
    inside.run()
    world.jumpcloud.suspend(people[0])
    world.run("allow", "--deactivations", "2", "--reason", "lay-off")
    world.run("apply")
    known = {(table, column) for table, columns in COLUMNS.items() for column in columns} | IN_FUTURE
    prose = {("runs", "document"), ("requests", "arguments"), ("requests", "result"), ("operations", "error")}
    found = {place for place in times(world.state_file) if place[0] != "meta"}
    assert found - prose <= known
    assert ("requests", "until") in found


@pytest.mark.parametrize(("stamped", "until"), [(True, NOW + timedelta(hours=4)), (False, None)])
def test_a_decision_that_lasts_ends_no_later_than_if_it_were_made_now(
    store: Store, stamped: bool, until: datetime | None
) -> None:
    store.add_request("allow", {"deactivations": 1}, "root", LATER, "", lasts=timedelta(hours=4))
    if stamped:
        store.begin_durations(LATER, None)
    assert store.correct_times(NOW, NOW)["requests"] == 1 + stamped
    [found] = store.open_requests(NOW)
    assert (found.at, found.until) == (NOW, until)


def test_an_inventory_gets_no_younger_by_a_clock_that_was_ahead(store: Store) -> None:
    """It may be days old, and passes for proof of who has joined for one."""
    store.keep_inventory(Inventory(LATER))
    store.correct_times(NOW, NOW)
    assert store.snapshot().inventory is None
    store.keep_inventory(Inventory(BEFORE))
    store.correct_times(NOW, NOW)
    assert store.snapshot().inventory == Inventory(BEFORE)


def test_an_end_that_lies_ahead_rightly_stays(store: Store) -> None:
    store.add_request("allow", {"deactivations": 1}, "root", BEFORE, "", lasts=timedelta(hours=4))
    store.begin_durations(BEFORE, None)
    store.set_meta("next_cycle", LATER.isoformat())
    assert store.correct_times(NOW, NOW) == {}
    assert store.open_requests(NOW)[0].until == BEFORE + timedelta(hours=4)


def test_a_text_that_holds_a_time_is_no_time() -> None:
    words = json.dumps({"error": f"failed at {LATER.isoformat()} again", "at": LATER.isoformat()})
    text, number = corrected_text(words, NOW, NOW)
    assert number == 1
    assert json.loads(text) == {"error": f"failed at {LATER.isoformat()} again", "at": NOW.isoformat()}
    assert corrected_text('"2027-02-31T00:00:00Z"', NOW, NOW) == ('"2027-02-31T00:00:00Z"', 0)


def test_a_run_is_dated_once_the_time_is_known(store: Store) -> None:
    run = store.begin_run("cycle", LATER, by="root", reason="")
    store.date_run(run, NOW.astimezone(UTC))
    assert store.runs(1)[0].started_at == NOW
