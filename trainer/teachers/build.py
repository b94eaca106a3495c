# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Settings of text encoders and teachers, and the two functions that build them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings, load_settings
from reldistill_ros.core.vocabulary import Vocabulary
from trainer.config_files import find_config
from trainer.open_clip_text import OpenClipEncoder, load_open_clip
from trainer.teachers.clip import ClipTeacher
from trainer.teachers.dino import load_dino
from trainer.teachers.label_maps import LabelMapTeacher
from trainer.teachers.onnx_features import OnnxNetwork, find_graph
from trainer.teachers.patches import PatchTeacher, Rgb
from trainer.teachers.teacher import Teacher
from trainer.text import MinilmEncoder, TableEncoder, TextEncoder

Device = Annotated[str, Field(pattern=r'^(cpu|cuda(:\d+)?)$')]


class OpenClipSettings(Settings):
    """CLIP's text tower; see `trainer.open_clip_text.load_open_clip`."""

    kind: Literal['open_clip']
    model: str
    pretrained: str = Field(min_length=1)
    device: Device = 'cpu'


class MinilmSettings(Settings):
    """The sentence encoder that a package carries inside itself."""

    kind: Literal['minilm']


class TableSettings(Settings):
    """Precomputed embeddings; see `trainer.text.TableEncoder`.

    Attributes:
        embeddings: npy file (K, C), absolute or relative to the data root.
        names: text file with K lines, likewise.
    """

    kind: Literal['table']
    embeddings: Path
    names: Path


class LabelMapSettings(Settings):
    """Class maps of a 2D network; see `trainer.teachers.label_maps.LabelMapTeacher`.

    Attributes:
        vocabulary: YAML that names the 2D network's classes in the order of its indices;
            absolute, or relative to the data root (beside your maps), or else to the project's
            `config/` folder.
    """

    kind: Literal['label_maps']
    vocabulary: Path
    ignore_classes: tuple[str, ...] = ()
    min_confidence: float = Field(default=0.0, ge=0, le=1)
    mix_confidence: bool = False


class ClipTeacherSettings(Settings):
    """MaskCLIP features of the CLIP model that is also the text encoder."""

    kind: Literal['clip']
    short_side: int = Field(default=448, gt=0)
    device: Device = 'cpu'


class DinoSettings(Settings):
    """A self-supervised vision transformer of timm, without words.

    Attributes:
        model: timm's name, such as `vit_small_patch14_dinov2.lvd142m`.
        weights: safetensors file, absolute or relative to the data root; null for those that
            timm downloads.
        short_side: the image is scaled, its aspect ratio kept, until its shorter side has this
            many pixels: a multiple of the patch size. More is finer and slower.
        cache: folder to keep features in, absolute or relative to the data root; null for none.
            It serves unchanged images alone: `augment.crop: 1`, `augment.flip_image: false`.
    """

    kind: Literal['dino']
    model: str
    weights: Path | None = None
    short_side: int = Field(gt=0)
    cache: Path | None = None
    device: Device = 'cpu'


class OnnxFeatureSettings(Settings):
    """Patch features out of an ONNX graph, without words.

    Attributes:
        path: the graph; absolute, or relative to the data root or to `package`.
        package: installed Python package that carries the graph, by its import name.
        tensor: name of the patch features in the graph, its output or an inner one.
        input_size: shorter side of the scaled image, or [height, width] to squeeze it to where
            the graph takes one size only; multiples of the patch size.
        patch_size: edge of a patch in pixels.
        prefix_tokens: class and register tokens before the patches.
        mean: of RGB from 0 to 1 that the weights were trained with.
        std: likewise.
        threads: of one inference.
        cache: see `DinoSettings`.
    """

    kind: Literal['onnx_features']
    path: Path
    package: str | None = Field(default=None, pattern=r'^[A-Za-z_]\w*$')
    tensor: str
    input_size: Annotated[int, Field(gt=0)] | tuple[int, int]
    patch_size: int = Field(gt=0)
    prefix_tokens: int = Field(default=1, ge=0)
    mean: Rgb
    std: Rgb
    threads: int = Field(default=1, gt=0)
    cache: Path | None = None


TextEncoderSettings = Annotated[
    OpenClipSettings | MinilmSettings | TableSettings, Field(discriminator='kind')
]
FeatureTeacherSettings = DinoSettings | OnnxFeatureSettings
TeacherSettings = Annotated[
    LabelMapSettings | ClipTeacherSettings | DinoSettings | OnnxFeatureSettings,
    Field(discriminator='kind'),
]


def build_text_encoder(settings: TextEncoderSettings, data_root: Path) -> TextEncoder:
    """Build the text encoder that a run file names; it is never replaced by another one.

    Raises:
        InputError: its weights or files cannot be had.
    """
    if isinstance(settings, OpenClipSettings):
        return load_open_clip(
            settings.model, settings.pretrained, data_root=data_root, device=settings.device
        )
    if isinstance(settings, TableSettings):
        return TableEncoder(data_root / settings.embeddings, data_root / settings.names)
    return MinilmEncoder()


def build_teacher(
    settings: TeacherSettings, encoder: TextEncoder | None, data_root: Path
) -> Teacher:
    """Build the teacher that a run file names, in the space of the text encoder if it has one.

    Raises:
        InputError: a bad vocabulary, an encoder whose space the teacher does not share, or
            weights or a graph that cannot be had.
    """
    if isinstance(settings, DinoSettings):
        weights = data_root / settings.weights if settings.weights else None
        dino = load_dino(settings.model, weights, device=settings.device)
        cache = data_root / settings.cache if settings.cache else None
        return PatchTeacher(dino, size=settings.short_side, cache=cache)
    if isinstance(settings, OnnxFeatureSettings):
        return _build_onnx(settings, data_root)
    if encoder is None:
        raise InputError(
            'the teacher needs a text encoder',
            where=f'teacher kind: {settings.kind}',
            fix='set `text` in the settings of the run',
        )
    if isinstance(settings, ClipTeacherSettings):
        return ClipTeacher(
            _clip_encoder(encoder), short_side=settings.short_side, device=settings.device
        )
    path = find_vocabulary(settings.vocabulary, data_root)
    return LabelMapTeacher(
        load_settings(path, Vocabulary),
        encoder,
        ignore_classes=settings.ignore_classes,
        min_confidence=settings.min_confidence,
        mix_confidence=settings.mix_confidence,
    )


def _build_onnx(settings: OnnxFeatureSettings, data_root: Path) -> PatchTeacher:
    patch, size = settings.patch_size, settings.input_size
    network = OnnxNetwork(
        find_graph(settings.path, settings.package, data_root),
        tensor=settings.tensor,
        patch_size=patch,
        prefix_tokens=settings.prefix_tokens,
        mean=settings.mean,
        std=settings.std,
        size=(2 * patch, 3 * patch) if isinstance(size, int) else size,
        num_threads=settings.threads,
    )
    cache = data_root / settings.cache if settings.cache else None
    return PatchTeacher(network, size=size, cache=cache)


def find_vocabulary(path: Path, data_root: Path) -> Path:
    """Find a vocabulary: absolute, in the data root, or in the project's `config/` folder.

    Raises:
        InputError: it is in neither.
    """
    return find_config(path, data_root, 'the vocabulary')


def _clip_encoder(encoder: TextEncoder) -> OpenClipEncoder:
    if not isinstance(encoder, OpenClipEncoder):
        raise InputError(
            "the teacher's features and the words would lie in different spaces",
            where='teacher kind: clip',
            expected='a text encoder of kind: open_clip, whose image tower the teacher is',
            got=encoder.name,
            fix='set the text encoder to kind: open_clip, or the teacher to kind: label_maps',
        )
    return encoder
