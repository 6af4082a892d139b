"""The command that stays: the daemon."""

import sys
from pathlib import Path

from reconciler.cli.base import Exit, cli, config_option, settings_of, utc_now
from reconciler.cli.output import never_wait_for_log_readers, say
from reconciler.exits import FAILED, explained


@cli.command()
@config_option
def run(config: Path | None) -> None:
    """Run as a service: cycles on schedule, and at once what other commands ask for. Ends with SIGTERM."""
    # httpx loads a command line of its own where it can, with rich and pygments: 3 MiB that would be held for ever.
    sys.modules["httpx._main"] = None  # type: ignore[assignment]
    from reconciler.daemon import serve
    from reconciler.store import Replaced

    never_wait_for_log_readers()
    try:
        serve(settings_of(config), utc_now)
    except Replaced as error:
        _, words = explained(error) or (FAILED, "")
        say(words)
        # Not 6: systemd is to start it again.
        raise Exit(FAILED) from None
