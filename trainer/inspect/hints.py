# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What in a bag would hinder training, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trainer.datasets.rosbag_settings import RosbagSettings
from trainer.inspect.cameras import CameraFacts, pairs_per_sweep
from trainer.inspect.points import CloudFacts
from trainer.inspect.topics import MotionFacts, TopicFacts

FEW_SWEEPS = 200  # 20 s at 10 Hz
FEW_METRES = 50.0
FEW_PAIRS = 0.02  # share of the points
LATE_MS = 20.0  # a car at 15 m/s drives 30 cm in it
DARK = 25.0
SPARSE_CAMERA = 0.1  # share of the sweeps
LONG_GAP = 1.0  # seconds
NARROW_VIEW = 15.0  # degrees: less than most lenses


@dataclass(frozen=True)
class Hindrance:
    """Something to look at before training.

    Attributes:
        stops: whether training is not possible.
        what: what is wrong.
        fix: what to do.
    """

    stops: bool
    what: str
    fix: str


def hints_of_topics(topics: Sequence[TopicFacts]) -> Iterator[Hindrance]:
    """Gaps in what is used."""
    for topic in topics:
        gap = topic.rhythm.longest_gap
        if topic.use and gap is not None and gap > LONG_GAP and topic.rhythm.num_gaps:
            yield Hindrance(
                False,
                f'{topic.topic} pauses {topic.rhythm.num_gaps} times, for up to {gap:.1f} s',
                'record with `ros2 bag record --max-cache-size` on a faster disk; sweeps without '
                'an image or a pose are left out',
            )


def hints_of_points(facts: CloudFacts, settings: RosbagSettings) -> Iterator[Hindrance]:
    """Clouds that lack something, or whose intensities do not fit the settings."""
    if facts.share_usable < 0.5:
        yield Hindrance(
            False,
            f'{1 - facts.share_usable:.0%} of the points have no coordinates',
            'this is normal for organised clouds; they cost time only',
        )
    if facts.sweep_time == 0:
        yield Hindrance(
            False,
            'the points have no times of their own, or all the same one: a sweep cannot be freed '
            'from the motion of the car, which is one metre at 10 m/s and 10 sweeps a second',
            'let the driver write the times into a field `t` or `time`, and set `deskew: true`',
        )
    if facts.intensity is None:
        yield Hindrance(
            False,
            'the points have no intensity',
            'set `intensity: absent`, and leave `intensity` out of the input features',
        )
        return
    largest, suggested = settings.intensity_max_of(0), facts.intensity.suggested_max
    if facts.intensity.percentile_99 > largest or facts.intensity.largest < largest / 4:
        yield Hindrance(
            False,
            f'intensity_max is {largest:g}, but the intensities reach {facts.intensity.largest:g}',
            f'set `intensity_max: {suggested:g}`',
        )


def hints_of_motion(
    motion: MotionFacts, num_sweeps: int, cameras: Sequence[CameraFacts]
) -> Iterator[Hindrance]:
    """A drive that is short or whose motion is not known."""
    if num_sweeps < FEW_SWEEPS:
        yield Hindrance(
            False,
            f'the drive has only {num_sweeps} sweeps',
            'drive for some minutes, through all the places where the robot will work',
        )
    late = max((abs(o) for c in cameras for o in c.offset or ()), default=0.0)
    if motion.source is None:
        if late > LATE_MS:
            yield Hindrance(
                False,
                f'nothing says how the car moves, and images are up to {late:.0f} ms from sweeps',
                'record /tf from odom to base_link, or a nav_msgs/Odometry',
            )
        return
    if motion.distance < FEW_METRES:
        yield Hindrance(
            False,
            f'the car drives only {motion.distance:.0f} m: the sweeps are almost the same',
            'drive further',
        )


def hints_of_cameras(cameras: Sequence[CameraFacts], num_points: int) -> Iterator[Hindrance]:
    """Cameras that see nothing, or seldom, or late, or badly."""
    if not cameras:
        yield Hindrance(
            True,
            'there is no camera that can be used: nothing can be distilled',
            'record an Image or CompressedImage and the CameraInfo in its namespace',
        )
    for camera in cameras:
        yield from _hints_of_camera(camera)
    share = pairs_per_sweep(cameras) / max(num_points, 1)
    if any(camera.num_in_view for camera in cameras) and share < FEW_PAIRS:
        yield Hindrance(
            False,
            f'only {share:.1%} of the points have a pixel',
            'look at the overlays; add cameras, or a camera with a wider view',
        )


def _hints_of_camera(camera: CameraFacts) -> Iterator[Hindrance]:
    if camera.offset is None or camera.sweeps_without == 1:
        yield Hindrance(
            True,
            f'{camera.name}: no sweep has an image that is near in time and placed by /tf',
            'check that the clocks of lidar and camera are synchronised and that /tf is recorded; '
            f'or leave {camera.name} out of `cameras`',
        )
    elif camera.num_in_view == 0:
        yield Hindrance(
            True,
            f'{camera.name}: no point lies in the image',
            f'check the transform from the lidar to {camera.frame!r}, whose z axis must look '
            f'forward (REP 103), or leave {camera.name} out of `cameras`',
        )
    elif camera.sweeps_without > SPARSE_CAMERA:
        yield Hindrance(
            False,
            f'{camera.name}: {camera.sweeps_without:.0%} of the sweeps come without an image',
            'look at rates and gaps above, and at `max_time_difference` and `max_tf_gap`',
        )
    if camera.num_in_view and camera.brightness < DARK:
        yield Hindrance(
            False,
            f'{camera.name}: the images are almost black (mean {camera.brightness:g} of 255)',
            'record by day; of 16-bit images the upper byte is used: a driver that puts 12 bits '
            'into 16 must shift them up',
        )
    if 0 < camera.horizontal_view < NARROW_VIEW:
        yield Hindrance(
            False,
            f'{camera.name}: the view is only {camera.horizontal_view:g} degrees wide',
            'check K and P of the CameraInfo, which must fit the size of the images',
        )
