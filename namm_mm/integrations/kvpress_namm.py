"""A NAMM as a press of kvpress.

::

    with namm_press("namm.safetensors")(model):
        model.generate(**inputs)

kvpress asks for a transformers below 5.3, where this package's memory does not run. A NAMM runs in
its environment after ``pip install --no-deps namm-mm``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from namm_mm.errors import RunError, message
from namm_mm.namm import Namm
from namm_mm.policies.namm import NammPolicy


def namm_press(
    checkpoint: Namm | str | Path = "general", compression_ratio: float | None = None
) -> Any:
    """Return a press of kvpress that scores with a NAMM.

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
    press = _press_class()(compression_ratio=compression_ratio or 0.0)
    press.policy = NammPolicy(checkpoint)
    press.by_threshold = compression_ratio is None
    return press


@cache
def _press_class() -> Any:
    """Return the class of the press; kvpress is imported now."""
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

    class NammPress(ScorerPress):  # type: ignore[misc]
        """A NAMM as a press: `policy` scores; `by_threshold` keeps what scores 0 or more."""

        policy: NammPolicy
        by_threshold: bool

        def score(
            self,
            module: Any,
            hidden_states: Tensor,
            keys: Tensor,
            values: Tensor,
            attentions: Tensor | None,
            kwargs: Any,
        ) -> Tensor:
            """Return a score for each key: (row, kv_head, token)."""
            queries = _queries(module, hidden_states, kwargs["position_embeddings"])
            return namm_scores(self.policy, queries, keys, float(module.scaling))

        def compress(self, *given: Any) -> tuple[Tensor, Tensor]:
            """Return the keys and values that stay; takes what :meth:`score` takes."""
            if not self.by_threshold:
                kept: tuple[Tensor, Tensor] = super().compress(*given)
                return kept
            _, _, keys, values, *_ = given
            index = kept_by_threshold(self.score(*given))[..., None]
            index = index.expand(-1, -1, -1, keys.shape[-1])
            return keys.gather(2, index).contiguous(), values.gather(2, index).contiguous()

    return NammPress


def kept_by_threshold(scores: Tensor) -> Tensor:
    """Return the positions (row, kv_head, kept) of the official rule, ascending int64.

    Every head keeps as many as the one with most scores at or above 0, and the newest token.
    """
    scores = scores.clone()
    scores[..., -1] = torch.inf
    count = int((scores >= 0).sum(-1).max())
    return scores.topk(count, dim=-1).indices.sort(dim=-1).values


def namm_scores(policy: NammPolicy, queries: Tensor, keys: Tensor, scaling: float) -> Tensor:
    """Return scores (row, kv_head, slot) of a prompt's keys, from the attention that they received.

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

    queries: Tensor = get_prerope_query_states(module, hidden)
    cos, sin = (part.unsqueeze(1) for part in rotary)
    turned: Tensor = rotate_half(queries)  # type: ignore[no-untyped-call]
    return queries * cos + turned * sin
