# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the processes that read samples owe to the one that uses them."""

from __future__ import annotations

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1  # see prctl(2)


def follow_the_main_process(_: int) -> None:
    """Leave signals to the main process, and end with it: a `worker_init_fn` of a DataLoader.

    Ctrl-C reaches the whole process group; the main process still needs what is read then. A
    worker that outlived a killed one would hold its connections open: the others would wait for it.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
