# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Recorded drives: MCAP, sqlite3, ROS 1 and Foxglove files behind one `Bag`."""
