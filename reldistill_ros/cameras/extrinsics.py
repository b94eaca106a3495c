# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Where coordinate frames stand by hand: one form for a drive's settings and for the node."""

from __future__ import annotations

from pathlib import Path

from pydantic import model_validator

from reldistill_ros.core.settings import Settings, load_settings

Quaternion = tuple[float, float, float, float]


class Extrinsic(Settings):
    """Where one coordinate frame stands in another, as in `static_transform_publisher`.

    Attributes:
        parent: name of the frame that it stands in.
        child: name of the frame.
        translation: x y z in metres.
        rotation: quaternion x y z w.
    """

    parent: str
    child: str
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation: Quaternion = (0.0, 0.0, 0.0, 1.0)

    @model_validator(mode='after')
    def _is_a_rotation(self) -> Extrinsic:
        if not is_rotation(self.rotation):
            raise ValueError('rotation must be a quaternion x y z w of length 1')
        return self


class _File(Settings):
    """A file of them; a drive's settings have the same key."""

    extrinsics: tuple[Extrinsic, ...]


def is_rotation(xyzw: tuple[float, ...]) -> bool:
    """Whether a quaternion has length 1, as far as people write it down."""
    return 0.99 < sum(number**2 for number in xyzw) < 1.01


def read_extrinsics(path: Path) -> tuple[Extrinsic, ...]:
    """Read a YAML file with a list `extrinsics`.

    Raises:
        InputError: no such file, or not valid.
    """
    return load_settings(path, _File).extrinsics
