"""What the fuzzing found, each as a plain case; and that it can find anything at all."""

import json
import random
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.config import SettingsError, load
from reconciler.confirm import Confirmation, Finding
from reconciler.evidence_age import Stamp
from reconciler.exits import explained
from reconciler.jumpcloud import JumpCloudError
from reconciler.plan import Operation
from reconciler.simulator.faults import Instead, endless
from reconciler.simulator.service import Request, Response
from reconciler.store import Damaged, StateError, Store
from tests.fuzz.mutate import byte_variation, json_variation
from tests.fuzz.office import Office, plainly
from tests.fuzz.replies import bomb
from tests.stage import World


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    made = Office(tmp_path_factory.mktemp("fuzz") / "office")
    yield made
    made.loop.close()


def with_reply(office: Office, scene: str, path: str, change: Callable[[Response], Response]) -> Any:
    """What comes of a scene in which each reply to this path is another one."""

    async def answer(service: str, asked: Request, response: Response) -> httpx.Response:
        return await plainly(service, asked, change(response) if path in asked.target else response)

    return office.run(office.scenes[scene], answer)


def test_an_external_id_that_utf8_cannot_spell_stops_nobody(office: Office) -> None:
    def change(response: Response) -> Response:
        document = json.loads(response.body)
        for row in document["Resources"][1:2]:
            row["externalId"] = "a\ud800"
        return Response.of_json(200, document)

    assert with_reply(office, "resync", "/Users?", change).result == "done"


def test_a_total_of_five_thousand_digits_counts_as_none(office: Office) -> None:
    def change(response: Response) -> Response:
        return Response(200, {**response.headers, "x-total-count": "9" * 5_000}, response.body)

    found = with_reply(office, "cycle", f"{office.application}/users?", change)
    assert found.plan == office.run(office.scenes["cycle"], plainly).plan


def test_an_organisation_is_known_by_an_id(office: Office) -> None:
    def change(response: Response) -> Response:
        document = json.loads(response.body)
        for row in document["results"]:
            row["organization"] = "\x1b[2J" * 10_000
        return Response.of_json(200, document)

    with pytest.raises(JumpCloudError, match="not as documented"):
        with_reply(office, "first", "/api/applications", change)
    # Later it is on record.
    found = with_reply(office, "cycle", "/api/applications", change)
    assert found.plan.source.organization == office.run(office.scenes["cycle"], plainly).plan.source.organization


@pytest.mark.parametrize(
    "text",
    ["tenant = 0x" + "f" * 5_000, "a." * 400_000 + "b = 1", "\n".join(f"k{n} = 1" for n in range(40_000))],
    ids=["a number that can't be printed", "a key of many parts", "many unknown keys"],
)
def test_settings_of_a_great_many_of_anything_are_refused_briefly(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    began = time.process_time()
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert len(str(caught.value)) < 9_000
    assert time.process_time() - began < 10


def spoilt(office: Office, script: str) -> Exception:
    """How a cycle ends for which the state file was changed so."""
    office.begin(office.scenes["cycle"])
    connection = sqlite3.connect(office.path)
    connection.executescript(script)
    connection.close()
    with pytest.raises(StateError) as caught:
        office.run(office.scenes["cycle"], begin=False)
    assert not office.keeper.changes
    return caught.value


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TRIGGER evil AFTER INSERT ON operations BEGIN DELETE FROM operations; END",
        "ALTER TABLE meta RENAME TO r; CREATE VIEW meta AS SELECT key, value FROM r",
        "PRAGMA user_version = -1",
        "PRAGMA user_version = 0",
        "UPDATE users SET shown = CAST(x'61ff62' AS TEXT)",
        "UPDATE users SET left_at = '2026-03-02T08:00:00'",
        """UPDATE users SET shown = '{"userName": 5}'""",
        "UPDATE teams SET asked = '[]'",
        "INSERT INTO meta VALUES ('former_operations', '99999999999999999999')",
        "INSERT INTO requests VALUES (NULL, 'release', '{}', 'x', '2026-03-02T08:00:00Z', '', NULL, 'open', NULL, '', NULL)",
        "CREATE TABLE m AS SELECT * FROM meta; DROP TABLE meta; ALTER TABLE m RENAME TO meta; UPDATE meta SET key = 'x'",
    ],
)
def test_a_state_file_that_was_tampered_with_is_damaged(office: Office, script: str) -> None:
    assert isinstance(spoilt(office, script), Damaged)


def test_a_state_file_that_is_a_link_to_itself(office: Office) -> None:
    office.begin(office.scenes["cycle"])
    office.path.unlink()
    office.path.symlink_to(office.path.name)
    with pytest.raises(StateError):
        Store.open(office.path, write=False)


def test_what_the_state_file_says_is_made_harmless_before_it_is_shown(office: Office) -> None:
    error = spoilt(
        office, """UPDATE meta SET value = replace(value, '"keeper":"', '"keeper":"\x1b[2J') WHERE key = 'binding'"""
    )
    found = explained(error)
    assert found is not None and "\x1b" not in found[1]


def test_trusting_a_list_without_asking_again_is_found(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    def shortened(response: Response) -> Response:
        rows = json.loads(response.body)
        shown[:] = shown or [row["id"] for row in rows[:3]]
        return Response.of_json(200, [row for row in rows if row["id"] in shown], {"x-total-count": "3"})

    async def trusting(confirmation: Confirmation, _: Operation) -> Finding:
        return Finding(Stamp.now(confirmation.clock))

    with_reply(office, "cycle", f"{office.application}/users?", shortened)
    assert not list(office.harm(()))
    monkeypatch.setattr(Confirmation, "of", trusting)
    with_reply(office, "cycle", f"{office.application}/users?", shortened)
    assert any("was locked, who is in scope" in harm for harm in office.harm(()))


def test_a_variation_is_the_same_each_time() -> None:
    document = {"results": [{"_id": "1", "email": "a@example.com"}], "totalCount": 1}
    assert json_variation(document, random.Random(7)) == json_variation(document, random.Random(7))
    assert byte_variation(b"content", random.Random(7)) == byte_variation(b"content", random.Random(7))


# Over real sockets, as a process with 1,500 MiB of address space.


@pytest.mark.parametrize("side", ["front", "back"])
@pytest.mark.parametrize("what", ["endless", "bomb"])
def test_a_reply_without_end_takes_neither_the_memory_nor_the_time(world: World, side: str, what: str) -> None:
    world.person("ada", world.group("Engineering"))
    gzip = {"content-type": "application/json", "content-encoding": "gzip"}
    getattr(world, side).faults.add(endless() if what == "endless" else Instead(Response(200, gzip, bomb())))
    done = subprocess.run(
        [sys.executable, "-m", "reconciler", "apply"],
        cwd=world.folder,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1_500 * 2**20,) * 2),
    )
    assert done.returncode == 1, done.stderr
    assert "larger than" in done.stderr
    assert "Traceback" not in done.stderr and "should not happen" not in done.stderr
    assert world.writes() == 0
