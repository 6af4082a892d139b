"""What docs/threat-model.md promises and no other test shows. Each attack was tried before its measure was there."""

import ast
import asyncio
import csv
import getpass
import io
import json
import os
import pwd
import re
import socket
import ssl
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from reconciler import config, decisions, notify, systemd
from reconciler.alert_text import harmless
from reconciler.cli.base import who
from reconciler.config import SettingsError, find_settings
from reconciler.http import Http, Pace, tls_from_environment
from reconciler.metrics import write_textfile
from reconciler.model import Snapshot, Standing, Status
from reconciler.plan import Cause, Kind, Notice, NoticeKind, Operation, Plan, Rule, Scope, Subject
from reconciler.policy import AddressChange, Policy
from reconciler.report import leavers
from reconciler.report.document import read_saved, to_json
from reconciler.secrets import Secret
from reconciler.store import State, Store, Unusable
from tests.ordinary import as_ordinary_user
from tests.plans import HOSTILE
from tests.receiver import Receiver, secret
from tests.stage import World
from tests.world import NOW, account, decide, directory, group, jc, snapshot, team, user

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "threat-model.md"
TYPED = re.compile(r"(?:reconciler (?:adopt|resync)|enterprise-user --add-alias|transfer-user) (.*)")
SHELL = [
    "a`id`@example.com",
    "$(id)@example.com",
    "a;id&@example.com",
    "a|id>x@example.com",
    "'$(id)'@example.com",
    "--config=/tmp/evil@example.com",
]


# -- the document -----------------------------------------------------------------------------------------------------


def test_each_test_that_the_document_names_is_there() -> None:
    named = re.findall(r"`(\w[\w/]*\.py)::(test_\w+)`", DOCUMENT.read_text())
    assert len(named) > 60
    there: dict[str, set[str]] = {}
    for file in {file for file, _ in named}:
        tree = ast.parse((ROOT / "tests" / file).read_text())
        there[file] = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert [(file, test) for file, test in named if test not in there[file]] == []


def test_the_document_names_modules_that_are_there() -> None:
    named = set(re.findall(r"`(\w[\w/]*\.py)`", DOCUMENT.read_text()))
    assert named and [name for name in named if not (ROOT / "reconciler" / name).exists()] == []


# -- somebody who controls their own profile --------------------------------------------------------------------------


def notices(found: list[Notice]) -> list[str]:
    return [typed[1] for notice in found if (typed := TYPED.search(notice.message))]


def planned(address: str) -> list[Notice]:
    """A ghost, somebody locked in Keeper, one given up, one whose account is another's, an address changed here, and
    one changed there: all with this address."""
    new = user(4, email=address, direct=True)
    tied = account(user(9), shown={"userName": address, "externalId": jc(9)}, standing=Standing.UNMANAGED)
    disowned = account(user(3, email=address), standing=Standing.DISOWNED)
    shown = dict(account(user(5)).shown)
    cases = [
        (
            [],
            [
                account(
                    user(1, email=address), standing=Standing.UNMANAGED, jumpcloud_id="", shown={"userName": address}
                )
            ],
        ),
        ([user(2, email=address, direct=True)], [account(user(2, email=address), active=False)]),
        ([user(3, email=address, direct=True)], [disowned]),
        ([new], [tied]),
        ([user(5, email=address, direct=True)], [account(user(5))]),
        ([user(5, direct=True)], [account(user(5), shown={**shown, "userName": address})]),
    ]
    return [n for people, held in cases for n in decide(directory(people), snapshot(held)).plan.notices]


def test_an_ordinary_address_is_in_the_commands_that_are_offered() -> None:
    assert len(notices(planned("u7@example.com"))) == 6
    assert all("u7@example.com" in command for command in notices(planned("u7@example.com")))


@pytest.mark.parametrize("address", SHELL)
def test_no_address_is_a_command_where_one_is_offered_to_be_copied(tmp_path: Path, address: str) -> None:
    found = notices(planned(address))
    with Store.open(tmp_path / "state.db", write=True) as store:
        gone = account(user(1), shown={"userName": address}, active=False, locked_by_us=True)
        store.save(snapshot([gone, account(user(2), shown={"userName": address})]), Snapshot())
        found += TYPED.findall(decisions.disown(store, NOW, "ada", "", address))
    assert len(found) >= 6
    assert [command for command in found if address in command or re.search(r"[$;&|<>()]", command)] == []


@pytest.mark.parametrize("address", SHELL)
def test_no_address_is_a_command_where_leavers_names_one(tmp_path: Path, address: str) -> None:
    with Store.open(tmp_path / "state.db", write=True) as store:
        locked = account(user(1), shown={"userName": address}, left_at=NOW, active=False, locked_by_us=True)
        failing = account(user(2), shown={"userName": address}, left_at=NOW)
        store.save(snapshot([locked, failing]), Snapshot())
        run = store.begin_run("cycle", NOW, "ada", "")
        for one, state in ((locked, State.DONE), (failing, State.FAILED)):
            who = Subject("user", address, one.jumpcloud_id, one.keeper_id)
            op = Operation(Kind.DEACTIVATE_USER, who, Cause.JUMPCLOUD, Rule.LEFT, "left")
            [row] = store.write_ahead(run, [op], {}, NOW, {one.keeper_id: NOW})
            store.record(row, state, NOW, state.value)
        found = leavers.document(store, Policy(), NOW, NOW)
    commands = {entry["command"] for entry in found["leavers"]}
    assert commands == {"reconciler resync EMAIL", "transfer-user EMAIL --target-user HEIR"}


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [("\u017ftephen@example.com", "stephen@example.com"), ("stra\u00dfe@example.com", "strasse@example.com")],
)
def test_a_letter_that_only_folds_to_another_takes_no_account_over(mine: str, theirs: str) -> None:
    stranger = account(user(9, email=theirs), standing=Standing.UNMANAGED, jumpcloud_id="")
    stranger = replace(stranger, shown={**stranger.shown, "externalId": ""}, asked={})
    made = decide(directory([user(1, email=mine, direct=True)]), snapshot([stranger]))
    assert made.plan.operations == ()
    assert made.plan.adopts == ()
    assert [n.kind for n in made.plan.notices if n.subject.name == mine] == [NoticeKind.CONFLICT]
    # Upper and lower case alone are the same address, as everywhere.
    same = decide(directory([user(1, email=theirs.upper(), direct=True)]), snapshot([stranger]))
    assert [n.kind for n in same.plan.notices] == []
    assert {op.kind for op in same.plan.operations} <= {Kind.UPDATE_USER}


@pytest.mark.parametrize("calls", ["_@channel_", "*@here*", "~@all~", "__@everyone__ x", "(@Channel)", "@all-hands"])
def test_nobody_calls_a_whole_channel_by_a_name(calls: str) -> None:
    assert not re.search(r"@(channel|here|all|everyone)", harmless(calls), re.IGNORECASE)


@pytest.mark.parametrize("name", ["x;=1+1@example.com", "x; \uff1d1@example.com", "x\t=1+1@example.com"])
def test_no_cell_is_a_formula_where_semicolons_divide_either(tmp_path: Path, name: str) -> None:
    with Store.open(tmp_path / "state.db", write=True) as store:
        store.save(snapshot([account(user(1), shown={"userName": name}, left_at=NOW)]), Snapshot())
        text = leavers.to_csv(leavers.document(store, Policy(), NOW, NOW))
    cells = [cell for row in csv.reader(io.StringIO(text), delimiter=";") for cell in row]
    assert [cell for cell in cells if cell.lstrip().startswith(tuple("=+-@\uff1d"))] == []


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """Where systemd would listen."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.setblocking(False)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    return listener


def test_no_name_steers_the_terminal_of_systemctl_or_says_more_to_systemd(manager: socket.socket) -> None:
    with manager:
        for name in HOSTILE:
            systemd.notify(STATUS=f"held: the team {name}\nMAINPID=1")
            told = manager.recv(1 << 16).decode()
            assert told.count("\n") == 0
            assert not re.search("[\x00-\x1f\x7f-\x9f\u202e\u2066\u200b\u2028]", told)


def test_hostile_names_are_harmless_in_whatever_is_printed_logged_and_reported(world: World) -> None:
    config = world.folder / "config.toml"
    more = '\n[report]\ndirectory = "reports"\n\n[log]\nlevel = "DEBUG"\n'
    config.write_text(config.read_text() + more)
    for number, name in enumerate(HOSTILE):
        one = world.group(f"{name} {number}") if name.strip() else ""
        world.person(f"u{number}", *filter(None, [one]), displayname=name)
    commands = [["apply"], ["status"], ["teams"], ["history"], ["leavers"], ["explain", "u9@example.com"]]
    commands += [["leavers", "--format", "csv"], *([["plan", "--format", f] for f in ("text", "json", "markdown")])]
    printed = [world.run(*command, expect=None) for command in commands]
    config.write_text(config.read_text().replace('"DEBUG"', '"DEBUG"\nformat = "json"'))
    logged = world.run("apply", "--resync", expect=None).stderr
    written = [path.read_text() for path in (world.folder / "reports").iterdir()]
    for text in [ran.stdout + ran.stderr for ran in printed] + [logged, *written]:
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2066\u200b\u2028]", text)
    assert all(json.loads(line) for line in logged.splitlines())


# -- a compromised administrator of JumpCloud -------------------------------------------------------------------------


def test_two_people_whose_addresses_are_swapped_keep_their_vaults() -> None:
    one, two = user(1, direct=True), user(2, direct=True)
    swapped = directory([replace(one, email=two.email), replace(two, email=one.email)])
    for policy in AddressChange:
        made = decide(swapped, snapshot([account(one), account(two)]), Policy(address_change=policy))
        assert made.plan.operations == ()
        assert [n.kind for n in made.plan.notices] == [NoticeKind.CONFLICT] * 2


def test_an_address_that_is_protected_does_not_hide_that_somebody_took_it() -> None:
    policy = Policy(protect=frozenset({"breakglass@example.com"}))
    taken = directory([user(1, email="breakglass@example.com", direct=True)])
    made = decide(taken, snapshot([account(user(1))]), policy)
    assert NoticeKind.ADDRESS_CHANGE in {n.kind for n in made.plan.notices}
    left = directory([user(1, email="breakglass@example.com", status=Status.SUSPENDED)])
    again = decide(left, made.snapshot, policy)
    assert again.plan.operations == ()
    assert NoticeKind.PROTECTED in {n.kind for n in again.plan.notices}


def test_a_group_that_is_named_like_a_team_gets_nothing_of_it() -> None:
    ours, shown = group(1, "Finance"), {"displayName": "Finance"}
    theirs = team(ours, standing=Standing.UNMANAGED, jumpcloud_id="", shown=shown)
    made = decide(directory([user(1, 1)], [ours]), snapshot([account(user(1))], [theirs]))
    assert made.plan.operations == ()
    assert NoticeKind.CONFLICT in {n.kind for n in made.plan.notices}


# -- the network ------------------------------------------------------------------------------------------------------


def test_nothing_in_settings_or_environment_turns_the_check_of_certificates_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PYTHONHTTPSVERIFY", "CURL_CA_BUNDLE", "SSL_VERIFY", "HTTPX_VERIFY"):
        monkeypatch.setenv(name, "0" if name != "CURL_CA_BUNDLE" else "")
    tls = tls_from_environment()
    assert tls.verify_mode is ssl.CERT_REQUIRED
    assert tls.check_hostname
    assert tls.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert [key for key in config.known_keys() if re.search("verif|insecure|tls|ssl|cert", key)] == []


def test_no_cache_on_the_way_is_to_answer() -> None:
    asked: list[httpx.Request] = []

    async def ask() -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            return httpx.Response(200)

        transport = httpx.MockTransport(answer)
        async with Http(
            service="A", base_url="https://a.example", headers={}, pace=Pace(50, 50), in_flight=1, transport=transport
        ) as http:
            await http.request("GET", "/x", repeatable=True)

    asyncio.run(ask())
    assert [request.headers["cache-control"] for request in asked] == ["no-cache"]


def test_a_redirected_alert_goes_nowhere_else(tmp_path: Path) -> None:
    with Receiver() as receiver:
        receiver.status = 307
        secret(tmp_path, "webhook", receiver.url)
        answer = asyncio.run(notify._call(Secret("file", str(tmp_path / "webhook")), {"kind": "test", "text": "x"}))
    assert (answer.problem, len(receiver.got)) == ("it answered with status 307", 1)


# -- a local user -----------------------------------------------------------------------------------------------------


@pytest.fixture
def here(public: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to be in, with settings, and no others on this machine."""
    monkeypatch.chdir(public)
    monkeypatch.setattr(config, "SYSTEM_DIRECTORY", public / "etc")
    monkeypatch.delenv("SUDO_UID", raising=False)
    (public / "config.toml").touch(mode=0o644)
    return public / "config.toml"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_settings_that_somebody_else_left_here_are_not_taken(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(here, 65534, 65534)
    with pytest.raises(SettingsError, match=r"(?s)belongs to another user.*--config"):
        find_settings(None)
    assert find_settings(Path("config.toml")) == Path("config.toml")  # whoever names it means it
    monkeypatch.setenv("SUDO_UID", "65534")  # one's own, and sudo
    assert find_settings(None) == Path("config.toml")
    monkeypatch.delenv("SUDO_UID")
    os.chown(here, 0, 0)
    with as_ordinary_user():
        assert find_settings(None) == Path("config.toml")


def test_settings_that_everybody_may_write_are_not_taken(here: Path) -> None:
    here.chmod(0o666)
    with pytest.raises(SettingsError, match="everybody may write"):
        find_settings(None)


@pytest.mark.parametrize("mode", [0o660, 0o602])
def test_a_state_file_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "reconciler.db"
    Store.open(path, write=True).close()
    path.chmod(mode)
    for write in (True, False):
        with pytest.raises(Unusable, match=r"others may write it \(mode 06\d\d\)"):
            Store.open(path, write=write)


@pytest.mark.parametrize("unit", ["reconciler.service", "reconciler@.service"])
def test_the_unit_leaves_no_core_and_takes_no_secret_from_a_line(unit: str) -> None:
    lines = (ROOT / "systemd" / unit).read_text().splitlines()
    assert {"LimitCORE=0", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "UMask=0077"} <= set(lines)
    assert [line for line in lines if line.startswith(("Environment", "PassEnvironment", "SetCredential"))] == [
        "Environment=PYTHONFAULTHANDLER=1"
    ]


def test_who_asks_is_not_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("LOGNAME", "somebody-else")
    assert getpass.getuser() == "somebody-else"
    assert who() == me
    monkeypatch.setenv("SUDO_USER", "ada")
    assert who() == "ada"


def test_a_draft_that_somebody_prepared_is_not_written_into(tmp_path: Path) -> None:
    path, bait = tmp_path / "reconciler.prom", tmp_path / "bait"
    bait.write_text("untouched")
    os.link(bait, path.with_name(f".{path.name}.{os.getpid()}"))
    write_textfile(path, b"one\n")
    assert (bait.read_text(), bait.stat().st_mode & 0o777) == ("untouched", 0o644)
    assert path.read_bytes() == b"one\n"


# -- a plan file ------------------------------------------------------------------------------------------------------


def test_a_forged_plan_lets_nothing_through_that_is_not_due(world: World) -> None:
    everybody = world.group("Everybody")
    ada = world.person("ada", everybody)
    world.run("apply")
    world.person("bob", everybody)
    world.run("plan", "--save", "plan.json")
    path, before = world.folder / "plan.json", world.writes()
    saved = read_saved(path.read_bytes(), "plan.json")
    [op] = saved.operations
    evil = replace(op, kind=Kind.DEACTIVATE_USER, rule=Rule.SUSPENDED, subject=replace(op.subject, jumpcloud_id=ada))
    path.write_text(to_json(Plan("cycle", NOW, saved.source, Scope(2, 1, 2), (evil,))))
    assert read_saved(path.read_bytes(), "plan.json").operations == (evil,)
    assert "no longer due" in world.run("apply", "--plan", "plan.json", expect=3).stdout
    assert world.writes() == before


# -- what is installed ------------------------------------------------------------------------------------------------


def test_whatever_is_installed_is_checked_against_a_hash() -> None:
    for lock in ROOT.glob("requirements*.lock"):
        entries = re.split(r"\n(?=\S)", lock.read_text().strip())
        assert len(entries) > 5
        assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
    installs = re.findall(r"pip install .*", (ROOT / "Makefile").read_text())
    assert [
        line for line in installs if not re.search(r"--require-hashes -r|--no-deps --no-build-isolation|uv$", line)
    ] == []


SKIPPED = {"name": "a", "skip_reason": "not found"}
CLEAN = {"name": "b", "version": "1", "vulns": []}
KNOWN = {"name": "c", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}


@pytest.mark.parametrize(
    ("dry", "code", "found", "ends", "says"),
    [
        (0, 0, [CLEAN], 0, "1 of 1 packages audited"),
        (0, 0, [SKIPPED, CLEAN], 0, "1 NOT AUDITED, the data of their versions can't be reached"),
        (0, 1, None, 0, "NOT AUDITED, the data can't be reached from here (ConnectionError)"),
        (0, 1, [SKIPPED, KNOWN], 1, "c 2: PYSEC-1, mended in 3"),
        (2, 2, None, 1, "pip-audit can't read it"),
    ],
)
def test_a_known_vulnerability_fails_and_what_can_not_be_audited_is_said(
    tmp_path: Path, dry: int, code: int, found: list[object] | None, ends: int, says: str
) -> None:
    program = tmp_path / "pip-audit"
    printed = json.dumps({"dependencies": found}) if found is not None else ""
    script = f"""
        assert {{'--require-hashes', '--disable-pip'}} <= set(sys.argv)
        if '--dry-run' in sys.argv: sys.exit({dry})
        print({printed!r})
        print('Traceback\\nConnectionError: somewhere', file=sys.stderr)
        sys.exit({code})
    """
    program.write_text(f"#!{sys.executable}\nimport sys\n{textwrap.dedent(script)}")
    program.chmod(0o700)
    audit = [sys.executable, str(ROOT / ".ci" / "audit.py"), str(program)]
    ran = subprocess.run(audit, capture_output=True, text=True, check=False)
    assert (ran.returncode, says in ran.stdout) == (ends, True), ran.stdout
    assert "://" not in ran.stdout
