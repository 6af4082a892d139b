"""What an administrator reads: the verdict first, everything harmless, nothing wider than the terminal."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.cells import cell_len

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
from reconciler.report import html, markdown
from reconciler.report.terminal import clean, wrapped
from reconciler.report.text import MOST, render, render_run
from tests.plans import takeover

REASON = "40 people would be locked of 200 active; allowed are 4 (2%)"
SAVE = ["  reconciler plan --save plan.json", "  reconciler apply --plan plan.json"]


def person(name: str) -> Subject:
    return Subject("user", name, f"j-{name}", f"k-{name}")


def op(kind: Kind, name: str = "ada@example.com", cause: Cause = Cause.JUMPCLOUD, **values: Any) -> Operation:
    rule = Rule.JOINED if cause is Cause.JUMPCLOUD else Rule.RESTORED
    return Operation(kind, person(name), cause, rule, "a reason", **values)


def plan(*operations: Operation, **values: Any) -> Plan:
    source = Source("org", "app", "Keeper", "https://keeper.example/scim/v2/1")
    return Plan("cycle", datetime(2026, 11, 23, tzinfo=UTC), source, Scope(812, 31, 4100), operations, **values)


def text(made: Plan, width: int = 100) -> str:
    return render(made, width=width, colour=False)


def verdict(made: Plan) -> str:
    return text(made, 1000).splitlines()[0]


# -- the verdict


def test_nothing_to_do() -> None:
    assert text(plan()) == "Nothing to do: 812 people and 31 teams in scope are in line."


def test_who_is_in_scope_and_not_in_line_is_not_said_to_be() -> None:
    conflict = Notice(NoticeKind.CONFLICT, person("b"), "why")
    locked = Notice(NoticeKind.LOCKED_IN_KEEPER, person("c"), "why")
    waits = Notice(NoticeKind.WAITING_FOR_APPROVAL, person("d"), "why")
    made = plan(notices=(conflict, conflict, locked, waits))
    assert verdict(made).startswith("Nothing to do: 812 people and 31 teams in scope; 2 people are not in line. ")
    assert "are in line." in verdict(plan(notices=(waits,)))
    for kind in (NoticeKind.PROTECTED, NoticeKind.UNMANAGED):
        assert "; 1 person is not in line." in verdict(plan(notices=(Notice(kind, person("e"), "why"),)))


@pytest.mark.parametrize(
    ("unread", "said"),
    [
        (("users",), "list of users. Nothing to do: 31 teams in scope; 1 finding is not in line."),
        (("user groups",), "list of user groups. Nothing to do: 812 people in scope; 1 finding is not in line."),
        (("groups in scope",), "list of groups in scope. Nothing to do: 812 people in scope; 1 finding"),
        (("user groups", "users"), "list of user groups and list of users. Nothing to do: 1 finding is not in line."),
    ],
)
def test_a_list_that_could_not_be_read_is_named_first_and_is_no_number(unread: tuple[str, ...], said: str) -> None:
    made = plan(notices=(Notice(NoticeKind.QUARANTINED, Subject("list", unread[0]), "why"),))
    made = replace(made, scope=replace(made.scope, unread=unread))
    assert verdict(made).startswith(f"NOT READ: JumpCloud's {said}")
    locks = replace(made, operations=(op(Kind.DEACTIVATE_USER),))
    assert verdict(locks).startswith("NOT READ: ")
    assert render_run(locks, {0: ("done", "")}, width=1000, colour=False).startswith("NOT READ: ")


def test_nothing_to_do_still_points_at_notices_and_adoptions() -> None:
    made = plan(adopts=(person("a"),), notices=(Notice(NoticeKind.CONFLICT, person("b"), "why"),))
    assert verdict(made).endswith("1 is adopted as found. To know: 1 notice below.")


def test_the_amounts_with_what_hurts_first() -> None:
    made = plan(op(Kind.CREATE_USER, "a"), op(Kind.CREATE_USER, "b"), op(Kind.DEACTIVATE_USER), op(Kind.QUEUE_TEAM))
    assert verdict(made).startswith("The plan: lock 1 person, create 2 people, queue 1 team.")


def test_a_whole_hold_says_so_first_and_gives_the_numbers_and_the_command() -> None:
    made = plan(op(Kind.DEACTIVATE_USER, sent=False), held=(Held("max_deactivations", (0,), 4, 40, REASON),))
    assert verdict(made).startswith(f"HELD: nothing will be sent. {REASON}.")
    assert f"  reconciler release {made.id}" in text(made, 30).splitlines()
    assert SAVE[0] not in text(made)
    assert "Check in JumpCloud that these people really left" in text(made)
    other = render(made, width=100, colour=False, release_command="reconciler release --config a.toml")
    assert f"  reconciler release --config a.toml {made.id}" in other.splitlines()


def test_a_hold_in_part_says_what_goes_and_what_waits() -> None:
    made = plan(
        op(Kind.DEACTIVATE_USER, "leaver"),
        op(Kind.CREATE_USER, "held", sent=False),
        op(Kind.CREATE_USER, "put off", sent=False),
        held=(Held("max_creations", (1,), 0, 1, "1 would be created"),),
    )
    assert verdict(made).startswith(
        "HELD in part. The plan: lock 1 person; 1 waits for a person; 1 more is not sent this time."
    )
    lines = text(made).splitlines()
    assert "    [held] held: a reason" in lines
    assert "    [not sent] put off: a reason" in lines
    assert "    leaver: a reason" in lines


def test_every_hold_gives_its_reason() -> None:
    operations = (op(Kind.DEACTIVATE_USER, sent=False), op(Kind.UPDATE_USER, sent=False))
    held = (Held("max_deactivations", (0, 1), 4, 40, REASON), Held("max_removals", (0, 1), 1, 2, "2 lose a team"))
    shown = text(plan(*operations, held=held), 1000)
    assert f"HELD: nothing will be sent. {REASON}. [max_deactivations, 2 held]" in shown
    assert "Also: 2 lose a team. [max_removals, 2 held]" in shown
    shown = text(plan(op(Kind.REACTIVATE_USER), *operations, held=held), 1000)
    assert f"Why: {REASON}. [max_deactivations, 2 held]" in shown
    assert "Why: 2 lose a team. [max_removals, 2 held]" in shown


def test_a_first_plan_is_saved_and_applied_or_released() -> None:
    made = plan(op(Kind.CREATE_USER, sent=False), held=(Held("first_run", (0,), 0, 1, "the first plan is yours"),))
    assert verdict(made) == "HELD: nothing will be sent. The first plan is yours. [first_run, 1 held]"
    lines = text(made, 40).splitlines()
    assert "The plan: create 1 person." in lines
    assert [line for line in lines if line in SAVE] == SAVE
    assert f"  reconciler release {made.id}" in lines


def test_a_first_plan_speaks_of_locks_only_where_it_has_some() -> None:
    held = (Held("first_run", (0,), 0, 1, "the first plan is yours"),)
    with_lock = text(plan(op(Kind.DEACTIVATE_USER, sent=False), held=held))
    assert "Check in JumpCloud that the scope is what you expect, above all whoever is under Lock." in " ".join(
        with_lock.split()
    )
    assert "under Lock" not in text(plan(op(Kind.CREATE_USER, sent=False), held=held))


def test_a_pause_comes_before_a_limit() -> None:
    held = (Held("max_removals", (0,), 0, 1, "too many"), Held("paused", (0,), 0, 1, "paused by ann"))
    made = plan(op(Kind.DEACTIVATE_USER, sent=False), held=held)
    shown = " ".join(text(made).split())
    assert shown.startswith("PAUSED: nothing will be sent. Paused by ann. [paused, 1 held]")
    assert "Also: Too many. [max_removals, 1 held]" in shown


def test_a_pause_is_ended_by_resume_and_asks_for_nothing_else() -> None:
    made = plan(op(Kind.CREATE_USER, sent=False), held=(Held("paused", (0,), 0, 1, "all writes were paused by ann"),))
    assert verdict(made) == "PAUSED: nothing will be sent. All writes were paused by ann. [paused, 1 held]"
    assert "  reconciler resume" in text(made).splitlines()
    assert "Check in JumpCloud" not in text(made)
    assert "reconciler release" not in text(made)


def test_a_pause_on_top_of_a_hold_leaves_the_hold_to_be_released() -> None:
    held = (Held("max_creations", (0,), 0, 1, "too many"), Held("paused", (0,), 0, 1, "paused by ann"))
    lines = text(plan(op(Kind.CREATE_USER, sent=False), held=held)).splitlines()
    assert "  reconciler resume" in lines
    assert any(line.startswith("  reconciler release ") for line in lines)


def test_what_is_not_sent_without_a_hold() -> None:
    assert verdict(plan(op(Kind.CREATE_USER, sent=False))).startswith("Nothing will be sent: create 1 person only")


# -- the rest


def test_nobody_who_is_changed_is_said_to_be_adopted_as_they_are() -> None:
    changed = op(Kind.UPDATE_USER, changes=(Change("displayName", "Old", "Ada"),))
    made = plan(changed, adopts=(changed.subject,))
    for shown in (text(made), render_run(made, {}, width=100, colour=False), markdown.render(made), html.render(made)):
        assert "Already in Keeper, adopted" in shown
        assert "as they are" not in shown


def test_the_order_of_the_sections() -> None:
    made = plan(
        op(Kind.CREATE_USER, "new"),
        op(Kind.UPDATE_USER, "drifted", Cause.DRIFT),
        op(Kind.DEACTIVATE_USER, "leaver"),
        op(Kind.QUEUE_TEAM, "team"),
        adopts=tuple(person(f"adopted{n}") for n in range(12)),
        limits=(LimitUse("max_creations", 5, 1, 4),),
        notices=(Notice(NoticeKind.GHOST, person("ghost"), "is there"),),
    )
    shown = text(made)
    expected = [
        "Lock (1)",
        "Create (1)",
        "behind our back",
        "drifted:",
        "Teams",
        "Queue (1)",
        "Already in Keeper, adopted (12): adopted0,",
        "and 2 more",
        "max_creations: 1 used + 4 planned, allowed 5",
        "In Keeper, not in scope, not managed (1)",
        "ghost: is there",
    ]
    places = [shown.find(words) for words in expected]
    assert -1 not in places
    assert places == sorted(places)


def test_changes_and_teams_of_a_person() -> None:
    made = plan(
        op(
            Kind.UPDATE_USER,
            changes=(Change("name.givenName", "A", "Ada"), Change("displayName", "", "Ada L")),
            add=(TeamRef("Eng", "j"),),
            remove=(TeamRef("Sales", "s"),),
        )
    )
    assert "(name.givenName A → Ada; displayName (none) → Ada L; +Eng; −Sales)" in text(made)


def test_a_new_person_is_shown_by_name() -> None:
    changes = (Change("userName", "", "ada@example.com"), Change("displayName", "", "Ada L"))
    assert "ada@example.com: a reason (Ada L)" in text(plan(op(Kind.CREATE_USER, changes=changes)))


def test_long_lists_are_cut_with_a_number() -> None:
    made = plan(*(op(Kind.CREATE_USER, f"u{n}") for n in range(MOST + 7)))
    shown = text(made)
    assert f"u{MOST - 1}:" in shown
    assert f"u{MOST}:" not in shown
    assert "… and 7 more (all of them: --format json)" in shown


def test_what_is_said_of_many_is_said_once() -> None:
    grace = [
        Notice(NoticeKind.IN_GRACE, person(f"u{n}"), "left at noon; will be locked (policy.grace)") for n in range(14)
    ]
    other = Notice(NoticeKind.IN_GRACE, person("late"), "left at one")
    made = plan(notices=(*grace, other))
    shown = " ".join(text(made).split())
    assert "Out of scope, still in grace (15)" in shown
    assert "14 people (u0, u1, u2, u3, u4, u5, u6, u7, u8, u9 and 4 more): left at noon; will be locked" in shown
    assert shown.count("policy.grace") == 2  # and once in the verdict
    assert "late: left at one" in shown
    assert "14 people (`u0`, `u1`" in markdown.render(made)
    page = html.render(made)
    assert page.count("left at noon") == 1
    assert "<bdi>u13</bdi>" in page  # all of them: one looks for a name in it


@pytest.mark.parametrize("kind", NoticeKind)
def test_every_kind_of_notice_is_shown(kind: NoticeKind) -> None:
    assert "who: what to do" in text(plan(notices=(Notice(kind, person("who"), "what to do"),)))


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_of_operation_is_shown(kind: Kind) -> None:
    assert "who: a reason" in text(plan(op(kind, "who")))


NASTY = [
    "\x1b[31mred\x1b[0m",
    "\x9b2J",
    "\u202egnp.exe",
    "a\u2028b",
    "\u200b" * 5,
    "\ud800",
    "日本語の名前" * 40,
    "x" * 1000,
]


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("width", [1, 20, 41, 100])
def test_any_name_fits_any_width_and_is_harmless(name: str, width: int) -> None:
    made = plan(
        op(
            Kind.UPDATE_USER,
            name,
            changes=(Change("displayName", name, name),),
            add=(TeamRef(name, "t"),),
            remove=(TeamRef(name, "r"),),
        ),
        adopts=(person(name),),
        notices=(Notice(NoticeKind.CONFLICT, person(name), name),),
    )
    outcome = render_run(made, {0: ("failed", name)}, width=width, colour=False)
    shown = text(made, width) + "\n" + outcome
    assert all(cell_len(line) <= max(width, 20) for line in shown.splitlines())
    assert all(line.isprintable() for line in shown.split("\n"))


def test_the_same_plan_gives_the_same_text() -> None:
    made = plan(op(Kind.CREATE_USER), op(Kind.DEACTIVATE_USER))
    assert text(made) == text(replace(made))


def test_colour_only_where_it_is_wanted() -> None:
    made = plan(op(Kind.DEACTIVATE_USER))
    assert "\x1b" not in text(made)
    assert render(made, width=100, colour=True).startswith("\x1b[")


# -- after an apply


def test_all_done() -> None:
    made = plan(op(Kind.CREATE_USER, "a"), op(Kind.CREATE_USER, "b"))
    shown = render_run(made, {0: ("done", ""), 1: ("done", "")}, width=80, colour=False)
    assert shown.startswith("Done: 2 operations. Create 2 people.")
    assert "Limits" not in shown
    assert render_run(made, {0: ("done", "")}, width=80, colour=False).startswith("Done: 1 operation.")


def test_done_in_part_names_what_is_not_done_and_why() -> None:
    made = plan(*(op(Kind.CREATE_USER, f"u{n}") for n in range(4)))
    results = {0: ("done", ""), 1: ("put_off", "no seat"), 2: ("failed", "Keeper says no"), 3: ("unknown", "cut off")}
    shown = render_run(made, results, width=120, colour=False).splitlines()
    assert shown[0].startswith("Applied in part: 1 done, 1 failed, 1 without a known outcome, 1 put off.")
    assert shown[1:4] == [
        "  u2: create: failed. Keeper says no",
        "  u3: create: without a known outcome. cut off",
        "  u1: create: put off. no seat",
    ]
    assert "    u0: a reason" in shown
    assert "    [failed] u2: a reason" in shown


def test_what_came_of_many_in_the_same_words_is_said_once() -> None:
    """A throttled lay-off, or a run that had lasted long enough, filled pages, and hid whatever else had failed."""
    made = plan(*(op(Kind.DEACTIVATE_USER, f"u{n}") for n in range(14)), op(Kind.CREATE_USER, "v"))
    results = {n: ("put_off", f"u{n} was not locked: the service asks to wait") for n in range(13)}
    results |= {13: ("put_off", "u13 was not locked: cut off"), 14: ("put_off", "no seat")}
    shown = render_run(made, results, width=300, colour=False).splitlines()
    names = ", ".join(f"u{n}" for n in range(10))
    assert shown[1:4] == [
        f"  13 people ({names} and 3 more): lock: put off. Each was not locked: the service asks to wait",
        "  u13: lock: put off. u13 was not locked: cut off",
        "  v: create: put off. no seat",
    ]
    assert "    [put off] u12: a reason" in shown, "each is named below"


def test_who_keeps_failing_is_the_first_line_also_while_nothing_is_sent() -> None:
    made = plan(
        *(replace(op(Kind.REACTIVATE_USER, f"u{n}"), sent=False) for n in range(3)),
        replace(op(Kind.CREATE_USER, "v"), sent=False),
        op(Kind.UPDATE_USER, "w"),
    )
    failing = [Notice(NoticeKind.FAILING, one.subject, "failed 4 times") for one in made.operations]
    made = replace(made, notices=tuple(failing))
    head = "FAILING for {}: 3 in scope and locked, 1 in scope without an account"
    assert render(made, width=120, colour=False).startswith(head.format("5 people") + ", 1 with changes not made. ")
    for results in ({}, {4: ("done", "")}):
        shown = render_run(made, results, width=120, colour=False)
        assert shown.startswith(head.format("4 people" if results else "5 people"))


def test_nothing_done_is_not_called_done_in_part() -> None:
    shown = render_run(plan(op(Kind.CREATE_USER)), {0: ("failed", "no")}, width=80, colour=False)
    assert shown.startswith("None of it is known to be done: 1 failed.")


# -- one string


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31m", r"\x1b[31m"),
        ("a\r\nb\tc", r"a\x0d b c"),
        ("\x7f\x9b", r"\x7f\x9b"),
        ("\u202e\u2066\u200f", r"\u202e\u2066\u200f"),
        ("ad\u200bmin\u200d", r"ad\u200bmin\u200d"),
        ("a\u200db", r"a\u200db"),
        ("\u2028\u2029\ufeff\xad", r"\u2028\u2029\ufeff\xad"),
        ("\ud800", r"\ud800"),
        ("\u3164", r"\u3164"),
        ("a\U000e0041", r"a\U000e0041"),
        ("\U0001ffff", r"\U0001ffff"),
    ],
)
def test_what_is_not_seen_is_made_visible(raw: str, shown: str) -> None:
    assert clean(raw) == shown


@pytest.mark.parametrize(
    "name",
    [
        "Zoë Ågren",
        "日本 太郎",
        "עברית",
        "محمد",
        "می\u200cخواهم",
        "ශ්\u200dරී",
        "👨\u200d👩\u200d👧",
        "👩🏽\u200d💻",
        "❤\ufe0f\u200d🔥",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "\U0001fae8",
    ],
)
def test_scripts_and_emoji_stay(name: str) -> None:
    assert clean(name) == name


def test_a_long_name_is_cut_to_columns() -> None:
    assert clean("x" * 1000, 10) == "x" * 9 + "…"
    assert clean("x" * 10, 10) == "x" * 10
    assert cell_len(clean("日" * 1000, 10)) <= 10
    assert len(clean("e" + "\u0301" * 100_000, 10)) < 50


def test_lines_hang_and_cut_what_fits_none() -> None:
    assert wrapped("one two three", 9, "  ") == ["  one two", "    three"]
    assert wrapped("x" * 12, 8) == ["x" * 6, "  " + "x" * 6]
    assert wrapped("", 8) == []


def test_a_hold_of_the_whole_plan_and_one_of_a_part_do_not_contradict_each_other() -> None:
    locks = [op(Kind.DEACTIVATE_USER, f"u{number}@example.com", sent=False) for number in range(2)]
    whole = Held("max_deactivations", (0,), 0, 1, REASON)
    part = Held("hidden", (1,), 0, 1, "their records are missing")
    both = text(plan(*locks, held=(whole, part)))
    assert both.count("What it means:") == 1 and "puts the whole read in doubt" in both
    assert "Only what is marked [held] waits" in text(plan(*locks, held=(part,)))


def test_membership_is_told_by_team_too_the_team_that_is_taken_over_first() -> None:
    shown = text(takeover())
    assert "\n".join(shown.splitlines()[-3:]) == (
        "Membership by team (2)\n"
        "  Engineering [taken over] +1: ada@example.com; −1: bob@example.com\n"
        "  Sales [new] +1: bob@example.com"
    )
    rows = markdown.render(takeover())
    assert "| `Engineering` **[taken over]** | 1: `ada@example.com` | 1: `bob@example.com` |" in rows
    assert "| `Sales` **[new]** | 1: `bob@example.com` |  |" in rows
