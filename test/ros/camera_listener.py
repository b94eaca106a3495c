# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Writes what comes on topics of cameras, one JSON line for each message, until it is stopped.

`camera_listener.py FILE TOPIC:TYPE ...`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import rclpy

from reldistill_ros.node.stamps import stamp_ns_of
from reldistill_ros.replay.player import message_type


def main():
    rclpy.init(args=[])
    node = rclpy.create_node('camera_listener')
    with Path(sys.argv[1]).open('w', buffering=1) as file:
        for word in sys.argv[2:]:
            topic, _, kind = word.partition(':')

            def note(message, topic=topic):
                data = bytes(message.data).hex() if hasattr(message, 'data') else ''
                file.write(json.dumps([topic, stamp_ns_of(message), data]) + '\n')

            node.create_subscription(message_type(kind), topic, note, 50)
        print('listening', flush=True)
        rclpy.spin(node)


if __name__ == '__main__':
    main()
