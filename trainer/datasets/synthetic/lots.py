# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Lots along the street: buildings, fences, gardens, and what stands behind them."""

from __future__ import annotations

import numpy as np

from trainer.datasets.synthetic import buildings, plants
from trainer.datasets.synthetic import street_furniture as furniture
from trainer.datasets.synthetic.ground import PAVING_FINISH
from trainer.datasets.synthetic.materials import SIDEWALK
from trainer.datasets.synthetic.mesh import box, join
from trainer.datasets.synthetic.scenery import Rng, Scenery, Span, Stock, facing_street
from trainer.datasets.synthetic.street import CORNER, TERRAIN_HEIGHT, Layout


def fill_lots(scenery: Scenery, layout: Layout, stock: Stock, span: Span, rng: Rng) -> None:
    """Divide a side of a block into lots with buildings or gardens."""
    side, s, end = span
    while end - s > 9.0:
        width = min(float(rng.uniform(10.0, 17.0)), end - s)
        if end - s - width < 9.0:
            width = end - s
        yard = float(rng.uniform(*layout.yard))
        built = rng.random() < layout.building_share
        if built:
            _build(scenery, layout, (side, s, s + width), yard, rng)
        else:
            _plant_garden(scenery, layout, stock, (side, s, s + width), rng)
        if yard > 1.8 or not built:
            _enclose(scenery, layout, (side, s, s + width), rng)
            _plant_yard(scenery, layout, stock, (side, s, s + width), yard, rng)
        s += width


def _build(scenery: Scenery, layout: Layout, span: Span, yard: float, rng: Rng) -> None:
    side, s, end = span
    width = end - s - float(rng.uniform(0.6, 3.0))
    front = layout.sidewalk_end + yard
    corner = s + 0.3 if side > 0 else s + 0.3 + width
    house = buildings.building(rng, width, layout.floors)
    scenery.put(house, (corner, side * front, TERRAIN_HEIGHT), facing_street(side))
    path = box((0, 0, 0), (1.6, yard, 0.1), PAVING_FINISH)
    middle = layout.sidewalk_end + yard / 2
    scenery.put(join([path], SIDEWALK), (s + width / 2, side * middle, TERRAIN_HEIGHT - 0.01))


def _enclose(scenery: Scenery, layout: Layout, span: Span, rng: Rng) -> None:
    """Fence, wall or hedge along the sidewalk, with a gap for the path, and beside the lot."""
    side, s, end = span
    make = [
        furniture.picket_fence,
        furniture.bar_fence,
        furniture.garden_wall,
        furniture.garden_wall,
        plants.hedge,
        None,
    ][rng.choice(6, p=[0.19, 0.19, 0.16, 0.14, 0.2, 0.12])]
    d = side * (layout.sidewalk_end + 0.45)
    if make is not None:
        middle = (s + end) / 2
        for low, high in ((s + 0.2, middle - 1.4), (middle + 1.4, end - 0.2)):
            scenery.put(make(high - low, rng), (low, d, TERRAIN_HEIGHT))
    if rng.random() < 0.5:
        beside = [furniture.bar_fence, furniture.garden_wall, furniture.picket_fence][
            rng.integers(3)
        ]
        scenery.put(beside(11.0, rng), (s, d, TERRAIN_HEIGHT), side * np.pi / 2)


def _plant_yard(
    scenery: Scenery, layout: Layout, stock: Stock, span: Span, yard: float, rng: Rng
) -> None:
    side, s, end = span
    for _ in range(int(rng.integers(1, 4))):
        d = layout.sidewalk_end + rng.uniform(1.2, max(1.3, yard - 0.8))
        at = (float(rng.uniform(s + 0.8, end - 0.8)), side * d, TERRAIN_HEIGHT)
        scenery.put(stock.any('bush', rng), at, float(rng.uniform(0, 6)))
    if yard > 4.5 and rng.random() < 0.5:
        at = (
            float(rng.uniform(s + 2, end - 2)),
            side * (layout.sidewalk_end + 2.6),
            TERRAIN_HEIGHT,
        )
        scenery.put(stock.any('street tree', rng), at, float(rng.uniform(0, 6)))


def _plant_garden(scenery: Scenery, layout: Layout, stock: Stock, span: Span, rng: Rng) -> None:
    side, s, end = span
    for _ in range(int(rng.integers(3, 6))):
        d = layout.sidewalk_end + rng.uniform(3.0, 16.0)
        kind = 'conifer' if rng.random() < 0.25 else 'tree'
        at = (float(rng.uniform(s + 1.5, end - 1.5)), side * d, TERRAIN_HEIGHT - 0.1)
        scenery.put(stock.any(kind, rng), at, float(rng.uniform(0, 6)))
    for _ in range(int(rng.integers(2, 5))):
        d = layout.sidewalk_end + rng.uniform(1.5, 9.0)
        at = (float(rng.uniform(s + 1, end - 1)), side * d, TERRAIN_HEIGHT)
        scenery.put(stock.any('bush', rng), at, float(rng.uniform(0, 6)))


def fill_background(scenery: Scenery, layout: Layout, stock: Stock, span: Span, rng: Rng) -> None:
    """A second row of houses and trees, and a car waiting in the side street."""
    side, start, end = span
    width = float(rng.uniform(15, 24))
    s, front = float(rng.uniform(start, end - width)), float(rng.uniform(40, 52))
    corner = s if side > 0 else s + width
    tall = buildings.building(rng, width, (layout.floors[0] + 1, layout.floors[1] + 2))
    scenery.put(tall, (corner, side * front, TERRAIN_HEIGHT), facing_street(side))
    for _ in range(4):
        at = (
            float(rng.uniform(start, end)),
            side * float(rng.uniform(29, 38)),
            TERRAIN_HEIGHT - 0.1,
        )
        scenery.put(stock.any('tree', rng), at, float(rng.uniform(0, 6)))
    kind = str(rng.choice(['car', 'car', 'truck', 'bus']))
    lane = start - CORNER - layout.side_street_width * (0.25 if side > 0 else 0.75)
    at = (lane, side * (layout.sidewalk_end + rng.uniform(4, 14)), 0)
    scenery.put(stock.any(kind, rng), at, -side * np.pi / 2)
