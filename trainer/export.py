# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Export a trained run as a model bundle: `python -m trainer.export RUN_FOLDER --out BUNDLE`."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from reldistill_ros.backends.engine_sizes import SWEEP_SIZES, engine_sizes
from reldistill_ros.core import bundle
from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.files import replacing, write_json
from reldistill_ros.core.settings import StudentSettings
from reldistill_ros.core.student import folded_copy
from trainer.calibrate import calibrate
from trainer.check_tensorrt import report
from trainer.datasets.sample import Dataset
from trainer.export_parity import (
    check_parity,
    drop_overflowing_half,
    measure_parity,
    parity_inputs,
    parity_sweeps,
)
from trainer.export_parts import (
    ONLY_WORDS,
    Parts,
    check_parts,
    choose_image_network,
    export_parts,
    load_ensemble,
)
from trainer.export_table import export_table
from trainer.export_tensorrt import check_can_build, export_tensorrt
from trainer.fingerprint import data_hash
from trainer.half_graph import write_half_graph
from trainer.int8_graph import calibration_feeds, write_int8_graph
from trainer.onnx_graph import write_onnx
from trainer.provenance import git_commit
from trainer.run import VOCABULARY, Run, TrainedRun, load_trained, open_run
from trainer.sweep_sizes import measure_sweep_sizes


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
        drop_overflowing_half(partial, parity)
        if parts.engine:
            backbone = folded_copy(trained.student).backbone
            parity['tensorrt float16'] = export_tensorrt(
                backbone,
                partial,
                engine_sizes(sizes),
                lambda e: measure_parity(trained, e, inputs),
            )
        write_json(partial / bundle.MANIFEST, _manifest(trained, datasets, parity, partial))
        bundle.load_bundle(partial)
    return parity


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
