# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Superpixels: what they are, that what is kept fits, and that training learns from them."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny_drive import HEIGHT, WIDTH, write_settings
from tiny_training import StopAfter, checkpoint_of, losses, train

from reldistill_ros.core.errors import InputError
from trainer import superpixels as superpixels_module
from trainer.batches import TrainingSweeps, collate, prepare_sweep
from trainer.distill import find_superpixels
from trainer.pairing import pair_points
from trainer.run import create_run
from trainer.stop import StoppedError
from trainer.superpixels import (
    MOST_SEGMENTS,
    Superpixels,
    SuperpixelSettings,
    find_segments,
    segments_at,
)
from trainer.supervision import teacher_features
from trainer.teachers.build import build_text_encoder

SLIDR = {'kind': 'slidr', 'superpixels': {'num_segments': 40}}


def two_halves(height=60, width=80):
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 2 :] = (250, 60, 0)
    return image


@pytest.fixture
def kept(tmp_path):
    return Superpixels(SuperpixelSettings(num_segments=30), tmp_path)


def files_of(kept):
    return sorted((kept.data_root / kept.settings.folder).iterdir())


def test_segments_cover_the_image_and_keep_to_its_edges():
    segments = find_segments(two_halves(), 30)
    assert segments.shape == (60, 80)
    assert 15 <= len(np.unique(segments)) <= 45
    left, right = segments[:, :34], segments[:, 46:]  # the image is blurred by 3 pixels
    assert set(left.flat).isdisjoint(right.flat)


def test_a_pixel_lies_in_the_segment_of_the_nearest_centre():
    segments = np.arange(12, dtype=np.uint16).reshape(3, 4)
    pixels = np.array([[0.4, 0.4], [2.6, 0.0], [-0.4, 2.4]], np.float32)
    assert segments_at(segments, pixels).tolist() == [0, 3, 8]


def test_what_was_found_is_read_again_and_not_found_again(kept, monkeypatch):
    first = kept(two_halves())
    monkeypatch.setattr(superpixels_module, 'find_segments', None)
    again = kept(two_halves())
    assert again.dtype == np.uint16
    assert np.array_equal(first, again)


def test_another_image_other_settings_and_another_version_are_found_anew(kept, monkeypatch):
    image = two_halves()
    kept(image)
    changed = image.copy()
    changed[0, 0, 0] += 1
    kept(changed)
    kept(image.reshape(80, 60, 3))
    Superpixels(SuperpixelSettings(num_segments=31), kept.data_root)(image)
    monkeypatch.setattr(superpixels_module, 'version', lambda _: '0.0')
    kept(image)
    assert len(files_of(kept)) == 5


def test_a_write_that_fails_leaves_nothing(kept, monkeypatch):
    def half_a_file(path, **_):
        path.write_bytes(b'PK')
        raise OSError('disk full')

    with monkeypatch.context() as patch:
        patch.setattr(np, 'savez_compressed', half_a_file)
        with pytest.raises(OSError, match='disk full'):
            kept(two_halves())
    assert files_of(kept) == []
    kept(two_halves())
    assert len(files_of(kept)) == 1


def test_a_spoilt_file_is_named(kept):
    kept(two_halves())
    (path,) = files_of(kept)
    for content in (b'', b'no zip file', path.read_bytes()[:40]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r'(?s)superpixels cannot be read.*delete') as error:
            kept(two_halves())
        assert str(path) in str(error.value)


def write_many_times(kept, times):
    segments = find_segments(two_halves(), 30)
    path = kept.data_root / 'together.npz'
    for _ in range(times):
        superpixels_module._write(path, segments)
        assert np.array_equal(superpixels_module._read(path), segments)


def test_processes_that_write_the_same_file_do_not_spoil_it(kept):
    context = multiprocessing.get_context('fork')
    workers = [context.Process(target=write_many_times, args=(kept, 40)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert os.listdir(kept.data_root) == ['together.npz']


def open_run(tiny, **changes):
    run = create_run(write_settings(tiny, loss=SLIDR, **changes), tiny / 'run', tiny)
    return run, TrainingSweeps(run.open_training(), run.settings, find_superpixels(run))


def test_a_pair_keeps_the_superpixel_of_its_pixel_before_augmentation(tiny):
    run, sweeps = open_run(tiny, augment={'crop': 0.5, 'flip_image': True})
    sample = sweeps.sample(0)
    rows, columns = np.indices((HEIGHT, WIDTH))
    where = np.stack([columns, rows, 0 * rows], axis=2).astype(np.uint8)  # colours are places
    sample = replace(sample, images=(replace(sample.images[0], image=where),))
    superpixels = find_superpixels(run)
    segments = superpixels(where)
    for seed in range(8):
        batch = prepare_sweep(sample, run.settings, np.random.default_rng(seed), superpixels)
        u, v = np.rint(batch.pixels[0]).astype(int).T
        before = batch.images[0].image[v, u, :2]
        assert len(batch.segments) > 50
        assert np.array_equal(batch.segments, segments_at(segments, before))


def test_all_pairs_of_a_superpixel_are_kept(tiny):
    still = {'rotate': 0, 'flip': [], 'scale': 0, 'drop_cuboid': 0, 'crop': 1}
    run, sweeps = open_run(tiny, augment=still, pairs=2)
    sample = sweeps.sample(0)
    pairs = pair_points(sample.points, sample.images[0], run.settings.pairing)
    assert len(sweeps[0, 0].segments) == len(pairs) > 100


def test_ids_of_two_images_never_collide(tiny):
    _, sweeps = open_run(tiny)
    batches = [sweeps[0, index] for index in range(3)]
    together = collate(batches)
    parts = np.split(together.segments, np.cumsum([len(b.segments) for b in batches])[:-1])
    assert all(set(a).isdisjoint(b) for a, b in pairwise(parts))
    for number, (part, batch) in enumerate(zip(parts, batches)):
        assert np.array_equal(part % MOST_SEGMENTS, batch.segments)
        assert (part // MOST_SEGMENTS == number).all()


def test_only_segments_with_supervised_points_are_left(tiny):
    teacher = {'kind': 'label_maps', 'vocabulary': 'tiny.yaml', 'ignore_classes': ['road']}
    run, sweeps = open_run(tiny, teacher=teacher)
    build = run.build_teacher(build_text_encoder(run.settings.text, tiny))
    batch = collate([sweeps[0, 0], sweeps[0, 1]])
    found = teacher_features(build, batch, np.zeros(16, np.float32))
    assert len(found.features) == len(found.rows) == len(found.segments)
    assert 1 < len(found.segments.unique()) < len(np.unique(batch.segments))


def test_other_losses_find_no_superpixels(tiny):
    train(tiny, 'run')
    assert not (tiny / 'superpixels').exists()


@pytest.mark.parametrize('kind', ['slidr', 'st_slidr'])
def test_superpixel_losses_go_down_and_find_each_image_once(tiny, kind):
    write_settings(tiny, loss={**SLIDR, 'kind': kind}, epochs=12)
    train(tiny, 'run')
    curve = losses(tiny / 'run')
    assert np.mean(curve[-4:]) < 0.9 * np.mean(curve[:4])
    assert len(list((tiny / 'superpixels').iterdir())) == 5


def test_a_resumed_run_with_superpixels_equals_an_uninterrupted_one(tiny):
    write_settings(tiny, loss=SLIDR, workers=1)
    train(tiny, 'whole')
    with pytest.raises(StoppedError):
        train(tiny, 'parts', stop=StopAfter(3))
    train(tiny, 'parts', resume=True)
    assert checkpoint_of(tiny / 'parts') == checkpoint_of(tiny / 'whole')


def test_the_folder_is_a_setting(tiny):
    elsewhere = str(tiny / 'elsewhere')
    write_settings(tiny, loss={'kind': 'slidr', 'superpixels': {'folder': elsewhere}}, epochs=1)
    train(tiny, 'run')
    assert len(os.listdir(elsewhere)) == 5
    assert torch.isfinite(torch.tensor(losses(tiny / 'run'))).all()
