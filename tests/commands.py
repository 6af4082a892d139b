"""Commands as processes of their own, forked from one that has imported the package already.

Importing takes several times as long as what a command does, and the tests run a thousand of them. A command that is
forked has its own memory, descriptors, directory, environment and signals. How a command fares from the start of an
interpreter to its end is seen by the tests of standard streams, in `tests/flows/test_output.py`: they execute
`python -m reconciler`.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn, Self

import reconciler
from reconciler.http import tls_from_environment

_LARGEST = 2**20
"""Bytes of one message, most of which is the environment."""
_IMPORTED_LATE = ("anyio._backends._asyncio", "encodings.utf_8_sig", "httpcore")
"""Modules that the first request imports."""


class Command:
    """A command that was started, with the interface of `subprocess.Popen`."""

    def __init__(self, pid: int, reap: Callable[[int], int], out: IO[str], err: IO[str]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._reap = reap
        self._streams = out, err
        self._written = "", ""
        # It stays a zombie until it is reaped, so nobody else has its id.
        self._end = os.pidfd_open(pid)

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            end = select.poll()
            end.register(self._end, select.POLLIN)
            if not end.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            os.close(self._end)
            self.returncode = self._reap(self.pid)
            out, err = map(_whole, self._streams)
            self._written = out, err
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; gives all that it has written."""
        self.wait(timeout)
        return self._written


def _whole(stream: IO[str]) -> str:
    with stream:
        stream.seek(0)
        return stream.read()


class Nursery:
    """Starts commands. The process that they are forked from begins with the first one."""

    def __init__(self) -> None:
        self._parent: subprocess.Popen[bytes] | None = None
        self._line, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()
        self._theirs.close()
        if self._parent is not None:
            self._parent.wait()

    def start(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Command:
        """Run `reconciler` with these arguments; its input is empty, its output is kept."""
        if self._parent is None:
            self._parent = subprocess.Popen(
                [sys.executable, "-m", __name__, str(self._theirs.fileno())],
                pass_fds=[self._theirs.fileno()],
                start_new_session=True,  # it ends when its line is closed, not with Ctrl-C
            )
            self._theirs.close()
        out, err = (os.fdopen(os.memfd_create(name), "w+") for name in ("out", "err"))
        with open(os.devnull, "rb") as nothing:
            streams = [nothing.fileno(), out.fileno(), err.fileno()]
            message = json.dumps([list(arguments), str(folder), dict(environment)]).encode()
            socket.send_fds(self._line, [message], streams)
        return Command(self._answer(), self._reap, out, err)

    def _reap(self, pid: int) -> int:
        self._line.send(json.dumps(pid).encode())
        return os.waitstatus_to_exitcode(self._answer())

    def _answer(self) -> int:
        return int(self._line.recv(_LARGEST))


def _prepare() -> None:
    """Do what every command would begin with."""
    package = [found.name for found in pkgutil.walk_packages(reconciler.__path__, "reconciler.")]
    for name in (*package, *_IMPORTED_LATE):
        if name != "reconciler.__main__":
            importlib.import_module(name)
    tls_from_environment()
    gc.freeze()


def _become(line: socket.socket, streams: Sequence[int], arguments: Any) -> NoReturn:
    """Be the command in this process, which was forked for it."""
    line.close()
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    words, folder, environment = arguments
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv[1:] = words
    try:
        runpy.run_module("reconciler", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        # Taking the interpreter apart would copy every page that is shared: that takes longer than most commands.
        atexit.register(os._exit, int(end.code or 0))
        raise
    raise AssertionError("a command ends the process")


def _serve(line: socket.socket) -> None:
    """Fork for each list that comes along the line, and reap the process whose number comes."""
    while True:
        message, streams, _, _ = socket.recv_fds(line, _LARGEST, 3)
        if not message:
            return
        asked = json.loads(message)
        if isinstance(asked, int):
            _, answer = os.waitpid(asked, 0)
        else:
            answer = os.fork()
            if answer == 0:
                _become(line, streams, asked)
            for descriptor in streams:
                os.close(descriptor)
        line.send(str(answer).encode())


if __name__ == "__main__":
    _prepare()
    _serve(socket.socket(fileno=int(sys.argv.pop())))
