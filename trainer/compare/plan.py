# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The plan of a comparison, one YAML file, and what a job of it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, model_validator

from reldistill_ros.core.settings import Settings
from trainer.checkpoint import CHECKPOINT

MODULES = {
    'distil': 'trainer.distill',
    'evaluate': 'trainer.evaluate',
    'few_shot': 'trainer.few_shot',
    'structure': 'trainer.structure',
}
RESULTS = {
    'prepare': '.',
    'distil': CHECKPOINT,
    'evaluate': 'metrics.json',
    'few_shot': 'metrics.json',
    'structure': 'structure.json',
    'replay': 'replay.json',
}

Name = Annotated[str, Field(pattern=r'^[A-Za-z0-9][A-Za-z0-9_.-]*$')]  # of a folder, a column
Folder = Annotated[
    str, Field(pattern=r'^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*$')
]
Changes = dict[str, JsonValue]


class Prepare(Settings):
    """A command that makes a part of the data, named like its folder in the data root.

    Attributes:
        command: a module for `python -m` and its arguments; `{out}` is that folder,
            `{data}` the data root.
        minutes: estimate.
    """

    command: str = Field(min_length=1)
    minutes: float = Field(default=0.5, ge=0)


class Teacher(Settings):
    """A teacher.

    Attributes:
        run: YAML of a complete run, beside the plan or in `config/`.
        changes: of its settings, see `merge`.
        minutes: estimate of one distillation.
    """

    run: Path
    changes: Changes = Field(default_factory=dict)
    minutes: float = Field(default=2.5, ge=0)


class EvaluateProtocol(Settings):
    """Zero-shot segmentation, see `trainer.evaluate`."""

    kind: Literal['evaluate']
    corruptions: bool = False
    minutes: float = Field(default=0.3, ge=0)


class FewShotProtocol(Settings):
    """A classifier learnt from few labels, see `trainer.few_shot`.

    Attributes:
        file: YAML of the protocol, beside the plan or in `config/`.
        changes: of its settings, see `merge`.
        minutes: estimate.
    """

    kind: Literal['few_shot']
    file: Path
    changes: Changes = Field(default_factory=dict)
    minutes: float = Field(default=0.7, ge=0)


class StructureProtocol(Settings):
    """The structural gap, see `trainer.structure`."""

    kind: Literal['structure']
    drives: Literal['evaluate', 'train'] = 'evaluate'
    minutes: float = Field(default=0.3, ge=0)


Protocol = Annotated[
    EvaluateProtocol | FewShotProtocol | StructureProtocol, Field(discriminator='kind')
]


class Group(Settings):
    """Each of its teachers with each of its losses, over all of its protocols.

    Attributes:
        optional: only run where the command line asks for it by name.
    """

    teachers: tuple[str, ...] = Field(min_length=1)
    losses: tuple[str, ...] = Field(min_length=1)
    protocols: tuple[str, ...] = Field(min_length=1)
    optional: bool = False


class Plan(Settings):
    """A whole comparison.

    Attributes:
        data: name of the data in the results.
        prepare: commands that make the data; none where they are recordings.
        changes: of the settings of every run, before the teacher's and the loss's, see `merge`.
        losses: changes of the run's settings by the name of the loss.
        reference: loss that all others are tested against.
        gaps: structure measures to draw against the mIoUs; all of them if empty.
        threads: of one job.
        gpus: share of a GPU that one job takes on a cluster.
    """

    data: Name
    prepare: dict[Folder, Prepare] = Field(default_factory=dict)
    changes: Changes = Field(default_factory=dict)
    teachers: dict[Name, Teacher] = Field(min_length=1)
    losses: dict[Name, Changes] = Field(min_length=1)
    protocols: dict[Name, Protocol] = Field(min_length=1)
    groups: dict[Name, Group] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    reference: str
    gaps: tuple[str, ...] = ()
    threads: int = Field(default=1, gt=0)
    gpus: float = Field(default=0, ge=0)

    @model_validator(mode='after')
    def _names_exist(self) -> Plan:
        for name, group in self.groups.items():
            for section in ('teachers', 'losses', 'protocols'):
                unknown = sorted(set(getattr(group, section)) - set(getattr(self, section)))
                if unknown:
                    raise ValueError(f'group {name}: {", ".join(unknown)} not among the {section}')
        if self.reference not in self.losses:
            raise ValueError(f'the reference {self.reference} is not among the losses')
        if 'all' in self.teachers:
            raise ValueError('a teacher cannot be called all, which stands for all of them')
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError('a seed stands twice')
        return self


@dataclass(frozen=True)
class Comparison:
    """A plan at work.

    Attributes:
        plan: what to compare.
        plan_folder: files that the plan names are looked for here first.
        out: folder of the results, absolute.
        data: data root, absolute.
        modules: for `python -m`, by kind of job.
    """

    plan: Plan
    plan_folder: Path
    out: Path
    data: Path
    modules: Mapping[str, str] = field(default_factory=lambda: MODULES)


@dataclass(frozen=True)
class Job:
    """One command with a folder of its own.

    Attributes:
        name: readable, also its path below `jobs/`.
        kind: key of `RESULTS`.
        folder: for settings, log and markers.
        out: what the command writes.
        template: module and arguments of `python -m`, with `{names}` of machine paths.
        paths: the machine paths.
        files: settings to write into the folder beforehand, by name.
        fingerprint: sha256 of all that decides the result, machine paths left out.
        needs: names of the jobs that have to be done before.
        labels: teacher, loss, seed and protocol, or bag, as far as it has them.
        minutes: estimate.
        threads: of its process.
        gpus: share of one, on a cluster.
    """

    name: str
    kind: str
    folder: Path
    out: Path
    template: tuple[str, ...]
    paths: dict[str, Path]
    files: dict[str, Any]
    fingerprint: str
    needs: tuple[str, ...]
    labels: dict[str, Any]
    minutes: float
    threads: int
    gpus: float

    @property
    def command(self) -> tuple[str, ...]:
        """Module and arguments of `python -m` on this machine."""
        filled = self.template
        for name, path in self.paths.items():
            filled = tuple(part.replace(f'{{{name}}}', str(path)) for part in filled)
        return filled

    @property
    def result(self) -> Path:
        """File or folder that is there once the command has succeeded."""
        return self.out / RESULTS[self.kind]

    @property
    def can_resume(self) -> bool:
        """Whether it was stopped on its way and left what `--resume` continues from."""
        return self.kind == 'distil' and self.result.exists()
