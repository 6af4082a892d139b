"""The commands that change something: in Keeper, or in what the state file says is to be done."""

import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from reconciler.cli.base import (
    CHANGES,
    DONE,
    FAILED,
    HELD,
    PARTIAL,
    USAGE,
    Exit,
    cli,
    colour,
    config_option,
    reason_option,
    say,
    settings_of,
    show,
    utc_now,
    who,
    width,
    with_services,
)

if TYPE_CHECKING:
    from reconciler.config import Settings
    from reconciler.cycle import Order, Outcome
    from reconciler.plan import Plan

_LONGEST = 100_000
"""The largest number that `--for` takes, whatever its unit."""


@cli.command()
@config_option
@click.option("--resync", is_flag=True, help="Compare with Keeper itself first.")
@click.option("--plan", "saved", type=click.Path(path_type=Path), help="Apply what is still due of a saved plan.")
@click.option("--yes", is_flag=True, help="Do not ask. It does not stand for the review of a first plan.")
@reason_option
def apply(config: Path | None, resync: bool, saved: Path | None, yes: bool, reason: str) -> None:
    """Run one cycle: read, plan, keep to the limits, send."""
    from reconciler.cycle import Order
    from reconciler.report.document import load_saved

    settings = settings_of(config)
    reviewed = load_saved(saved) if saved else None
    order = Order(resync=resync, saved=reviewed, reviewed=None if yes else _review, by=who(), reason=reason)
    _carry_out(settings, order)


def _review(plan: "Plan") -> bool:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    show(plan)
    return click.confirm("This is the first plan for this Keeper node. Apply it as shown?", default=False)


def _refuse_to_observe(settings: "Settings") -> None:
    from reconciler.policy import Mode

    if settings.policy().mode is Mode.OBSERVE:
        say('Nothing was done: policy.mode is "observe". Set it to "enforce" to have anything sent.')
        raise Exit(USAGE)


def _carry_out(settings: "Settings", order: "Order") -> NoReturn:
    """Run one cycle, print what came of it, and end with its exit code."""
    from reconciler import cycle
    from reconciler.progress import shown
    from reconciler.report import runs
    from reconciler.report.text import render_result
    from reconciler.store import Store

    _refuse_to_observe(settings)
    with Store.open(settings.state_path(), write=True) as store, shown() as progress:
        began = utc_now()
        try:
            outcome = with_services(
                settings, lambda both: cycle.run(settings, both, store, order, utc_now, progress=progress)
            )
        except click.Abort:
            raise  # by the person who was asked to look at the first plan: no cycle has failed
        except Exception as error:
            runs.keep(settings, store, error, began)
            raise
        runs.keep(settings, store, outcome, began)
    if outcome.results:
        results = {number: (result.state, result.error) for number, result in outcome.results.items()}
        click.echo(render_result(outcome.plan, results, width=width(), colour=colour()))
    show(outcome.plan)
    if outcome.not_due:
        click.echo(f"{len(outcome.not_due)} changes of the saved plan are no longer due and were dropped.")
    raise Exit(_code(outcome))


def _code(outcome: "Outcome") -> int:
    if outcome.result == "failed":
        say(outcome.stopped)
        return FAILED
    if outcome.result == "partial":
        return PARTIAL
    if outcome.not_due:
        return CHANGES
    return HELD if outcome.plan.held else DONE


@cli.command()
@config_option
@click.argument("email", required=False)
@click.option("--unlock", is_flag=True, help="Unlock this person, whoever locked them.")
@click.option("--rebind", is_flag=True, help="Bind the state file to the organisation, application and node of today.")
@reason_option
def resync(config: Path | None, email: str | None, unlock: bool, rebind: bool, reason: str) -> None:
    """Compare with Keeper itself and put right what differs; of everybody, or of one person."""
    from reconciler.cycle import Order

    settings = settings_of(config)
    if rebind and email:
        raise click.UsageError("--rebind is for everybody: leave EMAIL out.")
    if unlock and not email:
        raise click.UsageError("--unlock needs the EMAIL of the one person whom it is for.")
    _carry_out(
        settings,
        Order(resync=True, person=email or "", unlock=unlock, rebind=rebind, by=who(), reason=reason),
    )


@cli.command()
@config_option
@click.argument("plan_id", required=False)
@reason_option
def release(config: Path | None, plan_id: str | None, reason: str) -> None:
    """Let the held operations of a plan through: once, within four hours, as far as they are still due."""
    from reconciler.cycle import Order, agree
    from reconciler.report.document import held_effects
    from reconciler.store import Store

    settings = settings_of(config)
    _refuse_to_observe(settings)
    with Store.open(settings.state_path(), write=True) as store:
        held = store.held_run(plan_id)
        if held is None:
            which = f"No held plan {plan_id}" if plan_id else "No held plan"
            say(f"{which} is on record; nothing was released. `reconciler status` shows what is held.")
            raise Exit(USAGE)
        agree(store, held.plan_id, held_effects(store.document(held.id)), by=who(), at=utc_now(), reason=reason)
    _carry_out(settings, Order(by=who(), reason=reason or f"release {held.plan_id}"))


def _duration(text: str) -> timedelta:
    from reconciler.settings_fields import parse_duration

    try:
        if int(text[:-1]) <= _LONGEST:
            return parse_duration(text)
    except ValueError:
        pass
    raise click.UsageError(f"--for {text}: a whole number and a unit, like 4h, 30m or 1d, is allowed.")


@cli.command()
@config_option
@click.option("--deactivations", type=click.IntRange(1), required=True, help="How many more people may be locked.")
@click.option("--for", "lasting", default="4h", show_default=True, help="How long, like 4h.")
@click.option("--reason", required=True, help="Why; it is kept with what is done.")
def allow(config: Path | None, deactivations: int, lasting: str, reason: str) -> None:
    """Announce a lay-off: let so many deactivations pass that the limit would hold."""
    from reconciler.store import Store

    settings = settings_of(config)
    now = utc_now()
    until = now + _duration(lasting)
    with Store.open(settings.state_path(), write=True) as store:
        store.add_request("allow", {"deactivations": deactivations}, by=who(), at=now, reason=reason, until=until)
    click.echo(f"Up to {deactivations} deactivations more may pass until {until:%Y-%m-%d %H:%M} UTC.")


@cli.command()
@config_option
@click.argument("email", required=False)
@click.option("--team", help="The name of a Keeper team to take over.")
@click.option("--ghosts", is_flag=True, help="Everybody in Keeper whom we do not manage.")
@reason_option
def adopt(config: Path | None, email: str | None, team: str | None, ghosts: bool, reason: str) -> None:
    """Take over a Keeper user or team that we do not manage; what follows is in the next plan, to be reviewed."""
    from reconciler import decisions
    from reconciler.store import Store

    if sum(map(bool, (email, team, ghosts))) != 1:
        raise click.UsageError("Name one: EMAIL, --team NAME or --ghosts.")
    settings = settings_of(config)
    with Store.open(settings.state_path(), write=True) as store:
        words = decisions.adopt(store, utc_now(), who(), reason, email=email, team=team)
    _finish(words)


@cli.command()
@config_option
@click.argument("email")
@reason_option
def disown(config: Path | None, email: str, reason: str) -> None:
    """Give somebody up: they stay as they are in Keeper, and are matched no more until `adopt`."""
    from reconciler import decisions
    from reconciler.store import Store

    settings = settings_of(config)
    with Store.open(settings.state_path(), write=True) as store:
        words = decisions.disown(store, utc_now(), who(), reason, email)
    _finish(words)


def _finish(words: str) -> None:
    from reconciler.report.terminal import clean

    click.echo(clean(words, width=4000))
    click.echo("See what follows: reconciler plan")
