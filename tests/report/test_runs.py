"""The reports of runs: which runs have one, what is in it, who may read it, and that it never stands in the way."""

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from loguru import logger

from reconciler import config
from reconciler.apply import Result
from reconciler.cycle import Outcome
from reconciler.plan import Plan
from reconciler.reading import NobodyThere, Stopped
from reconciler.report import files, html, runs
from reconciler.rows import State
from reconciler.store import Store
from tests.plans import AT, HOSTILE, accident, everything, takeover

MINUTE = timedelta(minutes=1)
BY, WHY = "ann", "ticket 7"
SETTINGS = """
tenant = "North"
[keeper]
scim_url = "https://keepersecurity.com/api/rest/scim/v2/123456789"
[report]
directory = "reports"
keep = "30d"
"""


class Stage:
    """A store, and settings with a directory for reports."""

    def __init__(self, folder: Path, store: Store) -> None:
        (folder / "config.toml").write_text(SETTINGS)
        self.settings = config.load(folder / "config.toml")
        self.store = store
        self.folder = folder / "reports"

    def run(self, plan: Plan, at: datetime = AT, result: str = "held", states: tuple[State, ...] = ()) -> None:
        """A run with this outcome, recorded as the cycle does it, and its report."""
        results = {n: Result(plan.operations[n], state, "", "Keeper says no") for n, state in enumerate(states)}
        run_id = self.store.begin_run(plan.kind, at, by=BY, reason=WHY)
        ids = self.store.write_ahead(run_id, [r.operation for r in results.values()], {}, at)
        for operation_id, state in zip(ids, states, strict=True):
            self.store.record(operation_id, state, at, "")
        held = len(plan.held_indices)
        self.store.finish_run(run_id, at, result, plan_id=plan.id, held=held)
        runs.keep(self.settings, self.store, Outcome(run_id, plan, result, results), run_id)

    def fail(self, why: str, at: datetime = AT) -> None:
        """A run that ends in an error before it has sent anything."""
        run_id = self.store.begin_run("cycle", at, by=BY, reason=WHY)
        self.store.finish_run(run_id, at, "failed", error=why)
        runs.keep(self.settings, self.store, RuntimeError(why), run_id)

    def names(self, ending: str = "html") -> list[str]:
        return sorted(path.name for path in self.folder.glob(f"2*.{ending}"))

    def page(self, number: int = -1) -> str:
        return (self.folder / self.names()[number]).read_text()

    @property
    def index(self) -> str:
        return (self.folder / "index.html").read_text()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Store.open(tmp_path / "state.db", write=True) as store:
        yield Stage(tmp_path, store)


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    found: list[str] = []
    handler = logger.add(lambda message: found.append(str(message)), level="WARNING", format="{message}")
    yield found
    logger.remove(handler)


QUIET = replace(takeover(), operations=())
DONE = (State.DONE,) * 4


def test_a_held_run_has_a_report_and_a_document(stage: Stage) -> None:
    stage.run(accident())
    assert "HELD: nothing was sent." in stage.page()
    assert "ticket 7" in stage.page()
    document = json.loads((stage.folder / stage.names("json")[0]).read_text())
    assert document["plan"]["id"] == accident().id
    assert document["run"]["by"] == "ann"
    assert document["result"] == "held"


def test_a_run_that_changed_something_tells_each_outcome(stage: Stage) -> None:
    stage.run(takeover(), result="partial", states=(State.DONE, State.DONE, State.FAILED, State.UNKNOWN))
    assert "Applied in part: 2 done, 1 failed, 1 without a known outcome." in stage.page()
    results = json.loads((stage.folder / stage.names("json")[0]).read_text())["results"]
    assert [row["state"] for row in results] == ["done", "done", "failed", "unknown"]


def test_a_run_with_nothing_to_do_has_none_but_the_index_knows_of_it(stage: Stage) -> None:
    stage.run(QUIET, result="nothing")
    assert stage.names() == []
    assert "Last run: nothing to do." in stage.index


def test_a_failed_cycle_says_what_failed_and_that_nothing_was_sent(stage: Stage) -> None:
    stage.run(takeover(), AT - MINUTE, "done", DONE)
    stage.fail("JumpCloud does not answer <b>")
    assert "FAILED: the cycle did not come to its end." in stage.page()
    assert "JumpCloud does not answer &lt;b&gt;" in stage.page()
    assert "Nothing was sent to Keeper" in stage.page()
    assert "reconciler check" in stage.page()
    assert stage.index.index("FAILED") < stage.index.index("Done: 4")


def test_a_cycle_that_failed_half_way_counts_what_was_done(stage: Stage) -> None:
    run_id = stage.store.begin_run("cycle", AT, by="ann", reason="")
    ids = stage.store.write_ahead(run_id, list(takeover().operations), {}, AT)
    stage.store.record(ids[0], State.DONE, AT, "")
    stage.store.mark_sent(ids[1], AT, takeover().operations[1])
    stage.store.finish_run(run_id, AT, "failed", error="the disk is full")
    runs.keep(stage.settings, stage.store, RuntimeError("the disk is full"), run_id)
    assert "1 operation done" in stage.page()
    assert "1 operation sent, outcome unknown" in stage.page()
    assert "2 operations not sent" in stage.page()
    assert "Nothing was sent" not in stage.page()


@pytest.mark.parametrize("ended", [Stopped("asked to stop"), NobodyThere("nobody@example.com is nobody")])
def test_what_a_person_ended_is_no_failed_cycle(stage: Stage, ended: Exception) -> None:
    run_id = stage.store.begin_run("cycle", AT, by=BY, reason=WHY)
    stage.store.finish_run(run_id, AT, "stopped")
    runs.keep(stage.settings, stage.store, ended, run_id)
    assert stage.names() == []
    assert "Last run: stopped." in stage.index


def test_what_is_held_again_or_fails_again_is_counted_and_not_written_again(stage: Stage) -> None:
    for n in range(3):
        stage.run(accident(), AT + n * MINUTE)
    for n in range(3, 5):
        stage.fail("no answer", AT + n * MINUTE)
    stage.run(accident(), AT + 5 * MINUTE)
    assert len(stage.names()) == 3
    assert "3 times, until" in stage.index
    assert "2 times, until" in stage.index


def test_a_run_that_comes_to_the_same_for_another_reason_has_a_report_of_its_own(stage: Stage) -> None:
    quiet = replace(accident(), operations=(), held=())
    for number, name in enumerate(("groups in scope", "user groups")):
        stage.run(replace(quiet, scope=replace(quiet.scope, unread=(name,))), AT + number * MINUTE, "partial")
        assert f"NOT READ: JumpCloud&#39;s list of {name}" in stage.index
    assert len(stage.names()) == 2


def test_the_same_plan_sent_twice_has_two_reports(stage: Stage) -> None:
    stage.run(takeover(), AT, "done", DONE)
    stage.run(takeover(), AT + MINUTE, "done", DONE)
    assert len(stage.names()) == 2


def test_the_group_may_read_them_whatever_the_umask(stage: Stage) -> None:
    former = os.umask(0o077)
    try:
        stage.run(accident())
    finally:
        os.umask(former)
    assert stat.S_IMODE(stage.folder.stat().st_mode) == 0o750
    assert {stat.S_IMODE(path.stat().st_mode) for path in stage.folder.iterdir()} == {0o640}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_writes_belongs_to_the_owner_of_the_directory(stage: Stage) -> None:
    os.chown(stage.folder.parent, 65534, 65534)
    stage.run(accident())
    found = [stage.folder, *stage.folder.iterdir()]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in found} == {(65534, 65534)}


def test_nobody_else_may_read_them_whatever_the_umask(stage: Stage) -> None:
    former = os.umask(0)
    try:
        stage.run(accident())
    finally:
        os.umask(former)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in stage.folder.iterdir()}
    assert modes == {0o640}
    assert stat.S_IMODE(stage.folder.stat().st_mode) & 0o027 == 0


def test_old_reports_go_and_nothing_else_does(stage: Stage) -> None:
    stage.run(takeover(), AT - timedelta(days=31), "done", DONE)
    stage.run(takeover(), AT - timedelta(days=29), "done", DONE)
    others = ["notes.html", "20200101T000000Z-done-00000000.txt", "20200101T000000Z-report.html"]
    for name in others:
        (stage.folder / name).write_text("mine")
    lost = stage.folder / "20200101T000000Z-done-00000000.html"
    lost.write_text("of an index that was lost")
    draft = stage.folder / ".index.html.123.tmp"
    draft.write_text("cut off")
    os.utime(draft, (0, 0))
    stage.run(takeover(), AT, "done", DONE)
    assert [name[:8] for name in stage.names()] == ["20200101", "20261026", "20261124"]
    assert stage.names("json") == [name.replace("html", "json") for name in stage.names()[1:]]
    assert all((stage.folder / name).exists() for name in others)
    assert not lost.exists()
    assert not draft.exists()


def test_a_former_hold_is_not_taken_for_this_one(stage: Stage) -> None:
    stage.run(accident(), AT - timedelta(days=9))
    stage.run(accident(), AT - timedelta(hours=2))
    stage.run(accident(), AT)
    assert "2 h 0 min" in stage.index


def test_a_plan_that_is_held_for_longer_than_reports_are_kept_keeps_its_report(stage: Stage) -> None:
    for days in range(40, -1, -1):
        stage.run(accident(), AT - timedelta(days=days))
    assert len(stage.names()) == 1
    assert "41 times" in stage.index


def test_the_index_shows_what_waits_and_since_when(stage: Stage) -> None:
    for hours in (30, 15, 0):
        stage.run(accident(), AT - timedelta(hours=hours))
    assert "40 held operations, for a person" in stage.index
    assert "1 d 6 h" in stage.index
    stage.run(QUIET, AT + MINUTE, "nothing")
    assert "40 held operations, for a person" not in stage.index
    assert "Nothing: no plan is held" in stage.index


def test_the_index_draws_what_was_done_and_the_drift(stage: Stage) -> None:
    stage.run(takeover(), AT, "done", DONE)
    assert "<title>2026-11-24: 2 change</title>" in stage.index
    assert "<title>2026-11-24: 1 found</title>" in stage.index


def test_an_index_that_was_damaged_is_begun_anew(stage: Stage, warnings: list[str]) -> None:
    stage.run(takeover(), AT, "done", DONE)
    (stage.folder / "index.json").write_text('[{"name": 1')
    stage.run(accident(), AT + MINUTE)
    assert len(stage.names()) == 2
    assert "begun anew" in warnings[0]
    assert len(json.loads((stage.folder / "index.json").read_text())) == 1


def test_a_report_that_can_not_be_written_is_a_warning(stage: Stage, warnings: list[str]) -> None:
    stage.folder.write_text("a file where the directory should be")
    stage.run(accident())
    assert len(warnings) == 1
    assert "could not be written" in warnings[0]
    assert str(stage.folder) in warnings[0]


def test_no_error_of_a_report_reaches_the_cycle(
    stage: Stage, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> str:
        raise LookupError("a template is missing")

    monkeypatch.setattr(html, "render", broken)
    stage.run(accident())
    assert "a template is missing" in warnings[0]


def test_nothing_is_written_without_a_directory(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(SETTINGS.replace('directory = "reports"', ""))
    stage.settings = config.load(tmp_path / "config.toml")
    stage.run(accident())
    assert not stage.folder.exists()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_names(stage: Stage, name: str) -> None:
    stage.run(everything(name))
    stage.fail(name, AT + MINUTE)
    written = [path.read_text() for path in stage.folder.iterdir()]
    assert not any(c in text for text in written for c in "\x1b\x07\u202e\u2066\u200b\u2028")
    for page in (stage.page(0), stage.page(1), stage.index):
        assert page.count("<script>") == 1
        assert "<img" not in page
        assert "<svg onload" not in page


def test_no_half_file_is_left_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("the former one")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write(path, "half of the new one", files.GROUP)
    assert path.read_text() == "the former one"
    assert list(tmp_path.iterdir()) == [path]
