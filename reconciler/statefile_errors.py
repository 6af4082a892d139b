"""Why a state file can't be used, as a person is told it, and how SQLite and the operating system say so."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MOVE_AWAY = (
    "or move it away, with whatever lies beside it under the same name and -wal or -shm at the end: the next run then "
    "rebuilds it by a resync that a person reviews, which costs the history and nobody's access"
)


class StateError(Exception):
    """The state file can't be used: `path`, the `problem`, and as text also how to go on."""

    what = "State file"
    way_on = ""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.what} {self.path}: {self.problem}. {self.way_on}"


class InUse(StateError):
    """Another process, the `holder`, has the lock. `takes_requests`: it is a daemon, which takes orders."""

    way_on = "Wait until it is done, or stop it. Commands that only read work beside it."

    def __init__(self, path: Path, problem: str, *, holder: str = "", takes_requests: bool = False) -> None:
        super().__init__(path, problem)
        self.holder = holder
        self.takes_requests = takes_requests


class Damaged(StateError):
    """The file is ours, or should be, and can't be read as a whole."""

    way_on = f"It is left as it is. Put a good copy of it in its place, {_MOVE_AWAY}."


class Foreign(StateError):
    """What lies at the path was not written by this application."""

    way_on = "It is left as it is. Let `state.path` name another file, or move this one away."


class Newer(StateError):
    """A later version of the reconciler wrote the file."""

    way_on = (
        "It is left as it is. Install that version again, or restore the copy that was kept before the file was "
        f"migrated (its name ends in .before-vN), {_MOVE_AWAY}."
    )


class Unusable(StateError):
    """The operating system refuses: permissions, a read-only disk, an I/O error."""

    way_on = (
        "What was recorded before is kept. Where this user may not do it, use sudo; else look at the owner, the mode "
        "and the free space of the file and its directory, then try again."
    )


class NoRoom(Unusable):
    """The disk is full, or too full to begin: that passes once somebody has made room."""

    way_on = "What was recorded before is kept. Make room on its disk; a service then goes on by itself."


class Outdated(StateError):
    """The process that has the file open is of a former version, and takes no order of this one."""

    way_on = "Nothing was ordered. Restart the service, so that it is of this version too, and order it again."


class NoCopy(StateError):
    """The file that is to be restored is no copy of the state file."""

    what = "The file"
    way_on = "Nothing was changed. Name a copy of the state file: one a day is kept beside it."


class Replaced(StateError):
    """The file or its lock was deleted, moved or replaced while this process, the one writer, had it open.

    `kept` names the file that has what this process recorded, "" where there is none.
    """

    def __init__(self, path: Path, problem: str, kept: str) -> None:
        super().__init__(path, problem)
        record = f"What it had recorded is kept in {kept}" if kept else "What it had recorded could not be kept"
        back = f" To go back to what was recorded, stop the service, then: reconciler restore {kept}."
        self.way_on = (
            f"This process sends nothing more to Keeper and ends. {record}. The next run goes on with the file that is "
            "there by then; without one it begins with a resync that a person reviews."
            f"{back if kept not in ('', str(path)) else ''}"
        )


class WrongBinding(StateError):
    """The file belongs to another organisation, application or Keeper node."""

    way_on = (
        "Nothing was changed. Correct the settings, or let `state.path` name the file that belongs to them. If the "
        "change is meant, `reconciler resync --rebind` forgets what Keeper held, keeps the history, and has a person "
        "review the next plan."
    )


_BY_CODE: dict[int, type[StateError]] = {
    sqlite3.SQLITE_BUSY: InUse,
    sqlite3.SQLITE_LOCKED: InUse,
    sqlite3.SQLITE_CORRUPT: Damaged,
    sqlite3.SQLITE_NOTADB: Damaged,
    sqlite3.SQLITE_FORMAT: Damaged,
    sqlite3.SQLITE_PERM: Unusable,
    sqlite3.SQLITE_READONLY: Unusable,
    sqlite3.SQLITE_IOERR: Unusable,
    sqlite3.SQLITE_FULL: NoRoom,
    sqlite3.SQLITE_CANTOPEN: Unusable,
    sqlite3.SQLITE_AUTH: Unusable,
    sqlite3.SQLITE_NOLFS: Unusable,
}


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise the errors of SQLite and of the operating system as a `StateError`; programming errors pass."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", -1)
        # What lacks room beside the file, for what its readers and writers share, is told so.
        kind = NoRoom if code == sqlite3.SQLITE_IOERR_SHMSIZE else _BY_CODE.get(code & 0xFF)
        told = hasattr(error, "sqlite_errorcode") and isinstance(
            error, sqlite3.OperationalError | sqlite3.IntegrityError
        )
        if kind is None and (told or str(error).startswith("Could not decode ")):
            # What is in the file is not as the version that was checked at opening has it, or a text is none.
            kind = Damaged
        if kind is None:
            raise
        name = getattr(error, "sqlite_errorname", "")
        raise kind(path, f"{error} ({name})" if name else str(error)) from error
    except UnicodeDecodeError as error:
        raise Damaged(path, f"what SQLite finds in it is no text ({error.reason})") from error
    except OSError as error:
        where = f": {error.filename}" if error.filename and str(error.filename) != str(path) else ""
        kind = NoRoom if error.errno in (errno.ENOSPC, errno.EDQUOT) else Unusable
        raise kind(path, f"{error.strerror or error}{where}") from error
