"""How much memory the service holds while it waits: the real process, beside both simulators, between two cycles.

python -m benchmarks.idle 20 1000 20000
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.place import place

OFTEN = """\
[schedule]
interval = "1s"
jitter = "0s"
resync = "3s"
"""
CYCLES = 4
"""So many cycles without a change are waited for, a resync among them."""


def main(sizes: list[int]) -> None:
    print(" people  resident MB  peak MB")
    for size in sizes:
        print(f"{size:7} {'  '.join(f'{number / 1e6:9.1f}' for number in measure(size))}", flush=True)


def measure(size: int) -> tuple[int, int]:
    """Bytes that a service is resident with once it waits, and at most."""
    with place(size, max(2, size // 100), OFTEN) as here:
        folder = here.folder
        command = [sys.executable, "-m", "reconciler"]
        subprocess.run([*command, "apply"], cwd=folder, check=True, capture_output=True)
        with (folder / "log").open("wb") as log:
            service = subprocess.Popen([*command, "run"], cwd=folder, stdout=log, stderr=log)
        try:
            while (folder / "log").read_text().count("nothing to do") < CYCLES:
                time.sleep(0.1)
            status = Path(f"/proc/{service.pid}/status").read_text()
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait()
    return _bytes(status, "VmRSS"), _bytes(status, "VmHWM")


def _bytes(status: str, field: str) -> int:
    return int(status.partition(f"{field}:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [20, 1_000, 20_000])
