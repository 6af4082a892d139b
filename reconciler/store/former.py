"""Keeps, in a copy of the state file, some of what the file knew in whose place it is put.

That file may be damaged, or of another version: each of its rows is read into our types, and one that can't be read so
tells nothing. It may be the reason for restoring a copy, which must stay readable.
"""

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from reconciler.plan import Kind
from reconciler.rows import (
    JournalRow,
    Request,
    State,
    account_row,
    journal_row,
    json_text,
    operation_row,
    own_lock_of,
    request_of,
    time_text,
)
from reconciler.store.access import UNCLEAR_LOCKS
from reconciler.store.base import UNREADABLE

T = TypeVar("T")


def keep(copy: sqlite3.Connection, former: sqlite3.Connection) -> None:
    """Keep what the former file knew of the locks that were set or undone since the copy was made: whom we locked is
    unlocked on return, and a lock of somebody else, perhaps to transfer the vault, is left alone. So are locks kept of
    which nothing has told yet, for the next list to tell. Keep its pauses, too: nothing is sent until a person resumes.
    And the kinds of which a canary has to tell more."""
    bindings = [_told(file, _META, lambda row: row["value"], key="binding") for file in (copy, former)]
    if bindings[0] == bindings[1]:
        last = _told(former, _META, lambda row: int(row["value"]), key="former_operations")
        for row in _told(former, _LOCKS, dict):
            _write(copy, _KEEP_LOCK, row)
        for row in _told(former, _OWN_LOCKS, lambda row: account_row(own_lock_of(row))):
            _write(copy, _inserting("users", row) + _AS_OWN_LOCK, row)
        for row in _told(former, UNCLEAR_LOCKS, lambda row: _lock_row(journal_row(row)), former=max(last, default=0)):
            _write(copy, _DROP_PLANNED, row)
            _write(copy, _inserting("operations", row) + _UNLESS_KNOWN, row)
        for row in _told(former, _META, _kinds, key="suspected_kinds"):
            _write(copy, _KEEP_META, row)
    if not _told(copy, _PAUSES, request_of):
        for row in _told(former, _PAUSES, lambda row: _pause_row(request_of(row))):
            _write(copy, _inserting("requests", row), row)


def _told(file: sqlite3.Connection, sql: str, made: Callable[[sqlite3.Row], T], **values: Any) -> list[T]:
    """Return the rows of a query, each as `made` reads it; rows that can not be read so are left out."""
    cursor = file.cursor()
    cursor.row_factory = sqlite3.Row
    found: list[T] = []
    with suppress(sqlite3.DatabaseError):
        for row in cursor.execute(sql, values):
            with suppress(*UNREADABLE):
                found.append(made(row))
    return found


def _write(copy: sqlite3.Connection, sql: str, row: Mapping[str, Any]) -> None:
    """Write a row, unless it holds what no row may hold."""
    with suppress(sqlite3.IntegrityError):
        copy.execute(sql, row)


def _inserting(table: str, row: Mapping[str, Any]) -> str:
    return f"INSERT INTO {table} ({', '.join(row)}) SELECT {', '.join(f':{column}' for column in row)}"


def _kinds(row: sqlite3.Row) -> dict[str, Any]:
    """Those of the kinds that this version knows."""
    known = [kind for kind in json.loads(row["value"]) if kind in set(Kind)]
    return {"key": "suspected_kinds", "value": json_text(known)}


def _lock_row(lock: JournalRow) -> dict[str, Any]:
    """A lock, for a journal that does not know its run; what a person decided about it does not count any more."""
    return {
        "run_id": 0,
        "state": State.SENT if lock.state is State.SENT else State.UNKNOWN,
        **operation_row(lock.operation),
        "decision": "",
        **{name: time_text(at) if (at := getattr(lock, name)) else None for name in _TIMES},
        "outcome": lock.outcome,
        "error": lock.error,
    }


def _pause_row(pause: Request) -> dict[str, Any]:
    return {
        "kind": pause.kind,
        "state": pause.state,
        "result": "",
        "arguments": json_text(pause.arguments),
        "requested_by": pause.by,
        "at": time_text(pause.at),
        "reason": pause.reason,
    }


_TIMES = ("planned_at", "sent_at", "finished_at", "left_at")
_SAME = """
    kind = :kind AND subject_key = :subject_key AND keeper_id = :keeper_id AND planned_at = :planned_at
"""
# By the copy it may still be to be sent, where that was made just then.
_DROP_PLANNED = f"DELETE FROM operations WHERE state = 'planned' AND {_SAME}"
_UNLESS_KNOWN = f" WHERE NOT EXISTS (SELECT 1 FROM operations WHERE {_SAME})"
_META = "SELECT value FROM meta WHERE key = :key"
_KEEP_META = "INSERT OR REPLACE INTO meta (key, value) VALUES (:key, :value)"
# What a file of an older version lacks is empty.
_PAUSES = "SELECT *, NULL AS lasts FROM requests WHERE kind = 'pause' AND state = 'open'"
_USERS = "(SELECT *, 0 AS others_lock FROM users)"
# As Keeper showed the accounts last, also those that are gone.
_LOCKS = f"""
    SELECT keeper_id, jumpcloud_id, iif(gone, NOT (locked_by_us OR others_lock), active) = 1 AS active,
        locked_by_us AND NOT (gone AND others_lock) AS locked_by_us
    FROM {_USERS} WHERE standing = 'managed'
"""
# Whether an account is in this node the next list tells.
_KEEP_LOCK = """
    UPDATE users SET active = :active, locked_by_us = :locked_by_us, gone = 0
    WHERE keeper_id = :keeper_id AND jumpcloud_id = :jumpcloud_id AND standing = 'managed'
    AND (locked_by_us <> :locked_by_us OR (active <> :active AND NOT gone))
"""
# One that is nobody's and locked by us was its owner's until they had another, or is what a former restore has kept.
_OWN_LOCKS = f"""
    SELECT keeper_id, shown, iif(standing = 'managed', json_object('externalId', jumpcloud_id), asked) AS asked
    FROM {_USERS} WHERE locked_by_us AND NOT (gone AND others_lock)
    AND (standing = 'unmanaged' OR (standing = 'managed' AND jumpcloud_id <> ''))
"""
# An account that nobody manages by the copy, or that it lacks, is matched anew, with whose it was: Keeper may keep no
# id that shows it, and whoever has its address by now must not get it.
_AS_OWN_LOCK = """
    WHERE true ON CONFLICT (keeper_id) DO UPDATE SET active = 0, locked_by_us = 1, asked = excluded.asked
    WHERE standing = 'unmanaged'
"""
