"""The loopback server and its faults, seen by a real HTTP client."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from reconciler.simulator.faults import (
    Cut,
    Faults,
    InvalidJson,
    Latency,
    Rewrite,
    Truncate,
    close,
    endless,
    hang,
    keeper_throttle,
    reset,
    status,
    throttle,
)
from reconciler.simulator.server import Server
from reconciler.simulator.service import Controlled, Request, Response

LISTS: dict[str, Any] = {
    "/v1": {"totalCount": 3, "results": [{"_id": "a"}, {"_id": "b"}, {"_id": "c"}]},
    "/v2": [{"id": "a"}, {"to": {"id": "b"}}, {"id": "c"}],
    "/scim": {"totalResults": 3, "itemsPerPage": 3, "Resources": [{"id": "a"}, {"id": "b"}, {"id": "c"}]},
}


class Counter:
    """A service that counts its requests, and answers by path with a list, or with what it was sent."""

    def __init__(self) -> None:
        self.handled = 0
        self.reached = threading.Event()

    def handle(self, request: Request) -> Response:
        self.handled += 1
        self.reached.set()
        if request.path == "/empty":
            return Response(204)
        if request.path == "/broken":
            raise RuntimeError("a defect")
        if request.path in LISTS:
            return Response.of_json(200, LISTS[request.path])
        sent = {"body": request.body.decode(), "query": request.query, "header": request.headers.get("x-note")}
        return Response.of_json(200, sent)


@pytest.fixture
def service() -> Counter:
    return Counter()


@pytest.fixture
def server(service: Counter) -> Iterator[Server]:
    with Server(Controlled(service, {"reset": lambda: setattr(service, "handled", 0)}, dict)) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as opened:
        yield opened


def parts() -> Iterator[bytes]:
    yield b"in "
    yield b"chunks"


def test_requests_arrive_whole(client: httpx.Client) -> None:
    reply = client.post("/x?a=1&a=2", content=b"hello", headers={"X-Note": "n"}).json()
    assert reply == {"body": "hello", "query": {"a": ["1", "2"]}, "header": "n"}
    assert client.post("/x", content=parts()).json()["body"] == "in chunks"


def test_large_bodies_arrive_whole(client: httpx.Client) -> None:
    assert client.post("/x", content=b"x" * 300_000).json()["body"] == "x" * 300_000


def test_a_connection_is_kept(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=10) as connection:
        file = connection.makefile("rb")
        for _ in range(2):
            connection.sendall(b"GET /empty HTTP/1.1\r\nHost: x\r\n\r\n")
            assert file.readline() == b"HTTP/1.1 204 \r\n"
            while file.readline() != b"\r\n":
                pass


def test_what_is_no_http_is_refused(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=10) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 400 ")


def test_empty_and_headless_answers(client: httpx.Client) -> None:
    assert client.get("/empty").status_code == 204
    head = client.head("/v1")
    assert (head.status_code, head.content) == (200, b"")
    assert client.get("/v1").status_code == 200


def test_a_defect_of_the_service_is_shown(client: httpx.Client) -> None:
    reply = client.get("/broken")
    assert reply.status_code == 500
    assert "a defect" in reply.text


def test_many_clients_at_once(server: Server, service: Counter) -> None:
    def ask() -> None:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as own:
            for _ in range(10):
                own.get("/x")

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.handled == len(server.requests) == 50


def test_a_port_in_use_is_an_error(server: Server, service: Counter) -> None:
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"), Server(service, port):
        pass


def test_the_server_ends_with_clients_still_connected(service: Counter) -> None:
    with Server(service) as running:
        running.faults.add(endless())
        connection = socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2])), timeout=10)
        connection.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(10)
    connection.close()


FOREVER = """
from reconciler.simulator.jumpcloud import JumpCloud
from reconciler.simulator.server import Server

try:
    with Server(JumpCloud()) as server:
        print(server.url, flush=True)
        server.serve_forever()
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_server_in_the_foreground_ends_with_a_signal() -> None:
    with subprocess.Popen([sys.executable, "-c", FOREVER], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (out, err) == (b"interrupted\n", b"")


def test_the_log_holds_requests_in_their_order(server: Server, client: httpx.Client) -> None:
    server.faults.add(close(), target="^/cut")
    client.get("/v1?a=1")
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/cut")
    client.post("/x")
    logged = [(one.method, one.target, one.status) for one in server.requests]
    assert logged == [("GET", "/v1?a=1", 200), ("GET", "/cut", None), ("POST", "/x", 200)]
    assert server.requests[0].target == "/v1?a=1"
    server.requests.clear()
    assert len(server.requests) == 0


def test_control_requests_are_neither_logged_nor_hit_by_faults(
    server: Server, client: httpx.Client, service: Counter
) -> None:
    server.faults.add(status(500))
    assert client.get("/x").status_code == 500
    assert client.post("/_simulator/reset").json() == {"result": None}
    assert client.get("/_simulator/dump").json() == {}
    assert service.handled == 0
    assert len(server.requests) == 1


# Faults over the wire


def test_closing_before_and_after_the_effect(server: Server, client: httpx.Client, service: Counter) -> None:
    for effect in (False, True):
        rule = server.faults.add(close(effect=effect))
        with pytest.raises(httpx.RemoteProtocolError):
            client.post("/x")
        assert service.handled == int(effect)
        server.faults.remove(rule)


def test_a_reset_is_no_orderly_end(server: Server) -> None:
    server.faults.add(reset())
    with pytest.raises(httpx.ReadError) as caught:
        httpx.get(server.url)
    causes = []
    error: BaseException | None = caught.value
    while error is not None:
        causes.append(type(error))
        error = error.__cause__ or error.__context__
    assert ConnectionResetError in causes


def test_hanging_with_and_without_the_effect(server: Server, client: httpx.Client, service: Counter) -> None:
    for effect in (False, True):
        rule = server.faults.add(hang(effect=effect))
        with pytest.raises(httpx.ReadTimeout):
            client.post("/x", timeout=0.2)
        assert service.reached.wait(10 if effect else 0) == effect
        server.faults.remove(rule)


def test_a_truncated_body_is_noticed(server: Server, client: httpx.Client) -> None:
    server.faults.add(Truncate(), times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/v1")
    assert client.get("/v1").status_code == 200


def test_an_endless_body_never_ends(server: Server, client: httpx.Client) -> None:
    server.faults.add(endless())
    with client.stream("GET", "/v1") as response:
        read = 0
        for chunk in response.iter_bytes():
            read += len(chunk)
            if read > 1_000_000:
                break
    assert read > 1_000_000


def test_latency_holds_the_answer_back(server: Server, client: httpx.Client) -> None:
    server.faults.add(Latency(3600.0), times=1)
    with pytest.raises(httpx.ReadTimeout):
        client.get("/v1", timeout=0.2)
    assert client.get("/v1").status_code == 200


# Faults without a socket


def answers(faults: Faults, count: int, target: str = "/x", method: str = "GET") -> list[int]:
    service = Counter()
    given = [faults.apply(service, Request(method, target, {})) for _ in range(count)]
    return [0 if isinstance(answer, Cut) else answer.status for answer in given]


def rows(action: Any, target: str) -> tuple[Any, Response]:
    faults = Faults()
    faults.add(action)
    answer = faults.apply(Counter(), Request("GET", target, {}))
    assert isinstance(answer, Response)
    return json.loads(answer.body), answer


def test_a_rule_matches_by_method_and_target() -> None:
    faults = Faults()
    faults.add(status(503), method="POST", target=r"/Users(\?|$)")
    assert answers(faults, 1, "/Users", "POST") == [503]
    assert answers(faults, 1, "/Users") == [200]
    assert answers(faults, 1, "/Users/1", "POST") == [200]


def test_a_rule_skips_some_hits_some_and_is_then_inert() -> None:
    faults = Faults()
    rule = faults.add(status(500), skip=1, times=2)
    assert answers(faults, 5) == [200, 500, 500, 200, 200]
    assert (rule.matched, rule.fired) == (5, 2)


def test_rules_count_on_their_own() -> None:
    faults = Faults()
    faults.add(throttle(), times=2)
    faults.add(close(), skip=2, times=1)
    assert answers(faults, 4) == [429, 429, 0, 200]


def test_chance_is_the_same_for_the_same_seed() -> None:
    def run(seed: int) -> list[int]:
        faults = Faults(seed)
        faults.add(status(500), probability=0.5)
        return answers(faults, 40)

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert {200, 500} == set(run(1))


def test_cleared_rules_are_gone() -> None:
    faults = Faults()
    faults.add(status(500))
    faults.clear()
    assert answers(faults, 1) == [200]


def test_the_two_ways_to_throttle() -> None:
    _, plain = rows(throttle("7"), "/x")
    assert (plain.status, plain.headers["retry-after"]) == (429, "7")
    document, keeper = rows(keeper_throttle("10 seconds"), "/x")
    assert (keeper.status, document["error"]) == (403, "throttled")
    assert "10 seconds" in document["message"]
    assert "retry-after" not in keeper.headers


def test_a_status_may_follow_the_effect() -> None:
    service, faults = Counter(), Faults()
    faults.add(status(502, b"<html>", {"content-type": "text/html"}, effect=True))
    answer = faults.apply(service, Request("POST", "/x", {}))
    assert answer == Response(502, {"content-type": "text/html"}, b"<html>")
    assert service.handled == 1


def test_invalid_json_follows_the_effect() -> None:
    service, faults = Counter(), Faults()
    faults.add(InvalidJson())
    answer = faults.apply(service, Request("GET", "/v1", {}))
    assert isinstance(answer, Response)
    assert (answer.status, service.handled) == (200, 1)
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(answer.body)


def test_latency_waits_with_the_given_sleep_and_adds_up() -> None:
    slept: list[float] = []
    faults = Faults()
    faults.add(Latency(1.0))
    faults.add(Latency(0.5))
    answer = faults.apply(Counter(), Request("GET", "/x", {}), slept.append)
    assert isinstance(answer, Response)
    assert slept == [1.5]


@pytest.mark.parametrize(("target", "key"), [("/v1", "results"), ("/v2", None), ("/scim", "Resources")])
def test_rewriting_lists_of_each_envelope(target: str, key: str | None) -> None:
    def left(action: Rewrite) -> list[Any]:
        document, _ = rows(action, target)
        found = document if key is None else document[key]
        assert isinstance(found, list)
        return found

    every = LISTS[target] if key is None else LISTS[target][key]
    assert left(Rewrite(drop=["b"])) == [every[0], every[2]]
    assert left(Rewrite(keep=2)) == every[:2]
    assert left(Rewrite(keep=0)) == []


def test_rewriting_keeps_the_totals_unless_told() -> None:
    assert rows(Rewrite(keep=0), "/v1")[0]["totalCount"] == 3
    assert rows(Rewrite(keep=0, total=0), "/v1")[0]["totalCount"] == 0
    short = rows(Rewrite(keep=1), "/scim")[0]
    assert (short["totalResults"], short["itemsPerPage"]) == (3, 1)
    assert rows(Rewrite(keep=0, total=0), "/scim")[0]["totalResults"] == 0
    assert rows(Rewrite(keep=0, total=0), "/v2")[1].headers["x-total-count"] == "0"


def test_rewriting_leaves_other_answers_alone() -> None:
    assert rows(Rewrite(keep=0), "/x")[0]["body"] == ""
