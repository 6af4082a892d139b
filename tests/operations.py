"""Small builders of operations, and of what Keeper shows after them, for tests of what follows a plan."""

from dataclasses import replace

from reconciler.model import Account, Group, KeeperTeam, KeeperUser, User
from reconciler.plan import Cause, Change, Kind, Operation, Rule, Subject, TeamRef
from reconciler.rows import JournalRow, State
from tests.world import NOW, account, team


def ref(of: Group, keeper_id: str | None = None) -> TeamRef:
    """The team of a group; with an empty `keeper_id` one that is queued by the same plan."""
    return TeamRef(of.name, of.id, team(of).keeper_id if keeper_id is None else keeper_id)


def op(kind: Kind, person: User, **values: object) -> Operation:
    """An operation on the account that the user has in Keeper, or gets."""
    keeper_id = "" if kind is Kind.CREATE_USER else account(person).keeper_id
    changes: tuple[Change, ...] = ()
    if kind is Kind.CREATE_USER:
        changes = tuple(Change(name, "", value) for name, value in account(person).shown.items())
    elif kind in (Kind.DEACTIVATE_USER, Kind.REACTIVATE_USER):
        changes = (Change("active", "", "false" if kind is Kind.DEACTIVATE_USER else "true"),)
    subject = Subject("user", person.email, person.id, keeper_id)
    base = Operation(kind, subject, Cause.JUMPCLOUD, Rule.CHANGED, "because", changes)
    return replace(base, **values)  # type: ignore[arg-type]


def team_op(kind: Kind, of: Group, **values: object) -> Operation:
    """An operation on the team of a group: it gets the group's name and id."""
    keeper_id = "" if kind is Kind.QUEUE_TEAM else team(of).keeper_id
    changes = (Change("displayName", "", of.name), Change("externalId", "", of.id))
    subject = Subject("team", of.name, of.id, keeper_id)
    base = Operation(
        kind, subject, Cause.JUMPCLOUD, Rule.GROUP_IN_SCOPE, "because", () if kind is Kind.DELETE_TEAM else changes
    )
    return replace(base, **values)  # type: ignore[arg-type]


def shown(held: Account, *teams: Group, **values: object) -> KeeperUser:
    """The account as Keeper shows it, in the teams of these groups."""
    base = KeeperUser(held.keeper_id, dict(held.shown), held.active, frozenset(team(of).keeper_id for of in teams))
    return replace(base, **values)  # type: ignore[arg-type]


def shown_team(of: Group, **values: object) -> KeeperTeam:
    """The team of a group as Keeper shows it."""
    base = KeeperTeam(team(of).keeper_id, {"displayName": of.name, "externalId": of.id})
    return replace(base, **values)  # type: ignore[arg-type]


def unsettled(operation: Operation, state: State, *, repeated: bool = False, outcome: str = "") -> JournalRow:
    """An operation in the journal that was sent, and whose outcome is not known."""
    return JournalRow(1, 1, state, operation, "", NOW, NOW, None, outcome, "", repeated=repeated)
