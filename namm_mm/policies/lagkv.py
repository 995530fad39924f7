"""LagKV: a token is judged by the range of the tokens that came after it (arXiv 2504.04704)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.errors import UsageError, message
from namm_mm.policies.base import LayerView, Policy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LagKV(Policy):
    """Spread over channels of keys and values, scaled by the range of the next chunk.

    After the sinks the cached tokens are cut into chunks of `lag`. A chunk is scaled by the minimum
    and maximum of the next one, channel by channel; the standard deviation over channels goes
    through a softmax over the chunk; the mean of the keys' and the values' result is ranked within
    the chunk. The last chunk and what follows it always stay. It looks at no attention.

    Attributes
    ----------
    lag
        Tokens of a chunk. The authors take 128 for one pass over a long prompt; an interval of 128
        needs chunks of half of it.
    """

    name: ClassVar[str] = "lagkv"
    sinks: int = 4
    lag: int = 64

    def check(self) -> None:
        """Raise `UsageError` for a chunk of fewer than two tokens."""
        if self.lag < 2:
            raise UsageError(message("wrong lag of lagkv", given=self.lag, expected="2 or more"))

    def score(self, view: LayerView) -> Tensor:
        """(row, kv_head, slot): ranks within chunks in [0, 1); 1 for what came last."""
        import torch

        scores = torch.ones(view.positions.shape, device=view.positions.device)
        for length in sorted(set(view.lengths.flatten().tolist())):
            heads = view.lengths == length
            keys, values = (part[heads][:, :length].float() for part in (view.keys, view.values))
            scores[heads] = torch.nn.functional.pad(
                self._ranks(keys, values), (0, scores.shape[-1] - length)
            )
        return scores

    def _ranks(self, keys: Tensor, values: Tensor) -> Tensor:
        """(head, slot) of keys and values (head, slot, head_dim) without empty slots."""
        import torch

        heads, slots = keys.shape[:2]
        chunks = (slots - self.sinks) // self.lag
        if chunks < 2:  # nothing to compare with: newer tokens first
            return torch.arange(slots, device=keys.device).expand(heads, slots) / max(slots, 1)
        stop = self.sinks + chunks * self.lag
        parts = [
            _spread(part[:, self.sinks : stop].reshape(heads, chunks, self.lag, -1))
            for part in (keys, values)
        ]
        ranks = ((parts[0] + parts[1]) / 2).argsort(-1).argsort(-1) / self.lag
        scores = keys.new_ones(heads, slots)
        scores[:, self.sinks : stop - self.lag] = ranks.flatten(1)
        return scores


def _spread(states: Tensor) -> Tensor:
    """(head, chunk - 1, token) of states (head, chunk, token, channel)."""
    reference, judged = states[:, 1:], states[:, :-1]
    low, high = reference.amin(2, keepdim=True), reference.amax(2, keepdim=True)
    return ((judged - low) / (high - low)).nan_to_num(0.0).std(-1).softmax(-1)
