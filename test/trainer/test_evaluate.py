# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Evaluation counts every labelled point, and the report shows what was measured."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_drive import WORDS, scene

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.metrics import mean_iou
from trainer.datasets.kitti_raw import KittiRaw
from trainer.demo import print_summary
from trainer.evaluate import evaluate, label_sweeps, make_labeller
from trainer.pairing import pair_points
from trainer.report import write_report


class LabelledDrive:
    """The tiny drive with the labels of its scene."""

    name = 'tiny'
    label_names = WORDS
    intensity_max = 1.0

    def __init__(self, drive, classes_of=lambda classes: classes):
        self._drive = drive
        self._classes_of = classes_of

    def __len__(self):
        return len(self._drive)

    def __getitem__(self, index):
        _, classes = scene(np.random.default_rng(index))
        return replace(self._drive[index], labels=self._classes_of(classes))


@pytest.fixture(scope='module')
def drive(trained):
    return KittiRaw(trained.run.settings.train[0], trained.run.data_root)


def test_scores_cover_all_labelled_points_and_pictures_are_written(trained, drive, tmp_path):
    metrics = evaluate(trained, [LabelledDrive(drive)], tmp_path)
    assert metrics == json.loads((tmp_path / 'metrics.json').read_text())
    assert metrics['zero_shot']['points'] == 5 * 1200
    assert set(metrics['zero_shot']['iou']) == set(WORDS)
    assert metrics['zero_shot']['accuracy'] > 0.8
    # The teacher's maps are true, but for pixels that two surfaces share.
    assert metrics['teacher']['accuracy_visible'] > 0.85
    assert 0 < metrics['teacher']['points'] < 5 * 1200
    for name in ('confusion', 'birds_eye_0', 'overlay_2'):
        assert (tmp_path / f'{name}.png').stat().st_size > 5000


def test_the_mean_is_over_classes_and_not_over_points(trained, drive, tmp_path):
    metrics = evaluate(trained, [LabelledDrive(drive)], tmp_path)['zero_shot']
    assert metrics['miou'] == pytest.approx(np.mean(list(metrics['iou'].values())))
    confusion = np.array([[90, 10, 0], [0, 0, 10]])  # IoU 0.9 and 0
    assert mean_iou(confusion) == pytest.approx(0.45)


def test_ignored_points_do_not_count(trained, drive, tmp_path):
    def only_road(classes):
        return np.where(classes == 0, 0, 255).astype(np.uint8)

    metrics = evaluate(trained, [LabelledDrive(drive, only_road)], tmp_path)['zero_shot']
    assert metrics['points'] == 5 * 400
    assert list(metrics['iou']) == ['road']


def test_a_drive_without_labels_or_with_unknown_ones_is_an_error(trained, drive):
    unknown = LabelledDrive(drive)
    unknown.label_names = ('sheep', 'goat', 'cow')
    with pytest.raises(InputError, match=r'(?s)none of the labels.*sheep.*add a mapping'):
        next(label_sweeps(trained, [unknown]))
    unlabelled = LabelledDrive(drive)
    unlabelled.__class__ = type(
        'Unlabelled', (LabelledDrive,), {'__getitem__': lambda s, i: drive[i]}
    )
    with pytest.raises(InputError, match='no labels'):
        next(label_sweeps(trained, [unlabelled]))


def test_evaluation_does_not_change_the_student(trained, drive):
    before = {k: v.clone() for k, v in trained.student.state_dict().items()}
    make_labeller(trained)(drive[0].points)
    after = trained.student.state_dict()
    assert before.keys() == after.keys()
    assert all((before[k] == after[k]).all() for k in before)


REPLAY = {
    'mode': 'live',
    'frames_in': 7,
    'frames_labelled': 6,
    'miou': 0.5,
    'pacing': 'as recorded',
    'latency_ms': {'p50': 12.0, 'p95': 34.0},
    'offline': {'miou': 0.625},
}


def report(trained, datasets, folder, replay):
    """Evaluate and write the report of a demo folder; returns metrics and page."""
    shutil.copytree(trained.run.folder, folder / 'run')
    (folder / 'replay').mkdir()
    evaluation = evaluate(trained, datasets, folder / 'run/evaluation')
    picture = folder / 'run/evaluation/confusion.png'
    shutil.copy(picture, folder / 'replay/replay.png')
    parity, seconds = {'fused': {'max_diff': 2e-6}}, {'total': 1.0}
    metrics = {**evaluation, 'replay': replay, 'parity': parity, 'seconds': seconds}
    return metrics, write_report(folder, metrics).read_text()


def test_the_report_is_one_page_with_its_pictures_inside(trained, drive, tmp_path):
    metrics, page = report(trained, [LabelledDrive(drive)], tmp_path, REPLAY)
    assert page.count('data:image/png;base64,') == 3 + 3 + 1 + 1 + 1
    assert 'src="http' not in page
    for text in ('6 / 7', '34 ms', '0.625', '2.0e-06', f'{metrics["zero_shot"]["miou"]:.3f}'):
        assert text in page


def test_scores_that_are_not_defined_are_null_and_shown_as_a_dash(
    trained, drive, tmp_path, capsys
):
    class Unseen(LabelledDrive):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return replace(sample, images=(), labels=np.full_like(sample.labels, 255))

    undefined = {**REPLAY, 'miou': None, 'latency_ms': {'p50': None, 'p95': None}}
    metrics, page = report(trained, [Unseen(drive)], tmp_path, undefined)
    assert metrics['zero_shot']['miou'] is metrics['zero_shot']['accuracy'] is None
    assert metrics['teacher']['miou_visible'] is None
    assert '<b>-</b><span>zero-shot mIoU' in page
    print_summary(metrics, tmp_path)
    assert 'zero-shot mIoU - over 0 classes, accuracy -\n' in capsys.readouterr().out


def test_overlays_show_the_points_that_the_run_pairs(trained, drive, tmp_path, monkeypatch):
    used = []

    def note(points, image, settings):
        used.append(settings)
        return pair_points(points, image, settings)

    monkeypatch.setattr('trainer.pictures.pair_points', note)
    settings = trained.run.settings
    pairing = settings.pairing.model_copy(update={'occlusion_window_deg': 0.1})
    run = replace(trained.run, settings=settings.model_copy(update={'pairing': pairing}))
    evaluate(replace(trained, run=run), [LabelledDrive(drive)], tmp_path)
    assert used
    assert all(entry == pairing for entry in used)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_a_student_on_the_gpu_gives_the_labels_of_the_cpu(trained):
    points = trained.run.open_training()[0][0].points
    expected = make_labeller(trained)(points).class_ids
    trained.student.cuda()
    try:
        got = make_labeller(trained)(points).class_ids
    finally:
        trained.student.cpu()
    assert (got == expected).mean() > 0.995
