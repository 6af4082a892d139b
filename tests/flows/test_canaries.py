"""What we believe about Keeper's dialect is tried on one subject first, and stops where Keeper disagrees."""

import sqlite3

import pytest

from reconciler import apply
from reconciler.orders import answer
from tests.inside import Inside
from tests.stage import API_KEY, World


def filled(world: World, people: int = 12) -> list[str]:
    group = world.group("Engineering")
    ids = [world.person(f"p{n}", group) for n in range(people)]
    world.run("apply")
    for account in world.keeper.accounts().values():
        world.keeper.accept_invitation(account.id)
    return ids


def test_a_deactivation_that_keeper_ignores_is_never_reported_as_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "LOOK_AGAIN", (0.01, 0.01, 0.01))
    ids = filled(world)
    world.keeper.set_dialect(ignored_attributes=["active"])
    for one in ids[:3]:
        world.jumpcloud.suspend(one)
    outcome = Inside(world).run()
    assert outcome.result == "partial"
    out = answer([outcome], width=100, colour=False).text
    assert "active" in out
    assert "Admin Console" in " ".join(out.split())
    world.keeper.set_dialect(ignored_attributes=[])
    for one in ids[:3]:
        world.run("resync", f"p{ids.index(one)}@example.com")
    assert world.differences() == []


def test_an_invited_person_is_gone_when_deactivated_and_created_anew_on_return(world: World) -> None:
    group = world.group("Engineering")
    ids = [world.person(f"p{n}", group) for n in range(3)]
    world.run("apply")
    world.jumpcloud.suspend(ids[0])
    world.run("apply")
    assert "p0@example.com" not in {a.email for a in world.keeper.accounts().values()}
    world.jumpcloud.activate(ids[0])
    world.run("apply")
    assert world.differences() == []


def test_no_seats_stop_creations_and_nothing_else(world: World) -> None:
    ids = filled(world)
    world.keeper.set_seats(len(ids))
    world.person("late", next(iter(world.jumpcloud.groups_in_scope(world.application))))
    world.jumpcloud.suspend(ids[0])
    out = world.run("apply", expect=5).stdout
    assert "seats" in out
    account = next(a for a in world.keeper.accounts().values() if a.external_id == ids[0])
    assert not account.active


def test_an_address_taken_elsewhere_is_named(world: World) -> None:
    filled(world, 3)
    world.keeper.take_elsewhere("late@example.com")
    world.person("late", next(iter(world.jumpcloud.groups_in_scope(world.application))))
    out = world.run("apply", expect=5).stdout
    assert "late@example.com" in out
    assert "tried again" in " ".join(out.split())


def test_a_former_address_that_is_an_alias_is_looked_for_there(world: World) -> None:
    filled(world, 3)
    world.keeper.change_email("p0@example.com", "married@example.com")
    world.jumpcloud.update_user(world.jumpcloud.find_user("p0@example.com"), email="married@example.com")
    world.run("apply", "--resync")
    world.person("p0", next(iter(world.jumpcloud.groups_in_scope(world.application))))
    out = " ".join(world.run("apply", expect=5).stdout.split())
    assert "or as an alias of another user" in out and "--columns alias" in out


def test_a_token_revoked_in_the_middle_stops_the_apply_and_the_rest_follows(world: World) -> None:
    group = world.group("Engineering")
    for n in range(8):
        world.person(f"p{n}", group)

    def revoke(_: object) -> None:
        if len(world.keeper.changes) == 5:
            world.keeper.new_token()

    world.keeper.on_change = revoke
    world.run("apply", expect=5)
    world.keeper.on_change = None
    world.write_settings()
    world.run("apply", expect=None)
    for n in range(8):
        world.run("resync", f"p{n}@example.com", expect=None)
    assert world.differences() == []


def test_no_secret_is_in_the_state_file(world: World) -> None:
    filled(world, 3)
    content = (world.folder / "state" / "reconciler.db").read_bytes()
    assert API_KEY.encode() not in content
    assert world.keeper.token().encode() not in content
    with sqlite3.connect(world.folder / "state" / "reconciler.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
