# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Time and memory of the losses, in blocks and as the plain formula.

`python -m benchmark.losses [--out FILE.json]`

Every figure is measured in a process of its own. Memory is the growth of the peak of the resident
set over what the process held with its inputs (two N x D matrices), gradient included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from tqdm import tqdm

from reldistill_ros.core.errors import run_command
from reldistill_ros.core.files import write_json
from reldistill_ros.replay.process_memory import resident_mb
from trainer.losses import contrastive_loss, relational_terms, tolerant_contrastive_loss
from trainer.provenance import provenance

SIZE = 512  # D
MEMORY_LIMIT_MIB, TIME_LIMIT = 1024, 1.3
Row = dict[str, str | int | float]


def plain_relational(student: Tensor, teacher: Tensor) -> Tensor:
    """All three terms with whole N x N matrices, as the formula reads."""
    wanted = teacher @ teacher.T
    cross = (student @ teacher.T - wanted).abs()
    intra = (student @ student.T - wanted).abs()
    num = len(student)
    off_diagonal = [
        (matrix.sum() - matrix.diagonal().sum()) / (num * (num - 1)) for matrix in (cross, intra)
    ]
    return torch.stack([cross.diagonal().mean(), *off_diagonal]).sum()


def relational(student: Tensor, teacher: Tensor) -> Tensor:
    """All three terms in blocks."""
    return torch.stack(list(vars(relational_terms(student, teacher)).values())).sum()


def plain_contrastive(student: Tensor, teacher: Tensor) -> Tensor:
    """InfoNCE with a whole N x N matrix, as the formula reads."""
    return cross_entropy(student @ teacher.T / 0.07, torch.arange(len(student)))


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    'relational_plain': plain_relational,
    'relational': relational,
    'contrastive_plain': plain_contrastive,
    'contrastive': contrastive_loss,
    'st_slidr': tolerant_contrastive_loss,
}
CASES = [
    *((name, 4096) for name in LOSSES),
    *((name, 16384) for name in LOSSES if 'plain' not in name),
]


def measure(name: str, num: int, threads: int) -> Row:
    """Value and gradient of one loss, in this process."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        normalize(torch.randn(num, SIZE, generator=generator), dim=1) for _ in range(2)
    )
    student.requires_grad_()
    before = resident_mb(os.getpid()) or 0.0
    seconds = min(timed(LOSSES[name], student, teacher) for _ in range(3 if num <= 4096 else 1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {'loss': name, 'pairs': num, 'seconds': seconds, 'mib': peak - before}


def timed(loss: Callable[[Tensor, Tensor], Tensor], student: Tensor, teacher: Tensor) -> float:
    """Seconds of one forward and backward pass."""
    student.grad = None
    start = time.perf_counter()
    loss(student, teacher).backward()  # type: ignore[no-untyped-call]
    return time.perf_counter() - start


def measure_all(threads: int) -> Iterator[Row]:
    """Every case in a process of its own."""
    for name, num in tqdm(CASES, unit='case'):
        case = [name, str(num), '--threads', str(threads)]
        command = [sys.executable, '-m', 'benchmark.losses', '--case', *case]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        yield json.loads(done.stdout)


def report(rows: list[Row]) -> None:
    """Print the figures and whether they keep the limits."""
    seconds = {(row['loss'], row['pairs']): float(row['seconds']) for row in rows}
    for row in rows:
        plain = seconds.get((f'{row["loss"]}_plain', row['pairs']))
        text = (
            f'{row["loss"]:18} N={row["pairs"]:6}  {row["seconds"]:7.2f} s  {row["mib"]:7.0f} MiB'
        )
        if plain is not None:
            ratio = float(row['seconds']) / plain
            text += f'  {ratio:.2f}x the plain formula (limit {TIME_LIMIT})'
        if row['pairs'] == 16384:
            text += f'  (limit {MEMORY_LIMIT_MIB} MiB)'
        print(text)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m benchmark.losses', description=__doc__)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--out', type=Path, help='JSON file to write')
    parser.add_argument('--case', nargs=2, metavar=('LOSS', 'PAIRS'), help='only this, as JSON')
    arguments = parser.parse_args()
    if arguments.case:
        name, num = arguments.case
        print(json.dumps(measure(name, int(num), arguments.threads)))
        return
    rows = list(measure_all(arguments.threads))
    report(rows)
    if arguments.out:
        write_json(arguments.out, {'rows': rows, 'threads': arguments.threads, **provenance()})


if __name__ == '__main__':
    run_command(main)
