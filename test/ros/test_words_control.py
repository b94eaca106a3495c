# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Other words while clouds flow: validated, atomic, off the inference thread, and paired."""

from __future__ import annotations

import json
import re
import threading
import time

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')

from fake_node import FakeEncoder
from node_system import change, columns_of, random_points
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from ros_client import make_cloud

from reldistill_ros.node.stamps import stamp_ns_of

NAMES = ['low', 'middle', 'high', 'cloud', 'Mond', '月']


def message(name, value):
    kind = Parameter.Type.STRING_ARRAY if isinstance(value, list) else None
    return Parameter(name, kind, value).to_parameter_msg()


def set_prompts(system, timeout=10.0, **values):
    """Call `~/set_prompts`; returns whether it succeeded, and the reason."""
    request = SetParametersAtomically.Request()
    request.parameters = [message(name, value) for name, value in values.items()]
    result = system.client.call(SetParametersAtomically, 'set_prompts', request, timeout).result
    return result.successful, result.reason


def set_parameter(system, name, value):
    request = SetParameters.Request(parameters=[message(name, value)])
    result = system.client.call(SetParameters, 'set_parameters', request).results[0]
    return result.successful, result.reason


def parameter(system, name):
    request = GetParameters.Request(names=[name])
    return system.client.call(GetParameters, 'get_parameters', request).values[0]


def label_one(system, sec):
    received = system.client.received['segmentation']
    before = len(received)
    system.client.clouds.publish(make_cloud([[0, 0, 0.5, 0]], sec=sec))
    assert system.client.spin_until(lambda: len(received) > before)


def last_info(system):
    return json.loads(system.client.label_info[-1].data)


def test_the_service_answers_when_the_words_are_in_force_with_their_revision(start):
    system = start()
    label_one(system, 5)
    successful, reason = set_prompts(system, prompts=NAMES)
    assert successful
    assert reason == json.dumps(NAMES)
    assert system.node._configured.model.engine.labeller.words.revision == reason
    assert parameter(system, 'prompts').string_array_value == NAMES
    label_one(system, 6)
    assert system.client.spin_until(lambda: last_info(system)['class_names'] == NAMES)
    assert last_info(system)['since'] == {'sec': 6, 'nanosec': 0}
    assert set_prompts(system, prompts=NAMES) == (True, 'these words are in force already')
    assert len(system.encoder.encoded) == 1


def test_the_parameters_alone_change_the_words_too(start):
    system = start()
    assert set_parameter(system, 'prompts', ['a', 'b'])[0]
    assert system.client.wait_for_value('num_classes', 2)
    assert set_parameter(system, 'prompts', [''])[0]  # back to those of the bundle
    assert system.client.wait_for_value('words_revision', 'fake')


def test_words_given_at_the_start_are_there_from_the_first_cloud(start):
    system = start('prompts:=[one, "two: zwei, deux"]', 'prompt_templates:=["a {}"]')
    assert last_info(system)['class_names'] == ['one', 'two']
    assert last_info(system)['prompts'] == [['one'], ['zwei', 'deux']]
    assert system.encoder.encoded[0].templates == ('a {}',)


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ({'prompts': ['car', '']}, 'empty'),
        ({'prompts': ['car', 'Car ']}, 'twice'),
        ({'prompts': [f'class {number}' for number in range(256)]}, 'too many'),
        ({'prompts': ['x' * 5000]}, 'too long'),
        ({'prompt_templates': ['no place for the word']}, r'\{\}'),
        ({'unknown_share': 0.9}, 'unknown_share'),
        ({'unknown_share': 'much'}, 'unknown_share|type'),
        ({'prompts': 'car'}, 'prompts|type'),
        ({'filter_classes': ['unicorn']}, 'unicorn'),
        ({'prompts': ['car'], 'filter_classes': ['low']}, 'filter_classes'),
        ({'num_threads': 3}, 'num_threads'),
        ({}, 'expected some of'),
    ],
)
def test_words_that_cannot_be_used_change_nothing(start, values, words):
    system = start()
    successful, reason = set_prompts(system, **values)
    assert not successful
    assert re.search(words, reason)
    assert not system.encoder.encoded
    assert parameter(system, 'prompts').string_array_value == []
    label_one(system, 1)
    assert last_info(system)['revision'] == 'fake'


def test_words_that_the_encoder_does_not_know_leave_the_old_ones_and_their_parameters(start):
    system = start()
    assert set_prompts(system, prompts=['a', 'b'], filter_classes=['b'])[0]
    successful, reason = set_prompts(system, prompts=['gibberish'], filter_classes=['gibberish'])
    assert not successful
    assert 'gibberish' in reason
    assert parameter(system, 'prompts').string_array_value == ['a', 'b']
    assert parameter(system, 'filter_classes').string_array_value == ['b']
    label_one(system, 1)
    assert system.client.spin_until(lambda: last_info(system)['class_names'] == ['a', 'b'])
    assert set_prompts(system, prompts=['c'], filter_classes=[''])[0]


def test_without_a_text_encoder_the_node_works_and_says_why_it_knows_no_other_words(start):
    class NoEncoder:
        def __call__(self, vocabulary, unknown_share):
            raise OSError('no encoder')

    system = start(encoder=NoEncoder())
    successful, reason = set_prompts(system, prompts=['a'])
    assert not successful
    assert 'no encoder' in reason
    label_one(system, 1)


def test_of_many_requests_by_parameter_the_newest_wins_and_few_are_encoded(start):
    system = start(encoder=FakeEncoder(delay=0.3))
    for number in range(1, 10):
        assert set_parameter(system, 'prompts', [f'{i}' for i in range(number)])[0]
    assert system.client.wait_for_value('num_classes', 9)
    assert len(system.encoder.encoded) < 9


def test_clouds_are_labelled_and_ros_is_answered_while_words_are_encoded(start):
    system = start(encoder=FakeEncoder(delay=1.0))
    assert set_parameter(system, 'prompts', ['a'])[0]
    started = time.monotonic()
    for sec in range(1, 4):
        label_one(system, sec)
        assert last_info(system)['revision'] == 'fake'
    assert parameter(system, 'prompts').string_array_value == ['a']
    assert time.monotonic() - started < 1.0 or system.encoder.encoded
    assert system.client.wait_for_value('words_revision', '["a"]')


def test_cleanup_in_the_middle_of_a_change_answers_the_caller(start):
    system = start(encoder=FakeEncoder(delay=0.7))
    request = SetParametersAtomically.Request(parameters=[message('prompts', ['a'])])
    client = system.client.node.create_client(SetParametersAtomically, '/segment_node/set_prompts')
    assert client.wait_for_service(5)
    future = client.call_async(request)
    assert system.client.wait_for_value('words_are_being_encoded', True)
    assert change(system, 'deactivate')
    assert change(system, 'cleanup')
    assert system.client.spin_until(future.done, 5)
    assert not future.result().result.successful
    assert 'cleaned up' in future.result().result.reason
    assert set_prompts(system, prompts=['a']) == (False, 'the node is not configured')
    assert parameter(system, 'prompts').string_array_value == ['a']  # for the next configure
    assert change(system, 'configure')
    assert change(system, 'activate')
    assert system.client.wait_for_value('words_revision', '["a"]')


def test_fifty_changes_under_load_lose_no_sweep_and_pair_every_cloud_with_its_words(start):
    system = start('diagnostics_period:=0.1')
    client, names = system.client, [f'class {number}' for number in range(60)]
    points = random_points()
    points[:, 2] = range(len(points))  # one point in each class: the highest id tells the words
    period, stop = 0.02, threading.Event()
    stamps = []

    def send():
        while not stop.is_set():
            stamps.append(1 + len(stamps))
            client.clouds.publish(make_cloud(points, sec=stamps[-1]))
            time.sleep(period)

    sender = threading.Thread(target=send)
    sender.start()
    changes = [3 + number % 40 for number in range(50)]
    for number in changes:
        successful, reason = set_prompts(system, prompts=names[:number])
        assert (successful, json.loads(reason)) == (True, names[:number])
        before = len(client.label_info)  # at least one cloud with them, so that each is told
        assert client.spin_until(lambda: len(client.label_info) > before or _told(system, reason))  # noqa: B023
    stop.set()
    sender.join()
    assert client.spin_until(lambda: not _in_flight(system, len(stamps)))
    infos = [json.loads(text.data) for text in client.label_info]
    assert len(infos) == 1 + len(changes)
    for cloud in client.received['segmentation']:
        stamp = stamp_ns_of(cloud)
        info = [i for i in infos if i['since']['sec'] * 10**9 + i['since']['nanosec'] <= stamp][-1]
        class_ids = columns_of(cloud)['class_id']
        assert max(class_ids[class_ids < 255]) == len(info['class_names']) - 1
    values = client.values()
    assert int(values['dropped']) == int(values['dropped_busy'])  # never for the words
    assert int(values['failed']) == int(values['rejected']) == 0


def _told(system, revision):
    return last_info(system)['revision'] == revision


def _in_flight(system, sent):
    values = {
        name: int(value) for name, value in system.client.values().items() if value.isdigit()
    }
    return values['received'] - values['labelled'] - values['dropped']
