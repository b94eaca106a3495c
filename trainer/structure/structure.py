# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The structural gap of a run: `python -m trainer.structure RUN_FOLDER --out DIR`.

Measures how far the student's space is from its teacher's, on a fixed sample of points that a
camera sees, and draws both spaces.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from reldistill_ros.core.files import write_json
from reldistill_ros.core.metrics import finite_or_none
from reldistill_ros.core.prompts import center, prompt_embeddings
from reldistill_ros.core.vocabulary import IGNORE_INDEX
from trainer.datasets.sample import Dataset
from trainer.run import Run, load_distilled, open_run
from trainer.structure.groups import group_points
from trainer.structure.measures import measure_structure
from trainer.structure.pictures import save_embedding, save_relations
from trainer.structure.sample import SEED, FeatureSampler

STRUCTURE = 'structure.json'
RELATIONS = 'relations.png'
EMBEDDING = 'embedding.png'


def examine(run: Run, datasets: Sequence[Dataset], out: Path) -> dict[str, float | None]:
    """Measure and draw the two spaces of a run.

    Args:
        run: trained.
        datasets: drives to sample points from; without labels the tolerances are None.
        out: folder to write.

    Returns:
        What was written to `out / 'structure.json'`: the measures by name, None where not
        defined, then `pairs`, `labelled_pairs` and `seed` of the sample.

    Raises:
        InputError: no checkpoint, or no point to measure.
    """
    encoder = run.build_encoder()
    student, mean = load_distilled(run)
    sampler = FeatureSampler(run, student, run.build_teacher(encoder), mean)
    features = sampler.sample(datasets)
    measures = measure_structure(
        torch.from_numpy(features.student), torch.from_numpy(features.teacher), features.labels
    )
    prompts = None
    if encoder is not None:
        prompts = center(prompt_embeddings(run.vocabulary, encoder), mean)
    groups = group_points(features, run.vocabulary, prompts)
    out.mkdir(parents=True, exist_ok=True)
    save_relations(features, groups, out / RELATIONS)
    save_embedding(features, groups, out / EMBEDDING)
    structure: dict[str, float | None] = {
        **{name: finite_or_none(value) for name, value in measures.items()},
        'pairs': len(features),
        'labelled_pairs': int(np.count_nonzero(features.labels != IGNORE_INDEX)),
        'seed': SEED,
    }
    write_json(out / STRUCTURE, structure)
    return structure


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m trainer.structure', description=__doc__)
    parser.add_argument('run', type=Path, help='run folder of python -m trainer.distill')
    parser.add_argument('--out', type=Path, required=True, help='folder to write')
    parser.add_argument(
        '--data', type=Path, help='folder that the paths of the settings start from'
    )
    parser.add_argument(
        '--drives',
        choices=('evaluate', 'train'),
        default='evaluate',
        help='which drives of the run to sample; the held-out ones by default',
    )
    arguments = parser.parse_args()
    run = open_run(arguments.run, arguments.data)
    torch.set_num_threads(run.settings.threads)
    held_out = arguments.drives == 'evaluate'
    datasets = run.open_evaluation() if held_out else run.open_training()
    print(json.dumps(examine(run, datasets, arguments.out), indent=2))
