"""The commands that tell from the state file how things stand and what was done; they take no lock, write nothing."""

from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import click

from reconciler.cli.base import cli, colour, config_option, duration, now_of, settings_of, utc_now, width, with_services
from reconciler.cli.output import report

_E = TypeVar("_E", bound=StrEnum)

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
        found = document(store, settings, now_of(store))
    if as_json:
        report(json_document(found), "json")
    else:
        report(render(found, width=width(), colour=colour()))


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
        found = document(store.snapshot(), settings.policy().teams, now_of(store))
    if as_json:
        report(json_document(found), "json")
    else:
        report(render(found, width=width(), colour=colour()))


@cli.command()
@config_option
@click.argument("email", required=False)
@click.option("--team", default="", help="The name of a team: itself, and who joined or left it.")
@click.option("--kind", help="One kind of operation, like deactivate_user.")
@click.option("--result", help="One result: done, failed, unknown, put_off, sent or planned.")
@click.option("--by", default="", help="The operating-system user who decided, or who began the run.")
@click.option("--since", help="How far back, like 7d.")
@json_option
def history(
    config: Path | None,
    email: str | None,
    team: str,
    kind: str | None,
    result: str | None,
    by: str,
    since: str | None,
    as_json: bool,
) -> None:
    """Show what was done, when, why and, where a person decided, by whom; the newest first. Asks neither service."""
    from reconciler.history import Wanted
    from reconciler.plan import Kind
    from reconciler.report.history import MOST, MOST_IN_JSON, document, render
    from reconciler.report.terminal import json_document
    from reconciler.store import State, Store

    settings = settings_of(config)
    back = duration("--since", since) if since else None
    kinds, results = _one_of("--kind", Kind, kind), _one_of("--result", State, result)
    with Store.open(settings.state_path(), write=False) as store:
        now = now_of(store)
        wanted = Wanted(email or "", team, kinds, results, by, now - back if back is not None else None)
        found = document(store.history(wanted, MOST_IN_JSON if as_json else MOST), now)
    if as_json:
        report(json_document(found), "json")
    else:
        report(render(found, width=width()))


def _one_of(option: str, values: type[_E], text: str | None) -> _E | None:
    if text is None:
        return None
    try:
        return values(text.replace("-", "_"))
    except ValueError:
        raise click.UsageError(f"{option} {text}: one of {', '.join(values)} is allowed.") from None


@cli.command()
@config_option
@click.option("--since", default="90d", show_default=True, help="How far back, like 90d.")
@click.option("--format", "form", type=click.Choice(["text", "csv", "json"]), default="text", show_default=True)
def leavers(config: Path | None, since: str, form: str) -> None:
    """Show who lost access: when they were first seen out of scope, when it was sent and confirmed, what is left."""
    from reconciler.report.leavers import document, render, to_csv
    from reconciler.report.terminal import json_document
    from reconciler.store import Store

    settings = settings_of(config)
    back = duration("--since", since)
    with Store.open(settings.state_path(), write=False) as store:
        now = now_of(store)
        found = document(store, settings.policy(), now - back, now)
    if form == "csv":
        report(to_csv(found), form, nl=False)
    elif form == "json":
        report(json_document(found), form)
    else:
        report(render(found, width=width(), colour=colour()))


@cli.command()
@config_option
@click.argument("email")
@click.option("--offline", is_flag=True, help="Ask neither service; tell what the state file knows.")
@json_option
def explain(config: Path | None, email: str, offline: bool, as_json: bool) -> None:
    """Show all about one person: what JumpCloud and Keeper say, what was done, what comes next and why."""
    from reconciler import cycle
    from reconciler.report.explain import document, render
    from reconciler.report.terminal import json_document
    from reconciler.store import Store

    settings = settings_of(config)
    with Store.open(settings.state_path(), write=False) as store:
        if offline:
            look = cycle.look_back(store, email)
        else:
            look = with_services(settings, lambda both: cycle.look(settings, both, store, email, utc_now()))
        found = document(store, settings, look, email, now_of(store))
    if as_json:
        report(json_document(found), "json")
    else:
        report(render(found, width=width(), colour=colour()))
