# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The bundle's dense image encoder: an image in, opinions on its pixels out, without torch.

`image_encoder.onnx` scales and normalises the image itself, so that what was checked at export is
what runs. `image_encoder.json` says what comes out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from reldistill_ros.cameras.opinions import (
    ClassOpinions,
    PatchOpinions,
    class_cosines,
    unit_features,
)
from reldistill_ros.core.bundle import Bundle
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.prompts import unit_rows
from reldistill_ros.core.settings import Settings, parse_settings
from reldistill_ros.onnx_session import open_session

IMAGE_ENCODER = 'image_encoder.onnx'
IMAGE_ENCODER_SETTINGS = 'image_encoder.json'
IMAGE_CLASSES = 'image_classes.npz'
Rgb = tuple[float, float, float]


class ImageEncoderSettings(Settings):
    """What the graph does.

    Attributes:
        name: network and weights.
        input_size: height and width in pixels that every image is scaled to.
        mean: of RGB from 0 to 1, subtracted.
        std: what is divided by then.
        output: `features` in the text space of the bundle; or logits of `classes`, whose
            embeddings are in `image_classes.npz`.
        channels: of the output: C features, or L classes.
    """

    name: str
    input_size: tuple[int, int]
    mean: Rgb
    std: Rgb
    output: Literal['features', 'classes']
    channels: int = Field(gt=0)


class ImageEncoder:
    """Looks at images; one thread may encode while others read what came of earlier images.

    Args:
        settings: see there.
        graph: content of `image_encoder.onnx`: `image` (H, W, 3) uint8 RGB of any size to
            `output` (1, channels, h, w).
        class_embeddings: (L, C) unit rows, centred as the prompts are, of a network with
            `classes`; zero rows for those that are no opinion.
        embedding_mean: (C,), what prompts and features are centred with.
        num_threads: of one inference.

    Raises:
        InputError: ONNX Runtime does not take the graph, or the embeddings are not of its
            classes.
    """

    def __init__(
        self,
        settings: ImageEncoderSettings,
        graph: bytes,
        class_embeddings: NDArray[np.float32] | None,
        *,
        embedding_mean: NDArray[np.float32],
        num_threads: int,
    ) -> None:
        if settings.output == 'classes':
            _check_classes(settings, class_embeddings)
        self.settings = settings
        self._session = open_session(
            graph, num_threads, what='image encoder', where=IMAGE_ENCODER, spins=False
        )
        self._class_embeddings = class_embeddings
        self._mean = embedding_mean

    def encode(self, image: NDArray[np.uint8]) -> EncodedFeatures | EncodedClasses:
        """Look at an image (H, W, 3) RGB: the slow part, without any words.

        Raises:
            InputError: not such an image, or the network's answer is not finite.
        """
        output = self.run(image)
        size = (image.shape[0], image.shape[1])
        height, width = self.settings.input_size
        stretch = (size[1] / size[0]) / (width / height)
        if self._class_embeddings is None:
            rows = unit_features(output, self._mean)
            return EncodedFeatures(size, (output.shape[1], output.shape[2]), rows, stretch)
        return EncodedClasses(size, *most_likely(output), self._class_embeddings, stretch)

    def run(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The network's answer (channels, h, w) to an image; raises what `encode` does."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise InputError(
                'this is no image for the image encoder',
                expected='(H, W, 3) uint8',
                got=f'{image.shape} {image.dtype}',
            )
        output: NDArray[np.float32] = self._session.run(
            None, {'image': np.ascontiguousarray(image)}
        )[0][0]
        # in the ensemble one NaN would overrule student and all other cameras
        if not np.isfinite(output).all():
            raise InputError(
                'the image encoder gave numbers that are not finite',
                where=IMAGE_ENCODER,
                fix='export again, in float32 where it was a smaller type',
            )
        return output


@dataclass(frozen=True, eq=False)
class EncodedFeatures:
    """What a network with features made of one image; for any thread.

    Attributes:
        image_size: H, W of the image.
        grid: h, w of the patches.
        rows: (h w, C), see `unit_features`.
        stretch: see `Encoded`.
    """

    image_size: tuple[int, int]
    grid: tuple[int, int]
    rows: NDArray[np.float32]
    stretch: float

    @property
    def num_bytes(self) -> int:
        return self.rows.nbytes

    def opinions(self, prompts: NDArray[np.float32]) -> PatchOpinions:
        """Opinions in terms of prompts (M, C)."""
        cosines = self.rows @ prompts.T
        return PatchOpinions(self.image_size, cosines.reshape(*self.grid, len(prompts)))


@dataclass(frozen=True, eq=False)
class EncodedClasses:
    """What a network with classes made of one image; for any thread.

    Attributes:
        image_size: H, W of the image.
        class_map: (h, w), see `most_likely`; the logits, a hundred times as large, do not stay.
        confidences: (h, w), see there.
        embeddings: (L, C) of its classes.
        stretch: see `Encoded`.
    """

    image_size: tuple[int, int]
    class_map: NDArray[np.uint8]
    confidences: NDArray[np.uint8]
    embeddings: NDArray[np.float32]
    stretch: float

    @property
    def num_bytes(self) -> int:
        return self.class_map.nbytes + self.confidences.nbytes

    def opinions(self, prompts: NDArray[np.float32]) -> ClassOpinions:
        """Opinions in terms of prompts (M, C)."""
        tables = class_cosines(self.embeddings, prompts)
        return ClassOpinions(self.image_size, self.class_map, self.confidences, *tables)


def load_image_encoder(bundle: Bundle, num_threads: int) -> ImageEncoder | None:
    """The image encoder of a bundle, None where it carries none.

    Raises:
        InputError: a file is missing, or not the one that was exported, or not valid.
    """
    if not bundle.holds(IMAGE_ENCODER):
        return None
    settings = parse_settings(
        json.loads(bundle.read(IMAGE_ENCODER_SETTINGS)),
        ImageEncoderSettings,
        bundle.path / IMAGE_ENCODER_SETTINGS,
    )
    embeddings = None
    if settings.output == 'classes':
        with np.load(BytesIO(bundle.read(IMAGE_CLASSES)), allow_pickle=False) as classes:
            embeddings = classes['embeddings']
    return ImageEncoder(
        settings,
        bundle.read(IMAGE_ENCODER),
        embeddings,
        embedding_mean=bundle.embedding_mean,
        num_threads=num_threads,
    )


def most_likely(logits: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Class maps of logits (L, h, w): the best class (h, w) and its probability times 255."""
    best = logits.argmax(axis=0)
    totals = np.exp(logits - logits.max(axis=0)).sum(axis=0)
    return best.astype(np.uint8), np.rint(255 / totals).astype(np.uint8)


def _check_classes(settings: ImageEncoderSettings, embeddings: NDArray[np.float32] | None) -> None:
    got = None if embeddings is None else embeddings.shape
    rows = 0 if embeddings is None else len(unit_rows(embeddings))
    if rows != settings.channels or rows > 255:
        raise InputError(
            'the embeddings do not belong to the classes of the image encoder',
            where=IMAGE_CLASSES,
            expected=f'{settings.channels} rows, at most 255',
            got=got,
            fix='export again',
        )
