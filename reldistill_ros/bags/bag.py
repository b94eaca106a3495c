# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Reading bags (MCAP, sqlite3, ROS 1) without ROS, one message in memory at a time.

Many files may make one drive: the parts of a split recording, or recordings of several computers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reldistill_ros.bags.bag_file import HEAD, BagFile, Position, readable
from reldistill_ros.bags.bag_order import check_clock, check_files
from reldistill_ros.bags.find_bags import find_bags
from reldistill_ros.bags.foxglove_file import FoxgloveFile, is_foxglove
from reldistill_ros.bags.mcap_file import McapFile
from reldistill_ros.bags.ros1_file import Ros1File
from reldistill_ros.bags.sqlite_file import SqliteFile
from reldistill_ros.core.errors import InputError, import_extra

POINT_CLOUD = 'sensor_msgs/msg/PointCloud2'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
TF_MESSAGE = 'tf2_msgs/msg/TFMessage'
STRING = 'std_msgs/msg/String'


@dataclass(frozen=True, order=True, slots=True)
class BagEntry:
    """Where a message stands in a bag.

    Attributes:
        stamp_ns: the header's stamp in nanoseconds.
        log_ns: the time at which it was recorded, in nanoseconds.
        topic: its topic.
        file: which of the files, counted from 0.
        position: where in the file.
    """

    stamp_ns: int
    log_ns: int
    topic: str
    file: int
    position: Position


class Bag:
    """An open bag; made by `open_bag`.

    Args:
        files: at least one.
        typestore: the message types of `rosbags`.
        path: the bag, for errors.

    Raises:
        InputError: a topic has another type in another file.
    """

    def __init__(self, files: Sequence[BagFile], typestore: Any, path: Path) -> None:
        self.path = path
        self.topics: dict[str, str] = {}
        self._files, self._typestore = files, typestore
        for file in files:
            for topic, kind in file.topics.items():
                if self.topics.setdefault(topic, kind) != kind:
                    raise InputError(
                        'a topic has messages of two types',
                        where=f'{file.path}: {topic}',
                        expected=self.topics[topic],
                        got=kind,
                        fix='give only files of one drive',
                    )

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
        """All messages of a topic that begin with a header, sorted by stamp.

        Raises:
            InputError: no such topic, no header, the clock jumped back, or the files are of
                two drives.
        """
        self._check_header(topic)
        parts: list[list[BagEntry]] = []
        for number, file in self._files_of(topic):
            with readable(self.path):
                found = [
                    BagEntry(
                        self._stamp_of(file.head(topic, position), topic),
                        log_ns,
                        topic,
                        number,
                        position,
                    )
                    for log_ns, position in file.locate(topic)
                ]
            check_clock([entry.stamp_ns for entry in found], f'{file.path}: {topic}')
            parts.append(found)
        stamps = [[entry.stamp_ns for entry in part] for part in parts]
        check_files(stamps, f'{self.path}: {topic}')
        return sorted(entry for part in parts for entry in part)

    def entries(self, topic: str) -> list[BagEntry]:
        """All messages of a topic, stamped with the time at which they were recorded."""
        with readable(self.path):
            return [
                BagEntry(log_ns, log_ns, topic, number, position)
                for number, file in self._files_of(topic)
                for log_ns, position in file.locate(topic)
            ]

    def raw(self, entry: BagEntry) -> bytes:
        """The serialised message, as a ROS 2 publisher takes it."""
        with readable(self.path):
            return self._files[entry.file].read(entry.topic, entry.position)

    def read(self, entry: BagEntry) -> Any:
        """The message, with the attributes of the ROS 2 message."""
        return self._deserialize(entry.topic, self.raw(entry))

    def serialise(self, topic: str, message: Any) -> bytes:
        """What a ROS 2 publisher takes of a message of `read`."""
        return bytes(self._typestore.serialize_cdr(message, self.topics[topic]))

    def messages(self, topic: str) -> Iterator[tuple[int, Any]]:
        """Log time in nanoseconds and message, file by file in the order of recording."""
        for _, file in self._files_of(topic):
            with readable(self.path):
                for log_ns, position in file.locate(topic):
                    yield log_ns, self._deserialize(topic, file.read(topic, position))

    def log_times(self, topic: str) -> list[int]:
        """When each message was recorded, in nanoseconds, file by file; reads no message."""
        with readable(self.path):
            return [
                log_ns for _, file in self._files_of(topic) for log_ns, _ in file.locate(topic)
            ]

    def _files_of(self, topic: str) -> list[tuple[int, BagFile]]:
        found = [(number, file) for number, file in enumerate(self._files) if topic in file.topics]
        if not found:
            raise InputError(
                'the bag has no such topic', where=self.path, expected=topic, got=[*self.topics]
            )
        return found

    def _deserialize(self, topic: str, raw: bytes) -> Any:
        kind = self.topics[topic]
        if kind not in self._typestore.fielddefs:
            raise InputError(
                'the bag does not say what its messages look like',
                where=f'{self.path}: {topic}',
                got=kind,
            )
        with readable(self.path):
            return self._typestore.deserialize_cdr(raw, kind)

    def _stamp_of(self, head: bytes, topic: str) -> int:
        """Stamp in nanoseconds of a serialised message that begins with a header."""
        if len(head) < HEAD:
            raise InputError(
                'a message ends before its stamp',
                where=f'{self.path}: {topic}',
                expected=f'at least {HEAD} bytes',
                got=len(head),
            )
        # four bytes say how it is serialised, the second's lowest bit being the byte order
        seconds, nanoseconds = struct.unpack_from('<iI' if head[1] & 1 else '>iI', head, 4)
        return int(seconds) * 1_000_000_000 + int(nanoseconds)

    def _check_header(self, topic: str) -> None:
        kind = self.topics.get(topic, '')
        fields = self._typestore.fielddefs.get(kind, ((), ()))[1]
        if kind and (not fields or fields[0][0] != 'header'):
            raise InputError('messages of this type have no header', where=topic, got=kind)


def _wrap_files(reader: Any, target: Any) -> list[BagFile]:
    """The files of an open `AnyReader`.

    Args:
        reader: the reader.
        target: message types of ROS 2, for files of ROS 1.
    """
    if not reader.is2:
        return [Ros1File(file, reader.typestore, target) for file in reader.readers]
    sqlite = import_extra('rosbags.rosbag2.storage_sqlite3', 'replay').Sqlite3Reader
    found: list[BagFile] = []
    for bag in reader.readers:
        packed = bag.compression_mode == 'message'
        for storage in getattr(bag.storage, 'storages', [bag.storage]):
            kind = SqliteFile if isinstance(storage, sqlite) else McapFile
            found.append(kind(storage, packed))
    return found


@contextmanager
def open_bag(*paths: Path) -> Iterator[Bag]:
    """Open one bag or many as one drive, see `find_bags`.

    Raises:
        InputError: no such bag, not readable, or of ROS 1 and ROS 2 at once.
    """
    anyreader = import_extra('rosbags.highlevel', 'replay')
    typesys = import_extra('rosbags.typesys', 'replay')
    bags = find_bags(paths)
    if len({(bag.suffix == '.bag', is_foxglove(bag)) for bag in bags}) > 1:
        raise InputError(
            'bags of ROS 1, of ROS 2 and of Foxglove cannot be one drive',
            got=list(map(str, bags)),
        )
    ros2 = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)  # for bags without definitions
    with ExitStack() as stack:
        files: list[BagFile] = []
        if is_foxglove(bags[0]):
            files, types = [FoxgloveFile(bag, ros2) for bag in bags], ros2
        else:
            with readable(bags[0]):
                reader = anyreader.AnyReader(bags, default_typestore=ros2)
                stack.enter_context(reader)
                files, types = _wrap_files(reader, ros2), _types_of(reader, ros2)
        for file in files:
            stack.callback(file.close)
        yield Bag(files, types, paths[0])


def _types_of(reader: Any, ros2: Any) -> Any:
    """Message types of a bag, and those of ROS 2 that it does not define itself."""
    if not reader.is2:
        return ros2
    known = reader.typestore.fielddefs
    if {connection.msgtype for connection in reader.connections} - known.keys():
        reader.typestore.register({k: v for k, v in ros2.fielddefs.items() if k not in known})
    return reader.typestore
