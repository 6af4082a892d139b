"""Orders and the daemon that they are filed with: the settings that were in view, and what happens when it ends."""

import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from reconciler import orders
from reconciler.config import load
from reconciler.simulator.faults import Answer, Handler
from reconciler.simulator.service import Request
from reconciler.store import Store
from tests.commands import Command
from tests.flows.service import PATIENCE, Service, until
from tests.inside import accept, account, fill
from tests.stage import World


@pytest.fixture
def people(world: World) -> list[str]:
    """Everybody is in Keeper already, so that the service's own first cycle has nothing to do."""
    world.schedule = {"interval": '"1d"', "resync": '"7d"'}
    world.write_settings()
    _, people = fill(world)
    world.run("apply")
    accept(world)
    return people


@pytest.fixture
def service(world: World, people: list[str]) -> Iterator[Service]:  # noqa: ARG001 - they come first
    with Service(world) as made:
        yield made


def rested(service: Service, times: int = 1) -> None:
    until(lambda: service.said().count("are in line") >= times)


def by(world: World) -> set[str]:
    """Who has ordered runs."""
    with world.state() as store:
        return {run.by for run in store.runs(20)}


def filed(world: World) -> list[str]:
    with world.state() as store:
        return [request.state for request in store.orders()]


@dataclass(frozen=True)
class Held:
    """Keep whoever asks JumpCloud waiting until they are let go."""

    go: threading.Event

    def run(self, handle: Handler, request: Request) -> Answer:
        self.go.wait(PATIENCE)
        return handle(request)


@pytest.fixture
def go() -> Iterator[threading.Event]:
    """Lets the service go on that is busy while a command waits."""
    made = threading.Event()
    yield made
    made.set()


@pytest.fixture
def waiting(world: World, service: Service, go: threading.Event) -> Iterator[Command]:
    """A command that waits for its order, while the service is busy and has not taken it."""
    slow = world.front.faults.add(Held(go))
    service.start()
    until(lambda: slow.fired)
    process = world.start("apply", "--wait", "--reason", "by a person")
    until(lambda: filed(world) == ["filed"])
    yield process
    process.kill()
    process.communicate()


def test_who_was_protected_a_moment_ago_is_not_touched(world: World, service: Service, people: list[str]) -> None:
    service.start()
    rested(service)
    world.policy["protect"] = '["p0@example.com"]'
    world.write_settings()
    world.jumpcloud.suspend(people[0])
    world.jumpcloud.suspend(people[1])
    assert "protected" in world.run("plan").stdout.lower()
    world.run("apply", "--wait")
    assert "the settings were read again" in service.said()
    assert account(world, people[0]).active
    assert not account(world, people[1]).active


@pytest.mark.usefixtures("people")
def test_a_decision_that_came_to_nothing_is_logged_for_whoever_did_not_wait(world: World, service: Service) -> None:
    service.start()
    rested(service)
    assert "Filed as request" in world.run("adopt", "nobody@example.com").stdout
    until(lambda: "nobody@example.com" in service.said())
    assert "WARNING adopt: " in service.said() and "nothing was changed" in service.said()


def test_an_order_by_another_settings_file_is_refused(world: World, service: Service, people: list[str]) -> None:
    service.start()
    rested(service)
    other = world.folder / "other.toml"
    other.write_text((world.folder / "config.toml").read_text() + f'[state]\npath = "{world.state_file}"\n')
    world.jumpcloud.suspend(people[0])
    refused = world.run("apply", "--wait", "--config", str(other), expect=2)
    assert f"Nothing was done: the service has the settings in {world.folder / 'config.toml'}" in refused.stderr
    assert account(world, people[0]).active
    world.run("disown", "p1@example.com", "--wait", "--config", str(other))


def test_settings_that_the_service_can_t_use_refuse_every_order(world: World, service: Service) -> None:
    """The command has read them before they were spoilt."""
    service.start()
    rested(service)
    with Store.beside(world.state_file) as store:
        (world.folder / "config.toml").write_text("nonsense")
        number = orders.file(orders.Ask("apply", {}, "ada", "", "what they were"), store, datetime.now(UTC))
        until(lambda: filed(world) == [])
        request = store.request(number)
    assert request is not None
    answer = orders.answered(request)
    assert answer.code == 2
    assert "can't use the settings" in answer.error and "config.toml" in answer.error
    assert "ada" not in by(world)


def test_nothing_is_held_nothing_is_filed(world: World, service: Service) -> None:
    service.start()
    rested(service)
    assert "nothing was released" in world.run("release", "nosuchplan", expect=2).stderr
    assert filed(world) == []


def test_whoever_waited_for_a_service_that_died_can_rely_on_the_answer(
    world: World, service: Service, waiting: Command, go: threading.Event
) -> None:
    service.end(signal.SIGKILL)
    _, said = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 1
    assert "nothing of it was done, nor will be" in said
    world.front.faults.clear()
    go.set()
    service.start()
    rested(service)
    assert "ordered by" not in service.said()


def test_whoever_gives_up_waiting_takes_the_order_back(
    world: World, service: Service, waiting: Command, go: threading.Event
) -> None:
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 1
    assert "Withdrawn" in said
    assert filed(world) == []
    go.set()
    rested(service)
    assert service.end() == 0
    assert "ordered by" not in service.said()


def test_what_nobody_took_for_long_has_lapsed_and_what_is_new_survives_a_restart(
    world: World, service: Service
) -> None:
    digest = load(world.folder / "config.toml").digest
    with Store.open(world.state_file, write=True) as store:
        old, new = (datetime.now(UTC) - orders.LASTS * 3, datetime.now(UTC))
        orders.file(orders.Ask("apply", {}, "ada", "", digest), store, old)
        orders.file(orders.Ask("apply", {}, "eve", "", digest), store, new)
        orders.file(orders.Ask("disown", {"email": "p1@example.com"}, "bob", "", digest), store, old)
    service.start()
    until(lambda: filed(world) == [])
    assert "apply, ordered by ada) has lapsed" in service.said()
    assert "disown ordered by bob" in service.said()
    until(lambda: "eve" in by(world))
    assert "ada" not in by(world)
