# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which 2D networks can look through the robot's cameras, and what is exported of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reldistill_ros.cameras.image_encoder import ImageEncoderSettings
from reldistill_ros.core.prompts import center
from reldistill_ros.core.settings import load_settings
from reldistill_ros.core.vocabulary import Vocabulary
from trainer.datasets.sample import CameraImage, Dataset
from trainer.image_graph import followed_by, torch_graph
from trainer.open_clip_text import OpenClipEncoder
from trainer.run import Run, TrainedRun
from trainer.teachers.build import build_grids, clip_encoder, find_vocabulary
from trainer.teachers.grids import ImageGrids
from trainer.teachers.label_maps import class_embeddings
from trainer.teachers.onnx_segmentation import (
    OnnxSegmentation,
    cell_probabilities,
    check_num_classes,
)
from trainer.teachers.onnx_session import find_graph, load_part
from trainer.teachers.settings import (
    ClipTeacherSettings,
    OnnxSegmentationSettings,
)

ImageTeacherSettings = ClipTeacherSettings | OnnxSegmentationSettings
TINY = 1e-30  # probability that stands for 0 in a logarithm


@dataclass(frozen=True, eq=False)
class ImageNetwork:
    """A dense 2D network to export.

    Attributes:
        settings: what it takes and gives.
        graph: normalised pixels (1, 3, H, W) of `settings.input_size` to features, or logits, or
            log probabilities (1, channels, h, w).
        original: the same, or the probabilities, as the trainer computes them.
        class_embeddings: (L, C) of a network with classes, see `ImageEncoder`.
    """

    settings: ImageEncoderSettings
    graph: onnx.ModelProto
    original: Callable[[Tensor], Tensor]
    class_embeddings: NDArray[np.float32] | None = None


def image_teacher(run: Run) -> ImageTeacherSettings | None:
    """The run's teacher where it is a network that looks at images; None where it is maps."""
    settings = run.teacher_settings
    return settings if isinstance(settings, ImageTeacherSettings) else None


def build_image_network(
    trained: TrainedRun, settings: ImageTeacherSettings, image_size: tuple[int, int]
) -> ImageNetwork:
    """Build what is to be exported of a teacher.

    Args:
        trained: the run, whose words it speaks.
        settings: of the teacher.
        image_size: H, W of the cameras.

    Raises:
        InputError: weights or a graph that cannot be had, or a network in another space.
    """
    if isinstance(settings, ClipTeacherSettings):
        return clip_network(trained, settings, image_size)
    return segmentation_network(trained, settings, image_size)


def clip_network(
    trained: TrainedRun, settings: ClipTeacherSettings, image_size: tuple[int, int]
) -> ImageNetwork:
    """The image tower of a CLIP model, read out as in training, but not denoised.

    Denoising depends on words that the robot need not be using.
    """
    on_cpu = settings.model_copy(update={'device': 'cpu', 'cache': None})
    grids = build_grids(on_cpu, trained.encoder, trained.run.data_root)
    announced = _announce(grids, image_size, 'features')
    graph = torch_graph(
        _Tower(clip_encoder(trained.encoder), grids), torch.zeros(1, 3, *announced.input_size)
    )
    return ImageNetwork(announced, graph, grids.see)


def segmentation_network(
    trained: TrainedRun, settings: OnnxSegmentationSettings, image_size: tuple[int, int]
) -> ImageNetwork:
    """A segmentation network, with its probabilities averaged in cells as in training."""
    root = trained.run.data_root
    vocabulary = load_settings(find_vocabulary(settings.vocabulary, root), Vocabulary)
    grids = build_grids(settings.model_copy(update={'cache': None}), None, root)
    check_num_classes(grids, vocabulary)
    network = grids.network
    assert isinstance(network, OnnxSegmentation)
    height, width = grids.input_size(image_size)
    scores = network.scores(torch.zeros(1, 3, height, width))
    announced = _announce(grids, image_size, 'classes')
    part = load_part(find_graph(settings.path, settings.package, root), settings.tensor)
    embeddings = spoken_classes(trained, vocabulary, settings.ignore_classes)
    graph = followed_by(part, _Cells(network), scores)
    return ImageNetwork(announced, graph, grids.see, embeddings)


def spoken_classes(
    trained: TrainedRun, vocabulary: Vocabulary, ignored: Sequence[str]
) -> NDArray[np.float32]:
    """Embeddings (L, C) of a 2D network's classes, centred; zero rows for those ignored."""
    embeddings = center(class_embeddings(vocabulary, trained.encoder), trained.embedding_mean)
    embeddings[np.isin(vocabulary.class_names, ignored)] = 0
    return embeddings


def first_images(datasets: Sequence[Dataset]) -> list[CameraImage]:
    """Of each drive the images of the first sweep that has some."""
    found: list[CameraImage] = []
    for dataset in datasets:
        samples = (dataset[index] for index in range(len(dataset)))
        found += next((sample.images for sample in samples if sample.images), ())
    return found


def usual_size(images: Sequence[CameraImage]) -> tuple[int, int]:
    """Height and width of most images."""
    sizes = Counter((image.image.shape[0], image.image.shape[1]) for image in images)
    return sizes.most_common(1)[0][0]


def _announce(
    grids: ImageGrids, image_size: tuple[int, int], output: Literal['features', 'classes']
) -> ImageEncoderSettings:
    network = grids.network
    return ImageEncoderSettings(
        name=grids.name,
        input_size=grids.input_size(image_size),
        mean=network.mean,
        std=network.std,
        output=output,
        channels=grids.embedding_size,
    )


class _Tower(nn.Module):
    """What a CLIP model says of its patches as a module, which the exporter asks for."""

    def __init__(self, encoder: OpenClipEncoder, grids: ImageGrids) -> None:
        super().__init__()
        self.visual = encoder.model.visual  # whose weights are to be exported
        self._grids = grids

    def forward(self, pixels: Tensor) -> Tensor:
        """Features (1, C, h, w) of pixels (1, 3, H, W)."""
        return self._grids.see(pixels)


class _Cells(nn.Module):
    """Log probabilities (1, K, h', w') in cells, of scores (1, K, h, w)."""

    def __init__(self, network: OnnxSegmentation) -> None:
        super().__init__()
        self._output, self._cell = network.output, network.cell

    def forward(self, scores: Tensor) -> Tensor:
        """What the robot takes for logits."""
        return cell_probabilities(scores, self._output, self._cell).clamp_min(TINY).log()
