"""When Keeper's inventory is asked for and an approval tried, and what may be approved. Pure."""

from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from reconciler.model import DISPLAY_NAME, Snapshot, normal
from reconciler.plan import Notice, NoticeKind, Operation, Subject
from reconciler.policy import TeamPolicy
from reconciler.waiting import Waiting, waiting

INVENTORY = "keeper.inventory_command"
APPROVE = "teams.approve_command"
"""The two programs, as the settings name them."""

INVENTORY_AGE = timedelta(minutes=15)
"""An inventory so young is good enough while something waits."""

FIRST_PAUSE = timedelta(minutes=10)
LONGEST_PAUSE = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often the approval was tried since something was queued last, and when last."""

    count: int
    last_at: datetime


def inventory_due(snapshot: Snapshot, policy: TeamPolicy, now: datetime) -> bool:
    """Whether a cycle is to ask for the inventory: when it may tell something new. A resync asks anyway."""
    known = snapshot.inventory
    if known is None or snapshot.unsettled_teams:
        return True
    asked = [team.queued_at for team in snapshot.teams.values() if team.managed and not team.gone]
    asked += [m.asked_at for a in snapshot.accounts.values() for m in a.memberships.values() if m.ours]
    if any(at is not None and at > known.read_at for at in asked):
        return True
    return now - known.read_at >= INVENTORY_AGE and bool(waiting(snapshot, policy))


def hook_failed(name: str, problem: str) -> Notice:
    """The notice of a program that failed; the cycle goes on without it."""
    effect = {
        INVENTORY: "what is approved in Keeper stays unknown",
        APPROVE: "what waits in Keeper's Pending Queue goes on waiting",
    }[name]
    words = f"{problem}; {effect}. Try the program by hand as the user of the service, then see the log"
    return Notice(NoticeKind.HOOK_FAILED, Subject("command", name), words)


def approvable(
    snapshot: Snapshot, policy: TeamPolicy, operations: Iterable[Operation] = (), unclear: Set[str] = frozenset()
) -> list[Waiting]:
    """List what the approve command may approve: what waits of our teams. Left out are those that a person looks
    after, those whose group left the scope and those that the settings leave to themselves. Whom one of the plan's
    `operations` takes out is not approved, whatever became of it; nor who, or whose group, is `unclear` (JumpCloud
    ids)."""
    # By the address that the account has now: the same operation may have changed it.
    leavers = ((snapshot.accounts.get(op.subject.keeper_id), op.remove) for op in operations)
    taken = {(account.email, team.keeper_id) for account, teams in leavers if account for team in teams}
    unsure = {account.email for account in snapshot.accounts.values() if account.jumpcloud_id in unclear}
    found = []
    for one in waiting(snapshot, policy):
        if one.team.jumpcloud_id in unclear:
            continue
        members = tuple(m for m in one.members if m.email not in unsure and (m.email, one.team.keeper_id) not in taken)
        kept = replace(one, members=members)
        # Of a team that is left to itself, nobody is taken out who left its group.
        ours = one.team.left_at is None and policy.manages(normal(one.team.asked.get(DISPLAY_NAME, one.team.name)))
        if kept.approvable and ours and not policy.reviews(one.team.name):
            found.append(kept)
    return found


def approval_due(
    queued_now: bool, waits: Collection[Waiting], before: Attempts | None, now: datetime
) -> Attempts | None:
    """Whether the approve command is to be run now, as the attempt that this will be: at once after something was
    queued, then with growing pauses while something still waits."""
    if not waits:
        return None
    if queued_now or before is None:
        return Attempts(1, now)
    pause = min(FIRST_PAUSE * (1 << min(before.count - 1, 10)), LONGEST_PAUSE)
    return Attempts(before.count + 1, now) if now - before.last_at >= pause else None


def approval_document(tenant: str, waits: Collection[Waiting]) -> dict[str, Any]:
    """What the approve command gets: only teams that we manage, none of `teams.review`, only members whom JumpCloud
    wants in them."""
    return {
        "version": 1,
        "tenant": tenant,
        "teams": [
            {
                "id": found.team.keeper_id,
                "name": found.team.name,
                "queued": found.queued,
                "certain": found.certain,
                "members": [member.email for member in found.members if not member.invited],
            }
            for found in waits
        ],
    }
