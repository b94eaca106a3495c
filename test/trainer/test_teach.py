# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""`python -m trainer.teach`: what it computes, shares out, survives and refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import pytest
from test_feature_teachers import GRAPH, write_graph
from tiny_drive import NUM_SWEEPS, write_drive, write_settings
from tiny_training import losses, train

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import load_settings
from trainer import teach, teach_plan
from trainer.settings import CHECKOUT, RunSettings
from trainer.teach_plan import Estimate, Shard, find_shard
from trainer.teachers.grids import ImageGrids

UNCHANGED_IMAGES = {'crop': 1.0, 'flip_image': False}


def write_run(folder, **changes):
    write_graph(folder / 'graph.onnx')
    settings = {
        'teacher': GRAPH | {'cache': 'kept'},
        'text': None,
        'train': [{'format': 'kitti_raw', 'path': 'drive'}],
        'augment': UNCHANGED_IMAGES,
    }
    return write_settings(folder, **settings | changes)


@pytest.fixture
def drive(tmp_path):
    write_drive(tmp_path / 'drive')
    write_run(tmp_path)
    return tmp_path


def kept(folder):
    """Content of every kept file by its name."""
    return {path.name: path.read_bytes() for path in (folder / 'kept').rglob('*.safetensors')}


def run_teach(folder, monkeypatch, *arguments):
    command = ['teach', str(folder / 'run.yaml'), '--data', str(folder), *arguments]
    monkeypatch.setattr(sys, 'argv', command)
    teach.main()


def start_teach(folder, *arguments, before='', **environment):
    """A process of its own, after some lines of code."""
    code = f'{before}\nfrom trainer.teach import main\nmain()'
    return subprocess.Popen(
        [sys.executable, '-c', code, folder / 'run.yaml', '--data', folder, *arguments],
        cwd=CHECKOUT,
        env={**os.environ, 'OMP_NUM_THREADS': '1', **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


SLOWLY = """
import time
from trainer.teachers.grids import ImageGrids
plain = ImageGrids.compute
ImageGrids.compute = lambda self, image: (time.sleep(0.2), plain(self, image))[1]
"""


def test_distilling_after_teaching_never_asks_the_teacher_and_learns_the_same(drive, monkeypatch):
    write_run(drive, teacher=GRAPH)
    train(drive, 'plain')
    write_run(drive)
    run_teach(drive, monkeypatch)
    monkeypatch.setattr(ImageGrids, 'compute', None)  # calling it would fail
    train(drive, 'cached')
    assert losses(drive / 'cached') == losses(drive / 'plain')
    assert len(kept(drive)) == NUM_SWEEPS


def test_a_second_pass_computes_nothing_and_says_so(drive, monkeypatch, capsys):
    run_teach(drive, monkeypatch)
    first, before = capsys.readouterr().out, kept(drive)
    assert 'about 5 images' in first
    assert '0% are kept already' in first
    monkeypatch.setattr(ImageGrids, 'compute', None)
    run_teach(drive, monkeypatch)
    assert '100% are kept already\nto write: 0 MB' in capsys.readouterr().out
    assert kept(drive) == before


def test_a_killed_pass_is_continued_to_the_same_files(drive, tmp_path_factory, monkeypatch):
    process = start_teach(drive, before=SLOWLY)
    deadline = time.monotonic() + 60
    while len(kept(drive)) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    done = kept(drive)
    assert 3 <= len(done) < NUM_SWEEPS
    run_teach(drive, monkeypatch)
    other = tmp_path_factory.mktemp('uninterrupted')
    write_drive(other / 'drive')
    write_run(other)
    run_teach(other, monkeypatch)
    assert kept(drive) == kept(other)
    assert kept(drive).items() >= done.items()


def test_two_processes_at_once_may_do_the_same_work(drive):
    processes = [start_teach(drive, before=SLOWLY) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert len(kept(drive)) == NUM_SWEEPS
    assert not list((drive / 'kept').rglob('.partial/*'))


def test_shards_of_torchrun_or_of_the_command_line_share_the_work_out(drive, monkeypatch, capsys):
    for number in ('1/2', '2/2'):
        run_teach(drive, monkeypatch, '--shard', number)
    assert '1/2 is whole' in capsys.readouterr().out
    by_hand = kept(drive)
    assert len(by_hand) == NUM_SWEEPS
    shutil.rmtree(drive / 'kept')
    for rank, expected in enumerate((2, 5)):
        for name, value in (('RANK', rank), ('WORLD_SIZE', 2), ('LOCAL_RANK', rank)):
            monkeypatch.setenv(name, str(value))
        run_teach(drive, monkeypatch)
        assert len(kept(drive)) == expected
    assert kept(drive) == by_hand


@pytest.mark.slow
def test_torchrun_itself(drive):
    command = ['-m', 'torch.distributed.run', '--nproc-per-node', '2', '-m', 'trainer.teach']
    done = subprocess.run(
        [sys.executable, *command, drive / 'run.yaml', '--data', drive],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(kept(drive)) == NUM_SWEEPS
    assert 'shard 2/2 is whole' in done.stdout


def test_workers_read_the_same_images(drive, monkeypatch):
    run_teach(drive, monkeypatch, '--workers', '0')
    expected = kept(drive)
    shutil.rmtree(drive / 'kept')
    run_teach(drive, monkeypatch, '--workers', '2')
    assert kept(drive) == expected


def test_held_out_drives_are_taught_on_demand(drive, monkeypatch):
    write_drive(drive / 'other', num_sweeps=NUM_SWEEPS + 2)  # the first five are the same
    write_run(drive, evaluate=[{'format': 'kitti_raw', 'path': 'other'}])
    run_teach(drive, monkeypatch)
    assert len(kept(drive)) == NUM_SWEEPS
    run_teach(drive, monkeypatch, '--evaluate')
    assert len(kept(drive)) == NUM_SWEEPS + 2


def test_a_disk_that_is_too_small_is_refused_before_the_work(drive, monkeypatch):
    usage = shutil.disk_usage(drive)._replace(free=100)
    monkeypatch.setattr(teach_plan.shutil, 'disk_usage', lambda _: usage)
    with pytest.raises(InputError, match=r'(?s)disk is too small.*kept.*teacher\.cache'):
        run_teach(drive, monkeypatch)
    assert len(kept(drive)) <= teach_plan.TIMED


def test_a_damaged_file_stops_the_pass_and_is_named(drive, monkeypatch):
    run_teach(drive, monkeypatch)
    path = next((drive / 'kept').rglob('*.safetensors'))
    path.write_bytes(b'half')
    for workers in ('0', '2'):
        with pytest.raises(InputError, match=rf'(?s)damaged.*{path.name}.*remove the file'):
            run_teach(drive, monkeypatch, '--workers', workers)
    path.unlink()
    run_teach(drive, monkeypatch)
    assert len(kept(drive)) == NUM_SWEEPS


def test_sweeps_that_cannot_be_read_stop_the_pass_unless_they_may_be_missing(drive, monkeypatch):
    (drive / 'drive/image_02/data/0000000002.png').write_bytes(b'half')
    for workers in ('0', '1'):
        with pytest.raises(InputError, match=r'0000000002\.png'):
            run_teach(drive, monkeypatch, '--workers', workers)
    run_teach(drive, monkeypatch, '--allow-missing', '1')
    assert len(kept(drive)) == NUM_SWEEPS - 1
    (told,) = (drive / 'kept').rglob('missing.json')
    assert '0000000002.png' in told.read_text()


def test_a_teacher_with_nothing_to_keep_is_refused(drive, monkeypatch):
    write_run(drive, teacher=GRAPH)
    with pytest.raises(InputError, match=r'(?s)does not keep.*teacher\.cache'):
        run_teach(drive, monkeypatch)
    write_settings(drive)
    with pytest.raises(InputError, match=r'(?s)on disk already.*label_maps'):
        run_teach(drive, monkeypatch)


@pytest.mark.parametrize('asked', ['0/2', '3/2', '1', '1/0', 'a/b', '-1/2', '1/2/3'])
def test_a_shard_that_does_not_exist_is_refused(asked):
    with pytest.raises(InputError, match=r'(?s)no such shard.*i/n'):
        find_shard(asked)


def test_shards_are_neighbouring_sweeps_and_take_each_once(monkeypatch):
    shards = [find_shard(f'{k}/3').sweeps(11) for k in (1, 2, 3)]
    assert [list(s) for s in shards] == [[0, 1, 2], [3, 4, 5, 6], [7, 8, 9, 10]]
    assert not Shard(0, 4).sweeps(2)
    monkeypatch.setenv('WORLD_SIZE', '2')
    with pytest.raises(InputError, match='torchrun shares the work out'):
        find_shard('1/2')


def test_an_estimate_reckons_the_missing_share():
    plan = Estimate(images=1000, missing=0.5, image_bytes=2_000_000, image_seconds=10.0)
    assert plan.bytes_to_write == 1_000_000_000
    assert plan.seconds(Shard(0, 4)) == 1250
    described = plan.describe(Shard(0, 4), 5_000_000_000)
    assert 'about 1000 images x 2.00 MB = 2000 MB, of which 50% are kept' in described
    assert 'in all 0:20:50 on each of 4 processes' in described


TEACHERS = [
    {'kind': 'clip', 'cache': 'kept'},
    {'kind': 'dino', 'model': 'vit', 'short_side': 28, 'cache': 'kept'},
    {
        'kind': 'onnx_segmentation',
        'path': 'x',
        'vocabulary': 'tiny.yaml',
        'input_size': 32,
        'mean': [0, 0, 0],
        'std': [1, 1, 1],
        'cache': 'kept',
    },
]


@pytest.mark.parametrize('teacher', TEACHERS, ids=lambda teacher: teacher['kind'])
def test_kept_features_of_varied_images_are_refused(tmp_path, teacher):
    text = {} if teacher['kind'] != 'dino' else {'text': None}
    load_settings(
        write_settings(tmp_path, teacher=teacher, augment=UNCHANGED_IMAGES, **text), RunSettings
    )
    for augment in ({}, {'crop': 0.5, 'flip_image': False}, {'crop': 1.0, 'flip_image': True}):
        path = write_settings(tmp_path, teacher=teacher, augment=augment, **text)
        with pytest.raises(InputError, match='kept features serve unchanged images'):
            load_settings(path, RunSettings)
