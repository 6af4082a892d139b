"""The reports of runs in `report.directory`: one of every run that changed, held or failed something, and an index.

They hold personal data and are readable for their owner and group only. A run that holds the same plan again, or
fails for the same reason, is counted with the one before and has its report: a plan may be held for days.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from reconciler import clocks, exits, promise
from reconciler.counting import count
from reconciler.cycle import Outcome
from reconciler.plan import Cause
from reconciler.reading import NobodyThere, Stopped
from reconciler.report import chart, files, html, teams, words
from reconciler.report.document import to_document
from reconciler.report.terminal import clean, clean_json
from reconciler.rows import State

if TYPE_CHECKING:
    from reconciler.config import Settings
    from reconciler.store import JournalRow, Run, Store

CHART_DAYS = 30
"""How many days the charts of the index show."""
MOST_RUNS = 1000
"""How many runs the index shows."""
_NAME = re.compile(r"(\d{8}T\d{6}Z)-[a-z]+-[0-9a-f]{8}\.(?:html|json)")
_DRAFT = re.compile(r"\.(?:index|\d{8}T\d{6}Z-[a-z]+-[0-9a-f]{8})\.(?:html|json)\.\w+\.tmp")
_FORGOTTEN = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the index: a run with its report, and how often it came to the same since."""

    name: str
    key: str
    at: str
    last: str
    times: int
    kind: str
    result: str
    tone: str
    head: str
    detail: str
    by: str
    held: int
    drift: int
    sent: bool


def keep(settings: "Settings", store: "Store", ended: "Outcome | Exception", run_id: int) -> None:
    """Write the report of this run, where there is something to report, and the index; prune old ones.

    To be called after every real run, with its outcome or the error that ended it; the store is still open. A report
    that can't be written is a warning in the log, and nothing more.
    """
    directory = settings.report.directory
    if directory is None:
        return
    try:
        run = store.run(run_id)
        at = run.finished_at or run.started_at
        files.make_directory(directory)
        entries = _entries(directory)
        if isinstance(ended, Stopped | NobodyThere):
            pass  # ended by a person, or about nobody: no cycle has failed
        elif isinstance(ended, Exception):
            entries = _failed(settings, store, run, ended, at, directory, entries)
        else:
            entries = _finished(settings, run, ended, at, directory, entries)
        if (by := clocks.known(store).prunes_by(at)) is not None:
            entries = _prune(directory, entries, by - settings.report.keep, by)
        files.write(
            directory / "index.json", json.dumps([asdict(entry) for entry in entries]) + "\n", files.GROUP, ours=True
        )
        files.write(directory / "index.html", _index(settings, store, entries, run, at), files.GROUP, ours=True)
    except Exception as error:  # whatever it is, a report must not fail a cycle
        why = error.strerror if isinstance(error, OSError) else None
        logger.warning(
            "The report of this run could not be written to {} ({}). The run itself is not affected; what it did is in "
            "the journal: reconciler history",
            directory,
            clean(why or exits.named(error), 300),
        )


# -- one run ----------------------------------------------------------------------------------------------------------


def _finished(
    settings: "Settings", run: "Run", outcome: "Outcome", at: datetime, directory: Path, entries: list[Entry]
) -> list[Entry]:
    plan = outcome.plan
    if outcome.result == "nothing" or (outcome.result == "observed" and not plan.operations):
        return entries
    results = {number: (result.state.value, result.error) for number, result in outcome.results.items()}
    verdict = words.run_verdict(plan, results)
    entry = Entry(
        name=_name(at, outcome.result, plan.id),
        # The same plan may be told otherwise: another list could not be read, or by now it keeps failing for somebody.
        key=f"{outcome.result}:{plan.id}:{_digest(verdict.head)[:8]}",
        at=_text(at),
        last=_text(at),
        times=1,
        kind=run.kind,
        result=outcome.result,
        tone=verdict.tone.value,
        head=verdict.head,
        detail=verdict.rest,
        by=run.by,
        held=len(plan.held_indices),
        drift=sum(op.cause is Cause.DRIFT for op in plan.operations),
        sent=bool(outcome.results),
    )
    again = _again(entries, entry)
    if again is not None:
        return again
    facts = _facts(run)
    if outcome.not_due:
        facts.append(("Dropped", words.not_due(len(outcome.not_due))))
    page = html.render(plan, tenant=settings.tenant, ran=html.Ran(facts, results, outcome.stopped))
    document = {
        "result": outcome.result,
        "results": [
            {"operation": number, "state": result.state.value, "outcome": result.outcome, "error": result.error}
            for number, result in outcome.results.items()
        ],
        "not_due": len(outcome.not_due),
        "stopped": outcome.stopped,
        "error": None,
        "plan": to_document(plan),
    }
    _write(directory, entry, page, document, run)
    return [*entries, entry]


def _failed(
    settings: "Settings",
    store: "Store",
    run: "Run",
    error: Exception,
    at: datetime,
    directory: Path,
    entries: list[Entry],
) -> list[Entry]:
    message = clean(exits.recorded(error), 4000)
    rows = [row for row in store.journal(run.started_at) if row.run_id == run.id]
    entry = Entry(
        name=_name(at, "failed", _digest(message)),
        key=f"failed:{_digest(message)}",
        at=_text(at),
        last=_text(at),
        times=1,
        kind=run.kind,
        result="failed",
        tone=words.Tone.FAILED.value,
        head="FAILED: the cycle did not come to its end.",
        detail=message,
        by=run.by,
        held=0,
        drift=0,
        sent=any(row.state is not State.PUT_OFF for row in rows),
    )
    again = _again(entries, entry)
    if again is not None:
        return again
    page = html.page(
        "failed.html",
        title=entry.head,
        tenant=clean(settings.tenant),
        entry=entry,
        at=at,
        states=_states(rows),
        facts=_facts(run),
    )
    document = {
        "result": "failed",
        "results": [
            {"operation": row.id, "state": row.state.value, "outcome": row.outcome, "error": row.error} for row in rows
        ],
        "not_due": 0,
        "stopped": "",
        "error": message,
        "plan": None,
    }
    _write(directory, entry, page, document, run)
    return [*entries, entry]


def _write(directory: Path, entry: Entry, page: str, document: Mapping[str, Any], run: "Run") -> None:
    told = {
        "version": 1,
        "run": {
            "id": run.id,
            "kind": entry.kind,
            "started_at": _text(run.started_at),
            "ended_at": entry.at,
            "by": entry.by,
            "reason": run.reason,
        },
        **document,
    }
    text = clean_json(json.dumps(told, ensure_ascii=False, indent=2)) + "\n"
    files.write(directory / f"{entry.name}.json", text, files.GROUP, ours=True)
    files.write(directory / f"{entry.name}.html", page, files.GROUP, ours=True)


def _again(entries: Sequence[Entry], entry: Entry) -> list[Entry] | None:
    """The entries with one more time counted, where the newest came to the same and nothing was sent."""
    if not entries or entry.sent or entries[-1].key != entry.key:
        return None
    newest = entries[-1]
    return [*entries[:-1], replace(newest, last=entry.at, times=newest.times + 1)]


def _facts(run: "Run") -> list[tuple[str, str]]:
    facts = [("Run", str(run.id)), ("Started", _text(run.started_at)), ("Ended", _text(run.finished_at))]
    return facts + [(name, told) for name, told in (("Asked by", run.by), ("Reason", run.reason)) if told]


def _states(rows: Sequence["JournalRow"]) -> list[tuple[str, int]]:
    labels = {State.DONE.value: "done", State.SENT.value: "sent, outcome unknown", State.PLANNED.value: "not sent"}
    states = (promise.state_told(row.state.value, row.error) for row in rows)
    found = Counter(labels.get(state) or words.STATES[state] for state in states)
    return found.most_common()


# -- the directory ----------------------------------------------------------------------------------------------------


def _entries(directory: Path) -> list[Entry]:
    """The lines of the index, the oldest first. An index that is none is begun anew; the reports stay."""
    try:
        found = json.loads((directory / "index.json").read_text(encoding="utf-8"))
        return [Entry(**entry) for entry in found if (directory / f"{entry['name']}.html").exists()]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError):
        logger.warning("{} can't be read and is begun anew; the reports beside it stay", directory / "index.json")
        return []


def _prune(directory: Path, entries: Sequence[Entry], before: datetime, now: datetime) -> list[Entry]:
    oldest = f"{before:%Y%m%dT%H%M%SZ}"
    kept = [entry for entry in entries if entry.last >= _text(before)]
    names = {entry.name for entry in kept}
    for path in directory.iterdir():
        found = _NAME.fullmatch(path.name)
        old = found is not None and found[1] < oldest and path.stem not in names
        if not old and _DRAFT.fullmatch(path.name):
            old = datetime.fromtimestamp(path.lstat().st_mtime, UTC) < now - _FORGOTTEN
        if old:
            path.unlink(missing_ok=True)
    return kept


# -- the index --------------------------------------------------------------------------------------------------------


def _index(settings: "Settings", store: "Store", entries: Sequence[Entry], run: "Run", at: datetime) -> str:
    first = (at - timedelta(days=CHART_DAYS - 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    done = store.done_by_day(first)
    drift: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        drift[entry.at[:10], "drift"] += entry.drift
    kinds = {kind.value: verb.lower() for kind, verb in words.VERBS.items()}
    newest = entries[-1] if entries and entries[-1].last == _text(at) else None
    return html.page(
        "index.html",
        title="Runs",
        tenant=clean(settings.tenant),
        at=at,
        result=words.came_to(run.result, run.counts) if run.result else "cut off",
        newest=newest,
        waiting=_waiting(settings, store, at),
        queue_age=settings.teams.queue_age,
        charts=[
            ("Operations by kind", chart.stacked(done, kinds, at.date(), CHART_DAYS), kinds),
            ("Drift found in Keeper", chart.stacked(drift, {"drift": "found"}, at.date(), CHART_DAYS), {}),
        ],
        days=CHART_DAYS,
        amounts=sorted(((day, kinds[kind], number) for (day, kind), number in done.items()), reverse=True),
        entries=list(reversed(entries))[:MOST_RUNS],
        more=max(0, len(entries) - MOST_RUNS),
        results=words.RESULTS,
        size=(chart.WIDTH, chart.HEIGHT),
    )


@dataclass(frozen=True, slots=True)
class _Wait:
    what: str
    name: str
    since: datetime
    age: timedelta


def _waiting(settings: "Settings", store: "Store", at: datetime) -> list[_Wait]:
    """What waits, the longest first."""
    found = []
    held = store.held_now()
    if held is not None:
        run, since = held
        found.append(_Wait(f"{count(run.held, 'held operation')}, for a person", "", since, at - since))
    for wait in teams.waiting(store.snapshot(), settings.policy().teams):
        if wait["listed"]:
            continue
        asked = datetime.fromisoformat(wait["since"]) if wait["since"] else at
        what = " and ".join(["the team"] * wait["queued"] + [count(wait["members"], "member")] * bool(wait["members"]))
        how = "for approval in Keeper" if wait["certain"] else "asked for, approval not visible"
        found.append(_Wait(f"{what}, {how}", clean(wait["team"], 300), asked, at - asked))
    return sorted(found, key=lambda wait: wait.since)


# -- small things -----------------------------------------------------------------------------------------------------


def _name(at: datetime, result: str, key: str) -> str:
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{result}-{key[:8]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _text(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if at else ""
