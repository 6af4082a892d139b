"""Whether Keeper is what JumpCloud wants, by what both simulators really hold."""

from reconciler.simulator.jumpcloud import JumpCloud
from reconciler.simulator.keeper import Keeper


def differences(jumpcloud: JumpCloud, keeper: Keeper, application: str) -> list[str]:
    """What is not in line, in words: missing or active accounts, teams, and whatever stands there twice."""
    names = jumpcloud.groups_in_scope(application)
    teams = keeper.teams()
    accounts = {a.external_id: a for a in keeper.accounts().values() if a.external_id}
    scope = jumpcloud.in_scope(application)
    wrong = []
    for user_id, groups in scope.items():
        user, account = jumpcloud.user(user_id), accounts.get(user_id)
        if user.state == "SUSPENDED" or user.suspended:
            wrong += [f"{user.email} is suspended and active"] if account and account.active else []
        elif user.state == "ACTIVATED":
            if account is None or not account.active:
                wrong.append(f"{user.email} is in scope and has no active account")
                continue
            held = sorted(teams[team].name for team in (*account.teams, *account.pending_teams))
            if held != sorted(names[group] for group in groups):
                wrong.append(f"{user.email} has the teams {held}")
    wrong += [f"{a.email} has left the scope and is active" for o, a in accounts.items() if o not in scope and a.active]
    owners = [a.external_id for a in keeper.accounts().values() if a.external_id]
    wrong += [f"{owner} has two accounts" for owner in sorted(set(owners)) if owners.count(owner) > 1]
    queued = [team.external_id for team in teams.values() if team.external_id]
    return wrong + [f"{owner} has two teams" for owner in sorted(set(queued)) if queued.count(owner) > 1]
