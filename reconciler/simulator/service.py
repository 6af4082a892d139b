"""What a simulated service is: a function from a request to a response, apart from any socket."""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. Header names are lower case, `target` is path and query as sent."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """The path, still percent-encoded."""
        return self.target.partition("?")[0] if self.target.startswith("/") else urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        """The query parameters, decoded, blank values kept."""
        return {name: list(values) for name, values in _parsed(self.target)}

    def json(self) -> Any:
        """The body as JSON; raises ValueError where it is none."""
        return json.loads(self.body)


@lru_cache(maxsize=256)
def _parsed(target: str) -> list[tuple[str, list[str]]]:
    """The query parameters of a target; the same lists are asked for again and again."""
    return list(parse_qs(urlsplit(target).query, keep_blank_values=True).items())


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response; the server adds Content-Length."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def of_json(cls, status: int, document: Any, headers: Mapping[str, str] | None = None) -> "Response":
        """A response with a JSON body; `headers` override the content type application/json."""
        return cls(
            status,
            {"content-type": "application/json", **(headers or {})},
            json.dumps(document).encode(),
        )


class Service(Protocol):
    """A simulated service: synchronous and deterministic, callable from any thread."""

    def handle(self, request: Request) -> Response:
        """Answer one request and take its effect."""
        ...


CONTROL_PREFIX = "/_simulator/"


class Controlled:
    """A service together with its control route; everything else goes to the service itself.

    `POST /_simulator/<name>` with a JSON object calls `controls[name]` with the object's members as keyword
    arguments and answers `{"result": ...}`; `GET /_simulator/` lists the names with their arguments, `GET
    /_simulator/dump` answers what `dump` returns. A control that raises LookupError, TypeError or ValueError is
    answered 400 with the reason. Faults never apply here.
    """

    def __init__(self, service: Service, controls: Mapping[str, Callable[..., Any]], dump: Callable[[], Any]) -> None:
        self.service = service
        self.controls = dict(controls)
        self._dump = dump

    def handle(self, request: Request) -> Response:
        """Answer one request: a control, or whatever the service answers."""
        if not is_control(request):
            return self.service.handle(request)
        name = unquote(request.path.removeprefix(CONTROL_PREFIX))
        if name == "dump":
            if request.method != "GET":
                return Response.of_json(405, {"error": "dump takes GET"}, {"allow": "GET"})
            return Response.of_json(200, self._dump())
        control = self.controls.get(name)
        if control is None:
            known = {one: _arguments(self.controls[one]) for one in sorted(self.controls)}
            return Response.of_json(404 if name else 200, {"error": f"no control {name!r}"} | known if name else known)
        if request.method != "POST":
            return Response.of_json(405, {"error": f"{name} takes POST"}, {"allow": "POST"})
        return _call(name, control, request.body)


def is_control(request: Request) -> bool:
    """Whether a request is for the simulator itself, not for the service that it plays."""
    return request.path.startswith(CONTROL_PREFIX)


def _arguments(control: Callable[..., Any]) -> str:
    """What a control takes, as one types it: what may be left out stands in brackets."""
    found = inspect.signature(control).parameters.values()
    any_more = [f"{one.name} ..." for one in found if one.kind is one.VAR_KEYWORD]
    plain = [one for one in found if one.kind is not one.VAR_KEYWORD]
    return ", ".join([one.name if one.default is one.empty else f"[{one.name}]" for one in plain] + any_more)


def _call(name: str, control: Callable[..., Any], body: bytes) -> Response:
    request = Request("POST", CONTROL_PREFIX, {}, body)
    try:
        arguments = request.json() if body.strip() else {}
        if not isinstance(arguments, dict):
            raise ValueError("the body must be a JSON object of keyword arguments")
        try:
            inspect.signature(control).bind(**arguments)
        except TypeError as error:
            return Response.of_json(400, {"error": f"{name}: {error}", "takes": _arguments(control)})
        return Response.of_json(200, {"result": control(**arguments)})
    except (LookupError, TypeError, ValueError) as error:
        return Response.of_json(400, {"error": f"{type(error).__name__}: {error}"})
