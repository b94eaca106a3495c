# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The bags that paths stand for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reldistill_ros.core.errors import InputError

WILDCARDS = '*?['


def find_bags(paths: Sequence[Path]) -> list[Path]:
    """The bags that paths stand for, in the order given, those of one path in order of name.

    Args:
        paths: each a bag (a folder with `metadata.yaml`, an `.mcap`, `.db3` or `.bag` file), a
            folder with bags in it, or a pattern such as `drive/*.mcap`.

    Raises:
        InputError: nothing is there, or no bag.
    """
    found = [bag for path in paths for bag in _bags_at(path)]
    twice = sorted({str(bag) for bag in found if found.count(bag) > 1})
    if twice:
        raise InputError('a bag is given twice', where=', '.join(twice))
    return found


def _bags_at(path: Path) -> list[Path]:
    if any(letter in str(path) for letter in WILDCARDS) and not path.exists():
        first = next(i for i, part in enumerate(path.parts) if set(WILDCARDS) & set(part))
        found = sorted(Path(*path.parts[:first]).glob(str(Path(*path.parts[first:]))))
    elif path.is_dir() and not (path / 'metadata.yaml').exists():
        found = sorted(entry for entry in path.iterdir() if _is_bag(entry))
    else:
        found = [path]
    if not found or not found[0].exists():
        raise InputError(
            'the bag does not exist' if not path.is_dir() else 'the folder holds no bag',
            where=path,
            expected='a folder with metadata.yaml, or .mcap, .db3 or .bag files',
            fix='give the folder of a bag',
        )
    return found


def _is_bag(path: Path) -> bool:
    return path.suffix in ('.mcap', '.db3', '.bag') or (path / 'metadata.yaml').exists()
