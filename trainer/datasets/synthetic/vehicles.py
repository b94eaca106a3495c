# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Cars, trucks, buses and bicycles. Local frame: x forward, y left, z up from the ground."""

from __future__ import annotations

from functools import partial

import numpy as np

from reldistill_ros.core.errors import import_extra
from trainer.datasets.synthetic.figures import rider
from trainer.datasets.synthetic.materials import BICYCLE, BUS, CAR, TRUCK, Material
from trainer.datasets.synthetic.mesh import (
    Finish,
    Mesh,
    box,
    join,
    loft,
    prism,
    rectangle,
    solid,
    surface,
    tube,
)

GLASS = Finish(Material.GLASS, (0.10, 0.13, 0.16))
RUBBER = Finish(Material.RUBBER, (0.06, 0.06, 0.06))
RIM = Finish(Material.METAL, (0.65, 0.66, 0.68))
DARK = Finish(Material.PAINT, (0.08, 0.08, 0.09))
LAMP = Finish(Material.GLASS, (0.95, 0.93, 0.82))
TAIL = Finish(Material.PAINT, (0.62, 0.05, 0.05))
PLATE = Finish(Material.SIGN_FACE, (0.94, 0.94, 0.9))
CAR_COLORS = (
    (0.85, 0.86, 0.87),
    (0.55, 0.57, 0.6),
    (0.12, 0.13, 0.15),
    (0.62, 0.08, 0.08),
    (0.1, 0.22, 0.48),
    (0.75, 0.72, 0.62),
    (0.12, 0.32, 0.24),
    (0.8, 0.42, 0.08),
)


def wheel(x: float, y: float, radius: float) -> Mesh:
    """A wheel standing on the ground with its outer face at y."""
    inner = y - np.sign(y) * 0.22
    hub = y + np.sign(y) * 0.012
    tyre = tube([(x, inner, radius), (x, y, radius)], (radius, radius), RUBBER, sides=14)
    rim = tube([(x, inner, radius), (x, hub, radius)], (radius * 0.6,) * 2, RIM, sides=8)
    return join([tyre, rim])


def _cabin(bottom: tuple[float, float], top: tuple[float, float], z: tuple[float, float]) -> Mesh:
    """Glass house of a car, to be given pillars and a roof."""
    low = rectangle(bottom, (-0.82, 0.82), z[0])
    high = rectangle(top, (-0.62, 0.62), z[1])
    return surface(loft(low, high), GLASS)


def _cabin_frame(
    bottom: tuple[float, float], top: tuple[float, float], z: tuple[float, float], paint: Finish
) -> Mesh:
    """Roof and pillars around `_cabin`."""
    roof = solid(
        rectangle(top, (-0.64, 0.64), z[1] - 0.03),
        rectangle(top, (-0.58, 0.58), z[1] + 0.04),
        paint,
    )
    feet = [*bottom, sum(bottom) / 2 - 0.1]
    heads = [*top, sum(top) / 2 - 0.1]
    pillars = [
        tube([(foot, side * 0.83, z[0]), (head, side * 0.63, z[1])], (0.06, 0.05), paint, sides=4)
        for foot, head in zip(feet, heads)
        for side in (-1, 1)
    ]
    return join([roof, *pillars])


def _car_fittings(front: float, rear: float) -> Mesh:
    """Wheels, lamps, number plates and mirrors."""
    wheels = [wheel(x, y, 0.33) for x in (front - 0.85, rear + 0.8) for y in (-0.88, 0.88)]
    lamps = [box((front - 0.04, y, 0.68), (0.14, 0.36, 0.14), LAMP) for y in (-0.62, 0.62)]
    tails = [box((rear + 0.03, y, 0.8), (0.12, 0.3, 0.16), TAIL) for y in (-0.66, 0.66)]
    plates = [box((x, 0, 0.5), (0.04, 0.5, 0.11), PLATE) for x in (front + 0.02, rear - 0.01)]
    mirrors = [box((front - 1.5, y, 1.0), (0.12, 0.2, 0.12), DARK) for y in (-0.98, 0.98)]
    return join([*wheels, *lamps, *tails, *plates, *mirrors])


def car(rng: np.random.Generator) -> Mesh:
    """A saloon, estate, small car or van of random colour."""
    paint = Finish(Material.PAINT, CAR_COLORS[rng.integers(len(CAR_COLORS))])
    length, roof, rear_slope = [
        (4.5, 1.43, 1.0),
        (4.6, 1.5, 0.25),
        (3.8, 1.5, 0.3),
        (4.8, 1.95, 0.1),
    ][rng.integers(4)]
    front, rear = length / 2, -length / 2
    waist = 0.62 * roof
    profile = [
        (rear, 0.45),
        (rear + 0.15, 0.24),
        (front - 0.15, 0.24),
        (front, 0.42),
        (front - 0.05, 0.68),
        (front - 1.15, waist),
        (rear + 0.06, waist),
    ]
    bottom = (rear + (0.55 if rear_slope > 0.9 else 0.08), front - 1.05)
    span = bottom, (bottom[0] + rear_slope * 0.7, bottom[1] - 0.75), (waist - 0.02, roof)
    parts = [
        prism(profile, 0.88, paint),
        _cabin(*span),
        _cabin_frame(*span, paint),
        _car_fittings(front, rear),
    ]
    return join(parts, CAR)


def truck(rng: np.random.Generator) -> Mesh:
    """A box truck."""
    cab_paint = Finish(
        Material.PAINT, [(0.85, 0.85, 0.86), (0.7, 0.1, 0.08), (0.1, 0.25, 0.5)][rng.integers(3)]
    )
    cargo = Finish(
        Material.PAINT, [(0.9, 0.9, 0.88), (0.32, 0.45, 0.62), (0.72, 0.7, 0.62)][rng.integers(3)]
    )
    high = float(rng.uniform(3.0, 3.5))
    cab = solid(
        rectangle((1.7, 3.6), (-1.1, 1.1), 0.5),
        rectangle((1.7, 3.3), (-1.05, 1.05), 2.5),
        cab_paint,
    )
    screen = solid(
        rectangle((3.3, 3.50), (-0.95, 0.95), 1.5), rectangle((3.2, 3.39), (-0.9, 0.9), 2.3), GLASS
    )
    side_windows = box((2.9, 0, 1.85), (0.7, 2.24, 0.65), GLASS)
    load = box((-1.1, 0, (0.95 + high) / 2), (5.2, 2.45, high - 0.95), cargo)
    stripe = box((-1.1, 0, 1.5), (5.0, 2.47, 0.3), cab_paint)
    chassis = box((0, 0, 0.75), (7.0, 0.9, 0.3), DARK)
    bumper = box((3.62, 0, 0.62), (0.12, 2.2, 0.3), DARK)
    wheels = [wheel(x, y, 0.48) for x in (2.6, -1.9, -2.95) for y in (-1.15, 1.15)]
    lamps = [box((3.6, y, 0.85), (0.12, 0.35, 0.16), LAMP) for y in (-0.8, 0.8)]
    tails = [box((-3.72, y, 0.9), (0.06, 0.3, 0.15), TAIL) for y in (-0.95, 0.95)]
    return join(
        [cab, screen, side_windows, load, stripe, chassis, bumper, *wheels, *lamps, *tails], TRUCK
    )


def bus(rng: np.random.Generator) -> Mesh:
    """A city bus, 11 m."""
    paint = Finish(
        Material.PAINT, [(0.86, 0.65, 0.08), (0.7, 0.1, 0.12), (0.12, 0.42, 0.36)][rng.integers(3)]
    )
    white = Finish(Material.PAINT, (0.9, 0.9, 0.9))
    body = solid(
        rectangle((-5.5, 5.5), (-1.25, 1.25), 0.3),
        rectangle((-5.45, 5.4), (-1.2, 1.2), 3.05),
        paint,
    )
    skirt = box((0, 0, 0.62), (10.9, 2.53, 0.25), white)
    windows = [box((x, 0, 1.95), (1.25, 2.49, 0.95), GLASS) for x in np.arange(-4.6, 4.0, 1.42)]
    doors = [box((x, -1.2, 1.5), (1.1, 0.12, 2.1), GLASS) for x in (4.6, -0.3)]
    screen = box((5.43, 0, 1.9), (0.12, 2.2, 1.3), GLASS)
    rear_window = box((-5.46, 0, 2.1), (0.1, 1.9, 0.8), GLASS)
    display = box((5.44, 0, 2.78), (0.1, 1.5, 0.28), Finish(Material.PAINT, (0.95, 0.6, 0.05)))
    roof_unit = box((-1.5, 0, 3.2), (3.5, 1.5, 0.3), white)
    wheels = [wheel(x, y, 0.48) for x in (3.3, -3.4) for y in (-1.26, 1.26)]
    lamps = [box((5.5, y, 0.7), (0.08, 0.4, 0.2), LAMP) for y in (-0.85, 0.85)]
    tails = [box((-5.5, y, 1.0), (0.06, 0.25, 0.4), TAIL) for y in (-1.0, 1.0)]
    parts = [body, skirt, *windows, *doors, screen, rear_window, display, roof_unit]
    return join([*parts, *wheels, *lamps, *tails], BUS)


def _bicycle_wheel(x: float) -> Mesh:
    creation = import_extra('trimesh.creation', 'train')
    ring = creation.torus(0.33, 0.028, major_sections=18, minor_sections=4).triangles
    upright = ring[:, :, [0, 2, 1]] + np.array([x, 0, 0.36])
    spoke = partial(tube, radii=(0.008, 0.008), finish=RIM, sides=3)
    spokes = [
        spoke([(x, 0, 0.36), (x + 0.33 * np.cos(angle), 0, 0.36 + 0.33 * np.sin(angle))])
        for angle in np.arange(7) * 2 * np.pi / 7
    ]
    return join([surface(upright, RUBBER), *spokes])


def bicycle(rng: np.random.Generator, ridden: bool) -> Mesh:
    """A bicycle; its rider, if any, belongs to the class bicycle as well."""
    color = CAR_COLORS[rng.integers(len(CAR_COLORS))]
    bar = partial(tube, radii=(0.022, 0.022), finish=Finish(Material.PAINT, color), sides=4)
    crank, saddle, head = (-0.08, 0, 0.33), (-0.25, 0, 0.88), (0.36, 0, 0.88)
    rear, front = (-0.52, 0, 0.36), (0.52, 0, 0.36)
    tubes = [(crank, saddle), (crank, head), (saddle, head), (crank, rear), (saddle, rear)]
    fork, handle = [(0.33, 0, 1.02), front], [(0.33, -0.28, 1.04), (0.33, 0.28, 1.04)]
    seat = box((-0.27, 0, 0.94), (0.26, 0.14, 0.06), DARK)
    basket = box((-0.52, 0, 0.78), (0.36, 0.26, 0.16), DARK)
    parts = [_bicycle_wheel(-0.52), _bicycle_wheel(0.52), seat, *(bar(ends) for ends in tubes)]
    parts += [bar(fork), bar(handle), basket]
    if ridden:
        parts.append(rider(rng))
    return join(parts, BICYCLE)
