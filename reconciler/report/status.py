"""What `status` shows: the last runs, what is held, waiting and failing, and what persons have decided about it."""

import grp
import json
import os
import pwd
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from reconciler import promise, standing, statefile, timekeeping
from reconciler.config import Settings
from reconciler.consent import allowance
from reconciler.counting import agreeing, count
from reconciler.diff import pause_after
from reconciler.model import Account, Snapshot, typed
from reconciler.pilot import kept_locked, left_outside
from reconciler.plan import Kind, Operation
from reconciler.promise import ACTIVE_THEN, UNPAUSED
from reconciler.report import teams
from reconciler.report.leavers import UNREAD
from reconciler.report.terminal import clean, names, spoken, stamp, styled, wrapped
from reconciler.report.words import VERBS, came_to
from reconciler.rows import Request, Run, State, time_of
from reconciler.store import Store

RUNS = 5
"""How many of the last runs are shown."""
LATE = timedelta(minutes=15)
"""A cycle that is so much overdue tells that the daemon hangs."""
UNDER_WAY = "under way"
_CUT_OFF = "cut off"
_UNREAD = ("failed", "stopped")
MOST = 20
"""Lines of one kind before the rest is a number."""


def in_force(store: Store, settings: Settings) -> bool | None:
    """Whether the service that is running has loaded these settings, None where none is running."""
    loaded = store.meta("settings") if store.is_served else None
    return loaded == settings.digest if loaded else None


def not_in_force(file: Path | str) -> str:
    """What is said where the service has loaded other settings than this file has."""
    path = Path(file)
    of_a_tenant = path.parent == Path("/etc/reconciler") and path.stem != "config"
    unit = f"reconciler@{path.stem}" if of_a_tenant else "reconciler"
    return (
        f"The service has other settings than {clean(str(file), 300)} has now. To have it read the file: "
        f"systemctl reload {clean(unit, 100)}"
    )


def document(store: Store, settings: Settings, now: datetime) -> dict[str, Any]:
    """The state of things as one JSON document; nothing is asked of either service."""
    snapshot = store.snapshot()
    in_use, live = store.in_use, store.live_runs()
    runs, last, read_at = store.runs(RUNS), store.last_cycle(), store.last_whole_read()
    accounts = [account for account in snapshot.accounts.values() if not account.gone]
    managed = [account for account in accounts if account.managed]
    gone_or_active = promise.leavers(snapshot)
    policy, stands = settings.policy(), standing.from_json(store.meta(standing.KEY))
    inside = [account for account in gone_or_active if not left_outside(policy, account)]
    ours = [account for account in inside if not promise.kept(account, policy, stands.merely_left)]
    leaving = [account for account in ours if account.active]
    oldest = min(leaving, key=lambda account: account.left_at or now, default=None)
    lacks = {key: lack for key, lack in stands.lacks.items() if key in snapshot.failures}
    waiting = teams.waiting(snapshot, policy.teams)
    held = _held(store)
    # Whose unlock is held waits for that alone, though the pilot may be called otherwise by now.
    told = set(held["subjects"] if held else ())
    shut = {k: a.email for k, a in snapshot.accounts.items() if kept_locked(policy, a) and a.email not in told}
    return {
        "tenant": settings.tenant,
        "mode": policy.mode.value,
        "settings": {"file": str(settings.file), "in_force": in_force(store, settings)},
        "first_plan_reviewed": snapshot.reviewed,
        "first_plan_lacked_teams": snapshot.teams_open,
        "jumpcloud_read_at": stamp(read_at),
        "read_by_last_run": _was_read(last, read_at),
        "keeper_read_at": stamp(snapshot.read_at),
        "lacks_room": statefile.lacks_room(store.path),
        "in_use": in_use,
        "served": store.is_served,
        "next_cycle_at": stamp(time_of(store.meta("next_cycle"))),
        "users": {
            "managed": len(managed),
            "active": sum(account.active for account in managed),
            "locked_by_us": sum(account.locked_by_us and not account.active for account in managed),
            "locked_by_others": sum(not (account.active or account.locked_by_us) for account in managed),
            "unmanaged": len(accounts) - len(managed),
            "leaving": len(leaving),
            "not_verifiable": len(ours) - len(leaving),
            "outside_pilot": sum(account.active for account in gone_or_active) - sum(a.active for a in inside),
            "kept_locked_by_pilot": sorted(shut.values()),
            "locked_in_scope": sorted(a.email for a in managed if _keeps_out(a) and a.keeper_id not in shut),
            "kept": sum(account.active for account in inside) - len(leaving),
            "oldest_leaver": {
                "email": oldest.email,
                "left_at": stamp(oldest.left_at),
                "access": promise.access_words(snapshot, oldest, failing=stands.failing is not None),
            }
            if oldest
            else None,
        },
        "teams": {
            "managed": sum(team.managed and not team.gone for team in snapshot.teams.values()),
            "waiting": waiting,
            "inventory_read_at": stamp(snapshot.inventory.read_at) if snapshot.inventory else None,
        },
        "held": held,
        "will_be_held": len(stands.will_be_held),
        "decisions": [_decision(store, request) for request in store.open_requests(now)],
        "orders": [_decision(store, request) for request in store.orders()],
        "failing": _failing(store, snapshot, lacks),
        "cycles_failing": {
            "times": stands.failing.count,
            "since": stamp(stands.failing.since),
            "error": stands.failing.words,
            "resyncs_only": stands.failing.resync and not _failed(last),
        }
        if stands.failing
        else None,
        "failing_now": promise.failing_words(lacks.values()),
        "last_good_cycle_at": stamp(stands.last_good),
        "receivers_failing": [
            {"receiver": name, "since": stamp(since), "error": words} for name, (since, words) in stands.untold.items()
        ],
        "programs_failing": [{"program": name, "error": words} for name, words in sorted(stands.hooks.items())],
        "unsettled": [
            {
                "subject": row.operation.subject.name,
                "key": row.operation.subject.key,
                "kind": row.operation.kind.value,
                "sent_at": stamp(row.sent_at or row.planned_at),
                "error": row.error,
            }
            for row in store.unfinished()
            if row.state is State.UNKNOWN and not _told_otherwise(row.operation, snapshot)
        ],
        "unsettled_teams": [
            {"team": _name(store, key), "jumpcloud_id": key, "asked_at": stamp(at)}
            for key, at in sorted(snapshot.unsettled_teams.items())
        ],
        "last_cycle": _run(last, live) if last else None,
        # The one that began first, where what is about one person goes on beside a cycle.
        "under_way": next((_run(run, live) for run in map(store.run, sorted(live)) if not run.result), None),
        "runs": [_run(run, live) for run in runs],
        "asked_at": stamp(now),
    }


def _run(run: Run, live: Collection[int]) -> dict[str, Any]:
    return {
        "id": run.id,
        "kind": run.kind,
        "started_at": stamp(run.started_at),
        "finished_at": stamp(run.finished_at),
        "result": run.result or (UNDER_WAY if run.id in live else _CUT_OFF),
        "by": run.by,
        "reason": run.reason,
        "error": run.error,
        "held": run.held,
        "counts": dict(run.counts),
    }


def _keeps_out(account: Account) -> bool:
    """Whether our lock keeps somebody out who has not left, as far as we know."""
    return account.locked_by_us and not account.active and account.left_at is None


def _told_otherwise(op: Operation, snapshot: Snapshot) -> bool:
    """Whether an unknown outcome is told in words of its own: among the leavers, or as one of `unsettled_teams`. A lock
    may keep somebody out who is back in scope."""
    if op.kind is not Kind.DEACTIVATE_USER:
        return op.kind is Kind.QUEUE_TEAM
    account = snapshot.accounts.get(op.subject.keeper_id)
    return account is None or not account.managed or account.left_at is not None


def _failed(last: Run | None) -> bool:
    """Whether the newest run over everybody that has ended is one that failed."""
    return last is None or last.result in ("", "failed", "stopped")


def _held(store: Store) -> dict[str, Any] | None:
    found = store.held_now()
    if found is None:
        return None
    run, since = found
    plan = json.loads(store.held_document(run) or "{}")
    operations = plan.get("operations", [])
    held = sorted({number for hold in plan.get("held", []) for number in hold["operations"]})
    return {
        "plan": run.plan_id,
        "operations": run.held,
        "since": stamp(since),
        "reasons": [{"limit": hold["limit"], "reason": hold["reason"]} for hold in plan.get("held", [])],
        "counts": dict(Counter(operations[number]["kind"] for number in held)),
        "subjects": [operations[number]["subject"]["name"] for number in held],
        "released_by": _who_may_write(store.path),
    }


def _who_may_write(path: Path) -> list[str]:
    """The operating-system users and groups who can release: whoever may write the state file, and root."""
    found = os.stat(path)
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = f"user {found.st_uid}"
    who = list(dict.fromkeys(["root", owner]))
    if found.st_mode & 0o020:
        try:
            who.append(f"the group {grp.getgrgid(found.st_gid).gr_name}")
        except KeyError:
            who.append(f"the group {found.st_gid}")
    return who


def _decision(store: Store, request: Request) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": request.id,
        "kind": request.kind,
        "by": request.by,
        "at": stamp(request.at),
        "until": stamp(request.until),
        "lasts": request.lasts.total_seconds() if request.lasts else None,
        "reason": request.reason,
    }
    if request.kind == "allow":
        announced, left = int(request.arguments["deactivations"]), allowance(store, request).deactivations
        found |= {"deactivations": announced, "used": announced - left, "left": left}
    elif request.kind == "release":
        found["plan"] = request.arguments.get("plan")
    return found


def _failing(store: Store, snapshot: Snapshot, lacks: Mapping[str, str]) -> list[dict[str, Any]]:
    """Those for whom something keeps failing that is due still: a failure is on record until something is done."""
    return [
        {
            "subject": _name(store, key),
            "key": key,
            "lacks": lack,
            "times": failure.count,
            "last": stamp(failure.last_at),
            "paused_until": None if lack in UNPAUSED else stamp(failure.last_at + pause_after(failure.count)),
            "error": failure.error,
        }
        for key, lack in sorted(lacks.items())
        for failure in [snapshot.failures[key]]
    ]


def _name(store: Store, key: str) -> str:
    """The name under which the journal last knew a subject."""
    return next((row.operation.subject.name for row in store.journal_of(key, 1)), key)


def render(found: dict[str, Any], *, width: int, colour: bool) -> str:
    """The document for a person."""
    lines = _headline(found, width, colour)
    users, groups = found["users"], found["teams"]
    lines += wrapped(_stale(found), width)
    others = f"{users['locked_by_others']} locked by somebody else, " if users["locked_by_others"] else ""
    people = (
        f"People: {users['managed']} managed ({users['active']} active, {users['locked_by_us']} locked by us, {others}"
        f"{users['leaving']} leaving), {users['unmanaged']} in Keeper not managed."
    )
    if users["outside_pilot"]:
        people += f" {count(users['outside_pilot'], 'person')} outside the pilot left the scope: not ours to lock."
    if users["kept"]:
        people += f" Kept by the settings though out of scope: {count(users['kept'], 'person')} (policy.out_of_scope)."
    lines += wrapped(people, width)
    if shut := users["locked_in_scope"]:
        number = len(shut)
        words = (
            f"{count(number, 'person')} who {agreeing(number, 'is')} not known to have left {agreeing(number, 'is')}"
        )
        lines += wrapped(f"{words} locked by us: {names(shut)}. Why:", width)
        lines.append(f"  reconciler explain {typed(shut[0])}")
    if shut := users["kept_locked_by_pilot"]:
        words = f"{count(len(shut), 'person')} in scope outside the pilot (policy.only): our own lock keeps them out: "
        lines += wrapped(f"{words}{names(shut)}. Add them to policy.only, or end the pilot. More:", width)
        lines.append(f"  reconciler explain {typed(shut[0])}")
    if users["oldest_leaver"]:
        who = users["oldest_leaver"]
        access = who["access"]
        access = f"{'was' if access == ACTIVE_THEN else 'is'} {access}"
        words = f"{clean(who['email'], 80)} left the scope on {spoken(who['left_at'])} and {access}"
        lines += [*wrapped(f"The oldest leaver: {words}. Why:", width), "  reconciler leavers"]
    if users["not_verifiable"]:
        number = users["not_verifiable"]
        words = f"{count(number, 'person')} left and {agreeing(number, 'is')} not in this node: whether access ended is"
        lines += [*wrapped(f"{words} not verifiable. Who:", width), "  reconciler leavers"]
    approvals = teams.in_words(groups["waiting"], groups["inventory_read_at"])
    lines += wrapped(f"Teams: {groups['managed']} managed; {approvals}.", width)
    lines += _limited([_waiting(entry) for entry in groups["waiting"] if not entry["listed"]], width)
    lines += _limited([_unsettled_change(entry) for entry in found["unsettled"]], width)
    lines += _limited([_unsettled(entry) for entry in found["unsettled_teams"]], width)
    lines += _limited([_failure(entry) for entry in found["failing"]], width)
    for entry in found["receivers_failing"]:
        words = f"since {spoken(entry['since'])}: {clean(entry['error'], 300)}"
        lines += wrapped(f"The {entry['receiver']} has not taken what it was sent {words}. Try it:", width)
        lines.append("  reconciler notify --test")
    for entry in found["programs_failing"]:
        lines += wrapped(f"{entry['program']} failed: {clean(entry['error'], 300)}", width)
    lines += _limited([_decided(entry) for entry in found["decisions"] if entry["kind"] != "pause"], width)
    lines += _limited([_ordered(entry) for entry in found["orders"]], width)
    for run in found["runs"]:
        counts = ", ".join(f"{number} {state.replace('_', ' ')}" for state, number in run["counts"].items())
        counts = "".join(f", {part}" for part in (counts, f"{run['held']} held" if run["held"] else "") if part)
        by = f", by {clean(run['by'], 40)}" if run["by"] else ""
        error = f": {clean(run['error'], 300)}" if run["error"] else ""
        words = f"{spoken(run['started_at'])} {run['kind']}: {_came_to(run)}{counts}{by}{error}"
        lines += wrapped(words, width, "  ")
    return "\n".join(lines)


def _headline(found: dict[str, Any], width: int, colour: bool) -> list[str]:
    lines = []
    for pause in found["decisions"]:
        if pause["kind"] == "pause":
            words = f"PAUSED by {clean(pause['by'], 40)} since {spoken(pause['at'])}: {clean(pause['reason'], 200)}."
            lines += [styled(line, colour, bold=True, fg="red") for line in wrapped(words, width)]
            lines += wrapped("Nothing is sent but `resync EMAIL`. To go on: reconciler resume", width)
    if found["lacks_room"]:
        # What fails for want of room cannot be recorded, so the runs below tell nothing of it.
        words = f"NO ROOM: {found['lacks_room']}. Nothing can be sent. Make room; a service then goes on by itself."
        lines += [styled(line, colour, bold=True, fg="red") for line in wrapped(words, width)]
    if found["failing_now"]:
        words = f"FAILING for {found['failing_now']}. Who and why is below."
        lines += [styled(line, colour, bold=True, fg="red") for line in wrapped(words, width)]
    if found["cycles_failing"]:
        words = _cycles_failing(found["cycles_failing"])
        lines += [styled(line, colour, bold=True, fg="red") for line in wrapped(words, width)]
    if not found["runs"]:
        lines += wrapped("Nothing has run yet. To see what a first run would do: reconciler plan", width)
    if held := found["held"]:
        words = f"HELD since {spoken(held['since'])}: {count(held['operations'], 'operation', 'waits')}."
        lines += [styled(line, colour, bold=True, fg="red") for line in wrapped(words, width)]
        for hold in held["reasons"]:
            lines += wrapped(f"Why: {clean(hold['reason'], 400)} [{clean(hold['limit'], 40)}]", width)
        lines += wrapped(f"Whom it is about: {names(held['subjects'])}", width)
        # What the pause alone holds goes on with `resume`: no release ends a pause. In observe mode none is taken.
        if found["mode"] == "observe" or all(hold["limit"] == "paused" for hold in held["reasons"]):
            lines += ["To look: reconciler plan"]
        else:
            lines += wrapped(
                f"To look: reconciler plan. To let them through, as {' or '.join(held['released_by'])}:", width
            )
            lines.append(styled(f"  reconciler release {held['plan']}", colour, bold=True))
    if found["will_be_held"]:
        words = f"WILL BE HELD when grace ends, by {count(found['will_be_held'], 'limit')}. Why, and whom it is about:"
        lines += [*(styled(line, colour, bold=True, fg="red") for line in wrapped(words, width)), "  reconciler plan"]
    if found["runs"] and not (held or found["will_be_held"] or found["under_way"]):
        # What one person's resync or the leaver lane came to tells nothing of the cycles.
        last = found["last_cycle"] or found["runs"][0]
        lines += wrapped(f"Last run: {_came_to(last)}, {spoken(last['started_at'])}.", width)
    lines += wrapped(_next(found), width)
    if found["settings"]["in_force"] is False:
        lines += wrapped(not_in_force(found["settings"]["file"]), width)
    if found["mode"] == "observe":
        lines += wrapped("Mode: observe; nothing is sent.", width)
    if found["runs"] and not found["first_plan_reviewed"]:
        lines += wrapped("The first plan for this Keeper node has not been reviewed yet.", width)
    if found["first_plan_lacked_teams"]:
        words = "The first plan that was looked at lacked groups: they could not be read, or were outside the pilot."
        lines += wrapped(f"{words} What takes over a Keeper team for one of them waits for a release.", width)
    return lines


def _cycles_failing(entry: dict[str, Any]) -> str:
    """Say since when cycles fail. Others may succeed where resyncs fail: they need not ask Keeper for anything."""
    what = "resync" if entry["resyncs_only"] else "cycle"
    error = clean(entry["error"], 300)
    error += "" if error.endswith((".", "?", "…")) else "."
    if entry["times"] == 1:
        return f"The last {what} FAILED, on {spoken(entry['since'])}: {error}"
    return f"{what.upper()}S FAIL: {entry['times']} since {spoken(entry['since'])}, the last: {error}"


def _next(found: dict[str, Any]) -> str:
    """When the service does something next; nothing where it was told to stop, there never was one, or another command
    has its state file."""
    due = found["next_cycle_at"]
    if run := found["under_way"]:
        return f"A run is under way since {spoken(run['started_at'])}."
    if not due:
        return ""
    if not found["in_use"]:
        return f"The service has ended without being told to. Its next cycle was to be on {spoken(due)}."
    if not found["served"]:
        return ""
    if datetime.fromisoformat(due) + LATE < datetime.fromisoformat(found["asked_at"]):
        return f"The next cycle was due on {spoken(due)}. Does the service hang?"
    return f"Next cycle: {spoken(due)}."


def _was_read(last: Run | None, read_at: datetime | None) -> bool:
    """Whether the newest run over everybody that has ended has read all of JumpCloud; also where there was none."""
    if last is None or (last.result and not last.error and last.result not in _UNREAD):
        return True
    return read_at is not None and read_at >= last.started_at


def _stale(found: dict[str, Any]) -> str:
    """Since when it is not known who left; "" where the newest run over everybody has read everything."""
    if found["read_by_last_run"]:
        return ""
    read_at = found["jumpcloud_read_at"]
    left = f"on {spoken(read_at)}; who left since then may be missing" if read_at else UNREAD
    return f"JumpCloud was last read as a whole {left}."


def _came_to(run: dict[str, Any]) -> str:
    return came_to(str(run["result"]), run["counts"])


def _waiting(entry: dict[str, Any]) -> str:
    what = ["the team"] if entry["queued"] else []
    what += [f"{count(entry['members'], 'member')}"] if entry["members"] else []
    since = f"the oldest since {spoken(entry['since'])}" if entry["since"] else "since an unknown time"
    how = "queued in Keeper" if entry["certain"] else "asked for, approval not visible"
    return f"Waiting: {clean(entry['team'], 60)}: {' and '.join(what)} {how}, {since}"


def _unsettled_change(entry: dict[str, Any]) -> str:
    what = f"{clean(entry['subject'], 80)}: {VERBS[Kind(entry['kind'])].lower()}, sent on {spoken(entry['sent_at'])}"
    return f"Without a known outcome: {what}: {clean(entry['error'], 300).rstrip('. ')}. Keeper is asked about it"


def _unsettled(entry: dict[str, Any]) -> str:
    return (
        f"Unsettled: the team {clean(entry['team'], 60)} was asked for on {spoken(entry['asked_at'])}, no answer;"
        " it may wait in Keeper's Pending Queue. Look there; if it is missing: reconciler release"
    )


def _failure(entry: dict[str, Any]) -> str:
    times = "once" if entry["times"] == 1 else f"{entry['times']} times in a row"
    words = f"{times}, last on {spoken(entry['last'])}: {clean(entry['error'], 300).rstrip('. ')}"
    paused = f". Paused until {spoken(entry['paused_until'])}" if entry["paused_until"] else ", by each cycle"
    return f"Failing: {clean(entry['subject'], 80)}, {words}{paused}"


def _decided(entry: dict[str, Any]) -> str:
    left, used = entry.get("left", 0), entry.get("used", 0)
    what = {
        "allow": f"up to {count(left, 'more person')} may be locked, {used} {agreeing(used, 'was')}",
        "release": f"plan {clean(str(entry.get('plan')), 40)}, as far as it is still due",
    }.get(entry["kind"], "not dealt with yet")
    until = f" until {spoken(entry['until'])}" if entry["until"] else ""
    if not until and entry["lasts"]:
        until = f" for {timekeeping.spoken(timedelta(seconds=entry['lasts']))}, from the next cycle on"
    why = f": {clean(entry['reason'], 200)}" if entry["reason"] else ""
    head = f"{clean(entry['kind'], 20).capitalize()} open{until}: {what}."
    return f"{head} By {clean(entry['by'], 40)}, {spoken(entry['at'])}{why}"


def _ordered(entry: dict[str, Any]) -> str:
    return f"Ordered of the daemon: {clean(entry['kind'], 20)}, by {clean(entry['by'], 40)}, {spoken(entry['at'])}"


def _limited(sentences: list[str], width: int) -> list[str]:
    lines = [line for sentence in sentences[:MOST] for line in wrapped(sentence, width, "  ")]
    more = len(sentences) - MOST
    return lines + (wrapped(f"… and {more} more (all of them: --json)", width, "  ") if more > 0 else [])
