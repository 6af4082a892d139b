"""What persons order: carried out here or by the daemon, in the same way.

An order is a kind with arguments that JSON can hold, so that it can be filed in the state file. It is carried out once
at most, and soon or not at all: whoever ordered it has looked at how things stood then.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from reconciler import decisions, exits
from reconciler.counting import count
from reconciler.policy import Mode
from reconciler.promise import failing

if TYPE_CHECKING:
    import asyncio

    from reconciler.after import After
    from reconciler.config import Settings
    from reconciler.cycle import Order, Outcome
    from reconciler.keeper import Progress
    from reconciler.plan import Effect, Plan
    from reconciler.reading import Services
    from reconciler.rows import Request
    from reconciler.store import Store

DECISIONS = frozenset({"adopt", "disown"})
"""The orders that ask neither service, and in which the settings have no say."""
LASTS = timedelta(minutes=5)
"""How long an order waits for a daemon that has ended to be started again."""
_OTHER_NODE = (
    "Nothing was done: the state file was bound to another Keeper node after this was let through. Look at the plan "
    "for the new node: reconciler status"
)
OBSERVING = 'Nothing was done: policy.mode is "observe". Set it to "enforce" to have anything sent.'


@dataclass(frozen=True, slots=True)
class Ask:
    """What is ordered by whom and why.

    `apply` takes `resync`, `saved` (a saved plan as its document) and `agreed` (see `agreement`); `resync` takes
    `person`, `unlock` and `rebind`; `adopt` takes `email` or `team`, or neither for every ghost; `disown` takes
    `email`. `settings` is the digest of the settings that whoever asks has read.
    """

    kind: str
    arguments: Mapping[str, Any]
    by: str
    reason: str
    settings: str


def file(ask: Ask, store: "Store", now: datetime, booted: "tuple[str, float] | None" = None) -> str:
    """File an order with the daemon; returns the id of the request. `booted`: see `since_boot`."""
    arguments = {**ask.arguments, "settings": ask.settings, "booted": booted}
    return store.add_request(ask.kind, arguments, by=ask.by, at=now, reason=ask.reason, state="filed")


def since_boot() -> tuple[str, float] | None:
    """The id of this start of the machine, and the seconds since then: what shows the age of an order, whatever happens
    to the clock meanwhile. None where the system does not tell the id (proc_sys_kernel(5), random/boot_id)."""
    from reconciler.pace import boottime

    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(), boottime()
    except (OSError, ValueError):
        return None


def _age(request: "Request", now: datetime) -> timedelta:
    """The age of an order: by the time since the machine started, or else by the clock, which may have been put."""
    filed_at, today = request.arguments.get("booted"), since_boot()
    if filed_at and today and filed_at[0] == today[0] and today[1] >= filed_at[1]:
        return timedelta(seconds=today[1] - filed_at[1])
    return abs(now - request.at)


def filed(request: "Request") -> Ask:
    """The order that was filed as this request."""
    arguments = {key: value for key, value in request.arguments.items() if key not in ("settings", "booted")}
    return Ask(request.kind, arguments, request.by, request.reason, request.arguments.get("settings", ""))


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an order: the exit code, the result, and what went wrong."""

    code: int
    text: str = ""
    error: str = ""


def close(store: "Store", request: "Request", answer: Answer, now: datetime, state: str = "") -> None:
    """Leave the answer to an order for whoever waits for it."""
    state = state or ("failed" if answer.code in (exits.FAILED, exits.USAGE) else "done")
    store.close_request(request.id, state, now, json.dumps(asdict(answer)))


def answered(request: "Request") -> Answer:
    """The answer to an order that is closed."""
    return Answer(**json.loads(request.result))


def lapse(store: "Store", now: datetime) -> None:
    """Answer what a daemon that has ended has left behind and nobody expects any more; raises StateError.

    What was taken is not done again: what was begun is in the journal, and perhaps it is what ended the daemon. What
    was filed may wait for a restart, but not for the night. A decision counts whenever it is taken.
    """
    for request in store.orders():
        if request.kind in DECISIONS:
            store.put_back(request.id)
            continue
        if request.state == "taken":
            why = "the reconciler ended while it carried this out. The first cycle finds out what became of it"
        elif _age(request, now) > LASTS:
            why = (
                f"nothing ran that could have taken it within {count(LASTS.seconds // 60, 'minute')}; nothing was done"
            )
        else:
            continue
        what = f"Request {request.id} of {request.at:%Y-%m-%d %H:%M} UTC ({request.kind}, ordered by {request.by})"
        words = f"{what} has lapsed: {why}. If it is still wanted, order it again."
        _end_its_release(store, request, now)
        close(store, request, Answer(exits.FAILED, error=words), now, "lapsed")
        logger.warning("{}", words)


def _end_its_release(store: "Store", request: "Request", now: datetime) -> None:
    """End the release that was put on record with an order, also for a saved plan, unless something of it was begun."""
    agreed, saved = request.arguments.get("agreed") or {}, request.arguments.get("saved")
    plan = json.loads(saved)["id"] if saved else agreed.get("plan")
    for one in store.open_requests(now, "release"):
        same = one.arguments["plan"] == plan and one.by == request.by and one.at >= request.at
        begun = same and any(row.decision == f"release:{one.id}" and row.sent_at for row in store.journal_after(one))
        if same and not begun:
            store.close_request(one.id, "withdrawn", now)


@dataclass(frozen=True, slots=True)
class Setting:
    """Where an order is carried out: the settings, the services, and the store that is open for writing. `clock` is
    this machine's. `begun` are the ids of the runs that were begun for it, the newest last: another run may begin
    beside them at any time, so the newest one on record need not be theirs."""

    settings: "Settings"
    services: "Services"
    store: "Store"
    clock: Callable[[], datetime]
    stopping: "asyncio.Event"
    after: "After"
    width: int
    colour: bool = False
    progress: "Progress | None" = None
    reviewed: "Callable[[Plan], bool] | None" = None
    begun: list[int] = field(default_factory=list)


def decide(ask: Ask, store: "Store", now: datetime) -> Answer:
    """Carry out an order that asks neither service: `adopt`, `disown`."""
    arguments = ask.arguments
    try:
        if ask.kind == "adopt":
            words = decisions.adopt(store, now, ask.by, ask.reason, email=arguments["email"], team=arguments["team"])
        else:
            words = decisions.disown(store, now, ask.by, ask.reason, arguments["email"])
    except decisions.NothingDecided as refused:
        return Answer(exits.FAILED, error=str(refused)) if refused.amiss else Answer(exits.DONE, str(refused))
    return Answer(exits.DONE, words)


def decide_filed(store: "Store", now: datetime) -> None:
    """Carry out the decisions that were filed with a daemon which has ended, the oldest first: what a person decides
    after them counts."""
    for request in store.orders():
        if request.kind in DECISIONS:
            store.put_back(request.id)
            if store.take(request.id):
                close(store, request, decide(filed(request), store, now), now)


def as_order(ask: Ask, reviewed: "Callable[[Plan], bool] | None" = None) -> "Order":
    """What an order to apply or resync means for a cycle. Raises SavedPlanError."""
    from reconciler.cycle import Order
    from reconciler.report.document import read_saved

    arguments = ask.arguments
    saved = arguments.get("saved")
    return Order(
        resync=ask.kind == "resync" or bool(arguments.get("resync")),
        person=arguments.get("person", ""),
        unlock=bool(arguments.get("unlock")),
        rebind=bool(arguments.get("rebind")),
        saved=read_saved(saved.encode(), "the saved plan") if saved else None,
        reviewed=reviewed,
        by=ask.by,
        reason=ask.reason,
    )


async def carry_out(ask: Ask, where: Setting) -> Answer:
    """Carry out an order. Raises what a cycle raises."""
    from reconciler.clocks import corrected
    from reconciler.reading import Stopped

    now = corrected(where.store, where.clock)
    if ask.kind in DECISIONS:
        return decide(ask, where.store, now())
    if refused := refusal(where.settings):
        return refused
    release = ""
    if agreed := ask.arguments.get("agreed"):
        from reconciler.consent import agree

        if agreed.get("keeper") and agreed["keeper"] != _node(where.store):
            return Answer(exits.FAILED, error=_OTHER_NODE)

        effects = {tuple(effect) for effect in agreed["effects"]}
        release = agree(where.store, agreed["plan"], effects, by=ask.by, at=now(), reason=agreed["reason"])
    try:
        outcomes, problem = await run_to_the_end(as_order(ask, where.reviewed), where)
    except Stopped:
        # The order is put back, or said to have come to nothing: what it let through goes with it.
        if release:
            where.store.close_request(release, "withdrawn", now())
        raise
    return answer(outcomes, problem, width=where.width, colour=where.colour)


async def run_to_the_end(order: "Order", where: Setting) -> "tuple[list[Outcome], str]":
    """Run cycles until nothing is left that was only put off for time, or none gets on.

    Returns what they came to, and why the last one failed, if that was after others had applied something. Else raises
    what a cycle raises.
    """
    outcomes = [await run(order, where)]
    while outcomes[-1].goes_on and not where.stopping.is_set():
        order = replace(order, resync=False, rebind=False, already=order.already | outcomes[-1].done)
        try:
            outcomes.append(await run(order, where))
        except Exception as error:
            code, words = exits.explained(error) or (0, "")
            if code != exits.FAILED or not _applied(outcomes):
                raise
            return outcomes, f"The cycle that was to send the rest came to nothing: {words}"
    return outcomes, ""


async def run(order: "Order", where: Setting) -> "Outcome":
    """One cycle with all that belongs to it, by the daemon and by a command. Raises what a cycle raises."""
    from reconciler import cycle
    from reconciler.clocks import corrected, known
    from reconciler.report import runs
    from reconciler.store import StateError

    settings, services, store, clock, stopping = (
        where.settings,
        where.services,
        where.store,
        where.clock,
        where.stopping,
    )
    time = corrected(store, clock)
    before = len(where.begun)
    with ExitStack() as afterwards:

        async def work() -> "Outcome":
            try:
                return await cycle.run(
                    settings,
                    services,
                    store,
                    order,
                    clock,
                    progress=where.progress,
                    stopping=stopping,
                    begun=where.begun.append,
                )
            finally:
                afterwards.enter_context(lines_of_run(where.begun[before:]))

        try:
            outcome = await where.after.follow(settings, order, time, work, services.traffic, stopping)
        except Exception as error:
            for run_id in where.begun[before:]:
                runs.keep(settings, store, error, run_id)
            raise
        runs.keep(settings, store, outcome, outcome.run_id)
        try:
            now = time()
            if (pruned_by := known(store).prunes_by(now)) is not None:
                store.keep_house(now, settings.state.history, pruned_by)
        except StateError as error:
            logger.warning("The daily copy of the state file was not made: {}", error)
    return outcome


@contextmanager
def lines_of_run(begun: Sequence[int]) -> Iterator[None]:
    """Within this, what is logged bears the id of the last of these runs, if there is one."""
    with logger.contextualize(**({"run": begun[-1]} if begun else {})):
        yield


def agreement(store: "Store", plan_id: str, effects: Collection["Effect"], reason: str) -> dict[str, Any]:
    """Describe the effects of a plan that a person lets through together with an order. They count only once that is
    taken, and for the Keeper node to which the state file is bound now."""
    return {"plan": plan_id, "effects": sorted(map(list, effects)), "reason": reason, "keeper": _node(store)}


def _node(store: "Store") -> str:
    binding = store.binding()
    return binding.keeper if binding else ""


def refusal(settings: "Settings") -> Answer | None:
    """Why nothing that is sent can be ordered, None where it can."""
    return Answer(exits.USAGE, error=OBSERVING) if settings.policy().mode is Mode.OBSERVE else None


def answer(outcomes: "Sequence[Outcome]", problem: str = "", *, width: int, colour: bool) -> Answer:
    """The words and the exit code for the cycles that a person has ordered; `problem`: see `run_to_the_end`."""
    from reconciler.report.terminal import wrapped
    from reconciler.report.text import render_run
    from reconciler.report.words import not_due, untold

    last, parts = outcomes[-1], []
    for outcome in outcomes:
        results = {number: (result.state.value, result.error) for number, result in outcome.results.items()}
        parts.append(render_run(outcome.plan, results, width=width, colour=colour))
    if last.not_due:
        parts.append(f"{not_due(len(last.not_due))}; dropped.")
    if last.untold:
        parts += wrapped(untold(len(last.untold)), width)
    if last.to_review:
        words = (
            "The first plan for this Keeper node is still to be reviewed: this one has nothing to look at. The first "
            "one with something to send waits for a person, and nobody in Keeper is taken over before."
        )
        parts += wrapped(words, width)
    code = exits.PARTIAL if problem else _code(outcomes)
    return Answer(code, "\n".join(parts), problem or last.stopped or last.fallback)


def states_of(outcome: "Outcome") -> dict[int, str]:
    """The states of the operations that a run sent, by their index in its plan."""
    return {number: result.state.value for number, result in outcome.results.items()}


def _applied(outcomes: "Iterable[Outcome]") -> bool:
    """Whether anything was applied, or may have been: that nothing was is said only where it is known."""
    from reconciler.rows import State

    results = (result for outcome in outcomes for result in outcome.results.values())
    return any(result.state in (State.DONE, State.UNKNOWN) for result in results)


def _code(outcomes: "Sequence[Outcome]") -> int:
    last = outcomes[-1]
    if last.result == "failed":
        return exits.PARTIAL if _applied(outcomes) else exits.FAILED
    if last.unfinished or any(outcome.result == "partial" for outcome in outcomes):
        return exits.PARTIAL
    if last.untold or failing(last.plan, states_of(last)):
        return exits.PARTIAL
    if last.not_due:
        return exits.CHANGES
    return exits.HELD if last.plan.held else exits.DONE
