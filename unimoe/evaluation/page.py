"""One self-contained page, without scripts, that shows all results and plays the clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from unimoe.evaluation.clips import Clip, by_source
from unimoe.evaluation.media import audio_uri, spectrogram_uri
from unimoe.evaluation.suite import Evaluation
from unimoe.evaluation.tables import percent, tables
from unimoe_runtime.audio.log_mel import LOWEST_BAND_HZ, mel_of_hz
from unimoe_tools.pages.charts import heat_map, stacked_rows
from unimoe_tools.pages.svg import legend, nice_ticks
from unimoe_tools.pages.template import cards, figure_box, notes, page, section, table, verdict

MOST_CLIPS = 18
_MOST_SECONDS = 10.0
_NEAR = 0.05  # the largest difference of shares that counts as near the recordings
_COLOURS = ("#3f6fb5", "#e39a3b", "#4f9d69", "#c8503f")
_STYLE = """
.clips { display:grid; grid-template-columns:1fr 1fr; gap:14px; }
.clips figure { margin:0; min-width:0; break-inside:avoid; } .clips p { margin:0 0 8px; font-size:13.5px; }
.clips h4 { margin-top:8px; } audio { width:100%; height:34px; }
.spectrogram { position:relative; margin:0 0 24px 52px; }
.spectrogram img { display:block; width:100%; height:88px; border-radius:2px; }
.axes { position:absolute; inset:0; } .axes i { position:absolute; font:11px system-ui,sans-serif; color:var(--soft); }
.axes .hz { right:100%; transform:translateY(50%); margin-right:5px; white-space:nowrap; }
.axes .s { top:100%; margin-top:3px; transform:translateX(-50%); } .axes .s:nth-of-type(1) { transform:none; }
@media (max-width:720px) { .clips { grid-template-columns:1fr; } }
"""


def as_html(found: Evaluation) -> str:
    """The page of an evaluation, verdict and players first. It has at most `MOST_CLIPS` clips of about 50 kB each."""
    body = [
        *_verdict(found),
        *_clips(found),
        notes(f"{name}: not measured, {why}" for name, why in found.unmeasured.items()),
        *(
            section(one.title, figure_box("", table(one.columns, one.rows, words=one.words), one.note))
            for one in tables(found)
        ),
        *_routing(found),
    ]
    lead = (
        f"Held-out texts of {found.corpus}, {len(found.clips)} clips. Beside every figure stand the score of the "
        "original recordings and the score of the next text's answer."
    )
    return page(f"How {found.name} sounds", lead, body, style=_STYLE)


def _verdict(found: Evaluation) -> Iterator[str]:
    """Words and notes compared with those of the recordings."""
    words = found.heard.overall_words()
    summary = found.heard.summary()
    lines, near = [], True
    figures: list[tuple[str, str, str]] = []
    if words.num_texts:
        rates = words.rates()
        beside = f"recordings {percent(rates['original_wer'])}; by {found.heard.last_judge}, {words.made.words:,} words"
        figures.append(("words wrong", percent(rates["wer"]), beside))
        lines.append(f"{percent(rates['wer'])} of words are heard wrong")
        near = near and rates["wer"] <= rates["original_wer"] + _NEAR
    if "notes_exact" in summary:
        original = summary["original_notes_exact"]
        figures.append(("notes right", percent(summary["notes_exact"]), f"recordings {percent(original)}"))
        lines.append(f"{percent(summary['notes_exact'])} of notes are right")
        near = near and summary["notes_exact"] >= original - _NEAR
    if found.heard.refused:
        figures.append(("refused", str(len(found.heard.refused)), "requests that gave no audio"))
    if lines:
        points = f"{100 * _NEAR:.0f} percentage points"
        beside = f"at most {points} worse than" if near else f"more than {points} worse than"
        yield verdict(f"{' and '.join(lines)}: {beside} the recordings.", passed=near)
        yield cards(figures)


def _routing(found: Evaluation) -> Iterator[str]:
    """Experts by layer, picks for each token, load of each expert, null share: by domain, as the paper draws them."""
    routing = found.forced.routing
    if routing is None:
        return
    colours = dict(zip(routing.domains, _COLOURS, strict=False))
    yield "<h2>What the routers pick</h2>"
    means_DL, null_DL = routing.picked_mean_DL(), routing.null_share_DL()
    for title, values_DL, unit in (
        ("Routed experts a token picks, by layer", means_DL, "experts"),
        ("Percent of picks that go to the null experts, by layer", 100 * null_DL, "% of picks"),
    ):
        rows = {
            f"layer {layer} {domain}": {domain: float(values_DL[number, layer])}
            for layer in range(values_DL.shape[1])
            for number, domain in enumerate(routing.domains)
        }
        yield figure_box(title, legend(colours) + stacked_rows(rows, colours, unit=unit))
    shares_DLP = routing.picked_DLP / np.maximum(routing.picked_DLP.sum(axis=2, keepdims=True), 1)
    numbers = [str(number) for number in range(shares_DLP.shape[2])]
    yield _maps(
        "How many routed experts a token picks", shares_DLP, routing.domains, numbers, "of tokens",
        "Columns: number of experts; rows: layers; percent of tokens.",
    )  # fmt: skip
    experts = [str(expert) for expert in range(routing.num_routed)]
    yield _maps(
        "Load of each expert", routing.load_DLE(), routing.domains, experts, "of the layer's picks",
        "Columns: routed experts; rows: layers; percent of the layer's routed picks.",
    )  # fmt: skip


def _maps(
    title: str, values_DLX: np.ndarray, domains: Sequence[str], columns: Sequence[str], hint: str, note: str
) -> str:
    maps = "".join(
        f"<div><h4>{escape(domain)}</h4>"
        + heat_map(values_DLX[number].tolist(), columns=columns, row_name="layer", hint=hint, width=460)
        + "</div>"
        for number, domain in enumerate(domains)
    )
    return figure_box(title, f'<div class="maps">{maps}</div>', note)


def _clips(found: Evaluation) -> Iterator[str]:
    chosen = chosen_clips(found.clips, MOST_CLIPS)
    if not chosen:
        return
    yield '<h2>Listen</h2><div class="clips">'
    for clip in chosen:
        _, text, voice = clip.item.request()
        players = "".join(
            f"<h4>{name}</h4>{_player(pcm_L, found.sample_rate_hz)}"
            for name, pcm_L in (("made", clip.pcm_L), ("original", clip.item.pcm()))
        )
        words = text.removeprefix(f"{voice}, ")
        asked = f"<p><b>{escape(voice)}</b>, {escape(clip.item.kind)}: {escape(words)}</p>"
        refused = f'<p class="warning">{escape(clip.refused)}</p>' if clip.refused else ""
        yield f"<figure>{asked}{refused}{players}</figure>"
    yield "</div>"


def chosen_clips(clips: Sequence[Clip], most: int) -> list[Clip]:
    """Clips that alternate between the sources, and within a source between its kinds of text."""
    queues = []
    for _, group in by_source(clips):
        kinds = list(dict.fromkeys(clip.item.kind for clip in group))
        by_kind = [[clip for clip in group if clip.item.kind == kind] for kind in kinds]
        turns = range(max(map(len, by_kind)))
        queues.append([of_kind[turn] for turn in turns for of_kind in by_kind if turn < len(of_kind)])
    turns = range(max(map(len, queues), default=0))
    return [queue[turn] for turn in turns for queue in queues if turn < len(queue)][:most]


def _player(pcm_L: np.ndarray, sample_rate_hz: int) -> str:
    cut_L = pcm_L[: round(_MOST_SECONDS * sample_rate_hz)]
    return (
        '<div class="spectrogram">'
        f'<img alt="spectrogram" src="{spectrogram_uri(cut_L, sample_rate_hz)}">'
        f"{_axes(len(cut_L) / sample_rate_hz, sample_rate_hz / 2)}</div>"
        f'<audio controls preload="metadata" src="{audio_uri(cut_L, sample_rate_hz)}"></audio>'
    )


def _axes(seconds: float, highest_hz: float) -> str:
    """Labels of a log-mel spectrogram: frequencies on the left, seconds below."""
    low, high = mel_of_hz(LOWEST_BAND_HZ), mel_of_hz(highest_hz)
    shown = [hz for hz in (500, 2000, 4000, 8000) if hz <= highest_hz]
    frequencies = "".join(
        f'<i class="hz" style="bottom:{100 * (mel_of_hz(hz) - low) / (high - low):.1f}%">{hz / 1000:g} kHz</i>'
        for hz in shown
    )
    times = "".join(
        f'<i class="s" style="left:{100 * value / max(seconds, 1e-6):.1f}%">{value:g} s</i>'
        for value in nice_ticks(seconds, 4)
        if value < 0.93 * seconds
    )
    return f'<div class="axes">{frequencies}{times}</div>'
