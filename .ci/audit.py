"""Known vulnerabilities of whatever the lock files install: one makes this fail, as does a call that is wrong.

    python .ci/audit.py PIP-AUDIT

pip-audit asks a package index what is known of each version. Where that can't be had it passes over the version, or
ends with a stack trace: then this says how much was not audited, and does not fail, since it depends on the network.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCKS = sorted(Path(__file__).parents[1].glob("requirements*.lock"))
PATIENCE = 300  # seconds


def audited(program: str, lock: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = ["--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json", "-r", str(lock)]
    command = [program, *words, *more]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {PATIENCE} s")


def packages(printed: str) -> list[dict[str, Any]] | None:
    try:
        found: list[dict[str, Any]] = json.loads(printed)["dependencies"]
    except (ValueError, KeyError):
        return None
    return found


def main(program: str) -> int:
    bad = False
    for lock in LOCKS:
        dry = audited(program, lock, "--dry-run")
        if dry.returncode:
            print(f"{lock.name}: pip-audit can't read it\n{dry.stderr}")
            return 1
        ran = audited(program, lock)
        found = packages(ran.stdout)
        if found is None:
            last = (ran.stderr.strip().splitlines() or ["it said nothing"])[-1].split(":")[0]
            print(f"{lock.name}: NOT AUDITED, the data can't be reached from here ({last})")
            continue
        for package in found:
            for known in package.get("vulns", ()):
                bad = True
                fixed = ", ".join(known.get("fix_versions", ())) or "no version"
                print(f"{lock.name}: {package['name']} {package['version']}: {known['id']}, mended in {fixed}")
        skipped = sum("skip_reason" in package for package in found)
        print(f"{lock.name}: {len(found) - skipped} of {len(found)} packages audited")
        if skipped:
            print(f"{lock.name}: {skipped} NOT AUDITED, the data of their versions can't be reached from here")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
