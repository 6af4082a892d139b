"""The published schema: every document fits it, and it knows every key of the document."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from reconciler.plan import Plan
from reconciler.report.document import to_json
from reconciler.report.schema import SCHEMA
from tests.plans import HOSTILE, accident, everything, takeover


def closed(schema: Any) -> Any:
    """The schema, with keys that it does not name forbidden."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    return inner if "properties" not in inner else {**inner, "additionalProperties": False}


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@pytest.mark.parametrize("plan", [everything("Ada"), accident(), takeover(), *map(everything, HOSTILE[:3])])
def test_every_document_fits_it_and_no_key_is_unknown_to_it(plan: Plan) -> None:
    Draft202012Validator(closed(SCHEMA)).validate(json.loads(to_json(plan)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 2),
        (("id",), "no digest"),
        (("generated_at",), "2026-11-24"),
        (("operations", 0, "kind"), "delete_user"),
        (("operations", 0, "subject", "name"), None),
        (("operations", 0, "cause"), "nobody"),
        (("held", 0, "operations"), ["a"]),
        (("counts",), {"delete_user": 1}),
        (("notices", 0, "kind"), "gossip"),
    ],
)
def test_what_is_no_plan_does_not_fit(path: tuple[Any, ...], value: Any) -> None:
    document: Any = json.loads(to_json(everything("Ada")))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert not Draft202012Validator(SCHEMA).is_valid(document)
