"""The strongest single-graph alternative: all layers in one ONNX graph, experts by `com.microsoft.MoE` or `QMoE`.

The operator supports only Top-K, so Top-P enters it as logits: log(weight), which is -inf where an expert was not
picked. With k = all experts and no renormalising, its softmax returns the weights over their sum, and the operator
skips an expert whose share is 0. The sum of the routed weights is multiplied in afterwards, because the null expert
takes its share. A row that picks only null has all logits -inf; the operator's comparisons are then false for every
expert and it launches none. That is undocumented, so the results are compared with ours (and it favours the
alternative).

Trunk nodes are the bundle's own, layer by layer. B rows · N tokens · C hidden · E experts · I intermediate size
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from unimoe_calibration.schemes import Engine, Scheme
from unimoe_calibration.weights import quantize_weight
from unimoe_runtime.backends.protocol import StepInputs
from unimoe_runtime.backends.trunk_form import TrunkForm
from unimoe_runtime.bundle.reader import Bundle, expert_name, trunk_name
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.model.rope import rotary

_SHARED_INPUTS = ("cos_BTF", "sin_BTF", "mask_B1QS", "write_index_B")
_CACHES = ("key_cache_BSX", "value_cache_BSX")
_BLOCK = 32  # inputs that share a scale in QMoE


class SingleGraph:
    """`generation.LanguageModel` over one session; inputs, outputs and caches are bound once, caches in place.

    `bits` 8 or 4 quantizes the experts' weights in blocks; they are then `com.microsoft.QMoE`.
    """

    def __init__(self, bundle: Bundle, name: str, capacity: int, *, bits: int | None = None) -> None:
        path = _write(bundle, name, bits)
        options = onnxruntime.SessionOptions()
        options.use_per_session_threads = False
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._config, self._capacity = bundle.model, capacity
        self._form = TrunkForm.of(bundle)
        embeddings = bundle.embeddings()
        self._text_VC, self._codec_KVC = embeddings.raw("text.weight"), embeddings.raw("codec.weight")
        self._codebooks_K = np.arange(self._config.num_codebooks)
        self._filled = 0
        self._caches: dict[str, Any] = {}

    def prefill(self, prompt: Prompt) -> None:
        rows, length = prompt.text_ids_BT.shape
        config = self._config
        shape = self._form.graph_shape(self._form.cache_shape(rows, self._capacity))
        self._caches = {
            f"{cache}.{layer}": onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))
            for layer in range(config.num_layers)
            for cache in _CACHES
        }
        self._valid_BS = np.zeros((rows, self._capacity), bool)
        self._valid_BS[:, :length] = prompt.mask_BT
        causal_TS = np.arange(self._capacity)[None, :] <= np.arange(length)[:, None]
        self._filled = 0
        inputs = self._inputs(self._text_VC[prompt.text_ids_BT], prompt.positions, self._valid_BS[:, None] & causal_TS)
        binding, _ = self._bind(inputs)
        self._session.run_with_iobinding(binding)
        self._filled = length
        self._step = self._inputs(np.zeros((rows, 1, config.hidden_size)), np.zeros((rows, 1)), self._valid_BS[:, None])
        self._binding, self._logits_BKV = self._bind(self._step)

    def step(self, codes_BK: NDArray[np.int64], position_B: NDArray[np.float32]) -> NDArray[np.float32]:
        self._valid_BS[:, self._filled] = True
        hidden_BC = self._codec_KVC[self._codebooks_K, codes_BK].sum(axis=1, dtype=np.float32)
        np.copyto(self._step["hidden_BTC"], hidden_BC[:, None])
        self._form.write(
            self._step, self._step_inputs(hidden_BC[:, None], position_B[:, None], self._valid_BS[:, None])
        )
        self._session.run_with_iobinding(self._binding)
        self._filled += 1
        return self._logits_BKV

    def _inputs(
        self, hidden_BTC: NDArray[np.floating], positions_BT: NDArray[np.floating], mask_BTS: NDArray[np.bool_]
    ) -> dict[str, NDArray[Any]]:
        hidden_BTC = np.ascontiguousarray(hidden_BTC, np.float32)
        step = self._form.step_inputs(self._step_inputs(hidden_BTC, positions_BT, mask_BTS))
        hidden_NC = hidden_BTC.reshape(-1, self._config.hidden_size)  # the same memory
        return {**self._form.hidden_inputs(hidden_BTC, hidden_NC), **step}

    def _step_inputs(
        self, hidden_BTC: NDArray[np.floating], positions_BT: NDArray[np.floating], mask_BTS: NDArray[np.bool_]
    ) -> StepInputs:
        cos_BTD, sin_BTD = rotary(positions_BT.astype(np.float32), self._config)
        return StepInputs(
            hidden_BTC=hidden_BTC.astype(np.float32),
            cos_BTD=cos_BTD,
            sin_BTD=sin_BTD,
            mask_B1TS=mask_BTS[:, None],
            write_index_B=np.full(len(hidden_BTC), self._filled, np.int64),
        )

    def _bind(self, inputs: dict[str, NDArray[Any]]) -> tuple[Any, NDArray[np.float32]]:
        binding = self._session.io_binding()
        rows, length = inputs["hidden_BTC"].shape[:2]
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        for name, value in self._caches.items():
            binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output(f"new_{name}", value)
        logits = np.zeros((rows * length, self._config.num_codebooks, self._config.codec_vocab_size), np.float32)
        binding.bind_ortvalue_output("logits_NKV", onnxruntime.OrtValue.ortvalue_from_numpy(logits))
        return binding, logits


def _write(bundle: Bundle, name: str, bits: int | None) -> Path:
    """Write the graph beside the bundle's graphs, so that its external data can refer to the bundle's weights."""
    config = bundle.model
    parts = _Parts(bundle)
    parts.nodes.append(helper.make_node("Shape", ["hidden_BTC"], ["hidden_shape"]))
    hidden_BTC, hidden_NC = "hidden_BTC", "hidden_NC"
    for layer in range(config.num_layers):
        names = {"hidden_BTC": hidden_BTC, "hidden_NC": hidden_NC} | {shared: shared for shared in _SHARED_INPUTS}
        for cache in _CACHES:
            names |= {cache: f"{cache}.{layer}", f"new_{cache}": f"new_{cache}.{layer}"}
        trunk = parts.append(trunk_name(layer), names)
        parts.inputs |= {names[v.name]: _renamed(v, names[v.name]) for v in trunk.input if v.name in _CACHES}
        if layer == 0:
            parts.inputs |= {v.name: v for v in trunk.input if v.name not in _CACHES}
        parts.outputs += [_renamed(v, names[v.name]) for v in trunk.output if v.name in names]
        hidden_NC = _append_experts(parts, name, layer, bits)
        hidden_BTC = f"hidden_BTC.{layer}"
        parts.nodes.append(helper.make_node("Reshape", [hidden_NC, "hidden_shape"], [hidden_BTC]))
    parts.nodes.pop()  # the head reads tokens
    parts.outputs += parts.append("head", {"hidden_NC": hidden_NC, "logits_NKV": "logits_NKV"}).output
    graph = helper.make_graph(parts.nodes, name, list(parts.inputs.values()), parts.outputs, parts.initializers)
    opsets = [helper.make_opsetid("", parts.opset), helper.make_opsetid("com.microsoft", 1)]
    path = bundle.path / f"{name}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=11), path)
    return path


class _Parts:
    """The parts of the graph under construction."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: dict[str, onnx.ValueInfoProto] = {}
        self.outputs: list[onnx.ValueInfoProto] = []
        self.opset = 0

    def append(self, graph: str, names: dict[str, str]) -> onnx.GraphProto:
        """Append a bundle's graph; values that `names` does not rename get the graph's name as a prefix."""
        file = Path(self.bundle.graphs[graph].file)
        model = onnx.load(self.bundle.path / file, load_external_data=False)
        self.opset = next(opset.version for opset in model.opset_import if not opset.domain)

        def renamed(value: str) -> str:
            return value and names.get(value, f"{graph}/{value}")

        for node in model.graph.node:
            copy = helper.make_node(node.op_type, list(map(renamed, node.input)), list(map(renamed, node.output)))
            copy.attribute.extend(node.attribute)
            self.nodes.append(copy)
        for tensor in model.graph.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            copy.name = renamed(tensor.name)
            for entry in copy.external_data:
                if entry.key == "location":
                    entry.value = (file.parent / entry.value).as_posix()
            self.initializers.append(copy)
        return model.graph


def _append_experts(parts: _Parts, name: str, layer: int, bits: int | None) -> str:
    """Add the operator over all experts of a layer to the trunk's accumulator. Returns the value's name."""
    trunk, prefix, routed = trunk_name(layer), f"{name}/{layer}", parts.bundle.model.num_routed_experts
    weights = _write_expert_weights(parts, name, layer, bits)
    constants = {"begin": [0], "end": [routed], "axis": [1]}
    parts.initializers += [
        helper.make_tensor(f"{prefix}/{constant}", TensorProto.INT64, [1], values)
        for constant, values in constants.items()
    ]

    def node(op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        parts.nodes.append(helper.make_node(op, inputs, [f"{prefix}/{output}"], **attributes))
        return f"{prefix}/{output}"

    weights_NE = node("Slice", [f"{trunk}/weights_NE", *(f"{prefix}/{constant}" for constant in constants)], "weights")
    sum_N1 = node("ReduceSum", [weights_NE, f"{prefix}/axis"], "sum", keepdims=1)
    logits_NE = node("Log", [weights_NE], "logits")
    quantized = {"expert_weight_bits": bits, "block_size": _BLOCK} if bits else {}
    mixed_NC = node(
        "QMoE" if bits else "MoE",
        [f"{trunk}/expert_input_NC", logits_NE, *weights],
        "mixed",
        domain="com.microsoft",
        k=routed,
        activation_type="swiglu",
        swiglu_fusion=1,
        activation_alpha=1.0,
        activation_beta=0.0,
        normalize_routing_weights=0,
        **quantized,
    )
    weighted_NC = node("Mul", [mixed_NC, sum_N1], "weighted")
    return node("Add", [f"{trunk}/accumulator_NC", weighted_NC], "hidden_NC")


def _write_expert_weights(parts: _Parts, name: str, layer: int, bits: int | None) -> list[str]:
    """Write fc1 [E, 2I, C] with alternating gate and up rows, and fc2 [E, C, I], to one file.

    Returns the operator's inputs for them: weights, scales if quantized, and no bias, for each.
    """
    gate_ups, downs = [], []
    for expert in range(parts.bundle.model.num_routed_experts):
        weights = parts.bundle.weights(expert_name(layer, expert))
        gate_CI, up_CI = np.split(weights.float32("gate_up.weight"), 2, axis=1)
        gate_ups.append(np.stack([gate_CI.T, up_CI.T], axis=1).reshape(-1, len(gate_CI)))
        downs.append(weights.float32("down.weight").T)
    file = f"{name}.{layer}.bin"
    names = []
    tensors: dict[str, NDArray[Any]] = {}
    for part, experts in (("fc1", gate_ups), ("fc2", downs)):
        if bits is None:
            tensors[part] = np.stack(experts)
            continue
        scheme = Scheme.W8 if bits == 8 else Scheme.W4
        coded = [quantize_weight(each.T, scheme, Engine.ONNXRUNTIME, block=_BLOCK) for each in experts]
        tensors[part] = np.stack([each.codes.values.reshape(each.shape[1], -1) for each in coded])
        tensors[f"{part}.scales"] = np.stack([each.scales.values for each in coded])
    with (parts.bundle.path / file).open("wb") as out:
        for part, array in tensors.items():
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            tensor = TensorProto(name=f"{name}/{layer}/{part}", data_type=kind, dims=array.shape)
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", file), ("offset", str(out.tell())), ("length", str(array.nbytes))):
                tensor.external_data.add(key=key, value=value)
            out.write(np.ascontiguousarray(array).data)
            parts.initializers.append(tensor)
            names.append(tensor.name)
    size = len(names) // 2
    return [*names[:size], "", *names[size:]]


def _renamed(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    copy.name = name
    return copy
