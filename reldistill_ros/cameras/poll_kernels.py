# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Compiled kernels of `poll`: opinions added to voxels, and the label of each voxel.

A voxel is found in a hash table of those that a camera has seen a point in, by the same
arithmetic in float32 that `core.voxels` groups the student's points with.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.compiled import compiled
from reldistill_ros.core.vocabulary import IGNORE_INDEX

COORD_BITS = 21  # three of them in 63 bits
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing, Knuth, TAOCP 3, section 6.4
Counts = tuple[NDArray[np.int32], NDArray[np.float32]]  # of opinions (V,), their sums (V, K)


@compiled()
def softmax_of_best(
    cosines: NDArray[np.float32],
    bounds: NDArray[np.int64],
    temperature: np.float32,
    found: NDArray[np.float32],
) -> None:
    """Write the softmax (R, K) of the classes' best cosines, of (R, M).

    Args:
        cosines: (R, M).
        bounds: (K + 1,), first prompt of each class, and M.
        temperature: of the softmax.
        found: (R, K), written.
    """
    for i in range(len(cosines)):
        highest = np.float32(-np.inf)
        for k in range(found.shape[1]):
            best = cosines[i, bounds[k]]
            for prompt in range(bounds[k] + 1, bounds[k + 1]):
                best = max(best, cosines[i, prompt])
            found[i, k] = best
            highest = max(highest, best)
        total = np.float32(0)
        for k in range(found.shape[1]):
            found[i, k] = np.exp((found[i, k] - highest) / temperature)
            total += found[i, k]
        for k in range(found.shape[1]):
            found[i, k] /= total


@compiled()
def _place(
    points: NDArray[np.float32], row: int, grid: NDArray[np.float32]
) -> tuple[int, int, int]:
    """Index of a point's voxel in the grid, also outside of it."""
    x = np.floor((points[row, 0] - grid[0]) / grid[3])
    y = np.floor((points[row, 1] - grid[1]) / grid[3])
    z = np.floor((points[row, 2] - grid[2]) / grid[3])
    return int(x), int(y), int(z)


@compiled()
def _find_voxel(
    place: tuple[int, int, int],
    slots: NDArray[np.int32],
    keys: NDArray[np.int64],
    num_voxels: int,
) -> int:
    """The voxel at a place, a new one, number `num_voxels`, where none is known."""
    mask = (1 << COORD_BITS) - 1
    x, y, z = place[0] & mask, place[1] & mask, place[2] & mask
    key = (x << 2 * COORD_BITS) | (y << COORD_BITS) | z
    slot = np.int64((np.uint64(key) * GOLDEN) >> np.uint64(32)) & (len(slots) - 1)
    while slots[slot] != 0:
        voxel = slots[slot] - 1  # 0 is an empty slot
        if keys[voxel] == key:
            return voxel  # type: ignore[no-any-return]
        slot = (slot + 1) & (len(slots) - 1)
    slots[slot] = num_voxels + 1
    keys[num_voxels] = key
    return num_voxels


@compiled()
def add_view(
    sweep: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]],
    table: tuple[NDArray[np.int32], NDArray[np.int64]],
    counted: Counts,
    num_voxels: int,
    point_indices: NDArray[np.int64],
    rows: NDArray[np.int32],
    weights: NDArray[np.float32],
    confidences: NDArray[np.float32],
    classes: NDArray[np.float32],
    strength: np.float32,
) -> int:
    """Add the opinions on each point to its voxel; returns how many voxels there are now.

    An opinion is its distribution mixed with ignorance, by how sure it is.
    """
    points, grid, voxel_of = sweep
    counts, sums = counted
    num_classes = classes.shape[1]
    for i in range(len(point_indices)):
        point = point_indices[i]
        if voxel_of[point] < 0:
            voxel = _find_voxel(_place(points, point, grid), table[0], table[1], num_voxels)
            num_voxels = max(num_voxels, voxel + 1)
            voxel_of[point] = voxel
        if not confidences[i] > 0:
            continue
        voxel = voxel_of[point]
        counts[voxel] += 1
        sure = confidences[i] * strength
        ignorance = (np.float32(1) - sure) / np.float32(num_classes)
        for k in range(num_classes):
            sums[voxel, k] += ignorance
        for j in range(rows.shape[1]):
            row, weight = rows[i, j], sure * weights[i, j]
            for k in range(num_classes):
                sums[voxel, k] += weight * classes[row, k]
    return num_voxels


@compiled()
def decide(
    sweep: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]],
    size: NDArray[np.int64],
    counted: Counts,
    num_voxels: int,
    votes: NDArray[np.float32],
    limits: tuple[np.float32, np.float32],
    labels: tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]],
) -> None:
    """Label the points of voxels with an opinion; of each voxel and student's class once."""
    points, grid, voxel_of = sweep
    counts, sums = counted
    class_ids, probabilities, entropies = labels
    said_in = np.full(num_voxels, -1, np.int16)  # class that the result is for
    best_in = np.empty(num_voxels, np.uint8)
    probability_in, entropy_in = np.empty(num_voxels, np.float32), np.empty(num_voxels, np.float32)
    scores = np.empty(sums.shape[1], np.float32)
    for i in range(len(voxel_of)):
        voxel = voxel_of[i]
        if voxel < 0 or counts[voxel] == 0:
            continue
        said = class_ids[i]
        if said_in[voxel] != said:
            said_in[voxel] = said
            best, probability, entropy = _label(
                sums[voxel], counts[voxel], votes[said], limits[0], scores
            )
            best_in[voxel], probability_in[voxel], entropy_in[voxel] = best, probability, entropy
        if said == IGNORE_INDEX and not probability_in[voxel] > limits[1]:
            x, y, z = _place(points, i, grid)
            if 0 <= x < size[0] and 0 <= y < size[1] and 0 <= z < size[2]:
                continue
        if probability_in[voxel] > 0:  # a sum that is no number changes nothing
            class_ids[i], probabilities[i] = best_in[voxel], probability_in[voxel]
            entropies[i] = entropy_in[voxel]


@compiled()
def _label(
    total_of: NDArray[np.float32],
    count: int,
    votes: NDArray[np.float32],
    weight: np.float32,
    scores: NDArray[np.float32],
) -> tuple[int, np.float32, np.float32]:
    """Best class, its probability, and the entropy of the softmax, as in `core.zero_shot`."""
    best = 0
    for k in range(len(scores)):
        scores[k] = weight * np.log(total_of[k] / np.float32(count)) + votes[k]
        if scores[k] > scores[best]:
            best = k
    total = weighted = np.float32(0)
    highest = scores[best]
    for k in range(len(scores)):
        score = scores[k] - highest
        share = np.exp(score)
        total += share
        weighted += share * score
    return best, np.float32(1) / total, max(np.log(total) - weighted / total, np.float32(0))
