"""What persons order: carried out here or by the daemon, in the same way.

An order is a kind with arguments that JSON can hold, so that it can be filed in the state file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from loguru import logger

from reconciler import decisions, exits
from reconciler.policy import Mode

if TYPE_CHECKING:
    import asyncio

    from reconciler.after import After
    from reconciler.config import Settings
    from reconciler.cycle import Order, Outcome, Progress, Services
    from reconciler.plan import Plan
    from reconciler.store import Store

OBSERVING = 'Nothing was done: policy.mode is "observe". Set it to "enforce" to have anything sent.'


@dataclass(frozen=True, slots=True)
class Ask:
    """What is ordered by whom and why.

    `apply` takes `resync` and `saved` (a saved plan as its document); `resync` takes `person`, `unlock` and `rebind`;
    `adopt` takes `email` or `team`, or neither for every ghost; `disown` takes `email`.
    """

    kind: str
    arguments: Mapping[str, Any]
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an order: the exit code, the result, and what went wrong."""

    code: int
    text: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where an order is carried out: the settings, the services, and the store that is open for writing."""

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


def decide(ask: Ask, store: "Store", now: datetime) -> Answer:
    """Carry out an order that asks neither service: `adopt`, `disown`."""
    arguments = ask.arguments
    if ask.kind == "adopt":
        words = decisions.adopt(store, now, ask.by, ask.reason, email=arguments["email"], team=arguments["team"])
    else:
        words = decisions.disown(store, now, ask.by, ask.reason, arguments["email"])
    return Answer(exits.DONE, f"{words}\nSee what follows: reconciler plan")


def is_decision(ask: Ask) -> bool:
    """Whether an order asks neither service."""
    return ask.kind in ("adopt", "disown")


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
    if is_decision(ask):
        return decide(ask, where.store, where.clock())
    if refused := refusal(where.settings):
        return refused
    outcome = await run(as_order(ask, where.reviewed), where)
    return answer(outcome, width=where.width, colour=where.colour)


async def run(order: "Order", where: Setting) -> "Outcome":
    """One cycle with all that belongs to it, by the daemon and by a command. Raises what a cycle raises."""
    from reconciler import cycle
    from reconciler.report import runs
    from reconciler.store import StateError

    began = where.clock()
    try:
        outcome = await where.after.follow(
            where.settings,
            order,
            where.clock,
            lambda: cycle.run(
                where.settings,
                where.services,
                where.store,
                order,
                where.clock,
                progress=where.progress,
                stopping=where.stopping,
            ),
            where.services.traffic,
            where.stopping,
        )
    except Exception as error:
        runs.keep(where.settings, where.store, error, began)
        raise
    runs.keep(where.settings, where.store, outcome, began)
    try:
        where.store.keep_house(where.clock(), where.settings.state.history)
    except StateError as error:
        logger.warning("The daily copy of the state file was not made: {}", error)
    return outcome


def refusal(settings: "Settings") -> Answer | None:
    """Why nothing that is sent can be ordered, None where it can."""
    return Answer(exits.USAGE, error=OBSERVING) if settings.policy().mode is Mode.OBSERVE else None


def answer(outcome: "Outcome", *, width: int, colour: bool) -> Answer:
    """What a person is told of a cycle that they ordered, and its exit code."""
    from reconciler.report.text import render_run

    results = {number: (result.state.value, result.error) for number, result in outcome.results.items()}
    parts = [render_run(outcome.plan, results, width=width, colour=colour)]
    if outcome.not_due:
        parts.append(f"{len(outcome.not_due)} changes of the saved plan are no longer due and were dropped.")
    return Answer(_code(outcome), "\n".join(parts), outcome.stopped)


def _code(outcome: "Outcome") -> int:
    if outcome.result == "failed":
        return exits.FAILED
    if outcome.result == "partial":
        return exits.PARTIAL
    if outcome.not_due:
        return exits.CHANGES
    return exits.HELD if outcome.plan.held else exits.DONE
