# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What became of every sweep that was sent, by the counters that the node publishes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LOST_TO_NODE, LOST_FROM_NODE = 'lost_to_node', 'lost_from_node'
FATES = ('rejected', 'failed', 'not_requested')  # counters of their own
DROPPED = 'dropped_'  # what the names of the others begin with
UNKNOWN = 'unknown'


@dataclass(frozen=True)
class Account:
    """Sweeps that were not labelled.

    Attributes:
        drops: number of sweeps for each reason: those of the node, and `lost_to_node` and
            `lost_from_node` of the transport.
        unaccounted: sweeps of which neither labels nor a reason are known.
    """

    drops: dict[str, int]
    unaccounted: int

    def reason_of(self, fate: str | None) -> str:
        """Why a sweep has no labels.

        Args:
            fate: what the node says of this very sweep; None where it said nothing.
        """
        if fate is None:
            silent = [name for name in (LOST_TO_NODE, 'not_requested') if self.drops.get(name)]
            return ' or '.join(silent) or UNKNOWN
        kind, _, reason = fate.partition(': ')
        return {'labelled': LOST_FROM_NODE, 'dropped': reason}.get(kind, kind)


def account_for(sent: int, answered: int, counters: Mapping[str, str]) -> Account:
    """Account for every sweep.

    Args:
        sent: number of sweeps that were sent.
        answered: number of sweeps whose labels came back.
        counters: the values that the node gave on /diagnostics, empty where it gave none.
    """
    if 'received' not in counters:
        return Account({}, sent - answered)
    drops = {
        name.removeprefix(DROPPED): int(value)
        for name, value in counters.items()
        if name in FATES or name.startswith(DROPPED)
    }
    drops[LOST_TO_NODE] = max(sent - int(counters['received']), 0)
    drops[LOST_FROM_NODE] = max(int(counters['labelled']) - answered, 0)
    return Account(drops, abs(sent - answered - sum(drops.values())))
