"""One organisation of a given size through the real command line and both simulators: requests, seconds, memory.

    python -m benchmarks.scale 1000 20000 100000

The simulators run in this process and take a core of their own; they answer at once and never throttle, so the seconds
are ours and theirs, not the network's.
"""

import os
import sys
import time
from pathlib import Path

from benchmarks.place import place

CHANGED = 0.005
"""This part of the people changes before the third run."""


def main(sizes: list[int]) -> None:
    print(" people  what                         exit JumpCloud  Keeper  seconds   MiB state MiB")
    for size in sizes:
        measure(size)


def measure(size: int) -> None:
    with place(size, max(10, size // 100)) as here:
        applications = here.jumpcloud.organization().applications.values()
        application = next(a.id for a in applications if a.displayLabel == "Keeper")

        def run(what: str, *arguments: str) -> None:
            for server in (here.front, here.back):
                server.requests.clear()
            began = time.monotonic()
            code, peak = command(here.folder, *arguments)
            took = time.monotonic() - began
            asked = [len(server.requests) for server in (here.front, here.back)]
            state = sum(path.stat().st_size for path in (here.folder / "state").glob("reconciler.db*"))
            print(
                f"{size:>7}  {what:<28} {code:>4} {asked[0]:>9} {asked[1]:>7} {took:>8.1f} {peak:>5} {state >> 20:>9}",
                flush=True,
            )

        run("plan of everybody", "plan", "--format", "json", "--output", "plan.json")
        run("first apply", "apply")
        run("nothing changed", "apply")
        scope = sorted(here.jumpcloud.in_scope(application))
        for one in scope[: round(len(scope) * CHANGED)]:
            here.jumpcloud.update_user(one, lastname="Changed", displayname="Changed")
        run(f"{CHANGED:.1%} of the names changed", "apply")
        run("resync, nothing changed", "resync")


def command(folder: Path, *arguments: str) -> tuple[int, int]:
    """The exit code of a run of the command, and its largest resident set in MiB."""
    pid = os.fork()
    if pid == 0:
        os.chdir(folder)
        quiet = os.open("out.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.execv(sys.executable, [sys.executable, "-m", "reconciler", *arguments])
    _, status, used = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(status), used.ru_maxrss >> 10


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [1_000, 20_000, 100_000])
