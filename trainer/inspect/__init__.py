# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What a recorded drive holds and how to train on it: `python -m trainer.inspect BAG`."""
