# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Offline trainer; run from the checkout (`python -m trainer.distill`), never installed."""

import os

# torch's threads spin for milliseconds after each operation, on the cores that the threads of the
# fused engine then wait for; a short spin makes a training step almost twice as fast. OpenMP reads
# this once, so it stands before the first import of torch.
os.environ.setdefault('GOMP_SPINCOUNT', '1000')
