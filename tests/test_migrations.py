"""Migrations of the state file, tried with a version that does not exist yet."""

import contextlib
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlite_utils import Database

from reconciler import migrations, statefile
from reconciler.model import Account, Snapshot, Standing
from reconciler.plan import Cause, Kind, Operation, Rule, Subject
from reconciler.rows import operation_row, time_text
from reconciler.store import Newer, StateError, Store, Unusable

HELD = Snapshot({"k-ada": Account("k-ada", Standing.MANAGED, active=True)})
NEXT = len(migrations.STEPS) + 1


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A state file of today's version, which is about to be an older one."""
    path = tmp_path / "reconciler.db"
    with Store.open(path, write=True) as store:
        store.save(HELD, Snapshot())
    return path


def next_step(db: Database) -> None:
    """Of everything that a step may do: a new table, a changed table, moved data."""
    db.create_table("extra", {"key": str}, pk="key", strict=True)
    db.table("extra").insert({"key": "made by the step"})
    db.table("users").transform(drop={"protected_as"})
    db.table("users").add_column("protected_as", str, not_null_default="carried over")


def failing_step(db: Database) -> None:
    next_step(db)
    raise sqlite3.IntegrityError("the step fails at its end")


@pytest.fixture
def outdated(older: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same file, after the reconciler has learnt one version more."""
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, next_step))
    return older


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def test_all_tables_are_strict(older: Path) -> None:
    tables = query(
        older, "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite%'"
    )
    expected = {"meta", "users", "teams", "memberships", "runs", "operations", "requests", "alerts"}
    assert {name for name, _ in tables} == expected
    assert all(strict for _, strict in tables)


def test_an_older_file_is_migrated_and_a_copy_kept(outdated: Path) -> None:
    with Store.open(outdated, write=True) as store:
        assert store.snapshot().accounts["k-ada"].protected_as == "carried over"
    assert query(outdated, "PRAGMA user_version") == [(NEXT,)]
    assert query(outdated, "SELECT key FROM extra") == [("made by the step",)]
    copy = outdated.with_name(f"reconciler.db.before-v{NEXT}")
    assert query(copy, "PRAGMA user_version") == [(NEXT - 1,)]
    assert copy.stat().st_mode & 0o777 == 0o600
    assert {entry.name for entry in outdated.parent.iterdir()} == {outdated.name, outdated.name + ".lock", copy.name}


def test_the_copy_is_a_state_file_to_go_back_to(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as upgrade:
        upgrade.setattr(migrations, "STEPS", (*migrations.STEPS, next_step))
        Store.open(older, write=True).close()
    with pytest.raises(Newer):
        Store.open(older, write=True)
    older.with_name(f"reconciler.db.before-v{NEXT}").rename(older)
    with Store.open(older, write=True) as store:
        assert store.snapshot() == HELD


def test_a_migration_that_fails_changes_nothing(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as upgrade:
        upgrade.setattr(migrations, "STEPS", (*migrations.STEPS, failing_step))
        with pytest.raises(sqlite3.IntegrityError):
            Store.open(older, write=True)
    assert query(older, "PRAGMA user_version") == [(NEXT - 1,)]
    with Store.open(older, write=True) as store:
        assert store.snapshot() == HELD


def test_without_room_for_the_copy_nothing_is_migrated(outdated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statefile, "_free", lambda _: 2 * statefile.ROOM)
    with pytest.raises(Unusable, match="32 MiB are needed to copy it"):
        Store.open(outdated, write=True)
    assert query(outdated, "PRAGMA user_version") == [(NEXT - 1,)]
    assert {entry.name for entry in outdated.parent.iterdir()} == {outdated.name, outdated.name + ".lock"}


def test_a_migration_is_done_once(outdated: Path) -> None:
    Store.open(outdated, write=True).close()
    copy = outdated.with_name(f"reconciler.db.before-v{NEXT}")
    copy.unlink()
    Store.open(outdated, write=True).close()
    assert not copy.exists()
    assert query(outdated, "SELECT count(*) FROM extra") == [(1,)]


def test_a_reader_reads_an_older_file_without_migrating_it(outdated: Path) -> None:
    before = outdated.read_bytes()
    with Store.open(outdated, write=False) as reader:
        assert reader.snapshot().accounts["k-ada"].protected_as == "carried over"
    assert outdated.read_bytes() == before


def test_a_reader_reads_an_older_file_beside_its_writer(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(older, write=True) as store:
        store.put(accounts=[Account("k-bob", Standing.UNMANAGED, active=True)])
        monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, next_step))
        with Store.open(older, write=False) as reader:
            assert set(reader.snapshot().accounts) == {"k-ada", "k-bob"}


def test_no_request_is_filed_in_an_older_file(outdated: Path) -> None:
    with pytest.raises(StateError, match="former version"):
        Store.beside(outdated)


def test_a_new_file_is_of_the_newest_version_and_leaves_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, next_step))
    path = tmp_path / "new.db"
    Store.open(path, write=True).close()
    assert query(path, "PRAGMA user_version") == [(NEXT,)]
    assert {entry.name for entry in tmp_path.iterdir()} == {"new.db", "new.db.lock"}


def test_a_lock_of_an_older_version_learns_since_when_the_person_was_out_of_scope(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, earlier = datetime(2026, 11, 24, 12, tzinfo=UTC), datetime(2026, 11, 20, 12, tzinfo=UTC)
    path = tmp_path / "reconciler.db"
    with monkeypatch.context() as before:
        before.setattr(migrations, "STEPS", migrations.STEPS[:3])
        before.setattr(migrations, "TABLES", {})
        Store.open(path, write=True).close()
    lock = Operation(
        Kind.DEACTIVATE_USER, Subject("user", "ada", "j", "k-ada"), Cause.JUMPCLOUD, Rule.LEFT, "left the scope"
    )
    rest = {"run_id": 1, "state": "done", "decision": "", "outcome": "done", "error": ""}
    row = {key: value for key, value in operation_row(lock).items() if key != "pilot_entries"} | rest
    with contextlib.closing(sqlite3.connect(path)) as connection:
        Database(connection).table("users").insert(older_account("k-ada", left_at=time_text(left)))
        for at in (earlier, left):
            Database(connection).table("operations").insert(row | {"planned_at": time_text(at)})
        connection.commit()
    with Store.open(path, write=True) as store:
        assert [row.left_at for row in store.journal(earlier)] == [None, left]


def older_account(keeper_id: str, **values: object) -> dict[str, object]:
    """A row of `users` as the first version had it."""
    texts = dict.fromkeys(("shown", "asked", "settled"), "{}") | dict.fromkeys(
        ("jumpcloud_id", "protected_as", "former_external_id"), ""
    )
    numbers = dict.fromkeys(("active", "gone", "locked_by_us", "pilot", "takeover", "review_lock"), 0)
    return {"keeper_id": keeper_id, "standing": "managed", **texts, **numbers, **values}


def test_the_former_mark_of_the_pilot_is_dropped_since_everybody_who_was_created_had_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "reconciler.db"
    with monkeypatch.context() as before:
        before.setattr(migrations, "STEPS", migrations.STEPS[:5])
        before.setattr(migrations, "TABLES", {})
        Store.open(path, write=True).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        Database(connection).table("users").insert(older_account("k-ada", pilot=1, active=1))
        connection.commit()
    with Store.open(path, write=True) as store:
        assert store.snapshot().accounts == {"k-ada": Account("k-ada", Standing.MANAGED, active=True)}


def test_the_tables_that_a_file_has_to_have_are_those_that_the_steps_make(older: Path) -> None:
    with contextlib.closing(sqlite3.connect(older)) as connection:
        made = {table.name: {column.name for column in table.columns} for table in Database(connection).tables}
    assert made == {table: set(columns.split()) for table, columns in migrations.TABLES.items()}
