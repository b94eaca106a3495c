# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""When a point is none of the classes: thresholds out of the cosines that training sweeps gave."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings
from reldistill_ros.core.vocabulary import Vocabulary

Share = Annotated[float, Field(ge=0, le=1)]
Cosine = Annotated[float, Field(ge=-1.01, le=1.01)]  # rounding may pass 1


class Calibration(Settings):
    """Quantiles of the cosine between a point and the class it was given.

    No labels enter: they say what is usual for a class, not what is right.

    Attributes:
        shares: ascending, the shares of points that the quantiles are for.
        overall: cosines by share, over all points.
        classes: class name -> cosines by share over the points that were given this class; only
            classes that enough points were given.
        num_points: how many points were measured.
    """

    shares: tuple[Share, ...] = Field(min_length=2)
    overall: tuple[Cosine, ...]
    classes: dict[str, tuple[Cosine, ...]]
    num_points: int = Field(gt=0)

    @model_validator(mode='after')
    def _one_cosine_for_each_share(self) -> Calibration:
        if any(a >= b for a, b in zip(self.shares, self.shares[1:])):
            raise ValueError('shares must ascend')
        for name, cosines in {'overall': self.overall, **self.classes}.items():
            if len(cosines) != len(self.shares):
                raise ValueError(f'{name} needs {len(self.shares)} cosines, got {len(cosines)}')
        return self


def never_unknown(vocabulary: Vocabulary) -> NDArray[np.float32]:
    """Thresholds (K,) that no cosine lies below."""
    return np.full(len(vocabulary.classes), -np.inf, np.float32)


def unknown_thresholds(
    vocabulary: Vocabulary, known: Vocabulary, calibration: Calibration, share: float
) -> NDArray[np.float32]:
    """Cosines below which points of a class are called unknown.

    A class that was calibrated with the same prompts has its own quantile; any other one has the
    quantile of all points, for want of anything better.

    Args:
        vocabulary: the classes, K of them.
        known: those of the calibration.
        calibration: measured with `known`.
        share: of the points of the training sweeps that would be unknown, per class.

    Returns:
        (K,) float32.

    Raises:
        InputError: the calibration does not reach as far as `share`.
    """
    lowest, highest = calibration.shares[0], calibration.shares[-1]
    if not lowest <= share <= highest:
        raise InputError(
            'the share of unknown points is out of range',
            expected=f'0 for none, or {lowest} to {highest}',
            got=share,
        )
    same = same_prompts(vocabulary, known)
    curves = [
        calibration.classes.get(name, calibration.overall) if name in same else calibration.overall
        for name in vocabulary.class_names
    ]
    return np.array([np.interp(share, calibration.shares, curve) for curve in curves], np.float32)


def same_prompts(vocabulary: Vocabulary, known: Vocabulary) -> set[str]:
    """Names of the classes that mean the same in both."""
    if vocabulary.templates != known.templates:
        return set()
    prompts = {entry.name: set(entry.prompts or (entry.name,)) for entry in known.classes}
    return {
        entry.name
        for entry in vocabulary.classes
        if prompts.get(entry.name) == set(entry.prompts or (entry.name,))
    }
