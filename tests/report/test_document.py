"""The plan document: its format, its stability, and saved plans that are not what they say."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from reconciler.plan import (
    Cause,
    Change,
    Held,
    Kind,
    LimitUse,
    Notice,
    NoticeKind,
    Operation,
    Plan,
    Rule,
    Scope,
    Source,
    Subject,
    TeamRef,
)
from reconciler.report import document
from reconciler.report.document import SavedPlanError, held_effects, load_saved, read_saved, to_document, to_json

SOURCE = Source("org", "app", "Keeper", "https://keeper.example/scim/v2/1")
ADA = Subject("user", "ada@example.com", "j-ada", "k-ada")
NEW = Subject("user", "new@example.com", "j-new")
UPDATE = Operation(
    Kind.UPDATE_USER,
    ADA,
    Cause.DRIFT,
    Rule.RESTORED,
    "changed in Keeper",
    (Change("name.givenName", "A", "Ada"), Change("displayName", "", "Ada L")),
    (TeamRef("Engineering", "j-eng"),),
    (TeamRef("Sales", "j-sales", "k-sales"),),
)
CREATE = Operation(Kind.CREATE_USER, NEW, Cause.JUMPCLOUD, Rule.JOINED, "joined", sent=False)
PLAN = Plan(
    "cycle",
    datetime(2026, 11, 23, 10, tzinfo=UTC),
    SOURCE,
    Scope(812, 31, 4100),
    (UPDATE, CREATE),
    (ADA,),
    (Held("max_creations", (1,), 0, 1, "1 person would be created"),),
    (LimitUse("max_creations", 0, 0, 1),),
    (Notice(NoticeKind.CONFLICT, NEW, "two have this address"),),
)


def saved(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps({**to_document(PLAN), **changes}), encoding="utf-8")
    return path


def test_the_format() -> None:
    subject = {"type": "user", "name": "ada@example.com", "jumpcloud_id": "j-ada", "keeper_id": "k-ada"}
    new = {"type": "user", "name": "new@example.com", "jumpcloud_id": "j-new", "keeper_id": None}
    assert to_document(PLAN) == {
        "version": 1,
        "id": PLAN.id,
        "generated_at": "2026-11-23T10:00:00Z",
        "kind": "cycle",
        "source": {
            "organization": "org",
            "application": {"id": "app", "label": "Keeper"},
            "keeper": "https://keeper.example/scim/v2/1",
        },
        "counts": {"create_user": 1, "update_user": 1},
        "scope": {"users": 812, "teams": 31, "memberships": 4100, "unread": []},
        "operations": [
            {
                "kind": "update_user",
                "subject": subject,
                "cause": "drift",
                "rule": "restored",
                "reason": "changed in Keeper",
                "sent": True,
                "changes": [
                    {"attribute": "name.givenName", "from": "A", "to": "Ada"},
                    {"attribute": "displayName", "from": None, "to": "Ada L"},
                ],
                "teams": {
                    "add": [{"name": "Engineering", "jumpcloud_id": "j-eng", "keeper_id": None}],
                    "remove": [{"name": "Sales", "jumpcloud_id": "j-sales", "keeper_id": "k-sales"}],
                },
            },
            {
                "kind": "create_user",
                "subject": new,
                "cause": "jumpcloud",
                "rule": "joined",
                "reason": "joined",
                "sent": False,
                "changes": [],
                "teams": {"add": [], "remove": []},
            },
        ],
        "adopt": [subject],
        "held": [
            {
                "limit": "max_creations",
                "operations": [1],
                "allowed": 0,
                "planned": 1,
                "reason": "1 person would be created",
            }
        ],
        "limits": [{"limit": "max_creations", "allowed": 0, "used": 0, "planned": 1}],
        "notices": [{"kind": "conflict", "subject": new, "message": "two have this address"}],
    }


def test_the_same_plan_gives_the_same_bytes_and_ends_with_a_line_break() -> None:
    assert to_json(PLAN) == to_json(replace(PLAN))
    assert to_json(PLAN).endswith("}\n")


def test_the_time_is_utc_whatever_the_zone() -> None:
    zone = timezone(timedelta(hours=2))
    plan = replace(PLAN, generated_at=datetime(2026, 11, 23, 12, tzinfo=zone))
    assert to_document(plan)["generated_at"] == "2026-11-23T10:00:00Z"


@pytest.mark.parametrize(
    "name", ["\x1b[31m", "\x9b31m", "\u202eabc", "\u200b", "\u2028", "\ud800", "a\U000e0041", "Zoë 日本 👨‍👩‍👧"]
)
def test_names_are_kept_whole_but_can_not_steer_a_terminal(name: str) -> None:
    text = to_json(replace(PLAN, adopts=(replace(ADA, name=name),)))
    text.encode()
    assert json.loads(text)["adopt"][0]["name"] == name
    assert not any(c in text for c in "\x1b\x9b\u202e\u200b\u2028\U000e0041")


def test_readable_names_stay_readable() -> None:
    assert "Zoë 日本 😀" in to_json(replace(PLAN, adopts=(replace(ADA, name="Zoë 日本 😀"),)))


def test_a_saved_plan_comes_back_with_all_that_it_does(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(to_json(PLAN), encoding="utf-8")
    read = read_saved(load_saved(path), "plan.json")
    assert read.id == PLAN.id
    assert read.source == SOURCE
    assert read.generated_at == PLAN.generated_at
    assert read.effects == PLAN.effects
    assert read.operations == PLAN.operations


def test_keys_of_a_later_version_are_no_obstacle(tmp_path: Path) -> None:
    assert read_saved(load_saved(saved(tmp_path / "plan.json", extra={"a": 1})), "plan.json").id == PLAN.id


def tampered(index: int, **changes: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = to_document(PLAN)["operations"]
    rows[index].update(changes)
    return rows


@pytest.mark.parametrize(
    "operations",
    [
        [],
        to_document(PLAN)["operations"] * 2,
        tampered(0, teams={"add": [], "remove": []}),
        tampered(0, changes=[{"attribute": "displayName", "from": None, "to": "Mallory"}]),
        tampered(1, subject={"type": "user", "name": "new@example.com", "jumpcloud_id": "j-mallory"}),
        tampered(1, kind="deactivate_user"),
    ],
)
def test_a_plan_that_was_changed_is_refused(tmp_path: Path, operations: list[Any]) -> None:
    with pytest.raises(SavedPlanError, match="was changed since it was saved"):
        load_saved(saved(tmp_path / "plan.json", operations=operations))


def test_another_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SavedPlanError, match="was changed since it was saved"):
        load_saved(saved(tmp_path / "plan.json", id="0" * 16))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"version": 2}, "version"),
        ({"generated_at": "2026-11-23T10:00:00"}, "generated_at"),
        ({"source": {"organization": "org"}}, "source.application"),
        ({"operations": tampered(0, kind="delete_user")}, "operations.0.kind"),
        ({"operations": tampered(0, sent="yes")}, "operations.0.sent"),
        ({"operations": {}}, "operations"),
    ],
)
def test_another_format_is_refused_with_the_place(tmp_path: Path, changes: dict[str, Any], where: str) -> None:
    with pytest.raises(SavedPlanError) as caught:
        load_saved(saved(tmp_path / "plan.json", **changes))
    assert f"({where}" in str(caught.value)
    assert "nothing was applied" in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"not JSON", b"\xff\xfe", b"[]", b"null", b'{"version": 1', b"[" * 100_000, b'{"a":' * 100_000]
)
def test_what_is_no_plan_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(SavedPlanError, match="is no plan"):
        load_saved(path)


def test_a_file_that_is_not_there_or_is_a_directory(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(SavedPlanError, match="can't be read"):
            load_saved(path)


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "plan.json")
    monkeypatch.setattr(document, "MAX_BYTES", path.stat().st_size)
    assert load_saved(path)
    monkeypatch.setattr(document, "MAX_BYTES", path.stat().st_size - 1)
    with pytest.raises(SavedPlanError, match="too large"):
        load_saved(path)


def test_the_held_effects_of_a_recorded_plan() -> None:
    assert held_effects(to_json(PLAN)) == CREATE.effects()
    assert held_effects(None) == frozenset()


def test_a_saved_plan_for_elsewhere_says_what_to_do_however_long_its_names_are(tmp_path: Path) -> None:
    elsewhere = {**to_document(PLAN)["source"], "keeper": SOURCE.keeper * 1000}
    plan = read_saved(load_saved(saved(tmp_path / "plan.json", source=elsewhere)), "plan.json")
    with pytest.raises(SavedPlanError, match="Make a new one") as error:
        plan.check("org", "app", SOURCE.keeper)
    assert len(str(error.value)) < 1000
