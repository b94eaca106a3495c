# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""People. Local frame: x forward, y left, z up from the ground; 1.75 m tall."""

from __future__ import annotations

from functools import partial

import numpy as np

from trainer.datasets.synthetic.materials import PEDESTRIAN, Material
from trainer.datasets.synthetic.mesh import RGB, Finish, Mesh, ball, box, join, tube

SHIRTS = (
    (0.75, 0.2, 0.18),
    (0.2, 0.35, 0.62),
    (0.85, 0.8, 0.7),
    (0.25, 0.25, 0.28),
    (0.3, 0.5, 0.3),
    (0.8, 0.62, 0.2),
    (0.5, 0.25, 0.5),
)
TROUSERS = ((0.15, 0.18, 0.3), (0.2, 0.2, 0.2), (0.45, 0.38, 0.3), (0.32, 0.34, 0.38))
SKINS = ((0.85, 0.65, 0.52), (0.6, 0.42, 0.3), (0.36, 0.24, 0.17))
HAIRS = ((0.1, 0.08, 0.06), (0.35, 0.22, 0.12), (0.65, 0.55, 0.35), (0.6, 0.6, 0.6))
NUM_GAIT_PHASES = 4
Point = tuple[float, float, float]


def _pick(rng: np.random.Generator, colors: tuple[RGB, ...]) -> Finish:
    return Finish(Material.CLOTH, colors[rng.integers(len(colors))])


def _limb(joints: list[Point], finish: Finish) -> Mesh:
    """Two bones of a leg or arm."""
    bone = partial(tube, finish=finish, sides=6)
    upper = bone(joints[:2], radii=(0.085, 0.065))
    return join([upper, bone(joints[1:], radii=(0.065, 0.045))])


def _head(centre: Point, rng: np.random.Generator) -> Mesh:
    skin, hair = _pick(rng, SKINS), _pick(rng, HAIRS)
    x, y, z = centre
    neck = tube([(x, y, z - 0.22), (x, y, z)], (0.06, 0.05), skin)
    crown = ball((x - 0.02, y, z + 0.04), (0.105, 0.095, 0.1), hair)
    return join([neck, ball(centre, (0.1, 0.085, 0.125), skin), crown])


def pedestrian(seed: int, phase: int, walking: bool) -> Mesh:
    """A person in one phase of the gait; the same seed gives the same person."""
    rng = np.random.default_rng([7001, seed])
    shirt, trousers, skin = _pick(rng, SHIRTS), _pick(rng, TROUSERS), _pick(rng, SKINS)
    swing = 0.30 * np.sin(2 * np.pi * (phase + 0.5) / NUM_GAIT_PHASES) if walking else 0.03
    legs = [
        _limb(
            [
                (0, side * 0.1, 0.9),
                (side * swing * 0.6 + 0.04, side * 0.1, 0.48),
                (side * swing, side * 0.1, 0.06),
            ],
            trousers,
        )
        for side in (-1, 1)
    ]
    shoes = [
        box(
            (side * swing + 0.05, side * 0.1, 0.04),
            (0.27, 0.1, 0.08),
            Finish(Material.CLOTH, (0.1,) * 3),
        )
        for side in (-1, 1)
    ]
    arms = [
        _limb(
            [
                (0, side * 0.23, 1.42),
                (-side * swing * 0.3, side * 0.28, 1.14),
                (-side * swing * 0.9, side * 0.25, 0.88),
            ],
            shirt,
        )
        for side in (-1, 1)
    ]
    hands = [
        ball((-side * swing, side * 0.25, 0.84), (0.05,) * 3, skin, detail=0) for side in (-1, 1)
    ]
    torso = ball((0, 0, 1.2), (0.14, 0.22, 0.34), shirt)
    parts = [torso, *legs, *shoes, *arms, *hands, _head((0.02, 0, 1.64), rng)]
    if rng.random() < 0.4:
        parts.append(box((-0.2, 0, 1.25), (0.18, 0.3, 0.42), _pick(rng, SHIRTS)))
    return join(parts, PEDESTRIAN)


def rider(rng: np.random.Generator) -> Mesh:
    """A person on the saddle of a bicycle."""
    shirt, trousers = _pick(rng, SHIRTS), _pick(rng, TROUSERS)
    legs = [
        _limb(
            [
                (-0.25, side * 0.1, 0.98),
                (0.12, side * 0.12, 0.72 + side * 0.08),
                (-0.05, side * 0.12, 0.33 + side * 0.14),
            ],
            trousers,
        )
        for side in (-1, 1)
    ]
    arms = [
        _limb([(0, side * 0.2, 1.45), (0.15, side * 0.26, 1.2), (0.34, side * 0.24, 1.07)], shirt)
        for side in (-1, 1)
    ]
    back = tube([(-0.27, 0, 0.95), (0.04, 0, 1.52)], (0.16, 0.2), shirt, sides=8)
    return join([back, *legs, *arms, _head((0.14, 0, 1.75), rng)])
