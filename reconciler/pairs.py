"""The pairs of JumpCloud's users and groups with Keeper's users and teams, and what ties them together. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from reconciler import addresses
from reconciler.model import EXTERNAL_ID, Account, Team, User, is_jumpcloud_id

Row = TypeVar("Row", Account, Team)


@dataclass(frozen=True, slots=True)
class Match:
    """The pairs, and what stood in the way of others.

    `accounts` and `teams` are the snapshot's, linked as the pairs say. `account_of` and `team_of` lead from JumpCloud
    ids to Keeper ids. `conflicts` and `team_conflicts` say in an administrator's words why a user or group was not
    paired or must not be given anything more. `disowned` and `shielded` are users in scope whom we leave alone because
    somebody gave them up, or protects them. `adopted` are the Keeper ids of the accounts taken over by this match,
    `named_teams` those of the teams taken over by their names after the first plan, which lacked them.
    """

    accounts: dict[str, Account]
    teams: dict[str, Team]
    account_of: dict[str, str] = field(default_factory=dict)
    team_of: dict[str, str] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)
    team_conflicts: dict[str, str] = field(default_factory=dict)
    disowned: dict[str, str] = field(default_factory=dict)
    shielded: set[str] = field(default_factory=set)
    adopted: list[str] = field(default_factory=list)
    named_teams: set[str] = field(default_factory=set)

    def account(self, user_id: str) -> Account | None:
        """The account of a JumpCloud user."""
        return self.accounts.get(self.account_of.get(user_id, ""))


def tied_to_another(account: Account, user_id: str) -> bool:
    """Whether the account is somebody else's: by what we know of it, or by the id that it shows."""
    external = account.shown.get(EXTERNAL_ID, "")
    owners = {account.jumpcloud_id} if account.managed else {account.owned_once}
    if is_jumpcloud_id(external):
        owners.add(external)
    return bool(owners - {user_id, ""})


def shown_as(account: Account, users: Mapping[str, User]) -> User | None:
    """The other person who has not left, and whose id and address the account shows: somebody has given it to them, or
    we had, before an old copy of the state file was restored. Whose address JumpCloud does not tell may have that of
    the account. None where the id is its own person's, or nobody's."""
    shown = account.shown.get(EXTERNAL_ID, "")
    user = users.get(shown) if shown != account.jumpcloud_id else None
    return user if user and user.belongs and (not user.email or addresses.same(user.email, account.email)) else None


def shown_since(account: Account) -> str:
    """The JumpCloud id that an account has got since it is its person's, "" where there is none. A Keeper that never
    took our id shows a former one for good, which says nothing; nor does the one that the account had when it was
    adopted."""
    shown = account.shown.get(EXTERNAL_ID, "")
    before = (account.jumpcloud_id, account.settled.get(EXTERNAL_ID), account.former_external_id)
    return shown if is_jumpcloud_id(shown) and shown not in before else ""


def given_to(account: Account, user: User | None, users: Mapping[str, User]) -> User | None:
    """The other person who has not left, and whose id an open account has got, that has neither the id nor the address
    of its person (`user`) any more: it may be theirs by now, if they have no other."""
    other = users.get(shown_since(account))
    has_address = user is not None and addresses.same(user.email, account.email)
    return other if account.active and other is not None and other.belongs and not has_address else None


def retied(before: Mapping[str, Row], after: Mapping[str, Row]) -> dict[str, Row]:
    """The rows, as they were before, that have another owner after, or none."""
    changed = ((key, row, after.get(key)) for key, row in before.items())
    return {key: row for key, row, now in changed if now is not row and _owner(now) != _owner(row)}


def without_teams(
    accounts: Mapping[str, Account], before: Mapping[str, Account], teams: Collection[str]
) -> dict[str, Account]:
    """The accounts with their memberships in these teams as they were before."""
    undone: dict[str, Account] = {}
    for keeper_id, account in accounts.items():
        former = before[keeper_id].memberships if keeper_id in before else {}
        back = {t: former[t] for t in teams if t in former and account.memberships.get(t) != former[t]}
        if back:
            undone[keeper_id] = replace(account, memberships={**account.memberships, **back})
    return {**accounts, **undone}


def _owner(row: Account | Team | None) -> object:
    return (row.standing, row.jumpcloud_id) if row is not None else None


def tied_to(team: Team) -> str:
    """The JumpCloud id of the group whose team Keeper holds it for: as long as a tie to another one has not arrived,
    that of the former. Once it has, a team that shows the id of yet another one has been tied to that since."""
    shown = team.shown.get(EXTERNAL_ID, "")
    arrived = team.asked.get(EXTERNAL_ID) == team.jumpcloud_id
    return shown or team.jumpcloud_id if not arrived or tied_since(team) else team.jumpcloud_id


def tied_since(team: Team) -> bool:
    """Whether Keeper has shown the tie to the team's group, and shows one to another group now: somebody has changed
    it, or we had, before an old copy of the state file was restored."""
    shown = team.shown.get(EXTERNAL_ID, "")
    settled = team.settled.get(EXTERNAL_ID) == team.jumpcloud_id
    return settled and shown != team.jumpcloud_id and is_jumpcloud_id(shown)
