# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which sweeps a process takes, and what the work will cost in time and on disk."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reldistill_ros.core.errors import InputError
from trainer.missing import MissingSweeps, Unreadable
from trainer.teach_images import SweepImages
from trainer.teachers.feature_cache import FeatureCache
from trainer.teachers.grids import ImageGrids

PROBES = 8
TIMED = 2  # images of the probes that are computed; the first may include a warm-up
MB = 1e6


class KeptGrids(NamedTuple):
    """What of a teacher is kept, and where."""

    grids: ImageGrids
    cache: FeatureCache


@dataclass(frozen=True)
class Shard:
    """One of several processes, on one machine or on many.

    Attributes:
        index: from 0.
        num: of processes.
        local_index: among those of this machine.
    """

    index: int = 0
    num: int = 1
    local_index: int = 0

    def sweeps(self, num_sweeps: int) -> range:
        """Its sweeps: neighbours, which may share an image and lie in one file."""
        return range(
            num_sweeps * self.index // self.num, num_sweeps * (self.index + 1) // self.num
        )


def find_shard(asked: str | None) -> Shard:
    """The shard that was asked for as `i/n`, i from 1, or that torchrun gave to this process.

    Raises:
        InputError: not of this form, or asked for under torchrun.
    """
    rank, world, local = (os.environ.get(k) for k in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'))
    if asked is None:
        return Shard(int(rank or 0), int(world or 1), int(local or 0))
    if world is not None and int(world) > 1:
        raise InputError(
            'torchrun shares the work out already', where='--shard', fix='leave --shard out'
        )
    index, _, num = asked.partition('/')
    if not (index.isdecimal() and num.isdecimal() and 1 <= int(index) <= int(num)):
        raise InputError(
            'there is no such shard',
            where='--shard',
            expected='i/n with i from 1 to n, such as 3/8',
            got=asked,
        )
    return Shard(int(index) - 1, int(num))


@dataclass(frozen=True)
class Estimate:
    """What is to be done, reckoned from a few sweeps.

    Attributes:
        images: of all sweeps of the run.
        missing: share of them whose features are not kept, as found among this shard's.
        image_bytes: features of one image on disk.
        image_seconds: to compute and write them; 0 where nothing is missing.
        computed: images that were computed for this.
    """

    images: int
    missing: float
    image_bytes: int
    image_seconds: float
    computed: int = 0

    @property
    def bytes_to_write(self) -> int:
        return round(self.images * self.missing * self.image_bytes)

    def seconds(self, shard: Shard) -> float:
        """Time of the teacher in one process, without reading."""
        return self.images * self.missing / shard.num * self.image_seconds

    def describe(self, shard: Shard, free: int) -> str:
        """Lines for the user."""
        minutes, seconds = divmod(round(self.seconds(shard)), 60)
        hours, minutes = divmod(minutes, 60)
        return (
            f'about {self.images} images x {self.image_bytes / MB:.2f} MB '
            f'= {self.images * self.image_bytes / MB:.0f} MB, '
            f'of which {1 - self.missing:.0%} are kept already\n'
            f'to write: {self.bytes_to_write / MB:.0f} MB; free: {free / MB:.0f} MB\n'
            f'teacher: {self.image_seconds:.3f} s an image, in all {hours}:{minutes:02}:{seconds:02}'
            f' on each of {shard.num} process{"es" if shard.num > 1 else ""}'
        )


def estimate(
    images: SweepImages, sweeps: range, teacher: KeptGrids, missing: MissingSweeps
) -> Estimate:
    """Look at a few of a shard's sweeps, and let the teacher see the first missing images.

    Raises:
        InputError: none of these sweeps has an image, or can be read.
    """
    grids, cache = teacher
    probes = sorted({sweeps[k * len(sweeps) // PROBES] for k in range(PROBES)})
    seen = [images[probe] for probe in probes]
    found = [image for sweep in seen if not isinstance(sweep, Unreadable) for image in sweep]
    if not found:
        missing.note(sweep for sweep in seen if isinstance(sweep, Unreadable))
        raise InputError(
            'the sweeps have no images',
            where=f'{len(probes)} sweeps looked at',
            fix='look at the drive: python -m trainer.show_pairs --help',
        )
    todo = [(image.key, image.pixels) for image in found if image.pixels is not None]
    seconds = [0.0]
    for key, pixels in todo[:TIMED]:
        start = time.perf_counter()
        cache.write(key, grids.compute(pixels))
        seconds.append(time.perf_counter() - start)
    sample = todo[0][0] if todo else found[0].key
    return Estimate(
        images=round(len(images) * len(found) / len(probes)),
        missing=len(todo) / len(found),
        image_bytes=cache.path(sample).stat().st_size,
        image_seconds=seconds[-1],
        computed=len(seconds) - 1,
    )


def check_disk(needed: int, folder: Path) -> int:
    """Bytes free where a folder is, or will be.

    Raises:
        InputError: fewer than are needed.
    """
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise InputError(
            'the disk is too small for the features',
            where=folder,
            expected=f'about {needed / MB:.0f} MB free',
            got=f'{free / MB:.0f} MB',
            fix='make room, name another folder as teacher.cache, or see images at a lower size',
        )
    return free
