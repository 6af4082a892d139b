"""Deliberate faults in single stories, which the observer has to see whatever had happened before, and right doings at
which it has to be silent."""

import json
import random
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler import addresses, apply, decisions, diff, diff_teams, match, safety, settle, snapshot
from reconciler.canary import Canaries
from reconciler.config import Settings
from reconciler.cycle import Order
from reconciler.model import Takeover, User
from reconciler.plan import Cause, Change, NoticeKind, Rule
from reconciler.report import leavers
from reconciler.simulator.service import Request, Response
from reconciler.store import Unusable
from tests.campaign import decisions as campaign_decisions
from tests.campaign import ending as campaign_ending
from tests.campaign import mutants, organisation, troubles
from tests.campaign.ending import ending, one_thing_broken
from tests.campaign.rules import NODES, Rules
from tests.campaign.scenes import (
    SCIM,
    activate,
    adopt,
    cycle,
    disown,
    gets_alias,
    given_beside_a_staged_one,
    given_up_since_a_copy,
    group,
    joined,
    moves,
    person,
    replaced_unseen,
    suspend,
    teams_of,
    unreviewed,
)
from tests.campaign.seams import CampaignStore, Weather
from tests.campaign.world import Spared, Trouble, World


def seen(world: World) -> set[str]:
    """The letters of what the observer has seen."""
    letters = {one.letter for one in world.observer.violations}
    world.observer.violations.clear()
    return letters


def test_consent_to_give_an_account_to_somebody_lets_it_go_to_nobody_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    world.jumpcloud.delete_user(ada)
    second = person(world, "ada")
    cycle(world)
    adopt(world, "ada@example.com")
    cycle(world)
    assert world.keeper.accounts()[account].external_id == second and not world.observer.violations
    world.jumpcloud.delete_user(second)
    person(world, "ada")
    original = match._Users.__init__

    def consents(self: Any, result: Any, directory: Any, snapshot: Any, *more: Any) -> None:
        accounts = {k: replace(a, takeover=Takeover.BY_ADDRESS) for k, a in snapshot.accounts.items()}
        original(self, result, directory, replace(snapshot, accounts=accounts), *more)

    monkeypatch.setattr(match._Users, "__init__", consents)
    for _ in range(2):
        cycle(world, resync=True)
    assert seen(world) == {"c"}


def test_whoever_was_given_an_account_by_a_person_gets_no_second_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined(world, "bob")
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    ada = person(world, "ada")
    adopt(world, "ada@example.com")
    cycle(world)
    world.jumpcloud.update_user(ada, email="ada.new@example.com")
    world.admin_changed()
    original: Callable[[Any, Any], bool] = match._Users._by_snapshot

    def by_address(self: Any, user: Any) -> bool:
        known = self.known.get(user.id)
        if known is None or addresses.same(known.email, user.email):
            return original(self, user)
        del self.known[user.id]
        return False

    monkeypatch.setattr(match._Users, "_by_snapshot", by_address)
    cycle(world)
    assert seen(world) == {"c"}


def test_a_lock_of_the_lane_beside_the_cycle_that_unlocked_before_it_is_ours(world: World) -> None:
    ada, account = joined(world, "ada")
    cycle(world)
    suspend(world, ada)
    cycle(world)
    activate(world, ada)
    person(world, "bob")
    sky = Weather(1, script={f"Keeper POST {SCIM}/Users": "slow"}, then=lambda: suspend(world, ada))
    world.cycle(Order(by="root"), sky, [(after, None) for after in (2.0, 4.0, 8.0, 16.0, 32.0)])
    assert world.keeper.account(account).locked
    activate(world, ada)
    cycle(world)
    assert world.keeper.account(account).active and not seen(world)


def test_our_lock_that_is_undone_by_hand_after_the_list_and_set_again_passes_for_ours(world: World) -> None:
    ada, account = joined(world, "ada")
    cycle(world)
    suspend(world, ada)
    cycle(world)
    activate(world, ada)

    def unlock() -> None:
        world.keeper.unlock(account)
        world.admin_changed(account)

    sky = Weather(1, script={f"Keeper PATCH {SCIM}/Users/{account}": "refused"}, then=unlock)
    world.cycle(Order(resync=True, by="root"), sky)
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    assert world.keeper.account(account).active and not seen(world)


def test_whoever_gets_another_address_while_a_person_lets_them_in_is_let_in(world: World) -> None:
    ada, account = joined(world, "ada")
    cycle(world)
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)

    def readdress() -> None:
        world.jumpcloud.update_user(ada, email="eve@example.com")
        world.keeper.change_email(account, "eve@example.com", keep_alias=False)
        world.admin_changed(account)

    sky = Weather(1, script={f"Keeper PATCH {SCIM}/Users/{account}": "slow"}, then=readdress)
    world.cycle(Order(resync=True, person="ada@example.com", unlock=True, by="root"), sky)
    assert world.keeper.account(account).active and not seen(world)


def test_what_is_locked_and_unlocked_by_hand_at_one_moment_was_open_after_it(world: World) -> None:
    """Until a list shows it, nothing tells of our unlock."""
    ada, account = joined(world, "ada")
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    order = Order(resync=True, person="ada@example.com", unlock=True, by="root")
    world.cycle(order, Weather(1, script={f"Keeper PATCH {SCIM}/Users/{account}": "interrupted"}))
    suspend(world, ada)
    for change in (world.keeper.lock, world.keeper.unlock):
        change(account)
        world.admin_changed(account)
    ending(world, random.Random(1))
    assert world.keeper.account(account).locked and not seen(world)


def test_the_lock_of_somebody_else_right_after_the_first_plan_is_theirs(world: World) -> None:
    joined(world, "bob")
    ada = person(world, "ada")
    account = world.keeper.add_user("ada@example.com", external_id=ada)
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    campaign_decisions.lost(world, random.Random(1))
    cycle(world)
    suspend(world, ada)
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world)
    activate(world, ada)
    with mutants.unlock_whoever_is_locked():
        cycle(world)
    assert seen(world) == {"b"}


def test_whose_lock_was_undone_is_not_created_anew_where_they_are_protected(world: World) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    for changes in (suspend, activate):
        changes(world, ada)
        cycle(world)
    world.rules.policy["protect"] = ["ada@example.com"]
    cycle(world, resync=True)
    world.keeper.delete_user(account)
    world.admin_changed(account)
    with mutants.forget_who_is_protected():
        cycle(world, resync=True)
    assert seen(world) == {"b"}


@pytest.mark.parametrize("where", ["in JumpCloud", "once"])
def test_whom_another_address_than_that_of_the_account_protects_is_left_alone(world: World, where: str) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    world.rules.policy["protect"] = ["ada.new@example.com" if where == "in JumpCloud" else "ada@example.com"]
    cycle(world, resync=True)
    world.jumpcloud.update_user(ada, email="ada.new@example.com")
    if where == "once":
        world.keeper.change_email(account, "ada.new@example.com", keep_alias=False)
    world.admin_changed(account)
    cycle(world, resync=True)
    suspend(world, ada)
    with mutants.forget_who_is_protected():
        cycle(world)
    assert seen(world) == {"b"}


def test_a_creation_that_meets_an_account_which_was_listed_is_seen_though_somebody_renamed_that(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    ada, account = joined(world, "ada")
    world.jumpcloud.delete_user(ada)
    person(world, "ada")
    handle = world.keeper.handle

    def renamed(asked: Request) -> Response:
        if asked.method == "POST":
            world.keeper.rename_user(account, display_name="Boss")
            world.admin_changed(account)
        return handle(asked)

    def creates(self: Any, user: Any) -> None:
        self._create(user, Rule.JOINED, Cause.JUMPCLOUD, "joined")

    monkeypatch.setattr(world.keeper, "handle", renamed)
    monkeypatch.setattr(diff._Diff, "_nobody", creates)
    cycle(world)
    assert "c" in seen(world)


def test_whoever_was_given_up_and_adopted_again_is_served(world: World) -> None:
    joined(world, "bob")
    ada, _ = joined(world, "ada")
    disown(world, "ada@example.com")
    cycle(world)
    adopt(world, "ada@example.com")
    cycle(world)
    with world.open() as store:  # nobody has told the observer, as if the adoption had been forgotten
        decisions.disown(store, world.time.now(), "root", "", "ada@example.com")
    world.store = None
    world.jumpcloud.update_user(ada, lastname="New")
    world.admin_changed()
    ending(world, random.Random(1))
    assert "g" in seen(world)


def test_what_the_journal_said_is_judged_though_somebody_undid_it_later(world: World) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    cycle(world, resync=True)
    world.jumpcloud.update_user(ada, lastname="Berg")
    world.admin_changed()
    with mutants.treat_a_timeout_as_a_failure():
        cycle(world, {f"PATCH {SCIM}/Users/{account}": "late_timeout"})
    world.keeper.rename_user(account, family_name="Boss")
    world.admin_changed(account)
    suspend(world, ada)
    ending(world, random.Random(1))
    assert seen(world) == {"h"}


@pytest.mark.parametrize("before", [(), ("lost",), ("locked",)])
def test_a_lock_on_top_of_one_that_was_shown_is_seen_whatever_was_before(
    world: World, monkeypatch: pytest.MonkeyPatch, before: Sequence[str]
) -> None:
    """A request of somebody else that was lost, or a lock of ours that is undone."""
    ada, account = joined(world, "ada")
    if "lost" in before:
        bob = person(world, "bob")
        cycle(world, {f"POST {SCIM}/Users": "unreachable"})
        world.jumpcloud.delete_user(bob)
        world.admin_changed()
    if "locked" in before:
        for changes in (suspend, activate):
            changes(world, ada)
            cycle(world)
    cycle(world)
    suspend(world, ada)
    world.keeper.lock(account)
    world.admin_changed(account)
    monkeypatch.setattr(apply._Run, "_tells_locks", lambda *_: False)
    monkeypatch.setattr(Canaries, "_goes_alone", lambda *_: True)
    cycle(world)
    assert seen(world) == {"b"}


@pytest.mark.parametrize("forgetful", [True, False])
def test_a_membership_that_was_listed_and_taken_away_by_hand_is_not_said_to_wait(
    world: World, monkeypatch: pytest.MonkeyPatch, forgetful: bool
) -> None:
    """The membership of somebody else in the same team does wait."""
    sales = group(world, "Sales")
    joined(world, "bob", sales)
    _, account = joined(world, "ada", sales)
    cycle(world, resync=True)
    world.keeper.set_dialect(queues_every_membership=True, shows_pending_memberships=False)
    person(world, "cy", sales)
    cycle(world, resync=True)
    if forgetful:
        original: Callable[..., Any] = diff._Diff._added

        def added(*about: Any) -> Any:
            return ((team, cause) for team, cause in original(*about) if cause is not Cause.DRIFT)

        monkeypatch.setattr(diff._Diff, "_added", added)
    (team,) = world.keeper.accounts()[account].teams
    world.keeper.remove_member(account, team)
    world.admin_changed(account, team)
    ending(world, random.Random(1))
    assert ("g" in seen(world)) is forgetful


@pytest.mark.parametrize("forgetful", [True, False])
def test_a_team_that_was_listed_and_deleted_by_hand_is_not_said_to_wait(
    world: World, monkeypatch: pytest.MonkeyPatch, forgetful: bool
) -> None:
    sales = group(world, "Sales")
    _, account = joined(world, "ada", sales)
    cycle(world, resync=True)
    (team,) = world.keeper.accounts()[account].teams
    world.keeper.delete_team(team)
    world.admin_changed(team, sales, account)

    def forgets(directory: Any, snapshot: Any, *more: Any, **others: Any) -> Any:
        teams = {k: replace(t, seen=False, gone=False, missed_at=None) for k, t in snapshot.teams.items()}
        return match.match(directory, replace(snapshot, teams=teams), *more, **others)

    if forgetful:
        monkeypatch.setattr(diff, "match", forgets)
    ending(world, random.Random(1))
    assert ("g" in seen(world)) is forgetful


@pytest.mark.parametrize("everybodys", [True, False])
def test_a_lock_that_was_there_when_a_person_adopted_the_account_is_somebody_elses(
    world: World, everybodys: bool
) -> None:
    joined(world, "bob")
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    adopt(world, "ada@example.com")
    person(world, "ada")
    with mutants.unlock_whoever_is_locked() if everybodys else nullcontext():
        for _ in range(2):
            cycle(world, resync=True)
    assert seen(world) == ({"b"} if everybodys else set())


def test_an_account_that_was_adopted_once_keeps_no_id_of_somebody_whose_creation_met_it_later(world: World) -> None:
    world.keeper.set_dialect(links_aliases=True)
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    adopt(world, "ada@example.com")
    person(world, "ada")
    cycle(world)
    gets_alias(world, account, "nils@example.com")
    world.admin_changed(account)
    cycle(world, resync=True)
    person(world, "nils")
    with mutants.adopt_whatever_a_creation_answers():
        cycle(world)
        ending(world, random.Random(1))
    assert "c" in seen(world)


def test_a_change_of_names_is_not_denied_by_lists_of_teams_that_lie(world: World) -> None:
    joined(world, "bob")
    group(world, "Sales")
    ada, account = joined(world, "ada")
    world.jumpcloud.update_user(ada, lastname="Berg")
    world.admin_changed()
    lies = {f"GET {SCIM}/Groups?": "shortened"}
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "death_after", **lies}, resync=True)
    cycle(world, lies, resync=True)
    with sqlite3.connect(world.path) as connection:
        connection.execute("UPDATE operations SET state = 'put_off', outcome = 'settled' WHERE kind = 'update_user'")
    connection.close()
    suspend(world, ada)
    ending(world, random.Random(1))
    assert seen(world) == {"h"}


class Ghosts(random.Random):
    """Chance that chooses `adopt --ghosts`."""

    def random(self) -> float:
        return 0.0


def nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: the plan lets through at once all that always waits for a person."""
    monkeypatch.setattr(safety._Judge, "_always_waiting", lambda _, operations: ([], [*operations]))


@pytest.mark.parametrize("released", [True, False])
@pytest.mark.parametrize("new", [True, False])
def test_whoever_joins_a_team_that_is_reviewed_was_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch, new: bool, released: bool
) -> None:
    world.rules.teams = {"review": ["Sal*"]}
    sales = group(world, "Sales")
    world.rules.safety = {"max_creations": 50}
    joined(world, "ada", sales)
    bob, _ = joined(world, "bob", *([] if new else [group(world, "Legal")]))
    world.keeper.approve_all()
    world.admin_changed()
    cycle(world, resync=True)
    world.time.elapsed += 5 * 3600
    if new:
        person(world, "cy", sales)
    else:
        world.jumpcloud.add_member(sales, bob)
        world.admin_changed()
    if released:
        world.cycle(Order(by="root"), Weather(0))
        assert campaign_decisions.consent_to_held(world)
    else:
        nothing_waits(monkeypatch)
    world.cycle(Order(by="root"), Weather(0))
    assert teams_of(world, "cy" if new else "bob") >= {"Sales"}
    assert seen(world) == (set() if released else {"d"})


@pytest.mark.parametrize("released", [True, False])
def test_whoever_deletes_a_team_has_looked_at_it(world: World, monkeypatch: pytest.MonkeyPatch, released: bool) -> None:
    world.rules.policy["grace"] = "0s"
    world.rules.teams = {"out_of_scope": "delete"}
    sales = group(world, "Sales")
    joined(world, "ada")
    cycle(world, resync=True)
    world.time.elapsed += 5 * 3600
    world.jumpcloud.unbind_group(world.application, sales)
    world.admin_changed()
    if released:
        world.cycle(Order(by="root"), Weather(0))
        assert campaign_decisions.consent_to_held(world)
    else:
        nothing_waits(monkeypatch)
    world.cycle(Order(by="root"), Weather(0))
    assert not world.keeper.teams()
    assert seen(world) == (set() if released else {"d"})


@pytest.mark.parametrize("released", [True, False])
def test_the_lock_of_whoever_is_adopted_out_of_scope_was_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch, released: bool
) -> None:
    joined(world, "bob")
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    adopt(world, "ada@example.com")
    world.time.elapsed += 5 * 3600
    if released:
        world.cycle(Order(by="root"), Weather(0))
        assert campaign_decisions.consent_to_held(world)
    else:
        nothing_waits(monkeypatch)
    world.cycle(Order(by="root"), Weather(0))
    assert world.keeper.account(account).locked
    assert seen(world) == (set() if released else {"d"})
    if released:
        world.keeper.unlock(account)
        world.admin_changed(account)
        world.time.elapsed += 12 * 3600
        world.cycle(Order(resync=True, by="root"), Weather(0))
        assert world.keeper.account(account).locked and not seen(world)


def test_whose_lock_was_let_through_and_who_left_the_node_before_it_showed_is_locked_once_back(world: World) -> None:
    joined(world, "bob")
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    adopt(world, "ada@example.com")
    world.time.elapsed += 5 * 3600
    world.cycle(Order(by="root"), Weather(0))
    assert campaign_decisions.consent_to_held(world)
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "timeout"})
    moves(world, account)
    for _ in range(2):
        cycle(world, resync=True)
    world.time.elapsed += 6 * 3600  # the release lets nothing through any more
    moves(world, account, back=True)
    for _ in range(2):
        cycle(world, resync=True)
    assert world.keeper.account(account).locked and not seen(world)


@pytest.mark.parametrize("ghosts", [True, False])
def test_whoever_is_adopted_and_linked_by_a_page_that_is_behind_is_locked_like_anybody(
    world: World, ghosts: bool
) -> None:
    """They had been in scope for a while in which Keeper could not be listed."""
    world.rules.policy["grace"], world.rules.safety = "0s", {"max_creations": 50}
    for name in ("bob", "cy", "dan"):
        joined(world, name)
    ada = person(world, "ada")
    suspend(world, ada)
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    activate(world, ada)
    for _ in range(6):  # what is shown by a page that is behind is one of these
        cycle(world, {f"GET {SCIM}/Users?": "refused"})
    suspend(world, ada)
    cycle(world, {f"GET {SCIM}/Users?": "refused"})
    if ghosts:
        campaign_decisions.adopts(world, Ghosts(1))
    else:
        adopt(world, "ada@example.com")
    for seed in range(2):
        world.cycle(Order(by="root"), Weather(seed, liars="behind"))
    assert world.keeper.account(account).external_id == ada
    cycle(world)
    assert world.keeper.account(account).locked
    ending(world, random.Random(1))


@pytest.mark.parametrize("heeded", [True, False])
def test_nothing_is_sent_about_whom_a_pilot_leaves_out(
    world: World, monkeypatch: pytest.MonkeyPatch, heeded: bool
) -> None:
    _, account = joined(world, "bob")
    pilot = group(world, "Pilot")
    ada, own = joined(world, "ada", pilot)
    world.rules.policy["only"] = {"groups": ["Pilot"], "users": []}
    world.rules.safety = {"max_creations": 50, "max_deactivations": 50}
    if not heeded:
        for module in (diff, diff_teams):
            monkeypatch.setattr(module, "in_pilot", lambda *_, **__: True)
    person(world, "cy")
    suspend(world, ada, world.truth.people[world.observer.ledger.owner[account]].id)
    cycle(world, resync=True)
    assert world.keeper.account(own).locked and world.keeper.account(account).locked is not heeded
    assert seen(world) == (set() if heeded else {"e"})


def a_new_name_is_judged(world: World, monkeypatch: pytest.MonkeyPatch, ada: str, *, deaf: bool) -> None:
    """`deaf`: a fault, the diff plans no family names."""
    assert not world.observer.violations
    if deaf:
        original = match.wanted_attributes
        monkeypatch.setattr(diff, "wanted_attributes", lambda user: original(user) | {"name.familyName": ""})
    world.jumpcloud.update_user(ada, lastname="Lund")
    world.admin_changed()
    ending(world, random.Random(1))
    assert seen(world) == ({"g"} if deaf else set())


@pytest.mark.parametrize("deaf", [True, False])
def test_a_name_that_changes_after_somebody_had_overtaken_it_is_sent(
    world: World, monkeypatch: pytest.MonkeyPatch, deaf: bool
) -> None:
    world.keeper.set_dialect(patch_reply="none")
    ada, account = joined(world, "ada")
    for name in ("Berg", "Holm"):
        cycle(world, resync=True)
        world.jumpcloud.update_user(ada, lastname=name)
        world.admin_changed()
        cycle(world)
    world.keeper.rename_user(account, family_name="Boss")
    world.admin_changed(account)
    cycle(world, resync=True)
    a_new_name_is_judged(world, monkeypatch, ada, deaf=deaf)


def _met_by_a_creation(world: World, monkeypatch: pytest.MonkeyPatch) -> str:
    """Ada's creation meets an account without an id, and leaves it as it was: her JumpCloud id."""
    world.keeper.set_dialect(link_updates=False)
    joined(world, "bob")
    handle = world.keeper.handle

    def made(asked: Request) -> Response:
        if asked.method == "POST" and "ada@example.com" not in {a.email for a in world.keeper.accounts().values()}:
            world.admin_changed(world.keeper.add_user("ada@example.com"))
        return handle(asked)

    monkeypatch.setattr(world.keeper, "handle", made)
    ada = person(world, "ada")
    cycle(world)
    monkeypatch.undo()
    return ada


@pytest.mark.parametrize("deaf", [True, False])
def test_a_name_that_changes_after_a_creation_had_met_the_account_is_sent(
    world: World, monkeypatch: pytest.MonkeyPatch, deaf: bool
) -> None:
    ada = _met_by_a_creation(world, monkeypatch)
    cycle(world, resync=True)
    a_new_name_is_judged(world, monkeypatch, ada, deaf=deaf)


def test_whoever_has_another_address_since_a_creation_met_their_account_has_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = _met_by_a_creation(world, monkeypatch)
    world.jumpcloud.update_user(ada, email="new@example.com")
    world.admin_changed()
    assert ending(world, random.Random(1)), world.observer.violations


def test_an_account_that_a_creation_met_by_an_alias_is_not_that_persons(world: World) -> None:
    world.keeper.set_dialect(links_aliases=True, link_updates=False)
    account = world.keeper.add_user("piet@example.com")
    gets_alias(world, account, "kim@example.com")
    world.admin_changed(account)
    joined(world, "bob")
    person(world, "kim")
    cycle(world)
    adopt(world, "piet@example.com")
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.keeper.account(account).locked


def test_a_link_is_undone_also_of_whom_a_pilot_leaves_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, account = joined(world, "ula")
    pilot = group(world, "Pilot")
    cycle(world)
    world.rules.policy["only"] = {"groups": ["Pilot"], "users": []}
    person(world, "nils", pilot)
    handle = world.keeper.handle

    def readdresses(asked: Request) -> Response:
        if asked.method == "POST" and world.keeper.account(account).email != "nils@example.com":
            world.keeper.change_email(account, "nils@example.com", keep_alias=False)
            world.admin_changed(account)
        return handle(asked)

    monkeypatch.setattr(world.keeper, "handle", readdresses)
    before = world.keeper.account(account).external_id
    for _ in range(2):
        cycle(world)
    assert world.keeper.account(account).external_id == before
    assert not world.observer.violations


@pytest.mark.parametrize("named", [True, False])
def test_leavers_names_whom_we_have_locked(world: World, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    joined(world, "bob")
    ada, _ = joined(world, "ada")
    suspend(world, ada)
    cycle(world)
    if not named:
        monkeypatch.setattr(leavers, "document", lambda *_: {"leavers": []})
    ending(world, random.Random(1))
    assert seen(world) == (set() if named else {"t"})


@pytest.mark.parametrize("contested", [True, False])
@pytest.mark.parametrize("deaf", [True, False])
def test_an_adoption_lapses_where_its_owner_has_the_address_of_another_account(
    world: World, monkeypatch: pytest.MonkeyPatch, contested: bool, deaf: bool
) -> None:
    """The account bears no id any more; the owner leaves then."""
    (nils, account), (ines, _) = joined(world, "nils"), joined(world, "ines")
    disown(world, "nils@example.com")
    cycle(world, resync=True)
    world.jumpcloud.update_user(ines, email="")
    world.jumpcloud.update_user(nils, email="ines@example.com" if contested else "zoe@example.com")
    world.admin_changed()
    adopt(world, "nils@example.com")
    if deaf:
        monkeypatch.setattr(match._Users, "_adopt_again", lambda _: None)
    cycle(world, resync=True)
    suspend(world, nils)
    ending(world, random.Random(1))
    assert world.keeper.account(account).locked is not (contested or deaf)
    assert seen(world) == ({"g"} if deaf and not contested else set())


@pytest.mark.parametrize("shown", ["no lock that can be read", "the lock of before"])
def test_an_unlock_that_no_list_has_shown_is_not_known(world: World, shown: str) -> None:
    """Somebody else's lock is the last that Keeper showed of the account, which is gone since (seed 29300603)."""
    joined(world, "bob")
    _, account = joined(world, "ada")
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    world.keeper.unlock(account)
    world.admin_changed(account)

    def behind(reply: Response) -> Response:
        found = json.loads(reply.body)
        rows = [row | {"active": False} if row["id"] == account else row for row in found["Resources"]]
        return Response.of_json(200, found | {"Resources": rows}, reply.headers)

    edits = {f"Keeper GET {SCIM}/Users?": behind} if shown == "the lock of before" else {}
    if not edits:
        world.keeper.show_oddly(account, {"active": "perhaps"})
    world.time.elapsed += 600
    world.cycle(Order(by="root", resync=True), Weather(1, edits=edits))
    world.keeper.delete_user(account)
    world.admin_changed(account)
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.plan is not None
    assert any(one.kind is NoticeKind.LOCKED_IN_KEEPER for one in world.plan.notices)


def _unlocked_since_a_copy(world: World, account: str, *, by_command: bool) -> None:
    """Copy the state file; unlock an account that somebody has locked; delete it once a list has shown that; put the
    copy back."""
    campaign_decisions.copied(world, random.Random(1))
    world.keeper.unlock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    world.keeper.delete_user(account)
    world.admin_changed(account)
    campaign_decisions.put_back(world, *world.copies[0], by_command=by_command)


@pytest.mark.parametrize("by_command", [True, False])
def test_an_unlock_that_an_old_copy_lacks_is_not_known(world: World, by_command: bool) -> None:
    joined(world, "bob")
    _, account = joined(world, "ada")
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    _unlocked_since_a_copy(world, account, by_command=by_command)
    assert ending(world, random.Random(1)), world.observer.violations


def test_an_unlock_that_a_list_has_shown_is_known(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    joined(world, "bob")
    _, account = joined(world, "ada")
    for change in (world.keeper.lock, world.keeper.unlock):
        change(account)
        world.admin_changed(account)
        cycle(world, resync=True)
    world.keeper.delete_user(account)
    world.admin_changed(account)
    original = snapshot._vanished
    monkeypatch.setattr(snapshot, "_vanished", lambda *args: replace(original(*args), others_lock=True))
    ending(world, random.Random(1))
    assert seen(world) == {"t", "g"}


def test_an_addition_that_replaced_what_was_shown_is_not_denied(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle._Settlement, "_replaced", lambda *_: False)
    suspend(world, replaced_unseen(world, "late_timeout"))
    ending(world, random.Random(1))
    assert seen(world) == {"h"}


def acts_by(monkeypatch: pytest.MonkeyPatch, **policy: str) -> None:
    """A fault: the reconciler acts as if the settings had these."""
    original = Rules.settings

    def others(self: Rules, folder: Path) -> Settings:
        return original(replace(self, policy=self.policy | policy), folder)

    monkeypatch.setattr(Rules, "settings", others)


@pytest.mark.parametrize("hasty", [True, False])
def test_whoever_merely_left_is_not_locked_before_grace_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch, hasty: bool
) -> None:
    sales = group(world, "Sales")
    joined(world, "bob")
    ada, account = joined(world, "ada", sales)
    cycle(world)
    world.jumpcloud.remove_member(sales, ada)
    world.admin_changed()
    if hasty:
        acts_by(monkeypatch, grace="0s")
    for _ in range(1 if hasty else 6):
        cycle(world)
    assert world.keeper.account(account).locked
    assert seen(world) == ({"a"} if hasty else set())


@pytest.mark.parametrize("sends", [True, False])
def test_an_address_is_sent_by_the_settings_only(world: World, monkeypatch: pytest.MonkeyPatch, sends: bool) -> None:
    ada, account = joined(world, "ada")
    cycle(world)
    world.jumpcloud.update_user(ada, email="ada.new@example.com")
    world.admin_changed()
    if sends:
        acts_by(monkeypatch, address_change="send")
    else:
        world.rules.policy["address_change"] = "send"
    cycle(world)
    assert world.keeper.account(account).email == "ada.new@example.com"
    assert seen(world) == ({"g"} if sends else set())


@pytest.mark.parametrize("sends", [True, False])
def test_the_address_of_somebody_else_is_not_sent(world: World, monkeypatch: pytest.MonkeyPatch, sends: bool) -> None:
    world.rules.policy["address_change"] = "send"
    ada, account = joined(world, "ada")
    eve = person(world, "eve")
    world.jumpcloud.update_user(eve, state="STAGED")
    world.admin_changed()
    cycle(world)
    world.jumpcloud.update_user(ada, email="eve@example.com")
    world.admin_changed()
    if sends:
        monkeypatch.setattr(diff._Diff, "_claimed", lambda *_: "")
    cycle(world)
    assert (world.keeper.account(account).email == "eve@example.com") is sends
    assert seen(world) == ({"c"} if sends else set())


@pytest.mark.parametrize("wipes", [True, False])
def test_a_name_that_jumpcloud_does_not_say_stays(world: World, monkeypatch: pytest.MonkeyPatch, wipes: bool) -> None:
    ada, account = joined(world, "ada")
    cycle(world)
    world.jumpcloud.update_user(ada, lastname="")
    world.admin_changed()
    original = diff._Diff._changes

    def changes(self: Any, row: Any, wanted: Any, subject: Any, **more: Any) -> Any:
        yield from original(self, row, wanted, subject, **more)
        if wanted["name.familyName"] == "":
            yield Change("name.familyName", "Test", ""), Cause.JUMPCLOUD

    if wipes:
        monkeypatch.setattr(diff._Diff, "_changes", changes)
    cycle(world)
    assert (world.keeper.account(account).family_name == "Test") is not wipes
    assert seen(world) == ({"g"} if wipes else set())


@pytest.mark.parametrize("takes", [True, False])
def test_what_somebody_else_has_given_is_not_taken_away(
    world: World, monkeypatch: pytest.MonkeyPatch, takes: bool
) -> None:
    sales = group(world, "Sales")
    joined(world, "bob", sales)
    _, account = joined(world, "ada")
    cycle(world)
    (team,) = world.keeper.teams()
    world.keeper.add_member(account, team)
    world.admin_changed(account, team)
    if takes:
        acts_by(monkeypatch, drift="repair")
    cycle(world, resync=True)
    assert bool(world.keeper.account(account).teams) is not takes
    assert seen(world) == ({"b"} if takes else set())


@pytest.mark.parametrize("whose", ["nobody's", "that of a group out of scope", "their own"])
def test_nobody_is_added_to_a_team_that_is_not_theirs(
    world: World, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    """A fault: the request names another team than the journal does."""
    world.rules.safety = {"max_grants": 50}
    sales, legal = group(world, "Sales"), group(world, "Legal")
    joined(world, "bob", sales, legal)
    ada, account = joined(world, "ada")
    world.time.elapsed += 26 * 3600  # the teams are not new any more
    world.jumpcloud.unbind_group(world.application, legal)
    world.admin_changed()
    cycle(world)
    theirs = next(one.id for one in world.keeper.teams().values() if one.external_id == sales)
    other = next(one.id for one in world.keeper.teams().values() if one.external_id == legal)
    other = {"nobody's": world.keeper.add_team("Board"), "their own": theirs}.get(whose, other)
    world.jumpcloud.add_member(sales, ada)
    world.admin_changed(other)
    handle = world.keeper.handle

    def renamed(asked: Request) -> Response:
        return handle(replace(asked, body=asked.body.replace(theirs.encode(), other.encode())))

    monkeypatch.setattr(world.keeper, "handle", renamed)
    cycle(world)
    assert world.keeper.account(account).teams == (other,)
    assert seen(world) == (set() if whose == "their own" else {"r"})


@pytest.mark.parametrize("everybody", [True, False])
def test_nobody_is_created_out_of_scope_where_no_list_is_behind(
    world: World, monkeypatch: pytest.MonkeyPatch, everybody: bool
) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    world.jumpcloud.unbind_user(world.application, ada)
    world.keeper.delete_user(account)
    world.admin_changed(account)
    if everybody:
        monkeypatch.setattr(User, "bound", True)
    cycle(world, resync=True)
    assert len(world.keeper.accounts()) == (2 if everybody else 1)
    assert seen(world) == ({"r"} if everybody else set())


@pytest.mark.parametrize("confirmed", [True, False])
def test_whoever_is_suspended_during_a_cycle_is_not_created(world: World, confirmed: bool) -> None:
    joined(world, "bob")
    ada = person(world, "ada")

    def leaves() -> str:
        suspend(world, ada)
        world.time.elapsed += 120
        return "ada is suspended"

    world.interludes.append((8, leaves))
    with nullcontext() if confirmed else mutants.skip_the_confirmation_of_giving():
        cycle(world)
    assert len(world.keeper.accounts()) == (1 if confirmed else 2)
    assert seen(world) == (set() if confirmed else {"r"})


@pytest.mark.parametrize("believed", [True, False])
def test_what_keeper_has_refused_is_not_said_to_be_done(world: World, believed: bool) -> None:
    ada, account = joined(world, "ada")
    cycle(world)
    world.jumpcloud.update_user(ada, lastname="Berg")
    world.admin_changed()
    world.keeper.refuse(account, 400)
    cycle(world)
    world.keeper.refuse(account, None)
    if believed:
        with sqlite3.connect(world.path) as connection:
            connection.execute("UPDATE operations SET state = 'done', outcome = 'done' WHERE state = 'failed'")
        connection.close()
    ending(world, random.Random(1))
    assert seen(world) == ({"h"} if believed else set())


@pytest.mark.parametrize("locked", [True, False])
def test_whoever_has_no_account_but_one_that_bore_their_id_and_was_locked_is_told(world: World, locked: bool) -> None:
    """It had another address, and so was never theirs."""
    joined(world, "bob")
    ada = person(world, "ada")
    world.jumpcloud.unbind_user(world.application, ada)
    world.admin_changed()
    account = world.keeper.add_user("other@example.com", external_id=ada, locked=locked)
    world.admin_changed(account)
    cycle(world, resync=True)
    world.keeper.delete_user(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    world.jumpcloud.bind_user(world.application, ada)
    world.admin_changed()
    assert ending(world, random.Random(1)), world.observer.violations
    there = {one.email for one in world.keeper.accounts().values()}
    assert there == {"bob@example.com"} | (set() if locked else {"ada@example.com"})


@pytest.mark.parametrize("change", [suspend, activate])
@pytest.mark.parametrize("late", [True, False])
def test_one_calm_cycle_locks_whoever_is_suspended_and_undoes_our_lock(
    world: World, monkeypatch: pytest.MonkeyPatch, change: Callable[..., None], late: bool
) -> None:
    """A fault: only a resync does."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    cycle(world)
    if change is activate:
        suspend(world, ada)
        cycle(world)
    change(world, ada)
    if late:
        monkeypatch.setattr(diff._Diff, "_locked" if change is activate else "_out_of_scope", lambda *_: None)
    cycle(world)
    assert world.keeper.account(account).locked is ((change is suspend) is not late)
    assert seen(world) == ({"s"} if late else set())


def test_a_calm_cycle_leaves_our_lock_where_the_new_address_opens_another_account(world: World) -> None:
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    ada, account = joined(world, "ada")
    cycle(world)
    suspend(world, ada)
    cycle(world)
    world.jumpcloud.update_user(ada, email="bob@example.com")
    activate(world, ada)
    cycle(world)
    assert world.keeper.account(account).locked


def test_a_cycle_whose_locks_keeper_refuses_is_not_calm(world: World) -> None:
    joined(world, "bob")
    ada, _ = joined(world, "ada")
    world.keeper.revoke_token(NODES[0])
    suspend(world, ada)
    assert cycle(world).startswith("failed") and not seen(world)


def test_a_calm_cycle_may_hold_those_who_come_back_in_numbers(world: World) -> None:
    world.rules.safety = {"max_creations": 50, "max_deactivations": 50, "max_reactivations": 2}
    people = [joined(world, name)[0] for name in ("ada", "bob", "eve")]
    for one in people:
        suspend(world, one)
    cycle(world)
    world.time.elapsed += 2 * 86400
    for one in people:
        activate(world, one)
    assert "held" in cycle(world) and not seen(world)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("believed", [True, False])
def test_an_address_that_two_people_have_gives_nobody_an_account(
    world: World, monkeypatch: pytest.MonkeyPatch, there: bool, believed: bool
) -> None:
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    if there:
        account = world.keeper.add_user("ada@example.com")
        world.admin_changed(account)
    for name in ("ada", "eve"):
        world.jumpcloud.update_user(person(world, name), email="ada@example.com")
    world.admin_changed()
    if believed:
        monkeypatch.setattr(match._Users, "_claimed_twice", lambda *_: "")
    cycle(world)
    assert ("c" in seen(world)) is believed


def test_an_account_that_gets_the_address_of_somebody_else_after_the_list_is_adopted_as_it_was_listed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    account = world.keeper.add_user("ada@example.com")
    world.admin_changed(account)
    ada = person(world, "ada")
    person(world, "eve")
    handle = world.keeper.handle

    def readdresses(asked: Request) -> Response:
        if asked.method == "PATCH" and world.keeper.account(account).email == "ada@example.com":
            world.keeper.change_email(account, "eve@example.com", keep_alias=False)
            world.admin_changed(account)
        return handle(asked)

    monkeypatch.setattr(world.keeper, "handle", readdresses)
    cycle(world, {f"POST {SCIM}/Users": "refused"}, resync=True)
    assert world.keeper.account(account).external_id == ada


def test_whoever_had_the_account_before_somebody_else_got_its_address_keeps_it(world: World) -> None:
    """The process died over the request that gives the account their id."""
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    account = world.keeper.add_user("ada@example.com")
    world.admin_changed(account)
    ada = person(world, "ada")
    cycle(world, {f"PATCH {SCIM}/Users": "death_before"})
    world.jumpcloud.update_user(person(world, "eve"), email="ada@example.com")
    world.admin_changed()
    cycle(world, resync=True)
    assert world.keeper.account(account).external_id == ada


def _disk_is_full(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resync saves what it has learnt, and can't write what it is about to send."""

    def full(store: CampaignStore, *_: object) -> None:
        raise Unusable(store.path, "database or disk is full (SQLITE_FULL)")

    with monkeypatch.context() as patched:
        patched.setattr(CampaignStore, "write_ahead", full)
        cycle(world, resync=True)


def test_whom_a_cycle_has_tied_to_an_account_before_the_disk_was_full_is_its_owner(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was marked as sent; then they leave, and somebody else gets their address."""
    joined(world, "bob")
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    cycle(world)
    ada = person(world, "ada")
    _disk_is_full(world, monkeypatch)
    world.jumpcloud.update_user(ada, email="zoe@example.com")
    world.jumpcloud.update_user(person(world, "eve"), email="ada@example.com")
    suspend(world, ada)
    cycle(world)
    assert world.keeper.accounts()[account].locked


def test_who_was_given_an_account_before_the_disk_was_full_has_no_grace(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its former owner has merely left, and so lately that they had some still."""
    world.rules.policy["grace"] = "2h"
    joined(world, "bob")
    ada, account = joined(world, "ada")
    cycle(world)
    world.jumpcloud.update_user(ada, email="zoe@example.com")
    world.jumpcloud.unbind_user(world.application, ada)
    eve = person(world, "eve")
    world.jumpcloud.update_user(eve, email="ada@example.com")
    world.admin_changed()
    cycle(world)
    adopt(world, "ada@example.com")
    _disk_is_full(world, monkeypatch)
    suspend(world, eve)
    cycle(world)
    assert world.keeper.accounts()[account].locked


def test_a_team_without_an_id_is_that_of_the_group_whose_name_it_had(world: World) -> None:
    """Keeper refuses whatever would give it the id; and then another group gets that name."""
    world.rules.safety = {"max_removals": 100}
    world.rules.teams = {"adopt": "always"}
    bob, other = joined(world, "bob")
    team = world.keeper.add_team("Sales")
    world.admin_changed(team)
    refuses = {f"PATCH {SCIM}/Groups": "refused"}
    sales = group(world, "Sales")
    ada = person(world, "ada", sales)
    cycle(world, refuses, resync=True)
    account = world.keeper.account("ada@example.com").id
    world.keeper.accept_invitation(account)
    world.keeper.approve_all()
    world.admin_changed()
    cycle(world, refuses)
    assert world.keeper.accounts()[account].teams == (team,)
    legal = group(world, "Legal")
    world.jumpcloud.rename_group(sales, "Old")
    world.jumpcloud.rename_group(legal, "Sales")
    world.jumpcloud.remove_member(sales, ada)
    world.jumpcloud.add_member(legal, ada)
    world.jumpcloud.add_member(sales, bob)
    world.admin_changed()
    cycle(world, refuses)
    assert not world.keeper.accounts()[account].teams and team in world.keeper.accounts()[other].teams


@pytest.mark.parametrize("has_address", [True, False])
def test_an_account_that_may_be_somebody_elses_who_is_staged_is_given_nothing(world: World, has_address: bool) -> None:
    """A first plan had found it for a leaver by the id alone, who is back."""
    world.rules.policy["out_of_scope"] = "keep"
    sales = group(world, "Sales")
    person(world, "bob")
    ada = person(world, "ada")
    world.jumpcloud.unbind_user(world.application, ada)
    account = world.keeper.add_user("eve@example.com", external_id=ada)
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    for _ in range(2):
        cycle(world)
    world.jumpcloud.update_user(person(world, "eve"), state="STAGED")
    world.jumpcloud.update_user(ada, **({} if has_address else {"email": ""}))
    world.jumpcloud.add_member(sales, ada)
    world.admin_changed()
    assert ending(world, random.Random(1)), world.observer.violations
    assert not world.keeper.account(account).teams


def test_an_account_gets_the_id_of_its_owner_again_though_another_bears_it(world: World) -> None:
    """An old copy of the state file does not know that it was given up."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    cycle(world)
    campaign_decisions.copied(world, random.Random(1))
    disown(world, "ada@example.com")
    cycle(world)
    other = world.keeper.add_user("y@example.com", external_id=ada)
    world.admin_changed(other)
    cycle(world, resync=True)
    campaign_decisions.put_back(world, *world.copies[0], by_command=True)
    cycle(world)
    assert world.keeper.account(account).external_id == ada


@pytest.mark.parametrize("unlocked", [True, False])
def test_an_unlock_after_the_look_before_our_lock_is_not_known(world: World, unlocked: bool) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    cycle(world)
    suspend(world, ada)
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world)
    if unlocked:
        world.keeper.unlock(account)
    world.keeper.delete_user(account)
    world.admin_changed(account)
    activate(world, ada)
    assert ending(world, random.Random(1)), world.observer.violations
    assert len(world.keeper.accounts()) == 1


@pytest.mark.parametrize("deleted", [True, False])
def test_whoever_was_adopted_while_staged_is_locked_like_anybody(world: World, deleted: bool) -> None:
    joined(world, "bob")
    eve = person(world, "eve")
    world.jumpcloud.update_user(eve, state="STAGED")
    account = world.keeper.add_user("eve@example.com", external_id=eve)
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    adopt(world, "eve@example.com")
    cycle(world)
    world.time.elapsed += 5 * 3600
    if deleted:
        world.jumpcloud.delete_user(eve)
        world.admin_changed()
    else:
        suspend(world, eve)
    cycle(world)
    assert world.keeper.account(account).locked


@pytest.mark.parametrize("whose", ["given up", "protected", "locked by somebody else", "locked by us"])
@pytest.mark.parametrize("undone", [True, False])
@pytest.mark.parametrize("away", [True, False])
def test_what_a_creation_meets_that_got_its_address_after_the_list_is_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch, whose: str, undone: bool, away: bool
) -> None:
    """`away`: it was in another node, and came back with that address."""
    world.keeper.set_dialect(link_unlocks=True)
    world.rules.safety = {"max_creations": 50, "max_reactivations": 50}
    world.rules.policy["protect"] = ["ada@example.com"] if whose == "protected" else []
    joined(world, "bob")
    if whose in ("given up", "locked by us"):
        ada, account = joined(world, "ada")
    else:
        account = world.keeper.add_user("ada@example.com", locked=whose == "locked by somebody else")
        world.admin_changed(account)
    cycle(world, resync=True)
    if whose == "given up":
        disown(world, "ada@example.com")
    elif whose == "locked by us":
        suspend(world, ada)
    cycle(world)
    before = world.keeper.account(account)
    if away:
        moves(world, account)
        cycle(world, resync=True)
    eve = person(world, "eve", group(world, "Sales"))
    handle = world.keeper.handle

    def readdresses(asked: Request) -> Response:
        if asked.method == "POST" and world.keeper.account(account).email != "eve@example.com":
            world.keeper.change_email(account, "eve@example.com", keep_alias=False)
            world.admin_changed(account)
            if away:
                moves(world, account, back=True)
        return handle(asked)

    monkeypatch.setattr(world.keeper, "handle", readdresses)
    with nullcontext() if undone else mutants.adopt_whatever_a_creation_answers():
        cycle(world)
    after = world.keeper.account(account)
    if undone:
        # Keeper shows the address in the place of an empty display name.
        assert after == replace(before, email="eve@example.com", display_name=after.display_name)
        ending(world, random.Random(1))
    else:
        assert after.external_id == eve
        world.observer.links_undone()
    assert bool(seen(world)) is not undone


def linked_by_alias(world: World, lock: str, faults: dict[str, str]) -> tuple[str, str, str]:
    """Keeper links Ada's creation to Eve's account, which that opens: both their ids, and the account's."""
    world.keeper.set_dialect(links_aliases=True, link_unlocks=True)
    world.rules.safety = {"max_creations": 50, "max_reactivations": 50}
    joined(world, "bob")
    eve, account = joined(world, "eve")
    cycle(world)
    if lock == "ours":
        suspend(world, eve)
    elif lock:
        world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    campaign_decisions.copied(world, random.Random(1))
    gets_alias(world, account, "ada@example.com")
    world.admin_changed(account)
    ada = person(world, "ada")
    cycle(world, faults)
    return ada, eve, account


LOST = {f"POST {SCIM}/Users": "late_timeout"}


def test_whose_creation_was_linked_elsewhere_is_not_created_though_the_alias_is_removed(world: World) -> None:
    _, _, account = linked_by_alias(world, "", {})
    world.keeper.change_email(account, "ada@example.com", keep_alias=True)
    world.keeper.change_email(account, "eve@example.com", keep_alias=False)
    world.admin_changed(account)
    assert ending(world, random.Random(1)), world.observer.violations
    assert len(world.keeper.accounts()) == 2


@pytest.mark.parametrize("change", ["another address", "another node and back"])
def test_a_lock_that_a_link_has_undone_is_set_again_whatever_else_is_changed(world: World, change: str) -> None:
    _, _, account = linked_by_alias(world, "somebody's", LOST)
    if change == "another address":
        world.keeper.change_email(account, "new@example.com", keep_alias=True)
        world.admin_changed(account)
    else:
        moves(world, account)
        moves(world, account, back=True)
    cycle(world, resync=True)
    assert world.keeper.account(account).locked


def test_an_unlock_after_a_lock_that_was_set_again_is_not_known(world: World) -> None:
    _, _, account = linked_by_alias(world, "somebody's", LOST)
    cycle(world)
    assert world.keeper.account(account).locked
    world.keeper.unlock(account)
    world.admin_changed(account)
    world.keeper.delete_user(account)
    world.admin_changed(account)
    assert ending(world, random.Random(1)), world.observer.violations


def test_a_lock_of_somebody_else_after_a_link_has_undone_ours_is_theirs(world: World) -> None:
    _, eve, account = linked_by_alias(world, "ours", LOST)
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    activate(world, eve)
    assert ending(world, random.Random(1)), world.observer.violations


def test_an_account_is_whose_a_person_gave_it_to_though_it_bears_the_id_of_another_still(world: World) -> None:
    """The former owner is back in scope, under another address."""
    world.rules.safety = {"max_creations": 50, "max_deactivations": 50}
    joined(world, "bob")
    eve, account = joined(world, "eve")
    suspend(world, eve)
    cycle(world)
    world.keeper.unlock(account)
    world.jumpcloud.update_user(eve, email="former@example.com")
    ada = person(world, "ada")
    world.jumpcloud.update_user(ada, email="eve@example.com")
    world.admin_changed(account)
    cycle(world)
    adopt(world, "eve@example.com")
    refused = {f"PATCH {SCIM}/Users": "refused"}
    cycle(world, refused)
    activate(world, eve)
    cycle(world, refused)
    assert world.keeper.account(account).external_id == eve
    suspend(world, ada)
    cycle(world)
    assert world.keeper.account(account).locked


@pytest.mark.parametrize("protected", [True, False])
def test_whoever_was_given_up_and_could_not_be_taken_back_is_given_up_still(world: World, protected: bool) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    cycle(world)
    disown(world, "ada@example.com")
    cycle(world)
    world.rules.policy["protect"] = ["ada@example.com"] if protected else []
    adopt(world, "ada@example.com")
    if protected:
        cycle(world)
        world.rules.policy["protect"] = []
        world.jumpcloud.update_user(ada, email="new@example.com")
    else:
        world.keeper.change_email(account, "new@example.com", keep_alias=False)
    world.admin_changed(account)
    assert ending(world, random.Random(1)), world.observer.violations
    assert not world.keeper.account(account).external_id


def test_an_account_with_both_id_and_address_of_its_owner_goes_before_one_with_neither(world: World) -> None:
    """An old copy of the state file knows the other one as theirs, which was given up since."""
    _, account, other = given_up_since_a_copy(world)
    assert ending(world, random.Random(1)), world.observer.violations
    assert not world.keeper.account(account).external_id and world.keeper.account(other).locked


def test_whoever_was_given_an_account_waits_while_keeper_refuses_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were suspended while the cycle gave it to them, so that it does not bear their id yet."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    world.jumpcloud.delete_user(ada)
    new = person(world, "ada")
    cycle(world)
    adopt(world, "ada@example.com")
    handle = world.jumpcloud.handle

    def leaves(asked: Request) -> Response:
        if asked.path == f"/api/systemusers/{new}" and world.truth.active(new):
            suspend(world, new)
        return handle(asked)

    monkeypatch.setattr(world.jumpcloud, "handle", leaves)
    assert "unconfirmed" in cycle(world)
    monkeypatch.undo()
    assert world.keeper.account(account).external_id == ada
    draws = (troubles.refused_account(world, random.Random(n)) for n in range(99))
    found = next(one for one in draws if one is not None and account in one.spared.people)
    activate(world, new)
    for _ in range(3):
        cycle(world, resync=True)
    assert world.keeper.account(account).locked
    campaign_ending._Equality(world, world.plan, "s", found.spared).judge()
    assert not world.observer.violations


def test_whoever_was_given_up_stays_so_with_another_account_that_bears_their_id(world: World) -> None:
    """An administrator deletes the one that was given up, and makes the other."""
    joined(world, "bob")
    account = world.keeper.add_user("ada@example.com")
    world.admin_changed(account)
    ada = person(world, "ada")
    cycle(world, resync=True)
    disown(world, "ada@example.com")
    cycle(world)
    world.keeper.delete_user(account)
    other = world.keeper.add_user("ada@example.com", external_id=ada)
    world.admin_changed(account, other)
    cycle(world, resync=True)
    suspend(world, ada)
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.keeper.account(other).active


def test_whoever_was_unlocked_by_hand_since_the_newest_list_is_locked_by_the_next(world: World) -> None:
    """A cycle without a list goes by what the one before it showed: they are locked, by somebody else."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    world.keeper.unlock(account)
    world.admin_changed(account)
    cycle(world)
    suspend(world, ada)
    cycle(world)
    assert not world.observer.violations and world.keeper.account(account).active
    cycle(world, resync=True)
    assert not world.observer.violations and world.keeper.account(account).locked


def test_the_account_that_a_first_plan_found_for_a_leaver_is_not_that_of_who_merely_had_its_address(
    world: World,
) -> None:
    ada = person(world, "ada")
    person(world, "bob")
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    unreviewed = Order(resync=True, by="schedule")
    world.cycle(unreviewed, Weather(1))
    suspend(world, ada)
    assert campaign_decisions.consent_to_held(world)
    world.cycle(unreviewed, Weather(1))
    world.jumpcloud.update_user(ada, email="kim@example.com")
    heir = person(world, "ada")
    cycle(world)
    world.jumpcloud.update_user(heir, email="eve@example.com")
    world.admin_changed()
    ending(world, random.Random(1))
    assert world.keeper.account(account).locked and not world.observer.violations


def test_who_agrees_to_a_lock_of_a_first_plan_agrees_to_that_of_the_account_it_had_found(world: World) -> None:
    """The plan names its owner, who has another address by then; the next leaver is the first whom the limit counts."""
    world.rules.policy["grace"] = "0s"
    bob, ada = person(world, "bob"), person(world, "ada")
    account = world.keeper.add_user("ada@example.com")
    world.admin_changed(account)
    unreviewed = Order(resync=True, by="schedule")
    world.cycle(unreviewed, Weather(1))
    world.jumpcloud.update_user(ada, email="new@example.com")
    world.admin_changed()
    world.cycle(unreviewed, Weather(1))
    suspend(world, ada)
    world.cycle(unreviewed, Weather(1))
    cycle(world)
    assert world.keeper.accounts()[account].locked
    world.keeper.accept_invitation(world.keeper.account("bob@example.com").id)
    cycle(world, resync=True)
    suspend(world, bob)
    world.time.elapsed += 600
    world.lane(Weather(1))
    assert world.keeper.account("bob@example.com").locked and not world.observer.violations


def test_whom_a_person_gives_up_by_an_address_that_another_account_has_by_now_is_the_one_of_the_state_file(
    world: World,
) -> None:
    ada, account = joined(world, "ada")
    bob, other = joined(world, "bob")
    cycle(world)
    world.keeper.change_email(account, "nils@example.com", keep_alias=False)
    world.keeper.change_email(other, "ada@example.com", keep_alias=False)
    world.admin_changed(account, other)
    disown(world, "ada@example.com")
    world.jumpcloud.update_user(bob, lastname="Berg")
    suspend(world, ada)
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.keeper.account(account).active and world.keeper.account(other).family_name == "Berg"


def test_an_account_that_a_person_gives_to_the_bearer_of_its_address_is_not_protected_by_the_id_on_it(
    world: World,
) -> None:
    world.rules.policy["protect"] = ["dora@example.com"]
    sales = group(world, "Sales")
    person(world, "bob", sales)
    ada, dora = person(world, "ada", sales), person(world, "dora", sales)
    account = world.keeper.add_user("dora@example.com", external_id=dora)
    world.admin_changed(account)
    world.keeper.change_email(account, "ada@example.com", keep_alias=True)
    world.admin_changed(account)
    world.say(world.cycle(Order(by="root"), Weather(0)))  # the first plan waits
    adopt(world, "ada@example.com")
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.keeper.account(account).external_id == ada


def test_an_account_that_comes_back_after_the_list_is_given_to_nobody_for_whom_a_person_adopted_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    world.rules.policy["grace"] = "10h"
    world.time.elapsed += 2 * 86400
    world.jumpcloud.unbind_user(world.application, ada)
    world.admin_changed()
    cycle(world)
    world.jumpcloud.delete_user(ada)
    person(world, "ada")
    adopt(world, "ada@example.com")
    moves(world, account)
    handle = world.keeper.handle

    def comes_back(asked: Request) -> Response:
        if asked.method == "POST" and world.keeper.account(account).node != NODES[0]:
            moves(world, account, back=True)
        return handle(asked)

    monkeypatch.setattr(world.keeper, "handle", comes_back)
    cycle(world)
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.keeper.account(account).locked


def test_what_a_person_gave_up_and_adopts_again_twice_stays_given_up_where_it_can_not_be_taken_back(
    world: World,
) -> None:
    joined(world, "bob")
    _, account = joined(world, "ada")
    cycle(world)
    disown(world, "ada@example.com")
    for _ in range(2):
        adopt(world, "ada@example.com")
    world.keeper.change_email(account, "new@example.com", keep_alias=False)
    world.admin_changed(account)
    assert ending(world, random.Random(1)), world.observer.violations


def test_what_a_person_gave_up_and_adopts_once_it_was_listed_elsewhere_is_a_ghost(world: World) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    cycle(world)
    disown(world, "ada@example.com")
    world.jumpcloud.delete_user(ada)
    moves(world, account)
    cycle(world, resync=True)
    moves(world, account, back=True)
    adopt(world, "ada@example.com")
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.keeper.account(account).active


@pytest.mark.parametrize("found", [False, True])
def test_whoever_has_an_account_by_the_state_file_waits_while_keeper_refuses_it(world: World, found: bool) -> None:
    """A first plan has found it for them, or an old copy does not know to whom it was given since."""
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    if found:
        campaign_decisions.lost(world, random.Random(1))
        account = world.keeper.add_user("ada@example.com")
        world.admin_changed(account)
        ada = person(world, "ada")
        world.cycle(Order(resync=True, by="schedule"), Weather(1))  # nobody reviews the first plan
        world.jumpcloud.update_user(ada, email="ada.new@example.com")
        suspend(world, ada)
        cycle(world)
    else:
        ada, account = joined(world, "ada")
        campaign_decisions.copied(world, random.Random(1))
        world.jumpcloud.update_user(ada, email="ada.new@example.com")
        suspend(world, ada)
        cycle(world)
        heir = person(world, "ada")
        cycle(world)
        adopt(world, "ada@example.com")
        cycle(world)
        cycle(world)
        campaign_decisions.put_back(world, *world.copies[0], by_command=False)
        suspend(world, heir)
        world.jumpcloud.update_user(heir, email="heir@example.com")
        world.admin_changed()
    cycle(world, resync=True)
    draws = (troubles.refused_account(world, random.Random(n)) for n in range(99))
    broken = next(one for one in draws if one is not None and account in one.spared.people)
    activate(world, ada)
    for _ in range(3):
        cycle(world, resync=True)
    campaign_ending._Equality(world, world.plan, "s", broken.spared).judge()
    assert not world.observer.violations


def test_whoever_is_protected_by_an_account_that_is_gone_is_not_locked_in_the_next(world: World) -> None:
    """Our lock has withdrawn their invitation, under the address that the settings name since."""
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    ada = person(world, "ada")
    cycle(world)
    suspend(world, ada)
    cycle(world)
    cycle(world, resync=True)
    world.rules.policy["protect"] = ["ada@example.com"]
    cycle(world, resync=True)
    world.jumpcloud.update_user(ada, email="ada.new@example.com")
    activate(world, ada)
    cycle(world, resync=True)
    account = world.keeper.account("ada.new@example.com").id
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    suspend(world, ada)
    cycle(world)
    ending(world, random.Random(1))
    assert world.keeper.account(account).active


def test_an_account_that_may_be_that_of_whoever_has_no_record_is_given_nothing(world: World) -> None:
    """A first plan had found it for a leaver by the id alone, who is back."""
    sales = group(world, "Sales")
    person(world, "bob")
    ada = person(world, "ada")
    world.jumpcloud.unbind_user(world.application, ada)
    account = world.keeper.add_user("eve@example.com", external_id=ada, locked=True)
    world.admin_changed(account)
    for _ in range(2):
        cycle(world)
    world.jumpcloud.add_member(sales, ada)
    oda = person(world, "oda")
    world.jumpcloud.hide_user(oda)
    for _ in range(3):
        cycle(world, resync=True)
    assert world.keeper.account(account).locked
    campaign_ending._Equality(world, world.plan, "s", Spared(people=frozenset({oda}))).judge()
    assert not world.observer.violations


def test_whom_a_first_plan_had_found_that_a_full_disk_broke_off_is_given_up_under_another_address(
    world: World,
) -> None:
    person(world, "bob")
    ada = person(world, "ada")
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    world.time.elapsed += 600
    assert "disk_full" in world.cycle(Order(by="schedule"), Weather(20, writes=0.1))
    suspend(world, ada)
    world.rules.policy["only"] = {"users": ["bob@example.com"]}  # their lock is not sent
    cycle(world)
    world.keeper.change_email(account, "rike@example.com", keep_alias=False)
    world.admin_changed(account)
    cycle(world, resync=True)
    disown(world, "rike@example.com")
    activate(world, ada)
    assert ending(world, random.Random(1)), world.observer.violations


@pytest.mark.parametrize("moved", [True, False])
def test_whoever_is_protected_under_a_former_address_is_not_locked_with_the_next_account(
    world: World, moved: bool
) -> None:
    """Our lock had withdrawn the invitation of the one before, or it was moved to another node."""
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    ada = person(world, "ada")
    cycle(world)
    before = world.keeper.account("ada@example.com").id
    if moved:
        world.keeper.accept_invitation(before)
        world.admin_changed(before)
    suspend(world, ada)
    for _ in range(2):
        cycle(world, resync=True)
    if moved:
        moves(world, before)
        cycle(world, resync=True)
    world.rules.policy["protect"] = ["ada@example.com"]
    cycle(world, resync=True)
    world.jumpcloud.update_user(ada, email="ada.new@example.com")
    activate(world, ada)
    for _ in range(2):
        cycle(world, resync=True)
    world.keeper.accept_invitation(account := world.keeper.account("ada.new@example.com").id)
    world.admin_changed(account)
    suspend(world, ada)
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.keeper.account(account).active


def test_an_account_that_was_given_to_somebody_whose_record_is_odd_waits_for_that(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It bears the id of somebody else of that address, who is suspended then."""
    staged, ada, _ = given_beside_a_staged_one(world)
    assert ending(world, random.Random(1))

    def odd(world: World, _draw: random.Random) -> Trouble:
        suspend(world, staged)
        world.jumpcloud.oddities.spoil(ada, email=7)
        return Trouble("odd", lambda: world.jumpcloud.oddities.heal(ada), Spared(people=frozenset({ada})))

    for step in ("join", "returned", "moved", "suspended"):
        monkeypatch.setattr(organisation, step, lambda *_: "nothing happens")
    monkeypatch.setattr(troubles, "trouble", odd)
    one_thing_broken(world, random.Random(1))
    assert not world.observer.violations


def test_an_account_with_their_id_may_be_that_of_whoever_is_in_conflict_and_whose_address_cannot_be_read(
    world: World,
) -> None:
    """Both have another address by now, and the state file is lost since."""
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    (ada, account), (oda, _) = joined(world, "ada"), joined(world, "oda")
    for one in (ada, oda):
        world.jumpcloud.update_user(one, email=f"{one}@example.com")
    suspend(world, ada)
    campaign_decisions.lost(world, random.Random(1))
    for _ in range(2):
        cycle(world, resync=True)
    activate(world, ada)
    world.jumpcloud.oddities.spoil(oda, email=7)
    for _ in range(3):
        cycle(world, resync=True)
    assert world.keeper.accounts()[account].locked
    campaign_ending._Equality(world, world.plan, "s", Spared(people=frozenset({oda}))).judge()
    assert not world.observer.violations


def test_an_account_that_a_first_plan_found_for_one_of_two_with_its_address_gets_no_names(world: World) -> None:
    """It was theirs alone when our lock was sent."""
    bob, ada = person(world, "bob"), person(world, "ada")
    account = world.keeper.add_user("ada@example.com")
    world.admin_changed(account)
    world.cycle(Order(by="schedule", resync=True), Weather(0))
    world.jumpcloud.unbind_user(world.application, ada)
    world.admin_changed()
    world.time.elapsed += 3600
    cycle(world, resync=True)
    assert world.keeper.accounts()[account].locked
    world.jumpcloud.update_user(bob, email="ada@example.com")
    world.jumpcloud.bind_user(world.application, ada)
    world.admin_changed()
    assert ending(world, random.Random(1)), world.observer.violations
    assert not world.keeper.accounts()[account].given_name


def test_who_was_let_into_a_group_is_put_into_the_team_that_it_gets_before_the_id_has_arrived(world: World) -> None:
    world.rules.safety = {"max_grants": 1, "always_allow": 1, "max_creations": 50}
    sales = group(world, "Sales")
    for name in ("ada", "bob", "cleo"):
        person(world, name, sales)
        world.admin_changed(world.keeper.add_user(f"{name}@example.com"))
    team = world.keeper.add_team("Sales")
    world.admin_changed(team)
    cycle(world, {f"PATCH {SCIM}": "unreachable"}, resync=True)
    cycle(world, {f"PATCH {SCIM}/Groups": "throttled"})
    assert not world.keeper.teams()[team].external_id
    assert len(world.keeper.members(team)) + len(world.keeper.pending_members(team)) > 1
    assert not world.observer.violations


def test_whoever_comes_into_scope_while_a_resync_of_them_lasts_is_linked_to_nothing_by_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their address is somebody else's by the next cycle."""
    world.rules.safety = {"max_creations": 50}
    team = group(world, "IT")
    joined(world, "bob", team)
    fay = world.jumpcloud.add_user("fay@example.com", state="STAGED", firstname="Fay", lastname="Test")
    world.jumpcloud.bind_user(world.application, fay)
    account = world.keeper.add_user("fay@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    handle = world.keeper.handle

    def activated(asked: Request) -> Response:
        if not world.truth.active(fay):
            activate(world, fay)
        return handle(asked)

    monkeypatch.setattr(world.keeper, "handle", activated)
    cycle(world, resync=True, person="fay@example.com")
    monkeypatch.undo()
    assert account not in world.observer.ledger.linked
    world.jumpcloud.update_user(fay, email="nils@example.com")
    heir = person(world, "fay", team)
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.keeper.accounts()[account].external_id == heir


def test_an_adoption_waits_while_keeper_cannot_be_listed_and_lapses_with_the_address(world: World) -> None:
    joined(world, "bob")
    ada, account = joined(world, "ada")
    disown(world, "ada@example.com")
    world.keeper.refuse("Groups", 403)
    adopt(world, "ada@example.com")
    suspend(world, ada)
    cycle(world, resync=True)
    world.keeper.change_email(account, "olga@example.com", keep_alias=False)
    world.admin_changed(account)
    world.keeper.refuse("Groups", None)
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.keeper.accounts()[account].active


def test_an_account_of_a_new_node_is_whose_it_was_when_the_cycle_listed_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else has locked it, and it gets the address of somebody whose creation meets it then."""
    account = world.keeper.add_user("lars@example.com", locked=True)
    world.admin_changed(account)
    handle = world.keeper.handle

    def readdressed(asked: Request) -> Response:
        listed = bool(world.observer.latest.users_shown)
        if listed and "Users?" not in asked.target and world.keeper.account(account).email == "lars@example.com":
            world.keeper.change_email(account, "nils@example.com", keep_alias=False)
            world.admin_changed(account)
        return handle(asked)

    for name in ("bob", "lars", "nils"):
        person(world, name)
    monkeypatch.setattr(world.keeper, "handle", readdressed)
    cycle(world, resync=True, rebind=True)
    monkeypatch.undo()
    assert ending(world, random.Random(1)), world.observer.violations


def test_an_adoption_is_in_doubt_that_a_list_which_is_behind_keeps_from_being_carried_out(world: World) -> None:
    """It shows somebody in scope who has no record and no account any more, and who may have the address."""
    world.rules.safety = {"max_creations": 50}
    joined(world, "bob")
    piet, bela = person(world, "piet"), person(world, "bela")
    account = world.keeper.add_user("wim@example.com", external_id=bela)
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    for _ in range(6):  # until nothing that is remembered is older
        cycle(world, {f"POST {SCIM}/Users": "refused"}, resync=True)
    adopt(world, "wim@example.com")
    world.jumpcloud.delete_user(piet)
    world.admin_changed()
    world.time.elapsed += 600
    script = {"JumpCloud GET /api/v2/applications": "stale"}
    world.cycle(Order(by="root"), Weather(1, script=script))
    suspend(world, bela)
    assert ending(world, random.Random(1)), world.observer.violations


def test_a_team_is_not_listed_that_a_list_showed_which_was_not_read_to_its_end(world: World) -> None:
    """Keeper is listed once more since a creation had no answer."""
    world.keeper.set_dialect(page_cap=1)
    for name in ("IT", "Sales"):
        person(world, name.casefold(), group(world, name))
    late = {f"POST {SCIM}/Users": "late_timeout", f"GET {SCIM}/Groups?startIndex=2": "throttled_long"}
    cycle(world, late)
    team = next(one.id for one in world.keeper.teams().values())
    world.keeper.delete_team(team)
    world.admin_changed(team, *world.jumpcloud.organization().groups)
    assert ending(world, random.Random(1)), world.observer.violations


def test_a_lock_that_a_cycle_had_read_before_it_was_broken_off_is_known_to_a_copy(world: World) -> None:
    joined(world, "bob")
    _, account = joined(world, "ada")
    world.keeper.lock(account)
    world.admin_changed(account)
    world.time.elapsed += 600
    weather = Weather(272, writes=0.1)
    assert "death_written write#10" in world.cycle(Order(by="root", resync=True), weather)
    _unlocked_since_a_copy(world, account, by_command=False)
    assert ending(world, random.Random(1)), world.observer.violations


@pytest.mark.parametrize("first", [True, False])
def test_an_account_that_was_named_for_whoever_gets_its_address_keeps_no_team_of_the_former_owner(
    world: World, first: bool
) -> None:
    """The state file that knew whose it was is lost; the person was named before the address moved, or after it."""
    ada, account = joined(world, "ada", group(world, "Legal"))
    bob, _ = joined(world, "bob", group(world, "Design"))
    campaign_decisions.lost(world, random.Random(1))
    unreviewed(world)
    if first:
        adopt(world, "ada@example.com")
    world.jumpcloud.update_user(ada, email="nils@example.com")
    world.jumpcloud.update_user(bob, email="ada@example.com")
    world.admin_changed()
    if not first:
        adopt(world, "ada@example.com")
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.keeper.accounts()[account].external_id == bob
    assert teams_of(world, "ada") == {"Design"}


def test_a_name_in_the_place_of_which_the_answer_has_something_else_has_not_been_shown(world: World) -> None:
    ada, account = joined(world, "ada")
    world.keeper.show_oddly(account, {"name": 3}, ())
    world.jumpcloud.update_user(ada, firstname="Ida")
    world.admin_changed()
    cycle(world)
    world.keeper.show_oddly(account)
    world.keeper.rename_user(account, given_name="Zed")
    world.admin_changed(account)
    assert ending(world, random.Random(1)), world.observer.violations
    assert world.observer.excused[8]


@pytest.mark.parametrize("alias", [False, True])
@pytest.mark.parametrize("adopted", ["", "at once", "later"])
def test_an_account_that_a_plan_merely_found_is_nobodys_under_another_address(
    world: World, adopted: str, alias: bool
) -> None:
    """Keeper creates nobody under an alias, and does not say whose it is. A person may take the account over, and have
    it locked."""
    person(world, "bob")
    person(world, "ada")
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    unreviewed(world)
    world.keeper.change_email(account, "rike@example.com", keep_alias=alias)
    world.admin_changed(account)
    if adopted == "later":
        cycle(world, resync=True)
    elif adopted:
        unreviewed(world)
    if adopted:
        adopt(world, "rike@example.com")
    assert ending(world, random.Random(1)), world.observer.violations
    assert not world.keeper.accounts()[account].external_id
    assert world.keeper.accounts()[account].locked is bool(adopted)


def test_a_page_of_a_list_that_breaks_off_has_shown_no_place(world: World) -> None:
    """One that is asked for once more goes on where it was."""
    row = {"id": "1", "userName": "ada@example.com", "active": True, "groups": [{"value": "legal"}]}
    pages = {1: Response.of_json(200, {"Resources": [row]}), 2: Response.of_json(200, {"Resources": []})}
    read = {one: Request("GET", f"{SCIM}/Users?startIndex={one}&count=500", {}, b"") for one in pages}
    observer, place = world.observer, {("1", "legal")}
    observer.answered(read[1], pages[1])
    assert observer.view.places_shown == place
    observer.answered(read[2], Response(302, {}, b""))
    assert not observer.view.places_shown
    observer.answered(read[2], pages[2])
    assert observer.view.places_shown == place
    observer.answered(read[1], Response(302, {}, b""))
    assert observer.view.places_shown == place  # by the list before
