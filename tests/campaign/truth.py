"""What is true of JumpCloud, and since when: asked of the simulator itself, never of what it shows."""

from dataclasses import dataclass, field

from reconciler.simulator.jumpcloud import JumpCloud
from reconciler.simulator.jumpcloud_directory import User


@dataclass
class Truth:
    """Who is in scope and in which groups, with the tick since which that has been so without a break."""

    jumpcloud: JumpCloud
    application: str
    scope_since: dict[str, int] = field(default_factory=dict)
    member_since: dict[tuple[str, str], int] = field(default_factory=dict)
    member_once: set[tuple[str, str]] = field(default_factory=set)
    """Everybody who ever was in scope through a group, with that."""
    people: dict[str, User] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    ever: dict[str, User] = field(default_factory=dict)
    """Everybody there ever was, as last seen."""
    once: set[str] = field(default_factory=set)
    """Everybody who ever was in scope."""
    addresses: dict[str, set[str]] = field(default_factory=dict)
    """Every address that somebody ever had."""
    address_since: dict[str, tuple[int, str]] = field(default_factory=dict)
    """The address of somebody, and the tick at which they were first seen to have it."""
    groups_of: dict[str, set[str]] = field(default_factory=dict)
    """The names of all groups in which somebody ever was, in scope or not."""
    shared_names: set[str] = field(default_factory=set)
    """The names that several groups in scope have had at a time."""
    names_of: dict[str, set[str]] = field(default_factory=dict)
    """Every name that a group in scope ever had."""
    left_scope: dict[str, int] = field(default_factory=dict)
    left_group: dict[tuple[str, str], int] = field(default_factory=dict)
    """The tick at which somebody was first seen out of scope, or apart from a group, after they had been there."""
    belonging: set[str] = field(default_factory=set)
    ceased: dict[str, int] = field(default_factory=dict)
    """The tick at which somebody was first seen not to belong any more, after they had: see `stays`."""
    active_people: set[str] = field(default_factory=set)
    deactivated: dict[str, int] = field(default_factory=dict)

    def look(self, tick: int) -> None:
        """Take note of how things are now; to be called after everything that may have changed them."""
        home = self.jumpcloud.organization()
        bound = self.jumpcloud.in_scope(self.application)
        self.people = {one: self.jumpcloud.user(one) for one in home.users}
        self.ever |= self.people
        for one in self.people:
            address = self.address(one)
            self.addresses.setdefault(one, set()).add(address)
            if self.address_since.get(one, (0, ""))[1] != address:
                self.address_since[one] = tick, address
        for group, people in home.truth.members.items():
            for one in people:
                self.groups_of.setdefault(one, set()).add(home.groups[group].name)
        self.groups = self.jumpcloud.groups_in_scope(self.application)
        for group, name in self.groups.items():
            self.names_of.setdefault(group, set()).add(name)
        if len(names := set(self.groups.values())) < len(self.groups):
            self.shared_names |= {name for name in names if list(self.groups.values()).count(name) > 1}
        active = {one for one in bound if self.active(one)}
        members = {(one, group) for one in active for group in bound[one]}
        self.left_scope |= dict.fromkeys(self.scope_since.keys() - active, tick)
        self.left_group |= dict.fromkeys(self.member_since.keys() - members, tick)
        belonging = {one for one in bound if one in self.people and not self.says_suspended(one)}
        self.ceased |= dict.fromkeys(self.belonging - belonging, tick)
        self.belonging = belonging
        able = {one for one in self.people if self.active(one)}
        self.deactivated |= dict.fromkeys(self.active_people - able, tick)
        self.active_people = able
        self.scope_since = {one: self.scope_since.get(one, tick) for one in active}
        self.once |= active
        self.member_since = {pair: self.member_since.get(pair, tick) for pair in members}
        self.member_once |= members

    def active(self, person: str) -> bool:
        user = self.people.get(person)
        return user is not None and user.state == "ACTIVATED" and not user.suspended

    def says_suspended(self, person: str) -> bool:
        user = self.people.get(person)
        return user is not None and (user.suspended or user.state == "SUSPENDED")

    def stays(self, person: str) -> bool:
        """Whether the person is bound and has not left, though they may not be active yet."""
        user = self.people.get(person)
        bound = person in self.jumpcloud.in_scope(self.application)
        return user is not None and bound and not user.suspended and user.state != "SUSPENDED"

    def throughout(self, person: str, since: int) -> bool:
        """Whether the person was in scope and active during the whole time since then."""
        return self.scope_since.get(person, since + 1) <= since

    def member_throughout(self, person: str, group: str, since: int) -> bool:
        return self.member_since.get((person, group), since + 1) <= since

    def out_throughout(self, person: str, since: int) -> bool:
        """Whether the person was out of scope, or not active, during the whole time since then."""
        return person not in self.scope_since and self.left_scope.get(person, 0) <= since

    def apart_throughout(self, person: str, group: str, since: int) -> bool:
        """Whether the person was not in scope through this group during the whole time since then."""
        pair = person, group
        return pair not in self.member_since and self.left_group.get(pair, 0) <= since

    def inactive_throughout(self, person: str, since: int) -> bool:
        """Whether the person was not active, or not there, during the whole time since then."""
        return person not in self.active_people and self.deactivated.get(person, 0) <= since

    def is_member(self, person: str, group: str) -> bool:
        """Whether the person is a member of the group, in scope or not."""
        return person in self.jumpcloud.organization().truth.members.get(group, ())

    def teams_of(self, person: str) -> set[str]:
        """The ids of the groups through which a person is in scope."""
        return {group for one, group in self.member_since if one == person}

    def in_scope(self, person: str) -> bool:
        return person in self.scope_since

    def has_throughout(self, person: str, since: int) -> bool:
        """Whether the person had the address of now during the whole time since then."""
        return self.address_since.get(person, (since + 1, ""))[0] <= since

    def address(self, person: str) -> str:
        user = self.ever.get(person)
        return user.email.strip().casefold() if user else ""
