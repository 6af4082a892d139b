"""The stored times, wherever they are: dating a run, correcting what a wrong clock has left, beginning durations."""

import re
import sqlite3
from collections import Counter
from datetime import datetime, timedelta

from reconciler import migrations, timekeeping
from reconciler.rows import Request, request_of, time_of, time_text
from reconciler.store.base import OpenFile, rows

IN_FUTURE = {("requests", "until"), ("meta", "next_cycle"), ("meta", timekeeping.KEY)}
"""The columns, and the keys of `meta`, that are no times of something past: an end, an appointment, and what each run
writes anew before it corrects anything."""

COLUMNS = {
    table: tuple(c for c in columns.split() if (c == "at" or c.endswith("_at")) and (table, c) not in IN_FUTURE)
    for table, columns in migrations.TABLES.items()
}
"""By table, the columns that hold the time of something past. Each is named so: `at`, or with `_at` at its end."""

TOLERANCE = timedelta(seconds=2)
"""The length by which a stored time may be later than now: clocks are put by as much while they run."""

# A time in a value of `meta`: the value as a whole, or a text in its JSON, written by `time_text` or `isoformat`.
_TIME = re.compile(r'(?<![^"])\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|\+00:00)(?![^"])', re.ASCII)


class Times(OpenFile):
    """The times in the file as a whole."""

    def date_run(self, run_id: int, started_at: datetime) -> None:
        """Date a run that has begun, once the time is known."""
        with self._tx():
            self._update("runs", run_id, {"started_at": time_text(started_at)})

    def correct_times(self, now: datetime, to: datetime) -> dict[str, int]:
        """Set each stored time that is later than now to `to`; returns how many there were, by table.

        A decision that lasts ends accordingly: no later than one that begins at `to`. An inventory is forgotten: of
        what others tell, the time is its age, which nobody knows now.
        """
        late, corrected = time_text(now + TOLERANCE), time_text(to)
        counts: Counter[str] = Counter()
        with self._tx() as connection:
            for table, columns in COLUMNS.items():
                for column in columns:
                    sql = f'UPDATE {table} SET "{column}" = ? WHERE "{column}" > ?'
                    counts[table] += connection.execute(sql, (corrected, late)).rowcount
            for request in _lasting(connection):
                if request.until is not None and request.lasts is not None and request.until > now + request.lasts:
                    self._update("requests", int(request.id), {"until": time_text(to + request.lasts)})
                    counts["requests"] += request.until > now + request.lasts + TOLERANCE
            for key, value in connection.execute("SELECT key, value FROM meta").fetchall():
                text, number = corrected_text(value, now, to)
                if number and ("meta", key) not in IN_FUTURE:
                    if key == "inventory":
                        connection.execute("DELETE FROM meta WHERE key = ?", (key,))
                    else:
                        self._set_meta(key, text)
                    counts["meta"] += number
        return {table: number for table, number in counts.items() if number}

    def begin_durations(self, now: datetime, last: datetime | None) -> None:
        """Let the decisions that last, and that no run has seen yet, last from the first run since, which may have
        failed before it knew the time.

        They were made since the `last` run. Where the clock that they were dated with contradicts that, it was wrong.
        """
        with self._tx() as connection:
            for request in _lasting(connection):
                if request.until is None and request.lasts is not None:
                    at = min(now, request.at if last is None else max(request.at, last))
                    first = "SELECT min(started_at) FROM runs WHERE started_at > ?"
                    began = time_of(*connection.execute(first, (time_text(at),)).fetchone()) or now
                    row = {"at": time_text(at), "until": time_text(min(began, now) + request.lasts)}
                    self._update("requests", int(request.id), row)


def _lasting(connection: sqlite3.Connection) -> list[Request]:
    sql = "SELECT * FROM requests WHERE state = 'open' AND lasts IS NOT NULL ORDER BY id"
    return [request_of(row) for row in rows(connection, sql)]


def corrected_text(value: str, now: datetime, to: datetime) -> tuple[str, int]:
    """A value of `meta`, such as JSON, with each time in it that is later than now set to `to`, and how many there
    were."""
    number = 0

    def one(found: re.Match[str]) -> str:
        nonlocal number
        try:
            late = datetime.fromisoformat(found[0]) > now + TOLERANCE
        except ValueError:
            late = False
        number += late
        return to.isoformat() if late else found[0]

    return _TIME.sub(one, value), number
