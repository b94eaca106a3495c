# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the teacher says about a batch, and what its features are like before training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.files import write_json
from reldistill_ros.core.prompts import center
from trainer.batches import Batch, TrainingSweeps
from trainer.blockwise import count_votes
from trainer.losses import SAME_KIND
from trainer.missing import MissingSweeps
from trainer.run import Run
from trainer.teachers.teacher import Teacher

TEACHER_STATISTICS = 'teacher.json'
SWEEPS_FOR_STATISTICS = 16
NUM_VOTERS = 512
FEWEST_PAIRS = 2  # with one there are no relations


class Supervision(NamedTuple):
    """The pairs that the teacher says something about.

    Attributes:
        features: (P, C), the teacher's centred unit rows.
        rows: (P,) voxel of each.
        segments: (P,) superpixel of each, or None.
    """

    features: Tensor
    rows: Tensor
    segments: Tensor | None


def teacher_features(teacher: Teacher, batch: Batch, mean: NDArray[np.float32]) -> Supervision:
    """The teacher's centred features at the paired pixels.

    Pixels that carry no supervision are left out, possibly all.
    """
    pairs = zip(batch.images, batch.pixels)
    found = [teacher(image).at(pixels) for image, pixels in pairs if len(pixels)]
    empty = np.zeros((0, teacher.embedding_size), np.float32)
    features = np.concatenate([empty, *found])
    supervised = features.any(axis=1)
    segments = None if batch.segments is None else torch.from_numpy(batch.segments[supervised])
    return Supervision(
        torch.from_numpy(center(features[supervised], mean)),
        torch.from_numpy(batch.voxel_rows[supervised]),
        segments,
    )


def no_pairs(sample_ids: Sequence[str]) -> InputError:
    """The error of sweeps that have nothing to learn from."""
    return InputError(
        'no lidar point falls on a pixel that the teacher knows',
        where=', '.join(sample_ids),
        fix='look at the calibration: python -m trainer.pairing --help',
    )


def draw_balanced(features: Tensor, num: int, balance: float, rng: np.random.Generator) -> Tensor:
    """Draw pairs, the rarer their kind the sooner, without any label.

    A pair's votes are the sum of the teacher's cosines of at least 0.5 to a sample of the others,
    as in ST-SLidR (Mahmoud et al., CVPR 2023); it is drawn with a weight of `votes ** -balance`.

    Args:
        features: (P, C), the teacher's unit rows of the candidates.
        num: how many to draw.
        balance: 0 draws evenly, 1 gives every kind the same share.
        rng: source of chance.

    Returns:
        (min(num, P),) int64 indices, rising.
    """
    if len(features) <= num:
        return torch.arange(len(features))
    sample = torch.from_numpy(rng.permutation(len(features))[:NUM_VOTERS])
    votes = count_votes(features, features[sample], SAME_KIND).clamp(min=1).double()
    weights = votes.numpy() ** -balance
    chosen = rng.choice(len(features), num, replace=False, p=weights / weights.sum())
    return torch.from_numpy(np.sort(chosen))


def measure_teacher(
    run: Run, teacher: Teacher, sweeps: TrainingSweeps, missing: MissingSweeps
) -> NDArray[np.float32]:
    """The mean to subtract (C,), zeros where the run does not centre.

    Real text spaces are narrow cones: the spread of the teacher's relations, before and after
    centring, is written beside the run, because the relational terms can only reproduce
    differences that are there.

    Raises:
        InputError: none of the sweeps looked at has pairs.
    """
    zeros = np.zeros(teacher.embedding_size, np.float32)
    order = np.random.default_rng(run.settings.seed).permutation(len(sweeps)).tolist()
    found: list[NDArray[np.float32]] = []
    skipped: list[str] = []
    for index in order[:SWEEPS_FOR_STATISTICS]:
        sweep = sweeps[0, index]
        missing.note(sweep.unreadable)
        features = teacher_features(teacher, sweep, zeros).features.numpy()
        if len(features) < FEWEST_PAIRS:
            skipped.extend(sweep.sample_ids)
        else:
            found.append(features)
    if not found:
        raise no_pairs(skipped)
    features = np.concatenate(found)
    mean = features.mean(axis=0)
    statistics = {
        'sweeps': len(found),
        'skipped': len(skipped),
        'pairs': len(features),
        'relations': relation_spread(features),
        'relations_centred': relation_spread(center(features, mean)),
    }
    write_json(run.folder / TEACHER_STATISTICS, statistics)
    print(f'teacher {teacher.name}: {json.dumps(statistics)}')
    return mean if run.settings.center else zeros


def relation_spread(features: NDArray[np.float32], num: int = 2048) -> dict[str, float]:
    """Mean and standard deviation of the off-diagonal cosines of up to `num` rows."""
    rows = features[:: max(len(features) // num, 1)]
    cosines = (rows @ rows.T)[~np.eye(len(rows), dtype=bool)]
    return {'mean': round(float(cosines.mean()), 4), 'std': round(float(cosines.std()), 4)}
