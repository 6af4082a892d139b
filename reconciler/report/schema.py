"""The JSON Schema of the plan document, as `plan --schema` prints it.

Keys may be added within version 1; readers ignore what they do not know.
"""

from typing import Any

from reconciler.plan import Cause, Kind, NoticeKind, Rule


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


_TEXT: dict[str, Any] = {"type": "string"}
_TEXT_OR_NULL: dict[str, Any] = {"type": ["string", "null"]}
_NUMBER: dict[str, Any] = {"type": "integer", "minimum": 0}
_SUBJECT = _object(
    type={"enum": ["user", "team", "command", "list", "limit", "setting", "machine"]},
    name=_TEXT,
    jumpcloud_id=_TEXT_OR_NULL,
    keeper_id=_TEXT_OR_NULL,
) | {
    "description": "Whom or what it is about; of a notice also a program that the settings name, a list, a limit, a "
    "setting, or this machine's clock. Ids are null where there is none yet."
}
_TEAM = _object(name=_TEXT, jumpcloud_id=_TEXT_OR_NULL, keeper_id=_TEXT_OR_NULL)
_CHANGE = _object(attribute=_TEXT, **{"from": _TEXT_OR_NULL, "to": _TEXT})
_OPERATION = _object(
    kind={"enum": [kind.value for kind in Kind]},
    subject={"$ref": "#/$defs/subject"},
    cause={
        "enum": [cause.value for cause in Cause],
        "description": "Which side moved: JumpCloud (expected), or Keeper behind our back (drift).",
    },
    rule={"enum": [rule.value for rule in Rule]},
    reason=_TEXT | {"description": "For people; may change between versions. Programs read `rule`."},
    sent={"type": "boolean", "description": "false: only reported; held, put off, paused or outside the pilot."},
    changes=_list(_CHANGE),
    teams=_object(add=_list({"$ref": "#/$defs/team"}), remove=_list({"$ref": "#/$defs/team"})),
)

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Plan of the JumpCloud-to-Keeper reconciler",
    "$defs": {"subject": _SUBJECT, "team": _TEAM},
    **_object(
        version={"const": 1},
        id={
            "type": "string",
            "pattern": "^[0-9a-f]{16}$",
            "description": "A digest of what the operations do: plans that do the same have the same id.",
        },
        generated_at={"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", "description": "UTC."},
        kind={"enum": ["cycle", "resync"]},
        source=_object(organization=_TEXT, application=_object(id=_TEXT, label=_TEXT), keeper=_TEXT),
        counts={
            "type": "object",
            "propertyNames": {"enum": [kind.value for kind in Kind]},
            "additionalProperties": {"type": "integer", "minimum": 1},
            "description": "Operations by kind, sent or not.",
        },
        scope=_object(
            users=_NUMBER,
            teams=_NUMBER,
            memberships=_NUMBER,
            unread=_list(_TEXT) | {"description": "JumpCloud's lists that could not be read: the numbers lack them."},
        ),
        operations=_list(_OPERATION) | {"description": "In the order of applying."},
        adopt=_list({"$ref": "#/$defs/subject"})
        | {"description": "People already in Keeper whom the plan takes over as they are."},
        held=_list(
            _object(
                limit=_TEXT,
                operations=_list(_NUMBER) | {"description": "Places in `operations`, from 0."},
                allowed=_NUMBER,
                planned=_NUMBER,
                reason=_TEXT,
            )
        ),
        limits=_list(_object(limit=_TEXT, allowed=_NUMBER, used=_NUMBER, planned=_NUMBER)),
        notices=_list(
            _object(
                kind={"enum": [kind.value for kind in NoticeKind]}, subject={"$ref": "#/$defs/subject"}, message=_TEXT
            )
        ),
    ),
}
