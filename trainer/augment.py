# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Augmentations of a sweep and of its images that keep the point-pixel pairs right."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from reldistill_ros.core.settings import Settings
from trainer.datasets.sample import CameraImage


class AugmentSettings(Settings):
    """What is varied from one epoch to the next.

    Attributes:
        rotate: the sweep is turned about the vertical by up to so many degrees either way. 180
            serves any mounting; small angles teach faster where the lidar always faces forward.
        flip: axes along which the sweep is mirrored, each half of the time.
        scale: sizes are multiplied by 1 - scale to 1 + scale.
        drop_cuboid: share of sweeps from which one random cuboid is cut out.
        crop: smallest side of an image crop over the image's side; 1 for no crop.
        flip_image: mirror the images left to right half of the time.
    """

    rotate: float = Field(default=180.0, ge=0, le=180)
    flip: tuple[Literal['x', 'y'], ...] = ('x', 'y')
    scale: float = Field(default=0.05, ge=0, lt=1)
    drop_cuboid: float = Field(default=0.5, ge=0, le=1)
    crop: float = Field(default=0.6, gt=0, le=1)
    flip_image: bool = True


NO_AUGMENTATION = AugmentSettings(
    rotate=0, flip=(), scale=0, drop_cuboid=0, crop=1, flip_image=False
)

CUBOID_SIDE = 0.2  # of the sweep's extent, as in DepthContrast (Zhang et al., ICCV 2021)


def augment_points(
    points: NDArray[np.float32], settings: AugmentSettings, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vary a sweep.

    Args:
        points: (N, 4), x y z intensity.
        settings: what to vary.
        rng: source of chance; the same state gives the same result.

    Returns:
        Points (N, 4) in the same order, and which of them remain (N,).
    """
    moved = points.copy()
    moved[:, :3] = points[:, :3] @ _random_linear_map(settings, rng).T
    kept = np.ones(len(points), dtype=bool)
    finite = np.isfinite(moved).all(axis=1)
    if rng.random() < settings.drop_cuboid and finite.any():
        kept[finite] = ~_random_cuboid(moved[finite, :3], rng)
    return moved, kept


def _random_linear_map(settings: AugmentSettings, rng: np.random.Generator) -> NDArray[np.float32]:
    """Rotation about z, mirrors and scale, (3, 3)."""
    angle = np.radians(rng.uniform(-settings.rotate, settings.rotate))
    mirrors = [rng.choice([-1.0, 1.0]) if axis in settings.flip else 1.0 for axis in 'xy']
    scale = rng.uniform(1 - settings.scale, 1 + settings.scale)
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    linear = scale * rotation @ np.diag([*mirrors, 1.0])
    return linear.astype(np.float32)


def _random_cuboid(xyz: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Points inside a cuboid around a random point."""
    centre = xyz[rng.integers(len(xyz))]
    half = CUBOID_SIDE / 2 * np.ptp(xyz, axis=0)
    inside: NDArray[np.bool_] = np.all(np.abs(xyz - centre) < half, axis=1)
    return inside


def augment_image(
    image: CameraImage,
    pixels: NDArray[np.float32],
    settings: AugmentSettings,
    rng: np.random.Generator,
) -> tuple[CameraImage, NDArray[np.float32], NDArray[np.bool_]]:
    """Crop and mirror an image together with the pixels that were paired in it.

    Args:
        image: the image; its class map is cropped and mirrored alike.
        pixels: (P, 2), u to the right and v down.
        settings: what to vary.
        rng: source of chance.

    Returns:
        The image (its intrinsics no longer hold), pixels (P, 2) in it, and which of them lie
        inside (P,).
    """
    height, width = image.image.shape[:2]
    share = rng.uniform(settings.crop, 1, 2)
    size = np.maximum(np.rint(share * (width, height)), 1).astype(int)  # width, height
    corner = rng.integers(0, (width, height) - size + 1)
    cropped = _crop_layers(image, corner, size)
    moved = pixels - corner.astype(np.float32)
    inside = np.all((moved > -0.5) & (moved < size - 0.5), axis=1)
    if settings.flip_image and rng.random() < 0.5:
        cropped = _mirror_layers(cropped)
        moved[:, 0] = size[0] - 1 - moved[:, 0]
    return cropped, moved, inside


def _crop_layers(
    image: CameraImage, corner: NDArray[np.int64], size: NDArray[np.int64]
) -> CameraImage:
    """Crop the image, and the same part of its class map, whose resolution may differ."""
    (left, top), (right, bottom) = corner, corner + size
    height, width = image.image.shape[:2]

    def crop(layer: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        if layer is None:
            return None
        rows = _scaled_indices(np.arange(top, bottom), height, len(layer))
        columns = _scaled_indices(np.arange(left, right), width, layer.shape[1])
        return layer[np.ix_(rows, columns)]

    return replace(
        image,
        image=image.image[top:bottom, left:right],
        class_map=crop(image.class_map),
        confidence=crop(image.confidence),
    )


def _scaled_indices(index: NDArray[np.int64], size: int, layer_size: int) -> NDArray[np.int64]:
    """Nearest index in a layer that covers the image at another resolution."""
    scaled: NDArray[np.int64] = ((index + 0.5) * layer_size / size).astype(np.int64)
    return scaled


def _mirror_layers(image: CameraImage) -> CameraImage:
    def mirror(layer: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        return None if layer is None else np.ascontiguousarray(layer[:, ::-1])

    return replace(
        image,
        image=np.ascontiguousarray(image.image[:, ::-1]),
        class_map=mirror(image.class_map),
        confidence=mirror(image.confidence),
    )
