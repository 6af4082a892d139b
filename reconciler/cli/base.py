"""What all commands share: the group, the exit codes, the settings, the services, the terminal."""

import os
import pwd
import shutil
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from reconciler import __version__
from reconciler.cli.output import report, say

if TYPE_CHECKING:
    from reconciler.config import Settings
    from reconciler.plan import Plan
    from reconciler.reading import Services
    from reconciler.store import Store

T = TypeVar("T")


_LONGEST = 100_000
"""The largest number that an option that takes a time may have, whatever its unit."""

config_option = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    help="The settings file; else $RECONCILER_CONFIG, ./config.toml or /etc/reconciler/config.toml.",
)
reason_option = click.option("--reason", default="", help="Why; it is kept with what is done.")


class Exit(Exception):
    """End with this exit code; everything was said already."""

    def __init__(self, code: int) -> None:
        self.code = code


class _Command(click.Command):
    """A command whose words are text. Bytes that are no UTF-8 can neither be stored nor sent; a path may have them.

    What a shell makes of a variable that is not set is no word: `resync "$EMAIL"` must not be a resync of everybody.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        for param in self.params:
            value = ctx.params.get(param.name or "")
            if isinstance(value, str) and not value.strip() and (param.required or isinstance(param, click.Argument)):
                raise click.BadParameter("it is empty; nothing was done.", ctx, param)
            if isinstance(value, str) and (shown := escaped(value)) != value:
                with suppress(UnicodeDecodeError):  # Python took the locale's ASCII for the encoding of the arguments
                    ctx.params[param.name or ""] = os.fsencode(value).decode()
                    continue
                raise click.BadParameter(
                    f"{shown} has bytes that are no UTF-8: type it in a UTF-8 terminal.", ctx, param
                )
        return rest


class _Group(click.Group):
    command_class = _Command


def escaped(text: str) -> str:
    """The text with an escape for each byte that was no UTF-8 in the environment or on the command line."""
    return text.encode("utf-8", "backslashreplace").decode()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="reconciler")
def cli() -> None:
    """Reconcile JumpCloud's users and groups in scope of the Keeper application into Keeper.

    \b
    Exit codes: 0 done, 1 failed and nothing was applied, 2 wrong usage or settings, 3 there are changes or a saved
    plan no longer holds, 4 held, 5 applied in part, a list could not be read or somebody keeps failing, 6 the state
    file is in use or not usable.
    """


def settings_of(config: Path | None) -> "Settings":
    """The settings in this file, or where they are looked for; raises SettingsError."""
    from reconciler.config import find_settings, load

    return load(find_settings(config))


def who() -> str:
    """The operating-system user who asks, before sudo; not what $LOGNAME and its like say, which anybody may set."""
    try:
        return escaped(os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name)
    except (KeyError, OSError):
        return str(os.getuid())


def duration(option: str, text: str) -> timedelta:
    """What an option that takes a time was given; raises click.UsageError."""
    from reconciler.settings_fields import parse_duration

    try:
        if int(text[:-1]) <= _LONGEST:
            return parse_duration(text)
    except ValueError:
        pass
    raise click.UsageError(f"{option} {text}: a whole number and a unit, like 4h, 30m or 1d, is allowed.")


def utc_now() -> datetime:
    """The time by this machine's clock."""
    return datetime.now(UTC)


def now_of(store: "Store") -> datetime:
    """The time by this machine's clock, corrected by what the last run on this state file has found about it."""
    from reconciler.clocks import corrected

    return corrected(store, utc_now)()


def with_services(settings: "Settings", work: "Callable[[Services], Coroutine[Any, Any, T]]") -> T:
    """Run some work with clients of both services, which are closed again."""
    import asyncio

    from reconciler import log
    from reconciler.wiring import services

    log.to_stderr(settings, service=False)

    async def session() -> T:
        async with services(settings) as both:
            return await work(both)

    return asyncio.run(session())


@contextmanager
def failing_as(failed: str) -> Iterator[None]:
    """End with the words of an error of a service, and with these for what came to nothing by it."""
    from reconciler.exits import explained

    try:
        yield
    except Exception as error:
        found = None if isinstance(error, Exit) else explained(error, failed)
        if found is None:
            raise
        code, words = found
        say(words)
        raise Exit(code) from None


def width() -> int:
    """The columns to write in."""
    return max(40, min(shutil.get_terminal_size((100, 24)).columns, 140))


def show(plan: "Plan") -> None:
    """Print a plan."""
    from reconciler.report.text import render

    report(render(plan, width=width(), colour=colour()))


def colour() -> bool:
    """Whether the output is to be in colour."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
