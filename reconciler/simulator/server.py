"""A real HTTP/1.1 server on loopback for a simulated service, in a thread of its own."""

import asyncio
import socket
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from email.utils import formatdate
from types import TracebackType
from typing import Self

import h11

from reconciler.simulator.faults import Answer, Cut, Faults
from reconciler.simulator.service import Request, Response, Service, is_control

READ_SIZE = 65536
BODILESS = (204, 304)
"""Answers that have no body, whatever else (RFC 9110 section 6.4.1)."""
LOG_LIMIT = 1_000_000
"""The log keeps so many exchanges, about 200 MB at worst; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One logged request; `status` is None while it is unanswered, and for good when the connection was cut."""

    method: str
    target: str
    status: int | None = None


class Log:
    """The exchanges in the order in which the requests arrived; thread-safe, each reading is a snapshot."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._serial = 0
        self._exchanges: OrderedDict[int, Exchange] = OrderedDict()

    def open(self, request: Request) -> int:
        """Log a request as unanswered; returns its number for `close`."""
        with self._lock:
            self._serial += 1
            self._exchanges[self._serial] = Exchange(request.method, request.target)
            if len(self._exchanges) > LOG_LIMIT:
                self._exchanges.popitem(last=False)
            return self._serial

    def close(self, number: int, status: int) -> None:
        """Log the answer; a request no longer in the log is no error."""
        with self._lock:
            if number in self._exchanges:
                self._exchanges[number] = replace(self._exchanges[number], status=status)

    def clear(self) -> None:
        """Forget everything so far."""
        with self._lock:
            self._exchanges.clear()

    def __iter__(self) -> Iterator[Exchange]:
        with self._lock:
            return iter(list(self._exchanges.values()))

    def __len__(self) -> int:
        with self._lock:
            return len(self._exchanges)

    def __getitem__(self, index: int) -> Exchange:
        return list(self)[index]


class Server:
    """Serves one service on 127.0.0.1; a context manager.

    `url` is known once entered. Port 0 takes any free port; a port in use raises OSError on entering.
    Requests to the control route are neither logged nor touched by faults. `clock` is what the replies say in their
    Date header (RFC 9110 section 6.6.1), in seconds since 1970; None has them leave it out.
    """

    clock: Callable[[], float] | None = staticmethod(time.time)

    def __init__(self, service: Service, port: int = 0, faults: Faults | None = None) -> None:
        self.service = service
        self.faults = faults if faults is not None else Faults()
        self.requests = Log()
        self.url = ""
        self._port = port
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", self._port), backlog=256)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ended.clear()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._serve(listener),), name="simulator", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def serve_forever(self) -> None:
        """Wait until the server ends: for the command line, where a signal raises in this thread."""
        self._ended.wait()  # Thread.join takes a running thread for ended once a signal has broken it off

    async def _serve(self, listener: socket.socket) -> None:
        server = await asyncio.start_server(self._connection, sock=listener)
        await self._stop.wait()
        server.close()
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        self._ended.set()
        await asyncio.sleep(0)  # lets the closed transports close their sockets

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        connection = _Connection(reader, writer, self._date)
        try:
            while await self._exchange(connection):
                pass
        except ConnectionError:
            pass  # the client has gone
        except asyncio.CancelledError:
            writer.transport.abort()  # a client that reads no more must not hold up the end of the server
        finally:
            writer.close()

    def _date(self) -> dict[str, str]:
        return {"date": formatdate(self.clock(), usegmt=True)} if self.clock is not None else {}

    async def _exchange(self, connection: "_Connection") -> bool:
        """Serve one request; whether another may follow on the connection."""
        try:
            request = await connection.request()
        except h11.RemoteProtocolError as error:
            await connection.refuse(error)
            return False
        if request is None:
            return False
        number = None if is_control(request) else self.requests.open(request)
        answer = await self._answer(request)
        if isinstance(answer, Cut):
            await connection.cut(answer)
            return False
        if number is not None:  # logged before it is sent, so that whoever has the answer finds it in the log
            self.requests.close(number, answer.status)
        await connection.send(answer)
        return connection.reusable()

    async def _answer(self, request: Request) -> Answer:
        fault = self.faults.draw(request)
        if fault.delay:
            await asyncio.sleep(fault.delay)
        try:
            return fault.answer(self.service, request)
        except Exception as error:  # a defect of the simulator shows at the client, not as a silent disconnect
            return Response.of_json(500, {"error": f"the simulator failed: {error!r}"})


class _Connection:
    """The HTTP/1.1 of one connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, date: Callable[[], dict[str, str]]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._date = date
        self._http = h11.Connection(h11.SERVER)
        self._method = ""

    async def request(self) -> Request | None:
        """The next request with its whole body, None at the end of the connection."""
        head = await self._event()
        if not isinstance(head, h11.Request):
            return None
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
        if not isinstance(event, h11.EndOfMessage):
            return None
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        self._method = head.method.decode("ascii")
        return Request(self._method, head.target.decode("ascii"), headers, bytes(body))

    async def _event(self) -> h11.Event | type[h11.PAUSED]:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]
            if self._http.they_are_waiting_for_100_continue:
                await self._write(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._reader.read(READ_SIZE))

    async def _write(self, *events: h11.Event) -> None:
        self._writer.write(b"".join(self._http.send(event) or b"" for event in events))
        await self._writer.drain()

    async def send(self, response: Response) -> None:
        """Send a whole answer."""
        bodiless = response.status in BODILESS or self._method == "HEAD" or not response.body
        body = [] if bodiless else [h11.Data(data=response.body)]
        dated = replace(response, headers={**self._date(), **response.headers})
        await self._write(_head(dated), *body, h11.EndOfMessage())

    async def cut(self, cut: Cut) -> None:
        """Send the part of the answer that the client is to get; the caller closes the connection."""
        if cut.kind == "truncated":
            await self._write(_head(cut.response), h11.Data(data=cut.response.body[: cut.sent]))
        elif cut.kind == "reset":
            linger = struct.pack("ii", 1, 0)  # on, for no time: what is left is thrown away and the peer told at once
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._writer.transport.abort()
        elif cut.kind == "hung":
            while await self._reader.read(READ_SIZE):
                pass
        elif cut.kind == "endless":
            await self._write(_head(cut.response, endless=True))
            while True:
                await self._write(h11.Data(data=cut.response.body))

    async def refuse(self, error: h11.RemoteProtocolError) -> None:
        """Answer a request that is no HTTP, as far as HTTP still allows."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self.send(Response(error.error_status_hint, {"content-type": "text/plain"}, b"not HTTP/1.1"))

    def reusable(self) -> bool:
        """Make ready for the next request; False where the connection must be closed."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True


def _head(response: Response, endless: bool = False) -> h11.Response:
    """The status line and headers. An endless body has no length, so that it is sent in chunks."""
    headers = list(response.headers.items())
    if not endless and response.status not in BODILESS:
        headers.append(("content-length", str(len(response.body))))
    return h11.Response(status_code=response.status, headers=headers)
