"""The state of one tenant in SQLite: the snapshot of Keeper, the runs, the journal, the requests.

One writer, and readers at any time (see `statefile` for the file itself). What is read in one call is of one moment;
what is written in one call is written as a whole or not at all, and is on the disk when the call returns. Every
method raises `StateError` where the file can't be read or written.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from reconciler import statefile
from reconciler.history import RUN_COLUMNS, Found, Wanted, find
from reconciler.inventory import from_json, to_json
from reconciler.migrations import LAST_CHANGE
from reconciler.model import Account, Failure, Inventory, Snapshot, Team
from reconciler.plan import Kind, Operation
from reconciler.rows import (
    ACCOUNT_COLUMNS,
    JournalRow,
    Request,
    Run,
    State,
    account_row,
    accounts_of,
    journal_row,
    json_text,
    membership_row,
    operation_row,
    request_of,
    run_of,
    team_of,
    team_row,
    time_of,
    time_text,
)
from reconciler.statefile import Damaged, Foreign, InUse, Newer, StateError, Unusable, WrongBinding

if TYPE_CHECKING:
    from sqlite_utils.db import Database, Table

__all__ = [
    "Binding",
    "Damaged",
    "Foreign",
    "InUse",
    "JournalRow",
    "Newer",
    "Request",
    "Run",
    "State",
    "StateError",
    "Store",
    "Unusable",
    "WrongBinding",
]

T = TypeVar("T")

COPIES = 7
"""How many daily copies of the state file are kept."""
QUIET_RUNS = timedelta(days=7)
"""How long a run is remembered that did nothing: a year has 100,000 of them."""
_GOOD_READ = "result NOT IN ('', 'failed', 'stopped')"
_NOBODY: Mapping[str, datetime] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Binding:
    """What a state file belongs to: one organisation, one application in it, one Keeper node (its SCIM address)."""

    organization: str
    application_id: str
    keeper: str


_BINDING_WORDS = {
    "organization": "JumpCloud organisation",
    "application_id": "JumpCloud application",
    "keeper": "Keeper node",
}


class Store:
    """An open state file; see the module."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: int | None, *, beside: bool = False) -> None:
        self.path = path
        self._connection = connection
        self._lock = lock
        self._beside = beside

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, write: bool, takes_requests: bool = False) -> Self:
        """Open the state file, as the one writer or as one of many readers.

        A writer makes the file (and its directory) where there is none, and migrates it; a daemon tells others that
        it `takes_requests`. A reader takes no lock and writes nothing; a missing file is an empty state to it. Raises
        `StateError`.
        """
        resolved = Path(path).resolve()
        if not write:
            return cls(resolved, statefile.open_for_reading(resolved), None)
        return cls(resolved, *statefile.open_for_writing(resolved, takes_requests=takes_requests))

    @classmethod
    def beside(cls, path: str | os.PathLike[str]) -> Self:
        """Open the state file beside the writer that has it in use, to file requests and decisions for it to find.

        Raises `StateError`, also where there is no file yet.
        """
        resolved = Path(path).resolve()
        return cls(resolved, statefile.open_beside(resolved), None, beside=True)

    @classmethod
    def restore(cls, path: str | os.PathLike[str], copy: Path) -> Path | None:
        """Go back to a copy of the state file; returns the name under which the present one is kept, if there is one.

        What was done since the copy was made is not known any more: the next cycle is a resync, and a first plan again
        that a person reviews. Raises `StateError`.
        """
        resolved = Path(path).resolve()
        former = statefile.restore(resolved, copy)
        with cls.open(resolved, write=True) as store, store._tx() as connection:
            connection.execute("DELETE FROM meta WHERE key IN ('reviewed', 'read_at')")
            connection.execute(
                "UPDATE requests SET state = 'lapsed' WHERE state IN ('open', 'filed', 'taken') AND kind <> 'pause'"
            )
        return former

    @property
    def in_use(self) -> bool:
        """Whether somebody, this process or another one, has the file open for writing."""
        return statefile.is_in_use(self.path)

    def data_version(self) -> int:
        """A number that changes when another process has written."""
        with statefile.translated(self.path):
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            return int(version)

    @property
    def writable(self) -> bool:
        """Whether this is the one writer."""
        return self._lock is not None

    def close(self) -> None:
        """Close the file and give the lock back."""
        if self._lock is None and not self._beside:
            self._connection.close()
            return
        statefile.put_to_rest(self._connection)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Transactions

    @cached_property
    def _db(self) -> "Database":
        from sqlite_utils import Database  # 0.2 s, which readers need not spend

        return Database(self._connection)

    def _table(self, name: str) -> "Table":
        return self._db.table(name)

    def _insert(self, table: str, row: dict[str, Any]) -> int:
        new_id: Any = self._table(table).insert(row).last_pk
        return int(new_id)

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
        with statefile.translated(self.path):
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
        """One moment for all that is read within; what can't be decoded is damage."""
        if self._connection.in_transaction:
            yield self._connection
            return
        with statefile.translated(self.path):
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            except (ValueError, LookupError, TypeError) as error:
                raise Damaged(self.path, f"a row can't be read ({error!r})") from error
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("COMMIT")

    # Small values

    def meta(self, key: str) -> str | None:
        """A small value that was kept under this key."""
        with self._reading() as connection:
            return _meta(connection, key)

    def set_meta(self, key: str, value: str) -> None:
        """Keep a small value under this key."""
        with self._tx():
            self._set_meta(key, value)

    def _set_meta(self, key: str, value: str) -> None:
        self._table("meta").upsert({"key": key, "value": value}, pk="key")

    def passed_canaries(self) -> frozenset[Kind]:
        """The kinds of operations whose canary has passed on this node."""
        with self._reading() as connection:
            return frozenset(map(Kind, json.loads(_meta(connection, "canaries") or "[]")))

    def pass_canary(self, kind: Kind) -> None:
        """Remember that the canary of this kind has passed."""
        with self._tx() as connection:
            passed = {kind.value, *json.loads(_meta(connection, "canaries") or "[]")}
            self._set_meta("canaries", json_text(sorted(passed)))

    # The binding

    def binding(self) -> Binding | None:
        """What the file is bound to, None as long as nothing was."""
        with self._reading() as connection:
            text = _meta(connection, "binding")
            return Binding(**json.loads(text)) if text else None

    def check(self, binding: Binding) -> None:
        """Raise `WrongBinding` if the file is bound to something else; an unbound file passes."""
        found = self.binding()
        if found is None or found == binding:
            return
        settings = asdict(binding)
        differing = [
            f"{_BINDING_WORDS[key]} {value or '(none)'}, while the settings lead to {settings[key] or '(none)'}"
            for key, value in asdict(found).items()
            if value != settings[key]
        ]
        raise WrongBinding(self.path, "it belongs to " + "; and to ".join(differing))

    def bind(self, binding: Binding) -> None:
        """Bind an unbound file; raises `WrongBinding` if it is bound to something else."""
        self.check(binding)
        self.set_meta("binding", json_text(asdict(binding)))

    def rebind(self, binding: Binding, at: datetime) -> None:
        """Bind the file anew: the snapshot, the canaries and the review are forgotten, the history is kept.

        What was left unfinished towards the former node is closed, and what the journal knows of failures and
        unsettled teams no longer counts. Open releases and announcements lapse.
        """
        with self._tx() as connection:
            for table in ("users", "teams", "memberships"):
                connection.execute(f"DELETE FROM {table}")
            connection.execute("DELETE FROM meta WHERE key IN ('canaries', 'reviewed', 'read_at', 'inventory')")
            for former, state in ((State.PLANNED, State.PUT_OFF), (State.SENT, State.UNKNOWN)):
                connection.execute(
                    "UPDATE operations SET state = ?, finished_at = ?, outcome = ?, error = ? WHERE state = ?",
                    (state, time_text(at), "rebound", "the state file was bound to something else", former),
                )
            connection.execute(
                "UPDATE requests SET state = 'lapsed', closed_at = ? "
                "WHERE state = 'open' AND kind IN ('release', 'allow')",
                (time_text(at),),
            )
            (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM operations").fetchone()
            self._set_meta("former_operations", str(last))
            self._set_meta("binding", json_text(asdict(binding)))

    # The snapshot

    def snapshot(self) -> Snapshot:
        """What Keeper held when we last spoke to it, with what the journal knows of failures and unsettled teams."""
        with self._reading() as connection:
            teams = map(team_of, _rows(connection, "SELECT * FROM teams"))
            former = _former_operations(connection)
            return Snapshot(
                accounts=accounts_of(
                    connection.execute(f"SELECT {ACCOUNT_COLUMNS} FROM users"),
                    connection.execute('SELECT "user", team, ours, seen, shown, asked_at, found FROM memberships'),
                ),
                teams={team.keeper_id: team for team in teams},
                unsettled_teams=_unsettled_teams(connection, former),
                failures=_failures(connection, former),
                reviewed=_meta(connection, "reviewed") == "1",
                read_at=time_of(_meta(connection, "read_at")),
                inventory=from_json(kept) if (kept := _meta(connection, "inventory")) else None,
            )

    def keep_inventory(self, inventory: Inventory | None) -> None:
        """Keep what the inventory command printed last, or forget it."""
        with self._tx() as connection:
            if inventory is None:
                connection.execute("DELETE FROM meta WHERE key = 'inventory'")
            else:
                self._set_meta("inventory", to_json(inventory))

    def save(self, snapshot: Snapshot, before: Snapshot) -> None:
        """Write what differs between the two; `before` is what the file holds, as `snapshot` gave it or `save` got it.

        `unsettled_teams` and `failures` come from the journal and are not written, nor is the inventory.
        """
        with self._tx():
            self._put_accounts(_differing(snapshot.accounts, before.accounts), before.accounts)
            self._drop_accounts(before.accounts.keys() - snapshot.accounts.keys())
            self._put_teams(_differing(snapshot.teams, before.teams))
            self._drop_teams(before.teams.keys() - snapshot.teams.keys())
            if snapshot.reviewed != before.reviewed:
                self._set_meta("reviewed", "1" if snapshot.reviewed else "0")
            if snapshot.read_at != before.read_at and snapshot.read_at is not None:
                self._set_meta("read_at", time_text(snapshot.read_at))

    def put(
        self,
        accounts: Iterable[Account] = (),
        teams: Iterable[Team] = (),
        drop_accounts: Iterable[str] = (),
        drop_teams: Iterable[str] = (),
    ) -> None:
        """Write these rows whatever was there, and delete those with these Keeper ids."""
        with self._tx():
            self._put(accounts, teams, drop_accounts, drop_teams)

    def _put(
        self,
        accounts: Iterable[Account],
        teams: Iterable[Team],
        drop_accounts: Iterable[str],
        drop_teams: Iterable[str],
    ) -> None:
        accounts = list(accounts)
        self._connection.executemany(
            'DELETE FROM memberships WHERE "user" = ?', [(account.keeper_id,) for account in accounts]
        )
        self._put_accounts(accounts, {})
        self._drop_accounts(drop_accounts)
        self._put_teams(teams)
        self._drop_teams(drop_teams)

    def _put_accounts(self, accounts: Iterable[Account], before: Mapping[str, Account]) -> None:
        accounts = list(accounts)
        self._replace("users", map(account_row, accounts))
        gone: list[tuple[str, str]] = []
        changed: list[dict[str, Any]] = []
        for account in accounts:
            old = before.get(account.keeper_id)
            known = old.memberships if old else {}
            gone += [(account.keeper_id, team) for team in known if team not in account.memberships]
            changed += [
                membership_row(account.keeper_id, team, membership)
                for team, membership in account.memberships.items()
                if known.get(team) != membership
            ]
        self._connection.executemany('DELETE FROM memberships WHERE "user" = ? AND team = ?', gone)
        self._replace("memberships", changed)

    def _drop_accounts(self, keeper_ids: Iterable[str]) -> None:
        ids = [(keeper_id,) for keeper_id in keeper_ids]
        self._connection.executemany('DELETE FROM memberships WHERE "user" = ?', ids)
        self._connection.executemany("DELETE FROM users WHERE keeper_id = ?", ids)

    def _put_teams(self, teams: Iterable[Team]) -> None:
        self._replace("teams", map(team_row, teams))

    def _drop_teams(self, keeper_ids: Iterable[str]) -> None:
        self._connection.executemany("DELETE FROM teams WHERE keeper_id = ?", [(i,) for i in keeper_ids])

    def _replace(self, table: str, rows: Iterable[dict[str, Any]]) -> None:
        """Write whole rows, whatever was there. By hand: for 100,000 of them sqlite-utils takes three times as long."""
        rest = iter(rows)
        first = next(rest, None)
        if first is not None:
            columns = ", ".join(f'"{column}"' for column in first)
            sql = f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({', '.join('?' * len(first))})"
            self._connection.executemany(sql, (tuple(row.values()) for row in chain([first], rest)))

    # Runs

    def begin_run(self, kind: str, started_at: datetime, by: str, reason: str) -> int:
        """Record that a run begins; returns its id."""
        with self._tx():
            row = {
                "kind": kind,
                "started_at": time_text(started_at),
                "started_by": by,
                "reason": reason,
                "result": "",
                "plan_id": "",
                "held": 0,
                "counts": "{}",
            }
            return self._insert("runs", row)

    def finish_run(
        self,
        run_id: int,
        at: datetime,
        result: str,
        *,
        counts: Mapping[str, int] | None = None,
        plan_id: str = "",
        held: int = 0,
        document: str | None = None,
        kind: str = "",
        error: str = "",
    ) -> None:
        """Record how a run ended, with the number of operations held, and the plan document (JSON) if worth keeping.

        `kind` is what it turned out to be, `error` why it failed. Of runs with the same plan only the newest keeps the
        document: a plan may be held for days.
        """
        with self._tx() as connection:
            if document is not None:
                # What was held stays to be released as long as nothing came of it.
                connection.execute(
                    "UPDATE runs SET document = NULL WHERE plan_id = ? AND (held = 0 OR ? > 0)", (plan_id, held)
                )
            row = {
                "finished_at": time_text(at),
                "result": result,
                "counts": json_text(dict(counts or {})),
                "plan_id": plan_id,
                "held": held,
                "document": document,
                "error": error,
            }
            self._table("runs").update(run_id, row | ({"kind": kind} if kind else {}))

    def runs(self, limit: int) -> list[Run]:
        """The newest runs, the newest first."""
        with self._reading() as connection:
            return [
                run_of(row)
                for row in _rows(connection, f"SELECT {RUN_COLUMNS} FROM runs ORDER BY id DESC LIMIT ?", limit)
            ]

    def last_good_read(self) -> datetime | None:
        """When the newest run over everybody began that read both sides."""
        with self._reading() as connection:
            sql = f"SELECT max(started_at) FROM runs WHERE {_GOOD_READ} AND kind <> 'person'"
            return time_of(connection.execute(sql).fetchone()[0])

    def held_run(self, plan_id: str | None = None) -> Run | None:
        """The newest run over everybody that read both sides, if it held operations; or, while it did, the newest that
        held this plan."""
        sql = f"SELECT {RUN_COLUMNS} FROM runs WHERE {_GOOD_READ} AND kind <> 'person'"
        with self._reading() as connection:
            newest = next(map(run_of, _rows(connection, f"{sql} ORDER BY id DESC LIMIT 1")), None)
            if newest is None or not newest.held or plan_id in (None, newest.plan_id):
                return newest if newest is not None and newest.held else None
            older = f"{sql} AND held > 0 AND document IS NOT NULL AND plan_id = ? ORDER BY id DESC LIMIT 1"
            return next(map(run_of, _rows(connection, older, plan_id)), None)

    def held_now(self) -> tuple[Run, datetime] | None:
        """The run whose held operations wait, and since when such runs follow on each other without a break."""
        run = self.held_run()
        if run is None:
            return None
        free = f"SELECT max(id) FROM runs WHERE {_GOOD_READ} AND kind <> 'person' AND held = 0"
        before = f"held > 0 AND kind <> 'person' AND id > coalesce(({free}), 0) AND id < ?"
        sql = f"SELECT started_at FROM runs WHERE {before} ORDER BY id DESC"
        since = run.started_at
        with self._reading() as connection:
            for (text,) in connection.execute(sql, (run.id,)):
                at = datetime.fromisoformat(text)
                if since - at > timedelta(days=1):
                    break  # another hold: the runs between the two did nothing and are forgotten by now
                since = at
        return run, since

    def document(self, run_id: int) -> str | None:
        """The plan document (JSON) that was kept with a run."""
        with self._reading() as connection:
            row = connection.execute("SELECT document FROM runs WHERE id = ?", (run_id,)).fetchone()
            return row[0] if row else None

    def under_way(self) -> tuple[int, int]:
        """Of the operations of the newest run, how many have an outcome, and how many there are."""
        sql = """
            SELECT count(CASE WHEN state NOT IN ('planned', 'sent') THEN 1 END), count(*) FROM operations
            WHERE run_id = (SELECT max(id) FROM runs)
        """
        with self._reading() as connection:
            done, total = connection.execute(sql).fetchone()
            return done, total

    # The journal

    def write_ahead(
        self,
        run_id: int,
        operations: Sequence[Operation],
        decisions: Mapping[int, str],
        at: datetime,
        left: Mapping[str, datetime] = _NOBODY,
    ) -> list[int]:
        """Write the operations to the journal before the first is sent; returns their ids, in order.

        `decisions`: by index, what a person decided to let an operation through. `left`: by Keeper id, since when a
        person who is locked is known to be out of scope. Raises `Unusable` where the disk is nearly full: nothing is
        sent whose outcome might not be recorded.
        """
        if operations:
            statefile.make_sure_of_room(self.path, len(operations))
        with self._tx() as connection:
            (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM operations").fetchone()
            ids = [last + 1 + index for index in range(len(operations))]
            rows = (
                {
                    "id": ids[index],
                    "run_id": run_id,
                    "state": State.PLANNED.value,
                    **operation_row(operation),
                    "decision": decisions.get(index, ""),
                    "planned_at": time_text(at),
                    "left_at": _left(operation, left),
                    "outcome": "",
                    "error": "",
                }
                for index, operation in enumerate(operations)
            )
            self._replace("operations", rows)
            return ids

    def mark_sent(self, operation_id: int, at: datetime) -> None:
        """Record that an operation is about to be sent: from now on its outcome is unknown."""
        with self._tx():
            row = {"state": State.SENT.value, "sent_at": time_text(at)}
            self._table("operations").update(operation_id, row)

    def record(
        self,
        operation_id: int,
        state: State,
        at: datetime,
        outcome: str,
        error: str = "",
        *,
        accounts: Iterable[Account] = (),
        teams: Iterable[Team] = (),
        drop_accounts: Iterable[str] = (),
        drop_teams: Iterable[str] = (),
    ) -> None:
        """Record what became of an operation, together with its effect on the snapshot (as for `put`)."""
        with self._tx():
            row = {"state": state.value, "finished_at": time_text(at), "outcome": outcome, "error": error}
            self._table("operations").update(operation_id, row)
            self._put(accounts, teams, drop_accounts, drop_teams)

    def unfinished(self) -> list[JournalRow]:
        """The operations whose outcome is not known: those that a crash left planned or sent, and those that are
        unknown since Keeper was asked last. The oldest first."""
        with self._reading() as connection:
            sql = "SELECT * FROM operations WHERE state IN ('planned', 'sent', 'unknown') AND id > ? ORDER BY id"
            return [journal_row(row) for row in _rows(connection, sql, _former_operations(connection))]

    def journal(self, since: datetime) -> list[JournalRow]:
        """The operations whose state changed at this time or later, the oldest first."""
        sql = f"SELECT * FROM operations WHERE {LAST_CHANGE} >= ? ORDER BY {LAST_CHANGE}, id"
        with self._reading() as connection:
            return [journal_row(row) for row in _rows(connection, sql, time_text(since))]

    def journal_of(self, subject_key: str, limit: int) -> list[JournalRow]:
        """The newest operations on one subject (see `plan.Subject.key`), the newest first."""
        sql = "SELECT * FROM operations WHERE subject_key = ? ORDER BY id DESC LIMIT ?"
        with self._reading() as connection:
            return [journal_row(row) for row in _rows(connection, sql, subject_key, limit)]

    def done_by_day(self, since: datetime) -> dict[tuple[str, str], int]:
        """By ISO day (UTC) and kind, how many operations Keeper has carried out since then."""
        sql = f"""
            SELECT substr({LAST_CHANGE}, 1, 10), kind, count(*) FROM operations
            WHERE state = 'done' AND {LAST_CHANGE} >= ? GROUP BY 1, 2
        """
        with self._reading() as connection:
            return {(day, kind): number for day, kind, number in connection.execute(sql, (time_text(since),))}

    def keep_house(self, now: datetime, history: timedelta) -> bool:
        """Once a day: forget what is older than `history`, and copy the file beside itself, keeping `COPIES` copies.

        Returns whether it was done.
        """
        last = time_of(self.meta("house_kept_at"))
        if last is None:
            self.set_meta("house_kept_at", time_text(now))
        if last is None or timedelta() <= now - last < timedelta(days=1):
            return False
        self.forget(now - history, quiet=now - QUIET_RUNS)
        self.set_meta("house_kept_at", time_text(now))
        with statefile.translated(self.path):
            statefile.keep_copy(self._connection, self.path, f"{now.astimezone(UTC):%Y-%m-%d}.copy")
            statefile.drop_copies(self.path, COPIES)
        return True

    def history(self, wanted: Wanted, limit: int) -> Found:
        """The newest operations that are wanted, with who decided."""
        with self._reading() as connection:
            return find(connection, wanted, limit)

    def forget(self, before: datetime, quiet: datetime | None = None) -> None:
        """Delete the history from before this time, but for what is open or still to be settled; and from before
        `quiet`, if given, the runs that did, held and found nothing."""
        limit = time_text(before)
        with self._tx() as connection:
            # The newest operation stays: its number must not be given to another one.
            connection.execute(
                f"DELETE FROM operations WHERE {LAST_CHANGE} < ? "
                "AND (state IN ('done', 'failed', 'put_off') OR id <= ?) AND id < (SELECT max(id) FROM operations)",
                (limit, _former_operations(connection)),
            )
            connection.execute(
                "DELETE FROM runs WHERE started_at < ? AND id NOT IN (SELECT run_id FROM operations)", (limit,)
            )
            if quiet is not None:
                connection.execute(
                    "DELETE FROM runs WHERE started_at < ? AND held = 0 AND id NOT IN (SELECT run_id FROM operations)",
                    (time_text(quiet),),
                )
                connection.execute(
                    "UPDATE runs SET document = NULL WHERE started_at < ? AND id < (SELECT max(id) FROM runs)",
                    (time_text(quiet),),
                )
            connection.execute(
                "DELETE FROM requests WHERE coalesce(closed_at, until, at) < ? AND (state <> 'open' OR until < ?)",
                (limit, limit),
            )

    # Alerts

    def tellable(self, since: datetime) -> list[JournalRow]:
        """What was done since this time and is worth telling people each time: locks, and changed addresses."""
        sql = f"""
            SELECT * FROM operations WHERE {LAST_CHANGE} >= ? AND state = 'done'
            AND (kind = 'deactivate_user' OR (kind = 'update_user' AND changes LIKE '%"userName"%'))
            ORDER BY {LAST_CHANGE}, id
        """
        with self._reading() as connection:
            return [journal_row(row) for row in _rows(connection, sql, time_text(since))]

    def told(self, receiver: str) -> dict[tuple[str, str], datetime]:
        """What this receiver of alerts was told and when, by kind and key."""
        with self._reading() as connection:
            rows = connection.execute("SELECT kind, key, at FROM alerts WHERE receiver = ?", (receiver,))
            return {(kind, key): datetime.fromisoformat(at) for kind, key, at in rows}

    def tell(
        self, receiver: str, at: datetime, remember: Iterable[tuple[str, str]], forget: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Remember that this receiver was told of these now, and forget of those that it was."""
        with self._tx() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO alerts (receiver, kind, key, at) VALUES (?, ?, ?, ?)",
                [(receiver, kind, key, time_text(at)) for kind, key in remember],
            )
            connection.executemany(
                "DELETE FROM alerts WHERE receiver = ? AND kind = ? AND key = ?",
                [(receiver, kind, key) for kind, key in forget],
            )

    # Requests

    def add_request(
        self,
        kind: str,
        arguments: Mapping[str, Any],
        by: str,
        at: datetime,
        reason: str,
        until: datetime | None = None,
        *,
        state: str = "open",
    ) -> str:
        """Keep what a person asked for; returns the id of the request. `arguments` is anything that JSON can hold."""
        with self._tx():
            row = {
                "kind": kind,
                "arguments": json_text(dict(arguments)),
                "requested_by": by,
                "at": time_text(at),
                "reason": reason,
                "until": time_text(until) if until else None,
                "state": state,
                "result": "",
            }
            return str(self._insert("requests", row))

    def open_requests(self, now: datetime, kind: str | None = None) -> list[Request]:
        """The decisions that are open and have not run out, of one kind if one is given, the oldest first."""
        where = "state = 'open' AND (?1 IS NULL OR kind = ?1) AND (until IS NULL OR until > ?2)"
        with self._reading() as connection:
            rows = _rows(connection, f"SELECT * FROM requests WHERE {where} ORDER BY id", kind, time_text(now))
            return [request_of(row) for row in rows]

    def orders(self) -> list[Request]:
        """What was filed for the daemon and is not done yet, the oldest first."""
        with self._reading() as connection:
            sql = "SELECT * FROM requests WHERE state IN ('filed', 'taken') ORDER BY id"
            return [request_of(row) for row in _rows(connection, sql)]

    def take(self, request_id: str) -> None:
        """Record that the daemon has begun with an order."""
        with self._tx():
            self._table("requests").update(int(request_id), {"state": "taken"})

    def request(self, request_id: str) -> Request | None:
        """One request, whatever its state."""
        with self._reading() as connection:
            rows = _rows(connection, "SELECT * FROM requests WHERE id = CAST(? AS INTEGER)", request_id)
            return next(map(request_of, rows), None)

    def close_request(self, request_id: str, state: str, at: datetime, result: str = "") -> None:
        """Record what became of a request; any state but `open`."""
        with self._tx():
            row = {"state": state, "closed_at": time_text(at), "result": result}
            self._table("requests").update(int(request_id), row)

    def decisions(self, kind: str, since: datetime) -> list[Request]:
        """The decisions of this kind since then, whatever became of them."""
        sql = "SELECT * FROM requests WHERE kind = ? AND at >= ? ORDER BY id"
        with self._reading() as connection:
            return [request_of(row) for row in _rows(connection, sql, kind, time_text(since))]

    def narrow(self, request_id: str, arguments: Mapping[str, Any]) -> None:
        """Replace what an open decision is about by less of it."""
        with self._tx():
            self._table("requests").update(int(request_id), {"arguments": json_text(dict(arguments))})

    def pause(self) -> Request | None:
        """The decision that stops all writes, if one is open."""
        with self._reading() as connection:
            sql = "SELECT * FROM requests WHERE state = 'open' AND kind = 'pause' ORDER BY id LIMIT 1"
            return next(map(request_of, _rows(connection, sql)), None)

    def resume(self, by: str, at: datetime, reason: str) -> bool:
        """End every pause; returns whether there was one."""
        with self._tx() as connection:
            ended = connection.execute(
                "UPDATE requests SET state = 'ended', closed_at = ?, result = ? "
                "WHERE state = 'open' AND kind = 'pause'",
                (time_text(at), json_text({"by": by, "reason": reason})),
            )
            return ended.rowcount > 0


def _left(operation: Operation, left: Mapping[str, datetime]) -> str | None:
    since = left.get(operation.subject.keeper_id) if operation.kind is Kind.DEACTIVATE_USER else None
    return time_text(since) if since else None


def _differing(rows: Mapping[str, T], before: Mapping[str, T]) -> list[T]:
    # Identity first: what nobody touched is the same object, and there may be 100,000 of them.
    return [row for key, row in rows.items() if (old := before.get(key)) is not row and old != row]


def _meta(connection: sqlite3.Connection, key: str) -> str | None:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return str(row[0]) if row else None


def _former_operations(connection: sqlite3.Connection) -> int:
    """The id of the last operation under a former binding; 0 if there never was one."""
    return int(_meta(connection, "former_operations") or "0")


def _rows(connection: sqlite3.Connection, sql: str, *parameters: Any) -> Iterator[sqlite3.Row]:
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row
    return iter(cursor.execute(sql, parameters))


def _failures(connection: sqlite3.Connection, former: int) -> dict[str, Failure]:
    """By subject, the failures since its last success."""
    sql = """
        SELECT subject_key, count(*), max(finished_at), error FROM operations AS failed
        WHERE state = 'failed' AND id > ? AND id > coalesce(
            (SELECT max(id) FROM operations AS done WHERE state = 'done' AND subject_key = failed.subject_key), 0)
        GROUP BY subject_key
    """  # beside max(), SQLite takes `error` from the row with the maximum
    return {
        key: Failure(count, datetime.fromisoformat(at), error)
        for key, count, at, error in connection.execute(sql, (former,))
    }


def _unsettled_teams(connection: sqlite3.Connection, former: int) -> dict[str, datetime]:
    """By JumpCloud id, when a team was asked for whose newest queueing has no known outcome."""
    sql = """
        SELECT jumpcloud_id, state, coalesce(sent_at, planned_at), max(id) FROM operations
        WHERE kind = 'queue_team' AND id > ? AND state NOT IN ('planned', 'put_off')
        GROUP BY jumpcloud_id
    """
    return {
        key: datetime.fromisoformat(at)
        for key, state, at, _ in connection.execute(sql, (former,))
        if state in (State.SENT, State.UNKNOWN)
    }
