"""The daemon tells people, Prometheus, and whoever asks whether it lives."""

import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from reconciler.simulator.faults import status
from tests.flows.service import Service, until
from tests.inside import fill
from tests.receiver import Receiver, secret
from tests.stage import World


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture
def service(world: World) -> Iterator[Service]:
    world.schedule = {"interval": '"1s"', "jitter": '"0s"', "resync": '"1h"'}
    with Service(world) as made:
        yield made


def page(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""
    except OSError:
        return 0, ""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_it_tells_how_it_stands_while_it_runs(world: World, service: Service, receiver: Receiver) -> None:
    _, people = fill(world)
    port = free_port()
    webhook = secret(world.folder, "webhook", f"{receiver.url}/hook/topsecret")
    heartbeat = secret(world.folder, "heartbeat", f"{receiver.url}/beat")
    world.write_settings(
        metrics=f'[metrics]\nlisten = "127.0.0.1:{port}"\n',
        notify=f"[notify]\nwebhook = {webhook}\nheartbeat = {heartbeat}\n",
    )
    service.start()
    until(lambda: page(port, "/readyz")[0] == 200)
    assert page(port, "/healthz") == (200, "alive\n")
    until(lambda: "reconciler_last_good_cycle_age_seconds" in page(port, "/metrics")[1])
    until(lambda: ("GET", "/beat", None) in receiver.got)
    world.jumpcloud.suspend(people[0])
    until(lambda: receiver.kinds() == ["deactivated"])
    until(lambda: 'kind="deactivate_user",result="done"' in page(port, "/metrics")[1])
    world.front.faults.add(status(401))
    until(lambda: receiver.kinds() == ["deactivated", "failing"])
    until(lambda: page(port, "/readyz")[0] == 503)
    assert page(port, "/healthz") == (200, "alive\n")
    world.front.faults.clear()
    until(lambda: receiver.kinds() == ["deactivated", "failing", "recovered"])
    assert service.end() == 0
    assert "topsecret" not in service.said()


def test_an_address_that_is_taken_stops_no_cycle(world: World, service: Service) -> None:
    fill(world)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        world.write_settings(metrics=f'[metrics]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"\n')
        service.start()
        until(lambda: world.differences() == [])
        assert "Metrics can't be served" in service.said()
        assert service.end() == 0


def test_another_address_is_taken_by_a_reload(world: World, service: Service) -> None:
    fill(world)
    first, second = free_port(), free_port()

    def listen(address: str) -> None:
        times = service.said().count("read again")
        world.write_settings(metrics=f'[metrics]\nlisten = "{address}"\n')
        service.send(signal.SIGHUP)
        until(lambda: service.said().count("read again") > times)

    service.start()
    until(lambda: world.differences() == [])
    listen(f"127.0.0.1:{first}")
    assert page(first, "/healthz")[0] == 200
    listen(f"127.0.0.1:{second}")
    assert (page(first, "/healthz")[0], page(second, "/healthz")[0]) == (0, 200)
    with socket.create_server(("127.0.0.1", first)):
        listen(f"127.0.0.1:{first}")
        assert f"Metrics can't be served at 127.0.0.1:{first}" in service.said()
        assert page(second, "/healthz")[0] == 0
    listen(f"127.0.0.1:{first}")
    assert page(first, "/healthz")[0] == 200, "a reload tries again"
    listen("")
    assert page(first, "/healthz")[0] == 0
    assert service.end() == 0


def test_it_stops_while_a_receiver_hangs(world: World, service: Service) -> None:
    fill(world)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        heartbeat = secret(world.folder, "heartbeat", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        world.write_settings(notify=f"[notify]\nheartbeat = {heartbeat}\n")
        service.start()
        link, _ = silent.accept()
        with link:  # nobody answers
            assert service.end() == 0
