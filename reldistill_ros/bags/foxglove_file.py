# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""An MCAP file with Foxglove's protobuf messages, such as `nuscenes2mcap` writes it.

It is read as a file of a ROS 2 bag: every message is converted when it is asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reldistill_ros.bags.bag_file import Position
from reldistill_ros.bags.foxglove_messages import ROS_TYPES, convert, stamp_of
from reldistill_ros.bags.mcap_file import McapFile
from reldistill_ros.core.errors import InputError, import_extra

MAGIC = b'\x89MCAP0\r\n'
ROS2_PROFILE = 'ros2'
HEADER_START = struct.Struct('<8sBQI')  # magic, record, its length, length of the profile
LITTLE_ENDIAN = b'\x00\x01\x00\x00'


@dataclass(frozen=True)
class _Connection:
    """What `McapFile` asks of a channel."""

    id: int
    topic: str
    msgtype: str


@dataclass(frozen=True)
class _Storage:
    """What `McapFile` asks of a file; a file without chunks is refused before."""

    path: Path
    connections: tuple[_Connection, ...]
    chunks: list[Any]


class FoxgloveFile:
    """An open file. Implements `BagFile`.

    Args:
        path: of the file.
        typestore: the message types of `rosbags`.

    Raises:
        InputError: no complete MCAP file.
    """

    def __init__(self, path: Path, typestore: Any) -> None:
        self.path = path
        self._typestore = typestore
        summary = _read_summary(path)
        self._schemas = {
            channel.topic: summary.schemas[channel.schema_id]
            for channel in summary.channels.values()
            if channel.schema_id in summary.schemas  # channels of JSON may have none
        }
        connections = tuple(
            _Connection(channel.id, channel.topic, self._kind(channel.topic))
            for channel in summary.channels.values()
        )
        self._file = McapFile(_Storage(path, connections, summary.chunk_indexes), packed=False)
        self.topics = self._file.topics
        self._decoders = import_extra('mcap_protobuf.decoder', 'foxglove').DecoderFactory()

    def locate(self, topic: str) -> Iterator[tuple[int, Position]]:
        return self._file.locate(topic)

    def head(self, topic: str, position: Position) -> bytes:
        return LITTLE_ENDIAN + struct.pack('<iI', *stamp_of(self._decode(topic, position)))

    def read(self, topic: str, position: Position) -> bytes:
        kind = self._schemas[topic].name
        message = convert(self._decode(topic, position), kind, self._typestore)
        return bytes(self._typestore.serialize_cdr(message, ROS_TYPES[kind]))

    def close(self) -> None:
        self._file.close()

    def _kind(self, topic: str) -> str:
        """Type of the messages of a topic in ROS 2, or the name of their schema."""
        schema = self._schemas.get(topic)
        if schema is None:
            return ''
        is_protobuf = schema.encoding == 'protobuf'
        return str(ROS_TYPES.get(schema.name, schema.name) if is_protobuf else schema.name)

    def _decode(self, topic: str, position: Position) -> Any:
        """The message of protobuf."""
        protobuf = import_extra('google.protobuf.message', 'foxglove')
        schema = self._schemas.get(topic)
        decode = self._decoders.decoder_for('protobuf', schema)
        if schema is None or schema.name not in ROS_TYPES or decode is None:
            raise InputError(
                'messages of this type are not read',
                where=f'{self.path}: {topic}',
                expected=list(ROS_TYPES),
                got=schema and schema.name,
            )
        try:
            return decode(self._file.read(topic, position))
        except protobuf.DecodeError as error:
            raise InputError(
                'a message cannot be decoded', where=f'{self.path}: {topic}', got=error
            ) from error


def is_foxglove(path: Path) -> bool:
    """Whether a file is an MCAP file of something else than ROS 2."""
    if path.suffix != '.mcap' or not path.is_file():
        return False
    with path.open('rb') as file:
        start = file.read(HEADER_START.size)
        if len(start) < HEADER_START.size or not start.startswith(MAGIC):
            return False
        return file.read(HEADER_START.unpack(start)[-1]) != ROS2_PROFILE.encode()


def _read_summary(path: Path) -> Any:
    """Channels, schemas and index of a file."""
    mcap = import_extra('mcap.reader', 'foxglove')
    exceptions = import_extra('mcap.exceptions', 'foxglove')
    try:
        with path.open('rb') as file:
            summary = mcap.make_reader(file).get_summary()
    except (exceptions.McapError, struct.error, EOFError, OSError) as error:
        raise _incomplete(path, error) from error
    if summary is None or not summary.chunk_indexes:
        raise _incomplete(path, 'no index')
    return summary


def _incomplete(path: Path, got: object) -> InputError:
    return InputError(
        'the MCAP file cannot be read',
        where=path,
        expected='a complete file with an index of its chunks',
        got=got,
        fix='mend it with `mcap recover`',
    )
