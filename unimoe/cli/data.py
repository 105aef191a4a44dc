"""`unimoe data`: turns sources into corpora and corpora into codec tokens."""

from __future__ import annotations

from pathlib import Path

import click

from unimoe.cli.data_options import (
    CORPUS,
    OUT,
    RECIPE,
    WORKERS,
    anew_when_stopped,
    incomplete_when_stopped,
    read_section,
    tell_corpus,
)
from unimoe.cli.data_speech import SPEECH_COMMANDS
from unimoe.cli.options import RATE_HZ, THREADS, Command, Group, json_option, write_json
from unimoe.cli.tables import Column, as_word, print_next, print_table
from unimoe.exclusive import exclusive
from unimoe_runtime.errors import ConfigError


@click.group(cls=Group)
def data() -> None:
    """Make, measure, filter and encode corpora of speech and music."""


for _command in SPEECH_COMMANDS:
    data.add_command(_command)


@data.command(cls=Command)
@json_option
def sources(json_to: str | None) -> None:
    """List the sources of material, their licences, and whether weights trained on them may be shipped."""
    from dataclasses import asdict

    from unimoe.data.sources import SOURCES

    if write_json([asdict(source) for source in SOURCES.values()], json_to):
        return
    titles = ("what", "licence", "weights may be shipped", "install")
    rows = [
        [one.name, one.what, one.licence, f"{'yes' if one.may_ship else 'no'}: {one.reason}", one.install]
        for one in SOURCES.values()
    ]
    print_table([Column(title="source"), *(Column(title=title, prose=True) for title in titles)], rows)


@data.command(cls=Command)
@click.argument("recipe", type=RECIPE)
@click.argument("out", type=OUT)
@WORKERS
@json_option
def render(recipe: Path, out: Path, workers: int, json_to: str | None) -> None:
    """Render the corpus OUT that RECIPE's section [data] describes. Resumes after an interruption."""
    from unimoe.data.recipe import CorpusRecipe
    from unimoe.data.rendering import render_corpus

    section = read_section(recipe, "data")
    try:
        wanted = CorpusRecipe.from_dict(section)
    except ConfigError as error:
        raise ConfigError(f"{recipe}: section [data]: {error}") from None
    corpus = render_corpus(out, wanted, num_workers=workers)
    tell_corpus(
        corpus,
        out,
        json_to,
        next_steps=[f"`unimoe data filter {as_word(out)} FILTERED`", f"`unimoe data report {as_word(out)}`"],
    )


@data.command("import", cls=Command)
@click.argument("folder", type=CORPUS)
@click.argument("out", type=OUT)
@click.option("--voice", default="own", show_default=True, help="The speaker's name where the list gives none.")
@click.option("--licence", default="", help="Licence of the recordings, kept with every clip.")
@click.option("--may-ship", is_flag=True, help="The licence allows shipping weights trained on them.")
@click.option("--rate", default=16000, show_default=True, type=RATE_HZ, help="Sample rate in Hz.")
@click.option("--align/--no-align", default=True, show_default=True, help="Find the time of each phoneme.")
@WORKERS
@json_option
def import_(
    folder: Path,
    out: Path,
    voice: str,
    licence: str,
    may_ship: bool,
    rate: int,
    align: bool,
    workers: int,
    json_to: str | None,
) -> None:
    """Make the corpus OUT from your own recordings: FOLDER has audio, and texts as .txt, metadata.csv or .jsonl."""
    from unimoe.data.folders import Terms, plan_import
    from unimoe.data.rendering import run_jobs

    terms = Terms(licence=licence, may_ship=may_ship)
    plan = plan_import(folder, voice=voice, terms=terms, sample_rate_hz=rate, align=align)
    corpus = run_jobs(out, plan, sample_rate_hz=rate, seed=0, num_workers=workers)
    unaligned = sum(not item.captioned for item in corpus)
    note = f"; {unaligned:,} without phonemes, for a codec alone" if unaligned else ""
    tell_corpus(corpus, out, json_to, note=note, next_steps=[f"`unimoe data filter {as_word(out)} FILTERED`"])


@data.command(cls=Command)
@click.argument("out", type=OUT)
@click.argument("corpora", type=CORPUS, nargs=-1, required=True)
@json_option
def join(out: Path, corpora: tuple[Path, ...], json_to: str | None) -> None:
    """Join several corpora into one corpus OUT."""
    from unimoe.data.joining import join_corpora

    with incomplete_when_stopped(out):
        joined = join_corpora(corpora, out)
    tell_corpus(joined, out, json_to, next_steps=[f"`unimoe data report {as_word(out)}`"])


@data.command("filter", cls=Command)
@click.argument("corpus", type=CORPUS)
@click.argument("out", type=OUT)
@click.option("--recipe", type=RECIPE, help="A recipe whose section [filter] has limits.")
@click.option("--balance", is_flag=True, help="Keep as many hours of speech as of music in the training split.")
@click.option("--wer", is_flag=True, help="Also measure word errors of speech (slow; needs pocketsphinx).")
@click.option("--dnsmos", is_flag=True, help="Also measure DNSMOS (slow; needs speechmos).")
@WORKERS
@json_option
def filter_(
    corpus: Path,
    out: Path,
    recipe: Path | None,
    balance: bool,
    wer: bool,
    dnsmos: bool,
    workers: int,
    json_to: str | None,
) -> None:
    """Measure every clip of CORPUS and copy the good ones to OUT, each once.

    Measures stay in OUT/metrics.jsonl; those in CORPUS/metrics.jsonl are used as well.
    """
    from dataclasses import replace

    from unimoe.data.corpus import Corpus
    from unimoe.data.filtering import FilterRecipe, judge_clips, require_another, write_filtered
    from unimoe.data.metrics import METRICS, Extras, measure_corpus

    wanted = FilterRecipe.from_section(read_section(recipe, "filter") if recipe else {})
    wanted = replace(wanted, balance=wanted.balance or balance)
    require_another(corpus, out)
    opened = Corpus.open(corpus)
    extras = Extras(wer=wer, dnsmos=dnsmos)
    with exclusive(out):
        metrics = measure_corpus(opened, out / METRICS, extras, earlier=corpus / METRICS, num_workers=workers)
        verdict = judge_clips(opened, metrics, wanted)
        with anew_when_stopped(out):
            kept = write_filtered(opened, corpus, out, metrics, verdict, wanted)
    tell_corpus(
        kept, out, json_to, left_out=verdict.counts(),
        next_steps=[f"`unimoe data report {as_word(out)}`", "`unimoe train RECIPE.toml`"],
    )  # fmt: skip


@data.command(cls=Command)
@click.argument("corpus", type=CORPUS)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="The page. [default: CORPUS/report.html]")
@json_option
def report(corpus: Path, html: Path | None, json_to: str | None) -> None:
    """Write a page about CORPUS: counts, hours, histograms, licences. The same figures lie beside it as JSON."""
    from unimoe.data.corpus import Corpus
    from unimoe.data.reporting import write_report

    opened = Corpus.open(corpus)
    page = html or corpus / "report.html"
    facts = write_report(opened, corpus, page)
    if write_json(facts, json_to):
        return
    click.echo(opened.summary(corpus))
    for name, row in facts["kinds"].items():
        click.echo(f"  {name:20} {row['hours']:7.2f} h {row['clips']:8,} clips")
    local = [name for name, source in facts["sources"].items() if source.get("may_ship") is False]
    if local:
        click.echo(f"weights trained on {', '.join(local)} may not be shipped")
    click.echo(f"page: {page}")


@data.command(cls=Command)
@click.argument("corpus", type=CORPUS)
@click.argument("codec", type=CORPUS)
@click.option("--cache", type=OUT, help="Folder of codec tokens. [default: CORPUS/codes]")
@click.option("--threads", default=2, show_default=True, type=THREADS, help="CPU threads.")
@json_option
def encode(corpus: Path, codec: Path, cache: Path | None, threads: int, json_to: str | None) -> None:
    """Encode CORPUS into tokens of CODEC, cached by the hashes of codec and clip. Resumes after an interruption."""
    import torch

    from unimoe.data.codes import cached_codes
    from unimoe.data.corpus import Corpus

    torch.set_num_threads(threads)
    folder = cache or corpus / "codes"
    codes = cached_codes(Corpus.open(corpus), codec, folder)
    frames = sum(len(codes_TK) for codes_TK in codes)
    record = {"codes": str(folder), "clips": len(codes), "frames": frames, "codebooks": codes[0].shape[1]}
    if not write_json(record, json_to):
        click.echo(f"{len(codes):,} clips, {frames:,} frames of {codes[0].shape[1]} codebooks in {folder}")
        print_next("`unimoe train RECIPE.toml`, with the folders of corpus and codec in the recipe")
