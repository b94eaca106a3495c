# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Cameras for the node in a test: one looks forward, its left half sees red, its right half blue.

Red is the first class, green the second, blue the third, and black is no opinion.
"""

from __future__ import annotations

import array
import io
import threading
from dataclasses import dataclass

import numpy as np
from fake_node import HEIGHTS, VOXEL, FakeSource, FakeWords, HeightLabeller
from geometry_msgs.msg import TransformStamped
from node_system import System, columns_of
from PIL import Image as Pillow
from ros_client import NODE, make_cloud
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from reldistill_ros.cameras.ensemble import CameraView, Ensemble, EnsembleSettings
from reldistill_ros.cameras.opinions import single_rows
from reldistill_ros.cameras.transforms import from_quaternion, invert
from reldistill_ros.cameras.visibility import PairingSettings, PinholeCamera, find_visible

HEIGHT, WIDTH = 48, 64
K = np.array([[40.0, 0, 32], [0, 40, 24], [0, 0, 1]])
FORWARD = (-0.5, 0.5, -0.5, 0.5)  # the optical axes in a frame with x forward and z up
POSE = (0.3, 0.1, -0.2)
EXTRINSICS = [*POSE, *FORWARD]
START = 1_000  # seconds


@dataclass
class ColourOpinions:
    image: np.ndarray
    num_prompts: int

    @property
    def table(self):
        cosines = np.zeros(
            (self.image.shape[0] * self.image.shape[1], self.num_prompts), np.float32
        )
        cosines[:, :3] = self.image.reshape(-1, 3) / np.float32(255)
        return cosines

    def at(self, pixels):
        columns, rows = np.rint(pixels).astype(int).T
        cells = rows * self.image.shape[1] + columns
        return single_rows(self.table, cells, self.table.max(axis=1)[cells])


class ColourEncoder:
    """An encoder that takes pixels for the class of their colour; may be blocked and broken."""

    def __init__(self):
        self.open = threading.Event()
        self.open.set()
        self.calls = 0
        self.error = None
        self.prompts = []  # with which opinions were asked for

    def encode(self, image):
        self.calls += 1
        if self.calls > 1:  # not at the warm-up
            self.open.wait(60)
            if self.error is not None:
                raise self.error
        return _Encoded(self, image)


class _Encoded:
    num_bytes, stretch = 1000, 1.0

    def __init__(self, encoder, image):
        self._encoder, self._image = encoder, image

    def opinions(self, prompts):
        self._encoder.prompts.append(prompts)
        return ColourOpinions(self._image, len(prompts))


def picture():
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, : WIDTH // 2, 0] = 255
    pixels[:, WIDTH // 2 :, 2] = 255
    return pixels


def stamped(message, seconds, frame='front_optical'):
    sec, nanosec = divmod(round(seconds * 1e9), 10**9)
    message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
    message.header.frame_id = frame
    return message


def raw(seconds=START, pixels=None, **changes):
    pixels = picture() if pixels is None else pixels
    height, width = pixels.shape[:2]
    values = {
        'height': height,
        'width': width,
        'encoding': 'rgb8',
        'step': 3 * width,
        'data': array.array('B', pixels.tobytes()),
        **changes,
    }
    return stamped(Image(**values), seconds)


def compressed(seconds=START, kind='PNG'):
    stream = io.BytesIO()
    Pillow.fromarray(picture()).save(stream, kind)
    data = array.array('B', stream.getvalue())
    return stamped(CompressedImage(format=kind.lower(), data=data), seconds)


def camera_info(seconds=START, **changes):
    values = {
        'height': HEIGHT,
        'width': WIDTH,
        'distortion_model': 'plumb_bob',
        'd': [0.0] * 5,
        'k': K.ravel(),
        'r': np.eye(3).ravel(),
        'p': np.insert(K.ravel(), [3, 6, 9], 0.0),
        **changes,
    }
    return stamped(CameraInfo(**values), seconds)


def transform(seconds, parent, child, translation, rotation=(0.0, 0.0, 0.0, 1.0)):
    message = stamped(TransformStamped(child_frame_id=child), seconds, parent)
    for axis, value in zip('xyz', translation):
        setattr(message.transform.translation, axis, float(value))
    for axis, value in zip('xyzw', rotation):
        setattr(message.transform.rotation, axis, float(value))
    return message


def scene(num=400):
    """Points in front, at all heights, x y z and intensity 0 to 255."""
    rng = np.random.default_rng(0)
    points = rng.uniform((3, -4, -1, 0), (12, 4, 3, 255), (num, 4)).astype(np.float32)
    points[5] = np.nan
    return points


def expected(points, *looks, words=HEIGHTS):
    """What the offline ensemble makes of the points.

    Args:
        points: as in the message.
        looks: (age, pose of the camera in the lidar frame) of each camera.
        words: vocabulary.
    """
    scaled = points / np.float32([1, 1, 1, 255])
    student = HeightLabeller()
    student.words = FakeWords(words, '')
    views = []
    for age, pose in looks:
        camera = PinholeCamera((HEIGHT, WIDTH), K, invert(pose))
        pairs = find_visible(scaled, camera, PairingSettings())
        found = ColourOpinions(picture(), len(words.prompts)).at(pairs.pixels)
        views.append(CameraView(pairs.point_indices, found.cosines, found.confidences, age))
    ensemble = Ensemble(EnsembleSettings(), words, HEIGHTS, VOXEL)
    return ensemble(scaled, student(scaled), views)


def forward_pose(translation=POSE):
    return from_quaternion(FORWARD, translation)


def check(answer, labels):
    """The cloud carries exactly these labels."""
    columns = columns_of(answer)
    np.testing.assert_array_equal(columns['class_id'], labels.class_ids)
    np.testing.assert_array_equal(columns['probability'], labels.probabilities)
    np.testing.assert_array_equal(columns['entropy'], labels.entropies)


def student(points):
    return HeightLabeller()(points / np.float32([1, 1, 1, 255]))


class CameraSystem(System):
    """A node with cameras, and publishers of their images."""

    def __init__(self, *parameters, names=('front',), eye=None, compressed=False, **options):
        self.eye = ColourEncoder() if eye is None else eye
        # on a loaded machine the usual limit would leave cameras out
        given = (f'cameras:=[{", ".join(names)}]', 'max_fusion_time:=60.0', *parameters)
        if compressed:
            given += tuple(f'camera.{name}.transport:=compressed' for name in names)
        self._labels = options.pop('labeller', None) or HeightLabeller()
        options.setdefault('source', lambda settings: self.make_source())
        kind = CompressedImage if compressed else Image
        super().__init__(*given, labeller=self._labels, **options)
        node = self.client.node
        self.images, self.infos = (
            {name: node.create_publisher(k, f'{NODE}/input/{name}/{end}', 5) for name in names}
            for k, end in ((kind, 'image'), (CameraInfo, 'camera_info'))
        )
        if options.get('autostart', True):
            self.connect_cameras()

    def release(self):
        """Let an encoder that was blocked go on."""
        if self.eye:
            self.eye.open.set()

    def make_source(self):
        return FakeSource(self._labels, image_encoder=lambda: self.eye or None)

    def connect_cameras(self):
        publishers = [*self.images.values(), *self.infos.values()]
        assert self.client.spin_until(
            lambda: all(p.get_subscription_count() > 0 for p in publishers)
        )

    def values(self, name='front'):
        """Key values of the last diagnostics of a camera."""
        status = self.status(name)
        return {entry.key: entry.value for entry in status.values} if status else {}

    def status(self, name='front'):
        if not self.client.diagnostics:
            return None
        found = self.client.diagnostics[-1].status
        return next((s for s in found if s.name == f'segment_node: camera {name}'), None)

    def wait_for(self, key, value, name='front', timeout=15.0):
        return self.client.spin_until(lambda: self.values(name).get(key) == str(value), timeout)

    def see(self, image, name='front', info=None):
        """Send CameraInfo and image, and wait until the image is encoded."""
        before = int(self.values(name).get('encoded', 0))
        self.send(image, name, info)
        assert self.wait_for('encoded', before + 1, name), self.values(name)

    def send(self, image, name='front', info=None):
        self.infos[name].publish(camera_info() if info is None else info)
        received = int(self.values(name).get('received', 0))
        self.client.spin_until(lambda: False, 0.05)  # the CameraInfo first
        self.images[name].publish(image)
        assert self.wait_for('received', received + 1, name)

    def label(self, points, seconds=START):
        """Send a cloud and return its labelled one."""
        received = self.client.received['segmentation']
        before = len(received)
        self.client.clouds.publish(stamped(make_cloud(points), seconds, 'lidar'))
        assert self.client.spin_until(lambda: len(received) > before)
        return received[-1]
