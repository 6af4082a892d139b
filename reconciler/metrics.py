"""How it stands, for Prometheus: what is measured after a run, and its text, as of the moment it is asked for.

No name, address or id of anybody is in it: labels are the tenant, services, and words of our own.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.approval import APPROVE, INVENTORY
from reconciler.model import Account, Snapshot, Team
from reconciler.pilot import kept_locked
from reconciler.policy import Policy
from reconciler.promise import Lack, leavers, spared
from reconciler.report import files
from reconciler.standing import Standing
from reconciler.waiting import Waiting, waiting

if TYPE_CHECKING:
    from prometheus_client.core import Metric

READ_BY_ALL = 0o644
"""The mode of the text file: the node exporter is another user."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured after the newest run; times, not ages, so that an age is right whenever it is asked for."""

    tenant: str = ""
    standing: Standing = field(default_factory=Standing)
    held: int = 0
    quarantined: int = 0
    kept_locked: int = 0
    users: dict[str, int] = field(default_factory=dict)
    teams: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    leaver_since: datetime | None = None
    waiting_since: datetime | None = None


def measure(tenant: str, snapshot: Snapshot, standing: Standing, policy: Policy, held: int) -> Measured:
    """What there is to tell now; `held` is the number of operations that wait for a person."""
    accounts = [account for account in snapshot.accounts.values() if not account.gone]
    waits = waiting(snapshot, policy.teams)
    queued = {found.team.keeper_id: found for found in waits if found.queued}
    teams = [team for team in snapshot.teams.values() if not team.gone]
    unlocked = [a.left_at for a in leavers(snapshot) if not spared(a, policy, standing.merely_left)]
    return Measured(
        tenant,
        standing,
        held,
        len(snapshot.unclear),
        sum(kept_locked(policy, account) for account in snapshot.accounts.values()),
        dict.fromkeys(("active", "locked_by_us", "locked", "unmanaged"), 0) | Counter(map(_user_state, accounts)),
        dict.fromkeys(("managed", "queued", "approval_not_visible", "unmanaged"), 0)
        | Counter(_team_state(team, queued.get(team.keeper_id)) for team in teams),
        _waiting_counts(waits, len(snapshot.unsettled_teams)),
        min(filter(None, unlocked), default=None),
        min(
            [found.since for found in waits if found.since and not found.listed]
            + list(snapshot.unsettled_teams.values()),
            default=None,
        ),
    )


def _user_state(account: Account) -> str:
    if not account.managed:
        return "unmanaged"
    return "active" if account.active else "locked_by_us" if account.locked_by_us else "locked"


def _team_state(team: Team, waits: Waiting | None) -> str:
    if not team.managed:
        return "unmanaged"
    if waits is None:
        return "managed"
    return "approval_not_visible" if team.seen and not waits.certain else "queued"


def _waiting_counts(waits: list[Waiting], unsettled: int) -> dict[str, int]:
    return {
        "team": sum(found.queued for found in waits) + unsettled,
        "membership": sum(not member.invited for found in waits for member in found.members),
    }


def render(measured: Measured, now: datetime) -> bytes:
    """The text that Prometheus reads (text format 0.0.4)."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class Ours(Collector):
        def collect(self) -> "Iterator[Metric]":
            return _families(measured, now)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Ours())
    return generate_latest(registry)


def _families(measured: Measured, now: datetime) -> "Iterator[Metric]":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily

    tenant, standing, totals = measured.tenant, measured.standing, measured.standing.totals

    def gauge(name: str, help: str, values: dict[str, Any], label: str = "") -> "Metric":
        family = GaugeMetricFamily(f"reconciler_{name}", help, labels=["tenant", label] if label else ["tenant"])
        for word, number in values.items():
            family.add_metric([tenant, word] if label else [tenant], number)
        return family

    def counter(name: str, help: str, prefix: str, *labels: str) -> "Metric":
        family = CounterMetricFamily(f"reconciler_{name}", help, labels=["tenant", *labels])
        for key, number in sorted(totals.items()):
            first, *words = key.split(":")
            if first == prefix:
                family.add_metric([tenant, *words], number)
        return family

    def age(since: datetime | None) -> float:
        return max(0.0, (now - since).total_seconds()) if since else 0.0

    yield counter("cycles", "Runs by result.", "cycles", "result")
    spent = SummaryMetricFamily("reconciler_cycle_duration_seconds", "How long runs took.", labels=["tenant"])
    runs = sum(number for key, number in totals.items() if key.startswith("cycles:"))
    spent.add_metric([tenant], int(runs), totals.get("seconds", 0.0))
    yield spent
    yield gauge("last_cycle_duration_seconds", "How long the newest run took.", {"": standing.duration})
    if standing.last_good:
        at, seconds = standing.last_good.timestamp(), age(standing.last_good)
        yield gauge("last_good_cycle_timestamp_seconds", "When the last good cycle ended.", {"": at})
        yield gauge("last_good_cycle_age_seconds", "How long ago the last good cycle ended.", {"": seconds})
    failing = standing.failing.count if standing.failing else 0
    yield gauge("failed_cycles_in_a_row", "Cycles that failed since one did not.", {"": failing})
    yield gauge(
        "receiver_failing_since_timestamp_seconds",
        "Since when a receiver of alerts, or of the heartbeat, has not taken what it is sent.",
        {name: since.timestamp() for name, (since, _) in standing.untold.items()},
        "receiver",
    )
    programs = {name: int(name in standing.hooks) for name in (INVENTORY, APPROVE)}
    yield gauge("hook_failing", "Whether a program that the settings name failed when last run.", programs, "hook")
    yield counter("operations", "Operations by kind and result.", "operations", "kind", "result")
    yield gauge("users", "Keeper users of the node by state.", measured.users, "state")
    yield gauge("teams", "Keeper teams of the node by state.", measured.teams, "state")
    yield gauge("held_operations", "Operations of the newest plan that wait for a person.", {"": measured.held})
    yield gauge("quarantined", "Records, fields and lists that can't be read.", {"": measured.quarantined})
    alarms = "Limits that will hold the plan when grace ends, unless it is repaired before."
    yield gauge("limits_that_will_hold", alarms, {"": len(standing.will_be_held)})
    shut = "People in scope whom our own lock keeps out, since they are outside the pilot (policy.only)."
    yield gauge("kept_locked_by_pilot", shut, {"": measured.kept_locked})
    leaver = age(measured.leaver_since)
    yield gauge("oldest_leaver_seconds", "Since the oldest leaver left who is not known to be locked.", {"": leaver})
    lacks = dict.fromkeys(map(str, Lack), 0) | Counter(standing.lacks.values())
    yield gauge("failing", "People and teams for whom an operation keeps failing, by what they lack.", lacks, "lacks")
    yield gauge("waiting", "What was asked for in Keeper and is not known to be approved.", measured.waiting, "what")
    waits = age(measured.waiting_since)
    yield gauge(
        "oldest_waiting_seconds", "Since the oldest of it was asked for that is queued or not listed.", {"": waits}
    )
    yield counter("requests", "Requests sent, by service.", "requests", "service")
    yield counter("retries", "Requests that were repeated, by service.", "retries", "service")
    yield counter("throttled", "Answers that asked to slow down, by service.", "throttled", "service")


def write_textfile(path: Path, text: bytes) -> None:
    """Write the file for the node exporter's textfile collector, which takes names in .prom only, whole or not at
    all. Raises OSError."""
    files.write(path, text.decode(), READ_BY_ALL, ours=True)
