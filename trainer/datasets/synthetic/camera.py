# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The cameras: colour image by ray casting with sun, shadows and haze, and the true class map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.datasets.synthetic.materials import SKY, Material
from trainer.datasets.synthetic.mesh import Floats, floats
from trainer.datasets.synthetic.rays import Hits, Scene
from trainer.datasets.synthetic.rig import Camera
from trainer.datasets.synthetic.textures import look, noise_at

SUN_LIGHT = floats([1.0, 0.93, 0.8]) * 1.75
SKY_LIGHT = floats([0.50, 0.58, 0.70])
GROUND_LIGHT = floats([0.22, 0.21, 0.18])
ZENITH = floats([0.22, 0.42, 0.74])
HORIZON = floats([0.74, 0.83, 0.91])
HAZE_DISTANCE = 420.0  # m
SENSOR_NOISE = 0.012


@dataclass(frozen=True)
class Picture:
    """What a camera sees.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        class_map: (H, W) uint8 true class, 255 for the sky.
        instance_map: (H, W) int32 object, -1 for ground and sky.
    """

    image: NDArray[np.uint8]
    class_map: NDArray[np.uint8]
    instance_map: NDArray[np.int32]


def pixel_directions(camera: Camera, shift: float = 0.0) -> Floats:
    """Unit directions (H, W, 3) in the optical frame through pixels, shifted right and down."""
    columns, rows = np.meshgrid(*(np.arange(count) + shift for count in camera.size))
    pixels = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    directions = pixels @ np.linalg.inv(camera.intrinsics).T
    return floats(directions / np.linalg.norm(directions, axis=-1, keepdims=True))


def render_camera(
    scene: Scene, camera: Camera, world_from_camera: NDArray[np.float64], rng: np.random.Generator
) -> Picture:
    """One picture of the scene as it stands, from a pose (4, 4) of the optical frame.

    Colours are a mean of the pixel's centre and its corners, which its neighbours share; classes
    are those of the centre.
    """
    shape = camera.size[::-1]
    centre, hits = _expose(scene, camera, world_from_camera, 0.0)
    corner = _expose(scene, camera, world_from_camera, 0.5)[0].reshape(*shape, 3)
    padded = np.pad(corner, ((1, 0), (1, 0), (0, 0)), mode='edge')
    corners = padded[1:, 1:] + padded[:-1, 1:] + padded[1:, :-1] + padded[:-1, :-1]
    light = 0.4 * centre.reshape(*shape, 3) + 0.15 * corners
    shown = np.clip(light, 0, 1) ** (1 / 2.2) + rng.normal(0, SENSOR_NOISE, (*shape, 3))
    class_map = np.full(centre.shape[0], SKY, np.uint8)
    instance_map = np.full(centre.shape[0], -1, np.int32)
    class_map[hits.rays] = scene.mesh.label[hits.triangle[hits.rays]]
    instance_map[hits.rays] = scene.mesh.instance[hits.triangle[hits.rays]]
    image = np.round(np.clip(shown, 0, 1) * 255).astype(np.uint8)
    return Picture(image, class_map.reshape(shape), instance_map.reshape(shape))


def _expose(
    scene: Scene, camera: Camera, world_from_camera: NDArray[np.float64], shift: float
) -> tuple[Floats, Hits]:
    """Linear light (H * W, 3) through the pixels, and what their rays met."""
    rotation = floats(world_from_camera[:3, :3])
    directions = pixel_directions(camera, shift).reshape(-1, 3) @ rotation.T
    origins = np.tile(floats(world_from_camera[:3, 3]), (len(directions), 1))
    hits = scene.cast(origins, directions)
    light = np.empty_like(directions)
    missed = np.flatnonzero(hits.triangle < 0)
    light[missed] = _sky(directions[missed])
    rays, distance = hits.rays, hits.distance[hits.rays]
    lit = _surface_light(scene, hits, origins, directions)
    haze = np.exp(-distance / HAZE_DISTANCE)[:, None]
    light[rays] = lit * haze + HORIZON**2.2 * (1 - haze)
    return light, hits


def _sky(directions: Floats) -> Floats:
    """Linear colour of the sky, with some clouds."""
    up = np.clip(directions[:, 2:], 0.0, 1.0)
    blue = HORIZON + (ZENITH - HORIZON) * up**0.6
    plane = directions[:, :2] / (up + 0.15) * 1.6
    clouds = noise_at(plane.astype(np.float32), decay=1.9)[:, None] - 0.4
    cover = np.clip(0.6 * clouds, 0, 0.8) * np.clip(up * 8, 0, 1)
    return floats((blue + (0.96 - blue) * cover) ** 2.2)


def _surface_light(scene: Scene, hits: Hits, origins: Floats, directions: Floats) -> Floats:
    """Linear light from the surfaces that were hit, (H, 3)."""
    rays = hits.rays
    triangle, view = hits.triangle[rays], directions[rays]
    normal = scene.normals[triangle]
    normal = np.where((normal * view).sum(axis=1, keepdims=True) > 0, -normal, normal)
    sun = floats(scene.world.sun)
    facing = normal @ sun
    leaf = scene.mesh.material[triangle] == Material.LEAF
    direct = np.where(leaf, 0.45 + 0.4 * np.abs(facing), np.clip(facing, 0, 1))
    lit = np.flatnonzero(direct > 0)
    points = origins[rays[lit]] + view[lit] * hits.distance[rays[lit], None]
    points += (
        0.015 * normal[lit] + np.where(leaf[lit], 0.06, 0.005)[:, None].astype(np.float32) * sun
    )
    direct[lit[scene.in_shadow(points, sun)]] = 0.0
    upward = 0.5 + 0.5 * normal[:, 2:]
    ambient = GROUND_LIGHT + (SKY_LIGHT - GROUND_LIGHT) * upward
    color = look(scene, hits)[0] ** 2.2
    light = color * (ambient + SUN_LIGHT * direct[:, None])
    return _with_reflections(scene.mesh.material[triangle] == Material.GLASS, light, view, normal)


def _with_reflections(
    glass: NDArray[np.bool_], light: Floats, view: Floats, normal: Floats
) -> Floats:
    """Panes mirror the sky, more at a flat angle (Schlick's approximation)."""
    view, normal = view[glass], normal[glass]
    cosine = -(view * normal).sum(axis=1, keepdims=True)
    mirrored = view + 2 * cosine * normal
    share = 0.08 + 0.92 * (1 - np.clip(cosine, 0, 1)) ** 5
    light[glass] += 0.7 * share * _sky(mirrored)
    return light
