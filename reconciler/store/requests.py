"""What persons asked for and decided, and what the receivers of alerts were told."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from reconciler.migrations import LAST_CHANGE
from reconciler.plan import Kind, Rule
from reconciler.rows import LOCKED_BEFORE, SETTLED, JournalRow, Request, journal_row, json_text, request_of, time_text
from reconciler.store.base import OpenFile, rows


class Requests(OpenFile):
    """Decisions that count as long as they are open, orders for the daemon, and alerts."""

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
        lasts: timedelta | None = None,
        state: str = "open",
    ) -> str:
        """Keep what a person asked for; returns the id of the request. `arguments` is anything that JSON can hold.

        `lasts`: for how long a decision counts, in whole seconds. Without `until`, that begins with the next run.
        """
        with self._tx():
            row = {
                "kind": kind,
                "arguments": json_text(dict(arguments)),
                "requested_by": by,
                "at": time_text(at),
                "reason": reason,
                "until": time_text(until) if until else None,
                "lasts": int(lasts.total_seconds()) if lasts is not None else None,
                "state": state,
                "result": "",
            }
            return str(self._insert("requests", row))

    def open_requests(self, now: datetime, kind: str | None = None) -> list[Request]:
        """The decisions that are open and have not run out, of one kind if one is given, the oldest first."""
        where = "state = 'open' AND (?1 IS NULL OR kind = ?1) AND (until IS NULL OR until > ?2)"
        with self._reading() as connection:
            found = rows(connection, f"SELECT * FROM requests WHERE {where} ORDER BY id", kind, time_text(now))
            return [request_of(row) for row in found]

    def orders(self) -> list[Request]:
        """What was filed for the daemon and is not done yet, the oldest first."""
        with self._reading() as connection:
            sql = "SELECT * FROM requests WHERE state IN ('filed', 'taken') ORDER BY id"
            return [request_of(row) for row in rows(connection, sql)]

    def take(self, request_id: str) -> bool:
        """Record that the daemon has begun with an order; returns whether it was still to be done."""
        return self._moved(request_id, "filed", "taken")

    def put_back(self, request_id: str) -> None:
        """Record that nothing was done yet of an order that was taken."""
        self._moved(request_id, "taken", "filed")

    def withdraw(self, request_id: str) -> bool:
        """Take an order back; returns False where it was taken, or is done, by now."""
        return self._moved(request_id, "filed", "withdrawn")

    def _moved(self, request_id: str, before: str, after: str) -> bool:
        sql = "UPDATE requests SET state = ? WHERE id = CAST(? AS INTEGER) AND state = ?"
        with self._tx() as connection:
            return connection.execute(sql, (after, request_id, before)).rowcount > 0

    def request(self, request_id: str) -> Request | None:
        """One request, whatever its state."""
        with self._reading() as connection:
            return next(
                map(request_of, rows(connection, "SELECT * FROM requests WHERE id = CAST(? AS INTEGER)", request_id)),
                None,
            )

    def close_request(self, request_id: str, state: str, at: datetime, result: str = "") -> None:
        """Record what became of a request; any state but `open`."""
        with self._tx():
            row = {"state": state, "closed_at": time_text(at), "result": result}
            self._update("requests", int(request_id), row)

    def decisions(self, kind: str, since: datetime) -> list[Request]:
        """The decisions of this kind since then, whatever became of them."""
        sql = "SELECT * FROM requests WHERE kind = ? AND at >= ? ORDER BY id"
        with self._reading() as connection:
            return [request_of(row) for row in rows(connection, sql, kind, time_text(since))]

    def narrow(self, request_id: str, arguments: Mapping[str, Any]) -> None:
        """Replace what an open decision is about by less of it."""
        with self._tx():
            self._update("requests", int(request_id), {"arguments": json_text(dict(arguments))})

    def prolong(self, request_id: str, until: datetime) -> None:
        """Let an open decision count longer."""
        with self._tx():
            self._update("requests", int(request_id), {"until": time_text(until)})

    def pause(self) -> Request | None:
        """The decision that stops all writes, if one is open."""
        with self._reading() as connection:
            sql = "SELECT * FROM requests WHERE state = 'open' AND kind = 'pause' ORDER BY id LIMIT 1"
            return next(map(request_of, rows(connection, sql)), None)

    def resume(self, by: str, at: datetime, reason: str) -> bool:
        """End every pause; returns whether there was one."""
        with self._tx() as connection:
            ended = connection.execute(
                "UPDATE requests SET state = 'ended', closed_at = ?, result = ? "
                "WHERE state = 'open' AND kind = 'pause'",
                (time_text(at), json_text({"by": by, "reason": reason})),
            )
            return ended.rowcount > 0

    # Alerts

    def done_since(self, since: datetime, kinds: Collection[Kind]) -> list[JournalRow]:
        """Return the operations of these kinds that Keeper carried out since this time, the oldest first. Teams that
        were to be taken once more before it was known that they are, are taken once. Whoever joined, who may be
        everybody, is left out."""
        places = ", ".join("?" * len(kinds))
        sql = f"""
            SELECT * FROM operations WHERE {LAST_CHANGE} >= ? AND state = 'done' AND kind IN ({places})
            AND rule <> '{Rule.JOINED.value}' AND outcome <> '{LOCKED_BEFORE}'
            AND NOT (outcome = '{SETTLED}' AND teams_remove <> '[]' AND EXISTS (
                SELECT 1 FROM operations AS later WHERE later.subject_key = operations.subject_key
                AND later.id > operations.id AND later.state = 'done' AND later.kind = operations.kind
                AND later.teams_remove = operations.teams_remove AND later.sent_at < operations.finished_at))
            ORDER BY {LAST_CHANGE}, id
        """
        with self._reading() as connection:
            return [journal_row(row) for row in rows(connection, sql, time_text(since), *kinds)]

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
