"""The journal's memory of access: the owner of each lock, and creations that Keeper linked to another account.

Every query reads what belongs to the present binding only: the operations after `:former`.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from reconciler.births import LINKED, beside, not_done, without_lock
from reconciler.keeper_errors import NotFound
from reconciler.migrations import LAST_CHANGE
from reconciler.model import RefusedBirth, RefusedTeam
from reconciler.plan import Kind, Operation, Rule
from reconciler.promise import NOT_HERE
from reconciler.rows import GONE, LOCKED_BEFORE, JournalRow, State, journal_row, time_of, time_text
from reconciler.store.base import OpenFile, former_operations, meta, rows

AGREED = "agreed_births"
"""Under which the state file keeps the journal ids of refused creations that a person has let be repeated."""
_KINDS = "('create_user', 'deactivate_user', 'reactivate_user')"
# The lists that denied a lock may have been behind: that is known a day later. Where the account was gone before
# anything told, a lock may show once it is back. A lock that was answered with 404, or not sent, is no lock.
_DENIED_LATELY = """
    state = 'failed' AND outcome = 'settled' AND finished_at >= strftime(
        '%Y-%m-%dT%H:%M:%f', (SELECT started_at FROM runs ORDER BY id DESC LIMIT 1), '-1 day')
"""
_GONE_UNTOLD = f"state = 'done' AND outcome = '{GONE}' AND error = '{NOT_HERE}'"
_UNANSWERED = f"state IN ('sent', 'unknown') AND outcome <> '{NotFound.name}'"
_UNCLEAR = f"kind = 'deactivate_user' AND (({_UNANSWERED}) OR ({_GONE_UNTOLD}) OR ({_DENIED_LATELY}))"
_COUNTS = f"((state = 'done' AND error <> '{NOT_HERE}' AND outcome <> '{LOCKED_BEFORE}') OR ({_UNCLEAR}))"
# Our newest change of a person's access says nothing of another account of theirs, nor of one that is somebody else's
# by now.
_LOCKED = """
    CASE WHEN kind = 'deactivate_user' AND NOT EXISTS (
        SELECT 1 FROM users WHERE users.keeper_id = operations.keeper_id
        AND '' NOT IN (users.jumpcloud_id, operations.jumpcloud_id) AND users.jumpcloud_id <> operations.jumpcloud_id)
    THEN keeper_id ELSE '' END
"""
NEWEST_ACCESS = f"""
    SELECT max(id) FROM operations WHERE id > :former AND subject_type = 'user' AND kind IN {_KINDS} AND {_COUNTS}
    GROUP BY subject_key
    UNION
    SELECT max(id) FROM operations WHERE id > :former AND kind = 'create_user' AND state NOT IN ('planned', 'put_off')
    GROUP BY subject_key
"""
"""The ids of the newest operation on each person's access that had an effect or may have had one, and of the newest
creation of each that was sent."""

UNCLEAR_LOCKS = f"""
    SELECT *, NULL AS left_at, '' AS pilot_entries FROM operations WHERE {_UNCLEAR} AND id IN (
        SELECT max(id) FROM operations WHERE id > :former AND kind IN {_KINDS} AND {_COUNTS} GROUP BY subject_key)
    ORDER BY id
"""
"""The locks of which nothing has told yet, where no change of that person's access has come later; what a file of an
older version lacks is empty."""


class Access(OpenFile):
    """The memory of each person's access."""

    def former(self) -> int:
        """The newest journal id of before the file was bound anew (see `Snapshots.rebind`), 0 where it never was."""
        with self._reading() as connection:
            return former_operations(connection)

    def let_in_since(self, since: datetime) -> frozenset[str]:
        """The keys of whoever we have let in again, or may have, since then."""
        with self._reading() as connection:
            sql = f"""
                SELECT DISTINCT subject_key FROM operations
                WHERE (kind = 'reactivate_user' OR (kind = 'create_user' AND rule = '{Rule.RETURNED.value}'))
                AND state IN ('sent', 'unknown', 'done') AND {LAST_CHANGE} >= ? AND id > ?
            """
            values = (time_text(since), former_operations(connection))
            return frozenset(key for (key,) in connection.execute(sql, values))

    def in_trouble(self) -> frozenset[str]:
        """The keys of whoever's operations have failed, or have no known outcome, since the last that was done."""
        with self._reading() as connection:
            sql = """
                SELECT DISTINCT subject_key FROM operations AS last
                WHERE state IN ('failed', 'unknown') AND id > ? AND id > coalesce(
                    (SELECT max(id) FROM operations WHERE state = 'done' AND subject_key = last.subject_key), 0)
            """
            return frozenset(key for (key,) in connection.execute(sql, (former_operations(connection),)))

    def may_be_there(self, key: str, before: int) -> bool:
        """Whether this person may have been created before this journal id: a creation had no clear answer, and that it
        never arrived is what a list said later."""
        with self._reading() as connection:
            values = {"key": key, "before": before, "former": former_operations(connection)}
            sql = """
                SELECT 1 FROM operations WHERE subject_key = :key AND id > :former AND id < :before
                AND kind = 'create_user' AND outcome = 'settled' LIMIT 1
            """
            return connection.execute(sql, values).fetchone() is not None

    def agree_to_births(self, people: Iterable[str]) -> None:
        """Record that a person lets the refused creations of these people (JumpCloud ids) be repeated."""
        with self._tx() as connection:
            found = newest_refused(connection, former_operations(connection), Kind.CREATE_USER)
            numbers = {number for person, number in found.items() if person in set(people)}
            kept = set(found.values()) & set(json.loads(meta(connection, AGREED) or "[]"))
            self._set_meta(AGREED, json.dumps(sorted(kept | numbers)))


def newest_refused(connection: sqlite3.Connection, former: int, kind: Kind) -> dict[str, int]:
    """By JumpCloud id, the newest creation, or queueing, that Keeper answered with what is not new. A later one that
    failed otherwise, or has no known outcome, ends neither the refusal nor what a person agreed to."""
    return {key: number for key, number, ended in _newest_linked(connection, former, kind) if not ended}


def _newest_linked(connection: sqlite3.Connection, former: int, kind: Kind) -> list[tuple[str, int, int]]:
    """The JumpCloud id and journal id of each, and whether a later one that was done has ended the refusal."""
    sql = """
        SELECT jumpcloud_id, id, EXISTS (
            SELECT 1 FROM operations AS later WHERE later.subject_key = made.subject_key AND later.kind = :kind
            AND later.state = 'done' AND later.id > made.id)
        FROM operations AS made
        WHERE state = 'failed' AND outcome = :linked AND kind = :kind AND keeper_id <> '' AND id > :former
        AND id = (SELECT max(id) FROM operations AS newest WHERE newest.subject_key = made.subject_key
                  AND newest.kind = :kind AND newest.outcome = :linked)
    """
    return connection.execute(sql, {"linked": LINKED, "kind": kind.value, "former": former}).fetchall()


def refused_births(connection: sqlite3.Connection, former: int) -> dict[str, RefusedBirth]:
    """By JumpCloud id, the newest creation where Keeper linked it to an account that is not new."""
    agreed = set(json.loads(meta(connection, AGREED) or "[]"))
    return {
        person: RefusedBirth(name, keeper_id, bool(name) and number in agreed, undo, at)
        for person, number, name, keeper_id, _, at, undo in _refused(connection, former, Kind.CREATE_USER)
    }


def refused_teams(connection: sqlite3.Connection, former: int) -> dict[str, RefusedTeam]:
    """By the JumpCloud id of the group, the newest queueing where Keeper answered it with a team that is not new."""
    return {
        group: RefusedTeam(name, keeper_id, words, undo, at)
        for group, _, name, keeper_id, words, at, undo in _refused(connection, former, Kind.QUEUE_TEAM)
    }


def _refused(
    connection: sqlite3.Connection, former: int, kind: Kind
) -> Iterator[tuple[str, int, str, str, str, datetime | None, Operation | None]]:
    """Yield the newest refused creations: the JumpCloud id and journal id, the name that it asked for, the id that it
    was answered with, words for it, its time, and what is still to be undone of it. For one that has ended, name and
    words are empty, and it is yielded as long as something of it is to be undone."""
    refused = _newest_linked(connection, former, kind)
    later = _later(connection, min(number for _, number, _ in refused)) if refused else {}
    sql = "SELECT subject_name, keeper_id, error, coalesce(sent_at, planned_at) FROM operations WHERE id = ?"
    for key, number, ended in refused:
        name, keeper_id, words, at = connection.execute(sql, (number,)).fetchone()
        undo = _open_undo([row for row in later.get(keeper_id, ()) if row.id > number])
        if not ended:
            yield key, number, name, keeper_id, words, time_of(at), undo
        elif undo is not None:
            yield key, number, "", keeper_id, "", time_of(at), undo


def _later(connection: sqlite3.Connection, number: int) -> dict[str, list[JournalRow]]:
    """By Keeper id, what has undone, or may have locked or unlocked, that to which Keeper linked creations, since a
    journal id. All of it is read at once: nothing else finds an operation by its Keeper id."""
    sql = f"""
        SELECT * FROM operations WHERE id > ? AND (rule = '{Rule.UNDONE.value}'
        OR (kind IN ('deactivate_user', 'reactivate_user') AND state IN ('sent', 'unknown', 'done')))
        AND keeper_id IN (SELECT keeper_id FROM operations WHERE state = 'failed' AND outcome = '{LINKED}')
        ORDER BY id
    """
    found: dict[str, list[JournalRow]] = {}
    for row in map(journal_row, rows(connection, sql, number)):
        found.setdefault(row.operation.subject.keeper_id, []).append(row)
    return found


def _open_undo(found: Sequence[JournalRow]) -> Operation | None:
    """The rest that is still to be done of undoing a refused creation, by what was sent since for that account or team.

    Keeper may have refused the whole, and taken a part; or only a part was due when it was tried, since it was not
    clear which teams its owner is to have. Another creation may have been linked to it too: its undo counts as a part
    of this one until it is done, and ends what it has given back by then. Once we may have locked or unlocked the
    account since, a lock that the link had undone is not set again.
    """
    left: Operation | None = None
    for row in found:
        if row.operation.rule is not Rule.UNDONE:
            left = left and without_lock(left)
        elif row.state is State.DONE:
            left = left and not_done(left, row.operation)
        else:
            part = beside(row.operation, left) if left else row.operation
            left = left.joined(part) if left and part else left or part
    return left


def own_locks(connection: sqlite3.Connection, former: int) -> frozenset[str]:
    """The Keeper ids of accounts on which a lock that is found is ours (see `Snapshot.own_locks`)."""
    sql = f"""
        SELECT DISTINCT (
            SELECT {_LOCKED} FROM operations WHERE subject_key = one.subject_key AND id > :former AND kind IN {_KINDS}
            AND {_COUNTS} ORDER BY id DESC LIMIT 1)
        FROM (
            SELECT subject_key FROM operations
            WHERE state IN ('sent', 'unknown', 'failed') AND id > :former AND {_UNCLEAR}
            UNION SELECT subject_key FROM operations WHERE subject_key IN (
                SELECT jumpcloud_id FROM users WHERE gone = 1 AND standing = 'managed'
                UNION SELECT keeper_id FROM users WHERE gone = 1 AND standing = 'managed')
            AND kind = 'deactivate_user' AND {_GONE_UNTOLD} AND id > :former
        ) AS one
    """
    return frozenset(locked for (locked,) in connection.execute(sql, {"former": former}) if locked)


def locked_out(connection: sqlite3.Connection, former: int) -> frozenset[str]:
    """The keys of people without an account whom we have locked last (see `Snapshot.locked_out`). What was sent for a
    former account of theirs says nothing, nor does a lock of which nothing told before the account was gone."""
    sql = f"""
        SELECT jumpcloud_id FROM users WHERE gone = 1 AND locked_by_us = 1 AND (
            SELECT iif({_GONE_UNTOLD}, 'untold', kind) FROM operations
            WHERE subject_key = users.jumpcloud_id AND (kind = 'create_user' OR operations.keeper_id = users.keeper_id)
            AND id > :former AND kind IN {_KINDS} AND {_COUNTS}
            ORDER BY id DESC LIMIT 1) = 'deactivate_user'
    """
    return frozenset(key for (key,) in connection.execute(sql, {"former": former}))
