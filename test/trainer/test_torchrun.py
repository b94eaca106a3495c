# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A job of torchrun survives a killed process, and ends at once on a mistake."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny_drive import write_settings
from tiny_training import losses, train
from two_processes import start_torchrun

from trainer.resuming import is_restarted
from trainer.run import PROVENANCE

# The second process does something in its fourth step, the first time that it is started.
SCRIPT = """
import os, signal
from reldistill_ros.core.errors import InputError, run_command
from trainer import distill

def fail():
    {what}

def check(loss, norm, step, batch):
    if step == 3:
        fail()

if __name__ == '__main__':
    if (os.environ['RANK'], os.environ['TORCHELASTIC_RESTART_COUNT']) == ('1', '0'):
        distill.check_finite = check
    run_command(distill.main)
"""


def start(tiny, what, *options):
    script = tiny / 'script.py'
    script.write_text(SCRIPT.format(what=what))
    return start_torchrun(
        [*options], script, tiny / 'run.yaml', '--data', tiny, '--out', tiny / 'run'
    )


def test_a_killed_process_is_started_anew_and_the_run_ends_as_if_nothing_had_been(tiny):
    write_settings(tiny, optimiser={'kind': 'sgd', 'lr': 0.05}, workers=1)
    train(tiny, 'alone')
    process = start(tiny, 'os.kill(os.getpid(), signal.SIGKILL)', '--max-restarts=1')
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert losses(tiny / 'run') == pytest.approx(losses(tiny / 'alone'), rel=1e-5)
    one, two = (load_file(tiny / name / 'checkpoint.safetensors') for name in ('alone', 'run'))
    for name in one:
        largest = one[name].abs().max().item()
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-4 * largest, msg=name)


def test_a_mistake_that_one_process_meets_ends_all_with_its_message(tiny):
    process = start(tiny, "raise InputError('this sweep is odd', fix='look at it')")
    _, error = process.communicate(timeout=300)  # of the ten minutes that a silent one is given
    assert process.returncode != 0
    assert 'error: this sweep is odd\n  to do: look at it' in error
    assert 'process 1 of 2' in error
    assert 'distill.py' not in error, 'no traceback, but for that of torchrun itself'


@pytest.mark.parametrize(
    ('count', 'job', 'restarted'),
    [('0', 'a', True), ('0', 'b', False), ('0', 'none', False), ('1', 'b', True)],
)
def test_a_run_goes_on_by_itself_only_where_torchrun_started_it_before(
    half_done, monkeypatch, count, job, restarted
):
    path = half_done / 'run' / PROVENANCE
    path.write_text(json.dumps({**json.loads(path.read_text()), 'torchrun_job': 'a'}))
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', count)
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', job)
    assert is_restarted(half_done / 'run') == restarted
    assert not is_restarted(half_done)
