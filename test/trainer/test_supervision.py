# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which pairs a step learns from, and what is measured of the teacher beforehand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_drive import hide_classes, write_settings

from reldistill_ros.core.errors import InputError
from trainer.batches import TrainingSweeps
from trainer.missing import MissingSweeps
from trainer.run import create_run
from trainer.supervision import draw_balanced, measure_teacher
from trainer.teachers.build import build_text_encoder

NUM_RARE = 200
TWO_KINDS = torch.eye(4)[[0] * 1800 + [1] * NUM_RARE]  # one pair in ten is of the rare kind


def rare_share(balance, seed=0):
    drawn = draw_balanced(TWO_KINDS, 200, balance, np.random.default_rng(seed))
    return (drawn >= len(TWO_KINDS) - NUM_RARE).double().mean().item()


def test_a_rare_kind_gets_its_own_share_or_as_much_as_the_others():
    assert rare_share(0) == pytest.approx(0.1, abs=0.07)
    assert rare_share(1) == pytest.approx(0.5, abs=0.12)
    assert rare_share(0) < rare_share(0.5) < rare_share(1)


def test_drawing_is_decided_by_its_source_of_chance_and_gives_rising_indices():
    one, again, other = (
        draw_balanced(TWO_KINDS, 200, 0.5, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert (one.diff() > 0).all()


def test_all_pairs_are_taken_where_there_are_few():
    drawn = draw_balanced(TWO_KINDS[:7], 200, 1, np.random.default_rng(0))
    assert drawn.tolist() == list(range(7))


def measure(folder, **changes):
    run = create_run(write_settings(folder, **changes), folder / 'run', folder)
    teacher = run.build_teacher(build_text_encoder(run.settings.text, folder))
    sweeps = TrainingSweeps(run.open_training(), run.settings)
    mean = measure_teacher(run, teacher, sweeps, MissingSweeps(0, run.folder))
    return mean, json.loads((run.folder / 'teacher.json').read_text())


def test_the_mean_is_subtracted_only_where_the_run_centres(tiny):
    plain, statistics = measure(tiny)
    mean, again = measure(tiny, center=True)
    assert not plain.any()
    assert 0 < np.linalg.norm(mean) < 1
    assert statistics == again
    assert statistics['sweeps'] == 5
    assert statistics['relations']['mean'] > statistics['relations_centred']['mean']


def test_sweeps_without_pairs_are_left_out_of_the_statistics(tiny):
    hide_classes(tiny / 'drive', [1, 3])
    _, statistics = measure(tiny)
    assert (statistics['sweeps'], statistics['skipped']) == (3, 2)
    hide_classes(tiny / 'drive', range(5))
    with pytest.raises(InputError, match=r'(?s)no lidar point.*drive/0{9}4.*look at the calib'):
        measure(tiny)
