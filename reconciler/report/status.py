"""What `status` shows: the last runs, what is held, waiting and failing."""

from datetime import datetime
from typing import Any

from reconciler.config import Settings
from reconciler.report.terminal import clean
from reconciler.store import Store


def document(store: Store, settings: Settings, now: datetime) -> dict[str, Any]:
    """The state of things as one JSON document; nothing is asked of either service."""
    snapshot = store.snapshot()
    runs = store.runs(5)
    accounts = [account for account in snapshot.accounts.values() if not account.gone]
    managed = [account for account in accounts if account.managed]
    last = runs[0] if runs else None
    return {
        "tenant": settings.tenant,
        "mode": settings.policy().mode.value,
        "first_plan_reviewed": snapshot.reviewed,
        "keeper_read_at": _text(snapshot.read_at),
        "users": {
            "managed": len(managed),
            "active": sum(account.active for account in managed),
            "locked_by_us": sum(account.locked_by_us for account in managed),
            "unmanaged": len(accounts) - len(managed),
            "leaving": sum(account.left_at is not None and account.active for account in managed),
        },
        "teams": {
            "managed": sum(team.managed and not team.gone for team in snapshot.teams.values()),
            "waiting": sorted(
                team.name for team in snapshot.teams.values() if team.managed and not team.seen and not team.gone
            ),
        },
        "held": {"plan": last.plan_id, "operations": last.held} if last and last.held else None,
        "failing": [
            {"subject": key, "times": failure.count, "last": _text(failure.last_at), "error": failure.error}
            for key, failure in sorted(snapshot.failures.items())
        ],
        "unsettled_teams": sorted(snapshot.unsettled_teams),
        "runs": [
            {
                "id": run.id,
                "kind": run.kind,
                "started_at": _text(run.started_at),
                "finished_at": _text(run.finished_at),
                "result": run.result or "cut off",
                "by": run.by,
                "counts": dict(run.counts),
            }
            for run in runs
        ],
        "asked_at": _text(now),
    }


def _text(at: datetime | None) -> str | None:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ") if at else None


def render(found: dict[str, Any]) -> str:
    """The document for a person."""
    users, teams = found["users"], found["teams"]
    lines = []
    if not found["runs"]:
        lines.append("Nothing has run yet. To see what a first run would do: reconciler plan")
    elif found["held"]:
        held = found["held"]
        lines.append(
            f"HELD: {held['operations']} operations wait. To let them through: reconciler release {held['plan']}"
        )
    else:
        lines.append(f"Last run: {found['runs'][0]['result']}, {found['runs'][0]['started_at']}.")
    if found["mode"] == "observe":
        lines.append("Mode: observe; nothing is sent.")
    if found["runs"] and not found["first_plan_reviewed"]:
        lines.append("The first plan for this Keeper node has not been reviewed yet.")
    lines.append(
        f"People: {users['managed']} managed ({users['active']} active, {users['locked_by_us']} locked by us, "
        f"{users['leaving']} leaving), {users['unmanaged']} in Keeper not managed."
    )
    waiting = ", ".join(clean(name, 60) for name in teams["waiting"][:10])
    lines.append(
        f"Teams: {teams['managed']} managed"
        + (f", {len(teams['waiting'])} waiting for approval: {waiting}." if waiting else ".")
    )
    lines += [
        f"Failing: {clean(f['subject'], 60)}, {f['times']} times, last {clean(f['error'], 300)}"
        for f in found["failing"]
    ]
    for run in found["runs"]:
        counts = ", ".join(f"{number} {state}" for state, number in run["counts"].items()) or "nothing sent"
        lines.append(
            f"  {run['started_at']}  {run['kind']:<7} {run['result']:<9} {counts}  by {clean(run['by'] or '-', 40)}"
        )
    return "\n".join(lines)
