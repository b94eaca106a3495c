# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""segment_node with a labeller that needs no model: the height decides, in whole metres."""

from __future__ import annotations

import os
import time

import numpy as np

from reldistill_ros.core.errors import run_command
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary, VocabularyClass
from reldistill_ros.core.zero_shot import Labels


class HeightLabeller:
    """Class = floor(z) where 0 <= z < 3, else unlabelled; takes `delay` seconds."""

    intensity_max = 255.0
    revision = 'fake'
    vocabulary = Vocabulary(
        version=1,
        name='heights',
        classes=tuple(
            VocabularyClass(name=name, color=(10 * index, 20 * index, 30 * index))
            for index, name in enumerate(('low', 'middle', 'high'))
        ),
    )

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.calls = 0

    def __call__(self, points):
        self.calls += 1
        time.sleep(self.delay if self.calls > 1 else 0)  # not at the warm-up
        if len(points) and points[0, 0] == 666:
            raise RuntimeError('the engine broke')
        z = points[:, 2]
        inside = np.isfinite(points).all(axis=1) & (z >= 0) & (z < 3)
        class_ids = np.where(inside, np.where(inside, z, 0), IGNORE_INDEX).astype(np.uint8)
        probabilities = np.where(inside, 0.75, 0.0).astype(np.float32)
        entropies = np.where(inside, points[:, 3], np.nan).astype(np.float32)
        return Labels(class_ids, probabilities, entropies)


if __name__ == '__main__':
    from reldistill_ros.segment_node import main

    delay = float(os.environ.get('FAKE_NODE_DELAY', '0'))
    run_command(lambda: main(lambda settings: HeightLabeller(delay)))
