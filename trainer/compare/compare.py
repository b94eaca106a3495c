# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Compare losses and teachers: `python -m trainer.compare PLAN.yaml --out DIR`.

Every teacher, loss and seed of the plan is distilled and judged by every protocol; each of these
jobs is one of the project's own commands with a folder below `DIR/jobs/`. Start the same command
again to continue: what is done stays, a distillation goes on from its checkpoint, and what was
made with other settings is moved to `DIR/outdated/` and made anew. `DIR/table.md` and
`DIR/results.json` hold the result, `DIR/inputs/` the plan and the files that it names.

On a Ray cluster (`--ray`) every node needs the checkout, `DIR` and the data under the same paths,
and the same Python environment.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.files import replacing, write_json
from reldistill_ros.core.settings import load_settings
from trainer.compare.expansion import choose, expand, find_named, named_files
from trainer.compare.jobs import Outcome, is_done
from trainer.compare.plan import MODULES, Comparison, Job, Plan
from trainer.compare.pools import local_pool, ray_pool, run_jobs
from trainer.compare.report import TABLE_FILE, write_report
from trainer.provenance import provenance
from trainer.stop import StopRequest, stop_on_signal


def compare(arguments: argparse.Namespace, modules: Mapping[str, str] = MODULES) -> int:
    """Run what is left of a plan and write the report; returns the exit code.

    Raises:
        InputError: the plan or a file that it names is not valid.
    """
    comparison = open_comparison(arguments, modules)
    plan = comparison.plan
    wanted = [n for n, group in plan.groups.items() if not group.optional or n in arguments.groups]
    jobs = choose(expand(comparison, wanted), arguments.only)
    copy_inputs(comparison, arguments.plan)
    announce(jobs, None if arguments.ray else arguments.workers)
    pool_of = ray_pool(arguments.ray) if arguments.ray else local_pool(arguments.workers)
    with pool_of as pool, stop_on_signal() as stop:
        outcomes = run_jobs(jobs, pool, stop)
    if not stop.requested:
        command = f'python -m trainer.compare {shlex.join(sys.argv[1:])}'
        write_report(comparison, expand(comparison, plan.groups), outcomes, command)
    return conclude(outcomes, stop, comparison.out)


def open_comparison(arguments: argparse.Namespace, modules: Mapping[str, str]) -> Comparison:
    """Read the plan and decide where its data are.

    Raises:
        InputError: a plan that is not valid, or data that it both makes and is given.
    """
    plan = load_settings(arguments.plan, Plan)
    out = arguments.out.resolve()
    unknown = set(arguments.groups) - set(plan.groups)
    if unknown:
        raise InputError(
            'the plan has no such group',
            where='--with',
            expected=f'some of {", ".join(plan.groups)}',
            got=', '.join(sorted(unknown)),
        )
    if arguments.workers < 1:
        raise InputError('nothing can run', where='--workers', got=arguments.workers)
    if plan.prepare and arguments.data:
        raise InputError(
            'the plan makes its own data',
            where='--data',
            fix=f'leave it out: they are in {out}/data',
        )
    data = out / 'data' if plan.prepare else (arguments.data or Path()).resolve()
    return Comparison(plan, arguments.plan.resolve().parent, out, data, modules)


def copy_inputs(comparison: Comparison, plan_file: Path) -> None:
    """Keep the plan, the files that it names and where the result comes from.

    `DIR/inputs/plan.yaml` can be compared again: its files lie beside it.
    """
    inputs = comparison.out / 'inputs'
    inputs.mkdir(parents=True, exist_ok=True)
    copies = {Path('plan.yaml'): plan_file} | {
        path: find_named(path, comparison.plan_folder) for path in named_files(comparison.plan)
    }
    for path, source in copies.items():
        target = inputs.joinpath(*(part for part in path.parts if part not in ('..', path.anchor)))
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as partial:
            shutil.copyfile(source, partial)
    write_json(
        comparison.out / 'provenance.json', {'data_root': str(comparison.data), **provenance()}
    )


def announce(jobs: Mapping[str, Job], workers: int | None) -> None:
    """Say what is left to do, and how long it will take by the plan's estimates."""
    left = [job for job in jobs.values() if not is_done(job)]
    minutes = sum(job.minutes for job in left)
    shared = f'{minutes / workers:.0f} with {workers} at a time' if workers else 'on a cluster'
    print(
        f'{len(jobs)} jobs, {len(jobs) - len(left)} of them done; the rest is about '
        f'{minutes:.0f} minutes of work, {shared}, by the estimates of the plan'
    )


def conclude(outcomes: Mapping[str, Outcome], stop: StopRequest, out: Path) -> int:
    """Say what failed, and where the result is; returns the exit code."""
    if stop.requested:
        print('stopped; the same command continues', file=sys.stderr)
        return 128 + stop.signal_number
    failed = {name: end for name, end in outcomes.items() if end.status == 'failed'}
    blocked = [name for name, end in outcomes.items() if end.status == 'blocked']
    for name, end in failed.items():
        print(f'\nfailed: {name}\n  {end.message}', file=sys.stderr)
    if blocked:
        print(f'\nnot run, because they need one of these: {", ".join(blocked)}', file=sys.stderr)
    print(
        f'{len(outcomes) - len(failed) - len(blocked)} of {len(outcomes)} jobs done; {out / TABLE_FILE}'
    )
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog='python -m trainer.compare',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('plan', type=Path, help='YAML file of the plan, see config/plans/')
    parser.add_argument('--out', type=Path, required=True, help='folder of the comparison')
    parser.add_argument(
        '--data',
        type=Path,
        help='folder that the paths of the runs start from; '
        'the current one by default, DIR/data where the plan makes its data',
    )
    parser.add_argument(
        '--only',
        metavar='PATTERN',
        help='only jobs of such a name, and what they need: "*/relational/*", "*/seed0/*"',
    )
    parser.add_argument(
        '--with',
        dest='groups',
        metavar='GROUP',
        action='append',
        default=[],
        help='also run this optional group of the plan',
    )
    parser.add_argument('--workers', type=int, default=1, help='jobs at a time on this machine')
    parser.add_argument(
        '--ray',
        metavar='ADDRESS',
        help='run the jobs as tasks of this Ray cluster: HEAD:6379, or auto',
    )
    return parser.parse_args()


def main() -> None:
    """Command line."""
    sys.exit(compare(parse_arguments()))
