# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The processes of a run: this one alone, or those that torchrun starts, on one machine or many.

What is small and decides what happens next (counts, flags, texts) goes from CPU to CPU with gloo,
so that it never waits for a GPU; features and gradients go from GPU to GPU with NCCL. See
`docs/distributed.md`.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import Store
from torch.nn.parallel import DistributedDataParallel

from reldistill_ros.core.errors import InputError
from trainer.rendezvous import meet
from trainer.synced_norm import synchronise_norms

TIMEOUT = timedelta(minutes=10)
GIVEN_BY_TORCHRUN = {'RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'}
Item = TypeVar('Item')


class ProcessGroup:
    """Joins the processes that torchrun has started, within a `with`; one alone does nothing.

    Of several processes the first to fail says why, and the others, which have lost it, end
    without a word. One that is killed, or whose machine is gone, closes its connections: the
    others fail at the next exchange. One that hangs is given up after `timeout`.

    Args:
        timeout: how long a process waits for another.
    """

    def __init__(self, timeout: timedelta = TIMEOUT) -> None:
        self._timeout = timeout
        self._store: Store | None = None

    def __enter__(self) -> None:
        if not os.environ.keys() >= GIVEN_BY_TORCHRUN:
            return
        backend = 'gloo'
        if torch.cuda.is_available():
            torch.cuda.set_device(local_device())
            backend = 'cpu:gloo,cuda:nccl'
        store, rank, num = meet(self._timeout)
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=num, timeout=self._timeout
        )
        self._store = store

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        if self._store is None:
            return
        if error is None:
            dist.destroy_process_group()
        elif self._store.add('failed', 1) > 1:
            sys.exit(1)
        elif num_processes() > 1:
            where = f'process {rank()} of {num_processes()} on {socket.gethostname()}'
            print(f'{where} ends all of them:', file=sys.stderr)


def is_distributed() -> bool:
    """Whether this process has joined others."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if is_distributed() else 0


def num_processes() -> int:
    """How many processes there are."""
    return dist.get_world_size() if is_distributed() else 1


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


def tell(text: str) -> None:
    """Print once for all processes."""
    if is_first():
        print(text)


def own_share(items: Sequence[Item]) -> Sequence[Item]:
    """This process's items: neighbours; the shares in the order of the ranks are all items."""
    num, parts = len(items), num_processes()
    return items[num * rank() // parts : num * (rank() + 1) // parts]


def total(number: int) -> int:
    """Sum of a number over all processes."""
    return int(sum_everywhere(torch.tensor([number])))


def sum_everywhere(values: Tensor) -> Tensor:
    """Sum of some values, shaped alike, over all processes; overwrites them."""
    if is_distributed():
        dist.all_reduce(values)
    return values


def any_process(flag: bool) -> bool:
    """Whether a flag is set in any process; the same answer in all of them."""
    return total(flag) > 0


def wait_for_all() -> None:
    """Wait until every process has come here."""
    total(0)


def local_device() -> torch.device:
    """The GPU of this process, each on a machine having its own, or the CPU.

    Raises:
        InputError: there are more processes than GPUs.
    """
    if not torch.cuda.is_available():
        return torch.device('cpu')
    number, num = int(os.environ.get('LOCAL_RANK', '0')), torch.cuda.device_count()
    if number >= num:
        raise InputError(
            'there are more processes than GPUs on this machine',
            where=socket.gethostname(),
            expected=f'--nproc-per-node of at most {num}',
            got=f'a process with LOCAL_RANK {number}',
        )
    return torch.device('cuda', number)


def in_parallel(network: nn.Module, device: torch.device) -> nn.Module:
    """The network, trained by all processes as if by one: mean gradients, common batch norm.

    Its batch norms are replaced in place, under the same names; an optimiser is made afterwards.
    """
    if not is_distributed():
        return network
    synchronise_norms(network)
    devices = [device] if device.type == 'cuda' else None
    return DistributedDataParallel(network, device_ids=devices)
