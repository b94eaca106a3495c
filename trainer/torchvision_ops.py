# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Make torchvision importable beside a torch that its compiled part cannot load with.

Cause: the torchvision wheel of the default package index is built for CUDA, so its compiled
extension needs `libtorch_cuda`. Beside a CPU build of torch (or another version of torch) the
extension does not load; torchvision passes over that, but then describes its operators `nms` and
`qnms` to torch unconditionally, and torch refuses because no one has defined them:
``RuntimeError: operator torchvision::nms does not exist``. Everything that imports torchvision
(open_clip, timm, transformers) fails with it, although none of what is used here calls a compiled
operator. Defining the two signatures is all that the import needs; calling them still fails.

The clean cure is a torchvision of the same build as torch; this is for machines that lack it.
"""

from __future__ import annotations

import importlib
import sys

import torch

# torch forgets the definitions when their library object is collected, so it lives here.
_definitions: list[torch.library.Library] = []


def make_torchvision_importable() -> None:
    """Import torchvision, defining its missing operators first if that is what it takes.

    Does nothing where torchvision works, is not installed, or has been mended before.

    Raises:
        RuntimeError: torchvision fails for another reason.
    """
    try:
        importlib.import_module('torchvision')
    except ModuleNotFoundError as error:
        if error.name != 'torchvision':
            raise
    except RuntimeError as error:
        if 'operator torchvision::' not in str(error) or _definitions:
            raise
        _define_operators()
        _forget_half_imported('torchvision')
        importlib.import_module('torchvision')


def _define_operators() -> None:
    library = torch.library.Library('torchvision', 'FRAGMENT')  # type: ignore[no-untyped-call]
    for name in ('nms', 'qnms'):
        schema = f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
        library.define(schema)  # type: ignore[no-untyped-call]
    _definitions.append(library)


def _forget_half_imported(package: str) -> None:
    """Drop the submodules that a failed import leaves behind, so that the next one is whole."""
    for name in [name for name in sys.modules if name.split('.')[0] == package]:
        del sys.modules[name]
