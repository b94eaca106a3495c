# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Make a run of another project's checkpoint, to fine-tune it or to distil on from it.

`python -m trainer.convert CHECKPOINT.pt RUN.yaml --out DIR` writes the run folder of a student with
these weights, see `trainer.foreign_weights` for the networks. `python -m trainer.few_shot DIR` then
works, and a run with `init: DIR` distils on from it. RUN.yaml says what a checkpoint does not:
voxels, input features, network. For SLidR's MinkUNet, which takes the intensity from 0 to 255:
`network: minkunet34`, `inputs: {features: [intensity], intensity_mean: 0, intensity_std:
0.0039215687}`.
"""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.student import Student
from trainer.checkpoint import Progress, save_checkpoint
from trainer.foreign_weights import ARCHITECTURES, find_architecture, to_ours
from trainer.optimiser import make_optimiser
from trainer.run import Run, create_run

CONTAINERS = ('model_points', 'state_dict', 'model_state_dict', 'model')  # hold the weights
PREFIXES = ('module.', 'model.', 'model_points.', 'encoder.')
DEFAULT_WIDTH = 512  # of the embeddings, where the network ends before a head
MOST_NAMES = 8  # in a message


def convert(checkpoint: Path, run: Run) -> Student:
    """Write a run's checkpoint with the weights of another project's.

    Raises:
        InputError: it cannot be read, is of another network, or of another size than the run's.
    """
    content = read_checkpoint(checkpoint)
    weights = find_weights(content)
    architecture = find_architecture(list(weights))
    if architecture is None:
        raise InputError(
            'the weights are of a network that is not known',
            where=checkpoint,
            expected=' or '.join(a.name for a in ARCHITECTURES),
            got=_some(list(weights)),
        )
    ours = to_ours(weights, architecture)
    width = len(ours['head.weight']) if 'head.weight' in ours else DEFAULT_WIDTH
    student = run.new_student(width)
    load_weights(student, ours, checkpoint)
    tell_differences(content.get('config'), run)
    save_checkpoint(
        run.checkpoint,
        student,
        make_optimiser(student, run.settings.optimiser),
        Progress({}),
        embedding_mean=np.zeros(width, np.float32),
    )
    return student


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `torch.save` wrote; nothing but tensors and plain values is taken.

    Raises:
        InputError: no such file, not torch's, or it holds other objects.
    """
    if not path.is_file():
        raise InputError('there is no checkpoint', where=path)
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(
            'the checkpoint cannot be read without running code of its own',
            where=path,
            got=str(error).partition('\n')[0],
            fix='in the project that wrote it, save model.state_dict() alone',
        ) from error
    if not isinstance(content, dict):
        raise InputError('the checkpoint is no dictionary', where=path, got=type(content).__name__)
    return content


def find_weights(content: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors by name, out of their container and without the prefixes of wrappers."""
    for name in CONTAINERS:
        if isinstance(content.get(name), dict):
            return find_weights(content[name])
    weights = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    for prefix in PREFIXES:
        if weights and all(name.startswith(prefix) for name in weights):
            return find_weights({k.removeprefix(prefix): v for k, v in weights.items()})
    points = {k: v for k, v in weights.items() if k.startswith('model_points.')}
    return find_weights(points) if points else weights


def load_weights(student: Student, weights: dict[str, Tensor], where: Path) -> None:
    """Load all weights in place; a head may be absent, and stays random then.

    Raises:
        InputError: weights are missing, left over, or of other shapes; all are named.
    """
    expected = student.state_dict()
    absent = [n for n in expected if n not in weights and not n.startswith('head.')]
    over = [n for n in weights if n not in expected]
    other = [
        f'{n}: {tuple(weights[n].shape)} instead of {tuple(value.shape)}'
        for n, value in expected.items()
        if n in weights and weights[n].shape != value.shape
    ]
    if absent or over or other:
        found = {'missing': absent, 'left over': over, 'of another shape': other}
        told = '; '.join(f'{what}: {_some(names)}' for what, names in found.items() if names)
        raise InputError(
            'the weights do not fit the student of the run',
            where=where,
            got=told,
            fix=_advice(weights, expected),
        )
    student.load_state_dict(weights, strict=False)


def _advice(weights: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    stem = weights.get('backbone.stem1.kernel')
    if stem is not None and len(stem) != 27:
        size = round(len(stem) ** (1 / 3))
        return f'its first kernel is {size}x{size}x{size}; only 3x3x3 can be represented'
    if stem is not None and stem.shape[1] != expected['backbone.stem1.kernel'].shape[1]:
        return f'set inputs.features so that they have {stem.shape[1]} columns'
    return 'set network: minkunet34 for SLidR, minkunet18 for torchsparse'


def tell_differences(config: object, run: Run) -> None:
    """Print what SLidR's checkpoints say about their voxels, where the run's differ."""
    if not isinstance(config, dict):
        return
    if config.get('cylindrical_coordinates'):
        print(
            'it was trained on cylindrical voxels, those of the run are cubes: take the weights '
            'for a start, not for a trained network'
        )
    size = config.get('voxel_size')
    if size is not None and size != run.settings.voxel.voxel_size:
        print(
            f'it was trained with voxel_size {size}, the run has {run.settings.voxel.voxel_size}'
        )


def _some(names: list[str]) -> str:
    rest = len(names) - MOST_NAMES
    return ', '.join(names[:MOST_NAMES]) + (f' and {rest} more' if rest > 0 else '')


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m trainer.convert', description=__doc__)
    parser.add_argument('checkpoint', type=Path, help='what the other project wrote')
    parser.add_argument('settings', type=Path, help='YAML file of a run, see config/runs/')
    parser.add_argument('--out', type=Path, required=True, help='run folder to write')
    parser.add_argument(
        '--data', type=Path, help='folder that the paths of the settings start from'
    )
    arguments = parser.parse_args()
    run = create_run(arguments.settings, arguments.out, arguments.data)
    student = convert(arguments.checkpoint, run)
    count = sum(p.numel() for p in student.parameters())
    print(f'{count} weights are in {run.checkpoint}')


if __name__ == '__main__':
    run_command(main)
