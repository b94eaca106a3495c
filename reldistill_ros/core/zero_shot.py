# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Zero-shot labels with the projection head folded into the prompts.

With head `z = W f + b` the cosine to a text embedding t is `t . z / |z|`. Writing
`f' = [f; 1]` and `W' = [W b] = Q R`, it equals `(t W') f' / |R f'|`: two products with
(D + 1)-wide matrices instead of one with the C-wide embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.compiled import as_kernel_array, compiled
from reldistill_ros.core.vocabulary import IGNORE_INDEX

TINY = np.float32(1e-12)


@dataclass(frozen=True)
class FoldedHead:
    """Head and M prompts in one affine map of D features.

    Attributes:
        matrix: (D, M + R) float32, upper part of `(T W')^T` and `R^T` side by side.
        bias: (M + R,) float32, their last row.
        num_prompts: M.
    """

    matrix: NDArray[np.float32]
    bias: NDArray[np.float32]
    num_prompts: int


@dataclass(frozen=True)
class ProjectionHead:
    """The student's last layer, `z = W f + b`.

    Attributes:
        weight: (C, D) float32.
        bias: (C,) float32.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True)
class Labels:
    """Labels of V voxels or points.

    Attributes:
        class_ids: (V,) uint8.
        probabilities: (V,) float32, softmax over the classes.
        entropies: (V,) float32, of that softmax in nats.
    """

    class_ids: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    entropies: NDArray[np.float32]


def fold_head(
    weight: NDArray[np.float32], bias: NDArray[np.float32], text: NDArray[np.float32]
) -> FoldedHead:
    """Fold a head into the prompts.

    Args:
        weight: (C, D) of the projection head.
        bias: (C,).
        text: (M, C), unit rows.
    """
    augmented = np.concatenate([weight, bias[:, None]], axis=1).astype(np.float64)  # (C, D + 1)
    root: NDArray[np.float64] = np.linalg.qr(augmented, mode='r')  # type: ignore[assignment]
    both = np.concatenate([text.astype(np.float64) @ augmented, root]).T.astype(np.float32)
    return FoldedHead(both[:-1], both[-1], len(text))


def prompt_cosines(features: NDArray[np.float32], head: FoldedHead) -> NDArray[np.float32]:
    """Cosine of each voxel's embedding with each prompt.

    Args:
        features: (V, D), output of the backbone.
        head: head and M prompts.

    Returns:
        (V, M) in [-1, 1].
    """
    return cosines_of(features @ head.matrix + head.bias, head.num_prompts)


def cosines_of(products: NDArray[np.float32], num_prompts: int) -> NDArray[np.float32]:
    """The cosines (V, M) from the output (V, M + R) of the folded head; zeros may follow."""
    cosines = np.empty((len(products), num_prompts), np.float32)
    _divide_by_norms(as_kernel_array(products, np.float32), cosines)
    return cosines


@compiled(fastmath={'reassoc', 'contract'})
def _divide_by_norms(products: NDArray[np.float32], cosines: NDArray[np.float32]) -> None:
    num_prompts = cosines.shape[1]
    for row in range(len(products)):
        square = np.float32(0)
        for i in range(num_prompts, products.shape[1]):
            square += products[row, i] * products[row, i]
        scale = np.float32(1) / max(np.sqrt(square), TINY)
        for i in range(num_prompts):
            cosines[row, i] = products[row, i] * scale


def label_cosines(
    cosines: NDArray[np.float32],
    prompt_classes: NDArray[np.int64],
    temperature: float,
    thresholds: NDArray[np.float32] | None = None,
) -> Labels:
    """The class of the best prompt, its probability and the entropy over the classes.

    Args:
        cosines: (V, M).
        prompt_classes: (M,), class of each prompt, ascending, none missing.
        temperature: of the softmax over the classes' best cosines.
        thresholds: (K,), cosine below which a row of the class is unknown: class `IGNORE_INDEX`,
            probability 0, entropy NaN; None where every row has a class.
    """
    first = np.flatnonzero(np.diff(prompt_classes, prepend=-1))
    if thresholds is None:
        thresholds = np.full(len(first), -np.inf, np.float32)
    labels = Labels(
        np.empty(len(cosines), np.uint8),
        np.empty(len(cosines), np.float32),
        np.empty(len(cosines), np.float32),
    )
    _label_rows(
        as_kernel_array(cosines, np.float32),
        np.append(first, len(prompt_classes)),
        as_kernel_array(thresholds, np.float32),
        np.float32(1 / temperature),
        (labels.class_ids, labels.probabilities, labels.entropies),
    )
    return labels


@compiled()
def _label_rows(
    cosines: NDArray[np.float32],
    bounds: NDArray[np.int64],
    thresholds: NDArray[np.float32],
    scale: np.float32,
    labels: tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]],
) -> None:
    """The entropy of a softmax over scores s with sum Z is `log Z - sum_i p_i s_i`."""
    class_ids, probabilities, entropies = labels
    num_classes = len(bounds) - 1
    scores = np.empty(num_classes, np.float32)
    for row in range(len(cosines)):
        best = _class_scores(cosines[row], bounds, scores)
        highest = scores[best]
        total = weighted = np.float32(0)
        for i in range(num_classes):
            score = (scores[i] - highest) * scale
            weight = np.exp(score)
            total += weight
            weighted += weight * score
        if total >= 1 and highest >= thresholds[best]:
            class_ids[row] = best
            probabilities[row] = 1 / total
            entropies[row] = max(np.log(total) - weighted / total, np.float32(0))
        else:  # unknown, or a cosine that is no number
            class_ids[row], probabilities[row], entropies[row] = IGNORE_INDEX, 0, np.nan


@compiled()
def _class_scores(
    cosines: NDArray[np.float32], bounds: NDArray[np.int64], scores: NDArray[np.float32]
) -> int:
    """Write the best cosine of each class; returns the best class."""
    best = 0
    for i in range(len(scores)):
        score = cosines[bounds[i]]
        for prompt in range(bounds[i] + 1, bounds[i + 1]):
            score = max(score, cosines[prompt])
        scores[i] = score
        if score > scores[best]:
            best = i
    return best
