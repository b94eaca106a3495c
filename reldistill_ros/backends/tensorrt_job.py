# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""An engine to build: from which graph, for how many voxels, and for which GPU."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reldistill_ros.backends.cuda_runtime import describe_gpu
from reldistill_ros.backends.engine_files import EngineKey
from reldistill_ros.backends.engine_sizes import EngineSizes, bundle_sizes
from reldistill_ros.backends.tensorrt_library import Library
from reldistill_ros.core.bundle import (
    STUDENT_HALF_ONNX,
    STUDENT_INT8_ONNX,
    STUDENT_ONNX,
    Bundle,
)
from reldistill_ros.core.errors import InputError

GRAPHS = {'float32': STUDENT_ONNX, 'float16': STUDENT_HALF_ONNX, 'int8': STUDENT_INT8_ONNX}


@dataclass(frozen=True)
class Job:
    """An engine to build.

    Attributes:
        graph: the ONNX graph; the engine computes in its types.
        where: the graph's file, for errors.
        num_features: input features of a voxel.
        sizes: numbers of voxels.
        key: what the engine is for.
    """

    graph: bytes
    where: Path
    num_features: int
    sizes: EngineSizes
    key: EngineKey


@dataclass(frozen=True)
class Target:
    """Where an engine is to run.

    Attributes:
        gpu: its name, empty for any with one of the compute capabilities.
        compute_capabilities: as `8.9`.
    """

    gpu: str
    compute_capabilities: tuple[str, ...]


def bundle_job(
    bundle: Bundle, precision: str, library: Library, compute_capabilities: Sequence[str] = ()
) -> Job:
    """What has to be built for a bundle.

    Args:
        bundle: the model.
        precision: a key of `GRAPHS`.
        library: that builds.
        compute_capabilities: of the GPUs to build for, as `8.9`; none for the GPU of this machine.

    Raises:
        InputError: the bundle lacks the graph or the sizes, or the library builds for the GPU of
            this machine only.
    """
    file = bundle.path / GRAPHS[precision]
    if not bundle.holds(file.name):
        raise InputError(
            f'the bundle has no graph in {precision}',
            where=file,
            fix='export the run again with '
            f'{"--int8" if precision == "int8" else "this version of reldistill"}, or take float32',
        )
    graph, sizes = bundle.read(file.name), bundle_sizes(bundle)
    key = engine_key(library, graph, precision, sizes, target(library, compute_capabilities))
    return Job(graph, file, bundle.manifest.inputs.num_features, sizes, key)


def target(library: Library, compute_capabilities: Sequence[str] = ()) -> Target:
    """What an engine is to run on, see `bundle_job`.

    Raises:
        InputError: the library builds for the GPU of this machine only.
    """
    if not compute_capabilities:
        gpu, capability = describe_gpu()
        return Target(gpu, (capability,))
    if not library.is_rtx:
        raise InputError(
            'TensorRT builds for the GPU of this machine only',
            fix='build on the target, or install TensorRT for RTX, which builds for others',
        )
    return Target('', tuple(compute_capabilities))


def engine_key(
    library: Library, graph: bytes, precision: str, sizes: EngineSizes, target: Target
) -> EngineKey:
    """What an engine is for, all of it."""
    return EngineKey(
        model=hashlib.sha256(graph).hexdigest(),
        library=library.name,
        version=library.version,
        gpu=target.gpu,
        compute_capabilities=target.compute_capabilities,
        precision=precision,
        profile=sizes.profile,
    )


def bundled_engine_name(precision: str) -> str:
    """The file of an engine that a bundle brings along."""
    return f'student_{precision}.engine'
