"""What Whisper's encoder gives the projector for a sound."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

MARGIN = 8000
"""Samples of silence after a sound, more than the convolutions see of it."""


def hear(tower: Any, extractor: Any, samples: Any) -> Tensor:
    """Return what the projector is given for a sound of one window: (token, width).

    Equal to the class, at a fraction of the work: it encodes the padding to a whole window too,
    which its mask then hides. Here the padding is :data:`MARGIN` samples.

    Parameters
    ----------
    tower, extractor
        Encoder and feature extractor of the model.
    samples
        (sample,) numbers at the extractor's rate.
    """
    made = extractor(
        samples,
        sampling_rate=extractor.sampling_rate,
        return_tensors="pt",
        return_attention_mask=True,
        padding="max_length",
        max_length=min(len(samples) + MARGIN, extractor.n_samples),
    )
    frames = (int(made["attention_mask"].sum()) - 1) // 2 + 1
    gelu = nn.functional.gelu
    with torch.no_grad():
        weight = tower.conv1.weight
        hidden = gelu(tower.conv1(made["input_features"].to(weight.dtype)))
        hidden = gelu(tower.conv2(hidden)).permute(0, 2, 1)[:, :frames]
        hidden = hidden + tower.embed_positions.weight[: hidden.shape[1]]
        for layer in tower.layers:
            hidden = layer(hidden, None)
        pooled: Tensor = tower.avg_pooler(hidden.permute(0, 2, 1)).permute(0, 2, 1)
        return tower.layer_norm(pooled)[0]  # type: ignore[no-any-return]
