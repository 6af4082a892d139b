"""Delivery: bounded, and only what was taken counts as told."""

import asyncio
import contextlib
import json
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler import notify
from reconciler.after import After, words_of
from reconciler.alert_text import TEXT_BYTES, document
from reconciler.alerts import Alert, AlertKind, Fact, Failing, Key, Refusal, Situation
from reconciler.apply import Result
from reconciler.approval import INVENTORY, hook_failed
from reconciler.config import Settings, load
from reconciler.cycle import Order, Outcome
from reconciler.health import Told, serving
from reconciler.plan import Held, Kind, Notice, NoticeKind, Plan, Scope, Subject
from reconciler.policy import Policy
from reconciler.reading import NobodyThere, Stopped
from reconciler.settings_fields import Listen
from reconciler.store import State, StateError, Store, Unusable
from tests.operations import op
from tests.receiver import Receiver, secret
from tests.world import NOW, SOURCE, account, snapshot, user

FAILING = Situation(NOW, snapshot([]), Policy(), timedelta(hours=4), failing=Failing(2, NOW, "down"))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def settings(folder: Path, **notify: str) -> Settings:
    lines = [f"{key} = {value}" for key, value in notify.items()]
    path = folder / "config.toml"
    path.write_text('[keeper]\nscim_url = "https://keeper.example/api/rest/scim/v2/1"\n[notify]\n' + "\n".join(lines))
    return load(path)


def tell(
    using: Settings,
    store: Store,
    now: Situation,
    unsaved: dict[str, dict[Key, datetime]] | None = None,
    refused: dict[str, dict[Key, Refusal]] | None = None,
) -> dict[str, notify.Report]:
    return asyncio.run(notify.tell(using, store, now, NOW, {} if unsaved is None else unsaved, refused or {}))


def full(*_: object) -> None:
    raise Unusable(Path("state.db"), "the disk is full")


def test_an_alert_is_told_once_even_where_the_state_file_cannot_be_written(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsaved: dict[str, dict[Key, datetime]] = {}
    using = settings(tmp_path, webhook=secret(tmp_path, "hook", receiver.url))
    with Store.open(tmp_path / "state.db", write=True) as store:
        monkeypatch.setattr(store, "tell", full)
        tell(using, store, FAILING, unsaved)
        tell(using, store, FAILING, unsaved)
    assert receiver.kinds() == ["failing"]


def test_what_could_not_be_kept_once_is_not_repeated_with_every_run_from_then_on(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsaved: dict[str, dict[Key, datetime]] = {}
    using = settings(tmp_path, webhook=secret(tmp_path, "hook", receiver.url))
    with Store.open(tmp_path / "state.db", write=True) as store:
        with monkeypatch.context() as no_room:
            no_room.setattr(store, "tell", full)
            tell(using, store, BOTH, unsaved)
        for minutes in (5, 240, 245, 250):
            tell(using, store, replace(BOTH, at=NOW + timedelta(minutes=minutes)), unsaved)
    assert receiver.kinds() == ["leaver_active", "failing", "leaver_active"], "at first, and after four hours"


def test_what_another_version_has_told_keeps_nothing_back(tmp_path: Path, receiver: Receiver) -> None:
    """Whoever goes back to a former version would hear nothing at all any more."""
    using = settings(tmp_path, webhook=secret(tmp_path, "hook", receiver.url))
    whole = replace(FAILING, plan=Plan("cycle", NOW, SOURCE, Scope(0, 0, 0)))
    with Store.open(tmp_path / "state.db", write=True) as store:
        store.tell("webhook", NOW, [("begun", ""), ("of_another_version", "x")])
        tell(using, store, FAILING)
        assert ("of_another_version", "x") in store.told("webhook")
        tell(using, store, whole)
        assert set(store.told("webhook")) == {("begun", ""), ("failing", "cycles")}
    assert receiver.kinds() == ["failing"]


def test_a_receiver_that_hangs_takes_a_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "CALL_LIMIT", 0.5)
    monkeypatch.setattr(notify, "COMMAND_LIMIT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        command = json.dumps([sys.executable, "-c", "import time; time.sleep(60)"])
        using = settings(tmp_path, webhook=secret(tmp_path, "hook", address), command=command)
        began = time.monotonic()
        with Store.open(tmp_path / "state.db", write=True) as store:
            tell(using, store, FAILING)
            assert set(store.told("webhook")) == set(store.told("command")) == {("begun", "")}
        assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://127.0.0.1:1/topsecret", "no connection"),
        ("http://elsewhere.example/topsecret", "sends the credential in the clear"),
        ("topsecret", "no https:// address"),
        ("https://user:topsecret@example.com/", "user name or a password"),
    ],
)
def test_what_went_wrong_never_names_the_address(tmp_path: Path, address: str, words: str) -> None:
    using = settings(tmp_path, webhook=secret(tmp_path, "hook", address))
    problem = asyncio.run(notify.receivers(using)[0].send({"text": ""})).problem
    assert words in problem
    assert "topsecret" not in problem and "elsewhere" not in problem


def test_a_secret_that_is_not_there_is_told(tmp_path: Path) -> None:
    using = settings(tmp_path, webhook='{ file = "missing" }')
    assert "does not exist" in asyncio.run(notify.receivers(using)[0].send({"text": ""})).problem


def test_teams_workflows_get_a_card_and_everybody_else_the_text() -> None:
    body = {"text": "one\ntwo", "kind": "held"}
    assert notify.fitting("https://hooks.slack.com/services/x", body) == body
    assert notify.fitting("https://evil.example/?logic.azure.com", body) == body
    for host in ("prod-1.westeurope.logic.azure.com:443", "default1.2.environment.api.powerplatform.com"):
        found: Any = notify.fitting(f"https://{host}/workflows/x?sig=y", body)
        assert found["text"] == "one\ntwo"
        assert found["attachments"][0]["content"]["body"][0]["text"] == "one\n\ntwo"


@pytest.mark.parametrize("words", ["left the scope", "\x1b[31m", "\U0001f600", '\\"', "a" + "\u0301" * 9])
def test_a_body_is_small_enough_for_teams_whatever_is_in_it(words: str) -> None:
    many = tuple(
        Fact(AlertKind.DEACTIVATED, str(n), f"u{n}@example.com {words * 50}", words * 500, NOW) for n in range(300)
    )
    body = document(Alert(AlertKind.DEACTIVATED, many), words * 500, NOW)
    assert len(body["text"].encode()) <= TEXT_BYTES
    assert body["text"].splitlines()[1].startswith("- `u0@example.com") and body["facts"]
    assert "more, see `reconciler leavers`" in body["text"]
    for address in ("https://x.logic.azure.com/", "https://hooks.slack.com/"):
        assert len(json.dumps(notify.fitting(address, body), ensure_ascii=False).encode()) < 28 * 1000


# -- what a receiver refuses ----------------------------------------------------------------------------------------

LEAVER = account(user(1), left_at=NOW - timedelta(hours=9))
BOTH = replace(FAILING, snapshot=snapshot([LEAVER]))
HOUR = timedelta(hours=1)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_is_refused_keeps_nothing_else_back_and_is_tried_again_with_pauses(
    tmp_path: Path, receiver: Receiver, status: int
) -> None:
    receiver.refuses = {"leaver_active": status}
    using = settings(tmp_path, webhook=secret(tmp_path, "hook", receiver.url))
    refused: dict[str, dict[Key, Refusal]] = {}
    tried: list[int] = []
    with Store.open(tmp_path / "state.db", write=True) as store:
        for minutes in range(0, 27 * 60, 5):
            before = len(receiver.got)
            now = replace(BOTH, at=NOW + timedelta(minutes=minutes))
            report = tell(using, store, now, refused=refused)["webhook"]
            refused = {"webhook": dict(report.refused)}
            if receiver.kinds()[before:].count("leaver_active"):
                tried.append(minutes)
                assert str(status) in report.problem
            assert receiver.kinds().count("failing") == 1
    # Once it is given up after a day, it is told again as holds and leavers are: every four hours.
    assert tried == [0, 5, 10, 20, 40, 80, 160, 320, 560, 800, 1040, 1280, 1520]
    assert not refused["webhook"]


@pytest.mark.parametrize("status", [401, 404, 410, 429, 500, 302])
def test_a_receiver_that_takes_nothing_is_left_alone_until_the_next_run(
    tmp_path: Path, receiver: Receiver, status: int
) -> None:
    receiver.status = status
    using = settings(tmp_path, webhook=secret(tmp_path, "hook", receiver.url))
    with Store.open(tmp_path / "state.db", write=True) as store:
        for _ in range(2):
            report = tell(using, store, BOTH)["webhook"]
            assert (report.called, report.refused) == (True, {})
    assert receiver.kinds() == ["leaver_active", "leaver_active"]


def test_a_command_that_refuses_one_alert_gets_the_others(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    code = f"import sys; k = sys.stdin.read(); open({str(taken)!r}, 'a').write(k); sys.exit('left the' in k)"
    using = settings(tmp_path, command=json.dumps([sys.executable, "-c", code]))
    with Store.open(tmp_path / "state.db", write=True) as store:
        report = tell(using, store, BOTH)["command"]
        assert {kind for kind, _ in store.told("command")} == {"begun", "failing"}
    assert taken.read_text().count('"version"') == 2
    assert set(report.refused) == {("leaver_active", LEAVER.keeper_id)}


def test_a_recovery_that_is_refused_waits_too_and_a_fact_that_rests_is_not_over(
    tmp_path: Path, receiver: Receiver
) -> None:
    using = settings(tmp_path, webhook=secret(tmp_path, "hook", receiver.url))
    well = replace(FAILING, failing=None, plan=Plan("cycle", NOW, SOURCE, Scope(0, 0, 0)))
    with Store.open(tmp_path / "state.db", write=True) as store:
        tell(using, store, FAILING)
        rests = {"webhook": {("failing", "cycles"): Refusal(NOW, NOW)}}
        tell(using, store, FAILING, refused=rests)
        assert receiver.kinds() == ["failing"]
        receiver.refuses = {"recovered": 400}
        report = tell(using, store, well)["webhook"]
        assert tell(using, store, well, refused={"webhook": dict(report.refused)})["webhook"].called is False
        assert receiver.kinds() == ["failing", "recovered"]
        receiver.refuses = {}
        tell(using, store, replace(well, at=NOW + HOUR), refused={"webhook": dict(report.refused)})
        tell(using, store, replace(well, at=NOW + HOUR))
    assert receiver.kinds() == ["failing", "recovered", "recovered"]


# -- what follows a run ---------------------------------------------------------------------------------------------


def outcome(result: str = "done") -> Outcome:
    return Outcome(1, Plan("cycle", NOW, SOURCE, Scope(0, 0, 0)), result)


def after_runs(folder: Path, using: Settings, *runs: Exception | Outcome, order: Order | None = None) -> After:
    with Store.open(folder / "state.db", write=True) as store:
        after = After(store)

        def follow(run: Exception | Outcome) -> None:
            async def work() -> Outcome:
                if isinstance(run, Exception):
                    raise run
                return run

            asyncio.run(after.follow(using, order or Order(), lambda: NOW, work))

        for run in runs:
            expected = pytest.raises(type(run)) if isinstance(run, Exception) else contextlib.nullcontext()
            with expected:
                follow(run)
    return after


def test_failures_are_counted_over_processes_until_a_cycle_works(tmp_path: Path) -> None:
    using = settings(tmp_path)
    down = StateError(tmp_path, "it broke")
    for expected in (1, 2):
        failing = after_runs(tmp_path, using, down).standing.failing
        assert failing is not None and failing.count == expected
    assert after_runs(tmp_path, using, outcome("failed")).standing.failing is not None
    after = after_runs(tmp_path, using, outcome("partial"))
    assert (after.standing.failing, after.standing.last_good) == (None, None)
    assert after_runs(tmp_path, using, outcome("nothing")).standing.last_good == NOW


@pytest.mark.parametrize("result", ["done", "nothing", "observed", "held"])
def test_no_cycle_without_all_lists_is_good(result: str) -> None:
    made = outcome(result)
    assert made.good
    made.plan = replace(made.plan, scope=replace(made.plan.scope, unread=("users",)))
    assert not made.good


def test_without_a_list_nobody_has_ceased_to_fail_and_nothing_to_be_held_soon(tmp_path: Path) -> None:
    using, lock = settings(tmp_path), op(Kind.DEACTIVATE_USER, user(1))
    failing = Notice(NoticeKind.FAILING, lock.subject, "failed twice")
    alarm = Notice(NoticeKind.WILL_BE_HELD, Subject("limit", "max_removals"), "9 people would lose a team")
    bad, unread = outcome("partial"), outcome("partial")
    bad.plan = replace(bad.plan, operations=(lock,), notices=(failing, alarm))
    unread.plan = replace(unread.plan, scope=replace(unread.plan.scope, unread=("users",)))
    for runs, lacks, alarms in (([bad, unread], [lock.subject.key], 1), ([bad, unread, outcome()], [], 0)):
        stands = after_runs(tmp_path, using, *runs).standing
        assert (list(stands.lacks), len(stands.will_be_held)) == (lacks, alarms)


def test_what_the_settings_do_not_name_any_more_has_not_failed(tmp_path: Path) -> None:
    beat = settings(tmp_path, heartbeat=secret(tmp_path, "beat", "http://127.0.0.1:1/"))
    assert after_runs(tmp_path, beat, outcome()).standing.untold.keys() == {"heartbeat"}
    failed = replace(outcome(), plan=replace(outcome().plan, notices=(hook_failed(INVENTORY, "it ended with 1"),)))
    after = after_runs(tmp_path, beat, failed)
    assert ([*after.standing.untold], [*after.standing.hooks]) == (["heartbeat"], [INVENTORY])
    after = after_runs(tmp_path, settings(tmp_path), StateError(tmp_path, "it broke"))
    assert (after.standing.untold, after.standing.hooks) == ({}, {})


@pytest.mark.parametrize("error", [NobodyThere("nobody"), Stopped("stopped")])
def test_what_is_no_failure_does_not_count(tmp_path: Path, error: Exception) -> None:
    assert after_runs(tmp_path, settings(tmp_path), error).standing.failing is None


def test_one_person_says_nothing_about_cycles(tmp_path: Path) -> None:
    using = settings(tmp_path)
    after = after_runs(tmp_path, using, StateError(tmp_path, "x"), outcome(), order=Order(person="ada@example.com"))
    assert (after.standing.failing, after.standing.last_good) == (None, None)
    assert after.standing.totals["cycles:done"] == 1


def test_a_cycle_that_put_everything_off_for_time_is_not_good(tmp_path: Path) -> None:
    """JumpCloud, say, answers so slowly that all evidence is too old: no heartbeat tells that all is well."""
    put_off = Result(op(Kind.UPDATE_USER, user(1)), State.PUT_OFF, "expired")
    none = replace(outcome("nothing"), results={1: put_off}, unfinished=True)
    assert after_runs(tmp_path, settings(tmp_path), none).standing.last_good is None
    some = replace(none, results={**none.results, 2: replace(put_off, state=State.DONE, outcome="done")})
    assert after_runs(tmp_path, settings(tmp_path), some).standing.last_good == NOW


def test_while_all_writes_are_paused_no_cycle_is_good(tmp_path: Path) -> None:
    with Store.open(tmp_path / "state.db", write=True) as store:
        store.add_request("pause", {}, by="root", at=NOW, reason="")
    assert after_runs(tmp_path, settings(tmp_path), outcome("nothing")).standing.last_good is None


def test_an_error_that_was_not_made_for_people_is_not_quoted() -> None:
    assert words_of(ValueError("topsecret")) == "ValueError; the log has more"
    assert "it broke" in words_of(StateError(Path("x"), "it broke"))


def test_the_server_tells_how_it_stands(tmp_path: Path) -> None:
    using = settings(tmp_path)
    path = tmp_path / "config.toml"
    path.write_text(path.read_text().replace("[notify]", '[metrics]\nlisten = "127.0.0.1:9464"'))
    using = load(path)
    after = after_runs(tmp_path, using, outcome("nothing"))
    told = Told(lambda: after.metrics(NOW), lambda: True, lambda: after.ready(using, NOW + timedelta(minutes=14)))

    async def ready() -> bytes:
        async with serving(Listen("127.0.0.1", 0), told) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /readyz HTTP/1.1\r\n\r\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

    assert asyncio.run(ready()).startswith(b"HTTP/1.1 200 ")
    assert not after.ready(using, NOW + timedelta(minutes=15))
    assert b'reconciler_cycles_total{result="nothing",tenant=""} 1.0' in after.metrics(NOW)


@pytest.mark.parametrize("lane", [True, False])
def test_the_next_suspended_person_does_not_wait_for_whoever_is_told_of_the_last(tmp_path: Path, lane: bool) -> None:
    held = outcome("held")
    held.plan = replace(held.plan, held=(Held("max_deactivations", (), 3, 9, "9 people would be locked"),))

    async def work() -> Outcome:
        return held

    async def play(store: Store) -> None:
        called, calls = asyncio.Event(), AsyncExitStack()

        async def never_answers(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            calls.callback(writer.close)
            called.set()

        silent = await asyncio.start_server(never_answers, "127.0.0.1", 0)
        port = silent.sockets[0].getsockname()[1]
        using = settings(tmp_path, webhook=secret(tmp_path, "hook", f"http://127.0.0.1:{port}/"))
        after, stopping = After(store, lane=lane), asyncio.Event()
        orders = (Order(), Order(leavers=frozenset({"u1"})), Order(leavers=frozenset({"u2"})))
        runs = [asyncio.create_task(after.follow(using, one, lambda: NOW, work, (), stopping)) for one in orders]
        await called.wait()
        assert [run.done() for run in runs] == [False, lane, lane]
        await after.aclose()
        stopping.set()
        assert await asyncio.gather(*runs) == [held] * 3
        silent.close()
        await calls.aclose()

    with Store.open(tmp_path / "state.db", write=True) as store:
        asyncio.run(asyncio.wait_for(play(store), 60))
