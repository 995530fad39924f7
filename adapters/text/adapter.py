"""Text: any causal language model of transformers (Llama, Mistral, Qwen, GPT-2 and others).

The prompt is the sample's context and question; with ``chat=True`` they are a user's turn of the
model's chat template. The prompt is prefilled first, in one call of its own, so that a memory
evicts as in ``generate``, under both protocols. Then `answer_by` chooses how the model answers:

``likelihood``
    The right answer follows, teacher-forced in one call. This gives its log-probability, and
    whether greedy decoding would have produced it (every token is the argmax). It costs one
    prefill. A sample with options is answered as under ``options``.
``options``
    Each option follows in turn, and the most probable one is chosen. Options of one token are read
    off the logits of the prompt; longer ones run on copies of the prompt's cache.
``generate``
    Greedy decoding, up to `max_new_tokens`.

The memory reports the prompt and, for ``likelihood`` and ``generate``, the answer tokens that were
fed after it. Options are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from namm_mm.adapters.base import LanguageAdapter
from namm_mm.adapters.common import loading
from namm_mm.adapters.common.context import context_length, extend, read_extension
from namm_mm.adapters.common.pieces import pieces
from namm_mm.adapters.common.placement import Placement
from namm_mm.adapters.text.answering import by_generation, by_likelihood, by_options
from namm_mm.adapters.text.prompt import Wording
from namm_mm.errors import UsageError, message
from namm_mm.models.missing import missing
from namm_mm.models.resolve import resolve
from namm_mm.records import Answer, Inputs, Sample, TokenType
from namm_mm.records.shape import TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import nn

    from namm_mm.memory import Memory

ANSWERS = ("likelihood", "options", "generate")
CROPS = ("tokens", "text")


@dataclass
class TextAdapter(LanguageAdapter):
    """Runs a causal language model on text samples.

    Parameters
    ----------
    model
        Local folder, asset name or hub id, as :func:`namm_mm.models.resolve.resolve` takes it.
    dtype
        ``auto`` is bfloat16 where the device computes in it natively, else float32.
    device
        ``auto`` is CUDA where there is one; ``cpu``, ``cuda``, ``cuda:1``.
    device_map, quantization, attention
        Several devices, 4-bit or 8-bit weights, another kernel: see
        :class:`~namm_mm.adapters.common.placement.Placement`.
    rope
        A context extension, ``ntk:4`` or ``linear:2``: see :mod:`namm_mm.adapters.common.context`.
    max_new_tokens
        Longest answer under ``generate``; the prompt leaves room for it.
    chat
        Wrap the prompt in the model's chat template.
    answer_by
        ``likelihood``, ``options`` or ``generate``: see the text of this module.
    max_length
        Longest sequence in tokens; None takes the model's own. A longer prompt is cropped in the
        middle, as published for NAMM: its first and last halves stay.
    crop
        ``tokens`` joins the two halves as they are. ``text`` decodes, joins and tokenises them
        again, as the official code does; the length may change by a few tokens.

    Raises
    ------
    UsageError
        An option is wrong.
    """

    reads: ClassVar[frozenset[str]] = frozenset({TEXT})

    model: str = "smollm2-135m-instruct"
    dtype: str = "auto"
    device: str = "auto"
    max_new_tokens: int = 32
    chat: bool = False
    answer_by: str = "likelihood"
    max_length: int | None = None
    device_map: str | Mapping[str, Any] | None = None
    quantization: str | None = None
    attention: str | None = None
    rope: str | None = None
    crop: str = "tokens"
    _loaded: _Loaded | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, given, valid in (
            ("answer_by", self.answer_by, ANSWERS),
            ("dtype", self.dtype, loading.DTYPES),
            ("crop", self.crop, CROPS),
        ):
            if given not in valid:
                raise UsageError(
                    message(f"unknown {name}", given=given, expected="a known one", valid=valid)
                )
        self._placement()
        read_extension(self.rope)
        if self.max_new_tokens < 1:
            raise UsageError(
                message("wrong max_new_tokens", given=self.max_new_tokens, expected="1 or more")
            )
        if self.max_length is not None and self.max_length <= self.max_new_tokens:
            raise UsageError(
                message(
                    "wrong max_length",
                    given=self.max_length,
                    expected=f"more than max_new_tokens, which is {self.max_new_tokens}",
                )
            )

    @property
    def model_name(self) -> str:
        """The name of the model in the configuration."""
        return self.model

    @property
    def backbone(self) -> nn.Module:
        """The causal language model itself."""
        model: nn.Module = self._ready.model
        return model

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._ready.tokenizer

    @property
    def answering(self) -> str:
        """``likelihood``, ``options`` or ``generate``."""
        return self.answer_by

    def missing(self) -> Iterator[str]:
        """Yield what the model lacks here; see :func:`namm_mm.models.missing.missing`."""
        yield from missing(self.model, tokenizer=True)

    def load(self) -> None:
        """Load model and tokenizer; see :class:`namm_mm.adapters.base.Adapter`."""
        if self._loaded is None:
            placement = self._placement()
            arguments = placement.arguments()  # raises before anything is read
            source = resolve(self.model)
            config = longest = None
            if self.rope is not None:
                config = loading.configuration(source, self.model)
                longest = extend(config, read_extension(self.rope))
            model = loading.causal_model(source, self.model, config=config, **arguments)
            tokenizer = loading.tokenizer(source, self.model)
            if self.chat and not tokenizer.chat_template:
                raise UsageError(
                    message(
                        f"the model {self.model!r} has no chat template",
                        given="chat=true",
                        expected="chat=false, or an instruction-tuned model",
                    )
                )
            if config is None:
                longest = context_length(model.config)
            self._loaded = _Loaded(placement.to_device(model), tokenizer, longest)

    @property
    def facts(self) -> Mapping[str, Any]:
        """The context extension, where there is one."""
        return {"rope": self.rope} if self.rope is not None else {}

    def _placement(self) -> Placement:
        return Placement(
            dtype=self.dtype,
            device=self.device,
            device_map=self.device_map,
            quantization=self.quantization,
            attention=self.attention,
        )

    def prepare(self, sample: Sample) -> Inputs:
        """Return the tokens of the prompt of `sample`; all are of the kind ``text``."""
        ids = self._wording.prompt(sample, self.new_tokens(sample))
        tensor = torch.tensor([ids], device=self._ready.model.device)
        tensors = {"input_ids": tensor, "attention_mask": torch.ones_like(tensor)}
        return Inputs(tensors, (TokenType("text"),) * len(ids), sample)

    def answer(self, inputs: Inputs, memory: Memory | None) -> Answer:
        """Answer by likelihood, by the options, or by generating: see the text of this module."""
        sample, model, wording = inputs.sample, self._ready.model, self._wording
        with torch.no_grad():
            if self.answer_by == "generate":
                return by_generation(model, wording, inputs, memory, self.new_tokens(sample))
            if sample.options:
                return by_options(model, wording, inputs, memory)
            if self.answer_by == "likelihood" and sample.answer:
                return by_likelihood(model, wording, inputs, memory)
        raise UsageError(
            message(
                f"sample {sample.id!r} cannot be answered by {self.answer_by}",
                given={"options": sample.options, "answer": sample.answer},
                expected="options" if self.answer_by == "options" else "an answer or options",
                then="answer_by=generate needs neither.",
            )
        )

    def continuation(self, sample: Sample, text: str) -> list[int]:
        """Return the tokens of `text` (an answer, an option) as they come after the prompt."""
        return self._wording.continuation(sample, text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of generated `tokens`, without special tokens and outer space."""
        return self._wording.decode(list(tokens))

    def pieces(self, inputs: Inputs) -> tuple[str, ...]:
        """Return the text of each token."""
        return pieces(self.tokenizer, inputs)

    def new_tokens(self, sample: Sample) -> int:
        """Return the longest answer that its benchmark allows, else the adapter's."""
        return int(sample.metadata.get("max_new_tokens") or self.max_new_tokens)

    @property
    def _wording(self) -> Wording:
        longest = self.max_length or self._ready.longest
        return Wording(self.tokenizer, self.chat, self.crop, longest)

    @property
    def _ready(self) -> _Loaded:
        if self._loaded is None:
            raise UsageError("the text adapter has no model yet: call `load()` first.")
        return self._loaded


@dataclass(frozen=True)
class _Loaded:
    model: Any
    tokenizer: Any
    longest: int | None
