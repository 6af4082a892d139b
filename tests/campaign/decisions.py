"""What the people do who run the reconciler: cycles, releases, settings, and accidents with the machine."""

import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from reconciler import decisions
from reconciler.clocks import corrected
from reconciler.consent import agree
from reconciler.cycle import Order
from reconciler.plan import Plan
from reconciler.report.document import held_effects, load_saved, read_saved, to_json
from reconciler.store import StateError, Store
from tests.campaign import meddling, organisation
from tests.campaign.observer import Allowance
from tests.campaign.rules import NODES
from tests.campaign.seams import LATE, NO_EFFECT, CampaignStore, Weather
from tests.campaign.world import World

Step = Callable[[World, random.Random], str]
BY = "root"


def weather(draw: random.Random) -> Weather:
    """The weather of a cycle; most are calm or nearly so, since a cycle that fails early teaches little."""
    seed = draw.getrandbits(48)
    rate = draw.choices((0.0, 0.02, 0.06, 0.2), (35, 30, 25, 10))[0]
    only = draw.choice((*LATE, *NO_EFFECT, "half_page", "half_page", "death_after")) if draw.random() < 0.35 else ""
    if only:
        rate = draw.choice((0.1, 0.4))
    sides = ("", "lists", "behind", "points", "keeper lists", "keeper points", "both")
    liars = draw.choices(sides, (46, 18, 6, 9, 12, 6, 3))[0]
    if liars == "lists" and draw.random() < 0.35:
        rate, only = 0.5, "half_page"  # what the lists lack, the points then show only when they are asked again
    writes = draw.choices((0.0, 0.02, 0.15), (75, 20, 5))[0]
    cancelled = draw.uniform(0, 30) if draw.random() < 0.05 else None
    return Weather(seed, rate, writes, liars, only, cancelled_after=cancelled)


def _cycle(world: World, draw: random.Random, order: Order, words: str, muted: frozenset[str] = frozenset()) -> str:
    sky = weather(draw)
    sky.muted = muted
    for _ in range(draw.choices((0, 1, 2), (60, 25, 15))[0]):
        step = draw.choices(list(_MEANWHILE), list(_MEANWHILE.values()))[0]
        chance = random.Random(draw.getrandbits(48))
        at = draw.randint(2, 25)
        if sky.strikes("meanwhile", f"meanwhile#{at}"):
            world.interludes.append((at, lambda step=step, chance=chance: step(world, chance)))  # type: ignore[misc]
    world.interludes.sort(key=lambda entry: entry[0])
    world.say(f"{words}:")
    text = f"  -> {world.cycle(order, sky, _beside(world, draw))}"
    if world.observer.wronged:
        world.say(text)
        return repaired(world)
    return text


def repaired(world: World) -> str:
    """Check that two cycles undo whatever was done while all of JumpCloud's reads were stale."""
    works = True
    for _ in range(2):
        world.time.elapsed += 3 * 3600  # longer than grace, and than any pause after failures
        for released in (False, True):
            if not released or (world.plan is not None and world.plan.held and consent_to_held(world)):
                world.plan = None
                world.say(f"two cycles later:\n  -> {world.cycle(Order(by=BY), Weather(0))}")
                works = works and world.plan is not None
    quiet = not (world.rules.narrow or world.troubles or world.rules.policy.get("out_of_scope") or world.observer.first)
    for email in world.observer.still_wronged() if works and quiet else ():
        world.observer.violated("a", f"{email} was wronged by stale reads, and that is not undone within two cycles")
    world.observer.wronged.clear()
    return ""


def _beside(world: World, draw: random.Random) -> list[tuple[float, Order | None]]:
    """Partial cycles while a cycle lasts: the leaver lane, and what people ask for of one person."""
    found: list[tuple[float, Order | None]] = []
    for _ in range(draw.choices((0, 1, 2), (60, 25, 15))[0]):
        lane, after = draw.random() < 0.6, draw.choice((0.0, 0.5, 1.0, 2.0, 5.0, 20.0))
        order = None if lane else _about_somebody(world, draw)
        if lane or order is not None:
            found.append((after, order))
    return found


def _about_somebody(world: World, draw: random.Random) -> Order | None:
    addresses = sorted({user.email for user in world.truth.people.values() if user.email})
    addresses += sorted(one.email for one in world.keeper.accounts().values())
    if not addresses:
        return None
    address, unlock = draw.choice(addresses), draw.random() < 0.3
    return Order(resync=True, person=address, unlock=unlock, by=BY)


def _looks(world: World, draw: random.Random) -> Callable[[Plan], bool] | None:
    """Somebody at the terminal, who mostly agrees with a first plan."""
    if draw.random() < 0.5:
        return None
    agrees = draw.random() < 0.8

    def reviewed(plan: Plan) -> bool:
        if agrees:
            world.observer.agreed(_effects(json.loads(to_json(plan))["operations"]))
        return agrees

    return reviewed


def _effects(operations: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """What the operations of a plan document do to whom, as a person reads it."""
    found: list[tuple[str, ...]] = []
    for op in operations:
        for who in filter(None, (op["subject"]["jumpcloud_id"], op["subject"]["keeper_id"])):
            found.append((op["kind"], who))
            for change, kind in (("add", "add"), ("remove", "remove")):
                for team in op["teams"][change]:
                    found += [(kind, who, key) for key in (team["jumpcloud_id"], team["keeper_id"]) if key]
    return found


def cycle(world: World, draw: random.Random, muted: frozenset[str] = frozenset()) -> str:
    order = Order(reviewed=_looks(world, draw), by=BY)
    return _cycle(world, draw, order, "a cycle", muted)


def resync(world: World, draw: random.Random, muted: frozenset[str] = frozenset()) -> str:
    order = Order(resync=True, reviewed=_looks(world, draw), by=BY)
    return _cycle(world, draw, order, "a resync", muted)


def resync_person(world: World, draw: random.Random, muted: frozenset[str] = frozenset()) -> str:
    order = _about_somebody(world, draw)
    if order is None:
        return ""
    return _cycle(world, draw, order, f"resync {order.person}{' --unlock' if order.unlock else ''}", muted)


def lane(world: World, draw: random.Random, muted: frozenset[str] = frozenset()) -> str:
    sky = weather(draw)
    sky.muted = muted
    world.say("the leaver lane:")
    return f"  -> {world.lane(sky)}"


def release(world: World, draw: random.Random, muted: frozenset[str] = frozenset()) -> str:
    """Let the last held plan through, as `reconciler release` does it."""
    plan_id = "" if world.rules.observes else consent_to_held(world)
    return _cycle(world, draw, Order(by=BY), f"release {plan_id}", muted) if plan_id else ""


def consent_to_held(world: World) -> str:
    """A person agrees to what the last held plan holds; returns its id, empty where there is none."""

    def decide(store: CampaignStore) -> str:
        held = store.held_run(None)
        if held is None:
            return ""
        document = store.document(held.id)
        if document is None:
            world.observer.violated("x", f"the held plan {held.plan_id} is not on record any more")
            return ""
        agree(store, held.plan_id, held_effects(document), by=BY, at=_now(world, store), reason="looked at")
        content = json.loads(document)
        numbers = {number for hold in content["held"] for number in hold["operations"]}
        world.observer.agreed(_effects([op for n, op in enumerate(content["operations"]) if n in numbers]))
        return held.plan_id

    return _decide(world, decide)


def saved_plan(world: World, draw: random.Random, muted: frozenset[str] = frozenset()) -> str:
    """`plan --save`, some time later `apply --plan`; in between things may change."""
    sky = weather(draw)
    sky.muted = frozenset(name for name in muted if name.startswith("plan "))
    world.say("plan --save:")
    made = world.dry_run(sky, resync=draw.random() < 0.5)
    if made is None or world.rules.observes:
        return "  nothing saved"
    path = world.folder / "plan.json"
    path.write_text(to_json(made), encoding="utf-8")
    for _ in range(draw.choice((0, 0, 1, 2))):
        step = draw.choices(list(_MEANWHILE), list(_MEANWHILE.values()))[0]
        if text := step(world, random.Random(draw.getrandbits(48))):
            world.say(f"  meanwhile: {text}")
    world.time.elapsed += draw.choice((60, 3600, 5 * 3600))
    saved = read_saved(load_saved(path), str(path))
    world.observer.agreed(_effects(json.loads(path.read_text(encoding="utf-8"))["operations"]))
    return _cycle(world, draw, Order(saved=saved, by=BY), "apply --plan", muted)


def rebind(world: World, draw: random.Random, muted: frozenset[str] = frozenset()) -> str:
    return _cycle(world, draw, Order(resync=True, rebind=True, by=BY), "resync --rebind", muted)


CYCLES: dict[Callable[..., str], int] = {
    cycle: 44, resync: 12, resync_person: 6, release: 10, saved_plan: 4, rebind: 1, lane: 12
}  # fmt: skip


# Decisions.


def _decide(world: World, decide: Callable[[CampaignStore], str]) -> str:
    """What a command does to the state file; empty where that can't be opened."""
    try:
        return decide(world.open())
    except decisions.NothingDecided as refused:
        return str(refused)
    except StateError:
        return ""
    finally:
        world.close()


def _now(world: World, store: CampaignStore) -> datetime:
    """The time as a command has it."""
    return corrected(store, world.time.now)()


def allows(world: World, draw: random.Random) -> str:
    number = draw.randint(1, 8)

    def decide(store: CampaignStore) -> str:
        now, lasts = _now(world, store), timedelta(hours=4)
        store.add_request("allow", {"deactivations": number}, by=BY, at=now, reason="lay-off", lasts=lasts)
        world.observer.ledger.allowances.append(Allowance(number))
        return f"allow --deactivations {number}"

    return _decide(world, decide)


def adopts(world: World, draw: random.Random) -> str:
    accounts = [one for one in world.keeper.accounts().values() if one.node == NODES[0]]
    if not accounts:
        return ""
    ghosts = draw.random() < 0.2
    email = None if ghosts else draw.choice(accounts).email
    named: list[str] = []

    def decide(store: CampaignStore) -> str:
        words = decisions.adopt(store, _now(world, store), BY, "", email=email)
        named.extend(store.adopted() if "will be taken over" in words else ())
        return words

    words = _decide(world, decide)
    ledger = world.observer.ledger
    for account in named:
        given_up = ledger.given_up.pop(account, set())
        if given_up or account in ledger.disowned:
            ledger.retaken[account] = given_up
        elif account not in ledger.asked:  # else it is the same, once more
            ledger.retaken.pop(account, None)
    if email and named:
        # By its address an account is given up, and taken back, which the state file need not know yet.
        ledger.disowned -= {one.id for one in accounts if one.email == email and one.id not in named}
    for one in world.keeper.accounts().values():
        if one.id in named:
            ledger.ours.add(one.id)  # whoever is away may be back before the state file learns of that
        fates = [how for _, how in world.observer.fates.get(one.id, ())]
        came = ledger.readdressed.get(one.id, 0) > world.observer.latest.listed and fates[-2:-1] == ["gone"]
        if one.id in named and came and one.id in ledger.disowned:
            # Of what the last list lacked only the decision to give it up is taken back.
            ledger.disowned.discard(one.id)
            ledger.created.discard(one.id)
        elif one.id in named and one.node == NODES[0]:
            if one.id in ledger.disowned or one.id not in ledger.created | ledger.linked:
                ledger.adopted[one.id] = world.observer.tick
            # Whoever names an account agrees to more than `--ghosts` does, before it or after it.
            if one.id not in ledger.created or one.id in ledger.disowned or one.email == email:
                ledger.asked[one.id] = (email or "").casefold()
            ledger.disowned.discard(one.id)
            ledger.meant[one.id] = world.observer.perhaps_whose(one)
            ledger.created.add(one.id)
        elif one.id in named and one.id not in ledger.met:
            # The file need not know that it is away, and it may be back before a cycle carries the decision out.
            ledger.meant.setdefault(one.id, set()).update(world.observer.perhaps_whose(one))
    return f"adopt {email or '--ghosts'}: {words}"


def adopts_team(world: World, draw: random.Random) -> str:
    teams = sorted({team.name for team in world.keeper.teams().values()})
    if not teams:
        return ""
    name = draw.choice(teams)
    for team in (team for team in world.keeper.teams().values() if team.name == name):
        world.observer.ledger.tied.pop(team.id, None)
    return f"adopt --team {name}: " + _decide(
        world, lambda store: decisions.adopt(store, _now(world, store), BY, "", team=name)
    )


def disowns(world: World, draw: random.Random) -> str:
    accounts = [one for one in world.keeper.accounts().values() if one.id in world.observer.ledger.ours]
    if not accounts:
        return ""
    one = draw.choice(accounts)
    named: list[str] = []

    def decide(store: CampaignStore) -> str:
        words = decisions.disown(store, _now(world, store), BY, "", one.email)
        named.extend(store.disowned() if "is given up" in words else ())
        return words

    words, ledger = _decide(world, decide), world.observer.ledger
    # Who has the address by the state file may have another one by now, or be gone.
    for account in named:
        ledger.ours.discard(account)
        ledger.disowned.add(account)
        ledger.given.pop(account, None)
        # Whoever left before a first plan was reviewed has the account that it had found for them still.
        owners = {ledger.owner.get(account, ""), ledger.found_for.get(account, "")}
        external = getattr(world.keeper.accounts().get(account), "external_id", "") or ""
        ledger.given_up[account] = {external, *owners, one.email.casefold()}
    if "question whether access ended is closed" in words:
        # Should they come back into the node, as they may have since it was last listed, they are a ghost.
        world.observer.ledger.created -= {a.id for a in accounts if a.email.casefold() == one.email.casefold()}
    return f"disown {one.email}: {words}"


# Settings.


def limits(world: World, draw: random.Random) -> str:
    world.rules.safety = {
        key: draw.choice(values)
        for key, values in {
            "max_deactivations": ("2%", "10%", 2, 6, "100%"),
            "max_removals": ("5%", 3, "100%"),
            "max_creations": ("5%", 2, "100%"),
            "max_grants": ("5%", 2, "100%"),
            "max_reactivations": ("5%", 1, "100%"),
            "always_allow": (0, 1, 3, 5),
            "first_run": ("review", "review", "apply"),
        }.items()
        if draw.random() < 0.5
    }
    return f"safety: {world.rules.safety}"


def policy(world: World, draw: random.Random) -> str:
    """One key of the policy, set or set back."""
    people = sorted(user.email for user in world.truth.people.values() if user.email)
    key, value = draw.choice(
        (
            ("mode", "observe"),
            ("protect", draw.sample(people, min(len(people), 2))),
            ("only", {"groups": [draw.choice(organisation.GROUPS)], "users": draw.sample(people, min(len(people), 3))}),
            ("out_of_scope", "keep"),
            ("grace", draw.choice(("0s", "2h", "30m"))),
            ("drift", draw.choice(("repair", "report"))),
            ("reactivate", "any"),
            ("address_change", "send"),
        )
    )
    if key in world.rules.policy and key != "protect":
        del world.rules.policy[key]
        return f"policy.{key} is back to its default"
    world.rules.policy[key] = value
    return f"policy.{key} = {value}"


def back(world: World, _draw: random.Random) -> str:
    """The settings are as they should be."""
    world.rules.policy = {"protect": world.rules.policy["protect"]}
    world.rules.teams, world.rules.safety, world.rules.node = {}, {}, NODES[0]
    return "the settings are back to their defaults"


def teams(world: World, draw: random.Random) -> str:
    key, value = draw.choice(
        (
            ("include", [draw.choice(organisation.GROUPS), "IT*"]),
            ("exclude", ["S*"]),
            ("adopt", draw.choice(("always", "never"))),
            ("review", ["IT"]),
            ("out_of_scope", draw.choice(("keep", "delete"))),
        )
    )
    if key in world.rules.teams:
        del world.rules.teams[key]
        return f"teams.{key} is back to its default"
    world.rules.teams[key] = value
    return f"teams.{key} = {value}"


def wrong_node(world: World, _draw: random.Random) -> str:
    world.rules.node = NODES[1] if world.rules.node == NODES[0] else NODES[0]
    return f"keeper.scim_url leads to node {world.rules.node}"


# The machine.


def minutes(world: World, draw: random.Random) -> str:
    world.time.elapsed += draw.choice((1, 5, 5, 10, 35, 70)) * 60
    return "some minutes pass"


def hours(world: World, draw: random.Random) -> str:
    world.time.elapsed += draw.choice((3, 8, 25, 50)) * 3600
    return "hours pass"


def clock_jumps(world: World, draw: random.Random) -> str:
    """The machine's clock is put, for good or until after the next cycle."""
    world.time.pass_by()
    error = draw.choice((-1, 1)) * draw.choice((60, 3600, 86400, 30 * 86400))
    if draw.random() < 0.6:
        error = draw.choice((365 * 86400, 9 * 3600, -365 * 86400, -9 * 3600))
        world.time.passing = error
    world.time.offset += error
    world.time.right = False
    how = " for one cycle" if world.time.passing else ""
    return f"the clock jumps{how}: it is {world.time.now():%Y-%m-%d %H:%M}"


def copied(world: World, _draw: random.Random) -> str:
    if not world.path.exists():
        return ""
    world.copies.append((world.path.read_bytes(), world.observer.remembered()))
    return "the state file is copied"


def _removed(world: World) -> None:
    for path in world.folder.glob("reconciler.db*"):
        path.unlink()
    world.restart()
    world.observer.forgot()


def lost(world: World, _draw: random.Random) -> str:
    _removed(world)
    return "the state file is lost"


def restored(world: World, draw: random.Random) -> str:
    if not world.copies:
        return ""
    return put_back(world, *draw.choice(world.copies), by_command=draw.random() < 0.5)


def put_back(world: World, content: bytes, known: tuple[Any, ...], *, by_command: bool) -> str:
    """Put a copy of the state file in its place, by hand or with `restore`."""
    _removed(world)
    if not by_command:
        world.path.write_bytes(content)
        world.observer.remembers(known)
        return "the state file is replaced by a copy"
    copy = world.folder / "copy"
    copy.write_bytes(content)
    Store.restore(world.path, copy)
    world.observer.remembers(known, by_command=True)
    return "the state file is restored from a copy"


def restarts(world: World, _draw: random.Random) -> str:
    world.restart()
    return "the process is restarted"


SETTINGS: dict[Step, int] = {limits: 3, policy: 5, back: 6, teams: 3, wrong_node: 1}
PERSONS: dict[Step, int] = {allows: 2, adopts: 2, adopts_team: 1, disowns: 1}
MACHINE: dict[Step, int] = {
    minutes: 12, hours: 5, clock_jumps: 2, copied: 2, lost: 1, restored: 1, restarts: 3
}  # fmt: skip
_MEANWHILE: dict[Step, int] = {
    step: weight
    for step, weight in {**organisation.STEPS, **meddling.STEPS}.items()
    if step not in (organisation.bulk, meddling.seats, meddling.token, meddling.told)
}
