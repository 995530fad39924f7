"""Arithmetic of memory: weights, and what a cache takes under a policy and a budget.

Bytes of one cached token are ``2 x layers x KV heads x head size x bytes of a number``, plus four
for its position and what the policy remembers of it, for each layer and head. An evicting memory
has room for one more interval. While a prompt runs, the activations of one layer exist besides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from namm_mm.experiment.settings import OWN_BUDGET, PolicySettings
from namm_mm.models.known import ModelFacts
from namm_mm.policies import budgets, create
from namm_mm.policies.base import Budget, KeepAll, Policy, Selection

POSITION_BYTES = 4
TILE = 128  # rows of attention weights that an observing memory has at one time
RUNTIME = 0.8e9  # CUDA context, libraries and what an allocator cannot use
HEADROOM = 0.95


@dataclass(frozen=True)
class CacheNeed:
    """What one policy under one budget takes at a stated context.

    Attributes
    ----------
    policy, budget
        As in records.
    tokens
        Cached tokens per head at the peak; for a threshold the most that is possible.
    at_most
        True where the policy decides by itself how much it keeps, so that `tokens` is a bound.
    cache, state
        Bytes of keys, values and positions, and of what the policy remembers, of all sequences that
        run together.
    working
        Bytes of activations while the prompt runs.
    """

    policy: str
    budget: str
    tokens: int
    at_most: bool
    cache: float
    state: float
    working: float

    @property
    def total(self) -> float:
        """Bytes beside the weights."""
        return self.cache + self.state + self.working


def state_per_token(policy: Policy, facts: ModelFacts) -> int:
    """Bytes that `policy` remembers of one token, over all layers and heads."""
    return policy.bytes_per_token * facts.layers * facts.kv_heads


def need(
    settings: PolicySettings,
    facts: ModelFacts,
    *,
    others: tuple[PolicySettings, ...],
    context: int,
    prompt: int,
    interval: int,
    number_bytes: int,
    sequences: int,
) -> CacheNeed:
    """What `settings` takes when `sequences` of `context` tokens run together, `prompt` at once."""
    policy = create(settings.name, **settings.options)
    tokens, at_most = held(settings, others, context, interval)
    tokens = _mean(tokens, _leader(settings, others), facts.layers, context)
    per_token = facts.kv_per_token(number_bytes) + (POSITION_BYTES * facts.layers * facts.kv_heads)
    return CacheNeed(
        policy=settings.name,
        budget=_words(settings, policy),
        tokens=tokens,
        at_most=at_most,
        cache=float(per_token * tokens * sequences),
        state=float(state_per_token(policy, facts) * tokens * sequences),
        working=_working(policy, facts, prompt, tokens, number_bytes) * sequences,
    )


def held(
    settings: PolicySettings,
    others: tuple[PolicySettings, ...],
    context: int,
    interval: int,
) -> tuple[int, bool]:
    """Cached tokens per head at the peak, and whether that is only a bound."""
    leader = _leader(settings, others)
    if leader is None:
        return context, True
    if leader is not settings:
        return held(leader, (), context, interval)
    selection = _selection(settings)
    if isinstance(selection, KeepAll):
        return context, False
    if isinstance(selection, Budget):
        size = selection.tokens or round((selection.fraction or 1.0) * context)
        if create(settings.name, **settings.options).reencodes:
            return min(context, size), False
        return min(context, size + interval), False
    limit = context if selection.limit is None else selection.limit + interval
    return min(context, limit), selection.limit is None


def _leader(settings: PolicySettings, others: tuple[PolicySettings, ...]) -> PolicySettings | None:
    """Whose sizes hold: the matched policy, or itself; None where the matched one is absent."""
    followed = budgets.matched_policy(settings.budget)
    if followed is None:
        return settings
    return next((other for other in others if other.name == followed), None)


def _mean(tokens: int, leader: PolicySettings | None, layers: int, context: int) -> int:
    """Mean over layers where the lowest ones keep every token; `tokens` are those of the others."""
    selection = None if leader is None else _selection(leader)
    whole = 0
    if isinstance(selection, Budget) and not selection.bytewise:
        whole = min(selection.whole_layers, layers)
    return round((whole * context + (layers - whole) * tokens) / layers)


def _selection(settings: PolicySettings) -> Selection:
    own = create(settings.name, **settings.options)
    if settings.budget == OWN_BUDGET:
        return own.selection
    return replace(own, budget=settings.budget).selection


def _words(settings: PolicySettings, policy: Policy) -> str:
    if settings.budget == OWN_BUDGET:
        return policy.selection.describe()
    return settings.budget


def _working(
    policy: Policy, facts: ModelFacts, prompt: int, tokens: int, number_bytes: int
) -> float:
    """Activations of one layer over the whole prompt, and a tile of observed attention.

    Counted are the residual stream and its norm, queries, keys, values and the attention's output,
    and the gate, up and product of the feed-forward part: the largest of what lives together.
    """
    heads = (2 * facts.query_heads + 2 * facts.kv_heads) * facts.head_dim
    layer = prompt * (2 * facts.hidden + max(heads, 3 * facts.inner)) * number_bytes
    if policy.needs is None:
        return float(layer)
    return float(layer + 2 * 4 * min(TILE, prompt) * facts.query_heads * tokens)
