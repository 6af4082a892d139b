"""The rules of the diff, each by itself."""

from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.diff import Decision
from reconciler.model import USER_NAME, Account, Failure, Membership, Snapshot, Standing, Status, Takeover, Team
from reconciler.plan import Cause, Kind, NoticeKind, Operation, Rule
from reconciler.policy import (
    AddressChange,
    Drift,
    Mode,
    OutOfScope,
    Pilot,
    Policy,
    Reactivate,
    TeamOutOfScope,
    TeamPolicy,
)
from tests.world import MEMBER, NOW, account, decide, directory, group, jc, snapshot, team, user


def only(decision: Decision) -> Operation:
    (operation,) = decision.plan.operations
    return operation


def kinds(decision: Decision) -> list[Kind]:
    return [operation.kind for operation in decision.plan.operations]


def notices(decision: Decision) -> list[NoticeKind]:
    return [notice.kind for notice in decision.plan.notices]


def test_nothing_to_do_when_both_sides_agree() -> None:
    g, u = group(9), user(1, 9)
    decision = decide(directory([u], [g]), snapshot([account(u, memberships={"t0009": MEMBER})], [team(g)]))
    assert decision.plan.operations == () and decision.plan.notices == ()


def test_a_joiner_is_created_with_the_teams_and_a_new_group_is_queued_first() -> None:
    decision = decide(directory([user(1, 9)], [group(9)]), snapshot([]))
    assert kinds(decision) == [Kind.QUEUE_TEAM, Kind.CREATE_USER]
    created = decision.plan.operations[1]
    assert [t.name for t in created.add] == ["Group 9"] and created.add[0].keeper_id == ""
    assert {c.attribute: c.after for c in created.changes}["externalId"] == jc(1)


@pytest.mark.parametrize("status", [Status.STAGED, Status.UNKNOWN])
def test_a_state_other_than_active_is_not_created_and_changes_nothing_about_access(status: Status) -> None:
    decision = decide(directory([user(1, 9, status=status)], [group(9)]), snapshot([], [team(group(9))]))
    assert kinds(decision) == [] and NoticeKind.STATE_UNKNOWN in notices(decision)
    present = user(2, 9, status=status)
    decision = decide(directory([present], [group(9)]), snapshot([account(present)], [team(group(9))]))
    assert kinds(decision) == []


def test_no_usable_address_is_not_created_but_reconciled_on_under_the_old_one() -> None:
    decision = decide(directory([user(1, email="", direct=True)]), snapshot([]))
    assert kinds(decision) == [] and notices(decision) == [NoticeKind.NO_ADDRESS]
    old = account(user(1))
    decision = decide(directory([user(1, email="", direct=True, given_name="Ada")]), snapshot([old]))
    assert only(decision).kind is Kind.UPDATE_USER


def test_suspended_and_deleted_people_are_deactivated_without_grace() -> None:
    suspended = user(1, direct=True, status=Status.SUSPENDED)
    decision = decide(directory([suspended]), snapshot([account(suspended), account(user(2))]))
    assert kinds(decision) == [Kind.DEACTIVATE_USER, Kind.DEACTIVATE_USER]
    assert {op.rule for op in decision.plan.operations} == {"suspended", "deleted"}


def test_who_left_the_scope_is_deactivated_after_the_grace() -> None:
    left = user(1)
    first = decide(directory([left]), snapshot([account(left)]))
    assert kinds(first) == [] and notices(first) == [NoticeKind.IN_GRACE]
    later = decide(directory([left]), first.snapshot, now=NOW + timedelta(minutes=30))
    assert only(later).kind is Kind.DEACTIVATE_USER
    assert only(later).add == only(later).remove == ()


def test_nobody_is_told_to_be_locked_when_grace_ends_who_will_not_be() -> None:
    left, held = directory([user(1)]), snapshot([account(user(1))])
    for policy, kind, words in (
        (Policy(), NoticeKind.IN_GRACE, "will be locked after"),
        (Policy(mode=Mode.OBSERVE), NoticeKind.IN_GRACE, "nothing is sent"),
        (Policy(protect=frozenset({"u1@example.com"})), NoticeKind.PROTECTED, "not locked"),
        (Policy(only=Pilot(users=frozenset({"u2@example.com"}))), NoticeKind.OUTSIDE_PILOT, "not locked"),
    ):
        made = decide(directory([user(1), user(2, direct=True)]), snapshot([*held.accounts.values()]), policy)
        (told,) = (one for one in made.plan.notices if one.subject.name == "u1@example.com")
        assert (told.kind, words in told.message) == (kind, True)
        assert decide(left, held, policy).plan.operations == ()


def test_out_of_scope_keep_never_covers_suspended_people() -> None:
    policy = Policy(out_of_scope=OutOfScope.KEEP, grace=timedelta(0))
    decision = decide(directory([user(1)]), snapshot([account(user(1))]), policy)
    assert kinds(decision) == [] and notices(decision) == [NoticeKind.KEPT]
    suspended = user(1, status=Status.SUSPENDED)
    assert kinds(decide(directory([suspended]), snapshot([account(suspended)]), policy)) == [Kind.DEACTIVATE_USER]


def test_back_in_scope_is_reactivated_with_what_was_missed_only_if_the_lock_is_ours() -> None:
    g, u = group(9), user(1, 9)
    ours = account(u, active=False, locked_by_us=True)
    decision = decide(directory([u], [g]), snapshot([ours], [team(g)]))
    assert only(decision).kind is Kind.REACTIVATE_USER and len(only(decision).add) == 1
    theirs = snapshot([account(u, active=False)], [team(g)])
    assert notices(decide(directory([u], [g]), theirs)) == [NoticeKind.LOCKED_IN_KEEPER]
    assert kinds(decide(directory([u], [g]), theirs)) == []
    (unlock,) = decide(directory([u], [g]), theirs, Policy(reactivate=Reactivate.ANY)).plan.operations
    assert unlock.kind is Kind.REACTIVATE_USER
    assert unlock.reason == "in scope through Group 9, and locked in Keeper by somebody else (policy.reactivate)"
    assert kinds(decide(directory([u], [g]), theirs, unlock=frozenset({u.id}))) == [Kind.REACTIVATE_USER]


def test_gone_after_our_own_deactivation_is_created_anew_on_return() -> None:
    u = user(1, direct=True)
    operation = only(decide(directory([u]), snapshot([account(u, gone=True, active=False, locked_by_us=True)])))
    assert (operation.kind, operation.cause) == (Kind.CREATE_USER, "jumpcloud")


def test_a_user_who_is_gone_from_the_node_is_drift_and_not_said_to_be_deleted() -> None:
    u = user(1, direct=True)
    gone = snapshot([account(u, gone=True, active=False)])
    made = only(decide(directory([u]), gone))
    assert (made.cause, made.reason) == ("drift", "gone from this Keeper node, but in scope by a direct binding")
    reported = decide(directory([u]), gone, Policy(drift=Drift.REPORT))
    assert kinds(reported) == []
    assert [(n.kind, "deleted" in n.message) for n in reported.plan.notices] == [(NoticeKind.DRIFT, False)]


def test_who_is_back_is_created_anew_though_readings_of_them_differ_meanwhile() -> None:
    """Nothing tells then that they have left; and who has not left counts as deleted in Keeper, which is drift."""
    u, policy = user(1, direct=True), Policy(drift=Drift.REPORT)
    left = snapshot([account(u, gone=True, active=False, left_at=NOW)])
    back = decide(directory([u]), left, policy).snapshot
    for unclear in (replace(u, unsure=True), replace(u, unsure=True, status=Status.SUSPENDED)):
        meanwhile = decide(directory([unclear]), back, policy).snapshot
        assert only(decide(directory([u]), meanwhile, policy)).rule is Rule.RETURNED


def test_an_empty_value_never_wipes_one_out() -> None:
    u = user(1, direct=True)
    assert kinds(decide(directory([replace(u, given_name="", display_name="")]), snapshot([account(u)]))) == []


def test_what_keeper_made_of_a_value_is_in_line_until_it_moves() -> None:
    u = user(1, direct=True, given_name="  Ada")
    made = account(u)
    shown = {**made.shown, "name.givenName": "ADA"}
    in_line = replace(made, shown=shown, settled=shown)
    assert kinds(decide(directory([u]), snapshot([in_line]))) == []
    moved = replace(in_line, shown={**shown, "name.givenName": "Eve"})
    operation = only(decide(directory([u]), snapshot([moved])))
    assert operation.cause == "drift" and operation.changes[0].before == "Eve"


def test_an_address_is_compared_case_folded() -> None:
    u = user(1, direct=True)
    assert kinds(decide(directory([replace(u, email="U1@EXAMPLE.com")]), snapshot([account(u)]))) == []


def test_a_changed_address_is_reported_with_the_command_or_sent_where_asked() -> None:
    u = user(1, direct=True)
    wanted = directory([replace(u, email="new@example.com")])
    decision = decide(wanted, snapshot([account(u)]))
    assert kinds(decision) == []
    assert "enterprise-user --add-alias new@example.com u1@example.com" in decision.plan.notices[0].message
    sent = only(decide(wanted, snapshot([account(u)]), Policy(address_change=AddressChange.SEND)))
    assert sent.kind is Kind.UPDATE_USER and sent.changes[0].after == "new@example.com"


def test_an_address_that_keeper_was_given_first_is_to_follow_in_jumpcloud() -> None:
    """Keeper documents that order for a change of address."""
    u = user(1, direct=True)
    changed = account(u)
    changed = replace(changed, shown={**changed.shown, USER_NAME: "new@example.com"})
    [notice] = decide(directory([u]), snapshot([changed])).plan.notices
    assert "If it is to stay, change it in JumpCloud too" in notice.message
    assert notice.message.endswith(
        "to go back, in Keeper Commander: enterprise-user --add-alias u1@example.com new@example.com"
    )


def unmanaged(number: int, external: str = "", **values: object) -> Account:
    u = user(number)
    shown = {"userName": u.email.upper(), "externalId": external}
    return account(u, standing=Standing.UNMANAGED, jumpcloud_id="", shown=shown, asked={}, settled={}, **values)


def test_a_namesake_by_address_is_adopted() -> None:
    decision = decide(directory([user(1, direct=True)]), snapshot([unmanaged(1)]))
    operation = only(decision)
    assert operation.rule == "adopted" and operation.kind is Kind.UPDATE_USER
    assert ("externalId", jc(1)) in {(c.attribute, c.after) for c in operation.changes}
    assert decision.snapshot.accounts["k0001"].managed


def test_a_recycled_address_is_never_linked_silently() -> None:
    decision = decide(directory([user(1, direct=True)]), snapshot([unmanaged(1, external=jc(77))]))
    assert kinds(decision) == [] and notices(decision) == [NoticeKind.CONFLICT]
    consented = decide(
        directory([user(1, direct=True)]), snapshot([unmanaged(1, external=jc(77), takeover=Takeover.BY_ADDRESS)])
    )
    assert only(consented).rule == "adopted"


def test_a_rehire_takes_the_locked_account_over_only_with_adopt() -> None:
    old, new = user(1), user(2, direct=True, email="u1@example.com")
    locked = account(old, active=False, locked_by_us=True)
    refused = decide(directory([new]), snapshot([locked]))
    assert kinds(refused) == [] and notices(refused) == [NoticeKind.CONFLICT]
    consented = only(decide(directory([new]), snapshot([replace(locked, takeover=Takeover.BY_ADDRESS)])))
    assert consented.kind is Kind.REACTIVATE_USER and consented.subject.jumpcloud_id == new.id


def test_two_users_with_one_address_get_nothing() -> None:
    users = [user(1, direct=True), user(2, direct=True, email="U1@Example.com")]
    decision = decide(directory(users), snapshot([]))
    assert kinds(decision) == [] and notices(decision) == [NoticeKind.CONFLICT, NoticeKind.CONFLICT]


def test_whoever_one_of_two_readings_shows_claims_their_address() -> None:
    """A list that is behind hides them in the other one."""
    first, second = user(1, 9, email="same@example.com"), user(2, 9, email="Same@Example.com", unsure=True)
    decision = decide(directory([first, second], [group(9)]), snapshot([], [team(group(9))]))
    assert kinds(decision) == [] and NoticeKind.CONFLICT in notices(decision)


def test_a_new_address_that_is_anothers_stops_additions_but_not_the_rest() -> None:
    a, b = user(1, 9), user(2, direct=True)
    wanted = directory([replace(a, email=b.email, given_name="Eve"), replace(b, email="x@example.com")], [group(9)])
    decision = decide(wanted, snapshot([account(a), account(b)], [team(group(9))]))
    operation = only(decision)
    assert operation.add == () and [c.attribute for c in operation.changes] == ["name.givenName"]


def test_who_was_adopted_by_the_id_alone_gets_no_account_under_the_address_of_somebody_else() -> None:
    """Keeper had linked Hana's creation to Cleo's account, and the state file that knew it was lost; both had left."""
    cleo, hana = user(1), user(2)
    left = snapshot([unmanaged(1, external=hana.id)], reviewed=False, fresh=frozenset({"k0001"}))
    locked = decide(directory([cleo, hana]), left)
    assert only(locked).kind is Kind.DEACTIVATE_USER and only(locked).subject.jumpcloud_id == hana.id
    held = locked.snapshot.accounts["k0001"]
    for email in (hana.email, ""):
        back = directory([replace(cleo, direct=True), replace(hana, direct=True, email=email)])
        both = decide(back, snapshot([replace(held, active=False, locked_by_us=True)]))
        assert kinds(both) == [] and notices(both) == [NoticeKind.CONFLICT, NoticeKind.CONFLICT]
    alone = decide(
        directory([cleo, replace(hana, direct=True)]), snapshot([replace(held, active=False, locked_by_us=True)])
    )
    assert Kind.REACTIVATE_USER in kinds(alone)
    gone = snapshot([replace(held, active=False, locked_by_us=True, gone=True)])
    anew = decide(directory([replace(cleo, direct=True), replace(hana, direct=True)]), gone)
    assert kinds(anew) == [Kind.CREATE_USER, Kind.CREATE_USER], "with the account went what was in doubt"


def test_who_was_adopted_by_the_address_keeps_the_account_when_somebody_else_gets_that() -> None:
    """It is locked by somebody else, and so was asked for nothing."""
    ada, eve = user(1, direct=True), user(2)
    adopted = decide(directory([ada]), snapshot([unmanaged(1, active=False)])).snapshot.accounts["k0001"]
    swapped = directory([replace(ada, email="new@example.com"), replace(eve, direct=True, email=ada.email)])
    words = [n.message for n in decide(swapped, snapshot([adopted])).plan.notices if n.subject.jumpcloud_id == ada.id]
    assert words and not any("carries this person's JumpCloud id" in one for one in words)


@pytest.mark.parametrize("asked", [Takeover.BY_ADDRESS, Takeover.AS_GHOST])
def test_so_does_whoever_had_left_when_a_person_adopted_it_and_whom_we_locked(asked: Takeover) -> None:
    ada, eve = user(1, direct=True, status=Status.SUSPENDED), user(2)
    adopted = decide(directory([ada]), snapshot([unmanaged(1, takeover=asked)])).snapshot.accounts["k0001"]
    assert adopted.jumpcloud_id == ada.id and adopted.review_lock
    back = replace(ada, email="new@example.com", status=Status.ACTIVE)
    swapped = directory([back, replace(eve, direct=True, email=ada.email)])
    operations = decide(swapped, snapshot([replace(adopted, active=False, locked_by_us=True)])).plan.operations
    assert [op.kind for op in operations if op.subject.jumpcloud_id == ada.id] == [Kind.REACTIVATE_USER]


def test_a_conflict_about_an_account_tells_of_an_id_only_where_keeper_shows_it() -> None:
    back, eve = user(1, direct=True, email="new@example.com"), user(2, direct=True, email="u1@example.com")
    for shown, words in ((back.id, "carries this person's JumpCloud id"), ("", "was found for this person")):
        held = account(back, shown={"userName": eve.email, "externalId": shown}, asked={}, settled={}, active=False)
        made = decide(directory([back, eve]), snapshot([held])).plan
        told = [one.message for one in made.notices if one.subject.jumpcloud_id == back.id]
        assert len(told) == 1 and words in told[0]


def test_the_first_plan_adopts_leavers_and_takes_their_locks_for_ours() -> None:
    left, locked = user(1), user(2)
    found = [unmanaged(1, external=jc(1)), unmanaged(2, external=jc(2), active=False)]
    held = snapshot(found, reviewed=False, fresh=frozenset({"k0001", "k0002"}))
    decision = decide(directory([left, locked]), held)
    assert only(decision).kind is Kind.DEACTIVATE_USER and only(decision).subject.jumpcloud_id == jc(1)
    assert decision.snapshot.accounts["k0002"].locked_by_us
    later = decide(directory([left, locked]), replace(held, reviewed=True))
    assert kinds(later) == [] and notices(later) == [NoticeKind.GHOST, NoticeKind.GHOST]


def test_unmanaged_people_are_only_reported() -> None:
    decision = decide(directory([]), snapshot([unmanaged(1)]))
    assert kinds(decision) == [] and notices(decision) == [NoticeKind.GHOST]


def test_a_ghost_that_was_taken_over_is_not_locked_while_somebody_in_scope_has_no_usable_address() -> None:
    ghost = account(user(1), jumpcloud_id="", asked={}, settled={}, review_lock=True)
    made = decide(directory([user(2, direct=True, email="", display_name="Eve")]), snapshot([ghost]))
    assert made.plan.operations == ()
    (told,) = (one for one in made.plan.notices if one.kind is NoticeKind.CONFLICT)
    assert "Eve" in told.message and "not locked" in told.message
    assert "unknown" not in told.message  # somebody who is not bound may have the address
    for people in ([user(2, direct=True)], [user(2, email="")]):
        made = decide(directory(people), snapshot([ghost]))
        assert Kind.DEACTIVATE_USER in {op.kind for op in made.plan.operations}
    paired, gone = [ghost, account(user(2))], [ghost, account(user(2), gone=True)]
    made = decide(directory([user(2, direct=True, email="")]), snapshot(paired))
    assert [op.kind for op in made.plan.operations] == [Kind.DEACTIVATE_USER]
    assert kinds(decide(directory([user(2, direct=True, email="")]), snapshot(gone))) == []


def test_a_ghost_is_theirs_who_has_left_with_its_address_whoever_has_none() -> None:
    ghost = account(user(1), jumpcloud_id="", asked={}, settled={}, review_lock=True)
    nameless, left = user(2, direct=True, email=""), user(3, direct=True, status=Status.SUSPENDED, email=ghost.email)
    assert only(decide(directory([nameless, left]), snapshot([ghost]))).kind is Kind.DEACTIVATE_USER
    for other in (replace(left, email="u3@example.com"), replace(left, email="")):
        assert kinds(decide(directory([nameless, other]), snapshot([ghost]))) == []
    theirs = account(left, shown={USER_NAME: "u3@example.com"}, active=False)
    assert kinds(decide(directory([nameless, left]), snapshot([ghost, theirs]))) == []


def test_a_disowned_person_is_neither_matched_nor_created_and_gets_the_old_external_id_back() -> None:
    u = user(1, direct=True)
    given_up = account(u, standing=Standing.DISOWNED, former_external_id="okta-1")
    operation = only(decide(directory([u]), snapshot([given_up])))
    assert (operation.rule, operation.changes[0].after) == ("disowned", "okta-1")
    done = replace(given_up, shown={**given_up.shown, "externalId": "okta-1"})
    assert kinds(decide(directory([u]), snapshot([done]))) == []


def test_protection_prevents_all_but_undoing_our_own_lock() -> None:
    policy = Policy(protect=frozenset({"u1@example.com"}))
    suspended = user(1, direct=True, status=Status.SUSPENDED)
    decision = decide(directory([suspended]), snapshot([account(suspended)]), policy)
    assert kinds(decision) == [] and notices(decision) == [NoticeKind.PROTECTED]
    back = replace(user(1, 9), given_name="Other")
    ours = snapshot([account(user(1), active=False, locked_by_us=True)], [team(group(9))])
    operation = only(decide(directory([back], [group(9)]), ours, policy))
    assert operation.kind is Kind.REACTIVATE_USER
    assert [c.attribute for c in operation.changes] == ["active"] and operation.add == ()
    withdrawn = account(user(1), gone=True, active=False, locked_by_us=True)
    back = user(1, direct=True)
    ours = snapshot([withdrawn], locked_out=frozenset({back.id}))
    assert only(decide(directory([back]), ours, policy)).kind is Kind.CREATE_USER
    elsewhere = replace(withdrawn, locked_by_us=False, left_at=NOW)
    assert kinds(decide(directory([back]), snapshot([elsewhere]), policy)) == []
    assert kinds(decide(directory([back]), snapshot([withdrawn]), policy)) == []


def test_protection_sticks_to_the_person_while_listed() -> None:
    policy = Policy(protect=frozenset({"u1@example.com"}))
    learnt = decide(directory([user(1, direct=True)]), snapshot([account(user(1))]), policy).snapshot
    renamed = {k: replace(a, shown={**a.shown, "userName": "z@example.com"}) for k, a in learnt.accounts.items()}
    gone = decide(directory([]), replace(learnt, accounts=renamed), policy)
    assert kinds(gone) == []
    assert kinds(decide(directory([]), replace(learnt, accounts=renamed))) == [Kind.DEACTIVATE_USER]


def test_members_follow_the_group() -> None:
    a, b, u = group(8), group(9), user(1, 9)
    held = snapshot([account(u, memberships={"t0008": MEMBER})], [team(a), team(b)])
    operation = only(decide(directory([u], [a, b]), held))
    assert [t.name for t in operation.add] == ["Group 9"] and [t.name for t in operation.remove] == ["Group 8"]


def test_given_by_hand_is_reported_and_taken_only_by_repair() -> None:
    g, u = group(9), user(1, direct=True)
    held = snapshot([account(u, memberships={"t0009": Membership(ours=False, seen=True, shown=True)})], [team(g)])
    decision = decide(directory([u], [g]), held)
    assert kinds(decision) == [] and notices(decision) == [NoticeKind.GIVEN_BY_HAND]
    assert only(decide(directory([u], [g]), held, Policy(drift=Drift.REPAIR))).cause == "drift"


def test_waiting_is_not_drift() -> None:
    g, u = group(9), user(1, 9)
    asked = Membership(ours=True, seen=False, shown=False, asked_at=NOW)
    held = snapshot([account(u, memberships={"t0009": asked})], [team(g)])
    decision = decide(directory([u], [g]), held)
    assert kinds(decision) == [] and notices(decision) == [NoticeKind.WAITING_FOR_APPROVAL]
    missing = replace(asked, seen=True)
    taken = snapshot([account(u, memberships={"t0009": missing})], [team(g)])
    assert only(decide(directory([u], [g]), taken)).cause == "drift"
    doubtful = snapshot([account(u, memberships={"t0009": replace(asked, asked_at=None)})], [team(g)])
    again = only(decide(directory([u], [g]), doubtful))
    assert again.cause == "jumpcloud" and [one.keeper_id for one in again.add] == ["t0009"]


def test_a_team_that_was_never_shown_is_not_queued_again_and_one_that_was_is_drift() -> None:
    g = group(9)
    assert kinds(decide(directory([], [g]), snapshot([], [team(g, seen=False)]))) == []
    operation = only(decide(directory([], [g]), snapshot([], [team(g, gone=True)])))
    assert (operation.kind, operation.cause) == (Kind.QUEUE_TEAM, "drift")
    assert operation.reason == "gone from this Keeper node, still in the application's scope"


def test_a_team_that_was_never_shown_gives_way_to_the_one_that_keeper_shows_under_the_groups_id() -> None:
    g, u = group(9), user(1, 9)
    waits = replace(MEMBER, seen=False, shown=False)
    there = team(g, keeper_id="t0010", standing=Standing.UNMANAGED, jumpcloud_id="", queued_at=None)
    held = snapshot([account(u, memberships={"t0009": waits})], [team(g, seen=False), there])
    decision = decide(directory([u], [g]), held)
    assert [t.keeper_id for t in only(decision).add] == ["t0010"]
    assert set(decision.snapshot.teams) == {"t0010"} and notices(decision) == []
    ours = snapshot([account(u, memberships={"t0009": MEMBER})], [team(g), there])
    assert kinds(decide(directory([u], [g]), ours)) == []


def test_who_leaves_a_group_of_two_teams_is_not_told_that_it_is_unbound() -> None:
    g, ada = group(9), user(1, direct=True)
    other = replace(team(g), keeper_id="t0010")
    held = account(ada, memberships={one.keeper_id: MEMBER for one in (team(g), other)})
    (op,) = decide(directory([ada], [g]), snapshot([held], [team(g), other])).plan.operations
    assert len(op.remove) == 2 and op.reason == "changed in JumpCloud"


def test_a_team_that_was_renamed_by_hand_too_is_not_told_as_the_former_name_of_its_group() -> None:
    g = group(9, "New")
    by_hand = team(group(9, "Old"), shown={"displayName": "By hand", "externalId": g.id})
    (op,) = decide(directory([], [g]), snapshot([], [by_hand])).plan.operations
    assert op.rule is Rule.GROUP_RENAMED and op.reason == "the group is named New, its team By hand"


def twin(number: int) -> Team:
    """Another team that bears the id of group 9, which we do not know for ours."""
    return team(group(9), keeper_id=f"t{number:04}", standing=Standing.UNMANAGED, jumpcloud_id="", queued_at=None)


def test_of_several_teams_that_bear_the_groups_id_it_has_the_one_with_the_most_members_and_the_rest_is_told() -> None:
    g, namesake = group(9), group(5, "Group 9")
    held_there = replace(MEMBER, ours=False)
    bob = account(user(2, 9), memberships={"t0011": held_there})
    for teams in ([twin(10), twin(11)], [twin(10), twin(11), team(g, gone=True)]):
        decision = decide(directory([user(1, 9), user(2, 9)], [g, namesake]), snapshot([account(user(1)), bob], teams))
        assert [(op.kind, [t.keeper_id for t in op.add]) for op in decision.plan.operations if op.add] == [
            (Kind.UPDATE_USER, ["t0011"])
        ]
        assert Kind.QUEUE_TEAM not in kinds(decision)
        told = [n.subject.key for n in decision.plan.notices if n.kind is NoticeKind.CONFLICT]
        assert sorted(told) == sorted([namesake.id, "t0010"])


def test_a_team_beside_the_one_of_its_group_is_told_and_left_alone() -> None:
    g = group(9)
    decision = decide(directory([], [g]), snapshot([], [team(g), twin(10)]))
    (notice,) = decision.plan.notices
    assert kinds(decision) == [] and notice.kind is NoticeKind.CONFLICT and notice.subject.keeper_id == "t0010"
    unmanaged_group = Policy(teams=TeamPolicy(exclude=("Group *",)))
    assert decide(directory([], [g]), snapshot([], [twin(10)]), unmanaged_group).plan.notices == ()


def test_a_renamed_group_renames_the_team_and_a_renamed_team_is_drift() -> None:
    g = group(9)
    renamed = only(decide(directory([], [group(9, "New")]), snapshot([], [team(g)])))
    assert (renamed.kind, renamed.cause) == (Kind.RENAME_TEAM, "jumpcloud")
    by_hand = team(g, shown={"displayName": "By hand", "externalId": g.id})
    assert only(decide(directory([], [g]), snapshot([], [by_hand]))).cause == "drift"


def test_a_group_that_left_the_scope_empties_its_team() -> None:
    g, u = group(9), user(1, direct=True)
    held = snapshot([account(u, memberships={"t0009": MEMBER})], [team(g)])
    none = timedelta(0)
    removal = only(decide(directory([u]), held, Policy(grace=none)))
    assert [t.name for t in removal.remove] == ["Group 9"]
    assert removal.reason == "Group 9 is no longer bound to the application"
    keep = Policy(teams=TeamPolicy(out_of_scope=TeamOutOfScope.KEEP), grace=none)
    assert kinds(decide(directory([u]), held, keep)) == []
    delete = Policy(teams=TeamPolicy(out_of_scope=TeamOutOfScope.DELETE), grace=none)
    assert kinds(decide(directory([u]), held, delete)) == [Kind.UPDATE_USER]  # first it is emptied
    locked = account(user(2), active=False, locked_by_us=True, memberships={"t0009": MEMBER})
    emptied = snapshot([account(u), locked], [team(g)])
    assert kinds(decide(directory([u]), emptied, delete)) == [Kind.DELETE_TEAM]


def test_the_team_of_a_group_that_left_keeps_its_members_until_grace_ends() -> None:
    g, here, elsewhere = group(9, "Sales"), user(1, direct=True), user(2, 8)
    held = snapshot(
        [account(here, memberships={"t0009": MEMBER}), account(elsewhere, memberships={"t0008": MEMBER})],
        [team(g), team(group(8))],
    )
    wanted = directory([here, elsewhere], [group(8)])
    first = decide(wanted, held)
    assert kinds(first) == []
    (notice,) = first.plan.notices
    assert (notice.kind, notice.subject.type, notice.subject.name) == (NoticeKind.IN_GRACE, "team", "Sales")
    assert "Sales is no longer bound to the application since 2026-11-24 12:00 UTC" in notice.message
    assert "after 2026-11-24 12:30 UTC 1 person is taken out of the team" in notice.message
    assert first.snapshot.teams["t0009"].left_at == NOW and first.snapshot.teams["t0008"].left_at is None
    assert [(one.at, one.operation.remove[0].name) for one in first.upcoming] == [
        (NOW + timedelta(minutes=30), "Sales")
    ]
    # Nothing was recorded by a dry run: grace has not begun for the next one.
    assert kinds(decide(wanted, held, now=NOW + timedelta(minutes=29))) == []
    assert kinds(decide(wanted, held, now=NOW + timedelta(days=1))) == []
    assert kinds(decide(wanted, first.snapshot, now=NOW + timedelta(minutes=29))) == []
    later = decide(wanted, first.snapshot, now=NOW + timedelta(minutes=30))
    assert [t.name for t in only(later).remove] == ["Sales"] and later.upcoming == ()
    back = decide(directory([replace(here, groups=frozenset({jc(9)})), elsewhere], [group(8), g]), first.snapshot)
    assert kinds(back) == [] and back.snapshot.teams["t0009"].left_at is None


def test_nobody_is_said_to_be_taken_out_of_a_team_where_nothing_is_sent() -> None:
    here = user(1, direct=True)
    held = snapshot([account(here, memberships={"t0009": MEMBER})], [team(group(9, "Sales"))])
    (notice,) = decide(directory([here]), held, Policy(mode=Mode.OBSERVE)).plan.notices
    assert notice.kind is NoticeKind.IN_GRACE and "1 person would be taken out of the team" in notice.message
    assert "nothing is sent (policy.mode)" in notice.message


def test_members_who_left_a_group_that_stays_in_scope_lose_its_team_at_once() -> None:
    g, u = group(9), user(1, direct=True)
    held = snapshot([account(u, memberships={"t0009": MEMBER})], [team(g)])
    assert [t.name for t in only(decide(directory([u], [g]), held)).remove] == ["Group 9"]


def test_a_group_left_out_by_the_settings_is_let_go() -> None:
    g, u = group(9), user(1, 9)
    held = snapshot([account(u, memberships={"t0009": MEMBER})], [team(g)])
    decision = decide(directory([u], [g]), held, Policy(teams=TeamPolicy(exclude=("Group *",))))
    assert kinds(decision) == [] and notices(decision) == [NoticeKind.LET_GO]


def test_a_group_made_again_under_the_same_name_takes_its_team_over() -> None:
    u = user(1, 5)
    held = snapshot([account(u, memberships={"t0009": MEMBER})], [team(group(9))])
    operation = only(decide(directory([u], [group(5, "Group 9")], gone=[group(9)]), held))
    assert operation.kind is Kind.RENAME_TEAM and operation.changes[0].after == jc(5)


def test_a_plan_for_one_person_gives_and_takes_nothing_of_a_team_that_gets_another_group() -> None:
    u, other, again = user(1, 5), user(2), group(5, "Group 9")
    held = snapshot([account(u), account(other, memberships={"t0009": MEMBER})], [team(group(9))])
    wanted = directory([u, replace(other, direct=True)], [again], gone=[group(9)])
    assert sorted(kinds(decide(wanted, held))) == [Kind.RENAME_TEAM, Kind.UPDATE_USER, Kind.UPDATE_USER]
    for one in (u, other):
        assert kinds(decide(wanted, held, focus=frozenset({one.id}))) == []


def test_a_team_is_adopted_by_name_in_the_first_plan_only() -> None:
    made = team(group(9), standing=Standing.UNMANAGED, jumpcloud_id="", shown={"displayName": "Group 9"}, asked={})
    first = decide(directory([], [group(9)]), snapshot([], [made], reviewed=False))
    assert only(first).kind is Kind.RENAME_TEAM and only(first).rule == "adopted"
    later = decide(directory([], [group(9)]), snapshot([], [made]))
    assert kinds(later) == [] and notices(later) == [NoticeKind.CONFLICT]


def test_a_name_too_long_for_keeper_is_a_conflict() -> None:
    decision = decide(directory([], [group(9, "x" * 1000)]), snapshot([]))
    assert kinds(decision) == [] and notices(decision) == [NoticeKind.CONFLICT]


def test_an_unsettled_queueing_waits_and_nobody_is_added() -> None:
    decision = decide(directory([user(1, 9)], [group(9)]), snapshot([], unsettled_teams={jc(9): NOW}))
    queue, created = decision.plan.operations
    assert queue.rule == "unsettled" and created.add == ()


def test_a_pilot_narrows_what_is_sent_and_nobody_is_out_of_scope_for_it() -> None:
    policy = Policy(only=Pilot(groups=frozenset({"IT"})), grace=timedelta(0))
    wanted = directory([user(1, 9), user(2, 8)], [group(9, "IT"), group(8)])
    decision = decide(wanted, snapshot([]), policy)
    sent = {op.subject.name: op.sent for op in decision.plan.operations}
    assert sent == {"IT": True, "Group 8": False, "u1@example.com": True, "u2@example.com": False}
    managed = decide(wanted, snapshot([account(user(1)), account(user(2))], [team(group(9, "IT"))]), policy)
    after = decide(directory([]), managed.snapshot, policy)
    assert {op.subject.name: op.sent for op in after.plan.operations} == {
        "u1@example.com": True,
        "u2@example.com": False,
    }


def test_observe_sends_nothing() -> None:
    decision = decide(directory([user(1, direct=True)]), snapshot([]), Policy(mode=Mode.OBSERVE))
    assert not only(decision).sent


def test_a_failing_subject_rests_for_a_while_but_not_when_a_person_asks() -> None:
    u = user(1, direct=True)
    held = snapshot([], failures={u.id: Failure(2, NOW - timedelta(minutes=9), "refused")})
    assert not only(decide(directory([u]), held)).sent
    assert only(decide(directory([u]), held, now=NOW + timedelta(minutes=1))).sent
    assert only(decide(directory([u]), held, focus=frozenset({u.id}), pausing=False)).sent


def test_who_fails_is_told_with_the_command_that_tries_at_once_and_a_team_has_none() -> None:
    failure = Failure(2, NOW - timedelta(minutes=9), "refused")
    held = snapshot([], failures=dict.fromkeys((jc(1), jc(9)), failure))
    plan = decide(directory([user(1, direct=True)], [group(9)]), held).plan
    said = {notice.subject.type: notice.message for notice in plan.notices}
    rests = "failed 2 times in a row, last: refused. Tried again after 2026-11-24 12:01 UTC"
    assert said == {"user": f"{rests}; at once: reconciler resync u1@example.com", "team": rests}


def test_a_leavers_lock_waits_for_no_pause_after_failures() -> None:
    held = snapshot([account(user(1))], failures={user(1).id: Failure(8, NOW - timedelta(minutes=1), "refused")})
    plan = decide(directory([user(1, direct=True, status=Status.SUSPENDED)]), held).plan
    assert [(op.kind, op.sent) for op in plan.operations] == [(Kind.DEACTIVATE_USER, True)]
    assert [notice.kind for notice in plan.notices] == [NoticeKind.FAILING]


def test_an_unlock_waits_for_no_pause_after_failures() -> None:
    """Nobody in scope stays locked for an hour after the cause is gone."""
    locked = account(user(1), active=False, locked_by_us=True)
    held = snapshot([locked], failures={user(1).id: Failure(8, NOW - timedelta(minutes=1), "refused")})
    plan = decide(directory([user(1, direct=True)]), held).plan
    assert [(op.kind, op.sent) for op in plan.operations] == [(Kind.REACTIVATE_USER, True)]
    assert [notice.kind for notice in plan.notices] == [NoticeKind.FAILING]


def test_the_order_of_the_input_does_not_matter() -> None:
    users, groups = [user(n, 8 + n % 2) for n in range(1, 7)], [group(8), group(9)]
    plans = {decide(directory(list(order), groups), Snapshot(reviewed=True)).plan for order in (users, users[::-1])}
    assert len(plans) == 1


def test_members_of_a_team_deleted_in_keeper_are_drift_and_those_who_join_meanwhile_are_not() -> None:
    member, newcomer, g = user(1, 9), user(2, 9), group(9)
    lost = account(member, memberships={"t0009": replace(MEMBER, shown=False)})
    held = snapshot([lost, account(newcomer)], [team(g, gone=True)])
    causes = {op.subject.name: op.cause for op in decide(directory([member, newcomer], [g]), held).plan.operations}
    assert causes == {"Group 9": Cause.DRIFT, member.email: Cause.DRIFT, newcomer.email: Cause.JUMPCLOUD}


def test_an_address_changed_in_keeper_is_drift_and_one_changed_in_jumpcloud_is_none() -> None:
    u = user(1, direct=True)
    held = account(u)
    moved = replace(held, shown={**held.shown, "userName": "by.hand@example.com"})
    assert notices(decide(directory([u]), snapshot([moved]))) == [NoticeKind.DRIFT]
    assert notices(decide(directory([replace(u, email="new@example.com")]), snapshot([held]))) == [
        NoticeKind.ADDRESS_CHANGE
    ]


def test_a_tie_to_the_group_that_was_cut_in_keeper_is_drift() -> None:
    g = group(9)
    cut = replace(team(g), shown={"displayName": g.name})
    operation = only(decide(directory([], [g]), snapshot([], [cut])))
    assert (operation.cause, operation.rule) == (Cause.DRIFT, "restored")


def test_drift_beside_a_change_in_jumpcloud_is_told_apart() -> None:
    u, g = user(1, 9), group(9)
    held = account(u, memberships={"t0009": replace(MEMBER, shown=False)})
    decision = decide(directory([replace(u, display_name="Other")], [g]), snapshot([held], [team(g)]))
    assert only(decision).cause is Cause.JUMPCLOUD and notices(decision) == [NoticeKind.DRIFT]
    assert decision.plan.drifted


def test_while_the_time_is_uncertain_no_grace_ends_and_who_has_none_waits_for_none() -> None:
    """Neither a person's nor a team's; whoever is suspended is locked all the same."""
    long_ago, sales = NOW - timedelta(days=9), group(1, "Sales")
    gone, left, stays = user(1, status=Status.SUSPENDED), user(2), user(3, 9)
    team_left = team(sales, left_at=long_ago)
    member = {team_left.keeper_id: MEMBER}
    held = snapshot(
        [account(gone, left_at=long_ago), account(left, left_at=long_ago), account(stays, memberships=member)],
        [team_left],
    )
    wanted = directory([gone, left, stays], [group(9)])

    def locked(certain: bool, grace: timedelta) -> tuple[list[str], int]:
        plan = decide(wanted, held, Policy(grace=grace), certain=certain).plan
        return (
            [op.subject.name for op in plan.operations if op.kind is Kind.DEACTIVATE_USER],
            sum(len(op.remove) for op in plan.operations),
        )

    half = timedelta(minutes=30)
    assert locked(certain=False, grace=half) == ([gone.email], 0)
    assert locked(certain=True, grace=half) == ([gone.email, left.email], 1)
    assert locked(certain=False, grace=timedelta()) == ([gone.email, left.email], 1)
