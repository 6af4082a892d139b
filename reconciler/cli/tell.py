"""The command that tries the alerts."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli.base import Exit, cli, config_option, settings_of, utc_now
from reconciler.cli.output import done, say
from reconciler.exits import FAILED, USAGE

if TYPE_CHECKING:
    from reconciler.config import Settings


@cli.command()
@config_option
@click.option("--test", is_flag=True, required=True, help="Send a test alert to each receiver in [notify].")
def notify(config: Path | None, test: bool) -> None:  # noqa: ARG001 - the flag is what asks for it
    """Try the alerts: each receiver gets one that says it is a test. The heartbeat is left alone: a call of it says
    that a cycle was good."""
    import asyncio

    from reconciler import log
    from reconciler.notify import receivers

    settings = settings_of(config)
    if not receivers(settings):
        say("There is nobody to tell: [notify] names neither a webhook nor a command.")
        raise Exit(USAGE)
    log.to_stderr(settings, service=False)
    problems = asyncio.run(_try(settings))
    for name, problem in problems.items():
        done(f"{name}: {f'not taken: {problem}' if problem else 'taken'}")
    if any(problems.values()):
        raise Exit(FAILED)


async def _try(settings: "Settings") -> dict[str, str]:
    from reconciler.alert_text import document
    from reconciler.alerts import Alert, AlertKind, Fact
    from reconciler.notify import receivers

    now = utc_now()
    words = "alerts of the reconciler arrive here; nothing has happened"
    alert = Alert(AlertKind.TEST, (Fact(AlertKind.TEST, "test", settings.tenant or "reconciler", words, now),))
    body = document(alert, settings.tenant, now)
    return {receiver.name: (await receiver.send(body)).problem for receiver in receivers(settings)}
