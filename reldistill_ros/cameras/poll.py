# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The cameras' opinions on one sweep, summed in the student's voxels.

What depends on the words is done once for each row of an image's table: its distribution over
the classes. A sweep then only adds rows to voxels, see `poll_kernels`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.poll_kernels import Counts, add_view, decide, softmax_of_best
from reldistill_ros.core.compiled import as_kernel_array
from reldistill_ros.core.settings import VoxelSettings
from reldistill_ros.core.voxels import grid_size
from reldistill_ros.core.zero_shot import Labels


@dataclass(frozen=True, eq=False)
class SpokenView:
    """What one camera says of the points it sees, in classes.

    Attributes:
        point_indices: (P,) int64, rows of the sweep's points, none twice.
        rows: (P, J) int32, see `Opinions`.
        weights: (P, J) float32, see there.
        confidences: (P,) float32 from 0 (no opinion) to 1.
        classes: (R, K) float32, distribution of each row of the table over the classes.
        age: seconds between image and sweep, either way.
    """

    point_indices: NDArray[np.int64]
    rows: NDArray[np.int32]
    weights: NDArray[np.float32]
    confidences: NDArray[np.float32]
    classes: NDArray[np.float32]
    age: float = 0.0


@dataclass(frozen=True, eq=False)
class Decision:
    """How sums become labels.

    Attributes:
        votes: (256, K) float32, weighted log probabilities of what the student said.
        camera_weight: of the cameras' log probabilities.
        floor: probability that the class of a point must have which the student, having it in
            its range, left unlabelled.
    """

    votes: NDArray[np.float32]
    camera_weight: float
    floor: float


class Poll:
    """What cameras say of the N points of one sweep.

    Args:
        points: (N, >=3) in the lidar frame.
        voxel: the student's grid.
        num_classes: K.
    """

    def __init__(
        self, points: NDArray[np.float32], voxel: VoxelSettings, num_classes: int
    ) -> None:
        self._points = as_kernel_array(points, np.float32)
        self._grid = np.array([*voxel.point_cloud_range[:3], voxel.voxel_size], np.float32)
        self._size = grid_size(voxel)
        num = len(points)
        slots = 1 << max(2 * num, 2).bit_length()
        self._voxel_of = np.full(num, -1, np.int32)
        # zeros take no memory until they are written to
        self._table = np.zeros(slots, np.int32), np.zeros(num, np.int64)
        self._counts: Counts = np.zeros(num, np.int32), np.zeros((num, num_classes), np.float32)
        self._num_voxels = 0

    def add(self, view: SpokenView, strength: float) -> None:
        """Add a camera's opinions.

        Args:
            view: the opinions.
            strength: factor of their confidences.
        """
        self._num_voxels = add_view(
            (self._points, self._grid, self._voxel_of),
            self._table,
            self._counts,
            self._num_voxels,
            as_kernel_array(view.point_indices, np.int64),
            as_kernel_array(view.rows, np.int32),
            as_kernel_array(view.weights, np.float32),
            as_kernel_array(view.confidences, np.float32),
            as_kernel_array(view.classes, np.float32),
            np.float32(strength),
        )

    def distributions(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(Q,) rows of the points in voxels with an opinion that some camera sees, and theirs.

        Returns:
            The rows, and the mean distributions (Q, K) of their voxels.
        """
        counts, sums = self._counts
        seen = np.flatnonzero(self._voxel_of >= 0)
        seen = seen[counts[self._voxel_of[seen]] > 0]
        voxel = self._voxel_of[seen]
        return seen, sums[voxel].astype(np.float64) / counts[voxel, None]

    def decide(self, labels: Labels, decision: Decision) -> Labels:
        """The student's labels (N,) and the opinions together."""
        new = Labels(labels.class_ids.copy(), labels.probabilities.copy(), labels.entropies.copy())
        decide(
            (self._points, self._grid, self._voxel_of),
            self._size,
            self._counts,
            self._num_voxels,
            as_kernel_array(decision.votes, np.float32),
            (np.float32(decision.camera_weight), np.float32(decision.floor)),
            (new.class_ids, new.probabilities, new.entropies),
        )
        return new


def class_distributions(
    cosines: NDArray[np.float32], bounds: NDArray[np.int64], temperature: float
) -> NDArray[np.float32]:
    """Softmax (R, K) over the classes' best cosines.

    Args:
        cosines: (R, M).
        bounds: (K,), first prompt of each class.
        temperature: of the softmax.
    """
    found = np.empty((len(cosines), len(bounds)), np.float32)
    ends = np.append(bounds, cosines.shape[1])
    softmax_of_best(as_kernel_array(cosines, np.float32), ends, np.float32(temperature), found)
    return found
