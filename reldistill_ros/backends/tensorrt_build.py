# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Build the engine of a bundle: `python -m reldistill_ros.backends.tensorrt_build BUNDLE`.

The node does the same when it first needs an engine, and with `build_only` nothing else. The
command also builds ahead of time: TensorRT for RTX needs no GPU for it.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from pathlib import Path
from typing import Any

from reldistill_ros.backends.backend import PRECISIONS
from reldistill_ros.backends.cuda_device import has_cuda_device
from reldistill_ros.backends.engine_files import (
    EngineCache,
    EngineKey,
    read_blob,
    read_engine,
    user_engine_folder,
    write_blob,
    write_engine,
)
from reldistill_ros.backends.engine_sizes import input_shapes
from reldistill_ros.backends.tensorrt_job import Job, bundle_job, bundled_engine_name
from reldistill_ros.backends.tensorrt_library import Library, open_library
from reldistill_ros.core.bundle import Bundle, load_bundle
from reldistill_ros.core.errors import InputError, run_command

MODULE = 'reldistill_ros.backends.tensorrt_build'


def build_engine(library: Library, job: Job, timing_cache: Path | None = None) -> bytes:
    """Build an engine: seconds with TensorRT for RTX, minutes with TensorRT.

    Args:
        library: that builds.
        job: what to build.
        timing_cache: file of what was measured in other builds; TensorRT for RTX has none.

    Raises:
        InputError: TensorRT does not take the graph, or cannot build it; it said why on stderr.
    """
    builder = library.module.Builder(library.logger)
    network = library.parse(builder, job.graph, job.where)
    config = builder.create_builder_config()
    config.clear_flag(library.module.BuilderFlag.TF32)  # float32 is to be float32
    if config.add_optimization_profile(_profile(builder, job)) < 0:
        raise InputError('TensorRT does not take the sizes', where=job.where, got=job.sizes)
    if library.is_rtx:
        _prepare_rtx(library, config, job.key)
    elif timing_cache is not None:
        cache = config.create_timing_cache(read_blob(timing_cache) or b'')
        config.set_timing_cache(cache, ignore_mismatch=False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise InputError('TensorRT cannot build the graph; it says why above', where=job.where)
    if timing_cache is not None and not library.is_rtx:
        write_blob(timing_cache, bytes(config.get_timing_cache().serialize()))
    return bytes(engine)


def cached_engine(library: Library, job: Job, cache: EngineCache) -> bytes:
    """The engine from the cache, or built now and kept there.

    Raises:
        InputError: see `build_engine`.
    """
    engine = cache.get(job.key)
    if engine is None:
        print(
            f'reldistill: building a {job.key.precision} engine with {library.name} '
            f'{library.version}, up to some minutes, once; it is kept in {cache.folder}',
            file=sys.stderr,
            flush=True,
        )
        machine = '\n'.join((library.name, library.version, job.key.gpu))
        name = hashlib.sha256(machine.encode()).hexdigest()[:32]
        engine = build_engine(library, job, cache.folder / f'{name}.timing')
        cache.put(job.key, engine)
    return engine


def find_engine(bundle: Bundle, library: Library, job: Job, cache: EngineCache) -> bytes:
    """The engine that came with the bundle where it serves here, or else that of the cache.

    Raises:
        InputError: see `build_engine`.
    """
    name = bundled_engine_name(job.key.precision)
    if bundle.holds(name):
        file = read_engine(bundle.path / name)
        differences = file.key.differences(job.key)
        if not differences:
            return file.engine
        print(
            f'reldistill: the engine in the bundle is for another {" and ".join(differences)}',
            file=sys.stderr,
        )
    return cached_engine(library, job, cache)


def rebuild_command(bundle: Path, precision: str, out: Path) -> str:
    """The command that builds an engine file anew."""
    return f'python -m {MODULE} {bundle} --precision {precision} --out {out}'


def _profile(builder: Any, job: Job) -> Any:
    """Shapes of every input for the smallest, the typical and the largest sweep."""
    profile = builder.create_optimization_profile()
    smallest, typical, largest = (
        input_shapes(sizes, job.num_features) for sizes in job.sizes.profile
    )
    for name, shape in smallest.items():
        profile.set_shape(name, shape, typical[name], largest[name])
    return profile


def _prepare_rtx(library: Library, config: Any, key: EngineKey) -> None:
    # so that the work of the engine can be recorded
    config.set_flag(library.module.BuilderFlag.REQUIRE_USER_ALLOCATION)
    known = library.module.ComputeCapability
    names = [f'SM{capability.replace(".", "")}' for capability in key.compute_capabilities]
    missing = [name for name in names if name not in known.__members__]
    if missing:
        raise InputError(
            f'TensorRT for RTX {library.version} does not know this GPU',
            expected=', '.join(known.__members__),
            got=', '.join(missing),
            fix='install TensorRT itself, which comes first where both are: pip install tensorrt '
            '(fetched from NVIDIA)',
        )
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        config.set_compute_capability(known.__members__[name], index)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog=f'python -m {MODULE}', description=__doc__)
    parser.add_argument('bundle', type=Path, help='folder that python -m trainer.export wrote')
    parser.add_argument('--precision', choices=PRECISIONS['tensorrt'], default='float16')
    parser.add_argument('--out', type=Path, help='file to write instead of the cache')
    parser.add_argument(
        '--compute-capability',
        nargs='+',
        default=[],
        metavar='8.9',
        help='GPUs to build for instead of that of this machine; TensorRT for RTX only',
    )
    arguments = parser.parse_args()
    library = open_library()
    if not (arguments.compute_capability or has_cuda_device()):
        raise InputError(
            'this machine has no GPU to build for',
            fix='build on the robot; with TensorRT for RTX, name GPUs: --compute-capability 8.9',
        )
    bundle = load_bundle(arguments.bundle)
    job = bundle_job(bundle, arguments.precision, library, arguments.compute_capability)
    start = time.perf_counter()
    if arguments.out:
        engine = build_engine(library, job)
        write_engine(arguments.out, job.key, engine)
    else:
        engine = cached_engine(library, job, EngineCache(user_engine_folder()))
    seconds = time.perf_counter() - start
    print(f'{len(engine) / 1e6:.1f} MB in {seconds:.1f} s, for {job.key.model_dump_json()}')


if __name__ == '__main__':
    run_command(main)
