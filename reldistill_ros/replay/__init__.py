# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Plays a recorded drive into the node and measures what it answers."""
