"""Fixtures for all tests."""

import os

from tests.ordinary import public
from tests.stage import nursery, world

__all__ = ["nursery", "public", "world"]

# Hundreds of commands are started as processes: they need not compile the package each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
