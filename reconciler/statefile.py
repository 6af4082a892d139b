"""The state file as a file: who may open it, whether it is ours and whole, how it is made, locked and migrated.

At rest the file is in SQLite's rollback mode and nothing lies beside it but the lock. While a writer has it open
it is in WAL mode, so that readers are served at any time. A reader therefore never has to create WAL files, which
would belong to the reader and could lock the writer out.
"""

import fcntl
import glob
import os
import sqlite3
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from reconciler import migrations
from reconciler.statefile_errors import (
    Damaged,
    Foreign,
    InUse,
    Newer,
    NoCopy,
    NoRoom,
    Outdated,
    Replaced,
    StateError,
    Unusable,
    translated,
)

WRITER_PATIENCE = 10.0
"""Seconds that a connection waits for another one's lock inside SQLite."""

_TAKES_REQUESTS = "takes requests\n"
"""The second line of the lock file of a daemon."""

_SIDE_FILES = ("-wal", "-shm", "-journal")
"""What SQLite may leave beside a file, which is a part of it."""

ROOM = 16 * 2**20
ROOM_FOR_EACH = 4096
"""Bytes that have to be free before anything is sent, and for each operation."""

# What is done on the quiet at a write or instead of a read, what refuses a row, what holds values of any type.
_NOT_OURS = """
    SELECT type, name FROM sqlite_schema WHERE type IN ('trigger', 'view') OR sql LIKE 'CREATE UNIQUE INDEX%'
    UNION ALL SELECT 'table', name FROM pragma_table_list
    WHERE schema = 'main' AND type <> 'shadow' AND NOT strict AND name NOT LIKE 'sqlite!_%' ESCAPE '!'
"""


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that can't write, and takes no lock that a writer would wait for longer than a statement.

    A missing file reads as an empty state. A file of an older version is migrated in memory.
    Raises `StateError`.
    """
    with translated(path):
        if not _is_there(path):
            return _in_memory(None)
        connection = _connect(path, "ro")
        try:
            if _version(connection, path) == len(migrations.STEPS):
                return connection
            in_memory = _in_memory(connection)
        except BaseException:
            connection.close()
            raise
        connection.close()
        return in_memory


def open_for_writing(path: Path, *, takes_requests: bool) -> tuple[sqlite3.Connection, int, os.stat_result]:
    """A connection for the one writer, the descriptor that holds its lock, and the identity of the file, which is made
    or migrated if need be.

    `takes_requests` tells other processes that the writer is a daemon. Raises `StateError`.
    """
    with translated(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _lock(path, takes_requests)
        try:
            if not _is_there(path):
                _make(path)
            _let_the_group_read(path, _lock_path(path))
            return _open_checked(path), lock, path.stat()
        except BaseException:
            unlock(lock)
            raise


def takes_no_more_requests(lock: int) -> None:
    """Tell other processes that the daemon that has this lock is ending; raises OSError."""
    holder, end, _ = os.pread(lock, 4096, 0).partition(b"\n")
    os.ftruncate(lock, len(holder + end))


def _free(path: Path) -> int:
    # The folder of a state file that is to be made need not be there yet.
    found = os.statvfs(next(folder for folder in path.absolute().parents if folder.exists()))
    return found.f_bavail * found.f_frsize


def lacks_room(path: Path) -> str:
    """Words for what is free where that is too little for one operation more, or nothing."""
    with translated(path):
        free = _free(path)
    if free >= ROOM + ROOM_FOR_EACH:
        return ""
    return f"{free // 2**20} MiB are free on the disk of the state file, {ROOM // 2**20} MiB are needed"


def make_sure_of_room(path: Path, operations: int) -> None:
    """Raise `NoRoom` where the disk may be full before the outcomes of so many operations are recorded."""
    with translated(path):
        free, needed = _free(path), ROOM + operations * ROOM_FOR_EACH
    if free < needed:
        raise NoRoom(
            path,
            f"{free // 2**20} MiB are free on its disk, {needed // 2**20} MiB are needed to record what is done; "
            "nothing was sent to Keeper",
        )


def is_in_use(path: Path, *, by_daemon: bool = False) -> bool:
    """Whether a process holds the writer's lock; `by_daemon`: one that takes requests."""
    try:
        descriptor = os.open(_lock_path(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return not by_daemon or _holder(descriptor)[1]
    finally:
        os.close(descriptor)
    return False


def open_beside(path: Path) -> sqlite3.Connection:
    """A connection that may write beside the writer, for filing requests; the file must be there and up to date.

    Raises `StateError`.
    """
    with translated(path):
        if not _is_there(path):
            raise Unusable(path, "it does not exist")
        connection = _connect(path, "rw")
        try:
            if _version(connection, path) != len(migrations.STEPS):
                raise Outdated(path, "the service that has it open is of a former version")
        except BaseException:
            connection.close()
            raise
        return connection


def replaced(path: Path, connection: sqlite3.Connection, lock: int, opened: os.stat_result) -> Replaced | None:
    """Check that the open file and its lock are still in their places; else keep a copy of the file and return the
    error. The copy is missing where it can't be made."""
    with translated(path):
        lost = not _is_at(path, opened)
        if not lost and _is_at(_lock_path(path), os.fstat(lock)):
            return None
    if not lost:
        problem = f"its lock, {_lock_path(path).name}, was deleted or replaced while this process had the file open"
        return Replaced(path, problem, str(path))
    suffix, kept = _replaced_suffix(), ""
    with suppress(StateError), translated(path):
        keep_copy(connection, path, suffix)
        kept = f"{path}.{suffix}"
    return Replaced(path, "it was deleted, moved or replaced while this process had it open", kept)


def _is_at(path: Path, opened: os.stat_result) -> bool:
    """Whether the path leads to this open file; raises OSError."""
    try:
        return os.path.samestat(path.stat(), opened)
    except (FileNotFoundError, NotADirectoryError):
        return False


def close_writer(path: Path, connection: sqlite3.Connection, lock: int, opened: os.stat_result) -> None:
    """Put the writer's connection to rest and give its lock back.

    Where neither the file nor the lock is in its place, another writer may be at work there. SQLite would delete the
    WAL of that one by its name, so the connection is left open until the process ends.
    """
    ours = True
    with suppress(OSError):
        ours = _is_at(path, opened) or _is_at(_lock_path(path), os.fstat(lock))
    if ours:
        put_to_rest(connection)
    else:
        # A thread that never ends has it, so that the interpreter does not close it at its own end either.
        threading.Thread(target=lambda _: threading.Event().wait(), args=[connection], daemon=True).start()
    unlock(lock)


def put_to_rest(connection: sqlite3.Connection) -> None:
    """Close a connection that could write, and leave no WAL files behind unless others still use them."""
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=WRITER_PATIENCE)


def _is_there(path: Path) -> bool:
    """Whether there is a file; raises `StateError` where it is obviously not one of ours, before SQLite touches it."""
    try:
        status = path.stat()
    except FileNotFoundError:
        for suffix in ("-wal", "-journal"):
            beside = path.with_name(path.name + suffix)
            if beside.exists() and beside.stat().st_size:
                # SQLite would play it back into whatever is put beside it.
                raise Damaged(path, f"it is missing, but {beside.name}, which is a part of it, is there") from None
        return False
    if stat.S_ISDIR(status.st_mode):
        raise Foreign(path, "this is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise Foreign(path, "this is not a regular file")
    if status.st_mode & 0o022:
        # Releases, orders and whom we may unlock are in it.
        raise Unusable(path, f"others may write it (mode {stat.S_IMODE(status.st_mode):04o}): chmod go-w {path}")
    if status.st_size == 0:
        raise Damaged(path, "the file is empty, which it never is by itself")
    # `immutable` keeps SQLite from locking, recovering or creating anything. The first bytes are not read by hand,
    # since closing a file by hand drops the locks that SQLite holds on it in this process.
    connection = _connect(path, "ro&immutable=1")
    try:
        _header(connection, path)
    except sqlite3.DatabaseError as error:
        if (getattr(error, "sqlite_errorcode", -1) & 0xFF) == sqlite3.SQLITE_NOTADB:
            raise Foreign(path, "this is not a SQLite database") from error
        wal = path.with_name(path.name + "-wal")
        if not wal.exists():
            raise
        # What looks damaged may be mended from the WAL, which the next connection reads.
    finally:
        connection.close()
    return True


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of our file; raises `StateError` for anybody else's, for a later version and for what is not ours."""
    version = _header(connection, path)
    if made := connection.execute(_NOT_OURS).fetchone():
        raise Damaged(path, f"it holds the {made[0]} {made[1]!r}, which no version of the reconciler makes so")
    return version


def _header(connection: sqlite3.Connection, path: Path) -> int:
    """The version that the first page tells; raises `StateError` for anybody else's file and for a later version."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != migrations.APPLICATION_ID:
        raise Foreign(path, "this is a SQLite database of another application")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version < 0:
        raise Damaged(path, f"it says that it is of version {version}")
    if version > len(migrations.STEPS):
        raise Newer(
            path,
            f"it was written by a newer version of the reconciler (version {version} of the file; this one knows up "
            f"to {len(migrations.STEPS)})",
        )
    return int(version)


def _open_checked(path: Path) -> sqlite3.Connection:
    connection = _connect(path, "rw")
    try:
        version = _version(connection, path)
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise Damaged(path, f"it is damaged: {found}")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise Unusable(path, f"SQLite keeps it in journal mode {mode}; its directory has to be on a local disk")
        connection.execute("PRAGMA synchronous = FULL")
        # Else it would stay as large as the largest transaction made it, for as long as a service runs.
        connection.execute(f"PRAGMA journal_size_limit = {ROOM}")
        if version < len(migrations.STEPS):
            keep_copy(connection, path, f"before-v{len(migrations.STEPS)}")
            _migrate(connection, version)
        _check_shape(connection, path)
    except BaseException:
        put_to_rest(connection)
        raise
    return connection


def _check_shape(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `Damaged` where a table or column is missing, before anything that relies on it is done."""
    wanted = {(table, column) for table, columns in migrations.TABLES.items() for column in columns.split()}
    sql = "SELECT t.name, c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c WHERE t.type = 'table'"
    if lacking := wanted - set(connection.execute(sql)):
        table, column = min(lacking)
        raise Damaged(path, f"its table {table} has no column {column}")


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    from sqlite_utils import Database  # slow to import, and readers rarely get here

    connection.execute("BEGIN IMMEDIATE")
    try:
        migrations.migrate(Database(connection), version)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _in_memory(source: sqlite3.Connection | None) -> sqlite3.Connection:
    """A state in memory, up to date and not to be written: a copy of the source, or empty."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    version = 0
    if source is not None:
        source.backup(connection)
        (version,) = source.execute("PRAGMA user_version").fetchone()
    _migrate(connection, version)
    connection.execute("PRAGMA query_only = 1")
    return connection


def _make(path: Path) -> None:
    """Make an empty state under another name first: a half-made file is never found at the path."""
    with _in_place(path) as fresh:
        connection = _connect(fresh, "rw")
        try:
            connection.execute(f"PRAGMA application_id = {migrations.APPLICATION_ID}")
            _migrate(connection, 0)
        finally:
            connection.close()


Keep = Callable[[sqlite3.Connection, sqlite3.Connection], None]
"""Has a copy, within a transaction, keep what the file tells in whose place it is put."""


def restore(path: Path, copy: Path, keep: Keep) -> Path | None:
    """Put a copy of a state file in the place of the state file, which is kept under the name that is returned.

    The copy has to be ours, whole, and of this version or an older one, from which it is migrated. Raises `StateError`,
    `InUse` while a process has the file open; nothing was changed then.
    """
    with translated(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _lock(path, takes_requests=False)
        try:
            if path.exists() and copy.exists() and path.samefile(copy):
                raise NoCopy(copy, "it is the state file itself")
            source = _open_copy(copy)
            try:
                former = path.with_name(f"{path.name}.{_replaced_suffix()}")
                _make_sure_of_room_for_a_copy(source, path)
                with _in_place(path) as fresh:
                    _copy(source, fresh)
                    _forget_what_is_stale(fresh)
                    _keep_of_the_former(fresh, path, keep)
                    # Whatever SQLite left beside the damaged or old file belongs to it and not to the copy. It follows
                    # the file: should this be cut off, a file without its WAL would pass for a whole one.
                    for end in ("", *_SIDE_FILES):
                        beside = path.with_name(path.name + end)
                        if beside.exists():
                            beside.rename(former.with_name(former.name + end))
            finally:
                source.close()
        finally:
            unlock(lock)
    return former if former.exists() else None


def _open_copy(copy: Path) -> sqlite3.Connection:
    """A connection to a file that can take the place of the state file. Raises `NoCopy`, and `Unusable` where this user
    may not read it: what is wrong with a copy says nothing of the state file."""
    try:
        with translated(copy):
            if not _is_there(copy):
                raise NoCopy(copy, "it does not exist")
            source = open_for_reading(copy)
            try:
                (found,) = source.execute("PRAGMA quick_check(1)").fetchone()
                if found != "ok":
                    raise Damaged(copy, f"it is damaged: {found}")
            except BaseException:
                source.close()
                raise
            return source
    except (Damaged, Foreign, Newer) as error:
        raise NoCopy(copy, error.problem) from error


def _replaced_suffix() -> str:
    """The end of the name under which a file is kept that was replaced; another one each time, else it would replace
    the one that is kept already."""
    return f"replaced-{datetime.now(UTC):%Y-%m-%dT%H%M%S.%f}"


def _forget_what_is_stale(restored: Path) -> None:
    """Forget what may not be so any more, since it is not known what was done after the copy was made.

    The service that ran then has ended since, and may have been told to; what failed then may work. The next plan is a
    first one, and each kind of operations begins with a canary. No order, release or hold of then counts any more, nor
    one that was foreseen. Memberships that waited unseen may have been taken away: they are given once more.
    """
    connection = _connect(restored, "rw")
    try:
        connection.execute("BEGIN IMMEDIATE")
        stale = "('reviewed', 'teams_open', 'read_at', 'canaries', 'next_cycle', 'settings')"
        connection.execute(f"DELETE FROM meta WHERE key IN {stale}")
        of_then = "'$.failing', '$.lacks', '$.alarms', '$.hooks', '$.untold'"
        connection.execute(
            f"UPDATE meta SET value = json_remove(value, {of_then}) WHERE key = 'standing' AND json_valid(value)"
        )
        connection.execute(
            "UPDATE requests SET state = 'lapsed' WHERE state IN ('open', 'filed', 'taken') AND kind <> 'pause'"
        )
        connection.execute(
            "INSERT OR REPLACE INTO meta (key, value) SELECT 'former_runs', coalesce(max(id), 0) || '' FROM runs"
        )
        connection.execute("UPDATE memberships SET asked_at = NULL WHERE ours AND NOT seen")
        connection.execute("COMMIT")
    finally:
        connection.close()


def _keep_of_the_former(restored: Path, former: Path, keep: Keep) -> None:
    """Have the copy keep what the file tells in whose place it is put. A file that is missing, or not one of ours,
    tells nothing. One of a newer version, which may be the reason for restoring a copy, tells what it can."""
    try:
        if not _is_there(former):
            return
    except Newer:
        pass
    except (StateError, sqlite3.DatabaseError):
        return
    with closing(_connect(former, "ro")) as source, closing(_connect(restored, "rw")) as copy:
        copy.execute("BEGIN IMMEDIATE")
        keep(copy, source)
        copy.execute("COMMIT")


def copy_suffix(day: datetime) -> str:
    """The end of the name of the daily copy; names sort like days."""
    return f"{day.astimezone(UTC):%Y-%m-%d}.copy"


def drop_copies(path: Path, keep: int, today: datetime) -> None:
    """Delete the daily copies of the state file but the newest. One of a day to come, which a wrong clock has made,
    counts as the oldest: else it would stay in the place of a true one."""
    newest = path.with_name(f"{path.name}.{copy_suffix(today)}")
    daily = path.parent.glob(f"{glob.escape(path.name)}.[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9].copy")
    for old in sorted(daily, key=lambda copy: (copy <= newest, copy))[:-keep]:
        old.unlink(missing_ok=True)


def keep_copy(connection: sqlite3.Connection, path: Path, suffix: str) -> None:
    """Copy the open state file beside itself, whole or not at all, under its name with a suffix.

    Raises `NoRoom` where that would leave too little room for the work itself.
    """
    _make_sure_of_room_for_a_copy(connection, path)
    with _in_place(path.with_name(f"{path.name}.{suffix}")) as fresh:
        _copy(connection, fresh)


def _make_sure_of_room_for_a_copy(connection: sqlite3.Connection, path: Path) -> None:
    with translated(path):
        free, needed = _free(path), sum(_sizes(connection)) + 2 * ROOM
    if free < needed:
        raise NoRoom(
            path,
            f"{free // 2**20} MiB are free on its disk, {needed // 2**20} MiB are needed to copy it beside itself and "
            "to go on working",
        )


def _sizes(connection: sqlite3.Connection) -> tuple[int, int]:
    """Bytes of the file that are used, and that were given free within it."""
    pages, free, size = connection.execute(
        "SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
    ).fetchone()
    return (pages - free) * size, free * size


def compact(connection: sqlite3.Connection, path: Path) -> None:
    """Give back to the disk what was forgotten, once it is much and a quarter of the file; else it is used again."""
    used, free = _sizes(connection)
    if free > max(ROOM, used / 3) and _free(path) > 2 * used + 2 * ROOM:
        connection.execute("VACUUM")


def _copy(connection: sqlite3.Connection, fresh: Path) -> None:
    copy = _connect(fresh, "rw")
    try:
        connection.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
    finally:
        copy.close()


@contextmanager
def _in_place(path: Path) -> Iterator[Path]:
    """An empty file to be filled, which then takes its place at the path in one step; nothing is left of a failure."""
    fresh = path.with_name(path.name + ".new")
    _remove(fresh)
    try:
        os.close(_create(fresh, os.O_EXCL))
        yield fresh
        fresh.rename(path)
    except BaseException:
        _remove(fresh)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _remove(path: Path) -> None:
    for end in ("", *_SIDE_FILES):
        path.with_name(path.name + end).unlink(missing_ok=True)


def _create(path: Path, flags: int = 0) -> int:
    """Open a file of ours, made with the right mode and owner from the beginning; SQLite gives its side files the same.

    The mode is 0600, or 0640 in a directory that is open to its group and closed to others. What root makes belongs
    to the owner of the directory, so that a daemon with an account of its own can go on with it.
    """
    directory = path.parent.stat()
    existed = path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | flags, 0o600)
    try:
        if not existed:
            os.fchmod(descriptor, 0o640 if _is_for_group(directory) else 0o600)
            if os.geteuid() == 0:
                os.fchown(descriptor, directory.st_uid, directory.st_gid)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _is_for_group(directory: os.stat_result) -> bool:
    return stat.S_IMODE(directory.st_mode) & 0o057 == 0o050


def _let_the_group_read(*files: Path) -> None:
    """Open files of ours to the group that their directory is for, as it was not when they were made.

    So it is with what root made before the first start of the service, when systemd gives the directory its mode.
    """
    for file in files:
        status = file.stat()
        if _is_for_group(file.parent.stat()) and status.st_uid == os.geteuid() and not status.st_mode & 0o040:
            file.chmod(0o640)


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _locked(descriptor: int) -> None:
    """Take the lock at once, or after a moment in which somebody only looks whether it is taken."""
    for _ in range(10):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.02)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock(path: Path, takes_requests: bool) -> int:
    """Take the writer's lock, which ends with the process, however it ends; raises `InUse` with the holder's name."""
    descriptor = _create(_lock_path(path))
    try:
        _locked(descriptor)
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        os.ftruncate(descriptor, 0)
        holder = f"process {os.getpid()} ({command})\n" + (_TAKES_REQUESTS if takes_requests else "")
        os.pwrite(descriptor, holder.encode(errors="replace"), 0)
    except BlockingIOError:
        holder, daemon = _holder(descriptor)
        os.close(descriptor)
        raise InUse(path, f"it is in use by {holder}", holder=holder, takes_requests=daemon) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _holder(lock: int) -> tuple[str, bool]:
    """Name who holds the lock, and say whether that is a daemon that takes requests."""
    holder, _, rest = os.pread(lock, 4096, 0).decode(errors="replace").partition("\n")
    return holder or "another process", rest == _TAKES_REQUESTS


def unlock(lock: int) -> None:
    """Give the writer's lock back, and the name of its holder with it: who only looks at the lock is not the holder."""
    with suppress(OSError):
        os.ftruncate(lock, 0)
    os.close(lock)
