# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""One record for each sweep of a replay: `sweeps.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from reldistill_ros.core.files import replacing
from reldistill_ros.core.metrics import accuracy, finite_or_none, mean_iou
from reldistill_ros.replay.account import Account
from reldistill_ros.replay.bag import Sweeps
from reldistill_ros.replay.offline import Offline
from reldistill_ros.replay.recording import Recording
from reldistill_ros.replay.scores import Scores, SweepScore

TRANSPORT = 'transport'
NOT_WRITTEN = ('score', 'labels')


@dataclass(frozen=True)
class SweepResult:
    """What became of one sweep.

    Attributes:
        number: how many were sent before.
        source: position of the bag's sweep.
        loop: how often the whole bag was sent before.
        stamp_ns: its stamp, in nanoseconds.
        sent_s: seconds from the first sweep's sending to its own.
        points: number of its points.
        dropped: why it has no labels, None where it has.
        latency_ms: from sending to receiving, or of decoding and labelling without ROS.
        age_sweeps: how many sweeps had been sent after it when its labels came.
        stages_ms: parts of the latency.
        mean_probability: over the points that have a class.
        accuracy: share of the points with a known truth that got their class.
        miou: mean IoU over the classes that are in the sweep.
        labels_equal: share of the points that have the same class without ROS.
        score: what accuracy and miou come from.
        labels: number of its labels in the store of the labels.
    """

    number: int
    source: int
    loop: int
    stamp_ns: int
    sent_s: float
    points: int | None = None
    dropped: str | None = None
    latency_ms: float | None = None
    age_sweeps: int | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    mean_probability: float | None = None
    accuracy: float | None = None
    miou: float | None = None
    labels_equal: float | None = None
    score: SweepScore | None = field(default=None, repr=False)
    labels: int | None = field(default=None, repr=False)

    def as_json(self) -> dict[str, Any]:
        """What `sweeps.jsonl` holds of it."""
        names = (entry.name for entry in fields(self) if entry.name not in NOT_WRITTEN)
        return {name: getattr(self, name) for name in names}


def results_offline(sweeps: Sweeps, offline: Offline, scores: Scores) -> list[SweepResult]:
    """A record for each sweep that was labelled without ROS."""
    results, clock = [], 0.0
    for number, (source, answer) in enumerate(offline.answers.items()):
        seconds = sum(answer.stages.values())
        result = SweepResult(
            number=number,
            source=source,
            loop=0,
            stamp_ns=sweeps.entries[source].stamp_ns,
            sent_s=round(clock, 6),
            latency_ms=_milliseconds(seconds),
            stages_ms={name: _milliseconds(value) for name, value in answer.stages.items()},
            mean_probability=answer.mean_probability,
            labels=answer.labels,
            **_scored(scores.offline[source]),
        )
        results.append(replace(result, labels_equal=None))  # with what they are themselves
        clock += seconds
    return results


def results_live(recording: Recording, scores: Scores, account: Account) -> list[SweepResult]:
    """A record for each sweep that was sent.

    Args:
        recording: what was sent and what came back.
        scores: of the node's labels.
        account: of the sweeps without labels.
    """
    start = min((sent.seconds for sent in recording.sent.values()), default=0.0)
    return [
        _result_live(recording, stamp_ns, scores, account=account, start=start)
        for stamp_ns in recording.sent
    ]


def write_lines(path: Path, results: Iterable[SweepResult]) -> None:
    """Write one JSON object a line, whole or not at all."""
    with replacing(path) as partial, partial.open('w', encoding='utf-8') as file:
        for result in results:
            file.write(json.dumps(result.as_json(), allow_nan=False) + '\n')


def _result_live(
    recording: Recording, stamp_ns: int, scores: Scores, *, account: Account, start: float
) -> SweepResult:
    sent, answer = recording.sent[stamp_ns], recording.answers.get(stamp_ns)
    fate = recording.fates.get(stamp_ns)
    result = SweepResult(
        number=sent.sweep.number,
        source=sent.sweep.source,
        loop=sent.sweep.loop,
        stamp_ns=stamp_ns,
        sent_s=round(sent.seconds - start, 6),
    )
    if answer is None:
        return replace(result, dropped=account.reason_of(fate and fate.text))
    return replace(
        result,
        latency_ms=_milliseconds(answer.seconds),
        age_sweeps=answer.age,
        stages_ms=_with_transport(fate.stages if fate else {}, answer.seconds),
        mean_probability=answer.mean_probability,
        labels=answer.labels,
        **_scored(scores.node[sent.sweep.source, answer.labels]),
    )


def _scored(score: SweepScore) -> dict[str, Any]:
    """The fields of a result that come from a score."""
    confusion = score.confusion
    return {
        'points': score.num_points,
        'labels_equal': score.equal_points / score.num_points if score.num_points else 1.0,
        'accuracy': None if confusion is None else finite_or_none(accuracy(confusion)),
        'miou': None if confusion is None else finite_or_none(mean_iou(confusion)),
        'score': score,
    }


def _with_transport(stages: Mapping[str, float], latency: float) -> dict[str, float]:
    """The node's stages in milliseconds, and what of the latency lies outside the node."""
    if not stages:
        return {}
    outside = max(latency - sum(stages.values()), 0.0)
    return {name: _milliseconds(value) for name, value in (*stages.items(), (TRANSPORT, outside))}


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)
