"""Forgetting that gradients can pass: gates that close instead of tokens that are gone.

A soft version of the rule "kept where the score is 0 or more". Noise on the scores makes the gates
nearly hard while their gradient stays useful, as in Dynamic Memory Sparsification
(arXiv 2506.05345) and hard concrete gates (arXiv 1712.01312). Gates only ever close further: what
is forgotten does not come back.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from namm_mm.evolution.gated_attention import GatedAttention
from namm_mm.namm import Namm
from namm_mm.namm.params import LAYOUTS

CLOSED = -30.0
"""Log gate of a token that the network no longer sees: attention to it is below 1e-13."""


class SoftForgetting(GatedAttention):
    """A NAMM's rule with soft gates, for one prompt.

    Parameters
    ----------
    namm
        Statistics and spectrogram; its parameters are not used.
    vector
        (4172,) float32 parameters of a BAM, of which gradients are wanted.
    interval
        Tokens between two updates.
    temperature
        Of the gates: the smaller, the harder.
    noise
        Scale of the logistic noise on scores.
    generator
        Of the noise.

    Attributes
    ----------
    kept
        Filled by the run: mean gate over slots, for each layer and update (0-d tensors).
    """

    def __init__(
        self,
        namm: Namm,
        vector: Tensor,
        interval: int,
        *,
        temperature: float = 0.5,
        noise: float = 0.5,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(namm.spectrogram, interval)
        self.namm, self.vector = namm, vector
        self.temperature, self.noise, self.generator = temperature, noise, generator
        self.kept: list[Tensor] = []

    def begin(self, heads: int, tokens: int) -> None:
        """All gates are open."""
        self._log_gates = torch.zeros(heads, 0)

    def log_gates(self, slots: int) -> Tensor:
        """New tokens come with open gates."""
        missing = slots - self._log_gates.shape[1]
        self._log_gates = functional.pad(self._log_gates, (0, missing))
        return self._log_gates

    def update(self, spectrum: Tensor) -> None:
        """Close gates where the scores say so."""
        age = torch.arange(spectrum.shape[1] - 1, -1, -1).expand(spectrum.shape[:2])
        z = self.namm.features(spectrum, age)
        scores = soft_scores(self.vector, z, self._log_gates.detach())
        if self.noise:
            uniform = torch.rand(scores.shape, generator=self.generator).clamp(1e-6, 1 - 1e-6)
            scores = scores + self.noise * (uniform.log() - (-uniform).log1p())
        closing = functional.logsigmoid(scores / self.temperature)
        closing = functional.pad(closing[:, :-1], (0, 1))  # the newest token always stays
        self._log_gates = torch.minimum(self._log_gates, closing)
        self.kept.append(self._log_gates.exp().mean())


def soft_scores(vector: Tensor, z: Tensor, log_gates: Tensor) -> Tensor:
    """Score tokens as :class:`namm_mm.namm.bam.Bam` does, among tokens that are partly gone.

    Parameters
    ----------
    vector
        (4172,) parameters.
    z
        (head, slot, 25) features, oldest first.
    log_gates
        (head, slot): how far each is gone; 0 is there, minus infinity is gone.

    Returns
    -------
    Tensor
        (head, slot).
    """
    parts = LAYOUTS["bam"].split(vector)
    projected = z @ parts["query_key_value_weight"] + parts["query_key_value_bias"]
    query, key, value = projected.chunk(3, dim=-1)
    slots = z.shape[1]
    gone = log_gates.clamp_min(CLOSED)
    bias = gone[:, None, :] - torch.diag_embed(gone)  # a token always sees itself
    older = torch.ones(slots, slots, dtype=torch.bool).tril(-1)
    logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + bias
    mixed = logits.masked_fill(older, float("-inf")).softmax(-1) @ value
    residual, gate = (mixed @ parts["output_weight"] + parts["output_bias"]).chunk(2, dim=-1)
    z = z * (1.0 + gate) + residual
    return (z @ parts["score_weight"] + parts["score_bias"])[..., 0]
