# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Time series as the coordinates of an SVG, which the page's own colours draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reldistill_ros.core.errors import import_extra

WIDTH, HEIGHT = 960.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 10.0, 10.0, 26.0
COLUMNS = 450  # of which each shows its lowest and its highest value
NUM_TICKS = 5

Point = tuple[float, float]


@dataclass(frozen=True)
class Chart:
    """A chart, in the pixels of an SVG of `WIDTH` by `HEIGHT`.

    Attributes:
        title: what is shown.
        unit: of the vertical axis.
        line: points of a polyline.
        marks: horizontal positions to mark.
        x_ticks: position and text.
        y_ticks: position and text.
    """

    title: str
    unit: str
    line: str
    marks: tuple[float, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


def time_chart(
    title: str,
    unit: str,
    points: Sequence[Point],
    *,
    end: float,
    marks: Sequence[float] = (),
    whole: bool = False,
) -> Chart:
    """A chart over the seconds of a replay; its vertical axis begins at zero.

    Args:
        title: what is shown.
        unit: of the values.
        points: (second, value), ascending.
        end: the last second.
        marks: seconds to mark.
        whole: the values are whole numbers.
    """
    end = end or 1.0
    x_ticks = _ticks(end)
    y_ticks = _ticks(max((value for _, value in points), default=0.0) or 1.0, whole)
    highest = y_ticks[-1]

    def x(second: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * second / end, 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / highest, 1)

    return Chart(
        title,
        unit,
        ' '.join(f'{x(second)},{y(value)}' for second, value in thin_out(points)),
        tuple(sorted({float(round(x(second))) for second in marks})),  # one for each pixel
        tuple((x(tick), f'{tick:g}') for tick in x_ticks if tick <= end),
        tuple((y(tick), f'{tick:g}') for tick in y_ticks),
    )


def thin_out(points: Sequence[Point], columns: int = COLUMNS) -> list[Point]:
    """As many points as can be seen: of each column the lowest and the highest, in order."""
    if len(points) <= 2 * columns:
        return list(points)
    kept = []
    for column in range(columns):
        first = column * len(points) // columns
        part = points[first : (column + 1) * len(points) // columns]
        extremes = {min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}
        kept += sorted(extremes)
    return kept


def _ticks(end: float, whole: bool = False) -> list[float]:
    """Round numbers from 0 to `end` or just beyond."""
    locator = import_extra('matplotlib.ticker', 'replay').MaxNLocator(
        NUM_TICKS, steps=[1, 2, 2.5, 5, 10], integer=whole
    )
    ticks: list[float] = locator.tick_values(0, end).tolist()
    return [tick for tick in ticks if tick >= 0]
