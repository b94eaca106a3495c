# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Labels of a bag: class numbers, one per point."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rosbags', reason='rosbags is not installed')

from height_bag import cloud

from reldistill_ros.bags.bag_topics import read_labels
from reldistill_ros.core.errors import InputError

DATATYPES = {'int8': 1, 'uint8': 2, 'uint16': 4, 'int32': 5, 'float32': 7}


def labels(values, kind):
    records = np.array(values, kind)
    return cloud(0, 0, [('label', 0, DATATYPES[kind])], records)


@pytest.mark.parametrize('kind', ['uint8', 'uint16', 'int32'])
def test_labels_of_any_integer_type_are_read(kind):
    found = read_labels(labels([0, 7, 255], kind), 3, 'here')
    assert found.dtype == np.uint8
    assert found.tolist() == [0, 7, 255]


@pytest.mark.parametrize(
    ('values', 'kind'),
    [([0, 300], 'uint16'), ([0, -1], 'int8'), ([0, 1], 'float32'), ([0, np.nan], 'float32')],
)
def test_labels_that_are_no_class_numbers_are_refused(values, kind):
    with pytest.raises(InputError, match=r'(?s)no class numbers.*here'):
        read_labels(labels(values, kind), 2, 'here')


def test_labels_of_another_cloud_are_refused():
    with pytest.raises(InputError, match='do not belong together'):
        read_labels(labels([0, 1], 'uint8'), 3, 'here')
