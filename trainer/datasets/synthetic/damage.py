# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A simulated 2D segmentation network: the true class map with the faults such networks have.

Boundaries wobble, whole objects and patches are taken for a similar class, small objects are
missed, thin ones are broken, and much of this flickers from picture to picture. Confidence is lower
at boundaries and, on average, where the answer is wrong. The map has half the picture's resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import import_extra
from trainer.datasets.synthetic.camera import Picture
from trainer.datasets.synthetic.materials import (
    BICYCLE,
    BUILDING,
    BUS,
    BUSH,
    CAR,
    CLASS_NAMES,
    CONE,
    FENCE,
    PEDESTRIAN,
    POLE,
    ROAD,
    SIDEWALK,
    SIGN,
    SKY,
    TERRAIN,
    THINGS,
    TREE,
    TRUCK,
    WALL,
)

Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Rng = np.random.Generator

# What an object is taken for as a whole, and how often.
OBJECT_CONFUSIONS: dict[int, tuple[int, float]] = {
    TRUCK: (BUS, 0.14),
    BUS: (TRUCK, 0.13),
    CAR: (TRUCK, 0.04),
    BICYCLE: (PEDESTRIAN, 0.13),
    PEDESTRIAN: (BICYCLE, 0.10),
    SIGN: (BUILDING, 0.12),
    CONE: (SIGN, 0.10),
}
# Patches of one class taken for another, and the share of the area.
PATCH_CONFUSIONS: tuple[tuple[int, int, float], ...] = (
    (ROAD, SIDEWALK, 0.008),
    (SIDEWALK, ROAD, 0.046),
    (SIDEWALK, TERRAIN, 0.033),
    (TERRAIN, SIDEWALK, 0.039),
    (BUILDING, WALL, 0.016),
    (WALL, BUILDING, 0.091),
    (FENCE, WALL, 0.078),
    (WALL, FENCE, 0.052),
    (FENCE, BUSH, 0.039),
    (BUSH, TREE, 0.091),
    (TREE, BUSH, 0.033),
    (BUSH, TERRAIN, 0.033),
    (POLE, BUILDING, 0.078),
    (BUS, TRUCK, 0.033),
    (TRUCK, BUS, 0.039),
    (CAR, TRUCK, 0.013),
)
WOBBLE = 1.1  # pixels of the picture, standard deviation
MISSED_AREA = 10.0  # pixels of the map at which an object is missed in a third of the pictures
EVIDENT_AREA = 5000.0  # pixels of the map; what is this large is rarely taken for another
POLE_GAPS = 0.22  # share of poles that vanish into what stands behind


@dataclass(frozen=True)
class Prediction:
    """The network's answer.

    Attributes:
        class_map: (h, w) uint8, 255 where it sees no class.
        confidence: (h, w) uint8, its probability times 255; 0 where it sees no class.
    """

    class_map: Labels
    confidence: NDArray[np.uint8]


def predict(picture: Picture, seed: int, rng: Rng) -> Prediction:
    """Simulate the network on a picture.

    Args:
        picture: with true classes and objects.
        seed: of the town; some objects are misjudged in every picture.
        rng: of the picture, for what flickers.
    """
    truth, objects = _wobble(picture, rng)
    answer = truth.copy()
    _confuse_patches(answer, rng)
    missed = _judge_objects(answer, truth, objects, seed, rng)
    missed |= (truth == POLE) & (_smooth_noise(truth.shape, 6, rng) > _threshold(POLE_GAPS))
    answer = _fill_from_around(answer, missed)
    right = answer == picture.class_map[1::2, 1::2]
    return Prediction(answer, _confidence(answer, right, rng))


def _wobble(picture: Picture, rng: Rng) -> tuple[Labels, NDArray[np.int32]]:
    """Classes and objects at half resolution, seen through a slowly varying shift."""
    height, width = picture.class_map.shape
    shape = height // 2, width // 2
    rows, columns = np.indices(shape) * 2 + 0.5
    rows = rows + WOBBLE * _smooth_noise(shape, 7, rng)
    columns = columns + WOBBLE * _smooth_noise(shape, 7, rng)
    at = (
        np.clip(np.rint(rows), 0, height - 1).astype(np.int64),
        np.clip(np.rint(columns), 0, width - 1).astype(np.int64),
    )
    return picture.class_map[at], picture.instance_map[at]


def _smooth_noise(shape: tuple[int, int], spacing: int, rng: Rng) -> NDArray[np.float64]:
    """Noise of mean 0 and deviation about 1 that varies over `spacing` pixels."""
    coarse = rng.normal(size=[count // spacing + 4 for count in shape])
    start = rng.integers(0, spacing, 2) + spacing
    rows, columns = (
        _zoom_matrix(cells, spacing)[first : first + count]
        for cells, first, count in zip(coarse.shape, start, shape)
    )
    field = rows @ coarse @ columns.T
    return np.asarray(field / field.std())


@cache
def _zoom_matrix(cells: int, spacing: int) -> NDArray[np.float64]:
    """(cells * spacing, cells): the quadratic spline through values that are `spacing` apart."""
    ndimage = import_extra('scipy.ndimage', 'train')
    return np.asarray(ndimage.zoom(np.eye(cells), (spacing, 1), order=2))


def _threshold(share: float) -> float:
    """Value that this share of a standard normal variable exceeds."""
    return NormalDist().inv_cdf(1 - share)


def _confuse_patches(answer: Labels, rng: Rng) -> None:
    truth = answer.copy()
    for label, other, share in PATCH_CONFUSIONS:
        patch = _smooth_noise(answer.shape, 14, rng) > _threshold(share)
        answer[patch & (truth == label)] = other


def _judge_objects(
    answer: Labels, truth: Labels, objects: NDArray[np.int32], seed: int, rng: Rng
) -> Mask:
    """Confuse whole objects in place; returns the mask of those that are missed."""
    missed = np.zeros(truth.shape, dtype=bool)
    for label in THINGS:
        for instance in np.unique(objects[truth == label]):
            where = (objects == instance) & (truth == label)
            other, chance = OBJECT_CONFUSIONS[label]
            area = float(where.sum())
            chance *= np.exp(-area / EVIDENT_AREA)
            if rng.random() < 0.9 * np.exp(-area / MISSED_AREA):
                missed |= where
            elif _misjudged(chance, int(instance), seed, rng):
                answer[where] = other
    return missed


def _misjudged(chance: float, instance: int, seed: int, rng: Rng) -> bool:
    """Half of the confusions belong to the object, half to the picture."""
    always = np.random.default_rng([seed, 71, instance]).random()
    return bool(always < chance / 2 or rng.random() < chance / 2)


def _fill_from_around(answer: Labels, missed: Mask) -> Labels:
    """Give missed pixels the class of the nearest pixel that was not missed."""
    if not missed.any():
        return answer
    ndimage = import_extra('scipy.ndimage', 'train')
    nearest = ndimage.distance_transform_edt(missed, return_distances=False, return_indices=True)
    return np.asarray(answer[tuple(nearest)])


def _confidence(answer: Labels, right: Mask, rng: Rng) -> NDArray[np.uint8]:
    ndimage = import_extra('scipy.ndimage', 'train')
    window = ndimage.maximum_filter(answer, 3) != ndimage.minimum_filter(answer, 3)
    distance = ndimage.distance_transform_edt(~window)
    unsure = 0.38 * np.exp(-distance / 1.6) + 0.04 * np.abs(_smooth_noise(answer.shape, 9, rng))
    unsure += np.where(right, 0.0, rng.uniform(0.0, 0.35, answer.shape))
    probability = np.clip(0.97 - unsure + rng.normal(0, 0.02, answer.shape), 0.15, 0.99)
    return np.where(answer == SKY, 0, np.rint(probability * 255)).astype(np.uint8)


def count_confusions(truth: Labels, answer: Labels) -> NDArray[np.int64]:
    """Pixels by true class (rows) and answer (columns; the last one is no class), (K, K + 1).

    Args:
        truth: (H, W), 255 is not counted.
        answer: (H / 2, W / 2), enlarged to the size of the truth.
    """
    count = len(CLASS_NAMES)
    large = np.minimum(answer.repeat(2, axis=0).repeat(2, axis=1), count).astype(np.int64)
    seen = truth != SKY
    cells = truth[seen].astype(np.int64) * (count + 1) + large[seen]
    return np.bincount(cells, minlength=count * (count + 1)).reshape(count, count + 1)
