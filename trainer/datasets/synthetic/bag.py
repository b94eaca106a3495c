# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The bag: its topics, and one recorded sweep written to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import import_extra
from trainer.datasets.synthetic import messages
from trainer.datasets.synthetic.lidar import LidarSweep
from trainer.datasets.synthetic.rig import START_NS, Matrix, make_cameras, make_lidar


@dataclass(frozen=True)
class Recorded:
    """What a worker hands back for one sweep."""

    stamp_ns: int
    sweep: LidarSweep
    images: tuple[tuple[int, bytes], ...]  # stamp and JPEG, camera by camera
    poses: tuple[tuple[int, Matrix], ...]
    confusions: NDArray[np.int64]


class BagWriter:
    """The bag's topics."""

    def __init__(self, writer: Any, store: Any) -> None:
        self._writer, self._store = writer, store
        self._cameras = make_cameras()
        cloud, frames = 'sensor_msgs/msg/PointCloud2', 'tf2_msgs/msg/TFMessage'
        topics = {'/lidar/points': cloud, '/lidar/labels': cloud, '/tf': frames}
        latched = {'/lidar/label_info': 'std_msgs/msg/String', '/tf_static': frames}
        for camera in self._cameras:
            topics[f'/{camera.name}/image/compressed'] = 'sensor_msgs/msg/CompressedImage'
            topics[f'/{camera.name}/camera_info'] = 'sensor_msgs/msg/CameraInfo'
        self._connections = {
            topic: writer.add_connection(
                topic, kind, typestore=store, offered_qos_profiles=[_qos(topic in latched)]
            )
            for topic, kind in {**latched, **topics}.items()
        }

    def _write(self, topic: str, stamp_ns: int, message: Any) -> None:
        connection = self._connections[topic]
        data = self._store.serialize_cdr(message, connection.msgtype)
        self._writer.write(connection, stamp_ns, data)

    def write_start(self, beams: int) -> None:
        """Write what is said once: the meaning of labels, and where the sensors sit."""
        mountings = {'lidar': make_lidar(beams).base_from_lidar}
        mountings |= {f'{c.name}_optical': c.base_from_camera for c in self._cameras}
        static = messages.mountings_message(self._store, START_NS, mountings)
        self._write('/tf_static', START_NS, static)
        self._write('/lidar/label_info', START_NS, messages.label_info_message(self._store))

    def write_sweep(self, recorded: Recorded) -> None:
        """Write a sweep, its pictures and the poses at their stamps."""
        store, stamp_ns, sweep = self._store, recorded.stamp_ns, recorded.sweep
        for at, pose in recorded.poses:
            self._write('/tf', at, messages.pose_message(store, at, pose))
        self._write('/lidar/points', stamp_ns, messages.points_message(store, stamp_ns, sweep))
        self._write('/lidar/labels', stamp_ns, messages.labels_message(store, stamp_ns, sweep))
        for camera, (at, jpeg) in zip(self._cameras, recorded.images):
            image = messages.image_message(store, at, camera, jpeg)
            info = messages.camera_info_message(store, at, camera)
            self._write(f'/{camera.name}/image/compressed', at, image)
            self._write(f'/{camera.name}/camera_info', at, info)


def _qos(latched: bool) -> Any:
    """Reliable; kept for late subscribers where latched."""
    qos = import_extra('rosbags.interfaces', 'train')
    forever = qos.QosTime(sec=2147483647, nsec=4294967295)
    durability = qos.QosDurability
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
