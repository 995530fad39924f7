"""Training examples: what a NAMM observes at an update, and the importance of every token.

The importance of a token is what forgetting it would cost, to first order: for every layer, head,
token and update, the gradient of the answer's log-probability with respect to the gate of the token
in all later blocks. One backward pass through the frozen model gives all of them. Attention alone
is a poor target: the queries to come attend mostly to the recent text, whose loss costs the answer
little.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from namm_mm.namm.spectrogram import Spectrogram
from research.gradients.gated_attention import GatedAttention, gated

if TYPE_CHECKING:
    from namm_mm.evolution.prompts import Prompt


@dataclass(frozen=True, eq=False)
class Example:
    """One update of one prompt.

    Attributes
    ----------
    spectrum
        (layer * kv_head, slot, bins) float16, oldest first, tokens at the front of the slot axis.
    importance
        (layer * kv_head, slot) float32, 0 or more, sums to 1; 0 in empty slots.
    positions
        (layer * kv_head, slot) int64: the tokens that are left, -1 in empty slots; None where
        nothing was evicted before.
    """

    spectrum: Tensor
    importance: Tensor
    positions: Tensor | None = None

    @property
    def tokens(self) -> Tensor:
        """(layer * kv_head, slot) int64: the position of each token, -1 in empty slots."""
        if self.positions is not None:
            return self.positions
        return torch.arange(self.spectrum.shape[1]).expand(self.spectrum.shape[:2])

    @property
    def seen(self) -> int:
        """Tokens that were read so far; the newest is always cached."""
        return int(self.tokens.max()) + 1

    @property
    def age(self) -> Tensor:
        """(layer * kv_head, slot) int64: how many tokens were read after this one."""
        return (self.seen - 1) - self.tokens

    @property
    def lengths(self) -> Tensor:
        """(layer * kv_head,) int64: filled slots."""
        return (self.tokens >= 0).sum(1)


class OpenGates(GatedAttention):
    """Gates that are all open, one set for each block, so that each block has its own gradients."""

    def __init__(self, spectrogram: Spectrogram, interval: int) -> None:
        super().__init__(spectrogram, interval)
        self.gates: list[list[Tensor]] = []
        self.spectra: list[list[Tensor]] = []

    def begin(self, heads: int, tokens: int) -> None:
        """Begin a layer."""
        self.heads = heads
        self.gates.append([])
        self.spectra.append([])

    def block(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> tuple[Tensor, Tensor]:
        """Attend with the logarithm of each gate added to the logits of its token."""
        tokens, slots = query.shape[2], key.shape[1]
        products = query @ key[:, None].transpose(-1, -2)
        logits = products.float() * scaling + self.log_gates(slots)[:, None, None]
        ahead = logits.new_ones(tokens, slots, dtype=torch.bool).triu(slots - tokens + 1)
        weights = logits.masked_fill(ahead, float("-inf")).softmax(-1)
        return weights.to(value.dtype) @ value[:, None], weights

    def log_gates(self, slots: int) -> Tensor:
        """Return (kv_head, slot) zeros that require a gradient, for the block that begins."""
        self.gates[-1].append(torch.zeros(self.heads, slots, requires_grad=True))
        return self.gates[-1][-1]

    def update(self, spectrum: Tensor) -> None:
        """Keep the spectrum."""
        self.spectra[-1].append(spectrum.half())


def record(model: Any, prompt: Prompt, spectrogram: Spectrogram, interval: int) -> list[Example]:
    """Run one prompt with its answer and the full cache; return one example for each update.

    Parameters
    ----------
    model
        A frozen causal language model of transformers: no parameter requires a gradient.
    """
    asked = prompt.inputs.tensors["input_ids"]
    answer = torch.tensor([prompt.answer], device=asked.device)
    tokens = torch.cat([asked, answer[:, :-1]], dim=1)
    gates = OpenGates(spectrogram, interval)
    with torch.enable_grad(), gated(model, gates):
        logits = model(input_ids=tokens, use_cache=False, logits_to_keep=answer.shape[1]).logits[0]
        value = logits.float().log_softmax(-1).gather(1, answer[0][:, None]).mean()
    flat = [block for layer in gates.gates for block in layer]
    gradients = iter(torch.autograd.grad(value, flat))
    by_layer = [[next(gradients) for _ in layer] for layer in gates.gates]
    return [_example(gates, by_layer, number) for number in range(len(gates.gates[0]) - 1)]


def _example(gates: OpenGates, gradients: list[list[Tensor]], number: int) -> Example:
    spectra, costs = [], []
    for spectrum, blocks in zip(gates.spectra, gradients, strict=True):
        slots = spectrum[number].shape[1]
        later = torch.stack([block[:, :slots] for block in blocks[number + 1 :]])
        spectra.append(spectrum[number])
        costs.append(later.sum(0).abs())
    importance = torch.cat(costs).nan_to_num(0.0, 0.0, 0.0)
    return Example(torch.cat(spectra), normalised(importance))


def restricted(example: Example, mask: Tensor) -> Example:
    """Return the example with importance only for the tokens of `mask` (token,) bool."""
    counts = mask[example.tokens.clamp_min(0)] & (example.tokens >= 0)
    return replace(example, importance=normalised(example.importance * counts))


def normalised(importance: Tensor) -> Tensor:
    """Return the importance divided by its sum."""
    return importance / importance.sum().clamp_min(1e-12)
