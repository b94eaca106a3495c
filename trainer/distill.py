# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Distil a 2D teacher into the lidar student: `python -m trainer.distill RUN.yaml --out DIR`.

On several GPUs or machines, see `docs/distributed.md`, the same file gives the same training:

    torchrun --nproc-per-node 8 -m trainer.distill RUN.yaml --out DIR
"""

from __future__ import annotations

import argparse
import logging
import math
import signal
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader
from tqdm import tqdm

from reldistill_ros.core.errors import InputError, run_command
from trainer.batches import Batch, TrainingSweeps, load_batches
from trainer.checkpoint import Clock, Progress, save_checkpoint
from trainer.collapse import CollapseGuard
from trainer.compute import Compute
from trainer.datasets.open import tell_what_is_read
from trainer.datasets.sample import Dataset
from trainer.distributed import (
    ProcessGroup,
    any_process,
    in_parallel,
    is_first,
    local_device,
    tell,
    total,
    wait_for_all,
)
from trainer.draws import check_shares, steps_per_epoch
from trainer.fingerprint import fingerprint
from trainer.gather import gather_pairs, gather_rows, gather_texts, own_rows, row_counts
from trainer.losses import (
    anchor_weights,
    contrastive_loss,
    pool_segments,
    relational_terms,
    similarity_loss,
    tolerant_contrastive_loss,
)
from trainer.metrics_log import MetricsLog
from trainer.missing import MissingSweeps, of_all_processes
from trainer.optimiser import make_optimiser, set_learning_rate
from trainer.pairing import check_projects, sweeps_to_check
from trainer.resuming import is_finished, open_together, restore
from trainer.run import Run, start_student
from trainer.settings import (
    ContrastiveSettings,
    LossSettings,
    RunSettings,
    SimilaritySettings,
    SuperpixelLossSettings,
)
from trainer.stop import StoppedError, StopRequest, stop_on_signal
from trainer.superpixels import Superpixels
from trainer.supervision import (
    FEWEST_PAIRS,
    Supervision,
    draw_balanced,
    measure_teacher,
    no_pairs,
    teacher_features,
)


def distill(run: Run, resume: bool, stop: StopRequest, allow_missing: int = 0) -> None:
    """Train a run's student from its start, or from its checkpoint, to its end.

    Args:
        run: with its settings.
        resume: whether to go on from the checkpoint.
        stop: asked after every step.
        allow_missing: how many sweeps may be unreadable.

    Raises:
        InputError: bad data, no pairs, a loss that is not finite, or a collapsed student.
    """
    settings = run.settings
    torch.set_num_threads(settings.threads)
    device = local_device()
    datasets, sweeps = open_sweeps(run, with_tables=device.type == 'cpu')
    per_epoch = steps_per_epoch(len(sweeps), settings.batch_size)
    num_steps = settings.epochs * per_epoch
    if resume and is_finished(run, datasets, num_steps):
        tell(f'already finished: {run.folder} has done all of its {num_steps} steps')
        return
    missing = MissingSweeps(allow_missing, run.folder)
    for dataset in datasets:
        check_projects(missing.read(dataset, sweeps_to_check(dataset)), settings.pairing)
    encoder = run.build_encoder()  # the slow part, when all else is known to be there
    teacher = run.build_teacher(encoder)
    parts = fingerprint(run, datasets, encoder, teacher)
    student = start_student(run, teacher.embedding_size).to(device).train()
    compute = Compute(settings, student, run.note_backend)
    network = in_parallel(student, device)
    optimiser = make_optimiser(student, settings.optimiser)
    if resume:
        mean, progress = restore(run.checkpoint, student, optimiser, parts)
        compute.resume(progress.loss_scale)
    else:
        mean, progress = measure_teacher(run, teacher, sweeps, missing), Progress(parts)
    guard = CollapseGuard(math.ceil(settings.optimiser.warmup * num_steps), progress.low_steps)
    bar = progress_bar(load_batches(sweeps, settings, progress.step), num_steps, progress.step)
    clock = Clock()
    with closing(MetricsLog(run.folder, progress.step)) as log:
        for step, batch in enumerate(bar, progress.step):
            missing.note(of_all_processes(batch.unreadable))
            lr = set_learning_rate(optimiser, settings.optimiser, step / num_steps)
            candidates = teacher_features(teacher, batch, mean).to(device)
            target, rows, segments = draw_pairs(candidates, settings, step)
            pairs = total(len(target))
            if pairs < FEWEST_PAIRS:
                skip(progress, batch, per_epoch)
            else:
                embeddings = embed(network, batch, rows, compute)
                terms = loss_terms(settings.loss, embeddings, target, segments)
                loss = torch.stack(list(terms.values())).sum()
                compute.backward(loss, optimiser)
                norm = clip_grad_norm_(student.parameters(), settings.optimiser.gradient_clip)
                check_finite(loss, loss if compute.may_overflow else norm, step, batch)
                compute.step(optimiser)
                guard.check(embeddings.detach(), target, step)
                progress.low_steps, progress.skipped_in_a_row = guard.low_steps, 0
                curves = {name: value.item() for name, value in {'loss': loss, **terms}.items()}
                log.write(step, {**curves, 'lr': lr, 'pairs': pairs, 'skipped': progress.skipped})
                bar.set_postfix(loss=f'{curves["loss"]:.3f}', epoch=step // per_epoch)
            progress.step = step + 1
            # asked once: it may come true between save and raise
            stopping = any_process(stop.requested)
            if clock.has_struck() or stopping or progress.step % per_epoch == 0:
                progress.loss_scale = compute.scaler.state_dict()
                save_checkpoint(run.checkpoint, student, optimiser, progress, embedding_mean=mean)
            if stopping:
                wait_for_all()  # torchrun ends the writer as soon as another process has ended
                raise StoppedError(progress.step, num_steps)
    tell_left_out(progress, missing, num_steps)


def progress_bar(batches: DataLoader[Batch], num_steps: int, first_step: int) -> tqdm[Batch]:
    """The batches, of which the first process shows how many are done."""
    shown = {'total': num_steps, 'initial': first_step, 'unit': 'step', 'desc': 'distil'}
    return tqdm(batches, **shown, disable=not is_first())


def tell_left_out(progress: Progress, missing: MissingSweeps, num_steps: int) -> None:
    """Say what a finished run has not learnt from."""
    if progress.skipped:
        tell(f'{progress.skipped} of {num_steps} batches had no pairs and were left out')
    if missing.reasons:
        tell(f'{len(missing.reasons)} sweeps could not be read and were left out')


def open_sweeps(run: Run, with_tables: bool) -> tuple[list[Dataset], TrainingSweeps]:
    """The drives to distil on, and their sweeps; a GPU needs no tables of neighbours.

    Raises:
        InputError: a drive cannot be read, or the batch cannot be shared out.
    """
    datasets = run.open_training()
    sweeps = TrainingSweeps(datasets, run.settings, find_superpixels(run), tables=with_tables)
    check_shares(run.settings, len(sweeps))
    return datasets, sweeps


def find_superpixels(run: Run) -> Superpixels | None:
    """Superpixels for the losses that compare them."""
    loss = run.settings.loss
    if not isinstance(loss, SuperpixelLossSettings):
        return None
    return Superpixels(loss.superpixels, run.data_root)


def draw_pairs(candidates: Supervision, settings: RunSettings, step: int) -> Supervision:
    """The step's share of the candidate pairs; superpixels take in all of theirs.

    They are drawn from the candidates of all processes, and each goes on with its own.
    """
    if isinstance(settings.loss, SuperpixelLossSettings):
        return candidates
    rng = np.random.default_rng([settings.seed, step])
    sizes = row_counts(len(candidates.rows))
    everyone = gather_rows(candidates.features, sizes)
    own = own_rows(sizes)
    drawn = draw_balanced(everyone, settings.pairs, settings.pair_balance, rng)
    drawn = drawn[(drawn >= own.start) & (drawn < own.stop)] - own.start
    return Supervision(candidates.features[drawn], candidates.rows[drawn], None)


def embed(network: nn.Module, batch: Batch, rows: Tensor, compute: Compute) -> Tensor:
    """The student's embeddings (P, C), unit rows, of the voxels `rows` (P,)."""
    maps = compute.maps(batch.feats, batch.maps, batch.sizes)
    with compute.autocast():
        feats = torch.from_numpy(batch.feats).to(compute.device)
        embeddings: Tensor = network(feats, maps, rows)
    return normalize(embeddings.float(), dim=1)


def loss_terms(
    settings: LossSettings, student: Tensor, teacher: Tensor, segments: Tensor | None = None
) -> dict[str, Tensor]:
    """The weighted terms of the run's loss by name; their sum is the loss.

    Args:
        settings: which loss.
        student: (P, C), unit rows.
        teacher: (P, C), unit rows.
        segments: (P,) superpixel of each pair, to compare superpixels rather than pairs.
    """
    if segments is not None:
        segments = segments.to(student.device)
        student, teacher = pool_segments(student, segments), pool_segments(teacher, segments)
    student, teacher = gather_pairs(student, teacher)
    if isinstance(settings, SimilaritySettings):
        return {settings.kind: similarity_loss(student, teacher)}
    if isinstance(settings, ContrastiveSettings | SuperpixelLossSettings):
        tolerant = settings.kind == 'st_slidr'
        contrast = tolerant_contrastive_loss if tolerant else contrastive_loss
        return {settings.kind: contrast(student, teacher, settings.temperature)}
    terms = relational_terms(
        student,
        teacher,
        anchor_weights(teacher) if settings.anchor_weights else None,
        cross_diagonal=settings.cross_diagonal,
        cross_off_diagonal=settings.cross_off_diagonal,
        intra=settings.intra_weight > 0,
    )
    return {
        'cross_diagonal': terms.cross_diagonal,
        'cross_off_diagonal': terms.cross_off_diagonal,
        'intra': settings.intra_weight * terms.intra,
    }


def skip(progress: Progress, batch: Batch, per_epoch: int) -> None:
    """Count a batch that has no pairs: a step without an update.

    Raises:
        InputError: none of the batches since a whole epoch had any.
    """
    progress.skipped += 1
    progress.skipped_in_a_row += 1
    if progress.skipped_in_a_row >= per_epoch:
        raise no_pairs(batch.sample_ids)


def check_finite(loss: Tensor, gradient_norm: Tensor, step: int, batch: Batch) -> None:
    """Stop before the weights become no numbers; the last checkpoint stays as it is."""
    if not torch.isfinite(loss) or not torch.isfinite(gradient_norm):
        told = gather_texts(', '.join(batch.sample_ids))
        raise InputError(
            'the loss or its gradient is not finite',
            where=f'step {step}, sweeps {", ".join(told)}',
            got=f'loss {loss.item()}, norm of the gradient {gradient_norm.item()}',
            fix='lower optimiser.lr, or look at these sweeps',
        )


def parse_arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog='python -m trainer.distill', description=__doc__)
    parser.add_argument('settings', type=Path, help='YAML file of the run, see config/runs/')
    parser.add_argument('--out', type=Path, required=True, help='run folder to write')
    parser.add_argument(
        '--data',
        type=Path,
        help='folder that the paths of the settings start from; the current one by default, '
        'the recorded one with --resume',
    )
    parser.add_argument(
        '--resume',
        action='store_true',
        help='continue the run in --out; processes that torchrun starts anew, after a failure or '
        'because a machine has come or gone, do so by themselves',
    )
    parser.add_argument(
        '--allow-missing',
        type=int,
        default=0,
        metavar='N',
        help='leave out up to N sweeps that cannot be read, and list them in missing.json; '
        'by default the first one ends the run',
    )
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    code = 0
    with ProcessGroup(), stop_on_signal() as stop:
        if is_first():
            tell_what_is_read()
        else:
            logging.disable(logging.WARNING)  # the first process says it for all
        run, resume = open_together(arguments)
        try:
            distill(run, resume, stop, arguments.allow_missing)
        except StoppedError as stopped:
            code = 128 + (stop.signal_number or signal.SIGTERM)  # if another got the signal
            if is_first():
                print(stopped, file=sys.stderr)
    sys.exit(code)


if __name__ == '__main__':
    run_command(main)
