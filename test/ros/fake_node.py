# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""segment_node with a labeller that needs no model: the height decides, in whole metres."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.settings import VoxelSettings
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary, VocabularyClass
from reldistill_ros.core.zero_shot import Labels

HEIGHTS = Vocabulary(
    version=1,
    name='heights',
    classes=tuple(
        VocabularyClass(name=name, color=(10 * index, 20 * index, 30 * index))
        for index, name in enumerate(('low', 'middle', 'high'))
    ),
)

VOXEL = VoxelSettings(voxel_size=0.5, point_cloud_range=(-20, -20, -5, 20, 20, 5))


@dataclass(frozen=True)
class FakeWords:
    vocabulary: Vocabulary
    revision: str

    @cached_property
    def prompt_embeddings(self):
        return np.eye(len(self.vocabulary.prompts), dtype=np.float32)


@dataclass(frozen=True)
class FakeSweep:
    labels: Labels
    words: FakeWords


class HeightLabeller:
    """Class = floor(z) where 0 <= z < number of classes, else unlabelled; takes `delay` seconds.

    The x of the first point plays tricks: 666 raises, 667 hangs for a minute.
    """

    intensity_max = 255.0
    revision = 'fake'
    vocabulary = HEIGHTS

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.calls = 0
        self.words = FakeWords(HEIGHTS, 'fake')

    def fold(self, words):
        return words

    def use(self, prepared):
        self.words = prepared

    def __call__(self, points):
        return self.label(points).labels

    def label(self, points):
        words = self.words
        self.calls += 1
        time.sleep(self.delay if self.calls > 1 else 0)  # not at the warm-up
        if len(points) and points[0, 0] == 666:
            raise RuntimeError('the engine broke')
        if len(points) and points[0, 0] == 667:
            time.sleep(60)
        z = points[:, 2]
        inside = np.isfinite(points).all(axis=1) & (z >= 0) & (z < len(words.vocabulary.classes))
        class_ids = np.where(inside, np.where(inside, z, 0), IGNORE_INDEX).astype(np.uint8)
        probabilities = np.where(inside, 0.75, 0.0).astype(np.float32)
        entropies = np.where(inside, points[:, 3], np.nan).astype(np.float32)
        return FakeSweep(Labels(class_ids, probabilities, entropies), words)


class FakeEncoder:
    """Words whose revision are their names; knows no 'gibberish', and takes `delay` seconds."""

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.encoded: list[Vocabulary] = []

    def __call__(self, vocabulary, unknown_share):
        time.sleep(self.delay)
        self.encoded.append(vocabulary)
        if 'gibberish' in vocabulary.prompts:
            raise InputError('the text encoder does not know a word', where="'gibberish'")
        return FakeWords(vocabulary, json.dumps(vocabulary.class_names))


class FakeSource:
    """A model made of fakes."""

    def __init__(self, labeller, encoder=None, image_encoder=lambda: None):
        self._labeller, self._encoder = labeller, encoder or FakeEncoder()
        self._image_encoder = image_encoder

    def labeller(self, settings):
        return self._labeller

    def text_encoder(self):
        return self._encoder

    def image_encoder(self):
        return self._image_encoder()

    def ensemble(self, vocabulary):
        from reldistill_ros.cameras.ensemble import Ensemble, EnsembleSettings

        return Ensemble(EnsembleSettings(), vocabulary, HEIGHTS, VOXEL)


def load_for(seconds: float) -> HeightLabeller:
    """A model that takes long to load, in a call that no signal interrupts."""
    if seconds:
        print('loading', flush=True)
    time.sleep(seconds)
    return HeightLabeller(float(os.environ.get('FAKE_NODE_DELAY', '0')))


if __name__ == '__main__':
    from reldistill_ros.segment_node import main

    loading = float(os.environ.get('FAKE_NODE_LOADING', '0'))
    run_command(lambda: main(lambda settings: FakeSource(load_for(loading))))
