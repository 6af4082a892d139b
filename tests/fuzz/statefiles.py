"""Hostile state files: refused as a whole before anything is sent, or good enough to work with.

Whoever can write the file could as well run the reconciler, so what it says about somebody may be believed about them
(`touched`); but nobody else comes to harm, and nothing that stands in it makes a command stumble.
"""

import json
import random
import re
import shutil
import sqlite3
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from reconciler import cycle
from reconciler.history import Wanted
from reconciler.store import Store
from tests.fuzz.mutate import byte_variation, json_variation
from tests.fuzz.office import Office, Scene
from tests.fuzz.verdict import Verdict, bounded

_DEEP = "[" * 1_000 + "]" * 1_000
_VALUES: tuple[Any, ...] = (
    None, 0, 1, -1, 2, 2**62, 1.5, float("inf"), "", " ", "x", "0", "null", "true", "[]", "{}", '[["a"]]', '{"a": 1}', _DEEP,
    "[" * 100_000, '{"a":' * 1_000 + "1" + "}" * 1_000, "9" * 5_000, "NaN", b"", b"\xff\xfe", b"\0" * 1_000, "x" * 1_000_000,
    "\x1b[31m", "\x00", "\u202e", "2026-03-02T08:00:00", "2026-03-02", "9999-12-31T23:59:59.999999+00:00", "0001-01-01T00:00:00Z",
    "2026-03-02T08:00:00.000000Z", "2999-01-01T00:00:00.000000Z", "2026-03-02T08:00:00+99:99", "soon", "managed", "unmanaged",
    "disowned", "sent", "planned", "unknown", "done", "deactivate_user", "delete_team", "queue_team", "ada@example.com", "../..", "1e5",
    '{"userName": null}', '{"userName": 5}', '{"userName": {"a": "b"}}', '{"userName": "\\ud800"}', '[["active", null, 1]]',
    '[["a", "b", "c", "d"]]', '[[["x"]]]', '{"effects": [["deactivate_user", []]]}', '{"effects": 7}', '{"deactivations": "x"}',
    '{"deactivations": 1e99}', '{"organization": "x"}', '{"organization": 1, "application_id": 2, "keeper": 3, "x": 4}', '"text"', "7",
    '{"userName":"a"}},{"userName":"b"', '"a","b"', "1,2", "{},{}", "",
)  # fmt: skip
_TABLES = ("users", "teams", "memberships", "runs", "operations", "requests", "meta", "alerts")
_SCHEMES = (
    "ALTER TABLE users RENAME TO x; ALTER TABLE teams RENAME TO users; ALTER TABLE x RENAME TO teams",
    "ALTER TABLE runs RENAME TO x; ALTER TABLE requests RENAME TO runs; ALTER TABLE x RENAME TO requests",
    "DROP TABLE users", "DROP TABLE teams", "DROP TABLE memberships", "DROP TABLE meta", "DROP TABLE operations",
    "DROP TABLE runs", "DROP TABLE requests", "DROP TABLE alerts",
    "ALTER TABLE users DROP COLUMN gone", "ALTER TABLE operations DROP COLUMN due", "ALTER TABLE runs DROP COLUMN error",
    "ALTER TABLE users RENAME COLUMN shown TO seen", "ALTER TABLE meta ADD COLUMN more TEXT",
    "ALTER TABLE users RENAME TO real; CREATE VIEW users AS SELECT * FROM real",
    "ALTER TABLE users RENAME TO r; CREATE VIEW users AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
    "SELECT r.* FROM r, n",
    "ALTER TABLE meta RENAME TO r; CREATE VIEW meta AS SELECT key, value FROM r",
    "CREATE TRIGGER evil AFTER INSERT ON operations BEGIN DELETE FROM operations; END",
    "CREATE TRIGGER evil AFTER UPDATE ON operations BEGIN UPDATE users SET locked_by_us = 1; END",
    "CREATE TRIGGER evil AFTER UPDATE ON operations BEGIN SELECT RAISE(ABORT, 'no'); END",
    "CREATE TRIGGER evil BEFORE UPDATE ON operations BEGIN SELECT RAISE(IGNORE); END",
    "CREATE TRIGGER evil AFTER INSERT ON runs BEGIN INSERT INTO meta VALUES ('reviewed', '1') ON CONFLICT DO NOTHING; END",
    "CREATE TRIGGER evil AFTER INSERT ON runs BEGIN UPDATE users SET shown = '{}'; END",
    "DROP INDEX idx_operations_time", "CREATE UNIQUE INDEX evil ON operations (kind)", "CREATE INDEX more ON users (standing)",
    "CREATE UNIQUE INDEX evil ON runs (result)", "CREATE TABLE more (x)", "CREATE TABLE \"\x1b[31m\" (x)",
    "PRAGMA user_version = 0", "PRAGMA user_version = 1", "PRAGMA user_version = 4", "PRAGMA user_version = 6",
    "PRAGMA user_version = -1", "PRAGMA user_version = 2147483647", "PRAGMA application_id = 0", "PRAGMA application_id = 7",
    "PRAGMA journal_mode = WAL", "PRAGMA page_size = 512; VACUUM", "PRAGMA auto_vacuum = 1; VACUUM", "DELETE FROM meta",
    "DELETE FROM users", "DELETE FROM teams", "DELETE FROM memberships", "DELETE FROM runs", "DELETE FROM operations",
    "UPDATE operations SET state = 'planned'", "UPDATE operations SET state = 'sent'", "UPDATE operations SET state = 'unknown'",
    "UPDATE operations SET id = id + 9223372036854775000", "UPDATE runs SET id = 9223372036854775807 WHERE id = 1",
    "INSERT INTO meta VALUES ('inventory', '{\"read_at\": \"2026-01-01\", \"teams\": [], \"invited\": []}')",
    "INSERT INTO meta VALUES ('inventory', '[]')", "INSERT INTO meta VALUES ('house_kept_at', 'never')",
    "INSERT INTO meta VALUES ('former_operations', 'x')", "INSERT INTO meta VALUES ('former_operations', '99999999999999999999')",
    "UPDATE meta SET value = '[1]' WHERE key = 'canaries'", "UPDATE meta SET value = '\"x\"' WHERE key = 'canaries'",
    "UPDATE meta SET value = '{}' WHERE key = 'binding'", "UPDATE meta SET value = '2026-01-01' WHERE key = 'read_at'",
    "INSERT INTO requests VALUES (NULL, 'release', '{}', 'x', '2026-03-02T08:00:00.000000Z', '', NULL, 'open', NULL, '')",
    "INSERT INTO requests VALUES (NULL, 'release', '{\"effects\": [[\"a\", 1], []]}', 'x', '2026-03-02T08:00:00.000000Z', '', NULL, "
    "'open', NULL, '')",
    "INSERT INTO requests VALUES (NULL, 'allow', '{\"deactivations\": -5}', 'x', '2026-03-02T08:00:00.000000Z', '', NULL, 'open', NULL, '')",
    "INSERT INTO requests VALUES (NULL, 'allow', '[]', 'x', '2026-03-02T08:00:00.000000Z', '', NULL, 'open', NULL, '')",
    "INSERT INTO requests VALUES (NULL, 'pause', '7', x'ff', '2026-03-02', '', NULL, 'open', NULL, '')",
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 20000) INSERT INTO memberships SELECT 'u' || x, "
    "'t' || x, 1, 1, 1, NULL, 0 FROM n",
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 5000) INSERT INTO meta SELECT 'k' || x, "
    "printf('%.1000c', 'x') FROM n",
)  # fmt: skip


class StateFiles:
    """The whole kind: input by input, each from its own generator."""

    def __init__(self, office: Office) -> None:
        self.office = office

    def try_one(self, draw: random.Random) -> Verdict:
        """Work with one hostile state file: a cycle, a dry run, or the commands that only look into it."""
        office = self.office
        scene = office.scenes[draw.choice(("cycle", "resync", "person", "look"))]
        office.begin(scene)
        only_look = scene.look != "" or draw.random() < 0.4
        words, touched = self._spoil(draw)
        verdict = Verdict("state files", f"{'looking' if only_look else scene.name}: {words}")
        with bounded(verdict):
            try:
                if only_look:
                    self._look(scene)
                else:
                    office.run(scene, begin=False)
            except Exception as error:
                verdict.error(error, office.secrets, str(office.path), "JumpCloud", "Keeper")
                if office.keeper.changes:
                    verdict.violations.append("something was sent with a state file that was refused")
        if touched is not None:
            verdict.violations += office.harm(touched)
        return verdict

    def _look(self, scene: Scene) -> None:
        """What the commands that change nothing ask of the file."""
        office = self.office
        now = office.now()
        with Store.open(office.path, write=False) as store:
            store.runs(50)
            store.held_run()
            store.held_now()
            store.last_good_read()
            store.unfinished()
            store.journal(now - timedelta(days=400))
            store.history(Wanted(), 50)
            store.open_requests(now)
            store.decisions("release", now - timedelta(days=9))
            store.pause()
            store.orders()
            store.told("webhook")
            store.under_way()
            store.open_kinds(datetime.now(UTC))
            cycle.look_back(store, "ada@example.com")
        with Store.open(office.path, write=False) as store:
            services = office.services(scene)
            if scene.look:
                office.wait(cycle.look(office.settings, services, store, scene.look, now))
            else:
                office.wait(cycle.plan(office.settings, services, store, scene.order, now))

    def _spoil(self, draw: random.Random) -> tuple[str, set[str] | None]:
        """Make the state file of the office hostile; returns what was done, and whom it is about (None: anybody)."""
        path = self.office.path
        chance = draw.random()
        if chance < 0.25:
            raw, words = byte_variation(path.read_bytes(), draw)
            path.write_bytes(raw)
            return words, None
        if chance < 0.30:
            return _surroundings(path, draw), set()
        connection = sqlite3.connect(path, isolation_level=None)
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        try:
            if chance < 0.55:
                scheme = draw.choice(_SCHEMES)
                with suppress(sqlite3.Error):
                    connection.executescript(scheme)
                return scheme, None
            return _values(connection, draw)
        finally:
            connection.close()


def _values(connection: sqlite3.Connection, draw: random.Random) -> tuple[str, set[str]]:
    """Other values in some fields of a table, which loses its types for that at times."""
    table = draw.choice(_TABLES)
    if draw.random() < 0.1:
        connection.executescript(
            f"CREATE TABLE loose AS SELECT * FROM {table}; DROP TABLE {table}; ALTER TABLE loose RENAME TO {table}"
        )
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    count = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    done, touched = [], set[str]()
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        column, row = draw.choice(columns), draw.randrange(max(1, count))
        value = draw.choice(_VALUES)
        former = connection.execute(f"SELECT * FROM {table} LIMIT 1 OFFSET {row}").fetchone() or ()
        touched |= {str(field) for field in (*former, value) if isinstance(field, str | int)}
        old = former[columns.index(column)] if former else None
        if isinstance(old, str) and old[:1] in ("[", "{") and draw.random() < 0.5:
            with suppress(ValueError, RecursionError):
                value = json_variation(json.loads(old), draw)[0].decode("utf-8", "replace")
        with suppress(sqlite3.Error):  # a table of ours takes no value of another type
            if draw.random() < 0.1:
                connection.execute(f"UPDATE {table} SET \"{column}\" = CAST(x'61ff62' AS TEXT)")
                value = "no UTF-8"
            elif draw.random() < 0.2:
                connection.execute(f'UPDATE {table} SET "{column}" = ?', (value,))
                touched |= {str(f) for one in connection.execute(f"SELECT * FROM {table}") for f in one}
            else:
                where = f"rowid = (SELECT rowid FROM {table} LIMIT 1 OFFSET {row})"
                connection.execute(f'UPDATE {table} SET "{column}" = ? WHERE {where}', (value,))
        done.append(f"{table}.{column} = {value!r:.40}")
    # Whoever is named in the texts of a row is whom it is about.
    for text in list(touched):
        touched |= set(re.findall(r"[^\s\",:{}\[\]]+", text))
    return ", ".join(done), touched


def _surroundings(path: Path, draw: random.Random) -> str:
    """What lies in the place of the file, or beside it."""
    raw = path.read_bytes()
    match draw.randrange(9):
        case 0:
            path.unlink()
            path.mkdir()
            return "a directory"
        case 1:
            path.write_bytes(b"")
            return "an empty file"
        case 2:
            path.with_name(path.name + "-wal").write_bytes(draw.randbytes(5_000))
            return "a WAL of noise beside it"
        case 3:
            path.with_name(path.name + "-journal").write_bytes(
                b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + draw.randbytes(5_000)
            )
            return "a journal of noise beside it"
        case 4:
            path.rename(path.with_name("elsewhere.db"))
            path.symlink_to("elsewhere.db")
            return "a link to it"
        case 5:
            path.unlink()
            path.symlink_to(path.name)
            return "a link to itself"
        case 6:
            path.with_name(path.name + ".lock").mkdir()
            return "a directory as its lock"
        case 7:
            path.unlink()
            path.with_name(path.name + "-wal").write_bytes(raw[:9_000])
            return "only a WAL"
        case _:
            copy = path.with_name("copy")
            shutil.copy(path, copy)
            with copy.open("ab") as more:
                more.truncate(len(raw) + 10**8)
            copy.rename(path)
            return "100 MB of nothing behind it"
