"""People and teams, as many as are asked for, as the state file has them once all are in line."""

from datetime import UTC, datetime

from reconciler.model import Account, Membership, Snapshot, Standing, Team

READ_AT = datetime(2026, 1, 1, tzinfo=UTC)
MEMBER = Membership(ours=True, seen=True, shown=True)
TEAM_OF = 50
"""People for each team; everybody is in three."""


def keeper_id(number: int) -> str:
    """The Keeper id of the person with this number."""
    return f"{number:016x}"


def _account(number: int, teams: int) -> Account:
    jumpcloud_id = f"{number:024x}"
    shown = {
        "userName": f"person.{number}@example.com",
        "externalId": jumpcloud_id,
        "displayName": f"Person Number {number}",
        "name.givenName": "Person",
        "name.familyName": f"Number {number}",
    }
    memberships = {f"t{(number + step) % teams:016x}": MEMBER for step in range(3)}
    return Account(
        keeper_id(number),
        Standing.MANAGED,
        active=True,
        jumpcloud_id=jumpcloud_id,
        shown=shown,
        asked=dict(shown),
        settled=dict(shown),
        memberships=memberships,
    )


def organisation(people: int) -> Snapshot:
    """So many people, all of them managed, active and in line."""
    number = max(3, people // TEAM_OF)
    teams = {f"t{n:016x}": _team(n) for n in range(number)}
    accounts = (_account(n, number) for n in range(people))
    return Snapshot({one.keeper_id: one for one in accounts}, teams, reviewed=True, read_at=READ_AT)


def _team(number: int) -> Team:
    shown = {"displayName": f"Team {number}", "externalId": f"{number:024x}"}
    return Team(
        f"t{number:016x}",
        Standing.MANAGED,
        f"{number:024x}",
        shown=shown,
        asked=dict(shown),
        settled=dict(shown),
        queued_at=READ_AT,
        seen=True,
    )
