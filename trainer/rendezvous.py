# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""How the processes that torchrun has started find each other, however often it starts them."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta

from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

PAUSE = 0.02  # seconds


def meet(timeout: timedelta) -> tuple[Store, int, int]:
    """A store that these processes alone share, the rank of this one, and how many they are.

    torchrun keeps one store for a whole job, and what processes that have died left there would be
    taken for their successors' (seen with torch 2.13: "connection refused" after a restart). No
    number that a process is given tells the starts apart on all machines, so the first process
    makes up a name and hands it to those that ask now.
    """
    store, rank, num = next(rendezvous('env://', timeout=timeout))
    store.set_timeout(timeout)
    name = _hand_out_name(store, num) if rank == 0 else _ask_for_name(store, rank)
    return PrefixStore(name, store), rank, num


def _hand_out_name(store: Store, num: int) -> str:
    """Answer every other process; a question may be an old one, so until each has the name."""
    name = uuid.uuid4().hex
    waiting = set(range(1, num))
    while waiting:
        for rank in waiting:
            question = store.get(f'question/{rank}').decode()
            store.set(f'answer/{question}', name)
        waiting = {rank for rank in waiting if not store.check([f'{name}/has/{rank}'])}
        time.sleep(PAUSE)
    return name


def _ask_for_name(store: Store, rank: int) -> str:
    question = uuid.uuid4().hex
    store.set(f'question/{rank}', question)
    name = store.get(f'answer/{question}').decode()
    store.set(f'{name}/has/{rank}', '')
    return name
