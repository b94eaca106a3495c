# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A picture of one moment, to look at: cameras, their classes, and the points from above."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import import_extra
from reldistill_ros.core.files import replacing
from reldistill_ros.core.settings import load_settings
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from trainer.datasets.synthetic.render import Moment, Shot, network_answer
from trainer.datasets.synthetic.world import World

VOCABULARY = Path(__file__).parents[3] / 'config' / 'vocabularies' / 'town.yaml'
REACH = 45.0  # m
Image = NDArray[np.uint8]


def town_vocabulary() -> Vocabulary:
    """The classes of the town, in the order of its labels."""
    return load_settings(VOCABULARY, Vocabulary)


def color_table() -> Image:
    """(256, 3) RGB of labels; light grey for none."""
    return town_vocabulary().color_table((235, 235, 235))


def blend(image: Image, class_map: Image) -> Image:
    """Classes (h, w), enlarged to the size of the image (H, W, 3), laid over it."""
    factor = len(image) // len(class_map)
    large = class_map.repeat(factor, axis=0).repeat(factor, axis=1)
    colors = color_table()[large]
    mixed = np.where(large[..., None] == IGNORE_INDEX, image, 0.4 * image + 0.6 * colors)
    return mixed.astype(np.uint8)


def save_overlay(path: Path, world: World, moment: Moment) -> None:
    """Save images, true classes, the simulated network's classes, and a bird's-eye view."""
    plt = import_extra('matplotlib.pyplot', 'viz')
    order = {'camera_left': 0, 'camera_front': 1, 'camera_right': 2, 'camera_back': 3}
    shots = sorted(moment.shots, key=lambda shot: order[shot.camera.name])
    figure = plt.figure(figsize=(20, 17.5), layout='constrained')
    grid = figure.add_gridspec(4, 4, height_ratios=[1, 1, 1, 2.9])
    for column, shot in enumerate(shots):
        for row, (title, image) in enumerate(_views(world, shot).items()):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(image)
            axes.set_title(f'{shot.camera.name}: {title}', fontsize=9)
            axes.axis('off')
    _draw_from_above(figure.add_subplot(grid[3, :]), moment)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=90)
    plt.close(figure)


def _views(world: World, shot: Shot) -> dict[str, Image]:
    picture = shot.picture
    guess = network_answer(world, shot)
    return {
        'image': picture.image,
        'truth': blend(picture.image, picture.class_map),
        'simulated 2D network': blend(picture.image, guess.class_map),
    }


def _draw_from_above(axes: object, moment: Moment) -> None:
    points, labels = moment.sweep.points, moment.sweep.labels
    order = np.argsort(points[:, 2])
    colors = color_table()[labels[order]] / 255
    axes.scatter(points[order, 0], points[order, 1], s=1.5, c=colors, linewidths=0)  # type: ignore[attr-defined]
    axes.set(  # type: ignore[attr-defined]
        xlim=(-1.7 * REACH, 1.7 * REACH), ylim=(-REACH, REACH), aspect='equal', facecolor='#101014'
    )
    for index, name in enumerate(town_vocabulary().class_names):
        axes.scatter([], [], color=color_table()[index] / 255, label=name)  # type: ignore[attr-defined]
    axes.legend(loc='upper right', ncols=2, fontsize=9)  # type: ignore[attr-defined]
