"""What it takes to keep the snapshot of very many people in the state file: processor seconds, and bytes written.

python -m benchmarks.statefile 1000 20000 100000
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from benchmarks.organisation import READ_AT, organisation
from reconciler.model import Snapshot
from reconciler.plan import SCHEDULE
from reconciler.store import Store


def main(sizes: list[int]) -> None:
    print(" people  what                                   CPU s   written KiB   file MiB")
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            measure(size, Path(folder) / "reconciler.db")


def measure(people: int, path: Path) -> None:
    everybody = organisation(people)
    with Store.open(path, write=True) as store:

        def timed(what: str, work: Callable[[], object]) -> None:
            written, began = _written(), time.process_time()
            work()
            took, more = time.process_time() - began, (_written() - written) >> 10
            print(f"{people:7}  {what:<36} {took:7.2f} {more:13} {path.stat().st_size / 2**20:10.1f}", flush=True)

        timed("everybody is new", lambda: store.save(everybody, Snapshot()))
        timed("loading", store.snapshot)
        before, now = store.snapshot(), store.snapshot()
        timed("a resync without a change", lambda: _cycle(store, replace(now, read_at=READ_AT + timedelta(1)), before))
        some = {key: replace(one, left_at=READ_AT) for key, one in list(now.accounts.items())[: people // 200]}
        timed("0.5% have changed", lambda: store.save(replace(now, accounts={**now.accounts, **some}), before))


def _written() -> int:
    """Bytes that this process has written so far."""
    return int(Path("/proc/self/io").read_text().partition("wchar:")[2].split()[0])


def _cycle(store: Store, now: Snapshot, before: Snapshot) -> None:
    run = store.begin_run("cycle", READ_AT, by=SCHEDULE, reason="")
    store.save(now, before)
    store.finish_run(run, READ_AT, "nothing")


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [1_000, 20_000, 100_000])
