"""The bond by birth, and whose a lock is, through the real command line."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from reconciler import http
from reconciler.simulator.faults import close, status
from reconciler.simulator.keeper_dialect import UserAttribute
from reconciler.simulator.keeper_records import Account
from reconciler.simulator.service import Request, Response
from tests.flows.hidden import Answered
from tests.flows.test_other_forms import of_users, rewrite
from tests.flows.test_whose_account import fill, joined, lost_state, there
from tests.inside import Inside
from tests.stage import World


def aliased(world: World, alias: str, **dialect: bool) -> str:
    """An account of nobody in JumpCloud, with an alias that links a creation to it."""
    world.keeper.dialect = replace(world.keeper.dialect, links_aliases=True, **dialect)  # type: ignore[arg-type]
    account = there(world, alias)
    world.keeper.change_email(account, f"old.{alias}", keep_alias=True)
    return account


def plain(account: Account) -> Account:
    """The account as Keeper shows it: an unset display name reads as the address."""
    return replace(account, external_id=account.external_id or None, display_name=account.display_name or account.email)


@pytest.mark.parametrize(
    "dialect",
    [{}, {"link_updates": False}, {"link_unlocks": True}, {"shows_pending_memberships": False}],
    ids=lambda one: next(iter(one), "default"),
)
@pytest.mark.parametrize("locked", [False, True])
def test_a_creation_that_keeper_links_by_an_alias_leaves_that_account_as_it_was(
    world: World, dialect: dict[str, bool], locked: bool
) -> None:
    group = fill(world)
    account = aliased(world, "ada@example.com", **dialect)
    if locked:
        world.keeper.lock(account)
    before = world.keeper.account(account)
    one = joined(world, group, "ada@example.com")
    out = " ".join(world.run("apply", expect=5).stdout.split())
    assert "old.ada@example.com" in out and "reconciler adopt ada@example.com" in out
    assert plain(world.keeper.account(account)) == plain(before)
    writes = world.writes()
    for arguments in (["apply"], ["apply", "--resync"], ["resync", "ada@example.com"]):
        out = " ".join(world.run(*arguments, expect=None).stdout.split())
        assert "not created again" in out
    assert world.writes() == writes and plain(world.keeper.account(account)) == plain(before)
    world.jumpcloud.suspend(one)
    world.run("apply", "--resync")
    assert world.keeper.account(account).active is before.active, "the newcomer's lock is nobody else's"


@pytest.mark.parametrize("read", ["never", "in part"])
def test_a_creation_that_keeper_links_to_an_account_without_a_row_is_not_repeated(world: World, read: str) -> None:
    group = fill(world)
    account = aliased(world, "ada@example.com")
    if read == "in part":
        rewrite(world.back, of_users(lambda row: row | ({"active": 5} if row["id"] == account else {})), "/Users")
        world.run("apply", "--resync")
    joined(world, group, "ada@example.com")
    out = " ".join(world.run("apply", expect=5).stdout.split())
    assert "not created again until a person decides" in out
    writes = world.writes()
    for arguments in (["apply"], ["resync", "ada@example.com"], ["apply"]):
        out = " ".join(world.run(*arguments, expect=None).stdout.split())
        assert "not created again" in out and "old.ada@example.com" in out
    assert world.writes() == writes
    world.run("adopt", "ada@example.com")
    world.run("apply", expect=None)
    assert world.writes() != writes, "a person has decided"


def test_a_link_whose_undoing_keeper_refuses_is_not_said_to_be_undone(world: World) -> None:
    group = fill(world)
    account = aliased(world, "ada@example.com")
    before = world.keeper.account(account)
    one = joined(world, group, "ada@example.com")
    rule = world.back.faults.add(status(400), method="PATCH", target=f"/Users/{account}")
    for _ in range(2):
        told = " ".join(world.run("apply", expect=5).stdout.split())
        assert world.keeper.account(account).external_id == one
        assert "is not undone yet" in told and "not created again" in told
        assert "are taken back" not in told
    world.back.faults.remove(rule)
    world.run("resync", "old.ada@example.com")
    assert plain(world.keeper.account(account)) == plain(before)
    assert "are taken back" in " ".join(world.run("apply", expect=None).stdout.split())


@pytest.mark.parametrize("refused", ["displayName", "externalId", "groups"])
def test_what_keeper_refuses_of_an_undo_is_remembered_and_not_asked_for_without_end(world: World, refused: str) -> None:
    group = fill(world)
    account = aliased(world, "ada@example.com")
    before = world.keeper.account(account)
    joined(world, group, "ada@example.com")

    def run(handle: Callable[[Request], Response], request: Request) -> Response:
        return Response(400) if refused.encode() in request.body else handle(request)

    rule = world.back.faults.add(Answered(run), method="PATCH", target=f"/Users/{account}")
    told = " ".join(world.run("apply", expect=5).stdout.split())
    assert "is not undone yet" in told and "are taken back" not in told
    assert world.writes() < 40
    world.back.faults.remove(rule)
    world.run("resync", "old.ada@example.com")
    assert plain(world.keeper.account(account)) == plain(before)


def test_adopt_gives_the_account_that_keeper_links_and_a_removed_alias_a_new_one(world: World) -> None:
    group = fill(world)
    accounts = {name: aliased(world, f"{name}@example.com") for name in ("ada", "eve")}
    people = {name: joined(world, group, f"{name}@example.com") for name in accounts}
    world.run("apply", expect=5)
    world.keeper.change_email(accounts["eve"], "other@example.com", keep_alias=False)
    world.keeper.delete_user(accounts["eve"])
    other = there(world, "old.eve@example.com")
    for name in accounts:
        world.run("adopt", f"{name}@example.com", expect=None)
    world.run("apply", "--resync")
    assert world.keeper.account(accounts["ada"]).external_id == people["ada"]
    assert world.keeper.account("eve@example.com").external_id == people["eve"]
    assert world.keeper.account(other).external_id is None
    assert "nothing to do" in world.run("apply", "--resync").stdout.lower()


def test_adopt_agrees_to_the_account_that_it_names_and_to_no_other_that_keeper_links_by_then(world: World) -> None:
    group = fill(world)
    account, other = aliased(world, "ada@example.com"), there(world, "chief@example.com")
    ada = joined(world, group, "ada@example.com")
    world.run("apply", expect=5)
    assert "links that to old.ada@example.com again" in world.run("adopt", "ada@example.com").stdout
    world.keeper.change_email(account, "ada@example.com")
    world.keeper.change_email(account, "old.ada@example.com", keep_alias=False)
    world.keeper.change_email(other, "ada@example.com")
    world.keeper.change_email(other, "chief@example.com")
    before = world.keeper.account(other)
    out = " ".join(world.run("apply", expect=5).stdout.split())
    assert "The creation of ada@example.com led to chief@example.com" in out
    assert plain(world.keeper.account(other)) == plain(before)
    world.run("adopt", "ada@example.com")
    world.run("apply")
    assert world.keeper.account(other).external_id == ada


@pytest.mark.parametrize("effect", [False, True], ids=["never arrived", "arrived"])
def test_what_was_agreed_to_outlives_a_creation_without_an_answer(world: World, effect: bool) -> None:
    group = fill(world)
    account = aliased(world, "ada@example.com")
    inside = Inside(world)
    inside.run()
    ada = joined(world, group, "ada@example.com")
    inside.later(minutes=5)
    inside.run()
    world.run("adopt", "ada@example.com")
    world.back.faults.add(close(effect=effect), method="POST", times=1)
    for _ in range(4):
        inside.later(minutes=65)
        inside.run()
    assert world.keeper.account(account).external_id == ada


def test_a_changed_address_is_created(world: World) -> None:
    group = fill(world)
    account = aliased(world, "ada@example.com")
    one = joined(world, group, "ada@example.com")
    world.run("apply", expect=5)
    world.jumpcloud.update_user(one, email="ada.new@example.com")
    world.run("apply")
    assert world.keeper.account("ada.new@example.com").external_id == one
    assert not world.keeper.account(account).external_id


def test_a_member_whom_we_manage_keeps_everything_when_a_creation_meets_their_alias(world: World) -> None:
    group = fill(world)
    world.keeper.dialect = replace(world.keeper.dialect, links_aliases=True)
    sales = world.group("Sales")
    world.person("eve", sales)
    world.run("apply")
    eve = world.keeper.account("eve@example.com")
    world.keeper.accept_invitation(eve.id)
    world.keeper.change_email(eve.id, "ada@example.com")
    world.keeper.change_email(eve.id, "eve@example.com")
    before = world.keeper.account(eve.id)
    joined(world, group, "ada@example.com")
    world.run("apply", expect=5)
    assert world.keeper.account(eve.id) == before
    assert "eve@example.com" in world.run("apply", "--resync").stdout
    assert world.keeper.account(eve.id) == before


@pytest.mark.parametrize("ignored", [frozenset(), frozenset({"externalId"})], ids=["ids", "no ids"])
def test_an_unanswered_creation_that_was_linked_is_undone_by_the_next_cycle(
    world: World, ignored: frozenset[UserAttribute]
) -> None:
    group = fill(world)
    world.keeper.dialect = replace(
        world.keeper.dialect,
        ignored_attributes=ignored,
        ignored_group_attributes=frozenset({"externalId"} if ignored else ()),
    )
    account = aliased(world, "ada@example.com")
    before = world.keeper.account(account)
    inside = Inside(world)
    inside.run()
    joined(world, group, "ada@example.com")
    world.back.faults.add(close(effect=True), method="POST", times=1)
    inside.later(minutes=5)
    inside.run()
    for _ in range(3):
        inside.later(minutes=5)
        inside.run()
    assert plain(world.keeper.account(account)) == plain(before)


def test_the_loss_of_the_state_file_gives_nobody_a_leavers_vault_by_a_creation(world: World) -> None:
    """The leaver's account has the namesake's address as an alias, and keeps its own id when it is linked."""
    group = fill(world)
    leaver = world.person("anna.old", group)
    world.run("apply")
    account = world.keeper.account("anna.old@example.com").id
    world.keeper.accept_invitation(account)
    world.jumpcloud.suspend(leaver)
    world.run("apply")
    world.keeper.dialect = replace(world.keeper.dialect, links_aliases=True)
    world.keeper.change_email(account, "anna@example.com")
    world.keeper.change_email(account, "anna.old@example.com")
    lost_state(world)
    namesake = joined(world, group, "anna@example.com")
    for _ in range(3):
        world.run("apply", "--resync", expect=None)
        held = world.keeper.account(account)
        assert held.external_id == leaver and held.locked and held.email == "anna.old@example.com"
    assert not [one for one in world.keeper.accounts().values() if one.external_id == namesake]


def test_a_lock_that_takes_effect_late_is_ours_and_one_after_a_clear_answer_is_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "BACKOFF", (0.01, 0.01))
    group = fill(world)
    one = world.person("ada", group)
    inside = Inside(world)
    inside.run()
    account = world.keeper.account("ada@example.com").id
    world.keeper.accept_invitation(account)
    world.jumpcloud.suspend(one)
    world.back.faults.add(close(), method="PATCH", times=9)
    inside.later(minutes=5)
    inside.run()
    world.back.faults.clear()
    world.jumpcloud.activate(one)
    inside.later(minutes=1)
    assert inside.run().results == {}, "nothing but locks, until two minutes have passed"
    world.keeper.lock(account)
    for _ in range(2):
        inside.later(minutes=5)
        inside.run()
    assert world.keeper.account(account).active
    world.keeper.lock(account)
    for _ in range(2):
        inside.later(minutes=65)
        inside.run()
    assert world.keeper.account(account).locked, "an administrator's lock, after our clear answer"


def test_an_address_that_is_taken_may_be_an_alias_of_somebody_here(world: World) -> None:
    group = fill(world)
    account = there(world, "ada@example.com")
    world.keeper.change_email(account, "old.ada@example.com")
    joined(world, group, "ada@example.com")
    out = " ".join(world.run("apply", expect=5).stdout.split())
    assert "as an alias of another user" in out and "enterprise-info" in out


def answering(world: World, address: Callable[[str], str]) -> list[str]:
    """Have Keeper take each creation for one of another address; returns the list of the addresses it is sent."""
    sent: list[str] = []

    def run(handle: Callable[[Request], Response], request: Request) -> Response:
        document = json.loads(request.body)
        sent.append(document["userName"])
        document["userName"] = address(sent[-1])
        document["emails"] = [{"value": document["userName"]}]
        return handle(replace(request, body=json.dumps(document).encode()))

    world.back.faults.add(Answered(run), method="POST", target="/Users")
    return sent


def rewritten(world: World) -> list[str]:
    """Have Keeper make each account under another domain than asked for."""
    world.keeper.reserve_domain("corp.example")
    return answering(world, lambda address: address.replace("@example.com", "@corp.example"))


def test_a_keeper_that_creates_under_other_addresses_is_sent_two_people_until_a_resync(world: World) -> None:
    fill(world, 6)
    world.safety["max_creations"] = "1000"
    world.write_settings()
    sent = rewritten(world)
    out = " ".join(world.run("apply", expect=5).stdout.split())
    assert len(sent) == len(world.keeper.accounts()) == 2
    assert "No further create_user is sent" in out and "reconciler resync" in out
    assert "or Keeper has made it under that address" in out and "not new" not in out and "nothing was" not in out
    out = " ".join(world.run("apply", expect=5).stdout.split())
    assert len(sent) == 2 and "No further create_user is sent" in out
    world.run("resync", expect=5)
    assert len(sent) == 4
    for address in sent[:2]:
        world.run("adopt", address)
    world.run("apply", expect=5)
    assert sum(bool(one.external_id) for one in world.keeper.accounts().values()) == 2, "a person has decided"
    world.back.faults.clear()
    world.run("resync")
    assert sum(bool(one.external_id) for one in world.keeper.accounts().values()) == 4
    assert "No further create_user" not in world.run("apply").stdout


def test_accounts_under_other_addresses_are_counted_from_cycle_to_cycle_and_by_lists_too(world: World) -> None:
    group = fill(world)
    inside = Inside(world)
    inside.run()
    sent = rewritten(world)
    world.back.faults.add(close(effect=True), method="POST", target="/Users", times=1)
    for number in range(5):
        joined(world, group, f"n{number}@example.com")
        inside.later(minutes=5)
        inside.run()
    assert len(sent) == 2


def test_a_keeper_that_links_every_creation_to_one_account_is_stopped(world: World) -> None:
    group = fill(world)
    boss = there(world, "boss@example.com")
    world.safety["max_creations"] = "1000"
    world.write_settings()
    world.run("apply", "--resync")
    before = world.keeper.account(boss)
    sent = answering(world, lambda _: "boss@example.com")
    for number in range(20):
        joined(world, group, f"n{number}@example.com")
    out = " ".join(world.run("apply", expect=5).stdout.split())
    assert len(sent) < 10, "those on the wire, and no more"
    assert "No further create_user is sent" in out
    # While one link is undone, another creation on the wire may be linked: the next run undoes that.
    world.run("apply", expect=5)
    assert len(sent) < 10 and plain(world.keeper.account(boss)) == plain(before)


def test_one_alias_among_many_stops_nobody_elses_creation(world: World) -> None:
    fill(world)
    account = aliased(world, "p3@example.com")
    before = world.keeper.account(account)
    out = " ".join(world.run("apply", expect=5).stdout.split())
    assert "No further" not in out and "reconciler adopt p3@example.com" in out
    assert plain(world.keeper.account(account)) == plain(before)
    assert sum(bool(one.external_id) for one in world.keeper.accounts().values()) == 11
    world.run("adopt", "p3@example.com")
    world.run("apply")
    assert world.differences() == []


def test_one_person_whom_keeper_always_answers_with_an_account_elsewhere_stops_nobody_else(world: World) -> None:
    """The account is of another node, which no list shows, so that the creation is repeated."""
    group = fill(world)
    world.safety["max_creations"] = "1000"
    world.write_settings()
    world.run("apply")

    def run(handle: Callable[[Request], Response], request: Request) -> Response:
        if b"zoe@" not in request.body:
            return handle(request)
        return Response.of_json(
            200, json.loads(request.body) | {"id": "1234567890123456", "userName": "quinn@example.com"}
        )

    world.back.faults.add(Answered(run), method="POST", target="/Users")
    joined(world, group, "zoe@example.com")
    for _ in range(3):
        assert "No further create_user" not in world.run("apply", expect=5).stdout
    joined(world, group, "ada@example.com")
    world.run("apply", expect=5)
    assert world.keeper.account("ada@example.com").external_id
