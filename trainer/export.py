# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Export a trained run as a model bundle: `python -m trainer.export RUN_FOLDER --out BUNDLE`."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from reldistill_ros.backends.backend import Backend
from reldistill_ros.backends.engine_sizes import SWEEP_SIZES, engine_sizes
from reldistill_ros.backends.fused_backend import FusedBackend
from reldistill_ros.backends.micro_kernels import HAS_BFLOAT16
from reldistill_ros.backends.onnx_backend import OnnxBackend
from reldistill_ros.backends.torch_maps import PairMaps
from reldistill_ros.core import bundle
from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.files import replacing, write_json
from reldistill_ros.core.kernel_maps import KernelMaps, build_kernel_maps
from reldistill_ros.core.settings import StudentSettings
from reldistill_ros.core.student import folded_copy
from reldistill_ros.core.voxels import voxelise
from reldistill_ros.core.zero_shot import fold_head, label_cosines, prompt_cosines
from trainer.calibrate import calibrate
from trainer.check_tensorrt import report
from trainer.datasets.sample import Dataset
from trainer.export_parts import (
    ONLY_WORDS,
    Parts,
    check_parts,
    choose_image_network,
    export_parts,
    load_ensemble,
)
from trainer.export_table import INT8, export_table
from trainer.export_tensorrt import check_can_build, export_tensorrt
from trainer.fingerprint import data_hash
from trainer.half_graph import write_half_graph
from trainer.int8_graph import calibration_feeds, write_int8_graph
from trainer.onnx_graph import write_onnx
from trainer.provenance import git_commit
from trainer.run import VOCABULARY, Run, TrainedRun, load_trained, open_run
from trainer.sweep_sizes import measure_sweep_sizes

PARITY_TOLERANCE = 1e-4
HALF = 'onnx float16'  # the graph for TensorRT in ONNX Runtime, which rounds after each layer
NUM_PARITY_SWEEPS = 3  # of each drive


@dataclass(frozen=True)
class ParityInput:
    """One input on which the engines are compared."""

    feats: NDArray[np.float32]
    maps: KernelMaps


def export(
    trained: TrainedRun, out: Path, num_threads: int, parts: Parts = ONLY_WORDS
) -> dict[str, dict[str, float]]:
    """Write a bundle whose engines agree with torch, or none.

    Args:
        trained: what to export.
        out: folder to write.
        num_threads: of the engines that are compared.
        parts: what the bundle holds besides the student.

    Returns:
        The measured parity, as it stands in the manifest.

    Raises:
        InputError: `out` exists, an engine disagrees with torch, or an encoder cannot be
            exported.
    """
    check_parts(parts)
    if out.exists():
        raise InputError(
            'the bundle folder already exists', where=out, fix='remove it or give another --out'
        )
    run = trained.run
    datasets = run.open_training()
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as partial:
        partial.mkdir()
        encoders = export_parts(trained, parts, datasets, partial)
        graph = partial / bundle.STUDENT_ONNX
        backbone = folded_copy(trained.student).backbone
        write_onnx(backbone, run.settings.inputs.num_features, graph)
        write_half_graph(graph, partial / bundle.STUDENT_HALF_ONNX)
        weights = {name: w.contiguous() for name, w in trained.student.state_dict().items()}
        save_file(weights, partial / bundle.STUDENT_WEIGHTS)
        shutil.copyfile(run.folder / VOCABULARY, partial / bundle.VOCABULARY)
        np.savez(
            partial / bundle.TEXT_FEATURES,
            prompt_embeddings=trained.prompts,
            embedding_mean=trained.embedding_mean,
        )
        write_json(
            partial / bundle.CALIBRATION, calibrate(trained, datasets).model_dump(mode='json')
        )
        sizes = measure_sweep_sizes(run, datasets)
        write_json(partial / SWEEP_SIZES, sizes.model_dump(mode='json'))
        if parts.int8:
            feeds = calibration_feeds(run, datasets, list(map(parity_sweeps, datasets)))
            write_int8_graph(graph, feeds, partial / bundle.STUDENT_INT8_ONNX)
        inputs = parity_inputs(run, datasets)
        parity = check_parity(trained, partial, inputs, num_threads) | encoders
        _drop_overflowing_half(partial, parity)
        if parts.engine:
            backbone = folded_copy(trained.student).backbone
            parity['tensorrt float16'] = export_tensorrt(
                backbone, partial, engine_sizes(sizes), lambda e: _parity(trained, e, inputs)
            )
        write_json(partial / bundle.MANIFEST, _manifest(trained, datasets, parity, partial))
        bundle.load_bundle(partial)
    return parity


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
    parity = {name: _parity(trained, engine, inputs) for name, engine in engines.items()}
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


def _drop_overflowing_half(folder: Path, parity: dict[str, dict[str, float]]) -> None:
    """Leave the float16 graph out where features exceed what float16 holds."""
    if not np.isfinite(list(parity[HALF].values())).all():
        del parity[HALF]
        (folder / bundle.STUDENT_HALF_ONNX).unlink()
        print('the features overflow in float16: the bundle will run in float32', file=sys.stderr)


@torch.inference_mode()
def _parity(
    trained: TrainedRun, engine: Backend, inputs: Sequence[ParityInput]
) -> dict[str, float]:
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


def _manifest(
    trained: TrainedRun,
    datasets: Sequence[Dataset],
    parity: dict[str, dict[str, float]],
    folder: Path,
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
        teacher=run.build_teacher(trained.encoder).name,
        run=settings.model_dump(mode='json'),
        data_hash=data_hash(datasets),
        git_commit=git_commit(),
        parity=parity,
        files={path.name: bundle.sha256_of(path) for path in sorted(folder.iterdir())},
    )
    return manifest.model_dump(mode='json')


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m trainer.export', description=__doc__)
    parser.add_argument('run', type=Path, help='run folder of python -m trainer.distill')
    parser.add_argument('--out', type=Path, required=True, help='bundle folder to write')
    parser.add_argument(
        '--data', type=Path, help='folder that the paths of the settings start from'
    )
    parser.add_argument(
        '--without-text-encoder',
        action='store_true',
        help='smaller by up to some hundred MB; the robot then knows the words of the run only',
    )
    parser.add_argument(
        '--check-tensorrt',
        action='store_true',
        help='build every graph with TensorRT, which needs no GPU with tensorrt-rtx-cu13',
    )
    parser.add_argument(
        '--int8',
        action='store_true',
        help='also write a graph in int8 for TensorRT, calibrated on training sweeps; the table '
        'says how many labels it changes',
    )
    parser.add_argument(
        '--tensorrt',
        action='store_true',
        help='also build an engine with torch-tensorrt, for the GPU of this machine',
    )
    parser.add_argument(
        '--ensemble',
        type=Path,
        metavar='JSON',
        help='ensemble.json of python -m trainer.ensemble: how cameras and student are weighed',
    )
    cameras = parser.add_mutually_exclusive_group()
    cameras.add_argument(
        '--image-network',
        type=Path,
        metavar='YAML',
        help='2D network for the cameras of the robot, with the keys of a teacher of kind '
        "onnx_segmentation (default: the run's teacher, unless that is class maps in files)",
    )
    cameras.add_argument(
        '--without-image-encoder',
        action='store_true',
        help='smaller by up to some hundred MB; the robot then cannot use its cameras',
    )
    arguments = parser.parse_args()
    if arguments.tensorrt:
        check_can_build()  # now, and not when all else is done
    run = open_run(arguments.run, arguments.data)
    parts = choose_parts(arguments, run)
    parity = export(load_trained(run), arguments.out, run.settings.threads, parts)
    print(export_table(arguments.out, parity, parts))
    if arguments.check_tensorrt:
        print(report(arguments.out))


def choose_parts(arguments: argparse.Namespace, run: Run) -> Parts:
    """What the command line asks for.

    Raises:
        InputError: a file that it names cannot be used, or its wishes contradict one another.
    """
    image_network = None
    if not arguments.without_image_encoder:
        image_network = choose_image_network(run, arguments.image_network)
    ensemble = load_ensemble(arguments.ensemble, run) if arguments.ensemble else None
    parts = Parts(
        not arguments.without_text_encoder,
        image_network,
        ensemble,
        int8=arguments.int8,
        engine=arguments.tensorrt,
    )
    check_parts(parts)
    return parts


if __name__ == '__main__':
    run_command(main)
