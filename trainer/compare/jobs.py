# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Running one job so that what is done is kept.

A job's folder holds its settings, `log.txt`, `started.json` and, once it has succeeded,
`done.json` with the fingerprint of what decided the result. A job under way holds a lock that its
process inherits, so that a comparison which was killed, but whose job was not, waits for it.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import yaml

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.files import replacing, write_json
from trainer.compare.plan import Job
from trainer.settings import CHECKOUT

STARTED, DONE, LOG = 'started.json', 'done.json', 'log.txt'
POLL = 0.2  # seconds
TAIL_LINES, TAIL_BYTES = 12, 8192


@dataclass(frozen=True)
class Outcome:
    """How a job ended; `blocked` where one that it needs did not succeed."""

    status: Literal['done', 'failed', 'stopped', 'blocked']
    message: str = ''


def is_done(job: Job) -> bool:
    """Whether a job has succeeded with these very settings, and its result is still there."""
    return _fingerprint(job.folder / DONE) == job.fingerprint and job.result.exists()


def run_job(job: Job, stopping: Callable[[], bool] = lambda: False) -> Outcome:
    """Run one job to its end, unless it is done or has to stop.

    Raises:
        InputError: where the job would write there is something that no job wrote.
    """
    with _locked(job.folder.with_name(f'.{job.folder.name}.lock'), stopping) as lock:
        if lock is None:
            return Outcome('stopped')
        if is_done(job):
            return Outcome('done')
        make_room(job)
        command = [sys.executable, '-m', *job.command, *(['--resume'] * job.can_resume)]
        record = {'name': job.name, 'fingerprint': job.fingerprint, 'command': command}
        write_json(job.folder / STARTED, {**record, 'started': _now()})
        start = time.monotonic()
        code = _run_process(command, job, lock, stopping)
        seconds = round(time.monotonic() - start, 1)
        if code == 0 and job.result.exists():
            ended = {'finished': _now(), 'seconds': seconds, 'host': platform.node()}
            write_json(job.folder / DONE, {**record, **ended})
            return Outcome('done', f'{seconds:.0f} s')
        if code != 0 and stopping():
            return Outcome('stopped')
        return Outcome('failed', _explain(job, code))


def make_room(job: Job) -> None:
    """Ready the folder of a job that is about to start.

    What was made with other settings is moved to `outdated/`, never deleted; what the same job
    left half done is removed, unless it can be resumed.

    Raises:
        InputError: where the job would write there is something that no job wrote.
    """
    started = _fingerprint(job.folder / STARTED)
    if started is None and job.out.exists():
        raise InputError(
            'a job would write where something is that no job wrote',
            where=job.out,
            fix='move it away, or give another --out',
        )
    if started is not None and started != job.fingerprint:
        _set_aside(job)
    elif job.out.exists() and not job.can_resume:
        shutil.rmtree(job.out)
    job.folder.mkdir(parents=True, exist_ok=True)
    job.out.parent.mkdir(parents=True, exist_ok=True)
    for name, values in job.files.items():
        with replacing(job.folder / name) as partial:
            partial.write_text(yaml.safe_dump(values, sort_keys=False), encoding='utf-8')


def log_tail(job: Job) -> str:
    """The last lines that a job wrote; a progress bar counts as its last state."""
    with (job.folder / LOG).open('rb') as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
        lines = log.read().decode(errors='replace').split('\n')
    shown = [line.rstrip('\r').rsplit('\r', 1)[-1] for line in lines if line.strip()]
    return '\n'.join(f'    {line}' for line in shown[-TAIL_LINES:])


def _run_process(command: list[str], job: Job, lock: int, stopping: Callable[[], bool]) -> int:
    """Run a command with its output in the log; returns its exit code.

    It gets a session of its own: SIGINT from the terminal would reach it twice, and a second one
    kills instead of writing a checkpoint.
    """
    threads = str(job.threads)
    environment = {**os.environ, 'OMP_NUM_THREADS': threads, 'OPENBLAS_NUM_THREADS': threads}
    with (job.folder / LOG).open('ab') as log:
        log.write(f'\n== {_now()} {shlex.join(command)}\n'.encode())
        log.flush()
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[lock],
        )
        try:
            while process.poll() is None and not stopping():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(POLL)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    return process.returncode


@contextmanager
def _locked(path: Path, stopping: Callable[[], bool]) -> Iterator[int | None]:
    """Hold a lock file, once nobody else does; None where it has to stop before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a') as file:
        if not _try_lock(file.fileno()):
            print(f'waiting for another process that holds {path}', flush=True)
            while not stopping() and not _try_lock(file.fileno()):
                time.sleep(POLL)
        yield None if stopping() else file.fileno()


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _set_aside(job: Job) -> None:
    """Move what a job made with other settings to `outdated/`."""
    root = job.folder.parents[len(Path(job.name).parts)]
    target = root / 'outdated' / f'{job.name}-{datetime.now():%Y%m%d-%H%M%S-%f}'
    target.parent.mkdir(parents=True, exist_ok=True)
    job.folder.rename(target)
    if job.out.exists():  # of a prepare command: not in the job's folder
        job.out.rename(target / 'out')


def _explain(job: Job, code: int) -> str:
    what = f'exit code {code}' if code else f'it ended without writing {job.result}'
    return f'{what}; the end of {job.folder / LOG}:\n{log_tail(job)}'


def _fingerprint(path: Path) -> str | None:
    """The fingerprint that a marker holds; None where there is no marker."""
    if not path.exists():
        return None
    return str(json.loads(path.read_text(encoding='utf-8'))['fingerprint'])


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec='seconds')
