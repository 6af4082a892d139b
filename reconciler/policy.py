"""What an administrator decided: the rules of the diff and the limits of safety, as the pure core reads them.

Frozen types without I/O. The defaults stand here and nowhere else; the settings file only overrides them.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from fnmatch import fnmatchcase


class Mode(StrEnum):
    """Whether anything is ever sent to Keeper."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class OutOfScope(StrEnum):
    """What happens to people who merely left the scope; suspended and deleted people are always deactivated."""

    DEACTIVATE = "deactivate"
    KEEP = "keep"


class Drift(StrEnum):
    """What happens about changes made in Keeper: put back what is missing, take extras away too, or only report."""

    RESTORE = "restore"
    REPAIR = "repair"
    REPORT = "report"


class Reactivate(StrEnum):
    """Whose lock is undone when a person comes back: only our own, or anybody's."""

    OWN = "own"
    ANY = "any"


class AddressChange(StrEnum):
    """What happens when a person's e-mail address changes in JumpCloud."""

    REPORT = "report"
    SEND = "send"


class TeamAdoption(StrEnum):
    """When a Keeper team that nobody manages is taken over by the group of the same name."""

    FIRST_RUN = "first-run"
    ALWAYS = "always"
    NEVER = "never"


class TeamOutOfScope(StrEnum):
    """What happens to a team whose group left the scope in JumpCloud."""

    EMPTY = "empty"
    KEEP = "keep"
    DELETE = "delete"


class FirstRun(StrEnum):
    """Whether the first plan for a Keeper node waits for a person."""

    REVIEW = "review"
    APPLY = "apply"


@dataclass(frozen=True, slots=True)
class Limit:
    """How many people something may happen to: a percentage (of the managed people who are active in Keeper, or of the
    members of one team), or a count."""

    percent: float | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        """Exactly one of the two is given, or ValueError."""
        if (self.percent is None) == (self.count is None):
            raise ValueError("a limit is either a percentage or a count")

    def __str__(self) -> str:
        """The limit as it stands in the settings."""
        return f"{self.percent:g}%" if self.percent is not None else str(self.count)

    def allowed(self, people: int) -> int:
        """How many of so many people; a percentage is rounded down."""
        if self.percent is None:
            return self.count or 0
        # 0.07 * 100 is a little more than 7 in binary, 0.29 * 100 a little less than 29.
        return math.floor(round(self.percent * people / 100, 9))


@dataclass(frozen=True, slots=True)
class Limits:
    """The safety limits. `window` is the time over which they count. `always_allow` people pass whatever the
    percentage. `at_most` people are the most that any percentage allows."""

    window: timedelta = timedelta(hours=24)
    first_run: FirstRun = FirstRun.REVIEW
    max_deactivations: Limit = Limit(percent=2)
    max_removals: Limit = Limit(percent=5)
    max_team_loss: Limit = Limit(percent=50)
    max_creations: Limit = Limit(percent=5)
    max_grants: Limit = Limit(percent=5)
    max_reactivations: Limit = Limit(percent=5)
    always_allow: int = 3
    at_most: int = 100


@dataclass(frozen=True, slots=True)
class Pilot:
    """The people for whom operations are sent: members of groups by name, addresses (`alike_key`)."""

    groups: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class TeamPolicy:
    """Which groups become teams, and what happens to teams.

    `include`, `exclude` and `review` are glob patterns on group names in NFC, upper and lower case apart. A pattern
    also matches the name that is spelled like it, so that "[EU] Sales" needs no escaping. `role_prefix` starts the
    names of groups that Keeper's endpoint turns into roles, at once and without approval; empty where there are none.
    """

    manage: bool = True
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    adopt: TeamAdoption = TeamAdoption.FIRST_RUN
    review: tuple[str, ...] = ()
    out_of_scope: TeamOutOfScope = TeamOutOfScope.EMPTY
    role_prefix: str = ""

    def manages(self, name: str) -> bool:
        """Whether the group of this name is ours to turn into a team."""
        return self.manage and _matches(name, self.include) and not _matches(name, self.exclude)

    def is_role(self, name: str) -> bool:
        """Whether Keeper's endpoint turns the group of this name into a role."""
        return bool(self.role_prefix) and name.startswith(self.role_prefix)

    def reviews(self, name: str) -> bool:
        """Whether new members of the group of this name wait for a person's release."""
        return _matches(name, self.review)


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of the diff.

    `protect` holds the addresses (`alike_key`) of people whom nothing may be done to. `only`, where it is not None,
    narrows what is sent. `grace` is how long people stay who left the scope but are neither suspended nor deleted, and
    how long the team of a group that left the scope keeps its members.
    """

    mode: Mode = Mode.ENFORCE
    protect: frozenset[str] = frozenset()
    only: Pilot | None = None
    out_of_scope: OutOfScope = OutOfScope.DEACTIVATE
    grace: timedelta = timedelta(minutes=30)
    drift: Drift = Drift.RESTORE
    reactivate: Reactivate = Reactivate.OWN
    address_change: AddressChange = AddressChange.REPORT
    teams: TeamPolicy = field(default_factory=TeamPolicy)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)
