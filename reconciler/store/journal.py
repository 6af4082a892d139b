"""The runs and the journal, what is remembered of them, and for how long."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType

from reconciler import keeper_quarantine, statefile
from reconciler.births import LINKED, UNDO_DUE, UNDO_WORDS
from reconciler.history import RUN_COLUMNS, Found, Wanted, find
from reconciler.migrations import LAST_CHANGE
from reconciler.model import Account, Team
from reconciler.plan import Effect, Kind, Operation
from reconciler.promise import NOT_HERE, NOT_HERE_PREFIX
from reconciler.report.document import still_held
from reconciler.rows import (
    GONE,
    INVITED,
    LEAVERS,
    LOCKED_BEFORE,
    MAY_BE_DONE,
    PARTIAL,
    PERSON,
    SETTLED,
    UNCONFIRMED,
    VANISHED,
    JournalRow,
    Request,
    Run,
    State,
    journal_row,
    json_text,
    operation_row,
    request_of,
    run_of,
    teams_text,
    time_of,
    time_text,
)
from reconciler.statefile_errors import translated
from reconciler.store.access import NEWEST_ACCESS
from reconciler.store.base import LIVE, former_operations, meta, rows
from reconciler.store.snapshots import Snapshots

COPIES = 7
"""How many daily copies of the state file are kept."""
DOCUMENTS = 30
"""How many plan documents are kept: of 20,000 people that one by one change a plan that waits, each has megabytes."""
MOST_BYGONE = 10_000
"""How many accounts, and how many teams, are remembered that nobody manages and Keeper does not have any more."""
QUIET_RUNS = timedelta(days=7)
"""How long a run is remembered that did nothing: a year has 100,000 of them."""
_NO_GOOD_READ = ("", "failed", "stopped")
_GOOD_READ = f"result NOT IN {_NO_GOOD_READ}"
# What was held under a former binding, or before a copy was put back, holds nothing any more.
_FORMER_RUNS = "SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'former_runs'"
_MAY_HOLD = f"{_GOOD_READ} AND id > coalesce(({_FORMER_RUNS}), 0)"
_WHOLE = f"kind NOT IN {PARTIAL}"
_CONTENT = ("changes", "teams_add", "teams_remove")
# A run with an error could not read everything: it ends no hold, since what was held may be due all the same.
_TELLS_OF_HOLDS = "(held > 0 OR error = '')"
_WHOLE_READ = "jumpcloud_read_at"
_NOBODY: Mapping[str, datetime] = MappingProxyType({})


class Journal(Snapshots):
    """What was done and what came of it; an outcome is recorded together with its effect on the snapshot."""

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
            run_id = self._insert("runs", row)
            self._keep_live(self._live | {run_id})
        self._live.add(run_id)
        return run_id

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
        document: a plan may be held for days. No more than `DOCUMENTS` are kept, and what was held last.
        """
        self._live.discard(run_id)
        with self._tx() as connection:
            if document is not None:
                # What was held stays to be released as long as nothing came of it: only such a document replaces it.
                waits = bool(held) and result not in _NO_GOOD_READ and kind != PERSON
                connection.execute(
                    "UPDATE runs SET document = NULL WHERE plan_id = ? AND (held = 0 OR ?)", (plan_id, waits)
                )
                connection.execute(
                    "UPDATE runs SET document = NULL WHERE document IS NOT NULL AND plan_id NOT IN "
                    f"(SELECT plan_id FROM runs WHERE held > 0 AND kind <> '{PERSON}' ORDER BY id DESC LIMIT 1) "
                    "AND id < (SELECT id FROM runs WHERE document IS NOT NULL ORDER BY id DESC LIMIT 1 OFFSET ?)",
                    (DOCUMENTS - 2,),  # beside the one that is about to be written
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
            self._update("runs", run_id, row | ({"kind": kind} if kind else {}))
            self._keep_live(self._live)

    def _keep_live(self, runs: Collection[int]) -> None:
        self._set_meta(LIVE, json_text(sorted(runs)))

    def live_runs(self) -> frozenset[int]:
        """The ids of the runs that are under way; any other one without a result was cut off."""
        return frozenset(json.loads(self.meta(LIVE) or "[]")) if self.in_use else frozenset()

    def run(self, run_id: int) -> Run:
        """The run with this id, which has to be there."""
        with self._reading() as connection:
            return next(map(run_of, rows(connection, f"SELECT {RUN_COLUMNS} FROM runs WHERE id = ?", run_id)))

    def runs(self, limit: int, *, whole: bool = False) -> list[Run]:
        """The newest runs, the newest first; with `whole` only those over everybody."""
        where = f"WHERE {_WHOLE}" if whole else ""
        with self._reading() as connection:
            sql = f"SELECT {RUN_COLUMNS} FROM runs {where} ORDER BY id DESC LIMIT ?"
            return [run_of(row) for row in rows(connection, sql, limit)]

    def last_cycle(self) -> Run | None:
        """The newest run over everybody that has ended, or was cut off."""
        live = self.live_runs()
        return next((run for run in self.runs(len(live) + 1, whole=True) if run.id not in live), None)

    def last_good_read(self) -> datetime | None:
        """When the newest run over everybody began that read both sides."""
        with self._reading() as connection:
            sql = f"SELECT max(started_at) FROM runs WHERE {_GOOD_READ} AND {_WHOLE}"
            return time_of(connection.execute(sql).fetchone()[0])

    def last_whole_read(self) -> datetime | None:
        """When the newest run over everybody began that could read all of JumpCloud, whatever it could of Keeper."""
        noted = time_of(self.meta(_WHOLE_READ))
        with self._reading() as connection:
            sql = f"SELECT max(started_at) FROM runs WHERE {_GOOD_READ} AND {_WHOLE} AND error = ''"
            found = time_of(connection.execute(sql).fetchone()[0])
        return max(filter(None, (noted, found)), default=None)

    def note_whole_read(self, began: datetime) -> None:
        """Note that a run over everybody, which began then, has read all of JumpCloud."""
        self.set_meta(_WHOLE_READ, began.isoformat())

    def held_run(self, plan_id: str | None = None) -> Run | None:
        """The newest run over everybody that read both sides as a whole, if it held operations, else what the leaver
        lane has held since; or, while one of them did, the newest run that held this plan."""
        sql = f"SELECT {RUN_COLUMNS} FROM runs WHERE {_MAY_HOLD}"
        with self._reading() as connection:
            newest = f"{sql} AND {_WHOLE} AND {_TELLS_OF_HOLDS} ORDER BY id DESC LIMIT 1"
            whole = next(map(run_of, rows(connection, newest)), None)
            lane = f"{sql} AND kind = '{LEAVERS}' AND id > ? ORDER BY id DESC LIMIT 1"
            leavers = next(map(run_of, rows(connection, lane, whole.id if whole else 0)), None)
            held = [run for run in (whole, leavers) if run is not None and run.held]
            if not held or plan_id is None:
                return next(iter(held), None)
            if now := [run for run in held if run.plan_id == plan_id]:
                return now[-1]
            older = f"{sql} AND kind <> '{PERSON}' AND held > 0 AND document IS NOT NULL AND plan_id = ?"
            return next(map(run_of, rows(connection, f"{older} ORDER BY id DESC LIMIT 1", plan_id)), None)

    def held_now(self) -> tuple[Run, datetime] | None:
        """The run whose held operations wait, and since when such runs follow on each other without a break.

        What a person has let go on since is due with the next cycle (see `held_document`): it does not count, and
        where there is nothing else, nothing waits.
        """
        run = self.held_run()
        if run is None:
            return None
        document = self.held_document(run)
        if document != self.document(run.id):
            holds = json.loads(document or "{}").get("held", [])
            run = replace(run, held=len({number for hold in holds for number in hold["operations"]}))
            if not run.held:
                return None
        free = f"SELECT max(id) FROM runs WHERE {_MAY_HOLD} AND {_WHOLE} AND {_TELLS_OF_HOLDS} AND held = 0"
        before = f"held > 0 AND kind <> '{PERSON}' AND id > coalesce(({free}), ({_FORMER_RUNS}), 0) AND id < ?"
        sql = f"SELECT started_at FROM runs WHERE {before} ORDER BY id DESC"
        since = run.started_at
        with self._reading() as connection:
            for (text,) in connection.execute(sql, (run.id,)):
                at = datetime.fromisoformat(text)
                if since - at > timedelta(days=1):
                    break  # another hold: the runs between the two did nothing and are forgotten by now
                since = at
        return run, since

    def held_document(self, run: Run) -> str | None:
        """The plan document (JSON) of a run that held something, with what is still held: a pause that a person has
        ended since holds nothing, and nothing but a pause holds what a person has released, or what was done, since."""
        document = self.document(run.id)
        if document is None:
            return None
        with self._reading() as connection:
            asked = [request_of(row) for row in rows(connection, "SELECT * FROM requests WHERE state = 'open'")]
        # What had run out before the newest run lets nothing through any more.
        newest = self.runs(1)[0].started_at
        given = (one for one in asked if one.kind == "release" and (one.until is None or one.until > newest))
        free = {effect for one in given for effect in one.effects - self.used_up(one)}
        done = (row.operation for row in self.journal(run.started_at) if row.state is State.DONE)
        free |= {effect for op in done for effect in op.effects()}
        return still_held(document, free, paused=any(one.kind == "pause" for one in asked))

    def used_up(self, release: Request) -> frozenset[Effect]:
        """The effects of a release that were carried out. A team that may be queued counts; what a crash left undone
        does not."""
        return frozenset(
            effect
            for row in self.journal_after(release)
            if row.state is State.DONE or (row.operation.kind is Kind.QUEUE_TEAM and row.state in MAY_BE_DONE)
            for effect in row.operation.effects()
        )

    def held_by(self, run: Run) -> set[str]:
        """The limits that held parts of the run's plan, by the document that was kept with it."""
        return {hold["limit"] for hold in json.loads(self.document(run.id) or "{}").get("held", [])}

    def document(self, run_id: int) -> str | None:
        """The plan document (JSON) that was kept with a run, or with a later one that held the same plan."""
        sql = """
            SELECT kept.document FROM runs JOIN runs AS kept USING (plan_id)
            WHERE runs.id = ? AND plan_id <> '' AND kept.document IS NOT NULL AND (kept.held > 0 OR kept.id = runs.id)
            ORDER BY kept.id = runs.id DESC, kept.id DESC
        """
        with self._reading() as connection:
            row = connection.execute(sql, (run_id,)).fetchone()
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
        person who is locked is known to be out of scope. Raises `NoRoom` where the disk is nearly full: nothing is
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

    def mark_sent(
        self, operation_id: int, at: datetime, sent: Operation, rest: Operation | None = None, why: str = ""
    ) -> int:
        """Record that an operation is about to be sent: from now on its outcome is unknown.

        `sent` is the operation with its teams as they are known by now; a team that still has no Keeper id is left out
        of the request. `rest` is the part that was not confirmed, and `why`: it gets a row of its own, which is put
        off. Returns the id of that row, 0 where there is none.
        """
        with self._tx():
            row = {
                "state": State.SENT.value,
                "sent_at": time_text(at),
                "teams_add": teams_text(sent.add),
                "teams_remove": teams_text(sent.remove),
            }
            self._update("operations", operation_id, row)
            if rest is None:
                return 0
            state = {"state": State.PUT_OFF.value, "finished_at": time_text(at), "outcome": UNCONFIRMED, "error": why}
            return self._add_beside(operation_id, rest, state)

    def mark_narrowed(
        self, operation_id: int, at: datetime, sent: Operation, undo: Operation | None = None, part: int = 0
    ) -> int:
        """Record that only this part of an operation is sent once more, since Keeper refused the whole: should the
        answer be lost, what is found of it proves nothing about the rest. What is left of an undo is known to no plan:
        the `undo` gets a row of its own that is put off; returns its id, else 0. `part` is the row that it has got by
        an attempt before."""
        with self._tx():
            self._rewrite(operation_id, sent)
            if undo is None:
                return 0
            if part:
                self._rewrite(part, undo)
                return part
            state = {"state": State.PUT_OFF.value, "outcome": UNDO_DUE, "error": UNDO_WORDS}
            return self._add_beside(operation_id, undo, state | {"finished_at": time_text(at)})

    def _rewrite(self, operation_id: int, operation: Operation) -> None:
        row = operation_row(operation)
        self._update("operations", operation_id, {name: row[name] for name in _CONTENT})

    def record(
        self,
        operation_id: int,
        state: State,
        at: datetime,
        outcome: str,
        error: str = "",
        *,
        sent: bool = True,
        accounts: Iterable[Account] = (),
        teams: Iterable[Team] = (),
        drop_teams: Iterable[str] = (),
    ) -> None:
        """Record what became of an operation, together with its effect on the snapshot (as for `put`).

        `sent`: False where it is certain that no request of it has begun; then it is not on record as sent any more.
        """
        with self._tx():
            row = {"state": state.value, "finished_at": time_text(at), "outcome": outcome, "error": error}
            self._update("operations", operation_id, row if sent else row | {"sent_at": None})
            self._put(accounts, teams, (), drop_teams)

    def record_refused(
        self, operation_id: int, at: datetime, words: str, keeper_id: str, undo: Operation | None, *, sent: bool
    ) -> int:
        """Record that Keeper linked a creation to an account that is not new, together with the operation that undoes
        the link.

        `keeper_id` is that account. `sent`: the undo is sent at once; else it is put off. Returns the id of its row, 0
        where there is nothing to undo.
        """
        with self._tx():
            row = {"state": State.FAILED.value, "finished_at": time_text(at), "outcome": LINKED, "error": words}
            self._update("operations", operation_id, row | {"keeper_id": keeper_id})
            sql = "SELECT kind, subject_key FROM operations WHERE id = ?"
            kind, key = self._connection.execute(sql, (operation_id,)).fetchone()
            self._add_link(Kind(kind), key, at)
            if undo is None:
                return 0
            if sent:
                state = {"state": State.SENT.value, "sent_at": time_text(at), "outcome": "", "error": ""}
            else:
                state = {"state": State.PUT_OFF.value, "outcome": UNDO_DUE, "error": UNDO_WORDS}
                state["finished_at"] = time_text(at)
            return self._add_beside(operation_id, undo, state | {"planned_at": time_text(at)})

    def _add_beside(self, operation_id: int, operation: Operation, values: Mapping[str, str]) -> int:
        """Add another operation to the run of one that is there, by the same decision; returns the id of its row."""
        sql = "SELECT run_id, decision, planned_at, (SELECT max(id) FROM operations) FROM operations WHERE id = ?"
        run_id, decision, planned_at, last = self._connection.execute(sql, (operation_id,)).fetchone()
        row = {"id": last + 1, "run_id": run_id, "decision": decision, "planned_at": planned_at}
        self._insert("operations", row | operation_row(operation) | dict(values))
        return int(last) + 1

    def unfinished(self, run_id: int = 0) -> list[JournalRow]:
        """The operations whose outcome is not known: those that a crash left planned or sent, and those that are
        unknown since Keeper was asked last. The oldest first.

        What another run of this process has in hand is left out; `run_id` is the run that asks.
        """
        with self._reading() as connection:
            sql = """
                SELECT *, EXISTS (
                    SELECT 1 FROM operations AS later WHERE later.subject_key = operations.subject_key
                    AND later.kind = operations.kind AND later.id > operations.id
                    AND later.state IN ('sent', 'unknown', 'done') AND later.changes <> '[]') AS repeated, EXISTS (
                    SELECT 1 FROM operations AS later WHERE later.subject_key = operations.subject_key
                    AND later.keeper_id = operations.keeper_id AND later.id > operations.id
                    AND later.state IN ('sent', 'unknown', 'done') AND (operations.kind, later.kind) IN (
                        VALUES ('deactivate_user', 'reactivate_user'), ('reactivate_user', 'deactivate_user'))
                ) AS undone
                FROM operations WHERE state IN ('planned', 'sent', 'unknown') AND id > ? ORDER BY id
            """
            read = rows(connection, sql, former_operations(connection))
            found = [
                replace(journal_row(row), repeated=bool(row["repeated"]), undone=bool(row["undone"])) for row in read
            ]
        others = self._live - {run_id}
        return [row for row in found if row.run_id not in others]

    def open_keys(self) -> frozenset[str]:
        """The keys of the subjects whose last change has no known outcome."""
        sql = "SELECT DISTINCT subject_key FROM operations WHERE state IN ('sent', 'unknown') AND id > ?"
        with self._reading() as connection:
            return frozenset(key for (key,) in connection.execute(sql, (former_operations(connection),)))

    def hidden_locks(self, since: datetime) -> frozenset[str]:
        """The Keeper ids of accounts whose lock was sent since then and has no known outcome, and whose record does not
        tell it."""
        with self._reading() as connection:
            odd = keeper_quarantine.from_json(meta(connection, "odd") or "[]")
            hidden = keeper_quarantine.with_hidden_locks(odd)
            sql = """
                SELECT DISTINCT keeper_id FROM operations
                WHERE kind = 'deactivate_user' AND state IN ('sent', 'unknown') AND sent_at >= ?
            """
            return hidden & {key for (key,) in connection.execute(sql, (time_text(since),))} if hidden else hidden

    def put_off_since(self, since: datetime, outcome: str) -> frozenset[str]:
        """The keys of the subjects with an operation that was put off since then, with this outcome."""
        sql = f"""
            SELECT DISTINCT subject_key FROM operations
            WHERE {LAST_CHANGE} >= ? AND state = 'put_off' AND outcome = ? AND id > ?
        """
        with self._reading() as connection:
            values = (time_text(since), outcome, former_operations(connection))
            return frozenset(key for (key,) in connection.execute(sql, values))

    def in_hand(self) -> list[JournalRow]:
        """The operations that a run of this process is about to send."""
        if not self._live:
            return []
        with self._reading() as connection:
            places = ", ".join("?" * len(self._live))
            sql = f"SELECT * FROM operations WHERE state = 'planned' AND run_id IN ({places}) ORDER BY id"
            return [journal_row(row) for row in rows(connection, sql, *sorted(self._live))]

    def journal(self, since: datetime, kind: Kind | None = None) -> list[JournalRow]:
        """The operations, or those of one kind, whose state changed at this time or later, the oldest first."""
        sql = f"SELECT * FROM operations WHERE {LAST_CHANGE} >= ?1 AND ?2 IN ('', kind) ORDER BY {LAST_CHANGE}, id"
        with self._reading() as connection:
            return [journal_row(row) for row in rows(connection, sql, time_text(since), kind or "")]

    def journal_after(self, request: Request) -> list[JournalRow]:
        """The operations since a decision of a person, and all that it let through, should the clock have been set
        back since; the oldest first."""
        sql = f"SELECT * FROM operations WHERE {LAST_CHANGE} >= ? OR decision = ? ORDER BY {LAST_CHANGE}, id"
        with self._reading() as connection:
            found = rows(connection, sql, time_text(request.at), f"{request.kind}:{request.id}")
            return [journal_row(row) for row in found]

    def journal_of(self, subject_key: str, limit: int) -> list[JournalRow]:
        """The newest operations on one subject (see `plan.Subject.key`), the newest first."""
        sql = "SELECT * FROM operations WHERE subject_key = ? ORDER BY id DESC LIMIT ?"
        with self._reading() as connection:
            return [journal_row(row) for row in rows(connection, sql, subject_key, limit)]

    def outcomes_of_locks(self, since: datetime) -> dict[str, int]:
        """By outcome, how many locks Keeper has carried out since then."""
        sql = f"""
            SELECT outcome, count(*) FROM operations
            WHERE {LAST_CHANGE} >= ? AND kind = 'deactivate_user' AND state = 'done' GROUP BY outcome
        """
        with self._reading() as connection:
            return dict(connection.execute(sql, (time_text(since),)))

    def seen_locked(self, keeper_id: str = "") -> frozenset[str]:
        """The Keeper ids of accounts that a lock of ours was read back from, or that a list showed after one without an
        answer: of all, or just this one if it is."""
        sql = f"""
            SELECT DISTINCT keeper_id FROM operations
            WHERE kind = 'deactivate_user' AND state = 'done' AND ?1 IN ('', keeper_id)
            AND (outcome = 'done' OR (outcome = 'settled' AND error NOT LIKE '{NOT_HERE_PREFIX}%'))
        """
        with self._reading() as connection:
            return frozenset(found for (found,) in connection.execute(sql, (keeper_id,)))

    def found_again(self, active: Mapping[str, bool]) -> None:
        """Record that these accounts (by Keeper id, whether they are active) show again: their locks removed nobody,
        and only of a lock that Keeper took and that shows it is known that it took effect."""
        with self._reading() as connection:
            sql = f"""
                SELECT id, keeper_id, error = '{NOT_HERE}' FROM operations
                WHERE state = 'done' AND kind = 'deactivate_user' AND outcome IN ('{GONE}', '{VANISHED}', '{INVITED}')
            """
            locks = connection.execute(sql)
            found = [(number, unclear or active[account]) for number, account, unclear in locks if account in active]
        if not found:
            return
        # Whether it was undone since, or never took effect, nothing can show.
        unverified = {"outcome": SETTLED, "error": NOT_HERE}
        with self._tx():
            for number, unknown in found:
                self._update("operations", number, unverified if unknown else {"outcome": "done", "error": ""})

    def done_by_day(self, since: datetime) -> dict[tuple[str, str], int]:
        """By ISO day (UTC) and kind, how many operations Keeper has carried out since then."""
        sql = f"""
            SELECT substr({LAST_CHANGE}, 1, 10), kind, count(*) FROM operations
            WHERE state = 'done' AND outcome <> '{LOCKED_BEFORE}' AND {LAST_CHANGE} >= ? GROUP BY 1, 2
        """
        with self._reading() as connection:
            return {(day, kind): number for day, kind, number in connection.execute(sql, (time_text(since),))}

    def keep_house(self, now: datetime, history: timedelta, pruned_by: datetime | None = None) -> bool:
        """Once a day: forget what is older than `history`, keep the file compact, and copy it beside itself, keeping
        `COPIES` copies. `pruned_by`: the time from which ages count, where that is not now.

        Returns whether it was done. Raises `NoRoom` where there is no room for the copy; the rest is done then.
        """
        last = time_of(self.meta("house_kept_at"))
        if last is None:
            self.set_meta("house_kept_at", time_text(now))
        if last is None or timedelta() <= now - last < timedelta(days=1):
            return False
        by = pruned_by or now
        self.forget(by - history, quiet=by - QUIET_RUNS)
        self.set_meta("house_kept_at", time_text(now))
        with translated(self.path):
            statefile.compact(self._connection, self.path)
            statefile.keep_copy(self._connection, self.path, statefile.copy_suffix(now))
            statefile.drop_copies(self.path, COPIES, now)
        return True

    def history(self, wanted: Wanted, limit: int) -> Found:
        """The newest operations that are wanted, with who decided."""
        with self._reading() as connection:
            return find(connection, wanted, limit)

    def forget(self, before: datetime, quiet: datetime | None = None) -> None:
        """Delete the history from before this time, but for what is open or still to be settled, and for the newest
        change of access of each person, which says whose a lock is; what nobody manages and Keeper lacks since then, or
        as one of too many; and from before `quiet`, if given, the runs that did, held and found nothing."""
        limit = time_text(before)
        with self._tx() as connection:
            # The newest operation and request stay: their numbers must not be given to others.
            connection.execute(
                f"DELETE FROM operations WHERE {LAST_CHANGE} < :limit "
                "AND (state IN ('done', 'failed', 'put_off') OR id <= :former) "
                f"AND id < (SELECT max(id) FROM operations) AND id NOT IN ({NEWEST_ACCESS})",
                {"limit": limit, "former": former_operations(connection)},
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
            for table in ("users", "teams"):
                bygone = f"FROM {table} WHERE standing = 'unmanaged' AND gone = 1"
                newest = f"SELECT rowid {bygone} ORDER BY missed_at DESC LIMIT {MOST_BYGONE}"
                old = f"SELECT keeper_id {bygone} AND (missed_at < ? OR rowid NOT IN ({newest}))"
                ids = [keeper_id for (keeper_id,) in connection.execute(old, (limit,))]
                self._drop_accounts(ids) if table == "users" else self._drop_teams(ids)
            connection.execute(
                "DELETE FROM requests WHERE coalesce(closed_at, until, at) < ? AND (state <> 'open' OR until < ?) "
                "AND id < (SELECT max(id) FROM requests)",
                (limit, limit),
            )


def _left(operation: Operation, left: Mapping[str, datetime]) -> str | None:
    since = left.get(operation.subject.keeper_id) if operation.kind is Kind.DEACTIVATE_USER else None
    return time_text(since) if since else None
