# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Sweeps that cannot be read end a run, unless the user allows some to be missing."""

from __future__ import annotations

import json
import re

import pytest
from tiny_drive import write_settings
from tiny_training import command, curve_of, losses, train

from reldistill_ros.core.errors import InputError
from trainer.missing import MISSING

SWEEP = 'drive/velodyne_points/data/000000000{}.bin'
IMAGE = 'drive/image_02/data/000000000{}.png'


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2 - 1])


@pytest.fixture
def damaged(tiny):
    """A drive of five sweeps; the lidar file of one and the image of another are cut off."""
    cut(tiny / SWEEP.format(1))
    cut(tiny / IMAGE.format(3))
    return tiny


@pytest.mark.parametrize('workers', [0, 2])
def test_by_default_the_first_one_ends_the_run_and_says_what_is_wrong(damaged, workers):
    write_settings(damaged, workers=workers)
    process = command(damaged, '--out', damaged / 'run')
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert 'Traceback' not in error
    assert re.search('wrong byte count|image', error)
    assert not (damaged / 'run' / MISSING).exists()


def test_those_that_are_allowed_are_left_out_told_and_listed(damaged, capsys):
    write_settings(damaged, workers=2, batch_size=1, epochs=4)
    train(damaged, 'run', allow_missing=2)
    assert len(losses(damaged / 'run')) == 4 * 3
    assert curve_of('skipped', damaged / 'run')[-1] <= 4 * 2
    listed = json.loads((damaged / 'run' / MISSING).read_text())
    assert sorted(listed) == ['drive/0000000001', 'drive/0000000003']
    assert 'wrong byte count' in listed['drive/0000000001']
    told = capsys.readouterr()
    assert told.err.count('left out') == 2, 'each is told once, however many epochs meet it'
    assert '2 sweeps could not be read' in told.out


def test_one_more_than_allowed_ends_the_run(damaged):
    with pytest.raises(InputError, match=r'(?s)at most 1.*got: 2.*raise --allow-missing'):
        train(damaged, 'run', allow_missing=1)


def test_the_rest_of_a_batch_is_trained_on(damaged):
    write_settings(damaged, batch_size=5, epochs=2)
    train(damaged, 'run', allow_missing=2)
    assert len(losses(damaged / 'run')) == 2


def test_an_empty_file_counts_too(tiny):
    (tiny / SWEEP.format(2)).write_bytes(b'')
    train(tiny, 'run', allow_missing=1)
    assert list(json.loads((tiny / 'run' / MISSING).read_text())) == ['drive/0000000002']
