# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Engines on disk: only the right one, whole, is ever opened."""

from __future__ import annotations

import os

import pytest

from reldistill_ros.backends import engine_files
from reldistill_ros.backends.engine_files import (
    EngineCache,
    EngineKey,
    read_blob,
    read_engine,
    read_fitting_engine,
    write_blob,
    write_engine,
)
from reldistill_ros.core.errors import InputError

KEY = EngineKey(
    model='ab' * 32,
    library='tensorrt',
    version='10.3.0',
    gpu='Orin',
    compute_capabilities=('8.7',),
    precision='float16',
    profile=((64,) * 5, (128,) * 5, (256,) * 5),
)
ENGINE = bytes(range(256)) * 40
OTHERS = {
    'model': 'cd' * 32,
    'library': 'tensorrt_rtx',
    'version': '10.7.0',
    'gpu': 'NVIDIA H200',
    'compute_capabilities': ('9.0',),
    'precision': 'float32',
    'profile': ((64,) * 5, (128,) * 5, (320,) * 5),
    'recipe': 2,
}


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / 'engines')


def test_an_engine_comes_back_as_it_was_kept(cache):
    assert cache.get(KEY) is None
    path = cache.put(KEY, ENGINE)
    assert cache.get(KEY) == ENGINE
    assert read_engine(path).key == KEY
    assert [file.name for file in cache.folder.iterdir()] == [path.name]


@pytest.mark.parametrize('field', OTHERS)
def test_every_field_of_the_key_makes_another_engine(cache, field):
    cache.put(KEY, ENGINE)
    assert cache.get(KEY.model_copy(update={field: OTHERS[field]})) is None


def test_the_parametrisation_names_every_field():
    assert OTHERS.keys() == EngineKey.model_fields.keys()


@pytest.mark.parametrize('field', OTHERS)
def test_a_given_engine_for_something_else_is_refused_with_the_command(tmp_path, field):
    write_engine(tmp_path / 'a.engine', KEY, ENGINE)
    here = KEY.model_copy(update={field: OTHERS[field]})
    with pytest.raises(InputError) as caught:
        read_fitting_engine(tmp_path / 'a.engine', here, 'python -m build me')
    lines = dict(line.strip().split(': ', 1) for line in str(caught.value).splitlines()[1:])
    assert lines['expected'] == f'{field} {OTHERS[field]}'
    assert lines['got'] == f'{field} {getattr(KEY, field)}'
    assert lines['to do'] == 'build it anew: python -m build me'


def test_an_engine_built_ahead_of_time_is_found_by_each_gpu_that_it_serves(cache):
    ahead = KEY.model_copy(update={'gpu': '', 'compute_capabilities': ('8.6', '8.9')})
    cache.put(ahead, ENGINE)
    ada = KEY.model_copy(update={'gpu': 'RTX 4090', 'compute_capabilities': ('8.9',)})
    assert cache.get(ada) == ENGINE
    assert cache.get(KEY) is None
    cache.put(ada, b'its own')
    assert cache.get(ada) == b'its own'
    assert cache.get(ahead) == ENGINE


def test_a_broken_engine_does_not_hide_another_one_that_serves(cache, capsys):
    cache.put(KEY.model_copy(update={'gpu': ''}), ENGINE)
    cache.put(KEY, b'its own').write_bytes(b'broken')
    assert cache.get(KEY) == ENGINE
    assert 'left aside' in capsys.readouterr().err


def test_an_engine_for_several_gpus_serves_each_of_them_and_no_other(tmp_path):
    several = KEY.model_copy(update={'gpu': '', 'compute_capabilities': ('8.6', '8.9')})
    write_engine(tmp_path / 'a.engine', several, ENGINE)
    ada = KEY.model_copy(update={'gpu': 'RTX 4090', 'compute_capabilities': ('8.9',)})
    assert read_fitting_engine(tmp_path / 'a.engine', ada, '') == ENGINE
    with pytest.raises(InputError, match=r"expected: compute_capabilities \('8.7',\)"):
        read_fitting_engine(tmp_path / 'a.engine', KEY, '')


@pytest.mark.parametrize('position', [0, 30, 300, -1])
def test_a_changed_byte_anywhere_is_noticed(cache, position, capsys):
    path = cache.put(KEY, ENGINE)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_fitting_engine(path, KEY, '')
    assert cache.get(KEY) is None
    assert 'left aside' in capsys.readouterr().err


@pytest.mark.parametrize('size', [0, 10, 100, 5000])
def test_a_file_that_was_cut_off_is_noticed(cache, size):
    path = cache.put(KEY, ENGINE)
    path.write_bytes(path.read_bytes()[:size])
    assert cache.get(KEY) is None
    with pytest.raises(InputError):
        read_engine(path)


def test_a_file_under_the_name_of_another_key_is_not_used(cache):
    other = KEY.model_copy(update={'gpu': 'another'})
    cache.put(other, ENGINE).rename(cache.folder / f'{KEY.digest[:32]}.engine')
    assert cache.get(KEY) is None


def test_the_folder_is_private_and_one_that_others_can_write_to_is_refused(cache, tmp_path):
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    open_folder = tmp_path / 'open'
    open_folder.mkdir()
    os.chmod(open_folder, 0o777)
    with pytest.raises(InputError, match=r'(?s)folder for engines.*chmod go-w'):
        EngineCache(open_folder)


def test_the_oldest_engines_go_when_there_are_many(cache, monkeypatch):
    monkeypatch.setattr(engine_files, 'MOST_KEPT', 2)
    keys = [KEY.model_copy(update={'version': str(number)}) for number in range(4)]
    for age, key in enumerate(keys):
        os.utime(cache.put(key, ENGINE), (age, age))
    assert [cache.get(key) is not None for key in keys] == [False, False, True, True]


def test_what_a_library_keeps_is_read_back_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'a.timing'
    assert read_blob(path) is None
    write_blob(path, ENGINE)
    assert read_blob(path) == ENGINE
    path.write_bytes(path.read_bytes()[:-1])
    assert read_blob(path) is None
    path.write_bytes(b'\xff\xfe nothing of ours')
    assert read_blob(path) is None
