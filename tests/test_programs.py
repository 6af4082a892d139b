"""Programs that the settings name."""

import asyncio
import sys
import time
from pathlib import Path

import pytest

from reconciler import programs
from reconciler.programs import Ran
from reconciler.secrets import Secret


def ran(code: str, given: bytes = b"", limit: float = 30, most: int = 1 << 20) -> Ran:
    env = programs.environment([Secret("env", "OUR_TOKEN")])
    return asyncio.run(programs.run([sys.executable, "-c", code], given, limit=limit, env=env, most=most))


def test_it_gets_its_input_and_gives_its_output() -> None:
    found = ran("import sys; print(sys.stdin.read().upper()); print('careful', file=sys.stderr)", b"ada")
    assert found == Ran(b"ADA\n", b"careful\n")


def test_it_never_sees_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_TOKEN", "secret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x")
    monkeypatch.setenv("THEIRS", "kept")
    seen = ran("import os; print(sorted(os.environ))").output.decode()
    assert "THEIRS" in seen
    assert "OUR_TOKEN" not in seen and "CREDENTIALS_DIRECTORY" not in seen


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("raise SystemExit(3)", "ended with exit code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "was ended by signal 15"),
        ("print('x' * 3000)", "printed more than 2000 bytes"),
    ],
)
def test_what_went_wrong_is_told(code: str, problem: str) -> None:
    found = ran(code, most=2000)
    assert found.problem == problem
    assert len(found.output) <= 2000


def test_a_program_that_is_not_there_is_told() -> None:
    found = asyncio.run(programs.run(["/no/such/program"], b"", limit=5, env={}))
    assert found.problem == "could not be started: No such file or directory"


def test_a_program_that_hangs_is_stopped_with_its_children(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    child = f"import time; time.sleep(2); open({str(alive)!r}, 'w')"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    began = time.monotonic()
    assert "did not end within 1 s" in ran(code, limit=1).problem
    assert time.monotonic() - began < 30
    time.sleep(2)
    assert not alive.exists()


def test_input_that_is_not_read_and_output_without_end_block_nothing() -> None:
    assert ran("import sys; sys.stdout.write('x' * 10_000_000)", b"y" * 5_000_000, most=100).problem.startswith(
        "printed"
    )


def leaving_a_child(folder: Path, code: int) -> tuple[str, Path]:
    """A program that leaves a child with its output behind; and the file that the child writes if it lives on."""
    alive = folder / "alive"
    child = f"import time; time.sleep(3); open({str(alive)!r}, 'w')"
    start = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}])"
    return f"{start}; print('done'); sys.exit({code})", alive


@pytest.mark.parametrize(("code", "problem"), [(0, ""), (3, "ended with exit code 3")])
def test_a_program_that_leaves_a_child_behind_is_over_when_it_ends_and_so_is_the_child(
    tmp_path: Path, code: int, problem: str
) -> None:
    words, alive = leaving_a_child(tmp_path, code)
    assert ran(words) == Ran(b"done\n", b"", problem, code)
    time.sleep(3)
    assert not alive.exists()


def test_a_child_that_left_the_group_is_not_waited_for() -> None:
    child = "import time; time.sleep(20)"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)"
    began = time.monotonic()
    assert ran(code) == Ran(b"", b"")
    assert time.monotonic() - began < 15


def test_nothing_is_left_behind_by_who_is_cancelled(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    code = f"import time; time.sleep(3); open({str(alive)!r}, 'w')"

    async def cancelled() -> None:
        async with asyncio.timeout(0.5):
            await programs.run([sys.executable, "-c", code], b"", limit=30, env={})

    with pytest.raises(TimeoutError):
        asyncio.run(cancelled())
    time.sleep(3)
    assert not alive.exists()
