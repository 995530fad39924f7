"""The tokens of a prompt, and the tokens of an answer that continues it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from namm_mm.errors import UsageError, message

if TYPE_CHECKING:
    from namm_mm.records import Sample

_TAIL = 200  # characters of the prompt that can influence how a continuation is tokenised


@dataclass(frozen=True)
class Wording:
    """How samples become tokens of one model.

    Attributes
    ----------
    tokenizer
        The model's tokenizer.
    chat
        Wrap the prompt in the model's chat template.
    crop
        ``tokens`` or ``text``: see :class:`~namm_mm.adapters.text.adapter.TextAdapter`.
    longest
        Longest sequence in tokens; None crops nothing.
    """

    tokenizer: Any
    chat: bool = False
    crop: str = "tokens"
    longest: int | None = None

    def prompt(self, sample: Sample, new_tokens: int) -> list[int]:
        """Return the tokens of a prompt, cropped so that `new_tokens` fit after it.

        Raises
        ------
        UsageError
            The sample has neither context nor question, or the answer leaves no room for a prompt.
        """
        text, _ = self._text(sample)
        ids = self._cropped(self._encode(text), new_tokens)
        if not ids:
            raise UsageError(
                message(
                    f"sample {sample.id!r} has an empty prompt",
                    given=sample.context + sample.question,
                    expected="a context or a question",
                )
            )
        return ids

    def continuation(self, sample: Sample, text: str) -> list[int]:
        """Return the tokens of `text` as they come after the prompt of `sample`.

        Raises
        ------
        UsageError
            `text` is empty.
        """
        prompt, space = self._text(sample)
        tail = prompt[-_TAIL:]
        encode = self.tokenizer
        before = encode(tail, add_special_tokens=False)["input_ids"]
        both = encode(tail + space + text, add_special_tokens=False)["input_ids"]
        if both[: len(before)] == before:
            ids = both[len(before) :]
        else:  # the last token of the prompt would have merged with the first of the answer
            ids = encode(space + text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise UsageError(
                message(
                    f"sample {sample.id!r} has an empty answer or option",
                    given=text,
                    expected="at least one token",
                )
            )
        return list(ids)

    def decode(self, tokens: list[int]) -> str:
        """Return the text of `tokens`, without special tokens and outer space."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def _text(self, sample: Sample) -> tuple[str, str]:
        """Return the prompt, and the white space between it and what follows.

        White space at the end of a question belongs to the continuation: tokenizers of nearly all
        models join a space to the word after it. Published prompts, which their sample's metadata
        call ``verbatim``, keep it.
        """
        context, question = sample.context, sample.question
        between = "" if not context or not question or context[-1].isspace() else "\n\n"
        text = context + between + question
        if not self.chat and sample.metadata.get("verbatim"):
            return text, ""
        if not self.chat:
            bare = text.rstrip()
            return bare, text[len(bare) :]
        turn = [{"role": "user", "content": text.rstrip()}]
        return (
            self.tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False),
            "",
        )

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=not self.chat)["input_ids"])

    def _cropped(self, ids: list[int], new_tokens: int) -> list[int]:
        """Return `ids` without their middle where they are too long for the model."""
        if self.longest is None or len(ids) <= self.longest - new_tokens:
            return ids
        room = self.longest - new_tokens
        if room < 2:
            raise UsageError(
                message(
                    "wrong max_new_tokens",
                    given=new_tokens,
                    expected=f"less than the model's length of {self.longest}",
                )
            )
        first, last = ids[: room // 2], ids[len(ids) - (room - room // 2) :]
        if self.crop == "tokens":
            return first + last
        halves = (self.tokenizer.decode(half, skip_special_tokens=True) for half in (first, last))
        return self._encode("".join(halves))
