# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The parameters of the node: name, type, default, range and description.

`config/segment.yaml` repeats them for users; a test holds the two together.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from reldistill_ros.backends.backend import PRECISIONS, BackendName, Precision
from reldistill_ros.backends.cuda_device import has_cuda_device
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings, parse_settings
from reldistill_ros.core.unknown_keys import closest, did_you_mean
from reldistill_ros.node.cameras.settings import camera_parameters, check_camera_names
from reldistill_ros.node.declaring import declare, plain_value, release_given
from reldistill_ros.node.stamps import StampProblem

# what may change while the node runs; ROS has no empty list of text on the command line, so that
# [''] stands for it
DYNAMIC = frozenset({'prompts', 'prompt_templates', 'unknown_share', 'filter_classes'})
UNLABELLED = 'unlabelled'  # names the points without a class in `filter_classes`
AUTO = 'auto'
NodeBackend = Literal['auto', BackendName]


class NodeSettings(Settings):
    """The parameters; those that are not in `DYNAMIC` are read-only."""

    bundle: str = Field(
        default='',
        validate_default=True,
        description='Folder of the model bundle that trainer.export wrote. Must be given.',
    )
    bundle_root: str = Field(
        default='',
        description='Folder that the bundle must lie in, after following links; empty: anywhere.',
    )
    autostart: bool = Field(
        default=True,
        description='Configure and activate at the start; false waits for ros2 lifecycle.',
    )
    build_only: bool = Field(
        default=False,
        description='Compile or build what the engine keeps on disk, and end.',
    )
    backend: NodeBackend = Field(
        default='auto',
        description='What runs the student: tensorrt on a GPU, fused is the fastest on a CPU; auto '
        'is the fastest that can be opened, and takes the next one where it fails.',
    )
    precision: Precision = Field(
        default='float32',
        description='Of backend tensorrt, float16 or int8, and of fused, bfloat16, about twice as fast '
        'where the CPU has it; the manifest of the bundle tells how many labels they change. With '
        'backend auto, an engine that lacks it computes in float32.',
    )
    engine_file: str = Field(
        default='',
        description='Engine of backend tensorrt that tensorrt_build --out wrote; one that was '
        'built for something else is refused. Empty: that of the cache, built where it is absent.',
    )
    num_threads: int = Field(
        default=2, ge=1, le=256, description='Threads of the backend on the CPU.'
    )
    intensity_max: float = Field(
        default=0.0,
        ge=0.0,
        le=4294967295.0,
        description='Largest raw intensity of the sensor (1, 255, 65535, ...); '
        '0 takes the value of the bundle.',
    )
    max_points: int = Field(
        default=1_000_000,
        ge=1,
        le=100_000_000,
        description='A cloud of more points is rejected.',
    )
    prompts: tuple[str, ...] = Field(
        default=(),
        description="Classes: 'name' or 'name: word, other word'; empty: those of the bundle.",
    )
    prompt_templates: tuple[str, ...] = Field(
        default=(),
        description="Sentences with one {} for the word, such as 'a photo of a {}'; empty: those "
        'of the bundle.',
    )
    unknown_share: float = Field(
        default=0.0,
        ge=0.0,
        le=0.5,
        description='Share of the points of known classes that may be lost to have unknown things '
        'left unlabelled; 0 labels everything.',
    )
    filter_classes: tuple[str, ...] = Field(
        default=(),
        description='Classes whose points output/pointcloud/filtered leaves out; unlabelled is '
        'one, too.',
    )
    max_age: float = Field(
        default=0.0,
        ge=0.0,
        le=3600.0,
        description='Seconds; a sweep that is older when its turn comes is dropped; 0: never.',
    )
    drop_out_of_order: bool = Field(
        default=True,
        description='Drop a sweep with a stamp up to one second before that of the last one.',
    )
    drop_zero_stamp: bool = Field(default=False, description='Drop a sweep with stamp 0.')
    drop_future: bool = Field(
        default=False,
        description="Drop a sweep stamped half a second or more after the node's clock.",
    )
    max_failures: int = Field(
        default=3,
        ge=1,
        le=1000,
        description='Failed sweeps in a row after which the engine is opened anew.',
    )
    inference_timeout: float = Field(
        default=10.0,
        ge=0.1,
        le=3600.0,
        description='Seconds after which an inference counts as stuck and is given up.',
    )
    diagnostics_period: float = Field(
        default=1.0, ge=0.1, le=60.0, description='Seconds between two messages on /diagnostics.'
    )
    input_timeout: float = Field(
        default=3.0,
        ge=0.1,
        le=3600.0,
        description='Seconds without a cloud after which the diagnostics warn.',
    )
    cameras: tuple[str, ...] = Field(
        default=(),
        description='Names of cameras; each has parameters camera.NAME.* and topics '
        '~/input/NAME/image and ~/input/NAME/camera_info.',
    )
    fixed_frame: str = Field(
        default='',
        description='Frame that stands still while the robot moves, such as odom: images are '
        'moved to the time of the sweep; empty: they are taken as they are.',
    )
    extrinsics_file: str = Field(
        default='',
        description='YAML file with a list extrinsics of parent, child, translation and rotation: '
        'where frames stand, before what /tf says of them.',
    )
    max_fusion_time: float = Field(
        default=0.02,
        ge=0.0,
        le=60.0,
        description='Seconds that a sweep may spend on what cameras say of it; the cameras that '
        'do not fit are left out of it, in turn. One is always asked.',
    )
    image_threads: int = Field(
        default=1, ge=1, le=256, description="Threads of the bundle's image encoder."
    )
    max_image_pixels: int = Field(
        default=20_000_000,
        ge=1,
        le=1_000_000_000,
        description='An image of more pixels is rejected.',
    )
    image_timeout: float = Field(
        default=20.0,
        ge=0.1,
        le=3600.0,
        description='Seconds after which the work on an image counts as stuck and is given up.',
    )

    @field_validator('bundle')
    @classmethod
    def _is_given(cls, bundle: str) -> str:
        if not bundle:
            raise ValueError('name the folder of a model bundle: -p bundle:=/path/to/bundle')
        return bundle

    @field_validator('cameras')
    @classmethod
    def _are_camera_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        check_camera_names(names)
        return names


def declare_settings(node: Any) -> NodeSettings:
    """Declare the parameters on a ROS node and read them; warn of those that it does not have.

    Args:
        node: made with `automatically_declare_parameters_from_overrides`.

    Raises:
        InputError: a value is missing or wrong.
    """
    given = release_given(node)
    settings = declare(node, NodeSettings, dynamic=DYNAMIC)
    known = {*NodeSettings.model_fields, *camera_parameters(settings.cameras)}
    unknown = sorted({*given} - known)
    if unknown:
        # no error: a file for all nodes (`/**`) may hold parameters of others
        told = ', '.join(f'{name}{did_you_mean(closest(name, known))}' for name in unknown)
        node.get_logger().warning(
            f'ignored, as this node has no such parameters: {told} (all are in config/segment.yaml)'
        )
    return settings


def check_changes(settings: NodeSettings, changes: dict[str, Any]) -> NodeSettings:
    """The settings after some dynamic parameters have changed.

    Raises:
        InputError: a value is of the wrong type or out of its range.
    """
    values = settings.model_dump(mode='json') | {
        name: plain_value(value) for name, value in changes.items()
    }
    return parse_settings(values, NodeSettings, f'parameters {", ".join(sorted(changes))}')


def engines_of(settings: NodeSettings) -> tuple[str, ...]:
    """Names of the engines to try, the best one first; `tensorrt` only where there is a GPU."""
    if settings.backend != AUTO:
        return (settings.backend,)
    engines: tuple[str, ...] = get_args(BackendName)
    return engines if has_cuda_device() else tuple(e for e in engines if e != 'tensorrt')


def in_engine(settings: NodeSettings, engine: str) -> NodeSettings:
    """The settings to open an engine of the ladder with."""
    changes: dict[str, str] = {'backend': engine}
    if settings.backend == AUTO and settings.precision not in PRECISIONS[engine]:
        changes['precision'] = 'float32'
    if settings.backend == AUTO and engine != 'tensorrt':
        changes['engine_file'] = ''
    return settings.model_copy(update=changes)


def dropped_stamps(settings: NodeSettings) -> list[StampProblem]:
    """For which problems with its stamp a sweep is dropped."""
    chosen: dict[StampProblem, bool] = {
        'out_of_order': settings.drop_out_of_order,
        'zero_stamp': settings.drop_zero_stamp,
        'future': settings.drop_future,
    }
    return [problem for problem, is_dropped in chosen.items() if is_dropped]


def choose_intensity_max(parameter: float, of_bundle: float | None) -> float:
    """The sensor's largest raw intensity: the parameter's where it is positive, else the bundle's.

    Raises:
        InputError: neither says it.
    """
    chosen = parameter or of_bundle
    if not chosen:
        raise InputError(
            "the bundle does not know the sensor's largest intensity",
            where='parameter intensity_max',
            expected='1.0, 255.0, 65535.0 or another positive number',
            got=parameter,
            fix='set the parameter to the largest intensity that the lidar driver writes',
        )
    return chosen
