"""An evaluation as text tables, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from unimoe.evaluation.figures import ClipFigures
from unimoe.evaluation.suite import Evaluation

_NONE = "–"


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table. `note`: a sentence or two about its columns. `words`: the columns after the first that hold names."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str
    words: tuple[int, ...] = ()


def tables(found: Evaluation) -> Iterator[Table]:
    """All tables that have rows."""
    yield from (table for table in (_words(found.heard), _quality(found), _notes(found.heard), _together(found),
                                    _domains(found), _routing(found)) if table.rows)  # fmt: skip


def _words(heard: ClipFigures) -> Table:
    rows = []
    for voice, figures in heard.voices.items():
        shares = (f"{figures.num_recognised} of {figures.num_clips}", str(figures.num_originals_recognised))
        for by, scores in figures.words.items():
            for kind, score in scores.items():
                rates = score.rates()
                errors = [percent(rates[name]) for name in ("wer", "original_wer", "rotated_wer")]
                if score.num_texts < 2:
                    errors[-1] = _NONE  # there is no next text
                made = score.made
                kinds = f"{made.substitutions} / {made.deletions} / {made.insertions}"
                rows.append((voice, kind, by, *errors, kinds, str(made.words), *shares))
                voice, shares = "", ("", "")
    return Table(
        title="Word error rate",
        columns=(
            "voice",
            "kind",
            "heard by",
            "WER",
            "original",
            "rotated",
            "S / D / I",
            "words",
            "recognised",
            "of originals",
        ),
        rows=tuple(rows),
        note="By Whisper, by pocketsphinx with a grammar of exactly these texts (optimistic), and by pocketsphinx with "
        "its own model of English (pessimistic). S / D / I: words substituted, deleted, inserted. Rotated: against the "
        "next text. Recognised: of the corpus's voices this one is nearest by spectrum and pitch.",
        words=(1, 2),
    )


def _quality(found: Evaluation) -> Table:
    rows = []
    for voice, quality in found.quality.items():
        similar = (quality.similarity, quality.original_similarity, quality.other_similarity)
        scores = (quality.dnsmos, quality.original_dnsmos)
        rows.append(
            (
                voice,
                *(_NONE if value is None else f"{value:.2f}" for value in similar),
                *(_NONE if score is None else " / ".join(f"{part:.2f}" for part in score) for score in scores),
            )
        )
    return Table(
        title="Voice and sound",
        columns=("voice", "similarity", "original", "other voice", "DNSMOS", "original DNSMOS"),
        rows=tuple(rows),
        note="Similarity: cosine of speaker embeddings to the voice's training recordings, and to the next voice's. "
        "DNSMOS: signal / background / overall, 1 to 5, whatever the words.",
    )


def _notes(heard: ClipFigures) -> Table:
    rows = tuple(
        (
            name,
            *map(percent, (row.made.exact_share, row.made.octave_share, row.original.exact_share,
                           row.rotated.exact_share, row.rotated.octave_share)),
            str(row.made.total),
            f"{row.num_recognised} of {row.num_clips}",
            str(row.num_originals_recognised),
        )
        for name, row in heard.instruments.items()
    )  # fmt: skip
    return Table(
        title="Notes heard as written",
        columns=(
            "instrument",
            "exact",
            "up to octave",
            "original",
            "rotated",
            "rotated to octave",
            "notes",
            "recognised",
            "of originals",
        ),
        rows=rows,
        note="By a pitch tracker (YIN) in the middle of each note, to the semitone. Rotated: against the next melody. "
        "Recognised: of the corpus's instruments this one is nearest by spectrum.",
    )


def _together(found: Evaluation) -> Table:
    rows = tuple(
        (
            name,
            *map(percent, (row.made.f1, row.original.f1, row.rotated.f1, row.made.recall, row.original.recall,
                           row.rotated.recall)),
            str(row.num_clips),
        )
        for name, row in found.together.items()
    )  # fmt: skip
    return Table(
        title="Simultaneous notes",
        columns=("music", "F1", "original", "rotated", "recall", "original", "rotated", "clips"),
        rows=rows,
        note="Notes that Basic Pitch hears in frames of 12 ms, against the written ones. Recall: share of the written "
        "notes that is heard. Rotated: against the next piece.",
    )


def _domains(found: Evaluation) -> Table:
    rows = []
    for domain in dict.fromkeys((*found.forced.losses, *found.frechet)):
        loss, frechet = found.forced.losses.get(domain), found.frechet.get(domain)
        losses = (_NONE, _NONE) if loss is None else (f"{loss.loss:.3f}", f"{loss.chance:.3f}")
        apart = (None,) * 3 if frechet is None else (frechet.made, frechet.halves, frechet.other_domain)
        rows.append((domain, *losses, *(_NONE if value is None else f"{value:.1f}" for value in apart)))
    return Table(
        title="Loss and closeness",
        columns=("domain", "loss", "chance", "log-mel Fréchet", "of halves", "other domain"),
        rows=tuple(rows),
        note="Loss: nats of a code when the original recordings' codes are forced. Log-mel Fréchet: distance of the "
        "synthesized audio to the originals, of one half of the originals to the other, and to another domain. It is "
        "not FAD, since it uses no trained model.",
    )


def _routing(found: Evaluation) -> Table:
    routing = found.forced.routing
    rows: list[tuple[str, ...]] = []
    note = ""
    if routing is not None:
        means_D, null_D = routing.picked_mean_DL().mean(axis=1), routing.null_share_DL().mean(axis=1)
        load_DLE = routing.load_DLE()
        for number, domain in enumerate(routing.domains):
            least, most = percent(load_DLE[number].min()), percent(load_DLE[number].max())
            rows.append((domain, f"{means_D[number]:.2f}", percent(null_D[number]), least, most))
        summary = routing.summary()
        note = (
            f"Over all: {summary['experts_picked']:.2f} ± {summary['experts_picked_deviation']:.2f} experts a token, "
            f"null share {percent(summary['null_share'])}, loads {percent(summary['load_smallest'])} to "
            f"{percent(summary['load_largest'])}. The distance of the domains' loads is "
            f"{summary['domain_distance']:.2f} (0: equal, 1: disjoint); a chance distance this large has "
            f"p = {summary['domain_distance_by_chance']:.3f}."
        )
    return Table(
        title="Routing",
        columns=("domain", "experts a token", "null share", "least load", "most load"),
        rows=tuple(rows),
        note=note,
    )


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"
