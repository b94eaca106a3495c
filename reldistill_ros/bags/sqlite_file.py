# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A sqlite3 file of rosbag2, read row by row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reldistill_ros.bags.bag_file import HEAD, Position, decompress_message, topic_types
from reldistill_ros.core.errors import InputError


class SqliteFile:
    """A sqlite3 file; a position is the number of the row.

    Args:
        storage: its open reader of `rosbags`.
        packed: each message is compressed for itself.

    Raises:
        InputError: the recorder was killed and the file lacks what it had not yet moved there.
    """

    def __init__(self, storage: Any, packed: bool) -> None:
        self.path = Path(storage.path)
        self.topics = topic_types(storage.connections)
        self._storage, self._packed = storage, packed
        log = self.path.with_name(f'{self.path.name}-wal')
        if log.exists() and log.stat().st_size:
            raise InputError(
                'the recording was not closed: its last messages are in another file',
                where=log,
                fix=f"sqlite3 {self.path.name} 'PRAGMA wal_checkpoint(TRUNCATE)'",
            )

    def locate(self, topic: str) -> Iterator[tuple[int, Position]]:
        for number in (c.id for c in self._storage.connections if c.topic == topic):
            rows = self._storage.dbconn.execute(
                'SELECT timestamp, id FROM messages WHERE topic_id = ? ORDER BY id', (number,)
            )
            for log_ns, row in rows:
                yield log_ns, (row, 0)

    def head(self, topic: str, position: Position) -> bytes:
        if self._packed:
            return self.read(topic, position)[:HEAD]
        # a query would read the whole cloud to give its first bytes
        with self._storage.dbconn.blob_open(
            'main', 'messages', 'data', position[0], False
        ) as blob:
            return bytes(blob.read(min(HEAD, blob.length())))

    def read(self, topic: str, position: Position) -> bytes:
        rows = self._storage.dbconn.execute('SELECT data FROM messages WHERE id = ?', position[:1])
        message = bytes(next(rows)[0])
        return decompress_message(message) if self._packed else message

    def close(self) -> None:
        """Nothing: `rosbags` closes the file that it opened."""
