"""How large the state file and its copies become over years of cycles, on a clock of its own.

    python -m benchmarks.years [--cycles 100000] [--every 15] [--people 800] [--folder DIRECTORY]

It writes through the store what a service writes with each cycle, but in one transaction each: the size counts here,
not the time. It ends with 1 where the file grows on after the history is full.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.organisation import keeper_id, organisation
from reconciler.consent import RELEASE_LASTS
from reconciler.model import Snapshot
from reconciler.plan import SCHEDULE, Cause, Change, Held, Kind, Operation, Plan, Rule, Scope, Source, Subject
from reconciler.report.document import to_json
from reconciler.rows import State
from reconciler.store import Binding, Store

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SOURCE = Source("5" * 24, "6" * 24, "Keeper", "https://keeper.example/api/rest/scim/v2/1")
SLACK = 1.25
"""By so much the file may outgrow what it was when its history was full for the first time, as chance has it."""


@dataclass(frozen=True, slots=True)
class Size:
    """After so many cycles: the bytes of the state file, its WAL and all copies, and how many rows it has."""

    cycles: int
    at: datetime
    file: int
    wal: int
    copies: int
    operations: int
    runs: int


def play(path: Path, *, cycles: int, every: timedelta, people: int, history: timedelta, look: int) -> Iterator[Size]:
    """Play the cycles and give the size after every so many (`look`)."""
    chance = random.Random(1)
    held = organisation(people)
    with Store.open(path, write=True, takes_requests=True) as store:
        store.bind(Binding(SOURCE.organization, SOURCE.application_id, SOURCE.keeper))
        store.save(held, Snapshot())
        for number in range(cycles):
            now = BEGIN + number * every
            with store.together():
                held = _cycle(store, held, now, number, chance)
            store.keep_house(now, history)
            if (number + 1) % look == 0:
                yield _size(store, path, number + 1, now)


def _cycle(store: Store, held: Snapshot, now: datetime, number: int, chance: random.Random) -> Snapshot:
    run = store.begin_run("cycle", now, by=SCHEDULE, reason="")
    if number % 4 == 0:
        before, held = held, replace(held, read_at=now)
        store.save(held, before)
    plan = Plan("cycle", now, SOURCE, Scope(len(held.accounts), len(held.teams), 3 * len(held.accounts)))
    counts: dict[str, int] = {}
    if chance.random() < 0.01:
        store.finish_run(run, now, "failed", error="Keeper gave no answer within 30 s to GET /Users. " + "x" * 200)
    else:
        if number % 1000 < 40:  # a plan waits for ten hours, and changes twice
            operations = tuple(_operation(held, number // 20 * 500 + n) for n in range(100))
            reason = "100 people would be locked of 800 active; allowed are 16 (2%)"
            plan = replace(
                plan,
                operations=tuple(replace(op, sent=False) for op in operations),
                held=(Held("max_deactivations", tuple(range(100)), 16, 100, reason),),
            )
        elif chance.random() < 0.03:
            plan = replace(plan, operations=tuple(_operation(held, chance.randrange(10**6)) for _ in range(3)))
            counts = {"update_user": 3}
            _apply(store, run, plan.operations, held, now)
        store.finish_run(
            run,
            now,
            "held" if plan.held else "done" if counts else "nothing",
            counts=counts,
            plan_id=plan.id,
            held=len(plan.held_indices),
            document=to_json(plan) if plan.operations else None,
        )
    if number % 500 == 0:
        released = {"plan": plan.id, "effects": sorted(map(list, plan.effects))}
        store.add_request("release", released, "ada", now, "looked at", now + RELEASE_LASTS)
    if number % 100 == 0:
        order = store.add_request("resync", {"person": "ada@example.com"}, "ada", now, "", state="filed")
        store.take(order)
        store.close_request(order, "done", now, "what was answered " * 100)
    store.set_meta("standing", f'{{"last_good":"{now.isoformat()}","totals":{{"cycles:nothing":{number}}}}}')
    store.set_meta("next_cycle", now.isoformat())
    return held


def _operation(held: Snapshot, number: int) -> Operation:
    one = held.accounts[keeper_id(number % len(held.accounts))]
    return Operation(
        Kind.UPDATE_USER,
        Subject("user", one.asked["userName"], one.jumpcloud_id, one.keeper_id),
        Cause.JUMPCLOUD,
        Rule.CHANGED,
        "changed in JumpCloud: name.familyName",
        (Change("name.familyName", one.asked["name.familyName"], f"Name {number}"),),
    )


def _apply(store: Store, run: int, operations: tuple[Operation, ...], held: Snapshot, now: datetime) -> None:
    for operation, journal_id in zip(operations, store.write_ahead(run, operations, {}, now), strict=True):
        store.mark_sent(journal_id, now, operation)
        store.record(journal_id, State.DONE, now, "done", accounts=[held.accounts[operation.subject.keeper_id]])


def _size(store: Store, path: Path, cycles: int, now: datetime) -> Size:
    operations, runs = len(store.journal(BEGIN)), len(store.runs(cycles))
    copies = sum(copy.stat().st_size for copy in path.parent.glob(f"{path.name}.*.copy"))
    wal = path.with_name(f"{path.name}-wal").stat().st_size
    return Size(cycles, now, path.stat().st_size, wal, copies, operations, runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cycles", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=15, help="minutes from cycle to cycle")
    parser.add_argument("--people", type=int, default=800)
    parser.add_argument("--folder", help="where the state file is made; best on a disk in memory")
    given = parser.parse_args()
    every, history = timedelta(minutes=given.every), timedelta(days=400)
    full = largest = 0
    began = time.monotonic()
    print("     day    cycles  operations    runs   file MiB   WAL MiB   copies MiB")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "reconciler.db"
        for size in play(
            path,
            cycles=given.cycles,
            every=every,
            people=given.people,
            history=history,
            look=max(1, given.cycles // 20),
        ):
            day = (size.at - BEGIN).days
            sizes = "".join(f"{number / 2**20:12.1f}" for number in (size.file, size.wal, size.copies))
            print(f"{day:8}{size.cycles:10}{size.operations:12}{size.runs:8}{sizes}", flush=True)
            if size.at - BEGIN > history:
                full, largest = full or size.file, max(largest, size.file)
    print(f"{time.monotonic() - began:.0f} s")
    if not full:
        print("Too few cycles: the history is not full yet.")
    else:
        bound = SLACK * full
        print(f"Bound: {bound / 2**20:.1f} MiB; largest since the history was full: {largest / 2**20:.1f} MiB")
        sys.exit(largest > bound)


if __name__ == "__main__":
    main()
