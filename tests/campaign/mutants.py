"""Deliberate faults in our own code: each takes one safeguard out of the running program, and has to be noticed."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from reconciler import apply, births, consent, cycle, diff, jumpcloud_lists, keeper, match, safety, store
from reconciler.safety import Judged

Mutant = Callable[[], AbstractContextManager[Any]]


def skip_the_confirming_read() -> AbstractContextManager[Any]:
    """What a list lacks is taken away without asking for the one person."""

    async def believe(judged: Any, *_: Any) -> Any:
        return judged

    return patch.object(cycle, "confirm", believe)


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
    return patch.object(jumpcloud_lists._Reading, "sound", property(lambda self: not self.ids or getter(self)))


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
        self.begun = set()
        original(self)

    return patch.object(apply._Run, "put_off_the_rest", everything)


def take_any_answer_for_a_birth() -> AbstractContextManager[Any]:
    """Whatever account answers a creation is the person's."""
    return patch.object(births, "is_theirs", lambda *_, **__: True)


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
    take_any_answer_for_a_birth,
)
BY_NAME = {mutant.__name__: mutant for mutant in (*ASKED_FOR, *FURTHER)}
