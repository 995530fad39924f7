"""What forgetting a token would cost, to first order: an oracle that has seen the question.

For every layer, head, token and update, the slope of the answer's log-probability along the gate of
the token in all later blocks. One backward pass through the frozen model gives them all. Attention
alone misleads: what coming queries look at most is mostly the recent text, and its loss costs the
answer little.
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
class Shown:
    """What a NAMM is shown at one update of one prompt, and what it should have known.

    Attributes
    ----------
    spectrum
        (layer * kv_head, slot, bins) float16, oldest first, tokens at the front of the slot axis.
    importance
        (layer * kv_head, slot) float32, 0 or more, sums to 1; 0 in empty slots.
    positions
        (layer * kv_head, slot) int64, -1 in empty slots: the tokens that are left; None where
        nothing was forgotten before.
    """

    spectrum: Tensor
    importance: Tensor
    positions: Tensor | None = None

    @property
    def places(self) -> Tensor:
        """(layer * kv_head, slot) int64: the token in each slot, -1 in empty ones."""
        if self.positions is not None:
            return self.positions
        return torch.arange(self.spectrum.shape[1]).expand(self.spectrum.shape[:2])

    @property
    def seen(self) -> int:
        """Tokens that were read so far; the newest is always there."""
        return int(self.places.max()) + 1


class _Recorder(GatedAttention):
    """Gates that are all open, one set for each block, so that their slopes can be told apart."""

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
        """Attend with a gate's logarithm added to the logits of its token."""
        tokens, slots = query.shape[2], key.shape[1]
        products = query @ key[:, None].transpose(-1, -2)
        logits = products.float() * scaling + self.log_gates(slots)[:, None, None]
        ahead = logits.new_ones(tokens, slots, dtype=torch.bool).triu(slots - tokens + 1)
        weights = logits.masked_fill(ahead, float("-inf")).softmax(-1)
        return weights.to(value.dtype) @ value[:, None], weights

    def log_gates(self, slots: int) -> Tensor:
        """(kv_head, slot) zeros whose gradient is wanted, for the block that begins."""
        self.gates[-1].append(torch.zeros(self.heads, slots, requires_grad=True))
        return self.gates[-1][-1]

    def update(self, spectrum: Tensor) -> None:
        """Remember the spectrum."""
        self.spectra[-1].append(spectrum.half())


def record(model: Any, prompt: Prompt, spectrogram: Spectrogram, interval: int) -> list[Shown]:
    """Run one prompt with its answer and the full cache; return one `Shown` for each update.

    Parameters
    ----------
    model
        A causal language model of transformers, frozen: no parameter wants a gradient.
    """
    asked = prompt.inputs.tensors["input_ids"]
    answer = torch.tensor([prompt.answer], device=asked.device)
    tokens = torch.cat([asked, answer[:, :-1]], dim=1)
    recorder = _Recorder(spectrogram, interval)
    with torch.enable_grad(), gated(model, recorder):
        logits = model(input_ids=tokens, use_cache=False, logits_to_keep=answer.shape[1]).logits[0]
        said = logits.float().log_softmax(-1).gather(1, answer[0][:, None]).mean()
    flat = [gates for layer in recorder.gates for gates in layer]
    slopes = iter(torch.autograd.grad(said, flat))
    by_layer = [[next(slopes) for _ in layer] for layer in recorder.gates]
    return [_shown(recorder, by_layer, number) for number in range(len(recorder.gates[0]) - 1)]


def _shown(recorder: _Recorder, slopes: list[list[Tensor]], number: int) -> Shown:
    spectra, costs = [], []
    for spectrum, blocks in zip(recorder.spectra, slopes, strict=True):
        slots = spectrum[number].shape[1]
        later = torch.stack([block[:, :slots] for block in blocks[number + 1 :]])
        spectra.append(spectrum[number])
        costs.append(later.sum(0).abs())
    importance = torch.cat(costs).nan_to_num(0.0, 0.0, 0.0)
    return Shown(torch.cat(spectra), shares(importance))


def narrow(shown: Shown, wanted: Tensor) -> Shown:
    """The same, with importance left to the `wanted` tokens (token,) bool of the prompt alone."""
    counts = wanted[shown.places.clamp_min(0)] & (shown.places >= 0)
    return replace(shown, importance=shares(shown.importance * counts))


def shares(importance: Tensor) -> Tensor:
    """Importance as parts of all of it."""
    return importance / importance.sum().clamp_min(1e-12)
