# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Fits the weights of the 2D-3D ensemble on labelled drives that the student has not seen.

On the drives it was taught with, a student repeats what the cameras told it, mistakes included, and seems to
deserve more trust than it does. So the weights are those of a stand-in: a run with the same
settings that was not trained on these drives (out-of-fold predictions, Wolpert 1992). They are
those under which the true classes of the visible points are the most likely.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from reldistill_ros.cameras.ensemble import (
    CameraView,
    Ensemble,
    EnsembleSettings,
    StudentHabits,
    class_bounds,
    distributions,
    softmax,
    student_votes,
)
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from trainer.datasets.sample import Dataset
from trainer.ensemble_observations import Observation, Observer
from trainer.run import TrainedRun

NUM_SWEEPS = 20  # of each drive
FEWEST_POINTS = 1000  # that are labelled and visible
# Points of a class that count as much as what is usual: about what one object gives in a sweep.
PRIOR_POINTS = 1000
MOST_ROWS = 100_000


@dataclass(frozen=True, eq=False)
class Opinion:
    """Opinions on visible points whose class is known.

    Attributes:
        view: P of them, of all cameras and sweeps.
        truth: (P,) uint8.
    """

    view: CameraView
    truth: NDArray[np.uint8]


def fit_ensemble(
    trained: TrainedRun, datasets: Sequence[Dataset], *, with_student: bool
) -> EnsembleSettings:
    """Fit all weights.

    Args:
        trained: student and words; a stand-in where the student is to vote.
        datasets: labelled drives.
        with_student: whether the student votes where cameras have an opinion; it must not have
            been trained on these drives then.

    Raises:
        InputError: too few labelled points.
    """
    observer = Observer(trained)
    observations = [
        observation
        for dataset in datasets
        for observation in observer(dataset, _spread(len(dataset)))
    ]
    vocabulary = trained.run.vocabulary
    opinions = collect_opinions(observations)
    settings = fit_cameras(opinions, vocabulary)
    if with_student:
        habits = count_habits(observations, vocabulary)
        settings = settings.model_copy(update={'student': habits})
    camera_weight, student_weight = fit_weights(*_evidence(observations, trained, settings))
    return settings.model_copy(
        update={
            'camera_weight': camera_weight,
            'student_weight': student_weight if with_student else 0.0,
            'fitted_on': f'{len(opinions.truth)} visible points of {len(observations)} sweeps: '
            + ', '.join(sorted({o.sample.sample_id.rpartition('/')[0] for o in observations})),
        }
    )


def count_habits(observations: Sequence[Observation], vocabulary: Vocabulary) -> StudentHabits:
    """Count what the student says of labelled points, seen by a camera or not.

    Every row is smoothed with `PRIOR_POINTS` points of what the student says of any point, and a
    class that it hardly ever said gets no meaning: it is as likely in every row.
    """
    size = len(vocabulary.classes)
    counts = np.zeros((size, size))
    for observation in observations:
        said, truth = observation.student.class_ids, observation.truth
        used = (truth != IGNORE_INDEX) & (said != IGNORE_INDEX)
        np.add.at(counts, (truth[used], said[used]), 1)
    overall = (counts.sum(axis=0) + 1) / (counts.sum() + size)
    smoothed = (counts + PRIOR_POINTS * overall) / (counts.sum(axis=1)[:, None] + PRIOR_POINTS)
    rare = counts.sum(axis=0) < PRIOR_POINTS
    smoothed[:, rare] = overall[rare]
    return StudentHabits(
        class_names=vocabulary.class_names,
        said=tuple(tuple(row) for row in smoothed.tolist()),
        overall=tuple(overall.tolist()),
    )


def collect_opinions(observations: Sequence[Observation]) -> Opinion:
    """The opinions on labelled points, `MOST_ROWS` of them at most."""
    parts = []
    for observation in observations:
        for view in observation.views:
            truth = observation.truth[view.point_indices]
            used = (truth != IGNORE_INDEX) & (view.confidences > 0)
            parts.append((view.cosines[used], view.confidences[used], truth[used]))
    _check_number(sum(len(truth) for _, _, truth in parts))
    cosines, confidences, truth = (np.concatenate(column) for column in zip(*parts))
    rows = _spread(len(truth), MOST_ROWS)
    view = CameraView(np.arange(len(rows)), cosines[rows], confidences[rows])
    return Opinion(view, truth[rows])


def fit_cameras(opinions: Opinion, vocabulary: Vocabulary) -> EnsembleSettings:
    """Temperature and trust with which the cameras alone explain the true classes best."""
    bounds = class_bounds(vocabulary)

    def settings(x: NDArray[np.float64]) -> EnsembleSettings:
        trust = 1 / (1 + np.exp(-x[1]))
        return EnsembleSettings(temperature=float(np.exp(x[0])), trust=float(trust))

    def loss(x: NDArray[np.float64]) -> float:
        probabilities = distributions(opinions.view, settings(x), bounds)
        return _mean_surprise(probabilities, opinions.truth)

    return settings(_minimum(loss, [np.log(0.05), 4.0], [(-6, 1), (-3, 8)]))


def fit_weights(
    log_probabilities: NDArray[np.float64], votes: NDArray[np.float64], truth: NDArray[np.uint8]
) -> tuple[float, float]:
    """Weights of camera and student that explain the true classes best.

    Args:
        log_probabilities: (Q, K) of the cameras.
        votes: (Q, K), log P(what the student said | class).
        truth: (Q,).
    """

    def loss(weights: NDArray[np.float64]) -> float:
        scores = weights[0] * log_probabilities + weights[1] * votes
        return _mean_surprise(softmax(scores), truth)

    camera, student = _minimum(loss, [1.0, 0.5], [(0.01, 10), (0, 10)]).tolist()
    return camera, student


def _evidence(
    observations: Sequence[Observation], trained: TrainedRun, settings: EnsembleSettings
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint8]]:
    """The arguments of `fit_weights`, `MOST_ROWS` rows at most."""
    vocabulary = trained.run.vocabulary
    ensemble = Ensemble(settings, vocabulary, vocabulary, trained.run.settings.voxel)
    votes = student_votes(settings.student, vocabulary, vocabulary)
    parts = []
    for observation in observations:
        evidence = ensemble.evidence(observation.sample.points, observation.views)
        truth = observation.truth[evidence.point_indices]
        used = truth != IGNORE_INDEX
        said = observation.student.class_ids[evidence.point_indices]
        parts.append((evidence.log_probabilities[used], votes[said[used]], truth[used]))
    log_probabilities, said_votes, truth = (np.concatenate(column) for column in zip(*parts))
    rows = _spread(len(truth), MOST_ROWS)
    return log_probabilities[rows], said_votes[rows], truth[rows]


def _mean_surprise(probabilities: NDArray[np.float64], truth: NDArray[np.uint8]) -> float:
    """Mean negative log likelihood in nats."""
    true = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(true, np.finfo(np.float64).tiny)).mean())


def _minimum(
    loss: Callable[[NDArray[np.float64]], float],
    start: Sequence[float],
    bounds: Sequence[tuple[float, float]],
) -> NDArray[np.float64]:
    found: NDArray[np.float64] = minimize(loss, start, method='Nelder-Mead', bounds=bounds).x
    return found


def _spread(num: int, most: int = NUM_SWEEPS) -> list[int]:
    """At most so many of `num` indices, evenly spread."""
    chosen = np.unique(np.linspace(0, num - 1, min(most, num)).astype(int))
    return [int(index) for index in chosen]


def _check_number(num: int) -> None:
    if num < FEWEST_POINTS:
        raise InputError(
            'too few labelled points that a camera has an opinion on to fit the ensemble with',
            expected=f'at least {FEWEST_POINTS}',
            got=num,
            fix='name more labelled drives under `evaluate` of the stand-in',
        )
