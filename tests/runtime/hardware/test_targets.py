"""The table of targets: its own rows, the user's rows, and messages for bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.hardware.targets import RTX_CAPABILITIES, USER_TARGETS, find_target, open_targets


def test_the_table_holds_every_generation() -> None:
    targets = open_targets()
    capabilities = {target.compute_capability for target in targets.values() if target.compute_capability}
    assert {(7, 5), (8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (10, 0), (11, 0), (12, 0), (12, 1)} == capabilities
    for target in targets.values():
        assert target.schemes[0] == ("w8" if target.engine == "onnxruntime" else "w8a8")
        if target.compute_capability:
            assert target.memory_gb and target.bandwidth_gb_per_s
            assert ("fp8" in target.precisions) == (target.compute_capability >= (8, 9))
            assert ("int4" in target.precisions) == (target.compute_capability >= (8, 0))


def test_a_scheme_is_chosen_or_refused_by_name() -> None:
    assert find_target("cpu").choose_scheme(None) == "w8"
    assert find_target("rtx-4090").choose_scheme("fp8") == "fp8"
    with pytest.raises(
        ConfigError, match=r"rtx-3060 .*SM86.* has no fp8; it takes --precision int8, int8-weights, int4"
    ):
        find_target("rtx-3060").choose_scheme("fp8")
    with pytest.raises(ConfigError, match="no target 'rtx-1080'; there are cpu, "):
        find_target("rtx-1080")


def test_a_flavour_of_tensorrt_serves_each_gpu() -> None:
    for target in open_targets().values():
        served = target.compute_capability in RTX_CAPABILITIES
        assert target.flavour == (None if target.engine != "tensorrt" else "tensorrt-rtx" if served else "tensorrt")
    assert find_target("t4").engine_precisions("tensorrt-rtx") == ("float32", "float16")
    assert "int8" in find_target("t4").engine_precisions("tensorrt")
    assert find_target("h100").engine_precisions("tensorrt") == find_target("h100").precisions


def test_a_compute_capability_is_a_target() -> None:
    for named in (target for target in open_targets().values() if target.compute_capability):
        found = find_target("sm{}{}".format(*named.compute_capability or ()))
        assert (found.precisions, found.flavour) == (named.precisions, named.flavour)
        assert found.compute_capability == named.compute_capability and found.memory_gb is None


def test_users_add_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[board]\ntitle = "a board"\nengine = "onnxruntime"\nprecisions = ["float32"]\nmemory_gb = 4\n')
    monkeypatch.setenv(USER_TARGETS, str(file))
    board = find_target("board")
    assert board.memory_gb == 4 and "cpu" in open_targets()
    with pytest.raises(ConfigError, match="supports no quantized products"):
        board.choose_scheme(None)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("[x]\ntitle='x'\nengine='onnxruntime'", "lacks the field 'precisions'"),
        ("[x]\ntitle='x'\nengine='onnxruntime'\nprecisions=['int7']", "int7"),
        ("[x]\ntitle='x'\nengine='vulkan'\nprecisions=['int8']", "engine is 'vulkan'"),
        ("[x]\ntitle='x'\nengine='tensorrt'\nprecisions=['int8']", "compute_capability"),
        ("[x]\ntitle='x'\nengine='tensorrt'\nprecisions=['int8']\ncompute_capability='sm86'", "8.6"),
        (
            "[x]\ntitle='x'\nengine='tensorrt'\nprecisions=['int8']\ncompute_capability='8.6'\nflavour='rtx'",
            "flavour is",
        ),
        ("[x]\ntitle='x'\nengine='onnxruntime'\nprecisions=['int8']\nflavour='tensorrt'", "only for TensorRT"),
        ("[x]\ntitle='x'\nengine='onnxruntime'\nprecisions=['int8']\nmemory_gb=-1", "memory_gb"),
        ("[x]\ntitle='x'\nengine='onnxruntime'\nprecisions=['int8']\ncolour='red'", "colour"),
        ("x = 1", "a row is a table"),
        ("[x", "not valid TOML"),
    ],
)
def test_a_bad_row_is_one_line(row: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(row)
    monkeypatch.setenv(USER_TARGETS, str(file))
    with pytest.raises(ConfigError, match=said) as problem:
        open_targets()
    assert "\n" not in str(problem.value) and "mine.toml" in str(problem.value)


def test_a_missing_file_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(USER_TARGETS, "/nowhere/targets.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        open_targets()
