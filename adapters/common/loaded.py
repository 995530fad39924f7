"""A loaded model that reads text and media: pictures, frames or sound at placeholder tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from namm_mm.errors import UsageError, message


@dataclass(frozen=True, kw_only=True)
class LoadedMediaModel:
    """A model and what belongs to it.

    Attributes
    ----------
    name
        Of the model, for messages.
    model, tokenizer
        Objects of transformers; the model is in evaluation mode on its device.
    placeholder_token, placeholder
        Token id that stands for a piece of media, and its text.
    chat_template
        The checkpoint's template, if any.
    context_length
        Longest sequence in tokens, after any extension; None if the model names none.
    answer_by
        How the model was trained to answer, as its card says.
    """

    name: str
    model: Any
    tokenizer: Any
    placeholder_token: int
    placeholder: str
    chat_template: str | None = None
    context_length: int | None = None
    answer_by: str = "options"

    @property
    def pad_token(self) -> int | None:
        """The token to pad with: the tokenizer's own, or its end token."""
        token: int | None = self.tokenizer.pad_token_id
        return self.tokenizer.eos_token_id if token is None else token

    @property
    def feeder(self) -> Any:
        """What reads the media into the cache; the output layer may be left out of it."""
        return self.model

    @property
    def core(self) -> Any:
        """The model without its output layer: encoders, projector and language model."""
        return self.model.model

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a prompt; its first token is added where the text lacks it."""
        return list(self.tokenizer(text, add_special_tokens=not self.has_start(text))["input_ids"])

    def has_start(self, text: str) -> bool:
        """Return whether a text begins with the tokenizer's first token, as chat templates do."""
        start = self.tokenizer.bos_token
        return bool(start) and text.startswith(start)

    def first_tokens(self, prompt: str, texts: Sequence[str]) -> list[int]:
        """Return the token that each of `texts` begins with, as it comes after `prompt`.

        Raises
        ------
        UsageError
            Two of them begin with the same token.
        """
        tokenizer = self.tokenizer
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

    def turn(self, content: Sequence[Mapping[str, str]], places: int, plain: str) -> str:
        """Return the user's turn, worded by the chat template, or `plain`.

        Parameters
        ----------
        content
            What the user shows and says, in order, as chat templates take it: ``{"type":
            "image"}``, ``{"type": "text", "text": ...}``.
        places
            How many placeholders the turn must have. A chat template for text alone has no place
            for media; `plain` is used then.
        plain
            The turn for a checkpoint without a chat template.
        """
        if self.chat_template:
            worded: str = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": list(content)}],
                chat_template=self.chat_template,
                tokenize=False,
                add_generation_prompt=True,
            )
            if worded.count(self.placeholder) == places:
                return worded
        return plain
