"""The prompt of a question about a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from namm_mm.adapters.common.choices import question_text
from namm_mm.errors import UsageError, message
from namm_mm.records import FRAME_MARK

if TYPE_CHECKING:
    from namm_mm.adapters.video.loading import LoadedVideoModel
    from namm_mm.records import Sample
    from namm_mm.video import Clip


def time_instruction(clip: Clip) -> str:
    """Return what LLaVA-Video was tuned to read first: the clip's length and its frames' times."""
    moments = ",".join(f"{moment:.2f}s" for moment in clip.timestamps)
    return (
        f"The video lasts for {clip.seconds:.2f} seconds, and {len(clip.frames)} frames are "
        f"uniformly sampled from it. These frames are located at {moments}.Please answer the "
        "following questions related to this video.\n"
    )


@dataclass(frozen=True)
class Wording:
    """How samples become tokens of one model.

    Attributes
    ----------
    loaded
        The model, with its tokenizer, placeholder and template.
    list_options
        Put the options of a sample, with their letters, into the question.
    time_instruction
        Say how long the video is and when its frames were.
    """

    loaded: LoadedVideoModel
    list_options: bool = True
    time_instruction: bool = False

    def prompt(self, sample: Sample, clip: Clip | None = None) -> str:
        """Return the whole prompt, with a placeholder for the video or for each of its frames.

        Raises
        ------
        UsageError
            The sample contains the placeholder.
        """
        options = sample.options if self.list_options else ()
        text = sample.prompt or question_text(sample.question, options, context=sample.context)
        if self.loaded.placeholder in text:
            raise UsageError(
                message(
                    f"sample {sample.id!r} contains the video placeholder",
                    given=self.loaded.placeholder,
                    expected="a question without it: the adapter puts the video first",
                )
            )
        if self.time_instruction and clip is not None:
            text = time_instruction(clip) + text
        kind = self.loaded.kind
        if FRAME_MARK in text:
            text = text.replace(FRAME_MARK, self.loaded.placeholder)
            return self._turn(text, text.count(self.loaded.placeholder), kind.template_of_text)
        return self._turn(text, 1, kind.template)

    def _turn(self, text: str, places: int, template: str) -> str:
        """Return `text` as the user's turn; the video is first where `text` does not place it."""
        loaded = self.loaded
        content = [{"type": "text", "text": text}]
        if loaded.placeholder not in text:
            content.insert(0, {"type": "video"})
        plain = template.replace("<video>", loaded.placeholder).replace("{text}", text)
        return loaded.turn(content, places, plain)
