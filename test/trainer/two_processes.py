# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Runs tests in two processes that have joined, on this machine's CPU."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from argparse import Namespace

import torch
from torch.multiprocessing import spawn

from trainer.distill import distill
from trainer.distributed import ProcessGroup
from trainer.resuming import open_together
from trainer.settings import CHECKOUT
from trainer.stop import StopRequest


def in_two_processes(task, *arguments):
    """Call `task(rank, *arguments)` in both."""
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    spawn(_join, (port, task, arguments), nprocs=2)


def _join(rank, port, task, arguments):
    torch.set_num_threads(1)
    os.environ['CUDA_VISIBLE_DEVICES'] = ''  # a single GPU would not do for both
    place = {'MASTER_ADDR': 'localhost', 'MASTER_PORT': port, 'WORLD_SIZE': 2}
    for name, value in {**place, 'RANK': rank, 'LOCAL_RANK': rank}.items():
        os.environ[name] = str(value)
    with ProcessGroup():
        task(rank, *arguments)


def train_together(folder, name, settings='run.yaml', resume=False, stop=None, allow_missing=0):
    """What the command line does in each process of a run, or in a single one."""
    arguments = Namespace(
        settings=folder / settings, out=folder / name, data=folder, resume=resume
    )
    run, again = open_together(arguments)
    distill(run, again, stop or StopRequest(), allow_missing)
    return run


def start_torchrun(options, *command):
    """A script and its arguments under torchrun, with two processes."""
    torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2', *options]
    return subprocess.Popen(
        [sys.executable, *torchrun, *command],
        cwd=CHECKOUT,
        env={
            **os.environ,
            'CUDA_VISIBLE_DEVICES': '',
            'OMP_NUM_THREADS': '1',
            'PYTHONPATH': str(CHECKOUT),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
