# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Points in, labels out: what the node and the trainer's evaluation both call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.backends.backend import Backend, Precision, open_backend
from reldistill_ros.backends.fused_linear import FusedLinear
from reldistill_ros.core.bundle import STUDENT_WEIGHTS, TEXT_FEATURES, Bundle, load_bundle
from reldistill_ros.core.kernel_maps import build_kernel_maps
from reldistill_ros.core.settings import InputSettings, VoxelSettings
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from reldistill_ros.core.voxels import voxelise
from reldistill_ros.core.zero_shot import (
    FoldedHead,
    Labels,
    cosines_of,
    fold_head,
    label_cosines,
)


class Labeller:
    """Voxelise, run the student, compare with the prompts.

    Args:
        backend: the student's backbone.
        head: its projection head, folded with the prompts of `vocabulary`.
        voxel: the grid.
        inputs: the input features.
        vocabulary: the classes.
        temperature: of the probabilities.
        num_threads: of the folded head.
        intensity_max: raw intensity that counts as 1; None where only the user can say it.
        revision: short name of weights and words.
    """

    def __init__(
        self,
        backend: Backend,
        head: FoldedHead,
        *,
        voxel: VoxelSettings,
        inputs: InputSettings,
        vocabulary: Vocabulary,
        temperature: float,
        num_threads: int,
        intensity_max: float | None = None,
        revision: str = '',
    ) -> None:
        self.vocabulary = vocabulary
        self.intensity_max = intensity_max
        self.revision = revision
        self._backend = backend
        self._num_prompts = head.num_prompts
        self._head = FusedLinear(head.matrix, head.bias, num_threads)
        self._voxel, self._inputs = voxel, inputs
        self._temperature = temperature
        centre = np.reshape(voxel.point_cloud_range, (2, 3)).mean(axis=0)
        self(np.append(centre, 0.5)[None].astype(np.float32))  # compiles, or loads, all kernels

    @classmethod
    def from_bundle(
        cls,
        path: Path,
        backend: str = 'fused',
        num_threads: int = 2,
        precision: Precision = 'float32',
    ) -> Labeller:
        """Open a bundle in one of the engines, see `open_backend`.

        Raises:
            InputError: the bundle or the engine cannot be had; says why.
        """
        bundle = load_bundle(Path(path))
        manifest = bundle.manifest
        # a student that does not see the intensity takes any scale of it
        sees_intensity = 'intensity' in manifest.inputs.features
        return cls(
            open_backend(bundle, backend, num_threads, precision),
            fold_head(bundle.head_weight, bundle.head_bias, bundle.prompt_embeddings),
            voxel=manifest.voxel,
            inputs=manifest.inputs,
            vocabulary=bundle.vocabulary,
            temperature=manifest.temperature,
            num_threads=num_threads,
            intensity_max=manifest.intensity_max if sees_intensity else 1.0,
            revision=bundle_revision(bundle),
        )

    def __call__(self, points: NDArray[np.float32]) -> Labels:
        """Label a sweep.

        Args:
            points: (N, 4) float32, x y z in metres in the lidar frame and intensity from 0 to 1;
                N may be 0 and rows may be not finite.

        Returns:
            One label for each point, in order. Points outside the range or not finite: class
            `IGNORE_INDEX`, probability 0, entropy NaN.
        """
        voxels = voxelise(points, self._voxel, self._inputs)
        if not len(voxels.coords):
            return _unlabelled(len(points))
        features = self._backend(voxels.feats, build_kernel_maps(voxels.coords))
        cosines = cosines_of(self._head(features), self._num_prompts)
        labels = label_cosines(cosines, self.vocabulary.prompt_classes, self._temperature)
        return _to_points(labels, voxels.point_to_voxel)


def bundle_revision(bundle: Bundle) -> str:
    """Short name of a bundle's weights and words, the same for equal ones."""
    files = bundle.manifest.files
    return f'{files[STUDENT_WEIGHTS][:8]}-{files[TEXT_FEATURES][:8]}'


def _unlabelled(num: int) -> Labels:
    return Labels(
        np.full(num, IGNORE_INDEX, np.uint8),
        np.zeros(num, np.float32),
        np.full(num, np.nan, np.float32),
    )


def _to_points(labels: Labels, point_to_voxel: NDArray[np.int32]) -> Labels:
    points = _unlabelled(len(point_to_voxel))
    inside = point_to_voxel >= 0
    voxel = point_to_voxel[inside]
    points.class_ids[inside] = labels.class_ids[voxel]
    points.probabilities[inside] = labels.probabilities[voxel]
    points.entropies[inside] = labels.entropies[voxel]
    return points
