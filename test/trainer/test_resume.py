# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A stopped run goes on as if it had not been stopped, or says why it cannot."""

from __future__ import annotations

import os
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_drive import write_drive, write_settings
from tiny_training import StopAfter, checkpoint_of, command, curve_of, losses, train

from reldistill_ros.core.errors import InputError
from trainer.distill import distill
from trainer.metrics_log import METRICS, MetricsLog
from trainer.resuming import differing_keys, resume_run
from trainer.run import Run
from trainer.stop import StoppedError, StopRequest


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'optimiser': {'kind': 'sgd', 'lr': 0.05}, 'pair_balance': 0},
        {'center': True, 'pair_balance': 0.5, 'workers': 1},
        {'threads': 2, 'loss': {'kind': 'contrastive'}},
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_by_bit(tiny, changes):
    write_settings(tiny, pairs=64, **changes)
    train(tiny, 'whole')
    with pytest.raises(StoppedError, match='step 3 of 6'):
        train(tiny, 'parts', stop=StopAfter(3))
    train(tiny, 'parts', resume=True)
    whole, parts = (load_file(tiny / n / 'checkpoint.safetensors') for n in ('whole', 'parts'))
    assert whole.keys() == parts.keys()
    assert any(name.startswith('optimiser.') for name in whole)
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    assert losses(tiny / 'whole') == losses(tiny / 'parts')


def test_a_run_is_resumed_with_its_own_settings_only(tiny):
    train(tiny, 'run')
    write_settings(tiny, optimiser={'lr': 0.001}, seed=7)
    with pytest.raises(InputError, match=r'other values of seed, optimiser\.lr\n'):
        train(tiny, 'run', resume=True)
    write_settings(tiny, workers=1, evaluate=[{'format': 'kitti_raw', 'path': 'drive'}])
    run = train(tiny, 'run', resume=True)
    assert run.settings.workers == 1
    assert len(resume_run(tiny / 'run.yaml', run.folder, tiny).settings.evaluate) == 1


def test_differing_keys_are_named_however_deep():
    one = {'a': 1, 'b': {'c': [1, 2], 'd': {'e': 0}}, 'only': None}
    other = {'a': 1, 'b': {'c': [1, 3], 'd': {'e': 1}}, 'new': 0}
    assert differing_keys(one, other) == ['b.c', 'b.d.e', 'new']
    assert differing_keys(one, one) == []


def test_a_run_whose_settings_were_edited_in_its_folder_is_not_resumed(tiny):
    run = train(tiny, 'run')
    for path in (run.folder / 'settings.yaml', tiny / 'run.yaml'):
        path.write_text(path.read_text().replace('lr: 0.005', 'lr: 0.001'))
    with pytest.raises(InputError, match='trained with other settings'):
        train(tiny, 'run', resume=True)


def add_a_sweep(tiny):
    shutil.rmtree(tiny / 'drive')
    write_drive(tiny / 'drive', num_sweeps=6)


def change_the_words(tiny):
    np.save(tiny / 'words.npy', np.load(tiny / 'words.npy') + 0.1)


def change_the_classes(tiny):
    path = tiny / 'run' / 'teacher_vocabulary.yaml'
    path.write_text(path.read_text().replace('60', '61'))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (add_a_sweep, 'other training sweeps'),
        (change_the_words, 'other text encoder'),
        (change_the_classes, 'other vocabulary of the teacher'),
    ],
)
def test_a_run_whose_data_changed_is_not_resumed(half_done, change, message):
    change(half_done)
    with pytest.raises(InputError, match=message):
        train(half_done, 'run', resume=True)


def test_a_finished_run_whose_sweeps_changed_is_told_so_too(tiny):
    train(tiny, 'run')
    add_a_sweep(tiny)
    with pytest.raises(InputError, match='other training sweeps'):
        train(tiny, 'run', resume=True)


def test_the_teacher_keeps_the_classes_that_the_run_began_with(tiny):
    with pytest.raises(StoppedError):
        train(tiny, 'run', stop=StopAfter(3))
    (tiny / 'tiny.yaml').unlink()
    train(tiny, 'run', resume=True)


def test_a_resumed_run_finds_its_data_where_they_were(tiny, tmp_path_factory, monkeypatch):
    with pytest.raises(StoppedError):
        train(tiny, 'run', stop=StopAfter(3))
    monkeypatch.chdir(tmp_path_factory.mktemp('elsewhere'))
    distill(resume_run(tiny / 'run.yaml', tiny / 'run'), True, StopRequest())
    assert len(losses(tiny / 'run')) == 6


def test_a_long_epoch_has_checkpoints_on_its_way(tiny, monkeypatch):
    monkeypatch.setattr('trainer.checkpoint.SECONDS_BETWEEN', 0)
    monkeypatch.setattr('trainer.distill.CollapseGuard.check', fail_in_step(1))
    with pytest.raises(InputError, match='in step 1'):
        train(tiny, 'run')
    monkeypatch.undo()
    train(tiny, 'run', resume=True)
    train(tiny, 'whole')
    assert losses(tiny / 'run') == losses(tiny / 'whole')


def fail_in_step(number):
    def check(_, student, teacher, step):
        if step == number:
            raise InputError(f'in step {step}')

    return check


def test_the_curves_are_flushed_when_a_run_stops(tiny, monkeypatch):
    closed = []
    real = MetricsLog.close
    monkeypatch.setattr(MetricsLog, 'close', lambda log: closed.append(real(log)))
    with pytest.raises(StoppedError):
        train(tiny, 'run', stop=StopAfter(3))
    assert len(closed) == 1


def test_a_line_of_the_curves_that_was_cut_off_is_dropped(half_done):
    path = half_done / 'run' / METRICS
    path.write_text(path.read_text() + '{"step": 3, "lo')
    train(half_done, 'run', resume=True)
    assert curve_of('step', half_done / 'run') == list(range(6))


def test_curves_are_not_lost_when_they_cannot_be_written_anew(tiny, monkeypatch):
    (tiny / METRICS).write_text('{"step": 0}\n{"step": 1}\n')

    def fail(*_, **__):
        raise OSError('disk full')

    with monkeypatch.context() as patch:
        patch.setattr('pathlib.Path.write_text', fail)
        with pytest.raises(OSError, match='disk full'):
            MetricsLog(tiny, 1)
    assert curve_of('step', tiny) == [0, 1]


def test_sigterm_to_the_whole_group_leaves_checkpoint_and_curves_to_go_on_with(tiny):
    write_settings(tiny, epochs=2000, workers=1)
    process = command(tiny, '--out', tiny / 'run')
    curve = tiny / 'run' / METRICS
    deadline = time.monotonic() + 60
    while not (curve.exists() and len(losses(tiny / 'run')) > 2):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert 'continue with --resume' in error
    steps = len(losses(tiny / 'run'))
    board = EventAccumulator(str(tiny / 'run' / 'tensorboard')).Reload()
    assert len(board.Scalars('loss')) == steps
    with pytest.raises(StoppedError):
        train(tiny, 'run', resume=True, stop=StopAfter(1))
    assert len(losses(tiny / 'run')) == steps + 1


def test_a_finished_run_says_so_without_loading_its_teacher(tiny, monkeypatch, capsys):
    run = train(tiny, 'run')
    before = checkpoint_of(run.folder)
    monkeypatch.setattr(Run, 'build_encoder', lambda run: pytest.fail('loaded the encoder'))
    train(tiny, 'run', resume=True)
    assert f'already finished: {run.folder} has done all of its 6 steps' in capsys.readouterr().out
    assert checkpoint_of(run.folder) == before


def test_a_drive_that_is_not_there_is_told_before_the_teacher_is_loaded(tiny, monkeypatch):
    monkeypatch.setattr(Run, 'build_encoder', lambda run: pytest.fail('loaded the encoder'))
    shutil.rmtree(tiny / 'drive')
    with pytest.raises(InputError, match='drive'):
        train(tiny, 'run')
