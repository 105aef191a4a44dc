"""The published code's peer, over a stand-in of its layout. No timing is asserted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import public_code
from benchmarks.turns import markdown, measure

# The published module's names and calls, computed by our torch model.
_STAND_IN = """
from types import SimpleNamespace
import torch
from unimoe.checkpoint import load_model

class UniAudioRVQQwen2_5VLMoEForConditionalGeneration(torch.nn.Module):
    @classmethod
    def from_pretrained(cls, folder, torch_dtype=None):
        return cls(load_model(folder))

    def __init__(self, model):
        super().__init__()
        self.language_model = LanguageModel(model)
        self.codec_head = model.codec_head
        self.codec_embedding = model.embed_codes

class LanguageModel(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model, self.embed_tokens = model, model.text_embedding

    def forward(self, input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache,
                output_attentions, output_hidden_states, return_dict, cache_position):
        assert len(cache_position) == inputs_embeds.shape[1] and cache_position[-1] + 1 == attention_mask.shape[1]
        output = self.model(inputs_embeds, position_ids.float(), attention_mask.bool(), caches=past_key_values)
        return SimpleNamespace(last_hidden_state=output.hidden_BTC, past_key_values=output.caches)
"""


@pytest.fixture
def imports() -> Iterator[None]:
    """Forgets the stand-in's modules and its folder."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name in ("utils", "utils.UniMoE_Audio_model"):
        sys.modules.pop(name, None)


def write_code(folder: Path, content: str) -> Path:
    (folder / "utils").mkdir(parents=True)
    (folder / "utils" / "UniMoE_Audio_model.py").write_text(content, encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("imports")
def test_public_code_is_called_as_its_own_generation_calls_it(tmp_path: Path) -> None:
    model_class = public_code.public_class(write_code(tmp_path / "code", _STAND_IN))
    public_code.write_weights(tmp_path / "weights", 128, num_layers=2)
    peers = public_code.build(tmp_path, model_class, None)
    differences = public_code.check_agreement(peers, [0, 3, 8])
    assert differences["public code"] < 1e-5 < differences["int8"]
    medians = measure(peers, [0, 2], 1)
    assert "| picked | ours | int8 | public code | int8 / ours | public code / ours |" in markdown(128, medians)
    with pytest.raises(SystemExit, match="other logits than ours"):
        wrong = {**peers, "public code": peers["int8"]}
        public_code.check_agreement(wrong, [1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no folder is given: give --public DIR"),
        ("", r"has no class \w+: give the published code's folder"),
        ("import no_such_package", "No module named 'no_such_package'.*: install the packages that it needs"),
    ],
)
@pytest.mark.usefixtures("imports")
def test_what_is_missing_is_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    folder = None if content is None else write_code(tmp_path, content)
    with pytest.raises(SystemExit, match=message) as refusal:
        public_code.public_class(folder)
    assert "\n" not in str(refusal.value)


def test_a_folder_without_the_code_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"has no utils/UniMoE_Audio_model.py: give --public DIR"):
        public_code.public_class(tmp_path)
