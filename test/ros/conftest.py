# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Tests of nodes: one ROS domain of our own, nothing leaves the machine, large clouds pass."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

HAS_ROS = importlib.util.find_spec('rclpy') is not None


@pytest.fixture(scope='session', autouse=True)
def environment():
    """Before anything initialises ROS in this process; child processes inherit it."""
    if HAS_ROS:
        from reldistill_ros.node.process import isolated_environment

        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get('PYTHONPATH')]))
        os.environ.update(isolated_environment(), PYTHONPATH=path)


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    """The ladder of engines is the same on every machine."""
    monkeypatch.setattr('reldistill_ros.node.parameters.has_cuda_device', lambda: False)


@pytest.fixture
def start():
    """Start a node and a client, see `node_system.System`; they are stopped at the end."""
    from node_system import System

    systems = []

    def start(*parameters, **options):
        systems.append(System(*parameters, **options))
        return systems[-1]

    yield start
    for system in systems:
        system.close()


@pytest.fixture
def begin():
    """Start a node with cameras, see `camera_client.CameraSystem`; they are stopped at the end."""
    from camera_client import CameraSystem

    systems = []

    def begin(*parameters, **options):
        systems.append(CameraSystem(*parameters, **options))
        return systems[-1]

    yield begin
    for system in systems:
        system.release()
        system.close()
