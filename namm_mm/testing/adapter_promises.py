"""Conformance of an adapter: the model as it was, a type for every token, rows on their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from namm_mm.adapters.base import ActingAdapter, Adapter, AnsweringAdapter
from namm_mm.errors import UsageError
from namm_mm.memory import attach
from namm_mm.policies import Budget, create
from namm_mm.records import Answer, Sample, TokenType
from namm_mm.testing.promises import ConformanceError, Promises, require

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from namm_mm.memory import Memory

INTERVAL = 16
STEPS = 12
TOLERANCE = 1e-3
"""In nats, or in units of action: float32 sums in another order differ by less."""


def check_adapter(adapter: Adapter, samples: Sequence[Sample] = ()) -> tuple[str, ...]:
    """Try every promise of :mod:`namm_mm.adapters.base`; return them when all hold.

    Parameters
    ----------
    adapter
        An instance with a small model in float32; it is loaded here.
    samples
        For an answering adapter, two or more that it can answer, best longer than 40 tokens. An
        acting adapter is fed random observations.

    Raises
    ------
    ConformanceError
        It has no declared base; or lists every broken promise with what was seen.
    UsageError
        Too few samples.
    """
    if not isinstance(adapter, AnsweringAdapter | ActingAdapter):
        raise ConformanceError(
            f"the adapter {type(adapter).__name__} has no declared base: expected a subclass of "
            "AnsweringAdapter or ActingAdapter of namm_mm.adapters.base."
        )
    if isinstance(adapter, AnsweringAdapter) and len(samples) < 2:
        raise UsageError(
            f"check_adapter: got {len(samples)} samples, expected two or more that the adapter can "
            "answer."
        )
    promises = Promises(f"the adapter {type(adapter).__name__}")
    with promises.promise("it names its model before loading"):
        require(isinstance(adapter.model_name, str) and adapter.model_name, "model_name is empty")
    with promises.promise("it loads"):
        adapter.load()
    if promises.broken:
        promises.conclude()
    with promises.promise("its backbone is in evaluation mode"):
        require(not adapter.backbone.training, "backbone.training is True")
    if isinstance(adapter, ActingAdapter):
        _check_acting(adapter, promises)
    else:
        _check_answering(adapter, samples, promises)
    return promises.conclude()


def _check_answering(
    adapter: AnsweringAdapter, samples: Sequence[Sample], promises: Promises
) -> None:
    first, second = samples[:2]
    before = _state(adapter.backbone)
    with promises.promise("every token has a type"):
        for sample in samples:
            inputs = adapter.prepare(sample)
            require(inputs.sample is sample, "inputs.sample is another sample")
            require(inputs.token_types, f"sample {sample.id!r} has no token types")
            types = inputs.token_types
            require(all(isinstance(one, TokenType) for one in types), "one is no TokenType")
            _, memory = _answer(adapter, sample)
            seen = memory.usage().seen
            require(seen >= len(types), f"{len(types)} token types, but {seen} tokens were seen")
    with promises.promise("a memory that evicts nothing changes no answer"):
        for sample in samples:
            plain = adapter.answer(adapter.prepare(sample), None)
            _require_same(plain, _answer(adapter, sample)[0])
    with promises.promise("the same sample gives the same answer again, after another one"):
        early = _answer(adapter, first, tokens=24)[0]
        _answer(adapter, second, tokens=24)
        _require_same(early, _answer(adapter, first, tokens=24)[0])
    with promises.promise("two samples under one attached memory do not mix"):
        alone = _answer(adapter, second, tokens=24)[0]
        with _attached(adapter, 24) as memory:
            adapter.answer(adapter.prepare(first), memory)
            after = adapter.answer(adapter.prepare(second), memory)
        _require_same(alone, after)
    with promises.promise("it works with one token kept"):
        answer, memory = _answer(adapter, first, tokens=1)
        require(np.isfinite(answer.log_probabilities).all(), "a log-probability is not finite")
        _require_ascending(memory)
    with promises.promise("the option it names is the text it gives"):
        for sample in samples:
            answer = _answer(adapter, sample)[0]
            if answer.option is not None:
                require(answer.text == sample.options[answer.option], f"text is {answer.text!r}")
    with promises.promise("the model is left as it was, on an exception too"):
        _raise_inside(adapter)
        require(_state(adapter.backbone) == before, "hooks or the attention function remain")


def _check_acting(adapter: ActingAdapter, promises: Promises) -> None:
    before = _state(adapter.backbone)
    with promises.promise("it knows its dimensions once loaded"):
        state, action = adapter.dimensions
        require(min(state, action) >= 1, f"dimensions are {adapter.dimensions}")
    if promises.broken:
        return
    with promises.promise("actions are (environment, action_dim), float32 and finite"):
        actions, _, _ = _act(adapter, environments=3)
        require(actions.dtype == np.float32, f"dtype {actions.dtype}")
        require(actions.shape == (STEPS, 3, action), f"shape {actions.shape[1:]}")
        require(np.isfinite(actions).all(), "an action is not finite")
    with promises.promise("every token has a type"):
        _, memory, types = _act(adapter, environments=2)
        seen = memory.usage().seen
        require(seen == len(types), f"{len(types)} token types, but {seen} tokens were seen")
        require(all(isinstance(one, TokenType) for one in types), "one is no TokenType")
    with promises.promise("a memory that evicts nothing changes no action"):
        _require_close(_act(adapter, environments=2)[0], _act(adapter, 2, attached=False)[0])
    with promises.promise("an environment goes alone as it goes in a batch"):
        together = _act(adapter, environments=3, tokens=9)[0]
        for row in range(3):
            _require_close(together[:, row], _act(adapter, 1, tokens=9, first=row)[0][:, 0])
    with promises.promise("a finished episode's memory stays as it was"):
        _, memory, _ = _act(adapter, environments=2, tokens=9, stop_first_at=STEPS // 2)
        _, shorter, _ = _act(adapter, environments=2, tokens=9, steps=STEPS // 2)
        require(memory.usage(0) == shorter.usage(0), f"{memory.usage(0)} after its end")
        require(memory.usage(1).seen > memory.usage(0).seen, "the other one did not go on")
    with promises.promise("it works with one token kept"):
        actions, memory, _ = _act(adapter, environments=2, tokens=1)
        require(np.isfinite(actions).all(), "an action is not finite")
        _require_ascending(memory)
    with promises.promise("a state of the wrong dimension is refused"):
        try:
            _act(adapter, environments=1, state=state + 1, steps=1)
        except UsageError:
            pass
        else:
            require(False, f"{state + 1} numbers were taken for {state}")
    with promises.promise("the model is left as it was, on an exception too"):
        _raise_inside(adapter)
        require(_state(adapter.backbone) == before, "hooks or the attention function remain")


def _attached(adapter: Adapter, tokens: int | None) -> AbstractContextManager[Memory]:
    policy = create("full") if tokens is None else create("recency", budget=Budget(tokens=tokens))
    return attach(adapter.backbone, policy, interval=INTERVAL)


def _answer(
    adapter: AnsweringAdapter, sample: Sample, tokens: int | None = None
) -> tuple[Answer, Memory]:
    with _attached(adapter, tokens) as memory:
        answer = adapter.answer(adapter.prepare(sample), memory)
    return answer, memory


def _act(
    adapter: ActingAdapter,
    environments: int,
    *,
    tokens: int | None = None,
    steps: int = STEPS,
    first: int = 0,
    state: int | None = None,
    stop_first_at: int | None = None,
    attached: bool = True,
) -> tuple[NDArray[np.float32], Memory, tuple[TokenType, ...]]:
    """Return actions (step, environment, action_dim), the memory, and the token types."""
    state = state or adapter.dimensions[0]
    draws = [np.random.default_rng(first + row) for row in range(environments)]
    with _attached(adapter, tokens) as memory:
        agent = adapter.agent(environments, memory if attached else None, target_return=100.0)
        actions = []
        alive = np.ones(environments, dtype=np.bool_)
        for step in range(steps):
            if step == stop_first_at:
                alive[0] = False
            drawn = np.stack([draw.normal(size=state + 1)[:state] for draw in draws])
            rewards = np.full(environments, 0.0 if step == 0 else 1.0, dtype=np.float32)
            actions.append(agent.act(drawn.astype(np.float32), rewards, alive.copy()))
        return np.stack(actions), memory, agent.token_types


def _raise_inside(adapter: Adapter) -> None:
    """Raise inside an attached block, as a user's code might."""
    try:
        with _attached(adapter, 4):
            raise KeyError("on purpose")
    except KeyError:
        pass


def _state(backbone: Any) -> tuple[object, ...]:
    """Return what attaching changes and must restore."""
    config = backbone.config.get_text_config(decoder=True)
    hooks = sum(
        len(module._forward_pre_hooks) + len(module._forward_hooks) for module in backbone.modules()
    )
    return config._attn_implementation, hooks, backbone.training


def _require_same(first: Answer, second: Answer) -> None:
    require(first.text == second.text, f"{first.text!r} became {second.text!r}")
    require(first.option == second.option, f"option {first.option} became {second.option}")
    _require_close(np.array(first.log_probabilities), np.array(second.log_probabilities))


def _require_close(first: NDArray[Any], second: NDArray[Any]) -> None:
    require(first.shape == second.shape, f"shapes {first.shape} and {second.shape}")
    worst = float(np.abs(first - second).max()) if first.size else 0.0
    require(worst <= TOLERANCE, f"the largest difference is {worst:.3g}")


def _require_ascending(memory: Memory) -> None:
    for layer in range(memory.layers):
        for positions in memory.kept(layer):
            ascending = bool((positions[1:] > positions[:-1]).all())
            require(ascending, f"kept positions of layer {layer} are not ascending")
