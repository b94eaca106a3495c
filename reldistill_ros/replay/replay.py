# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Play a bag into the node and measure what it answers.

`python -m reldistill_ros.replay BAG --bundle BUNDLE --out DIR` plays the bag over real DDS into a
node that is a process of its own, and labels the same sweeps without ROS. DIR then holds
`replay.json` (drops by reason, latency and its stages, age, memory, accuracy against the bag's
label topic), `sweeps.jsonl` (the same of each sweep), `replay.html`, `replay.png` and `node.log`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from reldistill_ros.backends.backend import BackendName
from reldistill_ros.bags.bag import Bag, open_bag
from reldistill_ros.core.errors import InputError, import_extra, run_command
from reldistill_ros.core.files import write_json
from reldistill_ros.labeller import Labeller
from reldistill_ros.node.attempt import attempt
from reldistill_ros.node.parameters import choose_intensity_max
from reldistill_ros.node.process import (
    NODE_COMMAND,
    check_running,
    isolated_environment,
    require_ros,
    running_node,
)
from reldistill_ros.replay.bag import Sweeps, Truth, find_sweeps
from reldistill_ros.replay.beside import Beside, find_beside
from reldistill_ros.replay.cameras import PlayedCamera, camera_arguments, choose_cameras
from reldistill_ros.replay.extrinsics_file import write_extrinsics
from reldistill_ros.replay.options import AUTO, check_parameters, parse_options
from reldistill_ros.replay.outcome import Judge, Outcome
from reldistill_ros.replay.page import write_page
from reldistill_ros.replay.plot import draw
from reldistill_ros.replay.process_memory import MemoryWatch
from reldistill_ros.replay.recording import Recording
from reldistill_ros.replay.report import camera_line, closing_lines
from reldistill_ros.replay.requirements import Finding, check, table
from reldistill_ros.replay.schedule import Course, span_of
from reldistill_ros.replay.sweeps import write_lines
from reldistill_ros.replay.worst import PictureMaker

DIAGNOSTICS_PERIOD = 0.2  # seconds; the node's last counts are awaited


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, replay, print; exit code 1 where a requirement is not met."""
    options = parse_options(arguments, __doc__.split('\n')[0])
    if not options.offline:
        require_ros()
    with open_bag(options.bag) as bag:
        summary, findings = replay(options, bag)
    print(closing_lines(summary))
    if 'cameras' in summary:
        print(camera_line(summary))
    print(options.out / 'replay.html')
    if findings:
        print(f'\n{table(findings)}')
    if not all(finding.passed for finding in findings):
        sys.exit(1)


def replay(options: argparse.Namespace, bag: Bag) -> tuple[dict[str, Any], list[Finding]]:
    """Play, score, write; returns what was written to `replay.json`, and what was required."""
    for package in ('matplotlib', 'jinja2'):  # of the report: now, and not when all is played
        import_extra(package, 'replay')
    labeller, backend = open_labeller(options)
    judge = open_judge(options, bag, labeller)
    judge.check_keys(options.requirements, live=not options.offline)
    check_parameters(options.camera_parameter, [camera.name for camera in judge.cameras])
    options.out.mkdir(parents=True, exist_ok=True)
    if options.offline:
        outcome = judge.offline()
    else:
        recording = play(
            judge.sweeps,
            node_arguments(options, backend),
            options.course,
            options.out,
            cameras=judge.cameras,
        )
        outcome = judge.live(recording)
    findings = check(options.requirements, outcome.summary)
    summary = outcome.summary | {
        'pacing': 'none: offline' if options.offline else options.course.pacing,
        'bag': str(options.bag),
        'bundle_revision': labeller.revision,
        'backend': backend,
        'precision': options.precision,
        'requirements': [asdict(finding) for finding in findings],
    }
    write(options.out, judge, replace(outcome, summary=summary))
    return summary, findings


def open_labeller(options: argparse.Namespace) -> tuple[Labeller, str]:
    """The bundle in the engine that is asked for, or in the first that opens; and its name.

    Raises:
        InputError: no engine can be opened.
    """
    if options.backend != AUTO:
        return _open_in(options, options.backend), options.backend
    errors = []
    for name in get_args(BackendName):
        found = attempt(partial(_open_in, options, name))
        if found.value is not None:
            return found.value, name
        errors.append(f'{name}: {found.error}')
    raise InputError('no engine can be opened', where=options.bundle, got='; '.join(errors))


def _open_in(options: argparse.Namespace, backend: str) -> Labeller:
    return Labeller.from_bundle(options.bundle, backend, options.num_threads, options.precision)


def open_judge(options: argparse.Namespace, bag: Bag, labeller: Labeller) -> Judge:
    """What the labels of this bag are judged by.

    Raises:
        InputError: bag and bundle do not fit, or one of them cannot be read.
    """
    sweeps = find_sweeps(bag, options.topic, options.label_topic, options.max_sweeps)
    if options.no_labels:
        sweeps = replace(sweeps, label_topic=None)
    vocabulary = labeller.vocabulary
    return Judge(
        sweeps,
        labeller,
        choose_intensity_max(options.intensity_max, labeller.intensity_max),
        vocabulary,
        Truth(bag, sweeps.label_topic, vocabulary) if sweeps.label_topic else None,
        choose_cameras(bag, options.cameras) if options.cameras else (),
    )


def write(folder: Path, judge: Judge, outcome: Outcome) -> None:
    """Write all files; `replay.json` is the last, so that with it all are there."""
    write_lines(folder / 'sweeps.jsonl', outcome.results)
    draw(folder / 'replay.png', outcome.summary, outcome.results)
    write_page(
        folder / 'replay.html',
        outcome.summary,
        outcome.results,
        memory=outcome.memory,
        draw=PictureMaker(judge.sweeps, outcome.labels, judge.truth, judge.vocabulary),
    )
    write_json(folder / 'replay.json', outcome.summary)


def play(
    sweeps: Sweeps,
    arguments: Sequence[str],
    course: Course,
    folder: Path,
    *,
    cameras: Sequence[PlayedCamera] = (),
    command: Sequence[str] = NODE_COMMAND,
) -> Recording:
    """Play the sweeps into a node and record its answers.

    Args:
        sweeps: what to play.
        arguments: what the node is given after `--ros-args`.
        course: how fast, and how often.
        folder: where `node.log` goes.
        cameras: that the node is to look through.
        command: what starts the node.

    Raises:
        InputError: no ROS, or the node does not start or does not end well.
    """
    require_ros()
    os.environ.update(isolated_environment())  # for the node and, before its first use, for us
    log_path = folder / 'node.log'
    remap = ['-r', f'~/input/pointcloud:={sweeps.topic}']
    looking, beside = open_cameras(sweeps, cameras, folder) if cameras else ([], None)
    with running_node(command, [*arguments, *remap, *looking], log_path) as process:
        from reldistill_ros.replay.player import Player

        with Player(sweeps, lambda: check_running(process, log_path), beside) as player:
            player.wait_until_ready()
            with MemoryWatch(process.pid) as memory:
                player.play(course)
                player.wait_for_diagnostics()
            player.recording.memory = memory.samples
            return player.recording


def open_cameras(
    sweeps: Sweeps, cameras: Sequence[PlayedCamera], folder: Path
) -> tuple[list[str], Beside]:
    """What the node is told of its cameras, and what is played for them.

    Where ROS has no tf2_msgs, the frames that never move are in `extrinsics.yaml` instead.
    """
    has_tf = importlib.util.find_spec('tf2_msgs') is not None
    arguments = camera_arguments(cameras)
    if not has_tf:
        path = folder / 'extrinsics.yaml'
        moving, refused = write_extrinsics(sweeps.bag, path)
        arguments += ['-p', f'extrinsics_file:={path.resolve()}']
        if moving:
            print(f'tf2_msgs is not installed, so the node does not learn how {moving} move')
        for frame, reason in refused.items():
            print(f'transforms of {frame} are left out of {path.name}: {reason}')
    span = span_of(sweeps.stamps_ns)
    return arguments, find_beside(sweeps.bag, cameras, span, with_frames=has_tf)


def node_arguments(options: argparse.Namespace, backend: str) -> list[str]:
    """Parameters of the node for the options of the command line."""
    parameters = {
        'bundle': options.bundle.resolve(),
        'backend': backend,
        'precision': options.precision,
        'num_threads': options.num_threads,
        'intensity_max': float(options.intensity_max),
        'diagnostics_period': DIAGNOSTICS_PERIOD,
        'use_sim_time': 'true',
    }
    given = [f'{name}:={value}' for name, value in parameters.items()]
    return [word for each in (*given, *options.camera_parameter) for word in ('-p', each)]


def command() -> None:
    """Console script."""
    run_command(main)
