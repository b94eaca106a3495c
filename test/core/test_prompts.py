# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Prompts, templates and centring."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.prompts import SHORTEST_ROW, center, prompt_embeddings, unit_rows
from reldistill_ros.core.vocabulary import Vocabulary, VocabularyClass

VECTORS = {
    'a car': [3.0, 0.0, 0.0],
    'the car': [0.0, 0.5, 0.0],
    'a lawn': [0.0, 0.0, 2.0],
    'the lawn': [0.0, 0.0, 7.0],
    'a grass': [1.0, 0.0, 1.0],
    'the grass': [1.0, 0.0, 1.0],
}


def encode(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.array([VECTORS[text] for text in texts], dtype=np.float32)


def street(**changes: object) -> Vocabulary:
    values = {
        'version': 1,
        'name': 'street',
        'classes': (
            VocabularyClass(name='car', color=(0, 0, 255)),
            VocabularyClass(name='terrain', prompts=('lawn', 'grass'), color=(0, 255, 0)),
        ),
        'templates': ('a {}', 'the {}'),
    }
    return Vocabulary.model_validate(values | changes)


def test_each_sentence_counts_the_same_however_long_its_vector():
    rows = prompt_embeddings(street(), encode)
    np.testing.assert_allclose(rows[0], [np.sqrt(0.5), np.sqrt(0.5), 0], atol=1e-7)


def test_rows_stand_in_the_order_of_the_prompts():
    rows = prompt_embeddings(street(), encode)
    assert rows.shape == (3, 3)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows[1], [0, 0, 1], atol=1e-7)
    np.testing.assert_allclose(rows[2], [np.sqrt(0.5), 0, np.sqrt(0.5)], atol=1e-7)


def test_the_encoder_is_called_once_with_every_sentence():
    calls: list[list[str]] = []

    def record(texts: Sequence[str]) -> NDArray[np.float32]:
        calls.append(list(texts))
        return encode(texts)

    prompt_embeddings(street(), record)
    assert calls == [['a car', 'the car', 'a lawn', 'the lawn', 'a grass', 'the grass']]


def test_braces_in_a_prompt_stay_as_they_are():
    vocabulary = street(classes=(VocabularyClass(name='{0} car', color=(0, 0, 0)),))
    seen: list[str] = []

    def record(texts: Sequence[str]) -> NDArray[np.float32]:
        seen.extend(texts)
        return np.ones((len(texts), 2), dtype=np.float32)

    prompt_embeddings(vocabulary, record)
    assert seen == ['a {0} car', 'the {0} car']


@pytest.mark.parametrize('value', [0.0, np.nan, np.inf])
def test_a_prompt_without_embedding_is_named(value: float):
    def blank_lawn(texts: Sequence[str]) -> NDArray[np.float32]:
        rows = encode(texts)
        rows[['lawn' in text for text in texts]] = value
        return rows

    with pytest.raises(InputError, match="'lawn'") as caught:
        prompt_embeddings(street(), blank_lawn)
    assert "'car'" not in str(caught.value)


def test_an_encoder_that_loses_a_row_is_refused():
    with pytest.raises(InputError, match=r'(?s)one embedding per sentence.*\(6, C\).*\(5, 3\)'):
        prompt_embeddings(street(), lambda texts: encode(texts)[:-1])


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_not_passed_off_as_no_supervision(value: float):
    rows = unit_rows([[value, 1.0], [0.0, 2.0]])
    assert np.isnan(rows[0]).any()
    np.testing.assert_array_equal(rows[1], [0, 1])


rows_of_numbers = arrays(
    np.float64, (5, 4), elements=st.floats(-1e3, 1e3, allow_nan=False, width=32)
)


@given(rows_of_numbers)
def test_unit_rows_are_of_length_one_or_zero(rows: NDArray[np.float64]):
    lengths = np.linalg.norm(unit_rows(rows), axis=1)
    short = np.linalg.norm(rows, axis=1) < SHORTEST_ROW
    np.testing.assert_allclose(lengths, np.where(short, 0.0, 1.0), atol=1e-6)


@given(rows_of_numbers, arrays(np.float32, 4, elements=st.floats(-1, 1, width=32)))
def test_centred_rows_are_of_length_one_or_zero_and_point_away_from_the_mean(
    rows: NDArray[np.float64], mean: NDArray[np.float32]
):
    units = unit_rows(rows)
    centred = center(units, mean)
    lengths = np.linalg.norm(centred, axis=1)
    assert np.all((lengths == 0) | (np.abs(lengths - 1) < 1e-6))
    offsets = units.astype(np.float64) - mean
    known = lengths > 0
    assert np.all(np.sum(centred * offsets, axis=1)[known] > 0)


def test_centring_leaves_rows_without_supervision_at_zero():
    rows = np.array([[0, 0], [1, 0]], dtype=np.float32)
    centred = center(rows, np.array([0.5, 0.5], dtype=np.float32))
    np.testing.assert_array_equal(centred[0], [0, 0])
    np.testing.assert_allclose(centred[1], [np.sqrt(0.5), -np.sqrt(0.5)], atol=1e-7)


def test_a_row_that_is_the_mean_has_no_direction_left():
    row = unit_rows([[0.3, 0.1, 0.7]])
    almost = row[0] * np.float32(1 + 1e-7)
    np.testing.assert_array_equal(center(row, almost), [[0, 0, 0]])


def test_centring_by_zero_changes_nothing():
    rows = unit_rows(np.random.default_rng(0).normal(size=(8, 5)))
    np.testing.assert_allclose(center(rows, np.zeros(5, np.float32)), rows, atol=1e-7)


def test_centring_spreads_a_narrow_cone():
    rng = np.random.default_rng(0)
    cone = unit_rows(rng.normal(size=(20, 16)) * 0.2 + 1)
    before = (cone @ cone.T)[~np.eye(20, dtype=bool)].mean()
    centred = center(cone, cone.mean(axis=0))
    after = (centred @ centred.T)[~np.eye(20, dtype=bool)].mean()
    assert before > 0.9
    assert abs(after) < 0.1


def test_a_mean_of_another_space_is_refused():
    with pytest.raises(InputError, match=r'(?s)shape \(3,\).*\(4,\)'):
        center(np.ones((2, 3), np.float32), np.ones(4, np.float32))


def test_prompts_need_no_torch():
    code = 'import sys, reldistill_ros.core.prompts; sys.exit("torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
