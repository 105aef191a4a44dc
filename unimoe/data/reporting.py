"""Describes a corpus: counts, hours, histograms, licences and what a filter left out, as JSON and one HTML page."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np

from unimoe.data.corpus import Corpus, CorpusError, Item
from unimoe_runtime.files.atomic import write_atomically
from unimoe_runtime.files.json import read_json
from unimoe_tools.pages import svg
from unimoe_tools.pages.template import cards, page

SPLITS: Final = ("train", "valid", "test")
HISTOGRAMS: Final = {
    "duration_s": "duration, s", "level_db": "level, dB below full scale", "snr_db": "loud against quiet frames, dB",
    "bandwidth_hz": "bandwidth (99 % of power), Hz", "silence_share": "share of silence",
    "sounds_per_s": "phonemes or notes a second", "wer": "word error rate", "dnsmos": "DNSMOS",
}  # fmt: skip
_NUM_BINS = 24
_STYLE = ".pair { display:grid; grid-template-columns:1fr 1fr; gap:12px 24px; } td.text { text-align:left; }"


def describe_corpus(corpus: Corpus, folder: Path) -> dict[str, Any]:
    """All figures of the page. Metrics are those that a filter left in the corpus. Durations are always included."""
    rate_hz = corpus.sample_rate_hz

    def table(key: Callable[[Item], str], items: Iterable[Item]) -> dict[str, dict[str, float]]:
        clips: Counter[tuple[str, str]] = Counter()
        seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        for item in items:
            for split in (item.split, "all"):
                clips[key(item), split] += 1
                seconds[key(item), split] += item.length / rate_hz
        names = dict.fromkeys(name for name, _ in clips)
        return {
            name: {"clips": clips[name, "all"], "hours": round(seconds[name, "all"] / 3600, 3)}
            | {f"{split}_clips": clips[name, split] for split in SPLITS}
            for name in names
        }

    speech = corpus.select(domain="speech")
    music = corpus.select(domain="music")
    filtered = folder / "filtered.json"
    words = {split: _words(item for item in speech if item.split == split) for split in SPLITS}
    return {
        "clips": len(corpus),
        "hours": round(sum(item.length for item in corpus) / rate_hz / 3600, 3),
        "sample_rate_hz": rate_hz,
        "captioned": sum(item.captioned for item in corpus),
        "domains": table(lambda item: item.domain, corpus),
        "kinds": table(lambda item: f"{item.domain}: {item.kind}", corpus),
        "voices": table(lambda item: item.voice or "unknown", speech),
        "instruments": table(lambda item: item.instrument or "recorded", music),
        "keys": dict(Counter(item.key.split(" ", 1)[1] for item in music if item.key).most_common()),
        "texts": len({item.text for item in speech}),
        "words": {split: len(found) for split, found in words.items()},
        "words_only_in_test": len(words["test"] - words["train"] - words["valid"]),
        "histograms": {domain: _histograms(items, rate_hz) for domain, items in (("speech", speech), ("music", music))},
        "sources": {
            source: dict(corpus.details.get(source, {"licence": licence}))
            for source, licence in corpus.licences.items()
        },
        "filtered": read_json(filtered, CorpusError) if filtered.exists() else {},
    }


def _words(items: Iterable[Item]) -> set[str]:
    return {word for item in items for word in item.text.replace(",", " ").split()}


def _histograms(items: Sequence[Item], rate_hz: int) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {}
    for name in HISTOGRAMS:
        if name == "duration_s":
            values = [item.length / rate_hz for item in items]
        else:
            sign = -1 if name == "level_db" else 1
            values = [sign * item.metrics[name] for item in items if name in item.metrics]
        if values:
            counts, edges = np.histogram(values, bins=_NUM_BINS, range=(min(0.0, *values), max(*values, 1e-9)))
            found[name] = {"edges": [round(float(edge), 4) for edge in edges], "counts": counts.tolist()}
    return found


def write_report(corpus: Corpus, folder: Path, page: Path) -> dict[str, Any]:
    """Write the page, and the same figures as JSON beside it. Returns the figures."""
    facts = describe_corpus(corpus, folder)
    page.parent.mkdir(parents=True, exist_ok=True)
    for path, text in (
        (page, render_page(facts, folder.name)),
        (page.with_suffix(".json"), json.dumps(facts, indent=1)),
    ):
        write_atomically(path, text + "\n")
    return facts


def render_page(facts: Mapping[str, Any], name: str) -> str:
    """The page as HTML. It loads nothing from elsewhere."""
    figures = [
        ("audio", f"{facts['hours']:.2f} h", f"{facts['clips']:,} clips at {facts['sample_rate_hz'] // 1000} kHz"),
        ("with text or notes", f"{facts['captioned']:,}", "clips that a token model can be trained on"),
        ("texts", f"{facts['texts']:,}", f"{facts['words']['train']:,} words trained on, "
         f"{facts['words_only_in_test']:,} in test alone"),
    ]  # fmt: skip
    body = [cards(figures)]
    for key in ("domains", "kinds", "voices", "instruments"):
        body.append(f"<h2>{key.capitalize()}</h2>{_count_table(facts[key])}")
    if facts["keys"]:
        shown = ", ".join(f"{escape(mode)} {count:,}" for mode, count in facts["keys"].items())
        body.append(f"<p class='lead'>Modes of pieces in a key: {shown}.</p>")
    for domain, histograms in facts["histograms"].items():
        if histograms:
            drawn = "".join(_histogram(HISTOGRAMS[metric], values) for metric, values in histograms.items())
            body.append(f"<h2>{domain.capitalize()}, clip by clip</h2><div class='pair'>{drawn}</div>")
    if facts["filtered"]:
        body.append(_filter_section(facts["filtered"]))
    body.append(f"<h2>Sources and licences</h2>{_source_table(facts['sources'])}")
    return page(name, "What is in this corpus, and under what licence.", body, style=_STYLE)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], class_: str = "") -> str:
    cells = "".join(f"<th>{escape(title)}</th>" for title in head)
    lines = "".join(
        "<tr>"
        + "".join(f"<td{class_ if column else ''}>{escape(cell)}</td>" for column, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f"<div class='scroll'><table><tr>{cells}</tr>{lines}</table></div>"


def _count_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    lines = (
        [name, f"{row['hours']:.2f}", f"{row['clips']:,}", *(f"{row[f'{split}_clips']:,}" for split in SPLITS)]
        for name, row in rows.items()
    )
    return _table(["", "hours", "clips", *SPLITS], lines)


def _source_table(sources: Mapping[str, Mapping[str, Any]]) -> str:
    grouped: dict[tuple[str, ...], list[str]] = {}
    for source, facts in sources.items():
        ship = {True: "yes", False: "no"}.get(facts.get("may_ship", ""), "not recorded")
        reason = f"{ship}: {facts['reason']}" if facts.get("reason") else ship
        grouped.setdefault((facts["licence"], str(facts.get("origin", "")), reason), []).append(source)
    lines = ([", ".join(names), *facts] for facts, names in grouped.items())
    return _table(["source", "licence", "from", "weights may be shipped"], lines, ' class="text"').replace(
        "<td>", '<td style="white-space:normal">'
    )


def _filter_section(filtered: Mapping[str, Any]) -> str:
    rows = ([reason, f"{count:,}"] for reason, count in filtered["left_out"].items())
    kept = f"{filtered['kept']:,} of {filtered['clips']:,} clips of {escape(filtered['from'])} were kept."
    return f"<h2>Left out</h2><p class='lead'>{kept}</p>" + _table(["reason", "clips"], rows)


def _histogram(title: str, values: Mapping[str, Sequence[float]]) -> str:
    edges, counts = values["edges"], values["counts"]
    axes = svg.Axes(x0=edges[0], x1=edges[-1], top=max(counts), height=230, labels=(title, "clips"))
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        if count:
            note = svg.tag("title", f"{low:g} to {high:g}: {count:,.0f} clips")
            axes.parts.append(
                svg.tag(
                    "rect", note, x=axes.x(low) + 0.5, y=axes.y(count), width=max(axes.x(high) - axes.x(low) - 1, 0.5),
                    height=axes.y(0) - axes.y(count), class_="bar",
                )
            )  # fmt: skip
    return f"<figure>{svg.figure(axes.parts, 230, f'Histogram: {title}')}</figure>"
