"""The units, as far as systemd's own tools judge them without running them. tests/systemd runs them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.daemon import STOP_PATIENCE
from reconciler.exits import STATE, USAGE
from reconciler.settings_fields import parse_duration

UNITS = Path(__file__).parents[1] / "systemd"
PROGRAM = "/opt/reconciler/bin/reconciler"
EXPOSURE = 1.1
needs_analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


def lines(unit: str) -> list[str]:
    return [line for line in (UNITS / unit).read_text().splitlines() if line and not line.startswith("#")]


def value(unit: str, key: str) -> str:
    [found] = [line.partition("=")[2] for line in lines(unit) if line.startswith(f"{key}=")]
    return found


@pytest.fixture(params=["reconciler.service", "reconciler@.service"])
def unit(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def installed(unit: str, tmp_path: Path) -> Path:
    """The unit with a program that is there."""
    copy = tmp_path / unit
    copy.write_text((UNITS / unit).read_text().replace(PROGRAM, sys.executable))
    return copy


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60)


@needs_analyze
def test_verify_has_nothing_to_say(installed: Path) -> None:
    # It ends with 0 even where it does not know a key.
    found = analyze("verify", "--man=no", installed)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@needs_analyze
def test_the_exposure_is_low_and_each_exception_is_explained(installed: Path) -> None:
    threshold = str(round(EXPOSURE * 10))
    found = analyze("security", "--offline=true", "--no-pager", f"--threshold={threshold}", installed)
    assert found.returncode == 0, found.stdout
    explained = (UNITS / "reconciler.service").read_text()
    for line in found.stdout.splitlines():
        if "✗" in line:
            key = re.split(r"[=/ ]", line.split()[1])[0]
            assert re.search(rf"^#.*\b{key}=", explained, re.MULTILINE), line


def test_it_is_given_longer_to_stop_than_it_takes(unit: str) -> None:
    assert parse_duration(value(unit, "TimeoutStopSec")).total_seconds() >= STOP_PATIENCE + 20


def test_what_takes_a_person_is_not_tried_again(unit: str) -> None:
    assert value(unit, "RestartPreventExitStatus").split() == [str(USAGE), str(STATE)]


def test_the_template_differs_in_what_is_a_tenant_s_own_and_nothing_else() -> None:
    one, many = lines("reconciler.service"), lines("reconciler@.service")
    own = ["TemporaryFileSystem=/var/lib/reconciler:ro", "BindPaths=/var/lib/reconciler/%i"]
    many = [line for line in many if line not in own]
    assert [
        line.replace("%i.toml", "config.toml").replace("/%i", "").replace("%i.", "").replace(" (%i)", "")
        for line in many
    ] == one
    assert len([line for line in many if "%i" in line]) == len([line for line in one if "LoadCredential" in line]) + 3


def test_the_shown_settings_name_the_credentials_that_are_loaded() -> None:
    example = (UNITS.parent / "config.example.toml").read_text() + (UNITS / "README.md").read_text()
    named = set(re.findall(r'{ credential = "([a-z-]+)" }', example))
    loaded = {line.partition("=")[2] for line in lines("reconciler.service") if line.startswith("LoadCredential=")}
    assert named == loaded
