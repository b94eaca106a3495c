# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Road, kerbs, sidewalks and grass, in street coordinates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trainer.datasets.synthetic.materials import ROAD, SIDEWALK, TERRAIN, Material
from trainer.datasets.synthetic.mesh import Finish, Mesh, join, surface
from trainer.datasets.synthetic.street import CORNER, KERB_HEIGHT, TERRAIN_HEIGHT, Layout

GROUND_HALF_WIDTH = 80.0
ROAD_FINISH = Finish(Material.ASPHALT, (0.27, 0.27, 0.28))
PAVING_FINISH = Finish(Material.PAVING, (0.56, 0.54, 0.51))
KERB_FINISH = Finish(Material.STONE, (0.66, 0.65, 0.63))
GRASS_FINISH = Finish(Material.GRASS, (0.33, 0.44, 0.18))


@dataclass(frozen=True)
class _Strip:
    """Part of the street's cross-section from (d, z) to (d, z)."""

    start: tuple[float, float]
    end: tuple[float, float]
    finish: Finish
    label: int


def ground(layout: Layout, first_block: int, last_block: int) -> Mesh:
    """Road, kerbs, sidewalks and grass of blocks first to last, in street coordinates."""
    parts = []
    for block in range(first_block, last_block + 1):
        s = block * layout.block_length
        inner, end = s + layout.side_street_width, s + layout.block_length
        zones = [
            ((s, inner), _side_street()),
            ((inner, inner + CORNER), _corner(layout)),
            ((inner + CORNER, end - CORNER), _middle_of_block(layout)),
            ((end - CORNER, end), _corner(layout)),
        ]
        parts += [_sweep_along(strip, span) for span, strips in zones for strip in strips]
        parts += [_kerb_across(layout, inner), _kerb_across(layout, end)]
    return join(parts)


def _side_street() -> list[_Strip]:
    half = GROUND_HALF_WIDTH
    return [_Strip((-half, 0), (half, 0), ROAD_FINISH, ROAD)]


def _both_sides(strips: list[_Strip]) -> list[_Strip]:
    mirrored = [
        replace(strip, start=(-strip.start[0], strip.start[1]), end=(-strip.end[0], strip.end[1]))
        for strip in strips
    ]
    return strips + mirrored


def _road_and_kerb(layout: Layout) -> list[_Strip]:
    kerb, top = layout.kerb, KERB_HEIGHT
    return [
        _Strip((0, 0), (kerb, 0), ROAD_FINISH, ROAD),
        _Strip((kerb, 0), (kerb, top), KERB_FINISH, SIDEWALK),
        _Strip((kerb, top), (kerb + 0.16, top), KERB_FINISH, SIDEWALK),
    ]


def _corner(layout: Layout) -> list[_Strip]:
    top = KERB_HEIGHT
    paved = _Strip((layout.kerb + 0.16, top), (GROUND_HALF_WIDTH, top), PAVING_FINISH, SIDEWALK)
    return _both_sides([*_road_and_kerb(layout), paved])


def _middle_of_block(layout: Layout) -> list[_Strip]:
    verge, walk = layout.kerb + layout.verge_width, layout.sidewalk_end
    strips = _road_and_kerb(layout)
    if layout.verge_width:
        green = (layout.kerb + 0.16, TERRAIN_HEIGHT), (verge, TERRAIN_HEIGHT)
        strips.append(_Strip(*green, GRASS_FINISH, TERRAIN))
    start = max(verge, layout.kerb + 0.16)
    strips.append(_Strip((start, KERB_HEIGHT), (walk, KERB_HEIGHT), PAVING_FINISH, SIDEWALK))
    edges = np.append(np.arange(walk, 40.0, 1.5), [45.0, 55.0, 65.0, GROUND_HALF_WIDTH])
    for low, high in pairwise(edges):
        yard = (float(low), TERRAIN_HEIGHT), (float(high), TERRAIN_HEIGHT)
        strips.append(_Strip(*yard, GRASS_FINISH, TERRAIN))
    return _both_sides(strips)


def _sweep_along(strip: _Strip, span: tuple[float, float]) -> Mesh:
    """Draw a strip out along s in steps of about 2 m."""
    steps = np.linspace(*span, max(2, round((span[1] - span[0]) / 2) + 1))
    low, high = (
        np.stack([steps, np.full_like(steps, d), np.full_like(steps, z)], axis=1)
        for d, z in (strip.start, strip.end)
    )
    if strip.label == TERRAIN:
        low[:, 2] += _bumps(low[:, 0], low[:, 1], span)
        high[:, 2] += _bumps(high[:, 0], high[:, 1], span)
    one = np.stack([low[:-1], high[:-1], high[1:]], axis=1)
    other = np.stack([low[:-1], high[1:], low[1:]], axis=1)
    return join([surface(np.concatenate([one, other]), strip.finish)], strip.label)


def _bumps(
    s: NDArray[np.float64], d: NDArray[np.float64], span: tuple[float, float]
) -> NDArray[np.float64]:
    """Uneven lawn that is level where it meets the paving."""
    waves = np.sin(0.9 * s + 0.7 * d) * np.sin(1.1 * d - 0.4 * s) + np.sin(0.31 * s - 0.23 * d)
    inside = np.clip(np.minimum(s - span[0], span[1] - s) / 3, 0, 1)
    away = np.clip((np.abs(d) - 12.0) / 4, 0, 1)
    return np.asarray(0.07 * waves * inside * away)


def _kerb_across(layout: Layout, s: float) -> Mesh:
    """Kerb faces along a side street."""
    faces = []
    for side in (-1, 1):
        near, far = side * layout.kerb, side * GROUND_HALF_WIDTH
        a, b = (s, near, 0), (s, far, 0)
        c, d = (s, far, KERB_HEIGHT), (s, near, KERB_HEIGHT)
        faces += [(a, b, c), (a, c, d)]
    return join([surface(faces, KERB_FINISH)], SIDEWALK)
