"""What persons decide about who is managed, and what of it is on record."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler import decisions
from reconciler.model import Account, Snapshot, Standing, Takeover
from reconciler.store import Store
from tests.world import NOW, account, decide, directory, group, snapshot, team, user

ADA, ENG = user(1), group(9)
STRANGER = account(user(2), standing=Standing.UNMANAGED, jumpcloud_id="", asked={}, settled={})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "reconciler.db", write=True) as opened:
        yield opened


def adopt(store: Store, held: Snapshot, **whom: str) -> Snapshot:
    store.save(held, store.snapshot())
    decisions.adopt(store, NOW, "root", "because", **whom)
    return store.snapshot()


def disown(store: Store, held: Account, email: str = ADA.email) -> Account:
    store.save(snapshot([held]), Snapshot())
    decisions.disown(store, NOW, "root", "because", email)
    return store.snapshot().accounts[held.keeper_id]


def test_adopting_only_marks_the_account_and_the_next_plan_takes_it_over(store: Store) -> None:
    after = adopt(store, snapshot([STRANGER]), email="U2@EXAMPLE.COM").accounts["k0002"]
    assert after.takeover is Takeover.BY_ADDRESS and after.standing is Standing.UNMANAGED


def test_a_disowned_account_that_is_adopted_again_is_given_up_still_where_it_can_not_be_taken_over(
    store: Store,
) -> None:
    given_up = account(ADA, standing=Standing.DISOWNED)
    held = adopt(store, snapshot([given_up]), email=ADA.email)
    after = held.accounts["k0001"]
    assert after.standing is Standing.UNMANAGED and after.takeover is Takeover.BY_ADDRESS
    assert after.jumpcloud_id == ADA.id
    conflict = [replace(user(number, direct=True), email=ADA.email) for number in (3, 4)]
    assert decide(directory(conflict), held).snapshot.accounts["k0001"] == given_up


@pytest.mark.parametrize("lock", [{}, {"locked_by_us": True}, {"others_lock": True}])
def test_whether_an_account_that_was_given_up_and_is_gone_was_locked_outlives_its_adoption(
    store: Store, lock: dict[str, bool]
) -> None:
    """A creation that Keeper links to it, should it be back, is to leave it locked."""
    lost = account(ADA, standing=Standing.DISOWNED, gone=True, active=False, **lock)
    after = adopt(store, snapshot([lost]), email=ADA.email).accounts["k0001"]
    assert after.bygone and after.was_locked is bool(lock)
    assert after.locked_by_others is ("others_lock" in lock)


def test_ghosts_are_the_unmanaged_accounts_that_are_there(store: Store) -> None:
    gone = account(user(3), standing=Standing.UNMANAGED, gone=True)
    given_up = account(user(4), standing=Standing.DISOWNED)
    after = adopt(store, snapshot([account(ADA), STRANGER, gone, given_up])).accounts
    assert {key for key, one in after.items() if one.takeover is Takeover.AS_GHOST} == {"k0002"}


def test_an_account_that_was_named_stays_so_when_all_ghosts_are_adopted(store: Store) -> None:
    named = replace(STRANGER, takeover=Takeover.BY_ADDRESS)
    assert adopt(store, snapshot([named])).accounts["k0002"].takeover is Takeover.BY_ADDRESS


def test_a_team_is_adopted_by_a_name_that_only_one_unmanaged_team_has(store: Store) -> None:
    free = team(ENG, standing=Standing.UNMANAGED, jumpcloud_id="")
    assert adopt(store, snapshot([], [free]), team=ENG.name).teams["t0009"].takeover
    twins = snapshot([], [free, team(group(8, ENG.name), standing=Standing.UNMANAGED, jumpcloud_id="")])
    with pytest.raises(decisions.NothingDecided, match="2 Keeper teams that we do not manage have the name"):
        adopt(store, twins, team=ENG.name)
    assert not any(one.takeover for one in store.snapshot().teams.values())


def test_a_team_of_ours_is_not_adopted(store: Store) -> None:
    with pytest.raises(decisions.NothingDecided):
        adopt(store, snapshot([], [team(ENG)]), team=ENG.name)
    assert not store.snapshot().teams["t0009"].takeover


def test_a_disowned_account_stays_as_it_is_and_only_its_external_id_is_restored(store: Store) -> None:
    after = disown(store, account(ADA, takeover=Takeover.BY_ADDRESS, former_external_id="hr-1"))
    assert after.standing is Standing.DISOWNED and after.takeover is Takeover.NONE
    assert after.asked == {"externalId": ADA.id} and after.former_external_id == "hr-1"
    assert (after.active, after.shown, after.jumpcloud_id) == (True, account(ADA).shown, ADA.id)


def test_whoever_is_given_up_is_said_to_lose_the_external_id_that_we_set(store: Store) -> None:
    store.save(snapshot([account(ADA)]), Snapshot())
    said = decisions.disown(store, NOW, "root", "because", ADA.email)
    assert said.startswith("u1@example.com is given up: nothing is changed any more but the externalId that we set, ")


def test_nobody_is_disowned_whom_we_do_not_manage(store: Store) -> None:
    with pytest.raises(decisions.NothingDecided):
        disown(store, STRANGER, STRANGER.email)
    assert store.snapshot().accounts[STRANGER.keeper_id] == STRANGER
    assert store.decisions("disown", NOW) == []


def test_who_decided_and_why_is_on_record(store: Store) -> None:
    adopt(store, snapshot([STRANGER]), email=STRANGER.email)
    (request,) = store.decisions("adopt", NOW)
    assert (request.by, request.reason, request.at, request.state) == ("root", "because", NOW, "done")
    assert request.arguments["accounts"] == ["k0002"]


def test_an_address_that_keeper_does_not_show_changes_nothing_and_says_what_to_do(store: Store) -> None:
    with pytest.raises(decisions.NothingDecided, match="reconciler resync"):
        decisions.adopt(store, NOW, "root", "", email="nobody@example.com")
    assert store.decisions("adopt", NOW) == []


def test_nobody_is_said_to_be_taken_over_whom_the_settings_protect(store: Store) -> None:
    spared = replace(STRANGER, protected_as=STRANGER.email)
    store.save(snapshot([spared]), store.snapshot())
    said = decisions.adopt(store, NOW, "root", "because", email=spared.email)
    assert said.startswith("Nobody will be taken over with the next plan as long as policy.protect covers u2@example.")
    other = account(user(3), standing=Standing.UNMANAGED, jumpcloud_id="", asked={}, settled={})
    store.save(snapshot([spared, other]), store.snapshot())
    said = decisions.adopt(store, NOW, "root", "because")
    assert said.startswith("1 Keeper user will be taken over with the next plan; not u2@example.com, as long as")
