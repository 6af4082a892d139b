"""Counting people as failing, as locked out, as not verifiably locked."""

from datetime import timedelta

import pytest

from reconciler.model import Inventory, OddRecord, Snapshot
from reconciler.plan import Cause, Held, Kind, Notice, NoticeKind, Operation, Plan, Rule, Scope, Subject
from reconciler.promise import (
    INVENTORY_LASTS,
    WITHDRAWN,
    WITHDRAWN_OR_DELETED,
    Lack,
    access_words,
    failing,
    failing_words,
    joined,
    leavers,
    left_node_words,
    whereabouts,
)
from tests.world import NOW, SOURCE, account, snapshot, user

HOUR = timedelta(hours=1)


def op(kind: Kind, number: int = 1, type_: str = "user") -> Operation:
    return Operation(kind, Subject(type_, f"u{number}", f"j{number}"), Cause.JUMPCLOUD, Rule.CHANGED, "because")


def plan(*operations: Operation, before: tuple[int, ...] = (), held: tuple[int, ...] = ()) -> Plan:
    notices = [Notice(NoticeKind.FAILING, operations[number].subject, "failed 3 times") for number in before]
    holds = (Held("max_grants", held, 0, 1, "because"),) if held else ()
    return Plan("cycle", NOW, SOURCE, Scope(1, 1, 1), operations, held=holds, notices=tuple(notices))


@pytest.mark.parametrize(
    ("kind", "lack"),
    [
        (Kind.REACTIVATE_USER, Lack.LOCKED),
        (Kind.CREATE_USER, Lack.NO_ACCOUNT),
        (Kind.DEACTIVATE_USER, Lack.ACTIVE),
        (Kind.UPDATE_USER, Lack.CHANGES),
    ],
)
def test_who_failed_fails_until_it_is_done(kind: Kind, lack: Lack) -> None:
    one = plan(op(kind), before=(0,))
    for states in ({}, {0: "failed"}, {0: "unknown"}, {0: "put_off"}):
        assert failing(one, states) == {"j1": lack}
    assert failing(one, {0: "done"}) == {}
    assert failing(plan(op(kind)), {0: "failed"}) == {"j1": lack}
    assert failing(plan(op(kind)), {0: "failed"}, newly=False) == {}
    assert failing(plan(op(kind)), {0: "put_off"}) == {}, "put off is not failed"
    assert failing(plan(op(kind), before=(0,), held=(0,)), {}) == {}, "a hold tells of itself"


def test_the_worst_of_several_operations_counts() -> None:
    both = plan(op(Kind.UPDATE_USER), op(Kind.REACTIVATE_USER), before=(0,))
    assert failing(both, {}) == {"j1": Lack.LOCKED}


def test_how_many_fail_is_said_by_what_they_lack() -> None:
    assert failing_words([]) == ""
    assert failing_words([Lack.CHANGES]) == "1 person: 1 with changes not made"
    assert failing_words([Lack.TEAM, Lack.TEAM]) == "2 teams"
    many = [Lack.ACTIVE, Lack.LOCKED, Lack.LOCKED, Lack.TEAM]
    words = failing_words(many)
    assert words == "3 people and 1 team: 2 in scope and locked, 1 out of scope and not known to be locked"
    assert failing(plan(op(Kind.QUEUE_TEAM, type_="team"), before=(0,)), {}) == {"j1": Lack.TEAM}


def test_only_a_young_inventory_tells_that_somebody_was_only_invited() -> None:
    invited = Inventory(NOW, invited=frozenset({"ada@example.com"}), users={"ada@example.com": "Invited"})
    assert left_node_words(joined(invited, "Ada@example.com", NOW + HOUR)) == WITHDRAWN
    assert left_node_words(joined(invited, "bob@example.com", NOW + HOUR)) == WITHDRAWN_OR_DELETED
    assert left_node_words(joined(invited, "ada@example.com", NOW + INVENTORY_LASTS)) == WITHDRAWN_OR_DELETED
    assert left_node_words(joined(None, "ada@example.com", NOW)) == WITHDRAWN_OR_DELETED


def test_an_inventory_without_a_status_does_not_tell_that_somebody_had_joined() -> None:
    """The inventory may lack the column; else the lock of an invitation would stop all locks."""
    assert joined(Inventory(NOW, users={"ada@example.com": ""}), "ada@example.com", NOW) is None
    assert joined(Inventory(NOW, users={"ada@example.com": "Active"}), "ada@example.com", NOW) is True


def test_leavers_are_those_who_are_active_or_went_without_a_known_lock() -> None:
    left = {"left_at": NOW - HOUR}
    people = [
        account(user(1), **left),
        account(user(2), active=False, **left),
        account(user(3), active=False, gone=True, **left),
        account(user(4), active=False, gone=True, locked_by_us=True, **left),
        account(user(5)),
        account(user(6), active=False, gone=True),
        account(user(7), active=False, gone=True, locked_by_us=True, missed_at=NOW, **left),
        account(user(8), active=False, gone=True, locked_by_us=True, missed_at=NOW - HOUR - HOUR, **left),
    ]
    assert [one.email for one in leavers(snapshot(people))] == ["u1@example.com", "u3@example.com", "u8@example.com"]


@pytest.mark.parametrize(
    ("users", "open_still"),
    [
        ({}, True),
        ({"u5@example.com": "Active"}, True),
        ({"u3@example.com": "Locked"}, False),
        ({"u3@example.com": "Disabled"}, False),
        ({"u3@example.com": "Active", "u5@example.com": "Active"}, True),
        ({"u3@example.com": "Invited", "u5@example.com": "Active"}, True),
        ({"u9@example.com": "Active"}, True),
    ],
)
def test_an_inventory_answers_by_a_lock_and_not_by_lacking_an_address(users: dict[str, str], open_still: bool) -> None:
    """The account may have another address by now."""
    moved = account(user(3), active=False, gone=True, left_at=NOW - HOUR)

    def held(read_at: object = NOW) -> Snapshot:
        return snapshot([moved, account(user(5))], inventory=Inventory(read_at, users=users))  # type: ignore[arg-type]

    assert bool(leavers(held())) is open_still
    assert leavers(held(NOW - 2 * HOUR)) == [moved], "it is older than the departure"
    assert whereabouts(held(), moved).startswith("not verifiable: not in this node")


@pytest.mark.parametrize(
    ("ids", "open_still"),
    [
        ({"k0005": "Active"}, False),
        ({"k0003": "Locked", "k0005": "Active"}, False),
        ({"k0003": "Active", "k0005": "Active"}, True),
        ({"k0003": "", "k0005": "Active"}, True),
        ({"k0009": "Active"}, True),
        ({}, True),
    ],
)
def test_an_inventory_answers_by_the_id_whatever_the_address_is_by_now(ids: dict[str, str], open_still: bool) -> None:
    moved = account(user(3), active=False, gone=True, left_at=NOW - HOUR)
    users = {f"new{number}@example.com": status for number, status in enumerate(ids.values())}
    # Whoever is back in scope before a new account is made for them is nowhere yet.
    back = account(user(6), active=True, gone=True)
    held = snapshot([moved, account(user(5)), back], inventory=Inventory(NOW, users=users, ids=ids))
    assert bool(leavers(held)) is open_still
    assert ("active outside this node" in whereabouts(held, moved)) is (ids.get("k0003") == "Active")


def test_without_anybody_active_no_inventory_shows_that_it_is_whole() -> None:
    moved = account(user(3), active=False, gone=True, left_at=NOW - HOUR)
    assert leavers(snapshot([moved], inventory=Inventory(NOW, users={"x@example.com": "Active"}))) == [moved]


@pytest.mark.parametrize(
    ("fields", "words"),
    [(("active",), "active when last read"), ((), "active when last read"), (("displayName",), "still active")],
)
def test_whose_record_does_not_show_a_lock_is_not_said_to_be_active_still(fields: tuple[str, ...], words: str) -> None:
    """Somebody else may have locked the account since it could be read."""
    left = account(user(1), left_at=NOW - HOUR)
    odd = OddRecord("user", left.email, left.keeper_id, fields=fields)
    assert access_words(snapshot([left], odd=(odd,)), left, failing=False) == words
