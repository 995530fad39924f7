"""What a model looks up while it reads random tokens twice: which of its heads need memory."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicSlidingWindowLayer

from namm_mm.errors import UnsupportedError, message
from namm_mm.memory.layout import BOTH, OTHER, Layout
from namm_mm.observations.last_queries import LastQueries
from namm_mm.policies.base import LayerView, Policy
from namm_mm.policies.head_need import Probe

FEWEST = 8
"""Tokens that must be said twice, to measure anything."""

Needs = tuple[tuple[float, ...], ...]
Attach = Callable[..., AbstractContextManager[Any]]
"""``namm_mm.attach``, which asks this module and is asked by it."""

_FOUND: weakref.WeakKeyDictionary[nn.Module, dict[tuple[Probe, int], Needs]] = (
    weakref.WeakKeyDictionary()
)


def fitted(policy: Policy, model: nn.Module, config: Any, attach: Attach) -> Policy:
    """Return `policy` with what its probe finds in `model`; itself where it asks for no probe.

    A model is probed once, and again when its weights were changed in place.

    Parameters
    ----------
    config
        That of the decoder in `model`.
    attach
        ``namm_mm.attach``.

    Raises
    ------
    UnsupportedError
        The model reads no token ids, or too few are known to it.
    """
    probe = policy.probe
    if probe is None:
        return policy
    found = _FOUND.setdefault(model, {})
    # Weights that were made under torch.inference_mode have no version.
    changes = sum(weight._version for weight in model.parameters() if not weight.is_inference())
    key = (probe, changes)
    if key not in found:
        found[key] = needs_of(model, config, probe, attach)
    return policy.for_needs(found[key], _windows(config))


@dataclass(frozen=True)
class _Listener(Policy):
    """Notes how much each head looks from the second time a token is said to the first."""

    name: ClassVar[str] = "listener"
    tokens: int = 1
    between: int = 0
    found: dict[int, Tensor] = field(default_factory=dict, compare=False)

    @property
    def needs(self) -> LastQueries:
        """The queries of the second time."""
        return LastQueries(self.tokens)

    def score(self, view: LayerView) -> Tensor:
        """Position; what is evicted afterwards does not matter."""
        weights = view.statistics["last_queries"]
        rows, heads = view.positions.shape[:2]
        asking = torch.arange(self.tokens - 1, device=weights.device)
        same = view.seen - 2 * self.tokens - self.between + asking
        looked = weights[:, :, asking, same] + weights[:, :, asking, same + 1]
        by_head = looked.mean((0, 2)).view(heads, -1).amax(-1)
        self.found[view.layer] = by_head
        return view.positions.float().view(rows, heads, -1)


def needs_of(model: nn.Module, config: Any, probe: Probe, attach: Attach) -> Needs:
    """Measure a model.

    Returns
    -------
    tuple of tuple of float
        For each layer and kv head the attention to the first time of the same token and to the
        token that followed it there: mean of tokens and sequences, largest of the query group; 0
        to 1.

    Raises
    ------
    UnsupportedError
        The model reads no token ids, or too few are known to it.
    """
    if "input_ids" not in inspect.signature(model.forward).parameters:
        raise UnsupportedError(
            message(
                "probed needs a model that reads token ids",
                given=type(model).__name__,
                expected="a language model, or one that holds a language model",
                then="Take the policy below it alone.",
            )
        )
    called: Any = model
    device = next(model.parameters()).device
    ids = _random_tokens(config, probe, _special(model.config)).to(device)
    twice = (ids.shape[1] - probe.between) // 2
    listener = _Listener(tokens=twice, between=probe.between)
    with torch.no_grad(), attach(model, listener, protocol="prune_after_prefill"):
        called(input_ids=ids, use_cache=True)
    return tuple(tuple(listener.found[layer].tolist()) for layer in sorted(listener.found))


def _random_tokens(config: Any, probe: Probe, special: set[int]) -> Tensor:
    """(row, column) int64: the first token of texts, then random ones, of which some come twice.

    No token comes twice among those that are said twice, nor among them and those between. A model
    with a small vocabulary is told half of it twice.
    """
    draw = torch.Generator().manual_seed(probe.seed)
    known = torch.tensor([token for token in range(config.vocab_size) if token not in special])
    twice = min(probe.tokens, len(known) // 2)
    if twice < FEWEST:
        raise UnsupportedError(
            message(
                "too few tokens for a probe",
                given=f"a vocabulary of {len(known)} tokens that are not special",
                expected=f"{2 * FEWEST} or more",
                then="Take the policy below it alone.",
            )
        )
    first = config.to_dict().get("bos_token_id")
    head = torch.tensor([first] if isinstance(first, int) else [], dtype=torch.int64)
    rows = []
    for _ in range(probe.rows):
        drawn = known[torch.randperm(len(known), generator=draw)]
        said, others = drawn[:twice], drawn[twice:]
        between = others[torch.arange(probe.between) % len(others)]
        rows.append(torch.cat([head, said, between, said]))
    return torch.stack(rows)


def _special(config: Any) -> set[int]:
    """Tokens with a meaning of their own, such as those in whose place pictures stand."""
    return set(_ids(config.to_dict()))


def _ids(plain: Mapping[str, Any]) -> Iterator[int]:
    for name, value in plain.items():
        if isinstance(value, Mapping):
            yield from _ids(value)
        elif str(name).endswith(("token_id", "token_index", "token_ids")):
            given = value if isinstance(value, (list, tuple)) else [value]
            yield from (token for token in given if isinstance(token, int))


def _windows(config: Any) -> tuple[int | None, ...]:
    """The sliding window of each layer of attention."""
    kinds = [kind for kind in Layout.of(config).kinds if kind not in OTHER]
    sliding = [kind in (DynamicSlidingWindowLayer, BOTH[1]) for kind in kinds]
    window = config.to_dict().get("sliding_window")
    return tuple(window if slides else None for slides in sliding)
