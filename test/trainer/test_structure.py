# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The structural gap: measures with known values, the fixed sample, and what is written."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_drive import LabelledDrive
from torch.nn.functional import normalize

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from trainer.datasets.kitti_raw import KittiRaw
from trainer.losses import relational_terms
from trainer.structure import measures, structure
from trainer.structure.groups import Groups, group_points
from trainer.structure.measures import (
    MEASURES,
    alignment,
    cross_gap,
    intra_gap,
    linear_cka,
    measure_structure,
    modality_gap,
    tolerance,
    uniformity,
)
from trainer.structure.sample import FeatureSampler, MatchedFeatures
from trainer.structure.structure import examine

SEEDS = st.integers(0, 2**32 - 1)
CROSS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])  # on the circle


def unit(seed, num=20, size=6):
    return normalize(torch.randn(num, size, generator=torch.Generator().manual_seed(seed)), dim=1)


def rotation(seed, size=6):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=generator)).Q


@given(SEEDS)
def test_equal_spaces_have_no_gap(seed):
    features = unit(seed)
    found = measure_structure(features, features.clone(), np.zeros(20, np.uint8))
    assert tuple(found) == MEASURES
    zero = ('modality_gap', 'alignment', 'uniformity_difference', 'cross_gap', 'intra_gap')
    assert [found[name] for name in zero] == pytest.approx([0] * 5, abs=1e-6)
    assert found['linear_cka'] == pytest.approx(1)
    assert found['tolerance_2d'] == found['tolerance_3d']


@given(SEEDS)
def test_a_rotated_student_keeps_its_relations_and_loses_the_teachers_place(seed):
    teacher = unit(seed)
    student = teacher @ rotation(seed + 1)
    labels = (np.arange(20) % 3).astype(np.uint8)
    assert intra_gap(student, teacher) == pytest.approx(0, abs=1e-6)
    assert linear_cka(student, teacher) == pytest.approx(1, abs=1e-6)
    assert uniformity(student) == pytest.approx(uniformity(teacher), abs=1e-5)
    assert tolerance(student, labels) == pytest.approx(tolerance(teacher, labels), abs=1e-6)
    assert cross_gap(student, teacher) > 0.01
    assert alignment(student, teacher) > 0.01


@given(SEEDS)
def test_measures_do_not_depend_on_the_order_of_the_points(seed):
    teacher, student = unit(seed), unit(seed + 1)
    labels = (np.arange(20) % 3).astype(np.uint8)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    shuffled = measure_structure(student[order], teacher[order], labels[order.numpy()])
    assert shuffled == pytest.approx(measure_structure(student, teacher, labels), abs=1e-5)


@given(SEEDS)
def test_relational_gaps_are_the_terms_of_the_relational_loss(seed):
    student, teacher = unit(seed), unit(seed + 1)
    terms = relational_terms(student, teacher)
    assert cross_gap(student, teacher) == pytest.approx(terms.cross_off_diagonal.item(), abs=1e-6)
    assert intra_gap(student, teacher) == pytest.approx(terms.intra.item(), abs=1e-6)
    assert alignment(student, teacher) == pytest.approx(2 * terms.cross_diagonal.item(), abs=1e-5)


@pytest.mark.parametrize('measure', [cross_gap, intra_gap, lambda k, q: uniformity(k)])
def test_blocks_of_rows_do_not_change_a_measure(measure, monkeypatch):
    student, teacher = unit(0), unit(1)
    whole = measure(student, teacher)
    for block in (1, 7, 20):
        monkeypatch.setattr(measures, 'BLOCK', block)
        assert measure(student, teacher) == pytest.approx(whole, abs=1e-6)


def test_uniformity_of_known_sets():
    assert uniformity(CROSS[[0, 2]]) == pytest.approx(-8)  # antipodes: exp(-2 * 2^2)
    assert uniformity(CROSS[[0, 0, 0]]) == pytest.approx(0)
    expected = np.log((8 * np.exp(-4) + 4 * np.exp(-8)) / 12)  # of twelve ordered pairs
    assert uniformity(CROSS) == pytest.approx(expected, abs=1e-6)


def test_gap_and_alignment_of_opposite_spaces():
    student, teacher = CROSS[[0, 0]], CROSS[[2, 2]]
    assert modality_gap(student, teacher) == pytest.approx(2)
    assert alignment(student, teacher) == pytest.approx(4)
    assert modality_gap(CROSS, CROSS[[1, 2, 3, 0]]) == pytest.approx(0, abs=1e-7)


def test_relational_gaps_of_a_collapsed_student():
    collapsed = CROSS[[0, 0, 0, 0]]
    # |k_i k_j - q_i q_j|: 1 for the 8 pairs at right angles, 2 for the 4 opposite ones
    assert intra_gap(collapsed, CROSS) == pytest.approx(16 / 12)


def test_cka_of_unrelated_scaled_and_constant_spaces():
    assert linear_cka(CROSS[[0, 2, 0, 2]], CROSS[[0, 0, 2, 2]]) == pytest.approx(0, abs=1e-7)
    assert linear_cka(CROSS * 3, CROSS) == pytest.approx(1)
    assert np.isnan(linear_cka(unit(0)[[0] * 20], unit(1)))


@given(SEEDS, st.lists(st.sampled_from([0, 1, 2, IGNORE_INDEX]), min_size=2, max_size=20))
def test_tolerance_is_the_mean_cosine_of_all_pairs_of_a_class(seed, labels):
    features = unit(seed, len(labels))
    cosines = (features @ features.T).numpy()
    pairs = [
        cosines[i, j]
        for i, one in enumerate(labels)
        for j, other in enumerate(labels)
        if i != j and one == other != IGNORE_INDEX
    ]
    expected = np.mean(pairs) if pairs else np.nan
    found = tolerance(features, np.array(labels, np.uint8))
    assert found == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_one_point_has_no_relations():
    found = measure_structure(unit(0, 1), unit(1, 1), np.zeros(1, np.uint8))
    defined = {name for name, value in found.items() if not np.isnan(value)}
    assert defined == {'modality_gap', 'alignment'}


# --- the sample --------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def drive(trained):
    return KittiRaw(trained.run.settings.train[0], trained.run.data_root)


def sample(trained, student, dataset):
    teacher = trained.run.build_teacher(trained.encoder)
    return FeatureSampler(trained.run, student, teacher, trained.embedding_mean).sample([dataset])


def test_the_sample_holds_the_features_that_label_the_points(trained, drive):
    features = sample(trained, trained.student, LabelledDrive(drive))
    assert len(features) > 500
    for rows in (features.student, features.teacher):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        named = (rows @ trained.prompts.T).argmax(axis=1)
        assert np.mean(named == features.labels) > 0.8


def test_all_students_of_a_teacher_are_measured_on_the_same_points(trained, drive):
    untrained = trained.run.new_student(trained.encoder.embedding_size).eval()
    one = sample(trained, trained.student, LabelledDrive(drive))
    other = sample(trained, untrained, LabelledDrive(drive))
    np.testing.assert_array_equal(one.teacher, other.teacher)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert np.abs(one.student - other.student).max() > 0.1


def test_points_are_drawn_once_per_voxel_and_no_more_than_asked_for(trained, drive, monkeypatch):
    def count(num):
        monkeypatch.setattr('trainer.structure.sample.NUM_PAIRS', num)
        return len(sample(trained, trained.student, drive))

    assert count(50) == 50
    assert count(10**6) < 5 * 1200  # several points share a voxel


def test_sweeps_without_images_are_an_error(trained, drive):
    class Blind(LabelledDrive):
        def __getitem__(self, index):
            return replace(drive[index], images=())

    with pytest.raises(InputError, match=r'(?s)no lidar point.*drive/0'):
        sample(trained, trained.student, Blind(drive))


# --- what is written ---------------------------------------------------------------------------


@pytest.fixture
def few_points(monkeypatch):
    """t-SNE of many points takes long."""
    monkeypatch.setattr('trainer.structure.pictures.MAX_POINTS', 60)


@pytest.mark.usefixtures('few_points')
def test_measures_and_pictures_are_written_and_the_tolerance_needs_labels(
    trained, drive, tmp_path
):
    labelled = examine(trained.run, [LabelledDrive(drive)], tmp_path / 'labelled')
    plain = examine(trained.run, [drive], tmp_path / 'plain')
    for name, found in (('labelled', labelled), ('plain', plain)):
        assert json.loads((tmp_path / name / 'structure.json').read_text()) == found
        assert set(found) == {*MEASURES, 'pairs', 'labelled_pairs', 'seed'}
        for picture in ('relations', 'embedding'):
            assert (tmp_path / name / f'{picture}.png').stat().st_size > 20000
    without = {'tolerance_2d': None, 'tolerance_3d': None, 'labelled_pairs': 0}
    assert plain == labelled | without
    assert labelled['tolerance_3d'] > 0.5
    assert labelled['linear_cka'] > 0.3
    assert labelled['pairs'] == labelled['labelled_pairs']


@pytest.mark.usefixtures('few_points')
def test_the_command_samples_the_drives_that_are_asked_for(trained, tmp_path, monkeypatch, capsys):
    command = ['structure', str(trained.run.folder), '--out', str(tmp_path / 'out')]
    monkeypatch.setattr(sys, 'argv', command)
    with pytest.raises(InputError, match='names no drive to evaluate on'):
        structure.main()
    monkeypatch.setattr(sys, 'argv', [*command, '--drives', 'train'])
    structure.main()
    assert json.loads(capsys.readouterr().out)['labelled_pairs'] == 0


def matched(teacher, labels=None):
    nothing = np.full(len(teacher), IGNORE_INDEX, np.uint8)
    return MatchedFeatures(teacher, teacher, nothing if labels is None else labels)


def vocabulary():
    classes = [{'name': name, 'color': (10 * k, 0, 0)} for k, name in enumerate('abc')]
    return Vocabulary(version=1, name='abc', classes=classes)


def test_points_are_grouped_by_true_class_else_by_the_teachers_class_else_by_its_cluster():
    teacher = np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]
    labels = np.array([2, 1, IGNORE_INDEX, 0], np.uint8)
    prompts = np.eye(3, dtype=np.float32)
    true = group_points(matched(teacher, labels), vocabulary(), prompts)
    said = group_points(matched(teacher), vocabulary(), prompts)
    clusters = group_points(matched(teacher), vocabulary(), None)
    assert (true.title, true.ids.tolist()) == ('true class', labels.tolist())
    assert (said.title, said.ids.tolist()) == ("teacher's class", [0, 1, 1, 2])
    assert said.names == tuple('abc')
    assert clusters.names == ('cluster 1', 'cluster 2', 'cluster 3')
    assert clusters.ids[1] == clusters.ids[2]
    assert len(set(clusters.ids)) == 3


def test_a_picture_holds_as_many_points_of_each_group_as_there_are():
    ids = np.array([1] * 50 + [0] * 3 + [IGNORE_INDEX] * 9 + [2] * 50, np.uint8)
    groups = Groups('class', ids, tuple('abc'), np.zeros((3, 3)))
    assert np.bincount(ids[groups.pick(30)]).tolist() == [3, 10, 10]
    assert (np.diff(ids[groups.pick(30)].astype(int)) >= 0).all()
