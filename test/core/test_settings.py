# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Settings take what is meant and nothing that only looks like it."""

from __future__ import annotations

import datetime
import math
from pathlib import Path

import pytest

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import (
    InputSettings,
    Settings,
    VoxelSettings,
    load_settings,
    parse_settings,
)


class Everything(Settings):
    count: int = 1
    rate: float = 1.0
    flag: bool = False
    path: Path = Path()
    names: tuple[str, ...] = ()
    inner: InputSettings = InputSettings()


def parse(**values):
    return parse_settings(values, Everything, 'here')


def test_lists_paths_mappings_and_whole_numbers_for_floats_are_taken():
    found = parse(rate=1, path='a/b', names=['x', 'y'], inner={'features': ['height']})
    assert found.rate == 1.0
    assert isinstance(found.rate, float)
    assert found.path == Path('a/b')
    assert found.names == ('x', 'y')
    assert found.inner.num_features == 1


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('count', True),
        ('count', '3'),
        ('count', 3.5),
        ('rate', '3'),
        ('rate', True),
        ('rate', math.nan),
        ('rate', math.inf),
        ('flag', 'off'),
        ('flag', 1),
        ('path', 3),
        ('names', 'xy'),
        ('names', [1]),
        ('unknown', 1),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_key(key, value):
    with pytest.raises(InputError, match=rf'(?s)not valid: {key}.*here'):
        parse(**{key: value})


def test_a_value_that_json_does_not_have_is_refused():
    itself = []
    itself.append(itself)
    for value in (datetime.date(2026, 1, 1), {1, 2}, itself):
        with pytest.raises(InputError, match='something else than text'):
            parse(names=value)


def test_infinite_numbers_are_refused_in_code_too():
    with pytest.raises(ValueError, match='finite'):
        VoxelSettings(voxel_size=math.inf, point_cloud_range=(0, 0, 0, 1, 1, 1))


@pytest.mark.parametrize('features', [[], ['height', 'height'], ['colour']])
def test_input_features_are_some_different_known_ones(features):
    with pytest.raises(InputError, match='features'):
        parse(inner={'features': features})


def test_an_exponent_without_a_point_is_told_how_to_be_written(tmp_path):
    path = tmp_path / 'settings.yaml'
    path.write_text('rate: 1e-3')
    with pytest.raises(InputError, match=r'1\.0e-3'):
        load_settings(path, Everything)
    path.write_text('rate: 1.0e-3')
    assert load_settings(path, Everything).rate == 0.001


def test_a_file_that_cannot_be_read_is_told_with_its_path(tmp_path):
    file = tmp_path / 'file'
    file.write_text('count: [')
    for path, words in (
        (tmp_path / 'none.yaml', 'does not exist'),
        (tmp_path, 'cannot be read'),
        (file / 'below.yaml', 'cannot be read'),
        (file, 'not YAML'),
    ):
        with pytest.raises(InputError, match=words) as error:
            load_settings(path, Everything)
        assert str(path) in str(error.value)
