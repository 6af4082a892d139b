"""The share of the campaign in which the reconciler is a real process, told by its command line, on real sockets.

The same organisation, administrator, weather, observer and judgement at the end as in process; what people do is done
by commands, mostly beside a daemon, and the process may be killed as Keeper receives its n-th request.
"""

import json
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from loguru import logger

from reconciler.cycle import Order
from tests.campaign import decisions, history, meddling, mutants, organisation
from tests.campaign.ending import ending
from tests.campaign.history import MEMORY, Played
from tests.campaign.observer import Allowance
from tests.campaign.process_world import Doom, ProcessWorld
from tests.campaign.seams import Weather

LENGTH = 10
"""Steps of a history."""

Step = Callable[[ProcessWorld, random.Random], str]


def play(seed: int, length: int, mutant: str = "") -> Played:
    """Play the history that a seed gives to its end, or to its first violation."""
    folder = Path(tempfile.mkdtemp(prefix="campaign-", dir=MEMORY if MEMORY.is_dir() else None))
    logger.remove()
    try:
        with ProcessWorld(folder, random.Random(f"process {seed}"), mutant) as world:
            _play(world, seed, length)
            world.stop()
            world.look_everywhere_for_secrets()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Played(world.observer.violations, world.lines, world.faults, world.requests)


def _play(world: ProcessWorld, seed: int, length: int) -> None:
    draw = random.Random(f"process history {seed}")
    history._begin(world, random.Random(f"world {seed}"))
    steps = [step for kind, _ in KINDS for step, _ in kind]
    weights = [share * number / sum(n for _, n in kind) for kind, share in KINDS for _, number in kind]
    for step in draw.choices(steps, weights, k=length):
        chance = random.Random(draw.getrandbits(48))
        if text := step(world, chance):
            world.say(text)
        world.time.elapsed += 60
        if world.observer.violations:
            return
    _end(world, random.Random(f"end {seed}"))


def _end(world: ProcessWorld, draw: random.Random) -> None:
    resumes(world, draw)
    if draw.random() < 0.3:
        serves(world, draw)
    elif draw.random() < 0.5:
        stops(world, draw)
    world.judging = True
    ending(world, draw)


# Cycles.


def killed(world: ProcessWorld, draw: random.Random) -> str:
    """A cycle, in which the process gets a signal as Keeper receives a request."""
    writes = draw.random() < 0.6
    number = draw.randint(1, 6 if writes else 12)
    number_of_signal = draw.choices((signal.SIGKILL, signal.SIGTERM), (3, 1))[0]
    world.doom = Doom(number_of_signal, number, writes, draw.random() < 0.5)
    step: Step = draw.choice((decisions.cycle, decisions.resync, serves))
    text = step(world, draw)
    world.doom = None
    return text


def releases(world: ProcessWorld, draw: random.Random) -> str:
    """`release`, of what a person has seen in the document of the plan that is held."""
    with world.reader() as store:
        held = store.held_run(None)
        document = (store.document(held.id) if held else None) or ""
    if held is None or world.rules.observes:
        return ""
    content = json.loads(document)
    numbers = {number for hold in content["held"] for number in hold["operations"]}
    world.observer.agreed(decisions._effects([op for n, op in enumerate(content["operations"]) if n in numbers]))
    words = ["release", held.plan_id, "--wait", "--reason", "looked at"]
    world.say(f"release {held.plan_id}:")
    return f"  -> {world.order(words, decisions.weather(draw))}"


def saved_plan(world: ProcessWorld, draw: random.Random) -> str:
    """`plan --save`, and some time later `apply --plan`; in between things may change."""
    if world.rules.observes:
        return ""
    path = world.folder / "plan.json"
    path.unlink(missing_ok=True)
    before = world.path.read_bytes() if world.path.exists() else b""
    world.say("plan --save:")
    words = ["plan", "--save", path.name, *(["--resync"] if draw.random() < 0.5 else [])]
    world.say(f"  -> {world.order(words, decisions.weather(draw))}")
    after = world.path.read_bytes() if world.path.exists() else b""
    if not world.serving and before != after:
        world.observer.violated("x", "a dry run changed the state file")
    if not path.exists():
        return "  nothing saved"
    for _ in range(draw.choice((0, 1, 2))):
        world.say(f"  meanwhile: {_anything(world, draw)}")
    world.time.elapsed += draw.choice((60, 3600, 5 * 3600))
    world.observer.agreed(decisions._effects(json.loads(path.read_text(encoding="utf-8"))["operations"]))
    world.say("apply --plan:")
    return f"  -> {world.order(['apply', '--plan', path.name, '--wait'], decisions.weather(draw))}"


def _anything(world: ProcessWorld, draw: random.Random) -> str:
    steps = {**organisation.STEPS, **meddling.STEPS}
    return draw.choices(list(steps), list(steps.values()))[0](world, random.Random(draw.getrandbits(48)))


# What persons decide.


def pauses(world: ProcessWorld, _draw: random.Random) -> str:
    if not world.path.exists():
        return ""
    done = world.command("pause", "--reason", "a vault is being moved")
    world.paused = world.paused or done.returncode == 0
    return f"pause: {done.stdout.strip()}"


def resumes(world: ProcessWorld, _draw: random.Random) -> str:
    if not world.paused:
        return ""
    world.paused = False
    return f"resume: {world.command('resume').stdout.strip()}"


def allows(world: ProcessWorld, draw: random.Random) -> str:
    number = draw.randint(1, 8)
    done = world.command("allow", "--deactivations", str(number), "--reason", "a lay-off")
    if done.returncode == 0:
        world.observer.ledger.allowances.append(Allowance(number))
    return f"allow --deactivations {number}: exit {done.returncode}"


# The machine.


def serves(world: ProcessWorld, draw: random.Random) -> str:
    if world.serving:
        return ""
    world.say("the daemon is started:")
    return f"  -> {world.serve(decisions.weather(draw))}"


def stops(world: ProcessWorld, _draw: random.Random) -> str:
    if not world.serving:
        return ""
    world.stop()
    return "the daemon is told to stop"


def daemon_killed(world: ProcessWorld, _draw: random.Random) -> str:
    if not world.serving:
        return ""
    world.stop(signal.SIGKILL)
    world.faults["SIGKILL"] += 1
    return "the idle daemon is killed"


def lost(world: ProcessWorld, draw: random.Random) -> str:
    world.stop(draw.choice((signal.SIGTERM, signal.SIGKILL)))
    text = decisions.lost(world, draw)
    world.forgot()
    world.paused = False
    return text


def restored(world: ProcessWorld, draw: random.Random) -> str:
    """Back to the daily copy, after things have gone on for a while since it was made."""
    if not _copies(world):
        world.time.elapsed += 25 * 3600
        world.say("a day passes:")
        world.say(f"  -> {world.cycle(Order(by=decisions.BY), Weather(0))}")
        world.say(_anything(world, draw))
        world.say(decisions.cycle(world, draw))
    if not _copies(world):
        return "  no daily copy was made"
    world.stop(draw.choice((signal.SIGTERM, signal.SIGKILL)))
    copy = _copies(world)[-1]
    done = world.command("restore", copy.name)
    if done.returncode == 0:
        world.forgot()
        world.paused = False
    return f"restore {copy.name}: exit {done.returncode} {done.stderr.strip()}"


def _copies(world: ProcessWorld) -> list[Path]:
    return sorted(world.folder.glob(f"{world.path.name}.*.copy"))


CYCLES: dict[Step, int] = {
    decisions.cycle: 30, decisions.resync: 8, decisions.resync_person: 6, decisions.rebind: 1, killed: 30, releases: 10,
    saved_plan: 5,
}  # fmt: skip
PERSONS: dict[Step, int] = {allows: 1, pauses: 2, resumes: 3}
MACHINE: dict[Step, int] = {
    decisions.minutes: 4, decisions.hours: 4, decisions.clock_jumps: 1, decisions.restarts: 2, serves: 8, stops: 3,
    daemon_killed: 3, lost: 1, restored: 2,
}  # fmt: skip
KINDS: tuple[tuple[Collection[tuple[Step, int]], int], ...] = (
    (CYCLES.items(), 50),
    (organisation.STEPS.items(), 20),
    (meddling.STEPS.items(), 12),
    (decisions.SETTINGS.items(), 4),
    (PERSONS.items(), 4),
    (MACHINE.items(), 14),
)
"""What happens, and how many of a hundred steps are of each kind."""

MUTANTS = (mutants.skip_the_confirming_read, mutants.forget_the_journal_before_sending)
"""The deliberate faults that this share is shown to notice; the other one shows that the observer sees the rest."""
