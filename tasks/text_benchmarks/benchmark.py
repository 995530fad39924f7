"""A benchmark of several subsets, each with its prompt, its length of answers and its metric."""

from __future__ import annotations

import hashlib
import json
import random
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from namm_mm.errors import UsageError, message
from namm_mm.records import Answer, Sample, Score
from namm_mm.records.shape import TEXT
from namm_mm.tasks.base import AnsweringTask, Outlook, fewer
from namm_mm.tasks.faults import faulty, in_words
from namm_mm.tasks.hub import HUB
from namm_mm.tasks.text_benchmarks.files import Published, locate, read_rows

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Subset:
    """One task of a benchmark.

    Attributes
    ----------
    size
        Rows of the published data; None where versions differ.
    new_tokens
        Longest answer.
    metric
        Name of the score.
    score
        From the reply and the row's reference, 0 to 1.
    fields
        What a row must have.
    """

    size: int | None
    new_tokens: int
    metric: str
    score: Callable[[str, Any], float]
    fields: tuple[str, ...]


class TextBenchmark(AnsweringTask):
    """Samples and scores of a published benchmark; only the split ``test`` exists.

    Parameters
    ----------
    source
        ``hub``, or a folder in the published layout.
    subsets
        Which tasks; None takes all.
    download
        Fetch what is not in the hub's cache; without, that is an error that says what to run.
    """

    holds: ClassVar[frozenset[str]] = frozenset({TEXT})

    published: Published
    tasks: Mapping[str, Subset]

    def __init__(
        self, source: str = HUB, subsets: Sequence[str] | None = None, download: bool = False
    ) -> None:
        for subset in subsets or ():
            if subset not in self.tasks:
                raise UsageError(
                    message(
                        f"unknown subset of {self.published.title}",
                        given=subset,
                        expected="one of its tasks",
                        valid=self.tasks,
                    )
                )
        self.source = str(source)
        self.download = download
        self.subsets = tuple(subsets or self.tasks)
        self._rows: dict[str, list[dict[str, Any] | str]] = {}

    @abstractmethod
    def prompt(self, subset: str, row: Row) -> str:
        """Return the published prompt, filled in."""

    @abstractmethod
    def references(self, subset: str, row: Row) -> Any:
        """Return what the metric of the subset compares a reply with (JSON values)."""

    def right(self, subset: str, row: Row) -> str:
        """Return one right reply, for likelihood and for reports."""
        reference = self.references(subset, row)
        return str(reference[0] if isinstance(reference, list) else reference)

    def samples(self, split: str, limit: int | None, seed: int) -> Sequence[Sample]:
        """Return rows in their published order, or `limit` of them drawn by `seed`, balanced."""
        if split != "test":
            return ()
        chosen: list[tuple[str, int]] = []
        indices = {subset: list(range(len(self._read(subset)))) for subset in self.subsets}
        if limit is None:
            chosen = [(subset, index) for subset in self.subsets for index in indices[subset]]
        else:
            for subset in self.subsets:
                random.Random(f"{seed}/{subset}").shuffle(indices[subset])
            depth = max(map(len, indices.values()), default=0)
            rounds = [
                (subset, indices[subset][turn])
                for turn in range(depth)
                for subset in self.subsets
                if turn < len(indices[subset])
            ]
            chosen = rounds[:limit]
        return tuple(self._sample(subset, index) for subset, index in chosen)

    def _sample(self, subset: str, index: int) -> Sample:
        row, name = self._read(subset)[index], f"{subset}/{index}"
        if isinstance(row, str):
            return faulty(name, subset, row)
        try:
            return self._of_row(name, subset, row)
        except Exception as error:  # whatever is wrong with one row, the others are asked
            return faulty(name, subset, in_words(error, name))

    def _of_row(self, name: str, subset: str, row: Row) -> Sample:
        return Sample(
            id=name,
            family=subset,
            question=self.prompt(subset, row),
            answer=self.right(subset, row),
            metadata={
                "max_new_tokens": self.tasks[subset].new_tokens,
                "references": self.references(subset, row),
            },
        )

    def _read(self, subset: str) -> list[dict[str, Any] | str]:
        if subset not in self._rows:
            path = locate(self.published, self.source, subset, download=self.download)
            self._rows[subset] = read_rows(path, self.tasks[subset].fields)
        return self._rows[subset]

    def fingerprint(self) -> str:
        """Return a hash of the rows."""
        digest = hashlib.sha256()
        for subset in self.subsets:
            text = json.dumps(self._read(subset), sort_keys=True, ensure_ascii=False, default=str)
            digest.update(f"{subset}\n{text}\n".encode(errors="surrogatepass"))
        return digest.hexdigest()[:16]

    def score(self, sample: Sample, answer: Answer) -> Score:
        """Return the score of a reply by the metric of its subset, 0 to 1."""
        subset = self.tasks[sample.family]
        value = subset.score(answer.text, sample.metadata["references"])
        return Score(float(value), subset.metric)

    def outlook(self, split: str, limit: int | None = None) -> Outlook:
        """Return the sizes of the published data, for plans."""
        if split != "test":
            return Outlook(samples=0)
        sizes = [self.tasks[subset].size for subset in self.subsets]
        return Outlook(
            samples=fewer(None if None in sizes else sum(size or 0 for size in sizes), limit),
            new_tokens=max(self.tasks[subset].new_tokens for subset in self.subsets),
            downloads=self.published.outlook(self.source, self.subsets),
        )
