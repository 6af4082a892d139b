"""Fixtures for all tests."""

import os
import signal

from tests.ordinary import public
from tests.stage import nursery, world

__all__ = ["nursery", "public", "world"]

# Hundreds of commands are started as processes: they need not compile the package each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# What a shell starts in the background ignores Ctrl-C, and so would each command that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
