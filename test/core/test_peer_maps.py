# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Training with another library's convolution gives what plain torch gives, voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from random_student import NUM_FEATURES, make_student

from reldistill_ros.backends.device_maps import to_device
from reldistill_ros.backends.torch_maps import PairMaps
from reldistill_ros.core.kernel_maps import build_kernel_maps, concatenate_maps

NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
gpu = (pytest.mark.gpu, NO_CUDA)


@pytest.fixture
def one_thread():
    """spconv on a CPU is right with one thread only."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(
    params=[
        ('spconv', 'cpu'),
        pytest.param(('spconv', 'cuda'), marks=gpu),
        pytest.param(('torchsparse', 'cuda'), marks=gpu),
    ],
    ids='-'.join,
)
def peer(request, one_thread):
    """Device, and kernel maps to the library's."""
    name, device = request.param
    pytest.importorskip(name, reason=f'{name} is not installed')
    if name == 'spconv':
        from reldistill_ros.backends.spconv_maps import SpconvMaps as Maps
    else:
        from reldistill_ros.backends.torchsparse_maps import TorchsparseMaps as Maps
    return device, lambda maps: Maps(to_device(maps, device))


def random_maps(seed, counts=(200,), grid=9):
    rng = np.random.default_rng(seed)
    sweeps = [np.unique(rng.integers(0, grid, (n, 3)), axis=0).astype(np.int32) for n in counts]
    return concatenate_maps([build_kernel_maps(coords) for coords in sweeps])


def relative_error(ours, reference):
    return (ours.cpu().double() - reference.double()).norm() / reference.double().norm()


def values_and_gradients(maps, kind, tensors, device):
    x, kernel, grad = (t.to(device) for t in tensors)
    x, kernel = x.requires_grad_(), kernel.requires_grad_()
    out = getattr(maps, kind)(0, x, kernel)
    out.backward(grad)
    return out.detach(), x.grad, kernel.grad


@pytest.mark.parametrize('kind', ['submanifold', 'down', 'up'])
@pytest.mark.parametrize('channels', [(16, 32), (64, 16)])
def test_values_and_both_gradients_equal_those_of_plain_torch(peer, kind, channels):
    device, open_maps = peer
    maps = random_maps(0, (300, 100))
    fine, coarse = maps[0].num_voxels, maps[1].num_voxels
    num_in, num_out = fine, fine
    if kind != 'submanifold':
        num_in, num_out = (fine, coarse) if kind == 'down' else (coarse, fine)
    offsets = 27 if kind == 'submanifold' else 8
    torch.manual_seed(0)
    shapes = (num_in, channels[0]), (offsets, *channels), (num_out, channels[1])
    tensors = [torch.randn(shape) for shape in shapes]
    expected = values_and_gradients(PairMaps(maps), kind, [t.double() for t in tensors], 'cpu')
    ours = values_and_gradients(open_maps(maps), kind, tensors, device)
    for one, other in zip(ours, expected):
        assert relative_error(one, other) < 1e-4


def test_a_whole_student_gets_the_values_and_gradients_of_plain_torch(peer):
    device, open_maps = peer
    maps = random_maps(1, (150, 60))
    torch.manual_seed(1)
    feats = torch.randn(maps[0].num_voxels, NUM_FEATURES)
    grads = []
    for sparse, where in ((PairMaps(maps), 'cpu'), (open_maps(maps), device)):
        student = make_student().to(where)
        out = student(feats.to(where), sparse)
        out.square().mean().backward()
        grads.append([out.detach().cpu(), *(p.grad.cpu() for p in student.parameters())])
    reference, ours = grads
    assert relative_error(ours[0], reference[0]) < 1e-4
    scale = max(g.norm() for g in reference[1:])
    for one, other in zip(ours[1:], reference[1:]):
        assert (one - other).norm() < 1e-4 * scale


def test_features_of_another_level_are_refused_before_the_library_reads_them(peer):
    device, open_maps = peer
    sparse = open_maps(random_maps(2))
    with pytest.raises(ValueError, match='expected x'):
        sparse.submanifold(
            0, torch.zeros(3, 4, device=device), torch.zeros(27, 4, 4, device=device)
        )
