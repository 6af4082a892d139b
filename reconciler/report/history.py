"""What `history` shows: what was done to whom, when, why and, where a person decided, by whom. Pure."""

from datetime import datetime
from typing import Any

from reconciler.counting import count
from reconciler.history import Found
from reconciler.report.journal import entry_document, entry_text
from reconciler.report.terminal import stamp, wrapped

MOST = 100
"""Operations that the text shows."""
MOST_IN_JSON = 10_000
"""Operations that the JSON document holds."""


def document(found: Found, now: datetime) -> dict[str, Any]:
    """The operations as one JSON document, the newest first; `more` is how many older ones were left out."""
    return {
        "asked_at": stamp(now),
        "total": found.total,
        "more": found.total - len(found.entries),
        "operations": [entry_document(entry) for entry in found.entries],
    }


def render(found: dict[str, Any], *, width: int) -> str:
    """The document for a person."""
    if not found["operations"]:
        return "\n".join(
            wrapped("Nothing of the kind is on record. The journal keeps what was sent, or put off.", width)
        )
    lines = [line for entry in found["operations"] for line in wrapped(entry_text(entry, name=True), width)]
    if found["more"]:
        lines += wrapped(f"… and {count(found['more'], 'older one')} (narrow the search, or --json).", width)
    return "\n".join(lines)
