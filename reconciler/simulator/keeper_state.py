"""A Keeper enterprise in memory, and what an administrator can do to its users and teams."""

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import wraps
from threading import RLock
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from pydantic import BaseModel

from reconciler.simulator.keeper_records import (
    Account,
    Change,
    Seed,
    SeedTeam,
    SeedUser,
    Team,
    UserState,
    What,
    joined,
    parted,
    with_text,
)

_E = TypeVar("_E", bound="Enterprise")
_P = ParamSpec("_P")
_R = TypeVar("_R")


def atomic(method: Callable[Concatenate[_E, _P], _R]) -> Callable[Concatenate[_E, _P], _R]:
    """Run a method under the enterprise's one lock."""

    @wraps(method)
    def call(self: _E, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with self._mutex:
            return method(self, *args, **kwargs)

    return call


class Enterprise:
    """The state, and the public methods by which an administrator meddles with it behind SCIM's back.

    Users are named by id or address, teams by id or, where only one has it, by name. What cannot be done
    raises ValueError. A node that is not given is the first one.
    """

    def __init__(self, nodes: Iterable[str], domains: Iterable[str], seats: int | None) -> None:
        self._mutex = RLock()
        self._effects: list[Change] | None = None
        self._request = 0
        self._clear(domains, seats, issued=0)
        self._tokens: dict[str, str | None] = {}
        for node in nodes:
            self._tokens[node] = self._make_token()

    def _clear(self, domains: Iterable[str], seats: int | None, issued: int) -> None:
        self._issued = issued
        self._domains = {domain.casefold() for domain in domains}
        self._elsewhere: set[str] = set()
        self._seats = seats
        self._users: dict[str, Account] = {}
        self._teams: dict[str, Team] = {}
        self._addresses: dict[str, str] = {}
        # Ordered sets of user ids by ("node" | "team" | "pending", id): no request has to sort or to search.
        self._index: dict[tuple[str, str], dict[str, None]] = {}

    # Tokens, seats, addresses.

    @atomic
    def token(self, node: str | None = None) -> str:
        """The node's bearer token."""
        token = self._tokens[self._node(node)]
        if token is None:
            raise ValueError("the token of this node is revoked")
        return token

    @atomic
    def new_token(self, node: str | None = None) -> str:
        """Make a new token; the old one dies (as Commander's `scim edit` does it)."""
        token = self._tokens[self._node(node)] = self._make_token()
        return token

    @atomic
    def revoke_token(self, node: str | None = None) -> None:
        """Leave the node without a valid token."""
        self._tokens[self._node(node)] = None

    @atomic
    def set_seats(self, seats: int | None) -> None:
        """Set the number of licences; None is without limit."""
        self._seats = seats

    @atomic
    def reserve_domain(self, domain: str) -> None:
        """Reserve an e-mail domain to this enterprise."""
        self._domains.add(domain.casefold())

    @atomic
    def take_elsewhere(self, email: str) -> None:
        """Let an address belong to a personal account or to another tenant."""
        self._check_free(email)
        self._elsewhere.add(email.casefold())

    # Users.

    @atomic
    def add_user(
        self,
        email: str,
        *,
        display_name: str | None = None,
        given_name: str | None = None,
        family_name: str | None = None,
        state: UserState = "active",
        locked: bool = False,
        external_id: str | None = None,
        node: str | None = None,
    ) -> str:
        """Add a user in the console, and return its id. Seats and domains are not looked at."""
        seed = SeedUser(
            email=email,
            display_name=display_name,
            given_name=given_name,
            family_name=family_name,
            state=state,
            locked=locked,
            external_id=external_id,
            node=node,
        )
        return self._seed_user(seed)

    @atomic
    def lock(self, user: str) -> None:
        """Lock a user; an invited one is deleted (assumed: as over SCIM)."""
        self._lock_or_delete(self._find_user(user))

    @atomic
    def unlock(self, user: str) -> None:
        """Unlock a user."""
        self._put_user(replace(self._find_user(user), locked=False))

    @atomic
    def delete_user(self, user: str) -> None:
        """Delete a user with their vault; made again, they get another id."""
        self._drop_user(self._find_user(user))

    @atomic
    def change_email(self, user: str, email: str, *, keep_alias: bool = True) -> None:
        """Make `email` the primary address; the old one stays as an alias, as Commander's `--add-alias`."""
        self._put_user(self._readdressed(self._find_user(user), email, keep_alias=keep_alias))

    @atomic
    def rename_user(
        self,
        user: str,
        *,
        display_name: str | None = None,
        given_name: str | None = None,
        family_name: str | None = None,
    ) -> None:
        """Change the names that are given; "" unsets one."""
        account = self._find_user(user)
        names = {"display_name": display_name, "given_name": given_name, "family_name": family_name}
        for field, name in names.items():
            if name is not None:
                account = with_text(account, field, name)
        self._put_user(account)

    @atomic
    def accept_invitation(self, user: str) -> None:
        """Let an invited user set up their vault. Their pending memberships stay pending."""
        self._put_user(replace(self._find_user(user), invited=False))

    @atomic
    def move_user_to_other_node(self, user: str, node: str) -> None:
        """Move a user; they keep their teams."""
        self._put_user(replace(self._find_user(user), node=self._node(node)))

    # Teams.

    @atomic
    def add_team(
        self,
        name: str,
        *,
        external_id: str | None = None,
        approved: bool = True,
        node: str | None = None,
    ) -> str:
        """Add a team in the console, and return its id."""
        return self._seed_team(SeedTeam(name=name, external_id=external_id, approved=approved, node=node))

    @atomic
    def rename_team(self, team: str, name: str) -> None:
        """Rename a team."""
        self._put_team(replace(self._find_team(team), name=name))

    @atomic
    def delete_team(self, team: str) -> None:
        """Delete a team and its memberships."""
        self._drop_team(self._find_team(team))

    @atomic
    def approve_team(self, team: str) -> None:
        """Approve one team, then its pending members who are active and not locked."""
        found = self._find_team(team)
        self._put_team(replace(found, approved=True))
        self._approve_members(found.id)

    @atomic
    def approve_all(self, *, teams: bool = True, members: bool = True) -> None:
        """Approve everything queued in the enterprise, as Commander's `team-approve`.

        Teams first, then pending members of approved teams who are active and not locked.
        """
        if teams:
            for team in list(self._teams.values()):
                self._put_team(replace(team, approved=True))
        if members:
            for team in self._teams.values():
                if team.approved:
                    self._approve_members(team.id)

    @atomic
    def add_member(self, user: str, team: str) -> None:
        """Put a user into a team of any node; pending where the team is queued or the user only invited."""
        self._put_user(joined(self._find_user(user), self._find_team(team), at_once=True))

    @atomic
    def remove_member(self, user: str, team: str) -> None:
        """Take a user out of a team, or withdraw the pending membership."""
        self._put_user(parted(self._find_user(user), self._find_team(team).id))

    # Looking.

    @atomic
    def accounts(self) -> dict[str, Account]:
        """All users of all nodes by id, in the order of creation."""
        return dict(self._users)

    @atomic
    def account(self, user: str) -> Account:
        """One user, by id or address."""
        return self._find_user(user)

    @atomic
    def teams(self) -> dict[str, Team]:
        """All teams of all nodes by id, in the order of creation."""
        return dict(self._teams)

    @atomic
    def members(self, team: str) -> tuple[str, ...]:
        """The ids of a team's members, approved ones only."""
        return tuple(self._ids("team", self._find_team(team).id))

    @atomic
    def pending_members(self, team: str) -> tuple[str, ...]:
        """The ids of those whose membership waits for approval."""
        return tuple(self._ids("pending", self._find_team(team).id))

    @atomic
    def inventory(self) -> dict[str, list[dict[str, Any]]]:
        """What Commander's `enterprise-info --format json` tells of teams and users.

        Known: queued teams say "Queued" in `restricts`. The other keys and values are assumed.
        """
        teams = [
            {
                "team_uid": team.id,
                "name": team.name,
                "restricts": "" if team.approved else "Queued",
                "node": team.node,
                "users": [self._users[user].email for user in self._ids("team", team.id)],
                "queued_users": [self._users[user].email for user in self._ids("pending", team.id)],
            }
            for team in self._teams.values()
            if not team.role
        ]
        users = [
            {
                "user_id": user.id,
                "email": user.email,
                "node": user.node,
                "status": "Invited" if user.invited else "Locked" if user.locked else "Active",
            }
            for user in self._users.values()
        ]
        return {"teams": teams, "users": users}

    # Seed documents.

    def _restore(self, seed: Seed) -> None:
        """Replace everything; a seed without nodes keeps those there are, with their tokens."""
        self._clear(seed.domains, seed.seats, seed.issued)
        if seed.nodes:
            self._tokens = dict(seed.nodes)
        for team in seed.teams:
            self._seed_team(team)
        for user in seed.users:
            self._seed_user(user)
        for email in seed.elsewhere:
            self.take_elsewhere(email)

    def _seed(self, dialect: dict[str, Any]) -> Seed:
        def fields(record: Account | Team, model: type[BaseModel]) -> dict[str, Any]:
            return {name: getattr(record, name) for name in model.model_fields if name != "state"}

        return Seed(
            nodes=self._tokens,
            domains=tuple(sorted(self._domains)),
            elsewhere=tuple(sorted(self._elsewhere)),
            seats=self._seats,
            issued=self._issued,
            teams=tuple(SeedTeam(**fields(team, SeedTeam)) for team in self._teams.values()),
            users=tuple(
                SeedUser(**fields(user, SeedUser), state="invited" if user.invited else "active")
                for user in self._users.values()
            ),
            dialect=dialect,
        )

    def _seed_team(self, seed: SeedTeam) -> str:
        if seed.id in self._teams:
            raise ValueError(f"two teams have the id {seed.id}")
        team = Team(
            id=seed.id or self._make_team_id(),
            node=self._node(seed.node),
            name=seed.name,
            external_id=seed.external_id,
            approved=seed.approved,
            role=seed.role,
        )
        self._put_team(team)
        return team.id

    def _seed_user(self, seed: SeedUser) -> str:
        if seed.id in self._users:
            raise ValueError(f"two users have the id {seed.id}")
        if seed.locked and seed.state == "invited":
            raise ValueError(f"{seed.email}: an invited user cannot be locked, only deleted")
        for address in (seed.email, *seed.aliases):
            self._check_free(address)
        account = Account(
            id=seed.id or self._make_user_id(),
            node=self._node(seed.node),
            email=seed.email,
            external_id=seed.external_id,
            display_name=seed.display_name,
            given_name=seed.given_name,
            family_name=seed.family_name,
            invited=seed.state == "invited",
            locked=seed.locked,
            teams=tuple(self._find_team(team).id for team in seed.teams),
            pending_teams=tuple(self._find_team(team).id for team in seed.pending_teams),
            aliases=seed.aliases,
        )
        self._put_user(account)
        return account.id

    # Finding.

    def _node(self, node: str | None) -> str:
        if node is None:
            return next(iter(self._tokens))
        if node not in self._tokens:
            raise ValueError(f"no node {node}")
        return node

    def _find_user(self, user: str) -> Account:
        account = self._users.get(user) or self._holder(user)
        if account is None:
            raise ValueError(f"no user {user}")
        return account

    def _holder(self, address: str) -> Account | None:
        holder = self._addresses.get(address.casefold())
        return None if holder is None else self._users[holder]

    def _find_team(self, team: str) -> Team:
        if team in self._teams:
            return self._teams[team]
        named = [found for found in self._teams.values() if found.name == team]
        if len(named) != 1:
            raise ValueError(f"{len(named) or 'no'} teams are named {team}")
        return named[0]

    def _ids(self, kind: Literal["node", "team", "pending"], key: str) -> Mapping[str, None]:
        return self._index.get((kind, key), {})

    def _check_free(self, address: str) -> None:
        if address.casefold() in self._addresses or address.casefold() in self._elsewhere:
            raise ValueError(f"{address} is taken")

    # Changing: every change of users and teams goes through these four.

    def _put_user(self, user: Account, what: What | None = None) -> None:
        """Store a user; `what` names an effect that is recorded even where nothing changed."""
        before = self._users.get(user.id)
        if before != user:
            self._users[user.id] = user
            self._reindex(user.id, before, user)
        if before != user or what:
            self._record(what or _what_of_user(before, user), before, user)

    def _drop_user(self, user: Account) -> None:
        del self._users[user.id]
        self._reindex(user.id, user, None)
        self._record("delete_user", user, None)

    def _put_team(self, team: Team) -> None:
        before = self._teams.get(team.id)
        if before != team:
            self._teams[team.id] = team
            self._record("update_team" if before else "create_team", before, team)

    def _drop_team(self, team: Team) -> None:
        for user in [*self._ids("team", team.id), *self._ids("pending", team.id)]:
            self._put_user(parted(self._users[user], team.id))
        del self._teams[team.id]
        self._record("delete_team", team, None)

    def _reindex(self, user: str, before: Account | None, after: Account | None) -> None:
        old_addresses = before.addresses if before else frozenset()
        new_addresses = after.addresses if after else frozenset()
        for address in old_addresses - new_addresses:
            del self._addresses[address]
        for address in new_addresses - old_addresses:
            self._addresses[address] = user
        old, new = _index_keys(before), _index_keys(after)
        for key in old - new:
            del self._index[key][user]
        for key in new - old:
            self._index.setdefault(key, {})[user] = None

    def _record(self, what: What, before: Account | Team | None, after: Account | Team | None) -> None:
        subject = after or before
        if self._effects is not None and subject is not None:
            self._effects.append(Change(self._request, what, subject.id, before, after))

    def _lock_or_delete(self, user: Account) -> None:
        if user.invited:
            self._drop_user(user)
        else:
            self._put_user(replace(user, locked=True))

    def _readdressed(self, user: Account, email: str, *, keep_alias: bool) -> Account:
        if email.casefold() not in user.addresses:
            self._check_free(email)
        former = (user.email,) if keep_alias else ()
        aliases = (*user.aliases, *former)
        return replace(user, email=email, aliases=tuple(a for a in aliases if a.casefold() != email.casefold()))

    def _approve_members(self, team: str) -> None:
        for user in [self._users[pending] for pending in self._ids("pending", team)]:
            if not user.invited and not user.locked:
                self._put_user(replace(parted(user, team), teams=(*user.teams, team)))

    # Making ids: hashes of a counter, so that the same requests give the same ids.

    def _digest(self) -> bytes:
        self._issued += 1
        return hashlib.sha256(str(self._issued).encode()).digest()

    def _make_user_id(self) -> str:
        """15 or 16 digits."""
        while (user := str(10**14 + int.from_bytes(self._digest()[:8]) % (99 * 10**14))) in self._users:
            pass
        return user

    def _make_team_id(self) -> str:
        """16 bytes in base64url: 22 characters."""
        return base64.urlsafe_b64encode(self._digest()[:16]).decode().rstrip("=")

    def _make_token(self) -> str:
        return "simulated-" + base64.urlsafe_b64encode(self._digest()[:24]).decode()


def _what_of_user(before: Account | None, after: Account) -> What:
    if before is None:
        return "create_user"
    if before.locked != after.locked:
        return "lock_user" if after.locked else "unlock_user"
    return "update_user"


def _index_keys(user: Account | None) -> set[tuple[str, str]]:
    if user is None:
        return set()
    return {
        ("node", user.node),
        *(("team", t) for t in user.teams),
        *(("pending", t) for t in user.pending_teams),
    }
