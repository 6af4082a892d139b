"""One history's world: both simulated services, the state file, the clock, and the reconciler's process in between."""

import asyncio
import random
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from loguru import logger
from pydantic import SecretStr

from reconciler import cycle, jumpcloud, keeper
from reconciler.clocks import ServiceTime
from reconciler.cycle import Order, Outcome
from reconciler.http import Clock, Http, HttpError, Pace
from reconciler.plan import Plan
from reconciler.reading import NobodyThere, Services
from reconciler.report.document import SavedPlanError, to_json
from reconciler.report.text import render
from reconciler.simulator.jumpcloud import JumpCloud
from reconciler.simulator.jumpcloud_v1 import PRIVATE_KEY
from reconciler.simulator.keeper import Keeper
from reconciler.simulator.service import Request, Response
from reconciler.store import StateError
from tests.campaign.clockwork import Hanging, Loop, Time
from tests.campaign.observer import Observer, view_in_hand
from tests.campaign.rules import NODES, Rules, scim_url
from tests.campaign.seams import LATE, LISTS_LIE, CampaignStore, Died, Seam, Weather, row_in_hand
from tests.campaign.truth import Truth

API_KEY = "jca_" + "5" * 40
GIVING = ("max_creations", "max_grants", "max_reactivations")
"""The limits that hold nothing else than what gives."""
FORESEEN = (jumpcloud.JumpCloudError, keeper.KeeperError, StateError, NobodyThere, HttpError, SavedPlanError)

T = TypeVar("T")


@dataclass(frozen=True)
class Spared:
    """The people whom a fault may keep waiting; whoever is not named here is to be served all the same."""

    people: frozenset[str] = frozenset()  # and accounts
    groups: frozenset[str] = frozenset()  # with their teams and everybody's places in them
    teams: bool = False  # all of them
    newcomers: bool = False
    aliases: frozenset[str] = frozenset()  # addresses at which a creation meets somebody else's account
    returned: bool = False
    merely_left: bool = False  # leavers who are neither suspended nor deleted
    nobodys: bool = False  # accounts that were taken over as nobody's in JumpCloud
    all_but_suspended: bool = False


@dataclass(frozen=True)
class Trouble:
    """Something that is broken until it is healed."""

    words: str
    heal: Callable[[], object]
    spared: Spared


Beside = Sequence[tuple[float, Order | None]]
"""The work beside a cycle: after so many seconds a partial cycle; None is the leaver lane."""


class World:
    """See the module. `folder` is empty, and best in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "reconciler.db"
        self.time = Time()
        self.jumpcloud = JumpCloud(clock=self.time.monotonic)
        self.jumpcloud.add_api_key(API_KEY)
        self.application = self.jumpcloud.add_application("Keeper")
        self.keeper = Keeper(NODES, clock=self.time.monotonic)
        self.truth = Truth(self.jumpcloud, self.application)
        self.observer = Observer(self.truth, self.keeper, self.time.true)
        self.observer.users_lied = self._users_lied
        self.observer.keeper_lies = lambda: self.weather.liars == "keeper points"
        self.observer.answers_lost = self._answers_lost
        self.observer.points_lie = lambda: self.weather.liars in ("points", "both")
        self.observer.scope_behind = self._scope_behind
        self.observer.scope_in_doubt = self._scope_in_doubt
        self.observer.evidence_behind = self._evidence_behind
        self.rules = Rules()
        self.tokens = {node: self.keeper.token(node) for node in NODES}
        self.secrets = {API_KEY, PRIVATE_KEY, *self.tokens.values()}
        self.copies: list[tuple[bytes, tuple[Any, ...]]] = []
        self.weather = Weather(0)
        self.troubles: list[Trouble] = []
        self.happened: list[str] = []
        self.interludes: list[tuple[int, Callable[[], str]]] = []
        self.lines: list[str] = []
        self.faults: Counter[str] = Counter()
        self.requests = 0
        self.plan: Plan | None = None
        self.store: CampaignStore | None = None
        self._exchanges = 0
        self._busy = False  # whether anything goes on beside the cycle
        self._loop: Loop | None = None
        self._main: asyncio.Task[Any] | None = None
        self._services: Services | None = None

    def say(self, text: str) -> None:
        minutes = int(self.time.elapsed // 60)
        self.lines.append(f"{minutes // 1440}d {minutes // 60 % 24:02}:{minutes % 60:02}  {text}")

    def admin_changed(self, *subjects: str) -> None:
        """Somebody changed JumpCloud, or these users and teams in Keeper."""
        self.jumpcloud.settle_graph()
        self.observer.moved(by_admin=subjects)

    @property
    def odd_release(self) -> bool:
        """Whether Keeper does what nobody asks for."""
        return self.keeper.dialect.locks_delete or self.keeper.dialect.add_replaces_groups

    def heal(self) -> None:
        """Everything that was broken works again."""
        for trouble in self.troubles:
            trouble.heal()
        self.troubles.clear()

    # The reconciler's process.

    def kill(self) -> None:
        """Whatever the process knew is gone."""
        if self.store is not None:
            self.store.die()
            self.store = None
        self.restart()

    def restart(self) -> None:
        """The next cycle begins in a new process."""
        if self._loop is not None:
            for task in asyncio.all_tasks(self._loop):
                with suppress(BaseException):
                    task.get_coro().close()
            self._loop.close()
        self._loop = self._services = None

    def _both(self) -> Services:
        node = self.rules.node
        if self._services is None or self._services.scim_url != scim_url(node):
            chance = random.Random("jitter").random
            clock = Clock(self.time.monotonic, self.time.wall, random=chance, boottime=self.time.monotonic)
            weather = lambda: self.weather  # noqa: E731
            console = Http(
                service="JumpCloud",
                base_url="https://console.jumpcloud.com",
                headers=jumpcloud.key_headers(SecretStr(API_KEY), None),
                pace=Pace(5.0, 10.0, clock=clock),
                in_flight=3,
                reads_only=True,
                clock=clock,
                transport=self._seam("JumpCloud", self._to_jumpcloud, weather),
            )
            endpoint = Http(
                service="Keeper",
                base_url=scim_url(node),
                headers=keeper.headers(self.tokens[node]),
                pace=Pace(10.0, 50.0, clock=clock),
                in_flight=3,
                clock=clock,
                transport=self._seam("Keeper", self._to_keeper, weather),
            )
            both = jumpcloud.JumpCloud(console, "Keeper"), keeper.Keeper(endpoint)
            self._services = Services(
                *both,
                scim_url(node),
                jumpcloud_time=ServiceTime(console.clock_offset, both[0].still_there),
                keeper_time=ServiceTime(endpoint.clock_offset, both[1].probe),
            )
        return self._services

    def _seam(self, name: str, deliver: Callable[[Request], Response], weather: Callable[[], Weather]) -> Seam:
        answered, clock = self.observer.answered, self.time.true
        return Seam(
            name, deliver, weather, self._interrupt, self._pull_the_plug, answered, clock, self._for_one, self._overlaps
        )

    def _overlaps(self, subject: str) -> None:
        self.observer.violated("x", f"two requests at a time are to change {subject}")

    def _for_one(self) -> bool:
        return bool(self.observer.view.person)

    def _interrupt(self) -> None:
        """Ctrl-C, as asyncio.run passes it on."""
        assert self._main is not None
        self._main.cancel()

    def _users_lied(self) -> bool:
        lies = ("stale Keeper", "shortened Keeper")
        return any(entry.startswith(lies) and "/Users?" in entry for entry in self.weather.happened)

    def _answers_lost(self) -> int:
        lost = tuple(f"{kind} Keeper PATCH" for kind in LATE)
        return sum(entry.startswith(lost) for entry in self.weather.happened)

    def _scope_behind(self) -> bool:
        return any(entry.startswith("stale JumpCloud") for entry in self.weather.happened)

    def _scope_in_doubt(self) -> bool:
        return self._lists_lied() or bool(self.weather.edits or self.troubles) or not self.time.right

    def _lists_lied(self) -> bool:
        lies = tuple(f"{kind} JumpCloud" for kind in LISTS_LIE)
        return any(entry.startswith(lies) for entry in self.weather.happened)

    def _evidence_behind(self, person: str) -> bool:
        if person in self.jumpcloud.organization().hidden and self._lists_lied():
            return True  # there is no own record, and the lists say something else
        if self.weather.liars != "both":
            return False
        alone = tuple(f"JumpCloud GET /api/{path}/{person}" for path in ("systemusers", "v2/users"))
        return any(kind == "stale" and name.startswith(alone) for kind, _, name in self._struck())

    def _struck(self) -> Iterator[tuple[str, str, str]]:
        return (entry.partition(" ") for entry in self.weather.happened)

    def _pull_the_plug(self) -> None:
        if self.store is not None:
            self.store.dead = True

    def _interlude(self) -> None:
        self._exchanges += 1
        self.requests += 1
        while self.interludes and self.interludes[0][0] <= self._exchanges:
            if text := self.interludes.pop(0)[1]():
                self.say(f"  meanwhile: {text}")

    def _to_jumpcloud(self, asked: Request) -> Response:
        self._interlude()
        self.observer.tick += 1
        return self.jumpcloud.handle(asked)

    def _to_keeper(self, asked: Request) -> Response:
        self._interlude()
        before = len(self.keeper.changes)
        response = self.keeper.handle(asked)
        effects = self.keeper.changes[before:]
        self.observer.request(asked, response, effects, row_in_hand.get(), self.store)
        for change in effects:
            self.say(f"    {change.what} {getattr(change.after or change.before, 'email', '') or change.subject}")
        return response

    def open(self) -> CampaignStore:
        """The state file for the one writer; raises StateError."""
        store = CampaignStore.open(self.path, write=True)
        store.weather = lambda: self.weather
        store.rebound = self.observer.forgot
        store.marked = self._marked
        self.store = store
        return store

    def _marked(self, row: int) -> None:
        """A row is marked as sent; whether its request will arrive or not, what the cycle learnt is in the file."""
        assert self.store is not None
        found = self.store.journal_row(row)
        assert found is not None
        self.observer.marked([found])
        self.observer.linked(self.store)

    def _left_behind(self) -> None:
        """The work was broken off: what it had written is in the file, though nothing was marked as sent since."""
        with suppress(StateError), CampaignStore.open(self.path, write=False) as store:
            self.observer.left_behind(store)

    def close(self) -> None:
        if self.store is not None:
            self.store.close()
            self.store = None

    def _agreed_by_the_settings(self, newest: int) -> None:
        """What safety.first_run = "apply" lets through is recorded as agreed to, for what a crash leaves undone."""
        assert self.store is not None
        for effects in self.store.releases(newest):
            self.observer.agreed(effect for effect in effects if effect[0] in ("create_user", "add"))

    def cycle(self, order: Order, weather: Weather, beside: Beside = ()) -> str:
        """One cycle of the real reconciler under this weather; returns what came of it, in words.

        `beside` is carried out in the same process while it lasts, one after the other.
        """

        async def run(store: CampaignStore) -> str:
            self._busy = bool(beside)
            others = asyncio.create_task(self._partial_cycles(store, beside))
            try:
                outcome = await self._one_cycle(store, order, weather)
                self.plan = outcome.plan
                return _in_words(outcome)
            finally:
                if self._main is not None and self._main.cancelling():
                    others.cancel()
                await asyncio.gather(others, return_exceptions=True)

        def work() -> str:
            store = self.open()
            first = store.value("reviewed") != "1" or order.rebind
            newest = store.newest_request()
            try:
                return self._run(run(store))
            finally:
                if first and self.rules.safety.get("first_run") == "apply":
                    self._agreed_by_the_settings(newest)

        return self._attempt(work, weather)

    def lane(self, weather: Weather) -> str:
        """The leaver lane, while no other cycle runs; returns what came of it, in words."""

        async def run(store: CampaignStore) -> str:
            outcome = await self._lane(store, weather)
            return _in_words(outcome) if outcome is not None else "nobody"

        return self._attempt(lambda: self._run(run(self.open())), weather)

    async def _partial_cycles(self, store: CampaignStore, beside: Beside) -> None:
        begin = self.time.elapsed
        for after, order in beside:
            await asyncio.sleep(max(0.0, begin + after - self.time.elapsed))
            name = f"resync {order.person}" if order else "the leaver lane"
            try:
                if order is not None:
                    outcome: Outcome | None = await self._one_cycle(store, order, self.weather)
                else:
                    outcome = await self._lane(store, self.weather)
            except FORESEEN as error:
                self.say(f"  beside: {name}: {type(error).__name__}: {error}")
                self.look_for_secrets("an error", str(error))
            except Exception as error:
                if store.dead:
                    raise  # what the end of the process leaves behind is closed elsewhere
                self._unforeseen(error)
            else:
                if outcome is not None:
                    self.say(f"  beside: {name}: {_in_words(outcome)}")

    async def _lane(self, store: CampaignStore, weather: Weather) -> Outcome | None:
        """Do as the daemon does every minute."""
        now = self.time.now()
        found = await cycle.leavers(self.rules.settings(self.folder), self._both(), store, now)
        return None if found is None else await self._one_cycle(store, found, weather)

    async def _one_cycle(self, store: CampaignStore, order: Order, weather: Weather) -> Outcome:
        first = store.value("reviewed") != "1" or order.rebind
        bound = None if order.rebind else store.value("binding")
        view = self.observer.cycle_begins(
            self.rules, bound, person=order.person, leavers=order.leavers, unlock=order.unlock, first=first
        )
        view_in_hand.set(view)
        outcome = await cycle.run(self.rules.settings(self.folder), self._both(), store, order, self.time.now)
        self._completed(outcome, order, weather, store)
        return outcome

    def _completed(self, outcome: Outcome, order: Order, weather: Weather, store: CampaignStore) -> None:
        waits = any(held.limit == "first_run" for held in outcome.plan.held)
        whole = outcome.plan.kind == "resync" and not order.partial and not self.troubles
        # A first plan adopts the leavers whom both services show; later they are ghosts.
        told_all = not self.troubles and not any(entry.startswith(LISTS_LIE) for entry in weather.happened)
        # A plan with nothing to look at waits for nobody, and is no review either: it links nobody.
        linked = not waits and not self.rules.observes and (order.partial or store.value("reviewed") == "1")
        applied = linked and not self.rules.narrow and told_all
        listed = not outcome.fallback
        giving = all(hold.limit in GIVING for hold in outcome.plan.held)
        calm = (
            linked and listed and giving and not (order.partial or weather.happened or weather.edits or self.troubles)
        )
        calm = calm and order.saved is None and not (self.rules.narrow or self.odd_release or self._busy)
        # Keeper refuses everything, or locks delete accounts and stop.
        calm = calm and outcome.result not in ("partial", "failed")
        held = {outcome.plan.operations[number].subject.keeper_id for number in outcome.plan.held_indices}
        self.observer.cycle_completed(
            listed=listed, whole=whole, linked=linked, applied=applied, calm=held if calm else None
        )
        if linked:
            self.observer.taken_over(store)
        for hold in outcome.plan.held:
            for subject in (outcome.plan.operations[number].subject for number in hold.operations):
                self.observer.held(hold.limit, {subject.jumpcloud_id, subject.keeper_id} - {""})
        self._show(outcome.plan)

    def dry_run(self, weather: Weather, *, resync: bool) -> Plan | None:
        """A plan, by a reader of the state file; it must leave no trace."""
        made: list[Plan] = []
        before = self.path.read_bytes() if self.path.exists() else b""

        def work() -> str:
            with CampaignStore.open(self.path, write=False) as store:
                self.observer.cycle_begins(self.rules, None)
                settings = self.rules.settings(self.folder)
                order = Order(resync=resync)
                made.append(self._run(cycle.plan(settings, self._both(), store, order, self.time.now())))
            return "planned"

        text = self._attempt(work, weather)
        self.say(f"  dry run: {text}")
        after = self.path.read_bytes() if self.path.exists() else b""
        if before != after:
            self.observer.violated("x", "a dry run changed the state file")
        return made[0] if made else None

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            self._loop = Loop(self.time)
        self._exchanges = 0
        task: asyncio.Task[T] = self._loop.create_task(work)
        self._main = task
        after = self.weather.cancelled_after
        if after is None or not self.weather.strikes("cancelled", "the cycle"):
            return self._loop.run_until_complete(task)
        handle = self._loop.call_later(after, task.cancel)
        try:
            return self._loop.run_until_complete(task)
        finally:
            handle.cancel()

    def _attempt(self, work: Callable[[], str], weather: Weather) -> str:
        """Do something in the reconciler's process, whatever becomes of that."""
        self.weather = weather
        try:
            text = work()
        except Died as death:
            self.kill()
            self._left_behind()
            text = f"died ({death})"
        except asyncio.CancelledError:
            text = "interrupted"
            self.close()
            self._left_behind()
            if weather.cancelled_after is None:
                self.restart()  # the process has ended; whatever is cancelled within it must leave nothing behind
        except FORESEEN as error:
            self._left_behind()
            text = f"{type(error).__name__}: {error}"
            self.look_for_secrets("an error", text)
        except Hanging:
            self.observer.violated("x", "everything waits and nothing will come")
            self.kill()
            text = "hangs"
        except Exception as error:
            text = self._unforeseen(error)
        finally:
            self.time.pass_by()
            self.happened = weather.happened
            lies = [entry for entry in weather.happened if entry.startswith(("stale Keeper", "shortened Keeper"))]
            for which in ("Users", "Groups"):
                if any(f"/{which}" in entry for entry in lies):
                    self.observer.lies.append((self.observer.tick, which))
            if self._scope_in_doubt():
                self.observer.ledger.belonged.clear()
            if self.store is not None and not self.store.dead:
                self.observer.closed(self.store)
            self.close()
            self.faults.update(
                entry.partition(" ")[0] for entry in weather.happened if not entry.startswith("meanwhile")
            )
            self.weather = Weather(0)
            self.interludes.clear()
        struck = [entry for entry in weather.happened if not entry.startswith("meanwhile")]
        return text + (f"  <- {', '.join(struck)}" if struck else "")

    def _unforeseen(self, error: Exception) -> str:
        where = traceback.extract_tb(error.__traceback__)[-1]
        self.observer.violated("x", f"{error!r} at {Path(where.filename).name}:{where.lineno}")
        return "".join(traceback.format_exception(error))

    # Secrets.

    def look_for_secrets(self, where: str, text: str) -> None:
        for secret in self.secrets:
            if secret in text:
                self.observer.violated("f", f"a secret shows in {where}")

    def _show(self, plan: Plan) -> None:
        if plan.operations:
            self.look_for_secrets("a report", render(plan, width=100, colour=False))
            self.look_for_secrets("a plan", to_json(plan))

    def logged(self, message: str) -> None:
        self.look_for_secrets("the log", message)


def _in_words(outcome: Outcome) -> str:
    held = "; ".join(f"{h.limit} {len(h.operations)}" for h in outcome.plan.held)
    notices = Counter(notice.kind.value for notice in outcome.plan.notices)
    told = " ".join(f"{kind}:{n}" for kind, n in notices.items() if kind != "ghost")
    return f"{outcome.result}{f' [{held}]' if held else ''}{f' ({told})' if told else ''}"


def silent(world: World) -> None:
    """Let the log go to the observer only, and let what a killed process leaves behind end quietly."""
    logger.remove()
    logger.add(lambda message: world.logged(str(message)), level="DEBUG", format="{message}", diagnose=False)
    sys.unraisablehook = lambda _unraisable: None
