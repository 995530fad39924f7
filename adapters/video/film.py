"""A streamed film: a video model is asked while the video goes on, all on one cache.

The frames are fed in the order of time, each once. At a moment the question is asked on a copy of
the cache, which is then dropped: the film goes on as if nobody had asked. What a policy has evicted
by then is gone for this question and for all later ones.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from namm_mm.adapters.common.choices import LETTERS
from namm_mm.adapters.common.context import check_length
from namm_mm.adapters.common.once import encode_once
from namm_mm.adapters.common.timing import now
from namm_mm.adapters.video.clips import ClipAdapter
from namm_mm.adapters.video.frames_adapter import FramesAdapter, Shown
from namm_mm.adapters.video.loading import LoadedVideoModel
from namm_mm.errors import RunError, UsageError, message
from namm_mm.records import Answer, Inputs, Sample, TokenType
from namm_mm.records.shape import FILM, TEXT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from namm_mm.adapters.video.kinds import Layout
    from namm_mm.memory import Memory
    from namm_mm.records import Moment
    from namm_mm.video import Clip


@dataclass
class FilmAdapter(ClipAdapter[LoadedVideoModel], FramesAdapter):
    """Runs a LLaVA video model on films: samples with questions at several moments.

    Options are those of :class:`namm_mm.adapters.video.clips.ClipAdapter` and of
    :class:`namm_mm.adapters.video.frames_adapter.FramesAdapter`. Answers are options; those of a
    film are the lines of its answer.
    """

    reads: ClassVar[frozenset[str]] = frozenset({TEXT, FILM})
    requires: ClassVar[frozenset[str]] = frozenset({FILM})

    model: str = "smollm2_video"
    frames: int = 128

    def shown(self, sample: Sample, marks: int) -> Shown:
        """Read the frames; see :class:`namm_mm.adapters.video.frames_adapter.FramesAdapter`."""
        return Shown.of_clip(self.clip(sample, marks), self.loaded)

    def prepare(self, sample: Sample) -> Inputs:
        """Return the tokens before the film and those of its frames, up to the last question.

        Raises
        ------
        UsageError
            No moments, a moment without options, moments that are not in order, or a model that
            closes a clip with a token of its own.
        RunError
            A moment before the first frame.
        """
        loaded, moments = self.loaded, sample.moments
        self._check(sample)
        shown = self.shown(sample, 0)
        layout = loaded.layout(shown.pixels)
        _check_open(layout, self.model)
        assert shown.clip is not None
        ends = _frames_before(shown.clip, sample)
        before, longest = self._parts(sample, moments[0])[0], 0
        for moment in moments:
            first, question = self._parts(sample, moment)
            longest = max(longest, len(question))
            if first != before:
                raise UsageError(
                    f"the prompt of {self.model!r} does not put the video before the question: a "
                    "film cannot go on after one."
                )
        ids = [*before, *[loaded.placeholder_token] * layout.total(ends[-1])]
        needed = len(ids) + longest + 1
        check_length(needed, loaded.context_length, name=self.model, sample=sample.id)
        types = [TokenType("text")] * len(before)
        for frame in range(ends[-1]):
            types += [TokenType("frame", frame)] * layout.tokens_per_frame
        device, dtype = loaded.model.device, loaded.model.dtype
        tensors = {
            "input_ids": torch.tensor([ids]).to(device),
            "pixel_values_videos": shown.pixels[None, : ends[-1]].to(device, dtype),
        }
        details = {
            "tokens_per_frame": layout.tokens_per_frame,
            "frames_before_questions": ends,
            **shown.details,
        }
        return Inputs(tensors, tuple(types), sample, details)

    def answer(self, inputs: Inputs, memory: Memory | None) -> Answer:
        """Answer each question as it comes; `memory` then reports the film alone.

        Raises
        ------
        UsageError
            The memory prunes once, after a prompt: a film has none.
        """
        if memory is not None and not memory.rules.streaming:
            raise UsageError(
                message(
                    "a film has no prompt to prune after",
                    given="protocol=prune_after_prefill",
                    expected="protocol=streaming",
                )
            )
        sample, loaded = inputs.sample, self.loaded
        ends = inputs.details["frames_before_questions"]
        if self.encode_once:
            encode_once(loaded.core, len(ends))
        start, said, found = now(loaded.model.device), [], []
        cache: Any = None
        frames = 0
        with torch.no_grad():
            for moment, end in zip(sample.moments, ends, strict=True):
                if end > frames:
                    cache = self._go_on(inputs, cache, frames, end)
                    frames = end
                if memory is not None:
                    memory.cache = cache
                own = copy.deepcopy(cache) if memory is None else memory.branch()
                scores = self._ask(sample, moment, own)
                said.append(moment.options[max(range(len(scores)), key=scores.__getitem__)])
                found += scores
        if memory is not None:
            memory.cache = cache
        return Answer(
            text="\n".join(said),
            log_probabilities=tuple(found),
            first_token_seconds=now(loaded.model.device) - start,
            tokens=len(inputs.token_types) + len(said),
        )

    def _go_on(self, inputs: Inputs, cache: Any, shown: int, end: int) -> Any:
        """Feed the frames from `shown` up to `end`; return the cache."""
        ids, pixels = (inputs.tensors[name] for name in ("input_ids", "pixel_values_videos"))
        per_frame = int(inputs.details["tokens_per_frame"])
        before = len(inputs.token_types) - per_frame * pixels.shape[1]
        first = before + per_frame * shown if shown else 0
        output = self.loaded.feeder(
            input_ids=ids[:, first : before + per_frame * end],
            pixel_values_videos=pixels[:, shown:end],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.past_key_values

    def _ask(self, sample: Sample, moment: Moment, cache: Any) -> list[float]:
        """Return the log-probability of each option's letter, or first word, after the question."""
        loaded = self.loaded
        asked = _question(sample, moment)
        texts = LETTERS[: len(moment.options)] if self.lists_options else moment.options
        compared = loaded.first_tokens(self.prompt(asked), texts)
        question = torch.tensor([self._parts(sample, moment)[1]], device=loaded.model.device)
        output = loaded.model(
            input_ids=question, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        found: list[float] = output.logits[0, -1].float().log_softmax(-1)[compared].tolist()
        return found

    def _parts(self, sample: Sample, moment: Moment) -> tuple[list[int], list[int]]:
        """Return the tokens of a prompt before the video, and those after it."""
        ids = self.loaded.encode(self.prompt(_question(sample, moment)))
        place = ids.index(self.loaded.placeholder_token)
        return ids[:place], ids[place + 1 :]

    def _check(self, sample: Sample) -> None:
        moments = sample.moments
        times = [moment.seconds for moment in moments]
        if not moments or times != sorted(times):
            raise UsageError(
                message(
                    f"sample {sample.id!r} has no questions in the order of time",
                    given=times,
                    expected="one moment or more, in order",
                )
            )
        if self.answering == "generate" or any(len(one.options) < 2 for one in moments):
            raise UsageError(
                message(
                    f"sample {sample.id!r} cannot be asked while it goes on",
                    given=f"answer_by={self.answering}, "
                    f"{min(len(one.options) for one in moments)} options",
                    expected="answer_by=options or words, and two options or more a question",
                )
            )


def _question(sample: Sample, moment: Moment) -> Sample:
    """Return a moment as a sample that is worded as any question about a video."""
    return Sample(sample.id, sample.family, question=moment.question, options=moment.options)


def _frames_before(clip: Clip, sample: Sample) -> list[int]:
    """Return how many frames come before each moment."""
    found: Sequence[int] = [
        int((clip.timestamps < moment.seconds).sum()) for moment in sample.moments
    ]
    if not found[0]:
        raise RunError(
            message(
                f"the first question of {sample.id!r} comes before the first frame",
                given=f"{sample.moments[0].seconds} seconds",
                expected=f"a time after {clip.timestamps[0]:.3f} seconds",
            )
        )
    return list(found)


def _check_open(layout: Layout, model: str) -> None:
    if layout.trailing:
        raise UsageError(
            message(
                f"{model!r} cannot read a film that goes on",
                given=f"a model that closes a clip with {layout.trailing} token",
                expected="a model whose clip is its frames alone, such as smollm2_video",
            )
        )
