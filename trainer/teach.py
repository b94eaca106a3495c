# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Keep a teacher's features of all images of a run, before training or on many machines.

`python -m trainer.teach RUN.yaml --data DATA` goes through the drives of the run and fills the
folder `teacher.cache`, which `python -m trainer.distill` then reads. It may be killed and started
again at any time. To share the work out over the GPUs of a machine:

    torchrun --nproc-per-node 8 -m trainer.teach RUN.yaml --data DATA

and over machines without torchrun: `--shard 1/4` to `--shard 4/4`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.settings import load_settings
from trainer.datasets.open import open_dataset, tell_what_is_read
from trainer.datasets.sample import Dataset
from trainer.missing import MissingSweeps, Unreadable
from trainer.settings import RunSettings
from trainer.teach_images import FoundImage, SweepImages, load_images
from trainer.teach_plan import KeptGrids, Shard, check_disk, estimate, find_shard
from trainer.teachers.build import build_grids, build_text_encoder
from trainer.teachers.settings import ClipTeacherSettings, GridTeacherSettings


def teach(
    teacher: KeptGrids,
    datasets: Sequence[Dataset],
    shard: Shard,
    *,
    workers: int = 0,
    allow_missing: int = 0,
) -> int:
    """Keep the features of a shard's images that are not kept yet.

    Args:
        teacher: with its folder.
        datasets: drives to go through.
        shard: which of their sweeps to take.
        workers: processes that read the sweeps.
        allow_missing: how many of its sweeps may be unreadable.

    Returns:
        How many images were computed.

    Raises:
        InputError: the disk is too small, a kept file is damaged, or a drive cannot be read.
    """
    cache = teacher.cache
    cache.remove_leftovers()
    images = SweepImages(datasets, cache)
    sweeps = shard.sweeps(len(images))
    if not sweeps:
        return 0
    told = cache.folder / 'missing' / f'{shard.index + 1}_of_{shard.num}'
    if allow_missing:
        told.mkdir(parents=True, exist_ok=True)
    missing = MissingSweeps(allow_missing, told)
    plan = estimate(images, sweeps, teacher, missing)
    free = check_disk(plan.bytes_to_write, cache.folder)
    if shard.index == 0:
        print(f'{teacher.grids.name}\nin {cache.folder}\n{plan.describe(shard, free)}')
    computed = plan.computed
    bar = tqdm(
        load_images(images, sweeps, workers),
        total=len(sweeps),
        unit='sweep',
        desc=f'teach {shard.index + 1}/{shard.num}',
        position=shard.local_index,
    )
    for found in bar:
        if isinstance(found, Unreadable):
            missing.note([found])
        else:
            computed += sum(keep(teacher, image) for image in found)
        bar.set_postfix(computed=computed)
    return computed


def keep(teacher: KeptGrids, image: FoundImage) -> bool:
    """Compute and keep an image's features, and tell whether that was to be done.

    Raises:
        InputError: they are kept, but damaged.
    """
    # another sweep, or another process, may have had the same image since it was read
    if image.pixels is None or teacher.cache.path(image.key).is_file():
        teacher.cache.read(image.key)
        return False
    teacher.cache.write(image.key, teacher.grids.compute(image.pixels))
    return True


def build_kept_grids(settings: RunSettings, data_root: Path) -> KeptGrids:
    """The part of a run's teacher that is kept, and where.

    Raises:
        InputError: the teacher looks at no pixels, or the run does not keep its features.
    """
    teacher = settings.teacher
    if not isinstance(teacher, GridTeacherSettings):
        raise InputError(
            'this teacher has no features to keep: its class maps are on disk already',
            where=f'teacher kind: {teacher.kind}',
        )
    encoder = None
    if isinstance(teacher, ClipTeacherSettings) and settings.text is not None:
        encoder = build_text_encoder(settings.text, data_root)
    grids = build_grids(teacher, encoder, data_root)
    if grids.cache is None:
        raise InputError(
            'the run does not keep the features of its teacher',
            where='settings: teacher.cache',
            fix='name a folder there, and set augment.crop: 1 and augment.flip_image: false',
        )
    return KeptGrids(grids, grids.cache)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog='python -m trainer.teach',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('settings', type=Path, help='YAML file of the run, see config/runs/')
    parser.add_argument('--data', type=Path, default=Path(), help="root of the settings' paths")
    parser.add_argument('--shard', metavar='I/N', help='take the I-th of N parts of the sweeps')
    parser.add_argument(
        '--evaluate', action='store_true', help='the drives to evaluate on as well'
    )
    parser.add_argument(
        '--workers', type=int, help="processes that read the sweeps; the run's by default"
    )
    parser.add_argument(
        '--allow-missing',
        type=int,
        default=0,
        metavar='N',
        help='leave out up to N sweeps of a process that cannot be read; by default the first '
        'one ends it',
    )
    arguments = parser.parse_args()
    tell_what_is_read()
    settings = load_settings(arguments.settings, RunSettings)
    shard = find_shard(arguments.shard)
    torch.set_num_threads(settings.threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(shard.local_index % torch.cuda.device_count())
    teacher = build_kept_grids(settings, arguments.data)
    drives = settings.train + (settings.evaluate if arguments.evaluate else ())
    datasets = [open_dataset(entry, arguments.data) for entry in drives]
    workers = settings.workers if arguments.workers is None else arguments.workers
    computed = teach(
        teacher, datasets, shard, workers=workers, allow_missing=arguments.allow_missing
    )
    print(f'shard {shard.index + 1}/{shard.num} is whole: {computed} images computed')


if __name__ == '__main__':
    run_command(main)
