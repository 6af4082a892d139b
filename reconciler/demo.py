"""The whole story on the embedded simulators, through the real command line, each step checked and not only printed."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click

from reconciler.counting import count
from reconciler.simulator.compare import differences
from reconciler.simulator.jumpcloud import JumpCloud
from reconciler.simulator.keeper import Keeper
from reconciler.simulator.sample import API_KEY, APPLICATION, organisation
from reconciler.simulator.server import Server

_ELSEWHERE = frozenset({"RECONCILER_CONFIG", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY"})
"""Variables by which a command finds other settings, state or secrets than those of its folder: the real ones."""


class _Wrong(Exception):
    """A step did not do what it says."""


class _Unread(Exception):
    """Standard output takes no more: nobody sees the rest of the story."""


@dataclass(slots=True)
class _Stage:
    """Both services, and the folder with settings and state."""

    jumpcloud: JumpCloud
    keeper: Keeper
    server: Server
    folder: Path
    application: str
    steps: int = 0

    def say(self, text: str) -> None:
        self.steps += 1
        click.secho(f"\n{self.steps}. {text}", bold=True)

    def run(self, *arguments: str, expect: int, lines: int = 12) -> str:
        """Run a command, show the beginning of what it prints, and see that it ends as expected."""
        click.secho(f"   $ reconciler {' '.join(arguments)}", fg="cyan")
        if not sys.stdout.writable():
            raise _Unread
        environment = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
        environment |= {"NO_COLOR": "1", "COLUMNS": "110", "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run(
            [sys.executable, "-m", "reconciler", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
        printed = [line for line in done.stdout.splitlines() if line.strip()]
        for line in printed[:lines]:
            click.echo(f"     {line}")
        if len(printed) > lines:
            click.echo(f"     … ({count(len(printed) - lines, 'more line')})")
        if done.returncode != expect:
            raise _Wrong(f"exit code {done.returncode} instead of {expect}\n{done.stderr[-3000:]}")
        return done.stdout

    def writes(self) -> int:
        """How many requests changed something in Keeper so far."""
        return len({change.request for change in self.keeper.changes})

    def check(self, right: bool, what: str) -> None:
        if not right:
            raise _Wrong(what)
        click.secho(f"   ✓ {what}", fg="green")

    def differences(self) -> list[str]:
        """Where Keeper is not what JumpCloud wants."""
        return differences(self.jumpcloud, self.keeper, self.application)


def tell(users: int, groups: int, keep: Path | None) -> int:
    """Tell the story, as long as standard output takes it; returns 0, or 1 where a step did not do what it says.
    Raises ClickException where the folder cannot be made, or has something in it already."""
    try:
        folder = keep or Path(tempfile.mkdtemp(prefix="reconciler-demo-"))
        folder.mkdir(parents=True, exist_ok=True)
        full = any(folder.iterdir())
    except OSError as error:
        raise click.ClickException(f"the folder {keep or tempfile.gettempdir()} can't be made: {error}") from None
    if full:
        raise click.UsageError(f"{folder} is not empty, and nothing in it was changed. Name a new folder with --keep.")
    jumpcloud, keeper = JumpCloud(), Keeper()
    jumpcloud.load(organisation(users, groups))
    started = time.monotonic()
    try:
        with Server(jumpcloud) as front, Server(keeper) as back:
            application = next(
                app.id for app in jumpcloud.organization().applications.values() if app.displayLabel == APPLICATION
            )
            _write_settings(folder, front.url, back.url + keeper.base_path(), keeper.token())
            stage = _Stage(jumpcloud, keeper, back, folder, application)
            _story(stage)
    except _Wrong as error:
        click.secho(f"   ✗ {error}", fg="red")
        return 1
    except _Unread:
        return 0
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    click.secho(
        f"\nShown in {time.monotonic() - started:.0f} s: check, a first plan held, reviewed and applied; joiner, "
        "leaver, rename, move, suspension; drift in Keeper found and put right; an accident held, nobody locked out.",
        bold=True,
    )
    return 0


def _write_settings(folder: Path, console: str, scim: str, token: str) -> None:
    for name, secret in (("api-key", API_KEY), ("token", token)):
        path = folder / name
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secret)
    (folder / "config.toml").write_text(
        f"""[jumpcloud]
application = "{APPLICATION}"
api_key = {{ file = "api-key" }}
base_url = "{console}"

[keeper]
scim_url = "{scim}"
token = {{ file = "token" }}

[policy]
protect = []
grace = "0s"
""",
        encoding="utf-8",
    )


def _half_filled(stage: _Stage) -> None:
    """Keeper as the push left it: half of the people and teams, one leaver who was lost, one account made by hand."""
    scope = stage.jumpcloud.in_scope(stage.application)
    names = stage.jumpcloud.groups_in_scope(stage.application)
    teams = {
        group: stage.keeper.add_team(name, external_id=group)
        for number, (group, name) in enumerate(sorted(names.items()))
        if number % 2 == 0
    }
    for number, (user_id, groups) in enumerate(sorted(scope.items())):
        user = stage.jumpcloud.user(user_id)
        if number % 2 or user.state != "ACTIVATED" or user.suspended or not user.email:
            continue
        account = stage.keeper.add_user(
            user.email,
            display_name=user.displayname or f"{user.firstname} {user.lastname}",
            given_name=user.firstname,
            family_name=user.lastname,
            external_id=user_id,
        )
        for group in groups & teams.keys():
            stage.keeper.add_member(account, teams[group])
    outside = next(
        u
        for u in stage.jumpcloud.organization().users.values()
        if u.id not in scope and u.state == "ACTIVATED" and not u.suspended
    )
    stage.keeper.add_user(outside.email, external_id=outside.id)
    stage.keeper.add_user("vault-admin@example.com", display_name="Made by hand")


def _story(stage: _Stage) -> None:
    jumpcloud, keeper, application = stage.jumpcloud, stage.keeper, stage.application
    _half_filled(stage)

    stage.say("Settings and both services are checked. Nothing is changed.")
    stage.run("check", expect=0)
    stage.check(stage.writes() == 0, "Keeper was not touched")

    stage.say("The first plan is never applied unseen: it is held until a person has looked at it.")
    stage.run("apply", "--yes", expect=4)
    stage.check(stage.writes() == 0, "Keeper was not touched")
    stage.run("plan", "--save", "first.json", expect=0, lines=4)

    stage.say("Reviewed, it is applied as it was saved. People already in Keeper are adopted, not created again.")
    stage.run("apply", "--plan", "first.json", expect=0, lines=4)
    stage.check(not stage.differences(), "Keeper equals JumpCloud, and the leaver whom the push lost is locked")
    by_hand = next(a for a in keeper.accounts().values() if a.email == "vault-admin@example.com")
    stage.check(by_hand.active and not by_hand.external_id, "the account made by hand was left alone")

    stage.say("An administrator approves what waits in the Pending Queue. A second cycle has nothing to send.")
    keeper.approve_all()
    before = stage.writes()
    stage.run("apply", "--resync", expect=0, lines=4)
    stage.check(stage.writes() == before, "nothing was sent")

    stage.say("JumpCloud changes: a joiner, a leaver, a rename, a move between teams, a suspended user.")
    people = sorted(
        user_id
        for user_id, groups in jumpcloud.in_scope(application).items()
        if len(groups) == 1 and jumpcloud.user(user_id).state == "ACTIVATED" and not jumpcloud.user(user_id).suspended
    )
    leaver, renamed, moved, suspended = people[:4]
    scope = jumpcloud.in_scope(application)
    groups = sorted(jumpcloud.groups_in_scope(application))
    joiner = jumpcloud.add_user("new.colleague@example.com", firstname="New", lastname="Colleague", state="ACTIVATED")
    jumpcloud.add_member(groups[0], joiner)
    jumpcloud.remove_member(next(iter(scope[leaver])), leaver)
    jumpcloud.update_user(renamed, lastname="Newname", displayname="Renamed Newname")
    old = next(iter(scope[moved]))
    jumpcloud.remove_member(old, moved)
    jumpcloud.add_member(next(group for group in groups if group != old), moved)
    jumpcloud.suspend(suspended)
    jumpcloud.settle_graph()
    stage.run("plan", "--detailed-exitcode", expect=3, lines=24)
    before = stage.writes()
    stage.run("apply", expect=0, lines=3)
    stage.check(stage.writes() - before == 5, "five people changed, five requests changed Keeper")
    stage.check(not stage.differences(), "Keeper equals JumpCloud")

    stage.say("Somebody changes Keeper behind our back: a member taken out, a team renamed, a user deleted.")
    keeper.approve_all()
    stage.run("apply", "--resync", expect=0, lines=1)
    untouched = [a for a in keeper.accounts().values() if a.external_id in people[4:] and a.teams and not a.invited]
    victim, deleted = untouched[0], untouched[1]
    keeper.remove_member(victim.id, victim.teams[0])
    team = next(t for t in keeper.teams().values() if t.external_id == groups[1])
    keeper.rename_team(team.id, "Renamed by hand")
    keeper.delete_user(deleted.id)
    stage.run("apply", expect=0, lines=1)
    stage.check(bool(stage.differences()), "an ordinary cycle trusts its snapshot and does not see it")
    stage.run("resync", expect=0, lines=14)
    stage.check(not stage.differences(), "the resync has found it and put it right")

    stage.say("An accident: the application loses its groups in JumpCloud. The whole plan is held.")
    for group in groups:
        jumpcloud.unbind_group(application, group)
    jumpcloud.settle_graph()
    before = stage.writes()
    stage.run("apply", expect=4, lines=14)
    stage.check(stage.writes() == before, "nothing was sent, nobody was locked out")
    stage.run("status", expect=0, lines=8)

    stage.say("The groups are bound again. Nothing has to be repaired.")
    for group in groups:
        jumpcloud.bind_group(application, group)
    jumpcloud.settle_graph()
    stage.run("apply", expect=0, lines=3)
    stage.check(stage.writes() == before and not stage.differences(), "Keeper equals JumpCloud, without a request")
