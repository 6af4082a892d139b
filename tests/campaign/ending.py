"""The end of a history: faults are over, pauses have passed, the settings are plain. Then everything must be well."""

import random
from collections.abc import Collection
from dataclasses import replace

from reconciler.cycle import Order
from reconciler.plan import Notice, Operation, Plan
from reconciler.simulator.keeper_records import Account
from reconciler.store import StateError
from tests.campaign import claims, decisions, meddling, organisation, troubles
from tests.campaign.rules import NODES
from tests.campaign.seams import Weather
from tests.campaign.world import Spared, World


def ending(world: World, draw: random.Random) -> bool:
    """Let things come right: a resync and two cycles, with a person who releases what is held; then judge.

    What a person released in the second of them has another cycle: a lock that was held may be what others wait for.
    Returns whether all is well. It is not judged where the state file belongs to another node.
    """
    world.say("-- the end: no more faults")
    world.heal()
    decisions.back(world, draw)
    meddling.told(world, draw)
    meddling.behaves(world, draw)
    world.keeper.set_seats(None)
    world.time.pass_by()

    def agrees(first: Plan) -> bool:
        world.observer.agreed(first.effects)
        return True

    there: Collection[str] = ()
    orders = [Order(resync=True, reviewed=agrees, by="root"), Order(by="root"), Order(by="root")]
    for order in orders:
        there = {*world.keeper.accounts()}
        world.time.elapsed += 2 * 3600  # longer than grace, and than any pause after failures
        _, held = _released(world, order)
        if held and order is orders[-1] and len(orders) < 6:
            orders.append(Order(by="root"))
    if world.observer.violations or world.plan is None:
        return False
    world.time.elapsed += 2 * 3600
    world.observer.agreed([])
    last, _ = _released(world, Order(resync=True, by="root"))
    if last is None:
        world.observer.violated("g", "without any fault the last cycle failed")
        return False
    # What fails is tried again and again; whether it matters is judged below by what Keeper holds.
    failing = {notice.subject.key for notice in last.notices if notice.kind.value in ("failing", "elsewhere")}
    sent = [op for op in last.operations if op.sent and op.subject.key not in failing]
    # A team that somebody rejected in a queue that nobody sees is asked for again and again. With it Keeper refuses all
    # teams of a creation: of somebody whom the last cycle has created, what became of the others is judged below.
    refusing = {*failing, *world.observer.ledger.rejected}
    for op in [one for one in sent if not (one.changes or one.remove)]:
        refused = [{team.jumpcloud_id, team.keeper_id} & refusing for team in op.add]
        if all(refused) or (any(refused) and op.subject.keeper_id not in there):
            sent.remove(op)
    # So is a membership that waits unseen, may not be there for all that is known, and is refused since it is there.
    refuses = world.keeper.dialect.refuses_duplicate_membership
    sent = [op for op in sent if not (refuses and _adds_only_what_waits(world, op))]
    if sent:
        words = ", ".join(f"{op.kind.value} {op.subject.name} ({op.reason})" for op in sent)
        world.observer.violated("g", f"after two cycles and a resync there was still something to do: {words}")
    _judge(world, last)
    return not world.observer.violations


def one_thing_broken(world: World, draw: random.Random) -> None:
    """With any one record, list or subject broken, everybody else is served within two cycles.

    Nothing is promised before a first plan was reviewed: as long as there was nothing in it, it waits.
    """
    store = world.open()
    reviewed = store.value("reviewed") == "1"
    world.close()
    if not reviewed:
        return
    before = world.plan
    for step in (organisation.join, organisation.returned, organisation.moved, organisation.suspended):
        world.say(step(world, draw))
    found = troubles.trouble(world, draw)
    if found is None:
        return
    world.troubles.append(found)
    world.say(f"broken: {found.words}")
    # Whoever has failed is tried again after a pause, also once the address is free.
    aliases = frozenset(other for a in world.keeper.accounts().values() for other in a.addresses - {a.email.casefold()})
    held = False
    for number in range(3):  # grace begins with the first
        world.time.elapsed += 2400
        text = world.lane(Weather(0))
        world.say(f"the leaver lane:  -> {text}")
        held = held or text.partition(" (")[0].endswith("]")  # whatever became of the others
        # A resync that could not list Keeper is made up for by the next cycle.
        plan, _ = _released(world, Order(resync=number > 0, by="root"))
    if plan is None and not found.spared.all_but_suspended:
        world.observer.violated("s", f"a cycle fails with {found.words}")
        return
    if plan is None and held:
        world.heal()  # what the lane holds while cycles fail is decided person by person, with `resync EMAIL`
        return
    # While cycles fail nothing is told anew, and what the one before them told of an account stands.
    _Equality(world, plan or before, "s", replace(found.spared, aliases=aliases)).judge()
    world.heal()


def _released(world: World, order: Order) -> tuple[Plan | None, bool]:
    """A cycle; what it holds a person lets through, as often as more is held. Returns also whether any was held."""
    first = plan = _cycle(world, order)
    for _ in range(3):
        if plan is None or not plan.held:
            break
        plan = _cycle(world, replace(order, rebind=False), release=True)
    return plan, first is not None and bool(first.held)


def _cycle(world: World, order: Order, *, release: bool = False) -> Plan | None:
    world.plan = None
    world.say(f"{'release' if release else 'resync' if order.resync else 'cycle'}:")
    if release:
        decisions.consent_to_held(world)
    text = world.cycle(order, Weather(0))
    world.say(f"  -> {text}")
    return world.plan


def _judge(world: World, plan: Plan) -> None:
    store = world.open()
    try:
        rows = {row["id"]: row for row in store.journal_rows()}
        unfinished = store.unfinished()
        shown = lambda team: _shown(world, team)  # noqa: E731
        world.observer.journal_tells_the_truth(rows, shown)
        for row in unfinished:
            here = (t for t in world.keeper.teams().values() if t.node == NODES[0])
            team = [t for t in here if t.external_id == row.operation.subject.jumpcloud_id]
            if row.operation.kind.value == "queue_team" and not any(_shown(world, t.id) for t in team):
                continue
            kind, name = row.operation.kind.value, row.operation.subject.name
            world.observer.violated("i", f"{kind} of {name} is still {row.state.value}")
        claims.judge(world, store, plan)
    except StateError as error:
        world.observer.violated("x", str(error))
    finally:
        world.close()
    world.look_for_secrets("the state file", world.path.read_bytes().decode("latin-1"))
    world.observer.links_undone()
    _equal(world, plan)


def _adds_only_what_waits(world: World, op: Operation) -> bool:
    account = world.keeper.accounts().get(op.subject.keeper_id)
    waiting = {*account.pending_teams} if account else set[str]()
    return bool(op.add) and not (op.changes or op.remove) and {team.keeper_id for team in op.add} <= waiting


def _shown(world: World, team: str) -> bool:
    found = world.keeper.teams().get(team)
    dialect = world.keeper.dialect
    return found is not None and (found.approved or dialect.shows_queued_teams)


class _Equality:
    """Whether Keeper is what JumpCloud wants, and if not, whether a true notice says why."""

    def __init__(self, world: World, plan: Plan | None, letter: str = "g", spared: Spared | None = None) -> None:
        self.world = world
        self.letter = letter
        self.spared = spared or Spared()
        self.truth = world.truth
        self.accounts = {k: a for k, a in world.keeper.accounts().items() if a.node == NODES[0]}
        self.teams = {k: t for k, t in world.keeper.teams().items() if t.node == NODES[0]}
        self.notices: dict[str, list[Notice]] = {}
        for notice in plan.notices if plan else ():
            for key in {notice.subject.jumpcloud_id, notice.subject.keeper_id}:
                self.notices.setdefault(key, []).append(notice)
        self.held = {plan.operations[number].subject.key for number in plan.held_indices} if plan else set()

    def told(self, *keys: str) -> set[str]:
        return {notice.kind.value for key in keys if key for notice in self.notices.get(key, ())}

    def wrong(self, words: str, *keys: str) -> None:
        told = ", ".join(sorted(self.told(*keys))) or "nothing"
        self.world.observer.violated(self.letter, f"{words} (told: {told})")

    def excuse(self, number: int) -> None:
        self.world.observer.excuse(number)

    def judge(self) -> None:
        spared = self.spared
        for person in sorted(self.truth.people.keys() - spared.people):
            if self.truth.in_scope(person) and not spared.all_but_suspended:
                self._in_scope(person)
        for account in self.accounts.values():
            people = self.world.observer.who(account)
            waits = self._may_wait(people) or (spared.nobodys and self._adopted_as_nobodys(account))
            named = self.world.observer.named_for(account)
            if not spared.people & {account.id, *people, *named} and (self._suspended(people) or not waits):
                self._leaver(account)
        for group, name in sorted(self.truth.groups.items()):
            spare = spared.teams or spared.all_but_suspended or group in spared.groups
            if self.world.rules.manages(name) and not spare:
                self._group(group, name)

    def _suspended(self, people: Collection[str]) -> bool:
        known = [self.truth.people[one] for one in people if one in self.truth.people]
        return bool(known) and all(one.suspended or one.state == "SUSPENDED" for one in known)

    def _may_wait(self, people: Collection[str]) -> bool:
        deleted = bool(people) and not any(one in self.truth.people for one in people)
        nobodys = self.spared.nobodys and not people
        return self.spared.all_but_suspended or nobodys or (self.spared.merely_left and not deleted)

    def _adopted_as_nobodys(self, account: Account) -> bool:
        """Whether a person took it over with the id of somebody who was deleted before any cycle knew it as theirs."""
        ledger, there = self.world.observer.ledger, self.truth.people
        known = account.id in ledger.owner or account.external_id in there
        return account.id in ledger.meant and not known

    def _account_of(self, person: str) -> Account | None:
        ledger = self.world.observer.ledger
        found = [a for a in self.accounts.values() if a.external_id == person]
        found += [a for a in self.accounts.values() if not a.external_id and ledger.owner.get(a.id) == person]
        # One that a plan merely found, by the address that it had, is nobody's under another.
        found = [a for a in found if not self.world.observer.was_found(a, person)]
        found = [a for a in found if a.id not in ledger.disowned] or found
        # Of several that bear the id, the other is in conflict by itself: one that came back from another node, say.
        if len(found) > 1:
            found = [a for a in found if not self._is_the_other(a, person)] or found
        # Beside a conflict about the person, whoever came later under their address is not theirs.
        age = ledger.known if "conflict" in self.told(person) else {}
        address = self.truth.address(person)
        # One that shows both their id and their address goes before one that shows neither, unless that is locked by
        # somebody else: they got it since the copy was made that is the state file now.
        if [a.external_id == person and a.email.casefold() == address for a in found].count(True) == 1:
            others = {a.id for a in found if a.locked and a.id not in ledger.own_locks}
            found = [a for a in found if a.external_id or a.email.casefold() == address or a.id in others]
        # Of two that bear their id, the one that is open is theirs.
        found.sort(key=lambda a: (a.id not in ledger.created, a.locked, age.get(a.id, 0), address not in a.addresses))
        return found[0] if found else None

    def _is_the_other(self, account: Account, person: str) -> bool:
        """Whether a conflict is told of the account alone; that of a person is theirs, whatever account they have."""
        told = self.notices.get(account.id, ())
        return any(one.kind.value == "conflict" and one.subject.jumpcloud_id != person for one in told)

    def _has_another(self, person: str, account: Account) -> bool:
        """Whether the state file knows another account as theirs, without their id, than the one that bears it."""
        ledger = self.world.observer.ledger
        linked = (one for one in self.accounts.values() if one.id in ledger.linked and one.id != account.id)
        return any(ledger.owner.get(one.id) == person for one in linked)

    def _rivals(self, person: str) -> bool:
        """Whether the person's address is somebody else's too, in JumpCloud or in Keeper, or that of the account which
        bears their id, or they have two accounts."""
        address = self.truth.address(person)
        met = self.world.observer.ledger.met
        own = [a for a in self.accounts.values() if a.external_id == person and met.get(a.id, person) == person]
        others = [a for a in self.world.keeper.accounts().values() if address in a.addresses and a not in own]
        theirs = {address, *(a.email.casefold() for a in own)}
        same = [one for one in self.truth.scope_since if one != person and self.truth.address(one) in theirs]
        # An account that bears their id, and that no creation of ours has made, may be that of whoever is staged too.
        newborn = self.world.observer.ledger.newborn
        found = {a.email.casefold() for a in own if a.id not in newborn} - {address}
        same += [o for o in self.truth.people if o != person and self.truth.address(o) in found and self.truth.stays(o)]
        return bool(others or same or len(own) > 1 or any(self._has_another(person, one) for one in own))

    def _given_away(self, person: str) -> bool:
        """Whether their account was given to somebody else since the copy was made that is the state file now."""
        former = self.world.observer.ledger.former_owner
        given = [a for a in self.accounts.values() if former.get(a.id) == person and a.external_id != person]
        return any(self.truth.stays(a.external_id or "") for a in given) and self.world.observer.excuse(10)

    def _linked_elsewhere(self, person: str) -> bool:
        """Whether Keeper linked their creation under this address to an account that is there: it is asked for no more.
        Or it linked that of somebody else to theirs, of which an old copy of the state file does not know."""
        ledger = self.world.observer.ledger
        address, account = ledger.refused.get(person, ("", ""))
        met = [ledger.aliased[one] for one in ledger.forgotten_links & self.accounts.keys() & ledger.aliased.keys()]
        theirs = [was for was in met if person in (was.external_id, ledger.owner.get(was.id))]
        if account in self.accounts and address == self.truth.address(person):
            return True
        return bool(theirs) and self.world.observer.excuse(9)

    def _in_scope(self, person: str) -> None:
        account, address = self._account_of(person), self.truth.address(person)
        told = self.told(person, account.id if account else "")
        ledger = self.world.observer.ledger
        who = address or person
        disowned = [a for a in self.accounts.values() if a.id in ledger.disowned]
        if any(person in (a.external_id, ledger.owner.get(a.id)) or a.email.casefold() == address for a in disowned):
            return
        mine = [a for a in self.world.keeper.accounts().values() if person in (a.external_id, ledger.owner.get(a.id))]
        # An account that is gone protects whoever had it as one that is there does.
        entries = (once for one, once in ledger.shielded.items() if ledger.owner.get(one) == person)
        if self.world.rules.protected & {address}.union(*entries) or any(self._protected(one) for one in mine):
            # Whose invitation our lock had withdrawn is created anew, as soon as Keeper can be listed; so is whose
            # protected account the state file does not know as theirs.
            known = any(ledger.owner.get(one) == person for one in ledger.created)
            anew = person in ledger.locked_once or not (known or address in self.world.rules.protected)
            returns = account is None and self.spared.newcomers and anew
            if not told and not returns and (account is None or account.locked):
                self.wrong(f"{who} is protected, and nothing says so", person)
            return
        if account is not None and self._protected_by_a_page_that_is_behind(account):
            return
        # Whose account was protected under a former address, and is gone.
        if account is None and "protected" in told and self.truth.addresses[person] & self.world.rules.protected:
            return
        if "conflict" in told and any(self._claimed(one, person) for one in self._merely_found(person)):
            return
        given_up = set[str]().union(*ledger.given_up.values())
        if "unmanaged" in told and {person, address, *self.truth.addresses[person]} & given_up:
            return
        unknown = account is not None and not (account.external_id or address or account.id in ledger.created)
        if account is None or (unknown and "no_address" in told):
            excused = (
                ("no_address" in told and not address)
                or (told & {"conflict", "elsewhere", "failing"} and self._rivals(person))
                or (
                    "locked_in_keeper" in told
                    and any(a.locked and address in a.addresses for a in self.accounts.values())
                )
                or ("locked_in_keeper" in told and self.world.observer.left_locked_of(person))
                or ("locked_in_keeper" in told and self._linked_by_a_page_that_is_behind(person))
                or ("conflict" in told and self._theirs_passes_for_linked(person))
                or ("conflict" in told and (self._given_away(person) or self._linked_elsewhere(person)))
                or (told & {"failing"} and any(address in a.addresses for a in self._elsewhere()))
                or (told & {"failing"} and address in self.spared.aliases)
            )
            if not excused and not self.spared.newcomers:
                self.wrong(f"{who} is in scope and has no account", person)
            return
        conflict = "conflict" in told and self._rivals(person)
        if conflict and (account.external_id != person or self._has_another(person, account)):
            return
        # A person gave it to another one of that address, who alone was in scope then.
        namesakes = [one for one in self.truth.scope_since if self.truth.address(one) == address]
        if conflict and account.id in ledger.meant and len(namesakes) > 1:
            return
        if self.spared.newcomers and (account.id not in ledger.created or account.id in ledger.meant):
            return  # to be adopted, which takes a list of Keeper
        # Their id on an account with another address links nobody, and the conflict is then about the person alone.
        alone = any(one.kind.value == "conflict" and not one.subject.keeper_id for one in self.notices.get(person, ()))
        if alone and account.email.casefold() != address:
            return
        # An old copy of the state file knows it as somebody else's: nothing is changed about it.
        given = ledger.former_owner.get(account.id, person) != person
        if given and "conflict" in self.told(account.id) & self.told(person):
            self.excuse(10)
            return
        # With another address than theirs it may be that of whoever has no readable record, and no account for sure.
        without = [one for one in self.spared.people if self._account_of(one) is None or "conflict" in self.told(one)]
        unread = any(map(self.truth.stays, without))
        if "conflict" in told and account.email.casefold() != address and unread:
            return
        if account.locked and self.spared.returned:
            return
        # Of an account that is another's by an old copy of the state file nothing is changed, and only that is told.
        given = account.external_id == person and account.id in ledger.former_owner and "conflict" in told
        if account.locked:
            bearers = [a for a in self.accounts.values() if a.locked and a.external_id == person] or [account]
            somebody_else = any(a.id not in ledger.own_locks for a in bearers)
            # Under an address that is another's by now, their vault would be open to that one's log-in.
            claimed = "conflict" in told and self._claimed(account, person)
            told_so = ("locked_in_keeper" in told or given) and somebody_else
            if not conflict and not claimed and not told_so:
                self.wrong(f"{who} is in scope and locked", person, account.id)
            elif given and not (conflict or claimed or "locked_in_keeper" in told):
                self.excuse(10)
            elif account.id in ledger.forgotten_locks:
                self.excuse(5)
            return
        if given:
            self.excuse(10)
            return
        if account.email.casefold() != address and not (told & {"address_change", "conflict", "drift"} or not address):
            self.wrong(f"{who} has the address {account.email}", person, account.id)
        # One that nothing but its address ties to them gets none of their names while somebody else claims that too.
        if not (account in self._merely_found(person) and self._is_claimed_in_words(account, person)):
            self._names(person, account)
        self._membership(person, account, conflict)

    def _merely_found(self, person: str) -> list[Account]:
        """The accounts that a first plan found for them by their address, and that bear nobody's id."""
        found_for = self.world.observer.ledger.found_for
        return [a for a in self.accounts.values() if not a.external_id and found_for.get(a.id) == person]

    def _claimed(self, account: Account, person: str) -> bool:
        """Whether somebody else who has not left has the address of an account."""
        return any(map(self.truth.stays, self._others_at(account, person)))

    def _is_claimed_in_words(self, account: Account, person: str) -> bool:
        """Whether a conflict is told of somebody else who has the address of an account."""
        return any("conflict" in self.told(one) for one in self._others_at(account, person))

    def _others_at(self, account: Account, person: str) -> list[str]:
        """Everybody but this person who has the address of an account."""
        address = account.email.casefold()
        return [one for one in self.truth.people if one != person and self.truth.address(one) == address]

    def _protected(self, account: Account) -> bool:
        once = self.world.observer.ledger.shielded.get(account.id, set())
        return bool({account.email.casefold(), *once} & self.world.rules.protected)

    def _protected_by_one_that_is_gone(self, person: str) -> bool:
        """Whether an account that they had, and that is gone or in another node, had an address that is protected."""
        observer = self.world.observer
        away = {one.id: {*one.addresses} for one in self._elsewhere()}
        known = {**observer.former, **away}.items()
        theirs = (names for one, names in known if observer.ledger.owner.get(one) == person)
        return bool(self.world.rules.protected.intersection(set[str]().union(*theirs)))

    def _protected_by_a_page_that_is_behind(self, account: Account) -> bool:
        entries = self.world.observer.ledger.shielded_behind.get(account.id, set()) & self.world.rules.protected
        if not entries or "protected" not in self.told(account.id):
            return False
        self.excuse(7)
        return True

    def _linked_by_a_page_that_is_behind(self, person: str) -> bool:
        """Whether an account under a former address of theirs, to which such a page linked them, is locked, or left
        this node so."""
        former, observer = self.truth.addresses[person], self.world.observer
        locked = any(a.locked and former & {*a.addresses} for a in self.accounts.values())
        return (locked or observer.left_locked_once_of(person)) and observer.excuse(7)

    def _theirs_passes_for_linked(self, person: str) -> bool:
        """Whether an account that bore their id by a request of ours is there, and can't be told from one to which
        Keeper linked their creation by an alias: under this address they are not created again."""
        observer = self.world.observer
        birth = observer.ledger.births.get(person)
        if birth is None or birth.address != self.truth.address(person):
            return False
        bore = {one.subject for one in self.world.keeper.changes if getattr(one.after, "external_id", "") == person}
        there = (account for account in self.accounts.values() if account.id in bore)
        return any(observer.passes_for_linked(one, person) for one in there) and observer.excuse(4)

    def _elsewhere(self) -> list[Account]:
        return [a for a in self.world.keeper.accounts().values() if a.node != NODES[0]]

    def _names(self, person: str, account: Account) -> None:
        import unicodedata

        user = self.truth.people[person]
        for want, have, field in (
            (user.firstname, account.given_name, "given name"),
            (user.lastname, account.family_name, "family name"),
            (user.displayname, account.display_name, "display name"),
        ):
            wanted = unicodedata.normalize("NFC", want or "").strip()
            held = unicodedata.normalize("NFC", have or "").strip()
            name, ledger = field.replace(" ", "_"), self.world.observer.ledger
            wished = unicodedata.normalize("NFC", ledger.wished.get(account.id, {}).get(name, wanted)).strip()
            if not wanted or wanted == held:
                continue
            if wished == wanted and name in ledger.overtaken.get(account.id, ()):
                self.excuse(8)
            elif wished == wanted and self._came_meanwhile(account):
                self.excuse(4)
            else:
                self.wrong(f"{account.email} has the {field} {held!r}, not {wanted!r}", person, account.id)

    def _came_meanwhile(self, account: Account) -> bool:
        """Whether a creation met the account, since it came between the list and the request: it keeps its names, and
        may get no team."""
        changes = self.world.keeper.changes
        return any(change.what == "link_user" and change.subject == account.id for change in changes)

    def _membership(self, person: str, account: Account, conflict: bool) -> None:
        ledger = self.world.observer.ledger
        hidden = {t.external_id for t in self.teams.values() if not _shown(self.world, t.id)}
        if self.spared.teams:
            return
        hidden |= self.spared.groups
        wanted = {
            g for g in self.truth.teams_of(person) if self.world.rules.manages(self.truth.groups.get(g, ""))
        } - hidden
        teams = [*account.teams, *account.pending_teams]
        has = {self.teams[t].external_id for t in teams if t in self.teams}
        for group in wanted - has:
            if self.spared.newcomers and not self._has_team(group):
                continue
            name = self.truth.groups[group]
            waits = self.told(group) & {"conflict", "waiting_for_approval", "failing"} and not self._has_team(group)
            # Taken out by hand before it ever showed: that can't be told from waiting. Its team may be another's.
            keys = {group, *(t.id for t in self.teams.values() if t.external_id == group)}
            taken_out = any((account.id, key) in ledger.withdrawn for key in keys)
            told = "waiting_for_approval" in self.told(group)
            if conflict or waits:
                continue
            if told and taken_out:
                self.excuse(1)
            elif told and self._came_meanwhile(account):
                self.excuse(4)
            else:
                self.wrong(f"{account.email} is not in {name}", person, account.id, group)
        if not self.world.keeper.dialect.shows_pending_memberships:
            teams = [*account.teams]
        for team, group in ((t, self.teams[t].external_id or "") for t in teams if t in self.teams):
            if group not in self.truth.groups or group in wanted | hidden:
                continue
            # Of two teams with one group's id only one is ours.
            twins = any(t.external_id == group and t.id not in teams for t in self.teams.values())
            by_hand = (account.id, team) in ledger.by_hand and "given_by_hand" in self.told(person, account.id)
            if not twins and not by_hand:
                self.wrong(f"{account.email} is in {self.truth.groups[group]} still", person, account.id, group)

    def _may_be_served(self, person: str) -> bool:
        """Whether somebody has an address, or an account."""
        who = self.world.observer.who
        return bool(self.truth.address(person)) or any(person in who(one) for one in self.accounts.values())

    def _has_team(self, group: str) -> bool:
        return any(t.external_id == group for t in self.teams.values())

    def _leaver(self, account: Account) -> None:
        """Whom we manage and who is not in scope any more is locked."""
        ledger = self.world.observer.ledger
        if not account.active or account.id not in ledger.created or account.id in ledger.disowned:
            return
        people = self.world.observer.who(account)
        for user in (self.truth.people.get(person) for person in people):
            if user is not None and user.state not in ("ACTIVATED", "SUSPENDED") and not user.suspended:
                return
            if user is not None and self.truth.stays(user.id):
                return
        if self._protected(account) or self._protected_by_a_page_that_is_behind(account):
            return
        if "protected" in self.told(account.id) and any(map(self._protected_by_one_that_is_gone, people)):
            return
        # An old copy of the state file knows it as that of whoever had it before it was given to whoever has left.
        former, told = ledger.former_owner.get(account.id, ""), self.told(account.id)
        lane = bool(former) and self.spared.all_but_suspended
        if "conflict" in told and (lane or (self.truth.stays(former) and "conflict" in self.told(former))):
            self.excuse(10)
            return
        # A creation that met it has left it the id of somebody without another, and the file that knew of it is lost.
        left_id = account.external_id if account.id in ledger.forgotten_links else None
        if left_id and self.truth.stays(left_id) and "conflict" in self.told(account.id) & self.told(left_id):
            self.excuse(9)
            return
        # Taken over by a person as nobody whom JumpCloud knows, and then somebody else came to have the address.
        # Somebody who is not bound, was tied to no account and merely has it need not be whom it was made for.
        address = account.email.casefold()
        bound = self.world.jumpcloud.in_scope(self.world.application)
        known = {account.external_id, ledger.met.get(account.id), *ledger.owner.values(), *bound}
        unknown = account.id in ledger.meant and not people & self.truth.people.keys() & known
        rivals = any(self.truth.address(one) == address and self.truth.stays(one) for one in self.truth.people)
        # Or it may be that of somebody without an address, if no cycle has tied an account to them.
        rivals = rivals or any(self.truth.stays(one) and not self.truth.address(one) for one in self.truth.people)
        if unknown and rivals and "conflict" in self.told(account.id):
            self.excuse(11)
            return
        # By an old copy of the state file it is theirs, and another shows both their id and their address, it neither.
        both = [a for a in self.accounts.values() if a.external_id in people and self._addressed_as(a, {a.external_id})]
        neither = account.external_id not in people and not self._addressed_as(account, people)
        if len(both) == 1 and neither and "ghost" in self.told(account.id):
            self.excuse(11)
            return
        # It was in another node while its owner was given another one, or was made while they had another.
        others = {one for one in ledger.newborn if one != account.id and ledger.owner.get(one) in people}
        others |= {one for one in people if self._has_another(one, account)}
        others |= {
            k for k in ledger.created - {account.id} if k in self.accounts and self.accounts[k].external_id in people
        }
        # Or it was given up since the copy was made that is the state file now, and somebody made the other.
        forgotten = bool(people & ledger.given_up.get(account.id, set())) and not account.external_id
        forgotten = forgotten and bool(others & ledger.readdressed.keys())
        apart = account.id in ledger.readdressed or forgotten
        if others and apart and self.told(account.id) & {"ghost", "conflict", "quarantined"}:
            self.excuse(11)
            return
        self.wrong(f"{account.email} has left and is not locked", account.id, *people)

    def _addressed_as(self, account: Account, people: Collection[str]) -> bool:
        """Whether an account has the address of one of these people."""
        return account.email.casefold() in {self.truth.address(one) for one in people}

    def _group(self, group: str, name: str) -> None:
        found = [t for t in self.teams.values() if t.external_id == group]
        told = self.told(group)
        # A group of the same name keeps its team while it is there, whatever the team is called in Keeper.
        groups = self.world.jumpcloud.organization().groups
        theirs = {one for one, other in groups.items() if other.name == name and one != group}
        namesakes = [
            t for t in self.teams.values() if t.external_id != group and (t.name == name or t.external_id in theirs)
        ]
        # A team that somebody renamed in Keeper is that of its group still, whatever that is called by now.
        ledger = self.world.observer.ledger
        namesakes += [t for t in self.teams.values() if t.id in ledger.touched and t.external_id in groups]
        # One without an id may have been adopted by its name for another group, whose id need not have arrived.
        free = [t for t in self.teams.values() if theirs and not t.external_id]
        namesakes += [t for t in free if name in ledger.renamed.get(t.id, ())]
        twins = [g for g, other in self.truth.groups.items() if g != group and other == name]
        if not found:
            excused = (told & {"conflict", "failing"} and (namesakes or twins)) or (
                told & {"waiting_for_approval"}
                and (group in self.held or group in ledger.rejected or group in ledger.perhaps_deleted)
            )
            # Keeper says of an id that it never showed, and that was rejected there, that there is no such team.
            known = {name, *(notice.subject.keeper_id for notice in self.notices.get(group, ()))}
            # Where it was another group's, that one waits for it still.
            waits = "conflict" in told or told >= {"failing", "waiting_for_approval"}
            rejected = known & self.world.observer.ledger.rejected and waits
            if not excused and not rejected and not self.spared.newcomers:
                self.wrong(f"the group {name} has no team", group)
        elif any("name" in self.world.observer.ledger.overtaken.get(t.id, ()) for t in found):
            return  # renamed by hand before Keeper ever showed what it made of our wish
        elif all(team.name != name and _shown(self.world, team.id) for team in found) and not (
            namesakes and told & {"failing", "conflict"}
        ):
            self.wrong(f"the team of {name} is called {found[0].name}", group, found[0].id)


def _equal(world: World, plan: Plan) -> None:
    _Equality(world, plan).judge()
