# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The node in this process, with a labeller that needs no model."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy', reason='rclpy is not installed')

import rclpy
from fake_node import FakeSource, HeightLabeller
from node_system import columns_of, random_points
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_client import make_cloud

from reldistill_ros.core.errors import InputError
from reldistill_ros.node.cameras.settings import CameraSettings
from reldistill_ros.node.declaring import limits_of
from reldistill_ros.node.parameters import DYNAMIC, NodeSettings
from reldistill_ros.node.run import ended_by_signal, spin
from reldistill_ros.segment_node import SegmentNode


def test_every_point_comes_back_in_order_with_its_label(start):
    system = start('intensity_max:=2.0')
    points = random_points()
    points[7] = np.nan
    cloud = make_cloud(points, height=5, sec=17, frame='top')
    system.client.clouds.publish(cloud)
    assert system.client.spin_until(lambda: system.client.received['segmentation'])
    answer = system.client.received['segmentation'][0]
    assert answer.header == cloud.header
    assert (answer.height, answer.width, answer.point_step) == (5, 10, 24)
    assert not answer.is_dense
    columns = columns_of(answer)
    truth = HeightLabeller()(points * np.float32([1, 1, 1, 0.5]))
    np.testing.assert_array_equal(columns['z'], points[:, 2])
    np.testing.assert_array_equal(columns['class_id'], truth.class_ids)
    np.testing.assert_array_equal(columns['probability'], truth.probabilities)
    np.testing.assert_array_equal(columns['entropy'], truth.entropies)
    assert columns['class_id'][7] == 255


def test_the_coloured_cloud_has_the_colours_of_the_classes(start):
    system = start(outputs=('visualization',))
    system.client.clouds.publish(make_cloud([[0, 0, 1.5, 0], [0, 0, 9, 0]]))
    assert system.client.spin_until(lambda: system.client.received['visualization'])
    rgb = columns_of(system.client.received['visualization'][0])['rgb'].view(np.uint32)
    assert [hex(value) for value in rgb] == ['0xa141e', '0x606060']


def test_nothing_is_computed_while_nobody_listens(start):
    system = start(outputs=())
    system.client.clouds.publish(make_cloud(random_points()))
    assert system.client.wait_for_value('not_requested', 1)
    assert system.calls == 0
    system.client.listen('segmentation')
    system.client.spin_until(lambda: False, 0.4)
    system.client.clouds.publish(make_cloud(random_points()))
    assert system.client.spin_until(lambda: system.client.received['segmentation'])
    assert system.calls == 1


def test_an_empty_cloud_gives_an_empty_cloud(start):
    system = start()
    system.client.clouds.publish(make_cloud(np.zeros((0, 4)), sec=5))
    assert system.client.spin_until(lambda: system.client.received['segmentation'])
    answer = system.client.received['segmentation'][0]
    assert (answer.width, len(answer.data), answer.header.stamp.sec) == (0, 0, 5)


def test_a_busy_node_drops_all_but_the_newest_sweep(start):
    system = start(labeller=HeightLabeller(delay=0.4), input_qos=20)
    for sec in range(1, 7):
        system.client.clouds.publish(make_cloud(random_points(), sec=sec))
        system.client.spin_until(lambda: False, 0.03)
    assert system.client.wait_for_value('labelled', 2)
    stamps = [cloud.header.stamp.sec for cloud in system.client.received['segmentation']]
    assert stamps == [1, 6]
    assert system.client.values()['dropped_busy'] == '4'
    assert system.client.values()['received'] == '6'


def malformed():
    short = make_cloud(random_points())
    short.data = short.data[:10]
    nameless = make_cloud(random_points())
    nameless.fields = nameless.fields[1:]
    huge = make_cloud(random_points())
    huge.width = 2**32 - 1
    return {'fewer bytes': short, "no field 'x'": nameless, 'too many points': huge}


@pytest.mark.parametrize(('words', 'cloud'), [*malformed().items()], ids=[*malformed()])
def test_a_malformed_cloud_is_counted_by_its_reason_and_the_node_goes_on(start, words, cloud):
    system = start()
    system.client.clouds.publish(cloud)
    assert system.client.wait_for_value('rejected', 1)
    assert any(words in key for key in system.client.values() if key.startswith('rejected:'))
    system.client.clouds.publish(make_cloud(random_points()))
    assert system.client.spin_until(lambda: system.client.received['segmentation'])
    assert system.calls == 1


def test_an_engine_that_breaks_on_a_sweep_does_not_end_the_node(start):
    system = start()
    system.client.clouds.publish(make_cloud([[666, 0, 0, 0]]))
    assert system.client.wait_for_value('failed', 1)
    levels = [array.status[0].level for array in system.client.diagnostics]
    assert b'\x02' in levels
    system.client.clouds.publish(make_cloud(random_points()))
    assert system.client.spin_until(lambda: system.client.received['segmentation'])


def test_the_meaning_of_the_classes_is_latched(start):
    system = start()
    info = json.loads(system.client.label_info[0].data)
    assert info['class_names'] == ['low', 'middle', 'high']
    assert info['colors'][2] == [20, 40, 60]
    assert info['unlabelled'] == 255
    assert info['revision'] == 'fake'


def test_a_publisher_whose_clouds_never_arrive_is_told_of_the_512_kib_limit(start):
    system = start('input_timeout:=0.2')
    assert system.client.spin_until(
        lambda: system.client.diagnostics and '512 KiB' in _message(system)
    )


def test_a_publisher_with_other_qos_is_named(start):
    system = start(
        'qos_overrides./segment_node/input/pointcloud.subscription.reliability:=reliable',
        input_qos=QoSProfile(depth=1),
    )
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    system.client.node.destroy_publisher(system.client.clouds)
    system.client.clouds = system.client.node.create_publisher(
        type(make_cloud([])), '/segment_node/input/pointcloud', best_effort
    )
    assert system.client.spin_until(lambda: 'QoS' in _message(system))


def _message(system):
    return system.client.diagnostics[-1].status[0].message


def test_every_parameter_is_described_and_read_only_but_those_about_words(start):
    system = start()
    names = list(NodeSettings.model_fields)
    for descriptor in system.node.describe_parameters(names):
        assert descriptor.description
        assert descriptor.read_only == (descriptor.name not in DYNAMIC)
    assert system.node.describe_parameters(['num_threads'])[0].integer_range[0].to_value == 256
    result = system.node.set_parameters([rclpy.parameter.Parameter('num_threads', value=1)])
    assert not result[0].successful


def test_the_parameter_file_names_every_parameter_with_its_default_and_range():
    text = (Path(__file__).parents[2] / 'config' / 'segment.yaml').read_text()
    written = yaml.safe_load(text)['/**']['ros__parameters']
    defaults = {name: field.default for name, field in NodeSettings.model_fields.items()}
    assert defaults.pop('bundle') == ''
    assert not defaults.pop('build_only')  # for a command line; in a file the node would just end
    defaults |= {name: [''] for name, value in defaults.items() if value == ()}
    assert written == defaults
    assert '# bundle: ' in text
    for name in defaults:
        field = NodeSettings.model_fields[name]
        comment = text.split(f' {name}:')[1]
        for limit in limits_of(field):
            assert f'{field.annotation(limit)}' in comment or limit == 0


def test_the_parameter_file_shows_every_parameter_of_a_camera_with_its_default_and_range():
    text = (Path(__file__).parents[2] / 'config' / 'segment.yaml').read_text()
    shown = text.partition('    # camera:\n')[2].partition('    # QoS')[0]
    lines = (line.replace('    # ', '', 1) for line in shown.splitlines())
    written = yaml.safe_load('\n'.join(lines))['front']
    defaults = {name: field.default for name, field in CameraSettings.model_fields.items()}
    assert written == defaults | {'extrinsics': [0.0] * 7}
    for name, field in CameraSettings.model_fields.items():
        for limit in limits_of(field):
            assert f'{field.annotation(limit)}' in shown.split(f' {name}:')[1] or limit == 0


def test_a_parameter_that_the_node_does_not_have_is_named_in_a_warning(start, capfd):
    start('num_thread:=3', 'use_sim_time:=true', 'qos_overrides./other.publisher.depth:=7')
    warning = next(line for line in capfd.readouterr().err.splitlines() if 'ignored' in line)
    assert 'no such parameters: num_thread; did you mean num_threads?' in warning


@pytest.mark.parametrize(
    ('parameters', 'words'),
    [
        ([], 'bundle'),
        (['bundle:=x', 'backend:=magic'], 'backend'),
        (['bundle:=x', 'intensity_max:=-1.0'], 'intensity_max'),
        (['bundle:=x', 'num_threads:=two'], 'num_threads'),
        (['bundle:=x', 'prompts:=[]'], 'empty list'),
        (['bundle:=x', 'prompts:=[car, car]'], 'twice'),
        (['bundle:=x', 'filter_classes:=[unicorn]'], 'unicorn'),
        (
            ['bundle:=x', 'qos_overrides./segment_node/input/pointcloud.subscription.depth:=two'],
            'subscription.depth',
        ),
    ],
)
def test_a_wrong_parameter_is_refused_with_its_name(parameters, words):
    rclpy.init(args=['--ros-args', *(word for p in parameters for word in ('-p', p))])
    try:
        with pytest.raises(InputError, match=words):
            SegmentNode(lambda settings: FakeSource(HeightLabeller())).autostart()
    finally:
        rclpy.try_shutdown()


@pytest.mark.parametrize('shutdown', [True, False])
def test_a_callback_may_fail_because_ros_has_ended_but_for_no_other_reason(shutdown):
    rclpy.init(args=['--ros-args', '-p', 'bundle:=x'])
    node = SegmentNode(lambda settings: FakeSource(HeightLabeller()))

    def callback():
        if shutdown:
            rclpy.shutdown()
        raise RuntimeError('rcl is gone')

    node.create_timer(0.01, callback)
    try:
        expected = nullcontext() if shutdown else pytest.raises(RuntimeError, match='gone')
        with expected, ended_by_signal():
            spin(node)
    finally:
        rclpy.try_shutdown()


def test_a_bundle_without_intensity_needs_the_parameter():
    labeller = HeightLabeller()
    labeller.intensity_max = None
    rclpy.init(args=['--ros-args', '-p', 'bundle:=x'])
    try:
        with pytest.raises(InputError, match='intensity_max'):
            SegmentNode(lambda settings: FakeSource(labeller)).autostart()
    finally:
        rclpy.try_shutdown()
