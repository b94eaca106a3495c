# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Settings of text encoders and of teachers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from reldistill_ros.core.settings import Settings
from trainer.teachers.grids import Rgb
from trainer.teachers.windows import WindowSettings

Device = Annotated[str, Field(pattern=r'^(cpu|cuda(:\d+)?)$')]
PackageName = Annotated[str, Field(pattern=r'^[A-Za-z_]\w*$')]
InputSize = Annotated[int, Field(gt=0)] | tuple[int, int]


class OpenClipSettings(Settings):
    """The text tower of CLIP or SigLIP; see `trainer.open_clip_text.load_open_clip`."""

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
    """Patch features of the CLIP model that is also the text encoder.

    Its image tower may be a ViT (read out as in MaskCLIP), a ConvNeXt or a SigLIP; see
    `trainer.teachers.clip.ClipNetwork`.

    Attributes:
        short_side: the image is scaled, its aspect ratio kept, until its shorter side has this
            many pixels: a multiple of the patch size. More is finer and slower.
        windows: see the scaled image through windows of the size that the tower was trained
            with; null to see it at once, with positions interpolated.
        key_smoothing: average patches whose keys are alike, as in MaskCLIP; ViT alone.
        denoise_below: classes of `vocabulary` whose probability stays below this all over an
            image are absent from it, and pixels nearest to them carry no supervision; 0.5 in
            MaskCLIP, 0 for no denoising.
        vocabulary: of the denoising; see `LabelMapSettings`.
        cache: folder to keep features in, absolute or relative to the data root; null for none.
            It serves unchanged images alone: `augment.crop: 1`, `augment.flip_image: false`.
    """

    kind: Literal['clip']
    short_side: int = Field(default=448, gt=0)
    windows: WindowSettings | None = None
    key_smoothing: bool = False
    denoise_below: float = Field(default=0.0, ge=0, lt=1)
    vocabulary: Path | None = None
    cache: Path | None = None
    device: Device = 'cpu'

    @model_validator(mode='after')
    def _denoising_has_words(self) -> ClipTeacherSettings:
        if (self.vocabulary is not None) != (self.denoise_below > 0):
            raise ValueError('denoise_below and the vocabulary of its classes belong together')
        return self


class DinoSettings(Settings):
    """A self-supervised vision transformer of timm, without words.

    Attributes:
        model: timm's name, such as `vit_small_patch14_dinov2.lvd142m` or
            `vit_small_patch16_dinov3.lvd1689m`.
        weights: safetensors file, absolute or relative to the data root; null for those that
            timm downloads.
        short_side: see `ClipTeacherSettings`.
        windows: likewise.
        cache: likewise.
    """

    kind: Literal['dino']
    model: str
    weights: Path | None = None
    short_side: int = Field(gt=0)
    windows: WindowSettings | None = None
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
        windows: see `ClipTeacherSettings`.
        threads: of one inference.
        cache: see `ClipTeacherSettings`.
    """

    kind: Literal['onnx_features']
    path: Path
    package: PackageName | None = None
    tensor: str
    input_size: InputSize
    patch_size: int = Field(gt=0)
    prefix_tokens: int = Field(default=1, ge=0)
    mean: Rgb
    std: Rgb
    windows: WindowSettings | None = None
    threads: int = Field(default=1, gt=0)
    cache: Path | None = None


class OnnxSegmentationSettings(Settings):
    """Classes of a 2D segmentation network, computed here and not read from maps on disk.

    Attributes:
        path: see `OnnxFeatureSettings`.
        package: likewise.
        tensor: name of the class scores (1, K, h, w); null for the graph's first output.
        output: whether the scores are logits or probabilities.
        vocabulary: the network's classes in the order of its channels; see `LabelMapSettings`.
        input_size: see `OnnxFeatureSettings`; sides are multiples of `multiple`.
        multiple: of pixels that the network asks for.
        cell: probabilities are averaged over squares of so many pixels of the output, and so
            kept: 1 is finest and largest.
        mean: of RGB from 0 to 1 that the weights were trained with.
        std: likewise.
        ignore_classes: classes that carry no supervision.
        min_confidence: pixels whose likeliest class is less likely carry no supervision.
        mix: the mean text embedding under all probabilities instead of the likeliest class's.
        threads: of one inference.
        cache: see `ClipTeacherSettings`.
    """

    kind: Literal['onnx_segmentation']
    path: Path
    package: PackageName | None = None
    tensor: str | None = None
    output: Literal['logits', 'probabilities'] = 'logits'
    vocabulary: Path
    input_size: InputSize
    multiple: int = Field(default=32, gt=0)
    cell: int = Field(default=4, gt=0)
    mean: Rgb
    std: Rgb
    ignore_classes: tuple[str, ...] = ()
    min_confidence: float = Field(default=0.0, ge=0, le=1)
    mix: bool = False
    threads: int = Field(default=1, gt=0)
    cache: Path | None = None


TextEncoderSettings = Annotated[
    OpenClipSettings | MinilmSettings | TableSettings, Field(discriminator='kind')
]
FeatureTeacherSettings = DinoSettings | OnnxFeatureSettings  # they know no words
OnnxSettings = OnnxFeatureSettings | OnnxSegmentationSettings
GridTeacherSettings = ClipTeacherSettings | DinoSettings | OnnxSettings  # they may be kept
VocabularyTeacherSettings = LabelMapSettings | ClipTeacherSettings | OnnxSegmentationSettings
TeacherSettings = Annotated[
    LabelMapSettings | GridTeacherSettings,
    Field(discriminator='kind'),
]
