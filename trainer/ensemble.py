# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The 2D-3D ensemble of a run: `python -m trainer.ensemble RUN_FOLDER --out DIR`.

Fits the weights, `DIR/ensemble.json`, which `python -m trainer.export --ensemble` takes into the
bundle. If the run names held-out drives, student, camera and ensemble are evaluated on them.

How much the student's vote counts can only be learnt where it was not taught. `--stand-in` names
a run with the same settings whose `train` lacks a labelled drive of this run and whose `evaluate`
is that drive. Without it only the cameras are fitted, on the labelled ones of the training
drives, and the student decides where no camera has an opinion.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from reldistill_ros.cameras.ensemble import (
    ENSEMBLE,
    Ensemble,
    EnsembleSettings,
    class_bounds,
    distributions,
)
from reldistill_ros.core.errors import run_command
from reldistill_ros.core.files import write_json
from reldistill_ros.core.metrics import (
    accuracy,
    confusion_matrix,
    finite_or_none,
    iou,
    mean_iou,
)
from reldistill_ros.core.vocabulary import IGNORE_INDEX
from trainer.datasets.sample import Dataset
from trainer.ensemble_fit import fit_ensemble
from trainer.ensemble_observations import (
    Observation,
    Observer,
    check_held_out,
    check_stand_in,
    labelled_training,
)
from trainer.ensemble_report import miou_table, save_bars, save_table
from trainer.pictures import save_birds_eye
from trainer.run import TrainedRun, load_trained, open_run

METRICS = 'metrics.json'
LABELLINGS = ('student', 'camera', 'camera_in_voxels', 'ensemble')
# of the points: see `evaluate_ensemble`
PARTS = ('taught', 'opinion', 'visible', 'all')
Confusions = dict[tuple[str, str], NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class FusedSweep:
    """One evaluated sweep; labels are classes of the vocabulary, 255 for none.

    Attributes:
        observation: the sweep.
        labels: (N,) uint8 by `LABELLINGS`.
        parts: (N,) bool by `PARTS`.
    """

    observation: Observation
    labels: dict[str, NDArray[np.uint8]]
    parts: dict[str, NDArray[np.bool_]]


def fuse_sweeps(
    trained: TrainedRun, settings: EnsembleSettings, datasets: Sequence[Dataset]
) -> Iterator[FusedSweep]:
    """Label every sweep with the student, with the cameras, and with both.

    Raises:
        InputError: a drive has no labels, or none that the vocabulary knows.
    """
    vocabulary, voxel = trained.run.vocabulary, trained.run.settings.voxel
    observer = Observer(trained)
    both = Ensemble(settings, vocabulary, vocabulary, voxel)
    voxels_only = Ensemble(
        settings.model_copy(update={'student': None}), vocabulary, vocabulary, voxel
    )
    for dataset in datasets:
        indices = tqdm(range(len(dataset)), desc=f'ensemble {dataset.name}', unit='sweep')
        for seen in observer(dataset, indices):
            points, student = seen.sample.points, seen.student
            camera = camera_labels(seen, settings, class_bounds(vocabulary))
            labels = {
                'student': student.class_ids,
                'camera': camera,
                'camera_in_voxels': voxels_only(points, student, seen.views).class_ids,
                'ensemble': both(points, student, seen.views).class_ids,
            }
            parts = {
                'taught': seen.taught,
                'opinion': camera != IGNORE_INDEX,
                'visible': seen.visible,
                'all': np.ones(len(points), np.bool_),
            }
            yield FusedSweep(seen, labels, parts)


def camera_labels(
    observation: Observation, settings: EnsembleSettings, bounds: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """The cameras' class (N,) at each point's own pixels, 255 where none has an opinion."""
    totals = np.zeros((len(observation.truth), len(bounds)))
    for view in observation.views:
        sure = view.confidences > 0
        rows = distributions(view, settings, bounds)
        np.add.at(totals, view.point_indices[sure], rows[sure])
    labels: NDArray[np.uint8] = totals.argmax(axis=1).astype(np.uint8)
    labels[~totals.any(axis=1)] = IGNORE_INDEX
    return labels


def evaluate_ensemble(
    trained: TrainedRun, settings: EnsembleSettings, datasets: Sequence[Dataset], out: Path
) -> dict[str, Any]:
    """Evaluate student, camera and ensemble, and write metrics, a table and pictures.

    mIoU is the mean over the classes that the truth holds, over the labelled points of: `taught`,
    where the run's teacher has a feature, as `python -m trainer.evaluate` counts; `opinion`, where
    the camera has an opinion, however unsure, at the point's own pixel; `visible`, all points that
    a camera sees; `all`, the whole sweep, where student and ensemble differ at visible points
    only. A point that a labelling has no class for counts as wrong.

    Returns:
        What was written to `out / 'metrics.json'`.
    """
    vocabulary = trained.run.vocabulary
    shape = (len(vocabulary.classes), len(vocabulary.classes) + 1)
    totals: Confusions = {
        (part, name): np.zeros(shape, np.int64) for part in PARTS for name in LABELLINGS
    }
    out.mkdir(parents=True, exist_ok=True)
    for index, sweep in enumerate(fuse_sweeps(trained, settings, datasets)):
        truth = sweep.observation.truth
        for (part, name), total in totals.items():
            where = sweep.parts[part]
            total += confusion_matrix(truth[where], sweep.labels[name][where], shape[0])
        if index == 0:
            pictured = {'truth': truth, **sweep.labels}
            save_birds_eye(
                sweep.observation.sample.points, pictured, vocabulary, out / 'birds_eye.png'
            )
    metrics = {
        part: {name: _scores(totals[part, name], vocabulary.class_names) for name in LABELLINGS}
        for part in PARTS
    }
    write_json(out / METRICS, {**metrics, 'weights': _weights(settings)})
    save_table(metrics, vocabulary.class_names, out / 'table.md')
    save_bars(metrics, vocabulary.class_names, out / 'iou.png')
    return metrics


def _scores(confusion: NDArray[np.int64], class_names: Sequence[str]) -> dict[str, Any]:
    scores = zip(class_names, iou(confusion).tolist())
    return {
        'miou': finite_or_none(mean_iou(confusion)),
        'accuracy': finite_or_none(accuracy(confusion)),
        'iou': {name: score for name, score in scores if not np.isnan(score)},
        'points': int(confusion.sum()),
    }


def _weights(settings: EnsembleSettings) -> dict[str, Any]:
    return settings.model_dump(mode='json', exclude={'student'})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m trainer.ensemble', description=__doc__)
    parser.add_argument('run', type=Path, help='run folder of python -m trainer.distill')
    parser.add_argument(
        '--data', type=Path, help='folder that the paths of the settings start from'
    )
    parser.add_argument('--out', type=Path, required=True, help='folder to write')
    parser.add_argument(
        '--stand-in', type=Path, help='run that was trained without the drives it evaluates'
    )
    arguments = parser.parse_args()
    run = open_run(arguments.run, arguments.data)
    torch.set_num_threads(run.settings.threads)
    trained = load_trained(run)
    evaluated = run.open_evaluation() if run.settings.evaluate else []
    settings = fit_run(trained, evaluated, arguments.stand_in, arguments.data)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out / ENSEMBLE, settings.model_dump(mode='json'))
    print('\n'.join(f'{name}: {value}' for name, value in _weights(settings).items()))
    if evaluated:
        metrics = evaluate_ensemble(trained, settings, evaluated, arguments.out)
        print(miou_table(metrics))
    print(
        f'for the robot: python -m trainer.export {run.folder} --out BUNDLE '
        f'--ensemble {arguments.out / ENSEMBLE}'
    )


def fit_run(
    trained: TrainedRun, evaluated: Sequence[Dataset], stand_in: Path | None, data: Path | None
) -> EnsembleSettings:
    """Fit the weights for a run.

    Args:
        trained: the run.
        evaluated: drives that must not be fitted on.
        stand_in: folder of the stand-in, see the module.
        data: folder that the paths of the stand-in's settings start from.

    Raises:
        InputError: no labelled drive, or one that is evaluated, or a stand-in of another kind.
    """
    if stand_in is None:
        drives = labelled_training(trained)
        check_held_out(drives, evaluated, 'evaluate')
        return fit_ensemble(trained, drives, with_student=False)
    other = load_trained(open_run(stand_in, data))
    check_stand_in(trained.run, other.run)
    drives = other.run.open_evaluation()
    check_held_out(drives, evaluated, 'evaluate of the run')
    check_held_out(drives, other.run.open_training(), 'train of the stand-in')
    return fit_ensemble(other, drives, with_student=True)


if __name__ == '__main__':
    run_command(main)
