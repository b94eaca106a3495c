# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A graph whose matrix products are in 8 bits, calibrated on real sweeps, for TensorRT.

TensorRT reads the scales from pairs of QuantizeLinear and DequantizeLinear, and asks for zero points
of 0 ("Explicit Quantization" in its documentation). Only what a matrix product takes is quantised:
weights with a scale for each output channel, features with one for all. The rest stays in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from reldistill_ros.backends.tables import table_inputs
from reldistill_ros.core.errors import InputError, import_extra
from reldistill_ros.core.kernel_maps import build_kernel_maps
from reldistill_ros.core.voxels import voxelise
from reldistill_ros.onnx_session import open_session
from trainer.datasets.sample import Dataset
from trainer.run import Run

NUM_SWEEPS = 16  # of each drive, that features are calibrated on
ANY_SIZE = 1 << 40  # bytes of a constant that is computed ahead

Feeds = dict[str, NDArray[Any]]


def calibration_feeds(
    run: Run, datasets: Sequence[Dataset], left_out: Sequence[Sequence[int]]
) -> Iterator[Feeds]:
    """Inputs of the graph from sweeps spread over the drives.

    Args:
        run: whose voxels and input features.
        datasets: the drives it was trained on.
        left_out: of each drive the sweeps that the result is judged on.

    Raises:
        InputError: no other sweep has a voxel in the range.
    """
    num_sweeps = 0
    for dataset, kept in zip(datasets, left_out, strict=True):
        others = np.setdiff1d(np.arange(len(dataset)), kept)
        places = np.linspace(0, len(others) - 1, min(NUM_SWEEPS, len(others))).astype(int)
        for index in others[places].tolist():
            voxels = voxelise(dataset[index].points, run.settings.voxel, run.settings.inputs)
            if len(voxels.coords):
                num_sweeps += 1
                yield {'feats': voxels.feats, **table_inputs(build_kernel_maps(voxels.coords))}
    if not num_sweeps:
        raise InputError(
            'int8 needs sweeps to calibrate on besides those that it is judged on',
            where=run.folder,
            got=f'drives of {[len(dataset) for dataset in datasets]} sweeps',
            fix='train on longer drives, or export without --int8',
        )


def write_int8_graph(graph: Path, feeds: Iterable[Feeds], out: Path) -> None:
    """Write the int8 form of a graph's file.

    Args:
        graph: in float32.
        feeds: inputs to calibrate on.
        out: file to write.
    """
    quantization = import_extra('onnxruntime.quantization', 'train')
    quantizer = import_extra('onnxruntime.quantization.qdq_quantizer', 'train')
    model = _with_folded_weights(onnx.load(graph))
    # not the first: it takes the input features, which differ in scale and would have to share one
    products = [node for node in model.graph.node if node.op_type == 'MatMul'][1:]
    ranges = _ranges(model, [node.input[0] for node in products], feeds)
    quantising = quantizer.QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=quantization.QuantType.QInt8,
        activation_qType=quantization.QuantType.QInt8,
        tensors_range=ranges,
        nodes_to_quantize=[node.name for node in products],
        nodes_to_exclude=[],
        op_types_to_quantize=['MatMul'],
        extra_options={
            'ActivationSymmetric': True,
            'WeightSymmetric': True,
            'AddQDQPairToWeight': True,  # TensorRT 8 takes no weights that are integers already
            'OpTypesToExcludeOutputQuantization': ['MatMul'],
        },
    )
    quantised = quantising.quantize_model()
    quantising.model.topological_sort()  # it puts its own nodes last
    onnx.checker.check_model(quantised, full_check=True)
    onnx.save(quantised, out)


def _with_folded_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every weight as a constant: a reshaped one would be taken for a feature."""
    optimizer = import_extra('onnxscript.optimizer', 'train')
    folded: onnx.ModelProto = optimizer.optimize(
        model, input_size_limit=ANY_SIZE, output_size_limit=ANY_SIZE
    )
    return folded


def _ranges(model: onnx.ModelProto, names: Sequence[str], feeds: Iterable[Feeds]) -> Any:
    """The symmetric range of each named feature: the mean of its extremes over the sweeps.

    With the extreme over all of them, a few voxels far from the rest would leave the others too few
    steps, and more labels change. ONNX Runtime's own calibration keeps what every convolution
    gathers until it is done, 27 times the features; what they are gathered from has the same range.
    """
    calibration = import_extra('onnxruntime.quantization.calibrate', 'train')
    sources = _sources(model, names)
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    values = {source: onnx.ValueInfoProto(name=source) for source in sources.values()}
    probe.graph.output.extend(values.values())
    session = open_session(probe.SerializeToString(), 1, what='graph', where='calibration')
    extremes = [[np.abs(v).max() for v in session.run(list(values), feed)] for feed in feeds]
    largest = dict(zip(values, np.array(extremes, np.float32).mean(axis=0)))
    return calibration.TensorsData(
        calibration.CalibrationMethod.MinMax,
        {name: (-largest[source], largest[source]) for name, source in sources.items()},
    )


def _sources(model: onnx.ModelProto, names: Sequence[str]) -> dict[str, str]:
    """What each named feature was gathered from, or itself."""
    makers = {name: node for node in model.graph.node for name in node.output}
    sources = {}
    for name in names:
        source = name
        while makers[source].op_type in ('Reshape', 'Gather'):
            source = makers[source].input[0]
        sources[name] = source
    return sources
