# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A whole town: its street, what stands and what moves; any time can be asked for in any order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError
from trainer.datasets.synthetic.ground import GRASS_FINISH, ground
from trainer.datasets.synthetic.kerbside import equip_sidewalk, park
from trainer.datasets.synthetic.lots import fill_background, fill_lots
from trainer.datasets.synthetic.materials import TERRAIN
from trainer.datasets.synthetic.mesh import Mesh, fan, join, surface
from trainer.datasets.synthetic.scenery import Scenery, Stock
from trainer.datasets.synthetic.street import CORNER, LAYOUTS, Layout, Street
from trainer.datasets.synthetic.traffic import EGO_SPEED, Mover, ego_position, traffic

SIGHT = 130.0  # how far the street goes on behind and ahead of the drive


@dataclass(frozen=True)
class World:
    """A town.

    Attributes:
        seed: of everything in it, sensor noise included.
        still: all that stands still, in world coordinates.
        movers: all that moves.
        span: part of the street that the movers use.
        sun: unit vector towards the sun.
    """

    seed: int
    layout: Layout
    street: Street
    still: Mesh
    movers: tuple[Mover, ...]
    span: tuple[float, float]
    sun: NDArray[np.float64]

    def moving(self, time: float) -> list[Mesh]:
        """All that moves, at a time in seconds, in world coordinates."""
        return [mover.at(time, self.street, self.span) for mover in self.movers]

    def world_from_base(self, time: float) -> NDArray[np.float64]:
        """Pose (4, 4) of the recording vehicle: x forward, y left, z up, origin on the road."""
        sway = 0.12 * float(np.sin(0.3 * time))
        return self.street.pose(ego_position(time), -self.layout.lane_width / 2 + sway)


def _furnish_block(street: Street, stock: Stock, seed: int, block: int) -> Mesh:
    """All objects of one block, in the world; the same for a seed however long the street is."""
    rng = np.random.default_rng([seed, 31, block + 1000])
    scenery, layout = Scenery(street, (block + 100) * 1000), street.layout
    start = block * layout.block_length
    span = start + layout.side_street_width + CORNER, start + layout.block_length - CORNER
    for side in (-1, 1):
        fill_lots(scenery, layout, stock, (side, *span), rng)
        park(scenery, layout, stock, (side, *span), rng)
        equip_sidewalk(scenery, layout, stock, (side, *span), rng)
        fill_background(scenery, layout, stock, (side, *span), rng)
    return join(scenery.parts)


def build_world(seed: int, layout: str, duration: float) -> World:
    """Make a town for a drive of so many seconds.

    Raises:
        InputError: no such layout.
    """
    if layout not in LAYOUTS:
        raise InputError('no such layout of a town', expected=' or '.join(LAYOUTS), got=layout)
    plan = LAYOUTS[layout]
    end = ego_position(0) + EGO_SPEED * duration + 2.0 + SIGHT
    blocks = int(-SIGHT // plan.block_length), int(end // plan.block_length)
    street, stock = Street(plan, seed, end), Stock(seed)
    span = blocks[0] * plan.block_length, (blocks[1] + 1) * plan.block_length
    placed = [
        _furnish_block(street, stock, seed, block) for block in range(blocks[0], blocks[1] + 1)
    ]
    still = join([street.bent(ground(plan, *blocks)), *placed])
    azimuth, elevation = np.random.default_rng([seed, 51]).uniform([0, 0.6], [2 * np.pi, 1.0])
    flat = np.cos(elevation)
    sun = np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
    movers = tuple(traffic(plan, stock, seed, span))
    return World(seed, plan, street, join([still, _plain(still)]), movers, span, sun)


def _plain(still: Mesh) -> Mesh:
    """Meadows up to the horizon, a little below the lowest point."""
    corners = still.triangles.reshape(-1, 3)
    low, high = corners.min(axis=0), corners.max(axis=0)
    angle = np.arange(24) * np.pi / 12
    ring = 1500.0 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    road_low = float(np.quantile(corners[:, 2], 0.02)) - 1.6
    centre = np.array([*(low + high)[:2] / 2, road_low])
    far = surface(fan(ring + centre), GRASS_FINISH)
    return replace(far, label=np.full_like(far.label, TERRAIN))
