"""A small Decision Transformer with its control.json."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import DecisionTransformerConfig, DecisionTransformerModel

from namm_mm.adapters.control.facts import CONTROL_FILE

STATE, ACTION, SCALE, TARGET = 5, 2, 100.0, 30.0


def save_model(folder: Path, *, max_ep_len: int = 40, window: int = 4) -> Path:
    """Write a small model whose attention is far from uniform, with its control.json."""
    torch.manual_seed(3)
    config = DecisionTransformerConfig(
        state_dim=STATE,
        act_dim=ACTION,
        hidden_size=16,
        n_layer=2,
        n_head=2,
        n_positions=1,
        max_ep_len=max_ep_len,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    DecisionTransformerModel(config).save_pretrained(folder)
    control = {
        "state_mean": [0.1 * i for i in range(STATE)],
        "state_std": [1.0 + 0.2 * i for i in range(STATE)],
        "scale": SCALE,
        "window": window,
    }
    (folder / CONTROL_FILE).write_text(json.dumps(control))
    return folder
