"""The daemon as a process of its own."""

import signal
import subprocess
import time
from collections.abc import Callable

from reconciler import statefile
from tests.stage import World

PATIENCE = 30.0
"""Seconds until something that should happen at once must have happened, on a machine that is busy otherwise."""


class Service:
    """`reconciler run`, with its log in a file; what still runs on leaving it is killed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.log = world.folder / "service.log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)

    def start(self) -> "Service":
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.world.command, "run"], cwd=self.world.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until(lambda: self.runs)
        return self

    @property
    def runs(self) -> bool:
        """Whether it has the state file, which is not opened to see that."""
        return statefile.is_in_use(self.world.state_file)

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process is None:
            return 0
        self.send(number)
        code = self.process.wait(PATIENCE)
        self.process = None
        return code

    def said(self) -> str:
        return self.log.read_text()


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
