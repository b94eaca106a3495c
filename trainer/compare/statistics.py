# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What a comparison's figures say: means over seeds, significance, correlations."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from statistics import mean, stdev
from typing import Any

import numpy as np
from scipy.stats import norm, pearsonr, spearmanr, ttest_rel, wilcoxon

ALL_TEACHERS = 'all'
CONFIDENCE = 0.95
FEWEST_FOR_INTERVAL = 4  # the variance of Fisher's z is 1 / (n - 3)

Values = dict[tuple[str, str, int], float]  # by teacher, loss and seed


@dataclass
class Scores:
    """The figures that are compared, by column.

    Attributes:
        miou: by protocol.
        structure: by measure.
    """

    miou: dict[str, Values] = field(default_factory=dict)
    structure: dict[str, Values] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, Values]:
        return {**self.miou, **self.structure}

    def rows(self) -> list[tuple[str, str]]:
        """Teachers and losses that have a figure, in the order of the runs."""
        keys = [key[:2] for values in self.columns.values() for key in values]
        return list(dict.fromkeys(keys))


def over_seeds(values: Values, teacher: str, loss: str) -> dict[int, float]:
    """The values of one teacher and loss by seed."""
    return {key[2]: value for key, value in values.items() if key[:2] == (teacher, loss)}


def summarise(values: Iterable[float]) -> dict[str, Any]:
    """Mean, sample standard deviation (n - 1; None for one value) and number."""
    values = list(values)
    spread = stdev(values) if len(values) > 1 else None
    return {'mean': mean(values), 'std': spread, 'seeds': len(values)}


def compare_paired(one: Mapping[int, float], other: Mapping[int, float]) -> dict[str, Any]:
    """Test whether `one` differs from `other` over the seeds that both have.

    Student's paired t-test with the interval of the mean difference, and Wilcoxon's signed-rank
    test, exact for the few seeds of a comparison; both two-sided. None where it is not defined:
    fewer than two seeds, or differences that are all equal.
    """
    seeds = sorted(one.keys() & other.keys())
    first, second = [one[s] for s in seeds], [other[s] for s in seeds]
    found: dict[str, Any] = {
        'seeds': len(seeds),
        'difference': mean(a - b for a, b in zip(first, second)) if seeds else None,
        **dict.fromkeys(('interval', 't', 'p_t', 'p_wilcoxon')),
    }
    if len(seeds) < 2:
        return found
    with warnings.catch_warnings():  # equal differences: the result is NaN, told as None
        warnings.simplefilter('ignore', RuntimeWarning)
        test = ttest_rel(first, second)
        interval = test.confidence_interval(CONFIDENCE)
        signed = wilcoxon(first, second)
    found['interval'] = _finite_interval(interval.low, interval.high)
    found['t'], found['p_t'] = _finite(test.statistic), _finite(test.pvalue)
    found['p_wilcoxon'] = _finite(signed.pvalue)
    return found


def correlate(x: Sequence[float], y: Sequence[float]) -> dict[str, Any]:
    """Pearson's and Spearman's correlation with 95 % intervals and two-sided p.

    The intervals are Fisher's z with variance 1 / (n - 3); for Spearman's rho
    (1 + rho^2 / 2) / (n - 3) (Bonett and Wright 2000). None where not defined: fewer than three
    points (four for an interval), or a constant side.
    """
    names = ('', '_interval', '_p')
    found: dict[str, Any] = {'runs': len(x)}
    found |= {f'{kind}{name}': None for kind in ('pearson', 'spearman') for name in names}
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return found
    for kind, test, extra in (('pearson', pearsonr, 0.0), ('spearman', spearmanr, 0.5)):
        result = test(x, y)
        r = float(result.statistic)
        interval = fisher_interval(r, len(x), 1 + extra * r**2)
        found |= {kind: r, f'{kind}_interval': interval, f'{kind}_p': _finite(result.pvalue)}
    return found


def fisher_interval(r: float, runs: int, variance: float) -> list[float] | None:
    """95 % interval of a correlation; `variance` is that of Fisher's z times (runs - 3)."""
    if runs < FEWEST_FOR_INTERVAL:
        return None
    if abs(r) >= 1:
        return [r, r]
    half = norm.ppf((1 + CONFIDENCE) / 2) * math.sqrt(variance / (runs - 3))
    return [math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)]


def all_summaries(scores: Scores) -> list[dict[str, Any]]:
    """Mean and deviation of every teacher, loss and column that has a value."""
    found = []
    for (teacher, loss), (column, values) in product(scores.rows(), scores.columns.items()):
        seeds = over_seeds(values, teacher, loss)
        if seeds:
            names = {'teacher': teacher, 'loss': loss, 'column': column}
            found.append({**names, **summarise(seeds.values())})
    return found


def all_tests(scores: Scores, reference: str) -> list[dict[str, Any]]:
    """Every loss against the reference of its teacher, on every protocol."""
    found = []
    for (teacher, loss), (protocol, values) in product(scores.rows(), scores.miou.items()):
        ours, theirs = (over_seeds(values, teacher, name) for name in (loss, reference))
        if loss != reference and ours.keys() & theirs.keys():
            names = {'teacher': teacher, 'loss': loss, 'reference': reference}
            found.append({**names, 'protocol': protocol, **compare_paired(ours, theirs)})
    return found


def all_correlations(scores: Scores) -> list[dict[str, Any]]:
    """Every structure measure with every mIoU, over the runs of all teachers and of each."""
    found = []
    for measure, protocol in product(scores.structure, scores.miou):
        for teacher, x, y in points_by_teacher(scores, measure, protocol):
            names = {'teacher': teacher, 'measure': measure, 'protocol': protocol}
            found.append({**names, **correlate(x, y)})
    return found


def points_by_teacher(
    scores: Scores, measure: str, protocol: str
) -> Iterator[tuple[str, list[float], list[float]]]:
    """Values of a measure and of a mIoU of the runs that have both: of all teachers, of each."""
    x, y = scores.structure[measure], scores.miou[protocol]
    keys = [key for key in x if key in y]
    teachers = list(dict.fromkeys(key[0] for key in keys))
    for teacher in [ALL_TEACHERS, *teachers] if len(teachers) > 1 else teachers:
        chosen = [key for key in keys if teacher in (ALL_TEACHERS, key[0])]
        yield teacher, [x[key] for key in chosen], [y[key] for key in chosen]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _finite_interval(low: float, high: float) -> list[float] | None:
    return [float(low), float(high)] if math.isfinite(low) and math.isfinite(high) else None
