"""The kinds of values that settings take: each checks one value and says what it allows.

A value that is not allowed raises what `refuse` makes; it is quoted only where it can't be a secret (see `show`).
"""

import difflib
import ipaddress
import os
import re
import unicodedata
from datetime import date, time, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field, PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from reconciler import secrets
from reconciler.policy import Limit
from reconciler.secrets import Secret
from reconciler.urls import is_loopback, service_url

REGIONS = {"console.jumpcloud.com": "", "console.eu.jumpcloud.com": "eu.", "console.in.jumpcloud.com": "in."}
"""JumpCloud's consoles, with what the names of its other hosts in the same region have before the domain."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LONGEST_SHOWN = 60


class Listen(NamedTuple):
    """Where to listen."""

    host: str
    port: int


def parse_duration(text: str) -> timedelta:
    """A duration as people write it, "30s", "5m", "24h" or "400d"; raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if not found:
        raise ValueError('not a whole number of s, m, h or d, e.g. "30s", "5m", "24h", "400d"')
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def refuse(allowed: str, *, hint: str = "", found: str = "") -> PydanticCustomError:
    """What a check raises; without `found` the value itself is shown."""
    return PydanticCustomError("refused", "{allowed}", {"allowed": allowed, "hint": hint, "found": found})


def show(value: object) -> str:
    """A value from the settings as an error shows it: short, printable, and hidden if it may be a secret."""
    match value:
        case bool():
            return str(value).lower()
        case str() if secrets.looks_secret(value):
            return f"a text of {len(value)} characters (not shown, it may be a secret)"
        case str():
            return ascii(value) if len(value) <= _LONGEST_SHOWN else ascii(value[:_LONGEST_SHOWN]) + "..."
        case int() if abs(value) >= 10**_LONGEST_SHOWN:
            return "a huge number"  # of which Python may refuse to make a text
        case int() | float():
            return str(value)
        case list():
            return "a list"
        case dict():
            return "a table"
        case date() | time():
            return "a date or time"
        case _:
            return "something else"


def text_check(allowed: str, pattern: str) -> PlainValidator:
    """One line of printable text that matches the pattern from end to end; it becomes Unicode NFC."""

    def check(value: object) -> str:
        if isinstance(value, str) and value.isprintable() and re.fullmatch(pattern, value):
            return unicodedata.normalize("NFC", value)
        raise refuse(allowed)

    return PlainValidator(check)


def choice(kind: type[StrEnum]) -> PlainValidator:
    """One of a few words."""
    words = [member.value for member in kind]
    by_fold = {word.casefold(): word for word in words}

    def check(value: object) -> StrEnum:
        if isinstance(value, str) and value in words:
            return kind(value)
        near = difflib.get_close_matches(value.casefold(), by_fold, 1) if isinstance(value, str) else []
        raise refuse(one_of(words), hint="".join(f'did you mean "{by_fold[word]}"?' for word in near))

    return PlainValidator(check)


def one_of(words: list[str]) -> str:
    """The words, quoted, as a person lists alternatives."""
    *others, last = [f'"{word}"' for word in words]
    return f"{', '.join(others)} or {last}" if others else last


def duration(low: str, high: str) -> PlainValidator:
    """A duration, from `low` to `high`."""
    return PlainValidator(lambda value: _duration(value, low, high))


def duration_or_time(low: str, high: str) -> PlainValidator:
    """A duration, from `low` to `high`, or a local time."""

    def check(value: object) -> timedelta | time:
        if isinstance(value, time):
            return value
        if isinstance(value, str) and re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", value):
            return time.fromisoformat(value)
        return _duration(value, low, high, ', or a local time, e.g. "03:00"')

    return PlainValidator(check)


def _duration(value: object, low: str, high: str, otherwise: str = "") -> timedelta:
    hint = "with its unit, s, m, h or d" if isinstance(value, int) else ""
    if isinstance(value, str):
        try:
            found = parse_duration(value)
        except ValueError:
            pass
        else:
            if parse_duration(low) <= found <= parse_duration(high):
                return found
    raise refuse(f'a duration from "{low}" to "{high}"{otherwise}', hint=hint)


def whole(low: int, high: int) -> PlainValidator:
    """A whole number, from `low` to `high`."""

    def check(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise refuse(f"a whole number from {low} to {high}")

    return PlainValidator(check)


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise refuse("true or false", hint="without quotes" if value in ("true", "false") else "")


def _limit(value: object) -> Limit:
    hint = ""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1_000_000:
        return Limit(count=value)
    if isinstance(value, str):
        found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,3})?) ?%", value)
        if found and float(found[1]) <= 100:
            return Limit(percent=float(found[1]))
        if value.isdecimal():
            hint = "a count stands without quotes, a percentage with its sign"
    raise refuse('a percentage from "0%" to "100%", or a whole number of people', hint=hint)


def _secret(value: object, info: ValidationInfo) -> Secret:
    try:
        return secrets.parse(value, _base(info))
    except ValueError as error:
        found = "a text" if isinstance(value, str) else show(value)
        raise refuse(secrets.FORMS, hint=str(error), found=found) from None


def _secret_or_none(value: object, info: ValidationInfo) -> Secret | None:
    return None if value == {} else _secret(value, info)


def _path(value: object, info: ValidationInfo) -> Path | None:
    if not isinstance(value, str) or not value.isprintable():
        raise refuse('a path, or "" for none')
    return Path(os.path.abspath(_base(info) / value)) if value else None


def _command(value: object, info: ValidationInfo) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) and "\0" not in word for word in value):
        hint = "no shell is involved; name one as the program where you need it" if isinstance(value, str) else ""
        raise refuse('a program and its arguments, ["PROGRAM", "ARGUMENT"], or [] for none', hint=hint)
    if not value:
        return ()
    program, *arguments = value
    if not program:
        raise refuse("a program as the first word", found="an empty one")
    # A bare name is looked up in $PATH; a path counts from the settings file, like every other.
    return (os.path.abspath(_base(info) / program) if "/" in program else program, *arguments)


def _listen(value: object) -> Listen | None:
    if value == "":
        return None
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})", value) if isinstance(value, str) else None
    if not found or not 1 <= int(found[2]) <= 65535:
        raise refuse('an address and a port, "127.0.0.1:9464" or "[::1]:9464", or "" for none')
    host = found[1].strip("[]")
    if found[1].startswith("["):
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise refuse("an IPv6 address within the brackets") from None
    return Listen(host, int(found[2]))


def _url(value: object, allowed: str = "https://HOST, or http:// for this machine itself", hint: str = "") -> str:
    if not isinstance(value, str):
        raise refuse(allowed, hint=hint)
    try:
        return service_url(value)
    except ValueError as error:
        raise refuse(allowed, hint=hint, found=str(error)) from None


def _scim_url(value: object) -> str:
    allowed, hint = "https://HOST/api/rest/scim/v2/NUMBER", "as Keeper's Admin Console shows it: Provisioning, SCIM"
    url = _url(value, allowed, hint)
    if not re.fullmatch(r"https?://[^/]+/api/rest/scim/v2/[0-9]{1,20}", url):
        raise refuse(allowed, hint=hint)
    return url


def _console_url(value: object) -> str:
    consoles = one_of([f"https://{console}" for console in REGIONS])
    url = _url(value, consoles)
    parts = urlsplit(url)
    if parts.path:
        raise refuse(consoles, hint="without a path")
    if parts.netloc not in REGIONS and f".{parts.hostname}".endswith(".jumpcloud.com"):
        raise refuse(consoles)
    return url


def _base(info: ValidationInfo) -> Path:
    base: Path = (info.context or {})["base"]
    return base


def jumpcloud_host(prefix: str, base_url: str) -> str | None:
    """The URL of another of JumpCloud's hosts in the region of the console; None where that is not known.

    On loopback everything is served from one place.
    """
    if is_loopback(base_url):
        return base_url
    region = REGIONS.get(base_url.removeprefix("https://"))
    return None if region is None else f"https://{prefix}.{region}jumpcloud.com"


Boolean = Annotated[bool, PlainValidator(_boolean)]
ScimUrl = Annotated[str, PlainValidator(_scim_url)]
ConsoleUrl = Annotated[str, PlainValidator(_console_url)]
Url = Annotated[str | None, PlainValidator(lambda value: None if value is None else _url(value))]
SecretField = Annotated[Secret, PlainValidator(_secret)]
OptionalSecret = Annotated[Secret | None, PlainValidator(_secret_or_none)]
OptionalPath = Annotated[Path | None, PlainValidator(_path)]
Command = Annotated[tuple[str, ...], PlainValidator(_command)]
LimitField = Annotated[Limit, PlainValidator(_limit)]
ListenField = Annotated[Listen | None, PlainValidator(_listen)]

# A name with blanks around it would never match: names are trimmed where they are read.
_TRIMMED = r"\S(.*\S)?"
_Address = Annotated[str, text_check("an e-mail address", r"[^@\s]+@[^@\s]+")]
_Pattern = Annotated[str, text_check("a group's name or a glob pattern, without blanks around it", _TRIMMED)]
_Name = Annotated[str, text_check("a group's name, without blanks around it", _TRIMMED)]
# TOML's lists become tuples, so that settings can't change under those who hold them.
Addresses = Annotated[tuple[_Address, ...], Field(strict=False)]
Patterns = Annotated[tuple[_Pattern, ...], Field(strict=False)]
Names = Annotated[tuple[_Name, ...], Field(strict=False)]
