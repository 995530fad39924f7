"""Conformance of a policy: scores, rows on their own, budgets, both storages, real generation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from namm_mm.memory import Memory, attach
from namm_mm.observations.base import (
    Cached,
    Observation,
    QueryObservation,
    WeightsObservation,
)
from namm_mm.policies.base import Budget, LayerView, Policy, Selection
from namm_mm.records import TokenType
from namm_mm.testing.promises import ConformanceError, Promises, require
from namm_mm.testing.tiny import tiny_llama, tiny_tokens

if TYPE_CHECKING:
    from torch import Tensor

ROWS, HEADS, GROUP, SLOTS, WIDTH, QUERIES = 3, 2, 2, 24, 8, 96
INTERVAL, PROMPT, NEW = 16, 40, 12
VIDEO = (TokenType("text"),) * 2 + tuple(TokenType("frame", i // 4) for i in range(28))
"""What the first tokens are, for policies that must be told: a short video."""


def check_policy(policy: Policy) -> tuple[str, ...]:
    """Try every promise of :class:`namm_mm.policies.base.Policy`; return them when all hold.

    Inputs are small and random.

    Parameters
    ----------
    policy
        An instance; a frozen dataclass, so that budgets can be set.

    Raises
    ------
    ConformanceError
        Lists every broken promise with what was seen.
    """
    if not isinstance(policy, Policy):
        raise ConformanceError(f"{policy!r} does not subclass namm_mm.policies.Policy")
    promises = Promises(f"the policy {policy.name!r}")
    with promises.promise("it has a name, an observation and a selection"):
        require(isinstance(policy.name, str) and policy.name, f"name is {policy.name!r}")
        known = WeightsObservation | QueryObservation | None
        require(isinstance(policy.needs, known), f"needs is {policy.needs!r}")
        require(isinstance(policy.selection, Selection), f"selection is {policy.selection!r}")
    with promises.promise("it is a frozen dataclass, so that a budget can be set"):
        require(dataclasses.is_dataclass(policy), "it is no dataclass")
        replaced = dataclasses.replace(policy, budget=Budget(tokens=5))
        selection = replaced.selection
        kept = isinstance(selection, Budget) and selection.tokens == 5
        require(kept, "dataclasses.replace lost the budget")
    with promises.promise("its name and its observation are no options"):
        options = {field.name for field in dataclasses.fields(policy)} & {"name", "needs"}
        require(not options, f"annotate as ClassVar: {', '.join(sorted(options))}")
    if policy.content == "video":
        policy = policy.for_tokens(VIDEO)
    if policy.repeats:
        policy = policy.for_repetition([torch.rand(HEADS, PROMPT) for _ in range(2)])
    _check_scores(policy.for_model(tiny_llama()), promises)
    _check_memory(policy, promises)
    return promises.conclude()


def random_view(needs: Observation | None, seed: int = 0) -> LayerView:
    """Return one layer's cache with random keys, heads of different lengths, and observations."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    lengths = torch.randint(SLOTS // 2, SLOTS + 1, (ROWS, HEADS), generator=generator)
    lengths[0] = SLOTS
    filled = torch.arange(SLOTS) < lengths[..., None]
    gaps = torch.randint(1, 3, (ROWS, HEADS, SLOTS), generator=generator)
    positions = (gaps.cumsum(-1) - 1).masked_fill(~filled, -1)
    mask = filled[..., None]
    keys = normal(ROWS, HEADS, SLOTS, WIDTH) * mask
    seen = max(int(positions.max()) + 1, QUERIES)
    statistics = {}
    if isinstance(needs, WeightsObservation):
        weights = normal(ROWS, HEADS, QUERIES, SLOTS)
        weights = weights.masked_fill(~filled[:, :, None], float("-inf")).softmax(-1)
        opened = needs.opened(needs.initial(ROWS, HEADS, SLOTS, "cpu"))
        statistics[needs.name] = needs.read(needs.closed(needs.fold(opened, weights)))
    elif isinstance(needs, QueryObservation):
        state = needs.fold({}, normal(ROWS, HEADS * GROUP, QUERIES, WIDTH), seen - QUERIES)
        statistics[needs.name] = needs.read(state, Cached(keys, positions, seen, WIDTH**-0.5))
    return LayerView(
        layer=1,
        layers=2,
        keys=keys,
        values=normal(ROWS, HEADS, SLOTS, WIDTH) * mask,
        positions=positions,
        lengths=lengths,
        seen=seen,
        statistics=statistics,
        limits=lengths // 3,
    )


def _check_scores(policy: Policy, promises: Promises) -> None:
    view = random_view(policy.needs)
    filled = view.filled
    with promises.promise("scores are (row, kv_head, slot), float32 and finite"):
        scores = policy.score(view)
        require(scores.shape == filled.shape, f"shape {tuple(scores.shape)}")
        require(scores.dtype == torch.float32, f"dtype {scores.dtype}")
        require(scores[filled].isfinite().all(), "a token has a score that is not finite")
    with promises.promise("the same view gives the same scores"):
        require(_same(policy.score(view), policy.score(view), filled), "two calls differ")
    with promises.promise("the view is left as it was"):
        before = [tensor.clone() for tensor in _tensors(view)]
        policy.score(view)
        unchanged = all(torch.equal(a, b) for a, b in zip(before, _tensors(view), strict=True))
        require(unchanged, "a tensor of the view was changed in place")
    with promises.promise("a row scores alone as it does in a batch"):
        together = policy.score(view)
        for row in range(ROWS):
            alone = policy.score(_row(view, row))
            same = _same(alone, together[row : row + 1], filled[row : row + 1])
            require(same, f"row {row} alone differs from row {row} of the batch")
    with promises.promise("what lies in empty slots does not matter"):
        dirty = _with_garbage(view)
        require(_same(policy.score(dirty), policy.score(view), filled), "scores depend on it")


def _check_memory(policy: Policy, promises: Promises) -> None:
    whole = policy.selection.whole_layers if isinstance(policy.selection, Budget) else 0
    model = tiny_llama(num_hidden_layers=2 + whole)
    storages = ("per_head",) if policy.storage == "per_head" else ("shared", "per_head")
    for storage in storages:
        with promises.promise(f"it generates under its own rule with {storage} storage"):
            _generate(model, policy, storage)
        for size in (policy.least_tokens, 6):
            with promises.promise(f"a budget of {size} is kept with {storage} storage"):
                limited: Any = dataclasses.replace(policy, budget=Budget(tokens=size))
                memory = _generate(model, limited, storage)
                _check_sizes(limited.selection, memory.trace().sizes[-1], size)


def _check_sizes(selection: Budget, sizes: Sequence[Sequence[int]], size: int) -> None:
    """No head holds more than its size; where heads or layers share one, the mean does not.

    The lowest layers may be whole by the selection's own word.
    """
    held = [count for layer in sizes[selection.whole_layers :] for count in layer]
    if selection.pooled or selection.beta is not None or selection.need is not None:
        mean = sum(held) / len(held)
        require(mean <= size + 0.5, f"{mean:.1f} tokens on average right after an update")
    else:
        require(max(held) <= size, f"{max(held)} tokens right after an update")


def _generate(model: Any, policy: Policy, storage: str) -> Memory:
    ids = tiny_tokens(1, PROMPT)
    with torch.no_grad(), attach(model, policy, interval=INTERVAL, storage=storage) as memory:
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW,
            min_new_tokens=NEW,
            do_sample=False,
        )
    seen = memory.usage().seen
    require(seen == PROMPT + NEW - 1, f"the memory saw {seen} tokens")
    for layer in range(memory.layers):
        for positions in memory.kept(layer):
            require(len(positions) > 0, f"a head of layer {layer} kept nothing")
            require((positions[1:] > positions[:-1]).all(), "kept positions are not ascending")
            require(positions[0] >= 0 and positions[-1] == seen - 1, "the newest token is gone")
    return memory


def _tensors(view: LayerView) -> list[Tensor]:
    return [view.keys, view.values, view.positions, view.lengths, *view.statistics.values()]


def _row(view: LayerView, row: int) -> LayerView:
    part = slice(row, row + 1)
    return dataclasses.replace(
        view,
        keys=view.keys[part],
        values=view.values[part],
        positions=view.positions[part],
        lengths=view.lengths[part],
        statistics={name: value[part] for name, value in view.statistics.items()},
        limits=None if view.limits is None else view.limits[part],
    )


def _with_garbage(view: LayerView) -> LayerView:
    """Return the same tokens, with other numbers in the empty slots."""
    empty = ~view.filled

    def fill(tensor: Tensor) -> Tensor:
        if tensor.shape[:3] != empty.shape:  # not of slots
            return tensor
        mask = empty.view(*empty.shape, *[1] * (tensor.dim() - 3))
        return tensor.masked_fill(mask, 7.0)

    return dataclasses.replace(
        view,
        keys=fill(view.keys),
        values=fill(view.values),
        statistics={name: fill(value) for name, value in view.statistics.items()},
    )


def _same(first: Tensor, second: Tensor, where: Tensor) -> bool:
    return torch.allclose(first[where], second[where], rtol=1e-4, atol=1e-5)
