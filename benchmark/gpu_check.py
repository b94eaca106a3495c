# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Everything that needs a GPU, in one command of at most 8 minutes: `make gpu-check`.

Each part runs in a process of its own with a time limit; one that crashes, hangs or misses a
package does not end the others. Nothing is fetched from the network, and only the standard library
is imported here, so that the command runs wherever there is a GPU and says what is missing.

`python -m benchmark.gpu_check --write FOLDER` prepares the inputs on another machine, where the
synthetic town can be cast; `--inputs FOLDER` takes them.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmark.gpu_check_figures import (
    Figure,
    line_of,
    loss_figures,
    not_done,
    onboard_figures,
    report_figures,
    training_figures,
)
from benchmark.gpu_check_process import ROOT, run_process
from reldistill_ros.backends.cuda_device import compute_capability, has_cuda_device

NO_GPU = 'there is no CUDA device on this machine: nothing was checked'
NO_GPU_EXIT = 3
MOST_SECONDS = 470.0
TESTS_SECONDS = 110.0  # kept for the tests, which come last
BATCH = 'batch.npz'
# a test file that misses a package does not keep the others from running
PYTEST_OPTIONS = ('-p', 'no:cacheprovider', '--continue-on-collection-errors')

# module -> what it is for, and how to get it
REQUIREMENTS = {
    'numba': ('all parts', 'pip install numba'),
    'pydantic': ('all parts', 'pip install pydantic'),
    'yaml': ('all parts', 'pip install pyyaml'),
    'safetensors': ('all parts', 'pip install safetensors'),
    'torch': ('all parts', 'pip install torch'),
    'scipy': ('all parts', 'pip install scipy'),
    'tqdm': ('all parts', 'pip install tqdm'),
    'pytest': ('tests', 'pip install pytest hypothesis'),
    'PIL': ('tests', 'pip install pillow'),
    'tensorboard': ('tests', 'pip install tensorboard'),
    'onnx': ('onboard', 'pip install onnx'),
    'onnxruntime': ('onboard', 'pip install onnxruntime'),
    'onnxscript': ('onboard', 'pip install onnxscript'),
    'trimesh': ('inputs', 'pip install trimesh embreex, or --inputs FOLDER of another machine'),
    'cuda': ('onboard tensorrt', 'pip install cuda-bindings'),
    'tensorrt': (
        'onboard tensorrt',
        'pip install tensorrt (fetched from NVIDIA), or on an RTX card tensorrt-rtx-cu13',
    ),
    'triton': ('training', 'pip install triton'),
    'spconv': ('training, as a peer', 'pip install spconv-cu126'),
    'torchsparse': ('training, as a peer', 'compile it as setup.py says'),
}
# of the GPUs that TensorRT for RTX 1.7 builds for
RTX_CAPABILITIES = ('7.5', '8.0', '8.6', '8.9', '12.0', '12.1')


@dataclass(frozen=True)
class Part:
    """Something to run.

    Attributes:
        name: in the table.
        module: that is run, with `--json FILE` behind the arguments.
        arguments: of it.
        limit: seconds.
        figures: makes lines of what it wrote.
        environment: variables of the process beside our own.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    limit: float
    figures: Callable[[Any], list[Figure]]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of a part.

    Attributes:
        figures: its lines.
        result: what it wrote, None where it failed.
        seconds: that it took.
    """

    figures: list[Figure]
    result: Any
    seconds: float


def parts(folder: Path, inputs: Path) -> Iterator[Part]:
    """All parts but the tests, in their order."""
    batch = inputs / BATCH
    given = ('--batch', str(batch)) if batch.exists() else ()
    yield Part('training', 'benchmark.gpu_training', given, 130, training_figures)
    yield Part('relational loss', 'benchmark.gpu_losses', (), 40, loss_figures)
    # an empty cache, so that opening is building
    environment = {'XDG_CACHE_HOME': str(folder / 'cache')}
    for backend, precision in (
        ('torch', 'float32'),
        ('tensorrt', 'float16'),
        ('tensorrt', 'float32'),
        ('triton', 'float16'),
        ('torch', 'float16'),
    ):
        arguments = (str(inputs), '--backend', backend, '--precision', precision)
        limit = 120 if backend == 'tensorrt' else 40
        name = f'onboard {backend} {precision}'
        yield Part(name, 'benchmark.gpu_onboard', arguments, limit, onboard_figures, environment)


def run_part(part: Part, folder: Path, seconds_left: float) -> Outcome:
    """Run a part and read what it wrote."""
    file = folder / f'{part.name.replace(" ", "_")}.json'
    command = [sys.executable, '-m', part.module, *part.arguments, '--json', str(file)]
    start = time.monotonic()
    reason = run_process(command, min(part.limit, seconds_left), part.environment)
    seconds = time.monotonic() - start
    if reason is None and not file.exists():
        reason = 'wrote nothing'
    if reason is not None:
        return Outcome([not_done(part.name, reason)], None, seconds)
    result = json.loads(file.read_text(encoding='utf-8'))
    return Outcome(part.figures(result), result, seconds)


def run_tests(folder: Path, limit: float) -> Outcome:
    """Run all tests that need a GPU."""
    file = folder / 'tests.xml'
    command = [sys.executable, '-m', 'pytest', '-m', 'gpu', '-q', *PYTEST_OPTIONS, *test_files()]
    start = time.monotonic()
    reason = run_process([*command, f'--junitxml={file}'], limit)
    seconds = time.monotonic() - start
    if not file.exists():
        return Outcome([not_done('tests', reason or 'no report')], None, seconds)
    figures = report_figures(file)
    failed = [
        f'{case.get("classname")}.{case.get("name")}'
        for case in ElementTree.parse(file).getroot().iter('testcase')
        if case.find('failure') is not None or case.find('error') is not None
    ]
    return Outcome(figures, {'failed': failed, 'reason': reason}, seconds)


def test_files() -> list[str]:
    """Files with tests that need a GPU: others may miss packages and count as errors."""
    files = sorted((ROOT / 'test').rglob('test_*.py'))
    return [str(file) for file in files if 'mark.gpu' in file.read_text(encoding='utf-8')]


def check(inputs: Path, folder: Path) -> dict[str, Any]:
    """Run everything; returns what the JSON file holds.

    Args:
        inputs: folder with sweep and batch, which are written there where they are missing.
        folder: for files of the run.
    """
    end = time.monotonic() + MOST_SECONDS
    outcomes = {}
    reason = run_process([sys.executable, '-m', 'benchmark.gpu_bundle', str(inputs)], 90)
    if reason is not None:
        outcomes['inputs'] = Outcome([not_done('inputs', reason)], None, 0.0)
    tell(outcomes.get('inputs'))
    for part in parts(folder, inputs):
        outcomes[part.name] = run_part(part, folder, end - TESTS_SECONDS - time.monotonic())
        tell(outcomes[part.name])
    outcomes['tests'] = run_tests(folder, end - time.monotonic())
    tell(outcomes['tests'])
    figures = [figure for outcome in outcomes.values() for figure in outcome.figures]
    return {
        'missing': missing(),
        'figures': [vars(figure) for figure in figures],
        'results': {name: outcome.result for name, outcome in outcomes.items()},
        'seconds': {name: outcome.seconds for name, outcome in outcomes.items()},
        'machine': platform.node(),
        'python': platform.python_version(),
        'date': time.strftime('%Y-%m-%d'),
    }


def missing() -> dict[str, str]:
    """Modules that are not installed: what they are for, and how to get them."""
    knows_this_gpu = compute_capability() in RTX_CAPABILITIES
    alternatives = {'tensorrt': 'tensorrt_rtx'} if knows_this_gpu else {}
    return {
        module: f'needed for {use}: {fix}'
        for module, (use, fix) in REQUIREMENTS.items()
        if find_spec(module) is None and find_spec(alternatives.get(module, module)) is None
    }


def tell(outcome: Outcome | None) -> None:
    """Print the lines of a part as soon as it is done."""
    for figure in outcome.figures if outcome else ():
        print(line_of(figure), flush=True)


def write_inputs(folder: Path) -> None:
    """Prepare sweep and batch for another machine."""
    folder.mkdir(parents=True, exist_ok=True)
    for command in (
        ['benchmark.gpu_bundle', str(folder), '--sweep-only'],
        ['benchmark.gpu_training', '--write', str(folder / BATCH)],
    ):
        subprocess.run([sys.executable, '-m', *command], cwd=ROOT, check=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m benchmark.gpu_check', description=__doc__)
    parser.add_argument('--json', type=Path, help='file to write')
    parser.add_argument('--inputs', type=Path, help='folder that --write has written elsewhere')
    parser.add_argument('--write', type=Path, metavar='FOLDER', help='only prepare the inputs')
    arguments = parser.parse_args()
    if arguments.write is not None:
        write_inputs(arguments.write)
        return
    if not has_cuda_device():
        print(NO_GPU)
        sys.exit(NO_GPU_EXIT)
    for module, note in missing().items():
        print(f'missing: {module}, {note}')
    with tempfile.TemporaryDirectory() as folder:
        found = check(arguments.inputs or Path(folder), Path(folder))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=2) + '\n', encoding='utf-8')
    sys.exit(any(figure['met'] is False for figure in found['figures']))


if __name__ == '__main__':
    main()
