# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Does TensorRT take a bundle? `python -m trainer.check_tensorrt BUNDLE`.

Every graph is parsed and built, and the engines are thrown away. With TensorRT for RTX this needs no
GPU.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from reldistill_ros.backends.cuda_device import has_cuda_device
from reldistill_ros.backends.engine_sizes import bundle_sizes, input_shapes
from reldistill_ros.backends.tensorrt_library import MODULES, Library, open_library
from reldistill_ros.cameras.image_encoder import IMAGE_ENCODER
from reldistill_ros.core.bundle import (
    STUDENT_HALF_ONNX,
    STUDENT_INT8_ONNX,
    STUDENT_ONNX,
    TEXT_ENCODER,
    Bundle,
    load_bundle,
)
from reldistill_ros.core.errors import InputError, run_command

LARGEST_BATCH = 64  # texts at a time; a profile for more would only take longer to build
TEXT_LENGTH = 32  # tokens, for every encoder
PIXELS = 'pixels'  # of the image encoder, scaled

# name and shape of an input, -1 where any -> the smallest, usual and largest shape
Shapes = Callable[[str, tuple[int, ...]], tuple[tuple[int, ...], ...]]


@dataclass(frozen=True)
class Built:
    """What became of a graph.

    Attributes:
        name: of its file.
        megabytes: of the engine.
        seconds: that building took.
    """

    name: str
    megabytes: float
    seconds: float

    def __str__(self) -> str:
        return f'{self.name} {self.megabytes:.1f} MB in {self.seconds:.1f} s'


def check_bundle(bundle: Bundle) -> list[Built]:
    """Build every graph of a bundle.

    The image encoder is built without the step that scales the image, which stays outside the
    engine: TensorRT has no filter for it.

    Raises:
        InputError: TensorRT is not installed, or does not take a graph.
    """
    library = open_library(MODULES if has_cuda_device() else MODULES[1:])
    return [build_graph(library, *job) for job in _graphs(bundle)]


def build_graph(library: Library, name: str, graph: bytes, shapes: Shapes) -> Built:
    """Build a graph and throw the engine away.

    Raises:
        InputError: TensorRT does not take it.
    """
    start = time.perf_counter()
    builder = library.module.Builder(library.logger)
    network = library.parse(builder, graph, name)
    profile = builder.create_optimization_profile()
    for tensor in (network.get_input(i) for i in range(network.num_inputs)):
        profile.set_shape(tensor.name, *shapes(tensor.name, tuple(tensor.shape)))
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise InputError('TensorRT cannot build the graph; it says why above', where=name)
    return Built(name, engine.nbytes / 1e6, time.perf_counter() - start)


def without_scaling(graph: bytes) -> bytes:
    """The image encoder from `PIXELS` on."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph))
    names = [output.name for output in model.graph.output]
    network: onnx.ModelProto = onnx.utils.Extractor(model).extract_model([PIXELS], names)
    return bytes(network.SerializeToString())


def text_shapes(name: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Any number of texts, and any length where the encoder takes any."""
    length = TEXT_LENGTH if shape[1] == -1 else shape[1]
    return (1, length), (8, length), (LARGEST_BATCH, length)


def fixed_shapes(name: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The shape that the graph names."""
    return shape, shape, shape


def _graphs(bundle: Bundle) -> Iterator[tuple[str, bytes, Shapes]]:
    """Name, content and shapes of every graph that the bundle holds."""
    num_features = bundle.manifest.inputs.num_features
    profile = bundle_sizes(bundle).profile

    def student_shapes(name: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return tuple(input_shapes(sizes, num_features)[name] for sizes in profile)

    for name in (STUDENT_ONNX, STUDENT_HALF_ONNX, STUDENT_INT8_ONNX):
        if bundle.holds(name):
            yield name, bundle.read(name), student_shapes
    if bundle.holds(TEXT_ENCODER):
        yield TEXT_ENCODER, bundle.read(TEXT_ENCODER), text_shapes
    if bundle.holds(IMAGE_ENCODER):
        yield IMAGE_ENCODER, without_scaling(bundle.read(IMAGE_ENCODER)), fixed_shapes


def report(bundle: Path) -> str:
    """One line on a bundle's engines.

    Raises:
        InputError: see `check_bundle`.
    """
    return f'TensorRT takes it: {", ".join(map(str, check_bundle(load_bundle(bundle))))}'


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m trainer.check_tensorrt', description=__doc__)
    parser.add_argument('bundle', type=Path, help='folder that python -m trainer.export wrote')
    print(report(parser.parse_args().bundle))


if __name__ == '__main__':
    run_command(main)
