# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Points in, labels out: what the node and the trainer's evaluation both call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.backends.backend import Backend, Precision, open_backend
from reldistill_ros.backends.fused_linear import FusedLinear
from reldistill_ros.core.bundle import Bundle, load_bundle
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import build_kernel_maps
from reldistill_ros.core.settings import InputSettings, VoxelSettings
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from reldistill_ros.core.voxels import voxelise
from reldistill_ros.core.zero_shot import (
    Labels,
    ProjectionHead,
    cosines_of,
    fold_head,
    label_cosines,
)
from reldistill_ros.words.words import Words, bundle_words


@dataclass(frozen=True, eq=False)
class FoldedWords:
    """Words made ready for `Labeller.use`.

    Attributes:
        words: which ones.
        head: the projection head folded with their prompts.
        prompt_classes: (M,), see `Vocabulary.prompt_classes`.
    """

    words: Words
    head: FusedLinear
    prompt_classes: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelledSweep:
    """Labels, and the words that they are classes of."""

    labels: Labels
    words: Words


class Labeller:
    """Voxelise, run the student, compare with the prompts.

    One thread labels. Any other one may `fold` and `use` other words meanwhile: a sweep keeps
    the words that it began with.

    Args:
        backend: the student's backbone.
        head: its projection head.
        words: the first words to compare with.
        voxel: the grid.
        inputs: the input features.
        temperature: of the probabilities.
        num_threads: of the folded head.
        intensity_max: raw intensity that counts as 1; None where only the user can say it.
    """

    def __init__(
        self,
        backend: Backend,
        head: ProjectionHead,
        words: Words,
        *,
        voxel: VoxelSettings,
        inputs: InputSettings,
        temperature: float,
        num_threads: int,
        intensity_max: float | None = None,
    ) -> None:
        self.intensity_max = intensity_max
        self._backend, self._head, self._num_threads = backend, head, num_threads
        self._voxel, self._inputs = voxel, inputs
        self._temperature = temperature
        self._folded = self.fold(words)
        centre = np.reshape(voxel.point_cloud_range, (2, 3)).mean(axis=0)
        self(np.append(centre, 0.5)[None].astype(np.float32))  # compiles, or loads, all kernels

    @classmethod
    def from_bundle(
        cls,
        path: Path | Bundle,
        backend: str = 'fused',
        num_threads: int = 2,
        precision: Precision = 'float32',
        *,
        engine_file: Path | None = None,
    ) -> Labeller:
        """Open a bundle in one of the engines, see `open_backend`.

        Args:
            path: its folder, or the bundle where it is open already.
            backend: name of the engine.
            num_threads: of the engine.
            precision: of the engine.
            engine_file: of backend tensorrt.

        Raises:
            InputError: the bundle or the engine cannot be had; says why.
        """
        bundle = path if isinstance(path, Bundle) else load_bundle(Path(path))
        manifest = bundle.manifest
        # a student that does not see the intensity takes any scale of it
        sees_intensity = 'intensity' in manifest.inputs.features
        return cls(
            open_backend(bundle, backend, num_threads, precision, engine_file=engine_file),
            bundle.head,
            bundle_words(bundle),
            voxel=manifest.voxel,
            inputs=manifest.inputs,
            temperature=manifest.temperature,
            num_threads=num_threads,
            intensity_max=manifest.intensity_max if sees_intensity else 1.0,
        )

    @property
    def words(self) -> Words:
        """The words that the next sweep is compared with."""
        return self._folded.words

    @property
    def vocabulary(self) -> Vocabulary:
        """Their classes."""
        return self.words.vocabulary

    @property
    def revision(self) -> str:
        """Short name of weights and words."""
        return self.words.revision

    def fold(self, words: Words) -> FoldedWords:
        """Fold words into the head: some milliseconds, in any thread.

        Raises:
            InputError: the words belong to another text space.
        """
        size, shape = len(self._head.weight), words.prompt_embeddings.shape
        if shape != (len(words.vocabulary.prompts), size):
            raise InputError(
                'the words do not fit the model',
                expected=f'embeddings ({len(words.vocabulary.prompts)}, {size})',
                got=shape,
                fix='make them with the PromptEncoder of the same bundle',
            )
        head = fold_head(self._head.weight, self._head.bias, words.prompt_embeddings)
        linear = FusedLinear(head.matrix, head.bias, self._num_threads)
        return FoldedWords(words, linear, words.vocabulary.prompt_classes)

    def use(self, folded: FoldedWords) -> None:
        """Compare with other words from the next sweep on; at once, in any thread."""
        self._folded = folded

    def __call__(self, points: NDArray[np.float32]) -> Labels:
        """Label a sweep, see `label`."""
        return self.label(points).labels

    def label(self, points: NDArray[np.float32]) -> LabelledSweep:
        """Label a sweep.

        Args:
            points: (N, 4) float32, x y z in metres in the lidar frame and intensity from 0 to 1;
                N may be 0 and rows may be not finite.

        Returns:
            One label for each point, in order. Points outside the range or not finite, and those
            below the threshold of their class: class `IGNORE_INDEX`, probability 0, entropy NaN.
        """
        folded = self._folded  # once: another thread may change it at any time
        return LabelledSweep(self._label(points, folded), folded.words)

    def _label(self, points: NDArray[np.float32], folded: FoldedWords) -> Labels:
        voxels = voxelise(points, self._voxel, self._inputs)
        if not len(voxels.coords):
            return _unlabelled(len(points))
        features = self._backend(voxels.feats, build_kernel_maps(voxels.coords))
        cosines = cosines_of(folded.head(features), len(folded.prompt_classes))
        labels = label_cosines(
            cosines, folded.prompt_classes, self._temperature, folded.words.thresholds
        )
        return _to_points(labels, voxels.point_to_voxel)


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
