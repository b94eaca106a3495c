# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Embeddings on disk: private, whole, of one encoder, and not without end."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.prompts import unit_rows
from reldistill_ros.words.row_cache import RowCache

T = ('{}',)


def rows(num: int, seed: int = 0):
    return unit_rows(np.random.default_rng(seed).normal(size=(num, 8)))


def test_rows_come_back_bit_by_bit_in_another_process(tmp_path):
    given = rows(3)
    RowCache(tmp_path / 'cache', 'encoder').put(['a', 'ü', 'c'], T, given)
    other = RowCache(tmp_path / 'cache', 'encoder')
    for prompt, row in zip(['a', 'ü', 'c'], given):
        assert np.array_equal(other.get(prompt, T, 8), row)


def test_other_encoders_templates_and_prompts_are_other_rows(tmp_path):
    RowCache(tmp_path / 'cache', 'encoder').put(['a'], T, rows(1))
    assert RowCache(tmp_path / 'cache', 'another').get('a', T, 8) is None
    cache = RowCache(tmp_path / 'cache', 'encoder')
    assert cache.get('A', T, 8) is None
    assert cache.get('a', ('a {}',), 8) is None
    assert cache.get('a', T, 8) is not None


@pytest.mark.parametrize('content', [b'', b'\x93NUMPY', b'PK\x03\x04', os.urandom(200)])
def test_a_file_that_is_not_whole_counts_as_absent_and_is_written_anew(tmp_path, content):
    RowCache(tmp_path / 'cache', 'encoder').put(['a'], T, rows(1))
    (file,) = (tmp_path / 'cache').glob('*.npy')
    file.write_bytes(content)
    cache = RowCache(tmp_path / 'cache', 'encoder')
    assert cache.get('a', T, 8) is None
    cache.put(['a'], T, rows(1))
    assert RowCache(tmp_path / 'cache', 'encoder').get('a', T, 8) is not None


@pytest.mark.parametrize(
    'row', [np.zeros(8, np.float32), np.full(8, np.nan, np.float32), np.ones(7, np.float32)]
)
def test_a_file_that_holds_no_unit_row_counts_as_absent(tmp_path, row):
    RowCache(tmp_path / 'cache', 'encoder').put(['a'], T, rows(1))
    (file,) = (tmp_path / 'cache').glob('*.npy')
    np.save(file, row)
    assert RowCache(tmp_path / 'cache', 'encoder').get('a', T, 8) is None


def test_a_pickle_in_the_cache_is_not_opened(tmp_path):
    RowCache(tmp_path / 'cache', 'encoder').put(['a'], T, rows(1))
    (file,) = (tmp_path / 'cache').glob('*.npy')
    np.save(file, np.array([{'an': 'object'}] * 8, dtype=object), allow_pickle=True)
    assert RowCache(tmp_path / 'cache', 'encoder').get('a', T, 8) is None


def test_the_oldest_rows_go_when_there_are_too_many(tmp_path):
    cache = RowCache(tmp_path / 'cache', 'encoder', max_rows=5)
    for index in range(9):
        cache.put([f'w{index}'], T, rows(1, index))
        for file in (tmp_path / 'cache').glob('*.npy'):  # make it older than the next
            state = file.stat()
            os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns - 10**9))
    kept = RowCache(tmp_path / 'cache', 'encoder')
    assert [index for index in range(9) if kept.get(f'w{index}', T, 8) is not None] == [
        4,
        5,
        6,
        7,
        8,
    ]
    assert cache.get('w0', T, 8) is None


def test_folder_and_files_are_private_to_the_user(tmp_path):
    RowCache(tmp_path / 'deep' / 'cache', 'encoder').put(['a'], T, rows(1))
    assert (tmp_path / 'deep' / 'cache').stat().st_mode & 0o777 == 0o700
    assert [path.suffix for path in (tmp_path / 'deep' / 'cache').iterdir()] == ['.npy']


def test_a_folder_that_others_can_write_to_is_refused(tmp_path):
    (tmp_path / 'open').mkdir()
    (tmp_path / 'open').chmod(0o777)
    with pytest.raises(InputError, match=r'(?s)others can write.*0777.*chmod go-w'):
        RowCache(tmp_path / 'open', 'encoder')
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='cannot be had'):
        RowCache(tmp_path / 'file' / 'cache', 'encoder')


def test_a_disk_that_takes_nothing_costs_a_warning_only(tmp_path, monkeypatch):
    cache = RowCache(tmp_path / 'cache', 'encoder')
    (tmp_path / 'cache').rmdir()
    with pytest.warns(UserWarning, match='not kept on disk'):
        cache.put(['a'], T, rows(1))
    assert np.array_equal(cache.get('a', T, 8), rows(1)[0])


def test_two_writers_of_the_same_row_do_not_disturb_each_other(tmp_path):
    caches = [RowCache(tmp_path / 'cache', 'encoder') for _ in range(4)]
    failures = []

    def write(cache):
        try:
            for _ in range(30):
                cache.put(['a', 'b'], T, rows(2))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(cache,)) for cache in caches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert RowCache(tmp_path / 'cache', 'encoder').get('b', T, 8) is not None
