"""One page with everything that was measured, to read and to listen to: self-contained, without scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from unimoe.evaluation.demo import Clip, by_source
from unimoe.evaluation.media import audio_uri, spectrogram_uri
from unimoe.evaluation.suite import Evaluation
from unimoe.evaluation.tables import Table, tables
from unimoe_tools.pages.charts import heat_map, stacked_rows
from unimoe_tools.pages.style import STYLE
from unimoe_tools.pages.svg import legend

MOST_CLIPS = 18
_MOST_SECONDS = 10.0
_COLOURS = ("#3f6fb5", "#e39a3b", "#4f9d69", "#c8503f")
_STYLE = """
.clips { display:grid; grid-template-columns:1fr 1fr; gap:14px; }
.clips figure { margin:0; } .clips p { margin:0 0 8px; font-size:13.5px; }
.clips h4 { margin-top:8px; } audio { width:100%; height:34px; }
.clips img { display:block; width:100%; height:80px; border-radius:4px; }
@media (max-width:720px) { .clips { grid-template-columns:1fr; } }
"""


def as_html(found: Evaluation) -> str:
    """The page of an evaluation: at most `MOST_CLIPS` clips, some 50 kB each with their originals."""
    title = f"How {found.name} sounds"
    body = [
        f"<header><h1>{escape(title)}</h1>",
        f'<p class="lead">Held-out texts of {escape(found.corpus)}, {len(found.clips)} clips. Beside every figure '
        "stand what the original recordings score and what the next text's answer would.</p></header>",
        *(
            f'<p class="remark">{escape(name)}: not measured, {escape(why)}</p>'
            for name, why in found.unmeasured.items()
        ),
        *(_section(table) for table in tables(found)),
        *_routing(found),
        *_clips(found),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{_STYLE}</style></head>\n<body><main>"
        + "\n".join(body)
        + "</main></body></html>\n"
    )


def _section(table: Table) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return (
        f"<section><h2>{escape(table.title)}</h2><figure><div class=scroll><table><thead><tr>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div><figcaption>{escape(table.note)}</figcaption></figure></section>"
    )


def _routing(found: Evaluation) -> Iterator[str]:
    """Experts by layer, how many a token picks, load of each expert, null share: by domain, as the paper draws them."""
    routing = found.forced.routing
    if routing is None:
        return
    colours = dict(zip(routing.domains, _COLOURS, strict=False))
    yield "<h2>What the routers pick</h2>"
    means_DL, null_DL = routing.picked_mean_DL(), routing.null_share_DL()
    for title, values_DL, unit in (
        ("Routed experts a token picks, by layer", means_DL, "experts"),
        ("Share of picks that go to the null experts, by layer", null_DL, "of picks"),
    ):
        rows = {
            f"layer {layer} {domain}": {domain: float(values_DL[number, layer])}
            for layer in range(values_DL.shape[1])
            for number, domain in enumerate(routing.domains)
        }
        yield f"<figure><h3>{title}</h3>{legend(colours)}{stacked_rows(rows, colours, unit=unit)}</figure>"
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
    return f'<figure><h3>{escape(title)}</h3><div class="maps">{maps}</div><figcaption>{note}</figcaption></figure>'


def _clips(found: Evaluation) -> Iterator[str]:
    yield '<h2>Listen</h2><div class="clips">'
    for clip in chosen_clips(found.clips, MOST_CLIPS):
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
    """The sources taking turns, each source's kinds of text as well."""
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
        f'<img alt="spectrogram" src="{spectrogram_uri(cut_L, sample_rate_hz)}">'
        f'<audio controls preload="metadata" src="{audio_uri(cut_L, sample_rate_hz)}"></audio>'
    )
