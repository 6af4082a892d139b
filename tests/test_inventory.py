"""Keeper's inventory: read strictly, and what it tells of approvals and of queueings without an answer."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.approval import (
    Attempts,
    approvable,
    approval_document,
    approval_due,
    inventory_due,
    wanted_members,
)
from reconciler.inventory import InventoryError, from_json, parse, to_json
from reconciler.model import Directory, Inventory, InventoryTeam, Membership, Snapshot, Standing, Status, Team
from reconciler.plan import Cause, Change, Kind, NoticeKind, Operation, Rule, Subject
from reconciler.policy import Policy, TeamPolicy
from reconciler.report import teams
from reconciler.report.teams import waiting as shown_as_waiting
from reconciler.rows import State
from reconciler.settle import settle
from reconciler.waiting import SETTLING, waiting
from tests.world import NOW, account, decide, directory, group, snapshot, team, user

ADA = user(1, 7)
SALES = group(7, "Sales")
HOUR = timedelta(hours=1)
WANTED = wanted_members(directory([ADA], [SALES]), TeamPolicy())

TEAMS = [
    {
        "team_uid": "t0007",
        "name": "Sales",
        "restricts": "Queued",
        "node": "Root",
        "users": "",
        "queued_users": ["U1@x"],
    },
    {"team_uid": "tX", "name": "Other", "restricts": "R   S", "node": "Root", "users": ["b@x"], "queued_users": []},
]
USERS = [
    {"user_id": 1, "email": "Ada@x", "name": "Ada", "status": "Invited"},
    {"user_id": 2, "email": "b@x", "status": "Active"},
]


def test_rows_of_commander_are_read() -> None:
    printed = f"Welcome.\n{json.dumps(TEAMS, indent=2)}\nand users\n{json.dumps(USERS)}\n".encode()
    found = parse(printed, NOW)
    assert found == Inventory(
        NOW,
        {
            "t0007": InventoryTeam("t0007", "Sales", "Root", True, frozenset({"u1@x"}), frozenset()),
            "tX": InventoryTeam("tX", "Other", "Root", False, frozenset(), frozenset({"b@x"})),
        },
        frozenset({"ada@x"}),
        {"ada@x": "Invited", "b@x": "Active"},
        {"1": "Invited", "2": "Active"},
    )
    assert from_json(to_json(found)) == found
    assert parse(json.dumps({"teams": TEAMS, "users": USERS}).encode(), NOW) == found


def test_a_text_that_utf_8_cannot_spell_is_kept_as_one_that_it_can() -> None:
    team = TEAMS[0] | {"team_uid": "t\ud800", "name": "S\ud800", "node": "R\ud800", "queued_users": ["u\ud800@x"]}
    user = {"user_id": "1\ud800", "email": "a\ud800@x", "status": "\ud800"}
    found = parse(json.dumps({"teams": [team], "users": [user]}).encode(), NOW)
    text = to_json(found)
    assert text.encode().count("\ufffd".encode()) == 8
    assert from_json(text) == found


@pytest.mark.parametrize("line", ["[WARN] a new version is there", "[2026-11-29 10:00:00] start", "{0} of 2 done"])
def test_a_line_of_a_log_is_no_document(line: str) -> None:
    printed = f"{line}\n{json.dumps(TEAMS)}\n{line}\n{json.dumps(USERS)}\n{line}".encode()
    assert len(parse(printed, NOW).teams) == len(parse(printed, NOW).users) == 2


def test_columns_that_were_not_asked_for_are_unknown_not_empty() -> None:
    found = parse(b'[{"team_uid": "t", "name": "n", "restricts": ""}]', NOW).teams["t"]
    assert (found.pending, found.members) == (None, None)


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        (b"", "no JSON"),
        (b"Login failed", "no JSON"),
        (b"[{]", "not JSON (line 1)"),
        (b"\xff[]", "not UTF-8"),
        (b'["x"]', "not a list of rows"),
        (b'[{"node_id": 1}]', "neither a team"),
        (b'[{"team_uid": "t", "name": "n"}]', "restricts"),
        (b'[{"team_uid": "", "name": "n", "restricts": ""}]', "no team_uid"),
        (b'[{"team_uid": "t", "name": "n", "restricts": "", "queued_users": "a@x"}]', "queued_users"),
        (b"[" * 100_000, "not JSON"),
        (json.dumps(TEAMS).encode() + b"\n[", "not JSON (line 2)"),
        (json.dumps(TEAMS).encode() + b"\n[\nSession expired\n", "not JSON (line 3)"),
    ],
)
def test_half_an_inventory_does_not_pass_for_a_whole_one(printed: bytes, words: str) -> None:
    with pytest.raises(InventoryError) as caught:
        parse(printed, NOW)
    assert words in str(caught.value)


# -- what waits -----------------------------------------------------------------------------------------------------


def held(inventory: Inventory | None = None, *, seen: bool = False, prefix: str = "") -> Snapshot:
    asked = Membership(ours=True, seen=False, shown=False, asked_at=NOW - HOUR)
    one = team(replace(SALES, name=prefix + SALES.name), seen=seen, queued_at=NOW - HOUR)
    return snapshot([account(ADA, memberships={one.keeper_id: asked})], [one], inventory=inventory)


def shown(*, queued: bool, pending: bool, invited: bool = False, **more: object) -> Inventory:
    address = {ADA.email}
    entry = InventoryTeam(
        team(SALES).keeper_id,
        "Sales",
        "Root",
        queued,
        frozenset(address if pending else ()),
        frozenset(() if pending else address),
    )
    base = Inventory(NOW, {entry.id: entry}, frozenset(address if invited else ()))
    return replace(base, **more)  # type: ignore[arg-type]


def words(of: Snapshot, policy: Policy | None = None) -> list[str]:
    notices = decide(directory([ADA], [SALES]), of, policy).plan.notices
    return [n.message for n in notices if n.kind is NoticeKind.WAITING_FOR_APPROVAL]


def test_without_an_inventory_approval_is_not_visible() -> None:
    assert words(held()) == ["asked for on 2026-11-24, approval not visible"]
    assert words(held(seen=True)) == ["1 member asked for, approval not visible"]


def test_with_an_inventory_it_is() -> None:
    assert words(held(shown(queued=True, pending=True))) == ["queued since 2026-11-24 11:00 UTC; 1 member queued"]
    assert words(held(shown(queued=False, pending=True, invited=True))) == ["1 member invited and not there yet"]
    assert words(held(shown(queued=False, pending=False))) == []


def test_an_inventory_from_before_the_request_tells_nothing() -> None:
    assert words(held(shown(queued=False, pending=False, read_at=NOW - 2 * HOUR))) == words(held())


def test_roles_never_wait() -> None:
    assert waiting(held(prefix="role-"), TeamPolicy(role_prefix="role-")) == []
    assert waiting(held(prefix="role-"), TeamPolicy()) != []


# -- a queueing without an answer -----------------------------------------------------------------------------------

ASKED = NOW - HOUR


def outcome(inventory: Inventory | None, known: Snapshot | None = None) -> tuple[State, Snapshot]:
    op = Operation(
        Kind.QUEUE_TEAM,
        Subject("team", "Sales", SALES.id),
        Cause.JUMPCLOUD,
        Rule.GROUP_IN_SCOPE,
        "",
        (Change("displayName", "", "Sales"), Change("externalId", "", SALES.id)),
    )
    before = replace(known or snapshot([]), unsettled_teams={SALES.id: ASKED}, inventory=inventory)
    outcomes, after = settle([(3, op, ASKED - 9 * HOUR), (4, op, ASKED)], before, before, ASKED)
    assert len({settled.state for settled in outcomes.values()}) == 1
    return outcomes[3].state, after


def test_it_is_settled_as_queued_where_the_inventory_shows_it() -> None:
    state, after = outcome(shown(queued=True, pending=True))
    assert state is State.DONE
    one = next(iter(after.teams.values()))
    assert (one.jumpcloud_id, one.name, one.managed, one.seen, one.queued_at) == (SALES.id, "Sales", True, False, ASKED)
    assert after.unsettled_teams == {}
    assert [op for op in decide(directory([], [SALES]), after).plan.operations if op.kind is Kind.QUEUE_TEAM] == []


def test_it_is_asked_for_again_where_the_inventory_shows_it_absent() -> None:
    other = InventoryTeam("tX", "Other", "Root", queued=False)
    state, after = outcome(Inventory(NOW, {"tX": other}))
    assert state is State.FAILED
    assert after.unsettled_teams == {}
    assert [op.rule for op in decide(directory([], [SALES]), after).plan.operations] == [Rule.GROUP_IN_SCOPE]


@pytest.mark.parametrize(
    ("inventory", "why"),
    [
        (None, "there is none"),
        (Inventory(NOW), "an empty one proves nothing"),
        (
            Inventory(ASKED + SETTLING / 2, {"tX": InventoryTeam("tX", "Other", "Root", False)}),
            "the request may be late",
        ),
        (shown(queued=False, pending=False), "an approved namesake may be another node's"),
        (
            Inventory(NOW, {k: InventoryTeam(k, "Sales", "Root", queued=True) for k in ("tA", "tB")}),
            "two namesakes",
        ),
        (
            Inventory(NOW, {"tA": InventoryTeam("tA", "Sal", "Root", queued=True)}),
            "it may be ours, under a name that somebody changed or Keeper has cut",
        ),
        (
            Inventory(
                NOW, {"tA": InventoryTeam("tA", "Sales", "A", queued=True), "tX": InventoryTeam("tX", "IT", "B", False)}
            ),
            "nothing tells which of two nodes is ours",
        ),
    ],
)
def test_it_stays_open_where_the_inventory_cannot_tell(inventory: Inventory | None, why: str) -> None:
    state, after = outcome(inventory)
    assert state is State.UNKNOWN, why
    assert after.unsettled_teams == {SALES.id: ASKED}


def test_a_queued_team_that_is_known_is_not_what_the_request_made() -> None:
    listed = team(group(8, "Legal"), standing=Standing.UNMANAGED, jumpcloud_id="", queued_at=None)
    entry = InventoryTeam(listed.keeper_id, "Legal", "Root", queued=True)
    assert outcome(Inventory(NOW, {entry.id: entry}), snapshot([], [listed]))[0] is State.FAILED


@pytest.mark.parametrize("gone", [False, True])
def test_a_queued_team_of_the_name_that_a_list_has_shown_without_our_id_is_not_taken(gone: bool) -> None:
    """Somebody else has queued it, and what is shared with it is not ours."""
    shows = {"displayName": "Sales"}
    listed = Team("t0005", Standing.UNMANAGED, shown=shows, seen=True, gone=gone)
    entry = InventoryTeam(listed.keeper_id, "Sales", "Root", queued=True)
    state, after = outcome(Inventory(NOW, {entry.id: entry}), snapshot([account(ADA)], [listed]))
    assert state is State.UNKNOWN and after.teams == {listed.keeper_id: listed}


def test_only_the_node_of_our_other_teams_counts() -> None:
    known = snapshot([], [team(group(8, "IT"))])
    ours = InventoryTeam(team(group(8)).keeper_id, "IT", "Root/A", queued=False)
    elsewhere = InventoryTeam("tX", "Sales", "Root/B", queued=True)
    state, _ = outcome(Inventory(NOW, {e.id: e for e in (ours, elsewhere)}), known)
    assert state is State.FAILED
    state, _ = outcome(Inventory(NOW, {elsewhere.id: elsewhere}), known)
    assert state is State.UNKNOWN  # it shows none of our teams: taken elsewhere, or with too few rights


def test_a_team_that_nobody_manages_tells_the_node_too() -> None:
    """Keeper lists the teams of this node, whoever made them: an inventory without any of them is of elsewhere."""
    by_hand = Team("t0005", Standing.UNMANAGED, shown={"displayName": "Legal"}, seen=True)
    elsewhere = InventoryTeam("tX", "Other", "Root/B", queued=False)
    namesake = InventoryTeam("tY", "Sales", "Root/B", queued=True)
    for entry in (elsewhere, namesake):
        assert outcome(Inventory(NOW, {entry.id: entry}), snapshot([], [by_hand]))[0] is State.UNKNOWN
    here = InventoryTeam("t0005", "Legal", "Root/A", queued=False)
    state, after = outcome(Inventory(NOW, {e.id: e for e in (here, namesake)}), snapshot([], [by_hand]))
    assert state is State.FAILED and namesake.id not in after.teams


# -- when the programs are run --------------------------------------------------------------------------------------


def test_the_inventory_is_asked_for_when_it_may_tell_something_new() -> None:
    quiet = shown(queued=False, pending=False)
    assert inventory_due(held(), TeamPolicy(), NOW)
    assert not inventory_due(held(quiet), TeamPolicy(), NOW + 9 * HOUR)
    assert inventory_due(held(replace(quiet, read_at=NOW - 2 * HOUR)), TeamPolicy(), NOW)  # asked for after it
    busy = held(shown(queued=True, pending=True))
    assert not inventory_due(busy, TeamPolicy(), NOW + timedelta(minutes=14))
    assert inventory_due(busy, TeamPolicy(), NOW + timedelta(minutes=15))
    assert inventory_due(replace(held(quiet), unsettled_teams={"g": NOW}), TeamPolicy(), NOW)


def test_approval_is_tried_at_once_and_then_with_growing_pauses_while_something_waits() -> None:
    waits = waiting(held(), TeamPolicy())
    assert approval_due(True, [], None, NOW) is None
    assert approval_due(False, waits, None, NOW) == Attempts(1, NOW)
    attempt = Attempts(1, NOW)
    pauses = []
    for _ in range(8):
        at = attempt.last_at
        while (later := approval_due(False, waits, attempt, at)) is None:
            at += timedelta(minutes=5)
        pauses.append(int((at - attempt.last_at).total_seconds() / 60))
        attempt = later
    assert pauses == [10, 20, 40, 80, 160, 320, 360, 360]
    assert approval_due(True, waits, attempt, at) == Attempts(1, at)


def test_only_what_an_approval_helps_and_no_person_looks_after_is_given_to_the_command() -> None:
    found = approvable(held(), TeamPolicy(), WANTED)
    assert approval_document("ACME", found) == {
        "version": 1,
        "tenant": "ACME",
        "teams": [
            {"id": team(SALES).keeper_id, "name": "Sales", "queued": True, "certain": False, "members": [ADA.email]}
        ],
    }
    assert approvable(held(), TeamPolicy(review=("Sal*",)), WANTED) == []
    assert approvable(held(shown(queued=False, pending=True, invited=True)), TeamPolicy(), WANTED) == []


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(
            directory([replace(ADA, groups=frozenset(), direct=True)], [SALES]), id="they have left the group"
        ),
        pytest.param(directory([replace(ADA, status=Status.SUSPENDED)], [SALES]), id="they have left"),
        pytest.param(directory([replace(ADA, teams_unknown=True)], [SALES]), id="their groups cannot be read"),
        pytest.param(directory([replace(ADA, unsure=True)], [SALES]), id="they may have left"),
        pytest.param(directory([]), id="they are deleted, and the group has left the scope"),
        pytest.param(directory([ADA]), id="the group has left the scope"),
        pytest.param(replace(directory([ADA]), unclear_groups=frozenset({SALES.id})), id="the group cannot be read"),
        pytest.param(directory([ADA], [group(7, "Former")]), id="the group has a name that the settings leave alone"),
    ],
)
def test_whom_jumpcloud_does_not_want_is_not_given_to_the_command(wanted: Directory) -> None:
    """Whether an operation takes them out now does not matter."""
    there, policy = held(shown(queued=False, pending=True)), TeamPolicy(exclude=("For*",))
    assert approvable(there, policy, wanted_members(directory([ADA], [SALES]), policy))
    assert approvable(there, policy, wanted_members(wanted, policy)) == []


def test_who_was_given_up_and_a_team_that_the_settings_leave_alone_are_not_given_to_the_command() -> None:
    there, known = held(shown(queued=False, pending=True)), account(ADA)
    for let_go in (TeamPolicy(exclude=("Sal*",)), TeamPolicy(manage=False)):
        assert approvable(there, let_go, wanted_members(directory([ADA], [SALES]), let_go)) == []
    given_up = replace(there.accounts[known.keeper_id], standing=Standing.DISOWNED)
    assert approvable(replace(there, accounts={known.keeper_id: given_up}), TeamPolicy(), WANTED) == []


def test_who_was_taken_out_of_a_team_in_keeper_waits_for_no_approval() -> None:
    """Keeper has shown them in it, and does not any more."""
    lost = Membership(ours=True, seen=True, shown=False, asked_at=NOW - HOUR)
    one = team(SALES, queued_at=None)
    assert waiting(snapshot([account(ADA, memberships={one.keeper_id: lost})], [one]), TeamPolicy()) == []


def test_status_and_teams_say_how_sure_it_is() -> None:
    [unsure] = shown_as_waiting(held(), TeamPolicy())
    assert unsure == {
        "team": "Sales",
        "queued": True,
        "members": 1,
        "since": "2026-11-24T11:00:00Z",
        "certain": False,
        "listed": False,
    }
    [sure] = shown_as_waiting(held(shown(queued=True, pending=True)), TeamPolicy())
    assert sure["certain"] is True
    assert shown_as_waiting(held(shown(queued=False, pending=False)), TeamPolicy()) == []


def test_what_keeper_lists_is_not_approved_by_that() -> None:
    """SCIM lists queued teams and pending memberships too."""
    seen = Membership(ours=True, seen=True, shown=True, asked_at=NOW - HOUR)
    before_us = Membership(ours=True, seen=True, shown=True)
    one = team(SALES, queued_at=NOW - HOUR)
    people = [account(ADA, memberships={one.keeper_id: seen}), account(user(2), memberships={one.keeper_id: before_us})]
    listed = snapshot(people, [one])
    [found] = waiting(listed, TeamPolicy())
    assert (found.queued, found.certain, found.listed) == (True, False, True)
    assert [(member.email, member.listed) for member in found.members] == [(ADA.email, True)]
    assert words(listed) == [], "a plan tells of what is not as it should be"
    assert approvable(listed, TeamPolicy(), WANTED) == [found]
    [shown_as] = shown_as_waiting(listed, TeamPolicy())
    assert (shown_as["listed"], shown_as["certain"]) == (True, False)
    exact = replace(listed, inventory=shown(queued=False, pending=False))
    assert waiting(exact, TeamPolicy()) == []
    [queued] = waiting(replace(listed, inventory=shown(queued=True, pending=True)), TeamPolicy())
    assert (queued.certain, queued.listed, queued.members[0].certain) == (True, False, True)
    without_members = InventoryTeam(one.keeper_id, "Sales", "Root", queued=False)
    [unsure] = waiting(replace(listed, inventory=Inventory(NOW, {one.keeper_id: without_members})), TeamPolicy())
    assert (unsure.queued, unsure.members[0].listed) == (False, True), "the inventory was not asked for members"


def test_reports_never_say_that_nothing_waits_without_an_inventory() -> None:
    listed = snapshot([], [team(SALES, queued_at=NOW - HOUR)])
    text = " ".join(teams.render(teams.document(listed, TeamPolicy(), NOW), width=110, colour=False).split())
    assert "1 listed by Keeper, approval not visible" in text
    assert "the team was asked for on 2026-11-24 11:00 UTC, approval not visible" in text
    assert "keeper.inventory_command" in text
    exact = replace(listed, inventory=shown(queued=False, pending=False))
    text = " ".join(teams.render(teams.document(exact, TeamPolicy(), NOW), width=110, colour=False).split())
    assert "nothing to approve, as Keeper's inventory showed on 2026-11-24 12:00 UTC" in text
    assert "not visible" not in text
