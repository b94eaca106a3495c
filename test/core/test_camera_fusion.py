# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A sweep waits for cameras no longer than it may, and for a fusion that hangs not at all."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('cv2', reason='the cameras extra is not installed')

from reldistill_ros.cameras.live_frames import Instant
from reldistill_ros.cameras.looks import Look, Said
from reldistill_ros.cameras.opinions import single_rows
from reldistill_ros.cameras.visibility import Pairs
from reldistill_ros.core.zero_shot import Labels
from reldistill_ros.node.cameras.camera import Camera
from reldistill_ros.node.cameras.fusion import CameraFusion
from reldistill_ros.node.cameras.settings import CameraSettings

WORDS = object()
POINTS = np.ones((10, 4), np.float32)
LIDAR = Instant('lidar', 0)
LABELS = Labels(np.zeros(10, np.uint8), np.ones(10, np.float32), np.zeros(10, np.float32))
SWEEP = SimpleNamespace(labels=LABELS, words=WORDS)
COST = 0.008  # seconds of a camera's geometry


class Surroundings:
    """A clock that stands still but for the work on cameras, and what they see."""

    def __init__(self, ensemble_cost=0.0):
        self.now, self.ensemble_cost = 0.0, ensemble_cost
        self.num_seen = 10
        self.fused = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.encoder = SimpleNamespace(is_open=True)

    def find_visible(self, camera, look, points, lidar):
        self.now += COST
        return Pairs(
            np.arange(self.num_seen), np.zeros((self.num_seen, 2)), np.ones(self.num_seen)
        )

    def fuse(self, points, sweep, views):
        self.fused.append(len(views))
        self.now += self.ensemble_cost * len(views)
        assert self.go_on.wait(10)
        return sweep.labels

    def clock(self):
        return self.now


class Vague:
    table = np.zeros((1, 3), np.float32)

    def at(self, pixels):
        return single_rows(self.table, np.zeros(len(pixels), int), np.ones(len(pixels)))


def camera(name):
    made = Camera(name, CameraSettings(), 1000)
    said = Said(WORDS, Vague(), np.full((1, 3), 1 / 3, np.float32))
    encoded = SimpleNamespace(num_bytes=10, stretch=1.0)
    made.looks.add(Look(None, 0, 'camera', None, (4, 4), encoded=encoded, said=said))
    return made


def fusion(num, max_seconds, surroundings):
    cameras = [camera(f'c{index}') for index in range(num)]
    made = CameraFusion(
        cameras, surroundings, surroundings, max_seconds=max_seconds, clock=surroundings.clock
    )
    return made, cameras


def counts(cameras, key):
    return [int(camera.statistics.values().get(key, 0)) for camera in cameras]


def test_cameras_that_do_not_fit_are_left_out_and_come_first_the_next_time():
    around = Surroundings()
    fuse, cameras = fusion(5, 0.02, around)
    assert fuse(LIDAR, POINTS, SWEEP).cameras == (
        'c0 +0.000, c1 +0.000, c2 +0.000, c3 no_time, c4 no_time'
    )
    assert fuse(LIDAR, POINTS, SWEEP).cameras == (
        'c0 +0.000, c1 no_time, c2 no_time, c3 +0.000, c4 +0.000'
    )
    for _ in range(8):
        fuse(LIDAR, POINTS, SWEEP)
    assert counts(cameras, 'sweeps') == [6] * 5
    assert counts(cameras, 'left_out: no_time') == [4] * 5


def test_the_time_of_the_ensemble_is_foreseen():
    around = Surroundings(ensemble_cost=0.01)
    fuse, _ = fusion(5, 0.02, around)
    fuse(LIDAR, POINTS, SWEEP)
    fuse(LIDAR, POINTS, SWEEP)
    assert around.fused == [3, 2]


def test_one_camera_is_asked_even_without_time():
    around = Surroundings()
    fuse, cameras = fusion(3, 0.0, around)
    for _ in range(6):
        fuse(LIDAR, POINTS, SWEEP)
    assert counts(cameras, 'sweeps') == [2, 2, 2]


def test_a_camera_that_sees_no_point_is_left_out_with_a_question():
    around = Surroundings()
    around.num_seen = 0
    fuse, cameras = fusion(1, 1.0, around)
    assert fuse(LIDAR, POINTS, SWEEP).cameras == 'c0 sees_nothing'
    assert counts(cameras, 'left_out: sees_nothing') == [1]
    assert 'optical frame' in cameras[0].statistics.findings(None)[0][1]
    fuse(LIDAR, POINTS[:0], SWEEP)  # an empty cloud is no fault of the camera
    assert counts(cameras, 'left_out: sees_nothing') == [1]


def test_images_that_do_not_speak_the_words_of_the_sweep_are_not_used():
    around = Surroundings()
    fuse, _ = fusion(1, 1.0, around)
    newer = SimpleNamespace(labels=LABELS, words=object())
    assert fuse(LIDAR, POINTS, newer).cameras == 'c0 new_words'
    assert fuse(LIDAR, POINTS, SWEEP).cameras == 'c0 +0.000'


def test_while_a_fusion_hangs_sweeps_keep_the_labels_of_the_student():
    around = Surroundings()
    fuse, cameras = fusion(2, 1.0, around)
    around.go_on.clear()
    stuck = threading.Thread(target=lambda: fuse(LIDAR, POINTS, SWEEP))
    stuck.start()
    while not around.fused:
        pass
    answer = fuse(LIDAR, POINTS, SWEEP)
    assert (answer.labels, answer.cameras) == (LABELS, 'fusion_hangs')
    assert counts(cameras, 'left_out: fusion_hangs') == [1, 1]
    around.go_on.set()
    stuck.join()
    assert fuse(LIDAR, POINTS, SWEEP).cameras == 'c0 +0.000, c1 +0.000'
