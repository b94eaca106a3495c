# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What a bundle holds besides the student: text encoder, image encoder, weights of the ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reldistill_ros.cameras.ensemble import ENSEMBLE, EnsembleSettings
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.files import write_json
from reldistill_ros.core.settings import load_settings
from trainer.datasets.sample import Dataset
from trainer.export_image import export_image
from trainer.export_text import export_text
from trainer.image_networks import (
    ImageTeacherSettings,
    build_image_network,
    first_images,
    image_teacher,
    usual_size,
)
from trainer.run import Run, TrainedRun
from trainer.teachers.settings import OnnxSegmentationSettings

MOST_IMAGES = 6  # that the image encoder is checked on
NAME_A_NETWORK = (
    'name the 2D network that made the class maps: --image-network FILE.yaml, with the keys of a '
    'teacher of kind onnx_segmentation'
)


@dataclass(frozen=True)
class Parts:
    """What is exported besides the student.

    Attributes:
        text_encoder: whether words can be typed at run time.
        image_network: what looks through the robot's cameras; None where nothing does.
        ensemble: weights of the 2D-3D ensemble; None for the usual ones.
        int8: whether TensorRT is given a graph in int8, too.
        engine: whether to build a TensorRT engine for the GPU of this machine.
    """

    text_encoder: bool = True
    image_network: ImageTeacherSettings | None = None
    ensemble: EnsembleSettings | None = None
    int8: bool = False
    engine: bool = False


ONLY_WORDS = Parts()


def choose_image_network(run: Run, named: Path | None) -> ImageTeacherSettings | None:
    """The named 2D network, or the run's own teacher; None where that is class maps in files.

    Args:
        run: whose teacher it is.
        named: YAML with the keys of a teacher of kind `onnx_segmentation`.

    Raises:
        InputError: no such file, or not such keys.
    """
    return load_settings(named, OnnxSegmentationSettings) if named else image_teacher(run)


def load_ensemble(path: Path, run: Run) -> EnsembleSettings:
    """Read weights that `python -m trainer.ensemble` fitted for a run.

    Raises:
        InputError: no such file, not valid, or of other classes.
    """
    settings = load_settings(path, EnsembleSettings)
    if settings.student and settings.student.class_names != run.vocabulary.class_names:
        raise InputError(
            'the ensemble was fitted with other classes than those of the run',
            where=path,
            expected=', '.join(run.vocabulary.class_names),
            got=', '.join(settings.student.class_names),
            fix=f'python -m trainer.ensemble {run.folder} --out DIR',
        )
    return settings


def check_parts(parts: Parts) -> None:
    """Refuse weights of an ensemble that has no cameras.

    Raises:
        InputError: the bundle would have no image encoder.
    """
    if parts.ensemble is not None and parts.image_network is None:
        raise InputError(
            'the bundle would hold the weights of an ensemble, but no image encoder',
            fix=NAME_A_NETWORK,
        )


def export_parts(
    trained: TrainedRun, parts: Parts, datasets: Sequence[Dataset], folder: Path
) -> dict[str, dict[str, float]]:
    """Write what is asked for into a bundle's folder.

    Returns:
        What `Manifest.parity` holds of the encoders.

    Raises:
        InputError: an encoder cannot be exported, or differs from the original.
    """
    parity = {}
    if parts.image_network is not None:
        parity['image'] = _export_image(trained, parts.image_network, datasets, folder)
    if parts.text_encoder:
        parity['text'] = export_text(trained.encoder, trained.run.vocabulary, folder)
    if parts.ensemble is not None:
        write_json(folder / ENSEMBLE, parts.ensemble.model_dump(mode='json'))
    return parity


def _export_image(
    trained: TrainedRun, settings: ImageTeacherSettings, datasets: Sequence[Dataset], folder: Path
) -> dict[str, float]:
    images = first_images(datasets)
    if not images:
        raise InputError(
            'no training drive has an image to check the image encoder on',
            where=trained.run.folder,
            fix='export with --without-image-encoder',
        )
    network = build_image_network(trained, settings, usual_size(images))
    return export_image(network, folder, [image.image for image in images[:MOST_IMAGES]])
