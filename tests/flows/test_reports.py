"""Plans and runs as reports, through the real command line."""

import json
import stat

from jsonschema import Draft202012Validator

from reconciler.simulator.faults import status
from tests.stage import World


def fill(world: World, people: int = 12) -> list[str]:
    groups = [world.group("Engineering"), world.group("Sales & <b>Co</b>")]
    return [world.person(f"p{n}", groups[n % 2]) for n in range(people)]


def test_a_plan_in_every_format(world: World) -> None:
    fill(world)
    schema = json.loads(world.run("plan", "--schema").stdout)
    Draft202012Validator(schema).validate(json.loads(world.run("plan", "--format", "json").stdout))
    html = world.run("plan", "--format", "html").stdout
    assert html.startswith("<!doctype html>")
    assert "Sales &amp; &lt;b&gt;Co&lt;/b&gt;" in html
    markdown = world.run("plan", "--format", "markdown").stdout
    assert "| Create people | 12 | 12 | 0 | 0 |" in markdown
    assert "`Sales & <b>Co</b>`" in markdown
    assert world.writes() == 0


def test_a_report_in_a_file_is_for_its_owner_only(world: World) -> None:
    fill(world, 2)
    done = world.run("plan", "--format", "html", "--output", "plan.html")
    assert done.stdout == ""
    assert done.stderr.startswith("The plan: ") or "HELD" in done.stderr
    assert "The report is in plan.html." in done.stderr
    saved = world.run("plan", "--save", "a plan.json", "--output", "plan.txt").stderr
    assert "The plan is saved in a plan.json. To apply just this: reconciler apply --plan 'a plan.json'" in saved
    path = world.folder / "plan.html"
    assert path.read_text().endswith("</html>\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "could not be written" in world.run("plan", "--format", "html", "--output", "no/where.html", expect=2).stderr


def test_the_schema_needs_no_settings(world: World) -> None:
    (world.folder / "config.toml").unlink()
    assert json.loads(world.run("plan", "--schema").stdout)["title"]


def test_every_run_that_changed_held_or_failed_something_has_a_report(world: World) -> None:
    people = fill(world)
    world.write_settings(report='[report]\ndirectory = "reports"\n')
    folder = world.folder / "reports"
    world.run("apply")
    world.run("apply")
    (done,) = folder.glob("*-done-*.html")
    assert "Done: 14 operations." in done.read_text()
    for one in people[:7]:
        world.jumpcloud.delete_user(one)
    world.jumpcloud.settle_graph()
    world.run("apply", expect=4)
    world.run("apply", expect=4)
    (held,) = folder.glob("*-held-*.html")
    assert "7 people would be locked out of Keeper (7 deleted in JumpCloud)" in held.read_text()
    world.front.faults.add(status(401))  # which is not tried again
    world.run("apply", expect=1)
    (failed,) = folder.glob("*-failed-*.html")
    assert "Nothing was sent to Keeper" in failed.read_text()
    index = (folder / "index.html").read_text()
    assert all(f'href="{path.name}"' in index for path in (done, held, failed))
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o640}


def test_a_report_that_can_not_be_written_changes_nothing_about_the_run(world: World) -> None:
    fill(world)
    world.write_settings(report='[report]\ndirectory = "reports"\n')
    (world.folder / "reports").write_text("a file")
    assert "could not be written" in world.run("apply").stderr
    assert world.differences() == []
