# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Overlays through the node: who looks gets the labels on the image, and nobody else costs."""

from __future__ import annotations

import io

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
pytest.importorskip('cv2', reason='the cameras extra is not installed')

from camera_client import (
    EXTRINSICS,
    HEIGHT,
    START,
    WIDTH,
    K,
    compressed,
    expected,
    forward_pose,
    picture,
    raw,
    scene,
    student,
)
from fake_node import HEIGHTS
from PIL import Image as Pillow
from ros_client import NODE, make_cloud
from sensor_msgs.msg import CompressedImage, Image

from reldistill_ros.cameras.overlay import OverlayStyle, draw_overlay
from reldistill_ros.cameras.transforms import invert
from reldistill_ros.cameras.visibility import PairingSettings, PinholeCamera, find_visible

GIVEN = f'camera.front.extrinsics:={EXTRINSICS}'


def listen(system, kind=Image, ending='', name='front'):
    received = []
    topic = f'{NODE}/output/{name}/overlay{ending}'
    system.client.node.create_subscription(kind, topic, received.append, 5)
    system.client.spin_until(lambda: False, 0.4)
    return received


def drawn(points, labels):
    scaled = points / np.float32([1, 1, 1, 255])
    camera = PinholeCamera((HEIGHT, WIDTH), K, invert(forward_pose()))
    pairs = find_visible(scaled, camera, PairingSettings())
    class_ids = labels.class_ids[pairs.point_indices]
    return draw_overlay(picture(), pairs, class_ids, HEIGHTS, OverlayStyle())


def pixels_of(message):
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)


def test_an_overlay_shows_the_labels_on_the_image_with_its_stamp_and_frame(begin):
    system = begin(GIVEN)
    received = listen(system)
    image = raw(START + 0.02)
    system.see(image)
    points = scene()
    system.label(points)
    assert system.client.spin_until(lambda: received)
    assert received[0].header == image.header
    assert (received[0].encoding, received[0].step) == ('rgb8', 3 * WIDTH)
    truth = drawn(points, expected(points, (0.02, forward_pose())))
    np.testing.assert_array_equal(pixels_of(received[0]), truth)


def test_overlays_need_no_encoder_and_count_as_somebody_who_listens(begin):
    system = begin(GIVEN, eye=False, compressed=True, outputs=())
    received = listen(system)
    points = scene()
    system.send(compressed())
    assert system.wait_for('decoded', 1)
    system.client.clouds.publish(make_cloud(points, sec=START))
    assert system.client.spin_until(lambda: received)
    np.testing.assert_array_equal(pixels_of(received[0]), drawn(points, student(points)))


def test_a_compressed_overlay_is_a_jpeg_of_the_same(begin):
    system = begin(GIVEN)
    received = listen(system, CompressedImage, '/compressed')
    system.see(raw())
    points = scene()
    system.label(points)
    assert system.client.spin_until(lambda: received)
    seen = np.asarray(Pillow.open(io.BytesIO(bytes(received[0].data))), dtype=int)
    truth = drawn(points, expected(points, (0.0, forward_pose())))
    assert seen.shape == truth.shape
    assert np.abs(seen - truth).mean() < 8


def test_nobody_looks_and_no_picture_is_kept_nor_drawn(begin):
    system = begin(GIVEN)
    system.see(raw())
    system.label(scene())
    assert system.wait_for('sweeps', 1)
    (camera,) = system.node._configured.cameras.cameras
    assert camera.looks.nearest_encoded(0).picture is None
    assert 'overlays' not in system.values()


def test_a_sweep_without_an_image_near_it_has_no_overlay(begin):
    system = begin(GIVEN)
    received = listen(system)
    system.see(raw())
    system.label(scene(), START + 5)
    assert system.wait_for('overlays_left_out', 1)
    system.label(scene(), START + 0.05)
    assert system.client.spin_until(lambda: received)
    assert len(received) == 1
