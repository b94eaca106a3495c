# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Writing files and folders whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reldistill_ros.core.errors import InputError


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


def make_private(folder: Path, what: str) -> None:
    """Make a folder that only this user may write to, or check that it is one.

    Args:
        folder: with its parents.
        what: it is for, as the error says it.

    Raises:
        InputError: it cannot be had, or others can write to it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
    except OSError as error:
        raise InputError(
            f'the folder for {what} cannot be had', where=folder, got=error.strerror
        ) from error
    if state.st_uid != os.geteuid() or state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InputError(
            f'others can write to the folder for {what}',
            where=folder,
            expected='a folder of this user with mode 0700',
            got=f'owner {state.st_uid}, mode {stat.S_IMODE(state.st_mode):04o}',
            fix='name another folder, or take the rights away: chmod go-w',
        )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
