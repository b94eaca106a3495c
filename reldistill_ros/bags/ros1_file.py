# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A file of ROS 1 (https://wiki.ros.org/Bags/Format/2.0), read as one of ROS 2."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from reldistill_ros.bags.bag_file import HEAD, Position, topic_types
from reldistill_ros.core.errors import InputError, import_extra


class Ros1File:
    """A ROS 1 file, its messages as those of ROS 2; a position is as in `McapFile`.

    Args:
        reader: its open reader of `rosbags`.
        source: message types of the file.
        target: message types of ROS 2.
    """

    def __init__(self, reader: Any, source: Any, target: Any) -> None:
        converter = import_extra('rosbags.convert.converter', 'replay')
        self.path = Path(reader.path)
        self._reader, self._source, self._target = reader, source, target
        self._kinds = topic_types(reader.connections)
        renamed = converter.STATIC_MSGTYPE_RENAMES
        self.topics = {topic: renamed.get(kind, kind) for topic, kind in self._kinds.items()}
        self._cache: dict[str, object] = {}
        self._migrate = converter.migrate_bytes
        self._format = import_extra('rosbags.rosbag1.reader', 'replay')
        self._unpacked: tuple[int, Any] = (-1, None)  # the chunk that was read last

    def locate(self, topic: str) -> Iterator[tuple[int, Position]]:
        connections = (c.id for c in self._reader.connections if c.topic == topic)
        entries = (entry for number in connections for entry in self._reader.indexes[number])
        for entry in sorted(entries, key=lambda entry: (entry.chunk_pos, entry.offset)):
            yield entry.time, (entry.chunk_pos, entry.offset)

    def head(self, topic: str, position: Position) -> bytes:
        # a header is number, seconds, nanoseconds, without the four bytes of ROS 2 before it
        stamp = self._raw(position)[4:HEAD]
        return b'\x00\x01\x00\x00' + stamp if len(stamp) == 8 else stamp

    def read(self, topic: str, position: Position) -> bytes:
        if self.topics[topic] not in self._target.fielddefs:
            raise InputError(
                'the message has no counterpart in ROS 2',
                where=f'{self.path}: {topic}',
                got=self.topics[topic],
            )
        raw, kinds = self._raw(position), (self._kinds[topic], self.topics[topic])
        stores = self._source, self._target
        return bytes(self._migrate(*stores, *kinds, self._cache, raw, src_is2=False, dst_is2=True))

    def close(self) -> None:
        """Nothing: `rosbags` closes the file that it opened."""

    def _raw(self, position: Position) -> bytes:
        """The message as ROS 1 serialises it."""
        start, offset = position
        if self._unpacked[0] != start:
            chunk = self._reader.chunks[start]
            self._reader.bio.seek(chunk.datapos)
            packed = self._format.read_bytes(self._reader.bio, chunk.datasize)
            self._unpacked = start, BytesIO(chunk.decompressor(packed))
        data = self._unpacked[1]
        data.seek(offset)
        record = self._format.Header.read(data)
        while record.get_uint8('op') == self._format.RecordType.CONNECTION:
            data.seek(self._format.read_uint32(data), os.SEEK_CUR)
            record = self._format.Header.read(data)
        return bytes(self._format.read_bytes(data, self._format.read_uint32(data)))
