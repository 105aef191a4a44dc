"""Which files a graph reads, wherever the graph names them."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from unimoe_runtime.bundle.graph_file import external_files, require_own_weights

_QUICK = settings(deadline=None)


def _model(location: str, *, nested: bool) -> bytes:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="offset", value="8")
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    if not nested:
        graph = helper.make_graph([], "g", [], [output], [tensor])
    else:
        inner = helper.make_graph([helper.make_node("Constant", [], ["y"], value=tensor)], "inner", [], [output])
        condition = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", TensorProto.BOOL, [], [True]))
        both = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
        graph = helper.make_graph([condition, both], "g", [], [output])
    return helper.make_model(graph).SerializeToString()


@pytest.mark.parametrize("nested", [False, True])
def test_external_data_are_found_wherever_they_are(nested: bool) -> None:
    content = _model("other.bin", nested=nested)
    assert external_files(content) == {"other.bin"}
    with pytest.raises(ValueError, match=r"it reads 'other\.bin', and may read layers/00/w\.safetensors alone"):
        require_own_weights(content, "layers/00/g.onnx", "layers/00/w.safetensors")
    require_own_weights(_model("./w.safetensors", nested=nested), "layers/00/g.onnx", "layers/00/w.safetensors")


@_QUICK
@given(st.binary(max_size=100), st.integers(0, 400))
def test_any_bytes_are_a_graph_or_refused(content: bytes, place: int) -> None:
    sound = _model("w.bin", nested=True)
    for whole in (content, sound[:place], sound[:place] + content + sound[place:]):
        try:
            found = external_files(whole)
        except ValueError:
            continue
        # It finds every file that the real parser reads.
        try:
            model = onnx.load_model_from_string(whole)
        except Exception:
            continue
        real = {
            entry.value
            for tensor in model.graph.initializer
            for entry in tensor.external_data
            if entry.key == "location"
        }
        assert real <= found
