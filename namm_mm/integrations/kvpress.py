"""kvpress both ways: its scorer presses as policies, and a NAMM as one of its presses.

kvpress (NVIDIA, Apache-2.0) prunes a cache once, after the prompt. Its ``ScorerPress`` gives every
cached key a score, as a policy does, from the layer's module, inputs, keys and values::

    from kvpress import ExpectedAttentionPress
    with attach_press(model, ExpectedAttentionPress(), budget=0.5) as memory:
        model.generate(**inputs)

    with namm_press("namm.safetensors")(model):          # kvpress's own way
        model.generate(**inputs)

The two directions live in different environments. kvpress asks for a transformers below 5.3 and
this package's memory for 5.17 or later: presses run here with kvpress installed by
``pip install --no-deps kvpress``, and a NAMM runs there with ``pip install --no-deps namm-mm``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.errors import RunError, UnsupportedError, UsageError, message
from namm_mm.policies.base import QUARTER, AnyBudget, LayerView, Policy

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from namm_mm.memory import Memory
    from namm_mm.namm import Namm

HISTORY = 512
"""Inputs of a layer that are kept from earlier calls, for presses that look at the last queries."""


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

    press: Any
    inputs: dict[int, _Inputs] = field(default_factory=dict, repr=False, compare=False)

    def check(self) -> None:
        """Raise `UsageError` for what is no press that scores."""
        if not hasattr(self.press, "score"):
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
    press: Any,
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
    from namm_mm.memory import attach

    decoder: Any = getattr(model, "model", None)
    decoder = getattr(decoder, "language_model", decoder)
    if not hasattr(decoder, "layers") or not hasattr(decoder, "rotary_emb"):
        raise UnsupportedError(
            message(
                "kvpress does not know this model",
                given=type(model).__name__,
                expected="a decoder with model.layers and model.rotary_emb, such as Llama",
            )
        )
    policy = PressPolicy(press, budget=budget)
    if hasattr(press, "post_init_from_model"):
        press.post_init_from_model(model)
    with ExitStack() as stack:
        for layer in decoder.layers:
            module = layer.self_attn
            if not hasattr(module, "rotary_emb"):  # kvpress lends it to each layer, too
                module.rotary_emb = decoder.rotary_emb
                stack.callback(delattr, module, "rotary_emb")
            handle = module.register_forward_pre_hook(_watcher(policy), with_kwargs=True)
            stack.callback(handle.remove)
        yield stack.enter_context(attach(model, policy, interval=interval, protocol=protocol))


def _watcher(policy: PressPolicy) -> Any:
    """A hook that notes what an attention layer is given."""
    import torch

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


def namm_press(
    checkpoint: Namm | str | Path = "general", compression_ratio: float | None = None
) -> Any:
    """Make a press of kvpress that scores with a NAMM.

    Parameters
    ----------
    checkpoint
        A loaded network, the name of a bundled one, or a file.
    compression_ratio
        Part of the tokens to drop, as for other presses; None keeps what scores 0 or more, the
        NAMM's own rule.

    Returns
    -------
    ScorerPress
        With ``score`` and ``compress``; it prunes once, after the prompt.

    Raises
    ------
    RunError
        kvpress is not installed.
    """
    try:
        from kvpress.presses.scorer_press import ScorerPress
    except ImportError as error:
        raise RunError(
            message(
                f"kvpress cannot be imported ({error})",
                given="namm_press",
                expected="an environment with kvpress",
                then="`pip install kvpress` in an environment of its own, then "
                "`pip install --no-deps namm-mm`.",
            )
        ) from error
    from namm_mm.policies.namm import NammPolicy

    policy = NammPolicy(checkpoint)

    class NammPress(ScorerPress):  # type: ignore[misc]
        """A NAMM as a press."""

        def score(
            self,
            module: Any,
            hidden_states: Tensor,
            keys: Tensor,
            values: Tensor,
            attentions: Tensor | None,
            kwargs: Any,
        ) -> Tensor:
            queries = _queries(module, hidden_states, kwargs["position_embeddings"])
            return namm_scores(policy, queries, keys, float(module.scaling))

        def compress(
            self,
            module: Any,
            hidden_states: Tensor,
            keys: Tensor,
            values: Tensor,
            attentions: Tensor | None,
            kwargs: Any,
        ) -> tuple[Tensor, Tensor]:
            if compression_ratio is not None:
                kept: tuple[Tensor, Tensor] = super().compress(
                    module, hidden_states, keys, values, attentions, kwargs
                )
                return kept
            scores = self.score(module, hidden_states, keys, values, attentions, kwargs)
            index = kept_by_threshold(scores)[..., None].expand(-1, -1, -1, keys.shape[-1])
            return keys.gather(2, index).contiguous(), values.gather(2, index).contiguous()

    return NammPress(compression_ratio=compression_ratio or 0.0)


def kept_by_threshold(scores: Tensor) -> Tensor:
    """Positions (row, kv_head, kept) of the official rule, ascending.

    Every head keeps as many as the one with most scores at or above 0, and the newest token.
    """
    import torch

    scores = scores.clone()
    scores[..., -1] = torch.inf
    count = int((scores >= 0).sum(-1).max())
    return scores.topk(count, dim=-1).indices.sort(dim=-1).values


def namm_scores(policy: Any, queries: Tensor, keys: Tensor, scaling: float) -> Tensor:
    """Scores (row, kv_head, slot) of a prompt's keys, from the attention that they received.

    Parameters
    ----------
    policy
        A :class:`~namm_mm.policies.namm.NammPolicy`.
    queries, keys
        (row, query_head, token, head_dim) and (row, kv_head, token, head_dim), rotated, of the
        whole prompt.
    scaling
        What products are multiplied with before the softmax.
    """
    import torch

    spectrogram = policy.spectrogram
    rows, heads, count = keys.shape[:3]
    group = queries.shape[1] // heads
    state = spectrogram.initial(rows, heads, count, keys.device)
    positions = torch.arange(count, device=keys.device)
    hop = spectrogram.hop
    for start in range(0, count - count % hop, hop):
        part = queries[:, :, start : start + hop].reshape(rows, heads, group, hop, -1).float()
        product = part @ keys.float()[:, :, None].transpose(-1, -2) * scaling
        late = positions[None, :] > positions[start : start + hop, None]
        weights = product.masked_fill(late, -torch.inf).softmax(-1).mean(2)
        state = spectrogram.advance(state, weights)
    age = ((count - 1) - positions).expand(rows, heads, -1)
    lengths = torch.full((rows, heads), count, device=keys.device)
    network = policy.network.to(keys.device)
    scores: Tensor = network.score(state.ema, age, lengths)
    return scores


def _queries(module: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    from kvpress.utils import get_prerope_query_states
    from transformers.models.llama.modeling_llama import rotate_half

    queries: torch.Tensor = get_prerope_query_states(module, hidden)
    cos, sin = (part.unsqueeze(1) for part in rotary)
    turned: Tensor = rotate_half(queries)  # type: ignore[no-untyped-call]
    return queries * cos + turned * sin
