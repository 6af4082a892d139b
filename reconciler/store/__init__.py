"""The state of one tenant in SQLite: the snapshot of Keeper, the runs, the journal, the requests.

One writer, and readers at any time (see `statefile` for the file itself). What is read in one call is of one moment;
what is written in one call is written as a whole or not at all, and is on the disk when the call returns. Every
method raises `StateError` where the file can't be read or written.
"""

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
