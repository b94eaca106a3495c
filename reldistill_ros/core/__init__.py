# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Voxels, kernel maps, student, prompts and bundle: no ROS, and torch only in `student`."""
