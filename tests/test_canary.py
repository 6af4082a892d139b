"""Canaries: what is believed about Keeper is tried on one subject, and only as long as it holds."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from reconciler import keeper as scim
from reconciler.apply import Applied, apply
from reconciler.canary import LINKS_REST, LOOK_AGAIN
from reconciler.consent import vanished
from reconciler.http import Clock
from reconciler.model import USER_NAME, Inventory, KeeperUser, Listing, Snapshot
from reconciler.plan import Change, Kind, NoticeKind, Operation
from reconciler.promise import NOT_HERE, WITHDRAWN
from reconciler.rows import State
from reconciler.snapshot import observed
from reconciler.store import Store
from reconciler.store.base import CANARY_LASTS
from tests.fakes import Keeper, Sure
from tests.operations import op, ref, shown, shown_team, team_op
from tests.world import MEMBER, NOW, account, group, snapshot, team, user

PEOPLE = [user(number) for number in range(1, 9)]
ENG, OPS = group(9), group(10)
HELD = snapshot([account(one) for one in PEOPLE])
LOCKS = [op(Kind.DEACTIVATE_USER, one) for one in PEOPLE]


class Lagging(Keeper):
    """A node whose answers come before its records: a change shows after so many pauses."""

    def __init__(self, held: Snapshot, pauses: int) -> None:
        super().__init__([shown(one) for one in held.accounts.values()], [shown_team(ENG), shown_team(OPS)])
        self.behind = dict(self.users)
        self.pauses = pauses
        self.waited: list[float] = []
        self.no_reply = True

    @property
    def clock(self) -> Clock:
        async def wait(seconds: float) -> None:
            self.waited.append(seconds)

        return Clock(sleep=wait)

    async def user(self, id: str) -> KeeperUser | None:
        return self.users.get(id) if len(self.waited) >= self.pauses else self.behind.get(id)


class Changing(Keeper):
    """A node that does more than it is asked to, from some moment on."""

    def __init__(self, held: Snapshot) -> None:
        super().__init__([shown(one, ENG) for one in held.accounts.values()], [shown_team(ENG), shown_team(OPS)])
        self.after: Callable[[KeeperUser], KeeperUser | None] | None = None

    async def patch_user(self, id: str, *more: object, **named: object) -> KeeperUser | None:
        reply = await super().patch_user(id, *more, **named)  # type: ignore[arg-type]
        if self.after is None or reply is None:
            return reply
        made = self.after(reply)
        if made is None:
            del self.users[id]
            return None
        self.users[id] = made
        return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "reconciler.db", write=True) as opened:
        yield opened


def applied(
    store: Store,
    keeper: Keeper,
    *operations: Operation,
    held: Snapshot = HELD,
    agreed: bool = False,
    now: datetime = NOW,
) -> Applied:
    store.save(held, store.snapshot())
    run = store.begin_run("cycle", now, by="root", reason="")
    ids = store.write_ahead(run, operations, {}, now)

    async def go() -> Applied:
        return await apply(
            list(zip(ids, operations, strict=True)),
            held,
            keeper,
            store,
            clock=lambda: now,
            in_flight=1,
            confirmation=Sure(),
            mark=store.hands.mark(),
            agreed=frozenset(ids) if agreed else frozenset(),
            vanished=vanished(store, now).number,
        )

    done = asyncio.run(go())
    store.finish_run(run, now, "done")
    return done


def outcomes(done: Applied) -> list[str]:
    return [result.outcome for _, result in sorted(done.results.items())]


def test_a_passed_canary_counts_for_a_week(store: Store) -> None:
    store.open_kind(Kind.CREATE_USER, NOW)
    assert store.open_kinds(NOW + CANARY_LASTS - timedelta(seconds=1)) == {Kind.CREATE_USER}
    assert store.open_kinds(NOW + CANARY_LASTS) == frozenset()
    store.close_kind(Kind.CREATE_USER)
    assert store.open_kinds(NOW) == frozenset()


def test_a_file_of_a_former_version_begins_with_canaries_again(store: Store) -> None:
    store.set_meta("canaries", '["create_user","deactivate_user"]')
    assert store.open_kinds(NOW) == frozenset()
    store.open_kind(Kind.CREATE_USER, NOW)
    assert store.open_kinds(NOW) == {Kind.CREATE_USER}


@pytest.mark.parametrize("pauses", [0, 1, 2, 3])
def test_a_keeper_whose_records_are_behind_passes(store: Store, pauses: int) -> None:
    keeper = Lagging(HELD, pauses)
    done = applied(store, keeper, *LOCKS[:3])
    assert outcomes(done) == ["done"] * 3
    assert keeper.waited == list(LOOK_AGAIN[:pauses])


def test_a_lock_that_never_shows_stops_its_kind_after_two_subjects(store: Store) -> None:
    keeper = Lagging(HELD, 99)
    done = applied(store, keeper, *LOCKS[:4])
    assert outcomes(done) == ["keeper_disagrees", "keeper_disagrees", "put_off", "put_off"]
    assert [notice.kind for notice in done.notices] == [NoticeKind.KEEPER_DISAGREES]
    assert store.open_kinds(NOW) == frozenset()


def test_no_worker_is_held_while_a_read_back_is_repeated(store: Store) -> None:
    """With one worker, a canary that waits would keep the other kinds of its phase back."""

    class Slow(Lagging):
        @property
        def clock(self) -> Clock:
            async def wait(seconds: float) -> None:
                self.waited.append(seconds)
                for _ in range(50):
                    await asyncio.sleep(0)

            return Clock(sleep=wait)

    keeper = Slow(HELD, 1)
    back = replace(account(PEOPLE[0]), active=False, locked_by_us=True)
    held = replace(HELD, accounts={**HELD.accounts, back.keeper_id: back})
    keeper.behind[back.keeper_id] = shown(back)
    unlock = op(Kind.REACTIVATE_USER, PEOPLE[0])
    named = replace(unlock.changes[0], attribute="displayName", after="New")
    store.open_kind(Kind.UPDATE_USER, NOW)
    done = applied(store, keeper, unlock, op(Kind.UPDATE_USER, PEOPLE[1], changes=(named,)), held=held)
    assert [result.operation.kind for result in done.results.values()] == [Kind.UPDATE_USER, Kind.REACTIVATE_USER]


def test_an_answer_that_shows_an_unasked_effect_sends_its_kind_back_to_its_canary(store: Store) -> None:
    members = snapshot(
        [account(one, memberships={team(ENG).keeper_id: MEMBER}) for one in PEOPLE], [team(ENG), team(OPS)]
    )
    keeper = Changing(members)
    joins = [op(Kind.UPDATE_USER, one, add=(ref(OPS),)) for one in PEOPLE]
    assert outcomes(applied(store, keeper, *joins[:2], held=members)) == ["done", "done"]
    assert Kind.UPDATE_USER in store.open_kinds(NOW)
    keeper.after = lambda one: replace(one, teams=frozenset({team(OPS).keeper_id}))  # "add" replaces
    done = applied(store, keeper, *joins[2:], held=members)
    # One went before it was seen; the next was the canary, which stops the kind.
    assert outcomes(done) == ["done", "unasked_effect", "put_off", "put_off", "put_off", "put_off"]
    assert Kind.UPDATE_USER not in store.open_kinds(NOW)
    assert "out of 1 other team" in done.notices[-1].message


def test_a_canary_that_is_read_back_too_early_does_not_let_an_unasked_effect_go_on(store: Store) -> None:
    """Keeper answers with what the change has done, and shows what was before."""
    members = snapshot(
        [account(one, memberships={team(ENG).keeper_id: MEMBER}) for one in PEOPLE], [team(ENG), team(OPS)]
    )

    class Behind(Changing):
        async def user(self, id: str) -> KeeperUser | None:
            return shown(members.accounts[id], ENG)

    keeper = Behind(members)
    store.open_kind(Kind.UPDATE_USER, NOW)
    keeper.after = lambda one: replace(one, teams=frozenset({team(OPS).keeper_id}))
    joins = [op(Kind.UPDATE_USER, one, add=(ref(OPS),)) for one in PEOPLE]
    done = applied(store, keeper, *joins, held=members)
    # The first sends its kind back, and the answer to the canary stops it.
    assert outcomes(done) == ["done", "unasked_effect"] + ["put_off"] * 6
    assert "out of 1 other team" in done.stopped_kinds[Kind.UPDATE_USER]
    assert Kind.UPDATE_USER not in store.open_kinds(NOW)


def test_answers_that_show_only_what_was_added_keep_nobody_waiting(store: Store) -> None:
    """A canary that shows the new team and all others tells that the answers do not tell."""
    members = snapshot(
        [account(one, memberships={team(ENG).keeper_id: MEMBER}) for one in PEOPLE], [team(ENG), team(OPS)]
    )

    class Terse(Changing):
        async def patch_user(self, id: str, *more: object, **named: object) -> KeeperUser | None:
            reply = await super().patch_user(id, *more, **named)
            return reply and replace(reply, teams=frozenset({team(OPS).keeper_id}))

    done = applied(store, Terse(members), *(op(Kind.UPDATE_USER, one, add=(ref(OPS),)) for one in PEOPLE), held=members)
    assert outcomes(done) == ["done"] * len(PEOPLE) and not done.notices
    assert Kind.UPDATE_USER in store.open_kinds(NOW)


@pytest.mark.parametrize("what", ["unlock", "name", "removal"])
def test_a_read_back_that_shows_any_of_the_change_is_newer_than_the_answer(store: Store, what: str) -> None:
    """Answers show only what was added, and Keeper's records hide that until it is approved."""
    teams = frozenset({team(ENG).keeper_id, team(group(11)).keeper_id})
    held = [account(one, memberships=dict.fromkeys(teams, MEMBER)) for one in PEOPLE]
    if what == "unlock":
        held = [replace(one, active=False, locked_by_us=True) for one in held]
    members = snapshot(held, [team(ENG), team(OPS), team(group(11))])

    class Terse(Changing):
        async def patch_user(self, id: str, *more: object, **named: object) -> KeeperUser | None:
            reply = await super().patch_user(id, *more, **named)
            added = frozenset({team(OPS).keeper_id})
            self.users[id] = replace(self.users[id], teams=(self.users[id].teams or frozenset()) - added)
            return reply and replace(reply, teams=added)

    keeper = Terse(members)
    keeper.users = {id: replace(one, teams=teams) for id, one in keeper.users.items()}
    kind = Kind.REACTIVATE_USER if what == "unlock" else Kind.UPDATE_USER
    removed = (ref(group(11)),) if what == "removal" else ()
    due = [replace(op(kind, one, add=(ref(OPS),)), remove=removed) for one in PEOPLE]
    if what == "name":
        due = [replace(one, changes=(Change("displayName", "", "New"),)) for one in due]
    assert outcomes(applied(store, keeper, *due, held=members)) == ["done"] * len(PEOPLE)
    assert kind in store.open_kinds(NOW)


@pytest.mark.parametrize("readable", [0, 1])
def test_canaries_that_can_not_be_read_do_not_let_an_unasked_effect_go_on(store: Store, readable: int) -> None:
    """Keeper's records are down, before the canary or from then on; its answers tell what they have done."""
    members = snapshot(
        [account(one, memberships={team(ENG).keeper_id: MEMBER}) for one in PEOPLE], [team(ENG), team(OPS)]
    )
    reads = Counter[str]()

    class Down(Changing):
        async def user(self, id: str) -> KeeperUser | None:
            reads[id] += 1
            if reads[id] > readable:
                raise scim.Unavailable("one", "read")
            return shown(members.accounts[id], ENG)

    keeper = Down(members)
    keeper.after = lambda one: replace(one, teams=frozenset({team(OPS).keeper_id}))
    joins = [op(Kind.UPDATE_USER, one, add=(ref(OPS),)) for one in PEOPLE]
    done = applied(store, keeper, *joins, held=members)
    # Where it was read before, the answer to the first one tells.
    sent, words = (["unasked_effect"], "out of 1 other team") if readable else (["done"] * 4, "answer after answer")
    assert outcomes(done) == sent + ["put_off"] * (len(joins) - len(sent))
    assert words in done.notices[-1].message


def given(operation: Operation) -> tuple[Snapshot, list[Operation]]:
    """People for each of whom such an operation is due, and the operations; nobody is in a team yet."""
    locked = operation.kind is Kind.REACTIVATE_USER
    people = [account(one, active=not locked, locked_by_us=locked) for one in PEOPLE]
    held = snapshot([] if operation.kind is Kind.CREATE_USER else people, [team(ENG), team(OPS)])
    return held, [replace(op(operation.kind, one), add=operation.add) for one in PEOPLE]


JOIN, CREATION, UNLOCKING = (
    op(Kind.UPDATE_USER, PEOPLE[0], add=(ref(OPS),)),
    op(Kind.CREATE_USER, PEOPLE[0], add=(ref(OPS),)),
    op(Kind.REACTIVATE_USER, PEOPLE[0]),
)


class Giving(Changing):
    """A node that also puts people into a team that nobody asked for."""

    def __init__(self, held: Snapshot) -> None:
        super().__init__(held)
        self.users = {key: replace(one, teams=frozenset()) for key, one in self.users.items()}
        self.gives = frozenset({team(ENG).keeper_id})
        self.after = self.more

    def more(self, one: KeeperUser) -> KeeperUser:
        return replace(one, teams=(one.teams or frozenset()) | self.gives)

    async def create_user(self, *more: object, **named: object) -> KeeperUser:
        made = self.more(await super().create_user(*more, **named))  # type: ignore[arg-type]
        self.users[made.id] = made
        return made


@pytest.mark.parametrize("operation", [JOIN, CREATION, UNLOCKING], ids=lambda one: one.kind.value)
@pytest.mark.parametrize("is_open", [False, True], ids=["first ever", "open"])
def test_a_team_that_nobody_asked_for_stops_its_kind(store: Store, operation: Operation, is_open: bool) -> None:
    held, operations = given(operation)
    if is_open:
        store.open_kind(operation.kind, NOW)
    done = applied(store, Giving(held), *operations, held=held)
    # Of a kind that is open, the first answer shows it, and the next one goes alone.
    assert outcomes(done) == [*["done"] * is_open, "unasked_effect", *["put_off"] * (7 - is_open)]
    assert f"put {PEOPLE[is_open].email} into 1 team that nobody asked for" in done.stopped_kinds[operation.kind]
    assert operation.kind not in store.open_kinds(NOW)


@pytest.mark.parametrize(
    ("active", "outcome"), [(True, "unasked_effect"), (False, "keeper_disagrees")], ids=["open", "locked"]
)
def test_whom_keeper_shows_as_open_is_open_whatever_else_it_did(store: Store, active: bool, outcome: str) -> None:
    """A lock that follows is an administrator's, and must not be undone as ours."""
    held, [unlock, *_] = given(UNLOCKING)
    keeper = Giving(held)
    keeper.after = lambda one: replace(keeper.more(one), active=active)
    assert outcomes(applied(store, keeper, unlock, held=held)) == [outcome]
    keeper_id = unlock.subject.keeper_id
    locked = replace(keeper.users[keeper_id], active=False)
    now = observed(store.snapshot(), Listing({keeper_id: locked}, {}), NOW).accounts[keeper_id]
    assert now.locked_by_us is not active


@pytest.mark.parametrize("active", [False, True], ids=["locked", "open"])
def test_a_lock_that_keeper_shows_is_ours_whatever_else_it_did(store: Store, active: bool) -> None:
    """A list that is behind may deny it later: it has to be undone on the person's return all the same."""
    keeper = Changing(HELD)
    keeper.after = lambda one: replace(one, active=active, attributes={**one.attributes, USER_NAME: "a@example.com"})
    assert outcomes(applied(store, keeper, LOCKS[0])) == ["keeper_disagrees" if active else "unasked_effect"]
    account = store.account(LOCKS[0].subject.keeper_id)
    assert account is not None and account.locked_by_us is not active


@pytest.mark.parametrize("is_open", [False, True], ids=["first ever", "open"])
def test_a_team_that_waited_and_shows_now_stops_nothing(store: Store, is_open: bool) -> None:
    waits = {team(ENG).keeper_id: replace(MEMBER, seen=False, shown=False)}
    held = snapshot([account(one, memberships=waits) for one in PEOPLE], [team(ENG), team(OPS)])
    if is_open:
        store.open_kind(Kind.UPDATE_USER, NOW)
    done = applied(store, Giving(held), *given(JOIN)[1], held=held)
    assert outcomes(done) == ["done"] * 8 and Kind.UPDATE_USER in store.open_kinds(NOW)


def test_a_team_that_an_administrator_gave_meanwhile_stops_nothing(store: Store) -> None:
    held, operations = given(JOIN)
    keeper = Giving(held)
    keeper.after = None
    first = account(PEOPLE[0]).keeper_id
    keeper.users[first] = keeper.more(keeper.users[first])
    store.open_kind(Kind.UPDATE_USER, NOW)
    done = applied(store, keeper, *operations, held=held)
    assert outcomes(done) == ["done"] * 8 and not done.stopped_kinds


@pytest.mark.parametrize("kind", [Kind.UPDATE_USER, Kind.REACTIVATE_USER])
def test_somebody_without_other_teams_does_not_open_a_kind_that_was_sent_back(store: Store, kind: Kind) -> None:
    state = {"active": False, "locked_by_us": True} if kind is Kind.REACTIVATE_USER else {}
    held = {one.id: account(one, memberships={team(ENG).keeper_id: MEMBER}, **state) for one in PEOPLE}
    held[PEOPLE[1].id] = alone = account(PEOPLE[1], **state)
    members = snapshot(list(held.values()), [team(ENG), team(OPS)])
    keeper = Changing(members)
    keeper.users[alone.keeper_id] = shown(alone)
    store.open_kind(kind, NOW)
    keeper.after = lambda one: replace(one, teams=frozenset({team(OPS).keeper_id}))
    done = applied(store, keeper, *(op(kind, one, add=(ref(OPS),)) for one in PEOPLE), held=members)
    assert outcomes(done) == ["done", "done", "unasked_effect", *["put_off"] * 5]


def test_a_change_without_an_addition_does_not_open_a_kind_that_an_earlier_run_sent_back(store: Store) -> None:
    members = snapshot(
        [account(one, memberships={team(ENG).keeper_id: MEMBER}) for one in PEOPLE], [team(ENG), team(OPS)]
    )
    keeper = Changing(members)
    store.close_kind(Kind.UPDATE_USER)
    named = Change("displayName", "User", "New")
    assert outcomes(applied(store, keeper, op(Kind.UPDATE_USER, PEOPLE[0], changes=(named,)), held=members)) == ["done"]
    assert Kind.UPDATE_USER not in store.open_kinds(NOW)
    assert outcomes(applied(store, keeper, op(Kind.UPDATE_USER, PEOPLE[1], add=(ref(OPS),)), held=members)) == ["done"]
    assert Kind.UPDATE_USER in store.open_kinds(NOW)


def test_a_lock_that_removes_a_known_member_stops_locks_at_once(store: Store) -> None:
    keeper = Changing(HELD)
    store.open_kind(Kind.DEACTIVATE_USER, NOW)
    keeper.after = lambda _: None
    addresses = {one.email.lower(): "Active" for one in PEOPLE}
    held = replace(HELD, inventory=Inventory(NOW - timedelta(hours=1), users=addresses))
    done = applied(store, keeper, *LOCKS[:3], held=held)
    assert outcomes(done) == ["vanished", "put_off", "put_off"]
    assert "removed a member" in done.notices[0].message
    assert set(done.stopped_kinds) == {Kind.DEACTIVATE_USER}, "and is alerted, though nothing failed"


def test_an_account_that_was_seen_locked_once_is_no_invitation(store: Store) -> None:
    keeper = Changing(HELD)
    assert outcomes(applied(store, keeper, LOCKS[0])) == ["done"]
    keeper.after = lambda _: None
    keeper.users[account(PEOPLE[0]).keeper_id] = shown(account(PEOPLE[0]))
    assert outcomes(applied(store, keeper, LOCKS[0], LOCKS[1])) == ["vanished", "put_off"]


def test_an_account_whose_lock_a_later_list_showed_is_no_invitation(store: Store) -> None:
    """Its lock had no answer, and was found."""
    row = store.write_ahead(store.begin_run("cycle", NOW, by="root", reason=""), LOCKS[:1], {}, NOW)[0]
    store.record(row, State.DONE, NOW, "settled", "found in Keeper")
    assert store.seen_locked() == {account(PEOPLE[0]).keeper_id}
    keeper = Changing(HELD)
    keeper.after = lambda _: None
    assert outcomes(applied(store, keeper, *LOCKS[:2])) == ["vanished", "put_off"]


@pytest.mark.parametrize("words", [NOT_HERE, "not in this Keeper node any more: withdrawn by it, deleted or moved"])
def test_an_account_that_was_not_in_the_node_was_not_seen_locked(store: Store, words: str) -> None:
    row = store.write_ahead(store.begin_run("cycle", NOW, by="root", reason=""), LOCKS[:1], {}, NOW)[0]
    store.record(row, State.DONE, NOW, "settled", words)
    assert store.seen_locked() == frozenset()


def test_from_the_fourth_account_that_is_gone_after_its_lock_a_person_has_to_agree(store: Store) -> None:
    keeper = Changing(HELD)
    keeper.after = lambda _: None
    done = applied(store, keeper, *LOCKS[:5])
    assert outcomes(done) == ["gone", "gone", "gone", "put_off", "put_off"]
    assert {result.error for result in done.results.values() if result.outcome == "gone"} == {
        "withdrawn or deleted, not known which"
    }
    again = applied(store, keeper, *LOCKS[3:5], agreed=True)
    assert outcomes(again) == ["gone", "gone"]


def test_accounts_that_were_gone_in_former_runs_count_too(store: Store) -> None:
    keeper = Changing(HELD)
    keeper.after = lambda _: None
    assert outcomes(applied(store, keeper, *LOCKS[:2])) == ["gone", "gone"]
    assert outcomes(applied(store, keeper, *LOCKS[2:5])) == ["gone", "put_off", "put_off"]


@pytest.mark.parametrize(
    ("answer", "uncertain", "outcome"),
    [(scim.NotFound, True, "unanswered"), (scim.NotFound, False, "unanswered"), (scim.Refused, False, "refused")],
)
def test_accounts_that_are_gone_after_a_lock_without_a_clear_answer_count_too(
    store: Store, answer: type[scim.KeeperError], uncertain: bool, outcome: str
) -> None:
    class Silent(Changing):
        async def patch_user(self, id: str, *more: object, **named: object) -> KeeperUser | None:
            await super().patch_user(id, *more, **named)
            raise answer("one", "locked", uncertain=uncertain)

    keeper = Silent(HELD)
    keeper.after = lambda _: None
    assert outcomes(applied(store, keeper, *LOCKS[:5])) == [outcome] * 3 + ["put_off"] * 2
    assert {row.state for row in store.journal(NOW)} == {State.UNKNOWN, State.PUT_OFF}


def test_who_was_seen_locked_does_not_wait_for_a_person(store: Store) -> None:
    known = Changing(HELD)
    assert outcomes(applied(store, known, LOCKS[4])) == ["done"]
    keeper = Changing(HELD)
    keeper.after = lambda one: one if one.id == account(PEOPLE[4]).keeper_id else None
    assert outcomes(applied(store, keeper, *LOCKS[:5])) == ["gone", "gone", "gone", "put_off", "done"]


@pytest.mark.timeout(30)
def test_invitations_that_the_inventory_knows_keep_no_other_lock_waiting(store: Store) -> None:
    """That they were withdrawn is known, so they say nothing of what a lock does to others; in no run."""
    keeper = Changing(HELD)
    keeper.after = lambda _: None
    invited = dict.fromkeys((one.email for one in PEOPLE), "Invited")
    held = replace(HELD, inventory=Inventory(NOW - timedelta(hours=1), {}, frozenset(invited), invited))
    done = applied(store, keeper, *LOCKS[:6], held=held)
    assert [result.error for result in done.results.values()] == [WITHDRAWN] * 6
    assert vanished(store, NOW).number == 0


def test_there_is_one_canary_of_a_kind_across_two_runs(store: Store) -> None:
    """The lane and a whole cycle lock at the same time: only one of them tries the kind."""
    keeper = Lagging(HELD, 1)
    together: list[int] = []
    busy = 0

    class Watched(Sure):
        async def of(self, operation: Operation):  # type: ignore[no-untyped-def]
            nonlocal busy
            busy += 1
            together.append(busy)
            for _ in range(5):
                await asyncio.sleep(0)
            busy -= 1
            return await super().of(operation)

    store.save(HELD, store.snapshot())
    runs = [store.begin_run("cycle", NOW, by="root", reason="") for _ in range(2)]
    rows = [store.write_ahead(run, [lock], {}, NOW)[0] for run, lock in zip(runs, LOCKS, strict=False)]

    async def one(row: int, lock: Operation) -> Applied:
        return await apply(
            [(row, lock)],
            HELD,
            keeper,
            store,
            clock=lambda: NOW,
            in_flight=4,
            confirmation=Watched(),
            mark=store.hands.mark(),
        )

    async def both() -> list[Applied]:
        return list(await asyncio.gather(*(one(row, lock) for row, lock in zip(rows, LOCKS, strict=False))))

    done = asyncio.run(both())
    assert [outcomes(each) for each in done] == [["done"], ["done"]]
    assert max(together) == 1


def test_a_membership_that_does_not_show_yet_is_told_and_passes(store: Store) -> None:
    keeper = Keeper([shown(account(PEOPLE[0]))], [shown_team(ENG)])
    keeper.shows[account(PEOPLE[0]).keeper_id] = shown(account(PEOPLE[0]))
    held = snapshot([account(PEOPLE[0])], [team(ENG)])
    done = applied(store, keeper, op(Kind.UPDATE_USER, PEOPLE[0], add=(ref(ENG),)), held=held)
    assert outcomes(done) == ["done"] and store.open_kinds(NOW) == {Kind.UPDATE_USER}
    [notice] = done.notices
    assert notice.kind is NoticeKind.WAITING_FOR_APPROVAL and ENG.name in notice.message


def test_a_team_that_does_not_show_yet_passes(store: Store) -> None:
    keeper = Keeper()
    assert outcomes(applied(store, keeper, team_op(Kind.QUEUE_TEAM, group(20)), held=snapshot([]))) == ["done"]
    assert store.open_kinds(NOW) == {Kind.QUEUE_TEAM}
    assert all(row.state is State.DONE for row in store.journal(NOW))


def test_answers_with_other_teams_than_were_queued_stop_their_kind_for_an_hour_or_until_a_resync(store: Store) -> None:
    held = snapshot([], [team(ENG)])
    keeper = Keeper([], [shown_team(ENG)])
    queued = [team_op(Kind.QUEUE_TEAM, group(number)) for number in range(20, 24)]
    # The second is as it was asked for, and the count begins anew.
    keeper.shows = {one.subject.name: shown_team(ENG) for one in queued}
    keeper.shows[queued[1].subject.name] = shown_team(group(21))
    done = applied(store, keeper, *queued[:3], held=held)
    assert outcomes(done) == ["linked_to_another", "done", "linked_to_another"] and not done.stopped_kinds
    for expected in (["linked_to_another", "put_off"], ["put_off", "put_off"]):
        done = applied(store, keeper, *queued[2:], held=held)
        assert sorted(outcomes(done)) == expected and "reconciler resync" in done.stopped_kinds[Kind.QUEUE_TEAM]
    later = NOW + LINKS_REST
    assert outcomes(applied(store, keeper, *queued[2:], held=held, now=later)) == ["linked_to_another", "put_off"]
    assert outcomes(applied(store, keeper, queued[3], held=held, now=later)) == ["put_off"]
    store.forget_links([Kind.QUEUE_TEAM])
    assert outcomes(applied(store, keeper, queued[3], held=held, now=later)) == ["linked_to_another"]
