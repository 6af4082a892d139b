"""The bars of the history: to scale, within the drawing, on their day."""

from datetime import date

import pytest

from reconciler.report.chart import HEIGHT, WIDTH, stacked

LAST = date(2026, 11, 24)


def test_bars_are_stacked_to_scale_on_their_day() -> None:
    amounts = {("2026-11-24", "a"): 30, ("2026-11-24", "b"): 10, ("2026-11-23", "a"): 20, ("2026-09-01", "a"): 9}
    drawn = stacked(amounts, {"a": "locked", "b": "created"}, LAST, 30)
    before, first, second = drawn.bars
    assert drawn.total == 60
    assert first.height == 3 * second.height == pytest.approx(1.5 * before.height)
    assert second.y + second.height == pytest.approx(first.y)
    assert before.x + before.width < first.x == second.x
    assert second.title == "2026-11-24: 10 created"
    assert all(b.x >= 0 and b.x + b.width <= WIDTH and b.y >= 0 and b.y + b.height <= HEIGHT for b in drawn.bars)


@pytest.mark.parametrize(
    ("most", "top"), [(0, "2"), (1, "2"), (3, "4"), (9, "10"), (11, "20"), (41, "60"), (200, "200")]
)
def test_the_scale_is_a_round_number_above_the_highest(most: int, top: str) -> None:
    assert stacked({("2026-11-24", "a"): most}, {"a": ""}, LAST, 30).lines[-1][1] == top


def test_nothing_done_is_an_empty_chart() -> None:
    drawn = stacked({}, {"a": "locked"}, LAST, 30)
    assert (drawn.bars, drawn.total) == ([], 0)
    assert drawn.dates[-1][1] == "24 Nov"
