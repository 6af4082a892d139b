"""Hostile saved plans: whatever stands in one, nothing happens that is not due by what JumpCloud says now."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

from reconciler import cycle
from reconciler.cycle import Order
from reconciler.report.document import load_saved, read_saved, to_json
from reconciler.report.text import render
from reconciler.store import Store
from tests.fuzz.mutate import byte_variation, doubled_keys, dumped, json_variation
from tests.fuzz.office import Office
from tests.fuzz.verdict import Verdict, bounded


class Plans:
    """The whole kind: input by input, each from its own generator."""

    def __init__(self, office: Office, folder: Path) -> None:
        self.office = office
        self._path = folder / "plan.json"
        self._scenes = [office.scenes[name] for name in ("cycle", "resync", "first")]
        self._plans = []
        for scene in self._scenes:
            office.begin(scene)
            with Store.open(office.path, write=False) as store:
                services = office.services(scene)
                made = office.wait(cycle.plan(office.settings, services, store, scene.order, office.now()))
            self._plans.append(to_json(made).encode())

    def try_one(self, draw: random.Random) -> Verdict:
        """Apply one hostile plan, as `apply --plan` does."""
        office = self.office
        number = draw.randrange(len(self._scenes))
        raw, words = self._variation(self._plans[number], draw)
        scene = self._scenes[number]
        verdict = Verdict("plans", f"{scene.name}: {words}")
        self._path.write_bytes(raw)
        office.begin(scene)
        with bounded(verdict):
            try:
                text = load_saved(self._path).decode()
                saved = read_saved(text.encode(), "the saved plan")
                ordered = type(scene)(scene.name, scene.keeper, scene.state, Order(saved=saved, by="somebody"))
                outcome = office.run(ordered, begin=False)
                verdict.shown(render(outcome.plan, width=100, colour=False), office.secrets, longest=10**6)
            except Exception as error:
                verdict.error(error, office.secrets, str(self._path), "plan")
                if office.keeper.changes:
                    verdict.violations.append("a refused plan had something sent")
        verdict.violations += office.harm(())
        return verdict

    def _variation(self, content: bytes, draw: random.Random) -> tuple[bytes, str]:
        document = json.loads(content)
        chance = draw.random()
        if chance < 0.15:
            return byte_variation(content, draw)
        if chance < 0.20:
            return doubled_keys(document, draw)
        if chance < 0.22:
            return b"[" * 10_000_000, "ten million brackets"
        if chance < 0.35:
            return json_variation(document, draw)
        # Whoever writes a plan can reckon its id too.
        operations = document["operations"]
        if chance < 0.6:
            varied, words = json_variation(draw.choice(operations), draw)
            operations[draw.randrange(len(operations))] = _read(varied)
        else:
            words = _other_people(operations, draw)
        document["id"] = _digest(operations)
        return dumped(document), f"an operation with {words}, and an id that agrees"


def _other_people(operations: list[Any], draw: random.Random) -> str:
    """An operation is about somebody else, does something else, or is there again."""
    one, two = draw.choice(operations), draw.choice(operations)
    match draw.randrange(5):
        case 0:
            one["subject"] = two["subject"]
            return "somebody else"
        case 1:
            one["kind"] = draw.choice(
                ("deactivate_user", "delete_team", "reactivate_user", "create_user", "queue_team")
            )
            return f"the kind {one['kind']}"
        case 2:
            one["teams"] = {"add": two["teams"]["remove"], "remove": [*two["teams"]["add"], *one["teams"]["add"]]}
            return "teams to leave"
        case 3:
            operations += [dict(one, kind="deactivate_user")] * draw.choice((1, 1_000))
            return "many alike"
        case _:
            one["changes"] = [{"attribute": "active", "from": "true", "to": "false"}]
            return "a lock among its changes"


def _read(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return {}


def _digest(operations: list[Any]) -> str:
    """The id of a plan with these operations: what they do to whom, whatever else they say."""

    def key(named: Any) -> str:
        return named.get("jumpcloud_id") or named.get("keeper_id") or ""

    try:
        effects: list[list[Any]] = []
        for op in operations:
            who = key(op["subject"])
            did: set[tuple[str, ...]] = {("add", who, key(team)) for team in op["teams"]["add"]}
            did |= {("remove", who, key(team)) for team in op["teams"]["remove"]}
            if op["kind"] == "update_user":
                did |= {("set", who, change["attribute"], change["to"]) for change in op["changes"]}
            else:
                did.add((op["kind"], who))
            effects.append([op["kind"], *sorted(map(list, did))])
        canonical = json.dumps(sorted(effects), ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]
    except (KeyError, TypeError, AttributeError, UnicodeEncodeError):
        return "0" * 16
