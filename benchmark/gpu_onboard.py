# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The labeller on the GPU, from the bytes of a cloud to labels.

`python -m benchmark.gpu_onboard FOLDER --backend tensorrt --precision float16 --json OUT.json`
takes the sweep and the bundle that `benchmark.gpu_bundle` has written. Torch in float32 leaves its
labels in the folder, and the others are compared with them: begin with it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from benchmark.gpu_bundle import BUNDLE, SWEEP
from reldistill_ros.backends.backend import Backend
from reldistill_ros.backends.engine_files import user_engine_folder
from reldistill_ros.backends.torch_backend import TorchBackend
from reldistill_ros.core.bundle import STUDENT_WEIGHTS, Bundle, load_bundle
from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.files import write_json
from reldistill_ros.core.kernel_maps import KernelMaps
from reldistill_ros.core.student import Student
from reldistill_ros.labeller import Labeller
from reldistill_ros.point_cloud import read_points
from reldistill_ros.words.words import bundle_words
from trainer.sparse_backends import open_maps

REFERENCE = ('torch', 'float32')
FLOAT32 = 7  # of sensor_msgs/PointField
WARM_UP = 20
NUM_THREADS = 2
TORCH_BACKENDS = ('torch', 'triton')


class Autocast:
    """A backend of torch in reduced precision.

    Args:
        backend: computes.
        dtype: of products and features.
    """

    def __init__(self, backend: Backend, dtype: torch.dtype) -> None:
        self._backend, self._dtype = backend, dtype

    def __call__(self, feats: NDArray[np.float32], maps: KernelMaps) -> NDArray[np.float32]:
        with torch.autocast('cuda', self._dtype, enabled=self._dtype != torch.float32):
            return self._backend(feats, maps)


def measure(folder: Path, backend: str, precision: str, num_runs: int = 200) -> dict[str, Any]:
    """Times, memory and agreement of the labels.

    Args:
        folder: with sweep and bundle.
        backend: `tensorrt`, or one of `TORCH_BACKENDS`.
        precision: `float32` or `float16`.
        num_runs: sweeps that are timed.

    Raises:
        InputError: the backend cannot be had here; says why.
    """
    bundle = load_bundle(folder / BUNDLE)
    points = np.load(folder / SWEEP)
    before, start = free_memory(), time.perf_counter()
    labeller = open_labeller(bundle, backend, precision)
    opened = time.perf_counter() - start
    message = cloud_of(points)

    def decode_and_label() -> NDArray[np.uint8]:
        return labeller(read_points(message, 1.0)).class_ids

    times = [timed(decode_and_label) for _ in range(WARM_UP + num_runs)][WARM_UP:]
    p50, p99 = np.percentile(times, [50, 99])
    is_reference = (backend, precision) == REFERENCE
    # named after the bundle: the folder may hold the labels of another one
    labels_file = folder / f'labels_{labeller.revision}.npy'
    return {
        'backend': backend,
        'precision': precision,
        'gpu': torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        'points': len(points),
        'runs': num_runs,
        'p50_ms': 1e3 * p50,
        'p99_ms': 1e3 * p99,
        'open_seconds': opened,
        'gpu_mib': (before - free_memory()) / 2**20,
        'engine_megabytes': newest_engine() if backend == 'tensorrt' else None,
        'is_reference': is_reference,
        'label_agreement': compare(labels_file, decode_and_label(), is_reference),
    }


def open_labeller(bundle: Bundle, backend: str, precision: str) -> Labeller:
    """The bundle's labeller in an engine on the GPU."""
    manifest = bundle.manifest
    return Labeller(
        open_gpu_backend(bundle, backend, precision),
        bundle.head,
        bundle_words(bundle),
        voxel=manifest.voxel,
        inputs=manifest.inputs,
        temperature=manifest.temperature,
        num_threads=NUM_THREADS,
        intensity_max=manifest.intensity_max,
    )


def open_gpu_backend(bundle: Bundle, backend: str, precision: str) -> Backend:
    """The bundle's backbone in an engine on the GPU."""
    if backend == 'tensorrt':
        from reldistill_ros.backends.tensorrt_backend import TensorrtBackend

        return TensorrtBackend.from_bundle(bundle, precision)
    manifest = bundle.manifest
    student = Student(manifest.student, manifest.inputs.num_features)
    student.load_state_dict(load_file(bundle.path / STUDENT_WEIGHTS))
    student = student.eval().cuda()
    dtype: torch.dtype = getattr(torch, precision)
    maps = open_maps('triton' if backend == 'triton' else 'torch', torch.device('cuda'))
    return Autocast(TorchBackend(student, maps), dtype)


def free_memory() -> int:
    """Bytes of GPU memory that nobody has taken."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    from reldistill_ros.backends import cuda_runtime

    return cuda_runtime.free_memory()


def newest_engine() -> float:
    """MB of the engine that was built last."""
    files = user_engine_folder().glob('*.engine')
    return max(files, key=lambda file: file.stat().st_mtime).stat().st_size / 1e6


def timed(action: Callable[[], object]) -> float:
    """Seconds; labels come back to the host, so that nothing is left to do then."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def compare(file: Path, class_ids: NDArray[np.uint8], is_reference: bool) -> float | None:
    """Share of points with the reference's class, None where it has not run.

    The reference leaves its classes in the file.
    """
    if is_reference:
        np.save(file, class_ids)
    elif file.exists():
        return float((np.load(file, allow_pickle=False) == class_ids).mean())
    return None


def cloud_of(points: NDArray[np.float32]) -> Any:
    """Points (N, 4) as a sensor_msgs/PointCloud2 without ROS."""
    fields = [
        SimpleNamespace(name=name, offset=4 * index, datatype=FLOAT32, count=1)
        for index, name in enumerate(('x', 'y', 'z', 'intensity'))
    ]
    return SimpleNamespace(
        height=1,
        width=len(points),
        fields=fields,
        is_bigendian=False,
        point_step=16,
        row_step=16 * len(points),
        data=points.astype('<f4').tobytes(),
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m benchmark.gpu_onboard', description=__doc__)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--backend', choices=('tensorrt', *TORCH_BACKENDS), default='tensorrt')
    parser.add_argument('--precision', choices=('float32', 'float16'), default='float16')
    parser.add_argument('--runs', type=int, default=200)
    parser.add_argument('--json', type=Path, required=True, help='file to write')
    arguments = parser.parse_args()
    if arguments.backend in TORCH_BACKENDS and not torch.cuda.is_available():
        raise InputError('torch sees no CUDA device')
    result = measure(arguments.folder, arguments.backend, arguments.precision, arguments.runs)
    write_json(arguments.json, result)
    print(f'p50 {result["p50_ms"]:.1f} ms, p99 {result["p99_ms"]:.1f} ms')


if __name__ == '__main__':
    run_command(main)
