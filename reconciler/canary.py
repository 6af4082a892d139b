"""Canaries: each kind of operations is opened by one that goes alone and is read back.

What we believe about Keeper's dialect was never seen on a live tenant by us. An open kind stays open for a week, or
until an answer shows an effect that nobody asked for.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from reconciler.births import wanted_address
from reconciler.counting import count
from reconciler.match import same
from reconciler.model import USER_NAME, Account, KeeperUser
from reconciler.plan import Kind, Operation, Rule

if TYPE_CHECKING:
    from reconciler.store import Store

LOOK_AGAIN = (1.0, 5.0, 15.0)
"""Seconds after which a read-back that disagrees is repeated: Keeper may show a change later than it answers."""
FAILURES = 2
"""So many subjects in a row for which Keeper disagrees stop their kind."""
LINKS_REST = timedelta(hours=1)
"""How long a kind rests after so many answers with something else than was to be made. Each may bring an invitation,
and something to undo; so at most one an hour, and newcomers wait no longer."""
SUSPICIONS = 3
"""So many answers in a row with an effect that nobody asked for stop their kind, though its canary has passed."""

LOOK_EVERY = 10
"""After so many additions of which no answer told whether they replace, one user is looked at."""


class Disagreement(Exception):
    """Keeper did not do what the operation was for."""


class Unasked(Disagreement):
    """Keeper did something that nobody asked for."""


class Canaries:
    """The open kinds of one run. The state file remembers them; the lane and a whole cycle share them."""

    def __init__(self, journal: "Store", clock: Callable[[], datetime]) -> None:
        self._journal = journal
        # Keeper may have made an account each time, with an invitation that nothing takes back.
        self.stopped = {
            kind: _linked(kind)
            for kind, found in journal.links().items()
            if len(found) >= FAILURES and clock() - max(found.values()) < LINKS_REST
        }
        """The kinds of which nothing more is sent, with the reason."""
        self._clock = clock
        self._under_way = journal.hands.canaries
        self._failures: Counter[Kind] = Counter()
        self._sent_back: set[Kind] = set()
        self._suspicions: Counter[Kind] = Counter()  # in a row, since the kind was sent back
        self._misled: set[Kind] = set()
        self._untold: Counter[Kind] = Counter()

    def free(self, kind: Kind) -> bool:
        """Whether an operation of this kind may go now: no canary of the kind is under way."""
        return kind not in self._under_way or not self._goes_alone(kind)

    async def until_free(self, kind: Kind) -> None:
        """Wait for the end of the canary that is under way. Whoever waits must not hold a subject or a worker."""
        while not self.free(kind):
            await self._under_way[kind].wait()

    @contextmanager
    def turn(self, kind: Kind) -> Iterator[bool]:
        """The turn of one operation of a kind that is free; whether it is a canary, which no other goes beside."""
        alone = self._goes_alone(kind)
        if alone:
            self._under_way[kind] = asyncio.Event()
        try:
            yield alone
        finally:
            if alone:
                self._under_way.pop(kind).set()

    def _goes_alone(self, kind: Kind) -> bool:
        return kind not in self.stopped and kind not in self._journal.open_kinds(self._clock())

    def passed(self, kind: Kind) -> None:
        """Open a kind: its canary did what was asked, and nothing else."""
        self._failures[kind] = 0
        self._journal.open_kind(kind, self._clock())

    def failed(self, kind: Kind, verdict: Disagreement) -> bool:
        """Note that a canary failed; returns whether its kind is stopped by that.

        After an effect that nobody asked for, the canary of the next run has to be one that can tell.
        """
        if isinstance(verdict, Unasked):
            self._journal.close_kind(kind)
        self._failures[kind] += 1
        if self._failures[kind] < FAILURES and not isinstance(verdict, Unasked):
            return False
        self.stopped[kind] = str(verdict)
        return True

    def linked(self, kind: Kind) -> str:
        """Stop a kind once Keeper has answered with something else than was to be made so often in a row; returns why,
        if it is so now."""
        if kind in self.stopped or len(self._journal.links().get(kind, ())) < FAILURES:
            return ""
        self.stopped[kind] = _linked(kind)
        return self.stopped[kind]

    def doubt(self, kind: Kind) -> str:
        """Send a kind back to its canary, once a run: an answer shows an effect that nobody asked for.

        Whoever reads the canary back may be shown what was before. So when answer after answer goes on to show such an
        effect, the kind is stopped; returns why, if it is so now.
        """
        if kind in self._misled:
            return ""
        if kind not in self._sent_back:
            self._sent_back.add(kind)
            self._journal.close_kind(kind)
            return ""
        self._suspicions[kind] += 1
        if self._suspicions[kind] != SUSPICIONS:
            return ""
        self._journal.close_kind(kind)
        self.stopped[kind] = "answer after answer shows an effect that nobody asked for"
        return self.stopped[kind]

    def misled(self, kind: Kind) -> None:
        """Note that the answers of a kind show less than there is, by a read-back that is newer: in this run they raise
        no doubt any more."""
        self._misled.add(kind)

    def can_tell(self, op: Operation, before: KeeperUser | None, removed: Sequence[str]) -> bool:
        """Whether the canary could have shown that an addition replaces, which is what its kind may have been sent back
        for: of somebody without other teams, none can be lost. An account that a person agreed to is not new."""
        if takes_agreed(op):
            return False
        if op.kind not in self._journal.suspected_kinds():
            return True
        return bool(op.add) and before is not None and bool((before.teams or frozenset()) - set(removed))

    def untold(self, kind: Kind) -> bool:
        """Note an addition whose answer could not show whether it replaces; returns whether a look is to tell."""
        self._untold[kind] += 1
        return self._untold[kind] % LOOK_EVERY == 0

    def clear(self, kind: Kind) -> None:
        """Note an answer that could have shown an effect that nobody asked for, and did not."""
        self._suspicions[kind] = 0


def takes_agreed(op: Operation) -> bool:
    """Whether a creation is to take the account that a person agreed to, whatever its address and its teams."""
    return op.kind is Kind.CREATE_USER and op.rule is Rule.ADOPTED


def _linked(kind: Kind) -> str:
    subject, what = ("person", "account") if kind is Kind.CREATE_USER else ("group", "team")
    return (
        f"Keeper answered {kind.value} for {count(FAILURES, subject)} in a row with another {what} than was asked for; "
        "one is tried again an hour later, or by a resync (reconciler resync)"
    )


def denied(op: Operation, shown: KeeperUser, removed: Sequence[str]) -> str:
    """Describe what Keeper shows that is the contrary of what the operation is for; "" where it shows none."""
    name = op.subject.name
    if op.kind is Kind.DEACTIVATE_USER and shown.active is not False:
        have = "shows the user as active" if shown.active else "does not show whether the user is locked"
        return f"Keeper took the lock of {name}, but {have}"
    if op.kind is Kind.REACTIVATE_USER and shown.active is not True:
        have = "does not show whether the user is locked" if shown.active is None else "shows the user as locked"
        return f"Keeper took the unlocking of {name}, but {have}"
    if set(removed) & (shown.teams or frozenset()):
        return f"Keeper took the removal of {name} from a team, but shows the member"
    return ""


def disagreement(
    op: Operation,
    shown: KeeperUser | None,
    before: KeeperUser | None,
    removed: Sequence[str],
    expected: Set[str],
) -> Disagreement | None:
    """Compare what was read back with what was asked for: only what the kind of operation must change, and what nobody
    asked for. `expected` are the teams that may show by now, see `unasked`."""
    name = op.subject.name
    if shown is None:
        return Disagreement(f"Keeper took {op.kind.value} for {name}, but does not show the user")
    if takes_agreed(op):
        return None
    if op.kind is Kind.CREATE_USER:
        readable = USER_NAME not in shown.unreadable
        if readable and not same(USER_NAME, shown.attributes.get(USER_NAME, ""), wanted_address(op)):
            return Disagreement(f"Keeper created {name} under another address")
        words = unasked(op, None, "", frozenset(), expected, shown)
        return Unasked(words) if words else None
    if contrary := denied(op, shown, removed):
        return Disagreement(contrary)
    if before is None:
        return None
    # Nothing can be compared with teams that could not be read before.
    teams = before.teams if before.teams is not None else shown.teams or frozenset()
    words = unasked(op, before.active, before.attributes.get(USER_NAME, ""), teams - set(removed), expected, shown)
    return Unasked(words) if words else None


def unasked(
    op: Operation, active: bool | None, address: str, teams: frozenset[str], expected: Set[str], shown: KeeperUser
) -> str:
    """Describe an effect that nobody asked for, against what was there before; "" where there is none.

    `teams` are those that the user had and keeps, `expected` those that may show besides: asked for now, or known of
    this user before, since one that waited for approval may show by now.
    """
    name = op.subject.name
    if op.kind is Kind.UPDATE_USER and shown.active is not None and active is (not shown.active):
        return f"an update of {name} {'unlocked' if shown.active else 'locked'} the user"
    asked = any(change.attribute == USER_NAME for change in op.changes)
    now = shown.attributes.get(USER_NAME, "")
    if now and address and not asked and not same(USER_NAME, now, address):
        return f"{op.kind.value} changed the address of {name}"
    if shown.teams is None or op.kind is Kind.DEACTIVATE_USER:
        return ""
    if lost := teams - shown.teams:
        return f"{op.kind.value} took {name} out of {count(len(lost), 'other team')}"
    if gained := shown.teams - teams - expected:
        return f"{op.kind.value} put {name} into {count(len(gained), 'team')} that nobody asked for"
    return ""


def suspicious(
    op: Operation,
    account: Account | None,
    reply: KeeperUser | None,
    removed: Sequence[str],
    expected: Set[str],
    *,
    read: bool = False,
) -> bool | None:
    """Whether an answer, or what was `read` back, shows an effect that nobody asked for, as far as the snapshot knows
    what was there before; None where it tells nothing of the teams that the user had. `expected` as for `unasked`."""
    if reply is None or takes_agreed(op):
        return None
    if op.kind is Kind.CREATE_USER:
        return bool(unasked(op, None, "", frozenset(), expected, reply)) if reply.teams else None
    if account is None:
        return None
    # An answer without any team may just not show them; what was added may wait unseen.
    teams = _teams_shown(account) - set(removed) if reply.teams or read else frozenset()
    if unasked(op, account.active, account.email, teams, expected, reply):
        return True
    return False if teams else None


def seen_later(op: Operation, before: Account, now: Account, removed: Collection[str]) -> bool:
    """Whether a list of Keeper shows an effect that nobody asked for on a user whom the operation has changed since the
    list before. Somebody else may have done it as well: the next canary tells."""
    shown = KeeperUser(now.keeper_id, now.shown, now.active, _teams_shown(now))
    teams, expected = _teams_shown(before) - set(removed), known_teams(before) | {team.keeper_id for team in op.add}
    return bool(unasked(op, before.active, before.email, teams, expected, shown))


def replaces_untold(op: Operation, account: Account | None, reply: KeeperUser | None, removed: Sequence[str]) -> bool:
    """Whether an addition may have replaced a team of the user, and the answer shows none that would tell."""
    told = reply is not None and bool(reply.teams)
    return bool(op.add) and not told and account is not None and bool(_teams_shown(account) - set(removed))


def known_teams(account: Account | None) -> frozenset[str]:
    """The teams that may be the user's as far as the snapshot knows, whether they show or wait."""
    return frozenset(account.memberships if account is not None else ())


def _teams_shown(account: Account) -> frozenset[str]:
    return frozenset(team for team, membership in account.memberships.items() if membership.shown)
