# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The parameters of the node: name, type, default, range and description.

`config/segment.yaml` repeats them for users; a test holds the two together.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import annotated_types
from pydantic import Field
from pydantic.fields import FieldInfo

from reldistill_ros.backends.backend import PRECISIONS, BackendName, Precision
from reldistill_ros.backends.cuda_device import has_cuda_device
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings, parse_settings
from reldistill_ros.node.stamps import StampProblem

# rclpy declares these for every node
PARAMETERS_OF_ROS = {'use_sim_time', 'start_type_description_service'}
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
        min_length=1,
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
        description='Of backend tensorrt, float16, and of fused, bfloat16, about twice as fast '
        'where the CPU has it; the manifest of the bundle tells how many labels they change. With '
        'backend auto, an engine that lacks it computes in float32.',
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


def declare_settings(node: Any) -> NodeSettings:
    """Declare the parameters on a ROS node and read them; warn of those that it does not have.

    Args:
        node: made with `automatically_declare_parameters_from_overrides`.

    Raises:
        InputError: a value is missing or wrong.
    """
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    where = f'parameters of {node.get_fully_qualified_name()}'
    unknown = _release_given(node)
    if unknown:
        # no error: a file for all nodes (`/**`) may hold parameters of others
        node.get_logger().warning(
            f'ignored, as this node has no such parameters: {", ".join(unknown)}; '
            f'it has {", ".join(NodeSettings.model_fields)}'
        )
    values = {}
    for name, field in NodeSettings.model_fields.items():
        try:
            _declare(node, name, field)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise InputError('a parameter is wrong', where=where, got=error) from error
        values[name] = plain_value(node.get_parameter(name).value)
    return parse_settings(values, NodeSettings, where)


def plain_value(value: Any) -> Any:
    """A parameter's value as settings take it: `['']` is the empty list."""
    if not isinstance(value, (list, tuple)):
        return value
    return [] if list(value) == [''] else list(value)


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
    return settings.model_copy(update=changes)


def dropped_stamps(settings: NodeSettings) -> list[StampProblem]:
    """For which problems with its stamp a sweep is dropped."""
    chosen: dict[StampProblem, bool] = {
        'out_of_order': settings.drop_out_of_order,
        'zero_stamp': settings.drop_zero_stamp,
        'future': settings.drop_future,
    }
    return [problem for problem, is_dropped in chosen.items() if is_dropped]


def _declare(node: Any, name: str, field: FieldInfo) -> None:
    """Declare one parameter; a list needs its type said, as an empty one has none."""
    from rclpy.parameter import Parameter

    descriptor = _descriptor(name, field)
    if field.default != ():
        node.declare_parameter(name, field.default, descriptor)
        return
    node.declare_parameter(name, [''], descriptor)
    if plain_value(node.get_parameter(name).value) == []:
        node.set_parameters([Parameter(name, Parameter.Type.STRING_ARRAY, [])])


def _release_given(node: Any) -> list[str]:
    """Undeclare what ROS declared by itself, so that it can be declared with its description.

    Returns:
        Names of the parameters that the node was given and does not have.
    """
    given = sorted(node.get_parameters_by_prefix('').keys() - PARAMETERS_OF_ROS)
    for name in given:
        node.undeclare_parameter(name)
    return [
        name
        for name in given
        if name not in NodeSettings.model_fields and not name.startswith('qos_overrides.')
    ]


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


def limits_of(field: FieldInfo) -> tuple[float, ...]:
    """Smallest and largest value of a number, empty where there are none."""
    low = [limit.ge for limit in field.metadata if isinstance(limit, annotated_types.Ge)]
    high = [limit.le for limit in field.metadata if isinstance(limit, annotated_types.Le)]
    return tuple(float(str(limit)) for limit in (*low, *high))


def _descriptor(name: str, field: FieldInfo) -> Any:
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    descriptor = ParameterDescriptor(name=name, description=field.description)
    descriptor.read_only = name not in DYNAMIC
    choices = get_args(field.annotation)
    if choices and str in map(type, choices):
        descriptor.additional_constraints = f'one of {", ".join(choices)}'
    limits = limits_of(field)
    if limits and field.annotation is int:
        low, high = map(int, limits)
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    elif limits:
        low_value, high_value = map(float, limits)
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=low_value, to_value=high_value, step=0.0)
        ]
    return descriptor
