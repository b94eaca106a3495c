# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Many bags are replayed once each, and one report tells which of them are good enough."""

from __future__ import annotations

import argparse
import json

import pytest
import yaml

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import load_settings
from reldistill_ros.replay.options import parse_options
from trainer.replay_bags import ReplayPlan, expand, options_of, replay_bags

# stands in for the replay: takes no time, and says what the file beside the bag tells it to
REPLAY = """
import json, sys, time
from pathlib import Path
bag, out = Path(sys.argv[1]), Path(sys.argv[sys.argv.index('--out') + 1])
with (Path(__file__).parent / 'starts.log').open('a') as log:
    log.write(bag.name + '\\n')
values = json.loads((bag / 'says.json').read_text())
time.sleep(values.pop('seconds', 0))
if values.pop('broken', False):
    sys.exit('this bag is broken')
out.mkdir(parents=True, exist_ok=True)
(out / 'replay.json').write_text(json.dumps(values))
"""
SUMMARY = {
    'mode': 'live',
    'frames_in': 10,
    'frames_dropped': 0,
    'unaccounted_sweeps': 0,
    'drops': {'busy': 0},
    'latency_ms': {'p50': 20.0, 'p95': 40.0},
    'miou': 0.7,
}


def says(folder, name, **changes):
    """What the stand-in will say of a bag."""
    (folder / name).mkdir(exist_ok=True)
    (folder / name / 'says.json').write_text(json.dumps({**SUMMARY, **changes}))


def write_plan(folder, **changes):
    plan = {
        'bundle': 'bundle',
        'options': {'rate': 'auto'},
        'require': ['latency_ms.p95<=50', 'miou >= 0.5'],
        'bags': {name: {'path': name} for name in ('city', 'forest')},
    }
    (folder / 'plan.yaml').write_text(yaml.safe_dump({**plan, **changes}))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / 'fake_replay.py').write_text(REPLAY)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    (tmp_path / 'bundle').mkdir()
    (tmp_path / 'bundle/manifest.json').write_text('{}')
    write_plan(tmp_path)
    for name in ('city', 'forest'):
        says(tmp_path, name)
    return tmp_path


def run(folder, **given):
    defaults = {'only': None, 'workers': 2, 'ray': None}
    arguments = argparse.Namespace(
        plan=folder / 'plan.yaml', data=folder, out=folder / 'out', **{**defaults, **given}
    )
    return replay_bags(arguments, 'fake_replay')


def starts(folder):
    return sorted((folder / 'starts.log').read_text().split())


def bags_of(folder):
    return json.loads((folder / 'out/results.json').read_text())['bags']


def test_every_bag_is_replayed_once_and_linked(folder):
    assert run(folder) == 0
    assert run(folder) == 0
    assert starts(folder) == ['city', 'forest']
    entry = bags_of(folder)['city']
    assert (entry['status'], entry['passed']) == ('done', True)
    assert entry['numbers']['latency_ms.p95'] == 40.0
    table = (folder / 'out/table.md').read_text().splitlines()
    assert [line.split(' | ')[0] for line in table[2:]] == ['| city', '| forest', '| all']
    page = (folder / 'out/index.html').read_text()
    for name in ('city', 'forest'):
        assert f'href="jobs/{name}/out/replay.html"' in page


def test_a_bag_that_does_not_meet_a_requirement_fails_the_run_and_is_named(folder):
    says(folder, 'forest', miou=0.4)
    assert run(folder) == 1
    assert [entry['passed'] for entry in bags_of(folder).values()] == [True, False]
    page = (folder / 'out/index.html').read_text()
    assert 'miou &gt;= 0.5' in page


def test_other_requirements_are_compared_without_playing_anything_again(folder):
    assert run(folder) == 0
    write_plan(folder, require=['miou>=0.8'])
    assert run(folder) == 1
    assert starts(folder) == ['city', 'forest']


def test_a_broken_bag_stops_no_other_one(folder, capfd):
    says(folder, 'city', broken=True)
    assert run(folder, workers=1) == 1
    assert 'this bag is broken' in capfd.readouterr().err
    assert {name: entry['status'] for name, entry in bags_of(folder).items()} == {
        'city': 'failed',
        'forest': 'done',
    }
    says(folder, 'city')
    assert run(folder) == 0
    assert starts(folder) == ['city', 'city', 'forest']


@pytest.mark.parametrize('change', ['options', 'bundle', 'bag'])
def test_what_other_settings_made_is_set_aside_and_made_anew(folder, change):
    assert run(folder) == 0
    if change == 'options':
        write_plan(folder, options={'rate': 0.5})
    elif change == 'bundle':
        (folder / 'bundle/manifest.json').write_text('{"other": 1}')
    else:
        for name in ('city', 'forest'):
            says(folder, name, frames_in=100)
    assert run(folder) == 0
    assert starts(folder) == ['city', 'city', 'forest', 'forest']
    assert len([*(folder / 'out/outdated').iterdir()]) == 2


def test_only_the_bags_that_are_asked_for_are_replayed(folder):
    assert run(folder, only='c*') == 0
    assert starts(folder) == ['city']
    assert bags_of(folder)['forest']['status'] == 'not asked for'


def test_the_options_of_a_bag_go_before_those_of_all_and_the_replay_understands_them(folder):
    (folder / 'odd name').mkdir()
    write_plan(
        folder,
        options={'rate': 'auto', 'max_sweeps': 4, 'offline': True},
        bags={
            'a': {'path': 'city'},
            'b': {
                'path': 'odd name',
                'options': {'rate': 2.5, 'offline': False, 'minutes': 30, 'no_labels': True},
            },
        },
    )
    plan = load_settings(folder / 'plan.yaml', ReplayPlan)
    assert options_of(plan, 'b').max_sweeps == 4
    jobs = expand(plan, folder, folder / 'out')
    a, b = (parse_options(jobs[name].command[1:], '') for name in ('a', 'b'))
    assert (a.offline, a.max_sweeps, a.course.rate) == (True, 4, None)
    assert (b.offline, b.max_sweeps, b.no_labels) == (False, 4, True)
    assert (b.course.rate, b.course.loops, b.course.minutes) == (2.5, None, 30)
    assert b.bag == folder / 'odd name'


@pytest.mark.parametrize(
    ('changes', 'told'),
    [
        ({'bundle': 'nowhere'}, 'the bundle is missing'),
        ({'bags': {'a': {'path': 'nowhere'}}}, 'a bag is missing'),
        ({'bags': {}}, 'bags'),
        ({'bags': {'../a': {'path': 'city'}}}, 'bags'),
        ({'require': ['miou']}, 'a requirement cannot be read'),
        ({'options': {'rate': 'fast'}}, 'rate'),
        ({'options': {'bundle': 'x'}}, 'bundle'),
    ],
)
def test_a_plan_that_is_not_valid_is_refused_before_anything_is_replayed(folder, changes, told):
    write_plan(folder, **changes)
    with pytest.raises(InputError, match=told):
        run(folder)
    assert not (folder / 'starts.log').exists()
    assert not (folder / 'out').exists()


def test_bags_are_replayed_on_the_nodes_of_a_ray_cluster(folder):
    pytest.importorskip('ray', reason="Ray is not installed: pip install -e '.[cluster]'")
    from ray.cluster_utils import Cluster

    write_plan(folder, options={'num_threads': 1})
    cluster = Cluster(
        initialize_head=True, head_node_args={'num_cpus': 2, 'object_store_memory': 80 << 20}
    )
    try:
        assert run(folder, ray=cluster.address) == 0
    finally:
        cluster.shutdown()
    assert starts(folder) == ['city', 'forest']
    assert all(entry['status'] == 'done' for entry in bags_of(folder).values())
