"""Telling people and machines outside: alerts to a webhook and a command, the heartbeat.

Nothing here raises or takes longer than a bounded time; what could not be delivered is a warning in the log, and an
alert counts as told only once its receiver took it. Addresses are secrets and are in no text.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
from loguru import logger

from reconciler import programs
from reconciler.alert_text import document
from reconciler.alerts import Fact, Key, Situation, due, ended, facts, silent
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
_BEGUN: Key = ("begun", "")
"""Under this key it is kept since when a receiver is told: what was done before is no news."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where alerts go. `send` returns what went wrong, "" once the receiver took it."""

    name: str
    send: Callable[[Mapping[str, Any]], Coroutine[Any, Any, str]]


def receivers(settings: Settings) -> list[Receiver]:
    """The receivers that the settings name."""
    found = []
    webhook = settings.notify.webhook
    if webhook is not None:
        found.append(Receiver("webhook", lambda body: _call(webhook, body)))
    if settings.notify.command:
        found.append(Receiver("command", lambda body: _run(settings, body)))
    return found


async def tell(
    settings: Settings, store: Store, now: Situation, began: datetime, unsaved: dict[str, dict[Key, datetime]]
) -> None:
    """Tell each receiver what it was not told yet. `began` is when this run did.

    `unsaved` is what was told and could not be written to the state file, by receiver: nobody is told the same thing
    every few minutes because the disk is full.
    """
    found = facts(now)
    await asyncio.gather(
        *(
            _tell(receiver, settings.tenant, store, found, now, began, unsaved.setdefault(receiver.name, {}))
            for receiver in receivers(settings)
        )
    )


async def _tell(
    receiver: Receiver,
    tenant: str,
    store: Store,
    found: Sequence[Fact],
    now: Situation,
    began: datetime,
    unsaved: dict[Key, datetime],
) -> None:
    def keep(remember: Sequence[Key], forget: Sequence[Key], at: datetime) -> None:
        for key in forget:
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
    if over := silent(ended(found, told, now)):
        keep([], over, now.at)
    try:
        async with asyncio.timeout(TELLING_LIMIT):
            for alert in due(news, told, now):
                problem = await receiver.send(document(alert, tenant, now.at))
                if problem:
                    logger.warning(
                        "The alert {} was not taken by the {}, and is told again after the next run: {}",
                        alert.kind.value,
                        receiver.name,
                        problem,
                    )
                    return
                keep(alert.remember, alert.forget, now.at)
    except TimeoutError:
        logger.warning("The {} took too long; the rest is told after the next run", receiver.name)


async def heartbeat(settings: Settings) -> None:
    """Call the address of the dead man's switch: after a good cycle, and only then."""
    if settings.notify.heartbeat is not None and (problem := await _call(settings.notify.heartbeat, None)):
        logger.warning("The heartbeat did not arrive: {}", problem)


async def _run(settings: Settings, body: Mapping[str, Any]) -> str:
    ran = await programs.run(
        settings.notify.command,
        json.dumps(body, ensure_ascii=False).encode(),
        limit=COMMAND_LIMIT,
        env=programs.environment(settings.secrets().values()),
    )
    programs.log_output("notify.command", ran)
    return ran.problem


async def _call(address: Secret, body: Mapping[str, Any] | None) -> str:
    """POST the body to the address, or GET it without one; what went wrong, in words without the address."""
    try:
        url = require_secure(address.resolve().get_secret_value())
    except SecretError as error:
        return str(error)
    except ValueError as error:
        return f"{address} holds {error}"
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
            return "" if 200 <= status < 300 else f"it answered with status {status}"
    except (httpx.TimeoutException, TimeoutError):
        problem = f"no answer within {CALL_LIMIT:g} s"
    except httpx.TransportError as error:
        # The words of httpx may hold the address.
        problem = "no connection" if isinstance(error, httpx.ConnectError) else "the connection broke"
    except OSError as error:
        problem = f"the certificates named in the environment can't be used ({error.strerror or 'unreadable'})"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, ImportError):
        pass
    return problem


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
