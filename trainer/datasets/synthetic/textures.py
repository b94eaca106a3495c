# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Procedural textures: colour and infrared reflectivity of a surface at a point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from trainer.datasets.synthetic.buildings import FLOOR_HEIGHT
from trainer.datasets.synthetic.materials import Material, reflectivity_table
from trainer.datasets.synthetic.mesh import Floats, floats
from trainer.datasets.synthetic.rays import Hits, Scene
from trainer.datasets.synthetic.street import CORNER, Layout

NOISE_SIZE = 512
NOISE_DENSITY = 24.0  # cells per metre
Mask = NDArray[np.bool_]


@dataclass
class Patch:
    """Points of one material, painted in place.

    Attributes:
        uv: (N, 2) texture coordinates in metres.
        color: (N, 3) sRGB.
        reflectivity: (N,) at 905 nm.
        noise: (N,) smooth noise of mean 0 and deviation 1.
        detail: (N,) 1 near the sensor, 0 far away where fine patterns cannot be seen.
        layout: of the town.
    """

    uv: Floats
    color: Floats
    reflectivity: Floats
    noise: Floats
    detail: Floats
    layout: Layout

    def shade(self, factor: NDArray[np.floating]) -> None:
        """Darken or lighten."""
        self.color *= factor[:, None]

    def paint(self, where: Mask, color: tuple[float, float, float], reflectivity: float) -> None:
        """Give the points of a mask another finish."""
        self.color[where] = color
        self.reflectivity[where] = reflectivity


@cache
def _noise_tile(decay: float) -> Floats:
    """Noise that tiles, (S, S), mean 0 and deviation 1; the larger the decay the smoother."""
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(NOISE_SIZE)] * 2))
    spectrum = np.fft.fft2(np.random.default_rng(0).normal(size=(NOISE_SIZE, NOISE_SIZE)))
    tile = np.fft.ifft2(spectrum / np.maximum(frequency, 2 / NOISE_SIZE) ** decay).real
    return floats((tile - tile.mean()) / tile.std())


def noise_at(uv: Floats, decay: float = 0.9) -> Floats:
    """Noise of mean 0 and deviation 1 at texture coordinates (N, 2), nearest cell."""
    cell = np.floor(uv * NOISE_DENSITY).astype(np.int64) % NOISE_SIZE
    return np.asarray(_noise_tile(decay)[cell[:, 1], cell[:, 0]])


def look(scene: Scene, hits: Hits) -> tuple[Floats, Floats]:
    """Colour (H, 3) in sRGB and reflectivity (H,) of the rays that hit."""
    rays = hits.rays
    triangle, weights = hits.triangle[rays], hits.weights[rays]
    mesh = scene.mesh
    corners = mesh.uv[triangle]
    uv = corners[:, 0] + np.einsum('nk,nkc->nc', weights, corners[:, 1:] - corners[:, :1])
    color, material = mesh.color[triangle], mesh.material[triangle]
    luminance = color.mean(axis=1)
    reflectivity = reflectivity_table()[material] * (0.7 + 0.6 * luminance)
    detail = np.clip(1.25 - hits.distance[rays] / 32, 0, 1).astype(np.float32)
    noise = noise_at(uv)
    for kind in np.unique(material):
        at = np.flatnonzero(material == kind)
        patch = Patch(
            uv[at], color[at], reflectivity[at], noise[at], detail[at], scene.world.layout
        )
        PATTERNS[Material(kind)](patch)
        color[at], reflectivity[at] = patch.color, patch.reflectivity
    return np.clip(color, 0, 1), np.clip(reflectivity, 0, 1)


def _plain(patch: Patch) -> None:
    patch.shade(1 + 0.03 * patch.noise)


def _rough(patch: Patch) -> None:
    patch.shade(1 + 0.12 * patch.noise)
    patch.reflectivity *= 1 + 0.1 * patch.noise


def _asphalt(patch: Patch) -> None:
    patch.shade(1 + 0.10 * patch.noise)
    patch.reflectivity *= 1 + 0.15 * patch.noise
    worn = patch.noise > -1.6
    patch.paint(_markings(patch.uv, patch.layout) & worn, (0.86, 0.86, 0.83), 0.55)


def _markings(uv: Floats, layout: Layout) -> Mask:
    """Lane, parking and zebra markings at street coordinates (N, 2)."""
    s, d = uv[:, 0] % layout.block_length, np.abs(uv[:, 1])
    inner, end = layout.side_street_width, layout.block_length
    on_street = (s > inner) & (d < layout.kerb)
    clear = (s > inner + CORNER + 1) & (s < end - CORNER - 1) & on_street
    dashes = (d < 0.07) & (s % 6.0 < 3.0)
    edge = np.abs(d - layout.lane_width) < 0.06
    bays = (d > layout.lane_width) & (s % 5.7 < 0.1)
    zebra = (np.minimum(s - inner, end - s) < CORNER) & (uv[:, 1] % 1.0 < 0.5) & on_street
    side_line = (np.abs(s - inner / 2) < 0.07) & (d > layout.kerb + 2) & (d % 4.0 < 2.0)
    return np.asarray((clear & (dashes | edge | bays)) | zebra | side_line)


def _paving(patch: Patch) -> None:
    joint = (np.mod(patch.uv, 0.6) < 0.03).any(axis=1)
    tile = np.floor(patch.uv / 0.6).astype(np.int64)
    tone = ((tile[:, 0] * 7 + tile[:, 1] * 13) % 5 - 2) * 0.025
    patch.shade(1 + 0.06 * patch.noise + tone * patch.detail - 0.3 * joint * patch.detail)
    patch.reflectivity *= 1 + 0.1 * patch.noise


def _grass(patch: Patch) -> None:
    blades = noise_at(patch.uv * 3.1) * patch.detail
    patch.shade(1 + 0.13 * patch.noise + 0.13 * blades)
    patch.color[:, 0] *= 1 + 0.08 * patch.noise
    patch.reflectivity *= 1 + 0.12 * patch.noise


def _bricks(patch: Patch) -> None:
    row = np.floor(patch.uv[:, 1] / 0.12)
    along = patch.uv[:, 0] + 0.14 * (row % 2)
    mortar = (patch.uv[:, 1] % 0.12 < 0.02) | (along % 0.28 < 0.02)
    tone = ((np.floor(along / 0.28) * 5 + row * 3) % 7 - 3) * 0.03
    patch.shade(1 + 0.06 * patch.noise + (tone + 0.25 * mortar) * patch.detail)


def _windows(patch: Patch) -> None:
    """Windows with frames and sills on every floor, at random lit, curtained or dark."""
    u, v = patch.uv[:, 0] % 2.8, patch.uv[:, 1] % FLOOR_HEIGHT
    above_ground = patch.uv[:, 1] > 0
    frame = (np.abs(u - 1.4) < 0.68) & (v > 0.92) & (v < 2.48) & above_ground
    bars = (np.abs(u - 1.4) < 0.03) | (np.abs(v - 2.0) < 0.03)
    pane = (np.abs(u - 1.4) < 0.6) & (v > 1.0) & (v < 2.4) & above_ground & ~bars
    number = np.floor(patch.uv / [2.8, FLOOR_HEIGHT]) @ np.array([3, 5]) % 7
    patch.paint(frame, (0.85, 0.84, 0.8), 0.45)
    patch.paint(pane, (0.16, 0.2, 0.25), 0.04)
    patch.paint(pane & (number == 2), (0.45, 0.42, 0.36), 0.06)
    patch.color[pane] += 0.10 * ((v[pane, None] - 1.0) / 1.4) * floats([0.8, 0.95, 1.1])


def _brick_wall(patch: Patch) -> None:
    _bricks(patch)
    _windows(patch)


def _plaster(patch: Patch) -> None:
    plinth = patch.uv[:, 1] < 0.6
    patch.shade(1 + 0.035 * patch.noise - 0.3 * plinth)
    _windows(patch)


def _curtain_wall(patch: Patch) -> None:
    u, v = patch.uv[:, 0] % 1.4, patch.uv[:, 1] % FLOOR_HEIGHT
    pane = (u > 0.08) & (v > 0.7)
    patch.shade(1 + 0.03 * patch.noise)
    patch.paint(pane, (0.2, 0.29, 0.35), 0.04)
    patch.color[pane] += 0.12 * ((v[pane, None] - 0.7) / 2.4) * floats([0.7, 0.95, 1.15])


def _roof(patch: Patch) -> None:
    rows = patch.uv[:, 1] % 0.35 < 0.06
    patch.shade(1 + 0.08 * patch.noise - 0.3 * rows * patch.detail)


def _wood(patch: Patch) -> None:
    patch.shade(1 + 0.12 * noise_at(patch.uv * floats([4, 0.5])))


def _stone(patch: Patch) -> None:
    row = np.floor(patch.uv[:, 1] / 0.3)
    joint = (patch.uv[:, 1] % 0.3 < 0.03) | ((patch.uv[:, 0] + 0.31 * (row % 2)) % 0.7 < 0.03)
    patch.shade(1 + 0.10 * patch.noise - 0.25 * joint * patch.detail)
    patch.reflectivity *= 1 + 0.1 * patch.noise


def _leaf(patch: Patch) -> None:
    patch.shade(1 + 0.16 * patch.noise)
    patch.reflectivity *= 1 + 0.2 * patch.noise


def _sign_face(patch: Patch) -> None:
    """A red border on white round signs, a white symbol on coloured ones."""
    radius = np.hypot(patch.uv[:, 0], patch.uv[:, 1])
    white = patch.color.min(axis=1) > 0.7
    patch.paint(white & (radius > 0.3) & (radius < 0.5), (0.72, 0.06, 0.06), 0.7)
    symbol = (np.abs(patch.uv[:, 0]) < 0.045) & (np.abs(patch.uv[:, 1]) < 0.2)
    patch.paint(white & symbol, (0.08, 0.08, 0.08), 0.3)
    patch.paint(~white & ((symbol) | (np.abs(radius - 0.36) < 0.02)), (0.95, 0.95, 0.95), 0.95)


def _cone_body(patch: Patch) -> None:
    height = patch.uv[:, 1]
    band = ((height > 0.28) & (height < 0.4)) | ((height > 0.5) & (height < 0.6))
    patch.paint(band, (0.94, 0.94, 0.92), 0.95)


PATTERNS: dict[Material, Callable[[Patch], None]] = {
    Material.ASPHALT: _asphalt,
    Material.PAVING: _paving,
    Material.GRASS: _grass,
    Material.BRICK: _brick_wall,
    Material.PLASTER: _plaster,
    Material.CURTAIN_WALL: _curtain_wall,
    Material.ROOF: _roof,
    Material.WOOD: _wood,
    Material.METAL: _plain,
    Material.STONE: _stone,
    Material.LEAF: _leaf,
    Material.BARK: _rough,
    Material.PAINT: _plain,
    Material.GLASS: _plain,
    Material.RUBBER: _rough,
    Material.CLOTH: _plain,
    Material.SIGN_FACE: _sign_face,
    Material.CONE_BODY: _cone_body,
}
