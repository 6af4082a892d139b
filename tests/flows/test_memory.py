"""An idle service is small: there may be one for each of many tenants on a server."""

from pathlib import Path

from tests.flows.service import Service, until
from tests.inside import fill
from tests.stage import World

ALLOWED = 60_000_000
"""Bytes. It takes 54 million with CPython 3.11 on Debian 12; see benchmarks/README.md."""


def test_an_idle_service_takes_less_than_60_mb(world: World, service: Service) -> None:
    fill(world, 20)
    world.run("apply")
    service.start()
    until(lambda: service.said().count("nothing to do") >= 4)
    assert service.process is not None
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0]) * 1024
    assert resident < ALLOWED
