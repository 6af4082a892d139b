"""Histories that once broke an invariant, and the observer itself: it must be able to see."""

from pathlib import Path

import pytest

from tests.campaign import mutants
from tests.campaign.history import play, steps_of

SEEDS = [
    int(line)
    for line in (Path(__file__).parent / "seeds.txt").read_text(encoding="utf-8").split("\n")
    if line.isdigit()
]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_that_once_failed(seed: int) -> None:
    played = play(seed, steps_of(seed))
    assert not played.violations, "\n".join([*played.lines, *map(str, played.violations)])


@pytest.mark.parametrize("seed", range(1000, 1003))
def test_a_seed_is_one_history(seed: int) -> None:
    steps = steps_of(seed, 15)
    assert play(seed, steps).faults == play(seed, steps).faults


def test_the_campaign_sees_what_is_sent_without_the_journal() -> None:
    with mutants.forget_the_journal_before_sending():
        letters = {letter for seed in range(3) for letter in play(seed, steps_of(seed, 15)).letters}
    assert "h" in letters
