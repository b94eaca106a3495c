# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The official splits of nuScenes by scene name, as its devkit lists them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from reldistill_ros.core.errors import InputError

SplitName = Literal['train', 'val', 'mini_train', 'mini_val']

# Beware: `mini_train` holds two scenes of `val`, 553 and 796.
MINI_TRAIN = (61, 553, 655, 757, 796, 1077, 1094, 1100)
MINI_VAL = (103, 916)
# Runs of scene numbers, first and last. The other 700 scenes of `v1.0-trainval` are for training.
VAL = (
    (3, 3), (12, 18), (35, 36), (38, 39), (92, 110), (221, 221), (268, 278), (329, 332),
    (344, 346), (519, 524), (552, 565), (625, 627), (629, 630), (632, 638), (770, 771),
    (775, 775), (777, 778), (780, 784), (794, 800), (802, 802), (904, 917), (919, 931),
    (962, 963), (966, 969), (971, 972), (1059, 1073),
)  # fmt: skip


def choose_scenes(split: SplitName | None, present: Sequence[str]) -> list[str]:
    """Names of the scenes of a split, in order.

    Args:
        split: None for all scenes.
        present: names of the scenes that the version has.

    Raises:
        InputError: the version does not have the scenes of the split.
    """
    if split is None:
        return sorted(present)
    val = {name_of(number) for first, last in VAL for number in range(first, last + 1)}
    if split == 'train':
        chosen = [name for name in present if name not in val]
    elif split == 'val':
        chosen = [name for name in present if name in val]
    else:
        chosen = [name_of(number) for number in (MINI_TRAIN, MINI_VAL)[split == 'mini_val']]
    missing = sorted({*chosen} - {*present})
    if missing or not chosen:
        raise InputError(
            'the version does not have the scenes of the split',
            where=f'split: {split}',
            expected=missing or f'scenes of the split {split}',
            got=f'{len(present)} scenes: {", ".join(sorted(present)[:5])}, ...',
            fix='change `split` or `version` in the settings',
        )
    return sorted(chosen)


def name_of(number: int) -> str:
    """Name of a scene."""
    return f'scene-{number:04}'
