"""Last queries: the attention that the newest queries pay to every cached token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.errors import UsageError, message
from namm_mm.observations.base import Cached, QueryObservation, State

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LastQueries(QueryObservation):
    """Attention weights of the last queries over the cached tokens, as SnapKV and TOVA need them.

    ``statistics["last_queries"]`` is (row, query_head, query, slot) float32, oldest query first.
    The weights are computed at the eviction, from the kept queries and the keys that are cached
    then; each query's weights sum to 1, or are all 0 where no token that it may see is left. There
    are fewer than `count` queries as long as fewer tokens were seen.

    Attributes
    ----------
    count
        Queries to keep.
    """

    count: int = 64
    name: ClassVar[str] = "last_queries"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError(
                message("wrong number of last queries", given=self.count, expected="1 or more")
            )

    def fold(self, state: State, queries: Tensor, first: int) -> State:
        """Keep the newest `count`."""
        import torch

        if (held := state.get("queries")) is not None and queries.shape[2] < self.count:
            queries = torch.cat([held, queries], dim=2)
        return {"queries": queries[:, :, -self.count :].clone()}

    def after_eviction(self, state: State, left: int | None) -> State:
        """Hold the queries that will be among the last ones at the next eviction, too."""
        held = 0 if left is None else self.count - left
        return {"queries": state["queries"][:, :, -held:].clone()} if held > 0 else {}

    def read(self, state: State, cached: Cached) -> Tensor:
        """Softmax over the cached tokens that each query may see."""
        return attention_weights(state["queries"], cached)


def attention_weights(queries: Tensor, cached: Cached) -> Tensor:
    """Attention of the newest queries over the cached tokens.

    Parameters
    ----------
    queries
        (row, query_head, query, head_dim): those of the newest tokens, the last one of the token at
        position ``cached.seen - 1``.

    Returns
    -------
    Tensor
        (row, query_head, query, slot) float32.
    """
    import torch

    rows, heads = cached.keys.shape[:2]
    formula = cached.formula
    count = queries.shape[2]
    grouped = queries.reshape(rows, heads, -1, queries.shape[-1])
    products = (grouped @ cached.keys.transpose(-1, -2)).float() * formula.scaling
    products = formula.cap(products.view(rows, heads, -1, count, products.shape[-1]))
    asking = torch.arange(cached.seen - count, cached.seen, device=queries.device)[:, None]
    positions = cached.positions[:, :, None]
    hidden = (positions < 0) | (positions > asking)
    if formula.window is not None:
        hidden |= positions <= asking - formula.window
    products.masked_fill_(hidden[:, :, None], float("-inf"))
    return formula.softmax(products).nan_to_num_(0.0).flatten(1, 2)
