"""`unimoe say-as`: how a text is read, without speaking; the sources of a command's text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.speaking_bundle import write_speaking_bundle
from unimoe.cli.group import cli


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaking_bundle(tmp_path_factory.mktemp("say_as"))


def call(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)), input=stdin)


def test_words_phonemes_durations_and_pauses_are_shown(bundle: Path) -> None:
    shown = call("say-as", bundle, "The cat costs $2. [[pause 3s]] 你好 hello")
    assert shown.exit_code == 0, shown.output
    assert "speech: the cat costs two dollars" in shown.stdout
    assert "  cat        300 ms  k ae t" in shown.stdout
    assert "(silence)  2000 ms" in shown.stdout
    assert "left out, without a reading: 你好" in shown.stderr


def test_synth_explains_instead_of_speaking(bundle: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("cat\n", encoding="utf-8")
    shown = call("synth", bundle, "--text-file", text, "--explain", "--json", "--speed", "2", "--voice", "bob")
    assert shown.exit_code == 0, shown.output
    piece = json.loads(shown.stdout)["pieces"][0]
    assert piece["speech"] == "cat"
    assert piece["words"][1]["durations_s"] == pytest.approx([0.1, 0.1, 0.1])
    refused = call("synth", bundle, "--text", "cat", "--explain", "--timestamps", tmp_path / "cat.srt")
    assert refused.exit_code == 2 and "--explain does not speak" in refused.output


def test_silence_before_the_words_is_shown(bundle: Path) -> None:
    assert call("say-as", bundle, "[[pause 2s]] cat").stdout.splitlines()[1] == "  (silence)  2000 ms"
    piece = json.loads(call("say-as", bundle, "[[pause 2s]] cat", "--json").stdout)["pieces"][0]
    assert (piece["silence_before_s"], piece["silence_after_s"]) == (2.0, 0.0)


def test_a_lexicon_and_stdin(bundle: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("zork\tT AE1 K\n", encoding="utf-8")
    shown = call("say-as", bundle, "-", "--lexicon", names, stdin="Zork")
    assert "t ae k" in shown.stdout
    names.write_text("zork\tT QQ K\n", encoding="utf-8")
    assert "lexicon, 'zork': phonemes 'T QQ K': 'QQ' is not a phoneme" in str(
        call("say-as", bundle, "zork", "--lexicon", names).exception
    )


def test_text_is_given_once(bundle: Path, tmp_path: Path) -> None:
    assert call("say-as", bundle).exit_code == 2
    assert call("synth", bundle, "--text", "a", "--text-file", "b", "-o", tmp_path / "o.wav").exit_code == 2
    missing = call("say-as", bundle, "--text-file", tmp_path / "missing.txt")
    assert "missing.txt: cannot be read (No such file or directory)" in str(missing.exception)
