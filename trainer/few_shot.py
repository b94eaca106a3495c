# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""How well a run's student learns from labels: linear probe and few-shot fine-tuning.

`python -m trainer.few_shot RUN_FOLDER PROTOCOL.yaml --out DIR`
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from reldistill_ros.core.errors import run_command
from reldistill_ros.core.files import replacing, write_json
from reldistill_ros.core.metrics import (
    accuracy,
    confusion_matrix,
    finite_or_none,
    iou,
    mean_iou,
)
from reldistill_ros.core.settings import load_settings
from reldistill_ros.core.student import Student
from reldistill_ros.core.vocabulary import Vocabulary
from trainer.augment import NO_AUGMENTATION
from trainer.checkpoint import load_student, read_embedding_size
from trainer.classifier import Segmenter, fine_tune, train_probe
from trainer.datasets.open import open_dataset
from trainer.datasets.sample import Dataset
from trainer.few_shot_settings import ProtocolSettings
from trainer.labelled_sweeps import LabelledSweeps
from trainer.metrics_log import MetricsLog
from trainer.pictures import save_confusion
from trainer.provenance import provenance
from trainer.run import PROVENANCE, SETTINGS, Run, open_run
from trainer.settings import RunSettings
from trainer.splits import read_split, true_classes
from trainer.teachers.build import find_vocabulary

METRICS = 'metrics.json'


def few_shot(run: Run, protocol: ProtocolSettings, out: Path) -> dict[str, Any]:
    """Train a classifier on a run's student as a protocol says, and score it.

    Returns:
        What was written to `out / 'metrics.json'`.

    Raises:
        InputError: bad data, a list of labels that does not fit, or a loss that is not finite.
    """
    torch.set_num_threads(run.settings.threads)
    vocabulary = load_settings(find_vocabulary(protocol.vocabulary, run.data_root), Vocabulary)
    sweeps = open_sweeps(run, protocol, vocabulary)
    labels = sweeps.count_labels(len(vocabulary.classes))
    held_out = [open_dataset(entry, run.data_root) for entry in protocol.evaluate]
    write_origin(run, protocol, out)
    student = start_student(run, protocol)
    classifier = nn.Linear(student.head.in_features, len(vocabulary.classes))
    classifier.to(student.head.weight.device)
    train = train_probe if protocol.kind == 'linear_probe' else fine_tune
    follow(train(student, classifier, sweeps, protocol), sweeps.num_steps, out)
    segmenter = Segmenter(student, classifier, run.settings)
    confusion = score(segmenter, held_out, vocabulary)
    save_confusion(confusion, vocabulary.class_names, out / 'confusion.png')
    metrics = summarise(confusion, labels, protocol, vocabulary)
    write_json(out / METRICS, metrics)
    return metrics


def open_sweeps(run: Run, protocol: ProtocolSettings, vocabulary: Vocabulary) -> LabelledSweeps:
    """The sweeps to learn from; a frozen backbone sees them as they are, without augmentation."""
    changes: dict[str, Any] = {'epochs': protocol.epochs, 'batch_size': protocol.batch_size}
    if protocol.kind == 'linear_probe':
        changes['augment'] = NO_AUGMENTATION
    settings: RunSettings = run.settings.model_copy(update=changes)
    datasets = [open_dataset(entry, run.data_root) for entry in protocol.train]
    return LabelledSweeps(datasets, vocabulary, read_split(protocol, run.data_root), settings)


def start_student(run: Run, protocol: ProtocolSettings) -> Student:
    """The student that the run has distilled, or as it was before."""
    student = run.new_student(read_embedding_size(run.checkpoint))
    if protocol.init == 'distilled':
        load_student(run.checkpoint, student)
    return student.to('cuda' if torch.cuda.is_available() else 'cpu')


def follow(curves: Iterable[dict[str, float]], num_steps: int, out: Path) -> None:
    """Train by going through all steps, and record their curves."""
    with closing(MetricsLog(out, 0)) as log:
        for step, values in enumerate(tqdm(curves, total=num_steps, unit='step', desc='learn')):
            log.write(step, values)


def score(
    segmenter: Segmenter, datasets: Sequence[Dataset], vocabulary: Vocabulary
) -> NDArray[np.int64]:
    """Confusion matrix (K, K + 1) over all labelled points of the drives.

    Raises:
        InputError: a drive has no labels, or none that the vocabulary knows.
    """
    num_classes = len(vocabulary.classes)
    confusion = np.zeros((num_classes, num_classes + 1), np.int64)
    for dataset in datasets:
        table = vocabulary.label_table(dataset.name, dataset.label_names)
        for index in tqdm(range(len(dataset)), desc=f'evaluate {dataset.name}', unit='sweep'):
            sample = dataset[index]
            truth = true_classes(sample, table)
            confusion += confusion_matrix(truth, segmenter(sample.points), num_classes)
    return confusion


def summarise(
    confusion: NDArray[np.int64],
    labels: NDArray[np.int64],
    protocol: ProtocolSettings,
    vocabulary: Vocabulary,
) -> dict[str, Any]:
    """Scores, None where no point counts; classes without a true point have no IoU.

    Args:
        confusion: (K, K + 1) of the held-out drives.
        labels: (K,), labelled points of each class in training.
        protocol: what was done.
        vocabulary: the K classes.
    """
    names = vocabulary.class_names
    scores = zip(names, iou(confusion).tolist())
    return {
        'protocol': protocol.name,
        'init': protocol.init,
        'miou': finite_or_none(mean_iou(confusion)),
        'accuracy': finite_or_none(accuracy(confusion)),
        'iou': {name: value for name, value in scores if not np.isnan(value)},
        'points': int(confusion.sum()),
        'labelled_points': int(labels.sum()),
        'labelled_points_by_class': dict(zip(names, labels.tolist())),
        'percent': protocol.percent,
        'split': None if protocol.split is None else str(protocol.split),
    }


def write_origin(run: Run, protocol: ProtocolSettings, out: Path) -> None:
    """Record what the result comes from: the complete protocol, run, data, commit, packages."""
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / SETTINGS) as partial:
        values = protocol.model_dump(mode='json')
        partial.write_text(yaml.safe_dump(values, sort_keys=False), encoding='utf-8')
    places = {'run': str(run.folder.resolve()), 'data_root': str(run.data_root.resolve())}
    write_json(out / PROVENANCE, {**places, **provenance()})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m trainer.few_shot', description=__doc__)
    parser.add_argument('run', type=Path, help='run folder of python -m trainer.distill')
    parser.add_argument('protocol', type=Path, help='YAML file, see config/protocols/')
    parser.add_argument('--out', type=Path, required=True, help='folder to write')
    parser.add_argument('--data', type=Path, help='folder that the paths start from')
    parser.add_argument(
        '--scratch', action='store_true', help='start from random weights, the baseline'
    )
    arguments = parser.parse_args()
    run = open_run(arguments.run, arguments.data)
    protocol = load_settings(arguments.protocol, ProtocolSettings)
    if arguments.scratch:
        protocol = protocol.model_copy(update={'init': 'scratch'})
    print(json.dumps(few_shot(run, protocol, arguments.out), indent=2))


if __name__ == '__main__':
    run_command(main)
