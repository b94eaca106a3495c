# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Writing a drive as a ROS 2 bag with label maps beside it; every stamp is also the log time.

Topics: `/lidar/points`, `/lidar/labels`, `/lidar/label_info`, `/<camera>/image/compressed`,
`/<camera>/camera_info`, `/tf` and `/tf_static`; frames: `lidar` and `<camera>_optical`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError, import_extra
from reldistill_ros.core.files import replacing
from trainer.datasets import bag_messages as messages
from trainer.datasets.bag_messages import ImageKind, Matrix

LIDAR_FRAME = 'lidar'
LABEL_INFO, STATIC_TRANSFORMS = '/lidar/label_info', '/tf_static'
LATCHED_ENDS = ('/label_info', '/tf_static')  # of topics that are kept for late subscribers


@dataclass(frozen=True)
class EncodedImage:
    """An image as it is written.

    Attributes:
        camera: its name, such as `camera_front`.
        stamp_ns: when it was taken.
        data: the file.
        kind: of the file.
        size: width, height in pixels.
        intrinsics: (3, 3).
    """

    camera: str
    stamp_ns: int
    data: bytes
    kind: ImageKind
    size: tuple[int, int]
    intrinsics: Matrix


def optical_frame(camera: str) -> str:
    """Name of the optical coordinate frame of a camera."""
    return f'{camera}_optical'


class BagWriter:
    """An open bag; a topic begins with its first message. Made by `new_drive`."""

    def __init__(self, writer: Any) -> None:
        self._writer, self._store = writer, messages.typestore()
        self._connections: dict[str, Any] = {}

    def write_points(
        self,
        stamp_ns: int,
        points: NDArray[np.float32],
        times: NDArray[np.float32],
        rings: NDArray[np.uint16] | None = None,
    ) -> None:
        """Write a sweep: (N, 4) x y z and raw intensity, (N,) seconds after the stamp, beams."""
        self.write_cloud('/lidar/points', stamp_ns, messages.point_records(points, times, rings))

    def write_labels(self, stamp_ns: int, labels: NDArray[np.uint8]) -> None:
        """Write the class (N,) of each point of the sweep of that stamp, 255 for none."""
        self.write_cloud('/lidar/labels', stamp_ns, messages.label_records(labels))

    def write_label_info(
        self, stamp_ns: int, names: Sequence[str], topic: str = LABEL_INFO
    ) -> None:
        """Write what the labels mean."""
        self.write(topic, stamp_ns, messages.label_info_message(self._store, names))

    def write_image(self, image: EncodedImage) -> None:
        """Write an image and the calibration of its camera."""
        store, stamp_ns = self._store, image.stamp_ns
        head = messages.header(store, stamp_ns, optical_frame(image.camera))
        picture = messages.image_message(store, head, image.data, image.kind)
        info = messages.camera_info_message(store, head, image.size, image.intrinsics)
        self.write(f'/{image.camera}/image/compressed', stamp_ns, picture)
        self.write(f'/{image.camera}/camera_info', stamp_ns, info)

    def write_transforms(
        self, topic: str, stamp_ns: int, transforms: Mapping[tuple[str, str], Matrix]
    ) -> None:
        """Write parent_from_child (4, 4) by the names of parent and child."""
        message = messages.transforms_message(self._store, stamp_ns, transforms)
        self.write(topic, stamp_ns, message)

    def write_cloud(
        self,
        topic: str,
        stamp_ns: int,
        records: NDArray[np.void],
        *,
        frame: str = LIDAR_FRAME,
        log_ns: int | None = None,
    ) -> None:
        """Write records (N,) as a PointCloud2, logged at its stamp if not at another time."""
        head = messages.header(self._store, stamp_ns, frame)
        message = messages.cloud_message(self._store, head, records)
        self.write(topic, stamp_ns if log_ns is None else log_ns, message)

    def write(self, topic: str, log_ns: int, message: Any) -> None:
        """Write a message of `rosbags`."""
        kind = type(message).__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self._store, offered_qos_profiles=[_qos(topic)]
            )
        data = self._store.serialize_cdr(message, kind)
        self._writer.write(self._connections[topic], log_ns, data)


@contextmanager
def new_drive(out: Path) -> Iterator[tuple[Path, BagWriter]]:
    """Open `out/bag` (MCAP) for writing; the folder gets its name only when all went well.

    Args:
        out: must not exist.

    Yields:
        The folder under its temporary name, for what else belongs to the drive, and the bag.

    Raises:
        InputError: `out` exists.
    """
    rosbag2 = import_extra('rosbags.rosbag2', 'train')
    if out.exists():
        raise InputError(
            'the output exists already', where=out, fix='remove it or choose another folder'
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as folder:
        folder.mkdir()
        mcap = rosbag2.StoragePlugin.MCAP
        with rosbag2.Writer(folder / 'bag', version=9, storage_plugin=mcap) as writer:
            yield folder, BagWriter(writer)


def _qos(topic: str) -> Any:
    """Reliable; kept for late subscribers where latched."""
    qos = import_extra('rosbags.interfaces', 'train')
    forever = qos.QosTime(sec=2147483647, nsec=4294967295)
    durability, latched = qos.QosDurability, topic.endswith(LATCHED_ENDS)
    return qos.Qos(
        history=qos.QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=qos.QosReliability.RELIABLE,
        durability=durability.TRANSIENT_LOCAL if latched else durability.VOLATILE,
        deadline=forever,
        lifespan=forever,
        liveliness=qos.QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=forever,
        avoid_ros_namespace_conventions=False,
    )
