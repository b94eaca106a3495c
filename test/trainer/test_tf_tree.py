# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Coordinate frames over time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tiny_bag import transforms

from reldistill_ros.cameras.tf_tree import TfTree
from reldistill_ros.cameras.transforms import from_quaternion
from reldistill_ros.core.errors import InputError

START = 1_700_000_000_000_000_000
MS = 1_000_000
NO_TURN = (0, 0, 0, 1)


def moving(stamp_ns, parent='map', child='base_link', speed=10.0):
    """A car that drives along x and turns half a radian in a second."""
    seconds = (stamp_ns - START) / 1e9
    turn = Rotation.from_euler('z', 0.5 * seconds).as_quat()
    return transforms((stamp_ns, parent, child, turn, (speed * seconds, 0, 0)))


def fixed(stamp_ns, child, x, parent='base_link', turn=NO_TURN):
    return transforms((stamp_ns, parent, child, turn, (x, 0, 0)))


def test_a_sensor_published_on_tf_now_and_then_stands_where_it_always_was_said_to():
    # as converters of nuScenes write it: everything on /tf, twice a second
    stamps = range(START, START + 3000 * MS, 500 * MS)
    messages = [m for s in stamps for m in (moving(s), fixed(s, 'lidar', 1), fixed(s, 'cam', 2))]
    tree = TfTree([], messages)
    found = tree.transform('cam', START + 740 * MS, 'lidar', START + 700 * MS)
    lidar = Rotation.from_euler('z', 0.35).apply([1, 0, 0])
    seen_from = lidar + np.array([7 - 7.4, 0, 0])
    expected = Rotation.from_euler('z', -0.37).apply(seen_from) - [2, 0, 0]
    np.testing.assert_allclose(found[:3, 3], expected, atol=1e-9)
    at_once = tree.transform('cam', START - 10**12, 'lidar', START - 10**12)
    np.testing.assert_allclose(at_once[:3, 3], [-1, 0, 0])  # the car's motion does not matter
    assert tree.transform('cam', START - MS, 'lidar', START) is None


def test_a_pose_that_is_repeated_with_rounding_and_the_opposite_quaternion_is_no_motion():
    first, second = fixed(START, 'lidar', 1.0), fixed(START + MS, 'lidar', 1.0 + 1e-8)
    second.transforms[0].transform.rotation.w = -1.0
    tree = TfTree([], [first, second])
    assert not tree.moves('lidar')
    assert tree.transform('base_link', 0, 'lidar', 5)[0, 3] == pytest.approx(1)


@pytest.mark.parametrize(('gap', 'known'), [(0.5, True), (0.49, False)])
def test_between_two_poses_is_interpolated_only_if_they_are_close_together(gap, known):
    tree = TfTree([], [moving(START), moving(START + 500 * MS)], max_gap=gap)
    found = tree.transform('map', START + 100 * MS, 'base_link', START + 100 * MS)
    assert (found is not None) == known
    assert tree.transform('map', START, 'base_link', START + 500 * MS) is not None
    pairs = [(START, START + 100 * MS), (START, START), (START, START - 1), (START, START + MS)]
    assert list(tree.knows_pairs('map', 'base_link', pairs)) == [known, True, False, known]


def test_what_is_placed_by_hand_counts_before_what_the_bag_says():
    tree = TfTree([fixed(START, 'lidar', 1)], [moving(START, child='lidar')])
    tree.place('base_link', '/lidar', from_quaternion(NO_TURN, (3, 0, 0)))
    assert tree.transform('base_link', 0, 'lidar', 0)[0, 3] == 3


def odometry_poses(child_turn=NO_TURN):
    for stamp in range(START, START + 300 * MS, 100 * MS):
        yield stamp, (*child_turn, (stamp - START) / 1e8, 0.0, 0.0)


def test_odometry_of_a_frame_in_the_middle_moves_all_of_the_car():
    # the odometry says where the IMU is; base_link is the root of the sensors
    quarter = Rotation.from_euler('z', 90, degrees=True).as_quat()
    imu = transforms((START, 'base_link', 'imu', quarter, (0.5, 0, 0)))
    tree = TfTree([imu, fixed(START, 'lidar', 2)])
    tree.move('odom', 'imu', odometry_poses(quarter))
    assert tree.moves('lidar')
    stamp = START + 150 * MS
    found = tree.transform('odom', stamp, 'imu', stamp)
    np.testing.assert_allclose(found[:3, 3], [1.5, 0, 0], atol=1e-9)
    np.testing.assert_allclose(found[:3, :3] @ [1, 0, 0], [0, 1, 0], atol=1e-9)
    lidar = tree.transform('odom', stamp, 'lidar', stamp)
    np.testing.assert_allclose(lidar[:3, 3], [1.5 - 0.5 + 2, 0, 0], atol=1e-9)


def test_odometry_that_is_asked_for_replaces_the_motion_of_tf():
    tree = TfTree([fixed(START, 'lidar', 2)], [moving(START), moving(START + 300 * MS)])
    tree.move('odom', 'base_link', odometry_poses())
    found = tree.transform('lidar', START + 100 * MS, 'lidar', START + 200 * MS)
    np.testing.assert_allclose(found[:3, 3], [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(found[:3, :3], np.eye(3), atol=1e-9)


def test_a_circle_two_parents_and_frames_apart_are_refused():
    with pytest.raises(InputError, match='two parents'):
        TfTree([], [moving(START), moving(START + MS, parent='odom')])
    tree = TfTree([fixed(START, 'a', 1, 'b'), fixed(START, 'b', 1, 'a'), fixed(START, 'c', 1)])
    with pytest.raises(InputError, match='circle'):
        tree.transform('a', 0, 'b', 0)
    with pytest.raises(InputError, match='extrinsics'):
        tree.transform('c', 0, 'elsewhere', 0)
    assert not tree.are_connected('c', 'elsewhere')
    assert tree.are_connected('c', '/base_link')


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 400),
    st.integers(0, 400),
    st.lists(st.integers(0, 400), min_size=1, max_size=6),
)
def test_going_there_and_back_changes_nothing_and_many_times_equal_single_ones(one, other, times):
    messages = [moving(START + n * 50 * MS) for n in range(10)]
    tree = TfTree([fixed(START, 'lidar', 1), fixed(START, 'cam', 2)], messages)
    there = tree.transform('cam', START + one * MS, 'lidar', START + other * MS)
    back = tree.transform('lidar', START + other * MS, 'cam', START + one * MS)
    np.testing.assert_allclose(there @ back, np.eye(4), atol=1e-9)
    stamps = [START + t * MS for t in times]
    many = tree.transforms('cam', START + one * MS, 'lidar', stamps)
    for stamp, found in zip(stamps, many):
        single = tree.transform('cam', START + one * MS, 'lidar', stamp)
        np.testing.assert_allclose(found, single, atol=1e-12)
