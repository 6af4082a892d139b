"""One seed is one history: the steps that it gives, and how they are played."""

import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tests.campaign import chains, decisions, meddling, organisation, troubles
from tests.campaign.ending import ending, one_thing_broken
from tests.campaign.observer import Violation
from tests.campaign.world import World, silent

MEMORY = Path("/dev/shm")
LENGTH = 40
"""Steps of a history."""

KINDS: dict[str, tuple[dict[Callable[..., str], int], int]] = {
    "cycles": (decisions.CYCLES, 42),
    "organisation": (dict(organisation.STEPS), 26),
    "keeper": (dict(meddling.STEPS), 15),
    "settings": (dict(decisions.SETTINGS), 4),
    "persons": (dict(decisions.PERSONS), 3),
    "machine": (dict(decisions.MACHINE), 10),
    "troubles": (dict(troubles.STEPS), 6),
    "chains": (dict(chains.STEPS), 2),
}
_TOTALS: tuple[Literal["list"], Literal["page"]] = "list", "page"
_BY_NAME = {step.__name__: step for steps, _ in KINDS.values() for step in steps}
_CYCLES = {step.__name__ for step in decisions.CYCLES}


@dataclass(frozen=True)
class Step:
    """One thing that happens; what exactly, `seed` draws from what is there by then. `muted` faults of a cycle don't
    happen."""

    name: str
    seed: int
    muted: frozenset[str] = frozenset()


@dataclass
class Played:
    """What came of a history."""

    violations: list[Violation]
    lines: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    excused: Counter[int] = field(default_factory=Counter)
    happened: dict[int, list[str]] = field(default_factory=dict)  # by step: the faults of its cycle

    @property
    def letters(self) -> set[str]:
        return {violation.letter for violation in self.violations}


def steps_of(seed: int, length: int = LENGTH) -> list[Step]:
    """The history that a seed gives."""
    draw = random.Random(f"history {seed}")
    kinds = [kind for kind, _ in KINDS.values()]
    weights = [weight for _, weight in KINDS.values()]
    steps = []
    for _ in range(length):
        kind = draw.choices(kinds, weights)[0]
        step = draw.choices(list(kind), list(kind.values()))[0]
        steps.append(Step(step.__name__, draw.getrandbits(48)))
    return steps


def play(seed: int, steps: Sequence[Step]) -> Played:
    """Play a history to its end, or to its first violation."""
    folder = Path(tempfile.mkdtemp(prefix="campaign-", dir=MEMORY if MEMORY.is_dir() else None))
    hook = sys.unraisablehook
    world = World(folder)
    silent(world)
    played = Played(world.observer.violations)
    try:
        _begin(world, random.Random(f"world {seed}"))
        for number, step in enumerate(steps):
            _step(world, step)
            if step.name in _CYCLES:
                played.happened[number] = list(world.happened)
            if world.observer.violations:
                break
        else:
            if ending(world, random.Random(f"end {seed}")):
                one_thing_broken(world, random.Random(f"broken {seed}"))
    finally:
        sys.unraisablehook = hook
        world.restart()
        shutil.rmtree(folder, ignore_errors=True)
    played.lines, played.faults, played.requests = world.lines, world.faults, world.requests
    played.excused = world.observer.excused
    return played


def _begin(world: World, draw: random.Random) -> None:
    """An organisation, and a Keeper that may hold some of its people already."""
    for _ in range(draw.randint(1, 4)):
        organisation.group_made(world, draw)
    for _ in range(draw.choice((3, 6, 10, 16, 25))):
        organisation.join(world, draw)
    for _ in range(draw.randint(100, 300) if draw.random() < 0.01 else 0):
        organisation.joins(world, draw)
    if draw.random() < 0.5:
        for _ in range(draw.randint(1, 8)):
            meddling.adds_user(world, draw)
        for _ in range(draw.randint(0, 2)):
            meddling.adds_team(world, draw)
    world.keeper.set_dialect(**_dialect(draw))
    if draw.random() < 0.3:
        rows, totals = draw.choice((2, 5)), draw.choice(_TOTALS)
        odd = replace(world.jumpcloud.assumptions, page_rows=rows, totals=totals, gone_status=410)
        world.jumpcloud.assumptions = odd
    if draw.random() < 0.3:
        world.rules.safety = {"first_run": "apply"}
    if draw.random() < 0.4:
        world.rules.policy["grace"] = "0s"
    scope = len(world.truth.scope_since)
    world.say(f"{len(world.truth.people)} people, {scope} in scope, {len(world.keeper.accounts())} in Keeper already")


def _dialect(draw: random.Random) -> dict[str, object]:
    """How this Keeper reads what its documentation leaves open."""
    choices: dict[str, Iterable[object]] = {
        "shows_queued_teams": (True, False),
        "gets_hidden_teams": (True, False),
        "shows_pending_memberships": (True, False),
        "queues_every_membership": (False, True),
        "patch_reply": ("body", "none"),
        "lowercases_usernames": (False, True),
        "trims_names": (False, True),
        "link_status": (200, 201),
        "group_post_status": (201, 200),
        "error_body": ("scim", "keeper", "empty", "html"),
        "refuses_duplicate_membership": (False, True),
        "refuses_absent_membership": (False, True),
        "username_change": ("rename", "alias", "ignore", "refuse"),
        "unique_group_names": (False, True),
        "page_cap": (10_000, 4),
        "links_aliases": (False, True),
        "link_updates": (True, False),
        "link_unlocks": (False, True),
    }
    return {name: list(values)[0 if draw.random() < 0.75 else -1] for name, values in choices.items()}


def _step(world: World, step: Step) -> None:
    draw = random.Random(step.seed)
    act = _BY_NAME[step.name]
    text = act(world, draw, step.muted) if step.name in _CYCLES else act(world, draw)
    if text:
        world.say(text)
    world.time.elapsed += 60


def without(steps: Sequence[Step], numbers: Iterable[int]) -> list[Step]:
    """The history without some of its steps."""
    gone = set(numbers)
    return [step for number, step in enumerate(steps) if number not in gone]


def muted(steps: Sequence[Step], number: int, names: Iterable[str]) -> list[Step]:
    """The history with some faults of one cycle muted."""
    step = steps[number]
    changed = replace(step, muted=step.muted | frozenset(names))
    return [*steps[:number], changed, *steps[number + 1 :]]
