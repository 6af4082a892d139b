"""The simulated JumpCloud's directory: organisations, users, groups, applications, and the ways to change them."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from reconciler.simulator.jumpcloud_assumptions import Assumptions
from reconciler.simulator.jumpcloud_graph import Graph, object_id

CREATED = "2024-01-01T00:00:00.000Z"


@dataclass(slots=True)
class User:
    """A user, with JumpCloud's own names of the fields; None is unset."""

    id: str
    email: str
    username: str
    firstname: str | None = None
    lastname: str | None = None
    displayname: str | None = None
    alternateEmail: str | None = None
    department: str | None = None
    employeeIdentifier: str | None = None
    state: str = "ACTIVATED"
    suspended: bool = False
    activated: bool = True
    account_locked: bool = False
    created: str = CREATED


@dataclass(slots=True)
class Group:
    """A user group. `ldap_name` is what graph lists show: the name at creation, a rename does not reach it."""

    id: str
    name: str
    ldap_name: str
    description: str = ""
    email: str = ""
    membershipMethod: str = "STATIC"


@dataclass(slots=True)
class Application:
    """An application. `name` is the template's slug, `displayLabel` what the administrator typed."""

    id: str
    displayLabel: str
    name: str = "keepersecurity"
    displayName: str = "Keeper"
    active: bool = True
    ssoUrl: str = "https://sso.jumpcloud.com/saml2/keeper"
    created: str = CREATED


@dataclass(slots=True)
class Organization:
    """One organisation. `truth` is its graph as it is, `shown` as the graph lists show it for the time being."""

    id: str
    name: str
    users: dict[str, User] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    applications: dict[str, Application] = field(default_factory=dict)
    truth: Graph = field(default_factory=Graph)
    shown: Graph = field(default_factory=Graph)
    pending: deque[tuple[float, Callable[[Graph], None]]] = field(default_factory=deque)
    hidden: set[str] = field(default_factory=set)
    """Users whose records the asking role does not see; the graph lists them."""
    by_id: list[str] | None = None
    """The users' ids in order, None where they are to be sorted anew."""


class Directory:
    """All that JumpCloud knows of people. Every public method holds `lock`.

    Wherever a method takes `organization`, None means the first one. An unknown id raises LookupError, a
    value that JumpCloud does not know ValueError.
    """

    def __init__(self, assumptions: Assumptions, clock: Callable[[], float]) -> None:
        self.lock = threading.RLock()
        self.assumptions = assumptions
        self.clock = clock
        self.organizations: dict[str, Organization] = {}
        self.issued = 0

    def new_id(self) -> str:
        """The next object id that nothing has."""
        while True:
            identifier = object_id(self.issued)
            self.issued += 1
            if not any(identifier in known for known in self._known()):
                return identifier

    def _known(self) -> list[Mapping[str, Any]]:
        return [self.organizations] + [
            known for each in self.organizations.values() for known in (each.users, each.groups, each.applications)
        ]

    def add_organization(self, name: str) -> str:
        """A new, empty organisation; returns its id."""
        with self.lock:
            identifier = self.new_id()
            self.organizations[identifier] = Organization(identifier, name)
            return identifier

    def organization(self, identifier: str | None = None) -> Organization:
        """The organisation with this id, or the first one."""
        with self.lock:
            wanted = identifier or next(iter(self.organizations), None)
            if wanted not in self.organizations:
                raise LookupError(f"no such organisation: {wanted}")
            return self.organizations[wanted]

    def _holding(self, kind: Literal["users", "groups", "applications"], identifier: str) -> Organization:
        for each in self.organizations.values():
            if identifier in getattr(each, kind):
                return each
        raise LookupError(f"no such id in {kind}: {identifier}")

    def add_user(
        self, email: str, *, organization: str | None = None, username: str | None = None, **values: Any
    ) -> str:
        """A new user; `values` are further fields of `User`. Returns the id."""
        with self.lock:
            home = self.organization(organization)
            user = User(self.new_id(), email, username or email.partition("@")[0])
            _assign(user, values)
            home.users[user.id] = user
            home.by_id = None
            self._change(home, lambda graph: graph.users.add(user.id))
            return user.id

    def update_user(self, user: str, **values: Any) -> None:
        """Set fields of a user, whatever they mean together: `state` and `suspended` may disagree."""
        with self.lock:
            home = self._holding("users", user)
            _assign(home.users[user], values)
            if {"state", "suspended"} & set(values):
                home.shown.changed()

    def suspend(self, user: str) -> None:
        """Suspend a user."""
        self.update_user(user, state="SUSPENDED", suspended=True)

    def activate(self, user: str) -> None:
        """Activate a staged or suspended user."""
        self.update_user(user, state="ACTIVATED", suspended=False)

    def delete_user(self, user: str) -> None:
        """Delete a user for good; the graph lists may show it for a while."""
        with self.lock:
            home = self._holding("users", user)
            del home.users[user]
            home.by_id = None
            self._remove(home, user)

    def hide_user(self, user: str) -> None:
        """Hide a user's record from whoever asks, as a narrowed role would; the graph still lists the user."""
        with self.lock:
            home = self._holding("users", user)
            home.hidden.add(user)
            home.by_id = None

    def show_user(self, user: str) -> None:
        """Show a user's record again."""
        with self.lock:
            home = self._holding("users", user)
            home.hidden.discard(user)
            home.by_id = None

    def add_group(self, name: str, *, organization: str | None = None, **values: Any) -> str:
        """A new user group without members; `values` are further fields of `Group`. Returns the id."""
        with self.lock:
            home = self.organization(organization)
            group = Group(self.new_id(), name, name)
            _assign(group, values)
            home.groups[group.id] = group
            self._change(home, lambda graph: graph.groups.add(group.id))
            return group.id

    def rename_group(self, group: str, name: str) -> None:
        """Rename a user group."""
        with self.lock:
            self._holding("groups", group).groups[group].name = name

    def delete_group(self, group: str) -> None:
        """Delete a user group, its memberships and its bindings."""
        with self.lock:
            home = self._holding("groups", group)
            del home.groups[group]
            self._remove(home, group)

    def add_member(self, group: str, user: str) -> None:
        """Make a user a member of a group of the same organisation; no error if it is one."""
        self._edge("groups", group, "users", user, lambda graph: graph.join(group, user))

    def remove_member(self, group: str, user: str) -> None:
        """Take a user out of a group; no error if it is not in it."""
        self._edge("groups", group, "users", user, lambda graph: graph.leave(group, user))

    def add_application(self, label: str, *, organization: str | None = None, **values: Any) -> str:
        """A new application, nobody bound to it; `values` are further fields of `Application`. Returns the id."""
        with self.lock:
            home = self.organization(organization)
            application = Application(self.new_id(), label)
            _assign(application, values)
            home.applications[application.id] = application
            self._change(home, lambda graph: graph.applications.add(application.id))
            return application.id

    def update_application(self, application: str, **values: Any) -> None:
        """Set fields of an application, such as `active` or `displayLabel`."""
        with self.lock:
            _assign(self._holding("applications", application).applications[application], values)

    def delete_application(self, application: str) -> None:
        """Delete an application and its bindings."""
        with self.lock:
            home = self._holding("applications", application)
            del home.applications[application]
            self._remove(home, application)

    def bind_group(self, application: str, group: str) -> None:
        """Bind a group to an application of the same organisation; no error if it is bound."""
        self._edge(
            "applications", application, "groups", group, lambda graph: graph.bound_groups[application].add(group)
        )

    def unbind_group(self, application: str, group: str) -> None:
        """Take a group's binding away; no error if it is not bound."""
        self._edge(
            "applications", application, "groups", group,
            lambda graph: graph.bound_groups[application].discard(group),
        )  # fmt: skip

    def bind_user(self, application: str, user: str) -> None:
        """Bind a user directly to an application of the same organisation; no error if it is bound."""
        self._edge("applications", application, "users", user, lambda graph: graph.bound_users[application].add(user))

    def unbind_user(self, application: str, user: str) -> None:
        """Take a user's direct binding away; no error if it is not bound."""
        self._edge(
            "applications", application, "users", user,
            lambda graph: graph.bound_users[application].discard(user),
        )  # fmt: skip

    def settle_graph(self) -> None:
        """Let the graph lists catch up with all changes at once."""
        with self.lock:
            for home in self.organizations.values():
                self._catch_up(home, float("inf"))

    def in_scope(self, application: str) -> dict[str, set[str]]:
        """The truth: the users bound to an application, whatever their state, each with the bound groups
        through which it is; the set is empty for one that is only bound directly."""
        with self.lock:
            graph = self._holding("applications", application).truth
            bound = graph.bound_groups[application]
            return {user: graph.groups_of[user] & bound for user in graph.scope(application)}

    def groups_in_scope(self, application: str) -> dict[str, str]:
        """The truth: the names of the groups bound to an application, by id."""
        with self.lock:
            home = self._holding("applications", application)
            return {group: home.groups[group].name for group in home.truth.bound_groups[application]}

    def find_user(self, email: str) -> str:
        """The id of the user with exactly this address."""
        with self.lock:
            for home in self.organizations.values():
                for user in home.users.values():
                    if user.email == email:
                        return user.id
            raise LookupError(f"no user {email}")

    def user(self, user: str) -> User:
        """A copy of a user as it is now."""
        with self.lock:
            return replace(self._holding("users", user).users[user])

    def _edge(
        self,
        kind: Literal["groups", "applications"],
        one: str,
        other_kind: Literal["users", "groups"],
        other: str,
        change: Callable[[Graph], Any],
    ) -> None:
        with self.lock:
            home = self._holding(kind, one)
            if other not in getattr(home, other_kind):
                raise LookupError(f"no such id in {other_kind} of the same organisation: {other}")
            self._change(home, change)

    def _change(
        self, home: Organization, change: Callable[[Graph], Any], shown: Callable[[Graph], Any] | None = None
    ) -> None:
        """Change the graph now, and what the lists show of it after the lag."""
        change(home.truth)
        home.truth.changed()
        home.pending.append((self.clock() + self.assumptions.graph_lag, shown or change))
        self._catch_up(home, self.clock())

    def _remove(self, home: Organization, node: str) -> None:
        leave_dead = self.assumptions.dead_entries != "gone"
        self._change(home, lambda graph: graph.remove(node, False), lambda graph: graph.remove(node, leave_dead))

    def _catch_up(self, home: Organization, now: float) -> None:
        while home.pending and home.pending[0][0] <= now:
            home.pending.popleft()[1](home.shown)
            home.shown.changed()


def _assign(record: User | Group | Application, values: Mapping[str, Any]) -> None:
    known = {one.name for one in fields(record)} - {"id"}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"unknown fields: {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    for name, value in values.items():
        setattr(record, name, value)
