"""One organisation of a given size through the real command line and both simulators: requests, seconds, memory.

    python -m benchmarks.scale 1000 20000 100000

The simulators run in this process and take a core of their own; they answer at once and never throttle, so the seconds
are ours and theirs, not the network's.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from reconciler.simulator.jumpcloud import JumpCloud
from reconciler.simulator.keeper import Keeper
from reconciler.simulator.sample import API_KEY, organisation
from reconciler.simulator.server import Server

CHANGED = 0.005
"""This part of the people changes before the third run."""

SETTINGS = """\
[jumpcloud]
application = "Keeper"
api_key = {{ file = "api-key" }}
base_url = "{front}"
[keeper]
scim_url = "{back}"
token = {{ file = "token" }}
[policy]
protect = []
grace = "0s"
[safety]
first_run = "apply"
"""


def main(sizes: list[int]) -> None:
    print(" people  what                         exit JumpCloud  Keeper  seconds   MiB state MiB")
    for size in sizes:
        measure(size)


def measure(size: int) -> None:
    jumpcloud, keeper = JumpCloud(), Keeper()
    jumpcloud.load(organisation(size, max(10, size // 100)))
    application = next(a.id for a in jumpcloud.organization().applications.values() if a.displayLabel == "Keeper")
    with tempfile.TemporaryDirectory() as name, Server(jumpcloud) as front, Server(keeper) as back:
        folder = Path(name)
        for secret, value in (("api-key", API_KEY), ("token", keeper.token())):
            (folder / secret).write_text(value)
            (folder / secret).chmod(0o600)
        (folder / "config.toml").write_text(SETTINGS.format(front=front.url, back=back.url + keeper.base_path()))

        def run(what: str, *arguments: str) -> None:
            for server in (front, back):
                server.requests.clear()
            began = time.monotonic()
            code, peak = command(folder, *arguments)
            took = time.monotonic() - began
            asked = [len(server.requests) for server in (front, back)]
            state = sum(path.stat().st_size for path in (folder / "state").glob("reconciler.db*"))
            print(
                f"{size:>7}  {what:<28} {code:>4} {asked[0]:>9} {asked[1]:>7} {took:>8.1f} {peak:>5} {state >> 20:>9}",
                flush=True,
            )

        run("plan of everybody", "plan", "--format", "json", "--output", "plan.json")
        run("first apply", "apply")
        run("nothing changed", "apply")
        scope = sorted(jumpcloud.in_scope(application))
        for one in scope[: round(len(scope) * CHANGED)]:
            jumpcloud.update_user(one, lastname="Changed", displayname="Changed")
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
