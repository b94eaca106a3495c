# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The statistics of a comparison against values by hand, scipy and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import pearsonr, rankdata, spearmanr, ttest_rel, wilcoxon

from trainer.compare.statistics import (
    Scores,
    all_correlations,
    all_summaries,
    all_tests,
    compare_paired,
    correlate,
    summarise,
)

VALUES = st.floats(0, 1, width=16)


def scores_of(miou, gap=None):
    """Scores of one protocol and one measure from {(teacher, loss): values by seed}."""
    columns = [
        {(*key, seed): value for key, values in table.items() for seed, value in enumerate(values)}
        for table in (miou, gap or {})
    ]
    return Scores({'zero_shot': columns[0]}, {'cross_gap': columns[1]} if gap else {})


def test_mean_and_sample_deviation_of_three_seeds():
    assert summarise([0.5, 0.6, 0.7]) == pytest.approx({'mean': 0.6, 'std': 0.1, 'seeds': 3})
    assert summarise([0.5]) == {'mean': 0.5, 'std': None, 'seeds': 1}


def test_a_paired_test_of_three_seeds_by_hand():
    found = compare_paired({0: 0.5, 1: 0.6, 2: 0.7}, {2: 0.5, 0: 0.4, 1: 0.45})
    assert found['difference'] == pytest.approx(0.15)  # of 0.1, 0.15, 0.2
    assert found['t'] == pytest.approx(0.15 / (0.05 / math.sqrt(3)))
    assert found['p_t'] == pytest.approx(0.035099, abs=1e-6)  # two-sided, 2 degrees of freedom
    assert found['interval'] == pytest.approx([0.0258, 0.2742], abs=1e-4)  # 4.3027 sd / sqrt(3)
    assert found['p_wilcoxon'] == 0.25  # 2 of the 8 choices of signs
    assert found['seeds'] == 3


@given(st.lists(st.tuples(VALUES, VALUES), min_size=3, max_size=8, unique=True))
def test_a_paired_test_is_that_of_scipy(pairs):
    first, second = map(list, zip(*pairs))
    assume(np.ptp(np.subtract(first, second)) > 1e-3)
    found = compare_paired(dict(enumerate(first)), dict(enumerate(second)))
    assert found['p_t'] == pytest.approx(ttest_rel(first, second).pvalue)
    assert found['p_wilcoxon'] == pytest.approx(wilcoxon(first, second).pvalue)


def test_only_seeds_that_both_have_are_paired():
    found = compare_paired({0: 0.5, 1: 0.6, 7: 0.0}, {0: 0.4, 1: 0.45, 8: 1.0})
    assert (found['seeds'], found['difference']) == (2, pytest.approx(0.125))


@pytest.mark.parametrize(
    ('one', 'other'),
    [({0: 0.5}, {0: 0.4}), ({0: 0.5}, {1: 0.4}), ({0: 0.5, 1: 0.6}, {0: 0.5, 1: 0.6})],
)
def test_what_a_paired_test_cannot_say_is_none(one, other):
    assert compare_paired(one, other)['p_t'] is None


def test_the_correlations_and_their_intervals_are_those_of_scipy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=12)
    y = rng.normal(size=12) - x
    found = correlate(list(x), list(y))
    pearson, spearman = pearsonr(x, y), spearmanr(x, y)
    assert (found['pearson'], found['pearson_p']) == pytest.approx(tuple(pearson))
    assert found['pearson_interval'] == pytest.approx(list(pearson.confidence_interval(0.95)))
    assert (found['spearman'], found['spearman_p']) == pytest.approx(tuple(spearman))
    assert found['spearman'] == pytest.approx(pearsonr(rankdata(x), rankdata(y)).statistic)
    assert found['runs'] == 12


def test_the_interval_of_spearman_by_hand():
    found = correlate([1, 2, 3, 4, 5, 6, 7], [2, 1, 4, 3, 7, 5, 6])
    rho = found['spearman']
    assert rho == pytest.approx(1 - 6 * 10 / (7 * 48))
    half = 1.959964 * math.sqrt((1 + rho**2 / 2) / 4)
    expected = [math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)]
    assert found['spearman_interval'] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('kind', ['pearson', 'spearman'])
def test_the_intervals_hold_the_true_correlation_19_times_in_20(kind):
    rng = np.random.default_rng(1)
    pearson = 0.6
    truth = {'pearson': pearson, 'spearman': 6 / math.pi * math.asin(pearson / 2)}[kind]
    inside = 0
    for _ in range(400):
        x, noise = rng.normal(size=(2, 24))
        y = pearson * x + math.sqrt(1 - pearson**2) * noise
        low, high = correlate(list(x), list(y))[f'{kind}_interval']
        inside += low <= truth <= high
    assert 0.92 <= inside / 400 <= 0.98


def test_what_a_correlation_cannot_say_is_none():
    assert correlate([1, 2], [2, 1])['pearson'] is None
    assert correlate([1, 1, 1, 1], [1, 2, 3, 4])['spearman'] is None
    assert correlate([], [])['runs'] == 0
    assert correlate([1, 2, 4], [1, 2, 3])['pearson_interval'] is None


def test_every_loss_is_tested_against_the_reference_of_its_own_teacher():
    scores = scores_of(
        {
            ('a', 'relational'): [0.5, 0.6, 0.7],
            ('a', 'similarity'): [0.4, 0.45, 0.5],
            ('b', 'similarity'): [0.9, 0.9, 0.9],
        }
    )
    (test,) = all_tests(scores, 'relational')
    assert (test['teacher'], test['loss'], test['protocol']) == ('a', 'similarity', 'zero_shot')
    assert test['difference'] == pytest.approx(-0.15)


def test_a_correlation_is_told_over_all_teachers_and_within_each():
    scores = scores_of(
        {('a', 'x'): [0.1, 0.2, 0.3], ('b', 'x'): [0.7, 0.8, 0.9]},
        {('a', 'x'): [0.3, 0.2, 0.1], ('b', 'x'): [0.9, 0.8, 0.7]},
    )
    found = {entry['teacher']: entry for entry in all_correlations(scores)}
    assert [found[name]['pearson'] for name in 'ab'] == pytest.approx([-1, -1])
    assert found['all']['pearson'] > 0.8  # the teachers differ, and hide what holds in each
    assert found['all']['runs'] == 6


def test_a_row_counts_the_seeds_that_it_has():
    scores = scores_of({('a', 'x'): [0.1, 0.3], ('a', 'y'): [0.5]})
    found = {entry['loss']: entry for entry in all_summaries(scores)}
    assert (found['x']['seeds'], found['x']['mean']) == (2, pytest.approx(0.2))
    assert (found['y']['seeds'], found['y']['std']) == (1, None)
