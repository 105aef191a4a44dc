"""A recorded model makes the same codes, and its marks give the time of each call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tools.profiling.settings import setting
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.model.generation import Prompt, collect_frames, generate
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.profiling.breakdown import MODEL_PARTS, Routing, break_down
from unimoe_tools.profiling.measure import Meter
from unimoe_tools.profiling.record import describe_setting
from unimoe_tools.profiling.recorder import Part, RecordedModel, Recorder, code
from unimoe_tools.profiling.workload import ProfileRequest

SAMPLING = SamplingConfig(min_steps=21, max_steps=21, top_k=None)


def check_equal_codes(recorded: RecordedModel, plain: BundleModel, config: ModelConfig) -> None:
    prompt = Prompt.from_rows([[1], [1, 2, 3]], paired=True)
    found, expected = (
        collect_frames(generate(model, prompt, config, SAMPLING, seed=3))[0] for model in (recorded, plain)
    )
    np.testing.assert_array_equal(found, expected)
    assert recorded.statistics == plain.statistics


@pytest.mark.parametrize("name", ["numpy", "onnxruntime"])
def test_a_recorded_model_makes_the_same_codes_and_tells_every_call(tiny_bundle: Path, name: str) -> None:
    backend = open_backend(name, open_bundle(tiny_bundle))
    config, plain, recorder = backend.bundle.model, BundleModel(backend), Recorder()
    check_equal_codes(RecordedModel(backend, recorder), plain, config)

    recorder.mark(code(Part.END))
    marks = recorder.marks()
    assert (np.diff(marks.start_ns_M) >= 0).all()
    breakdown = break_down(marks, config)
    routing = Routing.from_marks(marks, recorder.picks(), config, num_rows=2)
    assert len(breakdown.parts_SP) == routing.num_steps == plain.statistics.steps == 20
    assert breakdown.launches_LR.sum() == routing.launched_SLR.sum() == plain.statistics.launched
    np.testing.assert_array_equal(breakdown.launches_LR, routing.launched_SLR.sum(axis=0))
    assert routing.routed_picks_SL.sum() == plain.statistics.routed_picks
    assert routing.null_picks_SL.sum() == plain.statistics.null_picks
    trunks = marks.part_M == Part.TRUNK
    assert trunks.sum() == 21 * config.num_layers
    assert set(marks.layer_M[trunks]) == set(range(config.num_layers))


def test_a_few_steps_stand_for_all(tiny_bundle: Path) -> None:
    """Every fifth step is recorded call by call, a different one in each run; the codes equal those of a plain run."""
    backend = open_backend("numpy", open_bundle(tiny_bundle))
    config, recorder = backend.bundle.model, Recorder()
    check_equal_codes(RecordedModel(backend, recorder, every=5, phase=3), BundleModel(backend), config)
    recorder.mark(code(Part.END))
    marks = recorder.marks()
    breakdown = break_down(marks, config)
    assert np.flatnonzero(breakdown.detailed_S).tolist() == [3, 8, 13, 18]
    assert (breakdown.parts_SP[breakdown.detailed_S][:, Part.TRUNK] > 0).all()
    assert not breakdown.parts_SP[~breakdown.detailed_S][:, MODEL_PARTS].any()
    assert (breakdown.step_ms_S > breakdown.model_ms_S).all() and (breakdown.model_ms_S > 0).all()
    routing = Routing.from_marks(marks, recorder.picks(), config, num_rows=2)
    assert routing.num_steps == 4
    assert ((routing.routed_picks_SL + routing.null_picks_SL) >= 2).all(), "each row picks"
    assert (routing.routed_picks_SL >= routing.launched_SLR.sum(axis=2)).all()

    meter = Meter(setting(tiny_bundle, threads=None, backend="numpy"))
    generations = [meter.measure(ProfileRequest(task="random")) for _ in range(3)]
    assert [int(np.argmax(one.breakdown.detailed_S)) for one in generations] == [0, 1, 2]
    described = describe_setting(meter.bundle, generations, reads_bytes_per_s=[1e10], reads_model_bytes_per_s=[1e10])
    assert described["recording"]["steps"] == 12 and described["step"]["count"] == 60
    step_ms = sum(part["ms_a_step"] for name, part in described["parts"].items() if name not in ("codec", "host"))
    assert step_ms == pytest.approx(described["step"]["mean_ms"]), "parts are scaled to all steps"
    experts_ms = sum(layer["expert_ms"] for layer in described["layers"])
    assert experts_ms == pytest.approx(described["parts"]["expert"]["ms_a_step"])
