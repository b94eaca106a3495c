# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which tiles our Triton kernels should have on a GPU, for the layers that cost most.

`python -m benchmark.gpu_tiles --json OUT.json` prints, for each of the dearest kinds of layers of a
network, the time with the tile that `triton_maps` chooses and with the fastest one. Every tile has
to be compiled, which takes about a second.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmark.gpu_batch import NO_CUDA, NO_GPU_EXIT, Voxels, cast_batch, read_batch, timed
from benchmark.sparse_workload import INPUTS, count_pairs
from reldistill_ros.backends.device_maps import DeviceLevel, DeviceMaps, to_device
from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.files import write_json
from reldistill_ros.core.kernel_maps import KernelMaps
from reldistill_ros.core.network import Convolution, backbone_convolutions
from trainer.provenance import provenance

WARM_UP, NUM_RUNS = 2, 5
Row = dict[str, Any]


def measure(voxels: Voxels, network: str = 'minkunet34', most: int = 8) -> list[Row]:
    """A row for the convolution and one for the kernel's gradient of the dearest kinds of layers.

    Raises:
        InputError: there is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise InputError(NO_CUDA)
    maps = to_device(voxels.maps, 'cuda')
    kinds: dict[tuple[str, int, int, int], list[Convolution]] = {}
    for layer in backbone_convolutions(network, INPUTS.num_features):
        kinds.setdefault((layer.kind, layer.level, layer.c_in, layer.c_out), []).append(layer)
    layers = [alike for kind, alike in kinds.items() if kind[0] != 'linear']
    layers.sort(key=lambda alike: -cost(alike, voxels.maps))
    return [row for alike in tqdm(layers[:most]) for row in rows_of(alike[0], maps)]


def cost(alike: list[Convolution], maps: KernelMaps) -> int:
    """Multiplications of layers that are alike."""
    return len(alike) * count_pairs(alike[0], maps) * alike[0].c_in * alike[0].c_out


def rows_of(layer: Convolution, maps: DeviceMaps) -> Iterator[Row]:
    """Both rows of one kind of layer."""
    from reldistill_ros.backends import triton_maps as ours
    from reldistill_ros.backends.sorted_tables import find_pairs, sort_table

    table, num_in = table_of(layer, maps[layer.level])
    sorted_table, pairs = sort_table(table, num_in), find_pairs(table, num_in)
    c_in, c_out = layer.c_in, layer.c_out
    x, grad, kernel = (
        torch.randn(shape, device='cuda', dtype=torch.bfloat16)
        for shape in ((num_in, c_in), (table.shape[1], c_out), (len(table), c_in, c_out))
    )
    name = {'kind': layer.kind, 'level': layer.level, 'c_in': c_in, 'c_out': c_out}
    rows = sorted_table.rows
    yield name | compare(
        'convolution',
        lambda tile: ours.convolve(x, kernel, sorted_table, 'ieee', tile),
        ours.convolution_tile(rows, c_in, c_out),
        [
            ours.Tile(rows, *shape)
            for shape in product((32, 64, 128), (32, 64), (4, 8), (3, 4))
            if shape[0] < 2 * c_out and shape[1] < 2 * c_in
        ],
    )
    yield name | compare(
        'gradient',
        lambda tile: ours.kernel_gradient(x, grad, pairs, 'ieee', tile),
        ours.gradient_tile(c_in, c_out, x.dtype),
        [
            ours.Tile(*shape)
            for shape in product((32, 64, 128), (32, 64, 128), (32, 64), (4, 8))
            if shape[0] < 2 * c_in and shape[1] < 2 * c_out
        ],
    )


def table_of(layer: Convolution, level: DeviceLevel) -> tuple[Tensor, int]:
    """The layer's table (K, N), and how many rows it reads from."""
    if layer.kind == 'submanifold':
        return level.submanifold, level.num_voxels
    if layer.kind == 'down':
        return level.down, level.num_voxels
    return level.up, level.num_coarser


def compare(what: str, run: Callable[[Any], object], chosen: Any, tiles: list[Any]) -> Row:
    """Milliseconds with the chosen tile and with the fastest of all."""
    seconds = {tile: time_tile(run, tile) for tile in {chosen, *tiles}}
    best = min(seconds, key=lambda tile: seconds[tile])
    return {
        'what': what,
        'chosen': vars(chosen),
        'chosen_ms': 1e3 * seconds[chosen],
        'best': vars(best),
        'best_ms': 1e3 * seconds[best],
    }


def time_tile(run: Callable[[Any], object], tile: Any) -> float:
    """Median of seconds; infinite where the tile needs more than a block of threads may have."""
    from triton.runtime.errors import OutOfResources, PTXASError

    try:
        times = [timed(lambda: run(tile)) for _ in range(WARM_UP + NUM_RUNS)]
    except (OutOfResources, PTXASError):
        return float('inf')
    return median(times[WARM_UP:])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m benchmark.gpu_tiles', description=__doc__)
    parser.add_argument('--network', default='minkunet34')
    parser.add_argument('--layers', type=int, default=8, help='how many kinds')
    parser.add_argument('--batch', type=Path, help='NPZ file of benchmark.gpu_training --write')
    parser.add_argument('--json', type=Path, help='file to write')
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print(NO_CUDA)
        sys.exit(NO_GPU_EXIT)
    voxels = cast_batch(16) if arguments.batch is None else read_batch(arguments.batch)
    rows = measure(voxels, arguments.network, arguments.layers)
    for row in rows:
        print(
            f'{row["what"]:11} {row["kind"]:11} level {row["level"]} {row["c_in"]:3} -> '
            f'{row["c_out"]:3}: {row["chosen_ms"]:.3f} ms, best {row["best_ms"]:.3f} ms '
            f'with {row["best"]}'
        )
    if arguments.json is not None:
        write_json(arguments.json, {'rows': rows, **provenance()})


if __name__ == '__main__':
    run_command(main)
