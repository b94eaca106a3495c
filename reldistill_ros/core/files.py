# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Writing files whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path


def write_json(path: Path, values: object) -> None:
    """Write strict JSON (no NaN) under a temporary name, then rename it."""
    partial = path.with_name(path.name + '.partial')
    partial.write_text(json.dumps(values, indent=2, allow_nan=False) + '\n', encoding='utf-8')
    partial.replace(path)
