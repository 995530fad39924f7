"""Eviction with a gradient: exact eviction forward, the effect of each decision backward.

The forward pass evicts as the memory does: a token whose score is below the threshold is not seen
by any later query. The backward pass computes for every token, kept or evicted, how the attention
of each later query would change if this one decision were reversed. Within the layer this change is
known exactly,

    kept, to be evicted:   p / (1 - p) (out - v)
    evicted, to be kept:   a / (1 + a) (v - out),    a = exp(logit) / sum of exp(logits kept).

Soft gates have two defects that this does not have: a gate that is nearly closed still lets strong
attention through, and a token with a closed gate has an unbounded gradient. The gradient of the
decision itself is the straight-through estimate of a sigmoid (Bengio et al., arXiv 1308.3432).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from namm_mm.namm import Namm
from namm_mm.namm.params import LAYOUTS
from namm_mm.policies.head_need import HeadNeed
from research.gradients.gated_attention import GatedAttention

LARGEST_RATIO = 3.0
"""Limit of p / (1 - p): a token that receives nearly all attention has a bounded gradient."""


class StraightThrough(GatedAttention):
    """The rule of a NAMM for one prompt, with storage per head.

    Parameters
    ----------
    namm
        Statistics and spectrogram; its parameters are not used.
    vector
        (4172,) float32 parameters of a BAM, on the device of the model; they get the gradient.
    interval
        Tokens between two updates.
    threshold
        Tokens with a lower score are evicted.
    fraction
        Instead of a threshold: the fraction of the tokens seen that every head keeps.
    need
        What a probe measured in the heads of the model: `fraction` is then that of the mean head.
    temperature
        Width of the sigmoid of a decision's gradient: in units of the score or, with a fraction, of
        the median distance of the head's scores from their median.

    Attributes
    ----------
    gates
        After a run: (kv_head, slot) gates after each update, layer after layer.
    scores
        After a run: (kv_head, slot) lowest scores so far, without gradient.
    """

    def __init__(
        self,
        namm: Namm,
        vector: Tensor,
        interval: int,
        *,
        threshold: float = 0.0,
        fraction: float | None = None,
        need: HeadNeed | None = None,
        temperature: float,
    ) -> None:
        super().__init__(namm.spectrogram, interval)
        self.namm, self.vector = namm.to(vector.device), vector
        self.threshold, self.fraction, self.temperature = threshold, fraction, temperature
        self.need, self._layer = need, -1
        self.gates: list[Tensor] = []
        self.scores: list[Tensor] = []

    def begin(self, heads: int, tokens: int) -> None:
        """Begin a layer: nothing is evicted yet."""
        device = self.vector.device
        self._layer += 1
        self._gate = torch.ones(heads, 0, device=device)
        self._lowest = torch.full((heads, 0), float("inf"), device=device)

    def block(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> tuple[Tensor, Tensor]:
        """Attend to the kept tokens; the gates of new tokens are open."""
        missing = key.shape[1] - self._gate.shape[1]
        self._gate = functional.pad(self._gate, (0, missing), value=1.0)
        self._lowest = functional.pad(self._lowest, (0, missing), value=torch.inf)
        out, weights = attend(query.float(), key.float(), value.float(), self._gate, scaling)
        return out.to(value.dtype), weights

    def update(self, spectrum: Tensor) -> None:
        """Evict tokens."""
        oldest = spectrum.shape[1] - 1
        age = torch.arange(oldest, -1, -1, device=spectrum.device).expand(spectrum.shape[:2])
        z = self.namm.features(spectrum, age)
        kept = self._gate.detach() > 0.5
        scores = score(self.vector, z, kept)
        if self.fraction is None:
            above, stays = (scores - self.threshold) / self.temperature, scores >= self.threshold
        else:
            above, stays = _above_limit(scores, kept, self._sizes(kept), self.temperature)
        soft = torch.sigmoid(above)
        gate = stays.float() + soft - soft.detach()
        gate = functional.pad(gate[:, :-1], (0, 1), value=1.0)  # the newest token always stays
        self._gate = self._gate * gate
        lowest = functional.pad(scores.detach()[:, :-1], (0, 1), value=torch.inf)
        self._lowest = torch.minimum(self._lowest, lowest)
        self.gates.append(self._gate)
        self.scores.append(self._lowest)

    def _sizes(self, kept: Tensor) -> Tensor:
        """Return (kv_head, 1) int64: how many tokens each head keeps, 1 or more."""
        seen = kept.shape[1]
        size = max(1, round((self.fraction or 0.0) * seen))
        if self.need is None:
            wanted = kept.new_full((len(kept), 1), size, dtype=torch.int64)
        else:
            sizes = self.need.sizes(self._layer, size, seen)
            wanted = torch.tensor(sizes, device=kept.device)[:, None]
        return torch.minimum(wanted, kept.sum(1, keepdim=True)).clamp_min(1)


def _above_limit(
    scores: Tensor, kept: Tensor, sizes: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Compare the scores with the limit at which their head keeps as many tokens as `sizes` says.

    Returns the distances (kv_head, slot) in units of the sigmoid's width, and which tokens stay.
    The limit of a head moves with its scores, so that a step does not change how many are kept. A
    head that keeps all its tokens decides nothing, and its distances have no gradient.
    """
    with torch.no_grad():
        last = scores.shape[1] - 1
        eligible = scores.masked_fill(~kept, float("-inf"))
        eligible[:, last] = float("inf")  # it always stays, and counts
        limit = eligible.sort(1, descending=True).values.gather(1, sizes - 1)
        stays = eligible >= limit
        limit = torch.where(limit.isinf(), scores.amax(1, keepdim=True), limit)
        known = scores.masked_fill(~kept, float("nan"))
        middle = known.nanmedian(1, keepdim=True).values
        width = temperature * (known - middle).abs().nanmedian(1, keepdim=True).values
        width = width.clamp_min(1e-6)
        near = torch.sigmoid((scores - limit) / width)
        weights = (near * (1.0 - near)).masked_fill(~kept, 0.0)
        weights[:, last] = 0.0
        weights /= weights.sum(1, keepdim=True).clamp_min(1e-12)
    moving = (weights * scores).sum(1, keepdim=True)
    above = (scores - limit - (moving - moving.detach())) / width
    return torch.where(sizes < kept.sum(1, keepdim=True), above, above.detach()), stays


def attend(
    query: Tensor, key: Tensor, value: Tensor, gate: Tensor, scaling: float
) -> tuple[Tensor, Tensor]:
    """Return the attention of the newest queries to the kept tokens.

    Parameters
    ----------
    query
        (kv_head, query_group, token, dim) float32.
    key, value
        (kv_head, slot, dim) float32.
    gate
        (kv_head, slot): 1 is kept, 0 is evicted. Its gradient is the change by the reversed
        decision; the other gradients are those of attention to the kept tokens.

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
    """See :func:`attend`; what can be computed again is not stored."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, gate: Tensor, scaling: float
    ) -> tuple[Tensor, Tensor]:
        """Return output and weights."""
        heads, group, tokens, dim = query.shape
        query = query.reshape(heads, group * tokens, dim)
        logits = (query @ key.transpose(-1, -2)).mul_(scaling)
        ahead = logits.new_full((tokens, key.shape[1]), float("-inf"))
        ahead = ahead.triu_(key.shape[1] - tokens + 1)
        logits.view(heads, group, tokens, -1).add_(ahead)
        highest = logits.amax(-1, keepdim=True)
        raw = logits.sub_(highest).exp_()
        kept = (gate > 0.5).float()[:, None]
        weights = raw * kept
        total = weights.sum(-1, keepdim=True).clamp_min(1e-30)
        weights /= total
        out = weights @ value
        ctx.save_for_backward(query, key, value, out, raw, total, kept)
        ctx.scaling = scaling
        shape = (heads, group, tokens, -1)
        weights = weights.view(shape)
        ctx.mark_non_differentiable(weights)
        return out.view(shape), weights

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return gradients of the softmax over kept tokens, and of reversed decisions."""
        query, key, value, out, raw, total, kept = ctx.saved_tensors
        gradient = gradients[0].reshape(out.shape)
        weights = raw * kept / total
        difference = gradient @ value.transpose(-1, -2)
        difference -= (gradient * out).sum(-1, keepdim=True)  # of each value to the output
        # The total is total + raw with an evicted token, and total - raw without a kept one.
        ratio = raw / (total + raw - 2.0 * raw * kept).clamp_min(1e-30)
        gates = (ratio.clamp_max_(LARGEST_RATIO) * difference).sum(1)
        into_value = weights.transpose(-1, -2) @ gradient
        inner = weights.mul_(difference).mul_(ctx.scaling)
        into_query = (inner @ key).view(gradients[0].shape)
        return into_query, inner.transpose(-1, -2) @ query, into_value, gates, None


def score(vector: Tensor, z: Tensor, kept: Tensor) -> Tensor:
    """Return the scores of :class:`namm_mm.namm.bam.Bam`, where some slots are empty.

    Parameters
    ----------
    vector
        (4172,) parameters.
    z
        (head, slot, 25) features, oldest first.
    kept
        (head, slot) bool: tokens that others see.

    Returns
    -------
    Tensor
        (head, slot), of empty slots as if their token were kept.
    """
    parts = LAYOUTS["bam"].split(vector)
    projected = z @ parts["query_key_value_weight"] + parts["query_key_value_bias"]
    query, key, value = projected.chunk(3, dim=-1)
    slots = z.shape[1]
    seen = kept.new_ones(slots, slots).triu(1) & kept[:, None, :]
    seen |= torch.eye(slots, dtype=torch.bool, device=z.device)  # a token always sees itself
    logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    mixed = logits.masked_fill(~seen, float("-inf")).softmax(-1) @ value
    residual, gate = (mixed @ parts["output_weight"] + parts["output_bias"]).chunk(2, dim=-1)
    z = z * (1.0 + gate) + residual
    return (z @ parts["score_weight"] + parts["score_bias"])[..., 0]
