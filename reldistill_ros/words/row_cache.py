# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Embeddings of texts, kept in memory and in a folder that only the user can write to."""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.files import make_private

MAX_ROWS = 4096  # 8 MB of 512 floats


class RowCache:
    """One embedding for each prompt with its templates, and for each text encoder.

    A file that is not whole counts as absent and is written anew. When there are more than
    `max_rows` of them, the oldest go.

    Args:
        folder: created if absent; None to keep rows in memory only.
        encoder: digest of the text encoder.
        max_rows: how many to keep, in memory and on disk.

    Raises:
        InputError: the folder cannot be had, or others can write to it.
    """

    def __init__(self, folder: Path | None, encoder: str, max_rows: int = MAX_ROWS) -> None:
        if folder is not None:
            make_private(folder, 'embeddings of texts')
        self._folder, self._encoder, self._max_rows = folder, encoder, max_rows
        self._rows: dict[str, NDArray[np.float32]] = {}

    def get(self, prompt: str, templates: Sequence[str], size: int) -> NDArray[np.float32] | None:
        """The row (size,), or None if it is not kept."""
        key = self._key(prompt, templates)
        row = self._rows.get(key)
        if row is None and self._folder is not None:
            row = _read_row(self._file(key), size)
            if row is not None:
                self._remember(key, row)
        return row

    def put(
        self, prompts: Sequence[str], templates: Sequence[str], rows: NDArray[np.float32]
    ) -> None:
        """Keep unit rows (M, C); a disk that cannot be written to costs a warning, and time."""
        keys = [self._key(prompt, templates) for prompt in prompts]
        for key, row in zip(keys, rows):
            self._remember(key, row)
        if self._folder is None:
            return
        try:
            _write_rows({self._file(key): row for key, row in zip(keys, rows)})
            self._drop_oldest()
        except OSError as error:
            warnings.warn(f'embeddings of texts are not kept on disk: {error}', stacklevel=2)
            self._folder = None

    def _key(self, prompt: str, templates: Sequence[str]) -> str:
        text = json.dumps([self._encoder, prompt, list(templates)])
        return hashlib.sha256(text.encode()).hexdigest()

    def _file(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f'{key}.npy'

    def _remember(self, key: str, row: NDArray[np.float32]) -> None:
        self._rows[key] = row
        if len(self._rows) > self._max_rows:
            del self._rows[next(iter(self._rows))]

    def _drop_oldest(self) -> None:
        assert self._folder is not None
        files = list(self._folder.glob('*.npy'))
        excess = len(files) - self._max_rows
        if excess > 0:
            ages = {file: _modified(file) for file in files}
            for file in sorted(files, key=ages.__getitem__)[:excess]:
                file.unlink(missing_ok=True)


def _read_row(file: Path, size: int) -> NDArray[np.float32] | None:
    """The row, or None if there is none or it is not whole."""
    try:
        with file.open('rb') as content:
            row = np.lib.format.read_array(content, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = row.dtype == np.float32 and row.shape == (size,)
    return row if whole and abs(np.linalg.norm(row) - 1) < 1e-3 else None


def _write_rows(rows: dict[Path, NDArray[np.float32]]) -> None:
    """Each whole or not at all; in a folder of its own first: another node may write the same."""
    folder = next(iter(rows)).parent
    with tempfile.TemporaryDirectory(dir=folder, prefix='.partial-') as own:
        for file, row in rows.items():
            partial = Path(own) / file.name
            np.save(partial, row, allow_pickle=False)
            partial.replace(file)


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:  # another node dropped it
        return 0.0
