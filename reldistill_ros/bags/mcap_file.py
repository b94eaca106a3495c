# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""An MCAP file, read in place (https://mcap.dev/spec)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reldistill_ros.bags.bag_file import HEAD, Position, decompress_message, topic_types
from reldistill_ros.core.errors import InputError, import_extra

# MCAP: every record is an operation code (1 byte), the length of what follows (8), and that
MESSAGE, CHUNK, MESSAGE_INDEX = 0x05, 0x06, 0x07
RECORD = struct.Struct('<BQ')
MESSAGE_HEAD = struct.Struct('<BQHIQQ')  # record, channel, sequence, log time, publish time
INDEX_HEAD = struct.Struct('<BQHI')  # record, channel, bytes of the entries
INDEX_ENTRY = struct.Struct('<QQ')  # log time, offset in the chunk
CHUNK_HEAD = 40  # bytes of a chunk's record before its data, besides the name of the compression


class McapFile:
    """An MCAP file; a position is where the chunk stands and where in it the message does.

    Args:
        storage: its open reader of `rosbags`.
        packed: each message is compressed for itself.

    Raises:
        InputError: the file lacks the index of its messages.
    """

    def __init__(self, storage: Any, packed: bool) -> None:
        self.path = Path(storage.path)
        self.topics = topic_types(storage.connections)
        self._storage, self._packed = storage, packed
        self._chunks = {chunk.chunk_start_offset: chunk for chunk in storage.chunks}
        # without a message, the time of the last one is 0
        if any(c.message_end_time and not c.message_index_offsets for c in storage.chunks):
            raise self._no_index()
        self._unpacked: tuple[int, bytes] = (-1, b'')  # the chunk that was read last
        self._file = os.open(self.path, os.O_RDONLY)

    def locate(self, topic: str) -> Iterator[tuple[int, Position]]:
        channels = {c.id for c in self._storage.connections if c.topic == topic}
        if not self._chunks:
            yield from self._scan(channels)
        for start, chunk in sorted(self._chunks.items()):
            found = []
            for channel in channels & chunk.message_index_offsets.keys():
                found += self._chunk_index(chunk.message_index_offsets[channel])
            for offset, log_ns in sorted(found):
                yield log_ns, (start, offset)

    def head(self, topic: str, position: Position) -> bytes:
        return self._message(position, None if self._packed else HEAD)[:HEAD]

    def read(self, topic: str, position: Position) -> bytes:
        return self._message(position, None)

    def close(self) -> None:
        os.close(self._file)

    def _scan(self, channels: set[int]) -> Iterator[tuple[int, Position]]:
        """Messages of a file without chunks, from record to record."""
        at, end = self._storage.data_start, self._storage.data_end
        while at < end:
            operation, length = RECORD.unpack(self._bytes(at, RECORD.size))
            if operation == CHUNK:
                raise self._no_index()
            if operation == MESSAGE:
                _, _, channel, _, log_ns, _ = MESSAGE_HEAD.unpack(
                    self._bytes(at, MESSAGE_HEAD.size)
                )
                if channel in channels:
                    yield log_ns, (0, at)
            at += RECORD.size + length

    def _no_index(self) -> InputError:
        return InputError(
            'the file has no index of its messages',
            where=self.path,
            fix='write one with `mcap recover` or `ros2 bag convert`',
        )

    def _chunk_index(self, at: int) -> list[tuple[int, int]]:
        """Offset and log time of the messages of one channel in one chunk."""
        operation, _, _, size = INDEX_HEAD.unpack(self._bytes(at, INDEX_HEAD.size))
        if operation != MESSAGE_INDEX:
            raise InputError('the index of the file leads astray', where=f'{self.path}: byte {at}')
        entries = INDEX_ENTRY.iter_unpack(self._bytes(at + INDEX_HEAD.size, size))
        return [(offset, log_ns) for log_ns, offset in entries]

    def _message(self, position: Position, most: int | None) -> bytes:
        """The message, or its first bytes."""
        start, offset = position
        if start == 0:
            data, at = None, offset
        elif self._chunks[start].compression:
            data, at = self._unpack(start), offset
        else:
            data, at = None, start + RECORD.size + CHUNK_HEAD + offset
        operation, length, *_ = MESSAGE_HEAD.unpack(self._bytes(at, MESSAGE_HEAD.size, data))
        if operation != MESSAGE:
            raise InputError('the index of the file leads astray', where=f'{self.path}: byte {at}')
        size = length + RECORD.size - MESSAGE_HEAD.size
        size = size if most is None else min(size, most)
        message = self._bytes(at + MESSAGE_HEAD.size, size, data)
        return decompress_message(message) if self._packed else message

    def _unpack(self, start: int) -> bytes:
        """Messages of a compressed chunk."""
        if self._unpacked[0] != start:
            chunk = self._chunks[start]
            head = RECORD.size + CHUNK_HEAD + len(chunk.compression)
            (crc,) = struct.unpack('<I', self._bytes(start + RECORD.size + 24, 4))
            packed = self._bytes(start + head, chunk.compressed_size)
            mcap = import_extra('rosbags.rosbag2.storage_mcap', 'replay')
            try:
                data = mcap.decompress(packed, chunk.compression, chunk.uncompressed_size, crc)
            except RuntimeError as error:  # what lz4 raises
                raise OSError(f'{self.path.name}: {error}') from error
            self._unpacked = start, data
        return self._unpacked[1]

    def _bytes(self, at: int, size: int, data: bytes | None = None) -> bytes:
        """Bytes of the file, or of an unpacked chunk of it."""
        found = os.pread(self._file, size, at) if data is None else data[at : at + size]
        if len(found) < size:
            raise EOFError(f'{self.path.name} ends within a message')
        return found
