"""What follows a run: people are told, the heartbeat is called, approvals are asked for; through the command line."""

import asyncio
import json
import re
import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler import apply as executor
from reconciler import cycle, orders
from reconciler.after import After
from reconciler.config import load
from reconciler.simulator.faults import status
from reconciler.store import Store
from reconciler.wiring import services
from tests.inside import accept, account
from tests.receiver import Receiver, secret
from tests.stage import API_KEY, World


def notifying(world: World, receiver: Receiver, *command: str, **more: str) -> None:
    webhook = secret(world.folder, "webhook", f"{receiver.url}/hook?key=topsecret")
    heartbeat = secret(world.folder, "heartbeat", f"{receiver.url}/beat/topsecret")
    world.write_settings(
        notify=f"[notify]\nwebhook = {webhook}\nheartbeat = {heartbeat}\ncommand = {json.dumps(command)}\n", **more
    )


def python(code: str) -> tuple[str, str, str]:
    return sys.executable, "-c", code


def beats(receiver: Receiver) -> int:
    return [path for method, path, _ in receiver.got if method == "GET"].count("/beat/topsecret")


def filled(world: World, people: int = 12) -> list[str]:
    group = world.group("Engineering")
    ids = [world.person(f"p{n}", group) for n in range(people)]
    world.run("apply")
    return ids


def test_a_lock_is_told_once_and_good_cycles_call_the_heartbeat(world: World, receiver: Receiver) -> None:
    ids = filled(world)
    notifying(world, receiver)
    world.run("apply")
    assert receiver.got == [("GET", "/beat/topsecret", None)]
    for one in ids[:2]:
        world.jumpcloud.suspend(one)
    world.run("apply")
    world.run("apply")
    assert receiver.kinds() == ["deactivated"]
    body = next(body for method, _, body in receiver.got if method == "POST")
    assert body["count"] == 2
    assert "2 people were locked in Keeper:\n- `p0@example.com`: suspended in JumpCloud" in body["text"]
    assert beats(receiver) == 3
    world.run("plan")
    world.run("resync", "p5@example.com")
    assert beats(receiver) == 3


def test_resyncs_that_fail_are_told_though_other_cycles_are_good(world: World, receiver: Receiver) -> None:
    """As from a timer; nothing is due, so that only a resync notices that Keeper takes the token no more."""
    filled(world)
    notifying(world, receiver)
    world.back.faults.add(status(401))
    for _ in range(2):
        world.run("resync", expect=1)
        world.run("apply")
    assert receiver.kinds() == ["failing"]
    world.back.faults.clear()
    world.run("apply")
    assert receiver.kinds() == ["failing"], "it has not shown that Keeper answers again"
    world.run("resync")
    assert receiver.kinds() == ["failing", "recovered"]


def test_what_was_done_before_anybody_was_to_be_told_is_no_news(world: World, receiver: Receiver) -> None:
    ids = filled(world)
    world.jumpcloud.suspend(ids[0])
    world.run("apply")
    notifying(world, receiver)
    world.run("apply")
    assert receiver.kinds() == []


@pytest.mark.parametrize("status", [500, 302])
def test_an_alert_is_told_again_until_its_receiver_took_it(world: World, receiver: Receiver, status: int) -> None:
    ids = filled(world)
    taken = world.folder / "taken"
    command = python(f"import sys; open({str(taken)!r}, 'a').write(sys.stdin.read() + chr(10))")
    notifying(world, receiver, *command)
    receiver.status = status
    world.jumpcloud.suspend(ids[0])
    done = world.run("apply")
    assert f"status {status}" in done.stderr
    assert "topsecret" not in done.stderr + done.stdout
    assert {path.partition("?")[0] for _, path, _ in receiver.got} == {"/hook", "/beat/topsecret"}
    receiver.status = 204
    world.run("apply")
    world.run("apply")
    assert receiver.kinds() == ["deactivated", "deactivated"]
    # The command took it the first time, and is not told again.
    assert [json.loads(line)["kind"] for line in taken.read_text().splitlines()] == ["deactivated"]


def test_a_command_gets_none_of_our_secrets_and_may_fail(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = filled(world)
    seen = world.folder / "seen"
    notifying(
        world,
        receiver,
        *python(f"import os; open({str(seen)!r}, 'w').write(str(dict(os.environ))); raise SystemExit(7)"),
    )
    settings = world.folder / "config.toml"
    settings.write_text(settings.read_text().replace('{ file = "api-key" }', '{ env = "OUR_KEY" }'))
    monkeypatch.setenv("OUR_KEY", API_KEY)
    monkeypatch.setenv("THEIRS", "kept")
    world.jumpcloud.suspend(ids[0])
    assert "exit code 7" in world.run("apply").stderr
    assert API_KEY not in seen.read_text()
    assert "THEIRS" in seen.read_text()
    assert receiver.kinds() == ["deactivated"]


def test_a_hold_and_its_end_are_told_and_a_held_cycle_is_no_heartbeat(world: World, receiver: Receiver) -> None:
    ids = filled(world)
    notifying(world, receiver)
    for one in ids[:7]:
        world.jumpcloud.delete_user(one)
    world.jumpcloud.settle_graph()
    world.run("apply", expect=4)
    world.run("apply", expect=4)
    assert receiver.kinds() == ["held"]
    assert beats(receiver) == 0
    world.run("release")
    assert receiver.kinds() == ["held", "deactivated", "recovered"]
    assert beats(receiver) == 1


def test_cycles_that_fail_are_told_once_and_so_is_that_they_work_again(world: World, receiver: Receiver) -> None:
    filled(world, 3)
    notifying(world, receiver)
    settings = world.folder / "config.toml"
    good = settings.read_text()
    settings.write_text(good.replace('application = "Keeper"', 'application = "Gone"'))
    for _ in range(3):
        world.run("apply", expect=1)
    assert receiver.kinds() == ["failing"]
    assert beats(receiver) == 0
    settings.write_text(good)
    world.run("apply")
    assert receiver.kinds() == ["failing", "recovered"]
    assert beats(receiver) == 1


def run_and_tell(world: World) -> None:
    """One run with all that follows it, in this process."""
    settings = load(world.folder / "config.toml")

    async def go() -> None:
        async with services(settings) as both:
            with Store.open(settings.state_path(), write=True) as store:
                now = lambda: datetime.now(UTC)  # noqa: E731
                where = orders.Setting(settings, both, store, now, asyncio.Event(), After(store), width=100)
                await orders.run(cycle.Order(), where)

    asyncio.run(go())


def test_a_kind_that_keeper_does_not_carry_out_is_told_once(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "LOOK_AGAIN", (0.01,))
    ids = filled(world)
    accept(world)
    notifying(world, receiver)
    world.keeper.set_dialect(ignored_attributes=["active"])
    for one in ids[:3]:
        world.jumpcloud.suspend(one)
    for _ in range(3):
        run_and_tell(world)
    assert receiver.kinds() == ["kind_stopped"]
    world.keeper.set_dialect(ignored_attributes=[])
    for n in range(3):
        world.run("resync", f"p{n}@example.com")
    assert receiver.kinds() == ["kind_stopped"] + ["deactivated"] * 3


def test_notify_tries_the_receivers_and_leaves_the_heartbeat_alone(world: World, receiver: Receiver) -> None:
    assert "nobody to tell" in world.run("notify", "--test", expect=2).stderr
    notifying(world, receiver, *python("import sys; sys.exit('test' not in sys.stdin.read())"))
    done = world.run("notify", "--test")
    assert done.stdout == "webhook: taken\ncommand: taken\n"
    assert receiver.kinds() == ["test"]
    assert beats(receiver) == 0
    receiver.status = 404
    assert "webhook: not taken: it answered with status 404" in world.run("notify", "--test", expect=1).stdout
    assert world.run("notify", expect=2).stderr


def test_the_metrics_are_written_and_their_totals_go_on(world: World) -> None:
    world.write_settings(metrics='[metrics]\ntextfile = "reconciler.prom"\n')
    ids = filled(world)
    world.jumpcloud.suspend(ids[0])
    world.run("apply")
    found = (world.folder / "reconciler.prom").read_text()
    assert 'reconciler_cycles_total{result="done",tenant=""} 2.0' in found
    assert 'reconciler_operations_total{kind="create_user",result="done",tenant=""} 12.0' in found
    assert re.search(r'reconciler_requests_total\{service="jumpcloud",tenant=""\} [1-9]', found)
    assert re.search(r"reconciler_last_good_cycle_age_seconds\S+ [0-9.]+\n", found)
    assert "example.com" not in found and "Engineering" not in found


# -- approval -------------------------------------------------------------------------------------------------------


def hooked(world: World, inventory: str = "", approve: str = "", more: str = "") -> None:
    lines = [f'[keeper]\nscim_url = "{world.back.url}{world.keeper.base_path()}"\ntoken = {{ file = "token" }}\n']
    if inventory:
        lines.append(f"inventory_command = {json.dumps(python(inventory))}\n")
    if approve:
        world.teams["approve_command"] = json.dumps(python(approve))
    world.write_settings(keeper="".join(lines), log='[log]\nlevel = "DEBUG"\n' + more)


def given(folder: Path) -> list[list[str]]:
    path = folder / "given"
    lines = path.read_text().splitlines() if path.exists() else []
    return [[team["name"] for team in json.loads(line)["teams"]] for line in lines]


def keeping(folder: Path, code: int = 0) -> str:
    return (
        f"import sys; open({str(folder / 'given')!r}, 'a').write(sys.stdin.read() + chr(10)); "
        f"print('approving'); sys.exit({code})"
    )


def test_what_was_queued_is_given_to_the_approve_command(world: World) -> None:
    world.keeper.set_dialect(shows_queued_teams=False, shows_pending_memberships=False)
    world.teams["review"] = '["Prod*"]'
    hooked(world, approve=keeping(world.folder))
    engineering, production = world.group("Engineering"), world.group("Production")
    world.person("ada", engineering, production)
    done = world.run("apply", expect=4)
    assert given(world.folder) == [["Engineering"]]
    assert "teams.approve_command: approving" in done.stderr
    world.run("apply", expect=4)  # nothing new was queued, and the pause has just begun
    assert given(world.folder) == [["Engineering"]]
    world.person("bob", engineering)
    world.run("apply", expect=4)
    assert given(world.folder) == [["Engineering"]] * 2


def test_what_a_partial_run_queued_is_approved_after_the_next_whole_one(world: World) -> None:
    """It does not know whom of the others JumpCloud wants in a team still."""
    world.keeper.set_dialect(shows_queued_teams=False, shows_pending_memberships=False)
    hooked(world, approve=keeping(world.folder))
    engineering, sales = world.group("Engineering"), world.group("Sales")
    ada = world.person("ada", engineering)
    world.person("bob", sales)
    world.run("apply")
    assert len(given(world.folder)) == 1
    world.jumpcloud.add_member(sales, ada)
    world.jumpcloud.settle_graph()
    world.run("resync", "ada@example.com")
    assert len(given(world.folder)) == 1
    world.run("apply")
    assert len(given(world.folder)) == 2


@pytest.mark.parametrize("unread", ["names", "name", "paths"])
def test_nobody_is_approved_whose_groups_could_not_be_read(world: World, unread: str) -> None:
    """They may have left the group, and nothing is planned then that takes them out."""
    world.keeper.set_dialect(queues_every_membership=True)
    engineering, sales = world.group("Engineering"), world.group("Sales")
    ada = world.person("ada", engineering, sales)
    world.person("bob", engineering)
    world.run("apply")
    hooked(world, approve=keeping(world.folder))
    world.jumpcloud.remove_member(sales, ada)
    world.jumpcloud.settle_graph()
    if unread == "names":
        world.jumpcloud.oddities.take_down("/api/v2/usergroups", 403)
    elif unread == "name":
        world.jumpcloud.oddities.spoil(sales, name="")
    else:
        world.jumpcloud.oddities.spoil_node(ada, paths=7)
    world.run("apply", expect=None)
    path = world.folder / "given"
    lines = path.read_text().splitlines() if path.exists() else []
    teams = {team["name"]: team["members"] for line in lines for team in json.loads(line)["teams"]}
    assert "ada@example.com" not in teams.get("Sales", ())
    assert unread == "names" or "bob@example.com" in teams["Engineering"]


def test_the_approve_command_fails_still_while_no_groups_can_be_read(world: World) -> None:
    """It can't be told then what waits: that is no reason to forget the failure, and to try anew at once after it."""
    world.keeper.set_dialect(queues_every_membership=True)
    filled(world, 2)
    hooked(world, approve=keeping(world.folder, code=1))
    world.run("apply")
    assert len(given(world.folder)) == 1 and "teams.approve_command failed: " in world.run("status").stdout
    world.jumpcloud.oddities.take_down("/api/v2/usergroups", 403)
    world.run("apply", expect=None)
    assert "teams.approve_command failed: " in world.run("status").stdout
    world.jumpcloud.oddities.put_up("/api/v2/usergroups")
    world.run("apply")
    assert len(given(world.folder)) == 1, "the pause after a failure lasts"


@pytest.mark.parametrize("why", ["let go", "taken out by hand"])
def test_nobody_is_approved_who_has_left_the_group_though_no_operation_takes_them_out(world: World, why: str) -> None:
    world.keeper.set_dialect(queues_every_membership=True)
    engineering, sales = world.group("Engineering"), world.group("Sales")
    ada = world.person("ada", engineering, sales)
    world.person("bob", engineering, sales)
    world.run("apply")
    world.run("resync")
    if why == "let go":
        world.teams["exclude"] = '["X-*"]'
        world.jumpcloud.rename_group(sales, "X-Sales")
    else:
        [team] = [one.id for one in world.keeper.teams().values() if one.name == "Sales"]
        world.keeper.remove_member("ada@example.com", team)
    hooked(world, approve=keeping(world.folder))
    world.jumpcloud.remove_member(sales, ada)
    world.jumpcloud.settle_graph()
    world.run("resync", expect=None)
    lines = (world.folder / "given").read_text().splitlines()
    teams = {team["name"]: team["members"] for line in lines for team in json.loads(line)["teams"]}
    assert "ada@example.com" not in teams.get("Sales", ())
    assert "ada@example.com" in teams["Engineering"]


def test_nobody_whose_account_is_in_a_conflict_is_approved(world: World) -> None:
    """Their address is that of another Keeper user by now, and nothing more is given to them."""
    world.keeper.set_dialect(queues_every_membership=True)
    engineering = world.group("Engineering")
    ada = world.person("ada", engineering)
    world.person("bob", engineering)
    world.run("apply")
    hooked(world, approve=keeping(world.folder))
    world.keeper.add_user("eve@example.com")
    world.jumpcloud.update_user(ada, email="eve@example.com")
    world.run("resync", expect=None)
    [line] = (world.folder / "given").read_text().splitlines()
    [team] = json.loads(line)["teams"]
    assert team["members"] == ["bob@example.com"]


def test_a_pause_stops_the_approve_command(world: World) -> None:
    world.keeper.set_dialect(shows_queued_teams=False)
    filled(world, 2)
    hooked(world, approve=keeping(world.folder))
    world.run("pause", "--reason", "vaults are moved")
    world.run("apply")
    assert given(world.folder) == []
    world.run("resume")
    world.run("apply")
    assert given(world.folder) == [["Engineering"]]


def test_nothing_is_approved_while_a_first_plan_waits_for_a_person(world: World) -> None:
    world.keeper.set_dialect(queues_every_membership=True)
    world.safety.clear()
    hooked(world)
    engineering = world.group("Engineering")
    world.person("ada", engineering)
    world.run("apply", expect=4)
    world.run("release")
    shutil.copy(world.folder / "state" / "reconciler.db", world.folder / "copy.db")
    world.run("restore", str(world.folder / "copy.db"))
    hooked(world, approve=keeping(world.folder))
    world.person("bob", engineering)
    world.run("apply", expect=4)
    assert given(world.folder) == []
    world.run("release")
    assert given(world.folder) == [["Engineering"]]


def test_an_approve_command_that_fails_is_a_notice_and_an_alert_not_a_failed_cycle(
    world: World, receiver: Receiver
) -> None:
    world.keeper.set_dialect(shows_queued_teams=False)
    world.teams["approve_command"] = json.dumps(python(keeping(world.folder, 3)))
    notifying(world, receiver)
    world.person("ada", world.group("Engineering"))
    assert "ended with exit code 3" in " ".join(world.run("apply").stdout.split())
    world.run("apply")
    assert receiver.kinds() == ["hook_failed"]
    assert beats(receiver) == 2
    # In observe mode it is not run any more, and could never be said to be well.
    world.policy["mode"] = '"observe"'
    notifying(world, receiver)
    assert json.loads(world.run("status", "--json").stdout)["programs_failing"]
    run_and_tell(world)
    assert not json.loads(world.run("status", "--json").stdout)["programs_failing"]


def test_the_inventory_makes_reports_exact(world: World) -> None:
    shown = world.folder / "inventory"
    hooked(world, inventory=f"print(open({str(shown)!r}).read())")
    world.keeper.set_dialect(shows_queued_teams=False, shows_pending_memberships=False)
    shown.write_text(json.dumps(world.keeper.inventory()))
    world.person("ada", world.group("Engineering"))
    world.run("apply")
    shown.write_text(json.dumps(world.keeper.inventory()))
    words = " ".join(world.run("plan", "--resync").stdout.split())
    assert "queued since" in words
    assert "invited and not there yet" in words
    accept(world)
    world.keeper.approve_all()
    shown.write_text(json.dumps(world.keeper.inventory()))
    assert "Waiting" not in world.run("plan", "--resync").stdout


@pytest.mark.parametrize(
    ("code", "problem"),
    [("print('Login failed')", "printed no JSON"), ("print('[]'); raise SystemExit(3)", "ended with exit code 3")],
)
def test_an_inventory_that_fails_is_a_notice_not_a_failed_cycle(world: World, code: str, problem: str) -> None:
    hooked(world, inventory=code)
    world.person("ada", world.group("Engineering"))
    words = " ".join(world.run("apply").stdout.split())
    assert "keeper.inventory_command" in words
    assert problem in words
    assert world.differences() == []


def test_an_inventory_that_goes_on_failing_is_told_once_until_it_answered(world: World, receiver: Receiver) -> None:
    filled(world)
    accept(world)
    world.keeper.approve_all()
    world.run("resync")
    webhook = secret(world.folder, "webhook", f"{receiver.url}/hook")
    shown = world.folder / "inventory"
    code = f"import os, sys; os.path.exists({str(shown)!r}) or sys.exit(3); print(open({str(shown)!r}).read())"
    hooked(world, code, more=f"[notify]\nwebhook = {webhook}\n")
    shown.write_text(json.dumps(world.keeper.inventory()))
    world.run("resync")
    assert receiver.kinds() == []
    shown.unlink()
    for command in ("resync", "apply", "apply", "resync", "apply"):  # a cycle need not ask, where nothing waits
        world.run(command)
        assert receiver.kinds() == ["hook_failed"]
    assert "keeper.inventory_command" in world.run("status").stdout
    shown.write_text(json.dumps(world.keeper.inventory()))
    world.run("resync")
    assert "keeper.inventory_command" not in world.run("status").stdout
    shown.unlink()
    world.run("resync")
    assert receiver.kinds() == ["hook_failed"] * 2


def test_a_suspended_leaver_is_told_of_while_cycles_fail_though_the_others_are_kept(
    world: World, receiver: Receiver
) -> None:
    ids = filled(world)
    accept(world)
    world.policy["out_of_scope"] = '"keep"'
    notifying(world, receiver)
    world.jumpcloud.suspend(ids[0])
    world.jumpcloud.remove_member(next(iter(world.jumpcloud.in_scope(world.application)[ids[1]])), ids[1])
    world.jumpcloud.settle_graph()
    world.back.faults.add(status(401))
    world.run("apply", expect=1)
    with Store.open(world.folder / "state" / "reconciler.db", write=True) as store:
        before = store.snapshot()
        left = {k: replace(a, left_at=a.left_at - timedelta(hours=5)) for k, a in before.accounts.items() if a.left_at}
        assert len(left) == 2
        store.save(replace(before, accounts={**before.accounts, **left}), before)
    world.front.faults.add(status(401))
    world.run("apply", expect=1)
    (told,) = [body for _, _, body in receiver.got if body and body["kind"] == "leaver_active"]
    assert [fact["about"] for fact in told["facts"]] == ["p0@example.com"]


def test_who_takes_no_alerts_is_named_once_in_the_log_and_until_it_does_in_status_and_metrics(
    world: World, receiver: Receiver
) -> None:
    ids = filled(world)
    world.run("apply")
    notifying(world, receiver, metrics='[metrics]\ntextfile = "reconciler.prom"\n')
    receiver.status = 404
    world.jumpcloud.suspend(ids[0])
    assert world.run("apply").stderr.count("status 404") == 2  # the webhook, the heartbeat
    assert "status 404" not in world.run("apply").stderr
    for what in ("webhook", "heartbeat"):
        words = " ".join(world.run("status").stdout.split())
        assert f"The {what} has not taken what it was sent since" in words
    found = (world.folder / "reconciler.prom").read_text()
    assert 'reconciler_receiver_failing_since_timestamp_seconds{receiver="webhook",tenant=""} 1' in found
    receiver.status = 200
    world.run("apply")
    assert "has not taken" not in world.run("status").stdout
    assert "receiver_failing_since_timestamp_seconds{" not in (world.folder / "reconciler.prom").read_text()
    assert receiver.kinds() == ["deactivated"] * 3


@pytest.mark.parametrize(
    "what", ["address_change", "unlocked", "lost_team", "locked_by_somebody_else", "address_conflict"]
)
def test_the_command_that_an_alert_names_shows_those_that_it_only_counts(
    world: World, receiver: Receiver, what: str
) -> None:
    """It was `status` for most, which shows none of them."""
    world.safety |= dict.fromkeys(("max_deactivations", "max_removals", "max_reactivations", "max_team_loss"), '"100%"')
    ids = filled(world, 40)
    accept(world)
    notifying(world, receiver)
    (engineering,), other = world.jumpcloud.groups_in_scope(world.application), world.group("Other")
    if what == "unlocked":
        for one in ids[:15]:
            world.jumpcloud.suspend(one)
        world.run("apply")
    for number, one in enumerate(ids[:15]):
        match what:
            case "address_change":
                world.jumpcloud.update_user(one, email=f"new{number}@example.com")
            case "unlocked":
                world.jumpcloud.activate(one)
            case "lost_team":
                world.jumpcloud.add_member(other, one)
                world.jumpcloud.remove_member(engineering, one)
            case "locked_by_somebody_else":
                world.keeper.lock(account(world, one).id)
            case "address_conflict":
                world.person(f"p{number}", engineering)
    world.jumpcloud.settle_graph()
    world.run("apply", "--resync", expect=None)
    body = next(body for method, _, body in receiver.got if method == "POST" and body["kind"] == what)
    assert body["count"] >= 15
    command = re.search(r"more, see `reconciler ([a-z]+)`", body["text"])
    assert command
    shown = world.run(command[1]).stdout
    assert [fact["about"] for fact in body["facts"] if fact["about"] not in shown] == []
