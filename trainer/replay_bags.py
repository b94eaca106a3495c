# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Replay many bags: `python -m trainer.replay_bags PLAN.yaml --out DIR`.

A plan names a bundle, bags and what is required of them, with paths from `--data`:

    bundle: runs/town_bundle
    options: {rate: 1.0}
    require: ['latency_ms.p95<=100', 'unaccounted_sweeps==0']
    bags:
      town: {path: town/bag}
      kitti: {path: kitti/bag, options: {offline: true, intensity_max: 1.0}}

Each bag is one job, `python -m reldistill_ros.replay`, with a folder below `DIR/jobs/`.
Start the same command again to continue: finished bags are kept, and what was made with other
settings, another bundle or another bag is moved to `DIR/outdated/` and made anew. `DIR/table.md`,
`DIR/results.json` and `DIR/index.html` hold the result. The requirements of the plan are compared
anew at each start, so that they may change without a bag being played again.

Latencies mean something only where nothing else runs: play live with one worker for each machine.
On a Ray cluster (`--ray`) every node needs the checkout, `DIR` and the data under the same paths.
Exit code: 0, or 1 where a bag failed or does not meet a requirement.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from reldistill_ros.backends.backend import BackendName, Precision
from reldistill_ros.core.bundle import MANIFEST, sha256_of
from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.settings import Settings, load_settings
from reldistill_ros.replay.requirements import parse_requirement
from trainer.compare.compare import conclude
from trainer.compare.expansion import choose
from trainer.compare.plan import Job, Name
from trainer.compare.pools import local_pool, ray_pool, run_jobs
from trainer.replay_bags_report import write_report
from trainer.stop import stop_on_signal

MODULE = 'reldistill_ros.replay'
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class ReplayOptions(Settings):
    """What is said on the command line of the replay, see `python -m reldistill_ros.replay -h`."""

    offline: bool = False
    rate: Positive | Literal['auto'] = 1.0
    loop: Count | None = None
    minutes: Positive | None = None
    topic: str | None = None
    label_topic: str | None = None
    cameras: str | None = None
    no_labels: bool = False
    max_sweeps: Count | None = None
    backend: BackendName | Literal['auto'] = 'fused'
    precision: Precision = 'float32'
    num_threads: Count = 2
    intensity_max: Annotated[float, Field(ge=0)] = 0.0


class BagEntry(Settings):
    """A bag.

    Attributes:
        path: from the data root.
        options: where they differ from those of all bags.
    """

    path: Path
    options: ReplayOptions = ReplayOptions()


class ReplayPlan(Settings):
    """Which bags to replay, and how.

    Attributes:
        bundle: folder of the model bundle, from the data root.
        options: of all bags.
        require: what each bag has to meet, such as `latency_ms.p95<=50`.
        bags: by name, which is also that of the bag's folder and of its row.
    """

    bundle: Path
    options: ReplayOptions = ReplayOptions()
    require: tuple[str, ...] = ()
    bags: dict[Name, BagEntry] = Field(min_length=1)


def replay_bags(arguments: argparse.Namespace, module: str = MODULE) -> int:
    """Replay what is left of a plan and write the report; returns the exit code.

    Raises:
        InputError: the plan is not valid, or a bag or the bundle is missing.
    """
    plan, out = load_settings(arguments.plan, ReplayPlan), arguments.out.resolve()
    requirements = [parse_requirement(text) for text in plan.require]
    if arguments.workers < 1:
        raise InputError('nothing can run', where='--workers', got=arguments.workers)
    jobs = expand(plan, arguments.data.resolve(), out, module)
    chosen = choose(jobs, arguments.only)
    out.mkdir(parents=True, exist_ok=True)
    pool_of = ray_pool(arguments.ray) if arguments.ray else local_pool(arguments.workers)
    with pool_of as pool, stop_on_signal() as stop:
        outcomes = run_jobs(chosen, pool, stop)
    passed = True
    if not stop.requested:
        command = f'python -m trainer.replay_bags {shlex.join(sys.argv[1:])}'
        passed = write_report(out, jobs, outcomes, requirements=requirements, command=command)
    return conclude(outcomes, stop, out) or int(not passed)


def expand(plan: ReplayPlan, data: Path, out: Path, module: str = MODULE) -> dict[str, Job]:
    """One job for each bag, by the bag's name.

    Args:
        plan: the plan.
        data: folder that its paths start from.
        out: folder of the report.
        module: that replays a bag.

    Raises:
        InputError: a bag or the bundle is missing.
    """
    manifest = data / plan.bundle / MANIFEST
    if not manifest.is_file():
        raise InputError(
            'the bundle is missing', where=manifest, fix='correct `bundle` in the plan, or --data'
        )
    return {
        name: _job(
            out / 'jobs' / name, plan, module, bag=data / entry.path, bundle=manifest.parent
        )
        for name, entry in plan.bags.items()
    }


def options_of(plan: ReplayPlan, name: str) -> ReplayOptions:
    """The options of a bag: those of all bags, but for what it says itself."""
    both = (plan.options, plan.bags[name].options)
    values = {
        key: v for options in both for key, v in options.model_dump(exclude_unset=True).items()
    }
    return ReplayOptions(**values)


def _job(folder: Path, plan: ReplayPlan, module: str, *, bag: Path, bundle: Path) -> Job:
    name = folder.name
    options = options_of(plan, name)
    template = [module, '{bag}', '--bundle', '{bundle}', '--out', '{out}']
    template += _words(options)
    # the manifest holds the hashes of the other files of the bundle
    decisive = [template, sha256_of(bundle / MANIFEST), _identity(bag)]
    return Job(
        name=name,
        kind='replay',
        folder=folder,
        out=folder / 'out',
        template=tuple(template),
        paths={'bag': bag, 'bundle': bundle, 'out': folder / 'out'},
        files={},
        fingerprint=hashlib.sha256(json.dumps(decisive).encode()).hexdigest(),
        needs=(),
        labels={'bag': name},
        minutes=options.minutes or 0.0,
        threads=options.num_threads,
        gpus=0,
    )


def _words(options: ReplayOptions) -> list[str]:
    """The options as the command line takes them."""
    words = []
    for name, value in options.model_dump(exclude_defaults=True).items():
        words += [f'--{name.replace("_", "-")}', *([] if value is True else [str(value)])]
    return words


def _identity(bag: Path) -> list[Any]:
    """Names and sizes of a bag's files: its clouds are too large to be hashed each time.

    Raises:
        InputError: there is no such bag.
    """
    if not bag.exists():
        raise InputError(
            'a bag is missing', where=bag, fix='correct its path in the plan, or give --data'
        )
    files = sorted(path for path in bag.rglob('*') if path.is_file()) if bag.is_dir() else [bag]
    return [[path.name, path.stat().st_size] for path in files]


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog='python -m trainer.replay_bags',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('plan', type=Path, help='YAML file of the plan')
    parser.add_argument('--out', type=Path, required=True, help='folder of the report')
    parser.add_argument(
        '--data',
        type=Path,
        default=Path(),
        help='folder that the paths of the plan start from (default: the current one)',
    )
    parser.add_argument('--only', metavar='PATTERN', help='only bags of such a name: "town_*"')
    parser.add_argument('--workers', type=int, default=1, help='bags at a time on this machine')
    parser.add_argument(
        '--ray', metavar='ADDRESS', help='replay on this Ray cluster: HEAD:6379, or auto'
    )
    return parser.parse_args()


def main() -> None:
    """Command line."""
    sys.exit(replay_bags(parse_arguments()))


if __name__ == '__main__':
    run_command(main)
