"""Programs that the settings name: run without a shell, within a time limit, and never with our secrets.

Nothing here raises for what such a program does; what went wrong is told in `Ran.problem`.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from loguru import logger

from reconciler.report.terminal import clean
from reconciler.secrets import Secret

LOGGED_LINES = 100
"""Lines of a program's output that are logged; the rest is a number."""

_DRAIN = 2.0
"""Seconds for the last output of a program that has ended, should a child that left its group keep it open."""
_OURS = ("CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID")


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a program: what it printed, on standard error too, and what went wrong, "" if nothing did.
    `code` is its exit code, 0 also where it did not end by itself."""

    output: bytes
    errors: bytes
    problem: str = ""
    code: int = 0


def environment(secrets: Iterable[Secret]) -> dict[str, str]:
    """Our environment without what is ours alone: the secrets, where they are, and systemd's notification socket."""
    hidden = {secret.name for secret in secrets if secret.kind == "env"} | set(_OURS)
    return {name: value for name, value in os.environ.items() if name not in hidden}


async def run(
    command: Sequence[str], given: bytes, *, limit: float, env: Mapping[str, str], most: int = 1 << 20
) -> Ran:
    """Run a program with `given` on its standard input, for `limit` seconds at most; `most` bytes of output are kept.

    It is over when it ends, whatever it started: it is in a process group of its own, which is killed afterwards, and
    also when the time is over or this is cancelled.
    """
    try:
        transport, running = await asyncio.get_running_loop().subprocess_exec(
            lambda: _Running(most), *command, env=env, start_new_session=True
        )
    except (OSError, ValueError) as error:
        return Ran(b"", b"", f"could not be started: {getattr(error, 'strerror', None) or error}")
    stdin = transport.get_pipe_transport(0)
    assert isinstance(stdin, asyncio.WriteTransport)
    code = 0
    try:
        stdin.write(given)  # a program need not read it
        stdin.write_eof()
        async with asyncio.timeout(limit):
            await running.ended.wait()
        code = transport.get_returncode() or 0
        problem = _ended(code)
    except TimeoutError:
        problem = f"did not end within {limit:g} s and was stopped"
    finally:
        with contextlib.suppress(OSError):  # nobody is left, or who is left is not ours to end
            os.killpg(transport.get_pid(), signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN):
                await running.drained.wait()
        with contextlib.suppress(OSError):
            transport.close()
    output, errors = running.kept[1], running.kept[2]
    if len(output) > most:
        problem = problem or f"printed more than {most} bytes"
    return Ran(bytes(output[:most]), bytes(errors[:most]), problem, max(0, code))


class _Running(asyncio.SubprocessProtocol):
    """What a program prints, to the end, so that it never waits for us: kept is one byte more than may be, to tell.

    Not `asyncio.create_subprocess_exec`: its `wait` lasts until every child that has the output open has ended too.
    """

    def __init__(self, most: int) -> None:
        self.kept = {1: bytearray(), 2: bytearray()}
        self.ended = asyncio.Event()
        self.drained = asyncio.Event()
        self._most = most

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        kept = self.kept[fd]
        kept += data[: max(0, self._most + 1 - len(kept))]

    def process_exited(self) -> None:
        self.ended.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.drained.set()


def log_output(name: str, ran: Ran) -> None:
    """The output of a program in the log, a line each; what a program says on standard error comes last."""
    level = "WARNING" if ran.problem else "INFO"
    lines = [line for text in (ran.output, ran.errors) for line in text.decode(errors="replace").splitlines()]
    shown = [line for line in lines if line.strip()]
    for line in shown[:LOGGED_LINES]:
        logger.log(level, "{}: {}", name, clean(line, width=500))
    if len(shown) > LOGGED_LINES:
        logger.log(level, "{}: {} more lines", name, len(shown) - LOGGED_LINES)


def _ended(code: int) -> str:
    if code == 0:
        return ""
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
