# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Triangles with a surface finish, a few primitives, and ways to put them together.

Lengths are metres. Texture coordinates are taken from the shape where it was built, so they stay
with it when it is moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reldistill_ros.core.errors import import_extra
from trainer.datasets.synthetic.materials import SKY, Material

Floats = NDArray[np.float32]
RGB = tuple[float, float, float]


class Finish(NamedTuple):
    """Material and sRGB colour, 0 to 1, of a surface."""

    material: Material
    color: RGB


@dataclass(frozen=True)
class Mesh:
    """A soup of T triangles.

    Attributes:
        triangles: (T, 3, 3) float32 corners.
        uv: (T, 3, 2) float32 texture coordinates of the corners in metres.
        color: (T, 3) float32 sRGB, 0 to 1.
        material: (T,) uint8 of `Material`.
        label: (T,) uint8 class, 255 where not yet given.
        instance: (T,) int32 object the triangle belongs to, -1 where not yet given.
    """

    triangles: Floats
    uv: Floats
    color: Floats
    material: NDArray[np.uint8]
    label: NDArray[np.uint8]
    instance: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.triangles)


def floats(values: ArrayLike) -> Floats:
    """An array of single precision."""
    return np.asarray(values, dtype=np.float32)


def surface(triangles: ArrayLike, finish: Finish) -> Mesh:
    """A mesh of one finish from triangles (T, 3, 3)."""
    corners = np.asarray(triangles, dtype=np.float32)
    count = len(corners)
    return Mesh(
        triangles=corners,
        uv=_project_on_main_plane(corners),
        color=np.tile(floats(finish.color), (count, 1)),
        material=np.full(count, finish.material, np.uint8),
        label=np.full(count, SKY, np.uint8),
        instance=np.full(count, -1, np.int32),
    )


def normals(triangles: Floats) -> Floats:
    """Unit normals (T, 3); zero for a triangle without area."""
    cross = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    length = np.linalg.norm(cross, axis=1, keepdims=True)
    return floats(cross / np.maximum(length, 1e-12))


def _project_on_main_plane(triangles: Floats) -> Floats:
    """Texture coordinates by dropping the axis that the normal is closest to; v is up."""
    axis = np.abs(normals(triangles)).argmax(axis=1)
    kept = np.array([[1, 2], [0, 2], [0, 1]])[axis]
    return np.take_along_axis(triangles, kept[:, None, :], axis=2)


def join(parts: Sequence[Mesh], label: int | None = None) -> Mesh:
    """One mesh of several; `label` is given to all triangles, None leaves theirs."""
    joined = Mesh(
        triangles=np.concatenate([part.triangles for part in parts]),
        uv=np.concatenate([part.uv for part in parts]),
        color=np.concatenate([part.color for part in parts]),
        material=np.concatenate([part.material for part in parts]),
        label=np.concatenate([part.label for part in parts]),
        instance=np.concatenate([part.instance for part in parts]),
    )
    return joined if label is None else replace(joined, label=np.full_like(joined.label, label))


def moved(mesh: Mesh, offset: ArrayLike, yaw: float = 0.0, scale: float = 1.0) -> Mesh:
    """The mesh scaled, turned around z by `yaw` radians, then shifted."""
    cos, sin = np.cos(yaw) * scale, np.sin(yaw) * scale
    rotation = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, scale]], dtype=np.float32)
    return replace(mesh, triangles=mesh.triangles @ rotation + floats(offset))


def transformed(mesh: Mesh, matrix: NDArray[np.float64]) -> Mesh:
    """The mesh under a rigid transform (4, 4)."""
    turned = mesh.triangles @ floats(matrix[:3, :3].T)
    return replace(mesh, triangles=turned + floats(matrix[:3, 3]))


def fan(outline: ArrayLike) -> Floats:
    """Triangles of a polygon (P, 3) that can be seen whole from its centre."""
    ring = np.asarray(outline, dtype=np.float32)
    centre = np.broadcast_to(ring.mean(axis=0), ring.shape)
    return np.stack([centre, ring, np.roll(ring, -1, axis=0)], axis=1)


def loft(bottom: ArrayLike, top: ArrayLike) -> Floats:
    """Side triangles between two rings of the same number of corners, (P, 3) each."""
    low, high = np.asarray(bottom, np.float32), np.asarray(top, np.float32)
    next_low, next_high = np.roll(low, -1, axis=0), np.roll(high, -1, axis=0)
    one = np.stack([low, next_low, next_high], axis=1)
    return np.concatenate([one, np.stack([low, next_high, high], axis=1)])


def solid(bottom: ArrayLike, top: ArrayLike, finish: Finish) -> Mesh:
    """A closed body between two polygons of the same number of corners."""
    return surface(np.concatenate([loft(bottom, top), fan(bottom), fan(top)]), finish)


def rectangle(x: tuple[float, float], y: tuple[float, float], z: float) -> Floats:
    """Corners (4, 3) of a level rectangle."""
    return floats([[x[0], y[0], z], [x[1], y[0], z], [x[1], y[1], z], [x[0], y[1], z]])


def box(centre: Sequence[float], size: Sequence[float], finish: Finish) -> Mesh:
    """An upright cuboid."""
    (x, y, z), (dx, dy, dz) = centre, np.asarray(size, float) / 2
    spans = (x - dx, x + dx), (y - dy, y + dy)
    return solid(rectangle(*spans, z - dz), rectangle(*spans, z + dz), finish)


def prism(profile: Sequence[tuple[float, float]], half_width: float, finish: Finish) -> Mesh:
    """A side view (x, z) drawn out to both sides along y."""
    x, z = np.asarray(profile, dtype=np.float32).T
    y = np.full_like(x, half_width)
    return solid(np.stack([x, -y, z], axis=1), np.stack([x, y, z], axis=1), finish)


def tube(ends: ArrayLike, radii: tuple[float, float], finish: Finish, sides: int = 6) -> Mesh:
    """A straight round bar or truncated cone between two points, `ends` (2, 3)."""
    start, end = np.asarray(ends, dtype=np.float64)
    axis = (end - start) / np.linalg.norm(end - start)
    helper = np.eye(3)[np.abs(axis).argmin()]
    across = np.cross(axis, helper)
    across /= np.linalg.norm(across)
    angle = np.arange(sides) * 2 * np.pi / sides
    ring = np.outer(np.cos(angle), across) + np.outer(np.sin(angle), np.cross(axis, across))
    return solid(start + radii[0] * ring, end + radii[1] * ring, finish)


def ball(centre: ArrayLike, radii: ArrayLike, finish: Finish, detail: int = 1) -> Mesh:
    """An ellipsoid of 20 * 4 ** detail triangles."""
    creation = import_extra('trimesh.creation', 'train')
    sphere = creation.icosphere(subdivisions=detail)
    return surface(sphere.triangles * np.asarray(radii) + np.asarray(centre), finish)
