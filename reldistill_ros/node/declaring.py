# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""From a settings class to parameters of a ROS node, with descriptions, ranges and choices."""

from __future__ import annotations

import array
from collections.abc import Collection
from typing import Any, get_args

import annotated_types
from pydantic.fields import FieldInfo

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import SettingsType, parse_settings

# rclpy declares these for every node
PARAMETERS_OF_ROS = {'use_sim_time', 'start_type_description_service'}


def release_given(node: Any) -> list[str]:
    """Undeclare what ROS declared by itself, so that it can be declared with its description.

    Returns:
        Names of the parameters that the node was given, without those about QoS.
    """
    given = sorted(node.get_parameters_by_prefix('').keys() - PARAMETERS_OF_ROS)
    for name in given:
        node.undeclare_parameter(name)
    return [name for name in given if not name.startswith('qos_overrides.')]


def declare(
    node: Any,
    settings_class: type[SettingsType],
    prefix: str = '',
    dynamic: Collection[str] = (),
) -> SettingsType:
    """Declare a parameter for each field of a settings class, and read them.

    Args:
        node: a ROS node.
        settings_class: every field with default and description.
        prefix: before the names of the fields.
        dynamic: names of fields that may change while the node runs.

    Raises:
        InputError: a value is missing or wrong.
    """
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    where = f'parameters {prefix}* of {node.get_fully_qualified_name()}'
    values = {}
    for name, field in settings_class.model_fields.items():
        descriptor = _descriptor(prefix + name, field)
        descriptor.read_only = name not in dynamic
        try:
            _declare(node, descriptor, field)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise InputError('a parameter is wrong', where=where, got=error) from error
        values[name] = plain_value(node.get_parameter(prefix + name).value)
    return parse_settings(values, settings_class, where)


def plain_value(value: Any) -> Any:
    """A parameter's value as settings take it: `['']` is the empty list."""
    if not isinstance(value, (list, tuple, array.array)):
        return value
    return [] if list(value) == [''] else list(value)


def limits_of(field: FieldInfo) -> tuple[float, ...]:
    """Smallest and largest value of a number, empty where there are none."""
    low = [limit.ge for limit in field.metadata if isinstance(limit, annotated_types.Ge)]
    high = [limit.le for limit in field.metadata if isinstance(limit, annotated_types.Le)]
    return tuple(float(str(limit)) for limit in (*low, *high))


def _declare(node: Any, descriptor: Any, field: FieldInfo) -> None:
    """Declare one parameter; a list needs its type said, as an empty one has none."""
    from rclpy.parameter import Parameter

    name = descriptor.name
    if field.default != ():
        node.declare_parameter(name, field.default, descriptor)
        return
    node.declare_parameter(name, [''], descriptor)
    if plain_value(node.get_parameter(name).value) == []:
        node.set_parameters([Parameter(name, Parameter.Type.STRING_ARRAY, [])])


def _descriptor(name: str, field: FieldInfo) -> Any:
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    descriptor = ParameterDescriptor(name=name, description=field.description)
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
