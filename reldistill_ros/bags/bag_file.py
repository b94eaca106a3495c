# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the files of a bag have in common, whatever their format.

`rosbags` opens the files and knows their indexes and types, but reads whole chunks and rows to
tell what is in them. Here a message's place is taken from the index and its stamp from its first
bytes: opening a long drive reads a small share of it. Bytes that are read in place are not checked
against the checksum of their chunk; those of a compressed chunk are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from reldistill_ros.core.errors import InputError, import_extra

HEAD = 12  # bytes of a serialised message up to the end of its header's stamp
Position = tuple[int, int]  # where a message stands in its file, known to its class alone


class BagFile(Protocol):
    """One file of a bag.

    Attributes:
        path: of the file.
        topics: type of the messages of each topic.
    """

    path: Path
    topics: dict[str, str]

    def locate(self, topic: str) -> Iterator[tuple[int, Position]]:
        """Log time in nanoseconds and place of each message, in the order of the file."""

    def head(self, topic: str, position: Position) -> bytes:
        """The first `HEAD` bytes of the message as ROS 2 serialises it, less if it is shorter."""

    def read(self, topic: str, position: Position) -> bytes:
        """The message as ROS 2 serialises it."""

    def close(self) -> None:
        """Close what this object opened."""


def topic_types(connections: Any) -> dict[str, str]:
    """Type of the messages of each topic of the connections of `rosbags`."""
    return {connection.topic: connection.msgtype for connection in connections}


def decompress_message(message: bytes) -> bytes:
    """A message that is compressed for itself."""
    zstd = import_extra('rosbags.rosbag2.reader', 'replay').zstd
    return bytes(zstd.decompress(message))


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Tell what the reader found wrong with the bag."""
    errors = import_extra('rosbags.highlevel.anyreader', 'replay')
    sqlite = import_extra('apsw', 'replay')
    zstd = import_extra('rosbags.rosbag2.reader', 'replay').zstd
    try:
        yield
    except (
        errors.AnyReaderError,
        *errors.ReaderErrors,
        errors.SerdeError,
        sqlite.Error,
        zstd.ZstdError,
        EOFError,
        OSError,
    ) as error:
        raise InputError(
            'the bag cannot be read',
            where=path,
            expected='a folder with metadata.yaml, or an .mcap, .db3 or .bag file, complete',
            got=error,
            fix='an interrupted recording is mended by `ros2 bag reindex`, `mcap recover` or '
            '`rosbag reindex`',
        ) from error
