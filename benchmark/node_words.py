# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What a change of the words costs while clouds flow."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParametersAtomically
from std_msgs.msg import String

from benchmark.node_run import DrivenNode
from reldistill_ros.core.errors import InputError
from reldistill_ros.node.label_info import HISTORY
from reldistill_ros.node.stamps import NANO, stamp_ns_of
from reldistill_ros.replay.account import account_for
from reldistill_ros.replay.bag import Sweeps
from reldistill_ros.replay.player import NODE
from reldistill_ros.replay.recording import Recording

PERIOD = 0.7  # seconds between two changes
NUM_CLASSES = 8
ADJECTIVES = ('red', 'old', 'tall', 'parked', 'wet', 'broken', 'distant', 'striped', 'wooden')
NOUNS = (
    *('car', 'truck', 'bicycle', 'pedestrian', 'tree', 'hedge', 'fence', 'wall', 'kerb', 'pole'),
    *('traffic sign', 'bench', 'dog', 'bus', 'trailer', 'pavement', 'meadow', 'gate', 'bridge'),
    *('container', 'ladder', 'wheelchair', 'shopping cart', 'fire hydrant', 'post box', 'tent'),
    *('statue', 'fountain', 'ramp', 'staircase', 'awning', 'phone box', 'skip', 'crane', 'boat'),
    *('horse', 'scooter', 'pram', 'suitcase', 'umbrella', 'barrel', 'crate', 'pallet', 'tyre'),
    *('hay bale',),
)


@dataclass(frozen=True)
class Change:
    """One change of the words, with times of `time.perf_counter`."""

    revision: str
    asked: float
    in_force: float


class WordChanger:
    """A client beside the player, in its ROS context.

    Attributes:
        infos: what `~/label_info` said, in order.
        revisions: which words the node says it labelled each sweep with, by stamp.
    """

    def __init__(self) -> None:
        self.infos: list[dict[str, Any]] = []
        self.revisions: dict[int, str] = {}
        self._node = rclpy.create_node('words')
        self._client: Any = self._node.create_client(
            SetParametersAtomically, f'{NODE}/set_prompts'
        )
        self._node.create_subscription(String, f'{NODE}/label_info', self._on_info, HISTORY)
        self._node.create_subscription(DiagnosticArray, f'{NODE}/debug/sweeps', self._on_fate, 50)

    def change(self, prompts: list[str]) -> Change:
        """Ask for words, and wait until they are in force."""
        value = ParameterValue(
            type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=prompts
        )
        request = SetParametersAtomically.Request()
        request.parameters = [Parameter(name='prompts', value=value)]
        self._client.wait_for_service()
        asked = time.perf_counter()
        future: Any = self._client.call_async(request)
        rclpy.spin_until_future_complete(self._node, future)
        result = future.result().result
        if not result.successful:
            raise InputError('the node refuses the words', where=prompts, got=result.reason)
        return Change(result.reason, asked, time.perf_counter())

    def listen(self, seconds: float) -> None:
        """Take messages for so long."""
        until = time.perf_counter() + seconds
        while (left := until - time.perf_counter()) > 0:
            rclpy.spin_once(self._node, timeout_sec=left)

    def _on_info(self, text: String) -> None:
        self.infos.append(json.loads(text.data))

    def _on_fate(self, array: DiagnosticArray) -> None:
        values = {value.key: value.value for value in array.status[0].values}
        if 'revision' in values:
            self.revisions[stamp_ns_of(array)] = values['revision']


def measure_words(sweeps: Sweeps, bundle: Path, folder: Path, num_changes: int) -> dict[str, Any]:
    """Change the words again and again, each time to ones that were never encoded before.

    Returns:
        `sweeps_lost` were not labelled, for any reason; `changes_without_cloud` are followed by
        none with the new words; `wrongly_paired` are clouds that the label info announces with
        other words than they were labelled with, or with none; `first_cloud_s` is the longest
        time from asking to receiving the first cloud with the new words.
    """
    texts = (f'{adjective} {noun}' for adjective, noun in itertools.product(ADJECTIVES, NOUNS))
    changes = []
    node = DrivenNode(sweeps, bundle, folder)
    with node.driving(num_changes * PERIOD / 60 + 0.3) as player:
        changer = WordChanger()
        changer.listen(2.0)
        for _ in range(num_changes):
            changes.append(changer.change(list(itertools.islice(texts, NUM_CLASSES))))
            changer.listen(PERIOD)
        changer.listen(8.0)
        node.wait_for_counts(player)
    recording = player.recording
    found = [until_first_cloud(change, changer.revisions, recording) for change in changes]
    waits = sorted(seconds for seconds in found if seconds is not None)
    encoding = sorted(change.in_force - change.asked for change in changes)
    account = account_for(len(recording.sent), len(recording.answers), recording.node_values)
    return {
        'changes': len(changes),
        'classes_each': NUM_CLASSES,
        'sweeps': len(recording.sent),
        'sweeps_lost': len(recording.sent) - len(recording.answers),
        'reasons': {name: number for name, number in account.drops.items() if number},
        'unaccounted_sweeps': account.unaccounted,
        'changes_without_cloud': found.count(None),
        'wrongly_paired': wrongly_paired(changer.infos, changer.revisions),
        'in_force_s': {'p50': _round(encoding[len(encoding) // 2]), 'max': _round(encoding[-1])},
        'first_cloud_p50_s': _round(waits[len(waits) // 2]) if waits else None,
        'first_cloud_s': _round(waits[-1]) if waits else None,
    }


def until_first_cloud(
    change: Change, revisions: Mapping[int, str], recording: Recording
) -> float | None:
    """Seconds from asking to the first labels with the words, None where there are none.

    Args:
        change: of the words.
        revisions: see `WordChanger`.
        recording: of the drive.
    """
    received = [
        recording.sent[stamp].seconds + recording.answers[stamp].seconds
        for stamp, revision in revisions.items()
        if revision == change.revision and stamp in recording.answers
    ]
    return min(received) - change.asked if received else None


def wrongly_paired(infos: Sequence[Mapping[str, Any]], revisions: Mapping[int, str]) -> int:
    """Clouds of which the newest label info that is not after them names other words, or none is.

    Args:
        infos: see `WordChanger`.
        revisions: see there too.
    """
    starts = [info['since']['sec'] * NANO + info['since']['nanosec'] for info in infos]
    announced = list(zip(starts, (info['revision'] for info in infos)))
    return sum(
        [revision] != [said for since, said in announced if since <= stamp][-1:]
        for stamp, revision in revisions.items()
    )


def _round(seconds: float) -> float:
    return round(seconds, 3)
