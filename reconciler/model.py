"""The two sides of the reconciliation: the Directory that JumpCloud wants, the Snapshot of what Keeper holds.

Small frozen types without I/O. Whoever fills them in normalises at the border: names in NFC and trimmed, addresses
trimmed and otherwise as they are (`addresses` compares them), times in UTC.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from types import MappingProxyType

from reconciler.plan import Operation

USER_NAME = "userName"
EXTERNAL_ID = "externalId"
DISPLAY_NAME = "displayName"
GIVEN_NAME = "name.givenName"
FAMILY_NAME = "name.familyName"
USER_ATTRIBUTES = (USER_NAME, EXTERNAL_ID, DISPLAY_NAME, GIVEN_NAME, FAMILY_NAME)
"""The SCIM attributes of a user that are reconciled, in the order in which they are reported."""
TEAM_ATTRIBUTES = (DISPLAY_NAME, EXTERNAL_ID)
"""The SCIM attributes of a team that are reconciled."""


_JUMPCLOUD_ID = re.compile("[0-9a-f]{24}")
_SURROGATE = re.compile("[\ud800-\udfff]")


def is_jumpcloud_id(text: str) -> bool:
    """Whether a text has the form of a JumpCloud id: 24 hexadecimal digits in lower case."""
    return _JUMPCLOUD_ID.fullmatch(text) is not None


def trimmed(text: str | None) -> str:
    """An address as it is kept and sent: without surrounding white space; None is empty. NFC would turn some addresses
    into other ones.

    An unpaired surrogate, which JSON can spell and UTF-8 can't, becomes U+FFFD: one record must not stop everybody.
    """
    return _SURROGATE.sub("\ufffd", text).strip() if text else ""


def normal(text: str | None) -> str:
    """A name as it is compared and sent: trimmed, and in NFC."""
    return unicodedata.normalize("NFC", trimmed(text))


def announced(total: object) -> int | None:
    """The number of rows that a list announces, as a number or in digits; None for what is no number of rows."""
    # More digits than these are too many rows as well, and Python refuses to make a number of thousands of them.
    if isinstance(total, str) and total.isascii() and total.isdigit():
        total = int(total[:19])
    return total if isinstance(total, int) and not isinstance(total, bool) and total >= 0 else None


_TYPED = re.compile(r"(?!-)[\w@%+=:,./-]+")


def typed(address: str) -> str:
    """The address as it stands in a command that a person is offered to copy. What a shell would not take for one plain
    word is not offered: `$(reboot)@example.com` may be an address, and `'` and `` ` `` in it are RFC 5322's own."""
    return address if _TYPED.fullmatch(address) else "EMAIL"


def typed_for(user: "User | None", otherwise: str) -> str:
    """The address by which `resync EMAIL` finds this person, as an argument. It is JumpCloud's where there is one:
    Keeper's may be somebody else's in JumpCloud by now."""
    return typed(user.email if user is not None and user.email else otherwise)


class Status(StrEnum):
    """A JumpCloud user's state, as far as access depends on it."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    STAGED = "staged"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class User:
    """A JumpCloud user who is bound to the application, or who was asked for by id.

    `email` is empty where JumpCloud holds no usable address. `groups` are the ids of the bound groups that
    bring the user into scope; `direct` says that the user is bound without a group. `teams_unknown`: there may be other
    groups, or fewer, since how the user is bound can't be read. `unsure`: the scope changed while it was read, so that
    it is not known whether the user is bound.
    """

    id: str
    email: str
    status: Status
    display_name: str = ""
    given_name: str = ""
    family_name: str = ""
    direct: bool = False
    groups: frozenset[str] = frozenset()
    teams_unknown: bool = False
    unsure: bool = False

    @property
    def bound(self) -> bool:
        """Whether the user is bound to the application, directly or through a group."""
        return self.direct or bool(self.groups)

    @property
    def in_scope(self) -> bool:
        """Whether the user should be able to use Keeper."""
        return self.bound and self.status is Status.ACTIVE and not self.unsure

    @property
    def belongs(self) -> bool:
        """Whether the user is in scope or may come to be without a new binding: staged, in a state that we don't know,
        or shown in one of two readings."""
        return self.bound and self.status is not Status.SUSPENDED


@dataclass(frozen=True, slots=True)
class Group:
    """A JumpCloud user group that is bound to the application. `spelled` is the name as JumpCloud has it, neither in
    NFC nor trimmed: groups whose names are equal here differ there."""

    id: str
    name: str
    spelled: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Application:
    """The Keeper application in JumpCloud, whose bindings are the scope."""

    id: str
    label: str


USERS, GROUP_NAMES, GROUPS = "users", "user groups", "groups in scope"
"""JumpCloud's lists that a cycle can do without, as the ids of a `Quarantined` of the type "list"."""
HIDDEN = "record"
"""The field of a `Quarantined` for somebody whose record is missing though the application lists them."""
UNREAD = "own record"
"""The field of a `Quarantined` for somebody whom the list of users lacks and whose record was not read."""


@dataclass(frozen=True, slots=True, order=True)
class Quarantined:
    """An unreadable part of one subject, so that nothing is concluded from it.

    `type` is "user", "team" (a group) or "list"; `id` the JumpCloud id, of a list its name. `problem` says in an
    administrator's words what is wrong with the `field`, and never repeats what stands there.
    """

    type: str
    id: str
    field: str
    problem: str

    @property
    def key(self) -> str:
        """The key that identifies it over time."""
        return f"{self.id} {self.field}"


@dataclass(frozen=True, slots=True)
class Unclear:
    """Since when something is quarantined without a break: of whom or what (a name), and the words that say it."""

    since: datetime
    name: str
    words: str


@dataclass(frozen=True, slots=True)
class Directory:
    """The desired state, from one complete read of JumpCloud.

    `users` holds everybody bound to the application, and whoever else was asked for and exists. An id that was
    asked for and is not in it belongs to nobody in this organisation (any more). `groups` are those in scope that have
    a name. Of `unclear_groups` (ids) it is not known what they are called, or whether they are in scope: their teams
    stay as they are. `gone_groups` are ids of groups of teams (see `Snapshot.groups_with_teams`)
    that are not in scope, whose record JumpCloud answers with 404 or 410, and which no path names. `quarantined` says
    what could not be read.
    """

    organization: str
    application: Application
    users: Mapping[str, User] = field(default_factory=lambda: MappingProxyType({}))
    groups: Mapping[str, Group] = field(default_factory=lambda: MappingProxyType({}))
    unclear_groups: frozenset[str] = frozenset()
    gone_groups: frozenset[str] = frozenset()
    quarantined: tuple[Quarantined, ...] = ()

    @property
    def unread(self) -> tuple[str, ...]:
        """The names of the lists that could not be had, so that who or what is missing may be there all the same."""
        return tuple(sorted(one.id for one in self.quarantined if (one.type, one.field) == ("list", "list")))

    @property
    def unclear(self) -> frozenset[str]:
        """The ids of users and groups whom this read does not tell all about: what is due for them may not be
        planned."""
        users = self.users.values()
        open_users = (u.id for u in users if u.status is Status.UNKNOWN or u.unsure or u.teams_unknown)
        return self.unclear_groups.union(open_users, (one.id for one in self.quarantined if one.type != "list"))


@dataclass(frozen=True, slots=True)
class KeeperUser:
    """A user as Keeper's SCIM endpoint shows it; attributes that are not shown are empty.

    `active` and `teams` are None where Keeper's value cannot be read. `unreadable` names every such field, as SCIM
    spells it; an unreadable attribute is empty. Teams that are left out are none, but see `silent`: they are left out.
    """

    id: str
    attributes: Mapping[str, str]
    active: bool | None
    teams: frozenset[str] | None = frozenset()
    unreadable: tuple[str, ...] = ()
    silent: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class KeeperTeam:
    """A team as Keeper's SCIM endpoint shows it; `members` are ids of users, of other nodes too.

    `members` is None where Keeper's value cannot be read, `unreadable` and `silent` as for a KeeperUser.
    """

    id: str
    attributes: Mapping[str, str]
    members: frozenset[str] | None = frozenset()
    unreadable: tuple[str, ...] = ()
    silent: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class OddRecord:
    """A user or team of Keeper whose record cannot be read in full, or not at all.

    `type` is "user" or "team". `name` (the address of a user), `keeper_id` and `external_id` are empty where they are
    not readable. `fields` are the unreadable ones as SCIM spells them; empty where the record itself was not answered,
    for the reason in `problem`. `shown`, `active` and `teams` are the rest of a user as it was read, None where they
    were not.
    """

    type: str
    name: str
    keeper_id: str
    external_id: str = ""
    fields: tuple[str, ...] = ()
    problem: str = ""
    shown: Mapping[str, str] = field(default_factory=dict)
    active: bool | None = None
    teams: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything that the SCIM endpoint of one Keeper node lists, plus the answers for ids that it did not list.

    `absent` are ids of users and teams that were known, not listed and then answered 404 or 410 one by one.
    `unread` are records without a usable id, and records that were not listed and not answered one by one.
    """

    users: Mapping[str, KeeperUser]
    teams: Mapping[str, KeeperTeam]
    absent: frozenset[str] = frozenset()
    unread: tuple[OddRecord, ...] = ()


class Standing(StrEnum):
    """Who decides about a Keeper user or team."""

    MANAGED = "managed"
    UNMANAGED = "unmanaged"
    DISOWNED = "disowned"


class Takeover(IntEnum):
    """The takeover that a person asked for with `adopt`, until the next whole read that has JumpCloud's list of users:
    of an account by its address, which may be tied to somebody else; or of whoever is in Keeper and nobody's in
    JumpCloud."""

    NONE = 0
    BY_ADDRESS = 1
    AS_GHOST = 2


@dataclass(frozen=True, slots=True)
class Membership:
    """What is known of one user's membership in one team.

    `ours`: JumpCloud wanted it, at some time, and so we may take it away. `seen`: Keeper has shown it at some
    time. `shown`: Keeper showed it when last asked. Asked for and never seen means: waiting for approval. `asked_at`:
    when Keeper took our request for it, None where no answer and no list says whether it did, or whether it took a
    later one to take it away. `found`: it was there when the team was adopted, and is kept.
    """

    ours: bool
    seen: bool
    shown: bool
    asked_at: datetime | None = None
    found: bool = False

    @property
    def waiting(self) -> bool:
        """Whether it was asked for and Keeper has not shown it yet: its approval is not visible."""
        return self.ours and not self.seen

    @property
    def doubtful(self) -> bool:
        """Whether it may wait unseen, or not be there at all: whoever is to have it has to be given it once more."""
        return self.waiting and self.asked_at is None

    @property
    def missed(self) -> bool:
        """Whether Keeper has shown it at some time, and did not when last asked."""
        return self.seen and not self.shown


@dataclass(frozen=True, slots=True)
class Account:
    """One row of the snapshot: a Keeper user, with what we know of it.

    For each attribute, `asked` is what we last sent, `settled` what Keeper showed after that, `shown` what it showed
    when last asked. `gone`: Keeper answered 404 for the id, `missed_at`: since when. `locked_by_us`: the account is
    locked because we deactivated it (or a leaver was locked already when we first saw the account), or was so when
    Keeper showed it last. `left_at`: since when the user is known to be out of scope. `active`, of one that is gone and
    managed: its user left and is back since, and nobody had locked it. `protected_as`: the entry of `policy.protect`
    that matched. `pilot`: the entries of `policy.only` that named the user when last in scope (see
    `pilot.entries_for`). `former_external_id`: what to restore on `disown`. `takeover`: what a person asked for with
    `adopt`. `review_lock`: adopted while out of scope, so the lock needs a person's consent. `others_lock`, of one that
    is gone: somebody else had locked it when Keeper showed it last. `found_for`, of one that nobody manages: the
    JumpCloud id of the person in scope for whom a first plan found it that nobody has reviewed, as long as the account
    has the same address. It stays where the account is managed since they left.
    """

    keeper_id: str
    standing: Standing
    active: bool
    jumpcloud_id: str = ""
    shown: Mapping[str, str] = field(default_factory=dict)
    asked: Mapping[str, str] = field(default_factory=dict)
    settled: Mapping[str, str] = field(default_factory=dict)
    memberships: Mapping[str, Membership] = field(default_factory=dict)
    gone: bool = False
    missed_at: datetime | None = None
    locked_by_us: bool = False
    left_at: datetime | None = None
    protected_as: str = ""
    pilot: frozenset[str] = frozenset()
    former_external_id: str = ""
    takeover: Takeover = Takeover.NONE
    review_lock: bool = False
    others_lock: bool = False
    found_for: str = ""

    def waits(self, team_id: str) -> bool:
        """Whether a membership of theirs has never been shown since it was asked for: it may wait, unseen, for
        approval, so that not being shown says nothing of it."""
        membership = self.memberships.get(team_id)
        return membership is not None and membership.waiting

    @property
    def email(self) -> str:
        """The address under which Keeper shows the account."""
        return self.shown.get(USER_NAME, "")

    @property
    def managed(self) -> bool:
        """Whether we created or adopted the account."""
        return self.standing is Standing.MANAGED

    @property
    def owned_once(self) -> str:
        """The JumpCloud id of whoever had this account under our management until they got another; else empty."""
        return self.asked.get(EXTERNAL_ID, "") if self.standing is Standing.UNMANAGED else ""

    @property
    def merely_found(self) -> bool:
        """Whether only the address under which that plan found the account ties it to its person; no id does."""
        ids = (self.shown.get(EXTERNAL_ID), self.asked.get(EXTERNAL_ID))
        return self.managed and bool(self.found_for) and self.jumpcloud_id not in ids

    @property
    def bygone(self) -> bool:
        """Whether it is a mere memory: nobody manages it, and Keeper does not have it any more. It stands as last
        shown, so that a creation that meets it is not taken for a birth."""
        return self.gone and self.standing is Standing.UNMANAGED

    @property
    def locked_by_others(self) -> bool:
        """Whether somebody else had locked the account when Keeper showed it last."""
        return self.others_lock if self.gone and not self.bygone else not (self.active or self.locked_by_us)

    @property
    def was_locked(self) -> bool:
        """Whether the account was locked, by whomever, when Keeper showed it last."""
        return self.locked_by_us or self.others_lock if self.gone and not self.bygone else not self.active


@dataclass(frozen=True, slots=True)
class Team:
    """One row of the snapshot: a Keeper team, with what we know of it.

    `asked`, `settled` and `shown` as for an Account. `queued_at`: when we queued it, None for an adopted one.
    `seen`: Keeper has listed it at some time; a team of ours that was never seen waits in the Pending Queue.
    `takeover`: a person asked with `adopt --team` to take the team over. `left_at`: since when its group is known to
    be out of the application's scope. `gone`: Keeper answered 404 for the id; `missed_at`: since when. A team of ours
    is gone once two readings, two minutes apart or more, have said so.
    """

    keeper_id: str
    standing: Standing
    jumpcloud_id: str = ""
    shown: Mapping[str, str] = field(default_factory=dict)
    asked: Mapping[str, str] = field(default_factory=dict)
    settled: Mapping[str, str] = field(default_factory=dict)
    queued_at: datetime | None = None
    seen: bool = False
    gone: bool = False
    missed_at: datetime | None = None
    takeover: bool = False
    left_at: datetime | None = None

    @property
    def name(self) -> str:
        """The name under which Keeper shows the team, or under which we asked for it."""
        return self.shown.get(DISPLAY_NAME) or self.asked.get(DISPLAY_NAME, "")

    @property
    def managed(self) -> bool:
        """Whether we queued or adopted the team."""
        return self.standing is Standing.MANAGED

    @property
    def missing(self) -> bool:
        """Whether Keeper was read not to have it, which a later reading has to confirm."""
        return self.missed_at is not None and not self.gone

    @property
    def bygone(self) -> bool:
        """Whether it is a mere memory, as of an Account: nobody manages it, and Keeper does not have it any more."""
        return self.gone and not self.managed

    @property
    def waiting(self) -> bool:
        """Whether we queued it and Keeper has not shown it yet: its approval is not visible."""
        return self.managed and not self.gone and not self.seen and self.queued_at is not None


@dataclass(frozen=True, slots=True)
class Failure:
    """How often the operations of one subject failed in a row, when last, and with what words."""

    count: int
    last_at: datetime
    error: str


@dataclass(frozen=True, slots=True)
class InventoryTeam:
    """A team as Keeper Commander shows it. `queued`: it waits for approval; `pending` and `members` are the
    addresses (`alike_key`) of people who wait for theirs, and of members; None where Commander was not asked for them.
    """

    id: str
    name: str
    node: str
    queued: bool
    pending: frozenset[str] | None = None
    members: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """What Keeper Commander told of the whole enterprise, and SCIM does not: which teams and memberships wait for
    approval, and the addresses (`alike_key`) of people who have not accepted their invitation. `users` has the status
    of everybody by address, in Commander's words: Active, Invited, Locked, Disabled; `ids` has it by Commander's user
    id, which is assumed to be the id of SCIM."""

    read_at: datetime
    teams: Mapping[str, InventoryTeam] = field(default_factory=dict)
    invited: frozenset[str] = frozenset()
    users: Mapping[str, str] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RefusedBirth:
    """The newest creation of one person that Keeper linked to an account which is not new (see `births`).

    `address` was asked for, `keeper_id` is the account. `agreed`: a person has decided with `adopt` that it is asked
    for once more. `undo` is what gives the account back what it had, None once Keeper has taken that. `at`: when the
    creation was sent. Once a later creation is done, it refuses nothing: `address` is empty, and `undo` is left.
    """

    address: str
    keeper_id: str
    agreed: bool = False
    undo: Operation | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RefusedTeam:
    """The newest queueing for one group that Keeper answered with a team which is not new (see `team_births`).

    `name` was asked for, `keeper_id` is the team. `words` say to an administrator what happened. `undo` is what gives
    the team back what it had, None once Keeper has taken that. `at`: when the queueing was sent. Once a later queueing
    is done, it refuses nothing: `name` and `words` are empty, and `undo` is left.
    """

    name: str
    keeper_id: str
    words: str
    undo: Operation | None = None
    at: datetime | None = None


def by_group(teams: Iterable[Team]) -> dict[str, Team]:
    """By JumpCloud id, the managed team of each group.

    A group has two where one that was gone shows again after another was queued in its place. The older one is the
    group's: what is shared with it was shared on purpose.
    """
    found: dict[str, Team] = {}
    for team in teams:
        if team.managed and team.jumpcloud_id:
            known = found.get(team.jumpcloud_id, team)
            found[team.jumpcloud_id] = min(known, team, key=_precedence)
    return found


def _precedence(team: Team) -> tuple[bool, bool, float, str]:
    return team.gone, not team.seen, team.queued_at.timestamp() if team.queued_at else 0.0, team.keeper_id


def has_ended(met: Account | Team, at: datetime | None) -> bool:
    """Whether the account or team that answered a request at this time is gone by now. What was gone before, and
    answered all the same, is there though no list shows it."""
    return met.gone and (at is None or met.missed_at is None or met.missed_at > at)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What Keeper held when we last spoke to it.

    `accounts` and `teams` are keyed by their Keeper ids. `unsettled_teams` are the JumpCloud ids of groups whose
    queueing had an unknown outcome that nothing has settled since, with the time; `unsettled_users` those of people
    whose creation had, with the address that was asked for. `failures` is keyed by the subject's key (see
    `plan.Subject.key`). `reviewed`: a person has looked at the first plan for this node. `teams_open`: it left out
    groups, and so the existing teams of these. `named_teams` are the Keeper ids of teams that are taken over by their
    names since; it is not stored. `read_at`: when Keeper was last listed. `inventory`: what `keeper.inventory_command`
    printed last, if there is one. `unclear`: what is in quarantine, by `Quarantined.key`. `fresh` are the Keeper ids of
    users whom this read listed and no earlier one; it is not stored. `untold` are those of users of whose teams it
    tells nothing, since none of its records names a team or a member; not stored either. `odd`: records that could not
    be read in full when it was last listed. `refused_births` are, by JumpCloud id, the creations that Keeper linked to
    an account that is not new; `refused_teams`, by the id of the group, the queueings that it answered with a team that
    is not new. `own_locks` are the Keeper ids of accounts on which a lock that is found is ours: our last lock had no
    clear answer. `open_locks` are those of accounts whose lock has no known outcome, also where Keeper answered that it
    lacks them, and which we have not unlocked since; `open_unlocks` the same of unlocks. `locked_out` are the keys of
    people whose account is gone and whom we have locked last.
    """

    accounts: Mapping[str, Account] = field(default_factory=dict)
    teams: Mapping[str, Team] = field(default_factory=dict)
    unsettled_teams: Mapping[str, datetime] = field(default_factory=dict)
    unsettled_users: Mapping[str, str] = field(default_factory=dict)
    failures: Mapping[str, Failure] = field(default_factory=dict)
    reviewed: bool = False
    teams_open: bool = False
    named_teams: frozenset[str] = frozenset()
    read_at: datetime | None = None
    inventory: Inventory | None = None
    fresh: frozenset[str] = frozenset()
    untold: frozenset[str] = frozenset()
    unclear: Mapping[str, Unclear] = field(default_factory=dict)
    odd: tuple[OddRecord, ...] = ()
    refused_births: Mapping[str, RefusedBirth] = field(default_factory=dict)
    refused_teams: Mapping[str, RefusedTeam] = field(default_factory=dict)
    own_locks: frozenset[str] = frozenset()
    open_locks: frozenset[str] = frozenset()
    open_unlocks: frozenset[str] = frozenset()
    locked_out: frozenset[str] = frozenset()

    @property
    def groups_with_teams(self) -> dict[str, frozenset[str]]:
        """The names of teams, by the id of the JumpCloud group that a team of ours has, and by the one that any team
        bears in Keeper."""
        names: dict[str, frozenset[str]] = {}
        for team in self.teams.values():
            if not team.gone:
                mine = {team.name, team.asked.get(DISPLAY_NAME, "")} - {""}
                managed_for = {team.jumpcloud_id} - {""} if team.managed else set()
                for owner in {*managed_for, *filter(is_jumpcloud_id, [team.shown.get(EXTERNAL_ID, "")])}:
                    names[owner] = names.get(owner, frozenset()) | mine
        return names
