# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Sweeps that cannot be read: reported, counted, and left out only as far as the user allows."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.files import write_json
from trainer.datasets.sample import Dataset, Sample

MISSING = 'missing.json'
# What a file raises that is cut off, or away: InputError where a reader has looked at its content.
READ_ERRORS = (InputError, OSError)


@dataclass(frozen=True)
class Unreadable:
    """A sweep that cannot be read.

    Attributes:
        sample_id: which one.
        error: why; one of `READ_ERRORS`.
    """

    sample_id: str
    error: Exception


class MissingSweeps:
    """The sweeps that a run does without; also told in `missing.json` of its folder.

    Args:
        allowed: how many different ones at most; beyond, the error is raised.
        folder: of the run.
    """

    def __init__(self, allowed: int, folder: Path) -> None:
        self._allowed, self._file = allowed, folder / MISSING
        self.reasons: dict[str, str] = {}

    def note(self, sweeps: Iterable[Unreadable]) -> None:
        """Count sweeps, each once.

        Raises:
            InputError: there are more than allowed.
            OSError: likewise, where none is allowed and a file is away.
        """
        for sweep in sweeps:
            if not self._allowed:
                raise sweep.error
            if sweep.sample_id not in self.reasons:
                self._add(sweep)

    def read(self, dataset: Dataset, indices: Iterable[int]) -> Iterator[Sample]:
        """Those of some sweeps that can be read; the others are noted."""
        for index in indices:
            try:
                yield dataset[index]
            except READ_ERRORS as error:
                self.note([Unreadable(dataset.sample_ids[index], error)])

    def _add(self, sweep: Unreadable) -> None:
        self.reasons[sweep.sample_id] = str(sweep.error)
        write_json(self._file, self.reasons)
        if len(self.reasons) > self._allowed:
            raise InputError(
                'more sweeps cannot be read than are allowed to be missing',
                where=self._file,
                expected=f'at most {self._allowed}',
                got=f'{len(self.reasons)}, the last one {sweep.sample_id}: {sweep.error}',
                fix='restore the files, or raise --allow-missing',
            )
        print(
            f'left out, {len(self.reasons)} of {self._allowed} allowed: {sweep.sample_id}: '
            f'{sweep.error}',
            file=sys.stderr,
        )
