"""When Keeper's inventory is asked for and an approval tried, and what may be approved. Pure."""

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from reconciler.model import Directory, Snapshot
from reconciler.plan import Notice, NoticeKind, Subject
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


def wanted_members(directory: Directory, policy: TeamPolicy) -> dict[str, frozenset[str]]:
    """By the id of each group in scope that is to be a team, the ids of the people in scope who are in it for sure."""
    wanted: dict[str, set[str]] = {g.id: set() for g in directory.groups.values() if policy.manages(g.name)}
    for user in directory.users.values():
        if user.in_scope and not user.teams_unknown:
            for group_id in user.groups & wanted.keys():
                wanted[group_id].add(user.id)
    return {group_id: frozenset(people) for group_id, people in wanted.items()}


def approvable(snapshot: Snapshot, policy: TeamPolicy, wanted: Mapping[str, Set[str]]) -> list[Waiting]:
    """List what the approve command may approve: what waits of the teams of groups that are `wanted`, and of the people
    whom JumpCloud wants in each, as `wanted_members` has them. Left out are the teams that a person looks after."""
    found = []
    for one in waiting(snapshot, policy):
        people = wanted.get(one.team.jumpcloud_id)
        if people is None or policy.reviews(one.team.name):
            continue
        kept = replace(one, members=tuple(member for member in one.members if member.jumpcloud_id in people))
        if kept.approvable:
            found.append(kept)
    return found


def untold(snapshot: Snapshot, policy: TeamPolicy, directory: Directory) -> bool:
    """Whether something waits of which this read does not tell whether JumpCloud wants it."""
    unclear = directory.unclear
    about = ({one.team.jumpcloud_id, *(m.jumpcloud_id for m in one.members)} for one in waiting(snapshot, policy))
    return any(directory.unread or ids & unclear for ids in about)


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
