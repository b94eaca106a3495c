# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Files that settings name: beside the user's data or plan, or in the project's `config/` folder."""

from __future__ import annotations

from pathlib import Path

from reldistill_ros.core.errors import InputError

CONFIG_FOLDER = Path(__file__).resolve().parents[1] / 'config'


def find_config(path: Path, folder: Path, what: str, fix: str | None = None) -> Path:
    """Find a file: absolute, in a folder of the user's, or in the project's `config/` folder.

    Args:
        path: as the settings name it.
        folder: of the user's, looked into first.
        what: what the file is, for the error.
        fix: what to do where it is missing.

    Raises:
        InputError: it is in neither.
    """
    candidates = [folder / path, CONFIG_FOLDER / path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise InputError(
        f'{what} does not exist',
        where=path,
        expected=' or '.join(dict.fromkeys(map(str, candidates))),
        fix=fix,
    )
