# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The slot between the executor and the inference thread, and giving up what hangs in it."""

from __future__ import annotations

import threading
import time

import pytest

from reldistill_ros.node.inference import Inference, StuckTwiceError
from reldistill_ros.node.latest_worker import LatestWorker


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
    assert worker.put(1) is None
    gate.started.acquire()
    assert [worker.put(item) for item in (2, 3, 4)] == [None, 2, 3]
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


def test_what_waits_can_be_taken_back():
    gate = Gate()
    worker = LatestWorker(gate, 'test')
    worker.put(1)
    gate.started.acquire()
    worker.put(2)
    assert (worker.working_on, worker.take_back(), worker.take_back()) == (1, 2, None)
    gate.open.release(2)
    assert worker.stop(5)
    assert gate.done == [1]


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_hanging_inference_is_given_up_and_what_waits_is_worked_on():
    gate, answers = Gate(), []

    def work(item, is_current):
        if item == 1:
            gate(item)
        answers.append((item, is_current()))

    inference = Inference(work)
    inference.put(1)
    gate.started.acquire()
    inference.put(2)
    assert inference.give_up_if_stuck(60) is None
    assert inference.give_up_if_stuck(0) == 1
    wait_for(lambda: answers == [(2, True)])
    gate.open.release()
    wait_for(lambda: answers == [(2, True), (1, False)])  # comes back when nobody waits for it
    assert inference.stop(5) == []
    wait_for(lambda: not inference.is_alive)


def test_when_two_inferences_hang_nothing_in_this_process_can_help():
    gate = Gate()
    inference = Inference(lambda item, is_current: gate(item))
    for item in (1, 2):
        inference.put(item)
        gate.started.acquire()
        if item == 1:
            assert inference.give_up_if_stuck(0) == 1
    with pytest.raises(StuckTwiceError):
        inference.give_up_if_stuck(0)
    assert inference.stop(0) == [2]
    gate.open.release(2)
    wait_for(lambda: not inference.is_alive)
