"""How operations are divided, put together again, and kept in a plan whose holds point at them by index."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from reconciler.plan import Change, Effect, Held, Kind, Operation, Plan, Scope, in_order
from reconciler.safety import Judged, divided, only
from tests.operations import op, ref
from tests.world import NOW, SOURCE, group, user

ADA = user(1)
GROUPS = [group(number) for number in range(5, 9)]


@st.composite
def operations(draw: st.DrawFn, number: int = 1) -> Operation:
    kind = draw(st.sampled_from([Kind.CREATE_USER, Kind.UPDATE_USER, Kind.UPDATE_USER, Kind.REACTIVATE_USER]))
    sides = draw(st.lists(st.sampled_from("+- "), min_size=4, max_size=4))
    add = tuple(ref(of) for of, side in zip(GROUPS, sides, strict=True) if side == "+")
    remove = tuple(ref(of) for of, side in zip(GROUPS, sides, strict=True) if side == "-")
    one = op(kind, user(number), add=add, remove=() if kind is Kind.CREATE_USER else remove)
    if kind is not Kind.UPDATE_USER:
        return one
    names = draw(st.sets(st.sampled_from(["displayName", "name.givenName"])))
    assume(names or add or remove)
    return op(kind, user(number), add=add, remove=remove, changes=tuple(Change(n, "", "x") for n in sorted(names)))


@st.composite
def parted(draw: st.DrawFn) -> tuple[Operation, frozenset[Effect]]:
    """An operation and some of its effects."""
    one = draw(operations())
    return one, frozenset(draw(st.sets(st.sampled_from(sorted(one.effects())))))


@given(parted())
def test_both_parts_together_do_what_the_operation_does_and_joined_they_are_it_again(
    case: tuple[Operation, frozenset[Effect]],
) -> None:
    one, effects = case
    mine, rest = one.split(effects)
    assert frozenset().union(*(part.effects() for part in (mine, rest) if part)) == one.effects()
    if mine is not None and rest is not None:
        again = mine.joined(rest)
        assert again.effects() == one.effects() and again.kind is one.kind
        assert Counter((*again.changes, *again.add, *again.remove)) == Counter((*one.changes, *one.add, *one.remove))


@given(parted())
def test_a_part_does_no_more_than_it_was_asked_for(case: tuple[Operation, frozenset[Effect]]) -> None:
    one, effects = case
    mine, rest = one.split(effects)
    assert mine is None or mine.effects() <= effects
    assert mine is None or rest is None or not mine.effects() & rest.effects()


def test_a_creation_goes_with_its_own_effect_and_never_without_it() -> None:
    eng, sales = ref(GROUPS[0]), ref(GROUPS[1])
    one = op(Kind.CREATE_USER, ADA, add=(eng, sales))
    created, rest = one.split(frozenset({("create_user", ADA.id), ("add", ADA.id, eng.key)}))
    assert created == op(Kind.CREATE_USER, ADA, add=(eng,))
    assert rest is not None and (rest.kind, rest.add, rest.changes) == (Kind.UPDATE_USER, (sales,), ())
    assert one.split(frozenset({("add", ADA.id, eng.key)})) == (None, one)


def test_an_operation_without_what_it_was_for_is_none() -> None:
    one = op(Kind.UPDATE_USER, ADA, add=(ref(GROUPS[0]),))
    assert one.divided(one.add, ()) == (None, one)
    assert one.divided((), ()) == (one, None)
    back = op(Kind.REACTIVATE_USER, ADA, add=one.add)
    assert back.divided(back.add, ()) == (op(Kind.REACTIVATE_USER, ADA), one)


# -- in a plan ------------------------------------------------------------------------------------------------------


@st.composite
def judgements(draw: st.DrawFn) -> Judged:
    """A plan for a few people of whom some are held and some were let through by a person."""
    ops = list(in_order(draw(operations(number)) for number in range(1, draw(st.integers(1, 4)) + 1)))
    held = draw(st.sets(st.integers(0, len(ops) - 1)))
    ops = [replace(one, sent=number not in held) for number, one in enumerate(ops)]
    holds = (Held("max_grants", tuple(sorted(held)), 0, len(held), "too many"),) if held else ()
    plan = Plan("cycle", NOW, SOURCE, Scope(4, 4, 4), tuple(ops), held=holds)
    return Judged(plan, {n: f"release:{n}" for n in range(len(ops)) if n not in held})


def effects_at(judged: Judged, indices: Iterable[int]) -> frozenset[Effect]:
    return frozenset(effect for index in indices for effect in judged.plan.operations[index].effects())


@given(judgements(), st.data())
def test_a_saved_plan_sends_nothing_but_its_effects_and_loses_none_of_the_plan(
    judged: Judged, data: st.DataObject
) -> None:
    wanted = frozenset(data.draw(st.sets(st.sampled_from(sorted(judged.plan.effects)))))
    after = only(judged, wanted)
    assert {e for one in after.plan.operations if one.sent for e in one.effects()} <= wanted
    assert after.plan.effects == judged.plan.effects


@given(judgements(), st.data())
def test_holds_and_decisions_point_at_the_same_things_after_a_division(judged: Judged, data: st.DataObject) -> None:
    wanted = frozenset(data.draw(st.sets(st.sampled_from(sorted(judged.plan.effects)))))
    after = only(judged, wanted)
    assert effects_at(after, after.plan.held_indices) == effects_at(judged, judged.plan.held_indices)
    for index, decision in after.decisions.items():
        before = int(decision.removeprefix("release:"))
        assert after.plan.operations[index].effects() <= judged.plan.operations[before].effects()
    assert all(not after.plan.operations[index].sent for index in after.plan.held_indices)


def test_what_is_divided_off_is_in_the_plan_and_is_not_sent() -> None:
    eng, sales = ref(GROUPS[0]), ref(GROUPS[1])
    one = op(Kind.UPDATE_USER, ADA, remove=(eng, sales))
    judged = Judged(Plan("cycle", NOW, SOURCE, Scope(1, 1, 1), (one,)), {0: "release:1"})
    after = divided(judged, lambda _, whole: whole.divided((), (sales,)))
    assert [(part.remove, part.sent) for part in after.plan.operations] == [((eng,), True), ((sales,), False)]
    assert after.decisions == {0: "release:1"}


def test_a_hold_still_points_at_its_operation_when_one_before_it_is_divided() -> None:
    eng, sales = ref(GROUPS[0]), ref(GROUPS[1])
    one = op(Kind.UPDATE_USER, ADA, remove=(eng, sales))
    waits = op(Kind.UPDATE_USER, user(2), add=(eng,), sent=False)
    holds = (Held("max_grants", (1,), 0, 1, "too many"),)
    judged = Judged(Plan("cycle", NOW, SOURCE, Scope(2, 2, 2), (one, waits), held=holds))
    after = only(judged, frozenset({("remove", ADA.id, eng.key)}))
    assert [after.plan.operations[index] for index in after.plan.held[0].operations] == [waits]
