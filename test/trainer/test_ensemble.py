# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The ensemble's weights are found again, and its evaluation counts what it says it counts."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny_drive import WORDS, LabelledDrive

from reldistill_ros.cameras.ensemble import (
    ENSEMBLE,
    CameraView,
    EnsembleSettings,
    softmax,
)
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.prompts import prompt_embeddings
from reldistill_ros.core.settings import load_settings
from reldistill_ros.core.zero_shot import Labels
from trainer import ensemble
from trainer.datasets.kitti_raw import KittiRaw
from trainer.ensemble import LABELLINGS, PARTS, camera_labels, evaluate_ensemble, fuse_sweeps
from trainer.ensemble_fit import (
    Opinion,
    collect_opinions,
    count_habits,
    fit_cameras,
    fit_ensemble,
    fit_weights,
)
from trainer.ensemble_observations import (
    Observer,
    check_held_out,
    check_stand_in,
    labelled_training,
)
from trainer.ensemble_report import miou_table
from trainer.evaluate import label_sweeps
from trainer.run import TrainedRun, create_run
from trainer.settings import CHECKOUT

DATA = Path(os.environ.get('RELDISTILL_DATA', CHECKOUT.parent / 'shared' / 'data'))
needs_pandaset = pytest.mark.skipif(
    not (DATA / 'pandaset' / '002').is_dir(), reason=f'PandaSet is not in {DATA}'
)
needs_words = pytest.mark.skipif(
    not (DATA / 'clip_text').is_dir(), reason=f'the words of COCO-Stuff are not in {DATA}'
)


@pytest.fixture(scope='module')
def drive(trained):
    return LabelledDrive(KittiRaw(trained.run.settings.train[0], trained.run.data_root))


@pytest.fixture(scope='module')
def observations(trained, drive):
    return list(Observer(trained)(drive, range(len(drive))))


def test_the_camera_says_what_the_teacher_says_where_that_has_a_feature(
    trained, drive, observations
):
    bounds = np.arange(len(WORDS))
    for mine, theirs in zip(observations, label_sweeps(trained, [drive])):
        labels = camera_labels(mine, EnsembleSettings(), bounds)
        np.testing.assert_array_equal(mine.taught, theirs.teacher != 255)
        np.testing.assert_array_equal(labels[mine.taught], theirs.teacher[mine.taught])
        np.testing.assert_array_equal(mine.student.class_ids, theirs.student)
        assert 0 < mine.taught.sum() < len(labels)
        assert (mine.visible | ~mine.taught).all()


def test_the_student_keeps_its_labels_where_no_camera_sees(trained, drive):
    settings = fit_ensemble(trained, [drive], with_student=True)
    for sweep in fuse_sweeps(trained, settings, [drive]):
        hidden = ~sweep.parts['visible']
        for name in ('ensemble', 'camera_in_voxels'):
            np.testing.assert_array_equal(
                sweep.labels[name][hidden], sweep.labels['student'][hidden]
            )


def test_scores_are_written_with_a_table_and_pictures(trained, drive, tmp_path):
    settings = fit_ensemble(trained, [drive], with_student=False)
    metrics = evaluate_ensemble(trained, settings, [drive], tmp_path)
    written = json.loads((tmp_path / 'metrics.json').read_text())
    assert written == {**metrics, 'weights': written['weights']}
    assert set(metrics) == set(PARTS)
    for part in PARTS:
        assert set(metrics[part]) == set(LABELLINGS)
        assert len({metrics[part][name]['points'] for name in LABELLINGS}) == 1
    assert metrics['all']['student']['points'] == 5 * 1200
    assert metrics['taught']['camera']['accuracy'] > 0.85
    shown = miou_table(metrics).splitlines()
    assert shown[3].split()[:2] == ['mIoU', 'visible']
    assert shown[3].endswith(f'{metrics["visible"]["ensemble"]["miou"]:.3f}')
    table = (tmp_path / 'table.md').read_text()
    assert f'{metrics["visible"]["ensemble"]["miou"]:.3f}' in table
    for name in ('iou', 'birds_eye'):
        assert (tmp_path / f'{name}.png').stat().st_size > 5000


def test_without_a_stand_in_the_student_has_no_vote_beside_a_camera(trained, drive):
    settings = fit_ensemble(trained, [drive], with_student=False)
    assert (settings.student, settings.student_weight) == (None, 0)
    assert settings.fitted_on.endswith('visible points of 5 sweeps: drive')


def test_habits_are_shares_of_what_the_student_said(trained, observations):
    truth = np.zeros(4000, np.uint8)
    truth[3000:] = 1
    said = np.repeat(np.array([0, 2, 2, 255], np.uint8), [2000, 1000, 500, 500])
    student = Labels(said, np.ones(4000, np.float32), np.zeros(4000, np.float32))
    sweep = replace(observations[0], truth=truth, student=student)
    habits = count_habits([sweep], trained.run.vocabulary)
    overall = np.array([2001, 1, 1501]) / 3503
    np.testing.assert_allclose(habits.overall, overall)
    # smoothed with 1000 usual points; `wall` was never said, so it means nothing
    expected = (np.array([2000, 0, 1000]) + 1000 * overall) / 4000
    np.testing.assert_allclose(habits.said[0], [expected[0], overall[1], expected[2]])
    np.testing.assert_allclose(habits.said[2], overall)  # no true point
    assert habits.class_names == WORDS


def test_a_temperature_and_a_trust_are_found_again(trained):
    rng = np.random.default_rng(0)
    cosines = rng.uniform(-0.3, 0.3, (40_000, 3)).astype(np.float32)
    confidences = rng.uniform(0.2, 1, len(cosines)).astype(np.float32)
    sure = 0.8 * confidences[:, None]
    probabilities = sure * softmax(cosines / 0.1) + (1 - sure) / 3
    truth = (rng.random((len(cosines), 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    view = CameraView(np.arange(len(cosines)), cosines, confidences)
    found = fit_cameras(Opinion(view, truth.astype(np.uint8)), trained.run.vocabulary)
    assert found.temperature == pytest.approx(0.1, rel=0.1)
    assert found.trust == pytest.approx(0.8, abs=0.03)


def test_weights_are_found_again():
    rng = np.random.default_rng(0)
    cameras, votes = np.log(softmax(rng.normal(size=(2, 40_000, 3))))
    probabilities = softmax(1.3 * cameras + 0.4 * votes)
    truth = (rng.random((40_000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    weights = fit_weights(cameras, votes, truth.astype(np.uint8))
    np.testing.assert_allclose(weights, [1.3, 0.4], atol=0.05)


def test_too_few_labelled_points_are_refused(observations):
    few = replace(observations[0], truth=np.full_like(observations[0].truth, 255))
    with pytest.raises(InputError, match=r'(?s)too few labelled points.*at least 1000.*got: 0'):
        collect_opinions([few])


def test_a_drive_without_labels_cannot_be_fitted_on(trained):
    with pytest.raises(InputError, match='no training drive has labels'):
        labelled_training(trained)


def test_sweeps_to_fit_on_serve_nothing_else(drive):
    with pytest.raises(InputError, match=r'(?s)must not serve.*not in `evaluate`'):
        check_held_out([drive], [drive], 'evaluate')
    check_held_out([drive], [], 'evaluate')


def test_a_stand_in_of_another_kind_is_refused(trained):
    run = trained.run
    check_stand_in(run, replace(run, settings=run.settings.model_copy(update={'epochs': 1})))
    other = run.settings.model_copy(update={'network': 'minkunet34'})
    with pytest.raises(InputError, match=r'(?s)other settings of `network`.*minkunet34'):
        check_stand_in(run, replace(run, settings=other))
    words = run.vocabulary.model_copy(update={'name': 'other'})
    with pytest.raises(InputError, match='another vocabulary'):
        check_stand_in(run, replace(run, vocabulary=words))


def untrained_run(folder):
    """The run of KITTI and PandaSet with a student that has learnt nothing."""
    settings = yaml.safe_load((CHECKOUT / 'config/runs/kitti_pandaset.yaml').read_text())
    (folder / 'run.yaml').write_text(yaml.safe_dump({**settings, 'network': 'small'}))
    run = create_run(folder / 'run.yaml', folder / 'run', DATA)
    encoder = run.build_encoder()
    student = run.new_student(encoder.embedding_size).eval()
    mean = np.zeros(encoder.embedding_size, np.float32)
    return TrainedRun(run, student, encoder, mean, prompt_embeddings(run.vocabulary, encoder))


@needs_pandaset
@needs_words
def test_on_pandaset_002_the_ensemble_is_above_student_and_camera(tmp_path):
    torch.set_num_threads(1)
    trained = untrained_run(tmp_path)
    fitted = labelled_training(trained)
    assert [set(name[:12] for name in d.sample_ids) for d in fitted] == [{'pandaset/001'}]
    settings = fit_ensemble(trained, fitted, with_student=True)
    metrics = evaluate_ensemble(trained, settings, trained.run.open_evaluation(), tmp_path)
    for part in ('taught', 'opinion', 'visible'):
        scores = {name: metrics[part][name]['miou'] for name in LABELLINGS}
        assert scores['ensemble'] > scores['camera'] + 0.005
        assert scores['ensemble'] > scores['student'] + 0.1


def test_the_command_needs_a_run(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'argv', ['ensemble', str(tmp_path), '--out', str(tmp_path / 'out')])
    with pytest.raises(InputError, match='holds no run'):
        ensemble.main()
    assert not (tmp_path / 'out').exists()


def test_the_command_fits_without_a_drive_to_evaluate_on(
    trained, drive, tmp_path, monkeypatch, capsys
):
    assert not trained.run.settings.evaluate
    monkeypatch.setattr(ensemble, 'load_trained', lambda run: trained)
    monkeypatch.setattr(ensemble, 'labelled_training', lambda trained: [drive])
    words = [str(trained.run.folder), '--out', str(tmp_path / 'out')]
    monkeypatch.setattr(sys, 'argv', ['ensemble', *words])
    ensemble.main()
    fitted = load_settings(tmp_path / 'out' / ENSEMBLE, EnsembleSettings)
    told = capsys.readouterr().out
    assert f'fitted_on: {fitted.fitted_on}' in told
    assert f'--ensemble {tmp_path / "out" / ENSEMBLE}' in told
    assert [path.name for path in (tmp_path / 'out').iterdir()] == [ENSEMBLE]


def test_the_weights_of_a_run_can_be_read_again(trained, drive, tmp_path):
    settings = fit_ensemble(trained, [drive], with_student=True)
    (tmp_path / ENSEMBLE).write_text(json.dumps(settings.model_dump(mode='json')))
    assert load_settings(tmp_path / ENSEMBLE, EnsembleSettings) == settings
