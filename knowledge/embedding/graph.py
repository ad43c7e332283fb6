"""multilingual-e5-small as an ONNX graph: one text in, its unit vector out, most of the work in 8 bits.

    input_ids (1, tokens) int64  ->  embedding (1, 384) float32

The graph is a BERT encoder (Devlin et al., 2019, arXiv:1810.04805) with mean pooling and L2 normalisation (multilingual
E5, Wang et al., 2024, arXiv:2402.05672), written node by node, since so it needs no torch and no exporter. What is
chosen here was measured by `python -m bench.embeddings` and its likes:

- Word embeddings stay in the 4 bits they came in, which is exact and small. Of the other weights each output channel
  has its own scale; they have 7 bits, since the products of 8 saturate on a CPU without VNNI, and the vectors are as
  good. Activations are quantised as they come, with one scale for a text; only before the last product of a layer each
  token is brought to the same range first, since a few tokens have far larger values there. It costs a tenth of the
  speed and takes the mean cosine to fp32 from 0.9965 to 0.9987.
- There is no attention mask and no batch: a text is computed alone, without padding. From 64 tokens on that is as fast
  as any batch, for less of it leaves the cache; and a vector does not depend on what was computed beside it.
- LayerNormalization after Add is several times faster than ONNX Runtime's fused SkipLayerNormalization on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from knowledge.embedding.container import BLOCK, Container, Floats, Quantised

if TYPE_CHECKING:
    from onnx import ModelProto

_HIGHEST = 63  # of a weight in 7 bits


def build(model: Container) -> ModelProto:
    from onnx import TensorProto, helper

    graph = _Graph()
    x = _embedded(graph, model)
    for layer in range(model.layers):
        x = _encoded(graph, model, f"l{layer}.", x)
    mean = graph.node("ReduceMean", [x, graph.weight("over_tokens", np.array([1], np.int64))], keepdims=0)
    graph.node("LpNormalization", [mean], name="embedding", axis=-1, p=2)
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "multilingual-e5-small",
            [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, model.hidden])],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)],
        ir_version=10,
    )


def _embedded(graph: _Graph, model: Container) -> str:
    """Word, position and type, summed and normalised: (1, tokens, hidden)."""
    from onnx import TensorProto

    words = model.quantised["emb.word"]
    halves = graph.four_bits("words", words.values)
    scales = graph.weight("words.scales", words.scales)
    word = graph.own("GatherBlockQuantized", [halves, "input_ids", scales], block_size=BLOCK, quantize_axis=1)
    word = graph.node("Cast", [word], to=TensorProto.FLOAT)
    positions = model.plain["emb.pos"].reshape(-1, model.hidden) + model.plain["emb.type"][: model.hidden]
    first = graph.weight("first", np.array([0], np.int64))
    length = graph.node("Shape", ["input_ids"], start=1, end=2)
    position = graph.node("Slice", [graph.weight("positions", positions), first, length, first])
    return _normalised(graph, model, "emb.ln", graph.node("Add", [word, position]))


def _encoded(graph: _Graph, model: Container, layer: str, x: str) -> str:
    """One layer: attention and the inner network, each added to what came in and normalised."""
    weight = {name: model.quantised[f"{layer}{name}.w"] for name in ("q", "k", "v", "ao", "fi", "fo")}
    bias = {name: model.plain[f"{layer}{name}.b"] for name in weight}
    together = np.concatenate([weight[name].floats() for name in "qkv"])
    qkv = _multiplied(graph, f"{layer}qkv", x, together, np.concatenate([bias[name] for name in "qkv"]))
    parts = graph.nodes_of("Split", [qkv], 3, axis=-1, num_outputs=3)
    attended = graph.own("MultiHeadAttention", parts, num_heads=model.heads)
    x = _added(graph, model, layer, "ao", "aln", x, attended, weight["ao"], bias["ao"])
    inner = _multiplied(graph, f"{layer}fi", x, weight["fi"].floats())
    inner = graph.own("BiasGelu", [inner, graph.weight(f"{layer}fi.b", bias["fi"])])
    return _added(graph, model, layer, "fo", "oln", x, inner, weight["fo"], bias["fo"])


def _added(
    graph: _Graph, model: Container, layer: str, name: str, norm: str, x: str, y: str, weight: Quantised, bias: Floats
) -> str:
    if name == "fo":
        peaks = graph.node("ReduceMax", [graph.node("Abs", [y]), graph.weight("over_values", np.array([-1], np.int64))])
        y = _multiplied(graph, f"{layer}{name}", graph.node("Div", [y, peaks]), weight.floats())
        y = graph.node("Add", [graph.node("Mul", [y, peaks]), graph.weight(f"{layer}{name}.b", bias)])
    else:
        y = _multiplied(graph, f"{layer}{name}", y, weight.floats(), bias)
    return _normalised(graph, model, f"{layer}{norm}", graph.node("Add", [x, y]))


def _normalised(graph: _Graph, model: Container, name: str, x: str) -> str:
    scale, shift = (graph.weight(f"{name}.{part}", model.plain[f"{name}.{part}"]) for part in "wb")
    return graph.node("LayerNormalization", [x, scale, shift], epsilon=model.epsilon, axis=-1)


def _multiplied(graph: _Graph, name: str, x: str, weight: Floats, bias: Floats | None = None) -> str:
    """x (1, tokens, inputs) times weight (outputs, inputs), in 8 bits."""
    scales = np.maximum(np.abs(weight).max(axis=1), 1e-12) / _HIGHEST
    rounded = np.rint(weight / scales[:, None]).astype(np.int8)
    inputs = [
        x,
        graph.weight(f"{name}.w", rounded.T),
        graph.weight(f"{name}.scales", scales.astype(np.float32)),
        graph.weight(f"{name}.zeros", np.zeros(len(scales), np.int8)),
    ]
    if bias is not None:
        inputs.append(graph.weight(f"{name}.b", bias))
    return graph.own("DynamicQuantizeMatMul", inputs)


class _Graph:
    """Nodes and weights as they come; a node is known by the name of what it gives."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def weight(self, name: str, values: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        if name not in (known.name for known in self.weights):
            self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def four_bits(self, name: str, values: npt.NDArray[np.int8]) -> str:
        """Two in a byte, the first in its lower half, as ONNX keeps them."""
        from onnx import TensorProto

        halves = (values.reshape(-1) & 0x0F).astype(np.uint8)
        packed = halves[0::2] | (halves[1::2] << 4)
        self.weights.append(
            TensorProto(name=name, data_type=TensorProto.INT4, dims=values.shape, raw_data=packed.tobytes())
        )
        return name

    def node(self, kind: str, inputs: Sequence[str], *, name: str = "", domain: str = "", **attributes: Any) -> str:
        return self.nodes_of(kind, inputs, 1, name=name, domain=domain, **attributes)[0]

    def own(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """An operator of ONNX Runtime's own."""
        return self.node(kind, inputs, domain="com.microsoft", **attributes)

    def nodes_of(
        self, kind: str, inputs: Sequence[str], outputs: int, *, name: str = "", domain: str = "", **attributes: Any
    ) -> list[str]:
        from onnx import helper

        name = name or f"{kind}.{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}.{part}" for part in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=name, domain=domain, **attributes))
        return names
