"""Fixtures for all tests."""

from tests.stage import world

__all__ = ["world"]
