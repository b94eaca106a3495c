# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Settings of a training run: one YAML file is one complete run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from reldistill_ros.core.settings import InputSettings, Settings, VoxelSettings
from trainer.augment import AugmentSettings
from trainer.datasets.open import DatasetSettings
from trainer.pairing import PairingSettings
from trainer.superpixels import SuperpixelSettings
from trainer.teachers.settings import (
    FeatureTeacherSettings,
    GridTeacherSettings,
    TeacherSettings,
    TextEncoderSettings,
)

BackendName = Literal['fused', 'torch', 'triton', 'spconv', 'torchsparse']
Precision = Literal['bfloat16', 'float16', 'float32']

CANDIDATES_PER_PAIR = 4
CHECKOUT = Path(__file__).resolve().parent.parent


class SimilaritySettings(Settings):
    """Each point reproduces its own pixel; see `trainer.losses.similarity_loss`."""

    kind: Literal['similarity']


class ContrastiveSettings(Settings):
    """PPKT: the other pairs are negatives; see `trainer.losses.contrastive_loss`."""

    kind: Literal['contrastive']
    temperature: float = Field(default=0.07, gt=0)


class SuperpixelLossSettings(Settings):
    """`slidr`: contrastive between superpixels; `st_slidr`: the same, tolerant of its own kind.

    All pairs of a sweep are pooled, so `pairs` and `pair_balance` of the run play no part. See
    `trainer.losses.contrastive_loss` and `trainer.losses.tolerant_contrastive_loss`.
    """

    kind: Literal['slidr', 'st_slidr']
    temperature: float = Field(default=0.07, gt=0)
    superpixels: SuperpixelSettings = SuperpixelSettings()


class RelationalSettings(Settings):
    """The student reproduces the teacher's relations; see `trainer.losses.relational_terms`.

    Attributes:
        cross_diagonal: whether each point reproduces its own pixel.
        cross_off_diagonal: whether student to teacher reproduces teacher to teacher.
        intra_weight: how much it counts that student to student reproduces teacher to teacher;
            0 leaves the term out.
        anchor_weights: whether rows of rarer kinds count more.
    """

    kind: Literal['relational']
    cross_diagonal: bool = True
    cross_off_diagonal: bool = True
    intra_weight: float = Field(default=1.0, ge=0)
    anchor_weights: bool = False

    @model_validator(mode='after')
    def _a_term_is_left(self) -> RelationalSettings:
        if not (self.cross_diagonal or self.cross_off_diagonal or self.intra_weight):
            raise ValueError('all terms of the relational loss are switched off')
        return self


LossSettings = Annotated[
    SimilaritySettings | ContrastiveSettings | SuperpixelLossSettings | RelationalSettings,
    Field(discriminator='kind'),
]


class OptimiserSettings(Settings):
    """How the weights move.

    Attributes:
        kind: `adamw` or `sgd`.
        lr: peak learning rate, reached after the warm-up, then cosine to zero.
        warmup: share of all steps spent warming up linearly.
        gradient_clip: largest L2 norm of all gradients together.
        momentum: of SGD.
        dampening: of SGD.
    """

    kind: Literal['adamw', 'sgd'] = 'adamw'
    lr: float = Field(gt=0)
    weight_decay: float = Field(default=0.03, ge=0)
    warmup: float = Field(default=0.05, ge=0, lt=1)
    gradient_clip: float = Field(default=10.0, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    dampening: float = Field(default=0.1, ge=0, lt=1)


class RunSettings(Settings):
    """One complete run.

    Attributes:
        network: widths and depths of the student.
        init: run folder, or its checkpoint, whose backbone training starts from; relative to the
            data root. None for random weights. See `trainer.convert` for others' checkpoints.
        text: text encoder whose space the teacher shares; none for a teacher without words.
        vocabulary: YAML of the classes it is evaluated and exported with: absolute, or relative
            to the data root, or else to the project's `config/` folder.
        center: subtract the teacher's mean feature from teacher and prompts and renormalise.
        temperature: of the exported probabilities.
        train: drives to distil on; labels are never read for training.
        balance_drives: whether short drives are gone through several times an epoch.
        evaluate: labelled drives held out for evaluation.
        pairs: point-pixel pairs of one batch.
        pair_balance: how much rarer kinds of pixels are preferred when the pairs are drawn: 0
            not at all, 1 so that all kinds come equally often; see `trainer.supervision`.
        batch_size: sweeps of one batch, of which several training processes take equal shares.
        workers: processes that prepare batches, for each training process.
        threads: of each training process.
        backend: what carries out the student's convolutions, see `trainer.sparse_backends`. It
            decides speed, not what is learnt: results differ by rounding alone. `auto` is `fused`
            on a CPU, and on CUDA the fastest of those installed, measured once on the first
            batch and remembered.
        precision: of the student on CUDA; weights and losses stay float32. float16 scales the
            loss, so that small gradients do not vanish. A CPU always computes in float32.
        tf32: whether products of float32 on CUDA, those of the losses among them, may round what
            they multiply to TF32: 10 bits behind the point instead of 23.
    """

    seed: int = 0
    network: Literal['small', 'minkunet18', 'minkunet34']
    init: Path | None = None
    voxel: VoxelSettings
    inputs: InputSettings
    text: TextEncoderSettings | None = None
    teacher: TeacherSettings
    vocabulary: Path
    center: bool = False
    temperature: float = Field(default=0.05, gt=0)
    train: tuple[DatasetSettings, ...] = Field(min_length=1)
    balance_drives: bool = False
    evaluate: tuple[DatasetSettings, ...] = ()
    pairing: PairingSettings = PairingSettings()
    augment: AugmentSettings = AugmentSettings()
    loss: LossSettings
    optimiser: OptimiserSettings
    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    pairs: int = Field(default=4096, ge=2)
    pair_balance: float = Field(default=0.5, ge=0, le=1)
    workers: int = Field(default=1, ge=0)
    threads: int = Field(default=2, gt=0)
    backend: Literal['auto'] | BackendName = 'auto'
    precision: Precision = 'bfloat16'
    tf32: bool = False

    @model_validator(mode='after')
    def _teacher_fits(self) -> RunSettings:
        if not isinstance(self.teacher, FeatureTeacherSettings):
            if self.text is None:
                raise ValueError(f'a teacher of kind {self.teacher.kind} needs `text`')
        elif self.text is not None:
            raise ValueError(
                f'a teacher of kind {self.teacher.kind} knows no words: remove `text`'
            )
        return self

    @model_validator(mode='after')
    def _kept_features_fit(self) -> RunSettings:
        varies = self.augment.crop < 1 or self.augment.flip_image
        if isinstance(self.teacher, GridTeacherSettings) and self.teacher.cache and varies:
            raise ValueError(
                'kept features serve unchanged images: set augment.crop: 1 and '
                'augment.flip_image: false, or remove teacher.cache'
            )
        return self

    @property
    def candidates(self) -> int:
        """Pairs of a batch from which its `pairs` are drawn."""
        return self.pairs * (CANDIDATES_PER_PAIR if self.pair_balance else 1)
