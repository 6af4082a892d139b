"""Faults that reviews of the code have found, each as a short history."""

import asyncio
import json
import random
from typing import Any

import pytest

from reconciler import consent, decisions, orders
from reconciler.after import After
from reconciler.alerts import HISTORY, TOLD_WHEN_DONE, AlertKind, Fact, Situation, facts
from reconciler.clocks import corrected
from reconciler.cycle import Order
from reconciler.orders import Ask, Setting
from reconciler.plan import Rule
from reconciler.reading import Stopped
from reconciler.report import leavers, status
from reconciler.report.document import held_effects
from reconciler.simulator.service import Request, Response
from tests.campaign import decisions as campaign_decisions
from tests.campaign.ending import ending
from tests.campaign.rules import NODES
from tests.campaign.scenes import (
    SCIM,
    activate,
    adopt,
    cycle,
    group,
    joined,
    moves,
    person,
    suspend,
    team_deleted_without_answer,
    teams_of,
    ten_minutes,
)
from tests.campaign.seams import Weather
from tests.campaign.world import World


def shown(world: World) -> dict[str, Any]:
    """The document of `status`."""
    with world.open() as store:
        found = status.document(store, world.rules.settings(world.folder), world.time.now())
    world.store = None
    return found


def ada_is_suspended(world: World) -> None:
    """One of three people is suspended, whose lock no limit lets through."""
    world.rules.safety = {"max_deactivations": 0, "always_allow": 0}
    people = {name: person(world, name) for name in ("ada", "bob", "cy")}
    cycle(world)
    world.keeper.accept_invitation("ada@example.com")
    suspend(world, people["ada"])


def held(world: World) -> list[str]:
    """The limits that hold the last plan."""
    assert world.plan is not None
    return [hold.limit for hold in world.plan.held]


def told(world: World, kind: AlertKind, *, whole: bool = True) -> list[Fact]:
    """The facts of one kind that an alert after the last cycle tells."""
    with world.open() as store:
        settings, now = world.rules.settings(world.folder), world.time.now()
        situation = Situation(
            now,
            store.snapshot(),
            settings.policy(),
            settings.teams.queue_age,
            world.plan,
            whole=whole,
            done=store.done_since(now - HISTORY, TOLD_WHEN_DONE),
            passed=store.open_kinds(now),
        )
    world.store = None
    return [fact for fact in facts(situation) if fact.kind is kind]


def test_undone_links_are_no_team_loss(world: World) -> None:
    world.keeper.set_dialect(links_aliases=True)
    world.rules.safety = {"max_team_loss": "25%"}
    sales = group(world, "Sales")
    names = ("ada", "bob", "cy", "dan", "eve", "fay")
    people = {n: person(world, n, sales) for n in names}
    cycle(world)
    for n in names:
        world.keeper.accept_invitation(f"{n}@example.com")
    world.keeper.approve_all()
    for n in ("g", "h"):
        acc = world.keeper.add_user(f"{n}@example.com")
        world.keeper.accept_invitation(acc)
        world.keeper.change_email(acc, f"x{n}@example.com", keep_alias=True)
        world.admin_changed(acc)
    cycle(world, resync=True)
    for n in ("g", "h"):
        person(world, n, sales)
        cycle(world)
    world.jumpcloud.bind_user(world.application, people["ada"])
    world.jumpcloud.remove_member(sales, people["ada"])
    world.admin_changed()
    assert "max_team_loss" not in cycle(world)


@pytest.mark.parametrize("keeper", [True, False])
def test_a_hold_that_was_released_and_done_is_over_while_a_list_is_down(world: World, keeper: bool) -> None:
    world.rules.safety = {"max_deactivations": 0, "always_allow": 0}
    sales = group(world, "Sales")
    people = [person(world, n, sales) for n in ("ada", "bob", "cy")]
    cycle(world)
    suspend(world, people[0])
    if keeper:
        world.keeper.refuse("Users", 503)
    else:
        world.jumpcloud.oddities.take_down("/api/v2/applications/[^/]+/usergroups", 403)
    cycle(world, resync=True)
    assert shown(world)["held"]
    campaign_decisions.consent_to_held(world)
    for _ in range(4):
        cycle(world, resync=True)
    assert shown(world)["held"] is None


def test_a_refused_removal_is_no_lost_team(world: World) -> None:
    sales, legal = group(world, "Sales"), group(world, "Legal")
    ada, account = joined(world, "ada", sales)
    cycle(world)
    world.jumpcloud.add_member(legal, ada)
    world.jumpcloud.remove_member(sales, ada)
    world.admin_changed(account)
    patch = f"PATCH {SCIM}/Users/{account}"
    cycle(world, {f"{patch}#1": "refused", f"{patch}#2": "refused", f"{patch}#3": ""})
    assert teams_of(world, "ada") == {"Sales", "Legal"}
    assert not told(world, AlertKind.LOST_TEAM)


def test_nobody_is_stuck_for_whom_nothing_is_due(world: World) -> None:
    person(world, "ada")
    bob, _ = joined(world, "bob")
    world.keeper.set_seats(2)
    cy = person(world, "cy")
    for _ in range(5):
        world.time.elapsed += 3600
        cycle(world)
    assert told(world, AlertKind.STUCK)
    world.jumpcloud.delete_user(cy)
    world.admin_changed()
    cycle(world)
    assert not told(world, AlertKind.STUCK)
    suspend(world, bob)
    world.time.elapsed += 60
    world.lane(Weather(0))
    assert not told(world, AlertKind.STUCK, whole=False)


def test_what_waits_once_more_beside_an_open_release_is_held(world: World) -> None:
    world.rules.teams = {"review": ["IT"]}
    world.rules.safety = {"max_creations": 0, "always_allow": 0}
    it = group(world, "IT")
    ada = person(world, "ada")
    person(world, "zoe", it)
    cycle(world)
    world.keeper.accept_invitation("ada@example.com")
    world.keeper.accept_invitation("zoe@example.com")
    world.keeper.approve_all()
    world.time.elapsed += 30 * 3600
    cycle(world, resync=True)
    world.jumpcloud.add_member(it, ada)
    person(world, "cy")
    world.keeper.set_seats(2)
    world.admin_changed()
    cycle(world)
    assert held(world) == ["teams.review", "max_creations"]
    campaign_decisions.consent_to_held(world)
    cycle(world)
    account = world.keeper.account("ada@example.com")
    cycle(world, resync=True)
    world.keeper.remove_member(account.id, account.teams[0])
    world.admin_changed(account.id)
    cycle(world, resync=True)
    assert held(world) == ["teams.review"]
    assert shown(world)["held"]


def test_the_plan_of_a_former_node_releases_nothing(world: World) -> None:
    person(world, "ada")
    person(world, "bob")
    world.cycle(Order(by="root"), Weather(0))  # the first plan for the first node waits
    assert world.plan is not None
    former = world.plan.id
    world.rules.node = NODES[1]
    person(world, "cy")
    world.cycle(Order(by="root", rebind=True, resync=True), Weather(0))
    assert held(world) == ["first_run"] and world.plan and world.plan.id != former
    with world.open() as store:
        run = store.held_run(former)  # as `reconciler release FORMER` looks for it
        if run is not None:
            effects = held_effects(store.document(run.id))
            consent.agree(store, former, effects, by="root", at=world.time.now(), reason="")
    world.store = None
    world.observer.agreed(world.plan.effects)
    world.cycle(Order(by="root"), Weather(0))
    assert not world.keeper.accounts()  # ada, bob and cy are in the second node, and the first plan counts as reviewed


def test_a_hold_of_the_former_node_is_over_after_a_rebind_that_failed(world: World) -> None:
    person(world, "ada")
    person(world, "bob")
    world.cycle(Order(by="root"), Weather(0))
    world.rules.node = NODES[1]
    users = "/api/v2/applications/[^/]+/users"
    world.jumpcloud.oddities.take_down(users, 500)
    cycle(world, rebind=True, resync=True)
    world.jumpcloud.oddities.put_up(users)
    assert shown(world)["held"] is None
    campaign_decisions.consent_to_held(world)
    person(world, "cy")
    world.cycle(Order(by="root"), Weather(0))
    assert not world.keeper.accounts()


def test_no_more_than_three_accounts_vanish_beside_the_lane(world: World) -> None:
    world.rules.safety = {"max_deactivations": "100%"}
    people = [person(world, name) for name in "abcdefghij"]
    cycle(world)
    suspend(world, *people[:8])
    world.cycle(Order(by="root"), Weather(3), [(0.0, None), (0.3, None), (0.6, None), (2, None)])
    with world.open() as store:
        rows = [row["outcome"] for row in store.journal_rows() if row["kind"] == "deactivate_user"]
    world.store = None
    assert rows.count("gone") <= 3


def test_what_is_held_can_be_released_after_many_small_runs(world: World) -> None:
    world.rules.safety = {"max_deactivations": 0, "always_allow": 0}
    people = {name: person(world, name) for name in ("ada", "bob", "cy")}
    cycle(world)
    for name in people:
        world.keeper.accept_invitation(f"{name}@example.com")
    suspend(world, people["ada"])
    assert "max_deactivations" in cycle(world)
    for number in range(31):
        world.jumpcloud.update_user(people["bob"], firstname=f"Bob{number}")
        world.admin_changed()
        cycle(world, person="bob@example.com", resync=True)
    assert shown(world)["held"]["reasons"]
    assert campaign_decisions.consent_to_held(world)
    cycle(world)
    assert not world.keeper.account("ada@example.com").active


def test_a_resync_of_one_person_lifts_no_stop(world: World) -> None:
    world.keeper.set_dialect(links_aliases=True)
    world.rules.safety = {"max_creations": 50}
    for name in ("ada", "bob", "cy", "dan", "eve", "fay"):
        person(world, name)
    cycle(world)
    names = [f"n{number}" for number in range(12)]
    for name in names:
        account = world.keeper.add_user(f"{name}@example.com")
        world.keeper.accept_invitation(account)
        world.keeper.change_email(account, f"x{name}@example.com", keep_alias=True)
        world.admin_changed(account)
    cycle(world, resync=True)
    for name in names:
        person(world, name)

    def linked() -> int:
        with world.open() as store:
            found = [row for row in store.journal_rows() if row["outcome"] == "linked_to_another"]
        world.store = None
        return len(found)

    world.cycle(Order(by="root"), Weather(0))
    world.cycle(Order(by="root"), Weather(0))
    before = linked()
    for _ in range(4):
        world.cycle(Order(by="root", person="ada@example.com", resync=True), Weather(0))
        world.cycle(Order(by="root"), Weather(0))
    assert linked() == before


def test_a_release_is_not_used_up_by_what_keeper_refused(world: World) -> None:
    world.rules.teams = {"review": ["IT", "Sales"]}
    it, sales = group(world, "IT"), group(world, "Sales")
    ada = person(world, "ada")
    cycle(world)
    world.keeper.accept_invitation("ada@example.com")
    world.keeper.approve_all()
    account = world.keeper.account("ada@example.com").id
    world.jumpcloud.add_member(it, ada)
    world.jumpcloud.add_member(sales, ada)
    world.admin_changed(account)
    cycle(world)
    campaign_decisions.consent_to_held(world)
    patch = f"PATCH {SCIM}/Users/{account}"
    cycle(world, {f"{patch}#1": "refused", f"{patch}#2": "refused", f"{patch}#3": ""})
    cycle(world)
    assert teams_of(world, "ada") == {"IT", "Sales"}


def test_an_address_that_keeper_ignored_is_not_told_as_changed(world: World) -> None:
    world.keeper.set_dialect(username_change="ignore")
    world.rules.policy["address_change"] = "send"
    ada = person(world, "ada")
    person(world, "bob")
    cycle(world)
    world.jumpcloud.update_user(ada, email="zoe@example.com")
    world.admin_changed()
    cycle(world)
    assert "zoe@example.com" not in [account.email for account in world.keeper.accounts().values()]
    assert not told(world, AlertKind.ADDRESS_CHANGE)


def test_a_lock_whose_outcome_cannot_be_read_is_not_sent_every_minute(world: World) -> None:
    ada, account = joined(world, "ada")
    person(world, "bob")
    cycle(world, resync=True)
    world.keeper.show_oddly(account, {}, ("active",))
    suspend(world, ada)
    for _ in range(10):
        world.time.elapsed += 60
        world.lane(Weather(0))
    with world.open() as store:
        rows = [row for row in store.journal_rows() if row["kind"] == "deactivate_user"]
    world.store = None
    assert len(rows) <= 5


def test_a_release_that_lapsed_lets_nothing_through(world: World) -> None:
    ada_is_suspended(world)
    assert "max_deactivations" in cycle(world)
    settings = world.rules.settings(world.folder)
    store = world.open()
    run = store.held_run()
    assert run is not None
    agreed = orders.agreement(store, run.plan_id, held_effects(store.document(run.id)), "")
    number = orders.file(Ask("apply", {"agreed": agreed}, "root", "", settings.digest), store, world.time.now())

    async def served() -> None:  # as the daemon does it, which is told to stop meanwhile
        stopping = asyncio.Event()
        stopping.set()
        where = Setting(settings, world._both(), store, world.time.now, stopping, After(store), 100)
        assert store.take(number)
        try:
            order = store.request(number)
            assert order is not None
            await orders.carry_out(orders.filed(order), where)
        except Stopped:
            store.put_back(number)

    world._run(served())
    world.time.elapsed += 600
    orders.lapse(store, world.time.now())  # the daemon starts ten minutes later: "nothing was done"
    order = store.request(number)
    assert order is not None and order.state == "lapsed"
    world.close()
    world.restart()
    world.cycle(Order(by="schedule"), Weather(0))
    assert world.keeper.account("ada@example.com").active


def test_a_release_that_ran_out_hides_no_hold(world: World) -> None:
    ada_is_suspended(world)
    with world.open() as store:
        store.add_request("pause", {}, by="root", at=world.time.now(), reason="x")
    world.store = None
    cycle(world)
    campaign_decisions.consent_to_held(world)
    cycle(world)
    world.time.elapsed += 5 * 3600  # the release has run out, unused
    with world.open() as store:
        store.resume("root", world.time.now(), "")
    world.store = None
    assert "max_deactivations" in cycle(world)
    assert shown(world)["held"]


def test_a_release_of_days_ago_lets_nothing_through(world: World) -> None:
    ada_is_suspended(world)
    assert "max_deactivations" in cycle(world)
    world.jumpcloud.oddities.take_down("/api/applications.*", 500)
    campaign_decisions.consent_to_held(world)
    for _ in range(12):
        world.time.elapsed += 6 * 3600
        world.cycle(Order(by="root"), Weather(0))
    world.jumpcloud.oddities.put_up("/api/applications.*")
    world.cycle(Order(by="root"), Weather(0))
    assert world.keeper.account("ada@example.com").active


def test_the_metric_tells_of_no_hold_that_is_over(world: World) -> None:
    world.rules.safety = {"max_deactivations": 0, "always_allow": 0}
    sales = group(world, "Sales")
    people = [person(world, name, sales) for name in ("ada", "bob", "cy")]
    cycle(world)
    suspend(world, people[0])
    world.keeper.refuse("Users", 503)
    cycle(world, resync=True)
    campaign_decisions.consent_to_held(world)
    for _ in range(4):
        cycle(world, resync=True)
    with world.open() as store:
        after = After(store)
        after.measure(world.rules.settings(world.folder))
        assert b'reconciler_held_operations{tenant=""} 0.0' in after.metrics(world.time.now())
    world.store = None


@pytest.mark.parametrize("arrives", [False, True])
def test_the_lane_sends_a_lost_lock_again_though_the_record_tells_nothing(world: World, arrives: bool) -> None:
    ada, account = joined(world, "ada")
    person(world, "bob")
    cycle(world, resync=True)
    world.keeper.show_oddly(account, {}, ("active",))
    cycle(world, resync=True)
    suspend(world, ada)
    world.jumpcloud.oddities.take_down("/api/v2/applications/[^/]+/users", 500)
    world.time.elapsed += 60
    kind = "late_timeout" if arrives else "timeout"
    world.lane(Weather(1, script={f"Keeper PATCH {SCIM}/Users/{account}": kind}))
    ten_minutes(world)
    assert world.keeper.accounts()[account].locked


def test_the_lane_locks_whose_team_change_had_no_answer_though_the_record_tells_nothing(world: World) -> None:
    sales, it = group(world, "Sales"), group(world, "IT")
    ada, account = joined(world, "ada", sales)
    person(world, "bob", it)
    cycle(world, resync=True)
    world.keeper.show_oddly(account, {}, ("active",))
    world.jumpcloud.add_member(it, ada)
    world.admin_changed(account)
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "timeout"}, resync=True)
    suspend(world, ada)
    world.jumpcloud.oddities.take_down("/api/v2/applications/[^/]+/users", 500)
    ten_minutes(world)
    assert world.keeper.accounts()[account].locked


def test_nothing_tells_of_an_unlock_that_a_later_lock_covers_whether_it_arrived(world: World) -> None:
    """While the record hides the lock, all three have no known outcome."""
    ada, account = joined(world, "ada")
    cycle(world)
    world.keeper.show_oddly(account, {}, ("active",))
    for step in (suspend, activate, suspend):
        step(world, ada)
        cycle(world)
    world.keeper.show_oddly(account)
    ending(world, random.Random(1))
    assert world.keeper.accounts()[account].locked and not world.observer.violations


@pytest.mark.parametrize("behind", [False, True])
def test_a_release_counts_that_was_given_while_the_clock_was_behind(world: World, behind: bool) -> None:
    ada_is_suspended(world)
    assert "max_deactivations" in cycle(world)
    world.time.elapsed += 6 * 3600  # the machine is off; when it is on again its clock has lost the date
    if behind:
        world.time.offset = -30 * 86400
    with world.open() as store:
        run = store.held_run()
        assert run is not None
        effects = held_effects(store.document(run.id))
        consent.agree(store, run.plan_id, effects, by="root", at=corrected(store, world.time.now)(), reason="")
        world.observer.agreed(effects)
    world.store = None
    world.cycle(Order(by="schedule"), Weather(0))
    assert world.keeper.account("ada@example.com").locked


def test_what_a_rebind_holds_is_held_though_a_look_at_one_person_came_between(world: World) -> None:
    joined(world, "ada")
    joined(world, "bob")
    cycle(world, resync=True)
    world.rules.node = NODES[1]
    slow = Weather(0, script={"JumpCloud GET /api/applications": "slow"})
    beside = [(0.05, Order(person="bob@example.com", resync=True, by="root"))]
    world.cycle(Order(by="root", rebind=True, resync=True), slow, beside)
    assert held(world) == ["first_run"]
    assert shown(world)["held"]


def test_a_refused_removal_beside_a_refused_name_is_no_lost_team(world: World) -> None:
    sales, legal = group(world, "Sales"), group(world, "Legal")
    ada, account = joined(world, "ada", sales)
    cycle(world)
    world.jumpcloud.add_member(legal, ada)
    world.jumpcloud.remove_member(sales, ada)
    world.jumpcloud.update_user(ada, firstname="Adele")
    world.admin_changed(account)
    patch = f"PATCH {SCIM}/Users/{account}"
    cycle(world, {f"{patch}#{n}": "refused" for n in (1, 2, 3, 4)} | {f"{patch}#5": ""})
    assert teams_of(world, "ada") == {"Sales", "Legal"}
    assert not told(world, AlertKind.LOST_TEAM)


def test_a_release_that_ran_out_while_cycles_fail_hides_no_hold(world: World) -> None:
    ada_is_suspended(world)
    assert "max_deactivations" in cycle(world)
    world.jumpcloud.oddities.take_down("/api/v2/applications/[^/]+/users", 500)
    campaign_decisions.consent_to_held(world)
    cycle(world)
    world.time.elapsed += 5 * 3600
    cycle(world)
    assert shown(world)["held"]


@pytest.mark.parametrize("apart", [False, True])
def test_a_team_that_was_queued_in_the_run_stays_new_after_a_partial_refusal(world: World, apart: bool) -> None:
    world.rules.safety = {"max_creations": 50, "max_grants": 1, "always_allow": 0}
    legal, it = group(world, "Legal"), group(world, "IT")
    ada, account = joined(world, "ada", it)
    bob, other = joined(world, "bob", it)
    joined(world, "cy", legal)
    cycle(world, resync=True)
    world.time.elapsed += 30 * 3600  # what was queued then is not new any more
    cycle(world, resync=True)
    new, second = group(world, "New"), group(world, "Second")
    world.jumpcloud.add_member(new, ada)
    world.jumpcloud.add_member(second, ada)
    world.admin_changed(account)
    patch = f"PATCH {SCIM}/Users/{account}"
    cycle(world, {f"{patch}#1": "refused", f"{patch}#2": "refused", f"{patch}#3": ""} if apart else {})
    world.jumpcloud.add_member(legal, bob)
    world.admin_changed(other)
    cycle(world)
    assert not held(world)


def test_a_release_that_was_filed_before_a_rebind_releases_nothing(world: World) -> None:
    person(world, "ada")
    person(world, "bob")
    world.cycle(Order(by="root"), Weather(0))
    world.rules.node = NODES[1]
    with world.open() as store:
        run = store.held_run()
        assert run is not None
        agreed = orders.agreement(store, run.plan_id, held_effects(store.document(run.id)), "")
        settings = world.rules.settings(world.folder)
        number = orders.file(Ask("apply", {"agreed": agreed}, "root", "", settings.digest), store, world.time.now())
    world.store = None
    person(world, "cy")
    world.cycle(Order(by="root", rebind=True, resync=True), Weather(0))
    assert held(world) == ["first_run"]
    store = world.open()

    async def served() -> None:
        where = Setting(settings, world._both(), store, world.time.now, asyncio.Event(), After(store), 100)
        assert store.take(number)
        order = store.request(number)
        assert order is not None
        await orders.carry_out(orders.filed(order), where)

    world._run(served())
    world.close()
    world.restart()
    assert not world.keeper.accounts()


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("leaves", [True, False])
def test_who_left_a_group_while_the_account_was_in_another_node_loses_its_team(
    world: World, listed: bool, hidden: bool, leaves: bool
) -> None:
    """Else it would be told as given in Keeper, and left."""
    world.keeper.set_dialect(queues_every_membership=hidden, shows_pending_memberships=not hidden)
    sales, it = group(world, "Sales"), group(world, "IT")
    ada, account = joined(world, "ada", sales, it)
    joined(world, "bob", sales, it)
    cycle(world, resync=True)
    world.keeper.move_user_to_other_node(account, NODES[1])
    world.admin_changed(account)
    if listed:
        cycle(world, resync=True)
    if leaves:
        suspend(world, ada)
        cycle(world)
    world.jumpcloud.remove_member(sales, ada)
    world.admin_changed()
    cycle(world)
    world.keeper.move_user_to_other_node(account, NODES[0])
    world.admin_changed(account)
    world.observer.ledger.known[account] = world.observer.tick
    if leaves:
        cycle(world, resync=True)
        activate(world, ada)
    assert ending(world, random.Random(1))
    assert teams_of(world, "ada") == {"IT"}


def test_who_left_a_group_while_the_account_was_elsewhere_loses_its_team_though_a_creation_meets_the_account(
    world: World,
) -> None:
    world.rules.safety = {"max_creations": 50, "max_grants": 50}
    sales, it = group(world, "Sales"), group(world, "IT")
    joined(world, "bob", sales, it)
    ada, account = joined(world, "ada", sales, it)
    cycle(world, resync=True)
    moves(world, account)
    world.jumpcloud.remove_member(sales, ada)
    world.admin_changed()
    weather = Weather(1, script={f"Keeper POST {SCIM}/Users": ""}, then=lambda: moves(world, account, back=True))
    world.cycle(Order(by="root", resync=True), weather)
    assert ending(world, random.Random(1))
    assert teams_of(world, "ada") == {"IT"}


@pytest.mark.parametrize("away", [True, False])
def test_nobody_stays_locked_out_for_a_team_that_keeper_answers_with_404(
    world: World, monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    """A team was rejected in the queue. The 404 may as well be about the account, which is not here then."""
    world.rules.safety = {"max_grants": 50}
    world.keeper.set_dialect(shows_queued_teams=False)
    joined(world, "bob")
    sales = group(world, "Sales")
    ada, account = joined(world, "ada", sales)
    handle = world.keeper.handle

    def unknown(asked: Request) -> Response:
        reply = handle(asked)
        return Response.of_json(404, {"message": "Not found"}) if b"No team" in reply.body else reply

    monkeypatch.setattr(world.keeper, "handle", unknown)
    suspend(world, ada)
    legal = group(world, "Legal")
    cycle(world)
    world.keeper.delete_team("Legal")
    world.jumpcloud.add_member(legal, ada)
    world.jumpcloud.remove_member(sales, ada)
    activate(world, ada)
    if away:
        world.keeper.delete_user(account)
        world.admin_changed(account)
    cycle(world)
    cycle(world)
    there = world.keeper.accounts().get(account)
    assert there is None if away else there is not None and there.active and not there.teams


def test_a_team_is_not_deleted_over_whoever_was_put_there_since_by_hand(world: World) -> None:
    world.rules.policy["grace"] = "0s"
    world.rules.teams = {"out_of_scope": "delete"}
    sales = group(world, "Sales")
    ada, _ = joined(world, "ada", sales)
    _, bob = joined(world, "bob")
    world.jumpcloud.bind_user(world.application, ada)
    world.jumpcloud.unbind_group(world.application, sales)
    world.admin_changed()
    cycle(world, resync=True)
    assert "delete_team" in cycle(world)
    (team,) = world.keeper.teams()
    world.keeper.add_member(bob, team)
    world.admin_changed(bob, team)
    campaign_decisions.consent_to_held(world)
    cycle(world)
    assert teams_of(world, "bob") == {"Sales"}
    assert "given_by_hand" in cycle(world, resync=True)
    assert teams_of(world, "bob") == {"Sales"}


def test_who_leaves_a_group_while_suspended_after_a_lost_state_file_loses_its_team(world: World) -> None:
    """The resync has seen them in the group, so the place is no gift of somebody in Keeper."""
    sales, it = group(world, "Sales"), group(world, "IT")
    ada, _ = joined(world, "ada", sales, it)
    joined(world, "bob", sales, it)
    suspend(world, ada)
    cycle(world, resync=True)
    campaign_decisions.lost(world, random.Random(1))
    cycle(world, resync=True)
    world.jumpcloud.remove_member(sales, ada)
    activate(world, ada)
    assert "given_by_hand" not in cycle(world)
    assert teams_of(world, "ada") == {"IT"}


@pytest.mark.parametrize("same_run", [False, True])
def test_what_the_list_of_a_cycle_tells_of_a_lock_is_not_lost_to_one_that_the_lane_sends_beside(
    world: World, same_run: bool
) -> None:
    """Neither lock has an answer that tells: the first arrived, and Keeper throttles the second."""
    world.rules.safety = {"max_creations": 50}
    ada, account = joined(world, "ada")
    for name in ("bob", "cy"):
        joined(world, name)
    suspend(world, ada)
    read, listing, patch = (f"Keeper {one}" for one in (f"GET {SCIM}/Users/", f"GET {SCIM}/Users?", f"PATCH {SCIM}/"))
    lost, at = {f"{patch}Users/{account}#1": "late_timeout"}, 95.0
    faults = {patch: "throttled_minute", read: "error", listing: "slow"}
    if same_run:
        faults = lost | faults
    else:
        world.cycle(Order(by="root"), Weather(1, script={**lost, listing: "error"}))
        world.time.elapsed += 600
        faults["JumpCloud GET /api/v2/applications/"], at = "slow", 1.0
    world.cycle(Order(by="root"), Weather(1, script=faults), [(at, None)])
    activate(world, ada)
    for _ in range(3):
        cycle(world, resync=True)
    assert world.keeper.account(account).active


def test_the_lane_does_not_lock_whoever_is_given_up_while_it_reads(world: World) -> None:
    ada, account = joined(world, "ada")
    suspend(world, ada)
    left = 2  # the reads of the first look, and of the run itself

    def gives_up() -> None:
        nonlocal left
        left -= 1
        if left:
            asyncio.get_running_loop().call_soon(setattr, weather, "then", gives_up)
        else:
            assert world.store is not None
            decisions.disown(world.store, world.time.now(), "root", "", "ada@example.com")

    weather = Weather(1, script={f"JumpCloud GET /api/systemusers/{ada}": ""}, then=gives_up)
    world.lane(weather)
    assert not left and world.keeper.account(account).active


def one_of_nine_lost_a_team(world: World, *, in_sales: bool = False) -> tuple[str, str, list[str]]:
    """Nine people in Legal, of whom one was put into Sales since Keeper replaces teams: the group Sales, somebody
    apart from them, who may be in Sales, and the nine."""
    world.rules.safety = {"max_grants": "100%", "max_creations": "100%", "max_removals": "100%"}
    world.keeper.set_dialect(patch_reply="none")
    legal, sales = group(world, "Legal"), group(world, "Sales")
    people = [person(world, f"p{n}", legal) for n in range(9)]
    alone = person(world, "a", *[sales] * in_sales)
    if in_sales:
        world.jumpcloud.bind_user(world.application, alone)
    cycle(world)
    for account in world.keeper.accounts():
        world.keeper.accept_invitation(account)
    world.keeper.approve_all()
    world.keeper.set_dialect(add_replaces_groups=True)
    world.jumpcloud.add_member(sales, people[0])
    world.admin_changed()
    cycle(world, resync=True)
    return sales, alone, people


def test_after_a_canary_that_showed_a_replacement_the_next_one_has_to_tell(world: World) -> None:
    """The next run's canary was somebody without another team, of whom none could be lost; it opened the kind."""
    sales, alone, people = one_of_nine_lost_a_team(world)
    for one in (alone, *people):
        world.jumpcloud.add_member(sales, one)
    world.admin_changed()
    cycle(world)
    assert sum("Legal" not in teams_of(world, f"p{n}") for n in range(9)) <= 2


def test_a_list_that_bears_out_a_canary_does_not_tell_that_nothing_is_replaced(world: World) -> None:
    """That canary was read back too early, and takes somebody out of a team: of other teams it tells nothing."""
    sales, alone, people = one_of_nine_lost_a_team(world, in_sales=True)
    world.jumpcloud.remove_member(sales, alone)
    world.admin_changed()
    cycle(world, {f"GET {SCIM}/Users/{world.keeper.account('a@example.com').id}": "stale"})
    for one in people:
        world.jumpcloud.add_member(sales, one)
    world.admin_changed()
    cycle(world)
    assert sum("Legal" not in teams_of(world, f"p{n}") for n in range(9)) <= 2


@pytest.mark.parametrize("queues", [False, True])
def test_additions_that_replace_reach_few_people_though_no_answer_shows_it(world: World, queues: bool) -> None:
    """Their kind was open; one of ten is looked at. What was added may wait unseen, so that no team shows."""
    world.rules.safety = {"max_grants": "100%", "max_creations": "100%"}
    world.keeper.set_dialect(patch_reply="none")
    legal, sales = group(world, "Legal"), group(world, "Sales")
    people = [person(world, f"p{n}", legal) for n in range(60)]
    cycle(world)
    for account in world.keeper.accounts():
        world.keeper.accept_invitation(account)
    world.keeper.approve_all()
    world.jumpcloud.add_member(sales, people[0])
    world.admin_changed()
    cycle(world, resync=True)
    hides = {"queues_every_membership": True, "shows_pending_memberships": False} if queues else {}
    world.keeper.set_dialect(add_replaces_groups=True, **hides)
    for one in people:
        world.jumpcloud.add_member(sales, one)
    world.admin_changed()
    cycle(world)
    assert 10 < sum("Legal" not in teams_of(world, f"p{n}") for n in range(60)) < 30


@pytest.mark.parametrize("shown_by", ["a look", "an answer"])
def test_a_team_that_a_reply_has_shown_is_missed_once_an_addition_has_replaced_it(world: World, shown_by: str) -> None:
    """It was approved after the last list, so it counted as waiting still, and was never given again."""
    world.rules.safety = {"max_grants": "100%"}
    world.keeper.set_dialect(shows_pending_memberships=False)
    sales = group(world, "Sales")
    bob, _ = joined(world, "bob", sales)
    ada = person(world, "ada", group(world, "Legal"))
    cycle(world)
    account = world.keeper.account("ada@example.com").id
    world.keeper.accept_invitation(account)
    cycle(world, resync=True)
    for one in (bob, ada) if shown_by == "an answer" else ():  # the first opens the kind
        world.keeper.approve_all()
        world.jumpcloud.update_user(one, lastname="Other", displayname="Other")
        world.admin_changed(account)
        cycle(world)
    world.keeper.approve_all()
    world.jumpcloud.add_member(sales, ada)
    world.admin_changed(account)
    world.keeper.set_dialect(add_replaces_groups=True)
    cycle(world)
    world.keeper.set_dialect(add_replaces_groups=False)
    for _ in range(2):
        cycle(world, resync=True)
    assert teams_of(world, "ada") == {"Legal", "Sales"}


@pytest.mark.parametrize("how", ["late_timeout", "late_error"])
def test_locks_that_delete_and_are_not_answered_stop_after_a_few(world: World, how: str) -> None:
    """A list told of each, and did not count the accounts that were gone."""
    world.rules.safety = {"max_deactivations": "100%", "max_creations": "100%"}
    people = [person(world, f"p{n}") for n in range(16)]
    cycle(world)
    for account in world.keeper.accounts():
        world.keeper.accept_invitation(account)
    world.keeper.set_dialect(locks_delete=True)
    for one in people[:8]:
        suspend(world, one)
        world.time.elapsed += 60
        world.lane(Weather(1, script={f"Keeper PATCH {SCIM}/Users": how}))
    assert len(people) - len(world.keeper.accounts()) <= 4


def test_a_lock_that_never_arrived_is_not_said_to_have_once_the_account_is_back_and_locked(world: World) -> None:
    """It had no answer, and somebody moved the account to another node before a list told."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "timeout"})
    world.keeper.move_user_to_other_node(account, NODES[1])
    world.admin_changed(account)
    cycle(world, resync=True)
    world.keeper.lock(account)
    world.keeper.move_user_to_other_node(account, NODES[0])
    world.admin_changed(account)
    ending(world, random.Random(1))


def test_a_lock_that_was_refused_and_set_all_the_same_is_undone_on_return(world: World) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    refused = {f"Keeper PATCH {SCIM}/Users/{account}": lambda _: Response.of_json(403, {"message": "refused"})}
    world.time.elapsed += 600
    world.say(world.cycle(Order(by="schedule"), Weather(1, edits=refused)))
    activate(world, ada)
    ending(world, random.Random(1))
    assert world.keeper.account("ada@example.com").active


def test_an_administrator_locks_between_our_look_and_a_lock_that_is_refused(world: World) -> None:
    """Nobody can tell whose lock that is, and the journal does not say that ours is done: excuse 6."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    suspend(world, ada)

    def shown(reply: Response) -> Response:
        world.keeper.lock(account)
        world.admin_changed(account)
        return reply

    weather = Weather(
        1,
        script={f"Keeper PATCH {SCIM}/Users/{account}": "refused"},
        edits={f"Keeper GET {SCIM}/Users/{account}": shown},
    )
    world.time.elapsed += 600
    world.say(world.cycle(Order(by="schedule"), weather))
    activate(world, ada)
    ending(world, random.Random(1))


def test_a_group_that_is_back_has_a_team_again_though_our_deletion_of_the_former_had_no_answer(world: World) -> None:
    """Deletions by somebody else are only reported here, but nobody else has deleted it."""
    world.rules.policy["drift"] = "report"
    sales = team_deleted_without_answer(world)
    for _ in range(3):
        cycle(world, resync=True)
    world.jumpcloud.bind_group(world.application, sales)
    world.admin_changed()
    cycle(world)
    assert [one.name for one in world.keeper.teams().values()] == ["Sales"]
    ending(world, random.Random(1))


def test_a_queueing_that_a_person_let_be_repeated_is_not_said_to_have_made_the_team(world: World) -> None:
    """It never arrived; the team that shows is that of the second request."""
    person(world, "zoe")
    cycle(world)
    group(world, "Ops")
    cycle(world, {f"POST {SCIM}/Groups": "timeout"})
    for _ in range(2):
        cycle(world, resync=True)
    campaign_decisions.consent_to_held(world)
    cycle(world)
    cycle(world, resync=True)
    with world.open() as store:
        rows = [row for row in store.journal_rows() if row["kind"] == "queue_team"]
    world.store = None
    assert [row["state"] for row in rows] == ["done", "put_off"]


def evidence(world: World) -> list[dict[str, Any]]:
    """The entries of `leavers`."""
    with world.open() as store:
        policy = world.rules.settings(world.folder).policy()
        found = leavers.document(store, policy, world.time.now() - HISTORY, world.time.now())
    world.store = None
    return list(found["leavers"])


@pytest.mark.parametrize("away", [False, True])
def test_a_lock_without_an_answer_is_ours_once_its_account_is_back(world: World, away: bool) -> None:
    """The account was moved to another node before a list told, and its owner returns before or after it."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "late_timeout", f"GET {SCIM}/Users": "error"})
    world.keeper.move_user_to_other_node(account, NODES[1])
    world.admin_changed(account)
    cycle(world)
    if away:
        activate(world, ada)
        cycle(world)
    world.keeper.move_user_to_other_node(account, NODES[0])
    world.admin_changed(account)
    cycle(world, resync=True)
    if not away:
        [entry] = evidence(world)
        assert (entry["state"], entry["confirmed_at"]) == ("locked", None)
        assert "nothing tells whether by that lock" in entry["because"]
    activate(world, ada)
    cycle(world)
    assert world.keeper.account(account).active


def test_a_lock_that_was_seen_stays_verified_beside_an_older_one_without_an_answer(world: World) -> None:
    """Keeper was not there for the first; the account is deleted, as after a transfer, before a list told of it."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "timeout", f"GET {SCIM}/Users": "error"})
    world.time.elapsed += 300
    world.lane(Weather(1))
    assert world.keeper.account(account).locked
    world.keeper.delete_user(account)
    world.admin_changed(account)
    for resync in (False, True):
        cycle(world, resync=resync)
    assert [entry["state"] for entry in evidence(world)] == ["gone"]


def test_an_unlock_that_is_found_to_have_arrived_does_not_begin_grace_anew(world: World) -> None:
    """Its answer was lost, and its owner left the scope before Keeper could be listed again."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world)
    activate(world, ada)
    down = {f"GET {SCIM}/Users": "error"}
    cycle(world, down | {f"PATCH {SCIM}/Users": "late_timeout"})
    world.jumpcloud.unbind_user(world.application, ada)
    world.admin_changed()
    for _ in range(4):  # grace is over with the last
        cycle(world, down)
    assert world.keeper.account(account).active
    cycle(world)
    assert world.keeper.account(account).locked


def test_a_lock_that_an_unlock_with_an_answer_undid_is_not_said_to_be_not_arrived(world: World) -> None:
    """The record hides the lock, and the answer to the unlock does not."""

    def plain(reply: Response) -> Response:
        return Response.of_json(reply.status, json.loads(reply.body) | {"active": True}, reply.headers)

    joined(world, "bob")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    world.keeper.show_oddly(account, {"active": "perhaps"})
    cycle(world, {f"PATCH {SCIM}/Users": "late_timeout"})
    activate(world, ada)
    world.time.elapsed += 600
    world.cycle(Order(by="schedule"), Weather(1, edits={f"Keeper PATCH {SCIM}/Users/{account}": plain}))
    world.keeper.show_oddly(account, {})
    for _ in range(2):
        cycle(world, resync=True)
    with world.open() as store:
        states = {row["kind"]: row["state"] for row in store.journal_rows() if row["keeper_id"] == account}
    world.store = None
    assert (states["deactivate_user"], states["reactivate_user"]) == ("put_off", "done")


def test_a_leaver_whom_somebody_else_had_locked_stays_in_the_evidence_once_their_account_is_gone(world: World) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    world.keeper.lock(account)
    world.admin_changed(account)
    suspend(world, ada)
    cycle(world, resync=True)
    world.keeper.delete_user(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    [entry] = evidence(world)
    assert (entry["state"], entry["because"]) == ("locked_by_others", "not in this node any more")


def test_nobody_is_said_to_be_locked_whom_an_unlock_without_an_answer_may_have_let_in(world: World) -> None:
    """They left again, and Keeper cannot be read since then."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world)
    activate(world, ada)
    down = {f"GET {SCIM}/Users": "error"}
    cycle(world, down | {f"PATCH {SCIM}/Users": "late_timeout"})
    suspend(world, ada)
    for _ in range(7):
        cycle(world, down)
    assert world.keeper.account(account).active
    entry = evidence(world)[0]
    assert (entry["state"], entry["access"]) == ("not_yet", "not known to be locked")
    assert "the unlock had no clear answer" in entry["because"]
    assert [one["state"] for one in evidence(world)[1:]] == ["came_back"]
    assert shown(world)["users"]["leaving"] == 1
    [fact] = told(world, AlertKind.LEAVER_ACTIVE)
    assert "not known to be locked" in fact.text
    cycle(world)
    assert [one["state"] for one in evidence(world)] == ["locked", "came_back"]


def test_a_question_is_not_said_to_be_closed_by_a_decision_of_before_it(world: World) -> None:
    """Twice the account is in another node when its owner leaves, and only the first time a person closes that."""

    def moved(node: str) -> None:
        world.keeper.move_user_to_other_node(account, node)
        world.admin_changed(account)

    joined(world, "bob")
    ada, account = joined(world, "ada")
    for closes in (True, False):
        moved(NODES[1])
        suspend(world, ada)
        for resync in (False, True):
            cycle(world, resync=resync)
        assert [entry["state"] for entry in evidence(world)][:1] == ["not_verifiable"]
        if closes:
            with world.open() as store:
                assert "is closed" in decisions.disown(store, world.time.now(), "root", "", "ada@example.com")
            world.store = None
        moved(NODES[0])
        activate(world, ada)
        for resync in (True, False):
            cycle(world, resync=resync)
        assert world.keeper.account(account).active
    assert [entry["state"] for entry in evidence(world)] == ["closed", "came_back"]


def test_a_lock_without_an_answer_that_may_keep_somebody_out_is_told(world: World) -> None:
    """They are back in scope, so that they are no leaver, and Keeper cannot be read."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    down = {f"GET {SCIM}/Users": "error"}
    cycle(world, down | {f"PATCH {SCIM}/Users": "late_timeout"})
    assert not shown(world)["unsettled"] and shown(world)["users"]["leaving"] == 1
    activate(world, ada)
    cycle(world, down)
    assert world.keeper.account(account).locked
    [entry] = shown(world)["unsettled"]
    assert (entry["subject"], entry["kind"]) == ("ada@example.com", "deactivate_user")
    cycle(world)
    assert world.keeper.account(account).active and not shown(world)["unsettled"]


def test_a_look_at_one_person_does_not_tell_what_became_of_the_lock_of_an_account_at_their_address(
    world: World,
) -> None:
    """It belongs to nobody in JumpCloud, and whether it is locked is not taken from such a look."""
    joined(world, "bob")
    ada, _ = joined(world, "ada")
    ghost = world.keeper.add_user("gil@example.com")
    world.keeper.accept_invitation(ghost)
    world.admin_changed(ghost)
    cycle(world, resync=True)
    adopt(world, "gil@example.com")
    cycle(world)
    campaign_decisions.consent_to_held(world)
    down = {f"GET {SCIM}/Users": "error"}
    cycle(world, down | {f"PATCH {SCIM}/Users/{ghost}": "late_timeout"})
    world.jumpcloud.update_user(ada, email="gil@example.com")
    world.admin_changed()
    for _ in range(2):
        cycle(world, resync=True, person="gil@example.com")
    cycle(world, resync=True)
    [entry] = evidence(world)
    assert world.keeper.account(ghost).locked
    assert (entry["state"], entry["attempts"], entry["confirmed_at"] is not None) == ("locked", 1, True)


def test_what_failed_before_somebody_left_is_not_said_of_their_lock(world: World) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    world.jumpcloud.update_user(ada, firstname="Ada")
    world.admin_changed()
    refused = Weather(1, edits={f"Keeper PATCH {SCIM}/Users/{account}": lambda _: Response.of_json(400, {})})
    world.time.elapsed += 600
    world.cycle(Order(by="schedule"), refused)
    world.jumpcloud.unbind_user(world.application, ada)
    world.admin_changed()
    cycle(world)
    [entry] = evidence(world)
    assert entry["because"].startswith("in grace until") and entry["command"] is None


def test_a_lock_of_ours_stays_ours_though_its_owner_came_back_and_left_while_the_account_was_elsewhere(
    world: World,
) -> None:
    """Once they have left again nobody knows whether they were let in there, which is told as long as it is so."""
    person(world, "zoe")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world)
    moves(world, account)
    cycle(world, resync=True)
    assert not shown(world)["users"]["not_verifiable"]
    activate(world, ada)
    cycle(world, {f"POST {SCIM}/Users": "refused"})
    suspend(world, ada)
    cycle(world)
    assert shown(world)["users"]["not_verifiable"]
    moves(world, account, back=True)
    cycle(world, resync=True)
    activate(world, ada)
    cycle(world)
    assert world.keeper.account(account).active


def test_whoever_was_created_without_an_answer_and_left_elsewhere_has_no_lock_of_ours(world: World) -> None:
    """Back in scope they are created anew like anybody whom we had locked; the account comes back first."""
    person(world, "zoe")
    cycle(world)
    ada = person(world, "ada")
    cycle(world, {f"POST {SCIM}/Users": "late_timeout"})
    account = world.keeper.account("ada@example.com").id
    world.keeper.accept_invitation(account)
    world.jumpcloud.unbind_user(world.application, ada)
    moves(world, account)
    cycle(world, resync=True)
    world.jumpcloud.bind_user(world.application, ada)
    world.admin_changed()
    cycle(world, {f"POST {SCIM}/Users": "refused"})
    assert world.plan is not None
    assert [op.rule for op in world.plan.operations] == [Rule.RETURNED]
    world.keeper.lock(account)
    moves(world, account, back=True)
    cycle(world, resync=True)
    assert world.keeper.account(account).locked


def test_whom_an_unlock_without_an_answer_may_have_let_in_is_not_said_to_be_locked_once_they_are_gone(
    world: World,
) -> None:
    """An administrator moved the account before anything told of the unlock, and they left again."""
    person(world, "zoe")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world)
    activate(world, ada)
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "late_timeout", f"GET {SCIM}/Users": "error"})
    moves(world, account)
    suspend(world, ada)
    cycle(world, {f"GET {SCIM}/Users": "error"})
    cycle(world, resync=True)
    assert world.keeper.account(account).active and shown(world)["users"]["not_verifiable"] == 1
    assert [entry["state"] for entry in evidence(world)] == ["not_verifiable", "gone"]
    moves(world, account, back=True)
    cycle(world, resync=True)
    assert world.keeper.account(account).locked and not shown(world)["users"]["not_verifiable"]


@pytest.mark.parametrize("answered", [False, True])
def test_who_had_left_before_the_first_plan_and_was_let_in_by_us_is_not_said_to_be_locked(
    world: World, answered: bool
) -> None:
    """Nor to have been unlocked by somebody else. They left again since; of the lock, the journal has no departure."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    campaign_decisions.lost(world, random.Random(1))
    cycle(world)
    assert [(entry["state"], entry["left_before"]) for entry in evidence(world)] == [("locked", True)]
    activate(world, ada)
    down = {f"GET {SCIM}/Users": "error"}
    cycle(world, {} if answered else down | {f"PATCH {SCIM}/Users": "late_timeout"})
    assert world.keeper.account(account).active
    if answered:
        world.jumpcloud.unbind_user(world.application, ada)  # grace begins
        world.admin_changed()
    else:
        suspend(world, ada)
    cycle(world, {} if answered else down)
    assert world.keeper.account(account).active
    assert [entry["state"] for entry in evidence(world)] == ["not_yet", "came_back"]


def test_a_decision_about_a_departure_without_a_lock_closes_no_earlier_one(world: World) -> None:
    """The second time the account is known to be in another node before its owner leaves, so that no lock is sent."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    moves(world, account)
    suspend(world, ada)
    for resync in (False, True):
        cycle(world, resync=resync)
    moves(world, account, back=True)
    activate(world, ada)
    for resync in (True, False):
        cycle(world, resync=resync)
    assert [entry["state"] for entry in evidence(world)] == ["came_back"]
    moves(world, account)
    cycle(world, resync=True)
    suspend(world, ada)
    cycle(world)
    with world.open() as store:
        assert "is closed" in decisions.disown(store, world.time.now(), "root", "", "ada@example.com")
    world.store = None
    assert [entry["state"] for entry in evidence(world)] == ["came_back"]


@pytest.mark.parametrize("by_list", [False, True])
def test_a_lock_without_an_answer_is_not_ours_where_keeper_lacked_the_account_before(
    world: World, by_list: bool
) -> None:
    """An administrator locks it as soon as it is back in the node."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    moves(world, account)
    suspend(world, ada)
    down = {} if by_list else {f"GET {SCIM}/Users?": "error"}
    cycle(world, down | {f"PATCH {SCIM}/Users/{account}": "late_timeout"})
    cycle(world)
    moves(world, account, back=True)
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    assert [entry["state"] for entry in evidence(world)] == ["locked_by_others"]
    activate(world, ada)
    for _ in range(2):
        cycle(world)
    assert world.keeper.account(account).locked


@pytest.mark.parametrize("back", [False, True])
def test_a_lock_that_was_answered_with_404_is_no_lock_of_ours(world: World, back: bool) -> None:
    """Nothing could be listed, and an administrator had locked the account, or does so once it is back in the node."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    if not back:
        world.keeper.lock(account)
    moves(world, account)
    suspend(world, ada)
    cycle(world, {f"GET {SCIM}/Users": "error"})
    [entry] = evidence(world)
    assert entry["access"] == "not known to be locked" and "not in this Keeper node" in entry["because"]
    moves(world, account, back=True)
    if back:
        world.keeper.lock(account)
        world.admin_changed(account)
    cycle(world)
    assert [entry["state"] for entry in evidence(world)] == ["locked_by_others"]
    activate(world, ada)
    for _ in range(2):
        cycle(world)
    assert world.keeper.account(account).locked


def test_a_lock_without_an_answer_that_a_list_shows_is_ours_though_a_look_had_missed_the_account(world: World) -> None:
    """One look may be wrong, and the lock took effect."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    missed = {f"Keeper GET {SCIM}/Users/{account}": lambda _: Response.of_json(404, {})}
    world.time.elapsed += 600
    world.cycle(Order(), Weather(1, script={f"Keeper PATCH {SCIM}/Users/{account}": "late_timeout"}, edits=missed))
    assert world.keeper.account(account).locked
    cycle(world)
    activate(world, ada)
    cycle(world)
    assert world.keeper.account(account).active
