"""A copy of the state file keeps some of the file in whose place it is put: that may be damaged or of another version.

The former file has a lock without an answer, a lock that was carried out, and a pause, of after the copy was made.
"""

import contextlib
import sqlite3
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler import migrations, statefile
from reconciler.history import Entry, Wanted
from reconciler.model import Snapshot
from reconciler.plan import Kind, Operation
from reconciler.promise import NOT_HERE
from reconciler.rows import GONE, SETTLED
from reconciler.settle import NEVER
from reconciler.store import Binding, NoRoom, State, Store
from tests.operations import op
from tests.world import NOW, account, snapshot, user

ADA, BOB, CY = (account(user(number)) for number in (1, 2, 3))
LOCK = op(Kind.DEACTIVATE_USER, user(1))
HERE = Binding("org", "app", "https://keeper.example/1")


@dataclass(frozen=True)
class Files:
    """The state file and the copy."""

    path: Path
    copy: Path


def sql(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


def sent(store: Store, operation: Operation) -> int:
    [number] = store.write_ahead(store.begin_run("cycle", NOW, "schedule", ""), [operation], {}, NOW, {"k0001": NOW})
    store.mark_sent(number, NOW, operation)
    return number


@pytest.fixture
def files(tmp_path: Path) -> Files:
    path, copy = tmp_path / "reconciler.db", tmp_path / "copy"
    held = snapshot([ADA, BOB])
    with Store.open(path, write=True) as store:
        store.bind(HERE)
        store.save(held, Snapshot())
        store.finish_run(store.begin_run("cycle", NOW, "root", "of then"), NOW, "done")
    copy.write_bytes(path.read_bytes())
    with Store.open(path, write=True) as store:
        sent(store, LOCK)
        store.put([replace(BOB, active=False, locked_by_us=True), replace(CY, active=False, locked_by_us=True)])
        store.close_kind(Kind.UPDATE_USER)
        store.add_request("pause", {}, by="root", at=NOW, reason="the new version")
    return Files(path, copy)


def kept(files: Files) -> set[str]:
    """Return all that the copy has kept, once it is in the place of the file."""
    Store.restore(files.path, files.copy)
    found = set()
    with Store.open(files.path, write=True) as store:
        held, pause = store.snapshot(), store.pause()
        found |= {"lock"} if held.own_locks == {ADA.keeper_id} and store.unfinished() else set()
        found |= {"locked"} if held.accounts[BOB.keeper_id].locked_by_us else set()
        found |= {"elsewhere"} if CY.keeper_id in held.accounts else set()
        found |= {"kind"} if Kind.UPDATE_USER in store.suspected_kinds() else set()
        found |= {"pause"} if pause is not None and pause.reason == "the new version" else set()
    return found


ALL = {"lock", "locked", "elsewhere", "kind", "pause"}


def entry(path: Path) -> Entry:
    with Store.open(path, write=False) as store:
        [found] = store.history(Wanted(kind=Kind.DEACTIVATE_USER), 9).entries
    return found


def test_a_lock_without_an_answer_is_kept_as_of_no_run_of_the_copy(files: Files) -> None:
    """It was told as one that the newest run of the copy, which somebody had ordered, had sent."""
    assert kept(files) == ALL
    found = entry(files.path)
    assert (found.row.operation, found.row.left_at, found.run) == (LOCK, NOW, None)
    assert kept(files) == ALL and entry(files.path), "once more, and once only"


def test_a_newer_file_tells_what_it_can(files: Files) -> None:
    """To go back from a newer version is what the copy is kept for that is made before a migration."""
    sql(files.path, "ALTER TABLE operations ADD COLUMN more TEXT NOT NULL DEFAULT 'x'")
    sql(files.path, """UPDATE meta SET value = '["update_user", "of_then"]' WHERE key = 'suspected_kinds'""")
    sql(files.path, "PRAGMA user_version = 99")
    assert kept(files) == ALL


def test_an_older_file_tells_what_it_can(files: Files) -> None:
    later = ("operations.left_at", "operations.pilot_entries", "requests.lasts", "users.others_lock")
    for table, column in (each.split(".") for each in later):
        sql(files.path, f"ALTER TABLE {table} DROP COLUMN {column}")
    sql(files.path, "PRAGMA user_version = 1")
    assert kept(files) == ALL


@pytest.mark.parametrize("version", range(1, len(migrations.STEPS)))
def test_a_copy_of_any_version_keeps_it(files: Files, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    old = files.copy.with_name("old")
    with monkeypatch.context() as of_then:
        of_then.setattr(migrations, "STEPS", migrations.STEPS[:version])
        statefile._make(old)
    with contextlib.closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("ATTACH ? AS copy", (str(files.copy),))
        connection.execute("INSERT INTO meta SELECT * FROM copy.meta")
    assert kept(Files(files.path, old)) == ALL


@pytest.mark.parametrize("table", ["operations", "users", "requests"])
def test_a_table_that_cannot_be_read_takes_nothing_else_with_it(files: Files, table: str) -> None:
    with contextlib.closing(sqlite3.connect(files.path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with files.path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\x55" * size)
    lost = {"operations": {"lock"}, "users": {"locked", "elsewhere", "lock"}, "requests": {"pause"}}[table]
    assert kept(files) >= ALL - lost


@pytest.mark.parametrize(
    ("table", "change", "lost"),
    [
        ("operations", "changes = 'x'", "lock"),
        ("operations", "planned_at = 'never'", "lock"),
        ("operations", "rule = 'of a newer version'", "lock"),
        ("users", f"shown = '[' WHERE keeper_id = '{CY.keeper_id}'", "elsewhere"),
        ("users", f"keeper_id = '../{CY.keeper_id}' WHERE keeper_id = '{CY.keeper_id}'", "elsewhere"),
        ("requests", "at = 'never'", "pause"),
        ("meta", "value = '{' WHERE key = 'suspected_kinds'", "kind"),
    ],
)
def test_a_row_that_cannot_be_read_makes_no_copy_unreadable(files: Files, table: str, change: str, lost: str) -> None:
    """It may be the reason for restoring the copy, which could not be opened then either."""
    sql(files.path, f"UPDATE {table} SET {change}")
    assert kept(files) == ALL - {lost}


@pytest.mark.parametrize("column", ["subject_key", "planned_at"])
def test_a_former_file_without_a_column_stops_no_restore(files: Files, column: str) -> None:
    sql(files.path, f"ALTER TABLE operations RENAME COLUMN {column} TO other")
    assert kept(files) == ALL - {"lock"}


def test_a_disk_that_is_full_loses_nothing_unnoticed(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy was put in place without it: a failed write was passed over."""
    sql(files.path, "UPDATE requests SET reason = printf('%.*c', 100000, 'x')")
    before, connect = files.path.read_bytes(), statefile._connect

    def small(path: Path, mode: str) -> sqlite3.Connection:
        connection = connect(path, mode)
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    monkeypatch.setattr(statefile, "_forget_what_is_stale", lambda _: monkeypatch.setattr(statefile, "_connect", small))
    with pytest.raises(NoRoom):
        Store.restore(files.path, files.copy)
    assert files.path.read_bytes() == before


@pytest.mark.parametrize(
    ("state", "outcome", "error"),
    [(State.DONE, GONE, NOT_HERE), (State.FAILED, SETTLED, NEVER.words)],
)
def test_a_lock_that_may_still_show_is_asked_about_again(files: Files, state: State, outcome: str, error: str) -> None:
    """Its account was gone before anything told of it, or two lists have denied it that may have been behind."""
    with Store.open(files.path, write=True) as store:
        [row] = store.unfinished()
        store.record(row.id, state, NOW, outcome, error)
    assert kept(files) == ALL
    assert entry(files.path).row.state is State.UNKNOWN


@pytest.mark.parametrize("later", [Kind.REACTIVATE_USER, Kind.DEACTIVATE_USER])
def test_a_lock_that_a_later_change_has_replaced_is_not_kept(files: Files, later: Kind) -> None:
    with Store.open(files.path, write=True) as store:
        number = sent(store, op(later, user(1)))
        store.record(number, State.DONE, NOW + timedelta(minutes=1), "done")
    assert kept(files) == ALL - {"lock"}


def test_a_lock_that_was_sent_right_after_the_copy_was_made_counts_as_sent(tmp_path: Path) -> None:
    """By the copy it was still to be sent, as what the leaver lane sends while the copy is made."""
    files = Files(tmp_path / "reconciler.db", tmp_path / "copy")
    with Store.open(files.path, write=True) as store:
        store.bind(HERE)
        store.save(snapshot([ADA, BOB]), Snapshot())
        [number] = store.write_ahead(store.begin_run("leavers", NOW, "schedule", ""), [LOCK], {}, NOW)
    files.copy.write_bytes(files.path.read_bytes())
    with Store.open(files.path, write=True) as store:
        store.mark_sent(number, NOW, LOCK)
    assert "lock" in kept(files)
    assert entry(files.path).row.state is State.SENT


def test_what_belongs_to_another_node_is_not_kept(files: Files) -> None:
    with Store.open(files.path, write=True) as store:
        store.rebind(replace(HERE, keeper="https://keeper.example/2"), NOW)
    assert kept(files) == {"pause"}


def test_what_was_sent_to_a_former_node_is_not_kept(files: Files) -> None:
    """The file was bound to another node and back again since."""
    with Store.open(files.path, write=True) as store:
        for keeper in ("https://keeper.example/2", HERE.keeper):
            store.rebind(replace(HERE, keeper=keeper), NOW)
    assert kept(files) == {"pause"}
