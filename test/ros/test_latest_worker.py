# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The slot between the executor and the inference thread, and what the node makes of its counts."""

from __future__ import annotations

import threading

import pytest

from reldistill_ros.diagnostics import InputState, Statistics
from reldistill_ros.latest_worker import LatestWorker


class Gate:
    """Work that waits until it is let through."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.started = threading.Semaphore(0)
        self.open = threading.Semaphore(0)

    def __call__(self, item: int) -> None:
        self.started.release()
        self.open.acquire()
        self.done.append(item)


def test_only_the_newest_waiting_item_is_worked_on():
    gate = Gate()
    worker = LatestWorker(gate, 'test')
    assert not worker.put(1)
    gate.started.acquire()
    assert [worker.put(item) for item in (2, 3, 4)] == [False, True, True]
    gate.open.release(2)
    gate.started.acquire()
    assert worker.stop(5)
    assert gate.done == [1, 4]


def test_a_stopped_worker_forgets_what_waits():
    gate = Gate()
    worker = LatestWorker(gate, 'test')
    worker.put(1)
    gate.started.acquire()
    worker.put(2)
    assert not worker.stop(0.05)
    gate.open.release(2)
    assert worker.stop(5)
    assert gate.done == [1]


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


STATE = InputState(topic='/points', publishers=1, incompatible='', timeout=3.0)
LONELY = InputState(topic='/points', publishers=0, incompatible='', timeout=3.0)
UNFIT = InputState(topic='/points', publishers=1, incompatible='best effort', timeout=3.0)


@pytest.mark.parametrize(
    ('events', 'state', 'level', 'words'),
    [
        (['labelled'], STATE, 0, 'labelling'),
        ([], STATE, 0, 'idle'),
        (['dropped_busy'], STATE, 1, 'dropped'),
        (['rejected', 'labelled'], STATE, 1, 'rejected'),
        (['failed', 'rejected'], STATE, 2, 'failed'),
        (['silence'], STATE, 1, '512 KiB'),
        (['silence'], LONELY, 1, 'no publisher on /points'),
        (['labelled'], UNFIT, 2, 'best effort'),
    ],
)
def test_the_worst_that_happened_is_reported(events, state, level, words):
    clock = Time()
    statistics = Statistics(clock)
    statistics.received()
    arguments = {'labelled': [0.1], 'rejected': ['reason']}
    for event in events:
        if event == 'silence':
            clock.now += 4
        else:
            getattr(statistics, event)(*arguments.get(event, []))
    got_level, message = statistics.judge(state)
    assert got_level == level
    assert words in message


def test_a_problem_is_reported_once_and_counted_for_ever():
    statistics = Statistics(Time())
    statistics.received()
    statistics.rejected('no field')
    assert statistics.judge(STATE)[0] == 1
    assert statistics.judge(STATE)[0] == 0
    assert statistics.values()['rejected: no field'] == '1'


def test_rate_and_processing_time_are_those_of_the_last_sweeps():
    clock = Time()
    statistics = Statistics(clock)
    for index in range(21):
        clock.now = index * 0.1
        statistics.received()
        statistics.labelled(0.02 if index else 0.5)
    values = statistics.values()
    assert values['input_rate_hz'] == '10.00'
    assert values['processing_time_p50_ms'] == '20.0'
    assert values['processing_time_max_ms'] == '500.0'
    clock.now += 100
    assert float(statistics.values()['input_rate_hz']) < 0.3
