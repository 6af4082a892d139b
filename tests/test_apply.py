"""The journalled executor: what is sent to Keeper, in which order, and what is on record afterwards."""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler import keeper as scim
from reconciler.addresses import alike_key
from reconciler.apply import Applied, apply
from reconciler.confirm import Confirmation, Doubt, Finding
from reconciler.decisions import disown
from reconciler.model import Account, KeeperUser, Snapshot, Standing
from reconciler.pace import Clock
from reconciler.plan import Change, Kind, NoticeKind, Operation
from reconciler.rows import LOCKED_BEFORE, UNCONFIRMED, State
from reconciler.store import Store
from tests.fakes import JumpCloud, Keeper, Sure
from tests.operations import op, ref, shown, shown_team, team_op
from tests.world import MEMBER, NOW, account, group, snapshot, team, user

ADA, EVE, ZOE = user(1), user(2), user(3)
PEOPLE = snapshot([account(ADA), account(EVE), account(ZOE)])
ENG = group(9)
T9 = team(ENG).keeper_id
LOCKS = [op(Kind.DEACTIVATE_USER, person) for person in (ADA, EVE, ZOE)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "reconciler.db", write=True) as opened:
        yield opened


def node() -> Keeper:
    return Keeper([shown(held) for held in PEOPLE.accounts.values()], [shown_team(ENG)])


def applied(
    store: Store,
    keeper: Keeper,
    *operations: Operation,
    held: Snapshot = PEOPLE,
    canaries: bool = False,
    jumpcloud: JumpCloud | None = None,
) -> Applied:
    """The operations, applied; unless it is about `canaries`, these have all passed."""
    store.save(held, store.snapshot())
    for kind in () if canaries else Kind:
        store.open_kind(kind, NOW)
    ids = store.write_ahead(store.begin_run("cycle", NOW, by="root", reason=""), operations, {}, NOW)
    numbered = list(zip(ids, operations, strict=True))
    return asyncio.run(_apply(numbered, held, keeper, store, jumpcloud))


async def _apply(
    numbered: list[tuple[int, Operation]],
    held: Snapshot,
    keeper: Keeper,
    store: Store,
    jumpcloud: JumpCloud | None,
    *,
    mark: int | None = None,
    confirmation: Confirmation | None = None,
) -> Applied:
    if confirmation is None:
        confirmation = Confirmation(jumpcloud, jumpcloud.groups.keys(), held.teams) if jumpcloud else Sure()
    return await apply(
        numbered,
        held,
        keeper,
        store,
        clock=lambda: NOW,
        in_flight=2,
        confirmation=confirmation,
        mark=store.hands.mark() if mark is None else mark,
    )


def states(store: Store) -> list[State]:
    return [row.state for row in sorted(store.journal(NOW), key=lambda row: row.id)]


def refused(**values: object) -> scim.KeeperError:
    return scim.Refused("Ada", "changed", **values)  # type: ignore[arg-type]


# -- the line -------------------------------------------------------------------------------------------------------


def test_leavers_go_first_then_teams_then_everybody_else(store: Store) -> None:
    keeper = node()
    joins = op(Kind.CREATE_USER, user(7), add=(ref(group(8), ""),))
    applied(store, keeper, joins, team_op(Kind.QUEUE_TEAM, group(8)), LOCKS[0])
    assert keeper.sent == [
        ("active=False", "k0001"),
        ("queue", "Group 8"),
        ("create new-Group 8", "u7@example.com"),
    ]


def test_what_writes_an_id_goes_before_what_may_be_linked(store: Store) -> None:
    """Written later, it would hide whom a creation without an answer was linked to."""
    keeper, tie = node(), Change("externalId", "", "x")
    keeper.teams["t0006"] = shown_team(group(6))
    tied = op(Kind.UPDATE_USER, ADA, changes=(tie,))
    queue, rename = team_op(Kind.QUEUE_TEAM, group(7)), team_op(Kind.RENAME_TEAM, group(6))
    held = replace(PEOPLE, teams={"t0006": team(group(6))})
    applied(store, keeper, op(Kind.CREATE_USER, user(7)), tied, queue, rename, held=held)
    assert [subject for _, subject in keeper.sent] == ["t0006", "Group 7", "k0001", "u7@example.com"]


def test_the_journal_says_which_teams_are_in_a_request_before_it_is_sent(store: Store) -> None:
    keeper = node()
    keeper.errors["Group 7"] = [scim.Unanswered("Group 7", "queued", uncertain=True)]
    keeper.errors["u7@example.com"] = [scim.Unanswered("u7@example.com", "created", uncertain=True)]
    joins = op(Kind.CREATE_USER, user(7), add=(ref(group(7), ""), ref(group(8), ""), ref(ENG)))
    applied(store, keeper, joins, team_op(Kind.QUEUE_TEAM, group(7)), team_op(Kind.QUEUE_TEAM, group(8)))
    (row,) = (row for row in store.journal(NOW) if row.operation.kind is Kind.CREATE_USER)
    assert row.state is State.UNKNOWN
    assert [team.keeper_id for team in row.operation.add] == ["", "new-Group 8", T9]


def test_what_was_done_is_in_the_journal_and_in_the_snapshot(store: Store) -> None:
    assert applied(store, node(), LOCKS[0]).done == 1
    assert states(store) == [State.DONE]
    after = store.snapshot().accounts["k0001"]
    assert not after.active and after.locked_by_us


def test_who_is_given_up_while_keeper_creates_them_is_given_up_with_their_new_account(store: Store) -> None:
    class Slow(Keeper):
        async def create_user(self, attributes: Mapping[str, str], teams: Collection[str]) -> KeeperUser:
            disown(store, NOW, "root", "", ADA.email)
            return await super().create_user(attributes, teams)

    held = snapshot([account(ADA, keeper_id="k0099", gone=True, active=False, missed_at=NOW)])
    creation = op(Kind.CREATE_USER, ADA, changes=(Change("userName", "", ADA.email), Change("externalId", "", ADA.id)))
    keeper = Slow()
    keeper.shows[ADA.email] = shown(account(ADA))
    assert applied(store, keeper, creation, held=held).done == 1
    assert store.snapshot().accounts["k0001"].standing is Standing.DISOWNED


def test_whose_account_a_list_shows_while_another_run_creates_them_waits_for_what_that_tells(store: Store) -> None:
    creation = op(Kind.CREATE_USER, ADA, changes=(Change("userName", "", ADA.email), Change("externalId", "", ADA.id)))
    [sent] = store.write_ahead(store.begin_run("cycle", NOW, by="root", reason=""), [creation], {}, NOW)
    store.mark_sent(sent, NOW, creation)
    named = Change("displayName", "User", "New")
    update, lock = op(Kind.UPDATE_USER, ADA, changes=(named,)), op(Kind.DEACTIVATE_USER, ADA)
    assert applied(store, node(), update, lock).done == 0
    assert states(store)[1:] == [State.PUT_OFF, State.PUT_OFF]


def test_one_refusal_stops_nobody_else_and_leaves_the_snapshot(store: Store) -> None:
    keeper = node()
    keeper.errors["k0001"] = [refused()]
    applied(store, keeper, *LOCKS)
    assert states(store) == [State.FAILED, State.DONE, State.DONE]
    assert store.snapshot().accounts["k0001"] == account(ADA)


def test_a_refused_token_stops_the_apply_and_the_rest_is_put_off(store: Store) -> None:
    keeper = node()
    keeper.errors["k0001"] = [scim.BadToken("Ada", "changed")]
    result = applied(store, keeper, LOCKS[0], op(Kind.CREATE_USER, user(7)))
    assert result.stopped and states(store) == [State.PUT_OFF, State.PUT_OFF] and len(keeper.sent) == 1
    told = {one.operation.subject.name: one.error for one in result.results.values()}
    assert "does not accept the SCIM token. A token belongs" in told["u1@example.com"]
    assert told["u7@example.com"] == "not begun any more: Keeper does not accept the SCIM token"
    assert store.snapshot().failures == {}, "the token is nobody's fault: nobody rests for it"


def test_what_may_have_arrived_is_unknown_and_not_failed(store: Store) -> None:
    keeper = node()
    keeper.errors["k0001"] = [scim.Unanswered("Ada", "changed", uncertain=True)]
    applied(store, keeper, LOCKS[0])
    assert states(store) == [State.UNKNOWN]


def test_a_404_for_a_leaver_is_unknown_until_a_list_tells_and_for_who_returns_it_is_a_failure(store: Store) -> None:
    keeper = node()
    keeper.errors = {key: [scim.NotFound("x", "changed")] for key in ("k0001", "k0002")}
    applied(store, keeper, LOCKS[0], op(Kind.REACTIVATE_USER, EVE))
    assert states(store) == [State.UNKNOWN, State.FAILED]
    assert store.snapshot().failures.keys() == {EVE.id}
    store.put(accounts=[replace(account(EVE), gone=True)])
    assert store.snapshot().failures == {}, "whoever is gone is created anew at once"


def test_no_free_seat_stops_further_creations_and_nothing_else(store: Store) -> None:
    keeper = node()
    keeper.errors["u7@example.com"] = [scim.SeatsExceeded("x", "created")]
    changed = op(Kind.UPDATE_USER, ADA, add=(ref(ENG),))
    result = applied(store, keeper, op(Kind.CREATE_USER, user(7)), op(Kind.CREATE_USER, user(8)), changed)
    assert states(store) == [State.FAILED, State.PUT_OFF, State.DONE]
    assert [notice.kind for notice in result.notices] == [NoticeKind.NO_LICENCE]


def test_a_journal_that_can_not_be_written_stops_the_apply_before_anything_more_is_sent(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = node()
    monkeypatch.setattr(store, "mark_sent", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        applied(store, keeper, *LOCKS)
    assert keeper.sent == []


def test_an_outcome_that_can_not_be_recorded_stops_the_apply(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = node()
    monkeypatch.setattr(store, "record", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        applied(store, keeper, LOCKS[0], op(Kind.CREATE_USER, user(7)))
    assert len(keeper.sent) == 1 and states(store) == [State.SENT, State.PLANNED]


def test_a_canary_that_can_not_be_recorded_stops_the_apply_and_leaves_nothing_running(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another cycle may have the state file by then: whatever goes on is in no journal that anybody reads."""
    keeper = node()
    monkeypatch.setattr(store, "open_kind", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    ids = store.write_ahead(store.begin_run("cycle", NOW, by="root", reason=""), LOCKS, {}, NOW)
    store.save(PEOPLE, store.snapshot())

    async def carried_out() -> None:
        with pytest.raises(OSError, match="disk full"):
            await _apply(list(zip(ids, LOCKS, strict=True)), PEOPLE, keeper, store, None)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(carried_out())
    assert len(keeper.sent) == 1
    assert states(store) == [State.DONE, State.PUT_OFF, State.PUT_OFF]


# -- teams ----------------------------------------------------------------------------------------------------------


def test_a_person_does_not_wait_for_a_team_that_is_not_queued(store: Store) -> None:
    keeper = node()
    applied(store, keeper, op(Kind.CREATE_USER, user(7), add=(ref(group(8), ""), ref(ENG))))
    assert keeper.sent == [(f"create {T9}", "u7@example.com")] and states(store) == [State.DONE]


def test_what_is_only_about_a_team_that_is_not_queued_waits(store: Store) -> None:
    keeper = node()
    applied(store, keeper, op(Kind.UPDATE_USER, ADA, add=(ref(group(8), ""),)))
    assert keeper.sent == [] and states(store) == [State.PUT_OFF]


def test_a_team_that_keeper_refuses_does_not_stand_in_the_way_of_the_rest(store: Store) -> None:
    keeper = node()
    keeper.errors["k0001"] = [scim.Refused("Keeper user k0001", "changed")]
    back = op(Kind.REACTIVATE_USER, ADA, add=(ref(ENG),))
    applied(store, keeper, back)
    [row] = store.journal(NOW)
    assert keeper.sent[-1] == ("active=True", "k0001") and row.state is State.DONE
    assert row.error.startswith(f"not all teams were changed: {ADA.email} was not changed"), "nobody is known by an id"
    assert store.snapshot().accounts["k0001"].memberships == {}


def test_what_is_sent_without_its_teams_is_on_record_so_before(store: Store) -> None:
    """What is found of it later must not prove that the teams came along: they would be waited for, for ever."""
    keeper = node()
    keeper.errors["u7@example.com"] = [refused(), scim.Unanswered("u7@example.com", "created", uncertain=True)]
    applied(store, keeper, op(Kind.CREATE_USER, user(7), add=(ref(ENG),)))
    assert keeper.sent == [(f"create {T9}", "u7@example.com"), ("create", "u7@example.com")]
    [row] = store.unfinished(1)
    assert row.operation.add == ()


def test_what_is_sent_without_its_names_is_on_record_so_before(store: Store) -> None:
    keeper = node()
    keeper.errors["k0001"] = [refused(), refused(), scim.Unanswered("Ada", "changed", uncertain=True)]
    renamed = (Change("displayName", "Ada", "Lady Ada"),)
    applied(store, keeper, op(Kind.UPDATE_USER, ADA, changes=renamed, add=(ref(ENG),)))
    assert [what for what, _ in keeper.sent] == [f"displayName=Lady Ada +{T9}", "displayName=Lady Ada", f"+{T9}"]
    [row] = store.unfinished(1)
    assert row.operation.changes == () and [team.keeper_id for team in row.operation.add] == [T9]


def test_of_several_teams_each_goes_by_itself_once_keeper_refused_them_together(store: Store) -> None:
    keeper = node()
    keeper.errors["k0001"] = [refused(), refused()]
    held = replace(PEOPLE, accounts={**PEOPLE.accounts, "k0001": account(ADA, memberships={T9: MEMBER})})
    keeper.users["k0001"] = shown(held.accounts["k0001"], ENG)
    both = op(Kind.UPDATE_USER, ADA, add=(ref(group(8)),), remove=(ref(ENG),))
    applied(store, keeper, both, held=held)
    assert keeper.sent[1:] == [(f"-{T9}", "k0001"), ("+t0008", "k0001")]
    assert states(store) == [State.DONE]
    assert set(store.snapshot().accounts["k0001"].memberships) == {T9, "t0008"}  # refused, taken


class _Replaces(Keeper):
    """A node in which an addition replaces the user's teams."""

    async def patch_user(
        self, id: str, values: Mapping[str, str | bool], add: Collection[str] = (), remove: Collection[str] = ()
    ) -> KeeperUser | None:
        if add and not self.errors.get(id):
            self.users[id] = replace(self.users[id], teams=frozenset())
        return await super().patch_user(id, values, add, remove)


def test_teams_that_go_by_themselves_end_with_one_that_replaces_the_one_before(store: Store) -> None:
    keeper = _Replaces(node().users.values())
    keeper.errors["k0001"] = [refused()]
    three = op(Kind.UPDATE_USER, ADA, add=(ref(group(6)), ref(group(7)), ref(group(8))))
    applied(store, keeper, three)
    assert keeper.sent[1:] == [("+t0006", "k0001"), ("+t0007", "k0001")]
    assert set(store.snapshot().accounts["k0001"].memberships) == {"t0007"}
    assert Kind.UPDATE_USER not in store.open_kinds(NOW)


def outcomes(store: Store) -> list[tuple[State, str]]:
    return [(row.state, row.outcome) for row in store.journal(NOW)]


def test_what_keeper_refuses_to_take_away_may_wait_unseen_and_is_asked_for_once_more(store: Store) -> None:
    waits = account(ADA, memberships={T9: replace(MEMBER, seen=False, shown=False)})
    held = snapshot([waits], [team(ENG)])
    keeper = Keeper([shown(waits)], [shown_team(ENG)])
    keeper.errors["k0001"] = [refused()]
    applied(store, keeper, op(Kind.UPDATE_USER, ADA, remove=(ref(ENG),)), held=held)
    assert keeper.sent == [(f"-{T9}", "k0001")] * 2 and outcomes(store) == [(State.DONE, "done")]
    assert store.snapshot().accounts["k0001"].memberships == {}


def test_what_keeper_refuses_to_take_away_twice_and_does_not_show_is_not_there(store: Store) -> None:
    waits = account(ADA, memberships={T9: replace(MEMBER, seen=False, shown=False)})
    keeper = Keeper([shown(waits)], [shown_team(ENG)])
    keeper.errors["k0001"] = [refused(), refused()]
    applied(store, keeper, op(Kind.UPDATE_USER, ADA, remove=(ref(ENG),)), held=snapshot([waits], [team(ENG)]))
    assert outcomes(store) == [(State.DONE, "already")]
    assert store.snapshot().accounts["k0001"].memberships == {}


@pytest.mark.parametrize("last", [scim.UnexpectedReply, scim.Refused])
def test_of_several_teams_none_of_which_was_answered_nobody_knows(store: Store, last: type[scim.KeeperError]) -> None:
    """Be it that Keeper refused the others."""
    keeper = node()
    keeper.errors["k0001"] = [refused(), last("Ada", "changed", uncertain=True), refused()]
    applied(store, keeper, op(Kind.UPDATE_USER, ADA, add=(ref(ENG), ref(group(8)))))
    assert states(store) == [State.UNKNOWN] and store.snapshot().accounts["k0001"].memberships == {}


def test_that_one_of_several_teams_was_not_answered_takes_nothing_from_the_others(store: Store) -> None:
    keeper = node()
    keeper.errors["k0001"] = [refused(), scim.Refused("Ada", "changed", uncertain=True)]
    applied(store, keeper, op(Kind.UPDATE_USER, ADA, add=(ref(ENG), ref(group(8)))))
    assert outcomes(store) == [(State.DONE, "done")]
    assert set(store.snapshot().accounts["k0001"].memberships) == {"t0008"}


def test_what_somebody_else_took_away_before_is_not_what_we_did(store: Store) -> None:
    member = account(ADA, memberships={T9: MEMBER})
    keeper = Keeper([shown(account(ADA))], [shown_team(ENG)])
    keeper.errors["k0001"] = [refused()]
    applied(store, keeper, op(Kind.UPDATE_USER, ADA, remove=(ref(ENG),)), held=snapshot([member], [team(ENG)]))
    assert len(keeper.sent) == 1 and outcomes(store) == [(State.DONE, "already")]
    assert store.snapshot().accounts["k0001"].memberships == {}


def test_a_team_that_holds_people_whom_we_do_not_manage_is_not_deleted(store: Store) -> None:
    keeper = node()
    keeper.teams[T9] = shown_team(ENG, members=frozenset({"k0001", "stranger"}))
    applied(store, keeper, team_op(Kind.DELETE_TEAM, ENG), held=replace(PEOPLE, teams={T9: team(ENG)}))
    assert keeper.sent == [] and states(store) == [State.FAILED] and T9 in store.snapshot().teams


@pytest.mark.parametrize(
    ("known", "deleted"),
    [
        (account(ADA, active=False, locked_by_us=True, memberships={T9: MEMBER}), True),
        (account(ADA, memberships={T9: MEMBER}), False),
        (account(ADA, active=False, memberships={T9: replace(MEMBER, ours=False)}), False),
        (account(ADA, active=False), False),
    ],
)
def test_a_team_that_holds_only_leavers_of_ours_is_deleted(store: Store, known: Account, deleted: bool) -> None:
    """Whoever else is in it was put there since the last list."""
    keeper = node()
    keeper.teams[T9] = shown_team(ENG, members=frozenset({"k0001"}))
    applied(store, keeper, team_op(Kind.DELETE_TEAM, ENG), held=snapshot([known], [team(ENG)]))
    assert states(store) == [State.DONE if deleted else State.FAILED]
    assert bool(store.snapshot().teams) is not deleted


def test_the_deletion_of_a_team_that_keeper_goes_on_to_show_is_unknown(store: Store) -> None:
    class Deaf(Keeper):
        async def delete_team(self, id: str) -> None:
            """Answer as if it were done."""

    done = applied(store, Deaf([], [shown_team(ENG)]), team_op(Kind.DELETE_TEAM, ENG), held=snapshot([], [team(ENG)]))
    assert states(store) == [State.UNKNOWN] and T9 in store.snapshot().teams
    assert [result.outcome for result in done.results.values()] == ["keeper_disagrees"]


# -- what Keeper shows afterwards -----------------------------------------------------------------------------------


def test_a_lock_is_read_back_and_a_leaver_who_is_gone_was_only_invited(store: Store) -> None:
    keeper = node()
    keeper.shows["k0001"] = None
    applied(store, keeper, LOCKS[0])
    assert states(store) == [State.DONE] and store.snapshot().accounts["k0001"].gone


def test_a_lock_that_keeper_took_and_does_not_show_is_unknown(store: Store) -> None:
    keeper = node()
    keeper.shows["k0001"] = shown(account(ADA))
    applied(store, keeper, LOCKS[0])
    assert states(store) == [State.UNKNOWN] and store.snapshot().accounts["k0001"].active


def test_a_lock_that_could_not_be_read_back_is_unknown(store: Store) -> None:
    keeper = node()
    keeper.errors["read k0001"] = [scim.Unavailable("Ada", "read") for _ in ("before", "after")]
    applied(store, keeper, LOCKS[0])
    assert states(store) == [State.UNKNOWN]


def test_a_lock_that_could_not_be_read_back_is_told_with_one_advice(store: Store) -> None:
    """The advice for the read is not to be followed: Keeper is asked again."""
    keeper = node()
    keeper.errors["read k0001"] = [scim.Refused("Ada", "read", status=400) for _ in ("before", "after")]
    done = applied(store, keeper, LOCKS[0])
    [result] = done.results.values()
    assert result.state is State.UNKNOWN
    assert result.error.startswith("u1@example.com may or may not have been locked: could not be read back")
    assert "back (Ada was not read: Keeper refused it (HTTP 400)). There is nothing to do" in result.error
    assert "Correct" not in result.error


@pytest.mark.parametrize("refusal", [scim.Refused, scim.Forbidden])
@pytest.mark.parametrize("locked", [True, False])
def test_a_lock_that_keeper_refused_and_set_all_the_same_is_ours(
    store: Store, refusal: type[scim.KeeperError], locked: bool
) -> None:
    class Contrary(Keeper):
        async def patch_user(self, id: str, *more: object, **named: object) -> KeeperUser | None:
            if locked:
                await super().patch_user(id, *more, **named)  # type: ignore[arg-type]
            raise refusal("Ada", "locked")

    applied(store, Contrary([shown(account(ADA))]), LOCKS[0], held=snapshot([account(ADA)]))
    (row,) = store.journal(NOW)
    assert (row.state, row.outcome) == (State.UNKNOWN if locked else State.FAILED, refusal.name)
    assert store.snapshot().own_locks == ({"k0001"} if locked else set())


def test_a_lock_that_shows_after_a_refusal_is_ours_only_where_none_showed_before(store: Store) -> None:
    keeper = Keeper([replace(shown(account(ADA)), active=False)])
    keeper.errors = {"read k0001": [scim.Unavailable("Ada", "read")], "k0001": [scim.Refused("Ada", "locked")]}
    applied(store, keeper, LOCKS[0], held=snapshot([account(ADA)]))
    (row,) = store.journal(NOW)
    assert row.state is State.FAILED and not store.snapshot().own_locks


@pytest.mark.parametrize("canaries", [False, True])
def test_whom_somebody_else_has_locked_is_not_locked_once_more(store: Store, canaries: bool) -> None:
    keeper = node()
    keeper.users["k0001"] = replace(keeper.users["k0001"], active=False)
    result = applied(store, keeper, LOCKS[0], canaries=canaries)
    (row,) = store.journal(NOW)
    assert not keeper.sent and (row.state, row.outcome) == (State.DONE, LOCKED_BEFORE)
    after = store.snapshot().accounts["k0001"]
    assert after.locked_by_others and not store.snapshot().own_locks
    assert [notice.kind for notice in result.notices] == [NoticeKind.LOCKED_IN_KEEPER]
    assert not canaries or Kind.DEACTIVATE_USER not in store.open_kinds(NOW)


@pytest.mark.parametrize("held", [account(ADA, locked_by_us=True), None], ids=["marked", "without a clear answer"])
def test_a_lock_that_may_be_ours_is_sent_once_more(store: Store, held: Account | None) -> None:
    keeper = node()
    keeper.users["k0001"] = replace(keeper.users["k0001"], active=False)
    asked = replace(PEOPLE, own_locks=frozenset({"k0001"}))
    applied(store, keeper, LOCKS[0], held=snapshot([held]) if held else asked)
    assert keeper.sent == [("active=False", "k0001")]
    assert store.snapshot().accounts["k0001"].locked_by_us


@pytest.mark.parametrize("lately", ["unlocked", "put off"])
def test_a_lock_is_sent_without_a_look_only_where_that_may_show_one_that_we_have_undone(
    store: Store, lately: str
) -> None:
    """A lock that was throttled is looked at once more: an administrator may have been faster meanwhile."""
    unlocked = lately == "unlocked"
    keeper, before = node(), op(Kind.REACTIVATE_USER if unlocked else Kind.DEACTIVATE_USER, ADA)
    keeper.users["k0001"] = replace(keeper.users["k0001"], active=False)
    (number,) = store.write_ahead(store.begin_run("cycle", NOW, by="root", reason=""), [before], {}, NOW)
    store.mark_sent(number, NOW, before)
    store.record(number, *((State.DONE, NOW, "done") if unlocked else (State.PUT_OFF, NOW, "expired")))
    applied(store, keeper, LOCKS[0])
    assert keeper.sent == [("active=False", "k0001")] * unlocked
    assert store.snapshot().accounts["k0001"].locked_by_us is unlocked


@pytest.mark.parametrize("canary", [False, True])
def test_a_look_that_is_slow_makes_no_confirmation_of_a_lock_grow_old(store: Store, canary: bool) -> None:
    class Slow(Keeper):
        looks = 0

        async def user(self, id: str) -> KeeperUser | None:
            self.looks += 1
            return await super().user(id)

    class Late(Sure):
        async def of(self, op: Operation) -> Finding:
            assert keeper.looks == 1
            return await super().of(op)

    keeper = Slow([shown(one) for one in PEOPLE.accounts.values()])
    if not canary:
        store.open_kind(Kind.DEACTIVATE_USER, NOW)
    store.save(PEOPLE, store.snapshot())
    ids = store.write_ahead(store.begin_run("cycle", NOW, by="root", reason=""), LOCKS[:1], {}, NOW)
    asyncio.run(_apply([(ids[0], LOCKS[0])], PEOPLE, keeper, store, None, confirmation=Late()))
    assert states(store) == [State.DONE] and keeper.looks == 2


@pytest.mark.parametrize("what", ["unlocking", "removal"])
def test_an_answer_that_does_not_show_what_became_of_an_access_is_no_outcome(store: Store, what: str) -> None:
    """Keeper answers 204 and does nothing: what it shows then would count as somebody else's doing."""
    mine = (
        account(ADA, memberships={T9: MEMBER}) if what == "removal" else account(ADA, active=False, locked_by_us=True)
    )
    keeper = node()
    keeper.users["k0001"] = shown(mine, *((ENG,) if what == "removal" else ()))
    keeper.shows["k0001"] = keeper.users["k0001"]
    keeper.no_reply = True
    wanted = op(Kind.UPDATE_USER, ADA, remove=(ref(ENG),)) if what == "removal" else op(Kind.REACTIVATE_USER, ADA)
    applied(store, keeper, wanted, held=snapshot([mine], [team(ENG)]))
    assert states(store) == [State.UNKNOWN] and store.account("k0001") == mine


@pytest.mark.parametrize("readable", [True, False])
@pytest.mark.parametrize("what", ["unlock", "removal"])
def test_an_answer_that_repeats_a_change_is_an_outcome_only_where_nothing_denies_it(
    store: Store, what: str, readable: bool
) -> None:
    """A change that shows later would count as somebody else's, and would never be undone."""
    mine, one = account(ADA, active=False, locked_by_us=True), op(Kind.REACTIVATE_USER, ADA)
    if what == "removal":
        mine, one = account(ADA, memberships={T9: MEMBER}), replace(op(Kind.UPDATE_USER, ADA), remove=(ref(ENG),))

    class Echo(Keeper):
        async def user(self, id: str) -> KeeperUser | None:
            await super().user(id)
            return there

    there = replace(shown(mine), teams=frozenset(mine.memberships))
    keeper = Echo([there], [shown_team(ENG)])
    keeper.errors["read k0001"] = [] if readable else [scim.Unavailable("Ada", "read")]
    applied(store, keeper, one, held=snapshot([mine], [team(ENG)]))
    assert states(store) == [State.UNKNOWN if readable else State.DONE]
    row = store.account("k0001")
    assert row is not None and (row.locked_by_us or T9 in row.memberships) is readable


def test_a_creation_answered_with_somebody_elses_account_links_nobody(store: Store) -> None:
    keeper = node()
    keeper.shows["u7@example.com"] = shown(account(ADA))
    result = applied(store, keeper, op(Kind.CREATE_USER, user(7)))
    assert states(store) == [State.FAILED] and store.snapshot().accounts["k0001"] == account(ADA)
    assert [notice.kind for notice in result.notices] == [NoticeKind.CONFLICT]
    (row,) = store.journal(NOW)
    assert row.outcome == "linked_to_another" and f"led to {ADA.email}, another" in row.error


# -- canaries -------------------------------------------------------------------------------------------------------


def test_a_canary_that_passes_opens_its_kind_and_is_remembered(store: Store) -> None:
    applied(store, node(), *LOCKS, canaries=True)
    assert states(store) == [State.DONE] * 3 and store.open_kinds(NOW) == {Kind.DEACTIVATE_USER}


def test_two_canaries_that_disagree_put_their_kind_off_and_nothing_else(store: Store) -> None:
    keeper = node()
    keeper.shows = {key: shown(PEOPLE.accounts[key]) for key in ("k0001", "k0002")}
    result = applied(store, keeper, *LOCKS, op(Kind.CREATE_USER, user(7)), canaries=True)
    assert states(store) == [State.UNKNOWN, State.UNKNOWN, State.PUT_OFF, State.DONE]
    assert store.open_kinds(NOW) == {Kind.CREATE_USER}
    assert [notice.kind for notice in result.notices] == [NoticeKind.KEEPER_DISAGREES]


def test_one_subject_that_disagrees_stops_no_kind(store: Store) -> None:
    keeper = node()
    keeper.shows["k0001"] = shown(account(ADA))
    applied(store, keeper, *LOCKS, canaries=True)
    assert states(store) == [State.UNKNOWN, State.DONE, State.DONE]


def test_who_is_gone_proves_nothing_and_the_next_goes_alone(store: Store) -> None:
    keeper = node()
    keeper.shows["k0001"] = None
    applied(store, keeper, LOCKS[0], canaries=True)
    assert states(store) == [State.DONE] and not store.open_kinds(NOW)


@pytest.mark.parametrize(
    "effect",
    [
        {"active": True},
        {"attributes": {**account(ADA).shown, "userName": "other@example.com"}},
        {"teams": frozenset({T9})},
    ],
    ids=["unlocked", "another address", "out of other teams"],
)
def test_what_nobody_asked_for_stops_the_kind_at_once(store: Store, effect: dict[str, object]) -> None:
    keeper = node()
    locked = account(ADA, active=False)
    keeper.users["k0001"] = shown(locked, teams=frozenset({"t0005"}))
    base = shown(locked, teams=frozenset({"t0005", T9}))
    keeper.shows["k0001"] = replace(base, **effect)  # type: ignore[arg-type]
    joins = [op(Kind.UPDATE_USER, person, add=(ref(ENG),)) for person in (ADA, EVE)]
    applied(store, keeper, *joins, canaries=True)
    assert states(store) == [State.UNKNOWN, State.PUT_OFF] and len(keeper.sent) == 1


def test_what_others_changed_before_the_canary_is_no_effect_of_it(store: Store) -> None:
    keeper = node()
    keeper.users["k0001"] = shown(account(ADA), attributes={**account(ADA).shown, "userName": "other@example.com"})
    applied(store, keeper, op(Kind.UPDATE_USER, ADA, add=(ref(ENG),)), canaries=True)
    assert states(store) == [State.DONE] and store.open_kinds(NOW) == {Kind.UPDATE_USER}


def test_an_attribute_that_keeper_ignores_and_a_team_that_does_not_show_are_notices(store: Store) -> None:
    keeper = node()
    joins = op(Kind.CREATE_USER, user(7))
    other = {**account(user(7)).shown, "displayName": "U."}
    keeper.shows["u7@example.com"] = shown(account(user(7)), attributes=other)
    result = applied(store, keeper, joins, team_op(Kind.QUEUE_TEAM, group(8)), canaries=True)
    assert states(store) == [State.DONE] * 2 and store.open_kinds(NOW) == {Kind.CREATE_USER, Kind.QUEUE_TEAM}
    assert {notice.kind for notice in result.notices} == {
        NoticeKind.KEEPER_DISAGREES,
        NoticeKind.WAITING_FOR_APPROVAL,
    }


def test_nothing_is_said_of_what_cannot_be_read_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper, fields = node(), ("userName", "displayName")
    made = keeper.shows["u7@example.com"] = shown(account(user(7)))
    odd = replace(made, attributes={**made.attributes, **dict.fromkeys(fields, "")}, unreadable=fields)

    async def read(_: str) -> KeeperUser:
        return odd

    monkeypatch.setattr(keeper, "user", read)
    result = applied(store, keeper, op(Kind.CREATE_USER, user(7)), canaries=True)
    assert states(store) == [State.DONE] and not result.notices


def test_what_others_changed_before_the_canary_was_read_back_shows_as_drift(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = node()
    made = keeper.shows["u7@example.com"] = shown(account(user(7)))
    renamed = replace(made, attributes={**made.attributes, "displayName": "Boss"})

    async def meddled(_: str) -> KeeperUser:
        return renamed

    monkeypatch.setattr(keeper, "user", meddled)
    applied(store, keeper, op(Kind.CREATE_USER, user(7)), canaries=True)
    assert store.snapshot().accounts[made.id].settled["displayName"] == made.attributes["displayName"]


# -- beside others, and for a bounded time ---------------------------------------------------------------------------


def test_somebody_whom_another_run_has_changed_meanwhile_is_put_off_without_a_fault(store: Store) -> None:
    keeper = node()
    mark_before = store.hands.mark()
    store.hands.changed([ADA.id, account(ADA).keeper_id])
    store.save(PEOPLE, store.snapshot())
    ids = store.write_ahead(store.begin_run("cycle", NOW, by="root", reason=""), LOCKS, {}, NOW)

    async def go() -> Applied:
        return await apply(
            list(zip(ids, LOCKS, strict=True)),
            PEOPLE,
            keeper,
            store,
            clock=lambda: NOW,
            in_flight=2,
            confirmation=Sure(),
            mark=mark_before,
        )

    done = asyncio.run(go())
    assert [done.results[one].outcome for one in ids] == ["overtaken", "done", "done"]
    assert done.unfinished
    assert account(ADA).keeper_id not in {subject for _, subject in keeper.sent}


@pytest.mark.parametrize("during", ["planning", "confirmation"])
@pytest.mark.parametrize(
    ("gives", "used"),
    [
        (op(Kind.CREATE_USER, user(7)), "u7@example.com"),
        (op(Kind.UPDATE_USER, ADA, changes=(Change("userName", "", "Ada@Example.com"),)), "ada@example.com"),
        (op(Kind.UPDATE_USER, ADA, changes=(Change("externalId", "", ADA.id),)), alike_key(ADA.email)),
        (team_op(Kind.QUEUE_TEAM, group(8)), "Group 8"),
        (op(Kind.UPDATE_USER, ADA, changes=(Change("externalId", user(7).id, ADA.id),)), user(7).id),
    ],
    ids=["creation", "address", "adoption", "team", "link"],
)
def test_an_address_that_another_run_has_given_away_meanwhile_is_not_given_to_somebody_else(
    store: Store, gives: Operation, used: str, during: str
) -> None:
    """Two people may have one address where a list has lied: what is planned for one does not know of the other."""
    keeper = node()

    class Meanwhile(Sure):
        async def of(self, op: Operation) -> Finding:
            if during == "confirmation":
                store.hands.changed([used])
            return await super().of(op)

    store.save(PEOPLE, store.snapshot())
    for kind in Kind:
        store.open_kind(kind, NOW)
    ids = store.write_ahead(store.begin_run("cycle", NOW, by="root", reason=""), [gives], {}, NOW)
    mark = store.hands.mark()
    if during == "planning":
        store.hands.changed([used])
    numbered = list(zip(ids, [gives], strict=True))
    done = asyncio.run(_apply(numbered, PEOPLE, keeper, store, None, mark=mark, confirmation=Meanwhile()))
    assert [result.outcome for result in done.results.values()] == ["overtaken"] and done.unfinished
    assert keeper.sent == []


def test_a_creation_voids_what_others_have_planned_for_its_address(store: Store) -> None:
    mark = store.hands.mark()
    applied(store, node(), op(Kind.CREATE_USER, user(7)))
    assert store.hands.changed_since(mark, "u7@example.com")


def test_an_outcome_is_built_on_the_row_as_it_is_by_then(store: Store) -> None:
    """A row that was recorded beside the run is not lost to the copy that the run began with."""
    keeper = node()
    moved = replace(
        PEOPLE.accounts[account(ADA).keeper_id], left_at=NOW, review_lock=True, pilot=frozenset({"group:IT"})
    )

    class Meanwhile(Sure):
        async def of(self, op: Operation) -> Finding:
            store.put(accounts=[moved])
            return await super().of(op)

    store.save(PEOPLE, store.snapshot())
    ids = store.write_ahead(store.begin_run("cycle", NOW, by="root", reason=""), LOCKS[:1], {}, NOW)

    async def go() -> Applied:
        return await apply(
            list(zip(ids, LOCKS, strict=False)),
            PEOPLE,
            keeper,
            store,
            clock=lambda: NOW,
            in_flight=2,
            confirmation=Meanwhile(),
            mark=store.hands.mark(),
        )

    asyncio.run(go())
    kept = store.account(moved.keeper_id)
    assert kept is not None and (kept.active, kept.left_at, kept.pilot) == (False, NOW, moved.pilot)


@pytest.mark.parametrize(("reads", "waits", "asked"), [(1.0, 0.0, 1), (1.0, 60.0, 2), (40.0, 0.0, 1), (40.0, 60.0, 1)])
def test_what_grew_too_old_while_keeper_asks_everybody_to_wait_is_confirmed_once_more(
    store: Store, reads: float, waits: float, asked: int
) -> None:
    """A read that took too long, in seconds, is not repeated: that would take as long."""
    now = [0.0]
    time = Clock(boottime=lambda: now[0], wall=lambda: now[0])
    confirmed: list[float] = []

    class Busy(Keeper):
        async def calm(self) -> None:
            if confirmed:
                now[0] += waits

        @property
        def clock(self) -> Clock:
            return time

    class Slow(Sure):
        async def of(self, op: Operation) -> Finding:
            found = await super().of(op)
            confirmed.append(now[0])
            now[0] += reads
            return found

    keeper, confirmation = Busy([shown(account(ADA))]), Slow()
    confirmation.clock = time
    store.save(PEOPLE, store.snapshot())
    ids = store.write_ahead(store.begin_run("cycle", NOW, by="root", reason=""), LOCKS[:1], {}, NOW)
    asyncio.run(_apply([(ids[0], LOCKS[0])], PEOPLE, keeper, store, None, confirmation=confirmation))
    assert len(confirmed) == asked


def test_no_account_is_looked_at_before_its_lock_while_keeper_asks_everybody_to_wait(store: Store) -> None:
    asked: list[str] = []

    class Busy(Keeper):
        async def calm(self) -> None:
            asked.append("calm")

        async def user(self, id: str) -> KeeperUser | None:
            asked.append("look")
            return await super().user(id)

    keeper = Busy([shown(account(ADA))])
    held = snapshot([account(ADA)])
    applied(store, keeper, LOCKS[0], held=held)
    assert asked[:2] == ["calm", "look"]


def test_a_lock_with_little_time_for_its_reads_has_all_that_it_needs_after_everything_else(store: Store) -> None:
    class Hasty(Sure):
        async def of(self, op: Operation) -> Finding:
            if op.subject.key in self.doubted:
                self.doubted -= {op.subject.key}
                return Finding(None, Doubt(True, "no answer within 10 s"), cut=True)
            return await super().of(op)

    lately = store.write_ahead(store.begin_run("cycle", NOW, by="root", reason=""), LOCKS[:1], {}, NOW)
    store.record(lately[0], State.PUT_OFF, NOW, UNCONFIRMED, "the confirming read failed", sent=False)
    store.save(PEOPLE, store.snapshot())
    for kind in Kind:
        store.open_kind(kind, NOW)
    operations = [*LOCKS[:2], op(Kind.CREATE_USER, user(7))]
    ids = store.write_ahead(store.begin_run("cycle", NOW, by="root", reason=""), operations, {}, NOW)
    numbered, keeper = list(zip(ids, operations, strict=True)), node()
    done = asyncio.run(_apply(numbered, PEOPLE, keeper, store, None, confirmation=Hasty()))
    assert [result.outcome for result in done.results.values()] == ["done"] * 3
    assert [subject for _, subject in keeper.sent] == [account(EVE).keeper_id, "u7@example.com", account(ADA).keeper_id]


def test_nothing_that_gives_is_begun_once_the_time_is_up_and_locks_go_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.apply.TIME_BOX", -1.0)
    done = applied(store, node(), LOCKS[0], op(Kind.CREATE_USER, user(7)), team_op(Kind.QUEUE_TEAM, group(8)))
    assert sorted(result.outcome for result in done.results.values()) == ["done", "time", "time"]
    assert done.unfinished


@pytest.mark.parametrize("clock", ["boot time", "wall clock"])
def test_a_machine_that_slept_for_a_night_begins_nothing_more_that_gives(store: Store, clock: str) -> None:
    """The plan rests on what is too old, though the process has hardly run meanwhile. A lock is confirmed anew."""
    passed = {"boot time": 0.0, "wall clock": 0.0}
    time = Clock(boottime=lambda: passed["boot time"], wall=lambda: passed["wall clock"])

    class There(Keeper):
        @property
        def clock(self) -> Clock:
            return time

    class Asleep(Sure):
        async def of(self, op: Operation) -> Finding:
            if op.subject.name == "u7@example.com":
                passed[clock] += 8 * 3600
            return await super().of(op)

    keeper, confirmation = There([shown(account(ADA))], [shown_team(ENG)]), Asleep()
    confirmation.clock = time
    operations = [op(Kind.CREATE_USER, user(7)), op(Kind.CREATE_USER, user(8)), team_op(Kind.QUEUE_TEAM, group(8))]
    operations.append(op(Kind.UPDATE_USER, ADA, remove=(ref(ENG),)))
    store.save(PEOPLE, store.snapshot())
    for kind in Kind:
        store.open_kind(kind, NOW)
    ids = store.write_ahead(store.begin_run("cycle", NOW, by="root", reason=""), operations, {}, NOW)
    numbered = list(zip(ids, operations, strict=True))
    done = asyncio.run(_apply(numbered, PEOPLE, keeper, store, None, confirmation=confirmation))
    assert {r.operation.subject.name: r.outcome for r in done.results.values()} == {
        "Group 8": "done",
        "u7@example.com": "time",
        "u8@example.com": "time",
        ADA.email: "done",
    }


def test_what_was_put_off_for_time_comes_first_in_the_next_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else newcomers with names that sort before could keep them waiting for ever."""
    early, late = op(Kind.CREATE_USER, user(7)), op(Kind.CREATE_USER, user(8))
    with monkeypatch.context() as patch:
        patch.setattr("reconciler.apply.TIME_BOX", -1.0)
        applied(store, node(), late)
    keeper = node()
    applied(store, keeper, LOCKS[0], early, late)
    assert [subject for _, subject in keeper.sent] == ["k0001", "u8@example.com", "u7@example.com"]


def test_the_unconfirmed_part_gets_a_row_of_its_own_and_the_rest_goes(store: Store) -> None:
    service = JumpCloud([user(1, 9, 8)], [ENG, group(8)])
    held = snapshot(
        [account(ADA, memberships={T9: MEMBER, team(group(8)).keeper_id: MEMBER})], [team(ENG), team(group(8))]
    )
    keeper = Keeper([shown(account(ADA), ENG, group(8))], [shown_team(ENG), shown_team(group(8))])
    service.member_of[ADA.id] = frozenset({group(8).id})
    both = op(Kind.UPDATE_USER, ADA, remove=(ref(ENG), ref(group(8))))
    done = applied(store, keeper, both, held=held, jumpcloud=service)
    assert keeper.sent == [(f"-{T9}", account(ADA).keeper_id)]
    first, second = sorted(store.journal(NOW), key=lambda row: row.id)
    assert (first.state, first.operation.remove) == (State.DONE, (ref(ENG),))
    assert (second.state, second.outcome, second.operation.remove) == (
        State.PUT_OFF,
        "unconfirmed",
        (ref(group(8)),),
    )
    assert [notice.kind for notice in done.notices] == [NoticeKind.UNCONFIRMED]


# -- what Keeper forbids ----------------------------------------------------------------------------------------------


def forbidden() -> scim.KeeperError:
    return scim.Forbidden("Ada", "locked")


def test_what_keeper_forbids_for_one_person_stops_nobody_else(store: Store) -> None:
    keeper = node()
    keeper.errors[account(ADA).keeper_id] = [forbidden()]
    done = applied(store, keeper, *LOCKS)
    assert states(store) == [State.FAILED, State.DONE, State.DONE] and not done.stopped


def test_an_apply_stops_where_a_harmless_read_is_forbidden_too(store: Store) -> None:
    keeper = node()
    keeper.errors[account(ADA).keeper_id] = [forbidden()]
    keeper.errors["probe"] = [forbidden()]
    done = applied(store, keeper, *LOCKS, op(Kind.CREATE_USER, user(7)))
    assert done.stopped and set(states(store)) == {State.PUT_OFF}
    assert store.snapshot().failures == {}, "nobody rests for what is forbidden to all"


def test_nobody_is_at_fault_for_what_is_forbidden_to_all_while_that_is_found_out(store: Store) -> None:
    """Two requests are under way: the second is refused while the harmless read of the first has no answer yet."""

    class Slow(Keeper):
        async def probe(self) -> None:
            for _ in range(50):
                await asyncio.sleep(0)
            await super().probe()

    keeper = Slow([shown(held) for held in PEOPLE.accounts.values()])
    keeper.errors = {one: [forbidden()] for one in (account(ADA).keeper_id, account(EVE).keeper_id, "probe")}
    assert applied(store, keeper, *LOCKS).stopped
    assert set(states(store)) == {State.PUT_OFF}
    assert store.snapshot().failures == {}


@pytest.mark.parametrize(
    ("errors", "why"),
    [
        ([scim.SeatsExceeded("Ada", "created")], "all licensed seats are in use"),
        ([scim.Forbidden("Ada", "created")] * 3, "Keeper forbids it for 3 users or teams in a row"),
    ],
)
def test_why_the_rest_of_a_kind_is_put_off_says_what_keeper_said(
    store: Store, errors: list[Exception], why: str
) -> None:
    """Keeper does as it is documented then."""
    keeper, people = node(), [user(number) for number in range(20, 26)]
    keeper.errors = {person.email: [error] for person, error in zip(people, errors, strict=False)}
    done = applied(store, keeper, *(op(Kind.CREATE_USER, person) for person in people))
    put_off = [result.error for result in done.results.values() if result.state is State.PUT_OFF]
    assert put_off and set(put_off) == {f"no further create_user is sent this time: {why}"}


def test_whoever_is_in_trouble_comes_last_in_their_kind(store: Store) -> None:
    keeper = node()
    keeper.errors = {
        "k0001": [forbidden()],
        "k0002": [scim.Unanswered("Eve", "locked", uncertain=True)],
    }
    applied(store, keeper, *LOCKS[:2])
    keeper.sent.clear()
    applied(store, keeper, *LOCKS)
    assert [key for _, key in keeper.sent] == ["k0003", "k0001", "k0002"]


def test_a_kind_that_is_forbidden_three_times_in_a_row_rests(store: Store) -> None:
    keeper = node()
    people = [user(number) for number in range(20, 26)]
    keeper.errors = {person.email: [forbidden()] for person in people}
    applied(store, keeper, LOCKS[0], *(op(Kind.CREATE_USER, person) for person in people))
    found = Counter(state for state in states(store))
    assert found[State.DONE] == 1 and found[State.FAILED] in (3, 4) and found[State.PUT_OFF] >= 2


def test_nothing_is_sent_where_only_a_team_without_an_id_is_left_after_the_confirmation(store: Store) -> None:
    service = JumpCloud([user(1, 9)], [ENG])
    held = snapshot([account(ADA, memberships={T9: MEMBER})], [team(ENG)])
    keeper = Keeper([shown(account(ADA), ENG)], [shown_team(ENG)])
    moves = op(Kind.UPDATE_USER, ADA, add=(ref(group(8), ""),), remove=(ref(ENG),))
    done = applied(store, keeper, moves, held=held, jumpcloud=service)
    assert keeper.sent == []
    (result,) = done.results.values()
    assert result.state is State.PUT_OFF and "Group 8" in result.error and "Group 9" in result.error


def test_a_newcomer_who_is_never_shown_has_one_account(store: Store) -> None:
    """Though an account of theirs was there before."""

    class Blind(Keeper):
        async def user(self, _: str) -> KeeperUser | None:
            return None

    former = account(ADA, gone=True, active=False, locked_by_us=True, keeper_id="k0099")
    keeper = Blind()
    keeper.shows[ADA.email] = shown(account(ADA, keeper_id="k0777"))
    applied(store, keeper, op(Kind.CREATE_USER, ADA), held=snapshot([former]), canaries=True)
    assert states(store) == [State.UNKNOWN]
    assert [one.keeper_id for one in store.snapshot().accounts.values() if one.managed] == ["k0777"]
