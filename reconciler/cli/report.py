"""The commands that tell from the state file how things stand and what was done; they take no lock, write nothing."""

from pathlib import Path

import click

from reconciler.cli.base import cli, colour, config_option, settings_of, utc_now, width

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document.")


@cli.command()
@config_option
@json_option
def status(config: Path | None, as_json: bool) -> None:
    """Show the last runs, and what is held, waiting or failing. Asks neither service."""
    from reconciler.report.status import document, render
    from reconciler.report.terminal import json_document
    from reconciler.store import Store

    settings = settings_of(config)
    with Store.open(settings.state_path(), write=False) as store:
        # The daemon says here when its next cycle is due (`next_due`).
        found = document(store, settings, utc_now())
    click.echo(json_document(found) if as_json else render(found, width=width(), colour=colour()))


@cli.command()
@config_option
@json_option
def teams(config: Path | None, as_json: bool) -> None:
    """Show the teams with their members, and what waits for an approval in Keeper since when. Asks neither service."""
    from reconciler.report.teams import document, render
    from reconciler.report.terminal import json_document
    from reconciler.store import Store

    settings = settings_of(config)
    with Store.open(settings.state_path(), write=False) as store:
        found = document(store.snapshot(), settings.policy().teams, utc_now())
    click.echo(json_document(found) if as_json else render(found, width=width(), colour=colour()))
