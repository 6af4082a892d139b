"""What is kept from run to run beside the snapshot and the journal: how it stands, and totals for the metrics. Pure.

It is one JSON value in the state file, so that a plain `apply` from a timer knows as much as a daemon.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from reconciler.alerts import Failing, Key, Refusal
from reconciler.approval import Attempts
from reconciler.promise import Lack

if TYPE_CHECKING:
    from reconciler.apply import Result
    from reconciler.http import Counters

KEY = "standing"
"""Under which the state file keeps it (see `Store.meta`)."""

Totals = Mapping[str, float]
"""Sums since the state file was made, by words that a colon separates, such as `operations:create_user:done`."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands.

    `last_good`: when the last good cycle ended (see `cycle.Outcome.good`). `failing`: the cycles that failed since
    one did not (see `succeeded`). `merely_left`: who did, as last read (see `alerts.merely_left`). `approvals`: the
    attempts since something was queued last. `hooks`: the programs that failed when last run, with what went wrong.
    `untold`: the receivers that did not take what they were sent last, since when and why; `refused`: what each refuses
    for now. `lacks`: who keeps failing and what they lack, by subject key, as of the newest run (see `promise.Lack`).
    `duration`: seconds that the last cycle took. `will_be_held`: the limits that will hold the plan when grace ends,
    as the last cycle over everybody found.
    """

    last_good: datetime | None = None
    failing: Failing | None = None
    merely_left: frozenset[str] = frozenset()
    approvals: Attempts | None = None
    hooks: Mapping[str, str] = field(default_factory=dict)
    untold: Mapping[str, tuple[datetime, str]] = field(default_factory=dict)
    refused: Mapping[str, Mapping[Key, Refusal]] = field(default_factory=dict)
    lacks: Mapping[str, str] = field(default_factory=dict)
    duration: float = 0.0
    will_be_held: frozenset[str] = frozenset()
    totals: Totals = field(default_factory=dict)

    def failed(self, words: str, at: datetime, *, resync: bool) -> "Standing":
        """After one more cycle that failed."""
        before = self.failing or Failing(0, at, "")
        return replace(self, failing=Failing(before.count + 1, before.since, words, resync or before.resync))

    def succeeded(self, *, resync: bool) -> "Standing":
        """After a cycle that did not fail. Only a resync makes up for one that did: where nothing is due, others ask
        Keeper for nothing, and do not show that it answers."""
        lasts = self.failing is not None and self.failing.resync and not resync
        return self if lasts else replace(self, failing=None)

    def hook(self, name: str, problem: str) -> "Standing":
        """After one more use of a program that the settings name, with what went wrong, "" for nothing."""
        others = {other: words for other, words in self.hooks.items() if other != name}
        return replace(self, hooks={**others, name: problem} if problem else others)

    def told(self, problems: Mapping[str, str], at: datetime) -> "Standing":
        """After receivers were called, with what went wrong with each, "" for nothing."""
        untold = {name: known for name, known in self.untold.items() if name not in problems}
        for name, problem in problems.items():
            if problem:
                untold[name] = (self.untold[name][0] if name in self.untold else at, problem)
        return replace(self, untold=untold)

    def counted(
        self, result: str, seconds: float, results: "Iterable[Result]", traffic: "Iterable[tuple[str, Counters]]"
    ) -> "Standing":
        """After one more run, with its duration, its operations and its requests; the counters begin anew."""
        totals = dict(self.totals)

        def add(key: str, number: float) -> None:
            if number:
                totals[key] = totals.get(key, 0) + number

        add(f"cycles:{result}", 1)
        add("seconds", seconds)
        for one in results:
            add(f"operations:{one.operation.kind.value}:{one.state.value}", 1)
        for service, counters in traffic:
            add(f"requests:{service}", counters.requests)
            add(f"retries:{service}", counters.retries)
            add(f"throttled:{service}", counters.throttled)
            counters.requests = counters.retries = counters.throttled = 0
        return replace(self, duration=seconds, totals=totals)


def to_json(standing: Standing) -> str:
    """The value for the state file."""
    failing, approvals = standing.failing, standing.approvals
    return json.dumps(
        {
            "last_good": standing.last_good.isoformat() if standing.last_good else None,
            "failing": [failing.count, failing.since.isoformat(), failing.words, failing.resync] if failing else None,
            "approvals": [approvals.count, approvals.last_at.isoformat()] if approvals else None,
            "merely_left": sorted(standing.merely_left),
            "hooks": dict(standing.hooks),
            "untold": {name: [since.isoformat(), words] for name, (since, words) in standing.untold.items()},
            "refused": {
                name: [[*key, one.since.isoformat(), one.last.isoformat()] for key, one in mine.items()]
                for name, mine in standing.refused.items()
            },
            "lacks": dict(standing.lacks),
            "duration": round(standing.duration, 3),
            "alarms": sorted(standing.will_be_held),
            "totals": {key: round(number, 3) for key, number in standing.totals.items()},
        },
        ensure_ascii=False,
    )


def from_json(text: str | None) -> Standing:
    """The standing from the state file; a new one where there is none, or what is there can't be read: nobody's
    access depends on it."""
    try:
        found: dict[str, Any] = json.loads(text or "{}")
        last_good, failing, approvals = (found.get(key) for key in ("last_good", "failing", "approvals"))
        return Standing(
            last_good=datetime.fromisoformat(last_good) if last_good else None,
            failing=Failing(int(failing[0]), datetime.fromisoformat(failing[1]), str(failing[2]), any(failing[3:]))
            if failing
            else None,
            merely_left=frozenset(map(str, found.get("merely_left", ()))),
            approvals=Attempts(int(approvals[0]), datetime.fromisoformat(approvals[1])) if approvals else None,
            hooks={str(name): str(words) for name, words in found.get("hooks", {}).items()},
            untold={
                str(name): (datetime.fromisoformat(since), str(words))
                for name, (since, words) in found.get("untold", {}).items()
            },
            refused={
                str(name): {
                    (str(kind), str(key)): Refusal(datetime.fromisoformat(since), datetime.fromisoformat(last))
                    for kind, key, since, last in mine
                }
                for name, mine in found.get("refused", {}).items()
            },
            lacks={str(key): Lack(lack).value for key, lack in found.get("lacks", {}).items()},
            duration=float(found.get("duration", 0)),
            will_be_held=frozenset(map(str, found.get("alarms", ()))),
            totals={str(key): float(number) for key, number in found.get("totals", {}).items()},
        )
    except (ValueError, TypeError, LookupError, AttributeError):
        return Standing()
