"""The age of what a change rests on."""

import asyncio
import json

import pytest

from reconciler.confirm import Confirmation
from reconciler.evidence_age import MAX_AGE
from reconciler.jumpcloud import JumpCloud
from reconciler.plan import Cause, Kind, Operation, Rule, Subject
from tests.test_http import Service, Time, answer, client
from tests.world import jc


@pytest.mark.parametrize("kind", [Kind.DEACTIVATE_USER, Kind.CREATE_USER])
@pytest.mark.parametrize("waits", [(), ("40",), ("50", "50")])
def test_evidence_is_as_old_as_the_attempt_that_brought_it(kind: Kind, waits: tuple[str, ...]) -> None:
    """JumpCloud throttles for longer than evidence lasts: what it answers then is new all the same."""
    state = "ACTIVATED" if kind is Kind.CREATE_USER else "SUSPENDED"
    throttled = [answer(429, retry_after=seconds) for seconds in waits]
    record = json.dumps({"_id": jc(1), "state": state, "suspended": False}).encode()
    service = Service(*throttled, answer(200, record))
    time = Time()
    op = Operation(kind, Subject("user", "u", jc(1), "k1"), Cause.JUMPCLOUD, Rule.SUSPENDED, "because")

    async def run() -> float:
        async with client(service, time) as http:
            found = await Confirmation(JumpCloud(http, jc(9)), (), {}, clock=time.clock).of(op)
            assert found.doubt is None and found.stamp is not None
            return found.stamp.age(time.clock)

    assert asyncio.run(run()) < MAX_AGE
