# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Two processes learn, stop, go on and evaluate as one process does."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_missing import SWEEP, cut
from tiny_drive import LabelledDrive, hide_classes, write_drive, write_settings
from tiny_training import curve_of, losses
from two_processes import in_two_processes, train_together

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import load_settings
from trainer import distill as distill_module
from trainer.collapse import total_variance
from trainer.datasets.kitti_raw import KittiRaw
from trainer.distributed import own_share
from trainer.draws import check_shares
from trainer.evaluate import evaluate
from trainer.metrics_log import METRICS
from trainer.run import load_trained, open_run
from trainer.settings import RunSettings
from trainer.stop import StoppedError, stop_on_signal

LOSS, GRADIENT, WEIGHT = 1e-5, 1e-4, 1e-4  # relative; of tensors, to their largest entry
BIAS = 1e-6  # absolute: biases begin at zero, and are added to what has unit spread
STOP_AFTER = 3  # of six steps
RUNS = {
    'relational': {'center': True},
    'contrastive': {'pair_balance': 0},
    'slidr': {'loss': {'kind': 'slidr', 'superpixels': {'num_segments': 20}}},
    # at times one of the processes has nothing to learn, and at times both
    'gaps': {'train': [{'format': 'kitti_raw', 'path': 'gaps', 'label_maps': 'gaps/maps'}]},
}


def write_runs(folder):
    write_drive(folder / 'drive')
    write_drive(folder / 'gaps')
    cut(folder / 'gaps' / SWEEP.removeprefix('drive/').format(1))
    hide_classes(folder / 'gaps', [3, 4])
    for name, changes in RUNS.items():
        kind = {'kind': name if name == 'contrastive' else 'relational'}
        sgd = {'kind': 'sgd', 'lr': 0.05}
        write_settings(folder, **{'pairs': 64, 'loss': kind, 'optimiser': sgd, **changes})
        (folder / 'run.yaml').rename(folder / f'{name}.yaml')


class GradientsOfTheFirstStep:
    """Stands in for the clipping of the gradients and notes what they are before."""

    def __init__(self):
        self.found, self._clip = None, torch.nn.utils.clip_grad_norm_

    def __call__(self, parameters, largest):
        parameters = list(parameters)
        if self.found is None:
            self.found = {str(k): p.grad.clone() for k, p in enumerate(parameters)}
        return self._clip(parameters, largest)


def learn_everything(rank, folder):
    """All runs in one process, or in one of two, with what is to be compared beside them."""
    for name in RUNS:
        distill_module.clip_grad_norm_ = gradients = GradientsOfTheFirstStep()
        train_together(folder, name, f'{name}.yaml', allow_missing=1)
        torch.save(gradients.found, folder / f'{name}_{rank}.pt')
    distill_module.clip_grad_norm_ = torch.nn.utils.clip_grad_norm_
    trained = load_trained(open_run(folder / 'relational'))
    drive = LabelledDrive(KittiRaw(trained.run.settings.train[0], folder))
    metrics = evaluate(trained, [drive], folder / 'evaluation', corruptions=True)
    (folder / f'metrics_{rank}.json').write_text(json.dumps(metrics))


class SignalsItself:
    """A log of the curves that sends this process SIGTERM in the third step."""

    def __init__(self, log):
        self._log = log

    def write(self, step, values):
        self._log.write(step, values)
        if step == STOP_AFTER - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self):
        self._log.close()


def be_one_of_two(rank, folder):
    learn_everything(rank, folder)
    real = distill_module.MetricsLog
    if rank == 1:  # the other one is told nothing
        distill_module.MetricsLog = lambda *arguments: SignalsItself(real(*arguments))
    with stop_on_signal() as stop, pytest.raises(StoppedError, match='step 3 of 6'):
        train_together(folder, 'parts', 'relational.yaml', stop=stop)
    distill_module.MetricsLog = real
    shutil.copytree(folder / 'parts', folder / f'parts_{rank}')
    train_together(folder, 'parts', 'relational.yaml', resume=True)
    rows = torch.nn.functional.normalize(torch.randn(5 + rank, 3))
    torch.save((rows, total_variance(rows)), folder / f'rows_{rank}.pt')


@pytest.fixture(scope='module')
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp('one')
    write_runs(folder)
    learn_everything(0, folder)
    return folder


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp('two')
    write_runs(folder)
    in_two_processes(be_one_of_two, folder)
    return folder


def assert_near(got, expected, relative, absolute=0.0):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        tolerance = max(relative * value.abs().max().item(), absolute)
        torch.testing.assert_close(got[name], value, rtol=0, atol=tolerance, msg=name)


def weights_of(folder):
    tensors = load_file(folder / 'checkpoint.safetensors')
    return {name: value for name, value in tensors.items() if name.startswith('student.')}


@pytest.mark.parametrize('name', RUNS)
def test_losses_gradients_and_weights_of_two_processes_are_those_of_one(one, two, name):
    assert curve_of('step', two / name) == curve_of('step', one / name)
    assert curve_of('pairs', two / name) == curve_of('pairs', one / name)
    assert losses(two / name) == pytest.approx(losses(one / name), rel=LOSS)
    expected = torch.load(one / f'{name}_0.pt')
    for rank in (0, 1):
        assert_near(torch.load(two / f'{name}_{rank}.pt'), expected, GRADIENT)
    assert_near(weights_of(two / name), weights_of(one / name), WEIGHT, BIAS)
    for statistics in ('teacher.json', 'missing.json'):
        if (one / name / statistics).exists():
            told = [(folder / name / statistics).read_text() for folder in (one, two)]
            assert told[0] == told[1].replace(str(two), str(one))


def test_a_batch_of_which_no_process_learns_is_left_out_by_both(one, two):
    assert curve_of('skipped', one / 'gaps')[-1] > 0
    assert curve_of('skipped', two / 'gaps') == curve_of('skipped', one / 'gaps')


def test_a_run_of_two_that_one_signal_stopped_goes_on_as_if_it_had_not_been(two):
    stopped = [(two / f'parts_{rank}' / 'checkpoint.safetensors') for rank in (0, 1)]
    assert stopped[0].read_bytes() == stopped[1].read_bytes()
    whole, parts = (load_file(two / n / 'checkpoint.safetensors') for n in ('relational', 'parts'))
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    assert (two / 'parts' / METRICS).read_text() == (two / 'relational' / METRICS).read_text()


def test_one_process_goes_on_where_two_stopped(two):
    train_together(two, 'parts_0', 'relational.yaml', resume=True)
    assert losses(two / 'parts_0') == pytest.approx(losses(two / 'relational'), rel=LOSS)


def test_evaluation_counts_the_same_points_and_both_know_the_result(one, two):
    expected = json.loads((one / 'metrics_0.json').read_text())
    for rank in (0, 1):
        assert json.loads((two / f'metrics_{rank}.json').read_text()) == expected
    pictures = [sorted(p.name for p in (f / 'evaluation').iterdir()) for f in (one, two)]
    assert pictures[0] == pictures[1]


def test_the_variance_that_tells_a_collapse_is_that_of_all_rows(two):
    rows, found = zip(*(torch.load(two / f'rows_{rank}.pt') for rank in (0, 1)))
    assert found == pytest.approx([total_variance(torch.cat(rows))] * 2)


def pretend(monkeypatch, rank, num):
    for module in ('trainer.distributed', 'trainer.draws'):
        monkeypatch.setattr(f'{module}.num_processes', lambda: num)
    monkeypatch.setattr('trainer.distributed.rank', lambda: rank)


@given(items=st.lists(st.integers()), num=st.integers(1, 9))
def test_the_shares_are_all_items_in_order_and_about_as_many_each(items, num):
    with pytest.MonkeyPatch.context() as patch:
        shares = [(pretend(patch, rank, num), own_share(items))[1] for rank in range(num)]
    assert [item for share in shares for item in share] == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_batch_that_does_not_divide_is_refused(tiny, monkeypatch):
    settings = load_settings(write_settings(tiny, batch_size=6), RunSettings)
    pretend(monkeypatch, 0, 3)
    check_shares(settings, 5)
    for num, num_sweeps in ((4, 5), (6, 5)):
        pretend(monkeypatch, 0, num)
        with pytest.raises(InputError, match=rf'(?s)batch_size.*a multiple of {num}.*got: 6'):
            check_shares(settings, num_sweeps)
