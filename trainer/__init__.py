# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Offline trainer; run from the checkout (`python -m trainer.distill`), never installed."""
