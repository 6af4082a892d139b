"""The command line of the fuzzing: see README.md beside this file."""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loguru import logger

from tests.fuzz.office import Office
from tests.fuzz.plans import Plans
from tests.fuzz.replies import Replies
from tests.fuzz.settings import SettingsFiles
from tests.fuzz.statefiles import StateFiles
from tests.fuzz.verdict import ACCEPTED, CLEAR_ERROR, Verdict, memory

SHARES = {"replies": 35, "settings": 35, "plans": 15, "state files": 15}
"""The kinds, and how many of a hundred inputs are of each."""
_ORDER = [kind for kind, share in SHARES.items() for _ in range(share)]
CHUNK = 500
"""Inputs that a process takes at a time."""


def kind_of(number: int) -> str:
    """The kind of the input with this number."""
    return _ORDER[number % len(_ORDER)]


class Fuzz:
    """Input number so and so is always the same, whichever were tried before it."""

    def __init__(self, folder: Path) -> None:
        logger.remove()
        office = Office(folder / "office")
        self._leaks: list[str] = []
        logger.add(lambda line: self._look(str(line), office), level="DEBUG", format="{message}", diagnose=False)
        papers = folder / "papers"
        papers.mkdir()
        self._kinds: dict[str, Callable[[random.Random], Verdict]] = {
            "replies": Replies(office).try_one,
            "settings": SettingsFiles(papers).try_one,
            "plans": Plans(office, papers).try_one,
            "state files": StateFiles(office).try_one,
        }

    def _look(self, line: str, office: Office) -> None:
        self._leaks += ["a secret in the log" for secret in office.secrets if secret in line]

    def try_one(self, number: int) -> Verdict:
        """Try the input with this number."""
        verdict = self._kinds[kind_of(number)](random.Random(f"hostile input {number}"))
        verdict.violations += self._leaks
        self._leaks.clear()
        return verdict


@dataclass
class Total:
    """What so many inputs came to, by kind and outcome."""

    inputs: Counter[tuple[str, str]] = field(default_factory=Counter)
    violated: dict[int, Verdict] = field(default_factory=dict)
    cpu: float = 0.0
    memory: int = 0

    def add(self, other: "Total") -> None:
        self.inputs += other.inputs
        self.violated |= other.violated
        self.cpu += other.cpu
        self.memory = max(self.memory, other.memory)

    def of(self, kind: str = "", outcome: str = "") -> int:
        """How many were of this kind, or had this outcome."""
        return sum(number for (k, o), number in self.inputs.items() if kind in ("", k) and outcome in ("", o))

    def lines(self, seconds: float) -> str:
        """The figures of each kind, and the closing line."""
        each = [f"{k}: clear errors {self.of(k, CLEAR_ERROR)}, accepted {self.of(k, ACCEPTED)}" for k in SHARES]
        kinds = ", ".join(f"{kind} {self.of(kind)}" for kind in SHARES)
        closing = (
            f"{self.of()} inputs ({kinds}): clear errors {self.of(outcome=CLEAR_ERROR)}, accepted "
            f"{self.of(outcome=ACCEPTED)}, violations {len(self.violated)}. {seconds:.0f} s, {self.cpu:.0f} s of CPU time, "
            f"at most {self.memory} MiB in a process."
        )
        return "\n".join([*each, closing])


def _tried(numbers: Sequence[int]) -> Total:
    total, began = Total(), time.process_time()
    with _fuzz() as fuzz:
        for number in numbers:
            verdict = fuzz.try_one(number)
            total.inputs[verdict.kind, verdict.outcome] += 1
            if verdict.violations:
                total.violated[number] = verdict
    total.cpu, total.memory = time.process_time() - began, memory()
    return total


@contextmanager
def _fuzz() -> Iterator[Fuzz]:
    memory_backed = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory_backed if memory_backed.is_dir() else None) as folder:
        yield Fuzz(Path(folder))


def _show(number: int) -> int:
    with _fuzz() as fuzz:
        verdict = fuzz.try_one(number)
    print(f"{verdict.kind}, {verdict.what}\n-> {verdict.outcome}\n{verdict.told}")
    print(*(f"!! {violation}\n" for violation in verdict.violations), sep="")
    return 1 if verdict.violations else 0


def _all(numbers: Sequence[int], jobs: int) -> int:
    began, total = time.monotonic(), Total()
    chunks = [numbers[start : start + CHUNK] for start in range(0, len(numbers), CHUNK)]
    with ProcessPoolExecutor(jobs) as pool:
        for part in pool.map(_tried, chunks):
            for number, verdict in part.violated.items():
                print(f"input {number}, {verdict.what:.300}", *verdict.violations[:3], sep="\n   !! ", flush=True)
            total.add(part)
    print(total.lines(time.monotonic() - began))
    return 1 if total.violated else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=2_000, help="how many inputs")
    parser.add_argument("--first", type=int, default=0, help="the number of the first")
    parser.add_argument("--kind", help="only those of this kind")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--show", type=int, metavar="N", help="what input N is, and what came of it")
    asked = parser.parse_args()
    if asked.show is not None:
        return _show(asked.show)
    numbers = range(asked.first, asked.first + asked.inputs)
    return _all([number for number in numbers if asked.kind in (None, kind_of(number))], asked.jobs)


if __name__ == "__main__":
    sys.exit(main())
