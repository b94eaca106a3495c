# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A short fuzz of the node's boundary; RELDISTILL_FUZZ_CASES makes it a long one."""

from __future__ import annotations

import json
import os

import pytest

from benchmark import fuzz

CASES = int(os.environ.get('RELDISTILL_FUZZ_CASES', '400'))


@pytest.mark.parametrize('target', [*fuzz.TARGETS])
def test_random_input_is_taken_or_refused_but_nothing_dies(target):
    outcome = fuzz.run_batch(target, CASES, number=1)
    assert outcome.examples == {}
    assert (outcome.deaths, outcome.cases) == (0, CASES)
    assert 0 < outcome.refused < outcome.cases  # some of each, or nothing was tried


def test_a_death_is_noticed(monkeypatch):
    monkeypatch.setitem(fuzz.TARGETS, 'cloud', (lambda cloud: 1 / 0, fuzz.CLOUDS))
    outcome = fuzz.run_batch('cloud', 20, number=1)
    assert (outcome.deaths, list(outcome.examples)) == (
        20,
        ['ZeroDivisionError: division by zero'],
    )


def test_the_result_is_written(tmp_path, capsys):
    fuzz.main(['--cases', '20', '--out', str(tmp_path / 'fuzz.json')])
    result = json.loads((tmp_path / 'fuzz.json').read_text())
    assert (result['cases'], result['deaths'], result['examples']) == (21, 0, {})
    assert json.loads(capsys.readouterr().out.splitlines()[-1])['cases'] == 21
