# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The Triton kernels equal plain torch: in Triton's interpreter without a GPU, on CUDA with one.

They also compile for every GPU that we name, without one of them being there.
"""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
import torch
from random_student import NUM_FEATURES, make_student

from reldistill_ros.backends.device_maps import to_device
from reldistill_ros.backends.sorted_tables import find_pairs, sort_table
from reldistill_ros.backends.torch_maps import PairMaps
from reldistill_ros.core.kernel_maps import build_kernel_maps, concatenate_maps

triton = pytest.importorskip('triton', reason='triton is not installed')

MODULES = [f'reldistill_ros.backends.triton_{name}' for name in ('kernels', 'maps')]
KINDS = ('submanifold', 'down', 'up')


@pytest.fixture(params=['cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
def engine(request, monkeypatch):
    """The device, and the module on it: on a CPU newly imported for Triton's interpreter."""
    if request.param == 'cuda':
        if not torch.cuda.is_available():
            pytest.skip('no CUDA device')
        yield 'cuda', importlib.import_module(MODULES[1])
        return
    if triton.__version__ < '3.7' and np.__version__ >= '2.4':
        pytest.skip('the interpreter of Triton 3.6 does not run under NumPy 2.4')
    monkeypatch.setenv('TRITON_INTERPRET', '1')
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield 'cpu', importlib.import_module(MODULES[1])
    for name in MODULES:
        sys.modules.pop(name, None)


def random_coords(rng, count, grid):
    return np.unique(rng.integers(0, grid, (count, 3)), axis=0).astype(np.int32)


def values_and_gradients(maps, kind, x, kernel, grad):
    x, kernel = (t.detach().clone().requires_grad_() for t in (x, kernel))
    out = getattr(maps, kind)(0, x, kernel)
    out.backward(grad.to(out))
    return out.detach(), x.grad, kernel.grad


def relative_error(ours, reference):
    reference = reference.to(ours.device, torch.float64)
    return ((ours.double() - reference).norm() / reference.norm().clamp(min=1e-12)).item()


def tensors(maps, kind, channels, rng):
    sizes = maps[0].num_voxels, maps[1].num_voxels
    num_in, num_out = {
        'submanifold': (sizes[0], sizes[0]),
        'down': sizes,
        'up': sizes[::-1],
    }[kind]
    c_in, c_out = channels
    offsets = 27 if kind == 'submanifold' else 8
    shapes = (num_in, c_in), (offsets, c_in, c_out), (num_out, c_out)
    return [torch.from_numpy(rng.standard_normal(shape)).float() for shape in shapes]


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
    ('count', 'grid', 'channels'),
    [
        (150, 8, (16, 16)),  # tiles that are not full
        (64, 4, (6, 16)),  # every neighbour there; fewer channels than a matrix unit takes
        (90, 60, (20, 36)),  # hardly a neighbour: offsets without any pair; uneven channels
        (1, 3, (16, 40)),  # one voxel
        (130, 7, (72, 136)),  # several blocks of input and of output channels, both not full
    ],
)
def test_values_and_both_gradients_equal_those_of_plain_torch(engine, kind, count, grid, channels):
    device, module = engine
    rng = np.random.default_rng(count)
    maps = build_kernel_maps(random_coords(rng, count, grid))
    x, kernel, grad = tensors(maps, kind, channels, rng)
    reference = values_and_gradients(
        PairMaps(maps), kind, x.double(), kernel.double(), grad.double()
    )
    ours = values_and_gradients(
        module.TritonMaps(to_device(maps, device)),
        kind,
        *(t.to(device) for t in (x, kernel, grad)),
    )
    for one, other in zip(ours, reference):
        assert relative_error(one, other) < 1e-4


def test_half_precision_is_added_up_in_single_precision(engine):
    device, module = engine
    rng = np.random.default_rng(0)
    maps = build_kernel_maps(random_coords(rng, 200, 8))
    x, kernel, grad = tensors(maps, 'submanifold', (32, 32), rng)
    half = [t.half() for t in (x, kernel, grad)]
    reference = values_and_gradients(PairMaps(maps), 'submanifold', *(t.double() for t in half))
    x, _, grad = (t.to(device) for t in half)
    triton_maps = module.TritonMaps(to_device(maps, device))
    # the kernel is stored in single precision, as the student's are
    kernel = half[1].float().to(device)
    out, grad_x, grad_kernel = values_and_gradients(triton_maps, 'submanifold', x, kernel, grad)
    assert out.dtype == grad_x.dtype == torch.float16
    assert grad_kernel.dtype == torch.float32
    # results are rounded once at the end; the kernel's gradient is not rounded at all
    assert relative_error(out, reference[0]) < 4e-4
    assert relative_error(grad_x, reference[1]) < 4e-4
    assert relative_error(grad_kernel, reference[2]) < 1e-5


def test_a_whole_student_gets_the_values_and_gradients_of_plain_torch(engine):
    device, module = engine
    rng = np.random.default_rng(3)
    sweeps = [build_kernel_maps(random_coords(rng, count, 9)) for count in (50, 20)]
    maps = concatenate_maps(sweeps)
    feats = torch.from_numpy(rng.standard_normal((maps[0].num_voxels, NUM_FEATURES)))
    grads = []
    for dtype in (torch.float64, torch.float32):
        # norms over the few voxels of the coarsest level would magnify what is rounded
        student = make_student().to(dtype).eval()
        if dtype == torch.float64:
            sparse = PairMaps(maps)
        else:
            student, sparse = student.to(device), module.TritonMaps(to_device(maps, device))
        out = student(feats.to(student.head.weight), sparse)
        out.square().mean().backward()
        grads.append([out.detach(), *(p.grad for p in student.parameters())])
    reference, ours = grads
    scale = max(g.norm() for g in reference[1:])
    assert relative_error(ours[0], reference[0]) < 1e-4
    for one, other in zip(ours[1:], reference[1:]):
        assert (one.double().cpu() - other).norm() < 1e-4 * scale


class WithoutEmptyGrids:
    """A kernel that refuses a grid of no programs, as CUDA does; the interpreter does not."""

    def __init__(self, kernel):
        self._kernel = kernel

    def __getitem__(self, grid):
        assert 0 not in grid
        return self._kernel[grid]


def test_without_any_voxel_both_gradients_are_zero_and_no_grid_is_empty(engine, monkeypatch):
    device, module = engine
    for name in ('convolve_tiles', 'multiply_chunks', 'add_chunks'):
        monkeypatch.setattr(module, name, WithoutEmptyGrids(getattr(module, name)))
    nothing = build_kernel_maps(np.zeros((0, 3), np.int32))
    sparse = module.TritonMaps(to_device(nothing, device))
    for kind in KINDS:
        x, kernel, grad = tensors(nothing, kind, (6, 20), np.random.default_rng(0))
        out, grad_x, grad_kernel = values_and_gradients(
            sparse, kind, *(t.to(device) for t in (x, kernel, grad))
        )
        assert (out.shape, grad_x.shape) == ((0, 20), (0, 6))
        assert grad_kernel.shape == kernel.shape
        assert not grad_kernel.any()


def test_sorted_tables_hold_every_row_once_and_every_offset_that_a_tile_needs():
    maps = to_device(build_kernel_maps(random_coords(np.random.default_rng(5), 500, 12)), 'cpu')
    level = maps[0]
    table = sort_table(level.submanifold, level.num_voxels)
    assert (
        table.order[: level.num_voxels]
        .sort()
        .values.equal(torch.arange(level.num_voxels, dtype=torch.int32))
    )
    num_padded = table.table.shape[1]
    for tile, count in enumerate(table.tile_counts.tolist()):
        part = table.table[:, tile * table.rows : (tile + 1) * table.rows]
        needed = (part < level.num_voxels).any(dim=1).nonzero()[:, 0]
        assert table.tile_offsets[tile, :count].equal(needed.int())
    assert (table.table[:, level.num_voxels : num_padded] == level.num_voxels).all()


def test_chunks_hold_every_pair_of_an_offset_once_and_in_order():
    maps = to_device(build_kernel_maps(random_coords(np.random.default_rng(6), 300, 30)), 'cpu')
    pairs = find_pairs(maps[0].submanifold, maps[0].num_voxels)
    begin, end, first = pairs.chunks(64)
    for k in range(27):
        held = [
            pair
            for c in range(first[k], first[k + 1])
            for pair in range(begin[c].item(), end[c].item())
        ]
        assert held == list(range(pairs.starts[k].item(), pairs.starts[k + 1].item()))
    assert (begin[first[27] :] == end[first[27] :]).all()


def test_features_of_another_level_are_refused_before_a_kernel_reads_them():
    module = importlib.import_module(MODULES[1])
    maps = build_kernel_maps(random_coords(np.random.default_rng(7), 50, 9))
    sparse = module.TritonMaps(to_device(maps, 'cpu'))
    with pytest.raises(ValueError, match='expected x'):
        sparse.submanifold(1, torch.zeros(maps[0].num_voxels, 4), torch.zeros(27, 4, 4))
