# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A linear classifier on the student's point features: probed, fine-tuned, applied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import build_kernel_maps
from reldistill_ros.core.student import Student
from reldistill_ros.core.vocabulary import IGNORE_INDEX
from reldistill_ros.core.voxels import voxelise
from trainer.compute import Compute, fastest_backend
from trainer.few_shot_settings import ProtocolSettings
from trainer.labelled_sweeps import LabelledSweeps, load_labelled
from trainer.lovasz import lovasz_softmax
from trainer.settings import RunSettings

SMALLEST_DEVIATION = 1e-4  # of a feature over the largest; below it is the same everywhere

Labelled = tuple[Tensor, Tensor]  # features (V, D) and classes (V,) of labelled voxels
Curves = Iterator[dict[str, float]]  # loss and its terms, step by step


def fine_tune(
    student: Student, classifier: nn.Linear, sweeps: LabelledSweeps, protocol: ProtocolSettings
) -> Curves:
    """Train backbone and classifier, in place, as the steps are asked for.

    Raises:
        InputError: the loss is not finite.
    """
    groups = [
        {'params': student.backbone.parameters(), 'lr': protocol.lr},
        {'params': classifier.parameters(), 'lr': protocol.head_lr},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=protocol.weight_decay)
    student.train()
    compute = Compute(sweeps.settings, student)
    labelled = _forward_batches(student, sweeps, compute)
    yield from _fit(
        classifier, labelled, optimiser, protocol=protocol, steps=sweeps.num_steps, compute=compute
    )


def train_probe(
    student: Student, classifier: nn.Linear, sweeps: LabelledSweeps, protocol: ProtocolSettings
) -> Curves:
    """Train the classifier, in place, on the features of the frozen backbone.

    The features of all labelled voxels are computed once and held in memory. They are
    standardised, and the scale is folded into the classifier at the end: so that the learning
    rate means the same for every student, however large its features are.

    Raises:
        InputError: the loss is not finite.
    """
    features, classes = _frozen_features(student, sweeps)
    mean, deviation = features.mean(dim=0), _deviation(features)
    optimiser = torch.optim.AdamW(
        classifier.parameters(), protocol.head_lr, weight_decay=protocol.weight_decay
    )
    labelled = _draw_voxels((features - mean) / deviation, classes, sweeps)
    compute = Compute(sweeps.settings, student)
    yield from _fit(
        classifier, labelled, optimiser, protocol=protocol, steps=sweeps.num_steps, compute=compute
    )
    with torch.no_grad():
        classifier.weight.div_(deviation)
        classifier.bias.sub_(classifier.weight @ mean)


def _fit(
    classifier: nn.Linear,
    labelled: Iterable[Labelled],
    optimiser: torch.optim.Optimizer,
    *,
    protocol: ProtocolSettings,
    steps: int,
    compute: Compute,
) -> Curves:
    """Cross-entropy and Lovasz-softmax, cosine from the peak learning rates to zero."""
    schedule = CosineAnnealingLR(optimiser, steps)
    for features, classes in labelled:
        logits = classifier(features)
        entropy = cross_entropy(logits, classes)
        lovasz = lovasz_softmax(logits.softmax(dim=1), classes)
        loss = entropy + protocol.lovasz_weight * lovasz
        if not torch.isfinite(loss):
            raise InputError('the loss is not finite', got=loss.item(), fix='lower lr or head_lr')
        compute.backward(loss, optimiser)
        compute.step(optimiser)
        schedule.step()
        yield {'loss': loss.item(), 'cross_entropy': entropy.item(), 'lovasz': lovasz.item()}


def _forward_batches(
    student: Student, sweeps: LabelledSweeps, compute: Compute
) -> Iterator[Labelled]:
    """Features with gradient, batch by batch; batches without a labelled voxel are left out."""
    for batch in load_labelled(sweeps):
        known = torch.from_numpy(np.flatnonzero(batch.classes != IGNORE_INDEX))
        if not len(known):
            continue
        feats = torch.from_numpy(batch.feats).to(compute.device)
        maps = compute.maps(batch.feats, batch.maps)
        with compute.autocast():
            features = student.backbone(feats, maps)
        known = known.to(compute.device)
        classes = torch.from_numpy(batch.classes.astype(np.int64)).to(compute.device)
        yield features[known].float(), classes[known]


def _frozen_features(student: Student, sweeps: LabelledSweeps) -> Labelled:
    """Features and classes of the labelled voxels of all sweeps, batch norm in evaluation."""
    backend = fastest_backend(student)
    device = next(student.parameters()).device
    features, classes = [], []
    for index in range(len(sweeps)):
        batch = sweeps[0, index]
        known = batch.classes != IGNORE_INDEX
        features.append(backend(batch.feats, batch.maps)[known])
        classes.append(batch.classes[known].astype(np.int64))
    return (
        torch.from_numpy(np.concatenate(features)).to(device),
        torch.from_numpy(np.concatenate(classes)).to(device),
    )


def _deviation(features: Tensor) -> Tensor:
    """Standard deviation (D,) of features (V, D); the largest for those that hardly vary.

    Divided by their own, they would explode where other sweeps let them vary.
    """
    deviation = features.std(dim=0, correction=0)
    largest = deviation.max()
    return torch.where(deviation > SMALLEST_DEVIATION * largest, deviation, largest)


def _draw_voxels(features: Tensor, classes: Tensor, sweeps: LabelledSweeps) -> Iterator[Labelled]:
    """Random voxels of all sweeps, each once an epoch, in as many batches as of whole sweeps."""
    generator = torch.Generator().manual_seed(sweeps.settings.seed)
    per_epoch = sweeps.num_steps // sweeps.settings.epochs
    for _ in range(sweeps.settings.epochs):
        order = torch.randperm(len(classes), generator=generator).to(classes.device)
        for rows in order.chunk(per_epoch):
            yield features[rows], classes[rows]


class Segmenter:
    """Points in, classes out: a backbone, without gradient, and a linear classifier.

    Args:
        student: whose backbone is used.
        classifier: D features to K classes; no other class is ever given.
        settings: grid and input features.
    """

    def __init__(self, student: Student, classifier: nn.Linear, settings: RunSettings) -> None:
        self._backend = fastest_backend(student)
        self._weight = classifier.weight.detach().cpu().numpy()
        self._bias = classifier.bias.detach().cpu().numpy()
        self._settings = settings

    def __call__(self, points: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Class (N,) of points (N, 4), `IGNORE_INDEX` outside the range."""
        classes = np.full(len(points), IGNORE_INDEX, np.uint8)
        voxels = voxelise(points, self._settings.voxel, self._settings.inputs)
        inside = voxels.point_to_voxel >= 0
        if inside.any():
            features = self._backend(voxels.feats, build_kernel_maps(voxels.coords))
            of_voxels = (features @ self._weight.T + self._bias).argmax(axis=1)
            classes[inside] = of_voxels[voxels.point_to_voxel[inside]]
        return classes
