"""Telling people and machines outside: alerts to a webhook and a command, the heartbeat.

Nothing here raises or takes longer than a bounded time, and an alert counts as told only once its receiver took it.
One that its receiver refuses keeps none of the others back. Addresses are secrets and are in no text.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
from loguru import logger

from reconciler import programs
from reconciler.alert_text import document
from reconciler.alerts import GIVEN_UP, AlertKind, Fact, Key, Refusal, Situation, due, ended, facts, silent
from reconciler.config import Settings
from reconciler.http import tls_from_environment
from reconciler.secrets import Secret, SecretError
from reconciler.store import StateError, Store
from reconciler.urls import is_loopback, require_secure

CALL_LIMIT = 10.0
"""Seconds for one call of an address."""
COMMAND_LIMIT = 30.0
TELLING_LIMIT = 60.0
"""Seconds for everything that one receiver is told after one run; the rest is told after the next."""

_WORKFLOWS = (".logic.azure.com", ".api.powerplatform.com")
"""Where Teams' workflows take webhooks. They know adaptive cards only (learn.microsoft.com, "Create incoming webhooks
with Workflows")."""
_OF_THE_RECEIVER = frozenset({401, 403, 404, 407, 408, 410, 425, 429})
"""Statuses from 400 to 499 that are not about what was sent (RFC 9110, RFC 6585, RFC 8470)."""
_BEGUN: Key = ("begun", "")
"""Under this key it is kept since when a receiver is told: what was done before is no news."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a call: what went wrong, "" once the receiver took it. `refused`: this message is not taken,
    while others may be."""

    problem: str = ""
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where alerts go."""

    name: str
    send: Callable[[Mapping[str, Any]], Coroutine[Any, Any, Answer]]


@dataclass(frozen=True, slots=True)
class Report:
    """How one receiver was told: whether it was `called` at all, what went wrong, what it refuses for now."""

    called: bool = False
    problem: str = ""
    refused: Mapping[Key, Refusal] = field(default_factory=dict)


def receivers(settings: Settings) -> list[Receiver]:
    """The receivers that the settings name."""
    found = []
    webhook = settings.notify.webhook
    if webhook is not None:
        found.append(Receiver("webhook", lambda body: _call(webhook, body)))
    if settings.notify.command:
        found.append(Receiver("command", lambda body: _run(settings, body)))
    return found


def names(settings: Settings) -> frozenset[str]:
    """The names of all that the settings have called: the receivers, and the address of the heartbeat."""
    others = {"heartbeat"} if settings.notify.heartbeat is not None else set[str]()
    return frozenset(others.union(receiver.name for receiver in receivers(settings)))


async def tell(
    settings: Settings,
    store: Store,
    now: Situation,
    began: datetime,
    unsaved: dict[str, dict[Key, datetime]],
    refused: Mapping[str, Mapping[Key, Refusal]],
) -> dict[str, Report]:
    """Tell each receiver what it was not told yet; gives a report by its name. `began` is when this run did.

    `unsaved` is what was told and could not be written to the state file, by receiver: nobody is told the same thing
    every few minutes because the disk is full. `refused` is what the last reports say of that.
    """
    found = facts(now)
    told = receivers(settings)
    reports = await asyncio.gather(
        *(
            _tell(
                receiver,
                settings.tenant,
                store,
                found,
                now,
                began,
                unsaved.setdefault(receiver.name, {}),
                refused.get(receiver.name, {}),
            )
            for receiver in told
        )
    )
    return {receiver.name: report for receiver, report in zip(told, reports, strict=True)}


async def _tell(
    receiver: Receiver,
    tenant: str,
    store: Store,
    found: Sequence[Fact],
    now: Situation,
    began: datetime,
    unsaved: dict[Key, datetime],
    refused: Mapping[Key, Refusal],
) -> Report:
    def keep(remember: Sequence[Key], forget: Sequence[Key], at: datetime) -> None:
        for key in (*remember, *forget):
            unsaved.pop(key, None)
        try:
            store.tell(receiver.name, at, remember, forget)
        except StateError as error:
            unsaved.update(dict.fromkeys(remember, at))
            logger.warning("What was told could not be kept: {}", error)

    told = {**store.told(receiver.name), **unsaved}
    since = told.pop(_BEGUN, None)
    if since is None:
        since = began
        keep([_BEGUN], [], began)
    news = [fact for fact in found if not fact.past or fact.at >= since]
    if ceased := silent(ended(found, told, now), found):
        keep([], ceased, now.at)
    resting = {key for key, refusal in refused.items() if refusal.rests(now.at)}
    # What is over is not tried again, and no longer refused.
    still = {key: refusal for key, refusal in refused.items() if now.at - refusal.last <= GIVEN_UP}
    called, problem = False, ""
    try:
        async with asyncio.timeout(TELLING_LIMIT):
            for alert in due(news, told, now, resting):
                answer = await receiver.send(document(alert, tenant, now.at))
                called, problem = True, answer.problem or problem
                if answer.problem and not answer.refused:
                    break
                mine = [fact.id for fact in alert.facts]
                over = (
                    _refuse(receiver.name, alert.kind, answer.problem, mine, still, now.at) if answer.problem else mine
                )
                for key in over:
                    still.pop(key, None)
                if over:
                    keep([key for key in alert.remember if key in over], alert.forget, now.at)
    except TimeoutError:
        called, problem = True, f"telling it everything took longer than {TELLING_LIMIT:g} s"
    return Report(called, problem, still)


def _refuse(
    receiver: str, kind: AlertKind, problem: str, mine: Sequence[Key], refused: dict[Key, Refusal], at: datetime
) -> list[Key]:
    """Note that an alert was refused; gives what of it is not tried any more. The log has the first and the last."""
    if any(key not in refused for key in mine):
        words = "The {} refuses the alert {}, the others go out: {}. It is tried again with growing pauses, for a day"
        logger.warning(words, receiver, kind.value, problem)
    refused.update({key: Refusal(refused[key].since if key in refused else at, at) for key in mine})
    over = [key for key in mine if at - refused[key].since >= GIVEN_UP]
    if over:
        words = "The {} has refused the alert {} for a day, it is given up: {}. What it was about: reconciler status"
        logger.warning(words, receiver, kind.value, problem)
    return over


async def heartbeat(settings: Settings) -> str | None:
    """Call the address of the dead man's switch: after a good cycle, and only then. Gives what went wrong, "" for
    nothing, None where there is no such address."""
    return None if settings.notify.heartbeat is None else (await _call(settings.notify.heartbeat, None)).problem


async def _run(settings: Settings, body: Mapping[str, Any]) -> Answer:
    ran = await programs.run(
        settings.notify.command,
        json.dumps(body, ensure_ascii=False).encode(),
        limit=COMMAND_LIMIT,
        env=programs.environment(settings.secrets().values()),
    )
    programs.log_output("notify.command", ran)
    return Answer(ran.problem, refused=ran.code != 0)


async def _call(address: Secret, body: Mapping[str, Any] | None) -> Answer:
    """POST the body to the address, or GET it without one; what went wrong, in words without the address."""
    try:
        url = require_secure(address.resolve().get_secret_value())
    except SecretError as error:
        return Answer(str(error))
    except ValueError as error:
        return Answer(f"{address} holds {error}")
    local = is_loopback(url)
    content = None if body is None else json.dumps(fitting(url, body), ensure_ascii=False).encode("utf-8", "replace")
    headers = {"user-agent": "jumpcloud-keeper-reconciler"}
    if content is not None:
        headers["content-type"] = "application/json"
    problem = "the address or the proxy in the environment can't be used"
    try:
        async with (
            asyncio.timeout(CALL_LIMIT),
            httpx.AsyncClient(verify=tls_from_environment(), trust_env=not local, timeout=CALL_LIMIT) as client,
            # Only the status counts: the body of the answer is not read.
            client.stream("GET" if content is None else "POST", url, content=content, headers=headers) as answer,
        ):
            status = answer.status_code
            if 200 <= status < 300:
                return Answer()
            refused = 400 <= status < 500 and status not in _OF_THE_RECEIVER
            return Answer(f"it answered with status {status}", refused)
    except (httpx.TimeoutException, TimeoutError):
        problem = f"no answer within {CALL_LIMIT:g} s"
    except httpx.TransportError as error:
        # The words of httpx may hold the address.
        problem = "no connection" if isinstance(error, httpx.ConnectError) else "the connection broke"
    except OSError as error:
        problem = f"the certificates named in the environment can't be used ({error.strerror or 'unreadable'})"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, ImportError):
        pass
    return Answer(problem)


def fitting(url: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body as whoever is at this address takes it: Slack and its like read `text`, Teams' workflows a card."""
    if not (urlsplit(url).hostname or "").endswith(_WORKFLOWS):
        return body
    text = str(body["text"])
    block = {"type": "TextBlock", "wrap": True, "text": text.replace("\n", "\n\n")}
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [block],
    }
    return {
        **body,
        "type": "message",
        "attachments": [
            {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
        ],
    }
