"""Small builders of both sides, for tests of the pure core."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from reconciler.diff import Decision, diff
from reconciler.model import (
    Account,
    Application,
    Directory,
    Group,
    KeeperTeam,
    KeeperUser,
    Listing,
    Membership,
    Snapshot,
    Standing,
    Status,
    Team,
    User,
)
from reconciler.plan import Source
from reconciler.policy import Policy

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SOURCE = Source("a" * 24, "b" * 24, "Keeper", "https://keeper.example/api/rest/scim/v2/1")


def jc(number: int) -> str:
    """A JumpCloud id."""
    return f"{number:024x}"


def user(number: int, *groups: int, status: Status = Status.ACTIVE, **values: object) -> User:
    base = User(
        jc(number),
        f"u{number}@example.com",
        status,
        f"User {number}",
        "User",
        str(number),
        groups=frozenset(jc(g) for g in groups),
    )
    return replace(base, **values)  # type: ignore[arg-type]


def group(number: int, name: str = "") -> Group:
    return Group(jc(number), name or f"Group {number}")


def directory(users: list[User], groups: list[Group] | None = None, gone: list[Group] | None = None) -> Directory:
    """`gone` are groups that JumpCloud has deleted."""
    return Directory(
        SOURCE.organization,
        Application(SOURCE.application_id, "Keeper"),
        {u.id: u for u in users},
        {g.id: g for g in groups or []},
        gone_groups=frozenset(g.id for g in gone or []),
    )


def account(person: User, **values: object) -> Account:
    """The managed account of a user, in line."""
    shown = {
        "userName": person.email,
        "externalId": person.id,
        "displayName": person.display_name,
        "name.givenName": person.given_name,
        "name.familyName": person.family_name,
    }
    base = Account(
        "k" + person.id[-4:], Standing.MANAGED, True, person.id, shown=shown, asked=dict(shown), settled=dict(shown)
    )
    return replace(base, **values)  # type: ignore[arg-type]


def team(of: Group, **values: object) -> Team:
    """The managed, visible team of a group, in line."""
    shown = {"displayName": of.name, "externalId": of.id}
    base = Team(
        "t" + of.id[-4:],
        Standing.MANAGED,
        of.id,
        shown=shown,
        asked=dict(shown),
        settled=dict(shown),
        queued_at=NOW - timedelta(days=9),
        seen=True,
    )
    return replace(base, **values)  # type: ignore[arg-type]


MEMBER = Membership(ours=True, seen=True, shown=True)


def snapshot(accounts: list[Account], teams: list[Team] | None = None, **values: object) -> Snapshot:
    base = Snapshot(
        {a.keeper_id: a for a in accounts}, {t.keeper_id: t for t in teams or []}, reviewed=True, read_at=NOW
    )
    return replace(base, **values)  # type: ignore[arg-type]


def decide(
    wanted: Directory, held: Snapshot, policy: Policy | None = None, now: datetime = NOW, **more: object
) -> Decision:
    return diff(wanted, held, policy or Policy(), now, kind="cycle", source=SOURCE, **more)  # type: ignore[arg-type]


def listing(users: list[KeeperUser], teams: list[KeeperTeam] | None = None, absent: tuple[str, ...] = ()) -> Listing:
    return Listing({u.id: u for u in users}, {t.id: t for t in teams or []}, frozenset(absent))
