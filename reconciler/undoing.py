"""Changes of access that undo a recent change of ours: the limits do not count them. Pure.

A bulk mistake is repaired as fast as it was made, in both directions: our own lock is undone, also by a new account
where it withdrew an invitation, and people whom we unlocked are locked again. To lock again a person whom somebody else
unlocked restores a lock that was counted before.
"""

from collections.abc import Iterable, Set
from datetime import datetime, timedelta

from reconciler.plan import Cause, Kind, Operation, Rule, Subject


def gives_access(operation: Operation) -> bool | None:
    """Whether an operation lets a person in again (True), locks a person (False), or does neither (None)."""
    if operation.kind is Kind.DEACTIVATE_USER:
        return False
    # A lock that withdrew an invitation ends with a new account.
    returns = operation.kind is Kind.CREATE_USER and operation.rule is Rule.RETURNED
    return True if returns or operation.kind is Kind.REACTIVATE_USER else None


def undoes(operation: Operation, last: Set[bool]) -> bool:
    """Whether an operation takes back the last change of access that we made to the same person within the window, or
    restores a lock of ours. `last` is what that change may have been, as from `gives_access`."""
    match operation.kind:
        case Kind.DEACTIVATE_USER:
            return True in last or operation.cause is Cause.DRIFT
        case Kind.REACTIVATE_USER | Kind.CREATE_USER:
            return gives_access(operation) is True and False in last
        case _:
            return False


def keys(subject: Subject) -> frozenset[str]:
    """The keys that the journal may have a person under: an account may be locked before we know whose it is."""
    return frozenset({subject.jumpcloud_id, subject.keeper_id} - {""})


def undoing(
    history: Iterable[tuple[datetime, Operation, bool]], window: timedelta
) -> list[tuple[bool, frozenset[bool]]]:
    """Say for each operation, the oldest first, whether it undoes one that was not older than the window then, and
    what our last change of the person's access may have been after it, as from `gives_access`.

    `history` has the time of each operation, and whether it is known to have arrived. One that may not have arrived
    leaves open what was there before it: to ask for the same once more is to undo the same. Nothing is said of what
    changes no access. Whoever vanished from Keeper without a lock of ours is created anew, too: that undoes nothing.
    """
    last: dict[str, tuple[datetime, frozenset[bool]]] = {}
    found = []
    for at, operation, arrived in history:
        mine = keys(operation.subject)
        before = [last[key] for key in mine if key in last]
        recent = frozenset(gave for then, changes in before if at - then <= window for gave in changes)
        gives = gives_access(operation)
        if operation.kind is Kind.CREATE_USER and not any(False in changes for _, changes in before):
            gives = None
        after = frozenset[bool]() if gives is None else frozenset({gives}) | (frozenset() if arrived else recent)
        if after:
            last |= dict.fromkeys(mine, (at, after))
        found.append((undoes(operation, recent), after))
    return found
