# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A 2D segmentation network as an ONNX graph: class probabilities, spoken in text embeddings."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.prompts import unit_rows
from reldistill_ros.core.vocabulary import Vocabulary
from trainer.datasets.sample import CameraImage
from trainer.teachers.grids import ImageGrids, Rgb, sample_grid
from trainer.teachers.label_maps import check_class_names, class_embeddings
from trainer.teachers.onnx_session import OnnxGraph
from trainer.teachers.teacher import is_inside
from trainer.text import TextEncoder

Output = Literal['logits', 'probabilities']


class OnnxSegmentation:
    """A graph with images in and class maps out; see `PatchNetwork`, whose C are classes here.

    Args:
        graph: cut at the classes, (1, K, h, w) of any resolution that covers the image.
        output: what the tensor holds.
        multiple: sides of the input are multiples of so many pixels.
        cell: probabilities are averaged over squares of so many pixels of the output.
        mean: of RGB from 0 to 1 that the graph's weights were trained with.
        std: likewise.
        size: height and width to try the graph with.

    Raises:
        InputError: the tensor is not of the shape or not of the kind that is said here.
    """

    device = 'cpu'

    def __init__(
        self,
        graph: OnnxGraph,
        *,
        output: Output,
        multiple: int,
        cell: int,
        mean: Rgb,
        std: Rgb,
        size: tuple[int, int],
    ) -> None:
        self.patch_size, self.mean, self.std = multiple, mean, std
        self.output, self.cell = output, cell
        self._graph = graph
        self.name = f'onnx_segmentation/{graph.name}/{output}/cell {cell}/mean {mean} std {std}'
        self.embedding_size: int = self(torch.zeros(1, 3, *size)).shape[1]

    def __call__(self, pixels: Tensor) -> Tensor:
        scores = self.scores(pixels)
        if self.output == 'probabilities':
            total = scores.sum(dim=1)
            if (total - 1).abs().max() > 0.01 or scores.min() < 0:
                found = f'sums from {float(total.min()):.3g} to {float(total.max()):.3g}'
                raise self._wrong('probabilities, whose sum over the classes is 1', found)
        return cell_probabilities(scores, self.output, self.cell)

    def scores(self, pixels: Tensor) -> Tensor:
        """What the graph says (1, K, h, w) of normalised pixels (1, 3, H, W)."""
        scores = torch.from_numpy(self._graph(pixels.numpy())).float()
        if scores.ndim != 4 or len(scores) != 1:
            raise self._wrong('(1, K, h, w), a score of every class', tuple(scores.shape))
        return scores

    def _wrong(self, expected: str, got: object) -> InputError:
        return InputError(
            'the tensor does not hold the classes of the image',
            where=self._graph.where,
            expected=expected,
            got=got,
            fix='name another tensor, or correct `output`',
        )


def cell_probabilities(scores: Tensor, output: Output, cell: int) -> Tensor:
    """Mean probabilities (1, K, h', w') in squares of scores (1, K, h, w), see above."""
    probabilities = scores.softmax(dim=1) if output == 'logits' else scores
    rows, columns = (-(-side // cell) for side in scores.shape[2:])
    return F.adaptive_avg_pool2d(probabilities, (rows, columns))


class SegmentationTeacher:
    """Text embedding of what a 2D network sees at a pixel.

    Without mixing it is that of the likeliest class; with it, the mean text embedding under all
    of the network's probabilities: ``normalise(sum_k p_k e_k)``.

    Args:
        grids: probabilities of whole images.
        vocabulary: the network's classes in the order of its channels.
        encoder: text encoder that sets the space.
        ignore_classes: classes that carry no supervision; they keep their share of the mean.
        min_confidence: pixels whose likeliest class is less likely carry no supervision.
        mix: see above.

    Raises:
        InputError: the network has not as many classes as the vocabulary, or an ignored class
            is none of it.
    """

    def __init__(
        self,
        grids: ImageGrids,
        vocabulary: Vocabulary,
        encoder: TextEncoder,
        *,
        ignore_classes: Collection[str] = (),
        min_confidence: float = 0.0,
        mix: bool = False,
    ) -> None:
        check_class_names(vocabulary, ignore_classes)
        check_num_classes(grids, vocabulary)
        self.name = f'{grids.name}/{vocabulary.name}/{encoder.name}'
        self.embedding_size = encoder.embedding_size
        self._grids, self._min_confidence, self._mix = grids, min_confidence, mix
        self._class_embeddings = class_embeddings(vocabulary, encoder)
        self._ignored = np.isin(vocabulary.class_names, list(ignore_classes))

    def __call__(self, image: CameraImage) -> SegmentationFeatures:
        grid = self._grids(image.image)
        return SegmentationFeatures(self, grid.float(), image.image.shape[:2])

    def embed(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (P, C) of class probabilities (P, K)."""
        classes = probabilities.argmax(axis=1)
        supervised = ~self._ignored[classes]
        supervised &= probabilities.max(axis=1, initial=0) >= self._min_confidence
        features = np.zeros((len(probabilities), self.embedding_size), dtype=np.float32)
        if self._mix:
            features[supervised] = unit_rows(probabilities[supervised] @ self._class_embeddings)
        else:
            features[supervised] = self._class_embeddings[classes[supervised]]
        return features


@dataclass(frozen=True)
class SegmentationFeatures:
    """The teacher's features of one image.

    Attributes:
        teacher: what turns probabilities into features.
        probabilities: (1, K, h, w), covers the image edge to edge.
        image_size: H, W of the camera image.
    """

    teacher: SegmentationTeacher
    probabilities: Tensor
    image_size: tuple[int, int]

    def at(self, pixels: NDArray[np.floating]) -> NDArray[np.float32]:
        """Features (P, C) at pixels (P, 2), from probabilities bilinear between cells."""
        inside = is_inside(pixels, self.image_size)
        features = np.zeros((len(pixels), self.teacher.embedding_size), dtype=np.float32)
        sampled = sample_grid(self.probabilities, pixels[inside], self.image_size)
        features[inside] = self.teacher.embed(sampled.numpy())
        return features


def check_num_classes(grids: ImageGrids, vocabulary: Vocabulary) -> None:
    """Refuse a vocabulary of another network.

    Raises:
        InputError: the network has not as many classes.
    """
    if grids.embedding_size != len(vocabulary.classes):
        raise InputError(
            'the network and the vocabulary do not have the same classes',
            where=f'{grids.name}, vocabulary {vocabulary.name}',
            expected=f'{grids.embedding_size} classes, as many as the network has channels',
            got=len(vocabulary.classes),
            fix='name the vocabulary of the classes that the network was trained on',
        )
