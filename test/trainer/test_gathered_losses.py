# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Two processes learn what one process learns from the batch of both."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from plain_losses import unit_rows
from pydantic import TypeAdapter
from torch import nn
from torch.multiprocessing import spawn
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from trainer.distill import loss_terms
from trainer.gather import gather_pairs
from trainer.settings import LossSettings

PARTS = (slice(0, 150), slice(150, 210))  # of processes with unequal numbers of pairs
LOSSES = (
    {'kind': 'similarity'},
    {'kind': 'contrastive'},
    {'kind': 'slidr'},
    {'kind': 'st_slidr'},
    {'kind': 'relational'},
    {'kind': 'relational', 'anchor_weights': True, 'intra_weight': 0.5},
)


def pairs():
    """Inputs of the points, what the teacher says, and superpixels of three points each."""
    return unit_rows(210, 10, 0), unit_rows(210, 6, 1), torch.arange(210) // 3


def learn(model, values, part):
    """Value of the loss of a part of the pairs, and the gradient of the weights."""
    inputs, teacher, segments = (rows[part] for rows in pairs())
    settings = TypeAdapter(LossSettings).validate_python(values)
    segments = segments if 'slidr' in settings.kind else None
    model.zero_grad()
    student = normalize(model(inputs), dim=1)
    loss = sum(loss_terms(settings, student, teacher, segments).values())
    loss.backward()
    (weights,) = model.parameters()
    return loss.detach(), weights.grad.clone()


def new_model():
    torch.manual_seed(0)
    return nn.Linear(10, 6, bias=False)


def one_of_two(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    model = DistributedDataParallel(new_model())
    found = [learn(model, values, PARTS[rank]) for values in LOSSES]
    torch.save(found, f'{folder}/{rank}.pt')
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def learnt_by_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp('processes')
    spawn(one_of_two, (folder,), nprocs=2)
    return [torch.load(folder / f'{rank}.pt') for rank in (0, 1)]


@pytest.mark.parametrize('index', range(len(LOSSES)), ids=lambda i: str(LOSSES[i]))
def test_two_processes_equal_one(learnt_by_two, index):
    value, gradient = learn(new_model(), LOSSES[index], slice(None))
    for found in learnt_by_two:
        torch.testing.assert_close(found[index][0], value, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found[index][1], gradient, rtol=1e-5, atol=1e-6)


def test_a_part_alone_learns_something_else():
    whole, part = (learn(new_model(), {'kind': 'relational'}, s) for s in (slice(None), PARTS[0]))
    assert (whole[1] - part[1]).abs().max() > 1e-3


def test_a_single_process_keeps_its_own_pairs():
    student, teacher = unit_rows(4, 3, 0), unit_rows(4, 3, 1)
    gathered = gather_pairs(student, teacher)
    assert gathered[0] is student
    assert gathered[1] is teacher
