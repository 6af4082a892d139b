"""The state of one tenant in SQLite: the snapshot of Keeper, the runs, the journal, the requests.

One writer, and readers at any time (see `statefile` for the file itself). What is read in one call is of one moment;
what is written in one call is written as a whole or not at all, and is on the disk when the call returns. Every
method raises `StateError` where the file can't be read or written.
"""

import os
from pathlib import Path

from reconciler import statefile
from reconciler.rows import JournalRow, Request, Run, State
from reconciler.statefile_errors import (
    Damaged,
    Foreign,
    InUse,
    Newer,
    NoRoom,
    Replaced,
    StateError,
    Unusable,
    WrongBinding,
)
from reconciler.store.access import Access
from reconciler.store.base import real
from reconciler.store.former import keep
from reconciler.store.journal import Journal
from reconciler.store.requests import Requests
from reconciler.store.snapshots import Binding
from reconciler.store.times import Times

__all__ = [
    "Binding",
    "Damaged",
    "Foreign",
    "InUse",
    "JournalRow",
    "Newer",
    "NoRoom",
    "Replaced",
    "Request",
    "Run",
    "State",
    "StateError",
    "Store",
    "Unusable",
    "WrongBinding",
]


class Store(Journal, Access, Requests, Times):
    """An open state file; see the module."""

    @classmethod
    def restore(cls, path: str | os.PathLike[str], copy: Path) -> Path | None:
        """Go back to a copy of the state file; returns the name under which the present one is kept, if there is one.

        What was done since the copy was made is not known any more: the next cycle is a resync, and a first plan again
        that a person reviews. Raises `StateError`.
        """
        return statefile.restore(real(path), real(copy), keep)
