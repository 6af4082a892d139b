"""What stands between a person and what they should have, and the one step that puts it right, for `explain`.

Which rule decides is the core's: this reads the plan for the one person, and what the last cycle held.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reconciler.addresses import alike_key, same
from reconciler.config import Settings
from reconciler.counting import count
from reconciler.cycle import NOT_ASKED, Look
from reconciler.keeper_quarantine import may_be_locked
from reconciler.model import Account, Standing, Status, User, typed, typed_for
from reconciler.pairs import tied_to_another
from reconciler.plan import DRIFT_NOTICES, Cause, Kind, NoticeKind, Operation, Plan, Rule
from reconciler.policy import Mode
from reconciler.promise import invited_again, leavers, whereabouts
from reconciler.report.document import held_effects
from reconciler.report.last_cycle import last_attempt, passed_over
from reconciler.report.terminal import names, spoken, stamp
from reconciler.store import Store
from reconciler.waiting import waiting

NEAR = 3
"""Addresses that are suggested for one that nobody has."""
ALIKE = 0.75
"""How much alike they are, as difflib counts it: one letter of three or four may differ."""

# What no `resync EMAIL` passes, whatever the limits: a release is needed.
_FOR_RELEASE = frozenset({"teams.review", "adopted", "adopted_teams", "hidden", "vanished", "unsettled", "delete_team"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What stands in the way, in a word and a sentence, and the step that puts it right with its command, if any."""

    kind: str
    why: str
    step: str
    command: str = ""


def verdict(store: Store, settings: Settings, look: Look, email: str, held: Mapping[str, Any] | None) -> Verdict:
    """The first of what stands in the way: who decides otherwise, then what waits, then what is simply so."""
    if look.ambiguous:
        return Verdict(
            "conflict",
            _conflict(look, "several JumpCloud users have this address"),
            "In JumpCloud, correct the address of all but one of them.",
        )
    if not look.key:
        return _nobody(store, look, email)
    if look.plan is None:
        return Verdict(
            "unread",
            "What the next cycle would do can only be told with JumpCloud.",
            "For the whole answer, ask both services:"
            if look.unread.get("jumpcloud") == NOT_ASKED
            else "For the whole answer, ask again when JumpCloud answers:",
            f"reconciler explain {typed(email)}",
        )
    found = _decided_otherwise(settings, look, look.plan) or _waits(store, settings, look, look.plan, held)
    if found is None and "keeper" in look.unread:
        return Verdict(
            "unread",
            "By what Keeper showed when it was last read, nothing is to be done. It may have changed since.",
            "For the whole answer, ask again when Keeper answers:",
            f"reconciler explain {typed(email)}",
        )
    return found or _as_it_is(settings, look, look.plan)


def _nobody(store: Store, look: Look, email: str) -> Verdict:
    if look.unread:
        return Verdict(
            "unread",
            "The local snapshot of Keeper knows nobody with this address, and not every service was asked.",
            "Ask again when they answer:",
            f"reconciler explain {typed(email)}",
        )
    near = _near(email, {account.email for account in store.snapshot().accounts.values() if not account.bygone})
    hint = f" Near it: {names(near)}." if near else " Nor is any that is known here like it."
    return Verdict(
        "unknown",
        f"Nobody has this address in JumpCloud or in this Keeper node.{hint}",
        "Check the address. If they are new: create them in JumpCloud, in a group that is bound to the application.",
    )


def _near(email: str, known: Iterable[str]) -> list[str]:
    """The addresses that somebody may have meant. What is before the @ counts: nearly all have the same domain."""
    addresses: dict[str, list[str]] = {}
    for address in sorted(known):
        addresses.setdefault(alike_key(address).partition("@")[0], []).append(address)
    close = difflib.get_close_matches(alike_key(email).partition("@")[0], addresses, NEAR, ALIKE)
    return [address for name in close for address in addresses[name]][:NEAR]


def _decided_otherwise(settings: Settings, look: Look, plan: Plan) -> Verdict | None:
    said = {notice.kind: notice.message for notice in plan.notices if notice.subject.type == "user"}
    account = own(look)
    address = typed(account.email if account else look.user.email if look.user else "")
    resync = f"reconciler resync {typed_for(look.user, account.email if account else '')}"
    if NoticeKind.CONFLICT in said:
        step, command = "Correct the addresses in JumpCloud or in Keeper's Admin Console.", ""
        found = account or next(iter(look.snapshot.accounts.values()), None)
        # Of somebody who came back under a new JumpCloud user, the account is still managed for the former one.
        theirs = found and look.user and same(found.email, look.user.email)
        _, adopt, advised = said[NoticeKind.CONFLICT].partition("reconciler adopt ")
        if found and (theirs or not found.managed) and adopt:
            # The conflict names the right one: a creation that an alias led to this account is asked for once more.
            command = adopt + advised.split(";")[0].split()[0]
            step = "If it is the same person, take the account over:"
        return Verdict("conflict", _conflict(look, said[NoticeKind.CONFLICT]), step, command)
    disowned = account is not None and account.standing is Standing.DISOWNED
    if NoticeKind.UNMANAGED in said or disowned:
        words = said.get(NoticeKind.UNMANAGED, "given up by a person (disown)")
        return Verdict(
            "disowned", f"Not managed, because {words}.", "To manage them again:", f"reconciler adopt {address}"
        )
    if NoticeKind.GHOST in said:
        return Verdict(
            "ghost",
            f"Not managed, because nobody took the account over: {said[NoticeKind.GHOST]}.",
            "To have us manage them; as long as they are not in scope, that leads to their lock:",
            f"reconciler adopt {address}",
        )
    if NoticeKind.PROTECTED in said or (account and not account.managed and account.protected_as):
        words = said.get(NoticeKind.PROTECTED, "protected (policy.protect)")
        return Verdict(
            "protected",
            f"Left alone: {words}.",
            f"If that is wrong, take them out of policy.protect in {settings.file}.",
        )
    if NoticeKind.QUARANTINED in said:
        why, step = _advice(said[NoticeKind.QUARANTINED])
        return Verdict("quarantined", f"{why[:1].upper()}{why[1:]}.", step)
    if "--unlock" not in (locked := said.get(NoticeKind.LOCKED_IN_KEEPER, "--unlock")):
        why, step = _advice(locked)
        return Verdict(NoticeKind.LOCKED_IN_KEEPER.value, f"{why[:1].upper()}{why[1:]}.", step)
    kinds: tuple[tuple[NoticeKind, str, str], ...] = (
        (NoticeKind.STATE_UNKNOWN, "In JumpCloud: Users, the person, Activate.", ""),
        (NoticeKind.NO_ADDRESS, "In JumpCloud: enter an e-mail address.", ""),
        (
            NoticeKind.LOCKED_IN_KEEPER,
            "If nobody needs the lock (to transfer the vault), undo it:",
            f"{resync} --unlock",
        ),
        (NoticeKind.UNCONFIRMED, "Let it be read again now, or wait for the next cycle:", resync),
        (NoticeKind.FAILING, "Try again now:", resync),
        (
            NoticeKind.OUTSIDE_PILOT,
            f"Put them into the pilot: a group or address of policy.only in {settings.file}.",
            "",
        ),
        (NoticeKind.IN_GRACE, "To stop it, put them back into scope in JumpCloud. To lock them now, suspend them.", ""),
        (
            NoticeKind.KEPT,
            f"That is policy.out_of_scope in {settings.file}. To lock them, suspend them in JumpCloud.",
            "",
        ),
    )
    for kind, step, command in kinds:
        if kind in said:
            return Verdict(kind.value, f"{said[kind][:1].upper()}{said[kind][1:]}.", step, command)
    return None


def _advice(message: str) -> tuple[str, str]:
    """Divide a message into what is so and its last sentence, which says what to do."""
    why, _, step = message.rpartition(". ")
    return (why, f"{step}.") if why else (message, "Look at both in JumpCloud and in Keeper's Admin Console.")


def _teams_in_doubt(plan: Plan) -> Verdict | None:
    """A group of theirs, or a list, for which their teams stay as they are."""
    for notice in plan.notices:
        if notice.subject.type not in ("team", "list"):
            continue
        what = "The group" if notice.subject.type == "team" else "JumpCloud's list of"
        why, step = _advice(notice.message)
        if notice.kind is NoticeKind.QUARANTINED:
            return Verdict(
                "quarantined", f"Nothing that could be read is due. {what} {notice.subject.name}: {why}.", step
            )
        if notice.kind is NoticeKind.CONFLICT:
            return Verdict("conflict", f"Nothing else is due. {what} {notice.subject.name}: {why}.", step)
    return None


def _conflict(look: Look, words: str) -> str:
    """Say what the conflict is; an account that is managed stays so, since a conflict stops only what would give."""
    account = own(look)
    if account is None or not account.managed:
        return f"Not managed, because {words}."
    return f"In conflict: {words}."


def _waits(store: Store, settings: Settings, look: Look, plan: Plan, held: Mapping[str, Any] | None) -> Verdict | None:
    """What would be done and is not sent by itself, or is due."""
    if not plan.operations:
        return None
    first = plan.operations[0]
    resync = f"reconciler resync {typed_for(look.user, first.subject.name)}"
    if settings.policy().mode is Mode.OBSERVE:
        return Verdict(
            "observed",
            f"Due ({first.reason}), but nothing is sent: the mode is observe.",
            f'Set policy.mode to "enforce" in {settings.file}.',
        )
    waits = holds(plan, held)
    if not waits and (tried := last_attempt(store, first.kind, first.subject.key)) is not None:
        last = "put off when it was last due" if tried.put_off else "not known to be done since it was sent"
        why = f"Due ({first.reason}), but {last}, on {spoken(stamp(tried.at))}"
        why += f": {tried.why.rstrip('. ')}." if tried.why else "."
        return Verdict("due", why, "Each cycle tries it again. To have it tried now:", resync)
    due_since = _due_since(settings, look, first)
    if not waits and (passed := passed_over(store, first.kind, first.subject.key, due_since)) is not None:
        why = f"Due ({first.reason}), but the newest cycle, on {spoken(stamp(passed.at))}, did not do it"
        why += f": {passed.why.rstrip('. ')}." if passed.why else "."
        return Verdict("due", why, "The first cycle that can do it does. To have it tried now:", resync)
    if not waits:
        # Keeper was asked just now; a cycle goes by what a resync has seen, perhaps not since the drift.
        when = "the next resync at the latest" if first.cause is Cause.DRIFT else "the next cycle"
        return Verdict("due", f"Due with {when}: {first.reason}.", "It needs nobody. To have it done now:", resync)
    hold = waits[0]
    since = f" since {spoken(hold['since'])}" if hold["since"] else ""
    why = f"Due ({first.reason}), but held{since} [{hold['limit']}]: {hold['reason']}."
    if hold["limit"] == "first_run":
        return Verdict("held", why, "Review the first plan and apply it:", "reconciler plan --save plan.json")
    if hold["limit"] in _FOR_RELEASE and hold["plan"]:
        return Verdict("held", why, "To let the held plan through:", f"reconciler release {hold['plan']}")
    if hold["limit"] in _FOR_RELEASE:
        return Verdict("held", why, "Once a cycle has held it, let it through:", "reconciler release")
    if hold["limit"] == "paused" and any(other["limit"] in _FOR_RELEASE for other in waits):
        return Verdict("held", why, "Before anything else lets it through, end the pause:", "reconciler resume")
    if hold["limit"] == "paused":
        return Verdict("held", why, "For everybody: reconciler resume. For this person alone:", resync)
    release = f"reconciler release {hold['plan']}" if hold["plan"] else "reconciler release"
    return Verdict("held", why, f"For the whole plan: {release}. For this person alone:", resync)


def _due_since(settings: Settings, look: Look, op: Operation) -> datetime | None:
    """Since when a lock is due, None where no cycle has seen that, and for whatever else is due."""
    account = own(look)
    if op.kind is not Kind.DEACTIVATE_USER or op.cause is Cause.DRIFT or account is None or account.left_at is None:
        return None
    return account.left_at + (settings.policy().grace if op.rule is Rule.LEFT else timedelta(0))


def _is_anothers_lock(look: Look, account: Account) -> bool:
    """Whether the account is locked, and not by us: who comes back stays locked."""
    return not (account.active or account.gone or account.locked_by_us or may_be_locked(look.snapshot, account))


def _as_it_is(settings: Settings, look: Look, plan: Plan) -> Verdict:
    """Nothing is to be done: why it is as it is."""
    account, user = own(look), look.user
    if user is None or not user.belongs:
        what, then, option = "Not in scope", "to have it at once:", ""
        if account is not None and _is_anothers_lock(look, account):
            then, option = "if nobody needs the lock (to transfer the vault), undo it:", " --unlock"
        if user is None:
            what = "Unknown in JumpCloud"
            step = "If they should have access: create them in JumpCloud, in a group bound to the Keeper application."
            if account is not None and not account.gone:
                step += " That is a new JumpCloud user, who gets this account only by a person, after the next cycle:"
        elif user.status is Status.SUSPENDED:
            what = "Suspended in JumpCloud"
            step = f"If they should have access: in JumpCloud, Users, the person, Activate. Then, {then}"
        else:
            groups = names(sorted((group.name for group in look.groups.values()), key=str.casefold), 5)
            step = (
                "If they should have access: in JumpCloud, add them to a group that is bound to the Keeper application "
                f"({groups or 'there is none'}), or bind them directly. Then, {then}"
            )
        if account is not None and account.active and account.standing is Standing.UNMANAGED:
            why = f"{what}, and the Keeper user with their address is active, and not managed by us."
            step = "If that user is theirs, have it managed, so that it is locked:"
            return Verdict("not_managed", why, step, f"reconciler adopt {typed(account.email)}")
        drifted = next((n.message for n in plan.notices if n.kind is NoticeKind.DRIFT), "")
        if account is not None and account.active and drifted:
            step = (
                f"To have them locked, lock them in Keeper's Admin Console, or change policy.drift in {settings.file}."
            )
            return Verdict("drift", f"{what}, and still active in Keeper: {drifted}.", step)
        if account is None or account.gone:
            why = f"{what}, and without an account in this Keeper node."
        else:
            why = f"{what}, and still active in Keeper." if account.active else f"{what}, so no access."
        if account is not None and account.gone and account in leavers(look.snapshot):
            again = account.keeper_id in invited_again(look.snapshot)
            why = f"{what}; whether access ended is {whereabouts(look.snapshot, account, again=again)}."
            step = "Look for the account in the Admin Console (Admin > Users, all nodes). If it is shut, close this:"
            return Verdict("not_verifiable", why, step, f"reconciler disown {typed(account.email)}")
        command = f"reconciler resync {typed(user.email)}{option}" if user else ""
        if user is None and account is not None and not account.gone:
            command = f"reconciler adopt {typed(account.email)}"
        return Verdict("out_of_scope", why, step, command)
    if (doubt := _teams_in_doubt(plan)) is not None:
        return doubt
    changed = next((n.message for n in plan.notices if n.kind is NoticeKind.ADDRESS_CHANGE), "")
    if changed and account:
        command = f"enterprise-user --add-alias {typed(user.email)} {typed(account.email)}"
        return Verdict("address_change", f"In line, but {changed.split(';')[0]}.", "In Keeper Commander:", command)
    drifted = next((n.message for n in plan.notices if n.kind in DRIFT_NOTICES), "")
    if drifted:
        return Verdict(
            "drift",
            f"In line, but changed in Keeper by hand: {drifted}.",
            "If that is wrong, change it back in Keeper's Admin Console.",
        )
    leaving = [team.name for one in look.upcoming for team in one.operation.remove]
    if leaving:
        first = min(one.at for one in look.upcoming)
        return Verdict(
            "in_grace",
            f"In line, but after {spoken(stamp(first))} they are taken out of {names(sorted(leaving), 5)}, whose group "
            "is no longer bound to the application.",
            "To stop it, bind the group to the application again in JumpCloud.",
        )
    mine = [
        member
        for found in waiting(look.snapshot, settings.policy().teams)
        for member in found.members
        if account and member.email == account.email and not member.invited
    ]
    waits = [member for member in mine if not member.listed]
    if waits:
        visible = "is still to be given" if all(member.certain for member in waits) else "is not visible"
        return Verdict(
            "waiting",
            f"In line, but the approval of what was asked for {visible}: {count(len(waits), 'team')}.",
            "An administrator approves them by logging in to Keeper's Admin Console, or in Keeper Commander:",
            "team-approve",
        )
    listed = count(len(mine), "team")
    unsure = f" Keeper lists them in {listed} that we asked for; an approval is not visible." if mine else ""
    return Verdict(
        "in_line",
        f"In line: both sides agree, and nothing is to be done.{unsure}",
        "If they can't log in, they may not have accepted the invitation (SCIM does not tell). In Keeper Commander:",
        f"enterprise-user --invite {typed(account.email if account else user.email)}",
    )


# -- what the last cycle held ------------------------------------------------------------------------------------------


def held_of(store: Store, look: Look) -> dict[str, Any] | None:
    """Tell what the last cycle held of what is due: by which limits and why, since when, and the plan to release."""
    found = store.held_now()
    if found is None or look.plan is None:
        return None
    run, since = found
    kept = store.held_document(run)
    effects = held_effects(kept)
    due = [op for op in look.plan.operations if op.effects() & effects]
    if not due or kept is None:
        return None
    plan = json.loads(kept)
    mine = {n for n, op in enumerate(plan["operations"]) if look.key in op["subject"].values()}
    mine_held = [hold for hold in plan["held"] if mine.intersection(hold["operations"])] or plan["held"]
    return {
        "holds": [
            {"limit": hold["limit"], "reason": hold["reason"], "plan": run.plan_id, "since": stamp(since)}
            for hold in sorted(mine_held, key=lambda hold: _strength(hold["limit"]))
        ],
        "effects": frozenset(effect for op in due for effect in op.effects()),
    }


def _strength(limit: str) -> int:
    """The rank of a hold, by what lets it through: only its end ends a pause, and no `resync EMAIL` passes others."""
    strongest = ("paused", "first_run")
    return strongest.index(limit) if limit in strongest else len(strongest) + (limit not in _FOR_RELEASE)


def holds(plan: Plan, held: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Why a part of the plan waits for a person, what is strongest first: as the last cycle held it, else as one that
    begins now would."""
    if held:
        return list(held["holds"])
    found = sorted(plan.held, key=lambda hold: _strength(hold.limit))
    return [{"limit": hold.limit, "reason": hold.reason, "plan": None, "since": None} for hold in found]


# -- in words ----------------------------------------------------------------------------------------------------------


def own(look: Look) -> Account | None:
    """The account that the person has: the one that is tied to them, else one with the address. One that is tied to
    another JumpCloud user is not theirs, whatever its address."""
    user = look.user
    theirs = [a for a in look.snapshot.accounts.values() if user is None or not tied_to_another(a, user.id)]
    found = sorted(theirs, key=lambda a: (a.gone, look.key not in (a.jumpcloud_id, a.keeper_id)))
    return next(iter(found), None)


def group_names(look: Look, user: User) -> list[str]:
    """The groups that bring a user into scope, by name."""
    return sorted((look.groups[g].name if g in look.groups else g for g in user.groups), key=str.casefold)


def scope(look: Look) -> str:
    """What JumpCloud says of the person, or said when last read."""
    user = look.user
    if "jumpcloud" in look.unread:
        account = own(look)
        known = "nothing known of JumpCloud"
        if account and account.managed:
            known = "in scope when JumpCloud was last read"
            if account.left_at:
                known = f"out of scope in JumpCloud since {spoken(stamp(account.left_at))}, as last read"
        return known
    if user is None:
        return "unknown in JumpCloud"
    if user.status is Status.SUSPENDED:
        return "suspended in JumpCloud"
    if user.status is not Status.ACTIVE:
        return f"{'staged' if user.status is Status.STAGED else 'in an unknown state'} in JumpCloud"
    if not user.bound:
        return "in JumpCloud, but not bound to the Keeper application"
    ways = ["by a direct binding"] if user.direct else []
    ways += [f"through {names(group_names(look, user))}"] if user.groups else []
    return f"in scope in JumpCloud {' and '.join(ways)}"


def access(look: Look) -> str:
    """Whether the person can use Keeper, or could when it was last read, as where no account is known."""
    read_at = look.snapshot.read_at
    if ("keeper" in look.unread or not look.snapshot.accounts) and read_at is not None:
        return f"{_access(look)} when it was last read (its last list: {spoken(stamp(read_at))})"
    return _access(look)


def _access(look: Look) -> str:
    account = own(look)
    if account is None and look.snapshot.accounts:
        return "without a Keeper account of their own"
    if account is None:
        return "not in this Keeper node" if look.snapshot.read_at else "nothing known of Keeper"
    if account.gone:
        return "not in this Keeper node any more"
    if may_be_locked(look.snapshot, account):
        return "perhaps locked in Keeper by us, whose record of them cannot be read"
    if account.active:
        return "active in Keeper"
    return f"locked in Keeper by {'us' if account.locked_by_us else 'somebody else'}"
