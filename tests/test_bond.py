"""Ownership of accounts and teams, as far as matching decides it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.diff import Decision
from reconciler.model import Account, Group, KeeperUser, Membership, Snapshot, Standing, Status, Takeover, Team, User
from reconciler.plan import Kind, NoticeKind
from reconciler.policy import AddressChange, Pilot, Policy
from reconciler.snapshot import observed
from tests.world import NOW, account, decide, directory, group, jc, listing, snapshot, team, user

SUSPENDED = Status.SUSPENDED


def unmanaged(number: int, email: str, external: str = "", **values: object) -> Account:
    shown = {"userName": email, "externalId": external}
    base = account(user(number), standing=Standing.UNMANAGED, jumpcloud_id="", shown=shown, asked={}, settled={})
    return replace(base, **values)  # type: ignore[arg-type]


def first(accounts: list[Account], teams: list[Team] | None = None) -> Snapshot:
    """The first listing of a node."""
    return snapshot(accounts, teams, reviewed=False, fresh=frozenset(a.keeper_id for a in accounts))


def conflicts(made: Decision) -> dict[str, str]:
    return {n.subject.name: n.message for n in made.plan.notices if n.kind is NoticeKind.CONFLICT}


# -- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reviewed", [True, False])
@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ("mar\u212a@example.com", "mark@example.com"),
        ("\u017ftephen@example.com", "stephen@example.com"),
        ("stra\u00dfe@example.com", "strasse@example.com"),
        ("\u03b1\u03c2@example.com", "\u03b1\u03c3@example.com"),
        ("e\u0301va@example.com", "\u00e9va@example.com"),
    ],
)
def test_an_account_whose_address_is_only_alike_is_a_conflict(mine: str, theirs: str, reviewed: bool) -> None:
    for one, other in ((mine, theirs), (theirs, mine)):
        held = replace(first([unmanaged(9, other)]), reviewed=reviewed)
        made = decide(directory([user(1, direct=True, email=one)]), held)
        assert made.plan.operations == () and made.plan.adopts == ()
        assert other in conflicts(made)[one] and "two people" in conflicts(made)[one]


def test_one_domain_in_its_two_written_forms_is_one_person() -> None:
    here, there = "ada@m\u00fcnchen.example", "Ada@xn--MNCHEN-3ya.example"
    for one, other in ((here, there), (there, here)):
        made = decide(directory([user(1, direct=True, email=one)]), first([unmanaged(9, other)]))
        assert made.plan.adopts and "userName" not in {c.attribute for op in made.plan.operations for c in op.changes}
        again = decide(directory([user(1, direct=True, email=other)]), made.snapshot)
        assert [n.kind for n in again.plan.notices] == []


def test_two_people_with_addresses_alike_are_neither_created_nor_linked_and_each_is_told_of_the_other() -> None:
    one, other = "mark@example.com", "mar\u212a@example.com"
    users = [user(1, direct=True, email=one), user(2, direct=True, email=other)]
    for held in (snapshot([]), snapshot([unmanaged(9, one)])):
        made = decide(directory(users), held)
        assert made.plan.operations == ()
        assert other in conflicts(made)[one] and one in conflicts(made)[other]


def test_an_account_beside_it_that_is_only_alike_keeps_nobody_from_their_own() -> None:
    mine, lookalike = unmanaged(8, "mark@example.com"), unmanaged(9, "mar\u212a@example.com")
    made = decide(directory([user(1, direct=True, email="mark@example.com")]), first([mine, lookalike]))
    assert made.snapshot.accounts["k0008"].managed and not made.snapshot.accounts["k0009"].managed


def test_nobody_is_created_while_a_creation_under_an_address_alike_has_no_answer() -> None:
    open_ = snapshot([], unsettled_users={jc(2): "mar\u212a@example.com"})
    made = decide(directory([user(1, direct=True, email="mark@example.com")]), open_)
    assert made.plan.operations == () and "mark@example.com" in conflicts(made)


@pytest.mark.parametrize("address", ["mark@example.com", "mar\u212a@example.com"])
@pytest.mark.parametrize("status", [Status.ACTIVE, Status.STAGED, Status.UNKNOWN])
@pytest.mark.parametrize("change", list(AddressChange))
def test_no_account_is_given_a_new_address_that_another_person_in_jumpcloud_claims(
    address: str, status: Status, change: AddressChange
) -> None:
    engineering = group(1)
    former = user(1, direct=True)
    users = [replace(former, email="mark@example.com", groups=frozenset({engineering.id}))]
    users += [user(2, direct=True, email=address, status=status)]
    held = snapshot([account(former)], [team(engineering)])
    made = decide(directory(users, [engineering]), held, Policy(address_change=change))
    [operation] = made.plan.operations
    assert (operation.changes, len(operation.add)) == ((), 1), "all else goes on under the old address"
    assert "is also that of the JumpCloud user" in conflicts(made)["u1@example.com"]
    assert not [n for n in made.plan.notices if n.kind is NoticeKind.ADDRESS_CHANGE], "nor is it offered as an alias"
    alone = decide(directory(users[:1], [engineering]), held, Policy(address_change=change))
    assert "u1@example.com" not in conflicts(alone)


def test_protection_and_the_pilot_go_by_addresses_alike() -> None:
    policy = Policy(protect=frozenset({"mark@example.com"}))
    leaver = user(1, email="mar\u212a@example.com", status=SUSPENDED)
    assert decide(directory([leaver]), snapshot([account(leaver)]), policy).plan.operations == ()
    pilot = Policy(only=Pilot(users=frozenset({"ada@m\u00fcnchen.example"})))
    made = decide(directory([user(1, direct=True, email="ada@xn--mnchen-3ya.example")]), snapshot([]), pilot)
    assert [op.sent for op in made.plan.operations] == [True]


# -- the bond -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reviewed", [True, False])
@pytest.mark.parametrize("email", ["bob@example.com", ""])
def test_an_id_on_an_account_with_another_address_gives_nobody_that_vault(email: str, reviewed: bool) -> None:
    bob = user(1, direct=True, email=email)
    held = replace(first([unmanaged(9, "alice@example.com", bob.id)]), reviewed=reviewed)
    made = decide(directory([bob]), held)
    assert made.plan.operations == () and made.plan.adopts == ()
    [(_, told)] = conflicts(made).items()
    assert "alice@example.com carries" in told and "reconciler adopt alice@example.com" in told
    [(_, told)] = conflicts(decide(directory([bob]), held, focus=frozenset({bob.id}))).items()
    assert "reconciler adopt alice@example.com" in told


def test_a_look_at_somebody_who_has_an_account_by_their_id_alone_tells_of_no_conflict_while_it_is_open() -> None:
    bob = user(1, direct=True, email="bob@example.com")
    held = account(bob, shown={**account(bob).shown, "userName": "alice@example.com"}, asked={}, settled={})
    focus = frozenset({bob.id})
    assert not conflicts(decide(directory([bob]), snapshot([held]), focus=focus))
    locked = replace(held, active=False, locked_by_us=True)
    [(_, told)] = conflicts(decide(directory([bob]), snapshot([locked]), focus=focus)).items()
    assert "once a whole cycle has read everybody: it is not unlocked" in told
    assert [op.kind for op in decide(directory([bob]), snapshot([locked])).plan.operations] == [Kind.REACTIVATE_USER]
    theirs = snapshot([replace(held, active=False)])
    made = decide(directory([bob]), theirs, focus=focus, unlock=focus)
    assert [op.kind for op in made.plan.operations] == [Kind.REACTIVATE_USER]


def test_adopt_links_an_account_by_the_id_that_it_carries_where_nobody_has_its_address() -> None:
    bob = user(1, direct=True, email="bob@example.com")
    named = unmanaged(9, "alice@example.com", bob.id, takeover=Takeover.BY_ADDRESS)
    assert decide(directory([bob]), snapshot([named])).snapshot.accounts["k0009"].jumpcloud_id == bob.id
    alice = user(2, direct=True, email="alice@example.com")
    made = decide(directory([bob, alice]), snapshot([named]))
    assert made.snapshot.accounts["k0009"].jumpcloud_id == alice.id  # the address is what was named
    ghosts = replace(named, takeover=Takeover.AS_GHOST)
    assert not decide(directory([bob]), snapshot([ghosts])).plan.adopts


@pytest.mark.parametrize("status", [Status.ACTIVE, Status.STAGED])
def test_who_is_to_have_an_account_that_carries_anothers_id_has_to_be_active(status: Status) -> None:
    bob, alice = user(1, direct=True), user(2, direct=True, email="alice@example.com", status=status)
    held, people = snapshot([unmanaged(9, alice.email, bob.id)]), directory([bob, alice])
    told = conflicts(decide(people, held))[bob.email]
    assert told.endswith(": reconciler adopt alice@example.com") is (status is Status.ACTIVE)
    assert told.endswith(": once that one is active, reconciler adopt alice@example.com") is (status is Status.STAGED)
    named = snapshot([unmanaged(9, alice.email, bob.id, takeover=Takeover.BY_ADDRESS)])
    assert decide(people, named).snapshot.accounts["k0009"].managed is (status is Status.ACTIVE)


def test_of_two_accounts_with_ones_id_the_one_with_the_address_is_theirs() -> None:
    bob = user(1, direct=True)
    made = decide(directory([bob]), first([unmanaged(8, "alice@example.com", bob.id), unmanaged(9, bob.email, bob.id)]))
    assert made.snapshot.accounts["k0009"].jumpcloud_id == bob.id and not made.snapshot.accounts["k0008"].managed
    assert "has another Keeper user" in conflicts(made)["alice@example.com"]


def test_a_second_account_is_told_beside_the_conflict_of_whoever_has_its_address() -> None:
    users = [user(1, direct=True, email="rosa@example.com"), user(2, direct=True, email="max@example.com")]
    hers = unmanaged(1, "rosa@example.com", jc(1), active=False)
    made = decide(directory(users), first([hers, unmanaged(9, "max@example.com", jc(1))]))
    told = {n.subject.key: n.message for n in made.plan.notices if n.kind is NoticeKind.CONFLICT}
    assert "tied to another JumpCloud id" in told[jc(2)]
    assert "rosa@example.com" in told["k0009"] and "has another Keeper user" in told["k0009"]


@pytest.mark.parametrize("status", [Status.ACTIVE, Status.UNKNOWN])
@pytest.mark.parametrize("active", [True, False])
def test_an_account_gets_no_id_while_the_address_of_its_person_is_not_known(status: Status, active: bool) -> None:
    former, current = account(user(1), active=active), unmanaged(9, "yan@example.com", jc(1))
    former = replace(former, shown={"userName": "u1@example.com"}, asked={}, settled={"userName": "u1@example.com"})
    known = user(1, direct=True, email="yan@example.com")
    hidden = replace(known, email="", status=status)
    for person in (known, hidden):
        made = decide(directory([person, user(2, direct=True, email="u1@example.com")]), snapshot([former, current]))
        changed = {c.attribute for op in made.plan.operations for c in op.changes if op.subject.jumpcloud_id == jc(1)}
        assert "externalId" not in changed


def renamed(status: Status = Status.ACTIVE) -> tuple[User, User]:
    """Somebody whose account has their former address still, and who has that address now."""
    return user(1, direct=True, email="dora.new@example.com", status=status), user(2, direct=True)


def test_a_given_up_account_is_its_owners_and_not_whosever_address_it_has_now() -> None:
    dora, heir = renamed()
    given_up = unmanaged(1, heir.email, keeper_id="k1", standing=Standing.DISOWNED, jumpcloud_id=dora.id)
    made = decide(directory([dora, heir]), snapshot([given_up]))
    assert made.plan.operations == ()
    told = conflicts(made)[heir.email]
    assert "dora.new@example.com" in told and "reconciler adopt" not in told
    named = replace(given_up, standing=Standing.UNMANAGED, takeover=Takeover.BY_ADDRESS)
    made = decide(directory([dora, heir]), snapshot([named]))
    assert made.snapshot.accounts["k1"].jumpcloud_id == dora.id and heir.email in conflicts(made)
    left = replace(dora, status=Status.SUSPENDED)
    assert (
        "reconciler adopt u2@example.com"
        in conflicts(decide(directory([left, heir]), snapshot([given_up])))[heir.email]
    )
    assert decide(directory([left, heir]), snapshot([named])).snapshot.accounts["k1"].jumpcloud_id == heir.id


@pytest.mark.parametrize("status", [Status.ACTIVE, Status.STAGED, Status.UNKNOWN])
def test_adopt_takes_no_account_from_somebody_who_has_not_left(status: Status) -> None:
    dora, heir = renamed(status)
    held = replace(account(user(2), keeper_id="k1", takeover=Takeover.BY_ADDRESS), jumpcloud_id=dora.id)
    made = decide(directory([dora, heir]), snapshot([held]))
    assert made.snapshot.accounts["k1"].jumpcloud_id == dora.id
    told = conflicts(made)[heir.email]
    assert "dora.new@example.com" in told and "reconciler adopt" not in told


@pytest.mark.parametrize("address", ["anna@example.com", "ANNA@example.com", "an\uff4ea@example.com"])
@pytest.mark.parametrize("status", [Status.ACTIVE, Status.STAGED])
def test_a_leaver_is_not_adopted_under_the_address_of_somebody_who_belongs(address: str, status: Status) -> None:
    left = user(1, email="old@example.com", status=SUSPENDED)
    namesake = user(2, direct=True, email="anna@example.com", status=status)
    made = decide(directory([left, namesake]), first([unmanaged(9, address, left.id)]))
    assert made.plan.operations == () and made.plan.adopts == ()
    told = conflicts(made)
    assert told, "whoever is to decide is told"
    later = decide(directory([left, namesake]), replace(made.snapshot, reviewed=True, fresh=frozenset()))
    assert later.plan.operations == () and conflicts(later).keys() == told.keys()


@pytest.mark.parametrize("status", [None, SUSPENDED, Status.ACTIVE])
@pytest.mark.parametrize("heirs", [Status.ACTIVE, Status.STAGED])
def test_an_account_that_shows_the_id_and_address_of_somebody_who_belongs_is_not_locked_for_its_former_owner(
    status: Status | None, heirs: Status
) -> None:
    """An old copy of the state file knows the former owner, or another program has written the id."""
    former, heir = user(1, email="ada.alt@example.com"), user(2, direct=True, email="ada@example.com", status=heirs)
    shown = {**account(former).shown, "userName": heir.email, "externalId": heir.id}
    held = snapshot([account(former, shown=shown, left_at=NOW - timedelta(days=9))])
    people = [heir] if status is None else [heir, replace(former, status=status)]
    made = decide(directory(people), held)
    assert made.plan.operations == ()
    (told,) = (n.message for n in made.plan.notices if n.subject.jumpcloud_id == former.id)
    assert "not locked" in told and heir.id in told and "reconciler adopt ada@example.com" in told
    gone = decide(directory([replace(one, status=SUSPENDED) for one in people]), held)
    assert [op.kind for op in gone.plan.operations] == [Kind.DEACTIVATE_USER], "nobody else belongs to it"
    renamed = replace(heir, email="ada.new@example.com")
    elsewhere = decide(directory([renamed, *people[1:]]), held)
    assert elsewhere.plan.operations == (), "nor is there a second account for whom it may have been given to"
    words = {n.subject.jumpcloud_id: n.message for n in elsewhere.plan.notices}[former.id]
    assert "not locked" in words and "the address of whose it is" in words
    theirs = [renamed, *(replace(one, email="ada@example.com") for one in people[1:])]
    kinds = {op.kind for op in decide(directory(theirs), held).plan.operations}
    assert (Kind.DEACTIVATE_USER in kinds) is (status is not None), "the address is that of its owner: a mere leftover"
    held = snapshot([*held.accounts.values(), account(renamed)])
    elsewhere = decide(directory([renamed, *people[1:]]), held)
    assert Kind.DEACTIVATE_USER in {op.kind for op in elsewhere.plan.operations}, "who has another: a mere leftover"


def test_an_account_with_neither_the_id_nor_the_address_of_whom_it_is_managed_for_is_not_made_theirs() -> None:
    ada, eve = user(1, direct=True, email="ada.alt@example.com"), user(2, direct=True, email="eve@example.com")
    shown = {**account(ada).shown, "userName": "ada@example.com", "externalId": eve.id}
    held = snapshot([account(ada, shown=shown)])
    made = decide(directory([ada, eve]), held)
    assert made.plan.operations == () and len(conflicts(made)) == 2
    made = decide(directory([ada, eve]), held, focus=frozenset({ada.id}))
    assert made.plan.operations == () and "before a whole cycle" in made.plan.notices[0].message
    made = decide(directory([replace(ada, email="ada@example.com"), eve]), held)
    assert {op.kind for op in made.plan.operations} == {Kind.UPDATE_USER, Kind.CREATE_USER}, "it has her address"


def test_nothing_of_an_account_is_changed_for_the_one_of_two_owners_whom_keeper_does_not_show() -> None:
    former, heir = user(1, direct=True, email="ada.alt@example.com"), user(2, direct=True, email="ada@example.com")
    shown = {**account(former).shown, "userName": heir.email, "externalId": heir.id}
    for active in (True, False):
        made = decide(directory([former, heir]), snapshot([account(former, shown=shown, active=active)]))
        told = {n.subject.jumpcloud_id: n.message for n in made.plan.notices}
        assert made.plan.operations == () and "give it their address" in told[former.id]


def test_a_cycle_of_some_people_locks_no_account_that_shows_the_id_of_somebody_whom_it_has_not_read() -> None:
    left, heir = user(1, status=SUSPENDED), user(2, direct=True)
    held = snapshot([account(left, shown={**account(left).shown, "externalId": heir.id})])
    made = decide(directory([left]), held, focus=frozenset({left.id}))
    assert made.plan.operations == () and "not locked before a whole cycle" in made.plan.notices[0].message
    assert decide(directory([left]), held).plan.operations, "a whole cycle has read that nobody has the id"
    ignored = {**account(left).settled, "externalId": heir.id}
    held = snapshot([account(left, shown={**account(left).shown, "externalId": heir.id}, settled=ignored)])
    made = decide(directory([left]), held, focus=frozenset({left.id}))
    assert made.plan.operations, "Keeper has never shown ours"


def test_a_leaver_whose_account_nobody_manages_is_named_with_it() -> None:
    left, heir = user(1, email="new@example.com", status=SUSPENDED), user(2, direct=True, email="old@example.com")
    ghost = unmanaged(9, "former@example.com", left.id)
    for users, held in (
        ([left], replace(first([ghost]), reviewed=True)),
        ([left], first([ghost, unmanaged(8, "other@example.com", left.id)])),
    ):
        told = {n.subject.name: n.message for n in decide(directory(users), held).plan.notices}
        assert left.id not in told and "new@example.com, who is suspended" in told["former@example.com"]
    # The address of the account is that of somebody who is told something else.
    mine = unmanaged(8, "heir@example.com", heir.id)
    held = replace(first([unmanaged(9, "old@example.com", left.id), mine]), reviewed=True)
    told = {n.subject.keeper_id: n.message for n in decide(directory([left, heir]), held).plan.notices}
    assert "new@example.com" in told["k0009"]


@pytest.mark.parametrize("reviewed", [True, False])
@pytest.mark.parametrize("status", [Status.STAGED, Status.UNKNOWN])
def test_the_only_account_of_somebody_whose_state_is_not_known_is_not_said_to_be_a_second_one(
    status: Status, reviewed: bool
) -> None:
    waits = user(1, direct=True, status=status)
    made = decide(directory([waits]), replace(first([unmanaged(1, waits.email, waits.id)]), reviewed=reviewed))
    assert made.plan.operations == () and conflicts(made) == {}
    assert any("left as it is" in one.message for one in made.plan.notices)
    both = [account(user(1), keeper_id="k1"), unmanaged(9, "second@example.com", waits.id)]
    made = decide(directory([waits]), replace(snapshot(both), reviewed=reviewed))
    assert "Delete the wrong one" in conflicts(made)["second@example.com"]


def test_a_leaver_is_adopted_by_the_id_whatever_their_address() -> None:
    left = user(1, email="new@example.com", status=SUSPENDED)
    made = decide(directory([left]), first([unmanaged(9, "old@example.com", left.id)]))
    assert [op.kind for op in made.plan.operations] == [Kind.DEACTIVATE_USER]


# -- locks ----------------------------------------------------------------------------------------------------------


def test_a_first_plan_takes_only_locks_for_ours_that_were_there_when_we_first_saw_the_account() -> None:
    left = user(1, status=SUSPENDED)
    locked = unmanaged(1, left.email, left.id, active=False)
    assert decide(directory([left]), first([locked])).snapshot.accounts["k0001"].locked_by_us
    known = snapshot([locked], reviewed=False)
    assert not decide(directory([left]), known).snapshot.accounts["k0001"].locked_by_us


def test_a_lock_of_an_administrator_stays_theirs_through_another_first_plan() -> None:
    left = user(1, status=SUSPENDED)
    held = snapshot([account(left, active=False)], reviewed=False)
    made = decide(directory([left]), held)
    assert not made.snapshot.accounts["k0001"].locked_by_us
    back = decide(directory([user(1, direct=True)]), replace(made.snapshot, reviewed=True))
    assert [n.kind for n in back.plan.notices] == [NoticeKind.LOCKED_IN_KEEPER]
    ours = snapshot([account(left, active=False, locked_by_us=True)], reviewed=False)
    assert decide(directory([left]), ours).snapshot.accounts["k0001"].locked_by_us


def test_a_listing_says_which_accounts_it_is_the_first_to_show() -> None:
    shown = [unmanaged(n, f"u{n}@example.com") for n in (1, 2)]
    users = [_shown(one) for one in shown]
    seen = observed(snapshot([shown[0]]), listing(users), NOW)
    assert seen.fresh == {"k0002"}
    assert observed(seen, listing(users), NOW).fresh == {"k0002"}  # the same read goes on


def test_a_lock_that_counted_as_ours_is_over_once_keeper_shows_an_unmanaged_account_as_active() -> None:
    marked = unmanaged(1, "u1@example.com", active=False, locked_by_us=True)
    held = snapshot([marked], reviewed=False)
    assert observed(held, listing([_shown(marked)]), NOW).accounts["k0001"].locked_by_us
    opened = observed(held, listing([_shown(replace(marked, active=True))]), NOW)
    assert not opened.accounts["k0001"].locked_by_us


def _shown(one: Account) -> KeeperUser:
    return KeeperUser(one.keeper_id, one.shown, one.active)


# -- teams ----------------------------------------------------------------------------------------------------------

OLD, NEW = group(9, "Sales"), group(5, "Sales")


def test_a_team_is_taken_over_only_once_its_group_is_gone() -> None:
    member = user(1, 5)
    there = account(member, memberships={"t0009": Membership(ours=True, seen=True, shown=True)})
    held = snapshot([there], [team(OLD)])
    made = decide(directory([member], [NEW]), held)
    assert made.snapshot.teams["t0009"].jumpcloud_id == OLD.id
    assert not [op for op in made.plan.operations if op.add or op.kind in (Kind.QUEUE_TEAM, Kind.RENAME_TEAM)]
    assert OLD.id in conflicts(made)["Sales"] and NEW.id in conflicts(made)["Sales"]
    gone = decide(directory([member], [NEW], gone=[OLD]), held)
    assert gone.snapshot.teams["t0009"].jumpcloud_id == NEW.id and conflicts(gone) == {}
    assert [op.kind for op in gone.plan.operations] == [Kind.RENAME_TEAM]


def test_a_team_that_bears_the_id_of_yet_another_group_waits_for_the_end_of_both() -> None:
    """As after an old copy of the state file was restored: another group had taken the team over by then."""
    between = group(7, "Sales")
    held = snapshot([], [replace(team(OLD), shown={**team(OLD).shown, "externalId": between.id})])
    made = decide(directory([], [NEW], gone=[OLD]), held)
    assert made.plan.operations == () and between.id in conflicts(made)["Sales"]
    assert {OLD.id, between.id} == held.groups_with_teams.keys()
    gone = decide(directory([], [NEW], gone=[OLD, between]), held)
    assert gone.snapshot.teams["t0009"].jumpcloud_id == NEW.id and conflicts(gone) == {}
    back = decide(directory([], [between], gone=[OLD]), held)
    assert back.snapshot.teams["t0009"].jumpcloud_id == between.id and conflicts(back) == {}


def test_a_team_that_was_renamed_in_keeper_is_its_groups_still() -> None:
    renamed = replace(team(OLD), asked=dict(team(OLD).shown), shown={**team(OLD).shown, "displayName": "Finance"})
    told = conflicts(decide(directory([], [NEW]), snapshot([], [renamed])))["Sales"]
    assert "the Keeper team Finance belongs to" in told and "that team was named Sales before" in told


@pytest.mark.parametrize(
    ("spelled", "words"),
    [
        ("Café", "spelled the same"),
        ("Cafe\u0301", "spelled in another Unicode normal form"),
        (" Café", "spelled with other white space around it"),
    ],
)
def test_a_conflict_of_two_groups_names_both_and_says_how_their_names_differ(spelled: str, words: str) -> None:
    one, other = group(9, "Café"), Group(jc(5), "Café", spelled)
    unbound = conflicts(decide(directory([], [other]), snapshot([], [team(one)])))["Café"]
    bound = conflicts(decide(directory([], [one, other]), snapshot([], [team(one)])))["Café"]
    for told in (unbound, bound):
        assert one.id in told and other.id in told and words in told


def test_after_a_lost_state_file_the_name_gives_no_team_whose_id_is_another_groups() -> None:
    held = team(OLD, standing=Standing.UNMANAGED, jumpcloud_id="", asked={}, settled={}, queued_at=None)
    made = decide(directory([user(1, 5)], [NEW]), first([], [held]))
    assert not made.snapshot.teams["t0009"].managed
    assert OLD.id in conflicts(made)["Sales"] and 'adopt --team "NAME"' in conflicts(made)["Sales"]
    gone = decide(directory([user(1, 5)], [NEW], gone=[OLD]), first([], [held]))
    assert gone.snapshot.teams["t0009"].jumpcloud_id == NEW.id
    named = replace(held, takeover=True)
    assert decide(directory([], [NEW]), snapshot([], [named])).snapshot.teams["t0009"].jumpcloud_id == NEW.id


def test_a_namesake_of_a_team_whose_group_cant_be_read_is_not_queued() -> None:
    held = team(OLD, standing=Standing.UNMANAGED, jumpcloud_id="", asked={}, settled={}, queued_at=None)
    assert OLD.id in first([], [held]).groups_with_teams
    unread = replace(directory([user(1, 5)], [NEW]), unclear_groups=frozenset({OLD.id}))
    made = decide(unread, first([], [held]))
    assert not [op for op in made.plan.operations if op.kind is Kind.QUEUE_TEAM]
    assert f"that of the JumpCloud group {OLD.id}, which can't be read now" in conflicts(made)["Sales"]


def test_several_teams_of_groups_that_are_gone_wait_for_a_person() -> None:
    other = group(8, "Sales")
    made = decide(directory([], [NEW], gone=[OLD, other]), snapshot([], [team(OLD), team(other)]))
    assert made.plan.operations == () and "2 Keeper teams" in conflicts(made)["Sales"]
