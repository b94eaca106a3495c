# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The check for a GPU machine: what it makes of results, of failures, and of no GPU at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmark import gpu_check, gpu_check_figures
from benchmark.gpu_bundle import make_student, write_bundle
from benchmark.gpu_check import Part, check, run_part
from benchmark.gpu_check_figures import Figure, line_of, not_done
from benchmark.gpu_check_process import run_process
from benchmark.gpu_onboard import cloud_of, compare
from reldistill_ros.backends.cuda_device import has_cuda_device
from reldistill_ros.backends.engine_sizes import bundle_sizes
from reldistill_ros.backends.onnx_backend import OnnxBackend
from reldistill_ros.core.bundle import STUDENT_HALF_ONNX, load_bundle
from reldistill_ros.core.kernel_maps import build_kernel_maps
from reldistill_ros.core.voxels import voxelise
from reldistill_ros.labeller import Labeller
from reldistill_ros.point_cloud import read_points
from trainer import provenance

ONBOARD = {
    'backend': 'tensorrt',
    'precision': 'float16',
    'points': 58_828,
    'p50_ms': 8.0,
    'p99_ms': 9.0,
    'open_seconds': 60.0,
    'gpu_mib': 700.0,
    'engine_megabytes': 80.0,
    'is_reference': False,
    'label_agreement': 0.9995,
}


@pytest.mark.skipif(has_cuda_device(), reason='this machine has a GPU')
def test_without_a_gpu_it_says_so_in_one_sentence_and_exits_3():
    command = [sys.executable, '-m', 'benchmark.gpu_check', '--json', 'nothing.json']
    result = subprocess.run(command, cwd=gpu_check.ROOT, capture_output=True, text=True)
    assert result.returncode == 3
    assert result.stdout.splitlines() == [gpu_check.NO_GPU]
    assert result.stderr == ''


@pytest.mark.skipif(has_cuda_device(), reason='this machine has a GPU')
def test_make_says_so_in_one_sentence_too():
    if shutil.which('make') is None:
        pytest.skip('make is not installed')
    # no directories, which it tells of where make runs the tests
    command = [
        'make',
        '--no-print-directory',
        'gpu-check',
        f'PYTHON={sys.executable}',
        f'BIN={gpu_check.ROOT / "none"}',
    ]
    result = subprocess.run(command, cwd=gpu_check.ROOT, capture_output=True, text=True)
    assert result.stdout.splitlines() == [gpu_check.NO_GPU]
    assert result.stderr.splitlines()[0].endswith('Error 3')
    assert len(result.stderr.splitlines()) == 1


def test_its_tests_are_those_of_files_that_name_the_gpu():
    names = {Path(file).name for file in gpu_check.test_files()}
    assert {'test_triton_maps.py', 'test_tensorrt_gpu.py', 'test_compute.py'} <= names
    assert 'test_argoverse2.py' not in names


def test_a_package_that_is_not_installed_is_recorded_as_absent(monkeypatch):
    monkeypatch.setattr(provenance, 'RECORDED_PACKAGES', ('numpy', 'no-such-package'))
    assert provenance.provenance()['packages'] == {
        'numpy': np.__version__,
        'no-such-package': None,
    }


def test_it_starts_with_the_standard_library_alone():
    script = 'import sys, benchmark.gpu_check; print(*sys.modules)'
    command = [sys.executable, '-c', script]
    loaded = subprocess.run(
        command, cwd=gpu_check.ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {'numpy', 'torch', 'numba', 'pydantic', 'yaml'} & set(loaded)


def test_the_parts_together_end_within_eight_minutes():
    assert gpu_check.MOST_SECONDS <= 480 - 5


@pytest.mark.parametrize(
    ('changes', 'missed'),
    [
        ({}, []),
        ({'p50_ms': 10.1, 'p99_ms': 10.2}, ['p50 of 58828 points']),
        ({'p99_ms': 12.1}, ['p99']),
        ({'label_agreement': 0.9989}, ['labels as torch float32']),
        ({'label_agreement': None}, []),
        ({'precision': 'float32', 'p50_ms': 99.0, 'p99_ms': 999.0}, []),
    ],
)
def test_what_is_asked_of_the_labeller_is_compared(changes, missed):
    figures = gpu_check_figures.onboard_figures({**ONBOARD, **changes})
    assert [f.check.partition(': ')[2] for f in figures if f.met is False] == missed


def test_the_run_that_others_are_compared_with_has_no_agreement():
    reference = {**ONBOARD, 'is_reference': True, 'label_agreement': None}
    figures = gpu_check_figures.onboard_figures(reference)
    assert not any('labels' in figure.check for figure in figures)


def test_without_a_run_to_compare_with_the_agreement_is_not_measured():
    *_, last = gpu_check_figures.onboard_figures({**ONBOARD, 'label_agreement': None})
    assert last.value.startswith('not measured')
    assert last.asked


def test_training_is_compared_with_the_fastest_peer():
    rows = [
        {'backend': 'triton', 'precision': 'bfloat16', 'seconds': 0.02, 'peak_mib': 100},
        {'backend': 'spconv', 'precision': 'float16', 'seconds': 0.03, 'peak_mib': 100},
        {'backend': 'torch', 'precision': 'float32', 'failed': 'out of memory'},
    ]
    *_, last = gpu_check_figures.training_figures({'rows': rows})
    assert (last.value, last.met) == ('not measured: no peer has run', None)
    rows[0]['seconds_ratio_to_peer'], rows[1]['seconds_ratio_to_peer'] = 1.19, 1.5
    *_, last = gpu_check_figures.training_figures({'rows': rows})
    assert (last.value, last.met) == ('1.19', False)
    rows[0]['seconds_ratio_to_peer'] = 1.2
    assert gpu_check_figures.training_figures({'rows': rows})[-1].met


def test_training_is_judged_in_half_precision_alone():
    rows = [
        ('triton', 'bfloat16', 0.5),
        ('triton', 'tf32', 1.3),
        ('spconv', 'float16', 1.0),
        ('spconv', 'tf32', 1.0),
    ]
    named = [
        {'backend': b, 'precision': p, 'seconds': 0.1, 'peak_mib': 1, 'seconds_ratio_to_peer': r}
        for b, p, r in rows
    ]
    *_, wide, half = gpu_check_figures.training_figures({'rows': named})
    assert (wide.value, wide.met) == ('1.30', None)
    assert (half.value, half.met) == ('0.50', False)
    named[0] = {'backend': 'triton', 'precision': 'bfloat16', 'failed': 'out of resources'}
    assert gpu_check_figures.training_figures({'rows': named})[-1].met is False


def test_the_loss_is_asked_for_its_share_of_the_peak_in_tf32_alone():
    rows = [
        {'precision': name, 'share_of_peak': share, 'seconds': 0.03}
        for name, share in (('float32', 0.1), ('tf32', 0.39))
    ]
    plain, rounded = gpu_check_figures.loss_figures({'rows': rows})
    assert (plain.asked, plain.met) == ('', None)
    assert rounded.met is False


def part(tmp_path, script, limit=20.0):
    """A part that runs a script as a module."""
    (tmp_path / 'a_part.py').write_text(script)
    environment = {'PYTHONPATH': str(tmp_path)}
    return Part(
        'a part', 'a_part', (), limit, lambda r: [Figure('a', str(r))], environment=environment
    )


def test_a_part_writes_its_result(tmp_path):
    script = 'import sys, json; json.dump(5, open(sys.argv[-1], "w"))'
    outcome = run_part(part(tmp_path, script), tmp_path, 100)
    assert outcome.result == 5
    assert outcome.figures == [Figure('a', '5')]


@pytest.mark.parametrize(
    ('script', 'reason'),
    [
        ('import no_such_package.inside', "missing: 'no_such_package'"),
        ('raise ValueError("a crash")', 'ValueError: a crash'),
        ('import os; os.abort()', 'ended with code -6'),
        ('print("error: no TensorRT"); print("  to do: install"); exit(2)', 'error: no TensorRT'),
        ('pass', 'wrote nothing'),
    ],
)
def test_a_part_that_fails_says_why_in_one_line(tmp_path, script, reason):
    outcome = run_part(part(tmp_path, script), tmp_path, 100)
    assert outcome.result is None
    assert outcome.figures == [not_done('a part', reason)]


def test_a_part_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    script = (
        'import subprocess, sys, time\n'
        f'subprocess.Popen([sys.executable, "-c", "import time; time.sleep(4); '
        f"open({str(tmp_path / 'alive')!r}, 'w')\"])\n"
        'time.sleep(60)\n'
    )
    start = time.monotonic()
    outcome = run_part(part(tmp_path, script, limit=2), tmp_path, 100)
    assert time.monotonic() - start < 30
    assert outcome.figures == [not_done('a part', 'not done within 2 s')]
    time.sleep(4)
    assert not (tmp_path / 'alive').exists()


def test_the_limit_of_a_part_shrinks_with_the_time_that_is_left(tmp_path):
    outcome = run_part(part(tmp_path, 'import time; time.sleep(60)'), tmp_path, 1.0)
    assert outcome.figures == [not_done('a part', 'not done within 1 s')]


def test_one_part_that_fails_does_not_end_the_others(tmp_path, monkeypatch, capsys):
    good = part(tmp_path, 'import sys, json; json.dump(5, open(sys.argv[-1], "w"))')
    bad = Part('bad', 'no_such_part', (), 10, lambda r: [])
    monkeypatch.setattr(gpu_check, 'parts', lambda folder, inputs: iter([bad, good]))
    monkeypatch.setattr(
        gpu_check, 'run_tests', lambda *_: gpu_check.Outcome([Figure('tests', '1 passed')], {}, 1)
    )
    monkeypatch.setattr(
        gpu_check,
        'run_process',
        lambda command, *rest: (
            'no town' if 'gpu_bundle' in str(command) else run_process(command, *rest)
        ),
    )
    found = check(tmp_path, tmp_path)
    assert [figure['value'] for figure in found['figures']] == [
        'no town',
        'missing: no_such_part',
        '5',
        '1 passed',
    ]
    assert json.loads(json.dumps(found)) == found
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert [figure['met'] for figure in found['figures']] == [False, False, None, None]


def test_a_check_whose_parts_all_crash_fails(monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, 'has_cuda_device', lambda: True)
    monkeypatch.setattr(gpu_check, 'compute_capability', lambda: '9.0')
    monkeypatch.setattr(gpu_check, 'run_process', lambda *_: 'CUDA error: out of memory')
    monkeypatch.setattr(sys, 'argv', ['gpu_check'])
    with pytest.raises(SystemExit) as caught:
        gpu_check.main()
    assert caught.value.code == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if 'missing' not in line]
    assert all(line.endswith('NO') for line in lines)


@pytest.mark.parametrize(('capability', 'is_missing'), [('8.9', False), ('9.0', True)])
def test_tensorrt_for_rtx_does_where_it_knows_the_gpu(monkeypatch, capability, is_missing):
    found = lambda name: None if name == 'tensorrt' else object()  # noqa: E731
    monkeypatch.setattr(gpu_check, 'find_spec', found)
    monkeypatch.setattr(gpu_check, 'compute_capability', lambda: capability)
    assert ('tensorrt' in gpu_check.missing()) == is_missing


def test_the_gpus_of_tensorrt_for_rtx_are_those_that_it_names():
    rtx = pytest.importorskip('tensorrt_rtx', reason='needs tensorrt-rtx')
    known = {n for n in rtx.ComputeCapability.__members__ if n.startswith('SM')}
    assert known == {f'SM{c.replace(".", "")}' for c in gpu_check.RTX_CAPABILITIES}


def test_a_report_of_pytest_is_counted(tmp_path):
    (tmp_path / 'test_three.py').write_text(
        'import pytest\n'
        'def test_a(): pass\n'
        'def test_b(): assert False\n'
        '@pytest.mark.skip\n'
        'def test_c(): pass\n'
    )
    report = tmp_path / 'report.xml'
    command = [sys.executable, '-m', 'pytest', '-q', tmp_path, f'--junitxml={report}']
    subprocess.run(command, cwd=tmp_path, capture_output=True)
    (figure,) = gpu_check_figures.report_figures(report)
    assert (figure.value, figure.met) == ('1 passed, 1 failed, 1 skipped', False)


def test_a_line_shows_check_figure_asked_and_whether_it_is_met():
    line = line_of(Figure('p50', '8.0 ms', 'at most 10 ms', True))
    assert line.split('  ')[0] == 'p50'
    assert line.endswith('yes')
    assert line_of(Figure('p50', '12 ms', 'at most 10 ms', False)).endswith('NO')


def test_the_cloud_holds_the_points(tmp_path):
    points = np.random.default_rng(0).uniform(0, 1, (100, 4)).astype(np.float32)
    np.testing.assert_array_equal(read_points(cloud_of(points), 1.0), points)
    labels = np.arange(100, dtype=np.uint8)
    file = tmp_path / 'labels.npy'
    assert compare(file, labels, is_reference=False) is None
    assert not file.exists()  # only the reference leaves its labels
    assert compare(file, labels[::-1], is_reference=True) is None
    assert compare(file, labels, is_reference=True) is None
    assert compare(file, np.where(labels < 25, 200, labels), is_reference=False) == 0.75


def test_the_bundle_is_whole_and_its_labels_survive_float16(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.uniform(-8, 8, (4000, 4)).astype(np.float32)
    points[:, 2] = np.sin(points[:, 0]) + 0.1 * points[:, 2]
    write_bundle(tmp_path / 'bundle', 'small', points)
    bundle = load_bundle(tmp_path / 'bundle')
    labels = Labeller.from_bundle(tmp_path / 'bundle', num_threads=1)(points)
    assert len(np.unique(labels.class_ids)) > 8
    voxels = voxelise(points, bundle.manifest.voxel, bundle.manifest.inputs)
    maps = build_kernel_maps(voxels.coords)
    assert bundle_sizes(bundle).fit([level.num_voxels for level in maps]) >= 0
    half = OnnxBackend(tmp_path / 'bundle' / STUDENT_HALF_ONNX, 1)(voxels.feats, maps)
    assert np.isfinite(half).all()
    assert np.abs(half).max() < 100  # as the batch norms have seen the sweep
    assert not make_student('small', voxels.feats, maps).training
