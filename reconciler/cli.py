"""The command line: parse, call, print, exit code.

What takes long to import is imported by the command that needs it.
"""

import getpass
import json
import os
import shutil
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from reconciler import __version__

if TYPE_CHECKING:
    from reconciler.config import Settings
    from reconciler.cycle import Order, Outcome, Services
    from reconciler.plan import Plan

T = TypeVar("T")

DONE, FAILED, USAGE, CHANGES, HELD, PARTIAL, STATE = 0, 1, 2, 3, 4, 5, 6
"""The exit codes."""
_LONGEST = 100_000
"""The largest number that `--for` takes, whatever its unit."""

_config = click.option(
    "--config", "config", type=click.Path(path_type=Path), help="The settings file; else $RECONCILER_CONFIG, …"
)
_reason = click.option("--reason", default="", help="Why; it is kept with what is done.")


class _Exit(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="reconciler")
def cli() -> None:
    """Reconcile JumpCloud's users and groups in scope of the Keeper application into Keeper.

    \b
    Exit codes: 0 done, 1 failed and nothing was applied, 2 wrong usage or settings, 3 there are changes or a saved
    plan no longer holds, 4 held, 5 applied in part, 6 the state file is in use or not usable.
    """


def main() -> None:
    """Run the command line; every error that can be expected ends in a sentence and a documented exit code."""
    try:
        code = cli(standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        error.show()
        code = USAGE
    except (click.Abort, KeyboardInterrupt):
        _say("Interrupted. What was begun is in the journal; the next run settles it.")
        code = FAILED
    except _Exit as stop:
        code = stop.code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    except Exception as error:
        code = _explain(error)
    sys.exit(code or DONE)


def _explain(error: Exception) -> int:
    """What an administrator is told about an error, and the exit code."""
    from reconciler.config import SettingsError
    from reconciler.report.terminal import clean
    from reconciler.secrets import SecretError

    if isinstance(error, SettingsError | SecretError):
        _say(f"The settings can't be used; nothing was done.\n{error}")
        return USAGE
    from reconciler.store import StateError, WrongBinding

    if isinstance(error, StateError):
        _say(str(error))
        return FAILED if isinstance(error, WrongBinding) else STATE
    from reconciler.cycle import NobodyThere
    from reconciler.http import HttpError
    from reconciler.jumpcloud import JumpCloudError
    from reconciler.keeper import KeeperError
    from reconciler.report.document import SavedPlanError

    if isinstance(error, SavedPlanError):
        _say(clean(str(error), width=4000))
        return USAGE
    if isinstance(error, JumpCloudError | KeeperError | HttpError | NobodyThere):
        _say(clean(str(error), width=4000))
        _say("The cycle has failed.")
        return FAILED
    if os.environ.get("RECONCILER_TRACEBACK"):
        raise error
    _say(
        f"An error that should not happen: {type(error).__name__}: {clean(str(error), width=300)}. What was begun is "
        "in the journal; the next run settles it. Please report it (RECONCILER_TRACEBACK=1 shows where it was)."
    )
    return FAILED


def _say(text: str) -> None:
    click.echo(text, err=True)


def _settings(config: Path | None) -> "Settings":
    from reconciler.config import find_settings, load

    return load(find_settings(config))


def _who() -> str:
    """The operating-system user who asks, before sudo."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _now() -> datetime:
    return datetime.now(UTC)


def _with_services(settings: "Settings", work: "Callable[[Services], Coroutine[Any, Any, T]]") -> T:
    """Run some work with clients of both services, which are closed again."""
    import asyncio

    from reconciler.wiring import log_to_stderr, services

    log_to_stderr(settings)

    async def session() -> T:
        async with services(settings) as both:
            return await work(both)

    return asyncio.run(session())


def _width() -> int:
    return max(40, min(shutil.get_terminal_size((100, 24)).columns, 140))


def _show(plan: "Plan") -> None:
    from reconciler.report.text import render

    click.echo(render(plan, width=_width(), colour=_colour()))


def _colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


@cli.command()
@_config
@click.option("--offline", is_flag=True, help="Only the settings and the secrets; ask neither service.")
def check(config: Path | None, offline: bool) -> None:
    """Check the settings, then both services. Changes nothing."""
    settings = _settings(config)
    problems = settings.problems()
    for problem in problems:
        _say(str(problem))
    if problems:
        raise _Exit(USAGE)
    click.echo(f"Settings: {settings.file} is in order.")
    if offline:
        return

    async def look(both: "Services") -> None:
        organization, application = await both.jumpcloud.application()
        scope = await both.jumpcloud.read_scope(None)
        directory = await both.jumpcloud.read_directory(scope, (), None)
        people = sum(user.in_scope for user in directory.users.values())
        click.echo(f"JumpCloud: organisation {organization}, application {application.label} ({application.id}).")
        click.echo(f"In scope: {people} people, {len(directory.groups)} groups.")
        await both.keeper.probe()
        click.echo(f"Keeper: {both.scim_url} answers and takes the token.")

    _with_services(settings, look)


@cli.command()
@_config
@click.option("--resync", is_flag=True, help="Compare with Keeper itself, not with the snapshot.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Write the report to this file.")
@click.option("--save", type=click.Path(path_type=Path), help="Save the plan, for `apply --plan`.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit 3 if there are changes, 4 if something is held.")
def plan(
    config: Path | None, resync: bool, form: str, output: Path | None, save: Path | None, detailed_exitcode: bool
) -> None:
    """Show what the next cycle would do, with the limits. Changes nothing."""
    from reconciler import cycle
    from reconciler.progress import shown
    from reconciler.report.document import to_json
    from reconciler.report.text import render
    from reconciler.store import Store

    settings = _settings(config)
    with Store.open(settings.state_path(), write=False) as store, shown() as progress:
        made = _with_services(
            settings,
            lambda both: cycle.plan(settings, both, store, cycle.Order(resync=resync), _now(), progress),
        )
    if save:
        _write(save, to_json(made))
    if form == "json":
        report = to_json(made)
    else:
        report = render(made, width=_width(), colour=_colour() and output is None) + "\n"
    if output:
        _write(output, report)
    else:
        click.echo(report, nl=False)
    if save:
        _say(f"Saved. To apply just this: reconciler apply --plan {save}")
    if detailed_exitcode and (made.held or made.operations):
        raise _Exit(HELD if made.held else CHANGES)


def _write(path: Path, text: str) -> None:
    """Write a file that holds personal data: for its owner only, and whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(draft, path)
    except OSError as error:
        raise click.ClickException(f"{path} could not be written: {error.strerror}") from None


@cli.command()
@_config
@click.option("--resync", is_flag=True, help="Compare with Keeper itself first.")
@click.option("--plan", "saved", type=click.Path(path_type=Path), help="Apply what is still due of a saved plan.")
@click.option("--yes", is_flag=True, help="Do not ask. It does not stand for the review of a first plan.")
@_reason
def apply(config: Path | None, resync: bool, saved: Path | None, yes: bool, reason: str) -> None:
    """Run one cycle: read, plan, keep to the limits, send."""
    from reconciler.cycle import Order
    from reconciler.report.document import load_saved

    settings = _settings(config)
    reviewed = load_saved(saved) if saved else None
    order = Order(resync=resync, saved=reviewed, reviewed=None if yes else _review, by=_who(), reason=reason)
    _carry_out(settings, order)


def _review(plan: "Plan") -> bool:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    _show(plan)
    return click.confirm("This is the first plan for this Keeper node. Apply it as shown?", default=False)


def _carry_out(settings: "Settings", order: "Order") -> NoReturn:
    """Run one cycle, print what came of it, and end with its exit code."""
    from reconciler import cycle
    from reconciler.policy import Mode
    from reconciler.progress import shown
    from reconciler.report.text import render_result
    from reconciler.store import Store

    if settings.policy().mode is Mode.OBSERVE:
        _say('Nothing was done: policy.mode is "observe". Set it to "enforce" to have anything sent.')
        raise _Exit(USAGE)
    with Store.open(settings.state_path(), write=True) as store, shown() as progress:
        outcome = _with_services(
            settings, lambda both: cycle.run(settings, both, store, order, _now, progress=progress)
        )
    if outcome.results:
        results = {number: (result.state, result.error) for number, result in outcome.results.items()}
        click.echo(render_result(outcome.plan, results, width=_width(), colour=_colour()))
    _show(outcome.plan)
    if outcome.not_due:
        click.echo(f"{len(outcome.not_due)} changes of the saved plan are no longer due and were dropped.")
    raise _Exit(_code(outcome))


def _code(outcome: "Outcome") -> int:
    if outcome.result == "failed":
        _say(outcome.stopped)
        return FAILED
    if outcome.result == "partial":
        return PARTIAL
    if outcome.not_due:
        return CHANGES
    return HELD if outcome.plan.held else DONE


@cli.command()
@_config
@click.argument("email", required=False)
@click.option("--unlock", is_flag=True, help="Unlock this person, whoever locked them.")
@click.option("--rebind", is_flag=True, help="Bind the state file to the organisation, application and node of today.")
@_reason
def resync(config: Path | None, email: str | None, unlock: bool, rebind: bool, reason: str) -> None:
    """Compare with Keeper itself and put right what differs; of everybody, or of one person."""
    from reconciler.cycle import Order

    settings = _settings(config)
    if rebind and email:
        raise click.UsageError("--rebind is for everybody: leave EMAIL out.")
    if unlock and not email:
        raise click.UsageError("--unlock needs the EMAIL of the one person whom it is for.")
    _carry_out(
        settings,
        Order(resync=True, person=email or "", unlock=unlock, rebind=rebind, by=_who(), reason=reason),
    )


@cli.command()
@_config
@click.argument("plan_id", required=False)
@_reason
def release(config: Path | None, plan_id: str | None, reason: str) -> None:
    """Let the held operations of a plan through: once, within four hours, as far as they are still due."""
    from reconciler.cycle import Order, agree
    from reconciler.report.document import held_effects
    from reconciler.store import Store

    settings = _settings(config)
    with Store.open(settings.state_path(), write=True) as store:
        held = store.held_run(plan_id)
        if held is None:
            which = f"No held plan {plan_id}" if plan_id else "No held plan"
            _say(f"{which} is on record; nothing was released. `reconciler status` shows what is held.")
            raise _Exit(USAGE)
        agree(store, held.plan_id, held_effects(store.document(held.id)), by=_who(), at=_now(), reason=reason)
    _carry_out(settings, Order(by=_who(), reason=reason or f"release {held.plan_id}"))


def _duration(text: str) -> timedelta:
    from reconciler.settings_fields import parse_duration

    try:
        if int(text[:-1]) <= _LONGEST:
            return parse_duration(text)
    except ValueError:
        pass
    raise click.UsageError(f"--for {text}: a whole number and a unit, like 4h, 30m or 1d, is allowed.")


@cli.command()
@_config
@click.option("--deactivations", type=click.IntRange(1), required=True, help="How many more people may be locked.")
@click.option("--for", "lasting", default="4h", show_default=True, help="How long, like 4h.")
@click.option("--reason", required=True, help="Why; it is kept with what is done.")
def allow(config: Path | None, deactivations: int, lasting: str, reason: str) -> None:
    """Announce a lay-off: let so many deactivations pass that the limit would hold."""
    from reconciler.store import Store

    settings = _settings(config)
    now = _now()
    until = now + _duration(lasting)
    with Store.open(settings.state_path(), write=True) as store:
        store.add_request("allow", {"deactivations": deactivations}, by=_who(), at=now, reason=reason, until=until)
    click.echo(f"Up to {deactivations} deactivations more may pass until {until:%Y-%m-%d %H:%M} UTC.")


@cli.command()
@_config
@click.argument("email", required=False)
@click.option("--team", help="The name of a Keeper team to take over.")
@click.option("--ghosts", is_flag=True, help="Everybody in Keeper whom we do not manage.")
@_reason
def adopt(config: Path | None, email: str | None, team: str | None, ghosts: bool, reason: str) -> None:
    """Take over a Keeper user or team that we do not manage; what follows is in the next plan, to be reviewed."""
    from reconciler import decisions
    from reconciler.store import Store

    if sum(map(bool, (email, team, ghosts))) != 1:
        raise click.UsageError("Name one: EMAIL, --team NAME or --ghosts.")
    settings = _settings(config)
    with Store.open(settings.state_path(), write=True) as store:
        words = decisions.adopt(store, _now(), _who(), reason, email=email, team=team)
    _finish(words)


@cli.command()
@_config
@click.argument("email")
@_reason
def disown(config: Path | None, email: str, reason: str) -> None:
    """Give somebody up: they stay as they are in Keeper, and are matched no more until `adopt`."""
    from reconciler import decisions
    from reconciler.store import Store

    settings = _settings(config)
    with Store.open(settings.state_path(), write=True) as store:
        words = decisions.disown(store, _now(), _who(), reason, email)
    _finish(words)


def _finish(words: str) -> None:
    from reconciler.report.terminal import clean

    click.echo(clean(words, width=4000))
    click.echo("See what follows: reconciler plan")


@cli.command()
@_config
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def status(config: Path | None, as_json: bool) -> None:
    """Show the last runs, and what is held, waiting or failing. Asks neither service."""
    from reconciler.report.status import document, render
    from reconciler.store import Store

    settings = _settings(config)
    with Store.open(settings.state_path(), write=False) as store:
        found = document(store, settings, _now())
    click.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else render(found))


@cli.command()
@click.argument("service", type=click.Choice(["jumpcloud", "keeper"]))
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port on 127.0.0.1; 0 takes a free one.")
@click.option("--seed-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="What it holds.")
def simulate(service: str, port: int, seed_file: Path | None) -> None:
    """Run a simulator alone, to try things against, until it is interrupted."""
    from reconciler.simulator.alone import serve

    serve(service, port, seed_file)


@cli.command()
@click.option("--users", type=click.IntRange(20, 5000), default=200, show_default=True)
@click.option("--groups", type=click.IntRange(4, 200), default=12, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Keep settings and state in this folder.")
def demo(users: int, groups: int, keep: Path | None) -> None:
    """Tell the whole story on the embedded simulators."""
    from reconciler.demo import tell

    raise _Exit(tell(users, groups, keep))
