"""A world to play in, in which no invariant may break."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaign.world import World, silent


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    hook = sys.unraisablehook
    made = World(tmp_path)
    silent(made)
    yield made
    made.restart()
    sys.unraisablehook = hook
    assert made.observer.violations == [], "\n".join(made.lines)
