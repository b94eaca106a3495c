# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Filtered and compact clouds, the fate of each sweep, odd stamps, and time that jumps."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')

from diagnostic_msgs.msg import DiagnosticArray
from fake_node import HEIGHTS, HeightLabeller
from node_system import columns_of, random_points
from ros_client import NODE, make_cloud
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Float64, UInt64

from reldistill_ros.node.outputs import kept_classes
from reldistill_ros.node.stamps import stamp_ns_of


def send(system, cloud, output='segmentation'):
    received = system.client.received[output]
    before = len(received)
    system.client.clouds.publish(cloud)
    assert system.client.spin_until(lambda: len(received) > before)
    return received[-1]


def listen(system, kind, name):
    messages = []
    system.client.node.create_subscription(kind, f'{NODE}/debug/{name}', messages.append, 50)
    system.client.spin_until(lambda: False, 0.4)
    return messages


def test_the_filtered_cloud_is_the_input_without_the_points_of_some_classes(start):
    system = start('filter_classes:=[middle, unlabelled]', outputs=('filtered',))
    points = random_points()
    cloud = make_cloud(points, height=5, sec=7)
    answer = send(system, cloud, 'filtered')
    kept = points[((points[:, 2] >= 0) & (points[:, 2] < 1)) | (points[:, 2] >= 2)]
    kept = kept[kept[:, 2] < 3]
    assert 0 < len(kept) < len(points)
    assert (answer.header, answer.fields) == (cloud.header, cloud.fields)
    assert (answer.height, answer.width) == (1, len(kept))
    np.testing.assert_array_equal(np.stack([*columns_of(answer).values()], axis=1), kept)


def test_the_compact_cloud_has_two_bytes_a_point_in_the_order_of_the_input(start):
    system = start(outputs=('labels',))
    points = random_points(40_000)
    cloud = make_cloud(points, height=5)
    answer = send(system, cloud, 'labels')
    assert (answer.height, answer.width, answer.point_step) == (5, 8000, 2)
    assert len(answer.data) == 80_000
    truth = HeightLabeller()(points)
    columns = columns_of(answer)
    np.testing.assert_array_equal(columns['class_id'], truth.class_ids)
    np.testing.assert_array_equal(columns['probability'], np.rint(255 * truth.probabilities))


def test_only_what_somebody_listens_to_is_published(start):
    system = start(outputs=('labels',))
    send(system, make_cloud(random_points()), 'labels')
    publishers = system.node._configured.outputs._publishers
    counts = {name: publisher.get_subscription_count() for name, publisher in publishers.items()}
    assert counts == {'segmentation': 0, 'visualization': 0, 'filtered': 0, 'labels': 1}
    assert not system.client.received['segmentation']


def test_every_label_may_be_filtered_and_unlabelled_too():
    assert kept_classes(HEIGHTS, ()).all()
    keep = kept_classes(HEIGHTS, ('high', 'unlabelled'))
    assert [index for index in range(256) if not keep[index]] == [2, 255]


def test_each_sweep_is_told_with_its_fate_its_words_and_its_times(start):
    system = start()
    sweeps = listen(system, DiagnosticArray, 'sweeps')
    times = listen(system, Float64, 'processing_time/total_ms')
    dropped = listen(system, UInt64, 'frames_dropped')
    send(system, make_cloud(random_points(), sec=3))
    broken = make_cloud(random_points(), sec=4)
    broken.fields = broken.fields[1:]
    system.client.clouds.publish(broken)
    assert system.client.spin_until(lambda: len(sweeps) == 2 and dropped)
    assert [stamp_ns_of(sweep) for sweep in sweeps] == [3 * 10**9, 4 * 10**9]
    labelled, rejected = (sweep.status[0] for sweep in sweeps)
    values = {entry.key: entry.value for entry in labelled.values}
    assert labelled.message == 'labelled'
    assert values['revision'] == 'fake'
    parts = sum(
        float(values[f'{name}_ms']) for name in ('wait', 'decode', 'inference', 'output', 'fusion')
    )
    assert parts == pytest.approx(float(values['total_ms']), abs=0.01)
    assert times[0].data == pytest.approx(parts, abs=0.01)
    assert rejected.message.startswith('rejected: the cloud has no field')
    assert dropped[-1].data == 1


@pytest.mark.parametrize(
    ('parameter', 'secs', 'reason'),
    [
        ('drop_out_of_order', (1_000_000_005, 1_000_000_004), 'out_of_order'),
        ('drop_zero_stamp', (1, 0), 'zero_stamp'),
        ('drop_future', (1, 2_100_000_000), 'future'),
    ],
)
@pytest.mark.parametrize('drop', ['true', 'false'])
def test_odd_stamps_are_dropped_or_labelled_as_the_parameter_says(
    start, parameter, secs, reason, drop
):
    system = start(f'{parameter}:={drop}')
    first, second = (make_cloud(random_points(), sec=sec) for sec in secs)
    if reason == 'out_of_order':
        second.header.stamp.nanosec = 900_000_000
        second.header.stamp.sec = secs[1]
    send(system, first)
    if drop == 'true':
        system.client.clouds.publish(second)
        assert system.client.wait_for_value(f'dropped_{reason}', 1)
        assert len(system.client.received['segmentation']) == 1
    else:
        send(system, second)
        assert system.client.wait_for_value(f'stamp: {reason}', 1)


def test_a_sweep_that_is_too_old_when_its_turn_comes_is_dropped_and_told(start):
    system = start('max_age:=5.0')
    system.client.clouds.publish(make_cloud(random_points(), sec=1))
    assert system.client.wait_for_value('dropped_too_old', 1)
    assert any('use_sim_time' in m.status[0].message for m in system.client.diagnostics)
    fresh = make_cloud(random_points())
    fresh.header.stamp = system.client.node.get_clock().now().to_msg()
    send(system, fresh)


def test_a_bag_in_a_loop_is_labelled_in_every_round_and_the_words_hold_again(start):
    system = start('use_sim_time:=true', 'max_age:=5.0')
    clocks = system.client.node.create_publisher(Clock, '/clock', 1)
    system.client.spin_until(lambda: clocks.get_subscription_count() > 0)
    for _ in range(3):
        for sec in range(100, 106):
            clock = Clock()
            clock.clock.sec = sec
            clocks.publish(clock)
            now_ns = system.node.get_clock().now
            assert system.client.spin_until(lambda: now_ns().nanoseconds == sec * 10**9)  # noqa: B023
            assert send(system, make_cloud(random_points(), sec=sec)).header.stamp.sec == sec
    assert system.client.wait_for_value('labelled', 18)
    assert system.client.values()['dropped'] == '0'
    assert int(system.client.values()['time_jumps']) >= 2


def test_after_a_jump_back_label_info_says_again_since_when_its_words_hold(start):
    system = start()
    info = system.node._configured.outputs.label_info
    words = system.labeller.words
    for stamp in (10**9, 2 * 10**9, 3 * 10**9):
        info.announce(words, stamp)
    assert len(system.client.label_info) == 1  # since 0: nothing new
    other = HeightLabeller().words
    for stamp in (5 * 10**9, 6 * 10**9, 4 * 10**9, 5 * 10**9):
        info.announce(other, stamp)
    assert system.client.spin_until(lambda: len(system.client.label_info) == 3)
    since = [json.loads(text.data)['since']['sec'] for text in system.client.label_info]
    assert since == [0, 5, 4]
