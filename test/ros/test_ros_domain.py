# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Processes that start at once do not hear one another."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from reldistill_ros.core.errors import InputError
from reldistill_ros.node import ros_domain
from reldistill_ros.node.ros_domain import own_domain

TAKE = 'from reldistill_ros.node.ros_domain import own_domain; print(own_domain(), flush=True)'
HOLD = f'{TAKE}; input()'
ROOT = Path(__file__).parents[2]


@pytest.fixture
def few(monkeypatch, tmp_path):
    """Three domains, and locks of our own."""
    ros_domain._take_domain.cache_clear()
    monkeypatch.setattr(ros_domain, 'DOMAINS', range(1, 4))
    monkeypatch.setattr(ros_domain.tempfile, 'gettempdir', lambda: str(tmp_path))
    yield
    ros_domain._take_domain.cache_clear()


def test_processes_that_start_at_once_get_domains_of_their_own(tmp_path):
    environment = {**os.environ, 'TMPDIR': str(tmp_path)}
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=environment,
            text=True,
        )
        for _ in range(8)
    ]
    domains = [int(process.stdout.readline()) for process in processes]
    assert len(set(domains)) == len(domains)
    for process in processes:
        process.communicate('\n')
        assert process.returncode == 0


def test_a_process_keeps_its_domain_and_a_fork_gets_another():
    mine = own_domain()
    assert own_domain() == mine
    assert ros_domain._take_domain(-1)[0] != mine
    ros_domain._take_domain(-1)[1].close()


def test_a_domain_of_a_process_that_has_ended_is_free_again(few, monkeypatch):
    monkeypatch.setattr(ros_domain, '_is_silent', lambda domain: True)
    taken = [ros_domain._take_domain(-number) for number in range(1, 4)]
    assert {domain for domain, _ in taken} == {1, 2, 3}
    with pytest.raises(InputError, match='all ROS domains are taken'):
        ros_domain._take_domain(-4)
    domain, lock = taken[1]
    lock.close()
    assert ros_domain._take_domain(-5)[0] == domain


def test_a_domain_where_somebody_listens_is_left_alone(few, monkeypatch):
    monkeypatch.setattr(ros_domain, 'DOMAINS', range(90, 92))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(('', 7400 + 250 * 90))
        assert own_domain() == 91
