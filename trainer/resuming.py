# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Starting a run, or going on from its checkpoint, if nothing that decides the result has changed since."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import load_settings
from reldistill_ros.core.student import Student
from trainer.checkpoint import CHECKPOINT, Progress, load_optimiser, load_student, read_progress
from trainer.datasets.sample import Dataset
from trainer.distributed import any_process, is_first, wait_for_all
from trainer.fingerprint import data_fingerprint
from trainer.provenance import torchrun_job
from trainer.run import (
    MAY_CHANGE,
    PROVENANCE,
    SETTINGS,
    Run,
    create_run,
    open_run,
    write_settings,
)
from trainer.settings import RunSettings


def open_together(arguments: argparse.Namespace) -> tuple[Run, bool]:
    """The run, and whether it goes on from its checkpoint; the first process makes the folder."""
    again = any_process(arguments.resume or is_restarted(arguments.out))
    paths = (arguments.settings, arguments.out, arguments.data)
    run = None
    if is_first():
        run = resume_run(*paths) if again else create_run(*paths)
    wait_for_all()
    return run or open_run(arguments.out, arguments.data), again


def resume_run(settings_file: Path, folder: Path, data_root: Path | None = None) -> Run:
    """Open a run folder to continue it with the settings that it was started with.

    Those that do not decide what is learnt (`MAY_CHANGE`) are taken from the file.

    Args:
        settings_file: YAML.
        folder: of the run.
        data_root: where the drives are now; where they were if None.

    Raises:
        InputError: the folder holds no run, or the settings differ from the run's.
    """
    run = open_run(folder, data_root)
    settings = load_settings(settings_file, RunSettings)
    given, kept = (s.model_dump(mode='json', exclude=MAY_CHANGE) for s in (settings, run.settings))
    differing = differing_keys(given, kept)
    if differing:
        raise InputError(
            'the settings differ from those of the run to continue',
            where=settings_file,
            expected=f'the same as in {folder / SETTINGS}',
            got=f'other values of {", ".join(differing)}',
            fix='undo the change, or start anew with another --out',
        )
    write_settings(folder, settings)
    return replace(run, settings=settings)


def is_restarted(folder: Path) -> bool:
    """Whether torchrun has started this process anew, and the run can go on from a checkpoint.

    It counts the restarts after a failure; when a machine has come or gone, only the job is still
    the same.
    """
    if not (folder / CHECKPOINT).is_file():
        return False
    if int(os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')):
        return True
    recorded = json.loads((folder / PROVENANCE).read_text(encoding='utf-8'))
    return torchrun_job() is not None and recorded.get('torchrun_job') == torchrun_job()


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
    check_unchanged(run.checkpoint, progress, data_fingerprint(run, datasets))
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


def differing_keys(one: object, other: object, prefix: str = '') -> list[str]:
    """Dotted names of what differs between two trees of settings."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if one == other else [prefix]
    found = (
        differing_keys(one.get(key), other.get(key), f'{prefix}.{key}'.lstrip('.'))
        for key in dict.fromkeys([*one, *other])
    )
    return [name for names in found for name in names]
