# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The node's process: its start, its executor, and its end within the time that a signal leaves."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from reldistill_ros.core.errors import InputError
from reldistill_ros.node.inference import StuckTwiceError

STOP_TIMEOUT = 1.0  # seconds that running work may take to end at shutdown
HOPELESS = 70  # exit code of a process that only a new one can replace, for launch to respawn


class Runnable(Protocol):
    """What a process asks of its node."""

    settings: Any

    def autostart(self) -> None: ...

    def stop(self, timeout: float) -> bool: ...

    def destroy_node(self) -> None: ...


def run_node(make_node: Callable[[], Runnable]) -> None:
    """Run a node until a signal comes.

    Raises:
        InputError: the command line, a parameter or the model is wrong.
    """
    with told_to_the_user('ROS does not accept the command line'):
        rclpy.init()
    code, node = 0, None
    try:
        with ended_by_signal():
            node = make_node()
            if node.settings.autostart or node.settings.build_only:
                node.autostart()
            if not node.settings.build_only:
                spin(node)
    except KeyboardInterrupt:  # before the start, or a second one: ros2 launch passes Ctrl-C on
        pass
    except StuckTwiceError as error:
        print(f'error: {error}', file=sys.stderr)
        code = HOPELESS
    finally:
        ended = _stop(node)
        rclpy.try_shutdown()
    if code or not ended:
        # interpreter shutdown under a running native thread aborts; the robot must not wait
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def spin(node: Any) -> None:
    """Answer ROS until it ends, if it has not already."""
    if not rclpy.ok():
        return
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.spin()


@contextmanager
def ended_by_signal() -> Iterator[None]:
    """Leave quietly when a signal has ended ROS, whatever was being done."""
    try:
        yield
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (RuntimeError, InputError) as error:
        # RCLError, or what was made of it: the signal may come in the middle of anything
        if rclpy.ok() or isinstance(error, StuckTwiceError):
            raise


@contextmanager
def told_to_the_user(what: str, fix: str | None = None) -> Iterator[None]:
    """Make a user's mistake of what rclpy raises where it reads names, files and parameters."""
    try:
        yield
    except InputError:
        raise
    except (RuntimeError, ValueError, ParameterException) as error:
        # RCLError and its like have no public name, but are RuntimeErrors
        where = ' '.join(sys.argv[1:]) or None
        raise InputError(what, where=where, got=error, fix=fix) from error


def _stop(node: Runnable | None) -> bool:
    """End the node's threads; returns whether they ended in time."""
    if node is None:
        return True
    try:
        ended = node.stop(STOP_TIMEOUT)
    except KeyboardInterrupt:
        return False
    if ended:
        node.destroy_node()
    return ended
