# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Linear probe and few-shot fine-tuning on a student that has learnt the small drive."""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_drive import LabelledDrive
from tiny_drive import WORDS
from torch import nn

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import load_settings, parse_settings
from reldistill_ros.core.vocabulary import IGNORE_INDEX
from trainer import few_shot
from trainer.classifier import Segmenter, fine_tune, train_probe
from trainer.few_shot_settings import ProtocolSettings
from trainer.labelled_sweeps import LabelledSweeps, load_labelled, vote_classes
from trainer.splits import Split

PROBE = {
    'name': 'linear_probe',
    'kind': 'linear_probe',
    'vocabulary': 'tiny.yaml',
    'train': [{'format': 'pandaset', 'path': 'train'}],
    'evaluate': [{'format': 'pandaset', 'path': 'held_out'}],
    'epochs': 10,
    'batch_size': 1,
    'head_lr': 0.02,
}
TUNE = {**PROBE, 'name': 'few_shot', 'kind': 'fine_tune', 'epochs': 3, 'lr': 0.002}


@pytest.fixture(autouse=True)
def drives(monkeypatch):
    """The drives of every protocol here: four sweeps to learn from, four others to be scored on."""
    opened = {'train': LabelledDrive(first=100), 'held_out': LabelledDrive(first=200)}
    monkeypatch.setattr(few_shot, 'open_dataset', lambda entry, _: opened[str(entry.path)])
    return opened


def protocol(values, **changes):
    return parse_settings({**values, **changes}, ProtocolSettings, 'here')


def parts(trained, values, **changes):
    """Student, classifier, sweeps and protocol, ready to be trained."""
    wanted = protocol(values, **changes)
    sweeps = few_shot.open_sweeps(trained.run, wanted, trained.run.vocabulary)
    student = few_shot.start_student(trained.run, wanted)
    return student, nn.Linear(student.head.in_features, len(WORDS)), sweeps, wanted


def test_a_probe_scores_all_labelled_points_of_other_sweeps(trained, tmp_path):
    metrics = few_shot.few_shot(trained.run, protocol(PROBE), tmp_path)
    assert metrics == json.loads((tmp_path / 'metrics.json').read_text())
    assert metrics['accuracy'] > 0.8
    assert metrics['miou'] == pytest.approx(np.mean(list(metrics['iou'].values())))
    assert set(metrics['iou']) == set(WORDS)
    assert metrics['points'] == metrics['labelled_points'] == 4 * 1200
    assert metrics['labelled_points_by_class'] == dict.fromkeys(WORDS, 4 * 400)
    assert (metrics['protocol'], metrics['split']) == ('linear_probe', None)
    assert load_settings(tmp_path / 'settings.yaml', ProtocolSettings) == protocol(PROBE)
    assert len((tmp_path / 'metrics.jsonl').read_text().splitlines()) == 10 * 4
    assert (tmp_path / 'confusion.png').is_file()


def test_a_probe_leaves_the_student_as_it_is(trained):
    student, classifier, sweeps, wanted = parts(trained, PROBE)
    before = deepcopy(student.state_dict())
    first, *_, last = (step['loss'] for step in train_probe(student, classifier, sweeps, wanted))
    assert last < first / 2
    after = student.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_probe_does_not_depend_on_the_scale_of_the_features(trained):
    """The last block ends in relu(y + shortcut), so its norms scale the features."""
    labels = []
    for factor in (1, 10):
        student, classifier, sweeps, wanted = parts(trained, PROBE)
        block = student.backbone.decoders[-1].blocks[-1]
        with torch.no_grad():
            for norm in (block.conv2.norm, block.shortcut.norm):
                norm.weight *= factor
                norm.bias *= factor
        list(train_probe(student, classifier, sweeps, wanted))
        points = LabelledDrive()[0].points
        labels.append(Segmenter(student, classifier, trained.run.settings)(points))
    assert (labels[0] == labels[1]).mean() > 0.999


def test_fine_tuning_moves_backbone_and_classifier(trained, tmp_path):
    student, classifier, sweeps, wanted = parts(trained, TUNE)
    kernel, weight = student.backbone.stem1.kernel.clone(), classifier.weight.clone()
    first, *_, last = (step['loss'] for step in fine_tune(student, classifier, sweeps, wanted))
    assert last < first
    assert not torch.equal(kernel, student.backbone.stem1.kernel)
    assert not torch.equal(weight, classifier.weight)


def test_the_learning_rates_of_backbone_and_classifier_are_their_own(trained):
    student, classifier, sweeps, wanted = parts(trained, TUNE, lr=1e-12, head_lr=0.1)
    kernel, weight = student.backbone.stem1.kernel.clone(), classifier.weight.clone()
    list(fine_tune(student, classifier, sweeps, wanted))
    assert torch.allclose(kernel, student.backbone.stem1.kernel, atol=1e-9)
    assert (classifier.weight - weight).abs().max() > 0.05


def test_the_same_seed_gives_the_same_result(trained, tmp_path):
    one, other = (
        few_shot.few_shot(trained.run, protocol(TUNE, epochs=1), tmp_path / name)
        for name in ('one', 'other')
    )
    assert one == other


def test_from_scratch_the_student_starts_as_it_was_before_it_was_distilled(trained):
    distilled = few_shot.start_student(trained.run, protocol(TUNE)).backbone
    scratch = few_shot.start_student(trained.run, protocol(TUNE, init='scratch')).backbone
    fresh = trained.run.new_student(16).backbone
    assert torch.equal(distilled.stem1.kernel, trained.student.backbone.stem1.kernel)
    assert torch.equal(scratch.stem1.kernel, fresh.stem1.kernel)
    assert not torch.equal(scratch.stem1.kernel, distilled.stem1.kernel)


def test_the_command_writes_the_baseline_from_scratch(trained, tmp_path, monkeypatch, capsys):
    (tmp_path / 'few.yaml').write_text(yaml.safe_dump({**TUNE, 'epochs': 1}))
    command = ['few_shot', trained.run.folder, tmp_path / 'few.yaml', '--out', tmp_path / 'out']
    monkeypatch.setattr(sys, 'argv', [*map(str, command), '--scratch'])
    few_shot.main()
    assert json.loads((tmp_path / 'out/metrics.json').read_text())['init'] == 'scratch'
    assert yaml.safe_load((tmp_path / 'out/settings.yaml').read_text())['init'] == 'scratch'


def test_only_labels_in_the_listed_sectors_are_learnt(trained, drives):
    split = Split(percent=10, sectors={'drive/101': ((0, 30),), 'drive/103': ((330, 360),)})
    vocabulary = trained.run.vocabulary
    sweeps = LabelledSweeps([drives['train']], vocabulary, split, trained.run.settings)
    assert len(sweeps) == 2
    sample, classes = sweeps.labelled(0)
    assert sample.sample_id == 'drive/101'
    degrees = np.degrees(np.arctan2(sample.points[:, 1], sample.points[:, 0]))
    np.testing.assert_array_equal(classes != IGNORE_INDEX, (degrees >= 0) & (degrees < 30))
    counts = sweeps.count_labels(3)
    assert 0 < counts.sum() < 2 * 1200
    batch = sweeps[0, 0]
    assert 0 < (batch.classes != IGNORE_INDEX).sum() < len(batch.classes) / 2


def test_sectors_without_a_labelled_point_are_refused(trained, drives):
    behind = Split(percent=10, sectors={'drive/101': ((170, 190),)})
    sweeps = LabelledSweeps(
        [drives['train']], trained.run.vocabulary, behind, trained.run.settings
    )
    with pytest.raises(InputError, match='no labelled point'):
        sweeps.count_labels(3)


def test_batches_without_a_labelled_voxel_are_passed_over(trained, drives):
    sectors = {'drive/100': ((0, 90),), 'drive/101': ((170, 190),)}
    student, classifier, _, wanted = parts(trained, TUNE)
    changed = trained.run.settings.model_copy(update={'epochs': 3, 'batch_size': 1})
    split = Split(percent=10, sectors=sectors)
    sweeps = LabelledSweeps([drives['train']], trained.run.vocabulary, split, changed)
    losses = [step['loss'] for step in fine_tune(student, classifier, sweeps, wanted)]
    assert len(losses) == 3
    assert np.isfinite(losses).all()


def test_every_batch_holds_other_sweeps_and_an_epoch_all_of_them(trained, drives):
    changed = trained.run.settings.model_copy(update={'epochs': 2, 'batch_size': 2})
    sweeps = LabelledSweeps([drives['train']], trained.run.vocabulary, None, changed)
    batches = list(load_labelled(sweeps))
    assert len(batches) == sweeps.num_steps == 4
    assert all(len(batch.feats) == len(batch.classes) for batch in batches)
    assert all(batch.maps[0].num_voxels == len(batch.feats) for batch in batches)


def test_points_outside_the_range_get_no_class(trained):
    student, classifier, *_ = parts(trained, PROBE)
    segmenter = Segmenter(student, classifier, trained.run.settings)
    points = LabelledDrive()[0].points.copy()
    points[::2, 0] = 1e4
    classes = segmenter(points)
    assert (classes[::2] == IGNORE_INDEX).all()
    assert (classes[1::2] < len(WORDS)).all()
    assert (segmenter(points[::2]) == IGNORE_INDEX).all()


def test_sweeps_without_labels_are_refused(trained, drives):
    class Unlabelled(LabelledDrive):
        def __getitem__(self, index):
            return replace(super().__getitem__(index), labels=None)

    sweeps = LabelledSweeps([Unlabelled()], trained.run.vocabulary, None, trained.run.settings)
    with pytest.raises(InputError, match=r'(?s)no labels.*drive/100'):
        sweeps.count_labels(3)


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({**PROBE, 'lr': 0.1}, 'lr is 0'),
        ({**TUNE, 'lr': 0.0}, 'lr is 0'),
        ({**TUNE, 'percent': 10}, 'split lists'),
        ({**TUNE, 'split': 'list.yaml'}, 'split lists'),
        ({**TUNE, 'learning_rate': 1.0}, 'learning_rate'),
    ],
)
def test_protocols_that_contradict_themselves_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        protocol(values)


@given(st.lists(st.tuples(st.integers(-1, 3), st.sampled_from([0, 1, 5, 255])), max_size=30))
@settings(deadline=None)
def test_a_voxel_has_the_class_of_most_of_its_labelled_points(points):
    voxels, classes = np.array(points, np.int32).reshape(-1, 2).T
    voted = vote_classes(voxels, classes.astype(np.uint8), 4)
    for voxel in range(4):
        votes = [c for v, c in points if v == voxel and c != 255]
        best = min(votes, key=lambda c: (-votes.count(c), c), default=255)
        assert voted[voxel] == best
