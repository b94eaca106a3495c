# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What torch-tensorrt would make of a student, on a machine without a GPU; run as a process.

Prints one line of JSON. torch-tensorrt asks torch for a GPU when it is imported and puts tensors
there: here it is told of one, and the tensors stay on the CPU. Its own C++ library is left out, as
it needs a torch with CUDA; nothing of it is needed before an engine runs. All of this changes torch
for good, hence the process.
"""

from __future__ import annotations

import json
import os.path
import sys
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode

sys.path.insert(0, str(Path(__file__).parents[1] / 'core'))
from random_student import make_student

from reldistill_ros.backends.engine_sizes import SweepSizes, engine_sizes
from reldistill_ros.core.student import folded_copy
from trainer.export_tensorrt import SETTINGS, export_program, program_inputs

NUM_FEATURES = 6
SEEN = SweepSizes(
    num_sweeps=1,
    small=(15_000, 9_000, 5_000, 2_000, 900),
    typical=(21_627, 13_270, 7_124, 3_154, 1_246),
    large=(24_000, 14_000, 7_900, 3_300, 1_390),
    largest=(24_968, 15_000, 8_000, 3_500, 1_400),
)


class OnTheCpu(TorchFunctionMode):
    """Whatever is sent to the GPU stays on the CPU."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.cuda:
            return args[0]
        kwargs = {name: on_the_cpu(value) for name, value in (kwargs or {}).items()}
        return function(*map(on_the_cpu, args), **kwargs)


def on_the_cpu(value):
    is_cuda = isinstance(value, str | torch.device) and str(value).startswith('cuda')
    return torch.device('cpu') if is_cuda else value


def import_without_gpu():
    """torch-tensorrt, told of an RTX 4090."""
    answers = {
        'get_device_capability': (8, 9),
        'get_device_name': 'NVIDIA GeForce RTX 4090',
        'current_device': 0,
        'mem_get_info': (24 << 30, 24 << 30),
        'is_initialized': True,
        **dict.fromkeys(('set_device', 'synchronize', 'empty_cache')),
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    torch._C._CudaDeviceProperties = object
    is_file = os.path.isfile
    os.path.isfile = lambda path: 'libtorchtrt' not in str(path) and is_file(path)
    import torch_tensorrt

    return torch_tensorrt


def dry_run(torch_tensorrt, program, inputs):
    """What the compiler counted."""
    from torch_tensorrt.dynamo import _compiler

    found = []
    _compiler.dryrun_stats_display = lambda tracker, _: found.append(tracker)
    with OnTheCpu():
        torch_tensorrt.dynamo.compile(program, arg_inputs=inputs, dryrun=True, **SETTINGS)
    (tracker,) = found
    return {
        'operators': tracker.total_ops_in_graph,
        'supported': tracker.supported_ops_in_graph,
        'engines': tracker.tensorrt_graph_count,
        'unsupported': list(tracker.unsupported_ops),
        'left_in_torch': list(tracker.to_run_in_torch),
    }


def main():
    network, precision = sys.argv[1:]
    backbone = folded_copy(make_student(network, NUM_FEATURES)).backbone
    program = export_program(backbone, NUM_FEATURES, precision, 'cpu')
    torch_tensorrt = import_without_gpu()
    inputs = program_inputs(torch_tensorrt, engine_sizes(SEEN), NUM_FEATURES)
    names = [spec.arg.name for spec in program.graph_signature.input_specs][-len(inputs) :]
    counted = dry_run(torch_tensorrt, program, inputs)
    print(json.dumps({**counted, 'names': names}))


if __name__ == '__main__':
    main()
