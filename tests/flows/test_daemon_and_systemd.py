"""What the daemon tells systemd, heard at the socket that systemd would give it."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler import systemd
from tests.flows.service import Service, until
from tests.inside import fill
from tests.stage import World


class Manager:
    """Stands for systemd: every word, in the order in which it came."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.words: list[str] = []

    def heard(self, word: str) -> bool:
        while True:
            try:
                message = self._listener.recv(65536)
            except BlockingIOError:
                return any(word in one for one in self.words)
            self.words += message.decode().splitlines()


@pytest.fixture
def manager(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    address = world.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(str(address))
        monkeypatch.setenv("NOTIFY_SOCKET", str(address))
        yield Manager(listener)


def test_it_is_ready_says_how_things_are_and_stops(world: World, service: Service, manager: Manager) -> None:
    fill(world)
    service.start()
    until(lambda: manager.heard("are in line"))
    assert manager.words.count("READY=1") == 1
    # A cycle, or on a slow machine the next resync.
    assert [word for word in manager.words if word.startswith("STATUS=waiting; last ")]
    assert not manager.heard("WATCHDOG")
    service.end()
    assert manager.heard("STOPPING=1")


def test_refused_settings_are_in_its_status_until_there_are_good_ones(
    world: World, service: Service, manager: Manager
) -> None:
    service.start()
    config = world.folder / "config.toml"
    good = config.read_text()
    until(lambda: manager.heard("STATUS=waiting"))
    config.write_text("nonsense")
    service.send(signal.SIGHUP)
    until(lambda: manager.heard("STATUS=waiting; the new settings can't be used, the old ones are in force"))
    reloading = manager.words.index("RELOADING=1")
    assert manager.words[reloading + 1].startswith("MONOTONIC_USEC=")
    assert manager.words[reloading + 2] == "READY=1"
    manager.words.clear()
    config.write_text(good)
    service.send(signal.SIGHUP)
    until(lambda: manager.heard("STATUS=waiting; last"))
    until(lambda: "can't be used" not in [word for word in manager.words if "STATUS=waiting" in word][-1])


def test_the_watchdog_is_fed_until_the_process_hangs(
    service: Service, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "120000000")
    service.start()
    until(lambda: manager.heard("WATCHDOG=1"))
    service.send(signal.SIGSTOP)
    until(lambda: not drained(manager))
    manager.words.clear()
    service.send(signal.SIGCONT)
    until(lambda: manager.heard("WATCHDOG=1"))


def drained(manager: Manager) -> bool:
    """Whether there was something to hear since the last time."""
    before = len(manager.words)
    manager.heard("")
    return len(manager.words) > before


def test_a_manager_that_reads_nothing_stops_no_cycle(
    world: World, service: Service, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "120000000")
    for _ in range(int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 1):
        systemd.notify(STATUS="nobody reads this")
    assert manager.words == []
    fill(world)
    service.start()
    until(lambda: world.differences() == [])
