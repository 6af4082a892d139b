"""Taking away is confirmed, person by person: nobody loses anything because they are missing from a list."""

import asyncio
from collections.abc import Collection
from dataclasses import replace

import pytest

from reconciler.confirm import MOST_IN_DRY_RUN, Confirmation, Finding, preview, unconfirmed_links, unconfirmed_locks
from reconciler.evidence_age import Stamp, answered
from reconciler.http import Call, HttpError
from reconciler.jumpcloud import Paths, UnexpectedReply
from reconciler.jumpcloud_replies import Unavailable
from reconciler.model import EXTERNAL_ID, USER_NAME, Status, User
from reconciler.pace import Clock
from reconciler.plan import Change, Kind, NoticeKind, Operation, Plan, Rule, Scope, Subject, TeamRef
from reconciler.safety import Judged
from tests.fakes import NOBODY, JumpCloud
from tests.operations import op, ref, team_op
from tests.world import NOW, SOURCE, group, jc, team, user

ADA, ENG, SALES = user(1, 9), group(9), group(8)


def confirmed(jumpcloud: JumpCloud, *operations: Operation, unlisted: frozenset[str] = frozenset()) -> Plan:
    plan = Plan("cycle", NOW, SOURCE, Scope(1, 1, 1), operations)
    teams = {held.keeper_id: held for held in (team(ENG), team(SALES))}
    listed = jumpcloud.groups.keys() - unlisted
    return asyncio.run(preview(Judged(plan), Confirmation(jumpcloud, listed, teams))).plan


def finding(jumpcloud: JumpCloud, operation: Operation, **more: object) -> Finding:
    """The evidence for one operation, as the worker that sends it gets it."""
    teams = {held.keeper_id: held for held in (team(ENG), team(SALES))}
    made = Confirmation(jumpcloud, jumpcloud.groups.keys(), teams, **more)  # type: ignore[arg-type]
    return asyncio.run(made.of(operation))


def lock(rule: Rule, of: User = ADA) -> Operation:
    return op(Kind.DEACTIVATE_USER, of, rule=rule)


def sent(plan: Plan) -> list[Operation]:
    return [one for one in plan.operations if one.sent]


@pytest.mark.parametrize(
    ("rule", "own_record", "goes"),
    [
        (Rule.SUSPENDED, replace(ADA, status=Status.SUSPENDED), True),
        (Rule.SUSPENDED, ADA, False),
        (Rule.SUSPENDED, None, False),
        (Rule.SUSPENDED, replace(ADA, status=Status.STAGED), False),
        (Rule.DELETED, None, True),
        (Rule.DELETED, user(1), False),
        (Rule.DELETED, replace(ADA, status=Status.SUSPENDED), True),
        (Rule.LEFT, user(1), True),
        (Rule.LEFT, ADA, False),
        (Rule.LEFT, user(1, direct=True), False),
        (Rule.LEFT, replace(ADA, status=Status.SUSPENDED), True),
        (Rule.LEFT, None, False),
    ],
)
def test_a_lock_goes_when_the_own_record_says_so_and_is_put_off_else(
    rule: Rule, own_record: object, goes: bool
) -> None:
    plan = confirmed(JumpCloud([own_record] if own_record else []), lock(rule))  # type: ignore[list-item]
    assert bool(sent(plan)) is goes
    assert [notice.kind for notice in plan.notices] == ([] if goes else [NoticeKind.UNCONFIRMED])


def test_whoever_was_listed_and_has_no_record_is_locked_where_their_applications_show_that_they_left() -> None:
    class Hidden(JumpCloud):
        async def user(self, _: str, /) -> User | None:
            return None

    assert sent(confirmed(Hidden([user(1)]), lock(Rule.LEFT)))
    assert not sent(confirmed(Hidden([ADA]), lock(Rule.LEFT)))


class Unseen(JumpCloud):
    """An organisation of which the administrator's role sees no record and no list of anybody's applications."""

    async def user(self, _: str, /) -> User | None:
        return None

    async def application_paths(self, _: str, /) -> Paths:
        return NOBODY


def test_nobody_is_locked_as_deleted_while_the_application_lists_them() -> None:
    """The list is read once for all of them, and a failure of it puts all of them off."""
    left, people = user(5), [user(number, 9) for number in range(1, 5)]
    service = Unseen([*people, left])
    locks = [lock(Rule.DELETED, one) for one in (left, *people)]
    plan = confirmed(service, *locks)
    assert [one.subject.jumpcloud_id for one in sent(plan)] == [left.id]
    assert {one.subject.jumpcloud_id for one in plan.notices} == {one.id for one in people}
    assert service.asked.count("scope") == 1
    service.fails.add("scope")
    assert not sent(confirmed(service, *locks)) and service.asked.count("scope") == 2


def test_a_lock_is_taken_for_ours_whichever_way_somebody_left() -> None:
    for left in ([], [user(1)], [replace(ADA, status=Status.SUSPENDED)]):
        assert not asyncio.run(unconfirmed_locks([lock(Rule.LEFT).subject], {}, JumpCloud(left)))
    assert asyncio.run(unconfirmed_locks([lock(Rule.LEFT).subject], {}, JumpCloud([ADA])))


def test_a_ghost_is_locked_when_nobody_in_scope_has_the_address() -> None:
    ghost = op(Kind.DEACTIVATE_USER, ADA, subject=replace(lock(Rule.LEFT).subject, jumpcloud_id=""))
    assert not sent(confirmed(JumpCloud([ADA], [ENG]), ghost))
    assert sent(confirmed(JumpCloud(), ghost)) == sent(confirmed(JumpCloud([user(1)]), ghost)) == [ghost]


def test_no_ghost_is_locked_while_somebody_in_scope_without_a_record_may_have_the_address() -> None:
    ghost = op(Kind.DEACTIVATE_USER, ADA, subject=replace(lock(Rule.LEFT).subject, jumpcloud_id=""))
    hidden = replace(user(2, 9), email="", status=Status.UNKNOWN)
    assert finding(JumpCloud([hidden], [ENG]), ghost).doubt is not None
    assert finding(JumpCloud([hidden], [ENG]), ghost, owners={hidden.id}).doubt is None


def test_no_ghost_is_locked_while_somebody_in_scope_has_no_address_but_for_a_leaver_who_has_its() -> None:
    ghost = op(Kind.DEACTIVATE_USER, ADA, subject=replace(lock(Rule.LEFT).subject, jumpcloud_id=""))
    nameless, unbound = replace(user(2, 9), email=""), user(1)
    left = replace(ADA, status=Status.SUSPENDED)
    for people in ([nameless], [nameless, unbound]):
        assert finding(JumpCloud(people, [ENG]), ghost).doubt is not None
    assert finding(JumpCloud([nameless], [ENG]), ghost, owners={nameless.id}).doubt is None
    assert finding(JumpCloud([nameless, left], [ENG]), ghost).doubt is None
    assert finding(JumpCloud([nameless, left], [ENG]), ghost, owners={left.id}).doubt is not None


def test_a_ghost_whose_address_several_people_have_is_locked_once_all_of_them_have_left() -> None:
    ghost = op(Kind.DEACTIVATE_USER, ADA, subject=replace(lock(Rule.LEFT).subject, jumpcloud_id=""))
    left, other = user(1), replace(user(2, 9), email=ADA.email)
    suspended = replace(other, status=Status.SUSPENDED)
    assert not sent(confirmed(JumpCloud([left, other], [ENG]), ghost))
    assert sent(confirmed(JumpCloud([left, suspended], [ENG]), ghost)) == [ghost]
    unread = JumpCloud([left, suspended], [ENG])
    unread.fails.add(other.id)
    assert not sent(confirmed(unread, ghost))


def test_the_list_that_proves_that_accounts_are_nobodys_is_read_once_for_all_of_them() -> None:
    """It may take longer than evidence lasts, so that the age of the evidence is that of the search."""
    ghosts = [
        op(Kind.DEACTIVATE_USER, one, subject=Subject("user", one.email, "", f"k-{one.id}"))
        for one in map(user, range(1, 6))
    ]
    now = [0.0]

    class Long(JumpCloud):
        async def in_use(self, emails: Collection[str], owners: Collection[str] = ()) -> frozenset[str]:
            now[0] += 600
            return await super().in_use(emails, owners)

    clock = Clock(boottime=lambda: now[0], wall=lambda: now[0])
    service = Long()
    service.listed = frozenset({ghosts[1].subject.name})
    confirmation = Confirmation(service, (), {}, ghosts=[one.subject.name for one in ghosts], clock=clock)

    async def go() -> list[Finding]:
        return [await confirmation.of(one) for one in ghosts]

    found = asyncio.run(go())
    assert service.asked.count("list for 5") == 1
    assert [one.doubt is None for one in found] == [True, False, True, True, True]
    assert all(one.stamp is not None and one.stamp.age(clock) == 0 for one in found)


def test_a_removal_goes_when_the_person_is_no_member_of_the_group() -> None:
    removal = op(Kind.UPDATE_USER, ADA, remove=(ref(ENG),))
    assert sent(confirmed(JumpCloud([user(1, direct=True)], [ENG]), removal)) == [removal]
    assert not sent(confirmed(JumpCloud([ADA], [ENG]), removal))


def test_a_removal_from_a_group_that_left_the_scope_goes_when_no_path_leads_through_it() -> None:
    out = JumpCloud([user(1, direct=True)])
    out.member_of[ADA.id] = frozenset({ENG.id})
    removal = op(Kind.UPDATE_USER, ADA, remove=(ref(ENG),))
    assert sent(confirmed(out, removal)) == [removal]
    still_bound = JumpCloud([replace(ADA, direct=True)])
    assert not sent(confirmed(still_bound, removal))


def test_a_member_of_a_group_in_scope_stays_also_when_the_list_of_paths_is_cut() -> None:
    cut = JumpCloud([user(1, direct=True)], [ENG])
    cut.member_of[ADA.id] = frozenset({ENG.id})
    assert not sent(confirmed(cut, op(Kind.UPDATE_USER, ADA, remove=(ref(ENG),))))


def test_only_what_is_in_doubt_is_put_off_and_the_rest_goes() -> None:
    both = op(Kind.UPDATE_USER, ADA, add=(ref(group(7)),), remove=(ref(ENG), ref(SALES)))
    service = JumpCloud([ADA], [ENG, SALES])
    service.member_of[ADA.id] |= {jc(7)}
    plan = confirmed(service, both)
    (goes,) = sent(plan)
    assert (goes.add, goes.remove) == (both.add, (ref(SALES),))
    assert [one.remove for one in plan.operations if not one.sent] == [(ref(ENG),)]
    assert "Group 9" in plan.notices[0].message and "Group 8" not in plan.notices[0].message


def test_a_read_that_fails_puts_that_person_off_and_nobody_else() -> None:
    other = user(2)
    service = JumpCloud([other])
    service.fails.add(ADA.id)
    leaves = op(Kind.DEACTIVATE_USER, other, rule=Rule.LEFT)
    plan = confirmed(service, lock(Rule.DELETED), leaves)
    assert sent(plan) == [leaves]
    assert [notice.subject.name for notice in plan.notices] == [ADA.email] and "no answer" in plan.notices[0].message


def test_a_read_that_fails_puts_team_changes_off_and_the_new_name_goes() -> None:
    service = JumpCloud([ADA])
    service.fails.add(ADA.id)
    names = (Change("displayName", "A", "Ada"),)
    (goes,) = sent(confirmed(service, op(Kind.UPDATE_USER, ADA, changes=names, add=(ref(SALES),), remove=(ref(ENG),))))
    assert (goes.changes, goes.add, goes.remove) == (names, (), ())


_NEW_ADDRESS = Change(USER_NAME, "old@example.com", ADA.email)
_TYING = [
    op(Kind.CREATE_USER, ADA, changes=(Change(USER_NAME, "", ADA.email), Change(EXTERNAL_ID, "", ADA.id))),
    op(Kind.UPDATE_USER, ADA, changes=(_NEW_ADDRESS,)),
    op(Kind.REACTIVATE_USER, ADA, changes=(Change("active", "false", "true"), _NEW_ADDRESS)),
]


@pytest.mark.parametrize("many", [False, True], ids=["few", "many"])
@pytest.mark.parametrize("ties", _TYING, ids=["created", "new address", "unlocked"])
def test_nobody_gets_an_address_that_the_own_record_does_not_have(ties: Operation, many: bool) -> None:
    given = [ADA.id, *(jc(number) for number in range(50, 70))] if many else [ADA.id]
    for email, goes in ((ADA.email.upper(), True), ("recycled@example.com", False), ("", False)):
        found = finding(JumpCloud([replace(ADA, email=email)], [ENG]), ties, given=given)
        assert (found.doubt is None) is goes
        assert found.doubt is None or (found.doubt.whole and "another address" in found.doubt.words)


@pytest.mark.parametrize("many", [False, True], ids=["few", "many"])
def test_nobody_is_tied_to_an_account_by_an_address_that_the_own_record_does_not_have(many: bool) -> None:
    people = [user(number) for number in range(1, 13 if many else 4)]
    links = [Subject("user", one.email, one.id, f"k-{one.id}") for one in people]
    service = JumpCloud([people[0], replace(people[1], email="recycled@example.com"), *people[3:]])
    doubts = asyncio.run(unconfirmed_links(links, service))
    assert doubts.keys() == {people[1].id, people[2].id} and "another address" in doubts[people[1].id]
    assert service.asked.count("search for 12") == many
    service.fails |= {"search", people[0].id}
    assert "no answer" in asyncio.run(unconfirmed_links(links, service))[people[0].id]


def test_nothing_is_sent_for_somebody_whose_tie_is_in_doubt() -> None:
    names = op(Kind.UPDATE_USER, ADA, changes=(Change("displayName", "A", "Ada"),))
    doubt = finding(JumpCloud([ADA]), names, unlinked={ADA.id: "in doubt"}).doubt
    assert doubt is not None and doubt.whole and doubt.words == "in doubt"


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.STAGED, Status.UNKNOWN])
def test_whoever_is_not_active_by_the_own_record_gets_no_team(status: Status) -> None:
    """Suspended people stay in their groups, and a list that is behind shows them in scope."""
    service = JumpCloud([replace(ADA, status=status)])
    service.member_of[ADA.id] = frozenset({SALES.id})
    names = (Change("displayName", "A", "Ada"),)
    plan = confirmed(service, op(Kind.UPDATE_USER, ADA, changes=names, add=(ref(SALES),), remove=(ref(ENG),)))
    (goes,) = sent(plan)
    assert (goes.changes, goes.add, goes.remove) == (names, (), (ref(ENG),))
    assert "does not say active" in plan.notices[0].message


def test_groups_that_may_not_be_all_prove_a_membership_and_no_absence() -> None:
    service = JumpCloud([ADA])
    service.fails.add("proof")
    service.member_of[ADA.id] = frozenset({SALES.id})
    assert not sent(confirmed(service, op(Kind.UPDATE_USER, ADA, remove=(ref(ENG),))))
    assert finding(service, op(Kind.UPDATE_USER, ADA, add=(ref(SALES),))).doubt is None


def test_a_membership_is_given_where_the_path_that_another_one_is_lost_by_cannot_be_read() -> None:
    class Pathless(JumpCloud):
        async def application_paths(self, _: str, /) -> Paths:
            raise UnexpectedReply("no answer")

    service = Pathless([ADA])
    service.member_of[ADA.id] = frozenset({SALES.id})
    doubt = finding(service, op(Kind.UPDATE_USER, ADA, add=(ref(SALES),), remove=(ref(ENG),))).doubt
    assert doubt is not None and not doubt.whole
    assert (doubt.add, doubt.remove) == ((), (ref(ENG),)) and "no answer" in doubt.words


def test_where_searches_fail_each_addition_is_confirmed_by_the_own_record() -> None:
    people = [user(n) for n in range(100, 112)]
    service = JumpCloud(people)
    service.fails.add("search")
    for person in people:
        service.member_of[person.id] = frozenset({SALES.id})
    confirmation = Confirmation(service, (), {}, given=[person.id for person in people])

    async def go() -> list[Finding]:
        return [await confirmation.of(op(Kind.UPDATE_USER, person, add=(ref(SALES),))) for person in people]

    assert [one.doubt for one in asyncio.run(go())] == [None] * 12
    assert service.asked.count("search for 12") == 1


class _Slow(JumpCloud):
    """Records that are answered after so many seconds, groups at once."""

    def __init__(self, people: list[User], clock: Clock, seconds: float) -> None:
        super().__init__(people, [SALES])
        self.clock, self.seconds = clock, seconds

    async def user(self, user_id: str, /) -> User | None:
        await self.clock.sleep(self.seconds)
        answered(Stamp.now(self.clock))
        return await super().user(user_id)

    async def groups_of(self, user_id: str, /, *, absent: Collection[str] = ()) -> frozenset[str]:
        answered(Stamp.now(self.clock))
        return await super().groups_of(user_id, absent=absent)


@pytest.mark.parametrize("kind", [Kind.UPDATE_USER, Kind.REACTIVATE_USER])
def test_a_slow_record_does_not_make_the_evidence_old(kind: Kind) -> None:
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    clock = Clock(sleep=sleep, boottime=lambda: now[0], wall=lambda: now[0])
    slow = _Slow([replace(ADA, direct=True, groups=frozenset({SALES.id}))], clock, 60.0)
    opens = (Change("active", "false", "true"),) if kind is Kind.REACTIVATE_USER else ()
    change = op(kind, ADA, changes=opens, add=(ref(SALES),))
    found = asyncio.run(Confirmation(slow, {SALES.id}, {}, clock=clock).of(change))
    assert found.stamp is not None and found.stamp.age(clock) < 1
    assert (found.doubt is None) is (kind is Kind.UPDATE_USER)
    assert found.doubt is None or (not found.doubt.whole and found.doubt.add == change.add)


def test_no_more_people_are_read_at_once_than_jumpcloud_is_asked_requests() -> None:
    """Where each read is slow, the first would be old before the last of so many is done."""
    people, reading = [user(n, direct=True) for n in range(8)], [0, 0]

    class Counting(JumpCloud):
        async def user(self, user_id: str, /) -> User | None:
            reading[0] += 1
            reading[1] = max(reading)
            await asyncio.sleep(0)
            reading[0] -= 1
            return await super().user(user_id)

    confirmation = Confirmation(Counting(people), (), {}, at_once=3)

    async def all_of() -> list[Finding]:
        return await asyncio.gather(*(confirmation.of(op(Kind.CREATE_USER, one)) for one in people))

    assert [one.doubt for one in asyncio.run(all_of())] == [None] * 8
    assert reading == [0, 3]


@pytest.mark.parametrize(
    ("seconds", "status", "doubted", "cut"),
    [
        (60.0, None, True, True),
        (60.0, None, False, False),  # nobody knows yet that this one hangs too
        (1.0, None, True, False),
        (60.0, 503, True, False),  # what asks to wait is not lost
    ],
)
def test_reads_that_hang_leave_little_time_to_whoever_was_in_doubt_before(
    monkeypatch: pytest.MonkeyPatch, seconds: float, status: int | None, doubted: bool, cut: bool
) -> None:
    monkeypatch.setattr("reconciler.confirm.GLANCE", 0.01)
    now, people = [0.0], [user(n) for n in range(1, 5)]
    clock = Clock(boottime=lambda: now[0], wall=lambda: now[0])

    class Hanging(JumpCloud):
        async def user(self, user_id: str, /) -> User | None:
            if user_id == people[3].id:
                await asyncio.sleep(0.02)
                answered(Stamp.now(clock))
                return None
            now[0] += seconds
            raise Unavailable(HttpError(Call("JumpCloud", "GET", "/"), "no answer", "", status=status))

    locks = [lock(Rule.DELETED, one) for one in people]
    confirmation = Confirmation(Hanging(), (), {}, clock=clock)
    confirmation.doubted = frozenset(one.subject.key for one in locks[3:] if doubted)

    async def all_of() -> list[Finding]:
        return [await confirmation.of(one) for one in (*locks, locks[3])]

    found = asyncio.run(all_of())
    assert [one.cut for one in found] == [False, False, False, cut, False]
    assert found[4].doubt is None  # this time it had all the time that it needs
    assert (found[3].doubt is None) is not cut


def test_an_unlocking_does_not_wait_for_the_persons_groups() -> None:
    service = JumpCloud([ADA])
    service.fails.add("groups")
    opens = (Change("active", "false", "true"),)
    plan = confirmed(service, op(Kind.REACTIVATE_USER, ADA, changes=opens, add=(ref(SALES),), remove=(ref(ENG),)))
    (goes,) = sent(plan)
    assert (goes.kind, goes.changes, goes.add, goes.remove) == (Kind.REACTIVATE_USER, opens, (), ())
    assert "no answer" in plan.notices[0].message


def test_a_team_is_deleted_when_its_group_is_still_out_of_scope() -> None:
    deletion = team_op(Kind.DELETE_TEAM, ENG)
    assert sent(confirmed(JumpCloud(), deletion)) == [deletion]
    assert not sent(confirmed(JumpCloud([], [ENG]), deletion))


def test_a_team_is_no_namesakes_while_its_own_group_is_missing_from_the_list_only() -> None:
    tie = Change("externalId", ENG.id, jc(5))
    moves = team_op(Kind.RENAME_TEAM, group(5), subject=Subject("team", ENG.name, jc(5), "t0009"), changes=(tie,))
    leaves = op(Kind.UPDATE_USER, ADA, remove=(TeamRef(ENG.name, jc(5), "t0009"),))
    there = JumpCloud([ADA], [ENG, group(5)])
    assert not sent(confirmed(there, moves, leaves, unlisted=frozenset({ENG.id})))
    assert sent(confirmed(JumpCloud([user(1, direct=True)], [group(5)]), moves, leaves)) == [moves, leaves]


def test_a_tie_that_somebody_moved_to_another_group_in_scope_is_restored() -> None:
    restores = team_op(Kind.RENAME_TEAM, ENG, changes=(Change("externalId", SALES.id, ENG.id),))
    assert sent(confirmed(JumpCloud([], [ENG, SALES]), restores)) == [restores]


def test_a_dry_run_reads_nothing_for_what_only_gives_or_is_not_sent() -> None:
    service = JumpCloud([ADA])
    held = replace(lock(Rule.DELETED), sent=False)
    plan = confirmed(service, held, op(Kind.UPDATE_USER, user(2), add=(ref(ENG),)), op(Kind.CREATE_USER, user(3)))
    assert service.asked == [] and plan.notices == ()


def test_a_dry_run_says_how_many_locks_it_did_not_confirm() -> None:
    locks = [op(Kind.DEACTIVATE_USER, user(n), rule=Rule.LEFT) for n in range(10, 10 + MOST_IN_DRY_RUN + 7)]
    service = JumpCloud([user(n) for n in range(10, 10 + MOST_IN_DRY_RUN + 7)])
    plan = confirmed(service, *locks)
    assert len(sent(plan)) == len(locks)
    assert len({*service.asked}) == MOST_IN_DRY_RUN
    assert [notice.message.split(";")[1] for notice in plan.notices] == [" 7 more were not read again"]


# -- giving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own_record", "goes"),
    [
        (ADA, True),
        (user(1, direct=True), True),
        (user(1), False),
        (replace(ADA, status=Status.SUSPENDED), False),
        (replace(ADA, status=Status.STAGED), False),
        (replace(ADA, status=Status.UNKNOWN), False),
        (None, False),
    ],
)
def test_an_unlock_goes_when_the_own_record_is_active_and_bound(own_record: object, goes: bool) -> None:
    service = JumpCloud([own_record] if own_record else [], [ENG])  # type: ignore[list-item]
    found = finding(service, op(Kind.REACTIVATE_USER, ADA))
    assert (found.doubt is None) is goes
    assert found.doubt is None or found.doubt.whole


@pytest.mark.parametrize(
    ("status", "goes"), [(Status.ACTIVE, True), (Status.SUSPENDED, False), (Status.UNKNOWN, False)]
)
def test_a_creation_goes_when_the_own_record_is_active(status: Status, goes: bool) -> None:
    found = finding(JumpCloud([replace(ADA, status=status)]), op(Kind.CREATE_USER, ADA))
    assert (found.doubt is None) is goes


def test_nobody_is_created_whose_record_is_gone() -> None:
    found = finding(JumpCloud(), op(Kind.CREATE_USER, ADA))
    assert found.doubt is not None and found.doubt.whole


def test_an_addition_to_a_team_that_was_there_goes_when_the_person_is_a_member() -> None:
    addition = op(Kind.UPDATE_USER, ADA, add=(ref(ENG), ref(SALES)))
    found = finding(JumpCloud([ADA], [ENG, SALES]), addition)
    assert found.doubt is not None
    assert (found.doubt.whole, found.doubt.add, found.doubt.remove) == (False, (ref(SALES),), ())


def test_joining_a_team_that_was_queued_lately_gives_no_access_and_is_not_read() -> None:
    service = JumpCloud([ADA])
    found = finding(service, op(Kind.UPDATE_USER, ADA, add=(ref(SALES),)), queued_lately={team(SALES).keeper_id})
    assert (found.stamp, found.doubt, service.asked) == (None, None, [])
    # Another team of the same group may have been there before.
    other = finding(service, op(Kind.UPDATE_USER, ADA, add=(ref(SALES, "t9999"),)), queued_lately={"t0008"})
    assert other.doubt is not None


def test_many_creations_share_one_search_and_few_are_read_alone() -> None:
    people = [user(n) for n in range(100, 130)]
    service = JumpCloud(people)

    async def all_of(confirmation: Confirmation) -> list[Finding]:
        return [await confirmation.of(op(Kind.CREATE_USER, person)) for person in people]

    found = asyncio.run(all_of(Confirmation(service, (), {}, given=[person.id for person in people])))
    assert [one.doubt for one in found] == [None] * 30
    assert service.asked == ["search for 30"]
    few = JumpCloud(people)
    asyncio.run(Confirmation(few, (), {}, given=[people[0].id]).of(op(Kind.CREATE_USER, people[0])))
    assert few.asked == [people[0].id]


def test_creations_that_share_searches_need_one_for_each_hundred_however_many_workers_there_are() -> None:
    people = [user(n) for n in range(100, 600)]
    service = JumpCloud(people)
    confirmation = Confirmation(service, (), {}, given=[person.id for person in people])
    workers = asyncio.Semaphore(8)

    async def one(number: int) -> Finding:
        async with workers:
            # Not all workers are as fast.
            for _ in range(number % 7):
                await asyncio.sleep(0)
            return await confirmation.of(op(Kind.CREATE_USER, people[number]))

    async def go() -> list[Finding]:
        return list(await asyncio.gather(*map(one, range(len(people)))))

    assert all(finding.doubt is None for finding in asyncio.run(go()))
    assert len(service.asked) <= 7


def test_creations_are_read_alone_and_once_where_searches_are_refused_or_find_nobody() -> None:
    people = [user(n) for n in range(100, 130)]
    for searches in (False, True):
        service = JumpCloud(people)
        service.searches = searches
        strangers = [user(n) for n in range(200, 230)]
        asked = people if not searches else strangers
        confirmation = Confirmation(service, (), {}, given=[person.id for person in asked])

        async def go(made: Confirmation, asked: list[User]) -> list[Finding]:
            return list(await asyncio.gather(*(made.of(op(Kind.CREATE_USER, person)) for person in asked)))

        found = asyncio.run(go(confirmation, asked))
        assert [finding.doubt is None for finding in found] == [not searches] * 30
        assert sorted(service.asked) == sorted([*(person.id for person in asked), "search for 30"])
