"""Which part of the sound a token model's errors cost: held-out clips with some codebooks predicted, the others true.

    python -m benchmarks.predicted_tokens CHECKPOINT --corpus build/voice-corpus [--clips 6] [--markdown FILE]

Every token is predicted from the clip's true history (teacher forcing) at the checkpoint's sampling temperature,
without guidance. The first table has, by codebook, the share of tokens whose likeliest code is the true one, and the
cross entropy in nats. The second decodes each clip with the tokens from a codebook on predicted, with those of the
first codebook alone, and with all of them predicted coarse ones first, each after the coarser predictions: those tokens
train a decoder in a recipe's [decoder]. Speech is judged by DNSMOS; an instrument is recognised by its mean spectrum.
The recording and the codec alone are the ceilings.

Shape suffixes: L samples, T frames, K codebooks, V codes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.markdown import table
from benchmarks.output import add_output_options, write_outputs
from unimoe.bars import tracked
from unimoe.checkpoint import load_model
from unimoe.codec.base import Codec, load_codec
from unimoe.config import DOMAINS
from unimoe.data.codes import encode_clips
from unimoe.data.corpus import Corpus, Item
from unimoe.evaluation.clips import FREE_KINDS, KINDS, held_out, training_clips
from unimoe.evaluation.identity import Identifier, timbre
from unimoe.evaluation.installed import Unmeasured
from unimoe.evaluation.quality import RATE_HZ, Dnsmos
from unimoe.training.examples import make_example
from unimoe.training.predicted_tokens import Predictor, codes_of, draw_codes
from unimoe_runtime.audio.files import resample
from unimoe_runtime.checkpoint.folder import open_checkpoint
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import CheckpointError
from unimoe_runtime.frontend import open_frontend
from unimoe_runtime.frontend.timeline import TimelineFrontEnd

Judge = Callable[[Item, np.ndarray], float]
"""(item, pcm_L at the corpus's rate) -> score."""
RECORDING, CODEC, FIRST, COARSE_FIRST = "recording", "codec alone", "codebook 0 alone", "all, coarse ones first"


class Speaker:
    """An opened checkpoint. Raises CheckpointError where the folder lacks codec or front end."""

    def __init__(self, folder: Path) -> None:
        checkpoint = open_checkpoint(folder)
        if checkpoint.codec_dir is None or checkpoint.frontend_dir is None:
            raise CheckpointError(f"{folder} has no codec or no front end: name a complete checkpoint")
        temperatures = {domain: checkpoint.sampling.get(domain, SamplingConfig()).temperature for domain in DOMAINS}
        self.predictor = Predictor(model=load_model(checkpoint), temperatures=temperatures)
        self.codec: Codec = load_codec(checkpoint.codec_dir)
        frontend = open_frontend(checkpoint.frontend_dir)
        assert isinstance(frontend, TimelineFrontEnd)
        self.frontend = frontend

    def decode(self, codes_TK: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return self.codec.decode(torch.from_numpy(codes_TK.T[None].astype(np.int64)))[0].numpy()


def chosen_clips(corpus: Corpus, most: int) -> list[Item]:
    """At most `most` held-out clips of each voice and instrument, spread over its kinds and texts."""
    groups: dict[str, list[Item]] = {}
    for item in held_out(corpus, len(corpus), (*KINDS, *FREE_KINDS)):
        groups.setdefault(item.voice or item.instrument, []).append(item)
    return [group[len(group) * at // most] for group in groups.values() for at in range(min(most, len(group)))]


def judges(corpus: Corpus, items: Sequence[Item]) -> dict[str, tuple[str, Judge | None]]:
    """By domain, what is judged and the judge; None where its model is not installed."""
    try:
        dnsmos = Dnsmos()
    except Unmeasured as error:
        print(error)
        dnsmos = None
    instruments = list(dict.fromkeys(item.instrument for item in items if item.domain == "music"))
    rate_hz = corpus.sample_rate_hz
    found: dict[str, tuple[str, Judge | None]] = {"speech": ("DNSMOS", None), "music": ("instrument recognised", None)}
    if dnsmos is not None:
        score = dnsmos
        found["speech"] = ("DNSMOS", lambda item, pcm_L: score(resample(pcm_L, rate_hz, RATE_HZ))[2])
    if instruments:
        known = Identifier.learn(training_clips(corpus, instruments), rate_hz, timbre)
        found["music"] = (
            "instrument recognised",
            lambda item, pcm_L: float(known.nearest(pcm_L, rate_hz) == item.instrument),
        )
    return found


def versions(speaker: Speaker, item: Item, true_TK: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Tokens codes_TK of a clip by the name of a row, and [2, K]: share of right tokens, and cross entropy."""
    example = make_example(item, true_TK, speaker.frontend, speaker.predictor.config)
    [logits_TKV] = speaker.predictor.logits([example])
    true_TK = codes_of(example, speaker.predictor.config)
    drawn_TK = draw_codes(
        logits_TKV, speaker.predictor.temperatures[item.domain], torch.Generator().manual_seed(0)
    ).numpy()
    codes = {CODEC: true_TK}
    num_codebooks = true_TK.shape[1]
    for first in reversed(range(num_codebooks)):
        codes[f"from codebook {first}"] = np.where(np.arange(num_codebooks) >= first, drawn_TK, true_TK)
    codes[FIRST] = np.where(np.arange(num_codebooks) == 0, drawn_TK, true_TK)
    [codes[COARSE_FIRST]] = speaker.predictor.predict([example])
    targets_TK = torch.from_numpy(true_TK)
    entropy_TK = torch.nn.functional.cross_entropy(logits_TKV.movedim(2, 1), targets_TK, reduction="none")
    right_TK = (logits_TKV.argmax(-1) == targets_TK).float()
    return codes, torch.stack([right_TK.mean(0), entropy_TK.mean(0)]).numpy()


def measure(speaker: Speaker, corpus: Corpus, items: Sequence[Item]) -> dict[str, Any]:
    """By domain: number of clips, `right` and `cross_entropy` by codebook, and `scores` by row (None: not measured)."""
    judged = judges(corpus, items)
    result: dict[str, Any] = {}
    for domain in DOMAINS:
        group = [item for item in items if item.domain == domain]
        if not group:
            continue
        codes, (what, score) = encode_clips(group, speaker.codec), judged[domain]
        scores: dict[str, list[float]] = {}
        tokens = []
        for item, true_TK in tracked(zip(group, codes, strict=True), domain, total=len(group)):
            made, of_clip_2K = versions(speaker, item, true_TK)
            tokens.append(of_clip_2K)
            if score is not None:
                scores.setdefault(RECORDING, []).append(score(item, item.pcm()))
                for name, codes_TK in made.items():
                    scores.setdefault(name, []).append(score(item, speaker.decode(codes_TK)))
        right_K, entropy_K = np.mean(tokens, axis=0).round(4).tolist()
        means = {name: round(float(np.mean(values)), 4) for name, values in scores.items()}
        result[domain] = {
            "clips": len(group), "temperature": speaker.predictor.temperatures[domain], "right": right_K,
            "cross_entropy": entropy_K, "judged": what, "scores": means,
        }  # fmt: skip
    return result


def as_markdown(result: Mapping[str, Any]) -> str:
    """Two tables: tokens by codebook, and the sound by what is predicted."""
    num_codebooks = max(len(found["right"]) for found in result.values())
    rows = []
    for domain, found in result.items():
        rows.append([f"{domain}: right tokens", *(f"{100 * share:.0f} %" for share in found["right"])])
        rows.append([f"{domain}: cross entropy", *(f"{nats:.2f}" for nats in found["cross_entropy"])])
    lines = table(["codebook", *map(str, range(num_codebooks))], rows, numbers=True)
    titles = [
        f"{domain}: {found['judged']} ({found['clips']} clips, temperature {found['temperature']:g})"
        for domain, found in result.items()
    ]
    names = dict.fromkeys(name for found in result.values() for name in found["scores"])
    cells = [[name, *(_cell(found, name) for found in result.values())] for name in names]
    return "\n".join([*lines, "", *table(["predicted", *titles], cells, numbers=True)]) + "\n"


def _cell(found: Mapping[str, Any], name: str) -> str:
    if name not in found["scores"]:
        return "not measured"
    score = found["scores"][name]
    return f"{score:.2f}" if found["judged"] == "DNSMOS" else f"{round(score * found['clips'])} of {found['clips']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of the corpus that the model was trained on")
    parser.add_argument("--clips", type=int, default=6, help="held-out clips of each voice and instrument")
    parser.add_argument("--threads", type=int, default=2)
    add_output_options(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    corpus = Corpus.open(arguments.corpus)
    result = measure(Speaker(arguments.checkpoint), corpus, chosen_clips(corpus, arguments.clips))
    text = as_markdown(result)
    print(text)
    write_outputs(arguments, result, text)


if __name__ == "__main__":
    main()
