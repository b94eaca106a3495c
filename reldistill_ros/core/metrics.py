# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Accuracy and intersection over union from a confusion matrix."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.vocabulary import IGNORE_INDEX


def confusion_matrix(
    labels: NDArray[np.uint8], predictions: NDArray[np.uint8], num_classes: int
) -> NDArray[np.int64]:
    """Count what became of the labelled points; matrices of several sweeps may be added.

    Args:
        labels: (N,) truth; points of `IGNORE_INDEX` are left out.
        predictions: (N,), `IGNORE_INDEX` where no class was given.
        num_classes: K.

    Returns:
        (K, K + 1): row = true class, column = predicted class, last column = no class given.

    Raises:
        InputError: shapes differ, or a class is neither below K nor `IGNORE_INDEX`.
    """
    if labels.shape != predictions.shape:
        raise InputError(
            'labels and predictions differ in number', expected=labels.shape, got=predictions.shape
        )
    for name, values in (('label', labels), ('prediction', predictions)):
        wrong = values[(values >= num_classes) & (values != IGNORE_INDEX)]
        if wrong.size:
            raise InputError(
                f'a {name} is no class', expected=f'below {num_classes} or 255', got=wrong[0]
            )
    known = labels != IGNORE_INDEX
    columns = np.where(predictions == IGNORE_INDEX, num_classes, predictions)[known]
    cells = labels[known].astype(np.int64) * (num_classes + 1) + columns
    counts = np.bincount(cells, minlength=num_classes * (num_classes + 1))
    return counts.reshape(num_classes, num_classes + 1)


def iou(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union, (K,); NaN for a class that the truth does not hold."""
    hits = _hits(confusion)
    in_truth = confusion.sum(axis=1)
    union = in_truth + confusion[:, : len(confusion)].sum(axis=0) - hits
    scores = np.full(len(confusion), np.nan)
    np.divide(hits, union, out=scores, where=in_truth > 0)
    return scores


def mean_iou(confusion: NDArray[np.int64]) -> float:
    """Mean over the classes that the truth holds; NaN where it holds none."""
    scores = iou(confusion)
    present = ~np.isnan(scores)
    return float(scores[present].mean()) if present.any() else float('nan')


def accuracy(confusion: NDArray[np.int64]) -> float:
    """Share of labelled points that got their class; NaN where there are none."""
    total = confusion.sum()
    return float(_hits(confusion).sum() / total) if total else float('nan')


def finite_or_none(value: float) -> float | None:
    """The score as JSON holds it: None where it is not defined."""
    return value if math.isfinite(value) else None


def _hits(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.diagonal(confusion)
