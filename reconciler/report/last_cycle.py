"""The newest cycle as evidence of what the next one may not do, however due it is."""

import json
from dataclasses import dataclass
from datetime import datetime

from reconciler import standing
from reconciler.plan import Kind
from reconciler.rows import OVERTAKEN, TIME, Run, State
from reconciler.store import Store

_CREATES = frozenset({Kind.CREATE_USER, Kind.QUEUE_TEAM})


@dataclass(frozen=True, slots=True)
class Passed:
    """A cycle, or an attempt of one, that did not do what is due: when it began, and why, "" where that is not on
    record. `put_off`: nothing was sent."""

    at: datetime
    why: str
    put_off: bool = True


def passed_over(store: Store, kind: Kind, key: str, due_since: datetime | None) -> Passed | None:
    """Return the newest cycle, where it has failed, or has not done what is due for the subject with this key.

    It cannot do what needs a list that was refused: nobody is created without Keeper's. `due_since`: since when the
    operation is due, None where no cycle may have seen that yet. What a cycle held may have been let through since.
    """
    newest = store.last_cycle()
    if newest is None:
        return None
    failing, read_at = standing.from_json(store.meta(standing.KEY)).failing, store.last_whole_read()
    read = read_at is not None and read_at >= newest.started_at
    failed = failing is not None and not (failing.resync and read)
    unlisted = failing is not None and read and kind in _CREATES
    missed = due_since is not None and newest.started_at > due_since and not _held(store, newest, key)
    if not (failed or unlisted or missed):
        return None
    return Passed(newest.started_at, newest.error or (failing.words if failing else ""))


def _held(store: Store, run: Run, key: str) -> bool:
    """Whether a run held something about this subject, as far as its plan is on record."""
    document = store.document(run.id) if run.held else None
    if document is None:
        return run.held > 0
    plan = json.loads(document)
    held = {number for hold in plan["held"] for number in hold["operations"]}
    return any(key in plan["operations"][number]["subject"].values() for number in held)


def last_attempt(store: Store, kind: Kind, key: str) -> Passed | None:
    """Return the newest attempt on a subject in this node, where that was of this kind and brought nothing that is
    known."""
    row = next(iter(store.journal_of(key, 1)), None)
    if row is None or row.id <= store.former() or row.operation.kind is not kind:
        return None
    if row.state is State.UNKNOWN:
        return Passed(row.sent_at or row.planned_at, row.error, put_off=False)
    put_off = row.state is State.PUT_OFF and row.outcome not in (TIME, OVERTAKEN)
    return Passed(row.at, row.error) if put_off else None
