# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The 2D-3D ensemble: what student and cameras say of a point becomes one label.

An opinion of a camera is a distribution over the classes, flatter the less sure it is and the
older its image. All opinions, of all cameras, that fall into a voxel of the student are averaged:
what leaks over the outline of an object onto the ground behind is outvoted there. The student
votes with the class it gave, and its vote counts as much as it deserves: how often it says so
of points of each class was counted on a drive that it was not taught with. With both
independent given the true class y, Bayes' rule makes

    log p(y) = camera_weight * log p_camera(y) + student_weight * log P(said | y) + const

and the two weights, near 1 if that were true, are fitted. A class that the counts do not hold
gets the student's usual habits as its row, so that a student that is blind for it has no veto.

A point that the student sees and calls unknown stays so unless the fused probability is above
`UNKNOWN_FLOOR`. For it calls at most half of the points of a class unknown, the limit of the
parameter unknown_share, and by the same rule that alone doubles the odds against any class: the
camera's must be better than 2 to 1. Points outside the student's range were never judged, and
take the camera's class.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from reldistill_ros.cameras.poll import Decision, Poll, SpokenView, class_distributions
from reldistill_ros.core.bundle import Bundle
from reldistill_ros.core.settings import Settings, VoxelSettings, parse_settings
from reldistill_ros.core.unknown import same_prompts
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from reldistill_ros.core.zero_shot import Labels

ENSEMBLE = 'ensemble.json'
UNKNOWN_FLOOR = 2 / 3
Probability = Annotated[float, Field(gt=0, le=1)]


class StudentHabits(Settings):
    """How often the student says what.

    Attributes:
        class_names: K classes of the vocabulary it was counted with.
        said: (K, K), probability that it says the column's class of a point of the row's.
        overall: (K,) probability that it says a class of any point.
    """

    class_names: tuple[str, ...]
    said: tuple[tuple[Probability, ...], ...]
    overall: tuple[Probability, ...]

    @model_validator(mode='after')
    def _square(self) -> StudentHabits:
        size = len(self.class_names)
        if any(len(row) != size for row in (self.said, self.overall, *self.said)):
            raise ValueError(f'said must be {size} x {size} and overall {size} long')
        return self


class EnsembleSettings(Settings):
    """Content of `ensemble.json`; the defaults trust the cameras where they see a point.

    Attributes:
        temperature: of the softmax over a camera's class cosines.
        trust: factor of the confidence that a camera states.
        half_life: seconds after which an image's opinion is worth half of that. On PandaSet 001,
            opinions on what may move were right 12 % less often after 0.3 s.
        camera_weight: see the module.
        student_weight: see the module.
        student: None leaves the student out where a camera has an opinion.
        fitted_on: drives and number of points.
    """

    temperature: float = Field(default=0.05, gt=0)
    trust: float = Field(default=0.99, gt=0, lt=1)
    half_life: float = Field(default=1.5, gt=0)
    camera_weight: float = Field(default=1.0, gt=0)
    student_weight: float = Field(default=0.0, ge=0)
    student: StudentHabits | None = None
    fitted_on: str = 'nothing'


@dataclass(frozen=True, eq=False)
class CameraView:
    """What one camera says of the points it sees, in prompts and each for itself.

    Attributes:
        point_indices: (P,) rows of the sweep's points, none twice.
        cosines: (P, M) to each prompt.
        confidences: (P,) from 0 (no opinion) to 1.
        age: seconds between image and sweep, either way.
    """

    point_indices: NDArray[np.int64]
    cosines: NDArray[np.float32]
    confidences: NDArray[np.float32]
    age: float = 0.0


@dataclass(frozen=True, eq=False)
class Evidence:
    """What all cameras together say.

    Attributes:
        point_indices: (Q,) rows of the points that some camera sees, in voxels with an opinion.
        log_probabilities: (Q, K) over the classes.
    """

    point_indices: NDArray[np.int64]
    log_probabilities: NDArray[np.float64]


class Ensemble:
    """Fuses sweeps labelled with one set of words; to be made anew when these change.

    Args:
        settings: weights.
        vocabulary: the words in use, K classes.
        known: the vocabulary of the bundle, which `settings` was fitted with.
        voxel: the student's grid.
    """

    def __init__(
        self,
        settings: EnsembleSettings,
        vocabulary: Vocabulary,
        known: Vocabulary,
        voxel: VoxelSettings,
    ) -> None:
        self._settings, self._voxel = settings, voxel
        self._bounds, self._num_prompts = class_bounds(vocabulary), len(vocabulary.prompts)
        votes = settings.student_weight * student_votes(settings.student, vocabulary, known)
        self._decision = Decision(votes.astype(np.float32), settings.camera_weight, UNKNOWN_FLOOR)

    def __call__(
        self,
        points: NDArray[np.float32],
        labels: Labels,
        views: Sequence[SpokenView | CameraView],
    ) -> Labels:
        """Label the points again that cameras see; the others keep the student's label.

        Args:
            points: (N, >=3) in the lidar frame.
            labels: of the student, (N,); see the module for points that it has no class for.
            views: of any number of cameras, in any order; in terms of the same words.
        """
        if not any(len(view.point_indices) for view in views):
            return labels
        return self._poll(points, views).decide(labels, self._decision)

    def evidence(
        self, points: NDArray[np.float32], views: Sequence[SpokenView | CameraView]
    ) -> Evidence:
        """Average the opinions of all cameras in each voxel; see `__call__`."""
        seen, distributions = self._poll(points, views).distributions()
        return Evidence(seen, np.log(distributions))

    def spoken(self, table: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distributions (R, K) over the classes of a table (R, M) of `Opinions`."""
        return class_distributions(table, self._bounds, self._settings.temperature)

    def warm_up(self) -> None:
        """Compile the kernels, or load them, so that no sweep waits for it."""
        labels = Labels(np.zeros(1, np.uint8), np.ones(1, np.float32), np.zeros(1, np.float32))
        view = CameraView(
            np.zeros(1, np.int64),
            np.zeros((1, self._num_prompts), np.float32),
            labels.probabilities,
        )
        self(np.zeros((1, 4), np.float32), labels, [view])

    def _poll(self, points: NDArray[np.float32], views: Sequence[SpokenView | CameraView]) -> Poll:
        poll = Poll(points, self._voxel, len(self._bounds))
        for view in views:
            spoken = view if isinstance(view, SpokenView) else self._speak(view)
            poll.add(spoken, strength(view.age, self._settings))
        return poll

    def _speak(self, view: CameraView) -> SpokenView:
        num = len(view.point_indices)
        return SpokenView(
            view.point_indices,
            np.arange(num, dtype=np.int32)[:, None],
            np.ones((num, 1), np.float32),
            view.confidences,
            self.spoken(view.cosines),
            view.age,
        )


def open_ensemble(bundle: Bundle, vocabulary: Vocabulary) -> Ensemble:
    """The ensemble of a bundle for the words in use; raises what `load_ensemble_settings` does."""
    settings = load_ensemble_settings(bundle)
    return Ensemble(settings, vocabulary, bundle.vocabulary, bundle.manifest.voxel)


def load_ensemble_settings(bundle: Bundle) -> EnsembleSettings:
    """The weights of a bundle, or the usual ones where it carries none.

    Raises:
        InputError: `ensemble.json` is not the one that was exported, or not valid.
    """
    if not bundle.holds(ENSEMBLE):
        return EnsembleSettings()
    values = json.loads(bundle.read(ENSEMBLE))
    return parse_settings(values, EnsembleSettings, bundle.path / ENSEMBLE)


def distributions(
    view: CameraView, settings: EnsembleSettings, bounds: NDArray[np.int64]
) -> NDArray[np.float64]:
    """A camera's opinions over the classes: their softmax, mixed with ignorance.

    Args:
        view: P opinions.
        settings: how sure a camera may be.
        bounds: (K,), first prompt of each class.

    Returns:
        (P, K), rows sum to 1.
    """
    classes = class_distributions(view.cosines, bounds, settings.temperature)
    sure = view.confidences[:, None].astype(np.float64) * strength(view.age, settings)
    mixed: NDArray[np.float64] = sure * classes + (1 - sure) / len(bounds)
    return mixed


def strength(age: float, settings: EnsembleSettings) -> float:
    """Factor of the confidences of a camera whose image is so old, in seconds."""
    return float(settings.trust * 0.5 ** (age / settings.half_life))


def class_bounds(vocabulary: Vocabulary) -> NDArray[np.int64]:
    """(K,) first prompt of each class."""
    first: NDArray[np.int64] = np.flatnonzero(np.diff(vocabulary.prompt_classes, prepend=-1))
    return first


def student_votes(
    habits: StudentHabits | None, vocabulary: Vocabulary, known: Vocabulary
) -> NDArray[np.float64]:
    """(256, K): log probability that the student says the row's class of a point of the column's.

    Rows of classes that were not counted are zero: no vote.
    """
    votes = np.zeros((IGNORE_INDEX + 1, len(vocabulary.classes)))
    if habits is None:
        return votes
    same = same_prompts(vocabulary, known)
    index = {name: k for k, name in enumerate(habits.class_names) if name in same}
    for row, said in enumerate(vocabulary.class_names):
        if said in index:
            votes[row] = [
                habits.said[index[true]][index[said]]
                if true in index
                else habits.overall[index[said]]
                for true in vocabulary.class_names
            ]
    votes[votes > 0] = np.log(votes[votes > 0])
    return votes


def softmax(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Over the last axis, in float64."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True), dtype=np.float64)
    total: NDArray[np.float64] = shifted / shifted.sum(axis=-1, keepdims=True)
    return total
