"""A history's world in which the reconciler is real processes: commands and a daemon, which talk to sockets.

The simulated services, the weather and the observer are those of `world.World`. What the reconciler tells nobody in
process (that a cycle begins, which journal row a request belongs to) is read from its state file.
"""

import json
import os
import queue
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from reconciler.cycle import Order
from reconciler.plan import SCHEDULE, Held, Notice, NoticeKind, Plan, Scope, Subject
from reconciler.report.document import read_saved
from reconciler.rows import PARTIAL
from reconciler.simulator.service import Request, Response
from tests.campaign import process_child, process_time
from tests.campaign.process_server import StormyServer, sender
from tests.campaign.rules import HOST, scim_url
from tests.campaign.seams import CampaignStore, Died, Weather, row_in_hand
from tests.campaign.world import API_KEY, Beside, World

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0
"""Seconds that a command or the daemon may take, on a machine that is busy otherwise."""
_LOOK_AGAIN = 0.2
_RATE = 0.1
_TIMEOUTS = 0.02
"""The most of its requests that may go wrong in one cycle, and that may never be answered: each waits for real."""


class FileStore(CampaignStore):
    """The state file as the observer reads it; the node that it is bound to has the name that it has in process."""

    endpoint = ""

    def value(self, key: str) -> Any:
        found = super().value(key)
        if key == "binding" and found:
            found["keeper"] = found["keeper"].replace(self.endpoint, HOST)
        return found


@dataclass
class Doom:
    """The signal that the reconciler gets as Keeper receives its `number`-th request, or the `number`-th that could
    change something; `delivered` if that one still takes effect."""

    signal: signal.Signals
    number: int
    writes: bool
    delivered: bool


@dataclass(frozen=True)
class Run:
    """A row of the state file's table of runs."""

    id: int
    kind: str
    started_at: datetime
    by: str
    finished: bool
    result: str

    @property
    def completed(self) -> bool:
        """Whether it came to an outcome, good or bad, rather than to an error."""
        return self.finished and (self.kind == "resync" or self.result not in ("failed", "stopped"))


class ProcessWorld(World):
    """See the module. A context manager; `mutant` names the deliberate fault that all processes have."""

    def __init__(self, folder: Path, draw: random.Random, mutant: str = "") -> None:
        super().__init__(folder)
        self.lock = threading.RLock()
        self.front = self._server(self.jumpcloud, "JumpCloud", self._to_jumpcloud)
        self.back = self._server(self.keeper, "Keeper", self._to_keeper)
        self.in_flight = draw.choice((1, 1, 4))
        self.doom: Doom | None = None
        self.paused = False
        self.judging = False
        self._mutant = mutant
        self._clock = folder / "clock"
        self._heard: queue.Queue[str] = queue.Queue()
        self._notified = folder / "notify"
        self._systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._log = folder / "service.log"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._worker: subprocess.Popen[Any] | None = None
        self._told_to_stop = False
        self._stale = False
        self._written = ""
        self._life = 1
        self._at_keeper: list[bool] = []
        self._since = time.monotonic()
        self._order = Order()
        self._run_id = 0
        self._under_way = False
        self._newest_request = 0
        self._first = False
        self._person = False
        self._known_rows = 0

    def _server(self, service: Any, name: str, deliver: Callable[[Request], Response]) -> StormyServer:
        seam = self._seam(name, deliver, lambda: self.weather)
        return StormyServer(service, seam, lambda: self._life, lambda words: self.observer.violated("x", words))

    def __enter__(self) -> Self:
        self._systemd.bind(str(self._notified))
        self._listener = threading.Thread(target=self._listen, name="systemd", daemon=True)
        self._listener.start()
        self.front.__enter__()
        self.back.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._daemon, self._worker):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self.front.__exit__(None, None, None)
        self.back.__exit__(None, None, None)
        self._systemd.shutdown(socket.SHUT_RD)
        self._listener.join()
        self._systemd.close()

    # What the services receive.

    def _to_jumpcloud(self, asked: Request) -> Response:
        with self.lock:
            self._still_there()
            return super()._to_jumpcloud(asked)

    def _to_keeper(self, asked: Request) -> Response:
        with self.lock:
            self._still_there()
            writes = asked.method != "GET"
            self._at_keeper.append(writes)
            doom = self.doom
            if doom is None or not self._strikes(doom, writes=writes):
                return self._received(asked, writes=writes)
            self.doom = None
            name = f"Keeper's {'change' if doom.writes else 'request'} {doom.number}"
            self.say(f"    {doom.signal.name} at {name}, which {'arrives' if doom.delivered else 'never arrives'}")
            self.weather.happened.append(f"{doom.signal.name} {name}")
            try:
                if not doom.delivered:
                    raise Died(name)
                return self._received(asked, writes=writes)
            finally:
                self._send(doom.signal)

    def _received(self, asked: Request, *, writes: bool) -> Response:
        return self._watched(asked) if writes else super()._to_keeper(asked)

    def _strikes(self, doom: Doom, *, writes: bool) -> bool:
        return (writes or not doom.writes) and (sum if doom.writes else len)(self._at_keeper) == doom.number

    def _still_there(self) -> None:
        if sender.get() != self._life:
            raise Died("whoever sent this is gone, and it with them")

    def _watched(self, asked: Request) -> Response:
        """A request that may change something, with the journal as it stands while the request arrives."""
        with self.reader() as store:
            self.store = store
            token = row_in_hand.set(_row_of(asked, store))
            try:
                before = len(self.keeper.changes)
                response = super()._to_keeper(asked)
                if self.paused and not self._person and len(self.keeper.changes) > before:
                    self.observer.violated("d", f"{asked.method} {asked.path} while all writes are paused")
                return response
            finally:
                row_in_hand.reset(token)
                self.store = None

    def _interlude(self) -> None:
        self._advance()
        self._watch()
        super()._interlude()

    def _advance(self) -> None:
        passed = time.monotonic() - self._since
        self._since += passed
        self.time.elapsed += passed * process_time.HURRY

    # What the state file tells.

    @contextmanager
    def reader(self) -> Iterator[FileStore]:
        """The state file, to look at."""
        with FileStore.open(self.path, write=False) as store:
            store.endpoint = self.back.url
            yield store

    def open(self) -> CampaignStore:
        """The state file, to write to it: beside the daemon where there is one. Raises StateError."""
        store = FileStore.beside(self.path) if self._daemon else FileStore.open(self.path, write=True)
        store.endpoint = self.back.url
        known = self.observer.ledger.marked
        sent = (row for row in store.journal_rows() if row["sent_at"] and row["id"] > self._known_rows)
        self.observer.marked([row for row in reversed([*sent]) if row["id"] not in known])
        self.store = store
        return store

    def _rows(self, sql: str) -> list[Any]:
        if not self.path.exists():
            return []
        connection = sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True, timeout=10)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def _newest(self) -> Run:
        columns = "id, kind, started_at, started_by, finished_at IS NOT NULL, result"
        for row in self._rows(f"SELECT {columns} FROM runs ORDER BY id DESC LIMIT 1"):
            return Run(row[0], row[1], datetime.fromisoformat(row[2]), row[3], bool(row[4]), row[5])
        return Run(0, "", self.time.now(), "", False, "")

    def _document(self, run: Run) -> str:
        """The plan document that was kept with a run, if there is one."""
        found = self._rows(f"SELECT document FROM runs WHERE id = {run.id} AND document IS NOT NULL")
        return str(found[0][0]) if found else ""

    def _watch(self) -> None:
        """Tell the observer of a cycle that begins or has come to its end."""
        run = self._newest()
        if run.id > self._run_id:
            self._cut_off()
            self._begins(run)
        elif self._under_way and run.finished:
            self._ends(run)

    def _begins(self, run: Run) -> None:
        order = self._ordered(run)
        self._run_id, self._under_way = run.id, True
        self._person = run.kind in PARTIAL
        if order.rebind:
            self.forgot()
        with self.reader() as store:
            bound = None if order.rebind else store.value("binding")
            self._first = store.value("reviewed") != "1" or order.rebind
            self._newest_request = store.newest_request()
        if self._first and self.weather.liars == "lists":
            self.observer.ledger.locks |= {a.id for a in self.keeper.accounts().values() if a.locked}
        person = order.person if self._person else ""
        unlock = self._person and order.unlock
        self.observer.cycle_begins(self.rules, bound, person=person, unlock=unlock, first=self._first)

    def _ordered(self, run: Run) -> Order:
        """What a run is about: what the command was told, or the daemon by an order on record."""
        if self._daemon is None:
            return self._order
        taken = self._rows("SELECT arguments FROM requests WHERE state = 'taken' ORDER BY id LIMIT 1")
        if run.by == SCHEDULE or not taken:
            return Order()
        found = json.loads(taken[0][0])
        return Order(person=found.get("person", ""), unlock=bool(found.get("unlock")), rebind=bool(found.get("rebind")))

    def _ends(self, run: Run) -> None:
        self._cut_off()
        if not run.completed:
            return
        document = self._document(run)
        held = json.loads(document)["held"] if document else []
        waits = any(one["limit"] == "first_run" for one in held)
        told_all = not self.weather.liars.startswith("keeper")
        linked = not waits and not self.rules.observes
        applied = linked and not self.rules.narrow and told_all
        self.observer.cycle_completed(listed=True, whole=run.kind == "resync", linked=linked, applied=applied)

    def _cut_off(self) -> None:
        """The cycle under way is over, however it ended."""
        if self._under_way and self._first and self.rules.safety.get("first_run") == "apply":
            with self.reader() as store:
                for effects in store.releases(self._newest_request):
                    self.observer.agreed(effect for effect in effects if effect[0] in ("create_user", "add"))
        self._under_way = False

    def forgot(self) -> None:
        """The state file is another one, or bound anew: what is in it by now is nothing that was seen being done."""
        locks = set(self.observer.ledger.locks)
        self.observer.forgot()
        self.observer.ledger.locks |= locks  # a daily copy may know of any of them
        found = self._rows("SELECT max(id) FROM operations")
        self._known_rows = found[0][0] or 0 if found else 0
        self._run_id = self._newest().id

    # The processes.

    def _start(self, *arguments: str, **streams: Any) -> "subprocess.Popen[Any]":
        environment = {
            **os.environ,
            "NO_COLOR": "1",
            "COLUMNS": "110",
            "PYTHONPATH": str(ROOT),
            "NOTIFY_SOCKET": str(self._notified),
            process_child.CLOCK: str(self._clock),
            process_child.MUTANT: self._mutant,
        }
        command = [sys.executable, "-m", "tests.campaign.process_child", *arguments]
        return subprocess.Popen(command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, **streams)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        with self.lock:
            self._since = time.monotonic()
            process_time.put(self._clock, self.time.wall())
        try:
            yield
        finally:
            with self.lock:
                self._advance()
                self._watch()
                if self._daemon is None or self._daemon.poll() is not None:
                    self._cut_off()

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, or until it is killed."""
        self._come_along()
        with self._at_work():
            process = self._start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self._worker = process
            try:
                out, err = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                self.observer.violated("x", f"{' '.join(arguments)} hangs")
                process.kill()
                out, err = process.communicate()
            self._worker = None
        self._look_at(" ".join(arguments), process.returncode, out + err)
        self._reap()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def _look_at(self, what: str, code: int, said: str) -> None:
        if code not in (*range(7), -signal.SIGKILL, -signal.SIGTERM):
            self.observer.violated("x", f"{what} ended with {code}: {said[-300:]}")
        for words in ("Traceback", "should not happen", "where it was"):
            if words in said:
                self.observer.violated("x", f"{what}: {said[said.index(words) :][:1500]}")
        self.look_for_secrets(f"what {what} says", said)

    def order(self, arguments: Sequence[str], weather: Weather, order: Order | None = None) -> str:
        """A command that may ask both services, under this weather; returns what came of it, in words."""

        def work() -> str:
            self._order = order or Order()
            done = self.command(*arguments)
            if self.judging:
                self.plan = self._plan_of(self._newest())
            last = [line for line in done.stderr.splitlines() if line and " DEBUG " not in line][-1:]
            return f"exit {done.returncode} {self._newest().result} {''.join(last)[:160]}".rstrip()

        return self._attempt(work, weather)

    def cycle(self, order: Order, weather: Weather, _beside: Beside = ()) -> str:
        """The order as a command; the daemon does by itself what is done beside it."""
        arguments = ["apply", "--wait"]
        if order.resync:
            arguments = ["resync", *([order.person] if order.person else []), "--wait"]
            arguments += ["--unlock"] if order.unlock else []
            arguments += ["--rebind"] if order.rebind else []
        return self.order(arguments, weather, order)

    def _attempt(self, work: Callable[[], str], weather: Weather) -> str:
        weather.rate = min(weather.rate, _TIMEOUTS if "timeout" in weather.only else _RATE)
        self._exchanges = 0
        self._at_keeper.clear()
        return super()._attempt(work, weather)

    def _plan_of(self, run: Run) -> Plan | None:
        """The plan that a run recorded, or that a dry run after it makes."""
        if not run.completed:
            return None
        text = self._document(run) or self.command("plan", "--format", "json").stdout
        return plan_of(text) if text else None

    # The daemon.

    @property
    def serving(self) -> bool:
        return self._daemon is not None

    def serve(self, weather: Weather) -> str:
        """Start the daemon and wait for its first cycle."""

        def work() -> str:
            self._write_settings()
            self._begin_serving()
            return "the daemon serves" if self._daemon else "the daemon has ended"

        return self._attempt(work, weather)

    def _begin_serving(self) -> None:
        with self._at_work():
            self._forget_what_was_heard()
            with self._log.open("ab") as log:
                self._daemon = self._start("run", stdout=log, stderr=log)
            self._stale = False
            self._await("STATUS=waiting")
        self._reap()

    def _await(self, *told: str) -> None:
        """Wait until the daemon has told systemd these in turn, or has ended."""
        wanted, deadline = list(told), time.monotonic() + PATIENCE
        while wanted and self._daemon is not None and self._daemon.poll() is None:
            if time.monotonic() > deadline:
                self.observer.violated("x", f"the daemon does not come to {wanted[0]}: {self._said()[-1000:]}")
                return
            with suppress(queue.Empty):
                if self._heard.get(timeout=_LOOK_AGAIN).startswith(wanted[0]):
                    wanted.pop(0)

    def _listen(self) -> None:
        """Take what the daemon tells systemd as it comes: whoever does not listen holds it up."""
        while message := self._systemd.recv(4096):
            for line in message.decode().splitlines():
                self._heard.put(line)

    def _forget_what_was_heard(self) -> None:
        while not self._heard.empty():
            self._heard.get()

    def _said(self) -> str:
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon, where there is one."""
        if self._daemon is not None:
            self._send(number)
            self._reap()

    def _reap(self) -> None:
        """Take note of a daemon that has ended, or was told to."""
        daemon = self._daemon
        if daemon is None:
            return
        if self._told_to_stop:
            try:
                daemon.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.observer.violated("x", "the daemon does not stop")
                daemon.kill()
                daemon.wait()
        if daemon.poll() is None:
            return
        if daemon.returncode not in (0, -signal.SIGKILL):
            self.observer.violated("x", f"the daemon ended with {daemon.returncode}: {self._said()[-1000:]}")
        self._daemon, self._told_to_stop = None, False
        with self.lock:
            self._cut_off()

    def restart(self) -> None:
        """The next cycle is a new process's."""
        self._stale = True

    def _send(self, number: signal.Signals) -> None:
        process = self._daemon or self._worker
        if process is None:
            return
        if number is signal.SIGKILL:
            self._life += 1
        process.send_signal(number)
        self._told_to_stop = process is self._daemon

    def _pull_the_plug(self) -> None:
        self._send(signal.SIGKILL)

    def _interrupt(self) -> None:
        self._send(signal.SIGTERM if self._daemon else signal.SIGINT)

    def _come_along(self) -> None:
        """Let the settings be those of now, for whoever runs; what the daemon does about that, it does in calm."""
        self._reap()
        changed = self._write_settings()
        if self._daemon is None or not (changed or self._stale):
            return
        sky, self.weather = self.weather, Weather(0)
        try:
            if self._stale:
                self.stop()
                self._begin_serving()
            else:
                with self._at_work():
                    self._forget_what_was_heard()
                    self._daemon.send_signal(signal.SIGHUP)
                    self._await("RELOADING=1", "STATUS=waiting")
        finally:
            self.weather = sky

    def _write_settings(self) -> bool:
        """Write what the rules say; returns whether anything changed."""
        rules = self.rules
        for name, secret in (("api-key", API_KEY), ("token", self.tokens[rules.node])):
            path = self.folder / name
            path.touch(mode=0o600)
            path.write_text(secret, encoding="ascii")
        sections: dict[str, dict[str, Any]] = {
            "jumpcloud": {
                "application": "Keeper",
                "api_key": {"file": "api-key"},
                "base_url": self.front.url,
                "in_flight": self.in_flight,
            },
            "keeper": {
                "scim_url": scim_url(rules.node).replace(HOST, self.back.url),
                "token": {"file": "token"},
                "in_flight": self.in_flight,
            },
            "policy": rules.policy,
            "teams": rules.teams,
            "safety": rules.safety,
            "schedule": {"interval": "1d", "jitter": "0s", "resync": "7d"},
            "state": {"path": self.path.name},
            "report": {"directory": "reports"},
            "log": {"level": "DEBUG"},
        }
        text = "".join(
            f"[{name}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in section.items())
            for name, section in sections.items()
        )
        changed, self._written = text != self._written, text
        (self.folder / "config.toml").write_text(text, encoding="utf-8")
        return changed

    def look_everywhere_for_secrets(self) -> None:
        """In the state file and its copies, the reports and the log."""
        self._look_at("the daemon's log", 0, self._said())
        for path in self.folder.rglob("*"):
            if path.is_file() and path.name not in ("api-key", "token"):
                self.look_for_secrets(path.name, path.read_bytes().decode("latin-1"))


def _row_of(asked: Request, store: CampaignStore) -> int | None:
    """The journal row that a request belongs to: one that says it was sent, where there is any about its subject."""
    target = asked.path.rpartition("/")[2]
    if asked.method == "POST":
        kind = "queue_team" if target == "Groups" else "create_user"
        who = json.loads(asked.body).get("externalId")
        rows = [row for row in store.journal_rows() if row["kind"] == kind and row["jumpcloud_id"] == who]
    else:
        rows = [row for row in store.journal_rows() if row["keeper_id"] == target]
    sent = [row for row in rows if row["state"] == "sent"]
    return next((int(row["id"]) for row in (*sent, *rows)), None)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def plan_of(document: str) -> Plan:
    """The plan in a plan document, as far as a history's end judges by it."""
    found = json.loads(document)
    saved = read_saved(document.encode(), "a plan document")
    held = [
        Held(one["limit"], tuple(one["operations"]), one["allowed"], one["planned"], one["reason"])
        for one in found["held"]
    ]
    notices = []
    for one in found["notices"]:
        about = one["subject"]
        subject = Subject(about["type"], about["name"], about["jumpcloud_id"] or "", about["keeper_id"] or "")
        notices.append(Notice(NoticeKind(one["kind"]), subject, one["message"]))
    return Plan(
        found["kind"],
        saved.generated_at,
        saved.source,
        Scope(**found["scope"]),
        saved.operations,
        held=tuple(held),
        notices=tuple(notices),
    )
