# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A process with a time limit, and one line on why it failed."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run_process(
    command: Sequence[str], limit: float, environment: dict[str, str] | None = None
) -> str | None:
    """Run a command to its end or to its limit; returns why it failed, None where it did not."""
    with tempfile.TemporaryFile('w+') as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(max(limit, 1))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with all that it has started
            process.wait()
            return f'not done within {limit:.0f} s'
        output.seek(0)
        return None if code == 0 else reason_of(output.read(), code)


def reason_of(output: str, code: int) -> str:
    """Why a process failed, in one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in lines:
        if 'No module named' in line:
            return f'missing: {line.rpartition("No module named")[2].strip()}'
    errors = [line for line in lines if line.startswith('error: ')]
    return (errors or lines or [''])[-1][:200] or f'ended with code {code}'
