# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the measurements of the node count, and how they end."""

from __future__ import annotations

import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')

from benchmark import node_run
from benchmark.node_restart import is_answered_since
from benchmark.node_words import Change, until_first_cloud, wrongly_paired
from reldistill_ros.replay.recording import Recording
from reldistill_ros.replay.schedule import Planned


def recording_of(stamps):
    recording = Recording()
    for number, stamp in enumerate(stamps):
        recording.send(Planned(number, number, 0, stamp))
    return recording


def answer(recording, stamp):
    recording.receive(stamp, np.zeros(3, np.uint8), np.ones(3, np.float32))


def test_a_late_answer_of_the_node_that_was_killed_is_none_of_the_new_one():
    recording = recording_of([10, 20])
    started = time.perf_counter()
    answer(recording, 10)
    assert not is_answered_since(recording, started)
    recording.send(Planned(2, 2, 0, 30))
    assert not is_answered_since(recording, started)
    answer(recording, 30)
    assert is_answered_since(recording, started)


def test_words_that_no_sweep_got_are_reported():
    recording = recording_of([10, 20])
    answer(recording, 20)
    change = Change('new', recording.sent[10].seconds, 0.0)
    assert until_first_cloud(change, {10: 'new', 20: 'old'}, recording) is None
    assert until_first_cloud(change, {10: 'old', 20: 'new'}, recording) > 0


def test_a_cloud_before_all_label_infos_is_wrongly_paired():
    info = {'since': {'sec': 0, 'nanosec': 15}, 'revision': 'new'}
    assert wrongly_paired([info], {10: 'new', 20: 'new', 30: 'old'}) == 2


class Drive:
    """In place of the `Player`: plays until it is told that nobody needs it."""

    def __init__(self, sweeps, check):
        self.check, self.ends = check, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ends.append([thread.name for thread in threading.enumerate()])

    def wait_until_ready(self):
        pass

    def play(self, course):
        for _ in range(1000):
            self.check()
            time.sleep(0.01)


def test_an_exception_ends_the_drive_before_its_ros_context(monkeypatch, tmp_path):
    monkeypatch.setattr(node_run, 'Player', Drive)
    monkeypatch.setattr(node_run, 'NODE_COMMAND', [sys.executable, '-c', 'input()'])
    node = node_run.DrivenNode(SimpleNamespace(topic='/points'), tmp_path, tmp_path)
    with pytest.raises(TimeoutError), node.driving(1.0) as drive:
        raise TimeoutError
    (threads,) = drive.ends
    assert 'play' not in threads
