# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Sweeps that cannot be read: reported, counted, and left out only as far as the user allows."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.files import write_json
from trainer.datasets.sample import Dataset, Sample
from trainer.distributed import any_process, is_distributed, is_first
from trainer.gather import gather_texts

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


def of_all_processes(sweeps: Iterable[Unreadable]) -> list[Unreadable]:
    """What all processes together cannot read, the same in each of them."""
    own = list(sweeps)
    if not is_distributed() or not any_process(bool(own)):
        return own
    told = gather_texts(json.dumps([(sweep.sample_id, str(sweep.error)) for sweep in own]))
    found = [entry for text in told for entry in json.loads(text)]
    return [Unreadable(sample_id, InputError(error)) for sample_id, error in found]


class MissingSweeps:
    """The sweeps that a run does without; also told in `missing.json` of its folder.

    The processes of a distributed run note the same ones, see `of_all_processes`.

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
        if is_first():
            write_json(self._file, self.reasons)
        if len(self.reasons) > self._allowed:
            raise InputError(
                'more sweeps cannot be read than are allowed to be missing',
                where=self._file,
                expected=f'at most {self._allowed}',
                got=f'{len(self.reasons)}, the last one {sweep.sample_id}: {sweep.error}',
                fix='restore the files, or raise --allow-missing',
            )
        if is_first():
            count = f'{len(self.reasons)} of {self._allowed} allowed'
            print(f'left out, {count}: {sweep.sample_id}: {sweep.error}', file=sys.stderr)
