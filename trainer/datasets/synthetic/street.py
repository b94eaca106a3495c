# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Layouts of towns, and the line the street follows.

Everything is first placed in street coordinates: s along the centre line, d to the left of it,
z up from the road, in metres. The ground is then bent along curves and hills, objects are placed
on it without bending.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainer.datasets.synthetic.mesh import Mesh, transformed

KERB_HEIGHT = 0.13
TERRAIN_HEIGHT = 0.15
CORNER = 2.6  # sidewalk along a side street, also the width of a zebra crossing
START = -240.0  # where the tabulated centre line begins


@dataclass(frozen=True)
class Layout:
    """What kind of street it is; lengths in metres.

    Attributes:
        verge_width: strip of grass with trees between kerb and sidewalk, 0 for none.
        yard: shortest and longest distance from the sidewalk to a house.
        bend: largest curvature in 1/m.
        bend_length: distance after which the curve repeats.
        hill: amplitude of the ups and downs.
        building_share: probability that a lot carries a building.
        floors: fewest and most floors.
        tree_gap: distance between trees of the verge.
    """

    lane_width: float
    parking_width: float
    verge_width: float
    sidewalk_width: float
    yard: tuple[float, float]
    block_length: float
    side_street_width: float
    bend: float
    bend_length: float
    hill: float
    building_share: float
    floors: tuple[int, int]
    tree_gap: float

    @property
    def kerb(self) -> float:
        """Distance of the kerb from the centre line."""
        return self.lane_width + self.parking_width

    @property
    def sidewalk_end(self) -> float:
        """Distance of the outer edge of the sidewalk from the centre line."""
        return self.kerb + self.verge_width + self.sidewalk_width


LAYOUTS = {
    'train': Layout(
        lane_width=3.5,
        parking_width=2.4,
        verge_width=1.8,
        sidewalk_width=2.6,
        yard=(2.0, 7.0),
        block_length=62.0,
        side_street_width=8.0,
        bend=1 / 260,
        bend_length=380.0,
        hill=0.8,
        building_share=0.82,
        floors=(1, 5),
        tree_gap=10.0,
    ),
    'heldout': Layout(
        lane_width=3.1,
        parking_width=2.2,
        verge_width=0.0,
        sidewalk_width=3.2,
        yard=(1.2, 9.0),
        block_length=54.0,
        side_street_width=6.5,
        bend=1 / 150,
        bend_length=270.0,
        hill=1.2,
        building_share=0.66,
        floors=(2, 6),
        tree_gap=13.0,
    ),
}


class Street:
    """The centre line of one town's main street.

    Args:
        layout: dimensions.
        seed: turns and hills of this town.
        end: largest s that will be asked for.
    """

    def __init__(self, layout: Layout, seed: int, end: float) -> None:
        rng = np.random.default_rng([seed, 11])
        phase, hill_phase = rng.uniform(0, 2 * np.pi, 2)
        self.layout = layout
        self._s = np.arange(START, end + 240.0, 0.5)
        wave = 2 * np.pi / layout.bend_length
        self._heading = layout.bend / wave * np.sin(wave * self._s + phase)
        steps = 0.5 * np.stack([np.cos(self._heading), np.sin(self._heading)])
        self._xy = np.cumsum(steps, axis=1)
        self._z = layout.hill * np.sin(2 * np.pi * self._s / 170.0 + hill_phase)
        self._slope = np.gradient(self._z, self._s)

    def to_world(self, points: ArrayLike) -> NDArray[np.float64]:
        """Street coordinates (..., 3) to world coordinates (..., 3)."""
        s, d, z = np.moveaxis(np.asarray(points, dtype=np.float64), -1, 0)
        heading = np.interp(s, self._s, self._heading)
        x = np.interp(s, self._s, self._xy[0]) - d * np.sin(heading)
        y = np.interp(s, self._s, self._xy[1]) + d * np.cos(heading)
        return np.stack([x, y, z + np.interp(s, self._s, self._z)], axis=-1)

    def pose(self, s: float, d: float) -> NDArray[np.float64]:
        """World from vehicle, (4, 4): on the road at (s, d), x along the street, y left."""
        heading, slope = (
            float(np.interp(s, self._s, row)) for row in (self._heading, self._slope)
        )
        cos, sin, steepness = np.cos(heading), np.sin(heading), np.hypot(1.0, slope)
        matrix = np.eye(4)
        matrix[:3, 0] = np.array([cos, sin, slope]) / steepness
        matrix[:3, 1] = [-sin, cos, 0.0]
        matrix[:3, 2] = np.array([-slope * cos, -slope * sin, 1.0]) / steepness
        matrix[:3, 3] = self.to_world((s, d, 0.0))
        return matrix

    def placed(
        self, mesh: Mesh, at: tuple[float, float, float], yaw: float, upright: bool = True
    ) -> Mesh:
        """An object put at s, d, z and turned left by `yaw` from the street's direction.

        Args:
            mesh: in its own frame.
            at: where its origin goes, in street coordinates.
            yaw: in radians.
            upright: keep its z axis vertical rather than normal to the road.
        """
        pose = self.pose(at[0], at[1])
        if upright:
            heading = np.arctan2(pose[1, 0], pose[0, 0])
            pose[:3, :3] = turn(heading)
        pose[:3, 3] += at[2] * pose[:3, 2]
        pose[:3, :3] = pose[:3, :3] @ turn(yaw)
        return transformed(mesh, pose)

    def bent(self, mesh: Mesh) -> Mesh:
        """A mesh in street coordinates, brought to the world."""
        return replace(mesh, triangles=self.to_world(mesh.triangles).astype(np.float32))


def turn(yaw: float) -> NDArray[np.float64]:
    """Rotation (3, 3) around z."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
