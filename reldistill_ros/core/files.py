# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Writing files and folders whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write a file or a folder to.

    It ends in the same suffix. When the block ends it takes the place of `path` (of which a
    folder must not exist); when the block fails it is removed.
    """
    partial = path.with_name(f'.partial-{path.name}')
    _remove(partial)  # left behind by a process that was killed
    try:
        yield partial
        partial.replace(path)
    finally:
        _remove(partial)


def write_json(path: Path, values: object) -> None:
    """Write strict JSON (no NaN), whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(values, indent=2, allow_nan=False) + '\n', encoding='utf-8')


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
