"""Alerts in words: for people in a chat, and as JSON for machines. Pure.

Names and messages from the services are data, and a chat reads markup: see `harmless`.
"""

import re
from datetime import datetime
from typing import Any

from reconciler.alerts import Alert, AlertKind
from reconciler.report.terminal import clean

SHOWN = 5
"""Facts that the text of an alert names; the rest is a number."""
SHOWN_TO_MACHINES = 100

# An underscore is no part of the word: `_@here_` is emphasis, and calls.
_CALL = re.compile(r"(?<![^\W_])@(?=(?:channel|here|everyone|all)(?![^\W_]))", re.IGNORECASE)

_HEADS = {
    AlertKind.LEAVER_ACTIVE: (
        "1 person left the scope and is still active in Keeper",
        "{} people left the scope and are still active in Keeper",
    ),
    AlertKind.HELD: ("HELD: changes wait for a person", "HELD: changes wait for a person, by {} limits"),
    AlertKind.FAILING: ("Cycles fail",) * 2,
    AlertKind.KIND_STOPPED: (
        "Keeper does not do what is asked: 1 kind of operation was stopped",
        "Keeper does not do what is asked: {} kinds of operations were stopped",
    ),
    AlertKind.PROTECTED: (
        "1 protected person is suspended or out of scope, and was left active",
        "{} protected people are suspended or out of scope, and were left active",
    ),
    AlertKind.ADDRESS_CONFLICT: (
        "1 person in scope gets nothing new: a conflict of addresses",
        "{} people in scope get nothing new: conflicts of addresses",
    ),
    AlertKind.DEACTIVATED: ("1 person was locked in Keeper", "{} people were locked in Keeper"),
    AlertKind.ADDRESS_CHANGE: ("1 e-mail address has changed", "{} e-mail addresses have changed"),
    AlertKind.WAITING: ("1 approval is overdue in Keeper", "{} approvals are overdue in Keeper"),
    AlertKind.HOOK_FAILED: (
        "A program that the settings name has failed",
        "{} programs that the settings name have failed",
    ),
    AlertKind.RECOVERED: ("Well again",) * 2,
    AlertKind.TEST: ("A test",) * 2,
}

_ADVICE = {
    AlertKind.LEAVER_ACTIVE: "At once, for one person: reconciler resync EMAIL. All of them: reconciler status",
    AlertKind.FAILING: "Nobody is changed meanwhile; it is tried again. More: reconciler status, and the log",
    AlertKind.PROTECTED: "If they really left, lock them in the Admin Console or take them out of policy.protect",
    AlertKind.DEACTIVATED: "More: reconciler history, reconciler explain EMAIL",
    AlertKind.WAITING: "Approve them in Keeper's Admin Console, or see teams.approve_command in the settings",
}


def text(alert: Alert, tenant: str) -> str:
    """The alert for people in a chat: a head, the first facts, the rest as a number, what to do."""
    number = len(alert.facts)
    one, many = _HEADS[alert.kind]
    whose = f"[{harmless(tenant)}] " if tenant else ""
    lines = [f"{whose}{one if number == 1 else many.format(number)}:"]
    lines += [f"- `{harmless(fact.name)}`: {harmless(fact.text)}" for fact in alert.facts[:SHOWN]]
    if number > SHOWN:
        lines.append(f"- and {number - SHOWN} more")
    if alert.kind in _ADVICE:
        lines.append(_ADVICE[alert.kind])
    return "\n".join(lines)


def document(alert: Alert, tenant: str, at: datetime) -> dict[str, Any]:
    """The alert for machines: JSON that a webhook gets, and a command on its standard input."""
    return {
        "text": text(alert, tenant),
        "version": 1,
        "kind": alert.kind.value,
        "tenant": tenant,
        "at": _stamp(at),
        "count": len(alert.facts),
        "facts": [
            {"about": clean(fact.name), "text": clean(fact.text, 1000), "since": _stamp(fact.at)}
            for fact in alert.facts[:SHOWN_TO_MACHINES]
        ],
    }


def harmless(words: str) -> str:
    """The words on one line, so that no name in them is markup, a link or a call to everybody in a chat."""
    shown = clean(words, 500).translate({ord("<"): "\u2039", ord(">"): "\u203a", ord("`"): "'"})
    shown = shown.replace("](", "] (").replace("://", ":// ")
    return _CALL.sub("@ ", shown)


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
