# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A ROS domain for this process alone, also where many processes look for one at once."""

from __future__ import annotations

import fcntl
import functools
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import IO

from reldistill_ros.core.errors import InputError

# up to 101 the ports lie below Linux's ephemeral ones
DOMAINS = range(1, 102)


def own_domain() -> int:
    """The domain of this process, the same at each call; a forked process gets another.

    Raises:
        InputError: all are taken.
    """
    return _take_domain(os.getpid())[0]


@functools.cache
def _take_domain(_process: int) -> tuple[int, IO[str]]:
    """A domain in which nobody listens, and its lock, which ends with the process."""
    for domain in random.SystemRandom().sample(DOMAINS, len(DOMAINS)):
        lock = _lock(domain)
        if lock is not None and _is_silent(domain):
            return domain, lock
    raise InputError(
        'all ROS domains are taken', got=f'{DOMAINS[0]} to {DOMAINS[-1]}', fix='end some nodes'
    )


def _lock(domain: int) -> IO[str] | None:
    """The locked file of a domain, None where another process holds it.

    The ports alone do not tell: between the choice and the start of the node they are free.
    """
    path = Path(tempfile.gettempdir()) / f'reldistill-ros-domain-{os.getuid()}-{domain}.lock'
    file = path.open('w')
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _is_silent(domain: int) -> bool:
    """Whether the port of the domain's discovery can be bound alone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(('', 7400 + 250 * domain))
        except OSError:
            return False
    return True
