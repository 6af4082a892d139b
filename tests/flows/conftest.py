"""Fixtures of whole flows."""

from collections.abc import Iterator

import pytest

from tests.flows.service import Service
from tests.receiver import Receiver
from tests.stage import World


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Whoever is told of alerts and heartbeats (see `test_telling.notifying`)."""
    with Receiver() as made:
        yield made


@pytest.fixture
def service(world: World) -> Iterator[Service]:
    """A service, not started yet, with a cycle each second and a resync every three."""
    world.schedule = {"interval": '"1s"', "jitter": '"0s"', "resync": '"3s"'}
    world.write_settings()
    with Service(world) as made:
        yield made
