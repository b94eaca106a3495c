# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A drive in memory with the labels of the small scene, for tests of the protocols."""

from __future__ import annotations

import numpy as np
from tiny_drive import WORDS, scene

from trainer.datasets.sample import Sample


class LabelledDrive:
    """Implements `Dataset`; its sweeps are other ones than those of the small drive on disk."""

    name = 'tiny'
    label_names = WORDS
    intensity_max = 1.0

    def __init__(self, num_sweeps=4, first=100):
        self._seeds = range(first, first + num_sweeps)
        self.sample_ids = tuple(f'drive/{seed}' for seed in self._seeds)

    def __len__(self):
        return len(self._seeds)

    def __getitem__(self, index):
        points, labels = scene(np.random.default_rng(self._seeds[index]))
        times = np.zeros(len(points), np.float32)
        return Sample(self.sample_ids[index], index, points, times, (), labels)
