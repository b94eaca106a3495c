# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The student's backbone in our own CPU engine: the fastest one that pip alone can install."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from reldistill_ros.backends.backend import Precision
from reldistill_ros.backends.fused_steps import (
    fill_layer,
    fill_pairs,
    pack_bfloat16_weights,
    pack_weights,
    thread_team,
    to_bfloat16,
)
from reldistill_ros.backends.fused_tiles import STEP
from reldistill_ros.backends.micro_kernels import HAS_BFLOAT16
from reldistill_ros.backends.tile_pairs import TilePairs, level_pairs
from reldistill_ros.core.bundle import STUDENT_WEIGHTS, Bundle
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import KernelMaps
from reldistill_ros.core.network import Convolution, Place, backbone_convolutions

Weights = dict[str, NDArray[np.float32]]

NORM_EPSILON = 1e-5  # of torch.nn.BatchNorm1d


class FusedBackend:
    """See `Backend`.

    Args:
        weights: the student's, with batch norm apart, by their names in `student.safetensors`.
        network: name of widths and depths.
        num_threads: of one inference.
        precision: of weights and features between the layers; sums are always float32.

    Raises:
        InputError: the CPU has no bfloat16 instructions.
    """

    def __init__(
        self, weights: Weights, network: str, num_threads: int, precision: Precision = 'float32'
    ) -> None:
        self._half = precision == 'bfloat16'
        if self._half and not HAS_BFLOAT16:
            raise InputError(
                'this CPU does not compute in bfloat16',
                expected='one with avx512_bf16, see lscpu',
                fix='set the precision to float32',
            )
        self._team = thread_team(num_threads)
        self._num_features = weights['backbone.stem1.kernel'].shape[1]
        padded = self._num_features + (self._num_features % 2 if self._half else 0)
        self._layers = backbone_convolutions(network, padded)
        self._kernels = [_pack(weights, layer, self._half) for layer in self._layers]
        self._steps = _static_steps(self._layers, self._kernels)
        self._arena = np.empty(0, np.uint16 if self._half else np.float32)
        self._lock = threading.Lock()

    @classmethod
    def from_bundle(
        cls, bundle: Bundle, num_threads: int, precision: Precision = 'float32'
    ) -> FusedBackend:
        """Load a bundle's weights."""
        weights = load_file(bundle.path / STUDENT_WEIGHTS)
        return cls(weights, bundle.manifest.student.network, num_threads, precision)

    def __call__(self, feats: NDArray[np.float32], maps: KernelMaps) -> NDArray[np.float32]:
        expected = (maps[0].num_voxels, self._num_features)
        if feats.shape != expected:
            raise InputError(
                'the features do not fit the maps or the student',
                expected=expected,
                got=feats.shape,
            )
        pairs = level_pairs(maps)
        features = np.empty((len(feats), self._layers[-1].c_out), np.float32)
        with self._lock:  # the buffers serve one sweep at a time
            buffers = self._lay_out(feats, [level.num_voxels for level in maps])
            steps = self._sweep_steps(pairs, buffers, features)
            self._team.run_steps(steps, self._arena.dtype)
        return features

    def _lay_out(self, feats: NDArray[np.float32], sizes: list[int]) -> dict[str, int]:
        """Address of every buffer; the memory is kept from sweep to sweep and only grows."""
        lengths = {'input': sizes[0] * self._layers[0].c_in}
        for layer in self._layers:
            length = sizes[layer.target_level] * layer.target.stride
            lengths[layer.target.buffer] = max(lengths.get(layer.target.buffer, 0), length)
        starts = np.cumsum([0, *lengths.values()])
        if len(self._arena) < starts[-1]:
            self._arena = np.empty(starts[-1], self._arena.dtype)
        rows = self._arena[: starts[1]].reshape(sizes[0], self._layers[0].c_in)
        rows[:, feats.shape[1] :] = 0
        rows[:, : feats.shape[1]] = to_bfloat16(feats) if self._half else feats
        addresses = self._arena.ctypes.data + starts * self._arena.itemsize
        return dict(zip(lengths, addresses.tolist()))

    def _sweep_steps(
        self,
        pairs: dict[tuple[str, int], TilePairs],
        buffers: dict[str, int],
        features: NDArray[np.float32],
    ) -> NDArray[Any]:
        """The steps with this sweep's sizes and addresses."""
        steps = self._steps.copy()
        for step, layer in zip(steps, self._layers):
            fill_pairs(step, pairs[layer.kind, layer.level])
            for name in ('source', 'target', 'residual'):
                place: Place | None = getattr(layer, name)
                if place:
                    step[name] = buffers[place.buffer] + place.column * self._arena.itemsize
        steps[-1]['target'] = features.ctypes.data
        steps[-1]['target_stride'] = features.shape[1]
        return steps


def _static_steps(
    layers: tuple[Convolution, ...], kernels: list[tuple[NDArray[Any], NDArray[Any]]]
) -> NDArray[Any]:
    """What is the same in every sweep."""
    steps = np.zeros(len(layers), STEP)
    for step, layer, (kernel, bias) in zip(steps, layers, kernels):
        fill_layer(step, kernel, bias)
        step['relu'] = layer.relu
        step['source_stride'] = layer.source.stride
        step['target_stride'] = layer.target.stride
        step['residual_stride'] = layer.residual.stride if layer.residual else 0
    steps[-1]['float_target'] = True
    return steps


def _pack(
    weights: Weights, layer: Convolution, half: bool
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Kernel and bias of a layer as the engine reads them, batch norm folded.

    See `core.student.fold_batch_norm`; a `linear` kernel gets one offset, missing input channels
    get zeros.
    """
    prefix = f'backbone.{layer.name}'
    norm = {
        name: weights[f'{prefix}.norm.{name}'].astype(np.float64)
        for name in ('weight', 'bias', 'running_mean', 'running_var')
    }
    scale = norm['weight'] / np.sqrt(norm['running_var'] + NORM_EPSILON)
    scaled = weights[f'{prefix}.kernel'] * scale
    scaled = scaled.reshape(-1, *scaled.shape[-2:])
    missing = layer.c_in - scaled.shape[1]
    kernel = np.pad(scaled, ((0, 0), (0, missing), (0, 0))).astype(np.float32)
    bias = (norm['bias'] - norm['running_mean'] * scale).astype(np.float32)
    return (pack_bfloat16_weights if half else pack_weights)(kernel), bias
