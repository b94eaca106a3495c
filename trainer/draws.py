# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which sweeps every step of a run takes, known from its seed alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reldistill_ros.core.errors import InputError
from trainer.distributed import num_processes
from trainer.settings import RunSettings

Draw = tuple[int, int]  # epoch and index of a sweep


def steps_per_epoch(num_sweeps: int, batch_size: int) -> int:
    """Full batches of an epoch, at least one; the rest of the shuffled sweeps is left out."""
    return max(num_sweeps // batch_size, 1)


def draw_batches(settings: RunSettings, num_sweeps: int, first_step: int) -> Iterator[list[Draw]]:
    """The draws of every step of the run from `first_step` on."""
    per_epoch = steps_per_epoch(num_sweeps, settings.batch_size)
    for epoch in range(first_step // per_epoch, settings.epochs):
        order = np.random.default_rng([settings.seed, epoch]).permutation(num_sweeps)
        for batch in range(max(first_step - epoch * per_epoch, 0), per_epoch):
            chosen = order[batch * settings.batch_size : (batch + 1) * settings.batch_size]
            yield [(epoch, int(index)) for index in chosen]


def check_shares(settings: RunSettings, num_sweeps: int) -> None:
    """Reject a batch that the processes cannot share out evenly.

    Raises:
        InputError: its sweeps do not divide, or there are fewer of them than processes.
    """
    num = num_processes()
    if settings.batch_size % num or num_sweeps < num:
        raise InputError(
            'the batch cannot be shared out evenly among the processes',
            where='settings: batch_size, the sweeps of all processes together',
            expected=f'a multiple of {num}, from at least as many sweeps',
            got=f'{settings.batch_size}, from {num_sweeps}',
            fix='change batch_size, or start another number of processes',
        )
