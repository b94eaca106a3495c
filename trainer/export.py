# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Export a trained run as a model bundle: `python -m trainer.export RUN_FOLDER --out BUNDLE`."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from reldistill_ros.backends.onnx_backend import OnnxBackend
from reldistill_ros.backends.torch_maps import PairMaps
from reldistill_ros.core import bundle
from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.files import write_json
from reldistill_ros.core.kernel_maps import KernelMaps, build_kernel_maps
from reldistill_ros.core.settings import StudentSettings
from reldistill_ros.core.student import Student, fold_batch_norm
from reldistill_ros.core.voxels import voxelise
from reldistill_ros.core.zero_shot import fold_head, label_cosines, prompt_cosines
from trainer.datasets.sample import Dataset
from trainer.onnx_graph import write_onnx
from trainer.run import Run, TrainedRun, git_commit, load_trained, open_run
from trainer.teachers.build import build_teacher

PARITY_TOLERANCE = 1e-4
NUM_PARITY_SWEEPS = 3


@dataclass(frozen=True)
class ParityInput:
    """One input on which the engines are compared."""

    feats: NDArray[np.float32]
    maps: KernelMaps


def export(trained: TrainedRun, out: Path, num_threads: int) -> dict[str, float]:
    """Write a bundle under a temporary name, check it, then rename it.

    Returns:
        The measured parity, as it stands in the manifest.

    Raises:
        InputError: `out` exists, or an engine disagrees with torch; then there is no bundle.
    """
    if out.exists():
        raise InputError(
            'the bundle folder already exists', where=out, fix='remove it or give another --out'
        )
    partial = out.with_name(out.name + '.partial')
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    run = trained.run
    datasets = run.open_training()
    student = _folded_copy(trained)
    write_onnx(student.backbone, run.settings.inputs.num_features, partial / bundle.STUDENT_ONNX)
    weights = {name: value.contiguous() for name, value in trained.student.state_dict().items()}
    save_file(weights, partial / bundle.STUDENT_WEIGHTS)
    shutil.copyfile(run.folder / 'vocabulary.yaml', partial / bundle.VOCABULARY)
    np.savez(partial / bundle.TEXT_FEATURES, prompt_embeddings=trained.prompts)
    parity = check_parity(
        trained, partial / bundle.STUDENT_ONNX, parity_inputs(run, datasets), num_threads
    )
    write_json(partial / bundle.MANIFEST, _manifest(trained, datasets, parity, partial))
    bundle.load_bundle(partial)
    partial.rename(out)
    return parity


def _folded_copy(trained: TrainedRun) -> Student:
    student = trained.run.new_student(trained.student.head.out_features)
    student.load_state_dict(trained.student.state_dict())
    student.eval()
    fold_batch_norm(student)
    return student


def parity_inputs(run: Run, datasets: Sequence[Dataset]) -> list[ParityInput]:
    """Real sweeps of the run, and a single voxel."""
    sweeps = [datasets[0][i].points for i in range(min(NUM_PARITY_SWEEPS, len(datasets[0])))]
    single = sweeps[0][len(sweeps[0]) // 2 :][:1]
    inputs = []
    for points in (*sweeps, single):
        voxels = voxelise(points, run.settings.voxel, run.settings.inputs)
        if len(voxels.coords):
            inputs.append(ParityInput(voxels.feats, build_kernel_maps(voxels.coords)))
    return inputs


@torch.inference_mode()
def check_parity(
    trained: TrainedRun, graph: Path, inputs: Sequence[ParityInput], num_threads: int
) -> dict[str, float]:
    """Compare the exported graph with the unfolded torch student.

    Returns:
        `max_abs_diff` of the point features and of the cosines to the prompts, and the share of
        voxels whose label is the same.

    Raises:
        InputError: the features differ by more than `PARITY_TOLERANCE`.
    """
    engine = OnnxBackend(graph, num_threads)
    weight, bias = trained.student.head.weight.numpy(), trained.student.head.bias.numpy()
    head = fold_head(weight, bias, trained.prompts)
    classes = trained.run.vocabulary.prompt_classes
    features_diff, cosines_diff, agreement = [], [], []
    for entry in inputs:
        rows = torch.from_numpy(entry.feats)
        expected = trained.student.backbone(rows, PairMaps(entry.maps))
        got = engine(entry.feats, entry.maps)
        features_diff.append(np.abs(got - expected.numpy()).max())
        embeddings = torch.nn.functional.normalize(trained.student.head(expected), dim=1)
        wanted = embeddings.numpy() @ trained.prompts.T
        cosines = prompt_cosines(got, head)
        cosines_diff.append(np.abs(cosines - wanted).max())
        labels = [label_cosines(c, classes, 1.0).class_ids for c in (cosines, wanted)]
        agreement.append((labels[0] == labels[1]).mean())
    parity = {
        'max_abs_diff': float(max(features_diff)),
        'max_abs_diff_cosine': float(max(cosines_diff)),
        'label_agreement': float(np.mean(agreement)),
    }
    worst = max(parity['max_abs_diff'], parity['max_abs_diff_cosine'])
    if not worst <= PARITY_TOLERANCE:
        raise InputError(
            'the exported graph differs from the torch student; no bundle was written',
            where=graph.name,
            expected=f'at most {PARITY_TOLERANCE}',
            got=parity,
        )
    return parity


def _manifest(
    trained: TrainedRun, datasets: Sequence[Dataset], parity: dict[str, float], folder: Path
) -> dict[str, object]:
    run, settings = trained.run, trained.run.settings
    scales = {dataset.intensity_max for dataset in datasets}
    student = StudentSettings(
        network=settings.network, embedding_size=trained.encoder.embedding_size
    )
    manifest = bundle.Manifest(
        format_version=bundle.FORMAT_VERSION,
        voxel=settings.voxel,
        inputs=settings.inputs,
        student=student,
        intensity_max=scales.pop() if len(scales) == 1 else None,
        temperature=settings.temperature,
        text_encoder=trained.encoder.name,
        teacher=build_teacher(settings.teacher, trained.encoder, run.data_root).name,
        run=settings.model_dump(mode='json'),
        data_hash=_data_hash(datasets),
        git_commit=git_commit(),
        parity=parity,
        files={path.name: bundle.sha256_of(path) for path in sorted(folder.iterdir())},
    )
    return manifest.model_dump(mode='json')


def _data_hash(datasets: Sequence[Dataset]) -> str:
    """sha256 over name and length of the training drives and the stamps they start with."""
    facts = [[d.name, len(d), d[0].sample_id, d[len(d) - 1].sample_id] for d in datasets]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m trainer.export', description=__doc__)
    parser.add_argument('run', type=Path, help='run folder of python -m trainer.distill')
    parser.add_argument('--out', type=Path, required=True, help='bundle folder to write')
    parser.add_argument(
        '--data', type=Path, help='folder that the paths of the settings start from'
    )
    arguments = parser.parse_args()
    run = open_run(arguments.run, arguments.data)
    parity = export(load_trained(run), arguments.out, run.settings.threads)
    print(f'wrote {arguments.out}: {json.dumps(parity)}')


if __name__ == '__main__':
    run_command(main)
