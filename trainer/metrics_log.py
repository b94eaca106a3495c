# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The training curves on disk: JSON lines for programs, TensorBoard for people."""

from __future__ import annotations

import json
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

METRICS = 'metrics.jsonl'


class MetricsLog:
    """JSON lines and TensorBoard; on resuming, lines past the checkpoint are cut off."""

    def __init__(self, folder: Path, first_step: int) -> None:
        path = folder / METRICS
        lines = path.read_text(encoding='utf-8').splitlines() if path.exists() else []
        kept = [line for line in lines if json.loads(line)['step'] < first_step]
        path.write_text(''.join(f'{line}\n' for line in kept), encoding='utf-8')
        self._file = path.open('a', encoding='utf-8', buffering=1)
        self._board = SummaryWriter(str(folder / 'tensorboard'), purge_step=first_step)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Record one step."""
        self._file.write(json.dumps({'step': step, **values}) + '\n')
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush to disk."""
        self._file.close()
        self._board.close()
