# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What student and cameras say of labelled sweeps: what the ensemble is fitted and judged on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.ensemble import CameraView
from reldistill_ros.cameras.image_encoder import most_likely
from reldistill_ros.cameras.opinions import (
    ClassOpinions,
    Opinions,
    class_cosines,
    single_rows,
)
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.prompts import center
from reldistill_ros.core.settings import load_settings
from reldistill_ros.core.vocabulary import Vocabulary
from reldistill_ros.core.zero_shot import Labels
from trainer.datasets.sample import CameraImage, Dataset, Sample
from trainer.evaluate import make_labeller
from trainer.image_networks import TINY, spoken_classes
from trainer.pairing import pair_points
from trainer.run import TEACHER_VOCABULARY, Run, TrainedRun
from trainer.splits import true_classes
from trainer.teachers.onnx_segmentation import SegmentationFeatures
from trainer.teachers.prompt_denoising import DenoisedFeatures
from trainer.teachers.settings import LabelMapSettings, OnnxSegmentationSettings
from trainer.teachers.teacher import DenseFeatures

FULL_CONFIDENCE = 255


@dataclass(frozen=True, eq=False)
class Observation:
    """One labelled sweep of N points.

    Attributes:
        sample: the sweep.
        truth: (N,) uint8 class of the vocabulary, 255 for none.
        student: its labels.
        views: what each camera says of the points it sees.
        taught: (N,) bool, points that the run's teacher has a feature for.
    """

    sample: Sample
    truth: NDArray[np.uint8]
    student: Labels
    views: tuple[CameraView, ...]
    taught: NDArray[np.bool_]

    @property
    def visible(self) -> NDArray[np.bool_]:
        """(N,) bool, points that a camera sees, whether it has an opinion or not."""
        seen = np.zeros(len(self.truth), np.bool_)
        for view in self.views:
            seen[view.point_indices] = True
        return seen


@dataclass(frozen=True, eq=False)
class TeacherOpinions:
    """The opinions of a teacher without class maps: its features themselves.

    Attributes:
        features: of one image.
        mean: (C,) to centre with.
        prompts: (M, C).
    """

    features: DenseFeatures
    mean: NDArray[np.float32]
    prompts: NDArray[np.float32]

    def at(self, pixels: NDArray[np.float32]) -> Opinions:
        features = self.features.at(pixels)
        known = np.asarray(features.any(axis=1))
        cosines = center(features, self.mean) @ self.prompts.T
        return single_rows(cosines, np.arange(len(cosines)), known.astype(np.float32))


class Observer:
    """Looks at the sweeps of a run's drives with its student and its cameras.

    Args:
        trained: the run. Class maps speak as its teacher's do, but with the confidence that they
            state, however low.
    """

    def __init__(self, trained: TrainedRun) -> None:
        self._trained = trained
        self._labeller = make_labeller(trained)
        self._teacher = trained.run.build_teacher(trained.encoder)
        embeddings = network_embeddings(trained)
        self._classes = None if embeddings is None else class_cosines(embeddings, trained.prompts)

    def __call__(self, dataset: Dataset, indices: Sequence[int]) -> Iterator[Observation]:
        """Observe sweeps of a drive.

        Raises:
            InputError: the drive has no labels, or none that the vocabulary knows.
        """
        table = self._trained.run.vocabulary.label_table(dataset.name, dataset.label_names)
        for index in indices:
            sample = dataset[index]
            truth = true_classes(sample, table)
            taught = np.zeros(len(truth), np.bool_)
            views = tuple(self._look(sample, image, taught) for image in sample.images)
            yield Observation(sample, truth, self._labeller(sample.points), views, taught)

    def _look(self, sample: Sample, image: CameraImage, taught: NDArray[np.bool_]) -> CameraView:
        """One camera's view; notes what the teacher has a feature for."""
        trained = self._trained
        pairs = pair_points(sample.points, image, trained.run.settings.pairing)
        features = self._teacher(image)
        taught[pairs.point_indices[features.at(pairs.pixels).any(axis=1)]] = True
        found = self._opinions(features, image).at(pairs.pixels)
        return CameraView(pairs.point_indices, found.cosines, found.confidences)

    def _opinions(
        self, features: DenseFeatures, image: CameraImage
    ) -> TeacherOpinions | ClassOpinions:
        """Opinions on one image, those that the robot's image encoder would have."""
        if self._classes is None:
            trained = self._trained
            # the robot's encoder does not denoise
            features = features.dense if isinstance(features, DenoisedFeatures) else features
            return TeacherOpinions(features, trained.embedding_mean, trained.prompts)
        height, width = image.image.shape[:2]
        return ClassOpinions((height, width), *_class_maps(features, image), *self._classes)


def _class_maps(
    features: DenseFeatures, image: CameraImage
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Classes and confidences of a network that has them; taken as certain where not stated."""
    if isinstance(features, SegmentationFeatures):
        return most_likely(features.probabilities[0].clamp_min(TINY).log().numpy())
    assert image.class_map is not None  # the teacher has looked at it
    certain = np.full((1, 1), FULL_CONFIDENCE, np.uint8)
    return image.class_map, certain if image.confidence is None else image.confidence


def network_embeddings(trained: TrainedRun) -> NDArray[np.float32] | None:
    """Embeddings (L, C) of the classes of the run's 2D network, see `spoken_classes`.

    None where the teacher is a network without classes.
    """
    settings = trained.run.settings.teacher
    if not isinstance(settings, LabelMapSettings | OnnxSegmentationSettings):
        return None
    vocabulary = load_settings(trained.run.folder / TEACHER_VOCABULARY, Vocabulary)
    return spoken_classes(trained, vocabulary, settings.ignore_classes)


def labelled_training(trained: TrainedRun) -> list[Dataset]:
    """The training drives that have labels which the vocabulary knows.

    Raises:
        InputError: there is none.
    """
    drives = [dataset for dataset in trained.run.open_training() if dataset.label_names]
    if not drives:
        raise InputError(
            'no training drive has labels to fit the ensemble with',
            where=trained.run.folder,
            expected='labels of at least one drive under `train`; training itself never reads them',
            fix='leave ensemble.json out of the bundle: the robot then takes the word of the '
            'cameras where they see a point, and of the student elsewhere',
        )
    return drives


def check_held_out(fitted: Sequence[Dataset], other: Sequence[Dataset], where: str) -> None:
    """Refuse to fit the ensemble on sweeps that serve something else.

    Raises:
        InputError: names the first such sweep.
    """
    common = {name for drive in fitted for name in drive.sample_ids} & {
        name for drive in other for name in drive.sample_ids
    }
    if common:
        raise InputError(
            'a sweep to fit the ensemble on must not serve anything else',
            where=min(common),
            expected=f'not in `{where}`',
            fix='name other drives',
        )


def check_stand_in(run: Run, stand_in: Run) -> None:
    """Refuse a stand-in that differs in what the weights depend on.

    Raises:
        InputError: names the first difference.
    """
    for name in ('network', 'voxel', 'inputs', 'text', 'teacher', 'pairing'):
        expected, got = (getattr(entry.settings, name) for entry in (run, stand_in))
        if expected != got:
            raise InputError(
                f'the stand-in has other settings of `{name}`',
                where=stand_in.folder,
                expected=expected,
                got=got,
                fix='train it with the settings of the run, but for the drives',
            )
    if run.vocabulary != stand_in.vocabulary:
        raise InputError('the stand-in has another vocabulary', where=stand_in.folder)
