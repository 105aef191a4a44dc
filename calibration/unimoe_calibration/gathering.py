"""Drawing data until every expert has received enough tokens, or the data end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from unimoe_runtime.bundle.reader import Bundle

from . import cache
from .coverage import Coverage
from .data import CalibrationData, Item, ItemReader
from .observation import InputObserver
from .settings import Settings
from .statistics import Statistics

ROUND_ITEMS = 4
"""Number of items that go through the graphs together."""

Progress = Callable[[str, int, int], None]
"""Called with the current activity, the amount done and the largest amount there can be."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Gathered:
    """Statistics, the coverage reached, and the items used; `num_cached` of these items came from the cache."""

    statistics: Statistics
    coverage: Coverage
    items: tuple[Item, ...]
    num_cached: int


def gather(
    bundle: Bundle,
    data: CalibrationData,
    settings: Settings,
    *,
    progress: Progress | None = None,
) -> Gathered:
    """Observe the bundle reading the data, in rounds, until all experts reach `settings.floor` or the data end.

    With `fallback="nearest"`, experts still below the floor then run on the rows that they nearly received, up to it.
    With `settings.cache_dir`, each round saves the statistics, and a later call resumes from them.
    Raises CalibrationError for an item that cannot be read, or a graph that computes a non-finite number.
    """
    tell: Progress = progress or (lambda what, done, total: None)
    order = data.drawn(settings.seed)
    near_misses = settings.floor if settings.fallback == "nearest" else 0
    observer = InputObserver(bundle, Statistics.empty(bundle.model, seed=settings.seed), near_misses=near_misses)
    path = None
    if settings.cache_dir is not None:
        key = cache.cache_key(bundle, data, seed=settings.seed, floor=settings.floor, near_misses=near_misses)
        path = settings.cache_dir / f"{key}.safetensors"
    known = (cache.load(path, observer) or {}) if path is not None else {}
    num_done = num_cached = int(known.get("items", 0))
    while num_done < len(order) and (num_done == 0 or Coverage.of(observer.statistics, bundle, settings.floor).below()):
        drawn = order[num_done : num_done + ROUND_ITEMS]
        with ItemReader(bundle, seed=settings.seed) as reader:
            samples = []
            for place, item in enumerate(drawn):
                tell(item.name, num_done + place, len(order))
                samples.append(reader.read(item))
        del reader  # frees the front end's words as well
        observer.observe(samples, partial(_tell_graph, tell, num_done, len(order)))
        num_done += len(drawn)
        if path is not None:
            cache.save(path, observer, {"items": num_done})
    coverage = Coverage.of(observer.statistics, bundle, settings.floor)
    for (layer, expert), tokens in coverage.below().items() if near_misses else ():
        observer.observe_near_misses(layer, expert, settings.floor - tokens)
    tell("done", len(order), len(order))
    return Gathered(
        statistics=observer.statistics, coverage=coverage, items=tuple(order[:num_done]), num_cached=num_cached
    )


def _tell_graph(tell: Progress, done: int, total: int, graph: str) -> None:
    tell(graph, done, total)
