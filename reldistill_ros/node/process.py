# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Running segment_node as a process of its own, apart from every other ROS system around."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reldistill_ros.core.errors import InputError
from reldistill_ros.node.ros_domain import own_domain
from reldistill_ros.share import share_file

NODE_COMMAND = (sys.executable, '-m', 'reldistill_ros.segment_node')
STOP_TIMEOUT = 10.0
INSTALL_ROS = (
    "pip install 'ros-rclpy[fastrtps]' ros-std-msgs ros-sensor-msgs ros-geometry-msgs "
    'ros-diagnostic-msgs (Linux on x86_64; elsewhere install ROS 2 itself), '
    'or label the bag without ROS: --offline'
)


def require_ros() -> None:
    """Refuse to go on without ROS.

    Raises:
        InputError: rclpy is not there; says how to get it.
    """
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        raise InputError('ROS 2 is not installed', got=error, fix=INSTALL_ROS) from error


def isolated_environment() -> dict[str, str]:
    """Variables for a ROS system that nobody else hears and that carries large clouds."""
    return {
        'ROS_DOMAIN_ID': str(own_domain()),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'FASTDDS_DEFAULT_PROFILES_FILE': str(share_file('config/fastdds_large_data.xml')),
    }


@contextmanager
def running_node(
    command: Sequence[str], arguments: Sequence[str], log_path: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a node, and stop it with SIGINT at the end.

    Args:
        command: what starts it, such as `NODE_COMMAND`.
        arguments: what follows `--ros-args`.
        log_path: file that takes its output.

    Raises:
        InputError: it does not end with exit code 0.
    """
    with open(log_path, 'wb') as log:
        process = subprocess.Popen(
            [*command, '--ros-args', *arguments], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        _stop(process)
    if process.returncode != 0:
        raise InputError(
            'the node did not end well', where=log_path, expected=0, got=process.returncode
        )


def check_running(process: subprocess.Popen[bytes], log_path: Path) -> None:
    """Tell why a node that should be running has ended.

    Raises:
        InputError: it has ended; shows the end of its output.
    """
    if process.poll() is not None:
        raise InputError(
            f'the node ended with exit code {process.returncode}',
            where=log_path,
            got=log_path.read_text(errors='replace')[-2000:].strip(),
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
