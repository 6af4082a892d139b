"""What became of a request that got no definite answer."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """Which request an error or a reply is about; the path without its query."""

    service: str
    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.service}: {self.method} {self.path}" if self.method else self.service


class HttpError(Exception):
    """A request without a definite answer. The classes below say what is known about it.

    The text is for the administrator and holds no header, query value or body. `status` is that of the last
    reply, None where there was none; `attempts` counts requests made.
    """

    def __init__(self, call: Call, problem: str, advice: str, *, attempts: int = 0, status: int | None = None) -> None:
        self.service = call.service
        self.method = call.method
        self.path = call.path
        self.problem = problem
        self.advice = advice
        self.attempts = attempts
        self.status = status
        tries = f" ({attempts} attempts)" if attempts > 1 else ""
        super().__init__(f"{call}: {problem}{tries}. {advice}")


class Unreachable(HttpError):
    """No attempt reached the service: the request has not taken effect."""


class Throttled(HttpError):
    """The service refused the request for its rate: it has not taken effect. Stop for now."""


class TooLate(HttpError):
    """The last moment for sending it has passed, or would pass before its next attempt, or it was overruled: it has not
    taken effect."""


class Redirected(HttpError):
    """The service answered with a redirect, which is never followed: the request has not taken effect."""


class Unanswered(HttpError):
    """An attempt got no usable answer, or a 5xx: it may have taken effect. Settle it by asking."""


class BadReply(HttpError):
    """The service answered, with something that is not the JSON expected."""
