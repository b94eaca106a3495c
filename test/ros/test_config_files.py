# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The files in config/ that name topics of the node: each name is one that it has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from reldistill_ros.core.settings import parse_settings
from reldistill_ros.node.cameras.settings import CameraSettings
from reldistill_ros.node.parameters import NodeSettings

CONFIG = Path(__file__).parents[2] / 'config'
PRESETS = sorted((CONFIG / 'topics').glob('*.yaml'))
NODE = '/segment_node'


def allowed(enclave, tag, kind):
    """Names that the SROS2 policy allows an enclave."""
    root = ElementTree.parse(CONFIG / 'sros2' / 'policy.xml').getroot()
    profile = next(e for e in root.iter('enclave') if e.get('path') == enclave)
    return {
        item.text for group in profile.iter(tag) if group.get(kind) == 'ALLOW' for item in group
    }


def test_the_policy_allows_the_node_all_that_it_does_and_nothing_else(start):
    # a name of its own: the graph may still hold the node of another test
    name = 'the_only_one'
    remappings = ('-r', f'segment_node:__node:={name}')
    system = start('use_sim_time:=true', autostart=False, outputs=(), remappings=remappings)
    system.node.autostart()
    own, node = '/reldistill/segment_node', system.node

    def of_graph(kind):
        found = getattr(node, f'get_{kind}_names_and_types_by_node')(name, '/')
        return {topic.replace(f'/{name}/', f'{NODE}/') for topic, _ in found}

    publishes, hears, serves = map(of_graph, ('publisher', 'subscriber', 'service'))
    # where vision_msgs is not installed, its topic is not there; this node's input is not remapped
    assert publishes | {f'{NODE}/label_info/vision'} == allowed(own, 'topics', 'publish')
    hears = {'/lidar/points' if name == f'{NODE}/input/pointcloud' else name for name in hears}
    assert hears | {'/parameter_events'} == allowed(own, 'topics', 'subscribe')
    assert serves == allowed(own, 'services', 'reply')


def test_what_the_operator_may_ask_for_the_node_may_answer():
    own, other = '/reldistill/segment_node', '/reldistill/operator'
    assert allowed(other, 'services', 'request') == allowed(own, 'services', 'reply')
    heard = allowed(other, 'topics', 'subscribe') - {'/clock'}
    assert heard == allowed(own, 'topics', 'publish')


@pytest.mark.parametrize('file', ['rviz/segment.rviz', 'foxglove/segment.json'])
def test_the_layouts_show_topics_of_the_node(file):
    text = (CONFIG / file).read_text(encoding='utf-8')
    named = set(re.findall(rf'{NODE}/[a-z_/]+', text))
    assert named
    assert named <= allowed('/reldistill/segment_node', 'topics', 'publish')


def test_the_layouts_can_be_read():
    layout = json.loads((CONFIG / 'foxglove' / 'segment.json').read_text())
    shown = re.findall(r'"(\w+!\w+)"', json.dumps(layout['layout']))
    assert set(shown) == set(layout['configById'])
    rviz = yaml.safe_load((CONFIG / 'rviz' / 'segment.rviz').read_text())
    displays = rviz['Visualization Manager']['Displays']
    cloud = next(display for display in displays if display['Name'] == 'Labels')
    assert cloud['Color Transformer'] == 'RGB8'


@pytest.mark.parametrize('path', PRESETS, ids=lambda path: path.stem)
def test_every_topic_preset_names_topics_of_clouds(path):
    topics = yaml.safe_load(path.read_text(encoding='utf-8'))['lidar_topics']
    assert all(topic.startswith('/') for topic in topics)


@pytest.mark.parametrize('path', PRESETS, ids=lambda path: path.stem)
def test_every_camera_of_a_preset_has_topics_and_settings_that_the_node_takes(path):
    node = yaml.safe_load(path.read_text(encoding='utf-8')).get('node', {'cameras': {}})
    assert {*node} <= {'cameras', 'fixed_frame'}
    NodeSettings(bundle='x', cameras=tuple(node['cameras']))
    for name, camera in node['cameras'].items():
        assert camera.pop('image').startswith('/')
        assert camera.pop('camera_info').startswith('/')
        settings = parse_settings(camera, CameraSettings, name)
        # several cameras are encoded in turn; where the motion is known, that costs little
        assert ('fixed_frame' in node) == (settings.window > CameraSettings().window)
