# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Coordinate frames while the robot runs: the last seconds, and nothing guessed."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip('scipy', reason='the cameras extra is not installed')

from reldistill_ros.cameras.extrinsics import Extrinsic, read_extrinsics
from reldistill_ros.cameras.live_frames import (
    KEPT_NS,
    MOST_FRAMES,
    Instant,
    LiveFrames,
    MissingTransformError,
)
from reldistill_ros.core.errors import InputError

START = 1_700_000_000 * 10**9
MS = 10**6


def edge(stamp_ns, parent, child, x=0.0, **rotation):
    """A TransformStamped."""
    sec, nanosec = divmod(stamp_ns, 10**9)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=parent),
        child_frame_id=child,
        transform=SimpleNamespace(
            translation=SimpleNamespace(x=x, y=0.0, z=0.0),
            rotation=SimpleNamespace(**{'x': 0.0, 'y': 0.0, 'z': 0.0, 'w': 1.0, **rotation}),
        ),
    )


def drive(frames, times_ms, speed=10.0):
    for time_ms in times_ms:
        pose = edge(START + time_ms * MS, 'odom', 'base', speed * time_ms / 1000)
        assert frames.add([pose], is_static=False) == ''


def where(frames, time_ms, target='odom', source='base'):
    stamp = START + time_ms * MS
    return frames.find(Instant(target, stamp), Instant(source, stamp))[0, 3]


def test_between_two_poses_it_is_interpolated_and_beyond_the_last_not_guessed():
    frames = LiveFrames()
    drive(frames, (0, 50, 100))
    assert where(frames, 75) == pytest.approx(0.75)
    for time_ms in (-1, 101):
        with pytest.raises(MissingTransformError, match='at that time'):
            where(frames, time_ms)


def test_frames_that_nothing_connects_are_named():
    with pytest.raises(MissingTransformError, match="'odom' and 'base'"):
        where(LiveFrames(), 0)


def test_only_the_last_seconds_are_kept():
    frames = LiveFrames()
    drive(frames, range(0, 20_000, 20))
    (track,) = frames._tree._moving.values()
    assert len(track) <= KEPT_NS // (20 * MS) + 1
    assert where(frames, 19_970) == pytest.approx(199.7)
    with pytest.raises(MissingTransformError):
        where(frames, 1_000)


def test_a_frame_that_never_moves_is_believed_for_some_seconds_only():
    frames = LiveFrames()
    frames.add([edge(START, 'base', 'lidar', 1.0)], is_static=False)
    assert where(frames, 9_000, 'base', 'lidar') == 1
    with pytest.raises(MissingTransformError):
        where(frames, 11_000, 'base', 'lidar')
    frames.add([edge(START, 'base', 'lidar', 1.0)], is_static=True)
    assert where(frames, 10**9, 'base', 'lidar') == 1


def test_a_bag_that_begins_anew_replaces_what_was_known():
    frames = LiveFrames()
    drive(frames, (60_000, 60_050), speed=-7.0)
    drive(frames, (0, 50))
    assert where(frames, 25) == pytest.approx(0.25)
    with pytest.raises(MissingTransformError):
        where(frames, 60_025)


def test_a_message_that_comes_a_little_late_is_taken_in_its_place():
    frames = LiveFrames()
    drive(frames, (0, 100, 50, 150))
    assert where(frames, 60) == pytest.approx(0.6)


def test_what_was_placed_by_hand_stays_whatever_tf_says():
    by_hand = Extrinsic(parent='base', child='lidar', translation=(3.0, 0.0, 0.0))
    frames = LiveFrames([by_hand])
    for is_static in (True, False):
        frames.add([edge(START, 'base', '/lidar', 9.0)], is_static=is_static)
        frames.add([edge(START, 'elsewhere', 'lidar', 9.0)], is_static=is_static)
    assert where(frames, 0, 'base', 'lidar') == 3


@pytest.mark.parametrize(
    ('wrong', 'words'),
    [
        (edge(START, 'odom', 'base', np.nan), 'not a rigid transform'),
        (edge(START, 'odom', 'base', w=0.0), 'not a rigid transform'),
        (edge(START, 'map', 'base'), 'two parents'),
    ],
)
def test_a_transform_that_cannot_be_is_refused_and_the_others_of_its_message_taken(wrong, words):
    frames = LiveFrames()
    drive(frames, (0,))
    good = edge(START + 50 * MS, 'odom', 'base', 0.5)
    assert words in frames.add([wrong, good], is_static=False)
    assert frames.refused == 1
    assert where(frames, 25) == pytest.approx(0.25)


def test_a_circle_of_frames_is_a_missing_transform():
    frames = LiveFrames()
    frames.add([edge(START, 'a', 'b'), edge(START, 'b', 'a')], is_static=True)
    with pytest.raises(MissingTransformError):
        where(frames, 0, 'a', 'b')


def test_the_number_of_frames_is_limited():
    frames = LiveFrames()
    many = [edge(START, 'base', f'frame {n}') for n in range(MOST_FRAMES + 5)]
    assert 'too many frames' in frames.add(many, is_static=True)
    assert frames.refused == 5
    assert frames.add([edge(START, 'base', 'frame 0', 2.0)], is_static=True) == ''
    assert where(frames, 0, 'base', 'frame 0') == 2


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from('abcd'),
            st.sampled_from('abcd'),
            st.floats() | st.floats(-10, 10),
            st.floats() | st.floats(-1, 1),
            st.integers(-(10**12), 10**12),
            st.booleans(),
        ),
        max_size=20,
    ),
    st.integers(-(10**12), 10**12),
)
def test_whatever_tf_says_a_transform_is_rigid_or_missing(edges, asked):
    frames = LiveFrames()
    for parent, child, x, w, stamp, is_static in edges:
        frames.add([edge(START + stamp, parent, child, x, w=w)], is_static=is_static)
    try:
        found = frames.find(Instant('a', START + asked), Instant('b', START + asked))
    except MissingTransformError:
        return
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-9)


def test_one_thread_may_ask_while_another_one_adds():
    frames = LiveFrames()
    drive(frames, (0, 20))
    stop = threading.Event()
    errors = []

    def ask():
        while not stop.is_set():
            try:
                assert where(frames, 10) == pytest.approx(0.1)
            except MissingTransformError:
                errors.append('missing')

    thread = threading.Thread(target=ask)
    thread.start()
    drive(frames, range(40, 3000, 20))
    stop.set()
    thread.join()
    assert not errors


def test_a_file_of_extrinsics_is_read_and_a_wrong_one_refused(tmp_path):
    file = tmp_path / 'frames.yaml'
    file.write_text('extrinsics:\n- {parent: base, child: lidar, translation: [1, 2, 3]}\n')
    (found,) = read_extrinsics(file)
    assert found.translation == (1, 2, 3)
    file.write_text('extrinsics:\n- {parent: base, child: lidar, rotation: [1, 1, 1, 1]}\n')
    with pytest.raises(InputError, match='length 1'):
        read_extrinsics(file)


def test_messages_without_a_frame_do_not_share_one():
    with pytest.raises(MissingTransformError, match='does not name'):
        where(LiveFrames(), 0, '', '')
