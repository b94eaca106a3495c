# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A node under a drive that does not end, for the measurements that disturb it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reldistill_ros.node.process import NODE_COMMAND, isolated_environment
from reldistill_ros.replay.bag import Sweeps
from reldistill_ros.replay.player import Player
from reldistill_ros.replay.replay import DIAGNOSTICS_PERIOD
from reldistill_ros.replay.schedule import Course

NUM_THREADS = 2


class BrokenOffError(Exception):
    """Nobody needs the rest of the drive."""


class DrivenNode:
    """A node as a process of its own, and what plays the drive into it.

    Attributes:
        process: the node; may be replaced by a new one.
        player: sends the clouds, and records.
    """

    def __init__(self, sweeps: Sweeps, bundle: Path, folder: Path) -> None:
        self._sweeps, self._log = sweeps, folder / 'node.log'
        self._command = [*NODE_COMMAND, '--ros-args', '-p', f'bundle:={bundle.resolve()}']
        self._command += ['-p', f'num_threads:={NUM_THREADS}', '-p', 'use_sim_time:=true']
        self._command += ['-p', f'diagnostics_period:={DIAGNOSTICS_PERIOD}']
        self._command += ['-r', f'~/input/pointcloud:={sweeps.topic}']
        # texts of earlier runs are not to be found in the cache
        self._environment = {'XDG_CACHE_HOME': str(folder / 'cache')}
        self._is_broken_off = threading.Event()

    def start(self) -> None:
        """Start the node, or start it again."""
        with open(self._log, 'ab') as log:
            self.process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._environment},
            )

    def wait_for_counts(self, player: Player) -> None:
        """Wait until the drive has ended, and until the node has told of all its sweeps."""
        self._thread.join()
        player.wait_for_diagnostics()

    @contextmanager
    def driving(self, minutes: float) -> Iterator[Player]:
        """Start the node, and play into it from when it is ready; at the end, wait for the rest.

        An exception inside breaks the drive off.
        """
        os.environ.update(isolated_environment())
        self.start()
        try:
            with Player(self._sweeps, self._check) as player:
                player.wait_until_ready()
                course = Course(loops=None, minutes=minutes)
                self._thread = threading.Thread(
                    target=self._play, args=(player, course), name='play'
                )
                self._thread.start()
                with self._joined_at_the_end():
                    yield player
        finally:
            self.process.terminate()
            self.process.wait()

    @contextmanager
    def _joined_at_the_end(self) -> Iterator[None]:
        """The thread that plays ends before the ROS context that it plays in."""
        try:
            yield
        except BaseException:
            self._is_broken_off.set()
            raise
        finally:
            self._thread.join()

    def _play(self, player: Player, course: Course) -> None:
        with suppress(BrokenOffError):
            player.play(course)

    def _check(self) -> None:
        if self._is_broken_off.is_set():
            raise BrokenOffError
