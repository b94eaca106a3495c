# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the clouds of a bag are like: their layout, sizes and intensities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.bags.bag import Bag
from reldistill_ros.point_cloud import (
    FIELD_TYPES,
    INTENSITY_NAMES,
    read_fields,
    read_points,
    read_times,
)

CLOUDS_TO_READ = 5
# Largest intensities of the usual drivers; what lies above none of them is taken as it is.
USUAL_MAXIMA = (1.0, 100.0, 255.0, 4095.0, 65535.0)
MOST_OUTLIERS = 1e-4  # share of points that may be brighter than the suggested maximum


@dataclass(frozen=True)
class IntensityFacts:
    """The raw intensities of a lidar.

    Attributes:
        field: its name.
        type: numpy's name of its type.
        median: over the points of all clouds that were read.
        percentile_99: likewise.
        largest: likewise.
        suggested_max: for `intensity_max` of the settings.
    """

    field: str
    type: str
    median: float
    percentile_99: float
    largest: float
    suggested_max: float


@dataclass(frozen=True)
class CloudFacts:
    """The clouds of a topic.

    Attributes:
        topic: its name.
        fields: name, type and place of each field of the first cloud.
        point_step: bytes of a point.
        num_points: mean over the clouds that were read.
        share_usable: share of the points whose coordinates are finite.
        farthest: distance in metres that 99.9 % of the points are within.
        sweep_time: seconds from the first to the last point of a cloud, 0 where there are no
            times.
        intensity: None where there is none.
    """

    topic: str
    fields: tuple[str, ...]
    point_step: int
    num_points: int
    share_usable: float
    farthest: float
    sweep_time: float
    intensity: IntensityFacts | None


def measure_clouds(bag: Bag, topic: str) -> CloudFacts | None:
    """Read a few clouds all over a drive; None where there is none.

    Raises:
        InputError: a cloud is malformed.
    """
    entries = bag.index(topic)
    if not entries:
        return None
    chosen = np.unique(np.linspace(0, len(entries) - 1, CLOUDS_TO_READ).astype(int))
    messages = [bag.read(entries[number]) for number in chosen]
    points = np.concatenate([read_points(message, 1.0) for message in messages])
    usable = np.isfinite(points[:, :3]).all(axis=1)
    ranges = np.linalg.norm(points[usable, :3].astype(np.float64), axis=1)
    return CloudFacts(
        topic=topic,
        fields=tuple(_describe_field(field) for field in messages[0].fields),
        point_step=int(messages[0].point_step),
        num_points=round(len(points) / len(messages)),
        share_usable=round(float(usable.mean()), 4) if len(points) else 0.0,
        farthest=round(float(np.quantile(ranges, 0.999)), 1) if len(ranges) else 0.0,
        sweep_time=round(max(_sweep_time(message) for message in messages), 4),
        intensity=_measure_intensity(messages),
    )


def suggest_maximum(values: NDArray[Any], kind: np.dtype[Any]) -> float:
    """The smallest usual maximum that hardly any intensity (N,) lies above."""
    if kind == np.uint8:
        return 255.0
    for maximum in USUAL_MAXIMA:
        if (values > maximum).mean() <= MOST_OUTLIERS:
            return maximum
    return float(values.max())


def _measure_intensity(messages: Sequence[Any]) -> IntensityFacts | None:
    present = {field.name for field in messages[0].fields}
    name = next((name for name in INTENSITY_NAMES if name in present), None)
    if name is None:
        return None
    raw = [read_fields(message, [name])[name] for message in messages]
    kind = raw[0].dtype
    values = np.concatenate(raw).astype(np.float64)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return None
    median, high = np.quantile(values, [0.5, 0.99])
    return IntensityFacts(
        field=name,
        type=str(kind),
        median=float(f'{median:.4g}'),
        percentile_99=float(f'{high:.4g}'),
        largest=float(f'{values.max():.4g}'),
        suggested_max=suggest_maximum(values, kind),
    )


def _sweep_time(message: Any) -> float:
    times = read_times(message)
    return float(np.ptp(times)) if len(times) else 0.0


def _describe_field(field: Any) -> str:
    kind = FIELD_TYPES.get(field.datatype, f'type {field.datatype}')
    return f'{field.name} {kind} at {field.offset}'
