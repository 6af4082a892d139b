"""Faults of lost, restored and newly bound state files, each as a short history."""

import asyncio
import random
from collections.abc import Callable

import pytest

from reconciler import orders
from reconciler.after import After
from reconciler.cycle import Order
from reconciler.orders import Ask, Setting
from reconciler.report.document import read_saved, to_json
from reconciler.simulator.service import Response
from reconciler.store import Store
from tests.campaign import decisions as campaign_decisions
from tests.campaign.ending import ending
from tests.campaign.rules import NODES
from tests.campaign.scenes import SCIM, activate, cycle, disown, group, joined, moves, person, suspend, teams_of
from tests.campaign.seams import Died, Weather
from tests.campaign.world import World


def test_after_a_restore_each_kind_begins_with_a_canary(world: World) -> None:
    """Since the copy was made, Keeper may have begun to do what nobody asks for."""
    world.rules.safety = {"max_grants": "100%"}
    world.keeper.set_dialect(patch_reply="none")
    legal, sales = group(world, "Legal"), group(world, "Sales")
    people = {name: person(world, name, legal) for name in (f"p{n}" for n in range(12))}
    cycle(world)
    for name in people:
        world.keeper.accept_invitation(f"{name}@example.com")
    world.keeper.approve_all()
    world.jumpcloud.add_member(sales, people["p0"])
    world.admin_changed()
    cycle(world, resync=True)
    campaign_decisions.copied(world, random.Random(1))
    world.keeper.set_dialect(add_replaces_groups=True)
    campaign_decisions.put_back(world, *world.copies[0], by_command=True)
    for one in people.values():
        world.jumpcloud.add_member(sales, one)
    world.admin_changed()
    cycle(world)
    assert sum("Legal" not in teams_of(world, name) for name in people) == 1


def test_what_was_done_in_a_former_node_lets_nobody_be_locked_in_the_next(world: World) -> None:
    """Whoever was unlocked there within the window was locked here without counting for a limit."""
    world.rules.safety = {"max_deactivations": "100%", "max_reactivations": "100%"}
    people = [person(world, name) for name in ("ada", "bob", "cy", "dan")]
    person(world, "zoe")
    cycle(world)
    for account in world.keeper.accounts():
        world.keeper.accept_invitation(account)
    suspend(world, *people)
    cycle(world)
    activate(world, *people)
    cycle(world)
    world.rules.safety, world.rules.node = {"max_deactivations": 1, "always_allow": 1}, NODES[1]
    for account in list(world.keeper.accounts()):
        world.keeper.move_user_to_other_node(account, NODES[1])
    world.admin_changed(*world.keeper.accounts())
    person(world, "eve")
    cycle(world, rebind=True, resync=True)
    suspend(world, *people)
    cycle(world)
    assert world.plan is not None
    assert [hold.limit for hold in world.plan.held] == ["max_deactivations"]


def test_a_plan_that_was_saved_before_the_state_file_was_lost_is_no_review_of_the_first_one(world: World) -> None:
    ada = person(world, "ada")
    person(world, "bob")
    cycle(world)
    person(world, "zoe")
    made = world.dry_run(Weather(0), resync=False)
    assert made is not None
    campaign_decisions.lost(world, random.Random(1))
    suspend(world, ada)
    world.observer.agreed(made.effects)
    saved = read_saved(to_json(made).encode(), "the saved plan")
    for order in (Order(by="root", saved=saved), Order(by="root")):
        world.cycle(order, Weather(0))
        assert world.plan is not None
        assert [hold.limit for hold in world.plan.held] == ["first_run"]
    assert world.keeper.account("zoe@example.com")


def test_a_restore_keeps_what_a_canary_has_to_tell(world: World) -> None:
    """The former file knows that an addition has replaced; of somebody without another team, nothing can be told."""
    world.rules.safety = {"max_grants": "100%", "max_creations": "100%"}
    world.keeper.set_dialect(patch_reply="none")
    legal, sales = group(world, "Legal"), group(world, "Sales")
    people = {name: person(world, name, legal) for name in (f"p{n}" for n in range(9))}
    people["a"] = person(world, "a")
    cycle(world)
    copy, known = world.path.read_bytes(), world.observer.remembered()
    for name in people:
        world.keeper.accept_invitation(f"{name}@example.com")
    world.keeper.approve_all()
    world.keeper.set_dialect(add_replaces_groups=True)
    world.jumpcloud.add_member(sales, people["p0"])
    world.admin_changed()
    cycle(world, resync=True)
    world.folder.joinpath("copy").write_bytes(copy)
    Store.restore(world.path, world.folder / "copy")
    world.observer.remembers(known, by_command=True)
    for one in people.values():
        world.jumpcloud.add_member(sales, one)
    world.admin_changed()
    cycle(world)
    assert sum("Legal" not in teams_of(world, name) for name in people if name != "a") <= 2


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("there", [False, True])
def test_who_was_taken_over_and_locked_since_a_copy_was_made_is_unlocked_on_return(
    world: World, there: bool, times: int
) -> None:
    """By the copy nobody manages the account; the file in whose place it is put knows whose the lock is."""
    world.rules.safety = {"max_creations": "100%"}
    joined(world, "bob")
    if there:
        world.keeper.accept_invitation(world.keeper.add_user("ada@example.com"))
        cycle(world, resync=True)
    copy = world.folder / "copy"
    copy.write_bytes(world.path.read_bytes())
    known = world.observer.remembered()
    ada = person(world, "ada")
    cycle(world)
    account = world.keeper.account("ada@example.com").id
    if not there:
        world.keeper.accept_invitation(account)
    suspend(world, ada)
    cycle(world)
    assert world.keeper.account(account).locked
    for _ in range(times):
        Store.restore(world.path, copy)
    world.observer.remembers(known, by_command=True)
    activate(world, ada)
    cycle(world)
    assert not world.keeper.account(account).locked


def test_a_lock_that_a_restore_keeps_lets_nobody_else_in(world: World) -> None:
    """Keeper keeps no ids, and the copy knows nothing of the account: somebody else has its address by now."""
    world.rules.safety = {"max_creations": "100%"}
    world.keeper.set_dialect(ignored_attributes=["externalId"])
    joined(world, "bob")
    copy = world.folder / "copy"
    copy.write_bytes(world.path.read_bytes())
    known = world.observer.remembered()
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world)
    Store.restore(world.path, copy)
    world.observer.remembers(known, by_command=True)
    world.jumpcloud.delete_user(ada)
    person(world, "ada")
    cycle(world)
    assert world.keeper.account(account).locked


def test_a_saved_plan_whose_order_lapsed_lets_nothing_through(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon died over it before anything was sent, and has told to order it again."""
    world.rules.safety = {"max_deactivations": 0, "always_allow": 0}
    ada, account = joined(world, "ada")
    suspend(world, ada)
    saved = world.dry_run(Weather(0), resync=False)
    assert saved is not None and saved.held
    settings, store = world.rules.settings(world.folder), world.open()
    ask = Ask("apply", {"saved": to_json(saved), "agreed": None}, "root", "", settings.digest)
    number = orders.file(ask, store, world.time.now())
    assert store.take(number)

    def dies(*_: object) -> None:
        store.dead = True
        raise Died("death")

    monkeypatch.setattr(store, "write_ahead", dies)
    where = Setting(settings, world._both(), store, world.time.now, asyncio.Event(), After(store), 100)
    with pytest.raises(Died):
        world._run(orders.carry_out(ask, where))
    world.kill()
    with world.open() as store:
        orders.lapse(store, world.time.now())
        order = store.request(number)
    assert order is not None and order.state == "lapsed"
    world.cycle(Order(by="schedule"), Weather(0))
    assert world.keeper.account(account).active


def test_what_is_asked_for_one_person_before_the_first_plan_hides_no_lock_of_ours(world: World) -> None:
    """The answer to it is lost, so that the whole node is listed to find out what became of it."""
    bob, account = joined(world, "bob")
    suspend(world, bob)
    cycle(world)
    assert world.keeper.account(account).locked
    campaign_decisions.lost(world, random.Random(1))
    person(world, "dan")
    lost_answer = Weather(1, script={f"Keeper POST {SCIM}/Users": "late_timeout"})
    world.cycle(Order(by="root", person="dan@example.com"), lost_answer)
    person(world, "eve")
    cycle(world)  # the first plan, which a person reviews
    activate(world, bob)
    cycle(world)
    assert world.keeper.account(account).active


def test_an_old_copy_gives_nobody_a_second_account(world: World) -> None:
    """Its account shows neither the id nor the address of its owner, and another one by now shows both."""
    world.rules.safety = {"max_creations": "100%", "max_deactivations": "100%"}
    sales = group(world, "Sales")
    joined(world, "bob")
    ada, account = joined(world, "ada", sales)
    cycle(world, resync=True)
    copy = world.path.read_bytes(), world.observer.remembered()
    disown(world, "ada@example.com")
    cycle(world)
    world.keeper.change_email(account, "ada.former@example.com", keep_alias=False)
    world.jumpcloud.update_user(ada, email="ada.new@example.com")
    world.admin_changed(account)
    campaign_decisions.lost(world, random.Random(1))
    cycle(world)
    new = world.keeper.account("ada.new@example.com").id
    world.keeper.accept_invitation(new)
    world.admin_changed(new)
    campaign_decisions.put_back(world, *copy, by_command=False)
    cycle(world, resync=True)
    assert not world.keeper.accounts()[account].external_id
    suspend(world, ada)
    cycle(world)
    assert world.keeper.accounts()[new].locked
    ending(world, random.Random(1))


@pytest.mark.parametrize("address", ["ada@example.com", "ada.new@example.com", "ada.former@example.com"])
def test_a_look_at_one_person_gives_them_no_second_account_by_an_old_copy(world: World, address: str) -> None:
    """Ada had given up the account that the copy has for her, and got another one."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    copy = world.path.read_bytes(), world.observer.remembered()
    disown(world, "ada@example.com")
    cycle(world)
    world.keeper.change_email(account, "ada.former@example.com", keep_alias=False)
    new = world.keeper.add_user("ada.new@example.com", external_id=ada)
    world.jumpcloud.update_user(ada, email="ada.new@example.com")
    world.admin_changed(account, new)
    campaign_decisions.put_back(world, *copy, by_command=False)
    cycle(world, person=address, resync=True)
    assert not world.keeper.accounts()[account].external_id
    with world.open() as store:
        rows = store.snapshot().accounts
    world.store = None
    assert [key for key, row in rows.items() if row.jumpcloud_id == ada] == [new]


def move_addresses_on(world: World, ada: str, bob: str) -> None:
    """Ada gets another address in JumpCloud, and Bob the one that her account has."""
    world.jumpcloud.update_user(ada, email="ada.new@example.com")
    world.jumpcloud.update_user(bob, email="ada@example.com")
    world.admin_changed()


def look(world: World, account: str, answer: Callable[[Response], Response]) -> None:
    """A look at Bob, who has the address of this account: it is answered so."""
    world.time.elapsed += 30
    sky = Weather(1, edits={f"Keeper GET {SCIM}/Users/{account}": answer})
    world.say(world.cycle(Order(resync=True, person="ada@example.com", by="root"), sky))


def test_an_account_of_another_that_a_look_at_one_person_misses_is_not_gone(world: World) -> None:
    """Else its owner, who is suspended, would stay active until the next list."""
    world.rules.safety = {"max_creations": 50}
    joined(world, "zoe")
    bob, _ = joined(world, "bob")
    ada, account = joined(world, "ada")
    move_addresses_on(world, ada, bob)
    cycle(world)
    look(world, account, lambda _: Response.of_json(404, {"detail": "not found"}))
    suspend(world, ada)
    world.time.elapsed += 60
    world.say(world.lane(Weather(0)))
    assert world.keeper.accounts()[account].locked


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("first", [0, 1])
def test_the_lane_sees_that_an_account_is_open_though_it_looks_at_it_for_somebody_else_too(
    world: World, first: int, fails: bool
) -> None:
    """Two are suspended at once, and the address of one is that of the other's account, which our last unlock has
    opened without an answer. `fails`: one of the two looks does."""
    world.rules.safety = {"max_creations": 50, "max_deactivations": 50}
    joined(world, "zoe")
    people = sorted((*joined(world, name), name) for name in ("ada", "bob"))
    (ada, account, name), (bob, other, _) = people[first], people[1 - first]
    suspend(world, ada)
    cycle(world)
    activate(world, ada)
    world.jumpcloud.update_user(ada, email="ada.new@example.com")
    world.jumpcloud.update_user(bob, email=f"{name}@example.com")
    world.admin_changed()
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "late_timeout", f"GET {SCIM}/Users": "error"})
    assert not world.keeper.accounts()[account].locked
    suspend(world, ada, bob)
    world.time.elapsed += 60
    world.say(world.lane(Weather(0, script={f"Keeper GET {SCIM}/Users/{other}": "error"} if fails else {})))
    assert world.keeper.accounts()[account].locked


def test_a_look_at_one_person_forgets_no_lock_that_a_restore_has_kept(world: World) -> None:
    """By the copy nobody manages the account, and its read shows how it was before our lock."""
    world.rules.safety = {"max_creations": 50}
    joined(world, "zoe")
    bob, _ = joined(world, "bob")
    copy = world.folder / "copy"
    copy.write_bytes(world.path.read_bytes())
    known = world.observer.remembered()
    ada, account = joined(world, "ada")
    move_addresses_on(world, ada, bob)
    shown: list[Response] = []

    def kept(answer: Response) -> Response:
        shown.append(answer)
        return answer

    look(world, account, kept)
    suspend(world, ada)
    cycle(world)
    assert world.keeper.accounts()[account].locked
    Store.restore(world.path, copy)
    world.observer.remembers(known, by_command=True)
    look(world, account, lambda _: shown[0])
    world.keeper.change_email(account, "ada.new@example.com")
    world.admin_changed(account)
    person(world, "dan")  # so that there is something to review
    cycle(world)
    activate(world, ada)
    cycle(world)
    assert not world.keeper.accounts()[account].locked


def test_a_read_that_is_behind_does_not_make_our_lock_somebody_elses(world: World) -> None:
    """The request of one person reads the account of another, who has their address in Keeper, as it was before our
    lock."""
    person(world, "zoe")
    ada, account = joined(world, "ada")
    bob = person(world, "bob")
    cycle(world)
    world.jumpcloud.update_user(ada, email="ada.new@example.com")
    world.jumpcloud.update_user(bob, email="ada@example.com")
    suspend(world, ada)
    cycle(world)
    assert world.keeper.account(account).locked
    world.time.elapsed -= 570
    cycle(world, {f"GET {SCIM}/Users/{account}": "stale"}, resync=True, person="ada@example.com")
    cycle(world, resync=True, person="ada@example.com")
    activate(world, ada)
    cycle(world)
    assert world.keeper.account(account).active


@pytest.mark.parametrize("times", [1, 2])
def test_a_lock_without_an_answer_is_ours_after_a_restore(world: World, times: int) -> None:
    """The copy was made before it, and no list has told of it yet."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    copy = world.folder / "copy"
    copy.write_bytes(world.path.read_bytes())
    known = world.observer.remembered()
    suspend(world, ada)
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "late_timeout", f"GET {SCIM}/Users": "error"})
    for _ in range(times):
        Store.restore(world.path, copy)
    world.observer.remembers(known, by_command=True)
    cycle(world)
    activate(world, ada)
    cycle(world)
    assert world.keeper.account(account).active
    with world.open() as store:
        [lock] = (row for row in store.journal_rows() if row["kind"] == "deactivate_user")
    world.store = None
    assert (lock["state"], lock["outcome"]) == ("done", "settled")


def test_a_lock_that_a_restore_keeps_stays_ours_while_its_account_is_elsewhere(world: World) -> None:
    """By the journal of the copy the person was let in last."""
    world.rules.safety = {"max_creations": "100%"}
    person(world, "zoe")
    ada, account = joined(world, "ada")
    copy = world.folder / "copy"
    copy.write_bytes(world.path.read_bytes())
    known = world.observer.remembered()
    suspend(world, ada)
    cycle(world)
    Store.restore(world.path, copy)
    world.observer.remembers(known, by_command=True)
    moves(world, account)
    cycle(world, resync=True)
    moves(world, account, back=True)
    cycle(world, resync=True)
    activate(world, ada)
    cycle(world)
    assert world.keeper.account(account).active


@pytest.mark.parametrize("elsewhere", ["when the copy was made", "when it was put back"])
def test_a_restore_keeps_our_lock_on_an_account_that_is_or_was_elsewhere(world: World, elsewhere: str) -> None:
    world.rules.safety = {"max_creations": "100%"}
    person(world, "zoe")
    ada, account = joined(world, "ada")
    earlier = elsewhere == "when the copy was made"
    if earlier:
        world.keeper.lock(account)
        world.admin_changed(account)
        cycle(world, resync=True)
        moves(world, account)
        cycle(world, resync=True)
    copy = world.folder / "copy"
    copy.write_bytes(world.path.read_bytes())
    known = world.observer.remembered()
    if earlier:
        world.keeper.unlock(account)
        moves(world, account, back=True)
        cycle(world, resync=True)
    suspend(world, ada)
    cycle(world)
    assert world.keeper.account(account).locked
    if not earlier:
        moves(world, account)
        cycle(world, resync=True)
    Store.restore(world.path, copy)
    world.observer.remembers(known, by_command=True)
    cycle(world, resync=True)
    if not earlier:
        moves(world, account, back=True)
        cycle(world, resync=True)
    activate(world, ada)
    cycle(world)
    assert world.keeper.account(account).active


@pytest.mark.parametrize("by_the_copy", ["locked by us", "open"])
def test_a_restore_keeps_a_lock_of_somebody_else_on_an_account_that_is_elsewhere(
    world: World, by_the_copy: str
) -> None:
    world.rules.safety = {"max_creations": "100%"}
    person(world, "zoe")
    ada, account = joined(world, "ada")
    if by_the_copy == "locked by us":
        suspend(world, ada)
    cycle(world)
    copy = world.folder / "copy"
    copy.write_bytes(world.path.read_bytes())
    known = world.observer.remembered()
    activate(world, ada)
    cycle(world)
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    moves(world, account)
    cycle(world, resync=True)
    Store.restore(world.path, copy)
    world.observer.remembers(known, by_command=True)
    cycle(world, resync=True)
    assert world.plan is not None and not world.plan.operations
    moves(world, account, back=True)
    cycle(world, resync=True)
    cycle(world, resync=True)
    assert world.keeper.account(account).locked


@pytest.mark.parametrize("by_the_copy", ["unknown", "nobody's"])
def test_a_restore_keeps_our_lock_on_an_account_that_is_elsewhere_and_new_since_the_copy(
    world: World, by_the_copy: str
) -> None:
    world.rules.safety = {"max_creations": "100%"}
    person(world, "zoe")
    cycle(world)
    if by_the_copy == "nobody's":
        world.keeper.add_user("ada@example.com")
        cycle(world, resync=True)
    copy = world.folder / "copy"
    copy.write_bytes(world.path.read_bytes())
    known = world.observer.remembered()
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world)
    assert world.keeper.account(account).locked
    moves(world, account)
    cycle(world, resync=True)
    Store.restore(world.path, copy)
    world.observer.remembers(known, by_command=True)
    cycle(world, resync=True)
    moves(world, account, back=True)
    activate(world, ada)
    cycle(world, resync=True)
    cycle(world)
    assert world.keeper.account(account).active


@pytest.mark.parametrize("back", ["before the restore", "after it"])
def test_a_restore_keeps_a_lock_without_an_answer_whose_account_was_elsewhere(world: World, back: str) -> None:
    """A list found it gone before one told of the lock, so that the former journal has it as done."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    copy = world.folder / "copy"
    copy.write_bytes(world.path.read_bytes())
    known = world.observer.remembered()
    suspend(world, ada)
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "late_timeout", f"GET {SCIM}/Users": "error"})
    moves(world, account)
    cycle(world)
    if back == "before the restore":
        moves(world, account, back=True)
    Store.restore(world.path, copy)
    world.observer.remembers(known, by_command=True)
    cycle(world)
    if back == "after it":
        moves(world, account, back=True)
        cycle(world, resync=True)
    activate(world, ada)
    for _ in range(2):
        cycle(world)
    assert world.keeper.account(account).active
