# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Training the small drive, stopping it on the way, and what it left."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from trainer.distill import distill
from trainer.metrics_log import METRICS
from trainer.resuming import resume_run
from trainer.run import create_run
from trainer.settings import CHECKOUT
from trainer.stop import StopRequest


class StopAfter(StopRequest):
    """Asks to stop once a number of steps has been looked at."""

    def __init__(self, steps):
        super().__init__()
        self._left = steps

    @property
    def requested(self):
        self._left -= 1  # the loop asks once a step
        return self._left <= 0


def train(tiny, name, resume=False, stop=None, allow_missing=0):
    folder = tiny / name
    make = resume_run if resume else create_run
    run = make(tiny / 'run.yaml', folder, tiny)
    distill(run, resume, stop or StopRequest(), allow_missing)
    return run


def curve_of(name, folder):
    return [json.loads(line)[name] for line in (folder / METRICS).read_text().splitlines()]


def losses(folder):
    return curve_of('loss', folder)


def checkpoint_of(folder):
    return (folder / 'checkpoint.safetensors').read_bytes()


def command(tiny, *arguments):
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    return subprocess.Popen(
        [sys.executable, '-m', 'trainer.distill', tiny / 'run.yaml', '--data', tiny, *arguments],
        cwd=CHECKOUT,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
