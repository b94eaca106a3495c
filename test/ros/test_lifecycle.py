# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The states of the node: what it holds in each, and how it comes back from errors."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')

from fake_node import FakeSource, HeightLabeller
from lifecycle_msgs.srv import GetState
from node_system import change, random_points
from ros_client import make_cloud

from reldistill_ros.core.errors import InputError
from reldistill_ros.replay.process_memory import resident_mb


def state(system):
    return system.client.call(GetState, 'get_state', GetState.Request()).current_state.label


def is_answered(system, sec, timeout=10.0):
    """Whether a cloud with that stamp comes back."""
    received = system.client.received['segmentation']
    received.clear()
    system.client.clouds.publish(make_cloud(random_points(), sec=sec))
    return system.client.spin_until(lambda: received, timeout)


def test_a_node_without_autostart_waits_and_goes_through_its_states(start):
    system = start(autostart=False)
    assert state(system) == 'unconfigured'
    assert system.client.wait_for_value('state', 'unconfigured')
    assert system.labeller.calls == 0
    assert change(system, 'configure')
    assert (state(system), system.labeller.calls) == ('inactive', 1)  # warm
    assert system.client.clouds.get_subscription_count() == 0
    assert change(system, 'activate')
    system.client.connect()
    assert is_answered(system, 1)
    assert change(system, 'deactivate')
    assert system.client.spin_until(lambda: system.client.clouds.get_subscription_count() == 0)
    assert change(system, 'cleanup')
    assert state(system) == 'unconfigured'


def test_deactivated_and_activated_again_it_goes_on(start):
    system = start()
    for sec in (1, 2, 3):
        assert is_answered(system, sec)
        assert change(system, 'deactivate')
        assert not is_answered(system, 99, timeout=0.3)
        assert change(system, 'activate')
        system.client.connect()
    assert system.labeller.calls == 1 + 3


def test_qos_parameters_are_taken_again_when_it_is_configured_again(start):
    system = start('qos_overrides./segment_node/input/pointcloud.subscription.depth:=3')
    for name in ('deactivate', 'cleanup', 'configure', 'activate'):
        assert change(system, name), name
    system.client.connect()
    assert is_answered(system, 1)
    assert system.node._active.subscription.qos_profile.depth == 3


def test_cleanup_lets_go_of_the_model_and_its_memory(start):
    labeller = HeightLabeller()
    labeller.weights = np.ones(50_000_000, np.float32)
    system = start(labeller=labeller)
    assert is_answered(system, 1)
    gone = weakref.ref(labeller)
    full = resident_mb(os.getpid())
    assert change(system, 'deactivate')
    system.labeller = None
    del labeller
    assert change(system, 'cleanup')
    system.client.spin_until(lambda: False, 0.1)
    gc.collect()
    assert gone() is None
    assert full - resident_mb(os.getpid()) > 180
    system.labeller = HeightLabeller()


@pytest.mark.parametrize('error', [InputError('no such bundle'), OSError('broken disk')])
def test_a_failed_configure_is_told_and_can_be_tried_again(start, error):
    system = start(autostart=False)
    good, system.labeller = system.labeller, None
    system.node._open_source = lambda settings: raise_(error)
    assert not change(system, 'configure')
    assert state(system) == 'unconfigured'
    assert system.client.spin_until(
        lambda: (
            system.client.diagnostics
            and str(error) in system.client.diagnostics[-1].status[0].message
        )
    )
    assert system.client.diagnostics[-1].status[0].level == b'\x02'
    system.labeller = good
    system.node._open_source = lambda settings: FakeSource(good)
    assert change(system, 'configure')
    assert change(system, 'activate')
    system.client.connect()
    assert is_answered(system, 1)


def raise_(error):
    raise error


def test_an_error_in_a_transition_leads_back_to_unconfigured(start, monkeypatch):
    system = start(autostart=False)
    assert change(system, 'configure')
    assert change(system, 'activate')
    destroy = system.node._active.destroy
    monkeypatch.setattr(
        system.node._active, 'destroy', lambda *_: destroy(1) and raise_(OSError())
    )
    assert not change(system, 'deactivate')
    assert state(system) == 'unconfigured'
    monkeypatch.undo()
    assert change(system, 'configure')
    assert change(system, 'activate')
    system.client.connect()
    assert is_answered(system, 1)


def test_shutdown_from_active_ends_its_threads(start):
    before = set(threading.enumerate())
    system = start()
    assert {'inference', 'words', 'engine'} <= {
        t.name for t in set(threading.enumerate()) - before
    }
    assert change(system, 'active_shutdown')
    assert state(system) == 'finalized'
    names = {thread.name for thread in set(threading.enumerate()) - before}
    assert not names & {'inference', 'words', 'engine'}


def test_what_was_in_work_when_it_was_deactivated_is_accounted_for(start):
    labeller = HeightLabeller(delay=2.0)
    system = start(labeller=labeller)
    for sec in (1, 2):
        system.client.clouds.publish(make_cloud(random_points(), sec=sec))
        system.client.spin_until(lambda: False, 0.2)
    assert change(system, 'deactivate')  # waits one second and no longer
    assert system.client.wait_for_value('dropped_deactivated', 2)
    assert system.client.values()['labelled'] == '0'
    system.client.spin_until(lambda: False, 1.5)
    assert not system.client.received['segmentation']
    system.node._ended = True  # the thread has come back since


def test_an_engine_that_breaks_down_is_opened_anew_without_a_restart(start):
    system = start('max_failures:=2')
    for sec in (1, 2):
        system.client.clouds.publish(make_cloud([[666, 0, 0, 0]], sec=sec))
        assert system.client.wait_for_value('failed', sec)
    assert system.client.spin_until(lambda: is_answered(system, 3, timeout=0.5))
    assert system.client.wait_for_value('failed: RuntimeError', 2)
    assert system.client.wait_for_value('engine', 'fused')


def test_a_node_in_its_second_best_engine_says_so_until_the_best_works_again(start):
    system = start('precision:=bfloat16', autostart=False)
    broken = {'fused'}

    class Source(FakeSource):
        def labeller(self, settings):
            if settings.backend in broken:
                raise RuntimeError('CUDA out of memory')
            return HeightLabeller()

    system.node._open_source = lambda settings: Source(None)
    assert change(system, 'configure')
    assert change(system, 'activate')
    system.client.connect()
    assert is_answered(system, 1)

    def status():
        return system.client.diagnostics[-1].status[0]

    assert system.client.spin_until(lambda: 'degraded to engine onnx' in status().message)
    assert 'CUDA out of memory' in status().message
    assert system.client.values()['precision'] == 'float32'  # onnx has no other
    broken.clear()
    assert system.client.wait_for_value('engine', 'fused', timeout=20)
    assert system.client.spin_until(lambda: 'degraded' not in status().message)
    assert system.client.values()['precision'] == 'bfloat16'
    assert is_answered(system, 2)


def test_an_inference_that_hangs_is_given_up_and_the_next_sweep_is_labelled(start):
    system = start('inference_timeout:=0.3')
    system.client.clouds.publish(make_cloud([[667, 0, 0, 0]], sec=1))
    assert system.client.wait_for_value('failed: stuck', 1)
    assert system.client.spin_until(lambda: is_answered(system, 2, timeout=0.5))
    assert not system.node.stop(0.1)  # one thread hangs still: the process ends without it
    system.node._ended = True
