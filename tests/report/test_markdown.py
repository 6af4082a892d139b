"""Markdown for a ticket: what the plan says, and no name that is more than a name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reconciler.report import markdown
from reconciler.report.markdown import MOST, render
from reconciler.report.terminal import clean
from tests.plans import HOSTILE, accident, everything, takeover


def tags(text: str) -> list[str]:
    """The structure that a renderer sees, without the words."""
    found: list[str] = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        found.append(token.type)
        found += [child.type for child in token.children or () if child.type not in ("text", "softbreak")]
    return [kind for kind in found if kind != "text_special"]


def test_the_verdict_the_reason_the_checks_and_the_command_come_first() -> None:
    lines = render(accident(), tenant="North").splitlines()
    assert lines[0] == "## `North`: HELD: nothing will be sent."
    assert "40 people would be locked of 200 active" in lines[2]
    shown = "\n".join(lines[:20])
    assert "Check in JumpCloud that these people really left" in shown
    assert f"```sh\nreconciler release {accident().id}\n```" in shown


def test_long_tables_are_cut_with_a_number() -> None:
    text = render(accident(people=MOST + 15))
    assert f"person{MOST - 1:03}@" in text
    assert f"person{MOST:03}@" not in text
    assert "… and 15 more" in text


def test_amounts_changes_and_teams() -> None:
    text = render(takeover())
    assert "| Change people | 2 | 2 | 0 | 0 |" in text
    assert "Tied to JumpCloud id: none → `j-eng`" in text
    assert "+ `Sales`<br>− `Engineering`" in text
    assert "### People, changed in Keeper behind our back" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_changes_the_structure(name: str) -> None:
    assert tags(render(everything(name), tenant=name)) == tags(render(everything("Ada"), tenant="Ada"))


@given(st.text(max_size=40))
def test_a_name_is_one_code_span_in_one_cell(name: str) -> None:
    table = f"| a | b |\n| --- | --- |\n| {markdown._name(name)} | x |\n"
    assert tags(table) == tags("| a | b |\n| --- | --- |\n| `n` | x |\n")


@given(st.text(max_size=40))
def test_a_sentence_is_nothing_but_text(text: str) -> None:
    assert tags(f"| a |\n| --- |\n| x {markdown._text(clean(text))} |\n") == tags("| a |\n| --- |\n| x |\n")


@pytest.mark.parametrize("name", ["@here", "(@team)", "see @ada"])
def test_nobody_is_mentioned(name: str) -> None:
    assert "@" not in markdown._text(name)
    assert markdown._text("ada@example.com") == "ada@example.com"
