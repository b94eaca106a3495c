# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The installed TensorRT: the one of JetPack and servers, or the one for RTX cards.

Both have the same interface. TensorRT for RTX compiles for the GPU when an engine is opened, so
that its engines are built without a GPU; it has no timing cache and knows fewer GPUs. Networks
are strongly typed in both: an engine computes in the types that its graph names, and the builder
chooses none (in TensorRT 10 on request, since 11 always).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from reldistill_ros.core.errors import InputError

MODULES = ('tensorrt', 'tensorrt_rtx')


@dataclass(frozen=True)
class Library:
    """An imported TensorRT.

    Attributes:
        name: of its module, one of `MODULES`.
        module: itself.
        logger: of all its objects; prints warnings and errors.
    """

    name: str
    module: Any
    logger: Any

    @property
    def version(self) -> str:
        return str(self.module.__version__)

    @property
    def is_rtx(self) -> bool:
        return self.name == 'tensorrt_rtx'

    def parse(self, builder: Any, graph: bytes, where: object) -> Any:
        """An ONNX graph as a network of a builder.

        Raises:
            InputError: the parser does not take the graph; says which nodes.
        """
        flag = self.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        network = builder.create_network(1 << int(flag))
        parser = self.module.OnnxParser(network, self.logger)
        if not parser.parse(graph):
            errors = [parser.get_error(i) for i in range(parser.num_errors)]
            raise InputError(
                'TensorRT does not take the graph',
                where=where,
                got='; '.join(f'{error.node_name()}: {error.desc()}' for error in errors),
            )
        return network


@cache
def open_library(names: tuple[str, ...] = MODULES) -> Library:
    """Import the first of these that can be.

    Raises:
        InputError: none can be imported; says why.
    """
    reasons = []
    for name in names:
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError) as error:  # OSError: its libraries are not where it looks
            reasons.append(str(error))
            continue
        return Library(name, module, module.Logger(module.Logger.WARNING))
    raise InputError(
        'TensorRT is not installed',
        expected=f'the module {" or ".join(names)}',
        got='; '.join(reasons),
        fix="on a desktop: pip install 'reldistill_ros[tensorrt]'; on a Jetson it comes with "
        'JetPack: apt-get install python3-libnvinfer, and a virtual environment with '
        '--system-site-packages',
    )
