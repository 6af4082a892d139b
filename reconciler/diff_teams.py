"""The rules of the diff about teams, and what both halves of the diff share. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import replace
from datetime import datetime

from reconciler import team_births
from reconciler.counting import count
from reconciler.keeper_errors import TeamNameTaken
from reconciler.match import same
from reconciler.match_teams import MAX_TEAM_NAME, impossible_name, wanted_team_attributes
from reconciler.model import (
    DISPLAY_NAME,
    EXTERNAL_ID,
    USER_NAME,
    Account,
    Directory,
    Group,
    Snapshot,
    Team,
    User,
    normal,
    typed,
)
from reconciler.pairs import Match, tied_to
from reconciler.pilot import entries_for, in_pilot
from reconciler.plan import (
    Cause,
    Change,
    Kind,
    Notice,
    NoticeKind,
    Operation,
    Rule,
    Subject,
    TeamRef,
    Upcoming,
)
from reconciler.policy import AddressChange, Drift, Mode, Policy, TeamOutOfScope
from reconciler.waiting import waiting, words


def listed(names: Iterable[str], most: int = 3) -> str:
    """Some names for a sentence, the rest as a number."""
    names = sorted(names, key=lambda name: (name.casefold(), name))
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _role_words(name: Change) -> str:
    """Why a team is not renamed where only one of its two names makes it a role: Keeper does not document whether a new
    name gives the role to all members, or takes it from them."""
    return (
        f"in Keeper it is called {name.before}; only one of the two names begins with teams.role_prefix, and a new "
        "name could turn a team into a role, or a role into a team. It was not renamed. Rename the group back, or make "
        "a new group"
    )


def _new_name(op: Operation) -> str:
    """The name that an operation gives a team; "" where it gives none."""
    changes = op.changes if op.kind is Kind.RENAME_TEAM else ()
    return next((normal(change.after) for change in changes if change.attribute == DISPLAY_NAME), "")


def _by_third_name(op: Operation) -> Operation:
    """The renaming, to a name that no group has; the next plan goes on from there."""
    end = f" ({op.subject.keeper_id})"
    third = _new_name(op)[: MAX_TEAM_NAME - len(end)] + end
    changes = tuple(replace(c, after=third) if c.attribute == DISPLAY_NAME else c for c in op.changes)
    reason = f"{op.reason}; another team has that name and is to be renamed too, so this one goes by way of a third"
    return replace(op, changes=changes, reason=reason)


class TeamRules:
    """What is to be done about teams; `operations` and `notices` grow as the rules are applied."""

    def __init__(
        self,
        directory: Directory,
        matched: Match,
        before: Snapshot,
        policy: Policy,
        now: datetime,
        focus: frozenset[str] | None,
        pausing: bool,
        unlock: Set[str],
        certain: bool = True,
        contested: Set[str] = frozenset(),
    ) -> None:
        self.directory = directory
        self.match = matched
        self.before = before
        self.policy = policy
        self.now = now
        self.focus = focus
        self.pausing = pausing
        self.unlock = unlock
        self.certain = certain
        self.contested = contested  # Keeper ids of teams and accounts that get another owner once Keeper is listed
        self.operations: list[Operation] = []
        self.notices: list[Notice] = []
        self.pilots: set[str] = set()  # keys of subjects whose operations are sent
        self.outside_by_now: set[str] = set()  # keys of those among them who are not in the pilot any more
        self.addable: dict[str, TeamRef] = {}  # by group id: the teams that members can be added to
        self.quarantined: dict[str, Notice] = {}  # by key: what is told of what can't be read
        self.deleted: dict[str, str] = {}  # by group id: the team that somebody deleted in Keeper
        self.teams_in_grace: list[Team] = []
        self.upcoming: list[Upcoming] = []  # what is due once grace ends
        self.group_of = {team_id: group_id for group_id, team_id in matched.team_of.items()}

    def notice(self, kind: NoticeKind, subject: Subject, message: str) -> None:
        """Tell an administrator of something."""
        self.notices.append(Notice(kind, subject, message))

    def grace_ends(self, left_at: datetime | None) -> datetime:
        """The end of the grace of what left the scope then; None: now."""
        return (left_at or self.now) + self.policy.grace

    def in_grace(self, left_at: datetime | None) -> bool:
        """Whether that is still to come; without a certain time, whether there is any grace at all."""
        return self.now < self.grace_ends(left_at) if self.certain else bool(self.policy.grace)

    # -- teams ---------------------------------------------------------------------------------------------------

    def teams(self) -> None:
        """Apply the rules to every group in scope, and to every team of ours."""
        pilot_groups = self._pilot_groups()
        for group in (self.directory.groups[group_id] for group_id in sorted(self.directory.groups)):
            if pilot_groups is None or group.id in pilot_groups:
                self.pilots.add(group.id)
            if self.policy.teams.manages(group.name):
                self._group(group)
        for team in (self.match.teams[team_id] for team_id in sorted(self.match.teams)):
            if self.stays(team) or self.may_be_others(team):
                continue
            if team.managed and team.keeper_id not in self.group_of:
                self._team_without_group(team)
            if not team.gone and team.keeper_id not in self.group_of:
                self._twin(team)
        self._taken_names()
        self._waiting()

    def stays(self, team: Team) -> bool:
        """Whether the team stays as it is, with everybody in it, since its group is unclear."""
        return not self.directory.unclear_groups.isdisjoint((team.jumpcloud_id, tied_to(team)))

    def may_be_others(self, row: Account | Team) -> bool:
        """Whether a cycle without a list of Keeper would give the team or account to another owner. That is for one
        that has listed it: until then nobody gets what it holds, or loses it."""
        return row.keeper_id in self.contested

    def _pilot_groups(self) -> set[str] | None:
        if self.policy.only is None:
            return None
        return {group_id for user in self.directory.users.values() if self._is_given(user) for group_id in user.groups}

    def _is_given(self, user: User) -> bool:
        """Whether a person of the pilot is given teams: not whoever is only to be unlocked as one of it."""
        account = self.match.account(user.id)
        if entries_for(self.policy, self.directory, user, account):
            return True
        active = account is not None and account.active
        return active and user.in_scope and in_pilot(self.policy, self.directory, user, account)

    def _group(self, group: Group) -> None:
        team_id = self.match.team_of.get(group.id)
        subject = Subject("team", group.name, group.id, team_id or "")
        if group.id in self.match.team_conflicts:
            self.notice(NoticeKind.CONFLICT, subject, self.match.team_conflicts[group.id])
        elif team_id is None:
            self._queue(group, subject)
        elif self.match.teams[team_id].missing:
            again = "left alone" if self.policy.drift is Drift.REPORT else "queued again"
            words = f"Keeper does not show the team; it is {again} if a cycle "
            words += "at least two minutes later does not find it either"
            self.notice(NoticeKind.DRIFT, subject, words)
        elif self.match.teams[team_id].gone:
            if self.policy.drift is Drift.REPORT:
                self.notice(NoticeKind.DRIFT, subject, "gone from this Keeper node; not queued again (policy.drift)")
            else:
                self.deleted[group.id] = team_id
                self._queue(group, replace(subject, keeper_id=""))
        elif not self.may_be_others(self.match.teams[team_id]):
            self.addable[group.id] = TeamRef(group.name, group.id, team_id)
            self._rename(group, self.match.teams[team_id], subject)

    def _queue(self, group: Group, subject: Subject) -> None:
        deleted = group.id in self.deleted
        asked_at = self.before.unsettled_teams.get(group.id)
        wanted = wanted_team_attributes(group)
        changes = tuple(Change(attribute, "", value) for attribute, value in wanted.items())
        if asked_at is not None:
            self.notice(
                NoticeKind.WAITING_FOR_APPROVAL,
                subject,
                f"asked for on {asked_at:%Y-%m-%d %H:%M} UTC without an answer, and Keeper does not show it: it may "
                "wait in the Pending Queue. Look there; if it is missing, queue it again: reconciler release",
            )
            rule, cause, reason = Rule.UNSETTLED, Cause.JUMPCLOUD, "the first request had no answer"
        else:
            self.addable[group.id] = TeamRef(group.name, group.id)
            rule, cause = (Rule.RESTORED, Cause.DRIFT) if deleted else (Rule.GROUP_IN_SCOPE, Cause.JUMPCLOUD)
            reason = "gone from this Keeper node, still" if deleted else "the group is"
            reason += " in the application's scope"
            if self.policy.teams.is_role(group.name):
                reason += "; a role in Keeper, at once and without approval (teams.role_prefix)"
        self.operations.append(Operation(Kind.QUEUE_TEAM, subject, cause, rule, reason, changes))

    def _rename(self, group: Group, team: Team, subject: Subject) -> None:
        found = list(self._changes(team, wanted_team_attributes(group), subject))
        if not found:
            return
        names = [change for change, _ in found if change.attribute == DISPLAY_NAME]
        cause = Cause.DRIFT if all(c is Cause.DRIFT for _, c in found) else Cause.JUMPCLOUD
        if names and (impossible := impossible_name(group)):
            self.notice(NoticeKind.CONFLICT, subject, f"{impossible}; it was not renamed")
            return
        if names and self.policy.teams.is_role(names[0].before) != self.policy.teams.is_role(names[0].after):
            self.notice(NoticeKind.CONFLICT, subject, _role_words(names[0]))
            return
        if names and cause is Cause.DRIFT:
            rule, reason = Rule.RESTORED, f"renamed in Keeper to {names[0].before}"
        elif names:
            # The team may have its name by hand, or by way of a third: then the group was never called so.
            rule, reason = Rule.GROUP_RENAMED, f"the group is named {names[0].after}, its team {names[0].before}"
        elif cause is Cause.DRIFT:
            rule, reason = Rule.RESTORED, "the tie to its JumpCloud group was changed in Keeper"
        else:
            rule, reason = Rule.ADOPTED, "the existing team is tied to its JumpCloud group"
        self.operations.append(
            Operation(Kind.RENAME_TEAM, subject, cause, rule, reason, tuple(change for change, _ in found))
        )

    def _taken_names(self) -> None:
        """Find a way for teams whose new name was refused since another team has it: of teams that change their names
        round about, one goes by way of a third name; else a person is told which team has the name."""
        # A team outside the pilot keeps its name.
        named = (number for number, op in enumerate(self.operations) if _new_name(op) and op.subject.key in self.pilots)
        renames = {self.operations[number].subject.keeper_id: number for number in named}
        there = [t for _, t in sorted(self.match.teams.items()) if not (t.gone or t.missing)]
        holders = {normal(team.name): team for team in there}
        for team_id in sorted(renames):
            op = self.operations[renames[team_id]]
            failure = self.before.failures.get(op.subject.key)
            holder = holders.get(_new_name(op))
            if failure is None or TeamNameTaken.problem not in failure.error or holder is None:
                continue
            if holder.keeper_id not in renames:
                self._tell_holder(op, holder)
                continue
            chain = [team_id]
            while holder is not None and holder.keeper_id in renames and holder.keeper_id not in chain:
                chain.append(holder.keeper_id)
                holder = holders.get(_new_name(self.operations[renames[holder.keeper_id]]))
            if holder is not None and holder.keeper_id == team_id and team_id == min(chain):
                self.operations[renames[team_id]] = _by_third_name(op)

    def _tell_holder(self, op: Operation, holder: Team) -> None:
        group = self.directory.groups.get(holder.jumpcloud_id)
        whose = "which is not managed"
        if holder.managed:
            whose = f"that of the JumpCloud group {holder.jumpcloud_id}"
            whose += "" if group is not None else ", which is not in scope any more"
        self.notice(
            NoticeKind.CONFLICT,
            op.subject,
            f"Keeper has another team of this name (id {holder.keeper_id}), {whose}, and takes no second one: not "
            "renamed. Delete or rename that team in Keeper's Admin Console; this one is then renamed by itself",
        )

    def _team_without_group(self, team: Team) -> None:
        subject = Subject("team", team.name, team.jumpcloud_id, team.keeper_id)
        group = self.directory.groups.get(team.jumpcloud_id)
        if not self.policy.teams.manages(group.name if group else team.asked.get(DISPLAY_NAME, team.name)):
            self.notice(NoticeKind.LET_GO, subject, "left to itself by the settings ([teams]); nothing is removed")
        elif group is None and not (team.gone or team.missing):
            # Whom it still holds is taken out with each member's own operation; here only the team itself.
            if self.policy.teams.out_of_scope is TeamOutOfScope.KEEP:
                self.notice(NoticeKind.KEPT, subject, "its group left the scope; the team is kept (teams.out_of_scope)")
            elif self.in_grace(team.left_at):
                self.teams_in_grace.append(team)
            elif self.policy.teams.out_of_scope is TeamOutOfScope.DELETE and self._holds_only_ours(team):
                names = {team.name, normal(team.asked.get(DISPLAY_NAME))}
                if self.policy.only is None or names & self.policy.only.groups:
                    self.pilots.add(subject.key)
                self.operations.append(
                    Operation(
                        Kind.DELETE_TEAM,
                        subject,
                        Cause.JUMPCLOUD,
                        Rule.GROUP_LEFT,
                        "its group left the scope, and nobody else is in the team",
                    )
                )

    def team_stays_until(self, team: Team) -> datetime:
        """Return the end of the grace of a team whose group left the scope: until then its members stay."""
        return self.grace_ends(team.left_at)

    def team_grace(self) -> None:
        """Tell of each team in grace how many people it will lose; call it when the rules about people are applied."""
        sent = (later.operation for later in self.upcoming if later.operation.subject.key in self.pilots)
        losing = Counter(ref.keeper_id for op in sent for ref in op.remove)
        for team in self.teams_in_grace:
            number = losing[team.keeper_id]
            until = f"{self.team_stays_until(team):%Y-%m-%d %H:%M} UTC"
            if number and self.policy.mode is not Mode.OBSERVE:
                will = f"after {until} {count(number, 'person', 'is')} taken out of the team"
            else:
                will = f"{count(number, 'person') if number else 'nobody'} would be taken out of the team after {until}"
                will += ", but nothing is sent (policy.mode)" if number else ""
            self.notice(
                NoticeKind.IN_GRACE,
                Subject("team", team.name, team.jumpcloud_id, team.keeper_id),
                f"{team.name} is no longer bound to the application since {team.left_at or self.now:%Y-%m-%d %H:%M} "
                f"UTC; {will}, unless it is bound again (policy.grace). Nobody is added meanwhile",
            )

    def _twin(self, team: Team) -> None:
        """A team that is its group's no more, or not ours, and bears the id of a group that has another one."""
        group = self.directory.groups.get(team.jumpcloud_id if team.managed else team.shown.get(EXTERNAL_ID, ""))
        if not team.managed and team_births.left_by_link(self.before, team):
            return
        if group is not None and group.id in self.match.team_of and self.policy.teams.manages(group.name):
            done = "nothing is done with it"
            if team.managed:
                done = "whoever leaves the group is taken out of it too, and nobody is added"
            self.notice(
                NoticeKind.CONFLICT,
                Subject("team", team.name, "", team.keeper_id),
                f"carries the JumpCloud id of the group {group.name}, which has another Keeper team; {done}. Delete "
                "the wrong one in Keeper's Admin Console",
            )

    def _holds_only_ours(self, team: Team) -> bool:
        """Whoever is left in it is ours and locked: the others are taken out first, and a doubt about one keeps it."""
        members = [
            (account, account.memberships[team.keeper_id])
            for account in self.match.accounts.values()
            if team.keeper_id in account.memberships and not account.gone
        ]
        return team.queued_at is not None and all(a.managed and m.ours and not a.active for a, m in members)

    def _waiting(self) -> None:
        learnt = replace(self.before, accounts=self.match.accounts, teams=self.match.teams)
        for found in waiting(learnt, self.policy.teams):
            team = found.team
            subject = Subject("team", team.name, team.jumpcloud_id, team.keeper_id)
            if told := words(found):
                self.notice(NoticeKind.WAITING_FOR_APPROVAL, subject, told)

    def _changes(
        self, row: Account | Team, wanted: Mapping[str, str], subject: Subject, *, held: bool = False
    ) -> Iterator[tuple[Change, Cause]]:
        """The attributes that are not in line. What we asked for and what Keeper made of it are in line as long as
        neither moved; an empty wish never wipes a value out. `held`: the address and the id stay as they are."""
        for attribute, want in wanted.items():
            have = row.shown.get(attribute, "")
            if not want or same(attribute, want, have):
                continue
            asked = attribute in row.asked and same(attribute, want, row.asked[attribute])
            if asked and row.settled.get(attribute, have) == have:
                continue
            if held and attribute in (USER_NAME, EXTERNAL_ID):
                continue
            if attribute == USER_NAME and self.policy.address_change is AddressChange.REPORT:
                if asked:
                    self.notice(
                        NoticeKind.DRIFT,
                        subject,
                        f"the address was changed in Keeper from {want} to {have}; left as it is. If it is to stay, "
                        "change it in JumpCloud too; else, to go back, in Keeper Commander: "
                        f"enterprise-user --add-alias {typed(want)} {typed(have)}",
                    )
                else:
                    self.notice(
                        NoticeKind.ADDRESS_CHANGE,
                        subject,
                        f"the address in JumpCloud is now {want}; Keeper's is left as it is. In Keeper Commander: "
                        f"enterprise-user --add-alias {typed(want)} {typed(have)}",
                    )
                continue
            if asked and self.policy.drift is Drift.REPORT:
                self.notice(NoticeKind.DRIFT, subject, f"{attribute} was changed in Keeper from {want} to {have}")
                continue
            yield Change(attribute, have, want), Cause.DRIFT if asked else Cause.JUMPCLOUD
