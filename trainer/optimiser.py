# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The optimiser and its learning-rate schedule, a pure function of the progress."""

from __future__ import annotations

import math
from typing import Any

import torch

from reldistill_ros.core.student import Student
from trainer.settings import OptimiserSettings


def make_optimiser(student: Student, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """AdamW or SGD over all parameters; norms and biases do not decay."""
    decays = [p for p in student.parameters() if p.ndim > 1]
    others = [p for p in student.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{'params': decays}, {'params': others, 'weight_decay': 0.0}]
    if settings.kind == 'adamw':
        return torch.optim.AdamW(groups, lr=settings.lr, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        groups,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        dampening=settings.dampening,
    )


def set_learning_rate(
    optimiser: torch.optim.Optimizer, settings: OptimiserSettings, progress: float
) -> float:
    """Linear warm-up, then cosine to zero; `progress` goes from 0 to 1 over the run."""
    if progress < settings.warmup:
        lr = settings.lr * max(progress / settings.warmup, 1e-3)
    else:
        phase = (progress - settings.warmup) / (1 - settings.warmup)
        lr = settings.lr * 0.5 * (1 + math.cos(math.pi * phase))
    for group in optimiser.param_groups:
        group['lr'] = lr
    return lr
