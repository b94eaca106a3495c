# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""How long a node that was killed takes until it labels again."""

from __future__ import annotations

import time
from pathlib import Path

from benchmark.node_run import DrivenNode
from reldistill_ros.replay.bag import Sweeps
from reldistill_ros.replay.recording import Recording

BEFORE = 5.0  # seconds that the first node labels
MINUTES = 0.75  # of driving in all
LONGEST = 30.0  # seconds that the second node may take


def measure_restart(sweeps: Sweeps, bundle: Path, folder: Path) -> dict[str, float]:
    """Kill the node with SIGKILL while clouds flow, and start it again at once, as respawn does.

    Returns:
        `first_labels_s` from the kill to the first labels of a sweep that was sent after the new
        process was started; `sweeps_lost` are those that were never labelled.
    """
    node = DrivenNode(sweeps, bundle, folder)
    with node.driving(MINUTES) as player:
        time.sleep(BEFORE)
        node.process.kill()
        node.process.wait()
        killed = time.perf_counter()
        node.start()
        started = time.perf_counter()
        while not is_answered_since(player.recording, started):
            if time.perf_counter() - killed > LONGEST:
                raise TimeoutError(f'the node does not label {LONGEST:g} s after it was killed')
            time.sleep(0.005)
        seconds = time.perf_counter() - killed
    recording = player.recording
    lost = len(recording.sent) - len(recording.answers)
    return {'first_labels_s': round(seconds, 3), 'sweeps_lost': lost}


def is_answered_since(recording: Recording, seconds: float) -> bool:
    """Whether a sweep sent after a time of `time.perf_counter` was labelled.

    Labels of earlier ones may still come in when the node that made them is gone.
    """
    return any(recording.sent[stamp].seconds > seconds for stamp in [*recording.answers])
