"""The command that stays: the daemon."""

from pathlib import Path

from reconciler.cli.base import cli, config_option, settings_of, utc_now


@cli.command()
@config_option
def run(config: Path | None) -> None:
    """Run as a service: cycles on schedule, and at once what other commands ask for. Ends with SIGTERM."""
    from reconciler.daemon import serve

    serve(settings_of(config), utc_now)
