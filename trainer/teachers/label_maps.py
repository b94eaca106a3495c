# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A teacher made of any 2D segmentation network: its class maps, spoken in text embeddings."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.opinions import nearest_cells
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.prompts import prompt_embeddings, unit_rows
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from trainer.datasets.sample import CameraImage
from trainer.teachers.teacher import is_inside
from trainer.text import TextEncoder

MAX_CONFIDENCE = 255


class LabelMapTeacher:
    """Text embedding of the class that a 2D network saw at a pixel.

    Of the network's probabilities only the largest, p of class c, is stored. With
    `mix_confidence` the feature is the mean text embedding under the most ignorant distribution
    that agrees with it (maximum entropy: 1 - p in equal shares over the other K - 1 classes):
    ``normalise(p e_c + (1 - p) mean_{k != c} e_k)``; without, it is e_c.

    Args:
        vocabulary: the network's classes in the order of its indices.
        encoder: text encoder that sets the space.
        ignore_classes: classes that carry no supervision; they keep their share of the mean.
        min_confidence: pixels below carry no supervision.
        mix_confidence: see above.

    Raises:
        InputError: an ignored class is not one of the vocabulary.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        encoder: TextEncoder,
        *,
        ignore_classes: Collection[str] = (),
        min_confidence: float = 0.0,
        mix_confidence: bool = False,
    ) -> None:
        check_class_names(vocabulary, ignore_classes)
        self.name = f'label_maps/{vocabulary.name}/{encoder.name}'
        self.embedding_size = encoder.embedding_size
        self.min_confidence = min_confidence
        self.mix_confidence = mix_confidence
        self._class_embeddings = class_embeddings(vocabulary, encoder)
        self._ignored = np.ones(IGNORE_INDEX + 1, dtype=bool)
        self._ignored[: len(vocabulary.classes)] = np.isin(
            vocabulary.class_names, list(ignore_classes)
        )

    def __call__(self, image: CameraImage) -> LabelMapFeatures:
        class_map = _checked_class_map(image, len(self._class_embeddings))
        return LabelMapFeatures(self, image.image.shape[:2], class_map, self._confidence(image))

    def embed(
        self, classes: NDArray[np.uint8], confidences: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Feature of each class (P,) seen with a confidence (P,) of 0 to 1, as (P, C)."""
        supervised = ~self._ignored[classes] & (confidences >= self.min_confidence)
        features = np.zeros((len(classes), self.embedding_size), dtype=np.float32)
        seen = self._class_embeddings[classes[supervised]]
        if self.mix_confidence:
            p = confidences[supervised, None]
            seen = unit_rows(p * seen + (1 - p) * self._mean_of_others(seen))
        features[supervised] = seen
        return features

    def _mean_of_others(self, seen: NDArray[np.float32]) -> NDArray[np.float64]:
        total = self._class_embeddings.sum(axis=0, dtype=np.float64)
        others: NDArray[np.float64] = (total - seen) / max(len(self._class_embeddings) - 1, 1)
        return others

    def _confidence(self, image: CameraImage) -> NDArray[np.uint8] | None:
        """Return the confidence map, or None where the settings do not ask for it."""
        if not self.mix_confidence and self.min_confidence <= 0:
            return None
        if image.confidence is None:
            raise InputError(
                'the image has no confidence map',
                where=image.image_id,
                expected='the probability of the class at each pixel times 255, 8-bit PNG',
                fix='write it beside the class map, or set mix_confidence: false and '
                'min_confidence: 0',
            )
        return image.confidence


@dataclass(frozen=True)
class LabelMapFeatures:
    """The teacher's features of one image.

    Attributes:
        teacher: what turns classes into features.
        image_size: H, W of the camera image.
        class_map: (h, w) uint8, covers the image, any size.
        confidence: (h', w') uint8 or None for certainty.
    """

    teacher: LabelMapTeacher
    image_size: tuple[int, int]
    class_map: NDArray[np.uint8]
    confidence: NDArray[np.uint8] | None

    def at(self, pixels: NDArray[np.floating]) -> NDArray[np.float32]:
        """Feature of the nearest cell of the maps at pixels (P, 2), as (P, C)."""
        inside = is_inside(pixels, self.image_size)
        classes = np.full(len(pixels), IGNORE_INDEX, dtype=np.uint8)
        confidences = np.ones(len(pixels))
        classes[inside] = nearest_cells(self.class_map, pixels[inside], self.image_size)
        if self.confidence is not None:
            stated = nearest_cells(self.confidence, pixels[inside], self.image_size)
            confidences[inside] = stated / MAX_CONFIDENCE
        return self.teacher.embed(classes, confidences)


def class_embeddings(vocabulary: Vocabulary, encoder: TextEncoder) -> NDArray[np.float32]:
    """Text embedding of each class, (K, C) unit rows: the mean of its prompts, renormalised."""
    prompts = prompt_embeddings(vocabulary, encoder)
    sums = np.zeros((len(vocabulary.classes), prompts.shape[1]))
    np.add.at(sums, vocabulary.prompt_classes, prompts)
    return unit_rows(sums)


def check_class_names(vocabulary: Vocabulary, ignore_classes: Collection[str]) -> None:
    """Refuse classes to ignore that the 2D network does not have.

    Raises:
        InputError: says which.
    """
    unknown = sorted(set(ignore_classes) - set(vocabulary.class_names))
    if unknown:
        raise InputError(
            'ignore_classes names classes that the 2D network does not have',
            where=f'vocabulary {vocabulary.name}',
            expected=f'some of {", ".join(vocabulary.class_names)}',
            got=', '.join(unknown),
        )


def _checked_class_map(image: CameraImage, num_classes: int) -> NDArray[np.uint8]:
    if image.class_map is None:
        raise InputError(
            'the image has no class map',
            where=image.image_id,
            expected='an 8-bit PNG with the class index of each pixel',
            fix='run a 2D segmentation network over the images and name the folder of its maps, '
            'or use another teacher',
        )
    indices = np.unique(image.class_map)
    unknown = indices[(indices >= num_classes) & (indices != IGNORE_INDEX)]
    if unknown.size:
        raise InputError(
            'the class map holds indices that the vocabulary of the 2D network does not have',
            where=image.image_id,
            expected=f'0 to {num_classes - 1}, or {IGNORE_INDEX} for no class',
            got=unknown[:10].tolist(),
            fix='name the vocabulary of the network that made the maps',
        )
    return image.class_map
