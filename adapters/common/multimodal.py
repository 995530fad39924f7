"""The base of adapters that answer questions about media: what video, images and sound share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from namm_mm.adapters.base import AnsweringAdapter
from namm_mm.adapters.common.answering import by_generation, by_options
from namm_mm.adapters.common.choices import LETTERS
from namm_mm.adapters.common.context import read_extension
from namm_mm.adapters.common.once import encode_once
from namm_mm.adapters.common.pieces import pieces
from namm_mm.adapters.common.placement import Placement
from namm_mm.errors import UsageError, message
from namm_mm.models.missing import missing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from namm_mm.adapters.common.loaded import LoadedMediaModel
    from namm_mm.memory import Memory
    from namm_mm.records import Answer, Inputs, Sample

ANSWERS = ("auto", "options", "words", "generate")


Loaded = TypeVar("Loaded", bound="LoadedMediaModel")
"""A model with what belongs to it, of the kind that an adapter loads."""


@dataclass
class MultimodalAdapter(AnsweringAdapter, Generic[Loaded]):
    """Options and answers of an adapter whose model reads media at placeholder tokens.

    A subclass gives ``load``, ``prepare`` and :meth:`prompt`, and sets `_loaded`.

    Parameters
    ----------
    model
        Local folder, asset name or hub id, as :func:`namm_mm.models.resolve.resolve` takes it.
    dtype
        ``auto`` is bfloat16 where the device computes in it natively, else float32.
    device
        ``auto`` is CUDA where there is one; ``cpu``, ``cuda``, ``cuda:1``.
    device_map, quantization, attention
        Several GPUs, 4-bit weights, attention kernel: see
        :class:`namm_mm.adapters.common.placement.Placement`.
    rope
        A context extension, ``linear:2.5`` or ``ntk:4``: see
        :mod:`namm_mm.adapters.common.context`.
    answer_by
        ``options`` compares the letters of a sample's options. ``words`` does not list them and
        compares their first words, for models too small to match letters. ``generate`` decodes
        greedily. ``auto`` is what the model's card names, else ``options``.
    max_new_tokens
        Longest answer under ``generate``.
    encode_once
        Let the encoder compute once for a sample: all policies after the first take its output.
        Answers are the same; times no longer count the encoder.

    Raises
    ------
    UsageError
        An option is wrong.
    """

    model: str = ""
    dtype: str = "auto"
    device: str = "auto"
    device_map: str | Mapping[str, Any] | None = None
    quantization: str | None = None
    attention: str | None = None
    rope: str | None = None
    answer_by: str = "auto"
    max_new_tokens: int = 16
    encode_once: bool = False
    _loaded: Loaded | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._placement = Placement(
            self.dtype, self.device, self.device_map, self.quantization, self.attention
        )
        read_extension(self.rope)
        check_known(answer_by=(self.answer_by, ANSWERS))
        check_positive(max_new_tokens=self.max_new_tokens)

    @property
    def model_name(self) -> str:
        """The name of the model in the configuration."""
        return self.model

    @property
    def loaded(self) -> Loaded:
        """The model, with what belongs to it; raises `UsageError` before `load`."""
        if self._loaded is None:
            name = type(self).__name__
            raise UsageError(f"the {name} has no model yet: call `load()` first.")
        return self._loaded

    def use(self, loaded: Loaded) -> None:
        """Use a model that is loaded already."""
        self._loaded = loaded

    @abstractmethod
    def prompt(self, sample: Sample) -> str:
        """Return the whole prompt, with a placeholder for each piece of media."""

    @property
    def backbone(self) -> nn.Module:
        """The language model inside the model."""
        module: nn.Module = self.loaded.model.get_decoder()
        return module

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.loaded.tokenizer

    @property
    def facts(self) -> Mapping[str, Any]:
        """How the model is run, for every record."""
        found = {
            "rope": self.rope or "as published",
            "context_length": self._loaded.context_length if self._loaded else None,
            "answer_by": self.answering,
            "quantization": self.quantization,
            "encode_once": self.encode_once or None,
        }
        return {name: value for name, value in found.items() if value is not None}

    @property
    def answering(self) -> str:
        """``options``, ``words`` or ``generate``; ``auto`` until the model is loaded."""
        if self.answer_by == "auto" and self._loaded is not None:
            return str(self._loaded.answer_by)
        return self.answer_by

    def missing(self) -> Iterator[str]:
        """Yield what the model lacks here; see :func:`namm_mm.models.missing.missing`."""
        yield from missing(self.model, tokenizer=True)

    def answer(self, inputs: Inputs, memory: Memory | None) -> Answer:
        """Choose the option whose letter, or first word, is the most probable; or generate."""
        sample = inputs.sample
        if self.encode_once:
            encode_once(self.loaded.core)
        with torch.no_grad():
            if self.answering == "generate" or not sample.options:
                return by_generation(self.loaded, inputs, memory, self.max_new_tokens)
            texts = LETTERS[: len(sample.options)] if self.lists_options else sample.options
            compared = self.loaded.first_tokens(self.prompt(sample), texts)
            return by_options(self.loaded, inputs, memory, compared)

    def pieces(self, inputs: Inputs) -> tuple[str, ...]:
        """Return the text of each token; for those of media, that of the placeholder."""
        return pieces(self.tokenizer, inputs)

    @property
    def lists_options(self) -> bool:
        """Whether the options of a sample are part of the question, with their letters."""
        return self.answering != "words"

    @property
    def new_tokens(self) -> int:
        """How many tokens come after the prompt at most."""
        return self.max_new_tokens if self.answering == "generate" else 1


def check_known(**given: tuple[str | None, Sequence[str | None]]) -> None:
    """Raise `UsageError` unless each option is one of those that are valid."""
    for name, (value, valid) in given.items():
        if value not in valid:
            known = [one for one in valid if one is not None]
            raise UsageError(
                message(f"unknown {name}", given=value, expected="a known one", valid=known)
            )


def check_positive(**given: int) -> None:
    """Raise `UsageError` unless each number is 1 or more."""
    for name, value in given.items():
        if value < 1:
            raise UsageError(message(f"wrong {name}", given=value, expected="1 or more"))


def check_options(sample: Sample) -> None:
    """Raise `UsageError` if a sample has more options than there are letters."""
    if len(sample.options) > len(LETTERS):
        raise UsageError(
            message(
                f"sample {sample.id!r} has too many options",
                given=len(sample.options),
                expected=f"at most {len(LETTERS)}",
            )
        )
