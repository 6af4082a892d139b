"""Bars by day as the rectangles of an inline SVG: geometry only, the template draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

WIDTH, HEIGHT = 720, 200
"""The drawing, in its own units."""
_LEFT, _TOP, _BOTTOM, _RIGHT = 44, 10, 24, 16


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of the bar of one day."""

    series: str
    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars, and the lines and dates to read them by."""

    bars: Sequence[Bar]
    lines: Sequence[tuple[float, str]]
    dates: Sequence[tuple[float, str]]
    total: int


def stacked(amounts: Mapping[tuple[str, str], int], series: Mapping[str, str], last: date, days: int) -> Chart:
    """`amounts` by ISO day and series, drawn for so many days until the last; `series` are names with their labels,
    from the bottom up."""
    shown = [last - timedelta(days=back) for back in reversed(range(days))]
    totals = [sum(amounts.get((day.isoformat(), name), 0) for name in series) for day in shown]
    top = _round_up(max(totals, default=0))
    step = (WIDTH - _LEFT - _RIGHT) / days
    room = HEIGHT - _TOP - _BOTTOM
    bars = []
    for place, day in enumerate(shown):
        y = float(HEIGHT - _BOTTOM)
        for name, label in series.items():
            number = amounts.get((day.isoformat(), name), 0)
            if number:
                height = number / top * room
                y -= height
                title = f"{day.isoformat()}: {number} {label}"
                bars.append(Bar(name, _LEFT + place * step + step * 0.12, y, step * 0.76, height, title))
    lines = [(HEIGHT - _BOTTOM - part / 2 * room, f"{top * part // 2}") for part in (0, 1, 2)]
    dates = [
        (_LEFT + (place + 0.5) * step, f"{day:%d %b}")
        for place, day in enumerate(shown)
        if (days - 1 - place) % max(1, days // 6) == 0
    ]
    return Chart(bars, lines, dates, sum(totals))


def _round_up(number: int) -> int:
    """The next even number that begins with 1, 2, 4, 6 or 8: a scale that is read easily."""
    power = 1
    while True:
        for digit in (2, 4, 6, 8, 10):
            if digit * power >= number:
                return digit * power
        power *= 10
