"""ChouBun (SakanaAI, with the NAMM paper, arXiv 2410.13166): four tasks over Japanese documents.

Data and lengths of answers are the published ones. The published prompts carry no licence and are
not copied: those here are our own words, and ``prompts=FILE`` takes the authors'
``dataset2prompt.json``. Scores under the two differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from namm_mm.errors import RunError, UsageError, message
from namm_mm.tasks.hub import HUB
from namm_mm.tasks.text_benchmarks.benchmark import Row, Subset, TextBenchmark
from namm_mm.tasks.text_benchmarks.files import Published
from namm_mm.tasks.text_benchmarks.metrics import characters, f1
from namm_mm.tasks.text_files import read_text

PUBLISHED = Published(
    "ChouBun",
    "SakanaAI/ChouBun",
    ("{subset}/test-00000-of-00001.parquet", "{subset}.jsonl"),
)
WORDS = ("fugashi", "characters")
_FIELDS = ("context", "input", "answers")

_QUESTION = (
    "次の文書を読んで、質問に日本語で簡潔に答えてください。\n\n{context}\n\n質問: {input}\n答え:"
)
_SUMMARY = "次の文書を日本語で要約してください。\n\n{context}\n\n{input}\n要約:"
PROMPTS: Mapping[str, str] = {
    "wiki_qa": _QUESTION,
    "edinet_qa": _QUESTION,
    "corp_sec_qa": _QUESTION,
    "corp_sec_sum": _SUMMARY,
}


def _words(text: str, tokenizer: str) -> list[str]:
    """Return the words of Japanese text by fugashi (MeCab), or its characters; no punctuation."""
    if tokenizer == "characters":
        return characters(text)
    try:
        from fugashi import Tagger
    except ImportError as error:
        raise RunError(
            message(
                "fugashi is not installed",
                given="words=fugashi",
                expected="a tokeniser of Japanese, which the published metrics use",
                then="`pip install 'fugashi[unidic-lite]'`, or words=characters, whose scores are "
                "not comparable.",
            )
        ) from error
    found = [word.surface for word in Tagger("-Owakati")(text)]
    return [plain for word in found if (plain := "".join(characters(word)))]


def _longest_common(found: Sequence[str], right: Sequence[str]) -> int:
    row = [0] * (len(right) + 1)
    for word in found:
        before = 0
        for j, other in enumerate(right, start=1):
            before, row[j] = row[j], before + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]


def rouge_l(found: Sequence[str], right: Sequence[str]) -> float:
    """Return the F1 of the longest common subsequence (Lin, 2004)."""
    common = _longest_common(found, right)
    if not common:
        return 0.0
    precision, recall = common / len(found), common / len(right)
    return 2 * precision * recall / (precision + recall)


def question_score(reply: str, right: Mapping[str, Any]) -> float:
    """Return the best F1 of words over the references."""
    tokenizer = str(right["words"])
    found = _words(reply, tokenizer)
    return max(f1(found, _words(one, tokenizer)) for one in right["answers"])


def summary_score(reply: str, right: Mapping[str, Any]) -> float:
    """Return the best ROUGE-L of words over the references."""
    tokenizer = str(right["words"])
    found = _words(reply, tokenizer)
    return max(rouge_l(found, _words(one, tokenizer)) for one in right["answers"])


TASKS: Mapping[str, Subset] = {
    "wiki_qa": Subset(None, 64, "f1", question_score, _FIELDS),
    "edinet_qa": Subset(390, 64, "f1", question_score, _FIELDS),
    "corp_sec_qa": Subset(150, 64, "f1", question_score, _FIELDS),
    "corp_sec_sum": Subset(30, 128, "rouge_l", summary_score, _FIELDS),
}


class ChouBunTask(TextBenchmark):
    """ChouBun: questions and summaries of long Japanese documents, in four tasks.

    Parameters
    ----------
    words
        ``fugashi``, as published, or ``characters``.
    prompts
        A JSON file from subset to prompt with ``{context}`` and ``{input}``; None takes ours.
    """

    published = PUBLISHED
    tasks = TASKS

    def __init__(
        self,
        source: str = HUB,
        subsets: Sequence[str] | None = None,
        download: bool = False,
        words: str = "fugashi",
        prompts: str | None = None,
    ) -> None:
        super().__init__(source, subsets, download)
        if words not in WORDS:
            raise UsageError(
                message("unknown words", given=words, expected="a tokeniser", valid=WORDS)
            )
        self.words = words
        self.prompts = dict(PROMPTS) if prompts is None else _read_prompts(Path(prompts))

    def prompt(self, subset: str, row: Row) -> str:
        """Return the prompt of the subset, filled in."""
        return self.prompts[subset].format(context=row["context"], input=row["input"])

    def references(self, subset: str, row: Row) -> Any:
        """Return all right answers, and the name of what splits them into words."""
        return {"answers": list(row["answers"]), "words": self.words}

    def right(self, subset: str, row: Row) -> str:
        """Return the first right answer."""
        return str(row["answers"][0])


def _read_prompts(path: Path) -> dict[str, str]:
    try:
        given = json.loads(read_text(path.expanduser()))
        found = {subset: str(given[subset]) for subset in TASKS}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            message(
                f"cannot read the prompts ({type(error).__name__}: {error})",
                given=str(path),
                expected=f"a JSON object with {', '.join(TASKS)}",
            )
        ) from error
    return found
