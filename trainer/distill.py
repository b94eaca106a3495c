# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Distil a 2D teacher into the lidar student: `python -m trainer.distill RUN.yaml --out DIR`."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from reldistill_ros.backends.torch_maps import PairMaps
from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.student import Student
from trainer.batches import Batch, TrainingSweeps, load_batches, steps_per_epoch
from trainer.checkpoint import Progress, load_optimiser, load_student, save_checkpoint
from trainer.collapse import CollapseGuard
from trainer.losses import contrastive_loss, relational_terms, similarity_loss
from trainer.metrics_log import MetricsLog
from trainer.optimiser import make_optimiser, set_learning_rate
from trainer.run import Run, create_run, open_run
from trainer.settings import LossSettings
from trainer.stop import StoppedError, StopRequest, stop_on_signal
from trainer.supervision import draw_balanced, measure_teacher, teacher_features
from trainer.teachers.build import build_teacher, build_text_encoder


def distill(run: Run, resume: bool, stop: StopRequest) -> None:
    """Train a run's student from its start, or from its checkpoint, to its end.

    Raises:
        InputError: bad data, no pairs, a loss that is not finite, or a collapsed student.
    """
    settings = run.settings
    torch.set_num_threads(settings.threads)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    encoder = build_text_encoder(settings.text, run.data_root)
    teacher = build_teacher(settings.teacher, encoder, run.data_root)
    sweeps = TrainingSweeps(run.open_training(), settings)
    student = run.new_student(encoder.embedding_size).to(device)
    optimiser = make_optimiser(student, settings.optimiser)
    per_epoch = steps_per_epoch(len(sweeps), settings.batch_size)
    total = settings.epochs * per_epoch
    if resume:
        mean, first_step = restore(run, student, optimiser)
    else:
        mean, first_step = measure_teacher(run, teacher, sweeps), 0
    log = MetricsLog(run.folder, first_step)
    guard = CollapseGuard(first_step=math.ceil(settings.optimiser.warmup * total))

    def save(step: int) -> None:
        progress = Progress(step, run.fingerprint)
        save_checkpoint(run.checkpoint, student, optimiser, progress, torch.from_numpy(mean))

    student.train()
    batches = load_batches(sweeps, settings, first_step)
    steps = range(first_step, total)
    bar = tqdm(zip(steps, batches), total=total, initial=first_step, unit='step', desc='distil')
    for step, batch in bar:
        target, rows = teacher_features(teacher, batch, mean)
        rng = np.random.default_rng([settings.seed, step])
        drawn = draw_balanced(target, settings.pairs, settings.pair_balance, rng)
        target, rows = target[drawn], rows[drawn]
        lr = set_learning_rate(optimiser, settings.optimiser, step / total)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == 'cuda'):
            features = student.backbone(
                torch.from_numpy(batch.feats).to(device), PairMaps(batch.maps, device)
            )
            embeddings = student.head(features[rows.to(device)])
        embeddings = normalize(embeddings.float(), dim=1)  # (P, C)
        target = target.to(device)
        terms = loss_terms(settings.loss, embeddings, target)
        loss = torch.stack(list(terms.values())).sum()
        check_finite(loss, step, batch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(student.parameters(), settings.optimiser.gradient_clip)
        optimiser.step()
        guard.check(embeddings.detach(), target, step)
        values = {name: value.item() for name, value in terms.items()}
        log.write(step, {'loss': loss.item(), **values, 'lr': lr, 'pairs': len(target)})
        bar.set_postfix(loss=f'{loss.item():.3f}', epoch=step // per_epoch)
        done = step + 1
        if stop.requested or done % per_epoch == 0:
            save(done)
        if stop.requested:
            raise StoppedError(done, total)
    log.close()


def loss_terms(settings: LossSettings, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
    """The weighted terms of the run's loss by name; their sum is the loss."""
    if settings.kind == 'similarity':
        return {'similarity': similarity_loss(student, teacher)}
    if settings.kind == 'contrastive':
        return {'contrastive': contrastive_loss(student, teacher, settings.temperature)}
    terms = relational_terms(student, teacher)
    return {
        'cross_diagonal': terms.cross_diagonal,
        'cross_off_diagonal': terms.cross_off_diagonal,
        'intra': settings.intra_weight * terms.intra,
    }


def check_finite(loss: Tensor, step: int, batch: Batch) -> None:
    """Stop a run whose loss is no number; the last checkpoint stays as it is."""
    if not torch.isfinite(loss):
        raise InputError(
            'the loss is not finite',
            where=f'step {step}, sweeps {", ".join(batch.sample_ids)}',
            got=loss.item(),
            fix='lower optimiser.lr, or look at these sweeps',
        )


def restore(
    run: Run, student: Student, optimiser: torch.optim.Optimizer
) -> tuple[NDArray[np.float32], int]:
    """Load the checkpoint; returns the embedding mean (C,) and the first step to do."""
    mean = load_student(run.checkpoint, student).numpy()
    progress = load_optimiser(run.checkpoint, optimiser)
    if progress.fingerprint != run.fingerprint:
        raise InputError(
            'the checkpoint was trained with other settings',
            where=run.checkpoint,
            fix='undo the change of settings.yaml, or start anew with another --out',
        )
    return mean, progress.step


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m trainer.distill', description=__doc__)
    parser.add_argument('settings', type=Path, help='YAML file of the run, see config/runs/')
    parser.add_argument('--out', type=Path, required=True, help='run folder to write')
    parser.add_argument(
        '--data',
        type=Path,
        default=Path(),
        help='folder that the paths of the settings start from',
    )
    parser.add_argument('--resume', action='store_true', help='continue the run in --out')
    arguments = parser.parse_args()
    if arguments.resume:
        run = open_run(arguments.out, arguments.data)
    else:
        run = create_run(arguments.settings, arguments.out, arguments.data)
    with stop_on_signal() as stop:
        try:
            distill(run, arguments.resume, stop)
        except StoppedError as stopped:
            print(stopped, file=sys.stderr)
            sys.exit(128 + stop.signal_number)


if __name__ == '__main__':
    run_command(main)
