# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Runs code in a Python that has imported nothing yet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-c', code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
