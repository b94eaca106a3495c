# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A small plan, and commands that stand in for the real ones: they take no time to start."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import yaml
from tiny_drive import write_settings

from trainer.compare.compare import compare
from trainer.settings import CHECKOUT

KINDS = ('distil', 'evaluate', 'few_shot', 'structure')
MODULES = {kind: f'fake_{kind}' for kind in KINDS}
LOSSES = ('similarity', 'relational')
SEEDS = (0, 1)
PROTOCOLS = ('zero_shot', 'few_shot_1', 'structure')

COMMON = """
import json, sys, time, yaml
from pathlib import Path
HOME = Path(__file__).parent
out = Path(sys.argv[sys.argv.index('--out') + 1])
with (HOME / 'starts.log').open('a') as file:
    file.write(' '.join(sys.argv) + '\\n')
def run_settings():
    return yaml.safe_load((Path(sys.argv[1]).parent / 'settings.yaml').read_text())
def write(name, values):
    out.mkdir(parents=True, exist_ok=True)
    (out / 'partial').write_text(json.dumps(values))
    (out / 'partial').rename(out / name)
def miou():
    settings = run_settings()
    return {'similarity': 0.4, 'relational': 0.6}[settings['loss']['kind']] + settings['seed'] / 100
"""

# counts to `epochs`, 0.05 s each, and leaves its count when it is stopped
DISTIL = """
import signal
settings = yaml.safe_load(Path(sys.argv[1]).read_text())
if (HOME / f'break_{settings["loss"]["kind"]}').exists():
    print('all is well\\rso far'); print('this loss is broken', file=sys.stderr); sys.exit(3)
if out.exists() and '--resume' not in sys.argv:
    sys.exit(f'{out} is there already')
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
if (HOME / 'meet').exists():  # wait for another one at the same time
    (HOME / 'meet' / str(time.monotonic_ns())).touch()
    deadline = time.monotonic() + 300
    while len(list((HOME / 'meet').iterdir())) < 2:
        if time.monotonic() > deadline:
            sys.exit('alone')
        time.sleep(0.05)
done = json.loads((out / 'checkpoint.safetensors').read_text()) if '--resume' in sys.argv else 0
for step in range(done, settings['epochs']):
    time.sleep(0.05)
    write('checkpoint.safetensors', step + 1)
    print('step', step + 1, flush=True)
write('checkpoint.safetensors', settings['epochs'])
"""

COMMANDS = {
    'distil': DISTIL,
    'evaluate': "write('metrics.json', {'zero_shot': {'miou': miou(), 'iou': {'car': 0.9}}})",
    'few_shot': "write('metrics.json', {'miou': miou() / 2})",
    'structure': "write('structure.json', {'cross_gap': 1 - miou(), 'tolerance': None})",
    'prepare': 'out.mkdir(parents=True)',
}


def write_plan(folder, **changes):
    """Stand-in commands, a run, a protocol and a plan of 2 losses, 2 seeds and 3 protocols."""
    for name, text in COMMANDS.items():
        (folder / f'fake_{name}.py').write_text(COMMON + text)
    write_settings(folder, epochs=2)
    drive = {'format': 'kitti_raw', 'path': 'drive'}
    protocol = {
        'name': 'few_shot_1',
        'kind': 'linear_probe',
        'vocabulary': 'tiny.yaml',
        'train': [drive],
        'evaluate': [drive],
        'epochs': 1,
        'batch_size': 1,
        'head_lr': 0.01,
    }
    (folder / 'protocol.yaml').write_text(yaml.safe_dump(protocol))
    plan = {
        'data': 'tiny',
        'seeds': list(SEEDS),
        'reference': 'relational',
        'prepare': {'drives/train': {'command': "fake_prepare --out '{out}'"}},
        'teachers': {'maps': {'run': 'run.yaml'}},
        'losses': {name: {'loss': {'kind': name}} for name in LOSSES},
        'protocols': {
            'zero_shot': {'kind': 'evaluate'},
            'few_shot_1': {'kind': 'few_shot', 'file': 'protocol.yaml'},
            'structure': {'kind': 'structure'},
        },
        'groups': {
            'main': {'teachers': ['maps'], 'losses': LOSSES, 'protocols': PROTOCOLS},
        },
        **changes,
    }
    path = folder / 'plan.yaml'
    path.write_text(yaml.safe_dump(as_lists(plan)))
    return path


def as_lists(values):
    if isinstance(values, dict):
        return {key: as_lists(value) for key, value in values.items()}
    return [as_lists(value) for value in values] if isinstance(values, tuple) else values


def edit(path, **changes):
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def arguments_of(folder, **given):
    defaults = {'data': None, 'only': None, 'groups': [], 'workers': 2, 'ray': None}
    return argparse.Namespace(
        plan=folder / 'plan.yaml', out=folder / 'out', **{**defaults, **given}
    )


def run_plan(folder, **given):
    return compare(arguments_of(folder, **given), MODULES)


def starts(folder):
    """Names and options of the jobs that were started, in order."""
    path = folder / 'starts.log'
    lines = path.read_text().splitlines() if path.exists() else []
    return [
        line.split('/jobs/')[-1].split('/out')[0] + ' --resume' * ('--resume' in line)
        for line in lines
        if 'fake_prepare' not in line
    ]


def start_compare(folder, only):
    """The comparison as a process of its own, with the stand-ins."""
    call = f'tiny_plan.run_plan(Path({str(folder)!r}), only={only!r})'
    code = f'import sys, tiny_plan; from pathlib import Path; sys.exit({call})'
    path = os.pathsep.join([str(Path(__file__).parent), str(folder), str(CHECKOUT)])
    return subprocess.Popen(
        [sys.executable, '-c', code],
        env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
