"""The leaver lane and a whole cycle on the same people at the same time, through the real service."""

from reconciler.simulator.faults import Latency
from tests.flows.service import Service, until
from tests.inside import accept, account, fill
from tests.stage import World


def test_a_first_lock_that_both_want_to_send_is_sent(world: World, service: Service) -> None:
    """The cycle waits for a person whom the lane holds, and the lane for the canary that the cycle would send."""
    _, people = fill(world)
    world.run("apply")
    accept(world)
    world.jumpcloud.suspend(people[0])
    # The lane holds the person while it reads the record a second time; the cycle plans the same lock meanwhile.
    world.front.faults.add(Latency(6.0), target=f"/api/systemusers/{people[0]}", skip=1, times=1)
    world.front.faults.add(Latency(2.0), target="/usergroups", times=2)
    service.start()
    until(lambda: not account(world, people[0]).active)
    world.jumpcloud.suspend(people[1])
    until(lambda: not account(world, people[1]).active)
