# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Training: it learns, resumes bit by bit, and says what is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_drive import write_drive, write_settings

from reldistill_ros.core.errors import InputError
from trainer.batches import TrainingSweeps
from trainer.collapse import PATIENCE, CollapseGuard
from trainer.distill import check_finite, distill
from trainer.metrics_log import METRICS
from trainer.run import create_run, open_run
from trainer.settings import CHECKOUT
from trainer.stop import StoppedError, StopRequest


class StopAfter(StopRequest):
    """Asks to stop once a number of steps has been looked at."""

    def __init__(self, steps):
        super().__init__()
        self._left = steps

    @property
    def requested(self):
        self._left -= 0.5  # the loop asks twice a step
        return self._left <= 0


def train(tiny, name, resume=False, stop=None):
    folder = tiny / name
    run = open_run(folder, tiny) if resume else create_run(tiny / 'run.yaml', folder, tiny)
    distill(run, resume, stop or StopRequest())
    return run


def losses(folder):
    return [json.loads(line)['loss'] for line in (folder / METRICS).read_text().splitlines()]


@pytest.mark.parametrize('kind', ['similarity', 'contrastive', 'relational'])
def test_every_loss_goes_down(tiny, kind):
    write_settings(tiny, loss={'kind': kind}, epochs=12)
    train(tiny, 'run')
    curve = losses(tiny / 'run')
    assert len(curve) == 12 * 2  # five sweeps are two full batches of two
    assert np.mean(curve[-4:]) < 0.8 * np.mean(curve[:4])


def test_a_resumed_run_equals_an_uninterrupted_one_bit_by_bit(tiny):
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


def test_a_run_with_changed_settings_is_not_resumed(tiny):
    run = train(tiny, 'run')
    path = run.folder / 'settings.yaml'
    path.write_text(path.read_text().replace('lr: 0.005', 'lr: 0.001'))
    with pytest.raises(InputError, match='trained with other settings'):
        train(tiny, 'run', resume=True)


def test_a_folder_that_holds_a_run_is_not_overwritten(tiny):
    train(tiny, 'run')
    before = (tiny / 'run' / 'checkpoint.safetensors').read_bytes()
    with pytest.raises(InputError, match='already holds a run'):
        train(tiny, 'run')
    assert (tiny / 'run' / 'checkpoint.safetensors').read_bytes() == before


def test_a_mistake_can_be_mended_in_the_same_folder(tiny):
    write_settings(tiny, train=[{'format': 'kitti_raw', 'path': 'gone'}])
    with pytest.raises(InputError, match='does not exist'):
        train(tiny, 'run')
    write_settings(tiny)
    train(tiny, 'run')


def test_a_loss_that_is_not_finite_names_step_and_sweeps():
    class Drawn:
        sample_ids = ('sweep 7', 'sweep 9')

    with pytest.raises(InputError, match=r'(?s)step 3, sweeps sweep 7, sweep 9.*nan'):
        check_finite(torch.tensor(float('nan')), 3, Drawn())
    check_finite(torch.tensor(1.0), 3, Drawn())


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


def test_class_maps_of_no_known_class_are_reported_with_the_sweep(tiny):
    teacher = {
        'kind': 'label_maps',
        'vocabulary': 'tiny.yaml',
        'ignore_classes': ['road', 'wall', 'car'],
    }
    write_settings(tiny, teacher=teacher)
    with pytest.raises(InputError, match='no lidar point of the batch'):
        train(tiny, 'run')


def command(tiny, *arguments):
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    return subprocess.Popen(
        [sys.executable, '-m', 'trainer.distill', tiny / 'run.yaml', '--data', tiny, *arguments],
        cwd=CHECKOUT,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_sigterm_to_the_whole_group_leaves_a_checkpoint_that_can_be_resumed(tiny):
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
    with pytest.raises(StoppedError):
        train(tiny, 'run', resume=True, stop=StopAfter(1))
    assert len(losses(tiny / 'run')) == steps + 1


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'learning_rate': 1}, r'learning_rate: Extra inputs'),
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
