"""MLVU as a task, with the prompts and scores of lmms-eval: M-Avg, the mean over kinds of tasks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from namm_mm.errors import UsageError, message
from namm_mm.records import Answer, Sample, Score
from namm_mm.tasks.faults import UNKNOWN, row_samples
from namm_mm.tasks.video_benchmarks.common import VideoBenchmark, unique
from namm_mm.tasks.video_benchmarks.files import Published, find_file
from namm_mm.tasks.video_benchmarks.replies import LETTERS, ranked_letter
from namm_mm.tasks.video_benchmarks.tables import read_rows

ENDINGS = {"validation": "\nOnly give the best option.\nBest option: (", "test": ""}
READ = ("four", "all")


@dataclass(frozen=True)
class MlvuTask(VideoBenchmark):
    """MLVU: seven (dev) or nine (test) kinds of questions about long videos.

    Split ``validation`` is MLVU-dev, ``test`` is MLVU-test.

    Parameters
    ----------
    letters
        Which letters are looked for in a reply: ``four`` reads A to D only, as lmms-eval does,
        though questions of MLVU-test have more options; ``all`` reads as many as there are.
        Questions whose right letter cannot be read are counted as ``unreachable``.
    """

    letters: str = "four"

    groupings: ClassVar[tuple[str, ...]] = ("task_type",)
    macro: ClassVar[str | None] = "task_type"
    sizes: ClassVar[Mapping[str, int]] = {"validation": 2174, "test": 502}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.letters not in READ:
            raise UsageError(
                message("unknown letters", given=self.letters, expected="a known one", valid=READ)
            )

    def published(self, split: str) -> Published:
        """Return one of two data sets, each with one split called ``test``."""
        dev = split == "validation"
        return Published(
            "sy1998/MLVU_dev" if dev else "sy1998/MLVU_Test",
            ("test-*.parquet", "*/test-*.parquet", "mlvu*.json", "json/*.json"),
            "mlvu" if dev else "mlvu_test",
        )

    def read(self, path: Path, roots: Sequence[Path], split: str) -> list[Sample]:
        """See :class:`VideoBenchmark`."""
        single = path.parent.name != "json"  # the authors' layout has a file for each kind
        found = []
        for file in [path] if single else sorted(path.parent.glob("*.json")):
            rows = [row for row in read_rows(file) if not _is_open(row)]
            found += row_samples(
                rows,
                lambda row: self._sample(_plain(row), roots, split),
                str(file),
                family="task_type" if single else "question_type",
                of_family=UNKNOWN if single else file.stem,
            )
        return unique(found)

    def letter(self, reply: str, sample: Sample) -> str | None:
        """Return the letter in the most telling place."""
        return ranked_letter(reply, self._readable(sample))

    def score(self, sample: Sample, answer: Answer) -> Score:
        """Return the score; ``unreachable`` marks questions that no reply could get right."""
        score = super().score(sample, answer)
        hidden = sample.metadata["letter"] not in self._readable(sample)
        unreachable = hidden and not answer.log_probabilities
        return replace(score, details={**score.details, "unreachable": unreachable})

    def _readable(self, sample: Sample) -> str:
        return LETTERS[: max(len(sample.options), 4)] if self.letters == "all" else LETTERS[:4]

    def _variant(self) -> tuple[Any, ...]:
        return (*super()._variant(), self.letters)

    def _sample(self, row: Mapping[str, Any], roots: Sequence[Path], split: str) -> Sample:
        for field in ("video_name", "question", "answer", "task_type"):
            if row.get(field) is None:
                raise UsageError(
                    message(f"the field {field!r} is missing", given=sorted(row), expected="it")
                )
        question, letter = str(row["question"]), str(row["answer"]).strip("(). ")
        options = tuple(re.findall(r"^\([A-J]\)\s*(.*?)\s*$", question, re.MULTILINE))
        at = LETTERS.find(letter) if len(letter) == 1 else -1
        if at < 0 or (options and at >= len(options)):
            raise UsageError(
                message(
                    f"wrong answer of an MLVU question about {row['video_name']}",
                    given=row["answer"],
                    expected="the letter of one of its options",
                )
            )
        name = str(row["video_name"])
        kind = str(row["task_type"])
        return Sample(
            id=f"{kind}/{Path(name).stem}",
            family=kind,
            question=question,
            options=options,
            answer=options[at] if options else letter,
            video=find_file(roots, [name], ("", "video", "videos", "data")),
            prompt=question + ENDINGS[split],
            metadata={"task_type": kind, "letter": letter},
        )


def _is_open(row: Mapping[str, Any] | str) -> bool:
    """Whether a row of the authors' files is of the kinds without options, which are not asked."""
    return not isinstance(row, str) and "video_name" not in row and not row.get("candidates")


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as in the hub's table, also for a row of the authors' files."""
    if "video_name" in row:
        return dict(row)
    options = [str(option) for option in row.get("candidates") or ()]
    listed = [f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]
    answer = str(row.get("answer")).strip()
    bare = [option.strip() for option in options]
    if answer not in bare:
        raise UsageError(
            message(
                f"the answer of an MLVU question about {row.get('video')} is none of its options",
                given=row.get("answer"),
                expected="one of them",
                valid=options,
            )
        )
    return {
        "video_name": row.get("video"),
        "question": "\n".join([f"Question: {row.get('question')}", "Options:", *listed]),
        "answer": LETTERS[bare.index(answer)],
        "task_type": row.get("question_type"),
    }
