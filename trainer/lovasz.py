# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The Lovasz-softmax loss: a smooth stand-in for intersection over union."""

from __future__ import annotations

import torch
from torch import Tensor


def lovasz_softmax(probabilities: Tensor, classes: Tensor) -> Tensor:
    """Mean over the classes that are there of the Lovasz extension of the Jaccard loss.

    With the errors of class c, `m_i = 1 - p_i(c)` where c is true and `p_i(c)` elsewhere, sorted
    downwards to `m_(1) >= m_(2) >= ...`, and `J(k)` the Jaccard loss `1 - IoU` of getting the
    first k of them wrong and the others right:
    `loss_c = sum_k m_(k) (J(k) - J(k - 1))` (Berman, Triki and Blaschko, CVPR 2018, equations
    8 and 9, algorithm 1; `classes='present'` of their code).

    Args:
        probabilities: (V, K), rows sum to one; V at least 1.
        classes: (V,) int64, true class of each row.
    """
    present = torch.unique(classes)
    is_true = (classes[:, None] == present).to(probabilities.dtype)  # (V, P)
    errors = (is_true - probabilities[:, present]).abs()
    errors, order = errors.sort(dim=0, descending=True)
    losses = jaccard_losses(is_true.gather(0, order))
    steps = torch.diff(losses, dim=0, prepend=torch.zeros_like(losses[:1]))
    loss: Tensor = (errors * steps).sum(dim=0).mean()
    return loss


def jaccard_losses(is_true: Tensor) -> Tensor:
    """`1 - IoU` when the first row, the first two, ... are wrong and the rest right.

    Args:
        is_true: (V, P), 1 where the row belongs to the class, else 0.
    """
    remaining = is_true.sum(dim=0) - is_true.cumsum(dim=0)
    union = is_true.sum(dim=0) + (1 - is_true).cumsum(dim=0)
    return 1 - remaining / union
