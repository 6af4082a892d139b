"""Changes of access that undo a recent change of ours: the limits do not count them. Pure.

A bulk mistake is repaired as fast as it was made, in both directions: our own lock is undone, and people whom we
unlocked are locked again. To lock again a person whom somebody else unlocked restores a lock that was counted before.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from reconciler.plan import Cause, Kind, Operation, Rule


def gives_access(operation: Operation) -> bool | None:
    """Whether an operation lets a person in again (True), locks a person (False), or does neither (None)."""
    if operation.kind is Kind.DEACTIVATE_USER:
        return False
    # A lock that withdrew an invitation ends with a new account.
    returns = operation.kind is Kind.CREATE_USER and operation.rule is Rule.RETURNED
    return True if returns or operation.kind is Kind.REACTIVATE_USER else None


def undoes(operation: Operation, last: bool | None) -> bool:
    """Whether an operation takes back the last change of access that we made to the same person within the window,
    `last` as from `gives_access`, or restores a lock of ours."""
    match operation.kind:
        case Kind.DEACTIVATE_USER:
            return last is True or operation.cause is Cause.DRIFT
        case Kind.REACTIVATE_USER:
            return last is False
        case _:
            return False


def undoing(history: Iterable[tuple[datetime, Operation]], window: timedelta) -> list[tuple[bool, bool | None]]:
    """Say for each operation, the oldest first, whether it undoes one that was not older than the window then, and
    what it did to the person's access, as from `gives_access`.

    Whoever vanished from Keeper without a lock of ours is created anew, too: that undoes nothing.
    """
    last: dict[str, tuple[datetime, bool]] = {}
    found = []
    for at, operation in history:
        key = operation.subject.key
        before = last.get(key)
        undone = undoes(operation, before[1] if before and at - before[0] <= window else None)
        gives = gives_access(operation)
        if operation.kind is Kind.CREATE_USER and (before is None or before[1]):
            gives = None
        if gives is not None:
            last[key] = at, gives
        found.append((undone, gives))
    return found
