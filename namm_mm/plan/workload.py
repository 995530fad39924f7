"""How much of what a cell runs: tokens of context, sequences side by side, bytes of a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from namm_mm.adapters.common import loading
from namm_mm.experiment.settings import CellSettings
from namm_mm.models.known import QUANTIZED_BITS, ModelFacts
from namm_mm.plan.configuration import TOKENS_PER_STEP
from namm_mm.plan.devices import Device
from namm_mm.tasks.base import Outlook

QUESTION_TOKENS = 100  # beside the frames of a clip
ANSWER_TOKENS = 32
UNKNOWN_CONTEXT = 4096
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Workload:
    """What one policy of a cell runs.

    Attributes
    ----------
    acting
        Whether the task steps environments.
    samples
        Samples of each policy and seed; None where the data would have to be there to know.
    sequences
        How many of them run together: one, or all episodes.
    context, context_from
        Tokens of the longest sequence, and where that number comes from, in words.
    prompt
        Tokens of one forward call at the start.
    new_tokens
        Tokens that are generated for each sample, at most.
    environment
        The body that moves, for the speed of its simulator; empty where there is none.
    dtype, quantization
        Of the weights and the cache; quantized weights have a name of their own, else None.
    """

    acting: bool
    samples: int | None
    sequences: int
    context: int
    context_from: str
    prompt: int
    new_tokens: int
    environment: str
    dtype: str
    quantization: str | None

    @property
    def number_bytes(self) -> int:
        """Bytes of one number of the cache."""
        return DTYPE_BYTES[self.dtype]

    @property
    def precision(self) -> str:
        """Weights and cache in words: ``4bit and bfloat16``."""
        return f"{self.quantization} and {self.dtype}" if self.quantization else self.dtype


def workload(
    cell: CellSettings, outlook: Outlook, facts: ModelFacts | None, device: Device, *, acting: bool
) -> Workload:
    """Return the workload of a cell on a device; `facts` are those of its model, if known."""
    options = cell.adapter.options
    context, why = _context(options, outlook, facts, acting=acting)
    new_tokens = outlook.new_tokens or int(options.get("max_new_tokens") or ANSWER_TOKENS)
    quantization = options.get("quantization")
    return Workload(
        acting=acting,
        samples=outlook.samples,
        sequences=(outlook.samples or 1) if acting else 1,
        context=context,
        context_from=why,
        prompt=TOKENS_PER_STEP if acting else context,
        new_tokens=new_tokens if options.get("answer_by") == "generate" else 1,
        environment=outlook.environment,
        dtype=_dtype(str(options.get("dtype", "auto")), device),
        quantization=str(quantization) if quantization in QUANTIZED_BITS else None,
    )


def _dtype(name: str, device: Device) -> str:
    if name in DTYPE_BYTES:
        return name
    if device.is_gpu:
        return "bfloat16"
    chosen = loading.choose_dtype("auto", loading.choose_device("cpu"))
    return str(chosen).removeprefix("torch.")


def _context(
    options: Mapping[str, Any], outlook: Outlook, facts: ModelFacts | None, *, acting: bool
) -> tuple[int, str]:
    if acting:
        steps = outlook.steps
        return steps * TOKENS_PER_STEP, f"{steps} steps of return, state and action"
    frames = options.get("frames") or outlook.pictures
    if frames and isinstance(frames, int) and facts is not None and facts.tokens_per_frame:
        clip = frames * facts.tokens_per_frame + facts.trailing
        extra = outlook.tokens or QUESTION_TOKENS
        shown = "pictures" if outlook.pictures else "frames"
        return clip + extra, f"{frames} {shown} of {facts.tokens_per_frame} tokens, and a question"
    longest = options.get("max_length")
    model = facts.context * _extension(options) if facts is not None and facts.context else None
    cut = int(longest) if isinstance(longest, int) else model
    if outlook.tokens is not None and (cut is None or outlook.tokens < cut):
        return outlook.tokens, "a long prompt of the task"
    if cut is not None:
        return int(cut), "the model's longest" if cut == model else "max_length"
    return UNKNOWN_CONTEXT, "a guess: neither the model nor the task is known"


def _extension(options: Mapping[str, Any]) -> float:
    """By how much the adapter extends the model's context."""
    kind, _, factor = str(options.get("rope") or "").partition(":")
    return float(factor) if kind in ("linear", "ntk") and factor else 1.0
