# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Settings of a bag, and what presets say of the bags of common robots and converters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from reldistill_ros.cameras.extrinsics import Extrinsic
from reldistill_ros.cameras.tf_tree import MAX_GAP
from reldistill_ros.core.settings import Settings
from reldistill_ros.point_cloud import TimeUnit
from trainer.config_files import CONFIG_FOLDER
from trainer.datasets.sweeps import SweepRange, Sweeps

PRESET_FOLDER = CONFIG_FOLDER / 'topics'
OF_THE_NODE = 'node'  # the part of a preset that launch/segment.launch.py reads
Positive = Annotated[float, Field(gt=0)]


class RosbagSettings(Settings):
    """One drive. Topics that are not named are found by their types.

    Attributes:
        path: a bag (folder with `metadata.yaml`, or an `.mcap`, `.db3` or ROS 1 `.bag` file), a
            folder with bags in it, a pattern such as `drive/*.mcap`, or a list of these, which
            are read as one drive; relative to the data root.
        preset: name of a file in `config/topics` with values for keys that are not given here.
        intensity_max: largest raw intensity of the lidar's driver, often 1, 100 or 255; one for
            all lidars or one for each of `lidar_topics`.
        intensity: `field` where the clouds have an intensity; `absent` to take zeros where a
            cloud has none.
        label_maps: folder with the maps of a 2D network, one folder per camera in it, files
            named after the image's stamp in nanoseconds; relative to the data root.
        cameras: which cameras are read: the namespaces of their topics, `/` replaced by `_`;
            all where absent.
        sweeps: which sweeps are read, counted from 0 in order of time.
        lidar_topics: PointCloud2 with x, y, z. The first is the lidar frame and gives the
            sweeps their times; of the others the cloud nearest in time is added to it.
        label_topic: a PointCloud2 with the single field `label`, same stamps and sizes as the
            first lidar's; points of other lidars are unlabelled.
        label_info_topic: a String with the JSON `{"class_names": [...]}`; `label_info` beside
            the label topic where absent.
        image_topics: which image topic to take of a camera that has several.
        rectified_topics: image topics with rectified images whose names do not say so, as `rect`
            in `image_rect_color` does.
        calibrations: files of `camera_calibration`, relative to the data root, by the name of
            the camera, for cameras without a CameraInfo or with a wrong one.
        max_time_difference: between sweep and image, and between clouds of two lidars, seconds.
        extrinsics: where frames stand, before what /tf and /tf_static say of them.
        odometry_topic: a nav_msgs/Odometry with the motion of the car, instead of what /tf says
            of it; where absent, such a topic is looked for if /tf holds no motion.
        max_tf_gap: longest time between two poses to interpolate in, in seconds.
        deskew: move each point to where it is seen from at the sweep's stamp; the robot does not.
        time_unit: of the points' times where the driver departs from what is usual, see
            `reldistill_ros.point_cloud.read_times`.
    """

    format: Literal['rosbag']
    path: Path | tuple[Path, ...]
    preset: str | None = None
    intensity_max: Positive | tuple[Positive, ...] | None = None
    intensity: Literal['field', 'absent'] = 'field'
    label_maps: Path | None = None
    cameras: tuple[str, ...] | None = None
    sweeps: Sweeps = SweepRange()
    lidar_topics: tuple[str, ...] = ()
    label_topic: str | None = None
    label_info_topic: str | None = None
    image_topics: tuple[str, ...] = ()
    rectified_topics: tuple[str, ...] = ()
    calibrations: dict[str, Path] = Field(default_factory=dict)
    max_time_difference: float = Field(default=0.1, ge=0)
    extrinsics: tuple[Extrinsic, ...] = ()
    odometry_topic: str | None = None
    max_tf_gap: float = Field(default=MAX_GAP, ge=0)
    deskew: bool = False
    time_unit: TimeUnit | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The bags, relative to the data root."""
        return self.path if isinstance(self.path, tuple) else (self.path,)

    @property
    def name(self) -> str:
        """Name of the drive: of its bag, or of the first of them."""
        return self.paths[0].as_posix()

    # Not before validation: strict settings take a list for a tuple only straight from JSON.
    @model_validator(mode='after')
    def _fill_in_preset(self) -> RosbagSettings:
        preset = {} if self.preset is None else read_preset(self.preset)
        if not preset.keys() <= self.model_fields_set:
            given = self.model_dump(mode='json', exclude_unset=True)
            filled = self.model_validate_json(json.dumps({**preset, **given}), strict=True)
            self.__dict__.update(filled.__dict__)
            self.__pydantic_fields_set__.update(preset)
        return self

    @model_validator(mode='after')
    def _lists_fit_together(self) -> RosbagSettings:
        if self.intensity_max is None:
            raise ValueError('intensity_max is missing, and no preset says it')
        if not self.paths:
            raise ValueError('path must name at least one bag')
        if len(set(self.lidar_topics)) < len(self.lidar_topics):
            raise ValueError('lidar_topics: a topic stands twice')
        if isinstance(self.intensity_max, tuple) and len(self.intensity_max) != max(
            len(self.lidar_topics), 1
        ):
            raise ValueError('intensity_max must be one number, or one for each of lidar_topics')
        return self

    def intensity_max_of(self, number: int) -> float:
        """Largest raw intensity of the lidar with that position in `lidar_topics`."""
        assert self.intensity_max is not None  # or the validation would have said so
        if isinstance(self.intensity_max, tuple):
            return self.intensity_max[number]
        return self.intensity_max


def read_preset(name: str) -> dict[str, Any]:
    """Values of a preset for a drive.

    Raises:
        ValueError: no such preset.
    """
    known = {path.stem: path for path in PRESET_FOLDER.glob('*.yaml')}
    if name not in known:
        raise ValueError(f'preset must be one of {", ".join(sorted(known))}')
    values: dict[str, Any] = yaml.safe_load(known[name].read_text(encoding='utf-8'))
    values.pop(OF_THE_NODE, None)
    return values
