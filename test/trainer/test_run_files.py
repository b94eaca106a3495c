# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The run files that come with the project."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from reldistill_ros.core.settings import load_settings, parse_settings
from trainer.settings import RunSettings

FILES = sorted((Path(__file__).parents[2] / 'config' / 'runs').glob('*.yaml'))


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_every_run_file_is_valid_and_stays_so_when_it_is_written_down(path):
    settings = load_settings(path, RunSettings)
    text = yaml.safe_dump(settings.model_dump(mode='json'))
    assert parse_settings(yaml.safe_load(text), RunSettings, path) == settings


def test_a_whole_number_is_a_learning_rate():
    values = yaml.safe_load(FILES[0].read_text())
    values['optimiser']['lr'] = 1
    assert parse_settings(values, RunSettings, 'here').optimiser.lr == 1.0
