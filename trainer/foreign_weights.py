# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Weights of others' MinkUNets by our names and in our order.

Known are the networks, and forks that keep their names, of

- MinkowskiEngine: `Res16UNet34C` as in SLidR (Sautier et al., CVPR 2022), PPKT and ST-SLidR's code,
  after Choy et al. (CVPR 2019). Kernels (K, C_in, C_out) with x fastest, those of 2x2x2 too, where
  ours have z fastest; norms inside of a wrapper (`.bn.`); one stem convolution, where ours has two:
  the second becomes the identity.
- torchsparse: `MinkUNet` of SPVNAS (Tang et al., ECCV 2020) and `SparseResUNet42` of torchsparse 2.
  Their order is ours. That of torchsparse before 1.4 was not compared.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

NORM = r'(weight|bias|running_mean|running_var|num_batches_tracked)'
Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]


@dataclass(frozen=True)
class Architecture:
    """How a library names its network.

    Attributes:
        name: for messages.
        sign: pattern of a weight that only it has.
        rules: patterns of its names, and ours.
        unused: patterns of weights that its voxel network does not use.
        x_fastest: whether kernels of 2x2x2 have x fastest.
        one_stem: whether our second stem convolution has no counterpart.
    """

    name: str
    sign: str
    rules: Rules
    unused: tuple[str, ...] = ()
    x_fastest: bool = False
    one_stem: bool = False


def _side(number: str, names: tuple[str, str]) -> str:
    """`encoders.0` to `encoders.3` for 1 to 4, `decoders.0` to `decoders.3` for 5 to 8."""
    index = int(number) - 1
    return f'{names[index // 4]}.{index % 4}'


def _minkowski_block(match: re.Match[str]) -> str:
    number, block, rest = match.groups()
    return f'backbone.{_side(number, ("encoders", "decoders"))}.blocks.{block}.{rest}'


def _less_one(template: str) -> Callable[[re.Match[str]], str]:
    """Fill a template with the groups; of the numbers in it, the first counts from one."""
    return lambda match: template.format(int(match[1]) - 1, *match.groups()[1:])


def _residual(prefix: str, inner: str, around: str) -> Rules:
    """Rules of residual blocks that `prefix` has already brought below `backbone.`."""
    return (
        (rf'{prefix}\.{inner}\.0\.kernel', r'\1.conv1.kernel'),
        (rf'{prefix}\.{inner}\.1\.{NORM}', r'\1.conv1.norm.\2'),
        (rf'{prefix}\.{inner}\.3\.kernel', r'\1.conv2.kernel'),
        (rf'{prefix}\.{inner}\.4\.{NORM}', r'\1.conv2.norm.\2'),
        (rf'{prefix}\.{around}\.0\.kernel', r'\1.shortcut.kernel'),
        (rf'{prefix}\.{around}\.1\.{NORM}', r'\1.shortcut.norm.\2'),
    )


BLOCK = r'(backbone\.(?:en|de)coders\.\d\.blocks\.\d+)'
STEM: Rules = (
    (r'stem\.0\.kernel', 'backbone.stem1.kernel'),
    (rf'stem\.1\.{NORM}', r'backbone.stem1.norm.\1'),
    (r'stem\.3\.kernel', 'backbone.stem2.kernel'),
    (rf'stem\.4\.{NORM}', r'backbone.stem2.norm.\1'),
)
ARCHITECTURES = (
    Architecture(
        'Res16UNet34C (MinkowskiEngine)',
        r'conv0p1s1\.kernel',
        (
            (r'conv0p1s1\.kernel', 'backbone.stem1.kernel'),
            (rf'bn0\.bn\.{NORM}', r'backbone.stem1.norm.\1'),
            (r'conv([1-4])p\d+s2\.kernel', _less_one('backbone.downs.{}.kernel')),
            (rf'bn([1-4])\.bn\.{NORM}', _less_one('backbone.downs.{}.norm.{}')),
            (r'convtr([4-7])p\d+s2\.kernel', lambda m: f'backbone.ups.{int(m[1]) - 4}.kernel'),
            (rf'bntr([4-7])\.bn\.{NORM}', lambda m: f'backbone.ups.{int(m[1]) - 4}.norm.{m[2]}'),
            (r'block([1-8])\.(\d+)\.(.+)', _minkowski_block),
            (rf'{BLOCK}\.norm([12])\.bn\.{NORM}', r'\1.conv\2.norm.\3'),
            (rf'{BLOCK}\.downsample\.0\.kernel', r'\1.shortcut.kernel'),
            (rf'{BLOCK}\.downsample\.1\.bn\.{NORM}', r'\1.shortcut.norm.\2'),
            (r'final\.kernel', 'head.weight'),
            (r'final\.bias', 'head.bias'),
        ),
        x_fastest=True,
        one_stem=True,
    ),
    Architecture(
        'MinkUNet of SPVNAS (torchsparse)',
        r'stage1\.0\.net\.0\.kernel',
        (
            *STEM,
            (r'stage([1-4])\.0\.net\.0\.kernel', _less_one('backbone.downs.{}.kernel')),
            (rf'stage([1-4])\.0\.net\.1\.{NORM}', _less_one('backbone.downs.{}.norm.{}')),
            (
                r'stage([1-4])\.([1-9]\d*)\.(.+)',
                lambda m: f'backbone.encoders.{int(m[1]) - 1}.blocks.{int(m[2]) - 1}.{m[3]}',
            ),
            (r'up([1-4])\.0\.net\.0\.kernel', _less_one('backbone.ups.{}.kernel')),
            (rf'up([1-4])\.0\.net\.1\.{NORM}', _less_one('backbone.ups.{}.norm.{}')),
            (r'up([1-4])\.1\.(\d+)\.(.+)', _less_one('backbone.decoders.{}.blocks.{}.{}')),
            *_residual(BLOCK, 'net', 'downsample'),
            (r'classifier\.0\.(weight|bias)', r'head.\1'),
        ),
        unused=(r'point_transforms\..+',),
    ),
    Architecture(
        'SparseResUNet42 (torchsparse)',
        r'decoders\.0\.upsample\.0\.kernel',
        (
            *STEM,
            (r'encoders\.([0-3])\.0\.0\.kernel', r'backbone.downs.\1.kernel'),
            (rf'encoders\.([0-3])\.0\.1\.{NORM}', r'backbone.downs.\1.norm.\2'),
            (
                r'encoders\.([0-3])\.([1-9]\d*)\.(.+)',
                lambda m: f'backbone.encoders.{m[1]}.blocks.{int(m[2]) - 1}.{m[3]}',
            ),
            (r'decoders\.([0-3])\.upsample\.0\.kernel', r'backbone.ups.\1.kernel'),
            (rf'decoders\.([0-3])\.upsample\.1\.{NORM}', r'backbone.ups.\1.norm.\2'),
            (r'decoders\.([0-3])\.fuse\.(\d+)\.(.+)', r'backbone.decoders.\1.blocks.\2.\3'),
            *_residual(BLOCK, 'main', 'shortcut'),
        ),
    ),
)


def find_architecture(names: list[str]) -> Architecture | None:
    """The known network that weights of these names are of."""
    for architecture in ARCHITECTURES:
        if any(re.fullmatch(architecture.sign, name) for name in names):
            return architecture
    return None


def to_ours(weights: dict[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """All weights that the network uses, by our names where there is one, in our order."""
    ours = {}
    for name, value in weights.items():
        if any(re.fullmatch(pattern, name) for pattern in architecture.unused):
            continue
        renamed = rename(name, architecture.rules)
        ours[renamed] = _in_our_order(renamed, value, architecture.x_fastest)
    if architecture.one_stem and 'backbone.stem1.norm.weight' in ours:
        ours |= identity_stem(ours)
    return ours


def rename(name: str, rules: Rules) -> str:
    """Apply every rule that fits, one after the other."""
    for pattern, ours in rules:
        if re.fullmatch(pattern, name):
            name = re.sub(pattern, ours, name)
    return name


def _in_our_order(name: str, value: Tensor, x_fastest: bool) -> Tensor:
    if name == 'head.weight' and x_fastest:
        return value.reshape(value.shape[-2:]).T.contiguous()  # (C_in, C_out) -> (C_out, C_in)
    if name == 'head.bias':
        return value.reshape(-1)
    if name.endswith('shortcut.kernel'):
        return value.reshape(value.shape[-2:])
    if name.endswith('.kernel') and value.dim() == 3 and len(value) == 8 and x_fastest:
        return value.reshape(2, 2, 2, *value.shape[1:]).transpose(0, 2).flatten(0, 2)
    return value


def identity_stem(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a second stem convolution that passes on what the first one gives.

    In evaluation it does so exactly, for what comes from a ReLU is not negative. In training a
    norm would shift and scale by the statistics of the batch; so it puts back those that are
    expected of a rectified normal variable with the mean b and the deviation g of the first norm:
    `m = b P(b / g) + g p(b / g)` and `E x^2 = (b^2 + g^2) P(b / g) + b g p(b / g)`, with the
    normal distribution P and its density p.
    """
    deviation = weights['backbone.stem1.norm.weight'].abs().double().clamp(min=1e-6)
    mean = weights['backbone.stem1.norm.bias'].double()
    ratio = mean / deviation
    below = 0.5 * (1 + torch.erf(ratio / math.sqrt(2)))
    density = torch.exp(-0.5 * ratio**2) / math.sqrt(2 * math.pi)
    rectified = mean * below + deviation * density
    square = (mean**2 + deviation**2) * below + mean * deviation * density
    variance = (square - rectified**2).clamp(min=1e-6)
    width = len(mean)
    kernel = torch.zeros(27, width, width)
    kernel[13] = torch.eye(width)
    values = {
        'kernel': kernel,
        'norm.weight': torch.sqrt(variance + torch.nn.BatchNorm1d(1).eps),
        'norm.bias': rectified,
        'norm.running_mean': rectified,
        'norm.running_var': variance,
        'norm.num_batches_tracked': torch.zeros(()),
    }
    long = 'norm.num_batches_tracked'
    return {
        f'backbone.stem2.{name}': value.long() if name == long else value.float()
        for name, value in values.items()
    }
