"""What may reach a terminal: names from the services are data, whatever is in them."""

import json
import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import click
from rich.cells import cell_len, chop_cells, set_cell_size

_LIKE_SPACE = frozenset("\n\t")
# Letters and marks that show nothing, so that two names look alike: combining grapheme joiner, Hangul fillers, blank
# Braille pattern. Their category does not give them away.
_BLANK = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Co"})
_JOINERS = frozenset("\u200c\u200d")
_VIRAMA = 9  # the canonical combining class
_EMOJI_PARTS = frozenset({"So", "Sk", "Cn"})
# England, Scotland, Wales: a black flag and its code in tag characters (Unicode Technical Standard 51).
_FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f")
_IN_JSON = re.compile(
    "[\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e0fff]"
)

_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")


def clean(text: str, width: int = 200) -> str:
    """The text on one line, with control characters, escapes, bidirectional marks and other invisible characters made
    visible (`\\x1b`), and cut to `width` columns with an ellipsis. Line breaks and tabs become spaces; emoji and all
    scripts stay, with the joiners that they need (Unicode Standard Annex 31, section 2.3)."""
    most = 4 * width  # combining marks take no columns, so characters count as well
    shown = _visible(text[:most])
    if len(text) <= most and cell_len(shown) <= width:
        return shown
    return set_cell_size(shown, min(width - 1, cell_len(shown))).rstrip() + "…"


def clean_json(document: str) -> str:
    """JSON text with the characters that could steer a terminal, and unpaired surrogates, as JSON escapes; it means
    the same."""
    return _IN_JSON.sub(lambda found: json.dumps(found[0])[1:-1], document)


def ascii_json(document: str) -> str:
    """JSON text with every character beyond ASCII as a JSON escape; it means the same."""
    return _BEYOND_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], document)


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """The words of the text as lines of at most `width` columns; all but the first are indented further, and a word
    that fits no line is cut."""
    lines: list[str] = []
    line = indent
    hanging = indent + "  "
    start = True
    for word in filter(None, text.split(" ")):
        if not start and cell_len(line) + 1 + cell_len(word) <= width:
            line += f" {word}"
            continue
        if not start:
            lines.append(line)
            line = hanging
        *full, rest = chop_cells(word, max(width - len(hanging), 2))
        for piece in full:
            lines.append(line + piece)
            line = hanging
        line += rest
        start = False
    return lines if start else [*lines, line]


def styled(text: str, colour: bool, *, bold: bool = False, fg: str | None = None) -> str:
    """The text in colour, where colour is wanted."""
    return click.style(text, bold=bold or None, fg=fg) if colour else text


def stamp(at: datetime | None) -> str | None:
    """A time as the JSON documents have it: ISO 8601 in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else None


def spoken(stamped: str | None) -> str:
    """A time of a JSON document as a person reads it."""
    return f"{stamped[:10]} {stamped[11:16]} UTC" if stamped else "an unknown time"


def json_document(found: Any) -> str:
    """A JSON document, safe to show on a terminal."""
    return clean_json(json.dumps(found, ensure_ascii=False, indent=2))


def names(found: Iterable[str], most: int = 10) -> str:
    """Some names in one line, made harmless, and how many more there are."""
    every = list(found)
    shown = ", ".join(clean(name, 60) for name in every[:most])
    return shown + (f" and {len(every) - most} more" if len(every) > most else "")


def _visible(text: str) -> str:
    if text.isprintable() and _BLANK.isdisjoint(text):
        return text
    flags = {place for found in _FLAG.finditer(text) for place in range(*found.span())}
    return "".join(
        " " if character in _LIKE_SPACE else character if place in flags or _shows(text, place) else _escaped(character)
        for place, character in enumerate(text)
    )


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _shows(text: str, place: int) -> bool:
    character = text[place]
    if character in _JOINERS:
        return _joins(text[place - 1 : place], character, text[place + 1 : place + 2])
    category = unicodedata.category(character)
    if category == "Cn":  # perhaps an emoji or an ideograph that is newer than this Python
        return 0x1F000 <= ord(character) < 0xE0000 and ord(character) & 0xFFFE != 0xFFFE
    return category not in _HARMFUL and character not in _BLANK


def _joins(before: str, joiner: str, after: str) -> bool:
    """Whether a joiner does something that is seen: in an emoji, between Arabic letters, beside a virama."""
    if not before or not after:
        return False
    if unicodedata.bidirectional(before) == unicodedata.bidirectional(after) == "AL":
        return True
    if _VIRAMA in (unicodedata.combining(before), unicodedata.combining(after)):
        return True
    emoji = before == "\ufe0f" or unicodedata.category(before) in _EMOJI_PARTS
    return joiner == "\u200d" and emoji and unicodedata.category(after) in _EMOJI_PARTS
