# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The jobs that a plan stands for: prepare -> distil -> evaluate, few-shot, structure."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any

from reldistill_ros.core.bundle import sha256_of
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import load_settings, parse_settings
from trainer import config_files
from trainer.compare.plan import (
    Comparison,
    EvaluateProtocol,
    FewShotProtocol,
    Job,
    Plan,
    Protocol,
    StructureProtocol,
)
from trainer.config_files import find_config
from trainer.few_shot_settings import ProtocolSettings
from trainer.settings import RunSettings


def expand(comparison: Comparison, groups: Iterable[str]) -> dict[str, Job]:
    """The jobs of some groups of a plan by name, each after those that it needs.

    The seeds are gone through in turn, so that what is done of a plan compares all its losses.

    Raises:
        InputError: a file that the plan names is missing, or settings are not valid.
    """
    plan = comparison.plan
    made = [_prepare_job(comparison, name) for name in plan.prepare]
    jobs = {job.name: job for job in made}
    for seed, group in product(plan.seeds, [plan.groups[name] for name in groups]):
        for teacher, loss in product(group.teachers, group.losses):
            labels = {'teacher': teacher, 'loss': loss, 'seed': seed}
            distil = _distil_job(comparison, labels, made)
            jobs.setdefault(distil.name, distil)
            for protocol in group.protocols:
                job = _protocol_job(comparison, distil, protocol)
                jobs.setdefault(job.name, job)
    return jobs


def choose(jobs: Mapping[str, Job], pattern: str | None) -> dict[str, Job]:
    """The jobs whose name matches (`*` also stands for `/`), and all that they need.

    Raises:
        InputError: none matches.
    """
    wanted = {name for name in jobs if pattern is None or fnmatchcase(name, pattern)}
    if not wanted:
        raise InputError(
            'the pattern matches no job',
            where='--only',
            expected=f'one that matches names such as {", ".join(list(jobs)[-3:])}',
            got=pattern,
        )
    for job in reversed(list(jobs.values())):
        if job.name in wanted:
            wanted.update(job.needs)
    return {name: job for name, job in jobs.items() if name in wanted}


def merge(values: Any, changes: Any) -> Any:
    """Settings with changes: mappings are merged key by key, anything else is replaced.

    A mapping that names another `kind` is replaced as a whole: its other keys belong to the kind.
    """
    if not (isinstance(values, dict) and isinstance(changes, dict)):
        return changes
    if changes.get('kind', values.get('kind')) != values.get('kind'):
        return changes
    both = {key: merge(value, changes[key]) for key, value in values.items() if key in changes}
    return {**values, **changes, **both}


def find_named(path: Path, plan_folder: Path) -> Path:
    """Find a file that a plan names: beside the plan, or in the project's `config/` folder."""
    return find_config(path, plan_folder, 'a file that the plan names')


def named_files(plan: Plan) -> list[Path]:
    """Every settings file that a plan names, as it names it."""
    protocols = [p.file for p in plan.protocols.values() if isinstance(p, FewShotProtocol)]
    return list(dict.fromkeys([*(t.run for t in plan.teachers.values()), *protocols]))


def _prepare_job(comparison: Comparison, name: str) -> Job:
    prepare = comparison.plan.prepare[name]
    return _job(
        comparison,
        f'prepare/{name}',
        'prepare',
        shlex.split(prepare.command),
        out=comparison.data / name,
        minutes=prepare.minutes,
    )


def _distil_job(comparison: Comparison, labels: dict[str, Any], made: list[Job]) -> Job:
    name = '{teacher}/{loss}/seed{seed}/distil'.format(**labels)
    settings = _run_settings(comparison, **labels)
    parse_settings(settings, RunSettings, name)
    return _job(
        comparison,
        name,
        'distil',
        ['{folder}/settings.yaml'],
        needs=made,
        files={'settings.yaml': settings},
        labels=labels,
        minutes=comparison.plan.teachers[labels['teacher']].minutes,
    )


def _run_settings(comparison: Comparison, teacher: str, loss: str, seed: int) -> dict[str, Any]:
    """The teacher's run file with the changes of plan, teacher and loss, in this order."""
    plan = comparison.plan
    path = find_named(plan.teachers[teacher].run, comparison.plan_folder)
    values = load_settings(path, RunSettings).model_dump(mode='json', exclude_unset=True)
    for changes in (plan.changes, plan.teachers[teacher].changes, plan.losses[loss]):
        values = merge(values, changes)
    return {**values, 'seed': seed, 'threads': plan.threads}


def _protocol_job(comparison: Comparison, distil: Job, name: str) -> Job:
    protocol = comparison.plan.protocols[name]
    files, arguments = _protocol_arguments(comparison, protocol)
    return _job(
        comparison,
        f'{distil.name.removesuffix("distil")}{name}',
        protocol.kind,
        ['{run}', *arguments],
        needs=[distil],
        files=files,
        labels={**distil.labels, 'protocol': name},
        minutes=protocol.minutes,
    )


def _protocol_arguments(
    comparison: Comparison, protocol: Protocol
) -> tuple[dict[str, Any], list[str]]:
    """Files that a protocol's command reads, and its own arguments."""
    if isinstance(protocol, EvaluateProtocol):
        return {}, ['--corruptions'] if protocol.corruptions else []
    if isinstance(protocol, StructureProtocol):
        return {}, ['--drives', protocol.drives]
    path = find_named(protocol.file, comparison.plan_folder)
    values = load_settings(path, ProtocolSettings).model_dump(mode='json', exclude_unset=True)
    settings = merge(values, protocol.changes)
    parse_settings(settings, ProtocolSettings, f'changes of {path}')
    return {'protocol.yaml': settings}, ['{folder}/protocol.yaml']


def _job(
    comparison: Comparison,
    name: str,
    kind: str,
    arguments: list[str],
    *,
    minutes: float,
    needs: Iterable[Job] = (),
    files: dict[str, Any] | None = None,
    labels: dict[str, Any] | None = None,
    out: Path | None = None,
) -> Job:
    folder = comparison.out / 'jobs' / name
    needs, files = list(needs), files or {}
    paths = {'folder': folder, 'out': out or folder / 'out', 'data': comparison.data}
    if kind != 'prepare':
        arguments = [comparison.modules[kind], *arguments, '--out', '{out}', '--data', '{data}']
        paths['run'] = needs[0].out if needs else paths['out']
    named = sorted(_config_hashes(files))
    decisive = [arguments, files, named, [job.fingerprint for job in needs]]
    return Job(
        name=name,
        kind=kind,
        folder=folder,
        out=paths['out'],
        template=tuple(arguments),
        paths=paths,
        files=files,
        fingerprint=hashlib.sha256(json.dumps(decisive).encode()).hexdigest(),
        needs=tuple(job.name for job in needs),
        labels=labels or {},
        minutes=minutes,
        threads=comparison.plan.threads,
        gpus=comparison.plan.gpus if kind != 'prepare' else 0,
    )


def _config_hashes(values: Any) -> Iterator[str]:
    """Hashes of the files of `config/` that settings name, such as vocabularies and splits."""
    if isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _config_hashes(value)
    elif isinstance(values, str) and (config_files.CONFIG_FOLDER / values).is_file():
        yield f'{values} {sha256_of(config_files.CONFIG_FOLDER / values)}'
