"""An output that fails is no failed work: full, closed, broken or ASCII standard streams, with real processes."""

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from reconciler.simulator.faults import hang, status
from tests.devices import FULL, NULL, device
from tests.flows.service import PATIENCE, Service, until
from tests.inside import accept, account
from tests.stage import World

NAME = "Zoë Łukasz 日本"
LOOKS = (
    ("plan",),
    ("plan", "--format", "json"),
    ("status",),
    ("history",),
    ("explain", "zoe@example.com"),
    ("leavers",),
    ("teams", "--json"),
    ("check",),
    ("--help",),
)
SINKS = (">/dev/full", ">&-", ">GONE", "2>&-", "<&- >&- 2>&-", ">/dev/full 2>&1")
"""Redirections of a shell; GONE is a pipe that nobody reads any more."""


@pytest.fixture
def filled(world: World) -> World:
    group = world.group("Team 日本")
    zoe = world.jumpcloud.add_user(
        "zoe@example.com", firstname="Zoë", lastname="Łukasz 日本", displayname=NAME, state="ACTIVATED"
    )
    world.jumpcloud.add_member(group, zoe)
    world.jumpcloud.settle_graph()
    return world


def redirected(
    world: World, sink: str, *arguments: str, encoding: str = "utf-8", **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command with its streams redirected; what it still prints elsewhere is captured."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            ["bash", "-c", f'"$@" {sink.replace("GONE", f"&{writer}")}', "bash", *world.command, *arguments],
            cwd=world.folder,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "110", **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding=encoding,
            pass_fds=[writer],
            timeout=120,
        )
    finally:
        os.close(writer)
    printed = done.stdout + done.stderr
    for word in ("Traceback", "should not happen", "Exception ignored", "Broken", "Logging error", "rror: "):
        assert word not in printed
    return done


@pytest.mark.parametrize("sink", SINKS)
def test_apply_ends_as_its_work_ends(filled: World, sink: str) -> None:
    done = redirected(filled, sink, "apply")
    assert done.returncode == 0, done.stderr
    assert filled.differences() == []
    assert ("could not be written" in done.stderr) == (sink in (">/dev/full", ">&-"))
    assert "create_user" in filled.run("history", "--json").stdout


def test_the_exit_code_of_work_stays_what_it_is(filled: World) -> None:
    """Held, released, decided, paused: none of it becomes a failure, or is told as one."""
    filled.safety["first_run"] = '"review"'
    filled.write_settings()
    assert redirected(filled, ">/dev/full", "apply").returncode == 4
    assert redirected(filled, ">&-", "release", "--reason", "seen").returncode == 0
    assert filled.differences() == []
    for arguments in (
        ("resync",),
        ("pause", "--reason", "test"),
        ("resume",),
        ("allow", "--deactivations", "1", "--reason", "test"),
        ("disown", "zoe@example.com"),
        ("adopt", "zoe@example.com"),
    ):
        done = redirected(filled, ">/dev/full", *arguments)
        assert done.returncode == 0, (arguments, done.stderr)
        assert "The work is not affected" in done.stderr, arguments


@pytest.mark.parametrize("arguments", LOOKS, ids=" ".join)
def test_a_result_that_can_not_be_written_is_an_error_unless_its_reader_went_away(
    filled: World, arguments: tuple[str, ...]
) -> None:
    done = redirected(filled, ">/dev/full", *arguments)
    assert done.returncode == 1, done.stderr
    assert "could not be written to standard output: No space left on device" in done.stderr
    done = redirected(filled, ">GONE", *arguments)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_result_with_closed_streams(filled: World) -> None:
    done = redirected(filled, ">&-", "plan")
    assert (done.returncode, "could not be written to standard output: it is closed" in done.stderr) == (1, True)
    assert redirected(filled, "<&- >&- 2>&-", "plan").returncode == 1
    for sink in ("2>/dev/full", "2>GONE"):
        assert redirected(filled, sink, "plan").returncode == 0


def test_a_detailed_exit_code_does_not_hide_that_the_plan_was_not_shown(filled: World) -> None:
    assert redirected(filled, ">/dev/full", "plan", "--detailed-exitcode").returncode == 1
    assert redirected(filled, ">GONE", "plan", "--detailed-exitcode").returncode == 3
    filled.front.faults.add(status(403), target="/api/v2/usergroups")
    assert redirected(filled, ">/dev/full", "plan", "--detailed-exitcode").returncode == 1
    assert redirected(filled, ">GONE", "plan", "--detailed-exitcode").returncode == 5


def test_a_terminal_that_can_not_encode_a_name_gets_escapes(filled: World) -> None:
    done = redirected(filled, "", "apply", LC_ALL="C", PYTHONIOENCODING="ascii")
    assert (done.returncode, r"Zo\xeb \u0141ukasz" in done.stdout) == (0, True)
    for arguments in LOOKS:
        done = redirected(filled, "", *arguments, LC_ALL="C", PYTHONIOENCODING="ascii:strict")
        assert (done.returncode, done.stdout.isascii()) == (0, True), arguments
    teams = json.loads(redirected(filled, "", "teams", "--json", PYTHONIOENCODING="latin-1").stdout)
    assert teams["teams"][0]["name"] == "Team 日本"


def test_a_terminal_in_latin_1_gets_what_it_can_encode(filled: World) -> None:
    done = redirected(filled, "", "apply", encoding="latin-1", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0
    assert r"Zoë \u0141ukasz \u65e5\u672c" in done.stdout


@pytest.mark.parametrize("encoding", ["gb18030", "shift_jis", "euc_kr"])
def test_a_terminal_of_several_bytes_a_character_gets_text(filled: World, encoding: str) -> None:
    done = redirected(filled, "", "plan", encoding=encoding, PYTHONIOENCODING=encoding)
    assert done.stdout.startswith("The plan: create 1 person")
    assert "日本" in done.stdout
    refused = redirected(filled, "", "release", encoding=encoding, PYTHONIOENCODING=encoding)
    assert refused.stderr.startswith("No held plan is on record")


def test_escapes_are_those_of_the_format(filled: World) -> None:
    plain = redirected(filled, "", "plan", PYTHONIOENCODING="ascii").stdout
    assert r"Team \u65e5\u672c" in plain
    html = redirected(filled, "", "plan", "--format", "html", PYTHONIOENCODING="ascii").stdout
    assert "Team &#26085;&#26412;" in html
    read = json.loads(redirected(filled, "", "plan", "--format", "json", PYTHONIOENCODING="latin-1").stdout)
    names = [change["to"] for op in read["operations"] for change in op["changes"] if change["attribute"] != "active"]
    assert NAME in names


def test_logs_are_escaped_too(filled: World) -> None:
    filled.write_settings(log='[log]\nlevel = "DEBUG"\nformat = "json"\n')
    done = redirected(filled, ">/dev/null", "apply", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert any("Team 日本" in line["message"] for line in lines)
    assert done.stderr.isascii()


def test_a_pipe_that_somebody_made_non_blocking_gets_everything(filled: World) -> None:
    """Programs that share a terminal or a pipe may do that; the reader is slower than we are."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    process = subprocess.Popen([*filled.command, "plan", "--schema"], cwd=filled.folder, stdout=writer)
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        first = file.read(1)
        time.sleep(0.1)
        document = first + file.read()
    assert process.wait(PATIENCE) == 0
    assert len(document) > 4096
    assert json.loads(document)["title"]


def has_finished(world: World) -> bool:
    """Whether the newest run has; a state file that is being made is not looked into."""
    if not world.state_file.exists():
        return False
    with world.state() as store:
        return any(run.finished_at for run in store.runs(1))


@pytest.mark.parametrize("command", ["apply", "resync"])
def test_a_result_that_nobody_reads_keeps_nobody_from_the_state_file(world: World, command: str) -> None:
    group = world.group("Engineering")
    ids = [world.person(f"p{n}", group) for n in range(60)]
    with stuck_pipe() as pipe, running(world, command, stdout=pipe) as process:
        until(lambda: has_finished(world))
        accept(world)
        world.jumpcloud.suspend(ids[0])
        until(lambda: world.run("apply", expect=None).returncode == 0)
        assert not account(world, ids[0]).active
        assert process.poll() is None  # its reader is waited for, without the state file


def test_a_log_that_nobody_reads_stops_no_work(world: World) -> None:
    group = world.group("Engineering")
    for n in range(20):
        world.person(f"p{n}", group)
    world.write_settings(log='[log]\nlevel = "DEBUG"\n')
    with stuck_pipe() as pipe, running(world, "apply", stderr=pipe) as process:
        assert process.wait(PATIENCE) == 0
    assert world.differences() == []


@contextmanager
def stuck_pipe() -> Iterator[int]:
    """The end to write to of a small pipe that nobody reads."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    try:
        yield writer
    finally:
        os.close(writer)
        os.close(reader)


@contextmanager
def running(
    world: World, command: str, *, stdout: int = subprocess.DEVNULL, stderr: int = subprocess.DEVNULL
) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        [*world.command, command], cwd=world.folder, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_progress_on_a_terminal_that_goes_away(filled: World) -> None:
    theirs, ours = pty.openpty()
    still_there = [theirs]
    filled.keeper.on_change = lambda _: os.close(still_there.pop()) if still_there else None
    process = subprocess.Popen(
        [*filled.command, "apply"],
        cwd=filled.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=ours,
        start_new_session=True,
    )
    os.close(ours)
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, still_there) == (0, [])
    assert b"Done" in out
    assert filled.differences() == []


@contextmanager
def asked_about_a_first_plan(world: World) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """`apply` on a terminal that shows its question, and the other end of that terminal."""
    world.safety["first_run"] = '"review"'
    world.write_settings()
    theirs, ours = pty.openpty()
    process = subprocess.Popen(
        [*world.command, "apply"], cwd=world.folder, stdin=ours, stdout=ours, stderr=ours, start_new_session=True
    )
    os.close(ours)
    shown = b""
    while not shown.endswith(b"Apply it as shown? [y/N]: "):
        shown += os.read(theirs, 65536)
    until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S")
    try:
        yield process, theirs
    finally:
        process.kill()
        process.wait()
        os.close(theirs)


def test_the_question_about_a_first_plan_is_not_drawn_over(filled: World) -> None:
    with asked_about_a_first_plan(filled) as (process, terminal):
        assert select.select([terminal], [], [], 1.0)[0] == []
        os.write(terminal, b"y\n")
        with suppress(OSError):  # Linux says so at the end of a terminal
            while os.read(terminal, 65536):
                pass
        assert process.wait(PATIENCE) == 0
    assert filled.differences() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_interrupts_the_question_about_a_first_plan_has_said_no(filled: World, number: int) -> None:
    with asked_about_a_first_plan(filled) as (process, _):
        process.send_signal(number)
        assert process.wait(PATIENCE) == 4
    assert filled.keeper.accounts() == {}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, -signal.SIGTERM)])
def test_whoever_interrupts_the_question_beside_a_daemon_orders_nothing(
    filled: World, service: Service, number: int, code: int
) -> None:
    filled.safety["first_run"] = '"review"'
    filled.write_settings()
    service.start()
    with asked_about_a_first_plan(filled) as (process, _):
        process.send_signal(number)
        assert process.wait(PATIENCE) == code
    with filled.state() as store:
        assert store.request("1") is None


@pytest.mark.parametrize("sink", ["2>/dev/full", "2>GONE", "2>STUCK", "<&- >&- 2>&-"])
def test_the_daemon_goes_on_without_a_log(filled: World, sink: str) -> None:
    filled.schedule = {"interval": '"1s"', "jitter": '"0s"'}
    filled.write_settings()
    reader, writer = os.pipe()
    stuck, full = os.pipe()
    os.close(reader)
    os.write(full, b"x" * fcntl.fcntl(full, fcntl.F_GETPIPE_SZ))
    redirection = sink.replace("GONE", f"&{writer}").replace("STUCK", f"&{full}")
    command = ["bash", "-c", f'exec "$@" {redirection}', "bash", *filled.command, "run"]
    process = subprocess.Popen(command, cwd=filled.folder, pass_fds=[writer, full])
    try:
        until(lambda: filled.differences() == [])
        filled.person("late", next(iter(filled.jumpcloud.groups_in_scope(filled.application))))
        until(lambda: filled.differences() == [])
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        for descriptor in (writer, full, stuck):
            os.close(descriptor)
    assert account(filled, next(iter(filled.jumpcloud.in_scope(filled.application)))).active
    filled.run("status")


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_report_goes_where_a_device_a_descriptor_or_a_link_leads(filled: World) -> None:
    (filled.folder / "stdout").symlink_to("/proc/self/fd/1")  # what /dev/stdout is
    printed = redirected(filled, "", "plan", "--format", "json", "--output", "stdout")
    assert (json.loads(printed.stdout)["version"], printed.stderr) == (1, "")
    target = filled.folder / "target"
    target.write_text("before\n")
    assert redirected(filled, ">>target", "plan", "--output", "/dev/fd/1").returncode == 0
    assert target.read_text().startswith("before\n")
    assert "Team 日本" in target.read_text()
    (filled.folder / "link").symlink_to("saved/plan.json")
    (filled.folder / "saved").mkdir()
    null = device(filled.folder, NULL)
    assert redirected(filled, "", "plan", "--save", "link", "--output", str(null)).stdout == ""
    assert (filled.folder / "link").is_symlink()
    assert json.loads((filled.folder / "saved" / "plan.json").read_text())["version"] == 1
    assert (filled.folder / "saved" / "plan.json").stat().st_mode & 0o777 == 0o600
    assert null.is_char_device()
    assert redirected(filled, ">GONE", "plan", "--output", "stdout").returncode == 0


def test_a_dash_is_standard_output_and_a_plan_that_is_printed_is_a_plan(filled: World) -> None:
    before = set(filled.folder.iterdir())
    shown = filled.run("plan", "--output", "-")
    assert (shown.stdout, shown.stderr) == (filled.run("plan").stdout, "")
    printed = redirected(filled, ">plan.json", "plan", "--save", "-")
    assert (printed.returncode, printed.stderr) == (0, shown.stdout.splitlines()[0] + "\n")
    assert redirected(filled, ">GONE", "plan", "--save", "/proc/self/fd/1").returncode == 0
    assert "name the same file" in filled.run("plan", "--save", "-", "--output", "/dev/stdout", expect=2).stderr
    assert set(filled.folder.iterdir()) - before == {filled.folder / "plan.json"}
    filled.safety["first_run"] = '"review"'
    filled.write_settings()
    filled.run("apply", "--plan", "plan.json")
    assert filled.differences() == []


def test_a_file_that_can_not_be_written_is_an_error_of_its_kind(filled: World) -> None:
    full = str(device(filled.folder, FULL))
    for option, name, code, words in (
        ("--output", ".", 2, "Is a directory"),
        ("--save", "no/where.json", 2, "its directory does not exist"),
        ("--output", "config.toml/x", 2, "Not a directory"),
        ("--save", full, 1, "No space left on device"),
        ("--output", full, 1, "No space left on device"),
    ):
        done = filled.run("plan", option, name, expect=code)
        assert f"{name} could not be written: " in done.stderr
        assert words in done.stderr
    before = set(filled.folder.iterdir())
    reader, writer = os.pipe()
    os.close(reader)
    gone = subprocess.run(
        [*filled.command, "plan", "--output", f"/dev/fd/{writer}"],
        cwd=filled.folder,
        capture_output=True,
        text=True,
        pass_fds=[writer],
    )
    os.close(writer)
    assert (gone.returncode, "could not be written: Broken pipe" in gone.stderr) == (1, True)
    assert set(filled.folder.iterdir()) == before


def test_a_file_in_a_directory_that_was_deleted_can_not_be_written(filled: World) -> None:
    command = [*filled.command, "plan", "--config", str(filled.folder / "config.toml"), "--output", "report.txt"]
    script = 'mkdir gone && cd gone && rmdir ../gone && "$@"'
    done = subprocess.run(["bash", "-c", script, "bash", *command], cwd=filled.folder, capture_output=True, text=True)
    words = "report.txt could not be written: No such file or directory."
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_a_plan_that_was_saved_is_named_though_its_report_could_not_be_written(filled: World) -> None:
    full = str(device(filled.folder, FULL))
    done = filled.run("plan", "--save", "p.json", "--output", full, expect=1)
    assert "No space left on device" in done.stderr
    assert "The plan is saved in p.json. To apply just this: reconciler apply --plan p.json" in done.stderr


@pytest.mark.parametrize("command", ["plan", "check"])
def test_an_interruption_of_a_command_that_only_looks_speaks_of_no_journal(filled: World, command: str) -> None:
    filled.front.faults.add(hang())
    process = filled.start(command)
    until(lambda: filled.front.requests)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err.strip().splitlines()[-1]) == (1, "Interrupted.")


def test_what_failed_is_called_by_its_name(filled: World) -> None:
    filled.front.faults.add(status(401))
    assert filled.run("check", expect=1).stderr.endswith("\nThe check has failed.\n")
    assert filled.run("plan", expect=1).stderr.endswith("\nNo plan was made.\n")
    assert filled.run("apply", expect=1).stderr.endswith("\nThe cycle has failed.\n")


def test_metrics_and_reports_follow_links_and_wait_for_nobody(filled: World) -> None:
    (filled.folder / "metrics").mkdir()
    (filled.folder / "ours.prom").symlink_to("metrics/real.prom")
    filled.write_settings(metrics='[metrics]\ntextfile = "ours.prom"\n', report='[report]\ndirectory = "reports"\n')
    (filled.folder / "reports").mkdir()
    os.mkfifo(filled.folder / "reports" / "index.html")
    done = filled.run("apply")
    assert "The report of this run could not be written" in done.stderr
    assert "reconciler_cycles_total" in (filled.folder / "metrics" / "real.prom").read_text()
    assert (filled.folder / "ours.prom").is_symlink()
    assert (filled.folder / "reports" / "index.html").is_fifo()


def demo(folder: Path, *arguments: str, **streams: int) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "reconciler", "demo", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        stdin=subprocess.DEVNULL,
        stdout=streams.get("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        timeout=160,
    )


def test_the_demo_ends_where_nobody_reads_it(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    gone = demo(tmp_path, stdout=writer)
    os.close(writer)
    assert (gone.returncode, gone.stderr) == (0, b"")


def test_the_demo_needs_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = demo(tmp_path, "--keep", "file/demo")
    assert (refused.returncode, b"can't be made" in refused.stderr) == (2, True)


@pytest.mark.long
@pytest.mark.timeout(180)  # some fifteen commands, one after the other
def test_the_demo_on_a_terminal_without_unicode(tmp_path: Path) -> None:
    whole = demo(tmp_path, "--users", "20", "--groups", "4")
    assert (whole.returncode, whole.stdout.isascii()) == (0, True), whole.stdout


@pytest.mark.parametrize("option", ["--output", "--save"])
def test_a_plan_never_replaces_the_settings_a_secret_or_the_state_file(world: World, option: str) -> None:
    world.group("Engineering")
    world.run("apply")
    (world.folder / "link").symlink_to("config.toml")
    (world.folder / "hard").hardlink_to(world.folder / "token")
    state = [f"state/reconciler.db{end}" for end in ("", "-wal", ".lock", ".2026-11-24.copy", ".before-v3")]
    for name in ("config.toml", "link", "hard", "api-key", "token", *state):
        kept = content(world.folder / name)
        assert "it was not replaced" in world.run("plan", option, name, expect=2).stderr
        assert kept == content(world.folder / name)
    world.run("apply")


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def test_a_plan_never_replaces_a_credential(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.folder / "mount").mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(world.folder / "mount"))
    world.write_settings(notify='[notify]\nwebhook = { credential = "hook" }\nheartbeat = { env = "BEAT" }\n')
    done = world.run("plan", "--output", "mount/hook", expect=2)
    assert "is a secret that the settings name" in done.stderr
    assert not (world.folder / "mount" / "hook").exists()


def test_a_report_and_a_saved_plan_are_two_files(filled: World) -> None:
    (filled.folder / "link").symlink_to("p.json")
    done = filled.run("plan", "--save", "p.json", "--output", "link", expect=2)
    assert "name the same file" in done.stderr
    assert not (filled.folder / "p.json").exists()
