"""One person by point reads of both services."""

import asyncio

import pytest

from reconciler.model import Account, Membership, OddRecord, Snapshot, Standing, User
from reconciler.person import InKeeper, around, in_jumpcloud, in_keeper, in_snapshot
from tests.fakes import JumpCloud, Keeper
from tests.operations import shown, shown_team
from tests.world import MEMBER, NOW, account, group, snapshot, team, user

ADA, EVE, ENG = user(1, 9), user(2), group(9)
BOTH = snapshot([account(ADA), account(EVE)], [team(ENG)])
T9 = team(ENG).keeper_id


def looked_at(keeper: Keeper, held: Snapshot, address: str = ADA.email, person: User | None = ADA) -> InKeeper:
    return asyncio.run(in_keeper(keeper, held, address, person, NOW))


def test_a_person_is_known_by_account_address_or_external_id_and_nobody_else_is_looked_at() -> None:
    assert list(in_snapshot(BOTH, ADA.email.upper(), ADA).snapshot.accounts) == ["k0001"]
    tied = account(EVE, standing=Standing.UNMANAGED, jumpcloud_id="", shown={"userName": "x", "externalId": ADA.id})
    assert list(in_snapshot(snapshot([account(ADA), tied]), ADA.email, ADA).snapshot.accounts) == ["k0001", "k0002"]


def test_a_person_has_the_jumpcloud_id_for_a_key_else_that_of_the_account_that_is_there() -> None:
    assert in_snapshot(BOTH, "new@example.com", ADA).key == ADA.id
    gone = account(EVE, gone=True, shown=account(ADA).shown)
    ghost = account(ADA, jumpcloud_id="")
    assert in_snapshot(snapshot([gone, ghost]), ADA.email, None).key == "k0001"
    nobody = in_snapshot(BOTH, "new@example.com", None)
    assert nobody.key == "" and not nobody.snapshot.accounts


def test_who_has_another_address_in_jumpcloud_is_found_by_keepers() -> None:
    moved = user(1, 9, email="ada@new.example")
    found = asyncio.run(in_jumpcloud(JumpCloud([moved], [ENG]), BOTH, ADA.email))
    assert found is not None and found.user == moved
    twins = snapshot([account(ADA), account(EVE, shown=account(ADA).shown)])
    assert asyncio.run(in_jumpcloud(JumpCloud([moved], [ENG]), twins, ADA.email)) is None


def test_each_account_is_read_anew_and_the_teams_stand_as_they_were() -> None:
    held = looked_at(Keeper([shown(account(ADA), ENG, active=False)]), BOTH)
    assert not held.snapshot.accounts["k0001"].active and held.snapshot.teams == BOTH.teams
    assert held.snapshot.accounts["k0001"].memberships == {T9: Membership(ours=False, seen=True, shown=True)}


def test_an_account_that_keeper_answers_with_404_is_gone() -> None:
    assert looked_at(Keeper(), BOTH).snapshot.accounts["k0001"].gone


def test_what_the_list_could_not_read_of_whom_nobody_reads_now_is_kept() -> None:
    memory = account(EVE, standing=Standing.UNMANAGED, jumpcloud_id="", shown=account(ADA).shown, gone=True)
    odd = OddRecord("user", "", memory.keeper_id, fields=("userName",))
    held = looked_at(Keeper([shown(account(ADA))]), snapshot([account(ADA), memory], odd=(odd,)))
    assert held.snapshot.odd == (odd,) and memory.keeper_id in held.snapshot.accounts


def test_a_membership_that_only_the_team_shows_is_not_missing() -> None:
    held = snapshot([account(ADA, memberships={T9: MEMBER})], [team(ENG)])
    keeper = Keeper([shown(account(ADA))], [shown_team(ENG, members=frozenset({"k0001"}))])
    assert looked_at(keeper, held).snapshot.accounts["k0001"].memberships == {T9: MEMBER}
    keeper.teams[T9] = shown_team(ENG)
    assert not looked_at(keeper, held).snapshot.accounts["k0001"].memberships[T9].shown


def test_whose_account_it_is_now_is_read_too() -> None:
    service = JumpCloud([ADA, EVE], [ENG])
    person = asyncio.run(service.person(id=ADA.id))
    assert person is not None
    taken = in_snapshot(snapshot([account(EVE, shown=account(ADA).shown)]), ADA.email, ADA)
    users, scope = asyncio.run(around(service, [person], taken.snapshot, ADA.email))
    assert users == {ADA.id: ADA, EVE.id: EVE} and scope.groups == {ENG.id: ENG}


@pytest.mark.parametrize(
    ("people", "held"),
    [
        ([user(1, 9, email=EVE.email), EVE], account(ADA)),
        ([ADA, EVE], account(ADA, standing=Standing.UNMANAGED, shown=account(EVE).shown)),
        ([ADA, EVE], account(ADA, shown=account(EVE).shown, settled={}, asked={})),
    ],
)
def test_who_else_has_the_address_of_a_person_or_of_an_account_is_read_too(people: list[User], held: Account) -> None:
    service = JumpCloud(people, [ENG])
    person = asyncio.run(service.person(id=ADA.id))
    assert person is not None
    users, _ = asyncio.run(around(service, [person], snapshot([held]), ADA.email))
    assert users.keys() == {ADA.id, EVE.id}
