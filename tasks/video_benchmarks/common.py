"""The part of a video benchmark that is the same for all: samples, scores, what is missing."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from namm_mm.errors import UsageError, message
from namm_mm.records import Answer, Sample, Score
from namm_mm.records.shape import TEXT, VIDEO
from namm_mm.tasks.base import SPLITS, AnsweringTask, Download, Outlook, fewer
from namm_mm.tasks.faults import in_words
from namm_mm.tasks.hub import HUB
from namm_mm.tasks.text_files import is_there
from namm_mm.tasks.video_benchmarks import files, summaries
from namm_mm.tasks.video_benchmarks.files import Published
from namm_mm.tasks.video_benchmarks.replies import LETTERS

if TYPE_CHECKING:
    from namm_mm.records import Record

UNPARSABLE = ("wrong", "random")
LISTED = 8
"""Missing videos that are named in a message; the summary names all."""


@dataclass(frozen=True)
class VideoBenchmark(AnsweringTask):
    """Base of the three benchmarks.

    Parameters
    ----------
    source
        ``hub`` looks where the hub's client and lmms-eval put the data set; anything else is a
        folder in the published layout.
    download
        With ``hub``: fetch what is not on this machine.
    unparsable
        A reply without a letter is ``wrong``, or stands for a ``random`` letter, drawn from the
        sample's id. Either way it is counted in every summary.
    families
        Which groups of questions to ask; None asks all.

    Raises
    ------
    UsageError
        An option is wrong, or the folder is not in the published layout.
    """

    holds: ClassVar[frozenset[str]] = frozenset({TEXT, VIDEO})

    source: str = HUB
    download: bool = False
    unparsable: str = "wrong"
    families: Sequence[str] | None = None

    new_tokens: ClassVar[int] = 16
    groupings: ClassVar[tuple[str, ...]] = ()
    macro: ClassVar[str | None] = None
    """The grouping whose groups count equally in the overall score; None counts samples equally."""

    sizes: ClassVar[Mapping[str, int]] = {}
    """Published number of questions of each split."""

    def __post_init__(self) -> None:
        if self.unparsable not in UNPARSABLE:
            raise UsageError(
                message(
                    "unknown treatment of unparsable replies",
                    given=self.unparsable,
                    expected="a known one",
                    valid=UNPARSABLE,
                )
            )
        if self.source != HUB and not Path(self.source).expanduser().is_dir():
            raise UsageError(
                message(
                    "no such folder",
                    given=self.source,
                    expected="hub, or a folder in the published layout",
                    then=f"`{self.published('test').command} --local-dir {self.source}` makes one.",
                )
            )

    # -- what each benchmark says ----------------------------------------------------------------

    def published(self, split: str) -> Published:
        """Return how the benchmark is published; for some it depends on the split."""
        raise NotImplementedError

    def read(self, path: Path, roots: Sequence[Path], split: str) -> list[Sample]:
        """Return all samples of an annotation file, their prompts without subtitles."""
        raise NotImplementedError

    def worded(self, sample: Sample, roots: Sequence[Path]) -> Sample:
        """Return the sample with its whole prompt; called for samples that are asked only."""
        return sample

    def letter(self, reply: str, sample: Sample) -> str | None:
        """Return the letter that a reply means."""
        raise NotImplementedError

    # -- the door --------------------------------------------------------------------------------

    def samples(self, split: str, limit: int | None, seed: int) -> Sequence[Sample]:
        """Return at most `limit` samples, the families in turn; none of a split that is not there.

        `seed` chooses which ones a limit leaves.
        """
        if limit is not None and limit < 1:
            raise UsageError(message("wrong limit", given=limit, expected="1 or more, or null"))
        if split not in SPLITS:
            raise UsageError(
                message("unknown split", given=split, expected="a known one", valid=SPLITS)
            )
        if split not in self.sizes:
            return ()
        path, roots = files.locate(self.published(split), self.source, download=self.download)
        samples = self._of_families(self.read(path, roots, split))
        return [self._worded(sample, roots) for sample in _balanced(samples, limit, seed)]

    def score(self, sample: Sample, answer: Answer) -> Score:
        """Return 1 for the right letter, else 0; without one, 1 for a reply that parses."""
        chosen, drawn = self._chosen(sample, answer)
        told = (*self.groupings, *summaries.FLAGS)
        details = {
            **{name: sample.metadata[name] for name in told if name in sample.metadata},
            "letter": chosen or "",
            "right_letter": sample.metadata.get("letter", ""),
            "parsed": chosen is not None and not drawn,
            "drawn": drawn,
            "reply": answer.text,
            "log_probabilities": list(answer.log_probabilities),
        }
        if "letter" not in sample.metadata:
            return Score(float(details["parsed"]), "parsed", details)
        return Score(float(chosen == sample.metadata["letter"]), "accuracy", details)

    def fingerprint(self) -> str:
        """Return a hash of the annotation files that are here, and of the options that matter."""
        hasher = hashlib.sha256(repr((type(self).__name__, self._variant())).encode())
        for split in self.sizes:
            path = files.questions_file(self.published(split), self.source)
            if path is not None:
                hasher.update(path.read_bytes())
        return hasher.hexdigest()[:12]

    # -- what a run is told ------------------------------------------------------------------------

    def notices(self, samples: Sequence[Sample]) -> list[str]:
        """Return which videos are missing, and how many questions have no subtitles."""
        found = []
        wanted = {str(sample.video): sample for sample in samples if sample.video is not None}
        missing = [path for path in wanted if not is_there(Path(path))]
        if missing:
            names = [Path(path).name for path in missing]
            more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
            asked = sum(str(sample.video) in set(missing) for sample in samples)
            found.append(
                f"{len(missing)} of {len(wanted)} videos are missing in {Path(missing[0]).parent}: "
                f"{', '.join(names[:LISTED])}{more}. Their {asked} questions are counted as "
                "errors; the others run."
            )
        without = sum(bool(sample.metadata.get("without_subtitles")) for sample in samples)
        if without:
            found.append(f"{without} of {len(samples)} questions are asked without subtitles.")
        left_out = sum(bool(sample.metadata.get("subtitles_left_out")) for sample in samples)
        if left_out:
            found.append(
                f"{left_out} of {len(samples)} questions have subtitles whose time cannot be read; "
                "those are left out."
            )
        return found

    def summary(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return the benchmark's own table for each policy: see :mod:`.summaries`."""
        return summaries.summarise(records, self.groupings, self.macro)

    def summary_lines(self, summary: Mapping[str, Any], cell: str) -> Sequence[str]:
        """Return a line for each policy: its score, and what was counted on the way."""
        return tuple(summaries.lines(summary, cell))

    def outlook(self, split: str, limit: int | None = None) -> Outlook:
        """Return the published size of the split, and what would be downloaded."""
        published = self.published(split)
        here = files.questions_file(published, self.source) is not None
        return Outlook(
            samples=fewer(self.sizes.get(split), limit),
            new_tokens=self.new_tokens,
            downloads=(
                Download(
                    what=published.repository,
                    files="questions, subtitles and archives of videos",
                    bytes=None,
                    cached=here,
                    where=str(published.unpacked) if self.source == HUB else self.source,
                    command=published.command,
                    note="gated: accept the licence on the hub, then `hf auth login`"
                    if published.gated
                    else "",
                ),
            ),
        )

    def _worded(self, sample: Sample, roots: Sequence[Path]) -> Sample:
        """Return the sample with its whole prompt, or with what keeps it from having one."""
        if sample.fault:
            return sample
        try:
            return self.worded(sample, roots)
        except Exception as error:  # odd subtitles, a video that cannot be opened: this one only
            return replace(sample, fault=in_words(error, f"question {sample.id}"))

    def _variant(self) -> tuple[Any, ...]:
        """Return the options that change samples or scores, for the fingerprint."""
        return (self.unparsable, tuple(self.families or ()))

    def _chosen(self, sample: Sample, answer: Answer) -> tuple[str | None, bool]:
        """Return the letter, and whether it was drawn."""
        if answer.log_probabilities and answer.option is not None:
            return LETTERS[answer.option], False
        found = self.letter(answer.text, sample)
        if found is None and self.unparsable == "random" and sample.options:
            draw = random.Random(f"{sample.id}, {answer.text}")
            return draw.choice(LETTERS[: len(sample.options)]), True
        return found, False

    def _of_families(self, samples: list[Sample]) -> list[Sample]:
        found = sorted({sample.family for sample in samples})
        for family in self.families or ():
            if str(family) not in found:
                raise UsageError(
                    message(
                        "unknown family of questions",
                        given=str(family),
                        expected="one of the benchmark",
                        valid=found,
                    )
                )
        if not self.families:
            return samples
        chosen = {str(family) for family in self.families}
        return [sample for sample in samples if sample.family in chosen]


def _balanced(samples: list[Sample], limit: int | None, seed: int) -> list[Sample]:
    if limit is None or limit >= len(samples):
        return samples
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.family, []).append(sample)
    for group in groups.values():
        random.Random(seed).shuffle(group)
    turns = zip_longest(*(groups[name] for name in sorted(groups)))
    return [sample for turn in turns for sample in turn if sample is not None][:limit]


def unique(samples: Iterable[Sample]) -> list[Sample]:
    """Return the samples; later ones of the same id get a number."""
    seen: Counter[str] = Counter()
    found = []
    for sample in samples:
        seen[sample.id] += 1
        again = seen[sample.id]
        found.append(sample if again == 1 else replace(sample, id=f"{sample.id}-{again}"))
    return found
