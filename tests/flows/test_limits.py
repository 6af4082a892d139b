"""Limits on unlocks, grace of teams, the early alarm, the pilot and the first plan, through the command line."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.inside import accept
from tests.receiver import Receiver, secret
from tests.stage import World

ROOMY = {"max_deactivations": '"100%"', "max_removals": '"100%"', "max_team_loss": '"100%"'}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def filled(world: World, people: int = 8) -> tuple[str, str, list[str]]:
    """Two groups in scope, everybody in the first, the first person also in the second."""
    staff, sales = world.group("Staff"), world.group("Sales")
    ids = [world.person(f"p{n}", *([staff, sales] if n == 0 else [staff])) for n in range(people)]
    world.run("apply")
    accept(world)
    return staff, sales, ids


def settings(world: World, **safety: str) -> None:
    world.safety = {"first_run": '"apply"', **safety}
    world.write_settings()


def unbind(world: World, *groups: str) -> None:
    for group in groups:
        world.jumpcloud.unbind_group(world.application, group)
    world.jumpcloud.settle_graph()


def planned(world: World) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(world.run("plan", "--format", "json").stdout)
    return document


def locked(world: World) -> int:
    return sum(account.locked for account in world.keeper.accounts().values())


def test_a_bulk_unsuspension_is_held_unless_it_undoes_locks_of_the_window(world: World) -> None:
    *_, ids = filled(world)
    settings(world, **ROOMY, window='"1m"')
    for one in ids[:5]:
        world.jumpcloud.suspend(one)
    world.run("apply")
    assert locked(world) == 5
    for one in ids[:5]:
        world.jumpcloud.activate(one)
    settings(world, **ROOMY)  # the locks are of this window
    world.run("apply")
    assert locked(world) == 0
    for one in ids[:5]:
        world.jumpcloud.suspend(one)
    settings(world, max_deactivations='"2%"')  # nor is it held that they are locked again
    world.run("apply")
    assert locked(world) == 5
    world.run("pause", "--reason", "the journal forgets")
    world.run("resume")
    age_the_journal(world)
    for one in ids[:5]:
        world.jumpcloud.activate(one)
    out = world.run("apply", expect=4)
    told = " ".join(out.stdout.split())
    assert "5 people would be unlocked beside 3 active; allowed are 2 (5%, but always 2)" in told
    assert "max_reactivations" in out.stdout
    assert locked(world) == 5
    settings(world, max_reactivations="5")
    world.run("apply")
    assert locked(world) == 0


def age_the_journal(world: World) -> None:
    """Let everything that was done be two days older."""
    import sqlite3

    with sqlite3.connect(world.folder / "state" / "reconciler.db") as connection:
        for column in ("planned_at", "sent_at", "finished_at"):
            connection.execute(
                f"UPDATE operations SET {column} = strftime('%Y-%m-%dT%H:%M:%S.000000Z', {column}, '-2 days')"
            )


def test_limits_that_are_no_limits_are_refused(world: World) -> None:
    for safety, words in (
        ({"max_reactivations": '"5"'}, "safety.max_reactivations"),
        ({"at_most": '"100%"'}, "safety.at_most"),
        ({"at_most": "0"}, "safety.at_most"),
    ):
        settings(world, **safety)
        assert words in world.run("plan", expect=2).stderr


def test_the_team_of_an_unbound_group_keeps_its_members_until_grace_ends(world: World) -> None:
    _, sales, _ = filled(world)
    world.policy = {"grace": '"30m"'}
    settings(world)
    (team,) = [team.id for team in world.keeper.teams().values() if team.name == "Sales"]
    unbind(world, sales)
    before = world.writes()
    out = world.run("apply").stdout
    assert "Sales is no longer bound to the application since" in " ".join(out.split())
    assert world.writes() == before
    notice = next(n for n in planned(world)["notices"] if n["kind"] == "in_grace")
    assert (notice["subject"]["type"], notice["subject"]["name"]) == ("team", "Sales")
    assert "1 person is taken out of the team" in notice["message"]
    page = " ".join(world.run("explain", "p0@example.com").stdout.split())
    assert "UTC they are taken out of Sales, whose group is no longer bound to the application" in page
    assert "when grace ends: Sales is no longer bound to the application (−Sales)" in page
    found = json.loads(world.run("explain", "p0@example.com", "--json").stdout)
    assert (found["verdict"]["kind"], found["next"]["operations"]) == ("in_grace", [])
    assert [later["teams"]["remove"] for later in found["next"]["after_grace"]] == [["Sales"]]
    assert json.loads(world.run("explain", "p1@example.com", "--json").stdout)["next"]["after_grace"] == []
    assert "its group is not in the application's scope since" in " ".join(world.run("teams").stdout.split())
    world.policy = {"grace": '"0s"'}
    settings(world)
    (operation,) = planned(world)["operations"]
    assert operation["reason"] == "Sales is no longer bound to the application"
    world.run("apply")
    assert not world.keeper.members(team) and not world.keeper.pending_members(team)


def test_an_application_that_loses_its_groups_is_told_before_grace_ends(world: World, receiver: Receiver) -> None:
    staff, sales, _ = filled(world)
    world.policy = {"grace": '"30m"'}
    settings(world)
    webhook = secret(world.folder, "webhook", f"{receiver.url}/hook")
    heartbeat = secret(world.folder, "heartbeat", f"{receiver.url}/beat")
    world.write_settings(
        notify=f"[notify]\nwebhook = {webhook}\nheartbeat = {heartbeat}\n",
        metrics='[metrics]\ntextfile = "reconciler.prom"\n',
    )
    world.run("apply")
    assert [path for method, path, _ in receiver.got if method == "GET"] == ["/beat"]
    unbind(world, staff, sales)
    out = " ".join(world.run("apply").stdout.split())
    assert out.startswith("WILL BE HELD when grace ends.")
    assert "Nobody at all is in scope any more" in out
    assert "[max_deactivations] 8 people would be locked of 8 active" in out
    assert "reconciler release [" not in out and "TEXT [" not in out, "a limit behind a command reads as its argument"
    assert receiver.kinds() == ["will_be_held"]
    assert [path for method, path, _ in receiver.got if method == "GET"] == ["/beat"]
    assert 'reconciler_limits_that_will_hold{tenant=""} 2.0' in (world.folder / "reconciler.prom").read_text()
    kinds = {(n["kind"], n["subject"]["name"]) for n in planned(world)["notices"]}
    assert {("will_be_held", "empty_scope"), ("will_be_held", "max_deactivations")} <= kinds
    for group in (staff, sales):
        world.jumpcloud.bind_group(world.application, group)
    world.jumpcloud.settle_graph()
    world.run("apply")
    assert [path for method, path, _ in receiver.got if method == "GET"] == ["/beat", "/beat"]
    assert world.differences() == []


def test_nothing_is_sent_for_people_who_were_never_in_the_pilot(world: World) -> None:
    _, sales, ids = filled(world)
    world.policy |= {"only": '{ groups = ["Sales"] }'}
    settings(world, **ROOMY)
    world.jumpcloud.delete_user(ids[0])
    world.jumpcloud.delete_user(ids[1])
    world.jumpcloud.settle_graph()
    world.run("apply")
    assert locked(world) == 0  # nobody was in it since it was set
    found = json.loads(world.run("status", "--json").stdout)["users"]
    assert (found["leaving"], found["outside_pilot"]) == (0, 2)
    assert "2 people outside the pilot left the scope" in " ".join(world.run("status").stdout.split())
    world.jumpcloud.add_member(sales, ids[2])
    world.jumpcloud.settle_graph()
    world.run("apply")
    world.jumpcloud.suspend(ids[2])
    world.jumpcloud.remove_member(sales, ids[2])
    world.jumpcloud.settle_graph()
    world.run("apply")
    assert locked(world) == 1


@pytest.mark.parametrize("invited", [False, True])
def test_whom_we_locked_before_there_was_a_pilot_is_told_to_be_kept_out_by_it(
    world: World, receiver: Receiver, invited: bool
) -> None:
    _, sales, ids = filled(world)
    if invited:
        ids.append(world.person("late", sales))
        world.run("apply")
    metrics = '[metrics]\ntextfile = "reconciler.prom"\n'
    webhook = f"[notify]\nwebhook = {secret(world.folder, 'webhook', f'{receiver.url}/hook')}\n"
    settings(world, **ROOMY)
    world.jumpcloud.suspend(ids[-1])
    world.run("apply")
    world.policy |= {"only": '{ users = ["p0@example.com"] }'}
    world.write_settings(notify=webhook, metrics=metrics)
    world.run("apply")
    world.jumpcloud.activate(ids[-1])
    before, name = world.writes(), f"{'late' if invited else 'p7'}@example.com"
    said = " ".join(world.run("apply").stdout.split())
    assert world.writes() == before and "our own lock keeps them out of Keeper" in said
    world.run("apply")
    told = [fact["about"] for _, _, body in receiver.got for fact in body["facts"]]
    assert receiver.kinds() == ["locked_in_scope"] and told == [name]
    assert json.loads(world.run("status", "--json").stdout)["users"]["kept_locked_by_pilot"] == [name]
    page = " ".join(world.run("status").stdout.split())
    assert f"1 person in scope outside the pilot (policy.only): our own lock keeps them out: {name}." in page
    assert 'reconciler_kept_locked_by_pilot{tenant=""} 1.0' in (world.folder / "reconciler.prom").read_text()
    page = " ".join(world.run("explain", name).stdout.split())
    assert "our own lock keeps them out" in page and "Put them into the pilot" in page
    world.policy["only"] = f'{{ users = ["p0@example.com", "{name}"] }}'
    world.write_settings(notify=webhook, metrics=metrics)
    world.run("apply")
    assert world.keeper.account(name).active and locked(world) == 0
    assert json.loads(world.run("status", "--json").stdout)["users"]["kept_locked_by_pilot"] == []


def test_whose_unlock_is_held_is_not_told_to_be_kept_out_by_the_pilot(world: World) -> None:
    """Their pilot has another name by now, so that nothing but what holds the unlock keeps them out."""
    _, _, ids = filled(world)
    world.policy |= {"only": '{ groups = ["Sales"] }'}
    settings(world, **ROOMY)
    world.run("apply")
    world.jumpcloud.suspend(ids[0])
    world.run("apply")
    world.policy["only"] = '{ groups = ["Salse"] }'
    world.write_settings()
    world.jumpcloud.activate(ids[0])
    world.run("pause", "--reason", "a look")
    world.run("apply", expect=4)
    found = json.loads(world.run("status", "--json").stdout)
    assert found["held"]["subjects"] == found["users"]["locked_in_scope"] == ["p0@example.com"]
    assert found["users"]["kept_locked_by_pilot"] == []
    world.run("resume")
    world.run("apply")
    assert locked(world) == 0


def test_what_a_pause_alone_holds_is_not_offered_to_be_released(world: World) -> None:
    filled(world)
    settings(world, max_creations="0")
    world.run("pause", "--reason", "a look")
    world.run("apply")
    world.jumpcloud.bind_user(world.application, world.person("newcomer"))
    world.jumpcloud.settle_graph()
    world.run("apply", expect=4)
    assert "reconciler release" in world.run("status").stdout, "held by a limit too"
    settings(world, max_creations="1")
    world.run("apply", expect=4)
    said = world.run("status").stdout
    assert "HELD since" in said and "To go on: reconciler resume" in said and "reconciler release" not in said
    world.run("resume")
    world.run("apply")
    assert world.differences() == []


@pytest.mark.parametrize("how", ["renamed", "misspelt"])
def test_who_leaves_while_the_pilot_names_nobody_is_locked_once_it_is_right_again(world: World, how: str) -> None:
    """At once where the settings still have the name that the group had."""
    _, sales, ids = filled(world)
    world.policy |= {"only": '{ groups = ["Sales"] }'}
    settings(world, **ROOMY)
    world.run("apply")
    if how == "renamed":
        world.jumpcloud.rename_group(sales, "Vente")
    else:
        world.policy["only"] = '{ groups = ["Salse"] }'
        world.write_settings()
    assert "the pilot names nobody in scope" in " ".join(world.run("apply").stdout.split())
    world.jumpcloud.delete_user(ids[0])  # of the pilot
    world.jumpcloud.delete_user(ids[1])  # never in it
    world.jumpcloud.settle_graph()
    world.run("apply")
    assert locked(world) == (how == "renamed")
    world.policy["only"] = f'{{ groups = ["{"Vente" if how == "renamed" else "Sales"}"] }}'
    world.write_settings()
    world.run("apply")
    assert locked(world) == 1
    found = json.loads(world.run("status", "--json").stdout)["users"]
    assert (found["leaving"], found["outside_pilot"]) == (0, 1)


def test_a_misspelt_pilot_keeps_nobody_locked_whom_the_right_one_had_locked(world: World) -> None:
    *_, ids = filled(world)
    world.policy |= {"only": '{ groups = ["Sales"] }'}
    settings(world, **ROOMY)
    world.run("apply")
    world.jumpcloud.suspend(ids[0])
    world.run("apply")
    assert locked(world) == 1
    world.policy["only"] = '{ groups = ["Salse"] }'
    world.write_settings()
    world.jumpcloud.activate(ids[0])
    said = " ".join(world.run("apply").stdout.split())
    assert "but to undo a lock of ours on somebody who was in a pilot. Correct the names in policy.only" in said
    assert locked(world) == 0


def test_a_pilot_whose_group_has_no_usable_name_is_not_called_wrong(world: World) -> None:
    _, sales, ids = filled(world)
    world.policy |= {"only": '{ groups = ["Sales"] }'}
    settings(world, **ROOMY)
    world.run("apply")
    world.jumpcloud.oddities.spoil(sales, name="")
    world.jumpcloud.suspend(ids[0])
    said = " ".join(world.run("apply").stdout.split())
    assert locked(world) == 1
    assert (
        "the pilot names nobody" not in said and "whoever was in the pilot through one that can't stays in it" in said
    )
    world.jumpcloud.activate(ids[0])
    said = " ".join(world.run("check", expect=1).stderr.split())
    assert "as far as JumpCloud's groups can be read" in said and "so nothing is sent" not in said


@pytest.mark.parametrize("first", ["an empty scope", "a pilot that names nobody"])
def test_a_first_plan_for_nobody_reviews_nothing(world: World, first: str) -> None:
    world.safety.clear()
    group = world.group("Staff")
    if first == "an empty scope":
        world.teams = {"manage": "false"}
    else:
        world.policy |= {"only": '{ groups = ["Nobody"] }'}
        world.person("p0", group)
    world.write_settings()
    out = world.run("apply").stdout
    if first != "an empty scope":
        assert "no group in scope is named Nobody" in " ".join(out.split())
    assert json.loads(world.run("status", "--json").stdout)["first_plan_reviewed"] is False
    world.policy.pop("only", None)
    world.write_settings()
    for n in range(1, 4):
        world.person(f"p{n}", group)
    out = world.run("apply", expect=4).stdout
    assert "first_run" in out
    assert world.writes() == 0
    world.run("plan", "--save", "first.json")
    world.run("apply", "--plan", "first.json")
    assert json.loads(world.run("status", "--json").stdout)["first_plan_reviewed"] is True
