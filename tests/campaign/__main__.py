"""The command line of the campaign: see README.md beside this file."""

import argparse
import gc
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import repeat

from tests.campaign import mutants, process
from tests.campaign.history import LENGTH, Played, play, steps_of
from tests.campaign.shrink import shrink

CHUNK = 10
"""Seeds that a process takes at a time."""
SHOWN = 5
"""Failing histories that are shrunk and printed; of the others only the seed is told."""


@dataclass
class Total:
    """What a campaign came to."""

    seeds: int = 0
    requests: int = 0
    cpu: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    excused: Counter[int] = field(default_factory=Counter)
    failed: dict[int, str] = field(default_factory=dict)  # by seed: the first violation

    def line(self, seconds: float) -> str:
        """The closing line."""
        kinds = ", ".join(f"{kind} {number}" for kind, number in self.faults.most_common())
        excused = ", ".join(f"no. {which} {number}" for which, number in sorted(self.excused.items()))
        return (
            f"{self.seeds} seeds, {self.requests} requests sent, {self.faults.total()} faults injected ({kinds}), "
            f"{self.excused.total()} excused ({excused}), violations: {len(self.failed)}. "
            f"{seconds:.0f} s, {self.cpu:.0f} s of CPU time."
        )


def _begin() -> None:
    """Prepare a process, once: Ctrl-C is for the one that gave it its seeds."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What was imported stays, and a history leaves little behind: looking for garbage less often saves 2 %.
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _chunk(seeds: range, length: int, mutant: str, processes: bool) -> Total:
    total = Total()
    began = _cpu()
    with mutants.BY_NAME[mutant]() if mutant and not processes else nullcontext():
        for seed in seeds:
            played = process.play(seed, length, mutant) if processes else play(seed, steps_of(seed, length))
            _add(total, seed, played)
            if mutant and total.failed:
                break
    total.cpu = _cpu() - began
    return total


def _cpu() -> float:
    """Seconds of CPU time that this process and those that it has started and seen end have taken."""
    return sum(os.times()[:4])


def _add(total: Total, seed: int, played: Played) -> None:
    total.seeds += 1
    total.requests += played.requests
    total.faults.update(played.faults)
    total.excused.update(played.excused)
    if played.violations:
        total.failed[seed] = str(played.violations[0])


def _chunks(seeds: range, size: int) -> Iterator[range]:
    return (seeds[start : start + size] for start in range(0, len(seeds), size))


def _all(pool: ProcessPoolExecutor, seeds: range, length: int, processes: bool) -> Iterable[Total]:
    chunks = _chunks(seeds, 1 if processes else CHUNK)
    return pool.map(_chunk, chunks, repeat(length), repeat(""), repeat(processes))


def campaign(seeds: range, length: int, jobs: int, processes: bool) -> int:
    """Play all seeds; print what failed, shrunk, and the closing line. Ctrl-C ends it early, with the line of what was
    played until then."""
    total, began = Total(), time.monotonic()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in the background
    with ProcessPoolExecutor(jobs, initializer=_begin) as pool:
        try:
            for part in _all(pool, seeds, length, processes):
                total.seeds += part.seeds
                total.requests += part.requests
                total.cpu += part.cpu
                total.faults += part.faults
                total.excused += part.excused
                for seed, words in part.failed.items():
                    print(f"seed {seed}: {words}", flush=True)
                total.failed |= part.failed
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
    for seed in list(total.failed)[:SHOWN]:
        tell(seed, length, processes)
    print(total.line(time.monotonic() - began))
    return 1 if total.failed else 0


def tell(seed: int, length: int, processes: bool, *, whole: bool = False) -> None:
    """Print the history of a seed: as short as it can be made, or whole, as always with a real process."""
    steps = steps_of(seed, length)
    played = process.play(seed, length) if processes else play(seed, steps)
    if played.violations and not whole and not processes:
        steps, played = shrink(seed, steps, played.violations[0].letter)
    print(f"\n== seed {seed}, {len(steps)} of {length} steps")
    print("\n".join(played.lines))
    for violation in played.violations:
        print(f"!! {violation}")


def catch(seeds: range, length: int, jobs: int, processes: bool) -> int:
    """Let the campaign find every mutant; each has to be caught within these seeds."""
    names = [mutant.__name__ for mutant in (*mutants.ASKED_FOR, *mutants.FURTHER)]
    if processes:
        names = [mutant.__name__ for mutant in process.MUTANTS]
    print("| deliberate fault | caught by seed | invariant broken |\n| --- | ---: | --- |")
    missed = 0
    with ProcessPoolExecutor(jobs) as pool:
        for name, total in zip(
            names, pool.map(_chunk, repeat(seeds), repeat(length), names, repeat(processes)), strict=False
        ):
            seed, words = next(iter(total.failed.items()), (None, "not caught"))
            missed += seed is None
            print(f"| {name.replace('_', ' ')} | {'' if seed is None else seed} | {words} |", flush=True)
    return 1 if missed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.campaign", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--length", type=int, help="steps of a history")
    parser.add_argument("--process", action="store_true", help="with real processes on real sockets")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--mutants", action="store_true", help="break our own code on purpose, and see it noticed")
    parser.add_argument("--show", type=int, metavar="SEED", help="print the history of this seed")
    parser.add_argument("--whole", action="store_true", help="with --show: do not shrink it")
    asked = parser.parse_args()
    length = asked.length or (process.LENGTH if asked.process else LENGTH)
    seeds = range(asked.first, asked.first + asked.seeds)
    if asked.show is not None:
        tell(asked.show, length, asked.process, whole=asked.whole)
        return 0
    return (catch if asked.mutants else campaign)(seeds, length, asked.jobs, asked.process)


if __name__ == "__main__":
    sys.exit(main())
