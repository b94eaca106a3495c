# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""One engine in a process of its own, so that memory and thread pools are its own, too.

The process waits for the name of a mode, runs it for a moment and answers with what it measured;
the parent asks one process at a time.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.sparse_engines import ENGINE_NAMES, ENGINES, TASKS, Engine, Job, Task, open_jobs
from benchmark.sparse_workload import Workload

ROOT = Path(__file__).parent.parent
WARM_UP = 'small', 'warm-up'  # network and case that load code, caches and thread pools
TURN_SECONDS = 0.2  # a turn is as many runs as begin in this time
THREAD_VARIABLES = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS')
MEGABYTE = 1000.0  # kB, the unit of /proc


class Worker:
    """The parent's side of the process; made when the process is ready.

    Args:
        engine: to run.
        task: which of its modes.
        workload: sweep and student; the folder holds those of `WARM_UP` as well.

    Raises:
        RuntimeError: the process has ended; it said why on stderr.

    Attributes:
        peak_mb: most resident memory by mode, above what libraries and input take.
    """

    def __init__(self, engine: Engine, task: Task, workload: Workload) -> None:
        self.engine, self.modes = engine, TASKS[task]
        threads = dict.fromkeys(THREAD_VARIABLES, str(engine.num_threads))
        # Waiting threads of one library would otherwise spin on the cores that another one needs.
        environment = {**os.environ, **threads, 'GOMP_SPINCOUNT': '1000'}
        where = str(workload.folder), workload.case, workload.network
        self._process = subprocess.Popen(
            [sys.executable, '-m', __spec__.name, engine.name, task, *where],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

        self.peak_mb: dict[str, float] = self._answer()  # when it is ready

    def run(self, mode: str) -> dict[str, Any]:
        """Run a mode for a turn; see `_take_turn`.

        Raises:
            RuntimeError: the process has ended; it said why on stderr.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f'{mode}\n')
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f'{self.engine.name} ended with code {self._process.wait()}')
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def _take_turn(job: Job, expected: Path) -> dict[str, float | None]:
    """Run a job several times.

    Returns:
        Mean `seconds` of a run, `relative_error` (L2) of the last output where one is expected.
    """
    start = time.perf_counter()
    num_runs = 0
    while num_runs == 0 or time.perf_counter() - start < TURN_SECONDS:
        output = job()
        num_runs += 1
    seconds = (time.perf_counter() - start) / num_runs
    error = None
    if expected.is_file():
        wanted = np.load(expected)
        error = float(np.linalg.norm(output - wanted) / np.linalg.norm(wanted))
    return {'seconds': seconds, 'relative_error': error}


def _memory(field: str) -> float:
    """Resident memory in MB: `VmRSS` now, `VmHWM` at most since the last `_forget_peak`."""
    status = Path('/proc/self/status').read_text(encoding='utf-8')
    return float(status.split(f'{field}:')[1].split()[0]) / MEGABYTE


def _forget_peak() -> None:
    Path('/proc/self/clear_refs').write_text('5', encoding='utf-8')


def _serve(engine: Engine, task: Task, workload: Workload) -> None:
    """Answer on what stdout is at the start; whatever libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(2, 1)
    if engine.uses_torch or task == 'training':
        import torch

        torch.set_num_threads(engine.num_threads)
    network, case = WARM_UP
    for job in open_jobs(engine, task, Workload(workload.folder, case, network)).values():
        job()
    workload.load()
    gc.collect()
    before = _memory('VmRSS')
    jobs = open_jobs(engine, task, workload)
    gc.collect()
    _forget_peak()  # loading holds weights twice, in some engines thrice
    peak_mb = {}
    for mode, job in jobs.items():  # none needs less than the one before it
        job()
        peak_mb[mode] = _memory('VmHWM') - before
    answers.write(json.dumps(peak_mb) + '\n')
    for line in sys.stdin:
        mode = line.strip()
        result = _take_turn(jobs[mode], workload.expected_path(mode))
        answers.write(json.dumps(result) + '\n')


def main() -> None:
    """Command line of `Worker`: engine, task, folder, case, network."""
    name, task, folder, case, network = sys.argv[1:]
    engine = ENGINES[ENGINE_NAMES.index(name)]
    _serve(engine, next(t for t in TASKS if t == task), Workload(Path(folder), case, network))


if __name__ == '__main__':
    main()
