"""What all parts of the store share: the open file, its transactions, and small values."""

import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from reconciler import statefile
from reconciler.hands import Hands
from reconciler.plan import Kind
from reconciler.rows import json_text, time_text
from reconciler.statefile_errors import Damaged, Replaced, StateError, translated

LIVE = "live_runs"
"""Under which the state file keeps the ids of the runs that its writer has begun and not ended."""
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""The errors with which the reading of a row ends that is not as we write it."""
CANARY_LASTS = timedelta(days=7)
"""How long a kind of operations stays open once its canary has passed."""
_ADDS = frozenset({Kind.UPDATE_USER, Kind.REACTIVATE_USER})
"""The kinds that add to what is there: those of which a canary may have to tell that nothing was replaced."""


def real(path: str | os.PathLike[str]) -> Path:
    """Return the file to which a path leads, through links."""
    return Path(os.path.realpath(path))  # Path.resolve has an error of its own for links that lead in a circle


class OpenFile:
    """An open state file. Every method raises `StateError` where the file can't be read or written."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        lock: int | None,
        opened: os.stat_result | None = None,
        *,
        beside: bool = False,
    ) -> None:
        self.path = path
        self._connection = connection
        self._lock = lock
        self._opened = opened
        """The identity of the writer's file."""
        self._replaced: Replaced | None = None
        self._beside = beside
        self.hands = Hands()
        self._live: set[int] = set()
        """The runs that this process has begun and not ended: what they have in hand was not cut off."""

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, write: bool, takes_requests: bool = False) -> Self:
        """Open the state file, as the one writer or as one of many readers.

        A writer makes the file (and its directory) where there is none, and migrates it; a daemon tells others that
        it `takes_requests`. A reader takes no lock and writes nothing; a missing file is an empty state to it. Raises
        `StateError`.
        """
        resolved = real(path)
        if not write:
            return cls(resolved, statefile.open_for_reading(resolved), None)
        opened = cls(resolved, *statefile.open_for_writing(resolved, takes_requests=takes_requests))
        with suppress(StateError):  # on a full disk: the next run to begin is a new beginning as well
            if opened.meta(LIVE) not in (None, "[]"):
                opened.set_meta(LIVE, "[]")  # what an ended process had under way was cut off
        return opened

    @classmethod
    def beside(cls, path: str | os.PathLike[str]) -> Self:
        """Open the state file beside the writer that has it in use, to file requests and decisions for it to find.

        Raises `StateError`, also where there is no file yet.
        """
        resolved = real(path)
        return cls(resolved, statefile.open_beside(resolved), None, beside=True)

    @property
    def in_use(self) -> bool:
        """Whether somebody, this process or another one, has the file open for writing."""
        return statefile.is_in_use(self.path)

    @property
    def is_served(self) -> bool:
        """Whether a daemon has the file open that takes requests."""
        return statefile.is_in_use(self.path, by_daemon=True)

    def data_version(self) -> int:
        """A number that changes when another process has written."""
        with translated(self.path):
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            return int(version)

    def make_sure_of_place(self) -> None:
        """Raise `Replaced` where the file that this writer has open, or its lock, is not in its place any more."""
        if self._replaced is None and self._lock is not None and self._opened is not None:
            self._replaced = statefile.replaced(self.path, self._connection, self._lock, self._opened)
        if self._replaced is not None:
            raise self._replaced

    @property
    def writable(self) -> bool:
        """Whether this is the one writer."""
        return self._lock is not None

    def take_no_more_requests(self) -> None:
        """Have nobody file an order any more with this daemon, which is ending."""
        assert self._lock is not None
        with translated(self.path):
            statefile.takes_no_more_requests(self._lock)

    def close(self) -> None:
        """Close the file and give the lock back."""
        if self._lock is None and not self._beside:
            self._connection.close()
            return
        if self._lock is None or self._opened is None:
            statefile.put_to_rest(self._connection)
        else:
            statefile.close_writer(self.path, self._connection, self._lock, self._opened)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Transactions

    @contextmanager
    def together(self) -> Iterator[None]:
        """One transaction for all that is written within."""
        with self._tx():
            yield

    @contextmanager
    def _tx(self) -> Iterator[sqlite3.Connection]:
        """One transaction for writing. `with connection` would not begin one, so each call would commit alone."""
        connection = self._connection
        if connection.in_transaction:
            yield connection
            return
        # Each request that changes something is recorded before it is sent, so this guards them all.
        self.make_sure_of_place()
        with translated(self.path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One moment for all that is read within. What can't be decoded is damage; what can't be encoded is no part of
        the file, but a parameter."""
        if self._connection.in_transaction:
            yield self._connection
            return
        with translated(self.path):
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            except UnicodeEncodeError:
                raise
            except UNREADABLE as error:
                raise Damaged(self.path, f"a row can't be read ({error!r:.200})") from error
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("COMMIT")

    # Small values

    def meta(self, key: str) -> str | None:
        """A small value that was kept under this key."""
        with self._reading() as connection:
            return meta(connection, key)

    def set_meta(self, key: str, value: str) -> None:
        """Keep a small value under this key."""
        with self._tx():
            self._set_meta(key, value)

    def _set_meta(self, key: str, value: str) -> None:
        self._replace("meta", [{"key": key, "value": value}])

    def open_kinds(self, now: datetime) -> frozenset[Kind]:
        """The kinds of operations whose canary has passed on this node, not longer ago than `CANARY_LASTS`."""
        with self._reading() as connection:
            found = _open_kinds(connection)
        return frozenset(kind for kind, at in found.items() if now - at < CANARY_LASTS)

    def open_kind(self, kind: Kind, at: datetime) -> None:
        """Remember that the canary of this kind has passed."""
        with self._tx() as connection:
            self._keep_open_kinds({**_open_kinds(connection), kind: at})
            self._keep_suspected_kinds(_suspected_kinds(connection) - {kind})
        self.forget_links([kind])

    def close_kind(self, kind: Kind) -> None:
        """Have this kind begin with a canary again, since Keeper has shown an effect that nobody asked for."""
        with self._tx() as connection:
            self._keep_open_kinds({one: at for one, at in _open_kinds(connection).items() if one is not kind})
            self._keep_suspected_kinds(_suspected_kinds(connection) | {kind})

    def links(self) -> Mapping[Kind, Mapping[str, datetime]]:
        """By kind, the keys of the subjects for which Keeper has answered with something else than was to be made, and
        when: in a row, since the last resync."""
        with self._reading() as connection:
            return _links(connection)

    def _add_link(self, kind: Kind, key: str, at: datetime) -> None:
        """Note such an answer; the kind begins with a canary again."""
        self.close_kind(kind)
        with self._tx() as connection:
            found = _links(connection)
            self._keep_links({**found, kind: {**found.get(kind, {}), key: at}})

    def forget_links(self, kinds: Collection[Kind]) -> None:
        """Count such answers anew: Keeper has made what was asked for, or a resync has listed it."""
        if not self.links().keys().isdisjoint(kinds):
            with self._tx() as connection:
                self._keep_links({kind: keys for kind, keys in _links(connection).items() if kind not in kinds})

    def _keep_links(self, links: Mapping[Kind, Mapping[str, datetime]]) -> None:
        kept = {kind.value: {key: time_text(at) for key, at in found.items()} for kind, found in links.items()}
        self._set_meta("links", json_text(kept))

    def suspected_kinds(self) -> frozenset[Kind]:
        """The kinds that were closed since Keeper may have replaced what it was to add to, and whose canary has not
        passed since."""
        with self._reading() as connection:
            return _suspected_kinds(connection)

    def _keep_open_kinds(self, kinds: Mapping[Kind, datetime]) -> None:
        self._set_meta("canaries", json_text({kind.value: time_text(at) for kind, at in kinds.items()}))

    def _keep_suspected_kinds(self, kinds: Iterable[Kind]) -> None:
        self._set_meta("suspected_kinds", json_text(sorted(kinds)))

    # Rows, by hand: sqlite-utils, which makes and migrates the tables, takes three times as long for 100,000 of them,
    # and an idle service would hold 2 MiB for it.

    def _insert(self, table: str, row: dict[str, Any]) -> int:
        """Write a new row; returns its id."""
        columns, places = _columns(row)
        cursor = self._connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", tuple(row.values()))
        return int(cursor.lastrowid or 0)

    def _update(self, table: str, row_id: int, values: dict[str, Any]) -> None:
        """Write some columns of the row with this id, which has to be there."""
        columns = ", ".join(f"{column} = ?" for column in values)
        cursor = self._connection.execute(f"UPDATE {table} SET {columns} WHERE id = ?", (*values.values(), row_id))
        if cursor.rowcount != 1:
            raise LookupError(f"{table} has no row {row_id}")

    def _replace(self, table: str, rows: Iterable[dict[str, Any]]) -> None:
        """Write whole rows, whatever was there."""
        rest = iter(rows)
        first = next(rest, None)
        if first is not None:
            columns, places = _columns(first)
            sql = f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({places})"
            self._connection.executemany(sql, (tuple(row.values()) for row in chain([first], rest)))


def _columns(row: dict[str, Any]) -> tuple[str, str]:
    return ", ".join(f'"{column}"' for column in row), ", ".join("?" * len(row))


def meta(connection: sqlite3.Connection, key: str) -> str | None:
    """A small value, within a transaction that is open."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return str(row[0]) if row else None


def _open_kinds(connection: sqlite3.Connection) -> dict[Kind, datetime]:
    """By kind, when its canary passed. Former versions kept no time: such a kind begins with a canary again."""
    found = json.loads(meta(connection, "canaries") or "{}")
    return {Kind(kind): datetime.fromisoformat(at) for kind, at in found.items()} if isinstance(found, dict) else {}


def _suspected_kinds(connection: sqlite3.Connection) -> frozenset[Kind]:
    return frozenset(map(Kind, json.loads(meta(connection, "suspected_kinds") or "[]"))) & _ADDS


def _links(connection: sqlite3.Connection) -> dict[Kind, dict[str, datetime]]:
    """By kind, the answers and their times. Former versions kept no times: such answers count no more."""
    found = json.loads(meta(connection, "links") or "{}")
    return {
        Kind(kind): {key: datetime.fromisoformat(at) for key, at in keys.items()}
        for kind, keys in found.items()
        if isinstance(keys, dict)
    }


def former_operations(connection: sqlite3.Connection) -> int:
    """The id of the last operation under a former binding; 0 if there never was one."""
    return int(meta(connection, "former_operations") or "0")


def rows(connection: sqlite3.Connection, sql: str, *parameters: Any) -> Iterator[sqlite3.Row]:
    """The rows of a query, by column."""
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row
    return iter(cursor.execute(sql, parameters))
