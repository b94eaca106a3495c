# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Cameras in the node: their opinions in the labels are those of the offline ensemble."""

from __future__ import annotations

import gc
import weakref

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
pytest.importorskip('cv2', reason='the cameras extra is not installed')

from camera_client import (
    EXTRINSICS,
    FORWARD,
    POSE,
    START,
    camera_info,
    check,
    compressed,
    expected,
    forward_pose,
    raw,
    scene,
    student,
    transform,
)
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_client import NODE
from test_words_control import set_prompts

from reldistill_ros.cameras.transforms import from_quaternion
from reldistill_ros.node.cameras.camera import Camera
from reldistill_ros.node.cameras.settings import CameraSettings
from reldistill_ros.node.cameras.statistics import CameraStatistics

GIVEN = f'camera.front.extrinsics:={EXTRINSICS}'


@pytest.mark.parametrize('is_compressed', [False, True])
def test_labels_with_a_camera_are_those_of_the_offline_ensemble(begin, is_compressed):
    system = begin(GIVEN, compressed=is_compressed)
    system.see(compressed() if is_compressed else raw())
    points = scene()
    answer = system.label(points)
    truth = expected(points, (0.0, forward_pose()))
    check(answer, truth)
    assert (truth.class_ids != student(points).class_ids).sum() > 50  # the camera has a say
    assert system.wait_for('share_of_sweeps', '1.00')
    assert system.values()['age_p50_ms'] == '0.0'


def test_two_cameras_are_asked_together_and_one_alone_where_the_other_is_late(begin):
    left = (0.0, 0.5, 0.0)
    system = begin(
        GIVEN,
        f'camera.left.extrinsics:={[*left, *FORWARD]}',
        'camera.left.window:=0.5',
        names=('front', 'left'),
    )
    system.see(raw(START - 0.05))
    system.see(raw(START + 0.25), 'left')
    points = scene()
    both = (0.05, forward_pose()), (0.25, forward_pose(left))
    check(system.label(points), expected(points, *both))
    later = (0.05, forward_pose(left))
    check(system.label(points, START + 0.3), expected(points, later))  # front: 0.35 s ago
    assert system.wait_for('left_out: no_image_near', 1)
    assert system.values('left')['sweeps'] == '2'


def test_each_sweep_tells_which_cameras_took_part(begin):
    system = begin(GIVEN, names=('front', 'left'))
    sweeps = []
    system.client.node.create_subscription(
        DiagnosticArray, f'{NODE}/debug/sweeps', sweeps.append, 10
    )
    system.client.spin_until(lambda: False, 0.4)
    system.see(raw(START + 0.02))
    system.label(scene())
    assert system.client.spin_until(lambda: sweeps)
    values = {entry.key: entry.value for entry in sweeps[0].status[0].values}
    assert values['cameras'] == 'front +0.020, left no_image'
    assert float(values['fusion_ms']) > 0


def test_the_offset_of_a_camera_is_added_to_its_stamps(begin):
    system = begin(GIVEN, 'camera.front.offset:=-0.4', 'camera.front.window:=0.01')
    system.see(raw(START + 0.4))
    points = scene()
    check(system.label(points), expected(points, (0.0, forward_pose())))


def test_the_nearest_of_several_images_is_taken(begin):
    system = begin(GIVEN, 'camera.front.window:=1.0')
    for age in (-0.3, 0.1, 0.6):
        system.see(raw(START + age))
    points = scene()
    check(system.label(points), expected(points, (0.1, forward_pose())))
    check(system.label(points, START + 0.5), expected(points, (0.1, forward_pose())))


def test_without_a_transform_the_student_labels_alone_until_it_comes(begin):
    system = begin()
    system.see(raw())
    points = scene()
    check(system.label(points), student(points))
    assert system.wait_for('left_out: no_transform', 1)
    assert system.client.spin_until(lambda: 'does not connect' in system.status().message)
    assert system.status().level == b'\x01'
    frames = system.node._configured.cameras.frames
    frames.add([transform(0, 'base_link', 'front_optical', POSE, FORWARD)], is_static=True)
    check(system.label(points, START + 0.01), student(points))
    frames.add([transform(0, 'base_link', 'lidar', (0, 0, 0))], is_static=True)
    answer = system.label(points, START + 0.02)
    check(answer, expected(points, (0.02, forward_pose())))


def test_without_tf2_msgs_the_diagnostics_say_what_to_do(begin):
    if __import__('importlib.util').util.find_spec('tf2_msgs'):
        pytest.skip('tf2_msgs is installed')
    system = begin()
    assert system.client.spin_until(
        lambda: system.status() and 'tf2_msgs' in system.status().message
    )


def test_frames_may_be_placed_by_a_file_and_a_camera_needs_no_camera_info(begin, tmp_path):
    (tmp_path / 'frames.yaml').write_text(
        f'extrinsics:\n- {{parent: lidar, child: front_optical, translation: {list(POSE)}, '
        f'rotation: {list(FORWARD)}}}\n'
    )
    (tmp_path / 'ost.yaml').write_text(
        'image_width: 64\nimage_height: 48\ncamera_name: front\n'
        'camera_matrix: {rows: 3, cols: 3, data: [40.0, 0, 32, 0, 40.0, 24, 0, 0, 1]}\n'
        'distortion_model: plumb_bob\n'
        'distortion_coefficients: {rows: 1, cols: 5, data: [0, 0, 0, 0, 0]}\n'
    )
    system = begin(
        f'extrinsics_file:={tmp_path / "frames.yaml"}',
        f'camera.front.calibration:={tmp_path / "ost.yaml"}',
        autostart=False,
    )
    system.node.autostart()
    system.client.connect()
    system.client.spin_until(lambda: system.images['front'].get_subscription_count() > 0)
    system.images['front'].publish(raw())
    assert system.wait_for('encoded', 1)
    points = scene()
    check(system.label(points), expected(points, (0.0, forward_pose())))


@pytest.mark.parametrize('is_given', [True, False])
def test_a_robot_that_moves_between_image_and_sweep_is_compensated(begin, is_given):
    given = (GIVEN,) if is_given else ()
    system = begin('fixed_frame:=odom', *given)
    frames = system.node._configured.cameras.frames
    frames.add(
        [
            transform(0, 'base_link', 'lidar', (1.0, 0, 0)),
            transform(0, 'lidar', 'front_optical', POSE, FORWARD),
        ],
        is_static=True,
    )
    system.see(raw(START))
    points = scene()
    check(system.label(points, START + 0.05), student(points))  # where it was is not known yet
    assert system.wait_for('left_out: no_transform', 1)
    for age in (-0.05, 0.15):  # 10 m/s forward
        frames.add(
            [transform(START + age, 'odom', 'base_link', (100 + 10 * age, 0, 0))], is_static=False
        )
    there = from_quaternion((0, 0, 0, 1), (-1.0, 0, 0)) @ forward_pose()
    check(system.label(points, START + 0.1), expected(points, (0.1, there)))
    # in the last image's future nothing is known of the motion
    check(system.label(points, START + 0.16), student(points))
    assert system.wait_for('left_out: no_image_near', 1)


def test_after_a_jump_of_time_nothing_of_before_is_used(begin):
    system = begin('use_sim_time:=true', 'fixed_frame:=odom', GIVEN)
    system.see(raw(START))
    cameras = system.node._configured.cameras
    cameras.frames.add([transform(START, 'odom', 'lidar', (0, 0, 0))], is_static=False)
    points = scene()
    check(system.label(points), expected(points, (0.0, forward_pose())))
    system.node._on_jump()
    check(system.label(points, START), student(points))
    assert system.wait_for('left_out: no_image', 1)


def test_other_words_are_never_compared_with_opinions_on_the_old_ones(begin):
    system = begin(GIVEN)
    system.see(raw())
    points = scene()
    system.label(points)
    assert all(prompts.shape == (3, 3) for prompts in system.eye.prompts)
    system.eye.prompts.clear()
    assert set_prompts(system, prompts=['one', 'two', 'three', 'four'])[0]
    words = system.node._configured.model.engine.labeller.words
    truth = expected(points, (0.01, forward_pose()), words=words.vocabulary)
    check(system.label(points, START + 0.01), expected(points, words=words.vocabulary))
    assert system.wait_for('left_out: new_words', 1)
    assert system.client.spin_until(lambda: system.eye.prompts)
    system.client.spin_until(lambda: False, 0.2)
    check(system.label(points, START + 0.01), truth)
    assert {prompts.shape for prompts in system.eye.prompts} == {(4, 4)}
    assert all(prompts is words.prompt_embeddings for prompts in system.eye.prompts)


def test_transforms_come_in_over_tf_and_tf_static(begin):
    messages = pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is not installed')
    system = begin('fixed_frame:=odom')
    node = system.client.node
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    static = node.create_publisher(messages.TFMessage, '/tf_static', latched)
    moving = node.create_publisher(messages.TFMessage, '/tf', 100)
    publishers = (static, moving)
    assert system.client.spin_until(lambda: all(p.get_subscription_count() for p in publishers))
    placed = [transform(0, 'lidar', 'front_optical', POSE, FORWARD)]
    static.publish(messages.TFMessage(transforms=placed))
    for age in (-0.05, 0.15):
        pose = transform(START + age, 'odom', 'lidar', (10 * age, 0, 0))
        moving.publish(messages.TFMessage(transforms=[pose]))
    system.see(raw())
    points = scene()
    there = from_quaternion((0, 0, 0, 1), (-1.0, 0, 0)) @ forward_pose()
    check(system.label(points, START + 0.1), expected(points, (0.1, there)))


def test_the_maps_of_a_lens_are_freed_when_the_calibration_changes_and_with_the_camera():
    camera = Camera('front', CameraSettings(), max_pixels=10**6)
    maps = []
    for number in range(3):
        camera.take_info(camera_info(d=[-0.1 - 0.01 * number, 0.0, 0.0, 0.0, 0.0]))
        camera.look(raw(START + 0.01 * number), keeps_picture=False)
        maps.append(weakref.ref(camera._model[1].value.maps))
    assert [found() is None for found in maps] == [True, True, False]
    assert all(look.model.maps is None for look in camera.looks._all())
    kept = camera.looks
    del camera
    gc.collect()
    assert maps[-1]() is None
    assert len(kept._all()) == 3


def test_a_camera_that_takes_part_in_few_sweeps_is_an_alarm():
    statistics = CameraStatistics()

    def sweep(took_part):
        if took_part:
            statistics.took_part(0.0)
        else:
            statistics.left_out('no_image_near', 'the nearest image is too old')

    for number in range(20):
        sweep(took_part=number % 3 == 0)
    ((level, told),) = statistics.findings(None)
    assert level == 1
    assert told == 'takes part in 35% of the sweeps only: the nearest image is too old'
    for number in range(40):
        sweep(took_part=number % 3)
    assert statistics.findings(None) == []
    for _ in range(40):
        sweep(took_part=False)
    ((_, told),) = statistics.findings(None)
    assert told.startswith('left out of all 40 sweeps')
    statistics.activated()  # begins anew
    sweep(took_part=True)
    assert statistics.findings(None) == []
