"""A machine to test the service on: a real systemd in namespaces of its own, on a Debian tree made by debootstrap."""

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".systemd"
"""Where the tree, with the wheels in it, is kept from one run to the next."""
CONSOLE = KEPT / "console.log"
PACKAGES = "systemd,dbus,python3,python3-venv,sudo"
PATIENCE = 60.0
"""Seconds until something that should happen at once must have happened, on a machine that is busy otherwise."""


class Machine:
    """A booted machine; `run` runs a program on it."""

    def __init__(self, process: int) -> None:
        self.process = process

    def run(
        self, *command: str, expect: int | None = 0, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as root, as from a log-in."""
        words = {"HOME": "/root", "LANG": "C.UTF-8", "NO_COLOR": "1", "COLUMNS": "110", **environment}
        words["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        inside = ["nsenter", "-t", str(self.process), "-a", "env", "-i", "--chdir=/root"]
        done = subprocess.run(
            [*inside, *(f"{name}={value}" for name, value in words.items()), *command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
        )
        said = f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert expect is None or done.returncode == expect, said
        assert "Traceback" not in done.stderr, said
        return done

    def has(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    def log(self, unit: str) -> str:
        """All that the journal has of a unit."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit).stdout


def until(what: Callable[[], object], patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


@contextmanager
def booted() -> Iterator[Machine]:
    """A machine with this checkout and its wheels in /root; skips where there can't be one."""
    _skip_where_impossible()
    tree = _tree()
    _download_wheels(tree / "root" / "wheels")
    _copy_checkout(tree / "root" / "reconciler")
    cgroup = _cgroup_mount() / f"reconciler-test-{os.getpid()}"
    with CONSOLE.open("wb") as log:
        # However this process ends, the machine ends with it.
        command = ["setpriv", "--pdeathsig", "KILL", str(Path(__file__).parent / "boot"), str(tree), str(cgroup)]
        outer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            machine = Machine(_wait_for_systemd(outer))
            machine.run("systemctl", "is-system-running", "--wait", expect=None)
            yield machine
        finally:
            outer.kill()
            outer.wait()
            _remove(cgroup)


def _skip_where_impossible() -> None:
    if os.geteuid() != 0:
        pytest.skip("a systemd of its own can only be booted by root")
    if Path("/proc/self/uid_map").read_text().split() != ["0", "0", str(2**32 - 1)]:
        pytest.skip("in a user namespace root is not root enough to boot a systemd")
    for program in ("debootstrap", "unshare", "nsenter"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed (apt-get install {program})")
    if platform.freedesktop_os_release().get("VERSION_CODENAME") != "bookworm":
        # The tree is made for the Python that runs here, so that the wheels of the one fit the other.
        pytest.skip("this host is not Debian 12")
    names = ["--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--fork"]
    tried = subprocess.run(["unshare", *names, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"namespaces are not allowed here: {tried.stderr.strip()}")
    try:
        probe = _cgroup_mount() / f"reconciler-probe-{os.getpid()}"
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        pytest.skip(f"control groups can't be made here: {error}")


def _cgroup_mount() -> Path:
    """Where the host has cgroup v2: alone, or beside version 1."""
    both = Path("/sys/fs/cgroup/unified")
    return both if both.is_dir() else Path("/sys/fs/cgroup")


def _tree() -> Path:
    tree = KEPT / "tree"
    if not tree.is_dir():
        fresh = KEPT / "tree.new"
        shutil.rmtree(fresh, ignore_errors=True)
        KEPT.mkdir(exist_ok=True)
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(fresh)]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"debootstrap fails here: {made.stdout.strip()[-300:]}")
        fresh.rename(tree)
    return tree


def _download_wheels(wheels: Path) -> None:
    """Get what requirements.lock asks for, for a machine without a network."""
    lock = ROOT / "requirements.lock"
    if not (wheels / lock.name).is_file() or (wheels / lock.name).read_bytes() != lock.read_bytes():
        shutil.rmtree(wheels, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--only-binary=:all:"]
        subprocess.run([*pip, "-r", lock, "-d", wheels], check=True)
        shutil.copy(lock, wheels)


def _copy_checkout(to: Path) -> None:
    """The files that git knows or would take."""
    shutil.rmtree(to, ignore_errors=True)
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in filter(None, subprocess.check_output(listed, text=True).split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)


def _wait_for_systemd(outer: "subprocess.Popen[bytes]") -> int:
    """The id of process 1 of the machine, once its manager answers."""
    found: list[int] = []

    def answers() -> bool:
        assert outer.poll() is None, CONSOLE.read_text(errors="replace")
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        if not children or Path(f"/proc/{children[0]}/comm").read_text().strip() != "systemd":
            return False
        found[:] = [int(children[0])]
        machine = Machine(found[0])
        return machine.run("systemctl", "is-system-running", expect=None).stdout.strip() not in ("", "offline")

    until(answers)
    return found[0]


def _remove(cgroup: Path) -> None:
    below = sorted((Path(folder) for folder, _, _ in os.walk(cgroup)), reverse=True)
    until(lambda: not (cgroup / "cgroup.events").is_file() or "populated 0" in (cgroup / "cgroup.events").read_text())
    for folder in below:
        folder.rmdir()
