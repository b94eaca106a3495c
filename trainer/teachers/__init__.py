# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Frozen 2D networks: dense unit features for the pixels of an image."""
