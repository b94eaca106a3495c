# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the points of a sample are grouped by in pictures: classes, or else clusters."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import import_extra
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from reldistill_ros.core.zero_shot import label_cosines
from trainer.structure.sample import SEED, MatchedFeatures

NUM_CLUSTERS = 8


@dataclass(frozen=True)
class Groups:
    """Groups of points.

    Attributes:
        title: what a group is.
        ids: (N,) uint8, group of each point, 255 for none.
        names: of the groups.
        colors: (G, 3) RGB from 0 to 1.
    """

    title: str
    ids: NDArray[np.uint8]
    names: tuple[str, ...]
    colors: NDArray[np.float64]

    def pick(self, num: int) -> NDArray[np.int64]:
        """Rows of at most `num` points in all, group after group, as many of each as there are.

        In proportion, the street would fill the picture.
        """
        present = np.unique(self.ids[self.ids != IGNORE_INDEX])
        share = max(num // max(len(present), 1), 1)
        rows = [np.flatnonzero(self.ids == group)[:share] for group in present[:num]]
        return np.concatenate([np.zeros(0, np.int64), *rows])


def group_points(
    features: MatchedFeatures, vocabulary: Vocabulary, prompts: NDArray[np.float32] | None
) -> Groups:
    """Group points by their true class, or by the class or cluster that the teacher gives them.

    Args:
        features: sampled points.
        vocabulary: names and colours of the classes.
        prompts: (M, C) unit rows, centred; None where the teacher knows no words.
    """
    names, colors = vocabulary.class_names, vocabulary.colors / 255
    if np.any(features.labels != IGNORE_INDEX):
        return Groups('true class', features.labels, names, colors)
    if prompts is None:
        return _cluster(features.teacher)
    classes = label_cosines(features.teacher @ prompts.T, vocabulary.prompt_classes, 1.0)
    return Groups("teacher's class", classes.class_ids, names, colors)


def _cluster(teacher: NDArray[np.float32]) -> Groups:
    num = min(NUM_CLUSTERS, len(np.unique(teacher, axis=0)))
    kmeans = import_extra('sklearn.cluster', 'train').KMeans(num, n_init=4, random_state=SEED)
    names = tuple(f'cluster {number + 1}' for number in range(num))
    colors = matplotlib.colormaps['tab10'](np.arange(num))[:, :3]
    return Groups("teacher's cluster", kmeans.fit_predict(teacher).astype(np.uint8), names, colors)
