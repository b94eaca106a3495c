# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A town made up from a seed: street, lidar, cameras and a simulated 2D network, as a ROS 2 bag.

Reading order: `world.py` (what there is), `render.py` (one moment of the drive), `lidar.py` and
`camera.py` (what the sensors see), `damage.py` (the 2D network), `record.py`.
"""
