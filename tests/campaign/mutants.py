"""Deliberate faults in our own code: each takes one safeguard out of the running program, and has to be noticed."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from reconciler import (
    apply,
    births,
    confirm,
    consent,
    cycle,
    diff,
    jumpcloud,
    jumpcloud_lists,
    jumpcloud_quarantine,
    keeper,
    match,
    reading,
    safety,
    store,
)
from reconciler.confirm import Confirmation, Finding
from reconciler.evidence_age import Stamp
from reconciler.hands import Hands
from reconciler.safety import Judged

Mutant = Callable[[], AbstractContextManager[Any]]


def skip_the_confirming_read() -> AbstractContextManager[Any]:
    """What a list lacks is taken away without asking for the one person."""

    async def believe(*_: Any, **__: Any) -> str:
        return ""

    async def no_doubt(*_: Any) -> None:
        return None

    @contextmanager
    def both() -> Iterator[None]:
        with (
            patch.object(confirm, "why_not_lock", believe),
            patch.object(Confirmation, "_teams_in_doubt", no_doubt),
        ):
            yield

    return both()


def treat_a_timeout_as_a_failure() -> AbstractContextManager[Any]:
    """A request without an answer counts as one that never arrived."""
    original = keeper._failure

    def certain(about: Any, error: Any) -> Any:
        failure = original(about, error)
        failure.uncertain = False
        return failure

    return patch.object(keeper, "_failure", certain)


def forget_the_journal_before_sending() -> AbstractContextManager[Any]:
    """An operation is sent while the journal still calls it planned."""
    return patch.object(store.Store, "mark_sent", lambda *_: None)


def trust_an_empty_page() -> AbstractContextManager[Any]:
    """A list without rows is an answer, whatever total it announces."""
    original = jumpcloud_lists._Reading.sound
    assert isinstance(original, property) and original.fget
    getter = original.fget

    @contextmanager
    def both() -> Iterator[None]:
        sound = property(lambda self: not self.ids or getter(self))
        with (
            patch.object(jumpcloud_lists._Reading, "sound", sound),
            patch.object(jumpcloud_lists._Reading, "short", False),
        ):
            yield

    return both()


def match_people_by_position() -> AbstractContextManager[Any]:
    """The first person is the first account, the second the second."""
    original = match._Users.pair

    def by_position(self: Any) -> None:
        original(self)
        pairs = self.result.account_of
        pairs.update(zip(sorted(pairs), sorted(pairs.values()), strict=True))

    return patch.object(match._Users, "pair", by_position)


def unlock_whoever_is_locked() -> AbstractContextManager[Any]:
    """Every lock counts as our own."""
    original = diff._Diff._locked

    def ours(self: Any, account: Any, user: Any, subject: Any) -> None:
        original(self, replace(account, locked_by_us=True), user, subject)

    return patch.object(diff._Diff, "_locked", ours)


def count_limits_per_cycle() -> AbstractContextManager[Any]:
    """What was done before this cycle is not counted."""
    return patch.object(consent, "window", lambda *_: [])


# Beyond those that were asked for.


def ignore_the_limits() -> AbstractContextManager[Any]:
    """Nothing is ever held."""
    return patch.object(cycle, "judge", lambda plan, *_: Judged(plan))


def unlock_without_a_limit() -> AbstractContextManager[Any]:
    """However many people are unlocked, none of it is held."""
    return patch.object(safety._Judge, "_unlock_limit", lambda *_: [])


def forget_who_is_protected() -> AbstractContextManager[Any]:
    """policy.protect is not looked at."""

    @contextmanager
    def both() -> Iterator[None]:
        with patch.object(match, "protection", lambda *_: ""), patch.object(diff, "protection", lambda *_: ""):
            yield

    return both()


def send_to_whatever_node() -> AbstractContextManager[Any]:
    """The state file is not asked whose it is."""

    return patch.object(store.Store, "check", lambda *_: None)


def believe_an_address() -> AbstractContextManager[Any]:
    """An account with the same address is linked, whomever it is tied to."""

    @contextmanager
    def both() -> Iterator[None]:
        original = match._Users._adopt_by_address

        def linked(self: Any, user: Any, account: Any) -> None:
            self.result.account_of.pop(self.taken.pop(account.keeper_id, ""), None)
            original(self, user, account)

        with (
            patch.object(match, "tied_to_another", lambda *_: False),
            patch.object(match._Users, "_adopt_by_address", linked),
        ):
            yield

    return both()


def put_off_what_is_on_the_wire() -> AbstractContextManager[Any]:
    """An apply that is cut off calls everything without a result put off."""
    original = apply._Run.put_off_the_rest

    def everything(self: Any) -> None:
        self.begun = {}
        original(self)

    return patch.object(apply._Run, "put_off_the_rest", everything)


def skip_the_confirmation_of_giving() -> AbstractContextManager[Any]:
    """Create and unlock people by the lists alone, without a read of the one person."""

    async def believe(*_: Any) -> str:
        return ""

    async def created(self: Any, _: Any) -> Finding:
        return Finding(Stamp.now(self.clock))

    @contextmanager
    def both() -> Iterator[None]:
        with (
            patch.object(Confirmation, "_why_not_unlock", believe),
            patch.object(Confirmation, "_creation", created),
        ):
            yield

    return both()


def use_evidence_of_any_age() -> AbstractContextManager[Any]:
    """Send a confirmed change whenever the service takes it, however late."""
    return patch.object(apply, "last_moment", lambda *_: nullcontext())


def believe_a_short_page() -> AbstractContextManager[Any]:
    """A page with fewer rows than were asked for is the last one."""

    async def read(self: Any, first: Any) -> None:
        page, start = first or await self.page(0), 0
        self._take(start, page, again=False)
        while page.length >= jumpcloud_lists.PAGE:
            start += page.length
            page = await self.page(start)
            self._take(start, page, again=False)

    return patch.object(jumpcloud_lists._Reader, "read", read)


def stop_at_an_odd_record() -> AbstractContextManager[Any]:
    """A user's record with a field that can't be read is an error of the whole read."""

    def refused(user_id: str, unreadable: Iterable[str]) -> list[Any]:
        if list(unreadable):
            raise jumpcloud.UnexpectedReply(f"the record of {user_id} is not as documented")
        return []

    return patch.object(jumpcloud_quarantine, "fields", refused)


def stop_at_a_list_that_is_down() -> AbstractContextManager[Any]:
    """A list of Keeper that can't be had fails the cycle."""

    original = reading.Reader._listed

    async def strictly(self: Any, _may_fall_back: bool) -> Any:
        return await original(self, False)

    return patch.object(reading.Reader, "_listed", strictly)


def look_for_no_leavers() -> AbstractContextManager[Any]:
    """The leaver lane finds nobody."""

    async def nobody(*_: Any) -> frozenset[str]:
        return frozenset()

    return patch.object(jumpcloud.JumpCloud, "suspended", nobody)


def believe_a_stored_future_time() -> AbstractContextManager[Any]:
    """A time in the state file is never corrected."""
    return patch.object(store.Store, "correct_times", lambda *_: {})


def lock_without_a_look() -> AbstractContextManager[Any]:
    """A lock is sent on top of one that somebody else has set, and taken for ours."""
    return patch.object(apply._Run, "_tells_locks", lambda *_: False)


def count_what_undoes_in_the_limits() -> AbstractContextManager[Any]:
    """Undoing our own lock counts like any other unlocking."""
    return patch.object(safety, "undoes", lambda *_: False)


def adopt_whatever_a_creation_answers() -> AbstractContextManager[Any]:
    """The account that Keeper answers a creation with is the newcomer's."""
    return patch.object(births, "is_theirs", lambda *_, **__: True)


def take_an_empty_plan_for_reviewed() -> AbstractContextManager[Any]:
    """A first plan with nothing to send needs no person any more."""
    original = cycle._Line._is_review

    def reviewed(self: Any, plan: Any, decision: Any) -> bool:
        return original(self, plan, decision) or not plan.operations

    return patch.object(cycle._Line, "_is_review", reviewed)


def overlook_what_nobody_asked_for() -> AbstractContextManager[Any]:
    """An answer that shows an effect that nobody asked for changes nothing."""
    return patch.object(apply, "suspicious", lambda *_, **__: False)


def take_no_subject_in_hand() -> AbstractContextManager[Any]:
    """Cycles beside each other work on the same people."""

    @asynccontextmanager
    async def free(*_: Any) -> AsyncIterator[None]:
        yield

    @contextmanager
    def both() -> Iterator[None]:
        with patch.object(Hands, "hold", free), patch.object(Hands, "changed_since", lambda *_: False):
            yield

    return both()


def believe_a_listed_address() -> AbstractContextManager[Any]:
    """Whoever has an address in a list gets its account, whatever their own record says."""

    async def nobody(*_: Any) -> dict[str, str]:
        return {}

    @contextmanager
    def both() -> Iterator[None]:
        with (
            patch.object(confirm, "tying_address", lambda _: ""),
            patch.object(cycle, "unconfirmed_links", nobody),
        ):
            yield

    return both()


ASKED_FOR: tuple[Mutant, ...] = (
    skip_the_confirming_read,
    treat_a_timeout_as_a_failure,
    forget_the_journal_before_sending,
    trust_an_empty_page,
    match_people_by_position,
    unlock_whoever_is_locked,
    count_limits_per_cycle,
)
FURTHER: tuple[Mutant, ...] = (
    ignore_the_limits,
    unlock_without_a_limit,
    forget_who_is_protected,
    send_to_whatever_node,
    believe_an_address,
    put_off_what_is_on_the_wire,
    skip_the_confirmation_of_giving,
    use_evidence_of_any_age,
    believe_a_short_page,
    stop_at_an_odd_record,
    stop_at_a_list_that_is_down,
    look_for_no_leavers,
    believe_a_stored_future_time,
    count_what_undoes_in_the_limits,
    adopt_whatever_a_creation_answers,
    take_an_empty_plan_for_reviewed,
    overlook_what_nobody_asked_for,
    take_no_subject_in_hand,
    believe_a_listed_address,
    lock_without_a_look,
)
BY_NAME = {mutant.__name__: mutant for mutant in (*ASKED_FOR, *FURTHER)}
