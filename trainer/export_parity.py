# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""How far the engines of an exported student are from torch, on real sweeps."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from reldistill_ros.backends.backend import Backend
from reldistill_ros.backends.fused_backend import FusedBackend
from reldistill_ros.backends.micro_kernels import HAS_BFLOAT16
from reldistill_ros.backends.onnx_backend import OnnxBackend
from reldistill_ros.backends.torch_maps import PairMaps
from reldistill_ros.core import bundle
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import KernelMaps, build_kernel_maps
from reldistill_ros.core.voxels import voxelise
from reldistill_ros.core.zero_shot import fold_head, label_cosines, prompt_cosines
from trainer.datasets.sample import Dataset
from trainer.export_table import INT8
from trainer.run import Run, TrainedRun

PARITY_TOLERANCE = 1e-4
HALF = 'onnx float16'  # the graph for TensorRT in ONNX Runtime, which rounds after each layer
NUM_PARITY_SWEEPS = 3  # of each drive


@dataclass(frozen=True)
class ParityInput:
    """One input on which the engines are compared."""

    feats: NDArray[np.float32]
    maps: KernelMaps


def parity_sweeps(dataset: Dataset) -> list[int]:
    """Sweeps of a drive that engines are compared on."""
    chosen = np.linspace(0, len(dataset) - 1, NUM_PARITY_SWEEPS).astype(int)
    return [int(index) for index in np.unique(chosen)]


def parity_inputs(run: Run, datasets: Sequence[Dataset]) -> list[ParityInput]:
    """Real sweeps of every drive of the run, and a single voxel."""
    sweeps: list[NDArray[np.float32]] = []
    for dataset in datasets:
        sweeps.extend(dataset[index].points for index in parity_sweeps(dataset))
    single = sweeps[0][len(sweeps[0]) // 2 :][:1]
    inputs = []
    for points in (*sweeps, single):
        voxels = voxelise(points, run.settings.voxel, run.settings.inputs)
        if len(voxels.coords):
            inputs.append(ParityInput(voxels.feats, build_kernel_maps(voxels.coords)))
    return inputs


def check_parity(
    trained: TrainedRun, folder: Path, inputs: Sequence[ParityInput], num_threads: int
) -> dict[str, dict[str, float]]:
    """Compare every engine that this machine has with the unfolded torch student.

    Args:
        trained: the student.
        folder: with the exported graphs.
        inputs: to compare on.
        num_threads: of the engines.

    Returns:
        By engine what `Manifest.parity` holds. Reduced precision is measured and recorded; how
        much of it is acceptable, the user decides.

    Raises:
        InputError: an engine's float32 differs by more than `PARITY_TOLERANCE`.
    """
    weights = {name: w.numpy() for name, w in trained.student.state_dict().items()}
    network = trained.run.settings.network
    engines: dict[str, Backend] = {
        'onnx': OnnxBackend(folder / bundle.STUDENT_ONNX, num_threads),
        HALF: OnnxBackend(folder / bundle.STUDENT_HALF_ONNX, num_threads),
        'fused': FusedBackend(weights, network, num_threads),
    }
    if (folder / bundle.STUDENT_INT8_ONNX).exists():
        engines[INT8] = OnnxBackend(folder / bundle.STUDENT_INT8_ONNX, num_threads)
    if HAS_BFLOAT16:
        engines['fused bfloat16'] = FusedBackend(weights, network, num_threads, 'bfloat16')
    bar = tqdm(engines.items(), desc='compare with torch', unit='engine')
    parity = {name: measure_parity(trained, engine, inputs) for name, engine in bar}
    for name in ('onnx', 'fused'):
        worst = np.max([parity[name]['max_diff'], parity[name]['max_diff_cosine']])  # NaN stays
        if not worst <= PARITY_TOLERANCE:
            raise InputError(
                f'the engine {name} differs from the torch student; no bundle was written',
                where=trained.run.folder,
                expected=f'at most {PARITY_TOLERANCE} of the largest feature',
                got=parity[name],
            )
    return parity


def drop_overflowing_half(folder: Path, parity: dict[str, dict[str, float]]) -> None:
    """Leave the float16 graph out where features exceed what float16 holds."""
    if not np.isfinite(list(parity[HALF].values())).all():
        del parity[HALF]
        (folder / bundle.STUDENT_HALF_ONNX).unlink()
        print('the features overflow in float16: the bundle will run in float32', file=sys.stderr)


@torch.inference_mode()
def measure_parity(
    trained: TrainedRun, engine: Backend, inputs: Sequence[ParityInput]
) -> dict[str, float]:
    """What `Manifest.parity` holds of one engine, over all inputs."""
    weight, bias = trained.student.head.weight.numpy(), trained.student.head.bias.numpy()
    head = fold_head(weight, bias, trained.prompts)
    classes = trained.run.vocabulary.prompt_classes
    features_diff, cosines_diff, agreement = [], [], []
    for entry in inputs:
        expected = trained.student.backbone(torch.from_numpy(entry.feats), PairMaps(entry.maps))
        got = engine(entry.feats, entry.maps)
        diff = np.abs(got - expected.numpy()).max()
        features_diff.append(diff / max(float(expected.abs().max()), 1.0))
        embeddings = torch.nn.functional.normalize(trained.student.head(expected), dim=1)
        wanted = embeddings.numpy() @ trained.prompts.T
        cosines = prompt_cosines(got, head)
        cosines_diff.append(np.abs(cosines - wanted).max())
        labels = [label_cosines(c, classes, 1.0).class_ids for c in (cosines, wanted)]
        agreement.append(labels[0] == labels[1])
    return {
        'max_diff': float(np.max(features_diff)),
        'max_diff_cosine': float(np.max(cosines_diff)),
        'label_agreement': float(np.concatenate(agreement).mean()),
    }
