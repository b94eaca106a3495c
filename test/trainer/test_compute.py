# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which backend trains the student, in which precision, and how it is found out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_drive import write_drive, write_settings
from tiny_training import losses, train

from reldistill_ros.backends.device_maps import build_device_maps, to_device
from reldistill_ros.backends.fused_maps import FusedMaps
from reldistill_ros.backends.torch_maps import PairMaps
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import build_kernel_maps, concatenate_maps
from reldistill_ros.core.settings import StudentSettings
from reldistill_ros.core.student import Student
from trainer import fastest_backend as fastest
from trainer import sparse_backends
from trainer.batches import TrainingSweeps, load_batches
from trainer.compute import Compute
from trainer.fastest_backend import Memory, Trial, fastest_on_cuda
from trainer.run import PROVENANCE, create_run
from trainer.sparse_backends import ON_CUDA, Obstacle, obstacle, open_maps

CPU = torch.device('cpu')
CUDA = torch.device('cuda')
gpu = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device'),
)


def settings_of(tmp_path, **changes):
    tmp_path.mkdir(exist_ok=True)
    write_drive(tmp_path / 'drive')
    return create_run(write_settings(tmp_path), tmp_path / 'run', tmp_path).settings.model_copy(
        update=changes
    )


def small_student(device='cpu'):
    torch.manual_seed(0)
    return Student(StudentSettings(network='small', embedding_size=16), 6).to(device)


def random_batch(seed=0, counts=(300, 200), grid=20):
    rng = np.random.default_rng(seed)
    coords = [np.unique(rng.integers(0, grid, (n, 3)), axis=0).astype(np.int32) for n in counts]
    maps = concatenate_maps([build_kernel_maps(c) for c in coords])
    return rng.standard_normal((maps[0].num_voxels, 6), np.float32), maps


def test_a_cpu_takes_the_fused_kernel_in_float32(tmp_path):
    compute = Compute(settings_of(tmp_path), small_student())
    assert isinstance(compute.maps(*random_batch()), FusedMaps)
    with compute.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_coordinates_alone_lead_to_the_maps_that_workers_build(tmp_path):
    write_drive(tmp_path / 'drive')
    run = create_run(write_settings(tmp_path), tmp_path / 'run', tmp_path)
    whole, bare = (
        next(
            iter(
                load_batches(
                    TrainingSweeps(run.open_training(), run.settings, tables=t), run.settings
                )
            )
        )
        for t in (True, False)
    )
    assert whole.sizes == bare.sizes
    assert len(whole.sizes) == 2
    numbers = torch.from_numpy(np.repeat(np.arange(2), bare.sizes))
    built = build_device_maps(torch.from_numpy(bare.maps[0].coords), numbers)
    for ours, expected in zip(built, to_device(whole.maps, 'cpu'), strict=True):
        assert all(
            one.equal(other) for one, other in zip(vars(ours).values(), vars(expected).values())
        )


def test_a_backend_can_be_named(tmp_path):
    compute = Compute(settings_of(tmp_path, backend='torch'), small_student())
    assert isinstance(compute.maps(*random_batch()), PairMaps)


@pytest.mark.parametrize('name', ['triton', 'spconv', 'torchsparse'])
def test_a_backend_that_cannot_work_says_why_and_what_to_do(tmp_path, name):
    with pytest.raises(InputError, match=f'{name} cannot work here: it needs a CUDA device') as e:
        Compute(settings_of(tmp_path, backend=name), small_student())
    assert 'to do: set backend: auto' in str(e.value)


NO_VOXELS = np.zeros((0, 6), np.float32), build_kernel_maps(np.zeros((0, 3), np.int32))


def test_no_voxels_at_all_ask_no_library_and_choose_no_backend(tmp_path, monkeypatch):
    compute = Compute(settings_of(tmp_path), small_student())
    monkeypatch.setattr(compute, '_as_maps', None)
    monkeypatch.setattr('trainer.compute.fastest_on_cuda', lambda *_, **__: pytest.fail('timed'))
    assert isinstance(compute.maps(*NO_VOXELS), PairMaps)
    assert compute._as_maps is None


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=gpu)])
def test_no_voxels_at_all_give_every_weight_a_gradient_of_zero(device):
    feats, maps = NO_VOXELS
    student = small_student(device).train()
    out = student(torch.from_numpy(feats).to(device), PairMaps(maps, device))
    out.sum().backward()
    assert out.shape == (0, 16)
    for weight in student.parameters():  # a process that lacked one would keep the others waiting
        assert weight.grad is not None
        assert not weight.grad.any()


@pytest.mark.parametrize('kind', ['submanifold', 'down', 'up'])
def test_no_rows_at_all_give_both_gradients_of_a_convolution(kind):
    x = torch.zeros(0, 5, requires_grad=True)
    kernel = torch.ones(27 if kind == 'submanifold' else 8, 5, 7, requires_grad=True)
    for maps in (NO_VOXELS[1], to_device(NO_VOXELS[1], 'cpu')):
        out = getattr(PairMaps(maps), kind)(0, x, kernel)
        gradients = torch.autograd.grad(out.sum(), (x, kernel))
        assert out.shape == (0, 7)
        assert gradients[0].shape == (0, 5)
        assert not gradients[1].any()


@pytest.mark.parametrize('name', ['triton', 'spconv', 'torchsparse'])
def test_a_library_that_is_not_installed_is_named_with_its_installation(monkeypatch, name):
    monkeypatch.setattr('trainer.sparse_backends.find_spec', lambda _: None)
    found = obstacle(name, CUDA, 'float16')
    assert found.reason == 'it is not installed'
    assert name in found.fix


def test_a_library_that_another_torch_was_compiled_for_is_an_obstacle(monkeypatch):
    def fails(_):
        raise ImportError('undefined symbol: c10')

    monkeypatch.setattr('trainer.sparse_backends.find_spec', lambda _: object())
    monkeypatch.setattr('trainer.sparse_backends.importlib.import_module', fails)
    assert 'undefined symbol' in obstacle('torchsparse', CUDA, 'float16').reason


@pytest.mark.parametrize('name', ['spconv', 'torchsparse'])
def test_libraries_without_bfloat16_are_not_asked_for_it(monkeypatch, name):
    monkeypatch.setattr('trainer.sparse_backends.find_spec', lambda _: object())
    assert 'float16' in obstacle(name, CUDA, 'bfloat16').reason


def test_plain_torch_always_works_on_cuda_and_the_cpu_kernel_never():
    assert obstacle('torch', CUDA, 'bfloat16') is None
    assert obstacle('fused', CUDA, 'float32').reason == 'it computes on the CPU'


@pytest.fixture
def two_backends(monkeypatch, tmp_path):
    """A machine where `torch` and `triton` work, the latter in a third of the time."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(fastest.torch.cuda, 'get_device_name', lambda _: 'a GPU')
    works = ('triton', 'torch')
    no = Obstacle('', '')
    for module in (fastest, sparse_backends):
        monkeypatch.setattr(module, 'obstacle', lambda name, *_: None if name in works else no)
    monkeypatch.setattr(fastest, 'open_maps', lambda name, *_: name)
    measured = []

    def measure(_, name):
        measured.append(name)
        return {'torch': 0.3, 'triton': 0.1}[name]

    monkeypatch.setattr(Trial, 'measure', measure)
    return measured


def choose(**changes):
    feats, maps = random_batch()
    options = {'network': 'small', 'precision': 'bfloat16', 'tf32': False} | changes
    return fastest_on_cuda(small_student().backbone, feats, maps, **options)


def test_the_fastest_backend_is_measured_once_and_remembered(two_backends, capsys):
    assert [choose(), choose()] == ['triton', 'triton']
    assert two_backends == ['triton', 'torch']
    assert (
        'backend triton, the fastest of triton 100.0 ms, torch 300.0 ms' in capsys.readouterr().err
    )


def test_another_precision_or_network_is_measured_anew(two_backends):
    for changes in ({}, {'precision': 'float16'}, {'network': 'minkunet18'}, {'tf32': True}):
        choose(**changes)
    assert len(two_backends) == 8


def test_a_remembered_backend_that_no_longer_works_is_forgotten(two_backends, monkeypatch):
    choose()
    no = Obstacle('', '')
    for module in (fastest, sparse_backends):
        works = ('spconv', 'torch')
        monkeypatch.setattr(
            module, 'obstacle', lambda name, *_, works=works: None if name in works else no
        )
    monkeypatch.setattr(Trial, 'measure', lambda _, name: {'spconv': 0.1, 'torch': 0.2}[name])
    assert choose() == 'spconv'


@pytest.mark.parametrize('content', ['', '{', '[]', '{"key": 1}', '{"backend": "magic"}'])
def test_a_memory_that_is_not_whole_counts_as_absent(tmp_path, content):
    memory = Memory(tmp_path, {'gpu': 'a GPU'})
    memory.write('triton', {'triton': 1.0})
    (file,) = tmp_path.iterdir()
    assert memory.read() == 'triton'
    assert json.loads(file.read_text())['key'] == {'gpu': 'a GPU'}
    file.write_text(content)
    assert memory.read() is None


def test_a_measurement_that_cannot_be_kept_says_so(tmp_path, capsys):
    (tmp_path / 'taken').write_text('not a folder')
    Memory(tmp_path / 'taken', {}).write('triton', {})
    assert 'not kept' in capsys.readouterr().err


def test_measuring_leaves_the_student_as_it_is():
    student = small_student()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    seconds = Trial(student.backbone, *random_batch(), torch.float32).measure(
        open_maps('torch', CPU)
    )
    assert 0 < seconds < 60
    assert all(value.equal(before[name]) for name, value in student.state_dict().items())
    assert all(p.grad is None for p in student.parameters())


def test_what_fails_is_never_the_fastest_and_says_why(capsys):
    def too_large(_):
        raise torch.OutOfMemoryError('CUDA out of memory')

    trial = Trial(small_student().backbone, *random_batch(), torch.float32)
    assert trial.measure(too_large) == float('inf')
    assert 'left out: CUDA out of memory' in capsys.readouterr().err


def out_of_shared_memory():
    from triton.runtime.errors import OutOfResources

    return OutOfResources(200_000, 101_376, 'shared memory')


@pytest.mark.parametrize(
    ('make', 'told'),
    [
        (out_of_shared_memory, 'out of resource: shared memory'),
        (lambda: AssertionError('no algorithm'), 'no algorithm'),
        (AssertionError, 'AssertionError'),
    ],
)
def test_the_errors_of_triton_and_of_libraries_leave_a_backend_out_too(capsys, make, told):
    pytest.importorskip('triton', reason='needs triton')

    def fails(_):
        raise make()

    trial = Trial(small_student().backbone, *random_batch(), torch.float32)
    assert trial.measure(fails) == float('inf')
    assert f'left out: {told}' in capsys.readouterr().err


def test_when_every_backend_fails_it_says_what_to_do(two_backends, monkeypatch, tmp_path):
    monkeypatch.setattr(Trial, 'measure', lambda *_: float('inf'))
    with pytest.raises(InputError, match=r'(?s)every backend failed.*lower batch_size'):
        choose()
    assert not list(tmp_path.rglob('*.json'))


def test_of_several_processes_all_take_what_the_first_has_found(two_backends, monkeypatch):
    monkeypatch.setattr(fastest, 'is_first', lambda: False)
    monkeypatch.setattr(fastest, 'total', lambda own: own + ON_CUDA.index('torch'))
    assert choose() == 'torch'
    assert two_backends == []


def test_the_run_folder_says_which_backend_trained(tiny):
    train(tiny, 'run')
    assert json.loads((tiny / 'run' / PROVENANCE).read_text())['backend'] == 'fused'


def test_a_float16_run_goes_on_from_a_checkpoint_without_a_loss_scale(tmp_path):
    """As one that was written on a CPU."""
    compute = Compute(settings_of(tmp_path), small_student())
    compute.scaler = torch.amp.GradScaler('cpu', enabled=True, init_scale=2.0)
    compute.resume({})
    assert compute.scaler.get_scale() == 2.0
    compute.resume(torch.amp.GradScaler('cpu', enabled=True, init_scale=8.0).state_dict())
    assert compute.scaler.get_scale() == 8.0


def test_a_float16_loss_is_scaled_and_its_scale_resumed():
    """On a CPU, where the scaler works as on CUDA."""
    scaler = torch.amp.GradScaler('cpu', enabled=True, init_scale=1024.0)
    saved = json.loads(json.dumps(scaler.state_dict()))
    other = torch.amp.GradScaler('cpu', enabled=True)
    other.load_state_dict(saved)
    assert other.get_scale() == 1024.0


def test_gradients_that_overflow_in_float16_move_nothing_and_lower_the_scale(tmp_path):
    """On a CPU, with the scaler that CUDA would have."""
    student = small_student()
    compute = Compute(settings_of(tmp_path), student)
    compute.scaler = torch.amp.GradScaler('cpu', enabled=True, init_scale=2.0)
    optimiser = torch.optim.SGD(student.parameters(), lr=1.0)
    weight = student.head.weight
    before = weight.detach().clone()
    compute.backward(weight.sum() * torch.inf, optimiser)
    assert compute.may_overflow
    compute.step(optimiser)
    assert weight.equal(before)
    assert not compute.may_overflow  # from here on, it is not the scale
    compute.backward(weight.sum(), optimiser)
    compute.step(optimiser)
    torch.testing.assert_close(weight, before - 1)


@pytest.mark.parametrize('name', [pytest.param(name, marks=gpu) for name in ON_CUDA])
@pytest.mark.parametrize('precision', ['float32', 'bfloat16', 'float16'])
def test_every_backend_trains_on_cuda_as_plain_torch_does_on_the_cpu(tmp_path, name, precision):
    found = obstacle(name, CUDA, precision)
    if found is not None:
        pytest.skip(f'{name}: {found.reason}')
    changes = {'backend': name, 'precision': precision}
    compute = Compute(settings_of(tmp_path, **changes), small_student('cuda'))
    feats, maps = random_batch()
    reference = small_student()
    expected = reference.backbone(torch.from_numpy(feats), PairMaps(maps))
    expected.square().mean().backward()
    with compute.autocast():
        features = compute._student.backbone(
            torch.from_numpy(feats).to('cuda'), compute.maps(feats, maps)
        )
    features.float().square().mean().backward()
    close = 1e-4 if precision == 'float32' else 5e-2
    error = (features.float().cpu() - expected).norm() / expected.norm()
    assert error < close
    ours, theirs = (s.backbone.stem1.kernel.grad for s in (compute._student, reference))
    if precision == 'float32':
        assert (ours.cpu() - theirs).norm() < 1e-2 * theirs.norm()
    assert ours.dtype == torch.float32


@pytest.mark.parametrize('name', ['triton', 'torch'])
@pytest.mark.parametrize(
    'precision', [pytest.param(p, marks=gpu) for p in ('bfloat16', 'float16')]
)
def test_distillation_on_cuda_learns(tmp_path, name, precision):
    write_drive(tmp_path / 'drive')
    write_settings(tmp_path, backend=name, precision=precision, epochs=8)
    train(tmp_path, 'run')
    curve = losses(tmp_path / 'run')
    assert np.isfinite(curve).all()
    assert np.mean(curve[-3:]) < np.mean(curve[:3])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_auto_takes_what_it_measured_on_this_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    compute = Compute(settings_of(tmp_path), small_student('cuda'))
    compute.maps(*random_batch())
    (file,) = (tmp_path / 'cache' / 'reldistill' / 'backends').iterdir()
    kept = json.loads(file.read_text())
    times = kept['milliseconds']
    assert kept['backend'] == min(times, key=times.get)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_our_kernels_need_less_memory_than_pairs(tmp_path):
    feats, maps = random_batch(counts=(60000,), grid=90)
    peaks = {}
    for name in ('torch', 'triton'):
        student = small_student('cuda')
        compute = Compute(settings_of(tmp_path / name, backend=name), student)
        torch.cuda.reset_peak_memory_stats()
        with compute.autocast():
            rows = torch.from_numpy(feats).to('cuda')
            student.backbone(rows, compute.maps(feats, maps)).float().mean().backward()
        peaks[name] = torch.cuda.max_memory_allocated()
        del student, compute, rows
    assert peaks['triton'] < peaks['torch']
