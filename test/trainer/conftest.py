# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Fixtures of the trainer's tests."""

from __future__ import annotations

import pytest
from tiny_drive import write_drive, write_settings
from tiny_training import StopAfter, train

from trainer.distill import distill
from trainer.run import create_run, load_trained
from trainer.stop import StoppedError, StopRequest


@pytest.fixture
def tiny(tmp_path):
    """A folder with a small drive and a run file for it."""
    write_drive(tmp_path / 'drive')
    write_settings(tmp_path)
    return tmp_path


@pytest.fixture
def half_done(tiny):
    """A run that was stopped after the third of six steps."""
    with pytest.raises(StoppedError):
        train(tiny, 'run', stop=StopAfter(3))
    return tiny


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
    """A student that has learnt the small drive; nothing may write to its folder."""
    folder = tmp_path_factory.mktemp('tiny')
    write_drive(folder / 'drive')
    run = create_run(write_settings(folder, epochs=15), folder / 'run', folder)
    distill(run, False, StopRequest())
    return load_trained(run)
