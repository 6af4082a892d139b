"""The limits: what is held, what passes, and what a person's word lets through."""

from dataclasses import replace
from datetime import timedelta

from reconciler.diff import Decision
from reconciler.model import Status
from reconciler.plan import Kind
from reconciler.policy import FirstRun, Limit, Limits, Policy, TeamOutOfScope, TeamPolicy
from reconciler.safety import Allowance, Consent, Judged, Past, Release, Vanished, always_allowed, judge
from reconciler.undoing import gives_access
from tests.world import MEMBER, NOW, account, decide, directory, group, jc, snapshot, team, user

LIMITS = Limits()
TEAMS = TeamPolicy()
NOBODY = Consent()


def judged(
    decision: Decision,
    past: tuple[Past, ...] = (),
    limits: Limits = LIMITS,
    teams: TeamPolicy = TEAMS,
    consent: Consent = NOBODY,
) -> Judged:
    return judge(decision.plan, decision.snapshot, past, limits, teams, consent)


def suspended(count: int, of: int = 100) -> Decision:
    people = [user(n, direct=True, status=Status.SUSPENDED if n <= count else Status.ACTIVE) for n in range(1, of + 1)]
    return decide(directory(people), snapshot([account(p) for p in people]))


def deleted(count: int, of: int = 100) -> Decision:
    people = [user(n, direct=True) for n in range(1, of + 1)]
    return decide(directory(people[count:]), snapshot([account(p) for p in people]))


def sent(result: Judged) -> list[str]:
    return [op.subject.name for op in result.plan.operations if op.sent]


def test_within_the_limit_everything_goes() -> None:
    result = judged(deleted(3))
    assert len(sent(result)) == 3 and result.plan.held == ()


def test_over_the_limit_the_whole_plan_is_held_and_says_so() -> None:
    result = judged(deleted(4))
    assert sent(result) == []
    (held,) = result.plan.held
    assert (held.limit, held.allowed, held.planned, len(held.operations)) == ("max_deactivations", 3, 4, 4)
    assert "4 people would be locked of 100 active" in held.reason


def test_a_slow_mistake_is_caught_over_the_window() -> None:
    before = tuple(Past(op) for op in deleted(3).plan.operations)
    people = [user(n, direct=True) for n in range(1, 101)]
    held = snapshot([account(p, active=n >= 3, locked_by_us=n < 3) for n, p in enumerate(people)])
    again = decide(directory(people[4:]), held)
    assert sent(judged(again)) and not sent(judged(again, before))
    assert sent(judged(again, tuple(replace(p, counts=False) for p in before)))


def test_always_allow_is_never_more_than_a_third() -> None:
    assert always_allowed(LIMITS, 5) == 1 and always_allowed(LIMITS, 1) == 1 and always_allowed(LIMITS, 900) == 3
    assert sent(judged(deleted(1, of=5))) and not sent(judged(deleted(2, of=5)))


def test_an_empty_scope_is_held_whatever_the_limits() -> None:
    decision = decide(directory([]), snapshot([account(user(1))]))
    assert not sent(judged(decision)) and judged(decision).plan.held[0].limit == "empty_scope"


def test_suspended_people_and_our_own_unlocks_pass_a_hold() -> None:
    people = [user(n, 9) for n in range(1, 201)]
    now = [replace(people[0], status=Status.SUSPENDED), *people[1:190]]
    accounts = [account(p) for p in people]
    accounts[1] = account(people[1], active=False, locked_by_us=True)
    result = judged(decide(directory(now, [group(9)]), snapshot(accounts, [team(group(9))])))
    assert sent(result) == ["u1@example.com", "u2@example.com"]
    returned = next(op for op in result.plan.operations if op.kind is Kind.REACTIVATE_USER)
    assert returned.add == ()  # the team waits with everything else


def test_suspended_people_do_not_pass_when_they_alone_are_too_many() -> None:
    assert sent(judged(suspended(4))) == []


def test_creations_over_the_limit_wait_alone() -> None:
    people = [user(n, direct=True) for n in range(1, 101)]
    present = snapshot([account(p) for p in people[:60]])
    changed = [replace(people[0], given_name="Ada"), *people[1:]]
    result = judged(decide(directory(changed), present))
    assert sent(result) == ["u1@example.com"] and result.plan.held[0].limit == "max_creations"


def test_a_plan_that_is_held_as_a_whole_names_the_limits_on_giving_too_that_a_release_lifts() -> None:
    people = [user(n, 9) for n in range(1, 101)]
    present = [account(replace(p, groups=frozenset())) for p in people[:60]]
    gone = [account(user(n)) for n in range(200, 204)]
    made = decide(directory(people, [group(9)]), snapshot([*present, *gone], [team(group(9))]))
    result = judged(made)
    assert sent(result) == []
    held = {one.limit: [result.plan.operations[n] for n in one.operations] for one in result.plan.held}
    assert held.keys() == {"max_deactivations", "max_creations", "max_grants"}
    assert {op.kind for op in held["max_creations"]} == {Kind.CREATE_USER} and len(held["max_creations"]) == 40
    assert len(held["max_grants"]) == 60 and len(held["max_deactivations"]) == len(result.plan.operations) == 104


def test_grants_over_the_limit_are_divided_off() -> None:
    people = [user(n, 9, given_name="Ada") for n in range(1, 31)]
    present = snapshot([account(user(n)) for n in range(1, 31)], [team(group(9))])
    result = judged(decide(directory(people, [group(9)]), present))
    assert len(sent(result)) == 30 and all(not op.add for op in result.plan.operations if op.sent)
    assert result.plan.held[0].limit == "max_grants" and len(result.plan.held[0].operations) == 30
    fresh = snapshot([account(user(n)) for n in range(1, 31)])
    assert not judged(decide(directory(people, [group(9)]), fresh)).plan.held  # a team that is queued just now


def test_half_of_a_team_may_not_go_at_once() -> None:
    people = [user(n, direct=True) for n in range(1, 201)]
    members = [account(p, memberships={"t0009": MEMBER}) for p in people[:8]]
    rest = [account(p) for p in people[8:]]
    wanted = [replace(p, groups=frozenset({jc(9)})) if n in (0, 1, 2) else p for n, p in enumerate(people)]
    result = judged(decide(directory(wanted, [group(9)]), snapshot([*members, *rest], [team(group(9))])))
    assert result.plan.held[0].limit == "max_team_loss" and not sent(result)


def test_whoever_left_a_team_and_is_back_counts_once_in_its_size() -> None:
    people = [user(n, direct=True) for n in range(1, 101)]
    members = [account(p, memberships={"t0009": MEMBER}) for p in people[:10]]
    held = snapshot([*members, *(account(p) for p in people[10:])], [team(group(9))])

    def leaving(*numbers: int) -> Decision:
        inside = [replace(p, groups=frozenset({jc(9)})) if n not in numbers else p for n, p in enumerate(people[:10])]
        return decide(directory([*inside, *people[10:]], [group(9)]), held)

    limits = replace(LIMITS, max_removals=Limit(count=50))
    back = earlier(leaving(0, 1, 2, 3))
    result = judged(leaving(4, 5), back, limits=limits)
    (hold,) = result.plan.held
    assert hold.reason == "the team Group 9 would lose 6 of 10 members; allowed are 5 (50%)"
    assert len(sent(judged(leaving(3, 4), back, limits=limits))) == 2
    gone = [replace(a, memberships={}) if n < 4 else a for n, a in enumerate(members)]
    held = snapshot([*gone, *(account(p) for p in people[10:])], [team(group(9))])
    assert len(sent(judged(leaving(0, 1, 2, 3, 4), back, limits=limits))) == 1
    (hold,) = judged(leaving(0, 1, 2, 3, 4, 5), back, limits=limits).plan.held
    assert "would lose 6 of 10 members" in hold.reason


def unlocked(count: int, of: int = 100, **held: object) -> Decision:
    """So many people return whom we have locked."""
    people = [user(n, direct=True) for n in range(1, of + 1)]
    accounts = [account(p, active=n >= count, locked_by_us=n < count) for n, p in enumerate(people)]
    return decide(directory(people), snapshot(accounts, **held))  # type: ignore[arg-type]


def earlier(decision: Decision, **values: object) -> tuple[Past, ...]:
    """The operations of a plan, sent within the window."""
    changes = ((op, gives_access(op)) for op in decision.plan.operations)
    return tuple(
        Past(op, gave_access=frozenset() if gave is None else frozenset({gave}), **values)  # type: ignore[arg-type]
        for op, gave in changes
    )


def test_unlocks_over_the_limit_wait_alone() -> None:
    held = unlocked(20)
    changed = decide(
        directory([user(n, direct=True, given_name="Ada" if n == 50 else "User") for n in range(1, 101)]), held.snapshot
    )
    result = judged(changed)
    assert sent(result) == ["u50@example.com"]
    (hold,) = result.plan.held
    assert (hold.limit, hold.allowed, hold.planned, len(hold.operations)) == ("max_reactivations", 4, 20, 20)
    assert "20 people would be unlocked beside 80 active" in hold.reason
    assert len(sent(judged(unlocked(4, of=84)))) == 4
    slowly = earlier(unlocked(3))
    assert len(sent(judged(unlocked(2, of=90), slowly))) == 2  # the same people again


def test_undoing_our_own_lock_of_the_window_counts_for_nothing_and_passes_every_hold() -> None:
    locks = earlier(suspended(20), counts=False)  # released by a person, and wrong all the same
    assert len(sent(judged(unlocked(20), locks))) == 20
    assert not judged(unlocked(20), locks).plan.held
    gone = decide(
        directory([user(n, direct=True) for n in range(1, 51)]),
        unlocked(20).snapshot,
    )
    result = judged(gone, locks)
    assert len(sent(result)) == 20  # while 50 others who would be locked are held
    assert {hold.limit for hold in result.plan.held} == {"max_deactivations"}


def test_undoing_our_own_lock_that_is_of_the_window_by_one_clock_only_counts() -> None:
    locks = earlier(suspended(20), counts=False, recent=False)
    assert [hold.limit for hold in judged(unlocked(20), locks).plan.held] == ["max_reactivations"]


def test_a_new_account_for_whom_our_lock_of_the_window_withdrew_the_invitation_counts_for_nothing() -> None:
    people = [user(n, direct=True) for n in range(1, 101)]
    withdrawn = [account(p, active=False, locked_by_us=True, gone=True) for p in people[:20]]
    held = snapshot([*withdrawn, *(account(p) for p in people[20:90])])
    back = decide(directory(people[:90]), held)
    locks = earlier(suspended(20), counts=False)  # released by a person, and wrong all the same
    result = judged(back, locks)
    assert len(sent(result)) == 20 and not result.plan.held
    (hold,) = judged(back).plan.held
    assert hold.limit == "max_creations"
    # Ten who were never there before are over the limit, and wait without keeping those who come back.
    result = judged(decide(directory(people), held), locks)
    assert len(sent(result)) == 20
    (hold,) = result.plan.held
    assert (hold.limit, hold.planned, len(hold.operations)) == ("max_creations", 10, 10)


def withdrawn(count: int, **held: object) -> Decision:
    """So many of 100 return whose invitations our locks have withdrawn, to a team; 50 others have gone."""
    people = [user(n, 9) if n <= count else user(n, direct=True) for n in range(1, 51)]
    gone = [account(p, active=False, locked_by_us=True, gone=True) for p in people[:count]]
    others = [account(user(n)) for n in range(count + 1, 101)]
    return decide(directory(people, [group(9)]), snapshot([*gone, *others], [team(group(9))], **held))


def test_a_new_account_that_undoes_our_own_lock_passes_a_hold_as_an_unlocking_does() -> None:
    locks = earlier(suspended(20), counts=False)
    result = judged(withdrawn(20), locks)
    assert sent(result) == [f"u{n}@example.com" for n in sorted(range(1, 21), key=lambda n: f"u{n}@")]
    assert all(not op.add for op in result.plan.operations if op.sent)  # the team waits with everything else
    assert {hold.limit for hold in result.plan.held} == {"max_deactivations", "max_grants"}
    # Of an older lock, within the limit on creations only.
    assert sent(judged(withdrawn(4))) == ["u1@example.com", "u2@example.com", "u3@example.com", "u4@example.com"]
    assert sent(judged(withdrawn(5))) == []
    before = earlier(decide(directory([user(n, direct=True) for n in range(200, 204)]), snapshot([])))
    assert sent(judged(withdrawn(4), before)) == []
    # Who was never there waits with everything else.
    people = [user(n, direct=True) for n in range(1, 60)]
    joining = decide(directory(people), snapshot([account(user(n)) for n in range(2, 120)]))
    assert sent(judged(joining)) == []
    # So does everybody in a first plan.
    assert sent(judged(withdrawn(4, reviewed=False))) == []


def test_a_new_account_that_undoes_our_own_lock_does_not_wait_for_newcomers() -> None:
    people = [user(n, direct=True) for n in range(1, 101)]

    def joining(back: int) -> Decision:
        gone = [account(p, active=False, locked_by_us=True, gone=True) for p in people[:back]]
        return decide(directory(people), snapshot([*gone, *(account(p) for p in people[back:80])]))

    result = judged(joining(2))
    assert sent(result) == ["u1@example.com", "u2@example.com"]
    (hold,) = result.plan.held
    assert (hold.limit, len(hold.operations)) == ("max_creations", 20)
    assert sent(judged(joining(5))) == []  # nor are they without a limit


def test_unlocks_pass_a_hold_within_their_limit_only() -> None:
    gone = decide(directory([user(n, direct=True) for n in range(1, 51)]), unlocked(20).snapshot)
    result = judged(gone)
    assert sent(result) == []
    assert {hold.limit: len(hold.operations) for hold in result.plan.held} == {
        "max_deactivations": 70,
        "max_reactivations": 20,
    }
    few = decide(directory([user(n, direct=True) for n in range(1, 51)]), unlocked(3).snapshot)
    assert sent(judged(few)) == ["u1@example.com", "u2@example.com", "u3@example.com"]


def test_locking_again_the_people_we_unlocked_within_the_window_is_never_held() -> None:
    unlocks = earlier(unlocked(30), counts=False)
    assert len(sent(judged(suspended(30), unlocks))) == 30
    # Others are over the limit: the whole plan is held, but not those.
    result = judged(suspended(50), unlocks)
    assert len(sent(result)) == 30
    assert result.plan.held[0].planned == 20


def test_locking_again_somebody_who_was_unlocked_by_hand_counts_for_nothing() -> None:
    people = [user(n, direct=True, status=Status.SUSPENDED) for n in range(1, 31)]
    rest = [user(n, direct=True) for n in range(31, 101)]
    held = snapshot([account(p, locked_by_us=True) for p in people] + [account(p) for p in rest])
    again = decide(directory(people + rest), held)
    result = judged(again)
    assert len(sent(result)) == 30
    assert next(use for use in result.plan.limits if use.limit == "max_deactivations").planned == 0
    announced = judged(again, consent=Consent(allowances=(Allowance("allow:1", 8),)))
    assert not announced.decisions  # nor do they use up what was announced


def test_a_percentage_never_allows_more_than_at_most() -> None:
    limits = replace(LIMITS, at_most=5)
    assert len(sent(judged(suspended(5, of=400), limits=limits))) == 5
    (hold,) = judged(suspended(6, of=400), limits=limits).plan.held
    assert (hold.limit, hold.allowed) == ("max_deactivations", 5)
    assert hold.reason.endswith("would be locked of 400 active; allowed are 5 (2%, but at most 5)")
    counted = replace(limits, max_deactivations=Limit(count=20))
    assert len(sent(judged(suspended(20, of=400), limits=counted))) == 20
    announced = Consent(allowances=(Allowance("allow:1", 8),))
    assert len(sent(judged(suspended(13, of=400), limits=limits, consent=announced))) == 13
    generous = replace(LIMITS, at_most=1, always_allow=4)
    assert len(sent(judged(suspended(4, of=400), limits=generous))) == 4
    (hold,) = judged(suspended(5, of=400), limits=generous).plan.held
    assert hold.reason.endswith("allowed are 4 (2%, but always 4)"), "no percentage of 400 is 4"
    first = suspended(8, of=400)
    first = replace(first, snapshot=replace(first.snapshot, reviewed=False))
    assert len(sent(judged(first, limits=replace(limits, first_run=FirstRun.APPLY)))) == 8


def test_a_role_is_never_new_enough_to_escape_the_limit_on_grants() -> None:
    teams, limits = TeamPolicy(role_prefix="Role "), replace(LIMITS, max_grants=Limit(count=0))
    present = snapshot([account(user(1))])
    joined = decide(directory([user(1, 9), user(2, 9)], [group(9, "Role Admin")]), present, Policy(teams=teams))
    result = judged(joined, limits=limits, teams=teams)
    assert sent(result) == ["Role Admin", "u2@example.com"]
    assert not any(op.add for op in result.plan.operations if op.sent)
    assert [hold.limit for hold in result.plan.held] == ["max_grants"]
    # A new name of the group is no way around it either.
    role = team(group(9, "Role Admin"), queued_at=NOW)
    renamed = decide(directory([user(1, 9)], [group(9, "Admin")]), snapshot([account(user(1))], [role]))
    queued = Past(next(op for op in joined.plan.operations if op.kind is Kind.QUEUE_TEAM), at=NOW)
    result = judged(renamed, (queued,), limits=limits, teams=teams)
    assert [hold.limit for hold in result.plan.held] == ["max_grants"]


def test_a_team_that_was_queued_within_the_window_by_one_clock_only_is_not_new() -> None:
    limits = replace(LIMITS, max_grants=Limit(count=0))
    eng = group(9, "Engineering")
    joined = decide(directory([user(1, 9)], [eng]), snapshot([account(user(1))], [team(eng, queued_at=NOW)]))
    empty = decide(directory([user(1, 9)], [eng]), snapshot([account(user(1))]))
    queued = Past(next(op for op in empty.plan.operations if op.kind is Kind.QUEUE_TEAM), at=NOW)
    assert not judged(joined, (queued,), limits=limits).plan.held
    result = judged(joined, (replace(queued, recent=False),), limits=limits)
    assert [hold.limit for hold in result.plan.held] == ["max_grants"]


def test_a_team_that_shows_again_is_not_new_because_another_was_queued_for_its_group() -> None:
    limits, eng = replace(LIMITS, max_grants=Limit(count=0)), group(9, "Engineering")
    empty = decide(directory([user(1, 9)], [eng]), snapshot([account(user(1))]))
    queued = Past(next(op for op in empty.plan.operations if op.kind is Kind.QUEUE_TEAM), at=NOW)
    newer = team(eng, keeper_id="t0010", queued_at=NOW)
    for older in (team(eng), team(eng, queued_at=None)):
        joined = decide(directory([user(1, 9)], [eng]), snapshot([account(user(1))], [older, newer]))
        assert [ref.keeper_id for op in joined.plan.operations for ref in op.add] == [older.keeper_id]
        assert [hold.limit for hold in judged(joined, (queued,), limits=limits).plan.held] == ["max_grants"]
    while_gone = snapshot([account(user(1))], [team(eng, gone=True), newer])
    joined = decide(directory([user(1, 9)], [eng]), while_gone)
    assert not judged(joined, (queued,), limits=limits).plan.held


def test_who_joined_a_team_while_it_was_new_never_counts() -> None:
    limits, eng = replace(LIMITS, max_grants=Limit(count=1)), group(9, "Engineering")
    sales = team(group(8), queued_at=NOW - timedelta(days=30))
    held = snapshot([account(user(n)) for n in range(1, 4)], [sales, team(eng, queued_at=NOW - timedelta(hours=25))])
    joining = decide(directory([user(1, 9), user(2, 9)], [eng]), held)
    today = decide(directory([*(user(n) for n in (1, 2)), user(3, 8)], [group(8)]), held)
    for hours, waits in ((20, False), (0, True)):
        past = earlier(joining, at=NOW - timedelta(hours=hours))
        result = judged(today, past, limits=limits)
        assert [hold.limit for hold in result.plan.held] == (["max_grants"] if waits else [])


def test_review_teams_and_deleted_teams_always_wait() -> None:
    teams = TeamPolicy(review=("Group 9",))
    decision = decide(directory([user(1, 9)], [group(9)]), snapshot([], [team(group(9))]))
    result = judged(decision, teams=teams)
    assert sent(result) == ["u1@example.com"] and result.plan.operations[0].add == ()
    assert result.plan.held[0].limit == "teams.review"
    policy = Policy(teams=TeamPolicy(out_of_scope=TeamOutOfScope.DELETE), grace=timedelta(0))
    deletion = judged(decide(directory([user(1, direct=True)]), snapshot([], [team(group(9))]), policy))
    assert deletion.plan.held[0].limit == "delete_team"


def test_after_three_accounts_that_were_gone_only_those_once_seen_locked_are_locked() -> None:
    decision = suspended(2)
    first, second = (op.subject for op in decision.plan.operations)
    few, many = (Consent(vanished=Vanished(number, seen_locked=frozenset({first.keeper_id}))) for number in (2, 3))
    assert len(sent(judged(decision, consent=few))) == 2
    result = judged(decision, consent=many)
    assert sent(result) == [first.name]
    (held,) = result.plan.held
    assert (held.limit, [result.plan.operations[n].subject for n in held.operations]) == ("vanished", [second])
    release = Release("release:1", frozenset({("deactivate_user", second.key)}))
    assert len(sent(judged(decision, consent=replace(many, releases=(release,))))) == 2
    members = replace(many, vanished=replace(many.vanished, number=0, members=True))
    assert sent(judged(decision, consent=members)) == [], "a lock may delete whomever it is about"


def test_a_group_is_not_out_of_review_because_it_was_renamed() -> None:
    """Whoever may rename a group could else give themselves what is shared with its team."""
    teams, consent = TeamPolicy(review=("Finance*",)), Consent()
    held, renamed = team(group(9, "Finance EU")), [group(9, "finance EU")]
    people = directory([user(1, 9)], renamed)
    result = judged(decide(people, snapshot([account(user(1))], [held])), teams=teams)
    assert sent(result) == []
    assert {hold.limit for hold in result.plan.held} == {"teams.review"}
    assert {op.kind for op in result.plan.operations} == {Kind.RENAME_TEAM, Kind.UPDATE_USER}
    # A person lets it through; a new name that is under review as well needs nobody.
    consent = Consent((Release("release:1", result.plan.effects),))
    decision = decide(people, snapshot([account(user(1))], [held]))
    assert len(sent(judged(decision, teams=teams, consent=consent))) == 2
    still = decide(directory([], [group(9, "Finance all")]), snapshot([], [held]))
    assert sent(judged(still, teams=teams)) == ["Finance all"]


def test_the_first_plan_waits_for_a_person_unless_told_otherwise() -> None:
    people = [user(n, direct=True) for n in range(1, 50)]
    first = decide(directory(people), snapshot([], reviewed=False))
    assert not sent(judged(first)) and judged(first).plan.held[0].limit == "first_run"
    assert len(sent(judged(first, limits=replace(LIMITS, first_run=FirstRun.APPLY)))) == 49
    released = judged(first, consent=Consent((Release("release:1", first.plan.effects),)))
    assert len(sent(released)) == 49 and set(released.decisions.values()) == {"release:1"}


def test_a_release_lets_just_its_effects_through() -> None:
    decision = deleted(10)
    release = Release("release:1", decision.plan.effects)
    assert len(sent(judged(decision, consent=Consent((release,))))) == 10
    one_more = judged(deleted(11), consent=Consent((release,)))
    assert len(sent(one_more)) == 11  # the eleventh is judged by itself, and one is allowed
    many_more = judged(deleted(20), consent=Consent((release,)))
    assert len(sent(many_more)) == 10 and len(many_more.plan.held[0].operations) == 10


def test_an_announced_lay_off_passes_and_is_used_up() -> None:
    decision = deleted(10)
    consent = Consent(allowances=(Allowance("allow:1", 8),))
    assert len(sent(judged(decision, consent=consent))) == 10  # eight announced, two within the limit
    used_up = Consent(allowances=(Allowance("allow:1", 0),))
    assert sent(judged(decision, consent=used_up)) == []


def test_a_hold_tells_of_whom_an_announced_lay_off_covers() -> None:
    consent = Consent(allowances=(Allowance("allow:1", 5),))
    (hold,) = judged(deleted(10), consent=consent).plan.held
    assert len(hold.operations) == 10
    assert hold.reason.startswith("5 people would be locked of 100 active, beside 5 whom an announced lay-off covers; ")


def test_an_announcement_is_for_suspended_people_first() -> None:
    people = [user(n, direct=True, status=Status.SUSPENDED if n == 50 else Status.ACTIVE) for n in range(1, 101)]
    decision = decide(directory(people[20:]), snapshot([account(p) for p in people]))
    limits, consent = replace(LIMITS, max_deactivations=Limit(count=0)), Consent(allowances=(Allowance("allow:1", 1),))
    result = judged(decision, limits=limits, consent=consent)
    assert sent(result) == ["u50@example.com"]  # others' bulk is held
    assert set(result.decisions.values()) == {"allow:1"}


def test_resync_of_one_person_passes_for_a_few_people_a_window() -> None:
    person = user(1, direct=True, status=Status.SUSPENDED)
    decision = decide(directory([person]), snapshot([account(person)], reviewed=False))
    assert sent(judged(decision, consent=Consent(person="person:1"))) == ["u1@example.com"]
    crowded = Consent(person="person:1", persons_before=frozenset({jc(7), jc(8), jc(9)}))
    assert sent(judged(decision, consent=crowded)) == []
    # What may delete an account waits as for anybody, and what is within the limits is not let through by the person.
    one_of_many = suspended(1)
    may_delete = replace(crowded, vanished=Vanished(3))
    (hold,) = judged(one_of_many, consent=may_delete).plan.held
    assert hold.limit == "vanished"
    assert len(sent(judged(one_of_many, consent=replace(may_delete, persons_before=frozenset())))) == 1
    within = judged(one_of_many, consent=crowded)
    assert len(sent(within)) == 1 and not within.decisions


def test_a_hold_keeps_every_operation_in_the_plan() -> None:
    decision = deleted(10)
    assert judged(decision).plan.effects == decision.plan.effects


def test_a_plan_for_one_person_says_nothing_of_the_scope_as_a_whole() -> None:
    leaver, other = user(1), user(2, direct=True)
    held = snapshot([account(leaver), account(other)])
    decision = decide(directory([leaver]), held, Policy(grace=timedelta(0)), focus=frozenset({leaver.id}))
    assert sent(judged(decision)) == [leaver.email]
