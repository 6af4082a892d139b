"""Alerts in words: for people in a chat, and as JSON for machines. Pure.

Names and messages from the services are data, and a chat reads markup: see `harmless`.
"""

import json
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypeVar

from reconciler.alerts import Alert, AlertKind, Fact
from reconciler.report.terminal import clean

T = TypeVar("T")

SHOWN = 10
"""Facts that the text of an alert names at most; the rest is a number."""
TEXT_BYTES = 4000
"""Of a text, cut at whole lines: what the chats show as one message (Slack advises 4,000 characters)."""
SHOWN_TO_MACHINES = 100
FACTS_BYTES = 8 << 10
"""Of the facts for machines. With the text, twice, and all of it escaped, a body stays below the 28 KB of Teams."""
_NAME_BYTES, _WORDS_BYTES = 300, 1500

# An underscore is no part of the word: `_@here_` is emphasis, and calls.
_CALL = re.compile(r"(?<![^\W_])@(?=(?:channel|here|everyone|all)(?![^\W_]))", re.IGNORECASE)

_HEADS = {
    AlertKind.LEAVER_ACTIVE: (
        "1 person left the scope and is not verifiably locked in Keeper",
        "{} people left the scope and are not verifiably locked in Keeper",
    ),
    AlertKind.HELD: ("HELD: changes wait for a person", "HELD: changes wait for a person, by {} limits"),
    AlertKind.WILL_BE_HELD: (
        "WILL BE HELD when grace ends",
        "WILL BE HELD when grace ends, by {} limits",
    ),
    AlertKind.LOCKED: ("1 person in scope is locked in Keeper", "{} people in scope are locked in Keeper"),
    AlertKind.FAILING: ("Cycles fail",) * 2,
    AlertKind.KIND_STOPPED: (
        "Keeper does not do what is asked: 1 kind of operation was stopped",
        "Keeper does not do what is asked: {} kinds of operations were stopped",
    ),
    AlertKind.PROTECTED: (
        "1 protected person is suspended or out of scope, and was left active",
        "{} protected people are suspended or out of scope, and were left active",
    ),
    AlertKind.STUCK: (
        "What is due for 1 person or team keeps failing",
        "What is due for {} people or teams keeps failing",
    ),
    AlertKind.ADDRESS_CONFLICT: (
        "1 conflict of addresses waits for a person",
        "{} conflicts of addresses wait for a person",
    ),
    AlertKind.QUARANTINED: ("1 thing in JumpCloud or Keeper can't be read", "{} things can't be read"),
    AlertKind.LOCKED_BY_OTHERS: (
        "1 person in scope is kept out of Keeper by somebody else's lock",
        "{} people in scope are kept out of Keeper by somebody else's lock",
    ),
    AlertKind.DEACTIVATED: ("1 person was locked in Keeper", "{} people were locked in Keeper"),
    AlertKind.UNLOCKED: ("1 person was unlocked in Keeper", "{} people were unlocked in Keeper"),
    AlertKind.LOST_TEAM: ("1 person lost a team in Keeper", "{} people lost a team in Keeper"),
    AlertKind.ADDRESS_CHANGE: ("1 e-mail address has changed", "{} e-mail addresses have changed"),
    AlertKind.WAITING: (
        "1 team or membership is not known to be approved in Keeper",
        "{} teams or memberships are not known to be approved in Keeper",
    ),
    AlertKind.CLOCK: ("A clock is or was wrong",) * 2,
    AlertKind.HOOK_FAILED: (
        "A program that the settings name has failed",
        "{} programs that the settings name have failed",
    ),
    AlertKind.RECOVERED: ("Well again",) * 2,
    AlertKind.TEST: ("A test",) * 2,
}

_ADVICE = {
    AlertKind.LEAVER_ACTIVE: "Why, and what to do: reconciler leavers. At once, if active: reconciler resync EMAIL",
    AlertKind.FAILING: "It is tried again. What was sent meanwhile: reconciler history. More: reconciler status",
    AlertKind.STUCK: "It is tried again with growing pauses; at once: reconciler resync EMAIL",
    AlertKind.PROTECTED: "If they really left, lock them in the Admin Console or take them out of policy.protect",
    AlertKind.LOCKED: "What is in the way: reconciler explain EMAIL. At once, for one person, unless the pilot "
    "(policy.only) keeps them out: reconciler resync EMAIL",
    AlertKind.LOCKED_BY_OTHERS: "If nobody needs the lock (to transfer the vault), unless they are protected or "
    "outside the pilot: reconciler resync EMAIL --unlock",
    AlertKind.DEACTIVATED: "More: reconciler history, reconciler explain EMAIL",
    AlertKind.UNLOCKED: "If somebody should not be back, suspend them in JumpCloud. More: reconciler history",
    AlertKind.LOST_TEAM: "More: reconciler history, reconciler explain EMAIL",
    AlertKind.WAITING: "Approve them in Keeper's Admin Console, or see teams.approve_command in the settings. Without "
    "keeper.inventory_command no approval is visible, and this is told once a week",
}


_MORE = {
    AlertKind.LEAVER_ACTIVE: "reconciler leavers",
    AlertKind.DEACTIVATED: "reconciler leavers",
    AlertKind.PROTECTED: "reconciler leavers",
    AlertKind.STUCK: "reconciler status",
    AlertKind.UNLOCKED: "reconciler history",
    AlertKind.LOST_TEAM: "reconciler history",
    AlertKind.ADDRESS_CHANGE: "reconciler plan` or, where it was sent, `reconciler history",
    AlertKind.WAITING: "reconciler teams",
}
"""The command that shows those whom the text only counts, where it is not `reconciler plan`."""


def text(alert: Alert, tenant: str) -> str:
    """The alert for people in a chat: a head, the first facts, the rest as a number, what to do."""
    number = len(alert.facts)
    one, many = _HEADS[alert.kind]
    whose = f"[{_cut(harmless(tenant), _NAME_BYTES)}] " if tenant else ""
    lines = [f"{whose}{one if number == 1 else many.format(number)}:"]
    every = (
        f"- `{_cut(harmless(fact.name), _NAME_BYTES)}`: {_cut(harmless(fact.text), _WORDS_BYTES)}"
        for fact in alert.facts[:SHOWN]
    )
    end = [_ADVICE[alert.kind]] if alert.kind in _ADVICE else []
    more = f"… and {{}} more, see `{_MORE.get(alert.kind, 'reconciler plan')}`"
    shown = _fitting(every, TEXT_BYTES - sum(len(line.encode()) + 1 for line in (*lines, more, *end)))
    if number > len(shown):
        end.insert(0, more.format(number - len(shown)))
    return "\n".join([*lines, *shown, *end])


def document(alert: Alert, tenant: str, at: datetime) -> dict[str, Any]:
    """The alert for machines: JSON that a webhook gets, and a command on its standard input."""
    return {
        "text": text(alert, tenant),
        "version": 1,
        "kind": alert.kind.value,
        "tenant": tenant,
        "at": _stamp(at),
        "count": len(alert.facts),
        "facts": _fitting(map(_for_machines, alert.facts[:SHOWN_TO_MACHINES]), FACTS_BYTES),
    }


def _for_machines(fact: Fact) -> dict[str, str]:
    return {
        "about": _cut(clean(fact.name), _NAME_BYTES),
        "text": _cut(clean(fact.text, 1000), _WORDS_BYTES),
        "since": _stamp(fact.at),
    }


def _fitting(found: Iterable[T], room: int) -> list[T]:
    """The first of them, as many as have room as JSON: so many bytes."""
    fitting = []
    for one in found:
        room -= len(json.dumps(one, ensure_ascii=False).encode()) + 1
        if room < 0:
            break
        fitting.append(one)
    return fitting


def _cut(words: str, most: int) -> str:
    """The words in so many bytes at most. Marks take no columns: what is short on a screen may be long."""
    raw = words.encode()
    return words if len(raw) <= most else raw[: most - 3].decode(errors="ignore") + "…"


def harmless(words: str) -> str:
    """The words on one line, so that no name in them is markup, a link or a call to everybody in a chat."""
    shown = clean(words, 500).translate({ord("<"): "\u2039", ord(">"): "\u203a", ord("`"): "'"})
    shown = shown.replace("](", "] (").replace("://", ":// ")
    return _CALL.sub("@ ", shown)


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
