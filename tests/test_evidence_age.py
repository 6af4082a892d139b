"""The age of what a change rests on."""

import asyncio
import json

import httpx
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


@pytest.mark.parametrize(("seconds", "attempts"), [(1.0, 7), (60.0, 2)])
def test_a_record_that_hangs_is_not_read_again_and_again_while_others_wait(seconds: float, attempts: int) -> None:
    """A read that was lost at once is tried again: the connection may have been old."""
    time, records = Time(), list[str]()

    def hangs(request: httpx.Request) -> httpx.Response:
        time.now += seconds
        records.extend([request.url.path] if request.url.path.endswith(jc(1)) else [])
        raise httpx.ReadTimeout("nothing", request=request)

    op = Operation(Kind.DEACTIVATE_USER, Subject("user", "u", jc(1), "k1"), Cause.JUMPCLOUD, Rule.SUSPENDED, "because")

    async def run() -> None:
        async with client(Service(), time, transport=httpx.MockTransport(hangs)) as http:
            found = await Confirmation(JumpCloud(http, jc(9)), (), {}, clock=time.clock).of(op)
            assert found.doubt is not None and "the confirming read failed" in found.doubt.words

    asyncio.run(run())
    assert len(records) == attempts
