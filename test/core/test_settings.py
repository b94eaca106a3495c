# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Settings take what is meant and nothing that only looks like it."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

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


def complaints(**values):
    with pytest.raises(InputError) as caught:
        parse(**values)
    return str(caught.value).splitlines()[:-2]  # without where and what to do


def test_a_misspelt_key_is_told_in_one_line_with_what_was_meant():
    assert complaints(inner={'feature': ['height']}) == [
        'the settings are not valid: inner.feature: there is no such key; did you mean features?'
    ]
    assert complaints(rat=1, zzz=2) == [
        'the settings are not valid: rat: there is no such key; did you mean rate?',
        '  and zzz: there is no such key',
    ]


class Cat(Settings):
    kind: Literal['cat']
    lives: int


class Dog(Settings):
    kind: Literal['dog']
    bark: str = ''


class Owner(Settings):
    name: str
    pets: tuple[Annotated[Cat | Dog, Field(discriminator='kind')], ...] = Field(
        default=(), min_length=1
    )
    favourite: Cat | None = None
    by_name: dict[str, Dog] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ('values', 'told'),
    [
        ({'nam': 'x'}, ['nam: there is no such key; did you mean name?']),  # and none is missing
        ({}, ['name: missing']),
        (
            {'name': 'x', 'pets': [{'kind': 'dog'}, {'kind': 'cat', 'live': 9}]},
            ['pets.1.cat.live: there is no such key; did you mean lives?'],
        ),
        (
            {'name': 'x', 'favourite': {'kind': 'cat', 'lives': 9, 'bark': 'no'}},
            ['favourite.bark: there is no such key'],
        ),
        (
            {'name': 'x', 'by_name': {'rex': {'kind': 'dog', 'barks': 'w'}}},
            ['by_name.rex.barks: there is no such key; did you mean bark?'],
        ),
    ],
)
def test_what_was_meant_is_looked_for_where_the_key_stands(values, told):
    with pytest.raises(InputError) as caught:
        parse_settings(values, Owner, 'here')
    lines = str(caught.value).splitlines()[:-2]
    assert [line.removeprefix('the settings are not valid: ') for line in lines] == told
