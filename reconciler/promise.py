"""The promise, as far as it is not kept: who in scope is locked out, who left and is not verifiably locked. Pure.

Alerts, reports, metrics and exit codes count the same people, since they all count them here.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from reconciler import addresses
from reconciler.addresses import alike_key
from reconciler.counting import count
from reconciler.keeper_quarantine import hides_lock
from reconciler.model import Account, Inventory, Snapshot, Standing
from reconciler.pilot import left_outside
from reconciler.plan import Kind, NoticeKind, Plan
from reconciler.policy import OutOfScope, Policy

INVENTORY_LASTS = timedelta(days=1)
"""An inventory so young tells whether a locked account was only invited."""
WITHDRAWN = "only invited, as Keeper's inventory showed: the invitation was withdrawn by the lock"
WITHDRAWN_OR_DELETED = "withdrawn or deleted, not known which"
"""The words for an account that Keeper does not show any more after it took the lock."""
REMOVED = "it was no invitation: Keeper deleted or moved the account when it was to lock it"
NOT_HERE = "not in this Keeper node any more: withdrawn, deleted or moved, not known which"
"""The words for an account whose lock Keeper answered with 404 or 410: nothing about access elsewhere."""
NOT_HERE_PREFIX = NOT_HERE.partition(":")[0]
"""The beginning of these words in every version."""
UNKNOWN_LOCK = "not known to be locked"
"""The words for somebody whose last lock, or unlock, had no clear answer: it may have taken effect, or may still."""
ACTIVE_THEN = "active when last read"
"""The words for somebody who was active when it could be read last."""
UNVERIFIED = "not verifiable"
"""The mark of such a lock in the report of a run."""
WAS_LOCKED = "somebody else had locked the account before, so no lock was sent"
"""The words for a lock that was not needed."""
NOT_NEEDED = "not needed"
"""The mark of such a lock in the report of a run."""

_SHUT = frozenset({"Locked", "Disabled"})
"""Statuses with which Keeper's inventory says that somebody can't log in."""


class Lack(StrEnum):
    """The things that a person or team goes without while an operation keeps failing, the worst first."""

    LOCKED = "in_scope_and_locked"
    NO_ACCOUNT = "in_scope_without_account"
    ACTIVE = "out_of_scope_and_active"
    CHANGES = "changes"
    TEAM = "team"


_LACKS = {
    Kind.REACTIVATE_USER: Lack.LOCKED,
    Kind.CREATE_USER: Lack.NO_ACCOUNT,
    Kind.DEACTIVATE_USER: Lack.ACTIVE,
    Kind.UPDATE_USER: Lack.CHANGES,
}
UNPAUSED = frozenset({Lack.LOCKED, Lack.ACTIVE})
"""The lacks whose operations wait for no pause after a failure."""
_LACK_WORDS = {
    Lack.LOCKED: "in scope and locked",
    Lack.NO_ACCOUNT: "in scope without an account",
    Lack.ACTIVE: f"out of scope and {UNKNOWN_LOCK}",
    Lack.CHANGES: "with changes not made",
}


def failing(plan: Plan, states: Mapping[int, str], *, newly: bool = True) -> dict[str, Lack]:
    """Return who fails, by subject key, with what they lack: before and not done since, and, where `newly`, now.

    `states` has the outcome of each operation that was sent, by its index in the plan. What is held fails at nothing.
    """
    before = {notice.subject.key for notice in plan.notices if notice.kind is NoticeKind.FAILING}
    held = plan.held_indices
    found: dict[str, Lack] = {}
    worst = list(Lack)
    for number, op in enumerate(plan.operations):
        state = states.get(number, "")
        if (newly and state == "failed") or (op.subject.key in before and state != "done" and number not in held):
            lack = Lack.TEAM if op.subject.type == "team" else _LACKS[op.kind]
            found[op.subject.key] = min(lack, found.get(op.subject.key, lack), key=worst.index)
    return found


def failing_words(lacks: Iterable[str]) -> str:
    """Say how many fail and what they lack, as in "700 people: 600 in scope and locked"; "" for nobody."""
    counts = Counter(map(Lack, lacks))
    teams = counts.pop(Lack.TEAM, 0)
    people = sum(counts.values())
    parts = [f"{counts[lack]} {words}" for lack, words in _LACK_WORDS.items() if counts[lack]]
    who = [count(people, "person")] if people else []
    who += [count(teams, "team")] if teams else []
    return " and ".join(who) + (f": {', '.join(parts)}" if parts else "")


def joined(inventory: Inventory | None, address: str, now: datetime) -> bool | None:
    """Whether an account was more than an invitation, by an inventory younger than a day; None where that is not
    known."""
    if inventory is None or now - inventory.read_at >= INVENTORY_LASTS:
        return None
    key = alike_key(address)
    return key not in inventory.invited if inventory.users.get(key) else None


def not_here(words: str) -> bool:
    """Whether the words of a lock, as any version recorded them, say that the account was not in this node."""
    return words.startswith(NOT_HERE_PREFIX)


def state_told(state: str, error: str) -> str:
    """The state of an operation as a report tells it: nobody can say of a lock that met no account that it is done, and
    one that was not needed was not sent."""
    if state != "done":
        return state
    return UNVERIFIED if not_here(error) else NOT_NEEDED if error == WAS_LOCKED else state


def left_node_words(member: bool | None) -> str:
    """Say what became of an account that is gone after Keeper took its lock; one 404 tells nothing."""
    return {True: REMOVED, False: WITHDRAWN, None: WITHDRAWN_OR_DELETED}[member]


def leavers(snapshot: Snapshot) -> list[Account]:
    """Return the managed people out of scope who are not verifiably locked: active, or not in this node. Whom we may
    have let in, by an unlock without a known outcome, counts as active."""
    left = (a for a in snapshot.accounts.values() if a.managed and a.left_at)
    left = (replace(a, active=True) if not a.gone and a.keeper_id in snapshot.open_unlocks else a for a in left)
    found = [a for a in left if a.active or a.gone]
    if gone := [a for a in found if a.gone]:
        lists_ours = _lists_ours(snapshot)
        open_questions = {
            a.keeper_id for a in gone if not (_left_locked(snapshot, a) or _answered(snapshot, a, lists_ours))
        }
        found = [a for a in found if not a.gone or a.keeper_id in open_questions]
    return sorted(found, key=lambda account: (account.email.casefold(), account.keeper_id))


def _left_locked(snapshot: Snapshot, account: Account) -> bool:
    """Whether an account that is gone was locked when Keeper showed it last, after its person had left. Who was back
    and left again since may have been let in elsewhere, or by an unlock that had no answer."""
    left, missed = account.left_at, account.missed_at
    known = account.was_locked and account.keeper_id not in snapshot.open_unlocks
    return known and (left is None or missed is None or left < missed)


def kept(account: Account, policy: Policy, merely_left: Collection[str]) -> bool:
    """Whether the settings keep a leaver as they are; `merely_left`: see `alerts.merely_left`."""
    return policy.out_of_scope is OutOfScope.KEEP and account.keeper_id in merely_left


def spared(account: Account, policy: Policy, merely_left: Collection[str]) -> bool:
    """Whether a leaver is not ours to lock: protected, outside the pilot, or kept by the settings."""
    return bool(account.protected_as) or left_outside(policy, account) or kept(account, policy, merely_left)


def access_words(snapshot: Snapshot, account: Account, *, failing: bool) -> str:
    """Say how far it is known that a leaver who is in this node is active. `failing`: cycles fail now. A restored state
    file tells how it was then, and a record that does not show whether it is locked counts as it did before."""
    if account.keeper_id in snapshot.own_locks | snapshot.open_locks | snapshot.open_unlocks:
        return UNKNOWN_LOCK
    before = failing or snapshot.read_at is None or hides_lock(snapshot, account.keeper_id)
    return ACTIVE_THEN if before else "still active"


def invited_again(snapshot: Snapshot) -> frozenset[str]:
    """The Keeper ids of accounts that are gone, and whose address an active one has that nobody manages: somebody may
    have invited the person again by hand."""
    accounts = snapshot.accounts.values()
    strangers = (one for one in accounts if one.standing is Standing.UNMANAGED and one.active and not one.gone)
    there = {addresses.same_key(one.email) for one in strangers}
    lost = (one for one in accounts if one.gone and one.email)
    return frozenset(one.keeper_id for one in lost if addresses.same_key(one.email) in there)


def whereabouts(snapshot: Snapshot, account: Account, *, again: bool = False) -> str:
    """Say what is known of a leaver whose account is not in this node and was never seen locked. `again`: it is one of
    those `invited_again`."""
    if again:
        return (
            "not verifiable: that account is not in this node; a new Keeper user with the same address is, active and "
            "not managed"
        )
    inventory = snapshot.inventory
    status = _status(inventory, account) if inventory and _fresh(inventory, account) else ""
    where = f"; Keeper's inventory shows them as {status.lower()} outside this node" if status else ""
    return f"not verifiable: not in this node{where}"


def _answered(snapshot: Snapshot, account: Account, lists_ours: bool) -> bool:
    """Whether the inventory tells that access ended: it shows a lock, or the account nowhere in the enterprise. Only an
    id that it lacks proves that: the account may have another address by now."""
    inventory = snapshot.inventory
    if inventory is None or not _fresh(inventory, account):
        return False
    if status := _status(inventory, account):
        return status in _SHUT
    return lists_ours and account.keeper_id not in inventory.ids


def _lists_ours(snapshot: Snapshot) -> bool:
    """Whether the inventory has the ids of everybody active of ours. One that lacks any has other ids, or was taken
    with too few rights: what it lacks proves nothing."""
    ours = {a.keeper_id for a in snapshot.accounts.values() if a.managed and a.active and not a.gone}
    return snapshot.inventory is not None and bool(ours) and snapshot.inventory.ids.keys() >= ours


def _status(inventory: Inventory, account: Account) -> str:
    """The status that an inventory shows of an account: by its id, else by its address; "" where it shows none."""
    return inventory.ids.get(account.keeper_id) or inventory.users.get(alike_key(account.email), "")


def _fresh(inventory: Inventory, account: Account) -> bool:
    return account.left_at is not None and inventory.read_at >= account.left_at
