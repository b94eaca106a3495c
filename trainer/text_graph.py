# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Text towers as ONNX graphs with 16-bit weights: token ids to embeddings."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from reldistill_ros.core.errors import import_extra
from trainer.onnx_graph import IR_VERSION, OPSET

LARGEST_BATCH = 4096
# Smaller tensors are biases and norms: they save nothing, and keep their 32 bits.
SMALLEST_HALF = 4096


class SentenceTower(nn.Module):
    """A BERT whose token features are averaged: Reimers and Gurevych 2019, section 3."""

    takes_mask = True
    any_length = True

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids (B, L) and which of them count, to (B, C)."""
        out = self.bert(input_ids=input_ids, attention_mask=attention_mask)
        weights = attention_mask.unsqueeze(-1).to(out.last_hidden_state.dtype)
        mean: Tensor = (out.last_hidden_state * weights).sum(dim=1) / weights.sum(dim=1)
        return mean


class CausalTower(nn.Module):
    """CLIP's text tower, of any length: what follows the end token cannot be seen from there."""

    takes_mask = False
    any_length = True

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, input_ids: Tensor) -> Tensor:
        """Token ids (B, L) to (B, C)."""
        clip, length = self.clip, input_ids.shape[1]
        x = clip.token_embedding(input_ids) + clip.positional_embedding[:length]  # (B, L, W)
        x = clip.transformer(x, attn_mask=clip.attn_mask[:length, :length])
        end = input_ids.argmax(dim=-1)  # the end token has the highest number
        x = clip.ln_final(x)[torch.arange(x.shape[0], device=x.device), end]
        projection = clip.text_projection
        embeddings: Tensor = projection(x) if isinstance(projection, nn.Module) else x @ projection
        return embeddings


class WholeTower(nn.Module):
    """Any text tower of open_clip at its full context length."""

    takes_mask = False
    any_length = False

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, input_ids: Tensor) -> Tensor:
        """Token ids (B, L) to (B, C)."""
        embeddings: Tensor = self.clip.encode_text(input_ids)
        return embeddings


Tower = SentenceTower | CausalTower | WholeTower


def sentence_tower(model: Any) -> SentenceTower:
    """The tower of a model of `sentence_transformers` that averages."""
    return SentenceTower(model[0].model)


def causal_tower(clip: Any) -> CausalTower | None:
    """The tower of a CLIP that reads from left to right; None for any other."""
    causal = (
        getattr(clip, 'text_pool_type', None) == 'argmax'
        and getattr(clip, 'attn_mask', None) is not None
        and getattr(clip, 'text_projection', None) is not None
    )
    return CausalTower(clip) if causal else None


def whole_tower(clip: Any) -> WholeTower:
    """The tower of any model of open_clip."""
    return WholeTower(clip)


def write_text_graph(
    tower: Tower, path: Path, *, context_length: int, device: str = 'cpu'
) -> None:
    """Write the graph: `input_ids` (B, L) and for some `attention_mask` to `embeddings` (B, C).

    Args:
        tower: in evaluation mode.
        path: file to write.
        context_length: the length L, or the longest one where the tower takes any.
        device: where the tower is.
    """
    ir = import_extra('onnx_ir', 'train')
    length = min(8, context_length) if tower.any_length else context_length
    names = ['input_ids', 'attention_mask'][: 1 + tower.takes_mask]
    inputs = tuple(torch.ones(3, length, dtype=torch.int64, device=device) for _ in names)
    shape: dict[int, object] = {0: Dim('batch', min=1, max=LARGEST_BATCH)}
    if tower.any_length:
        shape[1] = Dim('length', min=2, max=context_length)
    model = export_in_16_bits(
        tower, inputs, names, 'embeddings', dynamic_shapes=tuple(shape for _ in names)
    )
    ir.save(model, path)


def export_in_16_bits(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    input_names: Sequence[str],
    output_name: str,
    *,
    dynamic_shapes: tuple[object, ...] | None = None,
) -> Any:
    """A network as a model of `onnx_ir`, its large weights in 16 bits.

    Args:
        network: without training behaviour afterwards.
        inputs: an example of each input.
        input_names: of the inputs.
        output_name: of the only output.
        dynamic_shapes: of the inputs, as `torch.onnx.export` takes them.
    """
    import_extra('onnxscript', 'train')
    ir = import_extra('onnx_ir', 'train')
    with warnings.catch_warnings(), redirect_stdout(StringIO()), torch.no_grad():
        warnings.simplefilter('ignore')  # the exporter's own deprecations
        program = torch.onnx.export(
            network.eval(),
            inputs,
            input_names=list(input_names),
            output_names=[output_name],
            dynamic_shapes=dynamic_shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    halve_weights(program.model, ir)
    program.model.ir_version = IR_VERSION
    return program.model


def halve_weights(model: Any, ir: Any) -> None:
    """Store large weights in 16 bits; engines cast them back once, when they load the graph."""
    graph = model.graph
    first = graph[0]
    for name, weight in list(graph.initializers.items()):
        tensor = weight.const_value
        if tensor.dtype != ir.DataType.FLOAT or tensor.size < SMALLEST_HALF:
            continue
        half = ir.tensor(tensor.numpy().astype(np.float16), name=f'{name}_half')
        stored = ir.Value(
            name=half.name, shape=half.shape, type=ir.TensorType(half.dtype), const_value=half
        )
        cast = ir.node('Cast', [stored], {'to': ir.DataType.FLOAT.value})
        cast.outputs[0].name = f'{name}_float'
        graph.insert_before(first, cast)
        ir.convenience.replace_all_uses_with(weight, cast.outputs[0])
        del graph.initializers[name]
        graph.register_initializer(stored)
