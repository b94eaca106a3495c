# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Kernel maps as tensors on any device: taken there, or built there from coordinates alone.

Building in numpy (`core.kernel_maps`) is a walk along sorted keys, which one thread does fastest;
here every voxel searches its neighbours at the same time. The results are equal, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import CENTRE, NUM_LEVELS, OFFSETS_3, KernelMaps


@dataclass(frozen=True)
class DeviceLevel:
    """Tables of one level with V voxels; its coarser level has U. See `LevelMaps`.

    Attributes:
        submanifold: (27, V) int32, V for a hole.
        parent: (V,) int32; empty at the last level.
        child: (V,) int32.
        down: (8, U) int32, V for a hole.
    """

    submanifold: Tensor
    parent: Tensor
    child: Tensor
    down: Tensor

    @property
    def num_voxels(self) -> int:
        return self.submanifold.shape[1]

    @property
    def num_coarser(self) -> int:
        return self.down.shape[1]

    @property
    def up(self) -> Tensor:
        """(8, V) int32, the parent in the row of each voxel's child number, U for a hole."""
        table = self.parent.new_full((8, self.num_voxels), self.num_coarser)
        table.scatter_(0, self.child[None].long(), self.parent[None])
        return table


DeviceMaps = tuple[DeviceLevel, ...]


def to_device(maps: KernelMaps | DeviceMaps, device: torch.device | str) -> DeviceMaps:
    """The same tables on a device."""
    return tuple(
        DeviceLevel(
            *(
                torch.as_tensor(table, device=device)
                for table in (level.submanifold, level.parent, level.child, level.down)
            )
        )
        for level in maps
    )


def build_device_maps(
    coords: Tensor, sweeps: Tensor | None = None, num_levels: int = NUM_LEVELS
) -> DeviceMaps:
    """All tables of a U-Net, built where the coordinates are.

    Args:
        coords: (V, 3) integers, of every sweep unique and sorted by x, then y, then z.
        sweeps: (V,) integers, never falling: which sweep of the batch each voxel is of; None for
            one sweep.
        num_levels: levels of the U-Net; each halves the resolution.

    Raises:
        InputError: so many sweeps so far apart that a key of 63 bits cannot hold them.
    """
    coords = coords.long()
    sweeps = coords.new_zeros(len(coords)) if sweeps is None else sweeps.long()
    places = torch.cat([sweeps[:, None], coords], dim=1)  # (V, 4): sweep, x, y, z
    levels = []
    for _ in range(num_levels - 1):
        # 1 of 2: neighbours by a search in sorted keys
        submanifold = _neighbours(places)
        # 2 of 2: coarser voxels are the different halved places, sorted again
        level, places = _coarsen(places, submanifold)
        levels.append(level)
    empty = places.new_zeros(0, dtype=torch.int32)
    levels.append(DeviceLevel(_neighbours(places), empty, empty, empty.reshape(8, 0)))
    return tuple(levels)


def _sortable_keys(places: Tensor) -> tuple[Tensor, Tensor]:
    """Keys (V,) that sort as (V, 4) places do, and what one step along each axis adds (4,).

    Every axis gets one empty place more than it spans, so that no neighbour beyond the end of a
    row has the key of the next row's first voxel.
    """
    if not len(places):
        return places.new_zeros(0), places.new_ones(4)
    low, high = places.amin(dim=0), places.amax(dim=0)
    sizes = (high - low + 2).tolist()
    if sizes[0] * sizes[1] * sizes[2] * sizes[3] >= 2**62:
        raise InputError(
            'the voxels of a batch lie too far apart for kernel maps',
            got=f'{sizes[0]} sweeps of {sizes[1]} x {sizes[2]} x {sizes[3]} places',
            fix='lower batch_size, or crop point_cloud_range',
        )
    steps = [sizes[1] * sizes[2] * sizes[3], sizes[2] * sizes[3], sizes[3], 1]
    step = torch.tensor(steps, device=places.device)
    return ((places - low) * step).sum(dim=1), step


def _neighbours(places: Tensor) -> Tensor:
    """Submanifold table (27, V): half of it is searched, the other half mirrors it."""
    num = len(places)
    own = torch.arange(num, device=places.device, dtype=torch.int32)
    # column V takes what points at a hole, and is cut off again
    table = torch.full((27, num + 1), num, device=places.device, dtype=torch.int32)
    table[CENTRE, :num] = own
    if num:
        keys, step = _sortable_keys(places)
        offsets = torch.from_numpy(OFFSETS_3[:CENTRE]).to(places.device) * step[1:]
        wanted = keys + offsets.sum(dim=1, keepdim=True)  # (13, V)
        found = torch.searchsorted(keys, wanted).clamp_(max=num - 1)
        found = torch.where(keys[found] == wanted, found, num)
        table[:CENTRE, :num] = found
        mirror = table.new_full((CENTRE, num + 1), num)
        mirror.scatter_(1, found, own.expand(CENTRE, num))
        table[CENTRE + 1 :] = mirror.flip(0)
    return table[:, :num].contiguous()


def _coarsen(places: Tensor, submanifold: Tensor) -> tuple[DeviceLevel, Tensor]:
    """The tables of a level, and the places (U, 4) of the coarser one."""
    halved = places.clone()
    halved[:, 1:] >>= 1  # rounds down, below zero as well
    keys, _ = _sortable_keys(halved)
    kept, parent = torch.unique(keys, return_inverse=True)  # sorted
    coarse = places.new_empty(len(kept), 4)
    coarse[parent] = halved  # all children of a parent write the same
    bits = places[:, 1:] & 1
    child = bits[:, 0] * 4 + bits[:, 1] * 2 + bits[:, 2]
    num = len(places)
    down = torch.full((8, len(kept)), num, device=places.device, dtype=torch.int32)
    down[child, parent] = torch.arange(num, device=places.device, dtype=torch.int32)
    return DeviceLevel(submanifold, parent.int(), child.int(), down), coarse
