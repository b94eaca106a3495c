# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""For all tests: those without the mark `gpu` run on the CPU, whatever the machine has."""

from __future__ import annotations

import os


def pytest_configure(config):
    if 'gpu' not in config.option.markexpr.replace('not gpu', ''):
        os.environ['CUDA_VISIBLE_DEVICES'] = ''  # before anything asks for a device
