# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Replay: scores and pictures without ROS, and the real thing with it."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rosbags', reason='rosbags is not installed')
pytest.importorskip('matplotlib', reason='matplotlib is not installed')

from fake_node import HeightLabeller
from height_bag import labels_of, points_of, write_bag

from reldistill_ros.bags.bag import open_bag
from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.metrics import accuracy, confusion_matrix, mean_iou
from reldistill_ros.replay import replay
from reldistill_ros.replay.bag import Truth, find_sweeps
from reldistill_ros.replay.options import parse_options
from reldistill_ros.replay.outcome import Judge
from reldistill_ros.replay.report import closing_lines
from reldistill_ros.replay.schedule import Course

FAKE_NODE = [sys.executable, str(Path(__file__).with_name('fake_node.py'))]
needs_ros = pytest.mark.skipif(
    importlib.util.find_spec('rclpy') is None, reason='rclpy is not installed'
)


@pytest.fixture
def labeller(monkeypatch):
    """The command line opens this one instead of a bundle."""
    labeller = HeightLabeller()
    monkeypatch.setattr(
        replay.Labeller, 'from_bundle', classmethod(lambda cls, *arguments: labeller)
    )
    return labeller


def expected_confusion(num_sweeps=6):
    sweeps = [points_of(index) for index in range(num_sweeps)]
    return sum(
        confusion_matrix(labels_of(points), HeightLabeller()(points).class_ids, 3)
        for points in sweeps
    )


def run(tmp_path, *arguments):
    out = tmp_path / 'out'
    words = [tmp_path / 'bag', '--bundle', 'b', '--out', out, *arguments]
    replay.main([str(word) for word in words])
    assert (out / 'replay.png').read_bytes().startswith(b'\x89PNG')
    assert '</html>' in (out / 'replay.html').read_text()
    return json.loads((out / 'replay.json').read_text())


def lines_of(tmp_path):
    return [json.loads(line) for line in (tmp_path / 'out/sweeps.jsonl').read_text().splitlines()]


def test_offline_scores_are_those_of_the_labeller(tmp_path, labeller):
    write_bag(tmp_path / 'bag')
    result = run(tmp_path, '--offline')
    assert result['mode'] == 'offline'
    assert (result['frames_in'], result['frames_labelled'], result['frames_dropped']) == (6, 6, 0)
    assert result['miou'] == pytest.approx(mean_iou(expected_confusion()))
    assert result['accuracy'] == pytest.approx(accuracy(expected_confusion()))
    assert set(result['per_class_iou']) == {'low', 'middle', 'high'}
    assert result['latency_ms']['p50'] > 0


def test_a_bag_without_truth_has_no_scores(tmp_path, labeller):
    write_bag(tmp_path / 'bag', with_labels=False)
    result = run(tmp_path, '--offline', '--max-sweeps', 2)
    assert result['frames_in'] == 2
    assert result['miou'] is None
    assert result['per_class_iou'] == {}


def test_the_labels_of_the_bag_are_mapped_by_name(tmp_path, labeller):
    write_bag(tmp_path / 'bag', class_names=('high', 'unknown', 'low'))
    result = run(tmp_path, '--offline')
    assert result['per_class_iou']['middle'] is None
    assert result['miou'] < mean_iou(expected_confusion())


def test_labels_without_names_are_refused(tmp_path, labeller):
    write_bag(tmp_path / 'bag', info_topic='/elsewhere')
    with pytest.raises(InputError, match='/lidar/label_info'):
        run(tmp_path, '--offline')


def test_labels_that_the_vocabulary_does_not_know_are_told_before_anything_is_written(
    tmp_path, labeller
):
    write_bag(tmp_path / 'bag', class_names=('sheep', 'goat', 'cow'))
    with pytest.raises(InputError, match=r'(?s)none of the labels.*sheep'):
        run(tmp_path, '--offline')
    assert not (tmp_path / 'out').exists()
    result = run(tmp_path, '--offline', '--no-labels')
    assert (result['miou'], result['label_topic']) == (None, None)


def test_labels_are_found_by_their_field_whatever_their_topic(tmp_path, labeller):
    write_bag(tmp_path / 'bag', label_topic='/truth/all', info_topic='/truth/label_info')
    result = run(tmp_path, '--offline')
    assert (result['topic'], result['label_topic']) == ('/lidar/points', '/truth/all')
    assert result['miou'] == pytest.approx(mean_iou(expected_confusion()))


def test_an_output_folder_that_cannot_be_made_is_told_without_a_traceback(
    tmp_path, labeller, capsys
):
    write_bag(tmp_path / 'bag')
    (tmp_path / 'out').write_text('a file')
    with pytest.raises(SystemExit, match='2'):
        run_command(lambda: run(tmp_path, '--offline'))
    assert str(tmp_path / 'out') in capsys.readouterr().err


def test_a_topic_that_the_bag_lacks_is_refused_with_those_it_has(tmp_path, labeller):
    write_bag(tmp_path / 'bag')
    with pytest.raises(InputError, match='/lidar/points'):
        run(tmp_path, '--offline', '--topic', '/other')


@pytest.mark.parametrize('rate', ['0', '-1', 'nan', 'fast'])
def test_a_rate_that_is_no_rate_is_refused(tmp_path, rate):
    with pytest.raises(SystemExit):
        run(tmp_path, '--rate', rate)


def play(tmp_path, course, **bag):
    """Play the tiny bag into the fake node in another process."""
    tmp_path.mkdir(exist_ok=True)
    labeller = HeightLabeller()
    arguments = ['-p', 'bundle:=x', '-p', 'diagnostics_period:=0.1', '-p', 'use_sim_time:=true']
    with open_bag(write_bag(tmp_path / 'bag', **bag)) as opened:
        sweeps = find_sweeps(opened, None, None, None)
        recording = replay.play(sweeps, arguments, course, tmp_path, command=FAKE_NODE)
        truth = Truth(opened, sweeps.label_topic, labeller.vocabulary)
        judge = Judge(sweeps, labeller, 255.0, labeller.vocabulary, truth)
        return judge.live(recording), recording


@needs_ros
def test_through_the_node_every_sweep_gets_the_labels_it_gets_without_ros(tmp_path):
    outcome, _ = play(tmp_path, Course(rate=None))
    result = outcome.summary
    assert (result['frames_in'], result['frames_labelled'], result['frames_dropped']) == (6, 6, 0)
    assert result['unaccounted_sweeps'] == 0
    assert result['offline']['labels_equal'] == 1.0
    assert result['miou'] == result['offline']['miou']
    assert result['miou'] == pytest.approx(mean_iou(expected_confusion()))
    assert result['node']['labelled'] == '6'
    assert 0 < result['latency_ms']['p50'] <= result['latency_ms']['max'] < 5000
    for index, sweep in enumerate(outcome.results):
        scaled = points_of(index) / np.float32([1, 1, 1, 255])
        expected = HeightLabeller()(scaled).class_ids
        np.testing.assert_array_equal(outcome.labels[sweep.labels], expected)


@needs_ros
def test_the_stages_of_the_node_and_the_transport_make_up_the_latency(tmp_path):
    outcome, _ = play(tmp_path, Course(rate=None))
    for sweep in outcome.results:
        assert [*sweep.stages_ms] == [
            'wait',
            'decode',
            'inference',
            'output',
            'fusion',
            'transport',
        ]
        total = pytest.approx(sweep.latency_ms, abs=0.01)
        # the answer may arrive before the node has looked at its clock again
        if sweep.stages_ms['transport'] > 0:
            assert sum(sweep.stages_ms.values()) == total
        else:
            assert sum(sweep.stages_ms.values()) >= total.expected - total.abs
    assert outcome.summary['stages_ms']['inference']['p99'] > 0


@needs_ros
def test_at_the_times_of_the_bag_a_slow_node_drops_sweeps_and_they_are_counted(
    tmp_path, monkeypatch
):
    monkeypatch.setenv('FAKE_NODE_DELAY', '0.35')
    outcome, _ = play(tmp_path, Course(rate=1.0), num_sweeps=10)
    result = outcome.summary
    assert 2 <= result['frames_labelled'] < 10
    assert result['frames_dropped'] == 10 - result['frames_labelled']
    drops = {name: count for name, count in result['drops'].items() if count}
    assert sum(drops.values()) == result['frames_dropped']
    assert 'busy' in drops
    assert result['unaccounted_sweeps'] == 0
    by_sweep = Counter(sweep.dropped for sweep in outcome.results if sweep.dropped)
    assert by_sweep == drops
    assert result['age_sweeps']['max'] >= 2


@needs_ros
def test_a_bag_that_is_played_again_goes_on_with_new_stamps_and_equal_labels(tmp_path):
    outcome, recording = play(tmp_path, Course(rate=None, loops=3))
    result = outcome.summary
    assert (result['frames_in'], result['frames_labelled'], result['loops']) == (18, 18, 3)
    assert result['offline']['labels_equal'] == 1.0
    stamps = [sweep.stamp_ns for sweep in outcome.results]
    assert stamps == sorted(set(stamps))
    assert {sweep.labels for sweep in outcome.results} == set(range(6))  # kept once
    assert result['node']['time_jumps'] == '0'
    assert recording.memory[0].mb > 1


@needs_ros
def test_the_time_ends_an_endless_replay(tmp_path):
    outcome, _ = play(tmp_path, Course(rate=None, loops=None, minutes=2 / 60))
    assert outcome.summary['frames_in'] > 6
    assert outcome.summary['unaccounted_sweeps'] == 0
    assert outcome.summary['minutes'] <= 0.5


@needs_ros
def test_a_node_that_does_not_start_is_told_with_its_own_words(tmp_path):
    with open_bag(write_bag(tmp_path / 'bag')) as bag:
        sweeps = find_sweeps(bag, None, None, None)
        with pytest.raises(InputError, match='bundle'):
            replay.play(sweeps, [], Course(), tmp_path)


def test_without_ros_the_live_replay_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'rclpy', None)
    write_bag(tmp_path / 'bag')
    with pytest.raises(InputError, match='pip install'):
        run(tmp_path)
    assert not (tmp_path / 'out').exists()


def test_offline_needs_no_ros(tmp_path, labeller, monkeypatch):
    monkeypatch.setitem(sys.modules, 'rclpy', None)
    write_bag(tmp_path / 'bag')
    assert run(tmp_path, '--offline')['frames_labelled'] == 6


def test_the_confusion_holds_every_point_of_the_truth():
    assert np.sum(expected_confusion()) == sum(
        int((labels_of(points_of(index)) != 255).sum()) for index in range(6)
    )


def test_offline_replays_agree_to_the_last_bit_and_have_a_line_for_each_sweep(tmp_path, labeller):
    write_bag(tmp_path / 'bag')
    run(tmp_path, '--offline')
    first = lines_of(tmp_path)
    run(tmp_path, '--offline')
    assert [line['number'] for line in first] == list(range(6))
    timed = ('latency_ms', 'stages_ms', 'sent_s')
    for before, after in zip(first, lines_of(tmp_path)):
        assert before['stages_ms'].keys() == {'decode', 'inference'}
        assert {k: v for k, v in before.items() if k not in timed} == {
            k: v for k, v in after.items() if k not in timed
        }
        assert before['points'] == 40
        assert before['mean_probability'] == 0.75
        assert 0 < before['miou'] < 1
        assert 0 < before['accuracy'] < 1


def test_requirements_decide_the_exit_code_and_are_written_down(tmp_path, labeller, capsys):
    write_bag(tmp_path / 'bag')
    result = run(tmp_path, '--offline', '--require', 'frames_dropped==0')
    (entry,) = result['requirements']
    assert entry == {'requirement': 'frames_dropped==0', 'value': 0, 'passed': True}
    with pytest.raises(SystemExit, match='1'):
        run(tmp_path, '--offline', '--require', 'miou>=0.99', '--require', 'frames_in==6')
    told = capsys.readouterr().out
    assert 'FAILED  miou>=0.99' in told
    assert 'passed  frames_in==6' in told
    written = json.loads((tmp_path / 'out/replay.json').read_text())['requirements']
    assert [entry['passed'] for entry in written] == [False, True]


def test_a_requirement_on_nothing_is_told_before_anything_is_written(tmp_path, labeller):
    write_bag(tmp_path / 'bag')
    with pytest.raises(InputError, match=r'latency_ms\.p95'):
        run(tmp_path, '--offline', '--require', 'latency.p95<=1')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('option', [('--loop', '2'), ('--minutes', '1')])
def test_without_the_node_nothing_is_played_again(tmp_path, option):
    with pytest.raises(InputError, match='--offline'):
        run(tmp_path, '--offline', *option)


def test_a_package_that_the_report_lacks_is_named_before_anything_is_played(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'jinja2', None)
    options = parse_options(['bag', '--bundle', 'none', '--out', str(tmp_path / 'out')], '')
    with pytest.raises(InputError, match=r'(?s)jinja2 is not installed.*\[replay\]'):
        replay.replay(options, bag=None)
    assert not (tmp_path / 'out').exists()


def test_the_closing_lines_say_why_sweeps_were_dropped_and_leave_out_what_was_not_measured():
    summary = {
        'frames_in': 24,
        'frames_labelled': 3,
        'frames_dropped': 21,
        'drops': {'busy': 20, 'too_old': 0, 'lost_to_node': 1},
        'latency_ms': {'p50': 58.7, 'p95': None},
        'miou': None,
        'accuracy': None,
    }
    assert closing_lines(summary).splitlines() == [
        '3 of 24 sweeps labelled, 21 dropped (busy 20, lost_to_node 1)',
        'latency p50 59 ms',
    ]
    scores = {'miou': 0.5, 'accuracy': 0.75}
    assert closing_lines(summary | scores).endswith('mIoU 0.500, accuracy 0.750')
