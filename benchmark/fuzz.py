# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Throw random clouds, images and parameters at the node's boundary; nothing but InputError may come back.

`python -m benchmark.fuzz --cases 100000 --out fuzz.json` runs property-based cases (hypothesis)
in a process of its own, whose memory is limited, so that a crash and an absurd allocation count
as deaths too. It writes the numbers of cases and deaths, and an example of each kind of death.
"""

from __future__ import annotations

import argparse
import array
import json
import resource
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from tqdm import tqdm

from benchmark.fuzz_images import DATA, HEADERS, IMAGES, UINT32, try_image
from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.files import write_json
from reldistill_ros.core.vocabulary import Vocabulary, VocabularyClass
from reldistill_ros.labelled_cloud import (
    encode_compact,
    encode_xyzcpe,
    encode_xyzrgb,
    fill_cloud,
    keep_points,
)
from reldistill_ros.node.model import Dictionary
from reldistill_ros.node.parameters import DYNAMIC, NodeSettings, check_changes
from reldistill_ros.node.stamps import StampChecker, is_too_old, stamp_ns_of
from reldistill_ros.node.sweeps import check_num_points
from reldistill_ros.point_cloud import read_points, read_times

BATCH = 2000  # cases of one run of hypothesis, which grows slower with their number
MEMORY = 8 << 30  # bytes that the process may address
MAX_POINTS = 1_000_000
KNOWN = Vocabulary(
    version=1,
    name='known',
    classes=tuple(VocabularyClass(name=name, color=(1, 2, 3)) for name in ('car', 'road', 'tree')),
)


@dataclass
class Field:
    """A sensor_msgs/PointField."""

    name: str = ''
    offset: int = 0
    datatype: int = 7
    count: int = 1


@dataclass
class Cloud:
    """A sensor_msgs/PointCloud2."""

    header: Any = None
    height: int = 1
    width: int = 0
    fields: list[Field] = field(default_factory=list)
    is_bigendian: bool = False
    point_step: int = 0
    row_step: int = 0
    data: Any = b''
    is_dense: bool = True


NAMES = st.sampled_from(['x', 'y', 'z', 'intensity', 'i', 'reflectivity', 't', 'timestamp', ''])
ODD_FIELDS = st.lists(
    st.builds(
        Field,
        name=NAMES | st.text(max_size=5),
        offset=UINT32,
        datatype=st.integers(1, 8) | st.integers(0, 255),
        count=st.sampled_from([1, 1, 1, 0, 2, 2**32 - 1]),
    ),
    max_size=8,
)
GOOD_FIELDS = st.builds(
    lambda kinds, step: [
        Field(name, step * place, kind) for place, (name, kind) in enumerate(zip('xyzit', kinds))
    ],
    st.tuples(*[st.sampled_from([7, 7, 7, 8])] * 3, st.integers(1, 8), st.integers(1, 8)),
    st.sampled_from([8, 8, 9, 4]),
)
CLOUDS = st.builds(
    Cloud,
    header=HEADERS,
    height=UINT32 | st.integers(0, 3),
    width=UINT32 | st.integers(0, 12),
    fields=ODD_FIELDS | GOOD_FIELDS,
    is_bigendian=st.booleans(),
    point_step=UINT32 | st.sampled_from([40, 45, 48]),
    row_step=UINT32 | st.integers(0, 600),
    data=DATA.map(lambda data: array.array('B', data)),
    is_dense=st.booleans(),
)

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
WORD = ANY_TEXT | st.sampled_from(
    ['car', 'road', 'tree', 'Car ', 'car: vw, bmw', ':', 'a:,', '{}']
)
LONG = st.integers(0, 10_000).map(lambda number: 'x' * number)
WORDS = st.lists(WORD | LONG, max_size=12) | st.integers(0, 400).map(
    lambda number: [f'class {index}' for index in range(number)]
)
VALUES = (
    st.floats()
    | st.none()
    | st.booleans()
    | st.integers()
    | ANY_TEXT
    | st.lists(st.binary(max_size=4) | st.floats() | st.none(), max_size=4)
)
CLASS = st.sampled_from(['car', 'road: street, lane', 'tree']) | st.text(min_size=1, max_size=9)
USUAL: dict[str, st.SearchStrategy[Any]] = {
    'prompts': st.lists(CLASS, max_size=5),
    'prompt_templates': st.lists(st.sampled_from(['{}', 'a {}.', 'the {} 月']), max_size=3),
    'unknown_share': st.floats(0, 0.5),
    'filter_classes': st.lists(st.sampled_from(['car', 'road', 'unlabelled']), max_size=2),
}


def _mostly(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One value of four is anything."""
    return st.integers(0, 3).flatmap(lambda choice: usual if choice else VALUES | WORDS)


CHANGES = st.fixed_dictionaries(
    {}, optional={name: _mostly(USUAL[name]) for name in sorted(DYNAMIC)}
)


def try_cloud(cloud: Cloud) -> None:
    """What the node does with a cloud, without ROS and without a model."""
    stamp = stamp_ns_of(cloud)
    StampChecker([]).check(stamp, 10**18)
    is_too_old(stamp, 10**18, 1.0)
    check_num_points(cloud, MAX_POINTS)
    points = read_points(cloud, 255.0)
    class_ids = (np.arange(len(points)) % 256).astype(np.uint8)
    scores = np.full(len(points), np.nan, np.float32)
    keep_points(Cloud(), cloud, class_ids % 2 == 0)
    for records in (
        encode_xyzcpe(points, class_ids, scores, scores),
        encode_xyzrgb(points, np.zeros((len(points), 3), np.uint8)),
        encode_compact(class_ids, np.nan_to_num(scores)),
    ):
        fill_cloud(Cloud(), records, cloud, Field)
    read_times(cloud)


def try_parameters(changes: dict[str, Any]) -> None:
    """What the node does with new values of its dynamic parameters before it takes them."""
    dictionary = Dictionary(SimpleNamespace(vocabulary=KNOWN), _no_encoder)
    settings_ = check_changes(NodeSettings(bundle='x'), changes)
    vocabulary = dictionary.vocabulary_of(settings_)
    vocabulary.color_table((0, 0, 0))
    json.dumps([vocabulary.class_names, vocabulary.prompts], ensure_ascii=False).encode()


TARGETS: dict[str, tuple[Callable[[Any], None], st.SearchStrategy[Any]]] = {
    'cloud': (try_cloud, CLOUDS),
    'image': (try_image, IMAGES),
    'parameters': (try_parameters, CHANGES),
}


@dataclass
class Outcome:
    """What came of some cases.

    Attributes:
        cases: how many were tried.
        refused: how many of them were refused with an InputError.
        deaths: how many of them raised anything else.
        examples: by kind of death, an input that caused it.
    """

    cases: int = 0
    refused: int = 0
    deaths: int = 0
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, other: Outcome) -> None:
        """Count the cases of another one as well."""
        self.cases += other.cases
        self.refused += other.refused
        self.deaths += other.deaths
        self.examples = other.examples | self.examples


def run_batch(target: str, num_cases: int, number: int) -> Outcome:
    """Try random cases; the same number makes the same cases."""
    outcome = Outcome()
    attempt, strategy = TARGETS[target]

    @seed(number)
    @settings(
        max_examples=num_cases,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(case: Any) -> None:
        outcome.cases += 1
        try:
            attempt(case)
        except InputError:
            outcome.refused += 1
        except Exception as error:  # the very thing that is looked for
            outcome.deaths += 1
            outcome.examples.setdefault(f'{type(error).__name__}: {error}'[:200], f'{case}'[:2000])

    run()
    return outcome


def run_in_process(target: str, num_cases: int, number: int) -> Outcome:
    """`run_batch` in a new process; its end is one death."""
    with ProcessPoolExecutor(1, get_context('spawn'), _limit_memory) as pool:
        try:
            return pool.submit(run_batch, target, num_cases, number).result()
        except BrokenProcessPool:
            return Outcome(0, 0, 1, {'the process died': f'{target}, batch {number}'})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all targets, each with its share of the cases, and write the numbers."""
    options = _parser().parse_args(arguments)
    total = Outcome()
    each = -(-options.cases // len(TARGETS))
    with tqdm(total=each * len(TARGETS), unit='case', disable=None) as bar:
        for target in TARGETS:
            done = 0
            while done < each:
                batch = run_in_process(target, min(BATCH, each - done), options.seed + done)
                # a strategy with fewer different cases than asked for ends early
                done += max(batch.cases, 1)
                bar.update(batch.cases)
                total.add(batch)
    result = vars(total)
    print(json.dumps({name: result[name] for name in ('cases', 'refused', 'deaths')}))
    if options.out:
        write_json(options.out, result)


def _no_encoder() -> Any:
    raise InputError('there is no text encoder')


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m benchmark.fuzz', description=__doc__.split('\n')[0]
    )
    parser.add_argument('--cases', type=int, default=100_000, help='how many (default: 100000)')
    parser.add_argument('--seed', type=int, default=0, help='other cases (default: 0)')
    parser.add_argument('--out', type=Path, help='JSON file for the result')
    return parser


if __name__ == '__main__':
    run_command(main)
