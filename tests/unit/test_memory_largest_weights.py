"""The largest weight of each token, also where a layer looks back no further than its window."""

from __future__ import annotations

import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from namm_mm.memory.repetition import largest_weights


def test_weights_stand_at_their_tokens_in_layers_with_and_without_a_window() -> None:
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention"],
    )
    model = Gemma3ForCausalLM(config)
    model.train(False)
    tokens = torch.randint(0, 64, (1, 50))
    found = largest_weights(model, tokens, 5)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        weights = model(tokens, output_attentions=True).attentions
    for layer, dense in enumerate(weights):
        expected = dense[0, :, -5:].unflatten(0, (2, -1)).amax((1, 2))
        torch.testing.assert_close(found[layer], expected, atol=1e-6, rtol=1e-4)
    assert not found[0][:, :30].any()  # outside the window
