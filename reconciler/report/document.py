"""The plan document: what `plan --format json` prints and `plan --save` keeps."""

import json
from collections.abc import Set
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from reconciler.plan import (
    Cause,
    Change,
    Effect,
    Held,
    Kind,
    Operation,
    Plan,
    Rule,
    Scope,
    Source,
    Subject,
    TeamRef,
)
from reconciler.report.terminal import clean, clean_json

MAX_BYTES = 256 * 2**20
"""How large a saved plan may be."""
_NO_SCOPE = Scope(0, 0, 0)
_NAME = 120
"""Columns of a name that somebody else wrote: it must leave room for what to do."""
_ANEW = "Make a new one and review it: reconciler plan --save FILE"


class SavedPlanError(Exception):
    """A saved plan can't be used; the text is for the administrator. Nothing was applied."""


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan as a person saved and reviewed it: what it was made for, and what it does.

    `effects` are those that the person lets through (see `Plan.agreed_effects`). `first`: it was the first plan for its
    Keeper node.
    """

    id: str
    source: Source
    generated_at: datetime
    effects: frozenset[Effect]
    operations: tuple[Operation, ...]
    first: bool

    def check(self, organization: str, application_id: str, keeper: str) -> None:
        """Raise SavedPlanError if the plan was made for something else than these."""
        if (self.source.organization, self.source.application_id, self.source.keeper) != (
            organization,
            application_id,
            keeper,
        ):
            label, home, where = (
                clean(name, _NAME)
                for name in (self.source.application_label, self.source.organization, self.source.keeper)
            )
            raise SavedPlanError(
                f"The plan {self.id} was made for the application {label} of the organisation {home} and for {where}, "
                f"and the settings lead elsewhere; nothing was applied. {_ANEW}"
            )


def to_document(plan: Plan) -> dict[str, Any]:
    """The plan as a JSON document, version 1."""
    source = plan.source
    return {
        "version": 1,
        "id": plan.id,
        "generated_at": plan.generated_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "kind": plan.kind,
        "source": {
            "organization": source.organization,
            "application": {"id": source.application_id, "label": source.application_label},
            "keeper": source.keeper,
        },
        "counts": plan.counts,
        "scope": {
            "users": plan.scope.users,
            "teams": plan.scope.teams,
            "memberships": plan.scope.memberships,
            "unread": list(plan.scope.unread),
        },
        "operations": [_operation(op) for op in plan.operations],
        "adopt": [_subject(subject) for subject in plan.adopts],
        "held": [
            {
                "limit": held.limit,
                "operations": list(held.operations),
                "allowed": held.allowed,
                "planned": held.planned,
                "reason": held.reason,
            }
            for held in plan.held
        ],
        "limits": [
            {"limit": use.limit, "allowed": use.allowed, "used": use.used, "planned": use.planned}
            for use in plan.limits
        ],
        "notices": [
            {"kind": notice.kind.value, "subject": _subject(notice.subject), "message": notice.message}
            for notice in plan.notices
        ],
    }


def to_json(plan: Plan) -> str:
    """The document as text, safe to show on a terminal; the same plan gives the same bytes."""
    return clean_json(json.dumps(to_document(plan), ensure_ascii=False, indent=2)) + "\n"


def _subject(subject: Subject) -> dict[str, Any]:
    return {
        "type": subject.type,
        "name": subject.name,
        "jumpcloud_id": subject.jumpcloud_id or None,
        "keeper_id": subject.keeper_id or None,
    }


def _team(team: TeamRef) -> dict[str, Any]:
    return {"name": team.name, "jumpcloud_id": team.jumpcloud_id or None, "keeper_id": team.keeper_id or None}


def _operation(op: Operation) -> dict[str, Any]:
    return {
        "kind": op.kind.value,
        "subject": _subject(op.subject),
        "cause": op.cause.value,
        "rule": op.rule.value,
        "reason": op.reason,
        "sent": op.sent,
        "changes": [
            {"attribute": change.attribute, "from": change.before or None, "to": change.after} for change in op.changes
        ],
        "teams": {"add": [_team(team) for team in op.add], "remove": [_team(team) for team in op.remove]},
    }


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _ReadSubject(_Read):
    type: Literal["user", "team"]
    name: str
    jumpcloud_id: str | None = None
    keeper_id: str | None = None


class _ReadChange(_Read):
    attribute: str
    before: str | None = Field(alias="from")
    after: str = Field(alias="to")


class _ReadTeam(_Read):
    name: str
    jumpcloud_id: str | None = None
    keeper_id: str | None = None


class _ReadTeams(_Read):
    add: list[_ReadTeam]
    remove: list[_ReadTeam]


class _ReadOperation(_Read):
    kind: Annotated[Kind, Field(strict=False)]
    subject: _ReadSubject
    cause: Annotated[Cause, Field(strict=False)]
    rule: Annotated[Rule, Field(strict=False)]
    reason: str
    sent: bool
    changes: list[_ReadChange]
    teams: _ReadTeams

    def operation(self) -> Operation:
        subject = Subject(
            self.subject.type, self.subject.name, self.subject.jumpcloud_id or "", self.subject.keeper_id or ""
        )
        return Operation(
            self.kind,
            subject,
            self.cause,
            self.rule,
            self.reason,
            tuple(Change(c.attribute, c.before or "", c.after) for c in self.changes),
            tuple(_ref(team) for team in self.teams.add),
            tuple(_ref(team) for team in self.teams.remove),
            self.sent,
        )


def _ref(team: _ReadTeam) -> TeamRef:
    return TeamRef(team.name, team.jumpcloud_id or "", team.keeper_id or "")


class _ReadApplication(_Read):
    id: str
    label: str


class _ReadSource(_Read):
    organization: str
    application: _ReadApplication
    keeper: str


class _ReadHeld(_Read):
    limit: str
    operations: list[int]


class _ReadPlan(_Read):
    version: Literal[1]
    id: str
    generated_at: AwareDatetime
    source: _ReadSource
    operations: list[_ReadOperation]
    held: list[_ReadHeld]


def load_saved(path: Path) -> bytes:
    """The content of a file with a saved plan; raises SavedPlanError, also for one that is none (see `read_saved`)."""
    content = _content(path)
    read_saved(content, str(path))
    return content


def read_saved(content: bytes, name: str) -> SavedPlan:
    """A saved plan, called `name` in errors. Raises SavedPlanError for what is none, or was changed since it was saved.

    What makes a plan is what its operations do: names, reasons and notices are for the reader and are not compared.
    """
    try:
        read = _ReadPlan.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the document"
        raise SavedPlanError(
            f"{name} is no plan of this version of the reconciler ({where}: {fault['msg']}); nothing was applied. "
            f"{_ANEW}"
        ) from None
    operations = tuple(row.operation() for row in read.operations)
    source = Source(
        read.source.organization, read.source.application.id, read.source.application.label, read.source.keeper
    )
    held = tuple(Held(one.limit, tuple(one.operations), 0, 0, "") for one in read.held)
    plan = Plan("", read.generated_at, source, _NO_SCOPE, operations, held=held)
    if plan.id != read.id:
        raise SavedPlanError(
            f"{name} was changed since it was saved: its operations do not match its id. Nothing was applied. {_ANEW}"
        )
    return SavedPlan(read.id, source, read.generated_at, plan.agreed_effects, operations, plan.first_held)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SavedPlanError(f"{path} can't be read ({error.strerror}); nothing was applied.") from None
    if len(content) > MAX_BYTES:
        raise SavedPlanError(f"{path} is too large for a saved plan; nothing was applied. {_ANEW}")
    return content


def still_held(document: str, free: Set[Effect], *, paused: bool) -> str:
    """The recorded plan document without the holds that have ended: a pause, unless it is `paused` still; and of other
    limits, each operation that does nothing but what is `free`. The very text where none has ended."""
    content = json.loads(document)
    holds = content.get("held", [])
    numbers = {n for hold in holds if hold["limit"] != "paused" for n in hold["operations"]} if free else set()
    read = {n: _ReadOperation.model_validate(content["operations"][n]).operation() for n in numbers}
    ended = {n for n, op in read.items() if op.effects() <= free}
    left = [
        hold if hold["limit"] == "paused" else {**hold, "operations": [n for n in hold["operations"] if n not in ended]}
        for hold in holds
        if paused or hold["limit"] != "paused"
    ]
    left = [hold for hold in left if hold["operations"]]
    return document if left == holds else json.dumps({**content, "held": left}, ensure_ascii=False)


def held_effects(document: str | None) -> frozenset[Effect]:
    """What the held operations of a recorded plan document do."""
    if not document:
        return frozenset()
    content = json.loads(document)
    held = {index for hold in content["held"] for index in hold["operations"]}
    read = [_ReadOperation.model_validate(op).operation() for n, op in enumerate(content["operations"]) if n in held]
    return frozenset(effect for op in read for effect in op.effects())
