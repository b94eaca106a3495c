# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Label a recording: `python -m trainer.label_bag BAG --bundle BUNDLE --out DIR`, without ROS.

Writes `DIR/bag` (MCAP) with the labelled and the coloured clouds that the node would publish, under
its topics and with their stamps, with the class names and the coordinate frames: open it in RViz or
Foxglove, or play it beside BAG. It takes 40 bytes a point.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from reldistill_ros.bags.bag import TF_MESSAGE, Bag, open_bag
from reldistill_ros.bags.bag_topics import find_lidar_topics
from reldistill_ros.core.errors import run_command
from reldistill_ros.labelled_cloud import UNLABELLED_COLOR, encode_xyzcpe, encode_xyzrgb
from reldistill_ros.labeller import Labeller
from reldistill_ros.node.parameters import choose_intensity_max
from reldistill_ros.point_cloud import read_points
from trainer.datasets.bag_writer import BagWriter, new_drive

NODE = '/segment_node'


def label_bag(bag: Bag, topic: str, labeller: Labeller, intensity_max: float, out: Path) -> int:
    """Label all clouds of a topic.

    Args:
        bag: an open bag.
        topic: of the clouds.
        labeller: of an open bundle.
        intensity_max: raw intensity of the lidar that counts as 1.
        out: new folder.

    Returns:
        How many clouds there were.

    Raises:
        InputError: `out` exists, or a cloud is malformed.
    """
    entries = bag.index(topic)
    colors = labeller.vocabulary.color_table(UNLABELLED_COLOR)
    output = f'{NODE}/output/pointcloud'
    with new_drive(out) as (_, writer):
        copy_frames(bag, writer)
        if entries:
            names = labeller.vocabulary.class_names
            writer.write_label_info(entries[0].log_ns, names, f'{NODE}/label_info')
        for entry in tqdm(entries, desc=out.name, unit='sweep'):
            cloud = bag.read(entry)
            points = read_points(cloud, intensity_max)
            found = labeller(points)
            labelled = encode_xyzcpe(points, found.class_ids, found.probabilities, found.entropies)
            colored = encode_xyzrgb(points, colors[found.class_ids])
            for name, records in (('segmentation', labelled), ('visualization', colored)):
                writer.write_cloud(
                    f'{output}/{name}',
                    entry.stamp_ns,
                    records,
                    frame=cloud.header.frame_id,
                    log_ns=entry.log_ns,
                )
    return len(entries)


def copy_frames(bag: Bag, writer: BagWriter) -> None:
    """Copy /tf and /tf_static."""
    for topic in bag.topics_of(TF_MESSAGE):
        for log_ns, message in bag.messages(topic):
            writer.write(topic, log_ns, message)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m trainer.label_bag', description=__doc__)
    parser.add_argument('bag', type=Path, nargs='+', help='a bag, or the files of one drive')
    parser.add_argument('--bundle', type=Path, required=True, help='folder of the model bundle')
    parser.add_argument('--out', type=Path, required=True, help='new folder for bag/')
    parser.add_argument('--topic', help='of the clouds (default: the only one with x, y, z)')
    parser.add_argument('--intensity-max', type=float, default=0.0, help='default: of the bundle')
    parser.add_argument('--num-threads', type=int, default=2)
    arguments = parser.parse_args()
    labeller = Labeller.from_bundle(arguments.bundle, num_threads=arguments.num_threads)
    intensity_max = choose_intensity_max(arguments.intensity_max, labeller.intensity_max)
    with open_bag(*arguments.bag) as bag:
        topic = find_lidar_topics(bag, arguments.topic, None).points
        num = label_bag(bag, topic, labeller, intensity_max, arguments.out)
    print(f'labelled {num} clouds of {topic}: {arguments.out / "bag"}')


if __name__ == '__main__':
    run_command(main)
