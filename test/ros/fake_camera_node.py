# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""segment_node with an image encoder that never comes back, after its warm-up."""

from __future__ import annotations

import time

from fake_node import FakeSource, HeightLabeller

from reldistill_ros.core.errors import run_command


class EndlessEncoder:
    calls = 0

    def encode(self, image):
        self.calls += 1
        if self.calls > 1:
            print('encoding', flush=True)
            time.sleep(600)


if __name__ == '__main__':
    from reldistill_ros.segment_node import main

    run_command(lambda: main(lambda settings: FakeSource(HeightLabeller(), None, EndlessEncoder)))
