"""What is logged, to standard error: text for people, or one JSON object a line for machines."""

import json
import sys
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from loguru import logger

from reconciler import exits, systemd
from reconciler.report.terminal import ascii_json, clean, clean_json

if TYPE_CHECKING:
    from loguru import Message, Record

    from reconciler.apply import Result
    from reconciler.config import Settings

LONGEST = 2000
"""Columns of one message; what a service says may be of any length."""
_LEVELS = {"done": "INFO", "put_off": "INFO", "failed": "WARNING", "unknown": "WARNING"}


def to_stderr(settings: "Settings", *, service: bool) -> None:
    """Log as the settings say; but while a service tells what it does, a command prints that as its result.

    Every message is made harmless for a terminal first. The places of an exception we write ourselves: loguru writes
    its text as it is, and local variables, secrets among them.
    """
    level = settings.log.level.value
    level = "WARNING" if level == "INFO" and not service else level
    machine = settings.log.format.value == "json"
    logger.remove()
    logger.configure(extra={"tenant": settings.tenant}, patcher=_harmless)
    logger.add(_write_json if machine else sys.stderr, level=level, format=_text)


def operation(result: "Result") -> None:
    """One line for what became of one operation."""
    op = result.operation
    extra = {
        "operation": op.kind.value,
        "subject": op.subject.name,
        "jumpcloud_id": op.subject.jumpcloud_id,
        "keeper_id": op.subject.keeper_id,
        "rule": op.rule.value,
        "cause": op.cause.value,
        "reason": op.reason,
        "add": [team.name for team in op.add],
        "remove": [team.name for team in op.remove],
        "state": result.state.value,
        "outcome": result.outcome,
        "error": result.error,
    }
    teams = [f"+{team.name}" for team in op.add] + [f"-{team.name}" for team in op.remove]
    words = f"{op.kind.value} {op.subject.name}: {result.state.value} ({'; '.join([op.reason, *teams])})"
    if result.error:
        words += f": {result.error}"
    logger.bind(**extra).log(_LEVELS.get(result.state.value, "INFO"), "{}", words)


def _harmless(record: "Record") -> None:
    record["message"] = clean(record["message"], width=LONGEST)
    if record["exception"] is not None and record["exception"].value is not None:
        record["extra"]["exception"] = "\n".join(_places(record["exception"].value))


def _places(error: BaseException) -> Iterator[str]:
    """Where an error was raised, after those that led to it, and what it is."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _places(before)
    for one in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from _places(one)
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"  {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
    yield exits.named(error)


def _text(record: "Record") -> str:
    time = "" if systemd.under_journal() else "{time:YYYY-MM-DDTHH:mm:ssZZ} "
    tenant = "[{extra[tenant]}] " if record["extra"].get("tenant") else ""
    run = "run {extra[run]}: " if "run" in record["extra"] else ""
    exception = "{extra[exception]}\n" if "exception" in record["extra"] else ""
    return f"{time}{{level}} {tenant}{run}{{message}}\n{exception}"


def _write_json(message: "Message") -> None:
    record = message.record
    line: dict[str, Any] = {
        "time": record["time"].isoformat(),
        "level": record["level"].name,
        "message": record["message"],
        **record["extra"],
    }
    text = clean_json(json.dumps(line, ensure_ascii=False))
    sys.stderr.write((text if sys.stderr.encoding == "utf-8" else ascii_json(text)) + "\n")
