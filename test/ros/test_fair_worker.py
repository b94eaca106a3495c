# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""One thread for several cameras, and the encoder that it keeps at work."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from itertools import pairwise

import pytest

from reldistill_ros.node.attempt import attempt
from reldistill_ros.node.cameras.encoder_keeper import FIRST_DELAY, EncoderKeeper
from reldistill_ros.node.cameras.fair_worker import FairWorker
from reldistill_ros.node.cameras.priority import MOST, NICENESS, attempt_at_low_priority


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


def test_what_is_forgotten_waits_no_more_and_the_job_in_work_is_told_so(jobs):
    jobs.put('a', 'in work')
    jobs.wait_for_start(1)
    jobs.put('b', 'waits')
    jobs.worker.forget()
    jobs.put('c', 'comes later')
    jobs.gate.set()
    jobs.wait(2)
    assert jobs.done == [('a', 'in work', False), ('c', 'comes later', True)]


def niceness(thread):
    return os.getpriority(os.PRIO_PROCESS, thread)


linux_only = pytest.mark.skipif(
    sys.platform != 'linux', reason='a thread has a niceness on Linux only'
)


@linux_only
def test_its_thread_lets_others_go_first(jobs):
    own = niceness(0)
    jobs.put('a', 0)
    jobs.wait_for_start(1)
    assert niceness(jobs.threads[0]) == min(own + NICENESS, MOST)
    assert niceness(0) == own


IN_A_NICE_PROCESS = """
import os, threading
from reldistill_ros.node.cameras.fair_worker import FairWorker
os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), 15))
done = threading.Event()
def job(is_current):
    print(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), flush=True)
    done.set()
worker = FairWorker('test')
worker.put('a', job)
done.wait(10)
worker.stop(10)
"""


@linux_only
def test_in_a_process_that_is_nicer_itself_its_thread_does_not_outrank_the_others():
    command = [sys.executable, '-c', IN_A_NICE_PROCESS]
    assert subprocess.run(command, capture_output=True, check=True).stdout.split() == [b'19']


@linux_only
def test_the_threads_of_a_session_of_the_image_encoder_let_others_go_first_too():
    helper = pytest.importorskip('onnx.helper', reason='onnx is not installed')
    from reldistill_ros.onnx_session import open_session

    value = (helper.make_tensor_value_info(name, 1, [None]) for name in 'xy')
    node = helper.make_node('Abs', ['x'], ['y'])
    graph = helper.make_graph([node], 'graph', [next(value)], [next(value)])
    opset = helper.make_opsetid('', 17)
    model = helper.make_model(graph, ir_version=8, opset_imports=[opset]).SerializeToString()
    before = {*os.listdir('/proc/self/task')}
    keeper = EncoderKeeper(lambda: open_session(model, 3, what='graph', where='test'), 2)
    assert keeper.is_open, keeper.problem
    deadline = time.monotonic() + 10
    while len(pool := {*os.listdir('/proc/self/task')} - before) != 2:  # the caller is the third
        assert time.monotonic() < deadline, pool  # the thread that opened it takes a moment to end
        time.sleep(0.01)
    assert {niceness(int(thread)) for thread in pool} == {min(niceness(0) + NICENESS, MOST)}


def test_what_cannot_be_opened_at_low_priority_says_why():
    assert attempt_at_low_priority(lambda: 1 / 0).reason.startswith('ZeroDivisionError')


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


class SlowEye(Eye):
    """Its calls come back when it is told."""

    def __init__(self):
        self.gate = threading.Event()
        self.began = threading.Event()

    def encode(self, image):
        self.began.set()
        self.gate.wait(10)
        return super().encode(image)


def abandoned_call(eyes, clock):
    """A keeper whose second encoder is at work while the first still has an image."""

    def open_encoder():
        eyes.append(Eye() if eyes else SlowEye())
        return eyes[-1]

    keeper = EncoderKeeper(open_encoder, 1, clock)
    thread = threading.Thread(target=lambda: attempt(lambda: keeper.encode('old')))
    thread.start()
    assert eyes[0].began.wait(10)
    keeper.replace('stuck')
    clock.now += FIRST_DELAY

    def come_back(error=None):
        eyes[0].error = error
        eyes[0].gate.set()
        thread.join()

    return keeper, come_back


def test_the_late_failure_of_a_call_that_was_given_up_does_not_close_the_next_encoder():
    eyes = []
    keeper, come_back = abandoned_call(eyes, Clock())
    assert keeper.encode('image') == 'image'
    come_back(RuntimeError('of another encoder'))
    assert (keeper.is_open, keeper.problem) == (True, '')
    assert keeper.encode('image') == 'image'
    assert len(eyes) == 2


def test_the_late_success_of_a_call_that_was_given_up_does_not_hasten_the_next_try():
    eyes, clock = [], Clock()
    keeper, come_back = abandoned_call(eyes, clock)
    keeper.encode('image')
    eyes[1].error = RuntimeError('breaks too')
    for _ in range(2):  # the second one breaks, and the third is not due at once
        attempt(lambda: keeper.encode('image'))
    come_back()
    keeper.replace('once more')
    waited = clock.now
    while not keeper.is_open:
        clock.now += 0.5
        keeper.encode('image')
    assert clock.now - waited > FIRST_DELAY


def test_an_encoder_that_is_opened_after_the_end_is_let_go():
    gate, began = threading.Event(), threading.Event()
    clock = Clock()

    def open_encoder():
        began.set()
        gate.wait(10)
        return Eye()

    gate.set()
    keeper = EncoderKeeper(open_encoder, 1, clock)
    keeper.replace('stuck')
    gate.clear()
    began.clear()
    clock.now += FIRST_DELAY
    thread = threading.Thread(target=lambda: keeper.encode('image'))
    thread.start()
    assert began.wait(10)
    keeper.close()
    gate.set()
    thread.join()
    assert (keeper.is_open, keeper.is_absent) == (False, True)
