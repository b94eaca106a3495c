# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the node counts, and what it makes of its counts."""

from __future__ import annotations

import pytest

from reldistill_ros.node.diagnostics import DROPS, InputState, StageTimes, Statistics, worst_of


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


TIMES = StageTimes(0.0, 0.1, 0.2, 0.3)
STATE = InputState(topic='/points', publishers=1, incompatible='', timeout=3.0)
LONELY = InputState(topic='/points', publishers=0, incompatible='', timeout=3.0)
UNFIT = InputState(topic='/points', publishers=1, incompatible='best effort', timeout=3.0)


@pytest.mark.parametrize(
    ('events', 'state', 'level', 'words'),
    [
        ([], STATE, 0, 'idle'),
        (['labelled'], STATE, 0, 'idle'),
        (['dropped busy'], STATE, 1, 'faster than labelled'),
        (['dropped too_old'], STATE, 1, 'use_sim_time'),
        (['dropped no_engine'], STATE, 1, 'no engine'),
        (['noticed stamp: zero_stamp'], STATE, 1, 'labelled though stamp 0'),
        (['noticed lost'], STATE, 1, '512 KiB'),
        (['silence'], None, 0, 'idle'),
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
    arguments = {'labelled': TIMES, 'rejected': 'no field', 'failed': 'OSError', 'noticed': 'lost'}
    for event in events:
        name, _, reason = event.partition(' ')
        if name == 'silence':
            clock.now += 4
        else:
            getattr(statistics, name)(reason or arguments[name])
    got_level, message = worst_of(statistics.findings(state), 'idle')
    assert got_level == level
    assert words in message


def test_a_problem_is_reported_once_and_counted_for_ever():
    statistics = Statistics(Time())
    statistics.received()
    statistics.rejected('no field')
    assert statistics.findings(STATE) == [(1, '1 clouds rejected')]
    assert statistics.findings(STATE) == []
    assert statistics.values()['rejected: no field'] == '1'


def test_rate_and_processing_time_are_those_of_the_last_sweeps():
    clock = Time()
    statistics = Statistics(clock)
    for index in range(21):
        clock.now = index * 0.1
        statistics.received()
        statistics.labelled(StageTimes(0.005, 0.004, 0.01 if index else 0.49, 0.001))
    values = statistics.values()
    assert values['input_rate_hz'] == '10.00'
    assert values['processing_time_p50_ms'] == '20.0'
    assert values['processing_time_max_ms'] == '500.0'
    assert values['inference_time_p50_ms'] == '10.0'
    clock.now += 100
    assert float(statistics.values()['input_rate_hz']) < 0.3


def test_every_sweep_that_came_has_one_fate():
    statistics = Statistics(Time())
    for _ in range(12):
        statistics.received()
    statistics.not_requested()
    statistics.rejected('no field')
    statistics.failed('stuck')
    statistics.labelled(TIMES)
    statistics.noticed('stamp: future')  # labelled all the same
    for reason in DROPS:
        statistics.dropped(reason)
    values = {name: int(value) for name, value in statistics.values().items() if value.isdigit()}
    fates = ('not_requested', 'rejected', 'failed', 'labelled', 'dropped')
    assert values['dropped'] == sum(values[f'dropped_{reason}'] for reason in DROPS) == len(DROPS)
    assert sum(values[name] for name in fates) == 4 + len(DROPS)


def test_the_worst_finding_comes_first_and_none_is_lost():
    findings = [(1, 'one'), (2, 'two'), (1, 'three')]
    assert worst_of(findings, 'fine') == (2, 'two; one; three')
    assert worst_of([], 'fine') == (0, 'fine')
