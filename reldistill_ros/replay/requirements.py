# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Thresholds that a replay has to meet: `latency_ms.p95<=50`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.unknown_keys import closest, did_you_mean

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    '<=': operator.le,
    '>=': operator.ge,
    '==': operator.eq,
    '!=': operator.ne,
    '<': operator.lt,
    '>': operator.gt,
}
PATTERN = re.compile(r'\s*([^<>=!]+?)\s*(<=|>=|==|!=|<|>)\s*([^<>=!]+?)\s*')


@dataclass(frozen=True)
class Requirement:
    """A number of the summary, by its dotted key, and what it must be."""

    text: str
    key: str
    comparison: str
    limit: float

    def is_met(self, value: float | None) -> bool:
        """Whether a value is as required; one that is not known is not."""
        return value is not None and OPERATORS[self.comparison](value, self.limit)


@dataclass(frozen=True)
class Finding:
    """What came of a requirement; the value is None where it is not known."""

    requirement: str
    value: float | None
    passed: bool


def parse_requirement(text: str) -> Requirement:
    """Read `KEY OPERATOR NUMBER`.

    Raises:
        InputError: it is something else.
    """
    found = PATTERN.fullmatch(text)
    number = _number(found[3]) if found else None
    if found is None or number is None:
        raise InputError(
            'a requirement cannot be read',
            where=f'--require {text!r}',
            expected=f'a key of replay.json, one of {" ".join(OPERATORS)}, and a number',
            fix="write it like 'latency_ms.p95<=50' or 'miou >= 0.6'",
        )
    return Requirement(text.strip(), found[1], found[2], number)


def check(requirements: Sequence[Requirement], summary: Mapping[str, Any]) -> list[Finding]:
    """Compare a summary with what is required of it.

    Raises:
        InputError: it has no such number; names those that are spelt alike.
    """
    values = flatten(summary)
    check_keys(requirements, values)
    return [
        Finding(entry.text, values[entry.key], entry.is_met(values[entry.key]))
        for entry in requirements
    ]


def check_keys(requirements: Sequence[Requirement], known: Iterable[str]) -> None:
    """Refuse keys that a summary does not have.

    Raises:
        InputError: there is one; names those that are spelt alike.
    """
    keys = sorted(known)
    guesses = {e.text: closest(e.key, keys) for e in requirements if e.key not in keys}
    if guesses:
        told = [f'--require {text!r}{did_you_mean(guess)}' for text, guess in guesses.items()]
        raise InputError(
            'the summary has no such number: ' + '\n  and '.join(told),
            expected=None if all(guesses.values()) else 'one of ' + ', '.join(keys),
        )


def flatten(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """Every number of a summary, and what may be one but is not known, by its dotted key."""
    return dict(_leaves(summary, ''))


def table(findings: Sequence[Finding]) -> str:
    """The findings for people, those that failed first."""
    ordered = sorted(findings, key=lambda finding: finding.passed)
    width = max((len(finding.requirement) for finding in ordered), default=0)
    return '\n'.join(
        f'{"passed" if finding.passed else "FAILED"}  {finding.requirement:<{width}}  '
        f'{"not known" if finding.value is None else format(finding.value, "g")}'
        for finding in ordered
    )


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float | None]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f'{prefix}{key}.')
        elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            yield f'{prefix}{key}', value


def _number(text: str) -> float | None:
    """A finite decimal number, else None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and '_' not in text else None
