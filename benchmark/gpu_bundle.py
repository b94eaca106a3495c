# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A bundle for timing: a student that never learned, on the benchmark's sweep of 32 beams.

`python -m benchmark.gpu_bundle FOLDER` writes `FOLDER/sweep.npy` and `FOLDER/bundle`. Its batch
norms have seen the sweep, so that features are of the usual size; its classes are 16 clusters of the
sweep's embeddings, so that few labels hang by a thread, as with a trained one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from benchmark.lidar_sweep import CASES
from benchmark.sparse_workload import INPUTS
from reldistill_ros.backends.engine_sizes import SWEEP_SIZES
from reldistill_ros.backends.torch_maps import PairMaps
from reldistill_ros.core import bundle
from reldistill_ros.core.errors import run_command
from reldistill_ros.core.files import replacing, write_json
from reldistill_ros.core.kernel_maps import KernelMaps, build_kernel_maps
from reldistill_ros.core.settings import StudentSettings
from reldistill_ros.core.student import Student, folded_copy
from reldistill_ros.core.vocabulary import Vocabulary, VocabularyClass
from reldistill_ros.core.voxels import voxelise
from trainer.half_graph import write_half_graph
from trainer.onnx_graph import write_onnx
from trainer.provenance import git_commit
from trainer.sweep_sizes import summarise

CASE = CASES['32']
NUM_CLASSES = 16
NUM_ROUNDS = 20
EMBEDDING_SIZE = 512
SWEEP = 'sweep.npy'
BUNDLE = 'bundle'
COLOR = (128, 128, 128)


def write_bundle(path: Path, network: str, points: NDArray[np.float32]) -> None:
    """Write the bundle of a network for a sweep (N, 4)."""
    path.mkdir()
    voxels = voxelise(points, CASE.voxel, INPUTS)
    maps = build_kernel_maps(voxels.coords)
    student = make_student(network, voxels.feats, maps)
    save_file(
        {name: weight.contiguous() for name, weight in student.state_dict().items()},
        path / bundle.STUDENT_WEIGHTS,
    )
    write_onnx(folded_copy(student).backbone, INPUTS.num_features, path / bundle.STUDENT_ONNX)
    write_half_graph(path / bundle.STUDENT_ONNX, path / bundle.STUDENT_HALF_ONNX)
    sizes = summarise(np.array([[level.num_voxels for level in maps]]))
    write_json(path / SWEEP_SIZES, sizes.model_dump(mode='json'))
    classes = tuple(VocabularyClass(name=f'class{i}', color=COLOR) for i in range(NUM_CLASSES))
    vocabulary = Vocabulary(version=1, name='clusters', classes=classes)
    text = yaml.safe_dump(vocabulary.model_dump(mode='json'))
    (path / bundle.VOCABULARY).write_text(text, encoding='utf-8')
    np.savez(
        path / bundle.TEXT_FEATURES,
        prompt_embeddings=cluster_centres(student, voxels.feats, maps),
        embedding_mean=np.zeros(EMBEDDING_SIZE, np.float32),
    )
    write_json(path / bundle.MANIFEST, _manifest(path, student.network).model_dump(mode='json'))


def make_student(network: str, feats: NDArray[np.float32], maps: KernelMaps) -> Student:
    """A student with random weights whose batch norms have seen a sweep, in evaluation mode."""
    torch.manual_seed(0)
    settings = {'network': network, 'embedding_size': EMBEDDING_SIZE}
    student = Student(StudentSettings.model_validate(settings), INPUTS.num_features)
    for module in student.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = 1.0
    with torch.no_grad():
        student.train()(torch.from_numpy(feats), PairMaps(maps))
    return student.eval()


@torch.no_grad()
def cluster_centres(
    student: Student, feats: NDArray[np.float32], maps: KernelMaps
) -> NDArray[np.float32]:
    """Unit centres (K, C) of the clusters that the embeddings of a sweep form: k-means."""
    embeddings = student(torch.from_numpy(feats), PairMaps(maps))
    embeddings = nn.functional.normalize(embeddings, dim=1)
    centres = embeddings[torch.randperm(len(embeddings))[:NUM_CLASSES]]
    for _ in range(NUM_ROUNDS):
        nearest = nn.functional.one_hot((embeddings @ centres.T).argmax(dim=1), NUM_CLASSES)
        centres = nn.functional.normalize(nearest.float().T @ embeddings, dim=1)
    rows: NDArray[np.float32] = centres.contiguous().numpy()
    return rows


def _manifest(path: Path, network: str) -> bundle.Manifest:
    student = {'network': network, 'embedding_size': EMBEDDING_SIZE}
    return bundle.Manifest(
        format_version=bundle.FORMAT_VERSION,
        voxel=CASE.voxel,
        inputs=INPUTS,
        student=StudentSettings.model_validate(student),
        intensity_max=1.0,
        temperature=0.1,
        text_encoder='none',
        teacher='none',
        run={},
        data_hash='',
        git_commit=git_commit(),
        parity={},
        files={file.name: bundle.sha256_of(file) for file in sorted(path.iterdir())},
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m benchmark.gpu_bundle', description=__doc__)
    parser.add_argument('folder', type=Path, help='to write; what is there is taken')
    parser.add_argument('--network', default='minkunet34')
    parser.add_argument('--sweep-only', action='store_true', help='leave the bundle out')
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    sweep = arguments.folder / SWEEP
    if not sweep.exists():
        from benchmark.lidar_sweep import cast_sweep

        np.save(sweep, cast_sweep(CASE))
    path = arguments.folder / BUNDLE
    if not (arguments.sweep_only or path.exists()):
        with replacing(path) as partial:
            write_bundle(partial, arguments.network, np.load(sweep))


if __name__ == '__main__':
    run_command(main)
