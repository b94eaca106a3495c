# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The ROS side of the cameras: images, calibrations and /tf come in, overlays go out."""

from __future__ import annotations

import array
import importlib.util
import io
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from reldistill_ros.core.errors import import_extra
from reldistill_ros.node.cameras.camera import Camera
from reldistill_ros.node.subscription import BEST_EFFORT

RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
# publishers that are reliable fit too
INFO = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
TF = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
TF_STATIC = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
JPEG_QUALITY = 85
NO_TF = 'tf2_msgs is not installed: give the extrinsics of the cameras by parameters'
OnTransforms = Callable[[Sequence[Any], bool], None]


class CameraInputs:
    """Subscriptions to the cameras and to the coordinate frames.

    Attributes:
        images: the subscription to the images of each camera by its name.
        problem: what hinders the coordinate frames from coming in, empty where nothing does.

    Args:
        node: that listens.
        cameras: whose images they are.
        on_image: called with each image.
        on_transforms: called with transforms and whether they are static; None where nobody
            needs them.

    Raises:
        RuntimeError: ROS does not subscribe; nothing of it is left then.
    """

    def __init__(
        self,
        node: Any,
        cameras: Sequence[Camera],
        *,
        on_image: Callable[[Camera, Any], None],
        on_transforms: OnTransforms | None,
    ) -> None:
        self._node = node
        self.problem = ''
        with ExitStack() as self._created:
            self.images = {camera.name: self._listen(camera, on_image) for camera in cameras}
            for camera in cameras:
                if not camera.settings.calibration:
                    topic = f'~/input/{camera.name}/camera_info'
                    self._create(CameraInfo, topic, camera.take_info, INFO)
            if on_transforms is not None:
                self._listen_to_frames(on_transforms)
            self._created = self._created.pop_all()

    def destroy(self) -> None:
        """Listen no more."""
        self._created.close()

    def _listen(self, camera: Camera, on_image: Callable[[Camera, Any], None]) -> Any:
        kind = Image if camera.settings.transport == 'raw' else CompressedImage
        topic = f'~/input/{camera.name}/image'
        return self._create(kind, topic, lambda message: on_image(camera, message), BEST_EFFORT)

    def _listen_to_frames(self, on_transforms: OnTransforms) -> None:
        if importlib.util.find_spec('tf2_msgs') is None:  # the wheels do not have it
            self.problem = NO_TF
            return
        from tf2_msgs.msg import TFMessage

        for topic, qos, is_static in (('/tf', TF, False), ('/tf_static', TF_STATIC, True)):

            def take(message: Any, is_static: bool = is_static) -> None:
                on_transforms(message.transforms, is_static)

            self._create(TFMessage, topic, take, qos)

    def _create(
        self, kind: Any, topic: str, callback: Callable[[Any], None], qos: QoSProfile
    ) -> Any:
        overrides = QoSOverridingOptions.with_default_policies()
        subscription = self._node.create_subscription(
            kind, topic, callback, qos, qos_overriding_options=overrides
        )
        self._created.callback(self._node.destroy_subscription, subscription)
        return subscription


class OverlayPublishers:
    """Publishers on `~/output/NAME/overlay`, and `.../compressed` below it.

    Args:
        node: whose topics they are.
        names: of the cameras.

    Raises:
        RuntimeError: ROS does not create a topic; none is left then.
    """

    def __init__(self, node: Any, names: Sequence[str]) -> None:
        self._node = node
        self._publishers: dict[tuple[str, Any], Any] = {}
        with ExitStack() as on_failure:
            on_failure.callback(self.destroy)
            for name in names:
                self._create(name, Image, f'~/output/{name}/overlay')
                self._create(name, CompressedImage, f'~/output/{name}/overlay/compressed')
            on_failure.pop_all()

    def are_wanted(self, camera: str) -> bool:
        """Whether anybody listens to the overlays of a camera."""
        return any(self._is_wanted(camera, kind) for kind in (Image, CompressedImage))

    def publish(self, camera: str, header: Any, picture: NDArray[np.uint8]) -> None:
        """Publish an overlay (H, W, 3) RGB in the forms that somebody listens to."""
        for kind, make in ((Image, raw_message), (CompressedImage, jpeg_message)):
            if self._is_wanted(camera, kind):
                self._publishers[camera, kind].publish(make(header, picture))

    def destroy(self) -> None:
        """Remove the topics."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)

    def _create(self, name: str, kind: Any, topic: str) -> None:
        overrides = QoSOverridingOptions.with_default_policies()
        self._publishers[name, kind] = self._node.create_publisher(
            kind, topic, RELIABLE, qos_overriding_options=overrides
        )

    def _is_wanted(self, camera: str, kind: Any) -> bool:
        """Also False when ROS has ended."""
        publisher = self._publishers[camera, kind]
        return bool(self._node.context.ok() and publisher.get_subscription_count() > 0)


def raw_message(header: Any, picture: NDArray[np.uint8]) -> Image:
    """Image of (H, W, 3) RGB."""
    height, width = picture.shape[:2]
    return Image(
        header=header,
        height=height,
        width=width,
        encoding='rgb8',
        step=3 * width,
        # bytes would be checked one by one in older versions of ROS
        data=array.array('B', picture.tobytes()),
    )


def jpeg_message(header: Any, picture: NDArray[np.uint8]) -> CompressedImage:
    """CompressedImage with a JPEG of (H, W, 3) RGB."""
    pillow = import_extra('PIL.Image', 'cameras')
    stream = io.BytesIO()
    pillow.fromarray(picture).save(stream, 'JPEG', quality=JPEG_QUALITY)
    data = array.array('B', stream.getvalue())
    return CompressedImage(header=header, format='rgb8; jpeg compressed bgr8', data=data)
