# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Along the kerb: parked vehicles, works, and what stands on the sidewalk."""

from __future__ import annotations

import numpy as np

from trainer.datasets.synthetic.scenery import Rng, Scenery, Span, Stock, facing_street
from trainer.datasets.synthetic.street import KERB_HEIGHT, Layout


def park(scenery: Scenery, layout: Layout, stock: Stock, span: Span, rng: Rng) -> None:
    """Fill the parking lane in random order: cars, a truck or bus, gaps, cones around works."""
    side, s, end = span
    lengths = {'car': 5.7, 'truck': 9.0, 'bus': 12.6, 'gap': 4.5, 'cone': 6.0}
    order = [
        'car',
        'car',
        'gap',
        rng.choice(['truck', 'bus'], p=[0.6, 0.4]),
        rng.choice(['cone', 'car'], p=[0.8, 0.2]),
    ]
    rng.shuffle(order)
    s += 1.0
    for name in [*order, 'gap', 'car', 'car']:
        length = lengths[name]
        if s + length > end - 0.5:
            continue
        d = side * (layout.lane_width + layout.parking_width / 2 + 0.1)
        if name == 'cone':
            _put_cones(scenery, stock, (s, d), rng)
        elif name != 'gap':
            yaw = facing_street(-side) + rng.normal(0, 0.02)
            scenery.put(stock.any(name, rng), (s + length / 2, d + rng.normal(0, 0.06), 0), yaw)
        s += length


def _put_cones(scenery: Scenery, stock: Stock, at: tuple[float, float], rng: Rng) -> None:
    s, d = at
    for step in range(5):
        offset = -np.sign(d) * (0.9 if 0 < step < 4 else 0.2)
        place = (s + 0.5 + 1.2 * step, d + offset + rng.normal(0, 0.05), 0)
        scenery.put(stock.any('cone', rng), place, float(rng.uniform(0, 6)))


def equip_sidewalk(scenery: Scenery, layout: Layout, stock: Stock, span: Span, rng: Rng) -> None:
    """Place lamps, signs, bollards, bicycles, trees and people standing about."""
    side, start, end = span
    edge = side * (layout.kerb + 0.5)
    toward_road = facing_street(-side)
    against_traffic = np.pi if side < 0 else 0.0
    offset = 0.0 if side < 0 else 11.0
    for s in np.arange(start + 2.5 + offset, end, 22.0):
        scenery.put(stock.any('lamp', rng), (float(s), edge, KERB_HEIGHT), toward_road)
    kinds = ['sign', 'sign', 'board' if rng.random() < 0.3 else 'sign']
    for s, kind in zip((start + 0.6, (start + end) / 2 + rng.uniform(-8, 8), end - 0.6), kinds):
        scenery.put(stock.any(kind, rng), (float(s), edge, KERB_HEIGHT), against_traffic)
    for s in (start - 1.8, start - 0.9, end + 0.9, end + 1.8):
        scenery.put(stock.any('bollard', rng), (s, edge - side * 0.1, KERB_HEIGHT))
    _rack_bicycles(scenery, layout, stock, span, rng)
    _let_people_stand(scenery, layout, stock, span, rng)
    if layout.verge_width:
        for s in np.arange(start + 6.0, end - 3, layout.tree_gap):
            at = (float(s), side * (layout.kerb + layout.verge_width * 0.6), KERB_HEIGHT)
            scenery.put(stock.any('street tree', rng), at, float(rng.uniform(0, 6)))
    else:
        s = float(rng.uniform(start, end))
        scenery.put(
            stock.any('utility pole', rng), (s, side * (layout.sidewalk_end - 0.2), KERB_HEIGHT)
        )


def _rack_bicycles(scenery: Scenery, layout: Layout, stock: Stock, span: Span, rng: Rng) -> None:
    side, start, end = span
    first = float(rng.uniform(start + 3, end - 6))
    d = side * (layout.kerb + layout.verge_width + 0.95)
    for index in range(int(rng.integers(2, 5))):
        yaw = side * np.pi / 2 + rng.normal(0, 0.12)
        scenery.put(stock.any('bicycle', rng), (first + 0.75 * index, d, KERB_HEIGHT), yaw)


def _let_people_stand(
    scenery: Scenery, layout: Layout, stock: Stock, span: Span, rng: Rng
) -> None:
    side, start, end = span
    for _ in range(int(rng.integers(1, 4))):
        d = side * (layout.sidewalk_end - rng.uniform(0.5, 1.2))
        at = (float(rng.uniform(start, end)), d, KERB_HEIGHT)
        scenery.put(stock.any('pedestrian', rng), at, float(rng.uniform(0, 6)))
