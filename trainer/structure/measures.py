# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""How the student's space differs from the teacher's: pure functions of matched features.

Throughout, K (N, C) are the student's embeddings of N lidar points (3D) and Q (N, C) the teacher's
features of the pixels they project to (2D); rows are unit and match one to one. Where a measure
is not defined (one point, no two points of a class, all features equal) it is NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reldistill_ros.core.vocabulary import IGNORE_INDEX

MEASURES = (
    'modality_gap',
    'alignment',
    'uniformity_2d',
    'uniformity_3d',
    'uniformity_difference',
    'tolerance_2d',
    'tolerance_3d',
    'cross_gap',
    'intra_gap',
    'linear_cka',
)
NAN = float('nan')
SMALLEST_VARIANCE = 1e-10  # below, what differs is rounding
BLOCK = 1024  # rows of an N x N matrix that are held at once


def measure_structure(
    student: Tensor, teacher: Tensor, labels: NDArray[np.uint8]
) -> dict[str, float]:
    """All `MEASURES` by name.

    Args:
        student: K (N, C), unit rows.
        teacher: Q (N, C), unit rows.
        labels: (N,) true classes, 255 for unknown; only the tolerances need them.
    """
    spread = {'2d': uniformity(teacher), '3d': uniformity(student)}
    return {
        'modality_gap': modality_gap(student, teacher),
        'alignment': alignment(student, teacher),
        'uniformity_2d': spread['2d'],
        'uniformity_3d': spread['3d'],
        'uniformity_difference': spread['3d'] - spread['2d'],
        'tolerance_2d': tolerance(teacher, labels),
        'tolerance_3d': tolerance(student, labels),
        'cross_gap': cross_gap(student, teacher),
        'intra_gap': intra_gap(student, teacher),
        'linear_cka': linear_cka(student, teacher),
    }


def modality_gap(student: Tensor, teacher: Tensor) -> float:
    """`||mean K - mean Q||`, from 0 to 2 (Liang et al., Mind the Gap, NeurIPS 2022)."""
    return float((student.double().mean(dim=0) - teacher.double().mean(dim=0)).norm())


def alignment(student: Tensor, teacher: Tensor) -> float:
    """`mean_i ||k_i - q_i||^2`, from 0 to 4 (Wang and Isola, ICML 2020, alpha = 2)."""
    return float((student.double() - teacher.double()).square().sum(dim=1).mean())


def uniformity(features: Tensor) -> float:
    """`log mean_{i != j} exp(-2 ||x_i - x_j||^2)` (Wang and Isola, ICML 2020, t = 2).

    0 where all features are equal; the lower, the more evenly they cover the sphere.

    Args:
        features: (N, C), unit rows, so that `||x - y||^2 = 2 - 2 <x, y>`.
    """
    mean = _mean_off_diagonal(
        len(features), lambda rows: torch.exp(4 * (features[rows] @ features.T) - 4)
    )
    return float(np.log(mean))


def tolerance(features: Tensor, labels: NDArray[np.uint8]) -> float:
    """`mean <x_i, x_j>` over pairs i != j of one class (Wang and Liu, CVPR 2021), at most 1.

    Linear in N: the products of a class sum up to the squared length of its sum.

    Args:
        features: (N, C), unit rows.
        labels: (N,), 255 for unknown, which is no class.
    """
    total, pairs = 0.0, 0
    for label in np.unique(labels[labels != IGNORE_INDEX]):
        rows = features[torch.from_numpy(labels == label)].double()
        total += float(rows.sum(dim=0).square().sum() - rows.square().sum())
        pairs += len(rows) * (len(rows) - 1)
    return total / pairs if pairs else NAN


def cross_gap(student: Tensor, teacher: Tensor) -> float:
    """Mean of `|K Q^T - Q Q^T|` off the diagonal; see `trainer.losses.relational_terms`."""
    return _mean_off_diagonal(
        len(student), lambda rows: ((student[rows] - teacher[rows]) @ teacher.T).abs()
    )


def intra_gap(student: Tensor, teacher: Tensor) -> float:
    """Mean of `|K K^T - Q Q^T|` off the diagonal; rotating K does not change it."""
    return _mean_off_diagonal(
        len(student),
        lambda rows: (student[rows] @ student.T - teacher[rows] @ teacher.T).abs(),
    )


def linear_cka(student: Tensor, teacher: Tensor) -> float:
    """`||K^T Q||_F^2 / (||K^T K||_F ||Q^T Q||_F)` of centred columns, from 0 to 1.

    Centred kernel alignment with a linear kernel (Kornblith et al., ICML 2019): 1 where the
    spaces are equal but for rotation and scale.
    """
    k, q = (x.double() - x.double().mean(dim=0) for x in (student, teacher))
    if min(k.square().sum(), q.square().sum()) < SMALLEST_VARIANCE * len(k):
        return NAN
    return float((k.T @ q).square().sum() / ((k.T @ k).norm() * (q.T @ q).norm()))


def _mean_off_diagonal(num: int, block: Callable[[slice], Tensor]) -> float:
    """Mean of an N x N matrix without its diagonal.

    Args:
        num: N.
        block: gives the rows of a slice, (B, N).
    """
    total = 0.0
    for start in range(0, num, BLOCK):
        values = block(slice(start, start + BLOCK)).double()
        values.diagonal(start).zero_()
        total += float(values.sum())
    return total / (num * (num - 1)) if num > 1 else NAN
