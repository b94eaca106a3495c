# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Trees, bushes and hedges: crowns are many small leaf triangles, so some rays pass through."""

from __future__ import annotations

import numpy as np

from trainer.datasets.synthetic.materials import BUSH, TREE, Material
from trainer.datasets.synthetic.mesh import (
    RGB,
    Finish,
    Floats,
    Mesh,
    ball,
    floats,
    join,
    surface,
    tube,
)

GREENS: tuple[RGB, ...] = (
    (0.22, 0.40, 0.14),
    (0.30, 0.46, 0.16),
    (0.18, 0.33, 0.15),
    (0.40, 0.46, 0.18),
)
BARK = Finish(Material.BARK, (0.33, 0.26, 0.2))


def _leaves(centres: Floats, size: float, rng: np.random.Generator) -> Floats:
    """One randomly turned triangle at each centre (L, 3)."""
    corners = rng.normal(size=(len(centres), 3, 3))
    corners -= corners.mean(axis=1, keepdims=True)
    corners *= size / np.linalg.norm(corners, axis=2, keepdims=True).max(axis=1, keepdims=True)
    return (centres[:, None, :] + corners).astype(np.float32)


def _on_shell(count: int, rng: np.random.Generator) -> Floats:
    """Points (count, 3) in the outer part of the unit ball."""
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return (directions * rng.uniform(0.72, 1.08, (count, 1))).astype(np.float32)


def foliage(centre: Floats, radii: Floats, green: RGB, rng: np.random.Generator) -> Mesh:
    """A clump: a dark core and leaves around it; the larger the clump the more leaves."""
    count = int(70 * np.prod(radii) ** (2 / 3)) + 40
    centres = centre + radii * _on_shell(count, rng)
    leaves = surface(_leaves(centres, 0.27, rng), Finish(Material.LEAF, green))
    shade = rng.uniform(0.75, 1.25, (count, 1)) * np.linspace(0.97, 1.03, count)[:, None]
    leaves.color[:] *= shade.astype(np.float32)
    core = ball(
        centre, radii * 0.72, Finish(Material.LEAF, tuple(0.55 * np.array(green))), detail=1
    )
    core.triangles[:] += rng.normal(0, 0.05, (len(core), 1, 3)).astype(np.float32)
    return join([leaves, core])


def tree(rng: np.random.Generator, height: float) -> Mesh:
    """A broad-leaved tree of about the given height."""
    green, trunk_top = GREENS[rng.integers(len(GREENS))], height * float(rng.uniform(0.36, 0.46))
    radius = 0.022 * height + 0.03
    fork = floats([*rng.normal(0, 0.12, 2), trunk_top])
    parts = [tube([(0, 0, -0.3), tuple(fork)], (radius * 1.25, radius), BARK, sides=8)]
    spread = height * 0.2
    for index in range(int(rng.integers(5, 8))):
        angle = index * 2.4 + rng.uniform(-0.4, 0.4)
        reach = spread * (0.15 if index == 0 else rng.uniform(0.6, 1.0))
        lift = height * (0.84 if index == 0 else rng.uniform(0.52, 0.78))
        centre = floats([reach * np.cos(angle), reach * np.sin(angle), lift])
        parts.append(tube([fork, centre], (radius * 0.55, 0.03), BARK, sides=5))
        radii = floats(height * np.array([0.17, 0.17, 0.15]) * rng.uniform(0.85, 1.2))
        parts.append(foliage(centre, radii, green, rng))
    return join(parts, TREE)


def conifer(rng: np.random.Generator, height: float) -> Mesh:
    """A conifer: whorls of foliage that narrow upwards."""
    trunk = tube([(0, 0, -0.3), (0, 0, height * 0.9)], (0.02 * height + 0.03, 0.03), BARK, sides=7)
    parts = [trunk]
    for level in np.linspace(0.2, 0.95, 6):
        radius = height * 0.2 * (1.08 - level)
        radii = floats([radius, radius, height * 0.09])
        parts.append(foliage(floats([0, 0, level * height]), radii, (0.13, 0.29, 0.17), rng))
    return join(parts, TREE)


def bush(rng: np.random.Generator) -> Mesh:
    """A round shrub of 1 to 2 m across, sometimes in flower."""
    green, size = GREENS[rng.integers(len(GREENS))], float(rng.uniform(0.5, 0.95))
    parts = [
        foliage(
            floats([*rng.normal(0, 0.35 * size, 2), size * rng.uniform(0.5, 0.75)]),
            floats(size * rng.uniform([0.7, 0.7, 0.6], [1.0, 1.0, 0.85])),
            green,
            rng,
        )
        for _ in range(3)
    ]
    mesh = join(parts, BUSH)
    if rng.random() < 0.3:
        flowers = rng.choice(len(mesh), len(mesh) // 9, replace=False)
        mesh.color[flowers] = [(0.85, 0.4, 0.5), (0.9, 0.8, 0.3), (0.8, 0.8, 0.85)][
            rng.integers(3)
        ]
    return mesh


def hedge(length: float, rng: np.random.Generator) -> Mesh:
    """A clipped row of bushes along +x from 0."""
    green, height = GREENS[rng.integers(len(GREENS))], float(rng.uniform(0.9, 1.6))
    parts = [
        foliage(floats([x, 0, height / 2]), floats([0.6, 0.45, height / 2]), green, rng)
        for x in np.arange(0.5, length, 0.8)
    ]
    return join(parts, BUSH)
