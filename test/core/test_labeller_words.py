# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Words change between two sweeps and never within one; what is unusual is unknown."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.prompts import unit_rows
from reldistill_ros.core.settings import InputSettings, VoxelSettings
from reldistill_ros.core.unknown import Calibration, never_unknown, unknown_thresholds
from reldistill_ros.core.vocabulary import Vocabulary
from reldistill_ros.core.zero_shot import ProjectionHead, label_cosines
from reldistill_ros.labeller import Labeller
from reldistill_ros.words.words import Words

SIZE, WIDTH = 12, 16


def backend(feats, maps):
    """Features that depend on the point and on nothing else."""
    mix = np.random.default_rng(1).normal(size=(feats.shape[1], WIDTH)).astype(np.float32)
    return np.sin(feats @ mix)


def vocabulary_of(num, prefix='class', templates=('{}',)):
    classes = [{'name': f'{prefix} {k}', 'color': (k % 256, 0, 0)} for k in range(num)]
    return Vocabulary.model_validate(
        {'version': 1, 'name': 'any', 'classes': tuple(classes), 'templates': templates}
    )


def make_words(num, seed=0):
    vocabulary = vocabulary_of(num)
    rows = unit_rows(np.random.default_rng(seed).normal(size=(num, SIZE)))
    return Words(vocabulary, rows, never_unknown(vocabulary), f'{num} {seed}')


def make_labeller(words):
    rng = np.random.default_rng(0)
    head = ProjectionHead(
        rng.normal(size=(SIZE, WIDTH)).astype(np.float32),
        rng.normal(size=SIZE).astype(np.float32),
    )
    voxel = VoxelSettings(voxel_size=0.5, point_cloud_range=(-10, -10, -3, 10, 10, 3))
    return Labeller(
        backend, head, words, voxel=voxel, inputs=InputSettings(), temperature=0.1, num_threads=1
    )


@pytest.fixture(scope='module')
def points():
    rng = np.random.default_rng(0)
    return (rng.uniform(-1, 1, (800, 4)) * [11, 11, 3, 0.5] + [0, 0, 0, 0.5]).astype(np.float32)


def test_folded_words_label_as_a_labeller_that_began_with_them(points):
    first, other = make_words(3), make_words(200, seed=1)
    labeller = make_labeller(first)
    before = labeller.label(points)
    prepared = labeller.fold(other)
    assert labeller.words is first  # folding alone changes nothing
    labeller.use(prepared)
    after = labeller.label(points)
    expected = make_labeller(other)(points)
    for name in ('class_ids', 'probabilities', 'entropies'):
        assert np.array_equal(getattr(after.labels, name), getattr(expected, name), equal_nan=True)
    assert (before.words, after.words) == (first, other)
    assert (labeller.vocabulary, labeller.revision) == (other.vocabulary, '200 1')
    known = after.labels.class_ids != 255
    assert len(np.unique(after.labels.class_ids[known])) > 3


def test_the_labels_of_every_sweep_belong_to_its_words_while_they_change(points):
    choices = [make_words(num, seed=num) for num in (1, 2, 40, 255)]
    expected = {w.revision: make_labeller(w)(points).class_ids for w in choices}
    labeller = make_labeller(choices[0])
    sweeps, failures, done = [], [], threading.Event()

    def label():
        try:
            while not done.is_set():
                sweeps.append(labeller.label(points))
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=label)
    thread.start()
    rng = np.random.default_rng(0)
    seen = set()
    while (len(sweeps) < 150 or len(seen) < len(choices)) and not failures:
        labeller.use(labeller.fold(choices[rng.integers(len(choices))]))
        seen = {sweep.words.revision for sweep in sweeps[:]}
    done.set()
    thread.join()
    assert failures == []
    for sweep in sweeps:
        assert np.array_equal(sweep.labels.class_ids, expected[sweep.words.revision])


def test_words_of_another_text_space_are_refused():
    labeller = make_labeller(make_words(3))
    for rows in (np.ones((3, SIZE + 1), np.float32), np.ones((2, SIZE), np.float32)):
        with pytest.raises(InputError, match=r'(?s)do not fit the model.*\(3, 12\)'):
            labeller.fold(replace(make_words(3), prompt_embeddings=rows))


def test_points_below_the_threshold_of_their_class_are_unlabelled(points):
    words = make_words(4)
    labels = make_labeller(words)(points)
    one = int(np.bincount(labels.class_ids[labels.class_ids < 4]).argmax())
    thresholds = never_unknown(words.vocabulary)
    thresholds[one] = 2.0
    got = make_labeller(replace(words, thresholds=thresholds))(points)
    gone = labels.class_ids == one
    assert gone.any()
    assert (got.class_ids[gone] == 255).all()
    assert (got.probabilities[gone] == 0).all()
    assert np.isnan(got.entropies[gone]).all()
    assert np.array_equal(got.class_ids[~gone], labels.class_ids[~gone])
    assert np.array_equal(got.probabilities[~gone], labels.probabilities[~gone])


def test_a_cosine_at_the_threshold_is_known():
    cosines = np.float32([[0.5, 0.1], [0.49, 0.1], [0.1, 0.2]])
    labels = label_cosines(cosines, np.arange(2), 0.1, np.float32([0.5, -np.inf]))
    assert labels.class_ids.tolist() == [0, 255, 1]


CALIBRATION = Calibration(
    shares=(0.0, 0.1, 0.5),
    overall=(0.0, 0.2, 0.4),
    classes={'class 0': (0.5, 0.6, 0.9), 'class 1': (0.1, 0.3, 0.5)},
    num_points=1000,
)


def test_a_class_has_its_own_quantile_and_new_words_have_that_of_all_points():
    known = vocabulary_of(3)
    got = unknown_thresholds(known, known, CALIBRATION, 0.1)
    np.testing.assert_allclose(got, [0.6, 0.3, 0.2], atol=1e-6)
    other = Vocabulary.model_validate(
        {
            'version': 1,
            'name': 'other',
            'classes': (
                {'name': 'class 1', 'color': (0, 0, 0)},
                {'name': 'new', 'color': (0, 0, 0)},
                {'name': 'class 0', 'prompts': ('another word',), 'color': (0, 0, 0)},
            ),
        }
    )
    got = unknown_thresholds(other, known, CALIBRATION, 0.05)
    np.testing.assert_allclose(got, [0.2, 0.1, 0.1], atol=1e-6)


def test_other_templates_make_other_words():
    known, other = vocabulary_of(2), vocabulary_of(2, templates=('a {}',))
    np.testing.assert_allclose(unknown_thresholds(other, known, CALIBRATION, 0.1), 0.2, atol=1e-6)


@pytest.mark.parametrize('share', [-0.1, 0.6, float('nan')])
def test_a_share_that_was_not_measured_is_refused(share):
    known = vocabulary_of(2)
    with pytest.raises(InputError, match=r'(?s)out of range.*0\.0 to 0\.5'):
        unknown_thresholds(known, known, CALIBRATION, share)


@pytest.mark.parametrize(
    'changes',
    [{'overall': (0.1,)}, {'shares': (0.5, 0.1, 0.0)}, {'classes': {'a': (1.0, 1.0, 3.0)}}],
)
def test_a_calibration_that_does_not_hold_together_is_refused(changes):
    with pytest.raises(ValueError, match=r'needs 3 cosines|must ascend|less than or equal'):
        Calibration.model_validate({**CALIBRATION.model_dump(), **changes})
