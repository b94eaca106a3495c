# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The student's backbone as an ONNX graph with a dynamic number of voxels per level."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from reldistill_ros.backends.tables import table_inputs
from reldistill_ros.backends.torch_maps import TableMaps
from reldistill_ros.core.errors import import_extra
from reldistill_ros.core.kernel_maps import NUM_LEVELS, build_kernel_maps
from reldistill_ros.core.student import Backbone

# The newest pair that both ONNX Runtime (1.17 on) and TensorRT 10 take.
OPSET = 18
IR_VERSION = 10

Shape = dict[int, object]


class TableBackbone(nn.Module):
    """The backbone with its tables as plain inputs, in the order of `table_inputs`."""

    def __init__(self, backbone: Backbone, names: Sequence[str]) -> None:
        super().__init__()
        self.backbone = backbone
        self._names = tuple(names)

    def forward(self, feats: Tensor, *tables: Tensor) -> Tensor:
        """See `Backbone.forward`."""
        kinds = {
            kind: [t for name, t in zip(self._names, tables) if name.startswith(kind)]
            for kind in ('submanifold', 'down', 'up')
        }
        features: Tensor = self.backbone(feats, TableMaps(**kinds))
        return features


def write_onnx(backbone: Backbone, num_features: int, path: Path) -> None:
    """Write the graph: inputs `feats` (V_0, F) and `table_inputs`, output `features` (V_0, D).

    Args:
        backbone: in evaluation mode, batch norm folded.
        num_features: F.
        path: file to write.
    """
    import_extra('onnxscript', 'train')
    tables, arguments = example_inputs(num_features)
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter('ignore')  # the exporter's own deprecations
        torch.onnx.export(
            TableBackbone(backbone, tables).eval(),
            arguments,
            path,
            input_names=['feats', *tables],
            output_names=['features'],
            dynamic_shapes=dynamic_shapes(tables),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    _pin_ir_version(path)


def example_inputs(num_features: int) -> tuple[list[str], tuple[Tensor, ...]]:
    """Names of the tables, and features and tables of some sweep to trace the backbone with."""
    coords = np.unique(np.random.default_rng(0).integers(0, 40, (4000, 3)), axis=0)
    tables = table_inputs(build_kernel_maps(coords.astype(np.int32)))
    arrays = (torch.from_numpy(table) for table in tables.values())
    return list(tables), (torch.zeros(len(coords), num_features), *arrays)


def dynamic_shapes(names: Sequence[str]) -> tuple[Shape, tuple[Shape, ...]]:
    """Each level has its own number of voxels."""
    sizes = [Dim(f'voxels{level}', min=2, max=1 << 24) for level in range(NUM_LEVELS)]

    def shape(name: str) -> Shape:
        level = int(name[-1])
        if name.startswith('down'):
            return {1: sizes[level + 1]}
        return {0 if name.startswith('up') else 1: sizes[level]}

    return ({0: sizes[0]}, tuple(shape(name) for name in names))


def _pin_ir_version(path: Path) -> None:
    model = onnx.load(path)
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
