"""Bad input: a clear message, the documented exit code, nothing sent, nothing lost."""

import fcntl
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from reconciler.simulator.faults import InvalidJson
from tests.stage import World


@pytest.fixture
def filled(world: World) -> World:
    world.person("ada", world.group("Engineering"))
    return world


def state(world: World) -> Path:
    return world.folder / "state" / "reconciler.db"


def refused(world: World, code: int, *words: str) -> str:
    done = world.run("apply", expect=code)
    for word in words:
        assert word in done.stderr, done.stderr
    assert world.writes() == 0
    return done.stderr


def test_a_missing_settings_file(filled: World) -> None:
    (filled.folder / "config.toml").unlink()
    done = filled.run("--help")
    assert "Exit codes" in done.stdout
    filled.run("apply", "--config", "nowhere.toml", expect=2)


def test_unknown_keys_and_bad_values_are_reported_all_at_once(filled: World) -> None:
    filled.write_settings(safety='[safety]\nmax_deactivation = 3\nwindow = "soon"\n')
    refused(filled, 2, "safety.max_deactivation", "max_deactivations", "safety.window")


def test_a_secret_that_others_can_read(filled: World) -> None:
    (filled.folder / "token").chmod(0o644)
    refused(filled, 2, "token")
    filled.run("check", "--offline", expect=2)


def test_what_the_settings_name_and_nobody_is_called_is_told_by_check(filled: World) -> None:
    filled.person("outside")
    filled.keeper.add_user("Break.Glass@example.com")
    filled.policy["protect"] = (
        '["ada@example.com", "outside@example.com", "break.glass@example.com", "breakglas@example.com"]'
    )
    filled.policy["only"] = '{ groups = ["Engineering", "Enginering"], users = ["bob@example.com"] }'
    filled.teams |= {"exclude": '["Eng*", "Sales*"]', "review": '["Prod*"]'}
    filled.write_settings()
    said = filled.run("check").stdout
    assert [line.removeprefix("Look again at ") for line in said.splitlines() if line.startswith("Look again")] == [
        "policy.only: nobody has the address bob@example.com, neither in JumpCloud nor in Keeper.",
        "policy.protect: nobody has the address breakglas@example.com, neither in JumpCloud nor in Keeper.",
        "policy.only: no group in scope is called Enginering.",
        "teams.exclude: no group in scope is like Sales*.",
        "teams.review: no group in scope is like Prod*.",
    ]
    assert filled.writes() == 0


def test_a_pilot_that_matches_nobody_is_an_error_of_check(filled: World) -> None:
    ada = next(iter(filled.jumpcloud.in_scope(filled.application)))
    filled.person("outside", filled.jumpcloud.add_group("Not bound"))
    for only, code in (
        ('{ groups = ["Engineering"] }', 0),
        ('{ users = ["ADA@example.com"] }', 0),
        ('{ groups = ["Renamed"], users = ["ada@example.com"] }', 0),
        ('{ groups = ["Renamed", "Not bound"], users = ["outside@example.com"] }', 1),
    ):
        filled.policy["only"] = only
        filled.write_settings()
        said = filled.run("check", expect=code).stderr
        assert ("policy.only matches nobody in scope" in said) == bool(code), only
    assert "It names the group Not bound, the group Renamed, the address outside@example.com." in said
    filled.policy["only"] = '{ groups = ["Engineering"] }'
    filled.write_settings()
    filled.jumpcloud.suspend(ada)
    assert "policy.only matches nobody" in filled.run("check", expect=1).stderr


def test_a_wrong_api_key(filled: World) -> None:
    filled.jumpcloud.revoke_api_key("jca_" + "5" * 40)
    refused(filled, 1, "JumpCloud")


def test_a_wrong_scim_token(filled: World) -> None:
    filled.keeper.new_token()
    refused(filled, 1, "Keeper")


def test_an_application_label_that_two_have(filled: World) -> None:
    filled.jumpcloud.add_application("Keeper")
    refused(filled, 1, "Keeper")


@pytest.mark.parametrize("side", ["front", "back"])
def test_json_that_is_not_json(filled: World, side: str) -> None:
    getattr(filled, side).faults.add(InvalidJson())
    refused(filled, 1)


def test_a_user_without_an_address_is_named_and_the_rest_goes_on(filled: World) -> None:
    one = filled.person("bob", next(iter(filled.jumpcloud.groups_in_scope(filled.application))))
    filled.jumpcloud.update_user(one, email="", displayname="Bob Noaddress")
    assert "Bob Noaddress" in filled.run("apply").stdout
    assert [a.email for a in filled.keeper.accounts().values()] == ["ada@example.com"]


def test_two_users_with_one_address_in_different_case(filled: World) -> None:
    one = filled.person("bob", next(iter(filled.jumpcloud.groups_in_scope(filled.application))))
    filled.jumpcloud.update_user(one, email="ADA@Example.com")
    out = filled.run("apply").stdout
    assert "more than one JumpCloud user" in " ".join(out.split())
    assert filled.keeper.accounts() == {}


def test_names_never_reach_the_terminal_raw(filled: World) -> None:
    evil = "\x1b[31mred\x1b[0m \u202egnp.exe \U0001f600 " + "x" * 1000
    filled.person("eve", filled.group("\x1b]0;title\x07 Team"), displayname=evil)
    for arguments in (("plan",), ("apply",), ("status",)):
        done = filled.run(*arguments, expect=None)
        for character in ("\x1b", "\u202e", "\x07"):
            assert character not in done.stdout + done.stderr


@pytest.mark.parametrize("damage", ["text", "empty", "truncated", "newer", "foreign"])
def test_a_state_file_that_is_not_usable_is_left_as_it_is(filled: World, damage: str) -> None:
    state(filled).parent.mkdir(exist_ok=True)
    if damage in ("truncated", "newer"):
        filled.run("apply")
        filled.keeper.changes.clear()
    if damage == "text":
        state(filled).write_text("not a database, but a note to myself " * 40)
    elif damage == "empty":
        state(filled).touch()
    elif damage == "truncated":
        state(filled).write_bytes(state(filled).read_bytes()[:9000])
    elif damage == "newer":
        with sqlite3.connect(state(filled)) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
    else:
        with sqlite3.connect(state(filled)) as connection:
            connection.execute("CREATE TABLE somebody_elses (x)")
        connection.close()
    before = state(filled).read_bytes()
    refused(filled, 6, "reconciler.db")
    assert state(filled).read_bytes() == before


def test_a_state_file_in_use(filled: World) -> None:
    filled.run("apply")
    filled.keeper.changes.clear()
    lock = next(p for p in state(filled).parent.iterdir() if p.name.endswith(".lock"))
    with lock.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused(filled, 6)
        filled.run("plan")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write read-only files")
def test_a_read_only_state_file(filled: World) -> None:
    filled.run("apply")
    filled.keeper.changes.clear()
    state(filled).chmod(0o400)
    refused(filled, 6)


def test_another_keeper_node_stops_before_anything_is_sent(filled: World) -> None:
    from reconciler.simulator.keeper import Keeper
    from reconciler.simulator.server import Server

    filled.run("apply")
    other = Keeper(("987654321",))
    filled.keeper = other
    with Server(other) as back:
        filled.back = back
        filled.write_settings()
        refused(filled, 1, "resync --rebind")
        filled.safety.clear()
        filled.write_settings()
        filled.run("resync", "--rebind", expect=4)
        filled.run("apply", expect=4)  # still a person's to review
        assert filled.writes() == 0


def test_an_unpaired_surrogate_in_one_name_stops_nobody(filled: World) -> None:
    team = filled.group("Sales \ud800")
    filled.person("eve", team, displayname="x\ud800y")
    filled.run("apply")
    assert {a.email for a in filled.keeper.accounts().values()} == {"ada@example.com", "eve@example.com"}
    before = filled.writes()
    filled.run("apply", "--resync")
    assert filled.writes() == before


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((b"explain", b"zo\xeb@example.com"), b"EMAIL"),
        ((b"history", b"--by", b"zo\xeb"), b"--by"),
        ((b"release", b"\xeb"), b"[PLAN_ID]"),
        ((b"pause", b"--reason", b"caf\xe9"), b"--reason"),
        ((b"apply", b"--reason", b"caf\xe9"), b"--reason"),
    ],
    ids=lambda value: value[0].decode() if isinstance(value, tuple) else "",
)
def test_an_argument_that_is_no_text_is_wrong_usage(filled: World, arguments: tuple[bytes, ...], named: bytes) -> None:
    done = with_bytes(filled, *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Invalid value for '" + named + b"'" in done.stderr
    assert b"has bytes that are no UTF-8" in done.stderr
    assert filled.writes() == 0
    assert not state(filled).exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("resync", ""),
        ("resync", " ", "--unlock"),
        ("release", ""),
        ("disown", ""),
        ("adopt", "\t"),
        ("explain", ""),
        ("history", ""),
        ("pause", "--reason", ""),
        ("allow", "--deactivations", "9", "--reason", " "),
    ],
)
def test_an_empty_word_is_wrong_usage(filled: World, arguments: tuple[str, ...]) -> None:
    """`resync "$EMAIL"` without the variable was a resync of everybody, and sent whatever was due."""
    filled.front.requests.clear()
    done = filled.run(*arguments, expect=2)
    assert (done.stdout, "it is empty; nothing was done." in done.stderr) == ("", True)
    assert not filled.front.requests
    assert not (filled.folder / "state").exists()


def test_nothing_is_younger_than_no_time(filled: World) -> None:
    filled.run("apply")
    assert "Nothing of the kind" in filled.run("history", "--since", "0d").stdout


def test_names_of_files_and_of_the_user_need_not_be_text(filled: World) -> None:
    done = with_bytes(filled, b"plan", b"--output", b"caf\xe9.txt")
    assert (done.returncode, os.path.exists(os.fsencode(filled.folder) + b"/caf\xe9.txt")) == (0, True), done.stderr
    os.rename(filled.folder / "config.toml", os.fsencode(filled.folder) + b"/caf\xe9.toml")
    done = with_bytes(filled, b"apply", b"--config", b"caf\xe9.toml", SUDO_USER=b"zo\xeb")
    assert done.returncode == 0, done.stderr
    with filled.state() as store:
        assert store.runs(1)[0].by == r"zo\udceb"


def test_an_argument_is_utf_8_whatever_python_makes_of_the_locale(filled: World) -> None:
    done = with_bytes(
        filled, b"explain", "zoë@example.com".encode(), LC_ALL=b"C", PYTHONUTF8=b"0", PYTHONCOERCECLOCALE=b"0"
    )
    assert done.returncode == 0, done.stderr
    assert rb"zo\xeb@example.com: unknown in JumpCloud" in done.stdout
    done = with_bytes(filled, b"explain", b"zo\xeb", LC_ALL=b"C", PYTHONUTF8=b"0", PYTHONCOERCECLOCALE=b"0")
    assert done.returncode == 2 and b"has bytes that are no UTF-8" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("disown", "typo@example.com"),
        ("adopt", "typo@example.com"),
        ("adopt", "--team", "Nope"),
        ("resync", "typo@example.com"),
    ],
)
def test_a_name_that_nobody_has_is_a_failure_and_nothing_follows(filled: World, arguments: tuple[str, ...]) -> None:
    filled.run("apply")
    done = filled.run(*arguments, expect=1)
    assert done.stdout == "" and "nothing was changed" in done.stderr
    assert "See what follows" not in done.stderr and "cycle" not in done.stderr


def test_where_there_are_no_ghosts_adopting_them_is_done(filled: World) -> None:
    filled.run("apply")
    assert filled.run("adopt", "--ghosts").stdout == "Keeper has no user whom we do not manage; nothing was changed.\n"


def with_bytes(world: World, *arguments: bytes, **environment: bytes) -> "subprocess.CompletedProcess[bytes]":
    command = [os.fsencode(word) for word in world.command]
    names = {key.encode(): value for key, value in environment.items()}
    return subprocess.run(
        [*command, *arguments],
        cwd=world.folder,
        env={**os.environb, **names},
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
