"""A small organisation in the middle of its work, always the same: what hostile input is tried on, and what it must not
do to anybody in it.

The harm is judged by what the simulators truly hold, not by anything that the reconciler concluded. The limits are wide
open here, so that a hold never hides a wrong decision.
"""

import asyncio
import random
import shutil
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import SecretStr

from reconciler import cycle, jumpcloud, keeper
from reconciler.config import Settings
from reconciler.cycle import Order
from reconciler.http import Clock, Http, Pace
from reconciler.reading import Services
from reconciler.simulator.jumpcloud import JumpCloud
from reconciler.simulator.jumpcloud_v1 import PRIVATE_KEY
from reconciler.simulator.keeper import Keeper
from reconciler.simulator.keeper_records import Account, Change
from reconciler.simulator.service import Request, Response
from reconciler.store import Store
from tests.campaign.clockwork import Loop, Time

API_KEY = "jca_" + "5" * 40
NODE = "123456789"
URL = f"https://keepersecurity.com/api/rest/scim/v2/{NODE}"
T = TypeVar("T")

Answer = Callable[[str, Request, Response], Awaitable[httpx.Response]]
"""Makes what the client gets out of what the service (its name, the request, its response) answers."""


async def plainly(_service: str, _asked: Request, response: Response) -> httpx.Response:
    """What the service answers, as it is."""
    return httpx.Response(response.status, headers=dict(response.headers), content=response.body)


class _Line(httpx.AsyncBaseTransport):
    def __init__(self, office: "Office", service: str) -> None:
        self._office, self._service = office, service

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        target = request.url.raw_path.decode("ascii")
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Request(request.method, target, headers, request.read())
        response = self._office.deliver(self._service, asked)
        return await self._office.answer(self._service, asked, response)


@dataclass(frozen=True)
class Scene:
    """One moment to begin at: Keeper and the state file as they are then, and what is to be done."""

    name: str
    keeper: dict[str, Any]
    state: bytes | None
    order: Order = field(default_factory=Order)
    account: bool = False
    """JumpCloud is asked as a service account."""
    look: str = ""
    """The address of somebody to be looked at, instead of a cycle."""


class Office:
    """Both services, and scenes to begin at. `folder` is empty, and best in memory."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.path = folder / "reconciler.db"
        self.time = Time()
        self.loop = Loop(self.time)
        self.answer: Answer = plainly
        self.sent: list[Request] = []
        self.jumpcloud = JumpCloud(clock=lambda: 0.0)
        self.jumpcloud.add_api_key(API_KEY)
        self.keeper = Keeper((NODE,), clock=lambda: 0.0)
        self.client = self.jumpcloud.add_service_account()
        self.settings = _settings(folder)
        self.scenes = {scene.name: scene for scene in self._scenes()}
        self.secrets = {API_KEY, PRIVATE_KEY, self.keeper.token(NODE), self.client["client_secret"]}

    # Before and after.

    def _scenes(self) -> Iterator[Scene]:
        jc, kp = self.jumpcloud, self.keeper
        self.application = application = jc.add_application("Keeper")
        groups = [jc.add_group(name) for name in ("Engineering", "Sales", "Board")]
        people = {
            name: jc.add_user(
                f"{name}@example.com",
                firstname=name.title(),
                lastname="Test",
                displayname=f"{name.title()} Test",
                state="ACTIVATED",
            )
            for name in ("ada", "bob", "cy", "dee", "eve", "fay", "gus", "hal", "ivy")
        }
        for group in groups[:2]:
            jc.bind_group(application, group)
        for number, one in enumerate(people.values()):
            jc.add_member(groups[number % 2], one)
        jc.add_member(groups[1], people["ada"])
        jc.bind_user(application, people["cy"])
        jc.settle_graph()
        kp.add_user("ada@example.com", display_name="Ada")
        kp.add_user("breakglass@example.com", display_name="Emergency")
        kp.add_user("old@example.com", display_name="Ghost")
        kp.add_team("Made by hand")
        yield Scene("first", kp.dump(), None)
        self.run(Scene("", kp.dump(), None))
        for account in kp.accounts().values():
            kp.accept_invitation(account.id)
        kp.approve_all()
        self.run(Scene("", kp.dump(), self.path.read_bytes(), Order(resync=True)))
        for name in ("dee", "hal"):  # one canary of each kind has passed
            jc.suspend(people[name])
        self.run(Scene("", kp.dump(), self.path.read_bytes()))
        jc.activate(people["hal"])
        self.run(Scene("", kp.dump(), self.path.read_bytes()))
        # What there is to do: a leaver of each sort, joiners, a change, a new team, one who returns, a renamed team.
        jc.suspend(people["bob"])
        jc.delete_user(people["fay"])
        jc.remove_member(groups[0], people["gus"])
        jc.activate(people["dee"])
        jc.update_user(people["eve"], lastname="Changed", displayname="Eve Changed")
        jc.bind_group(application, groups[2])
        jc.add_member(groups[2], people["ada"])
        jc.remove_member(groups[1], people["ada"])
        for name in ("joe", "kim"):
            new = jc.add_user(f"{name}@example.com", firstname=name, lastname="New", state="ACTIVATED")
            jc.add_member(groups[0], new)
        jc.rename_group(groups[1], "Sales and more")
        jc.settle_graph()
        kp.lock("ivy@example.com")
        kept, state = kp.dump(), self.path.read_bytes()
        yield Scene("cycle", kept, state)
        yield Scene("resync", kept, state, Order(resync=True))
        yield Scene("person", kept, state, Order(person="bob@example.com"))
        yield Scene("newcomer", kept, state, Order(person="joe@example.com"))
        yield Scene("account", kept, state, account=True)
        yield Scene("look", kept, state, look="gus@example.com")
        self._truth = self.in_truth()

    def in_truth(self) -> dict[str, frozenset[str]]:
        """Whoever is in scope and active, with the names of their teams, by address."""
        names = self.jumpcloud.groups_in_scope(self.application)
        found = {}
        for one, groups in self.jumpcloud.in_scope(self.application).items():
            user = self.jumpcloud.user(one)
            if user.state == "ACTIVATED" and not user.suspended:
                found[user.email] = frozenset(names[group] for group in groups)
        return found

    # Running.

    def begin(self, scene: Scene) -> None:
        """Everything as the scene has it; the time is the same for all, and for every input."""
        self.time.elapsed = 5_000.0
        for left in self.folder.iterdir():
            # A connection that nobody holds any more takes its files along when it is closed, at any moment.
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
        self.keeper.load(scene.keeper)
        if scene.state is not None:
            self.path.write_bytes(scene.state)
        self.sent = []

    def run(self, scene: Scene, answer: Answer = plainly, *, begin: bool = True) -> Any:
        """Do what the scene asks for; returns an Outcome or a Look, and raises what the reconciler raises."""
        if begin:
            self.begin(scene)
        self.answer = answer
        services = self.services(scene)
        try:
            with Store.open(self.path, write=not scene.look) as store:
                if scene.look:
                    return self.wait(cycle.look(self.settings, services, store, scene.look, self.now()))
                return self.wait(cycle.run(self.settings, services, store, scene.order, self.now))
        finally:
            self.answer = plainly

    def now(self) -> datetime:
        return self.time.now()

    def wait(self, work: Any) -> Any:
        """Run work in virtual time to its end, and whatever it left behind."""
        task = self.loop.create_task(work)
        try:
            return self.loop.run_until_complete(task)
        finally:
            for other in asyncio.all_tasks(self.loop):
                other.cancel()
                with suppress(BaseException):
                    self.loop.run_until_complete(other)

    def deliver(self, service: str, asked: Request) -> Response:
        self.sent.append(asked)
        return (self.jumpcloud if service == "JumpCloud" else self.keeper).handle(asked)

    def services(self, scene: Scene) -> Services:
        chance = random.Random(1).random
        clock = Clock(self.time.monotonic, self.time.wall, random=chance, boottime=self.time.monotonic)

        def client(service: str, url: str, headers: Any, most: float) -> Http:
            return Http(
                service=service,
                base_url=url,
                headers=headers,
                pace=Pace(most, most, clock=clock),
                in_flight=2,
                clock=clock,
                transport=_Line(self, service),
            )

        forget = None
        credentials: Any = jumpcloud.key_headers(SecretStr(API_KEY), None)
        if scene.account:
            login = jumpcloud.login_headers(self.client["client_id"], SecretStr(self.client["client_secret"]))
            oauth = client("JumpCloud", "https://admin-oauth.id.jumpcloud.com", login, 1000.0)
            account = jumpcloud.ServiceAccount(oauth, None, clock=self.time.monotonic)
            credentials, forget = account.headers, account.forget
        console = client("JumpCloud", "https://console.jumpcloud.com", credentials, 1000.0)
        endpoint = client("Keeper", URL, keeper.headers(self.keeper.token(NODE)), 1000.0)
        return Services(jumpcloud.JumpCloud(console, "Keeper", forget), keeper.Keeper(endpoint), URL)

    # Judging.

    def harm(self, touched: Collection[str]) -> Iterator[str]:
        """What was done in Keeper that nobody may do, but for those whom the input itself was about (`touched`)."""
        names = {team.id: team.name for team in self.keeper.teams().values()}
        for change in self.keeper.changes:
            about = change.before or change.after
            known = {
                change.subject,
                getattr(about, "email", ""),
                getattr(about, "external_id", ""),
                getattr(about, "name", ""),
            }
            if not known & set(touched):
                yield from self._harm(change, names, touched)
        for asked in self.sent:
            if asked.method not in ("GET", "POST", "PATCH"):
                yield f"a {asked.method} was sent: {asked.target}"

    def _harm(self, change: Change, names: dict[str, str], touched: Collection[str]) -> Iterator[str]:
        before, after = change.before, change.after
        if change.what in ("delete_team", "delete_user"):
            yield f"{change.what} {change.subject}"
        if not isinstance(after, Account):
            return
        if not isinstance(before, Account):
            if after.email not in self._truth:
                yield f"{after.email} was created, who is not in scope"
            return
        who = before.email
        rightly = who in self._truth
        if who in ("breakglass@example.com", "old@example.com"):
            yield f"{who}, who is not ours, was changed"
        if after.locked and not before.locked and rightly:
            yield f"{who} was locked, who is in scope"
        if before.locked and not after.locked and who != "dee@example.com":
            yield f"{who} was unlocked, whom somebody else locked or who has left"
        gone = {
            names.get(team, team)
            for team in {*before.teams, *before.pending_teams} - {*after.teams, *after.pending_teams}
        }
        if rightly and (wrongly := (gone & self._truth[who]) - set(touched)):
            yield f"{who} lost {', '.join(sorted(wrongly))}"


def _settings(folder: Path) -> Settings:
    secret = {"env": "NONE"}
    document = {
        "jumpcloud": {"application": "Keeper", "api_key": secret, "in_flight": 2},
        "keeper": {"scim_url": URL, "token": secret, "in_flight": 2},
        "policy": {"protect": ["breakglass@example.com"], "grace": "0s"},
        "safety": {
            "first_run": "apply", "max_deactivations": 1000, "max_removals": 1000, "max_team_loss": 1000,
            "max_creations": 1000, "max_grants": 1000,
        },
    }  # fmt: skip
    return Settings.model_validate(document, context={"base": folder})
