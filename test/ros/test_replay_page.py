# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The page shows what happened, and takes nothing of a bag for HTML."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('jinja2', reason='jinja2 is not installed')
pytest.importorskip('matplotlib', reason='matplotlib is not installed')

from fake_node import HEIGHTS
from hypothesis import given, settings
from hypothesis import strategies as st

from reldistill_ros.birds_eye import as_png, draw_birds_eye
from reldistill_ros.replay.account import Account
from reldistill_ros.replay.bag import Sweeps
from reldistill_ros.replay.charts import HEIGHT, WIDTH, thin_out, time_chart
from reldistill_ros.replay.page import write_page
from reldistill_ros.replay.process_memory import MemorySample
from reldistill_ros.replay.recording import Recording
from reldistill_ros.replay.report import summarise, summarise_live
from reldistill_ros.replay.scores import Scores
from reldistill_ros.replay.sweeps import SweepResult
from reldistill_ros.replay.worst import NUM_WORST, Picture, find_worst

ODD = '<script>alert(1)</script>'


def sweep(number, **changes):
    result = SweepResult(number, number, 0, number, number / 10, labels=0, points=5, age_sweeps=0)
    return replace(result, latency_ms=10.0 + number, mean_probability=0.5, **changes)


def page_of(tmp_path, results, *, label_topic=None, drops=None):
    summary = summarise(Sweeps(None, ODD, (), label_topic), results, ('low', 'high'))
    account, live = Account(drops or {}, 0), Recording()
    summary |= summarise_live(results, live, account, Scores())
    summary |= dict.fromkeys(('bag', 'bundle_revision', 'backend', 'precision', 'pacing'), ODD)
    summary['requirements'] = [{'requirement': 'miou>=0.5', 'value': None, 'passed': False}]
    path = tmp_path / 'replay.html'
    memory = [MemorySample(-1.0, 90.0), MemorySample(0.1, 100.0), MemorySample(0.3, 120.0)]
    write_page(
        path, summary, results, memory=memory, draw=lambda r: Picture(r, f'data:{r.number}')
    )
    return path.read_text()


def test_nothing_of_a_bag_is_taken_for_html(tmp_path):
    page = page_of(tmp_path, [sweep(0), sweep(1)], drops={ODD: 3})
    assert ODD not in page
    assert '&lt;script&gt;' in page


def test_drops_stages_requirements_and_the_worst_sweeps_are_shown(tmp_path):
    results = [sweep(0), sweep(1, stages_ms={'inference': 8.0, 'transport': 2.0})]
    results.append(replace(SweepResult(2, 2, 0, 2, 0.2), dropped='busy'))
    page = page_of(tmp_path, results, drops={'busy': 1, 'failed': 0})
    assert 'busy' in page
    assert 'failed</td><td>' not in page
    assert '1 of 1 requirements failed' in page
    assert 'width: 80.00%' in page
    assert page.count('class="mark"') == 2  # in two charts
    assert 'src="data:1"' in page


def test_a_replay_in_which_nothing_was_labelled_has_a_page(tmp_path):
    lost = replace(SweepResult(0, 0, 0, 0, 0.0), dropped='lost_to_node')
    assert '</html>' in page_of(tmp_path, [lost], drops={'lost_to_node': 1})


def test_the_worst_are_those_of_lowest_miou_and_the_slowest_each_sweep_of_the_bag_once():
    results = [sweep(number, miou=0.1 * (number % 7)) for number in range(7)]
    again = [replace(sweep(7 + n, miou=0.9), source=n, loop=1) for n in range(7)]
    worst = find_worst([*results, *again])
    assert [result.number for result in worst['Lowest mIoU']] == list(range(NUM_WORST))
    assert [result.number for result in worst['Slowest']] == [13, 12, 11, 10]


def test_without_truth_the_least_certain_are_the_worst_and_the_dropped_are_none():
    results = [replace(sweep(n), mean_probability=0.9 - 0.1 * n) for n in range(6)]
    results.append(replace(SweepResult(6, 6, 0, 6, 0.6), dropped='busy'))
    worst = find_worst(results)
    assert [result.number for result in worst['Lowest mean probability']] == [5, 4, 3, 2]
    assert 6 not in [result.number for result in worst['Slowest']]


@given(st.lists(st.floats(0, 1e9), max_size=300), st.integers(1, 40))
def test_thinning_out_keeps_extremes_and_order(values, columns):
    points = list(enumerate(values))
    kept = thin_out(points, columns)
    assert kept == sorted(kept)
    assert set(kept) <= set(points)
    assert len(kept) <= 2 * columns
    if values:
        assert max(v for _, v in kept) == max(values)
        assert min(v for _, v in kept) == min(values)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e6)), max_size=20), st.floats(0, 1e4))
def test_a_chart_lies_inside_its_frame(points, end):
    inside = sorted(point for point in points if point[0] <= end)
    chart = time_chart('a', 'ms', inside, end=end, marks=[second for second, _ in inside])
    for pair in chart.line.split():
        x, y = map(float, pair.split(','))
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT
    assert chart.y_ticks[0][1] == '0'


def test_points_without_a_class_or_a_place_are_no_obstacle_to_a_picture():
    points = np.random.default_rng(0).uniform(-5, 5, (30, 4)).astype(np.float32)
    points[3] = np.nan
    unlabelled = np.full(30, 255, np.uint8)
    figure = draw_birds_eye(points, {'labels': unlabelled}, HEIGHTS)
    assert as_png(figure).startswith(b'\x89PNG')
