"""Video-MME as a task, with the prompts and scores of lmms-eval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from namm_mm.errors import UsageError, message
from namm_mm.records import Sample
from namm_mm.tasks.faults import row_samples
from namm_mm.tasks.text_files import is_there
from namm_mm.tasks.video_benchmarks.common import VideoBenchmark, unique
from namm_mm.tasks.video_benchmarks.files import Published, find_file
from namm_mm.tasks.video_benchmarks.replies import LETTERS, ranked_letter
from namm_mm.tasks.video_benchmarks.tables import read_rows
from namm_mm.tasks.video_mme.subtitles import HEADING, NONE, read_srt, shown
from namm_mm.video import frame_count

OPENING = (
    "Select the best answer to the following multiple-choice question based on the video and the "
    "subtitles. Respond with only the letter (A, B, C, or D) of the correct option."
)
ENDING = "\nAnswer with the option's letter from the given choices directly."
ENDING_WITH_SUBTITLES = "The best answer is:"
ORDERS = ("lmms_eval", "time")


@dataclass(frozen=True)
class VideoMmeTask(VideoBenchmark):
    """Video-MME: 2700 questions about 900 videos; all are the split ``test``.

    Parameters
    ----------
    subtitles
        List the subtitles that are shown at the sampled frames before the question
        (``videomme_w_subtitle``).
    frames
        At how many frames.
    subtitle_order
        ``lmms_eval`` lists them in the order of a Python set, as published numbers were made;
        ``time`` in order. Each sample's metadata says whether the two differ.
    """

    subtitles: bool = False
    frames: int = 32
    subtitle_order: str = "lmms_eval"

    groupings: ClassVar[tuple[str, ...]] = ("duration", "domain", "sub_category", "task_type")
    sizes: ClassVar[Mapping[str, int]] = {"test": 2700}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.subtitle_order not in ORDERS:
            raise UsageError(
                message(
                    "unknown subtitle_order",
                    given=self.subtitle_order,
                    expected="a known one",
                    valid=ORDERS,
                )
            )
        if self.frames < 1:
            raise UsageError(message("wrong frames", given=self.frames, expected="1 or more"))

    def published(self, split: str) -> Published:
        """Return the benchmark on the hub: one table, in a folder of its own."""
        return Published(
            "lmms-eval/Video-MME",
            ("videomme/test-*.parquet", "test-*.parquet", "*/test-*.parquet", "videomme*.json"),
            "videomme",
        )

    def read(self, path: Path, roots: Sequence[Path], split: str) -> list[Sample]:
        """See :class:`VideoBenchmark`."""
        fields = ("question_id", "videoID", "question", "options", "answer", *self.groupings)
        return unique(
            row_samples(
                read_rows(path),
                lambda row: self._sample(row, roots),
                str(path),
                fields=fields,
                family="duration",
            )
        )

    def worded(self, sample: Sample, roots: Sequence[Path]) -> Sample:
        """Return the sample with subtitles before the question, where they are wanted."""
        if not self.subtitles:
            return sample
        path = find_file(roots, [f"{sample.metadata['videoID']}.srt"], ("subtitle", "subtitles"))
        text, mixed, unread = NONE, False, 0
        if is_there(path) and sample.video is not None and is_there(sample.video):
            total, rate = frame_count(sample.video)
            subtitles, unread = read_srt(path)
            orders = [
                shown(subtitles, frames=self.frames, total=total, rate=rate, in_order=in_order)
                for in_order in (False, True)
            ]
            text, mixed = orders[self.subtitle_order == "time"], orders[0] != orders[1]
        listed = "\n".join([sample.question, *sample.options])
        prompt = f"{HEADING}{text}\n{OPENING}\n{listed}\n{ENDING_WITH_SUBTITLES}"
        flags = {
            "without_subtitles": text == NONE,
            "subtitles_mixed_up": mixed,
            "subtitles_left_out": unread > 0,
        }
        return replace(sample, prompt=prompt, metadata={**sample.metadata, **flags})

    def letter(self, reply: str, sample: Sample) -> str | None:
        """Return the letter in the most telling place."""
        return ranked_letter(reply, LETTERS[:4])

    def _variant(self) -> tuple[Any, ...]:
        own = (self.frames, self.subtitle_order) if self.subtitles else ()
        return (*super()._variant(), self.subtitles, *own)

    def _sample(self, row: Mapping[str, Any], roots: Sequence[Path]) -> Sample:
        if not isinstance(row["options"], list | tuple):
            raise UsageError(message("wrong options", given=row["options"], expected="a list"))
        options = tuple(str(option) for option in row["options"])
        letter = str(row["answer"]).strip()
        at = LETTERS.find(letter) if len(letter) == 1 else -1
        if not 0 <= at < len(options):
            raise UsageError(
                message(
                    f"wrong answer of the Video-MME question {row['question_id']}",
                    given=row["answer"],
                    expected="the letter of one of its options",
                )
            )
        name = str(row["videoID"])
        question = str(row["question"])
        listed = "\n".join([question, *options])
        return Sample(
            id=str(row["question_id"]),
            family=str(row["duration"]),
            question=question,
            options=options,
            answer=options[at],
            video=find_file(
                roots, [f"{name}.mp4", f"{name}.MP4", f"{name}.mkv"], ("data", "videos", "")
            ),
            prompt=f"{OPENING}\n{listed}\n{ENDING}",
            metadata={
                **{group: str(row[group]) for group in self.groupings},
                "letter": letter,
                "videoID": name,
            },
        )
