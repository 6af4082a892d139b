"""Fixtures for all tests."""

from tests.ordinary import public
from tests.stage import world

__all__ = ["public", "world"]
