# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Every sweep that was sent is labelled, or dropped for a reason, or told to be unaccounted for."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reldistill_ros.replay.account import account_for
from reldistill_ros.replay.label_store import LabelStore
from reldistill_ros.replay.process_memory import MemorySample, MemoryWatch, growth_mb, resident_mb
from reldistill_ros.replay.recording import Recording, mean_probability
from reldistill_ros.replay.schedule import Planned, plan_sweeps, with_stamp

COUNTS = st.integers(0, 1000)


@given(answered=COUNTS, lost_back=COUNTS, lost=COUNTS, busy=COUNTS, failed=COUNTS, working=COUNTS)
def test_what_is_sent_is_the_sum_of_all_fates(answered, lost_back, lost, busy, failed, working):
    labelled = answered + lost_back
    received = labelled + busy + failed + working
    counters = {
        'received': received,
        'labelled': labelled,
        'dropped': busy,
        'dropped_busy': busy,
        'failed': failed,
        'failed: RuntimeError': failed,
        'rejected': 0,
        'input_rate_hz': '10.00',
    }
    texts = {name: str(value) for name, value in counters.items()}
    account = account_for(received + lost, answered, texts)
    assert account.unaccounted == working
    assert account.drops['busy'] == busy
    assert account.drops['failed'] == failed
    assert account.drops['lost_to_node'] == lost
    assert account.drops['lost_from_node'] == lost_back
    assert sum(account.drops.values()) + account.unaccounted + answered == received + lost


def test_without_the_nodes_counters_what_is_missing_is_unaccounted_for():
    account = account_for(10, 7, {})
    assert (account.drops, account.unaccounted) == ({}, 3)
    assert account.reason_of(None) == 'unknown'


@pytest.mark.parametrize(
    ('fate', 'reason'),
    [
        ('dropped: busy', 'busy'),
        ('rejected: the cloud has too many points', 'rejected'),
        ('failed: RuntimeError', 'failed'),
        ('labelled', 'lost_from_node'),
        (None, 'lost_to_node'),
    ],
)
def test_the_node_says_why_a_sweep_has_no_labels(fate, reason):
    counters = {'received': '8', 'labelled': '8', 'dropped_busy': '0'}
    assert account_for(10, 8, counters).reason_of(fate) == reason


@given(st.lists(st.integers(1, 10**10), min_size=1, max_size=20), st.integers(1, 4))
def test_the_stamps_of_a_bag_that_is_played_again_only_grow(steps, loops):
    stamps = np.cumsum(steps).tolist()
    plan = list(plan_sweeps(stamps, loops))
    assert [sweep.stamp_ns for sweep in plan[: len(stamps)]] == stamps
    assert [sweep.source for sweep in plan] == [*range(len(stamps))] * loops
    assert all(after.stamp_ns > before.stamp_ns for before, after in pairwise(plan))
    assert [sweep.number for sweep in plan] == [*range(len(plan))]


@pytest.mark.parametrize('order', ['<', '>'])
def test_a_message_gets_another_stamp_and_keeps_all_else(order):
    def message(sec, nanosec):
        header = bytes([0, order == '<', 0, 0])
        return header + struct.pack(f'{order}iI', sec, nanosec) + b'the rest'

    assert with_stamp(message(1, 2), 7 * 10**9 + 5) == message(7, 5)


def test_equal_labels_take_the_room_of_one():
    store = LabelStore()
    one, other = np.arange(9, dtype=np.uint8), np.arange(3, dtype=np.uint8)
    assert [store.keep(one), store.keep(other), store.keep(one.copy())] == [0, 1, 0]
    np.testing.assert_array_equal(store[0], one)
    np.testing.assert_array_equal(store[1], other)
    assert store.keep(np.zeros(0, np.uint8)) == 2
    assert len(store[2]) == 0


def test_an_answer_is_as_old_as_the_number_of_sweeps_sent_since():
    recording = Recording()
    for number in range(4):
        recording.send(Planned(number, number, 0, 100 + number))
    labels, probabilities = np.zeros(2, np.uint8), np.full(2, 0.5, np.float32)
    recording.receive(101, labels, probabilities)
    recording.receive(101, labels + 1, probabilities)  # twice
    recording.receive(999, labels, probabilities)  # not ours
    assert {stamp: answer.age for stamp, answer in recording.answers.items()} == {101: 2}
    assert recording.answers[101].mean_probability == 0.5


def test_the_mean_probability_leaves_unlabelled_points_out():
    probabilities = np.array([0.5, 1.0, 0.0], np.float32)
    assert mean_probability(np.array([0, 1, 255], np.uint8), probabilities) == 0.75
    assert mean_probability(np.full(3, 255, np.uint8), probabilities) is None


GROW = """
import sys
sys.stdin.readline()
block = bytearray(b'x') * (64 << 20)
sys.stdin.readline()
"""


def test_the_memory_of_a_process_is_watched():
    if resident_mb(os.getpid()) is None:
        pytest.skip('this machine has no /proc')
    process = subprocess.Popen([sys.executable, '-c', GROW], stdin=subprocess.PIPE)
    with process, MemoryWatch(process.pid, period=0.01) as watch:
        before = resident_mb(process.pid)
        process.stdin.write(b'\n')
        process.stdin.flush()
        deadline = time.monotonic() + 30
        largest = 0.0
        while largest < before + 50 and time.monotonic() < deadline:
            time.sleep(0.01)
            largest = max((sample.mb for sample in watch.samples), default=0.0)
        process.stdin.close()
    assert largest >= before + 50
    assert resident_mb(2**22 + 1) is None  # above the largest number of a process


def test_growth_is_told_after_the_warm_up_and_only_of_many_samples():
    samples = [MemorySample(second, 100 + 40 * (second > 2) + second) for second in range(100)]
    assert growth_mb(samples) == 80
    assert growth_mb(samples[:19]) is None
