# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Thresholds are read strictly, and what is not known never passes."""

from __future__ import annotations

import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reldistill_ros.core.errors import InputError
from reldistill_ros.replay.requirements import check, flatten, parse_requirement, table

SUMMARY = {
    'mode': 'live',
    'frames_dropped': 0,
    'miou': None,
    'latency_ms': {'p50': 20.5, 'p95': 50.0},
    'per_class_iou': {'traffic sign': 0.5, 'no. 7': 0.25},
    'drops': {'busy': 3},
}


def is_met(text):
    (finding,) = check([parse_requirement(text)], SUMMARY)
    return finding.passed


@pytest.mark.parametrize(
    'text',
    [
        'latency_ms.p95<=50',
        ' latency_ms.p95 <= 5e1 ',
        'latency_ms.p50 < 20.6',
        'frames_dropped==0',
        'per_class_iou.traffic sign>0.4',
        'per_class_iou.no. 7 >= .25',
        'drops.busy != 0',
        'latency_ms.p50 > -1',
    ],
)
def test_requirements_that_are_met(text):
    assert is_met(text)


@pytest.mark.parametrize('text', ['latency_ms.p95<50', 'drops.busy==0', 'latency_ms.p50!=20.5'])
def test_requirements_that_are_not_met(text):
    assert not is_met(text)


@pytest.mark.parametrize('comparison', ['<', '<=', '==', '!=', '>', '>='])
def test_what_is_not_known_meets_no_requirement(comparison):
    assert not is_met(f'miou{comparison}0.5')


@pytest.mark.parametrize(
    'text',
    [
        '',
        'miou',
        'miou=0.5',
        'miou=>0.5',
        'miou>=',
        '>=1',
        'miou>=half',
        'miou>=nan',
        'miou<inf',
        '0<miou<1',
        'miou>=1_0',
        'miou>=0.5;x',
    ],
)
def test_what_is_no_requirement_is_refused(text):
    with pytest.raises(InputError, match='a requirement cannot be read'):
        parse_requirement(text)


def test_an_unknown_key_is_refused_with_those_that_are_spelt_alike():
    with pytest.raises(InputError, match=r'did you mean latency_ms\.p95\?'):
        check([parse_requirement('latency_ms.p96<=50')], SUMMARY)


@pytest.mark.parametrize('key', ['mode', 'latency_ms', 'per_class_iou'])
def test_what_is_no_number_cannot_be_required(key):
    with pytest.raises(InputError, match='no such number'):
        check([parse_requirement(f'{key}<=50')], SUMMARY)


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([('<', operator.lt), ('<=', operator.le), ('>', operator.gt)]),
)
def test_numbers_are_compared_as_they_are_written(value, limit, comparison):
    sign, function = comparison
    (finding,) = check([parse_requirement(f'a.b{sign}{limit!r}')], {'a': {'b': value}})
    assert finding.passed == function(value, limit)


def test_the_table_begins_with_what_failed():
    texts = ['drops.busy==3', 'miou>=0.5', 'drops.busy==0']
    lines = table(check([parse_requirement(text) for text in texts], SUMMARY)).splitlines()
    assert [line.split()[0] for line in lines] == ['FAILED', 'FAILED', 'passed']
    assert 'not known' in lines[0]


def test_every_number_of_a_summary_has_a_key():
    assert flatten(SUMMARY)['per_class_iou.no. 7'] == 0.25
    assert 'mode' not in flatten(SUMMARY)


def test_every_unknown_number_is_told_with_what_was_meant():
    wanted = [parse_requirement(text) for text in ('latency.p95<=1', 'mio>=0.5', 'miou>=0.5')]
    with pytest.raises(InputError) as caught:
        check(wanted, SUMMARY)
    assert str(caught.value).splitlines() == [
        "the summary has no such number: --require 'latency.p95<=1'; did you mean latency_ms.p95?",
        "  and --require 'mio>=0.5'; did you mean miou?",
    ]
    with pytest.raises(InputError, match=r'(?s)zzz.*expected: one of drops\.busy, frames_dropped'):
        check([parse_requirement('zzz>1')], SUMMARY)
