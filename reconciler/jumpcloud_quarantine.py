"""The words for what of JumpCloud's replies can't be read, or does not add up. Pure.

Nothing is concluded from such a part, and it concerns its own subject only.
"""

from collections.abc import Collection, Iterable, Mapping

from reconciler.counting import count
from reconciler.jumpcloud_replies import Ways
from reconciler.model import HIDDEN, UNREAD, Quarantined

_FIELDS = {
    "email": "the e-mail address",
    "firstname": "the first name",
    "lastname": "the last name",
    "displayname": "the display name",
    "state": "the state",
    "suspended": "the mark for suspended users",
}


def fields(user_id: str, unreadable: Iterable[str]) -> list[Quarantined]:
    """The fields of a user's record that can't be read."""
    return [
        Quarantined("user", user_id, name, f"{_FIELDS.get(name, name)} in JumpCloud is not as documented")
        for name in sorted(unreadable)
    ]


def scope(users: Mapping[str, Ways], unsure: Collection[str]) -> list[Quarantined]:
    """How users are bound, where that can't be read or was not the same in two readings."""
    paths = "the paths that bind them to the application in JumpCloud are not as documented"
    shifted = "JumpCloud showed them as bound to the application in one of two readings"
    return [
        *(Quarantined("user", user_id, "paths", paths) for user_id, ways in users.items() if ways.unclear),
        *(Quarantined("user", user_id, "scope", shifted) for user_id in unsure),
    ]


def hidden(user_id: str, *, missing: bool) -> Quarantined:
    """A user whom the application lists, and the list of users lacks. `missing`: there is no own record either; else it
    could not be read, or was not asked for."""
    if not missing:
        words = "JumpCloud's list of users lacks them, and their own record was not read"
        return Quarantined("user", user_id, UNREAD, words)
    words = (
        "JumpCloud's application lists them, but shows no record of them (the administrator's role may not see it, or "
        "they were just deleted)"
    )
    return Quarantined("user", user_id, HIDDEN, words)


def nameless(group_id: str, *, listed: bool, missing: bool) -> Quarantined:
    """A group in scope without a usable name. `listed`: there is a record of it; `missing`: there is none. Else it
    could not be read, or was not asked for."""
    words = "JumpCloud has no record of the group" if missing else "the group's record in JumpCloud was not read"
    words = "the group has no usable name in JumpCloud" if listed else words
    return Quarantined("team", group_id, "name", f"{words}, while the application leads through it")


def rows(odd: int, what: str) -> list[Quarantined]:
    """Rows of a list that can't be used."""
    if not odd:
        return []
    words = f"{count(odd, 'row', 'has')} no usable id, or another type than belongs there"
    return [Quarantined("list", what, "id", words)]


def unreadable_list(what: str, problem: str) -> Quarantined:
    """A list that can't be had."""
    return Quarantined("list", what, "list", f"the list can't be read: {problem}")
