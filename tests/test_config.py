import os
import re
import subprocess
import sys
import tomllib
from datetime import time, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import config
from reconciler.config import Settings, SettingsError, find_settings, known_keys, load
from reconciler.policy import Drift, Limit, Limits, Mode, Pilot, Policy, TeamAdoption, TeamOutOfScope, TeamPolicy
from reconciler.secrets import Secret
from reconciler.settings_fields import Listen
from reconciler.toml_lines import key_lines
from tests.ordinary import as_ordinary_user

EXAMPLE = Path(__file__).parent.parent / "config.example.toml"
SCIM = 'scim_url = "https://keepersecurity.com/api/rest/scim/v2/123456789"'
KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RECONCILER_CONFIG", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def loaded(file: Path, text: str = "", keeper: str = SCIM) -> Settings:
    """The settings of a file with the one key that has no default, and this text."""
    file.write_text(f"[keeper]\n{keeper}\n{text}\n")
    return load(file)


def complaints(file: Path, text: str = "", keeper: str = SCIM) -> list[str]:
    """What is said about the settings, without the file's name."""
    with pytest.raises(SettingsError) as caught:
        loaded(file, text, keeper)
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return [str(problem).removeprefix(str(file)) for problem in caught.value.problems]


# --- the example, the defaults


def test_the_example_is_good_as_it_stands() -> None:
    settings = load(EXAMPLE)
    assert settings.policy().protect == {"breakglass@example.com"}


def example_keys() -> dict[str, str]:
    """Every key of the example that stands for a default or an example, with its line."""
    section, found = "", {}
    for line in EXAMPLE.read_text().splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = f"{header[1]}."
        elif key := re.fullmatch(r"#?(\w+) = .+", line):
            found[section + key[1]] = line.lstrip("#")
    return found


def test_the_example_shows_every_key_and_no_other() -> None:
    shown = set(example_keys())
    known = {key for key in known_keys() if not key.startswith("policy.only.")} | {"policy.only"}
    assert shown == known
    assert {key for key in known_keys() if key.startswith("policy.only.")} == {
        "policy.only.groups",
        "policy.only.users",
    }


def uncommented(keep: set[str]) -> str:
    """The example with every line that could be a key in force, but these."""
    lines = EXAMPLE.read_text().splitlines()
    return "\n".join(re.sub(r"^#(?=(\w+) = )", lambda key: key[0] if key[1] in keep else "", line) for line in lines)


def test_the_example_shows_the_defaults(file: Path) -> None:
    examples = {"client_id", "client_secret", "organization", "only"}
    file.write_text(uncommented(examples).replace("\nprotect =", "\n#protect ="))
    assert dict(load(file)) == dict(loaded(file))


def test_the_examples_in_the_example_are_allowed(file: Path) -> None:
    file.write_text(uncommented(set()).replace("\napi_key =", "\n#api_key ="))
    settings = load(file)
    assert settings.jumpcloud.api_key is None
    assert settings.jumpcloud.client_secret == Secret("credential", "jumpcloud-client-secret")
    assert settings.policy().only == Pilot(frozenset({"IT"}), frozenset({"ada@example.com"}))


def test_the_core_s_defaults_are_the_settings_defaults(file: Path) -> None:
    settings = loaded(file)
    assert settings.policy() == Policy()
    assert settings.limits() == Limits()
    assert settings.jumpcloud.api_key == Secret("credential", "jumpcloud-api-key")
    assert settings.keeper.token == Secret("credential", "keeper-scim-token")
    assert settings.schedule.resync == timedelta(hours=1)


def test_every_key_of_the_policy_arrives_in_the_core(file: Path) -> None:
    settings = loaded(
        file,
        """
        [policy]
        mode = "observe"
        protect = ["BreakGlass@Example.COM"]
        only = { groups = ["Cafe\u0301"], users = ["Ada@Example.com"] }
        out_of_scope = "keep"
        grace = "0s"
        drift = "repair"
        reactivate = "any"
        address_change = "send"
        [teams]
        manage = false
        include = ["A*"]
        exclude = ["AB"]
        adopt = "never"
        review = ["AC"]
        out_of_scope = "delete"
        role_prefix = "Role "
        [safety]
        window = "12h"
        first_run = "apply"
        max_deactivations = 3
        max_removals = "0.5%"
        max_team_loss = "100%"
        max_creations = 0
        max_grants = "0%"
        max_reactivations = 4
        always_allow = 0
        at_most = 7
        """,
    )
    policy, limits = settings.policy(), settings.limits()
    assert policy == Policy(
        mode=Mode.OBSERVE,
        protect=frozenset({"breakglass@example.com"}),
        only=Pilot(frozenset({"Caf\u00e9"}), frozenset({"ada@example.com"})),
        out_of_scope=policy.out_of_scope,
        grace=timedelta(0),
        drift=Drift.REPAIR,
        reactivate=policy.reactivate,
        address_change=policy.address_change,
        teams=TeamPolicy(False, ("A*",), ("AB",), TeamAdoption.NEVER, ("AC",), TeamOutOfScope.DELETE, "Role "),
    )
    assert (policy.out_of_scope, policy.reactivate, policy.address_change) == ("keep", "any", "send")
    assert limits == Limits(
        timedelta(hours=12),
        limits.first_run,
        Limit(count=3),
        Limit(percent=0.5),
        Limit(percent=100),
        Limit(count=0),
        Limit(percent=0),
        Limit(count=4),
        0,
        7,
    )
    assert limits.first_run == "apply"


# --- one value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"03:00"', time(3)),
        ("23:59:00", time(23, 59)),
        ('"90m"', timedelta(minutes=90)),
        ('"7d"', timedelta(days=7)),
    ],
)
def test_a_resync_is_due_after_a_while_or_at_a_time(file: Path, text: str, expected: object) -> None:
    assert loaded(file, f"[schedule]\nresync = {text}").schedule.resync == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schedule.interval", '"0s"'),
        ("schedule.interval", '"2d"'),
        ("schedule.interval", '"5"'),
        ("schedule.interval", "300"),
        ("schedule.interval", '"-5m"'),
        ("schedule.interval", '"5 m"'),
        ("schedule.interval", '"٥m"'),
        ("schedule.resync", '"24:00"'),
        ("schedule.resync", '"3:00"'),
        ("schedule.resync", "true"),
        ("safety.window", '"31d"'),
        ("safety.max_removals", '"101%"'),
        ("safety.max_removals", '"-1%"'),
        ("safety.max_removals", '"5"'),
        ("safety.max_removals", "-1"),
        ("safety.max_removals", "1.5"),
        ("safety.max_removals", "true"),
        ("safety.always_allow", "true"),
        ("safety.first_run", '"yes"'),
        ("state.history", '"7d"'),
        ("state.path", "5"),
        ("policy.protect", '"ada@example.com"'),
        ("policy.protect", '["ada"]'),
        ("policy.only", "{}"),
        ("policy.only", "{ groups = [] }"),
        ("policy.only", '["IT"]'),
        ("teams.manage", '"true"'),
        ("teams.manage", "1"),
        ("teams.include", '[""]'),
        ("teams.include", '[" IT"]'),
        ("teams.approve_command", '"team-approve"'),
        ("teams.approve_command", '["", "x"]'),
        ("notify.webhook", '"https://hooks.example.com/abc"'),
        ("metrics.listen", '":9464"'),
        ("metrics.listen", '"127.0.0.1"'),
        ("metrics.listen", '"127.0.0.1:70000"'),
        ("metrics.listen", '"[1::2::3]:9464"'),
        ("log.level", '"info"'),
        ("tenant", '"two\\nlines"'),
        ("jumpcloud.organization", '"5"'),
        ("jumpcloud.in_flight", "0"),
        ("jumpcloud.base_url", '"http://console.jumpcloud.com"'),
        ("jumpcloud.base_url", '"https://console.jumpcloud.com/api"'),
        ("jumpcloud.base_url", '"https://api.jumpcloud.com"'),
        ("jumpcloud.base_url", '"https://console.jumpcloud.com:8443"'),
    ],
)
def test_what_is_not_allowed_is_told_with_its_key_and_line(file: Path, key: str, value: str) -> None:
    section, _, name = key.rpartition(".")
    file.write_text(f"{'' if section else f'{name} = {value}'}\n[keeper]\n{SCIM}\n[{section or 'log'}]\n")
    if section:
        file.write_text(file.read_text() + f"{name} = {value}\n")
    with pytest.raises(SettingsError) as caught:
        load(file)
    [problem] = caught.value.problems
    assert problem.key.startswith(key)
    assert problem.line == (5 if section else 1)
    assert problem.allowed


@pytest.mark.parametrize(
    ("value", "expected"),
    [('"127.0.0.1:9464"', Listen("127.0.0.1", 9464)), ('"[::1]:80"', Listen("::1", 80)), ('""', None)],
)
def test_where_to_listen(file: Path, value: str, expected: Listen | None) -> None:
    assert loaded(file, f"[metrics]\nlisten = {value}").metrics.listen == expected


@pytest.mark.parametrize(
    "url",
    [
        "https://keepersecurity.eu/api/rest/scim/v2/42",
        "https://keepersecurity.eu/api/rest/scim/v2/42/",
        "HTTPS://KeeperSecurity.EU:443/api/rest/scim/v2/42",
    ],
)
def test_one_node_has_one_spelling(file: Path, url: str) -> None:
    settings = loaded(file, keeper=f'scim_url = "{url}"')
    assert settings.keeper.scim_url == "https://keepersecurity.eu/api/rest/scim/v2/42"


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "127.9.9.9", "localhost:1", "[::1]:8080"])
def test_plain_http_is_for_this_machine(file: Path, host: str) -> None:
    url = f"http://{host}/api/rest/scim/v2/1"
    assert loaded(file, keeper=f'scim_url = "{url}"').keeper.scim_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://keepersecurity.com/api/rest/scim/v2/1",
        "http://localhost.example.com/api/rest/scim/v2/1",
        "http://127.0.0.1.example.com/api/rest/scim/v2/1",
        "http://2130706433/api/rest/scim/v2/1",
        "ftp://keepersecurity.com/api/rest/scim/v2/1",
        "https:///api/rest/scim/v2/1",
        "https://ada:hunter2@keepersecurity.com/api/rest/scim/v2/1",
        "https://keepersecurity.com/api/rest/scim/v2/1?token=hunter2",
        "https://keepersecurity.com/api/rest/scim/v2/1#hunter2",
        "https://keepersecurity.com/api/rest/scim/v2/1/Users",
        "https://keepersecurity.com/api/rest/scim/v2/",
        "https://keepersecurity.com/api/rest/scim/v2/one",
        "https://keepersecurity.com\\\\@evil.example.com/api/rest/scim/v2/1",
        "https://keeper security.com/api/rest/scim/v2/1",
        "https://keepersecurity.com\\t/api/rest/scim/v2/1",
        "https://[::1/api/rest/scim/v2/1",
        "https://keepersecurity.com:port/api/rest/scim/v2/1",
        "keepersecurity.com/api/rest/scim/v2/1",
        "",
    ],
)
def test_an_address_that_a_token_must_not_go_to(file: Path, url: str) -> None:
    [complaint] = complaints(file, keeper=f'scim_url = "{url}"')
    assert complaint.startswith(":2: keeper.scim_url: found ")
    assert "https://HOST/api/rest/scim/v2/NUMBER" in complaint
    assert "hunter2" not in complaint


# --- JumpCloud's hosts and log-in


@pytest.mark.parametrize(
    ("base_url", "oauth_url", "insights_url"),
    [
        ("https://console.jumpcloud.com", "https://admin-oauth.id.jumpcloud.com", "https://api.jumpcloud.com"),
        (
            "https://console.eu.jumpcloud.com/",
            "https://admin-oauth.id.eu.jumpcloud.com",
            "https://api.eu.jumpcloud.com",
        ),
        ("https://console.in.jumpcloud.com", "https://admin-oauth.id.in.jumpcloud.com", "https://api.in.jumpcloud.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://gateway.example.com", None, None),
    ],
)
def test_jumpcloud_s_other_hosts_follow_from_the_console(
    file: Path, base_url: str, oauth_url: str | None, insights_url: str | None
) -> None:
    jumpcloud = loaded(file, f'[jumpcloud]\nbase_url = "{base_url}"').jumpcloud
    assert (jumpcloud.oauth_url, jumpcloud.insights_url) == (oauth_url, insights_url)


def test_a_service_account_logs_in_instead_of_an_api_key(file: Path) -> None:
    jumpcloud = loaded(file, '[jumpcloud]\nclient_id = "abc"').jumpcloud
    assert jumpcloud.api_key is None
    assert jumpcloud.client_secret == Secret("credential", "jumpcloud-client-secret")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('client_id = "abc"\napi_key = { env = "KEY" }', "jumpcloud.api_key"),
        ('client_secret = { env = "KEY" }', "jumpcloud.client_secret"),
        ('client_id = "abc"\nbase_url = "https://gateway.example.com"', "jumpcloud.oauth_url"),
    ],
)
def test_a_log_in_that_does_not_add_up(file: Path, text: str, key: str) -> None:
    [complaint] = complaints(file, f"[jumpcloud]\n{text}")
    assert f"{key}: found " in complaint


# --- problems


def test_all_problems_are_told_at_once_in_the_order_of_the_file(file: Path) -> None:
    found = complaints(
        file,
        """tokn = "x"
max_deactivate = 3
[policy]
protect = [
  "ada@example.com",   # the first is right
  "bob",
]
only = { groups = ["IT"], usrs = [] }
teams.drift = 1
[jumpcloud]
interval = "5m"
[ schedule ]
"jitter" = '''5'''
[sfety]
window = "1h"
""",
        keeper="",
    )
    assert [re.sub(r", allowed.*", "", complaint) for complaint in found] == [
        ":1: keeper.scim_url: missing",
        ":3: keeper.tokn: unknown key (did you mean keeper.token?)",
        ":4: keeper.max_deactivate: unknown key (did you mean safety.max_deactivations?)",
        ":8: policy.protect.2: found 'bob'",
        ":10: policy.only.usrs: unknown key (did you mean policy.only.users?)",
        ":11: policy.teams: unknown key (did you mean teams?)",
        ":13: jumpcloud.interval: unknown key (did you mean schedule.interval?)",
        ":15: schedule.jitter: found '5'",
        ":16: sfety: unknown key (did you mean safety?)",
    ]


@pytest.mark.parametrize("text", ['probe = "30s"', "probe = {}"])
def test_a_key_of_later_is_unknown(file: Path, text: str) -> None:
    assert complaints(file, f"[schedule]\n{text}") == [
        ":4: schedule.probe: unknown key (config.example.toml has every key)"
    ]


def test_a_section_that_is_none(file: Path) -> None:
    file.write_text('keeper = "x"\nteams = [1]\n[[policy]]\nmode = "observe"\n')
    with pytest.raises(SettingsError) as caught:
        load(file)
    assert [(problem.key, problem.line, problem.found) for problem in caught.value.problems] == [
        ("keeper", 1, "found 'x'"),
        ("teams", 2, "found a list"),
        ("policy", 3, "found a list"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        f'[jumpcloud]\napi_key = "{KEY}"',
        f'[jumpcloud]\napi_key = {{ env = "{KEY}" }}',
        f'[jumpcloud]\napi_key = {{ keeper = "{KEY}" }}',
        f'[jumpcloud]\napi_key = {{ credential = "{KEY}" }}',
        f'[jumpcloud]\napi_key = ["{KEY}"]',
        f'[jumpcloud]\napi_key = {{ {KEY} = "" }}',
        f'[jumpcloud]\napikey = "{KEY}"',
        f'[jumpcloud]\n{KEY} = "api_key"',
        f'[jumpcloud]\norganization = "{KEY}"',
        f'[jumpcloud]\nbase_url = "{KEY}"',
        f'[jumpcloud]\nin_flight = "{KEY}"',
        f'[policy]\nmode = "{KEY}"\nprotect = ["{KEY}"]',
        f'[notify]\nwebhook = "https://hooks.example.com/{KEY}"',
        f'[jumpcloud]\napi_key = "{KEY}',
        f"[jumpcloud]\napi_key = {KEY}",
    ],
)
def test_a_secret_in_the_wrong_place_is_not_printed(file: Path, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        loaded(file, text)
    assert KEY not in str(caught.value)
    assert KEY not in repr(caught.value.problems)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_secret_in_the_file_is_told_what_to_do_instead(file: Path) -> None:
    [complaint] = complaints(file, f'[jumpcloud]\napi_key = "{KEY}"')
    assert complaint.startswith(':4: jumpcloud.api_key: found a text, allowed: { credential = "NAME" }')
    assert "never put the secret itself into this file" in complaint


def test_values_can_t_write_on_the_terminal(file: Path) -> None:
    found = complaints(file, '[policy]\nmode = "\\u001b[2J\u202eobserve"\n"a\\u001b" = 1')
    assert all(complaint.isprintable() for complaint in found)
    assert len(found) == 2


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[keeper]\nscim_url = https://x", 2),
        ("a = 1\na = 2", 2),
        ("[log]\nlevel = 5m", 2),
        ("[log", 1),
        ("a = 2026-13-45", 1),
        ("a = " + "9" * 5000, None),
        ("a = " + "[" * 5000, None),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(file: Path, text: str, line: int | None) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError, match="no TOML: ") as caught:
        load(file)
    assert [problem.line for problem in caught.value.problems] == [line]


def test_a_file_that_can_t_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes(b"# one\ntenant = 'Z\xfcrich'\n")
    (tmp_path / "huge").write_bytes(b"#" * (1 << 21))
    for name, complaint in [
        ("absent", "absent: no such file"),
        ("latin/below", "can't be read"),
        (".", "not a file"),
        ("pipe", "not a file"),
        ("latin", r"latin:2: not UTF-8"),
        ("huge", "larger than 1048576 bytes"),
    ]:
        with pytest.raises(SettingsError, match=complaint):
            load(tmp_path / name)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf[keeper]\r\n" + SCIM.encode() + b"\r\n[log]\r\nlevel = 1\r\n")
    with pytest.raises(SettingsError) as caught:
        load(file)
    assert [problem.line for problem in caught.value.problems] == [4]


# --- what only check insists on


def test_check_insists_on_protect_and_on_every_secret(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUMPCLOUD_KEY", "k")
    monkeypatch.delenv("KEEPER_TOKEN", raising=False)
    text = '[jumpcloud]\napi_key = { env = "JUMPCLOUD_KEY" }\n[policy]\nmode = "observe"'
    settings = loaded(file, text, keeper=f'{SCIM}\ntoken = {{ env = "KEEPER_TOKEN" }}')
    assert [(problem.key, problem.line) for problem in settings.problems()] == [
        ("policy.protect", 6),
        ("keeper.token", 3),
    ]
    monkeypatch.setenv("KEEPER_TOKEN", "t")
    settings = loaded(file, f"{text}\nprotect = []", keeper=f'{SCIM}\ntoken = {{ env = "KEEPER_TOKEN" }}')
    assert settings.problems() == []


def test_secrets_in_use_are_listed_by_key(file: Path) -> None:
    assert set(loaded(file, '[notify]\nwebhook = {}\nheartbeat = { env = "BEAT" }').secrets()) == {
        "jumpcloud.api_key",
        "keeper.token",
        "notify.heartbeat",
    }


# --- paths


def test_relative_paths_count_from_the_settings(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    settings = loaded(
        file,
        """
        [jumpcloud]
        api_key = { file = "secrets/key" }
        [state]
        path = "../data/state.db"
        [report]
        directory = "/srv/reports"
        [metrics]
        textfile = "m.prom"
        [teams]
        approve_command = ["./approve", "./argument"]
        [notify]
        command = ["mail", "-s"]
        """,
    )
    assert settings.jumpcloud.api_key == Secret("file", str(file.parent / "secrets/key"))
    assert settings.state_path() == file.parent.parent / "data/state.db"
    assert settings.report.directory == Path("/srv/reports")
    assert settings.metrics.textfile == file.parent / "m.prom"
    assert settings.teams.approve_command == (str(file.parent / "approve"), "./argument")
    assert settings.notify.command == ("mail", "-s")


def test_the_state_file_lies_beside_the_settings_of_a_checkout(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(file)
    monkeypatch.chdir(file.parent)
    assert load(Path("config.toml")).state_path() == file.parent / "state" / "reconciler.db"


@pytest.mark.parametrize(
    ("name", "state"), [("config.toml", "reconciler.db"), ("acme.toml", "acme/reconciler.db"), ("acme.conf", None)]
)
def test_a_command_and_the_service_meet_at_the_same_state_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, state: str | None
) -> None:
    monkeypatch.setattr(config, "SYSTEM_DIRECTORY", tmp_path)
    settings = loaded(tmp_path / name)
    assert settings.state_path() == (Path("/var/lib/reconciler") / state if state else tmp_path / "state/reconciler.db")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/elsewhere:/var/lib/second")
    assert settings.state_path() == Path("/var/lib/elsewhere/reconciler.db")


def test_settings_are_looked_for_in_four_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, here = tmp_path / "etc", tmp_path / "here"
    system.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(config, "SYSTEM_DIRECTORY", system)
    with pytest.raises(SettingsError, match=r"(?s)config.toml: no such file.*--config.*etc/config.toml: no such file"):
        find_settings(None)
    (system / "config.toml").touch()
    assert find_settings(None) == system / "config.toml"
    (here / "config.toml").touch()
    assert find_settings(None) == Path("config.toml")
    monkeypatch.setenv("RECONCILER_CONFIG", "/absent.toml")
    assert find_settings(None) == Path("/absent.toml")
    assert find_settings(Path("given.toml")) == Path("given.toml")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root steps down")
def test_settings_are_not_looked_for_in_a_directory_that_one_may_not_see(
    public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = public / "closed"
    closed.mkdir(0o700)
    (public / "config.toml").touch()
    monkeypatch.chdir(closed)
    monkeypatch.setattr(config, "SYSTEM_DIRECTORY", public)
    with as_ordinary_user():
        assert find_settings(None) == public / "config.toml"
        # What is the system's own is meant, whatever stands in the way.
        monkeypatch.setattr(config, "SYSTEM_DIRECTORY", closed)
        assert find_settings(None) == closed / "config.toml"


# --- lines, imports


def test_lines_of_keys() -> None:
    text = '''
a.b = 1 # c = 2
"q.\\u00e9" = { x = [1,
  2, { y = "]" }], 'z' = 07:00:00 }
m = """
n = 1
\\""" """"
[t . "u"] # [v]
w = [ # x
  [ 1979-05-27 07:32:00 ],
]
[[r]]
s = \'\'\'
]\'\'\'
'''
    assert key_lines(text) == {
        ("a",): 2,
        ("a", "b"): 2,
        ("q.é",): 3,
        ("q.é", "x"): 3,
        ("q.é", "x", 0): 3,
        ("q.é", "x", 1): 4,
        ("q.é", "x", 2): 4,
        ("q.é", "x", 2, "y"): 4,
        ("q.é", "z"): 4,
        ("m",): 5,
        ("t",): 8,
        ("t", "u"): 8,
        ("t", "u", "w"): 9,
        ("t", "u", "w", 0): 10,
        ("t", "u", "w", 0, 0): 10,
        ("r",): 12,
        ("r", "s"): 13,
    }


@given(st.lists(st.sampled_from(list("ab.='\"#\\\n[]{}, 1é")) | st.sampled_from(["a = ", '"""', "'''", "\n[a]\n"])))
def test_whatever_tomllib_accepts_has_a_line_for_every_key(parts: list[str]) -> None:
    text = "".join(parts)
    try:
        data = tomllib.loads(text)
    except ValueError:
        return
    lines = key_lines(text)

    def check(value: Any, key: tuple[str, ...]) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                assert 1 <= lines[*key, name] <= text.count("\n") + 1
                check(inner, (*key, name))

    check(data, ())


def test_settings_are_light_to_import() -> None:
    code = "import sys, reconciler.config; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"httpx", "loguru", "apscheduler", "sqlite_utils", "rich"} & set(modules)
