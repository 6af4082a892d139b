"""The bond between a person and a new Keeper account: by birth only. Pure.

Keeper links a creation to a member of the node who has the address, be it as an alias (keeper.md; a linked account
may take the externalId, names and teams of the request, or keep its own). An account is born by a creation if it shows
the same address under an id that no earlier list had. Any other link is undone, and the address is not created again
until a person decides, the address changes, or that account ends.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from datetime import datetime

from reconciler import addresses
from reconciler.model import (
    DISPLAY_NAME,
    EXTERNAL_ID,
    USER_ATTRIBUTES,
    USER_NAME,
    Account,
    KeeperTeam,
    KeeperUser,
    OddRecord,
    RefusedBirth,
    Snapshot,
    has_ended,
    is_jumpcloud_id,
    normal,
    typed,
)
from reconciler.plan import Cause, Change, Kind, Operation, Rule, Subject

LINKED = "linked_to_another"
"""The outcome of a creation that Keeper answered with an account that is not new."""
UNDO_DUE = "undo_due"
"""The outcome of an undo that was put off: the next cycle sends it."""
UNDO_WORDS = "the next cycle undoes the link"
ACTIVE = "active"


def is_theirs(
    op: Operation, made: KeeperUser, known: Account | None, births: Mapping[str, RefusedBirth], *, listed: bool
) -> bool:
    """Whether the account that answered a creation is the person's.

    `known` is the account's row in the snapshot. `listed`: a list has shown the account before the request. A creation
    by the rule `adopted` takes the account that a person agreed to, unless it is managed for somebody else; `births`
    say which one that is.
    """
    person = op.subject.jumpcloud_id
    if known is not None and (known.managed or known.owned_once):
        return person in (known.jumpcloud_id, known.owned_once)
    birth = births.get(person)
    if op.rule is Rule.ADOPTED and birth is not None and birth.agreed and birth.keeper_id == made.id:
        return True
    external = made.attributes.get(EXTERNAL_ID, "")
    if listed or (is_jumpcloud_id(external) and external != person):
        return False
    return addresses.same(made.attributes.get(USER_NAME, ""), wanted_address(op))


def tying_address(op: Operation) -> str:
    """The address by which an operation ties its subject to an account: one that it creates or sends; "" for others."""
    return next((change.after for change in op.changes if change.attribute == USER_NAME), "")


def wanted_address(op: Operation) -> str:
    """The address under which a creation asks for the person."""
    return tying_address(op) or op.subject.name


def undoing(
    op: Operation,
    made: KeeperUser,
    known: Account | None,
    wanted: Set[str] = frozenset(),
    asked: Iterable[Change] = (),
    odd: OddRecord | None = None,
) -> Operation | None:
    """The operation that gives an account back what the last list showed; None where nothing is to be undone.

    `op` is the creation as it was sent, `made` the account as Keeper showed it afterwards. Of an account that no list
    has shown only the id and the teams of the request are taken back. A link does not lock anybody: the lock that a
    list showed is set again, and no other change of access is undone. `wanted` are the Keeper ids of teams that the
    plan gives to the account's owner: a membership may wait for approval, unseen, and is left. `asked` is what the plan
    changes on the account: that may be there before the answer to the creation is. `odd` is what the last list showed
    of an account whose record could not be read in full: what it did not show is left as it is.
    """
    if odd is not None and known is not None and known.bygone:
        known = None  # it was so before it went away
    person = op.subject.jumpcloud_id
    # The client sends the address where there is no display name.
    sent = {change.attribute for change in op.changes} | {DISPLAY_NAME}
    sent -= {USER_NAME, *made.unreadable}
    before = known.shown if known else _read_of(odd) if odd else {}
    planned = {(change.attribute, normal(change.after)) for change in asked}
    changes = []
    for attribute in (one for one in USER_ATTRIBUTES if one in sent):
        have, was = made.attributes.get(attribute, ""), before.get(attribute, "")
        ours = known is not None or attribute in before or (attribute == EXTERNAL_ID and have == person)
        if ours and normal(have) != normal(was) and (attribute, normal(have)) not in planned:
            changes.append(Change(attribute, have, was))
    was_locked = known.was_locked if known else odd is not None and odd.active is False
    if was_locked and made.active and (ACTIVE, "true") not in planned:
        changes.append(Change(ACTIVE, "true", "false"))
    memberships = known.memberships if known else {}
    kept = {team_id for team_id, one in memberships.items() if one.shown or one.ours} | wanted
    if known is None and odd is not None:
        # Of one whose teams were not shown, each may have been there.
        kept |= {team.keeper_id for team in op.add} if odd.teams is None else {*odd.teams}
    teams = [team for team in op.add if team.keeper_id and team.keeper_id not in kept]
    # A membership that waits for approval may not show; where the account took the rest, it took that too.
    remove = tuple(team for team in teams if changes or team.keeper_id in (made.teams or ()))
    if not (changes or remove):
        return None
    name = made.attributes.get(USER_NAME, "") or before.get(USER_NAME, "") or made.id
    return Operation(
        Kind.UPDATE_USER,
        Subject("user", name, known.jumpcloud_id if known and known.managed else "", made.id),
        Cause.JUMPCLOUD,
        Rule.UNDONE,
        f"the creation of {wanted_address(op)} led to this account: undone",
        tuple(changes),
        remove=remove,
    )


def _read_of(odd: OddRecord) -> Mapping[str, str]:
    """The attributes that could be read of a record."""
    has_id = bool(odd.fields) and EXTERNAL_ID not in odd.fields
    return {EXTERNAL_ID: odd.external_id, **odd.shown} if has_id else odd.shown


def refused_words(address: str, other: str, *, managed: bool, undone: bool | None) -> str:
    """Why somebody was not created, and what to do, in an administrator's words.

    `other` is the address of the account that carries it, by Keeper's answer or by a later list. `managed`: that is
    another JumpCloud user's. `undone`: whether the account has again what it had, None where that is being done.
    """
    same = addresses.same(address, other)
    alias = "" if same else f": {address} may be an alias of it"
    if managed:
        whose = "another JumpCloud user's account"
    elif same:
        whose = "an account that is not new"
    else:
        # Nothing tells whether an account that no list has shown is new, or of another node.
        whose = "an account under another address"
        alias += ", or Keeper has made it under that address and invited it"
    first = (
        f"Remove that alias in the Admin Console, or give one of the two another address; then: reconciler adopt "
        f"{typed(address)}"
        if managed
        else f"If that account is theirs, or once the alias is removed in the Admin Console: reconciler adopt "
        f"{typed(address)}"
    )
    return (
        f"The creation of {address} led to {other}, {whose}{alias}. {_UNDONE[undone]}, and {address} is not "
        f"created again until a person decides. {first}"
    )


_UNDONE = {
    True: "Whatever id and teams the request gave it are taken back",
    False: "What the request changed there is not undone yet (that account may still have its id, names and teams), "
    "which is tried again",
    None: "What the request changed there is to be undone at once",
}


def refused(snapshot: Snapshot, person: str, address: str) -> RefusedBirth | None:
    """The creation of this person under this address that Keeper linked to an account which is still there. One whose
    record could not be read has no row, or is a mere memory, and is there all the same."""
    birth = snapshot.refused_births.get(person)
    if birth is None or not addresses.same(birth.address, address):
        return None
    account = snapshot.accounts.get(birth.keeper_id)
    ended = _odd(snapshot, birth) is None and (account is None or has_ended(account, birth.at))
    return None if ended else birth


def met(birth: RefusedBirth, snapshot: Snapshot) -> str:
    """The name of the account to which Keeper linked a creation: its address, or its id where nothing shows that."""
    account = snapshot.accounts.get(birth.keeper_id)
    odd = _odd(snapshot, birth)
    return (account.email if account else odd.name if odd else "") or birth.keeper_id


def _odd(snapshot: Snapshot, birth: RefusedBirth) -> OddRecord | None:
    return next((one for one in snapshot.odd if one.type == "user" and one.keeper_id == birth.keeper_id), None)


def due(undo: Operation, account: Account, theirs: Set[str] = frozenset()) -> Operation | None:
    """The part of an undo that is still to be done, None where nothing of it is. `theirs` are the Keeper ids of teams
    that the account's owner is to have, whoever was given them first. What we have asked for the owner since, or both
    sides agreed on, is not the link's any more."""
    if account.gone:
        return None
    changes = tuple(change for change in undo.changes if _stands(change, account))
    if lock := opened(undo, account):
        # Whoever is back in scope is not locked again for a lock of ours.
        let_in = account.locked_by_us and account.left_at is None
        changes += (lock,) if account.active and not let_in else ()
    shown = {team_id for team_id, one in account.memberships.items() if one.shown}
    ours = {team_id for team_id, one in account.memberships.items() if one.ours}
    taken = (team for team in undo.remove if team.keeper_id not in theirs | ours)
    remove = tuple(team for team in taken if changes or team.keeper_id in shown)
    return replace(undo, changes=changes, remove=remove) if changes or remove else None


def opened(undo: Operation, account: Account) -> Change | None:
    """The lock that is to be set again on an account which a link has opened: as long as anything else that the link
    has changed, and that is to be undone too, still stands."""
    others = [change for change in undo.changes if change.attribute != ACTIVE]
    if others and not any(_stands(change, account) for change in others):
        return None
    return next((change for change in undo.changes if change.attribute == ACTIVE), None)


def _stands(change: Change, account: Account) -> bool:
    """Whether the account still shows the name or id that the link has left, and nobody has asked for it since."""
    have = normal(account.shown.get(change.attribute, ""))
    asked = have and have == normal(account.asked.get(change.attribute, ""))
    return change.attribute != ACTIVE and have == normal(change.before) and not asked


def stands(birth: RefusedBirth, account: Account | None) -> bool:
    """Whether something of a refused link may still be to be undone; of one without a row, or with a mere memory in its
    place, nobody knows."""
    return birth.undo is not None and (account is None or account.bygone or due(birth.undo, account) is not None)


def by_account(births: Mapping[str, RefusedBirth]) -> dict[str, dict[str, RefusedBirth]]:
    """By Keeper id, the creations that Keeper linked to the account, as `unlocked` and `own` take them for many."""
    found: dict[str, dict[str, RefusedBirth]] = defaultdict(dict)
    for person, birth in births.items():
        found[birth.keeper_id][person] = birth
    return found


def _undos(births: Mapping[str, RefusedBirth], account: Account) -> list[Operation]:
    """The operations that undo the creations which Keeper linked to this account."""
    return [one.undo for one in births.values() if one.keeper_id == account.keeper_id and one.undo is not None]


def unlocked(births: Mapping[str, RefusedBirth], account: Account) -> bool:
    """Whether a link has opened this account, and that is still to be undone."""
    return any(opened(undo, account) for undo in _undos(births, account))


def own(account: Account, births: Mapping[str, RefusedBirth]) -> Account:
    """The account with the attributes that it has again once the link of a creation, which still stands, is undone."""
    changes = (one for undo in _undos(births, account) for one in undo.changes if _stands(one, account))
    mine = {one.attribute: one.after for one in changes}
    return replace(account, shown={**account.shown, **mine}) if mine else account


def linked_to(snapshot: Snapshot) -> dict[str, Account]:
    """By Keeper id, the accounts to which Keeper linked a creation, each with its own attributes: see `own`."""
    met = by_account(snapshot.refused_births)
    return {k: own(snapshot.accounts[k], births) for k, births in met.items() if k in snapshot.accounts}


def own_id(account: Account, linked: Mapping[str, Account]) -> str:
    """The externalId of an account. One that Keeper linked to it says nothing, and hides its own until undone. `linked`
    as `linked_to` has them."""
    return linked.get(account.keeper_id, account).shown.get(EXTERNAL_ID, "")


def ids_on(account: Account, linked: Mapping[str, Account]) -> tuple[str, str]:
    """The ids that an account bears: the one that Keeper shows, and its own. `linked` as `linked_to` has them."""
    return account.shown.get(EXTERNAL_ID, ""), own_id(account, linked)


def former_id(account: Account, person: str) -> str:
    """The externalId that `disown` gives back to an account which becomes this person's: that of before us."""
    shown = account.shown.get(EXTERNAL_ID, "")
    return account.former_external_id or (shown if shown != person else "")


def owners(snapshot: Snapshot) -> set[str]:
    """List the ids of whoever has, or had, an account by the snapshot, or by what Keeper shows; "" may be one of
    them."""
    there, linked = [account for account in snapshot.accounts.values() if not account.bygone], linked_to(snapshot)
    return {owner for one in there for owner in (one.jumpcloud_id, one.found_for, *ids_on(one, linked))}


def still_linked(undo: Operation, shown: KeeperUser | KeeperTeam | None) -> bool:
    """Whether Keeper shows in its answer to an undo what that was to take back: the id of the wrong person or group, a
    place in a team, or that the account is open."""
    if shown is None:
        return False
    have = shown.attributes.get(EXTERNAL_ID, "")
    if have and any(one.attribute == EXTERNAL_ID and one.before == have for one in undo.changes):
        return True
    if isinstance(shown, KeeperTeam):
        return False
    opened = shown.active is True and any(one.attribute == ACTIVE for one in undo.changes)
    return opened or any(team.keeper_id in (shown.teams or ()) for team in undo.remove)


def beside(undo: Operation, planned: Operation) -> Operation | None:
    """The part of an undo that another operation on the same account does not do; None where it does all of it."""
    names = {change.attribute for change in planned.changes}
    teams = {team.keeper_id for team in (*planned.add, *planned.remove)}
    changes = tuple(change for change in undo.changes if change.attribute not in names)
    remove = tuple(team for team in undo.remove if team.keeper_id not in teams)
    return replace(undo, changes=changes, remove=remove) if changes or remove else None


def not_done(undo: Operation, done: Operation) -> Operation | None:
    """The part of an undo that is left after another one on the same account, which may have given back other values;
    None where nothing is."""
    given = {(change.attribute, normal(change.after)) for change in done.changes}
    taken = {team.keeper_id for team in done.remove}
    changes = tuple(change for change in undo.changes if (change.attribute, normal(change.after)) not in given)
    remove = tuple(team for team in undo.remove if team.keeper_id not in taken)
    return replace(undo, changes=changes, remove=remove) if changes or remove else None


def without_lock(undo: Operation) -> Operation | None:
    """The part of an undo that locks nobody; None where nothing else is left of it."""
    changes = tuple(change for change in undo.changes if change.attribute != ACTIVE)
    return replace(undo, changes=changes) if changes or undo.remove else None


def undone(account: Account, undo: Operation, reply: KeeperUser | None) -> Account:
    """The account after Keeper took an undo: what was asked for by the reconciler stays as it was."""
    shown = {change.attribute: change.after for change in undo.changes if change.attribute != ACTIVE}
    told = {name: value for name, value in reply.attributes.items() if value} if reply else {}
    removed = {team.keeper_id for team in undo.remove}
    locks = any(change.attribute == ACTIVE for change in undo.changes)
    return replace(
        account,
        active=account.active and not locks,
        shown={**account.shown, **shown, **told},
        memberships={team: one for team, one in account.memberships.items() if team not in removed},
    )


def with_refused(
    births: Mapping[str, RefusedBirth], op: Operation, keeper_id: str, undo: Operation | None, at: datetime
) -> Mapping[str, RefusedBirth]:
    """The refused births with this creation's."""
    return {**births, op.subject.jumpcloud_id: RefusedBirth(wanted_address(op), keeper_id, undo=undo, at=at)}


def as_shown(account: Account) -> KeeperUser:
    """The account as Keeper shows it."""
    teams = frozenset(team_id for team_id, one in account.memberships.items() if one.shown)
    return KeeperUser(account.keeper_id, account.shown, account.active, teams)
