# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What decides the result of a run: a run only goes on with the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from reldistill_ros.core.bundle import sha256_of
from trainer.datasets.sample import Dataset
from trainer.run import MAY_CHANGE, TEACHER_VOCABULARY, Run
from trainer.teachers.teacher import Teacher
from trainer.text import TextEncoder


def fingerprint(
    run: Run, datasets: Sequence[Dataset], encoder: TextEncoder | None, teacher: Teacher
) -> dict[str, str]:
    """What decides the result, by part."""
    names = {'text encoder': encoder.name if encoder else 'none', 'teacher': teacher.name}
    return data_fingerprint(run, datasets) | names


def data_fingerprint(run: Run, datasets: Sequence[Dataset]) -> dict[str, str]:
    """The parts that are known without loading any weights."""
    settings = run.settings.model_dump_json(exclude=MAY_CHANGE)
    parts = {
        'settings': hashlib.sha256(settings.encode()).hexdigest(),
        'training sweeps': data_hash(datasets),
    }
    if run.initial_weights is not None:
        parts['initial weights'] = sha256_of(run.initial_weights)
    if (run.folder / TEACHER_VOCABULARY).is_file():
        parts['vocabulary of the teacher'] = sha256_of(run.folder / TEACHER_VOCABULARY)
    return parts


def data_hash(datasets: Sequence[Dataset]) -> str:
    """sha256 over the ids of all sweeps."""
    ids = [[dataset.name, *dataset.sample_ids] for dataset in datasets]
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()
