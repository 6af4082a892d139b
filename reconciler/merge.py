"""Merge a row that was computed from an older copy of the snapshot with the row as it is now. Pure.

Several cycles work on one state file at the same time: a whole one, and partial ones about a few people. Each knows the
snapshot as it was when it began. A field that somebody else has changed since then keeps the newer value.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from reconciler.model import Account, Team

R = TypeVar("R", Account, Team)

_ACCESS = frozenset({"active", "locked_by_us", "others_lock", "gone", "missed_at"})
"""Fields that mean something only with the standing: of an account that is gone and that nobody manages, `active` is
how it stood when last shown."""


def merged(wanted: R, before: R | None, current: R | None, *, touched: bool = False) -> R | None:
    """The row to write: `wanted` was made from `before`, and `current` is what is there now.

    None where somebody else has deleted the row meanwhile. How access stands comes as a whole from the row in which the
    standing has changed. Of two rows that are both new, the one that is managed stays: the other only says that Keeper
    lists it. `touched`: an operation on the account or team has begun since `before` was read, so that access stands as
    it is there now, even where that looks like `before`.
    """
    if current == wanted or (current == before and not touched):
        return wanted
    if current is None:
        return None
    if before is None:
        return wanted if wanted.managed and not current.managed else current
    values: dict[str, Any] = {}
    access = None
    if current.standing != before.standing:
        access = current
    elif wanted.standing != before.standing:
        access = wanted
    elif touched:
        access = current
    for name in (field.name for field in fields(wanted)):
        new, old, now = (getattr(row, name) for row in (wanted, before, current))
        if name in _ACCESS and access is not None:
            values[name] = getattr(access, name)
            continue
        values[name] = _entries(new, old, now) if isinstance(now, Mapping) else new if now == old else now
    return replace(current, **values)


def _entries(wanted: Mapping[str, Any], before: Mapping[str, Any], current: Mapping[str, Any]) -> Mapping[str, Any]:
    if current == before:
        return wanted
    kept = {key for key in current.keys() | before.keys() if current.get(key) != before.get(key)}
    return {
        **{key: value for key, value in wanted.items() if key not in kept},
        **{key: value for key, value in current.items() if key in kept},
    }
