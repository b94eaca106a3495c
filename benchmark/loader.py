# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""How many sweeps a second the loader alone prepares: `python -m benchmark.loader RUN.yaml`.

Reads, decodes, pairs, augments and voxelises the training sweeps of a run and builds their kernel
maps, as `trainer.distill` does, without teacher, student and loss. A GPU that trains faster waits.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from reldistill_ros.core.errors import run_command
from reldistill_ros.core.files import write_json
from reldistill_ros.core.settings import load_settings
from trainer.batches import Batch, TrainingSweeps, load_batches
from trainer.datasets.open import open_dataset
from trainer.settings import RunSettings

BATCHES_BEFORE = 8  # not timed: processes start, kernels are loaded, the queue fills


def measure(settings: RunSettings, data_root: Path, num_batches: int) -> float:
    """Sweeps a second with `settings.workers` processes."""
    datasets = [open_dataset(entry, data_root) for entry in settings.train]
    sweeps = TrainingSweeps(datasets, settings)
    batches = _endless(sweeps, settings)
    for _ in islice(batches, BATCHES_BEFORE):
        pass
    started = time.perf_counter()
    prepared = sum(len(batch.sample_ids) for batch in islice(batches, num_batches))
    return prepared / (time.perf_counter() - started)


def _endless(sweeps: TrainingSweeps, settings: RunSettings) -> Iterator[Batch]:
    enough = settings.model_copy(update={'epochs': 1_000_000 // len(sweeps) + 1})
    yield from load_batches(sweeps, enough)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m benchmark.loader', description=__doc__)
    parser.add_argument('settings', type=Path, help='YAML file of a run')
    parser.add_argument('--data', type=Path, default=Path(), help='where its paths start from')
    parser.add_argument('--workers', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--batches', type=int, default=60)
    parser.add_argument('--json', type=Path, help='file to write')
    arguments = parser.parse_args()
    settings = load_settings(arguments.settings, RunSettings)
    torch.set_num_threads(1)
    rates = {}
    for workers in arguments.workers:
        changed = settings.model_copy(update={'workers': workers})
        rates[str(workers)] = round(measure(changed, arguments.data, arguments.batches), 2)
        print(f'{workers} workers: {rates[str(workers)]} sweeps/s', flush=True)
    result = {'settings': str(arguments.settings), 'sweeps_per_s_by_workers': rates}
    if arguments.json:
        write_json(arguments.json, result)
    print(json.dumps(result))


if __name__ == '__main__':
    run_command(main)
