"""Running a bundle's graphs over samples and observing the inputs of their products.

One graph at a time is in memory, and a whole round of samples goes through it before the next graph: layer by layer,
not sample by sample. The graphs are the bundle's own, with the products' inputs as additional outputs.

B rows · T positions · N = B·T tokens · S = T cache slots · E dynamic experts · C hidden
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from unimoe_runtime.backends.onnxruntime.sessions import open_session
from unimoe_runtime.backends.protocol import StepInputs
from unimoe_runtime.backends.trunk_form import TrunkForm
from unimoe_runtime.bundle.reader import Bundle, expert_name, trunk_name
from unimoe_runtime.errors import CalibrationError
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.model.rope import rotary
from unimoe_runtime.model.routing import softmax
from unimoe_runtime.synthesis.prompt_pass import embed_prompt, prompt_mask

from .data import Sample
from .statistics import NEAREST, Floats, Linear, Statistics

Progress = Callable[[str], None]
"""Called with the name of each graph before it runs."""


@dataclass(frozen=True, kw_only=True)
class WatchedGraph:
    """A graph with its products' inputs as additional outputs: its file's content, and the outputs' names by weight."""

    path: Path
    content: bytes
    inputs: Mapping[str, str]

    @classmethod
    def of(cls, bundle: Bundle, graph: str, weights: Sequence[str]) -> Self:
        """Raises CalibrationError where the graph lacks a product with one of `weights`."""
        path = bundle.path / bundle.graph(graph).file
        model = ir.load(path)
        given = {value.name for value in model.graph.inputs}
        inputs: dict[str, str] = {}
        for node in model.graph:
            if node.op_type not in ("MatMul", "Gemm"):
                continue
            x, weight = node.inputs[:2]
            if x is None or weight is None or weight.name not in weights:
                continue
            inputs[str(weight.name)] = str(x.name)
            if x.name not in given and x not in model.graph.outputs:
                x.dtype = ir.DataType.FLOAT
                model.graph.outputs.append(x)
        missing = sorted(set(weights) - set(inputs))
        if missing:
            raise CalibrationError(f"{path}: has no product with {missing[0]}; export the bundle again")
        return cls(path=path, content=ir.serde.serialize_model(model).SerializeToString(), inputs=inputs)


class WatchedSession:
    """A session of a watched graph. The weights stay in memory as long as the session exists."""

    def __init__(self, graph: WatchedGraph) -> None:
        self._inputs = graph.inputs
        self._session = open_session(graph.path, content=graph.content)
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Outputs by name, and rows [N, channels] by weight."""
        outputs = dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))
        seen = {**inputs, **outputs}
        rows = {weight: seen[name].reshape(-1, seen[name].shape[-1]) for weight, name in self._inputs.items()}
        return outputs, rows


@dataclass(eq=False)
class _Pass:
    """The state of one sample between layers."""

    sample: Sample
    hidden_BTC: Floats
    real_N: NDArray[np.bool_]
    expert_input_NC: Floats
    weights_NE: Floats


@dataclass(eq=False)
class _NearMisses:
    """The rows, at most `capacity`, that an expert nearly received: those not sent to it with the highest
    probability."""

    capacity: int
    rows_MC: Floats
    probability_M: Floats

    def add(self, rows_NC: Floats, probability_N: Floats) -> None:
        probability = np.concatenate([self.probability_M, probability_N])
        kept = np.sort(np.argsort(-probability, kind="stable")[: self.capacity])
        here = len(self.probability_M)
        self.rows_MC = np.concatenate([self.rows_MC[kept[kept < here]], rows_NC[kept[kept >= here] - here]])
        self.probability_M = probability[kept]


class InputObserver:
    """Fills `statistics` from samples, round by round.

    `near_misses` above 0 keeps, for each expert, that many rows that it nearly received, for `observe_near_misses`.
    Raises CalibrationError for a non-finite activation; it names the graph and the sample.
    """

    def __init__(self, bundle: Bundle, statistics: Statistics, *, near_misses: int = 0) -> None:
        self._bundle, self._model = bundle, bundle.model
        self.statistics = statistics
        embeddings = bundle.embeddings()
        self._text_rows, self._codec_rows = embeddings.rows("text.weight"), embeddings.rows("codec.weight")
        self._watched: dict[str, WatchedGraph] = {}
        self._weights: dict[str, list[str]] = {}
        for linear in statistics.linears:
            self._weights.setdefault(linear.graph, []).append(linear.weight)
        nothing = np.zeros((0, self._model.hidden_size), np.float32), np.zeros(0, np.float32)
        self.near_misses = {
            (layer, expert): _NearMisses(near_misses, *nothing)
            for layer in range(self._model.num_layers)
            for expert in range(self._model.num_routed_experts if near_misses else 0)
        }

    def observe(self, samples: Sequence[Sample], progress: Progress | None = None) -> None:
        """Run all samples through all layers and the head."""
        report = progress or (lambda graph: None)
        passes = [self._begin(sample) for sample in samples]
        for layer in range(self._model.num_layers):
            report(trunk_name(layer))
            self._trunk(layer, passes)
            for expert in range(self._model.num_routed_experts):
                if any(item.weights_NE[:, expert].any() for item in passes):
                    report(expert_name(layer, expert))
                    self._expert(layer, expert, passes)
        report("head")
        self._head(passes)

    def observe_near_misses(self, layer: int, expert: int, num_rows: int) -> None:
        """Run an expert on the `num_rows` rows that it most nearly received; they count under the domain NEAREST."""
        kept = self.near_misses[layer, expert]
        nearest = np.sort(np.argsort(-kept.probability_M, kind="stable")[:num_rows])
        if len(nearest):
            graph = expert_name(layer, expert)
            session = self._open(graph)
            rows = self._run_expert(session, kept.rows_MC[nearest])[1]
            self._add(graph, NEAREST, rows, "the nearest rows")

    def _open(self, graph: str) -> WatchedSession:
        if graph not in self._watched:
            self._watched[graph] = WatchedGraph.of(self._bundle, graph, self._weights.get(graph, ()))
        return WatchedSession(self._watched[graph])

    def _begin(self, sample: Sample) -> _Pass:
        prompt = sample.prompt
        real_N = prompt.mask_BT.reshape(-1)
        counted = self.statistics.num_tokens
        counted[sample.domain] = counted.get(sample.domain, 0) + int(real_N.sum())
        return _Pass(
            sample=sample,
            hidden_BTC=embed_prompt(prompt, self._text_rows, self._codec_rows),
            real_N=real_N,
            expert_input_NC=np.zeros((0, 0), np.float32),
            weights_NE=np.zeros((0, 0), np.float32),
        )

    def _attention_inputs(self, prompt: Prompt) -> dict[str, NDArray[np.generic]]:
        """A trunk's inputs beside the hidden state. Each layer makes them again, because they are as large."""
        num_rows, length = prompt.text_ids_BT.shape
        cos_BTD, sin_BTD = rotary(prompt.positions, self._model)
        form = TrunkForm.of(self._bundle)
        empty = np.zeros(form.graph_shape(form.cache_shape(num_rows, length)), np.float32)
        step = StepInputs(
            hidden_BTC=np.zeros((num_rows, length, 0), np.float32),
            cos_BTD=cos_BTD,
            sin_BTD=sin_BTD,
            mask_B1TS=prompt_mask(prompt.mask_BT, length),
            write_index_B=np.zeros(num_rows, np.int64),
        )
        return {**form.step_inputs(step), **dict.fromkeys(form.caches, empty)}

    def _trunk(self, layer: int, passes: Sequence[_Pass]) -> None:
        graph = trunk_name(layer)
        session = self._open(graph)
        for item in passes:
            hidden_NC = item.hidden_BTC.reshape(-1, item.hidden_BTC.shape[-1])
            hidden = TrunkForm.of(self._bundle).hidden_inputs(item.hidden_BTC, hidden_NC)
            outputs, rows = session.run({**hidden, **self._attention_inputs(item.sample.prompt)})
            self._add(graph, item.sample.domain, rows, item.sample.name, item.real_N)
            item.hidden_BTC = outputs["accumulator_NC"].reshape(item.hidden_BTC.shape)
            item.expert_input_NC = outputs["expert_input_NC"]
            item.weights_NE = np.where(item.real_N[:, None], outputs["weights_NE"], np.float32(0))
            self._require_numbers(graph, item.sample.name, outputs["accumulator_NC"][item.real_N])
            self._count(layer, item, outputs["router_logits_NR"])

    def _count(self, layer: int, item: _Pass, router_logits_NR: Floats) -> None:
        picked_NE = item.weights_NE > 0
        tokens = self.statistics.tokens
        if item.sample.domain not in tokens:
            tokens[item.sample.domain] = np.zeros((self._model.num_layers, picked_NE.shape[1]), np.int64)
        tokens[item.sample.domain][layer] += picked_NE.sum(axis=0)
        if self.near_misses:
            probability_NE = softmax(router_logits_NR[:, : picked_NE.shape[1]])
            for expert in range(self._model.num_routed_experts):
                missed_N = item.real_N & ~picked_NE[:, expert]
                self.near_misses[layer, expert].add(item.expert_input_NC[missed_N], probability_NE[missed_N, expert])

    def _expert(self, layer: int, expert: int, passes: Sequence[_Pass]) -> None:
        graph = expert_name(layer, expert)
        session = self._open(graph)
        for item in passes:
            tokens_M = np.flatnonzero(item.weights_NE[:, expert])
            if not len(tokens_M):
                continue
            output_MC, rows = self._run_expert(session, item.expert_input_NC[tokens_M])
            self._add(graph, item.sample.domain, rows, item.sample.name)
            self._require_numbers(graph, item.sample.name, output_MC)
            hidden_NC = item.hidden_BTC.reshape(-1, self._model.hidden_size)
            hidden_NC[tokens_M] += item.weights_NE[tokens_M, expert, None] * output_MC

    def _run_expert(self, session: WatchedSession, rows_MC: Floats) -> tuple[Floats, dict[str, Floats]]:
        """Run the expert alone, with a zero accumulator and weight 1, so that its products' inputs are unweighted."""
        outputs, rows = session.run({
            "accumulator_NC": np.zeros_like(rows_MC),
            "expert_input_NC": rows_MC,
            "weight_N1": np.ones((len(rows_MC), 1), np.float32),
        })  # fmt: skip
        return outputs["new_accumulator_NC"], rows

    def _head(self, passes: Sequence[_Pass]) -> None:
        session = self._open("head")
        for item in passes:
            # Decoding asks for the logits of code rows only.
            hidden_NC = item.hidden_BTC[:, -item.sample.num_rows :].reshape(-1, self._model.hidden_size)
            _, rows = session.run({"hidden_NC": hidden_NC})
            self._add("head", item.sample.domain, rows, item.sample.name)

    def _add(
        self,
        graph: str,
        domain: str,
        rows: Mapping[str, Floats],
        name: str,
        real_N: NDArray[np.bool_] | None = None,
    ) -> None:
        for weight, rows_NC in rows.items():
            if real_N is not None:
                rows_NC = rows_NC[real_N]
            self._require_numbers(graph, name, rows_NC)
            self.statistics.linears[Linear(graph, weight)].add(domain, rows_NC)

    def _require_numbers(self, graph: str, name: str, values: Floats) -> None:
        if not np.isfinite(values).all():
            raise CalibrationError(
                f"{self._bundle.path}: {graph} computes values that are not numbers ({name}); check it with "
                "`unimoe verify`, or leave the item out"
            )
