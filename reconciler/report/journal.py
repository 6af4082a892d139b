"""One operation of the journal, as `history` and `explain` show it. Pure."""

from typing import Any

from reconciler.history import Entry
from reconciler.plan import SCHEDULE, Kind
from reconciler.promise import not_here
from reconciler.report.terminal import clean, names, spoken, stamp
from reconciler.rows import LOCKED_BEFORE

_DONE = {
    Kind.DEACTIVATE_USER: "locked",
    Kind.REACTIVATE_USER: "unlocked",
    Kind.CREATE_USER: "created",
    Kind.UPDATE_USER: "changed",
    Kind.QUEUE_TEAM: "queued",
    Kind.RENAME_TEAM: "renamed or linked",
    Kind.DELETE_TEAM: "deleted",
}
_DECIDED = {"adopt": "adopted", "disown": "disowned"}
"""The decisions that let nothing through which a limit would hold: what is due by them goes by the limits."""
_OTHERWISE = {
    "planned": "not sent yet",
    "sent": "sent, no answer yet",
    "failed": "failed",
    "unknown": "sent, outcome unknown",
    "put_off": "put off",
}


def entry_document(entry: Entry) -> dict[str, Any]:
    """The operation with its reason, times, result and who decided."""
    row, op = entry.row, entry.row.operation
    decided = entry.request or entry.run
    decision = {
        "kind": row.decision.partition(":")[0],
        "by": entry.decided_by,
        "at": stamp(entry.request.at if entry.request else row.planned_at),
        "reason": decided.reason if decided else "",
    }
    return {
        "id": row.id,
        "at": stamp(row.at),
        "kind": op.kind.value,
        "subject": {
            "type": op.subject.type,
            "name": op.subject.name,
            "jumpcloud_id": op.subject.jumpcloud_id or None,
            "keeper_id": op.subject.keeper_id or None,
        },
        "result": row.state.value,
        "outcome": row.outcome,
        "error": row.error,
        "cause": op.cause.value,
        "rule": op.rule.value,
        "reason": op.reason,
        "changes": [{"attribute": c.attribute, "from": c.before or None, "to": c.after} for c in op.changes],
        "teams": {"add": [team.name for team in op.add], "remove": [team.name for team in op.remove]},
        "planned_at": stamp(row.planned_at),
        "sent_at": stamp(row.sent_at),
        "finished_at": stamp(row.finished_at),
        "run": {"id": row.run_id, "kind": entry.run.kind, "by": entry.run.by, "reason": entry.run.reason}
        if entry.run
        else None,
        "decision": decision if row.decision else None,
    }


def entry_text(found: dict[str, Any], *, name: bool) -> str:
    """The document as one sentence, with or without the name of its subject."""
    done = _DONE[Kind(found["kind"])]
    who = f"{clean(found['subject']['name'], 80)} " if name else ""
    nothing_done = not_here(found["error"]) or found["outcome"] == LOCKED_BEFORE
    what = done if found["result"] == "done" and not nothing_done else f"to be {done}"
    words = [f"{spoken(found['at'])}  {who}{what}: {clean(found['reason'])}"]
    if found["cause"] == "drift":
        words.append("drift in Keeper")
    if found["kind"] == Kind.UPDATE_USER.value and found["changes"]:
        words.append(names(f"{c['attribute']} {c['from'] or '(none)'} → {c['to']}" for c in found["changes"]))
    if found["teams"]["add"]:
        words.append(f"into {names(found['teams']['add'])}")
    if found["teams"]["remove"]:
        words.append(f"out of {names(found['teams']['remove'])}")
    if found["result"] != "done":
        words.append(_OTHERWISE[found["result"]])
    if found["error"]:
        words.append(clean(found["error"], 300))
    if found["decision"]:
        decision = found["decision"]
        why = f" ({clean(decision['reason'], 120)})" if decision["reason"] else ""
        how = _DECIDED.get(decision["kind"], "let through")
        words.append(f"{how} by {clean(decision['by'] or 'somebody', 40)}{why}")
    elif found["run"] and found["run"]["by"] not in ("", SCHEDULE):
        why = f" ({clean(found['run']['reason'], 120)})" if found["run"]["reason"] else ""
        words.append(f"ordered by {clean(found['run']['by'], 40)}{why}")
    return "; ".join(words)
