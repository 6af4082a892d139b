"""The commands that change something: in Keeper, or in what the state file says is to be done.

Where a daemon has the state file, they are filed with it as requests; else the work is done here.
"""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from reconciler.cli.base import (
    Exit,
    cli,
    colour,
    config_option,
    duration,
    now_of,
    reason_option,
    settings_of,
    show,
    utc_now,
    who,
    width,
    with_services,
)
from reconciler.cli.output import done, log_readers_not_waited_for, say
from reconciler.counting import count
from reconciler.exits import DONE, FAILED, USAGE

if TYPE_CHECKING:
    from reconciler.config import Settings
    from reconciler.orders import Answer, Ask
    from reconciler.plan import Plan
    from reconciler.progress import Bars
    from reconciler.store import InUse, Store

_SHORTEST, _LONGEST = timedelta(minutes=1), timedelta(days=7)
"""The bounds of an announced lay-off: what is announced for longer is forgotten, and meets somebody else."""
_LOOK_AGAIN = 0.2
"""Seconds between two looks at a request that is waited for."""

wait_option = click.option("--wait", is_flag=True, help="Where the daemon does it: wait, and end as it ends.")


@cli.command()
@config_option
@click.option("--resync", is_flag=True, help="Compare with Keeper itself first.")
@click.option("--plan", "saved", type=click.Path(path_type=Path), help="Apply what is still due of a saved plan.")
@click.option("--yes", is_flag=True, help="Do not ask. It does not stand for the review of a first plan.")
@wait_option
@reason_option
def apply(config: Path | None, resync: bool, saved: Path | None, yes: bool, wait: bool, reason: str) -> None:
    """Run one cycle: read, plan, keep to the limits, send."""
    from reconciler.report.document import load_saved

    settings = settings_of(config)
    document = load_saved(saved).decode() if saved else ""
    _order(settings, "apply", {"resync": resync, "saved": document}, reason, wait=wait, ask_person=not yes)


@cli.command()
@config_option
@click.argument("email", required=False)
@click.option("--unlock", is_flag=True, help="Unlock this person, whoever locked them.")
@click.option("--rebind", is_flag=True, help="Bind the state file to the organisation, application and node of today.")
@wait_option
@reason_option
def resync(config: Path | None, email: str | None, unlock: bool, rebind: bool, wait: bool, reason: str) -> None:
    """Compare with Keeper itself and put right what differs; of everybody, or of one person."""
    settings = settings_of(config)
    if rebind and email:
        raise click.UsageError("--rebind is for everybody: leave EMAIL out.")
    if unlock and not email:
        raise click.UsageError("--unlock needs the EMAIL of the one person whom it is for.")
    _order(settings, "resync", {"person": email or "", "unlock": unlock, "rebind": rebind}, reason, wait=wait)


@cli.command()
@config_option
@click.argument("plan_id", required=False)
@wait_option
@reason_option
def release(config: Path | None, plan_id: str | None, wait: bool, reason: str) -> None:
    """Let the held operations of a plan through: once, within four hours, as far as they are still due."""
    from reconciler.consent import asked_once
    from reconciler.orders import agreement
    from reconciler.report.document import held_effects

    words = reason or f"release {plan_id or 'of what is held'}"

    def held(store: "Store") -> dict[str, object]:
        run = store.held_run(plan_id)
        given = (one.arguments["plan"] for one in store.open_requests(now_of(store), "release"))
        # What was let through and is not done yet may be let through once more.
        again = run is not None and run.plan_id in given
        effects = held_effects(store.document(run.id) if again else store.held_document(run)) if run else frozenset()
        if run is None or not effects:
            which = f"No held plan {plan_id}" if plan_id else "No held plan"
            say(f"{which} is on record; nothing was released. `reconciler status` shows what is held.")
            raise Exit(USAGE)
        return agreement(store, run.plan_id, asked_once(store, effects, run.started_at), words)

    _order(settings_of(config), "apply", {}, words, wait=wait, agreed=held)


@cli.command()
@config_option
@click.option("--deactivations", type=click.IntRange(1), required=True, help="How many more people may be locked.")
@click.option("--for", "lasting", default="4h", show_default=True, help="How long, like 4h.")
@click.option("--reason", required=True, help="Why; it is kept with what is done.")
def allow(config: Path | None, deactivations: int, lasting: str, reason: str) -> None:
    """Announce a lay-off: let so many people be locked whom the limit would hold."""
    from reconciler.orders import refusal

    settings = settings_of(config)
    lasts = duration("--for", lasting)
    if not _SHORTEST <= lasts <= _LONGEST:
        raise click.UsageError(f"--for {lasting}: from {_SHORTEST.seconds // 60}m to {_LONGEST.days}d is allowed.")
    if (refused := refusal(settings)) is not None:
        _end(refused)
    with _deciding(settings) as store:
        arguments = {"deactivations": deactivations}
        store.add_request("allow", arguments, by=who(), at=now_of(store), reason=reason, lasts=lasts)
    done(f"Up to {count(deactivations, 'more person')} may be locked for {lasting}, from the next cycle on.")


@cli.command()
@config_option
@click.option("--reason", required=True, help="Why; it is kept, and shown as long as the pause lasts.")
def pause(config: Path | None, reason: str) -> None:
    """Stop all writes to Keeper until `resume`, but for `resync EMAIL`. Reading and reporting go on."""
    settings = settings_of(config)
    with _deciding(settings) as store:
        store.add_request("pause", {}, by=who(), at=now_of(store), reason=reason)
    done("Paused: nothing but a resync EMAIL is sent to Keeper until: reconciler resume")


@cli.command()
@config_option
@reason_option
def resume(config: Path | None, reason: str) -> None:
    """End a pause."""
    from reconciler.policy import Mode

    settings = settings_of(config)
    with _deciding(settings) as store:
        ended = store.resume(who(), now_of(store), reason)
    sends = settings.policy().mode is not Mode.OBSERVE
    next_one = "the next cycle sends what is due" if sends else 'policy.mode is "observe", so nothing is sent'
    done(f"Resumed: {next_one}." if ended else "There was no pause; nothing was changed.")


@cli.command()
@config_option
@click.argument("email", required=False)
@click.option("--team", help="The name of a Keeper team to take over.")
@click.option("--ghosts", is_flag=True, help="Everybody in Keeper whom we do not manage.")
@wait_option
@reason_option
def adopt(config: Path | None, email: str | None, team: str | None, ghosts: bool, wait: bool, reason: str) -> None:
    """Take over a Keeper user or team that we do not manage. The next cycle sends what follows, within the limits; the
    lock of somebody who is out of scope waits for `release`."""
    if sum(map(bool, (email, team, ghosts))) != 1:
        raise click.UsageError("Name one: EMAIL, --team NAME or --ghosts.")
    _order(settings_of(config), "adopt", {"email": email, "team": team}, reason, wait=wait)


@cli.command()
@config_option
@click.argument("email")
@wait_option
@reason_option
def disown(config: Path | None, email: str, wait: bool, reason: str) -> None:
    """Give somebody up: they stay as they are in Keeper, but for the externalId that we set, and are matched no more
    until `adopt`."""
    _order(settings_of(config), "disown", {"email": email}, reason, wait=wait)


@cli.command()
@config_option
@click.argument("copy", type=click.Path(path_type=Path))
def restore(config: Path | None, copy: Path) -> None:
    """Go back to a copy of the state file, such as one of the daily ones beside it. The service has to be stopped."""
    from reconciler.store import Store

    path = settings_of(config).state_path()
    former = Store.restore(path, copy)
    kept = f" The former one is kept as {former}." if former else ""
    with Store.open(path, write=False) as store:
        pause = store.pause()
    paused = f"\nThe pause of {pause.by} goes on ({pause.reason}): reconciler resume ends it." if pause else ""
    done(
        f"Restored.{kept}{paused}\nWhat was done since then is found out by a resync, and its plan is a person's to "
        "review: reconciler plan --resync"
    )


# -- carrying out -----------------------------------------------------------------------------------------------------


def _order(
    settings: "Settings",
    kind: str,
    arguments: dict[str, object],
    reason: str,
    *,
    wait: bool,
    ask_person: bool = False,
    agreed: "Callable[[Store], dict[str, object]] | None" = None,
) -> NoReturn:
    """Have an order carried out, by the daemon where there is one; print what came of it, and end with its code.

    `agreed` finds in the state file what a person lets through together with it.
    """
    from reconciler.orders import DECISIONS, Ask, refusal
    from reconciler.store import InUse, Store

    def ask(agreement: dict[str, object] | None) -> Ask:
        return Ask(kind, {**arguments, "agreed": agreement}, who(), reason, settings.digest)

    refused = None if kind in DECISIONS else refusal(settings)
    if refused is not None:
        _end(refused)
    try:
        store = Store.open(settings.state_path(), write=True)
    except InUse as busy:
        if not busy.takes_requests:
            raise
        with Store.beside(settings.state_path()) as store:
            if ask_person and not arguments["saved"]:
                _file(ask(_reviewed_beside(settings, store, reason)), store, busy, wait=wait)
            _file(ask(agreed(store) if agreed else None), store, busy, wait=wait)
    # The result is printed once the file is closed: its reader may take long, like a pager.
    with log_readers_not_waited_for(), store:
        answer = _here(settings, ask(agreed(store) if agreed else None), store, ask_person=ask_person)
    _end(answer)


def _here(settings: "Settings", ask: "Ask", store: "Store", *, ask_person: bool) -> "Answer":
    import asyncio

    from reconciler.after import After
    from reconciler.orders import DECISIONS, Answer, Setting, carry_out, decide, decide_filed
    from reconciler.progress import shown
    from reconciler.reading import Services

    decide_filed(store, now_of(store))
    if ask.kind in DECISIONS:
        return decide(ask, store, now_of(store))

    async def work(both: Services) -> Answer:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stop(number: int) -> None:
            stopping.set()
            say("Finishing what is on its way. Once more ends at once; the next run then finds out what became of it.")
            loop.remove_signal_handler(number)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, number)
        where = Setting(
            settings,
            both,
            store,
            utc_now,
            stopping,
            After(store),
            width=width(),
            colour=colour(),
            progress=progress,
            reviewed=partial(_review_here, bars=progress) if ask_person else None,
        )
        return await carry_out(ask, where)

    try:
        with shown() as progress:
            return with_services(settings, work)
    except KeyboardInterrupt:
        say("Interrupted. If anything was begun, it is in the journal; the next run settles it.")
        raise Exit(FAILED) from None


def _end(answer: "Answer") -> NoReturn:
    if answer.text:
        done(answer.text)
    if answer.error:
        say(answer.error)
    raise Exit(answer.code)


def _review(plan: "Plan") -> bool:
    """Whether a person at a terminal agrees to the plan. Raises click.Abort where they interrupt the question."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    show(plan)
    return click.confirm("This is the first plan for this Keeper node. Apply it as shown?", default=False)


def _review_here(plan: "Plan", bars: "Bars | None") -> bool:
    """Do the same within an event loop, which stands still until the answer is there, and has the signals else: to
    interrupt the question says no."""
    if bars:
        bars.hide()

    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = [(number, signal.signal(number, interrupted)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        return _review(plan)
    except (click.Abort, KeyboardInterrupt):
        return False
    finally:
        for number, handler in before:
            signal.signal(number, handler)


# -- beside a daemon --------------------------------------------------------------------------------------------------


@contextmanager
def _deciding(settings: "Settings") -> Iterator["Store"]:
    """The state file, to write a decision into that whoever has the file open finds."""
    from reconciler.store import InUse, Store

    try:
        store = Store.open(settings.state_path(), write=True)
    except InUse:
        store = Store.beside(settings.state_path())
    with store:
        yield store


def _file(ask: "Ask", store: "Store", busy: "InUse", *, wait: bool) -> NoReturn:
    """File an order with the daemon, and follow it where that is asked for."""
    from reconciler.orders import file, since_boot

    number = file(ask, store, now_of(store), since_boot())
    if not wait:
        done(
            f"Filed as request {number} with the reconciler that is running ({busy.holder}); it is taken at once. "
            "--wait follows it to its end, `reconciler status` shows the last runs."
        )
        raise Exit(DONE)
    try:
        _end(_followed(store, number))
    except KeyboardInterrupt:
        given_up = store.withdraw(number)
        say("Withdrawn: nothing of it is done." if given_up else "The service goes on with it: reconciler status")
        raise Exit(FAILED) from None


def _reviewed_beside(settings: "Settings", store: "Store", reason: str) -> dict[str, object] | None:
    """What a person lets through of a first plan that the daemon would hold; None where there is none, or nobody."""
    from reconciler import cycle
    from reconciler.orders import agreement

    if not (sys.stdin.isatty() and sys.stdout.isatty()) or store.snapshot().reviewed:
        return None
    made = with_services(settings, lambda both: cycle.plan(settings, both, store, cycle.Order(), utc_now()))
    if not made.first_held or not _review(made):
        return None
    return agreement(store, made.id, made.agreed_effects, reason or "the first plan was reviewed")


def _followed(store: "Store", number: str) -> "Answer":
    """What became of an order that was filed. Whoever hears that it was not carried out can rely on it."""
    from reconciler.orders import Answer, answered
    from reconciler.progress import shown

    with shown() as progress:
        while True:
            alive = store.in_use
            request = store.request(number)
            if request is None:
                return Answer(FAILED, error=f"Request {number} is not on record any more.")
            if request.state not in ("filed", "taken"):
                return answered(request)
            if not alive and request.state == "taken":
                words = f"The reconciler ended while it carried out request {number}; what was begun is in the journal"
                return Answer(FAILED, error=f"{words}, and the next run finds out what became of it.")
            if not alive and store.withdraw(number):
                words = f"The reconciler ended before it took request {number}; nothing of it was done, nor will be"
                return Answer(FAILED, error=f"{words}. Order it again: without a service it is done at once.")
            if progress and request.state == "taken":
                progress("Keeper", *store.under_way())
            time.sleep(_LOOK_AGAIN)
