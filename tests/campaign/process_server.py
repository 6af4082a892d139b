"""A simulated service on a real socket: what the seam raises in process goes wrong on the wire."""

import asyncio
import contextvars
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Self
from unittest.mock import patch

import httpx

from reconciler.simulator.faults import Answer, Cut
from reconciler.simulator.server import Server
from reconciler.simulator.service import Request, Response, Service
from tests.campaign.process_time import Loop
from tests.campaign.seams import Died, Seam

sender: contextvars.ContextVar[int] = contextvars.ContextVar("sender", default=0)
"""Which life of the reconciler's process sent the request in hand."""

_HALF = Cut("truncated", Response(200, {"content-type": "application/json"}, b'{"id": "1", "Resources": ["cut"]}'), 16)


class StormyServer(Server):
    """`life` numbers the lives of the reconciler's process; `failed` is told of what must not happen in here."""

    def __init__(self, service: Service, seam: Seam, life: Callable[[], int], failed: Callable[[str], object]) -> None:
        super().__init__(service)
        self._seam = seam
        seam.silence = 30.0  # it is the client that gives up, and it may ask again at the very moment
        self._life = life
        self._failed = failed

    def __enter__(self) -> Self:
        with patch.object(asyncio, "new_event_loop", Loop):
            return super().__enter__()

    async def _answer(self, request: Request) -> Answer:
        sender.set(self._life())
        asked = httpx.Request(
            request.method, f"{self.url}{request.target}", headers=dict(request.headers), content=request.body
        )
        try:
            reply = await self._seam.handle_async_request(asked)
            content = await reply.aread()
        except httpx.ConnectError:
            return Cut("closed")
        except httpx.ReadError:
            return _HALF if len(request.target) % 2 else Cut("reset")
        except httpx.ReadTimeout:
            return Cut("hung")
        except Died:
            return Cut("closed")
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            self._failed(f"the campaign itself: {error!r} at {Path(where.filename).name}:{where.lineno}")
            return Cut("closed")
        headers = {name: value for name, value in reply.headers.items() if name.lower() != "content-length"}
        return Response(reply.status_code, headers, content)
