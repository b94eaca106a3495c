# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Buildings of several kinds. Local frame: front wall on y = 0 from x = 0, depth along +y."""

from __future__ import annotations

import numpy as np

from trainer.datasets.synthetic.materials import BUILDING, Material
from trainer.datasets.synthetic.mesh import (
    RGB,
    Finish,
    Mesh,
    box,
    fan,
    floats,
    join,
    loft,
    rectangle,
    solid,
    surface,
)

FLOOR_HEIGHT = 3.1
PLASTERS: tuple[RGB, ...] = (
    (0.86, 0.8, 0.66),
    (0.82, 0.7, 0.55),
    (0.75, 0.78, 0.78),
    (0.88, 0.86, 0.82),
    (0.72, 0.55, 0.45),
    (0.66, 0.72, 0.6),
)
BRICKS: tuple[RGB, ...] = ((0.52, 0.26, 0.19), (0.6, 0.38, 0.26), (0.43, 0.3, 0.26))
TILES: tuple[RGB, ...] = ((0.5, 0.22, 0.16), (0.3, 0.27, 0.27), (0.36, 0.2, 0.15))
CONCRETE = Finish(Material.STONE, (0.62, 0.61, 0.59))


def _pick(rng: np.random.Generator, colors: tuple[RGB, ...]) -> RGB:
    return colors[rng.integers(len(colors))]


def _walls(width: float, depth: float, height: float, finish: Finish) -> Mesh:
    """Four walls that reach into the ground, since the street may slope."""
    span = (0, width), (0, depth)
    return surface(loft(rectangle(*span, -1.2), rectangle(*span, height)), finish)


def _flat_roof(width: float, depth: float, height: float) -> Mesh:
    grey = Finish(Material.ROOF, (0.4, 0.4, 0.4))
    roof = surface(fan(rectangle((0, width), (0, depth), height)), grey)
    edge = [
        box((width / 2, y, height + 0.2), (width + 0.3, 0.3, 0.5), CONCRETE) for y in (0.0, depth)
    ]
    sides = [box((x, depth / 2, height + 0.2), (0.3, depth, 0.5), CONCRETE) for x in (0.0, width)]
    unit = box((width * 0.4, depth * 0.5, height + 0.9), (2.5, 2.0, 1.8), CONCRETE)
    return join([roof, *edge, *sides, unit])


def _gable_roof(width: float, depth: float, height: float, finish: Finish) -> Mesh:
    """Ridge along x with eaves that stick out."""
    rise, out = depth * 0.38, 0.45
    eaves = rectangle((-out, width + out), (-out, depth + out), height - 0.1)
    ridge = floats([[-out, depth / 2, height + rise], [width + out, depth / 2, height + rise]])
    front = [[eaves[0], eaves[1], ridge[1]], [eaves[0], ridge[1], ridge[0]]]
    back = [[eaves[3], eaves[2], ridge[1]], [eaves[3], ridge[1], ridge[0]]]
    return surface(front + back, finish)


def _gables(width: float, depth: float, height: float, finish: Finish) -> Mesh:
    rise = depth * 0.38
    ends = [
        [(x, 0, height), (x, depth, height), (x, depth / 2, height + rise)] for x in (0.0, width)
    ]
    return surface(ends, finish)


def _porch(x: float, finish: Finish) -> Mesh:
    """Door, step and a small roof."""
    door = box((x, -0.03, 1.05), (1.05, 0.1, 2.1), Finish(Material.WOOD, (0.35, 0.18, 0.12)))
    step = box((x, -0.5, 0.08), (1.6, 1.0, 0.3), CONCRETE)
    return join([door, step, box((x, -0.5, 2.45), (1.9, 1.1, 0.12), finish)])


def house(rng: np.random.Generator, width: float, depth: float) -> Mesh:
    """One or two floors under a gable roof."""
    height = FLOOR_HEIGHT * int(rng.integers(1, 3)) + 0.3
    if rng.random() < 0.6:
        wall = Finish(Material.PLASTER, _pick(rng, PLASTERS))
    else:
        wall = Finish(Material.BRICK, _pick(rng, BRICKS))
    tiles = Finish(Material.ROOF, _pick(rng, TILES))
    chimney = box(
        (width * 0.7, depth * 0.6, height + depth * 0.35),
        (0.7, 0.7, 1.8),
        Finish(Material.BRICK, BRICKS[0]),
    )
    plain = Finish(Material.STONE, wall.color)
    parts = [_walls(width, depth, height, wall), _gables(width, depth, height, plain)]
    parts += [_gable_roof(width, depth, height, tiles), chimney]
    parts.append(_porch(float(rng.uniform(0.35, 0.65)) * width, tiles))
    return join(parts, BUILDING)


def _balcony(x: float, floor: int, finish: Finish) -> Mesh:
    z = floor * FLOOR_HEIGHT + 0.1
    slab = box((x, -0.55, z), (2.6, 1.1, 0.16), CONCRETE)
    front = box((x, -1.07, z + 0.55), (2.6, 0.05, 1.0), finish)
    sides = [box((x + side * 1.28, -0.55, z + 0.55), (0.05, 1.1, 1.0), finish) for side in (-1, 1)]
    return join([slab, front, *sides])


def apartments(rng: np.random.Generator, width: float, depth: float, floors: int) -> Mesh:
    """A block of flats with balconies, shops with awnings on the ground floor of some."""
    brick = rng.random() < 0.5
    color = _pick(rng, BRICKS) if brick else _pick(rng, PLASTERS)
    wall = Finish(Material.BRICK if brick else Material.PLASTER, color)
    height = floors * FLOOR_HEIGHT + 0.4
    trim = Finish(
        Material.PAINT, _pick(rng, ((0.3, 0.35, 0.4), (0.75, 0.73, 0.7), (0.3, 0.22, 0.18)))
    )
    parts = [_walls(width, depth, height, wall), _flat_roof(width, depth, height)]
    columns = rng.choice(np.arange(1.4, width - 1.4, 2.8), 2)
    parts += [_balcony(float(x), floor, trim) for x in set(columns) for floor in range(1, floors)]
    if rng.random() < 0.5:
        cloth = Finish(
            Material.CLOTH, _pick(rng, ((0.7, 0.15, 0.12), (0.12, 0.4, 0.25), (0.15, 0.25, 0.5)))
        )
        high = rectangle((0.6, width - 0.6), (-0.05, 0.0), 3.0)
        low = rectangle((0.6, width - 0.6), (-1.2, -1.15), 2.5)
        parts.append(solid(low, high, cloth))
    else:
        parts.append(_porch(width / 2, CONCRETE))
    return join(parts, BUILDING)


def office(rng: np.random.Generator, width: float, depth: float, floors: int) -> Mesh:
    """A block with a curtain wall of glass and panels."""
    color = _pick(rng, ((0.55, 0.58, 0.6), (0.68, 0.65, 0.6), (0.42, 0.45, 0.5)))
    height = floors * FLOOR_HEIGHT + 0.4
    walls = _walls(width, depth, height, Finish(Material.CURTAIN_WALL, color))
    fins = [
        box((x, -0.12, height / 2), (0.25, 0.3, height), CONCRETE)
        for x in np.arange(0.1, width, 5.6)
    ]
    canopy = box((width / 2, -0.9, 3.0), (4.0, 1.9, 0.2), CONCRETE)
    return join([walls, _flat_roof(width, depth, height), *fins, canopy], BUILDING)


def building(rng: np.random.Generator, width: float, floors: tuple[int, int]) -> Mesh:
    """A building of random kind for a lot of the given width."""
    depth = float(rng.uniform(8.0, 12.0))
    levels = int(rng.integers(floors[0], floors[1] + 1))
    if levels <= 2:
        return house(rng, width, depth)
    if rng.random() < 0.25:
        return office(rng, width, depth, levels)
    return apartments(rng, width, depth, levels)
