# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Checkpoints as one safetensors file: student, optimiser and where the run stood."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.files import replacing
from trainer.distributed import is_first

CHECKPOINT = 'checkpoint.safetensors'
EMBEDDING_MEAN = 'embedding_mean'
SECONDS_BETWEEN = 600  # what a killed run loses at most, however long an epoch is


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        fingerprint: what decides the result, see `Run.fingerprint`; a run is only resumed with
            the same.
        step: steps done, skipped ones included.
        low_steps: collapsed steps in a row, see `CollapseGuard`.
        skipped: steps whose batch had no pairs.
        skipped_in_a_row: how many of these came last.
        loss_scale: state of the scaler of a float16 loss; empty in another precision.
    """

    fingerprint: dict[str, str]
    step: int = 0
    low_steps: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    loss_scale: dict[str, float] = field(default_factory=dict)


def save_checkpoint(
    path: Path,
    student: nn.Module,
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    *,
    embedding_mean: NDArray[np.float32],
) -> None:
    """Write a checkpoint, whole or not at all; of several processes, the first does."""
    if not is_first():
        return
    tensors = {f'student.{name}': value for name, value in student.state_dict().items()}
    for index, state in optimiser.state_dict()['state'].items():
        for name, value in state.items():
            if value is not None:
                tensors[f'optimiser.{index}.{name}'] = torch.as_tensor(value)
    tensors[EMBEDDING_MEAN] = torch.from_numpy(embedding_mean)
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replacing(path) as partial:
        save_file(contiguous, partial, metadata={'progress': json.dumps(vars(progress))})


class Clock:
    """Says when it is time for a checkpoint, apart from those at the end of the epochs."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def has_struck(self) -> bool:
        """Whether the time is over; from then on it counts anew."""
        over = time.monotonic() - self._started >= SECONDS_BETWEEN
        if over:
            self._started = time.monotonic()
        return over


def load_student(path: Path, student: nn.Module) -> Tensor:
    """Load the student's weights in place and return the embedding mean (C,).

    Raises:
        InputError: no checkpoint, not readable, or of another network.
    """
    return _load(path, student, 'student.')[EMBEDDING_MEAN]


def _load(path: Path, module: nn.Module, prefix: str) -> dict[str, Tensor]:
    tensors, _ = _read(path)
    try:
        module.load_state_dict(_with_prefix(tensors, prefix))
    except RuntimeError as error:
        raise InputError(
            'the checkpoint belongs to another network',
            where=path,
            got=str(error).splitlines()[1].strip(),
            fix='use the settings the checkpoint was trained with',
        ) from error
    return tensors


def load_backbone(path: Path, backbone: nn.Module) -> None:
    """Load the backbone of any student in place; its head, of another space, is left out.

    Raises:
        InputError: no checkpoint, not readable, or of another network.
    """
    _load(path, backbone, 'student.backbone.')


def read_embedding_size(path: Path) -> int:
    """Dimension C of the embeddings of the student in a checkpoint.

    Raises:
        InputError: no checkpoint, or not readable.
    """
    with _open(path) as file:
        (size,) = file.get_slice(EMBEDDING_MEAN).get_shape()
    return int(size)


def read_progress(path: Path) -> Progress:
    """Where a run stood, without its weights.

    Raises:
        InputError: no checkpoint, or not readable.
    """
    with _open(path) as file:
        return Progress(**json.loads(file.metadata()['progress']))


def load_optimiser(path: Path, optimiser: torch.optim.Optimizer) -> Progress:
    """Load the optimiser's state in place and return where the run stood."""
    tensors, progress = _read(path)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _with_prefix(tensors, 'optimiser.').items():
        index, key = name.split('.')
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({**optimiser.state_dict(), 'state': state})
    return progress


def _read(path: Path) -> tuple[dict[str, Tensor], Progress]:
    with _open(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    return tensors, Progress(**json.loads(metadata['progress']))


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """A checkpoint's safetensors file, or an `InputError` that says what is wrong with it."""
    if not path.is_file():
        raise InputError(
            'there is no checkpoint', where=path, fix='train first: python -m trainer.distill'
        )
    try:
        with safe_open(path, framework='pt') as file:
            yield file
    except SafetensorError as error:
        raise InputError('the checkpoint cannot be read', where=path, got=error) from error


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
