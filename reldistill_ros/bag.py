# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Reading a ROS 2 bag (MCAP or sqlite3) without ROS, one message in memory at a time."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reldistill_ros.core.errors import InputError, import_extra

POINT_CLOUD = 'sensor_msgs/msg/PointCloud2'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
TF_MESSAGE = 'tf2_msgs/msg/TFMessage'
STRING = 'std_msgs/msg/String'
END_OF_STAMP = 12  # bytes of a serialised message


@dataclass(frozen=True, order=True)
class BagEntry:
    """Where a message stands in a bag.

    Attributes:
        stamp_ns: the header's stamp in nanoseconds.
        log_ns: the time at which it was recorded, in nanoseconds.
        topic: its topic.
    """

    stamp_ns: int
    log_ns: int
    topic: str


class Bag:
    """An open bag; made by `open_bag`."""

    def __init__(self, reader: Any, path: Path) -> None:
        self.path = path
        self._reader = reader

    @property
    def topics(self) -> dict[str, str]:
        """Type of the messages of each topic."""
        return {connection.topic: connection.msgtype for connection in self._reader.connections}

    def topics_of(self, message_type: str) -> tuple[str, ...]:
        """Topics of that type in alphabetical order."""
        return tuple(sorted(name for name, kind in self.topics.items() if kind == message_type))

    def only_topic(self, message_type: str, name: str | None = None) -> str:
        """The topic of that type: the named one, or the only one.

        Raises:
            InputError: no such topic, or several to choose from.
        """
        found = self.topics_of(message_type)
        if name is not None and name in found:
            return name
        if name is None and len(found) == 1:
            return found[0]
        raise InputError(
            f'the bag has {"several topics" if name is None and found else "no such topic"}',
            where=self.path,
            expected=f'{name or "one topic"} of type {message_type}',
            got=list(found) or 'none of that type',
            fix='name one of the topics',
        )

    def index(self, topic: str) -> list[BagEntry]:
        """All messages of a topic that begin with a header, sorted by stamp."""
        self._check_header(topic)
        return sorted(
            BagEntry(self._stamp_of(raw, topic), log_ns, topic)
            for log_ns, raw in self._raw_messages(topic)
        )

    def raw(self, entry: BagEntry) -> bytes:
        """The serialised message, as a ROS publisher takes it."""
        for _, raw in self._raw_messages(entry.topic, entry.log_ns, entry.log_ns + 1):
            if self._stamp_of(raw, entry.topic) == entry.stamp_ns:
                return raw
        raise InputError('the bag has no such message', where=self.path, got=entry)

    def read(self, entry: BagEntry) -> Any:
        """The message, with the attributes of the ROS message."""
        return self._deserialize(entry.topic, self.raw(entry))

    def messages(self, topic: str) -> Iterator[tuple[int, Any]]:
        """Log time in nanoseconds and message, in the order of recording."""
        for log_ns, raw in self._raw_messages(topic):
            yield log_ns, self._deserialize(topic, raw)

    def _raw_messages(
        self, topic: str, start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[int, bytes]]:
        connections = [c for c in self._reader.connections if c.topic == topic]
        if not connections:
            raise InputError(
                'the bag has no such topic', where=self.path, expected=topic, got=[*self.topics]
            )
        with _readable(self.path):
            for _, log_ns, raw in self._reader.messages(connections, start, stop):
                yield log_ns, bytes(raw)

    def _deserialize(self, topic: str, raw: bytes) -> Any:
        with _readable(self.path):
            return self._reader.deserialize(raw, self.topics[topic])

    def _stamp_of(self, raw: bytes, topic: str) -> int:
        """Stamp in nanoseconds of a serialised message that begins with a header."""
        if len(raw) < END_OF_STAMP:
            raise InputError(
                'a message ends before its stamp',
                where=f'{self.path}: {topic}',
                expected=f'at least {END_OF_STAMP} bytes',
                got=len(raw),
            )
        # four bytes say how it is serialised, the second's lowest bit being the byte order
        seconds, nanoseconds = struct.unpack_from('<iI' if raw[1] & 1 else '>iI', raw, 4)
        return int(seconds) * 1_000_000_000 + int(nanoseconds)

    def _check_header(self, topic: str) -> None:
        kind = self.topics.get(topic, '')
        fields = self._reader.typestore.fielddefs.get(kind, ((), ()))[1]
        if kind and (not fields or fields[0][0] != 'header'):
            raise InputError('messages of this type have no header', where=topic, got=kind)


@contextmanager
def open_bag(path: Path) -> Iterator[Bag]:
    """Open a bag: a folder with `metadata.yaml`, or one `.mcap` or `.db3` file.

    Raises:
        InputError: no such bag, or not readable.
    """
    anyreader = import_extra('rosbags.highlevel', 'replay')
    typesys = import_extra('rosbags.typesys', 'replay')
    if not path.exists():
        raise InputError('the bag does not exist', where=path, fix='give the folder of a bag')
    if path.suffix == '.bag':
        raise InputError(
            'this is a ROS 1 bag',
            where=path,
            expected='a ROS 2 bag',
            fix=f'rosbags-convert --src {path.name} --dst {path.stem}',
        )
    default_types = typesys.get_typestore(
        typesys.Stores.ROS2_JAZZY
    )  # for bags without definitions
    with _readable(path):
        reader = anyreader.AnyReader([path], default_typestore=default_types)
        reader.open()
    try:
        yield Bag(reader, path)
    finally:
        reader.close()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Tell what the reader found wrong with the bag."""
    errors = import_extra('rosbags.highlevel.anyreader', 'replay')
    try:
        yield
    except (errors.AnyReaderError, *errors.ReaderErrors, OSError) as error:
        raise InputError(
            'the bag cannot be read',
            where=path,
            expected='a folder with metadata.yaml, or an .mcap or .db3 file, that is complete',
            got=error,
            fix='an interrupted recording is mended by `ros2 bag reindex` or `mcap recover`',
        ) from error
