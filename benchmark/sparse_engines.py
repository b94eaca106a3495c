# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The engines that are compared, and our own ones in every mode.

A job is one run of a mode, with everything prepared that outlives a sweep. It returns what
`write_expected` holds for the mode. Engines for the robot do without torch, so it is imported
only for those that use it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

from benchmark.sparse_workload import INPUTS, Workload
from reldistill_ros.backends.backend import Backend, Precision
from reldistill_ros.backends.micro_kernels import HAS_BFLOAT16
from reldistill_ros.backends.tables import table_inputs
from reldistill_ros.backends.tile_pairs import level_pairs
from reldistill_ros.core.kernel_maps import KernelMaps, build_kernel_maps
from reldistill_ros.core.settings import load_settings
from reldistill_ros.core.unknown import never_unknown
from reldistill_ros.core.vocabulary import Vocabulary
from reldistill_ros.core.zero_shot import ProjectionHead
from reldistill_ros.labeller import Labeller
from reldistill_ros.words.words import Words

VOCABULARY = Path(__file__).parent.parent / 'config' / 'vocabularies' / 'town.yaml'

Task = Literal['inference', 'training']
TASKS: dict[Task, tuple[str, ...]] = {
    'inference': ('maps', 'forward', 'labeller'),
    'training': ('forward_backward',),
}
Job = Callable[[], Any]


@dataclass(frozen=True)
class Engine:
    """One line of the comparison.

    Attributes:
        name: as in the results.
        num_threads: of every library in its process.
        trains: whether it has a backward pass.
        dtype: of weights and features.
        note: what a reader of its figures has to know.
        package: to import; of a peer only.
    """

    name: str
    num_threads: int
    trains: bool
    dtype: Precision = 'float32'
    note: str = ''
    package: str = ''

    @property
    def tasks(self) -> tuple[Task, ...]:
        return ('inference', 'training') if self.trains else ('inference',)

    @property
    def is_peer(self) -> bool:
        return bool(self.package)

    @property
    def uses_torch(self) -> bool:
        return self.is_peer or self.name == 'ours-torch'


RACE = 'data race: its output is wrong and differs from run to run'
ENGINES = (
    Engine('ours-fused', 2, trains=True),
    Engine('ours-fused-bfloat16', 2, trains=False, dtype='bfloat16'),
    Engine('ours-onnx', 2, trains=False),
    Engine('ours-torch', 2, trains=True),
    Engine('spconv-cpu-1', 1, trains=True, package='spconv'),
    Engine('spconv-cpu-2', 2, trains=True, note=RACE, package='spconv'),
    Engine('torchsparse-cpu-2', 2, trains=False, package='torchsparse'),
    Engine('minkowski-cpu-2', 2, trains=True, package='MinkowskiEngine'),
)
ENGINE_NAMES = tuple(engine.name for engine in ENGINES)


def obstacle(engine: Engine) -> str | None:
    """Why this machine cannot run the engine; None where it can."""
    if engine.dtype == 'bfloat16' and not HAS_BFLOAT16:
        return 'this CPU does not compute in bfloat16'
    if engine.is_peer and find_spec(engine.package) is None:
        return f'{engine.package} is not installed, see benchmark/README.md'
    return None


def open_jobs(engine: Engine, task: Task, workload: Workload) -> dict[str, Job]:
    """Load the student into the engine; the jobs of the task's modes."""
    if engine.is_peer:
        return _peer_jobs(engine, task, workload)
    if task == 'training':
        return _training_jobs(engine, workload)
    return _inference_jobs(engine, workload)


def _peer_jobs(engine: Engine, task: Task, workload: Workload) -> dict[str, Job]:
    from benchmark.peer_jobs import inference_jobs, training_jobs

    if engine.package == 'torchsparse':
        from benchmark.torchsparse_peer import PEER
    elif engine.package == 'MinkowskiEngine':
        from benchmark.minkowski_peer import PEER
    else:
        from benchmark.spconv_peer import PEER
    return (inference_jobs if task == 'inference' else training_jobs)(PEER, workload)


def _inference_jobs(engine: Engine, workload: Workload) -> dict[str, Job]:
    feats, coords = workload.voxels.feats, workload.voxels.coords
    backend = _open_backend(engine, workload)
    read_maps = _map_reader(engine)
    labeller = Labeller(
        backend,
        *read_prompts(workload),
        voxel=workload.voxel,
        inputs=INPUTS,
        temperature=1.0,
        num_threads=engine.num_threads,
    )
    return {
        'maps': lambda: read_maps(build_kernel_maps(coords)),
        'forward': lambda: backend(feats, build_kernel_maps(coords)),
        'labeller': lambda: labeller(workload.points),
    }


def _open_backend(engine: Engine, workload: Workload) -> Backend:
    if engine.name == 'ours-onnx':
        from reldistill_ros.backends.onnx_backend import OnnxBackend

        return OnnxBackend(workload.onnx_path, engine.num_threads)
    if engine.name == 'ours-torch':
        from benchmark.sparse_reference import load_student
        from reldistill_ros.backends.torch_backend import TorchBackend

        return TorchBackend(load_student(workload))
    from reldistill_ros.backends.fused_backend import FusedBackend

    weights = load_file(workload.weights_path)
    return FusedBackend(weights, workload.network, engine.num_threads, engine.dtype)


def _map_reader(engine: Engine) -> Callable[[KernelMaps], object]:
    """What the engine makes of the maps once per sweep."""
    if engine.name == 'ours-onnx':
        return table_inputs
    if engine.name == 'ours-torch':
        from reldistill_ros.backends.torch_maps import PairMaps

        return PairMaps
    return level_pairs


def _training_jobs(engine: Engine, workload: Workload) -> dict[str, Job]:
    import torch

    from benchmark.sparse_reference import load_student
    from reldistill_ros.backends.fused_maps import FusedMaps
    from reldistill_ros.backends.torch_maps import PairMaps

    as_maps = FusedMaps if engine.name == 'ours-fused' else PairMaps
    student = load_student(workload).train()
    feats, coords = torch.from_numpy(workload.voxels.feats), workload.voxels.coords
    output_gradient = torch.from_numpy(workload.output_gradient)

    def step() -> NDArray[np.float32]:
        student.zero_grad()
        maps = as_maps(build_kernel_maps(coords))
        student.backbone(feats, maps).backward(output_gradient)
        gradient = student.backbone.stem1.kernel.grad
        assert gradient is not None
        return gradient.numpy()

    return {'forward_backward': step}


def read_prompts(workload: Workload) -> tuple[ProjectionHead, Words]:
    """The student's head, and real words with random embeddings."""
    vocabulary = load_settings(VOCABULARY, Vocabulary)
    with safe_open(workload.weights_path, 'np') as weights:
        weight, bias = weights.get_tensor('head.weight'), weights.get_tensor('head.bias')
    text = np.random.default_rng(0).normal(size=(len(vocabulary.prompts), len(weight)))
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    words = Words(vocabulary, text.astype(np.float32), never_unknown(vocabulary), revision='')
    return ProjectionHead(weight, bias), words
