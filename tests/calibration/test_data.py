"""Calibration data: accepted forms, the order of drawing, and one clear line for unusable data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_calibration.data import RANDOM_IDS, CalibrationData, Item, ItemReader, read_data
from unimoe_export.exporter import export_bundle
from unimoe_runtime.bundle.reader import CALIBRATION_PROMPTS, Bundle, open_bundle
from unimoe_runtime.errors import CalibrationError
from unimoe_runtime.model.delay_pattern import delay_codes

CODES = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [0, 0, 15]]


def write_lines(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def write_tone(path: Path, rate_hz: int, seconds: float = 0.01) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(np.arange(int(seconds * rate_hz)) * 440 * 2 * np.pi / rate_hz), rate_hz)
    return path


def test_the_bundle_s_own_set(bundle: Bundle) -> None:
    data = read_data(None, bundle)
    assert data.domains == ("music", "speech") and len(data.items) == 5
    assert data.items[0].name == "prompts.jsonl line 1" and data.items[0].voice == "ann"


def test_order_is_seeded_and_domains_take_turns() -> None:
    items = [Item(name=str(n), number=n, task="music" if n < 4 else "speech", text="") for n in range(12)]
    data = CalibrationData(items=tuple(items), source="", sha256="")
    order = data.drawn(0)
    assert sorted(item.number for item in order) == list(range(12)) and order == data.drawn(0) != data.drawn(1)
    for begin in range(0, 12, 3):
        assert [item.task for item in order[begin : begin + 3]].count("music") == 1


def test_codes_are_read_as_they_are(bundle: Bundle, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "data.jsonl", {"text": "cat", "codes": CODES}, "", {"text": "the", "codes": CODES})
    data = read_data(path, bundle)
    assert [item.number for item in data.items] == [0, 2] and data.domains == ("speech",)
    with ItemReader(bundle) as reader:
        sample = reader.read(data.items[0])
    rows_RK = delay_codes(np.array(CODES), bundle.model)[:-1]
    assert sample.num_rows == len(rows_RK) == 6 and sample.prompt.codec_ids_PK is not None
    np.testing.assert_array_equal(sample.prompt.codec_ids_PK, np.tile(rows_RK, (2, 1)))


@pytest.mark.parametrize("rate_hz", [24_000, 8_000, 44_100])
def test_recordings_of_any_rate_in_folders_by_task(bundle: Bundle, tmp_path: Path, rate_hz: int) -> None:
    for name, words in (("speech/one.wav", "the cat"), ("music/two.flac", "flute, 120 bpm: C4"), ("three.wav", "cat")):
        write_tone(tmp_path / name, rate_hz).with_suffix(".txt").write_text(words + "\n")
    data = read_data(tmp_path, bundle)
    assert [(item.name, item.task) for item in data.items] == [
        ("music/two.flac", "music"), ("speech/one.wav", "speech"), ("three.wav", "speech"),
    ]  # fmt: skip
    with ItemReader(bundle) as reader:
        samples = [reader.read(item) for item in data.items]
    # 10 ms are 30 frames of 8 samples at the codec's 24 kHz, then the delay.
    assert {sample.num_rows for sample in samples} <= {32, 33}
    assert read_data(tmp_path, bundle).sha256 == data.sha256
    write_tone(tmp_path / "three.wav", rate_hz, 0.02)
    assert read_data(tmp_path, bundle).sha256 != data.sha256


def test_a_long_recording_is_cut_to_the_model_s_positions(bundle: Bundle, tmp_path: Path) -> None:
    write_tone(tmp_path / "long.wav", 24_000, 0.3).with_suffix(".txt").write_text("cat")
    with ItemReader(bundle) as reader:
        sample = reader.read(read_data(tmp_path, bundle).items[0])
    assert sample.prompt.first_position_B.max() <= bundle.model.max_positions == 300


def test_a_bundle_without_a_front_end_reads_random_ids(tmp_path: Path) -> None:
    export_bundle(write_random_checkpoint(tmp_path / "checkpoint", tiny_config()), tmp_path / "bundle")
    bare = open_bundle(tmp_path / "bundle")
    data = read_data(None, bare)
    assert data.domains == (RANDOM_IDS,) and data.source == RANDOM_IDS
    with ItemReader(bare) as reader:
        assert reader.read(data.items[0]).num_rows > 50
    with pytest.raises(CalibrationError, match="no front end to read texts with; calibrate it without --data"):
        read_data(tmp_path, bare)


def no_text(folder: Path) -> Path:
    write_tone(folder / "voice" / "one.wav", 24_000)
    return folder / "voice"


def empty_folder(folder: Path) -> Path:
    (folder / "nothing").mkdir()
    return folder / "nothing"


BAD: list[tuple[Callable[[Path], Path], str]] = [
    (lambda folder: folder / "absent.jsonl", "there is no such file or folder"),
    (lambda folder: write_lines(folder / "empty.jsonl"), "no items: give at least one text"),
    (empty_folder, "no recordings with a .txt beside them"),
    (no_text, "its words are missing: write them to one.txt"),
    (lambda folder: write_lines(folder / "a.jsonl", {"text": "cat"}, "{broken"), "line 2: not valid JSON"),
    (lambda folder: write_lines(folder / "a.jsonl", {"task": "speech"}), "line 1: the field 'text' is missing"),
    (
        lambda folder: write_lines(folder / "a.jsonl", {"text": "cat", "speed": 2}),
        "does not know the field 'speed'; known: audio",
    ),
    (
        lambda folder: write_lines(folder / "a.jsonl", {"text": "cat", "codes": [[1, 2]]}),
        "codes[0] is [1, 2]; it must be a list of 3 to 3 items",
    ),
    (
        lambda folder: write_lines(folder / "a.jsonl", {"text": "cat", "codes": [[1, 2, 16]]}),
        "codes[0][2] is 16; it must be an integer of at least 0, at most 15",
    ),
    (
        lambda folder: write_lines(folder / "a.jsonl", {"text": "cat", "codes": []}),
        "codes is []; it must be a list of 1 to",
    ),
    (lambda folder: write_lines(folder / "a.jsonl", {"text": "cat", "audio": "x.wav"}), "there is no audio file"),
    (lambda folder: write_lines(folder / "a.jsonl", {"text": ""}), "line 1: the text is empty"),
    (
        lambda folder: write_lines(folder / "a.jsonl", {"text": "C4", "task": "dance"}),
        "line 1: there is no task 'dance'",
    ),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_data_are_one_line(bundle: Bundle, tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(CalibrationError) as caught:
        data = read_data(make(tmp_path), bundle)
        with ItemReader(bundle) as reader:
            reader.read(data.items[0])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_an_unreadable_recording_names_itself(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "noise.wav").write_bytes(b"this is no audio")
    (tmp_path / "noise.txt").write_text("cat")
    with ItemReader(bundle) as reader, pytest.raises(CalibrationError, match=r"noise\.wav: .* cannot be read as audio"):
        reader.read(read_data(tmp_path, bundle).items[0])


def test_a_bundle_that_brings_no_prompts_asks_for_data(bundle: Bundle) -> None:

    files = {name: info for name, info in bundle.files.items() if name != CALIBRATION_PROMPTS}
    with pytest.raises(CalibrationError, match=r"brings no calibration/prompts\.jsonl; give texts or recordings"):
        read_data(None, replace(bundle, files=files))


def test_a_silent_recording_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    (tmp_path / "silent.txt").write_text("cat")
    with ItemReader(bundle) as reader, pytest.raises(CalibrationError, match=r"silent\.wav is silent"):
        reader.read(read_data(tmp_path, bundle).items[0])
