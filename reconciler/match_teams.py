"""Which team is whose group's: by id, by `externalId`, then by name. Pure."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from reconciler.counting import count
from reconciler.keeper_quarantine import blocked_groups
from reconciler.model import (
    DISPLAY_NAME,
    EXTERNAL_ID,
    Directory,
    Group,
    Snapshot,
    Standing,
    Team,
    by_group,
    is_jumpcloud_id,
    normal,
)
from reconciler.pairs import Match, tied_since, tied_to
from reconciler.policy import Policy
from reconciler.team_births import left_by_link, refused

MAX_TEAM_NAME = 185
"""Characters that a team's name may have. Assumed: Keeper's encrypted fields are refused at a little above that."""


def wanted_team_attributes(group: Group) -> dict[str, str]:
    """The SCIM attributes that the team of a group should have."""
    return {DISPLAY_NAME: group.name, EXTERNAL_ID: group.id}


def match_teams(result: Match, directory: Directory, snapshot: Snapshot, policy: Policy) -> None:
    """Pair the groups; the accounts in the result learn which memberships came with a team that is adopted."""
    linked = by_group(snapshot.teams.values())
    _give_back(result, linked, directory, snapshot, policy)
    free = [t for _, t in sorted(snapshot.teams.items()) if not t.managed and not t.gone]
    by_external: dict[str, list[Team]] = defaultdict(list)
    by_name: dict[str, list[Team]] = defaultdict(list)
    orphans: dict[str, list[Team]] = defaultdict(list)
    for team in free:
        if not left_by_link(snapshot, team):
            by_external[_owner(team)].append(team)
        by_name[normal(team.name)].append(team)
    known = {*directory.groups, *directory.unclear_groups}
    for _, team in sorted(snapshot.teams.items()):
        tie = team.jumpcloud_id if left_by_link(snapshot, team) else tied_to(team)
        if team.managed and not team.gone and known.isdisjoint((team.jumpcloud_id, tie)):
            for name in {normal(team.name), normal(team.asked.get(DISPLAY_NAME))} - {""}:
                orphans[name].append(team)

    adopt = policy.teams.adopt == "always" or (policy.teams.adopt == "first-run" and not snapshot.reviewed)
    # What the review of the first plan lacked is looked at once there is something to look at.
    late = policy.teams.adopt == "first-run" and snapshot.reviewed and snapshot.teams_open
    claimed: dict[str, str] = {}
    for team, owner in [(t, t.jumpcloud_id) for t in linked.values()] + [(t, _owner(t)) for t in free]:
        if owner in directory.unclear_groups:
            claimed[normal(team.name)] = owner
    for group in (directory.groups[group_id] for group_id in sorted(directory.groups)):
        if not policy.teams.manages(group.name):
            continue
        old = linked.get(group.id)
        # One that never showed may be gone, as after an old copy of the state file was restored, or rejected in the
        # queue; what Keeper shows under the group's id, or a person named, is there.
        replaced = old is not None and not old.seen and (group.id in by_external or _named(by_name, group))
        if old is not None and not old.gone and not replaced:
            result.team_of[group.id] = old.keeper_id
            claimed.setdefault(normal(group.name), group.id)
    blocked = blocked_groups(directory, snapshot)
    for group in _unpaired(directory, policy, result):
        if group.id in blocked:
            result.team_conflicts[group.id] = blocked[group.id]
    for group in _unpaired(directory, policy, result):
        birth = snapshot.refused_teams.get(group.id)
        met = snapshot.teams.get(birth.keeper_id) if birth else None
        if met is not None and met.takeover and not (met.managed or met.gone):
            _link_team(result, group, met, None)
        elif words := refused(snapshot, group):
            result.team_conflicts[group.id] = words
    for group in _unpaired(directory, policy, result):
        if same_id := by_external.get(group.id, []):
            _link_team(result, group, _most_held(same_id, result), linked.get(group.id))
            claimed.setdefault(normal(group.name), group.id)
    for group in _unpaired(directory, policy, result):
        old = linked.get(group.id)
        # A team that is gone gives way to the one that a person made in its place, and named.
        named = old is not None and (old.gone or not old.seen) and _named(by_name, group)
        if old is not None and not named:
            result.team_of[group.id] = old.keeper_id
        elif former := [t for t in orphans.get(group.name, ()) if t.keeper_id not in result.team_of.values()]:
            _succeed(result, group, former, directory.gone_groups)
        elif (other := claimed.get(group.name)) in directory.unclear_groups:
            result.team_conflicts[group.id] = (
                f"the Keeper team of this name is that of the JumpCloud group {other}, which can't be read now; this "
                f"group is {group.id}. Nothing was queued and nobody added. Rename one of the two groups"
            )
        elif other is not None:
            result.team_conflicts[group.id] = (
                f"the JumpCloud group {other} in scope has the same name, {_spelling(group, directory.groups[other])}; "
                f"only one of them is a Keeper team, and not this one ({group.id}). Rename one"
            )
        else:
            # A team that carries the id of another group in scope is that group's, whatever its name.
            namesakes = [t for t in by_name.get(group.name, []) if t.shown.get(EXTERNAL_ID) not in known]
            _match_by_name(result, group, namesakes, adopt or late, directory.gone_groups)
            if late and len(namesakes) == 1 and group.id in result.team_of and not namesakes[0].takeover:
                result.named_teams.add(namesakes[0].keeper_id)
            if old is not None and not old.gone and group.id in result.team_of:
                result.teams.pop(old.keeper_id)
        claimed.setdefault(group.name, group.id)
    _forget_consents(result, directory)
    _keep_whom_they_hold(result, snapshot)


def _named(by_name: Mapping[str, list[Team]], group: Group) -> bool:
    """Whether a person named the one team of the group's name with `adopt --team`."""
    found = by_name.get(group.name, [])
    return len(found) == 1 and found[0].takeover


def _forget_consents(result: Match, directory: Directory) -> None:
    """End what a person asked for with `adopt --team` and this read had no group for: a group that gets the name some
    day is not meant. While a list lacks groups, or a team of the name is not known to be gone, that is open."""
    if directory.unread or directory.unclear_groups:
        return
    missing = {normal(team.name) for team in result.teams.values() if team.managed and team.missing}
    for team_id, team in result.teams.items():
        if team.takeover and normal(team.name) not in missing:
            result.teams[team_id] = replace(team, takeover=False)


def _give_back(
    result: Match, linked: dict[str, Team], directory: Directory, snapshot: Snapshot, policy: Policy
) -> None:
    """A group that is back in scope has its team again, where no tie to the namesake that was to take it arrived.
    Likewise a group to which the team was tied before an old copy of the state file was restored, unless the group that
    the copy names is in scope. An id that a queueing has left there, and that is to be taken back, is no tie."""
    known = {*directory.groups, *directory.unclear_groups}
    for group_id, team in sorted(linked.items()):
        home = directory.groups.get(tied_to(team))
        if team.gone or home is None or home.id in linked or not policy.teams.manages(home.name):
            continue
        if tied_since(team) and group_id in known:
            continue
        if left_by_link(snapshot, team):
            continue
        del linked[group_id]
        linked[home.id] = replace(team, jumpcloud_id=home.id, asked={}, settled={})
        result.teams[team.keeper_id] = linked[home.id]


def _most_held(teams: list[Team], result: Match) -> Team:
    """Of the teams that bear one group's id, as several do after a lost state file, the one that gives most people what
    is shared with it. Each was asked for on the group's behalf, and to queue yet another would help nobody."""
    if len(teams) == 1:
        return teams[0]
    held = Counter(t for a in result.accounts.values() if not a.gone for t, m in a.memberships.items() if m.shown)
    return max(teams, key=lambda team: held[team.keeper_id])


def _keep_whom_they_hold(result: Match, snapshot: Snapshot) -> None:
    """Whoever is in a team that is adopted by its name keeps what is shared with it."""
    adopted = {
        team_id
        for group_id, team_id in result.team_of.items()
        if not snapshot.teams[team_id].managed and snapshot.teams[team_id].shown.get(EXTERNAL_ID) != group_id
    }
    for keeper_id, account in result.accounts.items() if adopted else ():
        kept = {t: replace(m, found=True) for t, m in account.memberships.items() if t in adopted and not m.ours}
        if kept:
            result.accounts[keeper_id] = replace(account, memberships={**account.memberships, **kept})


def _unpaired(directory: Directory, policy: Policy, result: Match) -> Iterator[Group]:
    for group_id in sorted(directory.groups):
        group = directory.groups[group_id]
        free = group_id not in result.team_of and group_id not in result.team_conflicts
        if policy.teams.manages(group.name) and free:
            yield group


def _match_by_name(
    result: Match,
    group: Group,
    namesakes: list[Team],
    adopt: bool,
    gone: Collection[str],
) -> None:
    if impossible := impossible_name(group):
        result.team_conflicts[group.id] = f"{impossible}; it was not queued"
    elif len(namesakes) == 1 and namesakes[0].takeover:
        _link_team(result, group, namesakes[0], None)
    elif others := [team for team in namesakes if is_jumpcloud_id(_owner(team)) and _owner(team) not in gone]:
        result.team_conflicts[group.id] = (
            f'{_held_for(group, others[0], _owner(others[0]))}, or take the team over: reconciler adopt --team "NAME"'
        )
    elif len(namesakes) == 1 and adopt:
        _link_team(result, group, namesakes[0], None)
    elif namesakes:
        several = "a Keeper team that is not ours has"
        if len(namesakes) > 1:
            several = count(len(namesakes), "Keeper team", "has")
        result.team_conflicts[group.id] = (
            f"{several} this name; nothing was queued and nobody added, since whatever is shared with that team would "
            'become theirs. Rename the team or the group, or take it over: reconciler adopt --team "NAME"'
        )


def _owner(team: Team) -> str:
    return team.shown.get(EXTERNAL_ID, "")


def _succeed(result: Match, group: Group, former: list[Team], gone: Collection[str]) -> None:
    """Give the group the managed team of its name, once the group that had the team is gone; likewise the group whose
    id the team bears, which may have taken it over after a copy of the state file was made."""
    held = [(t, owner) for t in former for owner in (t.jumpcloud_id, _owner(t)) if owner not in {*gone, group.id}]
    held = [(team, owner) for team, owner in held if owner == team.jumpcloud_id or is_jumpcloud_id(owner)]
    if held:
        result.team_conflicts[group.id] = _held_for(group, *held[0])
    elif len(former) > 1:
        result.team_conflicts[group.id] = (
            f"{count(len(former), 'Keeper team')} of groups that are gone have this name; nothing was queued and "
            "nobody added. Delete all but one of them in Keeper's Admin Console"
        )
    else:
        _link_team(result, group, former[0], None)


def _held_for(group: Group, team: Team, owner: str) -> str:
    """Why a group does not get the team of another group, which may exist still."""
    renamed = normal(team.name) != group.name
    spelled = "" if renamed else f"its name is {_spelling(group, Group(owner, team.name))}"
    return (
        f"the Keeper team {team.name} belongs to the JumpCloud group {owner}, which is not in scope and not known to "
        f"be deleted; this group is {group.id}, and {spelled or f'that team was named {group.name} before'}. Nothing "
        "was queued and nobody added, since whatever is shared with that team would become theirs. Rename this group, "
        "or delete the other one in JumpCloud"
    )


def _spelling(one: Group, other: Group) -> str:
    """How two names differ that are equal once they are trimmed and in NFC."""
    left, right = one.spelled or one.name, other.spelled or other.name
    if left == right:
        return "spelled the same"
    if left.strip() == right.strip():
        return "spelled with other white space around it"
    return "spelled in another Unicode normal form"


def impossible_name(group: Group) -> str:
    """Why no Keeper team can have the group's name, or ""."""
    if 1 <= len(group.name) <= MAX_TEAM_NAME:
        return ""
    return (
        f"its name has {len(group.name)} characters, a Keeper team's may have 1 to {MAX_TEAM_NAME}: shorten it in "
        "JumpCloud, or exclude it (teams.exclude)"
    )


def _link_team(result: Match, group: Group, team: Team, old: Team | None) -> None:
    result.teams[team.keeper_id] = replace(
        team, standing=Standing.MANAGED, jumpcloud_id=group.id, asked={}, settled={}, takeover=False
    )
    # One that is gone may show again, and whoever leaves the group is taken out of both.
    if old is not None and not old.gone:
        result.teams.pop(old.keeper_id, None)
    result.team_of[group.id] = team.keeper_id
