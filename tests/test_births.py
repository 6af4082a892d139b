"""The bond by birth: what a creation is answered with, and what is undone of a link."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler import keeper as scim
from reconciler.apply import Applied, apply
from reconciler.births import LINKED, UNDO_DUE, due, undoing
from reconciler.confirm import Confirmation, Finding
from reconciler.decisions import adopt, disown
from reconciler.model import (
    Account,
    Failure,
    KeeperUser,
    Listing,
    Membership,
    OddRecord,
    RefusedBirth,
    Snapshot,
    Standing,
    Status,
    Takeover,
)
from reconciler.person import in_snapshot
from reconciler.plan import Change, Kind, NoticeKind, Operation, Rule
from reconciler.policy import Drift, Policy
from reconciler.rows import GONE, State
from reconciler.settle import NEVER, PATIENCE, TOO_EARLY, settle
from reconciler.snapshot import observed, superseded
from reconciler.store import Store
from tests.fakes import Keeper, Sure
from tests.operations import op, ref, shown, shown_team
from tests.world import MEMBER, NOW, account, decide, directory, group, jc, snapshot, team, user

HOUR = timedelta(hours=1)
ADA, EVE = user(1, direct=True), user(2, direct=True)
ENG = group(9)
T9 = team(ENG).keeper_id
JOINS = op(Kind.CREATE_USER, ADA, add=(ref(ENG),))


def stranger(number: int = 5, **values: object) -> Account:
    """An account that nobody manages."""
    one = {"userName": f"b{number}@example.com", "externalId": "", "displayName": "Bob", "name.givenName": "Bob"}
    base = Account(f"k{number:04}", Standing.UNMANAGED, True, shown={**one, "name.familyName": ""})
    return replace(base, **values)  # type: ignore[arg-type]


def linked(held: Account, **values: object) -> KeeperUser:
    """The account after Keeper linked Ada's creation to it, and took all of the request."""
    names = {c.attribute: c.after for c in JOINS.changes if c.attribute != "userName"}
    base = KeeperUser(held.keeper_id, {**held.shown, **names}, held.active, frozenset({T9}))
    return replace(base, **values)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "reconciler.db", write=True) as opened:
        yield opened


def applied(
    store: Store, keeper: Keeper, held: Snapshot, *operations: Operation, confirmation: Confirmation | None = None
) -> Applied:
    store.save(held, store.snapshot())
    for kind in Kind:
        store.open_kind(kind, NOW)
    ids = store.write_ahead(store.begin_run("cycle", NOW, by="root", reason=""), operations, {}, NOW)

    async def go() -> Applied:
        return await apply(
            list(zip(ids, operations, strict=True)),
            held,
            keeper,
            store,
            clock=lambda: NOW,
            in_flight=2,
            confirmation=confirmation or Sure(),
            mark=store.hands.mark(),
        )

    return asyncio.run(go())


def node(*held: Account) -> Keeper:
    return Keeper([shown(one) for one in held], [shown_team(ENG)])


def outcomes(store: Store) -> list[tuple[Kind, State, str]]:
    return [(row.operation.kind, row.state, row.outcome) for row in sorted(store.journal(NOW), key=lambda one: one.id)]


# -- the executor ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "held",
    [
        stranger(),
        stranger(active=False),
        stranger(memberships={T9: Membership(ours=False, seen=True, shown=True)}),
        stranger(shown={**stranger().shown, "externalId": EVE.id}),
        stranger(shown={**stranger().shown, "externalId": "from the former push"}),
        stranger(standing=Standing.DISOWNED, jumpcloud_id=EVE.id),
        stranger(gone=True, missed_at=NOW - HOUR),
        stranger(gone=True, missed_at=NOW - HOUR, active=False),
        stranger(gone=True, missed_at=NOW - HOUR, memberships={T9: Membership(ours=False, seen=True, shown=True)}),
        superseded(account(EVE, gone=True, active=False), NOW - HOUR),
        account(EVE),
        account(EVE, active=False, locked_by_us=True),
        account(EVE, active=False, gone=True, others_lock=True),
        account(EVE, memberships={T9: MEMBER}),
    ],
)
@pytest.mark.parametrize("unlocks", [True, False])
def test_a_link_to_an_account_that_is_not_new_is_undone_at_once(store: Store, held: Account, unlocks: bool) -> None:
    keeper = node(held)
    keeper.shows[ADA.email] = linked(held, active=held.active or unlocks)
    done = applied(store, keeper, snapshot([held], [team(ENG)]), JOINS)
    after = keeper.users[held.keeper_id]
    assert {k: v for k, v in after.attributes.items() if v} == {k: v for k, v in held.shown.items() if v}
    assert (after.active, after.teams or frozenset()) == (held.active, frozenset(held.memberships))
    assert store.account(held.keeper_id) == held
    assert outcomes(store) == [(Kind.CREATE_USER, State.FAILED, LINKED), (Kind.UPDATE_USER, State.DONE, "done")]
    assert [notice.kind for notice in done.notices] == [NoticeKind.CONFLICT]
    assert held.email in done.notices[0].message and f"reconciler adopt {ADA.email}" in done.notices[0].message
    birth = store.snapshot().refused_births[ADA.id]
    assert birth == RefusedBirth(ADA.email, held.keeper_id, at=NOW) and ADA.id not in store.snapshot().failures


def test_who_is_created_anew_leaves_the_memory_of_the_former_account(store: Store) -> None:
    former = account(ADA, gone=True, active=False, missed_at=NOW - HOUR)
    keeper = node()
    keeper.shows[ADA.email] = shown(account(ADA, keeper_id="k9"))
    applied(store, keeper, snapshot([former], [team(ENG)]), JOINS)
    held = store.snapshot().accounts
    assert held[former.keeper_id] == superseded(former, NOW) and held[former.keeper_id].owned_once == ADA.id
    assert held["k9"].managed and held["k9"].jumpcloud_id == ADA.id


def test_who_gets_their_own_former_account_back_is_linked_to_it(store: Store) -> None:
    former = superseded(account(ADA, keeper_id="k9", gone=True, active=False), NOW - HOUR)
    keeper = node(former)
    keeper.shows[ADA.email] = linked(former, active=True)
    applied(store, keeper, snapshot([former, account(ADA, gone=True, active=False)], [team(ENG)]), JOINS)
    assert outcomes(store) == [(Kind.CREATE_USER, State.DONE, "done")]
    assert {k: one.managed for k, one in store.snapshot().accounts.items()} == {"k9": True, "k0001": False}


def test_an_account_that_kept_its_own_is_left_alone(store: Store) -> None:
    held = stranger()
    keeper = node(held)
    keeper.shows[ADA.email] = shown(held)
    applied(store, keeper, snapshot([held], [team(ENG)]), JOINS)
    assert len(keeper.sent) == 1 and outcomes(store) == [(Kind.CREATE_USER, State.FAILED, LINKED)]
    assert store.snapshot().refused_births == {ADA.id: RefusedBirth(ADA.email, held.keeper_id, at=NOW)}


def test_a_new_account_with_another_address_or_with_the_id_of_somebody_else_is_no_birth(store: Store) -> None:
    for number, attributes in enumerate(({"userName": "b6@example.com"}, {"externalId": EVE.id})):
        keeper = node()
        keeper.shows[ADA.email] = linked(stranger(6), attributes={**account(ADA).shown, **attributes})
        applied(store, keeper, snapshot([], [team(ENG)]), JOINS)
        made = keeper.users["k0006"]
        assert made.attributes["externalId"] in ("", EVE.id) and not made.teams, number
        assert not store.snapshot().accounts


@pytest.mark.parametrize("address", [ADA.email, ADA.email.title()])
def test_a_new_account_with_the_same_address_is_born(store: Store, address: str) -> None:
    keeper = node()
    keeper.shows[ADA.email] = KeeperUser("k0006", {**account(ADA).shown, "userName": address}, True)
    applied(store, keeper, snapshot([], [team(ENG)]), JOINS)
    assert store.snapshot().accounts["k0006"].jumpcloud_id == ADA.id
    assert outcomes(store) == [(Kind.CREATE_USER, State.DONE, "done")]


def test_an_account_that_a_creation_is_answered_with_locked_was_not_given_its_teams(store: Store) -> None:
    """Nobody new is created locked: somebody made it after the list, and it has the teams that it shows."""
    keeper = node()
    keeper.shows[ADA.email] = replace(shown(account(ADA)), active=False)
    applied(store, keeper, snapshot([], [team(ENG)]), JOINS)
    made = store.snapshot().accounts["k0001"]
    assert made.jumpcloud_id == ADA.id and not made.locked_by_us
    opened = replace(made, active=True)
    member = replace(ADA, groups=frozenset({ENG.id}))
    again = decide(directory([member], [ENG]), snapshot([opened], [team(ENG)])).plan.operations
    assert [one.add for one in again] == [JOINS.add]


def test_an_account_that_another_run_lists_while_its_creation_is_on_its_way_is_born(store: Store) -> None:
    class Meanwhile(Sure):
        async def of(self, op: Operation) -> Finding:
            store.put(accounts=[account(ADA, standing=Standing.UNMANAGED, jumpcloud_id="")])
            return await super().of(op)

    keeper = node()
    keeper.shows[ADA.email] = shown(account(ADA))
    applied(store, keeper, snapshot([], [team(ENG)]), JOINS, confirmation=Meanwhile())
    assert store.snapshot().accounts["k0001"].jumpcloud_id == ADA.id


def test_an_undo_that_is_refused_is_asked_for_again_by_the_next_plan(store: Store) -> None:
    held = stranger()
    keeper = node(held)
    keeper.shows[ADA.email] = linked(held)
    keeper.errors[held.keeper_id] = [scim.Refused("b", "changed")] * 4
    applied(store, keeper, snapshot([held], [team(ENG)]), JOINS)
    assert outcomes(store)[1] == (Kind.UPDATE_USER, State.FAILED, "refused")
    birth = store.snapshot().refused_births[ADA.id]
    still = replace(held, shown=linked(held).attributes)
    made = decide(directory([ADA]), snapshot([still], [team(ENG)], refused_births={ADA.id: birth}))
    assert [o.rule for o in made.plan.operations] == [Rule.UNDONE]
    assert {n.kind for n in made.plan.notices if n.subject.key == ADA.id} == {NoticeKind.CONFLICT}
    gone_right = decide(directory([ADA]), snapshot([held], [team(ENG)], refused_births={ADA.id: birth}))
    assert gone_right.plan.operations == ()


def test_an_undo_outlives_a_later_creation_that_is_done_and_refuses_nothing_more(store: Store) -> None:
    """The account was not there when the person was created under another address."""
    held, moved = stranger(), replace(ADA, email="b6@example.com")
    keeper = node(held)
    keeper.shows[ADA.email] = linked(held)
    keeper.shows[moved.email] = shown(account(moved))
    keeper.errors[held.keeper_id] = [scim.Refused("b", "changed")] * 4
    applied(store, keeper, snapshot([held], [team(ENG)]), JOINS)
    adopt(store, NOW, "root", "hers", email=ADA.email)
    undo = store.snapshot().refused_births[ADA.id].undo
    applied(store, keeper, replace(store.snapshot(), accounts={}), op(Kind.CREATE_USER, moved))
    assert store.snapshot().refused_births == {ADA.id: RefusedBirth("", held.keeper_id, undo=undo, at=NOW)}
    back = replace(held, shown=linked(held).attributes)
    now = replace(store.snapshot(), accounts={**store.snapshot().accounts, held.keeper_id: back})
    [due_now] = decide(directory([moved]), now).plan.operations
    applied(store, keeper, now, due_now)
    assert due_now.rule is Rule.UNDONE and not store.snapshot().refused_births


def test_an_undo_that_keeper_takes_and_does_not_carry_out_is_a_failure(store: Store) -> None:
    held = stranger()
    keeper = node(held)
    keeper.shows = {ADA.email: linked(held), held.keeper_id: linked(held)}
    applied(store, keeper, snapshot([held], [team(ENG)]), JOINS)
    assert outcomes(store)[1] == (Kind.UPDATE_USER, State.FAILED, "refused")


def linked_while_in_hand(store: Store, keeper: Keeper, held: Account) -> Applied:
    """Ada's creation is linked to the account while another run has that in hand."""
    keeper.shows[ADA.email] = linked(held)

    class InHand(Sure):
        async def of(self, op: Operation) -> Finding:
            store.hands._locks[held.jumpcloud_id or held.keeper_id] = asyncio.Lock()
            return await super().of(op)

    done = applied(store, keeper, snapshot([held], [team(ENG)]), JOINS, confirmation=InHand())
    store.hands._locks.clear()
    return done


def test_an_account_that_another_run_has_in_hand_is_given_back_by_the_next_cycle(store: Store) -> None:
    held = stranger()
    done = linked_while_in_hand(store, node(held), held)
    assert outcomes(store)[1] == (Kind.UPDATE_USER, State.PUT_OFF, UNDO_DUE) and done.unfinished
    assert store.snapshot().refused_births[ADA.id].undo is not None


def test_a_plan_that_does_not_know_of_a_link_takes_no_id_from_the_account(store: Store) -> None:
    """A resync of the owner, planned while the creation was on its way, would hide what is to be undone with the id."""
    held = account(EVE, active=False)
    linked_while_in_hand(store, node(held), held)
    keeper = node(held)
    own = op(Kind.UPDATE_USER, EVE, changes=(Change("externalId", ADA.id, EVE.id),))
    applied(store, keeper, snapshot([held], [team(ENG)]), own)
    assert outcomes(store)[-1] == (Kind.UPDATE_USER, State.PUT_OFF, "put_off") and not keeper.sent


def test_a_team_that_the_plan_gives_to_the_owner_is_not_taken_back(store: Store) -> None:
    """Their membership may wait for approval, unseen, since before the state file was lost."""
    held = account(EVE)
    keeper = node(held)
    keeper.shows[ADA.email] = linked(held)
    given = op(Kind.UPDATE_USER, EVE, changes=(), add=(ref(ENG),))
    applied(store, keeper, snapshot([held], [team(ENG)]), JOINS, given)
    assert not [what for what, _ in keeper.sent if f"-{T9}" in what]
    assert keeper.users[held.keeper_id].teams == frozenset({T9})


def test_an_undo_rests_on_no_evidence_of_the_creation() -> None:
    assert not Sure().concerns(op(Kind.UPDATE_USER, ADA, rule=Rule.UNDONE, remove=(ref(ENG),)))


# -- the plan -------------------------------------------------------------------------------------------------------


def test_the_address_is_not_created_again_until_it_changes_or_that_account_ends() -> None:
    births = {ADA.id: RefusedBirth(ADA.email, "k0005", at=NOW)}
    made = decide(directory([ADA]), snapshot([stranger()], refused_births=births))
    assert made.plan.operations == ()
    assert any(n.kind is NoticeKind.CONFLICT and "b5@example.com" in n.message for n in made.plan.notices)
    for wanted, held in (
        (replace(ADA, email="other@example.com"), [stranger()]),
        (ADA, []),
        (ADA, [account(EVE, keeper_id="k0005", gone=True)]),
        (ADA, [stranger(gone=True, missed_at=NOW + HOUR)]),
    ):
        again = decide(directory([wanted, EVE]), snapshot(held, refused_births=births))
        assert Kind.CREATE_USER in {o.kind for o in again.plan.operations if o.subject.key == ADA.id}


def test_an_account_that_is_back_under_a_record_that_cannot_be_read_has_not_ended() -> None:
    lost = stranger(gone=True, missed_at=NOW)
    still = RefusedBirth(ADA.email, "k0005", undo=undoing(JOINS, linked(stranger()), stranger()), at=NOW - HOUR)
    odd = OddRecord("user", "", "k0005", "", ("userName", "externalId"))
    held = snapshot([lost], [team(ENG)], refused_births={ADA.id: still})
    assert [o.kind for o in decide(directory([ADA]), held).plan.operations] == [Kind.CREATE_USER]
    made = decide(directory([ADA]), replace(held, odd=(odd,)))
    told = [n.message for n in made.plan.notices if n.kind is NoticeKind.CONFLICT]
    assert not made.plan.operations and len(told) == 1 and "is not undone yet" in told[0]


def test_an_account_that_no_list_showed_when_it_answered_has_not_ended() -> None:
    births = {ADA.id: RefusedBirth(ADA.email, "k0005", at=NOW)}
    for missed in (NOW - HOUR, NOW):
        held = stranger(gone=True, missed_at=missed)
        assert not decide(directory([ADA]), snapshot([held], refused_births=births)).plan.operations


def test_who_is_out_of_scope_is_told_nothing_of_a_creation_that_was_refused() -> None:
    births = {ADA.id: RefusedBirth(ADA.email, "k0005")}
    made = decide(directory([replace(ADA, direct=False)]), snapshot([stranger()], refused_births=births))
    assert not [n for n in made.plan.notices if n.subject.key == ADA.id]


def test_an_account_that_has_the_address_by_now_is_adopted_and_nothing_is_undone() -> None:
    held = stranger(shown={**stranger().shown, "userName": ADA.email})
    made = decide(directory([ADA]), snapshot([held], refused_births={ADA.id: RefusedBirth(ADA.email, held.keeper_id)}))
    assert [subject.name for subject in made.plan.adopts] == [ADA.email]


@pytest.mark.parametrize("ours", [True, False])
def test_a_lock_that_a_link_has_undone_stays_its_owners_when_the_person_leaves(ours: bool) -> None:
    held = account(EVE, active=False, locked_by_us=ours)
    still, births = standing(held)
    births = {ADA.id: replace(births[ADA.id], undo=undoing(JOINS, linked(held, active=True), held))}
    left = snapshot([replace(still, active=True)], [team(ENG)], refused_births=births)
    leaver = replace(EVE, status=Status.SUSPENDED)
    kinds = [o.kind for o in decide(directory([ADA, leaver]), left).plan.operations if o.subject.key == EVE.id]
    assert set(kinds) == {Kind.UPDATE_USER, *([Kind.DEACTIVATE_USER] if ours else [])}


def test_an_owner_whose_account_is_put_right_anyway_is_sent_one_request() -> None:
    held = account(EVE)
    undo = undoing(JOINS, linked(held), held)
    still = replace(held, shown=linked(held).attributes)
    births = {ADA.id: RefusedBirth(ADA.email, held.keeper_id, undo=undo)}
    made = decide(directory([ADA, EVE]), snapshot([still], [team(ENG)], refused_births=births))
    changed = [c.attribute for o in made.plan.operations for c in o.changes if o.subject.keeper_id == held.keeper_id]
    assert sorted(changed) == sorted(set(changed)) and "externalId" in changed


def standing(held: Account, address: str = ADA.email) -> tuple[Account, dict[str, RefusedBirth]]:
    """The account while the link of Ada's creation stands, and what is known of that."""
    births = {ADA.id: RefusedBirth(address, held.keeper_id, undo=undoing(JOINS, linked(held), held))}
    return replace(held, shown=linked(held).attributes), births


def test_whose_id_a_link_hides_gets_no_second_account() -> None:
    """Somebody else's id was there before, on an account with another address, which is a conflict (seed 10021734)."""
    still, births = standing(stranger(shown={**stranger().shown, "externalId": EVE.id}))
    made = decide(directory([ADA, EVE]), snapshot([still], [team(ENG)], refused_births=births))
    assert [o.rule for o in made.plan.operations] == [Rule.UNDONE]
    told = {n.subject.key: n.message for n in made.plan.notices if n.kind is NoticeKind.CONFLICT}
    assert "carries this person's JumpCloud id" in told[EVE.id] and told.keys() == {ADA.id, EVE.id}
    assert made.snapshot.accounts[still.keeper_id].shown == still.shown


def test_who_has_address_and_id_of_an_account_is_adopted_while_a_link_hides_the_id() -> None:
    own = {**stranger().shown, "userName": EVE.email, "externalId": EVE.id}
    still, births = standing(stranger(shown=own))
    made = decide(directory([ADA, EVE]), snapshot([still], [team(ENG)], refused_births=births))
    assert [subject.key for subject in made.plan.adopts] == [EVE.id]
    changes = {c.attribute: (c.before, c.after) for o in made.plan.operations for c in o.changes}
    assert changes["externalId"] == (ADA.id, EVE.id)
    assert made.snapshot.accounts[still.keeper_id].former_external_id == ""


def test_adopt_gives_nobody_an_account_by_the_id_that_a_link_has_left_there() -> None:
    held = stranger(shown={**stranger().shown, "externalId": "from the former push"}, takeover=Takeover.AS_GHOST)
    still, births = standing(held)
    made = decide(directory([replace(ADA, direct=False)]), snapshot([still], [team(ENG)], refused_births=births))
    after = made.snapshot.accounts[still.keeper_id]
    assert after.managed and (after.jumpcloud_id, after.former_external_id) == ("", "from the former push")


def test_a_second_link_gives_back_what_was_there_before_the_first(store: Store) -> None:
    held = stranger(shown={**stranger().shown, "externalId": "from the former push"})
    still, births = standing(held)
    keeper = node(held)
    linked_while_in_hand(store, keeper, held)
    joins = op(Kind.CREATE_USER, EVE)
    keeper.shows[EVE.email] = linked(held, attributes={**still.shown, "externalId": EVE.id})
    # The plan was made before the first link, which an answer about the account has shown since.
    applied(store, keeper, snapshot([still], [team(ENG)]), joins)
    assert keeper.users[held.keeper_id].attributes["externalId"] == "from the former push"
    now = replace(still, shown={**still.shown, "externalId": EVE.id})
    former = snapshot([still], [team(ENG)], refused_births=births)
    found, _ = settle([(7, joins, SENT)], snapshot([now], [team(ENG)], refused_births=births), former, NOW)
    undo = found[7].undo
    assert undo is not None and ("externalId", EVE.id, "from the former push") in {
        (one.attribute, one.before, one.after) for one in undo.changes
    }


def test_adopt_lets_the_creation_be_repeated_and_the_account_be_theirs(store: Store) -> None:
    held = stranger()
    keeper = node(held)
    keeper.shows[ADA.email] = linked(held)
    applied(store, keeper, snapshot([held], [team(ENG)]), JOINS)
    assert "b5@example.com" in adopt(store, NOW, "root", "hers", email=ADA.email)
    before = store.snapshot()
    assert before.refused_births[ADA.id].agreed
    [again] = decide(directory([ADA]), before).plan.operations
    assert again.rule is Rule.ADOPTED and again.kind is Kind.CREATE_USER
    applied(store, keeper, before, again)
    taken = store.snapshot().accounts[held.keeper_id]
    assert taken.jumpcloud_id == ADA.id and taken.managed and not store.snapshot().refused_births


def test_adopt_gives_nobody_an_account_that_is_managed_for_somebody_else(store: Store) -> None:
    held = account(EVE)
    keeper = node(held)
    for _ in range(2):
        keeper.shows[ADA.email] = linked(held)
        before = store.snapshot() if store.snapshot().accounts else snapshot([held], [team(ENG)])
        [joins] = [o for o in decide(directory([ADA, EVE]), before).plan.operations if o.kind is Kind.CREATE_USER]
        applied(store, keeper, before, joins)
        assert store.account(held.keeper_id) == held
        assert not store.snapshot().refused_births[ADA.id].agreed
        adopt(store, NOW, "root", "", email=ADA.email)


# -- without an answer ----------------------------------------------------------------------------------------------


SENT = NOW - PATIENCE


def test_a_row_that_an_earlier_list_had_is_no_birth_and_its_link_is_planned_to_be_undone() -> None:
    for held in (stranger(), account(EVE), stranger(shown={**stranger().shown, "externalId": EVE.id})):
        former = snapshot([held], [team(ENG)])
        now = replace(held, shown=linked(held).attributes, memberships={T9: replace(MEMBER, ours=False)})
        found, after = settle([(7, JOINS, SENT)], snapshot([now], [team(ENG)]), former, NOW)
        assert (found[7].state, found[7].linked) == (State.FAILED, held.keeper_id)
        made = decide(directory([ADA, EVE]), after)
        assert ADA.id not in {a.jumpcloud_id for a in made.snapshot.accounts.values()}
        back = [o for o in made.plan.operations if o.subject.keeper_id == held.keeper_id]
        restored = {c.attribute: c.after for o in back for c in o.changes}
        assert restored["externalId"] == held.shown["externalId"]
        assert {t.keeper_id for o in back for t in o.remove} == {T9}
        assert not [o for o in made.plan.operations if o.kind is Kind.CREATE_USER and o.subject.key == ADA.id]


def test_a_link_to_a_recycled_address_is_never_taken_for_an_adoption() -> None:
    held = stranger(shown={**stranger().shown, "userName": ADA.email, "externalId": jc(77)})
    now = replace(held, shown={**held.shown, "externalId": ADA.id})
    _, after = settle([(7, JOINS, SENT)], snapshot([now]), snapshot([held]), NOW)
    made = decide(directory([ADA]), after)
    assert not made.snapshot.accounts["k0005"].managed
    assert [(o.rule, o.changes) for o in made.plan.operations] == [
        (Rule.UNDONE, (Change("externalId", ADA.id, jc(77)),))
    ]


def test_what_keeper_does_not_show_yet_is_asked_again_after_two_minutes() -> None:
    for kind, held in (
        (Kind.CREATE_USER, snapshot([])),
        (Kind.DEACTIVATE_USER, snapshot([account(ADA)])),
        (Kind.REACTIVATE_USER, snapshot([account(ADA, active=False, locked_by_us=True)])),
    ):
        early, _ = settle([(7, op(kind, ADA), NOW - timedelta(seconds=119))], held, held, NOW)
        late, _ = settle([(7, op(kind, ADA), SENT)], held, held, NOW)
        assert early[7] == TOO_EARLY and late[7] == NEVER


def test_who_may_still_be_changed_is_locked_at_most() -> None:
    held = snapshot([account(ADA, active=False, locked_by_us=True)])
    assert decide(directory([ADA]), held).plan.operations
    assert decide(directory([ADA]), held, uncertain=frozenset({ADA.id})).plan.operations == ()
    lock = decide(directory([]), snapshot([account(ADA)]), uncertain=frozenset({ADA.id})).plan.operations
    assert [o.kind for o in lock] == [Kind.DEACTIVATE_USER]


# -- whose lock it is -----------------------------------------------------------------------------------------------


def recorded(store: Store, kind: Kind, state: State, outcome: str = "done", error: str = "") -> int:
    [number] = store.write_ahead(store.begin_run("cycle", NOW, by="root", reason=""), [op(kind, ADA)], {}, NOW)
    if state is not State.SENT:
        store.record(number, state, NOW, outcome, error)
    else:
        store.mark_sent(number, NOW, op(kind, ADA))
    return number


@pytest.mark.parametrize("state", [State.SENT, State.UNKNOWN, State.FAILED])
def test_a_lock_found_after_one_of_ours_without_a_clear_answer_is_ours(store: Store, state: State) -> None:
    recorded(store, Kind.REACTIVATE_USER, State.DONE)
    recorded(store, Kind.DEACTIVATE_USER, state, "settled", NEVER.words)
    held = snapshot([account(ADA, active=False)], own_locks=store.snapshot().own_locks)
    _, after = settle([], held, held, NOW)
    assert after.accounts["k0001"].locked_by_us
    assert [o.kind for o in decide(directory([ADA]), after).plan.operations] == [Kind.REACTIVATE_USER]


@pytest.mark.parametrize("answered", [True, False])
def test_a_lock_of_ours_says_nothing_of_another_account_that_a_creation_meets(store: Store, answered: bool) -> None:
    """Keeper deleted the account that we locked, and an administrator has made and locked the one that is met."""
    recorded(store, Kind.DEACTIVATE_USER, State.DONE)
    met = replace(stranger(active=False), shown=account(ADA).shown)
    keeper, held = node(met), snapshot([account(ADA, active=False, gone=True)], [team(ENG)])
    if answered:
        keeper.shows[ADA.email] = shown(met)
        applied(store, keeper, held, JOINS)
        after = store.snapshot()
    else:
        number = recorded(store, Kind.CREATE_USER, State.UNKNOWN)
        there = replace(held, accounts={**held.accounts, met.keeper_id: met}, own_locks=store.snapshot().own_locks)
        _, after = settle([(number, op(Kind.CREATE_USER, ADA), SENT)], there, held, NOW)
    found = after.accounts[met.keeper_id]
    assert found.managed and not (found.active or found.locked_by_us)


def test_a_lock_found_a_day_after_lists_have_denied_ours_is_somebody_elses(store: Store) -> None:
    recorded(store, Kind.DEACTIVATE_USER, State.FAILED, "settled", NEVER.words)
    for hours, locked in ((23, "k0001"), (25, "")):
        store.begin_run("cycle", NOW + timedelta(hours=hours), by="root", reason="")
        assert store.snapshot().own_locks == {locked} - {""}


def test_a_lock_after_a_clear_answer_of_ours_is_somebody_elses(store: Store) -> None:
    recorded(store, Kind.DEACTIVATE_USER, State.FAILED, "settled", NEVER.words)
    recorded(store, Kind.DEACTIVATE_USER, State.DONE)
    recorded(store, Kind.REACTIVATE_USER, State.DONE)
    assert store.snapshot().own_locks == frozenset()
    recorded(store, Kind.DEACTIVATE_USER, State.FAILED, "refused", "400")
    assert store.snapshot().own_locks == frozenset(), "refused is a clear answer"


@pytest.mark.parametrize("state", [State.DONE, State.FAILED])
def test_a_lock_of_ours_is_none_once_the_account_is_somebody_elses(store: Store, state: State) -> None:
    recorded(store, Kind.DEACTIVATE_USER, State.FAILED, "settled", NEVER.words)
    recorded(store, Kind.DEACTIVATE_USER, state, "settled", NEVER.words)
    recorded(store, Kind.UPDATE_USER, State.DONE)
    assert store.snapshot().own_locks == {"k0001"}
    store.put(accounts=[account(EVE, keeper_id="k0001")])
    assert store.snapshot().own_locks == frozenset()


@pytest.mark.parametrize("ours", [True, False])
def test_who_comes_back_by_a_creation_that_meets_the_locked_account_is_unlocked_as_ours(
    store: Store, ours: bool
) -> None:
    """Somebody else may have undone our lock, and locked the account while it was elsewhere."""
    recorded(store, Kind.DEACTIVATE_USER, State.DONE)
    left = account(ADA, active=False, gone=True, locked_by_us=ours, former_external_id="old")
    keeper = node()
    keeper.shows[ADA.email] = replace(shown(account(ADA)), active=False)
    done = applied(store, keeper, snapshot([left], [team(ENG)]), JOINS)
    back = store.snapshot().accounts["k0001"]
    assert (back.active, back.locked_by_us, back.former_external_id) == (False, ours, "old")
    assert done.unfinished is ours, "the next cycle, which unlocks, follows at once"
    kinds = {o.kind for o in decide(directory([ADA]), store.snapshot()).plan.operations}
    assert (Kind.REACTIVATE_USER in kinds) is ours


def test_who_is_gone_was_locked_last_by_what_the_journal_says(store: Store) -> None:
    adopted_as_locked = account(ADA, gone=True, active=False, locked_by_us=True, asked={})
    store.save(snapshot([adopted_as_locked]), store.snapshot())
    assert not store.snapshot().locked_out
    recorded(store, Kind.DEACTIVATE_USER, State.DONE, GONE)
    assert ADA.id in store.snapshot().locked_out
    recorded(store, Kind.CREATE_USER, State.DONE)
    assert not store.snapshot().locked_out


def test_a_404_is_no_lock_of_ours(store: Store) -> None:
    recorded(store, Kind.REACTIVATE_USER, State.DONE)
    held = snapshot([account(ADA, gone=True, active=False)])
    found, _ = settle([(7, op(Kind.DEACTIVATE_USER, ADA), SENT)], held, held, NOW)
    recorded(store, Kind.DEACTIVATE_USER, State.DONE, "settled", found[7].words)
    assert not store.snapshot().own_locks


def test_the_newest_change_of_access_outlives_the_history(store: Store) -> None:
    for kind in (Kind.REACTIVATE_USER, Kind.DEACTIVATE_USER):
        recorded(store, kind, State.DONE)
    held = stranger()
    keeper = node(held)
    keeper.shows[EVE.email] = linked(held)
    applied(store, keeper, snapshot([held], [team(ENG)]), op(Kind.CREATE_USER, EVE))
    [last] = store.write_ahead(store.begin_run("cycle", NOW, by="", reason=""), [op(Kind.UPDATE_USER, ADA)], {}, NOW)
    store.record(last, State.DONE, NOW, "done")
    store.forget(NOW + timedelta(days=1))
    left = sorted(store.journal(NOW), key=lambda row: row.id)
    assert [row.operation.kind for row in left] == [Kind.DEACTIVATE_USER, Kind.CREATE_USER, Kind.UPDATE_USER]
    assert store.snapshot().refused_births[EVE.id].keeper_id == held.keeper_id


# -- pure -----------------------------------------------------------------------------------------------------------


def test_what_somebody_has_put_right_meanwhile_is_not_undone_again() -> None:
    held = stranger()
    undo = undoing(JOINS, linked(held), held)
    assert undo is not None and due(undo, held) is None and due(undo, replace(held, gone=True)) is None
    half = replace(held, shown={**linked(held).attributes, "externalId": EVE.id})
    part = due(undo, half)
    assert part is not None and "externalId" not in {change.attribute for change in part.changes}


def test_a_team_that_the_owner_of_the_account_is_to_have_is_not_taken_back() -> None:
    """Both were to be in it, and the creation was answered first."""
    held = account(EVE, memberships={})
    undo = undoing(JOINS, linked(held), held)
    assert undo is not None and undo.remove == (ref(ENG),)
    births = {ADA.id: RefusedBirth(ADA.email, held.keeper_id, undo=undo)}
    still = snapshot([replace(held, shown=linked(held).attributes)], [team(ENG)], refused_births=births)
    assert not any(o.remove for o in decide(directory([ADA, user(2, 9)], [ENG]), still).plan.operations)
    assert any(o.remove for o in decide(directory([ADA, EVE], [ENG]), still).plan.operations)
    for unclear in (replace(EVE, status=Status.UNKNOWN), replace(EVE, teams_unknown=True), replace(EVE, unsure=True)):
        assert not any(o.remove for o in decide(directory([ADA, unclear], [ENG]), still).plan.operations)


def test_a_link_is_undone_by_itself_beside_what_is_due_for_the_owner_of_the_account() -> None:
    """That may be held, or rest after a failure, and what Keeper linked is no drift."""
    still, births = standing(account(EVE))
    held = snapshot([still], [team(ENG)], refused_births=births)
    [undo] = decide(directory([ADA, EVE], [ENG]), held).plan.operations
    assert undo.rule is Rule.UNDONE and {"externalId", "displayName"} <= {change.attribute for change in undo.changes}
    made = decide(directory([ADA, replace(EVE, display_name="Evelyn")], [ENG]), held).plan
    by_rule = {o.rule: {change.attribute for change in o.changes} for o in made.operations}
    assert by_rule[Rule.CHANGED] == {"displayName"} and "externalId" in by_rule[Rule.UNDONE]
    assert not [n for n in made.notices if n.kind is NoticeKind.DRIFT]
    own = replace(held, refused_births={EVE.id: births[ADA.id]})
    [change] = decide(directory([EVE], [ENG]), own).plan.operations
    assert change.rule is not Rule.UNDONE and Change("externalId", ADA.id, EVE.id) in change.changes


@pytest.mark.parametrize("drift", list(Drift))
def test_a_team_that_a_link_gave_is_taken_back_by_the_undo_whatever_is_done_about_drift(drift: Drift) -> None:
    """The owner's own operation would wait in a hold, and nobody has given the team by hand."""
    still, births = standing(account(EVE))
    other = team(group(8))
    by_hand = replace(MEMBER, ours=False)
    held = replace(still, memberships={T9: by_hand, other.keeper_id: by_hand})
    known = snapshot([held], [team(ENG), other], refused_births=births)
    made = decide(directory([ADA, EVE], [ENG, group(8)]), known, Policy(drift=drift)).plan
    taken = {o.rule: [one.keeper_id for one in o.remove] for o in made.operations}
    assert taken.pop(Rule.UNDONE) == [T9]
    told = [n.message for n in made.notices if n.kind is NoticeKind.GIVEN_BY_HAND]
    if drift is Drift.REPAIR:
        assert taken == {Rule.RESTORED: [other.keeper_id]} and not told
    else:
        assert not taken and [group(8).name in words for words in told] == [True]


def test_an_account_with_an_id_that_a_link_has_left_there_is_not_called_the_wrong_one() -> None:
    """Whoever deletes it in Keeper, as was advised, deletes the vault of somebody else."""
    still, births = standing(stranger(), "former@example.com")
    known = snapshot([still, account(ADA)], [team(ENG)], refused_births=births)
    made = decide(directory([ADA], [ENG]), known).plan
    assert [o.rule for o in made.operations] == [Rule.UNDONE]
    assert [n.kind for n in made.notices] == [NoticeKind.GHOST]


def test_what_the_owner_of_the_account_has_got_since_is_not_taken_back_later() -> None:
    """Another operation has done the rest, so that the undo was never sent."""
    held = account(EVE, memberships={})
    still, births = standing(held)
    groups, teams = [ENG], [team(ENG)]
    for wanted in (user(2, 9), replace(user(2, 9), display_name=still.shown["displayName"])):
        shown = {**held.shown, "displayName": wanted.display_name}
        read = snapshot([replace(held, shown=shown, memberships={T9: replace(MEMBER, ours=False)})], teams)
        known = decide(directory([ADA, wanted], groups), replace(read, refused_births=births)).snapshot
        left = decide(directory([ADA, replace(wanted, status=Status.SUSPENDED)], groups), known).plan
        assert [o.kind for o in left.operations if o.subject.key == EVE.id] == [Kind.DEACTIVATE_USER]


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("names", [True, False])
def test_whoever_is_back_before_an_undo_is_sent_is_not_locked_again_by_it(ours: bool, names: bool) -> None:
    """Only a lock that somebody else had set is set again."""
    held = account(EVE, active=False, locked_by_us=ours, left_at=NOW)
    made = linked(held, active=True) if names else replace(linked(held, active=True), attributes=held.shown)
    births = {ADA.id: RefusedBirth(ADA.email, held.keeper_id, undo=undoing(JOINS, made, held))}
    known = snapshot([replace(held, active=True, shown=made.attributes)], [team(ENG)], refused_births=births)
    for _ in range(2):
        made_plan = decide(directory([ADA, EVE], [ENG]), known)
        locks = [o for o in made_plan.plan.operations if any(c.attribute == "active" for c in o.changes)]
        assert bool(locks) is not ours
        known = made_plan.snapshot


def test_an_undo_that_locks_waits_as_little_as_a_lock() -> None:
    """It stands for the lock of a leaver, which neither a failure nor a change without a known outcome stops."""
    held = account(EVE, active=False)
    made = linked(held, active=True)
    births = {ADA.id: RefusedBirth(ADA.email, held.keeper_id, undo=undoing(JOINS, made, held))}
    known = snapshot([replace(held, active=True, shown=made.attributes)], [team(ENG)], refused_births=births)
    failing = replace(known, failures={EVE.id: Failure(3, NOW, "refused")})
    for plan in (
        decide(directory([ADA], [ENG]), failing).plan,
        decide(directory([ADA], [ENG]), known, from_list=False, uncertain=frozenset({EVE.id})).plan,
    ):
        [undo] = [o for o in plan.operations if o.subject.key == EVE.id]
        assert undo.sent and Change("active", "true", "false") in undo.changes


@pytest.mark.parametrize("active", [True, False])
def test_an_undo_is_about_whoever_has_the_account_by_now(active: bool) -> None:
    """It was an account that nobody managed: a cycle about its owner alone left it out, and with it a lock of theirs
    for which it stands."""
    was = stranger(2, active=active, shown=account(EVE).shown)
    undo = undoing(JOINS, linked(was, active=True), was)
    assert undo is not None and undo.subject.key == was.keeper_id == account(EVE).keeper_id
    now = account(EVE, shown=linked(was).attributes, left_at=NOW)
    births = {ADA.id: RefusedBirth(ADA.email, was.keeper_id, undo=undo)}
    known = snapshot([now], [team(ENG)], refused_births=births)
    left = replace(EVE, status=Status.SUSPENDED)
    locks = [o for o in decide(directory([left]), known, focus=frozenset({EVE.id})).plan.operations if o.changes]
    assert any(change.attribute == "active" and change.after == "false" for o in locks for change in o.changes)
    assert any(o.rule is Rule.UNDONE and o.subject.key == EVE.id for o in locks)


@pytest.mark.parametrize("state", [State.SENT, State.UNKNOWN, State.DONE])
def test_an_undo_locks_nobody_whom_we_may_have_unlocked_since(store: Store, state: State) -> None:
    held = account(EVE, active=False)
    keeper = node(held)
    keeper.shows = {ADA.email: linked(held, active=True), held.keeper_id: linked(held, active=True)}
    applied(store, keeper, snapshot([held], [team(ENG)]), JOINS)
    [unlock] = store.write_ahead(
        store.begin_run("cycle", NOW, by="root", reason=""), [op(Kind.REACTIVATE_USER, EVE)], {}, NOW
    )
    before = store.snapshot().refused_births[ADA.id].undo
    assert before is not None and "active" in {change.attribute for change in before.changes}
    store.mark_sent(unlock, NOW, op(Kind.REACTIVATE_USER, EVE))
    if state is not State.SENT:
        store.record(unlock, state, NOW, "done")
    after = store.snapshot().refused_births[ADA.id].undo
    assert after is not None and "active" not in {change.attribute for change in after.changes}


def test_a_name_that_the_plan_gives_to_the_owner_of_the_account_is_not_taken_back() -> None:
    """The owner's new name arrived before the creation was answered."""
    held = account(EVE)
    made = linked(held)
    asked = Change("displayName", EVE.display_name, made.attributes["displayName"])
    undo = undoing(JOINS, made, held, asked=[asked])
    assert undo is not None and "displayName" not in {change.attribute for change in undo.changes}
    other = undoing(JOINS, made, held, asked=[replace(asked, after="Somebody Else")])
    assert other is not None and "displayName" in {change.attribute for change in other.changes}


def test_whom_the_plan_lets_in_again_is_not_locked_with_the_undoing_of_a_link() -> None:
    held = account(EVE, active=False, locked_by_us=True)
    made = linked(held, active=True)
    locks = [undoing(JOINS, made, held, asked=asked) for asked in ([], [Change("active", "false", "true")])]
    assert [one is not None and any(c.attribute == "active" for c in one.changes) for one in locks] == [True, False]


def test_a_team_that_waits_unseen_is_taken_back_and_what_cannot_be_read_is_left() -> None:
    held = stranger()
    made = linked(held, teams=frozenset(), unreadable=("displayName",), attributes={**linked(held).attributes})
    undo = undoing(JOINS, made, held)
    assert undo is not None and undo.remove == (ref(ENG),)
    assert "displayName" not in {change.attribute for change in undo.changes}


def test_of_an_account_whose_record_could_not_be_read_a_link_takes_no_team() -> None:
    """It may be somebody's who is to be in that team."""
    made = linked(account(EVE))
    odd = OddRecord("user", EVE.email, made.id, EVE.id, ("active",))
    undo = undoing(JOINS, made, None, odd=odd)
    assert undo is not None and undo.changes == (Change("externalId", ADA.id, EVE.id),) and not undo.remove
    unlisted = undoing(JOINS, made, None)
    assert unlisted is not None and unlisted.changes[0].after == "" and unlisted.remove == (ref(ENG),)


def test_what_could_be_read_of_an_odd_record_is_given_back_after_a_link() -> None:
    made = linked(account(EVE), active=True)
    shown = {"userName": EVE.email, "externalId": EVE.id, "displayName": "Eve", "name.familyName": ""}
    undo = undoing(JOINS, made, None, odd=OddRecord("user", EVE.email, made.id, EVE.id, ("name.givenName",), "", shown))
    assert undo is not None and not undo.remove
    assert {change.attribute for change in undo.changes} == {"externalId", "displayName", "name.familyName"}
    locked = OddRecord("user", EVE.email, made.id, EVE.id, ("name",), active=False, teams=())
    undo = undoing(JOINS, made, None, odd=locked)
    assert undo is not None and undo.remove == (ref(ENG),)
    assert Change("active", "true", "false") in undo.changes
    undo = undoing(JOINS, made, None, odd=replace(locked, teams=(T9,)))
    assert undo is not None and not undo.remove
    before_it_went_away = stranger(gone=True, missed_at=NOW)
    assert undoing(JOINS, made, before_it_went_away, odd=locked) == undoing(JOINS, made, None, odd=locked)


def test_people_by_point_reads_see_the_account_that_answered() -> None:
    births = {ADA.id: RefusedBirth(ADA.email, "k0005")}
    held = in_snapshot(snapshot([stranger(), account(EVE)], refused_births=births), ADA.email, ADA)
    assert set(held.snapshot.accounts) == {"k0005"}


def test_people_by_point_reads_see_the_account_on_which_a_link_hides_their_id() -> None:
    still, births = standing(stranger(shown={**stranger().shown, "externalId": EVE.id}))
    assert set(in_snapshot(snapshot([still], refused_births=births), EVE.email, EVE).snapshot.accounts) == {"k0005"}


def test_the_names_that_keeper_does_not_take_back_are_still_to_be_undone(store: Store) -> None:
    held = stranger(shown={**stranger().shown, "displayName": "Vic"})
    keeper = node(held)
    keeper.shows[ADA.email] = linked(held)
    keeper.errors[held.keeper_id] = [scim.Refused("b", "changed")] * 2  # without the teams, too
    applied(store, keeper, snapshot([held], [team(ENG)]), JOINS)
    after = keeper.users[held.keeper_id]
    assert after.attributes.get("externalId", "") != ADA.id and after.attributes["displayName"] != "Vic"
    undo = store.snapshot().refused_births[ADA.id].undo
    assert undo is not None and "displayName" in {change.attribute for change in undo.changes}
    assert "externalId" not in {change.attribute for change in undo.changes}


def test_whoever_was_given_up_and_deleted_is_created_after_adopt(store: Store) -> None:
    """Nobody ever locked the account that is gone."""
    eve = replace(EVE, direct=True)
    store.save(snapshot([account(eve)]), store.snapshot())
    disown(store, NOW, "root", "", eve.email)
    before = store.snapshot()
    seen = observed(before, Listing({}, {}, frozenset(before.accounts)), NOW)
    store.save(decide(directory([eve]), seen).snapshot, before)
    adopt(store, NOW, "root", "", email=eve.email)
    assert [op.kind for op in decide(directory([eve]), store.snapshot()).plan.operations] == [Kind.CREATE_USER]
