"""What persons decide about who is managed: `adopt` and `disown`, kept in the state file."""

from dataclasses import replace
from datetime import datetime

from reconciler import addresses, births
from reconciler.counting import agreeing, count
from reconciler.diff_teams import listed
from reconciler.model import Account, Snapshot, Standing, Takeover, normal, typed
from reconciler.rows import time_text
from reconciler.snapshot import given_up, superseded
from reconciler.store import Store

FOLLOWS = "\nSee what follows: reconciler plan"


class NothingDecided(Exception):
    """Nothing was changed: the words say why, and what to do. `amiss`: it could not be, and not merely need not be."""

    def __init__(self, words: str, *, amiss: bool = True) -> None:
        super().__init__(words)
        self.amiss = amiss


def adopt(
    store: Store, now: datetime, by: str, reason: str, *, email: str | None = None, team: str | None = None
) -> str:
    """Mark an account, a team, or with neither every ghost, to be taken over by the next plan; returns what was done.
    Raises NothingDecided.

    An account that was named and whose address a user in scope has is linked to them, also where it was somebody
    else's; where nobody has it, one that was given up is linked to whoever had it then. Whoever is out of scope is
    managed as such, and their lock waits for a release.
    """
    before = store.snapshot()
    if team is not None:
        return _adopt_team(store, before, now, by, reason, team)
    if email is not None:
        known = _accounts(before, email)
        # An account of ours that is not in this node can be given to nobody.
        there = [account for account in known if not (account.managed and account.gone)]
        people = sorted(p for p in before.refused_births if births.refused(before, p, email) is not None)
        if people and not there:
            return _adopt_by_birth(store, before, now, by, reason, email, people)
        if not known:
            raise NothingDecided(_nobody_to_adopt(before, email))
        # As last read nobody has left whose account it is, so nothing can follow: consent must not wait for a change.
        found = [account for account in there if not account.managed or account.left_at is not None]
        if not found:
            raise NothingDecided(_managed_already((there or known)[0]))
    else:
        found = [a for a in before.accounts.values() if a.standing is Standing.UNMANAGED and not a.gone]
        if not found:
            raise NothingDecided("Keeper has no user whom we do not manage; nothing was changed.", amiss=False)
    takeover = Takeover.AS_GHOST if email is None else Takeover.BY_ADDRESS
    accounts = {
        account.keeper_id: replace(
            account,
            standing=Standing.UNMANAGED if account.standing is Standing.DISOWNED else account.standing,
            # A person who names an account agrees to more than one who means all of them: that stands.
            takeover=Takeover.NONE if account.gone else takeover if email else account.takeover or takeover,
            active=not account.was_locked if account.gone else account.active,
        )
        for account in found
    }
    decided = replace(before, accounts={**before.accounts, **accounts})
    _keep(store, decided, before, "adopt", {"accounts": sorted(accounts), "email": email or ""}, now, by, reason)
    # Of one that was given up and is gone since, only that decision is taken back.
    present = [account for account in found if not account.gone] or found
    spared = [account.email for account in present if account.protected_as]
    number = len(present) - len(spared)
    words = f"{count(number, 'Keeper user') if number else 'Nobody'} will be taken over with the next plan"
    if spared:
        whom = f"; not {listed(spared)}, as long as policy.protect covers them"
        words += whom if number else f" as long as policy.protect covers {listed(spared)}"
    owners = sorted(account.jumpcloud_id for account in found if account.managed and account.jumpcloud_id)
    if not (owners and number):
        return f"{words}.{FOLLOWS}"
    return (
        f"{words}, if another user in scope, who has no Keeper user, has this address by then and the JumpCloud user "
        f"{owners[0]}, for whom it is managed already, has left; else nothing changes.{FOLLOWS}"
    )


def _adopt_by_birth(
    store: Store, before: Snapshot, now: datetime, by: str, reason: str, email: str, people: list[str]
) -> str:
    """Let a creation be repeated that Keeper linked to an account which is not new."""
    with store.together():
        store.agree_to_births(people)
        arguments: dict[str, object] = {"accounts": [], "email": email, "people": people}
        _keep(store, before, before, "adopt", arguments, now, by, reason)
    others = listed(sorted({births.met(before.refused_births[one], before) for one in people}))
    return (
        f"{email} will be created with the next plan. If Keeper links that to {others} again, the account is theirs, "
        f"unless it is managed for another JumpCloud user, or is that of one who has not left.{FOLLOWS}"
    )


def _adopt_team(store: Store, before: Snapshot, now: datetime, by: str, reason: str, name: str) -> str:
    found = [t for t in before.teams.values() if not t.managed and not t.gone and normal(t.name) == normal(name)]
    if len(found) != 1:
        raise NothingDecided(
            f"{count(len(found), 'Keeper team')} that we do not manage {agreeing(len(found), 'has')} the name {name}; "
            "nothing was changed. Which there are: reconciler teams. After a change in Keeper: reconciler resync"
        )
    # One that waits unseen may have been rejected in the queue.
    managed = (t for t in before.teams.values() if t.managed and not (t.gone or t.missing or t.waiting))
    if other := next((t for t in managed if normal(t.name) == normal(name)), None):
        raise NothingDecided(
            f"{name} is also the name of a Keeper team that is managed for the JumpCloud group {other.jumpcloud_id}; "
            "nothing was changed. Delete or rename one of the two in Keeper's Admin Console, then: reconciler resync"
        )
    team = replace(found[0], takeover=True)
    decided = replace(before, teams={**before.teams, team.keeper_id: team})
    _keep(store, decided, before, "adopt", {"team": team.keeper_id}, now, by, reason)
    words = f"The Keeper team {name} will be taken over with the next plan, if a group of the same name is in scope."
    return words + FOLLOWS


def disown(store: Store, now: datetime, by: str, reason: str, email: str) -> str:
    """Give an account up: it stays as it is, gets its former externalId back with the next cycle, and is matched no
    more; returns what was done. Raises NothingDecided.

    Of a leaver whose account is not in this node it closes the question whether access ended, and does nothing else:
    the account is a mere memory, and should the person come back, they are created anew.
    """
    before = store.snapshot()
    managed = [account for account in _accounts(before, email) if account.managed]
    # Who had the address before, and is gone, is somebody else.
    found = [account for account in managed if not account.gone] or managed
    if not found:
        alike = sorted({a.email for a in before.accounts.values() if a.managed and addresses.alike(a.email, email)})
        other = f" {alike[0]} is managed, {addresses.DIFFERENCE}." if alike else ""
        raise NothingDecided(f"{email} is nobody whom we manage in Keeper; nothing was changed.{other}")
    closed = {one.keeper_id: time_text(one.left_at) for one in found if one.gone and one.left_at is not None}
    # Should it come back, a creation for whoever has its address by then must not take it for a new one.
    accounts = {
        account.keeper_id: replace(superseded(account, now), asked={})
        if account.keeper_id in closed
        else given_up(account)
        for account in found
    }
    decided = replace(before, accounts={**before.accounts, **accounts})
    arguments: dict[str, object] = {"accounts": sorted(accounts), "email": email, "closed": closed}
    _keep(store, decided, before, "disown", arguments, now, by, reason)
    # A partial cycle may be about to change them, or to create the person anew.
    store.hands.changed({*accounts, *(account.jumpcloud_id for account in found)})
    if closed.keys() == accounts.keys():
        return f"{email} is not in this Keeper node: the question whether access ended is closed, nothing else is done."
    return (
        f"{email} is given up: nothing is changed any more but the externalId that we set, which is taken back, and "
        f"nobody is created anew, until `reconciler adopt {typed(email)}`.{FOLLOWS}"
    )


def _accounts(snapshot: Snapshot, email: str) -> list[Account]:
    return [a for a in snapshot.accounts.values() if addresses.same(a.email, email) and not a.bygone]


def _managed_already(account: Account) -> str:
    whose = f" for the JumpCloud user {account.jumpcloud_id}" if account.jumpcloud_id else ""
    state = "who has not left as far as JumpCloud was last read"
    if account.gone:
        state = "and is not in this Keeper node, so there is nothing to take over"
    return (
        f"{account.email} is managed already{whose}, {state}; nothing was changed. "
        f"How it stands: reconciler explain {typed(account.email)}"
    )


def _nobody_to_adopt(snapshot: Snapshot, email: str) -> str:
    words = f"Keeper's user {email} is not in the snapshot; nothing was changed."
    there = (account for account in snapshot.accounts.values() if not account.bygone)
    alike = sorted({account.email for account in there if addresses.alike(account.email, email)})
    if not alike:
        return f"{words} First: reconciler resync"
    return f"{words} {alike[0]} is, {addresses.DIFFERENCE}. If that user is meant: reconciler adopt {typed(alike[0])}"


def _keep(
    store: Store,
    decided: Snapshot,
    before: Snapshot,
    kind: str,
    arguments: dict[str, object],
    now: datetime,
    by: str,
    reason: str,
) -> None:
    """What was decided, and who decided it and why, in one step."""
    with store.together():
        store.save(decided, before)
        request = store.add_request(kind, arguments, by=by, at=now, reason=reason)
        store.close_request(request, "done", now)
