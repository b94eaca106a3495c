# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Our sparse engines and their peers on the same sweeps with the same weights.

`python -m benchmark.sparse --json OUT.json` prints a table and writes OUT.json and OUT.png.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmark.lidar_sweep import CASES, POINT_CLOUD_RANGE, cast_sweep
from benchmark.numpy_maps import compare_maps
from benchmark.sparse_engines import ENGINE_NAMES, ENGINES, TASKS, Engine, Task, obstacle
from benchmark.sparse_reference import write_expected, write_student
from benchmark.sparse_report import markdown_report, ratios_to_peers, save_plot
from benchmark.sparse_worker import ROOT, WARM_UP, Worker
from benchmark.sparse_workload import Workload, count_flops, mean_neighbours, write_sweep
from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.files import replacing, write_json
from reldistill_ros.core.settings import VoxelSettings
from trainer.provenance import git_commit

NETWORKS = ('minkunet18', 'minkunet34')
NUM_RUNS = 7
PAUSE = 0.1  # seconds in which the threads of the engine before fall asleep

Row = dict[str, Any]


def measure(workload: Workload, task: Task, engines: Sequence[Engine], num_runs: int) -> list[Row]:
    """Rows of all engines and modes of a task on one workload; the engines take turns."""
    with ExitStack() as stack:
        workers = [
            stack.enter_context(closing(Worker(engine, task, workload)))
            for engine in engines
            if task in engine.tasks
        ]
        jobs = [(worker, mode) for worker in workers for mode in worker.modes]
        turns: list[list[Row]] = [[] for _ in jobs]
        title = f'{workload.network}, {workload.case}, {task}'
        for _ in tqdm(range(num_runs), desc=title, unit='round', leave=False):
            for (worker, mode), results in zip(jobs, turns):
                time.sleep(PAUSE)
                results.append(worker.run(mode))
    flops = count_flops(workload.network, workload.maps)
    return [
        {
            'case': workload.case,
            'network': workload.network,
            'engine': worker.engine.name,
            'mode': mode,
            'dtype': worker.engine.dtype,
            **_statistics(results, flops.get(mode)),
            'peak_mb': worker.peak_mb[mode],
            'note': worker.engine.note,
        }
        for (worker, mode), results in zip(jobs, turns)
    ]


def _statistics(turns: Sequence[Row], flops: float | None) -> Row:
    seconds = [turn['seconds'] for turn in turns]
    errors = [turn['relative_error'] for turn in turns if turn['relative_error'] is not None]
    low, high = np.percentile(seconds, [25, 75])
    return {
        'median_s': median(seconds),
        'iqr_s': float(high - low),
        'gflops': flops / median(seconds) / 1e9 if flops else None,
        'relative_error': max(errors, default=None),
    }


def write_inputs(folder: Path, cases: Sequence[str], networks: Sequence[str]) -> list[Workload]:
    """Cast the sweeps, make the students, compute what is right."""
    network, case = WARM_UP
    points = np.random.default_rng(0).uniform(-4, 4, (2000, 4)).astype(np.float32)
    voxel = VoxelSettings(voxel_size=0.5, point_cloud_range=POINT_CLOUD_RANGE)
    write_sweep(folder, case, points, voxel)
    for name in tqdm((network, *networks), desc='students', leave=False):
        write_student(folder, name)
    for name in tqdm(cases, desc='sweeps', leave=False):
        write_sweep(folder, name, cast_sweep(CASES[name]), CASES[name].voxel)
    workloads = [Workload(folder, case, network) for network in networks for case in cases]
    # in a process of its own, which gives its memory back
    with ProcessPoolExecutor(1, get_context('spawn')) as pool:
        done = pool.map(write_expected, workloads)
        list(tqdm(done, desc='reference in float64', total=len(workloads), leave=False))
    return workloads


def machine_peaks() -> dict[str, float]:
    """Measured in a process of its own; see `machine_peak`."""
    command = [sys.executable, '-m', 'benchmark.machine_peak']
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    peaks: dict[str, float] = json.loads(result.stdout)
    return peaks


def describe_sweep(workload: Workload) -> dict[str, Any]:
    """Size of the sweep of a workload."""
    return {
        'points': len(workload.points),
        'voxels': [level.num_voxels for level in workload.maps],
        'mean_neighbours': mean_neighbours(workload.maps),
    }


def device() -> str:
    """Name of the processor."""
    lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    names = [line.split(':')[1].strip() for line in lines if line.startswith('model name')]
    return f'{names[0] if names else platform.machine()}, {len(names)} threads'


def run(cases: Sequence[str], networks: Sequence[str], engines: Sequence[Engine], num_runs: int
) -> dict[str, Any]:  # fmt: skip
    """The whole comparison, as it stands in the JSON file."""
    with tempfile.TemporaryDirectory() as folder:
        workloads = write_inputs(Path(folder), cases, networks)
        peaks = machine_peaks()
        rows = [
            row
            for workload in workloads
            for task in TASKS  # one after the other: all engines at once need much memory
            for row in measure(workload, task, engines, num_runs)
        ]
        return {
            'rows': rows,
            **peaks,
            'ratios': ratios_to_peers(rows),
            'numpy_maps': compare_maps(workloads[0].points, workloads[0].voxel),
            'sweeps': {workload.case: describe_sweep(workload) for workload in workloads},
            'runs': num_runs,
            'device': device(),
            'date': date.today().isoformat(),
            'commit': git_commit(),
        }


def runnable(names: Sequence[str] | None) -> list[Engine]:
    """The engines by name, or all that this machine can run; says which are left out.

    Raises:
        InputError: one that was asked for cannot run.
    """
    engines = []
    for engine in ENGINES:
        if names is not None and engine.name not in names:
            continue
        reason = obstacle(engine)
        if reason is None:
            engines.append(engine)
        elif names is None:
            print(f'left out: {engine.name}, {reason}', file=sys.stderr)
        else:
            raise InputError(f'the engine {engine.name} cannot run', got=reason)
    return engines


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m benchmark.sparse', description=__doc__)
    parser.add_argument('--json', type=Path, required=True, metavar='OUT', help='file to write')
    parser.add_argument('--networks', nargs='+', choices=NETWORKS, default=NETWORKS)
    parser.add_argument('--cases', nargs='+', choices=CASES, default=tuple(CASES))
    parser.add_argument('--engines', nargs='+', choices=ENGINE_NAMES)
    parser.add_argument('--runs', type=int, default=NUM_RUNS, help='turns of every engine')
    arguments = parser.parse_args()
    engines = runnable(arguments.engines)
    results = run(arguments.cases, arguments.networks, engines, arguments.runs)
    write_json(arguments.json, results)
    with replacing(arguments.json.with_suffix('.png')) as partial:
        save_plot(results, partial)
    print(markdown_report(results))


if __name__ == '__main__':
    run_command(main)
