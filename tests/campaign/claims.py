"""The claims of `leavers`, `status` and the alerts once a fault-free resync has read everything, held against the truth
(t)."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler.alerts import HISTORY, TOLD_WHEN_DONE, AlertKind, Fact, Situation, facts
from reconciler.plan import Plan
from reconciler.promise import ACTIVE_THEN, UNKNOWN_LOCK, WITHDRAWN
from reconciler.report import leavers, status
from reconciler.rows import JournalRow
from reconciler.simulator.keeper_records import Account
from reconciler.store import Store
from tests.campaign.rules import NODES
from tests.campaign.world import World

ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)
GRAIN = timedelta(minutes=2)
"""Clocks that differ by so much are not corrected."""


def judge(world: World, store: Store, plan: Plan) -> None:
    """Hold every claim against the truth. `plan` is that of the resync."""
    settings, now = world.rules.settings(world.folder), world.time.now()
    entries = leavers.document(store, settings.policy(), ALWAYS, now)["leavers"]
    for entry in entries:
        for words in _untrue(world, entry):
            world.observer.violated("t", f"leavers says of {entry['email']}: {entry['state']}, and {words}")
    for email in _left_out(world, {entry["keeper_id"] for entry in entries}):
        world.observer.violated("t", f"leavers does not name {email}, whom we have locked")
    found = status.document(store, settings, now)
    here = _here(world)
    managed = [k for k, account in store.snapshot().accounts.items() if account.managed and not account.gone]
    active = sum(k in here and here[k].active for k in managed)
    if found["users"]["active"] != active:
        words = f"status says that {found['users']['active']} managed people are active, and {active} are"
        world.observer.violated("t", words)
    locked, told = len(managed) - active, found["users"]["locked_by_us"] + found["users"]["locked_by_others"]
    if told != locked:
        world.observer.violated("t", f"status says that {told} managed people are locked, and {locked} are")
    done, age = store.done_since(now - HISTORY, TOLD_WHEN_DONE), settings.teams.queue_age
    last = Situation(now, store.snapshot(), settings.policy(), age, plan, done=done, passed=store.open_kinds(now))
    _judge_alerts(world, facts(last), done, here)


def _left_out(world: World, named: Collection[str]) -> list[str]:
    """The addresses of leavers whom we have locked, and whom nothing names."""
    ledger, truth = world.observer.ledger, world.truth
    locked = {k: account for k, account in _here(world).items() if account.locked and k in ledger.own_locks}
    left = {k: a for k, a in locked.items() if not any(map(truth.stays, world.observer.who(a)))}
    return [account.email for k, account in left.items() if not (k in ledger.disowned or k in named)]


def _judge_alerts(world: World, told: list[Fact], done: list[JournalRow], here: dict[str, Account]) -> None:
    rows = {f"done:{row.id}": row for row in done}
    for fact in told:
        wrong = _untrue_of_done(world, fact, rows[fact.key]) if fact.past else _untrue_now(world, here, fact)
        if wrong:
            world.observer.violated("t", f"an alert says of {fact.name}: {fact.kind.value}, {fact.text}; {wrong}")


def _untrue_now(world: World, here: dict[str, Account], fact: Fact) -> str:
    account = here.get(fact.key)
    if fact.kind is AlertKind.LEAVER_ACTIVE and ("still active" in fact.text or UNKNOWN_LOCK in fact.text):
        return "" if account and account.active else "the account is not active"
    if fact.kind is AlertKind.LEAVER_ACTIVE and ACTIVE_THEN not in fact.text:
        return "the account is in this node" if account else ""
    if fact.kind is AlertKind.LOCKED_BY_OTHERS and account is None and "vanished from this node" in fact.text:
        observer = world.observer
        true = observer.left_locked(fact.key) or observer.left_locked_of(fact.key)
        return "" if true else "the account was not locked when it was last in this node"
    if fact.kind in (AlertKind.LOCKED, AlertKind.LOCKED_BY_OTHERS):
        return "" if account and account.locked else "the account is not locked"
    return ""


def _untrue_of_done(world: World, fact: Fact, row: JournalRow) -> str:
    about, owner = row.operation.subject, world.observer.ledger.owner
    # A creation is sent under no Keeper id.
    accounts = [about.keeper_id] if about.keeper_id else [k for k in owner if owner[k] == about.jumpcloud_id]
    fate = sorted(how for k in accounts for how in world.observer.fates.get(k, []))
    if not world.time.right:
        return ""
    if fact.kind is AlertKind.DEACTIVATED and not _without_access(fate, row.at):
        return f"access had not ended at {row.at}"
    if fact.kind is AlertKind.UNLOCKED and all(how != "active" for how in _about(fate, row.at)):
        sent = world.observer.ledger.sent.get(row.id)
        # One that came into the node after a creation without an answer counts as created by that.
        if not (sent and sent.effects) and world.observer.ledger.readdressed.keys() & {*accounts}:
            world.observer.excuse(4)
            return ""
        return f"the account was not active at {row.at}"
    return ""


def _here(world: World) -> dict[str, Account]:
    return {k: account for k, account in world.keeper.accounts().items() if account.node == NODES[0]}


def _untrue(world: World, entry: dict[str, Any]) -> list[str]:
    """Describe the fault of one claim."""
    account, state = _here(world).get(entry["keeper_id"]), entry["state"]
    wrong = []
    if state == "locked" and (account is None or account.active):
        wrong.append("the account is not locked")
    if state in ("gone", "not_verifiable") and account is not None:
        wrong.append("the account is in this node")
    if state in ("not_yet", "unlocked_again") and (account is None or account.locked):
        wrong.append("the account is not active")
    fate = world.observer.fates.get(entry["keeper_id"] or "", [])
    if entry["because"] == WITHDRAWN and not any(how == "withdrawn" for _, how in fate):
        wrong.append("no invitation was withdrawn")
    confirmed = entry["confirmed_at"] and datetime.fromisoformat(entry["confirmed_at"])
    if confirmed and world.time.right and not _without_access(fate, confirmed):
        wrong.append(f"access had not ended at {confirmed}")
    return wrong


def _without_access(fate: list[tuple[datetime, str]], at: datetime) -> bool:
    """Whether the account was without access about that time."""
    return any(how != "active" for how in _about(fate, at))


def _about(fate: list[tuple[datetime, str]], at: datetime) -> list[str]:
    """Collect how the account was shortly before and after that time."""
    last = max((when for when, _ in fate if when <= at - GRAIN), default=at)
    before = [how for when, how in fate if when == last < at]  # at one moment it may have been more than one
    return [*before, *(how for when, how in fate if at - GRAIN < when <= at + GRAIN)]
