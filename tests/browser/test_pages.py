"""The reports as a browser shows them: accessible, filtered, followed, printed, and deaf to what names say."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from reconciler.plan import Plan
from reconciler.report import html
from reconciler.rows import State
from reconciler.store import Store
from tests.browser.conftest import Opened
from tests.plans import AT, HOSTILE, accident, everything, person, takeover
from tests.report.test_runs import DONE, MINUTE, Stage

Visit = Callable[..., Opened]
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}},
    "scripts off": {"java_script_enabled": False},
}
PLANS = {
    "held": accident(),
    "takeover": takeover(),
    "everything": everything("Ada <b>Lovelace</b>"),
    "long names": everything("x" * 500),
    "nothing": replace(takeover(), operations=()),
}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    with Store.open(tmp_path / "state.db", write=True) as store:
        made = Stage(tmp_path, store)
        made.run(takeover(), AT - 3 * MINUTE, "partial", (State.DONE, State.DONE, State.FAILED, State.UNKNOWN))
        made.run(takeover(), AT - 2 * MINUTE, "done", DONE)
        made.fail("JumpCloud does not answer", AT - MINUTE)
        made.run(accident(), AT)
    return made


def violations(opened: Opened) -> list[str]:
    return [f"{found['id']}: {found['nodes'][0]['html']}" for found in Axe().run(opened.page).response["violations"]]


def fits(opened: Opened) -> bool:
    return bool(opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_accessible_and_fits_and_asks_for_nothing(visit: Visit, name: str, look: str) -> None:
    opened = visit(html.render(PLANS[name], tenant="North"), **LOOKS[look])
    assert violations(opened) == []
    assert fits(opened)
    assert opened.complaints == []
    assert len(opened.requests) == 1


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_reports_of_runs_and_their_index_are_accessible_and_fit(visit: Visit, stage: Stage, look: str) -> None:
    for page in (stage.index, *(stage.page(n) for n in range(len(stage.names())))):
        opened = visit(page, **LOOKS[look])
        assert violations(opened) == []
        assert fits(opened)
        assert opened.complaints == []


def test_the_index_leads_to_the_reports_and_back(visit: Visit, stage: Stage) -> None:
    opened = visit("")
    opened.page.goto((stage.folder / "index.html").as_uri())
    opened.page.get_by_role("link", name="The report of this run").click()
    assert opened.page.locator("h1").inner_text() == "HELD: nothing was sent."
    opened.page.get_by_role("link", name="All runs").click()
    assert opened.page.title().startswith("Runs")


def test_search_and_filters_show_what_fits_and_nothing_else(visit: Visit) -> None:
    opened = visit(html.render(takeover()))
    assert opened.page.locator("#shown").inner_text() == "4 of 4 shown"
    opened.page.get_by_label("Search").fill("ADA changed")
    opened.page.get_by_text("1 of 4 shown").wait_for()
    assert opened.shown(".ops .row") == 1
    assert opened.shown(".ops .group") == 1
    opened.page.get_by_label("Search").fill("")
    opened.page.get_by_text("4 of 4 shown").wait_for()
    opened.page.get_by_label("What").select_option("queue_team")
    opened.page.get_by_text("1 of 4 shown").wait_for()
    assert opened.page.locator(".ops .row").locator("visible=true").inner_text().startswith("Sales")
    opened.page.get_by_label("What").select_option("")
    opened.page.get_by_text("4 of 4 shown").wait_for()


def test_held_operations_can_be_told_apart(visit: Visit) -> None:
    opened = visit(html.render(everything("Ada")))
    opened.page.get_by_label("State").select_option("held")
    opened.page.get_by_text("1 of 7 shown").wait_for()
    assert opened.page.locator(".ops .row").locator("visible=true").locator(".state").inner_text() == "held"


def test_a_link_shows_its_row_also_where_a_filter_hid_it(visit: Visit) -> None:
    opened = visit(html.render(takeover()))
    opened.page.get_by_label("What").select_option("queue_team")
    opened.page.get_by_text("1 of 4 shown").wait_for()
    opened.page.locator("#teams").get_by_role("link", name="ada@example.com").click()
    opened.page.get_by_text("4 of 4 shown").wait_for()
    opened.page.wait_for_function("""() => {
        const row = document.getElementById("op-2").getBoundingClientRect();
        return row.height > 0 && row.top >= 0 && row.bottom <= innerHeight;
    }""")


def test_the_number_in_the_summary_leads_to_the_people(visit: Visit) -> None:
    opened = visit(html.render(accident()))
    opened.page.get_by_role("link", name="40 Lock people").click()
    assert opened.page.url.endswith("#jumpcloud-deactivate_user")
    opened.page.wait_for_function(
        "() => { const t = document.querySelector(':target h3').getBoundingClientRect().top; return t >= 0 && t < 300 }"
    )


def test_without_scripts_everything_is_there_and_no_dead_control(visit: Visit) -> None:
    opened = visit(html.render(accident()), **LOOKS["scripts off"])
    assert opened.shown(".filter") == 0
    assert opened.shown(".ops .row") == 40
    opened = visit(html.render(takeover()), **LOOKS["scripts off"])
    opened.page.locator("summary", has_text="Sales").click()
    assert opened.page.locator("#teams").get_by_text("bob@example.com").last.is_visible()


def test_on_paper_everything_is_there_and_no_control(visit: Visit, tmp_path: Path) -> None:
    opened = visit(html.render(takeover()), color_scheme="dark")
    opened.page.emulate_media(media="print")
    assert opened.shown(".filter, nav") == 0
    closed = opened.page.locator("details:not([open]) .names li").first
    assert closed.evaluate("node => node.checkVisibility({contentVisibilityAuto: true}) && node.offsetHeight > 0")
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    opened.page.pdf(path=tmp_path / "plan.pdf")
    assert (tmp_path / "plan.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_does_anything(visit: Visit, name: str) -> None:
    page = html.render(everything(name), tenant=name, ran=html.Ran([("By", name)], {0: ("failed", name)}, name))
    opened = visit(page)
    opened.page.mouse.move(300, 300)
    assert "pwned" not in opened.page.evaluate("document.title").replace(name, "")
    assert opened.page.evaluate("document.querySelectorAll('img, iframe, [onload], [onerror], [onfocus]').length") == 0
    assert opened.page.evaluate("document.scripts.length") == 1
    assert opened.complaints == []
    assert len(opened.requests) == 1


def test_the_policy_stops_a_script_that_got_into_the_page_all_the_same(visit: Visit) -> None:
    page = html.render(accident())
    opened = visit(page.replace("</main>", "<script>window.got = 1</script><p onclick='window.got = 2'>x</p></main>"))
    opened.page.get_by_text("x", exact=True).click()
    assert opened.page.evaluate("window.got") is None
    assert any("Content Security Policy" in complaint for complaint in opened.complaints)


def large(number: int) -> Plan:
    template = accident(1).operations[0]
    operations = (replace(template, subject=person(f"person{n:05}@example.com", n)) for n in range(number))
    return replace(accident(1), operations=tuple(operations))


def test_ten_thousand_operations_open_and_filter(visit: Visit) -> None:
    """The ceilings are some ten times what an idle laptop needs: they catch what grows with the square."""
    began = time.monotonic()
    opened = visit(html.render(large(10_000)))
    assert opened.page.locator("#shown").inner_text() == "10000 of 10000 shown"
    assert time.monotonic() - began < 20
    slowest = opened.page.evaluate("""async () => {
        const search = document.getElementById("q");
        let slowest = 0;
        for (const text of ["p", "pe", "person0", "person01", "person0123", ""]) {
            search.value = text;
            search.dispatchEvent(new InputEvent("input", {bubbles: true}));
            await new Promise((done) => setTimeout(done, 50));
            const began = performance.now();
            await new Promise((done) => setTimeout(() => requestAnimationFrame(() => setTimeout(done)), 20));
            slowest = Math.max(slowest, performance.now() - began);
        }
        return slowest;
    }""")
    assert slowest < 3000
    opened.page.get_by_label("Search").fill("person01234")
    opened.page.get_by_text("1 of 10000 shown").wait_for()
    opened.page.evaluate("location.hash = '#op-9000'")
    opened.page.wait_for_function("""() => {
        const row = document.getElementById("op-9000").getBoundingClientRect();
        return row.height > 0 && row.top >= 0 && row.bottom <= innerHeight;
    }""")
