"""The units and their README on a real systemd. `make test-systemd` runs it; `make test` does not."""

import json
import re
from collections.abc import Iterator

import pytest

from reconciler.simulator.sample import API_KEY, organisation
from tests.systemd.machine import ROOT, Machine, booted, until

README = ROOT / "systemd" / "README.md"
PORTS = {"jumpcloud": 7001, "keeper": 7002}
STATE = "/var/lib/reconciler"
READING = (["status"], ["history"], ["teams"], ["leavers"], ["explain", "fatima.mansour@example.com", "--offline"])
SETTINGS = """
[jumpcloud]
application = "Keeper"
api_key = {{ credential = "{prefix}jumpcloud-api-key" }}
base_url = "http://localhost:{port}"

[keeper]
scim_url = "{scim_url}"
token = {{ credential = "{prefix}keeper-scim-token" }}

[schedule]
interval = "2s"
jitter = "0s"

[policy]
protect = []

[report]
directory = "{state}/reports"

[notify]
command = ["logger", "-t", "alert"]

[metrics]
listen = "127.0.0.1:{listen}"
"""


class Stage(Machine):
    """The machine with the service installed as the README says, and both services of the world on it."""

    def __init__(self, process: int) -> None:
        super().__init__(process)
        self.token = ""
        self.scim_url = ""
        self.transcript: list[str] = []

    def write(self, path: str, text: str, mode: str = "644") -> None:
        self.run("install", "-D", "-m", mode, "/dev/stdin", path, stdin=text)

    def write_settings(self, **replaced: str) -> None:
        text = self.settings()
        for before, after in replaced.items():
            text = re.sub(rf"^{before} = .*$", f"{before} = {after}", text, flags=re.MULTILINE)
        self.run("tee", "/etc/reconciler/config.toml", stdin=text)

    def settings(self, tenant: str = "") -> str:
        return SETTINGS.format(
            prefix=f"{tenant}." if tenant else "",
            port=PORTS["jumpcloud"],
            scim_url=self.scim_url,
            state=f"{STATE}/{tenant}" if tenant else STATE,
            listen=9465 if tenant else 9464,
        )

    def simulate(self, service: str) -> str:
        """Start a simulator; returns what it says."""
        self.write("/root/organisation.json", json.dumps(organisation(20, 4)))
        seed = ["--seed-file", "/root/organisation.json"] if service == "jumpcloud" else []
        unit = f"simulator-{service}"
        command = ["reconciler", "simulate", service, "--port", str(PORTS[service]), *seed]
        self.run("systemd-run", "-E", "PYTHONUNBUFFERED=1", f"--unit={unit}", *command)
        until(lambda: "Ctrl-C" in self.log(unit))
        return self.log(unit)

    def status(self, unit: str = "reconciler") -> str:
        return self.has(unit, "StatusText")

    def started(self) -> str:
        """Make sure that the service runs with good settings; returns its process id."""
        self.write_settings()
        if self.has("reconciler", "ActiveState") != "active":
            self.run("systemctl", "reset-failed", "reconciler", expect=None)
            self.run("systemctl", "start", "reconciler")
        until(lambda: "waiting" in self.status())
        return self.has("reconciler", "MainPID")

    def signal(self, name: str) -> None:
        self.run("systemctl", "kill", "--kill-whom=main", "-s", name, "reconciler")

    def as_user(self, name: str, *command: str, expect: int | None = 0) -> str:
        done = self.run("runuser", "-u", name, "--", *command, expect=expect)
        return done.stdout + done.stderr

    def strangers(self) -> str:
        """What below the state directory the service's user does not own."""
        return self.run("find", STATE, "!", "(", "-user", "reconciler", "-group", "reconciler", ")").stdout

    def drop_in(self, *lines: str) -> None:
        self.write("/run/systemd/system/reconciler.service.d/test.conf", "\n".join(["[Service]", *lines, ""]))
        self.run("systemctl", "daemon-reload")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with booted() as machine:
        made = Stage(machine.process)
        install(made)
        made.run("useradd", "--create-home", "--groups", "sudo", "ada")
        made.write("/etc/sudoers.d/ada", "ada ALL=(ALL) NOPASSWD: ALL\n", mode="440")
        made.run("useradd", "--groups", "reconciler", "grace")
        made.run("useradd", "mallory")
        yield made


def readme_lines(number: int = 0) -> list[str]:
    """The lines to be typed that stand together in the README: the first are those that install it."""
    blocks = re.findall(r"(?:^    .*\n)+", README.read_text(), re.MULTILINE)
    return [line[4:] for line in blocks[number].splitlines()]


def install(stage: Stage) -> None:
    """Type what the README says; the world is there as soon as the program is."""
    lines = readme_lines()
    assert len(lines) == 10
    for line in lines:
        if "${EDITOR" in line:
            stage.simulate("jumpcloud")
            said = stage.simulate("keeper")
            [stage.scim_url] = re.findall(r'scim_url = "(.*)"', said)
            [stage.token] = re.findall(r"SCIM token: (.*)", said)
        stage.transcript.append(type_in(stage, line))


def type_in(stage: Stage, line: str, tenant: str = "") -> str:
    """Type a line of the README in the checkout, with the settings in the editor and the secrets where it asks."""
    stage.write("/root/settings", stage.settings(tenant))
    secrets = {"jumpcloud-api-key": API_KEY, "keeper-scim-token": stage.token}
    asked = [secret for name, secret in secrets.items() if "/dev/stdin" in line and name in line]
    done = stage.run(
        *("bash", "-c", f"cd /root/reconciler && {line}"),
        stdin="".join(f"{secret}\n" for secret in asked),
        EDITOR="cp /root/settings",
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS="/root/wheels",
    )
    return done.stdout + done.stderr


# -- from nothing to a running service --------------------------------------------------------------------------------


def test_the_readme_leads_to_a_running_service(stage: Stage) -> None:
    assert "answers and takes the token" in stage.transcript[6]
    assert "active (running)" in stage.transcript[-1]
    assert "Status: " in stage.transcript[-1]
    assert stage.run("systemctl", "is-enabled", "reconciler").stdout.strip() == "enabled"


def test_the_installed_units_have_nothing_to_be_said_against_them(stage: Stage) -> None:
    found = stage.run("systemd-analyze", "verify", "reconciler.service", "reconciler@acme.service")
    assert found.stdout + found.stderr == ""


def test_what_is_held_is_released_beside_the_service_and_the_status_tells(stage: Stage) -> None:
    stage.started()
    if "in line" not in stage.status():
        until(lambda: "held" in stage.status())
        stage.as_user("ada", "sudo", "reconciler", "release", "--wait", "--reason", "looked at")
    until(lambda: "are in line" in stage.status())
    assert stage.status().startswith("waiting; last ")
    assert "by ada" in stage.as_user("ada", "sudo", "reconciler", "status")


def test_alerts_reports_and_metrics_come_out_of_the_sandbox(stage: Stage) -> None:
    stage.started()
    until(lambda: "held" in stage.run("journalctl", "--no-pager", "-t", "alert").stdout)
    assert stage.run("runuser", "-u", "grace", "--", "ls", f"{STATE}/reports").stdout
    fetch = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:9464/healthz').status)"
    assert stage.run("python3", "-c", fetch).stdout.strip() == "200"


def test_no_secret_is_seen(stage: Stage) -> None:
    process = stage.started()
    shown = stage.log("reconciler")
    shown += stage.run("systemctl", "show", "reconciler").stdout
    for name in ("environ", "cmdline"):
        shown += stage.run("cat", f"/proc/{process}/{name}").stdout
    assert "started as process" in shown
    assert API_KEY not in shown
    assert stage.token not in shown


# -- signals, watchdog, restarts --------------------------------------------------------------------------------------


def test_a_service_that_hangs_is_ended_by_the_watchdog_and_started_again(stage: Stage) -> None:
    stage.drop_in("WatchdogSec=3s", "RestartSec=1s", "TimeoutAbortSec=5s")
    stage.run("systemctl", "restart", "reconciler")
    before = stage.started()
    stage.signal("STOP")
    until(lambda: stage.started() != before)
    said = stage.log("reconciler")
    assert "Watchdog timeout" in said
    assert "Fatal Python error: Aborted" in said
    stage.drop_in()


def test_a_killed_service_is_started_again(stage: Stage) -> None:
    stage.drop_in("RestartSec=1s")
    before = stage.started()
    stage.signal("KILL")
    until(lambda: stage.has("reconciler", "MainPID") not in (before, "0"))
    assert stage.started() != before
    assert stage.strangers() == ""
    stage.drop_in()


def test_new_settings_take_effect_without_a_restart(stage: Stage) -> None:
    before = stage.started()
    stage.write_settings(interval='"3s"')
    stage.run("systemctl", "reload", "reconciler")
    until(lambda: "the settings were read again" in stage.log("reconciler"))
    assert stage.started() == before


def test_bad_settings_are_refused_in_the_status_and_the_old_ones_kept(stage: Stage) -> None:
    before = stage.started()
    stage.write_settings(interval='"often"')
    stage.run("systemctl", "reload", "reconciler")
    until(lambda: "the new settings can't be used" in stage.status())
    assert "schedule.interval" in stage.log("reconciler")
    assert stage.has("reconciler", "MainPID") == before
    stage.write_settings()
    stage.run("systemctl", "reload", "reconciler")
    until(lambda: "can't be used" not in stage.status() and "waiting" in stage.status())


def test_stopping_is_clean_and_leaves_the_state_at_rest(stage: Stage) -> None:
    stage.started()
    stage.run("systemctl", "stop", "reconciler")
    assert stage.has("reconciler", "Result") == "success"
    assert stage.has("reconciler", "ExecMainStatus") == "0"
    assert stage.has("reconciler", "ActiveState") == "inactive"
    assert stage.run("find", STATE, "-name", "*-wal", "-o", "-name", "*-shm").stdout == ""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("interval", "schedule.interval"), ("token", "there is no such credential")],
)
def test_what_only_a_person_can_put_right_is_not_tried_again(stage: Stage, wrong: str, said: str) -> None:
    stage.drop_in("RestartSec=100ms")
    stage.started()
    stage.run("systemctl", "stop", "reconciler")
    stage.write_settings(**{wrong: '{ credential = "not-there" }'})
    stage.run("systemctl", "start", "reconciler", expect=1)
    assert stage.has("reconciler", "ActiveState") == "failed"
    assert stage.has("reconciler", "ExecMainStatus") == "2"
    assert stage.has("reconciler", "NRestarts") == "0"
    assert said in stage.log("reconciler")
    stage.drop_in()


def test_it_waits_for_a_command_that_has_the_state_file(stage: Stage) -> None:
    stage.started()
    stage.run("systemctl", "stop", "reconciler")
    stage.run("systemd-run", "--unit=holder", "flock", f"{STATE}/reconciler.db.lock", "sleep", "3")
    stage.run("systemctl", "start", "reconciler")
    assert "waiting for the state file" in stage.log("reconciler")
    assert stage.has("reconciler", "NRestarts") == "0"
    stage.started()


def test_a_state_file_that_can_t_be_used_is_a_failure_that_is_seen(stage: Stage) -> None:
    stage.drop_in("RestartSec=100ms")
    stage.started()
    stage.run("systemctl", "stop", "reconciler")
    stage.run("cp", "-p", f"{STATE}/reconciler.db", "/root/good")
    try:
        stage.run("dd", "if=/dev/urandom", f"of={STATE}/reconciler.db", "bs=4096", "count=2", "conv=notrunc")
        stage.run("systemctl", "start", "reconciler", expect=1)
        assert stage.has("reconciler", "ExecMainStatus") == "6"
        assert stage.has("reconciler", "NRestarts") == "0"
        assert "reconciler.service" in stage.run("systemctl", "--failed", "--no-legend").stdout
    finally:
        stage.run("cp", "-p", "/root/good", f"{STATE}/reconciler.db")
        stage.drop_in()
    stage.started()


def test_upgrading_is_installing_again_and_a_restart(stage: Stage) -> None:
    stage.started()
    for line in readme_lines()[:2]:
        type_in(stage, line)
    stage.run("systemctl", "restart", "reconciler")
    stage.started()


# -- beside the service -----------------------------------------------------------------------------------------------


def test_root_s_commands_work_beside_the_service_and_leave_nothing_it_can_t_open(stage: Stage) -> None:
    stage.started()
    assert "scope" in stage.as_user("ada", "sudo", "reconciler", "check")
    stage.as_user("ada", "sudo", "reconciler", "plan")
    stage.as_user("ada", "sudo", "reconciler", "status")
    done = stage.as_user("ada", "sudo", "reconciler", "resync", "--wait", expect=None)
    assert "request" not in done
    assert "resync" in stage.as_user("ada", "sudo", "reconciler", "status")
    assert stage.strangers() == ""


def test_root_s_commands_without_the_service_leave_nothing_it_can_t_open(stage: Stage) -> None:
    stage.started()
    stage.run("systemctl", "stop", "reconciler")
    stage.as_user("ada", "sudo", "reconciler", "plan", "--resync")
    stage.as_user("ada", "sudo", "reconciler", "resync", expect=None)
    assert stage.strangers() == ""
    stage.started()
    assert stage.strangers() == ""


def test_work_that_root_did_before_the_first_start_is_gone_on_with(stage: Stage) -> None:
    """The first plan may be reviewed and applied before there is a service."""
    stage.started()
    stage.run("systemctl", "stop", "reconciler")
    stage.run("mv", STATE, f"{STATE}.before")
    try:
        stage.as_user("ada", "sudo", "reconciler", "resync", expect=None)
        stage.started()
        assert stage.strangers() == ""
        assert "People:" in stage.as_user("grace", "reconciler", "status")
    finally:
        stage.run("systemctl", "stop", "reconciler")
        stage.run("rm", "-r", STATE)
        stage.run("mv", f"{STATE}.before", STATE)


def test_root_goes_back_to_a_copy(stage: Stage) -> None:
    stage.started()
    stage.run("systemctl", "stop", "reconciler")
    stage.run("cp", f"{STATE}/reconciler.db", "/root/copy")
    assert "Restored." in stage.as_user("ada", "sudo", "reconciler", "restore", "/root/copy")
    stage.started()
    assert stage.strangers() == ""


@pytest.mark.parametrize("how", ["running", "stopped", "killed"])
def test_the_group_may_read_and_others_may_not(stage: Stage, how: str) -> None:
    stage.started()
    if how == "stopped":
        stage.run("systemctl", "stop", "reconciler")
    elif how == "killed":
        stage.drop_in("Restart=no")
        stage.signal("KILL")
        until(lambda: stage.has("reconciler", "ActiveState") == "failed")
    for command in READING:
        stage.as_user("grace", "reconciler", *command)
    assert stage.strangers() == ""
    assert "may not be read" in stage.as_user("mallory", "reconciler", "status", expect=2)
    for command in (["pause", "--reason", "x"], ["resync"]):
        assert "use sudo" in stage.as_user("grace", "reconciler", *command, expect=6)
    assert "sudo" in stage.as_user("grace", "reconciler", "plan", expect=2)
    stage.drop_in()


# -- several tenants --------------------------------------------------------------------------------------------------


def test_an_instance_for_another_tenant_has_its_own_settings_secrets_and_state(stage: Stage) -> None:
    stage.started()
    for line in readme_lines(1):
        type_in(stage, line, "acme")
    until(lambda: "waiting" in stage.status("reconciler@acme"))
    process = stage.has("reconciler@acme", "MainPID")
    inside = ("nsenter", "-t", process, "-m", "ls", "-A")
    assert stage.run(*inside, STATE).stdout.split() == ["acme"]
    assert "reconciler.db" in stage.run(*inside, f"{STATE}/acme").stdout
    assert stage.run(*inside, "/run/credentials").stdout.split() == ["reconciler@acme.service"]
    for command in ("plan", "status"):
        stage.as_user("ada", "sudo", "reconciler", command, "--config", "/etc/reconciler/acme.toml")
    assert "People:" in stage.as_user("grace", "reconciler", "status", "--config", "/etc/reconciler/acme.toml")
    assert stage.strangers() == ""
    stage.run("systemctl", "stop", "reconciler@acme")
    assert stage.has("reconciler@acme", "Result") == "success"
