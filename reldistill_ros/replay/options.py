# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The command line of the replay."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from reldistill_ros.backends.backend import BackendName, Precision
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.unknown_keys import closest, did_you_mean
from reldistill_ros.node.cameras.settings import camera_parameters
from reldistill_ros.node.parameters import NodeSettings
from reldistill_ros.replay.requirements import parse_requirement
from reldistill_ros.replay.schedule import Course

AUTO = 'auto'
EPILOG = """
exit code: 0, or 1 where a requirement is not met, or 2 where the input is wrong
"""


def parse_options(arguments: Sequence[str] | None, description: str) -> argparse.Namespace:
    """Read the command line; `course` and `requirements` are made of what it says.

    Raises:
        InputError: options that contradict one another, or a requirement that cannot be read.
    """
    options = _parser(description).parse_args(arguments)
    options.requirements = [parse_requirement(text) for text in options.require]
    if options.offline and (options.loop is not None or options.minutes is not None):
        raise InputError(
            'without the node there is nothing to play again and again',
            where='--loop, --minutes',
            fix='leave out --offline, or these',
        )
    if options.camera_parameter and options.cameras is None:
        raise InputError('there are no cameras', where='--camera-parameter', fix='add --cameras')
    if options.offline and options.cameras is not None:
        raise InputError(
            'what cameras add depends on when their images come, so that it takes the node',
            where='--cameras',
            fix='leave out --offline, or --cameras',
        )
    loops = options.loop or (None if options.minutes is not None else 1)
    options.course = Course(options.rate, loops, options.minutes)
    return options


def check_parameters(given: Sequence[str], cameras: Sequence[str]) -> None:
    """Refuse parameters that the node would ignore.

    Raises:
        InputError: not `NAME:=VALUE`, or the node has none of that name.
    """
    known = [*camera_parameters(cameras), *NodeSettings.model_fields]
    for text in given:
        name, assigned, _ = text.partition(':=')
        if not (assigned and name in known):
            raise InputError(
                f'this is no parameter of the node{did_you_mean(closest(name, known))}',
                where='--camera-parameter',
                expected=f'NAME:=VALUE, such as {known[0]}:=...',
                got=text,
            )


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m reldistill_ros.replay', description=description, epilog=EPILOG
    )
    _add_bag(parser)
    _add_course(parser)
    _add_model(parser)
    return parser


def _add_bag(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('bag', type=Path, help='folder of a ROS 2 bag, or an .mcap or .db3 file')
    add('--bundle', type=Path, required=True, help='folder of the model bundle')
    add('--out', type=Path, required=True, help='folder for replay.json, replay.html and the rest')
    add('--topic', help='topic of the clouds (default: the only one with x, y, z)')
    add('--label-topic', help="topic of the true labels (default: the only one of field 'label')")
    add(
        '--cameras',
        metavar='all|NAME,...',
        help='let the node look through the cameras of the bag: play images, CameraInfo and /tf '
        'beside the clouds; names of cameras or of image topics, or all that have a CameraInfo',
    )
    add(
        '--camera-parameter',
        metavar='NAME:=VALUE',
        action='append',
        default=[],
        help='of the node, such as fixed_frame:=odom or camera.front.window:=0.5; may be given '
        'several times',
    )
    add('--no-labels', action='store_true', help='do not compare with the labels of the bag')
    add('--max-sweeps', type=_positive, help='take only so many sweeps of the bag')
    add(
        '--require',
        metavar='KEY<=NUMBER',
        action='append',
        default=[],
        help="a number of replay.json and what it must be, such as 'latency_ms.p95<=50', "
        "'frames_dropped==0' or 'miou>=0.6'; may be given several times",
    )


def _add_course(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('--offline', action='store_true', help='label the sweeps without ROS and without a node')
    add(
        '--rate',
        type=_rate,
        default=1.0,
        help="speed relative to the bag's own times, or 'auto': send each sweep after the answer "
        'to the last one, so that none is dropped for want of speed (default: 1.0)',
    )
    add('--loop', type=_positive, metavar='N', help='play the bag N times, with stamps moved on')
    add(
        '--minutes',
        type=_positive_float,
        metavar='M',
        help='play the bag again and again for so long, or stop it then',
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        '--backend',
        default='fused',
        choices=(AUTO, *get_args(BackendName)),
        help='what runs the student; auto: the fastest that can be opened (default: fused)',
    )
    add(
        '--precision',
        default='float32',
        choices=get_args(Precision),
        help='of backend tensorrt or fused',
    )
    add('--num-threads', type=_positive, default=2, help='threads of the backend')
    add(
        '--intensity-max',
        type=float,
        default=0.0,
        help="largest raw intensity of the bag's lidar (default: as the bundle says)",
    )


def _rate(text: str) -> float | None:
    return None if text == AUTO else _positive_float(text)


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < 10_000:
        raise argparse.ArgumentTypeError(f'expected a number from 0 to 10000, got {text}')
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'expected a positive number, got {text}')
    return value
