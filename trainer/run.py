# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The run folder: settings, provenance, metrics and checkpoint of one training run."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.files import write_json
from reldistill_ros.core.prompts import center, prompt_embeddings
from reldistill_ros.core.settings import StudentSettings, load_settings
from reldistill_ros.core.student import Student
from reldistill_ros.core.vocabulary import Vocabulary
from trainer.checkpoint import CHECKPOINT, load_student
from trainer.datasets.open import open_dataset
from trainer.datasets.sample import Dataset
from trainer.settings import CHECKOUT, RunSettings
from trainer.teachers.build import build_text_encoder, find_vocabulary
from trainer.text import TextEncoder

SETTINGS = 'settings.yaml'
VOCABULARY = 'vocabulary.yaml'
PROVENANCE = 'provenance.json'
RECORDED_PACKAGES = ('torch', 'numpy', 'onnx', 'onnxruntime', 'pydantic', 'rosbags')


@dataclass(frozen=True)
class Run:
    """A run folder that holds its settings.

    Attributes:
        folder: where everything of the run is.
        settings: complete.
        vocabulary: as copied into the folder.
        data_root: what the paths of the settings are relative to.
    """

    folder: Path
    settings: RunSettings
    vocabulary: Vocabulary
    data_root: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / CHECKPOINT

    @property
    def fingerprint(self) -> str:
        """sha256 of the settings that decide the result."""
        values = self.settings.model_dump_json(exclude={'workers', 'evaluate'})
        return hashlib.sha256(values.encode()).hexdigest()

    def open_training(self) -> list[Dataset]:
        """Open the drives to distil on."""
        return [open_dataset(entry, self.data_root) for entry in self.settings.train]

    def open_evaluation(self) -> list[Dataset]:
        """Open the held-out drives."""
        if not self.settings.evaluate:
            raise InputError('the run names no drive to evaluate on', where='settings: evaluate')
        return [open_dataset(entry, self.data_root) for entry in self.settings.evaluate]

    def new_student(self, embedding_size: int) -> Student:
        """A student with the run's seed."""
        torch.manual_seed(self.settings.seed)
        student = StudentSettings(network=self.settings.network, embedding_size=embedding_size)
        return Student(student, self.settings.inputs.num_features)


def create_run(settings_file: Path, folder: Path, data_root: Path) -> Run:
    """Start a run folder from a settings file.

    Raises:
        InputError: bad settings, or the folder already holds a run with a checkpoint.
    """
    settings = load_settings(settings_file, RunSettings)
    vocabulary_file = find_vocabulary(settings.vocabulary, data_root)
    vocabulary = load_settings(vocabulary_file, Vocabulary)
    if (folder / CHECKPOINT).exists():
        raise InputError(
            'the folder already holds a run',
            where=folder,
            fix='continue it with --resume, or give another --out',
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / VOCABULARY).write_bytes(vocabulary_file.read_bytes())
    write_json(folder / PROVENANCE, {'data_root': str(data_root.resolve()), **provenance()})
    values = settings.model_dump(mode='json')
    (folder / SETTINGS).write_text(yaml.safe_dump(values, sort_keys=False), encoding='utf-8')
    return Run(folder, settings, vocabulary, data_root)


def open_run(folder: Path, data_root: Path | None = None) -> Run:
    """Open a run folder.

    Args:
        folder: of the run.
        data_root: where the drives are now; where they were at training if None.

    Raises:
        InputError: the folder holds no run.
    """
    if not (folder / SETTINGS).is_file():
        raise InputError(
            'the folder holds no run',
            where=folder,
            fix='give the --out folder of python -m trainer.distill',
        )
    settings = load_settings(folder / SETTINGS, RunSettings)
    vocabulary = load_settings(folder / VOCABULARY, Vocabulary)
    recorded = json.loads((folder / PROVENANCE).read_text(encoding='utf-8'))
    return Run(folder, settings, vocabulary, data_root or Path(recorded['data_root']))


@dataclass(frozen=True)
class TrainedRun:
    """A run's student together with its prompts.

    Attributes:
        run: the run.
        student: with the checkpoint's weights, in evaluation mode.
        encoder: the run's text encoder.
        embedding_mean: (C,), subtracted from teacher and prompts; zeros where not centred.
        prompts: (M, C) unit rows, centred, one for each of the vocabulary's prompts.
    """

    run: Run
    student: Student
    encoder: TextEncoder
    embedding_mean: NDArray[np.float32]
    prompts: NDArray[np.float32]


def load_trained(run: Run, vocabulary: Vocabulary | None = None) -> TrainedRun:
    """Load the last checkpoint and embed the words.

    Args:
        run: with a checkpoint.
        vocabulary: other classes than the run's own, if given.
    """
    encoder = build_text_encoder(run.settings.text, run.data_root)
    student = run.new_student(encoder.embedding_size)
    mean = load_student(run.checkpoint, student).numpy()
    prompts = center(prompt_embeddings(vocabulary or run.vocabulary, encoder), mean)
    return TrainedRun(run, student.eval(), encoder, mean, prompts)


def provenance() -> dict[str, Any]:
    """Commit, package versions and machine of this process."""
    return {
        'git_commit': git_commit(),
        'packages': {name: version(name) for name in RECORDED_PACKAGES},
        'python': platform.python_version(),
        'machine': platform.machine(),
    }


def git_commit() -> str:
    """Commit of the checkout, with `-dirty` where files differ; 'unknown' without git."""
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    try:
        result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
    return result.stdout.strip()
