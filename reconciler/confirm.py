"""The confirming reads: nobody loses anything because they are *missing* from a list.

Before anyone is deactivated or taken out of a team, a point read of that one person must say so. Where it disagrees or
fails, that part is put off and reported; everything else goes on.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from reconciler.jumpcloud import JumpCloud, JumpCloudError
from reconciler.model import EXTERNAL_ID, Status, Team
from reconciler.pairs import tied_to
from reconciler.plan import Kind, Notice, NoticeKind, Operation, Rule, Subject, TeamRef
from reconciler.safety import Judged, divided


@dataclass(frozen=True, slots=True)
class _Doubt:
    """What of an operation was not confirmed, and why."""

    whole: bool
    teams: tuple[TeamRef, ...]
    words: str


async def confirm(judged: Judged, jumpcloud: JumpCloud, groups: Collection[str], teams: Mapping[str, Team]) -> Judged:
    """The plan with everything put off that takes something away and was not confirmed.

    `groups` are the ids of the groups in scope, as the plan has them; `teams` stand as they did before the plan.
    """
    plan = judged.plan
    taking = [
        (number, op)
        for number, op in enumerate(plan.operations)
        if op.sent and (op.kind in (Kind.DEACTIVATE_USER, Kind.DELETE_TEAM) or op.remove or _left(op, groups, teams))
    ]
    if not taking:
        return judged
    doubts = dict(
        zip(
            (number for number, _ in taking),
            await asyncio.gather(*(_doubt(op, jumpcloud, groups, teams) for _, op in taking)),
            strict=True,
        )
    )
    return _put_off(judged, {number: doubt for number, doubt in doubts.items() if doubt is not None})


def _left(op: Operation, groups: Collection[str], teams: Mapping[str, Team]) -> str:
    """The id of the group that loses its team by the operation, since it is in scope no more; else ""."""
    if op.kind is Kind.DELETE_TEAM:
        return op.subject.jumpcloud_id
    if op.kind is not Kind.RENAME_TEAM or not teams[op.subject.keeper_id].managed:
        return ""
    former = next((change.before for change in op.changes if change.attribute == EXTERNAL_ID), "")
    return former if former not in groups else ""


async def _doubt(
    op: Operation, jumpcloud: JumpCloud, groups: Collection[str], teams: Mapping[str, Team]
) -> _Doubt | None:
    try:
        if op.kind is Kind.DEACTIVATE_USER:
            words = await _why_not_lock(op.subject, op.rule, jumpcloud)
            return _Doubt(True, (), words) if words else None
        if left := _left(op, groups, teams):
            there = left in await jumpcloud.groups_in_scope()
            words = "missing from the groups in scope, but there when they are read again"
            return _Doubt(True, (), words) if there else None
        return await _teams_in_doubt(op, jumpcloud, groups, teams)
    except JumpCloudError as error:
        return _Doubt(op.kind is not Kind.UPDATE_USER, op.remove, f"the confirming read failed: {error}")


async def unconfirmed_locks(leavers: Iterable[Subject], jumpcloud: JumpCloud) -> tuple[Notice, ...]:
    """Of the users whose lock in Keeper a first plan takes for ours, since the lists say that they have left, those for
    whom a point read does not say so too: an administrator may have locked them, and their lock must stay."""
    leavers = tuple(leavers)
    found = await asyncio.gather(*(_lock_in_doubt(subject, jumpcloud) for subject in leavers))
    return tuple(
        Notice(
            NoticeKind.UNCONFIRMED,
            subject,
            f"locked in Keeper, and {words}; the lock counts as somebody else's. To undo it: "
            f"reconciler resync {subject.name} --unlock",
        )
        for subject, words in zip(leavers, found, strict=True)
        if words
    )


async def _lock_in_doubt(subject: Subject, jumpcloud: JumpCloud) -> str:
    try:
        return await _why_not_lock(subject, Rule.LEFT, jumpcloud)
    except JumpCloudError as error:
        return f"the read that should confirm that they have left failed: {error}"


async def _why_not_lock(subject: Subject, rule: Rule, jumpcloud: JumpCloud) -> str:
    if not subject.jumpcloud_id:
        # Taken over by a person as somebody whom JumpCloud does not know.
        person = await jumpcloud.person(email=subject.name)
        there = person is not None and person.user.belongs
        return "somebody in scope has this address when it is looked for alone" if there else ""
    status = await jumpcloud.status_of(subject.jumpcloud_id)
    if rule is Rule.HIDDEN:
        return "" if status is None else "without a record before, but there when read alone"
    if rule is Rule.SUSPENDED:
        return "" if status is Status.SUSPENDED else "read again, the own record does not say suspended"
    if status is Status.SUSPENDED:
        return ""
    if rule is Rule.DELETED and status is not None:
        return "missing from the list of users, but there when read alone"
    paths = await jumpcloud.application_paths(subject.jumpcloud_id)
    return "missing from the scope, but bound to the application when read alone" if paths.bound else ""


async def _teams_in_doubt(
    op: Operation, jumpcloud: JumpCloud, groups: Collection[str], teams: Mapping[str, Team]
) -> _Doubt | None:
    user_id = op.subject.jumpcloud_id
    member_of, paths = await asyncio.gather(jumpcloud.groups_of(user_id), jumpcloud.application_paths(user_id))
    # A list of paths may be cut, so a missing path tells something of a group that left the scope only: whoever is a
    # member of a group that is in scope stays in its team. A team that a namesake takes over is its former group's too.
    kept = {group for group in member_of if group in groups or group in paths.groups or paths.unclear}
    still = tuple(team for team in op.remove if kept & {team.jumpcloud_id, tied_to(teams[team.keeper_id])})
    if not still:
        return None
    names = ", ".join(team.name for team in still)
    return _Doubt(False, still, f"missing from {names} in the list, but a member when read alone")


def _put_off(judged: Judged, doubts: Mapping[int, _Doubt]) -> Judged:
    if not doubts:
        return judged

    def divide(number: int, op: Operation) -> tuple[Operation | None, Operation | None]:
        doubt = doubts.get(number)
        if doubt is None:
            return op, None
        return (None, op) if doubt.whole else op.divided((), doubt.teams)

    found = [(judged.plan.operations[number].subject, doubt) for number, doubt in doubts.items()]
    notices = tuple(
        Notice(NoticeKind.UNCONFIRMED, subject, f"{doubt.words}; put off until the next cycle")
        for subject, doubt in found
    )
    sure = divided(judged, divide)
    return replace(sure, plan=replace(sure.plan, notices=(*sure.plan.notices, *notices)))
