# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Going on from a checkpoint, if nothing that decides the result has changed since."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.student import Student
from trainer.checkpoint import Progress, load_optimiser, load_student, read_progress
from trainer.datasets.sample import Dataset
from trainer.run import Run, differing_keys


def restore(
    path: Path, student: Student, optimiser: torch.optim.Optimizer, fingerprint: dict[str, str]
) -> tuple[NDArray[np.float32], Progress]:
    """Load a checkpoint; returns the embedding mean (C,) and where the run stood.

    Raises:
        InputError: what decides the result has changed since.
    """
    mean = load_student(path, student).numpy()
    progress = load_optimiser(path, optimiser)
    check_unchanged(path, progress, fingerprint)
    return mean, progress


def is_finished(run: Run, datasets: Sequence[Dataset], num_steps: int) -> bool:
    """Whether the checkpoint is that of the last step; looks at no weights.

    Raises:
        InputError: settings or data have changed since.
    """
    progress = read_progress(run.checkpoint)
    check_unchanged(run.checkpoint, progress, run.data_fingerprint(datasets))
    return progress.step == num_steps


def check_unchanged(path: Path, progress: Progress, fingerprint: dict[str, str]) -> None:
    """Refuse to go on with other parts than those that a checkpoint was trained with.

    Raises:
        InputError: names the parts.
    """
    kept = {part: progress.fingerprint.get(part) for part in fingerprint}
    changed = differing_keys(kept, fingerprint)
    if changed:
        raise InputError(
            f'the checkpoint was trained with other {", ".join(changed)}',
            where=path,
            fix='undo the change, or start anew with another --out',
        )
