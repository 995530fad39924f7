"""Forgetting that gradients can pass: tokens that are gone, and what it would be to have them back.

The forward pass forgets as the memory does: a token whose score is below the threshold is gone for
all that comes later. The backward pass asks of every token, held or gone, how each later query's
attention would change if this one decision were the other way round. That change is known exactly
in the layer itself,

    held, to be dropped:   p / (1 - p) (out - v)
    gone, to be had back:  a / (1 + a) (v - out),    a = exp(logit) / sum of exp(logits held),

so neither a gate that is nearly closed lets strong attention through, nor does a token that is
gone have an endless slope. The way through the decision itself is straight through a sigmoid
(Bengio et al., arXiv 1308.3432).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from namm_mm.namm import Namm
from namm_mm.namm.params import LAYOUTS
from research.gradients.gated_attention import GatedAttention

CLOSED = -30.0
"""Log gate of a token that the network no longer sees: attention to it is below 1e-13."""
MOST = 3.0
"""The most that dropping a held token counts, where attention has hardly anything else."""


class StraightThrough(GatedAttention):
    """A NAMM's rule for one prompt, every head with a size of its own.

    Parameters
    ----------
    namm
        Statistics and spectrogram; its parameters are not used.
    vector
        (4172,) float32 parameters of a BAM, of which gradients are wanted, where the model is.
    interval
        Tokens between two updates.
    threshold
        Tokens that score less are gone.
    size
        Instead of a threshold: the part of the tokens seen that every head holds.
    softness
        Width of the sigmoid that gradients of a decision go through: in units of the score, or,
        with a size, in parts of the median distance of the head's scores from their median.

    Attributes
    ----------
    gates
        Filled by the run: (kv_head, slot) gates after each update, layer after layer.
    scores
        Filled by the run: (kv_head, slot) lowest scores so far, without gradient.
    """

    def __init__(
        self,
        namm: Namm,
        vector: Tensor,
        interval: int,
        *,
        threshold: float = 0.0,
        size: float | None = None,
        softness: float,
    ) -> None:
        super().__init__(namm.spectrogram, interval)
        self.namm, self.vector = namm.to(vector.device), vector
        self.threshold, self.size, self.softness = threshold, size, softness
        self.gates: list[Tensor] = []
        self.scores: list[Tensor] = []

    def begin(self, heads: int, tokens: int) -> None:
        """Everything is there."""
        device = self.vector.device
        self._gate = torch.ones(heads, 0, device=device)
        self._lowest = torch.full((heads, 0), float("inf"), device=device)

    def block(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> tuple[Tensor, Tensor]:
        """Attend to what is held; new tokens come with open gates."""
        missing = key.shape[1] - self._gate.shape[1]
        self._gate = functional.pad(self._gate, (0, missing), value=1.0)
        self._lowest = functional.pad(self._lowest, (0, missing), value=torch.inf)
        out, weights = attend(query.float(), key.float(), value.float(), self._gate, scaling)
        return out.to(value.dtype), weights

    def update(self, spectrum: Tensor) -> None:
        """Forget."""
        oldest = spectrum.shape[1] - 1
        age = torch.arange(oldest, -1, -1, device=spectrum.device).expand(spectrum.shape[:2])
        z = self.namm.features(spectrum, age)
        there = self._gate.detach() > 0.5
        scores = score(self.vector, z, there)
        if self.size is None:
            above, stays = (scores - self.threshold) / self.softness, scores >= self.threshold
        else:
            above, stays = _above_the_rest(scores, there, self.size, self.softness)
        soft = torch.sigmoid(above)
        gate = stays.float() + soft - soft.detach()
        gate = functional.pad(gate[:, :-1], (0, 1), value=1.0)  # the newest token always stays
        self._gate = self._gate * gate
        lowest = functional.pad(scores.detach()[:, :-1], (0, 1), value=torch.inf)
        self._lowest = torch.minimum(self._lowest, lowest)
        self.gates.append(self._gate)
        self.scores.append(self._lowest)


def _above_the_rest(
    scores: Tensor, there: Tensor, size: float, softness: float
) -> tuple[Tensor, Tensor]:
    """How far each score is above what its head needs to hold the part `size` of all tokens.

    Returns (kv_head, slot) distances in units of a sigmoid's width, and who stays. The limit of a
    head moves with its scores, so that whatever is learned holds as many.
    """
    with torch.no_grad():
        last = scores.shape[1] - 1
        eligible = scores.masked_fill(~there, float("-inf"))
        eligible[:, last] = float("inf")  # it stays, and counts
        held = max(1, min(round(size * scores.shape[1]), int(there.sum(1).min())))
        limit = eligible.topk(held, dim=1).values[:, -1:]
        stays = eligible >= limit
        limit = torch.where(limit.isinf(), scores.amax(1, keepdim=True), limit)
        known = scores.masked_fill(~there, float("nan"))
        middle = known.nanmedian(1, keepdim=True).values
        width = softness * (known - middle).abs().nanmedian(1, keepdim=True).values
        width = width.clamp_min(1e-6)
        near = torch.sigmoid((scores - limit) / width)
        weights = (near * (1.0 - near)).masked_fill(~there, 0.0)
        weights[:, last] = 0.0
        weights /= weights.sum(1, keepdim=True).clamp_min(1e-12)
    moving = (weights * scores).sum(1, keepdim=True)
    return (scores - limit - (moving - moving.detach())) / width, stays


def attend(
    query: Tensor, key: Tensor, value: Tensor, gate: Tensor, scaling: float
) -> tuple[Tensor, Tensor]:
    """Attention of the newest queries to the tokens that are held.

    Parameters
    ----------
    query
        (kv_head, query_group, token, dim) float32.
    key, value
        (kv_head, slot, dim) float32.
    gate
        (kv_head, slot): 1 is held, 0 is gone. Its slope is what the other decision would change;
        those of the others are of attention to what is held.

    Returns
    -------
    tuple of Tensor
        (kv_head, query_group, token, dim), and the weights (kv_head, query_group, token, slot)
        without gradient.
    """
    found: tuple[Tensor, Tensor] = _Attention.apply(  # type: ignore[no-untyped-call]
        query, key, value, gate, scaling
    )
    return found


class _Attention(torch.autograd.Function):
    """See :func:`attend`; nothing is remembered that can be made again."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, gate: Tensor, scaling: float
    ) -> tuple[Tensor, Tensor]:
        """Attend."""
        heads, group, tokens, dim = query.shape
        query = query.reshape(heads, group * tokens, dim)
        logits = (query @ key.transpose(-1, -2)).mul_(scaling)
        ahead = logits.new_full((tokens, key.shape[1]), float("-inf"))
        ahead = ahead.triu_(key.shape[1] - tokens + 1)
        logits.view(heads, group, tokens, -1).add_(ahead)
        highest = logits.amax(-1, keepdim=True)
        raw = logits.sub_(highest).exp_()
        held = (gate > 0.5).float()[:, None]
        weights = raw * held
        total = weights.sum(-1, keepdim=True).clamp_min(1e-30)
        weights /= total
        out = weights @ value
        ctx.save_for_backward(query, key, value, out, raw, total, held)
        ctx.scaling = scaling
        shape = (heads, group, tokens, -1)
        weights = weights.view(shape)
        ctx.mark_non_differentiable(weights)
        return out.view(shape), weights

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        """Slopes of the softmax for what is held, of turned decisions for the gates."""
        query, key, value, out, raw, total, held = ctx.saved_tensors
        slope = slopes[0].reshape(out.shape)
        weights = raw * held / total
        differs = slope @ value.transpose(-1, -2)
        differs -= (slope * out).sum(-1, keepdim=True)  # by what each token's value is better
        # Gone tokens come to total + raw, held ones leave total - raw.
        share = raw / (total + raw - 2.0 * raw * held).clamp_min(1e-30)
        gates = (share.clamp_max_(MOST) * differs).sum(1)
        into_value = weights.transpose(-1, -2) @ slope
        inner = weights.mul_(differs).mul_(ctx.scaling)
        into_query = (inner @ key).view(slopes[0].shape)
        return into_query, inner.transpose(-1, -2) @ query, into_value, gates, None


def score(vector: Tensor, z: Tensor, there: Tensor) -> Tensor:
    """Score tokens as :class:`namm_mm.namm.bam.Bam` does, where some slots are empty.

    Parameters
    ----------
    vector
        (4172,) parameters.
    z
        (head, slot, 25) features, oldest first.
    there
        (head, slot) bool: tokens that others see.

    Returns
    -------
    Tensor
        (head, slot), of empty slots as if they were there.
    """
    parts = LAYOUTS["bam"].split(vector)
    projected = z @ parts["query_key_value_weight"] + parts["query_key_value_bias"]
    query, key, value = projected.chunk(3, dim=-1)
    slots = z.shape[1]
    seen = there.new_ones(slots, slots).triu(1) & there[:, None, :]
    seen |= torch.eye(slots, dtype=torch.bool, device=z.device)  # a token always sees itself
    logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    mixed = logits.masked_fill(~seen, float("-inf")).softmax(-1) @ value
    residual, gate = (mixed @ parts["output_weight"] + parts["output_bias"]).chunk(2, dim=-1)
    z = z * (1.0 + gate) + residual
    return (z @ parts["score_weight"] + parts["score_bias"])[..., 0]
