# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Poles, signs, cones, fences and walls.

Local frame: z up from the ground; signs face along +x; fences and walls run along +x from 0.
"""

from __future__ import annotations

import numpy as np

from trainer.datasets.synthetic.materials import CONE, FENCE, POLE, SIGN, WALL, Material
from trainer.datasets.synthetic.mesh import RGB, Finish, Mesh, box, join, moved, prism, tube

STEEL = Finish(Material.METAL, (0.5, 0.52, 0.54))
GREEN_STEEL = Finish(Material.METAL, (0.15, 0.24, 0.2))
BACK = Finish(Material.METAL, (0.42, 0.43, 0.45))
TIMBER = Finish(Material.WOOD, (0.36, 0.27, 0.19))


def street_lamp(rng: np.random.Generator) -> Mesh:
    """A lamp post whose arm reaches along +y."""
    finish = STEEL if rng.random() < 0.5 else GREEN_STEEL
    height = float(rng.uniform(6.0, 7.5))
    post = tube([(0, 0, -0.2), (0, 0, height)], (0.10, 0.06), finish, sides=8)
    foot = tube([(0, 0, -0.2), (0, 0, 0.9)], (0.16, 0.14), finish, sides=8)
    arm = tube([(0, 0, height - 0.1), (0, 1.6, height + 0.25)], (0.05, 0.04), finish)
    head = box(
        (0, 1.8, height + 0.24), (0.26, 0.7, 0.12), Finish(Material.METAL, (0.75, 0.75, 0.72))
    )
    return join([post, foot, arm, head], POLE)


def utility_pole() -> Mesh:
    """A timber pole with a cross-arm."""
    post = tube([(0, 0, -0.2), (0, 0, 8.0)], (0.16, 0.11), TIMBER, sides=8)
    arm = box((0, 0, 7.4), (0.12, 2.0, 0.12), TIMBER)
    pins = [tube([(0, y, 7.4), (0, y, 7.65)], (0.05, 0.04), STEEL) for y in (-0.9, -0.4, 0.4, 0.9)]
    return join([post, arm, *pins], POLE)


def bollard() -> Mesh:
    """A short post that keeps cars off the sidewalk."""
    post = tube([(0, 0, -0.1), (0, 0, 1.0)], (0.08, 0.08), GREEN_STEEL, sides=8)
    band = tube(
        [(0, 0, 0.8), (0, 0, 0.9)],
        (0.085, 0.085),
        Finish(Material.PAINT, (0.9, 0.9, 0.9)),
        sides=8,
    )
    return join([post, band], POLE)


def _disc(color: RGB, sides: int) -> Mesh:
    turn = np.pi / sides if sides == 8 else np.pi / 2
    angle = turn + np.arange(sides) * 2 * np.pi / sides
    outline = [(0.4 * float(np.cos(a)), 0.4 * float(np.sin(a))) for a in angle]
    front = moved(
        prism(outline, 0.015, Finish(Material.SIGN_FACE, color)), (0.015, 0, 0), np.pi / 2
    )
    return join([front, moved(prism(outline, 0.012, BACK), (-0.015, 0, 0), np.pi / 2)])


def _plate(width: float, height: float, color: RGB) -> Mesh:
    front = box((0.012, 0, 0), (0.02, width, height), Finish(Material.SIGN_FACE, color))
    return join([front, box((-0.012, 0, 0), (0.02, width, height), BACK)])


def sign_face(rng: np.random.Generator) -> Mesh:
    """A round, octagonal, triangular or square plate centred on the origin."""
    white, red, blue = (0.95, 0.95, 0.93), (0.72, 0.06, 0.06), (0.05, 0.22, 0.6)
    faces = [(white, 16), (red, 8), (white, 3), (blue, 16)]
    choice = int(rng.integers(len(faces) + 1))
    if choice == len(faces):
        return _plate(0.7, 0.7, blue)
    return _disc(*faces[choice])


def traffic_sign(rng: np.random.Generator) -> Mesh:
    """One or two plates on a thin pole."""
    height = float(rng.uniform(2.3, 2.9))
    pole = tube([(-0.06, 0, -0.2), (-0.06, 0, height + 0.4)], (0.04, 0.04), STEEL, sides=6)
    plates = [moved(sign_face(rng), (0, 0, height), scale=float(rng.uniform(0.9, 1.2)))]
    if rng.random() < 0.4:
        plates.append(moved(_plate(0.75, 0.4, (0.95, 0.95, 0.93)), (0, 0, height - 0.72)))
    return join([join([pole], POLE), join(plates, SIGN)])


def direction_board(rng: np.random.Generator) -> Mesh:
    """A wide board on two poles."""
    color = [(0.05, 0.22, 0.6), (0.05, 0.4, 0.2), (0.9, 0.75, 0.1)][rng.integers(3)]
    poles = [tube([(-0.08, y, -0.2), (-0.08, y, 3.1)], (0.05, 0.05), STEEL) for y in (-0.7, 0.7)]
    board = moved(_plate(2.2, 1.2, color), (0, 0, 2.6))
    return join([join(poles, POLE), join([board], SIGN)])


def traffic_cone() -> Mesh:
    """A cone of 0.75 m."""
    orange = (0.95, 0.32, 0.05)
    body = tube(
        [(0, 0, 0.04), (0, 0, 0.75)], (0.17, 0.03), Finish(Material.CONE_BODY, orange), sides=10
    )
    foot = box((0, 0, 0.025), (0.42, 0.42, 0.05), Finish(Material.RUBBER, (0.12, 0.1, 0.1)))
    return join([body, foot], CONE)


def picket_fence(length: float, rng: np.random.Generator) -> Mesh:
    """Wooden pickets on two rails, see-through in part."""
    color = [(0.88, 0.87, 0.84), (0.5, 0.36, 0.24), (0.4, 0.3, 0.24)][rng.integers(3)]
    finish, height = Finish(Material.WOOD, color), float(rng.uniform(1.0, 1.5))
    rails = [
        box((length / 2, 0.03, z * height), (length, 0.04, 0.09), finish) for z in (0.25, 0.8)
    ]
    pickets = [
        box((x, 0, height / 2), (0.09, 0.025, height), finish)
        for x in np.arange(0.08, length, 0.16)
    ]
    return join([*rails, *pickets], FENCE)


def bar_fence(length: float, rng: np.random.Generator) -> Mesh:
    """Steel bars between posts."""
    height = float(rng.uniform(1.2, 1.9))
    dark = Finish(Material.METAL, [(0.12, 0.14, 0.14), (0.12, 0.28, 0.2)][rng.integers(2)])
    posts = [
        box((x, 0, height / 2), (0.08, 0.08, height), dark) for x in np.arange(0, length, 2.4)
    ]
    rails = [box((length / 2, 0, z * height), (length, 0.04, 0.05), dark) for z in (0.12, 0.9)]
    bars = [
        box((x, 0, height / 2), (0.025, 0.025, height), dark) for x in np.arange(0.1, length, 0.14)
    ]
    return join([*posts, *rails, *bars], FENCE)


def garden_wall(length: float, rng: np.random.Generator) -> Mesh:
    """A low wall of stone, brick or plaster with a coping."""
    material = [Material.STONE, Material.BRICK, Material.STONE][rng.integers(3)]
    color = [(0.55, 0.52, 0.47), (0.5, 0.27, 0.2), (0.66, 0.63, 0.56)][rng.integers(3)]
    height = float(rng.uniform(1.1, 2.1))
    body = box(
        (length / 2, 0, height / 2 - 0.3), (length, 0.26, height + 0.6), Finish(material, color)
    )
    coping = box(
        (length / 2, 0, height + 0.04),
        (length, 0.36, 0.09),
        Finish(Material.STONE, (0.6, 0.59, 0.56)),
    )
    return join([body, coping], WALL)
