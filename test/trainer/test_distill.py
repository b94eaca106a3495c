# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Training: it learns, leaves out what teaches nothing, and says what is wrong."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch
from tiny_drive import hide_classes, write_drive, write_settings
from tiny_training import StopAfter, checkpoint_of, command, curve_of, losses, train

from reldistill_ros.core.errors import InputError
from trainer import distill as distill_module
from trainer.batches import TrainingSweeps
from trainer.collapse import PATIENCE, CollapseGuard
from trainer.metrics_log import METRICS
from trainer.run import create_run
from trainer.stop import StoppedError


@pytest.mark.parametrize('kind', ['similarity', 'contrastive', 'relational'])
def test_every_loss_goes_down(tiny, kind):
    write_settings(tiny, loss={'kind': kind}, epochs=12)
    train(tiny, 'run')
    curve = losses(tiny / 'run')
    assert len(curve) == 12 * 2  # five sweeps are two full batches of two
    assert np.mean(curve[-4:]) < 0.8 * np.mean(curve[:4])


def test_balanced_drives_count_the_same(tiny):
    write_drive(tiny / 'short', num_sweeps=2)
    drives = [
        {'format': 'kitti_raw', 'path': name, 'label_maps': f'{name}/maps'}
        for name in ('drive', 'short')
    ]
    for balance, length in ((False, 7), (True, 9)):  # 5 + 2, 5 + 2 * 2
        write_settings(tiny, train=drives, balance_drives=balance)
        run = create_run(tiny / 'run.yaml', tiny / f'run_{balance}', tiny)
        assert len(TrainingSweeps(run.open_training(), run.settings)) == length


def test_worker_processes_do_not_change_the_result(tiny):
    train(tiny, 'alone')
    write_settings(tiny, workers=2)
    train(tiny, 'workers')
    assert losses(tiny / 'alone') == losses(tiny / 'workers')


def test_a_folder_that_holds_a_run_is_not_overwritten(tiny):
    train(tiny, 'run')
    before = checkpoint_of(tiny / 'run')
    with pytest.raises(InputError, match='already holds a run'):
        train(tiny, 'run')
    assert checkpoint_of(tiny / 'run') == before


def test_a_mistake_can_be_mended_in_the_same_folder(tiny):
    write_settings(tiny, train=[{'format': 'kitti_raw', 'path': 'gone'}])
    with pytest.raises(InputError, match='does not exist'):
        train(tiny, 'run')
    write_settings(tiny)
    train(tiny, 'run')


class BadGradient(torch.autograd.Function):
    """A finite value whose gradient is not."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * torch.nan


def spoil(monkeypatch, name, change, first_call=0):
    """Change what a function of the training loop returns, from one of its calls on."""
    real, calls = getattr(distill_module, name), itertools.count()

    def spoilt(*arguments):
        result = real(*arguments)
        return change(result) if next(calls) >= first_call else result

    monkeypatch.setattr(distill_module, name, spoilt)


@pytest.mark.parametrize(
    ('name', 'change', 'message'),
    [
        ('loss_terms', lambda terms: {'x': terms['intra'] * torch.nan}, 'loss nan'),
        ('loss_terms', lambda terms: {'x': terms['intra'] * torch.inf}, 'loss inf'),
        ('embed', BadGradient.apply, r'loss \d.*norm of the gradient nan'),
    ],
)
@pytest.mark.parametrize('step', [3, 5])
def test_what_is_not_finite_stops_the_run_and_leaves_the_checkpoint(
    half_done, monkeypatch, name, change, message, step
):
    spoil(monkeypatch, name, change, first_call=step - 3)
    saved = {}
    real_save = distill_module.save_checkpoint

    def save(path, *arguments, **keywords):
        real_save(path, *arguments, **keywords)
        saved['last'] = path.read_bytes()

    monkeypatch.setattr(distill_module, 'save_checkpoint', save)
    before = checkpoint_of(half_done / 'run')
    with pytest.raises(InputError, match=rf'(?s)step {step}, sweeps drive/.*{message}'):
        train(half_done, 'run', resume=True)
    assert checkpoint_of(half_done / 'run') == saved.get('last', before)
    assert len(losses(half_done / 'run')) == step


def one_feature(embeddings):
    return torch.nn.functional.normalize(embeddings * 0 + 1, dim=1)


def test_a_collapsing_student_stops_the_run_also_across_a_stop(half_done, monkeypatch):
    monkeypatch.setattr('trainer.collapse.PATIENCE', 2)
    spoil(monkeypatch, 'embed', one_feature)
    with pytest.raises(StoppedError):
        train(half_done, 'run', resume=True, stop=StopAfter(1))
    before = checkpoint_of(half_done / 'run')
    with pytest.raises(InputError, match=r'(?s)collapsed.*step 4'):
        train(half_done, 'run', resume=True)
    assert checkpoint_of(half_done / 'run') == before


def test_the_guard_stops_a_student_that_maps_all_points_to_one_feature():
    teacher = torch.eye(8)
    collapsed = torch.nn.functional.normalize(torch.ones(8, 8), dim=1)
    guard = CollapseGuard(first_step=10)
    for step in range(10 + PATIENCE - 1):
        guard.check(collapsed, teacher, step)
    with pytest.raises(InputError, match='collapsed'):
        guard.check(collapsed, teacher, 10 + PATIENCE)


def test_the_guard_lets_a_spread_student_and_a_constant_teacher_pass():
    constant = torch.nn.functional.normalize(torch.ones(8, 8), dim=1)
    guard = CollapseGuard(first_step=0)
    for step in range(2 * PATIENCE):
        guard.check(torch.eye(8), torch.eye(8), step)
        guard.check(constant, constant, step)


def test_batches_without_pairs_are_left_out_and_counted(tiny, capsys):
    hide_classes(tiny / 'drive', [1, 3])
    write_settings(tiny, batch_size=1, epochs=3)
    train(tiny, 'whole')
    assert len(losses(tiny / 'whole')) == 3 * 5 - 3 * 2
    assert curve_of('skipped', tiny / 'whole')[-1] >= 5
    assert '6 of 15 batches had no pairs and were left out' in capsys.readouterr().out
    with pytest.raises(StoppedError):
        train(tiny, 'parts', stop=StopAfter(6))
    train(tiny, 'parts', resume=True)
    assert checkpoint_of(tiny / 'parts') == checkpoint_of(tiny / 'whole')
    assert (tiny / 'parts' / METRICS).read_text() == (tiny / 'whole' / METRICS).read_text()


def test_an_epoch_without_pairs_stops_the_run(half_done):
    hide_classes(half_done / 'drive', range(5))
    with pytest.raises(InputError, match=r'(?s)no lidar point.*drive/.*look at the calibration'):
        train(half_done, 'run', resume=True)
    assert len(losses(half_done / 'run')) == 3


def test_class_maps_of_no_known_class_are_reported_with_the_sweep(tiny):
    teacher = {
        'kind': 'label_maps',
        'vocabulary': 'tiny.yaml',
        'ignore_classes': ['road', 'wall', 'car'],
    }
    write_settings(tiny, teacher=teacher)
    with pytest.raises(InputError, match=r'(?s)no lidar point.*drive/0'):
        train(tiny, 'run')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'learning_rate': 1}, r'learning_rate: there is no such key'),
        ({'epochs': 'many'}, r"epochs: Input should be a valid integer.*'many'"),
        ({'vocabulary': 'nowhere.yaml'}, r'(?s)vocabulary does not exist.*nowhere'),
        ({'train': [{'format': 'kitti_raw', 'path': 'gone'}]}, r'(?s)drive does not exist.*gone'),
    ],
)
def test_a_mistake_ends_with_code_2_and_no_traceback(tiny, changes, message):
    write_settings(tiny, **changes)
    process = command(tiny, '--out', tiny / 'run')
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert 'Traceback' not in error
    assert error.startswith('error: ')

    assert re.search(message, error), error
