# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Readers of drives: each turns one on-disk format into `Sample`s."""
