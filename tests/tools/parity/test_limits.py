"""Limits of a comparison: passed, failed, or too few texts to tell."""

from __future__ import annotations

from unimoe_tools.parity.bundles import BundleComparison
from unimoe_tools.parity.limits import BundleReport, Heard, limit_bundles
from unimoe_tools.parity.ratios import Ratio, Verdict
from unimoe_tools.parity.teacher_forced import Divergence


def compared(router_agreement: float = 1.0) -> BundleComparison:
    forced = Divergence(
        num_tokens=100, max_logit_error=0.1, logit_error=0.01, kl_nats=0.01, token_agreement=1.0,
        router_agreement=router_agreement, equal_sets=1.0,
    )  # fmt: skip
    step = Ratio(
        measure="step", reference=2.0, candidate=1.0, ratio=0.5, low=0.4, high=0.6, verdict=Verdict.FASTER
    )  # fmt: skip
    return BundleComparison(
        forced=forced, first_differences=(None,), spectral_db=None, other_seed_db=None, graph_bytes=1,
        reference_graph_bytes=4, step=step, intervals={},
    )  # fmt: skip


def heard(errors_T: list[int], words: int = 5) -> Heard:
    words_T = [words] * len(errors_T)
    return Heard(summary={"wer": sum(errors_T) / sum(words_T)}, word_errors_T=errors_T, words_T=words_T)


def report(candidate: Heard, reference: Heard, **more: float) -> BundleReport:
    return limit_bundles(compared(**more), {}, heard={"candidate": candidate, "reference": reference})


def test_two_words_of_a_dozen_texts_prove_nothing() -> None:
    found = report(heard([1, 1, *[0] * 10]), heard([0] * 12))
    (words,) = (one for one in found.figures if one.name == "word-errors")
    assert words.value > 0.02 and words.low is not None and words.low <= 0.02
    assert words.verdict == "undecided" and "12 texts" in words.beside and words.interval
    assert found.is_undecided and not found.passed
    assert found.to_dict()["undecided"] is True


def test_many_words_fail() -> None:
    found = report(heard([2] * 40), heard([0] * 40))
    assert not found.passed and not found.is_undecided
    assert "FAILS" in {one.verdict for one in found.figures}


def test_another_failure_is_a_failure_whatever_the_words_say() -> None:
    found = report(heard([1, 1, *[0] * 10]), heard([0] * 12), router_agreement=0.9)
    assert not found.passed and not found.is_undecided


def test_equal_words_pass() -> None:
    found = report(heard([1] * 12), heard([1] * 12))
    assert found.passed and not found.is_undecided
