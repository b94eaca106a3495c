# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the teacher says about a batch, and what its features are like before training."""

from __future__ import annotations

import json
from collections.abc import Iterable
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
from trainer.distributed import is_first, own_share, sum_everywhere, tell, total
from trainer.gather import gather_rows, gather_texts, own_rows, row_counts
from trainer.losses import SAME_KIND
from trainer.missing import MissingSweeps, Unreadable, of_all_processes
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

    def to(self, device: torch.device) -> Supervision:
        """The same on a device."""
        segments = None if self.segments is None else self.segments.to(device)
        return Supervision(self.features.to(device), self.rows.to(device), segments)


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


def no_pairs(sample_ids: Iterable[str]) -> InputError:
    """The error of sweeps, told by each process, that have nothing to learn from."""
    told = gather_texts(', '.join(sample_ids))
    return InputError(
        'no lidar point falls on a pixel that the teacher knows',
        where=', '.join(names for names in told if names),
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
    weights = votes.cpu().numpy() ** -balance
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
    order = np.random.default_rng(run.settings.seed).permutation(len(sweeps)).tolist()
    found, skipped, unreadable = look_at(teacher, sweeps, own_share(order[:SWEEPS_FOR_STATISTICS]))
    missing.note(of_all_processes(unreadable))
    own = torch.cat([torch.zeros(0, teacher.embedding_size), *found])
    pairs = total(len(own))
    if not pairs:
        raise no_pairs(skipped)
    mean = (sum_everywhere(own.sum(dim=0, dtype=torch.float64)) / pairs).float().numpy()
    some = some_rows(own, pairs).numpy()
    statistics = {
        'sweeps': total(len(found)),
        'skipped': total(len(skipped)),
        'pairs': pairs,
        'relations': relation_spread(some),
        'relations_centred': relation_spread(center(some, mean)),
    }
    if is_first():
        write_json(run.folder / TEACHER_STATISTICS, statistics)
    tell(f'teacher {teacher.name}: {json.dumps(statistics)}')
    return mean if run.settings.center else np.zeros_like(mean)


def look_at(
    teacher: Teacher, sweeps: TrainingSweeps, indices: Iterable[int]
) -> tuple[list[Tensor], list[str], list[Unreadable]]:
    """The teacher's features (P, C) of some sweeps, those without, and those not to be read."""
    found: list[Tensor] = []
    skipped: list[str] = []
    unreadable: list[Unreadable] = []
    zeros = np.zeros(teacher.embedding_size, np.float32)
    for index in indices:
        sweep = sweeps[0, index]
        unreadable.extend(sweep.unreadable)
        features = teacher_features(teacher, sweep, zeros).features
        if len(features) < FEWEST_PAIRS:
            skipped.extend(sweep.sample_ids)
        else:
            found.append(features)
    return found, skipped, unreadable


def some_rows(own: Tensor, num: int, wanted: int = 2048) -> Tensor:
    """Evenly spread rows of all processes, about `wanted` of `num`, of which `own` are here."""
    stride = max(num // wanted, 1)
    start = own_rows(row_counts(len(own))).start
    return gather_rows(own[-start % stride :: stride])


def relation_spread(rows: NDArray[np.float32]) -> dict[str, float]:
    """Mean and standard deviation of the off-diagonal cosines."""
    cosines = (rows @ rows.T)[~np.eye(len(rows), dtype=bool)]
    return {'mean': round(float(cosines.mean()), 4), 'std': round(float(cosines.std()), 4)}
