"""The shipped example: approval one by one with Keeper Commander, which a small program plays here."""

import json
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from reconciler.inventory import parse
from tests.world import NOW

EXAMPLES = Path(__file__).parent.parent / "systemd" / "examples"
ENGINEERING, STRANGERS = "-EngineeringTeam-uid-A", "StrangersTeam-uid-AAAA"

KEEPER = """#!{python}
import json, os, shlex, sys
words = sys.argv[4:]
assert sys.argv[1:4] == ["--batch-mode", "--config", "config.json"], sys.argv
state = json.load(open("state.json"))
if words[0] == "enterprise-info":
    print(json.dumps(state["users" if "--users" in words else "teams"]))
else:
    for line in open(words[0]):
        command, *rest = shlex.split(line.removeprefix("@"))
        assert command == "enterprise-team" and rest[0] == "--force" and rest[2] == "--", line
        team = next(team for team in state["teams"] if team["team_uid"] == rest[3])
        if rest[1] == "--approve":
            team["restricts"] = "      "
        elif not state["stubborn"]:
            team["queued_users"].remove(rest[1].removeprefix("--add-user="))
    json.dump(state, open("state.json", "w"))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keeper = tmp_path / "keeper"
    keeper.write_text(KEEPER.format(python=sys.executable))
    keeper.chmod(0o700)
    keep(tmp_path, stubborn=False)
    return tmp_path


def keep(folder: Path, *, stubborn: bool) -> None:
    teams = [
        {"team_uid": uid, "name": name, "restricts": "Queued", "queued_users": ["ada@x.com", "bob@x.com", "eve@x.com"]}
        for uid, name in ((ENGINEERING, "Engineering"), (STRANGERS, "Strangers"))
    ]
    users = [{"email": f"{name}@x.com", "status": "Active"} for name in ("ada", "eve")]
    users.append({"email": "bob@x.com", "status": "Invited"})
    (folder / "state.json").write_text(json.dumps({"teams": teams, "users": users, "stubborn": stubborn}))


def approve(folder: Path, *teams: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / "commander-approve"],
        input=json.dumps({"version": 1, "tenant": "", "teams": teams}),
        cwd=folder,
        env={"KEEPER": str(folder / "keeper"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def queued(folder: Path) -> dict[str, tuple[str, list[str]]]:
    teams = json.loads((folder / "state.json").read_text())["teams"]
    return {team["name"]: (team["restricts"].strip(), team["queued_users"]) for team in teams}


ASKED = {"id": ENGINEERING, "name": "Engineering", "members": ["Ada@x.com", "bob@x.com"]}


def test_it_approves_what_is_named_and_nothing_else(folder: Path) -> None:
    before = queued(folder)
    ran = approve(folder, ASKED)
    assert ran.returncode == 0, ran.stderr
    assert "2 approvals asked for, 0 still queued" in ran.stdout
    # bob has only been invited, eve is not in the group in JumpCloud, and the strangers are not ours.
    assert queued(folder) == {"Engineering": ("", ["bob@x.com", "eve@x.com"]), "Strangers": before["Strangers"]}
    assert "0 approvals" in approve(folder, ASKED).stdout


def test_that_commander_ends_well_proves_nothing(folder: Path) -> None:
    keep(folder, stubborn=True)
    ran = approve(folder, ASKED)
    assert ran.returncode == 1
    assert ran.stdout.splitlines()[-1] == f"FAILED: still queued: {ENGINEERING} ada@x.com"


def test_what_is_no_id_and_no_address_reaches_no_command_line(folder: Path) -> None:
    before = queued(folder)
    approve(folder, {"id": "x; rm", "members": []}, {"id": STRANGERS + "\n", "members": ["ada@x.com' --delete '"]})
    assert queued(folder) == before


def test_the_inventory_is_what_the_reconciler_reads(folder: Path) -> None:
    def ask(keeper: str) -> subprocess.CompletedProcess[bytes]:
        env = {"KEEPER": keeper, "PATH": "/usr/bin:/bin"}
        return subprocess.run([EXAMPLES / "commander-inventory"], cwd=folder, env=env, capture_output=True, check=False)

    found = parse(ask(str(folder / "keeper")).stdout, NOW)
    assert found.teams[ENGINEERING].queued
    assert found.invited == {"bob@x.com"}
    assert ask("/bin/false").stdout == b"FAILED\n"


def test_one_asks_through_a_socket(folder: Path) -> None:
    def serve(listener: socket.socket, answer: bytes) -> None:
        link, _ = listener.accept()
        with link:
            given = b"".join(iter(lambda: link.recv(4096), b""))
            link.sendall(given.upper() + answer)

    for answer, code in ((b"done\n", 0), (b"FAILED: still queued\n", 1)):
        path = folder / f"socket-{code}"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            thread = threading.Thread(target=serve, args=(listener, answer))
            thread.start()
            ran = subprocess.run(
                [sys.executable, EXAMPLES / "ask-commander", path], input=b"hello\n", capture_output=True, check=False
            )
            thread.join()
        assert (ran.returncode, ran.stdout) == (code, b"HELLO\n" + answer)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for unit in EXAMPLES.glob("*.s*"):
        text = unit.read_text().replace("/usr/local/lib/reconciler/", f"{EXAMPLES}/")
        (tmp_path / unit.name).write_text(text.replace("SocketUser=reconciler", "SocketUser=root"))
    units = sorted(path.name for path in tmp_path.iterdir())
    assert len(units) == 4
    ran = subprocess.run(
        ["systemd-analyze", "verify", *units], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.stderr == ""
