# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Keeping a labeller at work: reopening, falling back, climbing back up, and its words."""

from __future__ import annotations

import threading
import time

import pytest
from fake_node import HEIGHTS, FakeWords, HeightLabeller

from reldistill_ros.core.errors import InputError
from reldistill_ros.node.engine import FIRST_DELAY, SETTLED, Engine

FAST, SLOW = 'fast', 'slow'
OTHER = FakeWords(HEIGHTS, 'other')


class Time:
    now = 0.0

    def __call__(self):
        return self.now


class Workshop:
    """Opens labellers, unless an engine is broken; remembers which were opened."""

    def __init__(self):
        self.broken = {}
        self.opened = []

    def __call__(self, name):
        self.opened.append(name)
        if name in self.broken:
            raise self.broken[name]
        labeller = HeightLabeller()
        labeller.name = name
        return labeller


@pytest.fixture
def build():
    engines = []

    def build(ladder=(FAST, SLOW), failures_allowed=2, broken=()):
        workshop, clock = Workshop(), Time()
        workshop.broken = dict(broken)
        engines.append(Engine(workshop, ladder, failures_allowed, clock))
        return engines[-1], workshop, clock

    yield build
    for engine in engines:
        assert engine.close(5)
        assert engine.labeller is None


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def break_down(engine, times=2):
    for _ in range(times):
        engine.failed('out of memory')


def test_the_best_engine_is_opened_and_warm(build):
    engine, workshop, _ = build()
    engine.open()
    assert (engine.name, engine.problem, workshop.opened) == (FAST, '', [FAST])
    assert engine.labeller.calls == 1


def test_where_the_best_cannot_be_opened_the_next_one_is_and_the_reason_is_told(build):
    engine, _, _ = build(broken={FAST: RuntimeError('no GPU\nno use')})
    engine.open()
    assert engine.name == SLOW
    assert engine.problem == f'{FAST}: RuntimeError: no GPU'


def test_where_none_can_be_opened_the_first_error_is_raised(build):
    engine, _, _ = build(broken={FAST: InputError('no such bundle'), SLOW: OSError('other')})
    with pytest.raises(InputError, match='no such bundle'):
        engine.open()
    assert engine.name == ''


def test_single_failures_change_nothing(build):
    engine, workshop, _ = build()
    engine.open()
    for _ in range(5):
        engine.failed('bad luck')
        engine.succeeded()
    assert workshop.opened == [FAST]


def test_failures_in_a_row_open_the_same_engine_anew(build):
    engine, workshop, _ = build()
    engine.open()
    before = engine.labeller
    break_down(engine)
    wait_for(lambda: engine.labeller is not None)
    assert engine.labeller is not before
    assert workshop.opened == [FAST, FAST]
    assert engine.problem == ''


def test_an_engine_that_breaks_again_at_once_gives_way_to_the_next(build):
    engine, workshop, _ = build()
    engine.open()
    for name in (FAST, SLOW):
        break_down(engine)
        wait_for(lambda: engine.labeller is not None)
        assert engine.name == name
    assert workshop.opened == [FAST, FAST, SLOW]
    assert 'out of memory' in engine.problem


def test_the_better_engine_is_tried_again_later_and_taken_when_it_works(build):
    engine, workshop, clock = build(broken={FAST: RuntimeError('no GPU')})
    engine.open()
    engine.tick()
    assert workshop.opened == [FAST, SLOW]
    clock.now += FIRST_DELAY
    engine.tick()
    wait_for(lambda: workshop.opened == [FAST, SLOW, FAST])
    engine.tick()  # not before the next delay
    workshop.broken.clear()
    clock.now += 2 * FIRST_DELAY
    engine.tick()
    wait_for(lambda: engine.name == FAST)
    assert engine.problem == ''
    clock.now += 1000
    engine.tick()
    assert workshop.opened == [FAST, SLOW, FAST, FAST]


def test_while_none_can_be_opened_there_is_no_labeller_and_it_is_tried_again(build):
    engine, workshop, clock = build()
    engine.open()
    workshop.broken = {FAST: MemoryError('full'), SLOW: MemoryError('full')}
    break_down(engine)
    wait_for(lambda: len(workshop.opened) == 3)
    assert engine.labeller is None
    assert 'full' in engine.problem
    workshop.broken.clear()

    def comes_back():
        clock.now += FIRST_DELAY
        engine.tick()
        return engine.labeller is not None

    wait_for(comes_back)


def test_an_engine_that_opens_but_always_breaks_is_not_opened_all_the_time(build):
    engine, workshop, clock = build(ladder=(FAST,))
    engine.open()
    for _ in range(2):
        break_down(engine)
        wait_for(lambda: engine.labeller is not None)
    break_down(engine)
    time.sleep(0.05)
    assert engine.labeller is None
    assert len(workshop.opened) == 3
    clock.now += 100
    engine.tick()
    wait_for(lambda: engine.labeller is not None)
    for _ in range(SETTLED):
        engine.succeeded()
    break_down(engine)  # long after: opened at once
    wait_for(lambda: engine.labeller is not None)


def test_words_stay_in_force_when_another_labeller_takes_over(build):
    engine, _, _ = build()
    engine.open()
    assert engine.labeller.words.revision == 'fake'
    engine.set_words(OTHER)
    assert engine.labeller.words is OTHER
    break_down(engine)
    wait_for(lambda: engine.labeller is not None)
    assert engine.labeller.words is OTHER


def test_words_that_come_while_no_engine_is_open_hold_for_the_next(build):
    engine, workshop, clock = build(ladder=(FAST,))
    engine.open()
    workshop.broken = {FAST: OSError('gone')}
    break_down(engine)
    wait_for(lambda: len(workshop.opened) == 2)
    engine.set_words(OTHER)
    workshop.broken.clear()
    clock.now += FIRST_DELAY
    engine.tick()
    wait_for(lambda: engine.labeller is not None)
    assert engine.labeller.words is OTHER


def test_words_and_labellers_may_change_at_the_same_time(build):
    engine, _, _ = build(failures_allowed=1)
    engine.open()
    revisions = [FakeWords(HEIGHTS, str(number)) for number in range(200)]
    thread = threading.Thread(target=lambda: [engine.set_words(words) for words in revisions])
    thread.start()
    while thread.is_alive():
        engine.succeeded()
        engine.failed('bad luck')
        wait_for(lambda: engine.labeller is not None)
    thread.join()
    assert engine.labeller.words is revisions[-1]
