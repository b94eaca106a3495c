# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Play a bag into the node and measure what it answers.

`python -m reldistill_ros.replay BAG --bundle BUNDLE --out DIR` writes DIR/replay.json and
DIR/replay.png: drops and latency of the node, a process of its own, over real DDS; its accuracy
against the bag's label topic; and the accuracy of the same sweeps labelled without ROS.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from reldistill_ros.backends.backend import BackendName, Precision
from reldistill_ros.bag import open_bag
from reldistill_ros.core.errors import run_command
from reldistill_ros.core.files import write_json
from reldistill_ros.labeller import Labeller
from reldistill_ros.node_process import (
    NODE_COMMAND,
    check_running,
    isolated_environment,
    require_ros,
    running_node,
)
from reldistill_ros.parameters import choose_intensity_max
from reldistill_ros.recording import Recording
from reldistill_ros.replay_bag import Sweeps, Truth, find_sweeps
from reldistill_ros.replay_report import draw, latencies_of, summarise
from reldistill_ros.replay_scores import score

AUTO = 'auto'
DIAGNOSTICS_PERIOD = 0.2  # seconds; the node's last counts are awaited


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, play, score, write."""
    options = _parser().parse_args(arguments)
    if not options.offline:
        require_ros()
    with open_bag(options.bag) as bag:
        sweeps = find_sweeps(bag, options.topic, options.label_topic, options.max_sweeps)
        if options.no_labels:
            sweeps = replace(sweeps, label_topic=None)
        labeller = Labeller.from_bundle(
            options.bundle, options.backend, options.num_threads, options.precision
        )
        intensity_max = choose_intensity_max(options.intensity_max, labeller.intensity_max)
        truth = None
        if sweeps.label_topic is not None:
            truth = Truth(bag, sweeps.label_topic, labeller.vocabulary)
        options.out.mkdir(parents=True, exist_ok=True)
        recording = None
        if not options.offline:
            recording = play(sweeps, node_arguments(options), options.rate, options.out)
        scores = score(
            sweeps,
            labeller,
            intensity_max,
            truth=truth,
            num_classes=len(labeller.vocabulary.classes),
            recording=recording,
        )
    summary = summarise(sweeps, scores, recording, labeller.vocabulary.class_names)
    summary |= {
        'pacing': 'none: offline' if options.offline else pacing(options.rate),
        'bag': str(options.bag),
        'bundle_revision': labeller.revision,
        'backend': options.backend,
        'precision': options.precision,
    }
    draw(options.out / 'replay.png', summary, latencies_of(sweeps, scores, recording))
    write_json(options.out / 'replay.json', summary)
    _print(summary)


def play(
    sweeps: Sweeps,
    arguments: Sequence[str],
    rate: float | None,
    folder: Path,
    command: Sequence[str] = NODE_COMMAND,
) -> Recording:
    """Play the sweeps into a node and record its answers.

    Args:
        sweeps: what to play.
        arguments: what the node is given after `--ros-args`.
        rate: times the bag's own speed; None sends each sweep after the answer to the last.
        folder: where `node.log` goes.
        command: what starts the node.

    Raises:
        InputError: no ROS, or the node does not start or does not end well.
    """
    require_ros()
    os.environ.update(isolated_environment())  # for the node and, before its first use, for us
    log_path = folder / 'node.log'
    remap = ['-r', f'~/input/pointcloud:={sweeps.topic}']
    with running_node(command, [*arguments, *remap], log_path) as process:
        from reldistill_ros.replay_player import Player

        with Player(sweeps, lambda: check_running(process, log_path)) as player:
            player.wait_until_ready()
            if rate is None:
                player.play_in_closed_loop()
            else:
                player.play_at(rate)
            player.wait_for_diagnostics(timeout=10 * DIAGNOSTICS_PERIOD)
            return player.recording


def node_arguments(options: argparse.Namespace) -> list[str]:
    """Parameters of the node for the options of the command line."""
    parameters = {
        'bundle': options.bundle.resolve(),
        'backend': options.backend,
        'precision': options.precision,
        'num_threads': options.num_threads,
        'intensity_max': float(options.intensity_max),
        'diagnostics_period': DIAGNOSTICS_PERIOD,
        'use_sim_time': 'true',
    }
    return [word for name, value in parameters.items() for word in ('-p', f'{name}:={value}')]


def pacing(rate: float | None) -> str:
    """How the sweeps were timed, in words."""
    if rate is None:
        return 'closed loop: each sweep is sent after the answer to the last one'
    return f'open loop: the times of the bag at {rate:g} times its speed'


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m reldistill_ros.replay', description=__doc__.split('\n')[0]
    )
    add = parser.add_argument
    add('bag', type=Path, help='folder of a ROS 2 bag, or an .mcap or .db3 file')
    add('--bundle', type=Path, required=True, help='folder of the model bundle')
    add('--out', type=Path, required=True, help='folder for replay.json, replay.png, node.log')
    add(
        '--rate',
        type=_rate,
        default=1.0,
        help="speed relative to the bag's own times, or 'auto': send each sweep after the answer "
        'to the last one, so that none is dropped for want of speed (default: 1.0)',
    )
    add('--topic', help='topic of the clouds (default: the only one with x, y, z)')
    add('--label-topic', help="topic of the true labels (default: the only one of field 'label')")
    add('--no-labels', action='store_true', help='do not compare with the labels of the bag')
    add('--max-sweeps', type=_positive, help='stop after so many sweeps')
    add('--offline', action='store_true', help='label the sweeps without ROS and without a node')
    add(
        '--backend',
        default='fused',
        choices=get_args(BackendName),
        help='what runs the student: fused (default), onnx or torch',
    )
    add('--precision', default='float32', choices=get_args(Precision), help='of backend fused')
    add('--num-threads', type=_positive, default=2, help='threads of the backend')
    add(
        '--intensity-max',
        type=float,
        default=0.0,
        help="largest raw intensity of the bag's lidar (default: as the bundle says)",
    )
    return parser


def _rate(text: str) -> float | None:
    if text == AUTO:
        return None
    value = float(text)
    if not 0 < value < 1000:
        raise argparse.ArgumentTypeError(f'expected auto or a number from 0 to 1000, got {text}')
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'expected a positive number, got {text}')
    return value


def _print(summary: dict[str, object]) -> None:
    names = ('frames_in', 'frames_labelled', 'frames_dropped', 'latency_ms', 'miou', 'accuracy')
    print('\n'.join(f'{name}: {summary[name]}' for name in names))


def command() -> None:
    """Console script."""
    run_command(main)


if __name__ == '__main__':
    command()
