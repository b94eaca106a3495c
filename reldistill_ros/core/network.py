# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The student's backbone as a list of convolutions: what an engine without torch walks through.

`core.student` says the same for training; the names are those of its weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

MINKUNET_PLANES = (32, 32, 64, 128, 256, 256, 128, 96, 96)

# Channels of stem, four encoder and four decoder stages; residual blocks of the eight stages.
NETWORKS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    'small': ((16, 16, 32, 64, 64, 64, 48, 48, 48), (1, 1, 1, 1, 1, 1, 1, 1)),
    'minkunet18': (MINKUNET_PLANES, (2, 2, 2, 2, 2, 2, 2, 2)),
    'minkunet34': (MINKUNET_PLANES, (2, 3, 4, 6, 2, 2, 2, 2)),
}
SCRATCH = ('a', 'b', 'c')

Kind = Literal['submanifold', 'down', 'up', 'linear']


@dataclass(frozen=True)
class Place:
    """Where the rows of a level's features lie.

    Attributes:
        buffer: `input`, one of `SCRATCH`, or `concat<level>`.
        stride: channels from one row to the next.
        column: first channel.
    """

    buffer: str
    stride: int
    column: int = 0


@dataclass(frozen=True)
class Convolution:
    """`target = relu(residual + bias + sum_k source[table_k] W_k)`, batch norm folded.

    Attributes:
        name: prefix of its weights in the student.
        kind: kernel map; `linear` is 1x1x1.
        level: of the finer of its two sides.
        c_in: input channels.
        c_out: output channels.
        source: rows to read.
        target: rows to write; may be the residual's.
        residual: rows to add.
        relu: whether negative values become zero.
    """

    name: str
    kind: Kind
    level: int
    c_in: int
    c_out: int
    source: Place
    target: Place
    residual: Place | None = None
    relu: bool = True

    @property
    def source_level(self) -> int:
        return self.level + (self.kind == 'up')

    @property
    def target_level(self) -> int:
        return self.level + (self.kind == 'down')


def backbone_convolutions(network: str, num_features: int) -> tuple[Convolution, ...]:
    """Every convolution of the backbone in order; the last one writes the point features.

    Args:
        network: one of `NETWORKS`.
        num_features: input features of a voxel.
    """
    return tuple(_backbone(*NETWORKS[network], num_features))


def _backbone(p: tuple[int, ...], b: tuple[int, ...], num_features: int) -> Iterator[Convolution]:
    # A decoder reads what came up and the skip side by side: both are written into one buffer.
    up = [Place(f'concat{level}', p[8 - level] + p[level]) for level in range(4)]
    skip = [Place(place.buffer, place.stride, p[8 - i]) for i, place in enumerate(up)]
    x = Place('a', p[0])
    features = Place('input', num_features)
    yield Convolution('stem1', 'submanifold', 0, num_features, p[0], features, x)
    yield Convolution('stem2', 'submanifold', 0, p[0], p[0], x, skip[0])
    for i in range(4):
        x = Place('a', p[i])
        yield Convolution(f'downs.{i}', 'down', i, p[i], p[i], skip[i], x)
        widths = (p[i], *[p[i + 1]] * b[i])
        stage = list(_stage(f'encoders.{i}', i + 1, widths, x, skip[i + 1] if i < 3 else None))
        yield from stage
        x = stage[-1].target
    for i, level in enumerate((3, 2, 1, 0)):
        yield Convolution(f'ups.{i}', 'up', level, p[4 + i], p[5 + i], x, up[level])
        widths = (up[level].stride, *[p[5 + i]] * b[4 + i])
        stage = list(_stage(f'decoders.{i}', level, widths, up[level], None))
        yield from stage
        x = stage[-1].target


def _stage(
    name: str, level: int, widths: tuple[int, ...], x: Place, target: Place | None
) -> Iterator[Convolution]:
    """Residual blocks; each adds onto its shortcut in place, the last one writes `target`."""
    for block, (c_in, c_out) in enumerate(pairwise(widths)):
        prefix = f'{name}.blocks.{block}'
        middle, shortcut = (Place(n, c_out) for n in [s for s in SCRATCH if s != x.buffer][:2])
        yield Convolution(f'{prefix}.conv1', 'submanifold', level, c_in, c_out, x, middle)
        residual = x
        if c_in != c_out:
            residual = shortcut
            yield Convolution(
                f'{prefix}.shortcut', 'linear', level, c_in, c_out, x, shortcut, relu=False
            )
        last = block == len(widths) - 2
        out = target if last and target else residual
        yield Convolution(
            f'{prefix}.conv2', 'submanifold', level, c_out, c_out, middle, out, residual
        )
        x = out
