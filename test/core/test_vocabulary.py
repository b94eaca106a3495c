# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A vocabulary's classes, colours, and what it makes of a data set's labels."""

from __future__ import annotations

import numpy as np
import pytest

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import parse_settings
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary


def vocabulary(color=(1, 2, 3), **label_names):
    values = {
        'version': 1,
        'name': 'two',
        'classes': [
            {'name': 'road', 'color': list(color)},
            {'name': 'car', 'color': [4, 5, 6]},
        ],
        'label_names': label_names,
    }
    return parse_settings(values, Vocabulary, 'here')


def test_labels_are_found_by_the_names_of_the_classes():
    table = vocabulary().label_table('any', ['tree', 'car', 'road'])
    assert table[:3].tolist() == [IGNORE_INDEX, 1, 0]
    assert (table[3:] == IGNORE_INDEX).all()


def test_a_mapping_takes_the_place_of_the_names():
    table = vocabulary(scenes={'Street': 'road', 'Lane': 'road'}).label_table(
        'scenes', ['car', 'Lane', 'Street']
    )
    assert table[:3].tolist() == [IGNORE_INDEX, 0, 0]


def test_a_mapped_label_that_the_data_set_lacks_is_named():
    with pytest.raises(InputError, match=r'(?s)does not have the labels Raod.*Road'):
        vocabulary(scenes={'Raod': 'road', 'Car': 'car'}).label_table('scenes', ['Road', 'Car'])


@pytest.mark.parametrize('label_names', [{}, {'scenes': {}}])
def test_a_vocabulary_that_knows_no_label_is_told(label_names):
    with pytest.raises(InputError, match=r'(?s)knows none of the labels.*sheep'):
        vocabulary(**label_names).label_table('scenes', ['sheep'])


def test_there_may_be_as_many_labels_as_fit_below_the_number_for_none():
    names = ['road', *(f'other {n}' for n in range(254))]
    assert vocabulary().label_table('any', names)[0] == 0
    for extra in (1, 2, 1000):
        with pytest.raises(InputError, match='too many labels'):
            vocabulary().label_table('any', [*names, *['car'] * extra])


def test_every_label_has_a_colour():
    table = vocabulary().color_table((7, 8, 9))
    assert (table.shape, table.dtype) == ((256, 3), np.uint8)
    assert table[[0, 1, 2, 255]].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [7, 8, 9]]


@pytest.mark.parametrize('value', [-1, 256, 0.5, '1'])
def test_a_colour_that_no_screen_has_is_refused(value):
    with pytest.raises(InputError, match=r'classes\.0\.color\.2'):
        vocabulary(color=(0, 0, value))
