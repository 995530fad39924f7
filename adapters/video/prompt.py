"""The prompt of a question about a video, and the option that an answer names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from namm_mm.errors import UsageError, message
from namm_mm.records import FRAME_MARK

if TYPE_CHECKING:
    from namm_mm.adapters.video.loading import LoadedVideoModel
    from namm_mm.records import Sample
    from namm_mm.video import Clip

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

#: The sentence of LongVideoBench and Video-MME, on which the LLaVA family was tuned.
CHOOSE = "Answer with the option's letter from the given choices directly."


def question_text(question: str, options: Sequence[str], *, context: str = "") -> str:
    """Return the part of the user's turn that follows the video; options are lines ``A. ...``."""
    lines = [context] if context else []
    lines.append(question)
    lines += [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    if options:
        lines.append(CHOOSE)
    return "\n".join(lines)


def time_instruction(clip: Clip) -> str:
    """Return what LLaVA-Video was tuned to read first: the clip's length and its frames' times."""
    moments = ",".join(f"{moment:.2f}s" for moment in clip.timestamps)
    return (
        f"The video lasts for {clip.seconds:.2f} seconds, and {len(clip.frames)} frames are "
        f"uniformly sampled from it. These frames are located at {moments}.Please answer the "
        "following questions related to this video.\n"
    )


def letter_in(text: str, options: Sequence[str]) -> int | None:
    """Return the option that a generated answer names, by letter or by words; None for none."""
    head = text.lstrip("( ").split(".")[0].split(")")[0].split(":")[0].split(" ")[0]
    if len(head) == 1 and head in LETTERS[: len(options)]:
        return LETTERS.index(head)
    named = [i for i, option in enumerate(options) if option.lower() == text.strip(" .").lower()]
    return named[0] if named else None


@dataclass(frozen=True)
class Wording:
    """How samples become tokens of one model.

    Attributes
    ----------
    loaded
        The model, with its tokenizer, placeholder and template.
    name
        Of the model, for messages.
    list_options
        Put the options of a sample, with their letters, into the question.
    time_instruction
        Say how long the video is and when its frames were.
    """

    loaded: LoadedVideoModel
    name: str
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

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a prompt; its first token is added where the text lacks it."""
        tokenizer = self.loaded.tokenizer
        own = bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)
        return list(tokenizer(text, add_special_tokens=not own)["input_ids"])

    def first_tokens(self, prompt: str, texts: Sequence[str]) -> list[int]:
        """Return the token that each of `texts` begins with, as it comes after `prompt`.

        Raises
        ------
        UsageError
            Two of them begin with the same token.
        """
        tokenizer = self.loaded.tokenizer
        space = "" if prompt[-1].isspace() else " "
        before = self.encode(prompt)
        found = []
        for text in texts:
            ids = self.encode(prompt + space + text)
            if ids[: len(before)] == before and len(ids) > len(before):
                ids = ids[len(before) :]
            else:  # the last token of the prompt merges with the first of the text
                ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            found.append(next((i for i in ids if tokenizer.decode([i]).strip()), ids[-1]))
        if len(set(found)) < len(found):
            raise UsageError(
                message(
                    f"the tokenizer of {self.name!r} does not tell the options apart",
                    given=dict(zip(texts, found, strict=True)),
                    expected="a first token of its own for each",
                    then="Use answer_by=generate.",
                )
            )
        return found

    def _turn(self, text: str, places: int, template: str) -> str:
        """Return `text` as the user's turn; the video is first where `text` does not place it."""
        loaded = self.loaded
        if loaded.chat_template:
            video = [{"type": "video"}] if loaded.placeholder not in text else []
            worded: str = loaded.tokenizer.apply_chat_template(
                [{"role": "user", "content": [*video, {"type": "text", "text": text}]}],
                chat_template=loaded.chat_template,
                tokenize=False,
                add_generation_prompt=True,
            )
            if worded.count(loaded.placeholder) == places:
                return worded  # a template for text only has no place for the video
        return template.replace("<video>", loaded.placeholder).replace("{text}", text)
