"""The commands that only look: they take no lock and write nothing but the files they are told to."""

import errno
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli.base import (
    Exit,
    cli,
    colour,
    config_option,
    failing_as,
    settings_of,
    utc_now,
    width,
    with_services,
)
from reconciler.cli.output import report, say
from reconciler.counting import count
from reconciler.exits import CHANGES, DONE, FAILED, HELD, PARTIAL, USAGE

if TYPE_CHECKING:
    from reconciler.config import Settings
    from reconciler.model import Directory
    from reconciler.plan import Plan
    from reconciler.reading import Services

STDOUT = 1
_WHILE_WRITING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE})


@cli.command()
@config_option
@click.option("--offline", is_flag=True, help="Only the settings and the secrets; ask neither service.")
def check(config: Path | None, offline: bool) -> None:
    """Check the settings, then both services. Changes nothing."""
    settings = settings_of(config)
    problems = settings.problems()
    for problem in problems:
        say(str(problem))
    if problems:
        raise Exit(USAGE)
    report(f"Settings: {settings.file} is in order.")
    if offline:
        return

    from reconciler.named import empty_pilot, nowhere
    from reconciler.report.terminal import clean

    async def look(both: "Services") -> None:
        organization, application = await both.jumpcloud.application()
        scope = await both.jumpcloud.read_scope(None)
        directory = await both.jumpcloud.read_directory(scope, (), None)
        report(f"JumpCloud: organisation {organization}, application {application.label} ({application.id}).")
        report(f"In scope: {_in_scope(directory)}.")
        lists = [one for one in directory.quarantined if one.type == "list"]
        nobody = not any(user.bound for user in directory.users.values())
        if nobody and not lists:
            report("Nobody is bound to the application: in JumpCloud, bind groups to it (its User Groups tab).")
        await both.keeper.probe()
        report(f"Keeper: {both.scim_url} answers and takes the token.")
        for one in lists:
            say(f"JumpCloud's list of {one.id}: {clean(one.problem, 1000)}. {_missing(one.field)}")
        if directory.unread or (nobody and lists):
            raise Exit(FAILED)
        for problem in await nowhere(settings.policy(), directory, both.jumpcloud, both.keeper):
            report(f"Look again at {clean(problem, 300)}.")
        if problem := empty_pilot(settings.policy(), directory):
            say(f"{clean(problem, 1000)}.")
            raise Exit(FAILED)

    with failing_as("The check has failed."):
        with_services(settings, look)


def _missing(field: str) -> str:
    """Say what may be missing from a list that could not be read, as a whole or in part (`field`), and what to do."""
    if field == "list":
        return "What it would show is not known."
    return "Whoever they are about may be missing. Check again; if it lasts, ask JumpCloud support."


def _in_scope(directory: "Directory") -> str:
    """How many people and groups are in scope, as far as they could be read."""
    from reconciler.model import GROUP_NAMES, GROUPS, USERS

    people = count(sum(user.in_scope for user in directory.users.values()), "person")
    groups = count(len(directory.groups), "group")
    if USERS in directory.unread:
        people = "an unknown number of people"
    if {GROUPS, GROUP_NAMES}.intersection(directory.unread):
        groups = "an unknown number of groups"
    return f"{people}, {groups}"


@cli.command()
@config_option
@click.option("--resync", is_flag=True, help="Compare with Keeper itself, not with the snapshot.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown", "html"]),
    default="text",
    show_default=True,
    help="Text for a terminal, JSON for machines, Markdown for a ticket, HTML as one file for the browser.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Write the report to this file; - is standard output.")
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    help="Save the plan, for `apply --plan`; - prints it, and no report.",
)
@click.option(
    "--detailed-exitcode",
    is_flag=True,
    help="Exit 3 if there are changes (with --resync: or drift that is only reported), 4 if something is held, "
    "5 if a list could not be read or somebody keeps failing.",
)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the plan document, and do nothing else.")
def plan(
    config: Path | None,
    resync: bool,
    form: str,
    output: Path | None,
    save: Path | None,
    detailed_exitcode: bool,
    schema: bool,
) -> None:
    """Show what the next cycle would do, with the limits. Changes nothing."""
    from reconciler import cycle
    from reconciler.config import same_file
    from reconciler.progress import shown
    from reconciler.report import files, words
    from reconciler.report.document import to_json
    from reconciler.report.status import in_force, not_in_force
    from reconciler.store import Store

    if schema:
        from reconciler.report.schema import SCHEMA

        report(json.dumps(SCHEMA, indent=2), "json")
        return
    settings = settings_of(config)
    output, save = _named(output), _named(save)
    for path in filter(None, (output, save)):
        _refuse_own(path, settings)
    if output and save and same_file(output, save):
        raise click.UsageError("--output and --save name the same file: the report would replace the saved plan.")
    with (
        failing_as("No plan was made."),
        Store.open(settings.state_path(), write=False) as store,
        shown() as progress,
    ):
        made = with_services(
            settings,
            lambda both: cycle.plan(settings, both, store, cycle.Order(resync=resync), utc_now(), progress),
        )
        in_the_service = in_force(store, settings)
    printed = save is not None and files.descriptor(save) == STDOUT
    if printed:
        report(to_json(made), "json", nl=False)
    elif save:
        _write(save, to_json(made))
    if output and files.descriptor(output) == STDOUT:
        output = None
    try:
        rendered = _rendered(made, form, settings.tenant, output)
        if output:
            _write(output, rendered)
            say(f"{words.verdict(made)}\nThe report is in {output}.")
        elif printed:  # with the report behind it, it would be no plan
            say(str(words.verdict(made)))
        else:
            report(rendered, form, nl=False)
    finally:  # also where the report could not be written: the plan is there
        if save and not printed and save.is_file():
            say(f"The plan is saved in {save}. To apply just this: reconciler apply --plan {shlex.quote(str(save))}")
    if in_the_service is False:
        say(not_in_force(settings.file))
    if detailed_exitcode and (code := _detailed(made, resync=resync)):
        raise Exit(code)


def _detailed(made: "Plan", *, resync: bool) -> int:
    """The exit code that tells whether there is anything to do; as for `apply` where not everything could be read."""
    from reconciler.fallback import unlisted
    from reconciler.promise import failing

    if made.held:
        return HELD
    if made.scope.unread or unlisted(made.notices) or failing(made, {}):
        return PARTIAL
    return CHANGES if made.operations or (resync and made.drifted) else DONE


def _rendered(made: "Plan", form: str, tenant: str, output: Path | None) -> str:
    """The plan in the form that was asked for."""
    if form == "json":
        from reconciler.report.document import to_json

        return to_json(made)
    if form == "markdown":
        from reconciler.report import markdown

        return markdown.render(made, tenant=tenant)
    if form == "html":
        from reconciler.report import html

        return html.render(made, tenant=tenant)
    from reconciler.report.text import render

    return render(made, width=width(), colour=colour() and output is None) + "\n"


def _named(path: Path | None) -> Path | None:
    """The file that an option names, by the custom that - is standard output."""
    return Path("/dev/stdout") if path == Path("-") else path


def _refuse_own(path: Path, settings: "Settings") -> None:
    """End with 2 where a result would replace the settings, a secret that they name, or a file of the state, or where
    nobody can tell: a link of another user's process, a name in a directory that was deleted."""
    try:
        what = settings.own_file(path)
    except OSError as error:
        raise click.ClickException(f"{path} could not be written: {error.strerror}.") from None
    if what:
        raise click.ClickException(f"{path} is {what}: it was not replaced. Name another file for the result.")


def _write(path: Path, text: str) -> None:
    """Write a file that was asked for. Ends with 2 where the path can't be used, with 1 where writing itself fails."""
    from reconciler.report import files

    try:
        files.write(path, text, files.OWNER)
    except FileNotFoundError:
        raise click.ClickException(f"{path} could not be written: its directory does not exist.") from None
    except OSError as error:
        problem = f"{path} could not be written: {error.strerror}. Nothing was changed in Keeper."
        if error.errno not in _WHILE_WRITING:
            raise click.ClickException(problem) from None
        say(problem)
        raise Exit(FAILED) from None
