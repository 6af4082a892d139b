"""Both services by hand, with the interface of the real clients: for tests of what is done with their answers."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from reconciler import jumpcloud, keeper
from reconciler.confirm import Confirmation, Finding
from reconciler.evidence_age import Stamp
from reconciler.http import Clock
from reconciler.jumpcloud import GroupScope, IncompleteRead, JumpCloudError, Paths, Person
from reconciler.model import USER_NAME, Group, KeeperTeam, KeeperUser, Status, User
from reconciler.plan import Operation

NOBODY = Paths(bound=False, direct=False, groups=frozenset(), gone=True)


async def _no_pause(_: float) -> None:
    """Wait for nothing: what is waited for has happened."""


class Keeper(keeper.Keeper):
    """A node that does what it is asked. `sent` are the changes it was asked for; `errors` are raised in the place of
    the answers to the next ones to the same subject. What it makes of a change is in `shows`, by subject."""

    def __init__(self, users: Iterable[KeeperUser] = (), teams: Iterable[KeeperTeam] = ()) -> None:
        self.users = {one.id: one for one in users}
        self.teams = {one.id: one for one in teams}
        self.sent: list[tuple[str, str]] = []
        self.errors: dict[str, list[Exception]] = {}
        self.shows: dict[str, KeeperUser | KeeperTeam | None] = {}
        self.no_reply = False

    def _asked(self, what: str, subject: str) -> None:
        self.sent.append((what, subject))
        if self.errors.get(subject):
            raise self.errors[subject].pop(0)

    async def calm(self) -> None:
        """It never asks to wait."""

    @property
    def clock(self) -> Clock:
        return Clock(sleep=_no_pause)

    async def probe(self) -> None:
        if self.errors.get("probe"):
            raise self.errors["probe"].pop(0)

    async def user(self, id: str) -> KeeperUser | None:
        if self.errors.get(f"read {id}"):
            raise self.errors[f"read {id}"].pop(0)
        return self.users.get(id)

    async def team(self, id: str) -> KeeperTeam | None:
        return self.teams.get(id)

    async def create_user(self, attributes: Mapping[str, str], teams: Collection[str]) -> KeeperUser:
        address = attributes[USER_NAME]
        self._asked(f"create {' '.join(teams)}".strip(), address)
        made = self.shows.get(address, KeeperUser(f"new-{address}", dict(attributes), True, frozenset(teams)))
        assert isinstance(made, KeeperUser)
        self.users[made.id] = made
        return made

    async def patch_user(
        self, id: str, values: Mapping[str, str | bool], add: Collection[str] = (), remove: Collection[str] = ()
    ) -> KeeperUser | None:
        what = [f"{name}={value}" for name, value in values.items()]
        self._asked(" ".join([*what, *(f"+{team}" for team in add), *(f"-{team}" for team in remove)]), id)
        texts = {name: value for name, value in values.items() if isinstance(value, str)}
        one = self.users[id]
        one = replace(
            one,
            attributes={**one.attributes, **texts},
            active=bool(values.get("active", one.active)),
            teams=((one.teams or frozenset()) | set(add)) - set(remove),
        )
        made = self.shows.get(id, one)
        if made is None:
            del self.users[id]
        else:
            assert isinstance(made, KeeperUser)
            self.users[id] = made
        return None if self.no_reply else self.users.get(id)

    async def queue_team(self, name: str, external_id: str) -> KeeperTeam:
        self._asked("queue", name)
        made = self.shows.get(name)
        if isinstance(made, KeeperTeam):
            self.teams[made.id] = made
            return made
        return KeeperTeam(f"new-{name}", {"displayName": name, "externalId": external_id})

    async def patch_team(self, id: str, values: Mapping[str, str]) -> KeeperTeam | None:
        self._asked("rename", id)
        self.teams[id] = replace(self.teams[id], attributes={**self.teams[id].attributes, **values})
        return self.teams[id]

    async def delete_team(self, id: str) -> None:
        self._asked("delete", id)
        self.teams.pop(id, None)


class Sure(Confirmation):
    """Confirms whatever is asked, without a read."""

    def __init__(self) -> None:
        super().__init__(JumpCloud(), (), {})

    async def of(self, _: Operation) -> Finding:
        return Finding(Stamp.now(self.clock))


class JumpCloud(jumpcloud.JumpCloud):
    """An organisation by point reads: everybody is known by `people`, their groups by `member_of`.

    Who is in `fails` can't be read. If "groups" is, nobody's groups can be; if "proof" is, they may not be all; if
    "search" is, many people at once can't be read.
    """

    def __init__(self, people: Iterable[User] = (), groups: Iterable[Group] = ()) -> None:
        self.people = {one.id: one for one in people}
        self.groups = {one.id: one for one in groups}
        self.member_of = {one.id: one.groups for one in self.people.values()}
        self.fails: set[str] = set()
        self.asked: list[str] = []
        self.searches = True
        self.listed = frozenset(one.email for one in self.people.values())

    def _read(self, user_id: str) -> User | None:
        self.asked.append(user_id)
        if user_id in self.fails:
            raise JumpCloudError("no answer", "Nothing to do.")
        return self.people.get(user_id)

    async def in_use(self, emails: Collection[str], owners: Collection[str] = ()) -> frozenset[str]:
        self.asked.append(f"list for {len(emails)}")
        nameless = [one for one in self.people.values() if one.belongs and not one.email and one.id not in owners]
        if any(one.status is Status.UNKNOWN for one in nameless):
            raise IncompleteRead("a record is missing")
        return self.listed & frozenset(emails) | frozenset({""} if nameless else ())

    async def person(
        self, *, id: str | None = None, email: str | None = None, by_search: bool = False
    ) -> Person | None:
        if by_search:
            self.asked.append(f"search for {email}")
        found = [one.id for one in self.people.values() if one.email == email]
        if id is None and len(found) > 1:
            raise jumpcloud.PersonAmbiguous(email or "", tuple(found))
        wanted = id or next(iter(found), None)
        known = self._read(wanted) if wanted else None
        return Person(known, {g: self.groups[g] for g in known.groups}) if known else None

    async def record(self, user_id: str, /) -> User | None:
        return self._read(user_id)

    async def users(self, ids: Collection[str]) -> Mapping[str, User] | None:
        self.asked.append(f"search for {len(ids)}")
        await asyncio.sleep(0)
        if "search" in self.fails:
            raise JumpCloudError("no answer", "Nothing to do.")
        return {one: self.people[one] for one in ids if one in self.people} if self.searches else None

    async def user(self, user_id: str, /) -> User | None:
        return self._read(user_id)

    async def application_paths(self, user_id: str, /) -> Paths:
        known = self._read(user_id)
        return Paths(known.bound, known.direct, known.groups) if known else NOBODY

    async def groups_of(self, user_id: str, /, *, absent: Collection[str] = ()) -> frozenset[str]:
        self._read(user_id)
        if "groups" in self.fails or (absent and "proof" in self.fails):
            raise JumpCloudError("no answer", "Nothing to do.")
        return self.member_of.get(user_id, frozenset())

    async def users_in_scope(self) -> frozenset[str]:
        self._read("scope")
        return frozenset(one.id for one in self.people.values() if one.bound)

    async def groups_in_scope(self) -> frozenset[str]:
        return frozenset(self.groups)

    async def group_scope(self, *_: Any) -> GroupScope:
        return GroupScope(self.groups)
