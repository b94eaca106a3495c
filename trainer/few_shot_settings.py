# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Settings of an evaluation with few labels: one YAML file is one protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from reldistill_ros.core.settings import Settings
from trainer.datasets.open import DatasetSettings


class ProtocolSettings(Settings):
    """Which labels train a classifier on a run's student, how, and where it is scored.

    Seed, voxels, input features and the augmentation of the points are those of the run.

    Attributes:
        name: what it is called in tables.
        kind: `linear_probe` trains a linear classifier on the features of the frozen backbone,
            `fine_tune` trains both.
        init: the backbone that the run has `distilled`, or its random start, `scratch`.
        percent: share of the labels of the training drives that is used.
        split: stored list of these labels, see `trainer.splits`; absolute, or relative to the
            data root, or else to the project's `config/` folder. None for 100 percent.
        vocabulary: YAML of the classes, found likewise.
        train: labelled drives to learn from; the paths are relative to the data root.
        evaluate: labelled drives to be scored on.
        epochs: how often all labelled sweeps are gone through; the last state counts.
        batch_size: sweeps of one batch. A linear probe draws voxels from all sweeps instead, in
            as many batches.
        lr: peak learning rate of the backbone, falling to zero along a cosine; 0 where it is
            frozen.
        head_lr: of the classifier, likewise.
        weight_decay: of AdamW.
        lovasz_weight: weight of the Lovasz-softmax loss beside the cross-entropy.
    """

    name: str = Field(min_length=1)
    kind: Literal['linear_probe', 'fine_tune']
    init: Literal['distilled', 'scratch'] = 'distilled'
    percent: float = Field(default=100.0, gt=0, le=100)
    split: Path | None = None
    vocabulary: Path
    train: tuple[DatasetSettings, ...] = Field(min_length=1)
    evaluate: tuple[DatasetSettings, ...] = Field(min_length=1)
    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    lr: float = Field(default=0.0, ge=0)
    head_lr: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    lovasz_weight: float = Field(default=1.0, ge=0)

    @model_validator(mode='after')
    def _fits_together(self) -> ProtocolSettings:
        if (self.kind == 'linear_probe') != (self.lr == 0):
            raise ValueError('lr is 0 in a linear_probe, and above 0 in a fine_tune')
        if (self.split is None) != (self.percent == 100):
            raise ValueError('split lists the labels of less than 100 percent, and only these')
        return self
