# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Where a bundle may lie, and guarding what libraries raise."""

from __future__ import annotations

import threading

import pytest

from reldistill_ros.core.errors import InputError
from reldistill_ros.node.attempt import attempt, attempt_in_thread
from reldistill_ros.node.model import resolve_bundle
from reldistill_ros.node.parameters import NodeSettings


@pytest.fixture
def folders(tmp_path):
    (tmp_path / 'allowed' / 'bundle').mkdir(parents=True)
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'allowed' / 'link').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'way_in').symlink_to(tmp_path / 'allowed' / 'bundle')
    return tmp_path


def resolve(bundle, root=''):
    return resolve_bundle(NodeSettings(bundle=str(bundle), bundle_root=str(root)))


def test_without_a_root_a_bundle_may_lie_anywhere(folders):
    assert resolve(folders / 'elsewhere') == folders / 'elsewhere'


@pytest.mark.parametrize('path', ['allowed/bundle', 'allowed/../allowed/bundle', 'way_in'])
def test_a_bundle_inside_the_root_is_taken(folders, path):
    assert resolve(folders / path, folders / 'allowed') == folders / 'allowed' / 'bundle'


@pytest.mark.parametrize('path', ['elsewhere', 'allowed/../elsewhere', 'allowed/link', 'allowedx'])
def test_a_bundle_outside_the_root_is_refused_be_it_by_a_link(folders, path):
    with pytest.raises(InputError, match='bundle_root'):
        resolve(folders / path, folders / 'allowed')


def fail(error):
    raise error


@pytest.mark.parametrize(
    ('error', 'reason'),
    [
        (InputError('no bundle', where='here'), 'no bundle'),
        (RuntimeError('CUDA\nmore'), 'RuntimeError: CUDA'),
        (MemoryError(), 'MemoryError: '),
    ],
)
def test_a_failure_is_told_in_one_line(error, reason):
    outcome = attempt(lambda: fail(error))
    assert (outcome.value, outcome.error, outcome.reason) == (None, error, reason)


def test_a_call_in_a_thread_gives_its_value_or_its_error():
    assert attempt_in_thread(lambda: 3, lambda: True).value == 3
    assert attempt_in_thread(lambda: fail(OSError('x')), lambda: True).reason == 'OSError: x'


def test_nobody_waits_for_a_call_after_a_signal():
    gate = threading.Event()
    assert attempt_in_thread(lambda: gate.wait(30), lambda: False) is None
    gate.set()
