"""LongVideoBench as a task, with the prompts and scores of lmms-eval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from namm_mm.errors import UsageError, message
from namm_mm.records import Record, Sample
from namm_mm.tasks.faults import row_samples
from namm_mm.tasks.longvideobench.subtitles import (
    frame_moments,
    interleave,
    placed,
    read_subtitles,
)
from namm_mm.tasks.video_benchmarks.clocks import seconds
from namm_mm.tasks.video_benchmarks.common import VideoBenchmark, unique
from namm_mm.tasks.video_benchmarks.files import Published, find_file
from namm_mm.tasks.video_benchmarks.replies import LETTERS, first_letter
from namm_mm.tasks.video_benchmarks.tables import read_rows

ENDING = "Answer with the option's letter from the given choices directly.\n"
ABSENT = "N/A"
MOST_OPTIONS = 5


@dataclass(frozen=True)
class LongVideoBenchTask(VideoBenchmark):
    """LongVideoBench: questions about a moment in videos of eight seconds to an hour.

    Split ``validation`` has answers (1337 questions); those of ``test`` (5341) are judged by the
    benchmark's server, so its score says only whether a reply parses, and the summary of a run
    holds the submission.

    Parameters
    ----------
    subtitles
        Put each subtitle between the frames around it (lmms-eval's ``_i`` tasks); otherwise the
        video comes first and there are none (``_v``).
    frames
        Places for frames with `subtitles`; the adapter samples as many.
    """

    subtitles: bool = False
    frames: int = 16

    new_tokens: ClassVar[int] = 32
    groupings: ClassVar[tuple[str, ...]] = ("duration_group", "question_category")
    sizes: ClassVar[Mapping[str, int]] = {"validation": 1337, "test": 5341}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames < 1:
            raise UsageError(message("wrong frames", given=self.frames, expected="1 or more"))

    def published(self, split: str) -> Published:
        """Return the benchmark on the hub; annotations are JSON or parquet."""
        file = {"validation": "lvb_val.json"}.get(split, "lvb_test_wo_gt.json")
        return Published(
            "longvideobench/LongVideoBench",
            (file, f"{split}-*.parquet", f"*/{split}-*.parquet"),
            "datasets/longvideobench",
            gated=True,
        )

    def read(self, path: Path, roots: Sequence[Path], split: str) -> list[Sample]:
        """See :class:`VideoBenchmark`."""
        return unique(
            row_samples(
                read_rows(path),
                lambda row: self._sample(row, roots, split),
                str(path),
                fields=("id", "question", "video_path", "duration_group", "duration"),
                family="duration_group",
            )
        )

    def worded(self, sample: Sample, roots: Sequence[Path]) -> Sample:
        """Return the sample with its subtitles in the prompt, where they are wanted."""
        if not self.subtitles:
            return sample
        facts = dict(sample.metadata)
        path = find_file(roots, [str(facts["subtitle_path"])], ("subtitles", ""))
        subtitles = read_subtitles(path)
        lines = interleave(
            frame_moments(facts["duration"], self.frames),
            subtitles or (),
            start=facts["starting_timestamp_for_subtitles"],
            duration=facts["duration"],
        )
        _, unread = placed(subtitles or (), facts["duration"])
        facts |= {"without_subtitles": subtitles is None, "subtitles_left_out": unread > 0}
        return replace(sample, prompt=f"{lines}\n{sample.prompt}", metadata=facts)

    def letter(self, reply: str, sample: Sample) -> str | None:
        """Return the first of A to E."""
        return first_letter(reply)

    def summary(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return the table, with the submission where there are no right letters."""
        found = super().summary(records)
        for record in records:
            budget = "" if record.budget in ("", "full") else f" {record.budget}"
            if record.metric == "parsed":
                replies = found[f"{record.policy}{budget}"].setdefault("submission", {})
                replies[record.sample] = record.details.get("reply", "")
        return found

    def _variant(self) -> tuple[Any, ...]:
        return (*super()._variant(), self.subtitles, self.frames if self.subtitles else 0)

    def _sample(self, row: Mapping[str, Any], roots: Sequence[Path], split: str) -> Sample:
        options = row.get("candidates") or [row.get(f"option{i}") for i in range(MOST_OPTIONS)]
        options = tuple(str(o) for o in options if o is not None and o != ABSENT)
        listed = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
        metadata: dict[str, Any] = {
            "duration_group": str(row["duration_group"]),
            "question_category": str(row.get("question_category", "")),
            "duration": _number(row, "duration"),
            "subtitle_path": str(row.get("subtitle_path", "")),
            "starting_timestamp_for_subtitles": _number(row, "starting_timestamp_for_subtitles"),
        }
        right = _right(row.get("correct_choice"), len(options), known=split != "test")
        if right is not None:
            metadata["letter"] = LETTERS[right]
        return Sample(
            id=str(row["id"]),
            family=metadata["duration_group"],
            question=str(row["question"]),
            options=options,
            answer="" if right is None else options[right],
            video=find_file(roots, [str(row["video_path"])], ("videos", "")),
            prompt="\n".join([str(row["question"]), *listed, ENDING]),
            metadata=metadata,
        )


def _number(row: Mapping[str, Any], name: str) -> float:
    """Return a field in seconds; 0 where there is none."""
    found = seconds(row.get(name) or 0.0)
    if found is None:
        raise UsageError(message(f"wrong {name}", given=row[name], expected="seconds"))
    return found


def _right(given: object, options: int, *, known: bool) -> int | None:
    """Return the index of the right option, which some files have as a text or as a decimal number.

    Where it is not `known`, an empty field or -1 stands for that.
    """
    if not known and given in (None, "", -1):
        return None
    if isinstance(given, str) and given.strip().isdigit():
        given = int(given)
    if isinstance(given, float) and given.is_integer():
        given = int(given)
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < options:
        return given
    raise UsageError(
        message("wrong correct_choice", given=given, expected=f"an index from 0 to {options - 1}")
    )
