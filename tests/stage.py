"""An organisation, a Keeper node and the real command line, as a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.simulator.compare import differences
from reconciler.simulator.jumpcloud import JumpCloud
from reconciler.simulator.keeper import Keeper
from reconciler.simulator.server import Server
from reconciler.store import Store
from tests.commands import Command, Nursery

API_KEY = "jca_" + "5" * 40


@dataclass
class World:
    """Both simulators on loopback, the application's id, and a folder with settings and state."""

    folder: Path
    jumpcloud: JumpCloud
    keeper: Keeper
    front: Server
    back: Server
    application: str
    nursery: Nursery
    policy: dict[str, str] = field(default_factory=lambda: {"grace": '"0s"'})
    safety: dict[str, str] = field(default_factory=lambda: {"first_run": '"apply"'})
    teams: dict[str, str] = field(default_factory=dict)
    schedule: dict[str, str] = field(default_factory=dict)

    def write_settings(self, **replaced: str) -> None:
        for name, secret in (("api-key", API_KEY), ("token", self.keeper.token())):
            path = self.folder / name
            path.write_text(secret)
            path.chmod(0o600)

        def section(name: str, values: dict[str, str]) -> str:
            return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())

        parts = {
            "jumpcloud": section(
                "jumpcloud",
                {"application": '"Keeper"', "api_key": '{ file = "api-key" }', "base_url": f'"{self.front.url}"'},
            ),
            "keeper": section(
                "keeper",
                {"scim_url": f'"{self.back.url}{self.keeper.base_path()}"', "token": '{ file = "token" }'},
            ),
            "policy": section("policy", {"protect": "[]", **self.policy}),
            "safety": section("safety", self.safety),
            "teams": section("teams", self.teams),
            "schedule": section("schedule", self.schedule),
        }
        (self.folder / "config.toml").write_text("\n".join((parts | replaced).values()))

    def run(self, *arguments: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        done = subprocess.CompletedProcess(arguments, process.wait(), out, err)
        assert expect is None or done.returncode == expect, f"exit {done.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        assert "should not happen" not in err, err
        assert API_KEY not in out + err
        assert self.keeper.token() not in out + err
        return done

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "reconciler"]

    @property
    def state_file(self) -> Path:
        return self.folder / "state" / "reconciler.db"

    @contextmanager
    def state(self) -> Iterator[Store]:
        """The state file, to look at: closed at the end, else a service that ends could not put it to rest."""
        with Store.open(self.state_file, write=False) as store:
            yield store

    def start(self, *arguments: str) -> Command:
        return self.nursery.start(arguments, self.folder, {**os.environ, "NO_COLOR": "1", "COLUMNS": "110"})

    def kill_after(self, changes: int, *arguments: str) -> None:
        """Run a command and kill it as soon as Keeper has taken so many changing requests."""
        process: list[Command] = []
        goal = len(self.keeper.changes) + changes

        def watch(_: object) -> None:
            if len(self.keeper.changes) >= goal and process:
                process[0].send_signal(signal.SIGKILL)

        self.keeper.on_change = watch
        process.append(self.start(*arguments))
        process[0].communicate(timeout=120)
        self.keeper.on_change = None

    def person(self, name: str, *groups: str, **values: str) -> str:
        one = self.jumpcloud.add_user(
            f"{name}@example.com", firstname=name.title(), lastname="Test", state="ACTIVATED", **values
        )
        for group in groups:
            self.jumpcloud.add_member(group, one)
        self.jumpcloud.settle_graph()
        return one

    def group(self, name: str) -> str:
        one = self.jumpcloud.add_group(name)
        self.jumpcloud.bind_group(self.application, one)
        self.jumpcloud.settle_graph()
        return one

    def writes(self) -> int:
        return len({change.request for change in self.keeper.changes})

    def differences(self) -> list[str]:
        """Where Keeper is not what JumpCloud wants."""
        return differences(self.jumpcloud, self.keeper, self.application)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    with Nursery() as made:
        yield made


@pytest.fixture
def world(tmp_path: Path, nursery: Nursery) -> Iterator[World]:
    jumpcloud, keeper = JumpCloud(), Keeper()
    jumpcloud.add_api_key(API_KEY)
    application = jumpcloud.add_application("Keeper")
    with Server(jumpcloud) as front, Server(keeper) as back:
        made = World(tmp_path, jumpcloud, keeper, front, back, application, nursery)
        made.write_settings()
        yield made
