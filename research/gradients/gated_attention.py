"""Attention with a gate for every token, whose gradient is the cost of evicting the token.

A prompt runs in one call. Inside each layer it is processed in blocks of the update interval, as
the memory does, and attention goes through gates, one for each head and token: 1 is a kept token, 0
an evicted one. Attention is observed as the memory observes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from namm_mm.memory.swapping import swapped_attention
from namm_mm.namm.spectrogram import Spectrogram, SpectrogramState

ATTENTION = "namm_gated_attention"


class GatedAttention(ABC):
    """Processes the blocks of each layer of one prompt.

    Parameters
    ----------
    spectrogram
        Observes the attention.
    interval
        Tokens between two updates.
    """

    def __init__(self, spectrogram: Spectrogram, interval: int) -> None:
        spectrogram.check_interval(interval)
        self.spectrogram, self.interval = spectrogram, interval

    @abstractmethod
    def begin(self, heads: int, tokens: int) -> None:
        """Begin a layer with so many key heads, on a prompt of so many tokens."""

    @abstractmethod
    def block(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> tuple[Tensor, Tensor]:
        """Return the attention of the newest tokens to all tokens so far, through the gates.

        Parameters
        ----------
        query
            (kv_head, query_group, token, dim).
        key, value
            (kv_head, slot, dim), with the block's own tokens at the end.

        Returns
        -------
        tuple of Tensor
            (kv_head, query_group, token, dim), and the weights (kv_head, query_group, token, slot).
        """

    @abstractmethod
    def update(self, spectrum: Tensor) -> None:
        """Evict after a block that is not the last one.

        `spectrum` is (kv_head, slot, bins): the attention that tokens received, without gradient.
        """

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Return the attention of one layer over a whole prompt.

        Parameters
        ----------
        query
            (1, query_head, token, dim), rotary embedding applied.
        key, value
            (1, kv_head, token, dim).

        Returns
        -------
        Tensor
            (1, query_head, token, dim).
        """
        heads, tokens, dim = key.shape[1:]
        grouped = query[0].view(heads, -1, tokens, dim)
        state = self.spectrogram.initial(1, heads, 0, key.device)
        out = []
        self.begin(heads, tokens)
        for start in range(0, tokens, self.interval):
            stop = min(start + self.interval, tokens)
            block, weights = self.block(
                grouped[:, :, start:stop], key[0, :, :stop], value[0, :, :stop], scaling
            )
            out.append(block)
            if stop < tokens:
                state = self._observe(state, weights)
                self.update(state.ema[0])
        return torch.cat(out, dim=2).flatten(0, 1)[None]

    def _observe(self, state: SpectrogramState, weights: Tensor) -> SpectrogramState:
        with torch.no_grad():
            missing = (0, 0, 0, weights.shape[-1] - state.ema.shape[2])
            padded = SpectrogramState(*(functional.pad(part, missing) for part in state))
            return self.spectrogram.advance(padded, weights.detach().mean(1)[None])


@contextmanager
def gated(model: nn.Module, attention: GatedAttention) -> Iterator[None]:
    """Let `model` attend through gates inside the block; a call has one prompt and no cache."""

    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        factor = query.shape[-1] ** -0.5 if scaling is None else scaling
        return attention.attend(query, key, value, factor).transpose(1, 2), None

    def no_mask(**kwargs: Any) -> None:
        return None  # causality is made block by block

    whole: Any = model.config
    config = whole.get_text_config(decoder=True)
    with swapped_attention(config, ATTENTION, attend, no_mask):
        yield
