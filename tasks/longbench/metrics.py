"""The metrics of LongBench (Bai et al. 2023, arXiv 2308.14508), from 0 to 1, as its code has them.

Also where that code is odd, since published scores have come from it: a class that is part of the
right class's name is taken out of the list that is being walked, so that the one after it is
skipped; code is compared on the first line that looks like neither a comment nor a quotation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher
from functools import cache
from typing import Any

from namm_mm.errors import RunError, message
from namm_mm.tasks.text_benchmarks.metrics import WIDE_PUNCTUATION, english_words
from namm_mm.tasks.text_benchmarks.metrics import f1 as overlap


def f1(answer: str, truth: str) -> float:
    """Return the overlap of words, without case, punctuation and articles."""
    return overlap(english_words(answer), english_words(truth))


def f1_chinese(answer: str, truth: str) -> float:
    """Return the overlap of the words that jieba finds, without punctuation."""
    return overlap(_chinese_words(answer), _chinese_words(truth))


def rouge_l(answer: str, truth: str) -> float:
    """Return the F-measure of ROUGE-L, by the package `rouge`; 0 for an answer without words."""
    scorer = _rouge()
    try:
        found: float = scorer.get_scores([answer], [truth], avg=True)["rouge-l"]["f"]
    except (ValueError, RecursionError):  # an empty answer, or one of thousands of words
        return 0.0
    return found


def rouge_l_chinese(answer: str, truth: str) -> float:
    """Return ROUGE-L over the words that jieba finds."""
    return rouge_l(" ".join(_cut(answer)), " ".join(_cut(truth)))


def retrieval(answer: str, truth: str) -> float:
    """Return the part of the numbers in the answer that are the right one: ``Paragraph 7``."""
    return _numbers(answer, truth, r"Paragraph (\d+)")


def retrieval_chinese(answer: str, truth: str) -> float:
    """Return the same for ``段落7``."""
    return _numbers(answer, truth, r"段落(\d+)")


def count(answer: str, truth: str) -> float:
    """Return the part of the numbers in the answer that are the right one."""
    return _numbers(answer, truth, r"(.*)")


def code_similarity(answer: str, truth: str) -> float:
    """Return the similarity of the first line of code, in whole percents, by :mod:`difflib`."""
    lines = answer.lstrip("\n").split("\n")
    line = next((x for x in lines if not any(mark in x for mark in ("`", "#", "//"))), "")
    return round(100 * SequenceMatcher(None, line, truth).ratio()) / 100


def classification(answer: str, truth: str, classes: Sequence[str]) -> float:
    """Return 1 over the number of classes that the answer names, if the right one is among them."""
    named = [name for name in classes if name in answer]
    for name in named:
        if name in truth and name != truth:
            named.remove(name)  # while walking it: see the module's text
    return 1.0 / len(named) if truth in named else 0.0


METRICS: Mapping[str, Callable[..., float]] = {
    "f1": f1,
    "f1_zh": f1_chinese,
    "rouge_l": rouge_l,
    "rouge_l_zh": rouge_l_chinese,
    "classification": classification,
    "retrieval": retrieval,
    "retrieval_zh": retrieval_chinese,
    "count": count,
    "code_similarity": code_similarity,
}


def score(metric: str, answer: str, truths: Sequence[str], classes: Sequence[str] = ()) -> float:
    """Return the best score over all right answers."""
    measure, further = METRICS[metric], [classes] if metric == "classification" else []
    return max((measure(answer, truth, *further) for truth in truths), default=0.0)


def _chinese_words(text: str) -> list[str]:
    words = (
        "".join("".join(sign for sign in word.lower() if sign not in WIDE_PUNCTUATION).split())
        for word in _cut(text)
    )
    return [word for word in words if word]


def _numbers(answer: str, truth: str, pattern: str) -> float:
    found = re.search(pattern, truth)
    right = found.group(1) if found else None
    numbers = re.findall(r"\d+", answer)
    return sum(number == right for number in numbers) / len(numbers) if numbers else 0.0


@cache
def _rouge() -> Any:
    try:
        from rouge import Rouge
    except ImportError as error:
        raise _missing("rouge") from error
    return Rouge()


def _cut(text: str) -> list[str]:
    try:
        import jieba
    except ImportError as error:
        raise _missing("jieba") from error
    if not jieba.dt.initialized:
        jieba.setLogLevel("WARNING")  # it tells on stderr how long its dictionary took
    return list(jieba.cut(text, cut_all=False))


def _missing(package: str) -> RunError:
    return RunError(
        message(
            "this task of LongBench needs another package for its published score",
            given=f"no package {package!r}",
            expected=f"{package} installed",
            then="Run `pip install 'namm-mm[longbench]'`.",
        )
    )
