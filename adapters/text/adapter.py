"""Text: any causal language model of transformers (Llama, Mistral, Qwen, GPT-2 and others).

The prompt is the sample's context and question as they stand; with ``chat=True`` they become a
user's turn of the model's chat template. The prompt always runs first and alone, in one call, so
that an evicting memory meets it as in ``generate``, under either protocol of the memory. Then

``likelihood``
    continues it with the reference answer, teacher-forced in one call: the log-probability of the
    answer, and whether greedy decoding would have produced it (every token is the argmax). This is
    exact and costs one prefill, so it is the score of choice on a CPU. A sample with options is
    answered as under ``options``.
``options``
    continues it with each option in turn, and chooses the most probable. Options of one token are
    read off the prompt's own logits; longer ones run on copies of the prompt's cache.
``generate``
    decodes greedily, up to `max_new_tokens`.

In all three the numbers of the memory are those of the prompt and, for ``likelihood`` and
``generate``, of the answer tokens fed after it; options never touch them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from namm_mm.adapters.base import LanguageAdapter
from namm_mm.adapters.common import loading
from namm_mm.adapters.common.context import context_length, extend, read_extension
from namm_mm.adapters.common.greedy import greedy
from namm_mm.adapters.common.pieces import pieces
from namm_mm.adapters.common.placement import Placement
from namm_mm.adapters.common.timing import TokenTimes, now
from namm_mm.errors import UsageError, message
from namm_mm.models.missing import missing
from namm_mm.models.resolve import resolve
from namm_mm.records import Answer, Inputs, Sample, TokenType
from namm_mm.records.shape import TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from namm_mm.memory import Memory

ANSWERS = ("likelihood", "options", "generate")
CROPS = ("tokens", "text")
_TAIL = 200  # characters of the prompt that can influence how a continuation is tokenised


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
        ``likelihood``, ``options`` or ``generate``: see the module's text.
    max_length
        Longest sequence in tokens; None takes the model's own. A longer prompt is cropped in the
        middle, as published for NAMM: its first and last halves stay.
    crop
        ``tokens`` joins the two halves as they are; ``text`` decodes, joins and tokenises them
        again, as the official code does: the length may then change by a few tokens.

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
        """The name that was asked for."""
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
            arguments = placement.arguments()  # an absent device is said before anything is read
            source = resolve(self.model)
            config = longest = None
            if self.rope is not None:
                config = loading.configuration(source, self.model)
                longest = extend(config, read_extension(self.rope))
            model = loading.causal_model(source, self.model, config=config, **arguments)
            tokenizer = loading.tokenizer(source, self.model)
            if self.chat and not getattr(tokenizer, "chat_template", None):
                raise UsageError(
                    message(
                        f"the model {self.model!r} has no chat template",
                        given="chat=true",
                        expected="chat=false, or an instruction-tuned model",
                    )
                )
            if config is None:
                longest = context_length(model.config)
            self._loaded = _Loaded(placement.settle(model), tokenizer, longest)

    @property
    def facts(self) -> Mapping[str, Any]:
        """How the model is run, for records."""
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
        """Tokenise the prompt of `sample`; every token is of the kind ``text``."""
        import torch

        text, _ = self._prompt(sample)
        ids = self.tokenizer(text, add_special_tokens=not self.chat)["input_ids"]
        ids = self._crop(ids, self.new_tokens(sample))
        if not ids:
            raise UsageError(
                message(
                    f"sample {sample.id!r} has an empty prompt",
                    given=sample.context + sample.question,
                    expected="a context or a question",
                )
            )
        tensor = torch.tensor([ids], device=self._ready.model.device)
        tensors = {"input_ids": tensor, "attention_mask": torch.ones_like(tensor)}
        return Inputs(tensors, (TokenType("text"),) * len(ids), sample)

    def answer(self, inputs: Inputs, memory: Memory | None) -> Answer:
        """Answer by likelihood, by the options, or by generating: see the module's text."""
        import torch

        sample = inputs.sample
        with torch.no_grad():
            if self.answer_by == "generate":
                return self._generate(inputs)
            if sample.options:
                return self._choose(inputs)
            if self.answer_by == "likelihood" and sample.answer:
                return self._likelihood(inputs)
        raise UsageError(
            message(
                f"sample {sample.id!r} cannot be answered by {self.answer_by}",
                given={"options": sample.options, "answer": sample.answer},
                expected="options" if self.answer_by == "options" else "an answer or options",
                then="answer_by=generate needs neither.",
            )
        )

    # -- the three ways to answer -------------------------------------------------------------

    def _likelihood(self, inputs: Inputs) -> Answer:
        ids = self.continuation(inputs.sample, inputs.sample.answer)
        start = self._clock()
        first, cache = self._prefill(inputs)
        first_seconds = self._clock() - start
        logits = self._continue(inputs, first, cache, ids)
        best = logits.argmax(-1).tolist()
        text = inputs.sample.answer if best == ids else self.tokenizer.decode(best).strip()
        return Answer(
            text=text,
            log_probabilities=(_log_probability(logits, ids),),
            first_token_seconds=first_seconds,
            tokens=len(inputs.token_types) + len(ids),
        )

    def _choose(self, inputs: Inputs) -> Answer:
        options = inputs.sample.options
        continuations = [self.continuation(inputs.sample, option) for option in options]
        start = self._clock()
        first, cache = self._prefill(inputs)
        first_seconds = self._clock() - start
        found = []
        for ids in continuations:
            own = _copy(cache) if len(ids) > 1 else cache
            found.append(_log_probability(self._continue(inputs, first, own, ids), ids))
        best = max(range(len(options)), key=found.__getitem__)
        return Answer(
            text=options[best],
            option=best,
            log_probabilities=tuple(found),
            first_token_seconds=first_seconds,
            tokens=len(inputs.token_types) + len(continuations[best]),
        )

    def _generate(self, inputs: Inputs) -> Answer:
        settings = greedy(self._ready.model, self.new_tokens(inputs.sample))
        times = TokenTimes(self._ready.model.device)
        output = self._ready.model.generate(
            **inputs.tensors, generation_config=settings, streamer=times
        )
        new = output[0, len(inputs.token_types) :]
        return Answer(
            text=self.decode(new.tolist()),
            first_token_seconds=times.first_token_seconds,
            token_seconds=times.token_seconds,
            tokens=int(output.shape[1]),
        )

    # -- running the model --------------------------------------------------------------------

    def _prefill(self, inputs: Inputs) -> tuple[Tensor, Any]:
        """Run the prompt; return the logits (vocabulary,) after it, and the cache."""
        output = self._ready.model(**inputs.tensors, use_cache=True, logits_to_keep=1)
        return output.logits[0, -1], output.past_key_values

    def _continue(self, inputs: Inputs, first: Tensor, cache: Any, ids: Sequence[int]) -> Tensor:
        """Logits (len(ids), vocabulary) that predict each of `ids` after the prompt."""
        import torch

        if len(ids) == 1:
            return first[None]
        fed = torch.tensor([ids[:-1]], device=first.device)
        mask = inputs.tensors["attention_mask"]
        mask = torch.cat([mask, mask.new_ones(1, fed.shape[1])], dim=1)
        output = self._ready.model(
            input_ids=fed, attention_mask=mask, past_key_values=cache, use_cache=True
        )
        return torch.cat([first[None], output.logits[0]])

    # -- text to tokens -----------------------------------------------------------------------

    def _prompt(self, sample: Sample) -> tuple[str, str]:
        """Return the prompt, and the white space between it and what follows.

        White space at the end of a question belongs to the continuation: tokenizers of nearly all
        models join a space to the word after it. Published prompts, which their sample's metadata
        call ``verbatim``, keep it.
        """
        context, question = sample.context, sample.question
        apart = "" if not context or not question or context[-1].isspace() else "\n\n"
        text = context + apart + question
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

    def continuation(self, sample: Sample, text: str) -> list[int]:
        """Tokens of `text` (an answer, an option) as they come after the prompt of `sample`."""
        prompt, space = self._prompt(sample)
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

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of generated `tokens`, without special tokens and outer space."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def pieces(self, inputs: Inputs) -> tuple[str, ...]:
        """Return the text of each token."""
        return pieces(self.tokenizer, inputs)

    def new_tokens(self, sample: Sample) -> int:
        """Return the longest answer that its benchmark allows, else the adapter's."""
        return int(sample.metadata.get("max_new_tokens") or self.max_new_tokens)

    def _crop(self, ids: list[int], new_tokens: int) -> list[int]:
        """Leave out the middle of a prompt that is too long for the model."""
        longest = self.max_length or self._ready.longest
        if longest is None or len(ids) <= longest - new_tokens:
            return ids
        room = longest - new_tokens
        if room < 2:
            raise UsageError(
                message(
                    "wrong max_new_tokens",
                    given=new_tokens,
                    expected=f"less than the model's length of {longest}",
                )
            )
        first, last = ids[: room // 2], ids[len(ids) - (room - room // 2) :]
        if self.crop == "tokens":
            return first + last
        halves = (self.tokenizer.decode(half, skip_special_tokens=True) for half in (first, last))
        cropped: list[int] = self.tokenizer("".join(halves), add_special_tokens=not self.chat)[
            "input_ids"
        ]
        return cropped

    @property
    def _ready(self) -> _Loaded:
        if self._loaded is None:
            raise UsageError("the text adapter has no model yet: call `load()` first.")
        return self._loaded

    def _clock(self) -> float:
        return now(self._ready.model.device)


@dataclass(frozen=True)
class _Loaded:
    model: Any
    tokenizer: Any
    longest: int | None


def _log_probability(logits: Tensor, ids: Sequence[int]) -> float:
    """Sum over the tokens of a continuation, in nats; softmax in float32."""
    import torch

    index = torch.tensor(ids, device=logits.device)[:, None]
    return float(logits.float().log_softmax(-1).gather(1, index).sum())


def _copy(cache: Any) -> Any:
    """Copy a cache, but not the policy that it is run by."""
    rules = getattr(cache, "rules", None)
    return copy.deepcopy(cache, {id(rules): rules})
