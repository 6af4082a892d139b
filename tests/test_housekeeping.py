"""Keeping house: the state file stays compact over the years, one copy a day is kept, and none fills the disk."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.years import play
from reconciler import statefile
from reconciler.model import Account, Standing, Team
from reconciler.plan import Cause, Kind, Operation, Rule, Subject
from reconciler.store import Store, Unusable, journal
from reconciler.store.journal import COPIES, DOCUMENTS

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
DAY, MONTH = timedelta(days=1), timedelta(days=30)
MANY = 30 * 2**20
LOCK = Operation(Kind.DEACTIVATE_USER, Subject("user", "ada", "j", "k"), Cause.JUMPCLOUD, Rule.LEFT, "left the scope")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reconciler.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """A state file whose house was kept for the first time."""
    with Store.open(path, write=True) as opened:
        opened.keep_house(NOW, MONTH)
        yield opened


def copies(path: Path) -> list[str]:
    return sorted(copy.name for copy in path.parent.glob("*.copy*"))


def fill(store: Store, size: int = MANY) -> None:
    """Journal so many bytes."""
    run = store.begin_run("cycle", NOW, by="root", reason="")
    store.finish_run(run, NOW, "failed", error="x" * size)


def test_over_months_the_file_does_not_grow(path: Path) -> None:
    """Of 83 days with a cycle an hour, and a history of ten days, the first twenty."""
    sizes = list(play(path, cycles=2000, every=timedelta(hours=1), people=20, history=10 * DAY, look=500))
    assert sizes[-1].file < 1.25 * sizes[0].file
    assert len(copies(path)) == COPIES


def test_the_house_is_kept_once_a_day_and_seven_copies_are(path: Path, store: Store) -> None:
    assert copies(path) == []
    done = [store.keep_house(NOW + hour * timedelta(hours=1), MONTH) for hour in range(24 * 10 + 1)]
    assert sum(done) == 10
    assert copies(path) == [f"reconciler.db.2026-{day}.copy" for day in ("11-28", "11-29", "11-30")] + [
        f"reconciler.db.2026-12-0{day}.copy" for day in (1, 2, 3, 4)
    ]


def test_a_copy_is_a_state_file(path: Path, store: Store) -> None:
    store.set_meta("standing", "as it was")
    store.keep_house(NOW + DAY, MONTH)
    store.set_meta("standing", "as it is")
    with Store.open(path.with_name("reconciler.db.2026-11-25.copy"), write=False) as copy:
        assert copy.meta("standing") == "as it was"


def test_what_was_forgotten_is_given_back_to_the_disk(path: Path, store: Store) -> None:
    fill(store)
    store.keep_house(NOW + DAY, MONTH)
    assert path.with_name("reconciler.db-wal").stat().st_size <= statefile.ROOM + 2**16
    assert path.stat().st_size > MANY
    store.keep_house(NOW + 2 * MONTH, MONTH)
    store.set_meta("a commit", "after which the WAL can be played back")
    assert path.with_name("reconciler.db.2027-01-23.copy").stat().st_size < MANY / 10


def test_of_plans_that_follow_on_each_other_only_the_newest_keep_their_documents(store: Store) -> None:
    for number in range(DOCUMENTS + 5):
        run = store.begin_run("cycle", NOW + number * timedelta(minutes=5), by="schedule", reason="")
        store.finish_run(run, NOW, "held", plan_id=f"plan {number}", held=1, document="{}")
    kept = [run.id for run in store.runs(100) if store.document(run.id) is not None]
    assert kept == list(range(DOCUMENTS + 5, 5, -1))


def test_without_room_for_a_copy_the_rest_is_done_and_it_is_tried_the_next_day(
    path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.keep_house(NOW + DAY, MONTH)
    fill(store, 10)
    with monkeypatch.context() as full:
        full.setattr(statefile, "_free", lambda _: 2 * statefile.ROOM)
        with pytest.raises(Unusable, match="to copy it beside itself"):
            store.keep_house(NOW + 2 * MONTH, MONTH)
        assert not store.keep_house(NOW + 2 * MONTH + DAY / 2, MONTH)
    assert store.runs(9) == []
    assert copies(path) == ["reconciler.db.2026-11-25.copy"]
    assert store.keep_house(NOW + 2 * MONTH + DAY, MONTH)
    assert copies(path)[1:] == ["reconciler.db.2027-01-24.copy"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a disk")
@pytest.mark.parametrize(("size", "copied"), [("60m", False), ("120m", True)])
def test_a_copy_never_takes_the_room_that_the_work_needs(tmp_path: Path, size: str, copied: bool) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        path = small / "reconciler.db"
        with Store.open(path, write=True) as store:
            store.keep_house(NOW, MONTH)
            fill(store, 20 * 2**20)
            with contextlib.nullcontext() if copied else pytest.raises(Unusable, match="to copy it beside itself"):
                store.keep_house(NOW + DAY, MONTH)
            assert copies(path) == (["reconciler.db.2026-11-25.copy"] if copied else [])
            store.write_ahead(store.begin_run("cycle", NOW, by="root", reason=""), [LOCK], {}, NOW)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_what_nobody_manages_and_keeper_lacks_is_forgotten_in_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def days_ago(*days: int) -> None:
        at = {f"k{day}": NOW - day * DAY for day in days}
        accounts = [Account(key, Standing.UNMANAGED, True, gone=True, missed_at=missed) for key, missed in at.items()]
        store.put(accounts, [Team(key, Standing.UNMANAGED, gone=True, missed_at=missed) for key, missed in at.items()])

    kept = [
        Account("kept", Standing.UNMANAGED, True),
        *(
            Account(one.value, one, False, gone=True, missed_at=NOW - 99 * DAY)
            for one in (Standing.MANAGED, Standing.DISOWNED)
        ),
    ]
    store.put(
        kept, [Team("kept", Standing.UNMANAGED), Team("managed", Standing.MANAGED, gone=True, missed_at=NOW - 99 * DAY)]
    )
    days_ago(1, 2, 28, 30)
    assert store.keep_house(NOW + DAY, MONTH)
    held = store.snapshot()
    assert held.accounts.keys() == {"kept", "managed", "disowned", "k1", "k2", "k28"}
    assert held.teams.keys() == {"kept", "managed", "k1", "k2", "k28"}
    monkeypatch.setattr(journal, "MOST_BYGONE", 2)
    assert store.keep_house(NOW + 2 * DAY, MONTH)
    held = store.snapshot()
    assert held.accounts.keys() == {"kept", "managed", "disowned", "k1", "k2"}
    assert held.teams.keys() == {"kept", "managed", "k1", "k2"}
