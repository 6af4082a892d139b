"""The schema of the state file, as the steps that lead to it from an empty database.

`PRAGMA user_version` holds the number of steps that were taken. A released step is never edited: a change of
the schema is a new step at the end, which also carries the data over.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION_ID = 0x4A434B52
"""What `PRAGMA application_id` says of our files ("JCKR"), so that another application's are told apart."""

LAST_CHANGE = "coalesce(finished_at, sent_at, planned_at)"
"""When the state of an operation last changed: an expression, as the index by time needs its exact words."""


def migrate(db: "Database", version: int) -> None:
    """Take the database from `version` to the newest; the caller holds the transaction.

    Raises `sqlite3.Error`.
    """
    for step in STEPS[version:]:
        step(db)
    db.execute(f"PRAGMA user_version = {len(STEPS)}")


def _first_schema(db: "Database") -> None:
    """Times are ISO 8601 in UTC, with microseconds, so that they sort as text; mappings and lists are JSON."""
    _create(db, "meta", {"key": str, "value": str}, pk="key")
    _create(
        db,
        "users",
        {
            "keeper_id": str,
            "standing": str,
            "active": int,
            "jumpcloud_id": str,
            "shown": str,
            "asked": str,
            "settled": str,
            "gone": int,
            "locked_by_us": int,
            "left_at": str,
            "protected_as": str,
            "pilot": int,
            "former_external_id": str,
            "takeover": int,
            "review_lock": int,
        },
        pk="keeper_id",
        nullable={"left_at"},
    )
    _create(
        db,
        "teams",
        {
            "keeper_id": str,
            "standing": str,
            "jumpcloud_id": str,
            "shown": str,
            "asked": str,
            "settled": str,
            "queued_at": str,
            "seen": int,
            "gone": int,
            "takeover": int,
        },
        pk="keeper_id",
        nullable={"queued_at"},
    )
    _create(
        db,
        "memberships",
        {"user": str, "team": str, "ours": int, "seen": int, "shown": int, "asked_at": str},
        pk=("user", "team"),
        nullable={"asked_at"},
    )
    _create(
        db,
        "runs",
        {
            "id": int,
            "kind": str,
            "started_at": str,
            "started_by": str,
            "reason": str,
            "finished_at": str,
            "result": str,
            "plan_id": str,
            "held": int,
            "counts": str,
            "document": str,
        },
        pk="id",
        nullable={"finished_at", "document"},
    )
    db.table("runs").create_index(["plan_id"])
    _create(
        db,
        "operations",
        {
            "id": int,
            "run_id": int,
            "state": str,
            "kind": str,
            "subject_key": str,
            "subject_type": str,
            "subject_name": str,
            "jumpcloud_id": str,
            "keeper_id": str,
            "cause": str,
            "rule": str,
            "reason": str,
            "changes": str,
            "teams_add": str,
            "teams_remove": str,
            "due": int,
            "decision": str,
            "planned_at": str,
            "sent_at": str,
            "finished_at": str,
            "outcome": str,
            "error": str,
        },
        pk="id",
        nullable={"sent_at", "finished_at"},
    )
    db.table("operations").create_index(["subject_key"])
    db.table("operations").create_index(["state", "subject_key"])
    db.execute(f"CREATE INDEX idx_operations_time ON operations ({LAST_CHANGE})")
    db.execute("CREATE INDEX idx_operations_queued ON operations (jumpcloud_id) WHERE kind = 'queue_team'")
    _create(
        db,
        "requests",
        {
            "id": int,
            "kind": str,
            "arguments": str,
            "requested_by": str,
            "at": str,
            "reason": str,
            "until": str,
            "state": str,
            "closed_at": str,
            "result": str,
        },
        pk="id",
        nullable={"until", "closed_at"},
    )
    db.table("requests").create_index(["state", "kind"])


def _errors_of_runs(db: "Database") -> None:
    """A run that failed says why."""
    db.table("runs").add_column("error", str, not_null_default="")


def _members_found(db: "Database") -> None:
    """Who was in a team when it was adopted is kept there."""
    db.table("memberships").add_column("found", int, not_null_default=0)


def _departures(db: "Database") -> None:
    """A lock says since when the person had been known to be out of scope; an account forgets it on their return."""
    db.table("operations").add_column("left_at", str)
    db.execute(
        "UPDATE operations SET left_at = (SELECT left_at FROM users "
        "WHERE users.keeper_id = operations.keeper_id AND users.left_at <= operations.planned_at) "
        "WHERE kind = 'deactivate_user'"
    )


def _alerts(db: "Database") -> None:
    """What each receiver of alerts was told, and when."""
    _create(
        db,
        "alerts",
        {"receiver": str, "kind": str, "key": str, "at": str},
        pk=("receiver", "kind", "key"),
    )


def _teams_that_left(db: "Database") -> None:
    """A team knows since when its group is out of scope."""
    db.table("teams").add_column("left_at", str)


def _pilot_entries(db: "Database") -> None:
    """A person in the pilot is so by some of its entries. The former mark did not say by which, and was on everybody
    who was ever created: whoever is in scope is marked anew by the next read."""
    for table in ("users", "operations"):
        db.table(table).add_column("pilot_entries", str, not_null_default="")
    db.execute("ALTER TABLE users DROP COLUMN pilot")


def _durations(db: "Database") -> None:
    """A decision says for how many seconds it counts; when that begins and ends is said by the first run that sees
    it."""
    db.table("requests").add_column("lasts", int)
    db.execute(
        "UPDATE requests SET lasts = max(0, CAST(round((julianday(until) - julianday(at)) * 86400) AS INTEGER)) "
        "WHERE until IS NOT NULL"
    )


def _missed(db: "Database") -> None:
    """An account or team that is gone knows since when."""
    for table in ("users", "teams"):
        db.table(table).add_column("missed_at", str)


def _locks_of_others(db: "Database") -> None:
    """An account that is gone knows whether somebody else had locked it."""
    db.table("users").add_column("others_lock", int, not_null_default=0)


def _found_for(db: "Database") -> None:
    """An account that a first plan found, and that nobody has reviewed, knows for whom."""
    db.table("users").add_column("found_for", str, not_null_default="")


def _create(
    db: "Database",
    name: str,
    columns: dict[str, type],
    pk: str | tuple[str, ...],
    nullable: frozenset[str] | set[str] = frozenset(),
) -> None:
    required = columns.keys() - nullable
    db.create_table(name, columns, pk=pk, not_null=[c for c in columns if c in required], strict=True)


STEPS: tuple[Callable[["Database"], None], ...] = (
    _first_schema,
    _errors_of_runs,
    _members_found,
    _departures,
    _alerts,
    _teams_that_left,
    _pilot_entries,
    _durations,
    _missed,
    _locks_of_others,
    _found_for,
)
"""The steps in order; the version of a file is how many of them it has taken."""

TABLES = {
    "meta": "key value",
    "users": "keeper_id standing active jumpcloud_id shown asked settled gone locked_by_us left_at protected_as "
    "pilot_entries former_external_id takeover review_lock missed_at others_lock found_for",
    "teams": "keeper_id standing jumpcloud_id shown asked settled queued_at seen gone takeover left_at missed_at",
    "memberships": "user team ours seen shown asked_at found",
    "runs": "id kind started_at started_by reason finished_at result plan_id held counts document error",
    "operations": "id run_id state kind subject_key subject_type subject_name jumpcloud_id keeper_id cause rule reason "
    "changes teams_add teams_remove due decision planned_at sent_at finished_at outcome error left_at pilot_entries",
    "requests": "id kind arguments requested_by at reason until state closed_at result lasts",
    "alerts": "receiver kind key at",
}
"""The tables to which all steps lead, with their columns: what a file has to have before anything relies on it."""
