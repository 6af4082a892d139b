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
"""Seconds for the last output of a program that has ended, should a child of it keep its output open."""
_OURS = ("CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID")


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a program: what it printed, on standard error too, and what went wrong, "" if nothing did."""

    output: bytes
    errors: bytes
    problem: str = ""


def environment(secrets: Iterable[Secret]) -> dict[str, str]:
    """Our environment without what is ours alone: the secrets, where they are, and systemd's notification socket."""
    hidden = {secret.name for secret in secrets if secret.kind == "env"} | set(_OURS)
    return {name: value for name, value in os.environ.items() if name not in hidden}


async def run(
    command: Sequence[str], given: bytes, *, limit: float, env: Mapping[str, str], most: int = 1 << 20
) -> Ran:
    """Run a program with `given` on its standard input, for `limit` seconds at most; `most` bytes of output are kept.

    It is in a process group of its own, which is killed when the time is over or this is cancelled.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=env,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return Ran(b"", b"", f"could not be started: {getattr(error, 'strerror', None) or error}")
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    output, errors = bytearray(), bytearray()
    readers = asyncio.gather(
        _feed(process.stdin, given), _keep(process.stdout, output, most), _keep(process.stderr, errors, most)
    )
    problem = ""
    try:
        async with asyncio.timeout(limit):
            code = await process.wait()
        problem = _ended(code)
    except TimeoutError:
        problem = f"did not end within {limit:g} s and was stopped"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN):
                await readers
    if len(output) > most:
        problem = problem or f"printed more than {most} bytes"
    return Ran(bytes(output[:most]), bytes(errors[:most]), problem)


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


async def _feed(stream: asyncio.StreamWriter, given: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # a program need not read it
        stream.write(given)
        await stream.drain()
    stream.close()


async def _keep(stream: asyncio.StreamReader, kept: bytearray, most: int) -> None:
    """Read to the end, so that the program never waits for us; keep one byte more than may be, to tell."""
    while chunk := await stream.read(1 << 16):
        kept += chunk[: max(0, most + 1 - len(kept))]
