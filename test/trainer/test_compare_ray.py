# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The same jobs on a Ray cluster of two nodes, both on this machine."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest
from tiny_plan import MODULES, arguments_of, edit, run_plan, starts, write_plan

from reldistill_ros.core.errors import InputError
from trainer.compare.compare import compare, open_comparison
from trainer.compare.expansion import expand
from trainer.compare.jobs import is_done

pytest.importorskip('ray', reason="Ray is not installed: pip install -e '.[cluster]'")
MEMORY = 80 << 20  # bytes, the least that Ray takes


@pytest.fixture(scope='module')
def commands(tmp_path_factory):
    """Where the stand-in commands are, on the path of all processes of the cluster."""
    folder = tmp_path_factory.mktemp('plan')
    write_plan(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', str(folder))
        patch.setenv('RAY_USAGE_STATS_ENABLED', '0')
        yield folder


@pytest.fixture(scope='module')
def cluster(commands):
    """Two nodes with one core each."""
    from ray.cluster_utils import Cluster

    node = {'num_cpus': 1, 'object_store_memory': MEMORY}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(**node)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def folder(commands, cluster):
    """A folder with a plan, the stand-in commands in it; what earlier tests ran is not in it."""
    write_plan(commands)
    for old in ('out', 'starts.log', 'break_similarity', 'meet'):
        if (commands / old).exists():
            (commands / old).rename(commands / f'{old}.{time.monotonic_ns()}')
    return commands


def test_a_plan_runs_on_both_nodes_and_a_second_start_repeats_nothing(folder, cluster):
    (folder / 'meet').mkdir()
    arguments = arguments_of(folder, ray=cluster.address)
    assert compare(arguments, MODULES) == 0
    jobs = expand(open_comparison(arguments, MODULES), ['main'])
    assert all(is_done(job) for job in jobs.values())
    assert len(starts(folder)) == 16
    assert compare(arguments, MODULES) == 0
    assert len(starts(folder)) == 16
    assert len(json.loads((folder / 'out/results.json').read_text())['rows']) == 4


def test_a_failure_on_the_cluster_is_isolated_and_reported(folder, cluster, capfd):
    (folder / 'break_similarity').touch()
    assert compare(arguments_of(folder, ray=cluster.address, only='*/seed0/*'), MODULES) == 1
    told = capfd.readouterr().err
    assert 'this loss is broken' in told
    entries = json.loads((folder / 'out/results.json').read_text())['jobs']
    assert entries['maps/relational/seed0/structure']['status'] == 'done'
    assert entries['maps/similarity/seed0/structure']['status'] == 'blocked'


def test_what_was_stopped_on_the_cluster_goes_on_without_it(folder, cluster):
    edit(folder / 'run.yaml', epochs=100)
    only = '*/relational/seed0/zero_shot'
    arguments = arguments_of(folder, ray=cluster.address, only=only)
    (job,) = (
        job
        for job in expand(open_comparison(arguments, MODULES), ['main']).values()
        if job.name == 'maps/relational/seed0/distil'
    )
    threading.Thread(target=interrupt_when, args=(job.result,), daemon=True).start()
    assert compare(arguments, MODULES) == 128 + signal.SIGINT
    steps = int(job.result.read_text())
    time.sleep(0.3)
    assert int(job.result.read_text()) == steps < 100
    assert run_plan(folder, only=only) == 0
    assert starts(folder)[:2] == [job.name, f'{job.name} --resume']


def interrupt_when(path, seconds=60):
    """Press Ctrl-C once a file is there."""
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)


def test_a_cluster_that_does_not_answer_is_an_input_error(folder):
    with pytest.raises(InputError, match='no Ray cluster answers'):
        compare(arguments_of(folder, ray='127.0.0.1:1'), MODULES)
