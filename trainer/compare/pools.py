# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Running many jobs: as processes of one machine, or as tasks of a Ray cluster."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from reldistill_ros.core.errors import InputError, import_extra
from trainer.compare.jobs import POLL, Outcome, is_done, run_job
from trainer.compare.plan import Job
from trainer.stop import StopRequest

CONNECT_SECONDS = 5


@dataclass(frozen=True)
class Pool:
    """What runs jobs: hands one over, stops all of them, and how many it takes at once."""

    submit: Callable[[Job], Future[Outcome]]
    stop: Callable[[], None]
    capacity: float


def run_jobs(jobs: Mapping[str, Job], pool: Pool, stop: StopRequest) -> dict[str, Outcome]:
    """Run jobs, each after those that it needs, in their order; a failure stops no other one."""
    outcomes = {name: Outcome('done') for name, job in jobs.items() if is_done(job)}
    running: dict[Future[Outcome], Job] = {}
    bar = tqdm(total=len(jobs), initial=len(outcomes), unit='job', desc='jobs')
    with bar:
        while True:
            for job in _startable(jobs, outcomes, running, stop):
                if len(running) < pool.capacity:
                    running[pool.submit(job)] = job
            if not running:
                break
            if stop.requested:
                pool.stop()
            for future in wait(running, timeout=POLL, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                outcomes[job.name] = _outcome_of(future, stop)
                bar.write(f'{outcomes[job.name].status}: {job.name} {outcomes[job.name].message}')
                bar.update()
    rest = Outcome('stopped' if stop.requested else 'blocked')
    return {name: outcomes.get(name, rest) for name in jobs}


def _startable(
    jobs: Mapping[str, Job],
    outcomes: Mapping[str, Outcome],
    running: Mapping[Future[Outcome], Job],
    stop: StopRequest,
) -> Iterator[Job]:
    """Jobs to hand over: neither ended nor under way, with all that they need done."""
    done = {name for name, outcome in outcomes.items() if outcome.status == 'done'}
    under_way = {job.name for job in running.values()}
    for name, job in jobs.items():
        if name not in outcomes and name not in under_way and done.issuperset(job.needs):
            if stop.requested:
                return
            yield job


def _outcome_of(future: Future[Outcome], stop: StopRequest) -> Outcome:
    """What a job returned; an error of its own (a full disk, a lost node) is its failure."""
    error = future.exception()
    if error is None:
        return future.result()
    return Outcome('stopped') if stop.requested else Outcome('failed', f'{error}')


@contextmanager
def local_pool(workers: int) -> Iterator[Pool]:
    """Run jobs as processes of this machine, `workers` at a time."""
    stopping = threading.Event()
    with ThreadPoolExecutor(workers) as executor:
        try:
            yield Pool(
                lambda job: executor.submit(run_job, job, stopping.is_set), stopping.set, workers
            )
        finally:
            stopping.set()


@contextmanager
def ray_pool(address: str) -> Iterator[Pool]:
    """Run jobs as tasks of a Ray cluster, as many as it has cores for.

    The folders of checkout, comparison and data have the same paths on all its nodes.

    Raises:
        InputError: Ray is not installed, or no cluster answers.
    """
    ray = import_extra('ray', 'cluster')
    host, _, port = address.removeprefix('ray://').rpartition(':')
    try:
        if port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(address=address, log_to_driver=False)
    except OSError as error:
        raise InputError(
            'no Ray cluster answers',
            where=address,
            got=error,
            fix='start one: ray start --head, and ray start --address HEAD:6379 on the others',
        ) from error
    references: list[Any] = []

    def submit(job: Job) -> Future[Outcome]:
        task = ray.remote(run_job).options(
            name=job.name, num_cpus=job.threads, num_gpus=job.gpus or None
        )
        references.append(task.remote(job))
        return references[-1].future()  # type: ignore[no-any-return]

    def stop() -> None:
        while references:
            ray.cancel(references.pop())  # raises KeyboardInterrupt in `run_job`

    try:
        yield Pool(submit, stop, math.inf)
    finally:
        ray.shutdown()
