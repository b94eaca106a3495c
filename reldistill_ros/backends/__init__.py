# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Engines that run the student on board, each behind one call."""
