"""The whole memory against runs of the official implementation, through generate()."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from namm_mm.memory import attach
from namm_mm.namm import Namm
from namm_mm.policies import Policy, Threshold, create

pytestmark = pytest.mark.numeric

GOLDEN = Path(__file__).parent / "golden" / "golden_llama.npz"
INTERVAL = 32
# run -> hard limit, tokens generated, updates
RUNS = {"full": (None, 14, 5), "evict": (None, 14, 5), "cap": (24, 8, 15)}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray[Any, Any]]:
    with np.load(GOLDEN) as data:
        return dict(data)


@pytest.fixture(scope="module")
def model(golden: dict[str, np.ndarray[Any, Any]]) -> Any:
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        rms_norm_eps=1e-6,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0 * 7 ** (8 / 6)},
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    model: Any = LlamaForCausalLM(config)
    model.eval()
    weights = {
        key[2:]: torch.from_numpy(value) for key, value in golden.items() if key.startswith("w.")
    }
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    assert not [name for name in missing if "rotary" not in name], missing
    return model


def policy(golden: dict[str, np.ndarray[Any, Any]], run: str) -> Policy:
    parameters = torch.from_numpy(golden["params"]).float()
    norm = "norm.token_embedding_0_output_"
    network = Namm(
        parameters=torch.zeros_like(parameters) if run == "full" else parameters,
        mean=torch.from_numpy(golden[norm + "mean"]).flatten(),
        variance=torch.from_numpy(golden[norm + "var"]).flatten(),
        gamma=0.99,
        interval=INTERVAL,
    )
    return create("namm", checkpoint=network, budget=Threshold(limit=RUNS[run][0]), state="float32")


@pytest.mark.parametrize("run", sorted(RUNS))
def test_generation_under_eviction_is_the_official_one(
    golden: dict[str, np.ndarray[Any, Any]], model: Any, run: str
) -> None:
    """Same tokens, logits, kept indices and final positions, in one prefill call and generation."""
    new = RUNS[run][1]
    tokens = torch.from_numpy(golden[f"{run}.tokens"]).long().reshape(1, -1)
    prompt = tokens[:, :-new]
    with attach(model, policy(golden, run), interval=INTERVAL) as memory:
        out = model.generate(
            prompt,
            max_new_tokens=new,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    assert out.sequences.tolist() == tokens.tolist()
    logits = torch.cat(out.logits)
    expected = torch.from_numpy(golden[f"{run}.logits"]).reshape(logits.shape)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    trace = memory.trace()
    updates = {int(k.split(".u")[1].split(".")[0]) for k in golden if k.startswith(f"{run}.u")}
    assert len(trace.sizes) == RUNS[run][2]
    assert not updates or len(updates) == RUNS[run][2]
    for update in sorted(updates):
        for layer in range(2):
            kept = golden[f"{run}.u{update}.l{layer}.retained_idx"]
            assert trace.at(update, layer) == (kept.shape[-1],) * 2
    for layer in range(2):
        final = golden[f"{run}.final_pos.l{layer}"].reshape(2, -1)
        for head, positions in enumerate(memory.kept(layer)):
            count = final.shape[1]
            assert positions[:count].tolist() == final[head].tolist()
