"""Plan and Operation: the one representation of what is to be done, why, and what stands in its way.

The dry-run report, the saved plan file, the safety limits, apply and the journal all read it. Pure data.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property

SCHEDULE = "schedule"
"""Who asks for the cycles that no person ordered."""
Effect = tuple[str, ...]
"""One thing that an operation does to one subject, e.g. ("add", person, team): what a release is about."""


class Kind(StrEnum):
    """The kinds of operations; one operation is one request to Keeper."""

    DEACTIVATE_USER = "deactivate_user"
    QUEUE_TEAM = "queue_team"
    RENAME_TEAM = "rename_team"
    CREATE_USER = "create_user"
    REACTIVATE_USER = "reactivate_user"
    UPDATE_USER = "update_user"
    DELETE_TEAM = "delete_team"


PHASES: tuple[frozenset[Kind], ...] = (
    frozenset({Kind.DEACTIVATE_USER}),
    frozenset({Kind.QUEUE_TEAM, Kind.RENAME_TEAM}),
    frozenset({Kind.CREATE_USER, Kind.REACTIVATE_USER, Kind.UPDATE_USER}),
    frozenset({Kind.DELETE_TEAM}),
)
"""The order of applying: leavers first, then teams, then everybody else; a team is deleted once it is empty."""


class Cause(StrEnum):
    """Which side moved: JumpCloud (expected), or Keeper behind our back."""

    JUMPCLOUD = "jumpcloud"
    DRIFT = "drift"


class Rule(StrEnum):
    """The rule by which an operation was decided, as reports and `explain` name it."""

    JOINED = "joined"
    RETURNED = "returned"
    ADOPTED = "adopted"
    CHANGED = "changed"
    SUSPENDED = "suspended"
    DELETED = "deleted"
    LEFT = "left"
    HIDDEN = "hidden"
    GROUP_IN_SCOPE = "group_in_scope"
    GROUP_RENAMED = "group_renamed"
    GROUP_LEFT = "group_left"
    UNSETTLED = "unsettled"
    RESTORED = "restored"
    DISOWNED = "disowned"
    UNLOCK_ASKED = "unlock_asked"
    UNDONE = "undone"


class NoticeKind(StrEnum):
    """What a report says beside the operations."""

    UNMANAGED = "unmanaged"
    CONFLICT = "conflict"
    NOT_UNLOCKED = "not_unlocked"
    LOCKED_IN_KEEPER = "locked_in_keeper"
    UNCONFIRMED = "unconfirmed"
    WAITING_FOR_APPROVAL = "waiting_for_approval"
    NO_LICENCE = "no_licence"
    FAILING = "failing"
    PROTECTED = "protected"
    ADDRESS_CHANGE = "address_change"
    LET_GO = "let_go"
    NO_ADDRESS = "no_address"
    STATE_UNKNOWN = "state_unknown"
    IN_GRACE = "in_grace"
    KEPT = "kept"
    OUTSIDE_PILOT = "outside_pilot"
    DRIFT = "drift"
    GONE = "gone"
    HOOK_FAILED = "hook_failed"
    ELSEWHERE = "elsewhere"
    GHOST = "ghost"
    GIVEN_BY_HAND = "given_by_hand"
    KEEPER_DISAGREES = "keeper_disagrees"
    QUARANTINED = "quarantined"
    WILL_BE_HELD = "will_be_held"
    CLOCK = "clock"


DRIFT_NOTICES = frozenset({NoticeKind.DRIFT, NoticeKind.GIVEN_BY_HAND, NoticeKind.LOCKED_IN_KEEPER})
"""What was changed in Keeper by hand and is only reported."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom or what an operation or a notice is about; ids are empty where there is none (yet)."""

    # "user" or "team"; of a notice also "command" (a program that the settings name), "list", "limit", "setting", or
    # "machine" (its clock)
    type: str
    name: str
    jumpcloud_id: str = ""
    keeper_id: str = ""

    @property
    def key(self) -> str:
        """What identifies the subject over time: the JumpCloud id, else the Keeper id."""
        return self.jumpcloud_id or self.keeper_id


@dataclass(frozen=True, slots=True)
class Change:
    """One attribute that an operation sets."""

    attribute: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class TeamRef:
    """A team whose membership an operation changes; without a Keeper id it is queued by the same plan."""

    name: str
    jumpcloud_id: str = ""
    keeper_id: str = ""

    @property
    def key(self) -> str:
        """What identifies the team over time: the JumpCloud id, else the Keeper id."""
        return self.jumpcloud_id or self.keeper_id


@dataclass(frozen=True, slots=True)
class Operation:
    """One request to Keeper, with its reason. `sent` is False for what is only reported: held, put off, paused, or
    outside the pilot. `pilot`: the entries of `policy.only` that name a person who is created."""

    kind: Kind
    subject: Subject
    cause: Cause
    rule: Rule
    reason: str
    changes: tuple[Change, ...] = ()
    add: tuple[TeamRef, ...] = ()
    remove: tuple[TeamRef, ...] = ()
    sent: bool = True
    pilot: tuple[str, ...] = ()

    def effects(self) -> frozenset[Effect]:
        """What the operation does to whom, apart from names, reasons and what was there before."""
        who = self.subject.key
        effects: set[Effect] = {("add", who, team.key) for team in self.add}
        effects |= {("remove", who, team.key) for team in self.remove}
        if self.kind is Kind.UPDATE_USER:
            effects |= {("set", who, change.attribute, change.after) for change in self.changes}
        else:
            # A person who is created or reactivated, a team that is queued: the attributes are part of the act.
            effects.add((self.kind.value, who))
        return frozenset(effects)

    def split(self, effects: Set[Effect]) -> tuple["Operation | None", "Operation | None"]:
        """The part of the operation that does just these effects, and the rest; either may be None.

        A person's creation or reactivation goes with its own effect, whatever becomes of the teams.
        """
        mine = self.effects() & effects
        if not mine or mine == self.effects():
            return (self, None) if mine else (None, self)
        who = self.subject.key
        add = [team for team in self.add if ("add", who, team.key) not in effects]
        remove = [team for team in self.remove if ("remove", who, team.key) not in effects]
        if self.kind is not Kind.UPDATE_USER:
            return self.divided(add, remove) if (self.kind.value, who) in effects else (None, self)
        changes = [c for c in self.changes if ("set", who, c.attribute, c.after) in effects]
        rest = tuple(change for change in self.changes if change not in changes)
        return (
            replace(
                self,
                changes=tuple(changes),
                add=tuple(team for team in self.add if team not in add),
                remove=tuple(team for team in self.remove if team not in remove),
            ),
            replace(self, changes=rest, add=tuple(add), remove=tuple(remove)),
        )

    def joined(self, part: "Operation") -> "Operation":
        """The operation with what a part of it does, in one request again."""
        return replace(
            self,
            changes=(*self.changes, *part.changes),
            add=tuple(sorted((*self.add, *part.add), key=lambda team: (team.name.casefold(), team.key))),
            remove=tuple(sorted((*self.remove, *part.remove), key=lambda team: (team.name.casefold(), team.key))),
        )

    def divided(
        self, add: Iterable[TeamRef], remove: Iterable[TeamRef]
    ) -> tuple["Operation | None", "Operation | None"]:
        """The operation without these team changes (None if nothing is left), and an update_user of just these."""
        out_add, out_remove = set(add), set(remove)
        if not out_add and not out_remove:
            return self, None
        rest = replace(
            self,
            add=tuple(team for team in self.add if team not in out_add),
            remove=tuple(team for team in self.remove if team not in out_remove),
        )
        part = replace(
            self,
            kind=Kind.UPDATE_USER,
            changes=(),
            add=tuple(team for team in self.add if team in out_add),
            remove=tuple(team for team in self.remove if team in out_remove),
        )
        empty = rest.kind is Kind.UPDATE_USER and not (rest.changes or rest.add or rest.remove)
        return None if empty else rest, part


@dataclass(frozen=True, slots=True)
class Upcoming:
    """An operation that grace puts off, and when it is due if nobody comes back."""

    at: datetime
    operation: Operation


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that an administrator should know, with what to do about it in the message. Of an early alarm, `size`
    is how many will be held."""

    kind: NoticeKind
    subject: Subject
    message: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """Operations that wait for a person, by their index in the plan, and why."""

    limit: str
    operations: tuple[int, ...]
    allowed: int
    planned: int
    reason: str


@dataclass(frozen=True, slots=True)
class LimitUse:
    """How much of a limit is allowed, was used within the window, and is planned now."""

    limit: str
    allowed: int
    used: int
    planned: int


@dataclass(frozen=True, slots=True)
class Source:
    """What a plan was made for: one organisation, one application, one Keeper node."""

    organization: str
    application_id: str
    application_label: str
    keeper: str


@dataclass(frozen=True, slots=True)
class Scope:
    """How large the directory was that a plan was made from. `unread`: see `Directory.unread`."""

    users: int
    teams: int
    memberships: int
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The ordered list of operations with everything that was decided about them.

    `focus` are the keys of the people whom the plan is about, if it is not about everybody: it then says nothing of
    the scope as a whole.
    """

    kind: str  # "cycle" or "resync"
    generated_at: datetime
    source: Source
    scope: Scope
    operations: tuple[Operation, ...] = ()
    adopts: tuple[Subject, ...] = ()
    held: tuple[Held, ...] = ()
    limits: tuple[LimitUse, ...] = ()
    notices: tuple[Notice, ...] = field(default=())
    focus: frozenset[str] | None = None

    @cached_property
    def id(self) -> str:
        """A digest of what the operations do: two plans that do the same have the same id."""
        effects = sorted([op.kind.value, *sorted(map(list, op.effects()))] for op in self.operations)
        canonical = json.dumps(effects, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @cached_property
    def counts(self) -> dict[str, int]:
        """The number of operations by kind, in the order of applying; kinds without any are left out."""
        found = Counter(op.kind for op in self.operations)
        return {kind.value: found[kind] for kind in Kind if found[kind]}

    @property
    def held_indices(self) -> frozenset[int]:
        """The indices of all operations that wait for a person."""
        return frozenset(index for held in self.held for index in held.operations)

    @property
    def first_held(self) -> bool:
        """Whether the plan waits for a person since it is the first one for this Keeper node."""
        return any(held.limit == "first_run" for held in self.held)

    @property
    def drifted(self) -> bool:
        """Whether Keeper was changed behind our back, be it put right by the plan or only reported."""
        return any(op.cause is Cause.DRIFT for op in self.operations) or any(
            notice.kind in DRIFT_NOTICES for notice in self.notices
        )

    @property
    def effects(self) -> frozenset[Effect]:
        """Everything that the plan does, sent or not."""
        return frozenset(effect for op in self.operations for effect in op.effects())

    @property
    def agreed_effects(self) -> frozenset[Effect]:
        """The effects that a person lets through with this plan: of what it sends or holds.

        What it only reports, as outside the pilot, the person was told would not be sent.
        """
        held = self.held_indices
        agreed = (op for number, op in enumerate(self.operations) if op.sent or number in held)
        return frozenset(effect for op in agreed for effect in op.effects())


def in_order(operations: Iterable[Operation]) -> tuple[Operation, ...]:
    """The operations in the order of applying, then by kind, name and key: the same set gives the same order."""
    phase = {kind: number for number, kinds in enumerate(PHASES) for kind in kinds}
    order = {kind: number for number, kind in enumerate(Kind)}
    return tuple(
        sorted(
            operations,
            key=lambda op: (phase[op.kind], order[op.kind], op.subject.name.casefold(), op.subject.key),
        )
    )
