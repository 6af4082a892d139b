"""The command line of the fuzzing: see README.md beside this file."""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from loguru import logger

from tests.fuzz.office import Office
from tests.fuzz.plans import Plans
from tests.fuzz.replies import Replies
from tests.fuzz.settings import SettingsFiles
from tests.fuzz.statefiles import StateFiles
from tests.fuzz.verdict import ACCEPTED, CLEAR_ERROR, Verdict, memory

SHARES = {"replies": 28, "settings": 40, "plans": 20, "state files": 12}
"""The kinds, and how many of a hundred inputs are of each."""
_ORDER = [kind for kind, share in SHARES.items() for _ in range(share)]
SHOWN = 40
"""Violations that are printed in full."""


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


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=2_000, help="how many inputs")
    parser.add_argument("--first", type=int, default=0, help="the number of the first")
    parser.add_argument("--kind", help="only inputs of this kind")
    parser.add_argument("--show", type=int, metavar="N", help="what input N is, and what came of it")
    asked = parser.parse_args()
    memory_backed = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory_backed if memory_backed.is_dir() else None) as folder:
        fuzz = Fuzz(Path(folder))
        if asked.show is not None:
            return _show(fuzz.try_one(asked.show))
        numbers = range(asked.first, asked.first + asked.inputs)
        return _all(fuzz, [number for number in numbers if asked.kind in (None, kind_of(number))])


def _show(verdict: Verdict) -> int:
    print(f"{verdict.kind}, {verdict.what}\n-> {verdict.outcome}\n{verdict.told}")
    print(*(f"!! {violation}\n" for violation in verdict.violations), sep="")
    return 1 if verdict.violations else 0


def _all(fuzz: Fuzz, numbers: Sequence[int]) -> int:
    began, kinds, outcomes, violated = time.monotonic(), Counter[str](), Counter[str](), 0
    by_kind = Counter[tuple[str, str]]()
    for number in numbers:
        verdict = fuzz.try_one(number)
        kinds[verdict.kind] += 1
        outcomes[verdict.outcome] += 1
        by_kind[verdict.kind, verdict.outcome] += 1
        if verdict.violations:
            violated += 1
            if violated <= SHOWN:
                print(f"input {number}, {verdict.what:.300}", *verdict.violations[:3], sep="\n   !! ", flush=True)
    for kind in kinds:
        print(f"{kind}: {by_kind[kind, CLEAR_ERROR]} clear errors, {by_kind[kind, ACCEPTED]} accepted")
    print(
        f"{len(numbers)} inputs ({', '.join(f'{kind} {kinds[kind]}' for kind in SHARES)}): clear errors "
        f"{outcomes[CLEAR_ERROR]}, accepted {outcomes[ACCEPTED]}, violations {violated}. "
        f"{time.monotonic() - began:.0f} s, at most {memory()} MiB."
    )
    return 1 if violated else 0


if __name__ == "__main__":
    sys.exit(main())
