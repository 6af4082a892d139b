"""Standard output and standard error of a command: writing text to them never raises.

A full disk, a closed pipe or a name that the terminal cannot encode must not end work that is on its way, nor change
the exit code of work that is done. `own` puts both streams in the place of Python's own, so that every library that
writes to `sys.stdout` or `sys.stderr` is covered, the log and progress bars included.
"""

import codecs
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

import click

_LOG_PATIENCE = 1.0
"""Seconds that whoever has the state file waits once for a reader of the log."""


class Stream(io.TextIOBase):
    """An unbuffered standard stream. Characters that its encoding lacks are written as escapes (`\\xeb`).

    A write that fails drops its text; `failure` keeps the first error. The next write tries again, since a full disk
    may have room later. `patience` is how many seconds a write waits for a reader that does not read, None for ever.
    After one such wait, text is dropped at once until the reader goes on.
    """

    # click takes an ASCII stream for misconfigured and writes UTF-8 to its `buffer`: there is none here.
    errors = "backslashreplace"

    def __init__(self, descriptor: int, encoding: str) -> None:
        self.failure: OSError | None = None
        self.patience: float | None = None
        self._stuck = False
        self._descriptor = descriptor
        self._encoding = encoding
        self._encoder = codecs.getincrementalencoder(encoding)(self.errors)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding that the environment names."""
        return self._encoding

    def write(self, text: str) -> int:
        """Write the text at once, or keep why that failed. Raises TypeError for what is no text."""
        # click tries with bytes whether this is a text stream. The encoders of several bytes a character take them.
        if not isinstance(text, str):
            raise TypeError(f"text is written here, not {type(text).__name__}")
        rest = memoryview(self._encoder.encode(text))
        try:
            while rest:
                rest = rest[self._write_some(rest) :]
        except OSError as error:
            self.failure = self.failure or error
        return len(text)

    def _write_some(self, content: memoryview) -> int:
        if self.patience is not None:
            self._stuck = not self._has_room(0.0 if self._stuck else self.patience)
            if self._stuck:
                raise TimeoutError(errno.ETIMEDOUT, "its reader does not read")
            content = content[: select.PIPE_BUF]  # a pipe that has room takes as much without blocking
        try:
            return os.write(self._descriptor, content)
        except BlockingIOError:  # another process has made the pipe or terminal that it shares non-blocking
            self._has_room(None)
            return 0

    def _has_room(self, seconds: float | None) -> bool:
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLOUT)
        return bool(waiting.poll(None if seconds is None else seconds * 1000))

    def writable(self) -> bool:
        """Whether every write so far has succeeded."""
        return self.failure is None

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)


def own() -> None:
    """Replace the standard streams. To be called before anything is written or opened."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The next file that is opened, such as the state file, must not become standard output. It is opened for
            # reading: a write fails as it does on a closed descriptor.
            os.open(os.devnull, os.O_RDONLY)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = cast("TextIO", Stream(1, _encoding(sys.stdout)))
    sys.stderr = cast("TextIO", Stream(2, _encoding(sys.stderr)))


def _encoding(stream: TextIO | None) -> str:
    return stream.encoding if stream is not None else "utf-8"


def never_wait_for_log_readers() -> None:
    """Let the log lose lines rather than stop a service: a stopped terminal or a stuck reader must not delay a lock."""
    if isinstance(sys.stderr, Stream):
        sys.stderr.patience = _LOG_PATIENCE


@contextmanager
def log_readers_not_waited_for() -> Iterator[None]:
    """Do the same for a command as long as it has the state file. The words at its end wait for their reader again."""
    never_wait_for_log_readers()
    try:
        yield
    finally:
        if isinstance(sys.stderr, Stream):
            sys.stderr.patience = None


def take_problem() -> str:
    """Say once why standard output did not take everything; "" where it did, or where its reader went away.

    A reader that closes its end has read what it wanted, as `head` does.
    """
    stream: object = sys.stdout
    if not isinstance(stream, Stream) or stream.failure is None:
        return ""
    failure = stream.failure
    if isinstance(failure, BrokenPipeError | ConnectionResetError):
        return ""
    stream.failure = None
    return "it is closed" if failure.errno == errno.EBADF else failure.strerror or str(failure)


def say(text: str) -> None:
    """Print a line beside the results, to standard error."""
    click.echo(text, err=True)


def report(text: str, form: str = "text", *, nl: bool = True) -> None:
    """Print what a command was run for, in the form "text", "json", "html", ...: a failed write makes it exit with 1.

    JSON and HTML are UTF-8 by their own rules. Where standard output is not, they get their own escapes.
    """
    if codecs.lookup(sys.stdout.encoding or "utf-8").name != "utf-8":
        if form == "json":
            from reconciler.report.terminal import ascii_json

            text = ascii_json(text)
        elif form == "html":
            text = text.encode("ascii", "xmlcharrefreplace").decode("ascii")
    click.echo(text, nl=nl)


def done(text: str) -> None:
    """Print what was done. A failed write does not change the exit code, which tells the outcome of the work."""
    click.echo(text)
    if problem := take_problem():
        say(
            f"The result could not be written to standard output: {problem}. The work is not affected, and the exit "
            "code tells its outcome. To see what was done: reconciler history, reconciler status"
        )
