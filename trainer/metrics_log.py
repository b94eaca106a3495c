# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The training curves on disk: JSON lines for programs, TensorBoard for people."""

from __future__ import annotations

import json
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from reldistill_ros.core.files import replacing
from trainer.distributed import is_first

METRICS = 'metrics.jsonl'


class MetricsLog:
    """JSON lines and TensorBoard; on resuming, lines past the checkpoint are cut off.

    Only the first of several processes writes.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self._writes = is_first()
        if not self._writes:
            return
        path = folder / METRICS
        kept = _lines_before(path, first_step) if path.exists() else []
        with replacing(path) as partial:
            partial.write_text(''.join(f'{line}\n' for line in kept), encoding='utf-8')
        self._file = path.open('a', encoding='utf-8', buffering=1)
        self._board = SummaryWriter(str(folder / 'tensorboard'), purge_step=first_step)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Record one step."""
        if not self._writes:
            return
        self._file.write(json.dumps({'step': step, **values}) + '\n')
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush to disk."""
        if not self._writes:
            return
        self._file.close()
        self._board.close()


def _lines_before(path: Path, first_step: int) -> list[str]:
    """Lines of the steps before `first_step`, up to one that a crash cut off."""
    kept = []
    for line in path.read_text(encoding='utf-8').splitlines():
        try:
            step = json.loads(line)['step']
        except json.JSONDecodeError:
            break
        if step < first_step:
            kept.append(line)
    return kept
