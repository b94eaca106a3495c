# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The guard against a student that maps every point to the same feature."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reldistill_ros.core.errors import InputError
from trainer.gather import mean_of_rows

SMALLEST_RATIO = 0.01
PATIENCE = 50


def total_variance(features: Tensor) -> float:
    """`1 - ||mean||^2` of unit rows (N, C): 0 where all are equal, near 1 where they spread.

    The rows are those of all processes.
    """
    return 1 - mean_of_rows(features).double().square().sum().item()


@dataclass
class CollapseGuard:
    """Stops a run whose student's features hardly vary although the teacher's do.

    Attributes:
        first_step: steps before it are the warm-up and not judged.
        low_steps: collapsed steps in a row so far.
    """

    first_step: int
    low_steps: int = 0

    def check(self, student: Tensor, teacher: Tensor, step: int) -> None:
        """Judge one batch of unit features (N, C).

        Raises:
            InputError: the student's variance was below one hundredth of the teacher's for
                `PATIENCE` steps in a row.
        """
        got, wanted = total_variance(student), total_variance(teacher)
        collapsed = step >= self.first_step and got < SMALLEST_RATIO * wanted
        self.low_steps = self.low_steps + 1 if collapsed else 0
        if self.low_steps >= PATIENCE:
            raise InputError(
                'the student has collapsed: it maps all points to the same feature',
                where=f'step {step}',
                expected=f'a feature variance near that of the teacher, {wanted:.4f}',
                got=f'{got:.6f}',
                fix='lower optimiser.lr, lengthen the warm-up, or set center: true',
            )
