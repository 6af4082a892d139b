"""What became of operations whose outcome is unknown: read from what Keeper shows, never guessed. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from reconciler.model import DISPLAY_NAME, EXTERNAL_ID, Account, Snapshot, Standing, Team, fold
from reconciler.plan import Kind, Operation
from reconciler.rows import State


@dataclass(frozen=True, slots=True)
class Settled:
    """The outcome of one operation: done, failed (it never arrived), or still unknown, with words for the journal."""

    state: State
    words: str


def settle(unknown: Iterable[tuple[int, Operation]], snapshot: Snapshot) -> tuple[dict[int, Settled], Snapshot]:
    """The outcomes by journal id, and the snapshot with what follows from them.

    `snapshot` was just rebuilt from Keeper. A lock that we asked for and find is ours, so that we may undo it. A team
    that Keeper does not show may wait in the Pending Queue: it stays unknown.
    """
    outcomes: dict[int, Settled] = {}
    accounts = dict(snapshot.accounts)
    teams = dict(snapshot.teams)
    unsettled = dict(snapshot.unsettled_teams)
    by_key = {a.jumpcloud_id: a for a in accounts.values() if a.jumpcloud_id}
    for number, op in unknown:
        account = by_key.get(op.subject.jumpcloud_id) or accounts.get(op.subject.keeper_id)
        if op.kind is Kind.QUEUE_TEAM:
            team = _team_shown(teams.values(), op)
            outcomes[number] = (
                Settled(State.DONE, "found in Keeper")
                if team
                else Settled(State.UNKNOWN, "not shown; it may be queued")
            )
            if team:
                asked_at = unsettled.pop(op.subject.jumpcloud_id, None)
                owner = op.subject.jumpcloud_id
                teams[team.keeper_id] = replace(
                    team, standing=Standing.MANAGED, jumpcloud_id=owner, queued_at=team.queued_at or asked_at
                )
        elif op.kind is Kind.CREATE_USER:
            outcomes[number] = _seen(_user_shown(accounts.values(), op))
        elif op.kind is Kind.DEACTIVATE_USER and account is not None:
            arrived = account.gone or not account.active
            outcomes[number] = _seen(arrived)
            if arrived:
                accounts[account.keeper_id] = replace(account, locked_by_us=True, review_lock=False)
        elif op.kind is Kind.REACTIVATE_USER and account is not None:
            outcomes[number] = _seen(account.active)
            if account.active:
                accounts[account.keeper_id] = replace(account, locked_by_us=False)
        elif op.kind is Kind.UPDATE_USER and account is not None:
            outcomes[number] = _seen(_changes_shown(account, op))
        elif op.kind is Kind.DELETE_TEAM:
            outcomes[number] = _seen(op.subject.keeper_id not in teams or teams[op.subject.keeper_id].gone)
        else:
            team = teams.get(op.subject.keeper_id)
            names = [change.after for change in op.changes if change.attribute == DISPLAY_NAME]
            outcomes[number] = _seen(team is not None and (not names or team.shown.get(DISPLAY_NAME) == names[0]))
    return outcomes, replace(snapshot, accounts=accounts, teams=teams, unsettled_teams=unsettled)


def _seen(arrived: bool) -> Settled:
    return (
        Settled(State.DONE, "found in Keeper")
        if arrived
        else Settled(State.FAILED, "Keeper shows that it did not arrive")
    )


def _team_shown(teams: Iterable[Team], op: Operation) -> Team | None:
    """The team that the request made: by our id, else by a name that was free when it was asked for."""
    wanted = {change.attribute: change.after for change in op.changes}
    live = [team for team in teams if not team.gone]
    tied = [t for t in live if op.subject.jumpcloud_id in (t.jumpcloud_id, t.shown.get(EXTERNAL_ID))]
    named = [t for t in live if not t.managed and t.name == wanted.get(DISPLAY_NAME)]
    return next(iter([*tied, *named]), None)


def _user_shown(accounts: Iterable[Account], op: Operation) -> bool:
    return any(
        not account.gone
        and (account.shown.get(EXTERNAL_ID) == op.subject.jumpcloud_id or fold(account.email) == fold(op.subject.name))
        for account in accounts
    )


def _changes_shown(account: Account, op: Operation) -> bool:
    changed = all(account.shown.get(change.attribute) == change.after for change in op.changes)
    shown = {team_id for team_id, m in account.memberships.items() if m.shown}
    added = all(team.keeper_id in shown for team in op.add)
    return changed and added and not any(team.keeper_id in shown for team in op.remove)
