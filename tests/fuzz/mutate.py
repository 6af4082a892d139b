"""Hostile variations of a JSON document, and of bytes in general. All chance comes from the generator given."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

Path = tuple[str | int, ...]

DEEP = 1_000
HUGE_TEXT = 200_000
MANY = 300

# What json.dumps can't or should not write stands in the document as a mark and is put in as text afterwards.
_RAW = {
    "<<deep list>>": "[" * DEEP + "]" * DEEP,
    "<<deeper list>>": "[" * 100 * DEEP + "]" * 100 * DEEP,
    "<<deep object>>": '{"id":' * DEEP + "1" + "}" * DEEP,
    "<<huge number>>": "9" * 5_000,
    "<<long number>>": "1" + "0" * 400,
    "<<huge fraction>>": "1e999",
    "<<NaN>>": "NaN",
    "<<infinity>>": "-Infinity",
    "<<lone surrogate>>": '"a\\ud800b"',
    "<<null character>>": '"a\\u0000b"',
}
_OTHERS: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**63, 1.5, "", " ", "0", "null", "true", [], {}, [[]], [None], {"": ""},
    "\x1b[2J\x1b]0;owned\x07", "a\r\nSet-Cookie: x=y", "\u202egnp.exe", "../../../etc/passwd", "a/b?c#d", "%2e%2e",
    "..", "'; DROP TABLE users; --", "${jndi:ldap://x}", "{0.__class__}", "<script>alert(1)</script>", "*", "x" * 300,
    "\u0130", "\uff0e", "\U0001f600" * 40, "a@b@c", "@", "ada@example.com", "2026-13-45T99:99:99Z",
)  # fmt: skip


def places(document: Any, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every place of a document with what stands there, the document itself first."""
    yield at, document
    if isinstance(document, dict):
        for key, value in document.items():
            yield from places(value, (*at, key))
    elif isinstance(document, list):
        for number, value in enumerate(document):
            yield from places(value, (*at, number))


def json_variation(document: Any, draw: random.Random) -> tuple[bytes, str]:
    """A document with one to three things wrong with it, as it would be sent, and what was done in words."""
    changed = copy.deepcopy(document)
    done = []
    for _ in range(draw.choice((1, 1, 1, 1, 2, 3))):
        changed, words = _once(changed, draw)
        done.append(words)
    return dumped(changed), ", ".join(done)


def dumped(document: Any) -> bytes:
    """The document as JSON, with its marks replaced by what they stand for."""
    text = json.dumps(document)
    if "<<" in text:
        for mark, raw in _RAW.items():
            text = text.replace(f'"{mark}"', raw)
    return text.encode()


def _once(document: Any, draw: random.Random) -> tuple[Any, str]:
    everywhere = list(places(document))
    at, value = draw.choice(everywhere)
    change = draw.choice(_CHANGES)
    new, words = change(value, draw, everywhere)
    if not at:
        return (
            (document, "nothing")
            if any(new is mark for mark in (_GONE, _TWICE, _RENAMED))
            else (new, f"{words} at the top")
        )
    parent = document
    for step in at[:-1]:
        parent = parent[step]
    key = at[-1]
    where = ".".join(map(str, at))
    if new is _GONE:
        del parent[key]
    elif new is _TWICE:
        if isinstance(parent, list):
            parent[draw.randrange(len(parent) + 1) :] = [value] * draw.choice((1, 1, 2, MANY))
        else:
            parent[f"{key} "] = value
    elif new is _RENAMED and isinstance(key, str):
        parent[draw.choice((key.upper(), key + "\0", "", key[:-1], "__proto__"))] = parent.pop(key)
    elif new is _RENAMED:
        draw.shuffle(parent)
    else:
        parent[key] = new
    return document, f"{words} at {where}"


_GONE, _TWICE, _RENAMED = object(), object(), object()
_Change = Callable[[Any, random.Random, list[tuple[Path, Any]]], tuple[Any, str]]


def _missing(_value: Any, _draw: random.Random, _all: list[tuple[Path, Any]]) -> tuple[Any, str]:
    return _GONE, "missing"


def _null(_value: Any, _draw: random.Random, _all: list[tuple[Path, Any]]) -> tuple[Any, str]:
    return None, "null"


def _other(_value: Any, draw: random.Random, _all: list[tuple[Path, Any]]) -> tuple[Any, str]:
    value = draw.choice(_OTHERS)
    return copy.deepcopy(value), f"{value!r:.40}"


def _raw(_value: Any, draw: random.Random, _all: list[tuple[Path, Any]]) -> tuple[Any, str]:
    mark = draw.choice(list(_RAW))
    return mark, mark.strip("<>")


def _huge(value: Any, draw: random.Random, _all: list[tuple[Path, Any]]) -> tuple[Any, str]:
    if isinstance(value, list):
        return value * draw.choice((2, MANY)), "many times over"
    if isinstance(value, dict):
        return {**value, **{f"key {number}": number for number in range(MANY)}}, "hundreds of keys"
    return f"{value}" * (HUGE_TEXT // max(1, len(f"{value}"))), "huge"


def _wrapped(value: Any, draw: random.Random, _all: list[tuple[Path, Any]]) -> tuple[Any, str]:
    return draw.choice(([value], {"value": value}, [[value, value]])), "wrapped"


def _text(value: Any, draw: random.Random, _all: list[tuple[Path, Any]]) -> tuple[Any, str]:
    """A value written in another way: 1 as "1", true as "true", text in another case or padded."""
    if not isinstance(value, str):
        return json.dumps(value), "as text"
    return draw.choice((value.upper(), f" {value}\n", value[:-1], value + "\0", value[::-1], list(value))), "rewritten"


def _grafted(_value: Any, draw: random.Random, everywhere: list[tuple[Path, Any]]) -> tuple[Any, str]:
    at, value = draw.choice(everywhere)
    return copy.deepcopy(value), f"what stands at {'.'.join(map(str, at)) or 'the top'}"


def _twice(_value: Any, _draw: random.Random, _all: list[tuple[Path, Any]]) -> tuple[Any, str]:
    return _TWICE, "repeated"


def _renamed(_value: Any, _draw: random.Random, _all: list[tuple[Path, Any]]) -> tuple[Any, str]:
    return _RENAMED, "renamed or shuffled"


_CHANGES: tuple[_Change, ...] = (
    _missing, _missing, _null, _other, _other, _other, _raw, _huge, _wrapped, _text, _grafted, _grafted, _twice,
    _renamed,
)  # fmt: skip


def byte_variation(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    """The same bytes with damage that knows nothing of what they mean."""
    at = draw.randrange(len(content) + 1)
    match draw.randrange(10):
        case 0:
            return content[:at], f"cut after {at} bytes"
        case 1:
            return content[at:], f"without its first {at} bytes"
        case 2:
            bad = draw.choice(
                (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\0", b"\x1b[31m", b"\xf0\x9f", b"\xfe\xff", b"\n\n")
            )
            return content[:at] + bad + content[at:], f"{bad!r} at byte {at}"
        case 3:
            damaged = bytearray(content)
            for _ in range(draw.choice((1, 1, 2, 8, 64))):
                if damaged:
                    damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
            return bytes(damaged), "flipped bits"
        case 4:
            return content.decode("utf-8", "replace").encode("utf-16"), "as UTF-16"
        case 5:
            return b"\xef\xbb\xbf" * draw.choice((1, 2)) + content, "after a byte order mark"
        case 6:
            return content * draw.choice((2, 3)), "said twice"
        case 7:
            return draw.choice(
                (b"", b"{", b"[", b"null", b"{}", b"[]", b'""', b"0", b"<html><body>Sign in</body></html>")
            ), ("something short instead")
        case 8:
            end = min(len(content), at + draw.choice((1, 4, 50)))
            return content[:at] + content[end:], f"without bytes {at} to {end}"
        case _:
            noise = draw.randbytes(draw.choice((1, 16, 500)))
            return content[:at] + noise + content[at:], f"{len(noise)} bytes of noise at byte {at}"


def doubled_keys(document: Any, draw: random.Random) -> tuple[bytes, str]:
    """JSON in which an object says the same key twice, with two values."""
    text = dumped(document)
    key = draw.choice([at[-1] for at, _ in places(document) if at and isinstance(at[-1], str)] or ["id"])
    found = text.find(f'"{key}":'.encode())
    value = draw.choice((b"null", b'""', b"[]", b"0", b'"000000000000000000000001"', b"false"))
    if found < 0:
        return text, "nothing"
    return text[:found] + f'"{key}": '.encode() + value + b", " + text[found:], f"{key} twice"
