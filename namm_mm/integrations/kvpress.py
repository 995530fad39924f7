"""Scorer presses of kvpress as policies.

kvpress (NVIDIA, Apache-2.0) prunes a cache once, after the prompt. Its ``ScorerPress`` gives every
cached key a score, as a policy does, from the layer's module, inputs, keys and values::

    from kvpress import ExpectedAttentionPress
    with attach_press(model, ExpectedAttentionPress(), budget=0.5) as memory:
        model.generate(**inputs)

kvpress asks for a transformers below 5.3 and this package's memory for 5.17 or later: presses run
here with kvpress installed by ``pip install --no-deps kvpress``. The other direction, a NAMM as a
press, is :mod:`namm_mm.integrations.kvpress_namm`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from namm_mm.errors import UnsupportedError, UsageError, message
from namm_mm.memory import Memory, attach
from namm_mm.policies.base import QUARTER, AnyBudget, LayerView, Policy

HISTORY = 512
"""Inputs of a layer that are kept from earlier calls, for presses that look at the last queries."""


@runtime_checkable
class ScoringPress(Protocol):
    """What a ``ScorerPress`` of kvpress has."""

    def score(
        self, module: Any, hidden_states: Any, keys: Any, values: Any, attentions: Any, kwargs: Any
    ) -> Tensor:
        """Return a score for each key: (row, kv_head, token)."""
        ...


@runtime_checkable
class _FittedPress(Protocol):
    """A press that takes something from the model before it is used."""

    def post_init_from_model(self, model: nn.Module) -> None: ...


@runtime_checkable
class _Decoder(Protocol):
    """What kvpress knows of a model."""

    layers: Any
    rotary_emb: nn.Module


@dataclass
class _Inputs:
    """What one attention layer was given: of the last calls, as far as `HISTORY`."""

    module: Any
    hidden: Tensor
    cos: Tensor
    sin: Tensor
    end: int

    def until(self, seen: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Inputs and rotary factors of the tokens up to `seen`."""
        cut = self.hidden.shape[1] - (self.end - seen)
        return self.hidden[:, :cut], (self.cos[:, :cut], self.sin[:, :cut])


@dataclass(frozen=True)
class PressPolicy(Policy):
    """A scorer press of kvpress as a policy; :func:`attach_press` gives it what it looks at.

    Attributes
    ----------
    press
        A ``ScorerPress``; its compression ratio is not used.
    """

    press: ScoringPress
    inputs: dict[int, _Inputs] = field(default_factory=dict, repr=False, compare=False)

    def check(self) -> None:
        """Raise `UsageError` for what is no press that scores."""
        if not isinstance(self.press, ScoringPress):
            raise UsageError(
                message(
                    "not a press that scores",
                    given=type(self.press).__name__,
                    expected="a ScorerPress of kvpress, such as SnapKVPress()",
                )
            )

    @property
    def name(self) -> str:
        """The press by its class."""
        return f"kvpress:{type(self.press).__name__}"

    def score(self, view: LayerView) -> Tensor:
        """Ask the press, with the inputs of the layer up to this eviction."""
        given = self.inputs.get(view.layer)
        if given is None:
            raise UsageError(
                f"{self.name} has seen no input of layer {view.layer}: use attach_press, which "
                "shows it the model's layers."
            )
        if given.hidden.shape[0] != view.keys.shape[0] or not bool(view.filled.all()):
            raise UnsupportedError(
                f"{self.name} scores whole batches of equal length: pad nothing, and keep "
                "storage='shared'."
            )
        hidden, rotary = given.until(view.seen)
        scores: Tensor = self.press.score(
            given.module, hidden, view.keys, view.values, None, {"position_embeddings": rotary}
        )
        return scores.float()


@contextmanager
def attach_press(
    model: nn.Module,
    press: ScoringPress,
    *,
    budget: AnyBudget = QUARTER,
    protocol: str = "prune_after_prefill",
    interval: int = 512,
) -> Iterator[Memory]:
    """Give `model` a memory that a press runs.

    Parameters
    ----------
    model
        A Llama-like decoder of transformers, as kvpress knows them: attention modules in
        ``model.model.layers[i].self_attn``.
    press
        Any ``ScorerPress`` that needs no attention weights.
    budget
        How much is kept.
    protocol, interval
        As for :func:`namm_mm.memory.attach`. kvpress itself prunes after the prompt.

    Raises
    ------
    UnsupportedError
        The model is laid out otherwise.
    """
    decoder = _decoder(model)
    policy = PressPolicy(press, budget=budget)
    if isinstance(press, _FittedPress):
        press.post_init_from_model(model)
    with ExitStack() as stack:
        for layer in decoder.layers:
            module = layer.self_attn
            if "rotary_emb" not in dict(module.named_children()):  # kvpress lends it, too
                module.rotary_emb = decoder.rotary_emb
                stack.callback(delattr, module, "rotary_emb")
            handle = module.register_forward_pre_hook(_watcher(policy), with_kwargs=True)
            stack.callback(handle.remove)
        yield stack.enter_context(attach(model, policy, interval=interval, protocol=protocol))


def _decoder(model: nn.Module) -> _Decoder:
    """Return the decoder of a language model, or of one that also sees."""
    found = dict(model.named_modules())
    for name in ("model.language_model", "model"):
        module = found.get(name)
        if isinstance(module, _Decoder):
            return module
    raise UnsupportedError(
        message(
            "kvpress does not know this model",
            given=type(model).__name__,
            expected="a decoder with model.layers and model.rotary_emb, such as Llama",
        )
    )


def _watcher(policy: PressPolicy) -> Any:
    """Return a hook that notes what an attention layer is given."""

    def watch(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        cos, sin = kwargs["position_embeddings"]
        cos, sin = (part.expand(hidden.shape[0], -1, -1) for part in (cos, sin))
        start = int(kwargs["past_key_values"].get_seq_length(module.layer_idx))
        end = start + hidden.shape[1]
        earlier = policy.inputs.get(module.layer_idx)
        if start and earlier is not None and earlier.end == start:
            hidden = torch.cat([earlier.hidden[:, -HISTORY:], hidden], dim=1)
            cos = torch.cat([earlier.cos[:, -HISTORY:], cos], dim=1)
            sin = torch.cat([earlier.sin[:, -HISTORY:], sin], dim=1)
        policy.inputs[module.layer_idx] = _Inputs(module, hidden, cos, sin, end)

    return watch
