"""A role of Keeper's takes effect at once, so that no new name gets around `max_grants`."""

from tests.stage import World


def test_no_team_becomes_a_role_by_a_new_name_of_its_group(world: World) -> None:
    world.teams["role_prefix"] = '"role-"'
    world.write_settings()
    world.keeper.set_dialect(role_prefix="role-")
    sales = world.group("Sales")
    for number in range(12):
        world.person(f"p{number}", sales)
    world.run("apply")
    world.jumpcloud.rename_group(sales, "role-Super")
    world.jumpcloud.settle_graph()
    out = " ".join(world.run("apply").stdout.split())
    assert "in Keeper it is called Sales" in out and "was not renamed" in out
    assert [team.name for team in world.keeper.teams().values()] == ["Sales"]


def test_a_role_stays_one_whatever_its_group_is_called_later(world: World) -> None:
    world.teams["role_prefix"] = '"role-"'
    world.write_settings()
    world.keeper.set_dialect(role_prefix="role-")
    everybody = world.group("Engineering")
    people = [world.person(f"p{number}", everybody) for number in range(12)]
    admins = world.group("role-Admin")
    world.run("apply")
    world.jumpcloud.rename_group(admins, "Harmless")
    for person in people:
        world.jumpcloud.add_member(admins, person)
    world.jumpcloud.settle_graph()
    for _ in range(2):
        assert "max_grants" in world.run("apply", expect=4).stdout
    [role] = [team for team in world.keeper.teams().values() if team.role]
    assert role.name == "role-Admin" and not world.keeper.members(role.id)
