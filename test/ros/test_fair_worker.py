# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""One thread for several cameras, and the encoder that it keeps at work."""

from __future__ import annotations

import os
import sys
import threading
import time
from itertools import pairwise

import pytest

from reldistill_ros.node.encoder_keeper import FIRST_DELAY, EncoderKeeper
from reldistill_ros.node.fair_worker import NICENESS, FairWorker


class Jobs:
    """Jobs that tell when they run; all wait for the gate."""

    def __init__(self):
        self.gate = threading.Event()
        self.done = []
        self.threads = []
        self.worker = FairWorker('test')

    def put(self, source, item, gate=None):
        def job(is_current):
            self.threads.append(threading.get_native_id())
            (gate or self.gate).wait(10)
            self.done.append((source, item, is_current()))

        return self.worker.put(source, job)

    def wait(self, num):
        deadline = time.monotonic() + 10
        while len(self.done) < num:
            assert time.monotonic() < deadline, self.done
            time.sleep(0.005)

    def wait_for_start(self, num):
        deadline = time.monotonic() + 10
        while len(self.threads) < num:
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.fixture
def jobs():
    jobs = Jobs()
    yield jobs
    jobs.gate.set()
    assert jobs.worker.stop(10)


def test_of_each_source_the_newest_is_done_and_all_in_turn(jobs):
    assert not jobs.put('a', 0)
    jobs.wait_for_start(1)
    assert not jobs.put('a', 1)
    assert not jobs.put('b', 1)
    assert jobs.put('a', 2)  # pushes out a 1
    assert not jobs.put('c', 1)
    assert jobs.put('b', 2)
    jobs.gate.set()
    jobs.wait(4)
    assert [item[:2] for item in jobs.done] == [('a', 0), ('a', 2), ('b', 2), ('c', 1)]


def test_a_camera_that_floods_does_not_starve_the_others(jobs):
    jobs.gate.set()
    stop = threading.Event()

    def flood():
        while not stop.is_set():
            jobs.put('fast', 0)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        for number in range(20):
            jobs.put('slow', number)
            deadline = time.monotonic() + 10
            while ('slow', number, True) not in jobs.done:
                assert time.monotonic() < deadline
                time.sleep(0.001)
    finally:
        stop.set()
        thread.join()


def test_a_job_that_hangs_is_left_behind_and_told_so_but_never_a_third_thread(jobs):
    hang, second = threading.Event(), threading.Event()
    jobs.put('a', 'hangs', hang)
    jobs.wait_for_start(1)
    assert jobs.worker.give_up_if_stuck(60) is None
    assert jobs.worker.give_up_if_stuck(0) == 'a'
    jobs.put('b', 'hangs too', second)
    jobs.wait_for_start(2)
    assert jobs.worker.give_up_if_stuck(0) is None
    jobs.put('c', 'waits')
    hang.set()
    jobs.wait(1)
    deadline = time.monotonic() + 10
    while jobs.worker.give_up_if_stuck(0) is None:  # the first one has come back
        assert time.monotonic() < deadline
        time.sleep(0.005)
    jobs.gate.set()
    jobs.wait(2)
    second.set()
    jobs.wait(3)
    assert dict((source, current) for source, _, current in jobs.done) == {
        'a': False,
        'b': False,
        'c': True,
    }


@pytest.mark.skipif(sys.platform != 'linux', reason='a thread has a niceness on Linux only')
def test_its_thread_lets_others_go_first(jobs):
    jobs.put('a', 0)
    jobs.wait_for_start(1)
    assert os.getpriority(os.PRIO_PROCESS, jobs.threads[0]) >= NICENESS
    assert os.getpriority(os.PRIO_PROCESS, 0) == os.getpriority(os.PRIO_PROCESS, os.getpid())


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Eye:
    error = None

    def encode(self, image):
        if self.error is not None:
            raise self.error
        return image


def test_an_encoder_is_opened_anew_later_and_later_while_that_fails():
    clock, opened = Clock(), []

    def open_encoder():
        opened.append(clock.now)
        raise RuntimeError('no memory')

    keeper = EncoderKeeper(open_encoder, 2, clock)
    assert (keeper.is_open, keeper.is_absent) == (False, False)
    assert 'no memory' in keeper.problem
    for _ in range(70):
        clock.now += 0.5
        assert keeper.encode('image') is None
    gaps = [later - before for before, later in pairwise(opened)]
    assert gaps == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY, 8 * FIRST_DELAY]


def test_failures_in_a_row_and_no_others_break_the_encoder():
    clock = Clock()
    eyes = []

    def open_encoder():
        eyes.append(Eye())
        return eyes[-1]

    keeper = EncoderKeeper(open_encoder, 2, clock)
    for _ in range(3):
        eyes[0].error = RuntimeError('once')
        with pytest.raises(RuntimeError):
            keeper.encode('image')
        eyes[0].error = None
        assert keeper.encode('image') == 'image'
    eyes[0].error = RuntimeError('for good')
    for _ in range(2):
        with pytest.raises(RuntimeError):
            keeper.encode('image')
    assert (keeper.is_open, len(eyes)) == (False, 1)
    clock.now += FIRST_DELAY
    assert keeper.encode('image') == 'image'
    assert (keeper.is_open, keeper.problem, len(eyes)) == (True, '', 2)


def test_what_the_bundle_does_not_carry_is_not_looked_for_again():
    opened = []
    keeper = EncoderKeeper(lambda: opened.append(1), 2, clock := Clock())
    clock.now += 1000
    assert keeper.encode('image') is None
    assert (keeper.is_absent, len(opened)) == (True, 1)
