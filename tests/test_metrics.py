"""Metrics and health."""

import asyncio
import contextlib
import os
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.alerts import Failing, Refusal
from reconciler.apply import Result
from reconciler.health import MOST_CONNECTIONS, Told, serving
from reconciler.http import Counters
from reconciler.metrics import Measured, measure, render, write_textfile
from reconciler.model import Membership
from reconciler.plan import Cause, Kind, Operation, Rule, Subject
from reconciler.policy import OutOfScope, Policy
from reconciler.rows import State
from reconciler.settings_fields import Listen
from reconciler.standing import Standing, from_json, to_json
from tests.world import NOW, account, group, snapshot, team, user

HOUR = timedelta(hours=1)
RULES = Path(__file__).parent.parent / "contrib" / "prometheus"


def measured() -> Measured:
    one = user(1)
    create = Operation(Kind.CREATE_USER, Subject("user", one.email, one.id), Cause.JUMPCLOUD, Rule.JOINED, "")
    traffic = Counters(requests=12, retries=3, throttled=2)
    standing = Standing(
        last_good=NOW - 2 * HOUR,
        failing=Failing(3, NOW, "down", resync=True),
        merely_left=frozenset({"k2"}),
        hooks={"teams.approve_command": "did not end"},
        untold={"webhook": (NOW - HOUR, "it answered with status 404")},
        refused={"webhook": {("held", "max_removals"): Refusal(NOW - HOUR, NOW)}},
    )
    standing = standing.counted("partial", 2.5, [Result(create, State.DONE)] * 4, [("jumpcloud", traffic)])
    assert traffic == Counters()  # they begin anew
    queued = team(group(7, "Sales"), seen=False, queued_at=NOW - HOUR)
    member = Membership(ours=True, seen=False, shown=False, asked_at=NOW - 3 * HOUR)
    held = snapshot(
        [
            account(one, memberships={queued.keeper_id: member}),
            account(user(2), left_at=NOW - 5 * HOUR),
            account(user(3), left_at=NOW - 9 * HOUR, protected_as="u3@example.com"),
            account(user(4), active=False, locked_by_us=True, left_at=NOW - 9 * HOUR),
        ],
        [queued, team(group(8))],
    )
    return measure('ACME "1"', held, standing, Policy(), 7)


def test_who_is_kept_by_the_settings_is_no_overdue_leaver() -> None:
    held = snapshot([account(user(1), left_at=NOW), account(user(2), left_at=NOW - 5 * HOUR)])
    standing = Standing(merely_left=frozenset({account(user(2)).keeper_id}))
    keep = Policy(out_of_scope=OutOfScope.KEEP)
    assert [measure("", held, standing, policy, 0).leaver_since for policy in (Policy(), keep)] == [NOW - 5 * HOUR, NOW]


def test_what_is_measured() -> None:
    lines = set(render(measured(), NOW + HOUR).decode().splitlines())
    tenant = 'tenant="ACME \\"1\\""'
    assert {
        f'reconciler_cycles_total{{result="partial",{tenant}}} 1.0',
        f"reconciler_cycle_duration_seconds_sum{{{tenant}}} 2.5",
        f"reconciler_last_good_cycle_age_seconds{{{tenant}}} 10800.0",
        f"reconciler_failed_cycles_in_a_row{{{tenant}}} 3.0",
        f'reconciler_operations_total{{kind="create_user",result="done",{tenant}}} 4.0',
        f'reconciler_hook_failing{{hook="keeper.inventory_command",{tenant}}} 0.0',
        f'reconciler_hook_failing{{hook="teams.approve_command",{tenant}}} 1.0',
        f'reconciler_receiver_failing_since_timestamp_seconds{{receiver="webhook",{tenant}}} 1.795518e+09',
        f'reconciler_users{{state="active",{tenant}}} 3.0',
        f'reconciler_users{{state="locked_by_us",{tenant}}} 1.0',
        f'reconciler_teams{{state="queued",{tenant}}} 1.0',
        f"reconciler_held_operations{{{tenant}}} 7.0",
        f"reconciler_oldest_leaver_seconds{{{tenant}}} 21600.0",
        f'reconciler_waiting{{{tenant},what="membership"}} 1.0',
        f"reconciler_oldest_waiting_seconds{{{tenant}}} 14400.0",
        f'reconciler_requests_total{{service="jumpcloud",{tenant}}} 12.0',
        f'reconciler_throttled_total{{service="jumpcloud",{tenant}}} 2.0',
    } <= lines, "\n".join(sorted(lines))


def test_nobody_is_named() -> None:
    assert b"example.com" not in render(measured(), NOW)
    assert b"Sales" not in render(measured(), NOW)


def test_a_state_file_without_any_run_can_be_measured() -> None:
    assert b"last_good" not in render(Measured(), NOW)


def test_totals_go_on_in_the_next_process() -> None:
    standing = measured().standing
    assert from_json(to_json(standing)) == standing
    assert standing.counted("partial", 1.5, (), ()).totals["cycles:partial"] == 2
    assert from_json(None) == from_json("damaged") == from_json('{"failing": 3}') == Standing()


def test_the_text_file_is_for_the_exporter_to_read_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "reconciler.prom"
    before = os.umask(0o077)
    try:
        write_textfile(path, b"one\n")
        write_textfile(path, b"two\n")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"two\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_textfile(path, b"three\n")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here: apt-get install prometheus")
def test_prometheus_takes_the_metrics_and_the_rules() -> None:
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=render(measured(), NOW), capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    for command in (["check", "rules", "reconciler.rules.yml"], ["test", "rules", "reconciler.test.yml"]):
        ran = subprocess.run(["promtool", *command], cwd=RULES, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


# -- health ---------------------------------------------------------------------------------------------------------


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    with contextlib.suppress(ConnectionError):  # cut off while there was still something to read
        writer.write(request)
        await writer.drain()
        answer = await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return answer


def answers(told: Told, *requests: bytes) -> list[bytes]:
    async def session() -> list[bytes]:
        async with serving(Listen("127.0.0.1", 0), told) as port:
            return [await ask(port, request) for request in requests]

    return asyncio.run(session())


WELL = Told(lambda: b"metric 1\n", lambda: True, lambda: True)


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def test_the_three_pages() -> None:
    metrics, alive, ready = answers(WELL, get("/metrics"), get("/healthz?x=1"), get("/readyz"))
    assert metrics.startswith(b"HTTP/1.1 200 ") and metrics.endswith(b"\r\n\r\nmetric 1\n")
    assert alive.endswith(b"alive\n") and ready.endswith(b"ready\n")
    ill = Told(lambda: b"", lambda: False, lambda: False)
    assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in answers(ill, get("/healthz"), get("/readyz")))


def test_everything_else_is_refused_and_breaks_nothing() -> None:
    def broken() -> bytes:
        raise ValueError("secret")

    told = Told(broken, lambda: True, lambda: True)
    found = answers(
        told, get("/"), get("/metrics", "POST"), get("/metrics"), b"\x16\x03\r\n\r\n", b"x" * 9000, get("/healthz")
    )
    assert [answer[9:12] for answer in found] == [b"404", b"405", b"500", b"405", b"", b"200"]
    assert b"secret" not in b"".join(found)
    assert answers(WELL, get("/metrics", "HEAD"))[0].endswith(b"\r\n\r\n")


def test_connections_that_say_nothing_leave_room_for_no_more_than_so_many() -> None:
    async def session() -> None:
        async with serving(Listen("127.0.0.1", 0), WELL) as port:
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_CONNECTIONS)]
            await asyncio.sleep(0)
            assert await ask(port, get("/healthz")) == b""
            for _, writer in silent:
                writer.close()
                await writer.wait_closed()

    asyncio.run(session())


def test_an_address_that_is_taken_is_an_error() -> None:
    async def session() -> None:
        async with serving(Listen("127.0.0.1", 0), WELL) as port:
            with pytest.raises(OSError, match="address already in use"):
                async with serving(Listen("127.0.0.1", port), WELL):
                    pass

    asyncio.run(session())
