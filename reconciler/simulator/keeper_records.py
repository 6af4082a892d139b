"""What the simulated Keeper holds: users, teams, the effects of requests, and the seed document."""

from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

UserState = Literal["active", "invited"]
What = Literal[
    "create_user", "link_user", "update_user", "lock_user", "unlock_user", "delete_user",
    "create_team", "update_team", "delete_team",
]  # fmt: skip

DEFAULT_NODE: Final = "123456789"
DEFAULT_DOMAIN: Final = "example.com"


@dataclass(frozen=True, slots=True)
class Account:
    """A user as Keeper holds it, whatever SCIM shows. Teams are ids."""

    id: str
    node: str
    email: str
    external_id: str | None = None
    display_name: str | None = None
    given_name: str | None = None
    family_name: str | None = None
    invited: bool = True
    locked: bool = False
    teams: tuple[str, ...] = ()
    pending_teams: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def active(self) -> bool:
        """What SCIM shows as `active`: everybody who is not locked, the invited too."""
        return not self.locked

    @property
    def addresses(self) -> frozenset[str]:
        """All addresses, case-folded."""
        return frozenset(address.casefold() for address in (self.email, *self.aliases))


@dataclass(frozen=True, slots=True)
class Team:
    """A team, or a role that a prefixed group became. Not approved means: in the Pending Queue."""

    id: str
    node: str
    name: str
    external_id: str | None = None
    approved: bool = True
    role: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One effect of one SCIM request. `request` counts every request from 1, whatever its answer.

    `before` is None where the subject is new, `after` where it is gone.
    """

    request: int
    what: What
    subject: str
    before: Account | Team | None
    after: Account | Team | None


class SeedTeam(BaseModel):
    """A team of the seed document."""

    model_config = ConfigDict(extra="forbid")
    name: str
    id: str | None = None
    node: str | None = None
    external_id: str | None = None
    approved: bool = True
    role: bool = False


class SeedUser(BaseModel):
    """A user of the seed document. Teams by id, or by name where only one has it."""

    model_config = ConfigDict(extra="forbid")
    email: str
    id: str | None = None
    node: str | None = None
    external_id: str | None = None
    display_name: str | None = None
    given_name: str | None = None
    family_name: str | None = None
    state: UserState = "active"
    locked: bool = False
    aliases: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()
    pending_teams: tuple[str, ...] = ()


class Seed(BaseModel):
    """The seed document: a whole enterprise. `nodes` maps node id to token; a null token is a revoked one."""

    model_config = ConfigDict(extra="forbid")
    nodes: dict[str, str | None] = {}
    domains: tuple[str, ...] = (DEFAULT_DOMAIN,)
    elsewhere: tuple[str, ...] = ()
    seats: int | None = None
    issued: int = 0
    teams: tuple[SeedTeam, ...] = ()
    users: tuple[SeedUser, ...] = ()
    dialect: dict[str, Any] = {}


def joined(user: Account, team: Team, *, at_once: bool) -> Account:
    """The user as a member of the team; pending where somebody has to approve. Roles need no approval."""
    if team.id in user.teams or team.id in user.pending_teams:
        return user
    if team.role or (at_once and team.approved and not user.invited):
        return replace(user, teams=(*user.teams, team.id))
    return replace(user, pending_teams=(*user.pending_teams, team.id))


def parted(user: Account, team: str) -> Account:
    """The user without the team, approved or pending."""
    return replace(
        user,
        teams=tuple(t for t in user.teams if t != team),
        pending_teams=tuple(t for t in user.pending_teams if t != team),
    )


def with_text(user: Account, field: str, text: str | None) -> Account:
    """The user with one of the text fields set; an empty text unsets it."""
    change: dict[str, Any] = {field: text or None}
    return replace(user, **change)
