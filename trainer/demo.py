# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The whole path on the synthetic town: `python -m trainer.demo --out runs/demo`.

Town, bag, distillation, evaluation on a town never seen, bundle, replay through the real node,
report: each step is the command that a user would type, and is printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from reldistill_ros.core.bundle import MANIFEST
from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.files import write_json
from trainer.report import format_number, write_report

TRAIN_SWEEPS = 60
HELD_OUT_SWEEPS = 20
PARTS = ('town', 'run', 'bundle', 'replay')
MARKER = '.reldistill_demo'
RUN_FILE = Path('config/runs/town.yaml')


def make_room(out: Path) -> None:
    """Delete what an earlier demo wrote.

    Raises:
        InputError: the folder holds what no demo wrote.
    """
    marker = out / MARKER
    if out.exists() and not marker.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            'the folder is not empty and was not written by the demo',
            where=out,
            fix='remove it, or give another --out',
        )
    out.mkdir(parents=True, exist_ok=True)
    marker.touch()
    for part in PARTS:
        if (out / part).exists():
            shutil.rmtree(out / part)


def steps(out: Path, with_ros: bool) -> dict[str, list[str]]:
    """Name and command of every step, in order."""
    town, run, bundle = out / 'town', out / 'run', out / 'bundle'
    synthetic = ['trainer.datasets.synthetic', '--workers', '2']
    train = ['--seed', '1', '--layout', 'train', '--sweeps', str(TRAIN_SWEEPS)]
    held_out = ['--seed', '101', '--layout', 'heldout', '--sweeps', str(HELD_OUT_SWEEPS)]
    replay = ['reldistill_ros.replay', f'{town}/held_out/bag', '--bundle', f'{bundle}']
    return {
        'training town': [*synthetic, f'{town}/train', *train],
        'held-out town': [*synthetic, f'{town}/held_out', *held_out],
        'distil': ['trainer.distill', f'{RUN_FILE}', '--data', f'{town}', '--out', f'{run}'],
        'evaluate': ['trainer.evaluate', f'{run}'],
        'export': ['trainer.export', f'{run}', '--out', f'{bundle}'],
        'replay': [*replay, '--out', f'{out}/replay', *([] if with_ros else ['--offline'])],
    }


def run_steps(out: Path, with_ros: bool) -> dict[str, float]:
    """Run every step; returns its seconds.

    Raises:
        InputError: a step failed; its own message is above.
    """
    seconds = {}
    for name, command in steps(out, with_ros).items():
        print(f'\n== {name}: python -m {" ".join(command)}', flush=True)
        start = time.monotonic()
        result = subprocess.run([sys.executable, '-m', *command], check=False)
        if result.returncode:
            raise InputError(f'the step "{name}" failed', got=f'exit code {result.returncode}')
        seconds[name] = round(time.monotonic() - start, 1)
    return seconds


def collect_metrics(out: Path, seconds: dict[str, float]) -> dict[str, Any]:
    """Gather what the steps wrote into one file, `metrics.json`."""
    evaluation = json.loads((out / 'run/evaluation/metrics.json').read_text())
    manifest = json.loads((out / 'bundle' / MANIFEST).read_text())
    metrics = {
        **evaluation,
        'parity': manifest['parity'],
        'replay': json.loads((out / 'replay/replay.json').read_text()),
        'seconds': {**seconds, 'total': round(sum(seconds.values()), 1)},
    }
    write_json(out / 'metrics.json', metrics)
    return metrics


def print_summary(metrics: dict[str, Any], report: Path) -> None:
    """The result in a few lines."""
    zero_shot, teacher, replay = metrics['zero_shot'], metrics['teacher'], metrics['replay']
    p50, p95 = (format_number(replay['latency_ms'][key], '.0f') for key in ('p50', 'p95'))
    print(
        f"""
held-out town   zero-shot mIoU {format_number(zero_shot['miou'])} over {zero_shot['classes']} classes, \
accuracy {format_number(zero_shot['accuracy'])}
teacher         mIoU {format_number(teacher['miou_visible'])} on the points that a camera sees
bundle          its engine differs from torch by at most {metrics['parity']['fused']['max_diff']:.1e}
replay ({replay['mode']})   {replay['frames_labelled']} of {replay['frames_in']} sweeps labelled, \
mIoU {format_number(replay['miou'])}, latency p50 {p50} ms, p95 {p95} ms
time            {metrics['seconds']['total']:.0f} s
report          {report}"""
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m trainer.demo', description=__doc__)
    parser.add_argument('--out', type=Path, default=Path('runs/demo'), help='folder to write')
    parser.add_argument('--no-ros', action='store_true', help='label the bag without the node')
    arguments = parser.parse_args()
    out = arguments.out
    has_ros = importlib.util.find_spec('rclpy') is not None
    if not has_ros:
        print('rclpy is not installed: the bag will be labelled without the ROS 2 node')
    with_ros = has_ros and not arguments.no_ros
    make_room(out)
    metrics = collect_metrics(out, run_steps(out, with_ros))
    print_summary(metrics, write_report(out, metrics))


if __name__ == '__main__':
    run_command(main)
