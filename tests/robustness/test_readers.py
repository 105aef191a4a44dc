"""Properties of the readers that everything goes through: any bytes are a value or one line."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from unimoe_runtime.bundle.graph_file import external_files, require_own_weights
from unimoe_runtime.errors import BundleError
from unimoe_runtime.files.json import parse_json
from unimoe_runtime.files.safetensors_reader import TensorFile
from unimoe_runtime.files.text import decode_text, split_lines

_QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_QUICK
@given(st.binary(max_size=200))
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example("{}".encode("utf-16"))
@example(b'\xef\xbb\xbf{"a": 1}')
@example(b"[1e999, NaN]")
@example(b"1" * 10_000)
def test_any_bytes_are_json_or_one_line(content: bytes) -> None:
    try:
        parse_json(content, "x.json", BundleError)
    except BundleError as error:
        assert str(error).startswith("x.json: ") and "\n" not in str(error) and len(str(error)) < 300


@_QUICK
@given(st.binary(max_size=100))
@example(b"\x10" + bytes(7) + b'{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,4]}}' + bytes(4))
def test_any_bytes_are_tensors_or_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.safetensors"
    for whole in (content, len(content).to_bytes(8, "little") + content):
        path.write_bytes(whole)
        try:
            TensorFile(path, BundleError)
        except BundleError as error:
            assert "\n" not in str(error)


@given(st.text())
def test_lines_end_at_line_feeds_alone(text: str) -> None:
    lines = split_lines(text)
    assert "\n".join(lines) == text.replace("\r\n", "\n").removesuffix("\n").removesuffix("\r") or "\r" in text
    assert decode_text(b"\xef\xbb\xbf" + text.encode(), "x", BundleError) == text or text.startswith("\ufeff")


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
        # What the real parser takes, it finds as well.
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
