# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The node over a long drive: memory, age, words, restarts, malformed input.

`python -m benchmark.node BAG --bundle BUNDLE --json node.json` plays the bag again and again at
its own rate for half an hour, changes the words 50 times while clouds flow, kills the node and
starts it again, and throws 100,000 random inputs at its boundary. `--only soak` measures one part;
the others keep their figures in the file. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmark.node_restart import measure_restart
from benchmark.node_words import measure_words
from reldistill_ros.bags.bag import open_bag
from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.files import write_json
from reldistill_ros.node.process import require_ros
from reldistill_ros.replay.bag import find_sweeps

PARTS = ('soak', 'prompts', 'restart', 'fuzz')


def main() -> None:
    """Measure the chosen parts, print them, and put them into the file."""
    options = _parser().parse_args()
    require_ros()
    known = json.loads(options.json.read_text()) if options.json.is_file() else {}
    for part in options.only:
        known |= measure(part, options)
        print(json.dumps({part: known[part]}, indent=2))
        write_json(options.json, known)


def measure(part: str, options: argparse.Namespace) -> dict[str, Any]:
    """The entries of the result that a part fills."""
    if part == 'soak':
        return soak(options)
    if part == 'fuzz':
        return {'fuzz': fuzz(options.cases)}
    with open_bag(options.bag) as bag, tempfile.TemporaryDirectory() as folder:
        sweeps = find_sweeps(bag, None, None, None)
        if part == 'restart':
            seconds = measure_restart(sweeps, options.bundle, Path(folder))
            return {'restart': seconds, 'restart_s': seconds['first_labels_s']}
        return {'prompts': measure_words(sweeps, options.bundle, Path(folder), options.changes)}


def soak(options: argparse.Namespace) -> dict[str, Any]:
    """Replay for minutes at the bag's own rate; the labels are compared with those offline."""
    with tempfile.TemporaryDirectory() as folder:
        run(
            'reldistill_ros.replay',
            *(options.bag, '--bundle', options.bundle, '--out', folder),
            *('--minutes', options.minutes, '--no-labels'),
        )
        found = json.loads((Path(folder) / 'replay.json').read_text())
    age = found['age_sweeps']
    return {
        'soak': {
            'minutes': found['minutes'],
            'bundle_revision': found['bundle_revision'],
            'backend': f'{found["backend"]} {found["precision"]}',
            'input_rate_hz': found['input_rate_hz'],
            'sweeps': found['frames_in'],
            'labelled': found['frames_labelled'],
            'drops': {name: number for name, number in found['drops'].items() if number},
            'unaccounted_sweeps': found['unaccounted_sweeps'],
            'labels_equal_offline': found['offline']['labels_equal'],
            'rss_start_mb': found['memory']['start_mb'],
            'rss_max_mb': found['memory']['max_mb'],
            'rss_growth_mb': found['memory']['growth_mb'],
            'max_age_sweeps': age['max'],
            'p99_age_sweeps': age['p99'],
        },
        'latency_ms': found['latency_ms'],
    }


def fuzz(cases: int) -> dict[str, Any]:
    """Numbers of cases, of refusals and of deaths."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'fuzz.json'
        run('benchmark.fuzz', '--cases', cases, '--out', path)
        found = json.loads(path.read_text())
    return {name: found[name] for name in ('cases', 'refused', 'deaths')}


def run(module: str, *arguments: object) -> None:
    """Run one of the project's commands.

    Raises:
        InputError: it failed; what it said is on the terminal.
    """
    command = [sys.executable, '-m', module, *map(str, arguments)]
    code = subprocess.run(command).returncode
    if code:
        raise InputError('a part of the benchmark failed', where=module, expected=0, got=code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m benchmark.node', description=__doc__.split('\n')[0]
    )
    parser.add_argument('bag', type=Path, help='folder of a ROS 2 bag, or an .mcap or .db3 file')
    parser.add_argument(
        '--bundle', type=Path, required=True, help='with a text encoder, to change the words'
    )
    parser.add_argument('--json', type=Path, required=True, help='file for the figures')
    parser.add_argument('--only', nargs='+', choices=PARTS, default=PARTS, help='default: all')
    parser.add_argument('--minutes', type=float, default=30.5, help='of the soak (default: 30.5)')
    parser.add_argument('--changes', type=int, default=50, help='of the words (default: 50)')
    parser.add_argument('--cases', type=int, default=100_000, help='of the fuzz (default: 100000)')
    return parser


if __name__ == '__main__':
    run_command(main)
