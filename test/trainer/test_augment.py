# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Augmented images and points keep their pairs."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.augment import NO_AUGMENTATION, AugmentSettings, augment_image, augment_points
from trainer.datasets.sample import CameraImage


def coordinate_image(height=40, width=60, scale=1):
    """An image whose red and green channels are its own column and row."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    image = np.stack([columns, rows, np.zeros_like(rows)], axis=2)
    class_map = np.repeat(np.repeat(columns, scale, axis=0), scale, axis=1)
    return CameraImage('front', '0', image, np.eye(3), np.eye(4), class_map, class_map)


@pytest.mark.parametrize('seed', range(20))
def test_a_pixel_shows_the_same_colour_after_crop_and_mirror(seed):
    rng = np.random.default_rng(seed)
    image = coordinate_image(scale=2)
    pixels = np.stack([rng.integers(0, 60, 100), rng.integers(0, 40, 100)], axis=1)
    cropped, moved, inside = augment_image(
        image, pixels.astype(np.float32), AugmentSettings(crop=0.5), rng
    )
    assert inside.any()
    u, v = moved[inside].astype(int).T
    np.testing.assert_array_equal(cropped.image[v, u, :2], pixels[inside])
    np.testing.assert_array_equal(cropped.class_map[v, u], pixels[inside, 0])


def test_points_outside_the_crop_are_reported():
    pixels = (
        np.stack(np.meshgrid(np.arange(60), np.arange(40)), axis=-1)
        .reshape(-1, 2)
        .astype(np.float32)
    )
    cropped, _, inside = augment_image(
        coordinate_image(), pixels, AugmentSettings(crop=0.5), np.random.default_rng(3)
    )
    assert inside.sum() == cropped.image.shape[0] * cropped.image.shape[1]


def test_rotation_and_mirrors_keep_distance_and_height_and_order():
    points = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    settings = AugmentSettings(scale=0, drop_cuboid=0)
    moved, kept = augment_points(points, settings, np.random.default_rng(1))
    assert kept.all()
    assert np.abs(moved[:, 0] - points[:, 0]).max() > 0.1
    np.testing.assert_allclose(moved[:, 2:], points[:, 2:], atol=1e-6)
    np.testing.assert_allclose(
        np.linalg.norm(moved[:, :3], axis=1), np.linalg.norm(points[:, :3], axis=1), rtol=1e-5
    )


def test_a_dropped_cuboid_takes_some_points_but_not_all():
    points = np.random.default_rng(0).uniform(size=(1000, 4)).astype(np.float32)
    settings = AugmentSettings(drop_cuboid=1)
    _, kept = augment_points(points, settings, np.random.default_rng(2))
    assert 0 < kept.sum() < 1000


def test_points_that_are_not_finite_do_not_switch_the_cuboid_off():
    points = np.random.default_rng(0).uniform(size=(1000, 4)).astype(np.float32)
    points[::10, 0] = np.nan
    _, kept = augment_points(points, AugmentSettings(drop_cuboid=1), np.random.default_rng(2))
    assert 0 < kept.sum() < 1000
    assert kept[::10].all()


def test_small_angles_and_one_axis_stay_small_and_on_that_axis():
    points = np.array([[10, 1, 0, 0]], np.float32)
    settings = AugmentSettings(rotate=5, flip=('y',), scale=0, drop_cuboid=0)
    moved = [augment_points(points, settings, np.random.default_rng(s))[0][0] for s in range(50)]
    angles = np.degrees(np.arctan2(*np.array(moved)[:, 1::-1].T))
    assert np.abs(angles).max() < 5 + np.degrees(np.arctan(0.1)) + 1e-3
    assert angles.min() < -5 < 5 < angles.max()


def test_no_augmentation_changes_nothing():
    points = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    moved, kept = augment_points(points, NO_AUGMENTATION, np.random.default_rng(0))
    np.testing.assert_allclose(moved, points)
    assert kept.all()
