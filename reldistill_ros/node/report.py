# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the node says of itself on /diagnostics: its state, its engine, its words, its counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reldistill_ros.node.diagnostics import Finding, InputState, Statistics
from reldistill_ros.node.diagnostics_publisher import Report
from reldistill_ros.node.engine import Engine
from reldistill_ros.node.model import Labeller


@dataclass(frozen=True)
class NodeState:
    """What a report is made from.

    Attributes:
        lifecycle: unconfigured, inactive, active, ...
        problem: why the last transition failed, empty where it did not.
        engine: of the model, None while there is none.
        source: of the input, None while the node does not listen.
        is_encoding: whether other words are on their way.
        values: what else to show.
        findings: what else is worth telling.
    """

    lifecycle: str
    problem: str
    engine: Engine | None
    source: InputState | None
    is_encoding: bool
    values: dict[str, str]
    findings: Sequence[Finding] = ()


def report_of(state: NodeState, statistics: Statistics) -> Report:
    """The status of the node since the last call."""
    findings = [
        *_findings_of_engine(state),
        *statistics.findings(state.source),
        *state.findings,
    ]
    otherwise = 'labelling or waiting' if state.source else state.lifecycle
    labeller = state.engine.labeller if state.engine else None
    values = {
        **statistics.values(),
        **state.values,
        'state': state.lifecycle,
        'engine': state.engine.name if state.engine else '',
        'failures_in_a_row': str(state.engine.failures) if state.engine else '',
        'words_are_being_encoded': str(state.is_encoding),
        'input_topic': state.source.topic if state.source else '',
        **_values_of_words(labeller),
    }
    return Report(findings, otherwise, values)


def _findings_of_engine(state: NodeState) -> list[Finding]:
    if state.problem:
        return [(2, f'{state.lifecycle}: {state.problem}')]
    if state.engine is None:
        return [(1, f'{state.lifecycle}: configure the node')]
    if not state.engine.name:
        return [(2, f'no engine is open, it is being tried again: {state.engine.problem}')]
    if state.engine.problem:
        return [(1, f'degraded to engine {state.engine.name}: {state.engine.problem}')]
    return []


def _values_of_words(labeller: Labeller | None) -> dict[str, str]:
    if labeller is None:
        return {}
    words = labeller.words
    return {
        'words_revision': words.revision,
        'num_classes': str(len(words.vocabulary.class_names)),
    }
