"""What became of one hostile input, and what must hold for every text that an administrator sees of it."""

import resource
import time
import unicodedata
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from reconciler import exits

LONGEST_TEXT = 9_000
"""Characters of a message; some lists of problems are long, and none grows with the input."""
LONGEST_TIME = 10.0
"""Seconds of CPU time for one input, on a busy machine."""
MOST_MEMORY = 1_200
"""MiB that the process may have held at any time."""

CLEAR_ERROR, ACCEPTED = "clear errors", "accepted"


@dataclass
class Verdict:
    """One input: its kind, what was done to it in words, the outcome, what an administrator is told, violations."""

    kind: str
    what: str
    outcome: str = ACCEPTED
    told: str = ""
    violations: list[str] = field(default_factory=list)

    def error(self, error: Exception, secrets: Collection[str], *names: str) -> None:
        """The reconciler raised this: it must be one that it knows how to explain, and explain it well.

        `names` are words of which the explanation has to have one, so that a person knows where to look.
        """
        explained = exits.explained(error)
        if explained is None:
            tail = error.__traceback__
            while tail is not None and tail.tb_next is not None:
                tail = tail.tb_next
            at = f"{tail.tb_frame.f_code.co_filename.rpartition('/')[2]}:{tail.tb_lineno}" if tail else "?"
            self.violations.append(f"unforeseen {type(error).__name__} at {at}: {error!s:.200}")
            return
        code, self.told = explained
        self.outcome = CLEAR_ERROR
        if code not in (exits.FAILED, exits.USAGE, exits.STATE):
            self.violations.append(f"exit code {code}")
        if not any(name in self.told for name in names):
            self.violations.append(f"does not say what it is about: {self.told:.200}")
        if self.told.count(". ") + self.told.count("\n") + self.told.count("(") < 1:
            self.violations.append(f"does not say what to do: {self.told:.200}")
        self.shown(self.told, secrets)

    def shown(self, text: str, secrets: Collection[str], longest: int = LONGEST_TEXT) -> None:
        """A text that a person gets to see."""
        if len(text) > longest:
            self.violations.append(f"a text of {len(text)} characters: {text:.200}")
        self.violations += [f"{bad} in: {text:.200}" for bad in unclean(text)]
        self.violations += ["a secret is shown" for secret in secrets if secret in text]


def unclean(text: str) -> Iterator[str]:
    """The characters in it that could steer a terminal or mislead a reader."""
    if not text.isascii() or not text.replace("\n", "").isprintable():
        for char in sorted(set(text) - {"\n"}):
            if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in "\u202e\u200b\ufeff":
                yield f"the character {char!a}"


@contextmanager
def bounded(verdict: Verdict) -> Iterator[None]:
    """Whatever is done within must keep to the bounds of time and memory."""
    before, began = memory(), time.process_time()
    yield
    took, held = time.process_time() - began, memory()
    if took > LONGEST_TIME:
        verdict.violations.append(f"{took:.1f} s of CPU time")
    if held > max(MOST_MEMORY, before):
        verdict.violations.append(f"{held} MiB of memory")


def memory() -> int:
    """The most MiB that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
