"""The simulated JumpCloud's graph: who is a member of what, and what is bound to which application."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable


def object_id(number: int) -> str:
    """The object id (24 hex digits) with this serial number. Hashed, so that id order is not creation order."""
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=12).hexdigest()


def is_object_id(text: str) -> bool:
    """Whether a text has the form of an object id."""
    return re.fullmatch("[0-9a-f]{24}", text) is not None


def graph_order(identifiers: Iterable[str]) -> list[str]:
    """The order of graph lists: stable, but neither by id nor by age."""
    return sorted(identifiers, key=_reversed)


def _reversed(identifier: str) -> str:
    return identifier[::-1]


class Graph:
    """Nodes by kind, and the edges between them. Lists are cached until the next change.

    A group has users, an application has users and groups. A removed node may stay behind as `dead`: its
    edges are kept, so that lists still count it.
    """

    def __init__(self) -> None:
        self.users: set[str] = set()
        self.groups: set[str] = set()
        self.applications: set[str] = set()
        self.dead: set[str] = set()
        self.members: defaultdict[str, set[str]] = defaultdict(set)
        self.groups_of: defaultdict[str, set[str]] = defaultdict(set)
        self.bound_groups: defaultdict[str, set[str]] = defaultdict(set)
        self.bound_users: defaultdict[str, set[str]] = defaultdict(set)
        self._lists: dict[tuple[str, str], list[str]] = {}

    def changed(self) -> None:
        """Forget the cached lists."""
        self._lists.clear()

    def join(self, group: str, user: str) -> None:
        """Make a user a member of a group."""
        self.members[group].add(user)
        self.groups_of[user].add(group)

    def leave(self, group: str, user: str) -> None:
        """Take a user out of a group."""
        self.members[group].discard(user)
        self.groups_of[user].discard(group)

    def remove(self, node: str, leave_dead: bool) -> None:
        """Remove a node, with its edges or leaving it behind dead."""
        for nodes in (self.users, self.groups, self.applications):
            nodes.discard(node)
        if leave_dead:
            self.dead.add(node)
            return
        for group in self.groups_of.pop(node, set()):
            self.members[group].discard(node)
        for user in self.members.pop(node, set()):
            self.groups_of[user].discard(node)
        self.bound_groups.pop(node, None)
        self.bound_users.pop(node, None)
        for bound in (*self.bound_groups.values(), *self.bound_users.values()):
            bound.discard(node)

    def scope(self, application: str) -> set[str]:
        """The users of an application, bound directly or through a group, dead ones included."""
        groups = (self.members[group] for group in self.bound_groups[application] - self.dead)
        return set(self.bound_users[application]).union(*groups)

    def ways(self, application: str, user: str) -> list[str | None]:
        """How a user is bound to an application: through these groups, None stands for directly."""
        through = graph_order(self.groups_of[user] & self.bound_groups[application] - self.dead)
        return [*through, None] if user in self.bound_users[application] else list(through)

    def applications_of(self, user: str) -> list[str]:
        """The applications that a user is bound to, directly or through a group."""
        return [
            application
            for application in graph_order(self.applications)
            if user in self.bound_users[application]
            or self.groups_of[user] & self.bound_groups[application] - self.dead
        ]

    def listed(self, kind: str, node: str, nodes: Callable[[], Iterable[str]]) -> list[str]:
        """The list of this kind for this node in graph order, from `nodes` unless it is cached."""
        key = (kind, node)
        if key not in self._lists:
            self._lists[key] = graph_order(nodes())
        return self._lists[key]
