# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The run folder: settings, provenance, metrics and checkpoint of one training run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.files import replacing, write_json
from reldistill_ros.core.prompts import center, prompt_embeddings
from reldistill_ros.core.settings import StudentSettings, load_settings
from reldistill_ros.core.student import Student
from reldistill_ros.core.vocabulary import Vocabulary
from trainer.checkpoint import CHECKPOINT, load_backbone, load_student, read_embedding_size
from trainer.datasets.open import open_dataset
from trainer.datasets.sample import Dataset
from trainer.distributed import is_first
from trainer.provenance import provenance
from trainer.settings import RunSettings
from trainer.teachers.build import build_teacher, build_text_encoder, find_vocabulary
from trainer.teachers.settings import TeacherSettings, VocabularyTeacherSettings
from trainer.teachers.teacher import Teacher
from trainer.text import TextEncoder

SETTINGS = 'settings.yaml'
VOCABULARY = 'vocabulary.yaml'
TEACHER_VOCABULARY = 'teacher_vocabulary.yaml'
PROVENANCE = 'provenance.json'
MAY_CHANGE = {'workers', 'evaluate', 'backend'}  # settings that do not decide what is learnt


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
    def initial_weights(self) -> Path | None:
        """The checkpoint that training starts from, or None."""
        if self.settings.init is None:
            return None
        path = self.data_root / self.settings.init
        return path / CHECKPOINT if path.is_dir() else path

    def build_encoder(self) -> TextEncoder | None:
        """Build the text encoder; None where the teacher knows no words."""
        text = self.settings.text
        return None if text is None else build_text_encoder(text, self.data_root)

    @property
    def teacher_settings(self) -> TeacherSettings:
        """Of the teacher; a 2D network's classes are those copied into the folder."""
        settings = self.settings.teacher
        path = (self.folder / TEACHER_VOCABULARY).resolve()
        if isinstance(settings, VocabularyTeacherSettings) and settings.vocabulary is not None:
            return settings.model_copy(update={'vocabulary': path})
        return settings

    def build_teacher(self, encoder: TextEncoder | None) -> Teacher:
        """Build the teacher."""
        return build_teacher(self.teacher_settings, encoder, self.data_root)

    def open_training(self) -> list[Dataset]:
        """Open the drives to distil on."""
        return [open_dataset(entry, self.data_root) for entry in self.settings.train]

    def open_evaluation(self) -> list[Dataset]:
        """Open the held-out drives."""
        if not self.settings.evaluate:
            raise InputError('the run names no drive to evaluate on', where='settings: evaluate')
        return [open_dataset(entry, self.data_root) for entry in self.settings.evaluate]

    def note_backend(self, name: str) -> None:
        """Write what computes the student's convolutions into the run's provenance."""
        if is_first():
            path = self.folder / PROVENANCE
            recorded = json.loads(path.read_text(encoding='utf-8'))
            write_json(path, {**recorded, 'backend': name})

    def new_student(self, embedding_size: int) -> Student:
        """A student with the run's seed."""
        torch.manual_seed(self.settings.seed)
        student = StudentSettings(network=self.settings.network, embedding_size=embedding_size)
        return Student(student, self.settings.inputs.num_features)


def start_student(run: Run, embedding_size: int) -> Student:
    """A run's student before its first step.

    Raises:
        InputError: the run starts from a checkpoint that is absent or of another network.
    """
    student = run.new_student(embedding_size)
    if run.initial_weights is not None:
        load_backbone(run.initial_weights, student.backbone)
    return student


def create_run(settings_file: Path, folder: Path, data_root: Path | None = None) -> Run:
    """Start a run folder from a settings file.

    Args:
        settings_file: YAML.
        folder: to write.
        data_root: what the paths of the settings are relative to; the current folder if None.

    Raises:
        InputError: bad settings, or the folder already holds a run with a checkpoint.
    """
    settings = load_settings(settings_file, RunSettings)
    data_root = data_root or Path()
    vocabularies = _find_vocabularies(settings, data_root)
    if (folder / CHECKPOINT).exists():
        raise InputError(
            'the folder already holds a run',
            where=folder,
            fix='continue it with --resume, or give another --out',
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in vocabularies.items():
        (folder / name).write_bytes(path.read_bytes())
    write_json(folder / PROVENANCE, {'data_root': str(data_root.resolve()), **provenance()})
    write_settings(folder, settings)
    return open_run(folder, data_root)


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


def load_distilled(run: Run) -> tuple[Student, NDArray[np.float32]]:
    """Load the last checkpoint of any run, also of one whose teacher knows no words.

    Returns:
        The student in evaluation mode, and the mean (C,) that teacher features are centred with.
    """
    student = run.new_student(read_embedding_size(run.checkpoint))
    mean = load_student(run.checkpoint, student).numpy()
    return student.eval(), mean


def load_trained(run: Run) -> TrainedRun:
    """Load the last checkpoint and embed the words.

    Raises:
        InputError: the run's teacher knows no words, or the student was not distilled from it.
    """
    encoder = run.build_encoder()
    if encoder is None:
        raise InputError(
            'the run has no text space: its teacher knows no words',
            where=run.folder,
            expected='for zero-shot labels and for export, a teacher in a text space: kind '
            'label_maps or clip',
            got=f'kind {run.settings.teacher.kind}',
            fix='train a classifier on labels instead: python -m trainer.few_shot --help',
        )
    student, mean = load_distilled(run)
    prompts = prompt_embeddings(run.vocabulary, encoder)
    if prompts.shape[1] != len(mean):  # as of a converted checkpoint
        raise InputError(
            "the student's embeddings are not in the text space of the run",
            where=run.checkpoint,
            expected=f'{prompts.shape[1]} numbers',
            got=len(mean),
            fix='distil from it: name its folder as `init` of another run',
        )
    return TrainedRun(run, student, encoder, mean, center(prompts, mean))


def _find_vocabularies(settings: RunSettings, data_root: Path) -> dict[str, Path]:
    """The vocabularies to copy into the run folder, checked, by their names there."""
    wanted = {VOCABULARY: settings.vocabulary}
    teacher = settings.teacher
    if isinstance(teacher, VocabularyTeacherSettings) and teacher.vocabulary is not None:
        wanted[TEACHER_VOCABULARY] = teacher.vocabulary
    found = {name: find_vocabulary(path, data_root) for name, path in wanted.items()}
    for path in found.values():
        load_settings(path, Vocabulary)
    return found


def write_settings(folder: Path, settings: RunSettings) -> None:
    """Write the settings of a run into its folder."""
    values = settings.model_dump(mode='json')
    with replacing(folder / SETTINGS) as partial:
        partial.write_text(yaml.safe_dump(values, sort_keys=False), encoding='utf-8')
