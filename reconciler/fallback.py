"""A cycle whose list of Keeper could not be had: it goes on from the snapshot, with less. Pure.

Nobody is created or adopted, no team is queued or deleted, and whoever has an operation without a known outcome is
locked at most. What gets another owner once Keeper is listed stays as it is.
"""

from collections.abc import Iterable
from dataclasses import replace

from reconciler.model import Directory, Snapshot, by_group
from reconciler.pairs import Match, retied, without_teams
from reconciler.plan import Kind, Notice, NoticeKind, Operation, Subject

_CREATES = frozenset({Kind.CREATE_USER, Kind.QUEUE_TEAM})


def without_adoptions(found: Match, directory: Directory, snapshot: Snapshot) -> Match:
    """The pairs without those that were not in the snapshot: they rest on what Keeper held some time ago."""
    teams, fresh = retied(snapshot.teams, found.teams), retied(snapshot.accounts, found.accounts)
    accounts = without_teams({**found.accounts, **fresh}, snapshot.accounts, teams)
    account_of = {user_id: k for user_id, k in found.account_of.items() if k not in fresh}
    account_of |= {a.jumpcloud_id: k for k, a in fresh.items() if a.managed and a.jumpcloud_id in directory.users}
    team_of = {group_id: k for group_id, k in found.team_of.items() if k not in teams}
    mine = by_group(teams.values()).items()
    team_of |= {group_id: team.keeper_id for group_id, team in mine if group_id in directory.groups}
    return replace(
        found,
        accounts=accounts,
        teams={**found.teams, **teams},
        account_of=account_of,
        team_of=team_of,
        adopted=[k for k in found.adopted if k not in fresh],
        named_teams=set(),
    )


def from_snapshot(op: Operation) -> Operation | None:
    """The part of an operation that the snapshot is enough for, None where there is none."""
    if op.kind in _CREATES:
        return None
    queued = tuple(team for team in op.add if team.keeper_id)
    return replace(op, add=queued) if op.changes or queued or op.remove else None


def waits(op: Operation) -> Notice | None:
    """The notice of what is not made in such a cycle, None for an operation that makes nothing."""
    if op.kind not in _CREATES:
        return None
    return Notice(NoticeKind.QUARANTINED, op.subject, _NOT_CREATED if op.kind is Kind.CREATE_USER else _NOT_QUEUED)


def not_made(notices: Iterable[Notice]) -> list[str]:
    """The names of the people and teams that are not made in such a cycle, by its notices."""
    return [one.subject.name for one in notices if one.message in (_NOT_CREATED, _NOT_QUEUED)]


ANOTHER_OWNER = (
    "a person has given this Keeper user to somebody else, or Keeper has shown that it is somebody else's: it is not "
    "locked, and nothing is changed about it, before Keeper can be listed"
)
"""The words for an account that gets another owner once Keeper is listed."""
NOT_ADOPTED = (
    "in Keeper, and not taken over: Keeper could not be listed, so it may be somebody else's by now. It is taken over "
    "once Keeper can be listed, if it is not"
)
"""The words for an account that is adopted once Keeper is listed."""
_LISTS = Subject("list", "Keeper's lists of users and teams")
_NOT_CREATED = (
    "in scope, and not created: Keeper could not be listed, so an account of theirs may be there. They are created "
    "once it can be"
)
_NOT_QUEUED = "not queued: Keeper could not be listed, so a team of this name may be there. It is queued once it can be"


def notice(why: str) -> Notice:
    """The notice of such a cycle; `why` says which list could not be had, and what to do."""
    words = (
        "nobody was created or adopted, no team was queued, and nothing but locks was sent for subjects whose last "
        f"operation has no known outcome: the cycle went on from what was last read of Keeper, and the next one "
        f"lists Keeper again. {why.rstrip('. ')}"
    )
    return Notice(NoticeKind.QUARANTINED, _LISTS, words)


def unlisted(notices: Iterable[Notice]) -> bool:
    """Whether Keeper could not be listed, by the notices of a plan."""
    return any(one.subject == _LISTS for one in notices)
