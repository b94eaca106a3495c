# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Features kept on disk: found again, never stale, never half written."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from reldistill_ros.core.errors import InputError
from trainer.settings import CHECKOUT
from trainer.teachers import feature_cache
from trainer.teachers.feature_cache import FeatureCache
from trainer.teachers.grids import ImageGrids

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
GRID = torch.randn(1, 8, 3, 5).half()


class Blocks:
    """Mean colours of patches of 8 pixels, counting how often it is asked."""

    patch_size, embedding_size = 8, 3
    mean, std, device = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 'cpu'

    def __init__(self, name='blocks'):
        self.name, self.calls = name, 0

    def __call__(self, pixels):
        self.calls += 1
        return F.normalize(F.avg_pool2d(pixels, 8), dim=1)


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path, 'teacher')


def files(folder):
    return list(folder.rglob('*.safetensors'))


def test_what_is_written_is_read_and_nothing_else(cache):
    key = cache.key(IMAGE)
    assert cache.read(key) is None
    cache.write(key, GRID)
    assert torch.equal(cache.read(key), GRID)
    assert cache.read(key).dtype == torch.float16
    assert (cache.folder / 'teacher.txt').read_text() == 'teacher\n'
    assert files(cache.folder) == [cache.path(key)]


def test_kept_features_are_those_that_are_computed_and_cost_no_second_look(tmp_path):
    plain, first, second = Blocks(), Blocks(), Blocks()
    expected = ImageGrids(plain, size=24)(IMAGE)
    assert torch.equal(ImageGrids(first, size=24, cache=tmp_path)(IMAGE), expected)
    assert torch.equal(ImageGrids(second, size=24, cache=tmp_path)(IMAGE), expected)
    assert (first.calls, second.calls) == (1, 0)


def test_half_precision_turns_no_feature_by_more_than_a_thousandth():
    exact = F.normalize(torch.randn(2000, 384), dim=1)
    cosines = (exact.double() * F.normalize(exact.half().double(), dim=1)).sum(1)
    assert 1 - cosines.min() < 1e-6  # an angle of 1e-3 is 5e-7


@given(st.integers(0, 23), st.integers(0, 39), st.integers(0, 2), st.integers(1, 255))
def test_any_change_of_a_pixel_is_another_image(row, column, channel, change):
    changed = IMAGE.copy()
    changed[row, column, channel] ^= np.uint8(change)
    cache = FeatureCache(Path(), 'teacher')
    assert cache.key(changed) != cache.key(IMAGE)


def test_the_shape_is_part_of_the_image_and_the_memory_order_is_not():
    cache = FeatureCache(Path(), 'teacher')
    assert cache.key(IMAGE.reshape(40, 24, 3)) != cache.key(IMAGE)
    assert cache.key(np.asfortranarray(IMAGE)) == cache.key(IMAGE)
    assert cache.key(IMAGE[:, ::-1][:, ::-1]) == cache.key(IMAGE)


def test_another_teacher_or_size_or_format_finds_nothing(tmp_path, monkeypatch):
    ImageGrids(Blocks(), size=24, cache=tmp_path)(IMAGE)
    for name, size in (('blocks', 32), ('others', 24)):
        network = Blocks(name)
        ImageGrids(network, size=size, cache=tmp_path)(IMAGE)
        assert network.calls == 1
    monkeypatch.setattr(feature_cache, 'FORMAT', 2)
    network = Blocks()
    ImageGrids(network, size=24, cache=tmp_path)(IMAGE)
    assert network.calls == 1
    assert len(files(tmp_path)) == 4


@pytest.mark.parametrize('damage', ['cut', 'empty', 'zeros', 'bit', 'other tensors'])
def test_a_damaged_file_is_named_with_what_to_do(cache, damage):
    key = cache.key(IMAGE)
    cache.write(key, GRID)
    path = cache.path(key)
    content = bytearray(path.read_bytes())
    if damage == 'bit':
        content[-40] ^= 1
    damaged = {
        'cut': content[:-20],
        'empty': b'',
        'zeros': bytes(len(content)),
        'bit': content,
        'other tensors': feature_cache.save({'x': GRID}),
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(
        InputError, match=rf'(?s)damaged.*{path.name}.*remove the file.*trainer\.teach'
    ):
        cache.read(key)


KILLED = """
import os, signal
from pathlib import Path
import torch
from trainer.teachers.feature_cache import FeatureCache
def half(self, data):
    with open(self, 'wb') as file:
        file.write(data[: len(data) // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
cache = FeatureCache(Path({folder!r}), 'teacher')
cache.write('aa11', torch.zeros(1, 8, 3, 5).half())
Path.write_bytes = half
cache.write('bb22', torch.zeros(1, 8, 3, 5).half())
"""


def test_a_process_that_is_killed_in_the_middle_of_a_write_leaves_only_whole_files(
    cache, tmp_path
):
    code = KILLED.format(folder=str(tmp_path))
    killed = subprocess.run([sys.executable, '-c', code], cwd=CHECKOUT)
    assert killed.returncode == -signal.SIGKILL
    assert cache.read('aa11') is not None
    assert cache.read('bb22') is None
    (left,) = (cache.folder / '.partial').iterdir()
    cache.remove_leftovers()
    assert left.exists()  # it might be another process's, at work
    long_ago = time.time() - 2 * feature_cache.SECONDS_TO_WRITE
    os.utime(left, (long_ago, long_ago))
    cache.remove_leftovers()
    assert not left.exists()


def test_two_processes_may_be_writing_the_same_image_at_once(cache, monkeypatch):
    plain, nested = Path.write_bytes, []

    def while_another_one_writes(self, data):
        plain(self, data)
        if not nested:
            nested.append(True)
            cache.write('aa11', GRID)

    monkeypatch.setattr(Path, 'write_bytes', while_another_one_writes)
    cache.write('aa11', GRID)
    assert nested
    assert torch.equal(cache.read('aa11'), GRID)
    assert not list((cache.folder / '.partial').iterdir())


def test_a_full_disk_is_said_and_leaves_nothing(cache, monkeypatch):
    def full(self, _):
        self.touch()
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'write_bytes', full)
        with pytest.raises(InputError, match=r'(?s)disk is full.*what is whole is kept'):
            cache.write('aa11', GRID)
    assert cache.read('aa11') is None
    assert not list((cache.folder / '.partial').iterdir())
