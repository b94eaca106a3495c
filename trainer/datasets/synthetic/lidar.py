# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The spinning lidar: ray casting, range noise, dropouts, intensity.

The whole turn is cast from the pose at the sweep's stamp, with the world standing still: clouds
are free of motion distortion, as from a driver that compensates it. `time` still says when in the
turn the beam pointed there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.datasets.synthetic.materials import Material
from trainer.datasets.synthetic.mesh import Floats, floats
from trainer.datasets.synthetic.rays import Hits, Scene
from trainer.datasets.synthetic.rig import SWEEP_DURATION, Lidar
from trainer.datasets.synthetic.textures import look

RANGE_NOISE = 0.018  # m, standard deviation
LEAF_NOISE = 0.05  # m, more, since a beam is wider than a leaf
MIN_RANGE = 1.0
FAINTEST = 0.002  # received power, relative, at which two of three echoes get lost
PANE_LOSS = 0.65  # share of echoes lost in or behind a window pane


@dataclass(frozen=True)
class LidarSweep:
    """One turn, returns only, in the order of firing.

    Attributes:
        points: (N, 4) float32 x y z intensity (0 to 1), lidar frame.
        times: (N,) float32 s after the stamp.
        rings: (N,) uint16 beam, 0 lowest.
        labels: (N,) uint8 class.
    """

    points: Floats
    times: Floats
    rings: NDArray[np.uint16]
    labels: NDArray[np.uint8]


def beam_directions(lidar: Lidar) -> Floats:
    """Unit directions (azimuths * beams, 3) in the lidar frame; clockwise from the rear."""
    azimuth = np.pi - 2 * np.pi * np.arange(lidar.num_azimuths)[:, None] / lidar.num_azimuths
    elevation = lidar.elevations[None, :]
    flat = np.cos(elevation)
    x, y = flat * np.cos(azimuth), flat * np.sin(azimuth)
    z = np.broadcast_to(np.sin(elevation), x.shape)
    return np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.float32)


def render_lidar(
    scene: Scene, lidar: Lidar, world_from_lidar: NDArray[np.float64], rng: np.random.Generator
) -> LidarSweep:
    """One sweep of the scene as it stands, from a pose (4, 4)."""
    beams = beam_directions(lidar)
    directions = (beams @ world_from_lidar[:3, :3].T).astype(np.float32)
    origins = np.tile(floats(world_from_lidar[:3, 3]), (len(beams), 1))
    hits = scene.cast(origins, directions)
    rays = hits.rays
    triangle, distance = hits.triangle[rays], hits.distance[rays]
    cosine = np.abs((directions[rays] * scene.normals[triangle]).sum(axis=1))
    reflectivity = look(scene, hits)[1]
    kept = _returns(reflectivity, cosine, distance, rng) & (distance < lidar.max_range)
    intensity = _intensity(reflectivity, cosine, rng)[kept]
    ranges = _noisy_range(scene, hits, rng)[kept]
    rays = rays[kept]
    column, ring = np.divmod(rays, len(lidar.elevations))
    return LidarSweep(
        points=np.column_stack([beams[rays] * ranges[:, None], intensity]).astype(np.float32),
        times=floats(column / lidar.num_azimuths * SWEEP_DURATION),
        rings=ring.astype(np.uint16),
        labels=scene.mesh.label[triangle[kept]],
    )


def _returns(
    reflectivity: Floats, cosine: Floats, distance: Floats, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which beams come back: fewer of the dark, the slanting, the far, and of glass."""
    power = reflectivity * (cosine + 0.01) / np.maximum(distance / 30, 0.1) ** 2
    chance = 1 - np.exp(-power / FAINTEST)
    chance *= np.where(reflectivity < 0.075, 1 - PANE_LOSS, 0.995)
    return np.asarray((rng.random(len(chance)) < chance) & (distance > MIN_RANGE))


def _intensity(reflectivity: Floats, cosine: Floats, rng: np.random.Generator) -> Floats:
    """Range-corrected intensity: part of the light comes back whatever the angle."""
    ideal = reflectivity * (0.35 + 0.65 * np.sqrt(cosine))
    noisy = ideal * rng.normal(1, 0.08, len(ideal)) + rng.normal(0, 0.012, len(ideal))
    return np.clip(noisy, 0, 1).astype(np.float32)


def _noisy_range(scene: Scene, hits: Hits, rng: np.random.Generator) -> Floats:
    rays = hits.rays
    leaf = scene.mesh.material[hits.triangle[rays]] == Material.LEAF
    deviation = np.where(leaf, LEAF_NOISE, RANGE_NOISE)
    return (hits.distance[rays] + deviation * rng.normal(size=len(rays))).astype(np.float32)
