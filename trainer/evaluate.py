# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Zero-shot evaluation of a trained run: `python -m trainer.evaluate RUN_FOLDER`.

`--corruptions` also evaluates it on damaged sweeps, see `trainer.corruptions`. Under torchrun, the
processes share the sweeps out and the result is the same, see `docs/distributed.md`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from reldistill_ros.core.errors import run_command
from reldistill_ros.core.files import write_json
from reldistill_ros.core.metrics import confusion_matrix, finite_or_none, mean_iou
from reldistill_ros.core.prompts import center
from reldistill_ros.core.unknown import never_unknown
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from reldistill_ros.core.zero_shot import ProjectionHead, label_cosines
from reldistill_ros.labeller import Labeller
from reldistill_ros.words.words import Words
from trainer.compute import fastest_backend
from trainer.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from trainer.datasets.sample import Dataset, Sample
from trainer.distributed import (
    ProcessGroup,
    is_first,
    local_device,
    own_share,
    sum_everywhere,
    tell,
)
from trainer.pairing import pair_points
from trainer.pictures import save_birds_eye, save_confusion, save_overlay
from trainer.run import Run, TrainedRun, load_trained, open_run
from trainer.scores import summarise
from trainer.splits import true_classes
from trainer.teachers.teacher import Teacher

EVALUATION = 'evaluation'
METRICS = 'metrics.json'
NUM_PICTURES = 3
SLOWEST = timedelta(days=1)  # how long the first process to end waits for the last


@dataclass(frozen=True)
class LabelledSweep:
    """One evaluated sweep; labels are classes of the vocabulary, 255 for none.

    Attributes:
        sample: the sweep.
        truth: (N,) uint8.
        student: (N,) uint8.
        teacher: (N,) uint8, 255 where no camera sees the point.
    """

    sample: Sample
    truth: NDArray[np.uint8]
    student: NDArray[np.uint8]
    teacher: NDArray[np.uint8]


def make_labeller(trained: TrainedRun) -> Labeller:
    """The labeller that the robot would run."""
    settings = trained.run.settings
    head = trained.student.head
    vocabulary = trained.run.vocabulary
    return Labeller(
        fastest_backend(trained.student),
        ProjectionHead(head.weight.detach().cpu().numpy(), head.bias.detach().cpu().numpy()),
        Words(vocabulary, trained.prompts, never_unknown(vocabulary), revision='trained'),
        voxel=settings.voxel,
        inputs=settings.inputs,
        temperature=settings.temperature,
        num_threads=settings.threads,
    )


def label_sweeps(trained: TrainedRun, datasets: list[Dataset]) -> Iterator[LabelledSweep]:
    """Label every sweep of this process's share with student and teacher.

    Raises:
        InputError: a drive has no labels, or none that the vocabulary knows.
    """
    run = trained.run
    labeller = make_labeller(trained)
    teacher = run.build_teacher(trained.encoder)
    for _, sample, truth in own_sweeps(datasets, run.vocabulary, 'evaluate'):
        student = labeller(sample.points).class_ids
        seen = _label_with_teacher(teacher, sample, trained)
        yield LabelledSweep(sample, truth, student, seen)


def own_sweeps(
    datasets: list[Dataset], vocabulary: Vocabulary, task: str
) -> Iterator[tuple[int, Sample, NDArray[np.uint8]]]:
    """This process's share of the sweeps: index in its drive, sweep, true class (N,) of points."""
    tables = [vocabulary.label_table(d.name, d.label_names) for d in datasets]
    sweeps = [(d, table, index) for d, table in zip(datasets, tables) for index in range(len(d))]
    bar = tqdm(own_share(sweeps), desc=task, unit='sweep', disable=not is_first())
    for dataset, table, index in bar:
        sample = dataset[index]
        yield index, sample, true_classes(sample, table)


def _label_with_teacher(
    teacher: Teacher, sample: Sample, trained: TrainedRun
) -> NDArray[np.uint8]:
    """The teacher's class (N,) of the points that a camera sees."""
    run = trained.run
    labels = np.full(len(sample.points), IGNORE_INDEX, np.uint8)
    for image in sample.images:
        pairs = pair_points(sample.points, image, run.settings.pairing)
        features = teacher(image).at(pairs.pixels)
        known = features.any(axis=1)
        cosines = center(features[known], trained.embedding_mean) @ trained.prompts.T
        if known.any():
            classes = label_cosines(cosines, run.vocabulary.prompt_classes, 1.0).class_ids
            labels[pairs.point_indices[known]] = classes
    return labels


def evaluate(
    trained: TrainedRun, datasets: list[Dataset], out: Path, corruptions: bool = False
) -> dict[str, Any]:
    """Evaluate a run, on damaged sweeps too if wanted, and write metrics and pictures.

    mIoU is the mean over the classes that the truth holds, over all labelled points of the
    sweeps; the teacher is scored on the points it sees, and the student once more on those.

    Returns:
        What was written to `out / 'metrics.json'`.
    """
    vocabulary = trained.run.vocabulary
    num_classes = len(vocabulary.classes)
    totals = {
        name: np.zeros((num_classes, num_classes + 1), np.int64)
        for name in ('zero_shot', 'teacher_visible', 'student_visible')
    }
    out.mkdir(parents=True, exist_ok=True)
    num_sweeps = sum(len(dataset) for dataset in datasets)
    pictured = _pictured(num_sweeps)
    for index, sweep in zip(own_share(range(num_sweeps)), label_sweeps(trained, datasets)):
        seen = sweep.teacher != IGNORE_INDEX
        for name, where, labels in (
            ('zero_shot', np.ones_like(seen), sweep.student),
            ('teacher_visible', seen, sweep.teacher),
            ('student_visible', seen, sweep.student),
        ):
            totals[name] += confusion_matrix(sweep.truth[where], labels[where], num_classes)
        if index in pictured:
            _save_pictures(sweep, trained.run, out, f'{pictured.index(index)}')
    totals = {name: add_up(total) for name, total in totals.items()}
    metrics = summarise(totals, vocabulary)
    if corruptions:
        metrics['corruptions'] = evaluate_corrupted(trained, datasets)
    if is_first():
        save_confusion(totals['zero_shot'], vocabulary.class_names, out / 'confusion.png')
        write_json(out / METRICS, metrics)
    return metrics


def add_up(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """The confusion matrix of the sweeps of all processes."""
    return sum_everywhere(torch.from_numpy(confusion)).numpy()


def evaluate_corrupted(
    trained: TrainedRun, datasets: list[Dataset]
) -> dict[str, dict[str, float | None]]:
    """Zero-shot mIoU by corruption and severity, over the labelled points that remain."""
    labeller, vocabulary = make_labeller(trained), trained.run.vocabulary
    num_classes = len(vocabulary.classes)
    cases = [(name, severity) for name in CORRUPTIONS for severity in SEVERITIES]
    totals = {case: np.zeros((num_classes, num_classes + 1), np.int64) for case in cases}
    for index, sample, truth in own_sweeps(datasets, vocabulary, 'corrupt'):
        for case in cases:
            points, rows = corrupt(
                sample.points, *case, seed=trained.run.settings.seed, index=index
            )
            labels = labeller(points).class_ids
            totals[case] += confusion_matrix(truth[rows], labels, num_classes)
    scores = {case: finite_or_none(mean_iou(add_up(total))) for case, total in totals.items()}
    return {name: {str(s): scores[name, s] for s in SEVERITIES} for name in CORRUPTIONS}


def _pictured(num: int) -> list[int]:
    """Evenly spread sweeps to look at."""
    chosen = np.linspace(0, num - 1, NUM_PICTURES + 2).astype(int)[1:-1]
    return [int(index) for index in np.unique(chosen)]


def _save_pictures(sweep: LabelledSweep, run: Run, out: Path, name: str) -> None:
    vocabulary, pairing = run.vocabulary, run.settings.pairing
    labels = {'truth': sweep.truth, 'teacher': sweep.teacher, 'student': sweep.student}
    save_birds_eye(sweep.sample.points, labels, vocabulary, out / f'birds_eye_{name}.png')
    path = out / f'overlay_{name}.png'
    save_overlay(sweep.sample, sweep.student, vocabulary, path, pairing=pairing)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m trainer.evaluate', description=__doc__)
    parser.add_argument('run', type=Path, help='run folder of python -m trainer.distill')
    parser.add_argument(
        '--data', type=Path, help='folder that the paths of the settings start from'
    )
    parser.add_argument('--out', type=Path, help='folder to write; RUN/evaluation by default')
    parser.add_argument(
        '--corruptions', action='store_true', help='label damaged sweeps, too; takes a while'
    )
    arguments = parser.parse_args()
    run = open_run(arguments.run, arguments.data)
    torch.set_num_threads(run.settings.threads)
    out = arguments.out or run.folder / EVALUATION
    with ProcessGroup(SLOWEST):
        trained = load_trained(run)
        trained.student.to(local_device())
        metrics = evaluate(trained, run.open_evaluation(), out, arguments.corruptions)
        tell(json.dumps(metrics, indent=2))


if __name__ == '__main__':
    run_command(main)
