# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Training step of the student on CUDA: every installed backend, time and memory.

`python -m benchmark.gpu_training --json OUT.json` takes 16 sweeps of the synthetic town in one
batch. Where the town cannot be cast (no trimesh), write the batch elsewhere before:
`python -m benchmark.gpu_training --write BATCH.npz`, then `--batch BATCH.npz`.

All get the same kernel maps, ours: a library's own search is not timed. A step is forward and
backward pass in training mode from a fixed gradient of the point features, once with the kernel maps
built on the GPU from uploaded coordinates and prepared, as training does it, and once along maps that
are there. Useful operations are counted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmark.gpu_batch import NO_CUDA, NO_GPU_EXIT, Voxels, cast_batch, read_batch, timed
from benchmark.gpu_check_figures import PEERS, WIDE
from benchmark.sparse_workload import INPUTS, count_flops
from reldistill_ros.backends.device_maps import DeviceMaps, build_device_maps
from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.files import replacing, write_json
from reldistill_ros.core.settings import StudentSettings
from reldistill_ros.core.student import Backbone, SparseMaps
from trainer.provenance import provenance
from trainer.settings import BackendName, Precision
from trainer.sparse_backends import (
    ON_CUDA,
    failures,
    installed_versions,
    obstacle,
    open_maps,
    reason_of,
)

MODES: tuple[tuple[Precision, bool], ...] = (
    ('bfloat16', False),
    ('float16', False),
    ('float32', True),
    ('float32', False),
)
WARM_UP = 5  # the first passes compile and tune
Row = dict[str, Any]


def measure(voxels: Voxels, network: str = 'minkunet34', num_runs: int = 10) -> dict[str, Any]:
    """Rows of all backends and precisions that work here, with their ratio to the fastest peer.

    Raises:
        InputError: there is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise InputError(NO_CUDA)
    device = torch.device('cuda')
    step = Step(voxels, network, device)
    rows, left_out = [], {}
    for name in tqdm(ON_CUDA, desc='training', unit='backend'):
        for precision, tf32 in MODES:
            found = obstacle(name, device, precision)
            if found is None:
                rows.append(measure_backend(step, name, precision, tf32, num_runs))
            else:
                left_out[f'{name} {precision}'] = found.reason
    add_ratios(rows)
    return {
        'gpu': torch.cuda.get_device_name(),
        'network': network,
        'sweeps': len(voxels.sizes),
        'voxels': [level.num_voxels for level in voxels.maps],
        'device_maps_seconds': median(timed(step.build_maps) for _ in range(num_runs)),
        'rows': rows,
        'left_out': left_out,
        'versions': installed_versions(),
    }


class Step:
    """One training step of a backbone with random weights, whatever carries it out.

    Args:
        voxels: of the batch.
        network: name of the backbone's widths and depths.
        device: CUDA.
    """

    def __init__(self, voxels: Voxels, network: str, device: torch.device) -> None:
        torch.manual_seed(0)
        settings = StudentSettings.model_validate({'network': network, 'embedding_size': 512})
        self._backbone = Backbone(settings, INPUTS.num_features).to(device).train()
        self._voxels, self.device = voxels, device
        self._feats = torch.from_numpy(voxels.feats).to(device)
        self._grad: Tensor | None = None
        self.flops = count_flops(network, voxels.maps)['forward_backward']
        self.expected = self.forward(open_maps('torch', device)(voxels.maps), torch.float32)

    @torch.no_grad()
    def forward(self, sparse: SparseMaps, dtype: torch.dtype) -> Tensor:
        """Point features (V, D)."""
        half = dtype != torch.float32
        with torch.autocast(self.device.type, dtype, enabled=half):
            features: Tensor = self._backbone(self._feats, sparse)
        return features.float()

    def run(self, sparse: SparseMaps, dtype: torch.dtype) -> None:
        """Forward and backward pass."""
        self._backbone.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            features = self._backbone(self._feats, sparse)
        if self._grad is None:
            self._grad = torch.randn_like(features, dtype=torch.float32)
        features.backward(self._grad.to(features.dtype))

    def build_maps(self) -> DeviceMaps:
        """The batch's kernel maps, built on the device from its coordinates."""
        coords = torch.from_numpy(self._voxels.coords).to(self.device)
        numbers = np.repeat(np.arange(len(self._voxels.sizes)), self._voxels.sizes)
        return build_device_maps(coords, torch.from_numpy(numbers).to(self.device))


def measure_backend(
    step: Step, name: BackendName, precision: Precision, tf32: bool, num_runs: int
) -> Row:
    """Time, memory and error of one backend in one precision."""
    torch.set_float32_matmul_precision('high' if tf32 else 'highest')
    row: Row = {'backend': name, 'precision': 'tf32' if tf32 else precision}
    as_maps, dtype = open_maps(name, step.device, tf32), getattr(torch, precision)
    torch.cuda.empty_cache()
    try:
        distance, network = try_network(step, as_maps(step.build_maps()), dtype, num_runs)
        torch.cuda.reset_peak_memory_stats()
        whole = [
            timed(lambda: step.run(as_maps(step.build_maps()), dtype)) for _ in range(num_runs)
        ]
    except failures() as error:  # one backend's, which the others shall outlast
        return row | {'failed': reason_of(error)}
    return row | {
        'seconds': median(whole),
        'iqr_seconds': float(np.subtract(*np.percentile(whole, [75, 25]))),
        'network_seconds': median(network),
        'useful_tflops': step.flops / median(network) / 1e12,
        'peak_mib': torch.cuda.max_memory_allocated() / 2**20,
        'relative_error': distance,
    }


def try_network(
    step: Step, sparse: SparseMaps, dtype: torch.dtype, num_runs: int
) -> tuple[float, list[float]]:
    """Relative error of the point features, and seconds of steps along maps that are there."""
    error = (step.forward(sparse, dtype) - step.expected).norm() / step.expected.norm()
    for _ in range(WARM_UP):
        step.run(sparse, dtype)
    return error.item(), [timed(lambda: step.run(sparse, dtype)) for _ in range(num_runs)]


def add_ratios(rows: list[Row]) -> None:
    """How many times as fast as the fastest peer that computes in as many bits each row is."""
    for row in rows:
        for key in ('seconds', 'network_seconds'):
            wide = row['precision'] in WIDE
            peers = [
                other[key]
                for other in rows
                if other['backend'] in PEERS
                and key in other
                and (other['precision'] in WIDE) == wide
            ]
            if peers and key in row:
                row[f'{key}_ratio_to_peer'] = min(peers) / row[key]


def table(result: dict[str, Any]) -> str:
    """The rows as text."""
    head = ('backend', 'precision', 'step ms', 'network ms', 'x peer', 'TFLOP/s', 'MiB', 'error')
    lines = [' '.join(f'{name:>11}' for name in head)]
    for row in result['rows']:
        if 'failed' in row:
            lines.append(f'{row["backend"]:>11} {row["precision"]:>11} {row["failed"]}')
            continue
        ratio = row.get('seconds_ratio_to_peer')
        cells = [
            row['backend'],
            row['precision'],
            f'{1e3 * row["seconds"]:.1f}',
            f'{1e3 * row["network_seconds"]:.1f}',
            '-' if ratio is None else f'{ratio:.2f}',
            f'{row["useful_tflops"]:.1f}',
            f'{row["peak_mib"]:.0f}',
            f'{row["relative_error"]:.1e}',
        ]
        lines.append(' '.join(f'{cell:>11}' for cell in cells))
    lines += [f'left out: {name}: {reason}' for name, reason in result['left_out'].items()]
    return '\n'.join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m benchmark.gpu_training', description=__doc__)
    parser.add_argument('--network', default='minkunet34')
    parser.add_argument('--sweeps', type=int, default=16, help='of the batch')
    parser.add_argument('--case', default='32', choices=('32', '64'), help='beams of the lidar')
    parser.add_argument('--runs', type=int, default=10)
    parser.add_argument('--batch', type=Path, help='NPZ file that --write has written')
    parser.add_argument('--write', type=Path, help='only write the batch to this NPZ file')
    parser.add_argument('--json', type=Path, help='file to write')
    arguments = parser.parse_args()
    if arguments.write is None and not torch.cuda.is_available():
        print(NO_CUDA)
        sys.exit(NO_GPU_EXIT)
    found = arguments.batch and read_batch(arguments.batch)
    voxels = found or cast_batch(arguments.sweeps, arguments.case)
    if arguments.write is not None:
        with replacing(arguments.write) as partial:
            np.savez(partial, feats=voxels.feats, coords=voxels.coords, sizes=voxels.sizes)
        return
    result = measure(voxels, arguments.network, arguments.runs)
    print(table(result))
    if arguments.json is not None:
        write_json(arguments.json, result | provenance())


if __name__ == '__main__':
    run_command(main)
