"""The HTML of a plan: complete, apart from the world, and the same whatever people are called."""

import hashlib
from base64 import b64encode
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.plan import Plan
from reconciler.report.html import Ran, render
from reconciler.report.terminal import clean
from tests.plans import HOSTILE, accident, everything, takeover


class Read(HTMLParser):
    """The elements and attributes of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.words: list[str] = []
        self.inside = ""
        self.raw: dict[str, str] = {}
        self.feed(page)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(attrs)))
        self.inside = tag

    def handle_endtag(self, _tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside in ("style", "script"):
            self.raw[self.inside] = data
        else:
            self.words.append(data)

    def attribute(self, name: str) -> list[str]:
        return [value or "" for _, attrs in self.elements for key, value in attrs if key == name]


def shape(page: str) -> list[tuple[str, tuple[str, ...]]]:
    """The elements with the names of their attributes: what a name must not change."""
    return [(tag, tuple(key for key, _ in attrs)) for tag, attrs in Read(page).elements]


def policy(page: str) -> dict[str, str]:
    metas = [dict(attrs) for tag, attrs in Read(page).elements if tag == "meta"]
    content = next(meta["content"] for meta in metas if meta.get("http-equiv") == "Content-Security-Policy")
    assert content
    return dict(part.strip().split(" ", 1) for part in content.split(";"))


@pytest.mark.parametrize("plan", [accident(), takeover(), everything("Ada")])
def test_the_policy_allows_the_style_and_the_script_of_the_page_and_nothing_else(plan: Plan) -> None:
    page = render(plan)
    raw = Read(page).raw
    hashes = {
        name: f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for name, text in raw.items()
    }
    assert policy(page) == {
        "default-src": "'none'",
        "style-src": hashes["style"],
        "script-src": hashes["script"],
        "base-uri": "'none'",
        "form-action": "'none'",
    }


@pytest.mark.parametrize("plan", [accident(), takeover(), everything("https://evil.example/")])
def test_nothing_comes_from_elsewhere(plan: Plan) -> None:
    read = Read(render(plan))
    assert not {tag for tag, _ in read.elements} & {"link", "img", "iframe", "object", "embed", "base"}
    assert not read.attribute("src")
    assert not read.attribute("style")
    assert not [name for _, attrs in read.elements for name, _ in attrs if name.startswith("on")]
    assert all(target.startswith("#") for target in read.attribute("href"))
    assert "url(" not in read.raw["style"]
    assert "@import" not in read.raw["style"]


def test_every_anchor_leads_somewhere_and_no_id_stands_twice() -> None:
    for plan in (accident(), takeover(), everything("Ada")):
        read = Read(render(plan))
        ids = read.attribute("id")
        assert len(ids) == len(set(ids))
        assert {target[1:] for target in read.attribute("href")} <= set(ids)
        assert set(read.attribute("aria-labelledby")) <= set(ids)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_changes_the_structure(name: str) -> None:
    page = render(everything(name), tenant=name, ran=Ran([("By", name)], {0: ("failed", name)}, name))
    benign = render(everything("Ada"), tenant="Ada", ran=Ran([("By", "Ada")], {0: ("failed", "Ada")}, "Ada"))
    assert shape(page) == shape(benign)
    page.encode()
    assert " ".join(clean(name, 600).split()) in Read(page).text
    assert not any(c in page for c in "\x1b\x07\u202e\u2066\u200b\u2028")


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=60).map(lambda text: text + "<"))  # no word that the reports know
def test_no_name_at_all_changes_the_structure(name: str) -> None:
    assert shape(render(everything(name))) == shape(render(everything("Ada")))


def test_a_held_plan_says_what_happened_to_whom_what_to_check_and_what_to_type() -> None:
    plan = accident()
    text = Read(render(plan)).text
    expected = [
        "HELD: nothing will be sent.",
        "40 people would be locked of 200 active; allowed are 4 (2%).",
        "40 Lock people all held",
        "JumpCloud now says that 2 people and 0 groups are in the application's scope.",
        "Keeper is as it was: nobody has lost or gained anything.",
        "40 people would be locked out of Keeper (40 no longer bound to the application in JumpCloud):",
        "person000@example.com",
        "and 34 more",
        "Check in JumpCloud that these people really left",
        f"reconciler release {plan.id}",
        "If it was a mistake, put it right in JumpCloud.",
    ]
    places = [text.find(words) for words in expected]
    assert -1 not in places, [words for words in expected if words not in text]
    assert places == sorted(places)


def test_drift_stands_apart_and_after() -> None:
    text = Read(render(takeover())).text
    assert "1 of these changed in Keeper behind our back" in text
    apart = text.rindex("People, changed in Keeper behind our back")
    assert text.rindex("ada@example.com changed in JumpCloud") < apart < text.index("bob@example.com changed in Keeper")


def test_whom_an_adopted_team_would_newly_give_access_comes_first() -> None:
    text = Read(render(takeover())).text
    teams = text[text.rindex("Membership by team") :]
    assert teams.index("Engineering taken over +1 −1") < teams.index("Sales new +1")
    assert "takes over: who gains it sees what is shared with it. Newly get access 1 ada@example.com" in teams
    assert "Lose access 1 bob@example.com" in teams


def test_limits_are_bars_with_the_part_that_is_used() -> None:
    page = render(accident(people=40))
    assert '<rect class="planned" x="0.00" width="100.00" height="10"/><rect class="mark" x="10.00"' in page
    assert "0 used + 40 planned, allowed 4 over the limit" in Read(page).text
    assert "over the limit" not in Read(render(everything("Ada"))).text.replace("over the limit", "", 1)


def test_a_run_says_what_became_of_each_operation() -> None:
    plan = takeover()
    results = {0: ("done", ""), 1: ("done", ""), 2: ("failed", "Keeper says no"), 3: ("unknown", "cut off")}
    text = Read(render(plan, ran=Ran([("Asked by", "ann")], results, "the token was refused"))).text
    assert "Applied in part: 2 done, 1 failed, 1 without a known outcome." in text
    assert "Stopped: the token was refused" in text
    assert "ada@example.com failed changed in JumpCloud Keeper says no" in text
    assert "bob@example.com outcome unknown" in text
    assert "Asked by ann" in text


def test_a_run_that_was_held_speaks_of_what_was() -> None:
    assert "HELD: nothing was sent." in Read(render(accident(), ran=Ran([], {}))).text
