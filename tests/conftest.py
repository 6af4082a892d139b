"""Fixtures for all tests."""

import os
import shutil
import signal
from pathlib import Path

from tests.ordinary import public
from tests.stage import nursery, world

__all__ = ["nursery", "public", "world"]

# Hundreds of commands are started as processes: they need not compile the package each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# The state file syncs each transaction to the disk, which takes most of the time of a slow one.
_MEMORY, _ENOUGH = Path("/dev/shm"), 1 << 30
if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ENOUGH:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))
# What a shell starts in the background ignores Ctrl-C, and so would each command that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
