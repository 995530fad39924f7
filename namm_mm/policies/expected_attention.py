"""Expected Attention: what queries to come are expected to look at stays (arXiv 2510.00636)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.errors import UsageError, message
from namm_mm.observations.query_moments import QueryMoments
from namm_mm.policies.base import LayerView, Policy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ExpectedAttention(Policy):
    """Attention expected of queries with the mean and covariance of those so far, times the value.

    For a key ``k`` the logit is ``k.mu / sqrt(d) + k' S k / (2 d)``: the exponential's expectation
    over queries of mean ``mu`` and covariance ``S``, both under the mean rotation of the next
    positions. The softmax over the cached tokens without sinks, mean over the query group, plus
    `epsilon`, is multiplied by the L2 norm of the value.

    Attributes
    ----------
    future
        Positions to look ahead.
    epsilon
        What a token that no query is expected to look at still counts.
    """

    name: ClassVar[str] = "expected_attention"
    sinks: float = 4
    future: int = 512
    epsilon: float = 0.02

    def check(self) -> None:
        """Raise `UsageError` for a negative epsilon, or no positions to look ahead."""
        if self.epsilon < 0.0:
            raise UsageError(
                message(
                    "wrong epsilon of expected_attention",
                    given=self.epsilon,
                    expected="0 or more",
                )
            )
        QueryMoments(future=self.future)

    @property
    def needs(self) -> QueryMoments:
        """Mean and covariance of the queries."""
        return QueryMoments(future=self.future)

    def score(self, view: LayerView) -> Tensor:
        """(row, kv_head, slot): expected attention times the value's norm."""
        moments = view.statistics["query_moments"]
        rows, heads, _, dim = view.keys.shape
        grouped = moments.view(rows, heads, -1, 1 + dim, dim)
        keys = view.keys.float()[:, :, None]
        mean, covariance = grouped[..., :1, :], grouped[..., 1:, :]
        logits = (keys @ mean.transpose(-1, -2))[..., 0] * dim**-0.5
        logits = logits + ((keys @ covariance) * keys).sum(-1) / (2 * dim)
        hidden = ~view.filled | (view.positions < self.sinks)
        shares = logits.masked_fill(hidden[:, :, None], float("-inf")).softmax(-1).nan_to_num(0.0)
        scores: Tensor = shares.mean(2) + self.epsilon
        return scores * view.values.float().square().sum(-1).sqrt()
