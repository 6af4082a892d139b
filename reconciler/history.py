"""Finds operations in the journal, by person, team, kind, result, time and who decided. Read-only."""

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from reconciler import addresses
from reconciler.migrations import LAST_CHANGE
from reconciler.model import normal
from reconciler.plan import Kind
from reconciler.rows import JournalRow, Request, Run, State, journal_row, request_of, run_of, time_text

RUN_COLUMNS = "id, kind, started_at, started_by, reason, finished_at, result, plan_id, held, counts, error"
_BY_REQUEST = ("release:", "allow:", "adopt:", "disown:")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to find; what is empty does not count.

    `person` is an address, also a former one; `ids` are more ids that are known to be theirs. `team` is a name, of the
    team itself or of one that somebody joined or left. `by` is who decided about the operation, or began its run.
    """

    person: str = ""
    team: str = ""
    kind: Kind | None = None
    result: State | None = None
    by: str = ""
    since: datetime | None = None
    ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation with the run that it belongs to and the request that let it through or led to it, if one did."""

    row: JournalRow
    run: Run | None
    request: Request | None

    @property
    def decided_by(self) -> str:
        """The person who let it through, or whose `adopt` or `disown` led to it; empty where the limits did."""
        if self.request:
            return self.request.by
        return self.run.by if self.run and self.row.decision else ""


@dataclass(frozen=True, slots=True)
class Found:
    """The newest operations that were wanted, the newest first, and how many there are in all."""

    entries: tuple[Entry, ...]
    total: int


def find(connection: sqlite3.Connection, wanted: Wanted, limit: int) -> Found:
    """The operations that are wanted. The caller holds the transaction."""
    connection.create_function("same", 2, _same, deterministic=True)
    connection.create_function("fold", 1, _fold, deterministic=True)
    parts = dict(_conditions(connection, wanted))
    where = " AND ".join(["true", *parts])
    values = [value for values in parts.values() for value in values]
    (total,) = connection.execute(f"SELECT count(*) FROM operations WHERE {where}", values).fetchone()
    sql = f"SELECT * FROM operations WHERE {where} ORDER BY {LAST_CHANGE} DESC, id DESC LIMIT ?"
    rows = [journal_row(row) for row in _rows(connection, sql, *values, limit)]
    runs = _runs(connection, {row.run_id for row in rows})
    requests = _requests(connection, {number for row in rows if (number := _request_id(row.decision))})
    return Found(
        tuple(Entry(row, runs.get(row.run_id), requests.get(_request_id(row.decision))) for row in rows), total
    )


def _same(address: str | None, wanted: str) -> bool:
    return addresses.same(address or "", wanted)


def _fold(name: str | None) -> str:
    """The name of a team as it is looked for: NFC, upper and lower case apart."""
    return normal(name).casefold()


def _conditions(connection: sqlite3.Connection, wanted: Wanted) -> Iterator[tuple[str, tuple[str, ...]]]:
    if wanted.person:
        sql = """
            SELECT jumpcloud_id, keeper_id FROM operations WHERE subject_type = 'user' AND same(subject_name, ?1)
            UNION SELECT jumpcloud_id, keeper_id FROM users WHERE same(json_extract(shown, '$.userName'), ?1)
        """
        ids = _ids(connection, sql, wanted.person, wanted.ids)
        among = "(SELECT value FROM json_each(?))"
        yield f"subject_type = 'user' AND (jumpcloud_id IN {among} OR keeper_id IN {among})", (ids, ids)
    if wanted.team:
        name = _fold(wanted.team)
        sql = """
            SELECT jumpcloud_id, keeper_id FROM operations WHERE subject_type = 'team' AND fold(subject_name) = ?1
            UNION SELECT jumpcloud_id, keeper_id FROM teams
                WHERE ?1 IN (fold(json_extract(shown, '$.displayName')), fold(json_extract(asked, '$.displayName')))
        """
        ids = _ids(connection, sql, name)
        own = "subject_type = 'team' AND (jumpcloud_id IN ids OR keeper_id IN ids)"
        members = " OR ".join(
            f"EXISTS (SELECT 1 FROM json_each({column}) AS team WHERE fold(json_extract(team.value, '$[0]')) = ? "
            "OR json_extract(team.value, '$[1]') IN ids OR json_extract(team.value, '$[2]') IN ids)"
            for column in ("teams_add", "teams_remove")
        )
        yield f"(WITH ids AS (SELECT value FROM json_each(?)) SELECT ({own}) OR {members})", (ids, name, name)
    if wanted.kind:
        yield "kind = ?", (wanted.kind.value,)
    if wanted.result:
        yield "state = ?", (wanted.result.value,)
    if wanted.by:
        runs = "run_id IN (SELECT id FROM runs WHERE started_by = ?)"
        requests = " UNION ".join(f"SELECT '{p}' || id FROM requests WHERE requested_by = ?" for p in _BY_REQUEST)
        yield f"({runs} OR decision IN ({requests}))", (wanted.by,) * (1 + len(_BY_REQUEST))
    if wanted.since:
        yield f"{LAST_CHANGE} >= ?", (time_text(wanted.since),)


def _ids(connection: sqlite3.Connection, sql: str, name: str, more: Collection[str] = ()) -> str:
    """The ids of a subject, as a JSON list: what it was called may change, and two may have had the name."""
    return json.dumps(sorted({found for row in connection.execute(sql, (name,)) for found in row if found}.union(more)))


def _request_id(decision: str) -> int:
    """The request that a decision stands for; 0 where it stands for none."""
    return int(decision.partition(":")[2]) if decision.startswith(_BY_REQUEST) else 0


def _runs(connection: sqlite3.Connection, ids: Collection[int]) -> Mapping[int, Run]:
    sql = f"SELECT {RUN_COLUMNS} FROM runs WHERE id IN (SELECT value FROM json_each(?))"
    return {row["id"]: run_of(row) for row in _rows(connection, sql, json.dumps(sorted(ids)))}


def _requests(connection: sqlite3.Connection, ids: Collection[int]) -> Mapping[int, Request]:
    sql = "SELECT * FROM requests WHERE id IN (SELECT value FROM json_each(?))"
    return {row["id"]: request_of(row) for row in _rows(connection, sql, json.dumps(sorted(ids)))}


def _rows(connection: sqlite3.Connection, sql: str, *parameters: str | int) -> Iterator[sqlite3.Row]:
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row
    return iter(cursor.execute(sql, parameters))
