"""The state file as a file: who may open it, bad files, its mode and what lies beside it."""

import contextlib
import fcntl
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlite_utils  # noqa: F401  imported here, since an ordinary user may not be allowed to read it

from reconciler import standing, statefile
from reconciler.alerts import Failing
from reconciler.model import Account, Membership, Snapshot, Standing, Team
from reconciler.statefile_errors import NoCopy
from reconciler.store import Damaged, Foreign, InUse, Newer, Replaced, StateError, Store, Unusable
from tests.ordinary import as_ordinary_user

ROOT = Path(__file__).parents[1]
ADA = Account("k-ada", Standing.MANAGED, active=True)
HELD = Snapshot({"k-ada": ADA})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reconciler.db"


@pytest.fixture
def filled(path: Path) -> Path:
    """A state file with something in it, at rest."""
    with Store.open(path, write=True) as store:
        store.save(HELD, Snapshot())
    return path


def sql(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


def names(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refused(path: Path, kind: type[StateError], *words: str) -> None:
    """Readers and writers are told the same, and nothing is touched."""
    before = path.read_bytes() if path.is_file() else None
    for write in (True, False):
        with pytest.raises(kind) as caught:
            Store.open(path, write=write)
        text = str(caught.value)
        assert str(path) in text
        assert caught.value.path == path
        for word in words:
            assert word in text
    assert (path.read_bytes() if path.is_file() else None) == before
    assert names(path.parent) <= {path.name, f"{path.name}.lock"}


# -- bad files ------------------------------------------------------------------------------------------------------


def test_a_text_file_is_foreign(path: Path) -> None:
    path.write_text("shopping list: " + "milk, " * 100)
    refused(path, Foreign, "not a SQLite database", "state.path")


def test_another_application_s_database_is_foreign(path: Path) -> None:
    sql(path, "CREATE TABLE users (id INTEGER)")
    refused(path, Foreign, "another application", "state.path")


def test_a_directory_is_foreign(path: Path) -> None:
    path.mkdir()
    refused(path, Foreign, "directory", "state.path")


def test_a_pipe_is_foreign_and_not_waited_for(path: Path) -> None:
    os.mkfifo(path)
    refused(path, Foreign, "not a regular file")


def test_an_empty_file_is_damage(path: Path) -> None:
    path.touch()
    refused(path, Damaged, "empty", "copy", "nobody's access")


@pytest.mark.parametrize("length", [50, 1000, 4096, 20_000])
def test_a_truncated_file_is_damage(filled: Path, length: int) -> None:
    os.truncate(filled, length)
    # Of fewer than 100 bytes SQLite says that this is no database at all.
    refused(filled, StateError if length < 100 else Damaged, "left as it is")


def test_a_file_whose_pages_were_overwritten_is_damage_to_the_writer(filled: Path) -> None:
    with filled.open("r+b") as file:
        file.seek(4096)
        file.write(b"\x55" * 3 * 4096)
    with pytest.raises(Damaged, match="copy"):
        Store.open(filled, write=True)


def test_a_newer_file_says_so(filled: Path) -> None:
    sql(filled, "PRAGMA user_version = 99")
    refused(filled, Newer, "version 99", "before-vN", "copy", "nobody's access")


def test_a_wal_without_its_file_is_not_played_into_a_new_one(filled: Path) -> None:
    filled.with_name(filled.name + "-wal").write_bytes(b"left over")
    filled.unlink()
    for write in (True, False):
        with pytest.raises(Damaged, match="which is a part of it"):
            Store.open(filled, write=write)
    assert not filled.exists()


# -- in use ---------------------------------------------------------------------------------------------------------

HOLDER = """
import sys
from reconciler.model import Account, Standing
from reconciler.store import Store

store = Store.open(sys.argv[1], write=True)
store.put(accounts=[Account("k-ada", Standing.MANAGED, active=True)])
print("ready", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the state file open for writing."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_second_writer_is_told_who_has_the_file(path: Path) -> None:
    with holder(path) as process:
        with pytest.raises(InUse) as caught:
            Store.open(path, write=True)
        assert f"process {process.pid}" in str(caught.value)
        assert str(path) in str(caught.value)
        with Store.open(path, write=False) as reader:
            assert reader.snapshot() == HELD


def test_a_second_writer_in_the_same_process_is_refused_too(path: Path) -> None:
    with Store.open(path, write=True), pytest.raises(InUse):
        Store.open(path, write=True)
    Store.open(path, write=True).close()


def test_the_lock_dies_with_its_process_and_nothing_is_lost(path: Path) -> None:
    with holder(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with Store.open(path, write=False) as reader:
            assert reader.snapshot() == HELD
        with Store.open(path, write=True) as store:
            assert store.snapshot() == HELD
    assert names(path.parent) == {"reconciler.db", "reconciler.db.lock"}


def test_an_open_reader_does_not_keep_the_writer_out(filled: Path) -> None:
    with Store.open(filled, write=False) as reader, Store.open(filled, write=True) as store:
        store.put(drop_accounts=["k-ada"])
        assert reader.snapshot() == Snapshot()


def test_who_only_looks_after_the_daemon_has_ended_is_not_taken_for_it(path: Path) -> None:
    Store.open(path, write=True, takes_requests=True).close()
    looking = os.open(f"{path}.lock", os.O_RDONLY)
    try:
        fcntl.flock(looking, fcntl.LOCK_SH)
        with pytest.raises(InUse) as caught:
            Store.open(path, write=True)
    finally:
        os.close(looking)
    assert not caught.value.takes_requests
    assert "another process" in str(caught.value)


def test_who_could_not_open_the_file_is_not_left_as_its_holder(path: Path) -> None:
    path.write_text("no state file")
    with pytest.raises(Foreign):
        Store.open(path, write=True, takes_requests=True)
    assert path.with_name("reconciler.db.lock").read_bytes() == b""


# -- modes and side files -------------------------------------------------------------------------------------------


def test_only_the_owner_can_read_the_file_and_what_lies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "reconciler.db"
    umask = os.umask(0)
    try:
        with Store.open(path, write=True) as store:
            store.put(accounts=[ADA])
            found = {entry.name: mode(entry) for entry in path.parent.iterdir()}
    finally:
        os.umask(umask)
    assert mode(path.parent) == 0o700
    assert found == dict.fromkeys(
        ["reconciler.db", "reconciler.db-wal", "reconciler.db-shm", "reconciler.db.lock"], 0o600
    )


def test_the_group_reads_where_the_directory_is_kept_for_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    path = tmp_path / "reconciler.db"
    with Store.open(path, write=True) as store:
        store.put(accounts=[ADA])
        assert {mode(entry) for entry in tmp_path.iterdir()} == {0o640}


def test_the_group_reads_what_was_made_before_the_directory_was_kept_for_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "reconciler.db"
    Store.open(path, write=True).close()
    assert {mode(entry) for entry in tmp_path.iterdir()} == {0o600}
    tmp_path.chmod(0o750)
    with Store.open(path, write=True) as store:
        store.put(accounts=[ADA])
        assert {mode(entry) for entry in tmp_path.iterdir()} == {0o640}


def test_while_a_writer_has_the_file_it_is_in_wal_mode_and_synchronous(filled: Path) -> None:
    with Store.open(filled, write=True) as store:
        store.put(accounts=[ADA])
        assert filled.with_name("reconciler.db-wal").stat().st_size > 0
    assert names(filled.parent) == {"reconciler.db", "reconciler.db.lock"}


def test_a_reader_leaves_nothing_behind(filled: Path) -> None:
    before = filled.read_bytes(), filled.stat().st_mtime_ns
    filled.with_name("reconciler.db.lock").unlink()
    with Store.open(filled, write=False) as reader:
        assert reader.snapshot() == HELD
        assert names(filled.parent) == {"reconciler.db"}
    assert names(filled.parent) == {"reconciler.db"}
    assert (filled.read_bytes(), filled.stat().st_mtime_ns) == before


def test_a_missing_file_reads_as_an_empty_state_and_is_not_made(tmp_path: Path) -> None:
    with Store.open(tmp_path / "no" / "reconciler.db", write=False) as reader:
        assert reader.snapshot() == Snapshot()
        assert reader.binding() is None
        assert reader.runs(10) == []
    assert names(tmp_path) == set()


def test_a_half_made_file_of_a_killed_process_is_made_anew(path: Path) -> None:
    path.with_name("reconciler.db.new").write_text("half")
    with Store.open(path, write=True) as store:
        assert store.snapshot() == Snapshot()
    assert names(path.parent) == {"reconciler.db", "reconciler.db.lock"}


def test_filing_a_request_leaves_nothing_behind(filled: Path) -> None:
    with Store.beside(filled) as beside:
        beside.add_request("pause", {}, "ada", datetime(2026, 11, 24, tzinfo=UTC), "")
    assert names(filled.parent) == {"reconciler.db", "reconciler.db.lock"}


# -- what the operating system refuses ------------------------------------------------------------------------------


def test_a_read_only_file_can_be_read_but_not_written(public: Path) -> None:
    path = public / "reconciler.db"
    with Store.open(path, write=True) as store:
        store.save(HELD, Snapshot())
    path.chmod(0o444)
    path.with_name("reconciler.db.lock").chmod(0o666)
    with as_ordinary_user():
        with pytest.raises(Unusable, match="owner, the mode"):
            Store.open(path, write=True)
        with Store.open(path, write=False) as reader:
            assert reader.snapshot() == HELD


def test_a_read_only_directory_is_named(public: Path) -> None:
    public.chmod(0o555)
    path = public / "reconciler.db"
    with as_ordinary_user(), pytest.raises(Unusable) as caught:
        Store.open(path, write=True)
    assert f"Permission denied: {path}.lock" in str(caught.value)
    with as_ordinary_user(), pytest.raises(Unusable, match="Permission denied"):
        Store.open(public / "deeper" / "reconciler.db", write=True)


def test_a_file_that_may_not_be_read_is_said_to_be_so(public: Path) -> None:
    path = public / "reconciler.db"
    Store.open(path, write=True).close()
    path.chmod(0)
    with as_ordinary_user(), pytest.raises(Unusable, match="unable to open"):
        Store.open(path, write=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_makes_belongs_to_the_owner_of_the_directory(public: Path) -> None:
    os.chown(public, 65534, 65534)
    path = public / "reconciler.db"
    with Store.open(path, write=True) as store:
        store.put(accounts=[ADA])
        assert {(entry.stat().st_uid, entry.stat().st_gid) for entry in public.iterdir()} == {(65534, 65534)}
    with as_ordinary_user(), Store.open(path, write=True) as store:
        assert set(store.snapshot().accounts) == {"k-ada"}


def test_a_full_disk_stops_the_writing_and_keeps_what_was_there(filled: Path) -> None:
    script = """
import resource, signal, sys
from reconciler.model import Account, Standing
from reconciler.store import Store, Unusable

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Store.open(sys.argv[1], write=True) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    many = [Account(f"k{n}", Standing.MANAGED, True, protected_as="x" * 200) for n in range(5_000)]
    try:
        store.put(accounts=many, drop_accounts=["k-ada"])
    except Unusable as error:
        print(error)
    print(list(store.snapshot().accounts))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, filled],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    message, kept = done.stdout.splitlines()
    assert "free space" in message
    assert kept == "['k-ada']"
    with Store.open(filled, write=True) as store:
        assert store.snapshot() == HELD


# -- copies ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(filled: Path) -> Path:
    """A copy of the state file, which has been written since."""
    made = filled.with_name("copy")
    made.write_bytes(filled.read_bytes())
    with Store.open(filled, write=True) as store:
        store.put(drop_accounts=["k-ada"])
    return made


@pytest.mark.parametrize("cut_off", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["_copy", "_forget_what_is_stale"])
def test_a_restore_that_fails_or_is_cut_off_changes_nothing(
    filled: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, where: str, cut_off: BaseException
) -> None:
    def fails(*_: object) -> None:
        raise cut_off

    before, there = filled.read_bytes(), names(filled.parent)
    monkeypatch.setattr(statefile, where, fails)
    with pytest.raises((Unusable, KeyboardInterrupt)):
        Store.restore(filled, copy)
    assert filled.read_bytes() == before
    assert names(filled.parent) == there


@pytest.mark.parametrize("cut_off_at", [1, 2, 3])
def test_a_restore_that_is_cut_off_never_parts_a_file_from_its_wal(
    filled: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, cut_off_at: int
) -> None:
    wal = filled.with_name("reconciler.db-wal")
    wal.write_bytes(b"of a writer that was killed")
    before, rename, done = filled.read_bytes(), Path.rename, 0

    def until_killed(self: Path, to: Path) -> Path:
        nonlocal done
        done += 1
        if done == cut_off_at:
            raise KeyboardInterrupt
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", until_killed)
    with pytest.raises(KeyboardInterrupt):
        Store.restore(filled, copy)
    assert not filled.exists() or (wal.exists() and filled.read_bytes() == before)


def test_each_file_in_whose_place_a_copy_is_put_is_kept(filled: Path, copy: Path) -> None:
    """Two within a second had the same name, and the newest file was lost."""
    before = filled.read_bytes()
    kept = [Store.restore(filled, copy) for _ in range(2)]
    assert kept[0] is not None and kept[0].read_bytes() == before


@pytest.mark.parametrize("what", ["itself", "link", "nothing"])
def test_what_is_no_copy_is_not_restored(filled: Path, what: str) -> None:
    """The state file itself was put in its own place: nothing was won, and all waited for a review."""
    named = filled if what == "itself" else filled.with_name(what)
    if what == "link":
        named.hardlink_to(filled)
    before, there = filled.read_bytes(), names(filled.parent)
    with pytest.raises(NoCopy, match="Name a copy of the state file: one a day is kept beside it"):
        Store.restore(filled, named)
    assert (filled.read_bytes(), names(filled.parent)) == (before, there)


@pytest.mark.parametrize("what", ["truncated", "overwritten", "newer", "text"])
def test_what_is_wrong_with_a_copy_is_not_said_of_the_state_file(filled: Path, copy: Path, what: str) -> None:
    """Whoever was to restore a damaged copy was told to move the state file away."""
    if what == "truncated":
        os.truncate(copy, 20_000)
    elif what == "overwritten":
        with copy.open("r+b") as file:
            file.seek(4096)
            file.write(b"\x55" * 3 * 4096)
    elif what == "newer":
        sql(copy, "PRAGMA user_version = 99")
    else:
        copy.write_text("no copy at all")
    before, there = filled.read_bytes(), names(filled.parent)
    with pytest.raises(NoCopy, match="Name a copy of the state file") as raised:
        Store.restore(filled, copy)
    assert str(raised.value).startswith(f"The file {copy}: ")
    assert (filled.read_bytes(), names(filled.parent)) == (before, there)


def test_a_restored_file_waits_for_a_review(filled: Path, copy: Path) -> None:
    with Store.open(copy, write=True) as store:
        store.save(replace(HELD, reviewed=True), HELD)
    copy.with_name("copy.lock").unlink()
    former = Store.restore(filled, copy)
    assert former is not None
    with Store.open(filled, write=False) as reader:
        assert reader.snapshot() == HELD
    assert names(filled.parent) == {"copy", "reconciler.db", "reconciler.db.lock", former.name}


def test_a_restored_file_tells_nothing_of_the_service_that_ran_when_the_copy_was_made(filled: Path, copy: Path) -> None:
    """It was stopped for the restore: that it ended without being told to would be untrue."""
    with Store.open(copy, write=True) as store:
        store.set_meta("next_cycle", datetime.now(UTC).isoformat())
        store.set_meta("settings", "a digest")
    Store.restore(filled, copy)
    with Store.open(filled, write=False) as reader:
        assert (reader.meta("next_cycle"), reader.meta("settings")) == (None, None)


def test_a_restored_file_does_not_say_what_failed_when_the_copy_was_made(filled: Path, copy: Path) -> None:
    """Nor what was foreseen then: it may have been mended on the same day, weeks ago."""
    at = datetime(2026, 11, 1, tzinfo=UTC)
    kept = standing.Standing(last_good=at, merely_left=frozenset({"k1"}), totals={"cycles:failed": 2.0})
    failing, untold = Failing(2, at, "Keeper is down", resync=True), {"webhook": (at, "no connection")}
    then = replace(kept, failing=failing, lacks={"j1": "changes"}, will_be_held=frozenset({"max_removals"}))
    then = replace(then, untold=untold).hook("teams.approve_command", "it ended with 1")
    with Store.open(copy, write=True) as store:
        store.set_meta(standing.KEY, standing.to_json(then))
    Store.restore(filled, copy)
    with Store.open(filled, write=False) as reader:
        assert standing.from_json(reader.meta(standing.KEY)) == kept


def test_after_a_restore_what_waits_unseen_is_asked_for_once_more(filled: Path) -> None:
    """It may have been taken away since the copy was made."""
    waits = Membership(ours=True, seen=False, shown=False, asked_at=datetime(2026, 11, 1, tzinfo=UTC))
    shows = Membership(ours=True, seen=True, shown=True, asked_at=waits.asked_at)
    teams = {key: Team(key, Standing.MANAGED, key) for key in ("t-waits", "t-shows")}
    ada = replace(ADA, memberships={"t-waits": waits, "t-shows": shows})
    with Store.open(filled, write=True) as store:
        store.save(Snapshot({"k-ada": ada}, teams), HELD)
    copy = filled.with_name("copy")
    copy.write_bytes(filled.read_bytes())
    Store.restore(filled, copy)
    with Store.open(filled, write=False) as reader:
        held = reader.snapshot().accounts["k-ada"].memberships
    assert (held["t-waits"].doubtful, held["t-shows"]) == (True, shows)


def test_a_restore_keeps_the_locks_of_a_file_of_before_the_locks_of_others_were_told_apart(
    filled: Path, copy: Path
) -> None:
    with Store.open(filled, write=True) as store:
        store.put(accounts=[replace(ADA, active=False, gone=True, locked_by_us=True)])
    sql(filled, "ALTER TABLE users DROP COLUMN others_lock")
    Store.restore(filled, copy)
    with Store.open(filled, write=False) as reader:
        ada = reader.snapshot().accounts["k-ada"]
    assert (ada.gone, ada.active, ada.locked_by_us) == (False, False, True)


def test_to_go_back_from_a_newer_version_ends_no_pause(filled: Path, copy: Path) -> None:
    with Store.open(filled, write=True) as store:
        store.add_request("pause", {}, by="root", at=datetime(2026, 11, 1, tzinfo=UTC), reason="the new version")
    with contextlib.closing(sqlite3.connect(filled)) as newer:
        newer.execute("PRAGMA user_version = 999")
    Store.restore(filled, copy)
    with Store.open(filled, write=False) as store:
        pause = store.pause()
    assert pause is not None and pause.reason == "the new version"


def test_a_copy_that_fails_leaves_no_draft(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object, fresh: Path) -> None:
        fresh.with_name(f"{fresh.name}-journal").write_bytes(b"of the draft")
        raise OSError(28, "No space left on device")

    there = names(filled.parent)
    monkeypatch.setattr(statefile, "_copy", fails)
    with contextlib.closing(sqlite3.connect(filled)) as connection, pytest.raises(OSError, match="No space"):
        statefile.keep_copy(connection, filled, "copy")
    assert names(filled.parent) == there


# -- the file or the lock of a writer taken away ---------------------------------------------------------------------


def emptied(path: Path) -> None:
    for entry in path.parent.iterdir():
        entry.unlink()


def without_database(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink()


def moved_over(path: Path) -> None:
    other = path.with_name("other")
    with Store.open(other, write=True):
        pass
    other.rename(path)


def without_lock(path: Path) -> None:
    path.with_name(f"{path.name}.lock").unlink()


def moved_away(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


@pytest.mark.parametrize("take_away", [emptied, without_database, moved_over, without_lock, moved_away])
def test_a_writer_whose_file_is_taken_away_writes_no_more_and_keeps_what_it_has(
    tmp_path: Path, take_away: Callable[[Path], None]
) -> None:
    path = tmp_path / "state" / "reconciler.db"
    store = Store.open(path, write=True)
    store.save(HELD, Snapshot())
    take_away(path)
    for _ in range(2):
        with pytest.raises(Replaced) as caught:
            store.set_meta("anything", "1")
    store.close()
    text = str(caught.value)
    assert str(path) in text and "sends nothing more to Keeper" in text
    kept = list(path.parent.glob("*.replaced-*"))
    if take_away is without_lock:
        assert "its lock, reconciler.db.lock, was deleted" in text and not kept
        kept = [path]
    if take_away is moved_away:
        assert "could not be kept" in text and not kept
        kept = [tmp_path / "elsewhere" / "reconciler.db"]
    with Store.open(kept[0], write=False) as former:
        assert set(former.snapshot().accounts) == {"k-ada"}
    # Whatever is in its place is whole.
    with Store.open(path, write=True) as new:
        assert set(new.snapshot().accounts) == ({"k-ada"} if take_away is without_lock else set())


def test_what_a_writer_kept_whose_file_was_deleted_can_be_restored(filled: Path) -> None:
    with Store.open(filled, write=True) as store:
        emptied(filled)
        with pytest.raises(Replaced) as caught:
            store.make_sure_of_place()
    [kept] = filled.parent.glob("*.replaced-*")
    assert f"reconciler restore {kept}" in str(caught.value)
    Store.restore(filled, kept)
    with Store.open(filled, write=False) as store:
        assert set(store.snapshot().accounts) == {"k-ada"}


def test_a_writer_whose_file_is_taken_away_leaves_that_of_the_next_one_alone(tmp_path: Path) -> None:
    """Closing a SQLite database deletes its WAL by the name."""
    script = """
import sys
from pathlib import Path
from reconciler.store import Store

path = Path(sys.argv[1])
store = Store.open(path, write=True)
store.set_meta("former", "1")
for entry in path.parent.iterdir():
    entry.unlink()
print("taken away", flush=True)
sys.stdin.read()
store.close()
"""
    path = tmp_path / "reconciler.db"
    former = subprocess.Popen(
        [sys.executable, "-c", script, path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert former.stdout is not None and former.stdout.readline()
    with Store.open(path, write=True) as store:
        store.set_meta("next", "1")
        former.communicate(timeout=60)
        assert former.returncode == 0
        with Store.open(path, write=False) as reader:
            assert (reader.meta("next"), reader.meta("former")) == ("1", None)
