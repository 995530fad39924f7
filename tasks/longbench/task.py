"""LongBench (Bai et al. 2023, arXiv 2308.14508): published prompts, limits and metrics."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import ClassVar

from namm_mm.errors import UsageError, message
from namm_mm.records import Answer, Sample, Score
from namm_mm.records.shape import TEXT
from namm_mm.tasks.base import AnsweringTask, names
from namm_mm.tasks.faults import faulty, in_words
from namm_mm.tasks.longbench import data, metrics
from namm_mm.tasks.longbench.published import tasks

SPLITS = ("train", "validation", "test")
PUBLISHED, HELD_OUT = "published", "held_out"
SHARES = {"train": (0, 60), "validation": (60, 80), "test": (80, 100)}


@dataclass(frozen=True)
class LongBenchTask(AnsweringTask):
    """LongBench: 21 tasks on long English, Chinese and code texts.

    Parameters
    ----------
    families
        Names of its tasks, such as ``narrativeqa``; each counts as a family. All by default.
    source
        A folder of ``TASK.jsonl`` files, or with the hub's ``data.zip``; None takes the hub's.
    splits
        LongBench has test samples alone. ``held_out`` deals them out by a hash of their id: 60 %
        train, 20 % validation, 20 % test. ``published`` gives all of them under every name, as the
        NAMM paper did: what is scored there was trained on.

    Raises
    ------
    UsageError
        An option is wrong.
    """

    holds: ClassVar[frozenset[str]] = frozenset({TEXT})

    families: Sequence[str] | None = None
    source: str | None = None
    splits: str = HELD_OUT

    def __post_init__(self) -> None:
        known = tasks()
        chosen = tuple(known) if self.families is None else names(self.families)
        object.__setattr__(self, "families", chosen)
        for family in chosen:
            if family not in known:
                raise UsageError(
                    message(
                        "unknown task of LongBench",
                        given=family,
                        expected="a known one",
                        valid=known,
                    )
                )
        if not chosen or len(set(chosen)) < len(chosen):
            raise UsageError(
                message("wrong families", given=chosen, expected="one or more, each once")
            )
        if self.splits not in (PUBLISHED, HELD_OUT):
            raise UsageError(
                message(
                    "unknown splits",
                    given=self.splits,
                    expected="a known rule",
                    valid=(PUBLISHED, HELD_OUT),
                )
            )
        if self.source is not None and not Path(self.source).expanduser().exists():
            raise UsageError(
                message(
                    "no such source of LongBench",
                    given=self.source,
                    expected="a folder of TASK.jsonl files, a data.zip, or null for the hub's",
                )
            )

    def samples(self, split: str, limit: int | None, seed: int) -> Sequence[Sample]:
        """Return samples of `split`, families in turn, each in an order that `seed` shuffles."""
        if split not in SPLITS:
            raise UsageError(
                message("unknown split", given=split, expected="a known one", valid=SPLITS)
            )
        columns = [self._family(family, split, seed) for family in self.families or ()]
        found = [sample for sample in chain(*zip_longest(*columns)) if sample is not None]
        return found if limit is None else found[:limit]

    def _family(self, family: str, split: str, seed: int) -> list[Sample]:
        lines, _ = data.read(self.source, family)
        if self.splits == HELD_OUT:
            low, high = SHARES[split]
            lines = tuple(x for x in lines if low <= _hash(f"{family} {x['_id']}") % 100 < high)
        ordered = sorted(lines, key=lambda line: _hash(f"{seed} {family} {line['_id']}"))
        return [self._sample(family, line, seed) for line in ordered]

    def _sample(self, family: str, line: data.Line, seed: int) -> Sample:
        name = f"{family}-{line['_id']}"
        if data.FAULT in line:
            return faulty(name, family, line[data.FAULT])
        try:
            return self._of_line(name, family, line, seed)
        except Exception as error:  # whatever is wrong with one line, the others are asked
            return faulty(name, family, in_words(error, name))

    def _of_line(self, name: str, family: str, line: data.Line, seed: int) -> Sample:
        published = tasks()[family]
        return Sample(
            id=name,
            family=family,
            context=published.ask(line["context"], line["input"]),
            answer=str(line["answers"][0]),
            seed=seed,
            metadata={
                "answers": [str(answer) for answer in line["answers"]],
                "classes": list(line.get("all_classes") or ()),
                "max_new_tokens": published.max_new_tokens,
                "verbatim": True,
            },
        )

    def score(self, sample: Sample, answer: Answer) -> Score:
        """Return the task's own metric, from 0 to 1.

        ``details`` say it also as a multiple of what Llama-3-8B scores with its full cache in the
        code of the NAMM paper: the mean of that over a task is its published normalisation.
        """
        published = tasks()[sample.family]
        text = answer.text
        if published.first_line:
            text = text.lstrip("\n").split("\n")[0]
        given = sample.metadata
        value = metrics.score(published.metric, text, given["answers"], given["classes"])
        details = {"of_llama_3_8b_full_cache": value / (published.full_cache / 100)}
        if len(answer.log_probabilities) == 1:
            details["log_probability"] = answer.log_probabilities[0]
        return Score(value, published.metric, details)

    def fingerprint(self) -> str:
        """Return a hash of the files, the prompts and the rule of the splits."""
        files = [data.read(self.source, family)[1] for family in self.families or ()]
        prompts = [tasks()[family].prompt for family in self.families or ()]
        return data.fingerprint([self.splits, *files, *prompts])


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:8])
