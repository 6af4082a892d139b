"""The bond between a group and a new Keeper team: by birth only. Pure.

Keeper may answer the queueing of a team with one that is there already, as it does with users. A team is born by a
request if no earlier list had it and it carries no other group's id. Any other answer is refused: nothing is ours,
nobody is added, what the request changed is given back, and the team is not queued again while both names stay.
"""

from dataclasses import replace

from reconciler.model import (
    DISPLAY_NAME,
    EXTERNAL_ID,
    TEAM_ATTRIBUTES,
    Group,
    KeeperTeam,
    RefusedTeam,
    Snapshot,
    Team,
    has_ended,
    is_jumpcloud_id,
    normal,
)
from reconciler.plan import Cause, Change, Kind, Operation, Rule, Subject


def is_theirs(group_id: str, made: KeeperTeam, known: Team | None, *, listed: bool) -> bool:
    """Whether the team that answered a queueing is the group's.

    `known` is the team's row in the snapshot. `listed`: a list has shown a record of the team that is no row.
    """
    external = normal(made.attributes.get(EXTERNAL_ID, ""))
    # What is no JumpCloud id is what Keeper made of ours: it may make ids of its own.
    if is_jumpcloud_id(external) and external != group_id:
        return False
    return not listed if known is None else is_tied(known, group_id)


def is_tied(team: Team, group_id: str) -> bool:
    """Whether a team is the group's: by our knowledge where it is managed, else by the id that it showed."""
    return (team.jumpcloud_id if team.managed else team.shown.get(EXTERNAL_ID)) == group_id


def undoing(op: Operation, made: KeeperTeam, known: Team | None) -> Operation | None:
    """The operation that gives a team back what the last list showed; None where nothing is to be undone.

    `made` is the team as Keeper showed it after the request `op`. Of a team without a row only our id is taken back.
    """
    before = known.shown if known else {}
    changes = []
    for attribute in TEAM_ATTRIBUTES:
        have, was = made.attributes.get(attribute, ""), before.get(attribute, "")
        ours = known is not None or (attribute == EXTERNAL_ID and normal(have) == op.subject.jumpcloud_id)
        if ours and attribute not in made.unreadable and normal(have) != normal(was):
            changes.append(Change(attribute, have, was))
    if not changes:
        return None
    owner = known.jumpcloud_id if known and known.managed else ""
    subject = Subject("team", before.get(DISPLAY_NAME) or made.attributes.get(DISPLAY_NAME, made.id), owner, made.id)
    reason = f"the queueing of {op.subject.name} led to this team: undone"
    return Operation(Kind.RENAME_TEAM, subject, Cause.JUMPCLOUD, Rule.UNDONE, reason, tuple(changes))


def refused_words(name: str, other: str, owner: str) -> str:
    """Why no team was queued for the group `name`, and what to do, in an administrator's words.

    `other` is the name of the team that carries it, by Keeper's answer or by a later list. `owner` is the JumpCloud id
    of the group that has it, "" where it is not managed.
    """
    whose = f"which is the team of the JumpCloud group {owner}" if owner else "which was there before and is not ours"
    way = "" if owner else ', or take that team over: reconciler adopt --team "NAME"'
    return (
        f"The request for a team {name} led to the team {other}, {whose}. Nobody was added to it, and "
        f"{name} is not queued again while the two have these names. Rename one of the two{way}"
    )


def link_words(words: str, undo: Operation | None, undone: bool | None) -> str:
    """The words of a refused queueing, and what became of what the request changed of that team: `undone`, or None
    where it is being given back."""
    if undo is None or undone is None:
        return words
    given = "given back" if undone else "not given back yet, which is tried again"
    return f"{words}. The request changed its {' and '.join(one.attribute for one in undo.changes)}: {given}"


def refused(snapshot: Snapshot, group: Group) -> str:
    """Why the group's team is not queued again: Keeper answered with another team that is still there. "" if it may be.

    The refusal counts for the two names, and for as long as the other team is the same group's or nobody's.
    """
    birth = snapshot.refused_teams.get(group.id)
    if birth is None:
        return ""
    team = snapshot.teams.get(birth.keeper_id)
    if team is None:
        # Keeper was not listed since, or does not list that team.
        return birth.words if birth.name == group.name else ""
    if has_ended(team, birth.at) or team.takeover:
        return ""
    words = refused_words(group.name, team.name, team.jumpcloud_id)
    # While the team still carries the group's id, that id proves nothing.
    return words if words == birth.words or due(birth, team) is not None else ""


def due(birth: RefusedTeam, team: Team) -> Operation | None:
    """The part of an undo that is still to be done, None where nothing of it is."""
    if birth.undo is None or team.gone:
        return None
    changes = tuple(c for c in birth.undo.changes if normal(team.shown.get(c.attribute, "")) == normal(c.before))
    return replace(birth.undo, changes=changes) if changes else None


def left_by_link(snapshot: Snapshot, team: Team) -> bool:
    """Whether a queueing has left the id that a team bears there, so that it is to be taken back and ties nothing."""
    birth = snapshot.refused_teams.get(team.shown.get(EXTERNAL_ID, ""))
    undo = due(birth, team) if birth is not None and birth.keeper_id == team.keeper_id else None
    return undo is not None and any(change.attribute == EXTERNAL_ID for change in undo.changes)


def undone(team: Team, undo: Operation, reply: KeeperTeam | None) -> Team:
    """The team after Keeper took an undo: what was asked for by the reconciler stays as it was."""
    told = {name: value for name, value in reply.attributes.items() if value} if reply else {}
    return replace(team, shown={**team.shown, **{change.attribute: change.after for change in undo.changes}, **told})
