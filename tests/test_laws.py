"""The promises of the pure core as laws, over histories of an organisation that changes all the time."""

from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from reconciler.diff import diff
from reconciler.model import (
    DISPLAY_NAME,
    EXTERNAL_ID,
    USER_NAME,
    Group,
    KeeperTeam,
    KeeperUser,
    Listing,
    Snapshot,
    Status,
    User,
)
from reconciler.plan import Cause, Kind, Operation, Plan, Rule
from reconciler.policy import Limits, Policy
from reconciler.safety import Consent, Past, Release, always_allowed, judge
from reconciler.snapshot import after_team, after_user, observed
from reconciler.undoing import undoing
from tests.world import NOW, SOURCE, account, directory, group, jc, user

PEOPLE = range(1, 9)
GROUPS = range(90, 94)
POLICY = Policy(protect=frozenset({"u8@example.com"}), grace=timedelta(minutes=30))
LIMITS = Limits()


class Enterprise:
    """An ideal Keeper: does what an operation says, shows everything at once."""

    def __init__(self) -> None:
        self.users: dict[str, KeeperUser] = {}
        self.teams: dict[str, str] = {}
        self.team_ids: dict[str, str] = {}
        self.made = 0

    def listing(self, known: Snapshot) -> Listing:
        members: dict[str, set[str]] = {team: set() for team in self.teams}
        for one in self.users.values():
            for team in (one.teams or frozenset()) & members.keys():
                members[team].add(one.id)
        teams = {
            team: KeeperTeam(
                team, {DISPLAY_NAME: name, EXTERNAL_ID: self.team_ids.get(team, "")}, frozenset(members[team])
            )
            for team, name in self.teams.items()
        }
        return Listing(dict(self.users), teams, frozenset({*known.accounts, *known.teams} - {*self.users, *self.teams}))

    def take(self, op: Operation, ids: dict[str, str]) -> KeeperUser | KeeperTeam | None:
        values = {change.attribute: change.after for change in op.changes}
        if op.kind is Kind.QUEUE_TEAM:
            self.made += 1
            team = f"team{self.made}"
            self.teams[team], self.team_ids[team] = values[DISPLAY_NAME], values[EXTERNAL_ID]
            return KeeperTeam(team, values)
        if op.kind is Kind.RENAME_TEAM:
            self.teams[op.subject.keeper_id] = values.get(DISPLAY_NAME, self.teams[op.subject.keeper_id])
            self.team_ids[op.subject.keeper_id] = values.get(EXTERNAL_ID, self.team_ids.get(op.subject.keeper_id, ""))
            return None
        if op.kind is Kind.CREATE_USER:
            address = values[USER_NAME].casefold()
            assert all(u.attributes[USER_NAME].casefold() != address for u in self.users.values()), "address taken"
            self.made += 1
            one = KeeperUser(f"user{self.made}", values, True)
        else:
            one = self.users[op.subject.keeper_id]
            active = values.pop("active", None)
            one = replace(
                one,
                attributes={**one.attributes, **values},
                active=one.active if active is None else active == "true",
            )
        teams = ((one.teams or frozenset()) | {ids[t.key] for t in op.add}) - {ids[t.key] for t in op.remove}
        self.users[one.id] = replace(one, teams=teams)
        return self.users[one.id]


class History(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.now: datetime = NOW
        self.people: dict[int, User] = {}
        self.groups: dict[int, Group] = {n: group(n) for n in GROUPS}
        self.keeper = Enterprise()
        self.snapshot = Snapshot()
        self.sent: list[tuple[datetime, Operation, bool]] = []
        self.by_hand: set[str] = set()

    # -- the organisation changes -----------------------------------------------------------------------------------

    @rule(n=st.sampled_from(PEOPLE), groups=st.sets(st.sampled_from(GROUPS)), direct=st.booleans())
    def joins_or_moves(self, n: int, groups: set[int], direct: bool) -> None:
        known = self.people.get(n) or user(n)
        self.people[n] = replace(known, groups=frozenset(jc(g) for g in groups), direct=direct)

    @rule(n=st.sampled_from(PEOPLE), status=st.sampled_from(Status))
    def changes_status(self, n: int, status: Status) -> None:
        if n in self.people:
            self.people[n] = replace(self.people[n], status=status)

    @rule(n=st.sampled_from(PEOPLE), name=st.sampled_from(["", "Ada", "É", "E\u0301"]))
    def is_renamed(self, n: int, name: str) -> None:
        if n in self.people:
            self.people[n] = replace(self.people[n], given_name=name)

    @rule(n=st.sampled_from(PEOPLE), other=st.sampled_from(PEOPLE))
    def address_moves(self, n: int, other: int) -> None:
        if n in self.people:
            self.people[n] = replace(self.people[n], email=f"u{other}@example.com")

    @rule(n=st.sampled_from(PEOPLE))
    def is_deleted(self, n: int) -> None:
        self.people.pop(n, None)

    @rule(g=st.sampled_from(GROUPS))
    def group_leaves_or_comes(self, g: int) -> None:
        if g in self.groups:
            del self.groups[g]
        else:
            self.groups[g] = group(g)

    @rule(g=st.sampled_from(GROUPS), name=st.sampled_from(["Red", "Blue"]))
    def group_is_renamed(self, g: int, name: str) -> None:
        if g in self.groups:
            self.groups[g] = group(g, f"{name} {g}")

    @rule(minutes=st.sampled_from([1, 31, 24 * 60]))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    # -- an administrator meddles -----------------------------------------------------------------------------------

    @rule(n=st.integers(0, 9))
    def administrator_locks_or_unlocks(self, n: int) -> None:
        if self.keeper.users:
            one = sorted(self.keeper.users)[n % len(self.keeper.users)]
            self.keeper.users[one] = replace(self.keeper.users[one], active=not self.keeper.users[one].active)

    @rule(n=st.integers(0, 9))
    def administrator_deletes(self, n: int) -> None:
        if self.keeper.users:
            self.keeper.users.pop(sorted(self.keeper.users)[n % len(self.keeper.users)])

    @rule(n=st.sampled_from(PEOPLE), tied=st.booleans())
    def administrator_adds(self, n: int, tied: bool) -> None:
        address = f"u{n}@example.com"
        if all(u.attributes[USER_NAME] != address for u in self.keeper.users.values()):
            self.keeper.made += 1
            one = f"user{self.keeper.made}"
            self.keeper.users[one] = KeeperUser(one, {USER_NAME: address, EXTERNAL_ID: jc(n) if tied else ""}, True)

    # -- cycles -----------------------------------------------------------------------------------------------------

    def wanted(self) -> object:
        bound = {jc(g) for g in self.groups}
        people = [replace(p, groups=p.groups & bound) for p in self.people.values()]
        return directory(people, list(self.groups.values()))

    def plan(self) -> Plan:
        seen = observed(self.snapshot, self.keeper.listing(self.snapshot), self.now)
        arguments = (self.wanted(), seen, POLICY, self.now)
        decision = diff(*arguments, kind="resync", source=SOURCE)  # type: ignore[arg-type]
        again = diff(*arguments, kind="resync", source=SOURCE)  # type: ignore[arg-type]
        assert decision.plan == again.plan
        self.snapshot = decision.snapshot
        return decision.plan

    def send(self, plan: Plan, *, counts: bool) -> None:
        for op in plan.operations:
            if not op.sent:
                continue
            self.allowed_to(op)
            ids = {t.key: t.keeper_id or self.team_of(t.jumpcloud_id) for t in (*op.add, *op.remove)}
            reply = self.keeper.take(op, ids)
            accounts, teams = dict(self.snapshot.accounts), dict(self.snapshot.teams)
            if op.subject.type == "team":
                stale = [k for k, t in teams.items() if t.gone and t.jumpcloud_id == op.subject.jumpcloud_id]
                made = after_team(teams.get(op.subject.keeper_id), op, reply, self.now)  # type: ignore[arg-type]
                teams = {k: t for k, t in teams.items() if k not in stale} | {made.keeper_id: made}
            else:
                before = accounts.get(op.subject.keeper_id)
                after = after_user(before, op, ids, reply, self.now)  # type: ignore[arg-type]
                twins = [k for k, a in accounts.items() if a.jumpcloud_id == after.jumpcloud_id != ""]
                accounts = {k: a for k, a in accounts.items() if k not in twins} | {after.keeper_id: after}
            self.snapshot = replace(self.snapshot, accounts=accounts, teams=teams)
            self.sent.append((self.now, op, counts))

    def past(self) -> list[Past]:
        undid = undoing([(at, op, True) for at, op, _ in self.sent], LIMITS.window)
        return [
            Past(op, counts=counts, undoes=undoes, gave_access=gave, at=at)
            for (at, op, counts), (undoes, gave) in zip(self.sent, undid, strict=True)
            if at > self.now - LIMITS.window
        ]

    def team_of(self, group_id: str) -> str:
        return next(
            k for k, t in self.snapshot.teams.items() if t.managed and not t.gone and t.jumpcloud_id == group_id
        )

    def allowed_to(self, op: Operation) -> None:
        """The laws about one operation that is sent."""
        if op.subject.type != "user":
            return
        person = next((p for p in self.people.values() if p.id == op.subject.jumpcloud_id), None)
        held = self.snapshot.accounts.get(op.subject.keeper_id)
        if op.kind is Kind.DEACTIVATE_USER and person is not None:
            bound = person.direct or bool(person.groups & {jc(g) for g in self.groups})
            assert person.status is Status.SUSPENDED or not bound, "somebody in scope would be locked"
        if op.kind is not Kind.CREATE_USER:
            assert held is not None
            assert held.managed, "an unmanaged user would be touched"
        protected = "u8@example.com" in {op.subject.name, person.email if person else ""}
        assert not protected or op.kind is Kind.REACTIVATE_USER, "a protected person would be touched"
        if op.kind is Kind.REACTIVATE_USER:
            assert held is not None
            assert held.locked_by_us, "somebody else's lock would be undone"

    @rule()
    def a_reviewed_cycle(self) -> None:
        """Everything is released: after it, planning again gives nothing."""
        plan = self.plan()
        self.snapshot = replace(self.snapshot, reviewed=True)
        release = Consent((Release("release:1", plan.effects),))
        judged = judge(plan, self.snapshot, [], LIMITS, POLICY.teams, release)
        self.send(judged.plan, counts=False)
        again = self.plan()
        assert not again.operations, [f"{op.kind} {op.subject.name} {op.reason}" for op in again.operations]

    @rule()
    def a_cycle(self) -> None:
        plan = self.plan()
        past = self.past()
        judged = judge(plan, self.snapshot, past, LIMITS, POLICY.teams, Consent())
        assert judged.plan.effects == plan.effects
        managed = [a for a in self.snapshot.accounts.values() if a.managed and not a.gone]
        active = sum(a.active for a in managed)
        for kind, percent in ((Kind.DEACTIVATE_USER, 2), (Kind.REACTIVATE_USER, 5)):
            if kind is Kind.REACTIVATE_USER and not self.snapshot.reviewed:
                continue
            before = {e.operation.subject.key for e in past if e.counts and not e.undoes and e.operation.kind is kind}
            newly = {op.subject.key for op in judged.plan.operations if op.sent and self.counts(op, kind)}
            allowed = max(active * percent // 100, always_allowed(LIMITS, len(managed)))
            assert not newly or len(before | newly) <= allowed
        for op in judged.plan.operations:
            free = op.kind in (Kind.DEACTIVATE_USER, Kind.REACTIVATE_USER) and not self.counts(op, op.kind)
            on_return = op.kind is Kind.REACTIVATE_USER or op.rule is Rule.SUSPENDED
            assert op.sent or not (free and on_return and self.snapshot.reviewed), "an undoing change is held"
        self.send(judged.plan, counts=True)

    def counts(self, op: Operation, kind: Kind) -> bool:
        """Whether a change of access is neither back to what it was at some time of the window, nor a lock restored."""
        if op.kind is not kind:
            return False
        changes = [
            sent.kind is Kind.DEACTIVATE_USER
            for at, sent, _ in self.sent
            if at > self.now - LIMITS.window
            and sent.subject.key == op.subject.key
            and (sent.kind in (Kind.DEACTIVATE_USER, Kind.REACTIVATE_USER) or sent.rule is Rule.RETURNED)
        ]
        restores = op.kind is Kind.DEACTIVATE_USER and op.cause is Cause.DRIFT
        return not restores and (not changes or changes[-1] == (kind is Kind.DEACTIVATE_USER))

    @invariant()
    def nobody_has_two_accounts(self) -> None:
        owners = [a.jumpcloud_id for a in self.snapshot.accounts.values() if a.jumpcloud_id]
        assert len(owners) == len(set(owners))


History.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestHistory = History.TestCase


def test_an_account_is_in_line_after_what_it_shows() -> None:
    """The builder that the other tests rely on agrees with the diff."""
    person = user(1, direct=True)
    held = Snapshot({"k": replace(account(person), keeper_id="k")}, reviewed=True)
    decision = diff(directory([person]), held, POLICY, NOW, kind="cycle", source=SOURCE)
    assert not decision.plan.operations
