"""The bond of teams by birth: what a queueing is answered with, and what is undone of a link."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler import keeper as scim
from reconciler.apply import Applied, apply
from reconciler.births import LINKED
from reconciler.model import Group, KeeperTeam, OddRecord, RefusedTeam, Snapshot, Standing, Team
from reconciler.plan import Change, Kind, NoticeKind, Operation, Rule
from reconciler.policy import Pilot, Policy
from reconciler.rows import State
from reconciler.settle import settle
from reconciler.store import Store
from reconciler.team_births import undoing
from tests.fakes import Keeper, Sure
from tests.operations import op, ref, shown, team_op
from tests.world import NOW, account, decide, directory, group, snapshot, team, user

ADA = user(1, 9)
VAULT, SALES = group(9, "vault"), group(8, "Vault")
QUEUE = team_op(Kind.QUEUE_TEAM, VAULT)


def stranger(**values: object) -> Team:
    """A team that nobody manages."""
    return replace(Team("t0005", Standing.UNMANAGED, shown={"displayName": "VAULT"}, seen=True), **values)  # type: ignore[arg-type]


def linked(held: Team) -> KeeperTeam:
    """The team after Keeper answered the queueing with it, and took all of the request."""
    return KeeperTeam(held.keeper_id, {**held.shown, "displayName": VAULT.name, "externalId": VAULT.id})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "reconciler.db", write=True) as opened:
        yield opened


def applied(store: Store, keeper: Keeper, held: Snapshot, *operations: Operation) -> Applied:
    store.save(held, store.snapshot())
    for kind in Kind:
        store.open_kind(kind, NOW)
    ids = store.write_ahead(store.begin_run("cycle", NOW, by="root", reason=""), operations, {}, NOW)
    jobs = list(zip(ids, operations, strict=True))

    async def go() -> Applied:
        mark, sure = store.hands.mark(), Sure()
        return await apply(jobs, held, keeper, store, clock=lambda: NOW, in_flight=2, confirmation=sure, mark=mark)

    return asyncio.run(go())


def outcomes(store: Store) -> list[tuple[Kind, State, str]]:
    return [(row.operation.kind, row.state, row.outcome) for row in sorted(store.journal(NOW), key=lambda one: one.id)]


def planned(held: Snapshot, *groups: Group) -> list[tuple[Kind, Rule]]:
    return [(one.kind, one.rule) for one in decide(directory([], list(groups)), held).plan.operations]


# -- the executor ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "held", [stranger(), stranger(shown={"displayName": "VAULT", "externalId": "from the push"}), team(SALES)]
)
@pytest.mark.parametrize("takes", [True, False])
def test_a_team_that_was_there_is_not_ours_and_gets_back_what_the_request_changed(
    store: Store, held: Team, takes: bool
) -> None:
    keeper = Keeper()
    keeper.shows[ADA.email] = shown(account(ADA))
    made = linked(held) if takes else KeeperTeam(held.keeper_id, held.shown)
    keeper.shows["vault"] = keeper.teams[held.keeper_id] = made
    done = applied(store, keeper, snapshot([], [held]), QUEUE, op(Kind.CREATE_USER, ADA, add=(ref(VAULT, ""),)))
    assert {k: v for k, v in keeper.teams[held.keeper_id].attributes.items() if v} == held.shown
    assert not [sent for sent in keeper.sent if held.keeper_id in sent[0]], "nobody is added"
    assert {k: v for k, v in store.team(held.keeper_id).shown.items() if v} == held.shown  # type: ignore[union-attr]
    assert replace(store.team(held.keeper_id), shown=held.shown) == held  # type: ignore[type-var]
    undo = [(Kind.RENAME_TEAM, State.DONE, "done")] if takes else []
    refused = [one for one in outcomes(store) if one[0] is not Kind.CREATE_USER]
    assert refused == [(Kind.QUEUE_TEAM, State.FAILED, LINKED), *undo]
    [notice] = [one for one in done.notices if one.kind is NoticeKind.CONFLICT]
    assert VAULT.name in notice.message and held.name in notice.message
    assert ("The request changed its displayName and externalId: given back" in notice.message) is takes
    kept, words = store.snapshot(), notice.message.split(". The request")[0]
    assert kept.refused_teams == {VAULT.id: RefusedTeam("vault", held.keeper_id, words, at=NOW)}
    assert VAULT.id not in kept.failures and VAULT.id not in kept.unsettled_teams


def test_a_team_that_carries_the_id_of_another_group_or_has_no_readable_row_is_not_new(store: Store) -> None:
    other = KeeperTeam("t0005", {"displayName": "vault", "externalId": SALES.id})
    odd = OddRecord("team", "vault", "t0005", fields=("members",))
    for made, held in ((other, snapshot([])), (linked(stranger()), snapshot([], odd=(odd,)))):
        keeper = Keeper()
        keeper.shows["vault"] = made
        applied(store, keeper, held, QUEUE)
        assert keeper.teams["t0005"].attributes["externalId"] in ("", SALES.id)
        assert not store.snapshot().teams
        assert not planned(store.snapshot(), VAULT), "not asked for again, although no list shows the team"


def test_a_new_team_and_one_that_was_the_groups_are_the_groups(store: Store) -> None:
    for held in (snapshot([]), snapshot([], [team(VAULT, gone=True)]), snapshot([], [stranger(keeper_id="t0001")])):
        keeper = Keeper()
        keeper.shows["vault"] = KeeperTeam(team(VAULT).keeper_id, team(VAULT).shown)
        applied(store, keeper, held, QUEUE)
        assert store.snapshot().teams[team(VAULT).keeper_id].jumpcloud_id == VAULT.id
        assert outcomes(store)[-1] == (Kind.QUEUE_TEAM, State.DONE, "done")


def test_a_team_that_was_the_groups_is_not_new_again(store: Store) -> None:
    """To join a new team gives nothing yet, and no limit counts that; and a team that we did not queue stays."""
    keeper, held = Keeper(), team(VAULT, gone=True, queued_at=None)
    keeper.shows["vault"] = KeeperTeam(held.keeper_id, held.shown)
    applied(store, keeper, snapshot([], [held]), QUEUE)
    assert store.snapshot().teams[held.keeper_id].queued_at is None


@pytest.mark.parametrize("owner", [None, SALES])
def test_a_team_that_another_run_lists_while_it_is_queued_is_new(store: Store, owner: Group | None) -> None:
    """Only what the plan was made from counts, and whose team it is by now."""
    made = KeeperTeam("t0009", {"displayName": "vault"})  # on a Keeper that shows no ids
    listed = Team("t0009", Standing.UNMANAGED, shown=made.attributes, seen=True)
    row = listed if owner is None else replace(listed, standing=Standing.MANAGED, jumpcloud_id=owner.id)

    class Meanwhile(Keeper):
        async def queue_team(self, name: str, external_id: str) -> KeeperTeam:
            store.put([], [row])
            return await super().queue_team(name, external_id)

    keeper = Meanwhile()
    keeper.shows["vault"] = made
    applied(store, keeper, snapshot([]), QUEUE)
    assert outcomes(store)[0][1] is (State.DONE if owner is None else State.FAILED)
    assert store.snapshot().teams["t0009"].jumpcloud_id == (owner or VAULT).id


@pytest.mark.parametrize("external", ["", "kpr-42", f"{VAULT.id} "])
def test_whatever_id_keeper_makes_of_ours_a_new_team_is_the_groups(store: Store, external: str) -> None:
    keeper = Keeper()
    keeper.shows["vault"] = KeeperTeam("t0005", {"displayName": "vault", "externalId": external})
    applied(store, keeper, snapshot([]), QUEUE)
    assert store.snapshot().teams["t0005"].jumpcloud_id == VAULT.id
    assert outcomes(store) == [(Kind.QUEUE_TEAM, State.DONE, "done")]
    assert not planned(store.snapshot(), VAULT), "what Keeper made of the id is in line"


def test_the_id_of_another_group_is_known_whatever_blanks_keeper_adds(store: Store) -> None:
    keeper = Keeper()
    keeper.shows["vault"] = KeeperTeam("t0005", {"displayName": "vault", "externalId": f"{SALES.id} "})
    applied(store, keeper, snapshot([]), QUEUE)
    assert outcomes(store) == [(Kind.QUEUE_TEAM, State.FAILED, LINKED)]
    keeper = Keeper()
    keeper.shows["vault"] = keeper.teams["t0005"] = KeeperTeam("t0005", {"externalId": f"{VAULT.id} "})
    applied(store, keeper, snapshot([], odd=(OddRecord("team", "vault", "t0005", fields=("members",)),)), QUEUE)
    assert not keeper.teams["t0005"].attributes["externalId"], "ours is taken back"


def test_an_undo_that_fails_is_sent_by_the_next_cycle_and_the_id_links_nothing_meanwhile(store: Store) -> None:
    held, keeper = stranger(), Keeper()
    keeper.shows["vault"] = linked(held)
    keeper.errors["t0005"] = [scim.Unavailable("x", "y")]
    applied(store, keeper, snapshot([], [held]), QUEUE)
    seen = replace(store.snapshot(), teams={"t0005": replace(held, shown=linked(held).attributes)})
    decision = decide(directory([ADA], [VAULT]), seen)
    [undo] = [one for one in decision.plan.operations if one.subject.type == "team"]
    assert (undo.kind, undo.rule) == (Kind.RENAME_TEAM, Rule.UNDONE)
    assert not decision.snapshot.teams["t0005"].managed
    assert not [team for one in decision.plan.operations for team in one.add]
    applied(store, keeper, seen, undo)
    assert not keeper.teams["t0005"].attributes["externalId"] and store.snapshot().refused_teams[VAULT.id].undo is None


# -- the next cycles ------------------------------------------------------------------------------------------------


def test_a_refused_team_is_queued_again_once_a_name_changes_or_the_other_team_is_gone(store: Store) -> None:
    keeper, held = Keeper(), stranger()
    keeper.shows["vault"] = KeeperTeam(held.keeper_id, held.shown)
    applied(store, keeper, snapshot([], [held]), QUEUE)
    kept = store.snapshot()
    again = [(Kind.QUEUE_TEAM, Rule.GROUP_IN_SCOPE)]
    assert not planned(kept, VAULT)
    assert planned(kept, replace(VAULT, name="Safe")) == again
    for changed in (stranger(gone=True), stranger(shown={"displayName": "Safe"})):
        assert planned(replace(kept, teams={"t0005": changed}), VAULT) == again


def test_an_undo_outlives_a_later_queueing_that_is_done_and_refuses_nothing_more(store: Store) -> None:
    """The team was not there when one was queued for the group under another name."""
    keeper, held = Keeper(), stranger()
    keeper.shows["vault"] = linked(held)
    keeper.errors[held.keeper_id] = [scim.Refused("vault", "changed")]
    applied(store, keeper, snapshot([], [held]), QUEUE)
    undo = store.snapshot().refused_teams[VAULT.id].undo
    applied(store, keeper, replace(store.snapshot(), teams={}), team_op(Kind.QUEUE_TEAM, replace(VAULT, name="Safe")))
    assert undo is not None
    assert store.snapshot().refused_teams == {VAULT.id: RefusedTeam("", held.keeper_id, "", undo, NOW)}
    back = {held.keeper_id: replace(held, shown=linked(held).attributes)}
    assert planned(replace(store.snapshot(), teams=back), VAULT) == [(Kind.RENAME_TEAM, Rule.UNDONE)]
    assert planned(replace(store.snapshot(), teams={held.keeper_id: held}), VAULT) == [
        (Kind.QUEUE_TEAM, Rule.GROUP_IN_SCOPE)
    ]


def test_a_person_may_give_the_other_team_to_the_group(store: Store) -> None:
    keeper, held = Keeper(), stranger()
    keeper.shows["vault"] = KeeperTeam(held.keeper_id, held.shown)
    done = applied(store, keeper, snapshot([], [held]), QUEUE)
    assert 'reconciler adopt --team "NAME"' in done.notices[0].message
    decided = replace(store.snapshot(), teams={"t0005": stranger(takeover=True)})
    assert planned(decided, VAULT) == [(Kind.RENAME_TEAM, Rule.GROUP_RENAMED)]


def test_a_team_that_two_groups_were_refused_with_is_given_back_once() -> None:
    changes = (Change("displayName", "Vault", "VAULT"),)
    undo = team_op(Kind.RENAME_TEAM, VAULT, rule=Rule.UNDONE, changes=changes)
    undo = replace(undo, subject=replace(undo.subject, jumpcloud_id="", keeper_id="t0005"))
    refused = {one.id: RefusedTeam(one.name, "t0005", "because", undo, NOW) for one in (VAULT, SALES)}
    held = snapshot([], [stranger(shown={"displayName": "Vault"})], refused_teams=refused)
    assert planned(held, VAULT, SALES) == [(Kind.RENAME_TEAM, Rule.UNDONE)]


def test_what_a_link_gave_to_a_team_outside_the_pilot_is_given_back() -> None:
    own = team(SALES)
    changes = (Change("displayName", VAULT.name, SALES.name), Change("externalId", VAULT.id, SALES.id))
    undo = team_op(Kind.RENAME_TEAM, SALES, rule=Rule.UNDONE, changes=changes)
    undo = replace(undo, subject=replace(undo.subject, keeper_id=own.keeper_id))
    refused = {VAULT.id: RefusedTeam(VAULT.name, own.keeper_id, "because", undo, NOW)}
    held = snapshot([account(ADA)], [replace(own, shown=linked(own).attributes)], refused_teams=refused)
    pilot = Policy(only=Pilot(users=frozenset({ADA.email})))
    operations = decide(directory([ADA], [VAULT, SALES]), held, pilot).plan.operations
    assert {one.rule: one.sent for one in operations} == {Rule.UNDONE: True, Rule.RESTORED: False}


# -- a queueing without an answer -----------------------------------------------------------------------------------


def test_a_team_with_an_id_that_a_link_has_left_there_is_not_called_the_wrong_one() -> None:
    held = stranger()
    undo = undoing(QUEUE, linked(held), held)
    still = replace(held, shown=linked(held).attributes)
    refused = {VAULT.id: RefusedTeam("", held.keeper_id, "", undo, NOW)}
    known = snapshot([], [still, team(VAULT)], refused_teams=refused)
    made = decide(directory([], [VAULT]), known).plan
    assert [o.rule for o in made.operations] == [Rule.UNDONE] and not made.notices
    told = decide(directory([], [VAULT]), replace(known, refused_teams={})).plan.notices
    assert ["Delete the wrong one" in one.message for one in told] == [True]


def test_the_team_of_a_group_that_has_left_is_not_given_to_the_one_whose_id_a_link_left_there() -> None:
    """Whatever is shared with it would become theirs."""
    own = team(SALES)
    still = replace(own, shown=linked(own).attributes)
    refused = {VAULT.id: RefusedTeam(VAULT.name, own.keeper_id, "because", undoing(QUEUE, linked(own), own), NOW)}
    made = decide(directory([ADA], [VAULT]), snapshot([account(ADA)], [still], refused_teams=refused))
    assert [(o.rule, o.subject.keeper_id) for o in made.plan.operations] == [(Rule.UNDONE, own.keeper_id)]
    assert made.snapshot.teams[own.keeper_id].jumpcloud_id == SALES.id
    # An id that nothing of ours has left there is that of whoever has the team by now.
    by_hand = decide(directory([ADA], [VAULT]), snapshot([account(ADA)], [still]))
    assert by_hand.snapshot.teams[own.keeper_id].jumpcloud_id == VAULT.id


def test_a_group_that_was_made_again_gets_no_second_team_while_a_link_has_left_an_id_on_the_first() -> None:
    own, again = team(SALES), group(7, SALES.name)
    still = replace(own, shown={**linked(own).attributes, "displayName": SALES.name})
    refused = {VAULT.id: RefusedTeam(VAULT.name, own.keeper_id, "because", undoing(QUEUE, linked(own), own), NOW)}
    made = decide(directory([ADA], [VAULT, again], gone=[SALES]), snapshot([], [still], refused_teams=refused)).plan
    assert Rule.UNDONE in {o.rule for o in made.operations}
    assert Kind.QUEUE_TEAM not in {o.kind for o in made.operations}
    back = decide(directory([ADA], [again], gone=[SALES]), snapshot([], [own])).snapshot.teams
    assert back[own.keeper_id].jumpcloud_id == again.id


def test_a_group_whose_new_team_waits_unseen_keeps_it_though_a_link_has_left_its_id_on_another() -> None:
    held = stranger()
    still = replace(held, shown=linked(held).attributes)
    queued = team(VAULT, seen=False, shown={}, settled={})
    refused = {VAULT.id: RefusedTeam("", held.keeper_id, "", undoing(QUEUE, linked(held), held), NOW)}
    made = decide(directory([ADA], [VAULT]), snapshot([account(ADA)], [still, queued], refused_teams=refused)).plan
    assert [(o.rule, [one.keeper_id for one in o.add]) for o in made.operations] == [
        (Rule.UNDONE, []),
        (Rule.CHANGED, [queued.keeper_id]),
    ]
    assert NoticeKind.CONFLICT not in {notice.kind for notice in made.notices}


def test_the_undoing_of_one_link_hides_none_of_another_to_the_same_team(store: Store) -> None:
    held = stranger()
    was, parts = held, []
    for queueing in (QUEUE, team_op(Kind.QUEUE_TEAM, SALES)):
        [number] = store.write_ahead(store.begin_run("cycle", NOW, by="root", reason=""), [queueing], {}, NOW)
        made = KeeperTeam(held.keeper_id, {"displayName": "VAULT", "externalId": queueing.subject.jumpcloud_id})
        undo = undoing(queueing, made, was)
        parts.append(store.record_refused(number, NOW, "", held.keeper_id, undo, sent=False))
        was = replace(was, shown=made.attributes)
    store.record(parts[1], State.DONE, NOW, "done", "")
    left = store.snapshot().refused_teams[VAULT.id].undo
    assert left is not None and left.changes == (Change("externalId", VAULT.id, ""),)


def test_a_queueing_without_an_answer_that_met_a_team_of_an_earlier_list_is_refused() -> None:
    held = stranger()
    seen = snapshot([], [replace(held, shown=linked(held).attributes)], unsettled_teams={VAULT.id: NOW})
    outcomes, after = settle([(1, QUEUE, NOW)], seen, snapshot([], [held]), NOW)
    assert (outcomes[1].state, outcomes[1].linked) == (State.FAILED, "t0005")
    assert outcomes[1].undo is not None and outcomes[1].undo.rule is Rule.UNDONE
    assert not after.unsettled_teams and not after.teams["t0005"].managed
    assert planned(after, VAULT) == [(Kind.RENAME_TEAM, Rule.UNDONE)]


def test_a_queueing_without_an_answer_that_met_a_team_without_a_readable_record_is_refused() -> None:
    """As where it has an answer: a list had the team, whatever could be read of it."""
    odd = OddRecord("team", "VAULT", "t0005", fields=("members",))
    seen = snapshot([], [replace(stranger(), shown=linked(stranger()).attributes)], unsettled_teams={VAULT.id: NOW})
    outcomes, after = settle([(1, QUEUE, NOW)], seen, snapshot([], odd=(odd,)), NOW)
    assert (outcomes[1].state, outcomes[1].linked) == (State.FAILED, "t0005")
    assert outcomes[1].undo is not None and outcomes[1].undo.changes == (Change("externalId", VAULT.id, ""),)
    assert not after.teams["t0005"].managed and planned(after, VAULT) == [(Kind.RENAME_TEAM, Rule.UNDONE)]
    tied, _ = settle([(1, QUEUE, NOW)], seen, snapshot([], odd=(replace(odd, external_id=VAULT.id),)), NOW)
    assert tied[1].state is State.DONE


def test_a_team_that_shows_first_after_a_queueing_without_an_answer_is_ours() -> None:
    seen = snapshot([], [team(VAULT, standing=Standing.UNMANAGED, jumpcloud_id="")])
    outcomes, after = settle([(1, QUEUE, NOW)], seen, snapshot([]), NOW)
    assert outcomes[1].state is State.DONE and after.teams[team(VAULT).keeper_id].jumpcloud_id == VAULT.id
