# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Ray casting with embree against what stands and what moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import import_extra
from trainer.datasets.synthetic.mesh import Floats, Mesh, floats, join, normals
from trainer.datasets.synthetic.world import World

MOVER_SIGHT = 120.0  # m, movers farther away are left out
VIEW_SLOPE = 1.2  # tangent of half the angle of view of the cameras, and a little more
VIEW_MARGIN = 30.0  # m to the side: a bus that is out of view throws its shadow up to 18 m into it


@dataclass(frozen=True)
class Hits:
    """What R rays met.

    Attributes:
        distance: (R,) float32 along the ray, inf where nothing was met.
        triangle: (R,) int64 row of `Scene.mesh`, -1 where nothing was met.
        weights: (R, 2) float32 barycentric weights of the second and third corner.
    """

    distance: Floats
    triangle: NDArray[np.int64]
    weights: Floats

    @property
    def rays(self) -> NDArray[np.int64]:
        """Rows of the rays that met something."""
        return np.flatnonzero(self.triangle >= 0)


def _embree(triangles: Floats) -> Any:
    scene = import_extra('embreex.rtcore_scene', 'train').EmbreeScene()
    import_extra('embreex.mesh_construction', 'train').TriangleMesh(scene, triangles)
    return scene


class Scene:
    """The world at one time; `set_time` moves the movers, in any order.

    Attributes:
        mesh: what stands, then what moves; its triangles are in world coordinates.
        normals: (T, 3) unit normals of what rays can meet.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._still = _embree(world.still.triangles)
        self._split = len(world.still)
        self.mesh: Mesh = join([world.still, *world.moving(0.0)])
        self.normals = normals(self.mesh.triangles)
        self.set_time(0.0)

    def set_time(self, time: float, world_from_camera: NDArray[np.float64] | None = None) -> None:
        """Bring all movers to where they are at a time in seconds.

        Args:
            time: of the world.
            world_from_camera: (4, 4), where given, rays may only be cast from this optical frame:
                movers out of its view are left out.
        """
        moving = np.concatenate([mover.triangles for mover in self.world.moving(time)])
        centre = self.world.world_from_base(time)[:2, 3]
        away = np.abs(moving[:, 0, :2] - centre).max(axis=1)
        near = np.flatnonzero(away < MOVER_SIGHT)
        if world_from_camera is not None:
            near = near[_in_view(moving[near], world_from_camera)]
        self._moving, self._moving_rows = _embree(moving[near]), self._split + near
        self.mesh.triangles[self._split :] = moving
        self.normals[self._moving_rows] = normals(moving[near])

    def cast(self, origins: Floats, directions: Floats) -> Hits:
        """First hit of rays with origins and unit directions (R, 3) in the world."""
        still = self._still.run(origins, directions, output=1)
        moving = self._moving.run(origins, directions, output=1)
        nearer = moving['tfar'] < still['tfar']
        triangle = np.where(nearer, self._moving_rows[moving['primID']], still['primID'])
        weights = np.stack([np.where(nearer, moving[key], still[key]) for key in 'uv'], axis=1)
        missed = ~nearer & (still['primID'] < 0)
        distance = np.where(missed, np.inf, np.minimum(still['tfar'], moving['tfar']))
        return Hits(distance.astype(np.float32), np.where(missed, -1, triangle), weights)

    def in_shadow(self, origins: Floats, direction: Floats) -> NDArray[np.bool_]:
        """Whether something stands between the points (R, 3) and a far light."""
        directions = np.tile(direction, (len(origins), 1))
        blocked = np.asarray(self._still.run(origins, directions, query='OCCLUDED') == 0)
        rest = np.flatnonzero(~blocked)
        by_movers = self._moving.run(origins[rest], directions[rest], query='OCCLUDED')
        blocked[rest] = by_movers == 0
        return blocked


def _in_view(triangles: Floats, world_from_camera: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which triangles (T, 3, 3) a camera may see, or the shadow of."""
    pose = floats(world_from_camera)
    right, ahead = ((triangles[:, 0] - pose[:3, 3]) @ pose[:3, [0, 2]]).T
    beside = np.abs(right) - VIEW_SLOPE * np.maximum(ahead, 0)
    return np.asarray((beside < VIEW_MARGIN) & (ahead > -VIEW_MARGIN))
