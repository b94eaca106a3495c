# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Where a result comes from: commit, package versions, machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from trainer.settings import CHECKOUT

RECORDED_PACKAGES = ('torch', 'numpy', 'onnx', 'onnxruntime', 'pydantic', 'rosbags')


def provenance() -> dict[str, Any]:
    """Commit, package versions and machine of this process."""
    return {
        'git_commit': git_commit(),
        'packages': {name: installed_version(name) for name in RECORDED_PACKAGES},
        'python': platform.python_version(),
        'machine': platform.machine(),
        'torchrun_job': torchrun_job(),
    }


def installed_version(package: str) -> str | None:
    """None where it is not installed: rosbags, for one, is not needed without bags."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def torchrun_job() -> str | None:
    """The id that a job of torchrun keeps however often it starts its processes anew."""
    job = os.environ.get('TORCHELASTIC_RUN_ID')
    return None if job == 'none' else job  # so torchrun calls all jobs that were given no id


def git_commit() -> str:
    """Commit of the checkout, with `-dirty` where files differ; 'unknown' without git."""
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    try:
        result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
    return result.stdout.strip()
