# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The student as an engine of torch-tensorrt, for the GPU of this machine: `--tensorrt`.

The other way to an engine is the node's own, from the bundle's ONNX graph. Both give an engine
with the same inputs and in the same kind of file, so that the robot runs either.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram, export

from reldistill_ros.backends.backend import Backend, Precision
from reldistill_ros.backends.engine_files import EngineCache, user_engine_folder, write_engine
from reldistill_ros.backends.engine_sizes import EngineSizes, input_shapes
from reldistill_ros.backends.tensorrt_backend import TensorrtBackend
from reldistill_ros.backends.tensorrt_engine import Engine
from reldistill_ros.backends.tensorrt_job import (
    GRAPHS,
    Job,
    bundled_engine_name,
    engine_key,
    target,
)
from reldistill_ros.backends.tensorrt_library import MODULES, open_library
from reldistill_ros.core.errors import InputError, import_extra
from reldistill_ros.core.student import Backbone
from trainer.onnx_graph import TableBackbone, dynamic_shapes, example_inputs

PRECISION: Precision = 'float16'
FEWEST_EQUAL_LABELS = 0.999  # of the voxels, between the engine and torch in float32

# One engine or none: a part left in torch could not run on the robot. Types are those of the
# program. Weights are part of the engine, and float32 is not rounded to TF32.
SETTINGS: dict[str, Any] = {
    'min_block_size': 1,
    'require_full_compilation': True,
    'disable_tf32': True,
    'immutable_weights': True,
    'cache_built_engines': False,
    'reuse_cached_engines': False,
}


class NamedBackbone(nn.Module):
    """The backbone with its inputs by name, which become those of the engine.

    Args:
        backbone: in evaluation mode, batch norm folded; taken over.
        precision: in which it computes; what goes in and comes out is float32.
    """

    def __init__(self, backbone: Backbone, precision: Precision) -> None:
        super().__init__()
        self._dtype = getattr(torch, precision)
        names, _ = example_inputs(1)
        self.backbone = TableBackbone(backbone.to(self._dtype), names)

    def forward(
        self,
        feats: Tensor,
        submanifold0: Tensor,
        down0: Tensor,
        up0: Tensor,
        submanifold1: Tensor,
        down1: Tensor,
        up1: Tensor,
        submanifold2: Tensor,
        down2: Tensor,
        up2: Tensor,
        submanifold3: Tensor,
        down3: Tensor,
        up3: Tensor,
        submanifold4: Tensor,
    ) -> Tensor:
        """See `Backbone.forward` and `table_inputs`."""
        tables = (
            *(submanifold0, down0, up0, submanifold1, down1, up1, submanifold2, down2, up2),
            *(submanifold3, down3, up3, submanifold4),
        )
        features: Tensor = self.backbone(feats.to(self._dtype), *tables)
        return features.float()


def export_program(
    backbone: Backbone, num_features: int, precision: Precision, device: str
) -> ExportedProgram:
    """The backbone as a program with any number of voxels at each level."""
    names, arguments = example_inputs(num_features)
    feats_shape, table_shapes = dynamic_shapes(names)
    return export(
        NamedBackbone(backbone, precision).to(device).eval(),
        tuple(argument.to(device) for argument in arguments),
        dynamic_shapes=(feats_shape, *table_shapes),  # type: ignore[misc]
    )


def program_inputs(torch_tensorrt: Any, sizes: EngineSizes, num_features: int) -> list[Any]:
    """The smallest, the typical and the largest shape of each input, for torch-tensorrt."""
    smallest, typical, largest = (input_shapes(bucket, num_features) for bucket in sizes.profile)
    return [
        torch_tensorrt.Input(
            min_shape=smallest[name],
            opt_shape=typical[name],
            max_shape=largest[name],
            dtype=torch.float32 if name == 'feats' else torch.int32,
        )
        for name in smallest
    ]


def check_can_build() -> Any:
    """torch-tensorrt, where it can build here.

    Raises:
        InputError: torch sees no GPU, or torch-tensorrt is not installed.
    """
    if not torch.cuda.is_available():
        raise InputError(
            'torch-tensorrt builds for the GPU of this machine, and torch sees none',
            fix='leave --tensorrt out: the robot builds its engine itself from the bundle',
        )
    return import_extra('torch_tensorrt', 'torch-tensorrt')


def export_tensorrt(
    backbone: Backbone,
    folder: Path,
    sizes: EngineSizes,
    measure: Callable[[Backend], dict[str, float]],
) -> dict[str, float]:
    """Write the engine into a bundle's folder, and compare it with torch.

    Args:
        backbone: in evaluation mode, batch norm folded; its precision is changed.
        folder: with the exported graphs.
        sizes: numbers of voxels.
        measure: compares an engine with torch in float32, see `Manifest.parity`.

    Returns:
        What was measured.

    Raises:
        InputError: there is no GPU, or it cannot be built, or too many labels are others.
    """
    torch_tensorrt = check_can_build()
    library = open_library((MODULES[torch_tensorrt.ENABLED_FEATURES.tensorrt_rtx],))
    graph = folder / GRAPHS[PRECISION]
    if not graph.is_file():
        raise InputError('the features overflow in float16, in which engines are built here')
    num_features = backbone.stem1.kernel.shape[1]
    job = Job(
        graph.read_bytes(),
        graph,
        num_features,
        sizes,
        engine_key(library, graph.read_bytes(), PRECISION, sizes, target(library)),
    )
    cache = EngineCache(user_engine_folder())
    program = export_program(backbone, num_features, PRECISION, 'cuda')
    engine = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
        program,
        arg_inputs=program_inputs(torch_tensorrt, sizes, num_features),
        timing_cache_path=str(cache.folder / 'torch_tensorrt.timing'),
        **SETTINGS,
    )
    write_engine(folder / bundled_engine_name(PRECISION), job.key, engine)
    compiled = cache.folder / f'{job.key.digest[:32]}.compiled'
    parity = measure(TensorrtBackend(Engine(library, engine, compiled), sizes, num_features))
    if not parity['label_agreement'] >= FEWEST_EQUAL_LABELS:
        raise InputError(
            'the engine gives other labels than torch; no bundle was written',
            where=folder,
            expected=f'at least {FEWEST_EQUAL_LABELS} of the labels equal',
            got=parity,
        )
    return parity
